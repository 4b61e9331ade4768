/* Options of SOL_SOCKET, TCP, IP and IPv6: what is kept, what is refused, with which lengths. */
#include "parity.h"

static void everything_of(int fd)
{
	SAY_OPTION(fd, SOL_SOCKET, SO_TYPE);
	SAY_OPTION(fd, SOL_SOCKET, SO_DOMAIN);
	SAY_OPTION(fd, SOL_SOCKET, SO_PROTOCOL);
	SAY_OPTION(fd, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(fd, SOL_SOCKET, SO_ACCEPTCONN);
	SAY_OPTION(fd, SOL_SOCKET, SO_KEEPALIVE);
	SAY_OPTION(fd, SOL_SOCKET, SO_REUSEADDR);
	SAY_OPTION(fd, SOL_SOCKET, SO_REUSEPORT);
	SAY_OPTION(fd, SOL_SOCKET, SO_BROADCAST);
	SAY_OPTION(fd, SOL_SOCKET, SO_DONTROUTE);
	SAY_OPTION(fd, SOL_SOCKET, SO_OOBINLINE);
	SAY_OPTION(fd, SOL_SOCKET, SO_RCVLOWAT);
	SAY_OPTION(fd, SOL_SOCKET, SO_SNDLOWAT);
	SAY_OPTION(fd, SOL_SOCKET, SO_PRIORITY);
	SAY_OPTION(fd, SOL_SOCKET, SO_TIMESTAMP);
	SAY_OPTION(fd, SOL_SOCKET, SO_MARK);
	SAY_OPTION(fd, SOL_SOCKET, SO_BUSY_POLL);
	SAY_OPTION(fd, SOL_SOCKET, SO_PASSCRED);
	SAY_OPTION(fd, SOL_SOCKET, SO_ZEROCOPY);
	SAY_OPTION(fd, SOL_SOCKET, SO_LOCK_FILTER);
	SAY_OPTION(fd, SOL_SOCKET, SO_NO_CHECK);
	SAY_OPTION(fd, SOL_SOCKET, SO_PEEK_OFF);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_CORK);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_SYNCNT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_LINGER2);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_FASTOPEN);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_INQ);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_REPAIR);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_SAVE_SYN);
	SAY_OPTION(fd, IPPROTO_IP, IP_TOS);
	SAY_OPTION(fd, IPPROTO_IP, IP_TTL);
	SAY_OPTION(fd, IPPROTO_IP, IP_MTU_DISCOVER);
	SAY_OPTION(fd, IPPROTO_IP, IP_RECVERR);
	SAY_OPTION(fd, IPPROTO_IP, IP_PKTINFO);
	SAY_OPTION(fd, IPPROTO_IP, IP_FREEBIND);
	SAY_OPTION(fd, IPPROTO_IP, IP_TRANSPARENT);
	SAY_OPTION(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
	SAY_OPTION(fd, IPPROTO_IP, IP_MULTICAST_TTL);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_TCLASS);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
}

BEHAVIOUR(option_defaults_client)
{
	int c, s;
	pair(&c, &s);
	everything_of(c);
}

BEHAVIOUR(option_defaults_server)
{
	int c, s;
	pair(&c, &s);
	everything_of(s);
}

BEHAVIOUR(option_defaults_v6)
{
	int c, s;
	pair6(&c, &s);
	everything_of(c);
}

BEHAVIOUR_ALONE(option_defaults_listener)
{
	everything_of(listener(0));
}

BEHAVIOUR_ALONE(option_defaults_unconnected)
{
	everything_of(tcp(0));
}

