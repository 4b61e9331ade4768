/* Bytes of a connected flat socket: send, receive, shut down, end. */
#include "host/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "host/bell.h"
#include "host/lanes.h"
#include "host/option.h"
#include "host/pool.h"
#include "host/share.h"
#include "host/urgent.h"
#include "host/user.h"

struct flat_sock *flat_stream_new(const struct flat_msg_conn *m, struct flat_lane_use *lane,
				  int bell)
{
	struct flat_sock *s = flat_sock_new(FLAT_FD_STREAM);
	if (!s)
		return NULL;
	s->bell_fd = flat_fd_private(bell);
	s->conn_id = m->conn_id;
	s->side = (uint8_t)m->side;
	s->local = m->local;
	s->peer = m->peer;
	s->domain = m->local.family;
	s->lane = lane;
	atomic_store(&s->pending, (m->flags & FLAT_CONN_CONNECTING) != 0);
	s->direct = m->path == FLAT_CONN_DIRECT;
	s->urgent = s->direct || (m->flags & FLAT_CONN_URGENT);
	s->sealed = m->path == FLAT_CONN_FORWARDED && m->side == FLAT_SIDE_CLIENT;
	flat_vq_init(&s->vq, &flat_vq_shm, &lane->lane, m->slot, (enum flat_side)m->side, -1,
		     s->bell_fd);
	s->vq.rx.halts = 1;
	s->reign = flat_session_reign(m->conn_id);
	uint64_t word = flat_session_reign_word(s->reign);
	/* One that is over already is looked at by the first call. */
	atomic_store(&s->seen_reign, flat_directory_over(word) ? UINT64_MAX : word);
	return s;
}

/* For MSG_PEEK of more than there was: bytes that the last look of this thread found. */
static __thread ssize_t seen;

static bool more_than_seen(struct flat_sock *s)
{
	return flat_share_pending(s) != seen || flat_stream_ended(s);
}

/* Looks for a while, then sleeps. 0: look again; or as send() and recv() end: -EAGAIN, -EINTR. */
static int wait_until(struct flat_call *c, bool tx, bool (*ready)(struct flat_sock *))
{
	struct flat_sock *s = c->s;
	struct flat_wait w;
	if (!c->slept) {
		c->sleeper = (struct flat_sleeper){.then = flat_signals_ran()};
		c->slept = flat_bell_hold(s);
	}
	/* Another thread closed it before, or while it sleeps: then the number may be somebody else's connection by now. */
	int fd = c->slept ? flat_sock_anchor(s, c->fd) : -EBADF;
	if (flat_unlikely(fd < 0))
		return fd;
	c->fd = fd;
	flat_wait_begin(&w);
	do {
		if (ready(s)) {
			flat_wait_end(&w, true);
			return 0;
		}
	} while (flat_wait_again(&w));
	enum flat_signals came = flat_wait_end(&w, false);
	if (flat_bell_interrupted(came, s, c->fd, tx))
		return -EINTR;
	return flat_bell_sleep(s, c->fd, tx, ready, &c->sleeper);
}

static int wait_for(struct flat_call *c, bool tx)
{
	return wait_until(c, tx, tx ? flat_stream_writable : flat_stream_readable);
}

ssize_t flat_call_over(struct flat_call *c, ssize_t result)
{
	if (c->slept)
		flat_bell_let_go(c->s);
	return result;
}

/*
 * A non-blocking call found nothing, and the program may be about to wait in a way that no hook sees: a bell it shall
 * be, on an anchor that is not readable before. Waits for bytes that we know of arm for themselves; those for room
 * rely on this one (EPOLLOUT is rarely waited for, and asking the peer each time would wake for nothing).
 */
static bool nothing_there(struct flat_sock *s, int fd, bool tx)
{
	bool watched =
	    atomic_load_explicit(&s->waiters, memory_order_relaxed) > (uint32_t)flat_shared(s);
	if (!watched)
		flat_bell_clear(s, fd);
	if (tx)
		flat_vq_arm_tx(&s->vq, FLAT_ARM_BELL);
	else if (!watched)
		flat_bell_left(s);
	return !(tx ? flat_stream_writable(s) : flat_stream_readable(s));
}

