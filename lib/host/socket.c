/* How a socket becomes flat: socket, connect; its names and options. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "host/epoll.h"
#include "host/share.h"
#include "host/stream.h"
#include "host/urgent.h"
#include "host/user.h"

int flat_socket(int domain, int type, int protocol)
{
	int fd = flat_sys_socket(domain, type, protocol);
	if (fd < 0)
		return (int)flat_result(fd);
	flat_host_init();
	/* The number was in use by us: closed by a call that no hook saw. */
	flat_fd_unbind(fd);
	flat_numbers_seen(fd);
	if ((domain == AF_INET || domain == AF_INET6) &&
	    (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
	    (protocol == 0 || protocol == IPPROTO_TCP)) {
		flat_fd_set_kind(fd, FLAT_FD_CANDIDATE);
		flat_fd_mark(fd, FLAT_MARK_NEW | (domain == AF_INET ? FLAT_MARK_V4 : FLAT_MARK_V6));
	}
	return fd;
}

bool flat_offload_caught_up(void)
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

static bool address_of(struct flat_addr *a, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage ss;
	return len <= sizeof(ss) && flat_user_get(&ss, addr, len) == 0 &&
	       flat_addr_from_sockaddr(a, (struct sockaddr *)&ss, len) == 0;
}

/*
 * A listener that was closed is held by the offload half until it has heard of it, and a request of its own has let it go,
 * which it waits for when it is asked. So often: briefly where the port may be anybody's, about a second where it was ours.
 */
#define BIND_TRIES 2
#define BIND_TRIES_OWN 1000
static long bind_again(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct flat_addr a;
	struct timespec ms = {.tv_nsec = 1000000};
	long err = -EADDRINUSE;
	bool own = address_of(&a, addr, len) && flat_listener_just_closed(&a);
	for (int i = 0; err == -EADDRINUSE && i < (own ? BIND_TRIES_OWN : BIND_TRIES); i++) {
		if (!flat_offload_caught_up())
			break;
		if (i >= BIND_TRIES)
			(void)FLAT_SYS2(SYS_nanosleep, &ms, NULL);
		err = FLAT_SYS3(SYS_bind, fd, addr, len);
	}
	return err;
}

static int get_int(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	return flat_sys_getsockopt(fd, level, name, &value, &len) == 0 ? value : 0;
}

int flat_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct flat_addr a;
	if (flat_fd_sock(fd))
		return (int)flat_result(-EINVAL);
	flat_fd_mark(fd, 0);
	long err = FLAT_SYS3(SYS_bind, fd, addr, len);
	if (flat_unlikely(err == -EADDRINUSE && flat_session_directory()))
		err = bind_again(fd, addr, len);
	/* Who binds there next, and cannot, is told at once. */
	if (err == 0 && address_of(&a, addr, len) && flat_listener_just_closed(&a) &&
	    !get_int(fd, SOL_SOCKET, SO_REUSEPORT))
		flat_listener_let_go(&a);
	return (int)flat_result(err);
}

int flat_fd_domain(int fd)
{
	uint16_t marks = flat_fd_marks(fd);
	return marks & FLAT_MARK_V4   ? AF_INET
	       : marks & FLAT_MARK_V6 ? AF_INET6
				      : get_int(fd, SOL_SOCKET, SO_DOMAIN);
}

/* What was set on a candidate; of a new one there is nothing to ask for. */
static void adopt_settings(struct flat_sock *s, int fd, int anchor)
{
	struct timeval tv = {0};
	socklen_t tv_len = sizeof(tv);
	const uint16_t marks = flat_fd_marks(fd);
	s->rcvlowat = 1;
	if (marks & FLAT_MARK_NEW)
		return;
	if (s->kind == FLAT_FD_STREAM)
		flat_stream_shut_early(s, marks);
	else
		s->shut_early = marks & (FLAT_MARK_SHUT_RD | FLAT_MARK_SHUT_WR);
	/* A listener's options are asked of its kernel socket; its connections get what was set on it. */
	flat_option_adopt(s, fd, (flat_fd_marks(fd) & FLAT_MARK_OPTIONS) != 0);
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &tv_len) == 0 &&
	    (tv.tv_sec || tv.tv_usec))
		(void)flat_sys_setsockopt(anchor, SOL_SOCKET, SO_RCVTIMEO, &tv, tv_len);
}

