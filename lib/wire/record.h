/*
 * A TLS 1.3 connection after its handshake: records in, content out, and back (RFC 8446, 4.6, 5, 6). OpenSSL shakes hands, and
 * tells its secrets as it would for a key log; from then on records are ours, without OpenSSL's copies. Keys are renewed,
 * alerts told, tickets passed over. Bytes in, bytes out. One thread.
 */
#ifndef FLAT_WIRE_RECORD_H
#define FLAT_WIRE_RECORD_H

#include "wire/inbox.h"
#include "wire/outbox.h"
#include "wire/seal.h"

/* AES-GCM keeps its margin for 2^24.5 records under one key (RFC 8446, 5.5). */
#define FLAT_RECORDS_PER_KEY ((uint64_t)1 << 23)

/* What a handshake tells: secrets of the client's and the server's direction. */
struct flat_secrets {
	uint8_t v[2][FLAT_SEAL_SECRET_MAX];
	size_t len[2]; /* 0: not told yet */
};

/* Zeroed before flat_records_begin(). */
struct flat_records {
	struct flat_seal in;
	struct flat_seal out;
	bool tickets;	  /* the peer is the server, which may send some */
	bool renews;	  /* the peer asked for our next key */
	bool closed;	  /* the peer said that it sends nothing more */
	uint8_t empty;	  /* records without content in a row */
	uint8_t updates;  /* of the peer's key, without content between */
	uint8_t n_head;	  /* bytes of the next handshake message's header */
	uint8_t head[4];  /* type, length */
	uint32_t passing; /* bytes of a message that are passed over */
	size_t n_part;	  /* of a record that came in pieces */
	uint8_t *part;	  /* NULL: none ever did */
	const char *why;  /* why it failed */
};

/** A line of a key log (SSL_CTX_set_keylog_callback): takes the secret, if it is one of those. */
void flat_secrets_take(struct flat_secrets *s, const char *line);
void flat_secrets_forget(struct flat_secrets *s);

/** After the handshake, with its suite's number. 0; -EINVAL: no secrets were told, or no such suite; -ENOMEM. */
FLAT_MUST_CHECK int flat_records_begin(struct flat_records *r, const struct flat_secrets *secrets,
				       uint16_t suite, bool server);
/** Safe on a zeroed one. */
void flat_records_fini(struct flat_records *r);

/**
 * The next record's content from what is in `in`, into `buf` with room for FLAT_SEAL_INNER_MAX: its length, 1 at least.
 * -EAGAIN: no whole record is there, `in` is empty. Else it is over: 0: the peer closed; -ECONNRESET: it said why, or -EPROTO:
 * it broke the rules, both in r->why, the latter said to it by `out`; -ENOMEM.
 */
FLAT_MUST_CHECK ssize_t flat_records_read(struct flat_records *r, struct flat_inbox *in,
					  uint8_t *buf, struct flat_outbox *out);
/** Writes `len` bytes in as many records as they take. 0 or -ENOMEM: nothing can be written any more. */
FLAT_MUST_CHECK int flat_records_write(struct flat_records *r, const uint8_t *bytes, size_t len,
				       struct flat_outbox *out);
/** Writes one record of the bytes in in[0..n_in-1], 1 to FLAT_SEAL_CONTENT_MAX of them. As flat_records_write(). */
FLAT_MUST_CHECK int flat_records_gather(struct flat_records *r, const struct iovec *in, int n_in,
					struct flat_outbox *out);
/** Says that nothing more follows. */
void flat_records_close(struct flat_records *r, struct flat_outbox *out);

#endif
