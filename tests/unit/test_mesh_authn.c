/*
 * RequestAuthentication: which rules hold for whom; and what AuthorizationPolicy says of tokens. Expectations come from
 * Istio's references "RequestAuthentication" and "Authorization Policy Conditions", task "JWT Token".
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "mesh/authn.h"
#include "mesh/authz.h"
#include "support_mesh.h"

#define WORKLOAD                                                                                   \
	"apiVersion: mesh.libflat.io/v1\n"                                                         \
	"kind: Workload\n"                                                                         \
	"metadata: {name: httpbin, namespace: foo, labels: {app: httpbin}}\n"                      \
	"spec: {selectors: [{uid: 1}]}\n"
#define AUTHN(ns, name, spec)                                                                      \
	"---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"                     \
	"metadata: {name: " name ", namespace: " ns "}\nspec: " spec "\n"
#define RULE(rest) "{jwtRules: [{issuer: i, jwksUri: 'https://a.example/keys'" rest "}]}"
#define POLICY(spec)                                                                               \
	WORKLOAD "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"              \
		 "metadata: {name: p, namespace: foo}\nspec: " spec "\n"
#define ALLOW(rule) POLICY("{rules: [" rule "]}")
#define DENY(rule) POLICY("{action: DENY, rules: [" rule "]}")
#define PRINCIPALS(list) "{from: [{source: {requestPrincipals: " list "}}]}"
#define NOT_PRINCIPALS(list) "{from: [{source: {notRequestPrincipals: " list "}}]}"
#define WHEN(key, rest) "{when: [{key: '" key "', " rest "}]}"

/* ISS and SUB of Istio's own examples. */
#define TESTING "testing@secure.istio.io"
#define TOKEN "{\"iss\":\"" TESTING "\",\"sub\":\"" TESTING "\"}"
#define URL "{\"iss\":\"https://a.example/b\",\"sub\":\"me\"}"

struct token_case {
	const char *policy;
	const char *claims; /* NULL: no token */
	bool allowed;
};

static const struct token_case cases[] = {
    /* requestPrincipals: issuer, slash, subject. */
    {ALLOW(PRINCIPALS("['" TESTING "/" TESTING "']")), TOKEN, true},
    {ALLOW(PRINCIPALS("['" TESTING "/" TESTING "']")), NULL, false},
    {ALLOW(PRINCIPALS("['" TESTING "/other']")), TOKEN, false},
    {ALLOW(PRINCIPALS("['*']")), TOKEN, true},
    {ALLOW(PRINCIPALS("['*']")), NULL, false},
    {ALLOW(PRINCIPALS("['*']")), "{\"iss\":\"a\"}", false},
    {ALLOW(PRINCIPALS("['*']")), "{\"sub\":\"a\"}", false},
    {ALLOW(PRINCIPALS("['https://a.example/b/me']")), URL, true},
    {ALLOW(PRINCIPALS("['https://a.example/b/*']")), URL, true},
    {ALLOW(PRINCIPALS("['https://a.example/b/m*']")), URL, true},
    {ALLOW(PRINCIPALS("['https://a.example/*']")), URL, false},
    {ALLOW(PRINCIPALS("['*/me']")), URL, true},
    {ALLOW(PRINCIPALS("['*.example/b/me']")), URL, true},
    {ALLOW(PRINCIPALS("['*me']")), URL, true},
    {ALLOW(PRINCIPALS("['*you']")), URL, false},
    {ALLOW(PRINCIPALS("['testing*']")), TOKEN, true},
    {ALLOW(PRINCIPALS("['a', '*']")), TOKEN, true},
    {ALLOW(NOT_PRINCIPALS("['*']")), NULL, true},
    {ALLOW(NOT_PRINCIPALS("['*']")), TOKEN, false},
    {DENY(NOT_PRINCIPALS("['*']")), NULL, false},
    {DENY(NOT_PRINCIPALS("['*']")), TOKEN, true},
    {ALLOW(WHEN("request.auth.principal", "values: ['*/" TESTING "']")), TOKEN, true},
    {ALLOW(WHEN("request.auth.principal", "notValues: ['*']")), TOKEN, false},
    /* Audiences and presenter. */
    {ALLOW(WHEN("request.auth.audiences", "values: [a, b]")), "{\"aud\":\"b\"}", true},
    {ALLOW(WHEN("request.auth.audiences", "values: [a]")), "{\"aud\":[\"x\",\"a\"]}", true},
    {ALLOW(WHEN("request.auth.audiences", "values: [a]")), "{\"aud\":[\"x\"]}", false},
    {ALLOW(WHEN("request.auth.presenter", "values: [a]")), "{\"azp\":\"a\"}", true},
    {ALLOW(WHEN("request.auth.presenter", "values: [a]")), "{}", false},
    /* Claims: texts, lists, words, within each other. */
    {ALLOW(WHEN("request.auth.claims[groups]", "values: [group1]")), "{\"groups\":[\"group1\"]}",
     true},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: [group1]")), "{\"groups\":\"group1\"}",
     true},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: [group1]")), "{\"groups\":[\"group2\"]}",
     false},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: [group1]")), NULL, false},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: ['group*']")), "{\"groups\":[\"group2\"]}",
     true},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: ['*2']")), "{\"groups\":[\"group2\"]}",
     true},
    {ALLOW(WHEN("request.auth.claims[groups]", "values: ['*']")), "{\"groups\":[]}", false},
    {ALLOW(WHEN("request.auth.claims[groups]", "notValues: [a]")), "{\"groups\":[\"a\",\"b\"]}",
     false},
    {ALLOW(WHEN("request.auth.claims[groups]", "notValues: [a]")), "{\"groups\":[\"b\"]}", true},
    {DENY(WHEN("request.auth.claims[groups]", "notValues: [a]")), NULL, false},
    {ALLOW(WHEN("request.auth.claims[n]", "values: ['1']")), "{\"n\":1}", false},
    {ALLOW(WHEN("request.auth.claims[n]", "values: ['true']")), "{\"n\":true}", false},
    {ALLOW(WHEN("request.auth.claims[scope]", "values: [write]")), "{\"scope\":\"read write\"}",
     true},
    {ALLOW(WHEN("request.auth.claims[scope]", "values: ['read write']")),
     "{\"scope\":\"read write\"}", false},
    {ALLOW(WHEN("request.auth.claims[words]", "values: [write]")), "{\"words\":\"read write\"}",
     false},
    {ALLOW(WHEN("request.auth.claims[spaced]", "values: [write]")), "{\"spaced\":\"read write\"}",
     true},
    {ALLOW(WHEN("request.auth.claims[a][b]", "values: [x]")), "{\"a\":{\"b\":\"x\"}}", true},
    {ALLOW(WHEN("request.auth.claims[a][b]", "values: [x]")), "{\"a\":{\"b\":[\"y\",\"x\"]}}",
     true},
    {ALLOW(WHEN("request.auth.claims[a][b]", "values: [x]")), "{\"a\":\"x\"}", false},
    {ALLOW(WHEN("request.auth.claims[a.b]", "values: [x]")), "{\"a.b\":\"x\"}", true},
    {ALLOW(WHEN("request.auth.claims[a.b]", "values: [x]")), "{\"a\":{\"b\":\"x\"}}", false},
};

