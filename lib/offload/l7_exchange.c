/* One request and its response, piece by piece: end to end back pressure, retries, time-outs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codec/grpc.h"
#include "offload/l7_admission.h"
#include "offload/l7_check.h"
#include "offload/l7_compress.h"
#include "offload/l7_observe.h"
#include "offload/l7_rate.h"

/* Bytes taken from one end in one turn (rule 11), and steps. */
#define QUANTUM_BYTES ((size_t)64 * 1024)
#define STEPS 64

/* --- begin and end --- */

static void clear(struct flat_l7_exchange *x)
{
	/* The trailers' fields are written before they are read. */
	size_t before = offsetof(struct flat_l7_exchange, trailers);
	size_t after = before + sizeof(x->trailers);

	memset(x, 0, before);
	memset((char *)x + after, 0, sizeof(*x) - after);
}

static void release(struct flat_l7 *l7)
{
	flat_l7_asides_end(l7);
	flat_l7_unwait(&l7->x.waiter);
	flat_l7_target_leave(l7);
	if (l7->x.admission)
		flat_l7_admitted_request(l7);
	if (l7->x.gzip)
		flat_l7_compress_end(l7);
	flat_l7_retry_end(l7);
	for (size_t i = 0; i < FLAT_L7_CHECKS; i++)
		flat_l7_check_free(l7->x.check[i]);
	if (l7->x.rates)
		flat_l7_rate_free(l7->x.rates);
	flat_jwt_put(l7->x.jwt);
	flat_l7_observed_free(l7->x.observed);
	free(l7->x.path);
	free(l7->x.passed);
	free(l7->x.seen);
	flat_mesh_put(l7->x.mesh);
	clear(&l7->x);
}

void flat_l7_close_client(struct flat_l7 *l7)
{
	l7->phase = FLAT_L7_CLOSING;
	l7->end.fin_due = true;
	l7->drained = 0;
	/* A stream has nothing to hang up. */
	if (l7 != l7->root)
		return;
	flat_l7_wake_at(l7, flat_now_us() + FLAT_L7_DRAIN_US);
}

void flat_l7_finish(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_upstream *up = x->upstream;
	bool close = x->close || !x->up_done || l7->shadow;

	flat_l7_count(l7);
	if (up) {
		const struct flat_http_head *h = &up->in.head;
		bool keep = x->up_done && h->keep_alive && flat_l7_guard_keep(up) &&
			    x->down.kind != FLAT_BODY_OPAQUE && up->end.at == up->end.len &&
			    up->end.out_at == up->end.out_len && !up->end.deaf;

		/* Bytes that nobody asked for are nobody's answer; a server that answered early may not want the rest. */
		if (keep)
			flat_l7_upstream_idle(up);
		else
			flat_l7_upstream_close(up, !x->up_done || up->end.at < up->end.len ||
						       up->end.out_at < up->end.out_len);
	}
	release(l7);
	flat_http1_begin(&l7->in, FLAT_HTTP1_REQUEST);
	l7->phase = FLAT_L7_HEAD;
	if (close || l7 != l7->root)
		flat_l7_close_client(l7);
}

void flat_l7_abandon(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	if (x->head_len > 0) {
		x->record.verdict = FLAT_VERDICT_GONE;
		flat_l7_count(l7);
	}
	release(l7);
	l7->phase = FLAT_L7_CLOSING;
}

void flat_l7_cut_client(struct flat_l7 *l7, enum flat_record_verdict verdict)
{
	struct flat_l7_exchange *x = &l7->x;
	char host[FLAT_ADDR_STRLEN];

	if (flat_l7_may_tell(l7->node))
		flat_info("response of %s to %s breaks off after %llu bytes: %s",
			  flat_addr_str(&x->target.addr, host), l7->conn->client_name,
			  (unsigned long long)x->down_bytes, flat_verdict_flags(verdict));
	x->record.verdict = (uint8_t)verdict;
	x->close = true;
	/* What there is of the answer comes before its end, however much of it came at once: a head, at least. */
	(void)flat_l7_end_flush(&l7->end);
	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	flat_l7_finish(l7);
	/* A stream's reset comes behind what its windows hold back. Who lets nothing come has had his time. */
	l7->end.cut = l7->end.stream && verdict != FLAT_VERDICT_IDLE;
	if (l7->end.cut)
		(void)flat_l7_end_flush(&l7->end);
	else
		flat_l7_end_abort(&l7->end);
}

