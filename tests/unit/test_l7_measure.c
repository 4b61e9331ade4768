/* What of a request is told in Istio's labels, and how messages of gRPC are counted over attempts. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "offload/l7_measure.h"
#include "offload/l7_observe.h"
#include "offload/offload.h"

static const char *value_of(const struct flat_metric_labels *l, const char *name)
{
	for (uint32_t i = 0; i < l->n; i++) {
		if (strcmp(l->v[i].name, name) == 0)
			return l->v[i].value;
	}
	return "";
}

Test(l7_measure, a_status_of_grpc_is_told_where_one_was_seen)
{
	static const struct {
		struct flat_l7_outcome outcome;
		const char *protocol, *code, *grpc;
	} v[] = {
	    {{.status = 200}, "http", "200", ""},
	    {{.status = 503, .grpc = 7}, "http", "503", ""},
	    {{.status = 200, .is_grpc = 1, .grpc = 0}, "grpc", "200", "0"},
	    {{.status = 200, .is_grpc = 1, .grpc = 14}, "grpc", "200", "14"},
	    {{.status = 0, .is_grpc = 1, .grpc = -1}, "grpc", "0", ""},
	};
	struct flat_series_table t = {0};
	const struct flat_series_key key = {.address = "10.0.0.1:80", .source_in_mesh = true};
	const struct flat_series *base = flat_series_get(&t, &key);
	cr_assert_not_null(base);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct flat_l7_labels l;
		flat_l7_labels(base, i % 2 == 0, &v[i].outcome, &l);
		cr_expect_str_eq(value_of(&l.labels, "reporter"),
				 i % 2 == 0 ? "source" : "destination", "case %zu", i);
		cr_expect_str_eq(value_of(&l.labels, "request_protocol"), v[i].protocol, "case %zu",
				 i);
		cr_expect_str_eq(value_of(&l.labels, "response_code"), v[i].code, "case %zu", i);
		cr_expect_str_eq(value_of(&l.labels, "grpc_response_status"), v[i].grpc, "case %zu",
				 i);
	}
	flat_series_fini(&t);
}

/* --- messages --- */

static struct flat_offload o;
static struct flat_l7_node node;
static struct flat_series series;

static struct flat_l7 *l7_new(void)
{
	struct flat_l7 *l7 = calloc(1, sizeof(*l7));
	node.offload = &o;
	l7->root = l7;
	l7->node = &node;
	l7->x.joined = &series;
	return l7;
}

static void expect(uint64_t requests, uint64_t responses)
{
	cr_expect_eq(series.messages[0], requests, "%llu", (unsigned long long)series.messages[0]);
	cr_expect_eq(series.messages[1], responses, "%llu", (unsigned long long)series.messages[1]);
}

Test(l7_measure, messages_are_counted_once)
{
	struct flat_l7 *l7 = l7_new();
	flat_l7_count_messages(l7);
	expect(0, 0);
	l7->x.frames[0].n = 3;
	flat_l7_count_messages(l7);
	expect(3, 0);
	flat_l7_count_messages(l7);
	expect(3, 0);
	l7->x.frames[0].n = 4;
	l7->x.frames[1].n = 2;
	flat_l7_count_messages(l7);
	expect(4, 2);
	/* An answer alone. */
	l7->x.frames[1].n = 5;
	flat_l7_count_messages(l7);
	expect(4, 5);
	/* Nobody knows yet whose they are: they are counted when that is known. */
	l7->x.joined = NULL;
	l7->x.frames[0].n = 6;
	flat_l7_count_messages(l7);
	expect(4, 5);
	l7->x.joined = &series;
	flat_l7_count_messages(l7);
	expect(6, 5);
	free(l7);
}

Test(l7_measure, what_is_sent_again_is_no_more_of_it)
{
	struct flat_l7 *l7 = l7_new();
	l7->x.frames[0].n = 3;
	l7->x.frames[1].n = 1;
	flat_l7_messages_again(&l7->x);
	cr_expect_eq(l7->x.frames[0].n, 0);
	cr_expect_eq(l7->x.frames[1].n, 1);
	/* Less than the first attempt saw so far, then as much, then more. */
	l7->x.frames[0].n = 2;
	flat_l7_count_messages(l7);
	expect(3, 1);
	l7->x.frames[0].n = 3;
	flat_l7_count_messages(l7);
	expect(3, 1);
	l7->x.frames[0].n = 4;
	flat_l7_count_messages(l7);
	expect(4, 1);
	free(l7);
}
