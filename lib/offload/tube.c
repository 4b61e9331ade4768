#include "offload/tube.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/limits.h"

/* Buffers kept for the next: those of as many tubes as move bytes in one turn. */
#define SPARE_MAX 32

struct side {
	TAILQ_ENTRY(side) news_link;
	struct flat_source *watcher;
	flat_tube_sink_fn *sink; /* NULL: what comes waits */
	int events;		 /* not told yet; 0: it is not in the list */
	bool closed;
	/* What it writes. */
	uint8_t *v; /* FLAT_TUBE_BYTES; NULL: nothing is there */
	size_t at;
	size_t len;
	bool fin;
	bool reset;
	bool wants; /* it was refused room */
};

struct flat_tube {
	struct side side[2];
	struct flat_hold *hold; /* NULL: nobody counts */
	bool cut;
};

/* Of the control thread. */
static TAILQ_HEAD(news_list, side) news = TAILQ_HEAD_INITIALIZER(news);
static uint8_t *spare[SPARE_MAX];
static size_t n_spare;

/* NULL: there is no memory, or none for whom it is. */
static uint8_t *take_buffer(struct flat_tube *t)
{
	if (!flat_hold_take(t->hold, FLAT_TUBE_BYTES))
		return NULL;
	uint8_t *v = n_spare > 0 ? spare[--n_spare] : malloc(FLAT_TUBE_BYTES);
	if (!v)
		flat_hold_give(t->hold, FLAT_TUBE_BYTES);
	return v;
}

static void give_buffer(struct flat_tube *t, struct side *s)
{
	if (s->v)
		flat_hold_give(t->hold, FLAT_TUBE_BYTES);
	if (s->v && n_spare < SPARE_MAX)
		spare[n_spare++] = s->v;
	else
		free(s->v);
	s->v = NULL;
	s->at = s->len = 0;
}

void flat_tubes_spare_fini(void)
{
	while (n_spare > 0)
		free(spare[--n_spare]);
}

/* --- telling --- */

static void post(struct side *s, int events)
{
	if (!s->watcher)
		return;
	if (s->events == 0)
		TAILQ_INSERT_TAIL(&news, s, news_link);
	s->events |= events;
}

static void forget(struct side *s)
{
	if (s->events != 0)
		TAILQ_REMOVE(&news, s, news_link);
	s->events = 0;
}

void flat_tube_watch(struct flat_tube *t, enum flat_tube_side side, struct flat_source *source)
{
	struct side *s = &t->side[side];
	forget(s);
	s->watcher = source;
	s->sink = NULL;
	/* What came before. */
	post(s, POLLIN | POLLOUT);
}

void flat_tube_sink(struct flat_tube *t, enum flat_tube_side side, flat_tube_sink_fn *fn)
{
	t->side[side].sink = fn;
}

bool flat_tubes_tell(void)
{
	struct side *last = TAILQ_LAST(&news, news_list);
	struct side *s;
	bool any = last != NULL;
	for (bool more = any; more && (s = TAILQ_FIRST(&news)) != NULL;) {
		int events = s->events;
		more = s != last;
		forget(s);
		/* It may be gone after this; `last`, too, and then the list ends it. */
		s->watcher->fn(s->watcher, events);
	}
	return any;
}

/* --- life --- */

struct flat_tube *flat_tube_new(void)
{
	return calloc(1, sizeof(struct flat_tube));
}

void flat_tube_hold(struct flat_tube *t, struct flat_hold *hold)
{
	t->hold = flat_hold_get(hold);
}

void flat_tube_close(struct flat_tube *t, enum flat_tube_side side, bool hard)
{
	struct side *own = &t->side[side];
	struct side *other = &t->side[side ^ 1];
	forget(own);
	own->watcher = NULL;
	own->sink = NULL;
	own->closed = own->fin = true;
	own->reset |= hard;
	give_buffer(t, other);
	if (!other->closed) {
		post(other, POLLIN | POLLOUT | POLLHUP);
		return;
	}
	give_buffer(t, own);
	flat_hold_put(t->hold);
	free(t);
}

void flat_tube_cut(struct flat_tube *t)
{
	t->cut = true;
	for (int i = 0; i < 2; i++)
		post(&t->side[i], POLLIN | POLLOUT | POLLHUP);
}

void flat_tube_end(struct flat_tube *t, enum flat_tube_side side)
{
	t->side[side].fin = true;
	post(&t->side[side ^ 1], POLLIN | POLLRDHUP);
}

