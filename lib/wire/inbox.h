/*
 * Where a TLS session reads what came: a BIO over bytes of whoever has received them. OpenSSL's own, in memory, takes a copy of
 * them first, and clears the place for it before.
 */
#ifndef FLAT_WIRE_INBOX_H
#define FLAT_WIRE_INBOX_H

#include <openssl/bio.h>

#include "base/base.h"

/* Owner: its link. Zeroed before flat_inbox_open(). */
struct flat_inbox {
	const uint8_t *v; /* borrowed */
	size_t len;
};

/** A BIO that reads from `in`, which outlives it; writes nothing. When there is no byte it asks to retry. Its user frees it. NULL
 * without memory. */
BIO *flat_inbox_open(struct flat_inbox *in);

#endif
