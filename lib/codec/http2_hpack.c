/* HPACK (RFC 7541) by nghttp2's tables, and blocks that repeat, for which nothing is looked up. */
#include <errno.h>

#include "codec/http2_stream.h"

/* The size of either table (RFC 9113, 6.5.2: the protocol's own first value). */
#define TABLE_BYTES ((size_t)4096)

int flat_http2_hpack_open(struct flat_http2 *h)
{
	if (nghttp2_hd_inflate_new(&h->inflater) != 0)
		return -ENOMEM;
	return nghttp2_hd_deflate_new(&h->deflater, TABLE_BYTES) != 0 ? -ENOMEM : 0;
}

void flat_http2_hpack_close(struct flat_http2 *h)
{
	if (h->inflater)
		nghttp2_hd_inflate_del(h->inflater);
	if (h->deflater)
		nghttp2_hd_deflate_del(h->deflater);
}

/* --- what a block does to a table --- */

struct cursor {
	const uint8_t *at, *end;
};

/* An integer whose first byte has `bits` of it (5.1). False: it is not whole, or larger than any of a block that is remembered. */
static bool read_int(struct cursor *c, unsigned bits, uint32_t *value)
{
	uint32_t max = (1U << bits) - 1;
	unsigned shift = 0;

	if (c->at == c->end)
		return false;
	*value = *c->at++ & max;
	if (*value < max)
		return true;
	while (c->at < c->end && shift < 21) {
		uint8_t byte = *c->at++;

		*value += (uint32_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
		shift += 7;
	}
	return false;
}

static bool skip_string(struct cursor *c)
{
	uint32_t len;

	if (!read_int(c, 7, &len) || len > (size_t)(c->end - c->at))
		return false;
	c->at += len;
	return true;
}

/* Whether it makes no entry and changes no size: then the table is the same after it. */
static bool leaves_table(const uint8_t *bytes, size_t len)
{
	struct cursor c = {bytes, bytes + len};
	uint32_t index;

	while (c.at < c.end) {
		bool indexed = (*c.at & 0x80) != 0;

		/* A literal that makes an entry, or a size. */
		if (!indexed && (*c.at & 0x60))
			return false;
		if (!read_int(&c, indexed ? 7 : 4, &index))
			return false;
		if (!indexed && ((index == 0 && !skip_string(&c)) || !skip_string(&c)))
			return false;
	}
	return true;
}

/* --- reading --- */

bool flat_http2_block_is_known(const struct flat_http2 *h, const struct flat_http2_block *b,
			       const uint8_t *bytes, size_t len)
{
	return b->raw_len == len && len > 0 && b->raw_entries == h->rx_entries &&
	       memcmp(b->raw, bytes, len) == 0;
}

/* After a whole block: it is remembered where it may come again and mean the same. */
static void remember(struct flat_http2 *h, const uint8_t *bytes, size_t len)
{
	struct flat_http2_block *b = h->block;

	if (!leaves_table(bytes, len)) {
		h->rx_entries++;
		return;
	}
	if (b->err != 0 || b->too_large || len > sizeof(b->raw))
		return;
	memcpy(b->raw, bytes, len);
	b->raw_len = (uint32_t)len;
	b->raw_entries = h->rx_entries;
}

static struct flat_span span_of(const uint8_t *text, size_t len)
{
	return (struct flat_span){(const char *)text, len};
}

int flat_http2_inflate(struct flat_http2 *h, const uint8_t *bytes, size_t len, bool whole,
		       bool last)
{
	const uint8_t *at = bytes;
	const uint8_t *end = bytes + len;
	int flags = 0;

	while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
		nghttp2_nv nv;
		ssize_t n;

		flags = 0;
		n = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, at, (size_t)(end - at), last);
		if (n < 0)
			return n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
		at += n;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			flat_http2_block_add(h->block, span_of(nv.name, nv.namelen),
					     span_of(nv.value, nv.valuelen));
		else if (!last && at == end)
			break;
	}
	if (!last)
		return 0;
	if (nghttp2_hd_inflate_end_headers(h->inflater) != 0)
		return -EPROTO;
	flat_http2_block_end(h->block);
	if (whole)
		remember(h, bytes, len);
	else
		h->rx_entries++;
	return 0;
}

/* --- writing --- */

int flat_http2_table_size(struct flat_http2 *h, uint32_t size)
{
	int ret = nghttp2_hd_deflate_change_table_size(h->deflater,
						       size < TABLE_BYTES ? size : TABLE_BYTES);

	h->tx_entries++;
	return ret == NGHTTP2_ERR_NOMEM ? -ENOMEM : 0;
}

int flat_http2_deflate(struct flat_http2 *h, const nghttp2_nv *v, size_t n)
{
	size_t max = nghttp2_hd_deflate_bound(h->deflater, v, n);
	ssize_t len;

	h->coded.at = h->coded.len = 0;
	if (flat_http2_bytes_room(&h->coded, max) != 0)
		return -ENOMEM;
	len = nghttp2_hd_deflate_hd(h->deflater, h->coded.v, max, v, n);
	if (len < 0) {
		h->tx_entries++;
		return len == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG;
	}
	h->coded.len = (size_t)len;
	if (!leaves_table(h->coded.v, h->coded.len))
		h->tx_entries++;
	return 0;
}
