/*
 * The reader of HTTP/1: each row of the table of security.md, what well-behaved peers send, and that cutting a stream
 * anywhere changes nothing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "../http1/transcript.h"
#include "codec/http1.h"

#define H "Host: a.example\r\n"
#define GET "GET / HTTP/1.1\r\n" H
#define POST "POST /p HTTP/1.1\r\n" H

struct message {
	const char *what;
	const char *bytes;
	size_t len; /* 0: strlen */
	enum flat_http1_fault want;
};

static size_t length_of(const struct message *m)
{
	return m->len ? m->len : strlen(m->bytes);
}

static const struct message requests[] = {
    /* What ordinary clients send. */
    {"a GET", GET "\r\n", 0, FLAT_HTTP1_FINE},
    {"curl", "GET /a?b=c HTTP/1.1\r\nHost: x:80\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
     0, FLAT_HTTP1_FINE},
    {"HTTP/1.0 with a host", "GET / HTTP/1.0\r\n" H "\r\n", 0, FLAT_HTTP1_FINE},
    {"an empty line before it", "\r\n" GET "\r\n", 0, FLAT_HTTP1_FINE},
    {"an unknown method", "BREW /pot HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_FINE},
    {"a name with underscores", GET "X_Id: 1\r\nServer_Name_Of_Some_Length_And_More: 2\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"a method in small letters", "get / HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a method with a small letter", "GEt / HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a length by another name", GET "Content_Length: 5\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"an encoding by another name", GET "TRANSFER_ENCODING: chunked\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"an identity by another name", GET "x-forwarded_client_cert: By=a\r\n\r\n", 0,
     FLAT_HTTP1_NAME},
    {"an absolute URL", "GET http://a.example/x HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_FINE},
    {"an absolute URL without path", "GET http://a.example?q HTTP/1.1\r\n" H "\r\n", 0,
     FLAT_HTTP1_FINE},
    {"an absolute URL in capitals", "GET HTTP://A.example/ HTTP/1.1\r\n" H "\r\n", 0,
     FLAT_HTTP1_FINE},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_FINE},
    {"CONNECT", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"an IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"no blank after the colon", "GET / HTTP/1.1\r\nHost:a\r\nA:b\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"blanks and tabs around a value", GET "A: \t b c \t\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"an empty value", GET "A:\r\nB: \r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"bytes above ASCII in a value", GET "A: caf\xc3\xa9 \xff\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"a body by length", POST "Content-Length: 5\r\n\r\nhello", 0, FLAT_HTTP1_FINE},
    {"a length of 0", POST "Content-Length: 0\r\n\r\n" GET "\r\n", 0, FLAT_HTTP1_FINE},
    {"a length of 18 digits", POST "Content-Length: 000000000000000005\r\n\r\nhello", 0,
     FLAT_HTTP1_FINE},
    {"chunks", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
     0, FLAT_HTTP1_FINE},
    {"chunked in capitals", POST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"chunk extensions",
     POST "Transfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"16 digits of chunk size",
     POST "Transfer-Encoding: chunked\r\n\r\n0000000000000001\r\nx\r\n0\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"trailers", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"pipelined", GET "\r\n" POST "Content-Length: 2\r\n\r\nab" GET "\r\n", 0, FLAT_HTTP1_FINE},
    {"an upgrade", GET "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"a field that Connection lists", GET "Connection: close, X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"Expect", POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 0, FLAT_HTTP1_FINE},
    /* CL with TE, duplicate CL, CL and TE values. */
    {"length and chunked", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"chunked and length", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"two lengths", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"two equal lengths", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"a list of lengths", POST "Content-Length: 5, 5\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"an empty length", POST "Content-Length:\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"a signed length", POST "Content-Length: +5\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"a negative length", POST "Content-Length: -5\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"a length in hex", POST "Content-Length: 0x5\r\n\r\n", 0, FLAT_HTTP1_LENGTH},
    {"a length of 19 digits", POST "Content-Length: 1000000000000000000\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"another encoding", POST "Transfer-Encoding: gzip\r\n\r\n", 0, FLAT_HTTP1_ENCODING},
    {"two encodings", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, FLAT_HTTP1_ENCODING},
    {"chunked twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_ENCODING},
    {"chunked in quotes", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 0, FLAT_HTTP1_ENCODING},
    {"chunked with a parameter", POST "Transfer-Encoding: chunked;q=1\r\n\r\n", 0,
     FLAT_HTTP1_ENCODING},
    {"identity", POST "Transfer-Encoding: identity\r\n\r\n", 0, FLAT_HTTP1_ENCODING},
    {"an empty encoding", POST "Transfer-Encoding:\r\n\r\n", 0, FLAT_HTTP1_ENCODING},
    {"a vertical tab before chunked", POST "Transfer-Encoding: \vchunked\r\n\r\n", 0,
     FLAT_HTTP1_CONTROL},
    {"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_ENCODING},
    /* Line ends, control characters, folding, names. */
    {"bare LF after the request line", "GET / HTTP/1.1\n" H "\r\n", 0, FLAT_HTTP1_CONTROL},
    {"bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 0, FLAT_HTTP1_CONTROL},
    {"bare LF at the end", GET "\n", 0, FLAT_HTTP1_CONTROL},
    {"bare CR in a value", GET "A: b\rc\r\n\r\n", 0, FLAT_HTTP1_CONTROL},
    {"CR CR LF", GET "A: b\r\r\n\r\n", 0, FLAT_HTTP1_CONTROL},
    {"NUL in a value", GET "A: b\0c\r\n\r\n", sizeof(GET "A: b\0c\r\n\r\n") - 1,
     FLAT_HTTP1_CONTROL},
    {"NUL in a name", GET "A\0: b\r\n\r\n", sizeof(GET "A\0: b\r\n\r\n") - 1, FLAT_HTTP1_CONTROL},
    {"DEL in a value", GET "A: \x7f\r\n\r\n", 0, FLAT_HTTP1_CONTROL},
    {"escape in the target", "GET /\x1b HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_CONTROL},
    {"a TLS hello", "\x16\x03\x01\x02", 4, FLAT_HTTP1_CONTROL},
    {"folding by a blank", GET "A: b\r\n c\r\n\r\n", 0, FLAT_HTTP1_FOLD},
    {"folding by a tab", GET "A: b\r\n\tc\r\n\r\n", 0, FLAT_HTTP1_FOLD},
    {"a blank before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 0, FLAT_HTTP1_FOLD},
    {"a blank before the colon", GET "Content-Length : 5\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"a tab before the colon", GET "A\t: 5\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"an empty name", GET ": b\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"no colon", GET "abc\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"a bracket in a name", GET "A[b]: c\r\n\r\n", 0, FLAT_HTTP1_NAME},
    {"a high byte in a name", GET "\xc3\xa9: c\r\n\r\n", 0, FLAT_HTTP1_NAME},
    /* Chunks. */
    {"no digits", POST "Transfer-Encoding: chunked\r\n\r\n\r\n", 0, FLAT_HTTP1_CHUNK},
    {"0x before the digits", POST "Transfer-Encoding: chunked\r\n\r\n0x5\r\n", 0, FLAT_HTTP1_CHUNK},
    {"a sign", POST "Transfer-Encoding: chunked\r\n\r\n+5\r\n", 0, FLAT_HTTP1_CHUNK},
    {"a blank before the digits", POST "Transfer-Encoding: chunked\r\n\r\n 5\r\n", 0,
     FLAT_HTTP1_CHUNK},
    {"a blank after the digits", POST "Transfer-Encoding: chunked\r\n\r\n5 \r\n", 0,
     FLAT_HTTP1_CHUNK},
    {"17 digits", POST "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\n", 0,
     FLAT_HTTP1_CHUNK},
    {"bare LF after the size", POST "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n", 0,
     FLAT_HTTP1_CHUNK},
    {"bare LF in an extension", POST "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n", 0,
     FLAT_HTTP1_CHUNK},
    {"a chunk that is longer than it says",
     POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n", 0, FLAT_HTTP1_CHUNK},
    {"bare LF after the data", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n", 0,
     FLAT_HTTP1_CHUNK},
    {"Content-Length behind",
     POST "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 0,
     FLAT_HTTP1_TRAILER},
    {"Transfer-Encoding behind",
     POST "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_TRAILER},
    {"Host behind", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n", 0,
     FLAT_HTTP1_TRAILER},
    {"credentials behind", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: x\r\n\r\n",
     0, FLAT_HTTP1_TRAILER},
    {"a cookie behind", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nCookie: x\r\n\r\n", 0,
     FLAT_HTTP1_TRAILER},
    {"bare LF behind", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", 0,
     FLAT_HTTP1_CONTROL},
    /* The request line. */
    {"HTTP/0.9", "GET /\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"HTTP/2.0", "GET / HTTP/2.0\r\n" H "\r\n", 0, FLAT_HTTP1_VERSION},
    {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, FLAT_HTTP1_VERSION},
    {"HTTP/1.2", "GET / HTTP/1.2\r\n" H "\r\n", 0, FLAT_HTTP1_VERSION},
    {"HTTP/1.10", "GET / HTTP/1.10\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"http in small letters", "GET / http/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"two blanks", "GET  / HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a tab", "GET\t/ HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a blank in front", " GET / HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a blank behind", "GET / HTTP/1.1 \r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a blank in the target", "GET /a b HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a high byte in the target", "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"no token as method", "G{T / HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"two empty lines before it", "\r\n\r\n" GET "\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a fragment", "GET /a#b HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    {"no path", "GET a HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    {"an https URL", "GET https://a.example/ HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    {"a user in the URL", "GET http://u@a.example/ HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    {"GET *", "GET * HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    {"CONNECT to a path", "CONNECT /a HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_TARGET},
    /* Host. */
    {"no host", "GET / HTTP/1.1\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"no host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"two hosts", GET "Host: b.example\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"the same host twice", GET H "\r\n", 0, FLAT_HTTP1_HOST},
    {"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"two in one", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"a port that is none", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"port 65536", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"brackets without end", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 0, FLAT_HTTP1_HOST},
    {"not the URL's", "GET http://b.example/ HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_HOST},
    {"not the URL's port", "GET http://a.example:81/ HTTP/1.1\r\n" H "\r\n", 0, FLAT_HTTP1_HOST},
    /* Connection. */
    {"Connection lists Content-Length",
     POST "Content-Length: 1\r\nConnection: content-length\r\n\r\n", 0, FLAT_HTTP1_CONNECTION},
    {"Connection lists Host", GET "Connection: Host\r\n\r\n", 0, FLAT_HTTP1_CONNECTION},
    {"Connection lists X-Forwarded-For", GET "Connection: close, X-Forwarded-For\r\n\r\n", 0,
     FLAT_HTTP1_CONNECTION},
    {"Connection lists X-Forwarded-Host",
     GET "X-Forwarded-Host: a\r\nConnection: x-forwarded-host\r\n\r\n", 0, FLAT_HTTP1_CONNECTION},
    {"Connection lists X-Forwarded-Proto", GET "Connection: X-Forwarded-Proto\r\n\r\n", 0,
     FLAT_HTTP1_CONNECTION},
    {"Connection lists Authorization", GET "Authorization: a\r\nConnection: authorization\r\n\r\n",
     0, FLAT_HTTP1_CONNECTION},
};

static const struct message responses[] = {
    {"a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, FLAT_HTTP1_FINE},
    {"until the end", "HTTP/1.0 200 OK\r\n\r\nanything", 0, FLAT_HTTP1_FINE},
    {"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
     0, FLAT_HTTP1_FINE},
    {"interim and final", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0,
     FLAT_HTTP1_FINE},
    {"no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"no blank before no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 0, FLAT_HTTP1_FINE},
    {"an empty line before it", "\r\nHTTP/1.1 200 OK\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a status of four", "HTTP/1.1 2000 OK\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a status of 099", "HTTP/1.1 099 OK\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"a status of 600", "HTTP/1.1 600 OK\r\n\r\n", 0, FLAT_HTTP1_START_LINE},
    {"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", 0, FLAT_HTTP1_VERSION},
    {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"length and chunked",
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_LENGTH},
    {"chunked 204", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_ENCODING},
    {"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
     FLAT_HTTP1_ENCODING},
    {"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0, FLAT_HTTP1_CONTROL},
    {"folding", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 0, FLAT_HTTP1_FOLD},
};

static void check_table(const struct message *v, size_t n, bool response)
{
	for (size_t i = 0; i < n; i++) {
		struct flat_strbuf out = {0};
		char want[100];
		char *end;

		transcript((const uint8_t *)v[i].bytes, length_of(&v[i]), response, NULL, 0, &out);
		end = strstr(out.data, "fault ");
		if (v[i].want == FLAT_HTTP1_FINE) {
			cr_expect(!end, "%s: %s", v[i].what, out.data);
			cr_expect(strstr(out.data, response ? "response " : "request "), "%s",
				  v[i].what);
		} else {
			snprintf(want, sizeof(want), "fault %s\n",
				 flat_http1_fault_text(v[i].want));
			cr_expect(end && strcmp(end, want) == 0, "%s: wanted %s, got %s", v[i].what,
				  want, out.data);
		}
		flat_strbuf_fini(&out);
	}
}

Test(http1, requests_are_taken_or_refused_as_the_table_says)
{
	check_table(requests, FLAT_ARRAY_SIZE(requests), false);
}

Test(http1, responses_are_taken_or_refused_as_the_table_says)
{
	check_table(responses, FLAT_ARRAY_SIZE(responses), true);
}

static void check_cuts(const struct message *m, bool response)
{
	const uint8_t *bytes = (const uint8_t *)m->bytes;
	size_t len = length_of(m);
	struct flat_strbuf whole = {0};
	struct flat_strbuf cut = {0};
	size_t every[1024];

	transcript(bytes, len, response, NULL, 0, &whole);
	for (size_t i = 1; i < len; i++) {
		flat_strbuf_reset(&cut);
		transcript(bytes, len, response, &i, 1, &cut);
		cr_expect_str_eq(cut.data, whole.data, "%s, cut at %zu", m->what, i);
		every[i - 1] = i;
	}
	flat_strbuf_reset(&cut);
	transcript(bytes, len, response, every, len - 1, &cut);
	cr_expect_str_eq(cut.data, whole.data, "%s, byte by byte", m->what);
	flat_strbuf_fini(&whole);
	flat_strbuf_fini(&cut);
}

Test(http1, a_cut_at_any_byte_changes_nothing)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(requests); i++)
		check_cuts(&requests[i], false);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(responses); i++)
		check_cuts(&responses[i], true);
}

/* What comes out is read as what came in, and comes out the same again. */
/* What is read with the heads of the table known, one after the other, is what is read without. */
static void read_with_known(const struct message *table, size_t n, enum flat_http1_what what)
{
	static struct flat_http1_known known;
	static struct flat_http1 with, without;

	known.len = 0;
	for (size_t i = 0; i < 3 * n; i++) {
		const struct message *m = &table[i / 3];
		const uint8_t *bytes = (const uint8_t *)m->bytes;
		int want;

		flat_http1_begin(&without, what);
		want = flat_http1_read(&without, bytes, length_of(m));
		flat_http1_begin(&with, what);
		cr_expect_eq(flat_http1_read_known(&with, &known, bytes, length_of(m)), want, "%s",
			     m->what);
		cr_expect_eq(with.fault, without.fault, "%s", m->what);
		if (want <= 0)
			continue;
		size_t len = offsetof(struct flat_http1, head.fields) +
			     without.head.n_fields * sizeof(without.head.fields[0]);
		cr_expect_eq(memcmp(&with, &without, len), 0, "%s", m->what);
		/* Whole but for its last byte: not yet. */
		flat_http1_begin(&with, what);
		cr_expect_eq(flat_http1_read_known(&with, &known, bytes, (size_t)want - 1), 0, "%s",
			     m->what);
		cr_expect_eq(flat_http1_read_known(&with, &known, bytes, (size_t)want), want, "%s",
			     m->what);
	}
}

Test(http1, a_head_that_is_known_is_the_one_that_was_read)
{
	read_with_known(requests, FLAT_ARRAY_SIZE(requests), FLAT_HTTP1_REQUEST);
	read_with_known(responses, FLAT_ARRAY_SIZE(responses), FLAT_HTTP1_RESPONSE);
}

Test(http1, the_normal_form_is_a_fixed_point)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(requests); i++) {
		struct flat_strbuf once = {0};
		struct flat_strbuf twice = {0};

		if (requests[i].want != FLAT_HTTP1_FINE)
			continue;
		normal_form((const uint8_t *)requests[i].bytes, length_of(&requests[i]), false,
			    &once);
		normal_form((const uint8_t *)once.data, once.len, false, &twice);
		cr_expect_str_eq(twice.data, once.data, "%s", requests[i].what);
		flat_strbuf_fini(&once);
		flat_strbuf_fini(&twice);
	}
}

static const char *whole(const char *bytes, struct flat_strbuf *out)
{
	flat_strbuf_reset(out);
	transcript((const uint8_t *)bytes, strlen(bytes), false, NULL, 0, out);
	return out->data;
}

Test(http1, what_is_of_one_hop_is_not_delivered)
{
	struct flat_strbuf out = {0};
	const char *text = whole(
	    GET "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n"
		"X-Forwarded-Client-Cert: URI=spiffe://x\r\nX-Kept: 2\r\n\r\n",
	    &out);
	cr_expect(strstr(text, "hidden Connection"));
	cr_expect(strstr(text, "hidden X-Secret"));
	cr_expect(strstr(text, "hidden Keep-Alive"));
	cr_expect(strstr(text, "hidden TE"));
	cr_expect(strstr(text, "hidden X-Forwarded-Client-Cert"));
	cr_expect(strstr(text, "field X-Kept: 2"));
	flat_strbuf_fini(&out);
}

Test(http1, of_te_only_trailers_is_delivered)
{
	static const struct {
		const char *fields, *want, *not ;
	} rows[] = {
	    {"TE: trailers\r\n", "field TE: trailers\n", "hidden TE"},
	    {"Connection: TE\r\nTE: trailers\r\n", "field TE: trailers\n", "hidden TE"},
	    {"TE: Trailers\r\nConnection: close, te\r\n", "field TE: Trailers\n", "hidden TE"},
	    {"TE: deflate;q=0.5 ,trailers\t, gzip\r\n", "field TE: trailers\n", "gzip"},
	    {"TE: trailers\r\nTE: trailers\r\n", "hidden TE: trailers\n", NULL},
	    {"TE: trailers;q=1\r\n", "hidden TE", "field TE"},
	    {"TE: trailersx, x-trailers\r\n", "hidden TE", "field TE"},
	    {"TE: ,\r\n", "hidden TE", "field TE"},
	    {"TE:\r\n", "hidden TE", "field TE"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		struct flat_strbuf out = {0};
		char text[200];

		snprintf(text, sizeof(text), GET "%s\r\n", rows[i].fields);
		(void)whole(text, &out);
		cr_expect(strstr(out.data, rows[i].want), "%s: %s", rows[i].fields, out.data);
		cr_expect(!rows[i].not || !strstr(out.data, rows[i].not ), "%s: %s", rows[i].fields,
			  out.data);
		flat_strbuf_fini(&out);
	}
	struct flat_strbuf out = {0};
	cr_expect(strstr(whole("GET / HTTP/1.0\r\n" H "TE: trailers\r\n\r\n", &out), "hidden TE"));
	flat_strbuf_fini(&out);
}

Test(http1, a_connection_stays_as_its_sender_wants)
{
	struct flat_strbuf out = {0};
	cr_expect(strstr(whole(GET "\r\n", &out), "keep 1"));
	cr_expect(strstr(whole(GET "Connection: close\r\n\r\n", &out), "keep 0"));
	cr_expect(strstr(whole(GET "Connection: a,  CLOSE\r\n\r\n", &out), "keep 0"));
	cr_expect(strstr(whole("GET / HTTP/1.0\r\n" H "\r\n", &out), "keep 0"));
	cr_expect(
	    strstr(whole("GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n", &out), "keep 1"));
	flat_strbuf_fini(&out);
}

/* A head of `total` bytes by one long field. */
static char *head_of(size_t total)
{
	char *text = malloc(total + 1);
	size_t begin = (size_t)snprintf(text, total + 1, GET "A: ");
	memset(text + begin, 'a', total - begin);
	memcpy(text + total - 4, "\r\n\r\n", 5);
	return text;
}

Test(http1, a_head_is_bounded_in_bytes)
{
	static struct flat_http1 p;
	char *text = head_of(FLAT_HTTP_HEAD_BYTES_MAX);
	flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
	cr_expect_eq(flat_http1_read(&p, (uint8_t *)text, FLAT_HTTP_HEAD_BYTES_MAX),
		     (int)FLAT_HTTP_HEAD_BYTES_MAX);
	free(text);
	text = head_of(FLAT_HTTP_HEAD_BYTES_MAX + 1);
	for (size_t first = 0; first <= FLAT_HTTP_HEAD_BYTES_MAX; first += 6144) {
		int ret;
		flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
		ret = flat_http1_read(&p, (uint8_t *)text, first);
		if (ret == 0)
			ret = flat_http1_read(&p, (uint8_t *)text, FLAT_HTTP_HEAD_BYTES_MAX + 1);
		cr_expect_eq(ret, -EBADMSG);
		cr_expect_eq(p.fault, FLAT_HTTP1_TOO_LARGE);
	}
	cr_expect(flat_http1_fault_is_size(FLAT_HTTP1_TOO_LARGE));
	free(text);
}

Test(http1, a_head_is_bounded_in_fields)
{
	struct flat_strbuf text = {0};
	static struct flat_http1 p;
	struct flat_record record = {0};
	flat_strbuf_puts(&text, GET);
	for (unsigned i = 1; i < FLAT_HTTP_FIELDS_MAX; i++)
		flat_strbuf_puts(&text, "A: b\r\n");
	flat_strbuf_puts(&text, "\r\n");
	flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
	cr_expect_eq(flat_http1_read(&p, (uint8_t *)text.data, text.len), (int)text.len);
	flat_http1_record(&p, &record);
	cr_expect_eq(record.kind, FLAT_RECORD_REQUEST);
	cr_expect_eq(record.n_fields, FLAT_HTTP_FIELDS_MAX);
	cr_expect_eq(record.head_bytes, text.len);
	cr_expect_eq(record.flags, FLAT_RECORD_END);
	text.len -= 2;
	flat_strbuf_puts(&text, "A: b\r\n\r\n");
	flat_http1_begin(&p, FLAT_HTTP1_REQUEST);
	cr_expect_eq(flat_http1_read(&p, (uint8_t *)text.data, text.len), -EBADMSG);
	cr_expect_eq(p.fault, FLAT_HTTP1_TOO_MANY);
	flat_strbuf_fini(&text);
}

Test(http1, chunk_lines_extensions_and_trailers_are_bounded)
{
	struct flat_strbuf text = {0};
	struct flat_strbuf out = {0};
	flat_strbuf_puts(&text, POST "Transfer-Encoding: chunked\r\n\r\n1;");
	for (unsigned i = 0; i < FLAT_HTTP_CHUNK_LINE_MAX; i++)
		flat_strbuf_putc(&text, 'e');
	cr_expect(strstr(whole(text.data, &out), "fault chunk"));
	flat_strbuf_reset(&text);
	flat_strbuf_puts(&text, POST "Transfer-Encoding: chunked\r\n\r\n");
	for (unsigned i = 0; i < FLAT_HTTP_CHUNK_EXTENSIONS_MAX / 200 + 1; i++)
		flat_strbuf_printf(&text, "1;%0200d\r\nx\r\n", 0);
	cr_expect(strstr(whole(text.data, &out), "fault chunk"));
	flat_strbuf_reset(&text);
	flat_strbuf_puts(&text, POST "Transfer-Encoding: chunked\r\n\r\n0\r\n");
	for (unsigned i = 0; i < FLAT_HTTP_TRAILER_BYTES_MAX / 100 + 1; i++)
		flat_strbuf_printf(&text, "A: %0100d\r\n", 0);
	cr_expect(strstr(whole(text.data, &out), "fault too many bytes"));
	flat_strbuf_fini(&text);
	flat_strbuf_fini(&out);
}

Test(http1, responses_without_body_have_none)
{
	struct flat_http_head head = {.response = true, .status = 200, .body = FLAT_BODY_CHUNKED};
	cr_expect_eq(flat_http1_response_body(&head, FLAT_METHOD_GET), FLAT_BODY_CHUNKED);
	cr_expect_eq(flat_http1_response_body(&head, FLAT_METHOD_HEAD), FLAT_BODY_NONE);
	head.body = FLAT_BODY_OPAQUE;
	head.status = 304;
	cr_expect_eq(flat_http1_response_body(&head, FLAT_METHOD_GET), FLAT_BODY_NONE);
	head.status = 204;
	cr_expect_eq(flat_http1_response_body(&head, FLAT_METHOD_GET), FLAT_BODY_NONE);
	head.status = 103;
	cr_expect_eq(flat_http1_response_body(&head, FLAT_METHOD_GET), FLAT_BODY_NONE);
}

Test(http1, writing_never_passes_the_end_of_the_buffer)
{
	uint8_t bytes[64];
	for (size_t size = 0; size < 60; size++) {
		struct flat_http1_out out = {.bytes = bytes, .size = size};
		memset(bytes, 0x55, sizeof(bytes));
		flat_http1_put_request_line(&out, flat_span_of("GET"), flat_span_of("/index"), 1);
		flat_http1_put_field(&out, flat_span_of("Host"), flat_span_of("a.example"));
		flat_http1_put_chunk(&out, 0x1f);
		cr_expect_eq(out.full, size < 21 + 17 + 4, "%zu", size);
		cr_expect_leq(out.len, size);
		cr_expect_eq(bytes[size], 0x55);
	}
}

Test(http1, reasons_and_verdicts_have_names)
{
	cr_expect_str_eq(flat_http1_reason(404), "Not Found");
	cr_expect_str_eq(flat_http1_reason(299), "Unknown");
	cr_expect_str_eq(flat_verdict_flags(FLAT_VERDICT_NO_ROUTE), "NR");
	cr_expect_str_eq(flat_verdict_flags(FLAT_VERDICT_NONE), "-");
}

/* --- what decisions are asked about --- */

static struct flat_http_request request_of(struct flat_http1 *p, const char *text)
{
	flat_http1_begin(p, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(p, (const uint8_t *)text, strlen(text)), 0);
	return (struct flat_http_request){.head = &p->head, .text = text};
}

Test(http, repeated_fields_are_given_one_by_one_and_joined)
{
	static struct flat_http1 p;
	struct flat_http_request r = request_of(&p, GET "A: 1\r\nB: x\r\na: 2\r\nA: 3\r\n\r\n");
	struct flat_span a = flat_span_of("a");
	char buf[16];
	bool overflow;
	struct flat_span joined = flat_http_field_joined(&r, a, buf, sizeof(buf), &overflow);
	cr_expect(flat_span_equal(joined, flat_span_of("1,2,3"), false));
	cr_expect(!overflow);
	cr_expect(flat_span_equal(flat_http_field_get(&r, a, 1), flat_span_of("2"), false));
	cr_expect_null(flat_http_field_get(&r, a, 3).text);
	joined = flat_http_field_joined(&r, flat_span_of("b"), buf, 0, &overflow);
	cr_expect(flat_span_equal(joined, flat_span_of("x"), false));
	joined = flat_http_field_joined(&r, a, buf, 4, &overflow);
	cr_expect(overflow && !joined.text);
	cr_expect_null(flat_http_field_joined(&r, flat_span_of("c"), buf, 4, &overflow).text);
}

Test(http, a_host_is_an_authority_without_port)
{
	cr_expect(flat_span_equal(flat_http_host(flat_span_of("a:80")), flat_span_of("a"), false));
	cr_expect(flat_span_equal(flat_http_host(flat_span_of("a")), flat_span_of("a"), false));
	cr_expect(
	    flat_span_equal(flat_http_host(flat_span_of("[::1]")), flat_span_of("[::1]"), false));
	cr_expect(flat_span_equal(flat_http_host(flat_span_of("[::1]:80")), flat_span_of("[::1]"),
				  false));
}

Test(http, tokens_are_found_in_lists)
{
	cr_expect(flat_http_list_has(flat_span_of("a, websocket ,b"), "WebSocket"));
	cr_expect(!flat_http_list_has(flat_span_of("a, websockets"), "websocket"));
	cr_expect(!flat_http_list_has(flat_span_of(NULL), "websocket"));
}
