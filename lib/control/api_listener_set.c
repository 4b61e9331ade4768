/* ListenerSet (gateway.networking.k8s.io): listeners of other namespaces and owners for a Gateway that lets them. */
#include <stdlib.h>
#include <string.h>

#include "control/api_gateway.h"

static void parse_parent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_API_REFERENCE,
	};
	struct api_gateway *set = obj;
	struct api_reference to = {.group = "gateway.networking.k8s.io", .kind = "Gateway"};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &to);
	if (!to.name || !to.group || !to.kind || strcmp(to.kind, "Gateway") != 0 ||
	    strcmp(to.group, "gateway.networking.k8s.io") != 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "name a Gateway",
			  "a ListenerSet's parent is a Gateway of gateway.networking.k8s.io");
		return;
	}
	set->of = to.name;
	set->of_namespace = to.namespace ? to.namespace : cfg->namespace;
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("parentRef", parse_parent),
	    CFG_FIELD("listeners", cfg_api_listeners),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_listener_set(struct cfg *cfg, const struct yaml_node *root)
{
	struct api_gateway *set = cfg_array(cfg, 1, sizeof(*set));
	uint32_t errors = cfg->diags->n_errors;

	if (!set)
		return;
	*set = (struct api_gateway){
	    .name = cfg->name,
	    .namespace = cfg->namespace,
	    .is_set = true,
	    .created = cfg_api_created(cfg),
	    .where = cfg->where,
	};
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, set);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	if (!set->of || set->n_listeners == 0) {
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add it",
			  "a ListenerSet needs parentRef and listeners");
		return;
	}
	set->next = cfg->api_gateways;
	cfg->api_gateways = set;
}

/* --- joining --- */

/* What a port can be at a time: TCP, HTTP in the clear, or one where TLS says the name. */
static int sort_of(const struct flat_gateway_server *s)
{
	return s->tls != FLAT_GATEWAY_PLAIN ? 2 : s->opaque ? 0 : 1;
}

static bool is_same(const struct api_listener *a, const struct api_listener *b)
{
	if (a->server->port != b->server->port)
		return false;
	return sort_of(a->server) != sort_of(b->server) || sort_of(a->server) == 0 ||
	       strcasecmp(a->host, b->host) == 0;
}

/* Whether a listener that comes before, of the Gateway or of a set, has what this one wants. */
static bool is_taken(struct api_gateway *const *v, uint32_t n, const struct api_gateway *gateway,
		     const struct api_listener *l)
{
	for (uint32_t k = 0; k < gateway->n_listeners; k++) {
		if (is_same(&gateway->listeners[k], l))
			return true;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (v[i]->gateway != gateway)
			continue;
		for (uint32_t k = 0; k < v[i]->n_listeners; k++) {
			if (is_same(&v[i]->listeners[k], l))
				return true;
		}
	}
	return false;
}

/* Set `v[n]`, after those before it. */
static void join(struct cfg *cfg, struct api_gateway *const *v, uint32_t n)
{
	struct api_gateway *set = v[n];
	const struct api_gateway *g = cfg_api_find(cfg, false, set->of, set->of_namespace);
	uint32_t kept = 0;

	if (!g || !cfg_api_admits(cfg, g->allows, &g->allowed, g->namespace, set->namespace)) {
		cfg_warn(cfg, &set->where, FLAT_DIAG_ADVICE,
			 g ? "say so in its allowedListeners" : "declare it, or correct its name",
			 g ? "Gateway \"%.200s\" takes no listeners of this namespace: they are "
			     "not opened"
			   : "there is no Gateway \"%.200s\" for these listeners",
			 set->of);
		set->n_listeners = 0;
		return;
	}
	for (uint32_t i = 0; i < set->n_listeners; i++) {
		struct api_listener *l = &set->listeners[i];

		if (is_taken(v, n, g, l)) {
			cfg_warn(cfg, &l->server->where, FLAT_DIAG_NOT_HONOURED,
				 "choose another port or hostname",
				 "listener \"%.100s\" is not opened: Gateway \"%.200s\" has one "
				 "for that port and hostname, or of another protocol for the port",
				 l->name, g->name);
			continue;
		}
		cfg_api_open(cfg, g, set, l);
		set->listeners[kept++] = *l;
	}
	set->n_listeners = kept;
	set->gateway = g;
}

/* The older first, then the first by its name. */
static int by_age(const void *p, const void *q)
{
	const struct api_gateway *a = *(struct api_gateway *const *)p;
	const struct api_gateway *b = *(struct api_gateway *const *)q;
	int d = flat_created_order(a->created, b->created);

	if (d == 0)
		d = strcmp(a->namespace, b->namespace);
	return d ? d : strcmp(a->name, b->name);
}

void cfg_api_join(struct cfg *cfg)
{
	struct api_gateway **v;
	uint32_t n = 0;

	for (const struct api_gateway *g = cfg->api_gateways; g; g = g->next)
		n += g->is_set;
	v = cfg_array(cfg, n + 1, sizeof(*v));
	if (!v)
		return;
	n = 0;
	for (struct api_gateway *g = cfg->api_gateways; g; g = g->next) {
		if (g->is_set)
			v[n++] = g;
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), by_age);
	for (uint32_t i = 0; i < n; i++)
		join(cfg, v, i);
}
