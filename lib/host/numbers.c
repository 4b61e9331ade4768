/*
 * A process that has used up its descriptor numbers. accept() then fails with EMFILE and leaves the connection where it is,
 * and connect() needs no number at all. Ours come by message with three descriptors, and what has no number is lost with
 * the message: so there must be room before one is read. A few numbers are kept for that, and taken back afterwards.
 *
 * To ask the kernel each time would cost more than the call; it is asked where the program's own numbers have come near
 * their limit, and by connect() where it asks the offload half. A table that fills with files between two accept() is noticed
 * by the first connection that is lost so; one that has gaps low down, not before.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "host/host.h"

/* Numbers that near the limit are looked after, and as many times must there be room until they are not any more. */
#define NEAR 64
/* One message, and what an epoll instance needs beside it. */
#define SPARES (FLAT_NUMBERS_NEED + 2)

static _Atomic int spare[SPARES]; /* number + 1; 0: none */
static _Atomic int highest = -1;  /* number seen */
static _Atomic int limit;	  /* of numbers, when that was seen */
static _Atomic bool tight;
static _Atomic uint32_t roomy;	 /* questions in a row that found more than enough */
static __thread size_t given_up; /* by the last flat_numbers_prepare() */
static __thread bool lent;	 /* by the last flat_numbers_socket() */

static int take_number(void)
{
	return (int)FLAT_SYS2(SYS_eventfd2, 0, O_CLOEXEC);
}

/* Keeps at most this many more. */
static void reserve(size_t n)
{
	for (size_t i = 0; i < SPARES && n > 0; i++) {
		int none = 0;
		if (atomic_load(&spare[i]) != 0)
			continue;
		int fd = take_number();
		if (fd < 0)
			return;
		fd = flat_fd_private(fd);
		if (!atomic_compare_exchange_strong(&spare[i], &none, fd + 1))
			flat_fd_close_private(fd);
		n--;
	}
}

bool flat_numbers_reserve(void)
{
	size_t n = 0;
	reserve(SPARES);
	for (size_t i = 0; i < SPARES; i++)
		n += atomic_load(&spare[i]) != 0;
	return n >= FLAT_NUMBERS_NEED;
}

static bool release(void)
{
	for (size_t i = 0; i < SPARES; i++) {
		int fd = atomic_exchange(&spare[i], 0);
		if (fd != 0) {
			flat_fd_close_private(fd - 1);
			return true;
		}
	}
	return false;
}

void flat_numbers_give_up(void)
{
	while (release())
		;
}

void flat_numbers_seen(int fd)
{
	struct rlimit now;
	/* Numbers grow again after a limit was set anew, too. */
	if (flat_unlikely(fd > atomic_load_explicit(&highest, memory_order_relaxed)) &&
	    FLAT_SYS4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &now) == 0) {
		atomic_store(&highest, fd);
		atomic_store(&limit, now.rlim_cur < INT32_MAX ? (int)now.rlim_cur : INT32_MAX);
	}
	if (flat_unlikely(fd >= atomic_load_explicit(&limit, memory_order_relaxed) - NEAR) &&
	    !atomic_exchange(&tight, true))
		atomic_store(&roomy, 0);
}

bool flat_numbers_tight(void)
{
	return flat_unlikely(atomic_load_explicit(&tight, memory_order_relaxed));
}

void flat_numbers_lost(void)
{
	atomic_store(&roomy, 0);
	atomic_store(&tight, true);
}

void flat_numbers_look(void)
{
	if (flat_numbers_tight())
		return;
	int fd = take_number();
	if (fd >= 0) {
		flat_sys_close(fd);
		flat_numbers_seen(fd);
	} else if (fd == -EMFILE || fd == -ENFILE) {
		flat_numbers_lost();
	}
}

int flat_numbers_prepare(bool own)
{
	int fds[FLAT_NUMBERS_NEED + 1];
	size_t n = 0;
	int err = 0;
	given_up = 0;
	if (flat_likely(!flat_numbers_tight()))
		return 0;
	while (n < FLAT_ARRAY_SIZE(fds) && (err = take_number()) >= 0)
		fds[n++] = err;
	for (size_t i = 0; i < n; i++)
		flat_sys_close(fds[i]);
	if (n == FLAT_ARRAY_SIZE(fds)) {
		reserve(1);
		if (atomic_fetch_add(&roomy, 1) == NEAR)
			atomic_store(&tight, false);
	} else {
		atomic_store(&roomy, 0);
	}
	if (n >= FLAT_NUMBERS_NEED || (err != -EMFILE && err != -ENFILE))
		return 0;
	if (n == 0 && own)
		return err;
	for (; n < FLAT_NUMBERS_NEED && release(); n++)
		given_up++;
	return n < FLAT_NUMBERS_NEED ? err : 0;
}

int flat_numbers_epoll(void)
{
	int fd = flat_sys_epoll_create1(EPOLL_CLOEXEC);
	if (fd == -EMFILE && release())
		fd = flat_sys_epoll_create1(EPOLL_CLOEXEC);
	return flat_fd_private(fd);
}

int flat_numbers_socket(int domain)
{
	int fd = flat_sys_socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	lent = fd == -EMFILE && release();
	return lent ? flat_sys_socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0) : fd;
}

void flat_numbers_back(int fd)
{
	flat_sys_close(fd);
	if (flat_unlikely(lent))
		reserve(1);
	lent = false;
}

void flat_numbers_settle(void)
{
	/* The connection's bell has one of them. */
	if (flat_unlikely(given_up > 1))
		reserve(given_up - 1);
}
