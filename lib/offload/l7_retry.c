/* What becomes of an attempt that failed: another one, if its route has it, or an answer of ours. */
#include <string.h>

#include "codec/grpc.h"
#include "offload/l7_engine.h"

static unsigned retry_on(const struct flat_l7_exchange *x, uint32_t *max)
{
	const struct flat_http_retries *r = x->route ? x->route->retries : NULL;

	*max = r ? r->attempts : FLAT_L7_RETRIES;
	return r ? r->on : FLAT_RETRY_DEFAULT;
}

bool flat_l7_has_tries(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;
	uint32_t max;

	(void)retry_on(x, &max);
	return !l7->shadow && x->record.attempt < max && x->replayable && !x->head_out &&
	       !x->hedged;
}

void flat_l7_again(struct flat_l7 *l7, bool at_once)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_retries *r = x->route ? x->route->retries : NULL;
	uint32_t shift = x->record.attempt < 4 ? x->record.attempt : 4;
	uint64_t base = r && r->backoff_ms ? r->backoff_ms * 1000ULL : FLAT_L7_BACKOFF_US;
	uint64_t pause = shift < 4 ? base << shift : base * 10;

	x->record.attempt++;
	x->grpc_status = -1;
	x->stay = 0;
	if (x->grpc)
		flat_l7_messages_again(x);
	l7->end.at = x->head_len;
	flat_http1_body_begin(&x->up, (enum flat_body_kind)l7->in.head.body, l7->in.head.length);
	x->up_done = x->up.over;
	x->up_bytes = 0;
	x->interim = 0;
	x->late = false;
	/* That of the attempt before. */
	x->try_us = 0;
	if (at_once) {
		flat_l7_try(l7);
		return;
	}
	l7->phase = FLAT_L7_BACKOFF;
	x->try_us = flat_now_us() +
		    flat_l7_random(l7->node, (uint32_t)(pause < UINT32_MAX ? pause : UINT32_MAX));
	flat_l7_wake_at(l7, x->try_us);
}

/* Makes another attempt for one of the reasons in `why`, if the route has it. */
static bool retry(struct flat_l7 *l7, unsigned why)
{
	struct flat_l7_exchange *x = &l7->x;
	uint32_t max;

	if (!(retry_on(x, &max) & why) || !flat_l7_has_tries(l7))
		return false;
	if (!flat_l7_retry_begin(l7))
		return false;
	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	flat_l7_target_leave(l7);
	/* What never reached a server hurts none: at once. */
	flat_l7_again(l7, why & FLAT_RETRY_UNSENT);
	return true;
}

/* Likewise; else another one may be on its way. */
static bool goes_on(struct flat_l7 *l7, unsigned why)
{
	return retry(l7, why) || flat_l7_aside_next(l7);
}

void flat_l7_connect_failed(struct flat_l7 *l7)
{
	flat_l7_outcome(l7, FLAT_OUTCOME_FAILED, 0);
	if (!goes_on(l7,
		     FLAT_RETRY_CONNECT | FLAT_RETRY_5XX | FLAT_RETRY_GATEWAY | FLAT_RETRY_RESET))
		flat_l7_reply_status(l7, 503, FLAT_VERDICT_CONNECT,
				     "upstream connect error or disconnect/reset before headers. "
				     "reset reason: connection failure");
}

/* RFC 9110, 9.2.2. */
static bool idempotent(struct flat_span m)
{
	static const char *const names[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(names); i++) {
		if (flat_span_equal(m, flat_span_of(names[i]), false))
			return true;
	}
	return false;
}

void flat_l7_upstream_reset(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_upstream *up = x->upstream;
	uint64_t sent = up->end.bytes_out - x->out_before + (up->end.out_len - up->end.out_at);
	unsigned why = FLAT_RETRY_RESET | FLAT_RETRY_5XX | FLAT_RETRY_GATEWAY;

	/* Who was only found to speak no HTTP/2 has failed nobody. */
	if (!(up->is_stream && up->unsent && x->http1))
		flat_l7_outcome(l7, FLAT_OUTCOME_FAILED, 0);
	/* Or it may have closed an idle connection while the request was on its way. */
	if (up->is_stream && (up->unsent || flat_http2_is_refused(up->end.stream)))
		why |= FLAT_RETRY_UNSENT | FLAT_RETRY_REFUSED;
	if ((!up->end.is_tcp && !up->is_stream && flat_l7_end_untaken(&up->end) >= sent) ||
	    (up->used && up->end.len == 0 && idempotent(x->request.method)))
		why |= FLAT_RETRY_UNSENT;
	if (!goes_on(l7, why))
		flat_l7_reply_status(l7, 503, FLAT_VERDICT_RESET,
				     "upstream connect error or disconnect/reset before headers. "
				     "reset reason: connection termination");
}

void flat_l7_timed_out(struct flat_l7 *l7, bool whole)
{
	struct flat_l7_exchange *x = &l7->x;

	if (!x->late)
		flat_l7_outcome(l7, FLAT_OUTCOME_TIMEOUT, 0);
	if (x->head_out) {
		flat_l7_cut_client(l7, FLAT_VERDICT_TIMEOUT);
		return;
	}
	if (!whole && x->hedge) {
		flat_l7_hedge(l7);
		return;
	}
	if (!whole && retry(l7, FLAT_RETRY_RESET | FLAT_RETRY_5XX | FLAT_RETRY_GATEWAY))
		return;
	struct flat_l7_answer a = {.status = 504, .verdict = FLAT_VERDICT_TIMEOUT};

	a.body = "upstream request timeout";
	a.len = strlen(a.body);
	a.type = "text/plain";
	/* The caller's own time, or that of the route: the word for that is another. */
	if (whole && x->grpc_deadline)
		a.grpc = FLAT_GRPC_DEADLINE_EXCEEDED + 1;
	flat_l7_reply(l7, &a);
}

/* What an answer is a reason for. */
static unsigned why_of(const struct flat_l7 *l7, unsigned status, int grpc)
{
	const struct flat_http_retries *r = l7->x.route ? l7->x.route->retries : NULL;
	unsigned why = 0;

	if (status >= 500)
		why |= FLAT_RETRY_5XX;
	if (status >= 502 && status <= 504)
		why |= FLAT_RETRY_GATEWAY;
	if (status == 409)
		why |= FLAT_RETRY_4XX;
	if (grpc > 0)
		why |= flat_retry_of_grpc(grpc);
	for (uint32_t i = 0; r && i < r->n_statuses; i++) {
		if (r->statuses[i] == status)
			why |= FLAT_RETRY_STATUS;
	}
	return why;
}

bool flat_l7_is_retriable(const struct flat_l7 *l7, unsigned status, int grpc)
{
	uint32_t max;

	return (retry_on(&l7->x, &max) & why_of(l7, status, grpc)) != 0;
}

bool flat_l7_status_retried(struct flat_l7 *l7, unsigned status, int grpc)
{
	return flat_l7_is_retriable(l7, status, grpc) && goes_on(l7, why_of(l7, status, grpc));
}
