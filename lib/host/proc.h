/*
 * Which process this is. A forked child finds out by itself, whoever forked it: a page that the kernel wipes at
 * fork holds the process id. In a child that shares the parent's memory (vfork, posix_spawn) the page says
 * another id than the kernel: such a child edits none of our tables.
 */
#ifndef FLAT_HOST_PROC_H
#define FLAT_HOST_PROC_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/base.h"

/** Processes that can share one pool of files; more than that share the last place, see file.h. */
#define FLAT_PROC_HOLDERS 256

/** The wiped page. pid 0: a child that has not set itself up yet. */
struct flat_proc_page {
	_Atomic int32_t pid;
};

extern struct flat_proc_page *flat_proc_page;
extern __thread uint32_t flat_proc_tid_cache __attribute__((tls_model("initial-exec")));

/** Sets the process up: page, shared pool, tables, fork handlers. Runs once, by itself. 0 or negative errno. */
FLAT_MUST_CHECK int flat_proc_init(void);

/** The cold half of flat_proc_enter(): first use, or first use in a child. 0, or a negative errno. */
FLAT_MUST_CHECK int flat_proc_enter_slow(void);

/**
 * Before anything else in each call that concerns us: makes the library ready in this process. One load when it is.
 * Returns 0, or a negative errno: the library cannot work here and everything is the kernel's.
 */
FLAT_MUST_CHECK static inline int flat_proc_enter(void)
{
	struct flat_proc_page *page = flat_proc_page;
	if (flat_likely(page && atomic_load_explicit(&page->pid, memory_order_relaxed) != 0))
		return 0;
	return flat_proc_enter_slow();
}

/** Whether this is a child that still shares its parent's memory. One system call. */
int flat_proc_is_vfork_child(void);

/** This process's place in flat_file.holders. */
uint32_t flat_proc_holder(void);

/** Cold half of flat_proc_tid(). */
uint32_t flat_proc_tid_slow(void);

/** The calling thread's id, cached. */
static inline uint32_t flat_proc_tid(void)
{
	uint32_t tid = flat_proc_tid_cache;
	return flat_likely(tid != 0) ? tid : flat_proc_tid_slow();
}

#endif
