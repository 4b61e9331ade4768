#include "offload/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offload/health.h"
#include "offload/offload.h"
#include "offload/persist.h"

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

const char *flat_cluster_subset(const struct flat_cluster *c)
{
	return c->host + strlen(c->host) + 1 + sizeof(c->port);
}

void flat_cluster_host_put(struct flat_cluster_host *host)
{
	if (host && --host->refs == 0)
		free(host);
}

const struct flat_breaker flat_unbroken = {
    .max_connections = FLAT_UNBOUNDED,
    .max_pending = FLAT_UNBOUNDED,
    .max_requests = FLAT_UNBOUNDED,
    .max_retries = FLAT_UNBOUNDED,
};

static void cluster_free(struct flat_cluster *c)
{
	flat_health_join(c, NULL);
	flat_views_free(c);
	for (uint32_t i = 0; i < c->n_hosts; i++)
		flat_cluster_host_put(c->hosts[i]);
	flat_candidates_free(c->candidates);
	flat_persist_table_free(c->tags);
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
	c = calloc(1, sizeof(*c) + len + 1);
	if (!c)
		return NULL;
	c->port = port;
	c->breaker = flat_unbroken;
	c->random = (flat_hash(key, len) ^ (uint64_t)flat_now_us()) | 1;
	c->sweep_us = flat_now_us();
	TAILQ_INIT(&c->waiters);
	TAILQ_INIT(&c->idle);
	memcpy(c->host, key, len);
	if (flat_map_put(clusters, c->host, len, c) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

void flat_cluster_hold(struct flat_cluster *c)
{
	c->refs++;
}

void flat_cluster_drop(struct flat_cluster *c)
{
	if (--c->refs == 0 && c->dropped)
		cluster_free(c);
}

static void forget(struct flat_cluster *c)
{
	c->dropped = true;
	if (c->refs == 0)
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
			forget(c);
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

/* --- who they are --- */

static struct flat_addr addr_of(const struct flat_endpoint *e)
{
	struct flat_addr a = {.family = e->ip.family, .port = e->port};

	memcpy(a.ip, e->ip.bytes, sizeof(a.ip));
	return a;
}

/* The host that was of this address; `hint` is where it most likely stands. */
static struct flat_cluster_host *known_host(const struct flat_map *known, struct flat_cluster *c,
					    const struct flat_addr *addr, uint32_t hint)
{
	if (hint < c->n_hosts && flat_addr_equal(&c->hosts[hint]->addr, addr))
		return c->hosts[hint];
	return flat_map_get(known, addr, sizeof(*addr));
}

static struct flat_cluster_host *new_host(const struct flat_cluster *c,
					  const struct flat_addr *addr, int64_t now_us)
{
	struct flat_cluster_host *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->addr = *addr;
	h->since_us = c->stamp ? now_us : 0;
	return h;
}

static int fill_hosts(struct flat_cluster *c, const struct flat_choice *choice,
		      const struct flat_map *known, struct flat_cluster_host **hosts)
{
	for (uint32_t i = 0; i < choice->n; i++) {
		struct flat_addr a = addr_of(&choice->v[i]);

		hosts[i] = known_host(known, c, &a, i);
		if (!hosts[i])
			hosts[i] = new_host(c, &a, choice->now_us);
		if (!hosts[i])
			return -ENOMEM;
		hosts[i]->refs++;
	}
	return 0;
}

/* What is known of an endpoint goes with its address. */
static int settle_hosts(struct flat_cluster *c, const struct flat_choice *choice)
{
	struct flat_cluster_host **hosts =
	    calloc((size_t)choice->n + 1, sizeof(struct flat_cluster_host *));
	struct flat_map known = {0};
	int err = hosts ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < c->n_hosts && err == 0; i++) {
		err = flat_map_put(&known, &c->hosts[i]->addr, sizeof(c->hosts[i]->addr),
				   c->hosts[i]);
		/* An address that is there twice. */
		if (err == -EEXIST)
			err = 0;
	}
	if (err == 0)
		err = fill_hosts(c, choice, &known, hosts);
	flat_map_fini(&known);
	if (err != 0) {
		for (uint32_t i = 0; hosts && i < choice->n; i++)
			flat_cluster_host_put(hosts[i]);
		free(hosts);
		return err;
	}
	c->n_ejected = 0;
	for (uint32_t i = 0; i < choice->n; i++)
		c->n_ejected += hosts[i]->ejected;
	for (uint32_t i = 0; i < c->n_hosts; i++)
		flat_cluster_host_put(c->hosts[i]);
	free(c->hosts);
	c->hosts = hosts;
	c->n_hosts = choice->n;
	return 0;
}

static int settle(struct flat_cluster *c, const struct flat_choice *choice)
{
	const struct flat_outlier *o = choice->traffic.outlier;
	int err = settle_hosts(c, choice);

	if (err != 0)
		return err;
	if (!o && c->outlier.interval_ms)
		flat_outlier_clear(c);
	c->outlier = o ? *o : (struct flat_outlier){.interval_ms = 0};
	c->breaker = choice->traffic.breaker ? *choice->traffic.breaker : flat_unbroken;
	flat_health_join(c, choice->health);
	for (uint32_t i = 0; i < c->n_hosts; i++)
		c->hosts[i]->failed = c->group && flat_health_failed(c->group, &c->hosts[i]->addr);
	c->panic = c->group && c->group->check->panics ? c->group->check->panic_percent
						       : c->outlier.min_health;
	c->stamp = choice->stamp;
	c->health++;
	return 0;
}

void flat_cluster_checked(struct flat_cluster *c, const struct flat_addr *addr, bool failed)
{
	for (uint32_t i = 0; i < c->n_hosts; i++) {
		struct flat_cluster_host *h = c->hosts[i];

		if (!flat_addr_equal(&h->addr, addr))
			continue;
		/* Views are made anew where something changes. */
		c->health += h->failed != failed;
		h->failed = failed;
		if (!failed && h->ejected)
			flat_outlier_take_back(c, h);
	}
}

/* --- what goes to them --- */

void flat_cluster_enter(struct flat_cluster *c, struct flat_cluster_host *host)
{
	c->refs++;
	c->n_requests++;
	host->refs++;
	host->active++;
	host->n_requests++;
}

void flat_cluster_leave(struct flat_cluster *c, struct flat_cluster_host *host)
{
	host->active--;
	flat_cluster_host_put(host);
	c->n_requests--;
	flat_cluster_drop(c);
}

/* The endpoint that a session keeps to, unless it is put aside, or was tried. */
static int pick_kept(const struct flat_cluster *c, const struct flat_choice *choice)
{
	const struct flat_cluster_host *h = c->hosts[choice->kept - 1];

	for (uint32_t i = 0; i < choice->n_avoid; i++) {
		if (flat_addr_equal(&h->addr, &choice->avoid[i]))
			return -EHOSTUNREACH;
	}
	return flat_cluster_host_down(h) ? -EHOSTUNREACH : (int)choice->kept - 1;
}

int flat_cluster_pick(struct flat_cluster *c, const struct flat_choice *choice)
{
	if (c->stamp != choice->stamp) {
		int err = settle(c, choice);

		if (err != 0)
			return err;
	}
	flat_outlier_sweep(c, choice->now_us);
	return choice->kept ? pick_kept(c, choice) : flat_view_pick(c, choice);
}
