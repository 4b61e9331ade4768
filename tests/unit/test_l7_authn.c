/*
 * Who sent a request, by its token, through flatd: where tokens are looked for, which are good, what the server and the policies get of them,
 * what a client is told whose token is not.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_jwt.h"
#include "support_origin.h"

static struct signer good, other;
static char *tokens[6];

/* Tokens of one subject: good, of another audience, late, by another key, of another issuer, one that may not be used yet. */
enum { GOOD, AUDIENCE, LATE, FORGED, ISSUER, EARLY };

#define PAYLOAD(rest) "{\"iss\":\"i\",\"sub\":\"u\",\"aud\":\"web\"," rest "}"

static const char *const payloads[] = {
    [GOOD] = PAYLOAD("\"exp\":9999999999,\"n\":-5,\"half\":0.5,\"deep\":{\"x\":\"y\"},\"list\":[1],"
		     "\"yes\":true"),
    [AUDIENCE] = "{\"iss\":\"i\",\"sub\":\"u\",\"aud\":\"elsewhere\",\"exp\":9999999999}",
    [LATE] = PAYLOAD("\"exp\":1"),
    [FORGED] = PAYLOAD("\"exp\":9999999999"),
    [ISSUER] = "{\"iss\":\"j\",\"sub\":\"u\",\"aud\":\"web\",\"exp\":9999999999}",
    [EARLY] = PAYLOAD("\"nbf\":9999999999"),
};

#define RULES                                                                                      \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "  \
	"labels: {app: web}}\nspec: {selectors: [{uid: %%UID%%}]}\n---\n"                          \
	"apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"                          \
	"metadata: {name: who, namespace: shop}\nspec:\n  jwtRules:\n  - issuer: i\n    "          \
	"audiences: "                                                                              \
	"[web]\n    jwks: '{\"keys\":[%s]}'\n"                                                     \
	"    fromHeaders: [{name: Authorization, prefix: 'Bearer '}, {name: x-token}]\n"           \
	"    fromParams: [token]\n    fromCookies: [session]\n"                                    \
	"    outputPayloadToHeader: x-payload\n    outputClaimToHeaders: [{header: x-n, claim: "   \
	"n}, "                                                                                     \
	"{header: x-half, claim: half}, {header: x-deep, claim: deep.x}, {header: x-list, claim: " \
	"list}, {header: x-yes, claim: 'yes'}, {header: x-none, claim: none}]\n---\n"              \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"                            \
	"metadata: {name: who, namespace: shop}\nspec: {action: DENY, rules: [{from: [{source: "   \
	"{notRequestPrincipals: ['i/u']}}], to: [{operation: {paths: [/mine]}}]}]}\n"

static void begin(void)
{
	static char yaml[8192];
	int n;

	signer_init(&good, "ES256", "one");
	signer_init(&other, "ES256", "one");
	for (size_t i = 0; i < 6; i++)
		tokens[i] = signed_token(i == FORGED ? &other : &good,
					 "{\"alg\":\"ES256\",\"kid\":\"one\"}", payloads[i]);
	n = snprintf(yaml, sizeof(yaml), RULES, good.jwk);
	cr_assert_lt((size_t)n, sizeof(yaml));
	origin_begin(yaml, NULL);
}

static void end(void)
{
	origin_end();
	for (size_t i = 0; i < 6; i++)
		free(tokens[i]);
	signer_fini(&good);
	signer_fini(&other);
}

/* What a request gets that has token `which` where %s stands; `wanted` as in struct origin_row. */
static void check(const char *format, int which, const char *const at_server[4],
		  const char *const at_client[4])
{
	static char request[4096];
	struct origin_row row = {.request = request};
	int n = snprintf(request, sizeof(request), format, tokens[which]);

	cr_assert_lt((size_t)n, sizeof(request));
	memcpy(row.at_server, at_server, sizeof(row.at_server));
	memcpy(row.at_client, at_client, sizeof(row.at_client));
	origin_check_rows(&row, 1);
}

