/*
 * connect() in an order that chance gives, among whatever else changes what a socket is: to a listener, to nobody, to AF_UNSPEC, again
 * and again, blocking and not. What each call gives, and what poll(), TCP_INFO and the names say of both ends then.
 *
 * What connect() left under way has ended before the next step: how far a handshake has come is a matter of time. A port that was
 * bound is one that the kernel chose, since those of ended connections are kept for a minute by the kernel alone.
 */
#include "random.h"

/*
 * V6 or MAPPED: a socket of v6 that has connected to an address of v4 is of no use for v6 any more, and waits for an answer in vain
 * (net/ipv6/tcp_ipv6.c, tcp_v6_connect(): icsk_af_ops stays).
 */
enum targets { V4, V6, MAPPED };

/* The socket that connects, the other end, and the listener; -1: there is none. */
struct ends {
	int c;
	int s;
	int l;
	enum targets targets;
	bool tried;	/* to connect */
	bool connected; /* or was, and may have ended since */
	bool bound;
};

static void say_call(const char *what, long n)
{
	say("  %s %ld%s%s", what, n, n < 0 ? " " : "", n < 0 ? error_name(errno) : "");
}

/* Of one that is neither bound nor connected the kernel tells the port that it had last, which is nobody's any more. */
static void say_names(const struct ends *e)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	memset(&ss, 0, sizeof(ss));
	int err = getpeername(e->c, (struct sockaddr *)&ss, &len);
	if (err != 0)
		say("    peer %s", error_name(errno));
	else
		say_addr("    peer", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	if ((err != 0 && !e->bound) || getsockname(e->c, (struct sockaddr *)&ss, &len) != 0)
		return;
	say_addr("    name", (struct sockaddr *)&ss, len);
}

/* Until both ends are as the kernel's were here. */
static void say_all(const struct ends *e)
{
	char line[512], one[200], two[200];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	for (;;) {
		look(e->c, one, sizeof(one));
		look(e->s, two, sizeof(two));
		snprintf(line, sizeof(line), "    %s / %s", one, two);
		if (!same || strcmp(line, same) == 0 || now_ms() >= end)
			break;
		pause_ms(1);
	}
	say("%s", line);
}

static void new_client(struct ends *e)
{
	int one = 1;
	e->c = socket(e->targets == V4 ? AF_INET : AF_INET6,
		      SOCK_STREAM | (chance(2) ? SOCK_NONBLOCK : 0), 0);
	e->tried = e->connected = e->bound = false;
	no_delay(e->c);
	(void)setsockopt(e->c, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
}

/* The n-th address, or `any` of its host. */
static socklen_t address(enum targets targets, int n, bool any, struct sockaddr_storage *to)
{
	struct sockaddr_in a = where(n);
	struct sockaddr_in6 a6 = where6(n);
	memset(to, 0, sizeof(*to));
	if (any)
		a.sin_addr.s_addr = htonl(INADDR_ANY);
	if (targets == V4) {
		memcpy(to, &a, sizeof(a));
		return sizeof(a);
	}
	if (any)
		a6.sin6_addr = in6addr_any;
	if (targets == MAPPED) {
		memset(a6.sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(a6.sin6_addr.s6_addr + 12, &a.sin_addr, 4);
	}
	memcpy(to, &a6, sizeof(a6));
	return sizeof(a6);
}

/* Nothing is under way any more. */
static void settle(int c)
{
	struct pollfd p = {.fd = c, .events = POLLOUT};
	if (poll(&p, 1, 5000) == 0)
		say("  it does not end");
}

static bool lives(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_state != TCP_CLOSE;
}

static void go(struct ends *e, const char *what, int n, bool any)
{
	struct sockaddr_storage ss;
	socklen_t len = address(e->targets, n, any, &ss);
	int err = connect(e->c, (struct sockaddr *)&ss, len);
	bool under_way = err < 0 && errno == EINPROGRESS;
	say_call(what, err);
	if (under_way)
		settle(e->c);
	e->tried = true;
	e->connected = e->connected || lives(e->c);
}

static void unspec(struct ends *e)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	int err = connect(e->c, &a, sizeof(a));
	say_call("unspec", err);
	if (err == 0)
		e->tried = e->connected = false;
}

/* The kernel takes an address for a connection that failed or was reset, too, which is of use after AF_UNSPEC alone. */
static void bind_any(struct ends *e)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
	if (e->tried)
		return;
	int err = e->targets == V4 ? bind(e->c, (struct sockaddr *)&a, sizeof(a))
				   : bind(e->c, (struct sockaddr *)&a6, sizeof(a6));
	say_call("bind", err);
	e->bound = e->bound || err == 0;
}

