/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

const struct perf_net perf_net_kernel = {
    .name = "kernel",
    .socket = socket,
    .connect = connect,
    .bind = bind,
    .listen = listen,
    .accept = accept,
    .send = send,
    .recv = recv,
    .poll = poll,
    .epoll_create = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .epoll_wait = epoll_wait,
    .setsockopt = setsockopt,
    .getsockname = getsockname,
    .getaddrinfo = getaddrinfo,
    .freeaddrinfo = freeaddrinfo,
    .shutdown = shutdown,
    .close = close,
};

const struct perf_net *perf_net_find(const char *name)
{
	if (!strcmp(name, "kernel"))
		return &perf_net_kernel;
	return strcmp(name, "flat") ? NULL : &perf_net_flat;
}

static int resolve(const struct perf_net *net, const struct perf_opts *o, struct sockaddr_in *addr)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int rc = net->getaddrinfo(o->host, NULL, &hints, &list);
	if (rc) {
		fprintf(stderr, "flatperf: %s: %s\n", o->host, gai_strerror(rc));
		return -EADDRNOTAVAIL;
	}
	memcpy(addr, list->ai_addr, sizeof(*addr));
	net->freeaddrinfo(list);
	addr->sin_port = htons(o->port);
	return 0;
}

static int set_buffers(const struct perf_net *net, int fd, const struct perf_opts *o)
{
	if (!o->buffer_size)
		return 0;
	int size = (int)o->buffer_size;
	if (net->setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0 ||
	    net->setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		return -errno;
	return 0;
}

int perf_conn_adopt(struct perf_conn *c, const struct perf_net *net, int fd,
		    const struct perf_opts *o)
{
	*c = (struct perf_conn){.net = net, .fd = fd, .epfd = -1, .wait = o->wait};
	int err, on = o->nodelay;
	if (net->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
		err = -errno;
		goto out_close;
	}
	/* A server's event loop brings its own epoll. */
	if (o->wait != PERF_WAIT_EPOLL || o->mode == PERF_SERVER)
		return 0;
	c->epfd = net->epoll_create(EPOLL_CLOEXEC);
	if (c->epfd < 0) {
		err = -errno;
		goto out_close;
	}
	struct epoll_event event = {.events = EPOLLIN};
	if (net->epoll_ctl(c->epfd, EPOLL_CTL_ADD, fd, &event) < 0) {
		err = -errno;
		goto out_close;
	}
	return 0;
out_close:
	perf_conn_close(c);
	return err;
}

int perf_conn_open(struct perf_conn *c, const struct perf_net *net, const struct perf_opts *o)
{
	*c = (struct perf_conn){.net = net, .fd = -1, .epfd = -1};
	struct sockaddr_in addr;
	int rc = resolve(net, o, &addr);
	if (rc < 0)
		return rc;
	int fd = net->socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = set_buffers(net, fd, o);
	if (rc < 0) {
		net->close(fd);
		return rc;
	}
	if (net->connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rc = -errno;
		net->close(fd);
		return rc;
	}
	return perf_conn_adopt(c, net, fd, o);
}

void perf_conn_close(struct perf_conn *c)
{
	if (c->epfd >= 0)
		c->net->close(c->epfd);
	if (c->fd >= 0)
		c->net->close(c->fd);
	c->epfd = -1;
	c->fd = -1;
}

int perf_conn_send(struct perf_conn *c, const void *buf, size_t len)
{
	const char *at = buf;
	while (len) {
		ssize_t n = c->net->send(c->fd, at, len, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int wait_input(struct perf_conn *c)
{
	int n;
	do {
		if (c->wait == PERF_WAIT_POLL) {
			struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
			n = c->net->poll(&pfd, 1, -1);
		} else {
			struct epoll_event event;
			n = c->net->epoll_wait(c->epfd, &event, 1, -1);
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

ssize_t perf_conn_recv(struct perf_conn *c, void *buf, size_t len)
{
	int flags = c->wait == PERF_WAIT_SPIN ? MSG_DONTWAIT : 0;
	for (;;) {
		if (c->wait == PERF_WAIT_POLL || c->wait == PERF_WAIT_EPOLL) {
			int rc = wait_input(c);
			if (rc < 0)
				return rc;
		}
		ssize_t n = c->net->recv(c->fd, buf, len, flags);
		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		perf_relax();
	}
}

int perf_conn_recv_all(struct perf_conn *c, void *buf, size_t len)
{
	char *at = buf;
	while (len) {
		ssize_t n = perf_conn_recv(c, at, len);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ECONNRESET;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int perf_listen(const struct perf_net *net, const struct perf_opts *o, uint16_t *port)
{
	struct sockaddr_in addr;
	int rc = resolve(net, o, &addr);
	if (rc < 0)
		return rc;
	/* Loops share the listener: who comes too late for a connection must not wait for the next. */
	int nonblock = o->wait == PERF_WAIT_EPOLL && !o->zerocopy ? SOCK_NONBLOCK : 0;
	int fd = net->socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | nonblock, 0);
	if (fd < 0)
		return -errno;
	int on = 1;
	socklen_t len = sizeof(addr);
	rc = set_buffers(net, fd, o);
	if (rc < 0)
		goto out_close;
	if (net->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    net->bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    net->listen(fd, 4096) < 0 || net->getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
		rc = -errno;
		goto out_close;
	}
	*port = ntohs(addr.sin_port);
	return fd;
out_close:
	net->close(fd);
	return rc;
}
