/* Histograms of requests, with Envoy's buckets. */
#ifndef FLAT_OFFLOAD_HISTOGRAM_H
#define FLAT_OFFLOAD_HISTOGRAM_H

#include <stdint.h>

#include "base/strbuf.h"

#define FLAT_HISTOGRAM_BUCKETS 19

/* Counts by bucket; those above the last one are in none. */
struct flat_histogram {
	double sum;
	uint64_t bucket[FLAT_HISTOGRAM_BUCKETS];
};

void flat_histogram_add(struct flat_histogram *h, double value);

/** Adds all of `from`. */
void flat_histogram_join(struct flat_histogram *h, const struct flat_histogram *from);

/** Appends its lines in Prometheus's text form; `labels` begins with a brace that is open, `n` values were added. */
void flat_histogram_text(const struct flat_histogram *h, uint64_t n, const char *name,
			 const char *labels, struct flat_strbuf *out);

#endif
