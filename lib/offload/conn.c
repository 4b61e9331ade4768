/* A connection's life: half open, open, cut, gone. How it begins stands in connect.c. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/account.h"
#include "offload/admit.h"
#include "offload/asking.h"
#include "offload/capture_in.h"
#include "offload/gateway.h"
#include "offload/l7.h"
#include "offload/origin.h"
#include "offload/peers.h"
#include "offload/sniff.h"
#include "offload/telling.h"
#include "offload/ticket.h"

uint64_t flat_inode(int fd)
{
	struct stat st;
	return FLAT_SYS2(SYS_fstat, fd, &st) == 0 ? st.st_ino : 0;
}

uint64_t flat_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	return flat_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

void flat_end_name(struct flat_end *e, const struct flat_pair *pair)
{
	e->inode = pair->inode;
	e->cookie = pair->cookie;
	flat_index_put(&e->conn->offload->anchors, &e->by_inode, e->inode);
}

void flat_conn_serve(struct flat_conn *c, struct flat_listener *l)
{
	struct flat_session *before = c->served_by;
	if (c->listener)
		LIST_REMOVE(c, listener_link);
	c->listener = l;
	if (l)
		LIST_INSERT_HEAD(&l->conns, c, listener_link);
	c->served_by = NULL;
	if (!before)
		return;
	before->n_served--;
	flat_session_put(before);
}

void flat_conn_outlive(struct flat_conn *c)
{
	const struct flat_listener *l = c->listener;
	flat_conn_serve(c, NULL);
	c->served_by = l->session;
	c->served_port = l->addr.port;
	l->session->n_served++;
}

/* --- counting --- */

uint64_t flat_conn_bytes(struct flat_conn *c, int i)
{
	const struct flat_end *e = &c->end[i];
	if (c->l7 || c->l7_upstream)
		return flat_l7_bytes(c, i);
	if (c->pipe)
		return atomic_load_explicit(&c->pipe->end[i].bytes, memory_order_relaxed);
	if (c->path == FLAT_CONN_DIRECT && e->lane) {
		uint64_t now = flat_lane_total(&e->lane->lane, e->slot, (unsigned int)i);
		/* The application's word: a counter that went back would be no counter. */
		if (now > c->live[i])
			c->live[i] = now;
	}
	return c->live[i];
}

void flat_series_live(struct flat_offload *o)
{
	struct flat_conn *c;
	for (uint32_t i = 0; i < o->series.n; i++) {
		struct flat_series *s = o->series.v[i];

		s->live[0] = s->live[1] = s->apart.live[0] = s->apart.live[1] = 0;
	}
	for (uint32_t i = 0; i < o->measures.n; i++)
		o->measures.v[i]->live = 0;
	TAILQ_FOREACH(c, &o->conns, link)
	{
		for (int i = 0; i < 2 && c->series; i++)
			c->series->live[i] += flat_conn_bytes(c, i);
		if (c->measures)
			flat_measure_live(c);
	}
}

static bool same_key(const struct flat_series_key *a, const struct flat_series_key *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->service == b->service && a->path == b->path && a->principal == b->principal &&
	       a->source_in_mesh == b->source_in_mesh &&
	       a->destination_in_mesh == b->destination_in_mesh;
}

static struct flat_series *find_series(const struct flat_conn *c,
				       const struct flat_service *service)
{
	struct flat_last_series *last = &c->offload->last_series;
	char text[FLAT_ADDR_STRLEN];
	struct flat_series_key key = {
	    .source = c->client ? c->client->workload : NULL,
	    .destination = c->listener ? c->listener->session->workload : NULL,
	    .service = service,
	    .principal = c->principal,
	    .path = c->path,
	    .source_in_mesh = c->client != NULL,
	    .destination_in_mesh = c->listener != NULL,
	};
	/* Workloads and services are another mesh's after a publication. */
	if (last->series && !c->principal && last->generation == c->offload->generation &&
	    same_key(&last->key, &key) && memcmp(&last->to, &c->to, sizeof(c->to)) == 0)
		return last->series;
	*last = (struct flat_last_series){
	    .key = key, .to = c->to, .generation = c->offload->generation};
	key.address = flat_addr_str(&c->to, text);
	last->series = flat_series_get(&c->offload->series, &key);
	return last->series;
}

