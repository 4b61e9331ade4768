/*
 * Clients that speak HTTP/2: each stream is a struct flat_l7 of its own, with its route, policies, retries and times,
 * whose end is a stream of the connection. They share the connection's identity and its upstreams.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "offload/l7_engine.h"
#include "wire/tls.h"

/* Bytes taken from the client in one turn (rule 11), and in one piece: between them streams are looked at. */
#define QUANTUM_BYTES ((size_t)64 * 1024)
#define PIECE_BYTES ((size_t)8 * 1024)

/* All of it zero but for fields of heads, which are written before they are read. */
static struct flat_l7 *child_take(struct flat_l7_node *node)
{
	struct flat_l7 *l7 = TAILQ_FIRST(&node->spare);

	if (!l7)
		return calloc(1, sizeof(*l7));
	TAILQ_REMOVE(&node->spare, l7, child_link);
	node->n_spare--;
	/* What follows was left as new by the end of its exchange. */
	memset(l7, 0, offsetof(struct flat_l7, in));
	return l7;
}

static void child_give(struct flat_l7_node *node, struct flat_l7 *l7)
{
	if (node->n_spare == FLAT_L7_SPARE_MAX) {
		free(l7);
		return;
	}
	TAILQ_INSERT_HEAD(&node->spare, l7, child_link);
	node->n_spare++;
}

void flat_l7_mux_spare_fini(struct flat_l7_node *node)
{
	struct flat_l7 *l7;
	struct flat_l7 *next;

	for (l7 = TAILQ_FIRST(&node->spare); l7; l7 = next) {
		next = TAILQ_NEXT(l7, child_link);
		free(l7);
	}
}

static void child_free(struct flat_l7 *l7)
{
	struct flat_l7_mux *mux = l7->root->mux;

	/* A head that never got whole left its time. */
	if (l7->phase != FLAT_L7_CLOSING || l7->x.start_us)
		flat_l7_abandon(l7);
	flat_l7_forget(l7);
	TAILQ_REMOVE(&mux->children, l7, child_link);
	mux->n_children--;
	flat_l7_end_fini(&l7->end);
	child_give(l7->node, l7);
}

/* False: no memory. */
static bool child_new(struct flat_l7 *root)
{
	struct flat_l7_mux *mux = root->mux;
	struct flat_l7 *l7 = child_take(root->node);
	struct flat_http2_stream *s = l7 ? flat_http2_accept(mux->h2, l7) : NULL;

	if (!s) {
		if (l7)
			child_give(root->node, l7);
		return false;
	}
	l7->node = root->node;
	l7->conn = root->conn;
	l7->root = root;
	l7->pinned = root->pinned;
	l7->port = root->port;
	l7->protocol = root->protocol;
	memcpy(l7->principal, root->principal, sizeof(l7->principal));
	l7->principal_epoch = root->principal_epoch;
	l7->moved_us = root->node->now_us;
	l7->n_requests = (uint32_t)flat_http2_id(s) - 1;
	TAILQ_INIT(&l7->upstreams);
	flat_http1_begin(&l7->in, FLAT_HTTP1_REQUEST);
	flat_l7_end_stream(&l7->end, s, FLAT_SIDE_CLIENT);
	TAILQ_INSERT_TAIL(&mux->children, l7, child_link);
	mux->n_children++;
	root->n_requests++;
	flat_l7_heat(l7);
	return true;
}

bool flat_l7_is_preface(const struct flat_l7 *l7)
{
	const struct flat_l7_end *e = &l7->end;

	return l7 == l7->root && l7->n_requests == 0 &&
	       memcmp(e->in, FLAT_HTTP2_PREFACE, flat_min_size(e->len, FLAT_HTTP2_PREFACE_BYTES)) ==
		   0;
}

bool flat_l7_is_no_preface(const struct flat_l7 *l7, int n)
{
	if (l7 != l7->root || l7->n_requests > 0)
		return false;
	if (l7->end.tls && flat_tls_is_h2(l7->end.tls))
		return true;
	/* Ports of HTTP/2 take HTTP/1 too: only what is neither gets no answer. */
	return n < 0 && l7->in.fault == FLAT_HTTP1_START_LINE &&
	       (l7->protocol == FLAT_PROTOCOL_HTTP2 || l7->protocol == FLAT_PROTOCOL_GRPC);
}

bool flat_l7_mux_begin(struct flat_l7 *root)
{
	struct flat_l7_mux *mux = calloc(1, sizeof(*mux));

	if (!mux || flat_http2_open(&mux->h2, FLAT_HTTP2_SERVER, flat_l7_wake) != 0) {
		free(mux);
		return false;
	}
	TAILQ_INIT(&mux->children);
	TAILQ_INIT(&mux->hot);
	root->mux = mux;
	root->phase = FLAT_L7_STREAMS;
	root->x.start_us = 0;
	return true;
}

static void end_children(struct flat_l7 *root)
{
	struct flat_l7 *l7;
	struct flat_l7 *next;

	for (l7 = TAILQ_FIRST(&root->mux->children); l7; l7 = next) {
		next = TAILQ_NEXT(l7, child_link);
		child_free(l7);
	}
}

