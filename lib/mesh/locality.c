#include "mesh/locality.h"

#include <stdio.h>
#include <string.h>

#include "codec/http.h"

/* What 100 % of the endpoints of a level can bear, in percent: Envoy's overprovisioning factor. */
#define BEAR_PERCENT 140U

/* --- localities --- */

const char *flat_locality_of(const struct flat_labels *labels, char *buf, size_t size)
{
	const char *region = flat_labels_get(labels, "topology.kubernetes.io/region");
	const char *zone = flat_labels_get(labels, "topology.kubernetes.io/zone");
	const char *subzone = flat_labels_get(labels, "topology.istio.io/subzone");
	const char *all = flat_labels_get(labels, "istio-locality");
	int n;

	if (all) {
		/* A label cannot hold a slash: dots stand for it. */
		n = snprintf(buf, size, "%s", all);
		for (char *p = buf; !strchr(all, '/') && *p; p++)
			*p = *p == '.' ? '/' : *p;
	} else if (region) {
		n = snprintf(buf, size, "%s%s%s%s%s", region, zone ? "/" : "", zone ? zone : "",
			     zone && subzone ? "/" : "", zone && subzone ? subzone : "");
	} else {
		return NULL;
	}
	return n > 0 && (size_t)n < size ? buf : NULL;
}

/* The next piece of a locality, without the slash; "" after the last. */
static struct flat_span piece(const char **p)
{
	struct flat_span s = {*p, strcspn(*p, "/")};

	*p += s.len + ((*p)[s.len] == '/');
	return s;
}

static bool same(struct flat_span a, struct flat_span b)
{
	return a.len == b.len && memcmp(a.text, b.text, a.len) == 0;
}

bool flat_locality_match(const char *pattern, const char *locality)
{
	const char *a = pattern;
	const char *b = locality ? locality : "";

	for (int i = 0; i < 3; i++) {
		struct flat_span want = piece(&a);
		struct flat_span have = piece(&b);

		/* "us-east" means all of its zones. */
		if ((want.len == 1 && want.text[0] == '*') || (want.len == 0 && i > 0))
			continue;
		if (!same(want, have))
			return false;
	}
	return true;
}

uint32_t flat_locality_distance(const char *a, const char *b)
{
	const char *p = a ? a : "";
	const char *q = b ? b : "";

	for (uint32_t i = 0; i < 3; i++) {
		if (!same(piece(&p), piece(&q)))
			return 3 - i;
	}
	return 0;
}

/* --- places --- */

/* Labels in which endpoint and client agree, from the first on: the more, the nearer. */
static uint32_t by_labels(const struct flat_locality_lb *lb, const struct flat_labels *client,
			  const struct flat_labels *endpoint)
{
	uint32_t agree = 0;

	for (; agree < lb->n_priority; agree++) {
		const char *entry = lb->priority[agree];
		const char *equals = strchr(entry, '=');
		char key[256];
		const char *want;
		const char *have;

		snprintf(key, sizeof(key), "%.*s", equals ? (int)(equals - entry) : 255, entry);
		want = equals ? equals + 1 : client ? flat_labels_get(client, key) : NULL;
		have = flat_labels_get(endpoint, key);
		if (strcmp(want ? want : "", have ? have : "") != 0)
			break;
	}
	return lb->n_priority - agree;
}

static uint32_t by_locality(const struct flat_locality_lb *lb, const char *client,
			    const char *endpoint)
{
	uint32_t level = flat_locality_distance(client, endpoint);
	const char *from = client;
	const char *to = endpoint ? endpoint : "";
	struct flat_span region = piece(&from);
	struct flat_span other = piece(&to);

	/* Another region, and not the one that was named: the last resort. */
	for (uint32_t i = 0; lb && level == 3 && i < lb->n_failover; i++) {
		if (same(flat_span_of(lb->failover[i].from), region) &&
		    !same(flat_span_of(lb->failover[i].to), other))
			level = 4;
	}
	return level;
}

