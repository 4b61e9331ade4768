/* connect(): in which state the socket is, whether its peer is of the mesh, and what the offload half says. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "host/epoll.h"
#include "host/lanes.h"
#include "host/quiet.h"
#include "host/share.h"
#include "host/ticket.h"
#include "host/user.h"

static void after_try(int fd, int err)
{
	if (err == 0)
		flat_fd_unbind(fd);
	else
		flat_fd_mark(fd, FLAT_MARK_TRIED);
}

/* tcp_disconnect(): a connection that came to nothing, or AF_UNSPEC, ends what shutdown() said before. */
static void forget_shut(int fd, int err)
{
	const uint16_t shut = FLAT_MARK_SHUT_RD | FLAT_MARK_SHUT_WR;
	const bool over = err == 0 || err == -ECONNREFUSED || err == -ETIMEDOUT ||
			  err == -EHOSTUNREACH || err == -ECONNRESET || err == -ECONNABORTED ||
			  err == -EACCES;
	if (flat_unlikely(flat_fd_marks(fd) & shut) && over)
		flat_fd_mark_each(fd, shut, false);
}

/* connect() to AF_UNSPEC, of the kernel's socket. */
static void dissolve(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	(void)flat_sys_connect(fd, &none, sizeof(none));
}

/* The same, and of the kernel's socket, which has not tried where the offload half refused. */
static void came_to_nothing(int fd, int err)
{
	const uint16_t before = flat_fd_marks(fd);
	forget_shut(fd, err);
	if (flat_unlikely(flat_fd_marks(fd) != before))
		dissolve(fd);
}

/* With the kernel. Refused, a socket may try again with the mesh; under way or connected, it is the kernel's. */
static int connect_kernel(int fd, const struct flat_addr *peer, const struct sockaddr *addr,
			  socklen_t len)
{
	struct sockaddr_storage ss;
	struct flat_addr to = *peer;
	if (to.family != 0 && addr->sa_family == AF_INET6 && to.family == AF_INET) {
		memmove(to.ip + 12, to.ip, 4);
		memset(to.ip, 0, 10);
		memset(to.ip + 10, 0xff, 2);
		to.family = AF_INET6;
	}
	if (to.family != 0) {
		len = flat_addr_to_sockaddr(&to, &ss);
		addr = (struct sockaddr *)&ss;
	}
	struct flat_twins twins;
	flat_fd_twins(fd, &twins);
	int err = flat_sys_connect(fd, addr, len);
	for (uint32_t i = 0; i < twins.n; i++)
		after_try(twins.fd[i], err);
	after_try(fd, err);
	return err;
}

/* Takes anchor and bell (-1: it has none), and the use of the lane. `bound`: to a port, which stays this connection's. */
static int become_stream(int fd, const struct flat_msg_conn *m, struct flat_lane_use *lane,
			 int anchor, int bell, bool bound)
{
	struct flat_sock *s = lane && anchor >= 0 ? flat_stream_new(m, lane, bell) : NULL;
	if (!s) {
		if (lane)
			flat_lane_unuse(lane);
		flat_fd_close_private(anchor);
		flat_fd_close_private(bell);
		return -ENOMEM;
	}
	if (s->bell_fd < 0) {
		/* The offload half is the peer: its end of the anchor is where it listens. */
		s->bell_fd = flat_fd_private(flat_sys_fcntl(anchor, F_DUPFD_CLOEXEC, 0));
		s->vq.bell_fd = s->bell_fd;
	}
	if (bound) {
		s->tcp_fd = flat_fd_private(flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
		/* net/ipv4/tcp_output.c, tcp_connect_init(): what an earlier connection left to be told is void. */
		int void_error;
		socklen_t len = sizeof(void_error);
		(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &void_error, &len);
	}
	return flat_sock_replace(fd, anchor, s);
}

/* As a CONNECT answer says. */
static int become_answered(int fd, const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], size_t n,
			   bool bound)
{
	const struct flat_msg_conn *m = &msg->body.conn;
	int anchor = flat_msg_fd(msg, fds, FLAT_FD_ANCHOR);
	int bell = flat_msg_fd(msg, fds, FLAT_FD_BELL);
	int lane_fd = flat_msg_fd(msg, fds, FLAT_FD_LANE);
	struct flat_lane_use *lane = flat_lane_use(m, lane_fd);
	flat_msg_close_fds(fds, n);
	if (lane_fd >= 0)
		flat_sys_close(lane_fd);
	return become_stream(fd, m, lane, anchor, bell, bound);
}

