#include "wire/carrier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/stream.h"

#define MAGIC "RSUM"
/* Bytes of the ring that are copied at once: two records, in level 1 cache with what is made of them. */
#define COPY_BYTES ((size_t)32 * 1024)

void flat_carrier_init(struct flat_carrier *c, struct flat_wire_link *link)
{
	memset(c, 0, sizeof(*c));
	c->link = link;
}

void flat_carrier_fini(struct flat_carrier *c)
{
	if (c->left)
		flat_hold_give(c->left_hold, c->left_at + c->n_left);
	free(c->left);
	c->left = NULL;
	c->left_at = c->n_left = 0;
}

/* --- going over, and back --- */

void flat_carrier_offer(struct flat_carrier *c, struct flat_vring *ring)
{
	c->ring = ring;
	c->failed = false;
	c->owes_resume = false;
}

void flat_carrier_go(struct flat_carrier *c)
{
	struct flat_frame f = {.type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_GO};
	const uint8_t *bytes;
	flat_wire_link_say(c->link, &f);
	c->before = flat_wire_link_output(c->link, &bytes);
	c->out_ring = true;
}

/* Both have gone over, and the ring moves nothing: each says how far it has taken, and sends the rest by TCP. */
static void say_resume(struct flat_carrier *c)
{
	uint64_t at = c->ring->taken;
	if (!c->failed || !c->owes_resume || !c->in_ring || !c->out_ring)
		return;
	c->owes_resume = false;
	memcpy(c->words, MAGIC, 4);
	for (size_t i = 0; i < 8; i++)
		c->words[4 + i] = (uint8_t)(at >> (56 - 8 * i));
	c->n_words = FLAT_CARRIER_RESUME;
}

int flat_carrier_gone_over(struct flat_carrier *c)
{
	if (!c->ring || c->in_ring)
		return -EPROTO;
	c->in_ring = true;
	c->n_heard = 0;
	flat_wire_link_pause(c->link);
	if (!c->out_ring)
		flat_carrier_go(c);
	say_resume(c);
	return 0;
}

void flat_carrier_fail(struct flat_carrier *c)
{
	if (!c->ring || c->failed)
		return;
	c->failed = true;
	/* A ring to which the peer may still go over is not forgotten before it has. */
	c->owes_resume = true;
	/* Where only one side has gone over, the other's word is on its way. */
	say_resume(c);
}

bool flat_carrier_idle(struct flat_carrier *c)
{
	if (!c->ring || !c->failed || c->owes_resume || c->in_ring || c->out_ring || c->kept)
		return false;
	return flat_carrier_withdraw(c);
}

bool flat_carrier_withdraw(struct flat_carrier *c)
{
	if (c->in_ring || c->out_ring || c->kept)
		return false;
	c->ring = NULL;
	c->failed = false;
	return true;
}

static int broken(struct flat_carrier *c)
{
	return flat_wire_link_fail(c->link, "the peer broke the rules of going over to verbs");
}

/* The peer's RESUME, which is whole. */
static int on_resume(struct flat_carrier *c)
{
	uint64_t at = 0;
	for (size_t i = 0; i < 8; i++)
		at = at << 8 | c->heard[4 + i];
	if (memcmp(c->heard, MAGIC, 4) != 0 || !c->out_ring || at < c->ring->credited ||
	    at > c->ring->posted)
		return broken(c);
	/* Our own word first: the peer sends on from there. */
	flat_carrier_fail(c);
	c->in_ring = false;
	c->out_ring = false;
	c->resend = at;
	c->kept = at != c->ring->put;
	return 0;
}

/* --- bytes in --- */

/* How many of `len` bytes belong to the TLS record that comes (RFC 8446, 5.1). */
static size_t of_record(struct flat_carrier *c, const uint8_t *p, size_t len)
{
	size_t n = 0;
	while (c->n_head < sizeof(c->head) && n < len) {
		c->head[c->n_head++] = p[n++];
		if (c->n_head == sizeof(c->head))
			c->body = (size_t)c->head[3] << 8 | c->head[4];
	}
	size_t body = flat_min_size(c->body, len - n);
	c->body -= body;
	if (c->n_head == sizeof(c->head) && c->body == 0)
		c->n_head = 0;
	return n + body;
}

/*
 * Ciphertext, from TCP or the ring. GO ends the stream on TCP with a record: where one may come, records are handed on one by one, so
 * that nothing behind it is taken for TLS. How many bytes were taken, 0: the quota is used up, or a negative errno.
 */
static ssize_t feed(struct flat_carrier *c, const uint8_t *bytes, size_t len)
{
	bool one_by_one = c->ring && !c->in_ring;
	if (c->link->stalled || flat_wire_link_is_spent(c->link))
		return 0;
	/* One record, or a part of it, is always taken whole. */
	size_t n = one_by_one ? of_record(c, bytes, len) : len;
	int err = flat_wire_link_input(c->link, bytes, n);
	if (err != 0)
		return err;
	n -= flat_wire_link_left(c->link);
	for (size_t i = 0; !one_by_one && i < n;)
		i += of_record(c, bytes + i, n - i);
	return (ssize_t)n;
}

