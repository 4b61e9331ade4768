#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "vq/vq.h"

static struct flat_lane lane;

static void setup(void)
{
	struct flat_lane_geometry geo = {4, 1024, 16384};
	int fd = flat_lane_create(&geo, 7);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&lane, fd, &geo, 1), 0);
	cr_assert_eq(flat_lane_seal(fd), 0);
	close(fd);
	flat_lane_slot_reset(&lane, 0);
}

static void teardown(void)
{
	flat_lane_unmap(&lane);
}

TestSuite(ring, .init = setup, .fini = teardown);

/* Both ends of direction 0, as if `at` bytes had gone through. */
static void ends_at(struct flat_ring_tx *tx, struct flat_ring_rx *rx, uint32_t at)
{
	flat_ring_tx_init(tx, &lane, 0, 0);
	flat_ring_rx_init(rx, &lane, 0, 0);
	tx->tail = tx->head = tx->turn_pos = at;
	rx->head = rx->tail = at;
	atomic_store(&tx->ctl->prod.tail, at);
	atomic_store(&tx->ctl->cons.head, at);
}

/* Sends and takes `total` bytes in pieces of random sizes and compares each. */
static void stream_through(uint32_t at, size_t total, size_t piece_max)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	uint8_t buf[32768];
	size_t sent = 0;
	size_t taken = 0;
	ends_at(&tx, &rx, at);
	srand(at + (unsigned int)piece_max);
	while (taken < total) {
		size_t want = 1 + (size_t)rand() % piece_max;
		if (want > total - sent)
			want = total - sent;
		for (size_t i = 0; i < want; i++)
			buf[i] = (uint8_t)((sent + i) * 31 + ((sent + i) >> 8));
		ssize_t n = want ? flat_ring_write(&tx, buf, want) : 0;
		cr_assert_geq(n, 0);
		sent += (size_t)n;
		n = flat_ring_read(&rx, buf, 1 + (size_t)rand() % piece_max, 1);
		cr_assert_geq(n, 0);
		for (size_t i = 0; i < (size_t)n; i++)
			cr_assert_eq(buf[i], (uint8_t)((taken + i) * 31 + ((taken + i) >> 8)),
				     "byte %zu", taken + i);
		taken += (size_t)n;
	}
}

static void write_all(struct flat_ring_tx *tx, size_t len)
{
	static uint8_t buf[32768];
	cr_assert_eq(flat_ring_write(tx, buf, len), (ssize_t)len);
}

static void read_all(struct flat_ring_rx *rx, size_t len)
{
	static uint8_t buf[32768];
	cr_assert_eq(flat_ring_read(rx, buf, len, 1), (ssize_t)len);
}

Test(ring, small_messages_arrive)
{
	stream_through(0, 100000, 200);
}

Test(ring, large_writes_turn_and_arrive)
{
	stream_through(0, 2000000, 20000);
	flat_lane_slot_reset(&lane, 0);
	stream_through(0, 2000000, 3000);
}

Test(ring, what_is_too_large_for_small_goes_to_mid_if_nothing_is_unread)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	ends_at(&tx, &rx, 0);
	write_all(&tx, 1025);
	cr_assert_eq(tx.which, FLAT_RING_MID);
	read_all(&rx, 1025);
	flat_lane_slot_reset(&lane, 0);
	ends_at(&tx, &rx, 0);
	write_all(&tx, 2049);
	cr_assert_eq(tx.which, FLAT_RING_BULK, "too large for mid");
	read_all(&rx, 2049);
	flat_lane_slot_reset(&lane, 0);
	ends_at(&tx, &rx, 0);
	write_all(&tx, 1);
	write_all(&tx, 1025);
	cr_assert_eq(tx.which, FLAT_RING_BULK, "with bytes unread");
	read_all(&rx, 1026);
}

/* However it came to its ring, a producer whose consumer stands still can write what a bulk ring holds. */
Test(ring, a_mid_ring_makes_a_stream_hold_no_less)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	for (size_t first = 1; first <= 2048; first += 89) {
		flat_lane_slot_reset(&lane, 0);
		ends_at(&tx, &rx, 0);
		write_all(&tx, 200);
		read_all(&rx, 200);
		write_all(&tx, first);
		cr_assert_eq(flat_ring_space(&tx), 16384, "after %zu", first);
		write_all(&tx, 16384);
		cr_assert_eq(flat_ring_write(&tx, "x", 1), 0);
		read_all(&rx, first + 16384);
	}
}