/*
 * What the kernel still has to say of an earlier try: an address of no family it knows is refused with EAFNOSUPPORT where
 * the socket could connect, and meets the error, EALREADY or EISCONN of that try where it could not.
 */
static int earlier_try(int fd)
{
	struct sockaddr_storage ss = {.ss_family = AF_UNIX};
	if (!(flat_fd_marks(fd) & FLAT_MARK_TRIED))
		return -EAFNOSUPPORT;
	int err = flat_sys_connect(fd, (struct sockaddr *)&ss, sizeof(ss));
	if (err == 0 || err == -EISCONN)
		flat_fd_unbind(fd);
	return err;
}

/* Any address means the own host. */
static void unspecified(struct flat_addr *a)
{
	static const uint8_t none[16];
	static const uint8_t v4[] = {127, 0, 0, 1};
	if (a->family == AF_INET && memcmp(a->ip, none, 4) == 0)
		memcpy(a->ip, v4, 4);
	else if (a->family == AF_INET6 && memcmp(a->ip, none, 16) == 0)
		a->ip[15] = 1;
}

/* Whether a socket of this descriptor's family may connect to `addr` at all; else the kernel says what is wrong. */
static bool fits(int fd, const struct sockaddr *addr)
{
	int domain = flat_fd_domain(fd);
	int v6only = 0;
	socklen_t len;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)addr;
	if (domain != addr->sa_family)
		return false;
	if (domain == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) &&
	    (flat_fd_marks(fd) & FLAT_MARK_OPTIONS)) {
		len = sizeof(v6only);
		(void)flat_sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
	}
	return !v6only;
}

/*
 * A kernel socket of this domain bound to a port of the own host that nobody has, and its address, of the peer's family. Or a
 * negative errno. A socket of v6 that has connected to an address of v4 once waits in vain for one of v6:
 * net/ipv6/tcp_ipv6.c, tcp_v6_connect().
 */
static int bound_socket(int domain, int family, struct sockaddr_storage *ss, socklen_t *len)
{
	static const uint8_t v4[] = {127, 0, 0, 1};
	uint8_t *v6 = ((struct sockaddr_in6 *)(void *)ss)->sin6_addr.s6_addr;
	memset(ss, 0, sizeof(*ss));
	ss->ss_family = (sa_family_t)domain;
	*len = sizeof(*ss);
	if (domain == AF_INET) {
		memcpy(&((struct sockaddr_in *)(void *)ss)->sin_addr, v4, sizeof(v4));
	} else if (family == AF_INET) {
		memset(v6 + 10, 0xff, 2);
		memcpy(v6 + 12, v4, sizeof(v4));
	} else {
		v6[15] = 1;
	}
	int fd = flat_sys_socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	int err = (int)FLAT_SYS3(SYS_bind, fd, ss, *len);
	if (err == 0)
		err = flat_sys_getsockname(fd, (struct sockaddr *)ss, len);
	if (err == 0)
		return fd;
	flat_sys_close(fd);
	return err;
}

/* Of a connection whose other end the listener has: sent to one that has closed, which is EPIPE. */
static int break_pipe(int fd, int listener)
{
	const struct timespec bound = {1, 0};
	struct timespec left = bound;
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	int other = (int)FLAT_SYS3(SYS_accept, listener, NULL, NULL);
	if (other < 0)
		return other;
	flat_sys_close(other);
	(void)flat_sys_ppoll(&p, 1, &left, NULL);
	left = bound;
	p.events = 0;
	(void)!flat_sys_send(fd, "", 1, MSG_NOSIGNAL);
	return flat_sys_ppoll(&p, 1, &left, NULL) < 0 ? -EINTR : 0;
}

