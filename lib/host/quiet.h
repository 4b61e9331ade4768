/*
 * A mutex of this process whose holder no signal handler interrupts: one that uses sockets would wait for its own thread, and
 * one that leaves by siglongjmp() would leave it held for good.
 */
#ifndef FLAT_HOST_QUIET_H
#define FLAT_HOST_QUIET_H

#include <pthread.h>

/**
 * Any thread; several of them may be held at a time. Signals come in when the last one is let go: but for faults, which are a thread's
 * own doing. May wait.
 */
void flat_quiet_lock(pthread_mutex_t *lock);
void flat_quiet_unlock(pthread_mutex_t *lock);

#endif
