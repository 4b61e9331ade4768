/*
 * Sockets through virtual queues, with the contracts of the libc calls they are named after.
 *
 * Each call takes any descriptor: one that libflat carries is served by its virtual queue, every other one goes to
 * the kernel unchanged. Results and errors are those of the libc call on a Linux TCP socket: -1 and errno on
 * failure. In addition connect() fails with EACCES when the mesh's policy refuses the connection; the reason is in
 * flatd's log and in `flatctl why`.
 *
 * Any thread may call; several may use one socket at the same time, as with the kernel. After fork() both
 * processes may go on. Blocking calls are interrupted by signals as the kernel's are.
 */
#ifndef FLAT_SOCKET_H
#define FLAT_SOCKET_H

#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <flat/flat.h>

FLAT_BEGIN_DECLS

/* Seen by strict C11 callers too, for whom <netdb.h> and <sys/socket.h> hide them. */
struct addrinfo;
struct mmsghdr;

/** socket(2). An AF_INET or AF_INET6 stream becomes a flat socket when it connects or listens in the mesh. */
FLAT_API int flat_socket(int domain, int type, int protocol);
FLAT_API int flat_bind(int fd, const struct sockaddr *addr, socklen_t len);
FLAT_API int flat_listen(int fd, int backlog);
FLAT_API int flat_accept(int fd, struct sockaddr *addr, socklen_t *len);
FLAT_API int flat_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
FLAT_API int flat_connect(int fd, const struct sockaddr *addr, socklen_t len);
FLAT_API int flat_shutdown(int fd, int how);
FLAT_API int flat_close(int fd);
FLAT_API int flat_close_range(unsigned int first, unsigned int last, int flags);

FLAT_API int flat_dup(int fd);
FLAT_API int flat_dup2(int fd, int to);
FLAT_API int flat_dup3(int fd, int to, int flags);
/** fcntl(2); `arg` is the third argument, 0 where the command has none. */
FLAT_API int flat_fcntl(int fd, int cmd, long arg);
/** ioctl(2); `arg` as the request wants it. */
FLAT_API int flat_ioctl(int fd, unsigned long request, void *arg);

FLAT_API ssize_t flat_send(int fd, const void *buf, size_t len, int flags);
FLAT_API ssize_t flat_sendto(int fd, const void *buf, size_t len, int flags,
			     const struct sockaddr *to, socklen_t to_len);
FLAT_API ssize_t flat_sendmsg(int fd, const struct msghdr *msg, int flags);
FLAT_API int flat_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags);
FLAT_API ssize_t flat_write(int fd, const void *buf, size_t len);
FLAT_API ssize_t flat_writev(int fd, const struct iovec *iov, int n);
FLAT_API ssize_t flat_recv(int fd, void *buf, size_t len, int flags);
FLAT_API ssize_t flat_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
			       socklen_t *from_len);
FLAT_API ssize_t flat_recvmsg(int fd, struct msghdr *msg, int flags);
FLAT_API int flat_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags,
			   struct timespec *timeout);
FLAT_API ssize_t flat_read(int fd, void *buf, size_t len);
FLAT_API ssize_t flat_readv(int fd, const struct iovec *iov, int n);
FLAT_API ssize_t flat_sendfile(int out_fd, int in_fd, off_t *offset, size_t count);
FLAT_API ssize_t flat_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t len,
			     unsigned int flags);

FLAT_API int flat_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
FLAT_API int flat_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			const sigset_t *mask);
FLAT_API int flat_select(int n, fd_set *read_fds, fd_set *write_fds, fd_set *except_fds,
			 struct timeval *timeout);
FLAT_API int flat_pselect(int n, fd_set *read_fds, fd_set *write_fds, fd_set *except_fds,
			  const struct timespec *timeout, const sigset_t *mask);
FLAT_API int flat_epoll_create1(int flags);
FLAT_API int flat_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
FLAT_API int flat_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms);
FLAT_API int flat_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout_ms,
			      const sigset_t *mask);
FLAT_API int flat_epoll_pwait2(int epfd, struct epoll_event *events, int max,
			       const struct timespec *timeout, const sigset_t *mask);

FLAT_API int flat_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
FLAT_API int flat_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
FLAT_API int flat_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
FLAT_API int flat_getpeername(int fd, struct sockaddr *addr, socklen_t *len);

/**
 * getaddrinfo(3) that knows the mesh's names; every other name goes to libc. Results are freed with
 * flat_freeaddrinfo(), whoever made them.
 */
FLAT_API int flat_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			      struct addrinfo **res);
FLAT_API void flat_freeaddrinfo(struct addrinfo *res);

/* --- zero copy --- */

/**
 * Room in the transmit ring of a connected flat socket, in at most two pieces.
 *
 * @param fd    flat socket, connected.
 * @param want  bytes wanted, 1 or more; fewer may be given, never 0 on success.
 * @param iov   two entries, filled with writable memory that stays valid until the commit.
 * @param flags 0, MSG_DONTWAIT, MSG_NOSIGNAL.
 * @return      count of entries filled, 1 or 2. -1 with EAGAIN (no room and not to wait), EPIPE,
 *              ECONNRESET, ENOTCONN, EBADF, EOPNOTSUPP (a kernel socket: use flat_send()).
 *
 * Between reserve and commit no other thread may send on the socket. Reserving again forgets the first.
 */
FLAT_API int flat_send_reserve(int fd, size_t want, struct iovec iov[2], int flags);

/** Sends the first `len` bytes of what was reserved. 0 bytes gives it back. @return 0, or -1 (EINVAL: more than reserved). */
FLAT_API int flat_send_commit(int fd, size_t len);

/**
 * The received bytes in place, in at most two pieces.
 *
 * @return bytes in the pieces; 0: the peer has ended; -1 with EAGAIN, ECONNRESET, ENOTCONN, EBADF, EOPNOTSUPP.
 *
 * The memory is the peer's: it may change under a reader while the peer is hostile. Copy what you check.
 * It stays in place until flat_recv_release().
 */
FLAT_API ssize_t flat_recv_view(int fd, struct iovec iov[2], int *n_iov, int flags);

/** Gives the first `len` viewed bytes back. @return 0, or -1 (EINVAL: more than was viewed). */
FLAT_API int flat_recv_release(int fd, size_t len);

FLAT_END_DECLS

#endif
