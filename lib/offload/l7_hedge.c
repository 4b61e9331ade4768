/*
 * Hedging, as Envoy's hedge_on_per_try_timeout: an attempt whose time is over is not given up. It stands aside, and another one is
 * made; the first answer that is none to try again after is the client's, and the others end. Invariants:
 *   H1. The client was sent nothing while one stands aside: whoever answers first is the latest attempt from then on.
 *   H2. All of the request is in the client's buffer, and stays there; those aside have sent it.
 *   H3. There is a latest attempt always, on its way or about to be made: the last one that goes on is it.
 *   H4. One aside is not tried again, since the next one was made in its place already.
 * Source: Envoy's source/common/router/router.cc, onSoftPerTryTimeout() and what follows from `retried()`.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "codec/grpc.h"
#include "offload/l7_filter.h"
#include "offload/l7_observe.h"

/* Bytes taken from one server in one turn (rule 11). */
#define QUANTUM_BYTES ((size_t)64 * 1024)

enum look {
	LOOK_WAITS,
	LOOK_FAILED,	/* no answer will come */
	LOOK_RETRIABLE, /* one came, in whose place another attempt was made */
	LOOK_ANSWERED,
};

const struct flat_hedge_patch *flat_l7_hedge_of(const struct flat_l7 *l7,
						const struct flat_workload *client,
						const struct flat_virtual_service *virtual)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_hedge_place place = {
	    .host = x->request.host,
	    .virtual = virtual,
	    .service = x->service,
	    .route = x->route ? x->route->name : NULL,
	};

	/* Without a time for each attempt none is over. */
	if (!x->route || !x->route->retries || !x->route->retries->per_try_ms ||
	    !flat_l7_filter_client(l7, client, &place.whose))
		return NULL;
	return flat_mesh_hedge(x->mesh, &place);
}

/* --- the latest, and those aside --- */

/* One of them is the latest, and that one is aside. */
static void swap(struct flat_l7 *l7, struct flat_l7_aside *a)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_observed *o = x->observed;
	struct flat_l7_aside was = {.t = x->latest, .at = l7->end.at};

	x->latest = a->t;
	l7->end.at = a->at;
	a->t = was.t;
	a->at = was.at;
	if (!o)
		return;
	was.server = o->server;
	was.server_workload = o->server_workload;
	was.attempt_us = o->attempt_us;
	o->server = a->server;
	o->server_workload = a->server_workload;
	o->attempt_us = a->attempt_us;
	a->server = was.server;
	a->server_workload = was.server_workload;
	a->attempt_us = was.attempt_us;
}

static void unlist(struct flat_l7 *l7, struct flat_l7_aside *a)
{
	SLIST_REMOVE(&l7->x.asides, a, flat_l7_aside, link);
	l7->x.n_asides--;
	free(a);
}

/* Its server is told that nobody waits any more. */
static void give_up_latest(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	flat_l7_target_leave(l7);
	flat_l7_retry_end(l7);
}

static void give_up(struct flat_l7 *l7, struct flat_l7_aside *a, enum look how, unsigned status)
{
	swap(l7, a);
	if (how == LOOK_FAILED)
		flat_l7_outcome(l7, FLAT_OUTCOME_FAILED, 0);
	else if (how == LOOK_RETRIABLE)
		flat_l7_outcome(l7, FLAT_OUTCOME_STATUS, status);
	give_up_latest(l7);
	swap(l7, a);
	unlist(l7, a);
}

/* In the place of the latest one, which has ended. */
static void take(struct flat_l7 *l7, struct flat_l7_aside *a)
{
	swap(l7, a);
	unlist(l7, a);
	l7->phase = FLAT_L7_SERVE;
}

void flat_l7_asides_end(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	while (!SLIST_EMPTY(&x->asides))
		give_up(l7, SLIST_FIRST(&x->asides), LOOK_WAITS, 0);
}

void flat_l7_latest_answers(struct flat_l7 *l7)
{
	l7->node->hedges_n[FLAT_L7_HEDGE_LATEST] += l7->x.n_asides > 0;
	flat_l7_asides_end(l7);
}

bool flat_l7_aside_next(struct flat_l7 *l7)
{
	struct flat_l7_aside *a = SLIST_FIRST(&l7->x.asides);

	if (!a)
		return false;
	flat_l7_unwait(&l7->x.waiter);
	give_up_latest(l7);
	take(l7, a);
	return true;
}

/* --- one more --- */

static bool may(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;

	/* An interim response has begun the answer. */
	return x->up_done && x->interim == 0 && x->n_asides < FLAT_L7_ASIDES_MAX &&
	       flat_l7_has_tries(l7);
}

static void stand_aside(struct flat_l7 *l7, struct flat_l7_aside *a)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_l7_observed *o = x->observed;

	*a = (struct flat_l7_aside){.t = x->latest, .at = l7->end.at};
	a->t.hedged = true;
	if (o) {
		a->server = o->server;
		a->server_workload = o->server_workload;
		a->attempt_us = o->attempt_us;
	}
	SLIST_INSERT_HEAD(&x->asides, a, link);
	x->n_asides++;
	x->whole = true;
	x->upstream = NULL;
	x->cluster = NULL;
	x->host = NULL;
	x->admit = NULL;
	x->connecting = false;
	x->try_status = 0;
}