static void count_closed(struct flat_conn *c)
{
	c->offload->stats.closed += !c->l7_upstream;
	for (int i = 0; i < 2 && c->series; i++)
		c->series->bytes[i] += flat_conn_bytes(c, i);
	if (c->series)
		c->series->closed++;
	if (c->measures)
		flat_measure_closed(c);
}

/* --- begin and end --- */

static void enter_cluster(struct flat_conn *c, const struct flat_decision *d)
{
	if (!d->cluster)
		return;
	c->cluster = d->cluster;
	c->host = d->host;
	c->connect_ms = d->cluster->breaker.connect_ms;
	flat_cluster_enter(c->cluster, c->host);
}

/* Whether its time runs, and it counts as one that waits for its server. */
static void set_timed(struct flat_conn *c, bool timed)
{
	if (c->timed == timed)
		return;
	c->timed = timed;
	if (timed)
		TAILQ_INSERT_TAIL(&c->offload->half_open, c, half_link);
	else
		TAILQ_REMOVE(&c->offload->half_open, c, half_link);
	if (c->client)
		c->client->n_half_open += timed ? 1 : -1U;
}

void flat_conn_idle(struct flat_conn *c)
{
	set_timed(c, false);
}

void flat_conn_begin(struct flat_conn *c, const struct flat_decision *d)
{
	struct flat_offload *o = c->offload;
	enter_cluster(c, d);
	c->half_open = true;
	c->since_ms = flat_now_us() / 1000;
	if (c->client) {
		c->client->n_conns++;
		flat_account_add(c->client, FLAT_ACCOUNT_CONN);
	}
	TAILQ_INSERT_TAIL(&o->conns, c, link);
	flat_index_put(&o->conn_ids, &c->by_id, c->id);
	set_timed(c, true);
	o->n_conns++;
}

/* Of a connection that has no such name yet. */
static const char no_text[] = "";

int flat_conn_text(const char **text, const char *value)
{
	char *copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	if (*text != no_text)
		free((void *)*text);
	*text = copy;
	return 0;
}

static void free_texts(struct flat_conn *c)
{
	const char *texts[] = {c->service, c->client_name, c->server_name};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(texts); i++) {
		if (texts[i] != no_text)
			free((void *)texts[i]);
	}
}

/* Who serves it. */
static int lead(struct flat_conn *c, const struct flat_decision *d)
{
	flat_conn_serve(c, d->listener);
	c->target = d->target;
	c->wire = d->wire;
	char name[96];
	if ((d->service && flat_conn_text(&c->service, d->service->host) != 0) ||
	    (d->listener &&
	     flat_conn_text(&c->server_name, flat_session_name(d->listener->session, name)) != 0))
		return -ENOMEM;
	c->series = find_series(c, d->service);
	if ((d->asks[0] | d->asks[1]) && flat_asking_attach(c, d) != 0)
		return -ENOMEM;
	if (!d->origin || !d->service)
		return 0;
	c->origin = flat_origin_new(d->origin, flat_span_of(d->service->host), FLAT_TLS_INSIDE_ANY);
	return c->origin ? 0 : -ENOMEM;
}

