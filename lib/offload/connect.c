/* How a connection begins: asked for by a session, or come from a plain client; with a mesh server, or another. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/account.h"
#include "offload/admit.h"
#include "offload/asking.h"
#include "offload/capture_in.h"
#include "offload/gateway.h"
#include "offload/health.h"
#include "offload/l7.h"
#include "offload/origin.h"
#include "offload/peers.h"
#include "offload/sniff.h"

#define EPHEMERAL_FIRST 32768

void flat_conn_name_client(struct flat_conn *c, const struct flat_addr *bound)
{
	struct flat_offload *o = c->offload;
	c->from = *bound;
	if (c->from.family == 0) {
		c->from.family = c->to.family;
		/* A client on this host is seen under the loopback address, as with the kernel. */
		if (c->from.family == AF_INET6)
			c->from.ip[15] = 1;
		else
			memcpy(c->from.ip, (const uint8_t[]){127, 0, 0, 1}, 4);
	}
	if (c->from.port == 0) {
		if (++o->next_port < EPHEMERAL_FIRST)
			o->next_port = EPHEMERAL_FIRST;
		c->from.port = o->next_port;
	}
}

static int take_slot(struct flat_conn *c, int i, struct flat_session *s, struct flat_listener *l)
{
	struct flat_lane_link *lane;
	int err = flat_lane_get(c->offload, s, l, &lane);
	if (err == 0)
		flat_slot_take(&c->end[i], lane);
	return err;
}

/* The memory that joins the parties, but for a server outside the mesh. */
static int bind_memory(struct flat_conn *c)
{
	/* A confined client has its socket. */
	struct flat_session *s = c->end[FLAT_SIDE_CLIENT].is_tcp ? NULL : c->client;
	struct flat_listener *l =
	    flat_listener_is_dialled(c->listener) || flat_sniff_waits(c->sniff) ? NULL
										: c->listener;
	if (c->l7)
		return s ? take_slot(c, FLAT_SIDE_CLIENT, s, NULL) : 0;
	if (c->l7_upstream)
		return l ? take_slot(c, FLAT_SIDE_SERVER, NULL, l) : 0;
	if (c->path == FLAT_CONN_DIRECT) {
		int err = take_slot(c, FLAT_SIDE_CLIENT, s, l);
		c->end[1].lane = c->end[0].lane;
		c->end[1].slot = c->end[0].slot;
		return err;
	}
	c->pipe = calloc(1, sizeof(*c->pipe));
	int err = c->pipe ? 0 : -ENOMEM;
	if (err == 0 && s)
		err = take_slot(c, FLAT_SIDE_CLIENT, s, NULL);
	if (err == 0 && l)
		err = take_slot(c, FLAT_SIDE_SERVER, NULL, l);
	return err;
}

