/* What is written to a stream: from the text of HTTP/1.1 to nghttp2. */
#include <errno.h>

#include "codec/http2_stream.h"

/* The most fields, with pseudo-fields and te beside them. */
#define NV_MAX (FLAT_HTTP_FIELDS_MAX + 5)

struct list {
	nghttp2_nv v[NV_MAX];
	size_t n;
};

/* nghttp2 copies both; it takes no pointers to const. */
static void add(struct list *l, const void *name, size_t name_len, const void *value, size_t len)
{
	nghttp2_nv *nv = &l->v[l->n++];

	nv->name = (uint8_t *)(uintptr_t)name;
	nv->namelen = name_len;
	nv->value = (uint8_t *)(uintptr_t)value;
	nv->valuelen = len;
	nv->flags = NGHTTP2_NV_FLAG_NONE;
}

static void add_pseudo(struct list *l, const char *name, struct flat_span value)
{
	add(l, name, strlen(name), value.text, value.len);
}

static bool has_upper(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] >= 'A' && name[i] <= 'Z')
			return true;
	}
	return false;
}

/* Room for all names in lower case: nothing moves while the list is made. */
static int lower_begin(struct flat_http2 *h, const struct flat_http_head *head)
{
	size_t want = 0;

	for (uint32_t i = 0; i < head->n_fields; i++)
		want += head->fields[i].name_len;
	h->lower.at = h->lower.len = 0;
	if (h->lower.size >= want)
		return 0;
	for (size_t left = want; left > 0;) {
		static const uint8_t zero[256];
		size_t n = flat_min_size(left, sizeof(zero));
		int err =
		    flat_http2_bytes_add(&h->lower, zero, n, (size_t)FLAT_HTTP_HEAD_BYTES_MAX);

		if (err != 0)
			return err;
		left -= n;
	}
	h->lower.len = 0;
	return 0;
}

static void add_field(struct flat_http2 *h, struct list *l, const uint8_t *text,
		      const struct flat_http_field *f)
{
	const uint8_t *name = text + f->name;

	if (has_upper(name, f->name_len)) {
		uint8_t *to = h->lower.v + h->lower.len;

		for (size_t i = 0; i < f->name_len; i++)
			to[i] = name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i];
		h->lower.len += f->name_len;
		name = to;
	}
	add(l, name, f->name_len, text + f->value, f->value_len);
}

static bool is_type(const struct flat_http_field *f, const uint8_t *text)
{
	return flat_span_equal(flat_head_span(text, f->name, f->name_len),
			       flat_span_of("content-type"), true);
}

/* Fields of a head or trailers; those of one hop are HTTP/1's alone. */
static void add_fields(struct flat_http2 *h, struct list *l, const struct flat_http_head *head,
		       const uint8_t *text, bool te)
{
	bool grpc = false;

	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct flat_http_field *f = &head->fields[i];

		if (is_type(f, text))
			grpc = flat_http_is_grpc(flat_head_span(text, f->value, f->value_len));
	}
	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct flat_http_field *f = &head->fields[i];
		bool ours = f->id == FLAT_HTTP_HOST || f->id == FLAT_HTTP_TE ||
			    f->id == FLAT_HTTP_TRANSFER_ENCODING;
		/* gRPC counts its messages itself: its answers that are trailers only have no length. */
		bool length = f->id == FLAT_HTTP_CONTENT_LENGTH && grpc;

		if (!f->hidden && !ours && !length)
			add_field(h, l, text, f);
	}
	/* gRPC's servers ask for it: it says that no old proxy is between. */
	if (!head->response && (grpc || te))
		add(l, "te", 2, "trailers", 8);
}

static int code_of(int ret)
{
	return ret == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG;
}

