/* The HTTP/2 codec against frames that no honest peer sends. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "codec/http2.h"
#include "codec/limits.h"
#include "http2_frames.h"

static void wake(void *user)
{
	(void)user;
}

/* What the server makes of them: requests' texts, then what it says of streams and of the connection. */
static void serve(const uint8_t *bytes, size_t len, size_t cut, struct flat_strbuf *out)
{
	struct flat_http2 *h;
	struct flat_http2_stream *s;
	struct flat_http2_stream *held[64];
	struct flat_strbuf ends = {0};
	size_t n = 0;
	const uint8_t *said;
	ssize_t m;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	for (int part = 0; part < 2; part++) {
		size_t at = part == 0 ? 0 : cut;
		size_t end = part == 0 ? cut : len;
		int ret = flat_http2_feed(h, bytes + at, end - at, 0);

		if (ret != 0) {
			flat_strbuf_printf(out, "[%d]", ret);
			break;
		}
	}
	while (n < 64 && (s = flat_http2_accept(h, h)) != NULL)
		held[n++] = s;
	while ((m = flat_http2_drain(h, &said)) > 0) {
		for (size_t at = 0; at < (size_t)m; at = frames_next(said, at)) {
			if (said[at + 3] == 3)
				flat_strbuf_printf(&ends, "[RST %d %d]", said[at + 8],
						   said[at + 12]);
			else if (said[at + 3] == 7)
				flat_strbuf_printf(&ends, "[GOAWAY %d]", said[at + 16]);
		}
	}
	for (size_t i = 0; i < n; i++) {
		flat_strbuf_printf(out, "%d%s ", flat_http2_id(held[i]),
				   flat_http2_is_too_large(held[i]) ? " too large" : "");
		flat_strbuf_puts(out, text_of(held[i]));
		if (flat_http2_is_reset(held[i]))
			flat_strbuf_puts(out, "[reset]");
	}
	flat_strbuf_add(out, ends.data, ends.len);
	flat_strbuf_fini(&ends);
	while (n > 0)
		flat_http2_release(held[--n]);
	flat_http2_close(h);
}

static const char *whole_and_cut(const struct frames *f)
{
	static char text[8192];
	struct flat_strbuf whole = {0};

	serve(f->v, f->len, f->len, &whole);
	snprintf(text, sizeof(text), "%s", flat_strbuf_str(&whole) ? flat_strbuf_str(&whole) : "");
	for (size_t cut = 0; cut < f->len && f->len < 600; cut++) {
		struct flat_strbuf parts = {0};

		serve(f->v, f->len, cut, &parts);
		cr_assert_str_eq(flat_strbuf_str(&parts) ? flat_strbuf_str(&parts) : "", text,
				 "cut at %zu", cut);
		flat_strbuf_fini(&parts);
	}
	flat_strbuf_fini(&whole);
	return text;
}

struct head_case {
	const char *what;
	const char *fields;
	const char *want;
};

#define REFUSED "[RST 1 1]"

static const struct head_case heads[] = {
    {"plain", GET, "1 " REQUEST "\r\n"},
    {"host for authority", ":method=GET|:scheme=http|:path=/|host=h", "1 " REQUEST "\r\n"},
    {"the same twice", GET "|host=H", "1 " REQUEST "\r\n"},
    {"host is not authority", GET "|host=other", REFUSED},
    {"two hosts", GET "|host=h|host=h", REFUSED},
    {"neither", ":method=GET|:scheme=http|:path=/", REFUSED},
    {"capitals", GET "|X-a=1", REFUSED},
    {"CR in a value", GET "|a=b\r", REFUSED},
    {"LF in a value", GET "|a=b\nc: d", REFUSED},
    {"LF in a name", GET "|a\nb=c", REFUSED},
    {"colon in a name", GET "|a:b=c", REFUSED},
    {"space in a name", GET "|a b=c", REFUSED},
    {"empty name", GET "|=c", REFUSED},
    {"LF in the path", ":method=GET|:scheme=http|:authority=h|:path=/\nx: y", REFUSED},
    {"space in the path", ":method=GET|:scheme=http|:authority=h|:path=/ HTTP/1.1", REFUSED},
    {"no path", ":method=GET|:scheme=http|:authority=h", REFUSED},
    {"empty path", ":method=GET|:scheme=http|:authority=h|:path=", REFUSED},
    {"path twice", GET "|:path=/", REFUSED},
    {"pseudo-field after others", ":method=GET|:scheme=http|a=b|:path=/", REFUSED},
    {"unknown pseudo-field", GET "|:x=y", REFUSED},
    {"a response's", GET "|:status=200", REFUSED},
    {"LF in the method", ":method=GET\n|:scheme=http|:authority=h|:path=/", REFUSED},
    {"space in the method", ":method=GET /x|:scheme=http|:authority=h|:path=/", REFUSED},
    {"connection", GET "|connection=close", REFUSED},
    {"keep-alive", GET "|keep-alive=1", REFUSED},
    {"proxy-connection", GET "|proxy-connection=close", REFUSED},
    {"transfer-encoding", GET "|transfer-encoding=chunked", REFUSED},
    {"upgrade", GET "|upgrade=h2c", REFUSED},
    {"te", GET "|te=gzip", REFUSED},
    {"te: trailers", GET "|te=trailers", "1 " REQUEST "te: trailers\r\n\r\n"},
    {"length without content", POST "|content-length=5", REFUSED},
    {"two lengths", POST "|content-length=0|content-length=0", REFUSED},
    {"no length", POST "|content-length=", REFUSED},
    {"signed length", POST "|content-length=+0", REFUSED},
    {"CONNECT", ":method=CONNECT|:authority=h:1", "1 CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n"},
};

