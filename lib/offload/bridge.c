/* Between a stream of the wire and a connection: bytes both ways, and how each side's end is told to the other. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/admit.h"
#include "offload/gateway.h"
#include "offload/guest.h"
#include "offload/peers.h"

/* hard: what the connection reads last is a reset. */
static void bridge_free(struct flat_bridge *b, bool hard)
{
	if (b->conn)
		b->conn->bridge = NULL;
	if (b->inbound)
		flat_guest_lose(b);
	TAILQ_REMOVE(&b->peer->bridges, b, link);
	b->peer->n_bridges--;
	if (b->tube)
		flat_tube_close(b->tube, FLAT_TUBE_FAR, hard);
	free(b);
}

/* Without its tube. */
static struct flat_bridge *bridge_new(struct flat_peer *p)
{
	struct flat_bridge *b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->peer = p;
	b->source.fd = -1;
	TAILQ_INSERT_TAIL(&p->bridges, b, link);
	p->n_bridges++;
	return b;
}

/* The near side of its tube is the caller's. */
static struct flat_bridge *bridge_to(struct flat_peer *p)
{
	struct flat_bridge *b = bridge_new(p);
	if (b)
		b->tube = flat_tube_new();
	if (!b || b->tube)
		return b;
	bridge_free(b, true);
	return NULL;
}

/* --- bytes --- */

static void on_event(struct flat_source *source, int events)
{
	struct flat_bridge *b = FLAT_CONTAINER_OF(source, struct flat_bridge, source);
	flat_peer_heat(b->peer);
	if (!b->stream)
		return;
	if (events & (POLLIN | POLLHUP | POLLRDHUP | POLLERR))
		flat_wire_ready(b->stream);
	/* Last: it may be gone with it. */
	if (events & (POLLOUT | POLLHUP | POLLERR))
		(void)flat_wire_room(b->stream);
}

static ssize_t give(struct flat_wire_stream *s, uint8_t *buf, size_t max)
{
	const struct flat_bridge *b = s->owner;
	return flat_tube_recv(b->tube, FLAT_TUBE_FAR, buf, max);
}

static ssize_t look(struct flat_wire_stream *s, size_t max, struct iovec iov[2], int *n_iov)
{
	const struct flat_bridge *b = s->owner;
	return flat_tube_peek(b->tube, FLAT_TUBE_FAR, max, iov, n_iov);
}

static void pass(struct flat_wire_stream *s, size_t len)
{
	const struct flat_bridge *b = s->owner;
	flat_tube_skip(b->tube, FLAT_TUBE_FAR, len);
}

static ssize_t take(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	const struct flat_bridge *b = s->owner;
	ssize_t n = flat_tube_send(b->tube, FLAT_TUBE_FAR, bytes, len);
	return n == -EAGAIN ? 0 : n;
}

static void fin(struct flat_wire_stream *s)
{
	const struct flat_bridge *b = s->owner;
	flat_wire_link_spend(s->link, FLAT_WIRE_END_FRAMES);
	flat_tube_end(b->tube, FLAT_TUBE_FAR);
}

static bool open_stream(struct flat_bridge *b)
{
	b->stream = flat_wire_open(b->peer->link, &b->conn->target, &b->from, b);
	if (b->stream)
		flat_peer_heat(b->peer);
	return b->stream != NULL;
}

/*
 * Nobody has answered, so nothing was said: it is asked for by another link, once. The one before may have led to a flatd that is
 * gone, or to one that has a successor. False: there is none.
 */
static bool move_on(struct flat_bridge *b, const struct flat_wire_link *from)
{
	struct flat_peer *old = b->peer;
	struct flat_peers *all = old->all;
	const struct flat_svid *svid =
	    flat_svids_find(all->svids, flat_spiffe_principal(from->own_id));
	int err;
	if (b->inbound || b->moved || !b->conn || !b->conn->half_open || !svid)
		return false;
	b->moved = true;
	struct flat_peer *p =
	    flat_peer_to(all, &old->addr, svid, old->hbone ? from->peer.expect : NULL, &err);
	if (!p)
		return false;
	TAILQ_REMOVE(&old->bridges, b, link);
	old->n_bridges--;
	TAILQ_INSERT_TAIL(&p->bridges, b, link);
	p->n_bridges++;
	b->peer = p;
	return !p->link->greeted || open_stream(b);
}

