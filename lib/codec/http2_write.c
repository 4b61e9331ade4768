/* What is written to a stream: from the text of HTTP/1.1 to fields and content. */
#include <errno.h>

#include "codec/http2_stream.h"

/* The most fields, with pseudo-fields and te beside them. */
#define NV_MAX (FLAT_HTTP_FIELDS_MAX + 5)

struct list {
	nghttp2_nv v[NV_MAX];
	size_t n;
};

/* nghttp2's list takes no pointers to const. */
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
		       const uint8_t *text)
{
	bool grpc = false;
	bool te = false;
	/* RFC 9110, 8.6: these have none, and clients of HTTP/2 take one for an error of the stream. */
	bool none = head->response && (head->status < 200 || head->status == 204);

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
		bool length = f->id == FLAT_HTTP_CONTENT_LENGTH && (grpc || none);

		te |= f->id == FLAT_HTTP_TE && !f->hidden;
		if (!f->hidden && !ours && !length)
			add_field(h, l, text, f);
	}
	/* gRPC's servers ask for it: it says that no old proxy is between. */
	if (!head->response && (grpc || te))
		add(l, "te", 2, "trailers", 8);
}

/* A message's first line and what follows from it, as pseudo-fields. */
static void add_start(const struct flat_http2 *h, struct list *l, const struct flat_http_head *head,
		      const uint8_t *text, char status[4])
{
	if (head->response) {
		status[0] = (char)('0' + head->status / 100);
		status[1] = (char)('0' + head->status / 10 % 10);
		status[2] = (char)('0' + head->status % 10);
		status[3] = 0;
		add_pseudo(l, ":status", flat_span_of(status));
		return;
	}
	add_pseudo(l, ":method", flat_head_span(text, head->start, head->method_len));
	add_pseudo(l, ":scheme", flat_span_of(h->secure ? "https" : "http"));
	add_pseudo(l, ":authority", flat_head_span(text, head->authority, head->authority_len));
	add_pseudo(l, ":path", flat_head_span(text, head->target, head->target_len));
}

/* `status`: room for the digits of a response's. */
static int make_list(struct flat_http2 *h, struct list *l, const struct flat_http_head *head,
		     const uint8_t *text, char status[4])
{
	int err = lower_begin(h, head);

	l->n = 0;
	if (err != 0)
		return err;
	add_start(h, l, head, text, status);
	add_fields(h, l, head, text);
	return 0;
}

/* --- blocks that repeat --- */

_Static_assert(FLAT_HTTP_FIELDS_MAX <= 128, "a bit for each field");

static void mask_of(const struct flat_http_head *head, uint64_t hidden[2])
{
	hidden[0] = hidden[1] = 0;
	for (uint32_t i = 0; i < head->n_fields; i++)
		hidden[i / 64] |= (uint64_t)head->fields[i].hidden << i % 64;
}

/* Whether this text is what was sent last, and HPACK's table is the same. */
static bool is_sent_text(const struct flat_http2 *h, const struct flat_http2_sent *sent,
			 const uint8_t *text, size_t len)
{
	return sent->len == len && len > 0 && sent->entries == h->tx_entries &&
	       memcmp(sent->text, text, len) == 0;
}

/* The same for a head, of which others than its reader hide fields. */
static bool is_sent(const struct flat_http2 *h, const struct flat_http_head *head,
		    const uint8_t *text)
{
	const struct flat_http2_sent *sent = &h->sent_head;
	uint64_t hidden[2];

	if (!is_sent_text(h, sent, text, head->bytes) || sent->n_fields != head->n_fields ||
	    sent->target != head->target || sent->target_len != head->target_len)
		return false;
	mask_of(head, hidden);
	return hidden[0] == sent->hidden[0] && hidden[1] == sent->hidden[1];
}

/* A list of fields to h->coded. After an error nobody can read what follows. */
static int code(struct flat_http2 *h, const struct list *l)
{
	int err = flat_http2_deflate(h, l->v, l->n);

	h->nomem |= err != 0;
	return err;
}

