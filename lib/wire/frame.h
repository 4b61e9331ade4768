/*
 * Frames of the wire (docs/design/wire.md): what two offload halves say to each other inside one TLS connection. Bytes
 * in, structures out, and back; no memory of its own. Numbers are in network order.
 */
#ifndef FLAT_WIRE_FRAME_H
#define FLAT_WIRE_FRAME_H

#include <stdbool.h>

#include "base/base.h"
#include "vq/attach.h"

#define FLAT_FRAME_VERSION 1
/* Stream (4), type (1), zero (1), length of the body (2). */
#define FLAT_FRAME_HEADER ((size_t)8)
/* With its header a frame fits one TLS record (RFC 8446, 5.1). */
#define FLAT_FRAME_BODY_MAX ((size_t)16384 - FLAT_FRAME_HEADER)
#define FLAT_FRAME_TEXT_MAX ((size_t)400)
/* Of a body, what comes before `data`: OPEN's addresses are the longest. */
#define FLAT_FRAME_FIXED_MAX ((size_t)38)

enum flat_frame_type {
	FLAT_FRAME_HELLO = 1,  /* stream 0; the first of each side: version, window */
	FLAT_FRAME_OPEN = 2,   /* client: a stream to an address */
	FLAT_FRAME_ACCEPT = 3, /* server: it is open; text: who answers */
	FLAT_FRAME_REFUSE = 4, /* server: errno and text; the stream is over */
	FLAT_FRAME_DATA = 5,
	FLAT_FRAME_FIN = 6,    /* no byte follows in this direction */
	FLAT_FRAME_RESET = 7,  /* errno; the stream is over in both */
	FLAT_FRAME_CREDIT = 8, /* so many bytes more may be sent */
	FLAT_FRAME_PING = 9,   /* stream 0 */
	FLAT_FRAME_PONG = 10,
	FLAT_FRAME_GOAWAY = 11, /* stream 0: open no more streams here */
	FLAT_FRAME_VERBS = 12,	/* stream 0: going over to verbs (docs/design/verbs.md) */
};

/* What a VERBS frame says: its first byte. */
enum flat_frame_verbs {
	FLAT_VERBS_OFFER = 1,  /* client: the client's end of a connection */
	FLAT_VERBS_ANSWER = 2, /* server: its own; it is ready */
	FLAT_VERBS_REFUSE = 3, /* server: text */
	FLAT_VERBS_GO = 4,     /* what its sender says next goes by verbs */
};

/* OFFER, ANSWER: an end of a connection (wire/verbs.h). */
#define FLAT_FRAME_VERBS_END ((size_t)42)

struct flat_frame {
	enum flat_frame_type type;
	uint32_t stream;
	const uint8_t *
	    data; /* DATA, PING, PONG: the body; OPEN, ACCEPT, REFUSE: text, no NUL; VERBS: an end or text */
	size_t len; /* of `data`, bytes */
	uint32_t
	    number; /* HELLO: window; CREDIT: bytes; REFUSE, RESET: errno (Linux's, positive); VERBS: what */
	struct flat_addr to; /* OPEN */
	struct flat_addr from;
};

/**
 * Reads the frame at the start of `buf`. Its length in bytes; 0 when `len` bytes are not the whole; -EPROTO: no frame,
 * whatever follows. `f->data` points into `buf`.
 */
FLAT_MUST_CHECK ssize_t flat_frame_read(const uint8_t *buf, size_t len, struct flat_frame *f);

/** Writes `f` into `buf`, which has room for a header and FLAT_FRAME_BODY_MAX. Its length. `f->data` may lie in place. */
size_t flat_frame_write(const struct flat_frame *f, uint8_t *buf);

/** The errno of a number that came from a peer: one of those that connect() and recv() report, else ECONNRESET. */
int flat_frame_errno(uint32_t number);

#endif
