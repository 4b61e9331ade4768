/* The HTTP/2 codec's own framing: the rules of frames, windows and numbers (RFC 9113, 4 to 6), and blocks that it knows. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "codec/http2.h"
#include "codec/limits.h"
#include "http2_frames.h"

static unsigned woken;

static void wake(void *user)
{
	(void)user;
	woken++;
}

/* What it says now, frame by frame: type, flags, stream, and the last four bytes of short ones. */
static const char *said_by(struct flat_http2 *h)
{
	static char text[4096];
	size_t len = 0;
	const uint8_t *v;
	ssize_t n;

	text[0] = 0;
	while ((n = flat_http2_drain(h, &v)) > 0) {
		for (size_t at = 0; at < (size_t)n && len + 64 < sizeof(text);
		     at = frames_next(v, at)) {
			size_t next = frames_next(v, at);

			len += (size_t)snprintf(text + len, sizeof(text) - len, "%d/%d/%d",
						v[at + 3], v[at + 4], v[at + 8]);
			if (v[at + 3] == 3 || v[at + 3] == 7 || v[at + 3] == 8)
				len += (size_t)snprintf(text + len, sizeof(text) - len, ":%d",
							v[next - 2] << 8 | v[next - 1]);
			len += (size_t)snprintf(text + len, sizeof(text) - len, " ");
		}
	}
	return text;
}

static struct flat_http2 *server_of(const struct frames *f)
{
	struct flat_http2 *h;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	(void)said_by(h);
	cr_assert_eq(flat_http2_feed(h, f->v, f->len, 0), 0);
	return h;
}

/* A client that said its preface, whose server said its SETTINGS: `entries`, `len` bytes. */
static struct flat_http2 *client_of(const char *entries, size_t len)
{
	static struct frames f;
	struct flat_http2 *h;
	const uint8_t *v;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_CLIENT, wake), 0);
	while (flat_http2_drain(h, &v) > 0)
		;
	f.len = 0;
	frames_frame(&f, 4, 0, 0, entries, len);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_assert_str_eq(said_by(h), "4/1/0 ");
	return h;
}

static void put(struct flat_http2_stream *s, const char *text)
{
	cr_assert_eq(flat_http2_write(s, (const uint8_t *)text, strlen(text)),
		     (ssize_t)strlen(text), "%s", text);
}

/* --- answers that are none --- */

struct answer {
	const char *what;
	const char *fields;
	uint8_t flags;
	bool malformed;
	size_t read; /* bytes of its text */
};

static const struct answer answers[] = {
    {"good", ":status=200|content-length=0", ALL, false, 38},
    {"two lengths", ":status=200|content-length=2|content-length=2", END_HEADERS, true, 0},
    {"no status", "x=y", ALL, true, 0},
    {"a field of HTTP/1's connections", ":status=200|connection=close", ALL, true, 0},
    {"101", ":status=101", END_HEADERS, true, 0},
    {"an interim one that ends it", ":status=103", ALL, true, 28},
    {"a length and no content", ":status=200|content-length=5", ALL, true, 0},
};

/* They are told from a server that went: nobody sees a final head of them. */
Test(http2_rules, answers_that_are_none_are_told_from_resets)
{
	static const uint8_t reset[] = {0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2};
	uint8_t text[256];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(answers); i++) {
		const struct answer *a = &answers[i];
		struct flat_http2 *h = client_of("", 0);
		struct flat_http2_stream *s = flat_http2_stream_open(h, h);
		static struct frames f;

		put(s, REQUEST "\r\n");
		(void)said_by(h);
		f.len = 0;
		frames_headers(&f, a->flags, 1, a->fields);
		cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
		cr_expect_eq(flat_http2_is_malformed(s), a->malformed, "%s", a->what);
		cr_expect_eq(flat_http2_is_reset(s), a->malformed, "%s", a->what);
		cr_expect_eq(flat_http2_read(s, text, sizeof(text)), a->read, "%s", a->what);
		flat_http2_release(s);
		s = flat_http2_stream_open(h, h);
		put(s, REQUEST "\r\n");
		(void)said_by(h);
		f.len = 0;
		frames_add(&f, reset, sizeof(reset));
		f.v[8] = 3;
		cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
		cr_expect(flat_http2_is_reset(s) && !flat_http2_is_malformed(s), "%s", a->what);
		flat_http2_release(s);
		flat_http2_close(h);
	}
}

