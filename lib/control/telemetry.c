/* Telemetry (telemetry.istio.io) -> struct flat_telemetry. */
#include "control/telemetry.h"

#include <stdlib.h>
#include <string.h>

#include "control/http_common.h"

/* What is being read: a resource, and within it an item and one of its tags. */
struct reading {
	struct flat_telemetry *telemetry;
	struct flat_telemetry_item *item;
	const char **names;
	struct flat_trace_tag *tag;
	bool tracing;
};

static void parse_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"CLIENT_AND_SERVER", "CLIENT", "SERVER"};
	static const unsigned modes[] = {FLAT_MODE_BOTH, FLAT_MODE_CLIENT, FLAT_MODE_SERVER};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct reading *)obj)->item->modes = modes[i];
}

static void parse_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("mode", parse_mode)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_provider_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *name = cfg_string(cfg, node);

	if (name)
		r->names[r->item->n_providers++] = name;
}

static void parse_provider(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("name", parse_provider_name)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && !yaml_get(node, "name"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
}

static void parse_providers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->names = cfg_array(cfg, node->n, sizeof(*r->names));
	r->item->providers = r->names;
	if (!r->names)
		return;
	if (r->tracing && node->n > 1)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "keep one of them",
			 "spans go to one provider, as in Istio: the first");
	(void)cfg_list(cfg, node, FLAT_TELEMETRY_PROVIDERS_MAX, parse_provider, r);
}

static void parse_disabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->item->says_disabled = true;
	r->item->disabled = cfg_bool(cfg, node);
}

/* --- access logs --- */

static void parse_expression(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);
	const char *why = NULL;

	if (!text)
		return;
	r->item->filter = flat_cel_compile(cfg->pool, text, &why);
	if (!r->item->filter && !why)
		cfg->oom = true;
	else if (!r->item->filter)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "see docs/configuration.md for what filters understand",
			 "filter \"%.200s\": %s, so everything is logged", text, why);
}

static void parse_filter(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("expression", parse_expression)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_logging(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("match", parse_match),
	    CFG_FIELD("providers", parse_providers),
	    CFG_FIELD("disabled", parse_disabled),
	    CFG_FIELD("filter", parse_filter),
	};
	struct reading *r = obj;

	r->item++;
	r->item->modes = FLAT_MODE_BOTH;
	r->item->where = node->where;
	r->tracing = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

/* --- traces --- */

static void parse_sampling(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->item->says_sampling = true;
	r->item->of_million = cfg_millionths(cfg, node);
}

static void parse_tag_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->tag->value = cfg_string(cfg, node);
}

static void parse_literal(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("value", parse_tag_value)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_tag_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->tag->value = cfg_header_name(cfg, node, false);
}

static void parse_tag_default(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->tag->absent = cfg_string(cfg, node);
}

static void parse_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_tag_header),
	    CFG_FIELD("defaultValue", parse_tag_default),
	};
	struct reading *r = obj;

	r->tag->from = FLAT_TAG_HEADER;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

static void parse_environment(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_tag_value),
	    CFG_FIELD("defaultValue", parse_tag_default),
	};
	struct reading *r = obj;
	const char *value;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	/* Nobody changes the environment while a configuration is read. */
	value = r->tag->value ? getenv(r->tag->value) : NULL; /* NOLINT(concurrency-mt-unsafe) */
	if (!value || !*value)
		value = r->tag->absent;
	r->tag->value = value ? flat_pool_strdup(cfg->pool, value) : NULL;
	cfg->oom |= value && !r->tag->value;
}

static void parse_tags(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("literal", parse_literal),
	    CFG_FIELD("environment", parse_environment),
	    CFG_FIELD("header", parse_header),
	    CFG_UNHONOURED("formatter", "say it as a literal or of a header"),
	};
	struct reading *r = obj;
	const struct yaml_item *item;
	struct flat_trace_tag *tags;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	if (node->n > FLAT_TELEMETRY_TAGS_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u tags",
			  FLAT_TELEMETRY_TAGS_MAX);
		return;
	}
	/* None is something too: it takes away those of the wider resource. */
	tags = cfg_array(cfg, (size_t)node->n + 1, sizeof(*tags));
	r->item->tags = tags;
	for (item = tags ? node->first : NULL; item; item = item->next) {
		r->tag = &tags[r->item->n_tags];
		r->tag->name = flat_pool_strdup(cfg->pool, item->key->text);
		cfg->oom |= !r->tag->name;
		cfg_map(cfg, item->value, fields, FLAT_ARRAY_SIZE(fields), r);
		if (r->tag->value)
			r->item->n_tags++;
	}
}

static void parse_istio_tags(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (!cfg_bool(cfg, node))
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "enableIstioTags: false is not honoured: spans have Istio's tags");
}

static void parse_tracing(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("match", parse_match),
	    CFG_FIELD("providers", parse_providers),
	    CFG_FIELD("randomSamplingPercentage", parse_sampling),
	    CFG_FIELD("disableSpanReporting", parse_disabled),
	    CFG_FIELD("customTags", parse_tags),
	    CFG_FIELD("enableIstioTags", parse_istio_tags),
	    CFG_UNHONOURED("useRequestIdForTraceSampling",
			   "a trace's own flags say whether it is sampled"),
	};
	struct reading *r = obj;

	r->item++;
	r->item->modes = FLAT_MODE_BOTH;
	r->item->where = node->where;
	r->tracing = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

/* --- the whole --- */

static const struct flat_telemetry_item *parse_items(struct cfg *cfg, const struct yaml_node *node,
						     struct reading *r, cfg_parse_fn *parse,
						     uint32_t *n)
{
	struct flat_telemetry_item *v;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return NULL;
	/* One before the first, where reading begins. */
	v = cfg_array(cfg, (size_t)node->n + 1, sizeof(*v));
	if (!v)
		return NULL;
	r->item = v;
	*n = cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse, r);
	return v + 1;
}

static void parse_loggings(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_telemetry *t = r->telemetry;

	t->logging = parse_items(cfg, node, r, parse_logging, &t->n_logging);
}

static void parse_tracings(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_telemetry *t = r->telemetry;

	t->tracing = parse_items(cfg, node, r, parse_tracing, &t->n_tracing);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->telemetry->selector = cfg_match_labels(cfg, node);
}

static void parse_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->telemetry->detached = true;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "select workloads with \"selector\"",
		 "targetRefs are not honoured: there are no waypoints, so the Telemetry holds "
		 "for nobody");
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("selector", parse_selector),
	    CFG_FIELD("targetRef", parse_target),
	    CFG_FIELD("targetRefs", parse_target),
	    CFG_FIELD("accessLogging", parse_loggings),
	    CFG_FIELD("tracing", parse_tracings),
	    CFG_UNHONOURED("metrics", "metrics have Istio's labels, all of them"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_telemetry(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.telemetry = cfg_array(cfg, 1, sizeof(*r.telemetry))};

	if (!r.telemetry)
		return;
	r.telemetry->name = cfg->name;
	r.telemetry->namespace = cfg->namespace;
	r.telemetry->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (flat_mesh_add_telemetry(cfg->mesh, r.telemetry))
		cfg->oom = true;
}
