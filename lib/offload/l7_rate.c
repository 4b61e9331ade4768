#include "offload/l7_rate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "offload/grpc_client.h"
#include "offload/l7_filter.h"
#include "offload/l7_limit.h"

#define PATH "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

/* What is counted, by Envoy's words. */
enum rated {
	RATED_OK,
	RATED_OVER,
	RATED_ERROR,
	RATED_ALLOWED, /* of the errors: those that were let through */
	RATED,
};

enum state {
	ASKING,
	PASSED,
	OVER,
	FAILED,
};

/* What one limit's service was asked about an exchange. Owner: the exchange. */
struct flat_l7_rate {
	struct flat_l7_rate *next;
	struct flat_l7 *l7;
	/* What it is about. */
	uint32_t limit;
	bool gateway;
	uint32_t attempt; /* 0 at a gateway */
	uint64_t epoch;
	const struct flat_workload *workload; /* compared only */
	enum state state;
	struct flat_call *call; /* while ASKING */
	struct flat_l7_rate_answer a;
	bool tells;   /* the client is told of it */
	char why[96]; /* FAILED */
};

static void clear(struct flat_l7_rate *r)
{
	flat_call_cancel(r->call);
	r->call = NULL;
	flat_strbuf_fini(&r->a.client);
	flat_strbuf_fini(&r->a.upstream);
	flat_strbuf_fini(&r->a.body);
	flat_strbuf_fini(&r->a.told);
	r->a = (struct flat_l7_rate_answer){.over = false};
}

void flat_l7_rate_free(struct flat_l7_rate *r)
{
	while (r) {
		struct flat_l7_rate *next = r->next;

		clear(r);
		free(r);
		r = next;
	}
}

/* --- the question --- */

static void fail(struct flat_l7_rate *r, const char *why)
{
	r->state = FAILED;
	r->l7->node->rated[RATED_ERROR]++;
	snprintf(r->why, sizeof(r->why), "%s", why);
}

static void on_answer(void *arg, const struct flat_call_answer *answer)
{
	struct flat_l7_rate *r = arg;

	r->call = NULL;
	if (answer->why)
		fail(r, answer->why);
	else if (answer->status != 200 || answer->grpc != 0)
		fail(r, "its answer is an error");
	else if (flat_l7_rate_read(answer->bytes, answer->len, &r->a) != 0)
		fail(r, "its answer is malformed");
	else
		r->state = r->a.over ? OVER : PASSED;
	if (r->state == PASSED || r->state == OVER)
		r->l7->node->rated[r->state == OVER ? RATED_OVER : RATED_OK]++;
	/* The request is looked at again, whatever came of it. */
	flat_l7_resume(r->l7);
}

/* Calls `fn` for each descriptor of the request. */
static void each_descriptor(struct flat_l7 *l7, const struct flat_rate_limit *rate, bool gateway,
			    const struct flat_http_request *request,
			    void (*fn)(void *arg, const struct flat_l7_descriptor *d), void *arg)
{
	const struct flat_limit_rule *rules[FLAT_LIMIT_RULES_MAX];
	struct flat_l7_limit_making m;
	struct flat_limit_place place;
	struct flat_l7_descriptor d;
	uint32_t n = rate->n_rules;

	flat_l7_limit_place(l7, gateway, &place);
	m.l7 = l7;
	/* As in Envoy a gateway's limits see it before the route changes it, and after its tokens were looked at. */
	m.request = !gateway ? request : l7->x.seen ? &l7->x.seen->request : &l7->x.request;
	m.place = &place;
	if (n == 0)
		n = flat_limit_rules(l7->node->offload->mesh, &place, rate->stage,
				     FLAT_LIMIT_OVERRIDE, rules);
	for (uint32_t i = 0; i < n; i++) {
		m.used = 0;
		if (flat_l7_descriptor_make(&m, rate->n_rules ? &rate->rules[i] : rules[i], &d))
			fn(arg, &d);
	}
}