static void set_socket_options(int fd)
{
	TRY_OPTION(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_KEEPALIVE, -5);
	TRY_OPTION(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
	TRY_OPTION(fd, SOL_SOCKET, SO_REUSEADDR, 7);
	TRY_OPTION(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_BROADCAST, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_DONTROUTE, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_OOBINLINE, 2);
	TRY_OPTION(fd, SOL_SOCKET, SO_PRIORITY, 5);
	TRY_OPTION(fd, SOL_SOCKET, SO_PRIORITY, 100);
	TRY_OPTION(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_NO_CHECK, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_PASSCRED, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_RCVLOWAT, 17);
	TRY_OPTION(fd, SOL_SOCKET, SO_RCVLOWAT, 0);
	TRY_OPTION(fd, SOL_SOCKET, SO_RCVLOWAT, -1);
	TRY_OPTION(fd, SOL_SOCKET, SO_SNDLOWAT, 4);
	TRY_OPTION(fd, SOL_SOCKET, SO_TYPE, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_DOMAIN, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_PROTOCOL, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_ERROR, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_ACCEPTCONN, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_ZEROCOPY, 2);
	TRY_OPTION(fd, SOL_SOCKET, SO_BUSY_POLL, -1);
	TRY_OPTION(fd, SOL_SOCKET, SO_PEEK_OFF, 3);
	TRY_OPTION(fd, SOL_SOCKET, SO_INCOMING_CPU, 1);
	TRY_OPTION(fd, SOL_SOCKET, SO_LOCK_FILTER, 0);
	TRY_OPTION(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
	TRY_OPTION(fd, SOL_SOCKET, 9999, 1);
	TRY_OPTION(fd, SOL_SOCKET, -1, 1);
}

BEHAVIOUR(option_set_socket)
{
	int c, s;
	pair(&c, &s);
	set_socket_options(c);
}

BEHAVIOUR_ALONE(option_set_socket_listener)
{
	set_socket_options(listener(0));
}

static void set_tcp_options(int fd)
{
	TRY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY, -3);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_CORK, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_CORK, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE, 32767);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE, 32768);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL, 40000);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT, 128);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_SYNCNT, 4);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_SYNCNT, 128);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_LINGER2, 20);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_LINGER2, -1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_LINGER2, 100000);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, -1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 100);
	/* What a connection's is follows the windows that it has had: any that could be. */
	int mss = 500;
	socklen_t len = sizeof(mss);
	DO(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, len));
	DO(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len));
	say("a segment: %d", mss >= 500 && mss <= 65495);
	mss = 10;
	DO(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, len));
	mss = 70000;
	DO(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, len));
	TRY_OPTION(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 2);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_THIN_DUPACK, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_INQ, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_INQ, 3);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 0);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_TX_DELAY, 0);
	TRY_OPTION(fd, IPPROTO_TCP, 777, 1);
	TRY_OPTION(fd, IPPROTO_TCP, 0, 1);
	TRY_OPTION(fd, IPPROTO_TCP, TCP_INFO, 1);
}

/* None at all is for a socket without a connection. */
BEHAVIOUR(option_no_window)
{
	int c, s, none = 0;
	pair(&c, &s);
	int fresh = socket(AF_INET, SOCK_STREAM, 0);
	DO(setsockopt(fresh, IPPROTO_TCP, TCP_WINDOW_CLAMP, &none, sizeof(none)));
	DO(setsockopt(c, IPPROTO_TCP, TCP_WINDOW_CLAMP, &none, sizeof(none)));
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(setsockopt(s, IPPROTO_TCP, TCP_WINDOW_CLAMP, &none, sizeof(none)));
	DO(shutdown(s, SHUT_WR));
	await(s, POLLHUP);
	DO(setsockopt(s, IPPROTO_TCP, TCP_WINDOW_CLAMP, &none, sizeof(none)));
}

BEHAVIOUR(option_set_tcp)
{
	int c, s;
	pair(&c, &s);
	set_tcp_options(c);
}

BEHAVIOUR_ALONE(option_set_tcp_listener)
{
	set_tcp_options(listener(0));
}