static int submit_request(struct flat_http2_stream *s, struct list *l,
			  const nghttp2_data_provider *source)
{
	struct flat_http2 *h = s->h;
	int32_t id = flat_http2_usable(h)
			 ? nghttp2_submit_request(h->session, NULL, l->v, l->n, source, s)
			 : NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE;

	if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) {
		/* It may be asked again, elsewhere. */
		h->used_up = true;
		s->reset = s->refused = true;
		return 0;
	}
	if (id < 0)
		return code_of(id);
	s->id = id;
	return 0;
}

static int submit(struct flat_http2_stream *s, const struct flat_http_head *head,
		  const uint8_t *text, bool te)
{
	struct flat_http2 *h = s->h;
	struct list l = {.n = 0};
	nghttp2_data_provider provider = {.source.ptr = s, .read_callback = flat_http2_provide};
	const nghttp2_data_provider *source = &provider;
	char status[4] = {(char)('0' + head->status / 100), (char)('0' + head->status / 10 % 10),
			  (char)('0' + head->status % 10), 0};
	int err = lower_begin(h, head);

	if (err != 0)
		return err;
	if (head->response) {
		flat_http1_body_begin(
		    &s->tx_body,
		    flat_http1_response_body(head, (enum flat_http_method)s->method_id),
		    head->length);
		add_pseudo(&l, ":status", flat_span_of(status));
	} else {
		s->method_id = head->method_id;
		flat_http1_body_begin(&s->tx_body, (enum flat_body_kind)head->body, head->length);
		add_pseudo(&l, ":method", flat_head_span(text, head->start, head->method_len));
		add_pseudo(&l, ":scheme", flat_span_of("http"));
		add_pseudo(&l, ":authority",
			   flat_head_span(text, head->authority, head->authority_len));
		add_pseudo(&l, ":path", flat_head_span(text, head->target, head->target_len));
	}
	add_fields(h, &l, head, text, te);
	if (head->response && head->status < 200) {
		err = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, l.v, l.n,
					     NULL);
		return err < 0 ? code_of(err) : 0;
	}
	s->tx_end = s->tx_body.over;
	s->tx = FLAT_HTTP2_TX_BODY;
	if (s->tx_end)
		source = NULL;
	if (!head->response)
		return submit_request(s, &l, source);
	err = nghttp2_submit_response(h->session, s->id, l.v, l.n, source);
	return err < 0 ? code_of(err) : 0;
}

/* --- content --- */

static int resume(struct flat_http2_stream *s)
{
	int err = nghttp2_session_resume_data(s->h->session, s->id);

	/* Not deferred, or not begun: it will ask by itself. */
	return err == NGHTTP2_ERR_NOMEM ? -ENOMEM : 0;
}

/* Trailers are sent when the content before them was (flat_http2_provide). */
static int submit_trailers(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;
	struct list l = {.n = 0};
	int err;

	flat_http1_begin(&h->scratch, FLAT_HTTP1_TRAILERS);
	if (flat_http1_read(&h->scratch, s->tx_trailers.v, s->tx_trailers.len) <= 0)
		return -EBADMSG;
	err = lower_begin(h, &h->scratch.head);
	if (err != 0)
		return err;
	add_fields(h, &l, &h->scratch.head, s->tx_trailers.v, false);
	err = nghttp2_submit_trailer(h->session, s->id, l.v, l.n);
	return err < 0 ? code_of(err) : 0;
}

ssize_t flat_http2_provide(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
			   uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct flat_http2_stream *s = source->ptr;
	size_t n = flat_min_size(s->tx_data.len - s->tx_data.at, length);

	(void)session;
	(void)id;
	(void)arg;
	if (n == 0 && !s->tx_end)
		return NGHTTP2_ERR_DEFERRED;
	if (n > 0)
		memcpy(buf, s->tx_data.v + s->tx_data.at, n);
	s->tx_data.at += n;
	if (s->tx_end && s->tx_data.at == s->tx_data.len) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->tx_trailers.len > 0) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (submit_trailers(s) != 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	if (s->tx_full && s->tx_data.len - s->tx_data.at <= FLAT_HTTP2_TX_BYTES_MAX / 2) {
		s->tx_full = false;
		flat_http2_stream_wake(s);
	}
	return (ssize_t)n;
}

