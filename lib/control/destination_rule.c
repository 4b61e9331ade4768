/* DestinationRule (networking.istio.io) -> struct flat_destination_rule. */
#include <string.h>

#include "control/http_common.h"
#include "control/traffic_policy.h"

struct reading {
	struct flat_destination_rule *rule;
	struct flat_subset *subsets;
	struct flat_subset *subset; /* being read; NULL: none */
};

static void parse_policy(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	cfg_traffic_policy(cfg, node, r->subset ? &r->subset->policy : &r->rule->policy);
}

static void parse_subset_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->subset->name = cfg_string(cfg, node);
}

static void parse_subset_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->subset->labels = cfg_labels(cfg, node);
}

static void parse_subset(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_subset_name),
	    CFG_FIELD("labels", parse_subset_labels),
	    CFG_FIELD("trafficPolicy", parse_policy),
	};
	struct reading *r = obj;

	r->subset = &r->subsets[r->rule->n_subsets];
	r->subset->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!r->subset->name) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
		return;
	}
	for (uint32_t i = 0; i < r->rule->n_subsets; i++)
		if (strcmp(r->subsets[i].name, r->subset->name) == 0)
			cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "rename one of them",
				  "two subsets are named \"%s\"", r->subset->name);
	r->rule->n_subsets++;
}

static void parse_subsets(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->subsets = cfg_array(cfg, node->n, sizeof(*r->subsets));
	r->rule->subsets = r->subsets;
	if (r->subsets)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_subset, r);
	r->subset = NULL;
}

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->rule->host = cfg_host(cfg, node, true);
}

static void parse_export(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_export_to(cfg, node, &((struct reading *)obj)->rule->export);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rule->selector = cfg_match_labels(cfg, node);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("host", parse_host),
	    CFG_FIELD("subsets", parse_subsets),
	    CFG_FIELD("trafficPolicy", parse_policy),
	    CFG_FIELD("exportTo", parse_export),
	    CFG_FIELD("workloadSelector", parse_selector),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_destination_rule(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.rule = cfg_array(cfg, 1, sizeof(*r.rule))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.rule)
		return;
	r.rule->name = cfg->name;
	r.rule->namespace = cfg->namespace;
	r.rule->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	if (!r.rule->host) {
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.host",
			  "a DestinationRule needs a host");
		return;
	}
	if (flat_mesh_add_rule(cfg->mesh, r.rule))
		cfg->oom = true;
}
