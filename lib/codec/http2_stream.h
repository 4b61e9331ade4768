/* Between the files of the HTTP/2 codec. Nobody else includes this. */
#ifndef FLAT_CODEC_HTTP2_STREAM_H
#define FLAT_CODEC_HTTP2_STREAM_H

#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

#include "codec/http1.h"
#include "codec/http2.h"

/* Bytes that grow; [at, len) are not used up. */
struct flat_http2_bytes {
	uint8_t *v;
	size_t at, len, size;
};

/* Fields of a block that are remembered, and the bytes of a block of which any are. */
#define FLAT_HTTP2_SEEN_MAX 24U
#define FLAT_HTTP2_SEEN_BYTES 2048U

/*
 * The fields of one block, as they come. Most blocks say what the one before said, by the same entries of HPACK's tables, which nghttp2
 * gives as the same buffers: such a field is known without a look at its bytes, and what was made of a block of them is used again.
 */
struct flat_http2_block {
	struct {
		nghttp2_rcbuf *name, *value; /* a reference each */
	} seen[FLAT_HTTP2_SEEN_MAX];
	uint32_t n_seen;
	uint32_t n_same; /* of them that this block began with */
	bool known;	 /* they are the whole of the block that all below tells of */
	bool same;	 /* this block is that one, so far */
	/* The head that it made, for a stream that has ended or not, and answers a method; empty: none. */
	struct flat_http2_bytes made;
	bool made_end;
	uint8_t made_method, made_kind;
	struct flat_http2_bytes text;	/* values of pseudo-fields, then lines of fields */
	struct flat_http2_bytes cookie; /* crumbs, joined (RFC 9113, 8.2.3) */
	struct flat_http2_bytes host;
	size_t fields; /* where the lines begin */
	uint32_t method, method_len, path, path_len, authority, authority_len;
	bool has_authority, has_host, has_length, grpc, too_large;
	char length[20]; /* of Content-Length, digits */
	unsigned status;
	uint32_t n;	/* of fields */
	uint32_t bytes; /* of all that came, also of what was dropped */
	int32_t stream;
	bool open; /* a block is under way */
};

enum flat_http2_tx {
	FLAT_HTTP2_TX_HEAD,
	FLAT_HTTP2_TX_BODY,
	FLAT_HTTP2_TX_DONE,
};

struct flat_http2_stream {
	TAILQ_ENTRY(flat_http2_stream) link;
	TAILQ_ENTRY(flat_http2_stream) ready_link;
	struct flat_http2 *h; /* NULL: the connection is gone */
	void *user;
	int32_t id;
	bool ready;	/* among h->ready */
	bool held;	/* has a user */
	bool closed;	/* nghttp2 knows it no more */
	bool reset;	/* before both messages were whole */
	bool refused;	/* see flat_http2_is_refused() */
	bool resetting; /* by us, on purpose */
	bool too_large;
	uint8_t method_id; /* enum flat_http_method, of its request */
	/* What comes. */
	bool rx_head;			   /* a final head came */
	bool rx_end;			   /* all of it came */
	bool rx_tail;			   /* the last chunk is in rx_text */
	bool rx_all;			   /* and was read */
	uint8_t rx_kind;		   /* enum flat_body_kind of the text */
	struct flat_http2_bytes rx_text;   /* heads; then the last chunk with trailers */
	struct flat_http2_bytes rx_data;   /* content, at most a window */
	struct flat_http2_bytes rx_fields; /* trailers, as lines */
	/* What goes. */
	uint8_t tx;    /* enum flat_http2_tx */
	bool tx_end;   /* nothing follows what is in tx_data */
	bool tx_ended; /* END_STREAM is sent */
	bool tx_full;  /* the writer waits for room */
	struct flat_http1_body tx_body;
	struct flat_http2_bytes tx_data;
	struct flat_http2_bytes tx_trailers; /* their text */
	/* Of one that was released: bytes that the peer is to take, and since when there are so many. 0: not looked at. */
	size_t flush_left;
	int64_t flush_us;
};