/*
 * What connect() to AF_UNSPEC leaves of a connection, ECONNRESET, or the EPIPE or ECONNREFUSED that was not told: the kernel makes
 * it of one of its own, to a listener that nobody else sees and that is gone at once, or to none. 0, or a negative errno: then the
 * socket is merely new.
 */
static int leave_error(int fd, int domain, int family, int error)
{
	struct sockaddr_storage ss;
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	socklen_t len;
	int l = bound_socket(domain, family, &ss, &len);
	if (l < 0)
		return l;
	const bool nobody = error == ECONNREFUSED;
	int err =
	    nobody ? flat_sys_fcntl(fd, F_SETFL, O_NONBLOCK) : (int)FLAT_SYS2(SYS_listen, l, 1);
	if (err == 0)
		err = flat_sys_connect(fd, (struct sockaddr *)&ss, len);
	if (nobody) {
		err = err == -EINPROGRESS ? 0 : err;
		(void)flat_sys_fcntl(fd, F_SETFL, 0);
	}
	if (err == 0 && error == EPIPE)
		err = break_pipe(fd, l);
	if (err == 0)
		err = flat_sys_connect(fd, &none, sizeof(none));
	flat_sys_close(l);
	return err;
}

/*
 * Refused. Where connect() does not wait it is told by SO_ERROR, poll() and the next connect(); a port that the kernel chose for
 * bind() is nobody's any more. The kernel does all that of a connection to a port where nobody listens.
 */
static int refused(int fd, int family)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int nobody = bound_socket(flat_fd_domain(fd), family, &ss, &len);
	if (nobody < 0)
		return -ECONNREFUSED;
	int err = flat_sys_connect(fd, (struct sockaddr *)&ss, len);
	if (err == -EINPROGRESS)
		flat_fd_mark(fd, FLAT_MARK_TRIED);
	flat_sys_close(nobody);
	return err == -EINPROGRESS ? err : -ECONNREFUSED;
}

/* A new kernel socket, or the one that is bound, takes the number, with the options of the old one; the peer is reset. */
static int disconnect(int fd, struct flat_sock *s)
{
	struct flat_epoll_kept kept;
	int fresh = s->tcp_fd >= 0 ? flat_sys_fcntl(s->tcp_fd, F_DUPFD_CLOEXEC, 0)
				   : flat_sys_socket(s->domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fresh < 0)
		return fresh;
	/* tcp_disconnect(): of a connection that had ended what it had not told is left. */
	int error = flat_stream_state(s) != TCP_CLOSE ? ECONNRESET : flat_stream_error(s);
	/* The bound one may be non-blocking; what follows waits. */
	(void)flat_sys_fcntl(fresh, F_SETFL, 0);
	/* What the bound one was shut before it connected. */
	if (s->tcp_fd >= 0 && (atomic_load(&s->rd_shut) || atomic_load(&s->wr_shut)))
		dissolve(fresh);
	if (error == ECONNRESET || error == EPIPE || error == ECONNREFUSED)
		(void)!leave_error(fresh, s->domain, s->peer.family, error);
	flat_file_keep(fd, fresh, flat_sys_fcntl(fd, F_GETFL, 0), true);
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	int one = 1;
	struct timeval tv = {0};
	socklen_t tv_len = sizeof(tv);
	flat_option_apply(s, fresh);
	if (s->nodelay)
		(void)flat_sys_setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (s->keepalive)
		(void)flat_sys_setsockopt(fresh, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)flat_sys_setsockopt(fresh, SOL_SOCKET, SO_LINGER, &s->linger, sizeof(s->linger));
	(void)flat_sys_setsockopt(fresh, SOL_SOCKET, SO_SNDTIMEO, &s->sndtimeo,
				  sizeof(s->sndtimeo));
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &tv_len) == 0)
		(void)flat_sys_setsockopt(fresh, SOL_SOCKET, SO_RCVTIMEO, &tv, tv_len);
	s->linger = (struct linger){1, 0};
	/* Of a shared one nobody would know that it ended. */
	if (flat_shared(s))
		flat_stream_end(s);
	flat_epoll_keep(fd, &kept);
	flat_fd_unbind(fd);
	int err = flat_sys_dup3(fresh, fd, cloexec ? O_CLOEXEC : 0);
	flat_sys_close(fresh);
	if (err < 0)
		return err;
	flat_fd_set_kind(fd, FLAT_FD_CANDIDATE);
	flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	flat_epoll_give_back(fd, &kept);
	return 0;
}