static void put(void *arg, const struct flat_l7_descriptor *d)
{
	struct flat_strbuf *message = arg;

	/* What it may not be is not made. */
	if (message->len <= FLAT_L7_RATE_BYTES_MAX)
		flat_l7_rate_put_descriptor(message, d);
}

static struct flat_call_channel *channel_of(struct flat_l7_node *node, uint32_t limit)
{
	if (limit >= node->n_rate_channels)
		return NULL;
	if (!node->rate_channels[limit])
		node->rate_channels[limit] = flat_call_channel_open(&node->offload->loop);
	return node->rate_channels[limit];
}

static void send_question(struct flat_l7_rate *r, const struct flat_rate_limit *rate,
			  const struct flat_strbuf *message)
{
	struct flat_l7_node *node = r->l7->node;
	struct sockaddr_storage addr;
	struct flat_call_question q = {
	    .channel = channel_of(node, rate->index),
	    .addr = &addr,
	    .grpc = true,
	    .authority = rate->authority,
	    .path = PATH,
	    .bytes = message->data,
	    .len = message->len,
	    .deadline_us = flat_now_us() + (int64_t)rate->timeout_ms * 1000,
	};

	q.addr_len = rate->why_not ? 0 : flat_l7_address_of(node, rate->service, rate->port, &addr);
	if (rate->why_not) {
		fail(r, rate->why_not);
	} else if (q.addr_len == 0) {
		fail(r, "it has no endpoint");
	} else if (message->failed || !q.channel) {
		fail(r, "no memory");
	} else if (message->len > FLAT_L7_RATE_BYTES_MAX) {
		fail(r, "the descriptors are too long");
	} else {
		r->call = flat_call_start(&node->offload->loop, &q, on_answer, r);
		if (!r->call)
			fail(r, "no connection can be made");
	}
}

static void ask(struct flat_l7_rate *r, const struct flat_rate_limit *rate,
		const struct flat_http_request *request)
{
	struct flat_strbuf message = {0};
	size_t bare;

	clear(r);
	r->state = PASSED;
	r->tells = rate->tells;
	if (rate->enabled_of_million != FLAT_MILLION &&
	    flat_l7_random(r->l7->node, FLAT_MILLION) >= rate->enabled_of_million)
		return;
	flat_l7_rate_put_domain(&message, rate->domain);
	bare = message.len;
	each_descriptor(r->l7, rate, r->gateway, request, put, &message);
	/* As in Envoy: who has no descriptor is not asked about. */
	if (message.failed || message.len > bare) {
		r->state = ASKING;
		send_question(r, rate, &message);
	}
	flat_strbuf_fini(&message);
}

/* --- the verdict --- */

static void add_lines(struct flat_l7_answer *a, const struct flat_strbuf *lines)
{
	size_t len = strlen(a->fields);
	const char *text = flat_strbuf_str(lines);

	/* Whole or not at all. */
	if (text && lines->len < sizeof(a->fields) - len)
		memcpy(a->fields + len, text, lines->len + 1);
}

static enum flat_l7_verb refuse(const struct flat_l7_rate *r, const struct flat_rate_limit *rate,
				struct flat_l7_answer *a)
{
	static const struct flat_name_value mark = {.name = "x-envoy-ratelimited", .value = "true"};

	flat_l7_text(a, rate->status, FLAT_VERDICT_RATED, r->a.body.len ? "" : NULL);
	a->grpc = rate->exhausted ? FLAT_L7_GRPC_EXHAUSTED + 1 : 0;
	if (r->a.body.len > 0) {
		a->body = r->a.body.data;
		a->len = r->a.body.len;
	}
	if (!rate->silent)
		flat_l7_limit_headers(a, &mark, 1);
	if (rate->tells)
		add_lines(a, &r->a.told);
	flat_l7_limit_headers(a, rate->headers, rate->n_headers);
	add_lines(a, &r->a.client);
	return FLAT_L7_ANSWER;
}

