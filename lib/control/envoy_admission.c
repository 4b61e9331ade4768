/* EnvoyFilter: admission control (envoy.filters.http.admission_control) -> struct flat_admission. */
#include <string.h>

#include "control/envoy_filter.h"

#define FILTER "envoy.filters.http.admission_control"
#define TYPE                                                                                       \
	"type.googleapis.com/envoy.extensions.filters.http.admission_control.v3.AdmissionControl"

#define GRPC_STATUS_MAX 16U

static struct flat_admission *admission_of(void *obj)
{
	return obj;
}

/* --- what is a success --- */

static void parse_http_statuses(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_status_ranges ranges = cfg_status_ranges(cfg, node);
	struct flat_admission *a = obj;

	if (ranges.n > 0)
		a->n_http = 0;
	if (ranges.n > FLAT_ADMISSION_RANGES_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "join some", "more than %u ranges",
			  FLAT_ADMISSION_RANGES_MAX);
	while (a->n_http < ranges.n && a->n_http < FLAT_ADMISSION_RANGES_MAX) {
		a->http[a->n_http] = ranges.v[a->n_http];
		a->n_http++;
	}
}

static void parse_grpc_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, GRPC_STATUS_MAX, &n))
		admission_of(obj)->grpc |= 1U << n;
}

static void parse_grpc_statuses(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (node->kind == YAML_LIST && node->n > 0)
		admission_of(obj)->grpc = 0;
	(void)cfg_list(cfg, node, GRPC_STATUS_MAX + 1, parse_grpc_status, obj);
}

static void parse_http_criteria(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("http_success_status", parse_http_statuses),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_grpc_criteria(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("grpc_success_status", parse_grpc_statuses),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_criteria(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("http_criteria", parse_http_criteria),
	    CFG_FIELD("grpc_criteria", parse_grpc_criteria),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- numbers, which Envoy wraps for its runtime: here its key is a name only --- */

static void parse_enabled_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	admission_of(obj)->disabled = !cfg_bool(cfg, node);
}

static void parse_aggression_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t n;

	/* As Envoy: a lower one is 1. */
	if (cfg_thousandths(cfg, node, &n))
		admission_of(obj)->aggression = n < 1000 ? 1000 : n;
}

static void parse_threshold_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t n = cfg_percentage(cfg, node);

	/* Envoy's bound. */
	if (n < FLAT_MILLION / 100)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use {value: 1} or more",
			  "a sr_threshold of less than 1 %%");
	else
		admission_of(obj)->success_of_million = n;
}

static void parse_most_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	admission_of(obj)->most_of_million = cfg_percentage(cfg, node);
}

static void parse_rps_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, UINT32_MAX, &n))
		admission_of(obj)->rps = (uint32_t)n;
}

static void parse_runtime(struct cfg *cfg, const struct yaml_node *node, void *obj,
			  cfg_parse_fn *value)
{
	const struct cfg_field fields[] = {
	    CFG_FIELD("default_value", value),
	    CFG_SKIP("runtime_key"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_enabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_runtime(cfg, node, obj, parse_enabled_value);
}

static void parse_aggression(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_runtime(cfg, node, obj, parse_aggression_value);
}

static void parse_threshold(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_runtime(cfg, node, obj, parse_threshold_value);
}

static void parse_most(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_runtime(cfg, node, obj, parse_most_value);
}

static void parse_rps(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_runtime(cfg, node, obj, parse_rps_value);
}

static void parse_window(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t ms;

	if (!cfg_duration_ms(cfg, node, &ms))
		return;
	/* In whole seconds, as Envoy. */
	if (ms < 1000 || ms / 1000 > FLAT_ADMISSION_WINDOW_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use 1s to 1h",
			  "a sampling_window of less than a second, or more than %u",
			  FLAT_ADMISSION_WINDOW_MAX);
	else
		admission_of(obj)->window_s = ms / 1000;
}

/* --- the filter --- */

/* Where nothing is said, as in Envoy. */
static const struct flat_admission defaults = {
    .window_s = 30,
    .aggression = 1000,
    .success_of_million = 950000,
    .most_of_million = 800000,
    .http = {{100, 500}},
    .n_http = 1,
    /* All but DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
    .grpc = 0x1ffffU & ~(1U << 4 | 1U << 8 | 1U << 10 | 1U << 13 | 1U << 14 | 1U << 15),
};

bool cfg_admission_filter(struct cfg *cfg, const struct yaml_node *patch,
			  const struct flat_limit_for *by)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("@type"),
	    CFG_FIELD("enabled", parse_enabled),
	    CFG_FIELD("success_criteria", parse_criteria),
	    CFG_FIELD("sampling_window", parse_window),
	    CFG_FIELD("aggression", parse_aggression),
	    CFG_FIELD("sr_threshold", parse_threshold),
	    CFG_FIELD("rps_threshold", parse_rps),
	    CFG_FIELD("max_rejection_probability", parse_most),
	};
	const struct yaml_node *node = cfg_filter_of(patch, FILTER, TYPE, NULL);
	struct flat_admission *a;

	if (!node)
		return false;
	a = cfg_array(cfg, 1, sizeof(*a));
	if (!a)
		return true;
	*a = defaults;
	if (!cfg_filter_where(cfg, patch, node, by, &a->filter))
		return true;
	/* Envoy refuses a filter without. */
	if (!yaml_get(node, "success_criteria"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "give success_criteria with http_criteria, grpc_criteria, or {}",
			  "admission control that does not say what a success is");
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
	if (a->disabled)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "leave enabled out",
			 "the admission control refuses nothing: it is not enabled");
	if (flat_mesh_n_admissions(cfg->mesh) == FLAT_FILTERS_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u admission controls", FLAT_FILTERS_MAX);
	else if (!a->disabled && flat_mesh_add_admission(cfg->mesh, a) != 0)
		cfg->oom = true;
	return true;
}
