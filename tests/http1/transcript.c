#include "transcript.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "codec/path.h"

struct reading {
	struct flat_strbuf *out;
	struct flat_http1 head, trailers;
	struct flat_http1_body body;
	bool response, in_body, failed;
	uint64_t data_bytes, data_hash;
	const uint8_t *bytes;
	size_t at; /* the first byte that is not used up */
	bool normal;
};

static void put_span(struct flat_strbuf *out, const char *before, struct flat_span s)
{
	flat_strbuf_puts(out, before);
	flat_strbuf_add(out, s.text, s.len);
}

static void put_fields(struct reading *r, const struct flat_http1 *p, const uint8_t *text)
{
	for (uint32_t i = 0; i < p->head.n_fields; i++) {
		const struct flat_http_field *f = &p->head.fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);
		struct flat_span value = flat_head_span(text, f->value, f->value_len);

		if (r->normal && f->hidden)
			continue;
		put_span(r->out, r->normal ? "" : f->hidden ? "hidden " : "field ", name);
		put_span(r->out, ": ", value);
		flat_strbuf_puts(r->out, r->normal ? "\r\n" : "\n");
	}
}

static void put_head(struct reading *r, const uint8_t *text)
{
	const struct flat_http_head *h = &r->head.head;
	struct flat_span path;
	char buf[FLAT_HTTP_HEAD_BYTES_MAX + 1];

	if (h->response) {
		flat_strbuf_printf(r->out, r->normal ? "HTTP/1.%u %u" : "response %u %u", h->minor,
				   h->status);
		put_span(r->out, " ", flat_head_span(text, h->reason, h->reason_len));
	} else {
		put_span(r->out, r->normal ? "" : "request ",
			 flat_head_span(text, h->start, h->method_len));
		put_span(r->out, " ", flat_head_span(text, h->target, h->target_len));
		flat_strbuf_printf(r->out, r->normal ? " HTTP/1.%u" : " %u", h->minor);
	}
	flat_strbuf_puts(r->out, r->normal ? "\r\n" : "\n");
	if (!h->response && !r->normal) {
		put_span(r->out, "host ", flat_head_span(text, h->authority, h->authority_len));
		if (flat_path_canonical(flat_head_span(text, h->path, h->path_len), buf,
					sizeof(buf), &path) == 0)
			put_span(r->out, "\npath ", path);
		else
			flat_strbuf_puts(r->out, "\nno path");
		flat_strbuf_putc(r->out, '\n');
	}
	put_fields(r, &r->head, text);
	if (r->normal)
		flat_strbuf_puts(r->out, "\r\n");
	else
		flat_strbuf_printf(r->out, "body %u length %llu keep %d expect %d upgrade %d\n",
				   h->body, (unsigned long long)h->length, h->keep_alive,
				   h->expect_continue, h->upgrade);
}

static void put_data(struct reading *r, const uint8_t *bytes, size_t n)
{
	if (r->normal) {
		flat_strbuf_add(r->out, bytes, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		r->data_hash = (r->data_hash ^ bytes[i]) * 0x100000001b3ULL;
	r->data_bytes += n;
}

static void body_over(struct reading *r)
{
	if (!r->normal)
		flat_strbuf_printf(r->out, "end %llu bytes %016llx\n",
				   (unsigned long long)r->data_bytes,
				   (unsigned long long)r->data_hash);
	r->in_body = false;
	flat_http1_begin(&r->head, r->response ? FLAT_HTTP1_RESPONSE : FLAT_HTTP1_REQUEST);
}

static void put_piece(struct reading *r, const struct flat_piece *piece)
{
	switch (piece->kind) {
	case FLAT_PIECE_DATA:
		put_data(r, r->bytes + r->at, (size_t)piece->size);
		break;
	case FLAT_PIECE_CHUNK:
		flat_strbuf_printf(r->out, r->normal ? "%llx\r\n" : "chunk %llu\n",
				   (unsigned long long)piece->size);
		break;
	case FLAT_PIECE_CHUNK_END:
		flat_strbuf_puts(r->out, r->normal ? "\r\n" : "");
		break;
	case FLAT_PIECE_LAST:
		flat_strbuf_puts(r->out, r->normal ? "0\r\n" : "last\n");
		put_fields(r, &r->trailers, r->bytes + r->at);
		flat_strbuf_puts(r->out, r->normal ? "\r\n" : "");
		break;
	default:
		break;
	}
}

static void fault(struct reading *r, unsigned what)
{
	r->failed = true;
	if (!r->normal)
		flat_strbuf_printf(r->out, "fault %s\n",
				   flat_http1_fault_text((enum flat_http1_fault)what));
}

/* One step; false when it needs more. */
static bool step(struct reading *r, size_t len)
{
	struct flat_piece piece;
	ssize_t n;

	if (!r->in_body) {
		n = flat_http1_read(&r->head, r->bytes + r->at, len - r->at);
		if (n < 0)
			fault(r, r->head.fault);
		if (n <= 0)
			return false;
		put_head(r, r->bytes + r->at);
		r->at += (size_t)n;
		r->in_body = true;
		r->data_bytes = 0;
		r->data_hash = 0xcbf29ce484222325ULL;
		flat_http1_body_begin(&r->body,
				      r->response
					  ? flat_http1_response_body(&r->head.head, FLAT_METHOD_GET)
					  : (enum flat_body_kind)r->head.head.body,
				      r->head.head.length);
		return true;
	}
	n = flat_http1_body_read(&r->body, r->bytes + r->at, len - r->at, &r->trailers, &piece);
	if (n < 0) {
		fault(r, r->body.fault);
		return false;
	}
	put_piece(r, &piece);
	r->at += (size_t)n;
	if (piece.kind == FLAT_PIECE_END)
		body_over(r);
	return n > 0 || piece.kind == FLAT_PIECE_END;
}

static void run(struct reading *r, size_t len)
{
	while (!r->failed && step(r, len))
		;
}

void transcript(const uint8_t *bytes, size_t len, bool response, const size_t *cuts, size_t n_cuts,
		struct flat_strbuf *out)
{
	struct reading *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->out = out;
	r->response = response;
	r->bytes = bytes;
	flat_http1_begin(&r->head, response ? FLAT_HTTP1_RESPONSE : FLAT_HTTP1_REQUEST);
	for (size_t i = 0; i < n_cuts && !r->failed; i++)
		run(r, cuts[i] < len ? cuts[i] : len);
	run(r, len);
	if (!r->failed)
		flat_strbuf_puts(out, "more\n");
	free(r);
}

void normal_form(const uint8_t *bytes, size_t len, bool response, struct flat_strbuf *out)
{
	struct reading *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->out = out;
	r->response = response;
	r->normal = true;
	r->bytes = bytes;
	flat_http1_begin(&r->head, response ? FLAT_HTTP1_RESPONSE : FLAT_HTTP1_REQUEST);
	run(r, len);
	free(r);
}
