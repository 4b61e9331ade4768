/*
 * How long to look before sleeping, and the sleep itself (core.md section 5).
 *
 *   struct flat_wait w;
 *   flat_wait_begin(&w, &history);
 *   do {
 *           if (look()) { flat_wait_end(&w, true); return; }
 *   } while (flat_wait_again(&w));
 *   arm; look again;
 *   flat_wait_asleep(&w); sleep in the kernel; flat_wait_awake(&w);
 */
#ifndef FLAT_HOST_WAIT_H
#define FLAT_HOST_WAIT_H

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/base.h"

/** What earlier waits taught. Zero is a good start. Races on it are harmless: it is a guess. */
struct flat_wait_history {
	_Atomic uint32_t yield_us; /* time to yield before sleeping, 0 to FLAT_SPIN_MAX_US */
	_Atomic uint32_t looks;	   /* looks with a pause before the first yield pay: 0 no, else yes */
};

/** One wait. On the waiter's stack. */
struct flat_wait {
	struct flat_wait_history *history;
	uint32_t looks;	   /* done so far */
	uint64_t began_ns; /* when yielding began; 0: not yet */
	uint64_t slept_ns; /* when it fell asleep; 0: it did not */
};

/** Monotonic time in nanoseconds. No system call. */
uint64_t flat_wait_now_ns(void);

/** Starts a wait. */
static inline void flat_wait_begin(struct flat_wait *w, struct flat_wait_history *history)
{
	w->history = history;
	w->looks = 0;
	w->began_ns = 0;
	w->slept_ns = 0;
}

/** Pauses or yields. True: look again. False: it is time to arm and sleep. Does not touch errno. */
bool flat_wait_again(struct flat_wait *w);

/** The wait is over; `found`: by looking, not by sleeping. Teaches the history. */
void flat_wait_end(struct flat_wait *w, bool found);

/** Around the sleep: a short one teaches that more yielding would have paid. */
void flat_wait_asleep(struct flat_wait *w);
void flat_wait_awake(struct flat_wait *w);

/**
 * ppoll(2) and epoll_pwait(2) as cancellation points (asynchronous around the system call alone), raw otherwise: negative
 * errno. Nothing may be held that a cancelled thread would leave behind, but what flat_wait_cleanup names.
 * timeout NULL: for ever; epoll: timeout NULL or up to nanoseconds (epoll_pwait2 where the kernel has it).
 */
FLAT_MUST_CHECK int flat_wait_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
				    const sigset_t *mask);
FLAT_MUST_CHECK int flat_wait_epoll(int epfd, struct epoll_event *events, int max,
				    const struct timespec *timeout, const sigset_t *mask);

/** A pending cancellation takes effect here, as on entry of libc's calls. Cheap in a single-threaded process. */
void flat_wait_testcancel(void);

#endif