/* A signal to whom F_SETOWN names, as the kernel sends it for a file of his. */
static void tell_owner(int fd)
{
	struct flat_file_owner o;
	flat_file_owner(fd, &o);
	if (o.who.pid == 0)
		return;
	int sig = o.sig ? o.sig : SIGIO;
	if (o.who.type == F_OWNER_TID)
		FLAT_SYS2(SYS_tkill, o.who.pid, sig);
	else
		FLAT_SYS2(SYS_kill, o.who.type == F_OWNER_PGRP ? -o.who.pid : o.who.pid, sig);
}

void flat_stream_signals(struct flat_sock *s, int fd, bool on)
{
	atomic_store(&s->async, on);
	if (on && s->kind == FLAT_FD_STREAM)
		(void)nothing_there(s, fd, false);
}

/*
 * Who has O_ASYNC has taken bytes, and may wait for the next ones by signal alone: the bell is armed. Whether the call goes on:
 * bytes that came before it was belong to a call with room for them; of what is left to others nobody knows when it came.
 */
static bool signals_next(struct flat_sock *s, int fd, bool room)
{
	if (flat_likely(!atomic_load_explicit(&s->async, memory_order_relaxed)) ||
	    nothing_there(s, fd, false))
		return false;
	if (!room)
		tell_owner(fd);
	return room;
}

ssize_t flat_broken_pipe(int flags)
{
	if (!(flags & MSG_NOSIGNAL))
		FLAT_SYS3(SYS_tgkill, flat_sys_getpid(), flat_tid(), SIGPIPE);
	return -EPIPE;
}

/* One that is held and has shut both ways: the reset comes of bytes that reach it, and without room none do. */
static bool peer_resets(struct flat_sock *s)
{
	enum flat_deaf deaf = flat_vq_peer_deaf(&s->vq);
	return flat_unlikely(deaf != FLAT_DEAF_NOT) &&
	       (deaf == FLAT_DEAF_GONE || flat_share_space(s) != 0);
}

bool flat_stream_may_send(struct flat_sock *s, int fd)
{
	flat_stream_check_reign(s, fd);
	return flat_likely(!peer_resets(s) && !(flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_RST) &&
			   !atomic_load(&s->wr_shut) && !atomic_load(&s->dead) &&
			   !atomic_load(&s->error));
}

/*
 * Bytes for a peer that takes none: as with the kernel both ends know it from then on, a peer that is still held as well. False: they
 * do already.
 */
static bool lose(struct flat_sock *s)
{
	if (atomic_exchange(&s->lost, 1))
		return false;
	flat_vq_end_tx(&s->vq, FLAT_PROD_RST);
	return true;
}

/* Whether no more may be sent: 0, or the error; 1: what is sent now is lost, and the sender learns it after the first bytes. */
static ssize_t send_state(struct flat_sock *s, int fd, int flags, bool bytes)
{
	if (flat_stream_may_send(s, fd))
		return 0;
	int error = flat_stream_take_error(s);
	if (error && error != EPIPE)
		return -error;
	/* Nobody is there: as with the kernel it is the first send that brings the reset. */
	if (!error && flat_stream_state(s) != TCP_CLOSE && !atomic_load(&s->wr_shut) &&
	    (!bytes || lose(s)))
		return 1;
	return flat_broken_pipe(flags);
}

/* Of bytes nobody will read: tcp_sendmsg_locked() looks at a reset that came meanwhile after 16 buffers of 32 KiB. */
#define LOST_MAX ((size_t)16 * 32768)

static bool no_wait(const struct flat_sock *s, int flags)
{
	return (flags & MSG_DONTWAIT) || atomic_load_explicit(&s->nonblock, memory_order_relaxed);
}

static inline ssize_t put(struct flat_sock *s, const void *buf, size_t len, int flags)
{
	return flat_unlikely(flags & MSG_OOB) ? flat_ring_write_urgent(&s->vq.tx, buf, len)
					      : flat_ring_write(&s->vq.tx, buf, len);
}

