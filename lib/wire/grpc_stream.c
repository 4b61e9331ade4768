#include "wire/grpc_stream.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys.h"
#include "codec/grpc.h"

#define FIELDS_MAX 16
/* Compressed or not, and the length (gRPC's PROTOCOL-HTTP2.md). */
#define PREFIX ((size_t)5)

struct call {
	const struct flat_grpc_call *how;
	nghttp2_session *h2;
	uint8_t prefix[PREFIX];
	size_t sent;  /* of prefix and message */
	uint8_t *buf; /* what came, from a prefix on */
	size_t len;
	size_t size;
	int err;
	int status; /* of gRPC; -1: none came */
	unsigned http;
	uint32_t reset; /* HTTP/2's error code; 0: no reset */
	char message[160];
	int64_t end_us; /* 0: none */
	bool over;
};

static int fail(struct call *c, int err, const char *why)
{
	if (c->err == 0 && why)
		snprintf(c->how->why, c->how->size, "%s", why);
	if (c->err == 0)
		c->err = err;
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* nghttp2 prescribes the parameters. */
/* NOLINTNEXTLINE(readability-function-size) */
static ssize_t on_give(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
		       nghttp2_data_source *source, void *arg)
{
	struct call *c = arg;
	size_t n = 0;
	(void)h2;
	(void)id;
	(void)source;
	while (c->sent < PREFIX && n < max)
		buf[n++] = c->prefix[c->sent++];
	size_t rest = flat_min_size(max - n, PREFIX + c->how->len - c->sent);
	if (rest > 0)
		memcpy(buf + n, c->how->message + c->sent - PREFIX, rest);
	c->sent += rest;
	if (c->sent == PREFIX + c->how->len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)(n + rest);
}

/* A status counts where the stream ends (PROTOCOL-HTTP2.md: Trailers, Trailers-Only). */
/* NOLINTNEXTLINE(readability-function-size) */
static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct call *c = arg;
	bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	/* What is no status is UNKNOWN, and never OK. */
	int status = flat_grpc_status_read((struct flat_span){(const char *)value, value_len});
	(void)h2;
	(void)flags;
	if (name_len == 7 && memcmp(name, ":status", 7) == 0)
		c->http = (unsigned)strtoul((const char *)value, NULL, 10);
	else if (last && name_len == 11 && memcmp(name, "grpc-status", 11) == 0)
		c->status = status < 0 ? FLAT_GRPC_UNKNOWN : status;
	else if (last && name_len == 12 && memcmp(name, "grpc-message", 12) == 0)
		snprintf(c->message, sizeof(c->message), ": %.*s",
			 (int)flat_min_size(value_len, sizeof(c->message) - 3),
			 (const char *)value);
	return 0;
}

static int grow(struct call *c, size_t need)
{
	size_t size = c->size ? c->size : 4096;
	while (size < need)
		size *= 2;
	uint8_t *buf = size == c->size ? c->buf : realloc(c->buf, size);
	if (!buf)
		return -ENOMEM;
	c->buf = buf;
	c->size = size;
	return 0;
}

/* Messages that are whole. */
static int take_messages(struct call *c)
{
	size_t at = 0;
	while (c->len - at >= PREFIX) {
		const uint8_t *p = c->buf + at;
		size_t len =
		    (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | (size_t)p[4];
		if (p[0] != 0)
			return fail(c, -EPROTO, "the answer is compressed, or is no gRPC");
		if (len > FLAT_GRPC_MESSAGE_MAX)
			return fail(c, -EMSGSIZE, "the answer is too large");
		if (c->len - at - PREFIX < len)
			break;
		int err = c->how->take(c->how->arg, p + PREFIX, len);
		if (err != 0)
			return fail(c, err, NULL);
		at += PREFIX + len;
	}
	if (at > 0)
		memmove(c->buf, c->buf + at, c->len - at);
	c->len -= at;
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size) */
static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
		   void *arg)
{
	struct call *c = arg;
	(void)h2;
	(void)flags;
	(void)id;
	if (grow(c, c->len + len) != 0)
		return fail(c, -ENOMEM, "out of memory");
	memcpy(c->buf + c->len, bytes, len);
	c->len += len;
	return take_messages(c);
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
	struct call *c = arg;
	(void)h2;
	(void)id;
	c->reset = code;
	c->over = true;
	return 0;
}