static void spread(const struct flat_locality_spread *s, const struct flat_endpoint *v, uint32_t n,
		   struct flat_place *places)
{
	for (uint32_t i = 0; i < n; i++)
		places[i].share = 0;
	for (uint32_t k = 0; k < s->n_to; k++) {
		uint64_t weight = 0;

		for (uint32_t i = 0; i < n; i++) {
			if (places[i].share == 0 && flat_locality_match(s->to[k].to, v[i].locality))
				weight += v[i].weight;
		}
		/* Shared out within the locality by weight. */
		for (uint32_t i = 0; i < n; i++) {
			if (places[i].share == 0 && flat_locality_match(s->to[k].to, v[i].locality))
				places[i].share = (double)s->to[k].weight / (double)weight;
		}
	}
}

/* Levels without gaps; returns how many there are. */
static uint32_t compact(struct flat_place *places, uint32_t n)
{
	uint32_t next = 0;
	uint32_t at = 0;

	while (n > 0) {
		uint32_t least = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++) {
			if (places[i].level >= at && places[i].level < least)
				least = places[i].level;
		}
		if (least == UINT32_MAX)
			break;
		for (uint32_t i = 0; i < n; i++) {
			if (places[i].level == least)
				places[i].level = next;
		}
		at = least + 1;
		next++;
	}
	return next ? next : 1;
}

uint32_t flat_locality_places(const struct flat_locality_lb *lb, bool failover,
			      const char *locality, const struct flat_labels *labels,
			      const struct flat_endpoint *v, uint32_t n, struct flat_place *places)
{
	bool known = locality && *locality;

	for (uint32_t i = 0; i < n; i++)
		places[i] = (struct flat_place){.level = 0, .share = 1};
	if (lb && lb->off)
		return 1;
	if (lb && lb->n_distribute > 0) {
		for (uint32_t i = 0; known && i < lb->n_distribute; i++) {
			if (flat_locality_match(lb->distribute[i].from, locality)) {
				spread(&lb->distribute[i], v, n, places);
				break;
			}
		}
		return 1;
	}
	if (!failover)
		return 1;
	for (uint32_t i = 0; lb && lb->n_priority > 0 && i < n; i++)
		places[i].level = by_labels(lb, labels, v[i].labels) * 5;
	/* Regions beside labels only where they are named. */
	for (uint32_t i = 0; known && (!lb || !lb->n_priority || lb->n_failover) && i < n; i++)
		places[i].level += by_locality(lb, locality, v[i].locality);
	return compact(places, n);
}

/* --- loads --- */

static uint32_t health_of(const struct flat_level_load *l)
{
	uint64_t percent = l->total ? (uint64_t)BEAR_PERCENT * l->healthy / l->total : 0;

	return percent > 100 ? 100 : (uint32_t)percent;
}

/* Nobody is healthy enough: by their numbers. */
static void load_by_number(struct flat_level_load *levels, uint32_t n)
{
	uint64_t all = 0;
	uint32_t left = 100;
	uint32_t first = 0;

	for (uint32_t i = 0; i < n; i++)
		all += levels[i].total;
	for (uint32_t i = n; i-- > 0;) {
		levels[i].load = all ? (uint32_t)(100ULL * levels[i].total / all) : 0;
		left -= levels[i].load;
		first = levels[i].total ? i : first;
	}
	levels[first].load += left;
}

void flat_level_loads(struct flat_level_load *levels, uint32_t n, uint32_t panic)
{
	uint32_t sum = 0;
	uint32_t left = 100;
	uint32_t first = UINT32_MAX;
	bool total_panic = true;

	for (uint32_t i = 0; i < n; i++) {
		sum += health_of(&levels[i]);
		levels[i].load = 0;
	}
	sum = sum > 100 ? 100 : sum;
	for (uint32_t i = 0; sum > 0 && i < n; i++) {
		uint32_t share = health_of(&levels[i]) * 100 / sum;

		levels[i].load = share < left ? share : left;
		left -= levels[i].load;
		if (first == UINT32_MAX && health_of(&levels[i]) > 0)
			first = i;
	}
	/* What rounding left over. */
	levels[first == UINT32_MAX ? 0 : first].load += left;
	for (uint32_t i = 0; i < n; i++) {
		levels[i].panic =
		    sum < 100 && levels[i].healthy * 100.0 < (double)panic * levels[i].total;
		total_panic &= levels[i].panic;
	}
	if (total_panic)
		load_by_number(levels, n);
}