/* What `text`, `len` bytes, came to is remembered, where it made no entry: there were `entries` before it. */
static bool keep_sent(const struct flat_http2 *h, struct flat_http2_sent *sent, const uint8_t *text,
		      size_t len, uint64_t entries)
{
	sent->len = 0;
	if (h->tx_entries != entries || len > sizeof(sent->text) ||
	    h->coded.len > sizeof(sent->block))
		return false;
	memcpy(sent->text, text, len);
	memcpy(sent->block, h->coded.v, h->coded.len);
	sent->block_len = (uint32_t)h->coded.len;
	sent->entries = entries;
	sent->len = (uint32_t)len;
	return true;
}

/* Sends a head. */
static int send_head(struct flat_http2_stream *s, const struct flat_http_head *head,
		     const uint8_t *text)
{
	struct flat_http2 *h = s->h;
	struct flat_http2_sent *sent = &h->sent_head;
	uint64_t entries = h->tx_entries;
	struct list l;
	char status[4];
	int err = 0;

	if (is_sent(h, head, text)) {
		flat_http2_send_block(h, s->id, sent->block, sent->block_len, s->tx_end);
		return 0;
	}
	err = make_list(h, &l, head, text, status);
	if (err == 0)
		err = code(h, &l);
	if (err != 0)
		return err;
	if (keep_sent(h, sent, text, head->bytes, entries)) {
		mask_of(head, sent->hidden);
		sent->n_fields = head->n_fields;
		sent->target = head->target;
		sent->target_len = head->target_len;
	}
	flat_http2_send_block(h, s->id, h->coded.v, h->coded.len, s->tx_end);
	return 0;
}

int flat_http2_send_trailers(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;
	struct flat_http2_sent *sent = &h->sent_trailers;
	const uint8_t *text = s->tx_trailers.v + s->tx_trailers.at;
	size_t len = s->tx_trailers.len - s->tx_trailers.at;
	uint64_t entries = h->tx_entries;
	struct list l;
	int err;

	if (is_sent_text(h, sent, text, len)) {
		flat_http2_send_block(h, s->id, sent->block, sent->block_len, true);
		return 0;
	}
	flat_http1_begin(&h->scratch, FLAT_HTTP1_TRAILERS);
	if (flat_http1_read(&h->scratch, text, len) <= 0)
		return -EBADMSG;
	err = lower_begin(h, &h->scratch.head);
	if (err != 0)
		return err;
	l.n = 0;
	add_fields(h, &l, &h->scratch.head, text);
	err = code(h, &l);
	if (err != 0)
		return err;
	(void)keep_sent(h, sent, text, len, entries);
	flat_http2_send_block(h, s->id, h->coded.v, h->coded.len, true);
	return 0;
}

/* --- requests beyond what the peer takes at once --- */

/* It may be asked again, elsewhere. */
static void refuse(struct flat_http2_stream *s)
{
	s->reset = s->refused = true;
}

/* False: no number is left. */
static bool take_number(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;

	if (!flat_http2_usable(h)) {
		refuse(s);
		return false;
	}
	flat_http2_stream_number(s, h->next_id);
	h->used_up = h->next_id > INT32_MAX - 2;
	if (!h->used_up)
		h->next_id += 2;
	return true;
}

static bool may_begin(const struct flat_http2 *h)
{
	return h->n_open < h->tx_streams_max && h->out.len - h->out.at <= FLAT_HTTP2_OUT_MAX;
}

/* Fields one after the other, each as two lengths and its bytes. */
static int put_off(struct flat_http2_stream *s, const struct list *l)
{
	int err = 0;

	for (size_t i = 0; i < l->n && err == 0; i++) {
		const uint32_t lens[2] = {(uint32_t)l->v[i].namelen, (uint32_t)l->v[i].valuelen};

		err = flat_http2_bytes_add(&s->tx_head, lens, sizeof(lens), SIZE_MAX);
		if (err == 0)
			err = flat_http2_bytes_add(&s->tx_head, l->v[i].name, lens[0], SIZE_MAX);
		if (err == 0)
			err = flat_http2_bytes_add(&s->tx_head, l->v[i].value, lens[1], SIZE_MAX);
	}
	if (err != 0)
		return err;
	s->pending = true;
	TAILQ_INSERT_TAIL(&s->h->pending, s, ready_link);
	return 0;
}

