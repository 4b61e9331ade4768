/* Who is put aside, for how long, and how many at once: Envoy's rules, one by one. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "offload/cluster.h"

#define S ((int64_t)1000000)

static struct flat_map clusters;
static struct flat_endpoint v[10];
static struct flat_outlier outlier;
static struct flat_choice choice;
static struct flat_cluster *c;
static const struct flat_lb lb = {.kind = FLAT_LB_ROUND_ROBIN};
static int64_t start_us;

static void begin(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		v[i] = (struct flat_endpoint){.port = 80, .weight = 1};
		v[i].ip = flat_ip_from_v4(0x0a000001U + i);
	}
	outlier = (struct flat_outlier){.consecutive_5xx = 3,
					.consecutive_local = 2,
					.interval_ms = 10000,
					.base_ms = 30000,
					.max_percent = 100};
	choice = (struct flat_choice){.v = v, .n = n, .stamp = 1};
	choice.traffic.lb = &lb;
	choice.traffic.outlier = &outlier;
	c = flat_cluster_get(&clusters, "a.example", 80, "");
	cr_assert(c);
	start_us = choice.now_us = c->sweep_us;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
}

/* What the settings are from now on. */
static void settle(void)
{
	choice.stamp++;
	(void)!flat_cluster_pick(c, &choice);
}

static void note(uint32_t i, enum flat_outcome outcome, unsigned status, int times)
{
	while (times-- > 0)
		flat_outlier_note(c, c->hosts[i], outcome, status, choice.now_us);
}

static void statuses(uint32_t i, unsigned status, int times)
{
	note(i, FLAT_OUTCOME_STATUS, status, times);
}

static void at(int64_t seconds)
{
	choice.now_us = start_us + seconds * S;
	flat_outlier_sweep(c, choice.now_us);
}

Test(outlier, errors_in_a_row_count_and_no_others)
{
	begin(2);
	statuses(0, 500, 2);
	statuses(0, 200, 1);
	statuses(0, 500, 2);
	cr_expect_not(c->hosts[0]->ejected);
	statuses(0, 404, 1);
	statuses(0, 503, 3);
	cr_expect(c->hosts[0]->ejected);
	for (int i = 0; i < 10; i++)
		cr_expect_eq(flat_cluster_pick(c, &choice), 1);
	flat_clusters_free(&clusters);
}

Test(outlier, gateway_errors_have_a_count_of_their_own)
{
	begin(2);
	outlier.consecutive_5xx = 0;
	outlier.consecutive_gateway = 2;
	settle();
	statuses(0, 500, 9);
	cr_expect_not(c->hosts[0]->ejected);
	statuses(0, 502, 1);
	statuses(0, 500, 1);
	statuses(0, 504, 1);
	cr_expect_not(c->hosts[0]->ejected);
	statuses(0, 503, 1);
	cr_expect(c->hosts[0]->ejected);
	flat_clusters_free(&clusters);
}

Test(outlier, errors_of_ours_count_as_503_unless_they_are_split)
{
	begin(2);
	note(0, FLAT_OUTCOME_FAILED, 0, 1);
	note(0, FLAT_OUTCOME_CONNECT, 0, 1);
	note(0, FLAT_OUTCOME_TIMEOUT, 0, 2);
	cr_expect(c->hosts[0]->ejected);
	outlier.split = true;
	outlier.consecutive_5xx = 1;
	settle();
	note(1, FLAT_OUTCOME_FAILED, 0, 1);
	note(1, FLAT_OUTCOME_CONNECT, 0, 1);
	note(1, FLAT_OUTCOME_FAILED, 0, 1);
	cr_expect_not(c->hosts[1]->ejected);
	note(1, FLAT_OUTCOME_TIMEOUT, 0, 1);
	cr_expect(c->hosts[1]->ejected);
	flat_clusters_free(&clusters);
}

