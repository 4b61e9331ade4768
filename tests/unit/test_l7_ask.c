/*
 * Requests about which a service is asked before they go on: an external authorizer over HTTP and gRPC, a rate limit service. What the client
 * and its server see of what the service says, or of its silence; what becomes of its connections.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <flat/socket.h>

#include "codec/protobuf.h"
#include "support_calls.h"
#include "support_origin.h"
#include "support_whole.h"

static struct calls service;
static int dead;

/* Everybody is the one workload of namespace shop. */
#define WORKLOAD                                                                                   \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "  \
	"labels: {app: web}}\nspec: {selectors: [{uid: %%UID%%}]}\n---\n"                          \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: ext, namespace: shop}\n"

#define CUSTOM                                                                                     \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"                            \
	"metadata: {name: ext, namespace: shop}\nspec: {action: CUSTOM, provider: {name: ext}, "   \
	"rules: [{to: [{operation: {paths: ['/a*']}}]}]}\n---\n"

/* A port that is nobody's for as long as the test runs: bound, and never listened at. */
static uint16_t dead_port(void)
{
	struct sockaddr_in at = whole_addr(127, 0, 0, 1, 0);
	socklen_t len = sizeof(at);

	dead = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(dead, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(getsockname(dead, (struct sockaddr *)&at, &len), 0);
	return ntohs(at.sin_port);
}

/* A service that is asked; `rest` is what asks it. */
static void begin(bool grpc, calls_fn *fn, const char *rest)
{
	static char yaml[8192];
	const char *name = grpc ? "grpc" : "http";
	int n;

	calls_open(&service, grpc, fn);
	n = snprintf(yaml, sizeof(yaml),
		     WORKLOAD
		     "spec: {hosts: [ext.example], location: MESH_INTERNAL, resolution: STATIC, "
		     "ports: [{number: 9000, name: %s}, {number: 9001, name: %s-dead}], endpoints: "
		     "[{address: 127.0.0.1, ports: {%s: %u, %s-dead: %u}}]}\n---\n%s",
		     name, name, name, service.port, name, dead_port(), rest);
	cr_assert_lt((size_t)n, sizeof(yaml));
	origin_begin(yaml, NULL);
	calls_begin(&service);
}

static void end(void)
{
	origin_end();
	calls_end(&service);
	close(dead);
}

#define HTTP_PROVIDER(fields)                                                                      \
	CUSTOM "kind: MeshConfig\nextensionProviders: [{name: ext, envoyExtAuthzHttp: {service: "  \
	       "ext.example, " fields "}}]\n"
#define GRPC_PROVIDER(fields)                                                                      \
	CUSTOM "kind: MeshConfig\nextensionProviders: [{name: ext, envoyExtAuthzGrpc: {service: "  \
	       "ext.example, port: 9000" fields "}}]\n"

static calls_fn check;

/* --- an authorizer over HTTP --- */

/* By the path behind /a/. */
static bool authorize(const char *request, size_t len, struct flat_strbuf *answer)
{
	const char *path = strchr(request, ' ') + 1;

	(void)len;
	if (strncmp(path, "/a/allow", 8) == 0)
		flat_strbuf_puts(
		    answer, "HTTP/1.1 200 OK\r\nx-user: u\r\nx-quota: 9\r\n"
			    "x-envoy-auth-headers-to-remove: cookie, x-gone\r\nContent-Length: "
			    "2\r\n\r\nok");
	else if (strncmp(path, "/a/login", 8) == 0)
		flat_strbuf_puts(answer,
				 "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: "
				 "4\r\n\r\ngo!\n");
	else if (strncmp(path, "/a/once", 7) == 0)
		flat_strbuf_puts(answer, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
					 "Content-Length: 0\r\n\r\n");
	else if (strncmp(path, "/a/error", 8) == 0)
		flat_strbuf_puts(answer, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
	else if (strncmp(path, "/a/bad", 6) == 0)
		flat_strbuf_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n");
	else if (strncmp(path, "/a/cut", 6) == 0)
		flat_strbuf_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok");
	else if (strncmp(path, "/a/long", 7) == 0)
		flat_strbuf_printf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n%040000u",
				   40000, 0);
	else if (strncmp(path, "/a/silent", 9) != 0)
		flat_strbuf_printf(answer, "HTTP/1.1 403 No\r\nContent-Type: text/x\r\n"
					   "Content-Length: 3\r\n\r\nno\n");
	/* One that is closed after its answer tells nobody so. */
	return strncmp(path, "/a/once", 7) != 0 && strncmp(path, "/a/cut", 6) != 0;
}

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "Cookie: c\r\nx-user: forged\r\n\r\n"

Test(l7_ask, an_authorizer_over_http_decides)
{
	static const struct origin_row rows[] = {
	    {GET("/open"), {"GET /open ", "ookie: c", "x-user: forged"}, {"HTTP/1.1 200 "}},
	    {GET("/a/allow"),
	     {"GET /a/allow ", "x-user: u", "!ookie:", "!forged"},
	     {"HTTP/1.1 200 ", "x-quota: 9", "!x-user"}},
	    /* Nor does a trailer say what it sets or takes away. */
	    {"PUT /a/allow HTTP/1.1\r\n" HOST
	     "Transfer-Encoding: chunked\r\n\r\n0\r\nX-User: forged\r\n"
	     "x_gone: forged\r\nx-ok: 1\r\n\r\n",
	     {"x-user: u", "x-ok: 1", "!forged"},
	     {"HTTP/1.1 200 "}},
	    {GET("/a/deny"), {NULL}, {"HTTP/1.1 403 ", "\r\nContent-Type: text/x", "\r\n\r\nno\n"}},
	    {GET("/a/login"), {NULL}, {"HTTP/1.1 302 ", "ocation: /login", "\r\n\r\ngo!\n"}},
	    {GET("/a/once"), {"GET /a/once "}, {"HTTP/1.1 200 "}},
	    /* It closed that connection: it is asked again, on another. */
	    {GET("/a/once"), {"GET /a/once "}, {"HTTP/1.1 200 "}},
	    {GET("/a/allow"), {"GET /a/allow "}, {"HTTP/1.1 200 "}},
	};

	begin(false, authorize,
	      HTTP_PROVIDER("port: 9000, headersToUpstreamOnAllow: [x-user], "
			    "headersToDownstreamOnAllow: [x-quota]"));
	ORIGIN_CHECK(rows);
	/* What one connection can carry, it does. */
	cr_expect_eq(service.questions, 7, "%u", service.questions);
	cr_expect_eq(service.connections, 3, "%u", service.connections);
	end();
}

Test(l7_ask, an_authorizer_whose_answer_is_none_refuses)
{
	static const struct origin_row rows[] = {
	    {GET("/a/error"), {NULL}, {"HTTP/1.1 418 "}},
	    {GET("/a/bad"), {NULL}, {"HTTP/1.1 418 "}},
	    {GET("/a/cut"), {NULL}, {"HTTP/1.1 418 "}},
	    {GET("/a/long"), {NULL}, {"HTTP/1.1 418 "}},
	    {GET("/a/allow"), {"GET /a/allow "}, {"HTTP/1.1 200 "}},
	};

	begin(false, authorize, HTTP_PROVIDER("port: 9000, statusOnError: '418'"));
	ORIGIN_CHECK(rows);
	end();
}

Test(l7_ask, an_authorizer_whose_answer_is_none_allows_where_that_is_said)
{
	static const struct origin_row rows[] = {
	    {GET("/a/error"), {"GET /a/error ", "ookie: c"}, {"HTTP/1.1 200 "}},
	    {GET("/a/cut"), {"GET /a/cut "}, {"HTTP/1.1 200 "}},
	    {GET("/a/deny"), {NULL}, {"HTTP/1.1 403 "}},
	};

	begin(false, authorize, HTTP_PROVIDER("port: 9000, failOpen: true"));
	ORIGIN_CHECK(rows);
	end();
}

/* Nothing but its silence is seen with so short a time. */
#define SILENT "/a/silent"

Test(l7_ask, an_authorizer_that_says_nothing_refuses)
{
	static const struct origin_row rows[] = {
	    {GET(SILENT), {NULL}, {"HTTP/1.1 418 "}},
	    {GET(SILENT), {NULL}, {"HTTP/1.1 418 "}},
	};

	begin(false, authorize, HTTP_PROVIDER("port: 9000, timeout: 50ms, statusOnError: '418'"));
	ORIGIN_CHECK(rows);
	end();
}

Test(l7_ask, an_authorizer_that_says_nothing_allows_where_that_is_said)
{
	static const struct origin_row rows[] = {
	    {GET(SILENT), {"GET " SILENT " "}, {"HTTP/1.1 200 "}},
	};

	begin(true, check, GRPC_PROVIDER(", timeout: 50ms, failOpen: true"));
	ORIGIN_CHECK(rows);
	end();
}

Test(l7_ask, an_authorizer_that_is_not_there_refuses)
{
	static const struct origin_row rows[] = {
	    {GET("/a/allow"), {NULL}, {"HTTP/1.1 403 "}},
	    {GET("/open"), {"GET /open "}, {"HTTP/1.1 200 "}},
	};

	begin(false, authorize, HTTP_PROVIDER("port: 9001"));
	ORIGIN_CHECK(rows);
	cr_expect_eq(service.connections, 0);
	end();
}

/* --- an authorizer over gRPC --- */

/* Whether the question's message has this text in it. */
static bool asks(const char *request, size_t len, const char *text)
{
	return memmem(request, len, text, strlen(text)) != NULL;
}

static void put_header(struct flat_strbuf *out, uint32_t number, const char *name,
		       const char *value)
{
	struct flat_strbuf option = {0};

	calls_put_pair(&option, 1, name, value);
	flat_protobuf_put_message(out, number, &option);
	flat_strbuf_fini(&option);
}

/* A header and a parameter of the query, taken away. */
static void put_removed(struct flat_strbuf *part, unsigned i)
{
	char name[16];

	snprintf(name, sizeof(name), "x-%u", i);
	flat_protobuf_put_text(part, 5, name);
	flat_protobuf_put_text(part, 8, name);
}

static bool check(const char *request, size_t len, struct flat_strbuf *answer)
{
	struct flat_strbuf message = {0}, status = {0}, part = {0};
	bool allow = asks(request, len, "/a/allow");

	if (asks(request, len, "/a/silent"))
		return true;
	if (asks(request, len, "/a/cut"))
		return false;
	if (asks(request, len, "/a/error")) {
		flat_strbuf_puts(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
					 "grpc-status: 14\r\ncontent-length: 0\r\n\r\n");
		return true;
	}
	flat_protobuf_put_number(&status, 1, allow ? 0 : 7);
	flat_protobuf_put_message(&message, 1, &status);
	if (allow) {
		put_header(&part, 2, "x-user", "u");
		flat_protobuf_put_text(&part, 5, "cookie");
		put_header(&part, 6, "x-quota", "9");
		calls_put_pair(&part, 7, "q", "2");
		for (unsigned i = 0; i < 40 && asks(request, len, "/a/allow/many"); i++)
			put_removed(&part, i);
	} else {
		flat_protobuf_put_number(&status, 1, 451);
		flat_protobuf_put_message(&part, 1, &status);
		flat_protobuf_put_text(&part, 3, asks(request, len, "secret") ? "heard" : "no");
	}
	flat_protobuf_put_message(&message, allow ? 3 : 2, &part);
	/* A field that says more bytes than there are. */
	if (asks(request, len, "/a/bad"))
		flat_strbuf_puts(&message, "\x1a\x7f");
	calls_grpc(answer, &message);
	flat_strbuf_fini(&message);
	flat_strbuf_fini(&status);
	flat_strbuf_fini(&part);
	return true;
}

#define PUT(path, body) "PUT " path " HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n" body

Test(l7_ask, an_authorizer_over_grpc_decides_on_one_connection)
{
	static const struct origin_row rows[] = {
	    {GET("/a/allow?q=1&r=3"),
	     {"GET /a/allow?r=3&q=2 ", "x-user: u", "!ookie:", "!forged"},
	     {"HTTP/1.1 200 ", "x-quota: 9"}},
	    /* However many it takes away. */
	    {"GET /a/allow/many?x-0=a&x-39=b&x-40=c HTTP/1.1\r\n" HOST
	     "x-0: a\r\nx-39: b\r\nx-40: c\r\nx-41: d\r\n\r\n",
	     {"GET /a/allow/many?x-40=c&q=2 ", "!x-0", "!x-39", "x-40: c\r\nx-41: d\r\n"},
	     {"HTTP/1.1 200 "}},
	    {GET("/a/deny"), {NULL}, {"HTTP/1.1 451 ", "ontent-type: text/plain", "\r\n\r\nno"}},
	    {GET("/a/error"), {NULL}, {"HTTP/1.1 403 "}},
	    {GET("/a/bad"), {NULL}, {"HTTP/1.1 403 "}},
	    /* It is told of the body, which its server gets whole. */
	    {PUT("/a/deny", "my secret"), {NULL}, {"HTTP/1.1 451 ", "\r\n\r\nheard"}},
	    {PUT("/a/allow", "my secret"), {"\r\n\r\nmy secret"}, {"HTTP/1.1 200 "}},
	};

	begin(true, check, GRPC_PROVIDER(", includeRequestBodyInCheck: {maxRequestBytes: 9}"));
	ORIGIN_CHECK(rows);
	cr_expect_eq(service.questions, 7, "%u", service.questions);
	cr_expect_eq(service.connections, 1, "%u", service.connections);
	end();
}

Test(l7_ask, a_body_longer_than_the_authorizer_sees_is_refused)
{
	static const struct origin_row rows[] = {
	    {PUT("/a/allow", "my secret"), {NULL}, {"HTTP/1.1 413 "}},
	};

	begin(true, check, GRPC_PROVIDER(", includeRequestBodyInCheck: {maxRequestBytes: 8}"));
	ORIGIN_CHECK(rows);
	cr_expect_eq(service.questions, 0);
	end();
}

Test(l7_ask, of_a_longer_body_the_beginning_is_seen_where_that_is_said)
{
	static const struct origin_row rows[] = {
	    {PUT("/a/deny", "my secret"), {NULL}, {"HTTP/1.1 451 ", "\r\n\r\nno"}},
	    {PUT("/a/allow", "my secret"), {"\r\n\r\nmy secret"}, {"HTTP/1.1 200 "}},
	};

	begin(true, check,
	      GRPC_PROVIDER(", includeRequestBodyInCheck: {maxRequestBytes: 8, "
			    "allowPartialMessage: true}"));
	ORIGIN_CHECK(rows);
	end();
}

Test(l7_ask, an_authorizer_over_grpc_that_breaks_off_refuses)
{
	static const struct origin_row rows[] = {
	    {GET("/a/cut"), {NULL}, {"HTTP/1.1 503 "}},
	    {GET("/a/allow"), {"GET /a/allow?q=2 "}, {"HTTP/1.1 200 "}},
	    /* On a connection that is kept, too: it is asked once more, on another. */
	    {GET("/a/cut"), {NULL}, {"HTTP/1.1 503 "}},
	};

	begin(true, check, GRPC_PROVIDER(", statusOnError: '503'"));
	ORIGIN_CHECK(rows);
	cr_expect_eq(service.questions, 4, "%u", service.questions);
	end();
}

Test(l7_ask, an_authorizer_over_grpc_that_says_nothing_refuses)
{
	static const struct origin_row rows[] = {
	    {GET(SILENT), {NULL}, {"HTTP/1.1 503 "}},
	    {GET(SILENT), {NULL}, {"HTTP/1.1 503 "}},
	};

	begin(true, check, GRPC_PROVIDER(", timeout: 50ms, statusOnError: '503'"));
	ORIGIN_CHECK(rows);
	end();
}

/* --- a rate limit service --- */

#define RATE_FILTER(fields, cluster)                                                               \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                            \
	"metadata: {name: rate, namespace: shop}\nspec:\n  configPatches:\n"                       \
	"  - applyTo: HTTP_FILTER\n    match: {context: SIDECAR_INBOUND}\n    patch:\n"            \
	"      operation: INSERT_BEFORE\n      value:\n        name: "                             \
	"envoy.filters.http.ratelimit\n"                                                           \
	"        typed_config:\n          \"@type\": "                                             \
	"type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit\n"               \
	"          domain: shop\n          " fields "\n          rate_limit_service:\n"            \
	"            grpc_service: {envoy_grpc: {cluster_name: 'outbound|" cluster                 \
	"||ext.example'}}\n            transport_api_version: V3\n"                                \
	"  - applyTo: VIRTUAL_HOST\n"                                                              \
	"    match: {context: SIDECAR_INBOUND, routeConfiguration: {vhost: {name: '', route: "     \
	"{action: ANY}}}}\n"                                                                       \
	"    patch: {operation: MERGE, value: {rate_limits: [{actions: [{request_headers: "        \
	"{header_name: x-who, descriptor_key: who}}]}]}}\n"

/* By the value of the descriptor: CODE 1 is OK, 2 OVER_LIMIT. */
static bool limit(const char *request, size_t len, struct flat_strbuf *answer)
{
	struct flat_strbuf message = {0}, status = {0}, current = {0};

	if (asks(request, len, "silent"))
		return true;
	flat_protobuf_put_number(&message, 1, asks(request, len, "over") ? 2 : 1);
	flat_protobuf_put_number(&current, 1, 10);
	flat_protobuf_put_number(&current, 2, 2);
	flat_protobuf_put_message(&status, 2, &current);
	flat_protobuf_put_number(&status, 3, 4);
	flat_protobuf_put_message(&message, 2, &status);
	calls_put_pair(&message, 3, "x-told", "client");
	calls_put_pair(&message, 4, "x-told", "server");
	if (asks(request, len, "over"))
		flat_protobuf_put_text(&message, 5, "slow down");
	if (asks(request, len, "bad"))
		flat_strbuf_puts(&message, "\x12\x7f");
	if (asks(request, len, "shop"))
		calls_grpc(answer, &message);
	flat_strbuf_fini(&message);
	flat_strbuf_fini(&status);
	flat_strbuf_fini(&current);
	return true;
}

#define AS(who) "GET /x HTTP/1.1\r\n" HOST "x-who: " who "\r\n\r\n"

Test(l7_ask, a_rate_limit_service_decides)
{
	static const struct origin_row rows[] = {
	    {AS("ok"),
	     {"x-told: server", "!x-told: client"},
	     {"HTTP/1.1 200 ", "x-told: client", "x-ratelimit-limit: 10, 10;w=60",
	      "x-ratelimit-remaining: 4"}},
	    {AS("over"),
	     {NULL},
	     {"HTTP/1.1 429 ", "x-envoy-ratelimited: true", "x-told: client", "\r\n\r\nslow down"}},
	    /* One byte of a client's that is no UTF-8 asks as any other. */
	    {AS("over\xff"), {NULL}, {"HTTP/1.1 429 "}},
	    {AS("bad"), {NULL}, {"HTTP/1.1 500 "}},
	};
	/* Of whom no descriptor can be made, nobody is asked. */
	static const struct origin_row nobody[] = {
	    {"GET /x HTTP/1.1\r\n" HOST "\r\n", {"GET /x "}, {"HTTP/1.1 200 ", "!x-told"}},
	};

	begin(true, limit,
	      RATE_FILTER("enable_x_ratelimit_headers: DRAFT_VERSION_03\n          timeout: 60s\n"
			  "          failure_mode_deny: true",
			  "9000"));
	ORIGIN_CHECK(rows);
	cr_expect_eq(service.questions, 4, "%u", service.questions);
	ORIGIN_CHECK(nobody);
	cr_expect_eq(service.questions, 4, "%u", service.questions);
	end();
}

Test(l7_ask, a_rate_limit_service_that_is_not_there_lets_pass)
{
	static const struct origin_row rows[] = {
	    {AS("over"), {"GET /x "}, {"HTTP/1.1 200 ", "!x-told", "!x-ratelimit"}},
	};

	begin(true, limit, RATE_FILTER("timeout: 10s", "9001"));
	ORIGIN_CHECK(rows);
	end();
}

Test(l7_ask, a_rate_limit_service_that_says_nothing_refuses_where_that_is_said)
{
	static const struct origin_row rows[] = {
	    {AS("silent"), {NULL}, {"HTTP/1.1 500 "}},
	};

	begin(true, limit,
	      RATE_FILTER("timeout: 0.05s\n          failure_mode_deny: true", "9000"));
	ORIGIN_CHECK(rows);
	end();
}
