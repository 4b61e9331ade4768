#include "host/option.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#include "host/host.h"
#include "host/share.h"
#include "host/user.h"

/* Loopback's 65,535 less headers and timestamps. */
#define SEGMENT_BYTES 65483

/* linux/tcp.h, since Linux 6.7. */
#define OPTION_TCP_AO_ADD_KEY 38

/* net/core/dev.c: of each network namespace's loopback device. */
#define LOOPBACK_INDEX 1

/* Of TCP_INFO, more than any kernel has. */
#define INFO_BYTES_MAX 1024

/*
 * What a candidate may have been given that its flat socket goes on with. In the order in which one set is read after
 * another changes nothing: IP_TOS and IPV6_TCLASS set a priority as well.
 */
static const struct {
	int level;
	int name;
} adopted[] = {
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_REUSEPORT},
    {SOL_SOCKET, SO_DEBUG},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_DONTROUTE},
    {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_NO_CHECK},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_RCVBUF},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_RCVMARK},
    {SOL_SOCKET, SO_BINDTOIFINDEX},
    {SOL_SOCKET, SO_TIMESTAMP_OLD},
    {SOL_SOCKET, SO_TIMESTAMP_NEW},
    {SOL_SOCKET, SO_TIMESTAMPNS_OLD},
    {SOL_SOCKET, SO_TIMESTAMPNS_NEW},
    {SOL_SOCKET, SO_TIMESTAMPING_OLD},
    {SOL_SOCKET, SO_TIMESTAMPING_NEW},
    {SOL_SOCKET, SO_RXQ_OVFL},
    {SOL_SOCKET, SO_WIFI_STATUS},
    {SOL_SOCKET, SO_PEEK_OFF},
    {SOL_SOCKET, SO_NOFCS},
    {SOL_SOCKET, SO_LOCK_FILTER},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE},
    {SOL_SOCKET, SO_BUSY_POLL},
    {SOL_SOCKET, SO_PREFER_BUSY_POLL},
    {SOL_SOCKET, SO_BUSY_POLL_BUDGET},
    {SOL_SOCKET, SO_MAX_PACING_RATE},
    {SOL_SOCKET, SO_INCOMING_CPU},
    {SOL_SOCKET, SO_ZEROCOPY},
    {SOL_SOCKET, SO_BUF_LOCK},
    {SOL_SOCKET, SO_TXREHASH},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_CONGESTION},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS},
    {IPPROTO_TCP, TCP_SAVE_SYN},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE},
    {IPPROTO_TCP, TCP_INQ},
    {IPPROTO_TCP, TCP_TX_DELAY},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_RECVERR},
    {IPPROTO_IP, IP_RECVERR_RFC4884},
    {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_TRANSPARENT},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
    {IPPROTO_IP, IP_RECVOPTS},
    {IPPROTO_IP, IP_RETOPTS},
    {IPPROTO_IP, IP_PKTINFO},
    {IPPROTO_IP, IP_RECVTTL},
    {IPPROTO_IP, IP_RECVTOS},
    {IPPROTO_IP, IP_PASSSEC},
    {IPPROTO_IP, IP_RECVORIGDSTADDR},
    {IPPROTO_IP, IP_MINTTL},
    {IPPROTO_IP, IP_CHECKSUM},
    {IPPROTO_IP, IP_MULTICAST_LOOP},
    {IPPROTO_IP, IP_MULTICAST_ALL},
    {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_RECVERR},
    {IPPROTO_IPV6, IPV6_RECVERR_RFC4884},
    {IPPROTO_IPV6, IPV6_FREEBIND},
    {IPPROTO_IPV6, IPV6_TRANSPARENT},
    {IPPROTO_IPV6, IPV6_2292PKTINFO},
    {IPPROTO_IPV6, IPV6_2292HOPOPTS},
    {IPPROTO_IPV6, IPV6_2292DSTOPTS},
    {IPPROTO_IPV6, IPV6_2292RTHDR},
    {IPPROTO_IPV6, IPV6_2292HOPLIMIT},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT},
    {IPPROTO_IPV6, IPV6_RECVHOPOPTS},
    {IPPROTO_IPV6, IPV6_RECVRTHDR},
    {IPPROTO_IPV6, IPV6_RECVDSTOPTS},
    {IPPROTO_IPV6, IPV6_RECVPATHMTU},
    {IPPROTO_IPV6, IPV6_RECVTCLASS},
    {IPPROTO_IPV6, IPV6_RECVORIGDSTADDR},
    {IPPROTO_IPV6, IPV6_RECVFRAGSIZE},
    {IPPROTO_IPV6, IPV6_DONTFRAG},
    {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL},
    {IPPROTO_IPV6, IPV6_ADDR_PREFERENCES},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL},
    {IPPROTO_IPV6, IPV6_ROUTER_ALERT_ISOLATE},
    {SOL_SOCKET, SO_PRIORITY},
};

