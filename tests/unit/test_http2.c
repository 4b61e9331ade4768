/* The HTTP/2 codec against itself. Floods: test_http2_floods.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "codec/http1.h"
#include "codec/http2.h"
#include "codec/limits.h"
#include "http2_frames.h"

static unsigned woken;

static void wake(void *user)
{
	(void)user;
	woken++;
}

struct duo {
	struct flat_http2 *client, *server;
};

static struct duo duo_open(void)
{
	struct duo d;

	cr_assert_eq(flat_http2_open(&d.client, FLAT_HTTP2_CLIENT, wake), 0);
	cr_assert_eq(flat_http2_open(&d.server, FLAT_HTTP2_SERVER, wake), 0);
	return d;
}

static void duo_close(struct duo *d)
{
	flat_http2_close(d->client);
	flat_http2_close(d->server);
}

static size_t carry(struct flat_http2 *from, struct flat_http2 *to)
{
	const uint8_t *bytes;
	size_t all = 0;
	ssize_t n;

	while ((n = flat_http2_drain(from, &bytes)) > 0) {
		cr_assert_leq((size_t)n, FLAT_HTTP2_PIECE_MAX);
		cr_assert_eq(flat_http2_feed(to, bytes, (size_t)n, 0), 0);
		all += (size_t)n;
	}
	cr_assert_eq(n, 0);
	return all;
}

static void duo_run(struct duo *d)
{
	while (carry(d->client, d->server) + carry(d->server, d->client) > 0)
		;
}

static void put(struct flat_http2_stream *s, const char *text)
{
	cr_assert_eq(flat_http2_write(s, (const uint8_t *)text, strlen(text)),
		     (ssize_t)strlen(text), "%s", text);
}

/* --- from text to text --- */

struct round {
	const char *what;
	const char *sent, *got;
	bool response;
};

#define OK "HTTP/1.1 200 OK\r\n"

static const struct round rounds[] = {
    {"no body", "GET /a?b HTTP/1.1\r\nHost: x.y:1\r\n\r\n",
     "GET /a?b HTTP/1.1\r\nhost: x.y:1\r\n\r\n", false},
    {"names in small letters", "GET / HTTP/1.1\r\nHost: h\r\nX-A: B\r\nX-A: c\r\n\r\n",
     REQUEST "x-a: B\r\nx-a: c\r\n\r\n", false},
    {"fields of one hop stay behind",
     "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, x-b\r\nKeep-Alive: 5\r\nx-b: 1\r\n\r\n",
     REQUEST "\r\n", false},
    {"crumbs", "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nX: y\r\nCookie: b=2\r\n\r\n",
     REQUEST "x: y\r\ncookie: a=1; b=2\r\n\r\n", false},
    {"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
     "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello", false},
    {"no length", "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
     "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", false},
    {"chunks",
     "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
     "chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
     "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
     false},
    {"trailers",
     "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: "
     "1\r\nX-U: "
     "2\r\n\r\n",
     "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: "
     "1\r\nx-u: "
     "2\r\n\r\n",
     false},
    {"gRPC has te, and no length",
     "POST /s/M HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\nContent-Length: "
     "5\r\n\r\nhello",
     "POST /s/M HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc+proto\r\nte: trailers\r\n"
     "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     false},
    {"te", "GET / HTTP/1.1\r\nHost: h\r\nConnection: TE\r\nTE: deflate, trailers\r\nA: b\r\n\r\n",
     REQUEST "a: b\r\nte: trailers\r\n\r\n", false},
    {"te that takes no trailers", "GET / HTTP/1.1\r\nHost: h\r\nTE: deflate\r\n\r\n",
     REQUEST "\r\n", false},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
     false},
    {"response", OK "Content-Length: 2\r\nConnection: close\r\n\r\nhi",
     OK "content-length: 2\r\n\r\nhi", true},
    {"empty response", "HTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n",
     "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", true},
    {"no content", "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
     "HTTP/1.1 204 No Content\r\na: b\r\n\r\n", true},
    {"not modified", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
     "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", true},
    {"interim", "HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\nlink: l\r\n\r\n" OK "content-length: 0\r\n\r\n", true},
    {"no content with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\nA: b\r\n\r\n",
     "HTTP/1.1 204 No Content\r\na: b\r\n\r\n", true},
    {"interim with a length",
     "HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nLink: l\r\n\r\n" OK
     "Content-Length: 0\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\nlink: l\r\n\r\n" OK "content-length: 0\r\n\r\n", true},
    {"trailers only",
     OK "Content-Type: application/grpc\r\ngrpc-status: 7\r\nContent-Length: 0\r\n\r\n",
     OK "content-type: application/grpc\r\ngrpc-status: 7\r\ncontent-length: 0\r\n\r\n", true},
    {"response with trailers",
     OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n",
     OK "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n", true},
};

