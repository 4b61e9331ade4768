#include "offload/capture_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* TCP_LISTEN (include/net/tcp_states.h). */
#define STATE_LISTEN 10
#define ANSWER_BYTES 32768

static struct flat_diag_socket read_socket(const struct nlmsghdr *h)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct flat_diag_socket s = {
	    .addr = {.family = m->idiag_family, .port = ntohs(m->id.idiag_sport)},
	    .cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0],
	    .uid = m->idiag_uid,
	    .device = m->id.idiag_if,
	};
	memcpy(s.addr.ip, m->id.idiag_src, m->idiag_family == AF_INET ? 4 : 16);
	flat_addr_unmap(&s.addr);
	const struct rtattr *a = (const struct rtattr *)(const void *)(m + 1);
	size_t left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*m));
	while (left >= sizeof(*a) && a->rta_len >= sizeof(*a) && a->rta_len <= left) {
		const void *data = (const char *)a + RTA_LENGTH(0);
		size_t len = a->rta_len - RTA_LENGTH(0);
		size_t step = RTA_ALIGN(a->rta_len);
		if (a->rta_type == INET_DIAG_CGROUP_ID && len >= sizeof(s.cgroup))
			memcpy(&s.cgroup, data, sizeof(s.cgroup));
		if (a->rta_type == INET_DIAG_SKV6ONLY && len >= 1)
			s.v6only = *(const uint8_t *)data != 0;
		left -= step < left ? step : left;
		a = (const struct rtattr *)(const void *)((const char *)a + step);
	}
	return s;
}

/* 1: there is more. */
static int read_answer(int fd, void (*fn)(void *ctx, const struct flat_diag_socket *s), void *ctx)
{
	static union {
		struct nlmsghdr h;
		char bytes[ANSWER_BYTES];
	} buf;
	ssize_t n = recv(fd, &buf, sizeof(buf), 0);
	if (n < 0)
		return errno == EINTR ? 1 : -errno;
	size_t at = 0;
	while ((size_t)n - at >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *h = (const void *)(buf.bytes + at);
		size_t step = NLMSG_ALIGN(h->nlmsg_len);
		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > (size_t)n - at)
			return -EPROTO;
		at += step < (size_t)n - at ? step : (size_t)n - at;
		if (h->nlmsg_type == NLMSG_DONE)
			return 0;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
			continue;
		const struct flat_diag_socket s = read_socket(h);
		fn(ctx, &s);
	}
	return 1;
}

static int list(int fd, uint8_t family, void (*fn)(void *ctx, const struct flat_diag_socket *s),
		void *ctx)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} ask = {
	    .h = {.nlmsg_len = sizeof(ask),
		  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
	    .r = {.sdiag_family = family,
		  .sdiag_protocol = IPPROTO_TCP,
		  .idiag_states = 1U << STATE_LISTEN},
	};
	int more = send(fd, &ask, sizeof(ask), 0) == (ssize_t)sizeof(ask) ? 1 : -errno;
	while (more > 0)
		more = read_answer(fd, fn, ctx);
	return more;
}

int flat_diag_listeners(void (*fn)(void *ctx, const struct flat_diag_socket *s), void *ctx)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return -errno;
	int err = list(fd, AF_INET, fn, ctx);
	if (err == 0)
		err = list(fd, AF_INET6, fn, ctx);
	close(fd);
	return err;
}
