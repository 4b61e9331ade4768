/*
 * Two links whose ciphertext goes by TCP or by rings, both carried by the test, which breaks the rings at any point: all bytes
 * arrive, once, in order.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "support_wire.h"
#include "wire/carrier.h"

#define RING (1U << 16)
#define TOTAL ((size_t)600000)
#define QUEUE 4096

struct write {
	uint32_t at;
	uint32_t len;
	uint32_t imm;
	uint8_t *bytes;
};

struct side {
	struct flat_wire_link *link;
	struct flat_carrier carrier;
	struct flat_vring ring;
	struct side *peer;
	uint8_t out[RING];
	uint8_t in[RING];
	struct write queue[QUEUE];
	size_t first;
	size_t n;
	struct flat_wire_stream *stream;
	size_t sent; /* of its stream */
	size_t got;
	bool ready;
	bool over;
	int err;
	uint32_t quota; /* of its link, where few frames are taken at a time */
};

static struct wire_folder folder;
static struct flat_svids *svids;
static struct side client;
static struct side server;
static bool cut;       /* the rings are broken: writes fail */
static bool scribbles; /* whoever has the key of a ring writes there while it is read */
static uint8_t held[RING];
static size_t waited; /* times that bytes were kept for a quota */

/* What each side sends. Looked up and moved in pieces: a build that counts lines has each byte's cost many times over. */
static uint8_t patterns[2][TOTAL];

static void make_patterns(void)
{
	for (size_t i = 0; i < TOTAL; i++) {
		patterns[0][i] = (uint8_t)(i * 11 + i / 253);
		patterns[1][i] = (uint8_t)(patterns[0][i] + 1);
	}
}

static const uint8_t *bytes_of(const struct side *from, size_t at)
{
	return patterns[from == &client] + at;
}

static void on_ready(struct flat_wire_link *l)
{
	((struct side *)l->owner)->ready = true;
}

static void on_opened(struct flat_wire_link *l, struct flat_wire_stream *s,
		      const struct flat_frame *f)
{
	(void)f;
	((struct side *)l->owner)->stream = s;
	s->owner = l->owner;
	flat_wire_accept(s, "");
	flat_wire_ready(s);
}

static void on_accepted(struct flat_wire_stream *s, const char *who)
{
	(void)who;
	flat_wire_ready(s);
}

static void on_refused(struct flat_wire_stream *s, int err, const char *why)
{
	(void)s;
	(void)err;
	cr_assert_fail("refused: %s", why);
}

static ssize_t take(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	struct side *side = s->owner;
	cr_assert_leq(len, TOTAL - side->got);
	cr_assert_eq(memcmp(bytes, bytes_of(side->peer, side->got), len), 0, "from %zu on",
		     side->got);
	side->got += len;
	if (scribbles)
		memset(side->in, 0xaa, sizeof(side->in));
	return (ssize_t)len;
}

static ssize_t give(struct flat_wire_stream *s, uint8_t *buf, size_t max)
{
	struct side *side = s->owner;
	size_t n = max < TOTAL - side->sent ? max : TOTAL - side->sent;
	n = n < 3000 ? n : 3000;
	memcpy(buf, bytes_of(side, side->sent), n);
	side->sent += n;
	return (ssize_t)n;
}

static void on_fin(struct flat_wire_stream *s)
{
	(void)s;
}

static void on_ended(struct flat_wire_stream *s, int err)
{
	struct side *side = s->owner;
	side->over = true;
	side->err = err;
}

static int on_verbs(struct flat_wire_link *l, const struct flat_frame *f)
{
	struct side *side = l->owner;
	if (f->number == FLAT_VERBS_GO)
		return flat_carrier_gone_over(&side->carrier);
	return -EPROTO;
}

static const struct flat_wire_ops ops = {.ready = on_ready,
					 .opened = on_opened,
					 .accepted = on_accepted,
					 .refused = on_refused,
					 .take = take,
					 .fin = on_fin,
					 .give = give,
					 .ended = on_ended,
					 .verbs = on_verbs};

static int post(void *ctx, uint32_t at, uint32_t len, uint32_t imm)
{
	struct side *s = ctx;
	if (cut)
		return -EIO;
	cr_assert_lt(s->n, QUEUE);
	struct write *w = &s->queue[(s->first + s->n++) % QUEUE];
	*w = (struct write){.at = at, .len = len, .imm = imm, .bytes = malloc(len + 1)};
	size_t first = flat_min_size(len, RING - at % RING);
	memcpy(w->bytes, s->out + at % RING, first);
	memcpy(w->bytes + first, s->out, len - first);
	return 0;
}

static const struct flat_vring_ops ring_ops = {.write = post};

static void drop_queue(struct side *s)
{
	for (; s->n > 0; s->n--)
		free(s->queue[s->first++ % QUEUE].bytes);
}

