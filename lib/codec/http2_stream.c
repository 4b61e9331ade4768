/* Streams: their lives, and what is read of them. */
#include "codec/http2_stream.h"

#include <errno.h>
#include <stdlib.h>

/* The first size of bytes that grow. */
#define FIRST_BYTES ((size_t)512)

int flat_http2_bytes_room(struct flat_http2_bytes *b, size_t len)
{
	size_t have = b->len - b->at;
	size_t size = b->size ? b->size : FIRST_BYTES;
	uint8_t *v;

	if (have == 0)
		b->at = b->len = 0;
	if (len <= b->size - b->len)
		return 0;
	if (b->at > 0) {
		memmove(b->v, b->v + b->at, have);
		b->at = 0;
		b->len = have;
	}
	if (len <= b->size - b->len)
		return 0;
	while (size < have + len)
		size *= 2;
	v = realloc(b->v, size);
	if (!v)
		return -ENOMEM;
	b->v = v;
	b->size = size;
	return 0;
}

int flat_http2_bytes_add(struct flat_http2_bytes *b, const void *bytes, size_t len, size_t max)
{
	size_t have = b->len - b->at;

	if (len == 0)
		return 0;
	if (have > max || len > max - have)
		return -EMSGSIZE;
	if (flat_http2_bytes_room(b, len) != 0)
		return -ENOMEM;
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
	flat_http2_bytes_free(&s->tx_head);
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

struct flat_http2_stream *flat_http2_stream_new(struct flat_http2 *h)
{
	struct flat_http2_stream *s = take_spare(h);

	if (!s)
		return NULL;
	s->h = h;
	s->rx_length = -1;
	s->rx_window = FLAT_HTTP2_RX_BYTES_MAX;
	TAILQ_INSERT_TAIL(&h->streams, s, link);
	h->n_streams++;
	return s;
}

/* --- by their numbers --- */

static struct flat_http2_stream **place_of(struct flat_http2 *h, int32_t id)
{
	return &h->by_id[(uint32_t)id / 2 % FLAT_HTTP2_PLACES];
}

struct flat_http2_stream *flat_http2_stream_find(struct flat_http2 *h, int32_t id)
{
	struct flat_http2_stream *s = *place_of(h, id);

	while (s && s->id != id)
		s = s->next_id;
	return s;
}

void flat_http2_stream_number(struct flat_http2_stream *s, int32_t id)
{
	struct flat_http2_stream **place = place_of(s->h, id);

	s->id = id;
	s->tx_window = s->h->tx_first_window;
	s->next_id = *place;
	*place = s;
	s->h->n_open++;
}

static void drop_number(struct flat_http2_stream *s)
{
	struct flat_http2_stream **place = place_of(s->h, s->id);

	while (*place != s)
		place = &(*place)->next_id;
	*place = s->next_id;
	s->h->n_open--;
}

/* --- their ends --- */

/* Takes it from what it waits in. */
static void leave_lists(struct flat_http2_stream *s)
{
	if (s->ready)
		TAILQ_REMOVE(&s->h->ready, s, ready_link);
	if (s->pending)
		TAILQ_REMOVE(&s->h->pending, s, ready_link);
	if (s->sending)
		TAILQ_REMOVE(&s->h->sending, s, send_link);
	s->ready = s->pending = s->sending = false;
}

void flat_http2_stream_part(struct flat_http2_stream *s)
{
	leave_lists(s);
	TAILQ_REMOVE(&s->h->streams, s, link);
	s->h->n_streams--;
	s->h = NULL;
}

void flat_http2_stream_free(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;

	if (h)
		flat_http2_stream_part(s);
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
	    .tx_head = emptied(&s->tx_head),
	};
	TAILQ_INSERT_HEAD(&h->spare, s, link);
	h->n_spare++;
}

void flat_http2_stream_wake(struct flat_http2_stream *s)
{
	if (s->held)
		s->h->wake(s->user);
}

/* It is over: remembered, and without a number. */
static void close_number(struct flat_http2_stream *s, bool known)
{
	struct flat_http2 *h = s->h;
	uint32_t i = h->n_over++ % FLAT_HTTP2_OVER;

	h->over[i] = s->id;
	h->over_known[i] = known;
	leave_lists(s);
	drop_number(s);
	s->closed = true;
	s->reset = !s->rx_end || !s->tx_ended;
}

