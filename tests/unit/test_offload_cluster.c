/* What a cluster picks, and what it knows of its endpoints while they come and go. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/cluster.h"

static struct flat_map clusters;
static struct flat_endpoint v[4];
static bool up[4];

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

static struct flat_endpoint usable[4];
static int number[4];
static uint64_t stamp;

/* Of the first n those that are up. */
static struct flat_choice choice_of(const struct flat_lb *lb, uint32_t n)
{
	struct flat_choice choice = {.traffic = {.lb = lb}, .v = usable, .stamp = ++stamp};

	for (uint32_t i = 0; i < n; i++) {
		if (!up[i])
			continue;
		number[choice.n] = (int)i;
		usable[choice.n++] = v[i];
	}
	return choice;
}

static int pick(struct flat_cluster *c, const struct flat_choice *choice)
{
	int i = flat_cluster_pick(c, choice);

	return i < 0 ? i : number[i];
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
		struct flat_choice choice;

		memset(up, 0, sizeof(up));
		choice = choice_of(&lb, 4);
		cr_expect_eq(pick(c, &choice), -EHOSTUNREACH);
		up[2] = true;
		choice = choice_of(&lb, 4);
		choice.hashed = true;
		for (int i = 0; i < 20; i++) {
			choice.hash = flat_xxh64(&i, sizeof(i), 0);
			cr_expect_eq(pick(c, &choice), 2, "%s", flat_lb_name(kinds[k]));
		}
	}
	flat_clusters_free(&clusters);
}

Test(cluster, random_goes_by_weight)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_RANDOM};
	struct flat_cluster *c = setup();
	struct flat_choice choice;
	int n[2] = {0};

	c->random = 1;
	v[1].weight = 3;
	choice = choice_of(&lb, 2);
	for (int i = 0; i < 4000; i++)
		n[pick(c, &choice)]++;
	/* The generator's beginning is set: the same draws each time. */
	cr_expect(n[0] > 900 && n[0] < 1100, "%d", n[0]);
	flat_clusters_free(&clusters);
}

Test(cluster, the_busier_of_two_is_left)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_LEAST_REQUEST};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 2);
	struct flat_cluster_host *busy;
	int n[2] = {0};

	c->random = 1;
	cr_assert_geq(pick(c, &choice), 0);
	busy = c->hosts[0];
	flat_cluster_enter(c, busy);
	for (int i = 0; i < 1000; i++)
		n[pick(c, &choice)]++;
	/* Drawn twice: a quarter. */
	cr_expect(n[0] > 200 && n[0] < 300, "%d", n[0]);
	flat_cluster_leave(c, busy);
	cr_expect_eq(c->hosts[0]->active, 0);
	flat_clusters_free(&clusters);
}

Test(cluster, what_is_known_goes_with_the_address)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_LEAST_REQUEST};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 3);
	struct flat_cluster_host *second;

	cr_assert_geq(pick(c, &choice), 0);
	second = c->hosts[1];
	flat_cluster_enter(c, second);
	/* The first one goes: all others move up. */
	up[0] = false;
	choice = choice_of(&lb, 3);
	cr_assert_geq(pick(c, &choice), 0);
	cr_expect_eq(c->hosts[0], second);
	cr_expect_eq(c->hosts[0]->active, 1);
	cr_expect_eq(c->hosts[1]->active, 0);
	/* It goes with a request on its way: the request's end is its own. */
	up[1] = false;
	choice = choice_of(&lb, 3);
	cr_assert_geq(pick(c, &choice), 0);
	up[0] = up[1] = true;
	choice = choice_of(&lb, 3);
	cr_assert_geq(pick(c, &choice), 0);
	cr_expect_eq(c->hosts[1]->active, 0);
	flat_cluster_leave(c, second);
	cr_expect_eq(c->hosts[1]->active, 0);
	cr_expect_eq(c->n_requests, 0);
	flat_clusters_free(&clusters);
}

Test(cluster, the_table_follows_the_endpoints)
{
	static const struct flat_lb ring = {.kind = FLAT_LB_RING_HASH, .size = 64};
	static const struct flat_lb maglev = {.kind = FLAT_LB_MAGLEV, .size = 101};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&ring, 3);
	int i;

	choice.hashed = true;
	choice.hash = 42;
	i = pick(c, &choice);
	cr_assert_geq(i, 0);
	cr_expect_eq(pick(c, &choice), i);
	up[i] = false;
	choice = choice_of(&ring, 3);
	choice.hashed = true;
	choice.hash = 42;
	cr_expect_neq(pick(c, &choice), i);
	up[i] = true;
	choice = choice_of(&ring, 3);
	choice.hashed = true;
	choice.hash = 42;
	cr_expect_eq(pick(c, &choice), i);
	choice.traffic.lb = &maglev;
	choice.stamp = ++stamp;
	cr_assert_geq(pick(c, &choice), 0);
	flat_clusters_free(&clusters);
}

