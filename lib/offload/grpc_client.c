#include "offload/grpc_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "base/sys.h"
#include "codec/grpc.h"
#include "codec/http1.h"
#include "codec/http2.h"

/* A message of gRPC: compressed or not, and its length, big endian. */
#define PREFIX_BYTES ((size_t)5)

struct flat_call {
	struct flat_loop *loop;
	struct flat_source source;
	flat_call_fn *fn;
	void *arg;
	int64_t deadline_us;
	bool grpc;
	bool status_only;
	struct flat_http2 *h2; /* NULL: HTTP/1.1 */
	struct flat_http2_stream *stream;
	struct flat_strbuf out; /* the request in the form of HTTP/1.1 */
	size_t out_at;
	struct flat_strbuf wire; /* gRPC: frames that the socket did not take yet */
	size_t wire_at;
	struct flat_strbuf in; /* the answer, likewise */
	size_t in_at;
	bool head; /* is read */
	struct flat_http1 reader, trailers;
	struct flat_http1_body body;
	struct flat_strbuf message;
	unsigned status;
	int grpc_status; /* -1: none was seen */
	bool eof;
};

static void call_free(struct flat_call *c)
{
	flat_loop_close(c->loop, &c->source);
	if (c->stream)
		flat_http2_release(c->stream);
	flat_http2_close(c->h2);
	flat_strbuf_fini(&c->out);
	flat_strbuf_fini(&c->wire);
	flat_strbuf_fini(&c->in);
	flat_strbuf_fini(&c->message);
	free(c);
}

static void finish(struct flat_call *c, const char *why)
{
	struct flat_call_answer a = {
	    .why = why,
	    .status = c->status,
	    .grpc = c->grpc ? c->grpc_status : 0,
	    .bytes = (const uint8_t *)c->message.data,
	    .len = c->message.len,
	};
	flat_call_fn *fn = c->fn;
	void *arg = c->arg;

	if (!why && c->grpc && a.grpc < 0)
		a.why = "the answer has no grpc-status";
	if (c->grpc && a.len >= PREFIX_BYTES) {
		a.bytes += PREFIX_BYTES;
		a.len -= PREFIX_BYTES;
	}
	fn(arg, &a);
	call_free(c);
}

/* --- there --- */

static void put_question(struct flat_call *c, const struct flat_call_question *q)
{
	uint8_t prefix[PREFIX_BYTES] = {0, (uint8_t)(q->len >> 24), (uint8_t)(q->len >> 16),
					(uint8_t)(q->len >> 8), (uint8_t)q->len};

	const char *type = q->grpc ? "application/grpc" : q->type;

	flat_strbuf_printf(&c->out, "%s %s HTTP/1.1\r\nhost: %s\r\n",
			   q->method ? q->method : "POST", q->path, q->authority);
	if (type)
		flat_strbuf_printf(&c->out, "content-type: %s\r\n", type);
	if (q->grpc)
		flat_strbuf_puts(&c->out, "te: trailers\r\n");
	else if (!q->http2)
		flat_strbuf_puts(&c->out, "connection: close\r\n");
	for (uint32_t i = 0; i < q->n_headers; i++)
		flat_strbuf_printf(&c->out, "%s: %s\r\n", q->headers[i].name, q->headers[i].value);
	if (type)
		flat_strbuf_printf(&c->out, "content-length: %zu\r\n",
				   q->len + (q->grpc ? PREFIX_BYTES : 0));
	flat_strbuf_puts(&c->out, "\r\n");
	if (q->grpc)
		flat_strbuf_add(&c->out, prefix, sizeof(prefix));
	if (q->len > 0)
		flat_strbuf_add(&c->out, q->bytes, q->len);
}

