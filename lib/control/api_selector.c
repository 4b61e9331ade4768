#include "control/api_selector.h"

#include <string.h>

struct reading {
	struct api_selector *out;
	struct api_expression *expressions;
	struct api_expression *expression; /* being read */
	const struct yaml_node *op;
	const char **values;
};

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->expression->key = cfg_string(cfg, node);
}

static void parse_operator(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {
	    [API_IN] = "In",
	    [API_NOT_IN] = "NotIn",
	    [API_EXISTS] = "Exists",
	    [API_DOES_NOT_EXIST] = "DoesNotExist",
	};
	struct reading *r = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	r->op = node;
	if (i >= 0)
		r->expression->op = (enum api_operator)i;
}

/* The empty text is a label's value as well. */
static void parse_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = node->kind == YAML_SCALAR && !*node->text ? "" : cfg_string(cfg, node);

	if (text)
		r->values[r->expression->n_values++] = text;
}

static void parse_values(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->values = cfg_array(cfg, node->n, sizeof(*r->values));
	r->expression->values = r->values;
	if (r->values)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_value, r);
}

static void parse_expression(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("key", parse_key),
	    CFG_FIELD("operator", parse_operator),
	    CFG_FIELD("values", parse_values),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;
	bool compares;

	r->expression = &r->expressions[r->out->n_expressions++];
	r->op = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors)
		return;
	compares = r->expression->op == API_IN || r->expression->op == API_NOT_IN;
	if (!r->expression->key || !r->op)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add both",
			  "an expression needs a key and an operator");
	else if (compares != (r->expression->n_values > 0))
		cfg_error(cfg, &r->op->where, FLAT_DIAG_BAD_VALUE,
			  compares ? "add \"values\"" : "remove \"values\"",
			  "operator %s %s values", r->op->text, compares ? "needs" : "takes no");
}

static void parse_expressions(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->expressions = cfg_array(cfg, node->n, sizeof(*r->expressions));
	r->out->expressions = r->expressions;
	if (r->expressions)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_expression, r);
}

static void parse_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->out->labels = cfg_labels(cfg, node);
}

void cfg_api_selector(struct cfg *cfg, const struct yaml_node *node, struct api_selector *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("matchLabels", parse_labels),
	    CFG_FIELD("matchExpressions", parse_expressions),
	};
	struct reading r = {.out = out};

	out->said = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
}

static bool one_of(const struct api_expression *e, const char *value)
{
	for (uint32_t i = 0; i < e->n_values; i++) {
		if (strcmp(e->values[i], value) == 0)
			return true;
	}
	return false;
}

static bool holds(const struct api_expression *e, const char *have)
{
	switch (e->op) {
	case API_IN:
		return have && one_of(e, have);
	case API_NOT_IN:
		return !have || !one_of(e, have);
	case API_EXISTS:
		return have != NULL;
	case API_DOES_NOT_EXIST:
		return !have;
	}
	return false;
}

bool cfg_api_selects(const struct api_selector *selector, api_label_fn *label, const void *arg)
{
	for (uint32_t i = 0; i < selector->labels.n; i++) {
		const struct flat_label *want = &selector->labels.v[i];
		const char *have = label(arg, want->key);

		if (!have || strcmp(have, want->value) != 0)
			return false;
	}
	for (uint32_t i = 0; i < selector->n_expressions; i++) {
		const struct api_expression *e = &selector->expressions[i];

		if (!holds(e, label(arg, e->key)))
			return false;
	}
	return selector->said;
}