BEHAVIOUR(option_set_ip)
{
	int c, s;
	pair(&c, &s);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 0x10);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 0x1ff);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 0xe0);
	TRY_OPTION(c, IPPROTO_IP, IP_TTL, 5);
	TRY_OPTION(c, IPPROTO_IP, IP_TTL, 0);
	TRY_OPTION(c, IPPROTO_IP, IP_TTL, 256);
	TRY_OPTION(c, IPPROTO_IP, IP_TTL, -1);
	TRY_OPTION(c, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	TRY_OPTION(c, IPPROTO_IP, IP_MTU_DISCOVER, 99);
	TRY_OPTION(c, IPPROTO_IP, IP_RECVERR, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_PKTINFO, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_RECVTOS, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_FREEBIND, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_MINTTL, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_HDRINCL, 1);
	TRY_OPTION(c, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	TRY_OPTION(c, IPPROTO_IP, 888, 1);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	TRY_OPTION(c, 5555, 1, 1);
	TRY_OPTION(c, 17, 1, 1);
}

BEHAVIOUR(option_set_ipv6)
{
	int c, s;
	pair6(&c, &s);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_TCLASS, 32);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_TCLASS, 300);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_TCLASS, -1);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 16);
	TRY_OPTION(c, IPPROTO_IP, IP_TTL, 60);
	TRY_OPTION(c, IPPROTO_IPV6, 999, 1);
}

BEHAVIOUR(option_set_before_connect)
{
	struct sockaddr_in a = where(0);
	struct timeval tv = {1, 500000}, got = {0};
	struct linger linger = {1, 3}, was = {0};
	socklen_t len = sizeof(got);
	listener(0);
	int c = tcp(0);
	TRY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE, 1);
	TRY_OPTION(c, SOL_SOCKET, SO_PRIORITY, 3);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 12345);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVBUF, 23456);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVLOWAT, 2);
	TRY_OPTION(c, IPPROTO_TCP, TCP_NODELAY, 1);
	TRY_OPTION(c, IPPROTO_TCP, TCP_KEEPIDLE, 11);
	TRY_OPTION(c, IPPROTO_TCP, TCP_USER_TIMEOUT, 999);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 8);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	SAY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE);
	SAY_OPTION(c, SOL_SOCKET, SO_PRIORITY);
	SAY_OPTION(c, SOL_SOCKET, SO_SNDBUF);
	SAY_OPTION(c, SOL_SOCKET, SO_RCVBUF);
	SAY_OPTION(c, SOL_SOCKET, SO_RCVLOWAT);
	SAY_OPTION(c, IPPROTO_TCP, TCP_NODELAY);
	SAY_OPTION(c, IPPROTO_TCP, TCP_KEEPIDLE);
	SAY_OPTION(c, IPPROTO_TCP, TCP_USER_TIMEOUT);
	SAY_OPTION(c, IPPROTO_IP, IP_TOS);
	DO(getsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &got, &len));
	say("timeout %ld %ld", (long)got.tv_sec, (long)got.tv_usec);
	len = sizeof(was);
	DO(getsockopt(c, SOL_SOCKET, SO_LINGER, &was, &len));
	say("linger %d %d", was.l_onoff, was.l_linger);
}

/* --- set while the socket is the kernel's alone: before connect(), before listen() --- */

struct early {
	int level;
	int name;
	int value;
	const char *what;
};

#define EARLY(level, name, value)                                                                  \
	{                                                                                          \
		level, name, value, #name                                                          \
	}
#define EARLY_EACH 16

