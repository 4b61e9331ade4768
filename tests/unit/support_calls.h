/*
 * A service of the kernel's sockets that a test's offload half asks: over HTTP/1.1, or gRPC. One connection at a time: the next one is
 * looked at when the one before it is closed.
 */
#ifndef FLAT_TESTS_SUPPORT_CALLS_H
#define FLAT_TESTS_SUPPORT_CALLS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

/**
 * Writes the answer to `request`: bytes in the form of HTTP/1.1, `len` of them with a NUL behind, also where it came by HTTP/2 (codec/http2.h).
 * Nothing: it is never answered. Whether the connection waits for the next question; else it ends with what was written. Called by the
 * service's thread.
 */
typedef bool calls_fn(const char *request, size_t len, struct flat_strbuf *answer);

struct calls {
	uint16_t port; /* of 127.0.0.1 */
	atomic_uint questions, connections;
	/* Private. */
	pthread_t thread;
	calls_fn *fn;
	int listener;
	bool grpc;
};

/** Listens at a port that it chooses, before the offload half begins. */
void calls_open(struct calls *s, bool grpc, calls_fn *fn);
/** Serves, once the offload half has begun: what is forked beside a thread may have that one's locks for ever. */
void calls_begin(struct calls *s);
/** After the offload half has ended. */
void calls_end(struct calls *s);

/** Puts core.v3.HeaderValue, QueryParameter, and what else is a name (1) and a value (2), as field `number`. */
void calls_put_pair(struct flat_strbuf *out, uint32_t number, const char *name, const char *value);
/** Writes a gRPC answer of one message, status 0. */
void calls_grpc(struct flat_strbuf *answer, const struct flat_strbuf *message);

#endif