/* The head that was put off goes. */
static int begin(struct flat_http2_stream *s)
{
	struct flat_http2 *h = s->h;
	const uint8_t *at = s->tx_head.v;
	const uint8_t *end = at + s->tx_head.len;
	bool last = s->tx_end && s->tx_data.at == s->tx_data.len && s->tx_trailers.len == 0;
	struct list l = {.n = 0};
	int err;

	while (at < end) {
		uint32_t lens[2];

		memcpy(lens, at, sizeof(lens));
		at += sizeof(lens);
		add(&l, at, lens[0], at + lens[0], lens[1]);
		at += lens[0] + lens[1];
	}
	err = code(h, &l);
	if (err != 0)
		return err;
	flat_http2_send_block(h, s->id, h->coded.v, h->coded.len, last);
	if (last)
		flat_http2_sent_end(s);
	else
		flat_http2_may_send(s);
	return 0;
}

void flat_http2_begin_pending(struct flat_http2 *h)
{
	struct flat_http2_stream *s;

	while (!h->dead && !h->nomem && may_begin(h) && (s = TAILQ_FIRST(&h->pending)) != NULL) {
		TAILQ_REMOVE(&h->pending, s, ready_link);
		s->pending = false;
		if (!take_number(s))
			flat_http2_stream_wake(s);
		else if (begin(s) != 0)
			return;
	}
}

/* --- a head --- */

static int submit_request(struct flat_http2_stream *s, const struct flat_http_head *head,
			  const uint8_t *text)
{
	struct flat_http2 *h = s->h;
	struct list l;
	char status[4];
	int err;

	if (!flat_http2_usable(h)) {
		refuse(s);
		return 0;
	}
	if (may_begin(h) && TAILQ_EMPTY(&h->pending)) {
		(void)take_number(s);
		err = send_head(s, head, text);
		/* A number that nothing was said with is nobody's. */
		h->nomem |= err != 0;
		return err;
	}
	err = make_list(h, &l, head, text, status);
	return err ? err : put_off(s, &l);
}

static int submit(struct flat_http2_stream *s, const struct flat_http_head *head,
		  const uint8_t *text)
{
	int err;

	if (head->response && head->status < 200)
		return send_head(s, head, text);
	if (head->response) {
		flat_http1_body_begin(
		    &s->tx_body,
		    flat_http1_response_body(head, (enum flat_http_method)s->method_id),
		    head->length);
	} else {
		s->method_id = head->method_id;
		flat_http1_body_begin(&s->tx_body, (enum flat_body_kind)head->body, head->length);
	}
	s->tx_end = s->tx_body.over;
	s->tx = FLAT_HTTP2_TX_BODY;
	err = head->response ? send_head(s, head, text) : submit_request(s, head, text);
	if (err == 0 && s->tx_end && s->id != 0 && !s->reset)
		flat_http2_sent_end(s);
	return err;
}

/* --- content --- */

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
	if (used > 0 || s->tx_end)
		flat_http2_may_send(s);
	return (ssize_t)used;
}

ssize_t flat_http2_write(struct flat_http2_stream *s, const uint8_t *bytes, size_t len)
{
	size_t used = 0;
	ssize_t n = 0;

	while (used < len) {
		if (s->reset || s->closed || s->tx_cut || !s->h)
			return (ssize_t)len;
		if (s->tx == FLAT_HTTP2_TX_HEAD) {
			struct flat_http1 *p = &s->h->scratch;

			flat_http1_begin(p, s->h->side == FLAT_HTTP2_CLIENT ? FLAT_HTTP1_REQUEST
									    : FLAT_HTTP1_RESPONSE);
			n = flat_http1_read(p, bytes + used, len - used);
			if (n > 0) {
				int err = submit(s, &p->head, bytes + used);
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
	return submit(s, head, text);
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
	flat_http2_may_send(s);
}

void flat_http2_break_off(struct flat_http2_stream *s, enum flat_http2_error error)
{
	if (!s->h || s->closed || s->id == 0 || s->tx_end || s->tx_data.at == s->tx_data.len) {
		flat_http2_reset(s, error);
		return;
	}
	s->tx_cut = (uint8_t)error;
	s->tx_end = true;
	flat_http2_may_send(s);
}