static const struct early early[][EARLY_EACH] = {
    {
	EARLY(IPPROTO_IP, IP_RECVTOS, 1),
	EARLY(IPPROTO_IP, IP_RECVTTL, 1),
	EARLY(IPPROTO_IP, IP_PKTINFO, 1),
	EARLY(IPPROTO_IP, IP_RECVOPTS, 1),
	EARLY(IPPROTO_IP, IP_RETOPTS, 1),
	EARLY(IPPROTO_IP, IP_RECVORIGDSTADDR, 1),
	EARLY(IPPROTO_IP, IP_MINTTL, 3),
	EARLY(IPPROTO_IP, IP_PASSSEC, 1),
	EARLY(IPPROTO_IP, IP_CHECKSUM, 1),
	EARLY(IPPROTO_IP, IP_MULTICAST_LOOP, 0),
	EARLY(IPPROTO_IP, IP_MULTICAST_ALL, 0),
	EARLY(IPPROTO_IP, IP_TRANSPARENT, 1),
	EARLY(IPPROTO_IP, IP_RECVERR, 1),
	EARLY(IPPROTO_IP, IP_TTL, 9),
    },
    {
	EARLY(SOL_SOCKET, SO_TIMESTAMPNS, 1),
	EARLY(SOL_SOCKET, SO_RXQ_OVFL, 1),
	EARLY(SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1),
	EARLY(SOL_SOCKET, SO_NOFCS, 1),
	EARLY(SOL_SOCKET, SO_WIFI_STATUS, 1),
	EARLY(SOL_SOCKET, SO_PEEK_OFF, 3),
	EARLY(SOL_SOCKET, SO_MAX_PACING_RATE, 1000000),
	EARLY(SOL_SOCKET, SO_NO_CHECK, 1),
	EARLY(SOL_SOCKET, SO_BUF_LOCK, 3),
	EARLY(SOL_SOCKET, SO_TXREHASH, 0),
	EARLY(SOL_SOCKET, SO_RCVMARK, 1),
	EARLY(SOL_SOCKET, SO_LOCK_FILTER, 1),
	EARLY(SOL_SOCKET, SO_BROADCAST, 1),
    },
    {
	EARLY(SOL_SOCKET, SO_TIMESTAMPING, 3),
	EARLY(IPPROTO_TCP, TCP_WINDOW_CLAMP, 9000),
	EARLY(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1),
	EARLY(IPPROTO_TCP, TCP_SAVE_SYN, 1),
	EARLY(IPPROTO_TCP, TCP_INQ, 1),
	EARLY(IPPROTO_TCP, TCP_LINGER2, 7),
	EARLY(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000),
	EARLY(IPPROTO_TCP, TCP_SYNCNT, 4),
    },
    /* Of the priority and what sets it, the last one counts. */
    {
	EARLY(SOL_SOCKET, SO_PRIORITY, 4),
	EARLY(IPPROTO_IP, IP_TOS, 0x60),
	EARLY(SOL_SOCKET, SO_PRIORITY, 4),
    },
    {
	EARLY(SOL_SOCKET, SO_PRIORITY, 4),
	EARLY(IPPROTO_IP, IP_TOS, 0x10),
    },
    {
	EARLY(IPPROTO_IP, IP_TOS, 0x10),
	EARLY(SOL_SOCKET, SO_PRIORITY, 0),
    },
    {
	EARLY(IPPROTO_IPV6, IPV6_RECVTCLASS, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVHOPOPTS, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVRTHDR, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVDSTOPTS, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVPATHMTU, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVERR, 1),
	EARLY(IPPROTO_IPV6, IPV6_DONTFRAG, 1),
	EARLY(IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2),
	EARLY(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0),
	EARLY(IPPROTO_IPV6, IPV6_TCLASS, 0xe0),
	EARLY(IPPROTO_IPV6, IPV6_MINHOPCOUNT, 1),
    },
    {
	EARLY(IPPROTO_IPV6, IPV6_2292PKTINFO, 1),
	EARLY(IPPROTO_IPV6, IPV6_2292HOPLIMIT, 1),
	EARLY(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0),
	EARLY(IPPROTO_IPV6, IPV6_FREEBIND, 1),
	EARLY(IPPROTO_IPV6, IPV6_TRANSPARENT, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1),
	EARLY(IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1),
	EARLY(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5),
	EARLY(IPPROTO_IP, IP_RECVTOS, 1),
    },
};

#define EARLY_V6 6
#define EARLY_GROUPS (sizeof(early) / sizeof(early[0]))

static void early_set(int fd, const struct early *e)
{
	for (int i = 0; i < EARLY_EACH && e[i].what; i++)
		try_option(e[i].what, fd, e[i].level, e[i].name, e[i].value);
}

static void early_say(int fd, const struct early *e)
{
	for (int i = 0; i < EARLY_EACH && e[i].what; i++)
		say_option(e[i].what, fd, e[i].level, e[i].name);
	SAY_OPTION(fd, SOL_SOCKET, SO_PRIORITY);
}

BEHAVIOUR(option_set_early_by_a_client)
{
	struct sockaddr_in a = where(0);
	listener(0);
	for (size_t i = 0; i < EARLY_V6; i++) {
		int c = tcp(0);
		early_set(c, early[i]);
		DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
		early_say(c, early[i]);
		close(c);
	}
}

