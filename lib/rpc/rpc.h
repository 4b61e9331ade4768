/* Between the files of libflat-rpc: the engine, its connections and calls. One thread. */
#ifndef FLAT_RPC_RPC_H
#define FLAT_RPC_RPC_H

#include <sys/queue.h>
#include <sys/socket.h>

#include <flat/rpc.h>

#include "base/base.h"
#include "base/clock.h"
#include "codec/http1.h"
#include "codec/http2.h"

/* Of one message, as gRPC's libraries have it. */
#define FLAT_RPC_MESSAGE_MAX ((size_t)4 * 1024 * 1024)
/* Start line and fields of one message. */
#define FLAT_RPC_HEAD_MAX ((size_t)FLAT_HTTP_HEAD_BYTES_MAX)
/* Bytes of a gRPC message before its content: compressed or not, length. */
#define FLAT_RPC_PREFIX 5U
/* Read from a socket, or from a stream, at once. More than a head of the largest size and a chunk's line. */
#define FLAT_RPC_PIECE ((size_t)96 * 1024)
/* Calls that are kept for the next ones, with their buffers. */
#define FLAT_RPC_SPARE_MAX 256U

/* Bytes that grow; [at, len) are not used up. */
struct flat_rpc_bytes {
	uint8_t *v;
	size_t at, len, size;
};

enum flat_rpc_stage {
	FLAT_RPC_HEAD, /* the peer's head is awaited */
	FLAT_RPC_BODY,
	FLAT_RPC_OVER, /* nothing more will be read */
};

struct flat_rpc_call {
	TAILQ_ENTRY(flat_rpc_call) link;       /* of its connection */
	TAILQ_ENTRY(flat_rpc_call) all_link;   /* of the engine: all, or those that are kept */
	TAILQ_ENTRY(flat_rpc_call) ready_link; /* of the engine */
	struct flat_rpc_conn *conn;	       /* NULL: gone */
	struct flat_rpc *rpc;
	struct flat_http2_stream *stream; /* NULL: given back */
	void *user;
	int64_t due_us; /* 0: no deadline */
	uint8_t stage;	/* enum flat_rpc_stage */
	bool client;
	bool ready;	/* in the engine's list */
	bool ours;	/* the user may not see it: it ends by itself */
	bool announced; /* CALLED or METADATA was told */
	bool sent_told; /* SENT was */
	bool ended;	/* the status is known: ENDED is due, or was told */
	bool told;	/* ENDED was */
	bool head_out;	/* our head is written */
	bool closed;	/* our side is over */
	bool held;	/* no message is told */
	bool stalled;	/* -EAGAIN was said */
	bool silent;	/* the answer is no gRPC */
	bool trailers_only;
	uint16_t http_status;
	int16_t status; /* -1: not known yet */
	struct flat_http1_body body;
	struct flat_rpc_bytes head;    /* text of the peer's head */
	struct flat_rpc_bytes rest;    /* what of the peer's text is not whole */
	struct flat_rpc_bytes message; /* content: messages with their prefixes */
	size_t given;		       /* bytes of the message that the user looks at */
	struct flat_rpc_bytes tail;    /* text of the trailers */
	struct flat_rpc_bytes out;     /* text that the codec has not taken */
	char text[256];		       /* of the status; before, of a request: its method */
};

TAILQ_HEAD(flat_rpc_calls, flat_rpc_call);

/* Something with a descriptor. */
struct flat_rpc_source {
	int fd;
	bool listens;
};

struct flat_rpc_conn {
	struct flat_rpc_source source; /* first: what epoll gives */
	TAILQ_ENTRY(flat_rpc_conn) link;
	TAILQ_ENTRY(flat_rpc_conn) dirty_link;
	struct flat_rpc *rpc;
	struct flat_rpc_channel *channel; /* NULL: of the server's side, or left by its channel */
	struct flat_http2 *h2;
	bool connecting;
	bool dirty;		   /* has something to say, maybe: in the engine's list */
	bool dying;		   /* ends with its last call */
	uint32_t events;	   /* asked of epoll */
	struct flat_rpc_bytes out; /* what the socket did not take */
	struct flat_rpc_calls calls;
};

struct flat_rpc_channel {
	TAILQ_ENTRY(flat_rpc_channel) link;
	struct flat_rpc *rpc;
	struct flat_rpc_conn *conn; /* that takes calls; NULL: none yet */
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char authority[FLAT_HTTP_HOST_MAX + 1];
};

