#include "mesh/telemetry.h"

#include <errno.h>
#include <string.h>

#include "mesh/internal.h"

static const struct flat_observation nothing;

bool flat_mesh_observes(const struct flat_mesh *mesh)
{
	return mesh->observes;
}

bool flat_mesh_tells(const struct flat_mesh *mesh)
{
	return mesh->tells;
}

static void each_of_item(const struct flat_telemetry_item *item,
			 void each(void *arg, const struct flat_cel *cel), void *arg)
{
	if (item->filter)
		each(arg, item->filter);
	for (uint32_t i = 0; i < item->n_overrides; i++) {
		for (uint32_t k = 0; k < item->overrides[i].n_tags; k++) {
			if (item->overrides[i].tags[k].value)
				each(arg, item->overrides[i].tags[k].value);
		}
	}
}

void flat_mesh_each_expression(const struct flat_mesh *mesh,
			       void each(void *arg, const struct flat_cel *cel), void *arg)
{
	for (uint32_t i = 0; i < mesh->telemetry.n; i++) {
		const struct flat_telemetry *t = mesh->telemetry.v[i];

		for (uint32_t k = 0; k < t->n_logging; k++)
			each_of_item(&t->logging[k], each, arg);
		for (uint32_t k = 0; k < t->n_metrics; k++)
			each_of_item(&t->metrics[k], each, arg);
	}
}

const struct flat_observation *flat_mesh_observation(const struct flat_mesh *mesh,
						     const struct flat_workload *workload,
						     enum flat_side_mode mode)
{
	uint32_t i = workload ? workload->index : mesh->workloads.n;

	if (!mesh->observes)
		return &nothing;
	return &mesh->observations[(size_t)2 * i + (mode == FLAT_MODE_SERVER)];
}

uint32_t flat_mesh_n_telemetry_providers(const struct flat_mesh *mesh)
{
	return mesh->telemetry_providers.n;
}

const struct flat_telemetry_provider *flat_mesh_telemetry_provider(const struct flat_mesh *mesh,
								   uint32_t i)
{
	return i < mesh->telemetry_providers.n ? mesh->telemetry_providers.v[i] : NULL;
}

struct flat_telemetry_provider *flat_mesh_telemetry_provider_by_name(const struct flat_mesh *mesh,
								     const char *name)
{
	for (uint32_t i = 0; i < mesh->telemetry_providers.n; i++) {
		struct flat_telemetry_provider *p = mesh->telemetry_providers.v[i];

		if (strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

struct flat_telemetry_defaults *flat_mesh_telemetry_defaults(struct flat_mesh *mesh)
{
	return &mesh->telemetry_defaults;
}

/* --- who holds for a workload --- */

/* From the widest to the narrowest; NULL: there is none. */
struct chain {
	const struct flat_telemetry *v[3];
};

static const struct flat_telemetry *of_namespace(const struct flat_mesh *mesh,
						 const char *namespace)
{
	for (uint32_t i = 0; i < mesh->telemetry.n; i++) {
		const struct flat_telemetry *t = mesh->telemetry.v[i];

		if (!t->targets && t->selector.n == 0 && strcmp(t->namespace, namespace) == 0)
			return t;
	}
	return NULL;
}

static bool selects(const struct flat_telemetry *t, const struct flat_workload *w)
{
	if (t->targets)
		return mesh_policy_selects(t->namespace, t->targets, &t->selector, w);
	return t->selector.n > 0 && strcmp(t->namespace, w->namespace) == 0 &&
	       flat_labels_match(&t->selector, &w->labels);
}

static const struct flat_telemetry *of_workload(const struct flat_mesh *mesh,
						const struct flat_workload *w)
{
	for (uint32_t i = 0; i < mesh->telemetry.n; i++) {
		const struct flat_telemetry *t = mesh->telemetry.v[i];

		if (selects(t, w))
			return t;
	}
	return NULL;
}

/* As in Istio: the root namespace's and the namespace's own without a selector, then the first that selects. */
static struct chain chain_of(const struct flat_mesh *mesh, const struct flat_workload *w)
{
	struct chain c = {{of_namespace(mesh, mesh->root_namespace), NULL, NULL}};

	if (!w)
		return c;
	if (strcmp(w->namespace, mesh->root_namespace) != 0)
		c.v[1] = of_namespace(mesh, w->namespace);
	c.v[2] = of_workload(mesh, w);
	return c;
}

/* --- access logs --- */

/* Names that hold at some point of a chain. */
struct names {
	const char *v[FLAT_TELEMETRY_PROVIDERS_MAX];
	uint32_t n;
};

static void add_names(struct names *to, const char *const *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = 0;

		while (k < to->n && strcmp(to->v[k], v[i]) != 0)
			k++;
		if (k == to->n && to->n < FLAT_ARRAY_SIZE(to->v))
			to->v[to->n++] = v[i];
	}
}

/* By what its providers are. */
static const struct flat_telemetry_item *items_of(const struct flat_telemetry *t,
						  enum flat_telemetry_kind kind, uint32_t *n)
{
	*n = !t				      ? 0
	     : kind == FLAT_PROVIDER_TRACES   ? t->n_tracing
	     : kind == FLAT_PROVIDER_FILE_LOG ? t->n_logging
					      : t->n_metrics;
	if (!t)
		return NULL;
	return kind == FLAT_PROVIDER_TRACES	? t->tracing
	       : kind == FLAT_PROVIDER_FILE_LOG ? t->logging
						: t->metrics;
}

/* The narrowest resource that names providers says which there are. */
static struct names names_of(const struct flat_mesh *mesh, const struct chain *c, bool tracing,
			     unsigned mode)
{
	const struct flat_telemetry_defaults *d = &mesh->telemetry_defaults;
	struct names in_scope = {.n = 0};

	add_names(&in_scope, tracing ? d->tracing : d->logging,
		  tracing ? d->n_tracing : d->n_logging);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(c->v); i++) {
		struct names own = {.n = 0};
		uint32_t n;
		const struct flat_telemetry_item *v =
		    items_of(c->v[i], tracing ? FLAT_PROVIDER_TRACES : FLAT_PROVIDER_FILE_LOG, &n);

		for (uint32_t k = 0; k < n; k++) {
			if (v[k].modes & mode)
				add_names(&own, v[k].providers, v[k].n_providers);
		}
		if (own.n > 0)
			in_scope = own;
	}
	return in_scope;
}

struct log_state {
	bool on;
	const struct flat_cel *filter;
	const struct flat_telemetry *by;
};

static void apply_item(const struct flat_telemetry_item *item, const struct flat_telemetry *t,
		       const struct names *parents, const struct names *scope,
		       struct log_state *states)
{
	const char *const *v = item->n_providers ? item->providers : parents->v;
	uint32_t n = item->n_providers ? item->n_providers : parents->n;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < scope->n; k++) {
			if (strcmp(scope->v[k], v[i]) != 0)
				continue;
			states[k].on = !item->disabled;
			states[k].filter = item->filter;
			states[k].by = t;
		}
	}
}

