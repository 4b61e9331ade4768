/* Accounts: what all processes of a workload, or of a user, hold together, and what is left for others. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "offload/account.h"
#include "offload/admit.h"

static struct flat_offload o;
static struct flat_workload shop = {.name = "shop", .namespace = "demo"};

static void teardown(void)
{
	flat_index_fini(&o.accounts);
}

TestSuite(account, .fini = teardown);

static void begin(struct flat_session *s, const struct flat_workload *w, uid_t uid)
{
	memset(s, 0, sizeof(*s));
	s->offload = &o;
	s->uid = uid;
	s->workload = w;
	if (w)
		snprintf(s->name, sizeof(s->name), "%s.%s", w->name, w->namespace);
	flat_account_join(s);
	cr_assert_not_null(s->account);
}

static struct flat_decision check(const struct flat_session *s, enum flat_conn_path path)
{
	struct flat_decision d = {.path = path};
	flat_account_check(s, &d);
	return d;
}

/* As many connections as it gets. */
static uint32_t take_all(struct flat_session *s)
{
	uint32_t n = 0;
	while (check(s, FLAT_CONN_DIRECT).status == 0) {
		flat_account_add(s, FLAT_ACCOUNT_CONN);
		o.n_conns++;
		n++;
		cr_assert_lt(n, 100000);
	}
	return n;
}

Test(account, one_account_leaves_room_for_others_whatever_number_of_sessions)
{
	struct flat_session v[3];
	struct flat_session other;
	o.fds_max = 10256;
	begin(&v[0], &shop, 0);
	begin(&v[1], &shop, 1);
	begin(&v[2], &shop, 2);
	begin(&other, NULL, 1000);
	uint32_t n = take_all(&v[0]);
	/* Four fifths of 5,000. */
	cr_expect_eq(n, 4000);
	cr_expect_eq(take_all(&v[1]) + take_all(&v[2]), 0);
	struct flat_decision d = check(&v[2], FLAT_CONN_FORWARDED);
	cr_expect_eq(d.status, -EAGAIN);
	cr_expect_eq(d.kind, FLAT_REFUSED_LIMIT);
	cr_expect(strstr(d.reason, "shop.demo has 4000 connections, 0 listeners") &&
		      strstr(d.reason, "raise LimitNOFILE") && strlen(d.reason) < 168,
		  "%s", d.reason);
	cr_expect_eq(check(&v[2], FLAT_CONN_KERNEL).status, 0, "the kernel's cost flatd nothing");
	/* Another has four fifths of what is left, and there is some left. */
	cr_expect_eq(take_all(&other), 800);
	cr_expect(!flat_account_has_room(&other, 1));
	flat_account_remove(&v[0], FLAT_ACCOUNT_CONN);
	o.n_conns--;
	cr_expect(flat_account_has_room(&other, 4));
	for (int i = 0; i < 3; i++)
		flat_account_leave(&v[i]);
	flat_account_leave(&other);
	cr_expect_eq(o.accounts.n, 0);
}

Test(account, one_that_is_asked_about_without_a_session_is_its_workloads)
{
	struct flat_session s;
	struct flat_session as = {.offload = &o, .workload = &shop, .name = "shop.demo"};
	o.fds_max = 1256;
	begin(&s, &shop, 0);
	cr_expect_eq(check(&as, FLAT_CONN_DIRECT).status, 0);
	(void)take_all(&s);
	cr_expect_eq(check(&as, FLAT_CONN_DIRECT).status, -EAGAIN);
	flat_account_leave(&s);
	cr_expect_eq(check(&as, FLAT_CONN_DIRECT).status, 0);
}

