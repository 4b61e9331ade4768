#include "authn/jwt.h"

#include <stdlib.h>

#include "authn/base64url.h"

/* Time by which clocks may differ, seconds: Envoy's and Istio's. */
#define SKEW_S 60

static const char *const alg_names[] = {
    [FLAT_JWT_RS256] = "RS256", [FLAT_JWT_RS384] = "RS384", [FLAT_JWT_RS512] = "RS512",
    [FLAT_JWT_PS256] = "PS256", [FLAT_JWT_PS384] = "PS384", [FLAT_JWT_PS512] = "PS512",
    [FLAT_JWT_ES256] = "ES256", [FLAT_JWT_ES384] = "ES384", [FLAT_JWT_ES512] = "ES512",
    [FLAT_JWT_EDDSA] = "EdDSA",
};

static bool find_alg(struct flat_jwt *jwt, const char *name)
{
	static const char *const hmac[] = {"HS256", "HS384", "HS512"};

	jwt->alg_name = name;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(alg_names); i++) {
		jwt->alg = (enum flat_jwt_alg)i;
		if (strcmp(name, alg_names[i]) == 0)
			return true;
	}
	jwt->alg = FLAT_JWT_HMAC;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(hmac); i++) {
		if (strcmp(name, hmac[i]) == 0)
			return true;
	}
	return false;
}

/* Padding as base64 has it (RFC 4648, 3.2), which some issuers write, is let pass; the signature is of the text with it. */
static struct flat_span unpadded(struct flat_span part)
{
	size_t len = part.len;

	if (len % 4)
		return part;
	for (int i = 0; i < 2 && len > 0 && part.text[len - 1] == '='; i++)
		len--;
	return (struct flat_span){part.text, len};
}

static bool decode(struct flat_jwt *jwt, struct flat_span part, const uint8_t **out, size_t *len)
{
	struct flat_span s = unpadded(part);
	uint8_t *bytes = flat_pool_alloc(&jwt->pool, s.len * 3 / 4 + 1);
	ssize_t n = bytes ? flat_base64url_decode(s.text, s.len, bytes) : -1;

	*out = bytes;
	*len = n < 0 ? 0 : (size_t)n;
	return n >= 0;
}

/* The three parts of a token, none of them empty. */
static bool split(struct flat_span token, struct flat_span parts[3])
{
	const char *end = token.text + token.len;
	const char *at = token.text;

	for (int i = 0; i < 3; i++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));

		if ((i < 2) != (dot != NULL))
			return false;
		parts[i] = (struct flat_span){at, (size_t)((dot ? dot : end) - at)};
		if (parts[i].len == 0)
			return false;
		at = dot ? dot + 1 : end;
	}
	return true;
}

/* The text of a member that may be left out. False: it is there and no text. */
static bool optional_text(const struct flat_json_node *object, const char *name, const char **out)
{
	const struct flat_json_node *node = flat_json_member(object, name);

	if (!node)
		return true;
	*out = node->text;
	return node->kind == FLAT_JSON_TEXT;
}

/* Likewise a time: a number of seconds that is not negative. OK, `bad` or `range`. */
static enum flat_jwt_status optional_time(const struct flat_json_node *object, const char *name,
					  double *out, enum flat_jwt_status bad,
					  enum flat_jwt_status range)
{
	const struct flat_json_node *node = flat_json_member(object, name);

	if (!node)
		return FLAT_JWT_OK;
	if (node->kind != FLAT_JSON_NUMBER)
		return bad;
	return flat_json_number(node, out) && *out >= 0 && *out < 9.2e18 ? FLAT_JWT_OK : range;
}

static enum flat_jwt_status read_times(struct flat_jwt *jwt)
{
	double iat = 0;
	enum flat_jwt_status status =
	    optional_time(jwt->claims, "iat", &iat, FLAT_JWT_IAT, FLAT_JWT_IAT_RANGE);

	if (status == FLAT_JWT_OK)
		status =
		    optional_time(jwt->claims, "nbf", &jwt->nbf, FLAT_JWT_NBF, FLAT_JWT_NBF_RANGE);
	if (status == FLAT_JWT_OK)
		status =
		    optional_time(jwt->claims, "exp", &jwt->exp, FLAT_JWT_EXP, FLAT_JWT_EXP_RANGE);
	return status;
}

static enum flat_jwt_status read_header(struct flat_jwt *jwt, struct flat_span part)
{
	const struct flat_json_node *header;
	const uint8_t *bytes;
	const char *alg;
	size_t len;

