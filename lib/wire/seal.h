/*
 * One direction of TLS 1.3's record protection (RFC 8446, 5.2 and 7.3): keys from a traffic secret, sequence numbers, one AEAD
 * call for each record, from one place in memory to another. Bytes in, bytes out. One thread.
 */
#ifndef FLAT_WIRE_SEAL_H
#define FLAT_WIRE_SEAL_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/base.h"

#define FLAT_SEAL_HEADER ((size_t)5)
#define FLAT_SEAL_TAG ((size_t)16)
#define FLAT_SEAL_IV ((size_t)12)
#define FLAT_SEAL_KEY_MAX ((size_t)32)
/* Of the hashes that suites name: SHA-384's. */
#define FLAT_SEAL_SECRET_MAX ((size_t)48)
/* What one record says, and that with its type (RFC 8446, 5.1 and 5.2). */
#define FLAT_SEAL_CONTENT_MAX ((size_t)16384)
#define FLAT_SEAL_INNER_MAX (FLAT_SEAL_CONTENT_MAX + 1)

enum flat_seal_cipher {
	FLAT_SEAL_AES128_GCM,
	FLAT_SEAL_AES256_GCM,
	FLAT_SEAL_CHACHA20_POLY1305,
};

/** A way to do AEAD. `key` is what _key() made. */
struct flat_seal_ops {
	const char *name;
	bool (*knows)(enum flat_seal_cipher cipher);
	/** NULL without memory. */
	void *(*key)(enum flat_seal_cipher cipher, const uint8_t *key, bool encrypts);
	/** Encrypts the bytes of in[0..n_in-1] and the type behind them into `out`, then the tag. */
	bool (*seal)(void *key, const uint8_t *iv, const uint8_t *header, const struct iovec *in,
		     int n_in, uint8_t type, uint8_t *out);
	/** Decrypts `len` bytes, behind which the tag lies, into `out`. False: the tag is another; `out` is to be forgotten. */
	bool (*open)(void *key, const uint8_t *iv, const uint8_t *header, const uint8_t *in,
		     size_t len, uint8_t *out);
	void (*forget)(void *key);
};

/** OpenSSL's: knows all ciphers. */
extern const struct flat_seal_ops flat_seal_evp;
/** Intel's multi-buffer library where the processor has VAES, three times as fast as OpenSSL 3.0; NULL: not here. */
const struct flat_seal_ops *flat_seal_mb(void);

struct flat_seal_suite;

/* Zeroed before flat_seal_init(). */
struct flat_seal {
	const struct flat_seal_ops *ops; /* NULL: there is no key */
	const struct flat_seal_suite *suite;
	void *key;
	uint64_t records; /* under this key: the next one's sequence number */
	bool encrypts;
	uint8_t iv[FLAT_SEAL_IV];
	uint8_t secret[FLAT_SEAL_SECRET_MAX];
};

/**
 * suite: its number (RFC 8446, B.4); secret: of its hash's length, `len` bytes. ops: NULL for the fastest. 0; -EINVAL: it is
 * another's secret, or no suite of TLS 1.3; -ENOMEM.
 */
FLAT_MUST_CHECK int flat_seal_init(struct flat_seal *s, const struct flat_seal_ops *ops,
				   uint16_t suite, const uint8_t *secret, size_t len,
				   bool encrypts);
/** Forgets keys. Safe on a zeroed one. */
void flat_seal_fini(struct flat_seal *s);
/** On to the next secret (RFC 8446, 7.2). 0 or -ENOMEM: there is no key any more. */
FLAT_MUST_CHECK int flat_seal_update(struct flat_seal *s);

/** Writes a record of `len` bytes (to FLAT_SEAL_CONTENT_MAX) at `out`, which overlaps nothing: its length, or 0: it failed. */
FLAT_MUST_CHECK size_t flat_seal_record(struct flat_seal *s, uint8_t type, const uint8_t *bytes,
					size_t len, uint8_t *out);
/** Likewise of bytes that lie in in[0..n_in-1]. */
FLAT_MUST_CHECK size_t flat_seal_gather(struct flat_seal *s, uint8_t type, const struct iovec *in,
					int n_in, uint8_t *out);
/** How long a record of `len` bytes is. */
static inline size_t flat_seal_length(size_t len)
{
	return FLAT_SEAL_HEADER + len + 1 + FLAT_SEAL_TAG;
}
/**
 * The record whose header and body lie at `bytes`, with `len` bytes of body behind the header, into `out` (FLAT_SEAL_INNER_MAX).
 * Bytes of content, and in *type what they are; -EBADMSG: the tag is wrong; -EPROTO: it has no type. May read what lies
 * there more than once: who can change it has the key.
 */
FLAT_MUST_CHECK ssize_t flat_seal_open(struct flat_seal *s, const uint8_t *bytes, size_t len,
				       uint8_t *out, uint8_t *type);

#endif
