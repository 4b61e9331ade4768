/* Things found by a number: what was put in is found, in which order, and what was taken out is not. */
#include <criterion/criterion.h>
#include <string.h>

#include "offload/index.h"

#define MANY 5000

static struct flat_index x;
static struct flat_indexed v[MANY];

static void setup(void)
{
	memset(&x, 0, sizeof(x));
	memset(v, 0, sizeof(v));
}

static void teardown(void)
{
	flat_index_fini(&x);
}

TestSuite(offload_index, .init = setup, .fini = teardown);

Test(offload_index, finds_what_was_put_in_and_nothing_else)
{
	cr_assert_null(flat_index_find(&x, 7));
	for (uint64_t i = 0; i < MANY; i++)
		flat_index_put(&x, &v[i], i * 3);
	cr_assert_eq(x.n, MANY);
	cr_assert_geq(x.n_chains, MANY / 2);
	for (uint64_t i = 0; i < MANY; i++) {
		cr_assert_eq(flat_index_find(&x, i * 3), &v[i]);
		cr_assert_null(flat_index_find(&x, i * 3 + 1));
	}
}

Test(offload_index, what_was_taken_out_is_gone_and_may_come_again)
{
	for (uint64_t i = 0; i < MANY; i++)
		flat_index_put(&x, &v[i], i);
	for (uint64_t i = 0; i < MANY; i += 2)
		flat_index_remove(&x, &v[i]);
	cr_assert_eq(x.n, MANY / 2);
	for (uint64_t i = 0; i < MANY; i++)
		cr_assert_eq(flat_index_find(&x, i), i % 2 ? &v[i] : NULL);
	flat_index_put(&x, &v[0], UINT64_MAX);
	cr_assert_eq(flat_index_find(&x, UINT64_MAX), &v[0]);
	flat_index_remove(&x, &v[2]);
	cr_assert_eq(x.n, MANY / 2 + 1);
}

Test(offload_index, things_of_one_number_come_last_one_first_also_after_it_grew)
{
	for (size_t i = 0; i < 100; i++)
		flat_index_put(&x, &v[i], i < 3 ? 9 : 1000 + i);
	struct flat_indexed *at = flat_index_find(&x, 9);
	for (size_t i = 3; i-- > 0; at = flat_indexed_next(at))
		cr_assert_eq(at, &v[i]);
	cr_assert_null(at);
}

Test(offload_index, things_of_one_number_may_go_in_any_order)
{
	static const size_t orders[][3] = {{2, 1, 0}, {1, 2, 0}, {0, 1, 2}, {1, 0, 2}};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(orders); i++) {
		for (size_t k = 0; k < 3; k++)
			flat_index_put(&x, &v[k], 9);
		flat_index_remove(&x, &v[orders[i][0]]);
		flat_index_remove(&x, &v[orders[i][1]]);
		cr_assert_eq(flat_index_find(&x, 9), &v[orders[i][2]]);
		cr_assert_null(flat_indexed_next(&v[orders[i][2]]));
		flat_index_remove(&x, &v[orders[i][2]]);
		cr_assert_null(flat_index_find(&x, 9));
	}
	cr_assert_eq(x.n, 0);
}

Test(offload_index, numbers_in_a_row_share_no_long_chain)
{
	for (uint64_t i = 0; i < MANY; i++)
		flat_index_put(&x, &v[i], (1ULL << 40) + i);
	for (uint32_t c = 0; c < x.n_chains; c++) {
		unsigned int n = 0;
		for (const struct flat_indexed *at = x.chains[c]; at; at = at->next)
			n++;
		cr_assert_leq(n, 8);
	}
}
