/* Responses compressed on their way: which, what their heads say of it, and their bodies piece by piece. */
#include "offload/l7_compress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "offload/l7_filter.h"

/* Bytes that the compressor gives at once: with a chunk's line and end less than FLAT_L7_ROOM_BYTES. */
#define OUT_BYTES ((size_t)16 * 1024)
/* zlib's way to ask for gzip's head and tail. */
#define GZIP_WINDOW 16

/* One response. Memory: zlib's, (4 << window bits) + (512 << memory level) bytes, and this. */
struct flat_l7_gzip {
	struct flat_l7_gzip *next; /* of those kept */
	z_stream z;
	int8_t level;
	uint8_t memory, window_bits, strategy;
	bool weakens;		     /* a strong ETag becomes a weak one */
	struct flat_http1_body body; /* as it comes; x.down is what goes */
	size_t left; /* bytes of content that wait at the front of the server's end */
	size_t tail; /* bytes of the last chunk and trailers there, once the body has ended */
	int flush;   /* what the compressor is asked for */
	bool more;   /* it has more to give than there was room for */
	bool ending; /* the body has ended */
	bool dirty;  /* something was given to it and not flushed */
};

/* --- which responses --- */

static const char *const usual_types[] = {
    "text/html",
    "text/plain",
    "text/css",
    "text/xml",
    "application/xml",
    "application/xhtml+xml",
    "application/json",
    "application/x-json",
    "application/javascript",
    "text/javascript",
    "text/x-javascript",
    "application/x-javascript",
    "text/ecmascript",
    "application/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "image/svg+xml",
};

static bool type_fits(const struct flat_compressor *c, struct flat_span type)
{
	const char *const *types = c->n_types ? c->types : usual_types;
	uint32_t n = c->n_types ? c->n_types : FLAT_ARRAY_SIZE(usual_types);
	const char *end;

	/* As in Envoy: what does not say is taken. */
	if (!type.text)
		return true;
	end = memchr(type.text, ';', type.len);
	type.len = end ? (size_t)(end - type.text) : type.len;
	type = flat_span_trim(type);
	for (uint32_t i = 0; i < n; i++) {
		if (flat_span_equal(type, flat_span_of(types[i]), true))
			return true;
	}
	return false;
}

/* Whether some field of this name holds a token. */
static bool says(const struct flat_http_head *h, const void *text, const char *name,
		 const char *token)
{
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];

		if (flat_span_equal(flat_head_span(text, f->name, f->name_len), flat_span_of(name),
				    true) &&
		    flat_http_list_has(flat_head_span(text, f->value, f->value_len), token))
			return true;
	}
	return false;
}

static bool has(const struct flat_http_head *h, const void *text, const char *name)
{
	return flat_head_field(h, text, flat_span_of(name)).text != NULL;
}

/* Whether it could be compressed for somebody. */
static bool fits(const struct flat_compressor *c, const struct flat_http_head *h, const void *text)
{
	/* Neither: it ends with its connection, and Envoy leaves it alone. */
	if (h->body == FLAT_BODY_LENGTH ? h->length < c->min_length : h->body != FLAT_BODY_CHUNKED)
		return false;
	if (h->status < 200 || h->status == 204 || h->status == 206 || h->status == 304)
		return false;
	return !has(h, text, "content-encoding") && !has(h, text, "content-range") &&
	       !(c->not_with_etag && has(h, text, "etag")) &&
	       !says(h, text, "cache-control", "no-transform") &&
	       type_fits(c, flat_head_field(h, text, flat_span_of("content-type")));
}

/* The compressors that a request meets on its way back: the server's, then that of the client or gateway. NULL: none. */
static const struct flat_compressor *compressor(const struct flat_l7 *l7, int i)
{
	const struct flat_session *client = l7->conn->client;
	struct flat_filter_whose whose;
	bool there = i == 0 ? flat_l7_filter_server(l7, &whose)
			    : flat_l7_filter_client(l7, client ? client->workload : NULL, &whose);

	return there ? flat_mesh_compressor(l7->x.mesh, &whose) : NULL;
}

const struct flat_header_ops *flat_l7_compress_request(const struct flat_l7 *l7)
{
	static const char *const names[] = {"accept-encoding"};
	static const struct flat_header_ops ops = {.remove = names, .n_remove = 1};

	for (int i = 0; i < 2; i++) {
		const struct flat_compressor *c = compressor(l7, i);

		if (c && c->removes_accept)
			return &ops;
	}
	return NULL;
}

/* --- compressors --- */

static void gzip_free(struct flat_l7_gzip *gz)
{
	(void)deflateEnd(&gz->z);
	free(gz);
}

