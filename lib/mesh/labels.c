#include "mesh/labels.h"

#include <stdlib.h>
#include <string.h>

const char *flat_labels_get(const struct flat_labels *labels, const char *key)
{
	uint32_t low = 0, high = labels->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int cmp = strcmp(labels->v[mid].key, key);

		if (cmp == 0)
			return labels->v[mid].value;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

bool flat_labels_match(const struct flat_labels *selector, const struct flat_labels *labels)
{
	uint32_t i;

	for (i = 0; i < selector->n; i++) {
		const char *value = flat_labels_get(labels, selector->v[i].key);

		if (!value || strcmp(value, selector->v[i].value) != 0)
			return false;
	}
	return true;
}

static int label_cmp(const void *a, const void *b)
{
	const struct flat_label *la = a, *lb = b;

	return strcmp(la->key, lb->key);
}

void flat_labels_sort(struct flat_label *v, uint32_t n)
{
	if (n > 1)
		qsort(v, n, sizeof(*v), label_cmp);
}
