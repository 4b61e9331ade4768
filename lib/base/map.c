#include "base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAP_CAP_MIN ((size_t)16)
/* Odd, its bits without a pattern: 2^64 divided by the golden ratio. */
#define QUICK UINT64_C(0x9e3779b97f4a7c15)

/* FNV-1a constants: Fowler, Noll, Vo (draft-eastlake-fnv); the mix is the finaliser of MurmurHash3.
 */
uint64_t flat_hash(const void *key, size_t len)
{
	const unsigned char *p = key;
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	size_t i;

	for (i = 0; i < len; i++) {
		h ^= p[i];
		h *= UINT64_C(0x100000001b3);
	}
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h;
}

uint64_t flat_hash_quick(const void *key, size_t len)
{
	const unsigned char *p = key;
	uint64_t h = len * QUICK;
	uint64_t word = 0;
	size_t left = len;

	for (; left > 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * QUICK;
		h ^= h >> 32;
	}
	if (len >= 8) {
		/* The last eight, some of them once more. */
		memcpy(&word, p + left - 8, 8);
	} else {
		while (left > 0)
			word = word << 8 | p[--left];
	}
	h = (h ^ word) * QUICK;
	h ^= h >> 29;
	h *= QUICK;
	return h ^ h >> 32;
}

void flat_map_fini(struct flat_map *map)
{
	free(map->slots);
	memset(map, 0, sizeof(*map));
}

/* The slot that holds the key, or the empty one where it belongs. */
static struct flat_map_entry *map_find(const struct flat_map *map, const void *key, size_t len,
				       uint64_t hash)
{
	size_t i = (size_t)hash & (map->cap - 1);

	for (;; i = (i + 1) & (map->cap - 1)) {
		struct flat_map_entry *e = &map->slots[i];

		if (!e->key)
			return e;
		if (e->hash == hash && e->len == len && memcmp(e->key, key, len) == 0)
			return e;
	}
}

int flat_map_reserve(struct flat_map *map, size_t n)
{
	struct flat_map bigger = {.n = map->n, .cap = MAP_CAP_MIN};
	size_t i;

	if (n > SIZE_MAX / sizeof(*map->slots) / 4)
		return -ENOMEM;
	while (bigger.cap / 4 * 3 < n)
		bigger.cap *= 2;
	if (bigger.cap <= map->cap)
		return 0;
	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (i = 0; i < map->cap; i++) {
		const struct flat_map_entry *e = &map->slots[i];

		if (e->key)
			*map_find(&bigger, e->key, e->len, e->hash) = *e;
	}
	free(map->slots);
	*map = bigger;
	return 0;
}

int flat_map_put(struct flat_map *map, const void *key, size_t len, void *value)
{
	uint64_t hash = flat_hash_quick(key, len);
	struct flat_map_entry *e;
	int ret = flat_map_reserve(map, map->n + 1);

	if (ret)
		return ret;
	e = map_find(map, key, len, hash);
	if (e->key)
		return -EEXIST;
	*e = (struct flat_map_entry){.key = key, .len = len, .hash = hash, .value = value};
	map->n++;
	return 0;
}

void *flat_map_get(const struct flat_map *map, const void *key, size_t len)
{
	if (map->n == 0)
		return NULL;
	return map_find(map, key, len, flat_hash_quick(key, len))->value;
}

/*
 * Knuth, The Art of Computer Programming 3, 6.4, algorithm R: what follows in the run moves up where its own place allows it,
 * so that no empty slot parts an entry from where it is looked for.
 */
void *flat_map_remove(struct flat_map *map, const void *key, size_t len)
{
	struct flat_map_entry *e;
	size_t mask = map->cap - 1, hole, i;
	void *value;

	if (map->n == 0)
		return NULL;
	e = map_find(map, key, len, flat_hash_quick(key, len));
	value = e->value;
	if (!e->key)
		return NULL;
	hole = (size_t)(e - map->slots);
	for (i = (hole + 1) & mask; map->slots[i].key; i = (i + 1) & mask) {
		size_t home = (size_t)map->slots[i].hash & mask;

		/* Further from its place than from the hole: it is found there too. */
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		map->slots[hole] = map->slots[i];
		hole = i;
	}
	map->slots[hole] = (struct flat_map_entry){.key = NULL};
	map->n--;
	return value;
}

int flat_map_put_str(struct flat_map *map, const char *key, void *value)
{
	return flat_map_put(map, key, strlen(key), value);
}

int flat_map_replace_str(struct flat_map *map, const char *key, void *value)
{
	size_t len = strlen(key);
	struct flat_map_entry *e =
	    map->n ? map_find(map, key, len, flat_hash_quick(key, len)) : NULL;

	if (!e || !e->key)
		return -ENOENT;
	e->value = value;
	return 0;
}

void *flat_map_get_str(const struct flat_map *map, const char *key)
{
	return flat_map_get(map, key, strlen(key));
}
