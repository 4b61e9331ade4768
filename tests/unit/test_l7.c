/*
 * What flatd makes of requests, one by one: what the client writes, what its server gets, what the client gets back. Both are in
 * this process; the offload half reads the requests between them.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>

#include <flat/socket.h>

#include "base/json_read.h"
#include "support_origin.h"
#include "support_whole.h"

/* Every second request for /flaky fails; for /teapot there is a status of its own. */
static const char *answer(const char *request, unsigned n)
{
	if (strncmp(request, "GET /flaky ", 11) == 0 && n % 2 == 1)
		return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
	if (strncmp(request, "GET /slow", 9) == 0)
		return NULL;
	if (strncmp(request, "GET /teapot", 11) == 0)
		return "HTTP/1.1 418 Tea\r\nServer: origin\r\nContent-Length: 0\r\n\r\n";
	return "HTTP/1.1 200 OK\r\nServer: origin\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok";
}

static const char routes[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: "
    "shop}\n"
    "spec:\n  hosts: [web.example]\n  http:\n"
    "  - match: [{uri: {exact: /old}}]\n    redirect: {uri: /new, redirectCode: 302}\n"
    "  - match: [{uri: {prefix: /was/}}]\n    redirect: {prefixRewrite: /is/, authority: "
    "b.example}\n"
    "  - match: [{uri: {exact: /tea}}]\n    directResponse: {status: 418, body: {string: short and "
    "stout}}\n"
    "  - match: [{uri: {exact: /broken}}]\n    fault: {abort: {httpStatus: 501, percentage: "
    "{value: 100}}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {prefix: /a/}}]\n    rewrite: {uri: /b/, authority: inner.example}\n"
    "    headers: {request: {set: {x-set: s}, add: {x-add: '%REQ(X-HAS)%', x-path: "
    "'%REQ(:PATH)%'}, remove: [x-secret]}, "
    "response: {set: {server: us}, remove: [x-gone]}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {prefix: /re/}}]\n    rewrite: {uriRegexRewrite: {match: "
    "'^/re/([a-z]+)/([0-9]+)', rewrite: '/\\2/\\1'}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {exact: /flaky}}]\n    retries: {attempts: 2, retryOn: 5xx}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {exact: /slow}}]\n    timeout: 50ms\n    route: [{destination: {host: "
    "web.example}}]\n"
    "  - match: [{uri: {exact: /cors}}]\n    corsPolicy: {allowOrigins: [{exact: "
    "'http://good.example'}], allowMethods: [GET], maxAge: 60s}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{headers: {x-version: {exact: v9}}}]\n    route: [{destination: {host: "
    "nowhere.example}}]\n"
    "  - match: [{method: {exact: PUT}, queryParams: {q: {exact: '1'}}}]\n    directResponse: "
    "{status: 405}\n"
    "  - match: [{headers: {':path': {regex: '/p[?]a=.*'}, ':method': {exact: GET}, ':scheme': "
    "{exact: http}, ':authority': {prefix: web}}, withoutHeaders: {':status': {}}}]\n    "
    "directResponse: {status: 299}\n"
    "  - match: [{uri: {prefix: /}, withoutHeaders: {x-lost: {}}}]\n    route: [{destination: "
    "{host: web.example}}]\n";

Test(l7, requests_are_routed_and_edited)
{
	static const struct origin_row rows[] = {
	    {"GET /plain HTTP/1.1\r\n" HOST "\r\n",
	     {"GET /plain HTTP/1.1\r\n", "ost: web.example\r\n"},
	     {"HTTP/1.1 200 ", "\r\n\r\nok", "erver: origin"}},
	    {"GET /old HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 302 ", "http://web.example/new"}},
	    {"GET /was/a/b?c HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 301 ", "http://b.example/is/a/b?c\r\n"}},
	    {"GET /tea HTTP/1.1\r\n" HOST "\r\n", {NULL}, {"HTTP/1.1 418 ", "short and stout"}},
	    {"GET /broken HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 501 ", "fault filter abort"}},
	    {"GET /a/c?d=e HTTP/1.1\r\n" HOST "X-Secret: 1\r\nX-Has: h\r\n\r\n",
	     {"GET /b/c?d=e HTTP/1.1", "ost: inner.example", "x-path: /a/c?d=e\r", "!ecret"},
	     {"HTTP/1.1 200 ", "erver: us", "!-Gone", "!origin"}},
	    {"GET /a/ HTTP/1.1\r\n" HOST "X-Has: h\r\n\r\n",
	     {"x-add: h", "x-set: s", "x-path: /a/\r"},
	     {"HTTP/1.1 200 "}},
	    {"GET /re/abc/42?q HTTP/1.1\r\n" HOST "\r\n", {"GET /42/abc?q "}, {"HTTP/1.1 200 "}},
	    {"GET /slow HTTP/1.1\r\n" HOST "\r\n", {"GET /slow "}, {"HTTP/1.1 504 ", "timeout"}},
	    {"GET /cors HTTP/1.1\r\n" HOST "Origin: http://good.example\r\n\r\n",
	     {"GET /cors "},
	     {"access-control-allow-origin: http://good.example"}},
	    {"OPTIONS /cors HTTP/1.1\r\n" HOST
	     "Origin: http://good.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 200 ", "access-control-allow-methods: GET", "access-control-max-age: 60"}},
	    {"GET /cors HTTP/1.1\r\n" HOST "Origin: http://bad.example\r\n\r\n",
	     {"GET /cors "},
	     {"HTTP/1.1 200 ", "!access-control"}},
	    {"GET / HTTP/1.1\r\n" HOST "X-Version: v9\r\n\r\n", {NULL}, {"HTTP/1.1 503 "}},
	    {"POST /any HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
	     {"ransfer-Encoding: chunked\r\n", "!CHUNKED"},
	     {"HTTP/1.1 200 "}},
	    {"PUT /any?q=1 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
	     {NULL},
	     {"HTTP/1.1 405 "}},
	    {"PUT /any?q=2 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
	     {"PUT /any?q=2 ", "\r\n\r\nabc"},
	     {"HTTP/1.1 200 "}},
	    {"GET / HTTP/1.1\r\n" HOST "X-Lost: 1\r\n\r\n", {NULL}, {"HTTP/1.1 404 "}},
	    {"GET /p?a=b HTTP/1.1\r\n" HOST "\r\n", {NULL}, {"HTTP/1.1 299 "}},
	    {"GET /p HTTP/1.1\r\n" HOST "\r\n", {"GET /p "}, {"HTTP/1.1 200 "}},
	    {"POST /p?a=b HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
	     {"POST /p?a=b "},
	     {"HTTP/1.1 200 "}},
	    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 400 "}},
	    {"GET / HTTP/1.1\r\n\r\n", {NULL}, {"HTTP/1.1 400 "}},
	};
	origin_begin(routes, answer);
	ORIGIN_CHECK(rows);
	origin_forget();
	origin_check_text("/flaky", "the client", origin_ask("GET /flaky HTTP/1.1\r\n" HOST "\r\n"),
			  (const char *[4]){"HTTP/1.1 200 "});
	cr_expect_str_eq(origin_first_lines(), "GET /flaky HTTP/1.1|GET /flaky HTTP/1.1|");
	origin_end();
}

