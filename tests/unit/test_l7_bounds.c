/* What bounds requests on their way to a cluster, its connections and its retries: each at its boundary. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "offload/l7_admission.h"
#include "offload/offload.h"

static struct flat_offload o;
static struct flat_l7_node node;
static struct flat_map clusters;
static struct flat_cluster *c;
static struct flat_cluster_host host;
static struct flat_conn conn;

static struct flat_l7 *l7_new(void)
{
	struct flat_l7 *l7 = calloc(1, sizeof(*l7));
	l7->root = l7;
	l7->node = &node;
	l7->conn = &conn;
	/* It is in its list already. */
	l7->hot = true;
	TAILQ_INIT(&l7->upstreams);
	l7->x.target.cluster = c;
	l7->x.target.host = &host;
	return l7;
}

static void setup(void)
{
	node.offload = &o;
	TAILQ_INIT(&node.timers);
	c = flat_cluster_get(&clusters, "a.example", 80, "");
	cr_assert_not_null(c);
	c->breaker = flat_unbroken;
	host.refs = 1;
}

TestSuite(l7_bounds, .init = setup, .timeout = 20);

Test(l7_bounds, a_connection_has_so_many_requests)
{
	struct flat_l7_upstream up = {.cluster = NULL, .n_requests = 1000};
	cr_expect(flat_l7_guard_keep(&up));
	up.cluster = c;
	cr_expect(flat_l7_guard_keep(&up));
	c->breaker.max_per_connection = 3;
	up.n_requests = 2;
	cr_expect(flat_l7_guard_keep(&up));
	flat_l7_guard_busy(&up);
	cr_expect(!flat_l7_guard_keep(&up));
}

Test(l7_bounds, requests_on_their_way_are_bounded)
{
	struct flat_l7 *l7 = l7_new();
	c->breaker.max_requests = 2;
	c->n_requests = 1;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_PASS);
	c->n_requests = 2;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_OVERFLOW);
	cr_expect_eq(c->overflows[FLAT_OVERFLOW_REQUESTS], 1);
	/* To no cluster there is no bound. */
	l7->x.target.cluster = NULL;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_PASS);
	free(l7);
}

Test(l7_bounds, requests_that_wait_are_bounded)
{
	struct flat_l7 *l7 = l7_new();
	c->breaker.max_pending = 1;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_PASS);
	c->n_pending = 1;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_OVERFLOW);
	cr_expect_eq(c->overflows[FLAT_OVERFLOW_PENDING], 1);
	free(l7);
}

Test(l7_bounds, who_finds_no_connection_free_waits_and_is_woken_by_the_next_that_goes)
{
	struct flat_l7 *l7 = l7_new();
	struct flat_l7 *second = l7_new();
	struct flat_l7 *third = l7_new();
	struct flat_l7_upstream up = {.cluster = c, .host = &host};
	c->breaker.max_connections = 1;
	c->n_conns = 1;
	/* A server without any has its first. */
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_PASS);
	host.conns = 1;
	host.refs = 2;
	flat_cluster_hold(c);
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_WAIT);
	cr_expect_eq(flat_l7_may_pass(second), FLAT_L7_WAIT);
	cr_expect_eq(flat_l7_may_pass(third), FLAT_L7_WAIT);
	cr_expect_eq(c->n_pending, 3);
	cr_expect_eq(c->overflows[FLAT_OVERFLOW_CONNECTIONS], 3);
	flat_l7_guard_gone(&up);
	cr_expect_null(up.cluster);
	cr_expect_eq(c->n_conns, 0);
	cr_expect_eq(host.conns, 0);
	cr_expect(l7->x.waiter.woken == c && !l7->x.waiter.cluster, "the first one");
	cr_expect(!second->x.waiter.woken && second->x.waiter.cluster == c);
	cr_expect_eq(c->n_pending, 2);
	/* It has no use for its room: the second has it. */
	flat_l7_unwait(&l7->x.waiter);
	cr_expect(!l7->x.waiter.woken && second->x.waiter.woken == c);
	cr_expect_eq(flat_l7_may_pass(second), FLAT_L7_PASS);
	cr_expect(!second->x.waiter.woken);
	/* Which has used it: the third waits on, until it gives up. */
	cr_expect(!third->x.waiter.woken && third->x.waiter.cluster == c);
	cr_expect_eq(c->n_pending, 1);
	flat_l7_unwait(&third->x.waiter);
	cr_expect_eq(c->n_pending, 0);
	cr_expect_eq(c->refs, 0);
	free(third);
	free(l7);
	free(second);
}

