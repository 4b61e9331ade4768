/*
 * Connections and requests of which nothing moves. A connection has one deadline for all that is on its way: its streams are
 * looked at when that is over, and the earliest of what is left is the next one, so that what moves costs a store.
 */
#include "offload/gateway.h"
#include "offload/l7_filter.h"

/* Of clients from outside, where nothing is said, Envoy's numbers; others have no limit but for heads. */
#define IDLE_MS (3600U * 1000)
#define STALL_MS (300U * 1000)
#define HEAD_MS ((uint32_t)(FLAT_L7_HEAD_US / 1000))

enum late {
	LATE_NOT,
	LATE_MOVING,	/* nothing moves */
	LATE_RECEIVING, /* the request does not get whole */
};

static bool is_busy(const struct flat_l7 *l7)
{
	return l7->phase >= FLAT_L7_DELAY && l7->phase <= FLAT_L7_SERVE;
}

void flat_l7_idle_begin(struct flat_l7 *l7)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_session *client = l7->conn->client;
	struct flat_http_times *t = &l7->times;
	struct flat_filter_whose whose;

	*t = (struct flat_http_times){.head_ms = HEAD_MS};
	if (l7->conn->gate) {
		t->idle_ms = IDLE_MS;
		t->client_stall_ms = STALL_MS;
	}
	if (flat_mesh_n_times(mesh) > 0 &&
	    flat_l7_filter_client(l7, client ? client->workload : NULL, &whose)) {
		if (l7->conn->gate)
			whose.workload = flat_gateway_workload(l7->node->offload);
		flat_mesh_times(mesh, &whose, t);
	}
	/* Of a head there is a limit always. */
	if (t->head_ms == 0)
		t->head_ms = HEAD_MS;
	l7->watched = t->request_ms || t->stream_idle_ms || t->client_stall_ms;
	l7->rest_us = flat_now_us();
}

int64_t flat_l7_head_us(const struct flat_l7 *l7)
{
	const struct flat_http_times *t = &l7->root->times;

	/* It is a part of its request. */
	return (int64_t)(t->request_ms && t->request_ms < t->head_ms ? t->request_ms : t->head_ms) *
	       1000;
}

bool flat_l7_is_idle(struct flat_l7 *l7)
{
	int64_t limit_us = (int64_t)l7->times.idle_ms * 1000;
	int64_t now;

	if (l7 != l7->root)
		return false;
	if (l7->conn->gate && l7->n_requests == 0 && (!limit_us || limit_us > FLAT_L7_FIRST_US))
		limit_us = FLAT_L7_FIRST_US;
	if (!limit_us)
		return false;
	now = flat_now_us();
	if (l7->rest_requests != l7->n_requests) {
		l7->rest_requests = l7->n_requests;
		l7->rest_us = now;
	}
	if (now - l7->rest_us >= limit_us)
		return true;
	flat_l7_wake_at(l7, l7->rest_us + limit_us);
	return false;
}

/* Bytes for the client, which does not take them. */
static bool is_untaken(const struct flat_l7 *l7)
{
	return l7->end.out_at < l7->end.out_len;
}

/* All that it has sent of its request is on its way, and the rest is awaited. */
static bool is_awaited(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;

	return l7->phase == FLAT_L7_SERVE && !x->up_done && !x->tunnel && l7->end.at == l7->end.len;
}

static enum late check(int64_t due, int64_t now, enum late what, int64_t *next)
{
	if (now >= due)
		return what;
	if (*next == 0 || due < *next)
		*next = due;
	return LATE_NOT;
}

static int64_t shortest_us(const struct flat_http_times *t)
{
	uint32_t ms = t->request_ms;

	if (t->client_stall_ms && (!ms || t->client_stall_ms < ms))
		ms = t->client_stall_ms;
	return (int64_t)ms * 1000;
}

static enum late look_at(const struct flat_l7 *l7, int64_t now, int64_t *next)
{
	const struct flat_http_times *t = &l7->root->times;
	bool awaited = is_awaited(l7);
	/* After the response has begun a request may be a conversation. */
	bool stalls = is_untaken(l7) || (awaited && !l7->x.head_out);
	bool busy = is_busy(l7);
	enum late late = LATE_NOT;

