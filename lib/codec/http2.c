/* The connection: nghttp2's session, its callbacks, and the measure of floods. */
#include "codec/http2.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/http2_stream.h"

/* --- floods --- */

static void fill(struct flat_http2 *h, int32_t n)
{
	h->calm = h->calm + n > FLAT_HTTP2_CALM_MAX ? FLAT_HTTP2_CALM_MAX : h->calm + n;
}

static void end_flood(struct flat_http2 *h)
{
	h->flooded = true;
	if (nghttp2_session_terminate_session(h->session, FLAT_HTTP2_CALM) != 0)
		h->nomem = true;
}

/* One more of what floods are made of. */
static void disturbed(struct flat_http2 *h, int32_t cost)
{
	h->calm -= cost;
	if (h->calm < 0 && !h->flooded)
		end_flood(h);
}

static void pass_time(struct flat_http2 *h, int64_t now_us)
{
	int64_t n = (now_us - h->calm_us) * FLAT_HTTP2_CALM_PER_S / 1000000;

	h->now_us = now_us;
	if (n <= 0)
		return;
	h->calm_us = now_us;
	fill(h, n > FLAT_HTTP2_CALM_MAX ? FLAT_HTTP2_CALM_MAX : (int32_t)n);
}

/* --- what nghttp2 tells --- */

static struct flat_http2_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(session, id) : NULL;
}

/*
 * A head on a stream that a higher one closed before it was ever used (RFC 9113, 5.1.1); nghttp2 drops it in silence.
 * Clients of our own time number without gaps: the last one is remembered, which is where a peer at fault goes back to.
 */
