/*
 * The messages of Envoy's ext_authz over HTTP: the request's head, and what of the answer's goes where. No connection, as
 * l7_check_grpc.c.
 */
#include "offload/l7_check_grpc.h"

/* The names of fields that are taken away from an allowed request, between commas: over gRPC these have a place of their own. */
#define TO_REMOVE "x-envoy-auth-headers-to-remove"

static bool is_usual(struct flat_span name)
{
	return flat_span_equal(name, flat_span_of("authorization"), true);
}

static bool is_added(const struct flat_ext_authz *ext, struct flat_span name)
{
	for (uint32_t i = 0; i < ext->n_add_to_check; i++) {
		if (flat_span_equal(flat_span_of(ext->add_to_check[i].name), name, true))
			return true;
	}
	return false;
}

static void put_line(struct flat_strbuf *out, struct flat_span name, struct flat_span value)
{
	flat_strbuf_add(out, name.text, name.len);
	flat_strbuf_puts(out, ": ");
	flat_strbuf_add(out, value.text, value.len);
	flat_strbuf_puts(out, "\r\n");
}

/* As Envoy: method, host and path as they are, Authorization, and what the provider names. */
void flat_l7_check_http_write(struct flat_strbuf *out, const struct flat_ext_authz *ext,
			      const struct flat_http_request *r,
			      const struct flat_l7_check_body *body)
{
	flat_strbuf_add(out, r->method.text, r->method.len);
	flat_strbuf_printf(out, " %s", ext->path_prefix);
	flat_strbuf_add(out, r->path.text, r->path.len);
	if (r->query.text) {
		flat_strbuf_putc(out, '?');
		flat_strbuf_add(out, r->query.text, r->query.len);
	}
	flat_strbuf_puts(out, " HTTP/1.1\r\n");
	put_line(out, flat_span_of("host"), r->authority);
	flat_strbuf_printf(out, "content-length: %zu\r\n", body ? body->bytes.len : 0);
	if (body)
		flat_strbuf_printf(out, FLAT_L7_CHECK_PARTIAL ": %s\r\n",
				   body->partial ? "true" : "false");
	for (uint32_t i = 0; i < r->head->n_fields; i++) {
		const struct flat_http_field *f = &r->head->fields[i];
		struct flat_span name = flat_head_span(r->text, f->name, f->name_len);

		/* What frames this message is ours to say, and nobody else's. */
		if (f->hidden || f->id == FLAT_HTTP_HOST || f->id == FLAT_HTTP_CONTENT_LENGTH ||
		    f->id == FLAT_HTTP_TRANSFER_ENCODING || f->id == FLAT_HTTP_CONNECTION ||
		    f->id == FLAT_HTTP_EXPECT || is_added(ext, name) ||
		    flat_l7_check_says_partial(name))
			continue;
		if (is_usual(name) || flat_name_list_has(&ext->to_check, name))
			put_line(out, name, flat_head_span(r->text, f->value, f->value_len));
	}
	for (uint32_t i = 0; i < ext->n_add_to_check; i++)
		put_line(out, flat_span_of(ext->add_to_check[i].name),
			 flat_span_of(ext->add_to_check[i].value));
	flat_strbuf_puts(out, "\r\n");
	if (body)
		flat_strbuf_add(out, body->bytes.data, body->bytes.len);
}

/* Fields of an authorizer's answer that say how it is carried, or speak to flatd. */
static bool is_framing(const struct flat_http_field *f, struct flat_span name)
{
	return f->hidden || f->id == FLAT_HTTP_CONTENT_LENGTH ||
	       f->id == FLAT_HTTP_TRANSFER_ENCODING || f->id == FLAT_HTTP_CONNECTION ||
	       f->id == FLAT_HTTP_HOST || f->id == FLAT_HTTP_TRAILER ||
	       flat_span_equal(name, flat_span_of("date"), true) ||
	       flat_span_equal(name, flat_span_of(TO_REMOVE), true);
}

static bool always_on_deny(struct flat_span name)
{
	return flat_span_equal(name, flat_span_of("www-authenticate"), true) ||
	       flat_span_equal(name, flat_span_of("location"), true);
}

void flat_l7_check_http_take(const struct flat_http_head *h, const void *text,
			     const struct flat_ext_authz *ext, struct flat_l7_check_answer *a)
{
	bool allowed = h->status == 200;

	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);
		struct flat_span value = flat_head_span(text, f->value, f->value_len);

		if (is_framing(f, name))
			continue;
		if (!allowed && (ext->to_client_on_deny.n == 0 || always_on_deny(name) ||
				 flat_name_list_has(&ext->to_client_on_deny, name)))
			put_line(&a->client[FLAT_L7_SAY_ADD], name, value);
		if (allowed && flat_name_list_has(&ext->to_client_on_allow, name))
			put_line(&a->client[FLAT_L7_SAY_ADD], name, value);
		if (allowed && flat_name_list_has(&ext->to_upstream, name)) {
			flat_l7_lines_drop(&a->upstream, name);
			put_line(&a->upstream, name, value);
		}
	}
	for (uint32_t i = 0; allowed && i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span names = flat_head_span(text, f->value, f->value_len);

		if (!flat_span_equal(flat_head_span(text, f->name, f->name_len),
				     flat_span_of(TO_REMOVE), true))
			continue;
		while (names.len > 0)
			flat_l7_said_remove(a, flat_http_list_next(&names));
	}
}