Test(outlier, a_connection_without_http_counts_its_beginning)
{
	begin(2);
	note(0, FLAT_OUTCOME_FAILED, 0, 2);
	note(0, FLAT_OUTCOME_OPENED, 0, 1);
	note(0, FLAT_OUTCOME_FAILED, 0, 2);
	cr_expect_not(c->hosts[0]->ejected);
	note(0, FLAT_OUTCOME_FAILED, 0, 1);
	cr_expect(c->hosts[0]->ejected);
	flat_clusters_free(&clusters);
}

/* Base time as often as it happened; looked at every interval; shorter again after good ones. */
Test(outlier, the_time_aside_grows_and_shrinks)
{
	begin(2);
	at(1);
	statuses(0, 500, 3);
	at(30);
	cr_expect(c->hosts[0]->ejected, "29 s are not 30");
	at(40);
	cr_expect_not(c->hosts[0]->ejected, "at the first look after 31 s");
	statuses(0, 500, 3);
	cr_expect_eq(c->hosts[0]->ejections, 2);
	at(99);
	cr_expect(c->hosts[0]->ejected);
	at(100);
	cr_expect_not(c->hosts[0]->ejected);
	at(110);
	cr_expect_eq(c->hosts[0]->ejections, 1);
	at(200);
	cr_expect_eq(c->hosts[0]->ejections, 0);
	statuses(0, 500, 3);
	at(230);
	cr_expect_not(c->hosts[0]->ejected);
	flat_clusters_free(&clusters);
}

Test(outlier, the_time_aside_has_a_bound)
{
	begin(2);
	for (int i = 0; i < 100; i++) {
		statuses(0, 500, 3);
		cr_expect(c->hosts[0]->ejected);
		at((choice.now_us - start_us) / S + 311);
		cr_expect_not(c->hosts[0]->ejected, "time %d", i);
	}
	flat_clusters_free(&clusters);
}

/* (aside + 1) of all may not be more than the percentage. */
Test(outlier, not_all_are_put_aside)
{
	static const struct {
		uint32_t n, percent, most;
	} table[] = {{10, 10, 1}, {10, 9, 0}, {10, 25, 2}, {3, 33, 0},
		     {3, 34, 1},  {4, 50, 2}, {1, 100, 1}};

	for (size_t k = 0; k < FLAT_ARRAY_SIZE(table); k++) {
		begin(table[k].n);
		outlier.max_percent = table[k].percent;
		settle();
		for (uint32_t i = 0; i < table[k].n; i++)
			statuses(i, 500, 3);
		cr_expect_eq(c->n_ejected, table[k].most, "%u %% of %u: %u", table[k].percent,
			     table[k].n, c->n_ejected);
		flat_clusters_free(&clusters);
	}
}

Test(outlier, all_aside_is_nobody_or_everybody)
{
	begin(2);
	statuses(0, 500, 3);
	statuses(1, 500, 3);
	cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
	outlier.min_health = 50;
	settle();
	cr_expect_geq(flat_cluster_pick(c, &choice), 0);
	flat_clusters_free(&clusters);
}

Test(outlier, without_the_rule_all_are_back)
{
	begin(2);
	statuses(0, 500, 3);
	cr_expect_eq(c->n_ejected, 1);
	choice.traffic.outlier = NULL;
	settle();
	cr_expect_eq(c->n_ejected, 0);
	statuses(0, 500, 30);
	cr_expect_eq(c->n_ejected, 0);
	cr_expect_eq(c->hosts[0]->n_errors, 33);
	flat_clusters_free(&clusters);
}

Test(outlier, it_goes_with_the_address)
{
	begin(3);
	statuses(1, 500, 3);
	/* The first one is removed. */
	choice.v = v + 1;
	choice.n = 2;
	settle();
	cr_expect(c->hosts[0]->ejected);
	cr_expect_eq(c->n_ejected, 1);
	choice.v = v + 2;
	choice.n = 1;
	settle();
	cr_expect_eq(c->n_ejected, 0);
	flat_clusters_free(&clusters);
}
