/* SPDX-License-Identifier: Apache-2.0 */
#include "hist.h"

#include <string.h>

_Static_assert(PERF_HIST_MAX_BITS < 64, "a bucket's upper bound must fit 64 bits");

void perf_hist_init(struct perf_hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

uint32_t perf_hist_index(uint64_t value)
{
	if (value >> PERF_HIST_MAX_BITS)
		return PERF_HIST_BUCKETS - 1;
	if (!(value >> (PERF_HIST_BITS + 1)))
		return (uint32_t)value;
	/* value has at least PERF_HIST_BITS + 2 bits, so exp is 1 or more. */
	uint32_t exp = 63 - (uint32_t)__builtin_clzll(value) - PERF_HIST_BITS;
	return (exp << PERF_HIST_BITS) + (uint32_t)(value >> exp);
}

uint64_t perf_hist_upper(uint32_t index)
{
	if (index < (2U << PERF_HIST_BITS))
		return index;
	uint32_t exp = (index >> PERF_HIST_BITS) - 1;
	uint64_t low = (uint64_t)(index - (exp << PERF_HIST_BITS)) << exp;
	return low + (((uint64_t)1 << exp) - 1);
}

void perf_hist_add(struct perf_hist *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->bucket[perf_hist_index(value)]++;
}

void perf_hist_merge(struct perf_hist *into, const struct perf_hist *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	for (uint32_t i = 0; i < PERF_HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t perf_hist_percentile(const struct perf_hist *h, double percent)
{
	if (!h->count)
		return 0;
	double exact = percent / 100.0 * (double)h->count;
	uint64_t rank = (uint64_t)exact;
	if ((double)rank < exact || !rank)
		rank++;
	uint64_t seen = 0;
	for (uint32_t i = 0; i < PERF_HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen < rank)
			continue;
		/* The last bucket also holds what lay beyond it. */
		uint64_t upper = i == PERF_HIST_BUCKETS - 1 ? h->max : perf_hist_upper(i);
		return upper < h->max ? upper : h->max;
	}
	return h->max;
}

double perf_hist_mean(const struct perf_hist *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0.0;
}
