/* Levels and shares by locality, against Istio's rules and the tables in Envoy's documentation. */
#include <criterion/criterion.h>
#include <string.h>

#include "mesh/locality.h"

static const struct flat_labels none;
static struct flat_endpoint v[8];
static struct flat_place places[8];

static uint32_t place(const struct flat_locality_lb *lb, bool failover, const char *client,
		      const char *const *of, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		v[i] = (struct flat_endpoint){.weight = 1, .labels = &none, .locality = of[i]};
	return flat_locality_places(lb, failover, client, &none, v, n, places);
}

Test(locality, a_pattern_means_what_is_below_it)
{
	static const struct {
		const char *pattern, *locality;
		bool match;
	} table[] = {
	    {"*", "us/a/1", true},	{"*", NULL, true},	     {"us", "us/a/1", true},
	    {"us/*", "us/a/1", true},	{"us/a", "us/a/1", true},    {"us/a/*", "us/a/1", true},
	    {"us/a/1", "us/a/1", true}, {"us/a/2", "us/a/1", false}, {"us/b", "us/a/1", false},
	    {"us/*/1", "us/b/1", true}, {"eu", "us/a/1", false},     {"us", NULL, false},
	    {"us/a/1", "us/a", false},	{"u", "us", false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(table); i++)
		cr_expect_eq(flat_locality_match(table[i].pattern, table[i].locality),
			     table[i].match, "%s, %s", table[i].pattern, table[i].locality);
}

Test(locality, labels_tell_it)
{
	struct flat_label topology[] = {{"topology.istio.io/subzone", "r1"},
					{"topology.kubernetes.io/region", "us"},
					{"topology.kubernetes.io/zone", "a"}};
	struct flat_label dotted[] = {{"istio-locality", "us.a.r1"}};
	struct flat_labels labels = {topology, 3};
	char buf[64];

	cr_expect_str_eq(flat_locality_of(&labels, buf, sizeof(buf)), "us/a/r1");
	labels = (struct flat_labels){dotted, 1};
	cr_expect_str_eq(flat_locality_of(&labels, buf, sizeof(buf)), "us/a/r1");
	cr_expect_null(flat_locality_of(&none, buf, sizeof(buf)));
	cr_expect_null(flat_locality_of(&labels, buf, 4));
}

/* The nearest first, without gaps; an endpoint of an unknown place is far away. */
Test(locality, nearer_ones_come_first)
{
	static const char *const of[] = {"us/b/1", "us/a/2", "eu/a/1", "us/a/1", NULL};

	cr_expect_eq(place(NULL, true, "us/a/1", of, 5), 4);
	cr_expect_eq(places[3].level, 0);
	cr_expect_eq(places[1].level, 1);
	cr_expect_eq(places[0].level, 2);
	cr_expect_eq(places[2].level, 3);
	cr_expect_eq(places[4].level, 3);
	/* Levels that nobody stands in are left out. */
	cr_expect_eq(place(NULL, true, "us/c/1", of, 5), 2);
	cr_expect_eq(places[3].level, 0);
	cr_expect_eq(places[2].level, 1);
}

Test(locality, without_outlier_detection_nothing_is_nearer)
{
	static const char *const of[] = {"us/a/1", "eu/a/1"};

	cr_expect_eq(place(NULL, false, "us/a/1", of, 2), 1);
	cr_expect_eq(place(NULL, true, NULL, of, 2), 1);
	cr_expect_eq(place(&(struct flat_locality_lb){.off = true}, true, "us/a/1", of, 2), 1);
}

Test(locality, a_region_fails_over_to_the_one_that_is_named)
{
	static const struct flat_locality_failover failover[] = {{"us", "eu"}};
	static const struct flat_locality_lb lb = {.failover = failover, .n_failover = 1};
	static const char *const of[] = {"asia/a/1", "us/a/1", "eu/a/1"};

	cr_expect_eq(place(&lb, true, "us/a/1", of, 3), 3);
	cr_expect_eq(places[1].level, 0);
	cr_expect_eq(places[2].level, 1);
	cr_expect_eq(places[0].level, 2);
	/* Nothing is said of clients elsewhere. */
	cr_expect_eq(place(&lb, true, "africa/a/1", of, 3), 1);
}

Test(locality, labels_may_stand_for_nearness)
{
	static const char *const keys[] = {"net", "version=v1"};
	static const struct flat_locality_lb lb = {.priority = keys, .n_priority = 2};
	static const struct flat_label a[] = {{"net", "n1"}, {"version", "v1"}};
	static const struct flat_label b[] = {{"net", "n1"}, {"version", "v2"}};
	static const struct flat_label c[] = {{"net", "n2"}, {"version", "v1"}};
	static const struct flat_labels of[] = {{c, 2}, {b, 2}, {a, 2}};
	static const struct flat_label client[] = {{"net", "n1"}};
	static const struct flat_labels mine = {client, 1};

	for (int i = 0; i < 3; i++)
		v[i] = (struct flat_endpoint){.weight = 1, .labels = &of[i]};
	cr_expect_eq(flat_locality_places(&lb, true, NULL, &mine, v, 3, places), 3);
	cr_expect_eq(places[2].level, 0);
	cr_expect_eq(places[1].level, 1);
	cr_expect_eq(places[0].level, 2);
}

Test(locality, requests_are_shared_out)
{
	static const struct flat_locality_share to[] = {{"us/a/*", 80}, {"us/b/*", 20}};
	static const struct flat_locality_spread spread[] = {{"eu", to, 1}, {"us/a/*", to, 2}};
	static const struct flat_locality_lb lb = {.distribute = spread, .n_distribute = 2};
	static const char *const of[] = {"us/a/1", "us/a/2", "us/b/1", "eu/a/1"};

	cr_expect_eq(place(&lb, true, "us/a/1", of, 4), 1);
	cr_expect_float_eq(places[0].share, 40, 1e-9);
	cr_expect_float_eq(places[1].share, 40, 1e-9);
	cr_expect_float_eq(places[2].share, 20, 1e-9);
	cr_expect_float_eq(places[3].share, 0, 1e-9);
	/* Of clients for whom nothing is said all endpoints are equal. */
	cr_expect_eq(place(&lb, true, "asia/a/1", of, 4), 1);
	cr_expect_float_eq(places[3].share, 1, 1e-9);
}

/* https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority: its tables. */
Test(locality, loads_are_those_of_the_published_tables)
{
	static const struct {
		uint32_t healthy[3], load[3], n;
	} table[] = {
	    {{100, 100}, {100, 0}, 2},	      {{72, 72}, {100, 0}, 2},
	    {{71, 71}, {99, 1}, 2},	      {{50, 50}, {70, 30}, 2},
	    {{25, 100}, {35, 65}, 2},	      {{25, 25}, {50, 50}, 2},
	    {{0, 100}, {0, 100}, 2},	      {{100, 100, 100}, {100, 0, 0}, 3},
	    {{72, 72, 100}, {100, 0, 0}, 3},  {{71, 71, 100}, {99, 1, 0}, 3},
	    {{50, 50, 100}, {70, 30, 0}, 3},  {{25, 100, 100}, {35, 65, 0}, 3},
	    {{25, 25, 100}, {35, 35, 30}, 3}, {{25, 25, 20}, {37, 35, 28}, 3},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(table); i++) {
		struct flat_level_load levels[3];

		for (uint32_t k = 0; k < table[i].n; k++)
			levels[k] =
			    (struct flat_level_load){.total = 100, .healthy = table[i].healthy[k]};
		flat_level_loads(levels, table[i].n, 0);
		for (uint32_t k = 0; k < table[i].n; k++) {
			cr_expect_eq(levels[k].load, table[i].load[k], "row %zu, level %u: %u", i,
				     k, levels[k].load);
			cr_expect_not(levels[k].panic);
		}
	}
}

Test(locality, few_healthy_ones_are_panic_where_that_is_asked_for)
{
	struct flat_level_load one = {.total = 4, .healthy = 1};
	struct flat_level_load two[] = {{.total = 4, .healthy = 1}, {.total = 4, .healthy = 4}};

	flat_level_loads(&one, 1, 50);
	cr_expect(one.panic);
	cr_expect_eq(one.load, 100);
	one.healthy = 2;
	flat_level_loads(&one, 1, 50);
	cr_expect_not(one.panic);
	/* Others can bear it all: no reason to panic. */
	flat_level_loads(two, 2, 50);
	cr_expect_not(two[0].panic);
	two[1].healthy = 1;
	flat_level_loads(two, 2, 50);
	cr_expect(two[0].panic && two[1].panic);
	cr_expect_eq(two[0].load, 50);
	/* Nobody is healthy and it is not asked for: nobody is picked. */
	one.healthy = 0;
	flat_level_loads(&one, 1, 0);
	cr_expect_not(one.panic);
}
