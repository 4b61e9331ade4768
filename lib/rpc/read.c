/* What the peer says on a call: from the text of HTTP/1.1, in which the codec gives it, to metadata, messages and a status. */
#include <errno.h>

#include "codec/grpc.h"
#include "rpc/rpc.h"

/* Text that is not whole: a head is the largest. */
#define REST_MAX (FLAT_RPC_HEAD_MAX + FLAT_RPC_PIECE)

static bool is_ours(const struct flat_http_field *f, const uint8_t *text)
{
	struct flat_span name = flat_head_span(text, f->name, f->name_len);

	return f->hidden ||
	       (f->id != FLAT_HTTP_OTHER && f->id != FLAT_HTTP_AUTHORIZATION &&
		f->id != FLAT_HTTP_COOKIE) ||
	       flat_span_equal(name, flat_span_of("content-type"), true) ||
	       (name.len >= 5 && memcmp(name.text, "grpc-", 5) == 0);
}

size_t flat_rpc_fields(struct flat_rpc *rpc, const struct flat_http_head *head, const uint8_t *text)
{
	size_t n = 0;

	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct flat_http_field *f = &head->fields[i];

		if (is_ours(f, text))
			continue;
		rpc->fields[n++] =
		    (struct flat_rpc_field){(const char *)text + f->name, f->name_len,
					    (const char *)text + f->value, f->value_len};
	}
	return n;
}

bool flat_rpc_call_has_message(const struct flat_rpc_call *call)
{
	const uint8_t *v = call->message.v + call->message.at;
	size_t have = flat_rpc_bytes_left(&call->message);

	if (have < FLAT_RPC_PREFIX)
		return false;
	return have - FLAT_RPC_PREFIX >=
	       ((size_t)v[1] << 24 | (size_t)v[2] << 16 | (size_t)v[3] << 8 | v[4]);
}

/* What cannot be read is not read on; whatever status came, this is what became of the call. */
static void give_up(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text)
{
	flat_http2_reset(call->stream, FLAT_HTTP2_CANCEL);
	flat_rpc_dirty(call->conn);
	call->stage = FLAT_RPC_OVER;
	call->message.at = call->message.len;
	call->ended = false;
	flat_rpc_call_end(call, status, text);
}

/* A message that says more than is taken, or what is not understood: the call is over. */
static bool is_bad(struct flat_rpc_call *call)
{
	const uint8_t *v = call->message.v + call->message.at;

	if (flat_rpc_bytes_left(&call->message) < FLAT_RPC_PREFIX)
		return false;
	if (v[0] != 0)
		give_up(call, FLAT_RPC_INTERNAL, "a compressed message; none was asked for");
	else if (((size_t)v[1] << 24 | (size_t)v[2] << 16 | (size_t)v[3] << 8 | v[4]) >
		 FLAT_RPC_MESSAGE_MAX)
		give_up(call, FLAT_RPC_RESOURCE_EXHAUSTED, "a message of more than 4 MiB");
	else
		return false;
	return true;
}

/* --- the status --- */

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

/* grpc-message is percent-encoded. */
static void decode(struct flat_span from, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < from.len && n + 1 < size; i++) {
		char c = from.text[i];

		if (c == '%' && i + 2 < from.len && hex(from.text[i + 1]) >= 0 &&
		    hex(from.text[i + 2]) >= 0) {
			c = (char)(hex(from.text[i + 1]) * 16 + hex(from.text[i + 2]));
			i += 2;
		}
		to[n++] = c;
	}
	to[n] = 0;
}

/* From a head or trailers. False: no status is there. */
static bool take_status(struct flat_rpc_call *call, const struct flat_http_head *head,
			const uint8_t *text)
{
	int status =
	    flat_grpc_status_read(flat_head_field(head, text, flat_span_of("grpc-status")));
	struct flat_span message = flat_head_field(head, text, flat_span_of("grpc-message"));
	char words[sizeof(call->text)];

	if (status < 0)
		return false;
	decode(message, words, sizeof(words));
	flat_rpc_call_end(call, (enum flat_rpc_status)status, words);
	return true;
}

/* The peer's message was read to its end. */
static void read_all(struct flat_rpc_call *call)
{
	call->stage = FLAT_RPC_OVER;
	if (!call->client || call->ended)
		return;
	flat_http1_begin(&call->rpc->trailers, FLAT_HTTP1_TRAILERS);
	if (call->tail.len > 0 &&
	    flat_http1_read(&call->rpc->trailers, call->tail.v, call->tail.len) > 0 &&
	    take_status(call, &call->rpc->trailers.head, call->tail.v))
		return;
	flat_rpc_call_end(
	    call,
	    call->http_status == 200 ? FLAT_RPC_UNKNOWN
				     : (enum flat_rpc_status)flat_grpc_of_http(call->http_status),
	    call->http_status == 200 ? "no status came" : flat_http1_reason(call->http_status));
}

static void broke_off(struct flat_rpc_call *call)
{
	bool lost = !call->conn || flat_http2_is_refused(call->stream);

	call->stage = FLAT_RPC_OVER;
	if (call->client)
		flat_rpc_call_cut(call, lost ? FLAT_RPC_UNAVAILABLE : FLAT_RPC_INTERNAL,
				  lost ? "connection lost" : "the stream was reset");
	else
		flat_rpc_call_end(call, FLAT_RPC_CANCELLED, "the client is gone");
}

/* --- heads --- */

