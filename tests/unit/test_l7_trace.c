/*
 * Telemetry through flatd: whose requests have spans, what the collector and the access log get of them, and the headers that a server gets. The
 * collector is the test's own.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/socket.h>

#include "codec/protobuf.h"
#include "support_calls.h"
#include "support_origin.h"
#include "support_whole.h"

#define SPANS 16
#define MESSAGE ((size_t)65536)
/* Bytes before a message of gRPC's. */
#define PREFIX ((size_t)5)

struct span {
	char trace[33], id[17], parent[17];
	char name[64], service[64];
	uint64_t kind; /* of opentelemetry-proto: 2 a server's, 3 a client's */
	bool failed;
	char tags[2048]; /* "name=value|" of each */
};

static struct calls collector;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct span spans[SPANS];
static unsigned n_spans;
static char log_path[64];

/* --- the collector --- */

static void hex(const struct flat_protobuf_field *f, size_t bytes, char *out)
{
	for (size_t i = 0; i < f->len && i < bytes; i++)
		snprintf(out + 2 * i, 3, "%02x", f->bytes[i]);
}

static void text(const struct flat_protobuf_field *f, char *out, size_t size)
{
	snprintf(out, size, "%.*s", (int)f->len, (const char *)f->bytes);
}

/* KeyValue: key 1, value 2, of which a string is 1. */
static void read_tag(const struct flat_protobuf_field *in, char *tags, size_t size)
{
	struct flat_protobuf_field f, v;
	size_t at = 0, vat = 0, len;

	while (flat_protobuf_next(in->bytes, in->len, &at, &f) > 0) {
		len = strlen(tags);
		if (f.number == 1)
			snprintf(tags + len, size - len, "%.*s=", (int)f.len,
				 (const char *)f.bytes);
		else if (f.number == 2 && flat_protobuf_next(f.bytes, f.len, &vat, &v) > 0)
			snprintf(tags + len, size - len, "%.*s|", (int)v.len,
				 (const char *)v.bytes);
	}
}

static void read_span(const struct flat_protobuf_field *in, struct span *s)
{
	struct flat_protobuf_field f, status;
	size_t at = 0, sat = 0;

	while (flat_protobuf_next(in->bytes, in->len, &at, &f) > 0) {
		if (f.number == 1)
			hex(&f, 16, s->trace);
		else if (f.number == 2)
			hex(&f, 8, s->id);
		else if (f.number == 4)
			hex(&f, 8, s->parent);
		else if (f.number == 5)
			text(&f, s->name, sizeof(s->name));
		else if (f.number == 6)
			s->kind = f.value;
		else if (f.number == 9)
			read_tag(&f, s->tags, sizeof(s->tags));
		else if (f.number == 15 && flat_protobuf_next(f.bytes, f.len, &sat, &status) > 0)
			s->failed = status.number == 3 && status.value == 2;
	}
}

/* ResourceSpans: resource 1 with attributes 1, scope_spans 2 with spans 2. */
static void read_resource(const struct flat_protobuf_field *in)
{
	struct flat_protobuf_field f, inner;
	struct span s = {.kind = 0};
	size_t at = 0;

	while (flat_protobuf_next(in->bytes, in->len, &at, &f) > 0) {
		size_t iat = 0;

		while (flat_protobuf_next(f.bytes, f.len, &iat, &inner) > 0) {
			if (f.number == 1 && inner.number == 1)
				read_tag(&inner, s.service, sizeof(s.service));
			else if (f.number == 2 && inner.number == 2)
				read_span(&inner, &s);
		}
	}
	if (n_spans < SPANS)
		spans[n_spans++] = s;
}

/* What the chunks from `at` on carry. */
static size_t carried(const char *at, const char *end, uint8_t out[MESSAGE])
{
	size_t len = 0;
	char *line;

	while (at < end) {
		size_t n = strtoul(at, &line, 16);

		if (n == 0 || n > MESSAGE - len || n > (size_t)(end - line))
			break;
		memcpy(out + len, line + 2, n);
		len += n;
		at = line + 2 + n + 2;
	}
	return len;
}

static bool collect(const char *request, size_t len, struct flat_strbuf *answer)
{
	static uint8_t message[MESSAGE];
	const char *body = strstr(request, "\r\n\r\n");
	struct flat_strbuf none = {0};
	struct flat_protobuf_field f;
	size_t n, at = PREFIX;

	pthread_mutex_lock(&lock);
	if (body &&
	    strstr(request, "/opentelemetry.proto.collector.trace.v1.TraceService/Export")) {
		n = carried(body + 4, request + len, message);
		while (flat_protobuf_next(message, n, &at, &f) > 0)
			read_resource(&f);
	}
	pthread_mutex_unlock(&lock);
	calls_grpc(answer, &none);
	return true;
}

