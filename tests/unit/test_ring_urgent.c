/* Urgent bytes in a ring: where reads halt, what is lost with a second one, and words that no honest producer writes. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vq/vq.h"

static struct flat_lane lane;
static struct flat_ring_tx tx;
static struct flat_ring_rx rx;
static uint8_t got[32768];

static void begin_at(uint32_t at)
{
	flat_lane_slot_reset(&lane, 0);
	flat_ring_tx_init(&tx, &lane, 0, 0);
	flat_ring_rx_init(&rx, &lane, 0, 0);
	tx.tail = tx.head = tx.turn_pos = at;
	rx.head = rx.tail = at;
	rx.halts = 1;
	atomic_store(&tx.ctl->prod.tail, at);
	atomic_store(&tx.ctl->cons.head, at);
}

static void setup(void)
{
	struct flat_lane_geometry geo = {4, 1024, 16384};
	int fd = flat_lane_create(&geo, 7);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&lane, fd, &geo, 1), 0);
	close(fd);
	begin_at(0);
}

static void teardown(void)
{
	flat_lane_unmap(&lane);
}

TestSuite(ring_urgent, .init = setup, .fini = teardown);

static void put(const char *text)
{
	cr_assert_eq(flat_ring_write(&tx, text, strlen(text)), (ssize_t)strlen(text));
}

static void put_urgent(const char *text)
{
	cr_assert_eq(flat_ring_write_urgent(&tx, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect(const char *text)
{
	memset(got, 0, 100);
	ssize_t n = flat_ring_read(&rx, got, sizeof(got), 1);
	cr_assert_eq(n, (ssize_t)strlen(text), "%zd bytes, not '%s'", n, text);
	cr_assert_eq(memcmp(got, text, strlen(text)), 0, "'%s'", (char *)got);
}

static void expect_urgent(int how, uint32_t ahead)
{
	uint32_t at = 0;
	cr_assert_eq(flat_ring_urgent(&rx, false, &at), how);
	cr_assert_eq(at, ahead, "%u bytes before it", at);
}

/* As a reader that does not have urgent bytes in line. */
static void skip(void)
{
	expect_urgent(FLAT_URGENT_THERE, 0);
	flat_ring_urgent_pass(&rx);
	flat_ring_consume(&rx, 1);
}

Test(ring_urgent, halts_a_read_and_is_passed)
{
	cr_assert_not(flat_ring_marked(&rx));
	put_urgent("ab!");
	put("cd");
	cr_assert(flat_ring_marked(&rx));
	expect_urgent(FLAT_URGENT_THERE, 2);
	flat_ring_urgent_take(&rx);
	expect_urgent(FLAT_URGENT_TAKEN, 2);
	expect("ab");
	expect("");
	expect_urgent(FLAT_URGENT_TAKEN, 0);
	flat_ring_urgent_pass(&rx);
	expect("!cd");
	cr_assert_not(flat_ring_marked(&rx));
	expect_urgent(FLAT_URGENT_NONE, 0);
}

Test(ring_urgent, halts_a_peek_too)
{
	struct iovec iov[2];
	int n;
	put_urgent("ab!");
	put("cd");
	cr_assert_eq(flat_ring_read(&rx, got, 100, 0), 2);
	cr_assert_eq(flat_ring_peek(&rx, iov, &n), 2);
	expect("ab");
	cr_assert_eq(flat_ring_peek(&rx, iov, &n), 0);
	cr_assert_eq(flat_ring_look(&rx, 1, (struct iovec[4]){{0}}, &n), 2);
}

Test(ring_urgent, one_who_does_not_halt_reads_on)
{
	rx.halts = 0;
	put_urgent("ab!");
	put("cd");
	expect("ab!cd");
}

/* At each position around the end of the numbers, before and behind a turn of rings. */
Test(ring_urgent, holds_across_the_end_of_positions_and_turns)
{
	static uint8_t bytes[20000];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31);
	for (uint32_t before = 0; before < 3000; before += 7) {
		begin_at(0U - 1000U);
		if (before)
			cr_assert_eq(flat_ring_write(&tx, bytes, before), before);
		cr_assert_eq(flat_ring_write_urgent(&tx, bytes + before, 5), 5);
		cr_assert_eq(flat_ring_write(&tx, bytes + before + 5, 4000), 4000);
		expect_urgent(FLAT_URGENT_THERE, before + 4);
		cr_assert_eq(flat_ring_read(&rx, got, sizeof(got), 1), before + 4);
		cr_assert_eq(memcmp(got, bytes, before + 4), 0);
		skip();
		cr_assert_eq(flat_ring_read(&rx, got, sizeof(got), 1), 4000);
		cr_assert_eq(memcmp(got, bytes + before + 5, 4000), 0);
	}
}