static enum flat_l7_verb failed(struct flat_l7_rate *r, const struct flat_rate_limit *rate,
				struct flat_l7_answer *a)
{
	if (flat_l7_may_tell(r->l7->node))
		flat_warn("rate limit service %s:%u (%s:%u): %s; the request is %s",
			  rate->host ? rate->host : "-", rate->port,
			  rate->by.where.file ? rate->by.where.file : "-", rate->by.where.line,
			  r->why, rate->denies ? "refused" : "let through");
	if (!rate->denies) {
		/* Once: further looks at this attempt find it passed. */
		r->state = PASSED;
		r->l7->node->rated[RATED_ALLOWED]++;
		return FLAT_L7_GO;
	}
	flat_l7_text(a, rate->error_status, FLAT_VERDICT_LIMITER, NULL);
	return FLAT_L7_ANSWER;
}

static enum flat_l7_verb pass(struct flat_l7_rate *r, struct flat_http_request *request,
			      size_t *len, struct flat_l7_answer *a)
{
	struct flat_l7_edit edit = {.lines = r->a.upstream};

	if (r->a.upstream.len == 0 || flat_l7_edit_head(r->l7, &edit, request, len) == 0)
		return FLAT_L7_GO;
	flat_l7_text(a, 431, FLAT_VERDICT_MALFORMED, NULL);
	return FLAT_L7_ANSWER;
}

/* The exchange's record of a limit; NULL without memory. */
static struct flat_l7_rate *record_of(struct flat_l7 *l7, uint32_t limit, bool gateway,
				      const struct flat_workload *workload,
				      const struct flat_http_request *request)
{
	const struct flat_rate_limit *rate = flat_mesh_rate(l7->node->offload->mesh, limit);
	uint64_t epoch = l7->node->offload->epoch;
	uint32_t attempt = gateway ? 0 : l7->x.record.attempt + 1;
	struct flat_l7_rate **at = &l7->x.rates;
	struct flat_l7_rate *r;

	while (*at && ((*at)->limit != limit || (*at)->gateway != gateway))
		at = &(*at)->next;
	r = *at;
	if (r && r->epoch == epoch && r->attempt == attempt && r->workload == workload)
		return r;
	if (!r)
		r = *at = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->l7 = l7;
	r->limit = limit;
	r->gateway = gateway;
	r->attempt = attempt;
	r->epoch = epoch;
	r->workload = workload;
	ask(r, rate, request);
	return r;
}

static enum flat_l7_verb one(struct flat_l7_rate *r, const struct flat_rate_limit *rate,
			     struct flat_http_request *request, size_t *len,
			     struct flat_l7_answer *a)
{
	if (r->state == ASKING)
		(void)flat_call_expire(r->call, flat_now_us());
	if (r->state == OVER && rate->enforced_of_million != FLAT_MILLION &&
	    flat_l7_random(r->l7->node, FLAT_MILLION) >= rate->enforced_of_million)
		r->state = PASSED;
	switch (r->state) {
	case PASSED:
		return pass(r, request, len, a);
	case OVER:
		return refuse(r, rate, a);
	case FAILED:
		return failed(r, rate, a);
	default:
		return FLAT_L7_LATER;
	}
}

/* --- flatctl why --- */

static void note_descriptor(void *arg, const struct flat_l7_descriptor *d)
{
	struct flat_l7_node *node = arg;

	flat_l7_note(node, "    about");
	for (uint32_t i = 0; i < d->n; i++)
		flat_l7_note(node, "%s%s=%.*s", i ? ", " : " ", d->key[i],
			     (int)flat_min_size(d->value[i].len, 200), d->value[i].text);
	if (d->has_hits)
		flat_l7_note(node, ", as %u", d->hits);
	flat_l7_note(node, "\n");
}

