/* Buckets of durations: each holds what it says, in order, and none is wider than a quarter of its least. */
#include <criterion/criterion.h>

#include "offload/tally.h"

Test(tally, buckets_are_in_order_and_narrow)
{
	cr_assert_eq(flat_tally_bucket(-1), 0);
	cr_assert_eq(flat_tally_bucket(0), 0);
	cr_assert_eq(flat_tally_bucket(INT64_MAX), FLAT_TALLY_BUCKETS - 1);
	for (unsigned i = 0; i + 1 < FLAT_TALLY_BUCKETS; i++) {
		double least = flat_tally_least_us(i);
		double next = flat_tally_least_us(i + 1);

		cr_assert_lt(least, next);
		cr_assert_eq(flat_tally_bucket((int64_t)least), i, "%u: %g", i, least);
		cr_assert_eq(flat_tally_bucket((int64_t)next - 1), i, "%u: %g", i, next - 1);
		cr_assert(i < 4 || next <= least * 1.2501, "%u: %g to %g", i, least, next);
	}
	cr_assert_gt(flat_tally_least_us(FLAT_TALLY_BUCKETS - 1), 3.6e9);
}