/* Small, mid and bulk while the consumer looks away: it learns of the last turn alone, with the ring that it finds first. */
Test(ring, a_consumer_may_miss_a_turn)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	uint8_t in[1200];
	uint8_t out[5000];
	ends_at(&tx, &rx, 0);
	write_all(&tx, 100);
	read_all(&rx, 100);
	memset(in, 'm', sizeof(in));
	cr_assert_eq(flat_ring_write(&tx, in, 1200), 1200);
	cr_assert_eq(tx.which, FLAT_RING_MID);
	memset(in, 'b', sizeof(in));
	cr_assert_eq(flat_ring_write(&tx, in, 1200), 1200);
	cr_assert_eq(tx.which, FLAT_RING_BULK);
	for (int resumed = 0; resumed < 2; resumed++) {
		if (resumed)
			cr_assert_eq(flat_ring_rx_resume(&rx), 0);
		cr_assert_eq(flat_ring_read(&rx, out, sizeof(out), 0), 2400);
		cr_assert_eq(out[0], 'm');
		cr_assert_eq(out[1199], 'm');
		cr_assert_eq(out[1200], 'b');
	}
	read_all(&rx, 2400);
	cr_assert_eq(rx.which, FLAT_RING_BULK);
}

Test(ring, a_turn_to_a_ring_that_is_none_breaks_the_queue)
{
	static const uint8_t bad[][2] = {{3, FLAT_RING_BULK}, {FLAT_RING_SMALL, 3}, {3, 3}, {2, 2}};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		struct flat_ring_tx tx;
		struct flat_ring_rx rx;
		char byte;
		flat_lane_slot_reset(&lane, 0);
		ends_at(&tx, &rx, 0);
		write_all(&tx, 1);
		atomic_store(&tx.ctl->prod.turn, FLAT_TURN(0, 1, bad[i][0], bad[i][1]));
		cr_assert_eq(flat_ring_read(&rx, &byte, 1, 1), -EPROTO, "%zu", i);
		cr_assert_eq(flat_ring_tx_resume(&tx), -EPROTO, "%zu", i);
		cr_assert_eq(flat_ring_rx_resume(&rx), -EPROTO, "%zu", i);
	}
}

Test(ring, positions_wrap_at_2_to_the_32)
{
	stream_through(UINT32_MAX - 5000, 200000, 300);
	flat_lane_slot_reset(&lane, 0);
	stream_through(UINT32_MAX - 100000, 2000000, 20000);
}

Test(ring, full_is_zero_and_empty_is_zero)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	static uint8_t buf[65536];
	ssize_t n;
	size_t all = 0;
	ends_at(&tx, &rx, 0);
	cr_assert_eq(flat_ring_read(&rx, buf, 10, 1), 0);
	while ((n = flat_ring_write(&tx, buf, sizeof(buf))) > 0)
		all += (size_t)n;
	cr_assert_eq(n, 0);
	cr_assert_eq(all, 16384);
	cr_assert_eq(flat_ring_unsent(&tx), (ssize_t)all);
	cr_assert_eq(flat_ring_pending(&rx), (ssize_t)all);
}

Test(ring, a_peek_sees_across_a_turn_and_takes_nothing)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	uint8_t out[3000];
	uint8_t in[2000];
	memset(in, 'b', sizeof(in));
	ends_at(&tx, &rx, 0);
	cr_assert_eq(flat_ring_write(&tx, "aaaa", 4), 4);
	cr_assert_eq(flat_ring_write(&tx, in, sizeof(in)), (ssize_t)sizeof(in));
	cr_assert_eq(flat_ring_read(&rx, out, sizeof(out), 0), 2004);
	cr_assert_eq(out[3], 'a');
	cr_assert_eq(out[4], 'b');
	cr_assert_eq(flat_ring_read(&rx, out, sizeof(out), 1), 2004);
	cr_assert_eq(flat_ring_pending(&rx), 0);
}

