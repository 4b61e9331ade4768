/*
 * Guests: who comes from other hosts. A guest is one identity from one host, whatever links it opens, as what it may have
 * is counted for it. Streams that it asks for wait here, and are begun in turn: one of each guest, a few in each turn of flatd.
 * docs/design/wire.md, W9 to W11. Control thread.
 */
#ifndef FLAT_OFFLOAD_GUEST_H
#define FLAT_OFFLOAD_GUEST_H

#include "offload/peers.h"

/* Lives while it has links or memory here, and until its resets are forgiven: a new link is no new beginning. */
struct flat_guest {
	TAILQ_ENTRY(flat_guest) link;
	TAILQ_ENTRY(flat_guest) asking_link; /* while `asked` is not empty */
	struct flat_bridges asked;	     /* by asked_link, in their order */
	struct flat_addr host;
	uint32_t links;
	uint32_t streams;	      /* asked for, or begun */
	struct flat_wire_tally tally; /* of its links */
	struct flat_hold *hold;	      /* memory in which its streams' bytes wait */
	uint64_t denied;	      /* of it, told of */
	uint64_t turn;		      /* of flatd, in which so many of its links were looked at: */
	uint32_t looked_at;
	uint32_t frames; /* flat_wire_link.quota of its links; anew with each turn of flatd */
	char id[FLAT_SPIFFE_ID_MAX];
};

void flat_guests_init(struct flat_peers *all);
/** Their links are gone. */
void flat_guests_fini(struct flat_peers *all);
/** A peer that came has greeted: it has its guest from here. Without memory the link fails. */
void flat_guest_join(struct flat_peer *p);
/** Its link is over, and its bridges are gone. Nothing where it has none. */
void flat_guest_leave(struct flat_peer *p);
/** An inbound stream that is to be begun. */
void flat_guest_ask(struct flat_bridge *b);
/** An inbound bridge is gone, begun or not. */
void flat_guest_lose(struct flat_bridge *b);
/** Begins streams that are asked for, up to all->to_begin. */
void flat_guests_begin(struct flat_peers *all);
/** Whether one more of its links may be looked at in this turn. Those of nobody yet always may. What it may take is there. */
FLAT_MUST_CHECK bool flat_guest_has_turn(struct flat_peer *p);
/** By time, what its tally counts; those that have nothing left are gone. */
void flat_guests_forgive(struct flat_peers *all, int64_t now_ms);

#endif
