/* How a socket becomes flat: socket, connect; its names and options. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "host/lanes.h"
#include "host/share.h"

int flat_socket(int domain, int type, int protocol)
{
	int fd = flat_sys_socket(domain, type, protocol);
	if (fd < 0)
		return (int)flat_result(fd);
	flat_host_init();
	/* The number was in use by us: closed by a call that no hook saw. */
	flat_fd_unbind(fd);
	if ((domain == AF_INET || domain == AF_INET6) &&
	    (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
	    (protocol == 0 || protocol == IPPROTO_TCP))
		flat_fd_set_kind(fd, FLAT_FD_CANDIDATE);
	return fd;
}

/* A listener that was closed is held by the offload half until it hears of it. It answers in order: true, once it has. */
#define BIND_TRIES 4
static bool offload_caught_up(void)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_WHY, 0);
	if (flat_session_ask(&msg, -1, fds, &n) != 0)
		return false;
	flat_msg_close_fds(fds, n);
	return true;
}

int flat_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (flat_fd_sock(fd))
		return (int)flat_result(-EINVAL);
	long err = FLAT_SYS3(SYS_bind, fd, addr, len);
	for (int i = 0; err == -EADDRINUSE && i < BIND_TRIES && flat_session_known(); i++) {
		if (!offload_caught_up())
			break;
		err = FLAT_SYS3(SYS_bind, fd, addr, len);
	}
	return (int)flat_result(err);
}

static void copy_option(int from, int to, int name)
{
	struct timeval tv;
	socklen_t len = sizeof(tv);
	if (flat_sys_getsockopt(from, SOL_SOCKET, name, &tv, &len) == 0 &&
	    (tv.tv_sec || tv.tv_usec))
		(void)flat_sys_setsockopt(to, SOL_SOCKET, name, &tv, len);
}

static int get_int(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	return flat_sys_getsockopt(fd, level, name, &value, &len) == 0 ? value : 0;
}

/* The anchor takes the place of the kernel's socket under its number, with what was set on that. */
int flat_sock_replace(int fd, int anchor, struct flat_sock *s)
{
	int fl = flat_sys_fcntl(fd, F_GETFL, 0);
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	socklen_t len = sizeof(s->sndtimeo);
	socklen_t linger_len = sizeof(s->linger);
	s->domain = get_int(fd, SOL_SOCKET, SO_DOMAIN);
	s->nodelay = get_int(fd, IPPROTO_TCP, TCP_NODELAY) != 0;
	s->keepalive = get_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0;
	(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &s->sndtimeo, &len);
	(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &s->linger, &linger_len);
	copy_option(fd, anchor, SO_RCVTIMEO);
	if (fl & O_NONBLOCK)
		(void)flat_sys_fcntl(anchor, F_SETFL, O_NONBLOCK);
	atomic_store(&s->nonblock, (fl & O_NONBLOCK) != 0);
	flat_epoll_converting(fd);
	int err = flat_sys_dup3(anchor, fd, cloexec ? O_CLOEXEC : 0);
	flat_sys_close(anchor);
	if (err < 0)
		return err;
	flat_fd_bind(fd, s);
	flat_epoll_converted(fd);
	return 0;
}

static int connect_kernel(int fd, const struct flat_addr *peer, const struct sockaddr *addr,
			  socklen_t len)
{
	struct sockaddr_storage ss;
	struct flat_addr to = *peer;
	flat_fd_unbind(fd);
	if (to.family == 0)
		return (int)flat_result(flat_sys_connect(fd, addr, len));
	if (addr->sa_family == AF_INET6 && to.family == AF_INET) {
		memmove(to.ip + 12, to.ip, 4);
		memset(to.ip, 0, 10);
		memset(to.ip + 10, 0xff, 2);
		to.family = AF_INET6;
	}
	socklen_t n = flat_addr_to_sockaddr(&to, &ss);
	return (int)flat_result(flat_sys_connect(fd, (struct sockaddr *)&ss, n));
}

