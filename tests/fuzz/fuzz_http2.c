/*
 * Any bytes as what the peer of an HTTP/2 connection sends, to a server and to a client: they are read whole or cut with the
 * same texts, each text is one that the reader of HTTP/1 takes or refuses, and memory stays bounded. The first byte says
 * which side and where it is cut. Seeds: corpus/http2.
 */
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "codec/http1.h"
#include "codec/http2.h"
#include "codec/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAMS 16

struct run {
	struct flat_http2 *h;
	struct flat_http2_stream *s[STREAMS];
	struct flat_strbuf text[STREAMS];
	size_t n;
};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void wake(void *user)
{
	require(user != NULL);
}

static void read_all(struct run *r)
{
	uint8_t buf[1000];
	struct flat_http2_stream *s;
	size_t n;

	while (r->n < STREAMS && (s = flat_http2_accept(r->h, r)) != NULL)
		r->s[r->n++] = s;
	for (size_t i = 0; i < r->n; i++) {
		while ((n = flat_http2_read(r->s[i], buf, sizeof(buf))) > 0)
			flat_strbuf_add(&r->text[i], buf, n);
	}
}

static void drain(struct run *r)
{
	const uint8_t *out;

	while (flat_http2_drain(r->h, &out) > 0)
		;
	require(flat_http2_streams(r->h) <= 2 * FLAT_HTTP2_STREAMS_MAX);
}

/* A head that no reader takes is an error of ours only where its framing could be another's. */
static void check(const struct flat_strbuf *text, bool response)
{
	static struct flat_http1 p;
	int n;

	flat_http1_begin(&p, response ? FLAT_HTTP1_RESPONSE : FLAT_HTTP1_REQUEST);
	n = text->len ? flat_http1_read(&p, (const uint8_t *)text->data, text->len) : 0;
	require(n >= 0 || p.fault == FLAT_HTTP1_START_LINE || p.fault == FLAT_HTTP1_TARGET ||
		p.fault == FLAT_HTTP1_HOST || p.fault == FLAT_HTTP1_NAME ||
		flat_http1_fault_is_size((enum flat_http1_fault)p.fault));
}

static void play(struct run *r, const uint8_t *data, size_t size, size_t cut, bool client)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

	require(flat_http2_open(&r->h, client ? FLAT_HTTP2_CLIENT : FLAT_HTTP2_SERVER, wake) == 0);
	if (client) {
		r->s[r->n++] = flat_http2_stream_open(r->h, r);
		require(flat_http2_write(r->s[0], (const uint8_t *)get, sizeof(get) - 1) > 0);
		drain(r);
	} else {
		require(flat_http2_feed(r->h, (const uint8_t *)FLAT_HTTP2_PREFACE,
					FLAT_HTTP2_PREFACE_BYTES, 0) == 0);
	}
	for (size_t at = 0; at < size;) {
		size_t n = flat_min_size(size - at, cut);

		if (flat_http2_feed(r->h, data + at, n, 0) != 0)
			break;
		at += n;
		if (at < size && cut == size)
			break;
	}
	read_all(r);
	drain(r);
	for (size_t i = 0; i < r->n; i++)
		check(&r->text[i], client);
}

static void end(struct run *r)
{
	for (size_t i = 0; i < r->n; i++) {
		flat_http2_release(r->s[i]);
		flat_strbuf_fini(&r->text[i]);
	}
	flat_http2_close(r->h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole = {0};
	struct run cut = {0};
	bool client;

	if (size < 2 || size > 65536)
		return 0;
	client = data[0] & 1;
	play(&whole, data + 1, size - 1, size - 1, client);
	play(&cut, data + 1, size - 1, 1 + data[0] / 2, client);
	/* Content that is refused midway may have been given in part. */
	for (size_t i = 0; i < whole.n && i < cut.n; i++) {
		size_t n = flat_min_size(whole.text[i].len, cut.text[i].len);

		if (flat_http2_read_all(whole.s[i]) && flat_http2_read_all(cut.s[i]))
			require(whole.text[i].len == cut.text[i].len &&
				(n == 0 || !memcmp(whole.text[i].data, cut.text[i].data, n)));
	}
	end(&whole);
	end(&cut);
	return 0;
}
