/*
 * Tickets: connections that the offload half made ahead, to the address that this process keeps connecting to. All of it
 * under the session's lock (session.c).
 */
#ifndef FLAT_HOST_TICKET_H
#define FLAT_HOST_TICKET_H

#include "host/lanes.h"

/** A ticket that was taken: everything a CONNECT answer says, and what came with it, the caller's. */
struct flat_ticket {
	struct flat_msg_conn conn;
	struct flat_lane_use *lane; /* one use of it */
	int anchor;		    /* private */
	int bell;		    /* private */
};

/** Notes a connect() to `to`. True: there have been so many that tickets are worth asking for, and few are left. */
bool flat_tickets_wanted(const struct flat_addr *to);
/** Whether none is left. */
bool flat_tickets_none(void);

/**
 * Takes in an answer to TICKETS for `to`, and those of its descriptors that it has a use for, asked for when the directory
 * had this epoch. What is left of others stays beside them if it is of the same address and epoch, else it goes.
 */
void flat_tickets_put(const struct flat_addr *to, uint64_t epoch, const struct flat_msg *msg,
		      int fds[FLAT_MSG_FDS_MAX]);

/** A ticket for `to`. False: there is none. Those for another address, or of another epoch, go. */
FLAT_MUST_CHECK bool flat_tickets_take(const struct flat_addr *to, uint64_t epoch,
				       struct flat_ticket *ticket);

/** Gives up what is there: the offload half is gone, or this is a forked child, or it is no use. */
void flat_tickets_drop(void);

#endif
