#include "offload/l7_end.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/rest.h"
#include "offload/telling.h"
#include "wire/tls.h"

/* Pieces below this are gathered, so that a head and a small body go out together. */
#define LARGE_BYTES ((size_t)8 * 1024)
/* Buffers kept for the next stream or connection: taking them from the system and giving them back costs page faults. */
#define SPARE_MAX 64

struct spare {
	void *v[SPARE_MAX];
	unsigned n;
};

/* Of the control thread. */
static struct spare spare_in, spare_out;
/* Ends that have news. */
static TAILQ_HEAD(, flat_l7_end) news = TAILQ_HEAD_INITIALIZER(news);

static void *spare_get(struct spare *s, size_t size)
{
	return s->n ? s->v[--s->n] : malloc(size);
}

static void spare_put(struct spare *s, void *buffer)
{
	if (buffer && s->n < SPARE_MAX)
		s->v[s->n++] = buffer;
	else
		free(buffer);
}

void flat_l7_end_spare_fini(void)
{
	while (spare_in.n)
		free(spare_in.v[--spare_in.n]);
	while (spare_out.n)
		free(spare_out.v[--spare_out.n]);
}

void flat_l7_end_lane(struct flat_l7_end *e, const struct flat_lane *lane, uint32_t slot,
		      enum flat_side side, int fd)
{
	e->source.fd = fd;
	e->lane = *lane;
	e->slot = slot;
	e->side = side;
	e->open = true;
	flat_vq_init(&e->vq, &flat_vq_shm, lane, slot, (enum flat_side)(side ^ 1), fd, fd);
}

void flat_l7_end_tcp(struct flat_l7_end *e, int fd, struct flat_tls *tls)
{
	e->source.fd = fd;
	e->is_tcp = true;
	e->tls = tls;
	e->open = true;
}

void flat_l7_end_tube(struct flat_l7_end *e, struct flat_tube *tube, flat_source_fn *fn)
{
	e->source.fd = -1;
	e->source.fn = fn;
	e->is_tcp = true;
	e->tube = tube;
	e->open = true;
	flat_tube_watch(tube, FLAT_TUBE_NEAR, &e->source);
}

void flat_l7_end_stream(struct flat_l7_end *e, struct flat_http2_stream *stream,
			enum flat_side side)
{
	e->source.fd = -1;
	e->stream = stream;
	e->side = side;
	e->open = true;
}

int flat_l7_end_sink(struct flat_l7_end *e, const void *bytes, size_t len)
{
	e->source.fd = -1;
	e->is_sink = true;
	e->open = true;
	if (flat_l7_end_buffers(e) != 0)
		return -ENOMEM;
	memcpy(e->in, bytes, len);
	e->len = len;
	e->bytes_in = len;
	return 0;
}

/* It has a ring in memory that it shares with an application. */
static bool is_lane(const struct flat_l7_end *e)
{
	return !e->is_tcp && !e->stream && !e->is_sink;
}

static void forget_news(struct flat_l7_end *e)
{
	if (e->news)
		TAILQ_REMOVE(&news, e, news_link);
	e->news = false;
}

void flat_l7_end_fini(struct flat_l7_end *e)
{
	if (e->news)
		flat_vq_notify_data(&e->vq);
	forget_news(e);
	spare_put(&spare_in, e->in);
	spare_put(&spare_out, e->out);
	e->in = e->out = NULL;
	if (e->rest)
		flat_rest_leave(e->rest, &e->vq);
	e->rest = NULL;
	if (e->stream)
		flat_http2_release(e->stream);
	e->stream = NULL;
	if (e->tube)
		flat_tube_watch(e->tube, FLAT_TUBE_NEAR, NULL);
}

int flat_l7_end_buffers(struct flat_l7_end *e)
{
	if (!e->in) {
		e->in = spare_get(&spare_in, FLAT_L7_IN_BYTES);
		e->at = e->len = 0;
	}
	if (!e->out) {
		e->out = spare_get(&spare_out, FLAT_L7_OUT_BYTES);
		e->out_at = e->out_len = 0;
	}
	return e->in && e->out ? 0 : -ENOMEM;
}

void flat_l7_end_rest(struct flat_l7_end *e)
{
	if (e->in && e->at == e->len) {
		spare_put(&spare_in, e->in);
		e->in = NULL;
		e->at = e->len = 0;
	}
	if (e->out && e->out_at == e->out_len) {
		spare_put(&spare_out, e->out);
		e->out = NULL;
		e->out_at = e->out_len = 0;
	}
}