static void note(struct flat_l7 *l7, const struct flat_rate_limit *rate, bool gateway,
		 const struct flat_http_request *request)
{
	flat_l7_note(l7->node, "  rate limit %s/%s (%s:%u): %s:%u is asked, domain %s%s%s\n",
		     rate->by.namespace, rate->by.name, rate->by.where.file, rate->by.where.line,
		     rate->host ? rate->host : "-", rate->port, rate->domain,
		     rate->why_not ? "; it cannot be: " : "", rate->why_not ? rate->why_not : "");
	each_descriptor(l7, rate, gateway, request, note_descriptor, l7->node);
}

/* A question of flatd's own, to a service that is a server of the mesh: about it nobody is asked, else it never ends. */
static bool is_own(const struct flat_l7 *l7, const struct flat_http_request *request)
{
	return !l7->conn->client && flat_span_equal(request->path, flat_span_of(PATH), false);
}

enum flat_l7_verb flat_l7_rate(struct flat_l7 *l7, bool gateway, struct flat_http_request *request,
			       size_t *len, struct flat_l7_answer *a)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_workload *workload =
	    gateway ? l7->x.client : l7->x.target.listener->session->workload;
	struct flat_filter_whose whose = {.port = l7->port, .other_port = l7->port};

	if (!gateway)
		(void)flat_l7_filter_server(l7, &whose);
	for (uint32_t i = 0; i < flat_mesh_n_rates(mesh); i++) {
		const struct flat_rate_limit *rate = flat_mesh_rate(mesh, i);
		enum flat_l7_verb verb;
		struct flat_l7_rate *r;

		if (!(gateway ? rate->gateway : rate->server) || is_own(l7, request) ||
		    !flat_limit_at(&rate->by, whose.port, whose.other_port) ||
		    !flat_limit_selects(mesh, &rate->by, workload))
			continue;
		if (l7->dry) {
			note(l7, rate, gateway, request);
			continue;
		}
		r = record_of(l7, i, gateway, workload, request);
		if (!r) {
			flat_l7_text(a, rate->error_status, FLAT_VERDICT_LIMITER, NULL);
			return FLAT_L7_ANSWER;
		}
		verb = one(r, rate, request, len, a);
		if (verb != FLAT_L7_GO)
			return verb;
	}
	return FLAT_L7_GO;
}

void flat_l7_rate_put(const struct flat_l7_rate *r, struct flat_http1_out *out)
{
	for (; r; r = r->next) {
		const char *told = r->tells ? flat_strbuf_str(&r->a.told) : NULL;
		const char *lines = flat_strbuf_str(&r->a.client);

		if (told)
			flat_http1_puts(out, told);
		if (lines)
			flat_http1_puts(out, lines);
	}
}

/* --- the node --- */

void flat_l7_rates_reloaded(struct flat_l7_node *node)
{
	uint32_t n = flat_mesh_n_rates(node->offload->mesh);
	struct flat_call_channel **v;

	/* Channels stay: questions may be on their way, and one to another address makes another connection. */
	if (n <= node->n_rate_channels)
		return;
	v = realloc(node->rate_channels, n * sizeof(*v));
	if (!v) {
		flat_error("no memory for rate limits: their services are not asked");
		return;
	}
	for (uint32_t i = node->n_rate_channels; i < n; i++)
		v[i] = NULL;
	node->rate_channels = v;
	node->n_rate_channels = n;
}

void flat_l7_rates_fini(struct flat_l7_node *node)
{
	for (uint32_t i = 0; i < node->n_rate_channels; i++)
		flat_call_channel_close(node->rate_channels[i]);
	free(node->rate_channels);
	node->rate_channels = NULL;
	node->n_rate_channels = 0;
}

void flat_l7_rates_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	static const char *const names[RATED] = {"ok", "over_limit", "error",
						 "failure_mode_allowed"};

	flat_strbuf_puts(out, "# HELP flat_rate_limit_total Questions to rate limit services, by "
			      "what came of them.\n# TYPE flat_rate_limit_total counter\n");
	for (int i = 0; i < RATED; i++)
		flat_strbuf_printf(out, "flat_rate_limit_total{result=\"%s\"} %" PRIu64 "\n",
				   names[i], node->rated[i]);
}
