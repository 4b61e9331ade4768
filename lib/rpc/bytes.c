/* Bytes that grow, and are used again. */
#include <errno.h>
#include <stdlib.h>

#include "rpc/rpc.h"

#define FIRST ((size_t)1024)

uint8_t *flat_rpc_bytes_room(struct flat_rpc_bytes *b, size_t len)
{
	size_t have = b->len - b->at;

	if (have == 0)
		b->at = b->len = 0;
	if (len > b->size - b->len && b->at > 0) {
		memmove(b->v, b->v + b->at, have);
		b->at = 0;
		b->len = have;
	}
	if (len > b->size - b->len) {
		size_t size = b->size ? b->size : FIRST;
		uint8_t *v;

		while (size < have + len)
			size *= 2;
		v = realloc(b->v, size);
		if (!v)
			return NULL;
		b->v = v;
		b->size = size;
	}
	return b->v + b->len;
}

int flat_rpc_bytes_add(struct flat_rpc_bytes *b, const void *v, size_t len, size_t max)
{
	uint8_t *to;

	if (len == 0)
		return 0;
	if (b->len - b->at > max || len > max - (b->len - b->at))
		return -EMSGSIZE;
	to = flat_rpc_bytes_room(b, len);
	if (!to)
		return -ENOMEM;
	memcpy(to, v, len);
	b->len += len;
	return 0;
}

void flat_rpc_bytes_free(struct flat_rpc_bytes *b)
{
	free(b->v);
	*b = (struct flat_rpc_bytes){NULL, 0, 0, 0};
}
