/*
 * System calls made directly, each returning 0 or more, or a negative errno.
 *
 * The library must reach the kernel whatever hooks are loaded into the process (its own shim, or
 * another library's), must not disturb errno, and must not be a cancellation point in the middle of a
 * state change. So nothing on a socket's path goes through libc's wrappers: these are the one place where
 * the kernel's result is turned into ours.
 */
#ifndef FLAT_BASE_SYS_H
#define FLAT_BASE_SYS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "base/base.h"
#include "base/confine.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "lib/base/sys.h knows the system call convention of x86-64 and aarch64 only"
#endif

/**
 * 0, or the process that a filter of its own forbids system calls: those of base/confine.h, which return -EPERM then. Set once, by
 * the thread that installs the filter.
 */
extern int flat_confined;

/** One system call with up to six arguments; the kernel's own result, negative errno on failure. */
#if defined(__clang_analyzer__)
/* Opaque to the analyser, which does not see that assembly writes to what its operands point to. */
long flat_syscall(long nr, long a, long b, long c, long d, long e, long f);
#else
static inline long flat_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (flat_unlikely(flat_confined) && flat_confine_forbids(nr))
		return -EPERM;
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
#else
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ __volatile__("svc 0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			     : "memory");
	return x0;
#endif
}
#endif

#define FLAT_SYS0(nr) flat_syscall(nr, 0, 0, 0, 0, 0, 0)
#define FLAT_SYS1(nr, a) flat_syscall(nr, (long)(a), 0, 0, 0, 0, 0)
#define FLAT_SYS2(nr, a, b) flat_syscall(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define FLAT_SYS3(nr, a, b, c) flat_syscall(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define FLAT_SYS4(nr, a, b, c, d) flat_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define FLAT_SYS5(nr, a, b, c, d, e)                                                               \
	flat_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define FLAT_SYS6(nr, a, b, c, d, e, f)                                                            \
	flat_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline ssize_t flat_sys_read(int fd, void *buf, size_t len)
{
	return FLAT_SYS3(SYS_read, fd, buf, len);
}

static inline ssize_t flat_sys_write(int fd, const void *buf, size_t len)
{
	return FLAT_SYS3(SYS_write, fd, buf, len);
}

static inline int flat_sys_close(int fd)
{
	return (int)FLAT_SYS1(SYS_close, fd);
}

static inline int flat_sys_socket(int domain, int type, int protocol)
{
	return (int)FLAT_SYS3(SYS_socket, domain, type, protocol);
}

static inline int flat_sys_socketpair(int domain, int type, int protocol, int fds[2])
{
	return (int)FLAT_SYS4(SYS_socketpair, domain, type, protocol, fds);
}

static inline int flat_sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)FLAT_SYS3(SYS_connect, fd, addr, len);
}

static inline ssize_t flat_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return FLAT_SYS3(SYS_sendmsg, fd, msg, flags);
}

static inline ssize_t flat_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return FLAT_SYS3(SYS_recvmsg, fd, msg, flags);
}

static inline ssize_t flat_sys_send(int fd, const void *buf, size_t len, int flags)
{
	ssize_t n = FLAT_SYS6(SYS_sendto, fd, buf, len, flags, 0, 0);
	return flat_unlikely(n == -EPERM && flat_confined) ? flat_confined_send(fd, buf, len, flags)
							   : n;
}

static inline ssize_t flat_sys_recv(int fd, void *buf, size_t len, int flags)
{
	ssize_t n = FLAT_SYS6(SYS_recvfrom, fd, buf, len, flags, 0, 0);
	return flat_unlikely(n == -EPERM && flat_confined) ? flat_confined_recv(fd, buf, len, flags)
							   : n;
}

static inline int flat_sys_dup3(int from, int to, int flags)
{
	return (int)FLAT_SYS3(SYS_dup3, from, to, flags);
}

static inline int flat_sys_fcntl(int fd, int cmd, long arg)
{
	return (int)FLAT_SYS3(SYS_fcntl, fd, cmd, arg);
}

static inline int flat_sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	return (int)FLAT_SYS5(SYS_getsockopt, fd, level, name, val, len);
}

static inline int flat_sys_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	return (int)FLAT_SYS5(SYS_setsockopt, fd, level, name, val, len);
}

/** The peer of a TCP socket sees a reset when it is closed, instead of an end. */
static inline void flat_sys_reset_at_close(int fd)
{
	const struct linger hard = {.l_onoff = 1};
	(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static inline int flat_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)FLAT_SYS3(SYS_getsockname, fd, addr, len);
}

static inline int flat_sys_shutdown(int fd, int how)
{
	return (int)FLAT_SYS2(SYS_shutdown, fd, how);
}

static inline int flat_sys_gettid(void)
{
	return (int)FLAT_SYS0(SYS_gettid);
}

static inline int flat_sys_getpid(void)
{
	int pid = (int)FLAT_SYS0(SYS_getpid);
	return flat_likely(pid > 0) ? pid : flat_confined;
}

static inline int flat_sys_yield(void)
{
	return (int)FLAT_SYS0(SYS_sched_yield);
}

/** A memfd that can be sealed, CLOEXEC, and not executable where the kernel knows of that (Linux 6.3). */
static inline int flat_sys_memfd(const char *name)
{
	const unsigned int cloexec = 1, allow_sealing = 2, noexec_seal = 8; /* linux/memfd.h */
	int fd = (int)FLAT_SYS2(SYS_memfd_create, name, cloexec | allow_sealing | noexec_seal);
	if (fd == -EINVAL)
		fd = (int)FLAT_SYS2(SYS_memfd_create, name, cloexec | allow_sealing);
	return fd;
}

/** ppoll with the kernel's view of sigset_t (8 bytes). `timeout` is updated by the kernel. */
static inline int flat_sys_ppoll(struct pollfd *fds, nfds_t n, struct timespec *timeout,
				 const sigset_t *mask)
{
	int ready = (int)FLAT_SYS5(SYS_ppoll, fds, n, timeout, mask, 8);
	/* A mask cannot be honoured by poll(). */
	return flat_unlikely(ready == -EPERM && flat_confined && !mask)
		   ? flat_confined_poll(fds, n, timeout)
		   : ready;
}

static inline int flat_sys_epoll_create1(int flags)
{
	return (int)FLAT_SYS1(SYS_epoll_create1, flags);
}

static inline int flat_sys_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	return (int)FLAT_SYS4(SYS_epoll_ctl, epfd, op, fd, event);
}

static inline int flat_sys_epoll_pwait(int epfd, struct epoll_event *events, int max,
				       int timeout_ms, const sigset_t *mask)
{
	return (int)FLAT_SYS6(SYS_epoll_pwait, epfd, events, max, timeout_ms, mask, 8);
}

#endif