/* Both messages of an exchange, cut into pieces of `step`. */
static void exchange(const struct round *r, size_t step)
{
	struct duo d = duo_open();
	struct flat_http2_stream *ask = flat_http2_stream_open(d.client, &d);
	struct flat_http2_stream *from = ask;
	struct flat_http2_stream *answer = NULL;
	const uint8_t *text = (const uint8_t *)(r->response ? REQUEST "\r\n" : r->sent);
	size_t len = strlen((const char *)text);
	size_t at = 0;

	for (int side = 0; side <= r->response; side++) {
		size_t seen = at;

		while (at < len) {
			ssize_t n;

			seen = seen + step < len ? seen + step : len;
			n = flat_http2_write(from, text + at, seen - at);
			cr_assert_geq(n, 0, "%s: %zd", r->what, n);
			cr_assert(n > 0 || seen < len, "%s: nothing taken", r->what);
			at += (size_t)n;
			duo_run(&d);
		}
		if (side == 0) {
			answer = flat_http2_accept(d.server, &d);
			cr_assert_not_null(answer, "%s", r->what);
			if (!r->response)
				break;
			(void)text_of(answer);
			from = answer;
			text = (const uint8_t *)r->sent;
			len = strlen(r->sent);
			at = 0;
		}
	}
	from = r->response ? ask : answer;
	char *got = text_of(from);
	cr_expect(flat_http2_read_all(from), "%s", r->what);
	/* Pieces make chunks of their own; the rest is the same. */
	if (step >= strlen(r->sent))
		cr_expect_str_eq(got, r->got, "%s:\n%s", r->what, got);
	flat_http2_release(ask);
	flat_http2_release(answer);
	duo_close(&d);
}

Test(http2, messages_arrive_in_normal_form)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rounds); i++)
		exchange(&rounds[i], strlen(rounds[i].sent));
}

Test(http2, messages_may_be_written_in_any_pieces)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rounds); i++) {
		for (size_t step = 1; step < strlen(rounds[i].sent); step += 1 + step / 8)
			exchange(&rounds[i], step);
	}
}

/* Writes the first head of a text as one that was read already. Its bytes. */
static size_t put_head(struct flat_http2_stream *s, const char *text, enum flat_http1_what what)
{
	static struct flat_http1 p;
	int n;

	flat_http1_begin(&p, what);
	n = flat_http1_read(&p, (const uint8_t *)text, strlen(text));
	cr_assert_gt(n, 0, "%s", text);
	cr_assert_eq(flat_http2_write_head(s, &p.head, text), 0, "%s", text);
	return (size_t)n;
}

Test(http2, heads_that_were_read_arrive_as_their_text_would)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rounds); i++) {
		const struct round *r = &rounds[i];
		struct duo d = duo_open();
		struct flat_http2_stream *ask = flat_http2_stream_open(d.client, &d);
		const char *asked = r->response ? REQUEST "\r\n" : r->sent;
		size_t n = put_head(ask, asked, FLAT_HTTP1_REQUEST);

		put(ask, asked + n);
		duo_run(&d);
		struct flat_http2_stream *answer = flat_http2_accept(d.server, &d);
		cr_assert_not_null(answer, "%s", r->what);
		if (r->response) {
			(void)text_of(answer);
			n = put_head(answer, r->sent, FLAT_HTTP1_RESPONSE);
			put(answer, r->sent + n);
			duo_run(&d);
		}
		char *got = text_of(r->response ? ask : answer);
		cr_expect_str_eq(got, r->got, "%s:\n%s", r->what, got);
		flat_http2_release(ask);
		flat_http2_release(answer);
		duo_close(&d);
	}
}