/*
 * The address of a socket that was bound to a port alone is the own host's, once it connects; unbound: nothing. One that was
 * bound to an address alone (IP_BIND_ADDRESS_NO_PORT) gets its port from the offload half.
 */
static void complete_source(struct flat_addr *from, const struct flat_addr *to)
{
	static const uint8_t none[16];
	if (memcmp(from->ip, none, from->family == AF_INET ? 4 : 16) != 0)
		return;
	from->family = from->port ? to->family : 0;
	if (from->port)
		unspecified(from);
}

/* Asks the offload half. 1: the descriptor is a stream; 0: the kernel is to connect it, to the answer's peer; or why not. */
static int ask(int fd, struct flat_msg *msg)
{
	const bool bound = msg->body.connect.from.port != 0;
	const int family = msg->body.connect.to.family;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int err = flat_session_ask(msg, -1, fds, &n);
	if (err != 0)
		return err;
	if (msg->status == 0 && msg->body.conn.path != FLAT_CONN_KERNEL) {
		err = become_answered(fd, msg, fds, n, bound);
		return err ? err : 1;
	}
	flat_msg_close_fds(fds, n);
	if (msg->status == -ECONNREFUSED &&
	    (bound || (flat_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK)))
		return refused(fd, family);
	return msg->status > 0 ? -ECONNREFUSED : msg->status;
}

/*
 * Made ahead, or asked for: as ask() says. No handler runs meanwhile: one that leaves by siglongjmp() finds a connection under the
 * number, not its descriptors under none. A listener of this process is told of the connection before connect() returns,
 * as by the kernel's loopback: the offload half answers CONNECT when it has sent it, and USE not at all.
 */
static int open_conn(int fd, const struct flat_addr *to, struct flat_msg *msg)
{
	struct flat_ticket ticket;
	int err;
	flat_quiet_begin();
	flat_fd_opening(fd, true);
	if (msg->body.connect.from.family == 0 && !flat_numbers_tight() && !flat_fd_listens(to) &&
	    flat_session_ticket(to, &ticket)) {
		err =
		    become_stream(fd, &ticket.conn, ticket.lane, ticket.anchor, ticket.bell, false);
		err = err ? err : 1;
	} else {
		flat_numbers_look();
		err = flat_numbers_prepare(false) == 0 ? ask(fd, msg) : -ENOBUFS;
	}
	flat_fd_opening(fd, false);
	flat_numbers_settle();
	flat_quiet_end();
	return err;
}

/* As the offload half says, or has said ahead. */
static int connect_mesh(int fd, const struct flat_addr *to, const struct sockaddr *addr,
			socklen_t len)
{
	struct flat_msg msg;
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 0);
	msg.body.connect.to = *to;
	/* Decided is enough: nobody waits for a server under the session's lock. */
	msg.body.connect.flags = FLAT_CONNECT_EARLY;
	if (!(flat_fd_marks(fd) & FLAT_MARK_NEW) &&
	    flat_sys_getsockname(fd, (struct sockaddr *)&ss, &ss_len) == 0 &&
	    flat_addr_from_sockaddr(&msg.body.connect.from, (struct sockaddr *)&ss, ss_len) == 0)
		complete_source(&msg.body.connect.from, to);
	/* To itself, which is no way to anybody else: whoever listens there does not see it. */
	if (flat_unlikely(flat_addr_equal(&msg.body.connect.from, to)))
		return connect_kernel(fd, &(struct flat_addr){0}, addr, len);
	int err = open_conn(fd, to, &msg);
	if (err == 0)
		return connect_kernel(fd, &msg.body.conn.peer, addr, len);
	struct flat_sock *s = err == 1 ? flat_fd_sock(fd) : NULL;
	if (!s)
		return err == 1 ? 0 : err;
	if (atomic_load(&s->nonblock)) {
		atomic_store(&s->connecting, FLAT_CONNECT_TO_TELL);
		return -EINPROGRESS;
	}
	err = flat_stream_await(s, fd);
	/* As if it had never been tried. */
	if (err == 0 || !atomic_load(&s->failed) || disconnect(fd, s) != 0)
		return err;
	return err == -ECONNREFUSED && msg.body.connect.from.port ? refused(fd, to->family) : err;
}

