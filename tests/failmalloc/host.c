/*
 * The host half: attach, connect, send, receive, wait, listen, accept and close, with every allocation and resource-making
 * system call of the application's thread failing in turn. Each is reported as an error (or was not needed), what is tried again
 * works, and nothing more is held than without a failure.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flat/socket.h>

#include "flatd.h"
#include "inject.h"

/* What a call may take, and trying again, ms. */
#define CALL_MS 15000
#define BYTES 5000

struct scene {
	struct test_flatd flatd;
	uint16_t port;
	uint32_t ip;
	int fds; /* held after all was closed, without a failure; -1: not known yet */
	int maps;
	int *shared;		/* what the first process found: fds and maps */
	_Atomic int *listening; /* shared; 1: its server does */
};

static int listen_at(uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    flat_bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || flat_listen(fd, 8) != 0) {
		int err = -errno;
		flat_close(fd);
		return err;
	}
	return fd;
}

/* Echoes one connection after the other, in a process without failures. */
static void serve(const struct scene *s)
{
	static char buf[65536];
	int listener = listen_at(s->port);
	if (listener < 0)
		_exit(3);
	atomic_store(s->listening, 1);
	for (;;) {
		int fd = flat_accept(listener, NULL, NULL);
		ssize_t n;
		while (fd >= 0 && (n = flat_recv(fd, buf, sizeof(buf), 0)) > 0) {
			if (flat_send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
				break;
		}
		if (fd >= 0)
			flat_close(fd);
	}
}

static int talk(int fd)
{
	static char out[BYTES];
	static char in[BYTES];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t got = 0;
	memset(out, 'x', sizeof(out));
	if (flat_send(fd, out, sizeof(out), MSG_NOSIGNAL) != BYTES)
		return -errno;
	while (got < BYTES) {
		if (flat_poll(&p, 1, CALL_MS) != 1)
			return errno ? -errno : -ETIMEDOUT;
		ssize_t n = flat_recv(fd, in + got, BYTES - got, 0);
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		got += (size_t)n;
	}
	return memcmp(in, out, BYTES) == 0 ? 0 : -EBADMSG;
}

static int wait_epoll(int fd)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data.fd = fd};
	int ep = flat_epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		return -errno;
	int err = flat_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) != 0 ? -errno : 0;
	if (err == 0 && flat_epoll_wait(ep, &ev, 1, CALL_MS) != 1)
		err = -ETIMEDOUT;
	flat_close(ep);
	return err;
}

/* 0, or the first error. */
static int connect_and_talk(const struct scene *s)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(7)};
	struct timeval limit = {.tv_sec = 2};
	addr.sin_addr.s_addr = htonl(s->ip);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Where no offload half is found the kernel connects, to an address of this host that nobody serves. */
	(void)flat_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	int err = flat_connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ? -errno : 0;
	if (err == 0)
		err = talk(fd);
	if (err == 0)
		err = wait_epoll(fd);
	flat_close(fd);
	return err;
}

static int listen_and_close(const struct scene *s)
{
	(void)s;
	int fd = listen_at(0);
	if (fd < 0)
		return fd;
	flat_close(fd);
	return 0;
}

static int everything(const struct scene *s)
{
	int err = connect_and_talk(s);
	return err == 0 ? listen_and_close(s) : err;
}

static bool works(void *arg)
{
	return everything(arg) == 0;
}

static int host_body(void *arg, char why[200])
{
	struct scene *s = arg;
	int err = everything(s);
	bool hit = inject_disarm();
	inject_note(hit);
	if (err > 0 || (err != 0 && !hit)) {
		snprintf(why, 200, "without a failure: %s", strerror(err < 0 ? -err : err));
		return 1;
	}
	/* An offload half that could not be reached is looked for again from time to time. */
	if (!test_until(works, s, CALL_MS)) {
		snprintf(why, 200, "afterwards it does not work (first: %s)", strerror(-err));
		return 1;
	}
	if (everything(s) != 0) {
		snprintf(why, 200, "afterwards it works once only");
		return 1;
	}
	int fds = inject_fds();
	int maps = inject_maps();
	if (s->shared[0] == 0) {
		s->shared[0] = fds;
		s->shared[1] = maps;
	}
	if (fds > s->shared[0] || maps > s->shared[1])
		snprintf(why, 200, "%d descriptors and %d maps, %d and %d without a failure", fds,
			 maps, s->shared[0], s->shared[1]);
	return why[0] != 0;
}

static int add_service(char *yaml, size_t size, const char *path, int last, uint16_t port)
{
	return snprintf(yaml, size,
			"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
			"metadata: {name: %s, annotations: {mesh.libflat.io/path: %s}}\n"
			"spec: {hosts: [%s.example], addresses: [127.9.0.%d], location: "
			"MESH_INTERNAL, resolution: STATIC, ports: [{number: 7, name: tcp}], "
			"endpoints: [{address: 127.0.0.1, ports: {tcp: %u}}]}\n",
			path, path, path, last, port);
}

/* The call has returned: a process that is forked then finds relatives with sockets, each one as the next (lib/host/holders.h). */
static bool listens(void *arg)
{
	const struct scene *s = arg;
	return atomic_load(s->listening) != 0;
}

int main(void)
{
	static struct scene s;
	char yaml[2048];
	s.port = test_free_port();
	s.shared = test_shared(4096);
	s.listening = test_shared(4096);
	int n = add_service(yaml, sizeof(yaml), "direct", 1, s.port);
	(void)add_service(yaml + n, sizeof(yaml) - (size_t)n, "forwarded", 2, s.port);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	test_flatd_init(&s.flatd, yaml);
	if (setenv("FLAT_CONTROL", s.flatd.control, 1) != 0)
		test_die("setenv");
	test_flatd_start(&s.flatd);
	pid_t server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(&s);
	}
	if (server < 0 || !test_until(listens, &s, CALL_MS))
		test_die("no server");
	s.ip = 0x7f090001U;
	inject_each("failmalloc/host-direct", host_body, &s, 15);
	s.shared[0] = 0;
	s.ip = 0x7f090002U;
	inject_each("failmalloc/host-forwarded", host_body, &s, 15);
	kill(server, SIGKILL);
	(void)waitpid(server, NULL, 0);
	test_flatd_fini(&s.flatd, test_failures() > 0);
	return test_failures() > 0;
}
