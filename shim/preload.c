/*
 * The shim: libc's names for libflat's calls, loaded with LD_PRELOAD. A descriptor that does not concern libflat goes to
 * the next library's function of the same name, at the cost of one load.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "program.h"

/* glibc declares socket addresses as transparent unions in GNU mode; ours are plain pointers, of one ABI. */
#pragma GCC diagnostic ignored "-Wpedantic"

#define EXPORT __attribute__((visibility("default")))

/* The real function of this name. dlsym may be needed before any constructor ran; it is asked once each. */
#define REAL(ret, name, ...)                                                                       \
	static ret (*real)(__VA_ARGS__);                                                           \
	if (__builtin_expect(!real, 0))                                                            \
	*(void **)&real = dlsym(RTLD_NEXT, #name)

static int mine(int fd)
{
	return flat_fd_kind(fd) != FLAT_FD_KERNEL;
}

static int stream(int fd)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	return kind == FLAT_FD_STREAM || kind == FLAT_FD_LISTENER;
}

/* The same in a call that is a cancellation point, whether it waits or not. */
static int blocking(int fd)
{
	int ours = stream(fd);
	if (ours)
		pthread_testcancel();
	return ours;
}

/* Of a send: MSG_FASTOPEN connects. */
static int sends(int fd, int flags)
{
	return flags & MSG_FASTOPEN ? mine(fd) : blocking(fd);
}

EXPORT int socket(int domain, int type, int protocol)
{
	REAL(int, socket, int, int, int);
	return __builtin_expect(flat_program_own_calls, 0) ? real(domain, type, protocol)
							   : flat_socket(domain, type, protocol);
}

EXPORT int listen(int fd, int backlog)
{
	REAL(int, listen, int, int);
	return mine(fd) ? flat_listen(fd, backlog) : real(fd, backlog);
}

EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	REAL(int, bind, int, const struct sockaddr *, socklen_t);
	return mine(fd) ? flat_bind(fd, addr, len) : real(fd, addr, len);
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	REAL(int, connect, int, const struct sockaddr *, socklen_t);
	return mine(fd) ? flat_connect(fd, addr, len) : real(fd, addr, len);
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	REAL(int, accept4, int, struct sockaddr *, socklen_t *, int);
	return mine(fd) ? flat_accept4(fd, addr, len, flags) : real(fd, addr, len, flags);
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	REAL(int, accept, int, struct sockaddr *, socklen_t *);
	return mine(fd) ? flat_accept(fd, addr, len) : real(fd, addr, len);
}

EXPORT int shutdown(int fd, int how)
{
	REAL(int, shutdown, int, int);
	return mine(fd) ? flat_shutdown(fd, how) : real(fd, how);
}

EXPORT int close(int fd)
{
	REAL(int, close, int);
	return mine(fd) ? flat_close(fd) : real(fd);
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	return flat_close_range(first, last, flags);
}

EXPORT void closefrom(int first)
{
	(void)flat_close_range((unsigned int)(first < 0 ? 0 : first), ~0U, 0);
}

EXPORT int dup(int fd)
{
	REAL(int, dup, int);
	return mine(fd) ? flat_dup(fd) : real(fd);
}

EXPORT int dup2(int fd, int to)
{
	REAL(int, dup2, int, int);
	return mine(fd) || mine(to) ? flat_dup2(fd, to) : real(fd, to);
}

EXPORT int dup3(int fd, int to, int flags)
{
	REAL(int, dup3, int, int, int);
	return mine(fd) || mine(to) ? flat_dup3(fd, to, flags) : real(fd, to, flags);
}

static long fcntl_arg(va_list ap)
{
	return va_arg(ap, long);
}

