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
	/* Of metrics. */
	struct flat_metric_override *override;
	struct flat_metric_tag *label;
	const struct yaml_node *expression; /* of the label; NULL: none */
	bool removes;
};

static void read_mode(struct cfg *cfg, const struct yaml_node *node, unsigned *out)
{
	static const char *const names[] = {"CLIENT_AND_SERVER", "CLIENT", "SERVER"};
	static const unsigned modes[] = {FLAT_MODE_BOTH, FLAT_MODE_CLIENT, FLAT_MODE_SERVER};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		*out = modes[i];
}

static void parse_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_mode(cfg, node, &((struct reading *)obj)->item->modes);
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

static void begin_item(struct reading *r, const struct yaml_node *node, bool tracing)
{
	r->item++;
	r->item->modes = FLAT_MODE_BOTH;
	r->item->where = node->where;
	r->tracing = tracing;
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

	begin_item(r, node, false);
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
	    CFG_UNHONOURED("disableContextPropagation", "servers get the trace's headers"),
	    CFG_UNHONOURED("useRequestIdForTraceSampling",
			   "a trace's own flags say whether it is sampled"),
	};
	struct reading *r = obj;

	begin_item(r, node, true);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

/* --- metrics --- */

/* Of Istio: as a Telemetry calls it, and as it is served (customMetric). */
static const struct {
	const char *name, *served;
	unsigned metrics; /* bits */
} metrics[] = {
    {"ALL_METRICS", NULL, (1U << FLAT_METRICS) - 1},
    {"REQUEST_COUNT", "requests_total", 1U << FLAT_METRIC_REQUESTS},
    {"REQUEST_DURATION", "request_duration_milliseconds", 1U << FLAT_METRIC_DURATION},
    {"REQUEST_SIZE", "request_bytes", 1U << FLAT_METRIC_REQUEST_BYTES},
    {"RESPONSE_SIZE", "response_bytes", 1U << FLAT_METRIC_RESPONSE_BYTES},
    {"TCP_OPENED_CONNECTIONS", "tcp_connections_opened_total", 1U << FLAT_METRIC_TCP_OPENED},
    {"TCP_CLOSED_CONNECTIONS", "tcp_connections_closed_total", 1U << FLAT_METRIC_TCP_CLOSED},
    {"TCP_SENT_BYTES", "tcp_sent_bytes_total", 1U << FLAT_METRIC_TCP_SENT},
    {"TCP_RECEIVED_BYTES", "tcp_received_bytes_total", 1U << FLAT_METRIC_TCP_RECEIVED},
    {"GRPC_REQUEST_MESSAGES", "request_messages_total", 1U << FLAT_METRIC_REQUEST_MESSAGES},
    {"GRPC_RESPONSE_MESSAGES", "response_messages_total", 1U << FLAT_METRIC_RESPONSE_MESSAGES},
};

static void parse_metric(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *names[FLAT_ARRAY_SIZE(metrics)];
	struct flat_metric_override *o = ((struct reading *)obj)->override;
	int at;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(metrics); i++)
		names[i] = metrics[i].name;
	at = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));
	o->all = at == 0;
	o->metrics = at >= 0 ? metrics[at].metrics : 0;
}

static void parse_custom_metric(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_metric_override *o = ((struct reading *)obj)->override;
	const char *name = cfg_string(cfg, node);
	const char *plain = name && strncmp(name, "istio_", 6) == 0 ? name + 6 : name;

	o->all = false;
	o->metrics = 0;
	for (size_t i = 1; plain && i < FLAT_ARRAY_SIZE(metrics); i++) {
		if (strcmp(metrics[i].served, plain) == 0)
			o->metrics = metrics[i].metrics;
	}
	if (name && !o->metrics)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "name one of Istio's metrics, such as requests_total",
			 "customMetric \"%.200s\": there is no such metric here", name);
}

static void parse_metric_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_mode(cfg, node, &((struct reading *)obj)->override->modes);
}

static void parse_metric_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("metric", parse_metric),
	    CFG_FIELD("customMetric", parse_custom_metric),
	    CFG_FIELD("mode", parse_metric_mode),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && yaml_get(node, "metric") && yaml_get(node, "customMetric"))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "metric and customMetric exclude each other");
}

static void parse_metric_disabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_metric_override *o = ((struct reading *)obj)->override;

	o->says_disabled = true;
	o->disabled = cfg_bool(cfg, node);
}

static void parse_operation(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"UPSERT", "REMOVE"};

	((struct reading *)obj)->removes = cfg_enum(cfg, node, names, 2) == 1;
}

static void parse_label_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg;
	((struct reading *)obj)->expression = node;
}

