/* Blocks of fields, in the normal form of HTTP/1.1. */
#include <errno.h>
#include <stdio.h>

#include "codec/http1_scan.h"
#include "codec/http2_stream.h"

#define HEAD_MAX ((size_t)FLAT_HTTP_HEAD_BYTES_MAX)

/* Nothing came yet. */
static void reset(struct flat_http2_block *b)
{
	struct flat_http2_bytes text = b->text;
	struct flat_http2_bytes cookie = b->cookie;
	struct flat_http2_bytes host = b->host;
	size_t from = offsetof(struct flat_http2_block, text);

	memset((char *)b + from, 0, sizeof(*b) - from);
	b->text = text;
	b->cookie = cookie;
	b->host = host;
	b->text.len = b->cookie.len = b->host.len = 0;
	b->made.len = 0;
}

/* Fields that were seen, but for the first `n`. */
static void forget(struct flat_http2_block *b, uint32_t n)
{
	while (b->n_seen > n) {
		b->n_seen--;
		nghttp2_rcbuf_decref(b->seen[b->n_seen].name);
		nghttp2_rcbuf_decref(b->seen[b->n_seen].value);
	}
}

void flat_http2_block_begin(struct flat_http2_block *b, int32_t stream)
{
	b->same = b->known;
	b->known = false;
	b->n_same = 0;
	if (!b->same) {
		forget(b, 0);
		reset(b);
	}
	b->stream = stream;
	b->open = true;
}

void flat_http2_block_fini(struct flat_http2_block *b)
{
	forget(b, 0);
	flat_http2_bytes_free(&b->made);
	flat_http2_bytes_free(&b->text);
	flat_http2_bytes_free(&b->cookie);
	flat_http2_bytes_free(&b->host);
}

static int add(struct flat_http2_block *b, const void *text, size_t len)
{
	return flat_http2_bytes_add(&b->text, text, len, HEAD_MAX);
}

/* Keeps a value by itself; where it lies. */
static int keep(struct flat_http2_block *b, struct flat_span value, uint32_t *at, uint32_t *len)
{
	*at = (uint32_t)b->text.len;
	*len = (uint32_t)value.len;
	return add(b, value.text, value.len);
}

static bool is(struct flat_span name, const char *what)
{
	return flat_span_equal(name, flat_span_of(what), false);
}

/* nghttp2 holds them to be there, once, before the others, and none in trailers (RFC 9113, 8.3). */
static int add_pseudo(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	int err = 0;

	if (is(name, ":method")) {
		err = keep(b, value, &b->method, &b->method_len);
	} else if (is(name, ":path")) {
		err = keep(b, value, &b->path, &b->path_len);
	} else if (is(name, ":authority")) {
		b->has_authority = true;
		err = keep(b, value, &b->authority, &b->authority_len);
	} else if (is(name, ":status")) {
		for (size_t i = 0; i < value.len && i < 3; i++)
			b->status = b->status * 10 + (unsigned)(value.text[i] - '0');
		if (value.len != 3 || b->status < 100 || b->status > 599)
			return -EBADMSG;
	} else if (!is(name, ":scheme")) {
		return -EBADMSG;
	}
	return err;
}

static int add_line(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	int err = add(b, name.text, name.len);

	if (err == 0)
		err = add(b, ": ", 2);
	if (err == 0)
		err = add(b, value.text, value.len);
	return err ? err : add(b, "\r\n", 2);
}

static int add_length(struct flat_http2_block *b, struct flat_span value)
{
	if (b->has_length || value.len < 1 || value.len > 18)
		return -EBADMSG;
	for (size_t i = 0; i < value.len; i++) {
		if (value.text[i] < '0' || value.text[i] > '9')
			return -EBADMSG;
	}
	memcpy(b->length, value.text, value.len);
	b->length[value.len] = 0;
	b->has_length = true;
	return 0;
}

static int add_field(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	int err;

	switch (flat_http_name_of(name.text, name.len)) {
	case FLAT_HTTP_HOST:
		if (b->has_host)
			return -EBADMSG;
		b->has_host = true;
		return flat_http2_bytes_add(&b->host, value.text, value.len, FLAT_HTTP_HOST_MAX);
	case FLAT_HTTP_CONTENT_LENGTH:
		return add_length(b, value);
	case FLAT_HTTP_COOKIE:
		err = b->cookie.len ? flat_http2_bytes_add(&b->cookie, "; ", 2, HEAD_MAX) : 0;
		if (err == 0)
			err = flat_http2_bytes_add(&b->cookie, value.text, value.len, HEAD_MAX);
		return err;
	default:
		if (is(name, "content-type"))
			b->grpc = flat_http_is_grpc(value);
		return add_line(b, name, value);
	}
}