Test(account, connections_follow_a_process_that_becomes_another_workloads)
{
	struct flat_session a;
	struct flat_session b;
	begin(&a, NULL, 7);
	begin(&b, NULL, 7);
	cr_assert_eq(a.account, b.account);
	flat_account_add(&a, FLAT_ACCOUNT_CONN);
	flat_account_add(&a, FLAT_ACCOUNT_CONN);
	flat_account_add(&b, FLAT_ACCOUNT_CONN);
	cr_expect_eq(b.account->n[FLAT_ACCOUNT_CONN], 3);
	a.workload = &shop;
	snprintf(a.name, sizeof(a.name), "shop.demo");
	flat_account_join(&a);
	cr_expect_eq(b.account->n[FLAT_ACCOUNT_CONN], 1);
	cr_expect_eq(a.account->n[FLAT_ACCOUNT_CONN], 2);
	flat_account_join(&a);
	cr_expect_eq(a.account->n[FLAT_ACCOUNT_CONN], 2);
	flat_account_remove(&a, FLAT_ACCOUNT_CONN);
	cr_expect_eq(a.account->n[FLAT_ACCOUNT_CONN], 1);
	flat_account_leave(&b);
	flat_account_leave(&a);
	cr_expect_eq(o.accounts.n, 0);
}

Test(account, without_a_known_limit_nothing_is_refused)
{
	struct flat_session s;
	begin(&s, NULL, 7);
	for (int i = 0; i < 1000; i++)
		flat_account_add(&s, FLAT_ACCOUNT_CONN);
	cr_expect_eq(check(&s, FLAT_CONN_DIRECT).status, 0);
	o.fds_max = 256;
	cr_expect_eq(check(&s, FLAT_CONN_DIRECT).status, -EAGAIN);
	flat_account_leave(&s);
}

/* --- sessions --- */

#define PLACES 250U

/* As many sessions as it gets, in v, of which there are PLACES; the last one is turned away. */
static uint32_t come(struct flat_session *v, const struct flat_workload *w, uid_t uid)
{
	char why[300] = "";
	for (uint32_t n = 0;; n++) {
		cr_assert_lt(n, PLACES);
		o.n_sessions++;
		begin(&v[n], w, uid);
		if (flat_account_takes(&v[n], why, sizeof(why)))
			continue;
		flat_account_leave(&v[n]);
		o.n_sessions--;
		cr_expect(strstr(why, "rule 15: ") && strstr(why, " sessions") &&
			      strstr(why, "raise LimitNOFILE"),
			  "%s", why);
		return n;
	}
}

static void go(struct flat_session *v, uint32_t n)
{
	o.n_sessions -= n;
	while (n > 0)
		flat_account_leave(&v[--n]);
}

Test(account, one_account_leaves_places_for_sessions_of_others)
{
	struct flat_session *v = calloc(2 * (size_t)PLACES, sizeof(*v));
	char why[300];
	/* Four descriptors for each. */
	o.fds_max = 256 + 4 * PLACES;
	uint32_t n = come(v, &shop, 0);
	cr_expect_eq(n, 200, "%u", n);
	/* One whose control socket is closed has no place; it may go on with its connections. */
	flat_account_hang_up(&v[0]);
	v[0].closed = true;
	o.n_sessions--;
	cr_expect_eq(v[1].account->n_open, 199);
	cr_expect(flat_account_takes(&v[1], why, sizeof(why)));
	uint32_t m = come(v + PLACES, NULL, 1000);
	cr_expect_eq(m, 40, "%u", m);
	cr_expect(!flat_account_takes(&v[1], why, sizeof(why)));
	flat_account_leave(&v[0]);
	go(v + 1, n - 1);
	go(v + PLACES, m);
	cr_expect_eq(o.accounts.n, 0);
	free(v);
}

Test(account, places_are_bounded_whatever_descriptors_there_are)
{
	struct flat_session s;
	char why[300];
	o.n_sessions = FLAT_SESSIONS_MAX - 100;
	begin(&s, &shop, 0);
	s.account->n_open = 400;
	cr_expect(flat_account_takes(&s, why, sizeof(why)));
	s.account->n_open = 401;
	cr_expect(!flat_account_takes(&s, why, sizeof(why)));
	s.account->n_open = 1;
	flat_account_leave(&s);
}

