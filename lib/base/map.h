/*
 * A hash map from byte strings to pointers: open addressing, linear probing, power-of-two size, at
 * most 3/4 full. For keys that an administrator writes, not for keys an attacker chooses (the hash
 * has no secret).
 */
#ifndef FLAT_BASE_MAP_H
#define FLAT_BASE_MAP_H

#include "base/base.h"

struct flat_map_entry {
	const void *key; /* borrowed; NULL: the slot is empty */
	size_t len;	 /* bytes of key */
	uint64_t hash;
	void *value; /* borrowed, not NULL */
};

/* Owner: whoever holds it; readers may share it while nobody writes. All-zero is an empty map. */
struct flat_map {
	struct flat_map_entry *slots;
	size_t n;   /* entries */
	size_t cap; /* slots, 0 or a power of two */
};

/** Frees the table; keys and values are the caller's. */
void flat_map_fini(struct flat_map *map);

/** Makes room for `n` entries altogether. 0, or -ENOMEM with the map unchanged. */
FLAT_MUST_CHECK int flat_map_reserve(struct flat_map *map, size_t n);

/**
 * Adds an entry. `key` (len bytes) and `value` (not NULL) are borrowed for the map's life. 0,
 * -EEXIST if the key is there (nothing is changed), -ENOMEM.
 */
FLAT_MUST_CHECK int flat_map_put(struct flat_map *map, const void *key, size_t len, void *value);

/** The value of a key, or NULL. */
void *flat_map_get(const struct flat_map *map, const void *key, size_t len);

/** Takes a key out; the entry that went, or NULL: it was not there. Does not allocate. */
void *flat_map_remove(struct flat_map *map, const void *key, size_t len);

/** flat_map_put() with a NUL-terminated key. */
FLAT_MUST_CHECK int flat_map_put_str(struct flat_map *map, const char *key, void *value);

/** Another value for a NUL-terminated key that is there; the key that was put stays. -ENOENT: it is not. */
FLAT_MUST_CHECK int flat_map_replace_str(struct flat_map *map, const char *key, void *value);

/** flat_map_get() with a NUL-terminated key. */
void *flat_map_get_str(const struct flat_map *map, const char *key);

/**
 * FNV-1a of 64 bits with a final mix, so that low bits are usable. The same in every version and on every machine: addresses
 * of services are made of it.
 */
uint64_t flat_hash(const void *key, size_t len);

/**
 * The hash that the map uses, eight bytes at a time. For one process: another version may have another. `key` may be NULL where
 * `len` is 0.
 */
uint64_t flat_hash_quick(const void *key, size_t len);

#endif
