/* Ends that rest: found by the ready bits of their lanes, in the order in which they got something. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "offload/rest.h"

#define SLOTS 4

static struct flat_lane lanes[2];
static struct flat_rests all;
static struct flat_rest *rests[2];
static struct flat_vq ours[2][SLOTS];
static struct flat_vq theirs[2][SLOTS];
static struct flat_source sources[2][SLOTS];
static const struct flat_source *woken[2 * SLOTS];
static size_t n_woken;
/* The one whose end rests no more once the first is woken. */
static struct flat_vq *pair_of_first;

static void on_wake(struct flat_source *source, int events)
{
	(void)events;
	woken[n_woken++] = source;
	if (pair_of_first && n_woken == 1)
		flat_rest_end(rests[1], pair_of_first);
}

static void setup(void)
{
	const struct flat_lane_geometry geo = {SLOTS, 1024, 16384};
	flat_rests_init(&all);
	for (int l = 0; l < 2; l++) {
		int fd = flat_lane_create(&geo, 1);
		cr_assert_geq(fd, 0);
		cr_assert_eq(flat_lane_map(&lanes[l], fd, &geo, 1), 0);
		close(fd);
		rests[l] = flat_rest_new(&all, flat_lane_side(&lanes[l], FLAT_SIDE_SERVER));
		for (uint32_t i = 0; i < SLOTS; i++) {
			flat_lane_slot_reset(&lanes[l], i);
			flat_vq_init(&theirs[l][i], &flat_vq_shm, &lanes[l], i, FLAT_SIDE_CLIENT,
				     -1, -1);
			flat_vq_init(&ours[l][i], &flat_vq_shm, &lanes[l], i, FLAT_SIDE_SERVER, -1,
				     -1);
			/* A new slot asks for a bell. */
			flat_vq_notify_data(&theirs[l][i]);
			sources[l][i].fn = on_wake;
			struct flat_resting e = {&sources[l][i], &ours[l][i], true, false};
			flat_rest_begin(rests[l], &e);
		}
		(void)flat_lane_take_ready(rests[l]->mine, ~0ULL);
	}
	n_woken = 0;
	pair_of_first = NULL;
}

static void teardown(void)
{
	for (int l = 0; l < 2; l++) {
		flat_rest_free(rests[l]);
		flat_lane_unmap(&lanes[l]);
	}
}

TestSuite(offload_rest, .init = setup, .fini = teardown);

static void give(int lane, int slot)
{
	cr_assert_eq(flat_ring_write(&theirs[lane][slot].tx, "x", 1), 1);
	flat_vq_notify_data(&theirs[lane][slot]);
}

Test(offload_rest, ends_are_told_in_the_order_in_which_they_got_something)
{
	static const int order[][2] = {{1, 2}, {0, 3}, {1, 0}, {0, 1}, {0, 0}, {1, 3}};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(order); i++)
		give(order[i][0], order[i][1]);
	cr_assert(flat_rests_look(&all, 1));
	cr_assert_eq(n_woken, FLAT_ARRAY_SIZE(order));
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(order); i++)
		cr_expect_eq(woken[i], &sources[order[i][0]][order[i][1]], "%zu", i);
	cr_assert_not(flat_rests_look(&all, 2));
}

Test(offload_rest, who_was_woken_with_another_is_not_woken_again)
{
	give(0, 1);
	give(1, 2);
	pair_of_first = &ours[1][2];
	cr_assert(flat_rests_look(&all, 1));
	cr_assert_eq(n_woken, 1);
	cr_assert_eq(woken[0], &sources[0][1]);
}

Test(offload_rest, any_time_that_a_producer_says_is_an_order)
{
	for (int i = 0; i < SLOTS; i++)
		give(0, i);
	for (int i = 0; i < SLOTS; i++)
		atomic_store(&ours[0][i].rx.ctl->prod.woken, i % 2 ? UINT64_MAX : 0);
	cr_assert(flat_rests_look(&all, 1));
	cr_assert_eq(n_woken, SLOTS);
}
