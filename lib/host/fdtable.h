/*
 * Descriptor numbers of this process: what each one is to us (flat_fd_kinds, one byte each) and which object it is.
 * Ordinary memory: fork copies it. Look-ups take no lock; changes take the table's lock.
 */
#ifndef FLAT_HOST_FDTABLE_H
#define FLAT_HOST_FDTABLE_H

#include <stdatomic.h>
#include <stdbool.h>

#include <flat/unstable/preload.h>

#include "base/base.h"
#include "host/file.h"
#include "host/proc.h"

/** One descriptor. `object`: struct flat_file (stream, listener) or readiness's instance (epoll). */
struct flat_fd_entry {
	_Atomic(void *) object;
	_Atomic uint32_t gen;	/* of the file when it was entered */
	_Atomic uint32_t watches; /* candidates: readiness counts epoll instances it is in */
};

extern struct flat_fd_entry *flat_fd_entries;

/** Maps the tables; address space only until used. 0, or -ENOMEM. */
FLAT_MUST_CHECK int flat_fdtable_init(void);

/** The flat stream or listener behind fd and its generation, or NULL. No lock; any thread. */
static inline struct flat_file *flat_fdtable_file(int fd, uint32_t *gen)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	if (kind != FLAT_FD_STREAM && kind != FLAT_FD_LISTENER)
		return NULL;
	*gen = atomic_load_explicit(&flat_fd_entries[fd].gen, memory_order_relaxed);
	/* acquire: pairs with the release in flat_fdtable_set_file() */
	return atomic_load_explicit(&flat_fd_entries[fd].object, memory_order_acquire);
}

/** The object of an epoll descriptor (kind FLAT_FD_EPOLL), or NULL. */
static inline void *flat_fdtable_epoll(int fd)
{
	if (flat_fd_kind(fd) != FLAT_FD_EPOLL)
		return NULL;
	return atomic_load_explicit(&flat_fd_entries[fd].object, memory_order_acquire);
}

/** Enters `fd` as a reference to `file`, and counts it in the file's local state. */
void flat_fdtable_set_file(int fd, struct flat_file *file);

/** Enters `fd` as an epoll instance with flat members; `object` is readiness's. */
void flat_fdtable_set_epoll(int fd, void *object);

/** Sets FLAT_FD_CANDIDATE, FLAT_FD_PRIVATE or FLAT_FD_KERNEL: no object. */
void flat_fdtable_set_kind(int fd, enum flat_fd_kind kind);

/**
 * Takes `fd` out of the table, without closing it: before the number is closed or reused. Tells the hooks. The last fd of
 * a file in this process lets the file go (flat_file_put()). A private fd stays.
 */
void flat_fdtable_clear(int fd);

/** `to` becomes what `from` is, after the kernel's dup. */
void flat_fdtable_copy(int from, int to);

/** One more than the highest descriptor that is or was not plain kernel: bound for walks. */
unsigned int flat_fdtable_end(void);

/**
 * What readiness wants to know. NULL members: not wanted. Called without the table's lock. Set once, by the first
 * epoll_ctl that concerns us.
 */
struct flat_fd_hooks {
	/** `fd` leaves the table: a file (last: no other fd of this process is it), an epoll object, or a
	 * candidate (file NULL). The kernel's fd is still open. */
	void (*leaving)(int fd, struct flat_file *file, bool last);
	/** Candidate `fd` is about to become `file`: dup3() of the anchor follows, which takes the old socket out
	 * of every kernel epoll instance. */
	void (*converting)(int fd, struct flat_file *file);
	/** It did: register again. */
	void (*converted)(int fd, struct flat_file *file);
	/** `file` has a new anchor under the same fds (a listener registered again). */
	void (*new_anchor)(struct flat_file *file);
	/** `to` was entered as a duplicate of `from`. */
	void (*duplicated)(int from, int to);
	/** This is a forked child, before its first other call; tables are copies of the parent's. */
	void (*forked)(void);
};

/** Registers the hooks; the pointer must stay valid. */
void flat_fdtable_set_hooks(const struct flat_fd_hooks *hooks);

/** The hooks, or NULL. */
const struct flat_fd_hooks *flat_fdtable_hooks(void);

/**
 * Moves `fd` (ours, already open) to the private range: above the application's soft limit where the hard limit allows,
 * CLOEXEC, kind FLAT_FD_PRIVATE. The low number is closed. Returns the new number; on failure the old number,
 * entered as private. Never fails.
 */
int flat_fdtable_make_private(int fd);

/** Closes a private fd and clears its kind. -1 is allowed. */
void flat_fdtable_close_private(int fd);

#endif
