/* Which protocol a client's first bytes are of. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "codec/http.h"

/*
 * What is guessed of all the bytes. Of each shorter piece it is the same, or not known yet: what was said once stays. Pieces lie at the end of
 * their memory, where ASan sees who reads on.
 */
static enum flat_http_guess guess(const char *bytes, size_t len)
{
	enum flat_http_guess first = FLAT_HTTP_GUESS_MORE;

	for (size_t n = 1; n <= len; n++) {
		uint8_t *piece = malloc(n);
		enum flat_http_guess now;

		cr_assert_not_null(piece);
		memcpy(piece, bytes, n);
		now = flat_http_guess(piece, n);
		free(piece);
		if (first != FLAT_HTTP_GUESS_MORE)
			cr_assert_eq(now, first, "byte %zu of \"%s\" says %d after %d", n, bytes,
				     now, first);
		first = now;
	}
	return first;
}

static void is(enum flat_http_guess wanted, const char *text)
{
	enum flat_http_guess got = guess(text, strlen(text));

	cr_assert_eq(got, wanted, "\"%s\": %d, not %d", text, got, wanted);
}

Test(http_guess, requests)
{
	is(FLAT_HTTP_GUESS_1, "GET / HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_1, "GET / HTTP/1.0\r\nHost: x\r\n\r\nwhat follows");
	is(FLAT_HTTP_GUESS_1, "PUT /a b HTTP/1.1\n");
	is(FLAT_HTTP_GUESS_1, "UNLINK / HTTP/1.1\n");
	is(FLAT_HTTP_GUESS_1, "OPTIONS * HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_1, "CONNECT a.example:443 HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_1, "M-SEARCH /\xc3\xa4 HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	is(FLAT_HTTP_GUESS_2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes");
}

Test(http_guess, others)
{
	static const char postgres[] = "\0\0\0\x08\x04\xd2\x16\x2f";
	static const char tls[] = "\x16\x03\x01\x02\0\x01";

	is(FLAT_HTTP_GUESS_OTHER, "hello");
	is(FLAT_HTTP_GUESS_OTHER, "HELLO");
	is(FLAT_HTTP_GUESS_OTHER, "get / HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "PRI * HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "PING\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "*1\r\n$4\r\nPING\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "get key\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "EHLO a.example\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "SSH-2.0-OpenSSH_9.2\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET /\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET / HTTP/2.0\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET / HTTP/1.2\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET / HTTP/1.11\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET  HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, " GET / HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "\r\nGET / HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET\t/ HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "GET /\x01 HTTP/1.1\r\n");
	is(FLAT_HTTP_GUESS_OTHER, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
	cr_assert_eq(guess(postgres, sizeof(postgres) - 1), FLAT_HTTP_GUESS_OTHER);
	cr_assert_eq(guess(tls, sizeof(tls) - 1), FLAT_HTTP_GUESS_OTHER);
}

Test(http_guess, what_never_says)
{
	static char line[FLAT_HTTP_GUESS_BYTES + 1];

	is(FLAT_HTTP_GUESS_MORE, "G");
	is(FLAT_HTTP_GUESS_MORE, "GET");
	is(FLAT_HTTP_GUESS_MORE, "GET / HTTP/1.1");
	is(FLAT_HTTP_GUESS_MORE, "GET / HTTP/1.1\r");
	is(FLAT_HTTP_GUESS_MORE, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r");
	memset(line, 'x', sizeof(line));
	memcpy(line, "GET /", 5);
	cr_assert_eq(flat_http_guess((uint8_t *)line, FLAT_HTTP_GUESS_BYTES - 1),
		     FLAT_HTTP_GUESS_MORE);
	cr_assert_eq(flat_http_guess((uint8_t *)line, FLAT_HTTP_GUESS_BYTES),
		     FLAT_HTTP_GUESS_OTHER);
}
