/*
 * Tickets: connections made ahead for a client that connects to one address again and again. Slot, anchors and bells are
 * there before they are asked for, so that connect() sends one message and waits for no answer. Whether the connection may
 * be is decided when it begins, as for any other: a ticket allows nothing, and a client that was given one has no more than
 * memory and descriptors that join it to the listener it had connected to before (docs/design/core.md, section 3).
 */
#include "offload/ticket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "mesh/l4_route.h"
#include "offload/account.h"
#include "offload/admit.h"

/* Whether another listener may be meant by the address of this one. */
static bool has_rival(const struct flat_listener *l)
{
	const struct flat_listener *other = flat_listener_at(l->offload, l->addr.port);
	for (; other; other = TAILQ_NEXT(other, port_link)) {
		if (other != l && other->addr.port == l->addr.port)
			return true;
	}
	return false;
}

/* Whether each connection there would be decided as this one, until policies, services or listeners change. */
static bool is_certain(struct flat_session *s, const struct flat_decision *d)
{
	/* Near its limit a client is to hear of it from connect(). */
	if (s->n_conns + 2 * FLAT_SESSION_TICKETS_MAX > flat_conns_max(s) ||
	    !flat_account_has_room(s, 2 * FLAT_SESSION_TICKETS_MAX))
		return false;
	if (d->status != 0 || d->path != FLAT_CONN_DIRECT || d->l7 || d->listener->n_pending > 0 ||
	    has_rival(d->listener) || (d->route && d->route->n_destinations > 1))
		return false;
	return !d->cluster || flat_resolve_certain(d->cluster);
}

static int take_pairs(struct flat_conn *c)
{
	struct flat_pair client;
	struct flat_pair server;
	int err = flat_pairs_take(&c->offload->pairs, &client);
	if (err < 0)
		return err;
	c->client_near = client.near;
	c->end[FLAT_SIDE_CLIENT].anchor.fd = client.far;
	flat_end_name(&c->end[FLAT_SIDE_CLIENT], &client);
	err = flat_pairs_take(&c->offload->pairs, &server);
	if (err < 0)
		return err;
	c->server_near = server.near;
	c->end[FLAT_SIDE_SERVER].anchor.fd = server.far;
	flat_end_name(&c->end[FLAT_SIDE_SERVER], &server);
	return 0;
}

/* One more in this lane, which has a free slot. NULL: no memory or descriptors. */
static struct flat_conn *make(struct flat_session *s, const struct flat_decision *d,
			      struct flat_lane_link *lane)
{
	static const struct flat_addr unbound;
	struct flat_conn *c = flat_conn_make(s->offload, s, d);
	if (!c)
		return NULL;
	c->ticket = c->shelved = true;
	flat_slot_take(&c->end[FLAT_SIDE_CLIENT], lane);
	c->end[FLAT_SIDE_SERVER].lane = lane;
	c->end[FLAT_SIDE_SERVER].slot = c->end[FLAT_SIDE_CLIENT].slot;
	flat_conn_name_client(c, &unbound);
	TAILQ_INSERT_TAIL(&s->tickets, c, link);
	s->n_tickets++;
	s->offload->n_tickets++;
	if (take_pairs(c) == 0 && flat_conn_watch(&c->end[FLAT_SIDE_CLIENT]) == 0)
		return c;
	flat_ticket_drop(c);
	return NULL;
}

static void fill(struct flat_session *s, const struct flat_decision *d, struct flat_msg *reply,
		 int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	struct flat_offload *o = s->offload;
	struct flat_msg_tickets *m = &reply->body.tickets;
	struct flat_lane_link *lane;
	if (flat_lane_get(o, s, d->listener, &lane) != 0)
		return;
	m->lane_id = lane->id;
	m->geo = lane->lane.geo;
	if (!flat_lane_client_maps(lane)) {
		fds[(*n)++] = lane->fd;
		reply->fds |= FLAT_FD_LANE;
	}
	while (m->n < FLAT_MSG_TICKETS_MAX && s->n_tickets < FLAT_SESSION_TICKETS_MAX &&
	       o->n_tickets < FLAT_TICKETS_MAX && !flat_lane_full(lane)) {
		struct flat_conn *c = make(s, d, lane);
		if (!c)
			break;
		struct flat_msg_ticket *t = &m->v[m->n++];
		t->conn_id = c->id;
		t->slot = c->end[FLAT_SIDE_CLIENT].slot;
		t->port = c->from.port;
		m->local = c->from;
		fds[(*n)++] = c->client_near;
		fds[(*n)++] = c->end[FLAT_SIDE_SERVER].anchor.fd;
		reply->fds |= FLAT_FD_TICKETS;
	}
}