/* The span of that kind of the request for `path`, once it is there: 10 s at most. */
static struct span span_of(uint64_t kind, const char *path)
{
	struct span found = {.kind = 0};
	char want[128];

	snprintf(want, sizeof(want), "http.url=http://web.example%s|", path);
	for (int i = 0; i < 1000 && !found.kind; i++) {
		pthread_mutex_lock(&lock);
		for (unsigned k = 0; k < n_spans; k++) {
			if (spans[k].kind == kind && strstr(spans[k].tags, want))
				found = spans[k];
		}
		pthread_mutex_unlock(&lock);
		if (!found.kind)
			(void)flat_poll(NULL, 0, 10);
	}
	cr_assert_eq(found.kind, kind, "no span of kind %u of %s", (unsigned)kind, path);
	return found;
}

/* --- the mesh --- */

enum { SERVER = 2, CLIENT = 3 };

static const char *answer(const char *request, unsigned n)
{
	(void)n;
	return strstr(request, " /bad ")
		   ? "HTTP/1.1 503 No\r\nx-name: v\r\nContent-Length: 0\r\n\r\n"
		   : "HTTP/1.1 200 OK\r\nx-name: v\r\nContent-Length: 2\r\n\r\nok";
}

/* `telemetry` is what Telemetry says for all of namespace shop. */
static void begin(const char *telemetry)
{
	static char yaml[8192];
	int fd, n;

	snprintf(log_path, sizeof(log_path), "/tmp/flat-unit-trace.XXXXXX");
	fd = mkstemp(log_path);
	cr_assert_geq(fd, 0);
	close(fd);
	calls_open(&collector, true, collect);
	n = snprintf(
	    yaml, sizeof(yaml),
	    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: "
	    "shop, labels: {app: web, version: v3}}\nspec: {serviceAccount: all, selectors: [{uid: "
	    "%%UID%%}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: collector, namespace: shop}\n"
	    "spec: {hosts: [collector.example], addresses: [240.9.1.8], location: MESH_INTERNAL, "
	    "resolution: STATIC, ports: [{number: 4317, name: grpc}], endpoints: [{address: "
	    "127.0.0.1, ports: {grpc: %u}}]}\n"
	    "---\nkind: MeshConfig\nextensionProviders:\n"
	    "- {name: otel, opentelemetry: {service: collector.example, port: 4317, maxTagLength: "
	    "32}}\n"
	    "- {name: log, envoyFileAccessLog: {path: %s, logFormat: {text: \"%%TRACE_ID%% "
	    "%%REQ(:PATH)%% %%RESPONSE_CODE%% %%RESP(X-NAME)%% "
	    "%%UPSTREAM_CLUSTER%%\"}}}\n"
	    "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
	    "metadata: {name: all, namespace: shop}\nspec: {%s}\n",
	    collector.port, log_path, telemetry);
	cr_assert_lt((size_t)n, sizeof(yaml));
	origin_begin(yaml, answer);
	calls_begin(&collector);
}

static void end(void)
{
	origin_end();
	calls_end(&collector);
	cr_assert_eq(unlink(log_path), 0);
}

/* The access log once it has `want`, 10 s at most. */
static const char *logged(const char *want)
{
	static char lines[ORIGIN_TEXT];

	lines[0] = '\0';
	for (int i = 0; i < 1000 && !strstr(lines, want); i++) {
		FILE *f = fopen(log_path, "re");
		size_t n = f ? fread(lines, 1, sizeof(lines) - 1, f) : 0;

		lines[n] = '\0';
		if (f)
			fclose(f);
		if (!strstr(lines, want))
			(void)flat_poll(NULL, 0, 10);
	}
	cr_expect_not_null(strstr(lines, want), "no '%s' in:\n%s", want, lines);
	return lines;
}

static void has(const char *in, const char *want)
{
	cr_expect_not_null(strcasestr(in, want), "no '%s' in:\n%s", want, in);
}

#define GET(path, fields) "GET " path " HTTP/1.1\r\n" HOST fields "\r\n"
#define ALL "tracing: [{providers: [{name: otel}], randomSamplingPercentage: 100"
#define ID "0af7651916cd43dd8448eb211c80319c"
#define CALLER "b7ad6b7169203331"

TestSuite(l7_trace, .timeout = 60);