/*
 * A bit for each of them that was set on a candidate of this process, or of one that it was forked from: no others need to be
 * asked for. Relaxed: who connects a socket knows that an option was set on it by means of its own.
 */
static _Atomic uint64_t noted[(FLAT_ARRAY_SIZE(adopted) + 63) / 64];

void flat_option_note(int level, int name)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(adopted); i++) {
		uint64_t bit = UINT64_C(1) << (i % 64);
		if (adopted[i].level != level || adopted[i].name != name)
			continue;
		if (!(atomic_load_explicit(&noted[i / 64], memory_order_relaxed) & bit))
			atomic_fetch_or_explicit(&noted[i / 64], bit, memory_order_relaxed);
	}
}

void flat_option_note_all(void)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(noted); i++)
		atomic_store_explicit(&noted[i], UINT64_MAX, memory_order_relaxed);
}

static bool is_noted(size_t i)
{
	/* net/ipv6/af_inet6.c, __inet6_bind(): an address sets this one as well. */
	if (adopted[i].level == IPPROTO_IPV6 && adopted[i].name == IPV6_V6ONLY)
		return true;
	return atomic_load_explicit(&noted[i / 64], memory_order_relaxed) >> (i % 64) & 1;
}

/* In the order in which they were set: setting one may change what another one said. */
static int keep(struct flat_options *o, int level, int name, const void *value, size_t len)
{
	int err = 0;
	uint32_t i = 0;
	if (len > FLAT_OPTION_BYTES)
		return -ENOMEM;
	flat_lock(&o->lock);
	while (i < o->n && (o->v[i].level != level || o->v[i].name != name))
		i++;
	if (i < o->n)
		memmove(&o->v[i], &o->v[i + 1], (--o->n - i) * sizeof(o->v[0]));
	if (o->n < FLAT_OPTIONS_MAX) {
		struct flat_option *v = &o->v[o->n++];
		v->level = level;
		v->name = (int16_t)name;
		v->len = (uint16_t)len;
		memcpy(v->value, value, len);
	} else {
		err = -ENOMEM;
	}
	flat_unlock(&o->lock);
	return err;
}

bool flat_option_in_line(struct flat_sock *s)
{
	struct flat_options *o = &s->options;
	int on = 0;
	flat_lock(&o->lock);
	for (uint32_t i = 0; i < o->n; i++) {
		if (o->v[i].level == SOL_SOCKET && o->v[i].name == SO_OOBINLINE)
			memcpy(&on, o->v[i].value, sizeof(on));
	}
	flat_unlock(&o->lock);
	return on != 0;
}

void flat_option_apply(struct flat_sock *s, int fd)
{
	struct flat_options *o = &s->options;
	flat_lock(&o->lock);
	for (uint32_t i = 0; i < o->n; i++)
		(void)flat_sys_setsockopt(fd, o->v[i].level, o->v[i].name, o->v[i].value,
					  o->v[i].len);
	flat_unlock(&o->lock);
}