static void say_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	int err = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	say("  error %d %s", err, error_name(error));
}

/* Whoever is first. */
static void take(struct ends *e)
{
	struct pollfd p = {.fd = e->l, .events = POLLIN};
	if (poll(&p, 1, 0) <= 0)
		return;
	if (e->s >= 0)
		close(e->s);
	e->s = accept(e->l, NULL, NULL);
	say_call("accept", e->s < 0 ? -1 : 0);
	no_delay(e->s);
}

static int listen_for(enum targets targets)
{
	return targets == V4 ? listener(0) : listener6(0, "::", 0);
}

static void other_step(struct ends *e)
{
	char b[64];
	switch (chance(6)) {
	case 0:
		if (e->s >= 0)
			say_call("server closes", close(e->s));
		e->s = -1;
		break;
	case 1:
		if (e->s >= 0)
			say_call("server sends",
				 send(e->s, b, 1 + chance(9), MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 2:
		if (e->s >= 0) {
			linger(e->s);
			say_call("server resets", close(e->s));
		}
		e->s = -1;
		break;
	default:
		take(e);
		break;
	}
}

static void flags(int fd)
{
	int fl = fcntl(fd, F_GETFL);
	say_call("toggle", fcntl(fd, F_SETFL, fl ^ O_NONBLOCK));
}

/* Before it is connected: docs/conformance.md, what differs. */
static void shut(const struct ends *e, const char *what, int how)
{
	if (e->connected)
		say_call(what, shutdown(e->c, how));
}

static void rare_step(struct ends *e)
{
	char b[64];
	switch (chance(9)) {
	case 0:
		shut(e, "shut rd", SHUT_RD);
		break;
	case 1:
		shut(e, "shut wr", SHUT_WR);
		break;
	case 2:
		shut(e, "shut", SHUT_RDWR);
		break;
	case 3:
		bind_any(e);
		break;
	case 4:
		say_call("send", send(e->c, b, 1 + chance(9), MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 5:
		say_call("recv", recv(e->c, b, sizeof(b), MSG_DONTWAIT));
		break;
	case 6:
		flags(e->c);
		break;
	case 7:
		linger(e->c);
		break;
	default:
		say_call("close", close(e->c));
		new_client(e);
		break;
	}
}

static void step(struct ends *e)
{
	switch (chance(16)) {
	case 0:
	case 1:
	case 2:
		go(e, "connect", 0, false);
		break;
	case 3:
		go(e, "connect to nobody", 1, false);
		break;
	case 4:
		go(e, "connect to any", 0, true);
		break;
	case 5:
	case 6:
		unspec(e);
		break;
	case 7:
	case 8:
		say_error(e->c);
		break;
	case 9:
	case 10:
	case 11:
		other_step(e);
		break;
	default:
		rare_step(e);
		break;
	}
}

static void rounds(uint32_t first, enum targets targets)
{
	for (uint32_t r = first; r < first + ROUNDS; r++) {
		struct ends e = {-1, -1, -1, targets, false, false, false};
		begin_round(r);
		e.l = listen_for(targets);
		new_client(&e);
		for (int i = 0; i < STEPS; i++) {
			step(&e);
			say_all(&e);
			say_names(&e);
		}
		close(e.l);
		close(e.c);
		close(e.s);
	}
}

#define ROUNDS_FROM(first)                                                                         \
	BEHAVIOUR(random_connect_from_##first)                                                     \
	{                                                                                          \
		rounds(rounds_from(first), V4);                                                    \
	}                                                                                          \
	BEHAVIOUR(random_connect_six_from_##first)                                                 \
	{                                                                                          \
		rounds(rounds_from(first), V6);                                                    \
	}                                                                                          \
	BEHAVIOUR(random_connect_mapped_from_##first)                                              \
	{                                                                                          \
		rounds(rounds_from(first), MAPPED);                                                \
	}

ROUNDS_FROM(0)
ROUNDS_FROM(40)
ROUNDS_FROM(80)
