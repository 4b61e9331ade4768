/*
 * Gateway API in the mesh: the HTTPRoutes and GRPCRoutes of a Service, in the order that the specification gives their matches, become
 * one VirtualService, its TCPRoutes and TLSRoutes another; ReferenceGrants say who may send to Services of other namespaces.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/api_gateway.h"
#include "mesh/l4_route.h"

/* --- ReferenceGrant --- */

struct granting {
	struct api_grant grant;
	const char *group, *kind;
	const char *from[64];	 /* namespaces whose routes may */
	enum api_kind kinds[64]; /* and of which kind */
	uint32_t n_from;
};

static void parse_kind(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct granting *)obj)->kind = cfg_string(cfg, node);
}

static void parse_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct granting *)obj)->grant.from = cfg_string(cfg, node);
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct granting *)obj)->grant.name = cfg_string(cfg, node);
}

/* "" is the core's group. */
static void parse_group(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_SCALAR))
		((struct granting *)obj)->group = *node->text ? cfg_string(cfg, node) : "";
}

int cfg_api_kind_of(const char *name)
{
	static const char *const names[] = {
	    [API_HTTP] = "HTTPRoute", [API_GRPC] = "GRPCRoute",	 [API_TCP] = "TCPRoute",
	    [API_TLS] = "TLSRoute",   [API_GATEWAY] = "Gateway", [API_LISTENER_SET] = "ListenerSet",
	};

	for (size_t i = 0; name && i < FLAT_ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return (int)i;
	}
	return -1;
}

static void parse_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("group", parse_group),
	    CFG_FIELD("kind", parse_kind),
	    CFG_FIELD("namespace", parse_namespace),
	};
	struct granting *g = obj;
	int kind;

	g->group = g->kind = g->grant.from = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), g);
	kind = cfg_api_kind_of(g->kind);
	/* Kinds of others, even of the same name, are permitted nothing here. */
	if (kind < 0 || !g->grant.from || !g->group ||
	    strcmp(g->group, "gateway.networking.k8s.io") != 0)
		return;
	g->kinds[g->n_from] = (enum api_kind)kind;
	g->from[g->n_from++] = g->grant.from;
}

static void parse_froms(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_LIST))
		(void)cfg_list(cfg, node, FLAT_ARRAY_SIZE(((struct granting *)obj)->from),
			       parse_from, obj);
}

static void parse_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("group", parse_group),
	    CFG_FIELD("kind", parse_kind),
	    CFG_FIELD("name", parse_name),
	};
	struct granting *g = obj;

	g->group = "";
	g->kind = g->grant.name = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), g);
	if (!g->group || *g->group)
		return;
	for (uint32_t i = 0; g->kind && i < g->n_from; i++) {
		bool secret = g->kinds[i] >= API_GATEWAY;
		struct api_grant *grant;

		if (strcmp(g->kind, secret ? "Secret" : "Service") != 0)
			continue;
		grant = cfg_array(cfg, 1, sizeof(*grant));
		if (!grant)
			return;
		*grant = (struct api_grant){cfg->api_grants, g->kinds[i], g->from[i],
					    cfg->namespace, g->grant.name};
		cfg->api_grants = grant;
	}
}

static void parse_tos(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_LIST))
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_to, obj);
}

static void parse_grant(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	/* In this order, whatever stands first in the file. */
	static const struct cfg_field from[] = {CFG_FIELD("from", parse_froms), CFG_SKIP("to")};
	static const struct cfg_field to[] = {CFG_SKIP("from"), CFG_FIELD("to", parse_tos)};

	cfg_map(cfg, node, from, FLAT_ARRAY_SIZE(from), obj);
	cfg_map(cfg, node, to, FLAT_ARRAY_SIZE(to), obj);
}

void cfg_reference_grant(struct cfg *cfg, const struct yaml_node *root)
{
	struct granting g = {.n_from = 0};

	cfg_spec(cfg, root, parse_grant, &g);
}

bool cfg_api_granted(const struct cfg *cfg, enum api_kind kind, const char *from,
		     const char *namespace, const char *name)
{
	for (const struct api_grant *g = cfg->api_grants; g; g = g->next) {
		if (g->kind == kind && strcmp(g->from, from) == 0 &&
		    strcmp(g->namespace, namespace) == 0 &&
		    (!g->name || strcmp(g->name, name) == 0))
			return true;
	}
	return false;
}

