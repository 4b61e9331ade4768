/* Traces of requests: sampling, the headers that servers get, spans, and those of late for `flatctl trace`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "offload/admin.h"
#include "offload/l7_observe.h"

/* Requests that are remembered. */
#define RECENT 64U
#define TAGS_MAX (24U + FLAT_TELEMETRY_TAGS_MAX)

/* One request, and when its steps were, us after its start; -1: it did not come to that. */
struct recent {
	int64_t start_us; /* of the epoch */
	int64_t attempt_us, response_us, end_us;
	char id[33];
	char source[96], service[128], server[FLAT_ADDR_STRLEN];
	char method[16], path[160];
	char flags[8];
	uint16_t status;
	uint16_t attempts;
};

struct flat_l7_traces {
	struct flat_collectors *collectors;
	uint32_t n; /* ever */
	struct recent recent[RECENT];
};

int flat_l7_traces_init(struct flat_l7_node *node)
{
	node->traces = calloc(1, sizeof(*node->traces));
	if (node->traces)
		node->traces->collectors = flat_collectors_new(node->offload);
	return node->traces && node->traces->collectors ? 0 : -1;
}

void flat_l7_traces_fini(struct flat_l7_node *node)
{
	if (node->traces)
		flat_collectors_free(node->traces->collectors);
	free(node->traces);
	node->traces = NULL;
}

int flat_l7_traces_turn(struct flat_l7_node *node)
{
	return flat_collectors_turn(node->traces->collectors);
}

void flat_l7_traces_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	flat_collectors_metrics(node->traces->collectors, out);
}

/* --- the context --- */

static void make_id(struct flat_l7_node *node, uint8_t bytes[8])
{
	uint64_t id = flat_l7_observe_id(node);

	/* Zero is no id. */
	id |= id == 0;
	memcpy(bytes, &id, 8);
}

/* A side joins: it goes on with the caller's trace, or begins one. */
static void join(struct flat_l7 *l7, struct flat_l7_observed *o, const struct flat_trace_rule *rule)
{
	struct flat_trace *t = &o->trace;

	if (!o->traced && !flat_trace_read(&l7->x.request, t)) {
		make_id(l7->node, t->id);
		make_id(l7->node, t->id + 8);
	}
	o->traced = true;
	if (!t->decided)
		t->sampled = flat_l7_random(l7->node, FLAT_MILLION) < rule->of_million;
	t->decided = true;
}

void flat_l7_trace_client(struct flat_l7 *l7, struct flat_l7_observed *o)
{
	if (!o->client->trace || o->has_client_span || !l7->x.request.head)
		return;
	join(l7, o, o->client->trace);
	make_id(l7->node, o->client_span);
	o->has_client_span = true;
}

void flat_l7_trace_server(struct flat_l7 *l7, struct flat_l7_observed *o)
{
	const uint8_t *span = o->client_span;

	if (o->server->trace) {
		join(l7, o, o->server->trace);
		if (!o->has_server_span)
			make_id(l7->node, o->server_span);
		o->has_server_span = true;
		span = o->server_span;
	}
	if (!o->traced)
		return;
	flat_trace_write(&o->trace, span, &o->fields);
	o->ops.n_set = o->request_id[0] ? 1 : 0;
	for (uint32_t i = 0; i < o->fields.n; i++)
		o->set[o->ops.n_set++] = o->fields.v[i];
	o->ops.set = o->set;
}

/* --- spans --- */

struct tags {
	struct flat_span_tag v[TAGS_MAX];
	uint32_t n;
	char text[6][256];
	uint32_t n_text;
};

static void add(struct tags *t, const char *name, struct flat_span value)
{
	if (value.text && t->n < TAGS_MAX)
		t->v[t->n++] = (struct flat_span_tag){name, value};
}

static void add_text(struct tags *t, const char *name, const char *value)
{
	add(t, name, flat_span_of(value));
}

static char *room(struct tags *t)
{
	return t->text[t->n_text++ % FLAT_ARRAY_SIZE(t->text)];
}

static void add_number(struct tags *t, const char *name, uint64_t number)
{
	char *text = room(t);

	snprintf(text, sizeof(t->text[0]), "%" PRIu64, number);
	add_text(t, name, text);
}

static struct flat_span field(const struct flat_access *a, const char *name)
{
	return a->request ? flat_http_field_get(a->request, flat_span_of(name), 0)
			  : (struct flat_span){NULL, 0};
}