struct flat_conn *flat_conn_make(struct flat_offload *o, struct flat_session *s,
				 const struct flat_decision *d)
{
	struct flat_conn *c = calloc(1, sizeof(*c));
	char name[96];
	if (!c)
		return NULL;
	c->offload = o;
	c->id = ++o->next_id;
	c->client = s;
	c->path = d->path;
	c->to = d->to;
	c->end[0].anchor.fd = c->end[1].anchor.fd = -1;
	c->client_near = c->server_near = -1;
	c->end[0].conn = c->end[1].conn = c;
	c->service = c->client_name = c->server_name = no_text;
	if (flat_conn_text(&c->client_name, s ? flat_session_name(s, name) : "plain client") != 0 ||
	    lead(c, d) != 0) {
		flat_conn_serve(c, NULL);
		flat_asking_free(c->asking);
		free_texts(c);
		free(c);
		return NULL;
	}
	return c;
}

int flat_conn_lead(struct flat_conn *c, const struct flat_decision *d)
{
	int err = lead(c, d);
	if (err == 0)
		enter_cluster(c, d);
	c->since_ms = flat_now_us() / 1000;
	set_timed(c, true);
	return err;
}

struct flat_conn *flat_conn_new(struct flat_offload *o, struct flat_session *s,
				const struct flat_decision *d)
{
	struct flat_conn *c = flat_conn_make(o, s, d);
	if (c)
		flat_conn_begin(c, d);
	return c;
}

/* No longer half open, one way or the other. */
static void settle(struct flat_conn *c)
{
	if (!c->half_open)
		return;
	c->half_open = false;
	set_timed(c, false);
	if (c->pending) {
		TAILQ_REMOVE(&c->listener->pending, c, pending_link);
		c->listener->n_pending--;
		c->pending = false;
	}
	/* A ticket's client is watched all its life. */
	for (int i = 0; i < 2 && !c->ticket; i++)
		flat_loop_del(&c->offload->loop, &c->end[i].anchor);
}

static void pipe_free(struct flat_offload *o, struct flat_pipe *p)
{
	/* Only when flatd ends may one be unfinished: then its worker is no more. */
	for (int i = 0; p && i < 2; i++) {
		if (p->local)
			flat_loop_del(&o->loop, &p->end[i].source);
	}
	flat_pipe_free(p);
}

static bool told_reset(const struct flat_conn *c)
{
	return c->pipe && (c->pipe->end[0].hard || c->pipe->end[1].hard);
}

void flat_conn_destroy(struct flat_conn *c)
{
	struct flat_offload *o = c->offload;
	if (c->way)
		flat_captures_in_hung_up(c);
	if (c->half_open)
		settle(c);
	else if (!c->shelved) {
		count_closed(c);
		flat_observe_conn(c);
	}
	/* Shut by us, not let go by the application: it may still write there. */
	bool taint = c->cut || (c->pipe && (c->pipe->end[0].broken || c->pipe->end[1].broken)) ||
		     flat_l7_broken(c);
	if (c->bridge)
		flat_bridge_gone(c->bridge, c->cut || told_reset(c));
	flat_l7_gone(c);
	pipe_free(o, c->pipe);
	if (c->remind)
		TAILQ_REMOVE(&o->reminders, c, half_link);
	flat_conn_serve(c, NULL);
	flat_index_remove(&o->conn_ids, &c->by_id);
	for (int i = 0; i < 2; i++) {
		struct flat_source *anchor = &c->end[i].anchor;
		flat_index_remove(&o->anchors, &c->end[i].by_inode);
		/* Nobody is at the other ends. */
		if (c->end[0].gone && c->end[1].gone)
			flat_loop_close_late(&o->loop, anchor);
		else
			flat_loop_close(&o->loop, anchor);
		if (c->end[i].tube)
			flat_tube_close(c->end[i].tube, FLAT_TUBE_NEAR, false);
	}
	struct flat_lane_link *a = c->end[0].lane;
	struct flat_lane_link *b = c->end[1].lane;
	if (a)
		flat_slot_give(o, a, c->end[0].slot, taint);
	if (b && (b != a || c->end[1].slot != c->end[0].slot))
		flat_slot_give(o, b, c->end[1].slot, taint);
	if (c->client_near >= 0)
		close(c->client_near);
	if (c->server_near >= 0)
		close(c->server_near);
	if (!c->shelved) {
		TAILQ_REMOVE(&o->conns, c, link);
		o->n_conns--;
	}
	if (c->client && !c->shelved) {
		c->client->n_conns--;
		flat_account_remove(c->client, FLAT_ACCOUNT_CONN);
		flat_session_put(c->client);
	}
	flat_gate_free(c->gate);
	flat_origin_free(c->origin);
	flat_sniff_free(c->sniff);
	flat_asking_free(c->asking);
	if (c->cluster)
		flat_cluster_leave(c->cluster, c->host);
	free(c->principal);
	free(c->speaker);
	free(c->measures);
	free_texts(c);
	free(c);
}

