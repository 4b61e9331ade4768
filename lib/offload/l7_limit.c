/* Local rate limits: a bucket of tokens for each limit and workload of servers. */
#include "offload/l7_limit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "offload/l7_filter.h"

/* Pairs of limit and workload that have buckets. */
#define BUCKETS_MAX 4096U

struct tokens {
	uint32_t left;
	int64_t filled_us; /* when it was filled last */
};

/* Of a descriptor: where it names its values one, else one for each of the values used last. */
struct child {
	TAILQ_ENTRY(child) link; /* the one used last comes first */
	struct flat_l7_limit_key key;
	struct tokens tokens;
};

struct bucket {
	struct tokens tokens;
	TAILQ_HEAD(, child) children;
	uint32_t n_dynamic;
	uint64_t allowed, limited;
	char *key; /* "NAMESPACE/NAME LINE WORKLOAD" */
};

struct flat_l7_limits {
	struct flat_map map;
	struct bucket *v[BUCKETS_MAX];
	uint32_t n;
	uint64_t seed;
};

static void drop_child(struct bucket *b, struct child *c)
{
	TAILQ_REMOVE(&b->children, c, link);
	b->n_dynamic -= c->key.dynamic;
	free(c);
}

void flat_l7_limits_fini(struct flat_l7_node *node)
{
	struct flat_l7_limits *all = node->limits;

	for (uint32_t i = 0; all && i < all->n; i++) {
		struct child *next;

		for (struct child *c = TAILQ_FIRST(&all->v[i]->children); c; c = next) {
			next = TAILQ_NEXT(c, link);
			free(c);
		}
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
	if (all->seed == 0 && getrandom(&all->seed, sizeof(all->seed), GRND_NONBLOCK) < 0)
		all->seed = (uint64_t)flat_now_us();
	snprintf(key, sizeof(key), "%s/%s:%u %s/%s", limit->by.namespace, limit->by.name,
		 limit->by.where.line, workload ? workload->namespace : "",
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
	TAILQ_INIT(&b->children);
	b->tokens = (struct tokens){limit->rate.max_tokens, flat_now_us()};
	all->v[all->n++] = b;
	return b;
}

/* As many fills as intervals have gone by. */
static void fill(struct tokens *t, const struct flat_token_rate *rate, int64_t now)
{
	int64_t interval = (int64_t)rate->interval_ms * 1000;
	uint64_t fills = (uint64_t)((now - t->filled_us) / interval);
	uint64_t room = rate->max_tokens - flat_min_size(t->left, rate->max_tokens);

	t->filled_us += (int64_t)fills * interval;
	/* A reload may have made it smaller. */
	t->left = rate->max_tokens - (uint32_t)room;
	if (fills == 0)
		return;
	t->left += fills >= room || fills * rate->per_fill >= room
		       ? (uint32_t)room
		       : (uint32_t)(fills * rate->per_fill);
}

/* The bucket of a descriptor; NULL without memory. The one used least goes where there are too many. */
static struct child *child_of(struct bucket *b, const struct flat_local_limit *limit,
			      const struct flat_l7_limit_key *key, int64_t now)
{
	struct child *oldest = NULL;
	struct child *c;

	TAILQ_FOREACH(c, &b->children, link)
	{
		if (c->key.descriptor == key->descriptor && c->key.dynamic == key->dynamic &&
		    c->key.hash == key->hash)
			break;
		oldest = c->key.dynamic ? c : oldest;
	}
	if (c) {
		TAILQ_REMOVE(&b->children, c, link);
	} else {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		if (key->dynamic && b->n_dynamic >= limit->max_dynamic && oldest)
			drop_child(b, oldest);
		c->key = *key;
		c->tokens =
		    (struct tokens){limit->descriptors[key->descriptor].rate.max_tokens, now};
		b->n_dynamic += key->dynamic;
	}
	TAILQ_INSERT_HEAD(&b->children, c, link);
	return c;
}

static void note(struct flat_l7 *l7, const struct flat_http_request *request,
		 const struct flat_local_limit *limit, const struct bucket *b)
{
	struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX];
	uint32_t n = flat_l7_limit_keys(l7, request, limit, l7->node->limits->seed, keys);

	flat_l7_note(
	    l7->node,
	    "  local rate limit %s/%s (%s:%u): %u requests, and %u each %u ms; %u are left\n",
	    limit->by.namespace, limit->by.name, limit->by.where.file, limit->by.where.line,
	    limit->rate.max_tokens, limit->rate.per_fill, limit->rate.interval_ms, b->tokens.left);
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_limit_descriptor *d = &limit->descriptors[keys[i].descriptor];

		flat_l7_note(l7->node,
			     "    as descriptor %u (%s%s): %u requests, and %u each %u ms\n",
			     keys[i].descriptor + 1, d->entries[0].key, d->n > 1 ? ", ..." : "",
			     d->rate.max_tokens, d->rate.per_fill, d->rate.interval_ms);
	}
}

