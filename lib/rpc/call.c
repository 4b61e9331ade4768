/* Calls: their lives, and what is said on them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/grpc.h"
#include "rpc/rpc.h"

/* What waits for the codec: a message with its lines, and a head or trailers. */
#define OUT_MAX (FLAT_RPC_MESSAGE_MAX + FLAT_RPC_PIECE)
/* Buffers of more than this are given back with their call. */
#define KEPT_MAX ((size_t)64 * 1024)

/* --- life --- */

struct flat_rpc_call *flat_rpc_call_new(struct flat_rpc_conn *conn, struct flat_rpc *rpc,
					bool client)
{
	struct flat_rpc_call *call = TAILQ_FIRST(&rpc->spare);

	if (call) {
		TAILQ_REMOVE(&rpc->spare, call, all_link);
		rpc->n_spare--;
	} else {
		call = calloc(1, sizeof(*call));
		if (!call)
			return NULL;
	}
	call->rpc = rpc;
	call->conn = conn;
	call->client = client;
	call->status = -1;
	TAILQ_INSERT_TAIL(&rpc->all, call, all_link);
	if (conn)
		TAILQ_INSERT_TAIL(&conn->calls, call, link);
	return call;
}

static struct flat_rpc_bytes emptied(struct flat_rpc_bytes *b)
{
	if (b->size > KEPT_MAX)
		flat_rpc_bytes_free(b);
	return (struct flat_rpc_bytes){b->v, 0, 0, b->size};
}

static void free_buffers(struct flat_rpc_call *call)
{
	flat_rpc_bytes_free(&call->head);
	flat_rpc_bytes_free(&call->rest);
	flat_rpc_bytes_free(&call->message);
	flat_rpc_bytes_free(&call->tail);
	flat_rpc_bytes_free(&call->out);
}

void flat_rpc_call_destroy(struct flat_rpc_call *call)
{
	free_buffers(call);
	free(call);
}

void flat_rpc_call_free(struct flat_rpc_call *call)
{
	struct flat_rpc *rpc = call->rpc;

	if (call->ready)
		TAILQ_REMOVE(&rpc->ready, call, ready_link);
	if (call->stream)
		flat_http2_release(call->stream);
	if (call->conn) {
		flat_rpc_dirty(call->conn);
		TAILQ_REMOVE(&call->conn->calls, call, link);
	}
	TAILQ_REMOVE(&rpc->all, call, all_link);
	if (rpc->n_spare >= FLAT_RPC_SPARE_MAX) {
		flat_rpc_call_destroy(call);
		return;
	}
	*call = (struct flat_rpc_call){
	    .head = emptied(&call->head),
	    .rest = emptied(&call->rest),
	    .message = emptied(&call->message),
	    .tail = emptied(&call->tail),
	    .out = emptied(&call->out),
	};
	TAILQ_INSERT_HEAD(&rpc->spare, call, all_link);
	rpc->n_spare++;
}

static bool is_past_due(const struct flat_rpc_call *call)
{
	return call->due_us != 0 && flat_now_us() >= call->due_us;
}

void flat_rpc_call_cut(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text)
{
	/* Which flat_rpc_call_end() then makes of it. */
	flat_rpc_call_end(call, is_past_due(call) ? FLAT_RPC_CANCELLED : status, text);
}

void flat_rpc_call_end(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text)
{
	if (call->ended)
		return;
	/* Whoever's clock was looked at first: once the deadline is past, it is what has cut the call off. */
	if (status == FLAT_RPC_CANCELLED && call->client && is_past_due(call)) {
		status = FLAT_RPC_DEADLINE_EXCEEDED;
		text = "deadline exceeded";
	}
	call->ended = true;
	call->closed = true;
	call->due_us = 0;
	call->status = (int16_t)status;
	snprintf(call->text, sizeof(call->text), "%s", text ? text : "");
	flat_rpc_wake(call);
}

void flat_rpc_call_due(struct flat_rpc_call *call, int64_t timeout_us)
{
	int64_t now = flat_now_us();

	call->due_us = timeout_us < INT64_MAX - now ? now + timeout_us : INT64_MAX;
	if (call->rpc->due_us == 0 || call->due_us < call->rpc->due_us)
		call->rpc->due_us = call->due_us;
}

/* --- text that goes out --- */

void flat_rpc_call_push(struct flat_rpc_call *call)
{
	ssize_t n;

	if (!call->stream || flat_rpc_bytes_left(&call->out) == 0)
		return;
	n = flat_http2_write(call->stream, call->out.v + call->out.at,
			     flat_rpc_bytes_left(&call->out));
	flat_rpc_dirty(call->conn);
	if (n < 0) {
		call->out.at = call->out.len;
		flat_http2_reset(call->stream, FLAT_HTTP2_INTERNAL_ERROR);
		flat_rpc_call_end(call, FLAT_RPC_INTERNAL, strerror((int)-n));
		return;
	}
	call->out.at += (size_t)n;
}