static void open_sides(void)
{
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	cut = false;
	client.peer = &server;
	server.peer = &client;
	client.link = flat_wire_link_new(svids, flat_svids_find(svids, "d/ns/a/sa/client"), false,
					 &ops, &client);
	server.link = flat_wire_link_new(svids, svids->node, true, &ops, &server);
	cr_assert(client.link && server.link);
	flat_carrier_init(&client.carrier, client.link);
	flat_carrier_init(&server.carrier, server.link);
}

static void close_sides(void)
{
	drop_queue(&client);
	drop_queue(&server);
	flat_carrier_fini(&client.carrier);
	flat_carrier_fini(&server.carrier);
	flat_wire_link_free(client.link, ECONNRESET);
	flat_wire_link_free(server.link, ECONNRESET);
}

static void setup(void)
{
	wire_folder_init(&folder, "d");
	svids = wire_load(&folder);
	make_patterns();
	open_sides();
}

static void teardown(void)
{
	close_sides();
	flat_svids_put(svids);
	wire_folder_fini(&folder);
}

TestSuite(wire_carrier, .init = setup, .fini = teardown, .timeout = 120);

/* Its turn. Whether it takes what comes. */
static bool grant(struct side *s)
{
	if (!s->link->quota)
		return true;
	s->quota = (uint32_t)rand() % 4;
	cr_assert_eq(flat_carrier_go_on(&s->carrier), 0, "%s", s->link->why);
	waited += s->carrier.left != NULL;
	return !flat_carrier_waits(&s->carrier);
}

/* Up to `max` bytes by TCP. */
static bool carry(struct side *from, struct side *to, size_t max)
{
	const uint8_t *bytes;
	uint8_t copy[4096];
	if (!grant(to))
		return false;
	size_t n = flat_carrier_output(&from->carrier, &bytes);
	n = n < max ? n : max;
	n = n < sizeof(copy) ? n : sizeof(copy);
	if (n == 0)
		return false;
	memcpy(copy, bytes, n);
	flat_carrier_sent(&from->carrier, n);
	int err = flat_carrier_input(&to->carrier, copy, n);
	cr_assert_eq(err, 0, "%s", to->link->why);
	return true;
}

static bool arrive(struct side *from, struct side *to)
{
	if (from->n == 0)
		return false;
	struct write w = from->queue[from->first % QUEUE];
	from->first++;
	from->n--;
	size_t first = flat_min_size(w.len, RING - w.at % RING);
	if (!cut) {
		memcpy(to->in + w.at % RING, w.bytes, first);
		memcpy(to->in, w.bytes + first, w.len - first);
	}
	free(w.bytes);
	if (!cut && !to->carrier.failed)
		cr_assert_eq(flat_vring_told(&to->ring, w.imm), 0);
	return true;
}

static bool pump(struct side *s)
{
	size_t quantum = (size_t)rand() % 20000;
	(void)grant(s);
	(void)flat_wire_link_flush(s->link);
	/* In one piece: what is not taken yet is the writer's. */
	if (scribbles)
		quantum = flat_min_size(quantum, RING - s->ring.taken % RING);
	if (scribbles)
		memcpy(held, s->in, sizeof(held));
	ssize_t n = flat_carrier_pump(&s->carrier, quantum);
	cr_assert_geq(n, 0, "%s", s->link->why);
	if (scribbles)
		memcpy(s->in, held, sizeof(held));
	return n > 0;
}

static void start(void)
{
	struct flat_addr to = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 2}};
	while (!client.ready || !server.link->greeted)
		cr_assert((int)carry(&client, &server, SIZE_MAX) +
			  (int)carry(&server, &client, SIZE_MAX));
	client.stream = flat_wire_open(client.link, &to, &to, &client);
	cr_assert_not_null(client.stream);
}

/* New rings, as after OFFER and ANSWER. */
static void agree(void)
{
	drop_queue(&client);
	drop_queue(&server);
	cut = false;
	flat_vring_init(&client.ring, &ring_ops, &client, client.out, client.in, RING);
	flat_vring_init(&server.ring, &ring_ops, &server, server.out, server.in, RING);
	flat_carrier_offer(&server.carrier, &server.ring);
	flat_carrier_offer(&client.carrier, &client.ring);
	flat_carrier_go(&client.carrier);
}

static bool all_there(void)
{
	return client.got == TOTAL && server.got == TOTAL;
}

/* One step of anything that can happen. */
static void step(void)
{
	switch (rand() % 6) {
	case 0:
		(void)carry(&client, &server, (size_t)rand() % 3000 + 1);
		break;
	case 1:
		(void)carry(&server, &client, (size_t)rand() % 3000 + 1);
		break;
	case 2:
		(void)arrive(&client, &server);
		break;
	case 3:
		(void)arrive(&server, &client);
		break;
	case 4:
		(void)pump(&client);
		break;
	default:
		(void)pump(&server);
		break;
	}
}

static void run_to_the_end(void)
{
	for (size_t i = 0; !all_there(); i++) {
		step();
		cr_assert_lt(i, 10000000, "stuck: client has %zu, server %zu", client.got,
			     server.got);
	}
}

Test(wire_carrier, without_a_ring_all_goes_by_tcp)
{
	start();
	run_to_the_end();
	cr_assert_eq(client.carrier.bytes[1][0] + client.carrier.bytes[1][1], 0);
}