static bool is_granted(const struct cfg *cfg, const struct api_route *route,
		       const struct flat_route_destination *d)
{
	char name[FLAT_CONFIG_NAME_MAX + 1];

	/* Its first label is the Service's name. */
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(d->host, "."), d->host);
	return cfg_api_granted(cfg, route->kind, route->namespace, d->granted_by, name);
}

/* Backends that may not be reached answer for nobody; a rule without any answers 500. */
static void check_rule(struct cfg *cfg, const struct api_route *route, struct api_rule *rule)
{
	/* Of a gRPC call 503 is UNAVAILABLE. */
	static const struct flat_http_direct failures[] = {{.status = 500}, {.status = 503}};
	/* GEP-1294: routes of Services need no grant; whom they lead to is no secret in the mesh. */
	const bool asks = route->n_gateways > 0;
	struct flat_http_route *r = &rule->route;
	uint64_t weight = r->weight;

	for (uint32_t i = 0; i < r->n_destinations; i++) {
		struct flat_route_destination *d = &r->destinations[i];

		if (!d->settled && (!asks || !d->granted_by || is_granted(cfg, route, d)))
			continue;
		if (!d->settled)
			cfg_warn(
			    cfg, &d->where, FLAT_DIAG_ADVICE, "write a ReferenceGrant there",
			    "%s is of another namespace, which does not permit it: %s", d->host,
			    api_is_l4(route->kind) ? "the rule refuses" : "what is for it fails");
		/* Nobody looks for its service. */
		d->settled = true;
		weight -= d->weight;
	}
	if (r->n_destinations > 0 && weight == 0)
		rule->fails = true;
	if (api_is_l4(route->kind) && weight < r->weight)
		rule->fails = true;
	for (uint32_t i = 0; i < r->n_mirrors; i++) {
		struct flat_route_destination *d = &r->mirrors[i].to;

		if (!asks || !d->granted_by || is_granted(cfg, route, d))
			continue;
		cfg_warn(cfg, &d->where, FLAT_DIAG_ADVICE, "write a ReferenceGrant there",
			 "%s is of another namespace, which does not permit it: nothing is "
			 "mirrored there",
			 d->host);
		r->mirrors[i].of_million = 0;
	}
	if (api_is_l4(route->kind)) {
		r->n_destinations = rule->fails ? 0 : r->n_destinations;
		return;
	}
	if (r->redirect && !rule->fails) {
		r->n_destinations = 0;
	} else if (rule->fails || r->weight == 0) {
		r->redirect = NULL;
		r->n_destinations = 0;
		r->direct = &failures[route->kind == API_GRPC];
	}
}

/* --- VirtualServices --- */

/* One match of a rule, with what comes of it. */
struct entry {
	struct flat_http_match match;
	const struct flat_http_route *route;
	const struct api_route *of;
	const char *const *sni; /* of a TLSRoute, one of its hostnames; NULL: any */
	uint32_t order;		/* of the files */
};

/* The routes of one host, for clients everywhere or of one namespace. */
struct group {
	const char *host;
	const char *only;    /* NULL: everywhere */
	const char *gateway; /* at this listener; NULL: in the mesh */
	bool l4;	     /* routes of connections; else of requests */
	struct entry *v;
	uint32_t n;
	bool oom;
};

static int rank(const struct entry *e)
{
	const struct flat_http_match *m = &e->match;

	/* An HTTPRoute without path is one of prefix "/", a GRPCRoute without method one of anything. */
	if (!m->uri)
		return e->of->kind == API_GRPC ? 0 : 2;
	return m->uri->kind == FLAT_TEXT_EXACT ? 3 : m->uri->kind == FLAT_TEXT_REGEX ? 1 : 2;
}