static int find_logs(struct flat_mesh *mesh, const struct chain *c, unsigned mode,
		     struct flat_observation *out)
{
	struct names scope = names_of(mesh, c, false, mode);
	struct names parents = {.n = 0};
	struct log_state states[FLAT_TELEMETRY_PROVIDERS_MAX] = {{false, NULL, NULL}};
	struct flat_log_rule *rules;

	add_names(&parents, mesh->telemetry_defaults.logging, mesh->telemetry_defaults.n_logging);
	for (uint32_t k = 0; k < parents.n; k++) {
		for (uint32_t i = 0; i < scope.n; i++)
			states[i].on |= strcmp(scope.v[i], parents.v[k]) == 0;
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(c->v); i++) {
		struct names own = {.n = 0};

		for (uint32_t k = 0; c->v[i] && k < c->v[i]->n_logging; k++) {
			const struct flat_telemetry_item *item = &c->v[i]->logging[k];

			if (!(item->modes & mode))
				continue;
			apply_item(item, c->v[i], &parents, &scope, states);
			add_names(&own, item->providers, item->n_providers);
		}
		if (own.n > 0)
			parents = own;
	}
	rules = flat_pool_array(&mesh->pool, scope.n, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	out->logs = rules;
	for (uint32_t i = 0; i < scope.n; i++) {
		const struct flat_telemetry_provider *p =
		    flat_mesh_telemetry_provider_by_name(mesh, scope.v[i]);

		if (!states[i].on || !p || p->kind != FLAT_PROVIDER_FILE_LOG)
			continue;
		rules[out->n_logs++] = (struct flat_log_rule){p, states[i].filter, states[i].by};
	}
	return 0;
}

/* --- traces --- */

static int find_trace(struct flat_mesh *mesh, const struct chain *c, unsigned mode,
		      struct flat_observation *out)
{
	const struct flat_telemetry_defaults *d = &mesh->telemetry_defaults;
	struct names scope = names_of(mesh, c, true, mode);
	struct flat_trace_rule rule = {
	    .of_million = d->says_sampling ? d->of_million : FLAT_TRACE_SAMPLING_DEFAULT,
	    .report = true,
	};
	struct flat_trace_rule *copy;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(c->v); i++) {
		for (uint32_t k = 0; c->v[i] && k < c->v[i]->n_tracing; k++) {
			const struct flat_telemetry_item *item = &c->v[i]->tracing[k];

			if (!(item->modes & mode))
				continue;
			if (item->says_disabled)
				rule.report = !item->disabled;
			if (item->says_sampling)
				rule.of_million = item->of_million;
			if (item->tags) {
				rule.tags = item->tags;
				rule.n_tags = item->n_tags;
			}
			rule.by = c->v[i];
		}
	}
	/* Istio honours one provider: the first. */
	for (uint32_t i = 0; i < scope.n && !rule.provider; i++)
		rule.provider = flat_mesh_telemetry_provider_by_name(mesh, scope.v[i]);
	if (!rule.provider || rule.provider->kind != FLAT_PROVIDER_TRACES)
		return 0;
	copy = flat_pool_alloc(&mesh->pool, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = rule;
	out->trace = copy;
	return 0;
}

/* --- the whole --- */

static void check_names(const struct flat_mesh *mesh, const struct flat_telemetry *t,
			enum flat_telemetry_kind kind, struct flat_diags *diags)
{
	static const struct {
		const char *what, *todo;
	} words[] = {
	    [FLAT_PROVIDER_FILE_LOG] = {"access logs", "declare it as envoyFileAccessLog in "
						       "MeshConfig extensionProviders"},
	    [FLAT_PROVIDER_TRACES] = {"traces", "declare it as opentelemetry in MeshConfig "
						"extensionProviders"},
	    [FLAT_PROVIDER_PROMETHEUS] = {"metrics", "name prometheus, and scrape flatd's port"},
	};
	uint32_t n;
	const struct flat_telemetry_item *v = items_of(t, kind, &n);

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < v[i].n_providers; k++) {
			const char *name = v[i].providers[k];
			const struct flat_telemetry_provider *p =
			    flat_mesh_telemetry_provider_by_name(mesh, name);

			if (!p || p->kind != kind)
				flat_diags_add(
				    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				    &v[i].where, NULL, words[kind].todo,
				    "Telemetry %s/%s: there is no provider \"%s\" for %s",
				    t->namespace, t->name, name, words[kind].what);
		}
	}
}