static bool applies(struct flat_l7 *l7, uint32_t of_million)
{
	return of_million == FLAT_MILLION || flat_l7_random(l7->node, FLAT_MILLION) < of_million;
}

void flat_l7_limit_headers(struct flat_l7_answer *a, const struct flat_name_value *v, uint32_t n)
{
	size_t len = strlen(a->fields);

	for (uint32_t i = 0; i < n; i++) {
		int put = snprintf(a->fields + len, sizeof(a->fields) - len, "%s: %s\r\n",
				   v[i].name, v[i].value);

		/* Whole or not at all. */
		if (put < 0 || (size_t)put >= sizeof(a->fields) - len)
			break;
		len += (size_t)put;
	}
	a->fields[len] = 0;
}

static void refuse(const struct flat_local_limit *limit, struct flat_l7_answer *a)
{
	flat_l7_text(a, limit->status, FLAT_VERDICT_LIMITED, "local_rate_limited");
	a->grpc = limit->exhausted ? FLAT_L7_GRPC_EXHAUSTED + 1 : 0;
	flat_l7_limit_headers(a, limit->headers, limit->n_headers);
}

/* What the client is told: of the bucket that decided. */
static void tell(struct flat_l7_exchange *x, const struct tokens *t,
		 const struct flat_token_rate *rate, int64_t now)
{
	int64_t left_us = (int64_t)rate->interval_ms * 1000 - (now - t->filled_us);

	x->limit.max = rate->max_tokens;
	x->limit.left = t->left;
	x->limit.reset_s = (uint32_t)((left_us + 999999) / 1000000);
}

static bool take(struct tokens *t, const struct flat_token_rate *rate, uint32_t n, int64_t now)
{
	fill(t, rate, now);
	if (t->left < n)
		return false;
	t->left -= n;
	return true;
}

/* As Envoy: all descriptors' buckets, and then the one of all. False: one was empty. */
static bool take_all(struct flat_l7 *l7, const struct flat_http_request *request,
		     const struct flat_local_limit *limit, struct bucket *b, int64_t now)
{
	struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX];
	struct flat_l7_exchange *x = &l7->x;
	uint32_t n = limit->n_descriptors
			 ? flat_l7_limit_keys(l7, request, limit, l7->node->limits->seed, keys)
			 : 0;
	const struct tokens *decided = NULL;
	const struct flat_token_rate *rate = &limit->rate;
	bool good = true;

	for (uint32_t i = 0; i < n && good; i++) {
		const struct flat_token_rate *own = &limit->descriptors[keys[i].descriptor].rate;
		struct child *c = child_of(b, limit, &keys[i], now);

		if (!c)
			continue;
		good = take(&c->tokens, own, keys[i].hits, now);
		if (!decided || !good) {
			decided = &c->tokens;
			rate = own;
		}
	}
	if (good && (n == 0 || !limit->spares)) {
		good = take(&b->tokens, &limit->rate, 1, now);
		if (!decided || !good) {
			decided = &b->tokens;
			rate = &limit->rate;
		}
	}
	if (limit->tells && decided)
		tell(x, decided, rate, now);
	return good;
}

bool flat_l7_limit(struct flat_l7 *l7, const struct flat_http_request *request,
		   struct flat_l7_answer *a)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_workload *workload = l7->x.target.listener->session->workload;
	struct flat_filter_whose whose = {.port = 0};

	(void)flat_l7_filter_server(l7, &whose);
	for (uint32_t i = 0; i < flat_mesh_n_limits(mesh); i++) {
		const struct flat_local_limit *limit = flat_mesh_limit(mesh, i);
		int64_t now = flat_now_us();
		struct bucket *b;

		if (!flat_limit_at(&limit->by, whose.port, whose.other_port) ||
		    !flat_limit_selects(mesh, &limit->by, workload))
			continue;
		b = find(l7->node, limit, workload);
		if (!b)
			continue;
		if (l7->dry) {
			fill(&b->tokens, &limit->rate, now);
			note(l7, request, limit, b);
			continue;
		}
		if (!applies(l7, limit->enabled_of_million))
			continue;
		if (take_all(l7, request, limit, b, now)) {
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
