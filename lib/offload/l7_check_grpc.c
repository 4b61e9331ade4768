#include "offload/l7_check_grpc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "codec/protobuf.h"
#include "offload/gateway.h"

/* Statuses that HTTP has. */
#define STATUS_MIN 200U
#define STATUS_MAX 599U

/* --- the question --- */

/* Field `number` of `out` is the message `part`, which is used up. */
static void put_part(struct flat_strbuf *out, uint32_t number, struct flat_strbuf *part)
{
	out->failed |= part->failed;
	if (!part->failed)
		flat_protobuf_put_bytes(out, number, part->data, part->len);
	flat_strbuf_fini(part);
	*part = (struct flat_strbuf){0};
}

/* AttributeContext.Peer: address 1 (core.v3.Address: socket_address 1: address 2, port_value 3), principal 4. */
static void put_peer(struct flat_strbuf *out, uint32_t number, const struct flat_addr *addr,
		     const char *principal)
{
	struct flat_strbuf socket = {0};
	struct flat_strbuf address = {0};
	struct flat_strbuf peer = {0};
	struct flat_strbuf name = {0};
	struct flat_ip ip = flat_addr_ip(addr);
	char text[FLAT_IP_TEXT_MAX];

	flat_protobuf_put_text(&socket, 2, flat_ip_text(&ip, text));
	flat_protobuf_put_number(&socket, 3, addr->port);
	put_part(&address, 1, &socket);
	put_part(&peer, 1, &address);
	if (principal && *principal) {
		flat_strbuf_printf(&name, "spiffe://%s", principal);
		put_part(&peer, 4, &name);
	}
	put_part(out, number, &peer);
}

/* One entry of `headers`: key 1, value 2. */
static void put_header(struct flat_strbuf *http, struct flat_span name, struct flat_span value)
{
	struct flat_strbuf entry = {0};
	char lower[256];
	size_t n = flat_min_size(name.len, sizeof(lower));

	for (size_t i = 0; i < n; i++)
		lower[i] = (char)tolower((unsigned char)name.text[i]);
	flat_protobuf_put_bytes(&entry, 1, lower, n);
	flat_protobuf_put_string(&entry, 2, value.text, value.len);
	put_part(http, 3, &entry);
}

bool flat_l7_check_says_partial(struct flat_span name)
{
	return flat_span_equal(name, flat_span_of(FLAT_L7_CHECK_PARTIAL), true);
}

static bool came_before(const struct flat_http_request *r, uint32_t i, struct flat_span name)
{
	for (uint32_t k = 0; k < i; k++) {
		const struct flat_http_field *f = &r->head->fields[k];

		if (!f->hidden &&
		    flat_span_equal(flat_head_span(r->text, f->name, f->name_len), name, true))
			return true;
	}
	return false;
}

/* All fields, and those that HTTP/2 has in their place; the values of one name are joined, as Envoy does. */
static void put_headers(struct flat_strbuf *http, const struct flat_http_request *r,
			struct flat_span path, const char *scheme)
{
	put_header(http, flat_span_of(":method"), r->method);
	put_header(http, flat_span_of(":path"), path);
	put_header(http, flat_span_of(":authority"), r->authority);
	put_header(http, flat_span_of(":scheme"), flat_span_of(scheme));
	for (uint32_t i = 0; i < r->head->n_fields; i++) {
		const struct flat_http_field *f = &r->head->fields[i];
		struct flat_span name = flat_head_span(r->text, f->name, f->name_len);
		struct flat_strbuf joined = {0};
		struct flat_span value;

		if (f->hidden || f->id == FLAT_HTTP_HOST || came_before(r, i, name) ||
		    flat_l7_check_says_partial(name))
			continue;
		for (uint32_t n = 0; (value = flat_http_field_get(r, name, n)).text; n++) {
			if (n > 0)
				flat_strbuf_putc(&joined, ',');
			flat_strbuf_add(&joined, value.text, value.len);
		}
		http->failed |= joined.failed;
		put_header(http, name, (struct flat_span){joined.data, joined.len});
		flat_strbuf_fini(&joined);
	}
}

