/* Overrides of metrics: from a chain of Telemetry resources to what holds for a workload. */
#include "mesh/measure.h"

#include <errno.h>
#include <string.h>

#include "mesh/internal.h"

/* What was said so far. As in Istio's merging all items of a chain are one list, the widest resource's first. */
struct merging {
	struct flat_mesh *mesh;
	unsigned mode;
	const char *const *parents; /* providers of the item before */
	uint32_t n_parents;
	bool any, off;
	bool disabled[FLAT_METRICS];
	struct flat_metric_tag tags[FLAT_METRICS][FLAT_METRIC_TAGS_MAX];
	uint32_t n_tags[FLAT_METRICS];
	const struct flat_telemetry *by;
};

/* Whether flatd's own port is among them: there is no other. */
static bool is_ours(const struct flat_mesh *mesh, const char *const *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_telemetry_provider *p =
		    flat_mesh_telemetry_provider_by_name(mesh, v[i]);

		if (p && p->kind == FLAT_PROVIDER_PROMETHEUS)
			return true;
	}
	return false;
}

/* In the order of names, so that two metrics with the same labels are seen to have them. */
static void set_tag(struct merging *m, unsigned metric, const struct flat_metric_tag *tag)
{
	struct flat_metric_tag *v = m->tags[metric];
	uint32_t *n = &m->n_tags[metric];
	uint32_t i = 0;

	while (i < *n && strcmp(v[i].name, tag->name) < 0)
		i++;
	if (i == *n || strcmp(v[i].name, tag->name) != 0) {
		/* It was said when the resource was read. */
		if (*n == FLAT_METRIC_TAGS_MAX)
			return;
		memmove(v + i + 1, v + i, (*n - i) * sizeof(*v));
		++*n;
	}
	v[i] = *tag;
}

static void apply(struct merging *m, const struct flat_metric_override *o)
{
	if (!(o->modes & m->mode))
		return;
	m->any = true;
	/* All that is disabled stays so until a narrower one enables something, or says something else of it. */
	if (o->all && o->disabled) {
		m->off = true;
		return;
	}
	if (!o->disabled)
		m->off = false;
	for (unsigned i = 0; i < FLAT_METRICS; i++) {
		if (!(o->metrics & 1U << i))
			continue;
		if (o->says_disabled)
			m->disabled[i] = o->disabled;
		for (uint32_t k = 0; k < o->n_tags; k++)
			set_tag(m, i, &o->tags[k]);
	}
}

static const char *const *names_of(const struct merging *m, const struct flat_telemetry_item *item,
				   uint32_t *n)
{
	*n = item->n_providers ? item->n_providers : m->n_parents;
	return item->n_providers ? item->providers : m->parents;
}

static bool same_tags(const struct merging *m, unsigned a, unsigned b)
{
	if (m->n_tags[a] != m->n_tags[b])
		return false;
	for (uint32_t i = 0; i < m->n_tags[a]; i++) {
		if (strcmp(m->tags[a][i].name, m->tags[b][i].name) != 0 ||
		    m->tags[a][i].value != m->tags[b][i].value)
			return false;
	}
	return true;
}

static int copy_tags(struct merging *m, struct flat_metric_rules *rules, unsigned i)
{
	struct flat_metric_tag *copy;

	rules->of[i].n_tags = m->n_tags[i];
	for (unsigned k = 0; k < i; k++) {
		if (same_tags(m, k, i)) {
			rules->of[i].tags = rules->of[k].tags;
			return 0;
		}
	}
	copy = flat_pool_array(&m->mesh->pool, (size_t)m->n_tags[i] + 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, m->tags[i], m->n_tags[i] * sizeof(*copy));
	rules->of[i].tags = copy;
	return 0;
}

static int finish(struct merging *m, const struct flat_workload *w, bool ours,
		  const struct flat_metric_rules **out)
{
	struct flat_metric_rules *rules = flat_pool_alloc(&m->mesh->pool, sizeof(*rules));

	if (!rules)
		return -ENOMEM;
	rules->by = m->by;
	rules->owner = flat_pool_printf(&m->mesh->pool, "%s%s%s as a %s", w ? w->namespace : "",
					w ? "/" : "a program without Workload", w ? w->name : "",
					m->mode == FLAT_MODE_CLIENT ? "client" : "server");
	if (!rules->owner)
		return -ENOMEM;
	for (unsigned i = 0; i < FLAT_METRICS; i++) {
		rules->of[i].disabled = !ours || m->off || m->disabled[i];
		if (copy_tags(m, rules, i) != 0)
			return -ENOMEM;
		if ((i >= FLAT_METRICS_HTTP && i < FLAT_METRICS_CONN) || rules->of[i].disabled)
			continue;
		rules->labels_http |= m->n_tags[i] > 0;
		for (uint32_t k = 0; k < m->n_tags[i]; k++)
			rules->computes_http |=
			    m->tags[i][k].value && !flat_cel_is_literal(m->tags[i][k].value);
	}
	*out = rules;
	return 0;
}

int mesh_find_measures(struct flat_mesh *mesh, const struct flat_telemetry *const chain[3],
		       unsigned mode, const struct flat_workload *w,
		       const struct flat_metric_rules **out)
{
	static const char *const prometheus[] = {"prometheus"};
	const struct flat_telemetry_defaults *d = &mesh->telemetry_defaults;
	struct merging m = {.mesh = mesh,
			    .mode = mode,
			    .parents = d->n_metrics ? d->metrics : prometheus,
			    .n_parents = d->n_metrics ? d->n_metrics : 1};
	bool ours = is_ours(mesh, m.parents, m.n_parents);

	for (size_t i = 0; i < 3; i++) {
		for (uint32_t k = 0; chain[i] && k < chain[i]->n_metrics; k++) {
			const struct flat_telemetry_item *item = &chain[i]->metrics[k];

			m.parents = names_of(&m, item, &m.n_parents);
			m.by = chain[i];
			/* The last item says whose metrics there are at all. */
			ours = is_ours(mesh, m.parents, m.n_parents);
			for (uint32_t n = 0; ours && n < item->n_overrides; n++)
				apply(&m, &item->overrides[n]);
		}
	}
	return m.any || !ours ? finish(&m, w, ours, out) : 0;
}
