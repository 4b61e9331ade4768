/*
 * HTTP/1.0 and 1.1 (RFC 9112): bytes to heads and body pieces, and back in one normal form. Strict: what two
 * parsers could read in two ways is refused (security.md, table HTTP), since what is checked here must be what the
 * receiver acts on. Incremental: the same bytes give the same result however they are cut. Nothing is allocated.
 */
#ifndef FLAT_CODEC_HTTP1_H
#define FLAT_CODEC_HTTP1_H

#include <sys/types.h>

#include "codec/http.h"
#include "codec/record.h"

/* What is wrong with a message; the first that a reader from left to right meets. */
enum flat_http1_fault {
	FLAT_HTTP1_FINE,
	FLAT_HTTP1_CONTROL,    /* a control character, a CR or LF that ends no line */
	FLAT_HTTP1_START_LINE, /* not METHOD SP TARGET SP HTTP/1.x, or HTTP/1.x SP STATUS ... */
	FLAT_HTTP1_VERSION,    /* HTTP, but not 1.0 or 1.1 */
	FLAT_HTTP1_TARGET,     /* neither path, http URL, *, nor (CONNECT) host and port */
	FLAT_HTTP1_FOLD,       /* a field line that begins with a blank */
	FLAT_HTTP1_NAME,       /* empty or no token, or no colon right after it */
	FLAT_HTTP1_HOST,       /* missing, twice, not valid, or not the URL's */
	FLAT_HTTP1_LENGTH, /* Content-Length twice, or not of digits, or beside Transfer-Encoding */
	FLAT_HTTP1_ENCODING,   /* Transfer-Encoding other than chunked, or in HTTP/1.0 */
	FLAT_HTTP1_CONNECTION, /* Connection names a field that must not be dropped */
	FLAT_HTTP1_CHUNK,      /* a chunk's size, extension or end */
	FLAT_HTTP1_TRAILER,    /* a trailer that may not be one */
	FLAT_HTTP1_TOO_LARGE,  /* more bytes than we take */
	FLAT_HTTP1_TOO_MANY,   /* more fields */
	FLAT_HTTP1_FAULTS,
};

/** A few words for a log: "control character", ... */
const char *flat_http1_fault_text(enum flat_http1_fault fault);

/** Whether the fault is one of size, answered with 431 rather than 400. */
bool flat_http1_fault_is_size(enum flat_http1_fault fault);

enum flat_http1_what {
	FLAT_HTTP1_REQUEST,
	FLAT_HTTP1_RESPONSE,
	FLAT_HTTP1_TRAILERS,
};

/* Reading one head, or the trailers of one body. */
struct flat_http1 {
	uint8_t what;	/* enum flat_http1_what */
	uint8_t fault;	/* enum flat_http1_fault, after -EBADMSG */
	bool in_fields; /* the start line is done */
	uint32_t line;	/* where the line being read begins */
	uint32_t scan;	/* bytes looked at */
	struct flat_http_head head;
};

/** Begins a head or trailers. */
void flat_http1_begin(struct flat_http1 *p, enum flat_http1_what what);

/**
 * Reads on. `bytes`: all of the message that is there, from its first byte, `len` of them; those seen before must be
 * the same, wherever they lie now. Returns the size of the head once it is whole (p->head is then filled), 0 when more
 * is needed, or -EBADMSG with p->fault. O(new bytes).
 */
FLAT_MUST_CHECK int flat_http1_read(struct flat_http1 *p, const uint8_t *bytes, size_t len);

/* The head read last, for a peer that says the same again: most do, apart from what a body holds. */
#define FLAT_HTTP1_KNOWN_BYTES 1024U
struct flat_http1_known {
	uint32_t len; /* bytes of its text; 0: none */
	struct flat_http1 p;
	uint8_t text[FLAT_HTTP1_KNOWN_BYTES];
};

/**
 * flat_http1_read(), which does nothing but compare where the bytes begin with those of the head in `known`, and remembers a
 * head there that is another. NULL: it only reads.
 */