TAILQ_HEAD(flat_http2_streams, flat_http2_stream);

/* Sizes of pieces of memory that are kept, multiples of 64 bytes: nghttp2's streams and frames have up to 400. */
#define FLAT_HTTP2_SIZES 8U

struct flat_http2_memory {
	struct flat_http2_piece *kept[FLAT_HTTP2_SIZES];
	size_t bytes; /* of those */
};

struct flat_http2 {
	nghttp2_session *session;
	enum flat_http2_side side;
	flat_http2_wake_fn *wake;
	struct flat_http2_streams streams;
	struct flat_http2_streams ready; /* not accepted yet */
	struct flat_http2_streams spare; /* for the next ones, with their buffers */
	uint32_t n_streams, n_spare;
	bool goaway;  /* came */
	bool used_up; /* no id is left */
	bool flooded;
	bool nomem;
	int32_t last_id;		 /* the highest that a head came on (server's side) */
	int32_t gap_first, gap_end;	 /* ids that were passed over last; equal: none */
	int64_t now_us, calm_us;	 /* calm_us: when calm was filled up last */
	struct flat_http2_memory memory; /* nghttp2's */
	int32_t calm;			 /* what the peer may still do of what floods are made of */
	struct flat_http2_block head, trailers;
	struct flat_http2_block *block; /* the one under way, or the last */
	struct flat_http2_bytes lower;	/* names in lower case */
	struct flat_http1 scratch;	/* for a head or trailers being written */
};

/* --- http2_stream.c --- */

/** Adds bytes, the whole at most `max`. 0, -EMSGSIZE or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_bytes_add(struct flat_http2_bytes *b, const void *bytes, size_t len,
					 size_t max);
void flat_http2_bytes_free(struct flat_http2_bytes *b);

struct flat_http2_stream *flat_http2_stream_new(struct flat_http2 *h, int32_t id);
/** It is kept for the next one of its connection, or freed. */
void flat_http2_stream_free(struct flat_http2_stream *s);
/** Frees those that are kept. */
void flat_http2_spare_fini(struct flat_http2 *h);
/** nghttp2 closed it. It is freed if nobody holds it. */
void flat_http2_stream_closed(struct flat_http2_stream *s, uint32_t error);
void flat_http2_stream_wake(struct flat_http2_stream *s);

/* --- http2_memory.c --- */

/** Memory for a session, which `m` outlives. */
nghttp2_mem flat_http2_memory(struct flat_http2_memory *m);
/** Frees what is kept; nothing of it may be in use. */
void flat_http2_memory_fini(struct flat_http2_memory *m);

/* --- http2_block.c --- */

/** A block begins, on a stream. */
void flat_http2_block_begin(struct flat_http2_block *b, int32_t stream);
/** One field of it. 0, -EBADMSG (the stream is at fault), -EMSGSIZE (far too large: the peer is), -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_block_add(struct flat_http2_block *b, nghttp2_rcbuf *name,
					 nghttp2_rcbuf *value);
/** No field follows. As flat_http2_block_add(). */
FLAT_MUST_CHECK int flat_http2_block_end(struct flat_http2_block *b);
/** It is whole: the text of a request's or response's head is added to the stream's. 0, -EBADMSG, -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_block_head(struct flat_http2_block *b, struct flat_http2_stream *s);
/** It is whole: trailers. 0, -EBADMSG or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_block_trailers(struct flat_http2_block *b,
					      struct flat_http2_stream *s);
void flat_http2_block_fini(struct flat_http2_block *b);

/* --- http2_write.c --- */

/** nghttp2's source of a stream's content. */
ssize_t flat_http2_provide(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
			   uint32_t *flags, nghttp2_data_source *source, void *arg);

#endif
