/*
 * Things found by a number: a hash of chains through the things themselves, so that putting one in never fails. Numbers are flatd's
 * own, or the kernel's; several things may have one. Control thread.
 */
#ifndef FLAT_OFFLOAD_INDEX_H
#define FLAT_OFFLOAD_INDEX_H

#include <stdint.h>

#include "base/base.h"

/** Embedded in a thing. All-zero: in no index. */
struct flat_indexed {
	struct flat_indexed *next;
	struct flat_indexed **prev; /* what points here; NULL: in no index */
	uint64_t key;
};

/** All-zero is empty. Is not moved while anything is in it. */
struct flat_index {
	struct flat_indexed **chains; /* owned; NULL: there is `one` alone */
	struct flat_indexed *one;
	uint32_t n;	   /* things */
	uint32_t n_chains; /* a power of two; 0: `one` */
};

/** Puts a thing in that is in no index. Allocates, and goes on with longer chains where there is no memory. */
void flat_index_put(struct flat_index *index, struct flat_indexed *thing, uint64_t key);
/** Takes it out; nothing where it is in no index. */
void flat_index_remove(struct flat_index *index, struct flat_indexed *thing);
/** The thing of this number that was put in last; NULL: there is none. */
struct flat_indexed *flat_index_find(const struct flat_index *index, uint64_t key);
/** The one of the same number before it; NULL: there is none. */
struct flat_indexed *flat_indexed_next(const struct flat_indexed *thing);
/** Frees the table; the things are the caller's, and in it no more than by their fields. */
void flat_index_fini(struct flat_index *index);

#endif
