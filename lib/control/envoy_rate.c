/*
 * EnvoyFilter: limits that a rate limit service decides (envoy.filters.http.ratelimit) -> struct flat_rate_limit, and rate_limits
 * of virtual hosts and routes -> struct flat_limit_patch.
 */
#include <string.h>

#include "control/envoy_filter.h"

#define FILTER "envoy.filters.http.ratelimit"
#define TYPE "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"
/* Envoy's, where nothing is said. */
#define TIMEOUT_MS 20U

static struct flat_rate_limit *rate_of(void *obj)
{
	return obj;
}

/* --- the service --- */

static void cannot(struct cfg *cfg, const struct yaml_node *node, struct flat_rate_limit *rate,
		   const char *why)
{
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
		 "use envoy_grpc with the cluster_name outbound|PORT||HOST",
		 "%s: the service cannot be asked", why);
	rate->why_not = why;
}

/* "outbound|8081||ratelimit.default.svc.cluster.local", as istiod names it. */
static void parse_cluster(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_rate_limit *rate = obj;
	const char *text = cfg_string(cfg, node);
	const char *end;
	uint16_t port;

	if (!text)
		return;
	if (strncmp(text, "outbound|", 9) != 0) {
		cannot(cfg, node, rate, "a cluster that istiod does not make");
		return;
	}
	end = cfg_port_of(text + 9, &port);
	if (!end || strncmp(end, "||", 2) != 0 || !end[2]) {
		cannot(cfg, node, rate, "a cluster of a subset, or malformed");
		return;
	}
	rate->port = port;
	rate->host = end + 2;
}

static void parse_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *text = cfg_url_text(cfg, node);

	/* As in Envoy an empty one is none. */
	rate_of(obj)->authority = text && *text ? text : NULL;
}

static void parse_envoy_grpc(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("cluster_name", parse_cluster),
	    CFG_FIELD("authority", parse_authority),
	    CFG_UNHONOURED("retry_policy", "a question is asked once"),
	    CFG_SKIP("max_receive_message_length"),
	    CFG_SKIP("skip_envoy_headers"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_google_grpc(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cannot(cfg, node, obj, "google_grpc is not honoured");
}

static void parse_grpc_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("envoy_grpc", parse_envoy_grpc),
	    CFG_FIELD("google_grpc", parse_google_grpc),
	    CFG_SKIP("timeout"), /* as in Envoy the filter's counts */
	    CFG_UNHONOURED("initial_metadata", "the question has no other headers"),
	    CFG_UNHONOURED("retry_policy", "a question is asked once"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_version(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"V3"};

	(void)obj;
	(void)cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));
}

static void parse_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("grpc_service", parse_grpc_service),
	    CFG_FIELD("transport_api_version", parse_version),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- the filter --- */

static void parse_domain(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->domain = cfg_string(cfg, node);
}

static void parse_stage(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->stage = cfg_limit_stage(cfg, node);
}

static void parse_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t ms;

	if (cfg_duration_ms(cfg, node, &ms) && ms > 0)
		rate_of(obj)->timeout_ms = ms;
}

static void parse_denies(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->denies = cfg_bool(cfg, node);
}

static void parse_exhausted(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->exhausted = cfg_bool(cfg, node);
}

static void parse_silent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->silent = cfg_bool(cfg, node);
}

static void parse_tells(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"OFF", "DRAFT_VERSION_03"};

	rate_of(obj)->tells = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

static void parse_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint16_t code = cfg_limit_status(cfg, node);

	/* As Envoy: a lower one is 429. */
	rate_of(obj)->status = code < 400 ? 429 : code;
}

static void parse_error_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint16_t code = cfg_limit_status(cfg, node);

	rate_of(obj)->error_status = code < 400 ? 500 : code;
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_rate_limit *rate = obj;

	rate->headers = cfg_header_options(cfg, node, &rate->n_headers);
}

static void parse_rules(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_rate_limit *rate = obj;

	rate->rules = cfg_limit_rules(cfg, node, &rate->n_rules);
}

static void parse_enabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->enabled_of_million = cfg_runtime_fraction(cfg, node);
}

static void parse_enforced(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	rate_of(obj)->enforced_of_million = cfg_runtime_fraction(cfg, node);
}

static void parse_request_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (node->kind == YAML_SCALAR && (!*node->text || strcmp(node->text, "both") == 0))
		return;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use both",
		 "request_type is not honoured: all requests are asked about");
}

/* A filter without service, or by one that is not understood, is one that cannot be asked: as it says, all or none pass. */
static void settle(struct cfg *cfg, const struct yaml_node *node, struct flat_rate_limit *rate)
{
	if (!rate->host && !rate->why_not)
		cannot(cfg, node, rate, "the filter names no service");
	if (!rate->authority)
		rate->authority = rate->host;
	if (!rate->enabled_of_million || !rate->enforced_of_million)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "leave filter_enabled and filter_enforced out",
			 "the limit refuses nothing");
	if (flat_mesh_n_rates(cfg->mesh) == FLAT_RATES_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u limits by a rate limit service", FLAT_RATES_MAX);
	else if (flat_mesh_add_rate(cfg->mesh, rate) != 0)
		cfg->oom = true;
}

static bool read_context(const struct yaml_node *patch, bool *gateway, bool *server)
{
	uint8_t at = cfg_filter_places(patch);

	*gateway = at & FLAT_FILTER_GATEWAY;
	*server = at & FLAT_FILTER_SERVER;
	return *gateway || *server;
}

