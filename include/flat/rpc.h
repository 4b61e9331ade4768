/*
 * gRPC calls over flat sockets, without a gRPC library: unary and streaming, with metadata, deadlines, statuses and cancellation. A peer is
 * whatever speaks gRPC over HTTP/2 without TLS: another user of this, grpc++, grpc-python, flatd between them. Link with -lflat-rpc.
 *
 * An engine (struct flat_rpc) and all that is made from it belong to one thread at a time. Nothing blocks but flat_rpc_next() and, for the
 * resolver, flat_rpc_channel_open(). Errors are negative errno values. Messages are bytes: any serialisation will do.
 */
#ifndef FLAT_RPC_H
#define FLAT_RPC_H

#include <stddef.h>
#include <stdint.h>

#include <flat/flat.h>

FLAT_BEGIN_DECLS

struct flat_rpc;
struct flat_rpc_channel;
struct flat_rpc_call;

/* gRPC's statuses (statuscodes.md). */
enum flat_rpc_status {
	FLAT_RPC_OK = 0,
	FLAT_RPC_CANCELLED = 1,
	FLAT_RPC_UNKNOWN = 2,
	FLAT_RPC_INVALID_ARGUMENT = 3,
	FLAT_RPC_DEADLINE_EXCEEDED = 4,
	FLAT_RPC_NOT_FOUND = 5,
	FLAT_RPC_ALREADY_EXISTS = 6,
	FLAT_RPC_PERMISSION_DENIED = 7,
	FLAT_RPC_RESOURCE_EXHAUSTED = 8,
	FLAT_RPC_FAILED_PRECONDITION = 9,
	FLAT_RPC_ABORTED = 10,
	FLAT_RPC_OUT_OF_RANGE = 11,
	FLAT_RPC_UNIMPLEMENTED = 12,
	FLAT_RPC_INTERNAL = 13,
	FLAT_RPC_UNAVAILABLE = 14,
	FLAT_RPC_DATA_LOSS = 15,
	FLAT_RPC_UNAUTHENTICATED = 16
};

/*
 * One field of metadata. A length of 0 means: up to the NUL. Names are tokens in small letters, not of HTTP or gRPC itself (content-type,
 * grpc-...); values are visible text. Of names that end in -bin the value is base64, here as on the wire.
 */
struct flat_rpc_field {
	const char *name;
	size_t name_len;
	const char *value;
	size_t value_len;
};

enum flat_rpc_kind {
	FLAT_RPC_CALLED, /* server: a call came; `method` and its metadata. It is yours until flat_rpc_finish() or flat_rpc_release() */
	FLAT_RPC_METADATA, /* client: the server's first metadata */
	FLAT_RPC_MESSAGE,  /* a message: `data`, `len` */
	FLAT_RPC_SENT,	   /* server: the client sends no more messages */
	FLAT_RPC_WRITABLE, /* a call that said -EAGAIN takes messages again */
	FLAT_RPC_ENDED /* the call is over: `status`, `text`; client: trailing metadata. Server: its client is gone, or time is up */
};

/* What it points to stays until the next flat_rpc_next(), or until its call is released. */
struct flat_rpc_event {
	enum flat_rpc_kind kind;
	struct flat_rpc_call *call;
	void *user; /* of the call */
	const char *method;
	const struct flat_rpc_field *metadata; /* lengths are given; not NUL-terminated */
	size_t n_metadata;
	const void *data;
	size_t len;
	enum flat_rpc_status status;
	const char *text; /* of the status; "" */
};

struct flat_rpc_request {
	size_t size;	    /* of this struct */
	const char *method; /* "/package.Service/Method" */
	const struct flat_rpc_field *metadata;
	size_t n_metadata;
	int64_t timeout_us; /* of the whole call; 0: none */
	void *user;
};

/** Makes an engine. 0 or -ENOMEM, -EMFILE, -ENFILE. */
FLAT_API int flat_rpc_open(struct flat_rpc **out);
/** Ends all of it, calls and channels too. NULL is allowed. */
FLAT_API void flat_rpc_close(struct flat_rpc *rpc);

/** A channel to "HOST:PORT" (a name of the mesh, of the resolver, or an address). It connects with the first call, and again after an end. 0,
 * -EINVAL (no HOST:PORT), -EHOSTUNREACH (the name is not found), -ENOMEM. */
FLAT_API int flat_rpc_channel_open(struct flat_rpc *rpc, const char *target,
				   struct flat_rpc_channel **out);
/** Ends a channel; its calls end as UNAVAILABLE. NULL is allowed. */
FLAT_API void flat_rpc_channel_close(struct flat_rpc_channel *channel);

/** Serves at an address ("127.0.0.1", "::"); port 0: any. The port, or a negative errno as of bind(2) and listen(2); -EINVAL: no address. */
FLAT_API int flat_rpc_listen(struct flat_rpc *rpc, const char *address, uint16_t port);

/** Waits for what happens next. 1: *event is filled, 0: the time is over; timeout_ms -1: none. -EINTR, -ENOMEM. */
FLAT_API int flat_rpc_next(struct flat_rpc *rpc, struct flat_rpc_event *event, int timeout_ms);

/** Begins a call. It is the caller's until flat_rpc_release(), and ends with one ENDED. 0, -EINVAL (method or metadata), -EMSGSIZE, -ENOMEM. */
FLAT_API int flat_rpc_begin(struct flat_rpc_channel *channel,
			    const struct flat_rpc_request *request, struct flat_rpc_call **out);
/** Sends a message (copied), of at most 4 MiB. 0; -EAGAIN: what went before is not taken yet, WRITABLE will tell; -EPIPE: the call, or this side of
 * it, is over; -EMSGSIZE, -ENOMEM. */
FLAT_API int flat_rpc_send(struct flat_rpc_call *call, const void *data, size_t len);
/** Client: no message follows. 0 or -EPIPE. */
FLAT_API int flat_rpc_send_end(struct flat_rpc_call *call);
/** Server: its first metadata, before any message. 0, -EINVAL, -EPIPE (too late, or the call is over), -EMSGSIZE. */
FLAT_API int flat_rpc_reply(struct flat_rpc_call *call, const struct flat_rpc_field *metadata,
			    size_t n);
/** Server: ends the call and releases it, whatever is returned. `text` NULL: none. What was sent before goes before. 0, or as of reply. */
FLAT_API int flat_rpc_finish(struct flat_rpc_call *call, enum flat_rpc_status status,
			     const char *text, const struct flat_rpc_field *metadata, size_t n);
/** While `on` is not 0 no message of the call is told, and its peer is stopped from sending more than a window: for who cannot use them now. */
FLAT_API void flat_rpc_hold(struct flat_rpc_call *call, int on);
/** Gives a call back; one that is not over is cancelled. */
FLAT_API void flat_rpc_release(struct flat_rpc_call *call);
/** What its events bear as `user`. */
FLAT_API void flat_rpc_set_user(struct flat_rpc_call *call, void *user);

FLAT_END_DECLS

#endif
