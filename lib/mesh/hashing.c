#include "mesh/hashing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A host's name, an underscore, a number. */
#define POINT_NAME_MAX 96

/* Not the C library's: libflat.so needs no libm for it. */
static double round_up(double x)
{
	double whole = (double)(uint64_t)x;

	return whole < x ? whole + 1 : whole;
}

uint64_t flat_xxh64(const void *bytes, size_t len, uint64_t seed)
{
	return XXH64(bytes, len, seed);
}

bool flat_is_prime(uint32_t n)
{
	for (uint32_t i = 2; (uint64_t)i * i <= n; i++) {
		if (n % i == 0)
			return false;
	}
	return n > 1;
}

void flat_hash_table_fini(struct flat_hash_table *t)
{
	free(t->ring);
	free(t->entries);
	memset(t, 0, sizeof(*t));
}

/* --- the ring --- */

static int by_hash(const void *a, const void *b)
{
	const struct flat_hash_point *p = a;
	const struct flat_hash_point *q = b;

	if (p->hash != q->hash)
		return p->hash < q->hash ? -1 : 1;
	return p->index < q->index ? -1 : p->index > q->index;
}

/* Points in proportion to weights: the lightest host has as many whole ones as `size` gives it, if there is room. */
static int build_ring(struct flat_hash_table *t, uint32_t size, const struct flat_hash_host *hosts,
		      uint32_t n)
{
	uint64_t total = 0;
	uint32_t lightest = hosts[0].weight;
	double wanted = 0;
	double scale;
	double least;

	for (uint32_t i = 0; i < n; i++) {
		total += hosts[i].weight;
		lightest = hosts[i].weight < lightest ? hosts[i].weight : lightest;
	}
	least = (double)lightest / (double)total;
	scale = round_up(least * size) / least;
	if (scale > FLAT_RING_SIZE_MAX)
		scale = FLAT_RING_SIZE_MAX;
	/* Rounded up, and once more for what doubles lose. */
	t->ring = calloc((size_t)round_up(scale) + 1, sizeof(*t->ring));
	if (!t->ring)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		char name[POINT_NAME_MAX];

		wanted += scale * ((double)hosts[i].weight / (double)total);
		for (uint32_t k = 0; (double)t->n < wanted && (double)t->n < round_up(scale); k++) {
			int len = snprintf(name, sizeof(name), "%.80s_%u", hosts[i].name, k);

			t->ring[t->n].hash = flat_xxh64(name, (size_t)len, 0);
			t->ring[t->n++].index = hosts[i].index;
		}
	}
	qsort(t->ring, t->n, sizeof(*t->ring), by_hash);
	return 0;
}

static uint32_t ring_find(const struct flat_hash_table *t, uint64_t hash)
{
	uint32_t low = 0;
	uint32_t high = t->n;

	/* The first point at or behind it; behind the last comes the first. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (t->ring[mid].hash < hash)
			low = mid + 1;
		else
			high = mid;
	}
	return low == t->n ? 0 : low;
}

/* --- Maglev --- */

#define NOBODY UINT32_MAX

struct entry {
	uint64_t offset, skip, next;
	double weight, target;
	uint32_t index;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct flat_hash_host *)a)->name,
		      ((const struct flat_hash_host *)b)->name);
}

static void take_entry(struct flat_hash_table *t, struct entry *e)
{
	uint64_t c = (e->offset + e->skip * e->next) % t->n;

	while (t->entries[c] != NOBODY) {
		e->next++;
		c = (e->offset + e->skip * e->next) % t->n;
	}
	t->entries[c] = e->index;
	e->next++;
}

static void fill_table(struct flat_hash_table *t, struct entry *entries, uint32_t n,
		       double heaviest)
{
	uint32_t filled = 0;

	/* The heaviest takes one in each round, the others in as many as their weights say. */
	for (uint32_t round = 1; filled < t->n; round++) {
		for (uint32_t i = 0; i < n && filled < t->n; i++) {
			struct entry *e = &entries[i];

			if (round * e->weight < e->target)
				continue;
			e->target += heaviest;
			take_entry(t, e);
			filled++;
		}
	}
}

static int build_maglev(struct flat_hash_table *t, uint32_t size, struct flat_hash_host *hosts,
			uint32_t n)
{
	struct entry *entries = calloc(n, sizeof(*entries));
	double heaviest = 0;
	uint64_t total = 0;

	t->entries = malloc(size * sizeof(*t->entries));
	if (!entries || !t->entries) {
		free(entries);
		return -ENOMEM;
	}
	memset(t->entries, 0xff, size * sizeof(*t->entries));
	t->n = size;
	qsort(hosts, n, sizeof(*hosts), by_name);
	for (uint32_t i = 0; i < n; i++)
		total += hosts[i].weight;
	for (uint32_t i = 0; i < n; i++) {
		size_t len = strlen(hosts[i].name);

		entries[i].offset = flat_xxh64(hosts[i].name, len, 0) % size;
		entries[i].skip = flat_xxh64(hosts[i].name, len, 1) % (size - 1) + 1;
		entries[i].weight = (double)hosts[i].weight / (double)total;
		entries[i].index = hosts[i].index;
		heaviest = entries[i].weight > heaviest ? entries[i].weight : heaviest;
	}
	fill_table(t, entries, n, heaviest);
	free(entries);
	return 0;
}

int flat_hash_table_build(struct flat_hash_table *t, enum flat_lb_kind kind, uint32_t size,
			  struct flat_hash_host *hosts, uint32_t n)
{
	int err;

	flat_hash_table_fini(t);
	if (n == 0)
		return 0;
	err = kind == FLAT_LB_MAGLEV ? build_maglev(t, size, hosts, n)
				     : build_ring(t, size, hosts, n);
	if (err != 0)
		flat_hash_table_fini(t);
	return err;
}

int flat_hash_table_pick(const struct flat_hash_table *t, uint64_t hash, uint32_t attempt)
{
	if (t->n == 0)
		return -ENOENT;
	if (!t->entries)
		return (int)t->ring[(ring_find(t, hash) + attempt) % t->n].index;
	return (int)t->entries[(attempt ? hash ^ (UINT64_MAX - attempt + 1) : hash) % t->n];
}
