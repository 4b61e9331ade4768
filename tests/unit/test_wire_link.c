/* Two links, ciphertext carried from one to the other by the test: identities, streams, credits, ends, lies. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support_wire_pair.h"
#include "wire/ca.h"
#include "wire/stream.h"

TestSuite(wire_link, .init = pair_init, .fini = pair_fini, .timeout = 60);

Test(wire_link, each_side_knows_the_other_by_its_certificate)
{
	pair_run(SIZE_MAX);
	cr_assert(pair.client.ready);
	cr_assert_str_eq(pair.client.link->peer.id, "spiffe://d/ns/flat-system/sa/flatd");
	cr_assert_str_eq(pair.server.link->peer.id, "spiffe://d/ns/a/sa/client");
	cr_assert_gt(pair.server.link->peer.expires_s, (int64_t)time(NULL) + 3000);
	cr_assert_str_eq(SSL_get_version(pair.client.link->ssl), "TLSv1.3");
}

Test(wire_link, bytes_arrive_whole_and_both_ends_end_whatever_the_pieces)
{
	static const size_t steps[] = {1, 7, 1500, SIZE_MAX};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(steps); i++) {
		size_t n = steps[i] < 100 ? 20000 : 1000000;
		pair_close();
		pair_open(pair.svids, "d/ns/a/sa/client", pair.svids);
		pair_run(steps[i]);
		struct wire_end *c = pair_stream();
		pair_run(steps[i]);
		struct wire_end *s = &pair.server.ends[0];
		cr_assert(c->accepted);
		cr_assert_str_eq(c->text, "d/ns/a/sa/server");
		pair_send(c, n, true);
		pair_send(s, n / 2, true);
		pair_run(steps[i]);
		cr_assert(c->fin && s->fin && c->over && s->over);
		cr_assert_eq(c->err, 0);
		cr_assert_eq(s->n_in, n);
		cr_assert_eq(memcmp(s->in, c->out, n), 0);
		cr_assert_eq(c->n_in, n / 2);
		cr_assert_eq(memcmp(c->in, s->out, n / 2), 0);
		/* Whole records, of which the last bytes make none. */
		cr_assert_geq(c->in_place + FLAT_FRAME_BODY_MAX, n);
		cr_assert_gt(c->in_place, 0);
		cr_assert_eq(pair.client.link->n_streams + pair.server.link->n_streams, 0);
	}
}

Test(wire_link, a_stream_nobody_reads_is_bounded_and_stalls_no_other)
{
	pair_run(SIZE_MAX);
	struct wire_end *slow = pair_stream();
	struct wire_end *fast = pair_stream();
	pair_run(SIZE_MAX);
	pair.server.ends[0].room = 1000;
	pair_send(slow, 3000000, true);
	pair_send(fast, 3000000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[1].n_in, 3000000);
	cr_assert_eq(memcmp(pair.server.ends[1].in, fast->out, 3000000), 0);
	cr_assert_leq(slow->sent, FLAT_WIRE_WINDOW + 1000);
	/* No frame is cut short for the last of the credit. */
	cr_assert_eq(slow->sent % FLAT_FRAME_BODY_MAX, 0);
	cr_assert_leq(pair.server.ends[0].stream->kept, FLAT_WIRE_WINDOW);
	pair.server.ends[0].room = SIZE_MAX;
	cr_assert(flat_wire_room(pair.server.ends[0].stream));
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 3000000);
	cr_assert_eq(memcmp(pair.server.ends[0].in, slow->out, 3000000), 0);
	cr_assert(pair.server.ends[0].fin);
}