/* AttributeContext.HttpRequest. */
static void put_http(struct flat_strbuf *out, const struct flat_l7 *l7,
		     const struct flat_ext_authz *ext, const struct flat_http_request *r,
		     const struct flat_l7_check_body *body)
{
	const char *scheme = l7->conn->gate && l7->conn->gate->tls ? "https" : "http";
	struct flat_strbuf http = {0};
	struct flat_strbuf path = {0};
	char id[48];
	bool sized = r->head->body != FLAT_BODY_CHUNKED;

	flat_strbuf_add(&path, r->path.text, r->path.len);
	if (r->query.text) {
		flat_strbuf_putc(&path, '?');
		flat_strbuf_add(&path, r->query.text, r->query.len);
	}
	http.failed |= path.failed;
	snprintf(id, sizeof(id), "%llu-%u", (unsigned long long)l7->conn->id, l7->n_requests);
	flat_protobuf_put_text(&http, 1, id);
	flat_protobuf_put_string(&http, 2, r->method.text, r->method.len);
	put_headers(&http, r, (struct flat_span){path.data, path.len}, scheme);
	if (body)
		put_header(&http, flat_span_of(FLAT_L7_CHECK_PARTIAL),
			   flat_span_of(body->partial ? "true" : "false"));
	flat_protobuf_put_string(&http, 4, path.data, path.len);
	flat_protobuf_put_string(&http, 5, r->authority.text, r->authority.len);
	flat_protobuf_put_text(&http, 6, scheme);
	/* -1 where it is not known. */
	flat_protobuf_put_number(&http, 9, sized ? r->head->length : UINT64_MAX);
	flat_protobuf_put_text(&http, 10,
			       l7 != l7->root	   ? "HTTP/2"
			       : l7->in.head.minor ? "HTTP/1.1"
						   : "HTTP/1.0");
	if (body && body->bytes.len > 0 && ext->body_as_bytes)
		flat_protobuf_put_bytes(&http, 12, body->bytes.data, body->bytes.len);
	else if (body && body->bytes.len > 0)
		flat_protobuf_put_string(&http, 11, body->bytes.data, body->bytes.len);
	flat_strbuf_fini(&path);
	put_part(out, 2, &http);
}

/* AttributeContext: source 1, destination 2, request 4. */
static void put_context(struct flat_strbuf *out, const struct flat_l7 *l7, enum flat_l7_asker asker,
			const struct flat_ext_authz *ext, const struct flat_http_request *r,
			const struct flat_l7_check_body *body)
{
	bool gate = asker == FLAT_L7_ASKED_BY_GATE;
	const struct flat_listener *l = gate ? NULL : l7->x.target.listener;
	const struct flat_workload *workload = l ? l->session->workload : NULL;
	struct flat_tls *tls = l7->conn->gate ? l7->conn->gate->tls : NULL;
	struct flat_strbuf context = {0};
	struct flat_strbuf request = {0};
	struct flat_strbuf time = {0};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	/* A gateway asks about its client; behind it the gateway is the server's. */
	put_peer(&context, 1, &l7->conn->from,
		 !gate ? l7->principal
		 : tls ? flat_tls_principal(tls)
		       : "");
	put_peer(&context, 2, l ? &l7->x.target.addr : &l7->conn->target,
		 workload ? workload->principal : NULL);
	flat_protobuf_put_number(&time, 1, (uint64_t)now.tv_sec);
	flat_protobuf_put_number(&time, 2, (uint64_t)now.tv_nsec);
	put_part(&request, 1, &time);
	put_http(&request, l7, ext, r, body);
	put_part(&context, 4, &request);
	put_part(out, 1, &context);
}

void flat_l7_check_grpc_write(struct flat_strbuf *out, const struct flat_l7 *l7,
			      enum flat_l7_asker asker, const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body)
{
	struct flat_strbuf message = {0};
	uint32_t n;

