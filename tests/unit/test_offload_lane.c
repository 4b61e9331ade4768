/* Lanes as the offload half gives them out: growth, allowance, seals, slots. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/offload.h"

static struct flat_offload o;
static struct flat_session client = {.offload = &o};
static struct flat_session server = {.offload = &o};
static struct flat_listener listener = {.offload = &o, .session = &server};

static void setup(void)
{
	TAILQ_INIT(&o.lanes);
}

TestSuite(lanes, .init = setup);

static struct flat_lane_link *get(struct flat_session *s, struct flat_listener *l)
{
	struct flat_lane_link *lane = NULL;
	cr_assert_eq(flat_lane_get(&o, s, l, &lane), 0);
	return lane;
}

/* What a process does that got the descriptor. */
static int maps(const struct flat_lane_link *link, struct flat_lane *lane)
{
	return flat_lane_map(lane, link->fd, &link->lane.geo, 1);
}

static void write_as_client(const struct flat_lane *lane, uint32_t slot)
{
	struct flat_ring_tx tx;
	flat_ring_tx_init(&tx, lane, slot, FLAT_SIDE_CLIENT);
	cr_assert_eq(flat_ring_write(&tx, "x", 1), 1);
}

Test(lanes, grow_with_their_connections)
{
	struct flat_end ends[100] = {{.slot = 0}};
	for (int i = 0; i < 100; i++)
		flat_slot_take(&ends[i], get(&client, &listener));
	cr_assert_eq(o.n_lanes, 4);
	cr_assert_eq(ends[3].lane->lane.geo.slots, 4);
	cr_assert_eq(ends[4].lane->lane.geo.slots, 16);
	cr_assert_eq(ends[20].lane->lane.geo.slots, 64);
	cr_assert_eq(ends[99].lane->lane.geo.slots, 64);
	cr_assert_neq(ends[19].lane, ends[20].lane);
}

Test(lanes, are_charged_to_the_client_else_to_the_listener)
{
	struct flat_workload small = {.limit_memory_bytes = (uint64_t)4 << 20};
	struct flat_lane_link *lane;
	struct flat_end e;
	client.workload = &small;
	for (int i = 0; i < 4; i++)
		flat_slot_take(&e, get(&client, &listener));
	cr_assert_eq(flat_lane_get(&o, &client, &listener, &lane), -ENOBUFS);
	cr_assert_eq(flat_lane_get(&o, &client, NULL, &lane), -ENOBUFS);
	/* Another client has an allowance of its own, and plain clients are the server's. */
	struct flat_session other = {.offload = &o, .workload = &small};
	cr_assert_eq(flat_lane_get(&o, &other, &listener, &lane), 0);
	server.workload = &small;
	for (int i = 0; i < 4; i++)
		flat_slot_take(&e, get(NULL, &listener));
	cr_assert_eq(flat_lane_get(&o, NULL, &listener, &lane), -ENOBUFS);
}

Test(lanes, of_one_session_are_sealed_when_it_has_written)
{
	struct flat_lane_link *link = get(&client, NULL);
	struct flat_lane lane;
	struct flat_lane again;
	struct flat_end e;
	flat_slot_take(&e, link);
	cr_assert_not(flat_lane_client_maps(link));
	cr_assert_eq(maps(link, &lane), 0);
	cr_assert_not(flat_lane_client_maps(link));
	write_as_client(&lane, e.slot);
	cr_assert(flat_lane_client_maps(link));
	int seals = fcntl(link->fd, F_GET_SEALS);
	cr_assert_eq(seals & (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL),
		     F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	/* No holes, by whichever way; no further mapping; what is mapped goes on. */
	cr_assert_neq(fallocate(link->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	cr_assert_neq(madvise(lane.base, 4096, MADV_REMOVE), 0);
	cr_assert_neq(maps(link, &again), 0);
	write_as_client(&lane, e.slot);
}

static void stays_open(struct flat_lane_link *link)
{
	struct flat_lane lane;
	struct flat_lane sibling;
	struct flat_end e;
	flat_slot_take(&e, link);
	cr_assert_eq(maps(link, &lane), 0);
	write_as_client(&lane, e.slot);
	cr_assert(flat_lane_client_maps(link));
	cr_assert_eq(maps(link, &sibling), 0);
	cr_assert_neq(fcntl(link->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	cr_assert_neq(ftruncate(link->fd, 0), 0);
}

Test(lanes, of_a_listener_can_be_mapped_by_a_sibling_and_sealed_by_nobody)
{
	stays_open(get(&client, &listener));
}

Test(lanes, that_another_process_was_told_of_likewise)
{
	struct flat_lane_link *link = get(&client, NULL);
	flat_lane_share(link);
	stays_open(link);
}

Test(lanes, a_slot_that_was_cut_is_not_given_out_again)
{
	struct flat_lane_link *link = get(&client, &listener);
	struct flat_end e[4];
	for (int i = 0; i < 4; i++)
		flat_slot_take(&e[i], link);
	flat_slot_give(&o, link, e[1].slot, true);
	flat_slot_give(&o, link, e[2].slot, false);
	struct flat_end again;
	flat_slot_take(&again, get(&client, &listener));
	cr_assert_eq(again.lane, link);
	cr_assert_eq(again.slot, e[2].slot);
	cr_assert_neq(get(&client, &listener), link);
}

Test(lanes, one_with_none_but_cut_slots_goes)
{
	struct flat_lane_link *link = get(&client, &listener);
	struct flat_end e[4];
	for (int i = 0; i < 4; i++)
		flat_slot_take(&e[i], link);
	cr_assert_eq(o.n_lanes, 1);
	for (int i = 0; i < 4; i++)
		flat_slot_give(&o, link, e[i].slot, true);
	cr_assert_eq(o.n_lanes, 0);
	cr_assert_eq(o.lane_bytes, 0);
}

Test(lanes, go_with_their_parties)
{
	struct flat_end e;
	(void)get(&client, NULL);
	flat_slot_take(&e, get(&client, &listener));
	cr_assert_eq(o.n_lanes, 2);
	flat_lanes_orphan(&o, &client, NULL);
	/* The one in use stays for its connection. */
	cr_assert_eq(o.n_lanes, 1);
	flat_slot_give(&o, e.lane, e.slot, false);
	cr_assert_eq(o.n_lanes, 0);
}
