/* MeshConfig extensionProviders -> struct flat_ext_authz. */
#include <stdlib.h>
#include <string.h>

#include "control/http_common.h"
#include "control/telemetry.h"

/* What is being read. */
struct reading {
	struct flat_ext_authz *provider;
	struct flat_telemetry_provider *telemetry; /* NULL: it is none of those */
	const char **texts;
	uint32_t n_texts;
	struct flat_name_value *pairs;
};

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->provider->name = cfg_string(cfg, node);
}

/* HOST or NAMESPACE/HOST. */
static void parse_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_ext_authz *p = ((struct reading *)obj)->provider;
	const char *text = cfg_string(cfg, node);
	const char *slash = text ? strchr(text, '/') : NULL;

	p->host = slash ? slash + 1 : text;
	if (!slash)
		return;
	p->namespace = flat_pool_strndup(cfg->pool, text, (size_t)(slash - text));
	cfg->oom |= !p->namespace;
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->provider->port = cfg_port(cfg, node);
}

static void parse_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct reading *)obj)->provider->timeout_ms);
}

static void parse_fail_open(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->provider->fail_open = cfg_bool(cfg, node);
}

static void parse_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t status;

	if (cfg_uint(cfg, node, 200, 599, &status))
		((struct reading *)obj)->provider->status_on_error = (uint16_t)status;
}

static void parse_prefix(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_ext_authz *p = ((struct reading *)obj)->provider;
	const char *text = cfg_string(cfg, node);

	if (!text)
		return;
	p->path_prefix = text;
	if (text[0] != '/' || strpbrk(text, " \t\r\n?#"))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "begin with a slash, without query", "\"%.200s\" is no path", text);
}

/* --- the body --- */

static void parse_max_bytes(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_ext_authz *p = ((struct reading *)obj)->provider;
	uint64_t n;

	if (!cfg_uint(cfg, node, 1, UINT32_MAX, &n))
		return;
	p->body_max = (uint32_t)n;
	if (n <= FLAT_CONFIG_CHECK_BODY_MAX)
		return;
	p->body_max = FLAT_CONFIG_CHECK_BODY_MAX;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "an authorizer sees %u bytes of a body at most", FLAT_CONFIG_CHECK_BODY_MAX);
}

static void parse_partial(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->provider->body_partial = cfg_bool(cfg, node);
}

static void parse_as_bytes(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->provider->body_as_bytes = cfg_bool(cfg, node);
}

static void parse_body(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("maxRequestBytes", parse_max_bytes),
	    CFG_FIELD("allowPartialMessage", parse_partial),
	    CFG_FIELD("packAsBytes", parse_as_bytes),
	};
	struct reading *r = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (node->kind == YAML_MAP && !yaml_get(node, "maxRequestBytes"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"maxRequestBytes\" is missing");
}

/* --- headers --- */

static void parse_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);

	if (text)
		r->texts[r->n_texts++] = text;
}

static struct flat_name_list read_names(struct cfg *cfg, const struct yaml_node *node,
					struct reading *r)
{
	r->n_texts = 0;
	r->texts = NULL;
	if (cfg_expect(cfg, node, YAML_LIST) && node->n > 0)
		r->texts = cfg_array(cfg, node->n, sizeof(*r->texts));
	if (r->texts)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_text, r);
	return (struct flat_name_list){r->texts, r->n_texts};
}

static void parse_to_check(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->provider->to_check = read_names(cfg, node, r);
}

static void parse_to_upstream(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->provider->to_upstream = read_names(cfg, node, r);
}

static void parse_on_deny(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->provider->to_client_on_deny = read_names(cfg, node, r);
}

static void parse_on_allow(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->provider->to_client_on_allow = read_names(cfg, node, r);
}

static void parse_additional(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_ext_authz *p = ((struct reading *)obj)->provider;
	const struct yaml_item *item;
	struct flat_name_value *v;

	if (!cfg_expect(cfg, node, YAML_MAP) || node->n == 0)
		return;
	if (node->n > FLAT_CONFIG_MATCHES_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u headers",
			  FLAT_CONFIG_MATCHES_MAX);
		return;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	p->add_to_check = v;
	for (item = v ? node->first : NULL; item; item = item->next) {
		struct flat_name_value *to = &v[p->n_add_to_check++];

		to->name = cfg_header_name(cfg, item->key, true);
		to->value = cfg_string(cfg, item->value);
		if (to->value && strpbrk(to->value, "\r\n"))
			cfg_error(cfg, &item->value->where, FLAT_DIAG_BAD_VALUE,
				  "write it in one line", "a header's value of several lines");
	}
}

/* --- kinds of providers --- */