/* Inlined: send() and recv() of one piece are nothing else. */
__attribute__((always_inline)) static inline ssize_t send_all(struct flat_call *c, const void *buf,
							      size_t len, int flags)
{
	struct flat_sock *s = c->s;
	int fd = c->fd;
	size_t done = 0;
	if (flat_unlikely(flags & MSG_OOB) && !s->urgent)
		return -EOPNOTSUPP;
	do {
		/* What ended it meanwhile is for the next call to tell. */
		if (c->before + done > 0 && !flat_stream_may_send(s, fd))
			return (ssize_t)done;
		ssize_t n = send_state(s, fd, flags, len > 0);
		/* It waited behind bytes that brought the reset before. */
		if (flat_unlikely(n == 1) && c->slept)
			n = send_state(s, fd, flags, true);
		if (n == 1)
			return (ssize_t)flat_min_size(len, LOST_MAX);
		if (n == 0 && len > 0 && flat_unlikely(!flat_user_possible(buf, 1)))
			n = -EFAULT;
		if (n == 0 && len > 0 && !flat_stream_connecting(s)) {
			n = flat_share_begin(s, fd, true);
			if (n == 0)
				n = put(s, (const uint8_t *)buf + done, len - done, flags);
			flat_share_end(s, fd, true);
			if (n > 0) {
				flat_vq_notify_data(&s->vq);
				if (flat_unlikely(flags & MSG_OOB) && s->direct)
					flat_vq_urge(&s->vq);
				flat_gather_sent(s);
			}
			if (n == -EPROTO) {
				atomic_store(&s->error, ECONNRESET);
				n = -ECONNRESET;
			}
		}
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
		if (done >= len)
			break;
		if (n > 0)
			continue;
		if (no_wait(s, flags)) {
			atomic_store(&s->tx_blocked, 1);
			if (!nothing_there(s, fd, true))
				continue;
			return done ? (ssize_t)done : -EAGAIN;
		}
		int err = wait_for(c, true);
		if (err < 0)
			return done ? (ssize_t)done : err;
		fd = c->fd;
	} while (done < len);
	return (ssize_t)done;
}

ssize_t flat_call_send(struct flat_call *c, const void *buf, size_t len, int flags)
{
	return send_all(c, buf, len, flags);
}

/* From where `skip` bytes of the vector end, into the pieces of a ring; as many as these hold. */
static void copy_vector(struct iovec to[2], const struct iovec *iov, size_t skip)
{
	for (int i = 0; i < 2; i++) {
		size_t at = 0;
		while (at < to[i].iov_len) {
			while (skip >= iov->iov_len)
				skip -= iov++->iov_len;
			size_t part = flat_min_size(iov->iov_len - skip, to[i].iov_len - at);
			memcpy((uint8_t *)to[i].iov_base + at,
			       (const uint8_t *)iov->iov_base + skip, part);
			at += part;
			skip += part;
		}
	}
}

size_t flat_call_send_at_once(const struct flat_call *c, const struct iovec *iov, size_t skip,
			      size_t len, int flags)
{
	struct flat_sock *s = c->s;
	struct iovec to[2] = {{0}};
	int n;
	if ((flags & MSG_OOB) || !flat_stream_may_send(s, c->fd) || flat_stream_connecting(s))
		return 0;
	ssize_t got = flat_share_begin(s, c->fd, true);
	if (got == 0)
		got = flat_ring_reserve(&s->vq.tx, len, to, &n);
	if (got > 0) {
		copy_vector(to, iov, skip);
		flat_ring_commit(&s->vq.tx, (size_t)got);
	}
	flat_share_end(s, c->fd, true);
	if (got <= 0)
		return 0;
	flat_vq_notify_data(&s->vq);
	flat_gather_sent(s);
	return (size_t)got;
}

ssize_t flat_stream_send(struct flat_sock *s, int fd, const void *buf, size_t len, int flags)
{
	struct flat_call c;
	flat_call_begin(&c, s, fd, 0);
	ssize_t n = flat_call_over(&c, send_all(&c, buf, len, flags));
	if (flat_unlikely((flags & MSG_ZEROCOPY) && s->zerocopy && n > 0))
		flat_errqueue_sent(s);
	return n;
}

/*
 * Nothing to read: 0 for the end, -EAGAIN, or the error. As tcp_recvmsg(): after a FIN it is the end, whatever came then. `some`:
 * the call has bytes already, and an error is for the next one to tell.
 */
