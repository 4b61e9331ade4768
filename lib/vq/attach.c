#include "vq/attach.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/sys.h"

void flat_msg_init(struct flat_msg *msg, enum flat_msg_type type, uint32_t seq)
{
	memset(msg, 0, sizeof(*msg));
	msg->magic = FLAT_MSG_MAGIC;
	msg->version = FLAT_MSG_VERSION;
	msg->type = (uint16_t)type;
	msg->seq = seq;
	if (type == FLAT_MSG_HELLO)
		msg->body.hello.shared = flat_shared_version();
}

uint32_t flat_shared_version(void)
{
	return FLAT_SHARED(FLAT_MSG_VERSION, FLAT_DIRECTORY_VERSION, FLAT_LANE_VERSION);
}

const char *flat_shared_str(uint32_t shared, char buf[FLAT_SHARED_STRLEN])
{
	if ((shared & 0xffffU) == 0)
		snprintf(buf, FLAT_SHARED_STRLEN, "%u", shared >> 16);
	else
		snprintf(buf, FLAT_SHARED_STRLEN, "%u.%u.%u", shared >> 16, shared >> 8 & 0xffU,
			 shared & 0xffU);
	return buf;
}

uint32_t flat_msg_other_build(const struct flat_msg *msg, int err)
{
	if (msg->magic != FLAT_MSG_MAGIC || (err != 0 && err != -EPROTO))
		return 0;
	if (msg->version != FLAT_MSG_VERSION)
		return FLAT_SHARED(msg->version, 0, 0);
	if (err != 0 || msg->type != FLAT_MSG_HELLO)
		return 0;
	uint32_t theirs = msg->body.hello.shared ? msg->body.hello.shared : FLAT_SHARED_UNTOLD;
	return theirs == flat_shared_version() ? 0 : theirs;
}

union cmsg_space {
	struct cmsghdr align;
	uint8_t buf[CMSG_SPACE(sizeof(int) * FLAT_MSG_FDS_MAX)];
};

int flat_msg_send(int sock, const struct flat_msg *msg, const int *fds, size_t n, int flags)
{
	union cmsg_space space;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg)};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n > FLAT_MSG_FDS_MAX)
		return -EINVAL;
	if (n > 0) {
		memset(&space, 0, sizeof(space));
		hdr.msg_control = space.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n);
	}
	ssize_t sent = flat_sys_sendmsg(sock, &hdr, flags | MSG_NOSIGNAL);
	return sent < 0 ? (int)sent : 0;
}

/* An ACCEPT's directory, its last descriptor, can be done without where there are no numbers for all. */
static bool is_enough(struct flat_msg *msg, size_t n)
{
	if (msg->type != FLAT_MSG_ACCEPT || !(msg->fds & FLAT_FD_DIRECTORY) ||
	    n + 1 != (size_t)__builtin_popcount(msg->fds))
		return false;
	msg->fds &= ~FLAT_FD_DIRECTORY;
	return true;
}

/* Collects every descriptor of a message; those beyond the array are closed and make it invalid. */
static int collect_fds(struct msghdr *hdr, int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	int err = 0;
	*n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*n < FLAT_MSG_FDS_MAX) {
				fds[(*n)++] = fd;
			} else {
				flat_sys_close(fd);
				err = -EPROTO;
			}
		}
	}
	return err;
}

int flat_msg_check(const struct flat_msg *msg, size_t len_bytes, size_t n_fds)
{
	if (len_bytes != sizeof(*msg) || msg->magic != FLAT_MSG_MAGIC ||
	    msg->version != FLAT_MSG_VERSION)
		return -EPROTO;
	size_t tickets = msg->fds & FLAT_FD_TICKETS ? msg->body.tickets.n : 0;
	if (msg->fds >= FLAT_FD_TICKETS * 2 || tickets > FLAT_MSG_TICKETS_MAX ||
	    ((msg->fds & FLAT_FD_TICKETS) && (msg->type != FLAT_MSG_TICKETS || tickets == 0)))
		return -EPROTO;
	if ((size_t)__builtin_popcount(msg->fds & (FLAT_FD_TICKETS - 1)) + 2 * tickets != n_fds)
		return -EPROTO;
	if (!memchr(msg->reason, 0, sizeof(msg->reason)))
		return -EPROTO;
	return 0;
}