void flat_l7_compress_fini(struct flat_l7_node *node)
{
	struct flat_l7_gzip *gz;

	while ((gz = node->gzip_spare) != NULL) {
		node->gzip_spare = gz->next;
		gzip_free(gz);
	}
	node->n_gzip_spare = 0;
}

/* One that is kept and made alike. */
static struct flat_l7_gzip *take_spare(struct flat_l7_node *node, const struct flat_compressor *c)
{
	for (struct flat_l7_gzip **p = &node->gzip_spare; *p; p = &(*p)->next) {
		struct flat_l7_gzip *gz = *p;

		if (gz->level != c->level || gz->memory != c->memory ||
		    gz->window_bits != c->window_bits || gz->strategy != c->strategy)
			continue;
		*p = gz->next;
		node->n_gzip_spare--;
		return gz;
	}
	return NULL;
}

static struct flat_l7_gzip *gzip_new(struct flat_l7_node *node, const struct flat_compressor *c)
{
	struct flat_l7_gzip *gz = take_spare(node, c);

	if (gz)
		return gz;
	gz = calloc(1, sizeof(*gz));
	if (!gz)
		return NULL;
	gz->level = c->level;
	gz->memory = c->memory;
	gz->window_bits = c->window_bits;
	gz->strategy = c->strategy;
	if (deflateInit2(&gz->z, c->level, Z_DEFLATED, c->window_bits + GZIP_WINDOW, c->memory,
			 c->strategy) != Z_OK) {
		free(gz);
		return NULL;
	}
	return gz;
}

void flat_l7_compress_end(struct flat_l7 *l7)
{
	struct flat_l7_node *node = l7->node;
	struct flat_l7_gzip *gz = l7->x.gzip;

	l7->x.gzip = NULL;
	node->n_gzips--;
	if (node->n_gzip_spare == FLAT_L7_GZIPS_SPARE || deflateReset(&gz->z) != Z_OK) {
		gzip_free(gz);
		return;
	}
	gz->next = node->gzip_spare;
	node->gzip_spare = gz;
	node->n_gzip_spare++;
}

/* --- the head --- */

static bool accepts(const struct flat_l7 *l7)
{
	char buf[1024];
	bool overflow = false;
	struct flat_span accept = flat_http_field_joined(
	    &l7->x.request, flat_span_of("accept-encoding"), buf, sizeof(buf), &overflow);

	/* Chunks are of HTTP/1.1. */
	return l7->in.head.minor > 0 && flat_http_accepts_coding(accept, "gzip", "x-gzip");
}

void flat_l7_compress_begin(struct flat_l7 *l7, const struct flat_l7_upstream *up)
{
	struct flat_l7_node *node = l7->node;
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_head *h = &up->in.head;
	const void *text = up->end.in + up->end.at;
	const struct flat_compressor *c = NULL;

	if (x->grpc || l7->shadow)
		return;
	for (int i = 0; i < 2 && !c; i++) {
		c = compressor(l7, i);
		if (c && !fits(c, h, text))
			c = NULL;
	}
	if (!c)
		return;
	/* Who asks for it otherwise gets something else. */
	x->vary = !says(h, text, "vary", "accept-encoding") && !says(h, text, "vary", "*");
	if (x->down.over)
		return;
	if (accepts(l7) && node->n_gzips < FLAT_L7_GZIPS_MAX)
		x->gzip = gzip_new(node, c);
	node->compressed[x->gzip ? 1 : 0]++;
	if (!x->gzip)
		return;
	node->n_gzips++;
	x->gzip->weakens = c->weakens_etag;
	x->gzip->body = x->down;
	x->gzip->left = x->gzip->tail = 0;
	x->gzip->flush = Z_NO_FLUSH;
	x->gzip->more = x->gzip->ending = x->gzip->dirty = false;
}

static bool is_weak(struct flat_span etag)
{
	return etag.len > 2 && etag.text[0] == 'W' && etag.text[1] == '/';
}

bool flat_l7_compress_drops(const struct flat_http_field *f, struct flat_span name,
			    struct flat_span value)
{
	if (f->id == FLAT_HTTP_CONTENT_LENGTH || f->id == FLAT_HTTP_TRANSFER_ENCODING)
		return true;
	/* A strong one says that the bytes are the same. */
	return flat_span_equal(name, flat_span_of("etag"), true) && !is_weak(value);
}