static void on_direct(struct flat_source *source, int events);

/* Once: what comes most is a hang-up, and nothing after it. */
int flat_conn_watch(struct flat_end *e)
{
	return flat_loop_poll_once(&e->conn->offload->loop, &e->anchor, e->anchor.fd,
				   POLLIN | POLLRDHUP, on_direct);
}

/* The other side shall know: now, or if it is there still when an honest close() must long have told it. */
static void tell_other(struct flat_conn *c, int gone)
{
	struct flat_end *e = &c->end[gone];
	if (!flat_vq_ended(&e->lane->lane, e->slot, (enum flat_side)gone)) {
		flat_vq_complete(&e->lane->lane, e->slot, (enum flat_side)gone,
				 c->end[gone ^ 1].anchor.fd);
		return;
	}
	c->remind = true;
	c->since_ms = flat_now_us() / 1000;
	TAILQ_INSERT_TAIL(&c->offload->reminders, c, half_link);
}

void flat_conns_remind(struct flat_offload *o, int64_t now_ms)
{
	struct flat_conn *c;
	while ((c = TAILQ_FIRST(&o->reminders)) != NULL && now_ms - c->since_ms > FLAT_REMIND_MS) {
		TAILQ_REMOVE(&o->reminders, c, half_link);
		c->remind = false;
		int gone = c->end[1].gone;
		struct flat_end *e = &c->end[gone];
		flat_vq_complete(&e->lane->lane, e->slot, (enum flat_side)gone,
				 c->end[gone ^ 1].anchor.fd);
	}
}

/* Events at an open direct connection. */
static void on_direct(struct flat_source *source, int events)
{
	struct flat_end *e = FLAT_CONTAINER_OF(source, struct flat_end, anchor);
	struct flat_conn *c = e->conn;
	int i = e == &c->end[1];
	if (events & (POLLHUP | POLLRDHUP | POLLERR)) {
		e->gone = true;
		if (c->shelved)
			flat_ticket_let_go(c);
		else if (c->half_open && c->told)
			/* A ticket's, used: its server gets what it sent, and is told of the end when it has it. */
			return;
		else if (c->half_open || c->end[i ^ 1].gone)
			flat_conn_destroy(c);
		else
			tell_other(c, i);
		return;
	}
	char byte;
	if (c->shelved) {
		/* Its client may hold it for long: nobody else gets the slot. */
		c->cut = true;
		flat_ticket_drop(c);
		return;
	}
	int err = flat_conn_watch(e);
	/* Only a writer that no hook sees puts bytes here: they have no place in the stream. */
	if (err == 0 && flat_sys_recv(e->anchor.fd, &byte, 1, MSG_DONTWAIT) > 0)
		flat_conn_cut(c, ECONNRESET, "bytes came by a system call outside the library");
	else if (err != 0)
		flat_conn_cut(c, ENOMEM, "flatd is out of memory");
}

/* --- half open --- */

