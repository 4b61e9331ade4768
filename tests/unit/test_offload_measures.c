/* Counts under labels of one's own: bounds M1 to M4 of lib/offload/measures.h, and Prometheus's text form (0.0.4). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "offload/measures.h"

/* Of one label `a`. */
static void write_text(struct flat_measures *t, const char *value)
{
	struct flat_metric_labels l = {.n = 0};

	flat_metric_labels_add(&l, "a", value);
	flat_measures_write(t, &l, &t->text);
}

static struct flat_measure *get(struct flat_measures *t, const char *value, const char *owner)
{
	write_text(t, value);
	return flat_measures_get(t, FLAT_METRIC_REQUESTS, &t->text, owner);
}

Test(measures, one_for_each_metric_and_text)
{
	struct flat_measures t = {.n = 0};
	struct flat_measure *a = get(&t, "1", "w");

	cr_assert_not_null(a);
	cr_assert_eq(get(&t, "1", "w"), a);
	/* Whose it is does not matter once it is there. */
	cr_assert_eq(get(&t, "1", NULL), a);
	cr_assert_neq(get(&t, "2", "w"), a);
	cr_assert_neq(flat_measures_get(&t, FLAT_METRIC_DURATION, &t.text, "w"), a);
	cr_assert_eq(t.n, 3);
	flat_measures_fini(&t);
}

Test(measures, an_owner_has_so_many_and_takes_none_from_others)
{
	struct flat_measures t = {.max_of_one = 10};
	char labels[32];

	for (int i = 0; i < 1000; i++) {
		snprintf(labels, sizeof(labels), "%d", i);
		cr_assert_eq(get(&t, labels, "hostile") != NULL, i < 10);
	}
	cr_assert_eq(t.bounded[FLAT_BOUND_SERIES], 990);
	cr_assert_eq(t.n, 10);
	cr_assert_not_null(get(&t, "other", NULL));
	cr_assert_not_null(get(&t, "mine", "honest"));
	/* What was there stays what it is. */
	cr_assert_not_null(get(&t, "3", "hostile"));
	flat_measures_fini(&t);
}

Test(measures, all_together_are_bounded_and_half_is_for_what_was_not_computed)
{
	struct flat_measures t = {.max = 100};
	char labels[32], owner[32];
	int n = 0;

	for (int i = 0; i < 1000; i++) {
		snprintf(labels, sizeof(labels), "%d", i);
		snprintf(owner, sizeof(owner), "o%d", i);
		n += get(&t, labels, owner) != NULL;
	}
	cr_assert_eq(n, 50);
	for (int i = 0; i < 1000; i++) {
		snprintf(labels, sizeof(labels), "b%d", i);
		n += get(&t, labels, NULL) != NULL;
	}
	cr_assert_eq(n, 100);
	cr_assert_eq(t.bounded[FLAT_BOUND_TABLE], 950);
	flat_measures_fini(&t);
}

Test(measures, labels_are_set_replaced_and_taken_away)
{
	struct flat_metric_labels l = {.n = 0};
	struct flat_strbuf out = {0};

	flat_metric_labels_text(&l, &out);
	cr_assert_str_eq(flat_strbuf_str(&out), "{");
	flat_metric_labels_add(&l, "a", "1");
	flat_metric_labels_add(&l, "b", "2");
	l.v[1].before = "spiffe://";
	flat_metric_labels_add(&l, "c", "3");
	flat_metric_labels_set(&l, "a", NULL);
	flat_metric_labels_set(&l, "none", NULL);
	flat_metric_labels_set(&l, "c", "x\"y\\z\n");
	flat_metric_labels_set(&l, "d", "4");
	flat_strbuf_reset(&out);
	flat_metric_labels_text(&l, &out);
	cr_assert_str_eq(flat_strbuf_str(&out), "{b=\"spiffe://2\",c=\"x\\\"y\\\\z\\n\",d=\"4\"",
			 "%s", out.data);
	for (int i = 0; i < 1000; i++)
		flat_metric_labels_add(&l, "e", "5");
	cr_assert_eq(l.n, FLAT_METRIC_LABELS_MAX);
	flat_strbuf_fini(&out);
}

static const struct {
	const char *text, *clean;
} texts[] = {
    {"", ""},
    {"plain", "plain"},
    {"a\tb\x7f\x01", "a?b??"},
    {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"\xff\xfe", "??"},
    {"\xc3", "?"},
    {"\xc0\xaf", "??"},		  /* overlong */
    {"\xe0\x80\xaf", "???"},	  /* overlong */
    {"\xed\xa0\x80", "???"},	  /* a surrogate */
    {"\xf4\x90\x80\x80", "????"}, /* above U+10FFFF */
    {"\xe2\x82", "??"},		  /* cut */
    {"\xe2\x82x\xe2\x82\xac", "??x\xe2\x82\xac"},
};

Test(measures, what_is_not_utf_8_is_a_question_mark)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s", texts[i].text);
		flat_metric_clean(text, strlen(text));
		cr_assert_str_eq(text, texts[i].clean, "case %zu: %s", i, text);
	}
}

