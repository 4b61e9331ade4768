#include <criterion/criterion.h>

#include "offload/bucket.h"

Test(bucket, gives_its_burst_then_nothing)
{
	struct flat_bucket b;
	flat_bucket_init(&b, 1000, 5, 100);
	for (int i = 0; i < 5; i++)
		cr_assert(flat_bucket_take(&b, 100));
	cr_assert_not(flat_bucket_take(&b, 100));
	cr_assert_eq(flat_bucket_wait_us(&b), 1000);
}

Test(bucket, fills_by_its_rate_and_no_further)
{
	struct flat_bucket b;
	flat_bucket_init(&b, 1000, 3, 0);
	while (flat_bucket_take(&b, 0))
		;
	cr_assert_not(flat_bucket_take(&b, 999));
	cr_assert(flat_bucket_take(&b, 1000));
	cr_assert_not(flat_bucket_take(&b, 1001));
	int n = 0;
	while (flat_bucket_take(&b, 1000000000))
		n++;
	cr_assert_eq(n, 3);
}

Test(bucket, fractions_add_up)
{
	struct flat_bucket b;
	int n = 0;
	flat_bucket_init(&b, 3, 1, 0);
	cr_assert(flat_bucket_take(&b, 0));
	for (int64_t us = 1; us <= 10000000; us += 7)
		n += flat_bucket_take(&b, us);
	cr_assert_geq(n, 29);
	cr_assert_leq(n, 30);
}

Test(bucket, time_that_goes_backwards_gives_nothing)
{
	struct flat_bucket b;
	flat_bucket_init(&b, 1000000000, 1, 1000);
	cr_assert(flat_bucket_take(&b, 1000));
	cr_assert_not(flat_bucket_take(&b, 0));
	cr_assert(flat_bucket_take(&b, 1001));
}

Test(bucket, neither_long_times_nor_large_rates_overflow)
{
	struct flat_bucket b;
	flat_bucket_init(&b, 1000000000, 1000000000, INT64_MIN / 4);
	cr_assert(flat_bucket_take(&b, INT64_MAX / 4));
	cr_assert_eq(flat_bucket_wait_us(&b), 0);
}

Test(bucket, what_was_dearer_is_waited_for)
{
	struct flat_bucket b;
	flat_bucket_init(&b, 1000, 10, 0);
	cr_assert(flat_bucket_take(&b, 0));
	flat_bucket_charge(&b, 11);
	cr_expect_eq(flat_bucket_wait_us(&b), 3000);
	cr_expect_not(flat_bucket_take(&b, 2999));
	cr_expect(flat_bucket_take(&b, 3000));
	/* A burst at most. */
	flat_bucket_charge(&b, UINT64_MAX);
	cr_expect_eq(flat_bucket_wait_us(&b), 11000);
	flat_bucket_charge(&b, 1);
	cr_expect_eq(flat_bucket_wait_us(&b), 11000);
	int n = 0;
	while (flat_bucket_take(&b, 1000000000))
		n++;
	cr_expect_eq(n, 10);
}
