/*
 * Deep rings: who lends them to writers whom nobody reads, and takes them back (docs/design/core.md, section 5; model:
 * tests/spin/deep.pml). A writer that finds no room has its connection looked at. As long as its reader takes something the
 * looks become rarer. Where nothing moves from one look to the next they end if it waits no more, and else it is lent its
 * deep ring, and woken. What was read of that is freed by and by.
 */
#include "vq/deep.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "offload/offload.h"

/* The writer's: a side produces the direction that bears its number. */
static unsigned int direction_of(const struct flat_end *e)
{
	return e == &e->conn->end[FLAT_SIDE_SERVER];
}

/* Whether flatd's own reader may take bytes from it. */
static void set_lent(const struct flat_end *e, bool lent)
{
	_Atomic uint64_t *mask = &e->lane->deep_lent[direction_of(e)];
	/* relaxed: the lease, stored after it, orders it; see may_read_deep() of ring.c */
	if (lent)
		atomic_fetch_or_explicit(mask, 1ULL << e->slot, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(mask, ~(1ULL << e->slot), memory_order_relaxed);
}

static void unwatch(struct flat_offload *o, struct flat_deep *d)
{
	if (d->watched)
		TAILQ_REMOVE(&o->deeps, d, link);
	d->watched = false;
}

/* Frees up to byte `to`. */
static void free_to(struct flat_deep *d, uint32_t to)
{
	const struct flat_end *e = d->end;
	unsigned int direction = direction_of(e);
	if (to <= d->freed)
		return;
	if (flat_deep_free(&e->lane->lane, e->lane->fd, e->slot, direction, d->freed, to) != 0)
		/* Sealed: it stays charged until the lane goes. */
		e->lane->deep_kept[direction] |= 1ULL << e->slot;
	d->freed = to;
}

/* Nothing is in it any more. */
static void give_back(struct flat_offload *o, struct flat_deep *d)
{
	const struct flat_end *e = d->end;
	bool kept = (e->lane->deep_kept[direction_of(e)] & 1ULL << e->slot) != 0;
	if (!kept)
		flat_lane_discharge(o, e->lane, d->charged);
	d->charged = 0;
	set_lent(e, false);
	unwatch(o, d);
}

static bool pay(struct flat_offload *o, struct flat_deep *d)
{
	const struct flat_end *e = d->end;
	uint32_t size = flat_lane_deep_bytes(&e->lane->lane.geo);
	uint64_t *kept = &e->lane->deep_kept[direction_of(e)];
	/* Paid for already: by words that an application turned back, or since it could not be freed. */
	if (d->charged)
		return true;
	if (*kept & 1ULL << e->slot)
		*kept &= ~(1ULL << e->slot);
	else if (flat_lane_charge(o, e->lane, size) != 0)
		return false;
	d->charged = size;
	return true;
}

static void lend(struct flat_offload *o, struct flat_deep *d)
{
	const struct flat_end *e = d->end;
	unsigned int direction = direction_of(e);
	/* Of the last time, where the end of it was not seen. */
	if (d->lent) {
		d->freed = 0;
		free_to(d, flat_lane_deep_bytes(&e->lane->lane.geo));
	}
	d->step_ms = FLAT_DEEP_REST_MS_MAX / 4;
	if (!pay(o, d))
		return;
	d->step_ms = FLAT_DEEP_LOOK_MS_MAX;
	d->lent = true;
	d->freed = 0;
	o->stats.deep_lent++;
	set_lent(e, true);
	if (flat_deep_lease(&e->lane->lane, e->slot, direction, FLAT_LEASE_ASKED,
			    FLAT_LEASE_GRANTED))
		flat_vq_rouse(&e->lane->lane, e->slot, (enum flat_side)direction, e->anchor.fd);
}

/* Nobody waits for room. The writer may, from now on, and then asks anew; or it did before it could see that it has to. */
static void end_watch(struct flat_offload *o, struct flat_deep *d)
{
	const struct flat_end *e = d->end;
	unsigned int direction = direction_of(e);
	struct flat_deep_look look;
	if (!flat_deep_lease(&e->lane->lane, e->slot, direction, FLAT_LEASE_ASKED, FLAT_LEASE_NONE))
		return;
	flat_deep_look(&e->lane->lane, e->slot, direction, &look);
	if (look.waits &&
	    flat_deep_lease(&e->lane->lane, e->slot, direction, FLAT_LEASE_NONE, FLAT_LEASE_ASKED))
		return;
	unwatch(o, d);
}

static void slower(struct flat_deep *d, uint32_t most)
{
	d->step_ms = d->step_ms * 2 > most ? most : d->step_ms * 2;
}

/* It waits to be lent one. */
static void asked(struct flat_offload *o, struct flat_deep *d, const struct flat_deep_look *look,
		  bool moved)
{
	slower(d, FLAT_DEEP_LOOK_MS_MAX);
	/* A stream waits time and again. It need not ask anew each time: that is a message, and wakes us. */
	if (moved)
		return;
	if (look->waits)
		lend(o, d);
	else
		end_watch(o, d);
}

/* It was lent it, and has not used it. */
static void granted(struct flat_offload *o, struct flat_deep *d, const struct flat_deep_look *look)
{
	const struct flat_end *e = d->end;
	uint32_t bulk = e->lane->lane.geo.bulk_bytes;
	slower(d, FLAT_DEEP_REST_MS_MAX);
	/* There is room enough again without it. */
	if (look->tail - look->head < bulk / 3 &&
	    flat_deep_lease(&e->lane->lane, e->slot, direction_of(e), FLAT_LEASE_GRANTED,
			    FLAT_LEASE_NONE))
		give_back(o, d);
}

/* Bytes are in it, or were. No byte comes again to a place that was read. */
static void taken(struct flat_offload *o, struct flat_deep *d, const struct flat_deep_look *look,
		  bool moved)
{
	if (moved)
		d->step_ms = FLAT_DEEP_STILL_MS;
	else
		slower(d, FLAT_DEEP_REST_MS_MAX);
	const struct flat_end *e = d->end;
	free_to(d, look->passed ? flat_lane_deep_bytes(&e->lane->lane.geo) : look->done);
	/* One that all was read of is left with the next write. Who writes there instead would have flatd make pages by reading. */
	bool rests = !moved && look->head == look->tail && e->conn->path == FLAT_CONN_DIRECT;
	if (look->passed || rests)
		give_back(o, d);
}

static void look_at(struct flat_offload *o, struct flat_deep *d, int64_t now_ms)
{
	const struct flat_end *e = d->end;
	struct flat_deep_look look;
	flat_deep_look(&e->lane->lane, e->slot, direction_of(e), &look);
	bool moved = look.tail != d->tail || look.head != d->head;
	d->tail = look.tail;
	d->head = look.head;
	if (look.lease == FLAT_LEASE_ASKED) {
		asked(o, d, &look, moved);
	} else if (look.lease == FLAT_LEASE_GRANTED && d->charged) {
		granted(o, d, &look);
	} else if (look.lease == FLAT_LEASE_TAKEN && d->charged) {
		taken(o, d, &look, moved);
	} else {
		/* Left, or a word that says nothing; or others asked for one that rests, in which a write may be on its way. */
		if (d->lent && look.lease != FLAT_LEASE_TAKEN)
			free_to(d, flat_lane_deep_bytes(&e->lane->lane.geo));
		give_back(o, d);
	}
	d->due_ms = now_ms + d->step_ms;
}

int flat_deeps_turn(struct flat_offload *o, int64_t now_ms)
{
	struct flat_deep *d;
	struct flat_deep *next;
	if (o->deeps_due_ms <= now_ms) {
		o->deeps_due_ms = INT64_MAX;
		for (d = TAILQ_FIRST(&o->deeps); d; d = next) {
			next = TAILQ_NEXT(d, link);
			if (d->due_ms <= now_ms)
				look_at(o, d, now_ms);
			if (d->watched && d->due_ms < o->deeps_due_ms)
				o->deeps_due_ms = d->due_ms;
		}
	}
	if (TAILQ_EMPTY(&o->deeps))
		return -1;
	return o->deeps_due_ms > now_ms ? (int)(o->deeps_due_ms - now_ms) : 0;
}

/* NULL: no memory. Its writer may ask another time. */
static struct flat_deep *deep_of(struct flat_end *e)
{
	if (e->deep)
		return e->deep;
	e->deep = calloc(1, sizeof(*e->deep));
	if (e->deep)
		e->deep->end = e;
	else
		(void)flat_deep_lease(&e->lane->lane, e->slot, direction_of(e), FLAT_LEASE_ASKED,
				      FLAT_LEASE_NONE);
	return e->deep;
}

void flat_deep_request(struct flat_offload *o, const struct flat_msg *msg)
{
	struct flat_conn *c;
	TAILQ_FOREACH(c, &o->conns, link)
	{
		if (c->id == msg->body.deep.conn_id)
			break;
	}
	if (!c || msg->body.deep.side > FLAT_SIDE_SERVER)
		return;
	/* Whose it is, is no matter: what was asked for stands in the lane, which is for its parties to write. */
	struct flat_end *e = &c->end[msg->body.deep.side];
	struct flat_deep_look look;
	int64_t due_ms = flat_now_us() / 1000 + FLAT_DEEP_STILL_MS + 1;
	struct flat_deep *d = e->lane ? deep_of(e) : NULL;
	/* Never later than it was: whoever knows the number may ask. */
	if (!d || (d->watched && d->due_ms <= due_ms))
		return;
	flat_deep_look(&e->lane->lane, e->slot, direction_of(e), &look);
	d->tail = look.tail;
	d->head = look.head;
	d->step_ms = FLAT_DEEP_STILL_MS;
	d->due_ms = due_ms;
	if (due_ms < o->deeps_due_ms)
		o->deeps_due_ms = due_ms;
	if (!d->watched)
		TAILQ_INSERT_TAIL(&o->deeps, d, link);
	d->watched = true;
}

void flat_deep_end(struct flat_offload *o, struct flat_end *e)
{
	struct flat_deep *d = e->deep;
	if (!d)
		return;
	if (d->lent) {
		d->freed = 0;
		free_to(d, flat_lane_deep_bytes(&e->lane->lane.geo));
	}
	give_back(o, d);
	e->deep = NULL;
	free(d);
}
