/* flatctl top --http: requests by service and route. flatd tells totals; rates and quantiles are of two looks' difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "cmd/flatctl.h"
#include "control/yaml.h"
#include "offload/tally.h"

struct row {
	char service[256];
	char route[128];
	uint64_t n, errors;
	uint64_t bucket[FLAT_TALLY_BUCKETS];
	/* Since the look before; where there was nothing, since flatd's start. */
	uint64_t new_n;
	double rate, error_percent, p50_ms, p99_ms;
};

struct look {
	struct row rows[FLAT_TALLIES_MAX];
	size_t n;
	double at_s;
};

struct top {
	const struct ctl *ctl;
	struct look *before, *now;
};

static int read_rows(void *arg, const struct yaml_node *root)
{
	struct look *look = arg;
	const struct yaml_node *routes = yaml_get(root, "routes");
	const struct yaml_item *i = routes ? routes->first : NULL;

	for (; i && look->n < FLAT_TALLIES_MAX; i = i->next) {
		struct row *r = &look->rows[look->n++];
		const struct yaml_node *buckets = yaml_get(i->value, "buckets");
		const struct yaml_item *b = buckets ? buckets->first : NULL;

		memset(r, 0, sizeof(*r));
		snprintf(r->service, sizeof(r->service), "%s", ctl_text_of(i->value, "service"));
		snprintf(r->route, sizeof(r->route), "%s", ctl_text_of(i->value, "route"));
		r->n = ctl_number_of(i->value, "requests");
		r->errors = ctl_number_of(i->value, "errors");
		for (; b && b->next && b->value->text && b->next->value->text; b = b->next->next) {
			unsigned long at = strtoul(b->value->text, NULL, 10);

			if (at < FLAT_TALLY_BUCKETS)
				r->bucket[at] = strtoull(b->next->value->text, NULL, 10);
		}
	}
	return 0;
}

static const struct row *find_row(const struct look *look, const struct row *like)
{
	for (size_t i = 0; i < look->n; i++) {
		if (strcmp(look->rows[i].service, like->service) == 0 &&
		    strcmp(look->rows[i].route, like->route) == 0)
			return &look->rows[i];
	}
	return NULL;
}

/* The duration that a share of the requests does not exceed: the middle of its bucket, ms. */
static double quantile(const uint64_t bucket[FLAT_TALLY_BUCKETS], uint64_t n, double share)
{
	uint64_t left = (uint64_t)((double)n * share);

	for (unsigned i = 0; i < FLAT_TALLY_BUCKETS; i++) {
		if (bucket[i] > left)
			return (flat_tally_least_us(i) + flat_tally_least_us(i + 1)) / 2000;
		left -= bucket[i];
	}
	return 0;
}

static void compare(struct look *now, const struct look *before)
{
	double seconds = now->at_s - before->at_s;

	for (size_t i = 0; i < now->n; i++) {
		struct row *r = &now->rows[i];
		const struct row *old = find_row(before, r);
		uint64_t bucket[FLAT_TALLY_BUCKETS];
		bool moved = old && r->n > old->n;
		uint64_t n = moved ? r->n - old->n : r->n;
		uint64_t errors = moved ? r->errors - old->errors : r->errors;

		for (unsigned k = 0; k < FLAT_TALLY_BUCKETS; k++)
			bucket[k] = r->bucket[k] - (moved ? old->bucket[k] : 0);
		r->new_n = old ? r->n - old->n : 0;
		r->rate = seconds > 0 ? (double)r->new_n / seconds : 0;
		r->error_percent = n ? 100.0 * (double)errors / (double)n : 0;
		r->p50_ms = quantile(bucket, n, 0.5);
		r->p99_ms = quantile(bucket, n, 0.99);
	}
}

static int by_rate(const void *a, const void *b)
{
	const struct row *x = a;
	const struct row *y = b;

	if (x->rate != y->rate)
		return x->rate < y->rate ? 1 : -1;
	if (x->n != y->n)
		return x->n < y->n ? 1 : -1;
	return strcmp(x->service, y->service);
}

static int look_again(void *arg)
{
	struct top *top = arg;
	struct look *look = top->before;
	struct flat_strbuf text = {0};
	struct flat_pool pool = {0};
	struct flat_diags diags = {0};
	int ret = ctl_ask(top->ctl, "tophttp", &text, false);
	struct yaml_source source = {.file = "flatd", .text = text.data, .len = text.len};

	top->before = top->now;
	top->now = look;
	look->n = 0;
	look->at_s = ctl_now_s();
	/* JSON is YAML. */
	if (ret == CTL_OK &&
	    (!text.len || yaml_read(&source, &pool, &diags, read_rows, look) != 0)) {
		fprintf(stderr,
			"flatctl: flatd's answer is not understood; is it another version?\n");
		ret = CTL_FAILED;
	}
	compare(look, top->before);
	qsort(look->rows, look->n, sizeof(look->rows[0]), by_rate);
	flat_diags_fini(&diags);
	flat_pool_fini(&pool);
	flat_strbuf_fini(&text);
	return ret;
}

static void draw(void *arg, int lines, int columns, bool screen)
{
	const struct look *look = ((struct top *)arg)->now;
	const char *eol = screen ? "\033[K\n" : "\n";
	int width = columns - 68 > 16 ? columns - 68 : 16;
	int shown = lines - 2 < (int)look->n ? lines - 2 : (int)look->n;
	char rate[24];

	if (screen)
		fputs("\033[H", stdout);
	printf("%-*.*s %-20.20s %12s %10s %7s %7s %7s%s", width, width, "SERVICE", "ROUTE",
	       "REQUESTS", "REQ/s", "ERR%", "P50 ms", "P99 ms", eol);
	for (int i = 0; i < shown; i++) {
		const struct row *r = &look->rows[i];

		printf("%-*.*s %-20.20s %12llu %10s %7.2f %7.2f %7.2f%s", width, width, r->service,
		       r->route, (unsigned long long)r->n, ctl_human(r->rate, rate),
		       r->error_percent, r->p50_ms, r->p99_ms, eol);
	}
	if (screen)
		fputs("\033[J", stdout);
	fflush(stdout);
}

static int print_json(const struct ctl *ctl)
{
	struct flat_strbuf text = {0};
	int ret = ctl_ask(ctl, "tophttp", &text, false);

	if (ret == CTL_OK && text.len > 0)
		fwrite(text.data, 1, text.len, stdout);
	flat_strbuf_fini(&text);
	return ret;
}

int ctl_top_http(const struct ctl *ctl)
{
	struct top top = {.ctl = ctl};
	struct ctl_view view = {.look = look_again, .draw = draw, .arg = &top};
	int ret = CTL_FAILED;

	if (ctl->json)
		return print_json(ctl);
	top.before = calloc(1, sizeof(*top.before));
	top.now = calloc(1, sizeof(*top.now));
	if (top.before && top.now)
		ret = ctl_view(ctl, &view);
	free(top.before);
	free(top.now);
	return ret;
}
