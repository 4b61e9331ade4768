/*
 * Connections to servers that speak HTTP/2. One belongs to one client's connection, as every upstream does, and carries
 * the requests of that client that are on their way at the same time, each as a stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offload/l7_engine.h"

/* Bytes taken from one carrier in one turn (rule 11). */
#define QUANTUM_BYTES ((size_t)64 * 1024)
/* Where in a frame its type is, and that of the first one. */
#define TYPE_AT 3U
#define SETTINGS 4U

void flat_l7_wake(void *user)
{
	flat_l7_heat(user);
}

bool flat_l7_drain_h2(struct flat_http2 *h2, struct flat_l7_end *e, int *err)
{
	const uint8_t *bytes;
	bool moved = false;

	*err = 0;
	/* A frame is taken whole or not asked for. */
	while (flat_l7_end_room(e) >= FLAT_HTTP2_PIECE_MAX) {
		ssize_t n = flat_http2_drain(h2, &bytes);

		if (n < 0)
			*err = (int)n;
		if (n <= 0)
			break;
		flat_l7_end_put(e, bytes, (size_t)n);
		moved = true;
	}
	moved |= flat_l7_end_flush(e) > 0;
	return moved;
}

int flat_l7_carrier_init(struct flat_l7_upstream *up)
{
	int err = flat_http2_open(&up->h2, FLAT_HTTP2_CLIENT, flat_l7_wake);

	/* Some servers take no scheme but that of their connection. */
	if (err == 0 && up->conn->origin)
		flat_http2_secure(up->h2);
	return err;
}

bool flat_l7_carrier_usable(const struct flat_l7_upstream *carrier)
{
	const struct flat_l7_end *e = &carrier->end;

	return flat_http2_usable(carrier->h2) && flat_l7_guard_keep(carrier) && !e->gone &&
	       !e->eof && !e->reset && !e->deaf;
}

/* All of it zero but for a head's fields, which are written before they are read. */
static struct flat_l7_upstream *stream_take(struct flat_l7_node *node)
{
	struct flat_l7_upstream *up = TAILQ_FIRST(&node->spare_up);

	if (!up)
		return calloc(1, sizeof(*up));
	TAILQ_REMOVE(&node->spare_up, up, link);
	node->n_spare_up--;
	memset(up, 0, offsetof(struct flat_l7_upstream, in));
	return up;
}

static void stream_give(struct flat_l7_node *node, struct flat_l7_upstream *up)
{
	if (node->n_spare_up == FLAT_L7_SPARE_MAX) {
		free(up);
		return;
	}
	TAILQ_INSERT_HEAD(&node->spare_up, up, link);
	node->n_spare_up++;
}

void flat_l7_carrier_spare_fini(struct flat_l7_node *node)
{
	struct flat_l7_upstream *up;
	struct flat_l7_upstream *next;

	for (up = TAILQ_FIRST(&node->spare_up); up; up = next) {
		next = TAILQ_NEXT(up, link);
		free(up);
	}
}

struct flat_l7_upstream *flat_l7_carrier_stream(struct flat_l7_upstream *carrier,
						struct flat_l7 *l7)
{
	struct flat_l7_upstream *up = stream_take(l7->node);
	struct flat_http2_stream *s = up ? flat_http2_stream_open(carrier->h2, l7) : NULL;

	if (!s) {
		if (up)
			stream_give(l7->node, up);
		return NULL;
	}
	up->carrier = carrier;
	up->is_stream = true;
	up->user = l7;
	up->target = carrier->target;
	up->mesh = carrier->mesh;
	up->used = carrier->used;
	up->carried = carrier->end.bytes_out;
	/* What is written before the connection is there waits in the codec. */
	up->open = true;
	flat_http1_begin(&up->in, FLAT_HTTP1_RESPONSE);
	flat_l7_end_stream(&up->end, s, FLAT_SIDE_SERVER);
	TAILQ_INSERT_TAIL(&carrier->streams, up, link);
	return up;
}

static void leave_carrier(struct flat_l7_upstream *up)
{
	struct flat_l7_upstream *carrier = up->carrier;

	up->carrier = NULL;
	if (!carrier)
		return;
	TAILQ_REMOVE(&carrier->streams, up, link);
	if (TAILQ_EMPTY(&carrier->streams) && carrier->h2)
		flat_l7_guard_idle(carrier);
}