static int put(struct flat_rpc_call *call, const char *text, size_t len)
{
	return flat_rpc_bytes_add(&call->out, text, len, OUT_MAX);
}

static int puts_to(struct flat_rpc_call *call, const char *text)
{
	return put(call, text, strlen(text));
}

/* Neither line ends nor names that mean something to HTTP or gRPC can come from a user. */
static bool is_name(const char *name, size_t len)
{
	enum flat_http_name id = flat_http_name_of(name, len);

	for (size_t i = 0; i < len; i++) {
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
		      strchr("_-.", name[i])))
			return false;
	}
	return len > 0 && len < UINT16_MAX &&
	       (id == FLAT_HTTP_OTHER || id == FLAT_HTTP_AUTHORIZATION || id == FLAT_HTTP_COOKIE) &&
	       !(len >= 5 && memcmp(name, "grpc-", 5) == 0) &&
	       !(len == 12 && memcmp(name, "content-type", len) == 0);
}

static bool is_value(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (value[i] < 0x20 || value[i] > 0x7e)
			return false;
	}
	return len == 0 || (value[0] != ' ' && value[len - 1] != ' ');
}

static int put_fields(struct flat_rpc_call *call, const struct flat_rpc_field *fields, size_t n)
{
	int err = n > FLAT_HTTP_FIELDS_MAX - 8 ? -EMSGSIZE : 0;

	for (size_t i = 0; i < n && err == 0; i++) {
		size_t name_len = fields[i].name_len ? fields[i].name_len : strlen(fields[i].name);
		size_t value_len =
		    fields[i].value_len ? fields[i].value_len : strlen(fields[i].value);

		if (!is_name(fields[i].name, name_len) || !is_value(fields[i].value, value_len))
			return -EINVAL;
		err = put(call, fields[i].name, name_len);
		err = err ? err : put(call, ": ", 2);
		err = err ? err : put(call, fields[i].value, value_len);
		err = err ? err : put(call, "\r\n", 2);
	}
	return err;
}

/* --- client --- */

static int put_timeout(struct flat_rpc_call *call, int64_t timeout_us)
{
	char line[64];
	/* At most eight digits. */
	static const struct {
		char unit;
		int64_t us;
	} units[] = {{'u', 1}, {'m', 1000}, {'S', 1000000}, {'H', INT64_C(3600000000)}};
	size_t i = 0;

	while (i + 1 < FLAT_ARRAY_SIZE(units) && timeout_us / units[i].us > 99999999)
		i++;
	snprintf(line, sizeof(line), "grpc-timeout: %lld%c\r\n",
		 (long long)(timeout_us / units[i].us), units[i].unit);
	return puts_to(call, line);
}

static bool is_method(const char *method)
{
	size_t len = method ? strlen(method) : 0;

	for (size_t i = 0; i < len; i++) {
		if (method[i] <= ' ' || method[i] > '~' || method[i] == '#')
			return false;
	}
	return len > 1 && len < 256 && method[0] == '/';
}

static int put_request(struct flat_rpc_call *call, const struct flat_rpc_channel *channel,
		       const struct flat_rpc_request *r)
{
	int err = puts_to(call, "POST ");

	err = err ? err : puts_to(call, r->method);
	err = err ? err : puts_to(call, " HTTP/1.1\r\nhost: ");
	err = err ? err : puts_to(call, channel->authority);
	err = err ? err
		  : puts_to(call,
			    "\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n");
	if (r->timeout_us > 0)
		err = err ? err : put_timeout(call, r->timeout_us);
	err = err ? err : put_fields(call, r->metadata, r->n_metadata);
	err = err ? err : put(call, "\r\n", 2);
	if (err == 0 && call->out.len > FLAT_RPC_HEAD_MAX)
		err = -EMSGSIZE;
	return err;
}

int flat_rpc_begin(struct flat_rpc_channel *channel, const struct flat_rpc_request *request,
		   struct flat_rpc_call **out)
{
	struct flat_rpc_call *call;
	struct flat_rpc_conn *conn;
	int why = 0;
	int err;

	if (request->size < sizeof(*request) || !is_method(request->method) ||
	    request->timeout_us < 0)
		return -EINVAL;
	conn = flat_rpc_channel_conn(channel, &why);
	call = flat_rpc_call_new(conn, channel->rpc, true);
	if (!call)
		return -ENOMEM;
	call->user = request->user;
	err = put_request(call, channel, request);
	if (err == 0 && conn) {
		call->stream = flat_http2_stream_open(conn->h2, call);
		err = call->stream ? 0 : -ENOMEM;
	}
	if (err != 0) {
		flat_rpc_call_free(call);
		return err;
	}
	*out = call;
	call->head_out = true;
	if (!conn) {
		call->stage = FLAT_RPC_OVER;
		flat_rpc_call_end(call, FLAT_RPC_UNAVAILABLE, strerror(-why));
		return 0;
	}
	if (request->timeout_us > 0)
		flat_rpc_call_due(call, request->timeout_us);
	flat_rpc_call_push(call);
	return 0;
}

