/* EPOLLONESHOT that was told, of sockets that become other sockets under their number: it stays told until EPOLL_CTL_MOD. */
#include <sys/eventfd.h>

#include "parity.h"

static void say_told_of(const char *what, int e)
{
	struct epoll_event got[4];
	int n = epoll_wait(e, got, 4, 0);
	say("%s: %d", what, n);
	for (int i = 0; i < n; i++)
		say("  %d: %#x", got[i].data.fd, got[i].events);
}

static long watch(int e, int op, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = 1};
	return epoll_ctl(e, op, fd, &ev);
}

static int unspec(int fd)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	return connect(fd, &a, sizeof(a));
}

static int go(int fd)
{
	struct sockaddr_in a = where(0);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

/* A connection whose bytes were told of, and which is ended by connect(AF_UNSPEC). */
static int spent(int *c, int *s)
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	pair(c, s);
	DO(watch(e, EPOLL_CTL_ADD, *c, EPOLLIN | EPOLLONESHOT));
	say_told_of("nothing there", e);
	send_all(*s, "x", 1);
	await(*c, POLLIN);
	say_told_of("a byte", e);
	say_told_of("again", e);
	DO(unspec(*c));
	say_told_of("disconnected", e);
	return e;
}

BEHAVIOUR(oneshot_unspec_then_mod)
{
	int c, s, e = spent(&c, &s);
	DO(watch(e, EPOLL_CTL_ADD, c, EPOLLIN));
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLEXCLUSIVE));
	say_told_of("refused", e);
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLONESHOT));
	say_told_of("armed", e);
	say_told_of("again", e);
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLOUT));
	say_told_of("armed for good", e);
	say_told_of("again", e);
}

BEHAVIOUR(oneshot_unspec_then_del)
{
	int c, s, e = spent(&c, &s);
	DO(watch(e, EPOLL_CTL_DEL, c, 0));
	DO(watch(e, EPOLL_CTL_DEL, c, 0));
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLIN));
	say_told_of("left", e);
	DO(watch(e, EPOLL_CTL_ADD, c, EPOLLIN));
	say_told_of("added", e);
}

BEHAVIOUR(oneshot_unspec_then_closed)
{
	int c, s, e = spent(&c, &s);
	DO(close(c));
	int again = tcp(0);
	say("%s", again == c ? "the same number" : "another number");
	DO(watch(e, EPOLL_CTL_MOD, again, EPOLLIN));
	DO(watch(e, EPOLL_CTL_ADD, again, EPOLLIN));
	say_told_of("added", e);
}

BEHAVIOUR(oneshot_unspec_then_again)
{
	int c, s, e = spent(&c, &s);
	int l = listener(0);
	DO(go(c));
	int s2 = (int)DO(accept(l, NULL, NULL));
	send_all(s2, "y", 1);
	await(c, POLLIN);
	say_told_of("connected again", e);
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLONESHOT));
	say_told_of("armed", e);
	say_told_of("again", e);
	DO(unspec(c));
	DO(unspec(c));
	say_told_of("disconnected again", e);
}

BEHAVIOUR(oneshot_told_before_connect)
{
	int l = listener(0), c = tcp(0), e = epoll_create1(EPOLL_CLOEXEC);
	DO(watch(e, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT | EPOLLONESHOT));
	say_told_of("new", e);
	DO(go(c));
	int s = (int)DO(accept(l, NULL, NULL));
	say_told_of("connected", e);
	send_all(s, "x", 1);
	await(c, POLLIN);
	say_told_of("a byte", e);
	DO(watch(e, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLONESHOT));
	say_told_of("armed", e);
	say_told_of("again", e);
}

BEHAVIOUR(oneshot_not_told_before_connect)
{
	int l = listener(0), c = tcp(0), e = epoll_create1(EPOLL_CLOEXEC);
	int more[24];
	/* Others, so that the kernel has more than one line to say of them. */
	for (int i = 0; i < 24; i++) {
		more[i] = eventfd(0, EFD_CLOEXEC);
		if (watch(e, EPOLL_CTL_ADD, more[i], EPOLLIN) != 0)
			say("not added");
	}
	DO(watch(e, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT | EPOLLONESHOT));
	DO(go(c));
	DO(accept(l, NULL, NULL));
	say_told_of("connected", e);
	say_told_of("again", e);
}

BEHAVIOUR(oneshot_listener_told_then_shut)
{
	int l = listener(0), e = epoll_create1(EPOLL_CLOEXEC);
	DO(watch(e, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLONESHOT));
	int c = reach(0);
	await(l, POLLIN);
	say_told_of("a connection", e);
	say_told_of("again", e);
	int s = (int)DO(accept(l, NULL, NULL));
	DO(shutdown(l, SHUT_RDWR));
	say_told_of("shut", e);
	DO(watch(e, EPOLL_CTL_MOD, l, EPOLLIN | EPOLLONESHOT));
	say_told_of("armed", e);
	say_told_of("again", e);
	DO(listen(l, 4));
	say_told_of("listening again", e);
	DO(send(c, "on", 2, 0));
	await(s, POLLIN);
}
