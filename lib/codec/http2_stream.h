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

/* Bytes of a block, and of the text of a head, that are remembered. */
#define FLAT_HTTP2_SEEN_BYTES 512U
#define FLAT_HTTP2_SENT_BYTES 1024U

/*
 * The fields of one block, as they come. Most blocks say what the one before said, by the same entries of HPACK's table: where their bytes are
 * the same, and no entry was made since, nothing of them is read again.
 */
struct flat_http2_block {
	uint8_t raw[FLAT_HTTP2_SEEN_BYTES]; /* of the block that all below tells of */
	uint32_t raw_len;		    /* 0: not remembered */
	uint64_t raw_entries; /* the entries that it was read with: see flat_http2.rx_entries */
	/* The head that it made, for a stream that has ended or not, and answers a method; empty: none. */
	struct flat_http2_bytes made;
	bool made_end;
	uint8_t made_method, made_kind;
	int64_t made_length;
	struct flat_http2_bytes text;	/* values of pseudo-fields, then lines of fields */
	struct flat_http2_bytes cookie; /* crumbs, joined (RFC 9113, 8.2.3) */
	struct flat_http2_bytes host;
	size_t fields; /* where the lines begin */
	uint32_t method, method_len, path, path_len, authority, authority_len;
	uint8_t what;	/* enum flat_http1_what */
	uint8_t pseudo; /* those that came, by bits */
	bool regular;	/* and other fields */
	bool has_authority, has_host, has_length, grpc, too_large;
	char length[20]; /* of Content-Length, digits */
	unsigned status;
	uint32_t n;	/* of fields */
	uint32_t bytes; /* of all that came, also of what was dropped */
	int err;	/* 0, -EBADMSG: the stream is at fault; -EMSGSIZE, -ENOMEM */
};

/* A head or trailers sent last, which most repeat: the same bytes of HPACK say it while no entry is made. */
struct flat_http2_sent {
	uint32_t len; /* of its text; 0: none */
	uint32_t n_fields;
	uint64_t hidden[2]; /* which of its fields were */
	uint32_t target, target_len;
	uint64_t entries; /* see flat_http2.tx_entries */
	uint32_t block_len;
	uint8_t text[FLAT_HTTP2_SENT_BYTES];
	uint8_t block[FLAT_HTTP2_SEEN_BYTES];
};

enum flat_http2_tx {
	FLAT_HTTP2_TX_HEAD,
	FLAT_HTTP2_TX_BODY,
	FLAT_HTTP2_TX_DONE,
};

struct flat_http2_stream {
	TAILQ_ENTRY(flat_http2_stream) link;
	TAILQ_ENTRY(flat_http2_stream) ready_link; /* of h->ready, or h->pending */
	TAILQ_ENTRY(flat_http2_stream) send_link;
	struct flat_http2_stream *next_id; /* of the same place in h->by_id */
	struct flat_http2 *h;		   /* NULL: the connection is gone */
	void *user;
	int32_t id;
	bool ready;   /* among h->ready */
	bool pending; /* among h->pending */
	bool sending; /* among h->sending */
	bool held;    /* has a user */
	bool closed;  /* no frame belongs to it any more */
	bool reset;   /* before both messages were whole */
	bool refused; /* see flat_http2_is_refused() */
	bool malformed;
	bool too_large;
	uint8_t method_id; /* enum flat_http_method, of its request */
	/* What comes. */
	bool rx_head;			   /* a final head came */
	bool rx_end;			   /* all of it came */
	bool rx_tail;			   /* the last chunk is in rx_text */
	bool rx_all;			   /* and was read */
	uint8_t rx_kind;		   /* enum flat_body_kind of the text */
	int64_t rx_length;		   /* of the content, as the head says; -1: it does not */
	int64_t rx_content;		   /* bytes of it that came */
	int32_t rx_window;		   /* bytes that the peer may send */
	int32_t rx_used;		   /* of those that it sent, not given back yet */
	struct flat_http2_bytes rx_text;   /* heads; then the last chunk with trailers */
	struct flat_http2_bytes rx_data;   /* content, at most a window */
	struct flat_http2_bytes rx_fields; /* trailers, as lines */
	/* What goes. */
	uint8_t tx; /* enum flat_http2_tx */
	uint8_t
	    tx_cut;    /* enum flat_http2_error: a reset follows what is in tx_data; 0: none does */
	bool tx_end;   /* nothing follows what is in tx_data */
	bool tx_ended; /* END_STREAM is sent */
	bool tx_full;  /* the writer waits for room */
	int64_t tx_window;
	struct flat_http1_body tx_body;
	struct flat_http2_bytes tx_data;
	struct flat_http2_bytes tx_trailers; /* their text */
	struct flat_http2_bytes tx_head;     /* of a pending one: its fields, packed */
	/* Of one that was released: bytes that the peer is to take, and since when there are so many. 0: not looked at. */
	size_t flush_left;
	int64_t flush_us;
};

TAILQ_HEAD(flat_http2_streams, flat_http2_stream);

