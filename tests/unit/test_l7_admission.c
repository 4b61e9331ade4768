/*
 * Admission control through flatd. Of chance nothing is left: with an aggression of a million one failure closes the gate, and the window is
 * longer than any test.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support_origin.h"
#include "support_whole.h"

#define WORKLOAD                                                                                   \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "  \
	"labels: {app: web}}\nspec: {selectors: [{uid: %UID%}]}\n"
/* Another service of the same servers. */
#define OTHER                                                                                      \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: other, namespace: shop}\n"                                               \
	"spec: {hosts: [other.example], addresses: [240.9.1.2], location: MESH_INTERNAL, "         \
	"resolution: STATIC, ports: [{number: 80, name: http}], "                                  \
	"endpoints: [{address: 127.0.0.1, ports: {http: %PORT%}}]}\n"
#define CONTROL(context, fields)                                                                   \
	WORKLOAD OTHER                                                                             \
	    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                   \
	    "metadata: {name: gate, namespace: istio-system}\nspec: {configPatches: [{applyTo: "   \
	    "HTTP_FILTER, match: {context: " context                                               \
	    "}, patch: {operation: INSERT_BEFORE, value: {name: "                                  \
	    "envoy.filters.http.admission_control, typed_config: {'@type': type.googleapis.com/"   \
	    "envoy.extensions.filters.http.admission_control.v3.AdmissionControl, sr_threshold: "  \
	    "{default_value: {value: 100}}, max_rejection_probability: {default_value: {value: "   \
	    "100}}, aggression: {default_value: 1000000}, sampling_window: 3600s, " fields         \
	    "}}}}]}\n"
#define BY_STATUS                                                                                  \
	"success_criteria: {http_criteria: {http_success_status: [{start: 100, end: 400}, "        \
	"{start: 404, end: 405}]}}"

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
/* /status/N, and /grpc/N a call's status; /none breaks off. */
static const char *answer(const char *request, unsigned n)
{
	static char text[256];
	unsigned status;

	(void)n;
	if (sscanf(request, "%*s /status/%u", &status) == 1)
		snprintf(text, sizeof(text), "HTTP/1.1 %u Word\r\nContent-Length: 2\r\n\r\nok",
			 status);
	else if (sscanf(request, "%*s /grpc/%u", &status) == 1)
		snprintf(text, sizeof(text),
			 "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: %u\r\n"
			 "Content-Length: 0\r\n\r\n",
			 status);
	else
		snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	return text;
}

/* What flatctl is told of the next request to this service. */
static const char *why(const char *host)
{
	char question[128];

	snprintf(question, sizeof(question), "whyhttp shop/all GET http://%s/", host);
	return whole_ask(question);
}

static void knows(const char *host, const char *want)
{
	const char *text = why(host);

	cr_expect_not_null(strstr(text, want), "no '%s' in:\n%s", want, text);
}

TestSuite(l7_admission, .timeout = 60);

Test(l7_admission, at_a_client_each_service_has_a_gate_of_its_own)
{
	static const struct origin_row rows[] = {
	    {GET("/status/200"), {"GET /status/200 "}, {"HTTP/1.1 200 "}},
	    {GET("/status/404"), {"GET /status/404 "}, {"HTTP/1.1 404 "}},
	    {GET("/status/302"), {"GET /status/302 "}, {"HTTP/1.1 302 "}},
	    {GET("/status/500"), {"GET /status/500 "}, {"HTTP/1.1 500 "}},
	    /* Refused without a word, and not counted for a failure. */
	    {GET("/status/200"),
	     {NULL},
	     {"HTTP/1.1 503 ", "ontent-length: 0\r\n", "\r\n\r\n", "!ok"}},
	    {GET("/status/200"), {NULL}, {"HTTP/1.1 503 "}},
	};
	static const struct origin_row others[] = {
	    {"GET /status/200 HTTP/1.1\r\nHost: other.example\r\n\r\n",
	     {"GET /status/200 "},
	     {"HTTP/1.1 200 "}},
	};

	origin_begin(CONTROL("SIDECAR_OUTBOUND", BY_STATUS), answer);
	ORIGIN_CHECK(rows);
	knows("web.example", "admission control istio-system/gate (");
	knows("web.example", "3 of 4 requests of the last 3600 s went well; 100.00 % of the next");
	origin_by(whole_addr(240, 9, 1, 2, 80));
	ORIGIN_CHECK(others);
	knows("other.example", "1 of 1 requests of the last 3600 s went well; 0.00 % of the next");
	origin_end();
}

