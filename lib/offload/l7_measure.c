#include "offload/l7_measure.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/l7.h"
#include "offload/l7_observe.h"

/* What a value is where its expression has none, as in Istio; and beyond a bound. */
#define UNKNOWN "unknown"
#define OTHER "other"

/* Entries of a connection, by side (source, destination) and metric; NULL: not counted. */
struct flat_conn_measures {
	struct flat_measure *v[2][FLAT_METRICS_CONN - FLAT_METRICS_HTTP];
};

/* One side of one event. */
struct side {
	struct flat_measures *table;
	const struct flat_metric_rules *rules; /* NULL: none */
	const struct flat_access *access;      /* NULL: no value is computed */
	const struct flat_series *base;
	const struct flat_l7_outcome *outcome; /* NULL: a connection, or messages */
	bool source, messages;
	uint64_t epoch; /* of `rules` */
	bool remembers; /* what is found */
	/* Of the rule that was looked at last; NULL: none yet. */
	const struct flat_metric_rule *made;
	struct flat_measure_recent *recent; /* NULL: it is not remembered */
	bool written;			    /* its labels are in table->text */
	bool computed;
	bool labelled; /* `labels` are there */
	struct flat_l7_labels labels;
	char values[FLAT_METRIC_TAGS_MAX][FLAT_METRIC_VALUE_MAX + 1];
};

void flat_l7_labels(const struct flat_series *base, bool source,
		    const struct flat_l7_outcome *outcome, struct flat_l7_labels *out)
{
	flat_series_labels(base, source, outcome->is_grpc ? "grpc" : "http",
			   flat_verdict_flags((enum flat_record_verdict)outcome->verdict),
			   &out->labels);
	snprintf(out->code, sizeof(out->code), "%u", outcome->status);
	flat_metric_labels_add(&out->labels, "response_code", out->code);
	/* As in Istio: empty, which is absent, where there is none. */
	if (!outcome->is_grpc || outcome->grpc < 0)
		return;
	snprintf(out->grpc, sizeof(out->grpc), "%d", outcome->grpc);
	flat_metric_labels_add(&out->labels, "grpc_response_status", out->grpc);
}

/* --- labels --- */

static void side_begin(struct side *s, struct flat_measures *table, bool source,
		       const struct flat_metric_rules *rules, const struct flat_series *base)
{
	/* Texts are written before they are read. */
	memset(s, 0, offsetof(struct side, labels));
	s->table = table;
	s->rules = rules;
	s->base = base;
	s->source = source;
}

/* Istio's. */
static const struct flat_metric_labels *usual(struct side *s)
{
	if (!s->labelled && s->outcome)
		flat_l7_labels(s->base, s->source, s->outcome, &s->labels);
	else if (!s->labelled)
		flat_series_labels(s->base, s->source, s->messages ? NULL : "tcp", "-",
				   &s->labels.labels);
	s->labelled = true;
	return &s->labels.labels;
}

static void compute(struct side *s, const struct flat_cel *cel,
		    char value[FLAT_METRIC_VALUE_MAX + 1])
{
	bool cut = false;
	size_t len = flat_access_value(cel, s->access, value, FLAT_METRIC_VALUE_MAX, &cut);

	if (len == 0) {
		memcpy(value, UNKNOWN, sizeof(UNKNOWN));
		return;
	}
	s->table->bounded[FLAT_BOUND_VALUE] += cut;
	flat_metric_clean(value, len);
	value[len] = 0;
}

static bool is_computed(const struct flat_metric_tag *tag)
{
	return tag->value && !flat_cel_is_literal(tag->value);
}

/* Values of which a request has a say, and what of them is remembered. */
static void look_at(struct side *s, const struct flat_metric_rule *rule)
{
	struct flat_measure_made_of of;
	bool fits = s->remembers;

	s->made = rule;
	s->written = s->computed = false;
	of.len = 0;
	for (uint32_t i = 0; i < rule->n_tags; i++) {
		size_t len;

		if (!is_computed(&rule->tags[i]))
			continue;
		s->computed = true;
		compute(s, rule->tags[i].value, s->values[i]);
		len = strlen(s->values[i]) + 1;
		fits = fits && len <= sizeof(of.values) - of.len;
		if (!fits)
			continue;
		memcpy(of.values + of.len, s->values[i], len);
		of.len += (uint32_t)len;
	}
	of.epoch = s->epoch;
	of.tags = rule->tags;
	of.base = s->base;
	of.outcome = 0;
	_Static_assert(sizeof(of.outcome) == sizeof(*s->outcome), "an outcome is 8 bytes");
	if (s->outcome)
		memcpy(&of.outcome, s->outcome, sizeof(of.outcome));
	of.kind = (uint32_t)s->source | (uint32_t)s->messages << 1;
	s->recent = fits ? flat_measures_recent(s->table, &of) : NULL;
}

/* Labels of a rule; `other`: without what a client may have chosen. */
static void write_text(struct side *s, const struct flat_metric_rule *rule, bool other,
		       struct flat_metric_text *out)
{
	struct flat_metric_labels labels = *usual(s);