static void set_nodelay(int fd)
{
	int one = 1;
	(void)flat_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* --- a server outside the mesh --- */

static void on_upstream(struct flat_source *source, int result)
{
	struct flat_end *e = FLAT_CONTAINER_OF(source, struct flat_end, anchor);
	char text[FLAT_ADDR_STRLEN];
	char reason[200];
	if (result == 0 && e->conn->origin) {
		flat_origin_begin(e->conn);
		return;
	}
	if (result == 0) {
		flat_conn_open(e->conn);
		return;
	}
	snprintf(reason, sizeof(reason), "flatd could not connect to %s: %s",
		 flat_addr_str(&e->conn->target, text), strerror(-result));
	flat_conn_fail(e->conn, -result, FLAT_REFUSED_UNREACHABLE, reason);
}

static int connect_upstream(struct flat_conn *c, char *reason, size_t size)
{
	struct flat_end *e = &c->end[FLAT_SIDE_SERVER];
	if (c->wire.port != 0)
		return flat_bridge_dial(c, reason, size);
	int err = c->origin ? flat_origin_prepare(c->offload, c->origin, reason, size) : 0;
	if (err != 0)
		return err;
	int fd = flat_sys_socket(c->target.family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	set_nodelay(fd);
	e->is_tcp = true;
	e->anchor.fd = fd;
	if (c->listener)
		err = flat_captures_in_dial(c, fd);
	else
		err = flat_conn_text(&c->server_name, "outside the mesh");
	if (err != 0) {
		snprintf(reason, size, "flatd has no way to the %s: %s",
			 c->listener ? "confined server" : "server", strerror(-err));
		return err;
	}
	socklen_t len = flat_addr_to_sockaddr(&c->target, &c->upstream);
	return flat_loop_connect(&c->offload->loop, &e->anchor, fd,
				 (const struct sockaddr *)&c->upstream, len, on_upstream);
}

/* --- a listener that is gone --- */

/* Memory that joins it to its server: of the one before nobody knows. */
static int bind_again(struct flat_conn *c)
{
	struct flat_end *server = &c->end[FLAT_SIDE_SERVER];
	struct flat_end *client = &c->end[FLAT_SIDE_CLIENT];
	flat_slot_give(c->offload, server->lane, server->slot, false);
	server->lane = NULL;
	if (c->path != FLAT_CONN_DIRECT)
		return take_slot(c, FLAT_SIDE_SERVER, NULL, c->listener);
	client->lane = NULL;
	int err = take_slot(c, FLAT_SIDE_CLIENT, c->client, c->listener);
	server->lane = client->lane;
	server->slot = client->slot;
	return err;
}

/* Whether what was decided holds for it too: it is the same workload's, or it is asked for anew. */
static bool may_serve(struct flat_conn *c, struct flat_listener *l)
{
	if (l->session->workload == c->listener->session->workload)
		return true;
	const struct flat_question q = {
	    .session = c->client,
	    .principal = c->principal,
	    .from = c->from,
	    .to = c->target,
	    .pinned = l,
	    .own = c->own,
	    .sni = c->sniff ? flat_sniff_name(c->sniff) : NULL,
	    .heard = c->sniff != NULL,
	};
	struct flat_decision d;
	/* Of a request it was the server's policies that were asked. */
	if (c->l7_upstream)
		return false;
	flat_admit(c->offload, &q, &d);
	const char *who;
	return d.status == 0 && !d.l7 && flat_asking_covers(c, &d, &who);
}

/*
 * Its listener takes nothing more, of which we have not heard yet: the kernel would have given it to another one at the address. 0,
 * -EPIPE (there is none that it may go to), -ENOBUFS or -ENOMEM.
 */
static int lead_elsewhere(struct flat_conn *c)
{
	struct flat_listener *old = c->listener;
	char name[96];
	if (!old->gone) {
		old->gone = true;
		c->offload->listening++;
	}
	/* A loopback address is that of the namespace that it was found in, whoever asked. */
	const struct flat_session there = {.netns = old->netns};
	struct flat_listener *l = flat_listener_find(c->offload, &c->target, &there);
	if (!l || flat_listener_is_dialled(l) || !may_serve(c, l))
		return -EPIPE;
	if (flat_conn_text(&c->server_name, flat_session_name(l->session, name)) != 0)
		return -ENOMEM;
	flat_conn_serve(c, l);
	flat_listener_rotate(l);
	return bind_again(c);
}

/* As flat_listener_offer(), to the listeners of the address one after the other. */
static int offer(struct flat_conn *c)
{
	int err;
	do
		err = flat_listener_offer(c->listener, c);
	while ((err == -EPIPE || err == -ECONNRESET) && (err = lead_elsewhere(c)) == 0);
	return err;
}

bool flat_conn_again(struct flat_conn *c)
{
	/* Told of its slot, which is of memory that it shares with those who are gone. */
	if (c->ticket || (c->path == FLAT_CONN_DIRECT && c->connecting))
		return false;
	TAILQ_REMOVE(&c->listener->pending, c, pending_link);
	c->listener->n_pending--;
	c->pending = false;
	int err = lead_elsewhere(c);
	if (err == 0)
		err = offer(c);
	if (err != 0)
		flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_UNREACHABLE, "the listener is gone");
	else if (!c->pending)
		flat_conn_open(c);
	return true;
}

/* --- going for it --- */

void flat_conn_reach(struct flat_conn *c, int err)
{
	char reason[400] = "";
	if (err == 0 && flat_asking_waits(c->asking)) {
		flat_asking_begin(c);
		return;
	}
	if (err == 0 && flat_listener_is_dialled(c->listener))
		err = connect_upstream(c, reason, sizeof(reason));
	else if (err == 0)
		err = offer(c);
	if (err != 0 && reason[0]) {
		flat_conn_fail(c, -err,
			       err == -EACCES ? FLAT_REFUSED_POLICY : FLAT_REFUSED_UNREACHABLE,
			       reason);
		return;
	}
	/* The listener's end is gone, and we have not heard of it yet. */
	if (err == -EPIPE || err == -ECONNRESET) {
		flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_RESOURCES, "the listener is gone");
	} else if (err != 0) {
		snprintf(reason, sizeof(reason), "%s: %s",
			 err == -ENOBUFS ? "rule 15: its memory limit is reached"
					 : "flatd could not bind memory",
			 strerror(-err));
		flat_conn_fail(
		    c, -err, err == -ENOBUFS ? FLAT_REFUSED_LIMIT : FLAT_REFUSED_RESOURCES, reason);
	} else if (!flat_listener_is_dialled(c->listener) && !c->pending) {
		flat_conn_open(c);
	} else {
		flat_conn_wait(c);
	}
}

