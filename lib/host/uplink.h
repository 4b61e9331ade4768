/*
 * This process's control socket to its offload half: opened lazily, said HELLO on, used by one thread at a time. A forked
 * child has a new one of its own.
 *
 * Path: FLAT_CONTROL (not under AT_SECURE), else /run/flat/control.sock, else $XDG_RUNTIME_DIR/flat/control.sock. The
 * peer must be root or our own user (SO_PEERCRED).
 */
#ifndef FLAT_HOST_UPLINK_H
#define FLAT_HOST_UPLINK_H

#include "base/base.h"
#include "mesh/directory.h"
#include "vq/attach.h"

enum flat_uplink_state {
	FLAT_UPLINK_NEVER = 0, /* no offload half was ever there: everything is the kernel's */
	FLAT_UPLINK_UP = 1,
	FLAT_UPLINK_LOST = 2, /* it was there and is gone: mesh addresses fail closed */
};

/** Connects and says HELLO if that has not happened; tries at most once a second (NEVER) or every 100 ms (LOST). */
enum flat_uplink_state flat_uplink_ensure(void);

/**
 * One request and its answer. `fd` >= 0 goes with it (borrowed). Returns 0 with *reply and fds[0..*n-1] (the caller's),
 * whatever reply->status; -ECONNREFUSED (offload half gone), -ETIMEDOUT.
 */
FLAT_MUST_CHECK int flat_uplink_ask(struct flat_msg *request, int fd, struct flat_msg *reply,
				    int fds[FLAT_MSG_FDS_MAX], size_t *n);

/** The directory as last mapped: its header stays readable for the process's life. NULL: there never was one. */
const struct flat_directory *flat_uplink_directory(void);

/** Points to the current directory's revoke_epoch, or to a word that never changes. One load on each call's path. */
extern _Atomic(const _Atomic uint64_t *) flat_uplink_revoke_word;

static inline uint64_t flat_uplink_revoke_epoch(void)
{
	const _Atomic uint64_t *word =
		atomic_load_explicit(&flat_uplink_revoke_word, memory_order_acquire);
	return atomic_load_explicit(word, memory_order_relaxed);
}

/** Why connection `conn_id` was cut: a positive errno, ECONNRESET if nobody knows. */
int flat_uplink_why(uint64_t conn_id);

/** In a forked child: forgets the parent's session. */
void flat_uplink_forked(void);

#endif
