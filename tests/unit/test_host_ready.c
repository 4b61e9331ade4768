/* Readiness of flat sockets of one process, by each path, beside the kernel's; and threads that sleep until there is some. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>

#include "host/bell.h"
#include "support_whole.h"

#define LIMIT_MS 10000

static void polls(const char *path, int client, int server)
{
	struct pollfd p[3] = {{.fd = server, .events = POLLIN},
			      {.fd = client, .events = POLLIN | POLLOUT},
			      {.fd = -1, .events = POLLIN}};
	struct timespec none = {0};
	fd_set in;
	fd_set out;
	char c;
	cr_expect_eq(flat_poll(p, 3, 0), 1, "%s", path);
	cr_expect_eq(p[1].revents, POLLOUT, "%s", path);
	whole_send(client, "x", 1);
	cr_expect_eq(whole_poll(server, POLLIN), POLLIN, "%s", path);
	cr_expect_eq(flat_ppoll(p, 3, &none, NULL), 2, "%s", path);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(server, &in);
	FD_SET(client, &in);
	FD_SET(client, &out);
	int top = (client > server ? client : server) + 1;
	struct timeval limit = {.tv_sec = LIMIT_MS / 1000};
	cr_expect_eq(flat_select(top, &in, &out, NULL, &limit), 2, "%s", path);
	cr_expect(FD_ISSET(server, &in) && !FD_ISSET(client, &in) && FD_ISSET(client, &out), "%s",
		  path);
	whole_recv(server, &c, 1);
	FD_ZERO(&in);
	FD_SET(server, &in);
	cr_expect_eq(flat_pselect(top, &in, NULL, NULL, &none, NULL), 0, "%s", path);
	p[2].fd = 1000;
	cr_expect_eq(flat_poll(p + 2, 1, 0), 1, "%s", path);
	cr_expect_eq(p[2].revents, POLLNVAL, "%s", path);
}

Test(host_ready, poll_and_select)
{
	whole_on_each(polls);
}

static void add(int epoll, int op, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};
	cr_assert_eq(flat_epoll_ctl(epoll, op, fd, &e), 0, "%m");
}

static void epolls(const char *path, int client, int server)
{
	struct epoll_event got[4] = {0};
	char c;
	int epoll = flat_epoll_create1(EPOLL_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);
	add(epoll, EPOLL_CTL_ADD, server, EPOLLIN);
	add(epoll, EPOLL_CTL_ADD, event, EPOLLIN);
	cr_expect_eq(flat_epoll_ctl(epoll, EPOLL_CTL_ADD, server, got), -1, "%s", path);
	cr_expect_eq(errno, EEXIST, "%s: %m", path);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, 0), 0, "%s", path);
	whole_send(client, "ab", 2);
	cr_expect_eq(eventfd_write(event, 1), 0);
	(void)whole_poll(server, POLLIN);
	/* Both are told, again and again: the kernel's members with every eighth wait at least. */
	int told[2] = {0};
	for (int i = 0; i < 16; i++) {
		int n = flat_epoll_wait(epoll, got, 4, LIMIT_MS);
		for (int at = 0; at < n; at++)
			told[got[at].data.fd == event]++;
	}
	cr_expect(told[0] == 16 && told[1] >= 2, "%s: %d and %d", path, told[0], told[1]);
	add(epoll, EPOLL_CTL_DEL, event, 0);
	add(epoll, EPOLL_CTL_MOD, server, EPOLLIN | EPOLLET);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, LIMIT_MS), 1, "%s: an edge", path);
	cr_expect_eq(got[0].data.fd, server, "%s", path);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, 0), 0, "%s: told", path);
	whole_send(client, "c", 1);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, LIMIT_MS), 1, "%s: another", path);
	add(epoll, EPOLL_CTL_MOD, server, EPOLLIN | EPOLLONESHOT);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, LIMIT_MS), 1, "%s: one shot", path);
	cr_expect_eq(flat_epoll_wait(epoll, got, 4, 0), 0, "%s: shot", path);
	for (int i = 0; i < 3; i++)
		whole_recv(server, &c, 1);
	/* A set within a set. */
	int outer = flat_epoll_create1(EPOLL_CLOEXEC);
	add(epoll, EPOLL_CTL_MOD, server, EPOLLIN);
	add(outer, EPOLL_CTL_ADD, epoll, EPOLLIN);
	cr_expect_eq(flat_epoll_wait(outer, got, 4, 0), 0, "%s", path);
	whole_send(client, "d", 1);
	cr_expect_eq(flat_epoll_wait(outer, got, 4, LIMIT_MS), 1, "%s: nested", path);
	cr_expect_eq(got[0].data.fd, epoll, "%s", path);
	whole_recv(server, &c, 1);
	flat_close(outer);
	flat_close(epoll);
	close(event);
}

Test(host_ready, epoll_of_each_kind)
{
	whole_on_each(epolls);
}

struct sleeper {
	int fd;
	int epoll; /* -1: it reads */
	long got;
};