static void on_half_open(struct flat_source *source, int events)
{
	struct flat_end *e = FLAT_CONTAINER_OF(source, struct flat_end, anchor);
	struct flat_conn *c = e->conn;
	if (!(events & (POLLHUP | POLLERR)))
		return;
	/* To its client it was open: what it sent before it went is its server's. */
	if (c->told && e->lane)
		flat_loop_del(&c->offload->loop, source);
	else
		flat_conn_destroy(c);
}

bool flat_conn_carries_urgent(const struct flat_conn *c, enum flat_side from)
{
	const struct flat_end *to = &c->end[from ^ 1];
	if (!c->pipe || c->sniff || !c->end[from].lane)
		return false;
	/* A socket of the kernel's, without TLS over it. */
	return to->lane || (to->is_tcp && !to->tube && !c->origin && !c->gate);
}

/* Both for a client that has its end: it waits for a server, or the connection is open. */
static void reply_opened(struct flat_conn *c)
{
	struct flat_msg reply;
	struct flat_end *e = &c->end[FLAT_SIDE_CLIENT];
	int fds[3];
	size_t n = 0;
	c->reply_due = false;
	flat_msg_init(&reply, FLAT_MSG_CONNECT, c->reply_seq);
	struct flat_msg_conn *m = &reply.body.conn;
	m->conn_id = c->id;
	m->path = (uint32_t)c->path;
	m->local = c->from;
	m->peer = c->to;
	snprintf(m->service, sizeof(m->service), "%.*s", (int)sizeof(m->service) - 1, c->service);
	m->lane_id = e->lane->id;
	m->geo = e->lane->lane.geo;
	m->slot = e->slot;
	m->side = FLAT_SIDE_CLIENT;
	m->flags = (c->half_open && !c->sniff ? FLAT_CONN_CONNECTING : 0) |
		   (flat_conn_carries_urgent(c, FLAT_SIDE_CLIENT) ? FLAT_CONN_URGENT : 0);
	fds[n++] = c->client_near;
	reply.fds = FLAT_FD_ANCHOR;
	if (c->path == FLAT_CONN_DIRECT) {
		fds[n++] = c->end[FLAT_SIDE_SERVER].anchor.fd;
		reply.fds |= FLAT_FD_BELL;
	}
	/* Of two threads that connect, the second may have its answer before the first has mapped. */
	if (!flat_lane_client_maps(e->lane)) {
		fds[n++] = e->lane->fd;
		reply.fds |= FLAT_FD_LANE;
	}
	flat_session_reply(c->client, &reply, fds, n);
	flat_loop_close_fd(&c->offload->loop, c->client_near);
	c->client_near = -1;
}

void flat_conn_tell(struct flat_conn *c)
{
	c->told = true;
	if (c->reply_due)
		reply_opened(c);
	if (c->bridge && c->end[FLAT_SIDE_CLIENT].tube)
		flat_bridge_opened(c->bridge);
}

void flat_conn_wait(struct flat_conn *c)
{
	struct flat_end *e = &c->end[FLAT_SIDE_CLIENT];
	if (c->early && c->reply_due) {
		reply_opened(c);
		c->connecting = true;
	}
	/* A client that waits for its answer goes away with its session; others hang up. */
	if (((e->is_tcp && !e->tube) || c->connecting || c->told) &&
	    flat_loop_poll(&c->offload->loop, &e->anchor, e->anchor.fd, POLLHUP, on_half_open) != 0)
		flat_conn_destroy(c);
}

static void remember_cut(struct flat_conn *c, int err, const char *reason)
{
	struct flat_cut *cut = &c->offload->cuts[c->offload->n_cuts++ % FLAT_CUTS_KEPT];
	cut->conn_id = c->id;
	cut->err = err;
	snprintf(cut->reason, sizeof(cut->reason), "%s", reason);
}

static void reply_failed(struct flat_conn *c, int err, const char *reason)
{
	struct flat_msg reply;
	flat_msg_init(&reply, FLAT_MSG_CONNECT, c->reply_seq);
	reply.status = -err;
	reply.body.conn.path = (uint32_t)c->path;
	reply.body.conn.peer = c->to;
	snprintf(reply.reason, sizeof(reply.reason), "%.*s", (int)sizeof(reply.reason) - 1, reason);
	c->reply_due = false;
	flat_session_reply(c->client, &reply, NULL, 0);
}

