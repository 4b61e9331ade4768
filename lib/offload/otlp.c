/* Spans on their way to collectors: OpenTelemetry's protocol (opentelemetry-proto), over gRPC or HTTP, in batches. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codec/protobuf.h"
#include "offload/grpc_client.h"
#include "offload/l7_mandatory.h"
#include "offload/trace.h"

static const char export_path[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/* Where one provider's spans wait. */
struct collector {
	struct flat_collectors *all;
	char *name;
	struct flat_strbuf spans; /* ResourceSpans, as fields of the request */
	uint32_t n;
	int64_t since_us; /* when the first of them came */
	struct flat_call *call;
	uint32_t n_sent;		    /* with it */
	uint64_t exported, dropped, failed; /* spans */
	int64_t told_us;		    /* when a failure was said last */
};

struct flat_collectors {
	struct flat_offload *offload;
	struct collector *v[FLAT_TRACE_COLLECTORS_MAX];
	uint32_t n;
};

/* --- spans --- */

/* KeyValue with a text. */
static void put_tag(struct flat_strbuf *out, uint32_t field, struct flat_strbuf scratch[2],
		    const char *name, struct flat_span value)
{
	flat_protobuf_put_string(&scratch[1], 1, value.text, value.len);
	flat_protobuf_put_text(&scratch[0], 1, name);
	flat_protobuf_put_message(&scratch[0], 2, &scratch[1]);
	flat_protobuf_put_message(out, field, &scratch[0]);
}

/* Not ended in the middle of a character of UTF-8. */
static size_t cut(struct flat_span s, size_t max)
{
	size_t len = s.len;

	if (len <= max)
		return len;
	len = max;
	while (len > 0 && ((unsigned char)s.text[len] & 0xc0) == 0x80)
		len--;
	return len;
}

static bool is_zero(const uint8_t bytes[8])
{
	static const uint8_t none[8];

	return memcmp(bytes, none, 8) == 0;
}

/* Numbers of fields: opentelemetry/proto/trace/v1/trace.proto, resource.proto, common.proto. */
void flat_span_encode(const struct flat_span_told *s, struct flat_strbuf *out)
{
	struct flat_strbuf span = {0}, scope = {0}, resource = {0};
	struct flat_strbuf scratch[2] = {{0}};

	flat_protobuf_put_bytes(&span, 1, s->trace->id, 16);
	flat_protobuf_put_bytes(&span, 2, s->id, 8);
	if (s->state.text && s->state.len > 0)
		flat_protobuf_put_string(&span, 3, s->state.text, s->state.len);
	if (!is_zero(s->parent))
		flat_protobuf_put_bytes(&span, 4, s->parent, 8);
	flat_protobuf_put_text(&span, 5, s->name);
	flat_protobuf_put_number(&span, 6, s->server ? 2 : 3);
	flat_protobuf_put_fixed64(&span, 7, (uint64_t)s->start_us * 1000);
	flat_protobuf_put_fixed64(&span, 8, (uint64_t)s->end_us * 1000);
	for (uint32_t i = 0; i < s->n_tags; i++) {
		struct flat_span value = s->tags[i].value;

		value.len = cut(value, s->max_tag_bytes);
		if (value.text)
			put_tag(&span, 9, scratch, s->tags[i].name, value);
	}
	if (s->failed) {
		flat_protobuf_put_number(&scratch[0], 3, 2);
		flat_protobuf_put_message(&span, 15, &scratch[0]);
	}
	flat_protobuf_put_fixed32(&span, 16, 1);
	flat_protobuf_put_text(&scratch[0], 1, "flatd");
	flat_protobuf_put_message(&scope, 1, &scratch[0]);
	flat_protobuf_put_message(&scope, 2, &span);
	put_tag(&resource, 1, scratch, "service.name", flat_span_of(s->service));
	flat_protobuf_put_message(out, 1, &resource);
	flat_protobuf_put_message(out, 2, &scope);
	flat_strbuf_fini(&span);
	flat_strbuf_fini(&scope);
	flat_strbuf_fini(&resource);
	flat_strbuf_fini(&scratch[0]);
	flat_strbuf_fini(&scratch[1]);
}

/* --- collectors --- */

struct flat_collectors *flat_collectors_new(struct flat_offload *o)
{
	struct flat_collectors *all = calloc(1, sizeof(*all));

	if (all)
		all->offload = o;
	return all;
}

void flat_collectors_free(struct flat_collectors *all)
{
	for (uint32_t i = 0; all && i < all->n; i++) {
		flat_call_cancel(all->v[i]->call);
		flat_strbuf_fini(&all->v[i]->spans);
		free(all->v[i]->name);
		free(all->v[i]);
	}
	free(all);
}

static struct collector *get(struct flat_collectors *all, const char *name)
{
	struct collector *c;