int flat_rpc_send_end(struct flat_rpc_call *call)
{
	if (call->closed || !call->client)
		return -EPIPE;
	call->closed = true;
	if (puts_to(call, "0\r\n\r\n") != 0)
		flat_rpc_call_end(call, FLAT_RPC_RESOURCE_EXHAUSTED, strerror(ENOMEM));
	flat_rpc_call_push(call);
	return 0;
}

/* --- server --- */

void flat_rpc_call_refuse(struct flat_rpc_call *call, unsigned http_status)
{
	char head[128];

	snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\ncontent-length: 0\r\n\r\n", http_status,
		 flat_http1_reason(http_status));
	call->ours = call->closed = true;
	if (puts_to(call, head) == 0)
		flat_rpc_call_push(call);
}

int flat_rpc_reply(struct flat_rpc_call *call, const struct flat_rpc_field *metadata, size_t n)
{
	size_t before = call->out.len;
	int err;

	if (call->client || call->closed || call->head_out)
		return -EPIPE;
	err = puts_to(
	    call,
	    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n");
	err = err ? err : put_fields(call, metadata, n);
	err = err ? err : put(call, "\r\n", 2);
	if (err == 0 && call->out.len - before > FLAT_RPC_HEAD_MAX)
		err = -EMSGSIZE;
	if (err != 0) {
		call->out.len = before;
		return err;
	}
	call->head_out = true;
	flat_rpc_call_push(call);
	return 0;
}

static int put_status(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text)
{
	char line[1024];
	int err;

	snprintf(line, sizeof(line), "grpc-status: %d\r\n", (int)status);
	err = puts_to(call, line);
	if (err != 0 || !text || !*text)
		return err;
	flat_grpc_message(flat_span_of(text), line, sizeof(line));
	err = puts_to(call, "grpc-message: ");
	err = err ? err : puts_to(call, line);
	return err ? err : put(call, "\r\n", 2);
}

int flat_rpc_finish(struct flat_rpc_call *call, enum flat_rpc_status status, const char *text,
		    const struct flat_rpc_field *metadata, size_t n)
{
	int err = call->client || call->closed || (unsigned)status > FLAT_RPC_UNAUTHENTICATED
		      ? -EPIPE
		      : 0;

	if (err == 0 && call->head_out)
		err = puts_to(call, "0\r\n");
	else if (err == 0)
		/* Trailers alone. */
		err = puts_to(
		    call,
		    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n");
	err = err ? err : put_status(call, status, text);
	err = err ? err : put_fields(call, metadata, n);
	err = err ? err : put(call, "\r\n", 2);
	if (err != 0) {
		flat_rpc_call_free(call);
		return err;
	}
	call->closed = call->ours = true;
	flat_rpc_call_push(call);
	if (flat_rpc_bytes_left(&call->out) == 0)
		flat_rpc_call_free(call);
	return 0;
}

/* --- both --- */

int flat_rpc_send(struct flat_rpc_call *call, const void *data, size_t len)
{
	uint8_t line[FLAT_HTTP1_CHUNK_LINE];
	uint8_t prefix[FLAT_RPC_PREFIX] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
					   (uint8_t)(len >> 8), (uint8_t)len};
	int err;

	if (call->closed)
		return -EPIPE;
	if (len > FLAT_RPC_MESSAGE_MAX)
		return -EMSGSIZE;
	if (!call->head_out) {
		err = flat_rpc_reply(call, NULL, 0);
		if (err != 0)
			return err;
	}
	if (flat_rpc_bytes_left(&call->out) > 0) {
		call->stalled = true;
		return -EAGAIN;
	}
	/* One look for room: then nothing of it fails. */
	if (!flat_rpc_bytes_room(&call->out, len + sizeof(line) + sizeof(prefix) + 2))
		return -ENOMEM;
	err = put(call, (const char *)line, flat_http1_chunk_line(line, len + sizeof(prefix)));
	err = err ? err : put(call, (const char *)prefix, sizeof(prefix));
	err = err ? err : put(call, data, len);
	err = err ? err : put(call, "\r\n", 2);
	if (err != 0)
		return err;
	flat_rpc_call_push(call);
	return 0;
}

void flat_rpc_release(struct flat_rpc_call *call)
{
	flat_rpc_call_free(call);
}

void flat_rpc_hold(struct flat_rpc_call *call, int on)
{
	call->held = on != 0;
	if (!on)
		flat_rpc_wake(call);
}

void flat_rpc_set_user(struct flat_rpc_call *call, void *user)
{
	call->user = user;
}
