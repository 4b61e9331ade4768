/* Listeners of one process, with clients by each path and without the library, beside the kernel's listeners. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>

#include "support_account.h"
#include "support_whole.h"

/* Where nobody has memory. */
#define NOWHERE ((void *)8)

/* Who connects. The first one and its listener are the kernel's. */
static const struct way {
	const char *name;
	bool plain; /* a client of the kernel's */
	uint8_t last;
} ways[] = {{"kernel", true, 0}, {"direct", false, 1}, {"forwarded", false, 2}, {"plain", true, 0}};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static uint16_t port;

static int client_of(const struct way *w)
{
	struct sockaddr_in to = whole_addr(127, 0, 0, 1, port);
	if (!w->plain)
		return whole_connect(whole_addr(240, 9, 0, w->last, 7));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0, "%s: %m", w->name);
	return fd;
}

/* Bound to a number that was asked for: another the kernel's listener would lose as it is shut down. */
static int listener_of(const struct way *w)
{
	const int on = 1;
	port = w == ways ? whole_free_port() : whole_port();
	struct sockaddr_in at = whole_addr(127, 0, 0, 1, port);
	if (w != ways)
		return whole_listen(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 64), 0);
	return fd;
}

/* check() does not close the listener. */
static void on_each(void (*check)(const struct way *w, int listener))
{
	whole_begin(NULL, NULL);
	for (size_t i = 0; i < WAYS; i++) {
		int listener = listener_of(&ways[i]);
		check(&ways[i], listener);
		account_compare(ways[i].name);
		flat_close(listener);
	}
	whole_end();
}

/* What an accept() gives, and closes it. The number itself is nobody's business. */
static void take(const char *what, int listener, void *addr, socklen_t *len, int flags)
{
	int fd = flat_accept4(listener, addr, len, flags);
	account_call(what, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	account_say("nonblock %d, cloexec %d\n", (flat_fcntl(fd, F_GETFL, 0) & O_NONBLOCK) != 0,
		    flat_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC);
	flat_close(fd);
}

static void flags(const struct way *w, int listener)
{
	const int each[] = {0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK};
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		int client = client_of(w);
		take("flags", listener, NULL, NULL, each[i]);
		flat_close(client);
	}
	take("unknown flags", listener, NULL, NULL, SOCK_STREAM);
	cr_assert_eq(flat_fcntl(listener, F_SETFL, O_NONBLOCK), 0, "%s: %m", w->name);
	take("none is there", listener, NULL, NULL, 0);
	int client = client_of(w);
	(void)whole_poll(listener, POLLIN);
	/* Its own flag is not inherited. */
	take("one is there", listener, NULL, NULL, 0);
	take("none is left", listener, NULL, NULL, 0);
	flat_close(client);
}

Test(host_listener, flags_of_what_is_accepted)
{
	on_each(flags);
}

static void names(const struct way *w, int listener)
{
	struct sockaddr_in from = {0};
	socklen_t len = sizeof(from);
	int fd[2] = {client_of(w), client_of(w)};
	take("whole", listener, &from, &len, 0);
	account_say("family %d, length %u\n", from.sin_family, len);
	memset(&from, 0, sizeof(from));
	len = 2;
	take("cut", listener, &from, &len, 0);
	account_say("family %d, port %u, length %u\n", from.sin_family, from.sin_port, len);
	flat_close(fd[0]);
	flat_close(fd[1]);
}

Test(host_listener, names_of_who_connects)
{
	on_each(names);
}

static void no_names(const struct way *w, int listener)
{
	struct sockaddr_in from;
	socklen_t bad = (socklen_t)-1;
	socklen_t len = sizeof(from);
	struct {
		void *addr;
		socklen_t *len;
	} each[] = {{&from, &bad}, {NOWHERE, &len}, {&from, NOWHERE}};
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		char c;
		int client = client_of(w);
		take("nowhere", listener, each[i].addr, each[i].len, 0);
		/* It was taken, and is gone. */
		account_say("events %#x\n", (unsigned)whole_poll(client, POLLRDHUP));
		account_call("recv", flat_recv(client, &c, 1, MSG_DONTWAIT));
		flat_close(client);
	}
	/* The next one is not hurt. */
	int client = client_of(w);
	take("the next", listener, NULL, NULL, 0);
	flat_close(client);
}

