/* Local rate limits: a bucket of tokens for each limit and workload of servers. */
#include "offload/l7_limit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pairs of limit and workload that have buckets. */
#define BUCKETS_MAX 4096U

struct bucket {
	uint32_t tokens;
	int64_t filled_us; /* when it was filled last */
	uint64_t allowed, limited;
	char *key; /* "NAMESPACE/NAME LINE WORKLOAD" */
};

struct flat_l7_limits {
	struct flat_map map;
	struct bucket *v[BUCKETS_MAX];
	uint32_t n;
};

void flat_l7_limits_fini(struct flat_l7_node *node)
{
	struct flat_l7_limits *all = node->limits;

	for (uint32_t i = 0; all && i < all->n; i++) {
		free(all->v[i]->key);
		free(all->v[i]);
	}
	if (all)
		flat_map_fini(&all->map);
	free(all);
	node->limits = NULL;
}

static struct bucket *find(struct flat_l7_node *node, const struct flat_local_limit *limit,
			   const struct flat_workload *workload)
{
	struct flat_l7_limits *all = node->limits;
	struct bucket *b;
	char key[512];

	if (!all)
		all = node->limits = calloc(1, sizeof(*all));
	if (!all)
		return NULL;
	snprintf(key, sizeof(key), "%s/%s:%u %s/%s", limit->namespace, limit->name,
		 limit->where.line, workload ? workload->namespace : "",
		 workload ? workload->name : "");
	b = flat_map_get_str(&all->map, key);
	if (b || all->n == BUCKETS_MAX)
		return b;
	b = calloc(1, sizeof(*b));
	if (b)
		b->key = strdup(key);
	if (!b || !b->key || flat_map_put_str(&all->map, b->key, b) != 0) {
		if (b)
			free(b->key);
		free(b);
		return NULL;
	}
	b->tokens = limit->max_tokens;
	b->filled_us = flat_now_us();
	all->v[all->n++] = b;
	return b;
}

/* As many fills as intervals have gone by. */
static void fill(struct bucket *b, const struct flat_local_limit *limit, int64_t now)
{
	int64_t interval = (int64_t)limit->interval_ms * 1000;
	uint64_t fills = (uint64_t)((now - b->filled_us) / interval);
	uint64_t room = limit->max_tokens - flat_min_size(b->tokens, limit->max_tokens);

	b->filled_us += (int64_t)fills * interval;
	b->tokens = limit->max_tokens - (uint32_t)room;
	if (fills == 0)
		return;
	/* A reload may have made it smaller. */
	b->tokens += fills >= room || fills * limit->per_fill >= room
			 ? (uint32_t)room
			 : (uint32_t)(fills * limit->per_fill);
}

static void note(struct flat_l7 *l7, const struct flat_local_limit *limit, const struct bucket *b)
{
	flat_l7_note(
	    l7->node,
	    "  local rate limit %s/%s (%s:%u): %u requests, and %u each %u ms; %u are left\n",
	    limit->namespace, limit->name, limit->where.file, limit->where.line, limit->max_tokens,
	    limit->per_fill, limit->interval_ms, b->tokens);
}

static bool applies(struct flat_l7 *l7, uint32_t of_million)
{
	return of_million == FLAT_MILLION || flat_l7_random(l7->node, FLAT_MILLION) < of_million;
}

static void refuse(const struct flat_local_limit *limit, struct flat_l7_answer *a)
{
	size_t len = 0;

	flat_l7_text(a, limit->status, FLAT_VERDICT_LIMITED, "local_rate_limited");
	for (uint32_t i = 0; i < limit->n_headers; i++) {
		int n = snprintf(a->fields + len, sizeof(a->fields) - len, "%s: %s\r\n",
				 limit->headers[i].name, limit->headers[i].value);

		/* Whole or not at all. */
		if (n < 0 || (size_t)n >= sizeof(a->fields) - len)
			break;
		len += (size_t)n;
	}
	a->fields[len] = 0;
}

bool flat_l7_limit(struct flat_l7 *l7, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_workload *workload = x->target.listener->session->workload;

	for (uint32_t i = 0; i < flat_mesh_n_limits(mesh); i++) {
		const struct flat_local_limit *limit = flat_mesh_limit(mesh, i);
		int64_t now = flat_now_us();
		struct bucket *b;

		if (!flat_limit_selects(mesh, limit, workload))
			continue;
		b = find(l7->node, limit, workload);
		if (!b)
			continue;
		fill(b, limit, now);
		if (l7->dry) {
			note(l7, limit, b);
			continue;
		}
		if (!applies(l7, limit->enabled_of_million))
			continue;
		if (limit->tells) {
			x->limit.max = limit->max_tokens;
			x->limit.left = b->tokens ? b->tokens - 1 : 0;
			x->limit.reset_s = (uint32_t)(((int64_t)limit->interval_ms * 1000 -
						       (now - b->filled_us) + 999999) /
						      1000000);
		}
		if (b->tokens > 0) {
			b->tokens--;
			b->allowed++;
			continue;
		}
		b->limited++;
		if (!applies(l7, limit->enforced_of_million))
			continue;
		refuse(limit, a);
		return true;
	}
	return false;
}

void flat_l7_limit_put(const struct flat_l7_exchange *x, struct flat_http1_out *out)
{
	char lines[160];

	snprintf(lines, sizeof(lines),
		 "x-ratelimit-limit: %u\r\nx-ratelimit-remaining: %u\r\nx-ratelimit-reset: %u\r\n",
		 x->limit.max, x->limit.left, x->limit.reset_s);
	flat_http1_puts(out, lines);
}

void flat_l7_limits_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	uint64_t n[2] = {0, 0};

	for (uint32_t i = 0; node->limits && i < node->limits->n; i++) {
		n[0] += node->limits->v[i]->allowed;
		n[1] += node->limits->v[i]->limited;
	}
	flat_strbuf_printf(out,
			   "# HELP flat_local_rate_limit_total Requests that met a local rate "
			   "limit, by whether a token was left.\n"
			   "# TYPE flat_local_rate_limit_total counter\n"
			   "flat_local_rate_limit_total{result=\"ok\"} %" PRIu64 "\n"
			   "flat_local_rate_limit_total{result=\"limited\"} %" PRIu64 "\n",
			   n[0], n[1]);
}