EXPORT int fcntl(int fd, int cmd, ...)
{
	REAL(int, fcntl64, int, int, ...);
	va_list ap;
	va_start(ap, cmd);
	long arg = fcntl_arg(ap);
	va_end(ap);
	return mine(fd) ? flat_fcntl(fd, cmd, arg) : real(fd, cmd, arg);
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
	REAL(int, fcntl64, int, int, ...);
	va_list ap;
	va_start(ap, cmd);
	long arg = fcntl_arg(ap);
	va_end(ap);
	return mine(fd) ? flat_fcntl(fd, cmd, arg) : real(fd, cmd, arg);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	REAL(int, ioctl, int, unsigned long, ...);
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	return mine(fd) ? flat_ioctl(fd, request, arg) : real(fd, request, arg);
}

/* libc's asks by an ioctl() of its own. */
EXPORT int sockatmark(int fd)
{
	REAL(int, sockatmark, int);
	int answer;
	if (!stream(fd))
		return real(fd);
	return flat_ioctl(fd, SIOCATMARK, &answer) == 0 ? answer : -1;
}

/* --- bytes --- */

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	REAL(ssize_t, read, int, void *, size_t);
	return blocking(fd) ? flat_read(fd, buf, len) : real(fd, buf, len);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		abort();
	return read(fd, buf, len);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	REAL(ssize_t, write, int, const void *, size_t);
	return blocking(fd) ? flat_write(fd, buf, len) : real(fd, buf, len);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	REAL(ssize_t, readv, int, const struct iovec *, int);
	return blocking(fd) ? flat_readv(fd, iov, n) : real(fd, iov, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	REAL(ssize_t, writev, int, const struct iovec *, int);
	return blocking(fd) ? flat_writev(fd, iov, n) : real(fd, iov, n);
}

/* preadv2 and pwritev2 with offset -1 are readv and writev with flags; a stream has no other offset. */
static ssize_t vector_at(int fd, const struct iovec *iov, int n, off64_t offset, int flags, int out)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	int wait = flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
	if (offset != -1 || n < 0 || n > IOV_MAX ||
	    (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT))) {
		errno = offset != -1 ? ESPIPE : n < 0 || n > IOV_MAX ? EINVAL : EOPNOTSUPP;
		return -1;
	}
	if (!wait)
		return out ? flat_writev(fd, iov, n) : flat_readv(fd, iov, n);
	return out ? flat_sendmsg(fd, &msg, wait) : flat_recvmsg(fd, &msg, wait);
}

EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
	REAL(ssize_t, preadv64v2, int, const struct iovec *, int, off64_t, int);
	return stream(fd) ? vector_at(fd, iov, n, offset, flags, 0)
			  : real(fd, iov, n, offset, flags);
}

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return preadv64v2(fd, iov, n, offset, flags);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
	REAL(ssize_t, pwritev64v2, int, const struct iovec *, int, off64_t, int);
	return stream(fd) ? vector_at(fd, iov, n, offset, flags, 1)
			  : real(fd, iov, n, offset, flags);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return pwritev64v2(fd, iov, n, offset, flags);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	REAL(ssize_t, send, int, const void *, size_t, int);
	return blocking(fd) ? flat_send(fd, buf, len, flags) : real(fd, buf, len, flags);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
		      socklen_t to_len)
{
	REAL(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	return sends(fd, flags) ? flat_sendto(fd, buf, len, flags, to, to_len)
				: real(fd, buf, len, flags, to, to_len);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
	if (!stream(fd))
		flat_rights_sending(msg);
	return sends(fd, flags) ? flat_sendmsg(fd, msg, flags) : real(fd, msg, flags);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	REAL(int, sendmmsg, int, struct mmsghdr *, unsigned int, int);
	for (unsigned int i = 0; flat_fd_count && !stream(fd) && i < n; i++)
		flat_rights_sending(&msgs[i].msg_hdr);
	return blocking(fd) ? flat_sendmmsg(fd, msgs, n, flags) : real(fd, msgs, n, flags);
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	REAL(ssize_t, recv, int, void *, size_t, int);
	return blocking(fd) ? flat_recv(fd, buf, len, flags) : real(fd, buf, len, flags);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len > size)
		abort();
	return recv(fd, buf, len, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
			socklen_t *from_len)
{
	REAL(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *);
	return blocking(fd) ? flat_recvfrom(fd, buf, len, flags, from, from_len)
			    : real(fd, buf, len, flags, from, from_len);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
			      struct sockaddr *from, socklen_t *from_len);
EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
			      struct sockaddr *from, socklen_t *from_len)
{
	if (len > size)
		abort();
	return recvfrom(fd, buf, len, flags, from, from_len);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	REAL(ssize_t, recvmsg, int, struct msghdr *, int);
	if (blocking(fd))
		return flat_recvmsg(fd, msg, flags);
	ssize_t n = real(fd, msg, flags);
	if (n >= 0 && msg->msg_controllen)
		flat_rights_received(msg);
	return n;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags,
		    struct timespec *timeout)
{
	REAL(int, recvmmsg, int, struct mmsghdr *, unsigned int, int, struct timespec *);
	if (blocking(fd))
		return flat_recvmmsg(fd, msgs, n, flags, timeout);
	int got = real(fd, msgs, n, flags, timeout);
	for (int i = 0; i < got; i++) {
		if (msgs[i].msg_hdr.msg_controllen)
			flat_rights_received(&msgs[i].msg_hdr);
	}
	return got;
}