Test(ring_urgent, second_one_makes_the_first_an_ordinary_byte)
{
	put_urgent("ab!");
	expect_urgent(FLAT_URGENT_THERE, 2);
	put_urgent("cd?");
	expect_urgent(FLAT_URGENT_THERE, 5);
	expect("ab!cd");
	skip();
	expect("");
}

Test(ring_urgent, one_that_is_next_is_lost_with_a_second_one)
{
	put_urgent("ab!");
	expect("ab");
	put_urgent("cd?");
	expect("");
	expect_urgent(FLAT_URGENT_THERE, 2);
	expect("cd");
	skip();
	expect("");
}

Test(ring_urgent, all_that_were_next_are_lost)
{
	put_urgent("1");
	put_urgent("2");
	put_urgent("3");
	put("xy");
	put_urgent("4");
	expect_urgent(FLAT_URGENT_THERE, 2);
	expect("xy");
	skip();
	expect("");
}

Test(ring_urgent, in_line_none_is_lost)
{
	uint32_t ahead = 0;
	put_urgent("1");
	put_urgent("2");
	expect("");
	cr_assert_eq(flat_ring_urgent(&rx, true, &ahead), FLAT_URGENT_THERE);
	cr_assert_eq(ahead, 1);
	expect("1");
	flat_ring_urgent_pass(&rx);
	expect("2");
}

Test(ring_urgent, who_read_on_loses_nothing)
{
	put_urgent("1");
	skip();
	put("ab");
	put_urgent("2");
	expect("ab");
	skip();
	put_urgent("3");
	skip();
	expect("");
}

Test(ring_urgent, its_state_is_taken_up_by_others_who_hold_the_end)
{
	struct flat_ring_rx other;
	flat_ring_rx_init(&other, &lane, 0, 0);
	put_urgent("ab!");
	expect_urgent(FLAT_URGENT_THERE, 2);
	flat_ring_urgent_take(&rx);
	cr_assert(flat_ring_marked_any(&other));
	cr_assert_eq(flat_ring_rx_resume(&other), 0);
	uint32_t ahead = 0;
	cr_assert_eq(flat_ring_urgent(&other, false, &ahead), FLAT_URGENT_TAKEN);
	cr_assert_eq(ahead, 2);
	expect("ab");
	flat_ring_urgent_pass(&rx);
	cr_assert_not(flat_ring_marked_any(&other));
}

Test(ring_urgent, goes_on_to_another_ring)
{
	struct flat_ring_tx out;
	struct flat_ring_rx in;
	struct flat_urgent_passed u;
	flat_ring_tx_init(&out, &lane, 1, 0);
	flat_ring_rx_init(&in, &lane, 1, 0);
	flat_lane_slot_reset(&lane, 1);
	in.halts = 1;
	rx.halts = 0;
	put_urgent("ab!");
	put("cd");
	cr_assert_eq(flat_ring_read(&rx, got, 2, 1), 2);
	cr_assert_not(flat_ring_urgent_in(&rx, 2, &u));
	cr_assert_eq(flat_ring_write(&out, got, 2), 2);
	cr_assert_eq(flat_ring_read(&rx, got, 100, 1), 3);
	cr_assert(flat_ring_urgent_in(&rx, 3, &u));
	cr_assert_eq(u.at, 0);
	flat_ring_mark_passed(&out, &u);
	cr_assert_eq(flat_ring_write(&out, got, 3), 3);
	cr_assert_not(flat_ring_marked(&rx));
	cr_assert_eq(flat_ring_read(&in, got, 100, 1), 2);
	cr_assert_eq(flat_ring_read(&in, got, 100, 1), 0);
}

/* Several at once: of those that were next to be read when they came the last reader gets none. */
Test(ring_urgent, what_is_lost_goes_on_to_another_ring)
{
	struct flat_ring_tx out;
	struct flat_ring_rx in;
	struct flat_urgent_passed u;
	uint32_t ahead = 0;
	flat_ring_tx_init(&out, &lane, 1, 0);
	flat_ring_rx_init(&in, &lane, 1, 0);
	flat_lane_slot_reset(&lane, 1);
	in.halts = 1;
	rx.halts = 0;
	put_urgent("1");
	put_urgent("2");
	put("xy");
	put_urgent("3");
	cr_assert_eq(flat_ring_read(&rx, got, 100, 1), 5);
	cr_assert(flat_ring_urgent_in(&rx, 5, &u));
	flat_ring_mark_passed(&out, &u);
	cr_assert_eq(flat_ring_write(&out, got, 5), 5);
	cr_assert_eq(flat_ring_urgent(&in, false, &ahead), FLAT_URGENT_THERE);
	cr_assert_eq(ahead, 2);
	cr_assert_eq(flat_ring_read(&in, got, 100, 1), 2);
	cr_assert_eq(memcmp(got, "xy", 2), 0);
}