	put_context(&message, l7, asker, ext, request, body);
	n = (uint32_t)message.len;
	flat_strbuf_printf(out,
			   "POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\n"
			   "host: %s\r\ncontent-type: application/grpc\r\nte: trailers\r\n"
			   "grpc-timeout: %um\r\ncontent-length: %u\r\n\r\n",
			   ext->host, ext->timeout_ms, n + 5);
	flat_strbuf_putc(out, 0);
	for (int shift = 24; shift >= 0; shift -= 8)
		flat_strbuf_putc(out, (char)(n >> shift));
	out->failed |= message.failed;
	flat_strbuf_add(out, message.data, message.len);
	flat_strbuf_fini(&message);
}

void flat_l7_check_grpc_connection(struct flat_strbuf *out, const struct flat_l7_check_party *from,
				   const struct flat_l7_check_party *to)
{
	struct flat_strbuf context = {0};

	put_peer(&context, 1, from->addr, from->principal);
	put_peer(&context, 2, to->addr, to->principal);
	put_part(out, 1, &context);
}

/* --- the answer --- */

/* core.v3.HeaderValueOption. */
struct header {
	struct flat_span name, value;
	bool says_append; /* by `append`, the older field: */
	bool append;
	enum flat_l7_say how; /* by `append_action` */
};

static struct flat_span span_of(const struct flat_protobuf_field *f)
{
	return (struct flat_span){(const char *)f->bytes, f->len};
}

/* key 1, value 2, raw_value 3. */
int flat_l7_header_value(const struct flat_protobuf_field *from, struct flat_span *name,
			 struct flat_span *value)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.is_bytes && f.number == 1)
			*name = span_of(&f);
		else if (f.is_bytes && (f.number == 2 || f.number == 3) && f.len > 0)
			*value = span_of(&f);
	}
	return ret;
}

/* BoolValue: value 1. One that is in a message again is the same one, and what it does not say stays. */
static int read_bool(const struct flat_protobuf_field *from, bool *value)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.number == 1 && !f.is_bytes)
			*value = f.value != 0;
	}
	return ret;
}

/* header 1, append 2, append_action 3. */
static int read_header(const struct flat_protobuf_field *from, struct header *h)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	*h = (struct header){.value = {"", 0}};
	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.is_bytes && f.number == 1 &&
		    flat_l7_header_value(&f, &h->name, &h->value) < 0)
			return -EBADMSG;
		if (f.is_bytes && f.number == 2) {
			h->says_append = true;
			if (read_bool(&f, &h->append) < 0)
				return -EBADMSG;
		}
		if (!f.is_bytes && f.number == 3)
			h->how =
			    f.value < FLAT_L7_SAYS ? (enum flat_l7_say)f.value : FLAT_L7_SAY_SET;
	}
	return ret;
}

static bool is_token(struct flat_span name)
{
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.text[i];

		if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c))
			return false;
	}
	return name.len > 0;
}

