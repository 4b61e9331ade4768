/*
 * One gRPC call over a connected socket, blocking, as its client: one message there, any number back. For threads of their
 * own, never for what applications wait for.
 */
#ifndef FLAT_WIRE_GRPC_STREAM_H
#define FLAT_WIRE_GRPC_STREAM_H

#include <openssl/ssl.h>

#include "base/base.h"

/** Takes a message of the answer. 0, or a negative errno: the call ends. */
typedef int flat_grpc_message_fn(void *arg, const uint8_t *bytes, size_t len);

struct flat_grpc_call {
	int fd;		/* connected, or about to be; borrowed */
	SSL *ssl;	/* in state connect, not begun; NULL: in the clear. Borrowed */
	int timeout_ms; /* of all of it; 0: none */
	int stop_fd;	/* readable: the call ends; borrowed */
	const char *path;
	const char *authority;
	const char *const *fields; /* of the request: names and values in turn; NULL at the end */
	const uint8_t *message;
	size_t len; /* to FLAT_GRPC_MESSAGE_MAX */
	flat_grpc_message_fn *take;
	void *arg;
	char *why; /* what was wrong, if it is not 0 */
	size_t size;
};

/**
 * Calls, until the server ends it. 0 (status OK), -ECANCELED (stop_fd), -ETIMEDOUT, or another negative errno with a sentence in
 * call->why: -EPROTO (no gRPC, a reset, an answer that is cut off, or a status other than OK), -ECONNRESET (the connection
 * ended), -EMSGSIZE, -ENOMEM, what take() returned.
 */
FLAT_MUST_CHECK int flat_grpc_stream(const struct flat_grpc_call *call);

#endif
