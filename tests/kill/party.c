#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "kill.h"

#define SERVED_MAX 256
#define MESSAGE_MAX 30000U
/* Nothing may take so long, whoever was killed, ms. */
#define HANG_MS 30000

/* --- server --- */

static int listen_at(uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
		return -1;
	/* The one before was killed a moment ago. */
	int64_t end_ms = test_now_ms() + HANG_MS;
	while (flat_bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		if (errno != EADDRINUSE || test_now_ms() > end_ms)
			return -1;
		test_pause_ms(5);
	}
	return flat_listen(fd, 128) == 0 ? fd : -1;
}

static bool echo(int fd)
{
	static char buf[65536];
	ssize_t n = flat_recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	for (ssize_t done = 0; n > 0 && done < n;) {
		ssize_t sent = flat_send(fd, buf + done, (size_t)(n - done), MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		done += sent;
	}
	return n > 0;
}

void run_server(uint16_t port)
{
	struct epoll_event ev[SERVED_MAX];
	int listener = listen_at(port);
	int poller = flat_epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event want = {.events = EPOLLIN, .data.fd = listener};
	if (listener < 0 || flat_epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want) != 0)
		_exit(3);
	for (;;) {
		int n = flat_epoll_wait(poller, ev, SERVED_MAX, -1);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			if (fd != listener) {
				if (!echo(fd))
					flat_close(fd);
				continue;
			}
			want.data.fd =
			    flat_accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			if (want.data.fd >= 0) {
				(void)flat_fcntl(want.data.fd, F_SETFL, 0);
				(void)flat_epoll_ctl(poller, EPOLL_CTL_ADD, want.data.fd, &want);
			}
		}
	}
}

/* --- client --- */

struct client {
	struct party *me;
	enum party_kind kind;
	uint32_t ip;
	uint64_t random;
	int fd;
};

static void wrong(struct client *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(c->me->why, sizeof(c->me->why), fmt, ap);
	va_end(ap);
	atomic_store(&c->me->wrong, 1);
	for (;;)
		pause();
}

/* What a connection may end with when its peer or the offload half is killed. */
static bool is_end(ssize_t n, int err)
{
	return n == 0 || err == ECONNRESET || err == EPIPE;
}

static void connect_again(struct client *c)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(SERVICE_PORT)};
	struct timeval limit = {.tv_sec = HANG_MS / 1000};
	addr.sin_addr.s_addr = htonl(c->ip);
	atomic_store(&c->me->connected, 0);
	for (;;) {
		int64_t begin_ms = test_now_ms();
		c->fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (c->fd < 0)
			wrong(c, "socket: %s", strerror(errno));
		(void)flat_setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		(void)flat_setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		if (flat_connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			break;
		if (errno != ECONNREFUSED && errno != ECONNRESET && errno != ETIMEDOUT)
			wrong(c, "connect: %s", strerror(errno));
		if (test_now_ms() - begin_ms > HANG_MS)
			wrong(c, "connect took %lld ms", (long long)(test_now_ms() - begin_ms));
		flat_close(c->fd);
		test_pause_ms(2);
	}
	atomic_fetch_add(&c->me->conns, 1);
	atomic_store(&c->me->conn_at_ms, test_now_ms());
	atomic_store(&c->me->by_kernel, flat_fd_kind(c->fd) != FLAT_FD_STREAM);
	atomic_store(&c->me->connected, 1);
}

/* False: the connection ended. Anything but an end stops the client for good. */
static bool send_all(struct client *c, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = flat_send(c->fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && !is_end(n, errno))
			wrong(c, "send: %s", strerror(errno));
		if (n < 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool take_all(struct client *c, uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = flat_recv(c->fd, bytes, len, 0);
		if (n <= 0 && !is_end(n, errno))
			wrong(c, "recv: %s", strerror(errno));
		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* The frame around a payload: nothing, or redis's. Returns its length. */
static size_t frame(const struct client *c, size_t len, bool answer, char text[64])
{
	if (c->kind == PARTY_ECHO)
		return 0;
	int n = answer ? snprintf(text, 64, "$%zu\r\n", len)
		       : snprintf(text, 64, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", len);
	return (size_t)n;
}

static bool round_trip(struct client *c)
{
	static uint8_t out[MESSAGE_MAX + 2];
	static uint8_t in[MESSAGE_MAX + 2];
	char head[64];
	char want[64];
	size_t len = 1 + (size_t)(test_random(&c->random) % MESSAGE_MAX);
	size_t tail = c->kind == PARTY_REDIS ? 2 : 0;
	for (size_t i = 0; i < len; i += 8) {
		uint64_t r = test_random(&c->random);
		memcpy(out + i, &r, flat_min_size(len - i, 8));
	}
	memcpy(out + len, "\r\n", tail);
	size_t n = frame(c, len, false, head);
	if (!send_all(c, (const uint8_t *)head, n) || !send_all(c, out, len + tail))
		return false;
	n = frame(c, len, true, want);
	if (!take_all(c, (uint8_t *)head, n) || !take_all(c, in, len + tail))
		return false;
	if (memcmp(head, want, n) != 0 || memcmp(in, out, len + tail) != 0)
		wrong(c, "other bytes came back");
	return true;
}

void run_client(uint32_t ip, enum party_kind kind, struct party *me, uint64_t seed)
{
	struct client c = {.me = me, .kind = kind, .ip = ip, .random = seed | 1, .fd = -1};
	connect_again(&c);
	for (;;) {
		if (atomic_exchange(&me->reconnect, 0)) {
			flat_close(c.fd);
			connect_again(&c);
		}
		if (round_trip(&c)) {
			atomic_fetch_add(&me->rounds, 1);
			continue;
		}
		atomic_store(&me->end_at_ms, test_now_ms());
		atomic_fetch_add(&me->ends, 1);
		flat_close(c.fd);
		connect_again(&c);
	}
}
