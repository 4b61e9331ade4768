/* Tokens and keys: RFC 7515 (appendix A), RFC 7518, RFC 7519, RFC 8037, and what attackers make of them (RFC 8725). */
#include <criterion/criterion.h>
#include <string.h>

#include "authn/base64url.h"
#include "authn/jwks.h"
#include "support_jwt.h"

#define PAYLOAD "{\"iss\":\"i\",\"sub\":\"s\"}"

static enum flat_jwt_status read_status(const char *token)
{
	struct flat_jwt *jwt;
	enum flat_jwt_status status = flat_jwt_read(flat_span_of(token), &jwt);
	flat_jwt_put(jwt);
	return status;
}

static enum flat_jwt_status status_of(const char *header, const char *payload)
{
	char *token = token_of(header, payload, "sig", 3);
	enum flat_jwt_status status = read_status(token);
	free(token);
	return status;
}

static enum flat_jwt_status verify(const char *keys, const char *token)
{
	struct flat_jwks *jwks;
	struct flat_jwt *jwt;
	enum flat_jwt_status status = flat_jwks_read(keys, strlen(keys), &jwks);
	cr_assert_eq(status, FLAT_JWT_OK, "keys %s", keys);
	status = flat_jwt_read(flat_span_of(token), &jwt);
	if (status == FLAT_JWT_OK)
		status = flat_jwks_verify(jwks, jwt);
	flat_jwt_put(jwt);
	flat_jwks_free(jwks);
	return status;
}

static void keys_of(const struct signer *s, char keys[4096])
{
	snprintf(keys, 4096, "{\"keys\":[%s]}", s->jwk);
}

/* RFC 7515, A.2 and A.3. */
static const char rfc_payload[] = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
				  "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
static const char rs256_key[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPdd"
    "xHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9w"
    "Gzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlx"
    "vb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW"
    "yuXpoQ\",\"e\":\"AQAB\"}]}";
static const char rs256_sig[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5j"
    "ujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L"
    "07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEU"
    "ipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
static const char es256_key[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
				"\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVE"
				"U\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
static const char es256_sig[] =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

Test(jwt, verifies_the_rfc_examples)
{
	char token[1024];
	snprintf(token, sizeof(token), "eyJhbGciOiJSUzI1NiJ9.%s.%s", rfc_payload, rs256_sig);
	cr_assert_eq(verify(rs256_key, token), FLAT_JWT_OK);
	token[strlen(token) - 2] ^= 1;
	cr_assert_eq(verify(rs256_key, token), FLAT_JWT_VERIFICATION);
	snprintf(token, sizeof(token), "eyJhbGciOiJFUzI1NiJ9.%s.%s", rfc_payload, es256_sig);
	cr_assert_eq(verify(es256_key, token), FLAT_JWT_OK);
	cr_assert_eq(verify(rs256_key, token), FLAT_JWT_VERIFICATION);
}

Test(jwt, verifies_each_algorithm_and_no_other_signature)
{
	static const char *const algs[] = {"RS256", "RS384", "RS512", "PS256", "PS384",
					   "PS512", "ES256", "ES384", "ES512", "EdDSA"};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(algs); i++) {
		struct signer s;
		char keys[4096];
		char header[64];
		signer_init(&s, algs[i], "k");
		keys_of(&s, keys);
		snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[i]);
		char *token = signed_token(&s, header, PAYLOAD);
		cr_assert_eq(verify(keys, token), FLAT_JWT_OK, "%s", algs[i]);
		/* One bit of the payload, of the signature; the signature cut. */
		char *dot = strchr(token, '.');
		dot[9] = dot[9] == 'A' ? 'B' : 'A';
		cr_assert_neq(verify(keys, token), FLAT_JWT_OK, "%s", algs[i]);
		free(token);
		token = signed_token(&s, header, PAYLOAD);
		char *sig = strrchr(token, '.') + 1;
		sig[0] = sig[0] == 'A' ? 'B' : 'A';
		cr_assert_neq(verify(keys, token), FLAT_JWT_OK, "%s", algs[i]);
		sig[4] = 0;
		cr_assert_neq(verify(keys, token), FLAT_JWT_OK, "%s", algs[i]);
		free(token);
		/* A key says what it is for: the same kind of key, another algorithm. */
		for (size_t k = 0; k < FLAT_ARRAY_SIZE(algs); k++) {
			snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[k]);
			token = signed_token(&s, header, PAYLOAD);
			cr_assert_eq(verify(keys, token) == FLAT_JWT_OK, k == i, "%s as %s",
				     algs[i], algs[k]);
			free(token);
		}
		signer_fini(&s);
	}
}