/* A connection at fault ends all that is on it for that reason. */
Test(http2_rules, answers_over_a_connection_at_fault_are_none)
{
	struct flat_http2 *h = client_of("", 0);
	struct flat_http2_stream *s = flat_http2_stream_open(h, h);
	static struct frames f;

	put(s, REQUEST "\r\n");
	(void)said_by(h);
	f.len = 0;
	frames_add(&f, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	flat_http2_close(h);
	cr_expect(flat_http2_is_reset(s) && flat_http2_is_malformed(s));
	flat_http2_release(s);

	h = client_of("", 0);
	s = flat_http2_stream_open(h, h);
	put(s, REQUEST "\r\n");
	flat_http2_close(h);
	cr_expect(flat_http2_is_reset(s) && !flat_http2_is_malformed(s));
	flat_http2_release(s);
}

/* --- frames that end the connection --- */

struct fault {
	const char *what;
	uint8_t type, flags;
	uint32_t stream;
	const char *payload;
	size_t len;
	const char *want;
};

#define GOAWAY(code) "7/0/0:" code " "

static const struct fault faults[] = {
    {"SETTINGS on a stream", 4, 0, 1, "", 0, GOAWAY("1")},
    {"SETTINGS cut", 4, 0, 0, "\0\4\0", 3, GOAWAY("6")},
    {"SETTINGS of CONNECT's protocols that are no yes or no", 4, 0, 0, "\0\10\0\0\0\2", 6,
     GOAWAY("1")},
    {"SETTINGS of priorities that are no yes or no", 4, 0, 0, "\0\11\0\0\0\2", 6, GOAWAY("1")},
    {"SETTINGS confirmed with content", 4, 1, 0, "\0\4\0\1\0\0", 6, GOAWAY("6")},
    {"a window too large", 4, 0, 0, "\0\4\200\0\0\0", 6, GOAWAY("3")},
    {"frames too small", 4, 0, 0, "\0\5\0\0\77\377", 6, GOAWAY("1")},
    {"push neither on nor off", 4, 0, 0, "\0\2\0\0\0\2", 6, GOAWAY("1")},
    {"PING of seven", 6, 0, 0, "1234567", 7, GOAWAY("6")},
    {"PING on a stream", 6, 0, 1, "12345678", 8, GOAWAY("1")},
    {"RST_STREAM on none", 3, 0, 0, "\0\0\0\10", 4, GOAWAY("1")},
    {"RST_STREAM on an idle one", 3, 0, 7, "\0\0\0\10", 4, GOAWAY("1")},
    {"RST_STREAM of three", 3, 0, 1, "\0\0\0", 3, GOAWAY("6")},
    {"PRIORITY of four", 2, 0, 1, "\0\0\0\0", 4, GOAWAY("6")},
    {"PRIORITY on itself", 2, 0, 5, "\0\0\0\5\1", 5, GOAWAY("1")},
    {"DATA on none", 0, 0, 0, "x", 1, GOAWAY("1")},
    {"DATA on an idle one", 0, 0, 9, "x", 1, GOAWAY("1")},
    {"padding as long as the frame", 0, 8, 1, "\2x", 2, GOAWAY("1")},
    {"HEADERS with padding as long", 1, 12, 3, "\2\202", 2, GOAWAY("1")},
    {"HEADERS of an even number", 1, 5, 2, "\202", 1, GOAWAY("1")},
    {"HEADERS that depend on themselves", 1, 37, 3, "\0\0\0\3\1\202", 6, GOAWAY("1")},
    {"CONTINUATION of nothing", 9, 4, 1, "", 0, GOAWAY("1")},
    {"PUSH_PROMISE", 5, 4, 1, "\0\0\0\2", 4, GOAWAY("1")},
    {"GOAWAY of four", 7, 0, 0, "\0\0\0\0", 4, GOAWAY("6")},
    {"a window that opens by nothing", 8, 0, 0, "\0\0\0\0", 4, GOAWAY("1")},
    {"a window beyond its end", 8, 0, 0, "\177\377\377\377", 4, GOAWAY("3")},
    {"an index of no entry", 1, 5, 3, "\377\1", 2, GOAWAY("9")},
    {"an integer without end", 1, 5, 3, "\377\377\377\377\377\377\377", 7, GOAWAY("9")},
    {"a string that is cut", 1, 5, 3, "\0\5ab", 4, GOAWAY("9")},
    {"a table larger than we said", 1, 5, 3, "\77\342\37", 3, GOAWAY("9")},
};

Test(http2_rules, frames_that_no_peer_may_send)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(faults); i++) {
		static struct frames f;
		struct flat_http2 *h;

		frames_begin(&f);
		frames_headers(&f, END_HEADERS, 1, POST);
		h = server_of(&f);
		(void)said_by(h);
		f.len = 0;
		frames_frame(&f, faults[i].type, faults[i].flags, faults[i].stream,
			     faults[i].payload, faults[i].len);
		/* Nothing is read after it. */
		frames_frame(&f, 6, 0, 0, "12345678", 8);
		cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
		const char *said = said_by(h);
		cr_expect_str_eq(said, faults[i].want, "%s: %s", faults[i].what, said);
		cr_expect(flat_http2_over(h), "%s", faults[i].what);
		flat_http2_close(h);
	}
}

