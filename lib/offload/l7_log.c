/* What is told of requests: metrics with Istio's names, and a log in Envoy's default form. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "offload/l7_admission.h"
#include "offload/l7_compress.h"
#include "offload/l7_limit.h"
#include "offload/l7_measure.h"
#include "offload/l7_observe.h"
#include "offload/l7_rate.h"
#include "offload/tally.h"

/* Series of requests: who talks to whom, times the few statuses that they see. */
#define SERIES_MAX 4096U
/* Lines about single requests in flatd's own log: enough to see what happens. */
#define LINES_PER_S 20U
/* Bytes of one field in a line of the log. */
#define QUOTED_MAX ((size_t)2048)
/* Of a line: six such fields (method, target, four headers), each byte escaped, and what is between them. */
#define LINE_BYTES ((size_t)6 * 2 * QUOTED_MAX + 512)

struct flat_l7_series_key {
	const struct flat_series *base; /* whom it joins: of the table of connections */
	struct flat_l7_outcome outcome;
};

enum {
	HISTOGRAM_MS,
	HISTOGRAM_REQUEST,
	HISTOGRAM_RESPONSE,
	HISTOGRAMS,
};

static const struct {
	const char *name, *help;
} histograms[HISTOGRAMS] = {
    {"istio_request_duration_milliseconds",
     "Time from a request's head to the end of its response."},
    {"istio_request_bytes", "Bytes of requests, heads included."},
    {"istio_response_bytes", "Bytes of responses, heads included."},
};

struct flat_l7_series {
	struct flat_l7_series_key key;
	uint64_t n;
	struct flat_histogram histogram[HISTOGRAMS];
};

static struct flat_l7_series *series_get(struct flat_l7_node *node,
					 const struct flat_l7_series_key *key)
{
	struct flat_l7_series *s = flat_map_get(&node->series_map, key, sizeof(*key));
	if (s)
		return s;
	/* Full: the last one takes what comes. */
	if (node->n_series == SERIES_MAX)
		return node->series[SERIES_MAX - 1];
	if (!node->series)
		node->series = calloc(SERIES_MAX, sizeof(struct flat_l7_series *));
	s = node->series ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return NULL;
	s->key = *key;
	if (flat_map_put(&node->series_map, &s->key, sizeof(s->key), s) != 0) {
		free(s);
		return NULL;
	}
	node->series[node->n_series++] = s;
	return s;
}

void flat_l7_join(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7 *root = l7->root;
	const struct flat_conn *c = l7->conn;
	const struct flat_offload *o = c->offload;
	char text[FLAT_ADDR_STRLEN];
	struct flat_series_key key = {
	    .source = c->client ? c->client->workload : x->client,
	    .destination = x->target.listener ? x->target.listener->session->workload : NULL,
	    .service = x->service,
	    .principal = x->client ? NULL : c->principal,
	    .path = c->path,
	    .source_in_mesh = c->client || x->client || l7->shadow,
	    .destination_in_mesh = x->target.listener != NULL,
	};

	/* Mostly what the request before joined. */
	if (!root->joined || root->joined_epoch != o->epoch ||
	    root->joined_key[0] != key.destination || root->joined_key[1] != key.service ||
	    root->joined_key[2] != key.source) {
		key.address = flat_addr_str(&c->to, text);
		root->joined = flat_series_get(&l7->node->offload->series, &key);
		root->joined_epoch = o->epoch;
		root->joined_key[0] = key.destination;
		root->joined_key[1] = key.service;
		root->joined_key[2] = key.source;
		root->tally = NULL;
	}
	x->joined = root->joined;
	if (x->observed && x->target.addr.family)
		flat_l7_observe_target(l7);
}

/* --- a line: written in one pass, its room is known to be enough --- */

static char *put(char *to, const char *text, size_t len)
{
	memcpy(to, text, len);
	return to + len;
}

static inline char *puts_to(char *to, const char *text)
{
	return put(to, text, strlen(text));
}

/* Envoy escapes nothing; a quote in a header would forge a field. */
static char *put_escaped(char *to, struct flat_span s)
{
	size_t len = s.text ? flat_min_size(s.len, QUOTED_MAX) : 0;

	if (len == 0)
		return to;
	if (!memchr(s.text, '"', len) && !memchr(s.text, '\\', len))
		return put(to, s.text, len);
	for (size_t i = 0; i < len; i++) {
		if (s.text[i] == '"' || s.text[i] == '\\')
			*to++ = '\\';
		*to++ = s.text[i];
	}
	return to;
}

