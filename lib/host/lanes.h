/*
 * The lanes this process has mapped, by id, and which of their slots it holds: so that a ready bit leads to a file.
 * Process-private; changed under a lock, read without one by wait loops.
 */
#ifndef FLAT_HOST_LANES_H
#define FLAT_HOST_LANES_H

#include <stdatomic.h>

#include "base/base.h"
#include "host/file.h"
#include "vq/attach.h"
#include "vq/lane.h"
#include "vq/vq.h"

/** One side of a lane as far as this process is it. */
struct flat_lane_seat {
	_Atomic uint64_t held; /* bit i: this process holds slot i on this side */
	_Atomic uint32_t file[FLAT_LANE_SLOTS_MAX]; /* index in flat_file_pool, valid where held */
};

/**
 * A mapped lane. Places are reused, never freed: a walk may meet one that is just going (in_use 0, held 0).
 * Both seats may be held: a process that connects to itself.
 */
struct flat_lane_entry {
	_Atomic uint32_t in_use; /* 1: mapped */
	_Atomic uint32_t users;	 /* walks in progress; unmapped only at 0 */
	uint32_t keep;		 /* the offload half counts on our mapping: not unmapped while its session lives */
	uint64_t lane_id;
	uint64_t idle_since; /* order of becoming idle, for the choice of whom to unmap */
	struct flat_lane lane;
	struct flat_lane_seat seat[2]; /* by enum flat_side */
};

/** Lanes one process may have mapped. */
#define FLAT_LANES_MAX 16384U

extern struct flat_lane_entry *flat_lanes;

/** One more than the highest place in use: bound for walks. */
uint32_t flat_lanes_end(void);

/**
 * Begins to look at place `i`: NULL if there is no lane. Until flat_lanes_put() it stays mapped. Cheap (one atomic
 * each), no lock; any thread.
 */
struct flat_lane_entry *flat_lanes_get(uint32_t i);
void flat_lanes_put(struct flat_lane_entry *entry);

/** My words on side `side`: ready bits to take, sleepers to raise. Entry held by flat_lanes_get(). */
static inline struct flat_lane_side *flat_lanes_side(const struct flat_lane_entry *entry,
						     enum flat_side side)
{
	return flat_lane_side(&entry->lane, (unsigned int)side);
}

/** The file in slot `slot` of a seat, or NULL if this process does not hold it (any more). */
static inline struct flat_file *flat_lanes_file(const struct flat_lane_entry *entry,
						enum flat_side side, uint32_t slot)
{
	const struct flat_lane_seat *seat = &entry->seat[side];
	if (!(atomic_load_explicit(&seat->held, memory_order_acquire) >> slot & 1))
		return NULL;
	return &flat_file_pool[atomic_load_explicit(&seat->file[slot], memory_order_relaxed)];
}

/** Maps the table of lanes; once. 0, or -ENOMEM. */
FLAT_MUST_CHECK int flat_lanes_init(void);

/**
 * Finds the lane of `conn`, or maps it from `fd` (borrowed; -1: it must be known). keep: see flat_lane_entry. Takes the seat's
 * slot for `file`. 0; -EPROTO (unknown lane without fd, other geometry, bad slot, seat taken), -ENOMEM, -EINVAL
 * (not a sealed lane), -ENOSPC (too many lanes).
 */
FLAT_MUST_CHECK int flat_lanes_take(const struct flat_msg_conn *conn, int fd, bool keep,
				    struct flat_file *file, uint32_t *place);

/** Gives the slot back; an idle lane that nobody counts on may be unmapped. */
void flat_lanes_give(uint32_t place, enum flat_side side, uint32_t slot);

/** The session that counted on kept lanes is over (offload half gone, or this is a child): none is kept. */
void flat_lanes_unkeep(void);

#endif
