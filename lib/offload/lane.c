/*
 * Lanes as the offload half holds them: made for two parties, charged to one, sealed when no process needs to map
 * them any more, freed with their last slot. docs/design/core.md, section 1, says which seal comes when and why.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/account.h"
#include "offload/rest.h"

static void lane_free(struct flat_offload *o, struct flat_lane_link *lane)
{
	/* A peer may have it mapped for a while yet: its memory goes now. Refused where it is sealed: then we are the last. */
	(void)FLAT_SYS4(SYS_fallocate, lane->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			lane->lane.len_bytes);
	TAILQ_REMOVE(&o->lanes, lane, link);
	if (lane->client) {
		LIST_REMOVE(lane, client_link);
		flat_account_remove(lane->client, FLAT_ACCOUNT_LANE);
	}
	if (lane->listener)
		LIST_REMOVE(lane, listener_link);
	o->n_lanes--;
	o->lane_bytes -= lane->lane.len_bytes;
	flat_lane_unmap(&lane->lane);
	close(lane->fd);
	flat_rest_free(lane->rest);
	free(lane);
}

void flat_lanes_orphan(struct flat_offload *o, const struct flat_session *s,
		       const struct flat_listener *l)
{
	struct flat_lane_link *lane;
	while ((lane = s ? LIST_FIRST(&s->lanes) : LIST_FIRST(&l->lanes)) != NULL) {
		lane->orphan = true;
		if (s) {
			LIST_REMOVE(lane, client_link);
			flat_account_remove(lane->client, FLAT_ACCOUNT_LANE);
			lane->client = NULL;
		} else {
			LIST_REMOVE(lane, listener_link);
			lane->listener = NULL;
		}
		if (lane->used == 0)
			lane_free(o, lane);
	}
}

void flat_lane_dropped(struct flat_offload *o, const struct flat_session *s, uint64_t id)
{
	struct flat_lane_link *lane;
	LIST_FOREACH(lane, &s->lanes, client_link)
	{
		if (lane->id == id)
			break;
	}
	if (!lane)
		return;
	lane->orphan = true;
	if (lane->used == 0)
		lane_free(o, lane);
}

/* Lanes of the client, or else of the listener, last one first. */
static struct flat_lane_link *first_of(const struct flat_session *s, const struct flat_listener *l)
{
	return s ? LIST_FIRST(&s->lanes) : LIST_FIRST(&l->lanes);
}

static struct flat_lane_link *next_of(const struct flat_lane_link *lane,
				      const struct flat_session *s)
{
	return s ? LIST_NEXT(lane, client_link) : LIST_NEXT(lane, listener_link);
}

/* Bytes of lanes that are charged to the client, or else to the listener. */
static uint64_t charged(const struct flat_session *s, const struct flat_listener *l)
{
	const struct flat_lane_link *lane;
	uint64_t bytes = 0;
	for (lane = first_of(s, l); lane; lane = next_of(lane, s)) {
		if (s || (!lane->orphan && !lane->client))
			bytes += lane->lane.len_bytes;
	}
	return bytes;
}

static uint64_t allowance(const struct flat_session *s)
{
	uint64_t own = s && s->workload ? s->workload->limit_memory_bytes : 0;
	return own ? own : FLAT_SESSION_LANE_BYTES_MAX;
}

static uint64_t all_slots(const struct flat_lane_link *lane)
{
	uint32_t n = lane->lane.geo.slots;
	return n == 64 ? ~0ULL : (1ULL << n) - 1;
}

bool flat_lane_full(const struct flat_lane_link *lane)
{
	return (lane->used | lane->tainted) == all_slots(lane);
}

static int lane_new(struct flat_offload *o, uint32_t slots, struct flat_lane_link **out)
{
	struct flat_lane_geometry geo = {slots, FLAT_SMALL_BYTES_DEFAULT, FLAT_BULK_BYTES_DEFAULT};
	struct flat_lane_link *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return -ENOMEM;
	lane->id = ++o->next_id;
	lane->fd = flat_lane_create(&geo, lane->id);
	int err = lane->fd < 0 ? lane->fd : flat_lane_map(&lane->lane, lane->fd, &geo, 0);
	if (err != 0) {
		if (lane->fd >= 0)
			close(lane->fd);
		free(lane);
		return err;
	}
	*out = lane;
	return 0;
}

