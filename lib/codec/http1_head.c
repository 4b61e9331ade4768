/* What the start line's target and the fields of a head mean, and whether they agree. */
#include "codec/http1_head.h"

#include <errno.h>

#define ID_BIT(id) (1U << (id))
/* Of one hop only (RFC 9110, 7.6.1), or nobody's to send: not delivered. */
#define HIDDEN                                                                                     \
	(ID_BIT(FLAT_HTTP_CONNECTION) | ID_BIT(FLAT_HTTP_KEEP_ALIVE) |                             \
	 ID_BIT(FLAT_HTTP_PROXY_CONNECTION) | ID_BIT(FLAT_HTTP_TE) | ID_BIT(FLAT_HTTP_UPGRADE) |   \
	 ID_BIT(FLAT_HTTP_HTTP2_SETTINGS) | ID_BIT(FLAT_HTTP_XFCC))
/* What a peer may not have dropped by naming it in Connection. */
#define KEPT                                                                                       \
	(ID_BIT(FLAT_HTTP_HOST) | ID_BIT(FLAT_HTTP_CONTENT_LENGTH) |                               \
	 ID_BIT(FLAT_HTTP_TRANSFER_ENCODING) | ID_BIT(FLAT_HTTP_TRAILER) |                         \
	 ID_BIT(FLAT_HTTP_EXPECT) | ID_BIT(FLAT_HTTP_AUTHORIZATION) | ID_BIT(FLAT_HTTP_COOKIE) |   \
	 ID_BIT(FLAT_HTTP_SET_COOKIE) | ID_BIT(FLAT_HTTP_PROXY_AUTHORIZATION))
/* RFC 9110, 6.5.1: nothing that frames, routes or authenticates comes behind the body. */
#define NO_TRAILER (HIDDEN | KEPT)

