/* Threads beside a program's first one. */
#ifndef FLAT_BASE_THREAD_H
#define FLAT_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

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

#endif