static void *sleeps(void *arg)
{
	struct sleeper *s = arg;
	char c = 0;
	struct epoll_event e;
	for (long i = 0; i < 200; i++) {
		if (s->epoll >= 0 && flat_epoll_wait(s->epoll, &e, 1, LIMIT_MS) != 1)
			break;
		if (flat_recv(s->fd, &c, 1, 0) != 1 || flat_send(s->fd, &c, 1, 0) != 1)
			break;
		s->got++;
	}
	return NULL;
}

/* Sometimes at once, sometimes after the other side has gone to sleep. */
static void wakes(const char *path, int client, int server)
{
	for (int with_epoll = 0; with_epoll < 2; with_epoll++) {
		struct sleeper s = {.fd = server, .epoll = -1};
		pthread_t thread;
		if (with_epoll) {
			s.epoll = flat_epoll_create1(EPOLL_CLOEXEC);
			add(s.epoll, EPOLL_CTL_ADD, server, EPOLLIN);
		}
		cr_assert_eq(pthread_create(&thread, NULL, sleeps, &s), 0);
		for (int i = 0; i < 200; i++) {
			char c = (char)i;
			if (i % 20 == 0)
				cr_expect_eq(flat_poll(NULL, 0, 3), 0);
			whole_send(client, &c, 1);
			c = 0;
			whole_recv(client, &c, 1);
			cr_assert_eq(c, (char)i, "%s", path);
		}
		cr_assert_eq(pthread_join(thread, NULL), 0);
		cr_expect_eq(s.got, 200, "%s", path);
		if (with_epoll)
			flat_close(s.epoll);
	}
}

Test(host_ready, threads_that_sleep_are_woken)
{
	whole_on_each(wakes);
}

/* As waiters do that no hook sees: an io_uring, a child without the library. */
static int kernel_hears(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, ms);
}

static void finds_nothing(const char *path, int fd)
{
	char c;
	cr_assert_eq(flat_recv(fd, &c, 1, MSG_DONTWAIT), -1, "%s", path);
	cr_assert_eq(errno, EAGAIN, "%s: %m", path);
	cr_assert_eq(kernel_hears(fd, 0), 0, "%s", path);
}

static void *writes_event(void *arg)
{
	const int *event = arg;
	cr_expect_eq(eventfd_write(*event, 1), 0, "%m");
	return NULL;
}

/* Of a flat socket alone: `s` behind `server`. */
static void puts_off(const char *path, int client, int server, struct flat_sock *s)
{
	int there = 0;
	char c;
	finds_nothing(path, server);
	cr_expect(flat_bell_put_off(s), "%s", path);
	cr_expect_not(flat_bell_put_off(s), "%s: it is off", path);
	whole_send(client, "b", 1);
	while (there == 0)
		cr_assert_eq(flat_ioctl(server, FIONREAD, &there), 0, "%s: %m", path);
	cr_expect_eq(kernel_hears(server, 0), 0, "%s: put off", path);
	whole_recv(server, &c, 1);
	finds_nothing(path, server);
	cr_expect(flat_bell_put_off(s), "%s", path);
	flat_bell_left(s);
	whole_send(client, "c", 1);
	cr_expect_eq(kernel_hears(server, LIMIT_MS), 1, "%s: put back", path);
	whole_recv(server, &c, 1);
	finds_nothing(path, server);
	cr_expect(flat_bell_join(s, server), "%s", path);
	cr_expect_not(flat_bell_put_off(s), "%s: somebody waits", path);
	flat_bell_leave(s);
}

static void leaves_bells(const char *path, int client, int server)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct pollfd both[2] = {{.fd = server, .events = POLLIN}, {.fd = event, .events = POLLIN}};
	struct flat_sock *s = flat_fd_sock(server);
	eventfd_t times;
	char c;
	finds_nothing(path, server);
	whole_send(client, "a", 1);
	cr_expect_eq(kernel_hears(server, LIMIT_MS), 1, "%s: left", path);
	whole_recv(server, &c, 1);
	if (s)
		puts_off(path, client, server, s);
	for (int i = 0; i < 50; i++) {
		pthread_t thread;
		finds_nothing(path, server);
		cr_assert_eq(pthread_create(&thread, NULL, writes_event, &event), 0);
		cr_expect_eq(flat_poll(both, 2, LIMIT_MS), 1, "%s", path);
		cr_expect_eq(both[1].revents, POLLIN, "%s", path);
		cr_expect_eq(pthread_join(thread, NULL), 0);
		cr_expect_eq(eventfd_read(event, &times), 0, "%m");
		whole_send(client, "d", 1);
		cr_assert_eq(kernel_hears(server, LIMIT_MS), 1, "%s: left by the poll %d", path, i);
		whole_recv(server, &c, 1);
	}
	close(event);
}

Test(host_ready, a_bell_is_left_for_waiters_that_nobody_knows)
{
	whole_on_each(leaves_bells);
}
