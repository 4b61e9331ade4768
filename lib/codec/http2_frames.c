/* Frames that come (RFC 9113, 4 to 6): what each may be, and what becomes of it. */
#include <errno.h>

#include "codec/http2_stream.h"

#define FRAME_HEAD 9U
/* The largest payload that we take: the protocol's own first value. */
#define PAYLOAD_MAX 16384U
/* Entries of one SETTINGS frame. */
#define SETTINGS_MAX 32U
#define WINDOW_MAX 0x7fffffffLL

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The connection is at fault, and ends. */
static void fail(struct flat_http2 *h, uint32_t error)
{
	flat_http2_send_goaway(h, (enum flat_http2_error)error);
}

/* --- streams that are not open --- */

/* Whether nobody used the number yet. */
static bool is_idle(const struct flat_http2 *h, int32_t id)
{
	if (h->side == FLAT_HTTP2_SERVER)
		return (id & 1) == 0 || id > h->last_id;
	return (id & 1) == 0 || id >= h->next_id;
}

/* Whether its peer knew that it was over when it closed; long ago: as if it did not. */
static bool is_known_over(const struct flat_http2 *h, int32_t id)
{
	uint32_t n = h->n_over < FLAT_HTTP2_OVER ? h->n_over : FLAT_HTTP2_OVER;

	for (uint32_t i = 0; i < n; i++) {
		if (h->over[i] == id)
			return h->over_known[i];
	}
	return false;
}

/* A frame on a stream that is not open. What was on its way when we reset it is no fault, and dropped. */
static void take_late(struct flat_http2 *h, int32_t id)
{
	if (is_idle(h, id))
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	else if (is_known_over(h, id))
		fail(h, NGHTTP2_STREAM_CLOSED);
	else
		flat_http2_disturbed(h, 1);
}

/* --- content --- */

static void use_window(struct flat_http2 *h, uint32_t n)
{
	/* One stream that nobody reads must not stop the others: the streams' windows bound what is kept. */
	h->rx_used += (int32_t)n;
	if (h->rx_used < FLAT_HTTP2_WINDOW / 2)
		return;
	flat_http2_send_window(h, 0, (uint32_t)h->rx_used);
	h->rx_used = 0;
}

static void begin_data(struct flat_http2 *h)
{
	const struct flat_http2_frame *f = &h->frame;
	struct flat_http2_stream *s = flat_http2_stream_find(h, f->id);

	h->padding = 0;
	h->rx = f->flags & NGHTTP2_FLAG_PADDED ? FLAT_HTTP2_RX_PADDED : FLAT_HTTP2_RX_DATA;
	if (f->id == 0 || ((f->flags & NGHTTP2_FLAG_PADDED) && f->len == 0)) {
		fail(h, f->id == 0 ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_FRAME_SIZE_ERROR);
		return;
	}
	use_window(h, f->len);
	if (!s) {
		take_late(h, f->id);
	} else if (s->rx_end) {
		fail(h, NGHTTP2_STREAM_CLOSED);
	} else if (!s->rx_head) {
		flat_http2_stream_fault(s, FLAT_HTTP2_PROTOCOL_ERROR);
	} else if ((int32_t)f->len > s->rx_window) {
		flat_http2_stream_fault(s, (enum flat_http2_error)NGHTTP2_FLOW_CONTROL_ERROR);
	} else {
		s->rx_window -= (int32_t)f->len;
	}
}

static void take_padding(struct flat_http2 *h, uint8_t length)
{
	struct flat_http2_stream *s = flat_http2_stream_find(h, h->frame.id);

	h->rx = FLAT_HTTP2_RX_DATA;
	h->padding = length;
	if (length >= h->frame.len)
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	else if (s)
		flat_http2_stream_used(s, length + 1U);
}

