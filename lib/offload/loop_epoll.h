/* What the event loop stands on where io_uring is forbidden: epoll. Used by loop.c alone; the loop's thread. */
#ifndef FLAT_OFFLOAD_LOOP_EPOLL_H
#define FLAT_OFFLOAD_LOOP_EPOLL_H

#include "offload/loop.h"

struct flat_loop_epoll;

/** 0, -ENOMEM, -EMFILE or another negative errno. */
FLAT_MUST_CHECK int flat_loop_epoll_open(struct flat_loop_epoll **ep);
/** NULL: nothing. */
void flat_loop_epoll_close(struct flat_loop_epoll *ep);

/** Watches a source that polls or accepts. 0 or a negative errno: -ENOSPC, -ENOMEM; -EPERM for what cannot be polled. */
FLAT_MUST_CHECK int flat_loop_epoll_watch(struct flat_loop_epoll *ep,
					  const struct flat_source *source, uint64_t tag);
/** Connects; the result comes with a later turn. `addr` is not borrowed. 0 or a negative errno: as above. */
FLAT_MUST_CHECK int flat_loop_epoll_connect(struct flat_loop_epoll *ep,
					    const struct flat_source *source, uint64_t tag,
					    const struct sockaddr *addr, socklen_t len);
/** `res` is given for `tag` in so many milliseconds; 0: by the next turn. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_loop_epoll_later(struct flat_loop_epoll *ep, uint64_t tag, int res,
					  int ms);
/** Before its descriptor is closed. Nothing where it is not watched. */
void flat_loop_epoll_unwatch(const struct flat_loop_epoll *ep, const struct flat_source *source);

/** Waits as flat_loop_turn() does, and tells what happened; how many things. */
uint32_t flat_loop_epoll_turn(struct flat_loop_epoll *ep, struct flat_loop *loop, int wait_ms);

/* --- loop.c --- */

/** Whose tag it is; NULL: nobody's any more. */
struct flat_source *flat_loop_source(const struct flat_loop *loop, uint64_t tag);
/** What happened, as a completion of io_uring says it; `more` of it may come. */
void flat_loop_dispatch(struct flat_loop *loop, uint64_t tag, int res, bool more);

#endif
