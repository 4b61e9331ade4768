/* The connection: its life, and the measure of floods. */
#include "codec/http2.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/http2_stream.h"

/* What the protocol begins with, before SETTINGS say more; of streams: what a peer takes that has not said yet. */
#define WINDOW_FIRST 65535
#define STREAMS_FIRST 100U

/* --- floods --- */

void flat_http2_calmed(struct flat_http2 *h, int32_t n)
{
	h->calm = h->calm + n > FLAT_HTTP2_CALM_MAX ? FLAT_HTTP2_CALM_MAX : h->calm + n;
}

void flat_http2_end_flood(struct flat_http2 *h)
{
	h->flooded = true;
	flat_http2_send_goaway(h, FLAT_HTTP2_CALM);
}

void flat_http2_disturbed(struct flat_http2 *h, int32_t cost)
{
	h->calm -= cost;
	/* Who asks and does not read makes us hoard, however slowly. */
	if ((h->calm < 0 || h->resets < 0 || h->n_forced > FLAT_HTTP2_CALM_MAX) && !h->flooded)
		flat_http2_end_flood(h);
}

void flat_http2_wasted(struct flat_http2 *h)
{
	h->resets--;
	flat_http2_disturbed(h, 0);
}

static void forgive(struct flat_http2 *h, int32_t n)
{
	h->resets = h->resets + n > FLAT_HTTP2_RESETS_MAX ? FLAT_HTTP2_RESETS_MAX : h->resets + n;
}

void flat_http2_served(struct flat_http2 *h)
{
	flat_http2_calmed(h, FLAT_HTTP2_CALM_SERVED);
	forgive(h, 1);
}

/* How much of a bucket has come since *since_us, which moves on when it is something. */
static int32_t come(int64_t *since_us, int64_t now_us, int32_t per_s, int32_t max)
{
	int64_t n = (now_us - *since_us) * per_s / 1000000;

	if (n <= 0)
		return 0;
	*since_us = now_us;
	return n > max ? max : (int32_t)n;
}

static void pass_time(struct flat_http2 *h, int64_t now_us)
{
	h->now_us = now_us;
	flat_http2_calmed(h, come(&h->calm_us, now_us, FLAT_HTTP2_CALM_PER_S, FLAT_HTTP2_CALM_MAX));
	forgive(h, come(&h->resets_us, now_us, FLAT_HTTP2_RESETS_PER_S, FLAT_HTTP2_RESETS_MAX));
}

/* --- life --- */

static void greet(struct flat_http2 *h)
{
	if (h->side == FLAT_HTTP2_CLIENT) {
		h->rx = FLAT_HTTP2_RX_FRAME;
		h->nomem |=
		    flat_http2_bytes_add(&h->out, FLAT_HTTP2_PREFACE, FLAT_HTTP2_PREFACE_BYTES,
					 FLAT_HTTP2_PREFACE_BYTES) != 0;
	}
	flat_http2_send_settings(h);
	flat_http2_send_window(h, 0, FLAT_HTTP2_WINDOW - WINDOW_FIRST);
}

int flat_http2_open(struct flat_http2 **out, enum flat_http2_side side, flat_http2_wake_fn *wake)
{
	struct flat_http2 *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->side = side;
	h->wake = wake;
	h->calm = FLAT_HTTP2_CALM_MAX;
	h->resets = FLAT_HTTP2_RESETS_MAX;
	h->block = &h->head;
	TAILQ_INIT(&h->streams);
	TAILQ_INIT(&h->ready);
	TAILQ_INIT(&h->pending);
	TAILQ_INIT(&h->sending);
	TAILQ_INIT(&h->spare);
	h->next_id = 1;
	h->tx_window = h->tx_first_window = WINDOW_FIRST;
	h->tx_streams_max = STREAMS_FIRST;
	if (flat_http2_hpack_open(h) != 0) {
		flat_http2_close(h);
		return -ENOMEM;
	}
	greet(h);
	if (h->nomem) {
		flat_http2_close(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void flat_http2_secure(struct flat_http2 *h)
{
	h->secure = true;
}

void flat_http2_close(struct flat_http2 *h)
{
	struct flat_http2_stream *s;
	struct flat_http2_stream *next;

	if (!h)
		return;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!s->held) {
			flat_http2_stream_free(s);
			continue;
		}
		s->reset |= !s->rx_end || !s->tx_ended;
		s->malformed |= h->dead && s->reset;
		s->closed = true;
		flat_http2_stream_wake(s);
		flat_http2_stream_part(s);
	}
	flat_http2_spare_fini(h);
	flat_http2_block_fini(&h->head);
	flat_http2_block_fini(&h->trailers);
	flat_http2_bytes_free(&h->lower);
	flat_http2_bytes_free(&h->coded);
	flat_http2_bytes_free(&h->payload);
	flat_http2_bytes_free(&h->out);
	flat_http2_hpack_close(h);
	free(h);
}

/* --- bytes --- */

int flat_http2_feed(struct flat_http2 *h, const uint8_t *bytes, size_t len, int64_t now_us)
{
	int err;

	pass_time(h, now_us);
	/* What goes on after a fault or in a flood is nothing that anybody waits for. */
	err = flat_http2_frames(h, bytes, len);
	return h->nomem ? -ENOMEM : err;
}

bool flat_http2_over(const struct flat_http2 *h)
{
	if (h->out.at < h->out.len)
		return false;
	return h->dead || (h->n_open == 0 && (h->leaving || h->goaway));
}

bool flat_http2_usable(const struct flat_http2 *h)
{
	return !h->goaway && !h->leaving && !h->used_up;
}

bool flat_http2_flooded(const struct flat_http2 *h)
{
	return h->flooded;
}

bool flat_http2_in_head(const struct flat_http2 *h)
{
	return h->block_open;
}

void flat_http2_shutdown(struct flat_http2 *h)
{
	flat_http2_send_goaway(h, FLAT_HTTP2_NO_ERROR);
}

uint32_t flat_http2_streams(const struct flat_http2 *h)
{
	return h->n_streams;
}