void flat_l7_carrier_stream_close(struct flat_l7_upstream *up, bool reset)
{
	struct flat_l7_node *node = up->user->node;

	if (up->carrier)
		up->carrier->used |= !reset;
	leave_carrier(up);
	flat_l7_upstream_leave(up);
	if (reset)
		flat_l7_end_abort(&up->end);
	flat_l7_end_fini(&up->end);
	stream_give(node, up);
}

void flat_l7_carrier_gone(struct flat_l7_upstream *carrier)
{
	struct flat_l7_end *e = &carrier->end;
	uint64_t untaken = e->is_tcp ? 0 : flat_l7_end_untaken(e);
	bool mute = carrier->open && !carrier->heard;
	struct flat_l7_upstream *up;
	struct flat_l7_upstream *next;

	/* Their users are woken. */
	flat_http2_close(carrier->h2);
	carrier->h2 = NULL;
	for (up = TAILQ_FIRST(&carrier->streams); up; up = next) {
		struct flat_l7 *l7 = up->user;

		/* The analyzer does not see that none stands in the list twice. */
		next = TAILQ_NEXT(up, link); /* NOLINT(clang-analyzer-unix.Malloc) */
		/* What an application's ring still holds, it never saw. */
		up->unsent = !e->is_tcp && untaken >= e->bytes_out - up->carried;
		/*
		 * Nor has a server taken it that took the preface for a request of HTTP/1; what it said of that is lost
		 * where it had more to read. The content of a call has waited (flat_l7_holds_content()).
		 */
		if (carrier->http1 || mute) {
			l7->x.http1 = true;
			if (carrier->http1)
				l7->root->http1 = carrier->target;
			up->unsent |= !flat_l7_wants_h2(l7);
		}
		up->carrier = NULL;
		if (!carrier->open)
			flat_l7_carrier_stream_close(up, false);
		flat_l7_heat(l7);
	}
	TAILQ_INIT(&carrier->streams);
}

/* False: the connection is at its end. */
static bool read_carrier(struct flat_l7_upstream *up, bool *moved)
{
	struct flat_l7_end *e = &up->end;
	struct flat_l7_upstream *stream;
	size_t n;

	if (flat_l7_end_buffers(e) != 0)
		return false;
	n = flat_l7_end_read(e, QUANTUM_BYTES);
	*moved |= n > 0;
	/* A server's first frame is SETTINGS (RFC 9113, 3.4). */
	if (n > 0 && !up->heard) {
		up->heard = true;
		/* Calls whose content has waited for it (flat_l7_holds_content()). */
		TAILQ_FOREACH(stream, &up->streams, link)
		{
			flat_l7_heat(stream->user);
		}
		up->http1 = n > TYPE_AT && e->in[e->at + TYPE_AT] != SETTINGS;
	}
	if (n > 0 && flat_http2_feed(up->h2, e->in + e->at, e->len - e->at, flat_now_us()) != 0)
		return false;
	e->at = e->len = 0;
	return !e->eof && !e->reset && !e->gone && !e->deaf;
}

bool flat_l7_carriers_read(struct flat_l7 *root)
{
	struct flat_l7_upstream *up;
	struct flat_l7_upstream *next;
	bool moved = false;

	for (up = TAILQ_FIRST(&root->upstreams); up; up = next) {
		next = TAILQ_NEXT(up, link);
		if (!up->h2 || !up->open || read_carrier(up, &moved))
			continue;
		flat_l7_upstream_close(up, true);
		moved = true;
	}
	return moved;
}

/* After a GOAWAY the last stream takes the connection with it. */
static bool is_over(const struct flat_l7_upstream *up, int64_t now)
{
	if (flat_http2_over(up->h2))
		return true;
	if (!TAILQ_EMPTY(&up->streams) || flat_http2_streams(up->h2) > 0)
		return false;
	return !flat_l7_carrier_usable(up) || flat_l7_guard_rested(up, now);
}

bool flat_l7_carriers_write(struct flat_l7 *root)
{
	struct flat_l7_upstream *up;
	struct flat_l7_upstream *next;
	int64_t now = TAILQ_EMPTY(&root->upstreams) ? 0 : flat_now_us();
	bool moved = false;

	for (up = TAILQ_FIRST(&root->upstreams); up; up = next) {
		int err = 0;

		next = TAILQ_NEXT(up, link);
		if (!up->h2 || !up->open)
			continue;
		if (flat_l7_end_buffers(&up->end) == 0)
			moved |= flat_l7_drain_h2(up->h2, &up->end, &err);
		else
			err = -ENOMEM;
		if (err == 0 && !is_over(up, now))
			continue;
		flat_l7_upstream_close(up, err != 0);
	}
	return moved;
}
