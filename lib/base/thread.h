/* Threads beside a program's first one. */
#ifndef FLAT_BASE_THREAD_H
#define FLAT_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

/**
 * pthread_create() of a thread that takes no signals: they are for the thread that was there before, which has handlers for them.
 * 0 or a negative errno.
 */
FLAT_MUST_CHECK static inline int flat_thread_start(pthread_t *thread, const pthread_attr_t *attr,
						    void *(*run)(void *), void *arg)
{
	sigset_t all;
	sigset_t before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(thread, attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

/**
 * How a thread and its owner part where the thread may be in a call that nothing ends (a resolver's, say) and its owner does not
 * wait for ever: whoever of them is the last to go frees what they share. Both words are of the lock that lies beside them; all zero
 * before the thread starts.
 */
struct flat_thread_end {
	bool over; /* the thread uses what is shared no more, but to free it */
	bool left; /* its owner uses it no more: the thread frees it */
};

/** By the thread, the last it does. Takes `lock`. True: nobody waits for it any more, and it has to free what is shared. */
FLAT_MUST_CHECK bool flat_thread_over(pthread_mutex_t *lock, struct flat_thread_end *end);

/**
 * By its owner, once the thread was told to end: waits for that, `ms` at most. Takes `lock`. True: the thread is gone, and its owner
 * has to free what is shared. False: it goes on by itself (detached), and frees that; `lock` and `end` are not to be touched again.
 */
FLAT_MUST_CHECK bool flat_thread_leave(pthread_t thread, pthread_mutex_t *lock,
				       struct flat_thread_end *end, uint32_t ms);

#endif
