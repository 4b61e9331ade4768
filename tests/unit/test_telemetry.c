/*
 * Telemetry: what holds for whom, after Istio's reference "Telemetry" and its merging of mesh, namespace and workload; and
 * lines of access logs, after Envoy's command operators.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "mesh/build.h"
#include "offload/access.h"
#include "support_mesh.h"

#define MESH                                                                                       \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: w, namespace: foo, labels: {app: w}}\nspec: {selectors: [{uid: 1}]}\n"   \
	"---\nkind: MeshConfig\nextensionProviders:\n"                                             \
	"- {name: a, envoyFileAccessLog: {path: /a}}\n"                                            \
	"- {name: b, envoyFileAccessLog: {path: /b}}\n"                                            \
	"- {name: o, opentelemetry: {service: c.example, port: 4317}}\n"
#define T(name, ns, spec)                                                                          \
	"---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"                                \
	"metadata: {name: " name ", namespace: " ns "}\nspec: {" spec "}\n"
#define LOG(item) "accessLogging: [" item "]"
#define OF_W "selector: {matchLabels: {app: w}}, "
#define P(name) "providers: [{name: " name "}]"

/* "a! b c: ..." the providers of a workload's logs, "!" where there is a filter, as a client and as a server. */
static const char *logs_of(const struct flat_observation *o, char out[128])
{
	size_t len = 0;

	out[0] = 0;
	for (uint32_t i = 0; i < o->n_logs; i++)
		len += (size_t)snprintf(out + len, 128 - len, "%s%s%s", i ? " " : "",
					o->logs[i].provider->name, o->logs[i].filter ? "!" : "");
	return out;
}

struct log_case {
	const char *yaml, *client, *server;
};

static const struct log_case cases[] = {
    {MESH, "", ""},
    {MESH "accessLogFile: /x\n", "envoy", "envoy"},
    {MESH "accessLogFile: ''\n", "", ""},
    {MESH "defaultProviders: {accessLogging: [b]}\n", "b", "b"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}")), "a", "a"},
    {MESH T("m", "istio-system", LOG("{" P("envoy") "}")), "envoy", "envoy"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}, {" P("b") "}")), "a b", "a b"},
    {MESH T("m", "bar", LOG("{" P("a") "}")), "", ""},
    /* A narrower one that names providers replaces them. */
    {MESH T("m", "istio-system", LOG("{" P("a") "}")) T("n", "foo", LOG("{" P("b") "}")), "b", "b"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}")) T("n", "foo", LOG("{" P("b") "}"))
	 T("w", "foo", OF_W LOG("{" P("a") "}")),
     "a", "a"},
    /* One that names none speaks of those of the wider one. */
    {MESH T("m", "istio-system", LOG("{" P("a") "}")) T("n", "foo", LOG("{disabled: true}")), "",
     ""},
    {MESH T("m", "istio-system", LOG("{" P("a") "}")) T("n", "foo", LOG("{disabled: true}"))
	 T("w", "foo", OF_W LOG("{disabled: false}")),
     "a", "a"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}"))
	 T("n", "foo", LOG("{filter: {expression: 'response.code >= 500'}}")),
     "a!", "a!"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}, {" P("b") "}"))
	 T("n", "foo", LOG("{disabled: true}")),
     "", ""},
    {MESH T("m", "istio-system", LOG("{" P("a") "}"))
	 T("w", "foo", "selector: {matchLabels: {app: x}}, " LOG("{disabled: true}")),
     "a", "a"},
    {MESH T("m", "istio-system", "tracing: [{randomSamplingPercentage: 5}]"), "", ""},
    /* Sides. */
    {MESH T("n", "foo", LOG("{match: {mode: CLIENT}, " P("a") "}")), "a", ""},
    {MESH T("n", "foo", LOG("{match: {mode: SERVER}, " P("a") "}")), "", "a"},
    {MESH T("m", "istio-system", LOG("{" P("a") "}"))
	 T("n", "foo", LOG("{match: {mode: SERVER}, disabled: true}")),
     "a", ""},
    /* Attached to a Service of the workload's. */
    {MESH "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: foo}\nspec: {"
	  "clusterIP: 10.0.0.1, selector: {app: w}, ports: [{port: 80}]}\n" T(
	      "t", "foo", "targetRefs: [{kind: Service, name: s}], " LOG("{" P("a") "}")),
     "a", "a"},
    /* The first of two. */
    {MESH T("n", "foo", LOG("{" P("a") "}")) T("o", "foo", LOG("{" P("b") "}")), "a", "a"},
};