/* With the blank that parts it from what follows. */
static char *put_quoted(char *to, struct flat_span s)
{
	to = put_escaped(puts_to(to, s.text ? "\"" : "\"-"), s);
	return puts_to(to, "\" ");
}

static struct flat_span field(const struct flat_l7 *l7, const char *name)
{
	if (!l7->x.request.head)
		return (struct flat_span){NULL, 0};
	return flat_http_field_get(&l7->x.request, flat_span_of(name), 0);
}

/* Of this second: a line each 20 us has mostly the one of the line before. */
static char *put_time(struct flat_l7_node *node, char *to)
{
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	if ((node->stamp_s != ts.tv_sec || !node->stamp[0]) && gmtime_r(&ts.tv_sec, &tm)) {
		node->stamp_s = ts.tv_sec;
		(void)strftime(node->stamp, sizeof(node->stamp), "[%Y-%m-%dT%H:%M:%S.", &tm);
	}
	unsigned ms = (unsigned)(ts.tv_nsec / 1000000);
	char rest[] = {(char)('0' + ms / 100),
		       (char)('0' + ms / 10 % 10),
		       (char)('0' + ms % 10),
		       'Z',
		       ']',
		       ' '};
	return put(puts_to(to, node->stamp), rest, sizeof(rest));
}

static char *put_start(const struct flat_l7 *l7, char *to)
{
	const struct flat_http_head *h = &l7->in.head;
	const uint8_t *text = l7->end.in;

	if (l7->x.head_len == 0)
		return puts_to(to, "\"- - -\" ");
	*to++ = '"';
	to = put_escaped(to, flat_head_span(text, h->start, h->method_len));
	*to++ = ' ';
	to = put_escaped(to, flat_head_span(text, h->target, h->target_len));
	if (l7 != l7->root)
		return puts_to(to, " HTTP/2\" ");
	return puts_to(to, h->minor ? " HTTP/1.1\" " : " HTTP/1.0\" ");
}

/* The server's address; mostly that of the line before. */
static char *put_target(struct flat_l7_node *node, const struct flat_addr *a, char *to)
{
	if (!a->family)
		return puts_to(to, "\"-\"");
	if (a->family != node->line_addr.family || a->port != node->line_addr.port ||
	    memcmp(a->ip, node->line_addr.ip, sizeof(a->ip)) != 0) {
		node->line_addr = *a;
		(void)flat_addr_str(a, node->line_host);
	}
	*to++ = '"';
	to = puts_to(to, node->line_host);
	*to++ = '"';
	return to;
}

static size_t make_line(const struct flat_l7 *l7, uint64_t ms, char line[LINE_BYTES])
{
	const struct flat_l7_exchange *x = &l7->x;
	char *to = put_start(l7, put_time(l7->node, line));

	to = flat_put_decimal(to, x->record.status);
	*to++ = ' ';
	to = puts_to(to, flat_verdict_flags((enum flat_record_verdict)x->record.verdict));
	*to++ = ' ';
	to = flat_put_decimal(to, x->up_bytes);
	*to++ = ' ';
	to = flat_put_decimal(to, x->down_bytes);
	*to++ = ' ';
	to = flat_put_decimal(to, ms);
	to = puts_to(to, " - ");
	to = put_quoted(to, field(l7, "x-forwarded-for"));
	to = put_quoted(to, field(l7, "user-agent"));
	to = put_quoted(to, field(l7, "x-request-id"));
	to = put_quoted(to, x->request.authority);
	to = put_target(l7->node, &x->target.addr, to);
	*to++ = '\n';
	return (size_t)(to - line);
}

static void log_line(struct flat_l7 *l7, uint64_t ms)
{
	char line[LINE_BYTES];

	flat_log_file_put(l7->node->log, line, make_line(l7, ms, line));
}

static void count(struct flat_l7 *l7, const struct flat_l7_outcome *outcome, double ms)
{
	const struct flat_l7_exchange *x = &l7->x;
	const double values[HISTOGRAMS] = {
	    [HISTOGRAM_MS] = ms,
	    [HISTOGRAM_REQUEST] = (double)(x->record.head_bytes + x->up_bytes),
	    [HISTOGRAM_RESPONSE] = (double)(x->down_head + x->down_bytes),
	};
	struct flat_l7_series_key key = {.base = x->joined, .outcome = *outcome};
	struct flat_l7_series *s;

	if (l7->node->observes && flat_l7_measure(l7, outcome, values))
		return;
	s = key.base ? series_get(l7->node, &key) : NULL;
	if (!s)
		return;
	s->n++;
	for (int i = 0; i < HISTOGRAMS; i++)
		flat_histogram_add(&s->histogram[i], values[i]);
}

