/* VirtualService (networking.istio.io) -> struct flat_virtual_service. What a route does: virtual_action.c. */
#include <string.h>

#include "control/virtual_action.h"

struct reading {
	struct flat_virtual_service *vs;
	const char **hosts, **at_gateways;
	struct flat_http_route *route;		    /* being read */
	struct flat_http_match *matches;	    /* of it */
	struct flat_http_match *match;		    /* being read */
	struct flat_route_destination *destination; /* being read */
	uint32_t mirrored;			    /* of a million, for `mirror` */
	bool has_mirrored;
};

/* --- matches --- */

static struct flat_text_match *read_text(struct cfg *cfg, const struct yaml_node *node)
{
	struct flat_text_match *match = cfg_array(cfg, 1, sizeof(*match));

	if (match)
		cfg_text_match(cfg, node, false, match);
	return match;
}

static void parse_uri(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_text_match *match = read_text(cfg, node);

	if (match)
		cfg_path_match(cfg, node, match);
	((struct reading *)obj)->match->uri = match;
}

static void parse_scheme(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->scheme = read_text(cfg, node);
}

static void parse_method(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->method = read_text(cfg, node);
}

static void parse_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->authority = read_text(cfg, node);
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_match *match = ((struct reading *)obj)->match;

	match->headers = cfg_named_matches(cfg, node, true, &match->n_headers);
}

static void parse_without(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_match *match = ((struct reading *)obj)->match;

	match->without = cfg_named_matches(cfg, node, true, &match->n_without);
}

static void parse_query(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_match *match = ((struct reading *)obj)->match;

	match->query = cfg_named_matches(cfg, node, false, &match->n_query);
}

static void parse_match_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->port = cfg_port(cfg, node);
}

static void parse_source_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->source_labels = cfg_labels(cfg, node);
}

static void parse_source_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->source_namespace = cfg_string(cfg, node);
}

static void parse_match_gateways(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct cfg_gateways gateways;

	cfg_route_gateways(cfg, node, &gateways);
	r->match->never = !gateways.mesh;
	r->match->for_gateways = node->n > 0;
	r->match->gateways = gateways.v;
	r->match->n_gateways = gateways.n;
}

static void parse_ignore_case(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->ignore_case = cfg_bool(cfg, node);
}

static void parse_nothing(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	(void)cfg_string(cfg, node);
}

/* Of an exact or prefix match of the URI. */
static void fold_uri(struct cfg *cfg, struct flat_http_match *match)
{
	struct flat_text_match *folded;

	if (!match->uri || match->uri->kind == FLAT_TEXT_REGEX)
		return;
	folded = cfg_array(cfg, 1, sizeof(*folded));
	if (!folded)
		return;
	*folded = *match->uri;
	folded->fold = true;
	match->uri = folded;
}

static void parse_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_nothing),
	    CFG_FIELD("uri", parse_uri),
	    CFG_FIELD("scheme", parse_scheme),
	    CFG_FIELD("method", parse_method),
	    CFG_FIELD("authority", parse_authority),
	    CFG_FIELD("headers", parse_headers),
	    CFG_FIELD("withoutHeaders", parse_without),
	    CFG_FIELD("queryParams", parse_query),
	    CFG_FIELD("port", parse_match_port),
	    CFG_FIELD("sourceLabels", parse_source_labels),
	    CFG_FIELD("sourceNamespace", parse_source_namespace),
	    CFG_FIELD("gateways", parse_match_gateways),
	    CFG_FIELD("ignoreUriCase", parse_ignore_case),
	    CFG_UNHONOURED("statPrefix", "metrics are by service"),
	};
	struct reading *r = obj;

	r->match = &r->matches[r->route->n_matches++];
	r->match->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (r->match->ignore_case)
		fold_uri(cfg, r->match);
	if (r->match->for_gateways && (r->match->source_labels.n || r->match->source_namespace))
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE, "write two matches",
			 "where a match names gateways, sourceLabels and sourceNamespace say "
			 "nothing, as in Istio");
}

static void parse_matches(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->matches = cfg_array(cfg, node->n, sizeof(*r->matches));
	r->route->matches = r->matches;
	if (r->matches)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_match, r);
}

/* --- destinations --- */

static void parse_destination(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_route_destination(cfg, node, ((struct reading *)obj)->destination);
}