BEHAVIOUR(option_set_early_by_a_client_v6)
{
	struct sockaddr_in6 a = where6(0);
	listener6(0, "::1", 1);
	for (size_t i = EARLY_V6; i < EARLY_GROUPS; i++) {
		int c = (int)DO(socket(AF_INET6, SOCK_STREAM, 0));
		early_set(c, early[i]);
		DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
		early_say(c, early[i]);
		close(c);
	}
}

/* A listener of its own for each; what it says itself, and what its connections have of it. */
static void early_listen(int l, const struct sockaddr *a, socklen_t len, const struct early *e)
{
	const int one = 1;
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	early_set(l, e);
	DO(bind(l, a, len));
	DO(listen(l, 4));
	early_say(l, e);
	int c = socket(a->sa_family, SOCK_STREAM, 0);
	DO(connect(c, a, len));
	int s = (int)DO(accept(l, NULL, NULL));
	early_say(s, e);
	close(c);
	close(s);
	close(l);
}

BEHAVIOUR(option_set_early_on_a_listener)
{
	struct sockaddr_in a = where(0);
	for (size_t i = 0; i < EARLY_V6; i++)
		early_listen(tcp(0), (struct sockaddr *)&a, sizeof(a), early[i]);
}

BEHAVIOUR(option_set_early_on_a_listener_v6)
{
	struct sockaddr_in6 a = where6(0);
	for (size_t i = EARLY_V6; i < EARLY_GROUPS; i++)
		early_listen(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof(a),
			     early[i]);
}

BEHAVIOUR(option_priority_and_tos_again)
{
	int c, s;
	pair(&c, &s);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 0x10);
	TRY_OPTION(c, SOL_SOCKET, SO_PRIORITY, 4);
	TRY_OPTION(c, IPPROTO_IP, IP_TOS, 0x60);
	SAY_OPTION(c, SOL_SOCKET, SO_PRIORITY);
}

BEHAVIOUR(option_mtu)
{
	int c, s;
	pair(&c, &s);
	SAY_OPTION(c, IPPROTO_IP, IP_MTU);
	SAY_OPTION(s, IPPROTO_IP, IP_MTU);
	SAY_OPTION(c, IPPROTO_IPV6, IPV6_MTU);
}

BEHAVIOUR(option_mtu_v6)
{
	int c, s;
	pair6(&c, &s);
	SAY_OPTION(c, IPPROTO_IPV6, IPV6_MTU);
	SAY_OPTION(s, IPPROTO_IPV6, IPV6_MTU);
	SAY_OPTION(c, IPPROTO_IP, IP_MTU);
	SAY_OPTION(s, IPPROTO_IPV6, IPV6_MULTICAST_HOPS);
}

BEHAVIOUR(option_buffer_sizes)
{
	int c, s;
	pair(&c, &s);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 10000);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 100);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 0);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, -1);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 2000000000);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVBUF, 10000);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVBUF, 1);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVBUF, -1);
	TRY_OPTION(c, SOL_SOCKET, SO_RCVBUF, 2000000000);
}

BEHAVIOUR(option_buffer_sizes_still_work)
{
	/* A small buffer is answered as Linux answers; bytes go through all the same. */
	int c, s;
	static char block[100000];
	pair(&c, &s);
	TRY_OPTION(c, SOL_SOCKET, SO_SNDBUF, 5000);
	TRY_OPTION(s, SOL_SOCKET, SO_RCVBUF, 5000);
	pid_t pid = fork();
	if (pid == 0) {
		close(s);
		send_all(c, block, sizeof(block));
		_exit(0);
	}
	say("came %zu", drain(s, sizeof(block)));
	reap(pid);
}

