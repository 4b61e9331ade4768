/* Streams: their lives, and what is read of them. */
#include "codec/http2_stream.h"

#include <errno.h>
#include <stdlib.h>

/* The first size of bytes that grow. */
#define FIRST_BYTES ((size_t)512)

int flat_http2_bytes_add(struct flat_http2_bytes *b, const void *bytes, size_t len, size_t max)
{
	size_t have = b->len - b->at;

	if (len == 0)
		return 0;
	if (have > max || len > max - have)
		return -EMSGSIZE;
	if (b->at == b->len)
		b->at = b->len = 0;
	if (len > b->size - b->len && b->at > 0) {
		memmove(b->v, b->v + b->at, have);
		b->at = 0;
		b->len = have;
	}
	if (len > b->size - b->len) {
		size_t size = b->size ? b->size : FIRST_BYTES;
		uint8_t *v;

		while (size < have + len)
			size *= 2;
		v = realloc(b->v, size);
		if (!v)
			return -ENOMEM;
		b->v = v;
		b->size = size;
	}
	memcpy(b->v + b->len, bytes, len);
	b->len += len;
	return 0;
}

void flat_http2_bytes_free(struct flat_http2_bytes *b)
{
	free(b->v);
	*b = (struct flat_http2_bytes){NULL, 0, 0, 0};
}

/* --- life --- */

/* Without what is in them; large ones are given back. */
static struct flat_http2_bytes emptied(struct flat_http2_bytes *b)
{
	if (b->size > FLAT_HTTP2_SPARE_BYTES)
		flat_http2_bytes_free(b);
	return (struct flat_http2_bytes){b->v, 0, 0, b->size};
}

static struct flat_http2_stream *take_spare(struct flat_http2 *h)
{
	struct flat_http2_stream *s = TAILQ_FIRST(&h->spare);

	if (!s)
		return calloc(1, sizeof(*s));
	TAILQ_REMOVE(&h->spare, s, link);
	h->n_spare--;
	return s;
}

static void free_all(struct flat_http2_stream *s)
{
	flat_http2_bytes_free(&s->rx_text);
	flat_http2_bytes_free(&s->rx_data);
	flat_http2_bytes_free(&s->rx_fields);
	flat_http2_bytes_free(&s->tx_data);
	flat_http2_bytes_free(&s->tx_trailers);
	free(s);
}

void flat_http2_spare_fini(struct flat_http2 *h)
{
	struct flat_http2_stream *s;
	struct flat_http2_stream *next;

	for (s = TAILQ_FIRST(&h->spare); s; s = next) {
		next = TAILQ_NEXT(s, link);
		free_all(s);
	}
}

struct flat_http2_stream *flat_http2_stream_new(struct flat_http2 *h, int32_t id)
{
	struct flat_http2_stream *s = take_spare(h);

	if (!s)
		return NULL;
	s->h = h;
	s->id = id;
	TAILQ_INSERT_TAIL(&h->streams, s, link);
	h->n_streams++;
	return s;
}

void flat_http2_stream_free(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;

	if (h) {
		TAILQ_REMOVE(&h->streams, s, link);
		h->n_streams--;
	}
	if (s->ready)
		TAILQ_REMOVE(&h->ready, s, ready_link);
	if (!h || h->n_spare >= FLAT_HTTP2_SPARE_MAX) {
		free_all(s);
		return;
	}
	*s = (struct flat_http2_stream){
	    .rx_text = emptied(&s->rx_text),
	    .rx_data = emptied(&s->rx_data),
	    .rx_fields = emptied(&s->rx_fields),
	    .tx_data = emptied(&s->tx_data),
	    .tx_trailers = emptied(&s->tx_trailers),
	};
	TAILQ_INSERT_HEAD(&h->spare, s, link);
	h->n_spare++;
}

void flat_http2_stream_wake(struct flat_http2_stream *s)
{
	if (s->held)
		s->h->wake(s->user);
}

void flat_http2_stream_closed(struct flat_http2_stream *s, uint32_t error)
{
	s->closed = true;
	s->reset = !s->rx_end || !s->tx_ended;
	s->refused |= error == FLAT_HTTP2_REFUSED_STREAM && !s->rx_head;
	if (s->held)
		flat_http2_stream_wake(s);
	else
		flat_http2_stream_free(s);
}

bool flat_http2_waits(const struct flat_http2 *h)
{
	return !TAILQ_EMPTY(&h->ready);
}

struct flat_http2_stream *flat_http2_accept(struct flat_http2 *h, void *user)
{
	struct flat_http2_stream *s = TAILQ_FIRST(&h->ready);

	if (!s)
		return NULL;
	TAILQ_REMOVE(&h->ready, s, ready_link);
	s->ready = false;
	s->held = true;
	s->user = user;
	return s;
}

struct flat_http2_stream *flat_http2_stream_open(struct flat_http2 *h, void *user)
{
	struct flat_http2_stream *s = flat_http2_stream_new(h, 0);

	if (!s)
		return NULL;
	s->held = true;
	s->user = user;
	return s;
}

