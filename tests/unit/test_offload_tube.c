/* A connection's tube to its bridge: bytes, ends, what is told and when. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "offload/tube.h"

static struct flat_tube *tube;
static struct flat_source source[2];
static int told[2]; /* events since they were looked at */
static uint8_t bytes[2 * FLAT_TUBE_BYTES];
static uint8_t got[2 * FLAT_TUBE_BYTES];

static void on_near(struct flat_source *s, int events)
{
	(void)s;
	told[FLAT_TUBE_NEAR] |= events;
}

static void on_far(struct flat_source *s, int events)
{
	(void)s;
	told[FLAT_TUBE_FAR] |= events;
}

static void setup(void)
{
	tube = flat_tube_new();
	cr_assert_not_null(tube);
	source[FLAT_TUBE_NEAR].fn = on_near;
	source[FLAT_TUBE_FAR].fn = on_far;
	for (int i = 0; i < 2; i++)
		flat_tube_watch(tube, (enum flat_tube_side)i, &source[i]);
	(void)flat_tubes_tell();
	memset(told, 0, sizeof(told));
	srand(11);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rand();
}

static int events_of(enum flat_tube_side side)
{
	int events;
	(void)flat_tubes_tell();
	events = told[side];
	told[side] = 0;
	return events;
}

TestSuite(tube, .init = setup, .fini = flat_tubes_spare_fini, .timeout = 20);

static void close_both(void)
{
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
	cr_assert_not(flat_tubes_tell());
}

Test(tube, carries_every_byte_in_order_whatever_the_sizes)
{
	size_t in = 0;
	size_t out = 0;
	while (out < sizeof(bytes)) {
		size_t want = flat_min_size(sizeof(bytes) - in, 1 + (size_t)rand() % 50000);
		ssize_t n = want ? flat_tube_send(tube, FLAT_TUBE_NEAR, bytes + in, want) : -EAGAIN;
		cr_assert(n > 0 || n == -EAGAIN);
		in += n > 0 ? (size_t)n : 0;
		cr_assert_eq(flat_tube_pending(tube, FLAT_TUBE_FAR), in - out);
		n = flat_tube_recv(tube, FLAT_TUBE_FAR, got + out, 1 + (size_t)rand() % 50000);
		cr_assert(n > 0 || n == -EAGAIN);
		out += n > 0 ? (size_t)n : 0;
	}
	cr_assert_eq(memcmp(bytes, got, sizeof(bytes)), 0);
	close_both();
}

Test(tube, both_ways_are_apart)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "near", 4), 4);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "afar", 4), 4);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), 4);
	cr_assert_eq(memcmp(got, "afar", 4), 0);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 10), 4);
	cr_assert_eq(memcmp(got, "near", 4), 0);
	close_both();
}

Test(tube, a_full_one_takes_no_more_and_says_when_it_does)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, sizeof(bytes)), FLAT_TUBE_BYTES);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 1), -EAGAIN);
	cr_assert_eq(events_of(FLAT_TUBE_NEAR), POLLIN);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 1), 1);
	/* Not for a little. */
	cr_assert_eq(events_of(FLAT_TUBE_FAR), 0);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, sizeof(got)),
		     (ssize_t)FLAT_TUBE_BYTES - 1);
	cr_assert_eq(events_of(FLAT_TUBE_FAR), POLLOUT);
	/* Once. */
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 1), 1);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 1), 1);
	cr_assert_eq(events_of(FLAT_TUBE_FAR), 0);
	close_both();
}