/* Places of streams by their numbers; streams that are over are remembered as long as no more than that were since. */
#define FLAT_HTTP2_PLACES 256U
#define FLAT_HTTP2_OVER 128U

/* Where the reader of frames is. */
enum flat_http2_rx {
	FLAT_HTTP2_RX_PREFACE,
	FLAT_HTTP2_RX_FRAME,  /* a frame's first nine bytes */
	FLAT_HTTP2_RX_PADDED, /* the length of DATA's padding */
	FLAT_HTTP2_RX_DATA,
	FLAT_HTTP2_RX_PAYLOAD, /* of another frame: looked at when it is whole */
	FLAT_HTTP2_RX_SKIP,
};

struct flat_http2_frame {
	uint32_t len;
	uint8_t type, flags;
	int32_t id;
};

struct flat_http2 {
	enum flat_http2_side side;
	flat_http2_wake_fn *wake;
	struct flat_http2_streams streams;
	struct flat_http2_streams ready;   /* not accepted yet */
	struct flat_http2_streams pending; /* requests beyond what the peer takes at once */
	struct flat_http2_streams sending; /* with content or an end that may go */
	struct flat_http2_streams spare;   /* for the next ones, with their buffers */
	struct flat_http2_stream *by_id[FLAT_HTTP2_PLACES];
	uint32_t n_streams, n_spare;
	uint32_t n_open; /* that have a number and are not closed */
	bool greeted;	 /* the peer's first SETTINGS came */
	bool acked;	 /* ours were */
	bool goaway;	 /* came */
	bool leaving;	 /* was said */
	bool dead;	 /* was said of a fault: nothing is read or begun any more */
	bool used_up;	 /* no id is left */
	bool flooded;
	bool nomem;
	int32_t last_id;	    /* the highest that a head came on (server's side) */
	int32_t gap_first, gap_end; /* ids that were passed over last; equal: none */
	int32_t next_id;	    /* of a request (client's side) */
	int32_t goaway_id;	    /* that the peer said last */
	int32_t left_id;	    /* that we said */
	/* The last streams that are over, and whether the peer knew it. */
	int32_t over[FLAT_HTTP2_OVER];
	bool over_known[FLAT_HTTP2_OVER];
	uint32_t n_over;	 /* free-running */
	int64_t now_us, calm_us; /* calm_us: when calm was filled up last */
	int32_t calm;		 /* what the peer may still do of what floods are made of */
	int64_t resets_us;	 /* when resets was filled up last */
	int32_t resets;		 /* streams that it may still reset, or make us reset */
	/* Reading. */
	uint8_t rx; /* enum flat_http2_rx */
	struct flat_http2_frame frame;
	uint8_t frame_head[9];
	uint32_t frame_have; /* bytes of the head, then of the payload, that were seen */
	uint32_t padding;    /* of DATA: bytes at its end */
	struct flat_http2_bytes payload; /* of a frame that came in pieces */
	int32_t rx_used;		 /* of the connection's window, not given back yet */
	nghttp2_hd_inflater *inflater;
	uint64_t rx_entries; /* blocks that changed the peer's table */
	struct flat_http2_block head, trailers;
	struct flat_http2_block *block; /* the one under way, or the last */
	bool block_open;
	bool block_end;	    /* END_STREAM */
	bool block_dropped; /* its stream is gone, or never was */
	int32_t block_id;
	uint32_t continued;
	/* Writing. */
	struct flat_http2_bytes out; /* frames */
	uint32_t n_forced; /* answers that the peer made us say, since some of it was taken */
	bool secure;	   /* see flat_http2_secure() */
	nghttp2_hd_deflater *deflater;
	uint64_t tx_entries; /* blocks that changed our table, and orders of the peer's about it */
	struct flat_http2_sent sent_head, sent_trailers;
	int64_t tx_window, tx_first_window; /* of the connection; of a stream that begins */
	uint32_t tx_streams_max;
	struct flat_http2_bytes lower; /* names in lower case */
	struct flat_http2_bytes coded; /* a block */
	struct flat_http1 scratch;     /* for a head or trailers being written */
};

/* --- http2_stream.c --- */

/** Adds bytes, the whole at most `max`. 0, -EMSGSIZE or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_bytes_add(struct flat_http2_bytes *b, const void *bytes, size_t len,
					 size_t max);
/** Makes room for `len` bytes more behind those that are there. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_bytes_room(struct flat_http2_bytes *b, size_t len);
void flat_http2_bytes_free(struct flat_http2_bytes *b);

struct flat_http2_stream *flat_http2_stream_new(struct flat_http2 *h);
/** It is kept for the next one of its connection, or freed. */
void flat_http2_stream_free(struct flat_http2_stream *s);
/** Its connection is gone, and the stream is its holder's alone. */
void flat_http2_stream_part(struct flat_http2_stream *s);
/** Frees those that are kept. */
void flat_http2_spare_fini(struct flat_http2 *h);
/** The open one of a number, or NULL. */
struct flat_http2_stream *flat_http2_stream_find(struct flat_http2 *h, int32_t id);
/** It has its number, and is found by it. */
void flat_http2_stream_number(struct flat_http2_stream *s, int32_t id);
/**
 * No frame belongs to it any more, for a reason; `known`: its peer knows. Its user is woken if a message is not whole. It is freed if
 * nobody holds it.
 */