Test(wire_link, what_all_streams_hold_is_bounded_and_given_back)
{
	struct flat_hold *hold = flat_hold_new(NULL, (size_t)2 * FLAT_WIRE_WINDOW);
	struct wire_end *e[3];
	pair_run(SIZE_MAX);
	pair.server.link->hold = hold;
	for (int i = 0; i < 3; i++) {
		e[i] = pair_stream();
		pair.server.ends[i].room = 0;
		pair_run(SIZE_MAX);
		pair_send(e[i], 100000, false);
		pair_run(SIZE_MAX);
	}
	cr_expect_eq(hold->bytes, (size_t)2 * FLAT_WIRE_WINDOW);
	cr_expect_eq(hold->denied, 1);
	cr_expect(!e[0]->over && !e[1]->over && e[2]->over, "the third is reset, alone");
	cr_expect_eq(pair.server.ends[2].err, ENOBUFS);
	/* What was read holds nothing, and there is room for another. */
	pair.server.ends[0].room = SIZE_MAX;
	cr_assert(flat_wire_room(pair.server.ends[0].stream));
	cr_expect_eq(pair.server.ends[0].n_in, 100000);
	cr_expect_eq(hold->bytes, (size_t)FLAT_WIRE_WINDOW);
	e[2] = pair_stream();
	pair.server.ends[3].room = 0;
	pair_run(SIZE_MAX);
	pair_send(e[2], 100000, false);
	pair_run(SIZE_MAX);
	cr_expect(!e[2]->over && hold->bytes == (size_t)2 * FLAT_WIRE_WINDOW);
	/* Nor does what is over. */
	flat_wire_reset(pair.server.ends[1].stream, ECONNRESET);
	cr_expect_eq(hold->bytes, (size_t)FLAT_WIRE_WINDOW);
	flat_wire_reset(pair.server.ends[3].stream, ECONNRESET);
	cr_expect_eq(hold->bytes, 0);
	flat_hold_put(hold);
	pair.server.link->hold = NULL;
}

Test(wire_link, a_refusal_carries_errno_and_reason)
{
	pair.server.refuse = EACCES;
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	cr_assert(e->over && !e->accepted);
	cr_assert_eq(e->err, EACCES);
	cr_assert_str_eq(e->text, "because");
	cr_assert_eq(pair.client.link->n_streams, 0);
}

Test(wire_link, a_stream_that_crosses_the_servers_goodbye_is_served)
{
	pair_run(SIZE_MAX);
	flat_wire_link_drain(pair.server.link);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	cr_assert(pair.client.link->draining);
	cr_assert(e->accepted, "%d %s", e->err, e->text);
	pair_send(e, 1000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 1000);
	cr_assert(pair.server.ends[0].fin);
}

Test(wire_link, who_names_no_protocol_is_refused)
{
	const struct flat_svid *svid = flat_svids_find(pair.svids, "d/ns/a/sa/client");
	pair_close();
	cr_assert_eq(SSL_CTX_set_alpn_protos(svid->ctx, NULL, 0), 0);
	pair_open(pair.svids, "d/ns/a/sa/client", pair.svids);
	pair_run(SIZE_MAX);
	cr_assert(!pair.client.ready && !pair.server.link->greeted);
	cr_assert(strstr(pair.server.link->why, "ALPN"), "%s", pair.server.link->why);
}

Test(wire_link, a_reset_reaches_the_other_side)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_assert(pair.server.ends[0].over);
	cr_assert_eq(pair.server.ends[0].err, ECONNRESET);
	cr_assert_eq(pair.server.link->n_streams, 0);
	cr_assert_eq(pair.server.err, 0);
}

/* One stream that is asked for and reset. The errno with which it was refused; 0: it was not. */
static int open_and_reset(void)
{
	struct wire_end *e;
	pair.client.n = pair.server.n = 0;
	pair.client.ends[0].over = false;
	pair.client.ends[0].err = 0;
	e = pair_stream();
	pair_run(SIZE_MAX);
	if (e->over)
		return e->err;
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	return 0;
}

