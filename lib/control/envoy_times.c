/* EnvoyFilter: times of an HttpConnectionManager -> struct flat_times_patch. */
#include <string.h>

#include "control/envoy_filter.h"

#define FILTER "envoy.filters.network.http_connection_manager"
#define TYPE                                                                                       \
	"type.googleapis.com/"                                                                     \
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

static void parse_stream_idle(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_times_patch *p = obj;

	p->has_stream_idle = cfg_duration_ms(cfg, node, &p->times.stream_idle_ms);
}

static void parse_request(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_times_patch *p = obj;

	p->has_request = cfg_duration_ms(cfg, node, &p->times.request_ms);
}

static void parse_head(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_times_patch *p = obj;

	p->has_head = cfg_duration_ms(cfg, node, &p->times.head_ms);
}

static void parse_idle(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_times_patch *p = obj;

	p->has_idle = cfg_duration_ms(cfg, node, &p->times.idle_ms);
}

/* An HttpConnectionManager has fields for everything: ours are read, the others said. */
static void read_those(struct cfg *cfg, const struct yaml_node *node,
		       const struct cfg_field *fields, size_t n, struct flat_times_patch *p)
{
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	for (item = node->first; item; item = item->next) {
		size_t i = 0;

		while (i < n && strcmp(fields[i].name, item->key->text) != 0)
			i++;
		if (i < n)
			fields[i].parse(cfg, item->value, p);
		else if (strcmp(item->key->text, "@type") != 0)
			cfg_warn(cfg, &item->value->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "\"%.100s\" is not honoured: of connections it is times",
				 item->key->text);
	}
}

static void parse_common(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("idle_timeout", parse_idle)};

	read_those(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

bool cfg_times_patch(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("stream_idle_timeout", parse_stream_idle),
	    CFG_FIELD("request_timeout", parse_request),
	    CFG_FIELD("request_headers_timeout", parse_head),
	    CFG_FIELD("common_http_protocol_options", parse_common),
	};
	static const char *const match[] = {"match",  "listener", "filterChain",
					    "filter", "name",	  NULL};
	static const char *const value[] = {"patch", "value", "typed_config", NULL};
	static const char *const operation[] = {"patch", "operation", NULL};
	const struct yaml_node *node = cfg_at(patch, value);
	struct flat_times_patch *p;

	if (!node || node->kind != YAML_MAP ||
	    !cfg_is_text(yaml_get(patch, "applyTo"), "NETWORK_FILTER") ||
	    !cfg_is_text(cfg_at(patch, match), FILTER) ||
	    !cfg_is_text(cfg_at(patch, operation), "MERGE") ||
	    !cfg_is_text(yaml_get(node, "@type"), TYPE))
		return false;
	p = cfg_array(cfg, 1, sizeof(*p));
	if (!p || !cfg_filter_where(cfg, patch, node, by, &p->filter))
		return true;
	if (p->filter.at == FLAT_FILTER_SERVER) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "use SIDECAR_OUTBOUND, GATEWAY or ANY",
			 "times are of clients' connections: in the context SIDECAR_INBOUND they "
			 "are not honoured");
		return true;
	}
	p->filter.at &= (uint8_t)~FLAT_FILTER_SERVER;
	read_those(cfg, node, fields, FLAT_ARRAY_SIZE(fields), p);
	if (flat_mesh_n_times(cfg->mesh) == FLAT_FILTERS_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u patches of times", FLAT_FILTERS_MAX);
	else if (flat_mesh_add_times(cfg->mesh, p) != 0)
		cfg->oom = true;
	return true;
}