static const char *label(const struct flat_workload *w, const char *first, const char *second)
{
	const char *value = w ? flat_labels_get(&w->labels, first) : NULL;

	if (!value && w)
		value = flat_labels_get(&w->labels, second);
	return value;
}

/* Envoy's tags of an HTTP span, and Istio's. */
static void usual_tags(struct tags *t, const struct flat_access *a, const struct flat_workload *w,
		       bool tls)
{
	char *url = room(t);
	char *peer = room(t);
	char address[FLAT_ADDR_STRLEN];

	if (a->request) {
		add(t, "http.method", a->request->method);
		snprintf(url, sizeof(t->text[0]), "%s://%.*s%.*s", tls ? "https" : "http",
			 (int)flat_min_size(a->request->authority.len, 128),
			 a->request->authority.text, (int)flat_min_size(a->request->path.len, 120),
			 a->request->path.text);
		add_text(t, "http.url", url);
	}
	add_text(t, "http.protocol", a->protocol);
	add_number(t, "http.status_code", a->status);
	add_number(t, "request_size", a->received);
	add_number(t, "response_size", a->sent);
	add_text(t, "response_flags", a->flags);
	add(t, "user_agent", field(a, "user-agent"));
	add(t, "guid:x-request-id", a->request_id.text ? a->request_id : field(a, "x-request-id"));
	snprintf(peer, sizeof(t->text[0]), "%s", flat_addr_str(&a->client, address));
	add_text(t, "peer.address", peer);
	if (a->server.family) {
		char *server = room(t);

		snprintf(server, sizeof(t->text[0]), "%s", flat_addr_str(&a->server, address));
		add_text(t, "upstream_address", server);
	}
	add_text(t, "component", "proxy");
	add_text(t, "node_id", a->hostname);
	add_text(t, "istio.mesh_id", FLAT_TRUST_DOMAIN);
	add_text(t, "istio.namespace", w ? w->namespace : NULL);
	add_text(t, "istio.canonical_service", label(w, "app", "app.kubernetes.io/name"));
	add_text(t, "istio.canonical_revision", label(w, "version", "app.kubernetes.io/version"));
}

static void custom_tags(struct tags *t, const struct flat_access *a,
			const struct flat_trace_rule *rule)
{
	for (uint32_t i = 0; i < rule->n_tags; i++) {
		const struct flat_trace_tag *tag = &rule->tags[i];
		struct flat_span value = flat_span_of(tag->value);

		if (tag->from == FLAT_TAG_HEADER) {
			value = field(a, tag->value);
			if (!value.text)
				value = flat_span_of(tag->absent);
		}
		add(t, tag->name, value);
	}
}

static void report(const struct flat_l7 *l7, const struct flat_l7_observed *o,
		   const struct flat_access *a, bool server)
{
	const struct flat_trace_rule *rule = server ? o->server->trace : o->client->trace;
	const struct flat_workload *w = server ? o->server_workload : o->client_workload;
	struct tags tags = {.n = 0};
	char service[160], name[300];
	struct flat_span_told told = {
	    .trace = &o->trace,
	    .id = server ? o->server_span : o->client_span,
	    .parent = server && o->has_client_span ? o->client_span : o->trace.parent,
	    .state = field(a, "tracestate"),
	    .server = server,
	    .service = service,
	    .name = name,
	    .start_us = a->start_us,
	    .end_us = a->start_us + a->duration_us,
	    .failed = a->status >= 500 || a->status == 0,
	    .tags = tags.v,
	    .max_tag_bytes = rule->provider->max_tag_bytes,
	};

	if (!rule->report)
		return;
	/* Istio's names: of the service APP.NAMESPACE, of the span HOST:PORT and any path. */
	snprintf(service, sizeof(service), "%s.%s",
		 w && label(w, "app", "app.kubernetes.io/name")
		     ? label(w, "app", "app.kubernetes.io/name")
		 : w ? w->name
		     : "unknown",
		 w ? w->namespace : "unknown");
	snprintf(name, sizeof(name), "%s:%u/*", a->service ? a->service : "unknown",
		 a->service_port);
	usual_tags(&tags, a, w, l7->conn->gate && l7->conn->gate->tls);
	custom_tags(&tags, a, rule);
	told.n_tags = tags.n;
	flat_collectors_put(l7->node->traces->collectors, rule->provider, &told);
}

static int64_t since(int64_t us, int64_t start)
{
	return us ? us - start : -1;
}

