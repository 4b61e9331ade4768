#include "base/hold.h"

#include <stdlib.h>

struct flat_hold *flat_hold_new(struct flat_hold *all, size_t max)
{
	struct flat_hold *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->refs = 1;
	h->max = max;
	h->all = all ? flat_hold_get(all) : NULL;
	if (all)
		all->n++;
	return h;
}

struct flat_hold *flat_hold_get(struct flat_hold *h)
{
	h->refs++;
	return h;
}

void flat_hold_put(struct flat_hold *h)
{
	if (!h || --h->refs > 0)
		return;
	if (h->all)
		h->all->n--;
	flat_hold_put(h->all);
	free(h);
}

static bool has_room(const struct flat_hold *h, size_t bytes)
{
	const struct flat_hold *all = h->all;
	if (bytes > h->max || h->bytes > h->max - bytes)
		return false;
	return !all || all->bytes + bytes <= all->max || h->bytes + bytes <= all->max / all->n;
}

bool flat_hold_take(struct flat_hold *h, size_t bytes)
{
	if (!h)
		return true;
	if (!has_room(h, bytes)) {
		h->denied++;
		return false;
	}
	h->bytes += bytes;
	if (h->all)
		h->all->bytes += bytes;
	return true;
}

void flat_hold_give(struct flat_hold *h, size_t bytes)
{
	if (!h)
		return;
	h->bytes -= bytes;
	if (h->all)
		h->all->bytes -= bytes;
}