static void proceed(struct flat_conn *c)
{
	int err = bind_memory(c);
	if (err == 0 && c->l7)
		flat_conn_open(c);
	else if (err == 0 && c->sniff)
		flat_sniff_begin(c);
	else
		flat_conn_reach(c, err);
}

void flat_conn_onward(struct flat_conn *c)
{
	if (c->listener && c->listener->n_pending >= FLAT_SESSION_HALF_OPEN_MAX) {
		flat_conn_fail(c, ECONNRESET, FLAT_REFUSED_LIMIT,
			       "rule 15: too many wait for this listener");
		return;
	}
	flat_conn_reach(c, flat_listener_is_dialled(c->listener)
			       ? 0
			       : take_slot(c, FLAT_SIDE_SERVER, NULL, c->listener));
}

/* --- for requests of HTTP clients --- */

struct flat_conn *flat_conn_upstream(struct flat_conn *client, const struct flat_target *target,
				     bool h2)
{
	struct flat_decision d = {
	    .path = FLAT_CONN_FORWARDED,
	    .listener = target->listener,
	    .to = client->to,
	    .target = target->addr,
	    .wire = target->wire,
	};
	struct flat_conn *c = flat_conn_new(client->offload, client->client, &d);
	if (!c)
		return NULL;
	if (target->origin)
		c->origin = flat_origin_new(target->origin, target->origin_name,
					    h2 ? FLAT_TLS_INSIDE_H2 : FLAT_TLS_INSIDE_HTTP1);
	if ((target->origin && !c->origin) || flat_conn_text(&c->service, client->service) != 0) {
		flat_conn_destroy(c);
		return NULL;
	}
	c->gated = client->gate || client->gated;
	/* Without memory it speaks as nobody, and is refused. */
	c->speaker = client->speaker ? strdup(client->speaker) : NULL;
	c->from = client->from;
	/* The client's connection is the one that is counted. */
	c->series = NULL;
	return c;
}

int flat_conn_upstream_open(struct flat_conn *c)
{
	char reason[400] = "";
	int err = bind_memory(c);
	if (err == 0 && flat_listener_is_dialled(c->listener))
		err = connect_upstream(c, reason, sizeof(reason));
	else if (err == 0)
		err = offer(c);
	if (err != 0 && reason[0])
		flat_refuse(c->offload, c->client, c->client_name, &c->to,
			    err == -EACCES ? FLAT_REFUSED_POLICY : FLAT_REFUSED_UNREACHABLE,
			    reason);
	if (err != 0)
		flat_conn_destroy(c);
	else if (!flat_listener_is_dialled(c->listener) && !c->pending)
		flat_conn_open(c);
	return err;
}

/* --- sessions --- */

uint32_t flat_conns_max(const struct flat_session *s)
{
	return s->workload && s->workload->limit_connections ? s->workload->limit_connections
							     : FLAT_SESSION_CONNS_MAX;
}

void flat_check_limits(const struct flat_session *s, struct flat_decision *d)
{
	const char *what = s->n_conns >= flat_conns_max(s) ? "connection limit"
			   : s->n_half_open >= FLAT_SESSION_HALF_OPEN_MAX
			       ? "limit of connections being made"
			       : NULL;
	flat_account_check(s, d);
	if (!what || d->status != 0 || d->path == FLAT_CONN_KERNEL)
		return;
	d->status = -EAGAIN;
	d->kind = FLAT_REFUSED_LIMIT;
	snprintf(d->reason, sizeof(d->reason), "rule 15: the process has reached its %s", what);
}

/* Refused, or the kernel's business. */
static void reply_decided(struct flat_session *s, const struct flat_msg *msg,
			  const struct flat_decision *d)
{
	struct flat_msg reply;
	flat_msg_init(&reply, FLAT_MSG_CONNECT, msg->seq);
	reply.status = d->status;
	reply.body.conn.path = (uint32_t)d->path;
	reply.body.conn.peer = d->target;
	snprintf(reply.reason, sizeof(reply.reason), "%.*s", (int)sizeof(reply.reason) - 1,
		 d->reason);
	flat_session_reply(s, &reply, NULL, 0);
}

