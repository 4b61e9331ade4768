/*
 * The first message of a TLS client, read without taking part: which server it asks for. The bytes stay as they are, and go
 * on to whoever ends TLS. Strict: what two readers could understand in two ways is no ClientHello here, so that a rule about a
 * name is a rule about what the server will read.
 */
#ifndef FLAT_WIRE_HELLO_H
#define FLAT_WIRE_HELLO_H

#include "base/base.h"

/* Bytes of the message with the headers of its records: what Envoy reads at most. With the keys of post-quantum exchanges a
 * browser sends 1.8 KiB. */
#define FLAT_HELLO_MAX ((size_t)16 * 1024)
/* RFC 1035, 2.3.4, and its NUL. */
#define FLAT_HELLO_HOST_SIZE 256

/* Zeroed before the first use. */
struct flat_hello {
	size_t at;   /* bytes of records that are whole */
	size_t have; /* of the message in them */
	size_t need; /* of the message; 0: not known yet */
	char
	    host[FLAT_HELLO_HOST_SIZE]; /* once it is read: in lower case; "" where none is named */
};

/**
 * Reads on in `bytes`: all that came so far, the first `len` of the connection. 0: h->host is there; what follows the message
 * is not looked at. -EAGAIN: more is needed; -EPROTO: that is no ClientHello (RFC 8446, 4.1.2; RFC 6066, 3); -EMSGSIZE: it is
 * longer than FLAT_HELLO_MAX. Any split of the bytes over several calls comes to the same.
 */
FLAT_MUST_CHECK int flat_hello_read(struct flat_hello *h, const uint8_t *bytes, size_t len);

#endif
