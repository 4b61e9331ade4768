/*
 * Where a TLS session writes what is to be sent: a BIO over bytes that are taken from the front. OpenSSL's own, in memory, moves
 * what is left at each write, and clears all of it when it is empty.
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

/** Bytes that wait, in *bytes until the next write. */
size_t flat_outbox_bytes(const struct flat_outbox *o, const uint8_t **bytes);
/** So many were taken; not more than there are. */
void flat_outbox_take(struct flat_outbox *o, size_t len);

#endif
