#include "codec/http.h"

#include <strings.h>

static unsigned char fold_of(char c)
{
	unsigned char u = (unsigned char)c;
	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

bool flat_span_equal(struct flat_span a, struct flat_span b, bool fold)
{
	if (!a.text || !b.text || a.len != b.len)
		return false;
	/* Names nearly always come in the letters that we write them in. */
	if (memcmp(a.text, b.text, a.len) == 0)
		return true;
	if (!fold)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (fold_of(a.text[i]) != fold_of(b.text[i]))
			return false;
	}
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct flat_span flat_span_trim(struct flat_span span)
{
	for (; span.len > 0 && is_blank(*span.text); span.len--)
		span.text++;
	while (span.len > 0 && is_blank(span.text[span.len - 1]))
		span.len--;
	return span;
}

bool flat_http_name_alike(struct flat_span a, struct flat_span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		unsigned char p = fold_of(a.text[i]);
		unsigned char q = fold_of(b.text[i]);

		if ((p == '_' ? '-' : p) != (q == '_' ? '-' : q))
			return false;
	}
	return true;
}

static bool is(const char *name, size_t len, const char *what)
{
	return flat_span_equal((struct flat_span){name, len}, (struct flat_span){what, len}, true);
}

enum flat_http_name flat_http_name_of(const char *name, size_t len)
{
	switch (len) {
	case 2:
		return is(name, len, "te") ? FLAT_HTTP_TE : FLAT_HTTP_OTHER;
	case 4:
		return is(name, len, "host") ? FLAT_HTTP_HOST : FLAT_HTTP_OTHER;
	case 6:
		return is(name, len, "expect")	 ? FLAT_HTTP_EXPECT
		       : is(name, len, "cookie") ? FLAT_HTTP_COOKIE
						 : FLAT_HTTP_OTHER;
	case 7:
		return is(name, len, "upgrade")	  ? FLAT_HTTP_UPGRADE
		       : is(name, len, "trailer") ? FLAT_HTTP_TRAILER
						  : FLAT_HTTP_OTHER;
	case 10:
		return is(name, len, "connection")   ? FLAT_HTTP_CONNECTION
		       : is(name, len, "keep-alive") ? FLAT_HTTP_KEEP_ALIVE
		       : is(name, len, "set-cookie") ? FLAT_HTTP_SET_COOKIE
						     : FLAT_HTTP_OTHER;
	case 13:
		return is(name, len, "authorization") ? FLAT_HTTP_AUTHORIZATION : FLAT_HTTP_OTHER;
	case 14:
		return is(name, len, "content-length")	 ? FLAT_HTTP_CONTENT_LENGTH
		       : is(name, len, "http2-settings") ? FLAT_HTTP_HTTP2_SETTINGS
							 : FLAT_HTTP_OTHER;
	case 16:
		return is(name, len, "proxy-connection") ? FLAT_HTTP_PROXY_CONNECTION
							 : FLAT_HTTP_OTHER;
	case 17:
		return is(name, len, "transfer-encoding") ? FLAT_HTTP_TRANSFER_ENCODING
							  : FLAT_HTTP_OTHER;
	case 19:
		return is(name, len, "proxy-authorization") ? FLAT_HTTP_PROXY_AUTHORIZATION
							    : FLAT_HTTP_OTHER;
	case 23:
		return is(name, len, "x-forwarded-client-cert") ? FLAT_HTTP_XFCC : FLAT_HTTP_OTHER;
	default:
		return FLAT_HTTP_OTHER;
	}
}

struct flat_span flat_http_host(struct flat_span authority)
{
	const char *colon;

	if (!authority.text)
		return authority;
	/* "[::1]:80": a colon within the brackets is no port. */
	colon = memrchr(authority.text, ':', authority.len);
	if (!colon || memchr(colon, ']', (size_t)(authority.text + authority.len - colon)))
		return authority;
	return (struct flat_span){authority.text, (size_t)(colon - authority.text)};
}

struct flat_span flat_http_target(const struct flat_http_request *request, char *room, size_t size)
{
	const struct flat_span path = request->path;
	const struct flat_span query = request->query;

	if (!query.text)
		return path;
	if (path.len + 1 + query.len > size)
		return (struct flat_span){NULL, 0};
	memcpy(room, path.text, path.len);
	room[path.len] = '?';
	memcpy(room + path.len + 1, query.text, query.len);
	return (struct flat_span){room, path.len + 1 + query.len};
}

struct flat_span flat_http_field_get(const struct flat_http_request *request, struct flat_span name,
				     uint32_t n)
{
	const struct flat_http_head *head = request->head;

	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct flat_http_field *f = &head->fields[i];
		if (f->hidden || f->name_len != name.len ||
		    !flat_span_equal(flat_head_span(request->text, f->name, f->name_len), name,
				     true))
			continue;
		if (n-- == 0)
			return flat_head_span(request->text, f->value, f->value_len);
	}
	return (struct flat_span){NULL, 0};
}

struct flat_span flat_http_field_joined(const struct flat_http_request *request,
					struct flat_span name, char *buf, size_t size,
					bool *overflow)
{
	struct flat_span out = flat_http_field_get(request, name, 0);
	struct flat_span next = flat_http_field_get(request, name, 1);
	size_t len = 0;

	*overflow = false;
	if (!next.text)
		return out;
	next = out;
	for (uint32_t n = 1; next.text; n++) {
		if (next.len + 1 > size - len) {
			*overflow = true;
			return (struct flat_span){NULL, 0};
		}
		if (n > 1)
			buf[len++] = ',';
		memcpy(buf + len, next.text, next.len);
		len += next.len;
		next = flat_http_field_get(request, name, n);
	}
	return (struct flat_span){buf, len};
}

struct flat_span flat_http_list_next(struct flat_span *list)
{
	const char *comma = memchr(list->text, ',', list->len);
	struct flat_span item = {list->text, comma ? (size_t)(comma - list->text) : list->len};
	size_t used = item.len + (comma != NULL);

	list->text += used;
	list->len -= used;
	return flat_span_trim(item);
}

bool flat_http_list_has(struct flat_span list, const char *token)
{
	struct flat_span want = flat_span_of(token);

	while (list.text && list.len > 0) {
		if (flat_span_equal(flat_http_list_next(&list), want, true))
			return true;
	}
	return false;
}

enum flat_http_method flat_http_method_of(struct flat_span name)
{
	if (flat_span_equal(name, flat_span_of("GET"), false))
		return FLAT_METHOD_GET;
	if (flat_span_equal(name, flat_span_of("HEAD"), false))
		return FLAT_METHOD_HEAD;
	if (flat_span_equal(name, flat_span_of("OPTIONS"), false))
		return FLAT_METHOD_OPTIONS;
	if (flat_span_equal(name, flat_span_of("CONNECT"), false))
		return FLAT_METHOD_CONNECT;
	return FLAT_METHOD_OTHER;
}

bool flat_http_is_grpc(struct flat_span type)
{
	static const char grpc[] = "application/grpc";
	size_t len = sizeof(grpc) - 1;

	if (type.len < len || !is(type.text, len, grpc))
		return false;
	return type.len == len || type.text[len] == '+' || type.text[len] == ';';
}

struct flat_span flat_head_field(const struct flat_http_head *head, const void *text,
				 struct flat_span name)
{
	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct flat_http_field *f = &head->fields[i];

		if (!f->hidden && f->name_len == name.len &&
		    flat_span_equal(flat_head_span(text, f->name, f->name_len), name, true))
			return flat_head_span(text, f->value, f->value_len);
	}
	return (struct flat_span){NULL, 0};
}