/* How the way to its server was, for those who balance. */
static void note(struct flat_conn *c, enum flat_outcome outcome)
{
	if (c->cluster)
		flat_outlier_note(c->cluster, c->host, outcome, 0, flat_now_us());
}

void flat_conn_fail(struct flat_conn *c, int err, enum flat_refusal_kind kind, const char *reason)
{
	struct flat_end *client = &c->end[FLAT_SIDE_CLIENT];
	flat_refuse(c->offload, c->client, c->client_name, &c->to, kind, reason);
	if (kind == FLAT_REFUSED_UNREACHABLE)
		note(c, err == ETIMEDOUT ? FLAT_OUTCOME_TIMEOUT : FLAT_OUTCOME_FAILED);
	if (client->is_tcp && !client->tube) {
		flat_sys_reset_at_close(client->anchor.fd);
	}
	if (c->reply_due && c->client && !c->client->closed)
		reply_failed(c, err, reason);
	if (c->connecting) {
		remember_cut(c, err, reason);
		flat_lane_slot_cut(&client->lane->lane, client->slot);
		flat_vq_phase(&client->lane->lane, client->slot, FLAT_PHASE_FAILED(err),
			      client->anchor.fd);
		/* The client may hold its end for long: nobody else gets the slot. */
		c->cut = true;
	} else if (c->told && client->tube) {
		c->cut = true;
	} else if (c->told && client->lane) {
		remember_cut(c, err, reason);
		flat_lane_slot_cut(&client->lane->lane, client->slot);
		flat_sys_shutdown(client->anchor.fd, SHUT_RDWR);
		flat_directory_revoked(c->offload->directory);
		c->cut = true;
	}
	if (c->bridge)
		flat_bridge_failed(c->bridge, err, reason);
	flat_conn_destroy(c);
}

void flat_conns_expire(struct flat_offload *o)
{
	struct flat_conn *c;
	struct flat_conn *next;
	int64_t now_ms = flat_now_us() / 1000;
	for (c = TAILQ_FIRST(&o->half_open); c; c = next) {
		int64_t most = c->connecting || c->told ? FLAT_CONNECTING_MS : FLAT_HALF_OPEN_MS;
		next = TAILQ_NEXT(c, half_link);
		/* Their authorizers have times of their own. */
		if (flat_asking_waits(c->asking))
			continue;
		if (flat_sniff_waits(c->sniff)) {
			if (now_ms - c->since_ms > FLAT_HELLO_MS)
				flat_conn_fail(
				    c, ETIMEDOUT, FLAT_REFUSED_LIMIT,
				    "the client has not said in time which server it wants");
			continue;
		}
		if (c->connect_ms && c->connect_ms < most)
			most = c->connect_ms;
		if (now_ms - c->since_ms > most)
			flat_conn_fail(c, ETIMEDOUT, FLAT_REFUSED_UNREACHABLE,
				       c->pending ? "the server did not accept in time"
						  : "the server did not answer in time");
	}
}

/* --- open --- */

static void start_pipe(struct flat_conn *c)
{
	struct flat_pipe *p = c->pipe;
	for (int i = 0; i < 2; i++) {
		const struct flat_end *e = &c->end[i];
		/* Read from already. */
		if (p->end[i].pipe)
			continue;
		if (e->tube)
			flat_pipe_tube(p, i, e->tube);
		else if (e->is_tcp)
			flat_pipe_tcp(p, i, e->anchor.fd,
				      i == FLAT_SIDE_SERVER ? flat_origin_tls(c->origin) : NULL);
		else
			flat_pipe_lane(p, i, &e->lane->lane, e->slot, e->anchor.fd);
	}
	for (int i = 0; i < 2; i++) {
		if (c->end[i].lane)
			flat_pipe_rest(
			    p, i, flat_lane_rest(c->offload, c->end[i].lane, p->end[i].vq.mine));
	}
	const struct flat_session *s = c->client;
	p->conn = c;
	p->conn_id = c->id;
	p->share_key = s ? s->id : 0;
	p->weight = s && s->workload && s->workload->limit_weight ? s->workload->limit_weight : 1;
	flat_worker_start(&c->offload->workers, p);
}