/* --- attempts --- */

/* Whether the exchange's time, or the attempt's, is over; else asks to be woken. */
static bool check_time(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	int64_t next = x->deadline_us;
	int64_t now;

	if (x->try_us && (!next || x->try_us < next))
		next = x->try_us;
	if (!next)
		return false;
	now = flat_now_us();
	if (now < next) {
		flat_l7_wake_at(l7, next);
		return false;
	}
	flat_l7_timed_out(l7, x->deadline_us && now >= x->deadline_us);
	return true;
}

/* Whether the attempt goes on; else it waits for its turn, or is answered. */
static bool passes(struct flat_l7 *l7)
{
	static const char text[] = "upstream connect error or disconnect/reset before headers. "
				   "reset reason: overflow";
	struct flat_l7_answer answer = {
	    .status = 503,
	    .verdict = FLAT_VERDICT_OVERFLOW,
	    .body = text,
	    .len = sizeof(text) - 1,
	    .type = "text/plain",
	    .fields = "x-envoy-overloaded: true\r\n",
	};

	switch (flat_l7_may_pass(l7)) {
	case FLAT_L7_WAIT:
		l7->phase = FLAT_L7_PENDING;
		(void)check_time(l7);
		return false;
	case FLAT_L7_OVERFLOW:
		if (!flat_l7_aside_next(l7))
			flat_l7_reply(l7, &answer);
		return false;
	default:
		return true;
	}
}

/* From now on, if its route has one. Of a hedged request it counts, as in Envoy, once all of that is sent. */
static void begin_try_time(struct flat_l7_exchange *x)
{
	x->try_us = 0;
	if (x->route && x->route->retries && x->route->retries->per_try_ms &&
	    (!x->hedge || x->up_done))
		x->try_us = flat_now_us() + (int64_t)x->route->retries->per_try_ms * 1000;
}

/* What a server's policies answer is its answer; where there is no server, or that may be tried again, others may have a better one. */
static bool waits_for_others(struct flat_l7 *l7, const struct flat_l7_answer *answer)
{
	return (answer->verdict == FLAT_VERDICT_NO_HOST ||
		flat_l7_is_retriable(l7, answer->status, -1)) &&
	       flat_l7_aside_next(l7);
}

void flat_l7_try(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_node *node = l7->node;
	struct flat_l7_answer answer;
	struct flat_l7_upstream *up;
	enum flat_l7_verb verb;
	size_t len = 0;
	int err = 0;

	l7->phase = FLAT_L7_SERVE;
	verb = flat_l7_attempt(l7, &answer, &len);
	if (verb == FLAT_L7_ANSWER) {
		if (!waits_for_others(l7, &answer))
			flat_l7_reply(l7, &answer);
		return;
	}
	if (verb == FLAT_L7_LATER) {
		l7->phase = FLAT_L7_BACKOFF;
		x->try_us = flat_now_us() + FLAT_L7_AGAIN_US;
		flat_l7_wake_at(l7, x->try_us);
		return;
	}
	if (!passes(l7))
		return;
	flat_l7_target_enter(l7);
	up = flat_l7_upstream_get(l7, &err);
	if (up && flat_l7_end_buffers(&up->end) != 0) {
		flat_l7_upstream_close(up, false);
		up = NULL;
	}
	if (!up) {
		flat_l7_connect_failed(l7);
		return;
	}
	x->upstream = up;
	flat_l7_connecting(&x->latest, !up->open);
	x->out_before = up->end.bytes_out;
	up->end.at = up->end.len = 0;
	/* Queued where it is not open yet. */
	if (!x->sent || !flat_l7_end_head(&up->end, x->sent, x->sent_text, len)) {
		if (flat_l7_head_text(l7, &len) != 0) {
			flat_l7_reply_status(l7, 431, FLAT_VERDICT_MALFORMED, NULL);
			return;
		}
		flat_l7_end_put(&up->end, node->head, len);
	}
	if (x->up_done)
		flat_l7_mirror(l7, true);
	begin_try_time(x);
}

/* --- the request goes --- */