BEHAVIOUR(option_timeouts)
{
	int c, s;
	struct timeval tv = {2, 300000}, got = {0};
	socklen_t len = sizeof(got);
	pair(&c, &s);
	DO(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	say("%ld %ld len %u", (long)got.tv_sec, (long)got.tv_usec, (unsigned)len);
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	DO(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	say("%ld %ld", (long)got.tv_sec, (long)got.tv_usec);
	DO(getsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &got, &len));
	say("%ld %ld", (long)got.tv_sec, (long)got.tv_usec);
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv) - 1));
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, 0));
	tv = (struct timeval){0, 1000000};
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	tv = (struct timeval){0, -1};
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	tv = (struct timeval){-1, 0};
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	DO(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	say("%ld %ld", (long)got.tv_sec, (long)got.tv_usec);
	len = 4;
	DO(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR(option_linger)
{
	int c, s;
	struct linger l = {5, 100}, got = {0};
	socklen_t len = sizeof(got);
	pair(&c, &s);
	DO(getsockopt(c, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %d len %u", got.l_onoff, got.l_linger, (unsigned)len);
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	DO(getsockopt(c, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %d", got.l_onoff, got.l_linger);
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, 4));
	l = (struct linger){0, 9};
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	DO(getsockopt(c, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %d", got.l_onoff, got.l_linger);
	len = 4;
	DO(getsockopt(c, SOL_SOCKET, SO_LINGER, &got, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR(option_short_lengths)
{
	int c, s, value = 1;
	static const socklen_t lengths[] = {0, 1, 2, 3, 4, 8, (socklen_t)-1};
	pair(&c, &s);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		say("length %d", (int)lengths[i]);
		DO(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &value, lengths[i]));
		DO(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, lengths[i]));
		DO(setsockopt(c, IPPROTO_TCP, TCP_KEEPCNT, &value, lengths[i]));
		DO(setsockopt(c, IPPROTO_IP, IP_TOS, &value, lengths[i]));
		DO(setsockopt(c, SOL_SOCKET, SO_RCVLOWAT, &value, lengths[i]));
		static const int names[][2] = {
		    {SOL_SOCKET, SO_KEEPALIVE},	 {SOL_SOCKET, SO_TYPE},
		    {SOL_SOCKET, SO_RCVLOWAT},	 {IPPROTO_TCP, TCP_NODELAY},
		    {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_IP, IP_TTL},
		    {SOL_SOCKET, SO_ERROR},	 {IPPROTO_TCP, TCP_KEEPCNT}};
		for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
			unsigned char out[8];
			socklen_t len = lengths[i];
			memset(out, 0xee, sizeof(out));
			int r = getsockopt(c, names[k][0], names[k][1], out, &len);
			say(" get %zu: %d %s len %d touched %d %d %d", k, r,
			    r ? error_name(errno) : "", (int)len, out[0] != 0xee, out[1] != 0xee,
			    out[4] != 0xee);
		}
	}
}

BEHAVIOUR(option_bad_pointers)
{
	int c, s, value = 1;
	socklen_t len = sizeof(value);
	pair(&c, &s);
	DO(getsockopt(c, SOL_SOCKET, SO_KEEPALIVE, NULL, &len));
	DO(getsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &value, NULL));
	DO(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, NULL, &len));
	DO(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, NULL));
	DO(getsockopt(c, SOL_SOCKET, SO_ERROR, bad_address, &len));
	DO(getsockopt(c, SOL_SOCKET, SO_ERROR, &value, bad_address));
	DO(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, NULL, sizeof(value)));
	DO(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, bad_address, sizeof(value)));
	DO(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, NULL, sizeof(value)));
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, NULL, sizeof(struct linger)));
	DO(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, bad_address, sizeof(struct timeval)));
	DO(getsockopt(-1, SOL_SOCKET, SO_ERROR, &value, &len));
	DO(getsockopt(1, SOL_SOCKET, SO_ERROR, &value, &len));
	DO(setsockopt(1000, SOL_SOCKET, SO_KEEPALIVE, &value, len));
}

