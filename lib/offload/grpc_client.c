#include "offload/grpc_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/strbuf.h"
#include "base/sys.h"
#include "codec/grpc.h"
#include "codec/http1.h"
#include "codec/http2.h"
#include "offload/worker.h"

/* A message of gRPC: compressed or not, and its length, big endian. */
#define PREFIX_BYTES ((size_t)5)
/* Bytes of frames that are gathered before they are sent. */
#define WIRE_BYTES ((size_t)32 * 1024)

/* A connection. Owner: its channel, and its calls; the last of them frees it. */
struct link {
	struct flat_loop *loop;
	struct flat_source source;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct flat_call_channel *channel; /* that gives it further calls; NULL: none comes */
	TAILQ_HEAD(, flat_call) calls;
	TAILQ_HEAD(, flat_call) woken; /* those that are to be looked at */
	uint32_t n_calls;
	bool busy; /* being looked at: it stays */
	bool used; /* a call was answered on it */
	bool eof;
	struct flat_http2 *h2;	 /* NULL: HTTP/1.1, of one call */
	struct flat_strbuf wire; /* frames that the socket did not take yet */
	size_t wire_at;
};

struct flat_call_channel {
	struct flat_loop *loop;
	struct link *link; /* NULL: none, or it takes no calls any more */
	uint32_t n_calls;
};

struct flat_call {
	TAILQ_ENTRY(flat_call) entry, woken_entry;
	struct link *link;
	struct flat_call_channel *channel; /* NULL: its connection is its own */
	flat_call_fn *fn;
	void *arg;
	int64_t deadline_us;
	bool grpc;
	bool status_only;
	bool woken;
	bool again;			  /* it was asked before */
	struct flat_http2_stream *stream; /* NULL: HTTP/1.1 */
	struct flat_strbuf out;		  /* the request in the form of HTTP/1.1 */
	size_t out_at;
	struct flat_strbuf in; /* the answer, likewise */
	size_t in_at;
	bool head; /* is read */
	struct flat_http1 reader, trailers;
	struct flat_http1_body body;
	struct flat_strbuf message;
	unsigned status;
	int grpc_status; /* -1: none was seen */
};

/* --- connections --- */

/* Frees it where nobody has it any more. */
static void link_put(struct link *k)
{
	if (k->busy || k->channel || k->n_calls > 0)
		return;
	flat_loop_close(k->loop, &k->source);
	flat_http2_close(k->h2);
	flat_strbuf_fini(&k->wire);
	free(k);
}

/* It gets no further calls. */
static void link_retire(struct link *k)
{
	if (k->channel)
		k->channel->link = NULL;
	k->channel = NULL;
}

static void leave(struct flat_call *c)
{
	struct link *k = c->link;

	if (c->woken)
		TAILQ_REMOVE(&k->woken, c, woken_entry);
	c->woken = false;
	TAILQ_REMOVE(&k->calls, c, entry);
	k->n_calls--;
	c->link = NULL;
	if (c->stream)
		flat_http2_release(c->stream);
	c->stream = NULL;
}

static int join(struct flat_call *c, struct link *k)
{
	if (k->h2) {
		c->stream = flat_http2_stream_open(k->h2, c);
		if (!c->stream)
			return -ENOMEM;
	}
	c->link = k;
	TAILQ_INSERT_TAIL(&k->calls, c, entry);
	k->n_calls++;
	return 0;
}

static void call_free(struct flat_call *c)
{
	struct link *k = c->link;

	if (k) {
		leave(c);
		link_put(k);
	}
	if (c->channel)
		c->channel->n_calls--;
	flat_strbuf_fini(&c->out);
	flat_strbuf_fini(&c->in);
	flat_strbuf_fini(&c->message);
	free(c);
}