Test(http2_frames, heads_are_as_strict_as_those_of_HTTP1)
{
	static struct frames f;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(heads); i++) {
		const char *got;

		frames_begin(&f);
		frames_headers(&f, ALL, 1, heads[i].fields);
		got = whole_and_cut(&f);
		/* nghttp2 resets with PROTOCOL_ERROR too, whoever found it. */
		cr_expect_str_eq(got, heads[i].want, "%s: %s", heads[i].what, got);
	}
}

static void body_case(const char *what, const char *head, const char *const *pieces, size_t n,
		      const char *trailers, const char *want)
{
	static struct frames f;
	const char *got;

	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, head);
	for (size_t i = 0; i < n; i++)
		frames_frame(&f, 0, i + 1 == n && !trailers ? END_STREAM : 0, 1, pieces[i],
			     strlen(pieces[i]));
	if (trailers)
		frames_headers(&f, ALL, 1, trailers);
	got = whole_and_cut(&f);
	cr_expect_str_eq(got, want, "%s: %s", what, got);
}

Test(http2_frames, content_is_of_the_length_that_was_said)
{
	static const char *const pieces[] = {"abc", "", "de"};

#define LENGTH(n) "1 POST / HTTP/1.1\r\nhost: h\r\ncontent-length: " n "\r\n\r\nabcde"
#define CHUNKED "1 POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n"
	body_case("right", POST "|content-length=5", pieces, 3, NULL, LENGTH("5"));
	body_case("none said", POST, pieces, 3, NULL, CHUNKED "0\r\n\r\n");
	body_case("trailers", POST, pieces, 3, "x-t=1", CHUNKED "0\r\nx-t: 1\r\n\r\n");
	body_case("trailers beside a length", POST "|content-length=5", pieces, 3, "x-t=1",
		  LENGTH("5"));
	/* What was at fault before anybody looked at it is no request. */
	body_case("shorter", POST "|content-length=6", pieces, 3, NULL, REFUSED);
	body_case("longer", POST "|content-length=3", pieces, 3, NULL, REFUSED);
	body_case("pseudo-fields in trailers", POST, pieces, 3, ":path=/", REFUSED);
	body_case("connection in trailers", POST, pieces, 3, "connection=close", REFUSED);
}

static void late_case(const char *what, const char *head, const char *content, const char *trailers)
{
	static struct frames f;
	struct flat_http2 *h;
	struct flat_http2_stream *s;
	const uint8_t *said;
	ssize_t n;
	bool reset = false;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, head);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	s = flat_http2_accept(h, h);
	cr_assert_not_null(s, "%s", what);
	f.len = 0;
	frames_frame(&f, 0, trailers ? 0 : END_STREAM, 1, content, strlen(content));
	if (trailers)
		frames_headers(&f, ALL, 1, trailers);
	cr_assert_eq(flat_http2_feed(h, f.v, f.len, 0), 0);
	(void)text_of(s);
	cr_expect(flat_http2_is_reset(s), "%s", what);
	cr_expect_not(flat_http2_read_all(s), "%s", what);
	while ((n = flat_http2_drain(h, &said)) > 0) {
		for (size_t at = 0; at < (size_t)n; at = frames_next(said, at))
			reset |= said[at + 3] == 3 && said[at + 12] == 1;
	}
	cr_expect(reset, "%s", what);
	flat_http2_release(s);
	flat_http2_close(h);
}

