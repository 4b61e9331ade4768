/*
 * Two queues of bytes between a connection and its bridge (peers.h): what a socket pair would be, in flatd's own memory and
 * without system calls. Neither side is called while the other one writes or reads, but for its sink: what has happened is told
 * by flat_tubes_tell(). Control thread.
 */
#ifndef FLAT_OFFLOAD_TUBE_H
#define FLAT_OFFLOAD_TUBE_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/base.h"
#include "base/hold.h"
#include "offload/loop.h"

struct flat_tube;

enum flat_tube_side {
	FLAT_TUBE_NEAR, /* the connection */
	FLAT_TUBE_FAR,	/* the bridge */
};

/** Both sides open, both queues empty. NULL without memory. */
FLAT_MUST_CHECK struct flat_tube *flat_tube_new(void);
/** Both queues' memory is asked of `hold` (referenced) from here on: where it has none, bytes are refused with -ENOMEM. Once, while empty. */
void flat_tube_hold(struct flat_tube *t, struct flat_hold *hold);
/**
 * The side is done with it; the other one reads what is there, then the end, or after `hard` -ECONNRESET. Freed with the
 * second.
 */
void flat_tube_close(struct flat_tube *t, enum flat_tube_side side, bool hard);
/** Both sides see a reset from now on, whatever is under way. */
void flat_tube_cut(struct flat_tube *t);

/** Whose function is called with poll events when something has happened for the side (borrowed); NULL: nobody's. */
void flat_tube_watch(struct flat_tube *t, enum flat_tube_side side, struct flat_source *source);
/**
 * Who is asked to take at once what the other side sends while nothing waits here: how many of the bytes, 0: they wait. The
 * watcher is told in either case. It closes no side, and writes to no tube. Until the next flat_tube_watch().
 */
typedef size_t flat_tube_sink_fn(struct flat_source *watcher, const uint8_t *bytes, size_t len);
void flat_tube_sink(struct flat_tube *t, enum flat_tube_side side, flat_tube_sink_fn *fn);
/** Calls those for whom something has happened. True: there was one. */
bool flat_tubes_tell(void);
/** Frees the buffers that were kept for the next. */
void flat_tubes_spare_fini(void);

/** As flat_tube_send(), for bytes that are put into iov[0..1] (*n_iov of them) and told of by flat_tube_commit(). */
FLAT_MUST_CHECK ssize_t flat_tube_reserve(struct flat_tube *t, enum flat_tube_side side, size_t len,
					  struct iovec iov[2], int *n_iov);
/** The first `len` bytes of what was reserved are there. */
void flat_tube_commit(struct flat_tube *t, enum flat_tube_side side, size_t len);
/** Takes up to `len` bytes: their count, -EAGAIN: full, -EPIPE: nobody reads any more, -ENOMEM. */
FLAT_MUST_CHECK ssize_t flat_tube_send(struct flat_tube *t, enum flat_tube_side side,
				       const void *bytes, size_t len);
/** Up to `max` bytes: their count, 0: the end, -EAGAIN: none now, -ECONNRESET. */
FLAT_MUST_CHECK ssize_t flat_tube_recv(struct flat_tube *t, enum flat_tube_side side, void *buf,
				       size_t max);
/** As flat_tube_recv(), of bytes that stay there, in iov[0..1] (*n_iov of them), until the side takes them or closes. */
FLAT_MUST_CHECK ssize_t flat_tube_peek(const struct flat_tube *t, enum flat_tube_side side,
				       size_t max, struct iovec iov[2], int *n_iov);
/** The first `len` bytes of those are taken. */
void flat_tube_skip(struct flat_tube *t, enum flat_tube_side side, size_t len);
/** Bytes that flat_tube_recv() has. */
size_t flat_tube_pending(const struct flat_tube *t, enum flat_tube_side side);
/** No byte follows from this side. */
void flat_tube_end(struct flat_tube *t, enum flat_tube_side side);

#endif