static const char guarded[] =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: "
    "shop}\n"
    "spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret*], methods: [GET]}}]}]}\n---\n"
    "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: who, "
    "namespace: shop}\n"
    "spec: {jwtRules: [{issuer: i, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}'}]}\n---\n"
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "
    "labels: {app: web}}\n"
    "spec: {selectors: [{uid: %UID%}]}\n---\n"
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: few, namespace: "
    "shop}\n"
    "spec:\n  workloadSelector: {labels: {app: web}}\n  configPatches:\n"
    "  - applyTo: HTTP_FILTER\n    match: {context: SIDECAR_INBOUND}\n    patch:\n      operation: "
    "INSERT_BEFORE\n"
    "      value:\n        name: envoy.filters.http.local_ratelimit\n        typed_config:\n"
    "          \"@type\": "
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n"
    "          stat_prefix: few\n"
    "          token_bucket: {max_tokens: 4, tokens_per_fill: 1, fill_interval: 3600s}\n"
    "          filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}\n"
    "          filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}\n";

Test(l7, what_is_mandatory_is_asked_before_the_server)
{
	static const struct origin_row rows[] = {
	    {"GET /secret/1 HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 403 ", "RBAC: access denied"}},
	    {"POST /secret/1 HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
	     {"POST /secret/1 "},
	     {"HTTP/1.1 200 "}},
	    {"GET /a HTTP/1.1\r\n" HOST "Authorization: Bearer a.b.c\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 401 ", "Jwt"}},
	    {"GET /open HTTP/1.1\r\n" HOST "\r\n", {"GET /open "}, {"HTTP/1.1 200 "}},
	};
	bool limited = false;
	origin_begin(guarded, answer);
	ORIGIN_CHECK(rows);
	/* Four tokens and no more. */
	for (int i = 0; i < 6 && !limited; i++)
		limited = strstr(origin_ask("GET /open HTTP/1.1\r\n" HOST "\r\n"),
				 "HTTP/1.1 429 ") != NULL;
	cr_expect(limited);
	origin_end();
}