/* The consumer's line is looked at every FLAT_RING_SMALL_LOOK writes: a drained stream is seen then, and so is a lie. */
Test(ring, small_writes_in_bulk_look_at_the_consumer_now_and_then)
{
	static uint8_t large[4096];
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	int looked = 0;
	ends_at(&tx, &rx, 0);
	cr_assert_eq(flat_ring_write(&tx, large, sizeof(large)), (ssize_t)sizeof(large));
	cr_assert_eq(tx.which, FLAT_RING_BULK, "large writes go to bulk");
	cr_assert_eq(flat_ring_read(&rx, large, sizeof(large), 1), (ssize_t)sizeof(large));
	for (int i = 1; i <= FLAT_RING_SMALL_RUN; i++) {
		uint32_t before = tx.head;
		cr_assert_eq(flat_ring_write(&tx, "x", 1), 1);
		looked += tx.head != before;
		cr_assert_eq(flat_ring_read(&rx, large, 1, 1), 1);
		cr_assert_eq(tx.which == FLAT_RING_BULK, i < FLAT_RING_SMALL_RUN, "write %d", i);
	}
	cr_assert_eq(looked, FLAT_RING_SMALL_RUN / FLAT_RING_SMALL_LOOK);
	cr_assert_eq(tx.which, FLAT_RING_MID, "one step at a time");
	for (int i = 1; i <= FLAT_RING_SMALL_RUN; i++) {
		cr_assert_eq(tx.which, FLAT_RING_MID, "write %d", i);
		write_all(&tx, 100);
		read_all(&rx, 100);
	}
	cr_assert_eq(tx.which, FLAT_RING_SMALL);

	flat_lane_slot_reset(&lane, 0);
	ends_at(&tx, &rx, 0);
	cr_assert_eq(flat_ring_write(&tx, large, sizeof(large)), (ssize_t)sizeof(large));
	atomic_store(&tx.ctl->cons.head, 0x80000000U);
	ssize_t n = 1;
	for (int i = 1; i <= FLAT_RING_SMALL_LOOK && n == 1; i++)
		n = flat_ring_write(&tx, "x", 1);
	cr_assert_eq(n, -EPROTO, "%zd", n);
}

Test(ring, a_hostile_word_breaks_the_queue_and_nothing_else)
{
	static const uint32_t bad[] = {0x80000000U, 0xffffffffU, 18433, 0x01000000U};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct flat_ring_tx tx;
		struct flat_ring_rx rx;
		uint8_t buf[64];
		flat_lane_slot_reset(&lane, 0);
		ends_at(&tx, &rx, 0);
		atomic_store(&rx.ctl->prod.tail, bad[i]);
		cr_assert_eq(flat_ring_read(&rx, buf, sizeof(buf), 1), -EPROTO, "tail %u", bad[i]);
		ends_at(&tx, &rx, 0);
		atomic_store(&tx.ctl->cons.head, bad[i]);
		cr_assert_eq(flat_ring_unsent(&tx), -EPROTO, "head %u", bad[i]);
		flat_lane_slot_reset(&lane, 0);
		ends_at(&tx, &rx, 0);
		cr_assert_eq(flat_ring_write(&tx, "x", 1), 1);
		atomic_store(&rx.ctl->prod.turn, FLAT_TURN(0x40000000U + bad[i] / 2, 1,
							   FLAT_RING_SMALL, FLAT_RING_BULK));
		cr_assert_eq(flat_ring_read(&rx, buf, sizeof(buf), 1), -EPROTO, "turn %u", bad[i]);
	}
}

Test(ring, a_taken_arm_sets_the_ready_bit_and_rings)
{
	int pair[2];
	struct flat_vq a;
	struct flat_vq b;
	char byte;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	flat_vq_init(&a, &flat_vq_shm, &lane, 0, FLAT_SIDE_CLIENT, -1, pair[1]);
	flat_vq_init(&b, &flat_vq_shm, &lane, 0, FLAT_SIDE_SERVER, pair[0], -1);
	/* A new slot is armed with BELL; who asks for a ready bit does not take that back. */
	flat_vq_arm_rx(&b, FLAT_ARM_READY);
	flat_vq_notify_data(&a);
	cr_assert_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), 1);
	cr_assert_eq(flat_lane_take_ready(b.mine, ~0ULL), 1);
	flat_vq_arm_rx(&b, FLAT_ARM_READY);
	cr_assert_eq(flat_ring_write(&a.tx, "x", 1), 1);
	flat_vq_notify_data(&a);
	cr_assert_eq(flat_lane_take_ready(b.mine, ~0ULL), 1);
	cr_assert_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1);
	flat_vq_arm_rx(&b, FLAT_ARM_BELL);
	flat_vq_notify_data(&a);
	cr_assert_eq(flat_vq_take_bells(&b), 0);
	cr_assert_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1);
	flat_vq_notify_data(&a);
	cr_assert_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1, "nobody asked: no bell");
	close(pair[0]);
	close(pair[1]);
}

static struct flat_lane_side *two_slots(int pair[2][2], struct flat_vq a[2], struct flat_vq b[2])
{
	for (uint32_t i = 0; i < 2; i++) {
		flat_lane_slot_reset(&lane, i);
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
		flat_vq_init(&a[i], &flat_vq_shm, &lane, i, FLAT_SIDE_CLIENT, -1, pair[i][1]);
		flat_vq_init(&b[i], &flat_vq_shm, &lane, i, FLAT_SIDE_SERVER, pair[i][0], -1);
		flat_vq_disarm_rx(&b[i]);
	}
	return b[0].mine;
}

