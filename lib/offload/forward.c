/*
 * Forwarding: bytes from one end, into private memory, out of the other (security.md, rule 10: what a
 * check would see is what goes on). A connection that moves is hot: looked at without sleeping. One
 * that rests is cold: its applications ring our end of their anchors.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/sys.h"
#include "offload/offload.h"

/* Bytes taken from one end in one turn: the quantum (rule 11). */
#define QUANTUM_BYTES ((size_t)64 * 1024)
/* How long a connection that moves nothing is still looked at, microseconds. */
#define HOT_US 100

int flat_forward_init(struct flat_conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		e->buf = malloc(QUANTUM_BYTES);
		if (!e->buf)
			return -ENOMEM;
		if (e->is_tcp)
			continue;
		/* The client's peer in its lane is the server side: us; and the other way round. */
		enum flat_side us = i == 0 ? FLAT_SIDE_SERVER : FLAT_SIDE_CLIENT;
		flat_vq_init(&e->vq, &flat_vq_shm, &e->lane->lane, e->slot, us, e->anchor.fd,
			     e->anchor.fd);
	}
	return 0;
}

static void read_end(struct flat_end *e)
{
	ssize_t n;
	if (e->is_tcp) {
		n = flat_sys_recv(e->anchor.fd, e->buf, QUANTUM_BYTES, MSG_DONTWAIT);
		if (n == 0)
			e->eof = true;
		else if (n < 0 && n != -EAGAIN && n != -EINTR)
			e->reset = true;
	} else {
		/* Flags before bytes: after FIN no byte follows. */
		uint32_t flags = flat_vq_peer_prod_flags(&e->vq);
		n = flat_ring_read(&e->vq.rx, e->buf, QUANTUM_BYTES, 1);
		if (n > 0)
			flat_vq_notify_room(&e->vq);
		else if (n < 0 || (flags & FLAT_PROD_RST))
			e->reset = true;
		else if (flags & FLAT_PROD_FIN)
			e->eof = true;
	}
	if (n > 0) {
		e->at = 0;
		e->len = (uint32_t)n;
		e->bytes += (uint64_t)n;
	}
}

/* Gives bytes to an end. Returns the count, 0 for no room, or negative when it takes no more for ever. */
static ssize_t write_end(struct flat_end *e, const uint8_t *buf, size_t len)
{
	ssize_t n;
	if (e->is_tcp) {
		n = flat_sys_send(e->anchor.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		return n == -EAGAIN || n == -EINTR ? 0 : n;
	}
	if (e->gone || (flat_vq_peer_cons_flags(&e->vq) & FLAT_CONS_CLOSED))
		return -EPIPE;
	n = flat_ring_write(&e->vq.tx, buf, len);
	if (n > 0)
		flat_vq_notify_data(&e->vq);
	return n;
}

static void end_write(struct flat_end *e, bool reset)
{
	if (e->fin_sent)
		return;
	e->fin_sent = true;
	if (!e->is_tcp) {
		flat_vq_end_tx(&e->vq, reset ? FLAT_PROD_RST : FLAT_PROD_FIN);
		if (reset)
			flat_vq_end_rx(&e->vq, FLAT_CONS_CLOSED);
		return;
	}
	if (!reset) {
		flat_sys_shutdown(e->anchor.fd, SHUT_WR);
		return;
	}
	struct linger hard = {.l_onoff = 1};
	(void)flat_sys_setsockopt(e->anchor.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	e->gone = true;
}

static bool pump_one(struct flat_end *src, struct flat_end *dst)
{
	bool moved = false;
	if (src->len == 0 && !src->eof && !src->reset)
		read_end(src);
	while (src->len > 0) {
		ssize_t n = write_end(dst, src->buf + src->at, src->len);
		if (n < 0) {
			/* As TCP: the sender learns by a reset that nobody reads any more. */
			src->len = 0;
			src->reset = true;
			end_write(src, true);
			return true;
		}
		if (n == 0)
			return moved;
		src->at += (uint32_t)n;
		src->len -= (uint32_t)n;
		src->conn->offload->stats.bytes_forwarded += (uint64_t)n;
		moved = true;
	}
	if ((src->eof || src->reset) && !dst->fin_sent) {
		end_write(dst, src->reset);
		moved = true;
	}
	return moved;
}

bool flat_forward_pump(struct flat_conn *c)
{
	bool moved = pump_one(&c->end[0], &c->end[1]);
	moved |= pump_one(&c->end[1], &c->end[0]);
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		struct flat_end *other = &c->end[i ^ 1];
		/* A socket of the kernel has no holder to hang up: done when both ways are. */
		if (e->is_tcp && (e->reset || (e->fin_sent && (e->eof || other->gone))))
			e->gone = true;
	}
	return moved;
}

void flat_forward_heat(struct flat_conn *c)
{
	c->last_us = flat_now_us();
	if (c->hot)
		return;
	c->hot = true;
	TAILQ_INSERT_TAIL(&c->offload->hot, c, hot_link);
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		if (e->is_tcp || e->anchor.fd < 0)
			continue;
		flat_vq_disarm_rx(&e->vq);
		(void)!flat_vq_drain_anchor(&e->vq);
	}
}

/* Asks for bells; true if nothing came in between. */
static bool cool(struct flat_conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct flat_end *e = &c->end[i];
		if (e->is_tcp)
			continue;
		flat_vq_arm_rx(&e->vq, FLAT_ARM_BELL);
		if (c->end[i ^ 1].len > 0)
			flat_vq_arm_tx(&e->vq, FLAT_ARM_BELL);
	}
	if (flat_forward_pump(c))
		return false;
	c->hot = false;
	TAILQ_REMOVE(&c->offload->hot, c, hot_link);
	return true;
}

bool flat_forward_turn(struct flat_offload *o)
{
	struct flat_conn *c;
	struct flat_conn *next;
	int64_t now = 0;
	for (c = TAILQ_FIRST(&o->hot); c; c = next) {
		next = TAILQ_NEXT(c, hot_link);
		bool moved = !c->pending && flat_forward_pump(c);
		if (c->end[0].gone && c->end[1].gone && c->end[0].len == 0 && c->end[1].len == 0) {
			flat_conn_destroy(c);
			continue;
		}
		if (now == 0)
			now = flat_now_us();
		if (moved)
			c->last_us = now;
		else if (now - c->last_us > HOT_US)
			(void)cool(c);
	}
	return !TAILQ_EMPTY(&o->hot);
}