static void parse_weight(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t weight;

	if (!cfg_uint(cfg, node, 0, INT32_MAX, &weight))
		return;
	r->destination->weight = (uint32_t)weight;
}

static void parse_destination_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_route_destination *d = ((struct reading *)obj)->destination;

	cfg_header_ops(cfg, node, &d->request, &d->response);
}

static void parse_route_destination(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("destination", parse_destination),
	    CFG_FIELD("weight", parse_weight),
	    CFG_FIELD("headers", parse_destination_headers),
	};
	struct reading *r = obj;

	r->destination = &r->route->destinations[r->route->n_destinations++];
	r->destination->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	cfg_route_check_host(cfg, node, r->destination);
}

static void parse_route_list(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_http_route *route = r->route;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	route->destinations = cfg_array(cfg, node->n, sizeof(*route->destinations));
	if (!route->destinations)
		return;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_route_destination, r);
	route->weight = cfg_route_weights(cfg, node, route->destinations, route->n_destinations);
}

/* --- routes --- */

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	if (name)
		((struct reading *)obj)->route->name = name;
}

static void parse_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct reading *)obj)->route->timeout_ms);
}

static void parse_route_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_route *route = ((struct reading *)obj)->route;

	cfg_header_ops(cfg, node, &route->request, &route->response);
}

#define ROUTE_FIELD(fn, action)                                                                    \
	static void fn(struct cfg *cfg, const struct yaml_node *node, void *obj)                   \
	{                                                                                          \
		action(cfg, node, ((struct reading *)obj)->route);                                 \
	}
ROUTE_FIELD(parse_redirect, cfg_route_redirect)
ROUTE_FIELD(parse_direct, cfg_route_direct)
ROUTE_FIELD(parse_rewrite, cfg_route_rewrite)
ROUTE_FIELD(parse_retries, cfg_route_retries)
ROUTE_FIELD(parse_fault, cfg_route_fault)
ROUTE_FIELD(parse_cors, cfg_route_cors)
ROUTE_FIELD(parse_mirror, cfg_route_mirror)
ROUTE_FIELD(parse_mirrors, cfg_route_mirrors)

static void parse_mirror_percentage(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->mirrored = cfg_percentage(cfg, node);
	r->has_mirrored = true;
}

/* The older form. */
static void parse_mirror_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!r->has_mirrored)
		r->mirrored = cfg_millionths(cfg, node);
	r->has_mirrored = true;
}

static void parse_delegate_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->route->delegate = cfg_string(cfg, node);
}

static void parse_delegate_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->route->delegate_namespace = cfg_string(cfg, node);
}

static void parse_delegate(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_delegate_name),
	    CFG_FIELD("namespace", parse_delegate_namespace),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (!r->route->delegate_namespace)
		r->route->delegate_namespace = cfg->namespace;
	if (cfg->diags->n_errors == errors && !r->route->delegate)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
}

/* As Istio: what takes the place of a prefix needs one. */
static void check_redirect(struct cfg *cfg, const struct flat_http_route *route)
{
	for (uint32_t i = 0; route->redirect->prefix && i < route->n_matches; i++) {
		const struct flat_http_match *m = &route->matches[i];

		if (m->uri && m->uri->kind != FLAT_TEXT_PREFIX)
			cfg_error(cfg, &m->where, FLAT_DIAG_BAD_VALUE,
				  "match by prefix, or write the whole path as uri",
				  "prefixRewrite where no prefix is matched");
	}
}

static void check_route(struct cfg *cfg, const struct yaml_node *node,
			const struct flat_http_route *route)
{
	int actions = (route->n_destinations > 0) + (route->redirect != NULL) +
		      (route->direct != NULL) + (route->delegate != NULL);

	if (actions != 1)
		cfg_error(cfg, &node->where, actions ? FLAT_DIAG_BAD_VALUE : FLAT_DIAG_MISSING,
			  "give it one of route, redirect, directResponse and delegate", "%s",
			  actions ? "a route that does several things"
				  : "a route that does nothing");
	if (route->rewrite && route->redirect)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "rewrite and redirect exclude each other");
	if (route->redirect)
		check_redirect(cfg, route);
}

