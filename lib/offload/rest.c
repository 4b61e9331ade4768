#include "offload/rest.h"

#include <stdlib.h>

#include "vq/ring.h"

/* Of flatd's side of a lane, which has no other waiter. */
#define NAP 1U

void flat_rests_init(struct flat_rests *all)
{
	TAILQ_INIT(&all->list);
	all->sleeps = 0;
	all->now_us = 0;
}

struct flat_rest *flat_rest_new(struct flat_rests *all, struct flat_lane_side *mine)
{
	struct flat_rest *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->all = all;
	r->mine = mine;
	return r;
}

static void unlist(struct flat_rest *r)
{
	if (r->listed)
		TAILQ_REMOVE(&r->all->list, r, link);
	r->listed = false;
}

void flat_rest_free(struct flat_rest *r)
{
	if (!r)
		return;
	unlist(r);
	free(r);
}

static void arm(const struct flat_resting *e, uint32_t how)
{
	flat_vq_arm_rx(e->vq, how);
	if (e->full)
		flat_vq_arm_tx(e->vq, how);
}

void flat_rest_begin(struct flat_rest *r, const struct flat_resting *e)
{
	if (!r->listed) {
		TAILQ_INSERT_TAIL(&r->all->list, r, link);
		r->listed = true;
		r->last_us = r->all->now_us;
	}
	r->by_slot[__builtin_ctzll(e->vq->bit)] = *e;
	r->mask |= e->vq->bit;
	arm(e, FLAT_ARM_READY_NAP(NAP));
}

void flat_rest_end(struct flat_rest *r, const struct flat_vq *vq)
{
	r->mask &= ~vq->bit;
}

void flat_rest_leave(struct flat_rest *r, struct flat_vq *vq)
{
	flat_rest_end(r, vq);
	flat_vq_leave(vq);
}

static void wake(const struct flat_resting *e)
{
	e->source->fn(e->source, 0);
}

/* Whether something came before the bell was asked for. */
static bool has_news(const struct flat_resting *e)
{
	if (e->reads && (flat_ring_moved(&e->vq->rx) || flat_vq_peer_prod_flags(e->vq) != 0))
		return true;
	return e->full && (flat_ring_space(&e->vq->tx) != 0 || flat_vq_peer_cons_flags(e->vq) != 0);
}

/* Its ends are found by bells from now on. */
static void retire(struct flat_rest *r)
{
	uint64_t mask = r->mask;
	unlist(r);
	r->mask = 0;
	for (; mask; mask &= mask - 1) {
		const struct flat_resting *e = &r->by_slot[__builtin_ctzll(mask)];
		arm(e, FLAT_ARM_BELL);
		if (has_news(e))
			wake(e);
	}
}

/* Ends of one look that have something, at most so many at a time: those of a whole lane. */
#define DUE_MAX FLAT_LANE_SLOTS_MAX

struct due {
	uint64_t woken;
	struct flat_rest *rest;
	uint32_t slot;
};

/* In the order in which they became ready, as each producer says: the kernel would tell of them so. Returns how many there are. */
static uint32_t add_due(struct due *due, uint32_t n, struct flat_rest *r, uint32_t slot)
{
	uint64_t woken = flat_ring_woken(&r->by_slot[slot].vq->rx);
	uint32_t at = n;
	for (; at > 0 && due[at - 1].woken > woken; at--)
		due[at] = due[at - 1];
	due[at] = (struct due){woken, r, slot};
	return n + 1;
}

static void wake_due(const struct due *due, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		/* An end that one before it woke as well rests no more. */
		if (due[i].rest->mask >> due[i].slot & 1)
			wake(&due[i].rest->by_slot[due[i].slot]);
	}
}

bool flat_rests_look(struct flat_rests *all, int64_t now_us)
{
	struct flat_rest *r;
	struct flat_rest *next;
	struct due due[DUE_MAX];
	uint32_t n = 0;
	bool some = false;
	all->now_us = now_us;
	for (r = TAILQ_FIRST(&all->list); r; r = next) {
		next = TAILQ_NEXT(r, link);
		uint64_t bits = r->mask ? flat_lane_take_ready(r->mine, r->mask) : 0;
		if (bits) {
			r->last_us = now_us;
			some = true;
		} else if (now_us - r->last_us > FLAT_REST_QUIET_US) {
			retire(r);
		}
		if (n + (uint32_t)__builtin_popcountll(bits) > DUE_MAX) {
			wake_due(due, n);
			n = 0;
		}
		for (bits &= r->mask; bits; bits &= bits - 1)
			n = add_due(due, n, r, (uint32_t)__builtin_ctzll(bits));
	}
	wake_due(due, n);
	return some;
}

bool flat_rests_sleep(struct flat_rests *all)
{
	struct flat_rest *r;
	bool ready = false;
	all->sleeps = (all->sleeps + 1) % FLAT_NAP_MANY;
	all->sleeps += all->sleeps == 0;
	TAILQ_FOREACH(r, &all->list, link)
	{
		flat_lane_nap_begin(r->mine, NAP, all->sleeps);
		ready |= flat_lane_any_ready(r->mine, r->mask) != 0;
	}
	return !ready;
}

void flat_rests_wake(struct flat_rests *all)
{
	struct flat_rest *r;
	TAILQ_FOREACH(r, &all->list, link)
	{
		flat_lane_nap_end(r->mine, NAP);
	}
}