void flat_tickets_request(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_question q = {.session = s, .to = msg->body.connect.to, .dry = true};
	struct flat_decision d;
	struct flat_msg reply;
	struct flat_conn *c;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&reply, FLAT_MSG_TICKETS, msg->seq);
	flat_admit(s->offload, &q, &d);
	if (is_certain(s, &d))
		fill(s, &d, &reply, fds, &n);
	/* Without tickets there is nothing for a lane to be for. */
	if (reply.body.tickets.n == 0) {
		reply.fds = 0;
		n = 0;
	}
	flat_session_reply(s, &reply, fds, n);
	TAILQ_FOREACH(c, &s->tickets, link)
	{
		if (c->client_near < 0)
			continue;
		flat_loop_close_fd(&s->offload->loop, c->client_near);
		c->client_near = -1;
	}
}

static void unshelve(struct flat_conn *c)
{
	if (c->end[FLAT_SIDE_CLIENT].gone)
		c->client->n_let_go--;
	TAILQ_REMOVE(&c->client->tickets, c, link);
	c->client->n_tickets--;
	c->offload->n_tickets--;
}

void flat_ticket_drop(struct flat_conn *c)
{
	unshelve(c);
	flat_conn_destroy(c);
}

void flat_ticket_let_go(struct flat_conn *c)
{
	c->client->n_let_go++;
	flat_session_look(c->client);
}

void flat_tickets_give_back(struct flat_session *s)
{
	struct flat_conn *next;
	for (struct flat_conn *c = TAILQ_FIRST(&s->tickets); c && s->n_let_go > 0; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->end[FLAT_SIDE_CLIENT].gone)
			flat_ticket_drop(c);
	}
}

void flat_tickets_end(struct flat_session *s, const struct flat_listener *l)
{
	struct flat_conn *next;
	for (struct flat_conn *c = s ? TAILQ_FIRST(&s->tickets) : LIST_FIRST(&l->conns); c;
	     c = next) {
		next = s ? TAILQ_NEXT(c, link) : LIST_NEXT(c, listener_link);
		if (c->shelved)
			flat_ticket_drop(c);
	}
}

/* What a connect() would be told now. */
static void decide(struct flat_conn *c, struct flat_decision *d)
{
	struct flat_question q = {.session = c->client, .from = c->from, .to = c->to};
	flat_admit(c->offload, &q, d);
	flat_check_limits(c->client, d);
	if (d->status == 0 && (d->path != c->path || d->listener != c->listener || d->l7)) {
		d->status = -ECONNRESET;
		d->kind = FLAT_REFUSED_RESOURCES;
		snprintf(d->reason, sizeof(d->reason),
			 "its service changed while the connection began");
	}
}

void flat_ticket_use(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_conn *c;
	struct flat_decision d;
	TAILQ_FOREACH(c, &s->tickets, link)
	{
		if (c->id == msg->body.use.conn_id)
			break;
	}
	/* Gone with its listener, or never there: the client's end has hung up, or it has none. */
	if (!c)
		return;
	unshelve(c);
	/* Closed already, with what it sent: its server finds all that. It is seen again once it is watched. */
	c->end[FLAT_SIDE_CLIENT].gone = false;
	decide(c, &d);
	c->shelved = false;
	flat_conn_begin(c, &d);
	if (d.status == 0) {
		int err = flat_listener_offer(c->listener, c);
		if (err == 0 && !c->pending) {
			flat_conn_open(c);
			return;
		}
		if (err != 0) {
			d.status = -ECONNREFUSED;
			d.kind = FLAT_REFUSED_RESOURCES;
			snprintf(d.reason, sizeof(d.reason), "the listener is gone");
		}
	}
	/* The client is told in its slot, as one that was answered early; but it knows of its connection, and may go. */
	c->connecting = true;
	c->told = d.status == 0;
	if (d.status != 0)
		flat_conn_fail(c, -d.status, d.kind, d.reason);
}