struct flat_rpc_listener {
	struct flat_rpc_source source; /* first */
	TAILQ_ENTRY(flat_rpc_listener) link;
};

struct flat_rpc {
	int epfd;
	TAILQ_HEAD(, flat_rpc_conn) conns;
	TAILQ_HEAD(, flat_rpc_conn) dirty;
	TAILQ_HEAD(, flat_rpc_channel) channels;
	TAILQ_HEAD(, flat_rpc_listener) listeners;
	struct flat_rpc_calls ready;
	struct flat_rpc_calls all;
	struct flat_rpc_calls spare;
	unsigned n_spare;
	int64_t due_us;		    /* no deadline is before; 0: there is none */
	struct flat_http1 reader;   /* of the head told last */
	struct flat_http1 trailers; /* of the trailers read last */
	struct flat_rpc_field fields[FLAT_HTTP_FIELDS_MAX];
	uint8_t piece[FLAT_RPC_PIECE];
};

/* --- bytes.c --- */

/** Adds bytes, at most `max` in all. 0, -EMSGSIZE or -ENOMEM. */
FLAT_MUST_CHECK int flat_rpc_bytes_add(struct flat_rpc_bytes *b, const void *v, size_t len,
				       size_t max);
/** Room for `len` more bytes at the end: where they go; NULL: no memory. `b->len` is the caller's to move. */
uint8_t *flat_rpc_bytes_room(struct flat_rpc_bytes *b, size_t len);
void flat_rpc_bytes_free(struct flat_rpc_bytes *b);
static inline size_t flat_rpc_bytes_left(const struct flat_rpc_bytes *b)
{
	return b->len - b->at;
}

/* --- engine.c --- */

/** It may have something to tell. */
void flat_rpc_wake(struct flat_rpc_call *call);
/** It may have something to say. NULL is allowed. */
void flat_rpc_dirty(struct flat_rpc_conn *conn);

/* --- conn.c --- */

/** A connection over a socket that is taken over, whatever comes of it. NULL: no memory. */
struct flat_rpc_conn *flat_rpc_conn_new(struct flat_rpc *rpc, int fd, enum flat_http2_side side);
/** Ends it: its calls are over. `why` NULL: "connection lost". */
void flat_rpc_conn_end(struct flat_rpc_conn *conn, const char *why);
/** epoll has told of it. */
void flat_rpc_conn_move(struct flat_rpc_conn *conn, uint32_t events);
/** Says what there is to say. */
void flat_rpc_conn_flush(struct flat_rpc_conn *conn);
/** The connection of a channel that takes calls, made if need be. NULL with *err. */
struct flat_rpc_conn *flat_rpc_channel_conn(struct flat_rpc_channel *channel, int *err);

/* --- call.c --- */

/** A call, on a connection or (NULL) none. NULL: no memory. */
struct flat_rpc_call *flat_rpc_call_new(struct flat_rpc_conn *conn, struct flat_rpc *rpc,
					bool client);
/** Frees one that is in no list. */
void flat_rpc_call_destroy(struct flat_rpc_call *call);
/** Off its connection, and kept for the next. */
void flat_rpc_call_free(struct flat_rpc_call *call);
/**
 * It is over; the first status counts. `text` NULL: none. A client's call that ends CANCELLED once its deadline is past ends
 * DEADLINE_EXCEEDED, as with gRPC's own clients: the server's clock ran out as well, and its word came before ours was looked at.
 */
void flat_rpc_call_end(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text);
/** A client's call is over and its server has said no status: by the deadline where that is past, else `status`. */
void flat_rpc_call_cut(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text);
/** Gives the codec what waits. */
void flat_rpc_call_push(struct flat_rpc_call *call);
/** Its deadline, from now. */
void flat_rpc_call_due(struct flat_rpc_call *call, int64_t timeout_us);
/** Refuses a request that is none of gRPC's; the call is ours from then on. */
void flat_rpc_call_refuse(struct flat_rpc_call *call, unsigned http_status);

/* --- read.c --- */

/** Reads what the peer says, until there is something to tell. */
void flat_rpc_call_read(struct flat_rpc_call *call);
/** Whether a message is whole. */
bool flat_rpc_call_has_message(const struct flat_rpc_call *call);
/** The fields of a head or of trailers that are the user's, in rpc->fields. Their count. */
size_t flat_rpc_fields(struct flat_rpc *rpc, const struct flat_http_head *head,
		       const uint8_t *text);

#endif
