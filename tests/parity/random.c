/*
 * Calls in an order that chance gives, on both ends of connections: what each gives, and what poll(), FIONREAD and TCP_INFO say of
 * both ends then. The chance is the same each time. PARITY_ROUND=N counts the rounds from N on.
 *
 * Where bytes and ends take a while to arrive, each step waits until both ends say what the kernel's said there (wanted()), which it
 * has in a file; it waits no longer than a bound, and then says what is.
 */
#include "random.h"

static uint32_t state;
static bool watched;
static bool
    renumbered; /* in this round, which has an epoll instance: docs/conformance.md, what differs */

void begin_round(uint32_t round)
{
	state = round * 2654435761U;
	say("round %u", round);
}

uint32_t chance(uint32_t n)
{
	state = state * 1664525U + 1013904223U;
	return (state >> 16) % n;
}

static void say_call(const char *who, const char *what, long n)
{
	say("  %s %s %ld%s%s", who, what, n, n < 0 ? " " : "", n < 0 ? error_name(errno) : "");
}

static int tcp_state(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -1;
	/* Whether the peer has said that it has our FIN yet is a matter of time. */
	return info.tcpi_state == TCP_FIN_WAIT1 ? TCP_FIN_WAIT2 : info.tcpi_state;
}

void look(int fd, char *text, size_t room)
{
	char names[128];
	int there = -1;
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI};
	if (fd < 0) {
		snprintf(text, room, "closed");
		return;
	}
	(void)poll(&p, 1, 0);
	(void)ioctl(fd, FIONREAD, &there);
	snprintf(text, room, "%s %d state %d", poll_names((unsigned)p.revents, names), there,
		 tcp_state(fd));
}

static void say_both(const int fd[2])
{
	char line[512], one[200], two[200];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	for (;;) {
		look(fd[0], one, sizeof(one));
		look(fd[1], two, sizeof(two));
		snprintf(line, sizeof(line), "    %s / %s", one, two);
		if (!same || strcmp(line, same) == 0 || now_ms() >= end)
			break;
		pause_ms(1);
	}
	say("%s", line);
}

static void say_error(const char *who, int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	long err = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	say("  %s error %ld %s", who, err, error ? error_name(error) : "none");
}

void linger(int fd)
{
	struct linger now = {1, 0};
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

void no_delay(int fd)
{
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void low_water(int fd, int n)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
}

static void unspec(const char *who, int fd)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	say_call(who, "unspec", connect(fd, &a, sizeof(a)));
}

static void name(const char *who, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	say_call(who, "peer", getpeername(fd, (struct sockaddr *)&ss, &len));
}

/* Another number for the same end, and the first one closed. */
static void renumber(const char *who, int *fd)
{
	int other = dup(*fd);
	say_call(who, "dup", other < 0 ? other : 0);
	say_call(who, "close one", close(*fd));
	*fd = other;
	renumbered = watched;
}

static void receive(const char *who, const char *what, int fd, void *bytes, size_t n, int flags)
{
	say_call(who, what, recv(fd, bytes, n, MSG_DONTWAIT | flags));
}

static void rare_step(const char *who, int *fd, void *bytes, uint32_t n)
{
	switch (chance(10)) {
	case 0:
		linger(*fd);
		break;
	case 1:
		say_call(who, "send none", send(*fd, bytes, 0, MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 2:
		receive(who, "recv none", *fd, bytes, 0, 0);
		break;
	case 3:
		low_water(*fd, (int)n);
		break;
	case 4:
		if (chance(2) == 0 && !renumbered)
			unspec(who, *fd);
		break;
	case 5:
		renumber(who, fd);
		break;
	case 6:
		receive(who, "waitall", *fd, bytes, n, MSG_WAITALL);
		break;
	case 7:
		receive(who, "trunc", *fd, NULL, n, MSG_TRUNC);
		break;
	case 8:
		receive(who, "peek", *fd, bytes, n, MSG_PEEK);
		break;
	default:
		name(who, *fd);
		break;
	}
}

static void step(const char *who, int *fd)
{
	static char bytes[256];
	uint32_t n = 1 + chance(100);
	switch (chance(16)) {
	case 0:
	case 1:
	case 2:
		say_call(who, "send", send(*fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 3:
	case 4:
		receive(who, "recv", *fd, bytes, n, 0);
		break;
	case 5:
		say_call(who, "shut rd", shutdown(*fd, SHUT_RD));
		break;
	case 6:
		say_call(who, "shut wr", shutdown(*fd, SHUT_WR));
		break;
	case 7:
		say_call(who, "shut", shutdown(*fd, SHUT_RDWR));
		break;
	case 8:
		say_call(who, "close", close(*fd));
		*fd = -1;
		break;
	case 9:
	case 10:
		say_error(who, *fd);
		break;
	default:
		rare_step(who, fd, bytes, n);
		break;
	}
}

static int watch(const int fd[2])
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < 2; i++) {
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.u32 = i};
		if (epoll_ctl(e, EPOLL_CTL_ADD, fd[i], &ev) != 0)
			say("not added");
	}
	return e;
}

static void look_events(int e, char *text, size_t room)
{
	struct epoll_event ev[4];
	char names[2][128] = {"-", "-"};
	int n = epoll_wait(e, ev, 4, 0);
	for (int i = 0; i < n; i++)
		poll_names(ev[i].events, names[ev[i].data.u32]);
	snprintf(text, room, "    told %d: %s / %s", n, names[0], names[1]);
}

/* Several looks: what the kernel has beside connections that are ready may come a few waits later. */
static void say_events(int e)
{
	char line[512];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	do
		look_events(e, line, sizeof(line));
	while (same && strcmp(line, same) != 0 && now_ms() < end);
	say("%s", line);
}

uint32_t rounds_from(uint32_t first)
{
	const char *from = getenv("PARITY_ROUND");
	return first + (from ? (uint32_t)strtoul(from, NULL, 10) : 0);
}

static void rounds(uint32_t first, bool told)
{
	for (uint32_t r = first; r < first + ROUNDS; r++) {
		int fd[2], e = -1;
		begin_round(r);
		pair(&fd[0], &fd[1]);
		no_delay(fd[0]);
		no_delay(fd[1]);
		watched = told;
		renumbered = false;
		if (told)
			e = watch(fd);
		for (int i = 0; i < STEPS; i++) {
			uint32_t who = chance(2);
			if (fd[who] < 0)
				continue;
			step(who ? "server" : "client", &fd[who]);
			say_both(fd);
			if (told)
				say_events(e);
		}
		close(e);
		close(fd[0]);
		close(fd[1]);
	}
}

#define ROUNDS_FROM(first)                                                                         \
	BEHAVIOUR(random_from_##first)                                                             \
	{                                                                                          \
		rounds(rounds_from(first), false);                                                 \
	}                                                                                          \
	BEHAVIOUR(random_told_from_##first)                                                        \
	{                                                                                          \
		rounds(rounds_from(first + 1000), true);                                           \
	}

ROUNDS_FROM(0)
ROUNDS_FROM(40)
ROUNDS_FROM(80)
ROUNDS_FROM(120)
ROUNDS_FROM(160)
ROUNDS_FROM(200)
ROUNDS_FROM(240)
ROUNDS_FROM(280)
ROUNDS_FROM(320)
ROUNDS_FROM(360)
