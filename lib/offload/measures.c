#include "offload/measures.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/utf8.h"

/* --- labels --- */

void flat_metric_labels_add(struct flat_metric_labels *l, const char *name, const char *value)
{
	if (l->n < FLAT_METRIC_LABELS_MAX)
		l->v[l->n++] = (struct flat_metric_label){name, "", value};
}

void flat_metric_labels_set(struct flat_metric_labels *l, const char *name, const char *value)
{
	uint32_t i = 0;

	while (i < l->n && strcmp(l->v[i].name, name) != 0)
		i++;
	if (i == l->n) {
		if (value)
			flat_metric_labels_add(l, name, value);
		return;
	}
	if (value) {
		l->v[i].before = "";
		l->v[i].value = value;
		return;
	}
	l->n--;
	memmove(l->v + i, l->v + i + 1, (l->n - i) * sizeof(l->v[0]));
}

void flat_metrics_head(struct flat_strbuf *out, const char *name, const char *type,
		       const char *help)
{
	flat_strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void flat_metrics_one(struct flat_strbuf *out, const char *name, const char *type, const char *help,
		      uint64_t value)
{
	flat_metrics_head(out, name, type, help);
	flat_strbuf_printf(out, "%s %" PRIu64 "\n", name, value);
}

void flat_metrics_escape(struct flat_strbuf *out, const char *value)
{
	for (;;) {
		size_t plain = strcspn(value, "\\\"\n");

		flat_strbuf_add(out, value, plain);
		value += plain;
		if (!*value)
			return;
		flat_strbuf_putc(out, '\\');
		flat_strbuf_putc(out, *value == '\n' ? 'n' : *value);
		value++;
	}
}

void flat_metric_labels_text(const struct flat_metric_labels *l, struct flat_strbuf *out)
{
	flat_strbuf_putc(out, '{');
	for (uint32_t i = 0; i < l->n; i++) {
		if (i > 0)
			flat_strbuf_putc(out, ',');
		flat_strbuf_puts(out, l->v[i].name);
		flat_strbuf_puts(out, "=\"");
		flat_strbuf_puts(out, l->v[i].before);
		flat_metrics_escape(out, l->v[i].value);
		flat_strbuf_putc(out, '"');
	}
}

void flat_metric_clean(char *text, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t n = flat_utf8_len(text + i, len - i);

		if (n == 0 || (unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
		i += n ? n : 1;
	}
}

/* --- the table --- */

struct owner {
	uint32_t n; /* counts with computed values */
	bool told;
};

/* What the map looks up: nobody outside can foretell it, M3. */
struct key {
	uint64_t hash, metric;
};

struct entry {
	struct flat_measure measure;
	struct key key;
};

static uint64_t hash_of(struct flat_measures *t, const void *bytes, size_t len)
{
	/* Without random bytes the address of the table is what outsiders do not know. */
	if (!t->keyed && getrandom(t->key, sizeof(t->key), 0) != (ssize_t)sizeof(t->key))
		memcpy(t->key, &t, sizeof(t));
	t->keyed = true;
	return flat_siphash(t->key, bytes, len);
}

void flat_measures_write(struct flat_measures *t, const struct flat_metric_labels *l,
			 struct flat_metric_text *out)
{
	flat_strbuf_reset(&out->buf);
	flat_metric_labels_text(l, &out->buf);
	if (!out->buf.failed)
		out->hash = hash_of(t, out->buf.data, out->buf.len);
}

static struct flat_measure *look_up(const struct flat_measures *t, const struct key *key,
				    const struct flat_strbuf *labels)
{
	struct entry *e = flat_map_get(&t->map, key, sizeof(*key));

	if (!e || e->measure.len != labels->len ||
	    memcmp(e->measure.labels, labels->data, labels->len) != 0)
		return NULL;
	return &e->measure;
}

static struct flat_measure *add(struct flat_measures *t, const struct key *key,
				const struct flat_strbuf *labels)
{
	struct entry *e;

	if (t->n == t->room) {
		uint32_t room = t->room ? 2 * t->room : 64;
		struct flat_measure **v = realloc(t->v, room * sizeof(struct flat_measure *));

		if (!v)
			return NULL;
		t->v = v;
		t->room = room;
	}
	e = flat_pool_alloc(&t->pool, sizeof(*e));
	if (!e)
		return NULL;
	e->key = *key;
	e->measure.metric = (enum flat_metric)key->metric;
	e->measure.labels = flat_pool_strndup(&t->pool, labels->data, labels->len);
	e->measure.len = labels->len;
	/* -EEXIST: two texts with one hash, which nobody can choose; the second has no room. */
	if (!e->measure.labels || flat_map_put(&t->map, &e->key, sizeof(e->key), e) != 0)
		return NULL;
	t->v[t->n++] = &e->measure;
	return &e->measure;
}

static struct owner *owner_of(struct flat_measures *t, const char *name)
{
	struct owner *o = flat_map_get_str(&t->owners, name);
	char *copy;

	if (o || t->owners.n >= FLAT_MEASURES_MAX)
		return o;
	copy = flat_pool_strdup(&t->pool, name);
	o = flat_pool_alloc(&t->pool, sizeof(*o));
	return o && copy && flat_map_put_str(&t->owners, copy, o) == 0 ? o : NULL;
}

static struct flat_measure *add_computed(struct flat_measures *t, const struct key *key,
					 const struct flat_strbuf *labels, const char *name)
{
	struct owner *o = owner_of(t, name);
	uint32_t max = t->max ? t->max : FLAT_MEASURES_MAX;
	uint32_t max_of_one = t->max_of_one ? t->max_of_one : FLAT_MEASURES_OF_ONE;
	struct flat_measure *m = NULL;

	if (!o)
		return NULL;
	if (o->n < max_of_one && t->n_computed < max / 2)
		m = add(t, key, labels);
	if (m) {
		o->n++;
		t->n_computed++;
	} else if (!o->told) {
		o->told = true;
		flat_warn("metrics of %s: labels that its Telemetry computes have more than %u "
			  "values; further "
			  "ones are counted as \"other\": let the expressions have fewer",
			  name, o->n);
	}
	return m;
}

struct flat_measure *flat_measures_get(struct flat_measures *t, enum flat_metric metric,
				       const struct flat_metric_text *text, const char *owner)
{
	const struct flat_strbuf *labels = &text->buf;
	const struct key key = {text->hash, (uint64_t)metric};
	struct flat_measure *m;

	if (labels->failed || labels->len == 0)
		return NULL;
	m = look_up(t, &key, labels);
	if (m)
		return m;
	if (owner)
		m = add_computed(t, &key, labels, owner);
	else if (t->n < (t->max ? t->max : FLAT_MEASURES_MAX))
		m = add(t, &key, labels);
	if (!m)
		t->bounded[owner ? FLAT_BOUND_SERIES : FLAT_BOUND_TABLE]++;
	return m;
}

struct flat_measure_recent *flat_measures_recent(struct flat_measures *t,
						 const struct flat_measure_made_of *of)
{
	size_t len = offsetof(struct flat_measure_made_of, values) + of->len;
	struct flat_measure_recent *r;

	if (!t->recent)
		t->recent = calloc(FLAT_MEASURES_RECENT, sizeof(*t->recent));
	if (!t->recent)
		return NULL;
	r = &t->recent[hash_of(t, of, len) % FLAT_MEASURES_RECENT];
	/* An empty place has no series. */
	if (r->of.base && memcmp(&r->of, of, len) == 0)
		return r;
	memcpy(&r->of, of, len);
	memset(r->v, 0, sizeof(r->v));
	return r;
}

struct flat_measure *flat_measures_take(struct flat_measures *t, enum flat_metric metric,
					const struct flat_metric_text *text)
{
	const struct key key = {text->hash, (uint64_t)metric};
	struct flat_measure *m;

	if (t->n == 0 || text->buf.failed || text->buf.len == 0)
		return NULL;
	m = look_up(t, &key, &text->buf);
	if (!m || m->shown)
		return NULL;
	m->shown = true;
	return m;
}

void flat_measures_fini(struct flat_measures *t)
{
	flat_map_fini(&t->map);
	flat_map_fini(&t->owners);
	flat_pool_fini(&t->pool);
	flat_strbuf_fini(&t->text.buf);
	flat_strbuf_fini(&t->other.buf);
	free(t->v);
	free(t->recent);
	memset(t, 0, sizeof(*t));
}

/* --- text --- */

void flat_measures_text(struct flat_measures *t, enum flat_metric metric, const char *name,
			struct flat_strbuf *out)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct flat_measure *m = t->v[i];

		if (m->metric != metric)
			continue;
		if (m->shown)
			m->shown = false;
		else if (metric > FLAT_METRIC_REQUESTS && metric < FLAT_METRICS_HTTP)
			flat_histogram_text(&m->histogram, m->n, name, m->labels, out);
		else
			flat_strbuf_printf(out, "%s%s} %" PRIu64 "\n", name, m->labels,
					   m->n + m->live);
	}
}

void flat_measures_bounds_text(const struct flat_measures *t, struct flat_strbuf *out)
{
	static const char *const names[FLAT_BOUNDS] = {"value", "series", "table"};

	flat_strbuf_puts(
	    out, "# HELP flat_metric_bounded_total Labels of Telemetry that were over a bound: "
		 "values cut short, counted as \"other\", and not counted.\n"
		 "# TYPE flat_metric_bounded_total counter\n");
	for (int i = 0; i < FLAT_BOUNDS; i++)
		flat_strbuf_printf(out, "flat_metric_bounded_total{bound=\"%s\"} %" PRIu64 "\n",
				   names[i], t->bounded[i]);
}
