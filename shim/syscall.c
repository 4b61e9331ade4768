/*
 * syscall(): libc's door for programs that make system calls by number. Those that concern descriptors of ours go the way of
 * their names, the others to the kernel.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#pragma GCC diagnostic ignored "-Wpedantic"

#define EXPORT __attribute__((visibility("default")))

#define INT(i) ((int)a[i])
#define UINT(i) ((unsigned int)a[i])
#define SIZE(i) ((size_t)a[i])
#define PTR(type, i) ((type *)(uintptr_t)a[i])

/* libc's own. */
static long (*find_syscall(void))(long, ...)
{
	static long (*real)(long, ...);
	if (__builtin_expect(!real, 0))
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	return real;
}

#define real_syscall(...) (find_syscall()(__VA_ARGS__))

/* Each returns whether the call was one of its kind, with the result in *ret. */
static int bytes(long nr, const long a[6], long *ret)
{
	switch (nr) {
	case SYS_read:
		*ret = read(INT(0), PTR(void, 1), SIZE(2));
		return 1;
	case SYS_write:
		*ret = write(INT(0), PTR(const void, 1), SIZE(2));
		return 1;
	case SYS_readv:
		*ret = readv(INT(0), PTR(const struct iovec, 1), INT(2));
		return 1;
	case SYS_writev:
		*ret = writev(INT(0), PTR(const struct iovec, 1), INT(2));
		return 1;
	case SYS_preadv2:
		*ret = preadv2(INT(0), PTR(const struct iovec, 1), INT(2), a[3], INT(5));
		return 1;
	case SYS_pwritev2:
		*ret = pwritev2(INT(0), PTR(const struct iovec, 1), INT(2), a[3], INT(5));
		return 1;
	case SYS_sendto:
		*ret = flat_sendto(INT(0), PTR(const void, 1), SIZE(2), INT(3),
				   PTR(const struct sockaddr, 4), (socklen_t)a[5]);
		return 1;
	case SYS_recvfrom:
		*ret = flat_recvfrom(INT(0), PTR(void, 1), SIZE(2), INT(3), PTR(struct sockaddr, 4),
				     PTR(socklen_t, 5));
		return 1;
	case SYS_sendmsg:
		*ret = sendmsg(INT(0), PTR(const struct msghdr, 1), INT(2));
		return 1;
	case SYS_recvmsg:
		*ret = recvmsg(INT(0), PTR(struct msghdr, 1), INT(2));
		return 1;
	case SYS_sendmmsg:
		*ret = sendmmsg(INT(0), PTR(struct mmsghdr, 1), UINT(2), INT(3));
		return 1;
	case SYS_recvmmsg:
		*ret = recvmmsg(INT(0), PTR(struct mmsghdr, 1), UINT(2), INT(3),
				PTR(struct timespec, 4));
		return 1;
	case SYS_sendfile:
		*ret = sendfile(INT(0), INT(1), PTR(off_t, 2), SIZE(3));
		return 1;
	case SYS_splice:
		*ret = splice(INT(0), PTR(off_t, 1), INT(2), PTR(off_t, 3), SIZE(4), UINT(5));
		return 1;
	default:
		return 0;
	}
}

static int sockets(long nr, const long a[6], long *ret)
{
	switch (nr) {
	case SYS_socket:
		*ret = flat_socket(INT(0), INT(1), INT(2));
		return 1;
	case SYS_bind:
		*ret = flat_bind(INT(0), PTR(const struct sockaddr, 1), (socklen_t)a[2]);
		return 1;
	case SYS_listen:
		*ret = flat_listen(INT(0), INT(1));
		return 1;
	case SYS_connect:
		*ret = flat_connect(INT(0), PTR(const struct sockaddr, 1), (socklen_t)a[2]);
		return 1;
	case SYS_accept:
		*ret = flat_accept(INT(0), PTR(struct sockaddr, 1), PTR(socklen_t, 2));
		return 1;
	case SYS_accept4:
		*ret = flat_accept4(INT(0), PTR(struct sockaddr, 1), PTR(socklen_t, 2), INT(3));
		return 1;
	case SYS_shutdown:
		*ret = flat_shutdown(INT(0), INT(1));
		return 1;
	case SYS_getsockname:
		*ret = flat_getsockname(INT(0), PTR(struct sockaddr, 1), PTR(socklen_t, 2));
		return 1;
	case SYS_getpeername:
		*ret = flat_getpeername(INT(0), PTR(struct sockaddr, 1), PTR(socklen_t, 2));
		return 1;
	case SYS_getsockopt:
		*ret = flat_getsockopt(INT(0), INT(1), INT(2), PTR(void, 3), PTR(socklen_t, 4));
		return 1;
	case SYS_setsockopt:
		*ret = flat_setsockopt(INT(0), INT(1), INT(2), PTR(const void, 3), (socklen_t)a[4]);
		return 1;
	default:
		return 0;
	}
}