Test(wire_carrier, with_a_ring_all_but_the_beginning_goes_by_it)
{
	start();
	agree();
	run_to_the_end();
	cr_assert(client.carrier.in_ring && client.carrier.out_ring);
	cr_assert(server.carrier.in_ring && server.carrier.out_ring);
	cr_assert_gt(client.carrier.bytes[1][1], TOTAL * 9 / 10);
	cr_assert_gt(server.carrier.bytes[1][0], TOTAL * 9 / 10);
}

Test(wire_carrier, what_is_written_to_a_ring_while_it_is_read_changes_nothing)
{
	start();
	agree();
	scribbles = true;
	run_to_the_end();
	scribbles = false;
	cr_assert_gt(server.carrier.bytes[1][1], TOTAL * 9 / 10);
}

/* Broken after so many steps. Whoever has something on its way notices, as the device of a real one does. */
static void break_after(int steps, bool both_notice)
{
	for (int i = 0; i < steps; i++)
		step();
	cut = true;
	bool first = rand() % 2;
	if (both_notice || first)
		flat_carrier_fail(&client.carrier);
	if (both_notice || !first)
		flat_carrier_fail(&server.carrier);
}

Test(wire_carrier, a_ring_that_breaks_at_any_point_loses_and_repeats_nothing)
{
	for (int steps = 0; steps < 300; steps++) {
		close_sides();
		open_sides();
		srand((unsigned int)steps);
		start();
		agree();
		break_after(steps < 150 ? steps : steps * 7, steps % 2 == 0);
		run_to_the_end();
		for (int i = 0; i < 2000; i++)
			step();
		cr_assert(flat_carrier_idle(&client.carrier) || !client.carrier.ring);
		cr_assert(flat_carrier_idle(&server.carrier) || !server.carrier.ring);
		cr_assert(client.err == 0 && server.err == 0);
	}
}

Test(wire_carrier, what_waits_for_a_quota_is_taken_later_in_order_wherever_it_came_from)
{
	for (int steps = 0; steps < 100; steps++) {
		close_sides();
		open_sides();
		srand((unsigned int)steps);
		start();
		client.link->quota = &client.quota;
		server.link->quota = &server.quota;
		if (steps % 4 != 0) {
			agree();
			break_after(steps * 5, steps % 2 == 0);
		}
		run_to_the_end();
		cr_assert(client.err == 0 && server.err == 0);
	}
	cr_expect_gt(waited, 1000);
}

Test(wire_carrier, over_and_back_many_times)
{
	for (int seed = 0; seed < 20; seed++) {
		close_sides();
		open_sides();
		srand((unsigned int)seed);
		start();
		int times = 0;
		while (!all_there()) {
			step();
			(void)flat_carrier_idle(&client.carrier);
			(void)flat_carrier_idle(&server.carrier);
			if (!client.carrier.ring && !server.carrier.ring) {
				cr_assert(!client.carrier.failed && !server.carrier.failed);
				agree();
				times++;
			} else if (rand() % 50 == 0) {
				cut = true;
				flat_carrier_fail(rand() % 2 ? &client.carrier : &server.carrier);
			}
		}
		cr_assert_gt(times, 3);
	}
}

Test(wire_carrier, a_server_whose_ring_fails_before_go_goes_over_and_back)
{
	start();
	agree();
	flat_carrier_fail(&server.carrier);
	cr_assert(!flat_carrier_idle(&server.carrier));
	run_to_the_end();
	cr_assert(flat_carrier_idle(&server.carrier));
}

Test(wire_carrier, go_without_an_offer_ends_the_link)
{
	const uint8_t *bytes;
	struct flat_frame f = {.type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_GO};
	start();
	while (carry(&client, &server, SIZE_MAX))
		;
	flat_wire_link_say(client.link, &f);
	size_t n = flat_carrier_output(&client.carrier, &bytes);
	cr_assert_eq(flat_carrier_input(&server.carrier, bytes, n), -EPROTO);
}

/* Both have gone over; what the client says on TCP then, raw. */
static int say_raw(const void *bytes, size_t len)
{
	start();
	agree();
	for (int i = 0; i < 2000; i++)
		step();
	cr_assert(server.carrier.in_ring && server.carrier.out_ring);
	return flat_carrier_input(&server.carrier, bytes, len);
}

Test(wire_carrier, resume_beyond_what_was_sent_ends_the_link)
{
	cr_assert_eq(say_raw("RSUM\xff\xff\xff\xff\xff\xff\xff\xff", 12), -EPROTO);
}

Test(wire_carrier, resume_before_what_was_credited_ends_the_link)
{
	cr_assert_eq(say_raw("RSUM\0\0\0\0\0\0\0\0", 12), -EPROTO);
}

Test(wire_carrier, anything_else_than_resume_ends_the_link)
{
	static const uint8_t record[32] = {23, 3, 3, 0, 27};
	cr_assert_eq(say_raw(record, sizeof(record)), -EPROTO);
}
