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
	flat_protobuf_put_bytes(&entry, 2, value.text, value.len);
	put_part(http, 3, &entry);
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

		if (f->hidden || f->id == FLAT_HTTP_HOST || came_before(r, i, name))
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
	flat_protobuf_put_bytes(&http, 2, r->method.text, r->method.len);
	put_headers(&http, r, (struct flat_span){path.data, path.len}, scheme);
	if (body)
		put_header(&http, flat_span_of("x-envoy-auth-partial-body"),
			   flat_span_of(body->partial ? "true" : "false"));
	flat_protobuf_put_bytes(&http, 4, path.data, path.len);
	flat_protobuf_put_bytes(&http, 5, r->authority.text, r->authority.len);
	flat_protobuf_put_text(&http, 6, scheme);
	/* -1 where it is not known. */
	flat_protobuf_put_number(&http, 9, sized ? r->head->length : UINT64_MAX);
	flat_protobuf_put_text(&http, 10,
			       l7 != l7->root	   ? "HTTP/2"
			       : l7->in.head.minor ? "HTTP/1.1"
						   : "HTTP/1.0");
	if (body && body->bytes.len > 0)
		flat_protobuf_put_bytes(&http, ext->body_as_bytes ? 12 : 11, body->bytes.data,
					body->bytes.len);
	flat_strbuf_fini(&path);
	put_part(out, 2, &http);
}

/* AttributeContext: source 1, destination 2, request 4. */
static void put_context(struct flat_strbuf *out, const struct flat_l7 *l7,
			const struct flat_ext_authz *ext, const struct flat_http_request *r,
			const struct flat_l7_check_body *body)
{
	const struct flat_listener *l = l7->x.target.listener;
	const struct flat_workload *workload = l ? l->session->workload : NULL;
	struct flat_strbuf context = {0};
	struct flat_strbuf request = {0};
	struct flat_strbuf time = {0};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	put_peer(&context, 1, &l7->conn->from, l7->principal);
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
			      const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body)
{
	struct flat_strbuf message = {0};
	uint32_t n;

	put_context(&message, l7, ext, request, body);
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

/* --- the answer --- */

/* What core.v3.HeaderValueOption asks for. */
enum header_how {
	HEADER_SET,
	HEADER_APPEND,
};

struct header {
	struct flat_span name, value;
	enum header_how how;
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

/* BoolValue: value 1. */
static bool read_bool(const struct flat_protobuf_field *from)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	bool value = false;

	while (flat_protobuf_next(from->bytes, from->len, &at, &f) > 0)
		value = f.number == 1 && f.value != 0;
	return value;
}

/* header 1, append 2. As Envoy: without `append` a request's header is set. */
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
		if (f.is_bytes && f.number == 2 && read_bool(&f))
			h->how = HEADER_APPEND;
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

/* Fields that frame or route a message are not a service's to say; nor are characters that no field has. */
static bool may_say(struct flat_span name, struct flat_span value)
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

	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.text[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(no); i++) {
		if (flat_span_equal(name, flat_span_of(no[i]), true))
			return false;
	}
	return is_token(name);
}

void flat_l7_said_put(struct flat_strbuf *out, struct flat_span name, struct flat_span value)
{
	if (!may_say(name, value))
		return;
	flat_strbuf_add(out, name.text, name.len);
	flat_strbuf_puts(out, ": ");
	flat_strbuf_add(out, value.text, value.len);
	flat_strbuf_puts(out, "\r\n");
}

static int take_header(const struct flat_protobuf_field *f, struct flat_strbuf *set,
		       struct flat_strbuf *append)
{
	struct header h;

	if (read_header(f, &h) < 0)
		return -EBADMSG;
	flat_l7_said_put(h.how == HEADER_APPEND ? append : set, h.name, h.value);
	return 0;
}

/* OkHttpResponse: headers 2, headers_to_remove 5, response_headers_to_add 6. */
static int read_ok(const struct flat_protobuf_field *from, struct flat_l7_check_answer *a)
{
	struct flat_protobuf_field f;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(from->bytes, from->len, &at, &f)) > 0) {
		struct header gone = {.name = span_of(&f), .value = {"", 0}};

		if (!f.is_bytes)
			continue;
		if ((f.number == 2 && take_header(&f, &a->upstream, &a->append) < 0) ||
		    (f.number == 6 && take_header(&f, &a->client, &a->client) < 0))
			return -EBADMSG;
		if (f.number == 5 && may_say(gone.name, gone.value)) {
			flat_strbuf_add(&a->remove, f.bytes, f.len);
			flat_strbuf_putc(&a->remove, 0);
		}
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

/* DeniedHttpResponse: status 1, headers 2, body 3. */
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
		    (f.number == 2 && take_header(&f, &a->client, &a->client) < 0))
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
	struct flat_protobuf_field f, ok = {0}, denied = {0};
	uint64_t code = 0;
	size_t at = 0;
	int ret;

	while ((ret = flat_protobuf_next(message, len, &at, &f)) > 0) {
		if (!f.is_bytes)
			continue;
		if (f.number == 1 && read_code(&f, &code) < 0)
			return -EBADMSG;
		if (f.number == 5)
			return -EBADMSG;
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
	return denied.is_bytes ? read_denied(&denied, a) : 0;
}

bool flat_l7_check_answer_whole(const struct flat_l7_check_answer *a)
{
	return !(a->body.failed || a->upstream.failed || a->append.failed || a->remove.failed ||
		 a->client.failed);
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
	return read_response(p + 5, size, a) < 0 ? -EBADMSG : 0;
}