static void take_content(struct flat_http2 *h, const uint8_t *bytes, uint32_t len)
{
	struct flat_http2_stream *s = flat_http2_stream_find(h, h->frame.id);
	int err;

	if (!s)
		return;
	s->rx_content += len;
	if (s->rx_length >= 0 && s->rx_content > s->rx_length) {
		flat_http2_stream_fault(s, FLAT_HTTP2_PROTOCOL_ERROR);
		return;
	}
	/* What nobody will read is dropped, and its window stays shut. */
	if (s->reset || (!s->held && !s->ready) || s->rx_kind == FLAT_BODY_NONE)
		return;
	err = flat_http2_bytes_add(&s->rx_data, bytes, len, FLAT_HTTP2_RX_BYTES_MAX);
	h->nomem |= err != 0;
}

/* Its message is whole. The stream may be gone then. */
static void end_rx(struct flat_http2_stream *s)
{
	if (s->rx_length >= 0 && s->rx_content != s->rx_length) {
		flat_http2_stream_fault(s, FLAT_HTTP2_PROTOCOL_ERROR);
		return;
	}
	s->rx_end = true;
	flat_http2_stream_wake(s);
	flat_http2_stream_settle(s);
}

static void end_data(struct flat_http2 *h)
{
	const struct flat_http2_frame *f = &h->frame;
	struct flat_http2_stream *s = flat_http2_stream_find(h, f->id);
	bool padded = (f->flags & NGHTTP2_FLAG_PADDED) != 0;
	bool ends = (f->flags & NGHTTP2_FLAG_END_STREAM) != 0;

	if (!s)
		return;
	if (f->len > h->padding + padded)
		flat_http2_calmed(h, 1);
	else if (!ends)
		flat_http2_disturbed(h, 1);
	if (ends)
		end_rx(s);
	else
		flat_http2_stream_wake(s);
}

/* --- heads --- */

/*
 * A head on a stream that a higher one closed before it was ever used (RFC 9113, 5.1.1): clients of our own time number
 * without gaps, so that the last one is remembered, which is where a peer at fault goes back to.
 */
static bool is_passed_over(const struct flat_http2 *h, int32_t id)
{
	return id >= h->gap_first && id < h->gap_end;
}

static struct flat_http2_stream *new_request(struct flat_http2 *h, int32_t id)
{
	struct flat_http2_stream *s;

	if (id > h->last_id + 2) {
		h->gap_first = h->last_id + 1;
		h->gap_end = id;
	}
	h->last_id = id;
	/* What comes after our GOAWAY is its sender's to ask again. */
	if (h->leaving) {
		flat_http2_disturbed(h, 1);
		return NULL;
	}
	if (h->n_open >= FLAT_HTTP2_STREAMS_MAX || h->out.len - h->out.at > FLAT_HTTP2_OUT_MAX) {
		flat_http2_send_reset(h, id, FLAT_HTTP2_REFUSED_STREAM);
		h->n_forced++;
		flat_http2_wasted(h);
		return NULL;
	}
	s = flat_http2_stream_new(h);
	if (s)
		flat_http2_stream_number(s, id);
	else
		h->nomem = true;
	return s;
}

/* The stream that a block belongs to; NULL: it is read, and dropped. */
static struct flat_http2_stream *open_block(struct flat_http2 *h, int32_t id)
{
	struct flat_http2_stream *s = flat_http2_stream_find(h, id);

	if (id == 0 || (id & 1) == 0) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return NULL;
	}
	if (s && s->rx_end) {
		fail(h, NGHTTP2_STREAM_CLOSED);
		return NULL;
	}
	if (s)
		return s;
	if (h->side == FLAT_HTTP2_SERVER && id > h->last_id)
		return new_request(h, id);
	if (h->side == FLAT_HTTP2_SERVER && is_passed_over(h, id))
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	else
		take_late(h, id);
	return NULL;
}

