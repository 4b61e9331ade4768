/*
 * EnvoyFilter: hedge_policy of virtual hosts and routes -> struct flat_hedge_patch; and where the routes are that such patches, and
 * those with rate_limits, are for.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "control/envoy_filter.h"

const char *cfg_port_of(const char *text, uint16_t *port)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	/* strtoul() takes blanks and signs. */
	if (!isdigit((unsigned char)text[0]) || n == 0 || n > 65535)
		return NULL;
	*port = (uint16_t)n;
	return end;
}

/* --- where routes are that a patch is for --- */

/* "HOST:PORT" of a client or gateway, "inbound|http|PORT" of a server. False: neither. */
static bool read_virtual_name(struct cfg *cfg, const char *name, struct cfg_route_place *p)
{
	bool inbound = strncmp(name, "inbound|http|", 13) == 0;
	const char *digits = inbound ? name + 13 : strrchr(name, ':');
	const char *end;
	char *host;

	if (!digits)
		return false;
	digits += !inbound;
	end = cfg_port_of(digits, &p->port);
	if (!end || *end)
		return false;
	if (inbound) {
		p->at &= FLAT_FILTER_SERVER;
		return p->at != 0;
	}
	p->at &= (uint8_t)~FLAT_FILTER_SERVER;
	host = flat_pool_strdup(cfg->pool, name);
	if (!host) {
		cfg->oom = true;
		return false;
	}
	host[digits - 1 - name] = 0;
	p->host = host;
	return p->at != 0;
}

/* Whether all that a match names is understood: a patch that is narrower than we think would hold for too much. */
static bool understands(const struct yaml_node *node, const char *const *names, size_t n)
{
	return !node || cfg_has_only(node, names, n);
}

static bool read_port(const struct yaml_node *node, struct cfg_route_place *p)
{
	const char *end;
	uint16_t port;

	if (!node)
		return true;
	if (node->kind != YAML_SCALAR)
		return false;
	end = cfg_port_of(node->text, &port);
	if (!end || *end || (p->port && p->port != port))
		return false;
	p->port = port;
	return true;
}

static const struct yaml_node *under(const struct yaml_node *node, const char *name)
{
	return node && node->kind == YAML_MAP ? yaml_get(node, name) : NULL;
}

bool cfg_route_place(struct cfg *cfg, const struct yaml_node *patch, struct cfg_route_place *p)
{
	static const char *const of_match[] = {"context", "routeConfiguration"};
	static const char *const of_config[] = {"vhost", "portNumber"};
	static const char *const of_vhost[] = {"name", "route"};
	static const char *const of_route[] = {"name", "action"};
	const struct yaml_node *match = yaml_get(patch, "match");
	const struct yaml_node *config = under(match, "routeConfiguration");
	const struct yaml_node *vhost = under(config, "vhost");
	const struct yaml_node *route = under(vhost, "route");
	const struct yaml_node *name = under(vhost, "name");

	*p = (struct cfg_route_place){.at = cfg_filter_places(patch)};
	if (p->at == 0 || !understands(match, of_match, FLAT_ARRAY_SIZE(of_match)) ||
	    !understands(config, of_config, FLAT_ARRAY_SIZE(of_config)) ||
	    !understands(vhost, of_vhost, FLAT_ARRAY_SIZE(of_vhost)) ||
	    !understands(route, of_route, FLAT_ARRAY_SIZE(of_route)))
		return false;
	if (name &&
	    (name->kind != YAML_SCALAR || (*name->text && !read_virtual_name(cfg, name->text, p))))
		return false;
	if (!read_port(under(config, "portNumber"), p))
		return false;
	name = under(route, "name");
	if (name && name->kind == YAML_SCALAR && *name->text)
		p->route = cfg_string(cfg, name);
	name = under(route, "action");
	return !name || cfg_is_text(name, "ANY") || cfg_is_text(name, "ROUTE");
}

/* --- hedge_policy --- */

static void parse_on(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_hedge_patch *)obj)->on = cfg_bool(cfg, node);
}

/* Envoy has the field, and does no more with it than to refuse 0. */
static void parse_initial(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	(void)obj;
	if (cfg_uint(cfg, node, 1, UINT32_MAX, &n) && n > 1)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "use hedge_on_per_try_timeout: true, and a perTryTimeout that is short",
			 "\"initial_requests\" is not honoured: a request begins with one try");
}

static void parse_policy(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("hedge_on_per_try_timeout", parse_on),
	    CFG_FIELD("initial_requests", parse_initial),
	    CFG_UNHONOURED("additional_request_chance", "a further try is made when the time of "
							"the one before it is over"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* A virtual host and a route have fields for everything. */
static void read_those(struct cfg *cfg, const struct yaml_node *node, struct flat_hedge_patch *p)
{
	const struct yaml_item *item;

	for (item = node->first; item; item = item->next) {
		const char *key = item->key->text;

		if (strcmp(key, "hedge_policy") == 0)
			parse_policy(cfg, item->value, p);
		else if (strcmp(key, "retry_policy") == 0)
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED,
				 "give the VirtualService's route retries",
				 "\"retry_policy\" is not honoured");
		else
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "\"%.100s\" is not honoured beside a hedge_policy", key);
	}
}

/* What it is merged into; NULL: it does something else. */
static const struct yaml_node *merged(const struct yaml_node *patch, bool *of_route)
{
	static const char *const of_virtual[] = {"patch", "value", NULL};
	static const char *const of_action[] = {"patch", "value", "route", NULL};
	static const char *const operation[] = {"patch", "operation", NULL};
	const struct yaml_node *kind = yaml_get(patch, "applyTo");
	const struct yaml_node *node;

	*of_route = cfg_is_text(kind, "HTTP_ROUTE");
	if (!*of_route && !cfg_is_text(kind, "VIRTUAL_HOST"))
		return NULL;
	node = cfg_at(patch, *of_route ? of_action : of_virtual);
	return node && node->kind == YAML_MAP && yaml_get(node, "hedge_policy") &&
		       cfg_is_text(cfg_at(patch, operation), "MERGE")
		   ? node
		   : NULL;
}

bool cfg_hedge_patch(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by)
{
	struct cfg_route_place place;
	bool of_route;
	const struct yaml_node *node = merged(patch, &of_route);
	struct flat_hedge_patch *p;

	if (!node)
		return false;
	p = cfg_array(cfg, 1, sizeof(*p));
	if (!p)
		return true;
	if (!cfg_route_place(cfg, patch, &place) || place.at == FLAT_FILTER_SERVER) {
		cfg_warn(cfg, &patch->where, FLAT_DIAG_NOT_HONOURED,
			 "name a context (SIDECAR_OUTBOUND, GATEWAY), vhost.name (HOST:PORT), "
			 "portNumber, route.name, and nothing else",
			 "where the hedge_policy holds is not understood, or not at clients: the "
			 "patch is not honoured");
		return true;
	}
	*p = (struct flat_hedge_patch){
	    .filter = {.by = *by,
		       .at = place.at & (uint8_t)~FLAT_FILTER_SERVER,
		       .port = place.port},
	    .of_route = of_route,
	    .host = place.host,
	    .route = place.route,
	};
	p->filter.by.where = node->where;
	read_those(cfg, node, p);
	if (flat_mesh_n_hedges(cfg->mesh) == FLAT_FILTERS_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u patches with a hedge_policy", FLAT_FILTERS_MAX);
	else if (flat_mesh_add_hedge(cfg->mesh, p) != 0)
		cfg->oom = true;
	return true;
}