/* 0, or a negative errno; what the socket does not take now waits. */
static int send_text(struct flat_call *c, struct flat_strbuf *from, size_t *at)
{
	while (*at < from->len) {
		ssize_t n = flat_sys_send(c->source.fd, from->data + *at, from->len - *at,
					  MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		*at += (size_t)n;
	}
	return 0;
}

static int send_frames(struct flat_call *c)
{
	const uint8_t *bytes;
	ssize_t n = 1;
	int err = 0;

	while (n > 0 && err == 0) {
		if (c->out_at < c->out.len) {
			n = flat_http2_write(c->stream, (const uint8_t *)c->out.data + c->out_at,
					     c->out.len - c->out_at);
			if (n < 0)
				return (int)n;
			c->out_at += (size_t)n;
		}
		err = send_text(c, &c->wire, &c->wire_at);
		if (err != 0 || c->wire_at < c->wire.len)
			return err;
		flat_strbuf_reset(&c->wire);
		c->wire_at = 0;
		n = flat_http2_drain(c->h2, &bytes);
		if (n < 0)
			return (int)n;
		flat_strbuf_add(&c->wire, bytes, (size_t)n);
		if (c->wire.failed)
			return -ENOMEM;
	}
	return err;
}

/* --- back --- */

static int take(struct flat_call *c)
{
	uint8_t bytes[16384];
	size_t n;

	for (;;) {
		ssize_t got = flat_sys_recv(c->source.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (got == -EAGAIN)
			break;
		if (got < 0)
			return (int)got;
		c->eof = got == 0;
		if (c->eof)
			break;
		if (!c->h2)
			flat_strbuf_add(&c->in, bytes, (size_t)got);
		else if (flat_http2_feed(c->h2, bytes, (size_t)got, 0) != 0)
			return -EPROTO;
		if (c->in.len > FLAT_CALL_ANSWER_MAX)
			return -EMSGSIZE;
	}
	while (c->stream && (n = flat_http2_read(c->stream, bytes, sizeof(bytes))) > 0) {
		flat_strbuf_add(&c->in, bytes, n);
		if (c->in.len > FLAT_CALL_ANSWER_MAX)
			return -EMSGSIZE;
	}
	return c->in.failed ? -ENOMEM : 0;
}

static void take_status(struct flat_call *c, const struct flat_http_head *h, const void *text)
{
	int status = flat_grpc_status_read(flat_head_field(h, text, flat_span_of("grpc-status")));

	if (status >= 0)
		c->grpc_status = status;
}

/* 1: whole, 0: more is needed, -EBADMSG. */
static int read_head(struct flat_call *c)
{
	const uint8_t *text = (const uint8_t *)c->in.data + c->in_at;
	const struct flat_http_head *h = &c->reader.head;
	int n = c->in.len > c->in_at ? flat_http1_read(&c->reader, text, c->in.len - c->in_at) : 0;

	if (n <= 0)
		return n;
	c->in_at += (size_t)n;
	if (h->status < 200) {
		flat_http1_begin(&c->reader, FLAT_HTTP1_RESPONSE);
		return 0;
	}
	c->head = true;
	c->status = h->status;
	take_status(c, h, text);
	flat_http1_body_begin(&c->body, flat_http1_response_body(h, FLAT_METHOD_OTHER), h->length);
	return 1;
}

static int read_answer(struct flat_call *c)
{
	struct flat_piece piece;
	int ret = c->head ? 1 : read_head(c);

	if (ret <= 0)
		return ret;
	for (;;) {
		const uint8_t *text = (const uint8_t *)c->in.data + c->in_at;
		ssize_t n = flat_http1_body_read(&c->body, text, c->in.len - c->in_at, &c->trailers,
						 &piece);

		if (n < 0)
			return -EBADMSG;
		if (piece.kind == FLAT_PIECE_END)
			return 1;
		if (piece.kind == FLAT_PIECE_DATA && !c->status_only)
			flat_strbuf_add(&c->message, text, (size_t)piece.size);
		if (piece.kind == FLAT_PIECE_LAST)
			take_status(c, &c->trailers.head, text);
		c->in_at += (size_t)n;
		if (n == 0 && !c->body.over)
			break;
	}
	if (c->body.kind == FLAT_BODY_OPAQUE &&
	    (c->eof || (c->stream && flat_http2_read_all(c->stream))))
		return 1;
	return 0;
}

static void on_ready(struct flat_source *source, int events)
{
	struct flat_call *c = FLAT_CONTAINER_OF(source, struct flat_call, source);
	int err = c->h2 ? send_frames(c) : send_text(c, &c->out, &c->out_at);
	int ret;

	(void)events;
	if (err == 0)
		err = take(c);
	/* What was taken may have to be answered: windows, settings. */
	if (err == 0 && c->h2)
		err = send_frames(c);
	ret = read_answer(c);
	/* What is more than fits is not read. */
	if (ret > 0 || (err == -EMSGSIZE && c->status_only && c->head))
		finish(c, NULL);
	else if (ret < 0)
		finish(c, "its answer is malformed");
	else if (err != 0)
		finish(c, strerror(-err));
	else if (c->eof || (c->stream && flat_http2_is_reset(c->stream)))
		finish(c, "the connection ended before its answer");
}

/* --- the call --- */

static void wake(void *user)
{
	/* The call looks after each feed. */
	(void)user;
}

static int begin(struct flat_call *c, const struct flat_call_question *q)
{
	int err = 0;

	put_question(c, q);
	flat_http1_begin(&c->reader, FLAT_HTTP1_RESPONSE);
	if (q->grpc || q->http2)
		err = flat_http2_open(&c->h2, FLAT_HTTP2_CLIENT, wake);
	if (err == 0 && c->h2) {
		c->stream = flat_http2_stream_open(c->h2, c);
		err = c->stream ? 0 : -ENOMEM;
	}
	if (err != 0 || c->out.failed)
		return -ENOMEM;
	/* Until it is open a send says EAGAIN, and then why it is not. */
	err = flat_sys_connect(c->source.fd, (const struct sockaddr *)q->addr, q->addr_len);
	if (err != 0 && err != -EINPROGRESS)
		return err;
	return flat_loop_poll(c->loop, &c->source, c->source.fd, POLLIN | POLLOUT | POLLRDHUP,
			      on_ready);
}

struct flat_call *flat_call_start(struct flat_loop *loop, const struct flat_call_question *q,
				  flat_call_fn *fn, void *arg)
{
	struct flat_call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->loop = loop;
	c->fn = fn;
	c->arg = arg;
	c->grpc = q->grpc;
	c->status_only = q->status_only;
	c->grpc_status = -1;
	c->deadline_us = q->deadline_us;
	c->source.fd =
	    flat_sys_socket(q->addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->source.fd < 0) {
		free(c);
		return NULL;
	}
	if (begin(c, q) == 0)
		return c;
	call_free(c);
	return NULL;
}

int flat_call_fd(const struct flat_call *c)
{
	return c->source.fd;
}

void flat_call_cancel(struct flat_call *c)
{
	if (c)
		call_free(c);
}

int flat_call_expire(struct flat_call *c, int64_t now_us)
{
	if (now_us < c->deadline_us)
		return (int)((c->deadline_us - now_us + 999) / 1000);
	finish(c, "no answer in time");
	return -1;
}
