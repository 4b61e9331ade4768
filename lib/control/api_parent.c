/* Gateway API: what a route is for: parentRefs and hostnames, which all kinds of routes have. And references, and ages. */
#include <string.h>

#include "control/http_route.h"

struct reading {
	struct api_reference to;
	struct api_route *route;
	const char *section;
	uint16_t port;
};

/* "2026-01-02T03:04:05Z", the one form of Kubernetes' API server. */
static bool is_time(const char *text)
{
	static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
	size_t i = 0;

	for (; form[i] && text[i]; i++) {
		if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
			return false;
	}
	return !form[i] && !text[i];
}

const char *cfg_api_created(struct cfg *cfg)
{
	return cfg->created && is_time(cfg->created->text) ? cfg_string(cfg, cfg->created) : NULL;
}

/* "" is the core's group. */
void cfg_api_group(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_SCALAR))
		((struct api_reference *)obj)->group = *node->text ? cfg_string(cfg, node) : "";
}

void cfg_api_kind(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct api_reference *)obj)->kind = cfg_string(cfg, node);
}

void cfg_api_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct api_reference *)obj)->name = cfg_string(cfg, node);
}

void cfg_api_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct api_reference *)obj)->namespace = cfg_string(cfg, node);
}

static void parse_section(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->section = cfg_string(cfg, node);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->port = cfg_port(cfg, node);
}

static bool is_of(const struct api_reference *to, const char *kind)
{
	return to->name && to->kind && to->group && strcmp(to->kind, kind) == 0 &&
	       strcmp(to->group, "gateway.networking.k8s.io") == 0;
}

static void parse_parent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_API_REFERENCE,
	    CFG_FIELD("port", parse_port),
	    CFG_FIELD("sectionName", parse_section),
	};
	struct reading r = {
	    .route = obj,
	    .to = {.group = "gateway.networking.k8s.io", .kind = "Gateway"},
	};
	const struct api_reference *to = &r.to;
	const char *host;
	bool set;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	set = is_of(to, "ListenerSet");
	if (set || is_of(to, "Gateway")) {
		r.route->gateways[r.route->n_gateways++] = (struct api_gateway_parent){
		    to->name, to->namespace ? to->namespace : cfg->namespace,
		    set,      r.section,
		    r.port,   node->where};
		return;
	}
	host = cfg_api_host(cfg, to);
	if (!host) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "name Services and Gateways",
			 "parent %s \"%.200s\" is not honoured", to->kind ? to->kind : "",
			 to->name ? to->name : "");
		return;
	}
	if (r.section)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "name a port by its number",
			 "field \"sectionName\" of a Service is not honoured");
	r.route->parents[r.route->n_parents++] = (struct api_parent){
	    .host = host,
	    .port = r.port,
	    .own = to->namespace && strcmp(to->namespace, cfg->namespace) != 0,
	};
}

void cfg_api_parents(struct cfg *cfg, const struct yaml_node *node, struct api_route *route)
{
	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	route->parents = cfg_array(cfg, node->n, sizeof(*route->parents));
	route->gateways = cfg_array(cfg, node->n, sizeof(*route->gateways));
	if (route->parents && route->gateways)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_parent, route);
}

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct api_route *route = obj;
	const char *host = cfg_host(cfg, node, true);

	if (host)
		route->hosts[route->n_hosts++] = host;
}

void cfg_api_hosts(struct cfg *cfg, const struct yaml_node *node, struct api_route *route)
{
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	route->hosts = cfg_array(cfg, node->n, sizeof(*route->hosts));
	if (route->hosts)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_host, route);
}