	for (uint32_t i = 0; i < all->n; i++) {
		if (strcmp(all->v[i]->name, name) == 0)
			return all->v[i];
	}
	c = all->n < FLAT_TRACE_COLLECTORS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		return NULL;
	c->all = all;
	c->name = strdup(name);
	if (!c->name) {
		free(c);
		return NULL;
	}
	all->v[all->n++] = c;
	return c;
}

void flat_collectors_put(struct flat_collectors *all,
			 const struct flat_telemetry_provider *provider,
			 const struct flat_span_told *span)
{
	struct collector *c = get(all, provider->name);
	struct flat_strbuf one = {0};

	if (!c)
		return;
	flat_span_encode(span, &one);
	if (one.failed || one.len > FLAT_TRACE_WAITING_MAX -
					flat_min_size(c->spans.len, FLAT_TRACE_WAITING_MAX)) {
		c->dropped++;
	} else {
		if (c->n++ == 0)
			c->since_us = flat_now_us();
		flat_protobuf_put_message(&c->spans, 1, &one);
	}
	flat_strbuf_fini(&one);
}

static void failed(struct collector *c, uint32_t n, const char *why)
{
	int64_t now = flat_now_us();

	c->failed += n;
	/* Once a minute: a collector that is away stays away for a while. */
	if (c->told_us && now - c->told_us < 60 * (int64_t)1000000)
		return;
	c->told_us = now;
	flat_warn("provider of traces %s: %s; %u spans are lost", c->name, why, n);
}

static void on_answer(void *arg, const struct flat_call_answer *a)
{
	struct collector *c = arg;

	c->call = NULL;
	if (a->why)
		failed(c, c->n_sent, a->why);
	else if (a->status != 200 || a->grpc != 0)
		failed(c, c->n_sent, "it refused them");
	else
		c->exported += c->n_sent;
}

static void export(struct collector *c)
{
	struct flat_offload *o = c->all->offload;
	const struct flat_telemetry_provider *p =
	    flat_mesh_telemetry_provider_by_name(o->mesh, c->name);
	struct sockaddr_storage addr;
	struct flat_call_question q = {.addr = &addr};
	uint32_t n = c->n;

	c->n = 0;
	q.addr_len = p && p->service ? flat_l7_address_of(o->l7, p->service, p->port, &addr) : 0;
	if (q.addr_len == 0 || c->spans.failed) {
		failed(c, n, c->spans.failed ? "no memory" : "it has no endpoint");
		flat_strbuf_fini(&c->spans);
		return;
	}
	q.grpc = !p->http_path;
	q.authority = p->host;
	q.path = p->http_path ? p->http_path : export_path;
	q.type = "application/x-protobuf";
	q.headers = p->headers;
	q.n_headers = p->n_headers;
	q.bytes = c->spans.data;
	q.len = c->spans.len;
	q.deadline_us = flat_now_us() + (int64_t)p->timeout_ms * 1000;
	c->n_sent = n;
	c->call = flat_call_start(&o->loop, &q, on_answer, c);
	if (!c->call)
		failed(c, n, "it cannot be reached");
	flat_strbuf_reset(&c->spans);
}

int flat_collectors_turn(struct flat_collectors *all)
{
	int64_t now = all->n ? flat_now_us() : 0;
	int wait = -1;

	for (uint32_t i = 0; i < all->n; i++) {
		struct collector *c = all->v[i];
		int64_t left = c->since_us + FLAT_TRACE_AGE_US - now;
		int ms = -1;

		if (c->call)
			ms = flat_call_expire(c->call, now);
		if (!c->call && c->n > 0 && (left <= 0 || c->n >= FLAT_TRACE_BATCH)) {
			export(c);
			ms = c->call ? flat_call_expire(c->call, now) : -1;
		} else if (!c->call && c->n > 0) {
			ms = (int)(left / 1000) + 1;
		}
		if (ms >= 0 && (wait < 0 || ms < wait))
			wait = ms;
	}
	return wait;
}

void flat_collectors_metrics(const struct flat_collectors *all, struct flat_strbuf *out)
{
	flat_strbuf_puts(out, "# HELP flat_spans_total Spans, by provider and what became of "
			      "them.\n# TYPE flat_spans_total counter\n");
	for (uint32_t i = 0; i < all->n; i++) {
		const struct collector *c = all->v[i];
		const struct {
			const char *result;
			uint64_t n;
		} rows[] = {
		    {"exported", c->exported}, {"dropped", c->dropped}, {"failed", c->failed}};

		for (size_t k = 0; k < FLAT_ARRAY_SIZE(rows); k++) {
			flat_strbuf_puts(out, "flat_spans_total{provider=\"");
			flat_metrics_escape(out, c->name);
			flat_strbuf_printf(out, "\",result=\"%s\"} %" PRIu64 "\n", rows[k].result,
					   rows[k].n);
		}
	}
}
