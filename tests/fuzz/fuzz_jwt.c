/*
 * Any bytes as JSON, as a key set, and as a token: what is taken as JSON is a tree within its bounds whose names are
 * each there once; base64url has one spelling; no token is good that our key did not sign. The first byte says which.
 * Seeds: corpus/jwt.
 */
#include <stdlib.h>
#include <string.h>

#include "authn/base64url.h"
#include "authn/jwks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* Counts the values of a tree, and finds each name again by itself. */
static size_t walk(const struct flat_json_node *node, unsigned depth)
{
	size_t n = 1;

	require(depth <= FLAT_JSON_READ_DEPTH_MAX);
	if (node->kind == FLAT_JSON_TEXT || node->kind == FLAT_JSON_NUMBER)
		require(strlen(node->text) == node->len);
	for (const struct flat_json_node *in = node->first; in; in = in->next) {
		if (node->kind == FLAT_JSON_OBJECT)
			require(flat_json_member(node, in->name) == in);
		n += walk(in, depth + 1);
	}
	return n;
}

static void check_json(const uint8_t *data, size_t size)
{
	struct flat_pool pool = {.limit_bytes = 1 << 20};
	const struct flat_json_node *root;

	if (flat_json_read((const char *)data, size, &pool, &root) == 0)
		require(walk(root, 0) <= size);
	flat_pool_fini(&pool);
}

static void check_base64url(const uint8_t *data, size_t size)
{
	uint8_t bytes[4096];
	char text[6000];
	ssize_t n;

	if (size > sizeof(bytes))
		return;
	n = flat_base64url_decode((const char *)data, size, bytes);
	if (n >= 0)
		require(flat_base64url_encode(bytes, (size_t)n, text) == size &&
			memcmp(text, data, size) == 0);
}

static void check_token(const uint8_t *data, size_t size)
{
	/* RFC 8037, A.2: whoever can make a signature of it has more than a fuzzer. */
	static const char keys[] =
	    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
	    "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
	static struct flat_jwks *jwks;
	struct flat_jwt *jwt;

	if (!jwks)
		require(flat_jwks_read(keys, sizeof(keys) - 1, &jwks) == FLAT_JWT_OK);
	if (flat_jwt_read((struct flat_span){(const char *)data, size}, &jwt) != FLAT_JWT_OK)
		return;
	require(jwt->signed_len < size && jwt->claims->kind == FLAT_JSON_OBJECT);
	(void)walk(jwt->claims, 0);
	require(flat_jwt_audience(jwt, NULL, 0));
	require(flat_jwks_verify(jwks, jwt) != FLAT_JWT_OK);
	flat_jwt_put(jwt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_jwks *jwks;

	if (size == 0)
		return 0;
	check_base64url(data + 1, size - 1);
	switch (data[0] % 3) {
	case 0:
		check_json(data + 1, size - 1);
		break;
	case 1:
		if (flat_jwks_read((const char *)data + 1, size - 1, &jwks) == FLAT_JWT_OK)
			flat_jwks_free(jwks);
		break;
	default:
		check_token(data + 1, size - 1);
	}
	return 0;
}