Test(measures, those_that_were_taken_are_not_shown_twice)
{
	struct flat_measures t = {.n = 0};
	struct flat_strbuf out = {0};

	get(&t, "1", NULL)->n = 5;
	get(&t, "2", NULL)->n = 6;
	get(&t, "1", NULL)->live = 2;
	flat_measures_text(&t, FLAT_METRIC_REQUESTS, "x", &out);
	cr_assert_str_eq(flat_strbuf_str(&out), "x{a=\"1\"} 7\nx{a=\"2\"} 6\n", "%s", out.data);
	for (int turn = 0; turn < 2; turn++) {
		flat_strbuf_reset(&out);
		write_text(&t, "1");
		cr_assert_eq(flat_measures_take(&t, FLAT_METRIC_REQUESTS, &t.text)->n, 5);
		cr_assert_null(flat_measures_take(&t, FLAT_METRIC_REQUESTS, &t.text));
		cr_assert_null(flat_measures_take(&t, FLAT_METRIC_DURATION, &t.text));
		flat_measures_text(&t, FLAT_METRIC_REQUESTS, "x", &out);
		cr_assert_str_eq(flat_strbuf_str(&out), "x{a=\"2\"} 6\n", "%s", out.data);
	}
	flat_strbuf_fini(&out);
	flat_measures_fini(&t);
}

Test(measures, histograms_have_their_own_label_last)
{
	struct flat_strbuf out = {0};
	struct flat_histogram h = {.sum = 0};
	struct flat_histogram more = {.sum = 0};

	flat_histogram_add(&h, 0.5);
	flat_histogram_add(&h, 0.6);
	flat_histogram_add(&more, 1e9);
	flat_histogram_join(&h, &more);
	flat_histogram_text(&h, 3, "x", "{a=\"1\"", &out);
	cr_assert(strstr(flat_strbuf_str(&out), "x_bucket{a=\"1\",le=\"0.5\"} 1\n"), "%s",
		  out.data);
	cr_assert(strstr(out.data, "x_bucket{a=\"1\",le=\"1\"} 2\n"), "%s", out.data);
	cr_assert(strstr(out.data, "x_bucket{a=\"1\",le=\"3.6e+06\"} 2\n"), "%s", out.data);
	cr_assert(strstr(out.data,
			 "x_bucket{a=\"1\",le=\"+Inf\"} 3\nx_sum{a=\"1\"} 1000000001.100\n"
			 "x_count{a=\"1\"} 3\n"),
		  "%s", out.data);
	flat_strbuf_reset(&out);
	flat_histogram_text(&h, 3, "x", "{", &out);
	cr_assert(strstr(flat_strbuf_str(&out), "x_bucket{le=\"0.5\"} 1\n"), "%s", out.data);
	cr_assert(strstr(out.data, "x_count{} 3\n"), "%s", out.data);
	flat_strbuf_fini(&out);
}

static struct flat_measure_made_of made_of(const void *base, const char *value)
{
	struct flat_measure_made_of of = {.epoch = 1, .base = base};

	of.len = (uint32_t)strlen(value) + 1;
	memcpy(of.values, value, of.len);
	return of;
}

Test(measures, what_was_found_lately_is_found_by_all_that_it_was_made_of)
{
	static const char base[2], tags[1];
	struct flat_measures t = {.n = 0};
	struct flat_measure_made_of of = made_of(&base[0], "a");
	struct flat_measure_recent *r = flat_measures_recent(&t, &of);

	cr_assert_not_null(r);
	cr_assert_null(r->v[FLAT_METRIC_REQUESTS]);
	r->v[FLAT_METRIC_REQUESTS] = get(&t, "a", NULL);
	cr_assert_eq(flat_measures_recent(&t, &of)->v[FLAT_METRIC_REQUESTS], get(&t, "a", NULL));
	for (int i = 0; i < 7; i++) {
		struct flat_measure_made_of other = of;

		if (i == 0)
			other.epoch = 2;
		else if (i == 1)
			other.tags = tags;
		else if (i == 2)
			other.base = &base[1];
		else if (i == 3)
			other.outcome = 1;
		else if (i == 4)
			other.kind = 1;
		else if (i == 5)
			other = made_of(&base[0], "b");
		else
			other.len = 0;
		cr_assert_null(flat_measures_recent(&t, &other)->v[FLAT_METRIC_REQUESTS],
			       "difference %d", i);
	}
	flat_measures_fini(&t);
}

Test(measures, what_was_found_lately_is_bounded_and_never_anothers)
{
	static const char base[1];
	struct flat_measures t = {.n = 0};
	static struct flat_measure marks[5000];
	char value[16];
	int known = 0;

	for (int turn = 0; turn < 2; turn++) {
		for (int i = 0; i < 5000; i++) {
			snprintf(value, sizeof(value), "v%d", i);
			struct flat_measure_made_of of = made_of(base, value);
			struct flat_measure_recent *r = flat_measures_recent(&t, &of);

			cr_assert(r >= t.recent && r < t.recent + FLAT_MEASURES_RECENT);
			cr_assert(!r->v[0] || r->v[0] == &marks[i], "%d", i);
			r->v[0] = &marks[i];
		}
	}
	/* 5000 values in 1024 places: the last are mostly still there. */
	for (int i = 4990; i < 5000; i++) {
		snprintf(value, sizeof(value), "v%d", i);
		struct flat_measure_made_of of = made_of(base, value);

		known += flat_measures_recent(&t, &of)->v[0] == &marks[i];
	}
	cr_assert_gt(known, 5);
	flat_measures_fini(&t);
}

Test(measures, bounds_are_told)
{
	struct flat_measures t = {.bounded = {1, 2, 3}};
	struct flat_strbuf out = {0};

	flat_measures_bounds_text(&t, &out);
	cr_assert(strstr(flat_strbuf_str(&out), "flat_metric_bounded_total{bound=\"series\"} 2\n"));
	flat_strbuf_fini(&out);
}
