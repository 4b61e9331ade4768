#include "offload/sniff.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "codec/http.h"
#include "offload/gateway.h"
#include "offload/l7.h"
#include "wire/hello.h"

/* What is read at once: more than most clients say. */
#define FIRST_BYTES ((size_t)2048)

struct flat_sniff {
	struct flat_hello hello;
	char name[FLAT_HELLO_HOST_SIZE]; /* once it is known */
	uint8_t *bytes; /* all that the client sent; NULL: nothing, or it was handed on */
	size_t len, size;
	enum flat_sniff_what what; /* is waited for; NONE: it was decided */
	bool http;
	bool pinned; /* to one server, which is the connection's listener while that is there */
};

int flat_sniff_attach(struct flat_conn *c, enum flat_sniff_what what)
{
	c->sniff = calloc(1, sizeof(*c->sniff));
	if (!c->sniff)
		return -ENOMEM;
	c->sniff->what = what;
	c->sniff->pinned = c->listener != NULL;
	return 0;
}

void flat_sniff_free(struct flat_sniff *s)
{
	if (!s)
		return;
	free(s->bytes);
	free(s);
}

bool flat_sniff_waits(const struct flat_sniff *s)
{
	return s && s->what != FLAT_SNIFF_NONE;
}

const char *flat_sniff_name(const struct flat_sniff *s)
{
	return s->name;
}

size_t flat_sniff_take(struct flat_sniff *s, void *to, size_t size)
{
	size_t len = flat_min_size(s->len, size);

	if (len > 0)
		memcpy(to, s->bytes, len);
	free(s->bytes);
	s->bytes = NULL;
	s->len = 0;
	return len;
}

/* Room for more, up to what a name may be asked for with. */
static bool grow(struct flat_sniff *s)
{
	size_t size = s->size ? s->size * 2 : FIRST_BYTES;
	uint8_t *bytes = s->len < s->size ? s->bytes : realloc(s->bytes, size);

	if (!bytes)
		return false;
	if (s->len == s->size)
		s->size = size;
	s->bytes = bytes;
	return true;
}

/* Bytes; 0: none now; -EPIPE: no more come; another negative errno: words that no honest party writes. */
static ssize_t take(struct flat_conn *c)
{
	struct flat_sniff *s = c->sniff;
	struct flat_pipe_end *e = &c->pipe->end[FLAT_SIDE_CLIENT];
	size_t room = flat_min_size(s->size, FLAT_HELLO_MAX) - s->len;
	ssize_t n;

	if (e->tube) {
		n = flat_tube_recv(e->tube, FLAT_TUBE_NEAR, s->bytes + s->len, room);
		return n == -EAGAIN ? 0 : n <= 0 ? -EPIPE : n;
	}
	if (e->is_tcp) {
		n = flat_sys_recv(e->source.fd, s->bytes + s->len, room, MSG_DONTWAIT);
		return n == -EAGAIN || n == -EINTR ? 0 : n <= 0 ? -EPIPE : n;
	}
	/* Flags before bytes: after FIN no byte follows. */
	uint32_t flags = flat_vq_peer_prod_flags(&e->vq);
	n = flat_ring_read(&e->vq.rx, s->bytes + s->len, room, 1);
	if (n > 0)
		flat_vq_notify_room(&e->vq);
	if (n < 0)
		return -EPROTO;
	return n == 0 && (flags & (FLAT_PROD_FIN | FLAT_PROD_RST)) ? -EPIPE : n;
}

static void stop_watching(struct flat_conn *c)
{
	struct flat_end *e = &c->end[FLAT_SIDE_CLIENT];

	if (e->tube)
		flat_tube_watch(e->tube, FLAT_TUBE_NEAR, NULL);
	else
		flat_loop_del(&c->offload->loop, &e->anchor);
}

/* It ended before it said whom it wants. True: its hang-up is waited for. */
static bool ended(struct flat_conn *c, ssize_t err)
{
	struct flat_pipe_end *e = &c->pipe->end[FLAT_SIDE_CLIENT];

	if (err == -EPROTO)
		flat_conn_fail(c, ECONNRESET, FLAT_REFUSED_LIMIT,
			       "rule 6: positions of the client that cannot be");
	else if (e->is_tcp)
		flat_conn_destroy(c);
	else if (flat_vq_peer_cons_flags(&e->vq) & FLAT_CONS_CLOSED)
		return true;
	else
		flat_conn_fail(c, ECONNRESET, FLAT_REFUSED_LIMIT,
			       "the client ended before it said which server it wants");
	return false;
}

