/*
 * EnvoyFilter: the forms of it that mean something here. Local rate limits of HTTP -> struct flat_local_limit; those that a
 * service decides, and rate_limits of routes, are in envoy_rate.c, health checks in envoy_health.c.
 */
#include "control/envoy_filter.h"

#include <string.h>

#define FILTER "envoy.filters.http.local_ratelimit"
#define TYPE "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

/* What is being read: a resource, and one limit of it. */
struct reading {
	struct flat_limit_for by;
	struct flat_local_limit *limit;
	bool selected; /* there is a selector */
};

bool cfg_is_text(const struct yaml_node *node, const char *text)
{
	return node && node->kind == YAML_SCALAR && strcmp(node->text, text) == 0;
}

const struct yaml_node *cfg_at(const struct yaml_node *node, const char *const *path)
{
	for (; *path && node && node->kind == YAML_MAP; path++)
		node = yaml_get(node, *path);
	return *path ? NULL : node;
}

/* --- the filter's configuration --- */

static void parse_tokens(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, UINT32_MAX, &n))
		((struct flat_token_rate *)obj)->max_tokens = (uint32_t)n;
}

static void parse_per_fill(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, UINT32_MAX, &n))
		((struct flat_token_rate *)obj)->per_fill = (uint32_t)n;
}

static void parse_interval(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_token_rate *rate = obj;

	/* Envoy's bound. */
	if (cfg_duration_ms(cfg, node, &rate->interval_ms) && rate->interval_ms < 50)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use 50ms or more",
			  "a fill_interval of less than 50 ms");
}

void cfg_token_rate(struct cfg *cfg, const struct yaml_node *node, struct flat_token_rate *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("max_tokens", parse_tokens),
	    CFG_FIELD("tokens_per_fill", parse_per_fill),
	    CFG_FIELD("fill_interval", parse_interval),
	};

	out->per_fill = 1; /* Envoy's default */
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), out);
	if (!out->max_tokens || !out->interval_ms)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give max_tokens and fill_interval",
			  "a token_bucket that does not say how many, or how often");
}

static void parse_bucket(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_token_rate(cfg, node, &((struct reading *)obj)->limit->rate);
}

static void parse_descriptors(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_limit_descriptors(cfg, node, ((struct reading *)obj)->limit);
}

static void parse_rate_limits(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_local_limit *limit = ((struct reading *)obj)->limit;

	limit->rules = cfg_limit_rules(cfg, node, &limit->n_rules);
}

static void parse_max_dynamic(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, FLAT_LIMIT_DYNAMIC_MAX, &n))
		((struct reading *)obj)->limit->max_dynamic = (uint32_t)n;
}

static void parse_always(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->limit->spares = !cfg_bool(cfg, node);
}

struct fraction {
	uint64_t numerator;
	uint32_t each; /* millionths */
};

static void parse_numerator(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_uint(cfg, node, 0, FLAT_MILLION, &((struct fraction *)obj)->numerator);
}

static void parse_denominator(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"HUNDRED", "TEN_THOUSAND", "MILLION"};
	static const uint32_t each[] = {10000, 100, 1};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct fraction *)obj)->each = each[i];
}

static void parse_fraction(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("numerator", parse_numerator),
	    CFG_FIELD("denominator", parse_denominator),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* There is no runtime: its key is a name only. */
uint32_t cfg_runtime_fraction(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("runtime_key"),
	    CFG_FIELD("default_value", parse_fraction),
	};
	struct fraction f = {.each = 10000};
	uint64_t n;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &f);
	n = f.numerator * f.each;
	return n < FLAT_MILLION ? (uint32_t)n : FLAT_MILLION;
}

static void parse_enabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->limit->enabled_of_million = cfg_runtime_fraction(cfg, node);
}

static void parse_enforced(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->limit->enforced_of_million = cfg_runtime_fraction(cfg, node);
}

