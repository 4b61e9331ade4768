/*
 * Who holds which socket, among a process and those forked from it (docs/design/processes.md, section 11). Each process that
 * holds any has a row: a bit for each socket. A row is its process's as long as that has its memory, whatever ends it.
 *
 * All of this but flat_holders_others(), flat_holders_life() and what goes around fork is called under the pool's lock.
 */
#ifndef FLAT_HOST_HOLDERS_H
#define FLAT_HOST_HOLDERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

/** Makes the table that forked processes will share. False: no memory. */
FLAT_MUST_CHECK bool flat_holders_make(void);

/** This process holds socket `i`, or does no more. */
void flat_holders_take(uint32_t i);
void flat_holders_drop(uint32_t i);
/** Whether this process is written down as a holder. */
FLAT_MUST_CHECK bool flat_holders_has(uint32_t i);
/** Whether others are; some of them may have ended. No system call. */
FLAT_MUST_CHECK bool flat_holders_others(uint32_t i);
/** Whether others are that live: those found to have ended are not holders of it any more. */
FLAT_MUST_CHECK bool flat_holders_others_live(uint32_t i);
/** Whether nobody is. */
FLAT_MUST_CHECK bool flat_holders_none(uint32_t i);

/**
 * Takes the rows back of processes that have ended; `all`: not a few, by turns. `freed` is called for each of the first `n` sockets
 * which nobody holds any more by that.
 */
void flat_holders_sweep(bool all, uint32_t n, void (*freed)(uint32_t i));

/** Before a fork: a row for the child, which holds those of the first `n` sockets for which `held` says so. Makes system calls. */
void flat_holders_forking(uint32_t n, bool (*held)(uint32_t i));
/** Afterwards in the parent, whether there is a child or not. Not under the lock. */
void flat_holders_fork_over(void);
/** And in the child. Not under the lock. */
void flat_holders_forked(void);

/** What tells of ends is a file: its private descriptor, made before the first fork. Once: threads may fork at a time. */
void flat_holders_prepare(void);

/*
 * A thread as locks have it: its process's row, how often that row was another's before, and its id. So nobody in another PID
 * namespace, and no later process, is taken for it.
 */
#define FLAT_HOLDER_TID_BITS 22U /* PID_MAX_LIMIT of linux/threads.h */
#define FLAT_HOLDER_TURN_BITS 30U

/** Row and turn of this process; 0: it has no row. */
extern _Atomic uint64_t flat_holder_process;

static inline uint64_t flat_holders_word(uint32_t tid)
{
	return atomic_load_explicit(&flat_holder_process, memory_order_relaxed) | tid;
}

static inline uint32_t flat_holders_tid(uint64_t word)
{
	return (uint32_t)(word & ((UINT64_C(1) << FLAT_HOLDER_TID_BITS) - 1));
}

/** Whether one thread took both: it may have had no row yet for the first. */
static inline bool flat_holders_same(uint64_t first, uint64_t second)
{
	return first == second || first == flat_holders_tid(second);
}

/** Whether that process, another one, lives. UNKNOWN: it is this one, or its row says nothing. Makes system calls. */
enum flat_life { FLAT_LIFE_UNKNOWN, FLAT_LIFE_GOES_ON, FLAT_LIFE_OVER };
FLAT_MUST_CHECK enum flat_life flat_holders_life(uint64_t word);

#endif
