/* Frames that are said: control frames and heads as they come, content in turns as the windows let it (RFC 9113, 5.2, 6). */
#include <errno.h>

#include "codec/http2_stream.h"

/* The largest payload that each peer takes, and the first bytes of a frame. */
#define PAYLOAD_MAX ((size_t)16384)
#define FRAME_HEAD ((size_t)9)
/* What is left of it when all is said is given back if it is larger. */
#define OUT_BYTES_KEPT ((size_t)32 * 1024)

static uint8_t *put_u32(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 24);
	to[1] = (uint8_t)(v >> 16);
	to[2] = (uint8_t)(v >> 8);
	to[3] = (uint8_t)v;
	return to + 4;
}

/* Room for a frame, with its head: where its payload goes. NULL without memory. */
static uint8_t *frame(struct flat_http2 *h, uint8_t type, uint8_t flags, int32_t id, size_t len)
{
	uint8_t *to;

	if (flat_http2_bytes_room(&h->out, FRAME_HEAD + len) != 0) {
		h->nomem = true;
		return NULL;
	}
	to = h->out.v + h->out.len;
	h->out.len += FRAME_HEAD + len;
	to[0] = (uint8_t)(len >> 16);
	to[1] = (uint8_t)(len >> 8);
	to[2] = (uint8_t)len;
	to[3] = type;
	to[4] = flags;
	return put_u32(to + 5, (uint32_t)id);
}

void flat_http2_send_settings(struct flat_http2 *h)
{
	bool server = h->side == FLAT_HTTP2_SERVER;
	/* A client allows no streams of its server's, a server says nothing of pushes. */
	const struct {
		uint16_t id;
		uint32_t value;
	} v[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, server ? FLAT_HTTP2_STREAMS_MAX : 0},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, FLAT_HTTP_HEAD_BYTES_MAX},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	size_t n = server ? 2 : 3;
	uint8_t *to = frame(h, NGHTTP2_SETTINGS, 0, 0, n * 6);

	for (size_t i = 0; to && i < n; i++) {
		*to++ = (uint8_t)(v[i].id >> 8);
		*to++ = (uint8_t)v[i].id;
		to = put_u32(to, v[i].value);
	}
}

void flat_http2_send_ack(struct flat_http2 *h, uint8_t type, const void *payload, size_t len)
{
	uint8_t *to = frame(h, type, NGHTTP2_FLAG_ACK, 0, len);

	if (to && len > 0)
		memcpy(to, payload, len);
	h->n_forced++;
}

void flat_http2_send_reset(struct flat_http2 *h, int32_t id, enum flat_http2_error error)
{
	uint8_t *to = h->dead ? NULL : frame(h, NGHTTP2_RST_STREAM, 0, id, 4);

	if (to)
		(void)put_u32(to, (uint32_t)error);
}

void flat_http2_send_window(struct flat_http2 *h, int32_t id, uint32_t bytes)
{
	uint8_t *to = h->dead ? NULL : frame(h, NGHTTP2_WINDOW_UPDATE, 0, id, 4);

	if (to)
		(void)put_u32(to, bytes);
}

void flat_http2_send_goaway(struct flat_http2 *h, enum flat_http2_error error)
{
	uint8_t *to = h->dead ? NULL : frame(h, NGHTTP2_GOAWAY, 0, 0, 8);

	/* What was said to be nobody's stays so (RFC 9113, 6.8). */
	if (!h->leaving)
		h->left_id = h->last_id;
	if (to)
		(void)put_u32(put_u32(to, (uint32_t)h->left_id), (uint32_t)error);
	h->leaving = true;
	h->dead |= error != FLAT_HTTP2_NO_ERROR;
}

void flat_http2_send_block(struct flat_http2 *h, int32_t id, const void *block, size_t len,
			   bool end)
{
	const uint8_t *at = block;
	uint8_t type = NGHTTP2_HEADERS;
	uint8_t flags = end ? NGHTTP2_FLAG_END_STREAM : 0;

	while (!h->dead && !h->nomem) {
		size_t n = flat_min_size(len, PAYLOAD_MAX);
		uint8_t *to;

		if (n == len)
			flags |= NGHTTP2_FLAG_END_HEADERS;
		to = frame(h, type, flags, id, n);
		if (to)
			memcpy(to, at, n);
		if (n == len)
			return;
		at += n;
		len -= n;
		type = NGHTTP2_CONTINUATION;
		flags = 0;
	}
}

/* --- content --- */

void flat_http2_sent_end(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;

	s->tx_ended = true;
	if (h->side == FLAT_HTTP2_SERVER) {
		flat_http2_served(h);
		/* RFC 9113, 8.1: answered before it was asked to the end. */
		if (!s->rx_end && !s->held) {
			flat_http2_release(s);
			return;
		}
	}
	flat_http2_stream_settle(s);
}