static int take_response(struct flat_rpc_call *call, const struct flat_http_head *head,
			 const uint8_t *text)
{
	if (head->status < 200)
		return 0;
	call->http_status = head->status;
	flat_http1_body_begin(&call->body, flat_http1_response_body(head, FLAT_METHOD_OTHER),
			      head->length);
	call->stage = FLAT_RPC_BODY;
	/* Of what is no gRPC at all, content is no messages; an answer of trailers alone has its status here. */
	call->silent =
	    !flat_http_is_grpc(flat_head_field(head, text, flat_span_of("content-type")));
	if (take_status(call, head, text))
		call->announced = call->trailers_only = true;
	return flat_rpc_bytes_add(&call->head, text, head->bytes, FLAT_RPC_HEAD_MAX);
}

static int take_request(struct flat_rpc_call *call, const struct flat_http_head *head,
			const uint8_t *text)
{
	struct flat_span method = flat_head_span(text, head->target, head->target_len);
	int64_t timeout_us =
	    flat_grpc_timeout_us(flat_head_field(head, text, flat_span_of("grpc-timeout")));

	flat_http1_body_begin(&call->body, (enum flat_body_kind)head->body, head->length);
	call->stage = FLAT_RPC_BODY;
	if (!flat_http_is_grpc(flat_head_field(head, text, flat_span_of("content-type"))) ||
	    flat_http2_is_too_large(call->stream) || method.len >= sizeof(call->text) ||
	    !flat_span_equal(flat_head_span(text, head->start, head->method_len),
			     flat_span_of("POST"), false)) {
		flat_rpc_call_refuse(call, 415);
		return 0;
	}
	memcpy(call->text, method.text, method.len);
	call->text[method.len] = 0;
	if (timeout_us > 0)
		flat_rpc_call_due(call, timeout_us);
	return flat_rpc_bytes_add(&call->head, text, head->bytes, FLAT_RPC_HEAD_MAX);
}

static ssize_t take_head(struct flat_rpc_call *call, const uint8_t *bytes, size_t len)
{
	struct flat_http1 *p = &call->rpc->reader;
	int err;
	int n;

	flat_http1_begin(p, call->client ? FLAT_HTTP1_RESPONSE : FLAT_HTTP1_REQUEST);
	n = flat_http1_read(p, bytes, len);
	if (n <= 0)
		return n;
	err = call->client ? take_response(call, &p->head, bytes)
			   : take_request(call, &p->head, bytes);
	return err ? err : n;
}

/* --- content --- */

static ssize_t take_body(struct flat_rpc_call *call, const uint8_t *bytes, size_t len)
{
	struct flat_http1 *trailers = &call->rpc->trailers;
	struct flat_piece piece;
	ssize_t n;
	int err = 0;

	flat_http1_begin(trailers, FLAT_HTTP1_TRAILERS);
	n = flat_http1_body_read(&call->body, bytes, len, trailers, &piece);
	if (n < 0)
		return n;
	if (piece.kind == FLAT_PIECE_DATA && !call->silent)
		err = flat_rpc_bytes_add(&call->message, bytes, (size_t)n,
					 FLAT_RPC_MESSAGE_MAX + 2 * FLAT_RPC_PIECE);
	else if (piece.kind == FLAT_PIECE_LAST && trailers->head.n_fields > 0)
		err = flat_rpc_bytes_add(&call->tail, bytes, (size_t)n,
					 (size_t)FLAT_HTTP_TRAILER_BYTES_MAX + 2);
	return err ? err : n;
}

/* What is used up of the text. */
static ssize_t take(struct flat_rpc_call *call, const uint8_t *bytes, size_t len)
{
	size_t used = 0;
	ssize_t n = 1;

	while (n > 0 && used < len && !(call->stage == FLAT_RPC_BODY && call->body.over)) {
		n = call->stage == FLAT_RPC_HEAD ? take_head(call, bytes + used, len - used)
						 : take_body(call, bytes + used, len - used);
		if (n < 0)
			return n;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

static int take_text(struct flat_rpc_call *call, const uint8_t *bytes, size_t len)
{
	bool direct = flat_rpc_bytes_left(&call->rest) == 0;
	ssize_t n;
	int err;

	if (direct) {
		n = take(call, bytes, len);
		return n < 0
			   ? (int)n
			   : flat_rpc_bytes_add(&call->rest, bytes + n, len - (size_t)n, REST_MAX);
	}
	err = flat_rpc_bytes_add(&call->rest, bytes, len, REST_MAX);
	if (err != 0)
		return err;
	n = take(call, call->rest.v + call->rest.at, flat_rpc_bytes_left(&call->rest));
	if (n < 0)
		return (int)n;
	call->rest.at += (size_t)n;
	return 0;
}

void flat_rpc_call_read(struct flat_rpc_call *call)
{
	struct flat_rpc *rpc = call->rpc;

	while (call->stream && !is_bad(call) && call->stage != FLAT_RPC_OVER &&
	       !flat_rpc_call_has_message(call)) {
		bool headless = call->stage == FLAT_RPC_HEAD;
		size_t n;
		int err;

		n = flat_http2_read(call->stream, rpc->piece, sizeof(rpc->piece));
		if (n == 0) {
			if (flat_http2_read_all(call->stream))
				read_all(call);
			else if (flat_http2_is_reset(call->stream))
				broke_off(call);
			return;
		}
		/* The window opened. */
		flat_rpc_dirty(call->conn);
		err = take_text(call, rpc->piece, n);
		if (err != 0) {
			give_up(call,
				err == -ENOMEM ? FLAT_RPC_RESOURCE_EXHAUSTED : FLAT_RPC_INTERNAL,
				strerror(-err));
			return;
		}
		/* A head is told before anything else is read: its fields are where they were read. */
		if (headless && call->stage != FLAT_RPC_HEAD)
			return;
	}
}
