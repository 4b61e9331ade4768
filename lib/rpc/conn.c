/* Connections: sockets and the codec's sides of them; channels, which make them. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include <flat/socket.h>

#include "rpc/rpc.h"

/* Sent at once, at least, where there is so much; and pieces read in one turn. */
#define BATCH ((size_t)64 * 1024)
#define READS 8

static void on_wake(void *user)
{
	flat_rpc_wake(user);
}

/* --- life --- */

static int watch(struct flat_rpc_conn *conn, int op)
{
	bool room = conn->connecting || flat_rpc_bytes_left(&conn->out) > 0;
	struct epoll_event event = {.events = EPOLLIN | (room ? EPOLLOUT : 0U), .data.ptr = conn};

	if (op == EPOLL_CTL_MOD && event.events == conn->events)
		return 0;
	conn->events = event.events;
	return flat_epoll_ctl(conn->rpc->epfd, op, conn->source.fd, &event) < 0 ? -errno : 0;
}

struct flat_rpc_conn *flat_rpc_conn_new(struct flat_rpc *rpc, int fd, enum flat_http2_side side)
{
	struct flat_rpc_conn *conn = calloc(1, sizeof(*conn));
	int on = 1;

	if (!conn || flat_http2_open(&conn->h2, side, on_wake) != 0) {
		free(conn);
		flat_close(fd);
		return NULL;
	}
	/* Refused by what is no TCP. */
	(void)flat_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	conn->source.fd = fd;
	conn->rpc = rpc;
	conn->connecting = side == FLAT_HTTP2_CLIENT;
	TAILQ_INIT(&conn->calls);
	if (watch(conn, EPOLL_CTL_ADD) != 0) {
		flat_http2_close(conn->h2);
		flat_close(fd);
		free(conn);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&rpc->conns, conn, link);
	flat_rpc_dirty(conn);
	return conn;
}

void flat_rpc_conn_end(struct flat_rpc_conn *conn, const char *why)
{
	struct flat_rpc *rpc = conn->rpc;
	struct flat_rpc_call *call;

	/* Whole answers are read all the same. */
	flat_http2_close(conn->h2);
	while ((call = TAILQ_FIRST(&conn->calls)) != NULL) {
		TAILQ_REMOVE(&conn->calls, call, link);
		call->conn = NULL;
		if (why && call->client)
			flat_rpc_call_cut(call, FLAT_RPC_UNAVAILABLE, why);
		flat_rpc_wake(call);
	}
	if (conn->channel)
		conn->channel->conn = NULL;
	if (conn->dirty)
		TAILQ_REMOVE(&rpc->dirty, conn, dirty_link);
	TAILQ_REMOVE(&rpc->conns, conn, link);
	(void)flat_epoll_ctl(rpc->epfd, EPOLL_CTL_DEL, conn->source.fd, NULL);
	flat_close(conn->source.fd);
	flat_rpc_bytes_free(&conn->out);
	free(conn);
}

/* --- moving --- */

/* False: it is over. */
static bool take_bytes(struct flat_rpc_conn *conn, const uint8_t *bytes, size_t len)
{
	if (flat_http2_feed(conn->h2, bytes, len, flat_now_us()) != 0)
		return false;
	while (flat_http2_waits(conn->h2)) {
		struct flat_rpc_call *call = flat_rpc_call_new(conn, conn->rpc, false);

		if (!call)
			return false;
		call->stream = flat_http2_accept(conn->h2, call);
		flat_rpc_wake(call);
	}
	flat_rpc_dirty(conn);
	return true;
}

