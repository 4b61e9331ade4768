/* Streams of a link: opening, credits, ends. */
#include "wire/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Credit is given back in pieces of this size at least: few frames, and never a stall. */
#define CREDIT_STEP (FLAT_WIRE_WINDOW / 4)
/* DATA begins in a record that has room for so much at least: small frames of several streams fill one, large ones are seldom cut. */
#define PIECE_MIN ((size_t)4096)

static struct flat_wire_bucket *bucket(struct flat_wire_link *l, uint32_t id)
{
	return &l->buckets[id % FLAT_ARRAY_SIZE(l->buckets)];
}

static struct flat_wire_stream *find(struct flat_wire_link *l, uint32_t id)
{
	struct flat_wire_stream *s;
	LIST_FOREACH(s, bucket(l, id), hash_link)
	{
		if (s->id == id)
			return s;
	}
	return NULL;
}

struct flat_wire_stream *flat_wire_stream_add(struct flat_wire_link *l, uint32_t id)
{
	struct flat_wire_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->link = l;
	s->id = id;
	s->credit = l->first_credit;
	s->window = FLAT_WIRE_WINDOW;
	l->last_id = id;
	l->n_streams++;
	LIST_INSERT_HEAD(bucket(l, id), s, hash_link);
	TAILQ_INSERT_TAIL(&l->streams, s, link_);
	return s;
}

static void unready(struct flat_wire_stream *s)
{
	if (s->ready)
		TAILQ_REMOVE(&s->link->ready, s, ready_link);
	s->ready = false;
}

static void drop_buf(struct flat_wire_stream *s)
{
	if (s->buf)
		flat_hold_give(s->link->hold, (size_t)FLAT_WIRE_WINDOW);
	free(s->buf);
	s->buf = NULL;
	s->start = 0;
}

void flat_wire_stream_remove(struct flat_wire_stream *s)
{
	struct flat_wire_link *l = s->link;
	if (l->protocol->forget)
		l->protocol->forget(s);
	unready(s);
	LIST_REMOVE(s, hash_link);
	TAILQ_REMOVE(&l->streams, s, link_);
	l->n_streams--;
	drop_buf(s);
	free(s);
}

void flat_wire_stream_end(struct flat_wire_stream *s, int err)
{
	const struct flat_wire_ops *ops = s->link->ops;
	s->link->stats.reset += err != 0;
	ops->ended(s, err);
	flat_wire_stream_remove(s);
}

static void put_number(struct flat_wire_stream *s, enum flat_frame_type type, uint32_t number)
{
	struct flat_frame f = {.type = type, .stream = s->id, .number = number};
	flat_wire_link_put(s->link, &f);
}

void flat_wire_stream_break(struct flat_wire_stream *s, int err)
{
	s->link->protocol->reset(s, err);
	flat_wire_stream_end(s, err);
}

/* --- ends --- */

bool flat_wire_stream_ends(struct flat_wire_stream *s)
{
	if (s->open && s->fin_got && s->kept == 0 && !s->fin_told) {
		s->fin_told = true;
		s->link->ops->fin(s);
	}
	if (!s->fin_told || !s->fin_sent)
		return true;
	flat_wire_stream_end(s, 0);
	return false;
}

void flat_wire_flat_reset(struct flat_wire_stream *s, int err)
{
	put_number(s, FLAT_FRAME_RESET, (uint32_t)err);
}

void flat_wire_reset(struct flat_wire_stream *s, int err)
{
	s->link->protocol->reset(s, err);
	s->link->stats.reset++;
	flat_wire_stream_remove(s);
}

/* --- opening --- */

static void put_text(struct flat_wire_stream *s, enum flat_frame_type type, uint32_t number,
		     const char *text)
{
	char clean[FLAT_FRAME_TEXT_MAX + 1];
	snprintf(clean, sizeof(clean), "%s", text);
	for (char *p = clean; *p; p++) {
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	}
	struct flat_frame f = {.type = type,
			       .stream = s->id,
			       .number = number,
			       .data = (const uint8_t *)clean,
			       .len = strlen(clean)};
	flat_wire_link_put(s->link, &f);
}

struct flat_wire_stream *flat_wire_open(struct flat_wire_link *l, const struct flat_addr *to,
					const struct flat_addr *from, void *owner)
{
	return flat_wire_link_full(l) ? NULL : l->protocol->open(l, to, from, owner);
}

struct flat_wire_stream *flat_wire_flat_open(struct flat_wire_link *l, const struct flat_addr *to,
					     const struct flat_addr *from, void *owner)
{
	struct flat_wire_stream *s =
	    l->last_id == UINT32_MAX ? NULL : flat_wire_stream_add(l, l->last_id + 1);
	if (!s)
		return NULL;
	struct flat_frame f = {.type = FLAT_FRAME_OPEN, .stream = s->id, .to = *to, .from = *from};
	s->owner = owner;
	flat_wire_link_put(l, &f);
	return s;
}