/* A TCP socket to try options on: a listener's own, else a new one. A negative errno, too. */
static int scratch(struct flat_sock *s)
{
	if (s->kind == FLAT_FD_LISTENER && s->tcp_fd >= 0)
		return s->tcp_fd;
	int fd = flat_numbers_socket(s->domain);
	if (fd >= 0)
		flat_option_apply(s, fd);
	return fd;
}

static void scratch_end(const struct flat_sock *s, int fd)
{
	if (fd != s->tcp_fd)
		flat_numbers_back(fd);
}

/* No more than a ring holds, or nobody would ever be woken. */
static int lowat(const struct flat_sock *s, int n)
{
	int most = (int)s->vq.rx.mask[FLAT_RING_BULK] / 2;
	return s->kind == FLAT_FD_STREAM && n > most ? most : n;
}

/* Keeps an option of `fd` that differs from a `fresh` socket's. */
static void adopt_one(struct flat_sock *s, int fd, int fresh, int level, int name)
{
	uint8_t was[FLAT_OPTION_BYTES] = {0};
	uint8_t is[FLAT_OPTION_BYTES] = {0};
	socklen_t was_len = sizeof(was);
	socklen_t is_len = sizeof(is);
	int n;
	/* A priority is told, too, where IP_TOS was set before it and would set another one again. */
	if (flat_sys_getsockopt(fd, level, name, is, &is_len) != 0 ||
	    flat_sys_getsockopt(fresh, level, name, was, &was_len) != 0 ||
	    (memcmp(is, was, sizeof(is)) == 0 &&
	     (level != SOL_SOCKET || name != SO_PRIORITY || s->options.n == 0)))
		return;
	/* The kernel doubles a buffer's size each time it is set. */
	if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF)) {
		memcpy(&n, is, sizeof(n));
		n /= 2;
		memcpy(is, &n, sizeof(n));
	}
	(void)keep(&s->options, level, name, is, is_len);
}

/* A close() that nobody makes, as the process was killed or is not the only holder, is a reset too. */
static void note_linger(struct flat_sock *s)
{
	int hard = s->linger.l_onoff && s->linger.l_linger == 0;
	if (s->kind == FLAT_FD_STREAM && hard != flat_ring_resets(&s->vq.rx))
		flat_ring_set_resets(&s->vq.rx, hard);
}

void flat_option_adopt(struct flat_sock *s, int fd, bool all)
{
	socklen_t len = sizeof(s->sndtimeo);
	int n = 0;
	(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &s->sndtimeo, &len);
	len = sizeof(s->linger);
	(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &s->linger, &len);
	note_linger(s);
	len = sizeof(n);
	if (flat_sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &n, &len) == 0)
		s->nodelay = n != 0;
	if (flat_sys_getsockopt(fd, IPPROTO_TCP, TCP_INQ, &n, &len) == 0)
		s->inq = n != 0;
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &n, &len) == 0)
		s->keepalive = n != 0;
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &n, &len) == 0)
		s->rcvlowat = lowat(s, n);
	if (!all && n > 1)
		(void)keep(&s->options, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
	if (!all)
		return;
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &n, &len) == 0)
		s->zerocopy = n != 0;
	int fresh = flat_numbers_socket(s->domain);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(adopted) && fresh >= 0; i++) {
		if (is_noted(i))
			adopt_one(s, fd, fresh, adopted[i].level, adopted[i].name);
	}
	if (fresh >= 0)
		flat_numbers_back(fresh);
}

void flat_option_inherit(struct flat_sock *s, struct flat_sock *listener)
{
	const int none = 0;
	flat_lock(&listener->options.lock);
	for (uint32_t i = 0; i < listener->options.n; i++) {
		const struct flat_option *o = &listener->options.v[i];
		if (o->level != SOL_SOCKET || o->name != SO_PRIORITY)
			s->options.v[s->options.n++] = *o;
	}
	flat_unlock(&listener->options.lock);
	/* net/core/sock.c, sk_clone_lock(): a connection begins with 0; IP_TOS, applied before, sets another. */
	if (s->options.n > 0)
		(void)keep(&s->options, SOL_SOCKET, SO_PRIORITY, &none, sizeof(none));
	s->nodelay = listener->nodelay;
	s->inq = listener->inq;
	s->keepalive = listener->keepalive;
	s->zerocopy = listener->zerocopy;
	s->rcvlowat = lowat(s, listener->rcvlowat);
	s->linger = listener->linger;
	note_linger(s);
	s->sndtimeo = listener->sndtimeo;
}

