/*
 * The ring over verbs by itself, as ib_write_lat and ib_write_bw measure the device: no TLS, no flatd.
 *
 *   vm-ring serve DEVICE ADDRESS PORT                         one client
 *   vm-ring lat DEVICE ADDRESS SERVER PORT COUNT BYTES        half a round trip, microseconds: median and mean
 *   vm-ring bw DEVICE ADDRESS SERVER PORT COUNT BYTES         MB/s, until the last byte is credited
 *   vm-ring lie DEVICE ADDRESS SERVER PORT IMMEDIATE 0        what no honest peer says
 *   vm-ring limits DEVICE ADDRESS                             connections until memory is refused, and why
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire/verbs.h"

/* Looks without result after which the completion channel is waited for. */
#define LOOKS 2000

static struct flat_verbs_device *device;
static struct flat_verbs *verbs;
static struct flat_vring *ring;
static int tcp = -1;

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static struct flat_addr address(const char *ip, const char *port)
{
	struct flat_addr a = {.family = AF_INET, .port = (uint16_t)strtoul(port, NULL, 10)};
	if (inet_pton(AF_INET, ip, a.ip) != 1)
		fail(ip, "no IPv4 address");
	return a;
}

/* Both sides exchange their ends, and connect. */
static void meet(const struct flat_addr *local, const struct flat_addr *remote)
{
	uint8_t mine[FLAT_FRAME_VERBS_END];
	uint8_t theirs[FLAT_FRAME_VERBS_END];
	char byte = 0;
	char why[200];
	if (flat_verbs_open(device, local, &verbs, why, sizeof(why)) != 0)
		fail("open", why);
	flat_verbs_tell(verbs, mine);
	if (write(tcp, mine, sizeof(mine)) != (ssize_t)sizeof(mine) ||
	    recv(tcp, theirs, sizeof(theirs), MSG_WAITALL) != (ssize_t)sizeof(theirs))
		fail("exchange", strerror(errno));
	if (flat_verbs_connect(verbs, theirs, remote, why, sizeof(why)) != 0)
		fail("connect", why);
	if (write(tcp, &byte, 1) != 1 || recv(tcp, &byte, 1, MSG_WAITALL) != 1)
		fail("meet", strerror(errno));
	ring = flat_verbs_ring(verbs);
	printf("met\n");
	fflush(stdout);
}

static void meet_as_server(const char *ip, const char *port)
{
	struct flat_addr local = address(ip, port);
	struct flat_addr remote;
	struct sockaddr_storage ss;
	socklen_t len = flat_addr_to_sockaddr(&local, &ss);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, 1) != 0)
		fail("listen", strerror(errno));
	len = sizeof(ss);
	tcp = accept(fd, (struct sockaddr *)&ss, &len);
	if (tcp < 0 || flat_addr_from_sockaddr(&remote, (struct sockaddr *)&ss, len) != 0)
		fail("accept", strerror(errno));
	meet(&local, &remote);
}

static void meet_as_client(const char *ip, const char *server, const char *port)
{
	struct flat_addr local = address(ip, "0");
	struct flat_addr remote = address(server, port);
	struct sockaddr_storage ss;
	socklen_t len = flat_addr_to_sockaddr(&remote, &ss);
	tcp = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(tcp, (struct sockaddr *)&ss, len) != 0)
		fail("connect", strerror(errno));
	meet(&local, &remote);
}

/* Until something has come: looks, then sleeps. 0: the other side is gone. */
static int turn(void)
{
	for (int looks = 0;; looks++) {
		int n = flat_verbs_poll(verbs);
		if (n < 0)
			fail("poll", flat_verbs_why(verbs));
		if (flat_vring_push(ring) != 0)
			fail("push", flat_verbs_why(verbs));
		if (n > 0)
			return 1;
		if (looks < LOOKS)
			continue;
		if (looks == LOOKS) {
			if (flat_verbs_arm(verbs) != 0)
				fail("arm", flat_verbs_why(verbs));
			continue;
		}
		struct pollfd p[2] = {{.fd = flat_verbs_fd(verbs), .events = POLLIN},
				      {.fd = tcp, .events = POLLIN}};
		(void)poll(p, 2, -1);
		if (p[1].revents)
			return 0;
		looks = 0;
	}
}

static size_t take(size_t max)
{
	const uint8_t *bytes;
	size_t n = flat_vring_peek(ring, &bytes);
	n = n < max ? n : max;
	flat_vring_take(ring, n);
	return n;
}

