/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport a measurement runs over: one table of functions, an instance for the kernel's
 * sockets and one for libflat's. Everything else in flatperf is the same code for both.
 */
#ifndef PERF_NET_H
#define PERF_NET_H

#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "opts.h"

/* Members have the contract of the libc call of the same name (-1 and errno), from any thread. */
struct perf_net {
	const char *name;
	int (*socket)(int domain, int type, int protocol);
	int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*listen)(int fd, int backlog);
	int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
	ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
	ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
	int (*poll)(struct pollfd *fds, nfds_t count, int timeout_ms);
	int (*epoll_create)(int flags);
	int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
	int (*epoll_wait)(int epfd, struct epoll_event *events, int max, int timeout_ms);
	int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
	int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
	int (*getaddrinfo)(const char *node, const char *service, const struct addrinfo *hints,
			   struct addrinfo **res);
	void (*freeaddrinfo)(struct addrinfo *res);
	int (*shutdown)(int fd, int how);
	int (*close)(int fd);
	/* In place, as <flat/socket.h> says; NULL where the transport has no such calls. */
	int (*send_reserve)(int fd, size_t want, struct iovec iov[2], int flags);
	int (*send_commit)(int fd, size_t len);
	ssize_t (*recv_view)(int fd, struct iovec iov[2], int *n_iov, int flags);
	int (*recv_release)(int fd, size_t len);
};

extern const struct perf_net perf_net_kernel;
extern const struct perf_net perf_net_flat;

/** perf_net_find() - the transport called @name ("kernel" or "flat"); NULL when there is none. */
const struct perf_net *perf_net_find(const char *name);

/* One connection and how to wait on it. Owner: one thread reads, one thread may write. */
struct perf_conn {
	const struct perf_net *net;
	int fd;
	int epfd; /* only for PERF_WAIT_EPOLL, else -1 */
	enum perf_wait wait;
};

/**
 * perf_conn_open() - connect to the server @o names. Blocks.
 * Returns 0 or a negative errno; on failure nothing is left open.
 */
int perf_conn_open(struct perf_conn *c, const struct perf_net *net, const struct perf_opts *o);

/** perf_conn_adopt() - take over accepted @fd; on failure (negative errno) it is closed. */
int perf_conn_adopt(struct perf_conn *c, const struct perf_net *net, int fd,
		    const struct perf_opts *o);

/** perf_conn_close() - close both descriptors; twice does no harm. */
void perf_conn_close(struct perf_conn *c);

/** perf_conn_send() - send all @len bytes of @buf. Blocks. Returns 0 or a negative errno. */
int perf_conn_send(struct perf_conn *c, const void *buf, size_t len);

/**
 * perf_conn_recv() - receive at most @len bytes, waiting as c->wait says.
 * Returns the count, 0 at the end of the stream, or a negative errno.
 */
ssize_t perf_conn_recv(struct perf_conn *c, void *buf, size_t len);

/** perf_conn_recv_all() - receive exactly @len bytes; -ECONNRESET when the stream ends first. */
int perf_conn_recv_all(struct perf_conn *c, void *buf, size_t len);

/**
 * perf_listen() - a listening socket as @o says.
 * @port: set to the port it got. Returns the descriptor or a negative errno.
 */
int perf_listen(const struct perf_net *net, const struct perf_opts *o, uint16_t *port);

#endif
