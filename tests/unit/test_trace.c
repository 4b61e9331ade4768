/* A request's place in a trace: W3C Trace Context (its own examples and rules), B3 (github.com/openzipkin/b3-propagation). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "offload/trace.h"

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static struct flat_http1 in;
static char text[1024];

static void read_request(const char *fields, struct flat_http_request *r)
{
	int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);

	flat_http1_begin(&in, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(&in, (const uint8_t *)text, (size_t)n), 0, "%s", fields);
	*r = (struct flat_http_request){.head = &in.head, .text = text};
}

/* What is sent on for the span 0102030405060708; NULL: there is no context. */
struct trace_case {
	const char *fields, *sent;
};

static const struct trace_case cases[] = {
    {"", NULL},
    {"traceparent: 00-" ID "-" SPAN "-01\r\n", "traceparent=00-" ID "-0102030405060708-01 "},
    {"traceparent: 00-" ID "-" SPAN "-00\r\n", "traceparent=00-" ID "-0102030405060708-00 "},
    {"traceparent: 00-" ID "-" SPAN "-03\r\n", "traceparent=00-" ID "-0102030405060708-01 "},
    /* Of a later version, with more behind it. */
    {"traceparent: cc-" ID "-" SPAN "-01-what\r\n", "traceparent=00-" ID "-0102030405060708-01 "},
    {"traceparent: cc-" ID "-" SPAN "-01.what\r\n", NULL},
    {"traceparent: ff-" ID "-" SPAN "-01\r\n", NULL},
    {"traceparent: 00-" ID "-" SPAN "-01-what\r\n", NULL},
    {"traceparent: 00-" ID "-" SPAN "-0\r\n", NULL},
    {"traceparent: 00-" ID "-" SPAN "-0x\r\n", NULL},
    {"traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01\r\n", NULL},
    {"traceparent: 00-00000000000000000000000000000000-" SPAN "-01\r\n", NULL},
    {"traceparent: 00-" ID "-0000000000000000-01\r\n", NULL},
    {"traceparent: \r\n", NULL},
    {"b3: " ID "-" SPAN "-1\r\n",
     "traceparent=00-" ID "-0102030405060708-01 b3=" ID "-0102030405060708-1 "},
    {"b3: " ID "-" SPAN "-d-05e3ac9a4f6e3b90\r\n",
     "traceparent=00-" ID "-0102030405060708-01 b3=" ID "-0102030405060708-1 "},
    {"b3: a3ce929d0e0e4736-" SPAN "-0\r\n",
     "traceparent=00-0000000000000000a3ce929d0e0e4736-0102030405060708-00 "
     "b3=0000000000000000a3ce929d0e0e4736-0102030405060708-0 "},
    {"b3: 0\r\n", NULL},
    {"b3: -\r\n", NULL},
    {"b3: " ID "\r\n", NULL},
    {"x-b3-traceid: " ID "\r\nx-b3-spanid: " SPAN "\r\nx-b3-sampled: 1\r\n",
     "traceparent=00-" ID "-0102030405060708-01 x-b3-traceid=" ID
     " x-b3-spanid=0102030405060708 x-b3-sampled=1 x-b3-parentspanid=" SPAN " "},
    {"x-b3-traceid: " ID "\r\nx-b3-spanid: " SPAN "\r\nx-b3-flags: 1\r\n",
     "traceparent=00-" ID "-0102030405060708-01 x-b3-traceid=" ID
     " x-b3-spanid=0102030405060708 x-b3-sampled=1 x-b3-parentspanid=" SPAN " "},
    {"x-b3-traceid: " ID "\r\n", NULL},
    {"x-b3-sampled: 1\r\n", NULL},
    /* W3C's goes first. */
    {"b3: 0000000000000001-0000000000000001-0\r\ntraceparent: 00-" ID "-" SPAN "-01\r\n",
     "traceparent=00-" ID "-0102030405060708-01 "},
};

Test(trace, goes_on_as_it_came)
{
	static const uint8_t span[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct flat_http_request r;
		struct flat_trace trace;
		struct flat_trace_fields fields;
		char sent[512] = "";
		size_t len = 0;
		bool found;

		read_request(cases[i].fields, &r);
		found = flat_trace_read(&r, &trace);
		cr_assert_eq(found, cases[i].sent != NULL, "%s", cases[i].fields);
		if (!found)
			continue;
		flat_trace_write(&trace, span, &fields);
		for (uint32_t k = 0; k < fields.n; k++)
			len += (size_t)snprintf(sent + len, sizeof(sent) - len, "%s=%s ",
						fields.v[k].name, fields.v[k].value);
		cr_assert_str_eq(sent, cases[i].sent, "%s", sent);
	}
}

Test(trace, what_a_caller_leaves_open_is_open)
{
	struct flat_http_request r;
	struct flat_trace trace;

	read_request("b3: " ID "-" SPAN "\r\n", &r);
	cr_assert(flat_trace_read(&r, &trace));
	cr_assert_not(trace.decided);
	read_request("b3: " ID "-" SPAN "-0\r\n", &r);
	cr_assert(flat_trace_read(&r, &trace));
	cr_assert(trace.decided && !trace.sampled);
}

/* Bytes worked out by hand from opentelemetry-proto's trace.proto. */
Test(trace, a_span_is_otlp)
{
	static const uint8_t want[] = {0x0a, 0x15, 0x0a, 0x13, 0x0a, 0x0c, 's',	 'e', 'r',  'v',
				       'i',  'c',  'e',	 '.',  'n',  'a',  'm',	 'e', 0x12, 0x03,
				       0x0a, 0x01, 'w', /* Resource */
				       0x12, 0x44, 0x0a, 0x07, 0x0a, 0x05, 'f',	 'l', 'a',  't',
				       'd', /* ScopeSpans, its scope */
				       0x12, 0x39, 0x0a, 0x10, 1,    0,	   0,	 0,   0,    0,
				       0,    0,	   0,	 0,    0,    0,	   0,	 0,   0,    2,
				       0x12, 0x08, 1,	 2,    3,    4,	   5,	 6,   7,    8,
				       0x2a, 0x01, 'n',	 0x30, 0x03, 0x39, 0xe8, 3,   0,    0,
				       0,    0,	   0,	 0,    0x41, 0xd0, 7,	 0,   0,    0,
				       0,    0,	   0,	 0x85, 0x01, 1,	   0,	 0,   0};
	static const uint8_t id[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	static const uint8_t none[8];
	struct flat_trace trace = {.id = {1, [15] = 2}};
	struct flat_span_told told = {
	    .trace = &trace,
	    .id = id,
	    .parent = none,
	    .service = "w",
	    .name = "n",
	    .start_us = 1,
	    .end_us = 2,
	};
	struct flat_strbuf out = {0};

	flat_span_encode(&told, &out);
	cr_assert_not_null(flat_strbuf_str(&out));
	for (size_t i = 0; i < out.len && i < sizeof(want); i++)
		cr_assert_eq((uint8_t)out.data[i], want[i], "byte %zu is %02x", i,
			     (unsigned)(uint8_t)out.data[i]);
	cr_assert_eq(out.len, sizeof(want), "%zu bytes", out.len);
	flat_strbuf_fini(&out);
}