/* First byte: 1 is answered message by message. Its message's size is in the next four. */
static void serve(void)
{
	uint8_t *head = calloc(1, 1 << 20);
	size_t have = 0;
	size_t size = 0;
	const uint8_t *bytes;
	do {
		while (have < 5 && flat_vring_peek(ring, &bytes) > 0) {
			head[have++] = bytes[0];
			flat_vring_take(ring, 1);
		}
		if (have < 5)
			continue;
		memcpy(&size, head + 1, 4);
		for (size_t n; (n = take(head[0] == 1 ? size - (have - 5) : SIZE_MAX)) > 0;) {
			have += n;
			if (head[0] != 1 || have - 5 < size)
				continue;
			have = 5;
			(void)flat_vring_put(ring, head, size);
		}
		if (flat_vring_push(ring) != 0)
			fail("push", flat_verbs_why(verbs));
	} while (turn());
	free(head);
}

static void say_mode(uint8_t mode, size_t size)
{
	uint8_t head[5] = {mode};
	memcpy(head + 1, &size, 4);
	(void)flat_vring_put(ring, head, sizeof(head));
}

static int compare(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void lat(size_t count, size_t size)
{
	uint8_t *buf = calloc(1, size);
	double *us = calloc(count, sizeof(*us));
	double sum = 0;
	say_mode(1, size);
	for (size_t i = 0; i < count; i++) {
		uint64_t start = now_ns();
		(void)flat_vring_put(ring, buf, size);
		if (flat_vring_push(ring) != 0)
			fail("push", flat_verbs_why(verbs));
		for (size_t got = 0; got < size; got += take(size - got)) {
			if (!turn())
				fail("lat", "the server is gone");
		}
		us[i] = (double)(now_ns() - start) / 2000;
		sum += us[i];
	}
	qsort(us, count, sizeof(*us), compare);
	printf("lat %zu bytes median %.2f us mean %.2f us\n", size, us[count / 2],
	       sum / (double)count);
	free(us);
	free(buf);
}

static void bw(size_t count, size_t size)
{
	uint8_t *buf = calloc(1, size);
	uint64_t start = now_ns();
	say_mode(2, size);
	for (size_t i = 0; i < count; i++) {
		for (size_t done = 0; done < size;) {
			size_t n = flat_vring_put(ring, buf + done, size - done);
			done += n;
			if (flat_vring_push(ring) != 0)
				fail("push", flat_verbs_why(verbs));
			if (n == 0 && !turn())
				fail("bw", "the server is gone");
		}
	}
	/* Less than a quarter of the ring stays without credit. */
	while (ring->put - ring->credited >= ring->size / 4 && turn())
		;
	printf("bw %zu bytes %.2f MB/s\n", size,
	       (double)count * (double)size * 1000 / (double)(now_ns() - start));
	free(buf);
}

static void lie(size_t imm)
{
	if (ring->ops->write(ring->ctx, 0, 0, (uint32_t)imm) != 0)
		fail("lie", flat_verbs_why(verbs));
	/* Until the server has had enough. */
	(void)turn();
}

static void limits(const char *ip)
{
	struct flat_addr local = address(ip, "0");
	struct flat_verbs *v[1000];
	char why[200];
	size_t n = 0;
	while (n < 1000 && flat_verbs_open(device, &local, &v[n], why, sizeof(why)) == 0)
		n++;
	printf("%zu connections, %llu bytes, then: %s\n", n,
	       (unsigned long long)flat_verbs_device_bytes(device), why);
	for (size_t i = 0; i < n; i++)
		flat_verbs_close(v[i]);
	printf("%llu bytes after they are closed\n",
	       (unsigned long long)flat_verbs_device_bytes(device));
}

int main(int argc, char **argv)
{
	char why[200];
	if (argc < 4)
		return 2;
	if (flat_verbs_device_open(argv[2], &device, why, sizeof(why)) != 0)
		fail("device", why);
	if (strcmp(argv[1], "limits") == 0) {
		limits(argv[3]);
	} else if (strcmp(argv[1], "serve") == 0 && argc == 5) {
		meet_as_server(argv[3], argv[4]);
		serve();
	} else if (argc == 8) {
		size_t count = strtoul(argv[6], NULL, 10);
		size_t size = strtoul(argv[7], NULL, 10);
		meet_as_client(argv[3], argv[4], argv[5]);
		if (strcmp(argv[1], "lie") == 0)
			lie(count);
		else if (strcmp(argv[1], "lat") == 0)
			lat(count, size);
		else
			bw(count, size);
	} else {
		return 2;
	}
	flat_verbs_close(verbs);
	flat_verbs_device_close(device);
	return 0;
}
