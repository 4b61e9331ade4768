#include "support_jwt.h"

#include <criterion/criterion.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <string.h>

#include "authn/base64url.h"

static void encode(const void *bytes, size_t len, char *out)
{
	out[flat_base64url_encode(bytes, len, out)] = 0;
}

/* Adds a part, after a dot unless it is the first. */
static void part(const void *bytes, size_t len, char *out)
{
	size_t at = strlen(out);
	if (at > 0)
		out[at++] = '.';
	encode(bytes, len, out + at);
}

static const char *curve_of(const char *alg)
{
	return strcmp(alg, "ES256") == 0 ? "P-256" : strcmp(alg, "ES384") == 0 ? "P-384" : "P-521";
}

static int half_of(const char *alg)
{
	return strcmp(alg, "ES256") == 0 ? 32 : strcmp(alg, "ES384") == 0 ? 48 : 66;
}

static void number(EVP_PKEY *pkey, const char *name, int size, char *out)
{
	BIGNUM *n = NULL;
	unsigned char bytes[1024];
	cr_assert(EVP_PKEY_get_bn_param(pkey, name, &n));
	size = size ? size : BN_num_bytes(n);
	cr_assert_eq(BN_bn2binpad(n, bytes, size), size);
	encode(bytes, (size_t)size, out);
	BN_free(n);
}

void signer_init(struct signer *s, const char *alg, const char *kid)
{
	char a[1400];
	char b[200];
	s->alg = alg;
	if (alg[0] == 'R' || alg[0] == 'P') {
		s->pkey = EVP_RSA_gen(2048);
		number(s->pkey, OSSL_PKEY_PARAM_RSA_N, 0, a);
		number(s->pkey, OSSL_PKEY_PARAM_RSA_E, 0, b);
		snprintf(s->jwk, sizeof(s->jwk),
			 "{\"kty\":\"RSA\",\"kid\":\"%s\",\"n\":\"%s\",\"e\":\"%s\"}", kid, a, b);
	} else if (strcmp(alg, "EdDSA") == 0) {
		unsigned char raw[32];
		size_t len = sizeof(raw);
		s->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		cr_assert(EVP_PKEY_get_raw_public_key(s->pkey, raw, &len));
		encode(raw, len, a);
		snprintf(s->jwk, sizeof(s->jwk),
			 "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"%s\",\"x\":\"%s\"}", kid,
			 a);
	} else {
		s->pkey = EVP_EC_gen(curve_of(alg));
		number(s->pkey, OSSL_PKEY_PARAM_EC_PUB_X, half_of(alg), a);
		number(s->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, half_of(alg), b);
		snprintf(s->jwk, sizeof(s->jwk),
			 "{\"kty\":\"EC\",\"crv\":\"%s\",\"kid\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"}",
			 curve_of(alg), kid, a, b);
	}
	cr_assert(s->pkey);
}

void signer_fini(struct signer *s)
{
	EVP_PKEY_free(s->pkey);
}

/* DER to two numbers of full size. */
static size_t raw_ecdsa(const char *alg, const unsigned char *der, size_t len, unsigned char *raw)
{
	int half = half_of(alg);
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
	cr_assert(sig);
	cr_assert_eq(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, half), half);
	cr_assert_eq(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + half, half), half);
	ECDSA_SIG_free(sig);
	return 2 * (size_t)half;
}

char *signed_token(const struct signer *s, const char *header, const char *payload)
{
	char *out = calloc(1, (strlen(header) + strlen(payload)) * 2 + 2048);
	unsigned char der[1024];
	unsigned char raw[1024];
	size_t len = sizeof(der);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	char digest[8];
	snprintf(digest, sizeof(digest), "SHA%s", s->alg + 2);
	part(header, strlen(header), out);
	part(payload, strlen(payload), out);
	cr_assert(EVP_DigestSignInit_ex(ctx, &pctx,
					s->alg[0] == 'E' && s->alg[1] == 'd' ? NULL : digest, NULL,
					NULL, s->pkey, NULL));
	if (s->alg[0] == 'P') {
		EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
		EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST);
	}
	cr_assert(EVP_DigestSign(ctx, der, &len, (unsigned char *)out, strlen(out)));
	EVP_MD_CTX_free(ctx);
	if (s->alg[0] == 'E' && s->alg[1] == 'S')
		len = raw_ecdsa(s->alg, der, len, raw);
	else
		memcpy(raw, der, len);
	part(raw, len, out);
	return out;
}

char *token_of(const char *header, const char *payload, const char *signature, size_t len)
{
	char *out = calloc(1, (strlen(header) + strlen(payload) + len) * 2 + 64);
	part(header, strlen(header), out);
	part(payload, strlen(payload), out);
	part(signature, len, out);
	return out;
}
