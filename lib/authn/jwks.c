#include "authn/jwks.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include "authn/base64url.h"

/* RFC 7518, 3.3 and 3.4: 2048 bits or more; more than 8192 takes milliseconds. */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
/* No exponent in use is larger, and a large one is slow. */
#define RSA_EXPONENT_BITS_MAX 33

enum key_type {
	KEY_RSA,
	KEY_P256,
	KEY_P384,
	KEY_P521,
	KEY_ED25519,
};

struct key {
	char *kid; /* NULL: none */
	char *alg;
	enum key_type type;
	EVP_PKEY *pkey;
};

struct flat_jwks {
	uint32_t n;
	struct key keys[];
};

/* What an algorithm is made of. */
static const struct {
	const char *digest; /* NULL: its own */
	bool pss;
	enum key_type type;
	size_t half; /* bytes of one of the two numbers of a signature */
} algs[FLAT_JWT_ALGS] = {
    [FLAT_JWT_RS256] = {"SHA256", false, KEY_RSA, 0},
    [FLAT_JWT_RS384] = {"SHA384", false, KEY_RSA, 0},
    [FLAT_JWT_RS512] = {"SHA512", false, KEY_RSA, 0},
    [FLAT_JWT_PS256] = {"SHA256", true, KEY_RSA, 0},
    [FLAT_JWT_PS384] = {"SHA384", true, KEY_RSA, 0},
    [FLAT_JWT_PS512] = {"SHA512", true, KEY_RSA, 0},
    [FLAT_JWT_ES256] = {"SHA256", false, KEY_P256, 32},
    [FLAT_JWT_ES384] = {"SHA384", false, KEY_P384, 48},
    [FLAT_JWT_ES512] = {"SHA512", false, KEY_P521, 66},
    [FLAT_JWT_EDDSA] = {NULL, false, KEY_ED25519, 0},
};

static const struct {
	const char *crv;
	const char *group;
	size_t bytes; /* of a coordinate */
} curves[] = {
    [KEY_P256] = {"P-256", "prime256v1", 32},
    [KEY_P384] = {"P-384", "secp384r1", 48},
    [KEY_P521] = {"P-521", "secp521r1", 66},
};

/* --- reading --- */

/* A base64url member's bytes. Returns their number; 0: there is none. */
static size_t member_bytes(const struct flat_json_node *node, const char *name, uint8_t *out,
			   size_t size)
{
	const struct flat_json_node *member = flat_json_member(node, name);
	ssize_t n;

	if (!member || member->kind != FLAT_JSON_TEXT || member->len * 3 / 4 + 1 > size)
		return 0;
	n = flat_base64url_decode(member->text, member->len, out);
	return n < 0 ? 0 : (size_t)n;
}

static EVP_PKEY *pkey_from(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static EVP_PKEY *read_rsa(const struct flat_json_node *node)
{
	uint8_t bytes[RSA_BITS_MAX / 8 + 8];
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *pkey = NULL;
	BIGNUM *n, *e;
	size_t len = member_bytes(node, "n", bytes, sizeof(bytes));

	n = BN_bin2bn(bytes, (int)len, NULL);
	len = member_bytes(node, "e", bytes, sizeof(bytes));
	e = BN_bin2bn(bytes, (int)len, NULL);
	if (build && n && e && BN_num_bits(n) >= RSA_BITS_MIN && BN_num_bits(n) <= RSA_BITS_MAX &&
	    BN_is_odd(n) && BN_is_odd(e) && !BN_is_one(e) &&
	    BN_num_bits(e) <= RSA_EXPONENT_BITS_MAX &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1) {
		params = OSSL_PARAM_BLD_to_param(build);
		pkey = pkey_from("RSA", params);
	}
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	BN_free(n);
	BN_free(e);
	return pkey;
}

static EVP_PKEY *read_ec(const struct flat_json_node *node, enum key_type *type)
{
	const char *crv = flat_json_member_text(node, "crv");
	uint8_t point[1 + 2 * 72];
	OSSL_PARAM params[3];
	size_t bytes;

	for (*type = KEY_P256; crv && *type <= KEY_P521; (*type)++) {
		if (strcmp(crv, curves[*type].crv) == 0)
			break;
	}
	if (!crv || *type > KEY_P521)
		return NULL;
	/* RFC 7518, 6.2.1.2: the full size of a coordinate. Not compressed, and OpenSSL looks whether it is on the curve. */
	bytes = curves[*type].bytes;
	point[0] = 4;
	if (member_bytes(node, "x", point + 1, bytes + 1) != bytes ||
	    member_bytes(node, "y", point + 1 + bytes, bytes + 1) != bytes)
		return NULL;
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
						     (char *)(uintptr_t)curves[*type].group, 0);
	params[1] =
	    OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * bytes);
	params[2] = OSSL_PARAM_construct_end();
	return pkey_from("EC", params);
}

static EVP_PKEY *read_okp(const struct flat_json_node *node)
{
	const char *crv = flat_json_member_text(node, "crv");
	uint8_t x[34];

	if (!crv || strcmp(crv, "Ed25519") != 0 || member_bytes(node, "x", x, sizeof(x)) != 32)
		return NULL;
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, 32);
}

static bool copy_text(const struct flat_json_node *node, const char *name, char **out)
{
	const char *text = flat_json_member_text(node, name);

	*out = text ? strdup(text) : NULL;
	return !flat_json_member(node, name) || *out;
}