static int descriptors(long nr, const long a[6], long *ret)
{
	switch (nr) {
	case SYS_close:
		*ret = flat_close(INT(0));
		return 1;
	case SYS_close_range:
		*ret = flat_close_range(UINT(0), UINT(1), INT(2));
		return 1;
	case SYS_dup:
		*ret = flat_dup(INT(0));
		return 1;
	case SYS_dup3:
		*ret = flat_dup3(INT(0), INT(1), INT(2));
		return 1;
#ifdef SYS_dup2
	case SYS_dup2:
		*ret = flat_dup2(INT(0), INT(1));
		return 1;
#endif
	case SYS_fcntl:
		*ret = flat_fcntl(INT(0), INT(1), a[2]);
		return 1;
	case SYS_ioctl:
		*ret = ioctl(INT(0), (unsigned long)a[1], PTR(void, 2));
		return 1;
	case SYS_execve:
		*ret = execve(PTR(const char, 0), PTR(char *const, 1), PTR(char *const, 2));
		return 1;
	case SYS_execveat:
		*ret = execveat(INT(0), PTR(const char, 1), PTR(char *const, 2),
				PTR(char *const, 3), INT(4));
		return 1;
	case SYS_chroot:
		*ret = chroot(PTR(const char, 0));
		return 1;
	case SYS_prctl:
		*ret = prctl(INT(0), a[1], a[2], a[3], a[4]);
		return 1;
	case SYS_io_uring_setup:
		/*
		 * What is asked for in a ring passes no hook: bytes, and libuv's batches of epoll_ctl(). Programs that make
		 * rings by number know kernels that have none.
		 */
		errno = ENOSYS;
		*ret = -1;
		return 1;
	default:
		return 0;
	}
}

/* The kernel's set of signals, which is less than libc's. */
#define MASK_BYTES 8

static int bad_mask(const void *mask, size_t size)
{
	if (!mask || size == MASK_BYTES)
		return 0;
	errno = EINVAL;
	return 1;
}

/* Whether the program may write what it has given, which may be a constant. The kernel is asked, by a call that writes four bytes. */
static int writable(struct timespec *t)
{
	char *last = (char *)t + sizeof(*t) - sizeof(unsigned int);
	return (real_syscall(SYS_getcpu, t, NULL, NULL) == 0 || errno != EFAULT) &&
	       (real_syscall(SYS_getcpu, last, NULL, NULL) == 0 || errno != EFAULT);
}

