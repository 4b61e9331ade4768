/* SPDX-License-Identifier: Apache-2.0 */
#include "pin.h"

#include <sched.h>
#include <string.h>

void perf_pin(pthread_t thread, const struct perf_opts *o, uint32_t index)
{
	if (!o->pin_count)
		return;
	uint16_t cpu = o->pin[index % o->pin_count];
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	int rc = pthread_setaffinity_np(thread, sizeof(set), &set);
	if (rc)
		fprintf(stderr, "flatperf: processor %u: %s\n", cpu, strerror(rc));
}
