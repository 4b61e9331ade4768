/*
 * Connections that processes hold which are no relatives by fork: after exec, or by SCM_RIGHTS (docs/design/processes.md).
 * Such a connection is *shared*, in each of them and for good: positions are taken up anew from shared memory for each
 * use, between processes under a POSIX lock on the anchor, which the kernel lets go when its holder dies.
 */
#ifndef FLAT_HOST_SHARE_H
#define FLAT_HOST_SHARE_H

#include "host/host.h"

/** From now on processes may hold it that know nothing of our memory. Any thread; waits for a use that is on its way. */
void flat_share_export(struct flat_sock *s);

/** Before and after bytes are sent (tx) or taken. 0, or -EPROTO: positions that cannot be; locked in both cases. */
FLAT_MUST_CHECK int flat_share_begin(struct flat_sock *s, int fd, bool tx);
void flat_share_end(struct flat_sock *s, int fd, bool tx);

/** Takes note of what other processes did to a shared connection: O_NONBLOCK, shutdown. */
void flat_share_refresh(struct flat_sock *s, int fd);

/** flat_ring_moved(), flat_ring_pending(), flat_ring_space() of a connection that may be shared: looks, no more. */
bool flat_share_moved(struct flat_sock *s);
FLAT_MUST_CHECK ssize_t flat_share_pending(struct flat_sock *s);
FLAT_MUST_CHECK ssize_t flat_share_space(struct flat_sock *s);

static inline bool flat_shared(const struct flat_sock *s)
{
	/* relaxed: flat_share_export() takes both locks, so that no use before it lasts beyond it */
	return atomic_load_explicit(&s->exported, memory_order_relaxed) != 0;
}

/* --- adopt.c --- */

/** Makes a descriptor that came by exec or SCM_RIGHTS what it was in the process it came from. 0, or why it is none of ours. */
FLAT_MUST_CHECK int flat_adopt(int fd);

/** Whether the descriptor is half of a pair that the offload half made. May join it. */
bool flat_is_anchor(int fd);

/* --- carry.c --- */

/**
 * For a program that has not got the library: a plain socket of the kernel's over which another process carries the
 * connection behind `anchor`. The descriptor (CLOEXEC), or a negative errno. Makes processes; a child by vfork() may call it.
 */
FLAT_MUST_CHECK int flat_carry(struct flat_sock *s, int anchor);

/** Before that descriptor is closed since no program came to use it: the connection goes on for those who have it. */
void flat_carry_give_back(int plain);

#endif