static int take_block(struct flat_http2 *h, struct flat_http2_stream *s)
{
	bool trailers = h->block == &h->trailers;
	size_t before = s->rx_text.len - s->rx_text.at;
	int err = h->block->err;

	if (err != 0)
		return err;
	/* A message's last block ends it, and an interim one does not. */
	if (trailers && !h->block_end)
		return -EBADMSG;
	s->rx_end = h->block_end;
	err =
	    trailers ? flat_http2_block_trailers(h->block, s) : flat_http2_block_head(h->block, s);
	s->rx_end = false;
	if (err != 0)
		return err;
	if (h->block_end && !s->rx_head)
		return -EBADMSG;
	/* An answer that lacks all of its content has no head either, as it is known before anybody reads it. */
	if (h->side == FLAT_HTTP2_CLIENT && h->block_end && !trailers && s->rx_length > 0) {
		s->rx_text.len = s->rx_text.at + before;
		s->rx_head = false;
		return -EBADMSG;
	}
	if (h->side == FLAT_HTTP2_SERVER && !trailers && !(h->block_end && s->rx_length > 0)) {
		TAILQ_INSERT_TAIL(&h->ready, s, ready_link);
		s->ready = true;
	}
	return 0;
}

static void end_block(struct flat_http2 *h)
{
	struct flat_http2_stream *s =
	    h->block_dropped ? NULL : flat_http2_stream_find(h, h->block_id);
	int err;

	h->block_open = false;
	if (!s)
		return;
	err = take_block(h, s);
	if (err == -ENOMEM) {
		h->nomem = true;
	} else if (err != 0) {
		flat_http2_stream_fault(s, FLAT_HTTP2_PROTOCOL_ERROR);
	} else if (h->block_end) {
		end_rx(s);
	} else {
		flat_http2_stream_wake(s);
	}
}

/* A part of the block that is open. */
static void take_fragment(struct flat_http2 *h, const uint8_t *bytes, size_t len)
{
	bool last = (h->frame.flags & NGHTTP2_FLAG_END_HEADERS) != 0;
	bool whole = last && h->continued == 0;
	int err = 0;

	if (!whole || !flat_http2_block_is_known(h, h->block, bytes, len)) {
		if (h->continued == 0)
			flat_http2_block_begin(
			    h->block, h->block == &h->trailers	     ? FLAT_HTTP1_TRAILERS
				      : h->side == FLAT_HTTP2_SERVER ? FLAT_HTTP1_REQUEST
								     : FLAT_HTTP1_RESPONSE);
		err = flat_http2_inflate(h, bytes, len, whole, last);
	}
	if (err == -EPROTO)
		fail(h, NGHTTP2_COMPRESSION_ERROR);
	else if (err == -ENOMEM || h->block->err == -ENOMEM)
		h->nomem = true;
	else if (h->block->err == -EMSGSIZE)
		flat_http2_end_flood(h);
	else if (last)
		end_block(h);
}

static void take_headers(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	const struct flat_http2_frame *f = &h->frame;
	struct flat_http2_stream *s;
	size_t padding = 0;
	size_t before = 0;

	if (f->flags & NGHTTP2_FLAG_PADDED)
		before++;
	if (f->flags & NGHTTP2_FLAG_PRIORITY)
		before += 5;
	if (len < before) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
		return;
	}
	if (f->flags & NGHTTP2_FLAG_PADDED)
		padding = p[0];
	if (padding > len - before) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	if ((f->flags & NGHTTP2_FLAG_PRIORITY) &&
	    (get_u32(p + before - 5) & 0x7fffffff) == (uint32_t)f->id) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	s = open_block(h, f->id);
	if (h->dead || h->nomem)
		return;
	h->block = s && s->rx_head ? &h->trailers : &h->head;
	h->block_open = true;
	h->block_id = f->id;
	h->block_end = (f->flags & NGHTTP2_FLAG_END_STREAM) != 0;
	h->block_dropped = !s;
	h->continued = 0;
	take_fragment(h, p + before, len - before - padding);
}

static void take_continuation(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	if (++h->continued > FLAT_HTTP2_CONTINUATIONS_MAX)
		flat_http2_end_flood(h);
	else
		take_fragment(h, p, len);
}

