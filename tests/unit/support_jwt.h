/* Keys and tokens of our own making in tests. */
#ifndef FLAT_TESTS_SUPPORT_JWT_H
#define FLAT_TESTS_SUPPORT_JWT_H

#include <openssl/evp.h>

#include "authn/jwt.h"

struct signer {
	const char *alg; /* RS256, ..., EdDSA */
	EVP_PKEY *pkey;
	char jwk[2048]; /* its public half, with `kid` and without alg */
};

/** A new key for an algorithm. */
void signer_init(struct signer *s, const char *alg, const char *kid);
void signer_fini(struct signer *s);

/** A token of these two texts as they are, signed as s->alg says. The caller frees it. */
char *signed_token(const struct signer *s, const char *header, const char *payload);

/** HEADER.PAYLOAD.SIGNATURE of three texts, each encoded. The caller frees it. */
char *token_of(const char *header, const char *payload, const char *signature, size_t len);

#endif