static void end_tx(struct flat_l7_end *e, bool reset)
{
	e->fin_sent = true;
	if (!e->open)
		return;
	if (e->is_sink) {
		e->gone = true;
	} else if (e->stream) {
		/* Nothing is heard of a stream any more: what it was given, it sends. */
		if (reset)
			flat_http2_reset(e->stream, e->side == FLAT_SIDE_CLIENT
							? FLAT_HTTP2_INTERNAL_ERROR
							: FLAT_HTTP2_CANCEL);
		else if (e->cut)
			flat_http2_break_off(e->stream, FLAT_HTTP2_INTERNAL_ERROR);
		else
			flat_http2_finish(e->stream);
		e->gone = true;
	} else if (!e->is_tcp) {
		flat_vq_end_tx(&e->vq, reset ? FLAT_PROD_RST : FLAT_PROD_FIN);
	} else if (e->tube) {
		if (reset)
			flat_tube_cut(e->tube);
		else
			flat_tube_end(e->tube, FLAT_TUBE_NEAR);
		e->gone |= reset;
	} else if (!reset) {
		if (e->tls)
			(void)flat_tls_end(e->tls);
		flat_sys_shutdown(e->source.fd, SHUT_WR);
	} else {
		/* Closed with its connection: with this, by a reset. */
		flat_sys_reset_at_close(e->source.fd);
		e->gone = true;
	}
}

/* Words that no honest party writes (rule 6): nothing more goes to or comes from that application's end. */
static void breach(struct flat_l7_end *e)
{
	if (e->broken)
		return;
	e->broken = e->reset = e->deaf = true;
	flat_tell(FLAT_LOG_WARN, "breaches", "all",
		  "an HTTP connection is closed: rule 6: positions of its %s that cannot be",
		  e->side == FLAT_SIDE_CLIENT ? "client" : "server");
	if (!e->fin_sent)
		end_tx(e, true);
	/* Its holders see a hang-up, and so do we: the end is over. */
	flat_sys_shutdown(e->source.fd, SHUT_RDWR);
}

/* --- reading --- */

static ssize_t read_lane(struct flat_l7_end *e, size_t room)
{
	/* Flags before bytes: after FIN no byte follows. */
	uint32_t flags = flat_vq_peer_prod_flags(&e->vq);
	ssize_t n = flat_ring_read(&e->vq.rx, e->in + e->len, room, 1);
	if (n > 0)
		flat_vq_notify_room(&e->vq);
	else if (n < 0)
		breach(e);
	else if (flags & FLAT_PROD_RST)
		e->reset = true;
	else if (flags & FLAT_PROD_FIN)
		e->eof = true;
	return n;
}

static ssize_t read_tcp(struct flat_l7_end *e, size_t room)
{
	uint8_t *to = e->in + e->len;
	ssize_t n = e->tube  ? flat_tube_recv(e->tube, FLAT_TUBE_NEAR, to, room)
		    : e->tls ? flat_tls_read(e->tls, to, room)
			     : flat_sys_recv(e->source.fd, to, room, MSG_DONTWAIT);
	if (n == 0)
		e->eof = true;
	else if (n < 0 && n != -EAGAIN && n != -EINTR)
		e->reset = true;
	return n;
}

static ssize_t read_stream(struct flat_l7_end *e, size_t room)
{
	size_t n = flat_http2_read(e->stream, e->in + e->len, room);
	if (n == 0 && flat_http2_is_reset(e->stream))
		e->reset = true;
	return (ssize_t)n;
}

size_t flat_l7_end_read(struct flat_l7_end *e, size_t max)
{
	size_t room = flat_min_size(FLAT_L7_IN_BYTES - e->len, max);
	if (!e->open || e->eof || e->reset || e->is_sink || room == 0)
		return 0;
	ssize_t n = e->stream	? read_stream(e, room)
		    : e->is_tcp ? read_tcp(e, room)
				: read_lane(e, room);
	if (n <= 0)
		return 0;
	e->len += (size_t)n;
	e->bytes_in += (uint64_t)n;
	return (size_t)n;
}

bool flat_l7_end_is_full(const struct flat_l7_end *e)
{
	return FLAT_L7_IN_BYTES - e->len < (e->stream ? FLAT_HTTP2_READ_MIN : 1);
}

void flat_l7_end_pack(struct flat_l7_end *e, size_t to)
{
	if (e->at == to)
		return;
	memmove(e->in + to, e->in + e->at, e->len - e->at);
	e->len = to + (e->len - e->at);
	e->at = to;
}

/* --- writing --- */

static bool takes_nothing(const struct flat_l7_end *e)
{
	if (e->stream)
		return e->gone || e->fin_sent || flat_http2_is_reset(e->stream);
	return e->gone || e->fin_sent || e->broken || (is_lane(e) && flat_vq_peer_deaf(&e->vq));
}