/* --- control --- */

static void take_priority(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	int32_t id = h->frame.id;

	if (len != 5)
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
	else if (id == 0 || (get_u32(p) & 0x7fffffff) == (uint32_t)id)
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	else
		flat_http2_disturbed(h, 1);
}

static void take_reset(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	struct flat_http2_stream *s = flat_http2_stream_find(h, h->frame.id);

	if (len != 4) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
	} else if (h->frame.id == 0 || is_idle(h, h->frame.id)) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	} else if (!s) {
		flat_http2_disturbed(h, 1);
	} else {
		if (!s->tx_ended)
			flat_http2_wasted(h);
		flat_http2_stream_closed(s, (enum flat_http2_error)get_u32(p), true);
	}
}

/* What a stream may send before it is told to, of all that are open: they take part in the change (RFC 9113, 6.9.2). */
static uint32_t set_first_window(struct flat_http2 *h, uint32_t value)
{
	int64_t change = (int64_t)value - h->tx_first_window;
	struct flat_http2_stream *s;

	if (value > WINDOW_MAX)
		return NGHTTP2_FLOW_CONTROL_ERROR;
	h->tx_first_window = value;
	TAILQ_FOREACH(s, &h->streams, link)
	{
		if (s->id == 0 || s->closed)
			continue;
		s->tx_window += change;
		if (s->tx_window > WINDOW_MAX)
			return NGHTTP2_FLOW_CONTROL_ERROR;
		flat_http2_may_send(s);
	}
	return 0;
}

static uint32_t set(struct flat_http2 *h, uint16_t id, uint32_t value)
{
	switch (id) {
	case NGHTTP2_SETTINGS_HEADER_TABLE_SIZE:
		h->nomem |= flat_http2_table_size(h, value) != 0;
		return 0;
	case NGHTTP2_SETTINGS_ENABLE_PUSH:
		/* A server has nothing to allow. */
		return value > 1 || (value == 1 && h->side == FLAT_HTTP2_CLIENT)
			   ? NGHTTP2_PROTOCOL_ERROR
			   : 0;
	case NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS:
		h->tx_streams_max = value;
		return 0;
	case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE:
		return set_first_window(h, value);
	case NGHTTP2_SETTINGS_MAX_FRAME_SIZE:
		return value < PAYLOAD_MAX || value > 0xffffff ? NGHTTP2_PROTOCOL_ERROR : 0;
	case NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL:
	case NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES:
		/* RFC 8441, 3, and RFC 9218, 2.1: yes or no. Neither changes anything here. */
		return value > 1 ? NGHTTP2_PROTOCOL_ERROR : 0;
	default:
		return 0;
	}
}

static void take_settings(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	bool ack = (h->frame.flags & NGHTTP2_FLAG_ACK) != 0;
	uint32_t error = 0;

	if (h->frame.id != 0) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	if (len % 6 != 0 || (ack && len > 0)) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
		return;
	}
	if (ack) {
		/* We say them once. */
		if (h->acked)
			fail(h, NGHTTP2_PROTOCOL_ERROR);
		h->acked = true;
		return;
	}
	if (len / 6 > SETTINGS_MAX) {
		flat_http2_end_flood(h);
		return;
	}
	h->greeted = true;
	for (size_t i = 0; i < len && error == 0; i += 6)
		error = set(h, (uint16_t)(p[i] << 8 | p[i + 1]), get_u32(p + i + 2));
	if (error != 0) {
		fail(h, error);
		return;
	}
	flat_http2_send_ack(h, NGHTTP2_SETTINGS, NULL, 0);
	flat_http2_disturbed(h, FLAT_HTTP2_CALM_SETTINGS);
	flat_http2_begin_pending(h);
}

static void take_ping(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	if (h->frame.id != 0) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	} else if (len != 8) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
	} else {
		if (!(h->frame.flags & NGHTTP2_FLAG_ACK))
			flat_http2_send_ack(h, NGHTTP2_PING, p, len);
		flat_http2_disturbed(h, 1);
	}
}