static int open_session(struct call *c)
{
	nghttp2_session_callbacks *cb;
	if (nghttp2_session_callbacks_new(&cb) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	int err = nghttp2_session_client_new(&c->h2, cb, c);
	nghttp2_session_callbacks_del(cb);
	return err == 0 ? 0 : -ENOMEM;
}

static nghttp2_nv field(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
			    .value = (uint8_t *)(uintptr_t)value,
			    .namelen = strlen(name),
			    .valuelen = strlen(value),
			    .flags = NGHTTP2_NV_FLAG_NONE};
}

static int ask(struct call *c)
{
	nghttp2_data_provider body = {.read_callback = on_give};
	nghttp2_settings_entry push = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
	const char *const *f = c->how->fields;
	nghttp2_nv v[FIELDS_MAX] = {
	    field(":method", "POST"),	  field(":scheme", c->how->ssl ? "https" : "http"),
	    field(":path", c->how->path), field(":authority", c->how->authority),
	    field("te", "trailers"),	  field("content-type", "application/grpc")};
	size_t n = 6;
	for (; *f && n < FIELDS_MAX; f += 2)
		v[n++] = field(f[0], f[1]);
	for (size_t i = 0; i < 4; i++)
		c->prefix[1 + i] = (uint8_t)(c->how->len >> (24 - 8 * i));
	if (nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, &push, 1) != 0 ||
	    nghttp2_submit_request(c->h2, NULL, v, n, &body, NULL) < 0)
		return -ENOMEM;
	return 0;
}

/*
 * A server that always has more to say is not waited for, so that time and stop are looked at here too. And where HTTP/2 is
 * broken, nghttp2 says GOAWAY, lets the stream stand, and ignores what follows.
 */
static bool may_go_on(struct call *c)
{
	struct pollfd stop = {.fd = c->how->stop_fd, .events = POLLIN};
	if (!nghttp2_session_want_read(c->h2))
		(void)fail(c, -EPROTO, "the server speaks no HTTP/2");
	else if (c->end_us && flat_now_us() >= c->end_us)
		(void)fail(c, -ETIMEDOUT, "no answer in time");
	else if (poll(&stop, 1, 0) > 0)
		(void)fail(c, -ECANCELED, "stopped");
	return c->err == 0;
}

/* Until the socket or the stop says something. 0, or the call is over. */
static int wait_for(struct call *c, short events)
{
	struct pollfd p[2] = {{.fd = c->how->fd, .events = events},
			      {.fd = c->how->stop_fd, .events = POLLIN}};
	int n;
	do {
		int64_t left_ms = c->end_us ? (c->end_us - flat_now_us()) / 1000 : -1;
		n = poll(p, 2, c->end_us && left_ms < 0 ? 0 : (int)left_ms);
	} while (n < 0);
	if (n == 0)
		return fail(c, -ETIMEDOUT, "no answer in time");
	return p[1].revents ? fail(c, -ECANCELED, "stopped") : 0;
}

/* What a call of OpenSSL's came to: its count, -EAGAIN after it has waited, or the call has failed. */
static ssize_t settle(struct call *c, int n)
{
	char text[200] = "the server ended the connection";
	int code = n > 0 ? 0 : SSL_get_error(c->how->ssl, n);
	long verified = SSL_get_verify_result(c->how->ssl);
	unsigned long e;
	if (n > 0)
		return n;
	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return wait_for(c, code == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT) == 0
			   ? -EAGAIN
			   : -ECONNRESET;
	e = ERR_peek_last_error();
	if (verified != X509_V_OK)
		snprintf(text, sizeof(text), "the server's certificate: %s",
			 X509_verify_cert_error_string(verified));
	else if (e != 0)
		ERR_error_string_n(e, text, sizeof(text));
	else if (code == SSL_ERROR_SYSCALL && errno != 0)
		snprintf(text, sizeof(text), "%s", strerror(errno));
	ERR_clear_error();
	(void)fail(c, -ECONNRESET, text);
	return -ECONNRESET;
}

