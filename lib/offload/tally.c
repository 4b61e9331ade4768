#include "offload/tally.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "offload/admin.h"

struct flat_tally {
	char *service, *route;
	uint64_t n, errors;
	uint64_t bucket[FLAT_TALLY_BUCKETS];
};

struct flat_tallies {
	struct flat_map map; /* "SERVICE\nROUTE" */
	struct flat_tally *v[FLAT_TALLIES_MAX];
	char *key[FLAT_TALLIES_MAX];
	uint32_t n;
};

unsigned flat_tally_bucket(int64_t us)
{
	uint64_t v = us > 0 ? (uint64_t)us : 0;
	unsigned log, quarter;

	if (v < 4)
		return (unsigned)v;
	log = 63U - (unsigned)__builtin_clzll(v);
	quarter = (unsigned)(v >> (log - 2)) & 3U;
	v = (uint64_t)(log - 1) * 4 + quarter;
	return v < FLAT_TALLY_BUCKETS ? (unsigned)v : FLAT_TALLY_BUCKETS - 1;
}

double flat_tally_least_us(unsigned bucket)
{
	if (bucket < 4)
		return bucket;
	return ldexp(4.0 + bucket % 4, (int)(bucket / 4) - 1);
}

static struct flat_tally *make(struct flat_tallies *all, const char *key, const char *service,
			       const char *route)
{
	struct flat_tally *t = calloc(1, sizeof(*t));
	char *copy = strdup(key);

	if (t) {
		t->service = strdup(service);
		t->route = strdup(route);
	}
	if (!t || !copy || !t->service || !t->route || flat_map_put_str(&all->map, copy, t) != 0) {
		if (t) {
			free(t->service);
			free(t->route);
		}
		free(t);
		free(copy);
		return NULL;
	}
	all->key[all->n] = copy;
	all->v[all->n++] = t;
	return t;
}

static struct flat_tally *find(struct flat_tallies *all, const struct flat_l7_exchange *x)
{
	const char *service = x->service ? x->service->host : "-";
	char route[128] = "-";
	char key[512];
	struct flat_tally *t;

	/* A route without name is known by where it stands. */
	if (x->route && *x->route->name)
		snprintf(route, sizeof(route), "%s", x->route->name);
	else if (x->route)
		snprintf(route, sizeof(route), "line %u", x->route->where.line);
	snprintf(key, sizeof(key), "%s\n%s", service, route);
	t = flat_map_get_str(&all->map, key);
	if (t)
		return t;
	if (all->n < FLAT_TALLIES_MAX - 1)
		return make(all, key, service, route);
	t = flat_map_get_str(&all->map, "other\n-");
	return t || all->n == FLAT_TALLIES_MAX ? t : make(all, "other\n-", "other", "-");
}

void flat_tally_count(struct flat_l7 *l7, int64_t us)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_node *node = l7->node;
	struct flat_l7 *root = l7->root;

	/* Mostly what the request before was: flat_l7_join() forgets it with all else. */
	if (!root->tally || root->tally_route != x->route) {
		if (!node->tallies)
			node->tallies = calloc(1, sizeof(*node->tallies));
		root->tally = node->tallies ? find(node->tallies, x) : NULL;
		root->tally_route = x->route;
	}
	if (!root->tally)
		return;
	root->tally->n++;
	root->tally->errors +=
	    x->record.status >= 500 || x->record.status == 0 || (x->grpc && x->grpc_status > 0);
	root->tally->bucket[flat_tally_bucket(us)]++;
}

void flat_tally_fini(struct flat_l7_node *node)
{
	struct flat_tallies *all = node->tallies;

	for (uint32_t i = 0; all && i < all->n; i++) {
		free(all->v[i]->service);
		free(all->v[i]->route);
		free(all->v[i]);
		free(all->key[i]);
	}
	if (all)
		flat_map_fini(&all->map);
	free(all);
	node->tallies = NULL;
}

/* A bucket is told as its index and count, one after the other: most are empty. */
static void put_tally(const struct flat_tally *t, struct flat_json *j)
{
	flat_json_object(j, NULL);
	flat_json_string(j, "service", t->service);
	flat_json_string(j, "route", t->route);
	flat_json_uint(j, "requests", t->n);
	flat_json_uint(j, "errors", t->errors);
	flat_json_array(j, "buckets");
	for (unsigned i = 0; i < FLAT_TALLY_BUCKETS; i++) {
		if (t->bucket[i] == 0)
			continue;
		flat_json_uint(j, NULL, i);
		flat_json_uint(j, NULL, t->bucket[i]);
	}
	flat_json_array_end(j);
	flat_json_object_end(j);
}

void flat_admin_top_http(struct flat_offload *o, struct flat_strbuf *out)
{
	const struct flat_tallies *all = o->l7->tallies;
	struct flat_json j;

	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_array(&j, "routes");
	for (uint32_t i = 0; all && i < all->n; i++)
		put_tally(all->v[i], &j);
	flat_json_array_end(&j);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}
