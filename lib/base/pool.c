#include "base/pool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First chunk: a small configuration fits. Later ones double, up to the size malloc maps
 * separately. */
#define POOL_CHUNK_FIRST ((size_t)4096)
#define POOL_CHUNK_MAX ((size_t)1 << 20)
#define POOL_ALIGN _Alignof(max_align_t)

struct flat_pool_chunk {
	struct flat_pool_chunk *next;
	size_t size; /* bytes of data */
	size_t used;
	max_align_t data[];
};

void flat_pool_fini(struct flat_pool *pool)
{
	struct flat_pool_chunk *chunk = pool->chunks, *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	pool->chunks = NULL;
	pool->used_bytes = 0;
}

static struct flat_pool_chunk *pool_grow(struct flat_pool *pool, size_t need)
{
	struct flat_pool_chunk *head = pool->chunks, *chunk;
	size_t size = head ? flat_min_size(head->size * 2, POOL_CHUNK_MAX) : POOL_CHUNK_FIRST;

	size = flat_max_size(size, need);
	chunk = calloc(1, sizeof(*chunk) + size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->next = head;
	pool->chunks = chunk;
	return chunk;
}

void *flat_pool_alloc(struct flat_pool *pool, size_t size)
{
	struct flat_pool_chunk *chunk = pool->chunks;
	void *mem;

	if (size > SIZE_MAX / 4)
		return NULL;
	size = flat_align_up(flat_max_size(size, 1), POOL_ALIGN);
	if (pool->limit_bytes && size > pool->limit_bytes - pool->used_bytes)
		return NULL;
	if (!chunk || size > chunk->size - chunk->used) {
		chunk = pool_grow(pool, size);
		if (!chunk)
			return NULL;
	}
	mem = (char *)chunk->data + chunk->used;
	chunk->used += size;
	pool->used_bytes += size;
	return mem;
}

void *flat_pool_array(struct flat_pool *pool, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	return flat_pool_alloc(pool, bytes);
}

char *flat_pool_strndup(struct flat_pool *pool, const char *text, size_t len)
{
	char *copy;

	if (len == SIZE_MAX)
		return NULL;
	copy = flat_pool_alloc(pool, len + 1);
	if (copy && len)
		memcpy(copy, text, len);
	return copy;
}

char *flat_pool_strdup(struct flat_pool *pool, const char *text)
{
	return flat_pool_strndup(pool, text, strlen(text));
}

char *flat_pool_printf(struct flat_pool *pool, const char *fmt, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0)
		return NULL;
	text = flat_pool_alloc(pool, (size_t)n + 1);
	if (!text)
		return NULL;
	va_start(args, fmt);
	(void)vsnprintf(text, (size_t)n + 1, fmt, args);
	va_end(args);
	return text;
}
