/*
 * Tickets: connections that flatd makes ahead (ticket.c; docs/design/core.md, section 3).
 */
#ifndef FLAT_OFFLOAD_TICKET_H
#define FLAT_OFFLOAD_TICKET_H

#include "offload/offload.h"

/** TICKETS: makes connections ahead where that can decide nothing. Answers on the control socket. */
void flat_tickets_request(struct flat_session *s, const struct flat_msg *msg);
/** USE: decides on one and begins it; or ends it, so that its client sees a reset. */
void flat_ticket_use(struct flat_session *s, const struct flat_msg *msg);
/** Ends one that has not begun. */
void flat_ticket_drop(struct flat_conn *c);
/** Its client's anchor hung up (`gone`), as that of a connection that is over does: a USE sent before may be unread. Once. */
void flat_ticket_let_go(struct flat_conn *c);
/** Everything that the session sent so far was read: those that it let go of it did not use. */
void flat_tickets_give_back(struct flat_session *s);
/** Ends tickets of a session, or of a listener (the other NULL). Their lanes are given up by the caller. */
void flat_tickets_end(struct flat_session *s, const struct flat_listener *l);

#endif