void flat_l7_hedge(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_cluster *retrying = x->retrying;
	struct flat_l7_aside *a = may(l7) ? malloc(sizeof(*a)) : NULL;

	x->late = true;
	x->try_us = 0;
	/* Each that is one more is counted as long as it goes on. */
	x->retrying = NULL;
	if (!a || !flat_l7_retry_begin(l7)) {
		x->retrying = retrying;
		l7->node->hedges_n[FLAT_L7_HEDGE_REFUSED]++;
		free(a);
		return;
	}
	stand_aside(l7, a);
	a->t.retrying = retrying;
	l7->node->hedges_n[FLAT_L7_HEDGE_MADE]++;
	flat_l7_again(l7, false);
}

/* --- who answers --- */

static enum look look_at(struct flat_l7 *l7, struct flat_l7_aside *a, bool *moved)
{
	struct flat_l7_upstream *up = a->t.upstream;
	struct flat_l7_end *e = up ? &up->end : NULL;
	const struct flat_http_head *h;
	int grpc = -1;
	int n;

	if (!up || flat_l7_end_buffers(e) != 0)
		return LOOK_FAILED;
	*moved |= flat_l7_end_flush(e) > 0;
	*moved |= flat_l7_end_read(e, QUANTUM_BYTES) > 0;
	if (!up->open)
		return LOOK_WAITS;
	flat_l7_connecting(&a->t, false);
	n = flat_l7_read_answer(up);
	if (n < 0 || (n == 0 && (e->eof || e->reset)))
		return LOOK_FAILED;
	if (n == 0)
		return LOOK_WAITS;
	h = &up->in.head;
	if (l7->x.grpc)
		grpc = flat_grpc_status_read(
		    flat_head_field(h, e->in + e->at, flat_span_of("grpc-status")));
	return h->status >= 200 && flat_l7_is_retriable(l7, h->status, grpc) ? LOOK_RETRIABLE
									     : LOOK_ANSWERED;
}

static void answer(struct flat_l7 *l7, struct flat_l7_aside *a)
{
	struct flat_l7_exchange *x = &l7->x;

	l7->node->hedges_n[FLAT_L7_HEDGE_EARLIER]++;
	flat_l7_unwait(&x->waiter);
	give_up_latest(l7);
	take(l7, a);
	flat_l7_asides_end(l7);
}

bool flat_l7_asides_look(struct flat_l7 *l7)
{
	struct flat_l7_aside *a;
	struct flat_l7_aside *next;
	bool moved = false;

	for (a = SLIST_FIRST(&l7->x.asides); a; a = next) {
		enum look how = look_at(l7, a, &moved);

		next = SLIST_NEXT(a, link);
		if (how == LOOK_ANSWERED) {
			answer(l7, a);
			return true;
		}
		if (how == LOOK_WAITS)
			continue;
		give_up(l7, a, how, a->t.upstream ? a->t.upstream->in.head.status : 0);
		moved = true;
	}
	return moved;
}

void flat_l7_asides_rest(struct flat_l7 *l7)
{
	struct flat_l7_aside *a;

	SLIST_FOREACH(a, &l7->x.asides, link)
	{
		if (a->t.upstream)
			flat_l7_end_rest(&a->t.upstream->end);
	}
}

bool flat_l7_on_streams(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_l7_aside *a;

	if (x->upstream && !x->upstream->is_stream)
		return false;
	SLIST_FOREACH(a, &x->asides, link)
	{
		if (a->t.upstream && !a->t.upstream->is_stream)
			return false;
	}
	return true;
}

/* --- told --- */

void flat_l7_hedge_note(struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_limit_for *by = x->hedge ? &x->hedge->filter.by : NULL;

	if (by)
		flat_strbuf_printf(&l7->node->notes,
				   "  hedged after %u ms, up to %u more, by EnvoyFilter %s/%s "
				   "(%s:%u)\n",
				   x->route->retries->per_try_ms, x->route->retries->attempts,
				   by->namespace, by->name, by->where.file, by->where.line);
}

void flat_l7_hedge_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	const uint64_t *n = node->hedges_n;

	flat_strbuf_printf(out,
			   "# HELP flat_hedges_total Attempts of requests made beside others whose "
			   "time was over, or refused for too many.\n"
			   "# TYPE flat_hedges_total counter\n"
			   "flat_hedges_total{result=\"made\"} %" PRIu64 "\n"
			   "flat_hedges_total{result=\"refused\"} %" PRIu64 "\n"
			   "# HELP flat_hedged_answers_total Which of several attempts answered.\n"
			   "# TYPE flat_hedged_answers_total counter\n"
			   "flat_hedged_answers_total{by=\"earlier\"} %" PRIu64 "\n"
			   "flat_hedged_answers_total{by=\"latest\"} %" PRIu64 "\n",
			   n[FLAT_L7_HEDGE_MADE], n[FLAT_L7_HEDGE_REFUSED],
			   n[FLAT_L7_HEDGE_EARLIER], n[FLAT_L7_HEDGE_LATEST]);
}