void flat_http2_stream_closed(struct flat_http2_stream *s, enum flat_http2_error error, bool known)
{
	struct flat_http2 *h = s->h;

	close_number(s, known);
	s->refused |= error == FLAT_HTTP2_REFUSED_STREAM && !s->rx_head;
	if (!s->held)
		flat_http2_stream_free(s);
	else if (s->reset)
		flat_http2_stream_wake(s);
	flat_http2_begin_pending(h);
}

void flat_http2_stream_settle(struct flat_http2_stream *s)
{
	if (s->rx_end && s->tx_ended && !s->closed)
		flat_http2_stream_closed(s, FLAT_HTTP2_NO_ERROR, true);
}

void flat_http2_stream_fault(struct flat_http2_stream *s, enum flat_http2_error error)
{
	struct flat_http2 *h = s->h;

	s->malformed = true;
	flat_http2_send_reset(h, s->id, error);
	flat_http2_stream_closed(s, error, false);
	h->n_forced++;
	flat_http2_wasted(h);
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
	struct flat_http2_stream *s = flat_http2_stream_new(h);

	if (!s)
		return NULL;
	s->held = true;
	s->user = user;
	return s;
}

/* Both sides of an open one end here. It is not freed. */
static void cut(struct flat_http2_stream *s, enum flat_http2_error error)
{
	flat_http2_send_reset(s->h, s->id, error);
	close_number(s, false);
	flat_http2_begin_pending(s->h);
}

void flat_http2_reset(struct flat_http2_stream *s, enum flat_http2_error error)
{
	if (s->h && !s->closed && s->id != 0)
		cut(s, error);
	else if (s->h)
		leave_lists(s);
	s->reset = true;
}

void flat_http2_release(struct flat_http2_stream *s)
{
	bool open = s->h && !s->closed && s->id != 0;
	bool asks = s->h && s->h->side == FLAT_HTTP2_CLIENT;

	s->held = false;
	s->user = NULL;
	if (open && (!s->tx_end || (asks && !s->rx_end))) {
		cut(s, asks ? FLAT_HTTP2_CANCEL : FLAT_HTTP2_INTERNAL_ERROR);
		open = false;
	} else if (open && s->tx_ended && !s->rx_end) {
		cut(s, FLAT_HTTP2_NO_ERROR);
		open = false;
	}
	if (!open) {
		flat_http2_stream_free(s);
		return;
	}
	s->rx_text = emptied(&s->rx_text);
	s->rx_data = emptied(&s->rx_data);
}

int64_t flat_http2_flush_late(struct flat_http2 *h, int64_t now_us, int64_t limit_us)
{
	struct flat_http2_stream *s;
	struct flat_http2_stream *after;
	int64_t next = 0;

	for (s = TAILQ_FIRST(&h->streams); s; s = after) {
		size_t left = s->tx_data.len - s->tx_data.at;

		after = TAILQ_NEXT(s, link);
		if (s->held || s->closed || !s->tx_end)
			continue;
		if (s->flush_us == 0 || left != s->flush_left) {
			s->flush_us = now_us;
			s->flush_left = left;
		} else if (now_us - s->flush_us >= limit_us) {
			flat_http2_send_reset(h, s->id, FLAT_HTTP2_CANCEL);
			flat_http2_stream_closed(s, FLAT_HTTP2_CANCEL, false);
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

bool flat_http2_is_malformed(const struct flat_http2_stream *s)
{
	return s->malformed;
}

bool flat_http2_is_too_large(const struct flat_http2_stream *s)
{
	return s->too_large;
}

/* --- reading --- */

void flat_http2_stream_used(struct flat_http2_stream *s, size_t n)
{
	s->rx_used += (int32_t)n;
	/* By halves: each is a frame. */
	if (s->rx_used < (int32_t)FLAT_HTTP2_RX_BYTES_MAX / 2 || !s->h || s->closed || s->rx_end)
		return;
	flat_http2_send_window(s->h, s->id, (uint32_t)s->rx_used);
	s->rx_window += s->rx_used;
	s->rx_used = 0;
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
	flat_http2_stream_used(s, n);
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

		flat_http2_stream_used(s, data);
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
