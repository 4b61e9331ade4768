#include "offload/l7_measure.h"

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
	struct flat_measure *v[2][FLAT_METRICS - FLAT_METRICS_HTTP];
};

/* One side of one event. */
struct side {
	struct flat_measures *table;
	const struct flat_metric_rules *rules; /* NULL: none */
	const struct flat_access *access;
	const struct flat_metric_labels *labels; /* Istio's */
	/* Of `made`, the rule whose labels are in table->text; NULL: none yet. */
	const struct flat_metric_rule *made;
	bool computed;
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

/* Labels of a rule; `other`: without what a client may have chosen. */
static void make_text(struct side *s, const struct flat_metric_rule *rule, bool other,
		      struct flat_metric_text *out)
{
	struct flat_metric_labels labels = *s->labels;

	for (uint32_t i = 0; rule && i < rule->n_tags; i++) {
		const struct flat_metric_tag *tag = &rule->tags[i];
		bool literal = tag->value && flat_cel_is_literal(tag->value);

		if (tag->value && !other)
			compute(s, tag->value, s->values[i]);
		s->computed |= tag->value && !literal;
		flat_metric_labels_set(&labels, tag->name,
				       !tag->value	   ? NULL
				       : other && !literal ? OTHER
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
	if (!s->made || s->made->tags != rule->tags) {
		s->computed = false;
		make_text(s, rule, false, &t->text);
		s->made = rule;
	}
	m = flat_measures_get(t, metric, &t->text, s->computed ? s->rules->owner : NULL);
	if (m || !s->computed)
		return m;
	make_text(s, rule, true, &t->other);
	return flat_measures_get(t, metric, &t->other, NULL);
}

/* --- requests --- */

static void count_request(struct side *s, const double values[3])
{
	for (unsigned i = 0; i < FLAT_METRICS_HTTP; i++) {
		struct flat_measure *m = find(s, (enum flat_metric)i);

		if (!m)
			continue;
		m->n++;
		if (i != FLAT_METRIC_REQUESTS)
			flat_histogram_add(&m->histogram, values[i - 1]);
	}
}

bool flat_l7_measure(struct flat_l7 *l7, const struct flat_l7_outcome *outcome,
		     const double values[3])
{
	const struct flat_series *base = l7->x.joined;
	const struct flat_metric_rules *rules[2];
	const struct flat_l7_observed *o;
	struct flat_access a;
	char trace_id[33];

	/* A head that was none, or a request that began before: it is known all the same whose it is. */
	if (!l7->x.observed)
		flat_l7_observe_begin(l7);
	o = l7->x.observed;
	if (!o || !base)
		return false;
	rules[0] = base->source_in_mesh ? o->client->metrics : NULL;
	rules[1] = base->destination_in_mesh ? o->server->metrics : NULL;
	if (!rules[0] && !rules[1])
		return false;
	flat_l7_observe_access(l7, o, &a, trace_id);
	for (int i = 0; i < 2; i++) {
		struct flat_l7_labels labels;
		struct side s;

		if (!(i == 0 ? base->source_in_mesh : base->destination_in_mesh))
			continue;
		a.inbound = i == 1;
		flat_l7_labels(base, i == 0, outcome, &labels);
		s.table = &l7->node->offload->measures;
		s.rules = rules[i];
		s.access = &a;
		s.labels = &labels.labels;
		s.made = NULL;
		count_request(&s, values);
	}
	return true;
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
		struct flat_metric_labels labels;
		struct side s;

		if (!(i == 0 ? c->series->source_in_mesh : c->series->destination_in_mesh))
			continue;
		a.inbound = i == 1;
		flat_series_labels(c->series, i == 0, "tcp", "-", &labels);
		s.table = &c->offload->measures;
		s.rules = rules[i];
		s.access = &a;
		s.labels = &labels;
		s.made = NULL;
		for (unsigned k = FLAT_METRICS_HTTP; k < FLAT_METRICS; k++)
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
