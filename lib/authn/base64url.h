/* base64url without padding (RFC 7515, appendix C): the one spelling of each value; every other is refused. And base64, to be written. */
#ifndef FLAT_AUTHN_BASE64URL_H
#define FLAT_AUTHN_BASE64URL_H

#include <sys/types.h>

#include "base/base.h"

/**
 * Decodes `len` characters into `out`, of (len * 3 / 4) bytes at least. Returns the bytes written, or -EBADMSG: a
 * character that is none of it, a length that none has, or bits left over that are not zero.
 */
FLAT_MUST_CHECK ssize_t flat_base64url_decode(const char *text, size_t len, uint8_t *out);

/** Encodes `len` bytes into `out`, of (len * 4 + 2) / 3 characters, without NUL. Returns their number. */
size_t flat_base64url_encode(const uint8_t *bytes, size_t len, char *out);

/** Likewise in the usual base64 (RFC 4648, 4), padded: (len + 2) / 3 * 4 characters and a NUL. */
size_t flat_base64_encode(const uint8_t *bytes, size_t len, char *out);

#endif
