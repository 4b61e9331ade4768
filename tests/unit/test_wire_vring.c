/* Two rings whose writes are carried by the test: positions, credits, bounds, lies. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/vring.h"

#define SIZE 4096U
#define QUEUE 1024

/* A write that is on its way: bytes are placed when it arrives. */
struct write {
	uint32_t at;
	uint32_t len;
	uint32_t imm;
	uint8_t *bytes;
};

struct side {
	struct flat_vring ring;
	uint8_t out[SIZE];
	uint8_t in[SIZE];
	struct write queue[QUEUE];
	size_t first;
	size_t n;
	size_t room; /* writes that may be posted yet */
	int err;
	size_t n_data;
	size_t n_credit;
};

static struct side a;
static struct side b;

static int post(void *ctx, uint32_t at, uint32_t len, uint32_t imm)
{
	struct side *s = ctx;
	if (s->err)
		return s->err;
	if (s->room == 0)
		return -EAGAIN;
	s->room--;
	cr_assert_lt(s->n, QUEUE);
	cr_assert_leq(len, SIZE);
	cr_assert_lt(at, SIZE);
	struct write *w = &s->queue[(s->first + s->n++) % QUEUE];
	*w = (struct write){.at = at, .len = len, .imm = imm, .bytes = malloc(len + 1)};
	for (uint32_t i = 0; i < len; i++)
		w->bytes[i] = s->out[(at + i) % SIZE];
	s->n_data += len > 0;
	s->n_credit += len == 0;
	return 0;
}

static const struct flat_vring_ops ops = {.write = post};

static void setup(void)
{
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	a.room = b.room = SIZE_MAX;
	flat_vring_init(&a.ring, &ops, &a, a.out, a.in, SIZE);
	flat_vring_init(&b.ring, &ops, &b, b.out, b.in, SIZE);
}

static void drop_queue(struct side *s)
{
	for (; s->n > 0; s->n--)
		free(s->queue[s->first++ % QUEUE].bytes);
}

static void teardown(void)
{
	drop_queue(&a);
	drop_queue(&b);
}

TestSuite(wire_vring, .init = setup, .fini = teardown, .timeout = 60);

/* The oldest write of `from` reaches `to`. */
static bool arrive(struct side *from, struct side *to)
{
	if (from->n == 0)
		return false;
	struct write w = from->queue[from->first % QUEUE];
	from->first++;
	from->n--;
	for (uint32_t i = 0; i < w.len; i++)
		to->in[(w.at + i) % SIZE] = w.bytes[i];
	free(w.bytes);
	cr_assert_eq(flat_vring_told(&to->ring, w.imm), 0);
	return true;
}

static size_t take(struct side *s, uint8_t *buf, size_t max)
{
	const uint8_t *bytes;
	size_t n = flat_vring_peek(&s->ring, &bytes);
	n = n < max ? n : max;
	memcpy(buf, bytes, n);
	flat_vring_take(&s->ring, n);
	return n;
}

static uint8_t byte(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* Bytes from a to b in pieces of any size, with any number of writes under way. */
static void stream(size_t total, size_t piece_max)
{
	uint8_t buf[SIZE];
	size_t sent = 0;
	size_t got = 0;
	size_t still = 0;
	while (got < total) {
		size_t piece = (size_t)rand() % piece_max + 1;
		piece = piece < total - sent ? piece : total - sent;
		for (size_t i = 0; i < piece; i++)
			buf[i] = byte(sent + i);
		size_t put = flat_vring_put(&a.ring, buf, piece);
		sent += put;
		cr_assert_eq(flat_vring_push(&a.ring), 0);
		for (int n = rand() % 4; n > 0 && arrive(&a, &b); n--)
			;
		size_t n = take(&b, buf, (size_t)rand() % SIZE + 1);
		for (size_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], byte(got + i));
		got += n;
		cr_assert_eq(flat_vring_push(&b.ring), 0);
		for (int k = rand() % 3; k > 0 && arrive(&b, &a); k--)
			;
		cr_assert_leq(a.ring.n_ends, FLAT_VERBS_MSGS);
		cr_assert_leq(b.n, 24, "credits under way: %zu", b.n);
		still = put || n ? 0 : still + 1;
		cr_assert_lt(still, 10000, "stuck at %zu of %zu", got, total);
	}
}

Test(wire_vring, bytes_arrive_in_order_whatever_the_pieces)
{
	stream(100000, 10);
	stream(1000000, 1000);
	stream(1000000, SIZE);
}

Test(wire_vring, positions_pass_two_to_the_31_and_the_32)
{
	a.ring.put = a.ring.posted = a.ring.credited = (UINT64_C(1) << 31) - 1000;
	b.ring.come = b.ring.taken = b.ring.told = a.ring.put;
	stream(100000, 900);
	teardown();
	setup();
	a.ring.put = a.ring.posted = a.ring.credited = (UINT64_C(1) << 32) - 1000;
	b.ring.come = b.ring.taken = b.ring.told = a.ring.put;
	stream(100000, 900);
}

Test(wire_vring, a_full_ring_takes_no_more_until_credit_comes)
{
	uint8_t buf[2 * SIZE] = {0};
	cr_assert_eq(flat_vring_put(&a.ring, buf, sizeof(buf)), SIZE);
	cr_assert_eq(flat_vring_put(&a.ring, buf, 1), 0);
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	while (arrive(&a, &b))
		;
	/* What is not taken gives no credit. */
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert_eq(b.n, 0);
	cr_assert_eq(take(&b, buf, SIZE / 4 - 1), SIZE / 4 - 1);
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert_eq(b.n, 0);
	cr_assert_eq(take(&b, buf, 1), 1);
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert(arrive(&b, &a));
	cr_assert_eq(flat_vring_put(&a.ring, buf, sizeof(buf)), SIZE / 4);
}