static int become_stream(int fd, const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], size_t n)
{
	struct flat_msg_conn m = msg->body.conn;
	int anchor = flat_msg_fd(msg, fds, FLAT_FD_ANCHOR);
	int bell = flat_msg_fd(msg, fds, FLAT_FD_BELL);
	int lane_fd = flat_msg_fd(msg, fds, FLAT_FD_LANE);
	struct flat_lane_use *lane = flat_lane_use(&m, lane_fd);
	flat_msg_close_fds(fds, n);
	if (lane_fd >= 0)
		flat_sys_close(lane_fd);
	struct flat_sock *s = lane && anchor >= 0 ? flat_stream_new(msg, lane, bell) : NULL;
	if (!s) {
		if (lane)
			flat_lane_unuse(lane);
		if (anchor >= 0)
			flat_sys_close(anchor);
		if (bell >= 0)
			flat_sys_close(bell);
		return -ENOMEM;
	}
	int err;
	if (s->bell_fd < 0) {
		/* The offload half is the peer: its end of the anchor is where it listens. */
		s->bell_fd = flat_fd_private(flat_sys_fcntl(anchor, F_DUPFD_CLOEXEC, 0));
		s->vq.bell_fd = s->bell_fd;
	}
	err = flat_sock_replace(fd, anchor, s);
	return err;
}

int flat_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	struct flat_msg msg;
	struct flat_addr to;
	if (s)
		return (int)flat_result(addr->sa_family == AF_UNSPEC ? -EAFNOSUPPORT : -EISCONN);
	const struct flat_directory *dir;
	if (flat_fd_kind(fd) != FLAT_FD_CANDIDATE || flat_addr_from_sockaddr(&to, addr, len) != 0 ||
	    !(dir = flat_session_directory()) ||
	    (flat_directory_find_addr(dir, &to) == FLAT_DIRECTORY_NONE &&
	     !(flat_directory_flags(dir) & FLAT_DIRECTORY_ASK_ALL)))
		return (int)flat_result(flat_sys_connect(fd, addr, len));
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 0);
	msg.body.connect.to = to;
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &ss_len) == 0 &&
	    flat_addr_from_sockaddr(&msg.body.connect.from, (struct sockaddr *)&ss, ss_len) == 0 &&
	    msg.body.connect.from.port == 0)
		msg.body.connect.from.family = 0;
	int err = flat_session_ask(&msg, -1, fds, &n);
	if (err != 0)
		return (int)flat_result(err);
	if (msg.status != 0 || msg.body.conn.path == FLAT_CONN_KERNEL) {
		flat_msg_close_fds(fds, n);
		if (msg.status != 0)
			return (int)flat_result(msg.status < 0 ? msg.status : -ECONNREFUSED);
		return connect_kernel(fd, &msg.body.conn.peer, addr, len);
	}
	bool nonblock = (flat_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK) != 0;
	err = become_stream(fd, &msg, fds, n);
	if (err == 0 && nonblock)
		err = -EINPROGRESS;
	return (int)flat_result(err);
}

void flat_sock_name(const struct flat_addr *a, int domain, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage ss;
	struct flat_addr shown = *a;
	if (!addr || !len)
		return;
	if (domain == AF_INET6 && shown.family == AF_INET) {
		memmove(shown.ip + 12, shown.ip, 4);
		memset(shown.ip, 0, 10);
		memset(shown.ip + 10, 0xff, 2);
		shown.family = AF_INET6;
	}
	socklen_t n = flat_addr_to_sockaddr(&shown, &ss);
	memcpy(addr, &ss, *len < n ? *len : n);
	*len = n;
}

/* --- names and options --- */

int flat_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(flat_sys_getsockname(fd, addr, len));
	flat_sock_name(&s->local, s->domain, addr, len);
	return 0;
}

int flat_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(FLAT_SYS3(SYS_getpeername, fd, addr, len));
	if (s->kind == FLAT_FD_LISTENER || flat_stream_state(s) == TCP_CLOSE)
		return (int)flat_result(-ENOTCONN);
	flat_sock_name(&s->peer, s->domain, addr, len);
	return 0;
}

static int give(void *value, socklen_t *len, const void *from, socklen_t size)
{
	if (*len > size)
		*len = size;
	memcpy(value, from, *len);
	return 0;
}

static int give_int(void *value, socklen_t *len, int n)
{
	return give(value, len, &n, sizeof(n));
}

static int get_tcp(const struct flat_sock *s, int name, void *value, socklen_t *len)
{
	struct tcp_info info = {
	    .tcpi_state =
		(uint8_t)(s->kind == FLAT_FD_LISTENER ? TCP_LISTEN : flat_stream_state(s)),
	    .tcpi_snd_mss = 32768,
	    .tcpi_rcv_mss = 32768,
	    .tcpi_snd_cwnd = 10,
	    .tcpi_pmtu = 65535};
	switch (name) {
	case TCP_NODELAY:
		return give_int(value, len, s->nodelay);
	case TCP_INFO:
		return give(value, len, &info, sizeof(info));
	case TCP_MAXSEG:
		return give_int(value, len, 32768);
	default:
		return give_int(value, len, 0);
	}
}

