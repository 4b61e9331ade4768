/* Instances with more ready members than one wait tells of, in the kernel's descriptors and connections: each has its turn. */
#include <sys/eventfd.h>

#include "parity.h"

#define MEMBERS_MAX 12

static void add(int e, int fd, uint32_t events, uint32_t id)
{
	struct epoll_event ev = {.events = events, .data.u32 = id};
	if (epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev) != 0)
		say("not added %u: %s", id, error_name(errno));
}

static int ready_event(void)
{
	return eventfd(1, EFD_CLOEXEC);
}

/* An instance in which something of the kernel's is always ready. */
static int ready_instance(void)
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	add(e, ready_event(), EPOLLIN, 0);
	return e;
}

/* Whether in `waits` waits for `max` events each of n members was told of. */
static void say_turns(const char *what, int e, uint32_t n, int max, int waits)
{
	struct epoll_event ev[MEMBERS_MAX];
	int told[MEMBERS_MAX] = {0};
	char left[64];
	size_t len = 0;
	int short_n = 0;
	for (int i = 0; i < waits; i++) {
		int got = epoll_wait(e, ev, max, 1000);
		if (got != (max < (int)n ? max : (int)n))
			short_n++;
		for (int k = 0; k < got; k++)
			told[ev[k].data.u32 % MEMBERS_MAX]++;
	}
	left[0] = 0;
	for (uint32_t i = 0; i < n; i++)
		if (told[i] == 0)
			len += (size_t)snprintf(left + len, sizeof(left) - len, " %u", i);
	say("%s, %d of %u at a time: not told:%s; waits that told fewer: %s", what, max, n,
	    left[0] ? left : " none", short_n > 8 ? "many" : "few");
}

static void all_sizes(const char *what, int e, uint32_t n)
{
	for (int max = 1; max <= (int)n; max++)
		say_turns(what, e, n, max, 16 * (int)n);
}

BEHAVIOUR(turns_flat_and_kernel)
{
	int c, s, e = epoll_create1(EPOLL_CLOEXEC);
	pair(&c, &s);
	send_all(c, "x", 1);
	await(s, POLLIN);
	add(e, s, EPOLLIN, 0);
	add(e, ready_event(), EPOLLIN, 1);
	all_sizes("one each", e, 2);
	add(e, c, EPOLLOUT, 2);
	add(e, ready_event(), EPOLLIN, 3);
	add(e, ready_event(), EPOLLIN, 4);
	all_sizes("some each", e, 5);
}

BEHAVIOUR(turns_flat_many)
{
	int c[4], s[4], e = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < 4; i++)
		pair(&c[i], &s[i]);
	for (uint32_t i = 0; i < 4; i++) {
		add(e, c[i], EPOLLOUT, 2 * i);
		send_all(c[i], "x", 1);
		await(s[i], POLLIN);
		add(e, s[i], EPOLLIN | EPOLLOUT, 2 * i + 1);
	}
	add(e, ready_event(), EPOLLIN, 8);
	all_sizes("many flat", e, 9);
}

BEHAVIOUR(turns_kernel_many)
{
	int c, s, e = epoll_create1(EPOLL_CLOEXEC);
	pair(&c, &s);
	for (uint32_t i = 1; i < 8; i++)
		add(e, ready_event(), EPOLLIN, i);
	add(e, c, EPOLLOUT, 0);
	all_sizes("many of the kernel", e, 8);
}

BEHAVIOUR(turns_listener)
{
	struct sockaddr_in a = where(1);
	int c, s, l = listener(1), e = epoll_create1(EPOLL_CLOEXEC), d = tcp(0);
	pair(&c, &s);
	add(e, c, EPOLLOUT, 0);
	add(e, s, EPOLLOUT, 1);
	add(e, l, EPOLLIN, 2);
	DO(connect(d, (struct sockaddr *)&a, sizeof(a)));
	await(l, POLLIN);
	all_sizes("a listener", e, 3);
}

BEHAVIOUR(turns_instances)
{
	int c, s, e = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(EPOLL_CLOEXEC);
	pair(&c, &s);
	add(inner, s, EPOLLOUT, 0);
	add(e, c, EPOLLOUT, 0);
	add(e, inner, EPOLLIN, 1);
	add(e, ready_instance(), EPOLLIN, 2);
	add(e, ready_event(), EPOLLIN, 3);
	all_sizes("instances", e, 4);
}

/* What is busy rings all the time; what the kernel has comes in between. */
BEHAVIOUR(turns_while_bytes_flow)
{
	int c, s, e = epoll_create1(EPOLL_CLOEXEC), told = 0;
	char byte;
	struct epoll_event ev;
	pair(&c, &s);
	add(e, s, EPOLLIN, 0);
	add(e, ready_event(), EPOLLIN, 1);
	for (int i = 0; i < 200; i++) {
		send_all(c, "x", 1);
		await_bytes(s, 1);
		for (int k = 0; k < 64 && epoll_wait(e, &ev, 1, 1000) == 1 && ev.data.u32 == 1; k++)
			told++;
		DO(recv(s, &byte, 1, 0) == 1 ? 0 : -1);
	}
	say("told of the kernel's: %s", told >= 50 ? "often" : "seldom");
}