void flat_file_owner(int fd, struct flat_file_owner *o)
{
	int sig = flat_sys_fcntl(fd, F_GETSIG, 0);
	o->sig = sig > 0 ? sig : 0;
	if (flat_sys_fcntl(fd, F_GETOWN_EX, (long)(uintptr_t)&o->who) != 0)
		o->who = (struct f_owner_ex){0};
}

void flat_file_keep(int from, int to, int flags, bool owned)
{
	const int kept = O_NONBLOCK | O_APPEND | O_ASYNC | O_NOATIME;
	struct flat_file_owner o = {0};
	if (owned)
		flat_file_owner(from, &o);
	if (o.who.pid != 0)
		(void)flat_sys_fcntl(to, F_SETOWN_EX, (long)(uintptr_t)&o.who);
	if (o.sig != 0)
		(void)flat_sys_fcntl(to, F_SETSIG, o.sig);
	/* Last: from O_ASYNC on they are sent. */
	if (flags > 0 && (flags & kept))
		(void)flat_sys_fcntl(to, F_SETFL, flags & kept);
}

/* Under one more number of the candidate. One that cannot be stays the kernel's, unconnected. */
static void replace_twin(int fd, int anchor, struct flat_sock *s)
{
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	flat_epoll_converting(fd);
	if (flat_sys_dup3(anchor, fd, cloexec ? O_CLOEXEC : 0) < 0)
		return;
	flat_fd_bind_more(fd, s);
	flat_epoll_converted(fd);
}

/* The anchor takes the place of the kernel's socket under its numbers, with what was set on that. */
int flat_sock_replace(int fd, int anchor, struct flat_sock *s)
{
	struct flat_twins twins;
	int fl = flat_sys_fcntl(fd, F_GETFL, 0);
	int cloexec = flat_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	s->domain = flat_fd_domain(fd);
	adopt_settings(s, fd, anchor);
	flat_file_keep(fd, anchor, fl,
		       (fl & O_ASYNC) ||
			   (flat_fd_marks(fd) & (FLAT_MARK_OPTIONS | FLAT_MARK_TWINS)));
	atomic_store(&s->nonblock, (fl & O_NONBLOCK) != 0);
	atomic_store(&s->async, (fl & O_ASYNC) != 0);
	flat_fd_twins(fd, &twins);
	flat_epoll_converting(fd);
	int err = flat_sys_dup3(anchor, fd, cloexec ? O_CLOEXEC : 0);
	if (err >= 0) {
		flat_fd_bind(fd, s);
		flat_epoll_converted(fd);
		for (uint32_t i = 0; i < twins.n; i++)
			replace_twin(twins.fd[i], anchor, s);
	}
	flat_fd_close_private(anchor);
	return err < 0 ? err : 0;
}

int flat_sock_name(const struct flat_addr *a, int domain, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage ss;
	struct flat_addr shown = *a;
	if (domain == AF_INET6 && shown.family == AF_INET) {
		memmove(shown.ip + 12, shown.ip, 4);
		memset(shown.ip, 0, 10);
		memset(shown.ip + 10, 0xff, 2);
		shown.family = AF_INET6;
	} else if (domain == AF_INET) {
		flat_addr_unmap(&shown);
	}
	memset(&ss, 0, sizeof(ss));
	return flat_user_give_addr(addr, len, &ss, flat_addr_to_sockaddr(&shown, &ss));
}

/* --- names and options --- */

int flat_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(flat_sys_getsockname(fd, addr, len));
	return (int)flat_result(flat_sock_name(&s->local, s->domain, addr, len));
}

int flat_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(FLAT_SYS3(SYS_getpeername, fd, addr, len));
	int state = s->kind == FLAT_FD_LISTENER ? TCP_LISTEN : flat_stream_state(s);
	bool gone = state == TCP_LISTEN || state == TCP_CLOSE || state == TCP_SYN_SENT;
	return (int)flat_result(gone ? -ENOTCONN : flat_sock_name(&s->peer, s->domain, addr, len));
}

int flat_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return (int)flat_result(flat_sys_getsockopt(fd, level, name, value, len));
	return (int)flat_result(flat_option_get(s, fd, level, name, value, len));
}

