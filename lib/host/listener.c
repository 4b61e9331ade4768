/*
 * Listeners: listen and accept. The descriptor is a listener anchor, on which the offload half sends one message per
 * connection. When the offload half ends, it becomes a timer, so that whoever waits for it looks for a successor from time
 * to time; the kernel's listening socket stays ours meanwhile, and its backlog keeps plain clients.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "base/clock.h"
#include "host/epoll.h"
#include "host/lanes.h"
#include "host/quiet.h"
#include "host/user.h"

/* How often a successor of the offload half is looked for, ms. */
#define SUCCESSOR_MS 100

static int ask_listen(int tcp_fd, int backlog, int *anchor)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 0);
	msg.fds = FLAT_FD_TCP;
	msg.body.listen.backlog = (uint32_t)(backlog < 0 ? SOMAXCONN : backlog);
	int err = flat_session_ask(&msg, tcp_fd, fds, &n);
	if (err != 0)
		return err;
	*anchor = flat_msg_fd(&msg, fds, FLAT_FD_ANCHOR);
	flat_msg_close_fds(fds, n);
	return *anchor < 0 ? (msg.status < 0 ? msg.status : -EPROTO) : 0;
}

int flat_listen(int fd, int backlog)
{
	struct flat_sock *s = flat_fd_sock(fd);
	int anchor;
	if (s)
		return (int)flat_result(s->kind != FLAT_FD_LISTENER ? -EINVAL
					: s->tcp_fd >= 0 ? FLAT_SYS2(SYS_listen, s->tcp_fd, backlog)
							 : 0);
	long err = FLAT_SYS2(SYS_listen, fd, backlog);
	if (err < 0 || flat_fd_kind(fd) != FLAT_FD_CANDIDATE)
		return (int)flat_result(err);
	/* What the offload half does not take, or nobody is there to take, stays a listener of the kernel's. */
	if (ask_listen(fd, backlog, &anchor) != 0)
		return 0;
	s = flat_sock_new(FLAT_FD_LISTENER);
	if (!s) {
		flat_sys_close(anchor);
		return 0;
	}
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&s->local, (struct sockaddr *)&ss, len);
	s->backlog = backlog;
	s->tcp_fd = flat_fd_private(flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
	return (int)flat_result(flat_sock_replace(fd, anchor, s));
}

static void inherit_timeout(int from, int to)
{
	struct timeval tv = {0};
	socklen_t len = sizeof(tv);
	if (flat_sys_getsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &tv, &len) == 0 &&
	    (tv.tv_sec || tv.tv_usec))
		(void)flat_sys_setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &tv, len);
}

/* The offload half ended: registers with its successor. 0 when the descriptor is a listener again. */
static int listen_again(int fd, struct flat_sock *s)
{
	int anchor;
	int err = s->tcp_fd < 0 ? -EINVAL : ask_listen(s->tcp_fd, s->backlog, &anchor);
	if (err != 0)
		return err;
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	if (atomic_load(&s->nonblock))
		(void)flat_sys_fcntl(anchor, F_SETFL, O_NONBLOCK);
	inherit_timeout(s->tcp_fd, anchor);
	flat_epoll_converting(fd);
	err = flat_sys_dup3(anchor, fd, cloexec ? O_CLOEXEC : 0);
	flat_sys_close(anchor);
	if (err >= 0)
		flat_epoll_converted(fd);
	return err < 0 ? err : 0;
}

/* Nobody is there: the descriptor becomes a timer. */
static int park(int fd, const struct flat_sock *s)
{
	struct itimerspec every = {
	    .it_interval.tv_nsec = SUCCESSOR_MS * 1000000L,
	    .it_value.tv_nsec = SUCCESSOR_MS * 1000000L,
	};
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	int flags = atomic_load(&s->nonblock) ? O_NONBLOCK : 0;
	int timer = (int)FLAT_SYS2(SYS_timerfd_create, CLOCK_MONOTONIC, flags);
	if (timer < 0)
		return timer;
	(void)FLAT_SYS4(SYS_timerfd_settime, timer, 0, &every, NULL);
	flat_epoll_converting(fd);
	int err = flat_sys_dup3(timer, fd, cloexec ? O_CLOEXEC : 0);
	flat_sys_close(timer);
	if (err < 0)
		return err;
	flat_epoll_converted(fd);
	return 0;
}

/* Of its own no other thread sees it, once it is the kernel's. */
static pthread_mutex_t giving_back = PTHREAD_MUTEX_INITIALIZER;

/*
 * The successor is of another build, and tells this process of no connection: the kernel's listener takes the number back, as
 * where there is no flatd. -ENOTCONN: it is the kernel's; 0: it cannot be.
 */