/* Both wait for room or bytes, once; then they are to be called again. */
static ssize_t put(struct call *c, const uint8_t *bytes, size_t len)
{
	ERR_clear_error();
	errno = 0;
	if (c->how->ssl)
		return settle(c, SSL_write(c->how->ssl, bytes, (int)len));
	ssize_t n = flat_sys_send(c->how->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -EAGAIN)
		(void)wait_for(c, POLLOUT);
	return n;
}

static ssize_t get(struct call *c, uint8_t *buf, size_t len)
{
	ERR_clear_error();
	errno = 0;
	if (c->how->ssl)
		return settle(c, SSL_read(c->how->ssl, buf, (int)len));
	if (wait_for(c, POLLIN) != 0)
		return -EAGAIN;
	return flat_sys_recv(c->how->fd, buf, len, MSG_DONTWAIT);
}

static void send_all(struct call *c)
{
	const uint8_t *bytes;
	ssize_t n;
	while (c->err == 0 && (n = nghttp2_session_mem_send(c->h2, &bytes)) != 0) {
		if (n < 0) {
			(void)fail(c, -ENOMEM, "out of memory");
			return;
		}
		for (ssize_t at = 0; at < n && c->err == 0;) {
			ssize_t k = put(c, bytes + at, (size_t)(n - at));
			if (k > 0)
				at += k;
			else if (k != -EAGAIN && k != -EINTR)
				(void)fail(c, -ECONNRESET, strerror((int)-k));
		}
	}
}

static void receive(struct call *c)
{
	uint8_t buf[16384];
	ssize_t n = get(c, buf, sizeof(buf));
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		(void)fail(c, -ECONNRESET,
			   n < 0 ? strerror((int)-n) : "the server ended the connection");
	else if (nghttp2_session_mem_recv(c->h2, buf, (size_t)n) < 0)
		(void)fail(c, -EPROTO, "the server speaks no HTTP/2");
}

/* The server has ended the call. */
static void conclude(struct call *c)
{
	char text[240];
	if (c->status > 0)
		snprintf(text, sizeof(text), "gRPC status %d%s", c->status, c->message);
	else if (c->status == 0)
		snprintf(text, sizeof(text), "the answer ends within a message");
	else if (c->reset != NGHTTP2_NO_ERROR)
		snprintf(text, sizeof(text), "the call was reset: %s",
			 nghttp2_http2_strerror(c->reset));
	else
		snprintf(text, sizeof(text), "no gRPC: HTTP status %u", c->http);
	if (c->status != 0 || c->len > 0)
		(void)fail(c, -EPROTO, text);
}

int flat_grpc_stream(const struct flat_grpc_call *how)
{
	struct call c = {.how = how, .status = -1};
	if (how->timeout_ms)
		c.end_us = flat_now_us() + (int64_t)how->timeout_ms * 1000;
	if (how->ssl && SSL_set_fd(how->ssl, how->fd) != 1)
		(void)fail(&c, -ENOMEM, "out of memory");
	if (open_session(&c) != 0 || ask(&c) != 0)
		(void)fail(&c, -ENOMEM, "out of memory");
	while (c.err == 0 && !c.over) {
		send_all(&c);
		if (c.err == 0 && !c.over && may_go_on(&c))
			receive(&c);
	}
	if (c.err == 0)
		conclude(&c);
	nghttp2_session_del(c.h2);
	free(c.buf);
	return c.err;
}
