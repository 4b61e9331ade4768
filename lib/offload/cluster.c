#include "offload/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/worker.h"

/* --- by name --- */

/* A host, a port, and a subset's name as far as it fits: others of a like name share with it. */
#define KEY_MAX 600

static size_t make_key(char key[KEY_MAX], const char *host, uint16_t port, const char *subset)
{
	size_t len = flat_min_size(strlen(host), KEY_MAX - 1 - sizeof(port));
	size_t rest = flat_min_size(strlen(subset), KEY_MAX - len - 1 - sizeof(port));

	memcpy(key, host, len);
	key[len] = 0;
	memcpy(key + len + 1, &port, sizeof(port));
	memcpy(key + len + 1 + sizeof(port), subset, rest);
	return len + 1 + sizeof(port) + rest;
}

static void cluster_free(struct flat_cluster *c)
{
	flat_balance_fini(&c->turns);
	flat_hash_table_fini(&c->table);
	free(c->hosts);
	free(c);
}

struct flat_cluster *flat_cluster_get(struct flat_map *clusters, const char *host, uint16_t port,
				      const char *subset)
{
	char key[KEY_MAX];
	size_t len = make_key(key, host, port, subset);
	struct flat_cluster *c = flat_map_get(clusters, key, len);

	if (c)
		return c;
	c = calloc(1, sizeof(*c) + len);
	if (!c)
		return NULL;
	c->port = port;
	c->random = (flat_hash(key, len) ^ (uint64_t)flat_now_us()) | 1;
	memcpy(c->host, key, len);
	if (flat_map_put(clusters, c->host, len, c) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

static void drop(struct flat_cluster *c)
{
	c->dropped = true;
	if (c->busy == 0)
		cluster_free(c);
}

void flat_clusters_keep(struct flat_map *clusters,
			bool (*keep)(const void *arg, const char *host, uint16_t port),
			const void *arg)
{
	struct flat_map old = *clusters;

	memset(clusters, 0, sizeof(*clusters));
	for (size_t i = 0; i < old.cap; i++) {
		struct flat_cluster *c = old.slots[i].key ? old.slots[i].value : NULL;

		if (c && (!keep(arg, c->host, c->port) ||
			  flat_map_put(clusters, c->host, old.slots[i].len, c) != 0))
			drop(c);
	}
	flat_map_fini(&old);
}

void flat_clusters_free(struct flat_map *clusters)
{
	for (size_t i = 0; i < clusters->cap; i++) {
		if (clusters->slots[i].key)
			cluster_free(clusters->slots[i].value);
	}
	flat_map_fini(clusters);
}

/* --- who is how busy --- */

static struct flat_cluster_host *find_host(struct flat_cluster *c, const struct flat_addr *addr)
{
	for (uint32_t i = 0; i < c->n_hosts; i++) {
		if (memcmp(&c->hosts[i].addr, addr, sizeof(*addr)) == 0)
			return &c->hosts[i];
	}
	return NULL;
}

static struct flat_addr addr_of(const struct flat_endpoint *e)
{
	struct flat_addr a = {.family = e->ip.family, .port = e->port};

	memcpy(a.ip, e->ip.bytes, sizeof(a.ip));
	return a;
}

static bool hosts_are(const struct flat_cluster *c, const struct flat_choice *choice)
{
	if (c->n_hosts != choice->n)
		return false;
	for (uint32_t i = 0; i < choice->n; i++) {
		struct flat_addr a = addr_of(&choice->v[i]);

		if (memcmp(&c->hosts[i].addr, &a, sizeof(a)) != 0)
			return false;
	}
	return true;
}

/* What is known of an endpoint goes with its address. */
static int settle_hosts(struct flat_cluster *c, const struct flat_choice *choice)
{
	struct flat_cluster_host *hosts;

	if (hosts_are(c, choice))
		return 0;
	hosts = calloc((size_t)choice->n + 1, sizeof(*hosts));
	if (!hosts)
		return -ENOMEM;
	for (uint32_t i = 0; i < choice->n; i++) {
		const struct flat_cluster_host *known;

		hosts[i].addr = addr_of(&choice->v[i]);
		known = find_host(c, &hosts[i].addr);
		if (known)
			hosts[i] = *known;
	}
	free(c->hosts);
	c->hosts = hosts;
	c->n_hosts = choice->n;
	return 0;
}

void flat_cluster_enter(struct flat_cluster *c, const struct flat_addr *addr)
{
	struct flat_cluster_host *h = find_host(c, addr);

	c->busy++;
	if (h)
		h->active++;
}

void flat_cluster_leave(struct flat_cluster *c, const struct flat_addr *addr)
{
	struct flat_cluster_host *h = find_host(c, addr);

	/* It may have gone and come back meanwhile. */
	if (h && h->active > 0)
		h->active--;
	if (--c->busy == 0 && c->dropped)
		cluster_free(c);
}

/* --- picking --- */

static bool usable(const struct flat_choice *choice, uint32_t i)
{
	return !choice->usable || choice->usable(choice->arg, i, &choice->v[i]);
}

/* xorshift64*: shares of work want no secrets. */
static uint64_t draw(uint64_t *state, uint64_t below)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return (x * 0x2545f4914f6cdd1dULL >> 16) % below;
}

/* One of the usable ones, by weight. */
static int pick_random(const struct flat_choice *choice, uint64_t *random)
{
	uint64_t total = 0;
	uint64_t at;

	for (uint32_t i = 0; i < choice->n; i++)
		total += usable(choice, i) ? choice->v[i].weight : 0;
	if (total == 0)
		return -EHOSTUNREACH;
	at = draw(random, total);
	for (uint32_t i = 0; i < choice->n; i++) {
		if (!usable(choice, i))
			continue;
		if (at < choice->v[i].weight)
			return (int)i;
		at -= choice->v[i].weight;
	}
	return -EHOSTUNREACH;
}

/* Of two drawn by chance the one with less to do (Mitzenmacher 2001: almost as good as of all). */
static int pick_least(struct flat_cluster *c, const struct flat_choice *choice, uint64_t *random)
{
	int err = settle_hosts(c, choice);
	int a = err == 0 ? pick_random(choice, random) : err;
	int b = a >= 0 ? pick_random(choice, random) : a;

	if (b < 0)
		return b;
	return c->hosts[b].active < c->hosts[a].active ? b : a;
}

static uint64_t sum_of(const struct flat_choice *choice)
{
	uint64_t sum = ((uint64_t)choice->lb->kind << 32) | choice->lb->size;

	for (uint32_t i = 0; i < choice->n; i++) {
		struct flat_addr a = addr_of(&choice->v[i]);

		if (!usable(choice, i))
			continue;
		a.scope_id = choice->v[i].weight;
		sum = flat_xxh64(&a, sizeof(a), sum + i);
	}
	return sum | 1;
}

static int build_table(struct flat_cluster *c, const struct flat_choice *choice)
{
	struct flat_hash_host *hosts = calloc((size_t)choice->n + 1, sizeof(*hosts));
	char(*names)[FLAT_ADDR_STRLEN] = calloc((size_t)choice->n + 1, sizeof(*names));
	uint32_t n = 0;
	int err = -ENOMEM;

	for (uint32_t i = 0; hosts && names && i < choice->n; i++) {
		struct flat_addr a = addr_of(&choice->v[i]);

		if (!usable(choice, i))
			continue;
		hosts[n].name = flat_addr_str(&a, names[n]);
		hosts[n].weight = choice->v[i].weight;
		hosts[n++].index = i;
	}
	if (hosts && names)
		err =
		    flat_hash_table_build(&c->table, choice->lb->kind, choice->lb->size, hosts, n);
	free(names);
	free(hosts);
	return err;
}

static int pick_hashed(struct flat_cluster *c, const struct flat_choice *choice)
{
	uint64_t sum = sum_of(choice);
	int i;

	if (sum != c->sum) {
		int err = build_table(c, choice);

		c->sum = err == 0 ? sum : 0;
		if (err != 0)
			return err;
	}
	i = flat_hash_table_pick(&c->table, choice->hash);
	return i < 0 ? -EHOSTUNREACH : i;
}

static int pick_turn(struct flat_cluster *c, const struct flat_choice *choice)
{
	struct flat_balance_state copy = {0};
	struct flat_balance_state *state = choice->dry ? &copy : &c->turns;
	int i;

	if (choice->dry && c->turns.n == choice->n && choice->n > 0) {
		copy.current = malloc(choice->n * sizeof(*copy.current));
		if (!copy.current)
			return -ENOMEM;
		memcpy(copy.current, c->turns.current, choice->n * sizeof(*copy.current));
		copy.n = choice->n;
	}
	i = flat_balance_pick(state, choice->v, choice->n, choice->usable, choice->arg);
	flat_balance_fini(&copy);
	return i;
}

int flat_cluster_pick(struct flat_cluster *c, const struct flat_choice *choice)
{
	uint64_t copy = c->random;
	uint64_t *random = choice->dry ? &copy : &c->random;

	switch (choice->lb ? choice->lb->kind : FLAT_LB_ROUND_ROBIN) {
	case FLAT_LB_LEAST_REQUEST:
		return pick_least(c, choice, random);
	case FLAT_LB_RANDOM:
		return pick_random(choice, random);
	case FLAT_LB_RING_HASH:
	case FLAT_LB_MAGLEV:
		return choice->hashed ? pick_hashed(c, choice) : pick_random(choice, random);
	default:
		return pick_turn(c, choice);
	}
}
