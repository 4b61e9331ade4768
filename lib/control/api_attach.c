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

static bool selects(const struct cfg *cfg, const struct api_listener *l, const char *name)
{
	struct named ns = {name, cfg->api_namespaces};

	while (ns.declared && strcmp(ns.declared->name, name) != 0)
		ns.declared = ns.declared->next;
	return cfg_api_selects(&l->selector, label_of, &ns);
}

static bool takes(const struct cfg *cfg, const struct api_listener *l,
		  const struct api_route *route)
{
	if (!(l->kinds & (1U << route->kind)))
		return false;
	switch (l->from) {
	case API_FROM_ALL:
		return true;
	case API_FROM_SAME:
		return strcmp(l->gateway->namespace, route->namespace) == 0;
	case API_FROM_SELECTOR:
		return selects(cfg, l, route->namespace);
	case API_FROM_NONE:
		break;
	}
	return false;
}

static const struct api_gateway *find(const struct cfg *cfg, const struct api_gateway_parent *p)
{
	const struct api_gateway *g = cfg->api_gateways;

	while (g && (strcmp(g->name, p->name) != 0 || strcmp(g->namespace, p->namespace) != 0))
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
	const struct api_gateway *g = find(cfg, p);
	uint32_t n = 0;
	uint32_t taken = 0;

	for (uint32_t i = 0; g && i < g->n_listeners; i++) {
		const struct api_listener *l = &g->listeners[i];

		if ((p->section && strcmp(p->section, l->name) != 0) ||
		    (p->port && p->port != l->server->port) || !takes(cfg, l, route))
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
		 !g	 ? "there is no Gateway \"%.200s\" for this route"
		 : taken ? "no hostname of Gateway \"%.200s\" is one of this route's"
			 : "no listener of Gateway \"%.200s\" takes this route",
		 p->name);
}

void cfg_api_attach(struct cfg *cfg, struct api_route *route)
{
	uint32_t hosts = route->n_hosts > 0 ? route->n_hosts : 1;
	struct api_parent *all;
	size_t room = route->n_parents;

	if (route->n_gateways == 0)
		return;
	for (uint32_t i = 0; i < route->n_gateways; i++) {
		const struct api_gateway *g = find(cfg, &route->gateways[i]);

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

static void check_secrets(struct cfg *cfg, const char *namespace, struct flat_gateway_server *s)
{
	struct flat_gateway_certificate *v = (struct flat_gateway_certificate *)s->certs;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_certs; i++) {
		if (strcmp(v[i].namespace, namespace) == 0 ||
		    cfg_api_granted(cfg, API_GATEWAY, namespace, v[i].namespace, v[i].secret)) {
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
			check_secrets(cfg, g->namespace, g->listeners[i].server);
	}
}