static ssize_t nothing_to_read(struct flat_sock *s, uint32_t prod, bool some)
{
	/* A cut is no end, even where the peer, cut as well, has closed since. */
	if ((prod & FLAT_PROD_FIN) && !flat_prod_is_cut(prod))
		return 0;
	int error = some ? flat_stream_error(s) : flat_stream_take_error(s);
	if (error)
		return some ? 0 : -error;
	return (prod & FLAT_PROD_RST) || atomic_load(&s->rd_shut) || atomic_load(&s->dead)
		   ? 0
		   : -EAGAIN;
}

/* One look. Bytes, 0 for the end (or for no bytes wanted and some there), -EAGAIN for nothing. */
static ssize_t take(const struct flat_call *c, void *buf, size_t len, int flags, bool some)
{
	struct flat_sock *s = c->s;
	int fd = c->fd;
	/* Flags before bytes: after FIN no byte follows. */
	uint32_t prod = flat_vq_peer_prod_flags(&s->vq);
	if (flat_unlikely(flat_stream_void(s)))
		return nothing_to_read(s, prod, some);
	if (flat_unlikely(len == 0 || !flat_user_possible(buf, 1)))
		return flat_share_moved(s) ? (len ? -EFAULT : 0) : nothing_to_read(s, prod, some);
	ssize_t n = flat_share_begin(s, fd, false);
	if (n == 0)
		n = flat_ring_read(&s->vq.rx, buf, len, !(flags & MSG_PEEK));
	if (flat_unlikely(n == 0 && flat_ring_marked(&s->vq.rx)))
		n = flat_urgent_read_on(s, buf, len, flags, some);
	flat_share_end(s, fd, false);
	if (n > 0) {
		if (!(flags & MSG_PEEK))
			flat_vq_notify_room(&s->vq);
		return n;
	}
	if (n == FLAT_AT_URGENT)
		return n;
	if (n < 0) {
		atomic_store(&s->dead, 1);
		atomic_store(&s->error, ECONNRESET);
	}
	return nothing_to_read(s, prod, some);
}

/* Fewer bytes than this are waited for: sock_rcvlowat(). */
static size_t target(const struct flat_sock *s, size_t len, int flags)
{
	size_t want = s->rcvlowat > 1 ? (size_t)s->rcvlowat : 1;
	return flags & MSG_WAITALL ? len : flat_min_size(want, len);
}

/* MSG_PEEK, which takes nothing away: looks at it all anew until it is enough, or will not be more. */
static ssize_t peek_all(struct flat_call *c, void *buf, size_t len, int flags)
{
	struct flat_sock *s = c->s;
	size_t want = flat_min_size(target(s, len, flags), s->vq.rx.mask[FLAT_RING_BULK]);
	for (;;) {
		bool ended = flat_stream_ended(s);
		ssize_t n = take(c, buf, len, flags, false);
		/* What is skipped, or not looked beyond, is there and is not seen. */
		bool urgent = flat_urgent_marked(s) && flat_urgent_stands(s);
		if (n == -EAGAIN
			? no_wait(s, flags) && (urgent || nothing_there(s, c->fd, false))
			: n < 0 || (size_t)n >= want || ended || urgent || no_wait(s, flags))
			return n;
		seen = n < 0 ? urgent : n;
		int err = wait_until(c, false, more_than_seen);
		if (err < 0)
			return n > 0 ? n : err;
	}
}