Test(jwt, takes_the_key_that_kid_and_alg_name)
{
	struct signer a, b;
	char keys[8192];
	signer_init(&a, "ES256", "a");
	signer_init(&b, "ES256", "b");
	snprintf(keys, sizeof(keys), "{\"keys\":[%s,%s]}", a.jwk, b.jwk);
	char *token = signed_token(&b, "{\"alg\":\"ES256\",\"kid\":\"b\"}", PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_OK);
	free(token);
	token = signed_token(&b, "{\"alg\":\"ES256\"}", PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_OK, "without kid each is tried");
	free(token);
	token = signed_token(&b, "{\"alg\":\"ES256\",\"kid\":\"a\"}", PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_VERIFICATION);
	free(token);
	token = signed_token(&b, "{\"alg\":\"ES256\",\"kid\":\"c\"}", PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_NO_KEY);
	free(token);
	snprintf(keys, sizeof(keys), "{\"keys\":[{\"alg\":\"ES384\",%s]}", b.jwk + 1);
	token = signed_token(&b, "{\"alg\":\"ES256\",\"kid\":\"b\"}", PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_NO_KEY, "the key is for another algorithm");
	free(token);
	signer_fini(&a);
	signer_fini(&b);
}

/* RFC 8725: none, HMAC with the public key, an empty ECDSA signature, keys in the token's own header. */
Test(jwt, is_not_taken_in)
{
	struct signer s;
	char keys[4096];
	char header[3000];
	static const char zero[64];
	signer_init(&s, "ES256", "k");
	keys_of(&s, keys);
	cr_assert_eq(status_of("{\"alg\":\"none\"}", PAYLOAD), FLAT_JWT_HEADER_ALG_UNKNOWN);
	cr_assert_eq(status_of("{\"alg\":\"None\"}", PAYLOAD), FLAT_JWT_HEADER_ALG_UNKNOWN);
	cr_assert_eq(status_of("{\"alg\":\"es256\"}", PAYLOAD), FLAT_JWT_HEADER_ALG_UNKNOWN);
	char *token = token_of("{\"alg\":\"HS256\",\"kid\":\"k\"}", PAYLOAD, zero, 32);
	cr_assert_eq(verify(keys, token), FLAT_JWT_VERIFICATION);
	free(token);
	token = token_of("{\"alg\":\"ES256\",\"kid\":\"k\"}", PAYLOAD, zero, 64);
	cr_assert_eq(verify(keys, token), FLAT_JWT_VERIFICATION, "r = s = 0");
	free(token);
	struct signer other;
	signer_init(&other, "ES256", "k");
	snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"jwk\":%s}", other.jwk);
	token = signed_token(&other, header, PAYLOAD);
	cr_assert_eq(verify(keys, token), FLAT_JWT_VERIFICATION);
	free(token);
	signer_fini(&other);
	signer_fini(&s);
}