/* One exchange more on a connection. */
static void once_more(struct duo *d, const struct round *r)
{
	struct flat_http2_stream *ask = flat_http2_stream_open(d->client, d);
	struct flat_http2_stream *answer;

	put(ask, r->response ? REQUEST "\r\n" : r->sent);
	duo_run(d);
	answer = flat_http2_accept(d->server, d);
	cr_assert_not_null(answer, "%s", r->what);
	const char *got = text_of(answer);
	if (r->response) {
		cr_expect_str_eq(got, REQUEST "\r\n", "%s:\n%s", r->what, got);
		put(answer, r->sent);
		duo_run(d);
		got = text_of(ask);
	}
	cr_expect_str_eq(got, r->got, "%s:\n%s", r->what, got);
	flat_http2_release(ask);
	flat_http2_release(answer);
	duo_run(d);
}

/* Blocks that repeat are known by the entries of HPACK's tables: each after each other, and after itself. */
Test(http2, what_a_block_says_does_not_hang_on_those_before)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rounds); i++) {
		for (size_t k = 0; k < FLAT_ARRAY_SIZE(rounds); k++) {
			struct duo d = duo_open();

			for (unsigned turn = 0; turn < 3; turn++)
				once_more(&d, &rounds[i]);
			for (unsigned turn = 0; turn < 2; turn++)
				once_more(&d, &rounds[k]);
			once_more(&d, &rounds[i]);
			duo_close(&d);
		}
	}
}

/* The first fields of a block alone, then all of them, with the last another, and more than are remembered. */
Test(http2, blocks_that_begin_alike_are_told_apart)
{
	struct duo d = duo_open();
	static const unsigned fields[] = {1, 3, 3, 2, 0, 30, 30, 29, 1, 23, 22, 21, 20, 19, 18, 18};
	char sent[1024];
	char got[1024];

	for (size_t i = 0; i < 2 * FLAT_ARRAY_SIZE(fields); i++) {
		struct round r = {.what = "fields", .sent = sent, .got = got};
		int n = snprintf(sent, sizeof(sent), "GET / HTTP/1.1\r\nHost: h\r\n");
		int m = snprintf(got, sizeof(got), REQUEST);

		for (unsigned k = 0; k < fields[i / 2]; k++) {
			n += snprintf(sent + n, sizeof(sent) - (size_t)n, "x-%u: %zu\r\n", k,
				      k + 1 == fields[i / 2] ? i / 4 : 0);
			m += snprintf(got + m, sizeof(got) - (size_t)m, "x-%u: %zu\r\n", k,
				      k + 1 == fields[i / 2] ? i / 4 : 0);
		}
		memcpy(sent + n, "\r\n", 3);
		memcpy(got + m, "\r\n", 3);
		once_more(&d, &r);
	}
	duo_close(&d);
}

Test(http2, the_same_answer_to_HEAD_and_GET)
{
	struct duo d = duo_open();

	for (unsigned i = 0; i < 6; i++) {
		bool head = i % 3 == 1;
		struct flat_http2_stream *ask = flat_http2_stream_open(d.client, &d);

		put(ask, head ? "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" : REQUEST "\r\n");
		duo_run(&d);
		struct flat_http2_stream *answer = flat_http2_accept(d.server, &d);
		cr_assert_not_null(answer);
		(void)text_of(answer);
		put(answer, OK "content-length: 2\r\n\r\n");
		if (!head)
			put(answer, "hi");
		duo_run(&d);
		cr_expect_str_eq(text_of(ask), head ? OK "content-length: 2\r\n\r\n"
						    : OK "content-length: 2\r\n\r\nhi");
		cr_expect(flat_http2_read_all(ask));
		flat_http2_release(ask);
		flat_http2_release(answer);
		duo_run(&d);
	}
	duo_close(&d);
}

Test(http2, a_head_that_was_read_is_taken_once)
{
	struct duo d = duo_open();
	struct flat_http2_stream *ask = flat_http2_stream_open(d.client, &d);
	static struct flat_http1 p;
	static const char text[] = "GET / HTTP/1.1\r\nHost: h\r\nTE: gzip, Trailers\r\n\r\n";

	flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(&p, (const uint8_t *)text, sizeof(text) - 1), 0);
	cr_assert_eq(flat_http2_write_head(ask, &p.head, text), 0);
	cr_expect_eq(flat_http2_write_head(ask, &p.head, text), -EBADMSG);
	duo_run(&d);
	struct flat_http2_stream *answer = flat_http2_accept(d.server, &d);
	cr_assert_not_null(answer);
	cr_expect_str_eq(text_of(answer), REQUEST "te: trailers\r\n\r\n");
	flat_http2_reset(answer, FLAT_HTTP2_CANCEL);
	/* What nobody takes any more is dropped. */
	cr_expect_eq(flat_http2_write_head(answer, &p.head, text), 0);
	flat_http2_release(ask);
	flat_http2_release(answer);
	duo_close(&d);
}

