/*
 * Deep rings as the offload half sees them: it lends them to writers whom nobody reads, and frees what was read of them
 * (layout.h: FLAT_DEEP, enum flat_lease; docs/design/core.md, section 5; model: tests/spin/deep.pml).
 */
#ifndef FLAT_VQ_DEEP_H
#define FLAT_VQ_DEEP_H

#include <stdbool.h>

#include "base/base.h"
#include "vq/lane.h"

/** The words of one direction, each loaded once: what the applications say, checked so far that it can be reckoned with. */
struct flat_deep_look {
	uint32_t lease; /* enum flat_lease, or anything */
	uint32_t tail;	/* bytes published */
	uint32_t head;	/* bytes consumed */
	uint32_t state; /* FLAT_DEEP_* */
	uint32_t done;	/* bytes of the deep ring that were consumed, at most its size */
	bool passed;	/* and these are all that there will be in it */
	bool waits;	/* bytes are unread, and the producer asks for room */
};

void flat_deep_look(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
		    struct flat_deep_look *look);

/** The lease becomes `to` if it is `from`. Whether it did. Orders what was done before it, and what is looked at after it. */
bool flat_deep_lease(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
		     enum flat_lease from, enum flat_lease to);

/** This end has a small buffer for the direction: nothing is lent to it from now on. Bytes that are there stay. */
void flat_deep_never(struct flat_ring_ctl *ctl);

/**
 * Frees the pages of a deep ring up to the one that holds byte `to`, from the one that holds byte `from`: nobody reads or
 * writes there any more. 0, or a negative errno: -EPERM of a lane that is sealed.
 */
FLAT_MUST_CHECK int flat_deep_free(const struct flat_lane *lane, int fd, uint32_t slot,
				   unsigned int direction, uint32_t from, uint32_t to);

#endif
