#include "offload/histogram.h"

#include <inttypes.h>

/* Upper bounds, ms and bytes: Envoy's. */
static const double buckets[FLAT_HISTOGRAM_BUCKETS] = {
    0.5,  1,	5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

void flat_histogram_add(struct flat_histogram *h, double value)
{
	size_t i = 0;

	while (i < FLAT_HISTOGRAM_BUCKETS && value > buckets[i])
		i++;
	h->sum += value;
	if (i < FLAT_HISTOGRAM_BUCKETS)
		h->bucket[i]++;
}

void flat_histogram_join(struct flat_histogram *h, const struct flat_histogram *from)
{
	h->sum += from->sum;
	for (size_t i = 0; i < FLAT_HISTOGRAM_BUCKETS; i++)
		h->bucket[i] += from->bucket[i];
}

void flat_histogram_text(const struct flat_histogram *h, uint64_t n, const char *name,
			 const char *labels, struct flat_strbuf *out)
{
	const char *comma = labels[1] ? "," : "";
	uint64_t sum = 0;

	for (size_t i = 0; i < FLAT_HISTOGRAM_BUCKETS; i++) {
		sum += h->bucket[i];
		flat_strbuf_printf(out, "%s_bucket%s%sle=\"%g\"} %" PRIu64 "\n", name, labels,
				   comma, buckets[i], sum);
	}
	flat_strbuf_printf(out, "%s_bucket%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, n);
	flat_strbuf_printf(out, "%s_sum%s} %.3f\n", name, labels, h->sum);
	flat_strbuf_printf(out, "%s_count%s} %" PRIu64 "\n", name, labels, n);
}