EXPORT ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
	REAL(ssize_t, sendfile, int, int, off_t *, size_t);
	return stream(out_fd) || stream(in_fd) ? flat_sendfile(out_fd, in_fd, offset, count)
					       : real(out_fd, in_fd, offset, count);
}

EXPORT ssize_t sendfile64(int out_fd, int in_fd, off64_t *offset, size_t count)
{
	return sendfile(out_fd, in_fd, offset, count);
}

EXPORT ssize_t splice(int in_fd, off64_t *in_offset, int out_fd, off64_t *out_offset, size_t len,
		      unsigned int flags)
{
	REAL(ssize_t, splice, int, off64_t *, int, off64_t *, size_t, unsigned int);
	return stream(in_fd) || stream(out_fd)
		   ? flat_splice(in_fd, in_offset, out_fd, out_offset, len, flags)
		   : real(in_fd, in_offset, out_fd, out_offset, len, flags);
}

/* --- readiness --- */

/* What cannot be an array at all, or is longer than any may be, is the kernel's to refuse. */
static int any_mine(const struct pollfd *fds, nfds_t n)
{
	uintptr_t at = (uintptr_t)fds;
	if (!flat_fd_count || n > FLAT_FD_KINDS || at < 4096 || at > UINTPTR_MAX / 2)
		return 0;
	for (nfds_t i = 0; i < n; i++) {
		if (mine(fds[i].fd))
			return 1;
	}
	return 0;
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	REAL(int, poll, struct pollfd *, nfds_t, int);
	return any_mine(fds, n) ? flat_poll(fds, n, timeout) : real(fds, n, timeout);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof(*fds) < n)
		abort();
	return poll(fds, n, timeout);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	REAL(int, ppoll, struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
	return any_mine(fds, n) ? flat_ppoll(fds, n, timeout, mask) : real(fds, n, timeout, mask);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask, size_t size);
EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < n)
		abort();
	return ppoll(fds, n, timeout, mask);
}

EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	REAL(int, select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
	return flat_fd_count ? flat_select(n, r, w, x, timeout) : real(n, r, w, x, timeout);
}

EXPORT int pselect(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout,
		   const sigset_t *mask)
{
	REAL(int, pselect, int, fd_set *, fd_set *, fd_set *, const struct timespec *,
	     const sigset_t *);
	return flat_fd_count ? flat_pselect(n, r, w, x, timeout, mask)
			     : real(n, r, w, x, timeout, mask);
}

EXPORT int epoll_create1(int flags)
{
	return flat_epoll_create1(flags);
}

