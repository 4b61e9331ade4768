/* A DestinationRule's localityLbSetting, warmup, connectionPool, outlierDetection and retryBudget: what is read, what is refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/locality.h"
#include "mesh/route.h"
#include "mesh/traffic.h"
#include "support_mesh.h"

#define RULE                                                                                       \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {hosts: [web.example], resolution: STATIC, ports: [{number: 80, name: http}],\n"    \
	"  endpoints: [{address: 10.0.0.1}]}\n"                                                    \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                         \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {host: web.example, trafficPolicy: "
#define TRAFFIC(policy) RULE policy "}\n"
#define LOCALITY(setting) TRAFFIC("{loadBalancer: {localityLbSetting: " setting "}}")
#define WARMUP(warmup) TRAFFIC("{loadBalancer: {simple: ROUND_ROBIN, warmup: " warmup "}}")

/* What is said of the one rule. Valid while `l` is. */
static const struct flat_traffic *traffic_of(const struct loaded *l)
{
	cr_assert_eq(flat_mesh_n_rules(l->mesh), 1);
	return &flat_mesh_rule(l->mesh, 0)->policy.all;
}

struct refused {
	const char *yaml;
	const char *want;
};

static void expect_refused(const struct refused *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct loaded l = load_yaml(v[i].yaml);

		cr_expect_neq(l.ret, 0, "taken: %s", v[i].yaml);
		cr_expect(strstr(loaded_text(&l), v[i].want), "%s\nsaid: %s", v[i].yaml,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* --- localities --- */

Test(config_traffic, distribute_is_read)
{
	struct loaded l = load_good(
	    LOCALITY("{distribute: [{from: us/a/*, to: {us/a/*: 80, eu: 20}}, {from: '*', to: {us: "
		     "100}}]}"));
	const struct flat_locality_lb *lb = traffic_of(&l)->lb->locality;

	cr_assert_not_null(lb);
	cr_expect_not(lb->off);
	cr_assert_eq(lb->n_distribute, 2);
	cr_expect_str_eq(lb->distribute[0].from, "us/a/*");
	cr_assert_eq(lb->distribute[0].n_to, 2);
	cr_expect_str_eq(lb->distribute[0].to[0].to, "us/a/*");
	cr_expect_eq(lb->distribute[0].to[0].weight, 80);
	cr_expect_str_eq(lb->distribute[0].to[1].to, "eu");
	cr_expect_eq(lb->distribute[0].to[1].weight, 20);
	cr_expect_str_eq(lb->distribute[1].from, "*");
	cr_expect_eq(lb->n_failover + lb->n_priority, 0);
	loaded_fini(&l);
}

Test(config_traffic, failover_and_its_priorities_are_read)
{
	struct loaded l =
	    load_good(LOCALITY("{enabled: false, failover: [{from: us, to: eu}, {from: eu, "
			       "to: us}], failoverPriority: [rack, 'tier=a']}"));
	const struct flat_locality_lb *lb = traffic_of(&l)->lb->locality;

	cr_assert_not_null(lb);
	cr_expect(lb->off);
	cr_assert_eq(lb->n_failover, 2);
	cr_expect_str_eq(lb->failover[1].from, "eu");
	cr_expect_str_eq(lb->failover[1].to, "us");
	cr_assert_eq(lb->n_priority, 2);
	cr_expect_str_eq(lb->priority[0], "rack");
	cr_expect_str_eq(lb->priority[1], "tier=a");
	loaded_fini(&l);
}

Test(config_traffic, localities_that_are_none_are_refused)
{
	static const struct refused v[] = {
	    {LOCALITY("{distribute: [{from: us/a/1/x, to: {us: 100}}]}"),
	     "\"us/a/1/x\" is no locality"},
	    {LOCALITY("{distribute: [{from: /us, to: {us: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: '*/a', to: {us: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us/*/1, to: {us: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {us/*/1: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {u*s: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {us/**: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {us: 50, us/a: 50}}]}"),
	     "\"us/a\" overlaps with \"us\""},
	    {LOCALITY("{distribute: [{from: us, to: {us/a: 50, us/*: 50}}]}"), "overlaps with"},
	    {LOCALITY("{distribute: [{from: us, to: {us/a/1: 50, us/a/*: 50}}]}"), "overlaps with"},
	    {LOCALITY("{distribute: [{from: us, to: {eu/a/1: 50, '*': 50}}]}"), "overlaps with"},
	    {LOCALITY("{distribute: [{from: '*', to: {us: 100}}, {from: us, to: {us: 100}}]}"),
	     "\"us\" overlaps with \"*\""},
	    {LOCALITY("{distribute: [{from: us, to: {us: 100}}, {from: us, to: {eu: 100}}]}"),
	     "overlaps with"},
	    {LOCALITY("{distribute: [{from: us/a, to: {us: 100}}, {from: us, to: {eu: 100}}]}"),
	     "overlaps with"},
	    {LOCALITY("{distribute: [{from: us/*, to: {us: 100}}, {from: us/a/1, to: {eu: 100}}]}"),
	     "overlaps with"},
	    {LOCALITY("{distribute: [{from: us/, to: {us: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {us//1: 100}}]}"), "is no locality"},
	    {LOCALITY("{distribute: [{from: us, to: {us: 60, eu: 30}}]}"), "add up to 90"},
	    {LOCALITY("{distribute: [{from: us, to: {us: 60, eu: 60}}]}"), "add up to 120"},
	    {LOCALITY("{distribute: [{from: us, to: {us: 101}}]}"), "whole number from 1 to 100"},
	    /* As in Istio: who gets nothing is not named. */
	    {LOCALITY("{distribute: [{from: us, to: {us: 100, eu: 0}}]}"),
	     "whole number from 1 to 100"},
	    {LOCALITY("{distribute: [{from: us}]}"), "distribute needs from and to"},
	    {LOCALITY("{distribute: [{to: {us: 100}}]}"), "distribute needs from and to"},
	    {LOCALITY("{failover: [{from: us}]}"), "failover needs from and to"},
	    {LOCALITY("{failover: [{from: us, to: us}]}"), "from one region to another"},
	    {LOCALITY("{failover: [{from: us, to: eu/a}]}"), "from one region to another"},
	    {LOCALITY("{failover: [{from: us, to: '*'}]}"), "from one region to another"},
	    {LOCALITY("{failover: [{from: '*', to: eu}]}"), "from one region to another"},
	    {LOCALITY("{distribute: [{from: us, to: {us: 100}}], failoverPriority: [rack]}"),
	     "distribute excludes failover"},
	    {LOCALITY("{distribute: {from: us}}"), "t.yaml:"},
	};

	expect_refused(v, FLAT_ARRAY_SIZE(v));
}

/* --- warmup --- */

Test(config_traffic, warmup_is_read_with_its_defaults)
{
	struct loaded l = load_good(WARMUP("{duration: 1.5s}"));
	const struct flat_warmup *w = &traffic_of(&l)->lb->warmup;

	cr_expect_eq(w->ms, 1500);
	cr_expect_eq(w->min_percent, 10);
	cr_expect_float_eq(w->aggression, 1, 1e-9);
	loaded_fini(&l);
	l = load_good(WARMUP("{duration: 10s, minimumPercent: 25, aggression: 2.5}"));
	w = &traffic_of(&l)->lb->warmup;
	cr_expect_eq(w->ms, 10000);
	cr_expect_eq(w->min_percent, 25);
	cr_expect_float_eq(w->aggression, 2.5, 1e-9);
	loaded_fini(&l);
	l = load_good(TRAFFIC("{loadBalancer: {simple: LEAST_REQUEST, warmupDurationSecs: 2s}}"));
	cr_expect_eq(traffic_of(&l)->lb->warmup.ms, 2000);
	cr_expect_eq(traffic_of(&l)->lb->warmup.min_percent, 10);
	loaded_fini(&l);
}

Test(config_traffic, warmups_out_of_bounds_are_refused)
{
	static const struct refused v[] = {
	    {WARMUP("{duration: 1s, aggression: 0.9}"), "\"0.9\" is no aggression"},
	    {WARMUP("{duration: 1s, aggression: 101}"), "is no aggression"},
	    {WARMUP("{duration: 1s, aggression: nan}"), "is no aggression"},
	    {WARMUP("{duration: 1s, aggression: 2x}"), "is no aggression"},
	    {WARMUP("{duration: 1s, aggression: [2]}"), "t.yaml:"},
	    {WARMUP("{duration: 1s, minimumPercent: 101}"), "not a percentage"},
	    {WARMUP("{duration: soon}"), "t.yaml:"},
	};

	expect_refused(v, FLAT_ARRAY_SIZE(v));
}

/* --- limits --- */

Test(config_traffic, a_connection_pool_is_read)
{
	struct loaded l = load_good(
	    TRAFFIC("{connectionPool: {tcp: {maxConnections: 7, connectTimeout: 250ms}, http: "
		    "{http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: "
		    "3, maxRetries: 2147483647, idleTimeout: 1m}}}"));
	const struct flat_breaker *b = traffic_of(&l)->breaker;

	cr_assert_not_null(b);
	cr_expect_eq(b->max_connections, 7);
	cr_expect_eq(b->connect_ms, 250);
	cr_expect_eq(b->max_pending, 1);
	cr_expect_eq(b->max_requests, 2);
	cr_expect_eq(b->max_per_connection, 3);
	cr_expect_eq(b->max_retries, INT32_MAX);
	cr_expect_eq(b->idle_ms, 60000);
	loaded_fini(&l);
}

Test(config_traffic, a_bound_of_zero_says_nothing)
{
	struct loaded l = load_good(TRAFFIC(
	    "{connectionPool: {tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, "
	    "http2MaxRequests: 0, maxRequestsPerConnection: 0, maxRetries: 0}}, outlierDetection: "
	    "{maxEjectionPercent: 0, consecutive5xxErrors: 0}}"));
	const struct flat_traffic *t = traffic_of(&l);

	cr_assert_not_null(t->breaker);
	cr_expect_eq(t->breaker->max_connections, FLAT_UNBOUNDED);
	cr_expect_eq(t->breaker->max_pending, FLAT_UNBOUNDED);
	cr_expect_eq(t->breaker->max_requests, FLAT_UNBOUNDED);
	cr_expect_eq(t->breaker->max_retries, FLAT_UNBOUNDED);
	cr_expect_eq(t->breaker->max_per_connection, 0);
	cr_expect_eq(t->breaker->connect_ms, 0);
	/* A count of zero is off, a share of zero is the default. */
	cr_assert_not_null(t->outlier);
	cr_expect_eq(t->outlier->max_percent, 10);
	cr_expect_eq(t->outlier->consecutive_5xx, 0);
	loaded_fini(&l);
}

Test(config_traffic, outlier_detection_is_read_with_its_defaults)
{
	struct loaded l = load_good(TRAFFIC("{outlierDetection: {}}"));
	const struct flat_outlier *o = traffic_of(&l)->outlier;

	cr_assert_not_null(o);
	cr_expect_eq(o->consecutive_5xx, 5);
	cr_expect_eq(o->consecutive_gateway, 0);
	cr_expect_eq(o->consecutive_local, 5);
	cr_expect_eq(o->interval_ms, 10000);
	cr_expect_eq(o->base_ms, 30000);
	cr_expect_eq(o->max_percent, 10);
	cr_expect_eq(o->min_health, 0);
	cr_expect_not(o->split);
	loaded_fini(&l);
	l = load_good(TRAFFIC(
	    "{outlierDetection: {consecutive5xxErrors: 1, consecutiveGatewayErrors: 4294967295, "
	    "consecutiveLocalOriginFailures: 3, splitExternalLocalOriginErrors: true, interval: "
	    "1ms, baseEjectionTime: 1h, maxEjectionPercent: 100, minHealthPercent: 50}}"));
	o = traffic_of(&l)->outlier;
	cr_assert_not_null(o);
	cr_expect_eq(o->consecutive_5xx, 1);
	cr_expect_eq(o->consecutive_gateway, UINT32_MAX);
	cr_expect_eq(o->consecutive_local, 3);
	cr_expect(o->split);
	cr_expect_eq(o->interval_ms, 1);
	cr_expect_eq(o->base_ms, 3600000);
	cr_expect_eq(o->max_percent, 100);
	cr_expect_eq(o->min_health, 50);
	loaded_fini(&l);
}

Test(config_traffic, a_retry_budget_is_read_with_its_defaults)
{
	static const struct {
		const char *yaml;
		uint32_t percent, min;
	} v[] = {
	    {TRAFFIC("{retryBudget: {}}"), 200000, 3},
	    {TRAFFIC("{retryBudget: {percent: 12.5, minRetryConcurrency: 0}}"), 125000, 0},
	    {TRAFFIC("{retryBudget: {percent: {value: 100}}}"), FLAT_MILLION, 3},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct loaded l = load_good(v[i].yaml);
		const struct flat_retry_budget *b = traffic_of(&l)->budget;

		cr_assert_not_null(b);
		cr_expect_eq(b->percent, v[i].percent, "%s", v[i].yaml);
		cr_expect_eq(b->min, v[i].min, "%s", v[i].yaml);
		loaded_fini(&l);
	}
}

Test(config_traffic, limits_out_of_bounds_are_refused)
{
	static const struct refused v[] = {
	    {TRAFFIC("{connectionPool: {tcp: {maxConnections: -1}}}"), "whole number"},
	    {TRAFFIC("{connectionPool: {tcp: {maxConnections: 2147483648}}}"), "whole number"},
	    {TRAFFIC("{connectionPool: {http: {maxRetries: many}}}"), "whole number"},
	    {TRAFFIC("{connectionPool: {http: {maxPending: 1}}}"), "maxPending"},
	    {TRAFFIC("{outlierDetection: {interval: 0s}}"), "a duration of nothing"},
	    {TRAFFIC("{outlierDetection: {baseEjectionTime: 0s}}"), "a duration of nothing"},
	    {TRAFFIC("{outlierDetection: {maxEjectionPercent: 101}}"), "from 0 to 100"},
	    {TRAFFIC("{outlierDetection: {minHealthPercent: 101}}"), "from 0 to 100"},
	    {TRAFFIC("{outlierDetection: {consecutive5xxErrors: 4294967296}}"), "whole number"},
	    {TRAFFIC("{retryBudget: {percent: 100.1}}"), "not a percentage"},
	    {TRAFFIC("{retryBudget: {percent: {value: -1}}}"), "not a percentage"},
	};

	expect_refused(v, FLAT_ARRAY_SIZE(v));
}