static void ended(struct flat_wire_stream *s, int err)
{
	struct flat_bridge *b = s->owner;
	struct flat_conn *c = b->conn;
	b->stream = NULL;
	if (c)
		flat_wire_link_spend(s->link, FLAT_WIRE_END_FRAMES);
	/* Not where the peer has reset it. */
	if (!b->peer->link && move_on(b, s->link))
		return;
	if (c && c->half_open) {
		b->conn = NULL;
		c->bridge = NULL;
		if (b->inbound)
			flat_conn_destroy(c);
		else
			flat_conn_fail(c, err ? err : ECONNRESET, FLAT_REFUSED_UNREACHABLE,
				       "the link to the server's host ended");
	}
	bridge_free(b, err != 0);
}

/* --- outbound --- */

/* Whether who answers is whom the endpoint names, NAMESPACE/ACCOUNT. A flatd of another trust domain speaks for nobody of ours. */
static bool is_named(const struct flat_wire_link *l, const char *who, const char *name)
{
	const char *own = flat_spiffe_principal(l->own_id);
	const char *node = flat_spiffe_principal(l->peer.id);
	const char *slash = strchr(name, '/');
	size_t domain = strcspn(own, "/") + 1;
	char want[3 * FLAT_SPIFFE_ID_MAX];
	snprintf(want, sizeof(want), "%.*sns/%.*s/sa/%s", (int)domain, own, (int)(slash - name),
		 name, slash + 1);
	return strncmp(node, own, domain) == 0 && strcmp(who, want) == 0;
}

static void accepted(struct flat_wire_stream *s, const char *who)
{
	struct flat_bridge *b = s->owner;
	char reason[1200];
	if (b->who[0] && !is_named(s->link, who, b->who)) {
		snprintf(reason, sizeof(reason),
			 "the server is %.300s, as %.300s says; its endpoint's serviceAccount is "
			 "%.300s",
			 who[0] ? who : "no workload", s->link->peer.id, b->who);
		flat_wire_reset(s, ECONNRESET);
		b->stream = NULL;
		flat_bridge_fail(b, EACCES, reason);
		return;
	}
	if (b->conn)
		flat_conn_open(b->conn);
}

static void refused(struct flat_wire_stream *s, int err, const char *why)
{
	struct flat_bridge *b = s->owner;
	struct flat_conn *c = b->conn;
	char text[FLAT_ADDR_STRLEN];
	char reason[500];
	b->stream = NULL;
	if (err == EAGAIN && s->link->draining && move_on(b, s->link))
		return;
	snprintf(reason, sizeof(reason), "refused by the host of %s: %s",
		 c ? flat_addr_str(&c->target, text) : "-", why);
	b->conn = NULL;
	if (c) {
		c->bridge = NULL;
		flat_conn_fail(
		    c, err, err == EACCES ? FLAT_REFUSED_POLICY : FLAT_REFUSED_UNREACHABLE, reason);
	}
	bridge_free(b, true);
}

static const char no_room[] = "the link has no room for another stream";

void flat_bridge_start(struct flat_bridge *b)
{
	if (!open_stream(b))
		flat_bridge_fail(b, EAGAIN, no_room);
}

void flat_bridge_fail(struct flat_bridge *b, int err, const char *why)
{
	struct flat_conn *c = b->conn;
	b->conn = NULL;
	bridge_free(b, true);
	if (!c)
		return;
	c->bridge = NULL;
	flat_conn_fail(c, err, err == EACCES ? FLAT_REFUSED_POLICY : FLAT_REFUSED_UNREACHABLE, why);
}

static void ready(struct flat_wire_link *link)
{
	flat_peer_ready(link->owner);
}

/* Whose certificate an HBONE server shows: the endpoint's account, "default" where none is named, as Istio has it. */
static void expected(const struct flat_conn *c, const struct flat_svid *svid,
		     char id[FLAT_SPIFFE_ID_MAX])
{
	const char *own = flat_spiffe_principal(svid->id);
	snprintf(id, FLAT_SPIFFE_ID_MAX, FLAT_SPIFFE_SCHEME "%.*s/ns/%.63s/sa/%.63s",
		 (int)strcspn(own, "/"), own, c->wire.namespace,
		 c->wire.account ? c->wire.account : "default");
}