static long difference(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* The older route, then the first by its name. */
static long by_age(const struct api_route *a, const struct api_route *b)
{
	int d = flat_created_order(a->created, b->created);

	return d ? d : strcmp(a->full_name, b->full_name);
}

/* Of TLSRoutes whole hostnames come first, then longer ones, as where listeners are found. */
static long by_name(const struct entry *a, const struct entry *b)
{
	uint64_t p = !a->sni ? 0 : **a->sni == '*' ? strlen(*a->sni) : UINT32_MAX;
	uint64_t q = !b->sni ? 0 : **b->sni == '*' ? strlen(*b->sni) : UINT32_MAX;

	return difference(q, p);
}

/* Gateway API, HTTPRouteRule.matches: the more specific first, then the older; between kinds of paths as Istio. */
static int by_precedence(const void *p, const void *q)
{
	const struct entry *a = p;
	const struct entry *b = q;
	long d = by_name(a, b);

	if (d == 0)
		d = rank(b) - rank(a);
	if (d == 0)
		d = difference(b->match.uri ? b->match.uri->len : 0,
			       a->match.uri ? a->match.uri->len : 0);
	if (d == 0)
		d = (b->match.method != NULL) - (a->match.method != NULL);
	if (d == 0)
		d = difference(b->match.n_headers, a->match.n_headers);
	if (d == 0)
		d = difference(b->match.n_query, a->match.n_query);
	if (d == 0)
		d = by_age(a->of, b->of);
	if (d == 0)
		d = difference(a->order, b->order);
	return (int)d;
}

static void add_entry(struct group *g, const struct api_route *of, const struct api_rule *rule,
		      const struct flat_http_match *match, uint16_t port)
{
	struct entry *v = realloc(g->v, ((size_t)g->n + 1) * sizeof(*v));

	if (!v) {
		g->oom = true;
		return;
	}
	g->v = v;
	v[g->n] = (struct entry){.route = &rule->route, .of = of, .order = g->n};
	if (match)
		v[g->n].match = *match;
	v[g->n++].match.port = port;
}

/* Hostnames that are conditions of the connections: each is one of its own, for their order. */
static uint32_t n_names(const struct api_route *route)
{
	return route->kind == API_TLS ? route->n_hosts : 0;
}

static void add_named(struct group *g, const struct api_route *of, const struct api_rule *rule,
		      uint16_t port, uint32_t host)
{
	add_entry(g, of, rule, NULL, port);
	if (!g->oom)
		g->v[g->n - 1].sni = (const char *const *)&of->hosts[host];
}

static bool belongs(const struct group *g, const struct api_route *route,
		    const struct api_parent *parent)
{
	if ((g->gateway != NULL) != (parent->gateway != NULL) ||
	    (g->gateway && strcmp(g->gateway, parent->gateway) != 0))
		return false;
	return g->l4 == api_is_l4(route->kind) && strcmp(g->host, parent->host) == 0 &&
	       (parent->own ? g->only && strcmp(g->only, route->namespace) == 0 : !g->only);
}

static void gather(struct cfg *cfg, struct group *g)
{
	for (struct api_route *route = cfg->api_routes; route; route = route->next) {
		for (uint32_t p = 0; p < route->n_parents; p++) {
			const struct api_parent *parent = &route->parents[p];

			for (uint32_t i = 0; belongs(g, route, parent) && i < route->n_rules; i++) {
				struct api_rule *rule = &route->rules[i];

				for (uint32_t m = 0; m < rule->n_matches; m++)
					add_entry(g, route, rule, &rule->matches[m], parent->port);
				for (uint32_t h = 0; h < n_names(route); h++)
					add_named(g, route, rule, parent->port, h);
				if (rule->n_matches == 0 && n_names(route) == 0)
					add_entry(g, route, rule, NULL, parent->port);
			}
		}
	}
}

static void put_requests(struct cfg *cfg, const struct group *g, struct flat_virtual_service *vs)
{
	struct flat_http_route *routes = cfg_array(cfg, g->n, sizeof(*routes));
	struct flat_http_match *matches = cfg_array(cfg, g->n, sizeof(*matches));

	if (!routes || !matches)
		return;
	vs->routes = routes;
	vs->n_routes = g->n;
	for (uint32_t i = 0; i < g->n; i++) {
		matches[i] = g->v[i].match;
		routes[i] = *g->v[i].route;
		routes[i].matches = &matches[i];
		routes[i].n_matches = 1;
	}
}

/* A TCPRoute has no condition but its parent's port; a TLSRoute the names too. How many there are of a kind. */
static uint32_t put_kind(const struct group *g, enum api_kind kind, struct flat_l4_route *routes,
			 struct flat_l4_match *matches)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < g->n; i++) {
		const struct flat_http_route *from = g->v[i].route;

		if (g->v[i].of->kind != kind)
			continue;
		matches[n] = (struct flat_l4_match){.port = g->v[i].match.port,
						    .sni = g->v[i].sni,
						    .n_sni = g->v[i].sni != NULL,
						    .where = from->where};
		routes[n] = (struct flat_l4_route){.matches = &matches[n],
						   .n_matches = 1,
						   .destinations = from->destinations,
						   .n_destinations = from->n_destinations,
						   .weight = from->weight,
						   .where = from->where};
		n++;
	}
	return n;
}

