/* One end of a ring in the hands of several processes, one at a time: positions are taken up from shared memory. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vq/ring.h"

static struct flat_lane lane;

static void setup(void)
{
	struct flat_lane_geometry geo = {4, 1024, 16384};
	int fd = flat_lane_create(&geo, 7);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&lane, fd, &geo, 1), 0);
	close(fd);
	flat_lane_slot_reset(&lane, 0);
}

static void teardown(void)
{
	flat_lane_unmap(&lane);
}

TestSuite(ring_resume, .init = setup, .fini = teardown);

static uint8_t byte_at(size_t n)
{
	return (uint8_t)(n * 31 + (n >> 8));
}

/* As a carrier does: shown to somebody, and consumed when that one has taken some of it, or shown again to another. */
static void show_and_take_back(unsigned int seed, size_t total)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	struct iovec iov[4];
	uint8_t buf[4096];
	size_t sent = 0;
	size_t taken = 0;
	size_t shown = 0;
	flat_ring_tx_init(&tx, &lane, 0, 0);
	flat_ring_rx_init(&rx, &lane, 0, 0);
	srand(seed);
	while (taken < total) {
		size_t want = 1 + (size_t)rand() % (rand() % 4 ? 64 : sizeof(buf));
		want = want > total - sent ? total - sent : want;
		for (size_t i = 0; i < want; i++)
			buf[i] = byte_at(sent + i);
		ssize_t n = want ? flat_ring_write(&tx, buf, want) : 0;
		cr_assert_geq(n, 0);
		sent += (size_t)n;
		int pieces;
		cr_assert_eq(flat_ring_rx_resume(&rx), 0);
		n = flat_ring_look(&rx, shown, iov, &pieces);
		cr_assert_eq((size_t)n, sent - taken - shown);
		cr_assert_eq(flat_ring_moved_beyond(&rx, (uint32_t)shown), n > 0);
		size_t at = taken + shown;
		for (int i = 0; i < pieces; i++) {
			for (size_t j = 0; j < iov[i].iov_len; j++)
				cr_assert_eq(((uint8_t *)iov[i].iov_base)[j], byte_at(at + j),
					     "byte %zu", at + j);
			at += iov[i].iov_len;
		}
		cr_assert_eq(at, sent);
		shown += n > 0 ? 1 + (size_t)rand() % (size_t)n : 0;
		size_t took = shown ? (size_t)rand() % (shown + 1) : 0;
		cr_assert_geq(flat_ring_pending(&rx), (ssize_t)took);
		flat_ring_consume(&rx, took);
		taken += took;
		shown = rand() % 3 ? shown - took : 0;
	}
}

Test(ring_resume, what_is_shown_stays_until_it_is_consumed)
{
	for (unsigned int seed = 1; seed < 20; seed++) {
		flat_lane_slot_reset(&lane, 0);
		show_and_take_back(seed, 200000);
	}
}

Test(ring_resume, bytes_that_were_shown_and_are_gone_are_no_honest_peers)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	struct iovec iov[4];
	int n;
	flat_ring_tx_init(&tx, &lane, 0, 0);
	flat_ring_rx_init(&rx, &lane, 0, 0);
	cr_assert_eq(flat_ring_write(&tx, "0123456789", 10), 10);
	cr_assert_eq(flat_ring_look(&rx, 4, iov, &n), 6);
	cr_assert_eq(flat_ring_look(&rx, 10, iov, &n), 0);
	cr_assert_eq(n, 0);
	atomic_store(&tx.ctl->prod.tail, 9);
	cr_assert_eq(flat_ring_rx_resume(&rx), 0);
	cr_assert_eq(flat_ring_look(&rx, 10, iov, &n), -EPROTO);
}

#define HOLDERS 3

/* Each step by another holder of the same end, as chance has it, with pieces that turn between the rings. */
static void pass_around(unsigned int seed, size_t total, size_t piece_max)
{
	struct flat_ring_tx tx[HOLDERS];
	struct flat_ring_rx rx[HOLDERS];
	uint8_t buf[32768];
	size_t sent = 0;
	size_t taken = 0;
	for (int i = 0; i < HOLDERS; i++) {
		flat_ring_tx_init(&tx[i], &lane, 0, 0);
		flat_ring_rx_init(&rx[i], &lane, 0, 0);
	}
	srand(seed);
	while (taken < total) {
		struct flat_ring_tx *out = &tx[rand() % HOLDERS];
		struct flat_ring_rx *in = &rx[rand() % HOLDERS];
		size_t want = 1 + (size_t)rand() % (rand() % 4 ? 64 : piece_max);
		want = want > total - sent ? total - sent : want;
		for (size_t i = 0; i < want; i++)
			buf[i] = byte_at(sent + i);
		cr_assert_eq(flat_ring_tx_resume(out), 0);
		ssize_t n = want ? flat_ring_write(out, buf, want) : 0;
		cr_assert_geq(n, 0);
		sent += (size_t)n;
		if (rand() % 3 == 0)
			continue;
		cr_assert_eq(flat_ring_moved_any(in), sent != taken);
		cr_assert_eq(flat_ring_rx_resume(in), 0);
		n = flat_ring_read(in, buf, 1 + (size_t)rand() % piece_max, 1);
		cr_assert_geq(n, 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], byte_at(taken + (size_t)i), "byte %zu",
				     taken + (size_t)i);
		taken += (size_t)n;
	}
	cr_assert_eq(sent, total);
}