/* host [":" port] with the characters of DNS names, IPv4, and IPv6 in brackets. */
static bool host_valid(const uint8_t *text, size_t len)
{
	size_t i = 0;
	unsigned port = 0;

	if (len == 0 || len > FLAT_HTTP_HOST_MAX)
		return false;
	if (text[0] == '[') {
		for (i = 1; i < len && text[i] != ']'; i++) {
			uint8_t c = (uint8_t)(text[i] | 0x20);
			if (!((text[i] >= '0' && text[i] <= '9') || (c >= 'a' && c <= 'f') ||
			      text[i] == ':' || text[i] == '.'))
				return false;
		}
		if (i == len || i == 1)
			return false;
		i++;
	} else {
		for (; i < len && text[i] != ':'; i++) {
			uint8_t c = (uint8_t)(text[i] | 0x20);
			if (!((text[i] >= '0' && text[i] <= '9') || (c >= 'a' && c <= 'z') ||
			      text[i] == '-' || text[i] == '.' || text[i] == '_'))
				return false;
		}
		if (i == 0)
			return false;
	}
	if (i == len)
		return true;
	if (text[i] != ':' || i + 1 == len || len - i > 6)
		return false;
	for (i++; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	return port > 0 && port <= 65535;
}

static void split_query(struct flat_http_head *h, const uint8_t *bytes, size_t from, size_t end)
{
	const uint8_t *mark = memchr(bytes + from, '?', end - from);
	size_t path_end = mark ? (size_t)(mark - bytes) : end;

	h->path = (uint16_t)from;
	h->path_len = (uint16_t)(path_end - from);
	h->has_query = mark != NULL;
	h->query = (uint16_t)(mark ? path_end + 1 : end);
	h->query_len = (uint16_t)(end - h->query);
}

int flat_http1_target(struct flat_http_head *h, const uint8_t *bytes)
{
	static const char scheme[] = "http://";
	const uint8_t *t = bytes + h->target;
	size_t len = h->target_len;
	size_t end = (size_t)h->target + len;
	size_t at;

	if (memchr(t, '#', len))
		return -EBADMSG;
	if (h->method_id == FLAT_METHOD_CONNECT) {
		h->form = FLAT_FORM_AUTHORITY;
		h->authority = h->target;
		h->authority_len = h->target_len;
		return host_valid(t, len) && memchr(t, ':', len) ? 0 : -EBADMSG;
	}
	if (t[0] == '/') {
		h->form = FLAT_FORM_ORIGIN;
		split_query(h, bytes, h->target, end);
		return 0;
	}
	if (len == 1 && t[0] == '*') {
		h->form = FLAT_FORM_ASTERISK;
		h->path = h->target;
		h->path_len = 1;
		return h->method_id == FLAT_METHOD_OPTIONS ? 0 : -EBADMSG;
	}
	if (len < 8 || !flat_span_equal(flat_head_span(t, 0, 7), flat_span_of(scheme), true))
		return -EBADMSG;
	h->form = FLAT_FORM_ABSOLUTE;
	for (at = (size_t)h->target + 7; at < end && bytes[at] != '/' && bytes[at] != '?'; at++)
		;
	h->authority = (uint16_t)(h->target + 7);
	h->authority_len = (uint16_t)(at - h->authority);
	split_query(h, bytes, at, end);
	return host_valid(bytes + h->authority, h->authority_len) ? 0 : -EBADMSG;
}

/* ^[0-9]{1,18}$ */
static int read_length(struct flat_http_head *h, const uint8_t *text, size_t len)
{
	uint64_t value = 0;

	if (h->has_length || len < 1 || len > 18)
		return FLAT_HTTP1_LENGTH;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return FLAT_HTTP1_LENGTH;
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	h->has_length = true;
	h->length = value;
	return 0;
}

static int read_host(struct flat_http_head *h, const uint8_t *bytes,
		     const struct flat_http_field *f, bool *seen)
{
	struct flat_span value = flat_head_span(bytes, f->value, f->value_len);

	if (*seen || !host_valid(bytes + f->value, f->value_len))
		return FLAT_HTTP1_HOST;
	*seen = true;
	/* RFC 9112, 3.2.2 prefers the URL's; a client that means two hosts is refused instead. */
	if ((h->form == FLAT_FORM_ABSOLUTE || h->form == FLAT_FORM_AUTHORITY) &&
	    !flat_span_equal(flat_head_span(bytes, h->authority, h->authority_len), value, true))
		return FLAT_HTTP1_HOST;
	h->authority = f->value;
	h->authority_len = f->value_len;
	return 0;
}

/* What says where a request comes from, as the proxies before have it: nobody has it dropped. As Envoy refuses it. */
static bool is_origin(struct flat_span name)
{
	return flat_span_equal(name, flat_span_of("x-forwarded-for"), true) ||
	       flat_span_equal(name, flat_span_of("x-forwarded-host"), true) ||
	       flat_span_equal(name, flat_span_of("x-forwarded-proto"), true);
}

/* Hides the fields of one name that Connection lists. */
static int drop_listed(struct flat_http_head *h, const uint8_t *bytes, struct flat_span name)
{
	if (!h->response && is_origin(name))
		return FLAT_HTTP1_CONNECTION;
	for (uint32_t i = 0; i < h->n_fields; i++) {
		struct flat_http_field *f = &h->fields[i];
		if (f->name_len != name.len ||
		    !flat_span_equal(flat_head_span(bytes, f->name, f->name_len), name, true))
			continue;
		if (KEPT & ID_BIT(f->id))
			return FLAT_HTTP1_CONNECTION;
		f->hidden = 1;
	}
	return 0;
}

/*
 * TE (RFC 9110, 10.1.4) is of one hop, but trailers go on from hop to hop: that a client takes them is said to the next one, and of
 * what else the client takes nothing. The field's value becomes that one word.
 */
static bool take_te(const struct flat_http_head *h, const uint8_t *bytes, struct flat_http_field *f)
{
	struct flat_span list = flat_head_span(bytes, f->value, f->value_len);

	if (h->response || h->minor == 0)
		return false;
	while (list.len > 0) {
		struct flat_span word = flat_http_list_next(&list);

		if (flat_span_equal(word, flat_span_of("trailers"), true)) {
			f->value = (uint16_t)(word.text - (const char *)bytes);
			f->value_len = (uint16_t)word.len;
			return true;
		}
	}
	return false;
}

/* The options of one Connection field. `budget`: how many more may come. */
static int read_connection(struct flat_http_head *h, const uint8_t *bytes, struct flat_span list,
			   bool *upgrade, unsigned *budget)
{
	int ret;

	while (list.len > 0) {
		struct flat_span option = flat_http_list_next(&list);

		if (option.len == 0)
			continue;
		if (--*budget == 0)
			return FLAT_HTTP1_CONNECTION;
		if (flat_span_equal(option, flat_span_of("close"), true))
			h->says_close = true;
		else if (flat_span_equal(option, flat_span_of("te"), true))
			continue; /* see take_te() */
		else if (flat_span_equal(option, flat_span_of("keep-alive"), true))
			h->says_keep_alive = true;
		else if (flat_span_equal(option, flat_span_of("upgrade"), true))
			*upgrade = true;
		else if ((ret = drop_listed(h, bytes, option)) != 0)
			return ret;
	}
	return 0;
}

struct seen {
	bool host, encoding, te, upgrade, connection_upgrade;
	unsigned options; /* of Connection, that may still come */
};

static int read_meaning(struct flat_http_head *h, const uint8_t *bytes, struct flat_http_field *f,
			struct seen *seen)
{
	struct flat_span value = flat_head_span(bytes, f->value, f->value_len);

	if (HIDDEN & ID_BIT(f->id))
		f->hidden = 1;
	switch (f->id) {
	case FLAT_HTTP_HOST:
		return h->response ? 0 : read_host(h, bytes, f, &seen->host);
	case FLAT_HTTP_CONTENT_LENGTH:
		return read_length(h, bytes + f->value, f->value_len);
	case FLAT_HTTP_TRANSFER_ENCODING:
		if (seen->encoding || h->minor == 0 ||
		    !flat_span_equal(value, flat_span_of("chunked"), true))
			return FLAT_HTTP1_ENCODING;
		seen->encoding = true;
		return 0;
	case FLAT_HTTP_CONNECTION:
		return read_connection(h, bytes, value, &seen->connection_upgrade, &seen->options);
	case FLAT_HTTP_TE:
		if (!seen->te && take_te(h, bytes, f)) {
			seen->te = true;
			f->hidden = 0;
		}
		return 0;
	case FLAT_HTTP_UPGRADE:
		seen->upgrade = true;
		return 0;
	case FLAT_HTTP_EXPECT:
		/* RFC 9110, 10.1.1: from HTTP/1.0 it is ignored. */
		f->hidden = h->minor == 0;
		h->expect_continue =
		    h->minor == 1 && flat_span_equal(value, flat_span_of("100-continue"), true);
		return 0;
	default:
		return 0;
	}
}

static int settle_body(struct flat_http_head *h, const struct seen *seen)
{
	/* RFC 9112, 6.3: both, and it is an attempt at smuggling. */
	if (seen->encoding && h->has_length)
		return FLAT_HTTP1_LENGTH;
	if (seen->encoding && h->response && (h->status < 200 || h->status == 204))
		return FLAT_HTTP1_ENCODING;
	if (seen->encoding)
		h->body = FLAT_BODY_CHUNKED;
	else if (h->has_length)
		h->body = h->length ? FLAT_BODY_LENGTH : FLAT_BODY_NONE;
	else
		h->body = h->response ? FLAT_BODY_OPAQUE : FLAT_BODY_NONE;
	return 0;
}

int flat_http1_settle(struct flat_http_head *h, const uint8_t *bytes, enum flat_http1_what what)
{
	struct seen seen = {.options = FLAT_HTTP_FIELDS_MAX};
	int ret;

	for (uint32_t i = 0; i < h->n_fields; i++) {
		if (what == FLAT_HTTP1_TRAILERS && (NO_TRAILER & ID_BIT(h->fields[i].id)))
			return FLAT_HTTP1_TRAILER;
		if (h->fields[i].id == FLAT_HTTP_OTHER)
			continue;
		ret = read_meaning(h, bytes, &h->fields[i], &seen);
		if (ret != 0)
			return ret;
	}
	if (what == FLAT_HTTP1_TRAILERS)
		return 0;
	if (!h->response && !seen.host)
		return FLAT_HTTP1_HOST;
	h->upgrade = seen.upgrade && seen.connection_upgrade;
	h->keep_alive = !h->says_close && (h->minor == 1 || h->says_keep_alive);
	return settle_body(h, &seen);
}

enum flat_body_kind flat_http1_response_body(const struct flat_http_head *head,
					     enum flat_http_method method)
{
	if (method == FLAT_METHOD_HEAD || head->status < 200 || head->status == 204 ||
	    head->status == 304)
		return FLAT_BODY_NONE;
	return (enum flat_body_kind)head->body;
}
