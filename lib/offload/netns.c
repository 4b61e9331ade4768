#include "offload/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/sys.h"
#include "base/thread.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static LIST_HEAD(, flat_netns) all = LIST_HEAD_INITIALIZER(all);

static int cookie_of(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);
	return flat_sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len);
}

int flat_netns_own(uint64_t *cookie)
{
	int fd = flat_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? fd : cookie_of(fd, cookie);
	if (fd >= 0)
		flat_sys_close(fd);
	return err;
}

/* --- what is local --- */

static int open_routes(void)
{
	return flat_sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

struct question {
	struct nlmsghdr head;
	struct rtmsg route;
	struct rtattr attr;
	uint8_t ip[16];
};

/* Bytes sent, or a negative errno. */
static ssize_t ask(int fd, const struct nlmsghdr *q)
{
	uint8_t old[1024];
	/* Answers to earlier questions that were not read whole. */
	while (flat_sys_recv(fd, old, sizeof(old), MSG_DONTWAIT) > 0)
		;
	return flat_sys_send(fd, q, q->nlmsg_len, MSG_DONTWAIT);
}

/* 1: it is local, 0: it is not, or a negative errno: nobody answers. */
static int ask_routes(int fd, const struct flat_addr *addr)
{
	size_t ip_len = addr->family == AF_INET ? 4 : 16;
	struct question q = {
	    .head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
	    .route = {.rtm_family = (unsigned char)addr->family,
		      .rtm_dst_len = (unsigned char)(ip_len * 8)},
	    .attr = {.rta_len = (unsigned short)RTA_LENGTH(ip_len), .rta_type = RTA_DST},
	};
	union {
		struct nlmsghdr head;
		uint8_t bytes[2048];
	} a;
	memcpy(q.ip, addr->ip, ip_len);
	q.head.nlmsg_len = (uint32_t)(offsetof(struct question, ip) + ip_len);
	ssize_t n = ask(fd, &q.head);
	/* The kernel answers inside of send(). */
	if (n > 0)
		n = flat_sys_recv(fd, &a, sizeof(a), MSG_DONTWAIT);
	if (n < (ssize_t)sizeof(a.head))
		return n < 0 ? (int)n : -EPROTO;
	/* No route leads there: it is not local. */
	if (a.head.nlmsg_type == NLMSG_ERROR)
		return 0;
	const struct rtmsg *route = NLMSG_DATA(&a.head);
	return a.head.nlmsg_type == RTM_NEWROUTE && n >= (ssize_t)NLMSG_LENGTH(sizeof(*route)) &&
	       route->rtm_type == RTN_LOCAL;
}

/* An RTM_NEWADDR. IFA_ADDRESS is the other end's where there is IFA_LOCAL too. */
static bool is_of(struct nlmsghdr *h, const struct flat_addr *addr)
{
	const struct ifaddrmsg *ifa = NLMSG_DATA(h);
	const uint8_t *at = (const uint8_t *)(ifa + 1);
	const uint8_t *end = (const uint8_t *)h + h->nlmsg_len;
	const uint8_t *ip = NULL;
	struct rtattr attr;
	while (end - at >= (ssize_t)sizeof(attr)) {
		memcpy(&attr, at, sizeof(attr));
		if (attr.rta_len < sizeof(attr) || attr.rta_len > end - at)
			break;
		if (attr.rta_type == IFA_LOCAL || (attr.rta_type == IFA_ADDRESS && !ip))
			ip = at + RTA_LENGTH(0);
		at += RTA_ALIGN(attr.rta_len);
	}
	return ip && ifa->ifa_family == addr->family &&
	       memcmp(ip, addr->ip, addr->family == AF_INET ? 4 : 16) == 0;
}

/* Rules of routing may come before the table of what is local: what an interface has is local all the same. */
static bool ask_addresses(int fd, const struct flat_addr *addr)
{
	const struct {
		struct nlmsghdr head;
		struct ifaddrmsg ifa;
	} q = {
	    .head = {.nlmsg_len = sizeof(q),
		     .nlmsg_type = RTM_GETADDR,
		     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
	    .ifa = {.ifa_family = (unsigned char)addr->family},
	};
	union {
		struct nlmsghdr head;
		uint8_t bytes[8192];
	} a;
	bool found = false;
	ssize_t n = ask(fd, &q.head);
	while (n > 0 && (n = flat_sys_recv(fd, &a, sizeof(a), MSG_DONTWAIT)) > 0) {
		struct nlmsghdr *h = &a.head;
		for (size_t left = (size_t)n; NLMSG_OK(h, left);) {
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
				return found;
			found |= h->nlmsg_type == RTM_NEWADDR && is_of(h, addr);
			size_t step = flat_min_size(NLMSG_ALIGN(h->nlmsg_len), left);
			h = (void *)((uint8_t *)h + step);
			left -= step;
		}
	}
	return found;
}

/* As ask_routes(). */
static int ask_kernel(int fd, const struct flat_addr *addr)
{
	int here = ask_routes(fd, addr);
	return here == 0 ? ask_addresses(fd, addr) : here;
}

/* Where netlink is not to be had. Says yes to everything where net.ipv4.ip_nonlocal_bind is set. */
static bool can_bind(const struct flat_addr *addr)
{
	struct flat_addr any_port = *addr;
	struct sockaddr_storage ss;
	any_port.port = 0;
	socklen_t len = flat_addr_to_sockaddr(&any_port, &ss);
	int fd = flat_sys_socket(addr->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool can = FLAT_SYS3(SYS_bind, fd, &ss, len) == 0;
	flat_sys_close(fd);
	return can;
}

/* Interfaces that are told of; more of one namespace are not looked at. */
#define INTERFACES_MAX 64

static bool has_interface(int sock, const struct flat_addr *addr)
{
	struct ifreq v[INTERFACES_MAX];
	struct ifconf conf = {.ifc_len = sizeof(v), .ifc_req = v};
	if (sock < 0 || addr->family != AF_INET || ioctl(sock, SIOCGIFCONF, &conf) != 0)
		return false;
	for (size_t i = 0; i < (size_t)conf.ifc_len / sizeof(v[0]); i++) {
		struct sockaddr_in in;
		memcpy(&in, &v[i].ifr_addr, sizeof(in));
		if (in.sin_family == AF_INET && memcmp(&in.sin_addr, addr->ip, 4) == 0)
			return true;
	}
	return false;
}

/* --- what was asked --- */

/* As many addresses as pods of a node, twice: each of its listeners' namespaces is asked for each that somebody connects to. */
#define ANSWERS 256

struct flat_netns_answer {
	struct flat_addr addr;
	int64_t until_us;
	bool here;
};

static uint64_t asked;

uint64_t flat_netns_asked(void)
{
	return asked;
}

static bool has(const struct flat_netns *ns, int sock, const struct flat_addr *want)
{
	static int own = -1;
	asked++;
	if (ns)
		return ns->routes >= 0 ? ask_kernel(ns->routes, want) == 1
				       : has_interface(sock, want);
	if (own < 0)
		own = open_routes();
	int here = own < 0 ? own : ask_kernel(own, want);
	return here < 0 ? can_bind(want) : here == 1;
}

bool flat_netns_has(struct flat_netns *ns, int sock, const struct flat_addr *addr)
{
	static struct flat_netns_answer own[ANSWERS];
	struct flat_netns_answer *v = own;
	struct flat_addr want = *addr;
	flat_addr_unmap(&want);
	want.port = 0;
	if (ns && !ns->known)
		ns->known = calloc(ANSWERS, sizeof(*ns->known));
	if (ns)
		v = ns->known;
	if (!v)
		return has(ns, sock, &want);
	v += flat_hash_quick(want.ip, sizeof(want.ip)) % ANSWERS;
	int64_t now = flat_now_us();
	if (now >= v->until_us || !flat_addr_equal(&v->addr, &want)) {
		v->addr = want;
		v->here = has(ns, sock, &want);
		v->until_us = now + FLAT_NETNS_GOOD_US;
	}
	return v->here;
}

/* --- others --- */

struct visit {
	int ns;
	int routes;
};

/* A thread of its own: one that could not come back would leave all of flatd there. */
static void *visit(void *arg)
{
	struct visit *v = arg;
	int err = (int)FLAT_SYS2(SYS_setns, v->ns, CLONE_NEWNET);
	v->routes = err < 0 ? err : open_routes();
	return NULL;
}

static int routes_of(int ns)
{
	struct visit v = {.ns = ns, .routes = -EAGAIN};
	pthread_t thread;
	int err = flat_thread_start(&thread, NULL, visit, &v);
	if (err != 0)
		return err;
	pthread_join(thread, NULL);
	return v.routes;
}

static bool is_ours(int ns)
{
	struct stat own;
	struct stat its;
	uid_t maker;
	int fd = ioctl(ns, NS_GET_USERNS);
	bool ours = fd >= 0 && fstat(fd, &its) == 0 && stat("/proc/self/ns/user", &own) == 0 &&
		    its.st_ino == own.st_ino && its.st_dev == own.st_dev;
	ours |= fd >= 0 && ioctl(fd, NS_GET_OWNER_UID, &maker) == 0 && maker == geteuid();
	if (fd >= 0)
		close(fd);
	return ours;
}

static struct flat_netns *find(uint64_t id)
{
	struct flat_netns *ns;
	LIST_FOREACH(ns, &all, link)
	{
		if (ns->id == id)
			return ns;
	}
	return NULL;
}

static struct flat_netns *make(uint64_t id, int fd)
{
	struct flat_netns *ns = calloc(1, sizeof(*ns));
	if (!ns)
		return NULL;
	ns->id = id;
	ns->fd = fd;
	ns->routes = -1;
	LIST_INSERT_HEAD(&all, ns, link);
	return ns;
}

/* That of `fd` (taken), referenced. NULL: no memory, or it is none. */
static struct flat_netns *take(int fd)
{
	struct stat st;
	struct flat_netns *ns = NULL;
	if (fstat(fd, &st) == 0) {
		ns = find(st.st_ino);
		if (!ns) {
			ns = make(st.st_ino, fd);
			fd = ns ? -1 : fd;
		}
	}
	if (fd >= 0)
		close(fd);
	return flat_netns_get(ns);
}

int flat_netns_of_socket(int fd, struct flat_netns **ns)
{
	static uint64_t own;
	uint64_t cookie = 0;
	*ns = NULL;
	int err = own == 0 ? flat_netns_own(&own) : 0;
	if (err == 0)
		err = cookie_of(fd, &cookie);
	if (err != 0 || cookie == own)
		return err;
	int its = ioctl(fd, SIOCGSKNS);
	if (its < 0)
		return -errno;
	*ns = take(its);
	if (!*ns)
		return -ENOMEM;
	if (!(*ns)->looked) {
		(*ns)->looked = true;
		(*ns)->ours = is_ours((*ns)->fd);
		(*ns)->routes = routes_of((*ns)->fd);
	}
	return 0;
}

struct flat_netns *flat_netns_get(struct flat_netns *ns)
{
	if (ns)
		ns->refs++;
	return ns;
}

void flat_netns_put(struct flat_netns *ns)
{
	if (!ns || --ns->refs > 0)
		return;
	LIST_REMOVE(ns, link);
	if (ns->routes >= 0)
		close(ns->routes);
	close(ns->fd);
	free(ns->known);
	free(ns);
}

/* --- of whom nothing may be read --- */

/* Not flatd's own, and nobody's of whom anything is known. */
static struct flat_netns unknown = {.fd = -1, .routes = -EPERM, .refs = 1, .looked = true};

/* The number of the socket at the other end of this one, which is in the namespace of `diag`; 0: there is none such. */
static uint32_t peer_of(int diag, uint32_t inode)
{
	const struct {
		struct nlmsghdr head;
		struct unix_diag_req unix_;
	} q = {
	    .head = {.nlmsg_len = sizeof(q),
		     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		     .nlmsg_flags = NLM_F_REQUEST},
	    .unix_ = {.sdiag_family = AF_UNIX,
		      .udiag_ino = inode,
		      .udiag_show = UDIAG_SHOW_PEER,
		      .udiag_cookie = {UINT32_MAX, UINT32_MAX} /* any */},
	};
	union {
		struct nlmsghdr head;
		uint8_t bytes[1024];
	} a;
	uint32_t peer = 0;
	ssize_t n = ask(diag, &q.head);
	if (n > 0)
		n = flat_sys_recv(diag, &a, sizeof(a), MSG_DONTWAIT);
	if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct unix_diag_msg)) ||
	    a.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	const uint8_t *at = a.bytes + NLMSG_LENGTH(sizeof(struct unix_diag_msg));
	const uint8_t *end = a.bytes + n;
	struct rtattr attr;
	while (end - at >= (ssize_t)sizeof(attr)) {
		memcpy(&attr, at, sizeof(attr));
		if (attr.rta_len < sizeof(attr) || attr.rta_len > end - at)
			break;
		if (attr.rta_type == UNIX_DIAG_PEER && attr.rta_len >= RTA_LENGTH(sizeof(peer)))
			memcpy(&peer, at + RTA_LENGTH(0), sizeof(peer));
		at += RTA_ALIGN(attr.rta_len);
	}
	return peer;
}

/* The kernel finds sockets of the asker's namespace alone. */
static bool is_peer_here(int fd)
{
	struct stat st;
	int diag = flat_sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	bool here = false;
	if (diag >= 0 && fstat(fd, &st) == 0) {
		uint32_t own = (uint32_t)st.st_ino;
		uint32_t peer = peer_of(diag, own);
		here = peer != 0 && peer_of(diag, peer) == own;
	}
	if (diag >= 0)
		close(diag);
	return here;
}

struct flat_netns *flat_netns_of_process(pid_t pid, int peer)
{
	char path[64];
	struct stat own;
	struct stat its;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return is_peer_here(peer) ? NULL : flat_netns_get(&unknown);
	if (stat("/proc/self/ns/net", &own) == 0 && fstat(fd, &its) == 0 &&
	    its.st_ino != own.st_ino)
		return take(fd);
	close(fd);
	return NULL;
}