void flat_l7_compress_put(const struct flat_l7 *l7, const struct flat_http_head *h,
			  const void *text, struct flat_http1_out *out)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_span etag = flat_head_field(h, text, flat_span_of("etag"));

	if (x->gzip)
		flat_http1_puts(out, "content-encoding: gzip\r\ntransfer-encoding: chunked\r\n");
	if (x->gzip && x->gzip->weakens && etag.text && !is_weak(etag)) {
		flat_http1_puts(out, "etag: W/");
		flat_http1_put(out, etag.text, etag.len);
		flat_http1_put(out, "\r\n", 2);
	}
	if (x->vary)
		flat_http1_puts(out, "vary: Accept-Encoding\r\n");
}

/* --- the body --- */

/* Gives the compressor what waits, and the client a chunk of what it makes of it. */
static void compress_some(struct flat_l7 *l7, struct flat_l7_upstream *up)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_gzip *gz = x->gzip;
	struct flat_l7_end *from = &up->end;
	struct flat_http1_out line = {.size = flat_l7_end_room(&l7->end)};
	uint8_t *made = (uint8_t *)l7->node->fields;
	size_t used;
	size_t len;

	gz->z.next_in = from->in + from->at;
	gz->z.avail_in = (uInt)gz->left;
	gz->z.next_out = made;
	gz->z.avail_out = OUT_BYTES;
	/* Z_BUF_ERROR: there was nothing to do. Nothing else can go wrong here. */
	(void)deflate(&gz->z, gz->flush);
	used = gz->left - gz->z.avail_in;
	len = OUT_BYTES - gz->z.avail_out;
	from->at += used;
	gz->left -= used;
	gz->dirty |= used > 0;
	gz->more = gz->z.avail_out == 0;
	l7->node->gzip_bytes[0] += used;
	if (len == 0)
		return;
	line.bytes = l7->end.out + l7->end.out_len;
	flat_http1_put_chunk(&line, len);
	l7->end.out_len += line.len;
	flat_l7_end_put(&l7->end, made, len);
	flat_l7_end_put(&l7->end, "\r\n", 2);
	x->down_bytes += len;
	l7->node->gzip_bytes[1] += len;
}

static void ask(struct flat_l7_gzip *gz, int flush)
{
	gz->flush = flush;
	gz->more = true;
}

int flat_l7_compress_piece(struct flat_l7 *l7, struct flat_l7_upstream *up)
{
	static const struct flat_piece last = {.kind = FLAT_PIECE_LAST};
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_gzip *gz = x->gzip;
	struct flat_l7_end *from = &up->end;
	struct flat_piece piece;
	ssize_t n;

	if (flat_l7_end_room(&l7->end) < FLAT_L7_ROOM_BYTES)
		return 0;
	if (gz->left > 0 || gz->more) {
		compress_some(l7, up);
		return 1;
	}
	if (gz->ending) {
		flat_l7_put_piece(&l7->end, &last, from->in + from->at,
				  gz->tail ? &x->trailers : NULL);
		from->at += gz->tail;
		x->down.over = true;
		return 1;
	}
	n = flat_http1_body_read(&gz->body, from->in + from->at, from->len - from->at, &x->trailers,
				 &piece);
	if (n < 0)
		return -EBADMSG;
	switch (piece.kind) {
	case FLAT_PIECE_DATA:
		gz->left = (size_t)piece.size;
		gz->flush = Z_NO_FLUSH;
		return 1;
	case FLAT_PIECE_LAST:
		flat_l7_trailers_response(l7, from->in + from->at);
		gz->tail = (size_t)n;
		gz->ending = true;
		ask(gz, Z_FINISH);
		return 1;
	case FLAT_PIECE_END:
		gz->ending = true;
		ask(gz, Z_FINISH);
		return 1;
	default:
		from->at += (size_t)n;
	}
	if (n > 0)
		return 1;
	/* The server pauses: what it said is not kept back. */
	if (!gz->dirty)
		return 0;
	gz->dirty = false;
	ask(gz, Z_SYNC_FLUSH);
	return 1;
}

void flat_l7_compress_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	flat_strbuf_printf(out,
			   "# HELP flat_compressor_responses_total Responses that a compressor is "
			   "for: compressed, or as they came, since their client takes no gzip.\n"
			   "# TYPE flat_compressor_responses_total counter\n"
			   "flat_compressor_responses_total{result=\"compressed\"} %" PRIu64 "\n"
			   "flat_compressor_responses_total{result=\"identity\"} %" PRIu64 "\n"
			   "# HELP flat_compressor_bytes_total Content before and after it.\n"
			   "# TYPE flat_compressor_bytes_total counter\n"
			   "flat_compressor_bytes_total{kind=\"uncompressed\"} %" PRIu64 "\n"
			   "flat_compressor_bytes_total{kind=\"compressed\"} %" PRIu64 "\n",
			   node->compressed[1], node->compressed[0], node->gzip_bytes[0],
			   node->gzip_bytes[1]);
}
