/*
 * What Telemetry tells of requests and connections: lines of access logs, spans of traces. Nothing here costs a mesh that has
 * no Telemetry more than a look at one flag. Control thread.
 */
#ifndef FLAT_OFFLOAD_L7_OBSERVE_H
#define FLAT_OFFLOAD_L7_OBSERVE_H

#include "offload/access.h"
#include "offload/gateway.h"
#include "offload/l7_engine.h"
#include "offload/log_file.h"
#include "offload/trace.h"

/* Bytes of response headers kept for the log, of one request. */
#define FLAT_OBSERVED_BYTES_MAX 4096U

/* Of one request that is observed. */
struct flat_l7_observed {
	struct flat_mesh *mesh; /* a reference, of what refers to it below */
	const struct flat_observation *client;
	const struct flat_observation *server; /* of the last attempt's */
	const struct flat_workload *client_workload, *server_workload;
	struct flat_access_headers wanted; /* names as of its beginning: they are never freed */
	struct flat_span response[FLAT_ACCESS_HEADERS_MAX];
	char *bytes;	     /* owned: what `response` refers to */
	int64_t attempt_us;  /* when the last attempt began; 0: never */
	int64_t response_us; /* when its head came; 0: never */
	char request_id[37]; /* made by us; "": the request has one */
	bool traced;	     /* `trace` is there */
	bool has_client_span, has_server_span;
	struct flat_trace trace;
	uint8_t client_span[8], server_span[8];
	struct flat_trace_fields fields;
	struct flat_name_value set[1 + FLAT_TRACE_FIELDS_MAX]; /* for `ops` */
	struct flat_header_ops ops; /* fields of the request that is sent */
};

/** Makes node->observer. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_observe_init(struct flat_l7_node *node);
void flat_l7_observe_fini(struct flat_l7_node *node);
/** Opens all files of logs anew: they were moved away. */
void flat_l7_observe_reopen(struct flat_l7_node *node);
/** A new configuration is in force. */
void flat_l7_observe_reloaded(struct flat_l7_node *node);
/** A line for flatd's own access log (--access-log). */
struct flat_log_file *flat_l7_observe_file(struct flat_l7_node *node, const char *path);

/** A request was read, its client is known; node->observes. Makes x.observed where somebody wants to know of it. */
void flat_l7_observe_begin(struct flat_l7 *l7);
/** Its attempt's server is known. */
void flat_l7_observe_target(struct flat_l7 *l7);
/** The head of the response came. `head` and its text are borrowed. */
void flat_l7_observe_response(struct flat_l7 *l7, const struct flat_http_head *head,
			      const void *text);
/** It is over: x.record says how. */
void flat_l7_observe_end(struct flat_l7 *l7);
/** What is told of it so far; `trace_id` is what *a may refer to. */
void flat_l7_observe_access(const struct flat_l7 *l7, const struct flat_l7_observed *o,
			    struct flat_access *a, char trace_id[33]);
/** Likewise of a connection that is not read as HTTP. */
void flat_observe_access(struct flat_conn *c, struct flat_access *a);
/** NULL is allowed. */
void flat_l7_observed_free(struct flat_l7_observed *o);

/** What would be told of a request, for `flatctl why`. */
void flat_l7_observe_note(struct flat_l7 *l7, const struct flat_workload *client,
			  const struct flat_workload *server);

/** A number that no other id of this flatd or another is likely to be. */
uint64_t flat_l7_observe_id(struct flat_l7_node *node);

/* --- l7_trace.c --- */

/** Makes node->traces. Not 0: no memory. */
FLAT_MUST_CHECK int flat_l7_traces_init(struct flat_l7_node *node);
void flat_l7_traces_fini(struct flat_l7_node *node);
/** Sends spans that are due. How long until more are, ms; -1: for ever. */
int flat_l7_traces_turn(struct flat_l7_node *node);
void flat_l7_traces_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);
/** The client's side of a request is known, and the server's: spans, and the headers in o->ops. */
void flat_l7_trace_client(struct flat_l7 *l7, struct flat_l7_observed *o);
void flat_l7_trace_server(struct flat_l7 *l7, struct flat_l7_observed *o);
/** It is over: spans are queued where it is sampled. */
void flat_l7_trace_end(struct flat_l7 *l7, const struct flat_l7_observed *o,
		       const struct flat_access *a);

/** Counters, in Prometheus's text form. */
void flat_l7_observe_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);

#endif