Test(wire_link, streams_that_are_reset_unanswered_are_bounded_and_forgiven)
{
	pair_run(SIZE_MAX);
	struct wire_end *other = &pair.client.ends[1];
	for (unsigned i = 0; i < FLAT_WIRE_RESETS_MAX; i++)
		cr_assert_eq(open_and_reset(), 0, "stream %u", i);
	/* Refused before its owner hears of it; the link goes on. */
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(open_and_reset(), EAGAIN);
		cr_assert_eq(pair.server.n, 0);
	}
	cr_assert_eq(pair.server.err + pair.client.err, 0);
	pair.server.link->tally->unanswered--;
	cr_assert_eq(open_and_reset(), 0);
	cr_assert_eq(open_and_reset(), EAGAIN);
	pair.server.link->tally->unanswered = 0;
	/* One that was answered is none of these. */
	pair.client.n = 1;
	pair.server.n = 0;
	cr_assert_eq(pair_stream(), other);
	pair_run(SIZE_MAX);
	pair_send(&pair.server.ends[0], 10, false);
	pair_run(SIZE_MAX);
	flat_wire_reset(other->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.link->tally->unanswered, 0);
}

/* A frame that an honest client would not send. */
static void lie(struct flat_frame f)
{
	flat_wire_link_put(pair.client.link, &f);
	pair_run(SIZE_MAX);
}

Test(wire_link, more_bytes_than_credit_end_the_link)
{
	static const uint8_t body[FLAT_FRAME_BODY_MAX];
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	pair.server.ends[0].room = 0;
	for (int i = 0; i < 17 && pair.server.err == 0; i++)
		lie((struct flat_frame){.type = FLAT_FRAME_DATA,
					.stream = e->stream->id,
					.data = body,
					.len = sizeof(body)});
	cr_assert_eq(pair.server.err, -EPROTO);
	cr_assert(pair.server.link->why[0]);
}

Test(wire_link, streams_that_were_never_opened_end_the_link)
{
	pair_run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_FIN, .stream = 9});
	cr_assert_eq(pair.server.err, -EPROTO);
}

Test(wire_link, an_id_that_comes_again_ends_the_link)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_OPEN,
				.stream = e->stream->id,
				.to = {.family = AF_INET, .port = 80},
				.from = {.family = AF_INET}});
	cr_assert_eq(pair.server.err, -EPROTO);
}

Test(wire_link, a_client_that_answers_itself_ends_the_link)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_ACCEPT, .stream = e->stream->id});
	cr_assert_eq(pair.server.err, -EPROTO);
}

Test(wire_link, credit_beyond_the_window_ends_the_link)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_CREDIT, .stream = e->stream->id, .number = 1});
	cr_assert_eq(pair.server.err, -EPROTO);
}

Test(wire_link, questions_whose_answers_nobody_reads_end_the_link)
{
	static const uint8_t ping[8];
	struct flat_frame f = {.type = FLAT_FRAME_PING, .data = ping, .len = 8};
	pair_run(SIZE_MAX);
	for (int i = 0; i < 200000 && pair.server.err == 0; i++) {
		flat_wire_link_put(pair.client.link, &f);
		(void)pair_carry(&pair.client, &pair.server, SIZE_MAX);
	}
	cr_assert_eq(pair.server.err, -ENOBUFS);
}

Test(wire_link, bytes_that_are_no_tls_end_the_link)
{
	uint8_t junk[300];
	memset(junk, 0x41, sizeof(junk));
	cr_assert_lt(flat_wire_link_input(pair.server.link, junk, sizeof(junk)), 0);
	cr_assert(pair.server.link->failed);
}

Test(wire_link, ciphertext_that_was_changed_ends_the_link)
{
	const uint8_t *bytes;
	uint8_t copy[4096];
	pair_run(SIZE_MAX);
	flat_wire_link_ping(pair.client.link);
	size_t n = flat_wire_link_output(pair.client.link, &bytes);
	cr_assert(n > 0 && n < sizeof(copy));
	memcpy(copy, bytes, n);
	copy[n - 1] ^= 1;
	cr_assert_lt(flat_wire_link_input(pair.server.link, copy, n), 0);
}

