/* Two links, ciphertext carried from one to the other by the test: identities, streams, credits, ends, lies. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support_wire.h"
#include "wire/ca.h"
#include "wire/stream.h"

#define STREAMS 8
#define OUT_BYTES ((size_t)4 << 20)

/* One end of a stream as its owner holds it. */
struct end {
	struct flat_wire_stream *stream;
	uint8_t *out; /* to be sent */
	size_t n_out;
	size_t sent;
	bool out_ends;
	uint8_t *in; /* received */
	size_t n_in;
	size_t room; /* bytes that are taken yet */
	bool fin;
	bool over;
	int err;
	bool accepted;
	char text[512];
};

struct side {
	struct flat_wire_link *link;
	struct end ends[STREAMS];
	size_t n;
	bool ready;
	int refuse; /* the errno for whoever asks; 0: accepts */
	int err;    /* of input */
};

static struct wire_folder folder;
static struct flat_svids *svids;
static struct side client;
static struct side server;

static void on_ready(struct flat_wire_link *l)
{
	((struct side *)l->owner)->ready = true;
}

static void on_opened(struct flat_wire_link *l, struct flat_wire_stream *s,
		      const struct flat_frame *f)
{
	struct side *side = l->owner;
	cr_assert_eq(f->to.port, 80);
	if (side->refuse) {
		flat_wire_refuse(s, side->refuse, "because");
		return;
	}
	cr_assert_lt(side->n, STREAMS);
	struct end *e = &side->ends[side->n++];
	e->stream = s;
	s->owner = e;
	flat_wire_accept(s, "d/ns/a/sa/server");
}

static void on_accepted(struct flat_wire_stream *s, const char *who)
{
	struct end *e = s->owner;
	e->accepted = true;
	snprintf(e->text, sizeof(e->text), "%s", who);
}

static void on_refused(struct flat_wire_stream *s, int err, const char *why)
{
	struct end *e = s->owner;
	e->over = true;
	e->err = err;
	snprintf(e->text, sizeof(e->text), "%s", why);
}

static ssize_t take(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	struct end *e = s->owner;
	size_t n = len < e->room ? len : e->room;
	cr_assert_leq(e->n_in + n, OUT_BYTES);
	memcpy(e->in + e->n_in, bytes, n);
	e->n_in += n;
	e->room -= n;
	return (ssize_t)n;
}

static void on_fin(struct flat_wire_stream *s)
{
	((struct end *)s->owner)->fin = true;
}

static ssize_t give(struct flat_wire_stream *s, uint8_t *buf, size_t max)
{
	struct end *e = s->owner;
	size_t n = e->n_out - e->sent < max ? e->n_out - e->sent : max;
	if (n == 0)
		return e->out_ends ? 0 : -EAGAIN;
	memcpy(buf, e->out + e->sent, n);
	e->sent += n;
	return (ssize_t)n;
}

static void on_ended(struct flat_wire_stream *s, int err)
{
	struct end *e = s->owner;
	e->stream = NULL;
	e->over = true;
	e->err = err;
}

static const struct flat_wire_ops ops = {.ready = on_ready,
					 .opened = on_opened,
					 .accepted = on_accepted,
					 .refused = on_refused,
					 .take = take,
					 .fin = on_fin,
					 .give = give,
					 .ended = on_ended};

static bool carry(struct side *from, struct side *to, size_t step)
{
	const uint8_t *bytes;
	size_t n = flat_wire_link_output(from->link, &bytes);
	n = n < step ? n : step;
	if (n == 0)
		return false;
	if (to->err == 0)
		to->err = flat_wire_link_input(to->link, bytes, n);
	flat_wire_link_sent(from->link, n);
	return true;
}

/* Until nothing moves. step: bytes at a time. */
static void run(size_t step)
{
	bool moved = true;
	while (moved) {
		(void)flat_wire_link_flush(client.link);
		(void)flat_wire_link_flush(server.link);
		moved = carry(&client, &server, step);
		moved |= carry(&server, &client, step);
	}
}

static void open_sides(struct flat_svids *mine, const char *principal, struct flat_svids *theirs)
{
	const struct flat_svid *svid = flat_svids_find(mine, principal);
	cr_assert_not_null(svid);
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	client.link = flat_wire_link_new(mine, svid, false, &ops, &client);
	server.link = flat_wire_link_new(theirs, theirs->node, true, &ops, &server);
	cr_assert(client.link && server.link);
	for (int i = 0; i < STREAMS; i++) {
		client.ends[i].in = malloc(OUT_BYTES);
		server.ends[i].in = malloc(OUT_BYTES);
		client.ends[i].room = server.ends[i].room = SIZE_MAX;
	}
}