struct header_options {
	struct flat_name_value *v;
	uint32_t n;
};

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_name_value *)obj)->name = cfg_header_name(cfg, node, true);
}

static void parse_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_name_value *)obj)->value = cfg_header_value(cfg, node);
}

static void parse_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("key", parse_key),
	    CFG_FIELD("value", parse_value),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_header_option(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("header", parse_header),
	    /* What they are added to has none of these before. */
	    CFG_SKIP("append"),
	    CFG_SKIP("append_action"),
	};
	struct header_options *o = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &o->v[o->n]);
	o->n += o->v[o->n].name && o->v[o->n].value;
}

struct flat_name_value *cfg_header_options(struct cfg *cfg, const struct yaml_node *node,
					   uint32_t *n)
{
	struct header_options o = {.n = 0};

	*n = 0;
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return NULL;
	o.v = cfg_array(cfg, node->n, sizeof(*o.v));
	if (o.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_header_option, &o);
	*n = o.n;
	return o.v;
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->limit->headers = cfg_header_options(cfg, node, &r->limit->n_headers);
}

static void parse_code(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t code;

	if (cfg_uint(cfg, node, 100, 599, &code))
		*(uint16_t *)obj = (uint16_t)code;
}

uint16_t cfg_limit_status(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {CFG_FIELD("code", parse_code)};
	uint16_t code = 0;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &code);
	return code;
}

uint8_t cfg_limit_stage(struct cfg *cfg, const struct yaml_node *node)
{
	uint64_t n = 0;

	return cfg_uint(cfg, node, 0, FLAT_LIMIT_STAGE_MAX, &n) ? (uint8_t)n : 0;
}

static void parse_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint16_t code = cfg_limit_status(cfg, node);

	/* Envoy takes a lower one for 429. */
	((struct reading *)obj)->limit->status = code < 400 ? 429 : code;
}

static void parse_stage(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->limit->stage = cfg_limit_stage(cfg, node);
}

static void parse_virtual(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"OVERRIDE", "INCLUDE", "IGNORE"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct reading *)obj)->limit->virtual = (enum flat_limit_virtual)i;
}

static void parse_exhausted(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->limit->exhausted = cfg_bool(cfg, node);
}

static void parse_tells(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"OFF", "DRAFT_VERSION_03"};

	((struct reading *)obj)->limit->tells =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

static void read_limit(struct cfg *cfg, const struct yaml_node *patch, const struct yaml_node *node,
		       struct reading *r)
{
	static const char no_keys[] = "buckets are of a workload, for all its connections";
	static const struct cfg_field fields[] = {
	    CFG_SKIP("stat_prefix"),
	    CFG_SKIP("@type"),
	    CFG_FIELD("token_bucket", parse_bucket),
	    CFG_FIELD("filter_enabled", parse_enabled),
	    CFG_FIELD("filter_enforced", parse_enforced),
	    CFG_FIELD("response_headers_to_add", parse_headers),
	    CFG_FIELD("status", parse_status),
	    CFG_FIELD("enable_x_ratelimit_headers", parse_tells),
	    CFG_FIELD("descriptors", parse_descriptors),
	    CFG_FIELD("rate_limits", parse_rate_limits),
	    CFG_FIELD("max_dynamic_descriptors", parse_max_dynamic),
	    CFG_FIELD("always_consume_default_token_bucket", parse_always),
	    CFG_FIELD("stage", parse_stage),
	    CFG_FIELD("vh_rate_limits", parse_virtual),
	    CFG_UNHONOURED("local_cluster_rate_limit", "each host counts for itself"),
	    CFG_UNHONOURED("local_rate_limit_per_downstream_connection", no_keys),
	    CFG_UNHONOURED("request_headers_to_add_when_not_enforced", "servers are not told"),
	    CFG_FIELD("rate_limited_as_resource_exhausted", parse_exhausted),
	};
	struct flat_local_limit *limit = cfg_array(cfg, 1, sizeof(*limit));