/* As Envoy tells it to Prometheus: what may not be in a name is an underscore. NULL: it can be no label. */
static const char *label_name(struct cfg *cfg, const struct yaml_node *key)
{
	size_t len = strlen(key->text);
	char *name;

	if (len == 0 || len > FLAT_METRIC_NAME_MAX || strncmp(key->text, "__", 2) == 0 ||
	    strcmp(key->text, "le") == 0) {
		cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE, "give it another name",
			  "\"%.80s\" can be no label: it has 1 to %u bytes, does not begin with "
			  "__, and is not le, which is the histograms' own",
			  key->text, FLAT_METRIC_NAME_MAX);
		return NULL;
	}
	name = flat_pool_printf(cfg->pool, "%s%s",
				*key->text >= '0' && *key->text <= '9' ? "_" : "", key->text);
	cfg->oom |= !name;
	for (char *c = name; c && *c; c++) {
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *c))
			*c = '_';
	}
	return name;
}

/* A value that is not understood leaves the label as it was. */
static const struct flat_cel *compile_value(struct cfg *cfg, const struct yaml_node *node)
{
	const char *text = cfg_string(cfg, node);
	const char *why = NULL;
	const struct flat_cel *cel = text ? flat_cel_compile(cfg->pool, text, &why) : NULL;

	if (text && !cel && !why)
		cfg->oom = true;
	else if (text && !cel)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "see docs/configuration.md for what expressions understand",
			 "value \"%.200s\": %s, so the label stays as it was", text, why);
	return cel;
}

static void parse_label(struct cfg *cfg, const struct yaml_item *item, struct reading *r)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("operation", parse_operation),
	    CFG_FIELD("value", parse_label_value),
	};
	struct flat_metric_override *o = r->override;

	r->removes = false;
	r->expression = NULL;
	cfg_map(cfg, item->value, fields, FLAT_ARRAY_SIZE(fields), r);
	r->label->name = label_name(cfg, item->key);
	if (r->removes == (r->expression != NULL)) {
		cfg_error(cfg, &item->value->where,
			  r->removes ? FLAT_DIAG_BAD_VALUE : FLAT_DIAG_MISSING,
			  r->removes ? "leave the value out" : "add a value",
			  r->removes ? "REMOVE has no value" : "UPSERT needs a value");
		return;
	}
	if (r->expression)
		r->label->value = compile_value(cfg, r->expression);
	if (r->label->name && (r->removes || r->label->value)) {
		r->label++;
		o->n_tags++;
	}
}

static void parse_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	if (node->n > FLAT_METRIC_TAGS_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u labels",
			  FLAT_METRIC_TAGS_MAX);
		return;
	}
	r->label = cfg_array(cfg, (size_t)node->n + 1, sizeof(*r->label));
	r->override->tags = r->label;
	for (const struct yaml_item *i = r->label ? node->first : NULL; i; i = i->next)
		parse_label(cfg, i, r);
}

static void parse_override(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("match", parse_metric_match),
	    CFG_FIELD("disabled", parse_metric_disabled),
	    CFG_FIELD("tagOverrides", parse_labels),
	};
	struct reading *r = obj;

	r->override++;
	r->override->all = true;
	r->override->metrics = (1U << FLAT_METRICS) - 1;
	r->override->modes = FLAT_MODE_BOTH;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

static void parse_overrides(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_metric_override *v;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	/* One before the first, where reading begins. */
	v = cfg_array(cfg, (size_t)node->n + 1, sizeof(*v));
	if (!v)
		return;
	r->override = v;
	r->item->overrides = v + 1;
	r->item->n_overrides = cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_override, r);
}

/* What is served is what is so far: no interval is needed. */
static void parse_interval(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t ms;

	(void)obj;
	(void)cfg_duration_ms(cfg, node, &ms);
}

static void parse_measuring(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("providers", parse_providers),
	    CFG_FIELD("overrides", parse_overrides),
	    CFG_FIELD("reportingInterval", parse_interval),
	};
	struct reading *r = obj;

	begin_item(r, node, false);
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

static void parse_measurings(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_telemetry *t = r->telemetry;

	t->metrics = parse_items(cfg, node, r, parse_measuring, &t->n_metrics);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->telemetry->selector = cfg_match_labels(cfg, node);
}

static void parse_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry *t = ((struct reading *)obj)->telemetry;
	struct flat_policy_targets *targets =
	    t->targets ? t->targets : cfg_array(cfg, 1, sizeof(*targets));

	if (targets)
		cfg_policy_targets(cfg, node, targets);
	if (targets && targets->n > 0)
		t->targets = targets;
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("selector", parse_selector), CFG_FIELD("targetRef", parse_target),
	    CFG_FIELD("targetRefs", parse_target), CFG_FIELD("accessLogging", parse_loggings),
	    CFG_FIELD("tracing", parse_tracings),  CFG_FIELD("metrics", parse_measurings),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && yaml_get(node, "selector") &&
	    (yaml_get(node, "targetRef") || yaml_get(node, "targetRefs")))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "selector and targetRef exclude each other");
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