static bool was_rung(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT) == 1;
}

Test(ring, who_waits_for_room_is_told_of_a_third_of_the_ring)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	static uint8_t bytes[16384];
	(void)two_slots(pair, a, b);
	/* The producer is side 1, and waits at the other end of its own anchor. */
	a[0].bell_fd = pair[0][1];
	while (flat_ring_write(&b[0].tx, bytes, sizeof(bytes)) > 0)
		;
	flat_vq_arm_tx(&b[0], FLAT_ARM_BELL);
	cr_assert_eq(flat_ring_read(&a[0].rx, bytes, 5000, 1), 5000);
	flat_vq_notify_room(&a[0]);
	cr_assert_not(was_rung(pair[0][0]));
	cr_assert_eq(flat_ring_read(&a[0].rx, bytes, 462, 1), 462);
	flat_vq_notify_room(&a[0]);
	cr_assert(was_rung(pair[0][0]));
	/* An end is told at once. */
	while (flat_ring_write(&b[0].tx, bytes, sizeof(bytes)) > 0)
		;
	flat_vq_arm_tx(&b[0], FLAT_ARM_BELL);
	flat_vq_end_rx(&a[0], FLAT_CONS_CLOSED);
	cr_assert(was_rung(pair[0][0]));
}

/* Bytes that go through the ring; the consumer tells of room. Returns whether the producer's anchor was rung. */
static bool rings_for(struct flat_vq *from, struct flat_vq *to, size_t n, int anchor)
{
	static uint8_t bytes[4096];
	cr_assert_eq(flat_ring_write(&from->tx, bytes, n), (ssize_t)n);
	cr_assert_eq(flat_ring_read(&to->rx, bytes, n, 1), (ssize_t)n);
	flat_vq_notify_room(to);
	return was_rung(anchor);
}

/* Of a ring of 16 KiB: 1 KiB. An honest producer does not sleep with so much room. */
Test(ring, who_waits_for_room_is_looked_for_once_a_sixteenth_of_the_ring_was_seen)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	(void)two_slots(pair, a, b);
	a[0].bell_fd = pair[0][1];
	cr_assert_eq(a[0].rx.mask[FLAT_RING_BULK], 16383);
	flat_vq_arm_tx(&b[0], FLAT_ARM_BELL);
	cr_expect_not(rings_for(&b[0], &a[0], 512, pair[0][0]));
	cr_expect_not(rings_for(&b[0], &a[0], 512, pair[0][0]));
	cr_expect(rings_for(&b[0], &a[0], 1, pair[0][0]));
	/* From there on anew. */
	flat_vq_arm_tx(&b[0], FLAT_ARM_BELL);
	cr_expect_not(rings_for(&b[0], &a[0], 1024, pair[0][0]));
	cr_expect(rings_for(&b[0], &a[0], 1, pair[0][0]));
	/* Another process that takes the end up knows not what was seen. */
	flat_vq_arm_tx(&b[0], FLAT_ARM_BELL);
	cr_assert_eq(flat_ring_rx_resume(&a[0].rx), 0);
	cr_expect(rings_for(&b[0], &a[0], 1, pair[0][0]));
}

Test(ring, who_may_wait_for_room_finds_a_quarter_free_at_most)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	static uint8_t bytes[16384];
	(void)two_slots(pair, a, b);
	cr_expect(flat_ring_writable(&b[0].tx, flat_ring_space(&b[0].tx)));
	cr_assert_eq(flat_ring_write(&b[0].tx, bytes, 12287), 12287);
	cr_expect(flat_ring_writable(&b[0].tx, flat_ring_space(&b[0].tx)));
	cr_assert_eq(flat_ring_write(&b[0].tx, bytes, 1), 1);
	cr_expect_not(flat_ring_writable(&b[0].tx, flat_ring_space(&b[0].tx)));
	cr_expect_not(flat_ring_writable(&b[0].tx, -EPROTO));
}