/* Whether a message can have the field. */
static bool is_field(struct flat_span name, struct flat_span value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.text[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return is_token(name);
}

/* Fields that frame or route a message are not a service's to say; nor are HTTP/2's that are in the place of such. */
static bool may_say(struct flat_span name)
{
	static const char *const no[] = {"host",
					 "content-length",
					 "transfer-encoding",
					 "connection",
					 "keep-alive",
					 "upgrade",
					 "te",
					 "trailer",
					 "proxy-connection",
					 "expect",
					 "x-forwarded-client-cert"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(no); i++) {
		if (flat_span_equal(name, flat_span_of(no[i]), true))
			return false;
	}
	return name.len > 0 && name.text[0] != ':';
}

void flat_l7_said_put(struct flat_strbuf *out, struct flat_span name, struct flat_span value)
{
	if (!may_say(name) || !is_field(name, value))
		return;
	flat_strbuf_add(out, name.text, name.len);
	flat_strbuf_puts(out, ": ");
	flat_strbuf_add(out, value.text, value.len);
	flat_strbuf_puts(out, "\r\n");
}

/* As Envoy, by `append` alone: without it a request's header is set, the last of a name; with it a value is appended. */
static int take_request(const struct flat_protobuf_field *f, struct flat_l7_check_answer *a)
{
	struct header h;

	if (read_header(f, &h) < 0)
		return -EBADMSG;
	if (!may_say(h.name))
		return 0;
	/* A request that went without it would be another than the one that is allowed. */
	if (!is_field(h.name, h.value))
		return -EBADMSG;
	if (!h.append)
		flat_l7_lines_drop(&a->upstream, h.name);
	flat_l7_said_put(h.append ? &a->append : &a->upstream, h.name, h.value);
	return 0;
}

static int take_response(const struct flat_protobuf_field *f, struct flat_l7_check_answer *a)
{
	enum flat_l7_say how;
	struct header h;

	if (read_header(f, &h) < 0)
		return -EBADMSG;
	how = !h.says_append ? h.how : h.append ? FLAT_L7_SAY_ADD : FLAT_L7_SAY_SET;
	if (how != FLAT_L7_SAY_ADD)
		flat_l7_lines_drop(&a->client[how], h.name);
	flat_l7_said_put(&a->client[how], h.name, h.value);
	return 0;
}

static int take_denied(const struct flat_protobuf_field *f, struct flat_l7_check_answer *a)
{
	struct header h;

	if (read_header(f, &h) < 0)
		return -EBADMSG;
	flat_l7_said_put(&a->client[FLAT_L7_SAY_ADD], h.name, h.value);
	return 0;
}

/* Names for lists in which each has its NUL. */
static void put_name(struct flat_strbuf *names, struct flat_span name)
{
	flat_strbuf_add(names, name.text, name.len);
	flat_strbuf_putc(names, 0);
}

static void put_encoded(struct flat_strbuf *out, struct flat_span text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.text[i];

		if (c <= ' ' || c >= 0x7f || strchr("\"#<>\\^`{|}", c))
			flat_strbuf_printf(out, "%%%02X", c);
		else
			flat_strbuf_putc(out, (char)c);
	}
}

/* Takes a parameter away from those that are set: each of them ends with '&'. */
static void drop_param(struct flat_strbuf *query, struct flat_span key)
{
	struct flat_strbuf want = {0};
	size_t at = 0;

	put_encoded(&want, key);
	flat_strbuf_putc(&want, '=');
	query->failed |= want.failed;
	while (!query->failed && at < query->len) {
		char *start = query->data + at;
		const char *end = memchr(start, '&', query->len - at);
		size_t len = end ? (size_t)(end - start) + 1 : query->len - at;

		if (len < want.len || memcmp(start, want.data, want.len) != 0) {
			at += len;
			continue;
		}
		memmove(start, start + len, query->len - at - len);
		query->len -= len;
		query->data[query->len] = '\0';
	}
	flat_strbuf_fini(&want);
}

/* QueryParameter: key 1, value 2. As Envoy it stands in the query as it is; what no query has is encoded. */
static int take_param(const struct flat_protobuf_field *from, struct flat_l7_check_answer *a)
{
	struct flat_protobuf_field f;
	struct flat_span key = {"", 0}, value = {"", 0};
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.is_bytes && f.number == 1)
			key = span_of(&f);
		else if (f.is_bytes && f.number == 2)
			value = span_of(&f);
	}
	if (ret < 0 || key.len == 0 || memchr(key.text, 0, key.len))
		return ret < 0 ? ret : 0;
	drop_param(&a->query, key);
	put_name(&a->params, key);
	put_encoded(&a->query, key);
	flat_strbuf_putc(&a->query, '=');
	put_encoded(&a->query, value);
	flat_strbuf_putc(&a->query, '&');
	return 0;
}

void flat_l7_said_remove(struct flat_l7_check_answer *a, struct flat_span name)
{
	if (!may_say(name) || !is_token(name))
		return;
	flat_l7_lines_drop(&a->upstream, name);
	flat_l7_lines_drop(&a->append, name);
	put_name(&a->remove, name);
}