Test(telemetry, logs_are_merged_as_in_istio)
{
	char client[128], server[128];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct loaded l = load_good(cases[i].yaml);
		const struct flat_workload *w = flat_mesh_workload_by_name(l.mesh, "foo", "w");

		logs_of(flat_mesh_observation(l.mesh, w, FLAT_MODE_CLIENT), client);
		logs_of(flat_mesh_observation(l.mesh, w, FLAT_MODE_SERVER), server);
		cr_assert_str_eq(client, cases[i].client, "case %zu as a client: %s", i, client);
		cr_assert_str_eq(server, cases[i].server, "case %zu as a server: %s", i, server);
		cr_assert(flat_mesh_observes(l.mesh) || !(*client || *server), "case %zu", i);
		loaded_fini(&l);
	}
}

Test(telemetry, nobody_is_told_of_as_a_server_only)
{
	struct loaded l = load_good(MESH T("m", "istio-system", LOG("{" P("a") "}")));

	cr_assert_eq(flat_mesh_observation(l.mesh, NULL, FLAT_MODE_CLIENT)->n_logs, 0);
	cr_assert_eq(flat_mesh_observation(l.mesh, NULL, FLAT_MODE_SERVER)->n_logs, 1);
	loaded_fini(&l);
}

struct said_case {
	const char *yaml, *said;
};

static const struct said_case said[] = {
    {MESH T("m", "foo", LOG("{" P("x") "}")), "there is no provider \"x\" for access logs"},
    {MESH T("m", "foo", LOG("{" P("o") "}")), "there is no provider \"o\" for access logs"},
    {MESH T("m", "foo", LOG("{filter: {expression: 'a b'}}")), "so everything is logged"},
    {MESH T("m", "istio-system", OF_W LOG("{" P("a") "}")), "of the root namespace only"},
    {MESH T("m", "foo", LOG("{" P("a") "}")) T("n", "foo", LOG("{" P("a") "}")),
     "Telemetry foo/n is not honoured: m comes first"},
    {MESH T("m", "foo", "targetRefs: [{kind: Gateway, name: g}]"),
     "target Gateway \"g\" is not honoured"},
    {MESH T("m", "foo", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]"),
     "its target \"g\" selects no workloads"},
    {"kind: MeshConfig\nextensionProviders: [{name: a, envoyFileAccessLog: {path: a}}]",
     "\"a\" is no path of a file"},
    {"kind: MeshConfig\nextensionProviders: [{name: a, envoyFileAccessLog: {logFormat: {text: "
     "'%X%'}}}]",
     "at \"%X%\": there is no such operator"},
    {"kind: MeshConfig\nextensionProviders: [{name: a, envoyFileAccessLog: {logFormat: {text: "
     "'%TRAILER(A)%'}}}]",
     "an operator has no value here"},
    {"kind: MeshConfig\nextensionProviders: [{name: a, envoyFileAccessLog: {}}, {name: a, "
     "envoyFileAccessLog: {}}]",
     "a second extension provider \"a\""},
    {"kind: MeshConfig\naccessLogEncoding: JSON\naccessLogFormat: '[]'",
     "accessLogFormat is no JSON object"},
    {MESH T("m", "foo", "accessLoging: []"), "did you mean \"accessLogging\"?"},
};