__attribute__((always_inline)) static inline ssize_t recv_all(struct flat_call *c, void *buf,
							      size_t len, int flags)
{
	struct flat_sock *s = c->s;
	size_t done = 0;
	const size_t want = target(s, c->whole, flags);
	char sink[4096];
	/* MSG_TRUNC on TCP: throw away without copying to the caller. */
	bool away = (flags & MSG_TRUNC) != 0;
	if (flags & MSG_ERRQUEUE)
		return flat_errqueue_take(s, NULL);
	flat_stream_check_reign(s, c->fd);
	if (flat_unlikely(flags & MSG_OOB))
		return flat_urgent_recv(s, c->fd, buf, len, flags);
	if (flat_unlikely((flags & MSG_PEEK) && !away && len > 0))
		return peek_all(c, buf, len, flags);
	if (c->before == 0)
		c->gathered = flat_gather(s, c->whole);
	for (;;) {
		bool some = c->before + done > 0;
		ssize_t n =
		    take(c, away ? sink : (char *)buf + done,
			 away ? flat_min_size(len - done, sizeof(sink)) : len - done, flags, some);
		if (n > 0) {
			done += (size_t)n;
			if (flags & MSG_PEEK)
				return (ssize_t)done;
			if ((done == len || (!away && c->before + done >= want)) &&
			    !signals_next(s, c->fd, done < len))
				return (ssize_t)done;
			continue;
		}
		if (flat_unlikely(n == FLAT_AT_URGENT))
			return (ssize_t)done;
		if (n != -EAGAIN)
			return done ? (ssize_t)done : n;
		if (some && c->before + done >= want)
			return (ssize_t)done;
		if (no_wait(s, flags)) {
			if (!nothing_there(s, c->fd, false))
				continue;
			return done ? (ssize_t)done : -EAGAIN;
		}
		int err = wait_for(c, false);
		if (err < 0)
			return done ? (ssize_t)done : err;
		flat_stream_check_reign(s, c->fd);
	}
}

ssize_t flat_call_recv(struct flat_call *c, void *buf, size_t len, int flags)
{
	return recv_all(c, buf, len, flags);
}

ssize_t flat_stream_recv(struct flat_sock *s, int fd, void *buf, size_t len, int flags)
{
	struct flat_call c;
	flat_call_begin(&c, s, fd, len);
	ssize_t n = recv_all(&c, buf, len, flags);
	if (n > 0)
		flat_gather_took(s, (size_t)n, c.gathered);
	return flat_call_over(&c, n);
}

/* --- the calls --- */

ssize_t flat_send(int fd, const void *buf, size_t len, int flags)
{
	return flat_sendto(fd, buf, len, flags, NULL, 0);
}

/*
 * A stream goes where it goes, and the address is looked at all the same: net/socket.c, move_addr_to_kernel(). That takes a system call,
 * which programs that name their peer with each send (sockperf) make once: one that was there is not asked for again.
 */
int flat_stream_check_name(const void *to, socklen_t len)
{
	static __thread const void *good;
	static __thread socklen_t good_len;
	struct sockaddr_storage ss;
	if (flat_likely(to == good && len <= good_len))
		return 0;
	if (len > sizeof(ss) || flat_user_get(&ss, to, len) != 0)
		return len > sizeof(ss) ? -EINVAL : -EFAULT;
	good = to;
	good_len = len;
	return 0;
}

ssize_t flat_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
		    socklen_t to_len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s && flat_unlikely(flags & MSG_FASTOPEN) && flat_connect_meshed(fd, to, to_len)) {
		/* Its first bytes are as fast as any. */
		if (flat_connect(fd, to, to_len) != 0)
			return -1;
		return flat_sendto(fd, buf, len, flags & ~MSG_FASTOPEN, NULL, 0);
	}
	if (!s)
		return flat_result(FLAT_SYS6(SYS_sendto, fd, buf, len, flags, to, to_len));
	ssize_t err = flat_unlikely(to != NULL) ? flat_stream_check_name(to, to_len) : 0;
	if (err == 0 && flat_unlikely(flags & MSG_FASTOPEN))
		err = -EISCONN;
	if (flat_unlikely(err != 0))
		return flat_result(err);
	err = s->kind == FLAT_FD_LISTENER ? flat_broken_pipe(flags) : 0;
	return flat_result(err ? err : flat_stream_send(s, fd, buf, len, flags));
}

ssize_t flat_write(int fd, const void *buf, size_t len)
{
	if (!flat_fd_sock(fd))
		return flat_result(flat_sys_write(fd, buf, len));
	return flat_send(fd, buf, len, 0);
}

ssize_t flat_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
		      socklen_t *from_len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return flat_result(FLAT_SYS6(SYS_recvfrom, fd, buf, len, flags, from, from_len));
	ssize_t n = s->kind == FLAT_FD_STREAM ? flat_stream_recv(s, fd, buf, len, flags)
		    : flags & MSG_ERRQUEUE    ? -EAGAIN
					      : -ENOTCONN;
	/* A stream names nobody; the kernel finds out when the bytes are already taken. */
	if (n >= 0 && from) {
		if (!flat_user_possible(from_len, sizeof(*from_len)))
			return flat_result(-EFAULT);
		if ((int)*from_len < 0)
			return flat_result(-EINVAL);
		*from_len = 0;
	}
	return flat_result(n);
}

