/*
 * Traces: a request's place in one, as its headers tell it (W3C Trace Context; B3 of Zipkin, in one header or several), and
 * spans on their way to a collector (OTLP). Control thread.
 */
#ifndef FLAT_OFFLOAD_TRACE_H
#define FLAT_OFFLOAD_TRACE_H

#include "base/strbuf.h"
#include "mesh/telemetry.h"
#include "offload/loop.h"

struct flat_offload;

/* --- contexts: trace.c --- */

enum flat_trace_form {
	FLAT_TRACE_W3C, /* traceparent, tracestate */
	FLAT_TRACE_B3,	/* b3 */
	FLAT_TRACE_B3S, /* x-b3-traceid and its like */
};

struct flat_trace {
	uint8_t id[16];
	uint8_t parent[8];	   /* the caller's span; all zero: this is the root */
	enum flat_trace_form form; /* in which it came; W3C where none did */
	bool decided;		   /* the caller said whether it is sampled */
	bool sampled;
};

/* Headers that a request is sent with, of either form. */
#define FLAT_TRACE_FIELDS_MAX 5U
struct flat_trace_fields {
	struct flat_name_value v[FLAT_TRACE_FIELDS_MAX];
	uint32_t n;
	char traceparent[56];
	char trace_id[33], span[17], parent[17];
	char b3[72];
};

/** The context that a request carries. False: none, or one that is malformed, which then counts as none. */
bool flat_trace_read(const struct flat_http_request *request, struct flat_trace *trace);
/** The headers for a request whose caller is `span`. Refers to itself: `fields` never moves. */
void flat_trace_write(const struct flat_trace *trace, const uint8_t span[8],
		      struct flat_trace_fields *fields);
/** Lower-case hexadecimal digits of `n` bytes; `text` has 2 n + 1. */
void flat_trace_hex(const uint8_t *bytes, size_t n, char *text);

/* --- spans: otlp.c --- */

/* Spans that wait for a collector, bytes; what comes then is dropped. One export has all of it. */
#define FLAT_TRACE_WAITING_MAX ((size_t)1 << 20)
/* They are sent when there are so many, or the first is so old, us. */
#define FLAT_TRACE_BATCH 512U
#define FLAT_TRACE_AGE_US ((int64_t)1000000)
/* Collectors at once. */
#define FLAT_TRACE_COLLECTORS_MAX 16U

struct flat_span_tag {
	const char *name;
	struct flat_span value;
};

struct flat_span_told {
	const struct flat_trace *trace;
	const uint8_t *id;	/* 8 bytes */
	const uint8_t *parent;	/* 8 bytes */
	struct flat_span state; /* tracestate; absent: none */
	bool server;
	const char *service; /* who tells it: WORKLOAD.NAMESPACE */
	const char *name;
	int64_t start_us, end_us; /* of the epoch */
	bool failed;
	const struct flat_span_tag *tags;
	uint32_t n_tags;
	uint32_t max_tag_bytes;
};

struct flat_collectors;

/** NULL without memory. */
struct flat_collectors *flat_collectors_new(struct flat_offload *o);
void flat_collectors_free(struct flat_collectors *all);
/** Queues a span for a provider of the mesh in force. */
void flat_collectors_put(struct flat_collectors *all,
			 const struct flat_telemetry_provider *provider,
			 const struct flat_span_told *span);
/** Sends what is due. How long until more is, ms; -1: for ever. */
int flat_collectors_turn(struct flat_collectors *all);
/** Counters, in Prometheus's text form. */
void flat_collectors_metrics(const struct flat_collectors *all, struct flat_strbuf *out);

/** One span as OTLP's ResourceSpans. */
void flat_span_encode(const struct flat_span_told *span, struct flat_strbuf *out);

#endif