/* One piece of the body. Bytes used, 0: no more now. */
static ssize_t write_piece(struct flat_http2_stream *s, const uint8_t *bytes, size_t len)
{
	struct flat_http1_body *b = &s->tx_body;
	size_t room = FLAT_HTTP2_TX_BYTES_MAX - (s->tx_data.len - s->tx_data.at);
	/* Lines and trailers are no content. */
	bool data = b->kind != FLAT_BODY_CHUNKED || b->left > 0;
	struct flat_piece piece;
	ssize_t n;
	int err = 0;

	if (room == 0) {
		s->tx_full = true;
		return 0;
	}
	/* Trailers that were not whole are read anew. */
	flat_http1_begin(&s->h->scratch, FLAT_HTTP1_TRAILERS);
	n = flat_http1_body_read(b, bytes, data ? flat_min_size(len, room) : len, &s->h->scratch,
				 &piece);
	if (n < 0)
		return -EBADMSG;
	if (piece.kind == FLAT_PIECE_DATA)
		err = flat_http2_bytes_add(&s->tx_data, bytes, (size_t)n, FLAT_HTTP2_TX_BYTES_MAX);
	else if (piece.kind == FLAT_PIECE_LAST && s->h->scratch.head.n_fields > 0)
		err = flat_http2_bytes_add(&s->tx_trailers, bytes, (size_t)n,
					   (size_t)FLAT_HTTP_TRAILER_BYTES_MAX + 2);
	return err ? err : n;
}

static ssize_t write_body(struct flat_http2_stream *s, const uint8_t *bytes, size_t len)
{
	size_t used = 0;
	ssize_t n = 1;

	while (n > 0 && !s->tx_body.over && used < len) {
		n = write_piece(s, bytes + used, len - used);
		if (n < 0)
			return n;
		used += (size_t)n;
	}
	if (s->tx_body.over)
		s->tx_end = true;
	if (used > 0 || s->tx_end) {
		int err = resume(s);
		if (err != 0)
			return err;
	}
	return (ssize_t)used;
}

ssize_t flat_http2_write(struct flat_http2_stream *s, const uint8_t *bytes, size_t len)
{
	size_t used = 0;
	ssize_t n = 0;

	while (used < len) {
		if (s->reset || s->closed || !s->h)
			return (ssize_t)len;
		if (s->tx == FLAT_HTTP2_TX_HEAD) {
			struct flat_http1 *p = &s->h->scratch;

			flat_http1_begin(p, s->h->side == FLAT_HTTP2_CLIENT ? FLAT_HTTP1_REQUEST
									    : FLAT_HTTP1_RESPONSE);
			n = flat_http1_read(p, bytes + used, len - used);
			if (n > 0) {
				int err = submit(s, &p->head, bytes + used, p->head.te_trailers);
				if (err != 0)
					return err;
			}
		} else if (s->tx_body.over) {
			return -EBADMSG;
		} else {
			n = write_body(s, bytes + used, len - used);
		}
		if (n < 0)
			return n;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

int flat_http2_write_head(struct flat_http2_stream *s, const struct flat_http_head *head,
			  const void *text)
{
	if (s->reset || s->closed || !s->h)
		return 0;
	if (s->tx != FLAT_HTTP2_TX_HEAD)
		return -EBADMSG;
	return submit(s, head, text, false);
}

void flat_http2_finish(struct flat_http2_stream *s)
{
	if (s->reset || s->closed || !s->h || s->tx_end)
		return;
	if (s->tx != FLAT_HTTP2_TX_BODY || s->tx_body.kind != FLAT_BODY_OPAQUE) {
		flat_http2_reset(s, FLAT_HTTP2_INTERNAL_ERROR);
		return;
	}
	s->tx_end = true;
	if (resume(s) != 0)
		s->h->nomem = true;
}
