/*
 * Who moves forwarded bytes: worker 0 is the control thread itself, others are threads with a loop of their own. A
 * pipe is handed to a worker through a queue without locks and comes back the same way when it is over; on
 * the byte path there is neither lock nor shared word but a count.
 */
#ifndef FLAT_OFFLOAD_WORKER_H
#define FLAT_OFFLOAD_WORKER_H

#include <pthread.h>

#include "base/clock.h"
#include "offload/pipe.h"

/* More threads than any machine has use for in moving bytes. */
#define FLAT_WORKERS_MAX 64

struct flat_workers;

/**
 * The turns of one session (or of all plain clients) at a worker. By deficit round robin: each round adds a
 * quantum in proportion to the weight; who has used more than it had waits. A round in which nobody moved
 * anything makes all free again, so that no turn is kept for those who do not want it.
 */
struct flat_share {
	TAILQ_ENTRY(flat_share) link;
	uint64_t key;
	uint32_t weight;
	uint32_t n_pipes;
	uint64_t round;	 /* when `deficit` was last made up */
	int64_t deficit; /* bytes it may move; negative: it waits */
};

/** Makes up for the rounds since and says whether the share has a turn. weight_max: of all shares there. */
bool flat_share_turn(struct flat_share *share, uint64_t round, uint32_t weight_max);

TAILQ_HEAD(flat_pipes, flat_pipe);

/** Owner: its thread, but for what is atomic and for `n_pipes`. */
struct flat_worker {
	struct flat_workers *all;
	struct flat_loop *loop;
	struct flat_loop own_loop; /* not of worker 0 */
	struct flat_source wake;   /* eventfd; -1: worker 0 needs none */
	_Atomic(struct flat_pipe *) inbox;
	struct flat_pipes hot;
	TAILQ_HEAD(, flat_share) shares;
	uint32_t n_shares;
	uint32_t n_tcp; /* pipes with a socket of the kernel */
	uint32_t weight_max;
	uint64_t round;
	int64_t
	    crowded_us; /* until then it sleeps at once: others want its processor; 0: they do not */
	bool taken;	/* the last yield went to somebody (FLAT_YIELD_TAKEN_US) */
	_Atomic uint64_t bytes; /* moved so far */
	uint32_t n_pipes;	/* control thread: given and not come back */
	_Atomic bool stop;
	bool started;
	pthread_t thread;
	uint8_t scratch[FLAT_PIPE_CHUNK];
};

/** Owner: the control thread. */
struct flat_workers {
	struct flat_worker *v;
	uint32_t n;
	_Atomic(struct flat_pipe *) done;
	struct flat_pipe *taken;      /* from `done`, not yet asked for */
	struct flat_source done_wake; /* eventfd on the control loop, where there are several */
};

/** Starts n - 1 threads beside the caller, whose loop is `loop`. 0 or a negative errno, with nothing left behind. */
FLAT_MUST_CHECK int flat_workers_open(struct flat_workers *w, uint32_t n, struct flat_loop *loop);
/** Stops the threads; pipes they had are the caller's again, in whatever state. */
void flat_workers_close(struct flat_workers *w);

/** Hands a pipe with both ends made to the worker that has the fewest; one with a tube to worker 0. Control thread. */
void flat_worker_start(struct flat_workers *w, struct flat_pipe *p);
/** The next pipe that is over (the caller's again), or NULL. Control thread. */
struct flat_pipe *flat_workers_finished(struct flat_workers *w);
/** Bytes moved by all. */
uint64_t flat_workers_bytes(const struct flat_workers *w);

/** One look at the hot pipes of worker 0. True while any is hot: the caller yields and comes back. */
bool flat_worker_turn(struct flat_worker *w);
/** Between two turns of a busy worker. Learns from it whether the processor is wanted by others. */
void flat_worker_yield(struct flat_worker *w);

#endif
