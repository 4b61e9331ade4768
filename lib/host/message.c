/* Bytes of a connected flat socket in pieces and messages: readv, writev, sendmsg, recvmsg, sendmmsg, recvmmsg. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "host/bell.h"
#include "host/share.h"
#include "host/stream.h"
#include "host/user.h"

/* Looked at before anything moves, as the kernel copies it in. */
static ssize_t check_vector(const struct iovec *iov, size_t n)
{
	if (n > IOV_MAX)
		return -EMSGSIZE;
	if (!flat_user_possible(iov, n * sizeof(*iov)))
		return -EFAULT;
	for (size_t i = 0; i < n; i++) {
		if ((ssize_t)iov[i].iov_len < 0)
			return -EINVAL;
		if (iov[i].iov_len > (size_t)SSIZE_MAX / 2)
			return -EFAULT;
	}
	return 0;
}

/* Up to what the kernel takes in one call, MAX_RW_COUNT. */
static size_t length(const struct iovec *iov, size_t n)
{
	const size_t most = 0x7ffff000;
	size_t len = 0;
	for (size_t i = 0; i < n && len < most; i++)
		len = flat_min_size(len + iov[i].iov_len, most);
	return len;
}

/* A look at the same bytes by one call, of which there may be fewer than asked for. */
static ssize_t peek_vector(int fd, struct flat_sock *s, const struct iovec *iov, size_t n,
			   int flags)
{
	char buf[16384];
	size_t len = 0;
	for (size_t i = 0; i < n && len < sizeof(buf); i++)
		len += flat_min_size(iov[i].iov_len, sizeof(buf) - len);
	ssize_t got = flat_stream_recv(s, fd, buf, len, flags);
	size_t at = 0;
	for (size_t i = 0; i < n && got > 0 && at < (size_t)got; i++) {
		size_t part = flat_min_size(iov[i].iov_len, (size_t)got - at);
		memcpy(iov[i].iov_base, buf + at, part);
		at += part;
	}
	return got;
}

/*
 * A short vector is seen whole by whoever waits for it, as a segment of TCP's is: sent piece by piece the first one would wake
 * the reader. What cannot be read ends it, as in the kernel.
 */
#define GATHER_MAX ((size_t)4096) /* on the stack, which may be the least that a thread can have */

static ssize_t send_gathered(int fd, struct flat_sock *s, const struct iovec *iov, size_t n,
			     int flags)
{
	char buf[GATHER_MAX];
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0 && !flat_user_possible(iov[i].iov_base, 1)) {
			if (len == 0)
				return -EFAULT;
			break;
		}
		if (iov[i].iov_len > 0)
			memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return flat_stream_send(s, fd, buf, len, flags);
}

/* Piece by piece, as one call. Stops where less than a piece came. */
static ssize_t recv_pieces(struct flat_call *c, const struct iovec *iov, size_t n, int flags)
{
	ssize_t got = 0;
	for (size_t i = 0; i < n; i++) {
		if (iov[i].iov_len == 0)
			continue;
		got = flat_call_recv(c, iov[i].iov_base, iov[i].iov_len, flags);
		c->before += got > 0 ? (size_t)got : 0;
		if (got < 0 || (size_t)got < iov[i].iov_len)
			break;
	}
	return flat_call_over(c, c->before > 0 ? (ssize_t)c->before : got);
}

/* Up to the first piece that cannot be read, and no more than `len`. */
static size_t readable(const struct iovec *iov, size_t n, size_t len)
{
	size_t got = 0;
	for (size_t i = 0; i < n && got < len; got += iov[i++].iov_len)
		if (iov[i].iov_len > 0 && !flat_user_possible(iov[i].iov_base, 1))
			break;
	return flat_min_size(got, len);
}

/*
 * As one call. What there is room for goes at once, as a segment of TCP's does: sent piece by piece the first one would wake the
 * reader. Where there is none, one piece waits for it. Stops where less than that went.
 */
static ssize_t send_pieces(struct flat_call *c, const struct iovec *iov, size_t n, size_t len,
			   int flags)
{
	const size_t most = readable(iov, n, len);
	ssize_t got = 0;
	size_t skip = 0; /* of iov[i] */
	size_t i = 0;
	for (;;) {
		size_t now = n > 1 && c->before < most
				 ? flat_call_send_at_once(c, iov + i, skip, most - c->before, flags)
				 : 0;
		c->before += now;
		skip += now;
		while (i < n && skip >= iov[i].iov_len)
			skip -= iov[i++].iov_len;
		if (i == n || c->before == len)
			break;
		size_t left = flat_min_size(iov[i].iov_len - skip, len - c->before);
		/* Of all bytes the last one is urgent. */
		int how = c->before + left < len ? flags & ~MSG_OOB : flags;
		got = flat_call_send(c, (const uint8_t *)iov[i].iov_base + skip, left, how);
		c->before += got > 0 ? (size_t)got : 0;
		if (got < 0 || (size_t)got < left)
			break;
		skip += left;
	}
	return flat_call_over(c, c->before > 0 ? (ssize_t)c->before : got);
}

