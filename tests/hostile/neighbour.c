#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/socket.h>

#include "hostile.h"

#define SERVED_MAX 1024
#define MESSAGE_MAX 20000U

static int listen_at(uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    flat_bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || flat_listen(fd, 128) != 0)
		_exit(3);
	return fd;
}

/* Echoes what is there. False: the connection is over; one whose peer takes nothing is dropped. */
static bool echo(int fd)
{
	static char buf[65536];
	ssize_t n = flat_recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	for (ssize_t done = 0; n > 0 && done < n;) {
		ssize_t sent =
		    flat_send(fd, buf + done, (size_t)(n - done), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		done += sent;
	}
	return n > 0;
}

void serve_honestly(uint16_t port)
{
	static struct pollfd fds[SERVED_MAX];
	nfds_t n = 1;
	fds[0] = (struct pollfd){.fd = listen_at(port), .events = POLLIN};
	for (;;) {
		if (flat_poll(fds, n, -1) < 0 && errno != EINTR)
			_exit(4);
		if ((fds[0].revents & POLLIN) && n < SERVED_MAX) {
			int fd = flat_accept4(fds[0].fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
		for (nfds_t i = n; i-- > 1;) {
			if (!fds[i].revents || echo(fds[i].fd))
				continue;
			flat_close(fds[i].fd);
			fds[i] = fds[--n];
			fds[i].revents = 0;
		}
	}
}

static int connect_to(uint32_t ip)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(SERVICE_PORT)};
	struct timeval limit = {.tv_sec = OUSTED_MS / 1000};
	addr.sin_addr.s_addr = htonl(ip);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || flat_connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
		return -1;
	(void)flat_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)flat_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static const char *round_trip(int fd, const uint8_t *out, uint8_t *in, size_t len)
{
	size_t sent = 0;
	size_t got = 0;
	while (got < len) {
		ssize_t n = sent < len ? flat_send(fd, out + sent, flat_min_size(len - sent, 8192),
						   MSG_NOSIGNAL)
				       : 0;
		if (n < 0)
			return strerror(errno);
		sent += (size_t)n;
		n = flat_recv(fd, in + got, len - got, sent < len ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN && sent < len)
			continue;
		if (n <= 0)
			return n == 0 ? "the stream ended" : strerror(errno);
		got += (size_t)n;
	}
	return memcmp(in, out, len) == 0 ? NULL : "other bytes came back";
}

void go_round(uint32_t ip, struct neighbour *me, uint64_t seed)
{
	static uint8_t out[MESSAGE_MAX];
	static uint8_t in[MESSAGE_MAX];
	uint64_t random = seed | 1;
	int fd = connect_to(ip);
	const char *why = fd < 0 ? strerror(errno) : NULL;
	while (!why) {
		size_t len = 1 + (size_t)(test_random(&random) % MESSAGE_MAX);
		for (size_t i = 0; i < len; i += 8) {
			uint64_t r = test_random(&random);
			memcpy(out + i, &r, flat_min_size(len - i, 8));
		}
		int64_t begin_ms = test_now_ms();
		why = round_trip(fd, out, in, len);
		int64_t took_ms = test_now_ms() - begin_ms;
		if (took_ms > atomic_load(&me->worst_ms))
			atomic_store(&me->worst_ms, took_ms);
		if (!why)
			atomic_fetch_add(&me->rounds, 1);
		/* A neighbour, not a load: the machine is the attacker's too. */
		test_pause_ms(1);
	}
	snprintf(me->why, sizeof(me->why), "%s", why);
	atomic_fetch_add(&me->errors, 1);
	_exit(1);
}