static void close_sides(void)
{
	flat_wire_link_free(client.link, ECONNRESET);
	flat_wire_link_free(server.link, ECONNRESET);
	for (int i = 0; i < STREAMS; i++) {
		free(client.ends[i].in);
		free(server.ends[i].in);
		free(client.ends[i].out);
		free(server.ends[i].out);
	}
}

static void setup(void)
{
	wire_folder_init(&folder, "d");
	svids = wire_load(&folder);
	open_sides(svids, "d/ns/a/sa/client", svids);
}

static void teardown(void)
{
	close_sides();
	flat_svids_put(svids);
	wire_folder_fini(&folder);
}

TestSuite(wire_link, .init = setup, .fini = teardown, .timeout = 60);

static struct end *open_stream(void)
{
	struct flat_addr to = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 2}};
	struct end *e = &client.ends[client.n++];
	e->stream = flat_wire_open(client.link, &to, &to, e);
	cr_assert_not_null(e->stream);
	return e;
}

static void send_bytes(struct end *e, size_t n, bool ends)
{
	e->out = malloc(n + 1);
	e->n_out = n;
	e->out_ends = ends;
	for (size_t i = 0; i < n; i++)
		e->out[i] = (uint8_t)rand();
	flat_wire_ready(e->stream);
}

Test(wire_link, each_side_knows_the_other_by_its_certificate)
{
	run(SIZE_MAX);
	cr_assert(client.ready);
	cr_assert_str_eq(client.link->peer.id, "spiffe://d/ns/flat-system/sa/flatd");
	cr_assert_str_eq(server.link->peer.id, "spiffe://d/ns/a/sa/client");
	cr_assert_gt(server.link->peer.expires_s, (int64_t)time(NULL) + 3000);
	cr_assert_str_eq(SSL_get_version(client.link->ssl), "TLSv1.3");
}

Test(wire_link, bytes_arrive_whole_and_both_ends_end_whatever_the_pieces)
{
	static const size_t steps[] = {1, 7, 1500, SIZE_MAX};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(steps); i++) {
		size_t n = steps[i] < 100 ? 20000 : 1000000;
		close_sides();
		open_sides(svids, "d/ns/a/sa/client", svids);
		run(steps[i]);
		struct end *c = open_stream();
		run(steps[i]);
		struct end *s = &server.ends[0];
		cr_assert(c->accepted);
		cr_assert_str_eq(c->text, "d/ns/a/sa/server");
		send_bytes(c, n, true);
		send_bytes(s, n / 2, true);
		run(steps[i]);
		cr_assert(c->fin && s->fin && c->over && s->over);
		cr_assert_eq(c->err, 0);
		cr_assert_eq(s->n_in, n);
		cr_assert_eq(memcmp(s->in, c->out, n), 0);
		cr_assert_eq(c->n_in, n / 2);
		cr_assert_eq(memcmp(c->in, s->out, n / 2), 0);
		cr_assert_eq(client.link->n_streams + server.link->n_streams, 0);
	}
}

Test(wire_link, a_stream_nobody_reads_is_bounded_and_stalls_no_other)
{
	run(SIZE_MAX);
	struct end *slow = open_stream();
	struct end *fast = open_stream();
	run(SIZE_MAX);
	server.ends[0].room = 1000;
	send_bytes(slow, 3000000, true);
	send_bytes(fast, 3000000, true);
	run(SIZE_MAX);
	cr_assert_eq(server.ends[1].n_in, 3000000);
	cr_assert_eq(memcmp(server.ends[1].in, fast->out, 3000000), 0);
	cr_assert_leq(slow->sent, FLAT_WIRE_WINDOW + 1000);
	cr_assert_leq(server.ends[0].stream->kept, FLAT_WIRE_WINDOW);
	server.ends[0].room = SIZE_MAX;
	cr_assert(flat_wire_room(server.ends[0].stream));
	run(SIZE_MAX);
	cr_assert_eq(server.ends[0].n_in, 3000000);
	cr_assert_eq(memcmp(server.ends[0].in, slow->out, 3000000), 0);
	cr_assert(server.ends[0].fin);
}

Test(wire_link, a_refusal_carries_errno_and_reason)
{
	server.refuse = EACCES;
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	cr_assert(e->over && !e->accepted);
	cr_assert_eq(e->err, EACCES);
	cr_assert_str_eq(e->text, "because");
	cr_assert_eq(client.link->n_streams, 0);
}

Test(wire_link, a_reset_reaches_the_other_side)
{
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	run(SIZE_MAX);
	cr_assert(server.ends[0].over);
	cr_assert_eq(server.ends[0].err, ECONNRESET);
	cr_assert_eq(server.link->n_streams, 0);
	cr_assert_eq(server.err, 0);
}

/* A frame that an honest client would not send. */
static void lie(struct flat_frame f)
{
	flat_wire_link_put(client.link, &f);
	run(SIZE_MAX);
}