	if (t->client_stall_ms && stalls)
		late = check(l7->moved_us + (int64_t)t->client_stall_ms * 1000, now, LATE_MOVING,
			     next);
	if (!late && t->stream_idle_ms && busy)
		late =
		    check(l7->moved_us + (int64_t)t->stream_idle_ms * 1000, now, LATE_MOVING, next);
	if (!late && t->request_ms && awaited)
		late = check(l7->x.start_us + (int64_t)t->request_ms * 1000, now, LATE_RECEIVING,
			     next);
	/* So that what begins to be late is seen in time. */
	if (!late && busy && *next == 0)
		*next = now + shortest_us(t);
	return late;
}

static void end_request(struct flat_l7 *l7, enum late late)
{
	const struct flat_l7_exchange *x = &l7->x;

	if (l7->mux) {
		flat_l7_mux_break_off(l7);
	} else if (!is_busy(l7) || (!x->head_out && flat_l7_end_buffers(&l7->end) != 0)) {
		/* The answer is made, and not taken. */
		flat_l7_abandon(l7);
		flat_l7_end_abort(&l7->end);
	} else if (x->head_out) {
		flat_l7_cut_client(l7, FLAT_VERDICT_IDLE);
	} else if (late == LATE_RECEIVING) {
		flat_l7_reply_status(l7, 408, FLAT_VERDICT_MALFORMED, "request timeout");
	} else {
		flat_l7_reply_status(l7, x->up_done ? 504 : 408, FLAT_VERDICT_IDLE,
				     "stream timeout");
	}
	flat_l7_heat(l7);
}

static bool look_at_streams(struct flat_l7 *root, int64_t now, int64_t *next)
{
	const struct flat_http_times *t = &root->times;
	uint32_t ms = t->client_stall_ms;
	struct flat_l7 *l7;
	bool ended = false;
	int64_t due;

	TAILQ_FOREACH(l7, &root->mux->children, child_link)
	{
		enum late late = look_at(l7, now, next);

		if (!late)
			continue;
		end_request(l7, late);
		ended = true;
	}
	/* Answers that were handed to the codec, and have no stream of ours any more. */
	due = ms && flat_http2_streams(root->mux->h2) > 0
		  ? flat_http2_flush_late(root->mux->h2, now, (int64_t)ms * 1000)
		  : 0;
	if (due && (*next == 0 || due < *next))
		*next = due;
	return ended;
}

bool flat_l7_idle_look(struct flat_l7 *l7)
{
	int64_t now = l7->node->now_us;
	int64_t next = 0;
	enum late late = look_at(l7, now, &next);
	bool ended = late != LATE_NOT;

	if (ended)
		end_request(l7, late);
	else if (l7->mux)
		ended = look_at_streams(l7, now, &next);
	l7->look_us = next;
	if (next)
		flat_l7_wake_at(l7, next);
	return ended;
}

static void note(struct flat_strbuf *out, const char *name, bool said, uint32_t ms)
{
	if (said && ms)
		flat_strbuf_printf(out, ", %s %u ms", name, ms);
	else if (said)
		flat_strbuf_printf(out, ", %s none", name);
}

void flat_l7_idle_note(struct flat_l7 *l7, const struct flat_workload *client)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	struct flat_strbuf *out = &l7->node->notes;
	const struct flat_times_patch *p;
	struct flat_filter_whose whose;
	uint32_t i = 0;

	if (!flat_l7_filter_client(l7, client, &whose))
		return;
	while ((p = flat_mesh_next_times(mesh, &whose, &i)) != NULL) {
		flat_strbuf_printf(out, "  times of its connections by EnvoyFilter %s/%s (%s:%u)",
				   p->filter.by.namespace, p->filter.by.name,
				   p->filter.by.where.file, p->filter.by.where.line);
		note(out, "a request of which nothing moves", p->has_stream_idle,
		     p->times.stream_idle_ms);
		note(out, "a request", p->has_request, p->times.request_ms);
		note(out, "its head", p->has_head, p->times.head_ms);
		note(out, "without requests", p->has_idle, p->times.idle_ms);
		flat_strbuf_puts(out, "\n");
	}
}
