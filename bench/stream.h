/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of one connection: bytes in, replies out, whatever pieces the bytes come in.
 * Checks that messages come whole, in order, once each, and with the right bodies where asked.
 */
#ifndef PERF_STREAM_H
#define PERF_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msg.h"

/* Sends all @len bytes back to the peer; 0 or a negative errno. */
typedef int (*perf_reply_fn)(void *context, const void *buf, size_t len);

/* Owner: one thread at a time. */
struct perf_stream {
	uint8_t *held;	     /* a reply message whose end has not come yet; NULL until needed */
	uint32_t held_cap;   /* bytes; messages to be answered may not be longer */
	uint32_t have;	     /* bytes of the current message taken so far, header included */
	bool echo;	     /* the connection's first byte was PERF_KIND_ECHO */
	bool counters;	     /* it was PERF_KIND_COUNTERS */
	bool ended;	     /* and PERF_COUNTER_END has come */
	bool begun;	     /* the first byte has come */
	struct perf_msg msg; /* valid once have >= PERF_MSG_MIN */
	uint8_t head[PERF_MSG_MIN];
	uint64_t next_seq;
	uint64_t messages; /* taken whole */
	uint64_t bytes;	   /* taken */
};

/** perf_stream_init() - a new connection whose messages may have @max_msg bytes. Allocates nothing. */
void perf_stream_init(struct perf_stream *s, uint32_t max_msg);

/** perf_stream_fini() - release what was held. */
void perf_stream_fini(struct perf_stream *s);

/**
 * perf_stream_feed() - take the next @len bytes at @data; answers go out through @reply.
 *
 * Returns 0, or a negative errno: -EPROTO for no valid header, -EILSEQ for a message out of order or
 * with a wrong body, -EMSGSIZE for one longer than the server takes, -ENOMEM, or what @reply
 * returned. After a failure the stream must not be fed again.
 */
int perf_stream_feed(struct perf_stream *s, const void *data, size_t len, perf_reply_fn reply,
		     void *context);

/** perf_stream_whole() - true when the stream may end here: no message is half taken. */
bool perf_stream_whole(const struct perf_stream *s);

#endif
