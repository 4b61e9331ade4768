/* What a cluster picks, and what it knows of its endpoints while they come and go. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "offload/cluster.h"

static struct flat_map clusters;
static struct flat_endpoint v[4];
static bool up[4];

static bool is_up(void *arg, uint32_t i, const struct flat_endpoint *e)
{
	(void)arg;
	(void)e;
	return up[i];
}

static struct flat_addr addr(int i)
{
	struct flat_addr a = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, (uint8_t)(i + 1)}};

	return a;
}

static struct flat_cluster *setup(void)
{
	for (int i = 0; i < 4; i++) {
		v[i] = (struct flat_endpoint){.port = 80, .weight = 1};
		v[i].ip = flat_ip_from_v4(0x0a000001U + (uint32_t)i);
		up[i] = true;
	}
	return flat_cluster_get(&clusters, "a.example", 80, "");
}

static struct flat_choice choice_of(const struct flat_lb *lb, uint32_t n)
{
	return (struct flat_choice){.lb = lb, .v = v, .n = n, .usable = is_up};
}

static bool nobody(const void *arg, const char *host, uint16_t port)
{
	(void)arg;
	(void)host;
	(void)port;
	return false;
}

Test(cluster, a_key_is_host_port_and_subset)
{
	struct flat_cluster *c = setup();

	cr_assert(c);
	cr_expect_eq(flat_cluster_get(&clusters, "a.example", 80, ""), c);
	cr_expect_neq(flat_cluster_get(&clusters, "a.example", 81, ""), c);
	cr_expect_neq(flat_cluster_get(&clusters, "a.example", 80, "v1"), c);
	cr_expect_neq(flat_cluster_get(&clusters, "b.example", 80, ""), c);
	flat_clusters_free(&clusters);
}

Test(cluster, only_usable_ones_are_picked)
{
	static const enum flat_lb_kind kinds[] = {FLAT_LB_ROUND_ROBIN, FLAT_LB_LEAST_REQUEST,
						  FLAT_LB_RANDOM, FLAT_LB_RING_HASH,
						  FLAT_LB_MAGLEV};
	struct flat_cluster *c = setup();

	for (size_t k = 0; k < FLAT_ARRAY_SIZE(kinds); k++) {
		struct flat_lb lb = {.kind = kinds[k], .size = 101};
		struct flat_choice choice = choice_of(&lb, 4);

		choice.hashed = true;
		memset(up, 0, sizeof(up));
		cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
		up[2] = true;
		for (int i = 0; i < 20; i++) {
			choice.hash = flat_xxh64(&i, sizeof(i), 0);
			cr_expect_eq(flat_cluster_pick(c, &choice), 2, "%s",
				     flat_lb_name(kinds[k]));
		}
		choice.n = 0;
		cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
	}
	flat_clusters_free(&clusters);
}

Test(cluster, random_goes_by_weight)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_RANDOM};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 2);
	int n[2] = {0};

	c->random = 1;
	v[1].weight = 3;
	for (int i = 0; i < 4000; i++)
		n[flat_cluster_pick(c, &choice)]++;
	/* The generator's beginning is set: the same draws each time. */
	cr_expect(n[0] > 900 && n[0] < 1100, "%d", n[0]);
	flat_clusters_free(&clusters);
}

Test(cluster, the_busier_of_two_is_left)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_LEAST_REQUEST};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 2);
	struct flat_addr busy = addr(0);
	int n[2] = {0};

	c->random = 1;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	flat_cluster_enter(c, &busy);
	for (int i = 0; i < 1000; i++)
		n[flat_cluster_pick(c, &choice)]++;
	/* Drawn twice: a quarter. */
	cr_expect(n[0] > 200 && n[0] < 300, "%d", n[0]);
	flat_cluster_leave(c, &busy);
	cr_expect_eq(c->hosts[0].active, 0);
	flat_clusters_free(&clusters);
}

Test(cluster, what_is_known_goes_with_the_address)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_LEAST_REQUEST};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 3);
	struct flat_addr second = addr(1);

	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	flat_cluster_enter(c, &second);
	/* The first one goes: all others move up. */
	choice.v = v + 1;
	choice.n = 2;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	cr_expect_eq(c->hosts[0].active, 1);
	cr_expect_eq(c->hosts[1].active, 0);
	/* It goes with a request on its way, and comes back. */
	choice.v = v + 2;
	choice.n = 1;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	choice.v = v;
	choice.n = 3;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	flat_cluster_leave(c, &second);
	cr_expect_eq(c->hosts[1].active, 0);
	cr_expect_eq(c->busy, 0);
	flat_clusters_free(&clusters);
}

Test(cluster, the_table_follows_the_endpoints)
{
	static const struct flat_lb ring = {.kind = FLAT_LB_RING_HASH, .size = 64};
	static const struct flat_lb maglev = {.kind = FLAT_LB_MAGLEV, .size = 101};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&ring, 3);
	uint64_t sum;
	int i;

	choice.hashed = true;
	choice.hash = 42;
	i = flat_cluster_pick(c, &choice);
	cr_assert_geq(i, 0);
	sum = c->sum;
	cr_expect_eq(flat_cluster_pick(c, &choice), i);
	cr_expect_eq(c->sum, sum);
	up[i] = false;
	cr_expect_neq(flat_cluster_pick(c, &choice), i);
	cr_expect_neq(c->sum, sum);
	up[i] = true;
	cr_expect_eq(flat_cluster_pick(c, &choice), i);
	choice.lb = &maglev;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
	cr_expect_eq(c->table.n, 101);
	flat_clusters_free(&clusters);
}

Test(cluster, a_question_changes_nothing)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_RANDOM};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 4);
	int i;

	choice.dry = true;
	i = flat_cluster_pick(c, &choice);
	for (int k = 0; k < 10; k++)
		cr_expect_eq(flat_cluster_pick(c, &choice), i);
	choice.dry = false;
	cr_expect_eq(flat_cluster_pick(c, &choice), i);
	flat_clusters_free(&clusters);
}

/* A request that is on its way when its service goes. */
Test(cluster, one_that_is_dropped_stays_while_a_request_holds_it)
{
	struct flat_cluster *c = setup();
	struct flat_addr a = addr(0);

	flat_cluster_enter(c, &a);
	flat_cluster_enter(c, &a);
	flat_clusters_keep(&clusters, nobody, NULL);
	cr_expect_eq(clusters.n, 0);
	flat_cluster_leave(c, &a);
	cr_expect(c->dropped);
	flat_cluster_leave(c, &a);
	cr_expect_neq(flat_cluster_get(&clusters, "a.example", 80, ""), NULL);
	flat_clusters_free(&clusters);
}