static void run(const struct token_case *c)
{
	static const char text[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
	static const char *const spaced[] = {"spaced"};
	struct loaded l = load_good(c->policy);
	struct flat_pool pool = {0};
	struct flat_http1 parser;
	struct flat_http_request request = {.head = &parser.head, .text = text};
	struct flat_authz_verdict verdict;
	struct flat_authz_input in = {.http = &request, .spaced = spaced, .n_spaced = 1};
	flat_http1_begin(&parser, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(&parser, (const uint8_t *)text, sizeof(text) - 1), 0);
	request.method = flat_span_of("GET");
	request.path = flat_span_of("/a");
	request.authority = request.host = flat_span_of("h");
	if (c->claims)
		cr_assert_eq(flat_json_read(c->claims, strlen(c->claims), &pool, &in.claims), 0);
	in.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	flat_authz_check(l.mesh, &in, &verdict);
	cr_expect_eq(verdict.allowed, c->allowed, "%s\nwith %s: %s", c->policy,
		     c->claims ? c->claims : "no token", verdict.text);
	flat_pool_fini(&pool);
	loaded_fini(&l);
}

Test(mesh_authn, tokens_are_matched_as_istio_does)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++)
		run(&cases[i]);
}

static uint32_t rules_for(const struct loaded *l, const char *issuers)
{
	const struct flat_jwt_rule *v[2 * FLAT_JWT_RULES_MAX];
	uint32_t n =
	    flat_mesh_jwt_rules(l->mesh, flat_mesh_workload_by_name(l->mesh, "foo", "httpbin"), v);
	for (uint32_t i = 0; i < n; i++)
		cr_expect_eq(v[i]->issuer[0], issuers[i], "rule %u is of %s", i, v[i]->issuer);
	return n;
}

Test(mesh_authn, rules_are_of_the_workload_its_namespace_and_the_mesh)
{
#define OF(i) "{jwtRules: [{issuer: " i ", jwksUri: 'https://a.example/keys'}]}"
	struct loaded l = load_good(
	    WORKLOAD AUTHN("foo", "a", OF("a")) AUTHN("bar", "b", OF("b")) AUTHN("istio-system",
										 "c", OF("c"))
		AUTHN("foo", "d",
		      "{selector: {matchLabels: {app: httpbin}}, jwtRules: [{issuer: d, jwksUri: "
		      "'https://a.example/keys'}, {issuer: e, jwksUri: 'https://a.example/keys'}]}")
		    AUTHN("foo", "f",
			  "{selector: {matchLabels: {app: x}}, jwtRules: [{issuer: f, jwksUri: "
			  "'https://a.example/keys'}]}") AUTHN("foo", "g", "{}"));
	cr_assert_eq(rules_for(&l, "cade"), 4);
	cr_assert_eq(flat_mesh_n_jwt_rules(l.mesh), 6);
	cr_assert(flat_mesh_wants_jwt(l.mesh, NULL), "of the root namespace, without selector");
	loaded_fini(&l);
}