void flat_wire_flat_accept(struct flat_wire_stream *s, const char *who)
{
	put_text(s, FLAT_FRAME_ACCEPT, 0, who);
}

void flat_wire_flat_refuse(struct flat_wire_stream *s, int err, const char *why)
{
	put_text(s, FLAT_FRAME_REFUSE, (uint32_t)err, why);
}

void flat_wire_accept(struct flat_wire_stream *s, const char *who)
{
	s->open = true;
	s->link->stats.opened++;
	s->link->protocol->accept(s, who);
}

void flat_wire_refuse(struct flat_wire_stream *s, int err, const char *why)
{
	s->link->stats.refused++;
	s->link->protocol->refuse(s, err, why);
	flat_wire_stream_remove(s);
}

static int on_open(struct flat_wire_link *l, const struct flat_frame *f)
{
	/* Ids rise: one that was used may not come again. */
	if (!l->server || f->stream <= l->last_id || f->to.port == 0)
		return -EPROTO;
	bool full = l->n_streams >= FLAT_WIRE_STREAMS_MAX;
	struct flat_wire_stream *s = flat_wire_stream_add(l, f->stream);
	if (!s)
		return -EPROTO;
	/* GOAWAY asks for other links: what was opened before it was heard is served. */
	if (full)
		flat_wire_refuse(s, EAGAIN, "no further streams on this link");
	else if (l->tally->unanswered >= FLAT_WIRE_RESETS_MAX)
		flat_wire_refuse(s, EAGAIN,
				 "too many streams were reset before they were answered");
	else
		l->ops->opened(l, s, f);
	return 0;
}

static int on_answer(struct flat_wire_stream *s, const struct flat_frame *f)
{
	char text[FLAT_FRAME_TEXT_MAX + 1];
	if (s->link->server || s->open)
		return -EPROTO;
	memcpy(text, f->data, f->len);
	text[f->len] = 0;
	if (f->type == FLAT_FRAME_ACCEPT) {
		s->open = true;
		s->link->stats.opened++;
		s->link->ops->accepted(s, text);
		return 0;
	}
	s->link->stats.refused++;
	s->link->ops->refused(s, flat_frame_errno(f->number), text);
	flat_wire_stream_remove(s);
	return 0;
}

/* --- bytes in --- */

static int keep(struct flat_wire_stream *s, const uint8_t *p, size_t n)
{
	if (!s->buf && !flat_hold_take(s->link->hold, (size_t)FLAT_WIRE_WINDOW))
		return -ENOBUFS;
	if (!s->buf) {
		s->buf = malloc((size_t)FLAT_WIRE_WINDOW);
		if (!s->buf)
			flat_hold_give(s->link->hold, (size_t)FLAT_WIRE_WINDOW);
	}
	if (!s->buf)
		return -ENOMEM;
	for (size_t i = 0; i < n;) {
		uint32_t at = (s->start + s->kept) % FLAT_WIRE_WINDOW;
		size_t piece = flat_min_size(n - i, FLAT_WIRE_WINDOW - at);
		memcpy(s->buf + at, p + i, piece);
		s->kept += (uint32_t)piece;
		i += piece;
	}
	return 0;
}

void flat_wire_flat_credit(struct flat_wire_stream *s)
{
	if (s->owed < CREDIT_STEP || s->fin_got)
		return;
	put_number(s, FLAT_FRAME_CREDIT, s->owed);
	s->window += s->owed;
	s->owed = 0;
}

/* False: the stream is gone. */
static bool take_kept(struct flat_wire_stream *s)
{
	while (s->open && s->kept > 0) {
		size_t n = flat_min_size(s->kept, FLAT_WIRE_WINDOW - s->start);
		ssize_t took = s->link->ops->take(s, s->buf + s->start, n);
		if (took < 0) {
			flat_wire_stream_break(s, ECONNRESET);
			return false;
		}
		if (took == 0)
			return true;
		s->start = (s->start + (uint32_t)took) % FLAT_WIRE_WINDOW;
		s->kept -= (uint32_t)took;
		s->owed += (uint32_t)took;
		s->link->protocol->credit(s);
	}
	if (s->kept == 0)
		drop_buf(s);
	return true;
}

bool flat_wire_room(struct flat_wire_stream *s)
{
	return take_kept(s) && flat_wire_stream_ends(s);
}