static void key_free(struct key *key)
{
	free(key->kid);
	free(key->alg);
	EVP_PKEY_free(key->pkey);
	memset(key, 0, sizeof(*key));
}

/* False: it is none that we can use. */
static bool read_key(const struct flat_json_node *node, struct key *key)
{
	const char *kty = flat_json_member_text(node, "kty");
	const char *use = flat_json_member_text(node, "use");

	if (!kty || (use && strcmp(use, "sig") != 0) || !copy_text(node, "kid", &key->kid) ||
	    !copy_text(node, "alg", &key->alg))
		return false;
	if (strcmp(kty, "RSA") == 0) {
		key->type = KEY_RSA;
		key->pkey = read_rsa(node);
	} else if (strcmp(kty, "EC") == 0) {
		key->pkey = read_ec(node, &key->type);
	} else if (strcmp(kty, "OKP") == 0) {
		key->type = KEY_ED25519;
		key->pkey = read_okp(node);
	}
	return key->pkey != NULL;
}

enum flat_jwt_status flat_jwks_read(const char *text, size_t len, struct flat_jwks **out)
{
	struct flat_pool pool = {.limit_bytes = 64 * FLAT_JWKS_BYTES_MAX};
	const struct flat_json_node *root = NULL, *keys = NULL;
	struct flat_jwks *jwks = calloc(1, sizeof(*jwks) + FLAT_JWKS_KEYS_MAX * sizeof(struct key));

	*out = NULL;
	if (jwks && len <= FLAT_JWKS_BYTES_MAX && flat_json_read(text, len, &pool, &root) == 0)
		keys = flat_json_member(root, "keys");
	if (keys && keys->kind == FLAT_JSON_LIST)
		keys = keys->first;
	else
		keys = NULL;
	for (; keys && jwks->n < FLAT_JWKS_KEYS_MAX; keys = keys->next) {
		if (read_key(keys, &jwks->keys[jwks->n]))
			jwks->n++;
		else
			key_free(&jwks->keys[jwks->n]);
	}
	ERR_clear_error();
	flat_pool_fini(&pool);
	if (!jwks || jwks->n == 0) {
		flat_jwks_free(jwks);
		return FLAT_JWT_NO_KEYS;
	}
	*out = jwks;
	return FLAT_JWT_OK;
}

void flat_jwks_free(struct flat_jwks *jwks)
{
	if (!jwks)
		return;
	for (uint32_t i = 0; i < jwks->n; i++)
		key_free(&jwks->keys[i]);
	free(jwks);
}

uint32_t flat_jwks_n(const struct flat_jwks *jwks)
{
	return jwks->n;
}

/* --- verifying --- */

/* RFC 7518, 3.4: two numbers of full size one after the other; OpenSSL wants them in DER. Its size, or 0. */
static size_t ecdsa_der(const struct flat_jwt *jwt, size_t half, uint8_t **der)
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(jwt->signature, (int)half, NULL);
	BIGNUM *s = BN_bin2bn(jwt->signature + half, (int)half, NULL);
	int len = 0;

	*der = NULL;
	if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
		r = s = NULL;
		len = i2d_ECDSA_SIG(sig, der);
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return len > 0 ? (size_t)len : 0;
}

static bool verify(EVP_PKEY *pkey, const struct flat_jwt *jwt, const uint8_t *sig, size_t len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	bool good = ctx && EVP_DigestVerifyInit_ex(ctx, &pctx, algs[jwt->alg].digest, NULL, NULL,
						   pkey, NULL) == 1;

	/* RFC 7518, 3.5: the salt is as long as the digest. */
	if (good && algs[jwt->alg].pss)
		good = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
		       EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	good = good && EVP_DigestVerify(ctx, sig, len, (const uint8_t *)jwt->token.text,
					jwt->signed_len) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return good;
}

static bool verify_with(const struct key *key, const struct flat_jwt *jwt)
{
	size_t half = algs[jwt->alg].half;
	uint8_t *der = NULL;
	size_t len;
	bool good;

	/* The key says what it is for: a token's alg never makes it something else. */
	if (jwt->alg == FLAT_JWT_HMAC || key->type != algs[jwt->alg].type)
		return false;
	if (half == 0)
		return verify(key->pkey, jwt, jwt->signature, jwt->signature_len);
	if (jwt->signature_len != 2 * half)
		return false;
	len = ecdsa_der(jwt, half, &der);
	good = len > 0 && verify(key->pkey, jwt, der, len);
	OPENSSL_free(der);
	return good;
}

enum flat_jwt_status flat_jwks_verify(const struct flat_jwks *jwks, const struct flat_jwt *jwt)
{
	enum flat_jwt_status status = FLAT_JWT_NO_KEY;

	for (uint32_t i = 0; i < jwks->n; i++) {
		const struct key *key = &jwks->keys[i];

		if (jwt->kid && key->kid && strcmp(jwt->kid, key->kid) != 0)
			continue;
		if (key->alg && strcmp(jwt->alg_name, key->alg) != 0)
			continue;
		status = FLAT_JWT_VERIFICATION;
		if (key->type == KEY_ED25519 && jwt->alg == FLAT_JWT_EDDSA &&
		    jwt->signature_len != 64)
			return FLAT_JWT_ED25519_LENGTH;
		if (verify_with(key, jwt))
			return FLAT_JWT_OK;
	}
	return status;
}