	for (uint32_t i = 0; i < rule->n_tags; i++) {
		const struct flat_metric_tag *tag = &rule->tags[i];
		bool computed = is_computed(tag);

		if (tag->value && !computed)
			compute(s, tag->value, s->values[i]);
		flat_metric_labels_set(&labels, tag->name,
				       !tag->value	   ? NULL
				       : other && computed ? OTHER
							   : s->values[i]);
	}
	flat_measures_write(s->table, &labels, out);
}

static struct flat_measure *find(struct side *s, enum flat_metric metric)
{
	static const struct flat_metric_rule none;
	const struct flat_metric_rule *rule = s->rules ? &s->rules->of[metric] : &none;
	struct flat_measures *t = s->table;
	struct flat_measure *m;

	if (rule->disabled)
		return NULL;
	/* Metrics with the same labels have the same array of them. */
	if (!s->made || s->made->tags != rule->tags)
		look_at(s, rule);
	if (s->recent && s->recent->v[metric])
		return s->recent->v[metric];
	if (!s->written)
		write_text(s, rule, false, &t->text);
	s->written = true;
	m = flat_measures_get(t, metric, &t->text,
			      s->computed && s->rules ? s->rules->owner : NULL);
	if (s->recent)
		s->recent->v[metric] = m;
	if (m || !s->computed)
		return m;
	write_text(s, rule, true, &t->other);
	return flat_measures_get(t, metric, &t->other, NULL);
}

/* --- requests --- */

/* Both sides of an event of a request. */
struct sides {
	const struct flat_series *base;
	const struct flat_metric_rules *rules[2];
	struct flat_measures *table;
	uint64_t epoch;
	bool remembers;
	bool computes; /* `access` is there */
	struct flat_access access;
	char trace_id[33];
};

/* False: neither side has rules. */
static bool sides_begin(struct sides *b, struct flat_l7 *l7)
{
	const struct flat_l7_observed *o;

	/* A head that was none, or a request that began before: it is known all the same whose it is. */
	if (!l7->x.observed)
		flat_l7_observe_begin(l7);
	o = l7->x.observed;
	b->base = l7->x.joined;
	if (!o || !b->base)
		return false;
	b->rules[0] = b->base->source_in_mesh ? o->client->metrics : NULL;
	b->rules[1] = b->base->destination_in_mesh ? o->server->metrics : NULL;
	if (!b->rules[0] && !b->rules[1])
		return false;
	b->table = &l7->node->offload->measures;
	b->epoch = l7->node->offload->epoch;
	/* Rules of a configuration that is going may be somewhere else's soon. */
	b->remembers = o->mesh == l7->node->offload->mesh;
	b->computes = (b->rules[0] && b->rules[0]->computes_http) ||
		      (b->rules[1] && b->rules[1]->computes_http);
	if (b->computes)
		flat_l7_observe_access(l7, o, &b->access, b->trace_id);
	return true;
}

/* False: that side counts nothing. */
static bool sides_at(struct sides *b, int i, struct side *s)
{
	if (!(i == 0 ? b->base->source_in_mesh : b->base->destination_in_mesh))
		return false;
	side_begin(s, b->table, i == 0, b->rules[i], b->base);
	s->remembers = b->remembers;
	s->epoch = b->epoch;
	if (!b->computes)
		return true;
	b->access.inbound = i == 1;
	s->access = &b->access;
	return true;
}

typedef void count_fn(struct side *s, const void *arg);

/* Counts an event on each side that counts it. False: neither has rules, and Istio's labels are all there is. */
static bool each_side(struct flat_l7 *l7, count_fn *count, const void *arg)
{
	struct sides b;

	if (!sides_begin(&b, l7))
		return false;
	for (int i = 0; i < 2; i++) {
		struct side s;

		if (sides_at(&b, i, &s))
			count(&s, arg);
	}
	return true;
}

struct request {
	const struct flat_l7_outcome *outcome;
	const double *values;
};

static void count_request(struct side *s, const void *arg)
{
	const struct request *r = arg;

	s->outcome = r->outcome;
	for (unsigned i = 0; i < FLAT_METRICS_HTTP; i++) {
		struct flat_measure *m = find(s, (enum flat_metric)i);

		if (!m)
			continue;
		m->n++;
		if (i != FLAT_METRIC_REQUESTS)
			flat_histogram_add(&m->histogram, r->values[i - 1]);
	}
}

bool flat_l7_measure(struct flat_l7 *l7, const struct flat_l7_outcome *outcome,
		     const double values[3])
{
	const struct request r = {outcome, values};

	return each_side(l7, count_request, &r);
}

/* --- messages of calls --- */

static void count_messages(struct side *s, const void *arg)
{
	const uint64_t *n = arg;

	s->messages = true;
	for (unsigned k = 0; k < 2; k++) {
		struct flat_measure *m =
		    n[k] ? find(s, (enum flat_metric)(FLAT_METRIC_REQUEST_MESSAGES + k)) : NULL;

		if (m)
			m->n += n[k];
	}
}