static int give_back(int fd, struct flat_sock *s)
{
	int err = -EINVAL;
	flat_quiet_lock(&giving_back);
	if (flat_fd_sock(fd) == s && s->tcp_fd >= 0)
		err = flat_listener_to_kernel(fd, s);
	bool is_kernels = err == 0 || flat_fd_kind(fd) == FLAT_FD_KERNEL;
	flat_quiet_unlock(&giving_back);
	return is_kernels ? -ENOTCONN : 0;
}

/* The offload half ended, or had ended before. 0: try again; -EAGAIN, -ENOTCONN, or what the kernel says of the wait. */
static int find_successor(int fd, struct flat_sock *s, bool parked, int64_t begun_ms)
{
	int limit = parked ? flat_bell_limit_ms(s, s->tcp_fd, false) : -1;
	uint64_t ticks;
	if (parked) {
		ssize_t n = flat_sys_read(fd, &ticks, sizeof(ticks));
		if (n < 0)
			return (int)n;
		if (limit >= 0 && flat_now_ms() - begun_ms >= limit)
			return -EAGAIN;
	}
	if (listen_again(fd, s) == 0)
		return 0;
	int err = flat_session_parted() ? give_back(fd, s) : 0;
	return err != 0 || parked ? err : park(fd, s);
}

int flat_listener_shut(int fd, struct flat_sock *s)
{
	struct flat_epoll_kept kept;
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	/* Said first: who sleeps on the anchor in accept() shall find it. */
	atomic_store(&s->rd_shut, 1);
	flat_sys_shutdown(s->tcp_fd, SHUT_RDWR);
	flat_sys_shutdown(fd, SHUT_RDWR);
	int tcp = flat_sys_fcntl(s->tcp_fd, F_DUPFD_CLOEXEC, 0);
	if (tcp < 0)
		return 0;
	/* Its own are of the time before it listened. */
	(void)flat_sys_fcntl(tcp, F_SETFL, 0);
	flat_file_keep(fd, tcp, flat_sys_fcntl(fd, F_GETFL, 0), true);
	flat_epoll_keep(fd, &kept);
	flat_epoll_converting(fd);
	flat_fd_unbind(fd);
	int err = flat_sys_dup3(tcp, fd, cloexec ? O_CLOEXEC : 0);
	flat_sys_close(tcp);
	if (err < 0)
		return err;
	flat_fd_set_kind(fd, FLAT_FD_CANDIDATE);
	flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	/* Instances watch it on, and are told that it hung up. */
	flat_epoll_give_back(fd, &kept);
	return 0;
}

int flat_listener_to_kernel(int fd, struct flat_sock *s)
{
	struct flat_epoll_kept kept;
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	int tcp = flat_sys_fcntl(s->tcp_fd, F_DUPFD_CLOEXEC, 0);
	int anchor = flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int err = tcp < 0 ? tcp : anchor < 0 ? anchor : 0;
	if (err == 0) {
		inherit_timeout(fd, tcp);
		(void)flat_sys_fcntl(tcp, F_SETFL, atomic_load(&s->nonblock) ? O_NONBLOCK : 0);
		flat_epoll_keep(fd, &kept);
		flat_epoll_converting(fd);
		flat_fd_unbind(fd);
		err = flat_sys_dup3(tcp, fd, cloexec ? O_CLOEXEC : 0);
		if (err >= 0) {
			flat_epoll_give_back(fd, &kept);
			err = 0;
		}
		/* The offload half sees the end of it; who sleeps on it finds the other one under the number. */
		flat_sys_shutdown(anchor, SHUT_RDWR);
	}
	if (tcp >= 0)
		flat_sys_close(tcp);
	if (anchor >= 0)
		flat_sys_close(anchor);
	/* Nobody else takes the kernel's connections from here on. */
	if (err == 0)
		(void)flat_offload_caught_up();
	return err;
}

/* What the end of its anchor means to who accepts there. 0: the offload half ended. */
static int hung_up(int fd, struct flat_sock *l)
{
	/* The number is not `l` any more: flat_listener_to_kernel(). */
	if (flat_fd_kind(fd) == FLAT_FD_KERNEL)
		return -ENOTCONN;
	return atomic_load(&l->rd_shut) ? -EINVAL : 0;
}

/*
 * The next connection's message. 0, or as accept() ends.
 *
 * An instance or poll() tells that the offload half ended as it tells of a connection, and a program that was told so does not
 * expect to wait: it may have other sockets to look after. So a call that finds that at its first look is over as one whose
 * connection was gone before it was taken: accept(2), ECONNABORTED.
 */
