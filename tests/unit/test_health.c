/* What follows from active health checks: Envoy's thresholds and intervals; and what clusters make of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "offload/cluster.h"
#include "offload/health.h"

static const struct flat_status_range fine[] = {{200, 201}, {300, 400}};
static const struct flat_status_range perhaps[] = {{500, 503}};
static const struct flat_health_check check = {
    .interval_ms = 1,
    .unhealthy_ms = 2,
    .unhealthy_edge_ms = 3,
    .healthy_edge_ms = 4,
    .unhealthy_threshold = 3,
    .healthy_threshold = 2,
    .expected = {fine, 2},
    .retriable = {perhaps, 1},
};
static struct flat_health_state s;

/* One result, what is known afterwards, and how long until the next. */
static void note(enum flat_health_result result, bool failed, uint32_t ms)
{
	cr_expect_eq(flat_health_note(&check, &s, result), ms);
	cr_expect_eq(s.failed, failed);
	cr_expect(s.checked);
}

Test(health, the_first_check_decides_alone)
{
	note(FLAT_HEALTH_SILENT, true, 2);
	s = (struct flat_health_state){.failed = true};
	note(FLAT_HEALTH_PASSED, false, 1);
	s = (struct flat_health_state){.failed = false};
	note(FLAT_HEALTH_PASSED, false, 1);
}

Test(health, silence_counts_up_to_the_threshold)
{
	note(FLAT_HEALTH_PASSED, false, 1);
	note(FLAT_HEALTH_SILENT, false, 3);
	note(FLAT_HEALTH_SILENT, false, 3);
	note(FLAT_HEALTH_PASSED, false, 1);
	note(FLAT_HEALTH_SILENT, false, 3);
	note(FLAT_HEALTH_SILENT, false, 3);
	note(FLAT_HEALTH_SILENT, true, 2);
	note(FLAT_HEALTH_SILENT, true, 2);
}

Test(health, who_says_that_it_is_not_well_is_believed_at_once)
{
	note(FLAT_HEALTH_PASSED, false, 1);
	note(FLAT_HEALTH_REFUSED, true, 2);
}

Test(health, it_comes_back_after_successes_in_a_row)
{
	note(FLAT_HEALTH_REFUSED, true, 2);
	note(FLAT_HEALTH_PASSED, true, 4);
	note(FLAT_HEALTH_SILENT, true, 2);
	note(FLAT_HEALTH_PASSED, true, 4);
	note(FLAT_HEALTH_PASSED, false, 1);
	/* What was counted before counts no more. */
	note(FLAT_HEALTH_SILENT, false, 3);
}

Test(health, statuses_are_ranges_without_their_end)
{
	static const struct flat_health_check plain = {.path = "/"};
	static const struct {
		unsigned status;
		enum flat_health_result result;
	} rows[] = {{200, FLAT_HEALTH_PASSED},	{201, FLAT_HEALTH_REFUSED},
		    {300, FLAT_HEALTH_PASSED},	{399, FLAT_HEALTH_PASSED},
		    {400, FLAT_HEALTH_REFUSED}, {500, FLAT_HEALTH_SILENT},
		    {502, FLAT_HEALTH_SILENT},	{503, FLAT_HEALTH_REFUSED}};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++)
		cr_expect_eq(flat_health_of_status(&check, rows[i].status), rows[i].result, "%u",
			     rows[i].status);
	cr_expect_eq(flat_health_of_status(&plain, 200), FLAT_HEALTH_PASSED);
	cr_expect_eq(flat_health_of_status(&plain, 204), FLAT_HEALTH_REFUSED);
}

/* --- clusters --- */

static struct flat_map clusters;
static struct flat_endpoint v[4];
static const struct flat_lb lb = {.kind = FLAT_LB_ROUND_ROBIN};
static const struct flat_outlier outlier = {
    .consecutive_5xx = 1, .interval_ms = 10000, .base_ms = 30000, .max_percent = 100};
static struct flat_choice choice;
static struct flat_cluster *c;

static void begin(void)
{
	for (uint32_t i = 0; i < 4; i++) {
		v[i] = (struct flat_endpoint){.port = 80, .weight = 1};
		v[i].ip = flat_ip_from_v4(0x0a000001U + i);
	}
	choice = (struct flat_choice){.v = v, .n = 4, .stamp = 1};
	choice.traffic.lb = &lb;
	choice.traffic.outlier = &outlier;
	c = flat_cluster_get(&clusters, "a.example", 80, "");
	cr_assert(c);
	choice.now_us = c->sweep_us;
	cr_assert_geq(flat_cluster_pick(c, &choice), 0);
}

static void checked(uint32_t i, bool failed)
{
	struct flat_addr a = c->hosts[i]->addr;

	flat_cluster_checked(c, &a, failed);
}

/* Who is picked in two rounds: a bit each. */
static unsigned who(void)
{
	unsigned bits = 0;

	for (int i = 0; i < 8; i++) {
		int at = flat_cluster_pick(c, &choice);

		bits |= at < 0 ? 0 : 1U << at;
	}
	return bits;
}

Test(health, who_fails_is_not_picked_until_it_passes)
{
	begin();
	cr_expect_eq(who(), 0xf);
	checked(1, true);
	checked(2, true);
	cr_expect_eq(who(), 0x9);
	checked(1, false);
	cr_expect_eq(who(), 0xb);
	flat_clusters_free(&clusters);
}

Test(health, where_all_fail_nobody_is_picked_or_all_below_the_panic_threshold)
{
	begin();
	for (uint32_t i = 0; i < 4; i++)
		checked(i, true);
	cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
	c->panic = 50;
	c->health++;
	cr_expect_eq(who(), 0xf);
	/* Half of them is not below a half. */
	checked(0, false);
	checked(1, false);
	cr_expect_eq(who(), 0x3);
	flat_clusters_free(&clusters);
}

Test(health, one_put_aside_comes_back_with_a_good_check_and_stays_away_with_a_bad_one)
{
	begin();
	flat_outlier_note(c, c->hosts[0], FLAT_OUTCOME_STATUS, 500, choice.now_us);
	cr_expect(c->hosts[0]->ejected);
	checked(0, true);
	cr_expect(c->hosts[0]->ejected);
	cr_expect_eq(who(), 0xe);
	checked(0, false);
	cr_expect_not(c->hosts[0]->ejected);
	cr_expect_eq(c->n_ejected, 0);
	cr_expect_eq(who(), 0xf);
	flat_clusters_free(&clusters);
}