Test(tube, memory_is_asked_of_who_is_to_hold_it)
{
	struct flat_hold *all = flat_hold_new(NULL, 3 * FLAT_TUBE_BYTES);
	struct flat_hold *one = flat_hold_new(all, FLAT_TUBE_BYTES);
	flat_tube_hold(tube, one);
	cr_expect_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 10), 10);
	cr_expect_eq(one->bytes, FLAT_TUBE_BYTES);
	cr_expect_eq(all->bytes, FLAT_TUBE_BYTES);
	cr_expect_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes, 10), -ENOMEM);
	cr_expect_eq(one->denied, 1);
	cr_expect_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), 10);
	cr_expect_eq(one->bytes, 0);
	cr_expect_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes, 10), 10);
	/* It counts as long as it is there, whoever has closed. */
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	cr_expect_eq(one->bytes, FLAT_TUBE_BYTES);
	flat_hold_put(one);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
	cr_expect_eq(all->bytes, 0);
	cr_expect_eq(all->n, 0);
	flat_hold_put(all);
}

Test(tube, who_has_less_than_its_part_is_not_denied_because_of_others)
{
	struct flat_hold *all = flat_hold_new(NULL, 100);
	struct flat_hold *a = flat_hold_new(all, 100);
	struct flat_hold *b = flat_hold_new(all, 100);
	cr_expect(flat_hold_take(a, 100));
	cr_expect(!flat_hold_take(a, 1));
	cr_expect(flat_hold_take(b, 50));
	cr_expect(!flat_hold_take(b, 1));
	flat_hold_give(a, 60);
	cr_expect(flat_hold_take(b, 10));
	cr_expect(!flat_hold_take(b, 1));
	cr_expect(flat_hold_take(a, 10));
	cr_expect(!flat_hold_take(a, 1));
	cr_expect(flat_hold_take(NULL, 1));
	flat_hold_put(a);
	flat_hold_put(b);
	flat_hold_put(all);
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
}

Test(tube, one_end_leaves_the_other_way_open)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "x", 1), 1);
	flat_tube_end(tube, FLAT_TUBE_NEAR);
	cr_assert_eq(events_of(FLAT_TUBE_FAR), POLLIN | POLLRDHUP);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "x", 1), -EPIPE);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 10), 1);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 10), 0);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "y", 1), 1);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), 1);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), -EAGAIN);
	close_both();
}

Test(tube, what_was_written_before_a_close_is_read)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "last", 4), 4);
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	cr_assert(events_of(FLAT_TUBE_FAR) & POLLHUP);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "y", 1), -EPIPE);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 10), 4);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 10), 0);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
}

Test(tube, after_a_hard_close_the_last_is_a_reset)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "last", 4), 4);
	flat_tube_close(tube, FLAT_TUBE_FAR, true);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), 4);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 10), -ECONNRESET);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "y", 1), -EPIPE);
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
}

Test(tube, a_cut_is_seen_at_once_on_both_sides)
{
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "under way", 9), 9);
	flat_tube_cut(tube);
	(void)flat_tubes_tell();
	for (int i = 0; i < 2; i++) {
		enum flat_tube_side side = (enum flat_tube_side)i;
		cr_assert(told[i] & POLLHUP);
		cr_assert_eq(flat_tube_recv(tube, side, got, 10), -ECONNRESET);
		cr_assert_eq(flat_tube_send(tube, side, "y", 1), -EPIPE);
	}
	close_both();
}

Test(tube, who_watches_late_is_told_of_what_came_before)
{
	flat_tube_watch(tube, FLAT_TUBE_NEAR, NULL);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "x", 1), 1);
	cr_assert_eq(events_of(FLAT_TUBE_NEAR), 0);
	flat_tube_watch(tube, FLAT_TUBE_NEAR, &source[FLAT_TUBE_NEAR]);
	cr_assert(events_of(FLAT_TUBE_NEAR) & POLLIN);
	/* Who goes is told nothing any more. */
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "x", 1), 1);
	flat_tube_watch(tube, FLAT_TUBE_NEAR, NULL);
	cr_assert_eq(events_of(FLAT_TUBE_NEAR), 0);
	close_both();
}

