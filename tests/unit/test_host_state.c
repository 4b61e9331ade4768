/* The life of flat sockets of one process, by each path, beside the kernel's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>

#include "host/host.h"
#include "support_whole.h"

static int state(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	cr_assert_eq(flat_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_state;
}

static int error_of(int fd)
{
	int err = -1;
	socklen_t len = sizeof(err);
	cr_assert_eq(flat_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	return err;
}

static void half_close(const char *path, int client, int server)
{
	char c;
	cr_expect_eq(state(client), TCP_ESTABLISHED, "%s", path);
	whole_send(client, "x", 1);
	cr_expect_eq(flat_shutdown(client, SHUT_WR), 0, "%s", path);
	cr_expect_eq(flat_send(client, "y", 1, MSG_NOSIGNAL), -1, "%s", path);
	cr_expect_eq(errno, EPIPE, "%s: %m", path);
	whole_recv(server, &c, 1);
	cr_expect(whole_poll(server, POLLRDHUP) & POLLRDHUP, "%s", path);
	cr_expect_eq(flat_recv(server, &c, 1, 0), 0, "%s", path);
	cr_expect_eq(state(server), TCP_CLOSE_WAIT, "%s: %d", path, state(server));
	/* The other way goes on. */
	whole_send(server, "z", 1);
	whole_recv(client, &c, 1);
	cr_expect_eq(c, 'z', "%s", path);
	cr_expect_eq(flat_shutdown(server, SHUT_WR), 0, "%s", path);
	cr_expect_eq(flat_recv(client, &c, 1, 0), 0, "%s", path);
	(void)whole_poll(client, POLLHUP);
	cr_expect_eq(flat_shutdown(client, 77), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
}

Test(host_state, one_way_ends_and_the_other_goes_on)
{
	whole_on_each(half_close);
}

static void reset(const char *path, int client, int server)
{
	struct linger hard = {.l_onoff = 1};
	char c;
	int fd = flat_dup(client);
	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(flat_setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0, "%s",
		     path);
	cr_assert_eq(flat_close(client), 0, "%s", path);
	/* Open by another number. */
	whole_send(fd, "a", 1);
	whole_recv(server, &c, 1);
	cr_assert_eq(flat_close(fd), 0, "%s", path);
	short got = whole_poll(server, POLLIN);
	cr_expect((got & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP), "%s: %#x", path,
		  (unsigned)got);
	cr_expect_eq(error_of(server), ECONNRESET, "%s", path);
	cr_expect_eq(error_of(server), 0, "%s: told once", path);
	cr_expect_eq(flat_recv(server, &c, 1, 0), 0, "%s", path);
	cr_expect_eq(flat_send(server, &c, 1, MSG_NOSIGNAL), -1, "%s", path);
	cr_expect_eq(errno, EPIPE, "%s: %m", path);
	cr_expect_eq(state(server), TCP_CLOSE, "%s", path);
}

Test(host_state, linger_of_zero_resets)
{
	whole_on_each(reset);
}

/* What a number is afterwards: the same on all paths. */
static const struct {
	int level;
	int name;
	int value;
} options[] = {
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {SOL_SOCKET, SO_REUSEADDR, 1},
    {SOL_SOCKET, SO_OOBINLINE, 1},
    {SOL_SOCKET, SO_RCVLOWAT, 5},
    {SOL_SOCKET, SO_PRIORITY, 3},
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {IPPROTO_TCP, TCP_CORK, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 11},
    {IPPROTO_TCP, TCP_KEEPINTVL, 12},
    {IPPROTO_TCP, TCP_KEEPCNT, 13},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 4000},
    {IPPROTO_TCP, TCP_QUICKACK, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, -1},
    {IPPROTO_TCP, TCP_KEEPCNT, 1000},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 99},
    {IPPROTO_TCP, 9999, 1},
    {SOL_SOCKET, 9999, 1},
    {77, 1, 1},
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

/* Its errno, or what it is then. */
static int try_option(int fd, size_t i)
{
	int value = options[i].value;
	socklen_t len = sizeof(value);
	if (flat_setsockopt(fd, options[i].level, options[i].name, &value, len) != 0)
		return -errno;
	value = -1;
	return flat_getsockopt(fd, options[i].level, options[i].name, &value, &len) == 0 ? value
											 : -errno;
}