void flat_http2_may_send(struct flat_http2_stream *s)
{
	bool content = s->tx_data.at < s->tx_data.len;

	if (s->sending || s->closed || s->id == 0 || s->tx_ended ||
	    (content ? s->tx_window <= 0 : !s->tx_end))
		return;
	s->sending = true;
	TAILQ_INSERT_TAIL(&s->h->sending, s, send_link);
}

static void stop_sending(struct flat_http2_stream *s)
{
	TAILQ_REMOVE(&s->h->sending, s, send_link);
	s->sending = false;
}

/* The next frame of content, of at most `room` bytes with its head. False: there is none now, or it has to wait. */
static bool send_data(struct flat_http2_stream *s, size_t room)
{
	struct flat_http2 *h = s->h;
	size_t have = s->tx_data.len - s->tx_data.at;
	size_t n = flat_min_size(flat_min_size(have, room - FRAME_HEAD), PAYLOAD_MAX);
	int64_t window = s->tx_window < h->tx_window ? s->tx_window : h->tx_window;
	bool last;
	uint8_t *to;

	if (have > 0 && window <= 0)
		return false;
	if ((int64_t)n > window && have > 0)
		n = (size_t)window;
	last = s->tx_end && !s->tx_cut && n == have && s->tx_trailers.len == 0;
	to = frame(h, NGHTTP2_DATA, last ? NGHTTP2_FLAG_END_STREAM : 0, s->id, n);
	if (!to)
		return false;
	if (n > 0)
		memcpy(to, s->tx_data.v + s->tx_data.at, n);
	s->tx_data.at += n;
	s->tx_window -= (int64_t)n;
	h->tx_window -= (int64_t)n;
	flat_http2_calmed(h, 1);
	if (s->tx_full && s->tx_data.len - s->tx_data.at <= FLAT_HTTP2_TX_BYTES_MAX / 2) {
		s->tx_full = false;
		flat_http2_stream_wake(s);
	}
	return true;
}

/* All that there was of its message is said. The stream may be gone then. */
static void cut(struct flat_http2_stream *s)
{
	enum flat_http2_error error = (enum flat_http2_error)s->tx_cut;

	flat_http2_send_reset(s->h, s->id, error);
	flat_http2_stream_closed(s, error, false);
}

static void take_turn(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;
	size_t used = h->out.len - h->out.at;
	bool content = s->tx_data.at < s->tx_data.len;
	bool trailers = s->tx_trailers.len > 0;

	stop_sending(s);
	/* Where content waits for the window of all, it is looked at when that opens. */
	if ((content || !trailers) && !send_data(s, FLAT_HTTP2_PIECE_MAX - used))
		return;
	if (s->tx_data.at < s->tx_data.len || !s->tx_end) {
		flat_http2_may_send(s);
		return;
	}
	if (trailers && !s->tx_cut && flat_http2_send_trailers(s) != 0)
		s->tx_cut = FLAT_HTTP2_INTERNAL_ERROR;
	if (s->tx_cut)
		cut(s);
	else
		flat_http2_sent_end(s);
}

void flat_http2_send_content(struct flat_http2 *h)
{
	struct flat_http2_stream *s;

	while (!h->dead && !h->nomem && (s = TAILQ_FIRST(&h->sending)) != NULL) {
		/* Frames of a few bytes cost more than they carry. */
		size_t used = h->out.len - h->out.at;
		size_t want = flat_min_size(s->tx_data.len - s->tx_data.at, 1024);

		if (used + FRAME_HEAD + want > FLAT_HTTP2_PIECE_MAX)
			return;
		if (s->tx_data.at < s->tx_data.len && h->tx_window <= 0)
			return;
		take_turn(s);
	}
}

ssize_t flat_http2_drain(struct flat_http2 *h, const uint8_t **bytes)
{
	size_t n;

	if (h->out.at == h->out.len) {
		h->out.at = h->out.len = 0;
		if (h->out.size > OUT_BYTES_KEPT)
			flat_http2_bytes_free(&h->out);
	}
	flat_http2_begin_pending(h);
	flat_http2_send_content(h);
	/* A client that goes, and has its answers, learns which of its requests were seen (RFC 9113, 6.8). */
	if (h->side == FLAT_HTTP2_SERVER && h->goaway && !h->leaving && h->n_open == 0)
		flat_http2_send_goaway(h, FLAT_HTTP2_NO_ERROR);
	if (h->nomem)
		return -ENOMEM;
	n = flat_min_size(h->out.len - h->out.at, FLAT_HTTP2_PIECE_MAX);
	*bytes = h->out.v + h->out.at;
	h->out.at += n;
	if (n > 0)
		h->n_forced = 0;
	return (ssize_t)n;
}