int flat_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(flat_sys_getsockopt(fd, level, name, value, len));
	if (level == IPPROTO_TCP)
		return get_tcp(s, name, value, len);
	if (level != SOL_SOCKET)
		return give_int(value, len, 0);
	switch (name) {
	case SO_ERROR:
		return give_int(value, len,
				s->kind == FLAT_FD_STREAM ? flat_stream_take_error(s) : 0);
	case SO_TYPE:
		return give_int(value, len, SOCK_STREAM);
	case SO_DOMAIN:
		return give_int(value, len, s->domain);
	case SO_PROTOCOL:
		return give_int(value, len, IPPROTO_TCP);
	case SO_ACCEPTCONN:
		return give_int(value, len, s->kind == FLAT_FD_LISTENER);
	case SO_KEEPALIVE:
		return give_int(value, len, s->keepalive);
	case SO_LINGER:
		return give(value, len, &s->linger, sizeof(s->linger));
	case SO_RCVLOWAT:
		return give_int(value, len, s->rcvlowat ? s->rcvlowat : 1);
	case SO_SNDTIMEO:
		return give(value, len, &s->sndtimeo, sizeof(s->sndtimeo));
	default:
		/* Kept by the anchor, a socket of the kernel's. */
		return (int)flat_result(flat_sys_getsockopt(fd, level, name, value, len));
	}
}

int flat_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	int n = 0;
	if (!s)
		return (int)flat_result(flat_sys_setsockopt(fd, level, name, value, len));
	if (!value && len > 0)
		return (int)flat_result(-EFAULT);
	if (len >= sizeof(n))
		memcpy(&n, value, sizeof(n));
	if (level == IPPROTO_TCP) {
		if (name == TCP_NODELAY)
			s->nodelay = n != 0;
		return 0;
	}
	if (level != SOL_SOCKET)
		return 0;
	switch (name) {
	case SO_KEEPALIVE:
		s->keepalive = n != 0;
		return 0;
	case SO_LINGER:
		if (len < sizeof(s->linger))
			return (int)flat_result(-EINVAL);
		memcpy(&s->linger, value, sizeof(s->linger));
		return 0;
	case SO_SNDTIMEO:
		if (len < sizeof(s->sndtimeo))
			return (int)flat_result(-EINVAL);
		memcpy(&s->sndtimeo, value, sizeof(s->sndtimeo));
		return 0;
	case SO_RCVLOWAT:
		if (len < sizeof(n))
			return (int)flat_result(-EINVAL);
		/* No more than a ring holds, or nobody would ever be woken. */
		s->rcvlowat = n < 0 ? INT_MAX : n;
		if (s->rcvlowat > (int)s->vq.rx.mask[1] / 2 && s->kind == FLAT_FD_STREAM)
			s->rcvlowat = (int)s->vq.rx.mask[1] / 2;
		return 0;
	case SO_SNDBUF:
	case SO_RCVBUF:
		/* Sizes are the ring's; the anchor carries bells only and must keep its own. */
		return 0;
	default:
		return (int)flat_result(flat_sys_setsockopt(fd, level, name, value, len));
	}
}

int flat_ioctl(int fd, unsigned long request, void *arg)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s || request == FIOCLEX || request == FIONCLEX)
		return (int)flat_result(FLAT_SYS3(SYS_ioctl, fd, request, arg));
	if (request == FIONBIO) {
		atomic_store(&s->nonblock, *(int *)arg != 0);
		return (int)flat_result(FLAT_SYS3(SYS_ioctl, fd, request, arg));
	}
	if (s->kind == FLAT_FD_LISTENER)
		return (int)flat_result(-EINVAL);
	if (request == FIONREAD || request == SIOCOUTQ) {
		ssize_t n =
		    request == FIONREAD ? flat_share_pending(s) : flat_ring_unsent(&s->vq.tx);
		*(int *)arg = n > 0 ? (int)n : 0;
		return 0;
	}
	if (request == SIOCATMARK) {
		*(int *)arg = 0;
		return 0;
	}
	return (int)flat_result(-ENOTTY);
}

int flat_mesh_address(const char *host, char text[64])
{
	struct flat_addr addr;
	flat_host_init();
	const struct flat_directory *dir = host ? flat_session_directory() : NULL;
	if (!dir || flat_directory_find_name(dir, host, &addr) != 0)
		return -1;
	return inet_ntop(addr.family, addr.ip, text, 64) ? 0 : -1;
}

int flat_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		     struct addrinfo **res)
{
	char text[64];
	return getaddrinfo(flat_mesh_address(node, text) == 0 ? text : node, service, hints, res);
}

void flat_freeaddrinfo(struct addrinfo *res)
{
	freeaddrinfo(res);
}
