/*
 * HTTP/2 (RFC 9113): frames of one connection to the messages of its streams, and back. Bytes in, bytes
 * out: no socket. A message is given and taken in the normal form of HTTP/1.1 (http1.h), so that one strict reader
 * judges heads of either version, and what goes from one version to the other is written once: pseudo-fields are the
 * start line and Host, the body has a Content-Length or chunks, trailers follow the last chunk.
 *
 * Memory of a stream is bounded: what is not read closes its window, what is not sent is not taken. One thread.
 */
#ifndef FLAT_CODEC_HTTP2_H
#define FLAT_CODEC_HTTP2_H

#include <sys/types.h>

#include "codec/http.h"

/* What a client begins with (RFC 9113, 3.4). */
#define FLAT_HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define FLAT_HTTP2_PREFACE_BYTES 24U
/* No piece that flat_http2_drain() gives is longer: a frame of the default size. */
#define FLAT_HTTP2_PIECE_MAX ((size_t)16 * 1024 + 9)

/* The least room in which flat_http2_read() makes progress. */
#define FLAT_HTTP2_READ_MIN 32U

enum flat_http2_side {
	FLAT_HTTP2_SERVER, /* we answer */
	FLAT_HTTP2_CLIENT, /* we ask */
};

/* Error codes that callers use (RFC 9113, 7). */
enum flat_http2_error {
	FLAT_HTTP2_NO_ERROR = 0,
	FLAT_HTTP2_PROTOCOL_ERROR = 1,
	FLAT_HTTP2_INTERNAL_ERROR = 2,
	FLAT_HTTP2_REFUSED_STREAM = 7,
	FLAT_HTTP2_CANCEL = 8,
	FLAT_HTTP2_CALM = 11, /* ENHANCE_YOUR_CALM */
};

struct flat_http2;	  /* a connection */
struct flat_http2_stream; /* an exchange on it */

/** Something may be read, written or has ended on the stream of that user. Called by feed, drain and close. */
typedef void flat_http2_wake_fn(void *user);

/** Makes a connection's side; what it says first is there to be drained. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_open(struct flat_http2 **out, enum flat_http2_side side,
				    flat_http2_wake_fn *wake);
/** Client's side, before the first request: its requests are of the scheme https, as the connection lies in TLS. */
void flat_http2_secure(struct flat_http2 *h);
/** Ends it: streams that have users are reset, and remain until they are released. NULL is none. */
void flat_http2_close(struct flat_http2 *h);

/**
 * Takes all of `bytes`, from the peer. now_us: any clock that does not go back, for the measure of floods. 0, -EPROTO
 * (it broke the protocol beyond a GOAWAY) or -ENOMEM: the connection is to be dropped.
 */
FLAT_MUST_CHECK int flat_http2_feed(struct flat_http2 *h, const uint8_t *bytes, size_t len,
				    int64_t now_us);
/** The next bytes for the peer, in *bytes until the next call. Their count, 0: none now, or -ENOMEM. */
FLAT_MUST_CHECK ssize_t flat_http2_drain(struct flat_http2 *h, const uint8_t **bytes);
/** Nothing more will be read or said. */
bool flat_http2_over(const struct flat_http2 *h);
/** New streams can be opened (client's side): no GOAWAY came, ids are left. */
bool flat_http2_usable(const struct flat_http2 *h);
/** Whether it is ended because its peer did what only floods do. */
bool flat_http2_flooded(const struct flat_http2 *h);
/** Whether a block of fields has begun and is not whole. */
bool flat_http2_in_head(const struct flat_http2 *h);
/** Says GOAWAY: streams that are there are served, new ones are not. */
void flat_http2_shutdown(struct flat_http2 *h);
/** Streams that are open, with or without user. */
uint32_t flat_http2_streams(const struct flat_http2 *h);

/**
 * Resets streams that were released, of whose last bytes the peer took none between two calls `limit_us` or more apart. When to call
 * again; 0: there are no such streams.
 */
int64_t flat_http2_flush_late(struct flat_http2 *h, int64_t now_us, int64_t limit_us);

/** Server's side: whether a request can be accepted. */
bool flat_http2_waits(const struct flat_http2 *h);
/** Server's side: the next request whose head is whole; its user is set. NULL: none. */
struct flat_http2_stream *flat_http2_accept(struct flat_http2 *h, void *user);
/** Client's side: a stream for a request that is yet to be written. NULL without memory. */
struct flat_http2_stream *flat_http2_stream_open(struct flat_http2 *h, void *user);
/** Ends the user's hold. What was written goes on to the peer; a message that is not whole is reset. */
void flat_http2_release(struct flat_http2_stream *s);

/** Copies what there is of the peer's message. Bytes, 0: none now (see the next three). */
size_t flat_http2_read(struct flat_http2_stream *s, uint8_t *buf, size_t size);
/** The peer's message was read to its end. */
bool flat_http2_read_all(const struct flat_http2_stream *s);
/** It ended before: reset by the peer or with the connection; nothing can be written either. */
bool flat_http2_is_reset(const struct flat_http2_stream *s);
/** And the peer did nothing with it: it may be asked again. */
bool flat_http2_is_refused(const struct flat_http2_stream *s);
/** It was reset by us, for what its peer said on it, or ended with a connection whose peer was at fault. */
bool flat_http2_is_malformed(const struct flat_http2_stream *s);
/** A request whose fields are more than we take (then what is read is only its start line and Host). */
bool flat_http2_is_too_large(const struct flat_http2_stream *s);
/** The number of the stream; 0: not yet. */
int32_t flat_http2_id(const struct flat_http2_stream *s);

/**
 * Takes bytes of our message. A head, a chunk's line and trailers are taken whole or not at all. Returns the bytes
 * taken (all of them once the stream is reset), or -EBADMSG, -ENOMEM: it cannot be sent, reset it.
 */
FLAT_MUST_CHECK ssize_t flat_http2_write(struct flat_http2_stream *s, const uint8_t *bytes,
					 size_t len);
/**
 * The same for a head that was read already: `text` are its bytes, of which fields that are hidden are not sent. Where
 * the stream has not had its head yet. 0 (also where it is reset), or -EBADMSG, -ENOMEM: as above.
 */
FLAT_MUST_CHECK int flat_http2_write_head(struct flat_http2_stream *s,
					  const struct flat_http_head *head, const void *text);
/** Our message ends here: one without framing is whole, one that is not whole is reset. */
void flat_http2_finish(struct flat_http2_stream *s);
/**
 * Our message breaks off here: what was written of it goes to the peer as its windows let it, and the reset comes behind that. Nothing
 * that is written later is sent. As long as the peer takes nothing of it, the stream is one for flat_http2_flush_late().
 */
void flat_http2_break_off(struct flat_http2_stream *s, enum flat_http2_error error);
/** Resets it, for both sides. */
void flat_http2_reset(struct flat_http2_stream *s, enum flat_http2_error error);

#endif
