/* Lanes mapped by this process: see lanes.c. */
#ifndef FLAT_HOST_LANES_H
#define FLAT_HOST_LANES_H

#include <sys/queue.h>

#include "host/host.h"

/** A mapped lane and who uses it. Never moves. */
struct flat_lane_use {
	struct flat_lane lane;
	uint64_t id;
	uint32_t refs; /* sockets of this process */
	uint32_t side; /* enum flat_side: ours */
	bool idle;     /* refs 0, in the list of those */
	int64_t since_ms;
	const void
	    *napper[2][FLAT_NAPS_MAX]; /* of this process, by side and number of the nap - 1 */
	LIST_ENTRY(flat_lane_use) link;
	TAILQ_ENTRY(flat_lane_use) idle_link;
};

/** The lane of a connection, mapped from lane_fd (borrowed; -1: it is mapped already), for one socket. NULL: none. */
struct flat_lane_use *flat_lane_use(const struct flat_msg_conn *m, int lane_fd);
/** That socket is gone. */
void flat_lane_unuse(struct flat_lane_use *u);

/** The nap (vq.h) that a waiter of this process has on a side of the lane, the same each time. 0: there is none left. */
uint32_t flat_lane_nap(struct flat_lane_use *u, struct flat_lane_side *mine, const void *waiter);

/** Maps the lane of an answer before the next answer, which may rely on it, is read; it is not old from now on. */
void flat_lane_expect(const struct flat_msg_conn *m, int lane_fd);

/** Whether a lane has been unused for long; *ours: it was made for us, and the offload half counts on it. */
bool flat_lane_old(uint64_t *id, bool *ours);
/** Unmaps a lane that nobody uses. */
void flat_lane_forget(uint64_t id);

/** In a forked child. */
void flat_lanes_forked(void);

#endif
