/*
 * A forwarded connection's bytes: from one end, through private memory, out of the other (security.md, rule 10:
 * what a check would see is what goes on). An end is an application's slot in a lane, whose peer we are, a
 * kernel TCP socket, with a TLS session over it or without, or a tube to a stream of the wire. One worker owns a pipe from its start to its end (worker.h).
 */
#ifndef FLAT_OFFLOAD_PIPE_H
#define FLAT_OFFLOAD_PIPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/base.h"
#include "offload/loop.h"
#include "offload/tube.h"
#include "vq/vq.h"

struct flat_conn;
struct flat_worker;
struct flat_share;
struct flat_pipe;
struct flat_tls;

/* Bytes taken from one end at a stretch: the quantum of work (rule 11). */
#define FLAT_PIPE_CHUNK ((size_t)64 * 1024)

struct flat_pipe_end {
	struct flat_source
	    source; /* our end of the anchor, or the TCP socket; its fd is the connection's */
	struct flat_pipe *pipe;
	struct flat_lane lane;	/* copy of the mapping's geometry; not TCP */
	struct flat_vq vq;	/* not TCP: the application's peer */
	struct flat_rest *rest; /* of its lane; NULL: it is woken by its bell alone */
	uint32_t slot;
	enum flat_side side;	/* of the application */
	bool is_tcp;		/* or a tube */
	struct flat_tube *tube; /* borrowed; NULL: none */
	struct flat_tls *tls;	/* TCP: what its bytes go through; NULL: nothing. Borrowed */
	uint8_t *held; /* read from it, not yet taken by the other end; owned; NULL: nothing */
	size_t held_at, held_len;
	bool gone;     /* hung up, its words completed; TCP: nothing more to do with it */
	bool eof;      /* its FIN was read */
	bool reset;    /* its RST, or it broke the rules */
	bool broken;   /* it broke the rules: its anchor was shut, its slot is burnt */
	bool fin_sent; /* it was told FIN or RST */
	bool full;     /* it had no room for what the other end has */
	bool bulky;    /* TCP: the last read was large */
	bool hard;     /* it was told of a reset */
	bool deaf;     /* it was told that what it sends goes nowhere */
	bool untold;   /* a tube: what came went to the other end, which was not told of it */
	_Atomic uint64_t bytes; /* read from it; worker writes, anybody reads */
};

/** Owner: its worker between flat_worker_start() and the call of flat_workers.finished, else the control thread. */
struct flat_pipe {
	TAILQ_ENTRY(flat_pipe) hot_link;
	struct flat_pipe *next; /* in a queue between threads */
	struct flat_worker *worker;
	struct flat_share *share;
	struct flat_conn *conn; /* whose it is; the worker does not look into it */
	bool local;		/* the worker is the control thread */
	uint64_t conn_id;	/* for the log */
	uint64_t share_key;	/* whose turns it uses: the session's id; 0: plain clients */
	uint32_t weight;	/* of that session, 1 to 1000 */
	int64_t last_us;	/* hot: when it last moved bytes */
	uint64_t counted;	/* bytes of both ends in the worker's count */
	bool hot;
	bool finished;
	struct flat_pipe_end end[2]; /* by enum flat_side */
};

/** Makes end `i` an application's slot, at whose other side we are. `fd`: our end of its anchor, borrowed. */
void flat_pipe_lane(struct flat_pipe *p, int i, const struct flat_lane *lane, uint32_t slot,
		    int fd);
/** Lets it rest with others of its lane (rest.h), where the control thread is its worker; NULL: it rings. */
void flat_pipe_rest(struct flat_pipe *p, int i, struct flat_rest *rest);
/** Makes end `i` a kernel TCP socket, borrowed; `tls`: the session over it, borrowed too, its handshake done; NULL: none. */
void flat_pipe_tcp(struct flat_pipe *p, int i, int fd, struct flat_tls *tls);
/** Makes end `i` the near side of a tube, borrowed: the pipe's worker is the control thread. */
void flat_pipe_tube(struct flat_pipe *p, int i, struct flat_tube *tube);
/** `len` bytes were read from end `i` before the pipe starts: they go first. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_pipe_hold(struct flat_pipe *p, int i, const uint8_t *bytes, size_t len);
/** Frees it, with what it holds. NULL is allowed. */
void flat_pipe_free(struct flat_pipe *p);

/**
 * Moves up to about `max` bytes each way, using `scratch` (FLAT_PIPE_CHUNK bytes, private). Never blocks. Returns
 * the bytes moved, or 1 when only an end-of-stream moved; 0: nothing to do now.
 */
size_t flat_pipe_pump(struct flat_pipe *p, uint8_t *scratch, size_t max);

/**
 * Bytes that came at end `e`, where none wait: how many the other end, an application's slot, takes at once. It is told by
 * flat_pipe_event() or flat_pipe_pump(): of several such pieces once.
 */
size_t flat_pipe_deliver(struct flat_pipe_end *e, const uint8_t *bytes, size_t len);

/** Poll events at one of its ends. */
void flat_pipe_event(struct flat_pipe_end *e, int events);

/** Asks the applications to ring from now on. The caller pumps once more after it. */
void flat_pipe_arm(struct flat_pipe *p);
/** Will look by itself. */
void flat_pipe_disarm(struct flat_pipe *p);

/** Both ends are over: nothing will move any more. */
bool flat_pipe_over(const struct flat_pipe *p);

#endif