int flat_msg_recv(int sock, struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], size_t *n, int flags)
{
	union cmsg_space space;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr hdr = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = space.buf,
	    .msg_controllen = sizeof(space.buf),
	};
	*n = 0;
	/* What is too short says nothing: flat_msg_other_build(). */
	msg->magic = 0;
	msg->version = 0;
	ssize_t len = flat_sys_recvmsg(sock, &hdr, flags | MSG_CMSG_CLOEXEC);
	if (len < 0)
		return (int)len;
	int err = collect_fds(&hdr, fds, n);
	if (len == 0 && *n == 0)
		return -ENOTCONN;
	/* Fewer than there is room for: they found no numbers. */
	if ((hdr.msg_flags & MSG_CTRUNC) && *n < FLAT_MSG_FDS_MAX && err == 0 &&
	    len == (ssize_t)sizeof(*msg))
		err = is_enough(msg, *n) ? 0 : -EMFILE;
	else if (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		err = -EPROTO;
	if (err == 0)
		err = flat_msg_check(msg, (size_t)len, *n);
	if (err != 0) {
		flat_msg_close_fds(fds, *n);
		*n = 0;
	}
	return err;
}

int flat_msg_fd(const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], uint32_t flag)
{
	if (!(msg->fds & flag))
		return -1;
	int *slot = &fds[__builtin_popcount(msg->fds & (flag - 1))];
	int fd = *slot;
	*slot = -1;
	return fd;
}

void flat_msg_ticket_fds(const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], uint32_t i,
			 int *anchor, int *bell)
{
	uint32_t at = (uint32_t)__builtin_popcount(msg->fds & (FLAT_FD_TICKETS - 1)) + 2 * i;
	*anchor = fds[at];
	*bell = fds[at + 1];
	fds[at] = fds[at + 1] = -1;
}

void flat_msg_close_fds(int fds[FLAT_MSG_FDS_MAX], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			flat_sys_close(fds[i]);
		fds[i] = -1;
	}
}

int flat_addr_from_sockaddr(struct flat_addr *addr, const struct sockaddr *sa, socklen_t len)
{
	memset(addr, 0, sizeof(*addr));
	if (len < sizeof(sa->sa_family))
		return -EINVAL;
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		addr->port = ntohs(in.sin_port);
		memcpy(addr->ip, &in.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		/* As Linux: the scope id may be missing (RFC 2133 programs). */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memset(&in6, 0, sizeof(in6));
		memcpy(&in6, sa, len < sizeof(in6) ? len : sizeof(in6));
		addr->port = ntohs(in6.sin6_port);
		addr->scope_id = in6.sin6_scope_id;
		memcpy(addr->ip, &in6.sin6_addr, 16);
	} else {
		return -EAFNOSUPPORT;
	}
	addr->family = sa->sa_family;
	return 0;
}

socklen_t flat_addr_to_sockaddr(const struct flat_addr *addr, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (addr->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(addr->port);
		in6->sin6_scope_id = addr->scope_id;
		memcpy(&in6->sin6_addr, addr->ip, 16);
		return sizeof(*in6);
	}
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	in->sin_family = AF_INET;
	in->sin_port = htons(addr->port);
	memcpy(&in->sin_addr, addr->ip, 4);
	return sizeof(*in);
}

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void flat_addr_unmap(struct flat_addr *addr)
{
	if (addr->family != AF_INET6 || memcmp(addr->ip, v4_mapped, sizeof(v4_mapped)) != 0)
		return;
	memcpy(addr->ip, addr->ip + 12, 4);
	memset(addr->ip + 4, 0, 12);
	addr->family = AF_INET;
	addr->scope_id = 0;
}

int flat_addr_equal(const struct flat_addr *a, const struct flat_addr *b)
{
	struct flat_addr x = *a;
	struct flat_addr y = *b;
	flat_addr_unmap(&x);
	flat_addr_unmap(&y);
	return x.family == y.family && x.port == y.port && memcmp(x.ip, y.ip, sizeof(x.ip)) == 0;
}

const char *flat_addr_str(const struct flat_addr *addr, char buf[FLAT_ADDR_STRLEN])
{
	char ip[INET6_ADDRSTRLEN] = "-";
	if (addr->family == AF_INET6) {
		inet_ntop(AF_INET6, addr->ip, ip, sizeof(ip));
		snprintf(buf, FLAT_ADDR_STRLEN, "[%s]:%u", ip, addr->port);
	} else if (addr->family == AF_INET) {
		/* Access logs have one in each line: inet_ntop() and printf cost more than the rest of it. */
		char *at = buf;
		for (size_t i = 0; i < 4; i++) {
			at = flat_put_decimal(at, addr->ip[i]);
			*at++ = i < 3 ? '.' : ':';
		}
		*flat_put_decimal(at, addr->port) = '\0';
	} else {
		snprintf(buf, FLAT_ADDR_STRLEN, "-");
	}
	return buf;
}
