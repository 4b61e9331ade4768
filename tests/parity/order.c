/* In which order an instance tells of what is ready: the kernel's list is first in, first out, and what stays ready goes to its end. */
#include <sys/eventfd.h>

#include "parity.h"

#define ENDS 4

static void control(int e, int op, int fd, uint32_t events, uint32_t id)
{
	struct epoll_event ev = {.events = events, .data.u32 = id};
	if (epoll_ctl(e, op, fd, &ev) != 0)
		say("epoll_ctl of %u: %s", id, error_name(errno));
}

static void say_order(const char *what, int e, int max)
{
	struct epoll_event ev[2 * ENDS];
	char text[64] = "";
	size_t len = 0;
	int n = epoll_wait(e, ev, max, 5000);
	for (int i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, " %u", ev[i].data.u32);
	say("%s: %d:%s", what, n, text);
}

static void send_one(const int *c, const int *s, uint32_t i)
{
	send_all(c[i], "x", 1);
	await_bytes(s[i], 1);
}

static void pairs(int *c, int *s)
{
	for (int i = 0; i < ENDS; i++)
		pair(&c[i], &s[i]);
}

/* An instance with connections that all have a byte. */
static int all_ready(uint32_t events, int *c, int *s)
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	pairs(c, s);
	for (uint32_t i = 0; i < ENDS; i++) {
		send_one(c, s, i);
		control(e, EPOLL_CTL_ADD, s[i], events, i);
	}
	return e;
}

BEHAVIOUR(order_of_bytes_after_a_sleep)
{
	static const uint32_t turns[][ENDS] = {{2, 0, 3, 1}, {3, 2, 1, 0}, {0, 1, 2, 3}};
	int c[ENDS], s[ENDS], e = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event none;
	char byte;
	pairs(c, s);
	for (uint32_t i = 0; i < ENDS; i++)
		control(e, EPOLL_CTL_ADD, s[i], EPOLLIN, i);
	for (size_t turn = 0; turn < sizeof(turns) / sizeof(*turns); turn++) {
		DO(epoll_wait(e, &none, 1, 1));
		for (int i = 0; i < ENDS; i++)
			send_one(c, s, turns[turn][i]);
		say_order("all", e, 2 * ENDS);
		say_order("again", e, 2 * ENDS);
		for (int i = 0; i < 2 * ENDS; i++)
			say_order("one", e, 1);
		say_order("three", e, 3);
		say_order("all after three", e, 2 * ENDS);
		for (int i = 0; i < ENDS; i++)
			DO(recv(s[i], &byte, 1, 0));
	}
}

BEHAVIOUR(order_as_added)
{
	int c[ENDS], s[ENDS], e = all_ready(EPOLLIN, c, s);
	for (int i = 0; i < 2 * ENDS; i++)
		say_order("one", e, 1);
	control(e, EPOLL_CTL_DEL, s[1], 0, 1);
	control(e, EPOLL_CTL_DEL, s[0], 0, 0);
	control(e, EPOLL_CTL_ADD, s[1], EPOLLIN, 1);
	control(e, EPOLL_CTL_ADD, s[0], EPOLLIN, 0);
	say_order("two added again", e, 2 * ENDS);
	control(e, EPOLL_CTL_MOD, s[3], EPOLLIN | EPOLLRDHUP, 3);
	control(e, EPOLL_CTL_MOD, s[2], EPOLLIN | EPOLLRDHUP, 2);
	say_order("two changed, which were in the list", e, 2 * ENDS);
}

static void changed(uint32_t events)
{
	int c[ENDS], s[ENDS], e = all_ready(events, c, s);
	say_order("three", e, 3);
	control(e, EPOLL_CTL_MOD, s[2], events, 2);
	control(e, EPOLL_CTL_MOD, s[0], events, 0);
	say_order("the fourth, and two that are asked for again", e, 2 * ENDS);
	control(e, EPOLL_CTL_MOD, s[3], events, 3);
	control(e, EPOLL_CTL_MOD, s[1], events, 1);
	control(e, EPOLL_CTL_MOD, s[2], events, 2);
	say_order("one at a time", e, 1);
	say_order("one at a time", e, 1);
	say_order("one at a time", e, 1);
}

BEHAVIOUR(order_of_oneshots_asked_for_again)
{
	changed(EPOLLIN | EPOLLONESHOT);
}

BEHAVIOUR(order_of_edges_asked_for_again)
{
	changed(EPOLLIN | EPOLLET);
}

/* The kernel's own, when its softirqs are late: the machine is busy. */
static void kernel_arrives(int l)
{
	if (!wanted())
		await(l, POLLIN);
}

/* More often than connections are made one at a time. */
#define TIMES 24

BEHAVIOUR(order_listener_before_client)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), e = epoll_create1(EPOLL_CLOEXEC);
	set_nonblock(l);
	control(e, EPOLL_CTL_ADD, l, EPOLLIN, 0);
	for (uint32_t i = 0; i < TIMES; i++) {
		int c = tcp(SOCK_NONBLOCK);
		(void)connect(c, (struct sockaddr *)&a, sizeof(a));
		kernel_arrives(l);
		control(e, EPOLL_CTL_ADD, c, EPOLLOUT, 1);
		if (i % 2 == 0)
			say_order("both", e, 2 * ENDS);
		else
			say_order("first", e, 1);
		int s = accept(l, NULL, NULL);
		say("accepted %d", s >= 0);
		say_order("then", e, 1);
		close(c);
		close(s);
	}
}

static void accept_after_connect(int l)
{
	struct sockaddr_in a = where(0);
	set_nonblock(l);
	for (int i = 0; i < TIMES; i++) {
		int c = tcp(0);
		(void)!connect(c, (struct sockaddr *)&a, sizeof(a));
		kernel_arrives(l);
		int s = accept(l, NULL, NULL);
		say("accepted %d", s >= 0);
		close(c);
		close(s);
	}
}

BEHAVIOUR(order_accept_after_connect)
{
	accept_after_connect(listener(0));
}

BEHAVIOUR(order_accept_after_connect_all)
{
	accept_after_connect(listener6(0, "::", 0));
}

/* With as many places as there are ready ones each is told of, sooner or later, and none twice before another one once. */
BEHAVIOUR(order_turns_of_flat_and_kernel)
{
	int c[ENDS], s[ENDS], e = all_ready(EPOLLIN, c, s), told[ENDS + 1] = {0};
	struct epoll_event ev;
	control(e, EPOLL_CTL_ADD, eventfd(1, EFD_CLOEXEC), EPOLLIN, ENDS);
	for (int i = 0; i < 40 * (ENDS + 1); i++) {
		if (epoll_wait(e, &ev, 1, 5000) == 1)
			told[ev.data.u32]++;
	}
	int least = told[0], most = told[0];
	for (int i = 1; i < ENDS; i++) {
		least = told[i] < least ? told[i] : least;
		most = told[i] > most ? told[i] : most;
	}
	say("connections: %s; the kernel's: %s", most - least <= 1 ? "in turn" : "not in turn",
	    told[ENDS] >= 20 ? "told" : "hardly told");
}
