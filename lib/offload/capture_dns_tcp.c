/* DNS over TCP (RFC 7766): messages behind their lengths. Each is decided as a datagram is; those that go on share one connection. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys.h"
#include "codec/dns.h"
#include "offload/admit.h"
#include "offload/capture_dns.h"

#define LENGTH 2
#define CLIENT 0
#define SERVER 1
/* Messages of one connection in one turn (rule 11). */
#define QUANTUM 32

/* One end, and the message that comes from there: read whole, then written whole. */
struct way {
	struct flat_source source; /* fd -1: not there yet */
	struct flat_dns_stream *stream;
	size_t have;
	size_t sent;
	int to;	    /* where the message goes */
	bool whole; /* it is all there */
	bool ended; /* no more will come */
	uint8_t buf[LENGTH + UINT16_MAX];
};

struct flat_dns_stream {
	TAILQ_ENTRY(flat_dns_stream) link;
	struct flat_dns_client *client;
	struct flat_session *session;
	struct flat_question q;
	struct sockaddr_storage server; /* while it is connected to */
	struct way way[2];
	bool connecting;
	bool shut;	  /* the server was told that no more comes */
	int64_t moved_ms; /* when something moved last */
};

static struct flat_loop *loop_of(const struct flat_dns_stream *s)
{
	return &flat_dns_offload(s->client->dns)->loop;
}

void flat_dns_stream_close(struct flat_dns_stream *s)
{
	struct flat_dns_client *client = s->client;
	for (int i = 0; i < 2; i++)
		flat_loop_close(loop_of(s), &s->way[i].source);
	TAILQ_REMOVE(&client->streams, s, link);
	client->n_streams--;
	s->session->n_conns--;
	flat_session_put(s->session);
	free(s);
}

/* Its client sees a reset, as of any connection that is refused. */
static void reset(struct flat_dns_stream *s)
{
	flat_sys_reset_at_close(s->way[CLIENT].source.fd);
	flat_dns_stream_close(s);
}

/* --- what a message comes to --- */

static void on_connected(struct flat_source *source, int err);