	if (!decode(jwt, part, &bytes, &len))
		return FLAT_JWT_HEADER_BASE64;
	if (flat_json_read((const char *)bytes, len, &jwt->pool, &header) != 0 ||
	    header->kind != FLAT_JSON_OBJECT)
		return FLAT_JWT_HEADER_JSON;
	alg = flat_json_member_text(header, "alg");
	if (!alg)
		return FLAT_JWT_HEADER_ALG;
	if (!find_alg(jwt, alg))
		return FLAT_JWT_HEADER_ALG_UNKNOWN;
	if (!optional_text(header, "kid", &jwt->kid))
		return FLAT_JWT_HEADER_KID;
	/* An empty one names no key, as in Envoy. */
	if (jwt->kid && !*jwt->kid)
		jwt->kid = NULL;
	/* RFC 7515, 4.1.11: who does not understand it must refuse, and we understand none. */
	return flat_json_member(header, "crit") ? FLAT_JWT_HEADER_CRIT : FLAT_JWT_OK;
}

static bool audience_good(const struct flat_json_node *aud)
{
	const struct flat_json_node *node;

	if (!aud || aud->kind == FLAT_JSON_TEXT)
		return true;
	if (aud->kind != FLAT_JSON_LIST)
		return false;
	for (node = aud->first; node; node = node->next) {
		if (node->kind != FLAT_JSON_TEXT)
			return false;
	}
	return true;
}

static enum flat_jwt_status read_payload(struct flat_jwt *jwt, struct flat_span part)
{
	const char *unused = NULL;
	const uint8_t *bytes;
	enum flat_jwt_status status;
	size_t len;

	jwt->payload = part;
	jwt->iss = "";
	if (!decode(jwt, part, &bytes, &len))
		return FLAT_JWT_PAYLOAD_BASE64;
	if (flat_json_read((const char *)bytes, len, &jwt->pool, &jwt->claims) != 0 ||
	    jwt->claims->kind != FLAT_JSON_OBJECT)
		return FLAT_JWT_PAYLOAD_JSON;
	if (!optional_text(jwt->claims, "iss", &jwt->iss))
		return FLAT_JWT_ISS;
	if (!optional_text(jwt->claims, "sub", &unused))
		return FLAT_JWT_SUB;
	status = read_times(jwt);
	if (status != FLAT_JWT_OK)
		return status;
	if (!optional_text(jwt->claims, "jti", &unused))
		return FLAT_JWT_JTI;
	return audience_good(flat_json_member(jwt->claims, "aud")) ? FLAT_JWT_OK : FLAT_JWT_AUD;
}

static enum flat_jwt_status read_parts(struct flat_jwt *jwt)
{
	struct flat_span parts[3];
	enum flat_jwt_status status;

	if (!split(jwt->token, parts))
		return FLAT_JWT_FORMAT;
	jwt->signed_len = parts[0].len + 1 + parts[1].len;
	status = read_header(jwt, parts[0]);
	if (status == FLAT_JWT_OK)
		status = read_payload(jwt, parts[1]);
	if (status == FLAT_JWT_OK && !decode(jwt, parts[2], &jwt->signature, &jwt->signature_len))
		status = FLAT_JWT_SIGNATURE_BASE64;
	return status;
}

enum flat_jwt_status flat_jwt_read(struct flat_span token, struct flat_jwt **out)
{
	struct flat_jwt *jwt = calloc(1, sizeof(*jwt));
	enum flat_jwt_status status = FLAT_JWT_FORMAT;

	*out = NULL;
	if (!jwt)
		return FLAT_JWT_FORMAT;
	jwt->refs = 1;
	jwt->pool.limit_bytes = FLAT_JWT_MEMORY_MAX;
	jwt->token.len = token.len;
	jwt->token.text = flat_pool_strndup(&jwt->pool, token.text, token.len);
	if (jwt->token.text)
		status = read_parts(jwt);
	if (status == FLAT_JWT_OK)
		*out = jwt;
	else
		flat_jwt_put(jwt);
	return status;
}

struct flat_jwt *flat_jwt_get(struct flat_jwt *jwt)
{
	jwt->refs++;
	return jwt;
}

void flat_jwt_put(struct flat_jwt *jwt)
{
	if (!jwt || --jwt->refs > 0)
		return;
	flat_pool_fini(&jwt->pool);
	free(jwt);
}

enum flat_jwt_status flat_jwt_time(const struct flat_jwt *jwt, int64_t now_s)
{
	double now = (double)now_s;

	if (now + SKEW_S < jwt->nbf)
		return FLAT_JWT_NOT_YET;
	return jwt->exp > 0 && now > jwt->exp + SKEW_S ? FLAT_JWT_EXPIRED : FLAT_JWT_OK;
}