static void put_connections(struct cfg *cfg, const struct group *g, struct flat_virtual_service *vs)
{
	struct flat_l4_route *routes = cfg_array(cfg, g->n, sizeof(*routes));
	struct flat_l4_match *matches = cfg_array(cfg, g->n, sizeof(*matches));

	if (!routes || !matches)
		return;
	vs->tcp = routes;
	vs->n_tcp = put_kind(g, API_TCP, routes, matches);
	vs->tls = routes + vs->n_tcp;
	vs->n_tls = put_kind(g, API_TLS, vs->tls, matches + vs->n_tcp);
}

static void make_virtual(struct cfg *cfg, const struct group *g, const struct api_route *first)
{
	struct flat_virtual_service *vs = cfg_array(cfg, 1, sizeof(*vs));
	const char **hosts = cfg_array(cfg, 2, sizeof(*hosts));

	if (!vs || !hosts)
		return;
	hosts[0] = g->host;
	hosts[1] = g->gateway;
	*vs = (struct flat_virtual_service){.name = first->name,
					    .namespace = first->namespace,
					    .where = first->where,
					    .hosts = hosts,
					    .at_gateways = hosts,
					    .n_hosts = 1};
	vs->detached = g->gateway != NULL;
	vs->of_ports = !g->gateway && !g->l4;
	vs->gateways = &hosts[1];
	vs->n_gateways = g->gateway != NULL;
	vs->export.said = true;
	vs->export.limited = vs->export.own = g->only != NULL;
	if (g->l4)
		put_connections(cfg, g, vs);
	else
		put_requests(cfg, g, vs);
	if (flat_mesh_add_virtual(cfg->mesh, vs))
		cfg->oom = true;
}

/* One that is of Services and of Gateways becomes two, since what their backends need differs. */
static void split(struct cfg *cfg, struct api_route *route)
{
	struct api_route *other = cfg_array(cfg, 1, sizeof(*other));
	struct api_rule *rules = cfg_array(cfg, route->n_rules + 1, sizeof(*rules));

	if (!other || !rules)
		return;
	for (uint32_t i = 0; i < route->n_rules; i++) {
		struct flat_http_route *r = &rules[i].route;
		const struct flat_http_route *from = &route->rules[i].route;

		rules[i] = route->rules[i];
		r->destinations = cfg_array(cfg, r->n_destinations + 1, sizeof(*r->destinations));
		r->mirrors = cfg_array(cfg, r->n_mirrors + 1, sizeof(*r->mirrors));
		if (!r->destinations || !r->mirrors)
			return;
		if (r->n_destinations > 0)
			memcpy(r->destinations, from->destinations,
			       r->n_destinations * sizeof(*r->destinations));
		if (r->n_mirrors > 0)
			memcpy(r->mirrors, from->mirrors, r->n_mirrors * sizeof(*r->mirrors));
	}
	*other = *route;
	other->rules = rules;
	other->n_parents = 0;
	route->next = other;
	route->n_gateways = 0;
}

void cfg_gateway_api_finish(struct cfg *cfg)
{
	cfg_api_join(cfg);
	cfg_api_check_secrets(cfg);
	for (struct api_route *route = cfg->api_routes; route; route = route->next) {
		if (route->n_parents > 0 && route->n_gateways > 0)
			split(cfg, route);
		cfg_api_attach(cfg, route);
		for (uint32_t i = 0; i < route->n_rules; i++)
			check_rule(cfg, route, &route->rules[i]);
	}
	for (struct api_route *route = cfg->api_routes; route; route = route->next) {
		for (uint32_t p = 0; p < route->n_parents; p++) {
			const struct api_parent *parent = &route->parents[p];
			struct group g = {.host = parent->host,
					  .l4 = api_is_l4(route->kind),
					  .gateway = parent->gateway,
					  .only = parent->own ? route->namespace : NULL};
			bool first = true;

			/* The first that names the host gathers all. */
			for (struct api_route *r = cfg->api_routes; first; r = r->next) {
				for (uint32_t k = 0; k < (r == route ? p : r->n_parents); k++)
					first &= !belongs(&g, r, &r->parents[k]);
				if (r == route)
					break;
			}
			if (!first)
				continue;
			gather(cfg, &g);
			if (g.n > 0 && !g.oom) {
				qsort(g.v, g.n, sizeof(*g.v), by_precedence);
				make_virtual(cfg, &g, route);
			}
			cfg->oom |= g.oom;
			free(g.v);
		}
	}
}
