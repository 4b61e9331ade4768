/*
 * One token: a signed JWT in compact form (RFC 7519, RFC 7515). Reading it proves nothing; flat_jwks_verify() does.
 */
#ifndef FLAT_AUTHN_JWT_H
#define FLAT_AUTHN_JWT_H

#include "base/json_read.h"
#include "codec/http.h"

/* What one token's JSON may take in memory: that of the largest head, in the form that takes most. */
#define FLAT_JWT_MEMORY_MAX ((size_t)6 << 20)

/* What is said of a token. The texts are Envoy's (flat_jwt_status_text()), since clients may look at them. */
enum flat_jwt_status {
	FLAT_JWT_OK,
	FLAT_JWT_MISSED,
	FLAT_JWT_WAIT, /* the keys are on their way: ask again */
	FLAT_JWT_FORMAT,
	FLAT_JWT_HEADER_BASE64,
	FLAT_JWT_HEADER_JSON,
	FLAT_JWT_HEADER_ALG,
	FLAT_JWT_HEADER_ALG_UNKNOWN,
	FLAT_JWT_HEADER_KID,
	FLAT_JWT_HEADER_CRIT,
	FLAT_JWT_PAYLOAD_BASE64,
	FLAT_JWT_PAYLOAD_JSON,
	FLAT_JWT_ISS,
	FLAT_JWT_SUB,
	FLAT_JWT_IAT,
	FLAT_JWT_NBF,
	FLAT_JWT_EXP,
	FLAT_JWT_IAT_RANGE,
	FLAT_JWT_NBF_RANGE,
	FLAT_JWT_EXP_RANGE,
	FLAT_JWT_JTI,
	FLAT_JWT_AUD,
	FLAT_JWT_SIGNATURE_BASE64,
	FLAT_JWT_ED25519_LENGTH,
	FLAT_JWT_UNKNOWN_ISSUER,
	FLAT_JWT_NOT_YET,
	FLAT_JWT_EXPIRED,
	FLAT_JWT_AUDIENCE,
	FLAT_JWT_VERIFICATION,
	FLAT_JWT_NO_KEY,  /* none of this kid and alg */
	FLAT_JWT_NO_KEYS, /* the key set has none that can be used */
	FLAT_JWT_FETCH,	  /* the key set could not be had */
	FLAT_JWT_STATUSES,
};

enum flat_jwt_alg {
	FLAT_JWT_RS256,
	FLAT_JWT_RS384,
	FLAT_JWT_RS512,
	FLAT_JWT_PS256,
	FLAT_JWT_PS384,
	FLAT_JWT_PS512,
	FLAT_JWT_ES256,
	FLAT_JWT_ES384,
	FLAT_JWT_ES512,
	FLAT_JWT_EDDSA,
	FLAT_JWT_HMAC, /* known, and never verified: a public key is no secret */
	FLAT_JWT_ALGS,
};

/* Immutable after flat_jwt_read(). Owner: the control thread. */
struct flat_jwt {
	uint32_t refs;
	struct flat_pool pool;
	struct flat_span token;	  /* as it came */
	struct flat_span payload; /* its part of it, base64url */
	size_t signed_len;	  /* bytes of the token that the signature is of */
	const uint8_t *signature;
	size_t signature_len;
	enum flat_jwt_alg alg;
	const char *alg_name;
	const char *kid; /* NULL: none */
	const char *iss; /* "": none */
	const struct flat_json_node *claims;
	double nbf, exp; /* 0: none */
};

/**
 * Reads a token. FLAT_JWT_OK with *out (one reference), or what is wrong with it; memory failing is FLAT_JWT_FORMAT
 * likewise. Allocates.
 */
FLAT_MUST_CHECK enum flat_jwt_status flat_jwt_read(struct flat_span token, struct flat_jwt **out);

struct flat_jwt *flat_jwt_get(struct flat_jwt *jwt);
/** Drops a reference; NULL is nothing. */
void flat_jwt_put(struct flat_jwt *jwt);

/** Whether it is the time of the token: nbf and exp, 60 seconds of both being wrong allowed. `now_s`: Unix time. */
FLAT_MUST_CHECK enum flat_jwt_status flat_jwt_time(const struct flat_jwt *jwt, int64_t now_s);

/** Whether one of its audiences is one of `v`, scheme and a last slash left aside as Envoy does. n 0: any is. */
bool flat_jwt_audience(const struct flat_jwt *jwt, const char *const *v, uint32_t n);

/** Envoy's words: "Jwt is expired", ... */
const char *flat_jwt_status_text(enum flat_jwt_status status);

#endif