Test(mesh_authn, says_where_tokens_are)
{
	struct loaded l = load_good(WORKLOAD AUTHN("foo", "a", RULE("")) AUTHN(
	    "foo", "b",
	    RULE(", audiences: [x, y], fromHeaders: [{name: x-jwt, prefix: 'T '}, {name: y}], "
		 "fromParams: [p], fromCookies: [c], outputPayloadToHeader: x-p, "
		 "outputClaimToHeaders: [{header: x-c, claim: a.b}], forwardOriginalToken: "
		 "true, timeout: 2s, spaceDelimitedClaims: [w]")));
	const struct flat_jwt_rule *a = flat_mesh_jwt_rule(l.mesh, 0);
	const struct flat_jwt_rule *b = flat_mesh_jwt_rule(l.mesh, 1);
	cr_assert_eq(a->n_locations, 2);
	cr_assert_str_eq(a->locations[0].name, "Authorization");
	cr_assert_str_eq(a->locations[0].prefix, "Bearer ");
	cr_assert_str_eq(a->locations[1].name, "access_token");
	cr_assert_eq(a->timeout_ms, 5000);
	cr_assert(!a->forward);
	cr_assert_eq(b->n_locations, 4);
	cr_assert_str_eq(b->locations[0].prefix, "T ");
	cr_assert_str_eq(b->locations[1].prefix, "");
	cr_assert_eq(b->locations[3].place, FLAT_JWT_COOKIE);
	cr_assert_eq(b->n_audiences, 2);
	cr_assert_str_eq(b->payload_header, "x-p");
	cr_assert_str_eq(b->claim_headers[0].claim, "a.b");
	cr_assert(b->forward);
	cr_assert_eq(b->timeout_ms, 2000);
	cr_assert_str_eq(b->spaced[0], "w");
	loaded_fini(&l);
}

Test(mesh_authn, takes_rules_without_an_issuer_or_keys)
{
	struct loaded l = load_good(
	    AUTHN("foo", "a", "{jwtRules: [{jwksUri: 'https://a.example/k', presence: REQUIRED}]}")
		AUTHN("foo", "b", "{jwtRules: [{issuer: i, presence: OPTIONAL}]}") AUTHN(
		    "foo", "c", "{jwtRules: [{issuer: i, jwks_uri: 'https://a.example/k'}]}"));
	const struct flat_jwt_rule *any = flat_mesh_jwt_rule(l.mesh, 0);
	cr_assert_str_eq(any->issuer, "");
	cr_assert(any->required);
	cr_assert(!flat_mesh_jwt_rule(l.mesh, 1)->required);
	cr_assert_str_eq(flat_mesh_jwt_rule(l.mesh, 1)->jwks, "{\"keys\":[]}", "none is good");
	cr_assert_str_eq(flat_mesh_jwt_rule(l.mesh, 2)->jwks_uri, "https://a.example/k");
	cr_assert_eq(l.diags.n_warnings, 1);
	cr_assert(strstr(loaded_text(&l), "add jwks or jwksUri"));
	loaded_fini(&l);
}

Test(mesh_authn, refuses_what_cannot_hold)
{
	static const struct {
		const char *spec, *want;
	} bad[] = {
	    {"{jwtRules: [{jwks: '{\"keys\":[{}]}'}]}", "\"issuer\" is missing"},
	    {"{jwtRules: [{issuer: i, jwksUri: 'https://a.example/k', jwks_uri: 'https://b/k'}]}",
	     "the same field"},
	    {RULE(", presence: ALWAYS"), "not one of OPTIONAL, REQUIRED"},
	    {"{jwtRules: [{issuer: i, jwks: x, jwksUri: 'https://a.example/k'}]}", "no JSON"},
	    {"{jwtRules: [{issuer: i, jwks: '{\"keys\":[]}'}]}", "no list of \"keys\""},
	    {"{jwtRules: [{issuer: i, jwksUri: 'ftp://a.example/k'}]}", "begin with https"},
	    {"{jwtRules: [{issuer: i, jwksUri: 'file://etc/k'}]}", "begin with https"},
	    {RULE(", fromHeaders: [{prefix: x}]"), "\"name\" is missing"},
	    {RULE(", fromHeaders: [{name: 'a b'}]"), "no name of a header"},
	    {RULE(", outputPayloadToHeader: content-length"), "cannot be changed"},
	    {RULE(", outputClaimToHeaders: [{header: a}]"), "a header and a claim"},
	    {RULE(", timeout: 0s"), "no time"},
	    {RULE(", audience: [a]"), "did you mean \"audiences\""},
	    {"{selector: {matchLabels: {a: b}}, targetRef: {kind: Gateway, name: g}}",
	     "exclude each other"},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		char yaml[1024];
		snprintf(yaml, sizeof(yaml), AUTHN("foo", "a", "%s"), bad[i].spec);
		struct loaded l = load_yaml(yaml);
		cr_expect_null(l.mesh, "%s", bad[i].spec);
		cr_expect(strstr(loaded_text(&l), bad[i].want), "%s: %s", bad[i].spec,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}