static bool send_request(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &l7->end;
	bool moved = false;
	int ret = 1;

	if (flat_l7_holds_content(l7))
		return false;
	for (int i = 0; i < STEPS && ret > 0 && !x->up.over; i++) {
		ret = flat_l7_move_piece(l7, e, &x->upstream->end, &x->up, &x->up_bytes,
					 x->grpc ? &x->frames[0] : NULL);
		moved |= ret > 0;
	}
	x->up_done = x->up.over;
	if (x->up_done)
		flat_l7_mirror(l7, x->replayable);
	if (x->up_done && x->hedge && !x->head_out)
		begin_try_time(x);
	if (ret < 0) {
		if (x->head_out)
			flat_l7_cut_client(l7, FLAT_VERDICT_MALFORMED);
		else
			flat_l7_reply_status(l7, 400, FLAT_VERDICT_MALFORMED, NULL);
		return true;
	}
	/* A request that outgrows the buffer is not sent twice. */
	if (!x->whole && (flat_l7_end_is_full(e) || x->head_out))
		x->replayable = false;
	if (!x->replayable && !x->up_done)
		flat_l7_end_pack(e, x->head_len);
	if (x->tunnel && e->eof && e->at == e->len) {
		/* Half closed: the server may still speak. */
		x->upstream->end.fin_due = true;
		x->up_done = true;
		return true;
	}
	if (!x->up_done && e->eof && !moved &&
	    flat_l7_end_room(&x->upstream->end) >= FLAT_L7_ROOM_BYTES) {
		/* It ends in the middle: nobody waits for an answer. */
		flat_l7_abandon(l7);
		flat_l7_end_abort(e);
		return true;
	}
	return moved;
}

/* --- the response comes --- */

static void bad_response(struct flat_l7 *l7, const char *what)
{
	char host[FLAT_ADDR_STRLEN];

	if (flat_l7_may_tell(l7->node))
		flat_info("malformed response of %s (%s): %s",
			  flat_addr_str(&l7->x.target.addr, host), l7->conn->service, what);
	flat_l7_outcome(l7, FLAT_OUTCOME_FAILED, 0);
	if (flat_l7_aside_next(l7))
		return;
	flat_l7_reply_status(l7, 502, FLAT_VERDICT_PROTOCOL,
			     "upstream connect error or disconnect/reset before headers. "
			     "reset reason: protocol error");
}

/* 101: what the client asked for, and what follows is bytes. Its time is as long as the two like. */
static bool take_switch(struct flat_l7 *l7, struct flat_l7_upstream *up, size_t n)
{
	struct flat_l7_exchange *x = &l7->x;

	flat_l7_outcome(l7, FLAT_OUTCOME_STATUS, 101);
	if (!flat_l7_response_put(l7, up, n)) {
		bad_response(l7, "a head too large with what the route adds");
		return true;
	}
	x->record.status = 101;
	x->tunnel = true;
	x->head_out = true;
	x->close = true;
	x->up_done = false;
	x->replayable = false;
	x->deadline_us = x->try_us = 0;
	flat_http1_body_begin(&x->up, FLAT_BODY_OPAQUE, 0);
	flat_http1_body_begin(&x->down, FLAT_BODY_OPAQUE, 0);
	return true;
}

static bool take_interim(struct flat_l7 *l7, struct flat_l7_upstream *up, size_t n)
{
	const struct flat_http_head *h = &up->in.head;

	/* As in Envoy: whoever is heard of first will answer. */
	flat_l7_latest_answers(l7);
	if (h->status == 101 && l7->x.websocket && flat_l7_is_websocket(h, up->end.in + up->end.at))
		return take_switch(l7, up, n);
	/* We never asked to switch to anything else: whatever follows a 101 is no HTTP. */
	if (h->status == 101 || ++l7->x.interim > FLAT_HTTP_INTERIM_MAX) {
		bad_response(l7, "status 101, or too many interim responses");
		return true;
	}
	if (l7->in.head.minor == 0)
		up->end.at += n; /* RFC 9110, 15.2: HTTP/1.0 has none */
	else if (!flat_l7_response_put(l7, up, n))
		return false;
	flat_l7_end_pack(&up->end, 0);
	flat_http1_begin(&up->in, FLAT_HTTP1_RESPONSE);
	return true;
}

static void take_grpc_head(struct flat_l7_exchange *x, const struct flat_http_head *h,
			   const void *text)
{
	/* A call that ends with its head: trailers that come later cannot be taken back. */
	x->grpc_status =
	    (int16_t)flat_grpc_status_read(flat_head_field(h, text, flat_span_of("grpc-status")));
	/* Words of somebody in between are no messages. */
	x->frames[1].bad =
	    !flat_http_is_grpc(flat_head_field(h, text, flat_span_of("content-type")));
}