int flat_lane_get(struct flat_offload *o, struct flat_session *s, struct flat_listener *l,
		  struct flat_lane_link **out)
{
	struct flat_lane_link *lane;
	uint32_t slots = FLAT_LANE_SLOTS_FIRST;
	for (lane = first_of(s, l); lane; lane = next_of(lane, s)) {
		if (lane->orphan || lane->client != s || lane->listener != l)
			continue;
		uint32_t n = lane->lane.geo.slots;
		if (!flat_lane_full(lane)) {
			*out = lane;
			return 0;
		}
		if (n * 4 > slots)
			slots = n * 4 > FLAT_LANE_SLOTS_MAX ? FLAT_LANE_SLOTS_MAX : n * 4;
	}
	struct flat_lane_geometry geo = {slots, FLAT_SMALL_BYTES_DEFAULT, FLAT_BULK_BYTES_DEFAULT};
	if (charged(s, l) + flat_lane_len(&geo) > allowance(s ? s : l->session))
		return -ENOBUFS;
	int err = lane_new(o, slots, &lane);
	if (err != 0)
		return err;
	lane->client = s;
	lane->listener = l;
	if (l)
		flat_lane_share(lane);
	TAILQ_INSERT_HEAD(&o->lanes, lane, link);
	if (s) {
		LIST_INSERT_HEAD(&s->lanes, lane, client_link);
		flat_account_add(s, FLAT_ACCOUNT_LANE);
	}
	if (l)
		LIST_INSERT_HEAD(&l->lanes, lane, listener_link);
	o->n_lanes++;
	o->lane_bytes += lane->lane.len_bytes;
	*out = lane;
	return 0;
}

void flat_lane_share(struct flat_lane_link *lane)
{
	if (!lane->shared)
		(void)flat_sys_fcntl(lane->fd, F_ADD_SEALS, F_SEAL_SEAL);
	lane->shared = true;
}

bool flat_lane_client_maps(struct flat_lane_link *lane)
{
	for (uint64_t used = lane->used; used && !lane->client_maps; used &= used - 1)
		lane->client_maps = flat_lane_slot_touched(
		    &lane->lane, (uint32_t)__builtin_ctzll(used), FLAT_SIDE_CLIENT);
	if (lane->client_maps && !lane->shared && !lane->orphan && !lane->sealed) {
		int err = flat_lane_seal(lane->fd);
		lane->sealed = true;
		if (err < 0)
			flat_warn("lane %llu could not be sealed (rule 2): %s",
				  (unsigned long long)lane->id, strerror(-err));
	}
	return lane->client_maps;
}

struct flat_rest *flat_lane_rest(struct flat_offload *o, struct flat_lane_link *lane,
				 struct flat_lane_side *mine)
{
	/* Without memory for it bells do. */
	if (!lane->rest)
		lane->rest = flat_rest_new(&o->rests, mine);
	return lane->rest;
}

void flat_slot_take(struct flat_end *e, struct flat_lane_link *lane)
{
	e->lane = lane;
	e->slot = (uint32_t)__builtin_ctzll(~(lane->used | lane->tainted));
	lane->used |= 1ULL << e->slot;
	flat_lane_slot_reset(&lane->lane, e->slot);
}

void flat_slot_give(struct flat_offload *o, struct flat_lane_link *lane, uint32_t slot, bool taint)
{
	uint64_t bit = 1ULL << slot;
	(void)flat_lane_client_maps(lane);
	lane->used &= ~bit;
	lane->tainted |= taint ? bit : 0;
	if (lane->used == 0 && (lane->orphan || lane->tainted == all_slots(lane)))
		lane_free(o, lane);
}