static void check_scope(const struct flat_mesh *mesh, const struct flat_telemetry *t,
			struct flat_diags *diags)
{
	const struct flat_telemetry *first = t->selector.n ? t : of_namespace(mesh, t->namespace);

	if (t->targets)
		return;
	if (first != t)
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &t->where,
			       NULL, "join the two",
			       "Telemetry %s/%s is not honoured: %s comes first and is for the "
			       "same workloads",
			       t->namespace, t->name, first->name);
	if (t->selector.n && strcmp(t->namespace, mesh->root_namespace) == 0)
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &t->where,
			       NULL, "move it to the workload's namespace",
			       "Telemetry %s/%s selects workloads of the root namespace only, as "
			       "in Istio",
			       t->namespace, t->name);
}

static void find_services(struct flat_mesh *mesh, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < mesh->telemetry_providers.n; i++) {
		struct flat_telemetry_provider *p = mesh->telemetry_providers.v[i];

		if (p->kind != FLAT_PROVIDER_TRACES)
			continue;
		p->service = flat_mesh_service_by_host(mesh, p->host, p->namespace);
		if (p->service && flat_service_port(p->service, p->port))
			continue;
		p->service = NULL;
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &p->where,
			       NULL, "declare the service and its port",
			       "extension provider \"%s\": there is no service %s with port %u, "
			       "so its spans are dropped",
			       p->name, p->host, p->port);
	}
}

static int observe(struct flat_mesh *mesh, const struct flat_workload *w, uint32_t i)
{
	struct chain c = chain_of(mesh, w);

	for (uint32_t k = 0; k < 2; k++) {
		struct flat_observation *o = &mesh->observations[(size_t)2 * i + k];
		unsigned mode = k == 0 ? FLAT_MODE_CLIENT : FLAT_MODE_SERVER;

		/* A client without identity would have no sidecar. */
		if (!w && mode == FLAT_MODE_CLIENT)
			continue;
		if (find_logs(mesh, &c, mode, o) != 0 || find_trace(mesh, &c, mode, o) != 0 ||
		    mesh_find_measures(mesh, c.v, mode, w, &o->metrics) != 0)
			return -ENOMEM;
		mesh->tells |= o->n_logs > 0 || o->trace;
		mesh->observes |= mesh->tells || o->metrics;
	}
	return 0;
}

int mesh_index_telemetry(struct flat_mesh *mesh, struct flat_diags *diags)
{
	const struct flat_telemetry_defaults *d = &mesh->telemetry_defaults;
	uint32_t n = mesh->workloads.n;

	find_services(mesh, diags);
	for (uint32_t i = 0; i < mesh->telemetry.n; i++) {
		check_names(mesh, mesh->telemetry.v[i], FLAT_PROVIDER_FILE_LOG, diags);
		check_names(mesh, mesh->telemetry.v[i], FLAT_PROVIDER_TRACES, diags);
		check_names(mesh, mesh->telemetry.v[i], FLAT_PROVIDER_PROMETHEUS, diags);
		check_scope(mesh, mesh->telemetry.v[i], diags);
	}
	if (mesh->telemetry.n == 0 && d->n_logging == 0 && d->n_tracing == 0 && d->n_metrics == 0)
		return 0;
	mesh->observations =
	    flat_pool_array(&mesh->pool, ((size_t)n + 1) * 2, sizeof(*mesh->observations));
	if (!mesh->observations)
		return -ENOMEM;
	for (uint32_t i = 0; i <= n; i++) {
		if (observe(mesh, i < n ? mesh->workloads.v[i] : NULL, i) != 0)
			return -ENOMEM;
	}
	return 0;
}
