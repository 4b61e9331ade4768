/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-linear latency histogram: constant memory, constant relative error.
 *
 * Values below 2^(PERF_HIST_BITS + 1) have a bucket each; above that every power of two is cut
 * into 2^PERF_HIST_BITS equal buckets, so a reported value is at most 1/128 above the true one.
 * The idea is that of HdrHistogram (Gil Tene); the layout is our own.
 */
#ifndef PERF_HIST_H
#define PERF_HIST_H

#include <stdint.h>

#define PERF_HIST_BITS 7
/* 2^40 ns is 18 minutes: longer than any wait a benchmark here can see. */
#define PERF_HIST_MAX_BITS 40
#define PERF_HIST_BUCKETS (((PERF_HIST_MAX_BITS - PERF_HIST_BITS) + 1) << PERF_HIST_BITS)

/* Owner: one thread; merged after that thread has ended. All-zero is the empty histogram, except
 * for min, which perf_hist_init sets. */
struct perf_hist {
	uint64_t count;
	uint64_t sum; /* of the values as given, not as bucketed; ns */
	uint64_t min; /* UINT64_MAX while empty */
	uint64_t max; /* exact, also where the value lay beyond the last bucket */
	uint64_t bucket[PERF_HIST_BUCKETS];
};

/** perf_hist_init() - make @h empty. */
void perf_hist_init(struct perf_hist *h);

/** perf_hist_index() - the bucket of @value; values past the last bucket fall in the last. */
uint32_t perf_hist_index(uint64_t value);

/** perf_hist_upper() - the largest value that falls in bucket @index (< PERF_HIST_BUCKETS). */
uint64_t perf_hist_upper(uint32_t index);

/** perf_hist_add() - count one @value (ns). No allocation, no system call. */
void perf_hist_add(struct perf_hist *h, uint64_t value);

/** perf_hist_merge() - add all of @from to @into. */
void perf_hist_merge(struct perf_hist *into, const struct perf_hist *from);

/**
 * perf_hist_percentile() - the value that @percent (0 < percent <= 100) of all values do not exceed.
 *
 * Rounded up to the top of its bucket, never above the largest value seen. 0 when empty.
 */
uint64_t perf_hist_percentile(const struct perf_hist *h, double percent);

/** perf_hist_mean() - the arithmetic mean in ns, 0 when empty. */
double perf_hist_mean(const struct perf_hist *h);

#endif