/* --- getsockopt --- */

static int tcp_state(const struct flat_sock *s)
{
	if (s->kind == FLAT_FD_LISTENER)
		return atomic_load(&s->rd_shut) ? TCP_CLOSE : TCP_LISTEN;
	return flat_stream_state(s);
}

/* How much of it the kernel knows, which is more than libc's header does. */
static size_t info_bytes(void)
{
	static _Atomic size_t known;
	uint8_t info[INFO_BYTES_MAX];
	socklen_t len = sizeof(info);
	size_t n = atomic_load_explicit(&known, memory_order_relaxed);
	if (flat_likely(n != 0))
		return n;
	int fd = flat_numbers_socket(AF_INET);
	if (fd < 0)
		return sizeof(struct tcp_info);
	n = flat_sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0
		? len
		: sizeof(struct tcp_info);
	flat_numbers_back(fd);
	atomic_store_explicit(&known, n, memory_order_relaxed);
	return n;
}

static int give_info(struct flat_sock *s, void *value, socklen_t *len)
{
	uint8_t whole[INFO_BYTES_MAX] = {0};
	struct tcp_info info = {
	    .tcpi_state = (uint8_t)tcp_state(s),
	    .tcpi_rto = 200000,
	    .tcpi_ato = 40000,
	    .tcpi_snd_mss = SEGMENT_BYTES,
	    .tcpi_rcv_mss = SEGMENT_BYTES,
	    .tcpi_advmss = SEGMENT_BYTES,
	    .tcpi_pmtu = 65535,
	    .tcpi_rtt = 10, /* microseconds */
	    .tcpi_rttvar = 5,
	    .tcpi_snd_ssthresh = 0x7fffffff,
	    .tcpi_snd_cwnd = 10,
	    .tcpi_reordering = 3,
	    .tcpi_rcv_space = SEGMENT_BYTES,
	};
	memcpy(whole, &info, sizeof(info));
	return flat_user_give(value, len, whole, info_bytes());
}

static int give_int(void *value, socklen_t *len, int n)
{
	return flat_user_give(value, len, &n, sizeof(n));
}

static int give_cookie(const struct flat_sock *s, void *value, socklen_t *len)
{
	uint64_t cookie = s->conn_id * 2 + (s->vq.mine < s->vq.peer) + 1;
	socklen_t have;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	return have < sizeof(cookie) ? -EINVAL
				     : flat_user_give(value, len, &cookie, sizeof(cookie));
}

/* net/ipv4/af_inet.c, inet_getname(): known from connect() on, and after the end, where getpeername() tells it no more. */
static int give_peer_name(const struct flat_sock *s, void *value, socklen_t *len)
{
	uint8_t name[sizeof(struct sockaddr_storage)];
	socklen_t whole = sizeof(name);
	socklen_t have;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	err = flat_sock_name(&s->peer, s->domain, (struct sockaddr *)(void *)name, &whole);
	if (err != 0)
		return err;
	return whole < have ? -EINVAL : flat_user_give(value, len, name, have);
}

/*
 * net/ipv4/ip_sockglue.c, do_ip_getsockopt(): a small number in less room than an int is one byte. net/ipv6/ipv6_sockglue.c,
 * do_ipv6_getsockopt(): a negative length is a long one.
 */
static int give_ip(int level, void *value, socklen_t *len, int n)
{
	const uint8_t byte = (uint8_t)n;
	socklen_t have;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	if (level == IPPROTO_IP && have > 0 && have < sizeof(n) && byte == n)
		return flat_user_give(value, len, &byte, sizeof(byte));
	if (level == IPPROTO_IP || (int)have >= 0)
		return give_int(value, len, n);
	have = sizeof(n);
	err = flat_user_put(value, &n, sizeof(n));
	return err ? err : flat_user_put(len, &have, sizeof(have));
}

