/* SPDX-License-Identifier: Apache-2.0 */
/* The server's connections: what the thread-for-each and the event-loop server have in common. */
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "net.h"
#include "stream.h"

struct perf_server {
	const struct perf_net *net;
	const struct perf_opts *o;
	int listener;
	/* Statistics, so relaxed; the main thread reads them at the end. */
	_Atomic uint64_t connections;
	_Atomic uint64_t messages;
	_Atomic uint64_t bytes;
	_Atomic uint64_t bad; /* connections that sent what they should not */
};

/* Owner: the thread or the event loop that serves it. */
struct perf_peer {
	struct perf_server *server;
	struct perf_conn conn;
	struct perf_stream stream;
};

/** perf_peer_open() - take over accepted @fd. NULL after a message on stderr; @fd is closed then. */
struct perf_peer *perf_peer_open(struct perf_server *server, int fd);

/**
 * perf_peer_close() - count, complain where something was wrong, and release @p.
 * @why: 0 at the end of the stream, else the negative errno the connection ended with.
 */
void perf_peer_close(struct perf_peer *p, int why);

/** perf_peer_feed() - give @len received bytes to the stream; as perf_stream_feed(). */
int perf_peer_feed(struct perf_peer *p, const void *data, size_t len);

/** perf_recv_bytes() - how large the buffer for one receive is. */
size_t perf_recv_bytes(const struct perf_server *server);

/** perf_accept_passing() - true when accept's @err is no reason to stop accepting. */
bool perf_accept_passing(int err);

/** perf_loop_thread() - an event loop over the shared, non-blocking listener; @arg is a struct
 *  perf_server. Returns, after a message, only when it cannot go on. */
void *perf_loop_thread(void *arg);

#endif