BEHAVIOUR(option_congestion)
{
	int c, s;
	char name[32] = {0};
	socklen_t len = sizeof(name);
	pair(&c, &s);
	DO(getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("'%s' len %u", name, (unsigned)len);
	DO(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	len = sizeof(name);
	DO(getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("'%s' len %u", name, (unsigned)len);
	DO(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "no-such-thing", 13));
	DO(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "", 0));
	len = 3;
	DO(getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("len %u", (unsigned)len);
	DO(setsockopt(c, IPPROTO_TCP, TCP_ULP, "nothing", 7));
}

BEHAVIOUR(option_tcp_info)
{
	int c, s;
	struct tcp_info info;
	unsigned char small[16];
	socklen_t len = sizeof(info);
	pair(&c, &s);
	memset(&info, 0, sizeof(info));
	DO(getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len));
	say("state %d whole %d", info.tcpi_state, len == sizeof(info));
	say("mss %d rto %d cwnd %d pmtu %d", info.tcpi_snd_mss > 500, info.tcpi_rto > 0,
	    info.tcpi_snd_cwnd > 0, info.tcpi_pmtu > 500);
	len = sizeof(small);
	DO(getsockopt(c, IPPROTO_TCP, TCP_INFO, small, &len));
	say("state %d len %u", small[0], (unsigned)len);
	len = sizeof(info);
	int l = listener(1);
	DO(getsockopt(l, IPPROTO_TCP, TCP_INFO, &info, &len));
	say("state %d", info.tcpi_state);
}

BEHAVIOUR(option_peer_credentials)
{
	int c, s;
	struct ucred cred = {1, 2, 3};
	socklen_t len = sizeof(cred);
	char text[64];
	pair(&c, &s);
	DO(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len));
	say("%d %d %d len %u", (int)cred.pid, (int)cred.uid, (int)cred.gid, (unsigned)len);
	len = sizeof(text);
	DO(getsockopt(c, SOL_SOCKET, SO_PEERGROUPS, text, &len));
	len = sizeof(text);
	DO(getsockopt(c, SOL_SOCKET, SO_PEERSEC, text, &len));
	len = sizeof(text);
	DO(getsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, text, &len));
	say("len %u", (unsigned)len);
	len = sizeof(text);
	DO(getsockopt(c, SOL_SOCKET, SO_PEERNAME, text, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR(option_cookie)
{
	int c, s;
	uint64_t a = 0, b = 0;
	socklen_t len = sizeof(a);
	pair(&c, &s);
	DO(getsockopt(c, SOL_SOCKET, SO_COOKIE, &a, &len));
	DO(getsockopt(s, SOL_SOCKET, SO_COOKIE, &b, &len));
	say("different %d not zero %d", a != b, a && b);
	uint64_t again = 0;
	DO(getsockopt(c, SOL_SOCKET, SO_COOKIE, &again, &len));
	say("same %d", a == again);
	SAY_OPTION(c, SOL_SOCKET, SO_INCOMING_NAPI_ID);
	int cpu = -9;
	len = sizeof(cpu);
	DO(getsockopt(c, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &len));
	say("len %u", (unsigned)len);
	len = 2;
	DO(getsockopt(c, SOL_SOCKET, SO_COOKIE, &a, &len));
}

BEHAVIOUR(option_original_destination)
{
	int c, s;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	pair(&c, &s);
	DO(getsockopt(s, IPPROTO_IP, 80, &ss, &len));
}

BEHAVIOUR(option_shared_by_copies)
{
	int c, s;
	pair(&c, &s);
	int d = dup(c);
	TRY_OPTION(d, SOL_SOCKET, SO_KEEPALIVE, 1);
	SAY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE);
	TRY_OPTION(c, IPPROTO_TCP, TCP_KEEPIDLE, 44);
	SAY_OPTION(d, IPPROTO_TCP, TCP_KEEPIDLE);
	SAY_OPTION(s, IPPROTO_TCP, TCP_KEEPIDLE);
}

static void set_in_child(void *arg)
{
	int fd = *(int *)arg;
	TRY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL, 21);
}

BEHAVIOUR(option_shared_with_child)
{
	int c, s;
	pair(&c, &s);
	reap(child(set_in_child, &c));
	SAY_OPTION(c, IPPROTO_TCP, TCP_KEEPINTVL);
}

BEHAVIOUR(option_after_reset)
{
	int c, s;
	struct linger hard = {1, 0};
	pair(&c, &s);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(s);
	await(c, POLLHUP);
	TRY_OPTION(c, IPPROTO_TCP, TCP_NODELAY, 1);
	TRY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE, 1);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(c, SOL_SOCKET, SO_TYPE);
}

BEHAVIOUR(option_max_segment)
{
	int c, s;
	pair(&c, &s);
	int mss = 0;
	socklen_t len = sizeof(mss);
	DO(getsockopt(c, IPPROTO_TCP, TCP_MAXSEG, &mss, &len));
	say("plausible %d", mss > 500 && mss < 65536);
}