	if (!limit)
		return;
	r->limit = limit;
	limit->by = r->by;
	limit->by.where = node->where;
	limit->by.port = cfg_filter_port(cfg, patch);
	limit->status = 429; /* Envoy's defaults */
	limit->max_dynamic = FLAT_LIMIT_DYNAMIC_DEFAULT;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!limit->enabled_of_million || !limit->enforced_of_million)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "set default_value of filter_enabled and filter_enforced",
			 "the limit refuses nothing: as in Envoy both are 0 %% where nothing is "
			 "said");
	if (flat_mesh_n_limits(cfg->mesh) == FLAT_LIMITS_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u local rate limits", FLAT_LIMITS_MAX);
	else if (flat_mesh_add_limit(cfg->mesh, limit) != 0)
		cfg->oom = true;
}

/* --- the patch around it --- */

const struct yaml_node *cfg_filter_of(const struct yaml_node *patch, const char *name,
				      const char *type, const char *has)
{
	const struct yaml_node *config =
	    cfg_at(patch, (const char *const[]){"patch", "value", "typed_config", NULL});

	if (!config || config->kind != YAML_MAP ||
	    !cfg_is_text(yaml_get(patch, "applyTo"), "HTTP_FILTER") ||
	    !cfg_is_text(cfg_at(patch, (const char *const[]){"patch", "value", "name", NULL}),
			 name))
		return NULL;
	if (cfg_is_text(yaml_get(config, "@type"), type))
		return !has || yaml_get(config, has) ? config : NULL;
	if (!cfg_is_text(yaml_get(config, "type_url"), type))
		return NULL;
	config = yaml_get(config, "value");
	return config && config->kind == YAML_MAP && (!has || yaml_get(config, has)) ? config
										     : NULL;
}

uint8_t cfg_filter_places(const struct yaml_node *patch)
{
	static const char *const names[] = {"SIDECAR_OUTBOUND", "GATEWAY", "SIDECAR_INBOUND"};
	const struct yaml_node *context =
	    cfg_at(patch, (const char *const[]){"match", "context", NULL});
	uint8_t at = 0;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(names); i++) {
		if (!context || cfg_is_text(context, "ANY") || cfg_is_text(context, names[i]))
			at |= (uint8_t)(1U << i);
	}
	return at;
}
_Static_assert(FLAT_FILTER_CLIENT == 1 && FLAT_FILTER_GATEWAY == 2 && FLAT_FILTER_SERVER == 4,
	       "bits by the order of names");

static void parse_port_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	*(uint16_t *)obj = cfg_port(cfg, node);
}

static const char wider[] = "the patch holds whatever that is";