Test(http2_frames, a_request_whose_content_is_at_fault_is_reset)
{
	late_case("shorter", POST "|content-length=6", "abcde", NULL);
	late_case("longer", POST "|content-length=3", "abcde", NULL);
	late_case("pseudo-fields in trailers", POST, "abcde", ":path=/");
	late_case("connection in trailers", POST, "abcde", "connection=close");
}

Test(http2_frames, too_many_fields_are_counted_before_they_are_kept)
{
	static struct frames f;
	char fields[8000] = GET;
	const char *got;
	static char large[16000];

	for (int i = 0; i < 101; i++)
		snprintf(fields + strlen(fields), 16, "|f%d=v", i);
	frames_begin(&f);
	frames_headers(&f, ALL, 1, fields);
	got = whole_and_cut(&f);
	cr_expect_str_eq(got, "1 too large " REQUEST "\r\n", "%s", got);
	/* 60 KiB of one name, over some frames. */
	memset(large, 'x', sizeof(large) - 1);
	frames_begin(&f);
	for (int part = 0; part < 5; part++) {
		static uint8_t block[17000];
		size_t len = 0;

		if (part == 0) {
			len += frames_field(block + len, ":method", "GET", 3);
			len += frames_field(block + len, ":scheme", "http", 4);
			len += frames_field(block + len, ":authority", "h", 1);
			len += frames_field(block + len, ":path", "/", 1);
		}
		len += frames_field(block + len, "large", large, sizeof(large) - 1);
		frames_frame(&f, part == 0 ? 1 : 9, part == 4 ? END_HEADERS : part == 0, 1, block,
			     len);
	}
	got = whole_and_cut(&f);
	cr_expect_str_eq(got, "1 too large " REQUEST "\r\n", "%s", got);
}

/* --- streams that are over (RFC 9113, 5.1) --- */

#define FIRST "1 " REQUEST "\r\n"

static void over_case(const char *what, struct frames *f, const char *want)
{
	const char *got = whole_and_cut(f);

	cr_expect_str_eq(got, want, "%s: %s", what, got);
}

Test(http2_frames, a_frame_that_comes_too_late_is_told_from_one_that_never_may)
{
	static struct frames f;

	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, POST);
	frames_frame(&f, 3, 0, 1, "\0\0\0\10", 4);
	frames_frame(&f, 0, END_STREAM, 1, "late", 4);
	over_case("content after a reset", &f, "[GOAWAY 5]");
	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, POST);
	frames_frame(&f, 3, 0, 1, "\0\0\0\10", 4);
	frames_headers(&f, ALL, 1, "x-t=1");
	over_case("a head after a reset", &f, "[GOAWAY 5]");
	frames_begin(&f);
	frames_headers(&f, ALL, 1, GET);
	frames_frame(&f, 0, END_STREAM, 1, "late", 4);
	over_case("content after the end", &f, FIRST "[GOAWAY 5]");
	/* Ours: what is on its way then is no fault. */
	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, GET "|connection=close");
	frames_frame(&f, 0, END_STREAM, 1, "late", 4);
	over_case("content of a stream that was refused", &f, REFUSED);
}

Test(http2_frames, ids_that_were_passed_over_are_never_used)
{
	static struct frames f;

	frames_begin(&f);
	frames_headers(&f, ALL, 5, GET);
	frames_headers(&f, ALL, 3, GET);
	over_case("back into a gap", &f, "5 " REQUEST "\r\n[GOAWAY 1]");
	frames_begin(&f);
	frames_headers(&f, ALL, 5, GET);
	frames_headers(&f, ALL, 9, GET);
	over_case("only a gap", &f, "5 " REQUEST "\r\n9 " REQUEST "\r\n");
}

Test(http2_frames, more_streams_than_allowed_are_refused)
{
	static struct frames f;
	const char *got;

	frames_begin(&f);
	for (uint32_t i = 0; i <= FLAT_HTTP2_STREAMS_MAX; i++)
		frames_headers(&f, END_HEADERS, 2 * i + 1, POST);
	got = whole_and_cut(&f);
	cr_expect_not_null(strstr(got, "[RST 1 7]"), "%s", got);
}
