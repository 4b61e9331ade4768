/* DestinationRule (networking.istio.io) -> struct flat_destination_rule. */
#include <string.h>

#include "control/http_common.h"

struct reading {
	struct flat_destination_rule *rule;
	struct flat_subset *subsets;
	struct flat_subset *subset; /* being read */
};

static void parse_simple(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"UNSPECIFIED", "ROUND_ROBIN", "LEAST_REQUEST",
					    "LEAST_CONN",  "RANDOM",	  "PASSTHROUGH"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	(void)obj;
	if (i > 1)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use ROUND_ROBIN",
			 "load balancing by %s is not honoured: requests go round robin by weight",
			 names[i]);
}

static void parse_balancer(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("simple", parse_simple),
	    CFG_UNHONOURED("consistentHash", "requests go round robin by weight"),
	    CFG_UNHONOURED("localityLbSetting", "endpoints are chosen by weight only"),
	    CFG_UNHONOURED("warmupDurationSecs", "endpoints have their whole share at once"),
	    CFG_UNHONOURED("warmup", "endpoints have their whole share at once"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_tls_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"DISABLE", "ISTIO_MUTUAL", "SIMPLE", "MUTUAL"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	(void)obj;
	if (i > 1)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "TLS mode %s is not honoured: no TLS is begun for applications", names[i]);
}

static void parse_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char why[] = "no TLS is begun for applications";
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mode", parse_tls_mode),
	    CFG_UNHONOURED("clientCertificate", why),
	    CFG_UNHONOURED("privateKey", why),
	    CFG_UNHONOURED("caCertificates", why),
	    CFG_UNHONOURED("credentialName", why),
	    CFG_UNHONOURED("subjectAltNames", why),
	    CFG_UNHONOURED("sni", why),
	    CFG_UNHONOURED("insecureSkipVerify", why),
	    CFG_UNHONOURED("caCrl", why),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_policy(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("loadBalancer", parse_balancer),
	    CFG_FIELD("tls", parse_tls),
	    CFG_UNHONOURED("connectionPool", "there are no limits on requests"),
	    CFG_UNHONOURED("outlierDetection", "endpoints that fail are not put aside"),
	    CFG_UNHONOURED("portLevelSettings", "one policy holds for all ports"),
	    CFG_UNHONOURED("tunnel", "there are no tunnels"),
	    CFG_UNHONOURED("proxyProtocol", "no header is put before a connection's bytes"),
	    CFG_UNHONOURED("retryBudget", "retries are bounded by request only"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
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
}

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->rule->host = cfg_host(cfg, node, true);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("host", parse_host),
	    CFG_FIELD("subsets", parse_subsets),
	    CFG_FIELD("trafficPolicy", parse_policy),
	    CFG_FIELD("exportTo", cfg_export_to),
	    CFG_UNHONOURED("workloadSelector", "it holds for every client"),
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