void flat_l7_mux_fini(struct flat_l7 *root)
{
	if (!root->mux)
		return;
	end_children(root);
	flat_http2_close(root->mux->h2);
	free(root->mux);
	root->mux = NULL;
}

/* --- moving --- */

static bool accept_streams(struct flat_l7 *root)
{
	while (flat_http2_waits(root->mux->h2)) {
		if (!child_new(root))
			return false;
	}
	return true;
}

/* Looks at the streams that move, or may. */
static bool pump_children(struct flat_l7 *root)
{
	struct flat_l7 *l7;
	struct flat_l7 *next;
	int64_t now = flat_now_us();
	int64_t hot_us = flat_l7_hot_us(root->node);
	bool moved = false;

	for (l7 = TAILQ_FIRST(&root->mux->hot); l7; l7 = next) {
		bool some = flat_l7_pump(l7);

		next = TAILQ_NEXT(l7, hot_link);
		moved |= some;
		if (l7->end.gone) {
			child_free(l7);
			moved = true;
		} else if (some) {
			l7->last_us = now;
		} else if (flat_l7_on_streams(l7) || now - l7->last_us > hot_us) {
			/* Streams are told of what happens; only a ring has to be looked at. */
			flat_l7_cool(l7);
		}
	}
	return moved;
}

/* False: the connection is at fault, or there is no memory. */
static bool feed(struct flat_l7 *root, int64_t now)
{
	struct flat_l7_end *e = &root->end;
	struct flat_l7_mux *mux = root->mux;

	while (e->at < e->len) {
		size_t n = flat_min_size(e->len - e->at, PIECE_BYTES);

		if (flat_http2_feed(mux->h2, e->in + e->at, n, now) != 0 || !accept_streams(root))
			return false;
		e->at += n;
		/* Those that came and went are nobody's work any more. */
		if (e->at < e->len)
			(void)pump_children(root);
	}
	e->at = e->len = 0;
	return true;
}

/* A head that does not get whole. */
static bool is_late(struct flat_l7 *root, int64_t now)
{
	struct flat_l7_mux *mux = root->mux;

	if (!flat_http2_in_head(mux->h2)) {
		mux->head_us = 0;
		return false;
	}
	if (mux->head_us == 0)
		mux->head_us = now;
	flat_l7_wake_at(root, mux->head_us + flat_l7_head_us(root));
	return now - mux->head_us >= flat_l7_head_us(root);
}

void flat_l7_mux_break_off(struct flat_l7 *root)
{
	end_children(root);
	root->phase = FLAT_L7_CLOSING;
	flat_l7_end_abort(&root->end);
}

static void tell_flood(const struct flat_l7 *root)
{
	if (flat_http2_flooded(root->mux->h2) && flat_l7_may_tell(root->node))
		flat_info("closed %s to %s: a flood of HTTP/2 frames", root->conn->client_name,
			  root->conn->service);
}

/* The client's bytes. False: it is over with the connection. */
static bool take_in(struct flat_l7 *root, bool *moved)
{
	struct flat_l7_end *e = &root->end;
	int64_t now = flat_now_us();

	*moved |= flat_l7_end_read(e, QUANTUM_BYTES) > 0;
	if (e->reset || e->deaf || e->gone)
		return false;
	if (e->at < e->len && !feed(root, now)) {
		int err;

		/* What it has to say of that, if anything. */
		(void)flat_l7_drain_h2(root->mux->h2, e, &err);
		tell_flood(root);
		return false;
	}
	return !is_late(root, now);
}

/*
 * A client of HTTP/2 that says no more is gone: it could neither open a window nor take a request back. What of its requests is not
 * answered is left, so that a server need not say something first that nobody hears.
 */
static void leave(struct flat_l7 *root)
{
	int err;

	end_children(root);
	(void)flat_l7_carriers_write(root);
	(void)flat_l7_drain_h2(root->mux->h2, &root->end, &err);
}

bool flat_l7_mux_pump(struct flat_l7 *root)
{
	struct flat_l7_end *e = &root->end;
	struct flat_l7_mux *mux = root->mux;
	bool moved = false;
	int err = 0;

	if (!take_in(root, &moved)) {
		flat_l7_mux_break_off(root);
		return true;
	}
	moved |= flat_l7_carriers_read(root);
	moved |= pump_children(root);
	moved |= flat_l7_carriers_write(root);
	moved |= flat_l7_drain_h2(mux->h2, e, &err);
	if (err != 0) {
		flat_l7_mux_break_off(root);
		return true;
	}
	bool retiring = root->node->offload->retired && !mux->retiring;
	if (retiring || (mux->n_children == 0 && flat_l7_is_idle(root))) {
		mux->retiring |= retiring;
		flat_http2_shutdown(mux->h2);
		moved = true;
	}
	if (e->eof && mux->n_children > 0) {
		leave(root);
		moved = true;
	}
	if (flat_http2_over(mux->h2) ||
	    (e->eof && mux->n_children == 0 && !flat_http2_streams(mux->h2))) {
		tell_flood(root);
		end_children(root);
		flat_l7_close_client(root);
		moved = true;
	}
	return moved;
}