Test(account, strangers_of_a_user_are_counted_by_themselves)
{
	struct flat_session *v = calloc(PLACES, sizeof(*v));
	struct flat_session other;
	char why[300];
	uint32_t n = 0;
	o.fds_max = 256 + 4 * PLACES;
	for (; flat_account_takes_stranger(&o, 1000, why, sizeof(why)); n++) {
		cr_assert_lt(n, PLACES);
		v[n] = (struct flat_session){.offload = &o, .uid = 1000};
		flat_account_meet(&v[n]);
		o.n_sessions++;
	}
	cr_expect_eq(n, 200, "%u", n);
	cr_expect(strstr(why, "uid 1000 before HELLO has 200 sessions"), "%s", why);
	/* Others come, and its own that said who they are. */
	cr_expect(flat_account_takes_stranger(&o, 0, why, sizeof(why)));
	begin(&other, NULL, 1000);
	o.n_sessions++;
	cr_expect(flat_account_takes(&other, why, sizeof(why)));
	flat_account_leave(&other);
	o.n_sessions--;
	/* Who is identified is none of them any more. */
	flat_account_join(&v[0]);
	cr_expect_str_eq(v[0].account->key, "uid 1000");
	cr_expect_eq(v[1].account->n_open, 199);
	go(v, n);
	cr_expect_eq(o.accounts.n, 0);
	free(v);
}

Test(account, lanes_without_connections_cost_half_of_one)
{
	struct flat_session a;
	struct flat_session other;
	o.fds_max = 256 + 2 * 100;
	begin(&a, &shop, 0);
	begin(&other, NULL, 7);
	/* Connections that came and went, each to another server. */
	for (; check(&a, FLAT_CONN_DIRECT).status == 0; o.n_lanes++) {
		cr_assert_lt(o.n_lanes, 200);
		flat_account_add(&a, FLAT_ACCOUNT_LANE);
	}
	cr_expect_eq(o.n_lanes, 160);
	cr_expect_eq(check(&other, FLAT_CONN_DIRECT).status, 0);
	flat_account_remove(&a, FLAT_ACCOUNT_LANE);
	flat_account_remove(&a, FLAT_ACCOUNT_LANE);
	o.n_lanes -= 2;
	cr_expect_eq(check(&a, FLAT_CONN_DIRECT).status, 0);
	flat_account_leave(&a);
	flat_account_leave(&other);
	cr_expect_eq(o.accounts.n, 0);
}

Test(account, listeners_cost_what_connections_do_and_are_bounded_for_all_sessions)
{
	struct flat_session v[2];
	o.fds_max = 256 + 2 * 100;
	begin(&v[0], &shop, 0);
	begin(&v[1], &shop, 1);
	for (uint32_t i = 0; flat_account_takes_listener(&v[i % 2]); i++) {
		cr_assert_lt(i, 100);
		flat_account_add(&v[i % 2], FLAT_ACCOUNT_LISTENER);
		o.n_listeners++;
	}
	cr_expect_eq(v[0].account->n[FLAT_ACCOUNT_LISTENER], 80);
	cr_expect_eq(check(&v[0], FLAT_CONN_DIRECT).status, -EAGAIN);
	flat_account_remove(&v[0], FLAT_ACCOUNT_LISTENER);
	o.n_listeners--;
	cr_expect_eq(check(&v[0], FLAT_CONN_DIRECT).status, 0);
	o.fds_max = 0;
	v[0].account->n[FLAT_ACCOUNT_LISTENER] = FLAT_ACCOUNT_LISTENERS_MAX;
	cr_expect(!flat_account_takes_listener(&v[1]));
	v[0].account->n[FLAT_ACCOUNT_LISTENER]--;
	cr_expect(flat_account_takes_listener(&v[1]));
	v[0].account->n[FLAT_ACCOUNT_LISTENER] =
	    v[0].counted[FLAT_ACCOUNT_LISTENER] + v[1].counted[FLAT_ACCOUNT_LISTENER];
	/* They go with their session. */
	v[1].workload = NULL;
	flat_account_join(&v[1]);
	cr_expect_eq(v[1].account->n[FLAT_ACCOUNT_LISTENER], v[1].counted[FLAT_ACCOUNT_LISTENER]);
	cr_expect_eq(v[0].account->n[FLAT_ACCOUNT_LISTENER], v[0].counted[FLAT_ACCOUNT_LISTENER]);
	flat_account_leave(&v[0]);
	flat_account_leave(&v[1]);
	cr_expect_eq(o.accounts.n, 0);
}
