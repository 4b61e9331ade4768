/* Blocks of fields, in the normal form of HTTP/1.1. */
#include <errno.h>
#include <stdlib.h>

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
	b->raw_len = 0;
}

void flat_http2_block_begin(struct flat_http2_block *b, enum flat_http1_what what)
{
	reset(b);
	b->what = (uint8_t)what;
}

void flat_http2_block_fini(struct flat_http2_block *b)
{
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

/* Pseudo-fields, by bits. */
enum pseudo {
	METHOD = 1,
	SCHEME = 2,
	AUTHORITY = 4,
	PATH = 8,
	STATUS = 16,
};

static enum pseudo pseudo_of(struct flat_span name)
{
	switch (name.len) {
	case 5:
		return is(name, ":path") ? PATH : 0;
	case 7:
		return is(name, ":method")   ? METHOD
		       : is(name, ":scheme") ? SCHEME
		       : is(name, ":status") ? STATUS
					     : 0;
	case 10:
		return is(name, ":authority") ? AUTHORITY : 0;
	default:
		return 0;
	}
}

/* RFC 3986, 3.1. */
static bool is_scheme(struct flat_span v)
{
	for (size_t i = 0; i < v.len; i++) {
		char c = (char)(v.text[i] | 0x20);

		if ((c < 'a' || c > 'z') &&
		    (i == 0 || ((v.text[i] < '0' || v.text[i] > '9') && v.text[i] != '+' &&
				v.text[i] != '-' && v.text[i] != '.')))
			return false;
	}
	return true;
}

static int read_status(struct flat_http2_block *b, struct flat_span value)
{
	if (value.len != 3)
		return -EBADMSG;
	for (size_t i = 0; i < 3; i++) {
		if (value.text[i] < '0' || value.text[i] > '9')
			return -EBADMSG;
		b->status = b->status * 10 + (unsigned)(value.text[i] - '0');
	}
	/* There is nothing in HTTP/2 to switch to (RFC 9113, 8.6). */
	return b->status < 100 || b->status > 599 || b->status == 101 ? -EBADMSG : 0;
}

/* Pseudo-fields come before the others, once, and are those of the message (RFC 9113, 8.3). */
static int check_pseudo(struct flat_http2_block *b, enum pseudo bit, struct flat_span value)
{
	const uint8_t *v = (const uint8_t *)value.text;
	bool good = true;

	if (!bit || b->regular || (b->pseudo & bit) || value.len == 0 ||
	    b->what == FLAT_HTTP1_TRAILERS || (b->what == FLAT_HTTP1_RESPONSE) != (bit == STATUS))
		return -EBADMSG;
	b->pseudo |= (uint8_t)bit;
	switch (bit) {
	case METHOD:
		good = nghttp2_check_method(v, value.len);
		break;
	case SCHEME:
		good = is_scheme(value);
		break;
	case AUTHORITY:
		good = nghttp2_check_authority(v, value.len);
		break;
	case PATH:
		good = nghttp2_check_path(v, value.len);
		break;
	default:
		return read_status(b, value);
	}
	return good ? 0 : -EBADMSG;
}

static int add_pseudo(struct flat_http2_block *b, enum pseudo bit, struct flat_span value)
{
	switch (bit) {
	case METHOD:
		return keep(b, value, &b->method, &b->method_len);
	case PATH:
		return keep(b, value, &b->path, &b->path_len);
	case AUTHORITY:
		b->has_authority = true;
		return keep(b, value, &b->authority, &b->authority_len);
	default:
		return 0;
	}
}

/* What HTTP/1's connections say has no place here (RFC 9113, 8.2). */
static int check_field(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	const uint8_t *v = (const uint8_t *)value.text;

	b->regular = true;
	if (name.len == 0 || !nghttp2_check_header_name((const uint8_t *)name.text, name.len) ||
	    !nghttp2_check_header_value_rfc9113(v, value.len))
		return -EBADMSG;
	switch (flat_http_name_of(name.text, name.len)) {
	case FLAT_HTTP_CONNECTION:
	case FLAT_HTTP_KEEP_ALIVE:
	case FLAT_HTTP_PROXY_CONNECTION:
	case FLAT_HTTP_TRANSFER_ENCODING:
	case FLAT_HTTP_UPGRADE:
		return -EBADMSG;
	case FLAT_HTTP_TE:
		return flat_span_equal(value, flat_span_of("trailers"), true) ? 0 : -EBADMSG;
	case FLAT_HTTP_HOST:
		return value.len > 0 && nghttp2_check_authority(v, value.len) ? 0 : -EBADMSG;
	default:
		return 0;
	}
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
	enum pseudo bit = pseudo ? pseudo_of(name) : 0;
	int err;

	/* Counted first, whatever becomes of it. */
	b->n += !pseudo;
	if (name.len + value.len + 4 > FLAT_HTTP2_DROPPED_MAX - b->bytes)
		return -EMSGSIZE;
	b->bytes += (uint32_t)(name.len + value.len + 4);
	if (b->err != 0)
		return b->err;
	err = pseudo ? check_pseudo(b, bit, value) : check_field(b, name, value);
	if (err != 0)
		return err;
	if (b->bytes > HEAD_MAX || b->n > FLAT_HTTP_FIELDS_MAX) {
		b->too_large = true;
		return 0;
	}
	if (pseudo) {
		err = add_pseudo(b, bit, value);
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

void flat_http2_block_add(struct flat_http2_block *b, struct flat_span name, struct flat_span value)
{
	/* Far too large is the peer's fault, whatever else there is of the stream's. */
	if (b->err != -EMSGSIZE && b->err != -ENOMEM)
		b->err = take(b, name, value);
}

/* RFC 9113, 8.3.1. */
static bool is_request_whole(const struct flat_http2_block *b)
{
	struct flat_span method;
	struct flat_span path;

	/* Or it was not kept, for a path before it that is all too large. */
	if (b->method_len == 0)
		return false;
	method = flat_head_span(b->text.v, b->method, b->method_len);
	path = flat_head_span(b->text.v, b->path, b->path_len);
	if (is(method, "CONNECT"))
		return b->pseudo == (METHOD | AUTHORITY);
	if ((b->pseudo & (SCHEME | PATH)) != (SCHEME | PATH) ||
	    (!(b->pseudo & AUTHORITY) && !b->has_host))
		return false;
	return b->too_large || path.text[0] == '/' || (is(method, "OPTIONS") && is(path, "*"));
}

/* Interim responses have no length, and what has no content has none of it (RFC 9110, 8.6). */
static bool is_response_whole(struct flat_http2_block *b)
{
	if (!(b->pseudo & STATUS))
		return false;
	if (!b->has_length || (b->status >= 200 && b->status != 204))
		return true;
	b->has_length = false;
	return b->status == 204 && b->length[0] == '0' && b->length[1] == 0;
}

void flat_http2_block_end(struct flat_http2_block *b)
{
	bool whole = b->what == FLAT_HTTP1_REQUEST    ? is_request_whole(b)
		     : b->what == FLAT_HTTP1_RESPONSE ? is_response_whole(b)
						      : true;

	if (b->err == 0 && !whole)
		b->err = -EBADMSG;
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
	if (none)
		s->rx_length = 0;
	else if (b->has_length)
		s->rx_length = strtoll(b->length, NULL, 10);
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

/* What it makes is what it made before. False: it made nothing, or for another stream. */
static bool is_made(const struct flat_http2_block *b, const struct flat_http2_stream *s)
{
	return b->made.len > 0 && b->made_end == s->rx_end &&
	       (b->status == 0 || b->made_method == s->method_id);
}

static int put_made(const struct flat_http2_block *b, struct flat_http2_stream *s)
{
	int err = flat_http2_bytes_add(&s->rx_text, b->made.v, b->made.len, 2 * HEAD_MAX);

	s->too_large = false;
	s->rx_head = true;
	s->rx_kind = b->made_kind;
	s->method_id = b->made_method;
	s->rx_length = b->made_length;
	return err == -EMSGSIZE ? -EBADMSG : err;
}

/* `len` bytes at the end of the stream's text are what the block says, should it come again. */
static void keep_made(struct flat_http2_block *b, const struct flat_http2_stream *s, size_t len)
{
	b->made.at = b->made.len = 0;
	if (b->raw_len == 0 || !s->rx_head ||
	    flat_http2_bytes_add(&b->made, s->rx_text.v + s->rx_text.len - len, len, HEAD_MAX) != 0)
		return;
	b->made_end = s->rx_end;
	b->made_kind = s->rx_kind;
	b->made_method = s->method_id;
	b->made_length = s->rx_length;
}

int flat_http2_block_head(struct flat_http2_block *b, struct flat_http2_stream *s)
{
	struct text t = {.s = s};
	bool request = b->what == FLAT_HTTP1_REQUEST;
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