static ssize_t send_vector(int fd, struct flat_sock *s, const struct iovec *iov, size_t n,
			   int flags)
{
	struct flat_call c;
	ssize_t done = check_vector(iov, n);
	if (done == 0 && s->kind == FLAT_FD_LISTENER)
		done = flat_broken_pipe(flags);
	if (done == 0 && flat_unlikely(flags & MSG_OOB) && !s->urgent)
		done = -EOPNOTSUPP;
	if (done != 0)
		return done;
	size_t len = length(iov, n);
	if (len == 0 || (n > 1 && len <= GATHER_MAX))
		return send_gathered(fd, s, iov, n, flags);
	flat_call_begin(&c, s, fd, 0);
	/* One call, one completion. */
	done = send_pieces(&c, iov, n, len, flags & ~MSG_ZEROCOPY);
	if (flat_unlikely((flags & MSG_ZEROCOPY) && s->zerocopy) && done > 0)
		flat_errqueue_sent(s);
	return done;
}

static ssize_t recv_vector(int fd, struct flat_sock *s, const struct iovec *iov, size_t n,
			   int flags)
{
	ssize_t done = check_vector(iov, n);
	if (done == 0 && s->kind == FLAT_FD_LISTENER)
		done = flags & MSG_ERRQUEUE ? -EAGAIN : -ENOTCONN;
	if (done != 0)
		return done;
	struct flat_call c;
	flat_call_begin(&c, s, fd, length(iov, n));
	/* Of no bytes it waits for some nevertheless. */
	if (c.whole == 0)
		return flat_stream_recv(s, fd, NULL, 0, flags);
	if (flat_unlikely((flags & MSG_PEEK) && n > 1))
		return peek_vector(fd, s, iov, n, flags);
	done = recv_pieces(&c, iov, n, flags);
	if (done > 0)
		flat_gather_took(s, (size_t)done, c.gathered);
	return done;
}

/* readv() and writev() of no bytes ask nobody. 1: there are some. */
static ssize_t some_bytes(const struct iovec *iov, int n)
{
	ssize_t err = n < 0 || n > IOV_MAX ? -EINVAL : check_vector(iov, (size_t)n);
	return err ? err : length(iov, (size_t)n) > 0;
}

ssize_t flat_writev(int fd, const struct iovec *iov, int n)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return flat_result(FLAT_SYS3(SYS_writev, fd, iov, n));
	ssize_t err = some_bytes(iov, n);
	return flat_result(err <= 0 ? err : send_vector(fd, s, iov, (size_t)n, 0));
}

ssize_t flat_readv(int fd, const struct iovec *iov, int n)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return flat_result(FLAT_SYS3(SYS_readv, fd, iov, n));
	ssize_t err = some_bytes(iov, n);
	return flat_result(err <= 0 ? err : recv_vector(fd, s, iov, (size_t)n, 0));
}

/* __sock_cmsg_send() of net/core/sock.c, of whoever may set a mark. */
static bool takes_control(const struct cmsghdr *c)
{
	if (c->cmsg_level != SOL_SOCKET || c->cmsg_type == SCM_RIGHTS ||
	    c->cmsg_type == SCM_CREDENTIALS)
		return true;
	return (c->cmsg_type == SO_MARK || c->cmsg_type == SO_TIMESTAMPING) &&
	       c->cmsg_len == CMSG_LEN(sizeof(uint32_t));
}

/* Control data for a stream: what TCP takes is taken and means nothing here. */
static ssize_t check_control(const struct msghdr *msg)
{
	const size_t head = sizeof(struct cmsghdr);
	size_t left = msg->msg_controllen;
	const uint8_t *at = msg->msg_control;
	if (left > INT_MAX)
		return -ENOBUFS;
	if (!flat_user_possible(at, left))
		return -EFAULT;
	while (left >= head) {
		struct cmsghdr c;
		memcpy(&c, at, head);
		if (c.cmsg_len < head || c.cmsg_len > left)
			return -EINVAL;
		if (!takes_control(&c))
			return -EINVAL;
		size_t step = CMSG_ALIGN(c.cmsg_len);
		if (step >= left)
			break;
		at += step;
		left -= step;
	}
	return 0;
}

/* A negative errno. */
static ssize_t send_message(struct flat_sock *s, int fd, const struct msghdr *msg, int flags)
{
	if (!flat_user_possible(msg, sizeof(*msg)))
		return -EFAULT;
	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	ssize_t err = 0;
	if (flat_unlikely(msg->msg_name != NULL))
		err = flat_stream_check_name(msg->msg_name,
					     msg->msg_namelen < sizeof(struct sockaddr_storage)
						 ? msg->msg_namelen
						 : sizeof(struct sockaddr_storage));
	if (err == 0 && msg->msg_controllen)
		err = check_control(msg);
	if (err == 0 && flat_unlikely(flags & MSG_FASTOPEN))
		err = -EISCONN;
	return err ? err : send_vector(fd, s, msg->msg_iov, msg->msg_iovlen, flags);
}