/* Without "http://" or "https://", and without a last slash. */
static struct flat_span bare_audience(const char *text)
{
	struct flat_span s = flat_span_of(text);

	for (size_t skip = 7; skip <= 8; skip++) {
		if (strncmp(text, skip == 7 ? "http://" : "https://", skip) == 0)
			s = flat_span_of(text + skip);
	}
	if (s.len > 0 && s.text[s.len - 1] == '/')
		s.len--;
	return s;
}

static bool one_of(const char *audience, const char *const *v, uint32_t n)
{
	struct flat_span have = bare_audience(audience);

	for (uint32_t i = 0; i < n; i++) {
		if (flat_span_equal(have, bare_audience(v[i]), false))
			return true;
	}
	return false;
}

bool flat_jwt_audience(const struct flat_jwt *jwt, const char *const *v, uint32_t n)
{
	const struct flat_json_node *aud = flat_json_member(jwt->claims, "aud");

	if (n == 0)
		return true;
	if (!aud)
		return false;
	if (aud->kind == FLAT_JSON_TEXT)
		return one_of(aud->text, v, n);
	for (aud = aud->first; aud; aud = aud->next) {
		if (one_of(aud->text, v, n))
			return true;
	}
	return false;
}

const char *flat_jwt_status_text(enum flat_jwt_status status)
{
	static const char *const texts[FLAT_JWT_STATUSES] = {
	    [FLAT_JWT_OK] = "OK",
	    [FLAT_JWT_MISSED] = "Jwt is missing",
	    [FLAT_JWT_WAIT] = "Jwks remote fetch is failed",
	    [FLAT_JWT_FORMAT] = ("Jwt is not in the form of Header.Payload.Signature with two dots "
				 "and 3 sections"),
	    [FLAT_JWT_HEADER_BASE64] = "Jwt header is an invalid Base64url encoded",
	    [FLAT_JWT_HEADER_JSON] = "Jwt header is an invalid JSON",
	    [FLAT_JWT_HEADER_ALG] = "Jwt header [alg] field is required and must be a string",
	    [FLAT_JWT_HEADER_ALG_UNKNOWN] = "Jwt header [alg] is not supported",
	    [FLAT_JWT_HEADER_KID] = "Jwt header [kid] field is not a string",
	    [FLAT_JWT_HEADER_CRIT] = "Jwt header [crit] is not supported",
	    [FLAT_JWT_PAYLOAD_BASE64] = "Jwt payload is an invalid Base64url encoded",
	    [FLAT_JWT_PAYLOAD_JSON] = "Jwt payload is an invalid JSON",
	    [FLAT_JWT_ISS] = "Jwt payload [iss] field is not a string",
	    [FLAT_JWT_SUB] = "Jwt payload [sub] field is not a string",
	    [FLAT_JWT_IAT] = "Jwt payload [iat] field is not an integer",
	    [FLAT_JWT_NBF] = "Jwt payload [nbf] field is not an integer",
	    [FLAT_JWT_EXP] = "Jwt payload [exp] field is not an integer",
	    [FLAT_JWT_IAT_RANGE] = "Jwt payload [iat] field is not a positive 64 bit integer",
	    [FLAT_JWT_NBF_RANGE] = "Jwt payload [nbf] field is not a positive 64 bit integer",
	    [FLAT_JWT_EXP_RANGE] = "Jwt payload [exp] field is not a positive 64 bit integer",
	    [FLAT_JWT_JTI] = "Jwt payload [jti] field is not a string",
	    [FLAT_JWT_AUD] = "Jwt payload [aud] field is not a string or string list",
	    [FLAT_JWT_SIGNATURE_BASE64] = "Jwt signature is an invalid Base64url encoded",
	    [FLAT_JWT_ED25519_LENGTH] = "Jwt ED25519 signature is wrong length",
	    [FLAT_JWT_UNKNOWN_ISSUER] = "Jwt issuer is not configured",
	    [FLAT_JWT_NOT_YET] = "Jwt not yet valid",
	    [FLAT_JWT_EXPIRED] = "Jwt is expired",
	    [FLAT_JWT_AUDIENCE] = "Audiences in Jwt are not allowed",
	    [FLAT_JWT_VERIFICATION] = "Jwt verification fails",
	    [FLAT_JWT_NO_KEY] = "Jwks doesn't have key to match kid or alg from Jwt",
	    [FLAT_JWT_NO_KEYS] = "Jwks doesn't have any valid public key",
	    [FLAT_JWT_FETCH] = "Jwks remote fetch is failed",
	};

	return texts[status];
}
