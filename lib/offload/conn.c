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
#include "offload/offload.h"

#define EPHEMERAL_FIRST 32768

struct flat_conn *flat_conn_find(struct flat_offload *o, uint64_t id)
{
	struct flat_conn *c;
	TAILQ_FOREACH(c, &o->conns, link)
	{
		if (c->id == id)
			return c;
	}
	return NULL;
}

uint64_t flat_inode(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* --- end of a connection --- */

static void count_bytes(struct flat_conn *c);

void flat_conn_destroy(struct flat_conn *c)
{
	struct flat_offload *o = c->offload;
	count_bytes(c);
	if (c->hot)
		TAILQ_REMOVE(&o->hot, c, hot_link);
	if (c->pending && c->listener) {
		TAILQ_REMOVE(&c->listener->pending, c, pending_link);
		c->listener->n_pending--;
	}
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		flat_loop_del(&o->loop, &e->anchor);
		if (e->anchor.fd >= 0)
			close(e->anchor.fd);
		free(e->buf);
	}
	struct flat_lane_link *a = c->end[0].lane;
	struct flat_lane_link *b = c->end[1].lane;
	if (a)
		flat_slot_give(o, a, c->end[0].slot);
	if (b && (b != a || c->end[1].slot != c->end[0].slot))
		flat_slot_give(o, b, c->end[1].slot);
	if (c->client_near >= 0)
		close(c->client_near);
	if (c->client)
		c->client->n_conns--;
	TAILQ_REMOVE(&o->conns, c, link);
	o->stats.closed++;
	free(c);
}