Test(http2, the_answer_to_HEAD_has_no_body)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);

	put(c, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	cr_assert_str_eq(text_of(s), "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
	put(s, OK "Content-Length: 700\r\n\r\n");
	duo_run(&d);
	cr_assert_str_eq(text_of(c), OK "content-length: 700\r\n\r\n");
	cr_assert(flat_http2_read_all(c));
	flat_http2_release(c);
	flat_http2_release(s);
	cr_assert_eq(flat_http2_streams(d.server), 0);
	duo_close(&d);
}

Test(http2, a_response_without_framing_ends_with_its_writer)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);

	put(c, REQUEST "\r\n");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	put(s, OK "A: b\r\n\r\nsome");
	duo_run(&d);
	cr_assert_str_eq(text_of(c), OK "a: b\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n");
	cr_assert_not(flat_http2_read_all(c));
	flat_http2_finish(s);
	flat_http2_release(s);
	duo_run(&d);
	cr_assert_str_eq(text_of(c), "0\r\n\r\n");
	cr_assert(flat_http2_read_all(c));
	flat_http2_release(c);
	duo_close(&d);
}

Test(http2, a_message_that_breaks_off_is_reset)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);

	put(c, REQUEST "\r\n");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	put(s, OK "Content-Length: 5\r\n\r\nab");
	flat_http2_finish(s);
	flat_http2_release(s);
	duo_run(&d);
	(void)text_of(c);
	cr_assert(flat_http2_is_reset(c));
	cr_assert_not(flat_http2_read_all(c));
	cr_assert_not(flat_http2_is_refused(c));
	flat_http2_release(c);
	duo_close(&d);
}

Test(http2, what_was_written_comes_before_the_reset_of_what_breaks_off)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);

	put(c, REQUEST "\r\n");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	put(s, OK "Content-Length: 5\r\n\r\nab");
	flat_http2_break_off(s, FLAT_HTTP2_CANCEL);
	/* It is over for its writer, who may say anything. */
	put(s, "cde");
	flat_http2_release(s);
	duo_run(&d);
	cr_assert_str_eq(text_of(c), OK "content-length: 5\r\n\r\nab");
	cr_assert(flat_http2_is_reset(c));
	cr_assert_not(flat_http2_read_all(c));
	cr_assert_eq(flat_http2_streams(d.server), 0);
	flat_http2_release(c);
	duo_close(&d);
}

/* A connection on which two GETs came, of a client that gives streams no window. */
static void open_shut(struct duo *d, struct frames *f)
{
	static const uint8_t no_window[6] = {0, 4, 0, 0, 0, 0};

	frames_begin(f);
	frames_frame(f, 4, 0, 0, no_window, sizeof(no_window));
	frames_headers(f, ALL, 1, GET);
	frames_headers(f, ALL, 3, GET);
	*d = duo_open();
	cr_assert_eq(flat_http2_feed(d->server, f->v, f->len, 0), 0);
}

static void answer_and_leave(struct duo *d)
{
	struct flat_http2_stream *s = flat_http2_accept(d->server, d);
	const uint8_t *bytes;

	put(s, OK "Content-Length: 5\r\n\r\nabcde");
	flat_http2_release(s);
	while (flat_http2_drain(d->server, &bytes) > 0)
		;
}

Test(http2, an_answer_that_nobody_takes_is_reset_in_its_time)
{
	static struct frames f;
	struct duo d;
	const uint8_t *bytes;
	uint8_t more[4] = {0, 0, 0, 2};

	open_shut(&d, &f);
	cr_expect_eq(flat_http2_flush_late(d.server, 100, 50), 0, "none is answered");
	answer_and_leave(&d);
	cr_expect_eq(flat_http2_streams(d.server), 2);
	cr_expect_eq(flat_http2_flush_late(d.server, 100, 50), 150);
	cr_expect_eq(flat_http2_flush_late(d.server, 149, 50), 150);
	/* Who takes some of it has the time again. */
	f.len = 0;
	frames_frame(&f, 8, 0, 1, more, sizeof(more));
	cr_assert_eq(flat_http2_feed(d.server, f.v, f.len, 0), 0);
	while (flat_http2_drain(d.server, &bytes) > 0)
		;
	cr_expect_eq(flat_http2_flush_late(d.server, 150, 50), 200);
	cr_expect_eq(flat_http2_streams(d.server), 2);
	cr_expect_eq(flat_http2_flush_late(d.server, 200, 50), 0);
	while (flat_http2_drain(d.server, &bytes) > 0)
		;
	cr_expect_eq(flat_http2_streams(d.server), 1, "the other one has a user yet to come");
	duo_close(&d);
}

