/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECV_BYTES_MIN (64U << 10)

size_t perf_recv_bytes(const struct perf_server *server)
{
	return server->o->msg_size > RECV_BYTES_MIN ? server->o->msg_size : RECV_BYTES_MIN;
}

bool perf_accept_passing(int err)
{
	/* accept(2): what a network error left behind on the new socket is to be tried again. */
	return err == EINTR || err == EAGAIN || err == ECONNABORTED || err == EPROTO;
}

struct perf_peer *perf_peer_open(struct perf_server *server, int fd)
{
	struct perf_peer *p = calloc(1, sizeof(*p));
	if (!p) {
		fprintf(stderr, "flatperf: out of memory\n");
		server->net->close(fd);
		return NULL;
	}
	p->server = server;
	int rc = perf_conn_adopt(&p->conn, server->net, fd, server->o);
	if (rc < 0) {
		fprintf(stderr, "flatperf: accepted connection: %s\n", strerror(-rc));
		free(p);
		return NULL;
	}
	perf_stream_init(&p->stream, server->o->msg_size);
	atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed);
	return p;
}

static const char *complaint(int why)
{
	switch (why) {
	case -EILSEQ:
		return "a message out of order or with wrong bytes";
	case -EMSGSIZE:
		return "a message longer than the server's --msg-size";
	case -EPROTO:
		return "not a flatperf message, or half of one";
	default:
		return NULL;
	}
}

void perf_peer_close(struct perf_peer *p, int why)
{
	struct perf_server *server = p->server;
	if (why == 0 && !perf_stream_whole(&p->stream))
		why = -EPROTO;
	const char *wrong = complaint(why);
	if (wrong) {
		fprintf(stderr, "flatperf: after %llu messages, %llu bytes: %s\n",
			(unsigned long long)p->stream.messages, (unsigned long long)p->stream.bytes,
			wrong);
		atomic_fetch_add_explicit(&server->bad, 1, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&server->messages, p->stream.messages, memory_order_relaxed);
	atomic_fetch_add_explicit(&server->bytes, p->stream.bytes, memory_order_relaxed);
	perf_conn_close(&p->conn);
	perf_stream_fini(&p->stream);
	free(p);
}

static int reply(void *context, const void *buf, size_t len)
{
	struct perf_peer *p = context;
	return perf_conn_send(&p->conn, buf, len);
}

int perf_peer_feed(struct perf_peer *p, const void *data, size_t len)
{
	return perf_stream_feed(&p->stream, data, len, reply, p);
}