static void count_kernel(struct flat_offload *o, const struct flat_session *s,
			 const struct flat_addr *to, const struct flat_decision *d)
{
	char text[FLAT_ADDR_STRLEN];
	struct flat_series_key key = {
	    .source = s->workload,
	    .service = d->service,
	    .address = flat_addr_str(to, text),
	    .path = FLAT_CONN_KERNEL,
	    .source_in_mesh = true,
	};
	struct flat_series *series = flat_series_get(&o->series, &key);
	if (series)
		series->opened++;
	o->stats.opened[FLAT_CONN_KERNEL]++;
}

/* What reads its bytes before they go anywhere, if anything does. 0 or -ENOMEM. */
static int attach(struct flat_conn *c, const struct flat_decision *d)
{
	return d->l7 ? flat_l7_attach(c, d) : d->sniff ? flat_sniff_attach(c, d->sniff) : 0;
}

static void begin(struct flat_session *s, const struct flat_msg *msg, struct flat_decision *d)
{
	struct flat_pair pair;
	struct flat_conn *c = flat_conn_new(s->offload, s, d);
	d->status = c ? flat_pairs_take(&s->offload->pairs, &pair) : -ENOMEM;
	bool taken = d->status == 0;
	if (d->status == 0)
		d->status = attach(c, d);
	if (d->status != 0 && taken) {
		close(pair.near);
		close(pair.far);
	}
	if (d->status != 0) {
		snprintf(d->reason, sizeof(d->reason), "flatd has no memory or descriptors left");
		if (c)
			flat_conn_destroy(c);
		reply_decided(s, msg, d);
		return;
	}
	c->reply_seq = msg->seq;
	c->reply_due = true;
	c->early = (msg->body.connect.flags & FLAT_CONNECT_EARLY) != 0;
	c->client_near = pair.near;
	c->end[0].anchor.fd = pair.far;
	flat_end_name(&c->end[0], &pair);
	flat_conn_name_client(c, &msg->body.connect.from);
	proceed(c);
}

/* Policies go by where a client comes from, and servers see it: an address that is not here is not the client's. */
static const struct flat_msg *check_source(const struct flat_session *s, const struct flat_msg *msg,
					   struct flat_msg *own)
{
	const struct flat_addr *from = &msg->body.connect.from;
	/* Who is in another network namespace has none of this one's. */
	if (from->family == 0 || (s->netns ? flat_addr_is_loopback(from) : flat_addr_is_here(from)))
		return msg;
	*own = *msg;
	memset(&own->body.connect.from, 0, sizeof(own->body.connect.from));
	return own;
}

void flat_conn_request(struct flat_session *s, const struct flat_msg *asked)
{
	struct flat_offload *o = s->offload;
	struct flat_msg own;
	const struct flat_msg *msg = check_source(s, asked, &own);
	const struct flat_msg_connect *m = &msg->body.connect;
	struct flat_question q = {.session = s, .from = m->from, .to = m->to};
	struct flat_decision d;
	char name[96];
	flat_admit(o, &q, &d);
	flat_check_limits(s, &d);
	if (d.status != 0)
		flat_refuse(o, s, flat_session_name(s, name), &m->to, d.kind, d.reason);
	else if (d.path == FLAT_CONN_KERNEL)
		count_kernel(o, s, &m->to, &d);
	if (d.status != 0 || d.path == FLAT_CONN_KERNEL)
		reply_decided(s, msg, &d);
	else
		begin(s, msg, &d);
}

/* --- clients that have the kernel's socket --- */

static void refuse_socket(struct flat_offload *o, int fd, const struct flat_question *q,
			  const struct flat_decision *d)
{
	char name[96] = "plain client";
	if (q->session)
		flat_session_name(q->session, name);
	flat_refuse(o, q->session, name, &q->to, d->kind, d->reason);
	flat_sys_reset_at_close(fd);
	close(fd);
}

/* As decided; `fd` is taken. NULL: there is no memory. */
static struct flat_conn *begin_socket(struct flat_offload *o, struct flat_session *s,
				      const struct flat_question *q, struct flat_decision *d,
				      int fd)
{
	struct flat_conn *c = flat_conn_new(o, s, d);
	if (!c) {
		close(fd);
		return NULL;
	}
	set_nodelay(fd);
	c->from = q->from;
	c->end[0].is_tcp = true;
	c->end[0].anchor.fd = fd;
	int err = attach(c, d);
	if (err == 0)
		return c;
	flat_conn_destroy(c);
	return NULL;
}

