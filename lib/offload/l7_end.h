/*
 * One end of an HTTP connection: an application's slot in a lane, whose peer we are, a kernel TCP socket, a tube to a stream of the wire, or a stream of
 * an HTTP/2 connection, whose messages come and go in HTTP/1's form (codec/http2.h). Bytes are read into private memory, looked at there, and written from there (security.md, rule 10). Control thread.
 */
#ifndef FLAT_OFFLOAD_L7_END_H
#define FLAT_OFFLOAD_L7_END_H

#include <stdbool.h>
#include <sys/queue.h>

#include "codec/http2.h"
#include "offload/loop.h"
#include "offload/tube.h"
#include "vq/vq.h"

/* A head of the largest size, and as much of a body beside it. */
#define FLAT_L7_IN_BYTES ((size_t)96 * 1024)
/* A head of the largest size with what a route adds. */
#define FLAT_L7_OUT_BYTES ((size_t)80 * 1024)

struct flat_rest;
struct flat_tls;

struct flat_l7_end {
	struct flat_source
	    source; /* our end of the anchor, or the socket; the fd is the connection's */
	struct flat_lane lane; /* copy of the mapping's geometry; not TCP */
	struct flat_vq vq;     /* likewise */
	uint32_t slot;
	struct flat_rest *rest;		  /* of its lane; NULL: it is woken by its bell alone */
	struct flat_http2_stream *stream; /* NULL: a lane or TCP */
	enum flat_side side;		  /* of the application */
	bool open;
	bool is_sink;		/* its bytes were all there at first; what it is sent, it drops */
	bool is_tcp;		/* or a tube */
	struct flat_tube *tube; /* borrowed; NULL: none */
	struct flat_tls *tls;	/* over TCP: a session, borrowed; NULL: in the clear */
	bool gone;		/* hung up, its words completed; TCP: nothing more to do with it */
	bool eof;		/* its FIN was read */
	bool reset;		/* its RST, or it broke the rules */
	bool broken;		/* it broke the rules: its anchor was shut, its slot is burnt */
	bool deaf;		/* it takes nothing any more: what we send is dropped */
	bool fin_due;		/* FIN follows what is in `out` */
	bool cut;		/* of a stream: that FIN is a reset */
	bool fin_sent;		/* it was told FIN or RST */
	bool full;		/* it had no room for what we have */
	bool bare;		/* content alone is put: its reader does not know chunks */
	uint8_t *in;		/* FLAT_L7_IN_BYTES, or NULL while there is nothing */
	size_t at, len;		/* bytes [at, len) are not used up */
	uint8_t *out;		/* FLAT_L7_OUT_BYTES, or NULL */
	size_t out_at, out_len;
	uint64_t bytes_in, bytes_out;
	TAILQ_ENTRY(flat_l7_end) news_link;
	bool news; /* it was sent bytes of which it is not told yet */
};

/** Makes an end of a slot; `fd`, our end of its anchor, is borrowed. */
void flat_l7_end_lane(struct flat_l7_end *e, const struct flat_lane *lane, uint32_t slot,
		      enum flat_side side, int fd);
/** Makes an end of a TCP socket, and of a TLS session over it (NULL: none), both borrowed. */
void flat_l7_end_tcp(struct flat_l7_end *e, int fd, struct flat_tls *tls);
/** Makes an end of a tube's near side, borrowed; its function is called from now on. */
void flat_l7_end_tube(struct flat_l7_end *e, struct flat_tube *tube, flat_source_fn *fn);
/** Makes an end of a stream, which it owns. */
void flat_l7_end_stream(struct flat_l7_end *e, struct flat_http2_stream *stream,
			enum flat_side side);
/** Makes an end that has `len` bytes to give (FLAT_L7_IN_BYTES at most), and takes whatever comes. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_end_sink(struct flat_l7_end *e, const void *bytes, size_t len);
/** Frees the buffers, releases the stream, lets go of the tube. The source is the caller's to stop. */
void flat_l7_end_fini(struct flat_l7_end *e);

/** Makes both buffers; 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_end_buffers(struct flat_l7_end *e);
/** Frees the buffers that were kept for the next. */
void flat_l7_end_spare_fini(void);
/** Gives back buffers that hold nothing. */
void flat_l7_end_rest(struct flat_l7_end *e);

/** Reads what is there and fits, at most `max` bytes. Returns the count; sets eof, reset. Never blocks. */
size_t flat_l7_end_read(struct flat_l7_end *e, size_t max);
/** Nothing more can be read before something is packed: a stream gives no less than a chunk with its line. */
bool flat_l7_end_is_full(const struct flat_l7_end *e);
/** Moves unused bytes so that they begin at `to`, which is not behind them. */
void flat_l7_end_pack(struct flat_l7_end *e, size_t to);

/** Bytes that flat_l7_end_put() takes now. */
size_t flat_l7_end_room(struct flat_l7_end *e);
/** Queues `len` bytes, at most the room; large pieces go out at once. */
void flat_l7_end_put(struct flat_l7_end *e, const void *bytes, size_t len);
/**
 * Sends a head of `len` bytes at `text` that was read already, without writing it as text first. False: `e` is no stream, or has
 * something queued; then it is to be put.
 */
FLAT_MUST_CHECK bool flat_l7_end_head(struct flat_l7_end *e, const struct flat_http_head *head,
				      const void *text, size_t len);
/** Sends what is queued, then FIN if that is due. Returns the bytes sent, 1 for a FIN alone. */
size_t flat_l7_end_flush(struct flat_l7_end *e);
/**
 * Tells applications of the bytes that were sent to them since the last call: after every few connections, so that one that
 * sleeps finds some work and the next is on its way. Before the thread sleeps, and after each turn.
 */
void flat_l7_ends_tell(void);
/** Tells it at once that its peer is gone, and that nothing is read any more. */
void flat_l7_end_abort(struct flat_l7_end *e);
/** Tells it FIN and that nothing is read any more: an idle server. */
void flat_l7_end_leave(struct flat_l7_end *e);

/** Bytes sent that the application has not taken; 0 where it cannot be told. */
size_t flat_l7_end_untaken(struct flat_l7_end *e);

/** Poll events. */
void flat_l7_end_event(struct flat_l7_end *e, int events);
/** Asks to be rung. The caller looks once more after it. */
void flat_l7_end_arm(struct flat_l7_end *e);
void flat_l7_end_disarm(struct flat_l7_end *e);

#endif