/* Leaves the message; what has a status instead has none. False: it is not one whole message, not compressed. */
static bool take_prefix(struct flat_call_answer *a)
{
	const uint8_t *p = a->bytes;
	bool bare = a->len == 0 && a->grpc != 0;

	if (bare)
		return true;
	if (a->len < PREFIX_BYTES || p[0] != 0 ||
	    ((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]) !=
		a->len - PREFIX_BYTES)
		return a->grpc != 0;
	a->bytes += PREFIX_BYTES;
	a->len -= PREFIX_BYTES;
	return true;
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
	if (!a.why && c->grpc && !take_prefix(&a))
		a.why = "the answer is not one message";
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
static int send_text(struct link *k, struct flat_strbuf *from, size_t *at)
{
	while (*at < from->len) {
		ssize_t n = flat_sys_send(k->source.fd, from->data + *at, from->len - *at,
					  MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		*at += (size_t)n;
	}
	return 0;
}

/* As much of the question as its stream takes. */
static int put_more(struct flat_call *c)
{
	ssize_t n = 1;

	while (c->out_at < c->out.len && n > 0) {
		n = flat_http2_write(c->stream, (const uint8_t *)c->out.data + c->out_at,
				     c->out.len - c->out_at);
		if (n < 0)
			return (int)n;
		c->out_at += (size_t)n;
	}
	return 0;
}

static int send_frames(struct link *k)
{
	const uint8_t *bytes;
	ssize_t n = 1;

	for (;;) {
		int err = send_text(k, &k->wire, &k->wire_at);

		if (err != 0 || k->wire_at < k->wire.len || n == 0)
			return err;
		flat_strbuf_reset(&k->wire);
		k->wire_at = 0;
		/* A question's frames go with one system call. */
		while (k->wire.len < WIRE_BYTES && (n = flat_http2_drain(k->h2, &bytes)) > 0)
			flat_strbuf_add(&k->wire, bytes, (size_t)n);
		if (n < 0 || k->wire.failed)
			return n < 0 ? (int)n : -ENOMEM;
	}
}

static int send_more(struct link *k)
{
	struct flat_call *c = TAILQ_FIRST(&k->calls);
	bool more = true;
	int err = 0;

	if (!k->h2)
		return c ? send_text(k, &c->out, &c->out_at) : 0;
	/* What went makes room for more of a question that did not fit its stream. */
	while (more && err == 0) {
		err = send_frames(k);
		more = false;
		TAILQ_FOREACH(c, &k->woken, woken_entry)
		{
			size_t before = c->out_at;

			if (put_more(c) == 0)
				more |= c->out_at > before;
		}
	}
	return err;
}

/* --- back --- */

/* What the socket has: to the codec, or to the one call. */
static int receive(struct link *k)
{
	struct flat_call *c = TAILQ_FIRST(&k->calls);
	uint8_t bytes[16384];

	for (;;) {
		ssize_t got = flat_sys_recv(k->source.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (got == -EAGAIN)
			return 0;
		if (got < 0)
			return (int)got;
		k->eof = got == 0;
		if (k->eof)
			return 0;
		if (k->h2 && flat_http2_feed(k->h2, bytes, (size_t)got, flat_now_us()) != 0)
			return -EPROTO;
		if (k->h2)
			continue;
		if (!c || c->in.len > FLAT_CALL_ANSWER_MAX)
			return -EMSGSIZE;
		flat_strbuf_add(&c->in, bytes, (size_t)got);
	}
}

/* What its stream has. */
static int take(struct flat_call *c)
{
	uint8_t bytes[16384];
	size_t n;

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
	    (c->link->eof || (c->stream && flat_http2_read_all(c->stream))))
		return 1;
	return 0;
}

static int ask_again(struct flat_call *c);

/* The connection, or the stream, is over without an answer. */
static void broke(struct flat_call *c, const char *why)
{
	bool stale = c->channel && !c->again && c->in.len == 0 &&
		     (c->link->used || (c->stream && flat_http2_is_refused(c->stream)));

	if (!stale || ask_again(c) != 0)
		finish(c, why);
}

/* `err` is of the connection: no more comes. */
static void look(struct flat_call *c, int err)
{
	struct link *k = c->link;
	int own = take(c);
	int ret = read_answer(c);
	/* What is more than fits is not read. */
	bool enough = c->status_only && c->head && (own == -EMSGSIZE || err == -EMSGSIZE);

	if (ret == 0 && own == 0 && c->stream && put_more(c) != 0)
		own = -EBADMSG;
	k->used |= ret > 0;
	if (ret > 0 || enough)
		finish(c, NULL);
	else if (ret < 0)
		finish(c, "its answer is malformed");
	else if (own != 0)
		finish(c, strerror(-own));
	else if (err != 0)
		broke(c, strerror(-err));
	else if (k->eof || (c->stream && flat_http2_is_reset(c->stream)))
		broke(c, "the connection ended before its answer");
}

static void on_ready(struct flat_source *source, int events)
{
	struct link *k = FLAT_CONTAINER_OF(source, struct link, source);
	struct flat_call *c;
	int err = send_more(k);
	bool over;

	(void)events;
	if (err == 0)
		err = receive(k);
	over = err != 0 || k->eof;
	if (over || (k->h2 && !flat_http2_usable(k->h2)))
		link_retire(k);
	k->busy = true;
	while (!over && k->h2 && (c = TAILQ_FIRST(&k->woken)) != NULL) {
		TAILQ_REMOVE(&k->woken, c, woken_entry);
		c->woken = false;
		look(c, 0);
	}
	/* Of HTTP/1.1 the one there is; where it is over, all of them: none stays. */
	while ((over || !k->h2) && (c = TAILQ_FIRST(&k->calls)) != NULL) {
		/* Whoever is freed has left the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		look(c, err);
		if (!over)
			break;
	}
	k->busy = false;
	/* What was read may have to be answered: windows, settings. What is wrong with the socket is told there, soon. */
	if (!over && k->h2)
		(void)send_more(k);
	link_put(k);
}

/* --- the call --- */

static void wake(void *user)
{
	struct flat_call *c = user;

	if (c->woken || !c->link)
		return;
	c->woken = true;
	TAILQ_INSERT_TAIL(&c->link->woken, c, woken_entry);
}

/* A new connection, on its way. 0, or a negative errno. */
static int link_new(struct link **out, struct flat_loop *loop, const struct sockaddr_storage *addr,
		    socklen_t len, bool h2)
{
	struct link *k = calloc(1, sizeof(*k));
	int one = 1;
	int err;

	if (!k)
		return -ENOMEM;
	k->loop = loop;
	k->addr = *addr;
	k->addr_len = len;
	TAILQ_INIT(&k->calls);
	TAILQ_INIT(&k->woken);
	k->source.fd =
	    flat_sys_socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = k->source.fd < 0 ? k->source.fd : 0;
	if (err == 0)
		(void)flat_sys_setsockopt(k->source.fd, IPPROTO_TCP, TCP_NODELAY, &one,
					  sizeof(one));
	if (err == 0 && h2)
		err = flat_http2_open(&k->h2, FLAT_HTTP2_CLIENT, wake);
	/* Until it is open a send says EAGAIN, and then why it is not. */
	if (err == 0)
		err = flat_sys_connect(k->source.fd, (const struct sockaddr *)addr, len);
	if (err == 0 || err == -EINPROGRESS)
		err = flat_loop_poll(loop, &k->source, k->source.fd, POLLIN | POLLOUT | POLLRDHUP,
				     on_ready);
	if (err == 0) {
		*out = k;
		return 0;
	}
	if (k->source.fd >= 0)
		flat_loop_close(loop, &k->source);
	flat_http2_close(k->h2);
	free(k);
	return err;
}

/* The channel's connection to an address, or a new one. NULL: there is none to be had. */
static struct link *link_of(struct flat_call_channel *channel, const struct sockaddr_storage *addr,
			    socklen_t len)
{
	struct link *k = channel->link;

	if (k && (k->addr_len != len || memcmp(&k->addr, addr, len) != 0)) {
		link_retire(k);
		link_put(k);
		k = NULL;
	}
	if (!k && link_new(&k, channel->loop, addr, len, true) != 0)
		return NULL;
	channel->link = k;
	k->channel = channel;
	return k;
}

static int ask_again(struct flat_call *c)
{
	struct link *old = c->link;
	struct sockaddr_storage addr = old->addr;
	socklen_t len = old->addr_len;
	struct link *k;

	c->again = true;
	/* The new one is not the old one: that took no call any more, or is told so now. */
	link_retire(old);
	k = link_of(c->channel, &addr, len);
	if (!k)
		return -ENOMEM;
	leave(c);
	c->out_at = 0;
	return join(c, k) == 0 && put_more(c) == 0 ? 0 : -ENOMEM;
}

static int begin(struct flat_call *c, const struct flat_call_question *q, struct flat_loop *loop)
{
	struct link *k = NULL;
	int err = 0;

	put_question(c, q);
	flat_http1_begin(&c->reader, FLAT_HTTP1_RESPONSE);
	if (c->out.failed)
		return -ENOMEM;
	if (c->channel)
		k = link_of(c->channel, q->addr, q->addr_len);
	else
		err = link_new(&k, loop, q->addr, q->addr_len, q->grpc || q->http2);
	if (!k)
		return err ? err : -ENOMEM;
	err = join(c, k);
	if (err == 0 && c->stream)
		err = put_more(c);
	/* What is wrong with the socket is told by the loop: not before this has returned. */
	if (err == 0 && k->h2)
		(void)send_more(k);
	if (err != 0 && !c->link)
		link_put(k);
	return err;
}

struct flat_call *flat_call_start(struct flat_loop *loop, const struct flat_call_question *q,
				  flat_call_fn *fn, void *arg)
{
	struct flat_call *c;

	if (q->channel && q->channel->n_calls >= FLAT_CALLS_MAX)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->fn = fn;
	c->arg = arg;
	c->grpc = q->grpc;
	c->status_only = q->status_only;
	c->grpc_status = -1;
	c->deadline_us = q->deadline_us;
	c->channel = q->channel;
	if (c->channel)
		c->channel->n_calls++;
	if (begin(c, q, loop) == 0)
		return c;
	call_free(c);
	return NULL;
}

int flat_call_fd(const struct flat_call *c)
{
	return c->link->source.fd;
}

/* A stream that is dropped is reset, which its server should hear. */
static void hush(struct link *k)
{
	if (k && !k->busy)
		(void)send_more(k);
}

void flat_call_cancel(struct flat_call *c)
{
	struct link *k = c && c->channel ? c->channel->link : NULL;

	if (!c)
		return;
	call_free(c);
	hush(k);
}

int flat_call_expire(struct flat_call *c, int64_t now_us)
{
	struct flat_call_channel *channel = c->channel;

	if (now_us < c->deadline_us)
		return (int)((c->deadline_us - now_us + 999) / 1000);
	finish(c, "no answer in time");
	hush(channel ? channel->link : NULL);
	return -1;
}

/* --- channels --- */

struct flat_call_channel *flat_call_channel_open(struct flat_loop *loop)
{
	struct flat_call_channel *channel = calloc(1, sizeof(*channel));

	if (channel)
		channel->loop = loop;
	return channel;
}

void flat_call_channel_close(struct flat_call_channel *channel)
{
	struct link *k = channel ? channel->link : NULL;

	if (k) {
		link_retire(k);
		link_put(k);
	}
	free(channel);
}
