/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct perf_clock perf_clock = {.use_tsc = false, .ns_per_tick = 1.0};

#if defined(__x86_64__)
/* Intel SDM vol. 3, 17.17.1 and AMD APM vol. 2, 13.2.4: CPUID 8000_0007h EDX bit 8. */
static bool tsc_is_invariant(void)
{
	unsigned int a, b, c, d;
	if (!__get_cpuid(0x80000007, &a, &b, &c, &d))
		return false;
	return d & (1U << 8);
}
#endif

void perf_clock_init(bool allow_tsc)
{
	perf_clock.use_tsc = false;
	perf_clock.ns_per_tick = 1.0;
#if defined(__x86_64__)
	if (!allow_tsc || !tsc_is_invariant())
		return;
	uint64_t ns0 = perf_monotonic_ns();
	uint64_t tsc0 = __rdtsc();
	struct timespec pause = {.tv_sec = 0, .tv_nsec = 20000000};
	nanosleep(&pause, NULL);
	uint64_t ns1 = perf_monotonic_ns();
	uint64_t tsc1 = __rdtsc();
	if (tsc1 <= tsc0 || ns1 <= ns0)
		return;
	perf_clock.ns_per_tick = (double)(ns1 - ns0) / (double)(tsc1 - tsc0);
	perf_clock.use_tsc = true;
#else
	(void)allow_tsc;
#endif
}