Test(ring_urgent, a_mark_that_is_no_byte_there_means_nothing)
{
	const uint32_t lies[] = {5, 6, 1000, 18000, 20000, 1U << 31, 0U - 1U, 0U - 20000U};
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		begin_at(100);
		put("abcde");
		atomic_store(&tx.ctl->prod.urgent, FLAT_URGENT(100 + lies[i], 9));
		expect_urgent(FLAT_URGENT_NONE, 0);
		expect("abcde");
		put("fg");
		struct flat_urgent_passed u;
		ssize_t n = flat_ring_read(&rx, got, 100, 1);
		cr_assert_geq(n, 0);
		(void)!flat_ring_urgent_in(&rx, (uint32_t)n, &u);
	}
}

Test(ring_urgent, more_lost_than_there_is_before_it_is_none)
{
	put("ab");
	atomic_store(&tx.ctl->prod.dropped, FLAT_DROPPED(0, 3, 1));
	atomic_store(&tx.ctl->prod.urgent, FLAT_URGENT(1, 1));
	expect_urgent(FLAT_URGENT_THERE, 1);
	expect("a");
}

/* Whatever the words are: positions stay inside what was sent, or it is a breach. */
Test(ring_urgent, words_of_chance)
{
	srand(5);
	for (uint32_t i = 0; i < 200000; i++) {
		if (i % 50 == 0)
			begin_at((uint32_t)rand());
		uint32_t near = rx.head + (uint32_t)(rand() % 64) - 16;
		atomic_store(&tx.ctl->prod.dropped,
			     FLAT_DROPPED(rand() % 2 ? rx.head : near, (uint32_t)rand() % 8, i));
		atomic_store(&tx.ctl->prod.urgent,
			     FLAT_URGENT(rand() % 8 ? near : (uint32_t)rand(), i));
		if (flat_ring_space(&tx) > 100)
			cr_assert_gt(flat_ring_write(&tx, got, 1 + (size_t)rand() % 40), 0);
		uint32_t ahead = 0;
		int how = flat_ring_urgent(&rx, rand() % 2, &ahead);
		cr_assert_geq(how, 0);
		ssize_t there = flat_ring_pending(&rx);
		cr_assert_eq(there, (ssize_t)(tx.tail - rx.head));
		cr_assert(how == FLAT_URGENT_NONE || (ssize_t)ahead < there);
		if (how != FLAT_URGENT_NONE && rand() % 2)
			flat_ring_urgent_take(&rx);
		if (how != FLAT_URGENT_NONE && rand() % 2)
			flat_ring_urgent_pass(&rx);
		ssize_t n = flat_ring_read(&rx, got, (size_t)(rand() % 60), rand() % 2);
		cr_assert_geq(n, 0);
		cr_assert_leq(n, there);
	}
}

Test(ring_urgent, a_look_changes_nothing)
{
	uint32_t ahead = 0;
	uint32_t lost = 0;
	put_urgent("1");
	put_urgent("2");
	put("xy");
	put_urgent("3");
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(flat_ring_urgent_look(&rx, false, &ahead, &lost), FLAT_URGENT_THERE);
		cr_assert_eq(ahead, 2);
		cr_assert_eq(lost, 2);
		cr_assert_eq(flat_ring_urgent_look(&rx, true, &ahead, &lost), FLAT_URGENT_THERE);
		cr_assert_eq(ahead, 4);
		cr_assert_eq(lost, 0);
		cr_assert_eq(flat_ring_pending(&rx), 5);
		cr_assert_eq(atomic_load(&rx.ctl->cons.urged), 0);
	}
	atomic_store(&tx.ctl->prod.urgent, FLAT_URGENT(tx.tail - 100, 9));
	cr_assert_eq(flat_ring_urgent_look(&rx, false, &ahead, &lost), FLAT_URGENT_NONE);
	cr_assert_eq(atomic_load(&rx.ctl->cons.urged), 0);
}