static bool take_head(struct flat_l7 *l7, struct flat_l7_upstream *up)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_head *h = &up->in.head;
	int n = flat_l7_read_answer(up);

	if (n < 0) {
		bad_response(l7, flat_http1_fault_text((enum flat_http1_fault)up->in.fault));
		return true;
	}
	if (n == 0) {
		if (!up->end.eof && !up->end.reset)
			return false;
		if (up->end.stream && !up->unsent && flat_http2_is_malformed(up->end.stream))
			bad_response(l7, "HTTP/2 that is none");
		else
			flat_l7_upstream_reset(l7);
		return true;
	}
	if (flat_l7_end_room(&l7->end) < FLAT_L7_ROOM_BYTES + (size_t)n)
		return false;
	if (h->status < 200)
		return take_interim(l7, up, (size_t)n);
	flat_l7_outcome(l7, FLAT_OUTCOME_STATUS, h->status);
	if (x->grpc)
		take_grpc_head(x, h, up->end.in + up->end.at);
	if (flat_l7_status_retried(l7, h->status, x->grpc ? x->grpc_status : -1))
		return true;
	flat_l7_latest_answers(l7);
	flat_http1_body_begin(
	    &x->down, flat_http1_response_body(h, (enum flat_http_method)l7->in.head.method_id),
	    h->length);
	/* RFC 9112, 6.1: none of HTTP/1.0 knows chunks. */
	l7->end.bare = l7->in.head.minor == 0 && h->body == FLAT_BODY_CHUNKED;
	/* Its end is the connection's; or the client may go on sending what nobody reads. */
	if (x->down.kind == FLAT_BODY_OPAQUE || !x->up_done || l7->end.bare)
		x->close = true;
	x->record.status = h->status;
	if (l7->node->compresses)
		flat_l7_compress_begin(l7, up);
	if (!flat_l7_response_put(l7, up, (size_t)n)) {
		bad_response(l7, "a head too large with what the route adds");
		return true;
	}
	x->head_out = true;
	/* As in Envoy: an answer that has begun may take the request's whole time. */
	x->try_us = 0;
	return true;
}

static bool take_body(struct flat_l7 *l7, struct flat_l7_upstream *up)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &up->end;
	bool moved = false;
	bool ended;
	int ret = 1;

	for (int i = 0; i < STEPS && ret > 0 && !x->down.over; i++) {
		const uint8_t *piece = e->in + e->at;

		ret = x->gzip ? flat_l7_compress_piece(l7, up)
			      : flat_l7_move_piece(l7, e, &l7->end, &x->down, &x->down_bytes,
						   x->grpc ? &x->frames[1] : NULL);
		moved |= ret > 0;
		if (x->grpc && x->down.over && x->down.kind == FLAT_BODY_CHUNKED)
			x->grpc_status = (int16_t)flat_grpc_status_read(
			    flat_head_field(&x->trailers.head, piece, flat_span_of("grpc-status")));
	}
	if (e->at == e->len || flat_l7_end_is_full(e))
		flat_l7_end_pack(e, 0);
	ended = e->eof || e->reset;
	if (ret == 0 && ended && !x->down.over &&
	    flat_l7_end_room(&l7->end) >= FLAT_L7_ROOM_BYTES) {
		if (x->down.kind == FLAT_BODY_OPAQUE && e->eof && !e->reset)
			x->down.over = true;
		else
			ret = -ECONNRESET;
	}
	if (ret < 0) {
		flat_l7_cut_client(l7,
				   ret == -EBADMSG ? FLAT_VERDICT_PROTOCOL : FLAT_VERDICT_RESET);
		return true;
	}
	if (x->down.over) {
		/* The server has ended a tunnel: what the client says now is for nobody, and no error. */
		x->up_done |= x->tunnel;
		flat_l7_finish(l7);
		return true;
	}
	return moved;
}

static bool serve(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_upstream *up = x->upstream;
	bool moved = false;

	if (!up) {
		flat_l7_connect_failed(l7);
		return true;
	}
	if (check_time(l7))
		return true;
	if (flat_l7_end_buffers(&up->end) != 0) {
		flat_l7_cut_client(l7, FLAT_VERDICT_RESET);
		return true;
	}
	if (!x->up_done && !up->end.deaf && send_request(l7)) {
		moved = true;
		if (l7->phase != FLAT_L7_SERVE || x->upstream != up)
			return true;
	}
	moved |= flat_l7_end_flush(&up->end) > 0;
	moved |= flat_l7_end_read(&up->end, QUANTUM_BYTES) > 0;
	if (!up->open)
		return moved;
	flat_l7_connecting(&x->latest, false);
	return (x->head_out ? take_body(l7, up) : take_head(l7, up)) || moved;
}