ssize_t flat_recv(int fd, void *buf, size_t len, int flags)
{
	return flat_recvfrom(fd, buf, len, flags, NULL, NULL);
}

ssize_t flat_read(int fd, void *buf, size_t len)
{
	if (!flat_fd_sock(fd))
		return flat_result(flat_sys_read(fd, buf, len));
	/* read() of nothing asks nobody; recv() does. */
	return len == 0 ? 0 : flat_recv(fd, buf, len, 0);
}

/* net/ipv4/af_inet.c, inet_shutdown(): -ENOTCONN, and shut all the same, under each of its numbers. */
static int shut_candidate(int fd, int how)
{
	const uint16_t shut = how == SHUT_RD   ? FLAT_MARK_SHUT_RD
			      : how == SHUT_WR ? FLAT_MARK_SHUT_WR
					       : FLAT_MARK_SHUT_RD | FLAT_MARK_SHUT_WR;
	int err = flat_sys_shutdown(fd, how);
	if (err == -ENOTCONN)
		flat_fd_mark_each(fd, shut, true);
	return err;
}

int flat_shutdown(int fd, int how)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(shut_candidate(fd, how));
	if (how < SHUT_RD || how > SHUT_RDWR)
		return (int)flat_result(-EINVAL);
	if (s->kind == FLAT_FD_LISTENER) {
		if (how != SHUT_WR && !atomic_load(&s->rd_shut))
			return (int)flat_result(flat_listener_shut(fd, s));
		return 0;
	}
	return (int)flat_result(flat_stream_shutdown(s, how));
}

/* The other end has to be a pipe that is open in the right direction; a stream has no offsets. 0, -EBADF, -EINVAL. */
static int check_splice(int pipe, int mode, bool odd, unsigned int flags)
{
	int fl = flat_sys_fcntl(pipe, F_GETFL, 0);
	if (flags & ~0xfU)
		return -EINVAL;
	if (fl < 0)
		return -EBADF;
	if (odd || flat_sys_fcntl(pipe, F_GETPIPE_SZ, 0) < 0)
		return -EINVAL;
	return (fl & O_ACCMODE) == mode || (fl & O_ACCMODE) == O_RDWR ? 0 : -EBADF;
}

/* What a pipe has room for; waits until it has some. */
static ssize_t pipe_write(int fd, const void *buf, size_t len, bool wait)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		ssize_t n = FLAT_SYS6(SYS_pwritev2, fd, &iov, 1, -1L, -1L, RWF_NOWAIT);
		if (n != -EAGAIN || !wait)
			return n;
		int err = flat_sys_ppoll(&p, 1, NULL, NULL);
		if (err < 0)
			return err;
	}
}

/* No more is taken out of the pipe than the stream has room for: the rest stays there. */
static ssize_t pipe_to_stream(struct flat_sock *s, int fd, int pipe, char *buf, size_t want,
			      bool wait)
{
	struct flat_call c = {.s = s, .fd = fd};
	struct pollfd p = {.fd = pipe, .events = POLLIN};
	struct timespec zero = {0};
	ssize_t err = 0;
	ssize_t sent = 0;
	if (!wait && flat_sys_ppoll(&p, 1, &zero, NULL) == 0)
		return -EAGAIN;
	while (err == 0 && flat_stream_may_send(s, fd) && flat_share_space(s) == 0)
		err = wait && !no_wait(s, 0) ? wait_for(&c, true) : -EAGAIN;
	ssize_t room = flat_share_space(s);
	if (err == 0 && room > 0 && (size_t)room < want)
		want = (size_t)room;
	ssize_t got = err ? err : flat_sys_read(pipe, buf, want);
	/* Another writer may have been faster. */
	while (err == 0 && sent < got) {
		ssize_t n = flat_stream_send(s, fd, buf + sent, (size_t)(got - sent), MSG_DONTWAIT);
		if (n > 0)
			sent += n;
		else
			err = n == -EAGAIN ? wait_for(&c, true) : n;
	}
	return flat_call_over(&c, sent > 0 ? sent : err ? err : got);
}

