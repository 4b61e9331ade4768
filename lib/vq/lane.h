/*
 * Lanes: the sealed memory that joins two parties. The offload half creates and seals; both map.
 */
#ifndef FLAT_VQ_LANE_H
#define FLAT_VQ_LANE_H

#include "base/base.h"
#include "vq/layout.h"

/** Shape of a lane, as the offload half states it; kept in private memory by whoever uses it. */
struct flat_lane_geometry {
	uint32_t slots;	      /* 1 to FLAT_LANE_SLOTS_MAX */
	uint32_t small_bytes; /* each small ring: power of two, FLAT_SMALL_BYTES_MIN or more */
	uint32_t
	    bulk_bytes; /* each bulk ring: power of two, so large that a mid ring is larger than a small one */
};

/** A mapped lane. Private memory of the process; `base` is shared. */
struct flat_lane {
	uint8_t *base;
	size_t len_bytes;
	struct flat_lane_geometry geo;
};

/** Whether the numbers are in range; all that follows relies on it. */
FLAT_MUST_CHECK int flat_lane_geometry_valid(const struct flat_lane_geometry *geo);

/** Bytes of the whole memfd, and of its first part (all but the mid and bulk rings), which is prefaulted. */
size_t flat_lane_len(const struct flat_lane_geometry *geo);
size_t flat_lane_hot_len(const struct flat_lane_geometry *geo);

/**
 * Creates a lane: memfd (CLOEXEC, no exec), sized, hot part allocated, SHRINK and GROW sealed.
 * Offload half only. Returns the fd, owned by the caller, or -ENOMEM, -EMFILE, -EINVAL (geometry).
 */
FLAT_MUST_CHECK int flat_lane_create(const struct flat_lane_geometry *geo, uint64_t lane_id);

/**
 * Seals what must be sealed once both parties have mapped the lane (FUTURE_WRITE and SEAL: no holes, no
 * further writable mapping). Returns 0 or a negative errno.
 */
FLAT_MUST_CHECK int flat_lane_seal(int fd);

/**
 * Maps the lane behind `fd` read-write with the hot part populated. With `verify_seals` (the host half,
 * so that a memfd can't be cut under it) the size and the SHRINK seal are checked first. The fd stays the
 * caller's. Returns 0, -EINVAL (geometry, size or seals are wrong), -ENOMEM.
 */
FLAT_MUST_CHECK int flat_lane_map(struct flat_lane *lane, int fd,
				  const struct flat_lane_geometry *geo, int verify_seals);

/** Unmaps. Safe on a zeroed lane. */
void flat_lane_unmap(struct flat_lane *lane);

/** Parts of a mapped lane. `slot` < slots, `direction` 0 or 1: the caller has checked. */
static inline struct flat_lane_side *flat_lane_side(const struct flat_lane *lane, unsigned int side)
{
	return (struct flat_lane_side *)(void *)(lane->base + FLAT_LANE_PAGE +
						 (size_t)side * sizeof(struct flat_lane_side));
}

/** Which side `part` is, that flat_lane_side() gave. */
static inline unsigned int flat_lane_side_of(const struct flat_lane *lane,
					     const struct flat_lane_side *part)
{
	return part == flat_lane_side(lane, 0) ? 0 : 1;
}

static inline struct flat_slot *flat_lane_slot(const struct flat_lane *lane, uint32_t slot)
{
	return (struct flat_slot *)(void *)(lane->base + 3 * (size_t)FLAT_LANE_PAGE +
					    (size_t)slot * sizeof(struct flat_slot));
}

/** Bytes of a ring. `size` is one of enum flat_ring_size. */
uint32_t flat_lane_ring_bytes(const struct flat_lane_geometry *geo, enum flat_ring_size size);
uint8_t *flat_lane_ring(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
			enum flat_ring_size size);

/**
 * Makes a slot new: all words zero. Offload half only, when both parties have let it go.
 */
void flat_lane_slot_reset(const struct flat_lane *lane, uint32_t slot);

/** Server: the connection was accepted. One that was not is reset when its end hangs up. */
void flat_lane_slot_take(const struct flat_lane *lane, uint32_t slot);

/** FLAT_PHASE_* of a slot: the offload half's word, as far as the peer left it alone. */
uint32_t flat_lane_slot_phase(const struct flat_lane *lane, uint32_t slot);

/** Ends both directions with RST and ERROR: the offload half has cut the connection. Wakes nobody. */
void flat_lane_slot_cut(const struct flat_lane *lane, uint32_t slot);

/**
 * Whether `side` has published or taken bytes since the reset, as its own words say: then somebody there has mapped the
 * lane. 1 or 0.
 */
int flat_lane_slot_touched(const struct flat_lane *lane, uint32_t slot, enum flat_side side);

/**
 * Bytes published in a direction since the slot was reset, as its producer says: for counters, never for a
 * decision. `slot` < slots, `direction` 0 or 1.
 */
uint64_t flat_lane_total(const struct flat_lane *lane, uint32_t slot, unsigned int direction);

#endif