/* --- the next request --- */

/* The route's, and that of a gRPC caller, who waits since the head came. */
static void set_deadline(struct flat_l7 *l7, int64_t from_us)
{
	struct flat_l7_exchange *x = &l7->x;
	int64_t us = 0;

	if (x->route && x->route->timeout_ms)
		x->deadline_us = from_us + (int64_t)x->route->timeout_ms * 1000;
	if (l7->shadow && !x->deadline_us)
		x->deadline_us = from_us + FLAT_L7_SHADOW_US;
	if (x->grpc)
		us = flat_grpc_timeout_us(
		    flat_http_field_get(&x->request, flat_span_of("grpc-timeout"), 0));
	if (us && (!x->deadline_us || x->start_us + us < x->deadline_us)) {
		x->deadline_us = x->start_us + us;
		x->grpc_deadline = true;
	}
	x->record.deadline_us = x->deadline_us;
}

static void begin(struct flat_l7 *l7, size_t head_len)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &l7->end;
	const struct flat_http_head *h = &l7->in.head;
	struct flat_l7_answer answer;
	uint32_t delay_ms = 0;
	enum flat_l7_verb verb;

	if (!x->start_us)
		x->start_us = flat_now_us();
	flat_http1_record(&l7->in, &x->record);
	x->record.codec = l7 == l7->root ? FLAT_CODEC_HTTP1 : FLAT_CODEC_HTTP2;
	x->record.conn = l7->conn->id;
	x->record.stream = ++l7->n_requests;
	x->record.status = 0;
	x->head_len = head_len;
	e->at = head_len;
	flat_http1_body_begin(&x->up, (enum flat_body_kind)h->body, h->length);
	x->up_done = x->up.over;
	/* Where a successor serves, the next request shall come to it. */
	x->close = !h->keep_alive || l7->node->offload->retired;
	x->replayable = true;
	x->grpc = (l7 != l7->root || l7->shadow) &&
		  flat_http_is_grpc(flat_head_field(h, e->in, flat_span_of("content-type")));
	x->grpc_status = -1;
	verb = flat_l7_decide(l7, &answer, &delay_ms);
	if (verb == FLAT_L7_ANSWER) {
		flat_l7_reply(l7, &answer);
	} else if (verb == FLAT_L7_LATER) {
		l7->phase = FLAT_L7_DELAY;
		x->record.verdict = FLAT_VERDICT_DELAYED;
		x->try_us = flat_now_us() + (int64_t)delay_ms * 1000;
		flat_l7_wake_at(l7, x->try_us);
	} else {
		set_deadline(l7, x->start_us);
		flat_l7_try(l7);
	}
}

static bool delayed(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_answer answer;
	uint32_t delay_ms = 0;
	int64_t now = flat_now_us();

	/* The request's whole time may be over before the pause is. */
	if (x->record.attempt > 0 && x->deadline_us && x->deadline_us < x->try_us)
		return check_time(l7);
	if (now < x->try_us) {
		flat_l7_wake_at(l7, x->try_us);
		return false;
	}
	x->try_us = 0;
	if (l7->phase == FLAT_L7_DELAY &&
	    flat_l7_decide(l7, &answer, &delay_ms) == FLAT_L7_ANSWER) {
		flat_l7_reply(l7, &answer);
		return true;
	}
	if (l7->phase == FLAT_L7_DELAY)
		set_deadline(l7, now);
	flat_l7_try(l7);
	return true;
}

