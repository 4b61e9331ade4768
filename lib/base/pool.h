/*
 * Memory that is given back all at once: many small objects of one lifetime, such as one
 * configuration. Allocation moves a pointer; nothing is freed singly.
 */
#ifndef FLAT_BASE_POOL_H
#define FLAT_BASE_POOL_H

#include "base/base.h"

struct flat_pool_chunk;

/* Owner: whoever holds it; not thread-safe. All-zero is an empty pool without a limit. */
struct flat_pool {
	struct flat_pool_chunk *chunks;
	size_t used_bytes;  /* handed out, padding included */
	size_t limit_bytes; /* most that is handed out; 0: no limit */
};

/** Frees everything that came from the pool; it is then empty and usable again. */
void flat_pool_fini(struct flat_pool *pool);

/**
 * `size` zeroed bytes, aligned for any type; valid until flat_pool_fini(). NULL when memory or the
 * pool's limit is used up. `size` 0 gives a valid address.
 */
FLAT_MUST_CHECK void *flat_pool_alloc(struct flat_pool *pool, size_t size);

/** An array of `n` zeroed elements of `size` bytes; NULL also when n * size overflows. */
FLAT_MUST_CHECK void *flat_pool_array(struct flat_pool *pool, size_t n, size_t size);

/** A NUL-terminated copy of `len` bytes. NULL without memory. */
FLAT_MUST_CHECK char *flat_pool_strndup(struct flat_pool *pool, const char *text, size_t len);

/** A copy of `text`. NULL without memory. */
FLAT_MUST_CHECK char *flat_pool_strdup(struct flat_pool *pool, const char *text);

/** Formatted text. NULL without memory. */
FLAT_MUST_CHECK char *flat_pool_printf(struct flat_pool *pool, const char *fmt, ...)
    FLAT_PRINTF(2, 3);

#endif