/* How many were taken, or a negative errno. */
static ssize_t take(struct flat_carrier *c, const uint8_t *bytes, size_t len)
{
	size_t n;
	size_t i = 0;
	for (; i < len; i += n) {
		if (c->in_ring) {
			n = flat_min_size(FLAT_CARRIER_RESUME - c->n_heard, len - i);
			memcpy(c->heard + c->n_heard, bytes + i, n);
			c->n_heard += n;
			int err = c->n_heard == FLAT_CARRIER_RESUME ? on_resume(c) : 0;
			if (err != 0)
				return err;
			continue;
		}
		ssize_t fed = feed(c, bytes + i, len - i);
		if (fed < 0)
			return fed;
		if (fed == 0)
			break;
		n = (size_t)fed;
		c->bytes[0][1] += n;
	}
	return (ssize_t)i;
}

int flat_carrier_input(struct flat_carrier *c, const uint8_t *bytes, size_t len)
{
	ssize_t n = take(c, bytes, len);
	if (n < 0 || (size_t)n == len)
		return n < 0 ? (int)n : 0;
	c->n_left = len - (size_t)n;
	c->left_at = 0;
	c->left_hold = c->link->hold;
	if (!flat_hold_take(c->left_hold, c->n_left))
		return flat_wire_link_over(c->link, -ENOBUFS, "too much of its identity waits");
	c->left = malloc(c->n_left);
	if (!c->left) {
		flat_hold_give(c->left_hold, c->n_left);
		return flat_wire_link_over(c->link, -ENOMEM, "out of memory");
	}
	memcpy(c->left, bytes + n, c->n_left);
	return 0;
}

bool flat_carrier_waits(const struct flat_carrier *c)
{
	return c->left || c->link->stalled || flat_wire_link_is_spent(c->link);
}

int flat_carrier_go_on(struct flat_carrier *c)
{
	int err = c->link->stalled ? flat_wire_link_input(c->link, NULL, 0) : 0;
	if (err != 0 || !c->left)
		return err;
	ssize_t n = take(c, c->left + c->left_at, c->n_left);
	if (n < 0)
		return (int)n;
	c->left_at += (size_t)n;
	c->n_left -= (size_t)n;
	if (c->n_left == 0)
		flat_carrier_fini(c);
	return 0;
}

/* --- bytes out --- */

size_t flat_carrier_output(struct flat_carrier *c, const uint8_t **bytes)
{
	if (c->before > 0)
		return flat_min_size(flat_wire_link_output(c->link, bytes), c->before);
	if (c->n_words > 0) {
		*bytes = c->words + sizeof(c->words) - c->n_words;
		return c->n_words;
	}
	if (c->out_ring)
		return 0;
	if (c->kept)
		return flat_vring_kept(c->ring, c->resend, bytes);
	return flat_wire_link_output(c->link, bytes);
}

void flat_carrier_sent(struct flat_carrier *c, size_t len)
{
	if (c->before == 0 && c->n_words > 0) {
		c->n_words -= len;
		return;
	}
	c->bytes[0][0] += len;
	if (c->before == 0 && c->kept) {
		c->resend += len;
		c->kept = c->resend != c->ring->put;
		return;
	}
	if (c->before > 0)
		c->before -= len;
	flat_wire_link_sent(c->link, len);
}

/* --- the ring --- */

static ssize_t pump_in(struct flat_carrier *c, size_t quantum)
{
	uint8_t copy[COPY_BYTES];
	const uint8_t *bytes;
	size_t total = 0;
	size_t n;
	while (c->in_ring && !c->failed && total < quantum &&
	       (n = flat_vring_peek(c->ring, &bytes)) > 0) {
		/* The peer, or whoever has the key, writes there at any time: what TLS looks at twice is ours. */
		n = flat_min_size(flat_min_size(n, quantum - total), sizeof(copy));
		memcpy(copy, bytes, n);
		ssize_t fed = feed(c, copy, n);
		if (fed < 0)
			return fed;
		if (fed == 0)
			break;
		flat_vring_take(c->ring, (size_t)fed);
		total += (size_t)fed;
	}
	c->bytes[1][1] += total;
	return (ssize_t)total;
}

static size_t pump_out(struct flat_carrier *c)
{
	const uint8_t *bytes;
	size_t total = 0;
	size_t n;
	while (c->out_ring && c->before == 0 && !c->failed &&
	       (n = flat_wire_link_output(c->link, &bytes)) > 0) {
		n = flat_vring_put(c->ring, bytes, n);
		if (n == 0)
			break;
		flat_wire_link_sent(c->link, n);
		total += n;
	}
	c->bytes[1][0] += total;
	return total;
}

ssize_t flat_carrier_pump(struct flat_carrier *c, size_t quantum)
{
	ssize_t in;
	size_t out;
	if (!c->ring || c->failed)
		return 0;
	in = pump_in(c, quantum);
	if (in < 0)
		return in;
	out = pump_out(c);
	if (!c->failed && (c->in_ring || c->out_ring) && flat_vring_push(c->ring) != 0)
		flat_carrier_fail(c);
	return in + (ssize_t)out;
}