Test(l7_admission, at_a_server_all_services_have_one)
{
	static const struct origin_row rows[] = {
	    {GET("/status/200"), {"GET /status/200 "}, {"HTTP/1.1 200 "}},
	    {GET("/status/500"), {"GET /status/500 "}, {"HTTP/1.1 500 "}},
	    {GET("/status/200"), {NULL}, {"HTTP/1.1 503 "}},
	};
	static const struct origin_row others[] = {
	    {"GET /status/200 HTTP/1.1\r\nHost: other.example\r\n\r\n", {NULL}, {"HTTP/1.1 503 "}},
	};

	origin_begin(CONTROL("SIDECAR_INBOUND", BY_STATUS), answer);
	ORIGIN_CHECK(rows);
	origin_by(whole_addr(240, 9, 1, 2, 80));
	ORIGIN_CHECK(others);
	knows("web.example", "1 of 2 requests of the last 3600 s went well");
	origin_end();
}

static const char *call(unsigned status)
{
	struct origin_http2 c;
	char request[256];
	const char *text;

	snprintf(request, sizeof(request),
		 "POST /grpc/%u HTTP/1.1\r\n" HOST "Content-Type: application/grpc\r\n"
		 "TE: trailers\r\nContent-Length: 0\r\n\r\n",
		 status);
	origin_http2_open(&c);
	text = origin_http2_answer(&c, origin_http2_ask(&c, request));
	origin_http2_close(&c);
	return text;
}

/* The last of three calls is the one that closes the gate. */
static void check_calls(const char *yaml, const unsigned statuses[3])
{
	unsigned asked;

	origin_begin(yaml, answer);
	for (size_t i = 0; i < 3; i++) {
		const char *text = call(statuses[i]);
		char want[32];

		snprintf(want, sizeof(want), "grpc-status: %u", statuses[i]);
		cr_expect_not_null(strstr(text, want), "no '%s' in:\n%s", want, text);
	}
	asked = origin_requests();
	cr_expect_not_null(strstr(call(0), "grpc-status: 14"));
	cr_expect_eq(origin_requests(), asked);
	knows("web.example", "2 of 3 requests");
	origin_end();
}

/* Envoy's default: NOT_FOUND says nothing of the server's health, DATA_LOSS does. */
Test(l7_admission, of_a_call_its_own_status_counts)
{
	check_calls(CONTROL("SIDECAR_OUTBOUND", "success_criteria: {}"), (unsigned[]){0, 5, 15});
}

Test(l7_admission, the_calls_that_are_said_to_go_well_do)
{
	check_calls(CONTROL("SIDECAR_OUTBOUND",
			    "success_criteria: {grpc_criteria: {grpc_success_status: [0, 15]}}"),
		    (unsigned[]){15, 0, 5});
}

Test(l7_admission, below_the_rate_nobody_is_refused)
{
	static const struct origin_row rows[] = {
	    {GET("/status/500"), {"GET /status/500 "}, {"HTTP/1.1 500 "}},
	    {GET("/status/200"), {"GET /status/200 "}, {"HTTP/1.1 200 "}},
	};

	origin_begin(
	    CONTROL("SIDECAR_OUTBOUND", BY_STATUS ", rps_threshold: {default_value: 1000000}"),
	    answer);
	ORIGIN_CHECK(rows);
	knows("web.example", "1 of 2 requests of the last 3600 s went well; 0.00 % of the next");
	origin_end();
}