static int take(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	bool pseudo = name.len > 0 && name.text[0] == ':';
	int err;

	/* Counted first, whatever becomes of it. */
	b->n += !pseudo;
	if (name.len + value.len + 4 > FLAT_HTTP2_DROPPED_MAX - b->bytes)
		return -EMSGSIZE;
	b->bytes += (uint32_t)(name.len + value.len + 4);
	if (b->bytes > HEAD_MAX || b->n > FLAT_HTTP_FIELDS_MAX) {
		b->too_large = true;
		return 0;
	}
	/* Nothing in a line may end it: nghttp2 looks for it too. */
	if (name.len == 0 ||
	    flat_find_control((const uint8_t *)name.text, 0, name.len) != name.len ||
	    flat_find_control((const uint8_t *)value.text, 0, value.len) != value.len)
		return -EBADMSG;
	if (pseudo) {
		err = add_pseudo(b, name, value);
		b->fields = b->text.len;
		return err;
	}
	err = add_field(b, name, value);
	if (err == -EMSGSIZE) {
		b->too_large = true;
		return 0;
	}
	return err;
}

static struct flat_span span_of(nghttp2_rcbuf *buf)
{
	nghttp2_vec v = nghttp2_rcbuf_get_buf(buf);

	return (struct flat_span){(const char *)v.base, v.len};
}

/* It is another block than the one before: what it began with is taken as it comes. */
static int part(struct flat_http2_block *b)
{
	int32_t stream = b->stream;
	int err = 0;

	b->same = false;
	forget(b, b->n_same);
	reset(b);
	b->stream = stream;
	b->open = true;
	for (uint32_t i = 0; i < b->n_seen && err == 0; i++)
		err = take(b, span_of(b->seen[i].name), span_of(b->seen[i].value));
	return err;
}

int flat_http2_block_add(struct flat_http2_block *b, nghttp2_rcbuf *name, nghttp2_rcbuf *value)
{
	int err = 0;

	if (b->same && b->n_same < b->n_seen && b->seen[b->n_same].name == name &&
	    b->seen[b->n_same].value == value) {
		b->n_same++;
		return 0;
	}
	if (b->same)
		err = part(b);
	if (err != 0)
		return err;
	if (b->n_seen < FLAT_HTTP2_SEEN_MAX) {
		nghttp2_rcbuf_incref(name);
		nghttp2_rcbuf_incref(value);
		b->seen[b->n_seen].name = name;
		b->seen[b->n_seen].value = value;
		b->n_seen++;
	}
	return take(b, span_of(name), span_of(value));
}

int flat_http2_block_end(struct flat_http2_block *b)
{
	int err = b->same && b->n_same < b->n_seen ? part(b) : 0;

	b->open = false;
	/* As many as are remembered may not be all. */
	b->known = err == 0 && b->n_seen < FLAT_HTTP2_SEEN_MAX && !b->too_large &&
		   b->bytes <= FLAT_HTTP2_SEEN_BYTES;
	return err;
}

/* --- a head --- */

struct text {
	struct flat_http2_stream *s;
	int err;
};

static void put(struct text *t, const void *text, size_t len)
{
	/* Interim heads before it may wait to be read. */
	if (t->err == 0)
		t->err = flat_http2_bytes_add(&t->s->rx_text, text, len, 2 * HEAD_MAX);
}

static void puts_of(struct text *t, const char *text)
{
	put(t, text, strlen(text));
}

static struct flat_span span(const struct flat_http2_block *b, uint32_t at, uint32_t len)
{
	return flat_head_span(b->text.v, at, len);
}

static int put_request(struct text *t, const struct flat_http2_block *b)
{
	struct flat_span authority = span(b, b->authority, b->authority_len);
	struct flat_span host = {(const char *)b->host.v, b->host.len};
	struct flat_span method = span(b, b->method, b->method_len);
	bool connect = is(method, "CONNECT");

	/* RFC 9113, 8.3.1: a host that is not the authority means two servers. */
	if (b->has_authority && b->has_host && !flat_span_equal(authority, host, true))
		return -EBADMSG;
	t->s->method_id = (uint8_t)flat_http_method_of(method);
	put(t, method.text, method.len);
	puts_of(t, " ");
	put(t, connect ? authority.text : (const char *)b->text.v + b->path,
	    connect ? authority.len : b->path_len);
	puts_of(t, " HTTP/1.1\r\n");
	if (b->has_authority || b->has_host) {
		puts_of(t, "host: ");
		put(t, b->has_authority ? authority.text : host.text,
		    b->has_authority ? authority.len : host.len);
		puts_of(t, "\r\n");
	}
	return 0;
}

