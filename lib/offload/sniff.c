#include "offload/sniff.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "offload/gateway.h"
#include "wire/hello.h"

/* What is read at once: more than most clients say. */
#define FIRST_BYTES ((size_t)2048)

struct flat_sniff {
	struct flat_hello hello;
	char name[FLAT_HELLO_HOST_SIZE]; /* once it is known */
	uint8_t *bytes; /* all that the client sent; NULL: nothing, or it was handed on */
	size_t len, size;
	bool waits;
};

int flat_sniff_attach(struct flat_conn *c)
{
	c->sniff = calloc(1, sizeof(*c->sniff));
	if (!c->sniff)
		return -ENOMEM;
	c->sniff->waits = true;
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
	return s && s->waits;
}

const char *flat_sniff_name(const struct flat_sniff *s)
{
	return s->name;
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

/* The name is known ("": there is none, or that is no TLS): where it goes. */
static void decide(struct flat_conn *c, const char *name)
{
	struct flat_sniff *s = c->sniff;
	struct flat_question q = {
	    .session = c->client,
	    .principal = c->principal,
	    .from = c->from,
	    .to = c->gate ? c->target : c->to,
	    .sni = s->name,
	    .gate = c->gate,
	};
	struct flat_decision d;
	int err;

	s->waits = false;
	snprintf(s->name, sizeof(s->name), "%s", name);
	flat_loop_del(&c->offload->loop, &c->end[FLAT_SIDE_CLIENT].anchor);
	flat_admit(c->offload, &q, &d);
	if (d.status == 0 && d.l7) {
		d.status = -EACCES;
		d.kind = FLAT_REFUSED_POLICY;
		snprintf(
		    d.reason, sizeof(d.reason),
		    "what rules say of HTTP at service %s cannot be asked of a connection that is "
		    "carried as bytes",
		    d.service ? d.service->host : "-");
	}
	if (d.status != 0) {
		flat_conn_fail(c, ECONNRESET, d.kind, d.reason);
		return;
	}
	err = flat_pipe_hold(c->pipe, FLAT_SIDE_CLIENT, s->bytes, s->len);
	free(s->bytes);
	s->bytes = NULL;
	if (err == 0)
		err = flat_conn_lead(c, &d);
	if (err != 0)
		flat_conn_fail(c, ENOMEM, FLAT_REFUSED_RESOURCES, "flatd is out of memory");
	else
		flat_conn_onward(c);
}

/* Where TLS ends here. As look(). */
static bool shake(struct flat_conn *c)
{
	bool writes = false;
	int err = flat_tls_shake(c->gate->tls, &writes);

	if (err == -EAGAIN)
		return true;
	if (err == 0)
		decide(c, flat_tls_host(c->gate->tls));
	else
		flat_conn_destroy(c);
	return false;
}

/* Reads until there is nothing. True: the name is waited for still; else the connection went on, or is gone. */
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
		if (n < 0)
			return ended(c, n);
		s->len += (size_t)n;
		int err = flat_hello_read(&s->hello, s->bytes, s->len);
		if (err == -EMSGSIZE) {
			flat_conn_fail(
			    c, ECONNRESET, FLAT_REFUSED_LIMIT,
			    "rule 11: the client's first message of TLS is too long to find "
			    "its server's name in");
			return false;
		}
		if (err != -EAGAIN) {
			decide(c, err == 0 ? s->hello.host : "");
			return false;
		}
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

	if (events & (POLLHUP | POLLERR)) {
		flat_conn_destroy(c);
		return;
	}
	if (!e->is_tcp)
		(void)!flat_vq_drain_anchor(&e->vq);
	wait_for(c);
}

void flat_sniff_begin(struct flat_conn *c)
{
	struct flat_end *end = &c->end[FLAT_SIDE_CLIENT];

	if (end->is_tcp)
		flat_pipe_tcp(c->pipe, FLAT_SIDE_CLIENT, end->anchor.fd,
			      c->gate ? c->gate->tls : NULL);
	else
		flat_pipe_lane(c->pipe, FLAT_SIDE_CLIENT, &end->lane->lane, end->slot,
			       end->anchor.fd);
	if (c->gate && flat_gate_kind(c->gate) == FLAT_GATE_TCP) {
		flat_conn_tell(c);
		decide(c, "");
		return;
	}
	uint32_t events = POLLIN | POLLRDHUP | (c->gate && c->gate->tls ? POLLOUT : 0U);
	if (flat_loop_poll(&c->offload->loop, &end->anchor, end->anchor.fd, events, on_client) !=
	    0) {
		flat_conn_fail(c, ENOMEM, FLAT_REFUSED_RESOURCES, "flatd is out of memory");
		return;
	}
	flat_conn_tell(c);
	wait_for(c);
}
