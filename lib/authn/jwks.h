/* A set of public keys (RFC 7517), and whether a token was signed with one of them (RFC 7518, RFC 8037). */
#ifndef FLAT_AUTHN_JWKS_H
#define FLAT_AUTHN_JWKS_H

#include "authn/jwt.h"

/* Bytes of a key set: a hundred certificates' worth. */
#define FLAT_JWKS_BYTES_MAX ((size_t)1 << 20)
/* Keys of a set: each may be tried for a token without key id. */
#define FLAT_JWKS_KEYS_MAX 100U

struct flat_jwks;

/**
 * Reads a key set. Keys that cannot be used are left out: unknown types, RSA below 2048 bits or above 8192, points
 * that are not on their curve, use other than "sig". FLAT_JWT_OK with *out, or FLAT_JWT_NO_KEYS: there is none left.
 */
FLAT_MUST_CHECK enum flat_jwt_status flat_jwks_read(const char *text, size_t len,
						    struct flat_jwks **out);
void flat_jwks_free(struct flat_jwks *jwks);

uint32_t flat_jwks_n(const struct flat_jwks *jwks);

/**
 * Whether one of the keys made the signature: of the token's kid where both name one, of its alg where the key names
 * one, and of the type that the alg is for. OK, VERIFICATION, NO_KEY, ED25519_LENGTH. Tens of microseconds.
 */
FLAT_MUST_CHECK enum flat_jwt_status flat_jwks_verify(const struct flat_jwks *jwks,
						      const struct flat_jwt *jwt);

#endif