static int give_path_mtu(void *value, socklen_t *len, int mtu)
{
	const struct ip6_mtuinfo info = {.ip6m_mtu = (uint32_t)mtu};
	socklen_t have;
	int err = flat_user_get(&have, len, sizeof(have));
	if (err != 0)
		return err;
	if (have < sizeof(info))
		return -EINVAL;
	have = sizeof(info);
	err = flat_user_put(value, &info, sizeof(info));
	return err ? err : flat_user_put(len, &have, sizeof(have));
}

/* Level IPPROTO_IP and IPPROTO_IPV6. */
static int get_ip(const struct flat_sock *s, int level, int name, void *value, socklen_t *len)
{
	const bool v6 = level == IPPROTO_IPV6 && s->domain == AF_INET6;
	const bool server_v6 = s->side == FLAT_SIDE_SERVER && s->peer.family == AF_INET6;
	/* The loopback device's: v4 knows no more than 65,535. */
	const int mtu = s->peer.family == AF_INET ? 65535 : 65536;
	/* net/ipv4/tcp_ipv4.c, tcp_v4_syn_recv_sock(), and v6's: what the client's first segment had, and its device. */
	if (level == IPPROTO_IP && name == IP_MULTICAST_TTL && s->side == FLAT_SIDE_SERVER &&
	    s->peer.family == AF_INET)
		return give_ip(level, value, len, IPDEFTTL);
	if (level == IPPROTO_IPV6 && name == IPV6_MULTICAST_HOPS && server_v6)
		return give_ip(level, value, len, IPDEFTTL);
	if (v6 && name == IPV6_MULTICAST_IF && server_v6)
		return give_ip(level, value, len, LOOPBACK_INDEX);
	if ((level == IPPROTO_IP && name == IP_MTU) || (v6 && name == IPV6_MTU))
		return give_ip(level, value, len, mtu);
	if (v6 && name == IPV6_PATHMTU)
		return give_path_mtu(value, len, mtu);
	if (v6 && name == IPV6_ADDRFORM)
		return flat_stream_state(s) == TCP_ESTABLISHED
			   ? give_ip(level, value, len, s->domain)
			   : -ENOTCONN;
	return -ENOPROTOOPT;
}

/* Those whose answer is ours. -ENOPROTOOPT: the kernel's to give. */
static int get_stream(struct flat_sock *s, int fd, int level, int name, void *value, socklen_t *len)
{
	if (level == IPPROTO_TCP) {
		switch (name) {
		case TCP_NODELAY:
			return give_int(value, len, s->nodelay);
		case TCP_INFO:
			return give_info(s, value, len);
		case TCP_MAXSEG:
			return give_int(value, len, SEGMENT_BYTES);
		default:
			return -ENOPROTOOPT;
		}
	}
	if (level != SOL_SOCKET)
		return get_ip(s, level, name, value, len);
	switch (name) {
	case SO_ERROR:
		return give_int(value, len, flat_stream_take_error(s));
	case SO_TYPE:
		return give_int(value, len, SOCK_STREAM);
	case SO_DOMAIN:
		return give_int(value, len, s->domain);
	case SO_KEEPALIVE:
		return give_int(value, len, s->keepalive);
	case SO_LINGER:
		return flat_user_give(value, len, &s->linger, sizeof(s->linger));
	case SO_SNDTIMEO:
		return flat_user_give(value, len, &s->sndtimeo, sizeof(s->sndtimeo));
	case SO_RCVTIMEO:
		return flat_sys_getsockopt(fd, level, name, value, len);
	case SO_COOKIE:
		return give_cookie(s, value, len);
	case SO_PEERNAME:
		return give_peer_name(s, value, len);
	default:
		return -ENOPROTOOPT;
	}
}