static void parse_route(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("match", parse_matches),
	    CFG_FIELD("route", parse_route_list),
	    CFG_FIELD("redirect", parse_redirect),
	    CFG_FIELD("directResponse", parse_direct),
	    CFG_FIELD("rewrite", parse_rewrite),
	    CFG_FIELD("timeout", parse_timeout),
	    CFG_FIELD("retries", parse_retries),
	    CFG_FIELD("fault", parse_fault),
	    CFG_FIELD("corsPolicy", parse_cors),
	    CFG_FIELD("headers", parse_route_headers),
	    CFG_FIELD("mirror", parse_mirror),
	    CFG_FIELD("mirrors", parse_mirrors),
	    CFG_FIELD("mirrorPercentage", parse_mirror_percentage),
	    CFG_FIELD("mirrorPercent", parse_mirror_percent),
	    CFG_FIELD("mirror_percent", parse_mirror_percent),
	    CFG_FIELD("delegate", parse_delegate),
	    CFG_UNHONOURED("websocketUpgrade", "it belongs to the port"),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->route = &r->vs->routes[r->vs->n_routes++];
	r->route->name = "";
	r->route->where = node->where;
	r->has_mirrored = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (yaml_get(node, "mirror") && yaml_get(node, "mirrors"))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a route has both mirror and mirrors");
	if (r->has_mirrored && r->route->n_mirrors > 0 && yaml_get(node, "mirror"))
		r->route->mirrors[0].of_million = r->mirrored;
	if (cfg->diags->n_errors == errors)
		check_route(cfg, node, r->route);
}

static void parse_http(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->vs->routes = cfg_array(cfg, node->n, sizeof(*r->vs->routes));
	if (r->vs->routes)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_route, r);
}

/* --- the whole --- */

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *host = cfg_host(cfg, node, true);
	struct flat_ip ip;

	if (!host)
		return;
	r->hosts[r->vs->n_hosts] = host;
	/* As in Istio: whoever writes no dot means a Service. */
	if (!strchr(host, '.') && strcmp(host, "*") != 0 && flat_ip_parse(host, &ip) != 0)
		host =
		    flat_pool_printf(cfg->pool, "%s.%s." FLAT_CLUSTER_DOMAIN, host, cfg->namespace);
	cfg->oom |= !host;
	r->at_gateways[r->vs->n_hosts++] = host;
}

static void parse_hosts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->hosts = cfg_array(cfg, node->n, sizeof(*r->hosts));
	r->at_gateways = cfg_array(cfg, node->n, sizeof(*r->at_gateways));
	r->vs->hosts = r->hosts;
	r->vs->at_gateways = r->at_gateways;
	if (r->hosts && r->at_gateways)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_host, r);
}

static void parse_gateways(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct cfg_gateways gateways;

	cfg_route_gateways(cfg, node, &gateways);
	r->vs->detached = !gateways.mesh;
	r->vs->gateways = gateways.v;
	r->vs->n_gateways = gateways.n;
}

static void parse_export(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_export_to(cfg, node, &((struct reading *)obj)->vs->export);
}

static void parse_tcp(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_virtual_tcp(cfg, node, ((struct reading *)obj)->vs);
}

static void parse_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_virtual_tls(cfg, node, ((struct reading *)obj)->vs);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("hosts", parse_hosts), CFG_FIELD("gateways", parse_gateways),
	    CFG_FIELD("http", parse_http),   CFG_FIELD("exportTo", parse_export),
	    CFG_FIELD("tls", parse_tls),     CFG_FIELD("tcp", parse_tcp),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_virtual_service(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.vs = cfg_array(cfg, 1, sizeof(*r.vs))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.vs)
		return;
	r.vs->name = cfg->name;
	r.vs->namespace = cfg->namespace;
	r.vs->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	if (r.vs->n_hosts == 0 && (r.vs->n_routes == 0 || r.vs->n_tcp > 0 || r.vs->n_tls > 0)) {
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.hosts",
			  "a VirtualService needs a host");
		return;
	}
	/* One without hosts is there for others to delegate to. */
	if ((r.vs->n_routes == 0 && r.vs->n_tcp == 0 && r.vs->n_tls == 0) || r.vs->n_hosts == 0)
		r.vs->detached = true;
	if (flat_mesh_add_virtual(cfg->mesh, r.vs))
		cfg->oom = true;
}