Test(telemetry, what_is_wrong_is_said)
{
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct loaded l = load_yaml(said[i].yaml);

		cr_assert(strstr(loaded_text(&l), said[i].said), "case %zu: %s", i,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* --- lines --- */

struct format_case {
	const char *format, *line; /* line NULL: refused */
};

static const struct format_case formats[] = {
    {"", "\n"},
    {"a", "a\n"},
    {"a\n", "a\n"},
    {"%%%PROTOCOL%%%", "%HTTP/1.1%\n"},
    {"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%", "200 - 3 5\n"},
    {"%DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "20 15 5\n"},
    {"%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)%", "GET /a?b=c h.example\n"},
    {"%REQ(X-A)% %REQ(x-none)% %REQ(X-NONE?X-A)% %REQ(X-A):2%", "a\\\"b - a\\\"b a\\\"\n"},
    {"%RESP(X-R)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "r 10\n"},
    {"%START_TIME%", "2001-09-09T01:46:40.123Z\n"},
    {"%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s)%", "2001/09/09 01:46:40.123 1000000000\n"},
    {"%START_TIME(%f %6f %1f %%f)%", "123456000 123456 1 %f\n"},
    {"%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
     "10.0.0.1:80 10.0.0.1 80\n"},
    {"%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "[::1]:5 ::1\n"},
    {"%DOWNSTREAM_LOCAL_ADDRESS% %TRACE_ID% %ROUTE_NAME%", "- - r\n"},
    {"%UPSTREAM_CLUSTER%", "outbound|8080|v1|s.example\n"},
    {"%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "NotFound 5\n"},
    {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://c/ns/a/sa/b\n"},
    {"%TRAILER(X)% %DYNAMIC_METADATA(a:b)%", "- -\n"},
    {"%REQ(X-A", NULL},
    {"%REQ%", NULL},
    {"%REQ()%", NULL},
    {"%PROTOCOL(a)%", NULL},
    {"%NOPE%", NULL},
    {"%REQ(A):x%", NULL},
    {"%REQ(A):0%", NULL},
    {"100%", NULL},
    {"%PROTOCOL", NULL},
};

static const char head_text[] = "GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-A: a\"b\r\n\r\n";

static void make_request(struct flat_http1 *in, struct flat_http_request *r)
{
	const struct flat_http_head *h = &in->head;

	flat_http1_begin(in, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(in, (const uint8_t *)head_text, sizeof(head_text) - 1), 0);
	*r = (struct flat_http_request){.head = h, .text = head_text};
	r->method = flat_head_span(head_text, h->start, h->method_len);
	r->path = flat_head_span(head_text, h->path, h->path_len);
	r->query = flat_head_span(head_text, h->query, h->query_len);
	r->authority = flat_head_span(head_text, h->authority, h->authority_len);
}

Test(telemetry, operators_say_what_envoy_says)
{
	static struct flat_http1 in;
	struct flat_http_request request;
	struct flat_access_headers wanted = {.name = {"x-r"}, .n = 1};
	struct flat_span response[1] = {flat_span_of("r")};
	struct flat_access a = {
	    .request = &request,
	    .wanted = &wanted,
	    .response = response,
	    .protocol = "HTTP/1.1",
	    .status = 200,
	    .grpc = 5,
	    .flags = "-",
	    .received = 3,
	    .sent = 5,
	    .start_us = 1000000000123456,
	    .duration_us = 20500,
	    .response_us = 15100,
	    .service_us = 10900,
	    .server = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 1}},
	    .client = {.family = AF_INET6, .port = 5, .ip = {[15] = 1}},
	    .service = "s.example",
	    .subset = "v1",
	    .service_port = 8080,
	    .route = "r",
	    .client_principal = "c/ns/a/sa/b",
	};

	make_request(&in, &request);
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		struct flat_pool pool = {0};
		struct flat_strbuf out = {0};
		struct flat_log_format format = {.json = false};
		const char *why;
		uint64_t missing;
		size_t at;
		int err = flat_log_format_text(&pool, formats[i].format, &format.root, &why, &at,
					       &missing);

		cr_assert_eq(err != 0, formats[i].line == NULL, "%s", formats[i].format);
		if (err == 0) {
			flat_access_write(&format, &a, &out);
			cr_assert_str_eq(flat_strbuf_str(&out), formats[i].line, "%s: %s",
					 formats[i].format, out.data);
		}
		flat_strbuf_fini(&out);
		flat_pool_fini(&pool);
	}
}

Test(telemetry, a_connection_has_istio_s_line_too)
{
	struct flat_pool pool = {0};
	struct flat_strbuf out = {0};
	struct flat_access a = {.grpc = -1, .flags = "-", .response_us = -1, .service_us = -1};
	const struct flat_log_format *format = flat_log_format_default(&pool, false);

	cr_assert_not_null(format);
	flat_access_write(format, &a, &out);
	cr_assert_str_eq(flat_strbuf_str(&out),
			 "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 0 0 0 - \"-\" \"-\" "
			 "\"-\" \"-\" \"-\" - - - - - -\n");
	flat_strbuf_reset(&out);
	flat_access_write(flat_log_format_default(&pool, true), &a, &out);
	cr_assert(strstr(flat_strbuf_str(&out), "\"method\":null"), "%s", out.data);
	cr_assert(strstr(out.data, "\"duration\":0,"), "%s", out.data);
	flat_strbuf_fini(&out);
	flat_pool_fini(&pool);
}