Test(jwt, tells_what_is_wrong_with_a_token)
{
	static const struct {
		const char *header, *payload;
		enum flat_jwt_status want;
	} cases[] = {
	    {"{\"alg\":\"RS256\"}", PAYLOAD, FLAT_JWT_OK},
	    {"{}", PAYLOAD, FLAT_JWT_HEADER_ALG},
	    {"{\"alg\":1}", PAYLOAD, FLAT_JWT_HEADER_ALG},
	    {"{\"alg\":\"XX\"}", PAYLOAD, FLAT_JWT_HEADER_ALG_UNKNOWN},
	    {"{\"alg\":\"RS256\",\"kid\":1}", PAYLOAD, FLAT_JWT_HEADER_KID},
	    {"{\"alg\":\"RS256\",\"crit\":[\"x\"]}", PAYLOAD, FLAT_JWT_HEADER_CRIT},
	    {"{\"alg\":\"RS256\",\"alg\":\"RS256\"}", PAYLOAD, FLAT_JWT_HEADER_JSON},
	    {"[]", PAYLOAD, FLAT_JWT_HEADER_JSON},
	    {"{\"alg\":\"RS256\"", PAYLOAD, FLAT_JWT_HEADER_JSON},
	    {"{\"alg\":\"RS256\"}", "x", FLAT_JWT_PAYLOAD_JSON},
	    {"{\"alg\":\"RS256\"}", "\"x\"", FLAT_JWT_PAYLOAD_JSON},
	    {"{\"alg\":\"RS256\"}", "{\"iss\":\"a\",\"iss\":\"b\"}", FLAT_JWT_PAYLOAD_JSON},
	    {"{\"alg\":\"RS256\"}", "{\"iss\":1}", FLAT_JWT_ISS},
	    {"{\"alg\":\"RS256\"}", "{\"sub\":[]}", FLAT_JWT_SUB},
	    {"{\"alg\":\"RS256\"}", "{\"iat\":\"1\"}", FLAT_JWT_IAT},
	    {"{\"alg\":\"RS256\"}", "{\"nbf\":\"1\"}", FLAT_JWT_NBF},
	    {"{\"alg\":\"RS256\"}", "{\"exp\":\"1\"}", FLAT_JWT_EXP},
	    {"{\"alg\":\"RS256\"}", "{\"exp\":-1}", FLAT_JWT_EXP_RANGE},
	    {"{\"alg\":\"RS256\"}", "{\"exp\":1e400}", FLAT_JWT_EXP_RANGE},
	    {"{\"alg\":\"RS256\"}", "{\"exp\":null}", FLAT_JWT_EXP},
	    {"{\"alg\":\"RS256\"}", "{\"jti\":1}", FLAT_JWT_JTI},
	    {"{\"alg\":\"RS256\"}", "{\"aud\":1}", FLAT_JWT_AUD},
	    {"{\"alg\":\"RS256\"}", "{\"aud\":[\"a\",1]}", FLAT_JWT_AUD},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++)
		cr_assert_eq(status_of(cases[i].header, cases[i].payload), cases[i].want, "%s %s",
			     cases[i].header, cases[i].payload);
	static const char *const formless[] = {"",     ".",    "..",	  "a.b",   "a..c",
					       ".b.c", "a.b.", "a.b.c.d", "a.b.c."};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(formless); i++)
		cr_assert_eq(read_status(formless[i]), FLAT_JWT_FORMAT, "%s", formless[i]);
	/* {"alg":"RS256"} and {}. */
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), FLAT_JWT_OK);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e30.c2ln="), FLAT_JWT_SIGNATURE_BASE64);
	/* Padding where base64 has it, and as much of it. */
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e30=.c2ln"), FLAT_JWT_OK);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e30==.c2ln"), FLAT_JWT_PAYLOAD_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e3==.c2ln"), FLAT_JWT_PAYLOAD_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e===.c2ln"), FLAT_JWT_PAYLOAD_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.====.c2ln"), FLAT_JWT_PAYLOAD_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e=30.c2ln"), FLAT_JWT_PAYLOAD_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9 .e30.c2ln"), FLAT_JWT_HEADER_BASE64);
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e31.c2ln"), FLAT_JWT_PAYLOAD_BASE64,
		     "bits left over");
	cr_assert_eq(read_status("eyJhbGciOiJSUzI1NiJ9.e30.c2+n"), FLAT_JWT_SIGNATURE_BASE64);
}