bool flat_wire_stream_data(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	ssize_t took = 0;
	s->window -= (uint32_t)len;
	s->bytes[1] += len;
	s->link->stats.bytes[1] += len;
	if (s->open && s->kept == 0)
		took = s->link->ops->take(s, bytes, len);
	if (took < 0 || ((size_t)took < len && keep(s, bytes + took, len - (size_t)took) != 0)) {
		flat_wire_stream_break(s, took < 0 ? ECONNRESET : ENOBUFS);
		return false;
	}
	s->owed += (uint32_t)took;
	s->link->protocol->credit(s);
	return true;
}

static int on_data(struct flat_wire_stream *s, const struct flat_frame *f)
{
	if (!s->open || s->fin_got || f->len > s->window)
		return -EPROTO;
	(void)flat_wire_stream_data(s, f->data, f->len);
	return 0;
}

static int on_credit(struct flat_wire_stream *s, uint32_t n)
{
	if (n == 0 || n > FLAT_WIRE_WINDOW - s->credit)
		return -EPROTO;
	s->credit += n;
	if (s->open && !s->fin_sent)
		flat_wire_ready(s);
	return 0;
}

int flat_wire_stream_frame(struct flat_wire_link *l, const struct flat_frame *f)
{
	if (f->type == FLAT_FRAME_OPEN)
		return on_open(l, f);
	if (f->stream > l->last_id)
		return -EPROTO;
	struct flat_wire_stream *s = find(l, f->stream);
	/* One that we ended a moment ago. */
	if (!s)
		return 0;
	switch (f->type) {
	case FLAT_FRAME_ACCEPT:
	case FLAT_FRAME_REFUSE:
		return on_answer(s, f);
	case FLAT_FRAME_DATA:
		return on_data(s, f);
	case FLAT_FRAME_FIN:
		if (!s->open || s->fin_got)
			return -EPROTO;
		s->fin_got = true;
		(void)flat_wire_stream_ends(s);
		return 0;
	case FLAT_FRAME_RESET:
		/* It cost a connection here, and its peer a frame. */
		l->tally->unanswered += l->server && s->bytes[0] == 0;
		flat_wire_stream_end(s, flat_frame_errno(f->number));
		return 0;
	case FLAT_FRAME_CREDIT:
		return on_credit(s, f->number);
	default:
		return -EPROTO;
	}
}

/* --- bytes out --- */

/* As TCP towards a host that has closed: it goes nowhere. Whoever wrote it does not wait for it, and so reads what there is. */
static void drop(struct flat_wire_stream *s)
{
	uint8_t sink[4096];
	while (s->link->ops->give(s, sink, sizeof(sink)) > 0)
		;
}

void flat_wire_ready(struct flat_wire_stream *s)
{
	if (!s->fin_sent && s->open)
		s->link->protocol->ready(s);
	else if (s->deaf)
		drop(s);
}

void flat_wire_flat_ready(struct flat_wire_stream *s)
{
	if (s->ready)
		return;
	s->ready = true;
	TAILQ_INSERT_TAIL(&s->link->ready, s, ready_link);
}

static void count_sent(struct flat_wire_stream *s, size_t n)
{
	s->credit -= (uint32_t)n;
	s->bytes[0] += n;
	s->link->stats.bytes[0] += n;
}

/* What fills a record is sealed from where it lies. False: it does not, or nobody says where. */
static bool send_in_place(struct flat_wire_stream *s, size_t room)
{
	const struct flat_wire_ops *ops = s->link->ops;
	struct iovec iov[2];
	int n_iov = 0;
	if (!ops->look || s->credit < room || ops->look(s, room, iov, &n_iov) != (ssize_t)room)
		return false;
	flat_wire_link_put_from(s->link, s->id, iov, n_iov);
	ops->pass(s, room);
	count_sent(s, room);
	return true;
}

void flat_wire_stream_send(struct flat_wire_stream *s)
{
	struct flat_wire_link *l = s->link;
	size_t room;
	unready(s);
	/* Credit makes it ready again. A peer that has taken all owes less than a quarter of a window: so it comes, and no
	 * frame is cut short for what is left of it. */
	if (s->credit < flat_min_size(FLAT_FRAME_BODY_MAX, l->first_credit / 4 + 1))
		return;
	uint8_t *body = flat_wire_link_place(l, PIECE_MIN, &room);
	if (send_in_place(s, room)) {
		flat_wire_ready(s);
		return;
	}
	ssize_t n = l->ops->give(s, body, flat_min_size(s->credit, room));
	if (n == -EAGAIN)
		return;
	if (n < 0) {
		flat_wire_stream_break(s, ECONNRESET);
		return;
	}
	if (n == 0) {
		s->fin_sent = true;
		put_number(s, FLAT_FRAME_FIN, 0);
		(void)flat_wire_stream_ends(s);
		return;
	}
	count_sent(s, (size_t)n);
	flat_wire_link_put_data(l, s->id, (size_t)n);
	flat_wire_ready(s);
}