/*
 * The one after EINPROGRESS is told how it went, and leaves a new socket where that has ended: net/ipv4/af_inet.c,
 * __inet_stream_connect().
 */
static int connect_pending(int fd, struct flat_sock *s)
{
	if (flat_stream_connecting(s)) {
		int err = atomic_load(&s->nonblock) ? -EALREADY : flat_stream_await(s, fd);
		return err == -EINPROGRESS ? -EALREADY : err;
	}
	if (atomic_load(&s->connecting) == FLAT_CONNECT_GIVEN_UP)
		return -EINVAL;
	if (!atomic_exchange(&s->connecting, 0))
		return -EISCONN;
	if (flat_stream_state(s) != TCP_CLOSE)
		return 0;
	int error = flat_stream_take_error(s);
	(void)!disconnect(fd, s);
	/* Somebody asked SO_ERROR before: as the kernel says it. */
	return error ? -error : -ECONNABORTED;
}

/* connect() on what is flat already. */
static int connect_flat(int fd, struct flat_sock *s, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage ss;
	memset(&ss, 0, sizeof(ss));
	if ((int)len < 0 || len > sizeof(ss))
		return -EINVAL;
	int err = flat_user_get(&ss, addr, len);
	if (err != 0)
		return err;
	if (len < sizeof(ss.ss_family))
		return -EINVAL;
	if (ss.ss_family == AF_UNSPEC)
		return s->kind == FLAT_FD_LISTENER ? flat_listener_shut(fd, s) : disconnect(fd, s);
	return s->kind == FLAT_FD_STREAM ? connect_pending(fd, s) : -EISCONN;
}

/* Whether the offload half is asked for this address: *to, and *ss as it was given. */
static bool to_mesh(int fd, const struct sockaddr *addr, socklen_t len, struct sockaddr_storage *ss,
		    struct flat_addr *to)
{
	const struct flat_directory *dir;
	if (flat_fd_kind(fd) != FLAT_FD_CANDIDATE || !(dir = flat_session_directory()) ||
	    len > sizeof(*ss) || len < sizeof(struct sockaddr_in) || !addr ||
	    flat_user_get(ss, addr, len) != 0 ||
	    flat_addr_from_sockaddr(to, (struct sockaddr *)ss, len) != 0)
		return false;
	flat_addr_unmap(to);
	unspecified(to);
	return (flat_directory_find_addr(dir, to) != FLAT_DIRECTORY_NONE ||
		(flat_directory_flags(dir) & FLAT_DIRECTORY_ASK_ALL)) &&
	       fits(fd, (struct sockaddr *)ss);
}

bool flat_connect_meshed(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage ss;
	struct flat_addr to;
	return to_mesh(fd, addr, len, &ss, &to);
}

int flat_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	struct sockaddr_storage ss;
	struct flat_addr to;
	/* One that came to nothing, and was told so, begins anew. */
	if (s && !flat_stream_connecting(s) && atomic_load(&s->failed) &&
	    !atomic_load(&s->connecting)) {
		int err = disconnect(fd, s);
		if (err != 0)
			return (int)flat_result(err);
		s = NULL;
	}
	if (s)
		return (int)flat_result(connect_flat(fd, s, addr, len));
	if (!to_mesh(fd, addr, len, &ss, &to)) {
		int done = flat_sys_connect(fd, addr, len);
		forget_shut(fd, done);
		return (int)flat_result(done);
	}
	int err = earlier_try(fd);
	if (err == -EAFNOSUPPORT)
		err = connect_mesh(fd, &to, (struct sockaddr *)&ss, len);
	came_to_nothing(fd, err);
	return (int)flat_result(err);
}