/* What is set and taken away, whatever the order in which it is said, is taken away. */
static void take_removed(const struct flat_protobuf_field *f, struct flat_l7_check_answer *a)
{
	struct flat_span name = span_of(f);

	if (f->number == 8 && name.len > 0 && !memchr(name.text, 0, name.len)) {
		drop_param(&a->query, name);
		put_name(&a->params, name);
	} else if (f->number == 5) {
		flat_l7_said_remove(a, name);
	}
}

/*
 * OkHttpResponse: headers 2, headers_to_remove 5, response_headers_to_add 6, query_parameters_to_set 7,
 * query_parameters_to_remove 8.
 */
static int read_ok(const struct flat_protobuf_field *from, struct flat_l7_check_answer *a)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.is_bytes && ((f.number == 2 && take_request(&f, a) < 0) ||
				   (f.number == 6 && take_response(&f, a) < 0) ||
				   (f.number == 7 && take_param(&f, a) < 0)))
			return -EBADMSG;
	}
	for (at = 0; ret == 0 && flat_protobuf_next(from->bytes, from->len, &at, &f) > 0;) {
		if (f.is_bytes)
			take_removed(&f, a);
	}
	return ret;
}

/* The number in field 1 of a message: google.rpc.Status.code, type.v3.HttpStatus.code. */
static int read_code(const struct flat_protobuf_field *from, uint64_t *code)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (f.number == 1 && !f.is_bytes)
			*code = f.value;
	}
	return ret;
}

/* DeniedHttpResponse, and ErrorResponse likewise: status 1, headers 2, body 3. */
static int read_denied(const struct flat_protobuf_field *from, struct flat_l7_check_answer *a)
{
	struct flat_protobuf_field f;
	uint64_t status = 0;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		if (!f.is_bytes)
			continue;
		if ((f.number == 1 && read_code(&f, &status) < 0) ||
		    (f.number == 2 && take_denied(&f, a) < 0))
			return -EBADMSG;
		if (f.number == 3)
			flat_strbuf_add(&a->body, f.bytes, f.len);
	}
	if (status >= STATUS_MIN && status <= STATUS_MAX)
		a->status = (unsigned)status;
	return ret;
}

/* CheckResponse: status 1, denied_response 2, ok_response 3, error_response 5. */
static int read_response(const uint8_t *message, size_t len, struct flat_l7_check_answer *a)
{
	struct flat_protobuf_field f, ok = {0}, denied = {0}, error = {0};
	uint64_t code = 0;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(message, len, &at, &f)) > 0) {
		if (!f.is_bytes)
			continue;
		if (f.number == 1 && read_code(&f, &code) < 0)
			return -EBADMSG;
		if (f.number == 5)
			error = f;
		if (f.number == 2)
			denied = f;
		if (f.number == 3)
			ok = f;
	}
	if (ret < 0)
		return ret;
	a->allowed = code == 0;
	a->status = a->allowed ? 200 : 403;
	if (a->allowed)
		return ok.is_bytes ? read_ok(&ok, a) : 0;
	if (error.is_bytes) {
		a->error = true;
		a->status = 0;
		denied = error;
	}
	return denied.is_bytes ? read_denied(&denied, a) : 0;
}

int flat_l7_check_grpc_take(const void *bytes, size_t len, struct flat_l7_check_answer *a)
{
	return read_response(bytes, len, a) < 0 ? -EBADMSG : 0;
}

int flat_l7_check_grpc_read(const void *bytes, size_t len, struct flat_l7_check_answer *a)
{
	const uint8_t *p = bytes;
	uint32_t size = 0;

	/* Not compressed: nobody asked for that. */
	if (len < 5 || p[0] != 0)
		return -EBADMSG;
	for (int i = 1; i < 5; i++)
		size = size << 8 | p[i];
	if (size != len - 5)
		return -EBADMSG;
	return flat_l7_check_grpc_take(p + 5, size, a);
}