/* By number poll() and select() tell what is left of the time; of none at all they do not. */
static void tell_left(struct timespec *timeout, const struct timespec *begin)
{
	const int error = errno;
	struct timespec left = *timeout;
	struct timespec end;
	if ((left.tv_sec == 0 && left.tv_nsec == 0) || !writable(timeout)) {
		errno = error;
		return;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	left.tv_sec -= end.tv_sec - begin->tv_sec;
	left.tv_nsec -= end.tv_nsec - begin->tv_nsec;
	if (left.tv_nsec < 0 || left.tv_nsec > 999999999) {
		long carry = left.tv_nsec < 0 ? 1 : -1;
		left.tv_sec -= carry;
		left.tv_nsec += carry * 1000000000;
	}
	*timeout = left.tv_sec < 0 ? (struct timespec){0} : left;
	errno = error;
}

/* Its mask comes with a size (pselect(2)). */
static int pselect6(const long a[6])
{
	struct timespec *timeout = PTR(struct timespec, 4);
	const struct {
		const sigset_t *mask;
		size_t size;
	} *six = PTR(const void, 5);
	struct timespec begin;
	if (six && bad_mask(six->mask, six->size))
		return -1;
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	int ret = flat_pselect(INT(0), PTR(fd_set, 1), PTR(fd_set, 2), PTR(fd_set, 3), timeout,
			       six ? six->mask : NULL);
	if (timeout && (ret >= 0 || errno == EINTR))
		tell_left(timeout, &begin);
	return ret;
}

static int ppoll_by_number(const long a[6])
{
	struct timespec *timeout = PTR(struct timespec, 2);
	struct timespec begin;
	if (bad_mask(PTR(const void, 3), SIZE(4)))
		return -1;
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	int ret = ppoll(PTR(struct pollfd, 0), (nfds_t)a[1], timeout, PTR(const sigset_t, 3));
	if (timeout && (ret >= 0 || errno == EINTR))
		tell_left(timeout, &begin);
	return ret;
}

/* libc's own select() reads what the kernel would refuse to read; without descriptors of ours the number is the kernel's. */
static int readiness(long nr, const long a[6], long *ret)
{
	switch (nr) {
#ifdef SYS_poll
	case SYS_poll:
		*ret = poll(PTR(struct pollfd, 0), (nfds_t)a[1], INT(2));
		return 1;
#endif
	case SYS_ppoll:
		*ret = ppoll_by_number(a);
		return 1;
#ifdef SYS_select
	case SYS_select:
		if (!flat_fd_count)
			return 0;
		*ret = select(INT(0), PTR(fd_set, 1), PTR(fd_set, 2), PTR(fd_set, 3),
			      PTR(struct timeval, 4));
		return 1;
#endif
	case SYS_pselect6:
		if (!flat_fd_count)
			return 0;
		*ret = pselect6(a);
		return 1;
	case SYS_epoll_create1:
		*ret = flat_epoll_create1(INT(0));
		return 1;
	case SYS_epoll_ctl:
		*ret = epoll_ctl(INT(0), INT(1), INT(2), PTR(struct epoll_event, 3));
		return 1;
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		*ret = epoll_wait(INT(0), PTR(struct epoll_event, 1), INT(2), INT(3));
		return 1;
#endif
	case SYS_epoll_pwait:
		*ret = bad_mask(PTR(const void, 4), SIZE(5))
			   ? -1
			   : epoll_pwait(INT(0), PTR(struct epoll_event, 1), INT(2), INT(3),
					 PTR(const sigset_t, 4));
		return 1;
	case SYS_epoll_pwait2:
		*ret = bad_mask(PTR(const void, 4), SIZE(5))
			   ? -1
			   : epoll_pwait2(INT(0), PTR(struct epoll_event, 1), INT(2),
					  PTR(const struct timespec, 3), PTR(const sigset_t, 4));
		return 1;
	default:
		return 0;
	}
}

/* Whether the call makes a process with memory of its own. */
static int forks(long nr, const long a[6])
{
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		return 1;
#endif
	case SYS_clone:
		return !(a[0] & CLONE_VM);
	case SYS_clone3:
		/* struct clone_args begins with the flags. */
		return a[0] && !(*PTR(const uint64_t, 0) & CLONE_VM);
	default:
		return 0;
	}
}

EXPORT int prctl(int option, ...)
{
	static int (*real)(int, ...);
	unsigned long a[4];
	va_list ap;
	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (__builtin_expect(!real, 0))
		*(void **)&real = dlsym(RTLD_NEXT, "prctl");
	/* Asked before: the filter may forbid the question. */
	pid_t me = option == PR_SET_SECCOMP ? getpid() : 0;
	int ret = real(option, a[0], a[1], a[2], a[3]);
	if (ret == 0 && option == PR_SET_SECCOMP && a[0] == SECCOMP_MODE_FILTER)
		flat_filtered(PTR(const struct sock_fprog, 1), me);
	return ret;
}

EXPORT long syscall(long nr, ...)
{
	long a[6];
	long ret;
	va_list ap;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (bytes(nr, a, &ret) || sockets(nr, a, &ret) || descriptors(nr, a, &ret) ||
	    readiness(nr, a, &ret))
		return ret;
	pid_t me = nr == SYS_seccomp ? getpid() : 0;
	int makes = forks(nr, a);
	if (makes)
		flat_clone_begins();
	ret = real_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (makes && ret == 0)
		flat_clone_child();
	if (makes && ret != 0)
		flat_clone_parent();
	if (nr == SYS_seccomp && a[0] == SECCOMP_SET_MODE_FILTER && ret >= 0)
		flat_filtered(PTR(const struct sock_fprog, 2), me);
	return ret;
}
