/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time for measurements: the processor's counter where it runs at one rate in all power states and
 * on all cores, else CLOCK_MONOTONIC. A 64-byte round trip over shared memory takes a few hundred
 * ns, of which two clock_gettime calls would be a visible part.
 */
#ifndef PERF_CLOCK_H
#define PERF_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

struct perf_clock {
	bool use_tsc;
	double ns_per_tick; /* 1.0 when use_tsc is false */
};

/* Written once by perf_clock_init before any thread starts, then only read. */
extern struct perf_clock perf_clock;

/** perf_clock_init() - choose the clock; @allow_tsc false forces CLOCK_MONOTONIC. Blocks 20 ms to
 *  calibrate where the processor's counter is used. */
void perf_clock_init(bool allow_tsc);

/** perf_monotonic_ns() - CLOCK_MONOTONIC in ns. */
static inline uint64_t perf_monotonic_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/** perf_ticks() - now, in ticks of the chosen clock. */
static inline uint64_t perf_ticks(void)
{
#if defined(__x86_64__)
	if (perf_clock.use_tsc)
		return __rdtsc();
#endif
	return perf_monotonic_ns();
}

/** perf_ticks_to_ns() - a duration in @ticks, as ns. */
static inline uint64_t perf_ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)((double)ticks * perf_clock.ns_per_tick);
}

/** perf_ns_to_ticks() - a duration of @ns, as ticks. */
static inline uint64_t perf_ns_to_ticks(double ns)
{
	return (uint64_t)(ns / perf_clock.ns_per_tick);
}

/** perf_relax() - tell the processor that this is a wait loop. */
static inline void perf_relax(void)
{
#if defined(__x86_64__)
	_mm_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

#endif
