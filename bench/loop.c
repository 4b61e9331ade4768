/* SPDX-License-Identifier: Apache-2.0 */
/* The server's event loop (-F epoll). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define LOOP_EVENTS 64

/* Level-triggered, one receive an event: every ready connection gets its turn. */
static void loop_serve(struct perf_peer *p, int epfd, uint8_t *buf)
{
	const struct perf_net *net = p->server->net;
	ssize_t n = net->recv(p->conn.fd, buf, perf_recv_bytes(p->server), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	int rc = n < 0 ? -errno : 0;
	if (n > 0) {
		rc = perf_peer_feed(p, buf, (size_t)n);
		if (rc == 0)
			return;
	}
	net->epoll_ctl(epfd, EPOLL_CTL_DEL, p->conn.fd, NULL);
	perf_peer_close(p, rc);
}

static void loop_accept(struct perf_server *server, int epfd)
{
	int fd = server->net->accept(server->listener, NULL, NULL);
	if (fd < 0) {
		if (!perf_accept_passing(errno))
			fprintf(stderr, "flatperf: accept: %s\n", strerror(errno));
		return;
	}
	struct perf_peer *p = perf_peer_open(server, fd);
	if (!p)
		return;
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
	if (server->net->epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0)
		perf_peer_close(p, -errno);
}

void *perf_loop_thread(void *arg)
{
	struct perf_server *server = arg;
	struct epoll_event events[LOOP_EVENTS];
	uint8_t *buf = malloc(perf_recv_bytes(server));
	int epfd = server->net->epoll_create(EPOLL_CLOEXEC);
	/* A NULL pointer stands for the listener. */
	struct epoll_event listener = {.events = EPOLLIN, .data.ptr = NULL};
	if (!buf || epfd < 0 ||
	    server->net->epoll_ctl(epfd, EPOLL_CTL_ADD, server->listener, &listener) < 0) {
		fprintf(stderr, "flatperf: event loop: %s\n", buf ? strerror(errno) : "no memory");
		goto out;
	}
	for (;;) {
		int n = server->net->epoll_wait(epfd, events, LOOP_EVENTS, -1);
		if (n < 0 && errno != EINTR) {
			fprintf(stderr, "flatperf: epoll_wait: %s\n", strerror(errno));
			break;
		}
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				loop_serve(events[i].data.ptr, epfd, buf);
			else
				loop_accept(server, epfd);
		}
	}
out:
	if (epfd >= 0)
		server->net->close(epfd);
	free(buf);
	return NULL;
}