bool cfg_rate_filter(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("@type"),
	    CFG_FIELD("domain", parse_domain),
	    CFG_FIELD("stage", parse_stage),
	    CFG_FIELD("request_type", parse_request_type),
	    CFG_FIELD("timeout", parse_timeout),
	    CFG_FIELD("failure_mode_deny", parse_denies),
	    CFG_UNHONOURED("failure_mode_deny_percent", "failure_mode_deny says it for all"),
	    CFG_FIELD("rate_limited_as_resource_exhausted", parse_exhausted),
	    CFG_FIELD("rate_limit_service", parse_service),
	    CFG_FIELD("enable_x_ratelimit_headers", parse_tells),
	    CFG_FIELD("disable_x_envoy_ratelimited_header", parse_silent),
	    CFG_FIELD("rate_limited_status", parse_status),
	    CFG_FIELD("response_headers_to_add", parse_headers),
	    CFG_FIELD("status_on_error", parse_error_status),
	    CFG_SKIP("stat_prefix"),
	    CFG_FIELD("filter_enabled", parse_enabled),
	    CFG_FIELD("filter_enforced", parse_enforced),
	    CFG_FIELD("rate_limits", parse_rules),
	};
	const struct yaml_node *node = cfg_filter_of(patch, FILTER, TYPE, "domain");
	struct flat_rate_limit *rate;
	bool gateway, server;

	if (!node || !read_context(patch, &gateway, &server))
		return false;
	rate = cfg_array(cfg, 1, sizeof(*rate));
	if (!rate)
		return true;
	*rate = (struct flat_rate_limit){.by = *by,
					 .gateway = gateway,
					 .server = server,
					 .timeout_ms = TIMEOUT_MS,
					 .status = 429,
					 .error_status = 500,
					 .enabled_of_million = FLAT_MILLION,
					 .enforced_of_million = FLAT_MILLION};
	rate->by.where = node->where;
	rate->by.port = cfg_filter_port(cfg, patch);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), rate);
	if (rate->domain)
		settle(cfg, node, rate);
	return true;
}

/* --- rate_limits of virtual hosts and routes --- */

/* Where the patch holds. False: it cannot be said. */
static bool read_where(struct cfg *cfg, const struct yaml_node *patch, struct flat_limit_patch *p)
{
	struct cfg_route_place place;

	if (!cfg_route_place(cfg, patch, &place))
		return false;
	p->gateway = place.at & FLAT_FILTER_GATEWAY;
	p->server = place.at & FLAT_FILTER_SERVER;
	p->port = place.port;
	p->host = place.host;
	p->route = place.route;
	return p->gateway || p->server;
}

static void parse_patch_rules(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_limit_patch *p = obj;

	p->rules = cfg_limit_rules(cfg, node, &p->n_rules);
}

static void parse_includes(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_limit_patch *)obj)->includes = cfg_bool(cfg, node);
}

bool cfg_rate_patch(struct cfg *cfg, const struct yaml_node *patch, const struct flat_limit_for *by)
{
	static const char *const of_virtual[] = {"patch", "value", NULL};
	static const char *const of_route[] = {"patch", "value", "route", NULL};
	static const char apart[] = "give it in a patch of its own";
	static const struct cfg_field virtual[] = {
	    CFG_FIELD("rate_limits", parse_patch_rules),
	    CFG_UNHONOURED("hedge_policy", apart),
	};
	static const struct cfg_field route[] = {
	    CFG_FIELD("rate_limits", parse_patch_rules),
	    CFG_FIELD("include_vh_rate_limits", parse_includes),
	    CFG_UNHONOURED("hedge_policy", apart),
	};
	bool is_route = cfg_is_text(yaml_get(patch, "applyTo"), "HTTP_ROUTE");
	const struct yaml_node *node = cfg_at(patch, is_route ? of_route : of_virtual);
	struct flat_limit_patch *p;

	if ((!is_route && !cfg_is_text(yaml_get(patch, "applyTo"), "VIRTUAL_HOST")) || !node ||
	    node->kind != YAML_MAP || !yaml_get(node, "rate_limits") ||
	    !cfg_is_text(cfg_at(patch, (const char *const[]){"patch", "operation", NULL}), "MERGE"))
		return false;
	p = cfg_array(cfg, 1, sizeof(*p));
	if (!p)
		return true;
	p->by = *by;
	p->by.where = node->where;
	p->of_route = is_route;
	if (!read_where(cfg, patch, p)) {
		cfg_warn(cfg, &patch->where, FLAT_DIAG_NOT_HONOURED,
			 "name a context (SIDECAR_INBOUND, GATEWAY), vhost.name (HOST:PORT, "
			 "inbound|http|PORT), portNumber, route.name, and nothing else",
			 "where the rate_limits hold is not understood: the patch is not honoured");
		return true;
	}
	if (is_route)
		cfg_map(cfg, node, route, FLAT_ARRAY_SIZE(route), p);
	else
		cfg_map(cfg, node, virtual, FLAT_ARRAY_SIZE(virtual), p);
	if (flat_mesh_n_limit_patches(cfg->mesh) == FLAT_LIMIT_PATCHES_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u patches with rate_limits", FLAT_LIMIT_PATCHES_MAX);
	else if (p->n_rules > 0 && flat_mesh_add_limit_patch(cfg->mesh, p) != 0)
		cfg->oom = true;
	return true;
}
