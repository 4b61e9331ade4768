/*
 * What one party has others hold for it: bytes of memory, bounded for it and for all of its kind together. Counted by whoever
 * allocates; lives as long as somebody refers to it. One thread.
 */
#ifndef FLAT_BASE_HOLD_H
#define FLAT_BASE_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct flat_hold {
	uint32_t refs;
	uint32_t n;	       /* of all: how many parties there are */
	struct flat_hold *all; /* NULL: this is all; referenced */
	size_t bytes;
	size_t max;
	uint64_t denied; /* times that there was no room */
};

/** A party's of `all` (NULL: for all), with one reference. NULL without memory. */
FLAT_MUST_CHECK struct flat_hold *flat_hold_new(struct flat_hold *all, size_t max);
struct flat_hold *flat_hold_get(struct flat_hold *h);
/** NULL is allowed. */
void flat_hold_put(struct flat_hold *h);

/**
 * Takes so many bytes. False: the party would have more than its own bound; or all would have more than theirs, and it more than
 * its part of that, so that none is denied because of others. NULL: nobody counts.
 */
FLAT_MUST_CHECK bool flat_hold_take(struct flat_hold *h, size_t bytes);
/** They are free again. */
void flat_hold_give(struct flat_hold *h, size_t bytes);

#endif