static void all_options(const char *path, int client, int server)
{
	static int wanted[OPTIONS];
	bool oracle = strcmp(path, "kernel") == 0;
	(void)server;
	for (size_t i = 0; i < OPTIONS; i++) {
		int got = try_option(client, i);
		if (oracle)
			wanted[i] = got;
		cr_expect_eq(got, wanted[i], "%s: option %d/%d is %d, not %d", path,
			     options[i].level, options[i].name, got, wanted[i]);
	}
	struct timeval tv = {.tv_usec = 30000};
	char c;
	cr_expect_eq(flat_setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0, "%s",
		     path);
	cr_expect_eq(flat_recv(client, &c, 1, 0), -1, "%s", path);
	cr_expect_eq(errno, EAGAIN, "%s: %m", path);
}

Test(host_state, options_are_the_kernels)
{
	whole_on_each(all_options);
}

static void names(const char *path, int client, int server)
{
	struct sockaddr_in mine = {0};
	struct sockaddr_in peer = {0};
	socklen_t len = sizeof(mine);
	cr_expect_eq(flat_getsockname(client, (struct sockaddr *)&mine, &len), 0, "%s", path);
	cr_expect_eq(len, sizeof(mine), "%s", path);
	cr_expect_eq(flat_getpeername(server, (struct sockaddr *)&peer, &len), 0, "%s", path);
	cr_expect(mine.sin_family == AF_INET && mine.sin_port == peer.sin_port && mine.sin_port,
		  "%s", path);
	len = 4;
	cr_expect_eq(flat_getpeername(client, (struct sockaddr *)&peer, &len), 0, "%s", path);
	cr_expect_eq(len, sizeof(peer), "%s: the length that it has", path);
	cr_expect_eq(flat_connect(client, (struct sockaddr *)&mine, sizeof(mine)), -1, "%s", path);
	cr_expect_eq(errno, EISCONN, "%s: %m", path);
	cr_expect_eq(flat_listen(client, 1), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
}

Test(host_state, names_of_both_ends)
{
	whole_on_each(names);
}

Test(host_state, nobody_listens)
{
	whole_begin(NULL, NULL);
	for (uint8_t last = 1; last <= 3; last++) {
		struct sockaddr_in to = whole_addr(240, 9, 0, last, 7);
		int fd = flat_socket(AF_INET, SOCK_STREAM, 0);
		if (last == 3)
			to = whole_addr(127, 0, 0, 1, whole_free_port());
		cr_expect_eq(flat_connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
		cr_expect_eq(errno, ECONNREFUSED, "%d: %m", last);
		cr_expect_eq(error_of(fd), 0, "connect() told it");
		cr_expect_eq(flat_send(fd, "x", 1, MSG_NOSIGNAL), -1);
		cr_expect_eq(errno, EPIPE, "%d: %m", last);
		flat_close(fd);
	}
	whole_end();
}

/* More clients than the queue holds: those who do not wait are told when they are in. */
Test(host_state, connections_that_are_begun_end_one_way_or_the_other)
{
	enum { CLIENTS = 24 };
	int fd[CLIENTS];
	whole_begin(NULL, NULL);
	int listener = whole_listen(whole_port());
	cr_assert_eq(flat_listen(listener, 2), 0);
	struct sockaddr_in to = whole_addr(240, 9, 0, 1, 7);
	for (int i = 0; i < CLIENTS; i++) {
		fd[i] = flat_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (flat_connect(fd[i], (struct sockaddr *)&to, sizeof(to)) != 0)
			cr_expect_eq(errno, EINPROGRESS, "%d: %m", i);
	}
	for (int i = 0; i < CLIENTS; i++) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		(void)whole_poll(listener, POLLIN);
		int in = flat_accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
		cr_assert_geq(in, 0, "%d: %m", i);
		whole_send(in, "w", 1);
		flat_close(in);
	}
	for (int i = 0; i < CLIENTS; i++) {
		char c = 0;
		cr_expect(whole_poll(fd[i], POLLOUT | POLLIN) & (POLLOUT | POLLIN), "%d", i);
		cr_expect_eq(error_of(fd[i]), 0, "%d", i);
		(void)whole_poll(fd[i], POLLIN);
		cr_expect_eq(flat_recv(fd[i], &c, 1, 0), 1, "%d: %m", i);
		cr_expect_eq(c, 'w');
		flat_close(fd[i]);
	}
	flat_close(listener);
	whole_end();
}

/* A reset that came before connect() looked is for the next call to tell. */
static void reset_at_once(const char *path, int client, int server)
{
	struct flat_sock *s = flat_fd_sock(client);
	(void)server;
	if (!s)
		return;
	atomic_store(&s->error, ECONNRESET);
	cr_expect_eq(flat_stream_await(s, client), 0, "%s", path);
	cr_expect_eq(error_of(client), ECONNRESET, "%s", path);
}

Test(host_state, connect_is_over_before_a_reset_that_comes_at_once)
{
	whole_on_each(reset_at_once);
}