Test(l7_bounds, a_connection_rests_until_its_time)
{
	struct flat_l7 *l7 = l7_new();
	struct flat_l7_upstream up = {.cluster = c, .l7 = l7};
	node.now_us = 1000;
	flat_l7_guard_idle(&up);
	cr_expect(up.idle && up.idle_until_us == 0);
	cr_expect(!flat_l7_guard_rested(&up, INT64_MAX), "there is no time");
	flat_l7_guard_busy(&up);
	cr_expect(!up.idle && TAILQ_EMPTY(&c->idle));
	c->breaker.idle_ms = 5;
	flat_l7_guard_idle(&up);
	cr_expect_eq(up.idle_until_us, 6000);
	cr_expect(!flat_l7_guard_rested(&up, 5999));
	cr_expect(l7->timed && l7->wake_us == 6000);
	l7->wake_us = 7000;
	cr_expect(!flat_l7_guard_rested(&up, 5999));
	cr_expect_eq(l7->wake_us, 6000);
	cr_expect(flat_l7_guard_rested(&up, 6000));
	up.idle = false;
	cr_expect(!flat_l7_guard_rested(&up, 6000));
	TAILQ_REMOVE(&c->idle, &up, idle_link);
	free(l7);
}

Test(l7_bounds, retries_at_once_are_bounded)
{
	struct flat_l7 *l7 = l7_new();
	cr_expect(flat_l7_retry_begin(l7), "to no cluster there is no bound");
	l7->x.cluster = c;
	c->breaker.max_retries = 1;
	cr_expect(flat_l7_retry_begin(l7));
	cr_expect(c->n_retries == 1 && c->refs == 1);
	/* The same request's next one takes the place of its last. */
	cr_expect(flat_l7_retry_begin(l7));
	cr_expect(c->n_retries == 1 && c->refs == 1);
	struct flat_l7 *other = l7_new();
	other->x.cluster = c;
	cr_expect(!flat_l7_retry_begin(other));
	cr_expect_eq(c->overflows[FLAT_OVERFLOW_RETRIES], 1);
	flat_l7_retry_end(l7);
	flat_l7_retry_end(l7);
	cr_expect(c->n_retries == 0 && c->refs == 0);
	free(other);
	free(l7);
}

Test(l7_bounds, a_budget_for_retries_is_a_share_of_what_is_on_its_way_or_its_least)
{
	const struct flat_retry_budget budget = {.percent = FLAT_MILLION / 5, .min = 3};
	struct flat_l7 *l7 = l7_new();
	l7->x.cluster = c;
	l7->x.traffic.budget = &budget;
	c->breaker.max_retries = 0;
	c->n_retries = 2;
	cr_expect(flat_l7_retry_begin(l7));
	flat_l7_retry_end(l7);
	c->n_retries = 3;
	cr_expect(!flat_l7_retry_begin(l7));
	/* 20 % of 12 and 13. */
	c->n_requests = 12;
	c->n_pending = 13;
	c->n_retries = 4;
	cr_expect(flat_l7_retry_begin(l7));
	flat_l7_retry_end(l7);
	c->n_retries = 5;
	cr_expect(!flat_l7_retry_begin(l7));
	free(l7);
}

Test(l7_bounds, one_that_connects_is_pending_once)
{
	struct flat_l7_try t = {.cluster = c};
	flat_l7_connecting(&t, false);
	cr_expect_eq(c->n_pending, 0);
	flat_l7_connecting(&t, true);
	flat_l7_connecting(&t, true);
	cr_expect_eq(c->n_pending, 1);
	flat_l7_connecting(&t, false);
	cr_expect_eq(c->n_pending, 0);
	t.cluster = NULL;
	flat_l7_connecting(&t, true);
	cr_expect(!t.connecting);
}

Test(l7_bounds, an_attempt_that_failed_counts_as_503)
{
	struct flat_l7 *l7 = l7_new();
	flat_l7_outcome(l7, FLAT_OUTCOME_FAILED, 0);
	cr_expect_eq(l7->x.try_status, 503);
	flat_l7_outcome(l7, FLAT_OUTCOME_STATUS, 404);
	cr_expect_eq(l7->x.try_status, 404);
	free(l7);
}

Test(l7_bounds, so_many_that_were_tried_are_remembered)
{
	struct flat_l7 *l7 = l7_new();
	l7->x.target.cluster = NULL;
	for (uint16_t i = 0; i < FLAT_L7_TRIED_MAX + 2; i++) {
		l7->x.target.addr.port = i;
		flat_l7_target_enter(l7);
	}
	cr_expect_eq(l7->x.n_tried, FLAT_L7_TRIED_MAX);
	cr_expect_eq(l7->x.tried[FLAT_L7_TRIED_MAX - 1].port, FLAT_L7_TRIED_MAX - 1);
	free(l7);
}

Test(l7_bounds, after_a_reload_all_that_wait_look_again)
{
	struct flat_l7 *l7 = l7_new();
	struct flat_l7 *second = l7_new();
	c->breaker.max_connections = 1;
	c->n_conns = 1;
	host.conns = 1;
	cr_expect_eq(flat_l7_may_pass(l7), FLAT_L7_WAIT);
	cr_expect_eq(flat_l7_may_pass(second), FLAT_L7_WAIT);
	o.clusters = clusters;
	flat_l7_bounds_reloaded(&o);
	cr_expect(l7->x.waiter.woken == c && second->x.waiter.woken == c);
	cr_expect_eq(c->n_pending, 0);
	free(l7);
	free(second);
}