static int check_order(struct flat_http2 *h, int32_t id)
{
	if (id > h->last_id) {
		if (id > h->last_id + 2) {
			h->gap_first = h->last_id + 1;
			h->gap_end = id;
		}
		h->last_id = id;
		return 0;
	}
	if (id < h->gap_first || id >= h->gap_end)
		return 0;
	return nghttp2_session_terminate_session(h->session, FLAT_HTTP2_PROTOCOL_ERROR);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct flat_http2 *h = arg;

	if (h->side == FLAT_HTTP2_SERVER && hd->type == NGHTTP2_HEADERS &&
	    check_order(h, hd->stream_id) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	/* For streams that are gone nothing more is told: some such frames are on their way after each reset. */
	if (hd->stream_id &&
	    (hd->type == NGHTTP2_DATA || hd->type == NGHTTP2_WINDOW_UPDATE ||
	     hd->type == NGHTTP2_RST_STREAM) &&
	    !stream_of(session, hd->stream_id))
		disturbed(h, 1);
	return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct flat_http2 *h = arg;
	int32_t id = frame->hd.stream_id;

	h->block = frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_HEADERS
		       ? &h->trailers
		       : &h->head;
	flat_http2_block_begin(h->block, id);
	if (h->side == FLAT_HTTP2_CLIENT || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct flat_http2_stream *s = flat_http2_stream_new(h, id);
	if (!s)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (nghttp2_session_set_stream_user_data(session, id, s) != 0) {
		flat_http2_stream_free(s);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

/* The stream is at fault, and ends. */
static int refuse(struct flat_http2 *h, int32_t id)
{
	if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id,
				      FLAT_HTTP2_PROTOCOL_ERROR) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
		     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
	struct flat_http2 *h = arg;
	int err = flat_http2_block_add(h->block, name, value);

	(void)session;
	(void)flags;
	if (err == -ENOMEM)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (err == -EMSGSIZE) {
		disturbed(h, FLAT_HTTP2_CALM_MAX * 2);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return err ? refuse(h, frame->hd.stream_id) : 0;
}

/* A name or value that nghttp2 would leave out: what two parsers read in two ways is refused. It prescribes the parameters. */
/* NOLINTNEXTLINE(readability-function-size) */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
			     const uint8_t *name, size_t name_len, const uint8_t *value,
			     size_t value_len, uint8_t flags, void *arg)
{
	(void)session;
	(void)name;
	(void)name_len;
	(void)value;
	(void)value_len;
	(void)flags;
	return refuse(arg, frame->hd.stream_id);
}

static int take_block(struct flat_http2 *h, struct flat_http2_stream *s, const nghttp2_frame *frame)
{
	bool trailers = s->rx_head;
	int err;

	s->rx_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	err =
	    trailers ? flat_http2_block_trailers(h->block, s) : flat_http2_block_head(h->block, s);
	if (err == -ENOMEM)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (err != 0) {
		flat_http2_reset(s, FLAT_HTTP2_PROTOCOL_ERROR);
		disturbed(h, FLAT_HTTP2_CALM_RESET);
		return 0;
	}
	if (h->side == FLAT_HTTP2_SERVER && !trailers) {
		TAILQ_INSERT_TAIL(&h->ready, s, ready_link);
		s->ready = true;
	}
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct flat_http2 *h = arg;
	struct flat_http2_stream *s = stream_of(session, frame->hd.stream_id);
	int ret = 0;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (flat_http2_block_end(h->block) != 0)
			return NGHTTP2_ERR_CALLBACK_FAILURE;
		if (s)
			ret = take_block(h, s, frame);
		break;
	case NGHTTP2_DATA:
		if (s && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			s->rx_end = true;
		else if (frame->hd.length <= frame->data.padlen)
			disturbed(h, 1);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			disturbed(h, FLAT_HTTP2_CALM_SETTINGS);
		return 0;
	case NGHTTP2_PING:
	case NGHTTP2_PRIORITY:
	case NGHTTP2_WINDOW_UPDATE:
		disturbed(h, 1);
		return 0;
	case NGHTTP2_RST_STREAM:
		if (s && !s->tx_ended)
			disturbed(h, FLAT_HTTP2_CALM_RESET);
		return 0;
	case NGHTTP2_GOAWAY:
		h->goaway = true;
		return 0;
	default:
		return 0;
	}
	if (s && ret == 0)
		flat_http2_stream_wake(s);
	return ret;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		   size_t len, void *arg)
{
	struct flat_http2 *h = arg;
	struct flat_http2_stream *s = stream_of(session, id);
	int err;

	(void)flags;
	fill(h, 1);
	/* One stream that nobody reads must not stop the others: the streams' windows bound what is kept. */
	if (nghttp2_session_consume_connection(session, len) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	/* What nobody will read is dropped, and its window stays shut. */
	if (!s || s->reset || (!s->held && !s->ready) || s->rx_kind == FLAT_BODY_NONE)
		return 0;
	err = flat_http2_bytes_add(&s->rx_data, data, len, FLAT_HTTP2_RX_BYTES_MAX);
	return err ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct flat_http2 *h = arg;
	struct flat_http2_stream *s = stream_of(session, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_RST_STREAM && (!s || !s->resetting)) {
		/* It made us do it (CVE-2025-8671). */
		if (frame->rst_stream.error_code != FLAT_HTTP2_NO_ERROR)
			disturbed(h, FLAT_HTTP2_CALM_RESET);
		return 0;
	}
	if (frame->hd.type == NGHTTP2_DATA)
		fill(h, 1);
	if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || !s)
		return 0;
	s->tx_ended = true;
	if (h->side == FLAT_HTTP2_SERVER) {
		fill(h, FLAT_HTTP2_CALM_SERVED);
		/* RFC 9113, 8.1: answered before it was asked to the end. */
		if (!s->rx_end && !s->held)
			flat_http2_reset(s, FLAT_HTTP2_NO_ERROR);
	}
	return 0;
}

static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error,
			     void *arg)
{
	struct flat_http2_stream *s = stream_of(session, frame->hd.stream_id);

	(void)arg;
	if (frame->hd.type == NGHTTP2_HEADERS && s && error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED)
		s->refused = true;
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct flat_http2_stream *s = stream_of(session, id);

	(void)arg;
	if (!s)
		return 0;
	/* It is remembered for a while, so that frames which come too late are told from those that never may. */
	(void)nghttp2_session_set_stream_user_data(session, id, NULL);
	flat_http2_stream_closed(s, error);
	return 0;
}

/* --- life --- */

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *c;

	if (nghttp2_session_callbacks_new(&c) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(c, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(c, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
	return c;
}

static nghttp2_option *make_options(void)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&o) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_max_settings(o, 32);
	/* Resets are counted here, with what else there is; its own measure knows no served requests. */
	nghttp2_option_set_stream_reset_rate_limit(o, UINT32_MAX, UINT32_MAX);
	nghttp2_option_set_max_outbound_ack(o, FLAT_HTTP2_CALM_MAX);
	nghttp2_option_set_max_continuations(o, FLAT_HTTP2_CONTINUATIONS_MAX);
	return o;
}

static int open_session(struct flat_http2 *h)
{
	nghttp2_session_callbacks *c = make_callbacks();
	nghttp2_option *o = make_options();
	nghttp2_mem memory = flat_http2_memory(&h->memory);
	int ret = NGHTTP2_ERR_NOMEM;

	if (c && o)
		ret = h->side == FLAT_HTTP2_SERVER
			  ? nghttp2_session_server_new3(&h->session, c, h, o, &memory)
			  : nghttp2_session_client_new3(&h->session, c, h, o, &memory);
	if (c)
		nghttp2_session_callbacks_del(c);
	if (o)
		nghttp2_option_del(o);
	return ret;
}

static int greet(struct flat_http2 *h)
{
	nghttp2_settings_entry v[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, FLAT_HTTP2_STREAMS_MAX},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, FLAT_HTTP_HEAD_BYTES_MAX},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	bool server = h->side == FLAT_HTTP2_SERVER;

	/* A client allows no streams of its server's, a server says nothing of pushes. */
	if (!server)
		v[0].value = 0;
	int ret = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, v, server ? 2 : 3);
	return ret ? ret
		   : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
							   FLAT_HTTP2_WINDOW);
}