/* As whom it is made, a principal; never as a client on another host, whose identity is its own flatd's to show. */
static const char *speaker(const struct flat_conn *c)
{
	const struct flat_workload *w = c->client ? c->client->workload : NULL;
	if (c->gate || c->gated)
		w = flat_gateway_workload(c->offload);
	else if (c->speaker)
		return c->speaker;
	return w ? w->principal : NULL;
}

int flat_bridge_dial(struct flat_conn *c, char *reason, size_t size)
{
	struct flat_peers *all = c->offload->peers;
	const char *own = speaker(c);
	const struct flat_svid *svid = all && own ? flat_svids_find(all->svids, own) : NULL;
	struct flat_addr addr = c->target;
	char expect[FLAT_SPIFFE_ID_MAX];
	char text[FLAT_ADDR_STRLEN];
	int err = -EACCES;
	addr.port = c->wire.port;
	if (!svid) {
		snprintf(reason, size, "%s%.280s",
			 !all  ? "ISTIO_MUTUAL is asked for, and flatd runs without --svids"
			 : own ? "--svids has no SVID for "
			       : "the client has no identity to show to another host",
			 all && own ? own : "");
		return err;
	}
	if (svid->expires_s <= (int64_t)time(NULL)) {
		snprintf(reason, size, "the SVID of %.280s has expired", own);
		return err;
	}
	if (svid->unfit[0]) {
		snprintf(reason, size, "the SVID of %.280s is of no use: %s", own, svid->unfit);
		return err;
	}
	expected(c, svid, expect);
	struct flat_peer *p = flat_peer_to(all, &addr, svid, c->wire.hbone ? expect : NULL, &err);
	struct flat_bridge *b = p ? bridge_to(p) : NULL;
	if (!b) {
		snprintf(reason, size, "no link to %s: %s", flat_addr_str(&addr, text),
			 strerror(p ? ENOMEM : -err));
		return p ? -ENOMEM : err;
	}
	if (c->wire.account && !c->wire.hbone)
		snprintf(b->who, sizeof(b->who), "%.63s/%.253s", c->wire.namespace,
			 c->wire.account);
	b->from = c->from;
	b->conn = c;
	c->bridge = b;
	c->end[FLAT_SIDE_SERVER].is_tcp = true;
	c->end[FLAT_SIDE_SERVER].tube = b->tube;
	err = flat_conn_text(&c->server_name, c->wire.hbone ? "by HBONE" : "over the wire");
	if (err != 0) {
		snprintf(reason, size, "%s", strerror(-err));
		return err;
	}
	/* Not flat_bridge_start(): the caller's connection must not go under it. */
	if (p->link->greeted && !open_stream(b)) {
		snprintf(reason, size, "%s", no_room);
		return -EAGAIN;
	}
	return 0;
}

/* --- inbound --- */

/*
 * HBONE: whom the client has seen, by the certificate, is who answers; and it asks for the address that it came to, as
 * ztunnel demands.
 */
static bool is_here(const struct flat_peer *p, const struct flat_listener *l,
		    const struct flat_addr *to, char *reason, size_t size)
{
	const struct flat_workload *w = l->session->workload;
	const char *shown = flat_spiffe_principal(p->link->own_id);
	struct flat_addr came = p->local;
	char text[FLAT_ADDR_STRLEN];
	came.port = to->port;
	if (!p->hbone)
		return true;
	if (!flat_addr_equal(&came, to)) {
		snprintf(reason, size, "HBONE: %s is not the address that the client came to",
			 flat_addr_str(to, text));
		return false;
	}
	if ((!w || strcmp(w->principal, shown) != 0) &&
	    !(p->all->svids->node && strcmp(p->link->own_id, p->all->svids->node->id) == 0)) {
		snprintf(reason, size, "HBONE: the client was shown %.150s, who is not there",
			 shown);
		return false;
	}
	return true;
}

/* What is asked for. Loopback addresses are this host's own affair: servers listen there so that no other host comes. */
static struct flat_listener *asked_for(const struct flat_peer *p, const struct flat_addr *to)
{
	struct flat_addr want = *to;
	static const uint8_t none[16];
	flat_addr_unmap(&want);
	if (flat_addr_is_loopback(&want) && !flat_addr_is_loopback(&p->addr))
		return NULL;
	/* The kernel takes it for this host, and policies would be asked of no address of it. */
	if (memcmp(want.ip, none, sizeof(none)) == 0)
		return NULL;
	return flat_listener_find(p->all->offload, &want, NULL);
}

