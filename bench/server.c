/* SPDX-License-Identifier: Apache-2.0 */
/* The server: event loops that share the listener, or a thread for each connection. */
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "pin.h"

/* For the life of the process: threads may still serve while perf_server_run returns. */
static struct perf_server server;

static int serve_copying(struct perf_peer *p)
{
	size_t cap = perf_recv_bytes(p->server);
	uint8_t *buf = malloc(cap);
	if (!buf)
		return -ENOMEM;
	int rc = 0;
	while (rc == 0) {
		ssize_t n = perf_conn_recv(&p->conn, buf, cap);
		if (n == 0)
			break;
		rc = n < 0 ? (int)n : perf_peer_feed(p, buf, (size_t)n);
	}
	free(buf);
	return rc;
}

static int serve_in_place(struct perf_peer *p)
{
	const struct perf_net *net = p->server->net;
	for (;;) {
		struct iovec iov[2];
		int pieces = 0;
		ssize_t n = net->recv_view(p->conn.fd, iov, &pieces, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (int i = 0; i < pieces; i++) {
			int rc = perf_peer_feed(p, iov[i].iov_base, iov[i].iov_len);
			if (rc < 0)
				return rc;
		}
		if (net->recv_release(p->conn.fd, (size_t)n) < 0)
			return -errno;
	}
}

static void *peer_thread(void *arg)
{
	struct perf_peer *p = arg;
	perf_peer_close(p, p->server->o->zerocopy ? serve_in_place(p) : serve_copying(p));
	return NULL;
}

static void serve_in_thread(int fd, uint32_t index)
{
	struct perf_peer *p = perf_peer_open(&server, fd);
	if (!p)
		return;
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, peer_thread, p);
	if (rc) {
		fprintf(stderr, "flatperf: thread: %s\n", strerror(rc));
		perf_peer_close(p, -rc);
		return;
	}
	perf_pin(thread, server.o, index);
	pthread_detach(thread);
}

static void *accept_thread(void *arg)
{
	(void)arg;
	for (uint32_t index = 0;;) {
		int fd = server.net->accept(server.listener, NULL, NULL);
		if (fd >= 0)
			serve_in_thread(fd, index++);
		else if (!perf_accept_passing(errno))
			break;
	}
	fprintf(stderr, "flatperf: accept: %s\n", strerror(errno));
	return NULL;
}

/* A serving thread that returns has failed: let the main thread know. */
struct serving {
	void *(*body)(void *);
};

static void *serving_thread(void *arg)
{
	const struct serving *s = arg;
	s->body(&server);
	kill(getpid(), SIGTERM);
	return NULL;
}

static int start(const struct perf_opts *o)
{
	static struct serving loops = {perf_loop_thread};
	static struct serving accepts = {accept_thread};
	bool use_loops = o->wait == PERF_WAIT_EPOLL && !o->zerocopy;
	uint32_t count = use_loops ? o->threads : 1;
	for (uint32_t i = 0; i < count; i++) {
		pthread_t thread;
		int rc =
		    pthread_create(&thread, NULL, serving_thread, use_loops ? &loops : &accepts);
		if (rc)
			return -rc;
		if (use_loops)
			perf_pin(thread, o, i);
		pthread_detach(thread);
	}
	return 0;
}

static void print_summary(const struct perf_opts *o, uint16_t port)
{
	unsigned long long connections =
	    atomic_load_explicit(&server.connections, memory_order_relaxed);
	unsigned long long messages = atomic_load_explicit(&server.messages, memory_order_relaxed);
	unsigned long long bytes = atomic_load_explicit(&server.bytes, memory_order_relaxed);
	unsigned long long bad = atomic_load_explicit(&server.bad, memory_order_relaxed);
	if (o->json)
		printf("{\"mode\": \"server\", \"transport\": \"%s\", \"port\": %u, "
		       "\"connections\": %llu, "
		       "\"messages\": %llu, \"bytes\": %llu, \"bad_connections\": %llu}\n",
		       server.net->name, port, connections, messages, bytes, bad);
	else
		printf(
		    "flatperf: %llu connections, %llu messages, %llu bytes; %llu connections sent "
		    "wrong bytes\n",
		    connections, messages, bytes, bad);
}

int perf_server_run(const struct perf_net *net, const struct perf_opts *o)
{
	sigset_t stop;
	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);

	uint16_t port;
	server.net = net;
	server.o = o;
	server.listener = perf_listen(net, o, &port);
	if (server.listener < 0) {
		fprintf(stderr, "flatperf: listen on %s port %u: %s\n", o->host, o->port,
			strerror(-server.listener));
		return server.listener;
	}
	int rc = start(o);
	if (rc < 0) {
		fprintf(stderr, "flatperf: thread: %s\n", strerror(-rc));
		return rc;
	}
	fprintf(stderr, "flatperf: %s transport, listening on %s port %u\n", net->name, o->host,
		port);
	if (o->ready_fd >= 0 && (write(o->ready_fd, "\n", 1) != 1 || close(o->ready_fd) < 0))
		fprintf(stderr, "flatperf: --ready-fd %d: %s\n", o->ready_fd, strerror(errno));
	int sig;
	sigwait(&stop, &sig);
	print_summary(o, port);
	fflush(stdout);
	return atomic_load_explicit(&server.bad, memory_order_relaxed) ? -EILSEQ : 0;
}
