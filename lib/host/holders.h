/*
 * Who holds which socket, among a process and those forked from it (docs/design/processes.md, section 11). Each process that
 * holds any has a row: a bit for each socket. A row is its process's as long as that has its memory, whatever ends it.
 *
 * All of this but flat_holders_others() and what goes around fork is called under the pool's lock.
 */
#ifndef FLAT_HOST_HOLDERS_H
#define FLAT_HOST_HOLDERS_H

#include <stdbool.h>

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

/** What tells of ends is a file: its private descriptor, made before the first fork. Not under the lock. */
void flat_holders_prepare(void);

#endif