Test(wire_link, another_authority_is_refused_on_both_sides)
{
	struct wire_folder other;
	wire_folder_init(&other, "d");
	struct flat_svids *strange = wire_load(&other);
	pair_close();
	pair_open(strange, "d/ns/a/sa/client", pair.svids);
	pair_run(SIZE_MAX);
	cr_assert(!pair.client.ready);
	cr_assert_eq(pair.client.err, -EACCES);
	cr_assert(strstr(pair.client.link->why, "certificate"), "%s", pair.client.link->why);
	cr_assert(!pair.server.link->greeted);
	flat_svids_put(strange);
	wire_folder_fini(&other);
}

Test(wire_link, who_is_no_flatd_cannot_serve)
{
	pair_close();
	pair_open(pair.svids, "d/ns/a/sa/client", pair.svids);
	flat_wire_link_free(pair.server.link, ECONNRESET);
	pair.server.link =
	    flat_wire_link_new(pair.svids, flat_svids_find(pair.svids, "d/ns/a/sa/other"), true,
			       &pair_ops, &pair.server);
	pair_run(SIZE_MAX);
	cr_assert(!pair.client.ready);
	cr_assert_eq(pair.client.err, -EACCES);
	cr_assert(strstr(pair.client.link->why, "no flatd"), "%s", pair.client.link->why);
}

Test(wire_link, many_streams_share_the_link_in_turn)
{
	pair_run(SIZE_MAX);
	for (int i = 0; i < PAIR_STREAMS; i++)
		(void)pair_stream();
	pair_run(SIZE_MAX);
	for (int i = 0; i < PAIR_STREAMS; i++)
		pair_send(&pair.client.ends[i], 200000, false);
	/* One look each: nobody has had two frames before another has had one. */
	for (int i = 0; i < PAIR_STREAMS; i++)
		flat_wire_stream_send(TAILQ_FIRST(&pair.client.link->ready));
	for (int i = 0; i < PAIR_STREAMS; i++)
		cr_assert_eq(pair.client.ends[i].sent, FLAT_FRAME_BODY_MAX);
	pair_run(SIZE_MAX);
	for (int i = 0; i < PAIR_STREAMS; i++)
		cr_assert_eq(pair.server.ends[i].n_in, 200000);
}

Test(wire_link, small_frames_of_one_turn_share_a_record)
{
	const uint8_t *bytes;
	const size_t record = 5 + 1 + 16; /* RFC 8446, 5.2: header, content type, tag */
	pair_run(SIZE_MAX);
	for (int i = 0; i < 8; i++)
		(void)pair_stream();
	pair_run(SIZE_MAX);
	for (int i = 0; i < 8; i++)
		pair_send(&pair.client.ends[i], 100, false);
	cr_assert(!flat_wire_link_flush(pair.client.link));
	size_t n = flat_wire_link_output(pair.client.link, &bytes);
	cr_assert_eq(n, record + 8 * (FLAT_FRAME_HEADER + 100));
	pair_run(SIZE_MAX);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pair.server.ends[i].n_in, 100);
}

Test(wire_link, what_was_said_before_the_peer_broke_a_rule_arrives)
{
	const struct flat_frame lie = {.type = FLAT_FRAME_FIN, .stream = 9};
	pair_run(SIZE_MAX);
	(void)pair_stream();
	pair_run(SIZE_MAX);
	flat_wire_reset(pair.server.ends[0].stream, ETIMEDOUT);
	flat_wire_link_put(pair.client.link, &lie);
	(void)pair_carry(&pair.client, &pair.server, SIZE_MAX);
	cr_assert_eq(pair.server.err, -EPROTO);
	(void)pair_carry(&pair.server, &pair.client, SIZE_MAX);
	cr_assert(pair.client.ends[0].over);
	cr_assert_eq(pair.client.ends[0].err, ETIMEDOUT);
}