/* It is begun in its turn: many may come at once (guest.h). */
static void opened(struct flat_wire_link *link, struct flat_wire_stream *s,
		   const struct flat_frame *f)
{
	struct flat_peer *p = link->owner;
	char reason[200];
	struct flat_bridge *b = NULL;
	if (p->guest->streams >= FLAT_WIRE_GUEST_STREAMS_MAX) {
		snprintf(reason, sizeof(reason), "%.80s has %u connections from its host",
			 flat_spiffe_principal(link->peer.id), p->guest->streams);
		flat_refuse(p->all->offload, NULL, flat_spiffe_principal(link->peer.id), &f->to,
			    FLAT_REFUSED_LIMIT, reason);
		flat_wire_refuse(s, EAGAIN, reason);
		return;
	}
	b = bridge_new(p);
	if (!b) {
		flat_wire_refuse(s, ENOBUFS, "flatd has no memory left");
		return;
	}
	b->inbound = true;
	b->stream = s;
	s->owner = b;
	/* The address is the socket's, which the kernel vouches for; the port is for the server's logs. */
	b->from = p->addr;
	if (f->from.port)
		b->from.port = f->from.port;
	b->to = f->to;
	flat_guest_ask(b);
}

/* Before there is a connection. */
static void turn_down(struct flat_bridge *b, int err, const char *reason)
{
	flat_wire_refuse(b->stream, err, reason);
	b->stream = NULL;
	bridge_free(b, true);
}

void flat_bridge_begin(struct flat_bridge *b)
{
	const struct flat_peer *p = b->peer;
	struct flat_offload *o = p->all->offload;
	const char *principal = flat_spiffe_principal(p->link->peer.id);
	struct flat_listener *l = asked_for(p, &b->to);
	struct flat_question q = {
	    .principal = principal, .from = b->from, .to = b->to, .pinned = l};
	char text[FLAT_ADDR_STRLEN];
	char reason[200];
	flat_peer_heat(b->peer);
	if (!l || !is_here(p, l, &b->to, reason, sizeof(reason))) {
		if (!l)
			snprintf(reason, sizeof(reason), "no mesh server listens on %s",
				 flat_addr_str(&b->to, text));
		flat_refuse(o, NULL, principal, &b->to, FLAT_REFUSED_NO_ENDPOINT, reason);
		turn_down(b, l ? EINVAL : ECONNREFUSED, reason);
		return;
	}
	b->tube = flat_tube_new();
	if (!b->tube) {
		turn_down(b, ENOBUFS, "flatd has no memory left");
		return;
	}
	flat_tube_hold(b->tube, p->guest->hold);
	snprintf(b->who, sizeof(b->who), "%s", principal);
	flat_conn_wire(l, &q, b, b->tube);
}

/* --- both --- */

void flat_bridge_opened(struct flat_bridge *b)
{
	struct flat_conn *c = b->conn;
	/* As HTTP a connection has no listener of its own: each request finds one. */
	const struct flat_listener *l =
	    c->listener ? c->listener : flat_listener_find(c->offload, &c->target, NULL);
	const struct flat_workload *w = l ? l->session->workload : NULL;
	if (b->inbound)
		flat_wire_accept(b->stream, w ? w->principal : "");
	flat_peer_heat(b->peer);
	b->source.fn = on_event;
	flat_tube_watch(b->tube, FLAT_TUBE_FAR, &b->source);
}

void flat_bridge_failed(struct flat_bridge *b, int err, const char *reason)
{
	if (!b->inbound || !b->stream || b->stream->open)
		return;
	flat_wire_refuse(b->stream, err, reason);
	b->stream = NULL;
	flat_peer_heat(b->peer);
	bridge_free(b, true);
}

void flat_bridge_gone(struct flat_bridge *b, bool hard)
{
	b->conn = NULL;
	if (b->stream && !hard && b->stream->open) {
		/* What the connection wrote last is in the pair; then its end. */
		b->orphan_ms = flat_now_us() / 1000;
		return;
	}
	if (b->stream)
		flat_wire_reset(b->stream, ECONNRESET);
	flat_peer_heat(b->peer);
	bridge_free(b, hard);
}

const struct flat_wire_ops flat_bridge_ops = {
    .ready = ready,
    .opened = opened,
    .accepted = accepted,
    .refused = refused,
    .take = take,
    .fin = fin,
    .give = give,
    .look = look,
    .pass = pass,
    .ended = ended,
    .verbs = flat_peer_verbs_frame,
};
