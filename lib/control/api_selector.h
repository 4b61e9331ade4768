/* A label selector of Kubernetes (meta/v1 LabelSelector): labels that are there, and what is asked of others. */
#ifndef FLAT_CONTROL_API_SELECTOR_H
#define FLAT_CONTROL_API_SELECTOR_H

#include "control/schema.h"

enum api_operator {
	API_IN,
	API_NOT_IN,
	API_EXISTS,
	API_DOES_NOT_EXIST,
};

/* One of `matchExpressions`. */
struct api_expression {
	const char *key;
	enum api_operator op;
	const char *const *values; /* of IN and NOT_IN: one at least */
	uint32_t n_values;
};

struct api_selector {
	bool said; /* else it selects nothing; one of nothing selects everything */
	struct flat_labels labels;
	const struct api_expression *expressions;
	uint32_t n_expressions;
};

/** Reads one. */
void cfg_api_selector(struct cfg *cfg, const struct yaml_node *node, struct api_selector *out);

/* The value of a label, or NULL. */
typedef const char *api_label_fn(const void *arg, const char *key);

/** Whether it holds for what has these labels. */
bool cfg_api_selects(const struct api_selector *selector, api_label_fn *label, const void *arg);

#endif
