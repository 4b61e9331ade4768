/*
 * Consistent hashing. The expected picks were given by Envoy 1.40 (RING_HASH with minimum_ring_size 1024, MAGLEV with
 * table_size 65537, hash_policy by header) for 127.0.0.1:26101 to 26103 with the weights 1, 2, 4: a digit for each of
 * the values "key-0", "key-1", ...
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/hashing.h"

static const char ring_of_envoy[] = "333332313331322233222233233323322222332231323333333323322323";
static const char maglev_of_envoy[] =
    "312333223323131333232322212322321321233132213323323233123312";

static const struct flat_hash_host three[] = {
    {"127.0.0.1:26101", 1, 1}, {"127.0.0.1:26102", 2, 2}, {"127.0.0.1:26103", 4, 3}};

static void build(struct flat_hash_table *t, enum flat_lb_kind kind, uint32_t size, bool backwards)
{
	struct flat_hash_host hosts[3];

	for (int i = 0; i < 3; i++)
		hosts[i] = three[backwards ? 2 - i : i];
	cr_assert_eq(flat_hash_table_build(t, kind, size, hosts, 3), 0);
}

static void expect_picks(const struct flat_hash_table *t, const char *want)
{
	for (int i = 0; want[i]; i++) {
		char key[16];
		int len = snprintf(key, sizeof(key), "key-%d", i);

		cr_expect_eq(flat_hash_table_pick(t, flat_xxh64(key, (size_t)len, 0), 0),
			     want[i] - '0', "%s", key);
	}
}

Test(hashing, the_ring_picks_as_envoy_does)
{
	struct flat_hash_table t = {0};

	build(&t, FLAT_LB_RING_HASH, FLAT_RING_SIZE_DEFAULT, false);
	expect_picks(&t, ring_of_envoy);
	flat_hash_table_fini(&t);
}

Test(hashing, maglev_picks_as_envoy_does)
{
	struct flat_hash_table t = {0};

	build(&t, FLAT_LB_MAGLEV, FLAT_MAGLEV_SIZE_DEFAULT, false);
	expect_picks(&t, maglev_of_envoy);
	flat_hash_table_fini(&t);
}

Test(hashing, the_order_of_hosts_is_nothing)
{
	struct flat_hash_table t = {0};

	build(&t, FLAT_LB_RING_HASH, FLAT_RING_SIZE_DEFAULT, true);
	expect_picks(&t, ring_of_envoy);
	build(&t, FLAT_LB_MAGLEV, FLAT_MAGLEV_SIZE_DEFAULT, true);
	expect_picks(&t, maglev_of_envoy);
	flat_hash_table_fini(&t);
}

/* Each size of table that a few hosts meet: full, and shared by weight. */
Test(hashing, maglev_tables_are_full_and_even)
{
	static const uint32_t sizes[] = {2, 3, 5, 7, 101, 65537};
	struct flat_hash_table t = {0};

	for (size_t s = 0; s < FLAT_ARRAY_SIZE(sizes); s++) {
		uint32_t n[4] = {0};

		build(&t, FLAT_LB_MAGLEV, sizes[s], false);
		cr_assert_eq(t.n, sizes[s]);
		for (uint32_t i = 0; i < t.n; i++) {
			cr_assert(t.entries[i] >= 1 && t.entries[i] <= 3);
			n[t.entries[i]]++;
		}
		if (sizes[s] == 65537)
			cr_expect(n[1] == 9363 && n[2] >= 18724 && n[2] <= 18725 && n[3] >= 37449,
				  "%u %u %u", n[1], n[2], n[3]);
	}
	flat_hash_table_fini(&t);
}

/* What makes it consistent: only the keys of the host that left go elsewhere. */
Test(hashing, a_host_that_leaves_moves_its_keys_alone)
{
	struct flat_hash_host two[] = {three[0], three[1]};
	struct flat_hash_table t = {0};
	int before[1000];
	struct flat_hash_host even[3];

	for (int i = 0; i < 3; i++) {
		even[i] = three[i];
		even[i].weight = 1;
	}
	two[1].weight = 1;
	cr_assert_eq(flat_hash_table_build(&t, FLAT_LB_RING_HASH, 1024, even, 3), 0);
	for (int i = 0; i < 1000; i++)
		before[i] = flat_hash_table_pick(&t, flat_xxh64(&i, sizeof(i), 0), 0);
	/* The same number of points for each host that stays. */
	cr_assert_eq(flat_hash_table_build(&t, FLAT_LB_RING_HASH, 684, two, 2), 0);
	for (int i = 0; i < 1000; i++) {
		int now = flat_hash_table_pick(&t, flat_xxh64(&i, sizeof(i), 0), 0);

		cr_expect(before[i] == 3 || before[i] == now, "key %d: %d, then %d", i, before[i],
			  now);
	}
	flat_hash_table_fini(&t);
}

Test(hashing, no_host_and_one)
{
	struct flat_hash_table t = {0};
	struct flat_hash_host one = {"10.0.0.1:80", 4000000000U, 7};

	cr_expect_eq(flat_hash_table_build(&t, FLAT_LB_RING_HASH, 1024, &one, 0), 0);
	cr_expect_eq(flat_hash_table_pick(&t, 1, 0), -ENOENT);
	cr_assert_eq(flat_hash_table_build(&t, FLAT_LB_RING_HASH, 1, &one, 1), 0);
	cr_expect_eq(flat_hash_table_pick(&t, 0, 0), 7);
	cr_expect_eq(flat_hash_table_pick(&t, UINT64_MAX, 0), 7);
	cr_assert_eq(flat_hash_table_build(&t, FLAT_LB_MAGLEV, 2, &one, 1), 0);
	cr_expect_eq(flat_hash_table_pick(&t, UINT64_MAX, 0), 7);
	flat_hash_table_fini(&t);
}

/* A ring for weights far apart would have 4e9 points. */
Test(hashing, the_ring_is_bounded)
{
	struct flat_hash_table t = {0};
	struct flat_hash_host two[] = {{"10.0.0.1:80", 1, 0}, {"10.0.0.2:80", 4000000, 1}};

	cr_assert_eq(flat_hash_table_build(&t, FLAT_LB_RING_HASH, 1024, two, 2), 0);
	cr_expect(t.n <= FLAT_RING_SIZE_MAX);
	cr_expect_eq(t.ring[0].index, 1);
	for (uint32_t i = 1; i < t.n; i++)
		cr_assert(t.ring[i - 1].hash <= t.ring[i].hash);
	flat_hash_table_fini(&t);
}

Test(hashing, primes)
{
	static const uint32_t good[] = {2, 3, 5, 7, 65537, 5000011};
	static const uint32_t bad[] = {0, 1, 4, 9, 65536, 5000013};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(good); i++)
		cr_expect(flat_is_prime(good[i]), "%u", good[i]);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++)
		cr_expect_not(flat_is_prime(bad[i]), "%u", bad[i]);
}
