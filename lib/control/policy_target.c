/* targetRef and targetRefs: what a policy is attached to, in place of a selector. */
#include <string.h>

#include "control/schema.h"

struct reading {
	struct flat_policy_targets *out;
	const char *group, *kind, *name, *namespace;
};

/* "" is the core's group. */
static void parse_group(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_SCALAR))
		((struct reading *)obj)->group = *node->text ? cfg_string(cfg, node) : "";
}

static void parse_kind(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->kind = cfg_string(cfg, node);
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->name = cfg_string(cfg, node);
}

static void parse_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_SCALAR) && *node->text)
		((struct reading *)obj)->namespace = cfg_string(cfg, node);
}

static void parse_one(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct {
		const char *group, *kind;
		enum flat_target_kind target;
	} kinds[] = {
	    {"", "Service", FLAT_TARGET_SERVICE},
	    {"networking.istio.io", "ServiceEntry", FLAT_TARGET_SERVICE_ENTRY},
	    {"gateway.networking.k8s.io", "Gateway", FLAT_TARGET_GATEWAY},
	    {"networking.istio.io", "Gateway", FLAT_TARGET_GATEWAY},
	};
	static const struct cfg_field fields[] = {
	    CFG_FIELD("group", parse_group),
	    CFG_FIELD("kind", parse_kind),
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("namespace", parse_namespace),
	};
	struct reading *r = obj;
	struct flat_policy_target *t = &r->out->v[r->out->n++];

	/* What is none of these is nobody. */
	*t = (struct flat_policy_target){.name = "", .where = node->where};
	r->group = "";
	r->kind = r->name = r->namespace = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!r->kind || !r->name) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "name both",
			  "a target needs a kind and a name");
		return;
	}
	if (r->namespace && strcmp(r->namespace, cfg->namespace) != 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write the policy there",
			  "a target of another namespace");
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].kind, r->kind) != 0 || !r->group ||
		    strcmp(kinds[i].group, r->group) != 0)
			continue;
		t->kind = kinds[i].target;
		t->name = r->name;
		return;
	}
	/* Istio's webhook takes none for a ListenerSet either. */
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
		 strcmp(r->kind, "ListenerSet") == 0
		     ? "name its Gateway, and the hosts of its listeners in the rules"
		     : "name a Service, a ServiceEntry or a Gateway",
		 "target %s \"%.200s\" is not honoured: the policy holds for nobody there", r->kind,
		 r->name);
}

void cfg_policy_targets(struct cfg *cfg, const struct yaml_node *node,
			struct flat_policy_targets *out)
{
	struct reading r = {.out = out};
	bool list = node->kind == YAML_LIST;
	struct flat_policy_target *v;

	if (list && node->n == 0)
		return;
	v = cfg_array(cfg, out->n + (list ? node->n : 1), sizeof(*v));
	if (!v)
		return;
	for (uint32_t i = 0; i < out->n; i++)
		v[i] = out->v[i];
	out->v = v;
	if (list)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_one, &r);
	else
		parse_one(cfg, node, &r);
}