/* What a connection has to say, as types of its frames. */
static const char *said(struct flat_http2 *h)
{
	static const char names[] = "DHPRSUpGWC";
	static char text[64];
	const uint8_t *bytes;
	size_t n = 0;
	ssize_t len;

	while ((len = flat_http2_drain(h, &bytes)) > 0) {
		for (size_t at = 0; at < (size_t)len; at = frames_next(bytes, at))
			text[n++] = names[bytes[at + 3]];
	}
	text[n] = 0;
	return text;
}

Test(http2, what_breaks_off_waits_for_the_window_and_no_longer_than_any_answer)
{
	static struct frames f;
	struct duo d;
	uint8_t more[4] = {0, 0, 0, 2};

	open_shut(&d, &f);
	for (int i = 0; i < 2; i++) {
		struct flat_http2_stream *s = flat_http2_accept(d.server, &d);

		put(s, OK "Content-Length: 5\r\n\r\nabc");
		flat_http2_break_off(s, FLAT_HTTP2_INTERNAL_ERROR);
		flat_http2_release(s);
	}
	cr_expect_str_eq(said(d.server), "SWSSHH");
	f.len = 0;
	frames_frame(&f, 8, 0, 1, more, sizeof(more));
	cr_assert_eq(flat_http2_feed(d.server, f.v, f.len, 0), 0);
	cr_expect_str_eq(said(d.server), "D");
	cr_assert_eq(flat_http2_feed(d.server, f.v, f.len, 0), 0);
	cr_expect_str_eq(said(d.server), "DR");
	cr_expect_eq(flat_http2_streams(d.server), 1);
	cr_expect_eq(flat_http2_flush_late(d.server, 100, 50), 150);
	cr_expect_eq(flat_http2_flush_late(d.server, 150, 50), 0);
	cr_expect_str_eq(said(d.server), "R");
	cr_expect_eq(flat_http2_streams(d.server), 0);
	duo_close(&d);
}

Test(http2, an_answer_before_the_end_of_the_request_ends_it)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);

	put(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	put(s, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
	flat_http2_finish(s);
	flat_http2_release(s);
	duo_run(&d);
	cr_assert_str_eq(text_of(c), "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
	cr_assert(flat_http2_read_all(c));
	flat_http2_release(c);
	cr_assert_eq(flat_http2_streams(d.server), 0);
	cr_assert_eq(flat_http2_streams(d.client), 0);
	duo_close(&d);
}

/* --- bounds --- */

Test(http2, a_stream_that_is_not_read_stops_its_writer_and_no_other)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);
	static uint8_t piece[16384];
	char *buf = malloc(1 << 20);
	uint64_t sent = 0;
	uint64_t got = 0;
	ssize_t n;

	put(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		n = flat_http2_write(c, piece, sizeof(piece));
		cr_assert_geq(n, 0);
		sent += (uint64_t)n;
		duo_run(&d);
	}
	cr_assert_leq(sent, FLAT_HTTP2_RX_BYTES_MAX + FLAT_HTTP2_TX_BYTES_MAX);
	cr_assert_geq(sent, FLAT_HTTP2_RX_BYTES_MAX);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	for (int i = 0; i < 40; i++) {
		struct flat_http2_stream *other = flat_http2_stream_open(d.client, &d);
		put(other, REQUEST "\r\n");
		duo_run(&d);
		struct flat_http2_stream *o = flat_http2_accept(d.server, &d);
		cr_assert_not_null(o);
		put(o, OK "Content-Length: 0\r\n\r\n");
		duo_run(&d);
		cr_assert(flat_http2_read(other, (uint8_t *)buf, 4096) > 0);
		flat_http2_release(o);
		flat_http2_release(other);
	}
	woken = 0;
	while (sent < 1000000 || got < 1000000) {
		size_t m = flat_http2_read(s, (uint8_t *)buf, 1 << 20);

		got += got == 0 ? m - strlen("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: "
					     "1000000\r\n\r\n")
				: m;
		n = flat_http2_write(c, piece, flat_min_size(sizeof(piece), 1000000 - sent));
		cr_assert_geq(n, 0);
		sent += (uint64_t)n;
		duo_run(&d);
	}
	cr_assert_gt(woken, 0);
	cr_assert(flat_http2_read_all(s));
	flat_http2_release(c);
	flat_http2_release(s);
	free(buf);
	duo_close(&d);
}