/* Bytes taken now. What nobody takes any more is dropped. */
static size_t send_now(struct flat_l7_end *e, const uint8_t *bytes, size_t len)
{
	ssize_t n;
	if (!e->open)
		return 0;
	if (takes_nothing(e)) {
		e->deaf = true;
		return len;
	}
	if (e->is_sink) {
		n = (ssize_t)len;
	} else if (e->stream) {
		n = flat_http2_write(e->stream, bytes, len);
		if (n < 0)
			flat_http2_reset(e->stream, FLAT_HTTP2_INTERNAL_ERROR);
	} else if (e->is_tcp) {
		n = e->tube  ? flat_tube_send(e->tube, FLAT_TUBE_NEAR, bytes, len)
		    : e->tls ? flat_tls_write(e->tls, bytes, len)
			     : flat_sys_send(e->source.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == -EAGAIN || n == -EINTR)
			n = 0;
	} else {
		n = flat_ring_write(&e->vq.tx, bytes, len);
		if (n > 0 && !e->news) {
			e->news = true;
			TAILQ_INSERT_TAIL(&news, e, news_link);
		}
	}
	if (n < 0) {
		e->deaf = true;
		if (is_lane(e))
			breach(e);
		return len;
	}
	e->full = (size_t)n < len;
	e->bytes_out += (uint64_t)n;
	return (size_t)n;
}

void flat_l7_ends_tell(void)
{
	struct flat_l7_end *e;
	while ((e = TAILQ_FIRST(&news)) != NULL) {
		forget_news(e);
		flat_vq_notify_data(&e->vq);
	}
}

size_t flat_l7_end_room(struct flat_l7_end *e)
{
	if (e->out_at == e->out_len)
		e->out_at = e->out_len = 0;
	return FLAT_L7_OUT_BYTES - e->out_len;
}

void flat_l7_end_put(struct flat_l7_end *e, const void *bytes, size_t len)
{
	size_t sent = 0;
	if (len >= LARGE_BYTES) {
		(void)flat_l7_end_flush(e);
		if (e->out_at == e->out_len)
			sent = send_now(e, bytes, len);
	}
	if (len == sent)
		return;
	/* Who puts has looked for room. */
	if (len - sent > FLAT_L7_OUT_BYTES - e->out_len) {
		e->deaf = true;
		return;
	}
	memcpy(e->out + e->out_len, (const uint8_t *)bytes + sent, len - sent);
	e->out_len += len - sent;
}

bool flat_l7_end_head(struct flat_l7_end *e, const struct flat_http_head *head, const void *text,
		      size_t len)
{
	if (!e->stream || !e->open || e->out_at < e->out_len)
		return false;
	if (takes_nothing(e)) {
		e->deaf = true;
	} else if (flat_http2_write_head(e->stream, head, text) != 0) {
		flat_http2_reset(e->stream, FLAT_HTTP2_INTERNAL_ERROR);
		e->deaf = true;
	} else {
		e->bytes_out += len;
	}
	return true;
}

size_t flat_l7_end_flush(struct flat_l7_end *e)
{
	size_t sent = 0;
	if (e->out_at < e->out_len) {
		sent = send_now(e, e->out + e->out_at, e->out_len - e->out_at);
		e->out_at += sent;
	}
	if (e->out_at < e->out_len)
		return sent;
	e->out_at = e->out_len = 0;
	if (e->fin_due && !e->fin_sent && e->open) {
		end_tx(e, false);
		return sent ? sent : 1;
	}
	return sent;
}

void flat_l7_end_abort(struct flat_l7_end *e)
{
	e->out_at = e->out_len = 0;
	if (!e->fin_sent)
		end_tx(e, true);
	if (e->open && is_lane(e))
		flat_vq_end_rx(&e->vq, FLAT_CONS_CLOSED);
}

void flat_l7_end_leave(struct flat_l7_end *e)
{
	if (!e->fin_sent)
		end_tx(e, false);
	if (e->open && is_lane(e))
		flat_vq_end_rx(&e->vq, FLAT_CONS_CLOSED);
}

size_t flat_l7_end_untaken(struct flat_l7_end *e)
{
	ssize_t n = e->open && is_lane(e) ? flat_ring_unsent(&e->vq.tx) : 0;
	return (n > 0 ? (size_t)n : 0) + (e->out_len - e->out_at);
}

/* --- waiting --- */

void flat_l7_end_event(struct flat_l7_end *e, int events)
{
	if (e->is_tcp)
		return;
	if ((events & (POLLHUP | POLLRDHUP | POLLERR)) && !e->gone) {
		e->gone = true;
		/* In a forwarded lane we are our own neighbour: nobody needs a bell. */
		flat_vq_complete(&e->lane, e->slot, e->side, -1);
	} else if (events & POLLIN) {
		(void)!flat_vq_drain_anchor(&e->vq);
	}
}

void flat_l7_end_arm(struct flat_l7_end *e)
{
	if (!e->open || !is_lane(e))
		return;
	if (e->rest) {
		const struct flat_resting resting = {&e->source, &e->vq, !e->eof && !e->reset,
						     e->full};
		flat_rest_begin(e->rest, &resting);
		return;
	}
	flat_vq_arm_rx(&e->vq, FLAT_ARM_BELL);
	if (e->full)
		flat_vq_arm_tx(&e->vq, FLAT_ARM_BELL);
}

void flat_l7_end_disarm(struct flat_l7_end *e)
{
	if (!e->open || !is_lane(e))
		return;
	if (e->rest)
		flat_rest_end(e->rest, &e->vq);
	flat_vq_disarm_rx(&e->vq);
}