Test(ring_resume, any_holder_goes_on_where_another_stopped)
{
	for (unsigned int seed = 1; seed <= 20; seed++) {
		flat_lane_slot_reset(&lane, 0);
		pass_around(seed, 300000, seed % 2 ? 3000 : 20000);
	}
}

/* A turn at position 100, and then so many bytes that positions come round to where it would seem to be ahead. */
Test(ring_resume, a_turn_of_four_gigabytes_ago_is_not_ahead)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	flat_ring_tx_init(&tx, &lane, 0, 0);
	flat_ring_rx_init(&rx, &lane, 0, 0);
	atomic_store(&tx.ctl->prod.turned, 100);
	atomic_store(&tx.ctl->prod.turn, FLAT_TURN(100, 1, FLAT_RING_SMALL, FLAT_RING_BULK));
	atomic_store(&tx.ctl->prod.total, (1ULL << 32) + 150);
	atomic_store(&tx.ctl->prod.tail, 150);
	atomic_store(&tx.ctl->cons.head, 50);
	cr_assert_eq(flat_ring_tx_resume(&tx), 0);
	cr_assert_eq(flat_ring_rx_resume(&rx), 0);
	cr_assert_eq(tx.turning, 0);
	cr_assert_eq(rx.turning, 0);
	cr_assert_eq(rx.which, FLAT_RING_BULK);
	/* The same words with the turn really ahead. */
	atomic_store(&tx.ctl->prod.total, 150);
	cr_assert_eq(flat_ring_tx_resume(&tx), 0);
	cr_assert_eq(flat_ring_rx_resume(&rx), 0);
	cr_assert_eq(tx.turning, 1);
	cr_assert_eq(rx.turning, 1);
	cr_assert_eq(rx.which, FLAT_RING_SMALL);
}

Test(ring_resume, bytes_counted_and_not_published_by_a_killed_producer_are_forgotten)
{
	struct flat_ring_tx tx;
	flat_ring_tx_init(&tx, &lane, 0, 0);
	cr_assert_eq(flat_ring_write(&tx, "abc", 3), 3);
	atomic_store(&tx.ctl->prod.total, 1003);
	memset(&tx.total, 0, sizeof(tx.total));
	cr_assert_eq(flat_ring_tx_resume(&tx), 0);
	cr_assert_eq(tx.total, 3);
	cr_assert_eq(tx.tail, 3);
}

Test(ring_resume, words_that_cannot_be_are_refused)
{
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	static const uint32_t bad[] = {0x80000000U, 0xffffffffU, 18433, 0x01000000U};
	flat_ring_tx_init(&tx, &lane, 0, 0);
	flat_ring_rx_init(&rx, &lane, 0, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		flat_lane_slot_reset(&lane, 0);
		atomic_store(&tx.ctl->prod.tail, bad[i]);
		cr_assert_eq(flat_ring_tx_resume(&tx), -EPROTO, "tail %u", bad[i]);
		cr_assert_eq(flat_ring_rx_resume(&rx), -EPROTO, "tail %u", bad[i]);
		flat_lane_slot_reset(&lane, 0);
		atomic_store(&tx.ctl->prod.turn,
			     FLAT_TURN(bad[i], 1, FLAT_RING_SMALL, FLAT_RING_BULK));
		cr_assert_eq(flat_ring_tx_resume(&tx), -EPROTO, "turn %u", bad[i]);
		cr_assert_eq(flat_ring_rx_resume(&rx), -EPROTO, "turn %u", bad[i]);
	}
	/* More unread than the ring in use has room for: what is free would be a negative number. */
	flat_lane_slot_reset(&lane, 0);
	atomic_store(&tx.ctl->prod.tail, 1024);
	atomic_store(&tx.ctl->prod.total, 1024);
	cr_assert_eq(flat_ring_tx_resume(&tx), 0);
	cr_assert_eq(flat_ring_space(&tx), 16384);
	atomic_store(&tx.ctl->prod.tail, 1025);
	atomic_store(&tx.ctl->prod.total, 1025);
	cr_assert_eq(flat_ring_tx_resume(&tx), -EPROTO);
	/* And more before a turn than the ring left behind has. */
	flat_lane_slot_reset(&lane, 0);
	atomic_store(&tx.ctl->prod.tail, 1025);
	atomic_store(&tx.ctl->prod.total, 1025);
	atomic_store(&tx.ctl->prod.turned, 1025);
	atomic_store(&tx.ctl->prod.turn, FLAT_TURN(1025, 1, FLAT_RING_SMALL, FLAT_RING_BULK));
	cr_assert_eq(flat_ring_tx_resume(&tx), -EPROTO);
	atomic_store(&tx.ctl->cons.head, 1);
	cr_assert_eq(flat_ring_tx_resume(&tx), 0);
}