Test(http2, after_GOAWAY_no_stream_is_opened)
{
	struct duo d = duo_open();
	struct flat_http2_stream *a = flat_http2_stream_open(d.client, &d);

	put(a, REQUEST "\r\n");
	duo_run(&d);
	struct flat_http2_stream *s = flat_http2_accept(d.server, &d);
	flat_http2_shutdown(d.server);
	/* One is on its way already. */
	struct flat_http2_stream *b = flat_http2_stream_open(d.client, &d);
	put(b, REQUEST "\r\n");
	cr_assert(flat_http2_usable(d.client));
	duo_run(&d);
	cr_assert_not(flat_http2_usable(d.client));
	cr_assert(flat_http2_is_refused(b));
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);
	put(c, REQUEST "\r\n");
	cr_assert(flat_http2_is_reset(c) && flat_http2_is_refused(c));
	put(s, OK "Content-Length: 0\r\n\r\n");
	duo_run(&d);
	cr_assert_str_eq(text_of(a), OK "content-length: 0\r\n\r\n");
	flat_http2_release(a);
	flat_http2_release(b);
	flat_http2_release(c);
	flat_http2_release(s);
	duo_run(&d);
	cr_assert(flat_http2_over(d.client));
	duo_close(&d);
}

Test(http2, streams_outlive_their_connection)
{
	struct duo d = duo_open();
	struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);
	uint8_t byte;

	put(c, REQUEST "\r\n");
	duo_run(&d);
	woken = 0;
	flat_http2_close(d.client);
	cr_assert_eq(woken, 1);
	cr_assert(flat_http2_is_reset(c));
	cr_assert_eq(flat_http2_read(c, &byte, 1), 0);
	cr_assert_eq(flat_http2_write(c, &byte, 1), 1);
	flat_http2_release(c);
	flat_http2_close(d.server);
}

/* --- floods --- */

Test(http2, what_is_no_flood_goes_on)
{
	struct duo d = duo_open();

	/* A call, a ping, a cancelled call: for ever. */
	for (int i = 0; i < 5000; i++) {
		struct flat_http2_stream *c = flat_http2_stream_open(d.client, &d);
		struct flat_http2_stream *s;

		put(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
		duo_run(&d);
		s = flat_http2_accept(d.server, &d);
		cr_assert_not_null(s, "call %d", i);
		if (i % 3 == 0) {
			flat_http2_release(c);
			duo_run(&d);
			flat_http2_release(s);
		} else {
			put(s, OK "Content-Length: 2\r\n\r\nhi");
			flat_http2_release(s);
			duo_run(&d);
			flat_http2_release(c);
		}
		cr_assert_eq(flat_http2_feed(d.server,
					     (const uint8_t *)"\0\0\10\6\0\0\0\0\0abcdefgh", 17, 0),
			     0);
		duo_run(&d);
	}
	cr_assert_not(flat_http2_flooded(d.server));
	cr_assert(flat_http2_usable(d.client));
	duo_close(&d);
}

Test(http2, a_server_that_pushes_is_left)
{
	struct flat_http2 *h;
	static struct frames f;
	const uint8_t *said;
	bool goaway = false;
	ssize_t n;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_CLIENT, wake), 0);
	struct flat_http2_stream *s = flat_http2_stream_open(h, h);
	put(s, REQUEST "\r\n");
	while (flat_http2_drain(h, &said) > 0)
		;
	f.len = 0;
	frames_frame(&f, 4, 0, 0, "", 0);
	frames_frame(&f, 4, 1, 0, "", 0);
	frames_frame(&f, 5, END_HEADERS, 1, "\0\0\0\2\202\206\204", 7);
	(void)!flat_http2_feed(h, f.v, f.len, 0);
	while ((n = flat_http2_drain(h, &said)) > 0) {
		for (size_t at = 0; at < (size_t)n; at = frames_next(said, at))
			goaway |= said[at + 3] == 7;
	}
	cr_assert(goaway);
	cr_assert(flat_http2_over(h));
	flat_http2_release(s);
	flat_http2_close(h);
}