Test(http2_rules, a_connection_begins_with_SETTINGS_and_frames_have_a_size)
{
	static struct frames f;
	static uint8_t large[16385];
	struct flat_http2 *h;

	f.len = 0;
	frames_add(&f, FLAT_HTTP2_PREFACE, FLAT_HTTP2_PREFACE_BYTES);
	frames_headers(&f, ALL, 1, GET);
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), GOAWAY("1"));
	flat_http2_close(h);
	frames_begin(&f);
	frames_frame(&f, 4, 1, 0, "", 0);
	frames_frame(&f, 4, 1, 0, "", 0);
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), "4/1/0 " GOAWAY("1"), "confirmed twice");
	flat_http2_close(h);
	frames_begin(&f);
	frames_frame(&f, 11, 0, 0, large, sizeof(large) - 1);
	frames_frame(&f, 11, 0, 0, large, sizeof(large));
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), "4/1/0 " GOAWAY("6"), "an unknown frame, then a larger one");
	flat_http2_close(h);
	frames_begin(&f);
	frames_headers(&f, 0, 1, GET);
	frames_frame(&f, 11, 0, 0, "", 0);
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), "4/1/0 " GOAWAY("1"), "a frame within a block");
	flat_http2_close(h);
	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	cr_expect_eq(flat_http2_feed(h, (const uint8_t *)"GET / HTTP/1.1\r\n", 16, 0), -EPROTO);
	flat_http2_close(h);
}

Test(http2_rules, a_client_that_goes_is_told_so_when_it_has_its_answers)
{
	static const uint8_t nothing[8];
	static struct frames f;
	struct flat_http2 *h;

	frames_begin(&f);
	frames_frame(&f, 7, 0, 0, nothing, sizeof(nothing));
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), "4/1/0 " GOAWAY("0"));
	cr_expect(flat_http2_over(h));
	flat_http2_close(h);
	/* It may ask on: its GOAWAY is about what we might begin. */
	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, POST);
	frames_frame(&f, 7, 0, 0, nothing, sizeof(nothing));
	frames_headers(&f, END_HEADERS, 3, POST);
	h = server_of(&f);
	cr_expect_str_eq(said_by(h), "4/1/0 ");
	cr_expect_eq(flat_http2_streams(h), 2);
	f.len = 0;
	frames_frame(&f, 3, 0, 1, "\0\0\0\10", 4);
	frames_frame(&f, 3, 0, 3, "\0\0\0\10", 4);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), GOAWAY("0"));
	cr_expect_str_eq(said_by(h), "", "once");
	cr_expect(flat_http2_over(h));
	flat_http2_close(h);
}

/* --- windows --- */

Test(http2_rules, padding_counts_and_is_no_content)
{
	static struct frames f;
	struct flat_http2 *h;
	struct flat_http2_stream *s;

	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, POST "|content-length=2");
	frames_frame(&f, 0, 8 | END_STREAM, 1, "\3hi\0\0\0", 6);
	h = server_of(&f);
	s = flat_http2_accept(h, h);
	cr_assert_not_null(s);
	cr_expect_str_eq(text_of(s), "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi");
	cr_expect(flat_http2_read_all(s));
	flat_http2_release(s);
	flat_http2_close(h);
}

Test(http2_rules, a_window_that_is_used_up_twice_resets_the_stream)
{
	static struct frames f;
	static uint8_t piece[16384];
	struct flat_http2 *h;
	struct flat_http2_stream *s;

	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, POST);
	for (int i = 0; i < 3; i++)
		frames_frame(&f, 0, 0, 1, piece, sizeof(piece));
	frames_frame(&f, 0, 0, 1, piece, 16383);
	h = server_of(&f);
	s = flat_http2_accept(h, h);
	cr_assert_not_null(s);
	cr_expect_str_eq(said_by(h), "4/1/0 ", "nothing was read");
	cr_expect_not(flat_http2_is_reset(s));
	f.len = 0;
	frames_frame(&f, 0, 0, 1, "x", 1);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), "3/0/1:3 ");
	cr_expect(flat_http2_is_reset(s));
	flat_http2_release(s);
	flat_http2_close(h);
}

Test(http2_rules, content_waits_for_windows_and_settings_change_them)
{
	struct flat_http2 *h = client_of("\0\4\0\0\0\3", 6);
	struct flat_http2_stream *s = flat_http2_stream_open(h, h);
	static struct frames f;

	put(s, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nabcdefgh");
	cr_expect_str_eq(said_by(h), "1/4/1 0/0/1 ", "three bytes");
	f.len = 0;
	frames_frame(&f, 8, 0, 1, "\0\0\0\1", 4);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), "0/0/1 ", "one more");
	/* Smaller by three: four were sent of zero, and one is given. */
	f.len = 0;
	frames_frame(&f, 4, 0, 0, "\0\4\0\0\0\0", 6);
	frames_frame(&f, 8, 0, 1, "\0\0\0\3", 4);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), "4/1/0 ");
	f.len = 0;
	frames_frame(&f, 4, 0, 0, "\0\4\0\0\0\4", 6);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), "4/1/0 0/1/1 ", "the rest");
	flat_http2_release(s);
	flat_http2_close(h);
}