ssize_t flat_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s && flat_unlikely(flags & MSG_FASTOPEN) && flat_user_possible(msg, sizeof(*msg)) &&
	    flat_connect_meshed(fd, msg->msg_name, msg->msg_namelen)) {
		struct msghdr rest = *msg;
		if (flat_connect(fd, msg->msg_name, msg->msg_namelen) != 0)
			return -1;
		rest.msg_name = NULL;
		return flat_sendmsg(fd, &rest, flags & ~MSG_FASTOPEN);
	}
	if (!s)
		return flat_result(flat_sys_sendmsg(fd, msg, flags));
	return flat_result(send_message(s, fd, msg, flags));
}

/* A negative errno, after which nothing of *msg has changed. */
static ssize_t receive_message(struct flat_sock *s, int fd, struct msghdr *msg, int flags)
{
	if (!flat_user_possible(msg, sizeof(*msg)))
		return -EFAULT;
	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	if (flat_unlikely(flags & MSG_ERRQUEUE) && s->kind == FLAT_FD_STREAM)
		return flat_errqueue_take(s, msg);
	ssize_t n = recv_vector(fd, s, msg->msg_iov, msg->msg_iovlen, flags);
	if (n < 0)
		return n;
	if (msg->msg_name)
		msg->msg_namelen = 0;
	size_t room = msg->msg_control ? msg->msg_controllen : 0;
	msg->msg_controllen = 0;
	msg->msg_flags = flags & (MSG_CMSG_CLOEXEC | MSG_OOB);
	if (flat_unlikely(flags & MSG_OOB) && n == 0)
		msg->msg_flags |= MSG_TRUNC;
	if (s->inq && room > 0 && s->kind == FLAT_FD_STREAM)
		flat_option_tell_inq(s, msg, room);
	return n;
}

ssize_t flat_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return flat_result(flat_sys_recvmsg(fd, msg, flags));
	return flat_result(receive_message(s, fd, msg, flags));
}

int flat_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(FLAT_SYS4(SYS_sendmmsg, fd, msgs, n, flags));
	n = n > IOV_MAX ? IOV_MAX : n;
	if (!flat_user_possible(msgs, n * sizeof(*msgs)))
		return (int)flat_result(-EFAULT);
	for (unsigned int i = 0; i < n; i++) {
		ssize_t got = send_message(s, fd, &msgs[i].msg_hdr, flags);
		if (got < 0)
			return (int)(i ? (long)i : flat_result(got));
		msgs[i].msg_len = (unsigned int)got;
	}
	return (int)n;
}

/* Into msgs, until one fails or the time is over, which is looked at after each: net/socket.c, do_recvmmsg(). Their count. */
static int receive_messages(struct flat_sock *s, int fd, struct mmsghdr *msgs, unsigned int n,
			    int flags, struct timespec *left)
{
	const int64_t second = 1000000000;
	const bool bounded = left && left->tv_sec < INT32_MAX;
	int64_t end = bounded ? flat_now_ns() + left->tv_sec * second + left->tv_nsec : 0;
	unsigned int i = 0;
	while (i < n) {
		int more = i && (flags & MSG_WAITFORONE) ? MSG_DONTWAIT : 0;
		ssize_t got =
		    receive_message(s, fd, &msgs[i].msg_hdr, (flags & ~MSG_WAITFORONE) | more);
		if (got < 0 && i == 0)
			return (int)got;
		/* For the next call to tell. */
		if (got < 0 && got != -EAGAIN && got != -EINTR)
			atomic_store(&s->error, (int)-got);
		if (got < 0)
			break;
		msgs[i++].msg_len = (unsigned int)got;
		if (!bounded)
			continue;
		int64_t ns = end - flat_now_ns();
		ns = ns > 0 ? ns : 0;
		*left = (struct timespec){ns / second, ns % second};
		if (ns == 0)
			break;
	}
	return (int)i;
}

int flat_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(FLAT_SYS5(SYS_recvmmsg, fd, msgs, n, flags, timeout));
	if (!flat_user_possible(timeout, timeout ? sizeof(*timeout) : 0))
		return (int)flat_result(-EFAULT);
	if (flat_user_bad_time(timeout))
		return (int)flat_result(-EINVAL);
	n = n > IOV_MAX ? IOV_MAX : n;
	if (!flat_user_possible(msgs, n * sizeof(*msgs)))
		return (int)flat_result(-EFAULT);
	int error =
	    s->kind == FLAT_FD_STREAM && !(flags & MSG_ERRQUEUE) ? flat_stream_take_error(s) : 0;
	return (int)flat_result(error ? -error : receive_messages(s, fd, msgs, n, flags, timeout));
}
