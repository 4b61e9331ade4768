/*
 * Calls of flatd's own: one message there, one back, over HTTP/1.1 or as a unary call of gRPC (HTTP/2 by prior knowledge), to
 * an address of the host's network. Each has a connection of its own, which ends with it; or those of a channel share one, as
 * streams of HTTP/2, which stays for the next. Control thread.
 */
#ifndef FLAT_OFFLOAD_GRPC_CLIENT_H
#define FLAT_OFFLOAD_GRPC_CLIENT_H

#include <sys/socket.h>

#include "codec/http.h"
#include "mesh/route.h"
#include "offload/loop.h"

/* Bytes of an answer: a status and a few fields. */
#define FLAT_CALL_ANSWER_MAX ((size_t)64 * 1024)

/* Calls on their way over one channel. */
#define FLAT_CALLS_MAX 4096U

struct flat_call;
struct flat_call_channel;

struct flat_call_question {
	struct flat_call_channel *channel; /* NULL: a connection of its own */
	const struct sockaddr_storage *addr;
	socklen_t addr_len;
	bool grpc;
	bool http2;	    /* also without gRPC */
	bool status_only;   /* an answer's body is dropped, and may be longer */
	const char *method; /* NULL: POST */
	const char *authority, *path;
	const char *type; /* content-type; of gRPC its own; NULL: there is no message */
	const struct flat_name_value *headers;
	uint32_t n_headers;
	const void *bytes; /* the message; copied. Of gRPC without its prefix */
	size_t len;
	int64_t deadline_us; /* by flat_now_us() */
};

struct flat_call_answer {
	const char *why;      /* there is none, for this reason; NULL: there is one */
	unsigned status;      /* of HTTP */
	int grpc;	      /* grpc-status; of HTTP 0 */
	const uint8_t *bytes; /* the message, good until the function returns */
	size_t len;
};

/** Called once, never before flat_call_start() has returned; the call is gone afterwards. */
typedef void flat_call_fn(void *arg, const struct flat_call_answer *answer);

/** Makes a channel. Nothing is connected before its first call. NULL without memory. */
struct flat_call_channel *flat_call_channel_open(struct flat_loop *loop);
/** Closes it, when no call is on its way over it. NULL is allowed. */
void flat_call_channel_close(struct flat_call_channel *channel);

/**
 * Begins a call. NULL without memory or descriptors, or where the channel has too many: `fn` is not called. One that met the end
 * of a connection which had served others before is asked once more over a new one.
 */
struct flat_call *flat_call_start(struct flat_loop *loop, const struct flat_call_question *question,
				  flat_call_fn *fn, void *arg);
/** Its socket, borrowed; of a channel that of all its calls. */
int flat_call_fd(const struct flat_call *call);
/** Ends it without calling its function. NULL is allowed. */
void flat_call_cancel(struct flat_call *call);
/** Ends it, with its function, where its time is over. How long it still has, ms. */
int flat_call_expire(struct flat_call *call, int64_t now_us);

#endif
