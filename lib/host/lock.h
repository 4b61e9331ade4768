/*
 * Locks of objects that several processes share: a word that holds the owner's thread id.
 *
 * Held for the time of a copy, never while waiting. A thread that meets its own id steals: it is in a signal
 * handler that interrupted the owner, or left the owner's frame by longjmp. That is safe because each
 * change made under a lock takes effect by one store (core.md section 6). An owner that was killed is
 * found by its id and its lock taken over.
 */
#ifndef FLAT_HOST_LOCK_H
#define FLAT_HOST_LOCK_H

#include <stdatomic.h>

#include "base/base.h"
#include "host/proc.h"

struct flat_lock {
	_Atomic uint32_t owner; /* thread id; 0: free */
};

/** The slow half of flat_lock(): yields until the owner lets go, or is found dead. */
void flat_lock_slow(struct flat_lock *lock, uint32_t tid);

/** Takes the lock. Does not sleep for long: owners never wait. Async-signal-safe. */
static inline void flat_lock(struct flat_lock *lock)
{
	uint32_t tid = flat_proc_tid();
	uint32_t free_word = 0;
	/* acquire: pairs with the release in flat_unlock() */
	if (flat_unlikely(!atomic_compare_exchange_strong_explicit(
		    &lock->owner, &free_word, tid, memory_order_acquire, memory_order_relaxed)))
		flat_lock_slow(lock, tid);
}

static inline void flat_unlock(struct flat_lock *lock)
{
	atomic_store_explicit(&lock->owner, 0, memory_order_release);
}

#endif