Test(l7_trace, each_side_has_a_span_of_one_trace)
{
	struct span client, server;
	char want[256];

	begin(ALL ", customTags: {a: {literal: {value: b}}, t: {header: {name: x-tenant, "
		  "defaultValue: none}}}}], accessLogging: [{providers: [{name: log}]}]");
	has(origin_ask(GET("/a", "User-Agent: tester\r\nX-Tenant: acme\r\n")), "\r\n\r\nok");
	client = span_of(CLIENT, "/a");
	server = span_of(SERVER, "/a");
	cr_expect_str_eq(client.trace, server.trace);
	cr_expect_eq(strlen(client.trace), 32);
	cr_expect_str_eq(server.parent, client.id);
	cr_expect_str_eq(client.parent, "");
	cr_expect_str_neq(client.id, server.id);
	cr_expect_str_eq(client.name, "web.example:80/*");
	cr_expect_str_eq(client.service, "service.name=web.shop|");
	cr_expect_not(client.failed);
	has(client.tags, "|http.status_code=200|");
	has(client.tags, "http.method=GET|");
	has(client.tags, "|user_agent=tester|");
	has(server.tags, "|istio.canonical_revision=v3|");
	has(server.tags, "|a=b|");
	has(server.tags, "|t=acme|");
	/* The server is told whose child its own are. */
	snprintf(want, sizeof(want), "traceparent: 00-%s-%s-01\r\n", server.trace, server.id);
	has(origin_last(), want);
	has(origin_last(), "x-request-id: ");
	snprintf(want, sizeof(want), "%s /a 200 v outbound|80||web.example\n", server.trace);
	/* Both sides ask for the line, and there is one. */
	cr_expect_str_eq(logged(want), want);
	snprintf(want, sizeof(want), "%s  GET /a  200 -  ", server.trace);
	has(whole_ask("trace"), want);
	has(whole_ask("whyhttp shop/all GET http://web.example/"),
	    "traces of the client's side: 100 % to otel, by shop/all (");
	has(whole_ask("whyhttp shop/all GET http://web.example/"),
	    "access log of the server's side: log to ");
	end();
}

Test(l7_trace, a_callers_trace_goes_on)
{
	struct span client;

	begin(ALL "}]");
	has(origin_ask(GET("/a", "traceparent: 00-" ID "-" CALLER "-01\r\ntracestate: x=y\r\n")),
	    "\r\n\r\nok");
	client = span_of(CLIENT, "/a");
	cr_expect_str_eq(client.trace, ID);
	cr_expect_str_eq(client.parent, CALLER);
	has(origin_last(), "traceparent: 00-" ID "-");
	has(origin_last(), "tracestate: x=y\r\n");
	cr_expect_null(strstr(origin_last(), CALLER), "%s", origin_last());
	end();
}

Test(l7_trace, what_the_caller_does_not_sample_is_told_nobody)
{
	begin(ALL "}]");
	has(origin_ask(GET("/no", "traceparent: 00-" ID "-" CALLER "-00\r\n")), "\r\n\r\nok");
	has(origin_last(), "traceparent: 00-" ID "-");
	has(origin_last(), "-00\r\n");
	/* One that is malformed is none, and this is another trace. */
	has(origin_ask(GET("/yes", "traceparent: 00-" ID "-b7ad-01\r\n")), "\r\n\r\nok");
	cr_expect_null(strstr(origin_last(), ID), "%s", origin_last());
	(void)span_of(SERVER, "/yes");
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < n_spans; i++)
		cr_expect_null(strstr(spans[i].tags, "example/no|"), "%s", spans[i].tags);
	pthread_mutex_unlock(&lock);
	cr_expect_null(strstr(whole_ask("trace"), "/no"));
	end();
}

Test(l7_trace, an_answer_that_is_an_error_is_one_in_its_spans)
{
	struct span client;

	begin(ALL "}]");
	has(origin_ask(GET("/bad", "User-Agent: a-name-of-more-than-thirty-two-bytes\r\n")),
	    "HTTP/1.1 503 ");
	client = span_of(CLIENT, "/bad");
	cr_expect(client.failed);
	has(client.tags, "|http.status_code=503|");
	/* Tags are cut where the provider says. */
	has(client.tags, "|user_agent=a-name-of-more-than-thirty-two-b|");
	end();
}

Test(l7_trace, one_side_alone_and_none)
{
	begin("tracing: [{match: {mode: SERVER}, providers: [{name: otel}], "
	      "randomSamplingPercentage: 100}]");
	has(origin_ask(GET("/a", "")), "\r\n\r\nok");
	cr_expect_str_eq(span_of(SERVER, "/a").parent, "");
	pthread_mutex_lock(&lock);
	cr_expect_eq(n_spans, 1);
	pthread_mutex_unlock(&lock);
	end();
}

Test(l7_trace, of_chance_zero_none_is_sampled)
{
	begin("tracing: [{providers: [{name: otel}], randomSamplingPercentage: 0}]");
	has(origin_ask(GET("/a", "")), "\r\n\r\nok");
	has(origin_last(), "traceparent: 00-");
	has(origin_last(), "-00\r\n");
	has(whole_ask("trace"), "no request was traced");
	end();
}
