/* The time since the machine has started (CLOCK_MONOTONIC), which nobody sets. */
#ifndef FLAT_BASE_CLOCK_H
#define FLAT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/** Nanoseconds. No system call where the vDSO has the clock; errno stays. */
static inline int64_t flat_now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/** Microseconds. */
static inline int64_t flat_now_us(void)
{
	return flat_now_ns() / 1000;
}

/** Milliseconds. */
static inline int64_t flat_now_ms(void)
{
	return flat_now_ns() / 1000000;
}

/** Milliseconds as they were at the last tick of the kernel (CLOCK_MONOTONIC_COARSE): up to 10 ms less. */
static inline int64_t flat_now_coarse_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/** `ms` as the moment that the waits of pthreads and of the kernel take. */
static inline struct timespec flat_timespec_of_ms(int64_t ms)
{
	return (struct timespec){.tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000};
}

#endif