ssize_t flat_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t len,
		    unsigned int flags)
{
	struct flat_sock *in = flat_fd_sock(in_fd);
	struct flat_sock *out = flat_fd_sock(out_fd);
	char buf[65536];
	if (!in && !out)
		return flat_result(
		    FLAT_SYS6(SYS_splice, in_fd, in_offset, out_fd, out_offset, len, flags));
	int err = check_splice(in ? out_fd : in_fd, in ? O_WRONLY : O_RDONLY,
			       (in && (in_offset || out)) || (out && out_offset), flags);
	if (err != 0)
		return flat_result(err);
	size_t want = flat_min_size(len, sizeof(buf));
	if (want == 0)
		return 0;
	bool wait = !(flags & SPLICE_F_NONBLOCK);
	if (out && !in)
		return flat_result(pipe_to_stream(out, out_fd, in_fd, buf, want, wait));
	/*
	 * Only what the pipe takes may leave the stream: look, write, then take. SPLICE_F_NONBLOCK speaks of the pipe: the
	 * kernel waits for bytes of the socket nevertheless (tcp_splice_read()).
	 */
	if (flat_urgent_is_next(in))
		return 0;
	ssize_t got = flat_stream_recv(in, in_fd, buf, want, MSG_PEEK);
	if (got <= 0)
		return flat_result(got);
	got = pipe_write(out_fd, buf, (size_t)got, wait);
	if (got > 0)
		got = flat_stream_recv(in, in_fd, buf, (size_t)got, MSG_DONTWAIT);
	return flat_result(got);
}

/* --- zero copy --- */

int flat_send_reserve(int fd, size_t want, struct iovec iov[2], int flags)
{
	struct flat_sock *s = flat_fd_sock(fd);
	int n = 0;
	if (!s || flat_shared(s))
		return (int)flat_result(flat_sys_fcntl(fd, F_GETFD, 0) < 0 ? -EBADF : -EOPNOTSUPP);
	if (s->kind == FLAT_FD_LISTENER || want == 0)
		return (int)flat_result(want ? -ENOTCONN : -EINVAL);
	for (;;) {
		ssize_t err = send_state(s, fd, flags, true);
		if (err < 0)
			return (int)flat_result(err);
		ssize_t got =
		    flat_stream_connecting(s) ? 0 : flat_ring_reserve(&s->vq.tx, want, iov, &n);
		if (got < 0)
			return (int)flat_result(-ECONNRESET);
		s->reserved = (uint32_t)got;
		if (got > 0)
			return n;
		if (no_wait(s, flags))
			return (int)flat_result(-EAGAIN);
		struct flat_call c = {.s = s, .fd = fd};
		int failed = (int)flat_call_over(&c, wait_for(&c, true));
		if (failed < 0)
			return (int)flat_result(failed);
	}
}

int flat_send_commit(int fd, size_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s || len > s->reserved)
		return (int)flat_result(s ? -EINVAL : -EBADF);
	s->reserved = 0;
	if (len > 0) {
		flat_ring_commit(&s->vq.tx, len);
		flat_vq_notify_data(&s->vq);
	}
	return 0;
}

ssize_t flat_recv_view(int fd, struct iovec iov[2], int *n_iov, int flags)
{
	struct flat_sock *s = flat_fd_sock(fd);
	char probe;
	*n_iov = 0;
	if (!s || flat_shared(s))
		return flat_result(flat_sys_fcntl(fd, F_GETFD, 0) < 0 ? -EBADF : -EOPNOTSUPP);
	ssize_t got = flat_stream_recv(s, fd, &probe, 1, MSG_PEEK | (flags & MSG_DONTWAIT));
	if (got > 0 && flat_urgent_marked(s))
		flat_urgent_step_over(s);
	if (got > 0)
		got = flat_ring_peek(&s->vq.rx, iov, n_iov);
	s->viewed = got > 0 ? (uint32_t)got : 0;
	return flat_result(got == -EPROTO ? -ECONNRESET : got);
}

int flat_recv_release(int fd, size_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s || len > s->viewed)
		return (int)flat_result(s ? -EINVAL : -EBADF);
	s->viewed = 0;
	flat_ring_consume(&s->vq.rx, len);
	flat_vq_notify_room(&s->vq);
	return 0;
}
