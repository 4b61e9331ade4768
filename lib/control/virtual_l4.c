/* What VirtualService's kinds of routes share, and its routes of connections (`tcp`, `tls`). */
#include <string.h>

#include "control/virtual_action.h"
#include "mesh/l4_route.h"

/* --- destinations --- */

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_route_destination *)obj)->host = cfg_host(cfg, node, false);
}

static void parse_subset(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_route_destination *)obj)->subset_name = cfg_string(cfg, node);
}

static void parse_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_route_destination *)obj)->port = cfg_port(cfg, node);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("number", parse_number)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_route_destination(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("host", parse_host),
	    CFG_FIELD("subset", parse_subset),
	    CFG_FIELD("port", parse_port),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_route_check_host(struct cfg *cfg, const struct yaml_node *node,
			  const struct flat_route_destination *d)
{
	if (d->host)
		return;
	if (node->kind == YAML_MAP && !yaml_get(node, "destination"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"destination\" is missing");
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"destination.host\" is missing or wrong");
}

uint64_t cfg_route_weights(struct cfg *cfg, const struct yaml_node *node,
			   struct flat_route_destination *v, uint32_t n)
{
	uint64_t sum = 0;

	/* One alone has all; several need weights, as in Istio. */
	if (n == 1)
		v[0].weight = 1;
	for (uint32_t i = 0; i < n; i++)
		sum += v[i].weight;
	if (n > 0 && sum == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "give the destinations weights",
			  "the weights of a route add up to 0");
	return sum;
}

/* --- gateways --- */

static void parse_gateway(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cfg_gateways *g = obj;
	const char *name = cfg_string(cfg, node);
	const char *dot;

	if (!name)
		return;
	if (strcmp(name, "mesh") == 0) {
		g->mesh = true;
		return;
	}
	dot = strchr(name, '/') ? NULL : strchr(name, '.');
	/* Istio's older form, NAME.NAMESPACE.svc.cluster.local. Without a namespace: of the VirtualService's own. */
	if (dot)
		name = flat_pool_printf(cfg->pool, "%.*s/%.*s", (int)strcspn(dot + 1, "."), dot + 1,
					(int)(dot - name), name);
	else if (!strchr(name, '/'))
		name = flat_pool_printf(cfg->pool, "%s/%s", cfg->namespace, name);
	if (!name)
		cfg->oom = true;
	else
		g->v[g->n++] = name;
}

void cfg_route_gateways(struct cfg *cfg, const struct yaml_node *node, struct cfg_gateways *out)
{
	*out = (struct cfg_gateways){.mesh = true};
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	out->mesh = false;
	out->v = cfg_array(cfg, node->n, sizeof(*out->v));
	if (out->v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_gateway, out);
}

/* --- tcp and tls --- */

struct reading {
	struct flat_virtual_service *vs;
	struct flat_l4_route *route;
	struct flat_l4_match *matches, *match;
	struct flat_cidr *subnets;
	const char **sni;
	struct flat_route_destination *destination;
	bool tls; /* reads a tls route */
};

static void parse_subnet(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	if (flat_cidr_parse(node->text, &r->subnets[r->match->n_subnets++]))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write an address such as 10.1.2.3 or a block such as 10.1.0.0/16",
			  "\"%.100s\" is no IP address or block", node->text);
}

static void parse_subnets(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->subnets = cfg_array(cfg, node->n, sizeof(*r->subnets));
	r->match->subnets = r->subnets;
	if (r->subnets)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_subnet, r);
}

static void parse_match_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->port = cfg_port(cfg, node);
}

static void parse_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->source_labels = cfg_labels(cfg, node);
}

static void parse_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->source_namespace = cfg_string(cfg, node);
}

static void parse_gateways(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cfg_gateways gateways;
	struct flat_l4_match *m = ((struct reading *)obj)->match;

	cfg_route_gateways(cfg, node, &gateways);
	m->never = !gateways.mesh;
	m->for_gateways = node->n > 0;
	m->gateways = gateways.v;
	m->n_gateways = gateways.n;
}

static void parse_sni_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *host = cfg_host(cfg, node, true);

	if (host)
		r->sni[r->match->n_sni++] = host;
}

static void parse_sni(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->sni = cfg_array(cfg, node->n, sizeof(*r->sni));
	r->match->sni = r->sni;
	if (r->sni)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_sni_host, r);
}

static void parse_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("destinationSubnets", parse_subnets),
	    CFG_FIELD("port", parse_match_port),
	    CFG_FIELD("sourceLabels", parse_labels),
	    CFG_FIELD("sourceNamespace", parse_namespace),
	    CFG_FIELD("gateways", parse_gateways),
	    CFG_UNHONOURED("sourceSubnet", "name the client by its labels or its namespace"),
	};
	static const struct cfg_field of_tls[] = {
	    CFG_FIELD("sniHosts", parse_sni),
	    CFG_FIELD("destinationSubnets", parse_subnets),
	    CFG_FIELD("port", parse_match_port),
	    CFG_FIELD("sourceLabels", parse_labels),
	    CFG_FIELD("sourceNamespace", parse_namespace),
	    CFG_FIELD("gateways", parse_gateways),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->match = &r->matches[r->route->n_matches++];
	r->match->where = node->where;
	if (r->tls)
		cfg_map(cfg, node, of_tls, FLAT_ARRAY_SIZE(of_tls), r);
	else
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (r->tls && cfg->diags->n_errors == errors && r->match->n_sni == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "\"*\" is every name",
			  "a match of a tls route needs sniHosts");
}

static void parse_matches(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->matches = cfg_array(cfg, node->n, sizeof(*r->matches));
	r->route->matches = r->matches;
	if (r->matches)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_match, r);
}

static void parse_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_route_destination(cfg, node, ((struct reading *)obj)->destination);
}

static void parse_weight(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t weight;

	if (cfg_uint(cfg, node, 0, INT32_MAX, &weight))
		((struct reading *)obj)->destination->weight = (uint32_t)weight;
}

static void parse_destination(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("destination", parse_to),
	    CFG_FIELD("weight", parse_weight),
	};
	struct reading *r = obj;

	r->destination = &r->route->destinations[r->route->n_destinations++];
	r->destination->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	cfg_route_check_host(cfg, node, r->destination);
}

static void parse_destinations(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->route->destinations = cfg_array(cfg, node->n, sizeof(*r->route->destinations));
	if (!r->route->destinations)
		return;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_destination, r);
	r->route->weight =
	    cfg_route_weights(cfg, node, r->route->destinations, r->route->n_destinations);
}

static void parse_route(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("match", parse_matches),
	    CFG_FIELD("route", parse_destinations),
	};
	struct reading *r = obj;

	r->route = r->tls ? &r->vs->tls[r->vs->n_tls++] : &r->vs->tcp[r->vs->n_tcp++];
	r->route->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (node->kind == YAML_MAP && r->route->n_destinations == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give it one",
			  "a %s route needs a destination", r->tls ? "tls" : "tcp");
	if (node->kind == YAML_MAP && r->tls && !yaml_get(node, "match"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it, with sniHosts",
			  "a tls route needs match");
}

void cfg_virtual_tcp(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading r = {.vs = obj};

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r.vs->tcp = cfg_array(cfg, node->n, sizeof(*r.vs->tcp));
	if (r.vs->tcp)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_route, &r);
}

void cfg_virtual_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading r = {.vs = obj, .tls = true};

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r.vs->tls = cfg_array(cfg, node->n, sizeof(*r.vs->tls));
	if (r.vs->tls)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_route, &r);
}
