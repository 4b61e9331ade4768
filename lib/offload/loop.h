/* The offload half's event loop: io_uring with multishot polls and accepts, or epoll where that is forbidden. One thread each. */
#ifndef FLAT_OFFLOAD_LOOP_H
#define FLAT_OFFLOAD_LOOP_H

#include <liburing.h>
#include <stdbool.h>

#include "base/base.h"

struct flat_loop_epoll;
struct flat_source;

/**
 * Called with poll events (POLLIN, ...); for an accept with the new descriptor or a negative errno; for a connect
 * with 0 or a negative errno.
 */
typedef void flat_source_fn(struct flat_source *source, int result);

enum flat_source_op {
	FLAT_SOURCE_POLL,
	FLAT_SOURCE_ACCEPT,
	FLAT_SOURCE_CONNECT, /* once; the source is not watched any more when its function is called */
	FLAT_SOURCE_ONCE,    /* likewise: a poll */
};

/** Something watched. Embedded in its owner, zeroed before first use. Owner: the loop's thread. */
struct flat_source {
	flat_source_fn *fn;
	int fd;
	uint32_t index; /* in flat_loop.slots; 0: not watched */
	uint32_t events;
	enum flat_source_op op;
	bool ending;  /* flat_loop_accept_end() */
	bool resting; /* an accept that failed for want of descriptors or memory: a timer runs */
};

struct flat_loop_slot {
	struct flat_source *source;
	uint32_t generation;
	uint32_t next_free;
};

/* Descriptors closed in one go: while a message with sockets is on its way somewhere in the system, each closed AF_UNIX
 * socket makes the kernel look for cycles, in a thread that it wakes for it (net/unix/garbage.c). */
#define FLAT_LOOP_LATE 64

struct flat_loop {
	struct io_uring ring;
	struct flat_loop_epoll *epoll; /* instead of the ring; NULL: the ring is there */
	int late[FLAT_LOOP_LATE];
	uint32_t n_late;
	struct flat_loop_slot *slots;
	uint32_t n_slots;
	uint32_t free_head;
	uint32_t n_ending; /* sources that accept no more, and have not told everything */
	bool short_told;   /* that accepts fail; until one succeeds */
};

/** 0 or a negative errno. Where io_uring is forbidden (-EPERM, -EACCES, -ENOSYS) the loop stands on epoll. */
FLAT_MUST_CHECK int flat_loop_init(struct flat_loop *loop);
/** Frees all. Safe on a zeroed loop. */
void flat_loop_fini(struct flat_loop *loop);

/** Watches fd for `events`; edges: the handler reads until EAGAIN. 0 or a negative errno, -ENOMEM mostly. */
FLAT_MUST_CHECK int flat_loop_poll(struct flat_loop *loop, struct flat_source *source, int fd,
				   uint32_t events, flat_source_fn *fn);
/** Watches for `events` until they happen: the function is called once, and may watch again. 0 or a negative errno, -ENOMEM mostly. */
FLAT_MUST_CHECK int flat_loop_poll_once(struct flat_loop *loop, struct flat_source *source, int fd,
					uint32_t events, flat_source_fn *fn);
/* An accept that found no descriptor, or no memory, is tried again after so long, ms: who waits in the backlog is there still. */
#define FLAT_LOOP_REST_MS 100

/**
 * Accepts on a listening socket for ever, never blocking whatever the socket's flags say. Where descriptors or memory are used up
 * the log says so once, the function is called with the error, and accepting rests for FLAT_LOOP_REST_MS. 0 or a negative errno, -ENOMEM mostly.
 */
FLAT_MUST_CHECK int flat_loop_accept(struct flat_loop *loop, struct flat_source *source, int fd,
				     flat_source_fn *fn);
/** Connects a socket without blocking. `addr` is borrowed until the function is called. 0 or a negative errno, -ENOMEM mostly. */
FLAT_MUST_CHECK int flat_loop_connect(struct flat_loop *loop, struct flat_source *source, int fd,
				      const struct sockaddr *addr, socklen_t len,
				      flat_source_fn *fn);
/**
 * Stops watching; no call after it. The fd stays the caller's, who may close it at once. Nothing where the source
 * is not watched.
 */
void flat_loop_del(struct flat_loop *loop, struct flat_source *source);

/**
 * Accepts no more: what was accepted already still comes, then a negative errno, and the source is watched no longer. The
 * descriptor is closed; somebody else may go on with the socket.
 */
void flat_loop_accept_end(struct flat_loop *loop, struct flat_source *source);

/** Stops watching and closes the descriptor, with the next turn's system call. fd becomes -1. */
void flat_loop_close(struct flat_loop *loop, struct flat_source *source);

/** The same, sometime before the loop sleeps: for descriptors whose end nobody waits for. */
void flat_loop_close_late(struct flat_loop *loop, struct flat_source *source);

/** Closes a descriptor that nobody watches with the next turn's system call. */
void flat_loop_close_fd(struct flat_loop *loop, int fd);

/** Handles what has happened; how many things. wait_ms: 0 not to wait, -1 without limit. */
uint32_t flat_loop_turn(struct flat_loop *loop, int wait_ms);

#endif