static void parse_filter_chain(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("filter"), /* where in the chain; that follows here from what it is */
	    CFG_UNHONOURED("name", wider),
	    CFG_UNHONOURED("sni", wider),
	    CFG_UNHONOURED("transportProtocol", wider),
	    CFG_UNHONOURED("applicationProtocols", wider),
	    CFG_UNHONOURED("destinationPort", "use listener.portNumber"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_listener(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("portNumber", parse_port_number),
	    CFG_FIELD("filterChain", parse_filter_chain),
	    CFG_UNHONOURED("portName", "use portNumber"),
	    CFG_UNHONOURED("listenerFilter", wider),
	    CFG_UNHONOURED("name", "use portNumber"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

uint16_t cfg_filter_port(struct cfg *cfg, const struct yaml_node *patch)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("context"),
	    CFG_FIELD("listener", parse_listener),
	    CFG_UNHONOURED("proxy", wider),
	    CFG_UNHONOURED("routeConfiguration", "filters are of listeners"),
	    CFG_UNHONOURED("cluster", "filters are of listeners"),
	};
	const struct yaml_node *match = yaml_get(patch, "match");
	uint16_t port = 0;

	if (match && !yaml_is_null(match))
		cfg_map(cfg, match, fields, FLAT_ARRAY_SIZE(fields), &port);
	return port;
}

bool cfg_filter_where(struct cfg *cfg, const struct yaml_node *patch, const struct yaml_node *node,
		      const struct flat_limit_for *by, struct flat_filter *out)
{
	out->by = *by;
	out->by.where = node->where;
	out->at = cfg_filter_places(patch);
	out->port = cfg_filter_port(cfg, patch);
	if (out->at == 0)
		cfg_warn(cfg, &patch->where, FLAT_DIAG_NOT_HONOURED,
			 "use SIDECAR_OUTBOUND, SIDECAR_INBOUND, GATEWAY or ANY",
			 "match.context is none of those: the patch is not honoured");
	return out->at != 0;
}

/* The configuration of a patch that inserts the filter at servers; NULL: it does something else. */
static const struct yaml_node *limit_of(const struct yaml_node *patch)
{
	const struct yaml_node *context =
	    cfg_at(patch, (const char *const[]){"match", "context", NULL});

	return cfg_is_text(context, "SIDECAR_INBOUND") || cfg_is_text(context, "ANY")
		   ? cfg_filter_of(patch, FILTER, TYPE, "token_bucket")
		   : NULL;
}

static void parse_patch(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct yaml_node *limit = cfg_expect(cfg, node, YAML_MAP) ? limit_of(node) : NULL;
	struct reading *r = obj;

	if (limit)
		read_limit(cfg, node, limit, r);
	else if (node->kind == YAML_MAP && cfg_is_health_patch(node))
		cfg_health_patch(cfg, node, r->selected);
	else if (node->kind != YAML_MAP ||
		 (!cfg_rate_filter(cfg, node, &r->by) && !cfg_rate_patch(cfg, node, &r->by) &&
		  !cfg_admission_filter(cfg, node, &r->by) &&
		  !cfg_compressor_filter(cfg, node, &r->by) &&
		  !cfg_times_patch(cfg, node, &r->by) && !cfg_hedge_patch(cfg, node, &r->by)))
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
		    "the patch is not honoured: of EnvoyFilters only the HTTP_FILTER " FILTER
		    " with a token_bucket, in the context SIDECAR_INBOUND, the HTTP_FILTER "
		    "envoy.filters.http.ratelimit with a domain, rate_limits of a "
		    "VIRTUAL_HOST or HTTP_ROUTE, both there or in the context GATEWAY, a "
		    "hedge_policy of either, the "
		    "HTTP_FILTERs envoy.filters.http.admission_control and "
		    "envoy.filters.http.compressor, times of the NETWORK_FILTER "
		    "envoy.filters.network.http_connection_manager, and the health_checks of a "
		    "CLUSTER are");
}

static void parse_patches(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_patch, obj);
}

static void parse_selector_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->by.selector = cfg_labels(cfg, node);
	r->selected = true;
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("labels", parse_selector_labels)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field selector[] = {
	    CFG_FIELD("workloadSelector", parse_selector),
	    CFG_SKIP("configPatches"),
	    CFG_SKIP("priority"),
	    CFG_UNHONOURED("targetRefs", "there are no waypoints"),
	};
	static const struct cfg_field patches[] = {
	    CFG_SKIP("workloadSelector"),
	    CFG_FIELD("configPatches", parse_patches),
	    CFG_SKIP("priority"),
	    CFG_SKIP("targetRefs"),
	};

	/* Whom they are for, and then what. */
	cfg_map(cfg, node, selector, FLAT_ARRAY_SIZE(selector), obj);
	if (node->kind == YAML_MAP && !yaml_get(node, "targetRefs"))
		cfg_map(cfg, node, patches, FLAT_ARRAY_SIZE(patches), obj);
}

void cfg_envoy_filter(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.by = {.name = cfg->name, .namespace = cfg->namespace}};

	cfg_spec(cfg, root, parse_spec, &r);
}
