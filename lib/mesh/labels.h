/* Labels: sets of key and value, and selecting by them as Kubernetes does. */
#ifndef FLAT_MESH_LABELS_H
#define FLAT_MESH_LABELS_H

#include <stdbool.h>

#include "base/base.h"

struct flat_label {
	const char *key;
	const char *value;
};

/* Sorted by key, keys unique. Immutable. All-zero is the empty set. */
struct flat_labels {
	const struct flat_label *v;
	uint32_t n;
};

/** The value of a label, or NULL. */
const char *flat_labels_get(const struct flat_labels *labels, const char *key);

/** Whether `labels` holds every pair of `selector`; the empty selector selects everything. */
bool flat_labels_match(const struct flat_labels *selector, const struct flat_labels *labels);

/** Sorts `v` (n elements) by key, as struct flat_labels wants it. */
void flat_labels_sort(struct flat_label *v, uint32_t n);

#endif