/* --- requests beyond what a server takes at once --- */

Test(http2_rules, a_request_waits_for_its_place)
{
	struct flat_http2 *h = client_of("\0\3\0\0\0\1", 6);
	struct flat_http2_stream *s[4];
	static struct frames f;

	for (int i = 0; i < 4; i++)
		s[i] = flat_http2_stream_open(h, h);
	put(s[0], REQUEST "\r\n");
	put(s[1], "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
	put(s[2], REQUEST "\r\n");
	put(s[3], REQUEST "\r\n");
	cr_expect_str_eq(said_by(h), "1/5/1 ");
	cr_expect_eq(flat_http2_id(s[1]), 0);
	/* One that is given up has not been. */
	flat_http2_release(s[2]);
	f.len = 0;
	frames_headers(&f, ALL, 1, ":status=200");
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect_str_eq(said_by(h), "1/4/3 0/1/3 ");
	cr_expect_eq(flat_http2_id(s[1]), 3);
	/* What waits when the server leaves may be asked elsewhere. */
	woken = 0;
	f.len = 0;
	frames_frame(&f, 7, 0, 0, "\0\0\0\3\0\0\0\0", 8);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	cr_expect(flat_http2_is_refused(s[3]));
	cr_expect_not(flat_http2_is_reset(s[1]));
	cr_expect_gt(woken, 0);
	for (int i = 0; i < 4; i++) {
		if (i != 2)
			flat_http2_release(s[i]);
	}
	flat_http2_close(h);
}

/* --- blocks that are known --- */

static const char *asked(struct flat_http2 *h, uint32_t id, const char *block, size_t len)
{
	static struct frames f;
	struct flat_http2_stream *s;
	const char *text;

	f.len = 0;
	frames_frame(&f, 1, ALL, id, block, len);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	s = flat_http2_accept(h, h);
	cr_assert_not_null(s);
	text = text_of(s);
	flat_http2_release(s);
	(void)said_by(h);
	return text;
}

/* The bytes of a block name entries of a table: after another entry was made they mean something else. */
Test(http2_rules, the_same_bytes_mean_what_the_table_says_now)
{
	static struct frames f;
	struct flat_http2 *h;
#define START "\202\206\204\1\1h" /* GET, http, /, :authority h without entry */
#define ENTRY(value) START "\100\1x\1" value, sizeof(START "\100\1x\1" value) - 1
#define NAMED START "\276", sizeof(START "\276") - 1

	frames_begin(&f);
	h = server_of(&f);
	cr_expect_str_eq(asked(h, 1, ENTRY("1")), REQUEST "x: 1\r\n\r\n");
	for (uint32_t i = 3; i < 9; i += 2)
		cr_expect_str_eq(asked(h, i, NAMED), REQUEST "x: 1\r\n\r\n");
	cr_expect_str_eq(asked(h, 9, ENTRY("2")), REQUEST "x: 2\r\n\r\n");
	for (uint32_t i = 11; i < 17; i += 2)
		cr_expect_str_eq(asked(h, i, NAMED), REQUEST "x: 2\r\n\r\n");
	/* Entries are made in order, also where the block that makes them repeats. */
	for (uint32_t i = 17; i < 23; i += 2)
		cr_expect_str_eq(asked(h, i, ENTRY("3")), REQUEST "x: 3\r\n\r\n");
	cr_expect_str_eq(asked(h, 23, START "\277\300\301", sizeof(START "\277\300\301") - 1),
			 REQUEST "x: 3\r\nx: 3\r\nx: 2\r\n\r\n");
	flat_http2_close(h);
}

/* :scheme is the second field, of HPACK's table: 6 is http, 7 https. */
Test(http2_rules, the_scheme_is_that_of_the_connection)
{
	for (int secure = 0; secure < 2; secure++) {
		struct flat_http2 *h = client_of("", 0);
		struct flat_http2_stream *s = flat_http2_stream_open(h, h);
		const uint8_t *v;

		if (secure)
			flat_http2_secure(h);
		put(s, REQUEST "\r\n");
		cr_assert_gt(flat_http2_drain(h, &v), 11);
		cr_assert_eq(v[3], 1);
		cr_expect_eq(v[10], secure ? 0x87 : 0x86);
		flat_http2_release(s);
		flat_http2_close(h);
	}
}
