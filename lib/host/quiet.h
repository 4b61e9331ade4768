/*
 * Work that no signal handler interrupts, and a mutex whose holder none does: a handler that uses sockets would wait for its own
 * thread, and one that leaves by siglongjmp() would leave the mutex held, or the work half done, for good.
 */
#ifndef FLAT_HOST_QUIET_H
#define FLAT_HOST_QUIET_H

#include <pthread.h>

/**
 * Any thread, also within one another. Signals come in when the last one ends: but for faults, which are a thread's own doing, and
 * in a process whose filter watches the calls (base/confine.h).
 */
void flat_quiet_begin(void);
void flat_quiet_end(void);
/** The same with a mutex, of which several may be held at a time. May wait. */
void flat_quiet_lock(pthread_mutex_t *lock);
void flat_quiet_unlock(pthread_mutex_t *lock);

#endif
