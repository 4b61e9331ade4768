#include "offload/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "offload/telling.h"
#include "wire/spiffe.h"

void flat_guests_init(struct flat_peers *all)
{
	TAILQ_INIT(&all->guests);
	TAILQ_INIT(&all->asking);
	all->guests_ms = flat_now_us() / 1000;
}

static void guest_free(struct flat_guest *g)
{
	flat_hold_put(g->hold);
	free(g);
}

/* For good, if it has nothing left. */
static void guest_forget(struct flat_peers *all, struct flat_guest *g)
{
	const struct flat_wire_tally *t = &g->tally;
	if (g->links > 0 || t->unanswered > 0 || t->resets > 0 || t->cut > 0 || g->hold->bytes > 0)
		return;
	TAILQ_REMOVE(&all->guests, g, link);
	guest_free(g);
}

static void tell_of_denied(struct flat_guest *g)
{
	char text[FLAT_ADDR_STRLEN];
	if (g->denied == g->hold->denied)
		return;
	flat_tell(
	    FLAT_LOG_WARN, "connections reset", "other hosts",
	    "%s from %s: %llu connections were reset, as %zu MiB of its bytes wait here, or all "
	    "wait in too much",
	    flat_spiffe_principal(g->id), flat_addr_str(&g->host, text),
	    (unsigned long long)(g->hold->denied - g->denied), g->hold->bytes >> 20);
	g->denied = g->hold->denied;
}

void flat_guests_fini(struct flat_peers *all)
{
	struct flat_guest *next;
	for (struct flat_guest *g = TAILQ_FIRST(&all->guests); g; g = next) {
		next = TAILQ_NEXT(g, link);
		guest_free(g);
	}
	flat_hold_put(all->hold);
	TAILQ_INIT(&all->guests);
}

/* Of so many a second those between two instants, ms: none is lost where these are close. */
static void forgive(uint32_t *count, uint32_t per_s, int64_t from_ms, int64_t to_ms)
{
	int64_t n = to_ms * per_s / 1000 - from_ms * per_s / 1000;
	if (n > 0)
		*count -= n < *count ? (uint32_t)n : *count;
}

void flat_guests_forgive(struct flat_peers *all, int64_t now_ms)
{
	struct flat_guest *g;
	struct flat_guest *next;
	int64_t then_ms = all->guests_ms;
	all->guests_ms = now_ms;
	for (g = TAILQ_FIRST(&all->guests); g; g = next) {
		next = TAILQ_NEXT(g, link);
		tell_of_denied(g);
		forgive(&g->tally.unanswered, FLAT_WIRE_RESETS_MAX, then_ms, now_ms);
		forgive(&g->tally.resets, FLAT_HBONE_GUEST_RESETS_MAX, then_ms, now_ms);
		forgive(&g->tally.cut, FLAT_WIRE_CUT_PER_S, then_ms, now_ms);
		guest_forget(all, g);
	}
}

static struct flat_guest *find(const struct flat_peers *all, const struct flat_peer *p)
{
	struct flat_guest *g;
	TAILQ_FOREACH(g, &all->guests, link)
	{
		if (flat_peer_is_same_host(&g->host, &p->addr) &&
		    strcmp(g->id, p->link->peer.id) == 0)
			return g;
	}
	return NULL;
}

static struct flat_guest *make(struct flat_peers *all, const struct flat_peer *p)
{
	struct flat_guest *g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	if (!all->hold)
		all->hold = flat_hold_new(NULL, FLAT_WIRE_HELD_MAX);
	g->hold = all->hold ? flat_hold_new(all->hold, FLAT_WIRE_GUEST_HELD_MAX) : NULL;
	if (!g->hold) {
		free(g);
		return NULL;
	}
	g->frames = FLAT_WIRE_FRAMES_TURN;
	g->host = p->addr;
	snprintf(g->id, sizeof(g->id), "%s", p->link->peer.id);
	TAILQ_INIT(&g->asked);
	TAILQ_INSERT_TAIL(&all->guests, g, link);
	return g;
}

void flat_guest_join(struct flat_peer *p)
{
	struct flat_guest *g = find(p->all, p);
	if (!g)
		g = make(p->all, p);
	if (!g) {
		(void)!flat_wire_link_fail(p->link, "out of memory");
		return;
	}
	g->links++;
	p->guest = g;
	p->link->tally = &g->tally;
	p->link->hold = g->hold;
	p->link->quota = &g->frames;
	/* While there was no link, nobody did it. */
	flat_guests_forgive(p->all, flat_now_us() / 1000);
}

bool flat_guest_has_turn(struct flat_peer *p)
{
	struct flat_guest *g = p->guest;
	if (!g) {
		p->frames = FLAT_WIRE_FRAMES_TURN;
		return true;
	}
	if (g->turn != p->all->turn) {
		g->looked_at = 0;
		g->frames = FLAT_WIRE_FRAMES_TURN;
	}
	g->turn = p->all->turn;
	return g->frames > 0 && g->looked_at++ < FLAT_WIRE_GUEST_TURN;
}

void flat_guest_leave(struct flat_peer *p)
{
	struct flat_guest *g = p->guest;
	p->guest = NULL;
	if (!g)
		return;
	g->links--;
	guest_forget(p->all, g);
}

void flat_guest_ask(struct flat_bridge *b)
{
	struct flat_guest *g = b->peer->guest;
	if (TAILQ_EMPTY(&g->asked))
		TAILQ_INSERT_TAIL(&b->peer->all->asking, g, asking_link);
	TAILQ_INSERT_TAIL(&g->asked, b, asked_link);
	b->asked = true;
	g->streams++;
}

static void withdraw(struct flat_bridge *b)
{
	struct flat_guest *g = b->peer->guest;
	TAILQ_REMOVE(&g->asked, b, asked_link);
	b->asked = false;
	if (TAILQ_EMPTY(&g->asked))
		TAILQ_REMOVE(&b->peer->all->asking, g, asking_link);
}

void flat_guest_lose(struct flat_bridge *b)
{
	if (b->asked)
		withdraw(b);
	b->peer->guest->streams--;
}

void flat_guests_begin(struct flat_peers *all)
{
	struct flat_guest *g;
	while (all->to_begin > 0 && (g = TAILQ_FIRST(&all->asking)) != NULL) {
		struct flat_bridge *b = TAILQ_FIRST(&g->asked);
		withdraw(b);
		if (!TAILQ_EMPTY(&g->asked)) {
			TAILQ_REMOVE(&all->asking, g, asking_link);
			TAILQ_INSERT_TAIL(&all->asking, g, asking_link);
		}
		all->to_begin--;
		/* Its link may be over, and the stream's end yet to come. */
		if (b->peer->link)
			flat_bridge_begin(b);
		else
			flat_bridge_gone(b, true);
	}
}