Test(ring, one_bell_wakes_a_waiter_of_many_slots)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	struct flat_lane_side *mine = two_slots(pair, a, b);
	uint32_t nap = flat_lane_nap_new(mine);
	cr_assert(nap >= 1 && nap <= FLAT_NAPS_MAX);
	/* Awake: nobody rings. */
	flat_vq_arm_rx(&b[0], FLAT_ARM_READY_NAP(nap));
	flat_vq_notify_data(&a[0]);
	cr_assert_not(was_rung(pair[0][0]));
	cr_assert_eq(flat_lane_take_ready(mine, 3), 1);
	/* Asleep: the first one rings. */
	for (int i = 0; i < 2; i++)
		flat_vq_arm_rx(&b[i], FLAT_ARM_READY_NAP(nap));
	flat_lane_nap_begin(mine, nap, 7);
	for (int i = 0; i < 2; i++)
		flat_vq_notify_data(&a[i]);
	cr_assert(was_rung(pair[0][0]));
	cr_assert_not(was_rung(pair[1][0]), "it is about to wake");
	flat_lane_nap_end(mine, nap);
	cr_assert_eq(flat_lane_take_ready(mine, 3), 3);
	/* Several asleep: each rings. */
	for (int i = 0; i < 2; i++)
		flat_vq_arm_rx(&b[i], FLAT_ARM_READY_NAP(nap));
	flat_lane_nap_begin(mine, nap, FLAT_NAP_MANY);
	for (int i = 0; i < 2; i++)
		flat_vq_notify_data(&a[i]);
	cr_assert(was_rung(pair[0][0]) && was_rung(pair[1][0]));
	flat_lane_nap_end(mine, nap);
}

Test(ring, a_bell_that_nobody_could_hear_leaves_the_nap_up)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	struct flat_lane_side *mine = two_slots(pair, a, b);
	uint32_t nap = flat_lane_nap_new(mine);
	for (int i = 0; i < 2; i++)
		flat_vq_arm_rx(&b[i], FLAT_ARM_READY_NAP(nap));
	flat_lane_nap_begin(mine, nap, 8);
	close(pair[0][0]);
	for (int i = 0; i < 2; i++)
		flat_vq_notify_data(&a[i]);
	cr_assert(was_rung(pair[1][0]));
}

Test(ring, a_slot_that_is_left_takes_no_nap)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	struct flat_lane_side *mine = two_slots(pair, a, b);
	uint32_t nap = flat_lane_nap_new(mine);
	for (int i = 0; i < 2; i++)
		flat_vq_arm_rx(&b[i], FLAT_ARM_READY_NAP(nap));
	flat_vq_leave(&b[0]);
	flat_lane_nap_begin(mine, nap, 9);
	for (int i = 0; i < 2; i++)
		flat_vq_notify_data(&a[i]);
	cr_assert(was_rung(pair[0][0]), "who else waits there is rung");
	cr_assert(was_rung(pair[1][0]));
	flat_lane_nap_end(mine, nap);
}

Test(ring, naps_and_their_numbers_that_cannot_be_are_harmless)
{
	int pair[2][2];
	struct flat_vq a[2];
	struct flat_vq b[2];
	struct flat_lane_side *mine = two_slots(pair, a, b);
	/* A number beyond all naps asks for a bell; so does a word that is no wish at all. */
	static const uint32_t bad[] = {FLAT_ARM_READY_NAP(FLAT_NAPS_MAX + 1), 0xffffffffU, 0x103U};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		atomic_store(&b[0].rx.ctl->arm.data, bad[i]);
		flat_vq_notify_data(&a[0]);
		cr_assert(was_rung(pair[0][0]), "%x", bad[i]);
	}
	/* All given out, or so the words say. */
	while (flat_lane_nap_new(mine) != 0)
		;
	cr_assert_eq(atomic_load(&mine->naps), FLAT_NAPS_MAX);
	atomic_store(&mine->naps, 0xffffffffU);
	cr_assert_eq(flat_lane_nap_new(mine), 0);
	atomic_store(&mine->naps, 0);
	/* Somebody else's wish is replaced, a bell's is not. */
	flat_vq_arm_rx(&b[0], FLAT_ARM_READY_NAP(3));
	flat_vq_arm_rx(&b[0], FLAT_ARM_READY_NAP(4));
	cr_assert_eq(atomic_load(&b[0].rx.ctl->arm.data), FLAT_ARM_READY_NAP(4));
	flat_vq_arm_rx(&b[0], FLAT_ARM_BELL);
	flat_vq_arm_rx(&b[0], FLAT_ARM_READY_NAP(4));
	cr_assert_eq(atomic_load(&b[0].rx.ctl->arm.data), FLAT_ARM_BELL);
}

Test(ring, an_unsealed_or_wrong_lane_is_refused)
{
	struct flat_lane_geometry geo = {4, 1024, 16384};
	struct flat_lane_geometry odd = {4, 1000, 16384};
	struct flat_lane other;
	int fd = memfd_create("test", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, (off_t)flat_lane_len(&geo)), 0);
	cr_assert_eq(flat_lane_map(&other, fd, &geo, 1), -EINVAL);
	cr_assert_eq(flat_lane_create(&odd, 1), -EINVAL);
	close(fd);
}