static int start(struct flat_conn *c)
{
	int err = 0;
	if (c->l7 || c->l7_upstream)
		return flat_l7_start(c);
	if (c->pipe) {
		start_pipe(c);
		return 0;
	}
	for (int i = 0; i < 2 && err == 0; i++) {
		if (c->end[i].anchor.index == 0)
			err = flat_conn_watch(&c->end[i]);
	}
	return err;
}

void flat_conn_open(struct flat_conn *c)
{
	settle(c);
	note(c, FLAT_OUTCOME_OPENED);
	c->offload->stats.opened[c->path] += !c->l7_upstream;
	if (c->series) {
		c->series->opened++;
		flat_measure_opened(c);
	}
	/* The answer first: the client runs while we do the rest. */
	if (c->reply_due)
		reply_opened(c);
	else if (c->connecting)
		flat_vq_phase(&c->end[0].lane->lane, c->end[0].slot, FLAT_PHASE_OPEN,
			      c->end[0].anchor.fd);
	if (c->bridge && !(c->told && c->end[FLAT_SIDE_CLIENT].tube))
		flat_bridge_opened(c->bridge);
	if (start(c) != 0)
		flat_conn_cut(c, ENOMEM, "flatd is out of memory");
}

/* --- cut --- */

const struct flat_cut *flat_cut_find(const struct flat_offload *o, uint64_t conn_id)
{
	for (uint32_t i = 0; i < FLAT_CUTS_KEPT && i < o->n_cuts; i++) {
		if (o->cuts[i].conn_id == conn_id)
			return &o->cuts[i];
	}
	return NULL;
}

static bool unwatched(const struct flat_end *e)
{
	return !e->gone && e->anchor.index == 0;
}

/* A FIN would say that this was all: the peer is told that it was not. */
static void reset_tcp(int fd)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	if (flat_sys_connect(fd, &nobody, sizeof(nobody)) != 0)
		flat_sys_reset_at_close(fd);
}

void flat_conn_cut(struct flat_conn *c, int err, const char *reason)
{
	char text[FLAT_ADDR_STRLEN];
	char account[96];
	if (c->cut)
		return;
	if (c->half_open) {
		flat_conn_fail(c, err, FLAT_REFUSED_POLICY, reason);
		return;
	}
	c->cut = true;
	remember_cut(c, err, reason);
	flat_tell(FLAT_LOG_WARN, "cuts",
		  c->client ? flat_session_account(c->client, account) : c->client_name,
		  "cut %s -> %s (%s): %s", c->client_name, c->server_name,
		  flat_addr_str(&c->to, text), reason);
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		if (e->lane)
			flat_lane_slot_cut(&e->lane->lane, e->slot);
		if (e->tube)
			flat_tube_cut(e->tube);
		else if (e->is_tcp)
			reset_tcp(e->anchor.fd);
		/* Wakes every sleeper, theirs and ours: what follows is done at the hang-up. */
		if (e->anchor.fd >= 0)
			flat_sys_shutdown(e->anchor.fd, SHUT_RDWR);
	}
	flat_directory_revoked(c->offload->directory);
	/* Nobody watches one that could not be started. */
	if (!c->pipe && !c->l7 && !c->l7_upstream &&
	    (unwatched(&c->end[0]) || unwatched(&c->end[1])))
		flat_conn_destroy(c);
}