/* What an attempt saw of a request that is sent again is no more of it. */
static void see(struct flat_l7_exchange *x, int i)
{
	if (x->messages[i] < x->frames[i].n)
		x->messages[i] = x->frames[i].n;
}

void flat_l7_messages_again(struct flat_l7_exchange *x)
{
	see(x, 0);
	memset(&x->frames[0], 0, sizeof(x->frames[0]));
}

void flat_l7_count_messages(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	uint64_t n[2];

	for (int i = 0; i < 2; i++) {
		see(x, i);
		n[i] = x->messages[i] - x->counted[i];
	}
	if (!x->joined || (n[0] == 0 && n[1] == 0))
		return;
	memcpy(x->counted, x->messages, sizeof(x->counted));
	if (l7->node->observes && each_side(l7, count_messages, n))
		return;
	for (int i = 0; i < 2; i++)
		x->joined->messages[i] += n[i];
}

void flat_l7_messages_live(struct flat_offload *o)
{
	const struct flat_conn *c;
	struct flat_l7 *l7;

	TAILQ_FOREACH(c, &o->conns, link)
	{
		if (!c->l7 || !c->l7->mux)
			continue;
		TAILQ_FOREACH(l7, &c->l7->mux->children, child_link)
		{
			/* One that Telemetry came too late for is counted when it is over. */
			if (l7->x.grpc && (l7->x.observed || !l7->node->observes))
				flat_l7_count_messages(l7);
		}
	}
}

/* --- connections --- */

static struct flat_measure **of_side(struct flat_conn *c, int i)
{
	return c->measures->v[i];
}

#define AT(metric) ((metric)-FLAT_METRICS_HTTP)

/* Labels are those of its beginning: all that is known of a connection is known then. */
static void find_all(struct flat_conn *c, const struct flat_metric_rules *const rules[2])
{
	struct flat_access a;

	flat_observe_access(c, &a);
	for (int i = 0; i < 2; i++) {
		struct side s;

		if (!(i == 0 ? c->series->source_in_mesh : c->series->destination_in_mesh))
			continue;
		side_begin(&s, &c->offload->measures, i == 0, rules[i], c->series);
		a.inbound = i == 1;
		s.access = &a;
		for (unsigned k = FLAT_METRICS_HTTP; k < FLAT_METRICS_CONN; k++)
			of_side(c, i)[AT(k)] = find(&s, (enum flat_metric)k);
	}
}

void flat_measure_opened(struct flat_conn *c)
{
	const struct flat_l7_node *node = c->offload->l7;
	const struct flat_mesh *mesh = c->offload->mesh;
	const struct flat_metric_rules *rules[2] = {NULL, NULL};

	if (!node || !node->observes)
		return;
	if (c->series->source_in_mesh && c->client)
		rules[0] =
		    flat_mesh_observation(mesh, c->client->workload, FLAT_MODE_CLIENT)->metrics;
	if (c->series->destination_in_mesh && c->listener)
		rules[1] =
		    flat_mesh_observation(mesh, c->listener->session->workload, FLAT_MODE_SERVER)
			->metrics;
	if (!rules[0] && !rules[1])
		return;
	/* Without memory it is counted with all others. */
	c->measures = calloc(1, sizeof(*c->measures));
	if (!c->measures)
		return;
	find_all(c, rules);
	c->series->apart.opened++;
	for (int i = 0; i < 2; i++) {
		struct flat_measure *m = of_side(c, i)[AT(FLAT_METRIC_TCP_OPENED)];

		if (m)
			m->n++;
	}
}

void flat_measure_live(struct flat_conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct flat_measure *sent = of_side(c, i)[AT(FLAT_METRIC_TCP_SENT)];
		struct flat_measure *received = of_side(c, i)[AT(FLAT_METRIC_TCP_RECEIVED)];

		c->series->apart.live[i] += flat_conn_bytes(c, i);
		if (sent)
			sent->live += flat_conn_bytes(c, FLAT_SIDE_SERVER);
		if (received)
			received->live += flat_conn_bytes(c, FLAT_SIDE_CLIENT);
	}
}

void flat_measure_closed(struct flat_conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct flat_measure *const *v = of_side(c, i);

		c->series->apart.bytes[i] += flat_conn_bytes(c, i);
		if (v[AT(FLAT_METRIC_TCP_SENT)])
			v[AT(FLAT_METRIC_TCP_SENT)]->n += flat_conn_bytes(c, FLAT_SIDE_SERVER);
		if (v[AT(FLAT_METRIC_TCP_RECEIVED)])
			v[AT(FLAT_METRIC_TCP_RECEIVED)]->n += flat_conn_bytes(c, FLAT_SIDE_CLIENT);
		if (v[AT(FLAT_METRIC_TCP_CLOSED)])
			v[AT(FLAT_METRIC_TCP_CLOSED)]->n++;
	}
	c->series->apart.closed++;
}