Test(jwt, allows_a_minute_of_wrong_clocks)
{
	static const struct {
		const char *payload;
		int64_t now;
		enum flat_jwt_status want;
	} cases[] = {
	    {"{}", 1, FLAT_JWT_OK},
	    {"{\"exp\":1000}", 1060, FLAT_JWT_OK},
	    {"{\"exp\":1000}", 1061, FLAT_JWT_EXPIRED},
	    {"{\"nbf\":1000}", 940, FLAT_JWT_OK},
	    {"{\"nbf\":1000}", 939, FLAT_JWT_NOT_YET},
	    {"{\"nbf\":1000,\"exp\":2000}", 1500, FLAT_JWT_OK},
	    {"{\"exp\":0}", 1000, FLAT_JWT_OK}, /* as in Envoy: not set */
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char *token = token_of("{\"alg\":\"RS256\"}", cases[i].payload, "s", 1);
		struct flat_jwt *jwt;
		cr_assert_eq(flat_jwt_read(flat_span_of(token), &jwt), FLAT_JWT_OK);
		cr_assert_eq(flat_jwt_time(jwt, cases[i].now), cases[i].want, "%s at %d",
			     cases[i].payload, (int)cases[i].now);
		flat_jwt_put(jwt);
		free(token);
	}
}

Test(jwt, compares_audiences_as_envoy_does)
{
	static const char *const want[] = {"https://a.example/", "b"};
	static const struct {
		const char *payload;
		bool good;
	} cases[] = {
	    {"{}", false},
	    {"{\"aud\":\"b\"}", true},
	    {"{\"aud\":\"a.example\"}", true},
	    {"{\"aud\":\"http://a.example\"}", true},
	    {"{\"aud\":\"b.example\"}", false},
	    {"{\"aud\":[\"x\",\"b\"]}", true},
	    {"{\"aud\":[]}", false},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char *token = token_of("{\"alg\":\"RS256\"}", cases[i].payload, "s", 1);
		struct flat_jwt *jwt;
		cr_assert_eq(flat_jwt_read(flat_span_of(token), &jwt), FLAT_JWT_OK);
		cr_assert_eq(flat_jwt_audience(jwt, want, 2), cases[i].good, "%s",
			     cases[i].payload);
		cr_assert(flat_jwt_audience(jwt, NULL, 0));
		flat_jwt_put(jwt);
		free(token);
	}
}

Test(jwt, leaves_out_keys_that_cannot_be_used)
{
	static const char *const bad[] = {
	    "",
	    "[]",
	    "{}",
	    "{\"keys\":{}}",
	    "{\"keys\":[]}",
	    "{\"keys\":[{}]}",
	    "{\"keys\":[1]}",
	    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}",
	    /* RSA of 512 bits and of none. */
	    "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_"
	    "wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzPw\"}]}",
	    "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\"}]}",
	    /* A point that is not on the curve, one that is too short, another curve. */
	    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
	    "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9"
	    "uPHvRVEU\",\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}",
	    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}",
	    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}",
	    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"11qYAYKxCrfVS_"
	    "7TyWQHOg7hcvPapiMlrwI"
	    "aaPcHURo\"}]}",
	    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg\"}]}",
	    /* For encryption. */
	    "{\"keys\":[{\"kty\":\"OKP\",\"use\":\"enc\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
	    "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}",
	};
	struct flat_jwks *jwks;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++)
		cr_assert_eq(flat_jwks_read(bad[i], strlen(bad[i]), &jwks), FLAT_JWT_NO_KEYS, "%s",
			     bad[i]);
	static const char mixed[] =
	    "{\"keys\":[{\"kty\":\"new\"},{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
	    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
	cr_assert_eq(flat_jwks_read(mixed, strlen(mixed), &jwks), FLAT_JWT_OK);
	cr_assert_eq(flat_jwks_n(jwks), 1);
	flat_jwks_free(jwks);
}

Test(jwt, base64url_has_one_spelling)
{
	uint8_t out[16];
	char text[16];
	for (unsigned len = 0; len < 8; len++) {
		size_t n = flat_base64url_encode((const uint8_t *)"\xff\xfe\xfd\x00\x01\x02\x03",
						 len, text);
		cr_assert_eq(flat_base64url_decode(text, n, out), (ssize_t)len);
		cr_assert_eq(memcmp(out, "\xff\xfe\xfd\x00\x01\x02\x03", len), 0);
	}
	cr_assert_lt(flat_base64url_decode("A", 1, out), 0);
	cr_assert_lt(flat_base64url_decode("AB", 2, out), 0);
	cr_assert_lt(flat_base64url_decode("AA==", 4, out), 0);
	cr_assert_lt(flat_base64url_decode("A+AA", 4, out), 0);
	cr_assert_lt(flat_base64url_decode("AA\nA", 4, out), 0);
}
