/*
 * Where what is to be sent is written: bytes that are taken from the front, and a BIO over them for the handshake. OpenSSL's own,
 * in memory, moves what is left at each write, and clears all of it when it is empty.
 */
#ifndef FLAT_WIRE_OUTBOX_H
#define FLAT_WIRE_OUTBOX_H

#include <openssl/bio.h>

#include "base/base.h"

/* Owner: its link. Zeroed before flat_outbox_open(). */
struct flat_outbox {
	uint8_t *v;
	size_t at; /* bytes before it were taken */
	size_t len;
	size_t cap;
};

/** A BIO that writes into `o`, which outlives it; reads nothing. Its user frees it. NULL without memory. */
BIO *flat_outbox_open(struct flat_outbox *o);
/** After its BIO. */
void flat_outbox_fini(struct flat_outbox *o);

/** Where `len` bytes that come next are to be put, until the next write; NULL without memory. */
uint8_t *flat_outbox_reserve(struct flat_outbox *o, size_t len);
/** So many of them are there. */
void flat_outbox_commit(struct flat_outbox *o, size_t len);

/** Bytes that wait, in *bytes until the next write. */
size_t flat_outbox_bytes(const struct flat_outbox *o, const uint8_t **bytes);
static inline size_t flat_outbox_pending(const struct flat_outbox *o)
{
	return o->len - o->at;
}
/** So many were taken; not more than there are. */
void flat_outbox_take(struct flat_outbox *o, size_t len);

#endif