Test(wire_vring, messages_without_credit_are_bounded)
{
	uint8_t one = 1;
	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(flat_vring_put(&a.ring, &one, 1), 1);
		cr_assert_eq(flat_vring_push(&a.ring), 0);
	}
	cr_assert_eq(a.n_data, FLAT_VERBS_MSGS);
	while (arrive(&a, &b))
		;
	uint8_t buf[SIZE];
	cr_assert_eq(take(&b, buf, SIZE), FLAT_VERBS_MSGS);
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert(arrive(&b, &a));
	cr_assert_eq(a.ring.n_ends, 0);
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	/* The others as one. */
	cr_assert_eq(a.n, 1);
}

Test(wire_vring, a_queue_without_room_is_tried_again)
{
	uint8_t buf[SIZE] = {0};
	a.room = 0;
	cr_assert_eq(flat_vring_put(&a.ring, buf, 100), 100);
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	cr_assert_eq(a.ring.posted, 0);
	a.room = SIZE_MAX;
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	cr_assert_eq(a.ring.posted, 100);
	b.room = 0;
	cr_assert_eq(flat_vring_put(&a.ring, buf, SIZE - 100), SIZE - 100);
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	while (arrive(&a, &b))
		;
	while (take(&b, buf, SIZE) > 0)
		;
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert_eq(b.ring.told, 0);
	b.room = SIZE_MAX;
	cr_assert_eq(flat_vring_push(&b.ring), 0);
	cr_assert_eq(b.ring.told, SIZE);
}

Test(wire_vring, a_connection_that_broke_is_said)
{
	uint8_t one = 1;
	a.err = -EIO;
	cr_assert_eq(flat_vring_put(&a.ring, &one, 1), 1);
	cr_assert_eq(flat_vring_push(&a.ring), -EIO);
	const uint8_t *bytes;
	cr_assert_eq(flat_vring_kept(&a.ring, 0, &bytes), 1);
	cr_assert_eq(bytes[0], 1);
}

Test(wire_vring, positions_that_cannot_be_are_refused)
{
	/* More than the ring holds; none at all; back. */
	cr_assert_eq(flat_vring_told(&b.ring, SIZE + 1), -EPROTO);
	cr_assert_eq(flat_vring_told(&b.ring, 0), -EPROTO);
	cr_assert_eq(flat_vring_told(&b.ring, 100), 0);
	cr_assert_eq(flat_vring_told(&b.ring, 99), -EPROTO);
	cr_assert_eq(flat_vring_told(&b.ring, 0x7fffffff), -EPROTO);
	cr_assert_eq(flat_vring_told(&b.ring, SIZE), 0);
	/* Taken, and no credit told: there is no room to write to. */
	flat_vring_take(&b.ring, 100);
	cr_assert_eq(flat_vring_told(&b.ring, SIZE + 100), -EPROTO);
	/* Credit for what was never sent, or twice. */
	uint8_t buf[10] = {0};
	cr_assert_eq(flat_vring_told(&a.ring, FLAT_VRING_CREDIT | 1), -EPROTO);
	cr_assert_eq(flat_vring_put(&a.ring, buf, 10), 10);
	cr_assert_eq(flat_vring_told(&a.ring, FLAT_VRING_CREDIT | 10), -EPROTO);
	cr_assert_eq(flat_vring_push(&a.ring), 0);
	cr_assert_eq(flat_vring_told(&a.ring, FLAT_VRING_CREDIT | 11), -EPROTO);
	cr_assert_eq(flat_vring_told(&a.ring, FLAT_VRING_CREDIT | 10), 0);
	cr_assert_eq(flat_vring_told(&a.ring, FLAT_VRING_CREDIT | 10), -EPROTO);
}

Test(wire_vring, any_immediates_leave_positions_in_bounds)
{
	uint8_t buf[SIZE] = {0};
	int refused = 0;
	for (int i = 0; i < 1000000; i++) {
		uint32_t imm = rand() % 2 ? (uint32_t)rand() * 2 + (uint32_t)(rand() & 1)
					  : (uint32_t)b.ring.come + (uint32_t)rand() % 64;
		refused +=
		    flat_vring_told(&b.ring, imm ^ (rand() % 8 ? 0 : FLAT_VRING_CREDIT)) != 0;
		if (rand() % 4 == 0)
			(void)flat_vring_put(&b.ring, buf, (size_t)rand() % 100);
		if (rand() % 4 == 0)
			(void)take(&b, buf, (size_t)rand() % 100);
		cr_assert_eq(flat_vring_push(&b.ring), 0);
		drop_queue(&b);
		b.first = 0;
		cr_assert(b.ring.told <= b.ring.taken && b.ring.taken <= b.ring.come &&
			  b.ring.come - b.ring.told <= SIZE);
		cr_assert(b.ring.credited <= b.ring.posted && b.ring.posted <= b.ring.put &&
			  b.ring.put - b.ring.credited <= SIZE);
		cr_assert_leq(b.ring.n_ends, FLAT_VERBS_MSGS);
	}
	cr_assert(refused > 100000 && refused < 1000000, "%d", refused);
}