/* --- bytes --- */

ssize_t flat_tube_reserve(struct flat_tube *t, enum flat_tube_side side, size_t len,
			  struct iovec iov[2], int *n_iov)
{
	struct side *s = &t->side[side];
	size_t room = FLAT_TUBE_BYTES - s->len;
	*n_iov = 0;
	if (t->cut || s->fin || t->side[side ^ 1].closed)
		return -EPIPE;
	s->wants = len > room;
	if (room == 0)
		return -EAGAIN;
	if (!s->v)
		s->v = take_buffer(t);
	if (!s->v)
		return -ENOMEM;
	size_t n = flat_min_size(len, room);
	size_t from = (s->at + s->len) % FLAT_TUBE_BYTES;
	size_t first = flat_min_size(n, FLAT_TUBE_BYTES - from);
	iov[0] = (struct iovec){s->v + from, first};
	iov[1] = (struct iovec){s->v, n - first};
	*n_iov = first < n ? 2 : 1;
	return (ssize_t)n;
}

void flat_tube_commit(struct flat_tube *t, enum flat_tube_side side, size_t len)
{
	t->side[side].len += len;
	post(&t->side[side ^ 1], POLLIN);
}

/* What the other side takes at once. */
static size_t sink(struct flat_tube *t, enum flat_tube_side side, const uint8_t *bytes, size_t len)
{
	const struct side *s = &t->side[side];
	struct side *to = &t->side[side ^ 1];
	if (!to->sink || s->len > 0 || t->cut || s->fin)
		return 0;
	size_t n = to->sink(to->watcher, bytes, len);
	if (n > 0)
		post(to, POLLIN);
	return n;
}

ssize_t flat_tube_send(struct flat_tube *t, enum flat_tube_side side, const void *bytes, size_t len)
{
	struct iovec iov[2];
	int n_iov;
	size_t done = sink(t, side, bytes, len);
	const uint8_t *from = (const uint8_t *)bytes + done;
	if (len > 0 && done == len)
		return (ssize_t)len;
	ssize_t n = flat_tube_reserve(t, side, len - done, iov, &n_iov);
	if (n <= 0)
		return done > 0 ? (ssize_t)done : n;
	memcpy(iov[0].iov_base, from, iov[0].iov_len);
	if (n_iov == 2)
		memcpy(iov[1].iov_base, from + iov[0].iov_len, iov[1].iov_len);
	flat_tube_commit(t, side, (size_t)n);
	return (ssize_t)done + n;
}

ssize_t flat_tube_peek(const struct flat_tube *t, enum flat_tube_side side, size_t max,
		       struct iovec iov[2], int *n_iov)
{
	const struct side *s = &t->side[side ^ 1];
	size_t n = flat_min_size(max, s->len);
	*n_iov = 0;
	if (t->cut)
		return -ECONNRESET;
	if (s->len == 0)
		return s->reset ? -ECONNRESET : s->fin ? 0 : -EAGAIN;
	size_t first = flat_min_size(n, FLAT_TUBE_BYTES - s->at);
	iov[0] = (struct iovec){s->v + s->at, first};
	iov[1] = (struct iovec){s->v, n - first};
	*n_iov = first < n ? 2 : 1;
	return (ssize_t)n;
}

void flat_tube_skip(struct flat_tube *t, enum flat_tube_side side, size_t len)
{
	struct side *s = &t->side[side ^ 1];
	s->at = (s->at + len) % FLAT_TUBE_BYTES;
	s->len -= len;
	if (s->len == 0)
		give_buffer(t, s);
	if (s->wants && s->len <= FLAT_TUBE_BYTES / 2) {
		s->wants = false;
		post(s, POLLOUT);
	}
}

ssize_t flat_tube_recv(struct flat_tube *t, enum flat_tube_side side, void *buf, size_t max)
{
	struct iovec iov[2];
	int n_iov;
	ssize_t n = flat_tube_peek(t, side, max, iov, &n_iov);
	if (n <= 0)
		return n;
	memcpy(buf, iov[0].iov_base, iov[0].iov_len);
	if (n_iov == 2)
		memcpy((uint8_t *)buf + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	flat_tube_skip(t, side, (size_t)n);
	return n;
}

size_t flat_tube_pending(const struct flat_tube *t, enum flat_tube_side side)
{
	return t->side[side ^ 1].len;
}