/* The frames of a request for / of web.example: the preface, SETTINGS, HEADERS that end the stream. */
static const uint8_t http2_request[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
				       "\0\0\0\4\0\0\0\0\0"
				       "\0\0\20\1\5\0\0\0\1"
				       "\x82\x86\x84\x41\x0bweb.example";

Test(l7, http2_is_spoken_to_a_server_of_http1)
{
	uint8_t head[9];
	uint8_t payload[ORIGIN_TEXT];
	char body[16] = "";
	bool over = false;
	origin_begin(routes, answer);
	int fd = whole_connect(whole_addr(240, 9, 1, 1, 80));
	whole_send(fd, http2_request, sizeof(http2_request) - 1);
	while (!over) {
		whole_recv(fd, head, sizeof(head));
		size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
		cr_assert_lt(len, sizeof(payload));
		whole_recv(fd, payload, len);
		if (head[8] != 1)
			continue;
		cr_assert(head[3] != 3, "the stream was reset");
		/* :status 200, of the static table. */
		if (head[3] == 1)
			cr_expect_eq(payload[0], 0x88);
		if (head[3] == 0 && len < sizeof(body))
			strncat(body, (char *)payload, len);
		over = head[4] & 1;
	}
	cr_expect_str_eq(body, "ok");
	origin_check_text("/", "the server", origin_last(),
			  (const char *[4]){"GET / HTTP/1.1\r\n", "ost: web.example\r\n"});
	flat_close(fd);
	origin_end();
}

Test(l7, each_request_is_logged)
{
	const char *text;
	origin_begin(routes, answer);
	(void)origin_ask("GET /one HTTP/1.1\r\n" HOST "User-Agent: us\r\n\r\n");
	(void)origin_ask("GET /teapot HTTP/1.1\r\n" HOST "\r\n");
	text = origin_log("access", "/teapot");
	cr_expect_not_null(strstr(text, "\"GET /one HTTP/1.1\" 200 - 0 2 "), "%s", text);
	cr_expect_not_null(strstr(text, "\"GET /teapot HTTP/1.1\" 418 "), "%s", text);
	cr_expect_not_null(strstr(text, "\"us\""), "%s", text);
	origin_end();
}

Test(l7, what_is_refused_is_in_the_audit_log)
{
	struct flat_pool pool = {.limit_bytes = 1 << 20};
	const struct flat_json_node *line;
	const char *text;
	origin_begin(guarded, answer);
	(void)origin_ask("GET /open HTTP/1.1\r\n" HOST "\r\n");
	(void)origin_ask("GET /secret/1?q HTTP/1.1\r\n" HOST "\r\n");
	(void)origin_ask("GET /secret/2 HTTP/1.1\r\n" HOST "\r\n");
	text = origin_log("audit", "/secret/2");
	cr_expect_null(strstr(text, "/open"), "%s", text);
	cr_assert_eq(flat_json_read(text, strcspn(text, "\n"), &pool, &line), 0, "%s", text);
	cr_expect_str_eq(flat_json_member_text(line, "event"), "denied");
	cr_expect_str_eq(flat_json_member_text(line, "policy"), "no");
	cr_expect_str_eq(flat_json_member_text(line, "path"), "/secret/1");
	flat_pool_fini(&pool);
	origin_end();
}

#define CHUNKED(fields, trailers)                                                                  \
	"PUT /a/x HTTP/1.1\r\n" HOST fields                                                        \
	"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" trailers "\r\n"

static const char *answer_with_trailers(const char *request, unsigned n)
{
	(void)request;
	(void)n;
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
	       "Server: forged\r\nx-gone: 1\r\nx-sum: 2\r\n\r\n";
}

Test(l7, no_trailer_says_what_a_head_is_kept_from_saying)
{
	static const struct origin_row rows[] = {
	    /* The route sets x-set and takes x-secret away; of the response it sets Server and takes x-gone away. */
	    {CHUNKED("", "x-ok: 1\r\nX-Set: forged\r\nx-secret: forged\r\n"),
	     {"x-ok: 1\r\n", "!forged"},
	     {"HTTP/1.1 200 ", "x-sum: 2\r\n", "!forged", "!x-gone"}},
	    {CHUNKED("", "Host: forged\r\n"), {NULL}, {"HTTP/1.1 400 "}},
	    {CHUNKED("", "Authorization: forged\r\n"), {NULL}, {"HTTP/1.1 400 "}},
	    {CHUNKED("", "Content-Length: 9\r\n"), {NULL}, {"HTTP/1.1 400 "}},
	};
	origin_begin(routes, answer_with_trailers);
	ORIGIN_CHECK(rows);
	origin_end();
}

static const char mirrored[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: "
    "shop}\nspec:\n  hosts: [web.example]\n  http:\n"
    "  - match: [{uri: {prefix: /twice}}]\n    mirror: {host: web.example}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - route: [{destination: {host: web.example}}]\n";

Test(l7, a_mirror_gets_a_copy_and_the_client_one_answer)
{
	origin_begin(mirrored, answer);
	const char *text =
	    origin_ask("PUT /twice HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody");
	cr_expect_eq(strncmp(text, "HTTP/1.1 200 ", 13), 0, "%s", text);
	cr_expect_null(strstr(text + 1, "HTTP/1.1"), "%s", text);
	for (int i = 0; i < 1000 && origin_requests() < 2; i++)
		(void)flat_poll(NULL, 0, 10);
	cr_expect_str_eq(origin_first_lines(), "PUT /twice HTTP/1.1|PUT /twice HTTP/1.1|");
	cr_expect_not_null(strstr(origin_last(), "\r\n\r\nbody"), "%s", origin_last());
	origin_end();
}

/* DestinationRules for some clients: what is said of the traffic of these has their connections read, and holds. */
#define COOKIE_FOR(app)                                                                            \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "  \
	"labels: {app: client}}\nspec: {selectors: [{uid: %UID%}]}\n---\n"                         \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                              \
	"metadata: {name: some, namespace: shop}\n"                                                \
	"spec: {host: web.example, workloadSelector: {matchLabels: {app: " app "}}, "              \
	"trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 5s}}}}}\n"

static void check_cookie(const char *yaml, bool want)
{
	origin_begin(yaml, answer);
	cr_expect_eq(
	    strcasestr(origin_ask("GET /plain HTTP/1.1\r\n" HOST "\r\n"), "set-cookie: c=") != NULL,
	    want);
	origin_end();
}

Test(l7, rules_for_some_clients_hold_for_these)
{
	check_cookie(COOKIE_FOR("client"), true);
}

Test(l7, rules_for_some_clients_hold_for_no_others)
{
	check_cookie(COOKIE_FOR("other"), false);
}