EXPORT int epoll_create(int size)
{
	if (size <= 0) {
		errno = EINVAL;
		return -1;
	}
	return flat_epoll_create1(0);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	REAL(int, epoll_ctl, int, int, int, struct epoll_event *);
	return mine(fd) ? flat_epoll_ctl(epfd, op, fd, event) : real(epfd, op, fd, event);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	REAL(int, epoll_wait, int, struct epoll_event *, int, int);
	return mine(epfd) ? flat_epoll_wait(epfd, events, max, timeout)
			  : real(epfd, events, max, timeout);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		       const sigset_t *mask)
{
	REAL(int, epoll_pwait, int, struct epoll_event *, int, int, const sigset_t *);
	return mine(epfd) ? flat_epoll_pwait(epfd, events, max, timeout, mask)
			  : real(epfd, events, max, timeout, mask);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask)
{
	REAL(int, epoll_pwait2, int, struct epoll_event *, int, const struct timespec *,
	     const sigset_t *);
	return mine(epfd) ? flat_epoll_pwait2(epfd, events, max, timeout, mask)
			  : real(epfd, events, max, timeout, mask);
}

/* --- names and options --- */

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	REAL(int, getsockopt, int, int, int, void *, socklen_t *);
	return stream(fd) ? flat_getsockopt(fd, level, name, value, len)
			  : real(fd, level, name, value, len);
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	REAL(int, setsockopt, int, int, int, const void *, socklen_t);
	return mine(fd) ? flat_setsockopt(fd, level, name, value, len)
			: real(fd, level, name, value, len);
}

EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	REAL(int, getsockname, int, struct sockaddr *, socklen_t *);
	return stream(fd) ? flat_getsockname(fd, addr, len) : real(fd, addr, len);
}

EXPORT int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	REAL(int, getpeername, int, struct sockaddr *, socklen_t *);
	return stream(fd) ? flat_getpeername(fd, addr, len) : real(fd, addr, len);
}

/*
 * --- libc's second names of some of these ---
 *
 * No header declares them. What must reach libc whoever else has the first name calls these: so each goes on to its own next one.
 */

int __close(int fd);
int __connect(int fd, const struct sockaddr *addr, socklen_t len);
int __dup2(int fd, int to);
int __fcntl(int fd, int cmd, ...);
int __poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __read(int fd, void *buf, size_t len);
int __select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout);
ssize_t __send(int fd, const void *buf, size_t len, int flags);
ssize_t __write(int fd, const void *buf, size_t len);

EXPORT int __close(int fd)
{
	REAL(int, __close, int);
	return mine(fd) ? flat_close(fd) : real(fd);
}

EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	REAL(int, __connect, int, const struct sockaddr *, socklen_t);
	return mine(fd) ? flat_connect(fd, addr, len) : real(fd, addr, len);
}

EXPORT int __dup2(int fd, int to)
{
	REAL(int, __dup2, int, int);
	return mine(fd) || mine(to) ? flat_dup2(fd, to) : real(fd, to);
}

EXPORT int __fcntl(int fd, int cmd, ...)
{
	REAL(int, __fcntl, int, int, ...);
	va_list ap;
	va_start(ap, cmd);
	long arg = fcntl_arg(ap);
	va_end(ap);
	return mine(fd) ? flat_fcntl(fd, cmd, arg) : real(fd, cmd, arg);
}

EXPORT int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
	REAL(int, __poll, struct pollfd *, nfds_t, int);
	return any_mine(fds, n) ? flat_poll(fds, n, timeout) : real(fds, n, timeout);
}

EXPORT ssize_t __read(int fd, void *buf, size_t len)
{
	REAL(ssize_t, __read, int, void *, size_t);
	return blocking(fd) ? flat_read(fd, buf, len) : real(fd, buf, len);
}

EXPORT int __select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	REAL(int, __select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
	return flat_fd_count ? flat_select(n, r, w, x, timeout) : real(n, r, w, x, timeout);
}

EXPORT ssize_t __send(int fd, const void *buf, size_t len, int flags)
{
	REAL(ssize_t, __send, int, const void *, size_t, int);
	return blocking(fd) ? flat_send(fd, buf, len, flags) : real(fd, buf, len, flags);
}

EXPORT ssize_t __write(int fd, const void *buf, size_t len)
{
	REAL(ssize_t, __write, int, const void *, size_t);
	return blocking(fd) ? flat_write(fd, buf, len) : real(fd, buf, len);
}