/* Requests that the peer did not and will not look at. */
static void refuse_above(struct flat_http2 *h, int32_t id)
{
	struct flat_http2_stream *s;
	struct flat_http2_stream *next;

	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->id > id && !s->closed) {
			flat_http2_stream_closed(s, FLAT_HTTP2_REFUSED_STREAM, false);
		} else if (s->pending) {
			s->reset = s->refused = true;
			flat_http2_stream_wake(s);
		}
	}
}

static void take_goaway(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	int32_t id;

	if (h->frame.id != 0) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	if (len < 8) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
		return;
	}
	id = (int32_t)(get_u32(p) & 0x7fffffff);
	/* RFC 9113, 6.8: it may take back, and not give. */
	if (h->goaway && id > h->goaway_id) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	flat_http2_disturbed(h, 1);
	h->goaway = true;
	h->goaway_id = id;
	if (h->side == FLAT_HTTP2_CLIENT)
		refuse_above(h, id);
}

static void open_window(struct flat_http2 *h, uint32_t n)
{
	h->tx_window += n;
	if (h->tx_window > WINDOW_MAX)
		fail(h, NGHTTP2_FLOW_CONTROL_ERROR);
}

static void take_window_update(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	struct flat_http2_stream *s = flat_http2_stream_find(h, h->frame.id);
	uint32_t n;

	if (len != 4) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
		return;
	}
	flat_http2_disturbed(h, 1);
	n = get_u32(p) & 0x7fffffff;
	if (h->frame.id == 0) {
		if (n == 0)
			fail(h, NGHTTP2_PROTOCOL_ERROR);
		else
			open_window(h, n);
		return;
	}
	if (!s) {
		if (is_idle(h, h->frame.id))
			fail(h, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	s->tx_window += n;
	if (n == 0)
		flat_http2_stream_fault(s, FLAT_HTTP2_PROTOCOL_ERROR);
	else if (s->tx_window > WINDOW_MAX)
		flat_http2_stream_fault(s, (enum flat_http2_error)NGHTTP2_FLOW_CONTROL_ERROR);
	else
		flat_http2_may_send(s);
}

/* --- frames --- */

static void take_payload(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	switch (h->frame.type) {
	case NGHTTP2_HEADERS:
		take_headers(h, p, len);
		break;
	case NGHTTP2_PRIORITY:
		take_priority(h, p, len);
		break;
	case NGHTTP2_RST_STREAM:
		take_reset(h, p, len);
		break;
	case NGHTTP2_SETTINGS:
		take_settings(h, p, len);
		break;
	case NGHTTP2_PING:
		take_ping(h, p, len);
		break;
	case NGHTTP2_GOAWAY:
		take_goaway(h, p, len);
		break;
	case NGHTTP2_WINDOW_UPDATE:
		take_window_update(h, p, len);
		break;
	default:
		take_continuation(h, p, len);
		break;
	}
}

/* What the first bytes of a frame say. */
static void begin_frame(struct flat_http2 *h, const uint8_t *p)
{
	struct flat_http2_frame *f = &h->frame;
	bool continues;

	f->len = get_u32(p) >> 8;
	f->type = p[3];
	f->flags = p[4];
	f->id = (int32_t)(get_u32(p + 5) & 0x7fffffff);
	h->frame_have = 0;
	h->payload.at = h->payload.len = 0;
	continues = f->type == NGHTTP2_CONTINUATION && h->block_open && f->id == h->block_id;
	if (f->len > PAYLOAD_MAX) {
		fail(h, NGHTTP2_FRAME_SIZE_ERROR);
	} else if ((!h->greeted &&
		    (f->type != NGHTTP2_SETTINGS || (f->flags & NGHTTP2_FLAG_ACK))) ||
		   ((h->block_open || f->type == NGHTTP2_CONTINUATION) && !continues) ||
		   f->type == NGHTTP2_PUSH_PROMISE) {
		fail(h, NGHTTP2_PROTOCOL_ERROR);
	} else if (f->type == NGHTTP2_DATA) {
		begin_data(h);
	} else if (f->type > NGHTTP2_CONTINUATION) {
		/* RFC 9113, 5.5: what we do not know, others may. */
		flat_http2_disturbed(h, 1);
		h->rx = FLAT_HTTP2_RX_SKIP;
	} else {
		h->rx = FLAT_HTTP2_RX_PAYLOAD;
	}
}

/* The frame is whole. */
static void end_frame(struct flat_http2 *h)
{
	if (h->rx == FLAT_HTTP2_RX_DATA)
		end_data(h);
	h->rx = FLAT_HTTP2_RX_FRAME;
}

static size_t take_frame_head(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	size_t n = flat_min_size(FRAME_HEAD - h->frame_have, len);

	if (n == FRAME_HEAD) {
		begin_frame(h, p);
	} else {
		memcpy(h->frame_head + h->frame_have, p, n);
		h->frame_have += (uint32_t)n;
		if (h->frame_have < FRAME_HEAD)
			return n;
		begin_frame(h, h->frame_head);
	}
	if (h->dead || h->frame.len > 0)
		return n;
	if (h->rx == FLAT_HTTP2_RX_PAYLOAD)
		take_payload(h, p, 0);
	end_frame(h);
	return n;
}

/* Bytes of a frame of content that are left, or of the payload of another one. */
static size_t take_rest(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	struct flat_http2_frame *f = &h->frame;
	size_t n = flat_min_size(f->len - h->frame_have, len);
	/* Padding comes last. */
	uint32_t content = f->len - h->padding;

	if (h->rx == FLAT_HTTP2_RX_PADDED) {
		n = 1;
		take_padding(h, p[0]);
	} else if (h->rx == FLAT_HTTP2_RX_DATA && h->frame_have < content) {
		n = flat_min_size(n, content - h->frame_have);
		take_content(h, p, (uint32_t)n);
	} else if (h->rx == FLAT_HTTP2_RX_PAYLOAD && n == f->len) {
		take_payload(h, p, n);
	} else if (h->rx == FLAT_HTTP2_RX_PAYLOAD) {
		h->nomem |= flat_http2_bytes_add(&h->payload, p, n, PAYLOAD_MAX) != 0;
		if (h->payload.len == f->len)
			take_payload(h, h->payload.v, f->len);
	}
	h->frame_have += (uint32_t)n;
	if (h->frame_have == f->len && !h->dead) {
		end_frame(h);
		h->frame_have = 0;
	}
	return n;
}

static ssize_t take_preface(struct flat_http2 *h, const uint8_t *p, size_t len)
{
	size_t n = flat_min_size(FLAT_HTTP2_PREFACE_BYTES - h->frame_have, len);

	if (memcmp(p, &FLAT_HTTP2_PREFACE[h->frame_have], n) != 0)
		return -EPROTO;
	h->frame_have += (uint32_t)n;
	if (h->frame_have == FLAT_HTTP2_PREFACE_BYTES) {
		h->rx = FLAT_HTTP2_RX_FRAME;
		h->frame_have = 0;
	}
	return (ssize_t)n;
}

int flat_http2_frames(struct flat_http2 *h, const uint8_t *bytes, size_t len)
{
	const uint8_t *end = bytes + len;

	while (bytes < end && !h->dead && !h->nomem) {
		size_t left = (size_t)(end - bytes);

		if (h->rx == FLAT_HTTP2_RX_FRAME) {
			bytes += take_frame_head(h, bytes, left);
		} else if (h->rx == FLAT_HTTP2_RX_PREFACE) {
			ssize_t n = take_preface(h, bytes, left);

			if (n < 0)
				return (int)n;
			bytes += n;
		} else {
			bytes += take_rest(h, bytes, left);
		}
	}
	return 0;
}