#define COMMON_FIELDS                                                                              \
	CFG_FIELD("service", parse_service), CFG_FIELD("port", parse_port),                        \
	    CFG_FIELD("timeout", parse_timeout), CFG_FIELD("failOpen", parse_fail_open),           \
	    CFG_FIELD("statusOnError", parse_status),                                              \
	    CFG_UNHONOURED("clearRouteCache", "the route is decided before"),                      \
	    CFG_FIELD("includeRequestBodyInCheck", parse_body)

static void settle(struct cfg *cfg, const struct yaml_node *node, const struct flat_ext_authz *p)
{
	if (node->kind == YAML_MAP && (!yaml_get(node, "service") || !yaml_get(node, "port")))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "name both",
			  "an authorizer needs a service and a port");
	if (p->timeout_ms == 0 && yaml_get(node, "timeout"))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "give it some time",
			  "no time for an authorizer to answer in");
}

static void parse_http(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    COMMON_FIELDS,
	    CFG_FIELD("pathPrefix", parse_prefix),
	    CFG_FIELD("includeHeadersInCheck", parse_to_check),
	    CFG_FIELD("includeRequestHeadersInCheck", parse_to_check),
	    CFG_FIELD("includeAdditionalHeadersInCheck", parse_additional),
	    CFG_FIELD("headersToUpstreamOnAllow", parse_to_upstream),
	    CFG_FIELD("headersToDownstreamOnDeny", parse_on_deny),
	    CFG_FIELD("headersToDownstreamOnAllow", parse_on_allow),
	};
	struct reading *r = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	settle(cfg, node, r->provider);
}

static void parse_grpc(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {COMMON_FIELDS};
	struct reading *r = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	settle(cfg, node, r->provider);
	r->provider->grpc = true;
}

static struct flat_telemetry_provider *telemetry(struct cfg *cfg, const struct yaml_node *node,
						 struct reading *r)
{
	r->telemetry = cfg_array(cfg, 1, sizeof(*r->telemetry));
	if (r->telemetry)
		r->telemetry->where = node->where;
	return r->telemetry;
}

static void parse_file_log(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (telemetry(cfg, node, obj))
		cfg_file_access_log(cfg, node, ((struct reading *)obj)->telemetry);
}

static void parse_opentelemetry(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (telemetry(cfg, node, obj))
		cfg_opentelemetry(cfg, node, ((struct reading *)obj)->telemetry);
}

static void parse_prometheus(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (telemetry(cfg, node, obj))
		((struct reading *)obj)->telemetry->kind = FLAT_PROVIDER_PROMETHEUS;
}

static void add_telemetry(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	r->telemetry->name = r->provider->name;
	if (flat_mesh_telemetry_provider_by_name(cfg->mesh, r->provider->name))
		cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "rename one of them",
			  "a second extension provider \"%.200s\"", r->provider->name);
	cfg->oom |= flat_mesh_add_telemetry_provider(cfg->mesh, r->telemetry) != 0;
}

static void parse_provider(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char no_use[] = "nothing here uses it";
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("envoyExtAuthzHttp", parse_http),
	    CFG_FIELD("envoyExtAuthzGrpc", parse_grpc),
	    CFG_UNHONOURED("zipkin", no_use),
	    CFG_UNHONOURED("lightstep", no_use),
	    CFG_UNHONOURED("datadog", no_use),
	    CFG_UNHONOURED("stackdriver", no_use),
	    CFG_UNHONOURED("opencensus", no_use),
	    CFG_UNHONOURED("skywalking", no_use),
	    CFG_FIELD("opentelemetry", parse_opentelemetry),
	    CFG_FIELD("prometheus", parse_prometheus),
	    CFG_FIELD("envoyFileAccessLog", parse_file_log),
	    CFG_UNHONOURED("envoyHttpAls", no_use),
	    CFG_UNHONOURED("envoyTcpAls", no_use),
	    CFG_UNHONOURED("envoyOtelAls", no_use),
	    CFG_UNHONOURED("sds", no_use),
	};
	struct reading r = {.provider = cfg_array(cfg, 1, sizeof(*r.provider))};

	(void)obj;
	if (!r.provider)
		return;
	r.provider->where = node->where;
	r.provider->path_prefix = "";
	r.provider->timeout_ms = 600000; /* Istio's default */
	r.provider->status_on_error = 403;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (node->kind == YAML_MAP && !yaml_get(node, "name"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
	if (r.telemetry && r.provider->name)
		add_telemetry(cfg, node, &r);
	if (!r.provider->host || !r.provider->name)
		return;
	if (flat_mesh_ext_authz(cfg->mesh, r.provider->name))
		cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "rename one of them",
			  "a second extension provider \"%.200s\"", r.provider->name);
	if (flat_mesh_add_ext_authz(cfg->mesh, r.provider))
		cfg->oom = true;
}

void cfg_extension_providers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_LIST))
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_provider, obj);
}