int flat_http2_open(struct flat_http2 **out, enum flat_http2_side side, flat_http2_wake_fn *wake)
{
	struct flat_http2 *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->side = side;
	h->wake = wake;
	h->calm = FLAT_HTTP2_CALM_MAX;
	h->block = &h->head;
	TAILQ_INIT(&h->streams);
	TAILQ_INIT(&h->ready);
	TAILQ_INIT(&h->spare);
	if (open_session(h) != 0 || greet(h) != 0) {
		flat_http2_close(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void flat_http2_close(struct flat_http2 *h)
{
	struct flat_http2_stream *s;
	struct flat_http2_stream *next;

	if (!h)
		return;
	/* Says nothing of streams. */
	nghttp2_session_del(h->session);
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!s->held) {
			flat_http2_stream_free(s);
			continue;
		}
		s->reset |= !s->rx_end || !s->tx_ended;
		s->closed = true;
		flat_http2_stream_wake(s);
		TAILQ_REMOVE(&h->streams, s, link);
		s->h = NULL;
	}
	flat_http2_spare_fini(h);
	flat_http2_block_fini(&h->head);
	flat_http2_block_fini(&h->trailers);
	flat_http2_bytes_free(&h->lower);
	flat_http2_memory_fini(&h->memory);
	free(h);
}

/* --- bytes --- */

int flat_http2_feed(struct flat_http2 *h, const uint8_t *bytes, size_t len, int64_t now_us)
{
	ssize_t n;

	pass_time(h, now_us);
	/* What a flood goes on with is nothing that anybody waits for. */
	if (len == 0 || h->flooded)
		return h->nomem ? -ENOMEM : 0;
	n = nghttp2_session_mem_recv(h->session, bytes, len);
	if (n == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
		end_flood(h);
		return h->nomem ? -ENOMEM : 0;
	}
	if (n == NGHTTP2_ERR_NOMEM || n == NGHTTP2_ERR_CALLBACK_FAILURE || h->nomem)
		return -ENOMEM;
	return n < 0 ? -EPROTO : 0;
}

ssize_t flat_http2_drain(struct flat_http2 *h, const uint8_t **bytes)
{
	ssize_t n = nghttp2_session_mem_send(h->session, bytes);

	return n < 0 || h->nomem ? -ENOMEM : n;
}

bool flat_http2_over(const struct flat_http2 *h)
{
	return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

bool flat_http2_usable(const struct flat_http2 *h)
{
	return !h->goaway && !h->used_up && !h->flooded &&
	       nghttp2_session_check_request_allowed(h->session);
}

bool flat_http2_flooded(const struct flat_http2 *h)
{
	return h->flooded;
}

bool flat_http2_in_head(const struct flat_http2 *h)
{
	return h->block->open;
}

void flat_http2_shutdown(struct flat_http2 *h)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);

	if (nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, FLAT_HTTP2_NO_ERROR, NULL,
				  0) != 0)
		h->nomem = true;
}

uint32_t flat_http2_streams(const struct flat_http2 *h)
{
	return h->n_streams;
}