static int connected(struct flat_rpc_conn *conn)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (flat_getsockopt(conn->source.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	conn->connecting = false;
	flat_rpc_dirty(conn);
	return err;
}

void flat_rpc_conn_move(struct flat_rpc_conn *conn, uint32_t events)
{
	if (conn->connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		int err = connected(conn);

		if (err != 0) {
			flat_rpc_conn_end(conn, strerror(err));
			return;
		}
	}
	if (events & EPOLLOUT)
		flat_rpc_dirty(conn);
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	for (int i = 0; i < READS; i++) {
		ssize_t n = flat_recv(conn->source.fd, conn->rpc->piece, sizeof(conn->rpc->piece),
				      MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || !take_bytes(conn, conn->rpc->piece, (size_t)n)) {
			flat_rpc_conn_end(conn, NULL);
			return;
		}
		if ((size_t)n < sizeof(conn->rpc->piece))
			return;
	}
}

/* False: the socket is gone. */
static bool send_out(struct flat_rpc_conn *conn)
{
	struct flat_rpc_bytes *b = &conn->out;

	while (flat_rpc_bytes_left(b) > 0) {
		ssize_t n = flat_send(conn->source.fd, b->v + b->at, flat_rpc_bytes_left(b),
				      MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		b->at += (size_t)n;
	}
	return true;
}

void flat_rpc_conn_flush(struct flat_rpc_conn *conn)
{
	const uint8_t *bytes;
	ssize_t n = 1;

	if (conn->dirty)
		TAILQ_REMOVE(&conn->rpc->dirty, conn, dirty_link);
	conn->dirty = false;
	if (conn->connecting)
		return;
	while (n > 0) {
		/* Until it is taken nothing more is asked of the codec. */
		if (!send_out(conn)) {
			flat_rpc_conn_end(conn, NULL);
			return;
		}
		if (flat_rpc_bytes_left(&conn->out) > 0)
			break;
		while (flat_rpc_bytes_left(&conn->out) < BATCH &&
		       (n = flat_http2_drain(conn->h2, &bytes)) > 0) {
			if (flat_rpc_bytes_add(&conn->out, bytes, (size_t)n, SIZE_MAX) != 0)
				n = -ENOMEM;
			if (n < 0)
				break;
		}
		if (n < 0) {
			flat_rpc_conn_end(conn, strerror(ENOMEM));
			return;
		}
		n = n > 0 || flat_rpc_bytes_left(&conn->out) > 0;
	}
	if (flat_rpc_bytes_left(&conn->out) == 0 &&
	    (flat_http2_over(conn->h2) || (conn->dying && flat_http2_streams(conn->h2) == 0))) {
		flat_rpc_conn_end(conn, NULL);
		return;
	}
	(void)watch(conn, EPOLL_CTL_MOD);
}

/* --- channels --- */

/* HOST:PORT, or [ADDRESS]:PORT, in two. */
static int split(const char *target, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(target, ':');
	size_t len = colon ? (size_t)(colon - target) : 0;

	if (len == 0 || !colon[1])
		return -EINVAL;
	if (target[0] == '[' && target[len - 1] == ']') {
		target++;
		len -= 2;
	}
	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(host, target, len);
	host[len] = 0;
	*port = colon + 1;
	return 0;
}

int flat_rpc_channel_open(struct flat_rpc *rpc, const char *target, struct flat_rpc_channel **out)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	struct flat_rpc_channel *channel;
	char host[FLAT_HTTP_HOST_MAX + 1];
	const char *port;

	if (strlen(target) > FLAT_HTTP_HOST_MAX || split(target, host, sizeof(host), &port) != 0)
		return -EINVAL;
	if (flat_getaddrinfo(host, port, &hints, &found) != 0)
		return -EHOSTUNREACH;
	channel = calloc(1, sizeof(*channel));
	if (channel) {
		channel->rpc = rpc;
		memcpy(&channel->addr, found->ai_addr, found->ai_addrlen);
		channel->addr_len = found->ai_addrlen;
		snprintf(channel->authority, sizeof(channel->authority), "%s", target);
		TAILQ_INSERT_TAIL(&rpc->channels, channel, link);
		*out = channel;
	}
	flat_freeaddrinfo(found);
	return channel ? 0 : -ENOMEM;
}

void flat_rpc_channel_close(struct flat_rpc_channel *channel)
{
	if (!channel)
		return;
	if (channel->conn)
		flat_rpc_conn_end(channel->conn, "the channel is closed");
	TAILQ_REMOVE(&channel->rpc->channels, channel, link);
	free(channel);
}

static struct flat_rpc_conn *dial(struct flat_rpc_channel *channel, int *err)
{
	int fd =
	    flat_socket(channel->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct flat_rpc_conn *conn;

	if (fd < 0) {
		*err = -errno;
		return NULL;
	}
	if (flat_connect(fd, (struct sockaddr *)&channel->addr, channel->addr_len) < 0 &&
	    errno != EINPROGRESS) {
		*err = -errno;
		flat_close(fd);
		return NULL;
	}
	conn = flat_rpc_conn_new(channel->rpc, fd, FLAT_HTTP2_CLIENT);
	if (!conn)
		*err = -ENOMEM;
	return conn;
}

struct flat_rpc_conn *flat_rpc_channel_conn(struct flat_rpc_channel *channel, int *err)
{
	struct flat_rpc_conn *conn = channel->conn;

	if (conn && flat_http2_usable(conn->h2))
		return conn;
	/* After a GOAWAY those that are on their way are served. */
	if (conn) {
		conn->channel = NULL;
		conn->dying = true;
		flat_rpc_dirty(conn);
	}
	channel->conn = dial(channel, err);
	if (channel->conn)
		channel->conn->channel = channel;
	return channel->conn;
}
