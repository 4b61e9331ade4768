/*
 * Ends of connections that rest, by lane: of HTTP's, and of those whose bytes the control thread moves. While flatd is awake
 * it finds by the lanes' ready bits who of them is to be looked at, and nobody rings; while it sleeps one bell for each lane
 * wakes it (vq/vq.h, naps). A lane that said nothing for long is looked at no more: its ends ask for bells. Control thread.
 */
#ifndef FLAT_OFFLOAD_REST_H
#define FLAT_OFFLOAD_REST_H

#include <stdbool.h>
#include <sys/queue.h>

#include "offload/loop.h"
#include "vq/lane.h"
#include "vq/vq.h"

/** A lane's ready bits are looked at so long after the last one, microseconds. */
#define FLAT_REST_QUIET_US 5000

/** An end that rests. */
struct flat_resting {
	struct flat_source *source; /* its function is called when it has something; borrowed */
	struct flat_vq *vq;	    /* of its slot; borrowed */
	bool reads;		    /* neither its FIN nor its RST was read */
	bool full;		    /* it had no room for what is there for it */
};

/** Of one lane. */
struct flat_rest {
	TAILQ_ENTRY(flat_rest) link;
	struct flat_rests *all;
	struct flat_lane_side *mine; /* shared memory */
	uint64_t mask;		     /* slots of ends that rest */
	int64_t last_us;
	bool listed;
	struct flat_resting by_slot[FLAT_LANE_SLOTS_MAX]; /* where `mask` has a bit */
};

/** Lanes that are looked at. */
struct flat_rests {
	TAILQ_HEAD(, flat_rest) list;
	uint32_t sleeps; /* begun, free-running: numbers of naps */
	int64_t now_us;	 /* of the last look */
};

void flat_rests_init(struct flat_rests *all);

/** For the lane side `mine`, of which flatd alone is the party. NULL: no memory. */
struct flat_rest *flat_rest_new(struct flat_rests *all, struct flat_lane_side *mine);
/** NULL is none. No end rests there. */
void flat_rest_free(struct flat_rest *r);

/** Arms an end for bytes, and for room if it is full. The caller looks at it once more. */
void flat_rest_begin(struct flat_rest *r, const struct flat_resting *e);
/** Its owner looks at it again; nothing where it does not rest. */
void flat_rest_end(struct flat_rest *r, const struct flat_vq *vq);
/** Likewise, for good: what it asked for is taken back (N4). */
void flat_rest_leave(struct flat_rest *r, struct flat_vq *vq);

/** Calls the function of each end's source that has something, with no events. True if there was one. */
bool flat_rests_look(struct flat_rests *all, int64_t now_us);
/** About to sleep. False: somebody has something; then, and after the sleep, flat_rests_wake(). */
bool flat_rests_sleep(struct flat_rests *all);
void flat_rests_wake(struct flat_rests *all);

#endif