void flat_http2_stream_closed(struct flat_http2_stream *s, enum flat_http2_error error, bool known);
/** Closes it if both messages are whole. It may be gone then. */
void flat_http2_stream_settle(struct flat_http2_stream *s);
/** The peer did with it what it may not: it is reset, and counted. It may be gone then. */
void flat_http2_stream_fault(struct flat_http2_stream *s, enum flat_http2_error error);
void flat_http2_stream_wake(struct flat_http2_stream *s);
/** So many bytes of its window are used up: they are given back, by and by. */
void flat_http2_stream_used(struct flat_http2_stream *s, size_t n);

/* --- http2.c --- */

/** One more of what floods are made of. */
void flat_http2_disturbed(struct flat_http2 *h, int32_t cost);
/** A stream that the peer reset before its answer, or that we had to reset for what the peer did. */
void flat_http2_wasted(struct flat_http2 *h);
/** A request was answered to its end. */
void flat_http2_served(struct flat_http2 *h);
/** Something that is no flood. */
void flat_http2_calmed(struct flat_http2 *h, int32_t n);
/** It is ended for a flood. */
void flat_http2_end_flood(struct flat_http2 *h);

/* --- http2_frames.c --- */

/** Takes bytes of the peer. 0, or -EPROTO: it does not speak HTTP/2. */
FLAT_MUST_CHECK int flat_http2_frames(struct flat_http2 *h, const uint8_t *bytes, size_t len);

/* --- http2_block.c --- */

/** A block begins: a head or trailers (enum flat_http1_what). */
void flat_http2_block_begin(struct flat_http2_block *b, enum flat_http1_what what);
/** One field of it; b->err says whether it is at fault. */
void flat_http2_block_add(struct flat_http2_block *b, struct flat_span name,
			  struct flat_span value);
/** No field follows: as flat_http2_block_add(). */
void flat_http2_block_end(struct flat_http2_block *b);
/** It is whole: the text of a request's or response's head is added to the stream's. 0, -EBADMSG, -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_block_head(struct flat_http2_block *b, struct flat_http2_stream *s);
/** It is whole: trailers. 0, -EBADMSG or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_block_trailers(struct flat_http2_block *b,
					      struct flat_http2_stream *s);
void flat_http2_block_fini(struct flat_http2_block *b);

/* --- http2_hpack.c --- */

/** Makes both tables. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_hpack_open(struct flat_http2 *h);
void flat_http2_hpack_close(struct flat_http2 *h);
/** Whether a whole block is the one that `b` remembers, which it then still tells of. */
bool flat_http2_block_is_known(const struct flat_http2 *h, const struct flat_http2_block *b,
			       const uint8_t *bytes, size_t len);
/**
 * Reads on in h->block, to its end where `last`. `whole`: these bytes are all of it. 0, -EPROTO (it cannot be read: the tables are of no
 * use any more) or -ENOMEM.
 */
FLAT_MUST_CHECK int flat_http2_inflate(struct flat_http2 *h, const uint8_t *bytes, size_t len,
				       bool whole, bool last);
/** The size of the peer's table that it allows. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_table_size(struct flat_http2 *h, uint32_t size);
/** Writes fields to h->coded. 0, -EBADMSG or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_deflate(struct flat_http2 *h, const nghttp2_nv *v, size_t n);

/* --- http2_send.c --- */

/** Each adds a frame to what is to be drained; without memory h->nomem is set. */
void flat_http2_send_settings(struct flat_http2 *h);
void flat_http2_send_ack(struct flat_http2 *h, uint8_t type, const void *payload, size_t len);
void flat_http2_send_reset(struct flat_http2 *h, int32_t id, enum flat_http2_error error);
void flat_http2_send_window(struct flat_http2 *h, int32_t id, uint32_t bytes);
/** GOAWAY; after that of a fault nothing else is said or read. */
void flat_http2_send_goaway(struct flat_http2 *h, enum flat_http2_error error);
/** A block of fields, in as many frames as it takes; the stream's last word where `end`. */
void flat_http2_send_block(struct flat_http2 *h, int32_t id, const void *block, size_t len,
			   bool end);
/** END_STREAM was sent. The stream may be gone then. */
void flat_http2_sent_end(struct flat_http2_stream *s);
/** It has content or an end to be sent. */
void flat_http2_may_send(struct flat_http2_stream *s);
/** Puts content in frames, as much as one piece and the windows hold. */
void flat_http2_send_content(struct flat_http2 *h);

/* --- http2_write.c --- */

/** Requests that waited for others to end. */
void flat_http2_begin_pending(struct flat_http2 *h);
/** Trailers of a stream whose content is sent. 0, -EBADMSG or -ENOMEM. */
FLAT_MUST_CHECK int flat_http2_send_trailers(struct flat_http2_stream *s);

#endif
