/* A token bucket: how much of something a party may use at a stretch, and per second in the long run. */
#ifndef FLAT_OFFLOAD_BUCKET_H
#define FLAT_OFFLOAD_BUCKET_H

#include <stdbool.h>

#include "base/base.h"

/* Owner: whoever holds it; one thread. Filled by flat_bucket_init(). */
struct flat_bucket {
	int64_t tokens_micro; /* millionths of a token: exact for each rate and microsecond */
	int64_t last_us;
	int64_t rate_per_s;
	int64_t burst;
};

/** A full bucket of `burst` tokens (1 to 10^9) that fills by `rate_per_s` (1 to 10^9). now_us: a monotonic time. */
static inline void flat_bucket_init(struct flat_bucket *b, int64_t rate_per_s, int64_t burst,
				    int64_t now_us)
{
	b->rate_per_s = rate_per_s;
	b->burst = burst;
	b->tokens_micro = burst * 1000000;
	b->last_us = now_us;
}

/** Takes a token; false: there is none now. Time that goes backwards gives nothing. */
static inline bool flat_bucket_take(struct flat_bucket *b, int64_t now_us)
{
	int64_t full = b->burst * 1000000;
	int64_t us = now_us - b->last_us;
	if (us > 0) {
		b->last_us = now_us;
		/* Longer than filling takes: full, and no product that overflows. */
		if (us > (full - b->tokens_micro) / b->rate_per_s)
			b->tokens_micro = full;
		else
			b->tokens_micro += us * b->rate_per_s;
	}
	if (b->tokens_micro < 1000000)
		return false;
	b->tokens_micro -= 1000000;
	return true;
}

/** Takes `n` tokens more for what a take turned out to cost: there may be up to `burst` less than none. */
static inline void flat_bucket_charge(struct flat_bucket *b, uint64_t n)
{
	int64_t least = -b->burst * 1000000;
	int64_t most = (b->tokens_micro - least) / 1000000;
	b->tokens_micro -= (n < (uint64_t)most ? (int64_t)n : most) * 1000000;
}

/** Microseconds from the last take until there is a token; 0: there is one. */
static inline int64_t flat_bucket_wait_us(const struct flat_bucket *b)
{
	int64_t missing = 1000000 - b->tokens_micro;
	return missing <= 0 ? 0 : (missing + b->rate_per_s - 1) / b->rate_per_s;
}

#endif