static int go_on(struct flat_dns_stream *s)
{
	struct way *server = &s->way[SERVER];
	if (server->source.fd >= 0)
		return 0;
	socklen_t len = flat_addr_to_sockaddr(&s->q.to, &s->server);
	int fd = flat_sys_socket(s->q.to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->source.fd = fd < 0 ? -1 : fd;
	if (fd < 0)
		return fd;
	s->connecting = true;
	return flat_loop_connect(loop_of(s), &server->source, fd,
				 (const struct sockaddr *)&s->server, len, on_connected);
}

/* Whether policies let the client have this server; if not, that is logged. */
static bool may(struct flat_dns_stream *s)
{
	struct flat_offload *o = flat_dns_offload(s->client->dns);
	struct flat_decision d;
	char name[96];
	flat_admit(o, &s->q, &d);
	if (d.status == 0 && (d.asks[0] | d.asks[1])) {
		d.status = -EACCES;
		d.kind = FLAT_REFUSED_POLICY;
		snprintf(d.reason, sizeof(d.reason),
			 "external authorizers are not asked about DNS over TCP");
	}
	if (d.status != 0)
		flat_refuse(o, s->session, flat_session_name(s->session, name), &s->q.to, d.kind,
			    d.reason);
	return d.status == 0;
}

static void answer(struct way *way, const struct flat_dns_query *q, enum flat_dns_rcode rcode,
		   const struct flat_addr *addr)
{
	uint8_t out[FLAT_DNS_ANSWER_MAX];
	if (q->edns_version != 0 && rcode == FLAT_DNS_NOERROR)
		rcode = FLAT_DNS_BADVERS;
	size_t n =
	    flat_dns_write(out, sizeof(out), way->buf + LENGTH, q, rcode, addr ? addr->ip : NULL,
			   addr && addr->family == AF_INET6 ? 16 : 4);
	way->buf[0] = (uint8_t)(n >> 8);
	way->buf[1] = (uint8_t)n;
	memcpy(way->buf + LENGTH, out, n);
	way->have = LENGTH + n;
	way->to = CLIENT;
}

static int find(struct flat_dns_stream *s, const struct flat_dns_query *q, struct flat_addr *addr)
{
	int err = flat_dns_find(s->client->dns, q, addr);
	return err == FLAT_DIRECTORY_VEILED ? flat_session_resolve(s->session, q->name, addr) : err;
}

/* The client's message is there. 0, or a negative errno: there is nothing to be said to it. */
static int decide(struct flat_dns_stream *s)
{
	struct way *way = &s->way[CLIENT];
	struct flat_dns_query q;
	struct flat_addr addr;
	enum flat_dns_kind kind = flat_dns_read(way->buf + LENGTH, way->have - LENGTH, &q);
	if (kind == FLAT_DNS_SILENCE)
		return -EPROTO;
	if (kind == FLAT_DNS_MALFORMED) {
		answer(way, &q, FLAT_DNS_FORMERR, NULL);
		return 0;
	}
	if (kind == FLAT_DNS_QUESTION && find(s, &q, &addr) == 0) {
		answer(way, &q, FLAT_DNS_NOERROR, &addr);
		return 0;
	}
	if (!may(s)) {
		answer(way, &q, FLAT_DNS_REFUSED, NULL);
		return 0;
	}
	way->to = SERVER;
	return go_on(s);
}

/* --- moving --- */

/* A message that is half written to `to` goes before the other one for it. */
static bool may_write(const struct flat_dns_stream *s, int from)
{
	const struct way *other = &s->way[from ^ 1];
	int to = s->way[from].to;
	return !(to == SERVER && s->connecting) &&
	       !(other->whole && other->to == to && other->sent > 0);
}

static size_t wanted(const struct way *way)
{
	return way->have < LENGTH ? LENGTH : LENGTH + ((size_t)way->buf[0] << 8 | way->buf[1]);
}

/* Reads on. Whether something came; a negative errno: it is over. */
static int take(struct flat_dns_stream *s, int from)
{
	struct way *way = &s->way[from];
	ssize_t n = flat_sys_recv(way->source.fd, way->buf + way->have, wanted(way) - way->have,
				  MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n < 0)
		return (int)n;
	way->ended = n == 0;
	way->have += (size_t)n;
	if (n == 0 || way->have < LENGTH || way->have < wanted(way))
		return n > 0;
	way->whole = true;
	way->sent = 0;
	way->to = CLIENT;
	int err = from == CLIENT ? decide(s) : 0;
	return err != 0 ? err : 1;
}

/* Writes on. Likewise. */
static int give(struct flat_dns_stream *s, int from)
{
	struct way *way = &s->way[from];
	if (!may_write(s, from))
		return 0;
	ssize_t n = flat_sys_send(s->way[way->to].source.fd, way->buf + way->sent,
				  way->have - way->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n < 0)
		return (int)n;
	way->sent += (size_t)n;
	if (way->sent == way->have) {
		way->whole = false;
		way->have = 0;
		way->sent = 0;
	}
	return 1;
}

static bool reads(const struct flat_dns_stream *s, int i)
{
	const struct way *way = &s->way[i];
	return way->source.fd >= 0 && !way->whole && !way->ended && !(i == SERVER && s->connecting);
}

static bool writes(const struct flat_dns_stream *s, int to)
{
	for (int i = 0; i < 2; i++) {
		if (s->way[i].whole && s->way[i].to == to && may_write(s, i))
			return true;
	}
	return false;
}

static void on_ready(struct flat_source *source, int events);

/* Watches both ends for what is wanted of them. 0 or -ENOMEM. */
static int watch(struct flat_dns_stream *s)
{
	int err = 0;
	for (int i = 0; i < 2; i++) {
		struct flat_source *source = &s->way[i].source;
		uint32_t events = (reads(s, i) ? POLLIN : 0U) | (writes(s, i) ? POLLOUT : 0U);
		if (i == SERVER && s->connecting)
			continue;
		if (source->index != 0 && source->events == events)
			continue;
		flat_loop_del(loop_of(s), source);
		if (events != 0 && err == 0)
			err = flat_loop_poll_once(loop_of(s), source, source->fd, events, on_ready);
	}
	return err;
}

/* Whether nothing can come of it any more. */
static bool is_over(struct flat_dns_stream *s)
{
	struct way *client = &s->way[CLIENT];
	struct way *server = &s->way[SERVER];
	if (server->ended && !server->whole && !client->whole)
		return true;
	if (!client->ended || client->whole)
		return false;
	if (server->source.fd < 0)
		return true;
	if (!s->shut)
		(void)flat_sys_shutdown(server->source.fd, SHUT_WR);
	s->shut = true;
	return false;
}

static void touch(struct flat_dns_stream *s)
{
	s->moved_ms = flat_now_ms();
	TAILQ_REMOVE(&s->client->streams, s, link);
	TAILQ_INSERT_TAIL(&s->client->streams, s, link);
}

/* Does what can be done now. The stream may be gone with it. */
static void step(struct flat_dns_stream *s)
{
	int moved = 1;
	for (int n = 0; n < QUANTUM && moved > 0; n++) {
		moved = 0;
		for (int i = 0; i < 2 && moved >= 0; i++) {
			int one = s->way[i].whole ? give(s, i) : reads(s, i) ? take(s, i) : 0;
			moved = one < 0 ? one : moved + one;
		}
		if (moved > 0)
			touch(s);
	}
	if (moved >= 0 && is_over(s))
		flat_dns_stream_close(s);
	else if (moved < 0 || watch(s) != 0)
		reset(s);
}

static void on_ready(struct flat_source *source, int events)
{
	(void)events;
	step(FLAT_CONTAINER_OF(source, struct way, source)->stream);
}

static void on_connected(struct flat_source *source, int err)
{
	struct flat_dns_stream *s = FLAT_CONTAINER_OF(source, struct way, source)->stream;
	s->connecting = false;
	if (err != 0)
		reset(s);
	else
		step(s);
}

/* --- what capture.c calls --- */

bool flat_dns_takes(const struct flat_offload *o, const struct flat_addr *to)
{
	const struct flat_ip ip = flat_addr_ip(to);
	return to->port == FLAT_DNS_PORT && !flat_mesh_service_owning(o->mesh, &ip) &&
	       !flat_mesh_service_by_addr(o->mesh, &ip, to->port, NULL) &&
	       !flat_listener_find(o, to, NULL);
}

void flat_dns_stream(struct flat_dns_client *client, struct flat_session *session,
		     const struct flat_question *q, int fd)
{
	struct flat_dns_stream *s = calloc(1, sizeof(*s));
	if (!s) {
		flat_session_put(session);
		close(fd);
		return;
	}
	session->n_conns++;
	/* The one that was silent for longest makes room: perhaps the only other one of that session. */
	if (client->n_streams == FLAT_DNS_STREAMS_MAX)
		flat_dns_stream_close(TAILQ_FIRST(&client->streams));
	s->client = client;
	s->session = session;
	s->q = *q;
	s->way[CLIENT].source.fd = fd;
	s->way[SERVER].source.fd = -1;
	s->way[CLIENT].stream = s->way[SERVER].stream = s;
	s->moved_ms = flat_now_ms();
	client->n_streams++;
	TAILQ_INSERT_TAIL(&client->streams, s, link);
	step(s);
}

int flat_dns_streams_expire(struct flat_dns_client *client, int64_t now_ms)
{
	struct flat_dns_stream *s = TAILQ_FIRST(&client->streams);
	while (s && now_ms - s->moved_ms >= FLAT_DNS_STREAM_MS) {
		struct flat_dns_stream *next = TAILQ_NEXT(s, link);
		flat_dns_stream_close(s);
		s = next;
	}
	return s ? (int)(s->moved_ms + FLAT_DNS_STREAM_MS - now_ms) : -1;
}