void flat_l7_count(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_node *node = l7->node;
	int64_t now = flat_now_us();
	double ms = x->start_us ? (double)(now - x->start_us) / 1000 : 0;
	const struct flat_l7_outcome outcome = {
	    .status = x->record.status,
	    .verdict = x->record.verdict,
	    .grpc = (int16_t)(x->grpc ? x->grpc_status : 0),
	    .is_grpc = x->grpc,
	};

	if (!x->joined) {
		memset(&x->target, 0, sizeof(x->target));
		flat_l7_join(l7);
	}
	if (x->grpc)
		flat_l7_count_messages(l7);
	count(l7, &outcome, ms);
	flat_tally_count(l7, x->start_us ? now - x->start_us : 0);
	if (node->log)
		log_line(l7, ms > 0 ? (uint64_t)ms : 0);
	if (node->observes || x->observed)
		flat_l7_observe_end(l7);
}

bool flat_l7_may_tell(struct flat_l7_node *node)
{
	int64_t now_s = flat_now_us() / 1000000;

	if (node->told_s != now_s)
		node->told = 0;
	node->told_s = now_s;
	return node->told++ < LINES_PER_S;
}

/* --- metrics --- */

static const enum flat_metric metrics_of[HISTOGRAMS] = {
    FLAT_METRIC_DURATION, FLAT_METRIC_REQUEST_BYTES, FLAT_METRIC_RESPONSE_BYTES};

/* With what Telemetry has counted under the same labels. */
static void put_series(const struct flat_l7_series *s, int which, bool source,
		       struct flat_measures *measures, struct flat_strbuf *out)
{
	struct flat_metric_text *text = &measures->text;
	struct flat_histogram h = {.sum = 0};
	const struct flat_measure *same;
	struct flat_l7_labels labels;
	uint64_t n;

	flat_l7_labels(s->key.base, source, &s->key.outcome, &labels);
	flat_measures_write(measures, &labels.labels, text);
	same = flat_measures_take(measures, which < 0 ? FLAT_METRIC_REQUESTS : metrics_of[which],
				  text);
	if (!flat_strbuf_str(&text->buf))
		return;
	n = s->n + (same ? same->n : 0);
	if (which < 0) {
		flat_strbuf_printf(out, "istio_requests_total%s} %" PRIu64 "\n", text->buf.data, n);
		return;
	}
	flat_histogram_join(&h, &s->histogram[which]);
	if (same)
		flat_histogram_join(&h, &same->histogram);
	flat_histogram_text(&h, n, histograms[which].name, text->buf.data, out);
}

/* A family: requests (-1), or a histogram. */
static void put_family(struct flat_offload *o, int which, struct flat_strbuf *out)
{
	const struct flat_l7_node *node = o->l7;
	const char *name = which < 0 ? "istio_requests_total" : histograms[which].name;

	flat_metrics_head(out, name, which < 0 ? "counter" : "histogram",
			  which < 0 ? "HTTP requests." : histograms[which].help);
	for (uint32_t i = 0; node && i < node->n_series; i++) {
		const struct flat_l7_series *s = node->series[i];

		if (s->key.base->source_in_mesh)
			put_series(s, which, true, &o->measures, out);
		if (s->key.base->destination_in_mesh)
			put_series(s, which, false, &o->measures, out);
	}
	flat_measures_text(&o->measures, which < 0 ? FLAT_METRIC_REQUESTS : metrics_of[which], name,
			   out);
}

void flat_l7_metrics(struct flat_offload *o, struct flat_strbuf *out)
{
	const struct flat_l7_node *node = o->l7;

	if (node) {
		flat_l7_mandatory_metrics(node, out);
		flat_l7_observe_metrics(node, out);
		flat_l7_limits_metrics(node, out);
		flat_l7_rates_metrics(node, out);
		flat_l7_admission_metrics(node, out);
		flat_l7_compress_metrics(node, out);
		flat_l7_hedge_metrics(node, out);
	}
	for (int which = -1; which < HISTOGRAMS; which++)
		put_family(o, which, out);
}

/* --- the end --- */

void flat_l7_log_fini(struct flat_l7_node *node)
{
	flat_tally_fini(node);
	flat_l7_limits_fini(node);
	flat_l7_admissions_fini(node);
	flat_l7_compress_fini(node);
	for (uint32_t i = 0; i < node->n_series; i++)
		free(node->series[i]);
	free(node->series);
	flat_map_fini(&node->series_map);
}