/* The new names of the times say the same as the old ones, where time has 64 bits: net/core/sock.c, sock_set_timeout(). */
static int one_name(int level, int name)
{
	if (level != SOL_SOCKET || sizeof(struct timeval) != 2 * sizeof(int64_t))
		return name;
	return name == SO_RCVTIMEO_NEW ? SO_RCVTIMEO : name == SO_SNDTIMEO_NEW ? SO_SNDTIMEO : name;
}

int flat_option_get(struct flat_sock *s, int fd, int level, int name, void *value, socklen_t *len)
{
	int err = -ENOPROTOOPT;
	name = one_name(level, name);
	if (s->kind == FLAT_FD_STREAM)
		err = get_stream(s, fd, level, name, value, len);
	if (err != -ENOPROTOOPT)
		return err;
	int kernel = scratch(s);
	if (kernel < 0)
		return kernel;
	err = flat_sys_getsockopt(kernel, level, name, value, len);
	scratch_end(s, kernel);
	return err;
}

int flat_option_ioctl(struct flat_sock *s, unsigned long request, void *arg)
{
	int kernel = scratch(s);
	if (kernel < 0)
		return kernel;
	int err = (int)FLAT_SYS3(SYS_ioctl, kernel, request, arg);
	scratch_end(s, kernel);
	return err;
}

/* --- setsockopt --- */

bool flat_option_of_segments(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_ATTACH_FILTER || name == SO_ATTACH_BPF;
	return level == IPPROTO_TCP && (name == TCP_MD5SIG || name == TCP_MD5SIG_EXT ||
					name == OPTION_TCP_AO_ADD_KEY || name == TCP_REPAIR);
}

/* What a connected socket refuses and a new one would take; `zero`: as a value. Of a value that is there, and not too short. */
static int refused(const struct flat_sock *s, int level, int name, bool zero)
{
	if (level == IPPROTO_TCP) {
		switch (name) {
		case TCP_QUEUE_SEQ:
			return flat_stream_state(s) != TCP_CLOSE ? -EPERM : 0;
		case TCP_ULP:
			/* Kernel TLS would encrypt what is never sent: nobody here knows how. */
			return -ENOENT;
		case TCP_FASTOPEN:
		case TCP_FASTOPEN_CONNECT:
		case TCP_FASTOPEN_NO_COOKIE:
			return -EINVAL;
		case TCP_WINDOW_CLAMP:
			return zero && flat_stream_state(s) != TCP_CLOSE ? -EINVAL : 0;
		default:
			return 0;
		}
	}
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && s->domain == AF_INET6)
		return -EINVAL;
	return 0;
}

/* IPV6_ADDRFORM: a v6 socket whose peer has a v4 address is one of v4 from here on. */
static int become_v4(struct flat_sock *s)
{
	if (flat_stream_state(s) != TCP_ESTABLISHED)
		return -ENOTCONN;
	struct flat_addr peer = s->peer;
	flat_addr_unmap(&peer);
	if (peer.family != AF_INET)
		return -EADDRNOTAVAIL;
	s->domain = AF_INET;
	return 0;
}

/* What the data path reads, from the kernel socket that has accepted it. */
static void follow(struct flat_sock *s, int fd, int level, int name, const void *value,
		   socklen_t len, int kernel)
{
	int n = 0;
	socklen_t n_len = sizeof(n);
	if (level == IPPROTO_TCP && name == TCP_NODELAY &&
	    flat_sys_getsockopt(kernel, level, name, &n, &n_len) == 0)
		s->nodelay = n != 0;
	if (level == IPPROTO_TCP && name == TCP_INQ &&
	    flat_sys_getsockopt(kernel, level, name, &n, &n_len) == 0)
		s->inq = n != 0;
	if (level != SOL_SOCKET)
		return;
	switch (name) {
	case SO_KEEPALIVE:
		if (flat_sys_getsockopt(kernel, level, name, &n, &n_len) == 0)
			s->keepalive = n != 0;
		break;
	case SO_RCVLOWAT:
		if (flat_sys_getsockopt(kernel, level, name, &n, &n_len) == 0)
			s->rcvlowat = lowat(s, n);
		break;
	case SO_ZEROCOPY:
		if (flat_sys_getsockopt(kernel, level, name, &n, &n_len) == 0)
			s->zerocopy = n != 0;
		break;
	case SO_LINGER:
		n_len = sizeof(s->linger);
		(void)flat_sys_getsockopt(kernel, level, name, &s->linger, &n_len);
		note_linger(s);
		break;
	case SO_SNDTIMEO:
		n_len = sizeof(s->sndtimeo);
		(void)flat_sys_getsockopt(kernel, level, name, &s->sndtimeo, &n_len);
		break;
	default:
		break;
	}
	/* Who comes by the anchor has them of it: flat_share_export(). */
	if (name == SO_RCVTIMEO ||
	    (flat_shared(s) && (name == SO_KEEPALIVE || name == SO_RCVLOWAT || name == SO_LINGER ||
				name == SO_SNDTIMEO)))
		(void)flat_sys_setsockopt(fd, level, name, value, len);
}