Test(wire_link, more_bytes_than_credit_end_the_link)
{
	static const uint8_t body[FLAT_FRAME_BODY_MAX];
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	server.ends[0].room = 0;
	for (int i = 0; i < 17 && server.err == 0; i++)
		lie((struct flat_frame){.type = FLAT_FRAME_DATA,
					.stream = e->stream->id,
					.data = body,
					.len = sizeof(body)});
	cr_assert_eq(server.err, -EPROTO);
	cr_assert(server.link->why[0]);
}

Test(wire_link, streams_that_were_never_opened_end_the_link)
{
	run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_FIN, .stream = 9});
	cr_assert_eq(server.err, -EPROTO);
}

Test(wire_link, an_id_that_comes_again_ends_the_link)
{
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_OPEN,
				.stream = e->stream->id,
				.to = {.family = AF_INET, .port = 80},
				.from = {.family = AF_INET}});
	cr_assert_eq(server.err, -EPROTO);
}

Test(wire_link, a_client_that_answers_itself_ends_the_link)
{
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_ACCEPT, .stream = e->stream->id});
	cr_assert_eq(server.err, -EPROTO);
}

Test(wire_link, credit_beyond_the_window_ends_the_link)
{
	run(SIZE_MAX);
	struct end *e = open_stream();
	run(SIZE_MAX);
	lie((struct flat_frame){.type = FLAT_FRAME_CREDIT, .stream = e->stream->id, .number = 1});
	cr_assert_eq(server.err, -EPROTO);
}

Test(wire_link, questions_whose_answers_nobody_reads_end_the_link)
{
	static const uint8_t ping[8];
	struct flat_frame f = {.type = FLAT_FRAME_PING, .data = ping, .len = 8};
	run(SIZE_MAX);
	for (int i = 0; i < 200000 && server.err == 0; i++) {
		flat_wire_link_put(client.link, &f);
		(void)carry(&client, &server, SIZE_MAX);
	}
	cr_assert_eq(server.err, -ENOBUFS);
}

Test(wire_link, bytes_that_are_no_tls_end_the_link)
{
	uint8_t junk[300];
	memset(junk, 0x41, sizeof(junk));
	cr_assert_lt(flat_wire_link_input(server.link, junk, sizeof(junk)), 0);
	cr_assert(server.link->failed);
}

Test(wire_link, ciphertext_that_was_changed_ends_the_link)
{
	const uint8_t *bytes;
	uint8_t copy[4096];
	run(SIZE_MAX);
	flat_wire_link_ping(client.link);
	size_t n = flat_wire_link_output(client.link, &bytes);
	cr_assert(n > 0 && n < sizeof(copy));
	memcpy(copy, bytes, n);
	copy[n - 1] ^= 1;
	cr_assert_lt(flat_wire_link_input(server.link, copy, n), 0);
}

Test(wire_link, another_authority_is_refused_on_both_sides)
{
	struct wire_folder other;
	wire_folder_init(&other, "d");
	struct flat_svids *strange = wire_load(&other);
	close_sides();
	open_sides(strange, "d/ns/a/sa/client", svids);
	run(SIZE_MAX);
	cr_assert(!client.ready);
	cr_assert_eq(client.err, -EACCES);
	cr_assert(strstr(client.link->why, "certificate"), "%s", client.link->why);
	cr_assert(!server.link->greeted);
	flat_svids_put(strange);
	wire_folder_fini(&other);
}

Test(wire_link, who_is_no_flatd_cannot_serve)
{
	close_sides();
	open_sides(svids, "d/ns/a/sa/client", svids);
	flat_wire_link_free(server.link, ECONNRESET);
	server.link = flat_wire_link_new(svids, flat_svids_find(svids, "d/ns/a/sa/other"), true,
					 &ops, &server);
	run(SIZE_MAX);
	cr_assert(!client.ready);
	cr_assert_eq(client.err, -EACCES);
	cr_assert(strstr(client.link->why, "no flatd"), "%s", client.link->why);
}

Test(wire_link, many_streams_share_the_link_in_turn)
{
	run(SIZE_MAX);
	for (int i = 0; i < STREAMS; i++)
		(void)open_stream();
	run(SIZE_MAX);
	for (int i = 0; i < STREAMS; i++)
		send_bytes(&client.ends[i], 200000, false);
	/* One look each: nobody has had two frames before another has had one. */
	for (int i = 0; i < STREAMS; i++)
		flat_wire_stream_send(TAILQ_FIRST(&client.link->ready));
	for (int i = 0; i < STREAMS; i++)
		cr_assert_eq(client.ends[i].sent, FLAT_FRAME_BODY_MAX);
	run(SIZE_MAX);
	for (int i = 0; i < STREAMS; i++)
		cr_assert_eq(server.ends[i].n_in, 200000);
}