void flat_conn_plain(struct flat_listener *l, int fd)
{
	struct flat_offload *o = l->offload;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct flat_question q = {.to = l->addr, .pinned = l};
	struct flat_decision d;
	memset(&ss, 0, sizeof(ss));
	if (FLAT_SYS3(SYS_getpeername, fd, &ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&q.from, (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&q.to, (struct sockaddr *)&ss, len);
	q.own = flat_health_is_own(o, &q.from, &q.to);
	flat_admit(o, &q, &d);
	if (d.status == 0 && l->n_pending >= FLAT_SESSION_HALF_OPEN_MAX) {
		d.status = -EAGAIN;
		d.kind = FLAT_REFUSED_LIMIT;
		snprintf(d.reason, sizeof(d.reason), "rule 15: too many wait for this listener");
	}
	if (d.status != 0) {
		refuse_socket(o, fd, &q, &d);
		return;
	}
	d.path = FLAT_CONN_FORWARDED;
	struct flat_conn *c = begin_socket(o, NULL, &q, &d, fd);
	if (!c)
		return;
	c->target = q.to;
	c->own = q.own;
	if (q.own)
		c->series = NULL;
	proceed(c);
}

void flat_conn_captured(struct flat_session *s, const struct flat_question *q, int fd)
{
	struct flat_offload *o = s->offload;
	struct flat_decision d;
	flat_admit(o, q, &d);
	/* Its bytes are flatd's to carry, wherever they go. */
	d.path = FLAT_CONN_FORWARDED;
	flat_check_limits(s, &d);
	if (d.status != 0) {
		refuse_socket(o, fd, q, &d);
		flat_session_put(s);
		return;
	}
	/* A connection that came to nothing lets its session go, but one that there was no memory for. */
	s->n_conns++;
	struct flat_conn *c = begin_socket(o, s, q, &d, fd);
	s->n_conns--;
	if (c)
		proceed(c);
	else
		flat_session_put(s);
}

/* --- clients of a gateway --- */

void flat_conn_gate(struct flat_offload *o, struct flat_gate *gate, const char *principal, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	bool opaque = flat_gate_is_opaque(flat_gate_kind(gate));
	struct flat_decision d = {
	    .path = FLAT_CONN_FORWARDED,
	    .l7 = !opaque,
	    .sniff = opaque ? FLAT_SNIFF_NAME : FLAT_SNIFF_NONE,
	};
	memset(&ss, 0, sizeof(ss));
	d.to = d.target = *flat_gate_addr(gate);
	struct flat_conn *c = flat_conn_new(o, NULL, &d);
	if (!c) {
		flat_gate_free(gate);
		close(fd);
		return;
	}
	c->gate = gate;
	c->end[0].is_tcp = true;
	c->end[0].anchor.fd = fd;
	if (FLAT_SYS3(SYS_getpeername, fd, &ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&c->from, (struct sockaddr *)&ss, len);
	flat_addr_unmap(&c->from);
	len = sizeof(ss);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&c->target, (struct sockaddr *)&ss, len);
	flat_addr_unmap(&c->target);
	c->principal = strdup(principal);
	if (!c->principal || flat_conn_text(&c->client_name, "client of the gateway") != 0 ||
	    attach(c, &d) != 0) {
		flat_conn_destroy(c);
		return;
	}
	proceed(c);
}

/* --- clients on other hosts --- */

void flat_conn_wire(struct flat_listener *l, const struct flat_question *q, struct flat_bridge *b,
		    struct flat_tube *tube)
{
	struct flat_offload *o = l->offload;
	struct flat_decision d;
	flat_admit(o, q, &d);
	if (d.status == 0 && l->n_pending >= FLAT_SESSION_HALF_OPEN_MAX) {
		d.status = -EAGAIN;
		d.kind = FLAT_REFUSED_LIMIT;
		snprintf(d.reason, sizeof(d.reason), "rule 15: too many wait for this listener");
	}
	d.path = FLAT_CONN_FORWARDED;
	struct flat_conn *c = d.status == 0 ? flat_conn_new(o, NULL, &d) : NULL;
	if (c)
		c->principal = strdup(q->principal);
	if (d.status != 0) {
		flat_refuse(o, NULL, q->principal, &q->to, d.kind, d.reason);
		flat_bridge_failed(b, -d.status, d.reason);
		flat_tube_close(tube, FLAT_TUBE_NEAR, true);
		return;
	}
	if (!c || !c->principal || flat_conn_text(&c->client_name, c->principal) != 0 ||
	    attach(c, &d) != 0) {
		flat_bridge_failed(b, ENOBUFS, "flatd is out of memory");
		flat_tube_close(tube, FLAT_TUBE_NEAR, true);
		if (c)
			flat_conn_destroy(c);
		return;
	}
	c->from = q->from;
	c->target = q->to;
	c->end[0].is_tcp = true;
	c->end[0].tube = tube;
	c->bridge = b;
	b->conn = c;
	proceed(c);
}