Test(host_listener, a_connection_whose_name_has_no_place_is_lost)
{
	on_each(no_names);
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	cr_assert_eq(flat_getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void inherited(const struct way *w, int listener)
{
	const int on = 1;
	const int idle = 77;
	struct timeval tv = {.tv_usec = 20000};
	struct timeval got = {0};
	socklen_t len = sizeof(got);
	flat_setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	flat_setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	flat_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	flat_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	take("nobody in time", listener, NULL, NULL, 0);
	int client = client_of(w);
	(void)whole_poll(listener, POLLIN);
	int fd = flat_accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0, "%s: %m", w->name);
	account_say("keepalive %d, idle %d, nodelay %d\n", option_of(fd, SOL_SOCKET, SO_KEEPALIVE),
		    option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE),
		    option_of(fd, IPPROTO_TCP, TCP_NODELAY));
	cr_assert_eq(flat_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len), 0);
	account_say("time %ld.%06ld\n", (long)got.tv_sec, (long)got.tv_usec);
	account_call("recv", flat_recv(fd, &len, 1, 0));
	flat_close(fd);
	flat_close(client);
}

Test(host_listener, options_are_inherited)
{
	on_each(inherited);
}

static void again(const struct way *w, int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	account_call("listen", flat_listen(listener, 3));
	account_call("one way", flat_shutdown(listener, SHUT_WR));
	int client = client_of(w);
	take("still", listener, NULL, NULL, 0);
	flat_close(client);
	account_call("the other", flat_shutdown(listener, SHUT_RD));
	cr_assert_eq(flat_poll(&p, 1, 0), 1, "%s", w->name);
	account_say("events %#x\n", (unsigned)p.revents);
	take("shut", listener, NULL, NULL, 0);
	account_call("twice", flat_shutdown(listener, SHUT_RD));
	account_call("listens again", flat_listen(listener, 8));
	client = client_of(w);
	take("again", listener, NULL, NULL, 0);
	flat_close(client);
}

Test(host_listener, one_that_is_shut_down_may_listen_again)
{
	on_each(again);
}

struct sleeper {
	atomic_int tid;
	int listener;
	int got;
	int error;
};

static void *sleep_on(void *arg)
{
	struct sleeper *s = arg;
	atomic_store(&s->tid, gettid());
	s->got = flat_accept(s->listener, NULL, NULL);
	s->error = errno;
	return NULL;
}

/* Waits until that thread sleeps, which it does in accept(). */
static void await_sleep(struct sleeper *s)
{
	char path[64];
	char state = 0;
	for (int i = 0; i < 10000 && state != 'S'; i++) {
		(void)flat_poll(NULL, 0, 1);
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&s->tid));
		FILE *f = fopen(path, "re");
		if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		if (f)
			(void)fclose(f);
	}
	cr_assert_eq(state, 'S');
}

static void woken(const struct way *w, int listener)
{
	struct sleeper s[2] = {{.listener = listener}, {.listener = listener}};
	pthread_t thread[2];
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, sleep_on, &s[i]), 0);
	for (int i = 0; i < 2; i++)
		await_sleep(&s[i]);
	cr_assert_eq(flat_shutdown(listener, SHUT_RDWR), 0, "%s: %m", w->name);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
		cr_expect_eq(s[i].got, -1, "%s", w->name);
		cr_expect_eq(s[i].error, EINVAL, "%s: %s", w->name, strerrorname_np(s[i].error));
	}
}

Test(host_listener, shutdown_wakes_who_accepts)
{
	on_each(woken);
}

static void wrong(const struct way *w, int listener)
{
	int client = client_of(w);
	int fd = flat_accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0, "%s: %m", w->name);
	take("a connection accepts", fd, NULL, NULL, 0);
	take("so does its client", client, NULL, NULL, 0);
	account_call("it listens", flat_listen(fd, 1));
	flat_close(fd);
	take("what is closed", fd, NULL, NULL, 0);
	flat_close(client);
}

Test(host_listener, no_listener_accepts_nothing)
{
	on_each(wrong);
}