Test(tube, what_lies_there_is_seen_before_it_is_taken_also_where_it_wraps)
{
	struct iovec iov[2];
	int n;
	cr_assert_eq(flat_tube_peek(tube, FLAT_TUBE_FAR, 10, iov, &n), -EAGAIN);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes, FLAT_TUBE_BYTES), FLAT_TUBE_BYTES);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, FLAT_TUBE_BYTES - 10),
		     (ssize_t)FLAT_TUBE_BYTES - 10);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes + FLAT_TUBE_BYTES, 100), 100);
	for (size_t max = 1; max < 200; max++) {
		size_t want = flat_min_size(max, 110);
		cr_assert_eq(flat_tube_peek(tube, FLAT_TUBE_FAR, max, iov, &n), (ssize_t)want);
		cr_assert_eq(n, max > 10 ? 2 : 1);
		cr_assert_eq(iov[0].iov_len + (n == 2 ? iov[1].iov_len : 0), want);
		cr_assert_eq(memcmp(iov[0].iov_base, bytes + FLAT_TUBE_BYTES - 10, iov[0].iov_len),
			     0);
		cr_assert(n == 1 ||
			  memcmp(iov[1].iov_base, bytes + FLAT_TUBE_BYTES, iov[1].iov_len) == 0);
	}
	(void)events_of(FLAT_TUBE_NEAR);
	flat_tube_skip(tube, FLAT_TUBE_FAR, 40);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, got, 100), 70);
	cr_assert_eq(memcmp(got, bytes + FLAT_TUBE_BYTES + 30, 70), 0);
	flat_tube_end(tube, FLAT_TUBE_NEAR);
	cr_assert_eq(flat_tube_peek(tube, FLAT_TUBE_FAR, 10, iov, &n), 0);
	flat_tube_cut(tube);
	cr_assert_eq(flat_tube_peek(tube, FLAT_TUBE_FAR, 10, iov, &n), -ECONNRESET);
	close_both();
}

static size_t sunk;
static size_t sink_room;

static size_t on_bytes(struct flat_source *s, const uint8_t *from, size_t len)
{
	size_t n = flat_min_size(len, sink_room);
	cr_assert_eq(s, &source[FLAT_TUBE_NEAR]);
	memcpy(got + sunk, from, n);
	sunk += n;
	sink_room -= n;
	return n;
}

Test(tube, who_takes_bytes_at_once_has_them_and_is_told_of_all)
{
	flat_tube_sink(tube, FLAT_TUBE_NEAR, on_bytes);
	sunk = 0;
	sink_room = 1000;
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 600), 600);
	cr_assert_eq(sunk, 600);
	cr_assert_eq(events_of(FLAT_TUBE_NEAR), POLLIN);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes + 600, 600), 600);
	cr_assert_eq(sunk, 1000);
	cr_assert_eq(events_of(FLAT_TUBE_NEAR), POLLIN);
	/* Not while others wait. */
	sink_room = 1000;
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes + 1200, 100), 100);
	cr_assert_eq(sunk, 1000);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got + 1000, 1000), 300);
	cr_assert_eq(memcmp(got, bytes, 1300), 0);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 100), 100);
	cr_assert_eq(sunk, 1100);
	/* Nor after the end, or a cut; nor when nobody watches any more. */
	flat_tube_watch(tube, FLAT_TUBE_NEAR, &source[FLAT_TUBE_NEAR]);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 100), 100);
	flat_tube_sink(tube, FLAT_TUBE_NEAR, on_bytes);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_NEAR, got, 1000), 100);
	flat_tube_end(tube, FLAT_TUBE_FAR);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 100), -EPIPE);
	flat_tube_cut(tube);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, bytes, 100), -EPIPE);
	cr_assert_eq(sunk, 1100);
	close_both();
}

static void on_close(struct flat_source *s, int events)
{
	(void)s;
	(void)events;
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
}

Test(tube, who_is_told_may_close_both_sides)
{
	source[FLAT_TUBE_NEAR].fn = on_close;
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_FAR, "x", 1), 1);
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, "x", 1), 1);
	cr_assert(flat_tubes_tell());
	cr_assert_eq(told[FLAT_TUBE_FAR], 0);
	cr_assert_not(flat_tubes_tell());
}
