/*
 * nghttp2's memory. A call makes and frees some forty pieces of few sizes, more of one size at once than malloc() keeps at hand: a
 * connection keeps those that were freed, by size, for its next calls.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/http2_stream.h"

/* Sizes are multiples of that; the largest that is kept has FLAT_HTTP2_SIZES of them. */
#define STEP ((size_t)64)

/* Before each piece; aligned as what malloc() gives. */
struct flat_http2_piece {
	_Alignas(max_align_t) struct flat_http2_piece *next; /* of those that are kept */
	size_t steps;					     /* 0: too large to be kept */
};

static void *take(size_t size, void *arg)
{
	struct flat_http2_memory *m = arg;
	size_t steps = size <= STEP ? 1 : (size + STEP - 1) / STEP;
	struct flat_http2_piece *p;

	if (steps > FLAT_HTTP2_SIZES) {
		if (size > SIZE_MAX - sizeof(*p))
			return NULL;
		p = malloc(sizeof(*p) + size);
		steps = 0;
	} else if (m->kept[steps - 1]) {
		p = m->kept[steps - 1];
		m->kept[steps - 1] = p->next;
		m->bytes -= steps * STEP;
	} else {
		p = malloc(sizeof(*p) + steps * STEP);
	}
	if (!p)
		return NULL;
	p->steps = steps;
	return p + 1;
}

static void give(void *memory, void *arg)
{
	struct flat_http2_memory *m = arg;
	struct flat_http2_piece *p = memory;

	if (!p)
		return;
	p--;
	if (p->steps == 0 || m->bytes + p->steps * STEP > FLAT_HTTP2_KEPT_BYTES) {
		free(p);
		return;
	}
	p->next = m->kept[p->steps - 1];
	m->kept[p->steps - 1] = p;
	m->bytes += p->steps * STEP;
}

static void *take_zeros(size_t n, size_t size, void *arg)
{
	void *memory = size == 0 || n <= SIZE_MAX / size ? take(n * size, arg) : NULL;

	if (memory)
		memset(memory, 0, n * size);
	return memory;
}

static void *take_again(void *memory, size_t size, void *arg)
{
	struct flat_http2_piece *p = memory;
	void *more;

	if (!memory)
		return take(size, arg);
	p--;
	if (p->steps == 0 && size > FLAT_HTTP2_SIZES * STEP) {
		if (size > SIZE_MAX - sizeof(*p))
			return NULL;
		p = realloc(p, sizeof(*p) + size);
		return p ? p + 1 : NULL;
	}
	if (p->steps > 0 && size <= p->steps * STEP)
		return memory;
	more = take(size, arg);
	if (!more)
		return NULL;
	/* A large one that gets small has more than is asked for. */
	memcpy(more, memory, p->steps ? flat_min_size(p->steps * STEP, size) : size);
	give(memory, arg);
	return more;
}

nghttp2_mem flat_http2_memory(struct flat_http2_memory *m)
{
	return (nghttp2_mem){m, take, give, take_zeros, take_again};
}

void flat_http2_memory_fini(struct flat_http2_memory *m)
{
	for (size_t i = 0; i < FLAT_HTTP2_SIZES; i++) {
		struct flat_http2_piece *next;

		for (struct flat_http2_piece *p = m->kept[i]; p; p = next) {
			next = p->next;
			free(p);
		}
		m->kept[i] = NULL;
	}
	m->bytes = 0;
}