int flat_option_set(struct flat_sock *s, int fd, int level, int name, const void *value,
		    socklen_t len)
{
	uint8_t copy[FLAT_OPTION_BYTES] = {0};
	int n = 0;
	const bool small = len <= sizeof(copy);
	const size_t least = level == IPPROTO_TCP && name == TCP_ULP ? 1 : sizeof(n);
	name = one_name(level, name);
	/* Without a value, or with less than there has to be, the kernel says what is wrong; IPv6 takes NULL for a zero. */
	const bool there =
	    (int)len >= 0 && flat_user_get(copy, value, small ? len : sizeof(copy)) == 0;
	const bool whole = there && len >= sizeof(n);
	if (!there)
		memset(copy, 0, sizeof(copy));
	memcpy(&n, copy, sizeof(n));
	/* What each server sets on each connection costs no socket. */
	if (s->kind == FLAT_FD_STREAM && level == IPPROTO_TCP && name == TCP_NODELAY && whole) {
		s->nodelay = n != 0;
		return 0;
	}
	if (s->kind == FLAT_FD_STREAM && level == IPPROTO_IPV6 && name == IPV6_ADDRFORM &&
	    s->domain == AF_INET6 && whole && n == AF_INET)
		return become_v4(s);
	const bool judged = (there || (level == IPPROTO_IPV6 && !value)) && len >= least;
	int err = s->kind == FLAT_FD_STREAM && judged ? refused(s, level, name, n == 0) : 0;
	int kernel = err != 0 ? err : scratch(s);
	if (kernel < 0)
		return kernel;
	err = flat_sys_setsockopt(kernel, level, name, value, len);
	if (err == 0) {
		/* The socket may be the kernel's again, and then ours once more. */
		flat_option_note(level, name);
		follow(s, fd, level, name, value, len, kernel);
		if (small)
			err = keep(&s->options, level, name, copy, len);
	}
	scratch_end(s, kernel);
	return err;
}

void flat_option_tell_inq(struct flat_sock *s, struct msghdr *msg, size_t room)
{
	struct cmsghdr head = {
	    .cmsg_len = CMSG_LEN(sizeof(int)),
	    .cmsg_level = IPPROTO_TCP,
	    .cmsg_type = TCP_CM_INQ,
	};
	ssize_t left = flat_stream_unread(s);
	int inq = left >= INT_MAX ? INT_MAX - 1 : left > 0 ? (int)left : 0;
	uint8_t *to = msg->msg_control;

	if (room < CMSG_LEN(sizeof(int)) || !flat_user_possible(to, room)) {
		msg->msg_flags |= MSG_CTRUNC;
		return;
	}
	if (flat_vq_peer_prod_flags(&s->vq) & (FLAT_PROD_FIN | FLAT_PROD_RST))
		inq++;
	memcpy(to, &head, sizeof(head));
	memcpy(to + CMSG_LEN(0), &inq, sizeof(inq));
	msg->msg_controllen = flat_min_size(room, CMSG_SPACE(sizeof(int)));
}