FLAT_MUST_CHECK int flat_http1_read_known(struct flat_http1 *p, struct flat_http1_known *known,
					  const uint8_t *bytes, size_t len);

/** Fills the codec's part of a record from a head that is whole. */
void flat_http1_record(const struct flat_http1 *p, struct flat_record *record);

/** How the body of a response to a request is delimited: none after HEAD, 1xx, 204, 304. */
enum flat_body_kind flat_http1_response_body(const struct flat_http_head *head,
					     enum flat_http_method method);

/* --- bodies --- */

enum flat_piece_kind {
	FLAT_PIECE_MORE,      /* nothing to be said yet: more bytes are needed */
	FLAT_PIECE_CHUNK,     /* a chunk of `size` bytes begins */
	FLAT_PIECE_DATA,      /* `size` bytes of content begin at the bytes given */
	FLAT_PIECE_CHUNK_END, /* the chunk is over */
	FLAT_PIECE_LAST,      /* the last chunk; trailers, maybe none, are in `trailers` */
	FLAT_PIECE_END,	      /* the body is over (each time it is asked) */
};

struct flat_piece {
	enum flat_piece_kind kind;
	uint64_t size;
};

/* Reading one body. */
struct flat_http1_body {
	uint8_t kind;	     /* enum flat_body_kind */
	uint8_t state;	     /* of chunked: see http1_body.c */
	uint8_t fault;	     /* enum flat_http1_fault, after -EBADMSG */
	bool over;	     /* everything was read; of OPAQUE: never */
	uint32_t extensions; /* bytes of them so far */
	uint64_t left;	     /* of the length, or of the chunk */
};

/** Begins a body; `length` counts for LENGTH. */
void flat_http1_body_begin(struct flat_http1_body *b, enum flat_body_kind kind, uint64_t length);

/**
 * Reads one piece at the front of `bytes` (`len` of them; none only asks whether the body is over). Returns the
 * bytes that the piece uses up, which the caller takes off before the next call, or -EBADMSG with b->fault. DATA is
 * any part of the content. `trailers` is used for the trailers of a chunked body, whose bytes are those of the
 * LAST piece; its head's fields give them. The last line of chunk, extensions and trailers must fit in what is given
 * at once (FLAT_HTTP_CHUNK_LINE_MAX, FLAT_HTTP_TRAILER_BYTES_MAX).
 */
FLAT_MUST_CHECK ssize_t flat_http1_body_read(struct flat_http1_body *b, const uint8_t *bytes,
					     size_t len, struct flat_http1 *trailers,
					     struct flat_piece *piece);

/* --- writing: into the caller's buffer; 0 and no byte written where it has no room --- */

struct flat_http1_out {
	uint8_t *bytes;
	size_t size; /* room */
	size_t len;  /* written */
	bool full;   /* something did not fit: everything written since the last mark is void */
};

/** Text as it is. The caller answers for its being free of control characters. */
void flat_http1_put(struct flat_http1_out *out, const void *text, size_t len);
void flat_http1_puts(struct flat_http1_out *out, const char *text);
/** A field line. */
void flat_http1_put_field(struct flat_http1_out *out, struct flat_span name,
			  struct flat_span value);
/** `METHOD SP TARGET SP HTTP/1.x`. */
void flat_http1_put_request_line(struct flat_http1_out *out, struct flat_span method,
				 struct flat_span target, uint8_t minor);
/** `HTTP/1.1 SP STATUS SP REASON`; an absent reason is the usual one. */
void flat_http1_put_status_line(struct flat_http1_out *out, unsigned status,
				struct flat_span reason);
/* Room for the size line of any chunk. */
#define FLAT_HTTP1_CHUNK_LINE 18U
/** Writes the size line of a chunk to `to`, which has room. Its length. */
size_t flat_http1_chunk_line(uint8_t *to, uint64_t size);
/** The size line of a chunk of `size` bytes; 0 is the last one. */
void flat_http1_put_chunk(struct flat_http1_out *out, uint64_t size);

/** The usual reason phrase of a status, or "Unknown". */
const char *flat_http1_reason(unsigned status);

#endif