static void remember(const struct flat_l7 *l7, const struct flat_l7_observed *o,
		     const struct flat_access *a)
{
	struct flat_l7_traces *all = l7->node->traces;
	struct recent *r = &all->recent[all->n++ % RECENT];
	int64_t start = l7->x.start_us;

	memset(r, 0, sizeof(*r));
	r->start_us = a->start_us;
	r->attempt_us = since(o->attempt_us, start);
	r->response_us = since(o->response_us, start);
	r->end_us = a->duration_us;
	r->status = (uint16_t)a->status;
	r->attempts = (uint16_t)a->attempts;
	flat_trace_hex(o->trace.id, 16, r->id);
	snprintf(r->flags, sizeof(r->flags), "%s", a->flags);
	snprintf(r->source, sizeof(r->source), "%s", l7->conn->client_name);
	snprintf(r->service, sizeof(r->service), "%s", a->service ? a->service : "-");
	flat_addr_str(&a->server, r->server);
	if (!a->request)
		return;
	snprintf(r->method, sizeof(r->method), "%.*s",
		 (int)flat_min_size(a->request->method.len, 15), a->request->method.text);
	snprintf(r->path, sizeof(r->path), "%.*s", (int)flat_min_size(a->request->path.len, 159),
		 a->request->path.text);
}

void flat_l7_trace_end(struct flat_l7 *l7, const struct flat_l7_observed *o,
		       const struct flat_access *a)
{
	if (!o->traced || !o->trace.sampled)
		return;
	if (o->has_client_span)
		report(l7, o, a, false);
	if (o->has_server_span)
		report(l7, o, a, true);
	remember(l7, o, a);
}

/* --- flatctl trace --- */

static void put_step(struct flat_strbuf *out, const char *what, int64_t us)
{
	if (us >= 0)
		flat_strbuf_printf(out, "  %10.3f ms  %s\n", (double)us / 1000, what);
}

static void put_recent(const struct recent *r, struct flat_strbuf *out)
{
	time_t seconds = (time_t)(r->start_us / 1000000);
	struct tm tm;
	char time_text[32] = "";
	char step[128];

	if (gmtime_r(&seconds, &tm))
		snprintf(time_text, sizeof(time_text), "%02d:%02d:%02d.%03d", tm.tm_hour, tm.tm_min,
			 tm.tm_sec, (int)(r->start_us / 1000 % 1000));
	flat_strbuf_printf(out, "%s  %s  %s %s  %u %s  %s -> %s\n", time_text, r->id, r->method,
			   r->path, r->status, r->flags, r->source, r->service);
	snprintf(step, sizeof(step), "sent to %s%s", r->server,
		 r->attempts > 1 ? ", the last of several attempts" : "");
	put_step(out, step, r->attempt_us);
	put_step(out, "its answer begins", r->response_us);
	put_step(out, "over", r->end_us);
}

static void json_recent(const struct recent *r, struct flat_json *j)
{
	flat_json_object(j, NULL);
	flat_json_string(j, "trace_id", r->id);
	flat_json_int(j, "start_us", r->start_us);
	flat_json_string(j, "source", r->source);
	flat_json_string(j, "service", r->service);
	flat_json_string(j, "server", r->server);
	flat_json_string(j, "method", r->method);
	flat_json_string(j, "path", r->path);
	flat_json_uint(j, "status", r->status);
	flat_json_string(j, "flags", r->flags);
	flat_json_uint(j, "attempts", r->attempts);
	flat_json_int(j, "sent_us", r->attempt_us);
	flat_json_int(j, "response_us", r->response_us);
	flat_json_int(j, "end_us", r->end_us);
	flat_json_object_end(j);
}

void flat_admin_trace(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	const struct flat_l7_traces *all = o->l7->traces;
	uint32_t n = all->n < RECENT ? all->n : RECENT;
	struct flat_json j;

	flat_json_init(&j, out, false);
	if (json) {
		flat_json_object(&j, NULL);
		flat_json_array(&j, "requests");
	}
	/* The last one first. */
	for (uint32_t i = 0; i < n; i++) {
		const struct recent *r = &all->recent[(all->n - 1 - i) % RECENT];

		if (json)
			json_recent(r, &j);
		else
			put_recent(r, out);
	}
	if (!json && n == 0)
		flat_strbuf_puts(out,
				 "no request was traced: Telemetry says whose are, and how many\n");
	if (json) {
		flat_json_array_end(&j);
		flat_json_object_end(&j);
		flat_strbuf_putc(out, '\n');
	}
}