/* Goes on with what was read first: as bytes, or its requests are read from there. */
static void go_on(struct flat_conn *c, const struct flat_decision *d)
{
	struct flat_sniff *s = c->sniff;
	int err = d->l7 ? 0 : flat_pipe_hold(c->pipe, FLAT_SIDE_CLIENT, s->bytes, s->len);

	if (err == 0)
		err = flat_conn_lead(c, d);
	if (err == 0 && d->l7)
		err = flat_l7_attach(c, d);
	if (err != 0) {
		flat_conn_fail(c, ENOMEM, FLAT_REFUSED_RESOURCES, "flatd is out of memory");
	} else if (d->l7) {
		flat_conn_open(c);
	} else {
		free(s->bytes);
		s->bytes = NULL;
		flat_conn_onward(c);
	}
}

/* What HTTP rules say where its port is not HTTP's, or at a gateway's that is not. */
static void refuse_http(struct flat_decision *d)
{
	d->status = -EACCES;
	d->kind = FLAT_REFUSED_POLICY;
	snprintf(d->reason, sizeof(d->reason),
		 "what rules say of HTTP at service %s cannot be asked of a connection that is "
		 "carried as bytes",
		 d->service ? d->service->host : "-");
}

/* What was asked for is known (s->name, s->http): where it goes. True: a name is waited for after all. */
static bool decide(struct flat_conn *c)
{
	struct flat_sniff *s = c->sniff;
	const bool heard = s->what == FLAT_SNIFF_PROTOCOL;
	struct flat_question q = {
	    .session = c->client,
	    .principal = c->principal,
	    .from = c->from,
	    .to = c->gate ? c->target : c->to,
	    .pinned = s->pinned ? c->listener : NULL,
	    .sni = heard ? NULL : s->name,
	    .gate = c->gate,
	    .heard = true,
	    .http = s->http,
	};
	struct flat_decision d;

	s->what = FLAT_SNIFF_NONE;
	if (s->pinned && !c->listener) {
		flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_UNREACHABLE, "the listener is gone");
		return false;
	}
	flat_admit(c->offload, &q, &d);
	if (d.status == 0 && d.sniff == FLAT_SNIFF_NAME && heard) {
		s->what = d.sniff;
		c->since_ms = flat_now_us() / 1000;
		return true;
	}
	stop_watching(c);
	if (d.status == 0 && d.l7 && !s->http)
		refuse_http(&d);
	if (d.status != 0)
		flat_conn_fail(c, ECONNRESET, d.kind, d.reason);
	else
		go_on(c, &d);
	return false;
}

static bool decide_name(struct flat_conn *c, const char *name)
{
	snprintf(c->sniff->name, sizeof(c->sniff->name), "%s", name);
	return decide(c);
}

/* Where TLS ends here. As look(). */
static bool shake(struct flat_conn *c)
{
	bool writes = false;
	int err = flat_tls_shake(c->gate->tls, &writes);

	if (err == -EAGAIN)
		return true;
	if (err == 0)
		return decide_name(c, flat_tls_host(c->gate->tls));
	flat_conn_destroy(c);
	return false;
}

/* Looks for a name in what was read. As look(). */
static bool look_for_name(struct flat_conn *c)
{
	struct flat_sniff *s = c->sniff;
	int err = flat_hello_read(&s->hello, s->bytes, s->len);

	if (err == -EAGAIN)
		return true;
	if (err != -EMSGSIZE)
		return decide_name(c, err == 0 ? s->hello.host : "");
	flat_conn_fail(c, ECONNRESET, FLAT_REFUSED_LIMIT,
		       "rule 11: the client's first message of TLS is too long to find its "
		       "server's name in");
	return false;
}

