/*
 * Memory that the application named in a call: a bad address is EFAULT, as it would be in the kernel, and not the end of the
 * process. For calls that are not on the data path: each copy is a system call or two.
 */
#ifndef FLAT_HOST_USER_H
#define FLAT_HOST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "base/base.h"

/**
 * Whether bytes can be there at all: the first page is never mapped, the upper half is the kernel's. No system call, so
 * that the data path may ask; an address that this cannot tell from a good one faults, as in any library.
 */
static inline bool flat_user_possible(const void *at, size_t len)
{
	uintptr_t a = (uintptr_t)at;
	return len == 0 || (a >= 4096 && a < UINTPTR_MAX / 2 && len < UINTPTR_MAX / 2 - a);
}

/** A time that the kernel refuses with EINVAL. NULL is none. */
static inline bool flat_user_bad_time(const struct timespec *t)
{
	return t && (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec > 999999999);
}

/** Copies `len` bytes out to, or in from, the application. 0 or -EFAULT; len 0: 0, whatever the address. */
FLAT_MUST_CHECK int flat_user_put(void *to, const void *from, size_t len);
FLAT_MUST_CHECK int flat_user_get(void *to, const void *from, size_t len);

/**
 * Gives `size` bytes as getsockopt() does: at most *len of them, whose count *len becomes. 0, -EFAULT, -EINVAL (negative
 * length).
 */
FLAT_MUST_CHECK int flat_user_give(void *to, socklen_t *len, const void *from, size_t size);

/** The same for addresses, as getsockname() does: *len becomes `size` even where that is more than was there. */
FLAT_MUST_CHECK int flat_user_give_addr(void *to, socklen_t *len, const void *from, size_t size);

#endif
