/*
 * A flat file: what the kernel calls an open file description, for a flat connection or a flat listener.
 *
 * Files live in a pool that forked processes share (MAP_SHARED|MAP_ANONYMOUS), so that position, locks and options
 * are one for all of them. What differs by process (fd numbers, the bell, who watches) is in flat_file_local, in
 * ordinary memory. Memory of the pool is never unmapped: a stale pointer is harmless, `gen` tells that it is
 * stale.
 *
 * Readiness (poll, select, epoll) uses this header, lanes.h, fdtable.h and wait.h, and nothing else of host/.
 */
#ifndef FLAT_HOST_FILE_H
#define FLAT_HOST_FILE_H

#include <stdatomic.h>
#include <stdbool.h>

#include <flat/unstable/preload.h>

#include "base/base.h"
#include "host/acceptor_state.h"
#include "host/lock.h"
#include "host/proc.h"
#include "host/stream_state.h"
#include "host/wait.h"

/** Socket options that are the file's own; kept and given back, see option.c. */
struct flat_file_opts {
	int64_t rcvtimeo_us; /* 0: for ever */
	int64_t sndtimeo_us;
	int32_t rcvlowat; /* 1 or more */
	int32_t domain;	  /* AF_INET, AF_INET6: what the application asked for */
	int32_t linger_on;
	int32_t linger_s;
	uint32_t kept; /* bit i: value[i] was set or read from the candidate */
	int32_t value[32]; /* of flat_option_table in option.c */
};

struct flat_file {
	_Atomic uint32_t gen; /* odd: in use; grows by one when taken and when given back */
	uint32_t index;	      /* place in the pool */
	_Atomic uint32_t kind; /* FLAT_FD_STREAM or FLAT_FD_LISTENER */
	_Atomic uint32_t nonblock; /* O_NONBLOCK of the description: 0 or 1 */
	_Atomic uint32_t escaped;  /* sent by SCM_RIGHTS: holders we don't know */
	_Atomic uint32_t sleepers; /* waiters asleep in the kernel on the anchor, all processes */
	struct flat_lock wait_lock; /* serialises sleepers' entry and taking bells off */
	struct flat_lock opts_lock;
	_Atomic uint64_t holders[FLAT_PROC_HOLDERS / 64]; /* processes that hold it: bit = flat_proc_holder() */
	struct flat_file_opts opts;
	union {
		struct flat_stream stream;
		struct flat_acceptor acceptor;
	};
};

/** What this process alone has of a file. Valid while the file is held. Guarded by the fd table's lock. */
struct flat_file_local {
	uint32_t gen;	   /* of the file when this process took it; 0: not held */
	int32_t anchor_fd; /* some fd of this process that is the file; -1 */
	int32_t bell_fd;   /* private fd; -1: ring on the anchor */
	uint32_t n_fds;	   /* fds of this process that are the file */
	_Atomic uint32_t watched; /* readiness: memberships in epoll instances; not 0: bells are taken off by it */
	_Atomic uint32_t sleepers; /* this process's part of flat_file.sleepers */
	void *watches;	   /* readiness owns it: its list of memberships; NULL: none */
};

extern struct flat_file *flat_file_pool;
extern struct flat_file_local *flat_file_locals;

/** Files of the pool: bounded by descriptors a process may have; address space only until used. */
#define FLAT_FILES_MAX (1U << 17)

/** What this process alone has of `file`. */
static inline struct flat_file_local *flat_file_local(const struct flat_file *file)
{
	return &flat_file_locals[file->index];
}

/** Whether `file` is still the one that had generation `gen` when it was looked up. */
static inline bool flat_file_is(const struct flat_file *file, uint32_t gen)
{
	return atomic_load_explicit(&file->gen, memory_order_acquire) == gen;
}

/** The descriptor on which a waiter of this process sleeps in the kernel: readable after a bell. -1: not held. */
static inline int flat_file_anchor(const struct flat_file *file)
{
	return flat_file_local(file)->anchor_fd;
}

/**
 * What poll(2) would report now, all of it: EPOLLIN, RDNORM, OUT, WRNORM, RDHUP, HUP, ERR as Linux TCP; PRI never. From ring
 * state; no system call on a stream unless a connection was cut since the last call. On a listener: one ppoll of
 * the anchor (EPOLLIN; HUP of the anchor never shows: the listener is registered again, see
 * flat_acceptor_revive()). Any thread. A file that is stale reports EPOLLERR|EPOLLHUP.
 */
uint32_t flat_file_events(struct flat_file *file);

/**
 * Asks the peer to tell of the next change: for EPOLLIN, RDHUP, HUP, ERR of bytes and ends, for EPOLLOUT of room. An arm
 * that asks for more already stays (BELL is not lowered to READY). The caller looks again (flat_file_events())
 * before it sleeps. No-op on a listener, whose anchor the kernel makes readable. Any thread.
 */
void flat_file_arm(struct flat_file *file, uint32_t events, enum flat_arm how);

/**
 * Around a sleep in the kernel on the anchor of a file by poll and select: between begin and end nobody takes bells off this
 * anchor, so that none is lost to the sleeper. begin before arming; end after waking, also when interrupted. Not
 * for epoll, whose shadow instance is edge-triggered: there `watched` is not 0.
 */
void flat_file_sleep_begin(struct flat_file *file);
void flat_file_sleep_end(struct flat_file *file);

/**
 * Takes rung bells off the anchor, unless somebody else sleeps on it. `force`: also when the peer's count says that
 * there are none (after the kernel said that the anchor is readable). One system call, none if there are none and not
 * `force`. Returns 0 (taken or none), -EBUSY (left: somebody sleeps and has not woken yet), -ECONNRESET (cut: the file's
 * events say so from now on). No-op (0) on a listener.
 */
FLAT_MUST_CHECK int flat_file_take_bells(struct flat_file *file, bool force);

/**
 * A new file of this process, not in the fd table yet: gen odd, this process a holder, local state with anchor_fd -1 and
 * bell_fd -1. -ENFILE: the pool is full. *out is valid until flat_file_put().
 */
FLAT_MUST_CHECK int flat_file_new(struct flat_file **out, enum flat_fd_kind kind);

/**
 * This process lets go of the file: no fd of it is left here. The last holder of all ends the connection (FIN or RST,
 * CLOSED) and gives the place back. Closes the bell; anchor fds are the caller's. May be called with
 * another thread still in a call on the file: that one finds a new generation.
 */
void flat_file_put(struct flat_file *file);

#endif