/* Likewise for whether it speaks HTTP; ended: nothing follows. */
static bool look_for_protocol(struct flat_conn *c, bool ended)
{
	struct flat_sniff *s = c->sniff;
	enum flat_http_guess guess = flat_http_guess(s->bytes, s->len);

	if (guess == FLAT_HTTP_GUESS_MORE && !ended)
		return true;
	s->http = guess == FLAT_HTTP_GUESS_1 || guess == FLAT_HTTP_GUESS_2;
	return decide(c) && look_for_name(c);
}

/* Reads until there is nothing. True: more is waited for; else the connection went on, or is gone. */
static bool look(struct flat_conn *c)
{
	struct flat_sniff *s = c->sniff;
	ssize_t n;

	if (c->gate && c->gate->tls)
		return shake(c);
	while (grow(s)) {
		n = take(c);
		if (n == 0)
			return true;
		/* What is no HTTP yet will be none: its server gets it, and the end. */
		if (n == -EPIPE && s->what == FLAT_SNIFF_PROTOCOL && !look_for_protocol(c, true))
			return false;
		if (n < 0)
			return ended(c, n);
		s->len += (size_t)n;
		if (!(s->what == FLAT_SNIFF_PROTOCOL ? look_for_protocol(c, false)
						     : look_for_name(c)))
			return false;
	}
	flat_conn_fail(c, ENOMEM, FLAT_REFUSED_RESOURCES, "flatd is out of memory");
	return false;
}

/* Until it sleeps: then a client of a lane rings. */
static void wait_for(struct flat_conn *c)
{
	struct flat_pipe_end *e = &c->pipe->end[FLAT_SIDE_CLIENT];

	if (!look(c) || e->is_tcp)
		return;
	flat_vq_arm_rx(&e->vq, FLAT_ARM_BELL);
	(void)look(c);
}

static void on_client(struct flat_source *source, int events)
{
	struct flat_conn *c = FLAT_CONTAINER_OF(source, struct flat_end, anchor)->conn;
	struct flat_pipe_end *e = &c->pipe->end[FLAT_SIDE_CLIENT];

	/* What it sent before it went may be for a server. */
	if (events & (POLLHUP | POLLERR)) {
		if (!e->is_tcp)
			flat_vq_complete(&e->lane, e->slot, FLAT_SIDE_CLIENT, -1);
		if (e->is_tcp || c->sniff->what != FLAT_SNIFF_PROTOCOL || look(c))
			flat_conn_destroy(c);
		return;
	}
	if (!e->is_tcp)
		(void)!flat_vq_drain_anchor(&e->vq);
	wait_for(c);
}

static int watch(struct flat_conn *c)
{
	struct flat_end *end = &c->end[FLAT_SIDE_CLIENT];
	uint32_t events = POLLIN | POLLRDHUP | (c->gate && c->gate->tls ? POLLOUT : 0U);

	if (!end->tube)
		return flat_loop_poll(&c->offload->loop, &end->anchor, end->anchor.fd, events,
				      on_client);
	end->anchor.fn = on_client;
	flat_tube_watch(end->tube, FLAT_TUBE_NEAR, &end->anchor);
	return 0;
}

void flat_sniff_begin(struct flat_conn *c)
{
	struct flat_end *end = &c->end[FLAT_SIDE_CLIENT];

	if (end->tube)
		flat_pipe_tube(c->pipe, FLAT_SIDE_CLIENT, end->tube);
	else if (end->is_tcp)
		flat_pipe_tcp(c->pipe, FLAT_SIDE_CLIENT, end->anchor.fd,
			      c->gate ? c->gate->tls : NULL);
	else
		flat_pipe_lane(c->pipe, FLAT_SIDE_CLIENT, &end->lane->lane, end->slot,
			       end->anchor.fd);
	if (c->gate && flat_gate_kind(c->gate) == FLAT_GATE_TCP) {
		flat_conn_tell(c);
		(void)decide_name(c, "");
		return;
	}
	if (watch(c) != 0) {
		flat_conn_fail(c, ENOMEM, FLAT_REFUSED_RESOURCES, "flatd is out of memory");
		return;
	}
	flat_conn_tell(c);
	if (c->sniff->what == FLAT_SNIFF_PROTOCOL)
		flat_conn_idle(c);
	wait_for(c);
}