static void put_status(struct text *t, const struct flat_http2_block *b)
{
	uint8_t line[80];
	struct flat_http1_out out = {.bytes = line, .size = sizeof(line)};

	flat_http1_put_status_line(&out, b->status, (struct flat_span){NULL, 0});
	put(t, line, out.len);
}

/* Whether receivers expect to be told that there is no body (RFC 9110, 8.6). */
static bool wants_length(const struct flat_http2_block *b, const struct flat_http2_stream *s)
{
	struct flat_span method;

	if (b->status)
		return s->method_id != FLAT_METHOD_HEAD && b->status != 204 && b->status != 304;
	method = span(b, b->method, b->method_len);
	return is(method, "POST") || is(method, "PUT") || is(method, "PATCH");
}

/* How the text says where the body ends. */
static void put_framing(struct text *t, const struct flat_http2_block *b)
{
	struct flat_http2_stream *s = t->s;
	bool none = b->status && !wants_length(b, s);

	s->rx_kind = FLAT_BODY_NONE;
	if (b->has_length && (s->rx_end || none || !b->grpc)) {
		s->rx_kind = s->rx_end || none ? FLAT_BODY_NONE : FLAT_BODY_LENGTH;
		puts_of(t, "content-length: ");
		puts_of(t, b->length);
		puts_of(t, "\r\n");
	} else if (s->rx_end && wants_length(b, s)) {
		puts_of(t, "content-length: 0\r\n");
	} else if (!s->rx_end && !none) {
		/* A length would leave no place for trailers, which gRPC ends with. */
		s->rx_kind = FLAT_BODY_CHUNKED;
		puts_of(t, "transfer-encoding: chunked\r\n");
	}
}

static void put_fields(struct text *t, const struct flat_http2_block *b)
{
	if (b->text.len > b->fields)
		put(t, b->text.v + b->fields, b->text.len - b->fields);
}

/* The text is that of the block before. False: it was not, or its stream was another. */
static bool is_made(const struct flat_http2_block *b, const struct flat_http2_stream *s)
{
	return b->same && b->made.len > 0 && b->made_end == s->rx_end &&
	       (b->status == 0 || b->made_method == s->method_id);
}

static int put_made(const struct flat_http2_block *b, struct flat_http2_stream *s)
{
	int err = flat_http2_bytes_add(&s->rx_text, b->made.v, b->made.len, 2 * HEAD_MAX);

	s->too_large = false;
	s->rx_head = true;
	s->rx_kind = b->made_kind;
	s->method_id = b->made_method;
	return err == -EMSGSIZE ? -EBADMSG : err;
}

/* `len` bytes at the end of the stream's text are what the block says, should it come again. */
static void keep_made(struct flat_http2_block *b, const struct flat_http2_stream *s, size_t len)
{
	b->made.at = b->made.len = 0;
	if (!b->known || !s->rx_head ||
	    flat_http2_bytes_add(&b->made, s->rx_text.v + s->rx_text.len - len, len, HEAD_MAX) != 0)
		return;
	b->made_end = s->rx_end;
	b->made_kind = s->rx_kind;
	b->made_method = s->method_id;
}

int flat_http2_block_head(struct flat_http2_block *b, struct flat_http2_stream *s)
{
	struct text t = {.s = s};
	bool request = b->method_len > 0;
	size_t before = s->rx_text.len - s->rx_text.at;
	int err = 0;

	if (is_made(b, s))
		return put_made(b, s);
	s->too_large = b->too_large;
	if (!request && b->too_large)
		return -EBADMSG;
	if (request)
		err = put_request(&t, b);
	else
		put_status(&t, b);
	if (err != 0)
		return err;
	s->rx_head = request || b->status >= 200;
	if (!b->too_large) {
		put_fields(&t, b);
		if (b->cookie.len) {
			puts_of(&t, "cookie: ");
			put(&t, b->cookie.v, b->cookie.len);
			puts_of(&t, "\r\n");
		}
		if (s->rx_head)
			put_framing(&t, b);
	}
	puts_of(&t, "\r\n");
	if (t.err == 0)
		keep_made(b, s, s->rx_text.len - s->rx_text.at - before);
	return t.err == -EMSGSIZE ? -EBADMSG : t.err;
}

int flat_http2_block_trailers(struct flat_http2_block *b, struct flat_http2_stream *s)
{
	int err = 0;

	if (b->too_large)
		return -EBADMSG;
	if (b->text.len > b->fields)
		err = flat_http2_bytes_add(&s->rx_fields, b->text.v + b->fields,
					   b->text.len - b->fields,
					   (size_t)FLAT_HTTP_TRAILER_BYTES_MAX);
	return err == -EMSGSIZE ? -EBADMSG : err;
}