/* Shares over a full turn, also where another endpoint came meanwhile. */
Test(cluster, turns_are_exact)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_ROUND_ROBIN};
	struct flat_cluster *c = setup();
	struct flat_choice choice;
	int n[4] = {0};

	v[1].weight = 3;
	choice = choice_of(&lb, 3);
	for (int i = 0; i < 50; i++)
		n[pick(c, &choice)]++;
	cr_expect_eq(n[0], 10);
	cr_expect_eq(n[1], 30);
	cr_expect_eq(n[2], 10);
	flat_clusters_free(&clusters);
}

/* Where weights differ: exact shares while nobody has anything to do, less for whom has. */
Test(cluster, least_request_heeds_weights)
{
	struct flat_cluster *c = setup();
	struct flat_choice choice;
	int n[4] = {0};

	v[1].weight = 3;
	choice = choice_of(NULL, 2);
	for (int i = 0; i < 400; i++)
		n[pick(c, &choice)]++;
	cr_expect_eq(n[0], 100);
	cr_expect_eq(n[1], 300);
	/* Two requests on their way: its weight is one. */
	flat_cluster_enter(c, c->hosts[1]);
	flat_cluster_enter(c, c->hosts[1]);
	memset(n, 0, sizeof(n));
	for (int i = 0; i < 400; i++)
		n[pick(c, &choice)]++;
	cr_expect(n[0] >= 198 && n[0] <= 202, "%d", n[0]);
	flat_cluster_leave(c, c->hosts[1]);
	flat_cluster_leave(c, c->hosts[1]);
	flat_clusters_free(&clusters);
}

Test(cluster, one_that_was_tried_is_avoided)
{
	static const enum flat_lb_kind kinds[] = {FLAT_LB_ROUND_ROBIN, FLAT_LB_LEAST_REQUEST,
						  FLAT_LB_RING_HASH};
	struct flat_cluster *c = setup();
	struct flat_addr tried = addr(2);

	c->random = 7;
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(kinds); k++) {
		struct flat_lb lb = {.kind = kinds[k], .size = 1024};
		struct flat_choice choice = choice_of(&lb, 3);
		int again = 0;

		choice.avoid = &tried;
		choice.n_avoid = 1;
		for (int i = 0; i < 300; i++) {
			choice.hashed = true;
			choice.hash = flat_xxh64(&i, sizeof(i), 0);
			again += pick(c, &choice) == 2;
		}
		/* Five looks: one in 3^5. */
		cr_expect_lt(again, 15, "%s: %d", flat_lb_name(kinds[k]), again);
	}
	flat_clusters_free(&clusters);
}

/* Slow start: at the half of its time a newcomer has half of its share, and the least before. */
Test(cluster, a_newcomer_warms_up)
{
	static const struct flat_lb lb = {
	    .kind = FLAT_LB_ROUND_ROBIN,
	    .warmup = {.ms = 60000, .min_percent = 10, .aggression = 1},
	};
	static const struct {
		int64_t age_s;
		int of_100;
	} table[] = {{1, 9}, {30, 33}, {60, 50}, {3600, 50}};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 1);

	choice.now_us = 1000000;
	cr_assert_eq(pick(c, &choice), 0);
	choice = choice_of(&lb, 2);
	choice.now_us = 2000000;
	cr_assert_geq(pick(c, &choice), 0);
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(table); k++) {
		int n = 0;

		choice.now_us = 2000000 + table[k].age_s * 1000000;
		for (int i = 0; i < 1000; i++)
			n += pick(c, &choice) == 1;
		cr_expect(abs(n - table[k].of_100 * 10) <= 10, "after %lld s: %d of 1000",
			  (long long)table[k].age_s, n);
	}
	flat_clusters_free(&clusters);
}

Test(cluster, a_question_changes_nothing)
{
	static const struct flat_lb lb = {.kind = FLAT_LB_RANDOM};
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(&lb, 4);
	int i;

	choice.dry = true;
	i = pick(c, &choice);
	for (int k = 0; k < 10; k++)
		cr_expect_eq(pick(c, &choice), i);
	choice.dry = false;
	cr_expect_eq(pick(c, &choice), i);
	flat_clusters_free(&clusters);
}

/* A request that is on its way when its service goes. */
Test(cluster, one_that_is_dropped_stays_while_a_request_holds_it)
{
	struct flat_cluster *c = setup();
	struct flat_choice choice = choice_of(NULL, 1);
	struct flat_cluster_host *h;

	cr_assert_eq(pick(c, &choice), 0);
	h = c->hosts[0];
	flat_cluster_enter(c, h);
	flat_cluster_enter(c, h);
	flat_clusters_keep(&clusters, nobody, NULL);
	cr_expect_eq(clusters.n, 0);
	flat_cluster_leave(c, h);
	cr_expect(c->dropped);
	flat_cluster_leave(c, h);
	cr_expect_neq(flat_cluster_get(&clusters, "a.example", 80, ""), NULL);
	flat_clusters_free(&clusters);
}