/* Every holder of an application's end is gone: its words become ours, and are completed. */
static void complete_end(struct flat_conn *c, int i)
{
	struct flat_end *e = &c->end[i];
	struct flat_end *other = &c->end[i ^ 1];
	struct flat_vq vq;
	bool direct = c->path == FLAT_CONN_DIRECT;
	/* In a forwarded lane we are our own neighbour: nobody needs a bell. */
	int bell = direct ? other->anchor.fd : -1;
	e->gone = true;
	flat_vq_init(&vq, &flat_vq_shm, &e->lane->lane, e->slot, (enum flat_side)i, -1, bell);
	struct flat_ring_ctl *in = vq.rx.ctl;
	struct flat_ring_ctl *out = vq.tx.ctl;
	uint32_t unread = atomic_load_explicit(&in->prod.tail, memory_order_acquire) -
			  atomic_load_explicit(&in->cons.head, memory_order_acquire);
	if (!(atomic_load_explicit(&out->prod.flags, memory_order_acquire) &
	      (FLAT_PROD_FIN | FLAT_PROD_RST)))
		flat_vq_end_tx(&vq, unread ? FLAT_PROD_RST : FLAT_PROD_FIN);
	flat_vq_end_rx(&vq, FLAT_CONS_CLOSED);
	/* Its sleepers may have armed nothing yet: one bell always. */
	if (bell >= 0)
		(void)flat_sys_send(bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void flat_conn_event(struct flat_source *source, int events)
{
	struct flat_end *e = FLAT_CONTAINER_OF(source, struct flat_end, anchor);
	struct flat_conn *c = e->conn;
	int i = e == &c->end[1];
	if (!e->is_tcp && (events & (POLLHUP | POLLRDHUP | POLLERR)) && !e->gone)
		complete_end(c, i);
	if (c->path == FLAT_CONN_FORWARDED) {
		flat_forward_heat(c);
		return;
	}
	if (c->end[0].gone && c->end[1].gone) {
		flat_conn_destroy(c);
		return;
	}
	if ((events & POLLIN) && !e->gone) {
		char byte;
		/* Only a writer that no hook sees puts bytes here: they have no place in the stream. */
		if (flat_sys_recv(e->anchor.fd, &byte, 1, MSG_DONTWAIT) > 0)
			flat_conn_cut(c, ECONNRESET,
				      "bytes came by a system call outside the library");
	}
}

void flat_conn_cut(struct flat_conn *c, int err, const char *reason)
{
	char text[FLAT_ADDR_STRLEN];
	if (c->cut_errno)
		return;
	c->cut_errno = err;
	snprintf(c->cut_reason, sizeof(c->cut_reason), "%s", reason);
	flat_warn("cut %s -> %s (%s): %s", c->client_name, c->server_name,
		  flat_addr_str(&c->to, text), reason);
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		if (e->lane) {
			struct flat_slot *slot = flat_lane_slot(&e->lane->lane, e->slot);
			for (int d = 0; d < 2; d++)
				atomic_fetch_or_explicit(&slot->ring[d].prod.flags,
							 FLAT_PROD_RST | FLAT_PROD_ERROR,
							 memory_order_release);
		}
		if (e->anchor.fd >= 0)
			flat_sys_shutdown(e->anchor.fd, SHUT_RDWR);
	}
	flat_directory_revoked(c->offload->directory);
	if (c->reply_due)
		flat_conn_answer(c);
	if (c->end[1].anchor.fd < 0)
		c->end[1].gone = true;
}

/* --- begin of a connection --- */

static int watch(struct flat_conn *c, int i)
{
	struct flat_end *e = &c->end[i];
	uint32_t events = POLLIN | POLLRDHUP | (e->is_tcp ? POLLOUT : 0);
	e->conn = c;
	return flat_loop_poll(&c->offload->loop, &e->anchor, e->anchor.fd, events, flat_conn_event);
}

static void count(struct flat_conn *c)
{
	struct flat_offload *o = c->offload;
	char text[FLAT_ADDR_STRLEN];
	const char *name = c->service[0] ? c->service : flat_addr_str(&c->to, text);
	uint32_t i = 0;
	while (i < o->n_totals &&
	       (o->totals[i].path != c->path || strcmp(o->totals[i].name, name) != 0))
		i++;
	if (i == FLAT_TOTALS_MAX)
		i--;
	else if (i == o->n_totals) {
		o->n_totals++;
		o->totals[i].path = c->path;
		snprintf(o->totals[i].name, sizeof(o->totals[i].name), "%s", name);
	}
	c->total = &o->totals[i];
	c->total->opened++;
}

/* Bytes that the ends of a connection sent, into its service's totals. */
static void count_bytes(struct flat_conn *c)
{
	for (int i = 0; i < 2 && c->total; i++) {
		const struct flat_end *e = &c->end[i];
		if (c->path == FLAT_CONN_DIRECT && e->lane)
			c->total->bytes[i] += atomic_load_explicit(
			    &flat_lane_slot(&e->lane->lane, e->slot)->ring[i].prod.tail,
			    memory_order_relaxed);
		else
			c->total->bytes[i] += e->bytes;
	}
}

static struct flat_conn *conn_new(struct flat_offload *o, struct flat_session *s,
				  const struct flat_decision *d)
{
	struct flat_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->offload = o;
	c->id = ++o->next_id;
	c->client = s;
	c->listener = d->listener;
	c->path = d->path;
	c->target = d->target;
	c->end[0].anchor.fd = c->end[1].anchor.fd = c->client_near = -1;
	c->end[0].conn = c->end[1].conn = c;
	if (d->service)
		snprintf(c->service, sizeof(c->service), "%s", d->service->host);
	if (s) {
		flat_session_name(s, c->client_name);
		s->n_conns++;
	} else {
		snprintf(c->client_name, sizeof(c->client_name), "plain client");
	}
	if (d->listener && d->listener->session)
		flat_session_name(d->listener->session, c->server_name);
	o->stats.opened[c->path]++;
	TAILQ_INSERT_TAIL(&o->conns, c, link);
	return c;
}

void flat_conn_answer(struct flat_conn *c)
{
	struct flat_msg reply;
	struct flat_end *e = &c->end[FLAT_SIDE_CLIENT];
	int fds[3];
	size_t n = 0;
	if (c->path == FLAT_CONN_FORWARDED)
		c->end[1].vq.anchor_fd = c->end[1].vq.bell_fd = c->end[1].anchor.fd;
	if (!c->pending && c->end[1].anchor.fd >= 0 && c->end[1].anchor.index == 0 &&
	    watch(c, 1) != 0)
		flat_conn_cut(c, ENOMEM, "flatd is out of memory");
	if (!c->reply_due)
		return;
	c->reply_due = false;
	flat_msg_init(&reply, FLAT_MSG_CONNECT, c->reply_seq);
	struct flat_msg_conn *m = &reply.body.conn;
	m->conn_id = c->id;
	m->path = (uint32_t)c->path;
	m->local = c->from;
	m->peer = c->to;
	snprintf(m->service, sizeof(m->service), "%s", c->service);
	if (c->cut_errno) {
		reply.status = -c->cut_errno;
		snprintf(reply.reason, sizeof(reply.reason), "%.*s", (int)sizeof(reply.reason) - 1,
			 c->cut_reason);
	} else {
		m->lane_id = e->lane->id;
		m->geo = e->lane->lane.geo;
		m->slot = e->slot;
		m->side = FLAT_SIDE_CLIENT;
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
	}
	if (c->client)
		flat_session_reply(c->client, &reply, fds, n);
	if (c->client_near >= 0)
		close(c->client_near);
	c->client_near = -1;
	if (watch(c, 0) != 0)
		flat_conn_cut(c, ENOMEM, "flatd is out of memory");
}

static void name_client(struct flat_conn *c, const struct flat_addr *bound)
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

static int bind_memory(struct flat_conn *c, struct flat_session *s, struct flat_listener *l)
{
	struct flat_offload *o = c->offload;
	struct flat_lane_link *lane;
	int err = 0;
	if (c->path == FLAT_CONN_DIRECT) {
		err = flat_lane_get(o, s, l, &lane);
		if (err != 0)
			return err;
		flat_slot_take(&c->end[0], lane);
		c->end[1].lane = lane;
		c->end[1].slot = c->end[0].slot;
		return 0;
	}
	if (s) {
		err = flat_lane_get(o, s, NULL, &lane);
		if (err == 0)
			flat_slot_take(&c->end[0], lane);
	}
	if (err == 0)
		err = flat_lane_get(o, NULL, l, &lane);
	if (err == 0) {
		flat_slot_take(&c->end[1], lane);
		err = flat_forward_init(c);
	}
	return err;
}

static void reply_refused(struct flat_session *s, const struct flat_msg *msg,
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

void flat_conn_request(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_offload *o = s->offload;
	const struct flat_msg_connect *m = &msg->body.connect;
	struct flat_decision d;
	char name[96];
	flat_admit(o, s, &m->from, &m->to, NULL, &d);
	if (d.status == 0 && d.path != FLAT_CONN_KERNEL &&
	    s->n_conns >= (s->workload && s->workload->limit_connections
			       ? s->workload->limit_connections
			       : FLAT_SESSION_CONNS_MAX)) {
		d.status = -EAGAIN;
		snprintf(d.reason, sizeof(d.reason),
			 "the process has reached its connection limit");
	}
	if (d.status != 0)
		flat_refuse(o, s->pid, flat_session_name(s, name), &m->to, d.reason);
	if (d.status != 0 || d.path == FLAT_CONN_KERNEL) {
		if (d.status == 0)
			o->stats.opened[FLAT_CONN_KERNEL]++;
		reply_refused(s, msg, &d);
		return;
	}
	struct flat_conn *c = conn_new(o, s, &d);
	int pair[2];
	if (!c) {
		d.status = -ENOMEM;
		reply_refused(s, msg, &d);
		return;
	}
	c->to = m->to;
	count(c);
	c->reply_seq = msg->seq;
	name_client(c, &m->from);
	d.status = flat_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	if (d.status == 0) {
		c->client_near = pair[0];
		c->end[0].inode = flat_inode(pair[0]);
		c->end[0].anchor.fd = pair[1];
		d.status = bind_memory(c, s, d.listener);
	}
	if (d.status == 0) {
		c->reply_due = true;
		d.status = flat_listener_offer(d.listener, c);
	}
	if (d.status != 0) {
		snprintf(d.reason, sizeof(d.reason), "flatd could not bind memory: %s",
			 strerror(-d.status));
		flat_conn_destroy(c);
		reply_refused(s, msg, &d);
		return;
	}
	if (!c->pending)
		flat_conn_answer(c);
	if (c->path == FLAT_CONN_FORWARDED)
		flat_forward_heat(c);
}

void flat_conn_plain(struct flat_listener *l, int fd)
{
	struct flat_offload *o = l->offload;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct flat_addr from = {0};
	struct flat_addr to = l->addr;
	struct flat_decision d;
	if (FLAT_SYS3(SYS_getpeername, fd, &ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&from, (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&to, (struct sockaddr *)&ss, len);
	flat_admit(o, NULL, &from, &to, l, &d);
	if (d.status != 0) {
		struct linger hard = {.l_onoff = 1};
		flat_refuse(o, 0, "plain client", &to, d.reason);
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(fd);
		return;
	}
	d.path = FLAT_CONN_FORWARDED;
	struct flat_conn *c = conn_new(o, NULL, &d);
	if (!c) {
		close(fd);
		return;
	}
	int one = 1;
	(void)flat_sys_setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
	c->from = from;
	c->to = c->target = to;
	count(c);
	c->end[0].is_tcp = true;
	c->end[0].anchor.fd = fd;
	int err = bind_memory(c, NULL, l);
	if (err == 0)
		err = watch(c, 0);
	if (err == 0)
		err = flat_listener_offer(l, c);
	if (err != 0) {
		flat_conn_destroy(c);
		return;
	}
	if (!c->pending)
		flat_conn_answer(c);
	flat_forward_heat(c);
}
