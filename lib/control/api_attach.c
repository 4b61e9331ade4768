/* Gateway API: which listeners of a Gateway a route is attached to, and for which of its hosts. */
#include <string.h>

#include "control/api_gateway.h"

/* A namespace, with its labels if it is in the files. */
struct named {
	const char *name;
	const struct api_namespace *declared; /* NULL: not so */
};

static const char *label_of(const void *arg, const char *key)
{
	const struct named *ns = arg;

	if (strcmp(key, "kubernetes.io/metadata.name") == 0)
		return ns->name;
	return ns->declared ? flat_labels_get(&ns->declared->labels, key) : NULL;
}

static bool selects(const struct cfg *cfg, const struct api_selector *selector, const char *name)
{
	struct named ns = {name, cfg->api_namespaces};

	while (ns.declared && strcmp(ns.declared->name, name) != 0)
		ns.declared = ns.declared->next;
	return cfg_api_selects(selector, label_of, &ns);
}

bool cfg_api_admits(const struct cfg *cfg, enum api_from from, const struct api_selector *selector,
		    const char *own, const char *other)
{
	switch (from) {
	case API_FROM_ALL:
		return true;
	case API_FROM_SAME:
		return strcmp(own, other) == 0;
	case API_FROM_SELECTOR:
		return selects(cfg, selector, other);
	case API_FROM_NONE:
		break;
	}
	return false;
}

static bool takes(const struct cfg *cfg, const struct api_gateway *g, const struct api_listener *l,
		  const struct api_route *route)
{
	return (l->kinds & (1U << route->kind)) &&
	       cfg_api_admits(cfg, l->from, &l->selector, g->namespace, route->namespace);
}

const struct api_gateway *cfg_api_find(const struct cfg *cfg, bool set, const char *name,
				       const char *namespace)
{
	const struct api_gateway *g = cfg->api_gateways;

	while (g && (g->is_set != set || strcmp(g->name, name) != 0 ||
		     strcmp(g->namespace, namespace) != 0))
		g = g->next;
	return g;
}

static void add(struct cfg *cfg, struct api_route *route, const struct api_listener *l,
		const char *host)
{
	struct api_parent *p = &route->parents[route->n_parents];

	*p = (struct api_parent){.host = host};
	p->gateway = flat_pool_printf(cfg->pool, "%s/%s", l->gateway->namespace, l->gateway->name);
	if (p->gateway)
		route->n_parents++;
	else
		cfg->oom = true;
}

/* The route's hosts that the listener shows too; how many. Routes of connections have the listener's. */
static uint32_t add_hosts(struct cfg *cfg, struct api_route *route, const struct api_listener *l)
{
	uint32_t before = route->n_parents;
	uint32_t common = 0;

	for (uint32_t i = 0; i < route->n_hosts; i++) {
		const char *host = flat_gateway_host_common(l->host, route->hosts[i]);

		common += host != NULL;
		if (host && !api_is_l4(route->kind))
			add(cfg, route, l, host);
	}
	if (route->n_hosts == 0 || (api_is_l4(route->kind) && common > 0))
		add(cfg, route, l, l->host);
	return route->n_parents - before;
}

static void attach(struct cfg *cfg, struct api_route *route, const struct api_gateway_parent *p)
{
	const struct api_gateway *g = cfg_api_find(cfg, p->set, p->name, p->namespace);
	uint32_t n = 0;
	uint32_t taken = 0;

	for (uint32_t i = 0; g && i < g->n_listeners; i++) {
		const struct api_listener *l = &g->listeners[i];

		if ((p->section && strcmp(p->section, l->name) != 0) ||
		    (p->port && p->port != l->server->port) || !takes(cfg, g, l, route))
			continue;
		taken++;
		n += add_hosts(cfg, route, l);
	}
	if (n > 0)
		return;
	cfg_warn(cfg, &p->where, FLAT_DIAG_ADVICE,
		 !g	 ? "declare it, or correct its name"
		 : taken ? "let hostnames and listeners have one in common"
			 : "look at sectionName, port and the listeners' allowedRoutes",
		 !g	 ? "there is no %s \"%.200s\" for this route"
		 : taken ? "no hostname of %s \"%.200s\" is one of this route's"
			 : "no listener of %s \"%.200s\" takes this route",
		 p->set ? "ListenerSet" : "Gateway", p->name);
}

void cfg_api_attach(struct cfg *cfg, struct api_route *route)
{
	uint32_t hosts = route->n_hosts > 0 ? route->n_hosts : 1;
	struct api_parent *all;
	size_t room = route->n_parents;

	if (route->n_gateways == 0)
		return;
	for (uint32_t i = 0; i < route->n_gateways; i++) {
		const struct api_gateway_parent *p = &route->gateways[i];
		const struct api_gateway *g = cfg_api_find(cfg, p->set, p->name, p->namespace);

		room += g ? (size_t)g->n_listeners * hosts : 0;
	}
	all = cfg_array(cfg, room + 1, sizeof(*all));
	if (!all)
		return;
	if (route->n_parents > 0)
		memcpy(all, route->parents, route->n_parents * sizeof(*all));
	route->parents = all;
	for (uint32_t i = 0; i < route->n_gateways; i++)
		attach(cfg, route, &route->gateways[i]);
}

static void check_secrets(struct cfg *cfg, const struct api_gateway *g,
			  struct flat_gateway_server *s)
{
	enum api_kind kind = g->is_set ? API_LISTENER_SET : API_GATEWAY;
	struct flat_gateway_certificate *v = (struct flat_gateway_certificate *)s->certs;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_certs; i++) {
		if (strcmp(v[i].namespace, g->namespace) == 0 ||
		    cfg_api_granted(cfg, kind, g->namespace, v[i].namespace, v[i].secret)) {
			v[n++] = v[i];
			continue;
		}
		cfg_warn(cfg, &s->where, FLAT_DIAG_ADVICE, "write a ReferenceGrant there",
			 "Secret %s/%s is of another namespace, which does not permit it: %s",
			 v[i].namespace, v[i].secret,
			 s->n_certs == 1 ? "this listener is not opened" : "it is not shown");
	}
	s->served &= n > 0 || s->n_certs == 0;
	s->n_certs = n;
}

void cfg_api_check_secrets(struct cfg *cfg)
{
	for (struct api_gateway *g = cfg->api_gateways; g; g = g->next) {
		for (uint32_t i = 0; i < g->n_listeners; i++)
			check_secrets(cfg, g, g->listeners[i].server);
	}
}