void flat_http2_reset(struct flat_http2_stream *s, enum flat_http2_error error)
{
	s->reset = true;
	if (!s->h || s->closed || s->id == 0 || s->resetting)
		return;
	s->resetting = true;
	if (nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, (uint32_t)error) !=
	    0)
		s->h->nomem = true;
}

void flat_http2_release(struct flat_http2_stream *s)
{
	bool asks = s->h && s->h->side == FLAT_HTTP2_CLIENT;

	s->held = false;
	s->user = NULL;
	if (!s->h || s->closed || s->id == 0) {
		flat_http2_stream_free(s);
		return;
	}
	if (!s->tx_end || (asks && !s->rx_end))
		flat_http2_reset(s, asks ? FLAT_HTTP2_CANCEL : FLAT_HTTP2_INTERNAL_ERROR);
	else if (s->tx_ended && !s->rx_end)
		flat_http2_reset(s, FLAT_HTTP2_NO_ERROR);
	s->rx_text = emptied(&s->rx_text);
	s->rx_data = emptied(&s->rx_data);
}

int64_t flat_http2_flush_late(struct flat_http2 *h, int64_t now_us, int64_t limit_us)
{
	struct flat_http2_stream *s;
	int64_t next = 0;

	TAILQ_FOREACH(s, &h->streams, link)
	{
		size_t left = s->tx_data.len - s->tx_data.at;

		if (s->held || s->closed || !s->tx_end || s->resetting)
			continue;
		if (s->flush_us == 0 || left != s->flush_left) {
			s->flush_us = now_us;
			s->flush_left = left;
		} else if (now_us - s->flush_us >= limit_us) {
			flat_http2_reset(s, FLAT_HTTP2_CANCEL);
			continue;
		}
		if (next == 0 || s->flush_us + limit_us < next)
			next = s->flush_us + limit_us;
	}
	return next;
}

int32_t flat_http2_id(const struct flat_http2_stream *s)
{
	return s->id;
}

bool flat_http2_read_all(const struct flat_http2_stream *s)
{
	return s->rx_all;
}

bool flat_http2_is_reset(const struct flat_http2_stream *s)
{
	return s->reset;
}

bool flat_http2_is_refused(const struct flat_http2_stream *s)
{
	return s->refused;
}

bool flat_http2_is_too_large(const struct flat_http2_stream *s)
{
	return s->too_large;
}

/* --- reading --- */

/* Opens the window by what was read. */
static void consumed(struct flat_http2_stream *s, size_t n)
{
	int err = 0;

	if (s->h && !s->closed)
		err = nghttp2_session_consume_stream(s->h->session, s->id, n);
	if (err == NGHTTP2_ERR_NOMEM)
		s->h->nomem = true;
}

static size_t take(struct flat_http2_bytes *b, uint8_t *buf, size_t size)
{
	size_t n = flat_min_size(b->len - b->at, size);

	if (n > 0)
		memcpy(buf, b->v + b->at, n);
	b->at += n;
	return n;
}

/* One chunk of what is there. */
static size_t take_chunk(struct flat_http2_stream *s, uint8_t *buf, size_t size)
{
	size_t n = flat_min_size(s->rx_data.len - s->rx_data.at, size > 16 ? size - 16 : 0);
	size_t line;

	if (n == 0)
		return 0;
	line = flat_http1_chunk_line(buf, n);
	(void)take(&s->rx_data, buf + line, n);
	buf[line + n] = '\r';
	buf[line + n + 1] = '\n';
	consumed(s, n);
	return line + n + 2;
}

/* The last chunk, with the trailers. */
static bool make_tail(struct flat_http2_stream *s)
{
	size_t max = (size_t)FLAT_HTTP_TRAILER_BYTES_MAX + 16;

	s->rx_text.at = s->rx_text.len = 0;
	s->rx_tail =
	    flat_http2_bytes_add(&s->rx_text, "0\r\n", 3, max) == 0 &&
	    flat_http2_bytes_add(&s->rx_text, s->rx_fields.v, s->rx_fields.len, max) == 0 &&
	    flat_http2_bytes_add(&s->rx_text, "\r\n", 2, max) == 0;
	if (!s->rx_tail && s->h)
		s->h->nomem = true;
	return s->rx_tail;
}

size_t flat_http2_read(struct flat_http2_stream *s, uint8_t *buf, size_t size)
{
	size_t n = take(&s->rx_text, buf, size);
	bool chunked = s->rx_kind == FLAT_BODY_CHUNKED;

	if (s->rx_text.at < s->rx_text.len || !s->rx_head || s->rx_all)
		return n;
	if (s->rx_kind == FLAT_BODY_LENGTH) {
		size_t data = take(&s->rx_data, buf + n, size - n);

		consumed(s, data);
		n += data;
	} else if (chunked && !s->rx_tail) {
		n += take_chunk(s, buf + n, size - n);
	}
	if (s->rx_data.at < s->rx_data.len && s->rx_kind != FLAT_BODY_NONE)
		return n;
	if (chunked && s->rx_end && !s->rx_tail && make_tail(s))
		n += take(&s->rx_text, buf + n, size - n);
	s->rx_all = s->rx_kind == FLAT_BODY_NONE ||
		    (s->rx_end && (!chunked || (s->rx_tail && s->rx_text.at == s->rx_text.len)));
	return n;
}