static bool next_head(struct flat_l7 *l7)
{
	struct flat_l7_end *e = &l7->end;
	bool h2;
	int n;

	if (e->at == e->len) {
		e->at = e->len = 0;
		if (!e->eof && !flat_l7_is_idle(l7))
			return false;
		flat_l7_close_client(l7);
		return true;
	}
	/* What went before is not taken yet: one answer at a time. */
	if (flat_l7_end_room(e) < FLAT_L7_ROOM_BYTES * 2)
		return false;
	flat_l7_end_pack(e, 0);
	h2 = flat_l7_is_preface(l7);
	if (h2 && e->len >= FLAT_HTTP2_PREFACE_BYTES) {
		if (!flat_l7_mux_begin(l7))
			flat_l7_end_abort(e);
		return false;
	}
	n = h2 ? 0 : flat_l7_read_request(l7);
	if (!h2 && flat_l7_is_no_preface(l7, n)) {
		flat_l7_close_client(l7);
		return true;
	}
	if (n > 0 && e->stream && flat_http2_is_too_large(e->stream)) {
		flat_l7_reply_status(l7, 431, FLAT_VERDICT_MALFORMED, NULL);
		return true;
	}
	if (n > 0) {
		begin(l7, (size_t)n);
		return true;
	}
	if (n < 0) {
		bool large = flat_http1_fault_is_size((enum flat_http1_fault)l7->in.fault);
		if (flat_l7_may_tell(l7->node))
			flat_info("malformed request of %s to %s: %s", l7->conn->client_name,
				  l7->conn->service,
				  flat_http1_fault_text((enum flat_http1_fault)l7->in.fault));
		flat_l7_reply_status(l7, large ? 431 : 400, FLAT_VERDICT_MALFORMED, NULL);
		return true;
	}
	if (e->eof) {
		flat_l7_close_client(l7);
		return true;
	}
	if (!l7->x.start_us)
		l7->x.start_us = flat_now_us();
	flat_l7_wake_at(l7, l7->x.start_us + flat_l7_head_us(l7));
	if (flat_now_us() - l7->x.start_us < flat_l7_head_us(l7))
		return false;
	flat_l7_reply_status(l7, 408, FLAT_VERDICT_MALFORMED, NULL);
	return true;
}

bool flat_l7_drain(struct flat_l7 *l7)
{
	struct flat_l7_end *e = &l7->end;
	bool some = e->len > e->at;

	l7->drained += e->len - e->at;
	e->at = e->len = 0;
	if (e->is_tcp && e->fin_sent && (e->eof || e->reset || e->deaf))
		e->gone = true;
	if (e->eof || e->reset || e->gone)
		return false;
	if (l7->drained > FLAT_L7_DRAIN_BYTES || (!l7->timed && e->fin_sent))
		flat_l7_end_abort(e);
	return some;
}

static bool step(struct flat_l7 *l7)
{
	switch (l7->phase) {
	case FLAT_L7_HEAD:
		return next_head(l7);
	case FLAT_L7_DELAY:
	case FLAT_L7_BACKOFF:
		return delayed(l7);
	case FLAT_L7_PENDING:
		if (l7->x.waiter.cluster)
			return check_time(l7);
		flat_l7_try(l7);
		return true;
	case FLAT_L7_SERVE:
		return serve(l7);
	default:
		return flat_l7_drain(l7);
	}
}

static bool pump(struct flat_l7 *l7)
{
	struct flat_l7_end *e = &l7->end;
	bool moved;

	if (!e->open)
		return false;
	if (flat_l7_end_buffers(e) != 0) {
		flat_l7_abandon(l7);
		flat_l7_end_abort(e);
		return false;
	}
	if (l7->mux && l7->phase == FLAT_L7_STREAMS) {
		moved = flat_l7_mux_pump(l7);
		flat_l7_look_at_idle(l7);
		return moved;
	}
	moved = flat_l7_end_read(e, QUANTUM_BYTES) > 0;
	if (l7 == l7->root)
		moved |= flat_l7_carriers_read(l7);
	if ((e->reset || e->deaf || e->gone) && l7->phase != FLAT_L7_CLOSING) {
		flat_l7_abandon(l7);
		flat_l7_end_abort(e);
		moved = true;
	}
	if (l7->x.n_asides > 0)
		moved |= flat_l7_asides_look(l7);
	for (int i = 0; i < STEPS && step(l7); i++)
		moved = true;
	moved |= flat_l7_end_flush(e) > 0;
	if (l7->x.upstream)
		moved |= flat_l7_end_flush(&l7->x.upstream->end) > 0;
	if (l7 != l7->root)
		return moved;
	moved |= flat_l7_carriers_write(l7);
	flat_l7_look_at_idle(l7);
	if (e->is_tcp && e->fin_sent && (e->eof || e->reset || e->deaf))
		e->gone = true;
	return moved;
}

bool flat_l7_pump(struct flat_l7 *l7)
{
	int64_t now = l7->node->now_us;
	bool moved = pump(l7);

	if (moved)
		l7->moved_us = now;
	if (l7->watched && (!l7->timed || now >= l7->look_us))
		moved |= flat_l7_idle_look(l7);
	return moved;
}