static int await_accept(int fd, struct flat_sock *l, struct flat_msg *msg,
			int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	const struct flat_ran then = flat_signals_ran();
	const int64_t begun_ms = flat_now_ms();
	bool told = false;
	for (bool first = true;; first = false) {
		struct flat_wait w;
		int err;
		bool waits = !atomic_load(&l->nonblock) && !told;
		bool again = false;
		flat_wait_begin(&w);
		do
			err = flat_msg_recv(fd, msg, fds, n, MSG_DONTWAIT);
		while (err == -EAGAIN && waits && (again = flat_wait_again(&w)));
		first = first && !again;
		enum flat_signals came = flat_wait_end(&w, err == 0);
		if (err == -EAGAIN && flat_bell_interrupted(came, l, fd, false))
			return -EINTR;
		if (err == -EAGAIN && waits) {
			int type;
			pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
			err = flat_bell_interrupted(flat_signals_since(&then), l, fd, false)
				  ? -EINTR
				  : flat_msg_recv(fd, msg, fds, n, 0);
			pthread_setcanceltype(type, NULL);
			first = false;
		}
		int over = err == -ENOTCONN ? hung_up(fd, l) : 0;
		if (over != 0)
			return over;
		/* A timer is no socket. */
		bool ended = err == -ENOTCONN || err == -ENOTSOCK;
		if (told && (ended || err == -EAGAIN))
			return -ECONNABORTED;
		if (!ended)
			return err;
		told = first && waits && atomic_load(&l->watched);
		err = find_successor(fd, l, err == -ENOTSOCK, begun_ms);
		if (err < 0)
			return err;
	}
}

static int take_accept(int fd, struct flat_sock *l, int flags, struct flat_sock **out)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int err = await_accept(fd, l, &msg, fds, &n);
	if (err == -EMFILE)
		flat_numbers_lost();
	if (err != 0)
		return err;
	int anchor = flat_msg_fd(&msg, fds, FLAT_FD_ANCHOR);
	int bell = flat_msg_fd(&msg, fds, FLAT_FD_BELL);
	int lane_fd = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	int directory = flat_msg_fd(&msg, fds, FLAT_FD_DIRECTORY);
	flat_session_told(directory);
	if (directory >= 0)
		flat_sys_close(directory);
	struct flat_lane_use *lane = flat_lane_use(&msg.body.conn, lane_fd);
	flat_msg_close_fds(fds, n);
	flat_fds_private(&bell, 1, lane_fd);
	flat_fd_unbind(anchor);
	struct flat_sock *s = lane ? flat_stream_new(&msg.body.conn, lane, bell) : NULL;
	if (!s) {
		if (lane)
			flat_lane_unuse(lane);
		flat_fd_close_private(bell);
		flat_sys_close(anchor);
		return -ECONNABORTED;
	}
	if (s->bell_fd < 0) {
		s->bell_fd = flat_fd_private(flat_sys_fcntl(anchor, F_DUPFD_CLOEXEC, 0));
		s->vq.bell_fd = s->bell_fd;
	}
	flat_lane_slot_take(&lane->lane, msg.body.conn.slot);
	s->domain = l->domain;
	flat_option_inherit(s, l);
	flat_stream_shut_early(s, l->shut_early);
	inherit_timeout(fd, anchor);
	if (!(flags & SOCK_CLOEXEC))
		(void)flat_sys_fcntl(anchor, F_SETFD, 0);
	if (flags & SOCK_NONBLOCK) {
		(void)flat_sys_fcntl(anchor, F_SETFL, O_NONBLOCK);
		atomic_store(&s->nonblock, 1);
	}
	flat_fd_bind(anchor, s);
	*out = s;
	return anchor;
}

static int accept_kernel(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int got = (int)FLAT_SYS4(SYS_accept4, fd, addr, len, flags);
	if (got >= 0)
		flat_fd_unbind(got);
	return got;
}

int flat_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct flat_sock *l = flat_fd_sock(fd);
	struct flat_sock *s = NULL;
	if (!l)
		return (int)flat_result(accept_kernel(fd, addr, len, flags));
	if (l->kind != FLAT_FD_LISTENER || (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)))
		return (int)flat_result(-EINVAL);
	int got = flat_numbers_prepare(true);
	if (got == 0)
		got = take_accept(fd, l, flags, &s);
	if (got >= 0)
		flat_numbers_seen(got);
	flat_numbers_settle();
	/* It was given back to the kernel meanwhile. */
	if (got == -ENOTCONN)
		return (int)flat_result(accept_kernel(fd, addr, len, flags));
	if (got >= 0 && s && addr) {
		int err = flat_sock_name(&s->peer, s->domain, addr, len);
		if (err != 0) {
			flat_close(got);
			got = err;
		}
	}
	return (int)flat_result(got);
}

int flat_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return flat_accept4(fd, addr, len, 0);
}