/* Under each of its numbers. */
static void candidate_to_kernel(int fd)
{
	struct flat_twins twins;
	flat_fd_twins(fd, &twins);
	for (uint32_t i = 0; i < twins.n; i++)
		flat_fd_unbind(twins.fd[i]);
	flat_fd_unbind(fd);
}

int flat_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct flat_sock *s = flat_fd_sock(fd);
	int err;
	if (s) {
		err = flat_option_set(s, fd, level, name, value, len);
		if (err == 0 && s->kind == FLAT_FD_LISTENER && flat_option_of_segments(level, name))
			err = flat_listener_to_kernel(fd, s);
		return (int)flat_result(err);
	}
	flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	bool candidate = flat_fd_kind(fd) == FLAT_FD_CANDIDATE;
	if (candidate)
		flat_option_note(level, name);
	err = flat_sys_setsockopt(fd, level, name, value, len);
	if (err == 0 && candidate && flat_option_of_segments(level, name))
		candidate_to_kernel(fd);
	return (int)flat_result(err);
}

static int give_int(void *to, int value)
{
	if (!flat_user_possible(to, sizeof(value)))
		return -EFAULT;
	memcpy(to, &value, sizeof(value));
	return 0;
}

/* Whether the kernel's file under the number knows it as any socket does: modes, and who is told by signals. */
static bool of_any_file(unsigned long request)
{
	return request == FIOCLEX || request == FIONCLEX || request == FIOASYNC ||
	       request == FIOSETOWN || request == SIOCSPGRP || request == FIOGETOWN ||
	       request == SIOCGPGRP;
}

/* What speaks of the host's interfaces, routes and the like, and asks any socket of its family: SIOC*. */
static bool of_family(unsigned long request)
{
	return (request >> 8) == 0x89;
}

int flat_ioctl(int fd, unsigned long request, void *arg)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s && (request == FIOSETOWN || request == SIOCSPGRP))
		flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	if (!s || of_any_file(request)) {
		long ret = FLAT_SYS3(SYS_ioctl, fd, request, arg);
		if (s && request == FIOASYNC && ret == 0)
			flat_stream_signals(s, fd, *(int *)arg != 0);
		return (int)flat_result(ret);
	}
	if (request == FIONBIO) {
		long err = FLAT_SYS3(SYS_ioctl, fd, request, arg);
		if (err == 0)
			atomic_store(&s->nonblock, *(int *)arg != 0);
		return (int)flat_result(err);
	}
	bool stream = s->kind == FLAT_FD_STREAM;
	switch (request) {
	case FIONREAD:
	case SIOCOUTQ:
	case SIOCOUTQNSD: {
		ssize_t n = !stream		  ? -EINVAL
			    : request == FIONREAD ? flat_stream_unread(s)
			    : request == SIOCOUTQ ? flat_ring_unsent(&s->vq.tx)
						  : 0; /* it is all on its way at once */
		return (int)flat_result(n == -EINVAL ? -EINVAL : give_int(arg, n > 0 ? (int)n : 0));
	}
	case SIOCATMARK:
		return (int)flat_result(give_int(arg, stream && flat_urgent_is_next(s)));
	default:
		/* The rest is the file system's, or nobody's. */
		return (int)flat_result(of_family(request)
					    ? flat_option_ioctl(s, request, arg)
					    : FLAT_SYS3(SYS_ioctl, fd, request, arg));
	}
}

/* A name that not everybody sees: whether this process does. 0, or a negative errno. */
static int ask_name(const char *host, struct flat_addr *addr)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_RESOLVE, 0);
	size_t len = strlen(host);
	if (len >= sizeof(msg.body.resolve.host))
		return -ENOENT;
	memcpy(msg.body.resolve.host, host, len);
	int err = flat_session_ask(&msg, -1, fds, &n);
	if (err != 0)
		return err;
	flat_msg_close_fds(fds, n);
	*addr = msg.body.resolve.addr;
	return msg.status;
}

int flat_mesh_address(const char *host, char text[64])
{
	struct flat_addr addr;
	flat_host_init();
	const struct flat_directory *dir = host ? flat_session_directory() : NULL;
	int err = dir ? flat_directory_find_name(dir, host, &addr) : -ENOENT;
	if (err == FLAT_DIRECTORY_VEILED)
		err = ask_name(host, &addr);
	if (err != 0)
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