#define HEADER(path)                                                                               \
	"GET " path " HTTP/1.1\r\n" HOST "Authorization: Bearer %s\r\nX-Payload: forged\r\n\r\n"

Test(l7_authn, a_good_token_is_found_where_it_may_be)
{
	static const char *const at_server[4] = {"GET /", "x-payload: ", "!forged"};
	static const char *const at_client[4] = {"HTTP/1.1 200 "};
	static const char *const places[] = {
	    HEADER("/mine"),
	    "GET /mine HTTP/1.1\r\n" HOST "X-Token: %s\r\n\r\n",
	    "GET /mine?a=b&token=%s&c HTTP/1.1\r\n" HOST "\r\n",
	    "GET /mine HTTP/1.1\r\n" HOST "Cookie: a=b; session=\"%s\"; c=d\r\n\r\n",
	};

	begin();
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		check(places[i], GOOD, at_server, at_client);
		/* The server gets no token that it need not have; a cookie is left alone. */
		if (i < 3)
			cr_expect_null(strstr(origin_last(), tokens[GOOD]), "%s", origin_last());
	}
	end();
}

Test(l7_authn, the_server_gets_its_claims)
{
	begin();
	check(HEADER("/mine"), GOOD,
	      (const char *[4]){"x-n: -5.000000\r\n", "x-half: 0.500000\r\n", "x-deep: y\r\n",
				"!x-none"},
	      (const char *[4]){"HTTP/1.1 200 "});
	check(HEADER("/mine"), GOOD,
	      (const char *[4]){"x-list: WzFd\r\n", "x-yes: true\r\n", "!uthorization"},
	      (const char *[4]){"HTTP/1.1 200 "});
	end();
}

Test(l7_authn, a_token_that_is_not_good_is_refused_and_says_why)
{
	static const struct {
		int which;
		const char *status;
	} some[] = {{AUDIENCE, "HTTP/1.1 403 "},
		    {LATE, "HTTP/1.1 401 "},
		    {FORGED, "HTTP/1.1 401 "},
		    {ISSUER, "HTTP/1.1 401 "},
		    {EARLY, "HTTP/1.1 401 "}};

	begin();
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		check(HEADER("/open?q"), some[i].which, (const char *[4]){NULL},
		      (const char *[4]){
			  some[i].status,
			  "www-authenticate: Bearer realm=\"http://web.example/open?q\", "
			  "error=\"invalid_token\"\r\n"});
	/* Two in one place are none, whichever of them is good. */
	check("GET /open HTTP/1.1\r\n" HOST "X-Token: %s\r\nX-Token: a\r\n\r\n", GOOD,
	      (const char *[4]){NULL}, (const char *[4]){"HTTP/1.1 401 "});
	check("GET /open?token=%s&token=a HTTP/1.1\r\n" HOST "\r\n", GOOD, (const char *[4]){NULL},
	      (const char *[4]){"HTTP/1.1 401 "});
	end();
}

Test(l7_authn, without_a_token_only_policies_decide)
{
	static const struct origin_row rows[] = {
	    {"GET /open HTTP/1.1\r\n" HOST "X-Payload: forged\r\nX-N: 1\r\n\r\n",
	     {"GET /open ", "!forged", "!x-n", "!X-N"},
	     {"HTTP/1.1 200 "}},
	    {"GET /mine HTTP/1.1\r\n" HOST "\r\n", {NULL}, {"HTTP/1.1 403 "}},
	    /* Another scheme of Authorization is no token. */
	    {"GET /open HTTP/1.1\r\n" HOST "Authorization: Basic YTpi\r\n\r\n",
	     {"uthorization: Basic YTpi"},
	     {"HTTP/1.1 200 "}},
	    {"GET /open\"x HTTP/1.1\r\n" HOST "X-Token: a\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 4", "!open\"x"}},
	};

	begin();
	ORIGIN_CHECK(rows);
	end();
}
