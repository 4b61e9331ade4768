/* Bodies: by length, in chunks, or until the end of the stream. */
#include <errno.h>

#include "codec/http1.h"
#include "codec/http1_scan.h"

/* States of a chunked body. */
enum {
	CHUNK_SIZE,
	CHUNK_DATA,
	CHUNK_TAIL,
	CHUNK_TRAILERS,
};

void flat_http1_body_begin(struct flat_http1_body *b, enum flat_body_kind kind, uint64_t length)
{
	*b = (struct flat_http1_body){.kind = (uint8_t)kind};
	if (kind == FLAT_BODY_LENGTH)
		b->left = length;
	b->over = kind == FLAT_BODY_NONE || (kind == FLAT_BODY_LENGTH && length == 0);
}

static ssize_t fail(struct flat_http1_body *b, enum flat_http1_fault fault)
{
	b->fault = (uint8_t)fault;
	return -EBADMSG;
}

static int hex_of(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `1*16HEXDIG [";" extension] CRLF`. Bytes of the line, 0: not whole yet. */
static ssize_t read_size(struct flat_http1_body *b, const uint8_t *bytes, size_t len)
{
	size_t limit = flat_min_size(len, FLAT_HTTP_CHUNK_LINE_MAX);
	uint64_t size = 0;
	size_t i;
	size_t end;

	for (i = 0; i < limit && hex_of(bytes[i]) >= 0; i++) {
		if (i == 16)
			return fail(b, FLAT_HTTP1_CHUNK);
		size = size << 4 | (uint64_t)hex_of(bytes[i]);
	}
	if (i == limit && len < FLAT_HTTP_CHUNK_LINE_MAX)
		return 0;
	if (i == 0 || (bytes[i] != ';' && bytes[i] != '\r'))
		return fail(b, FLAT_HTTP1_CHUNK);
	end = flat_find_control(bytes, i, limit);
	if (end < limit && bytes[end] != '\r')
		return fail(b, FLAT_HTTP1_CHUNK);
	if (end + 1 >= limit)
		return limit == FLAT_HTTP_CHUNK_LINE_MAX ? fail(b, FLAT_HTTP1_CHUNK) : 0;
	if (bytes[end + 1] != '\n')
		return fail(b, FLAT_HTTP1_CHUNK);
	b->extensions += (uint32_t)(end - i);
	if (b->extensions > FLAT_HTTP_CHUNK_EXTENSIONS_MAX)
		return fail(b, FLAT_HTTP1_CHUNK);
	b->left = size;
	return (ssize_t)end + 2;
}

static ssize_t read_data(struct flat_http1_body *b, size_t len, struct flat_piece *piece)
{
	uint64_t n = len < b->left ? len : b->left;

	if (n == 0)
		return 0;
	piece->kind = FLAT_PIECE_DATA;
	piece->size = n;
	b->left -= n;
	return (ssize_t)n;
}

static ssize_t read_chunked(struct flat_http1_body *b, const uint8_t *bytes, size_t len,
			    struct flat_http1 *trailers, struct flat_piece *piece)
{
	ssize_t n;
	int ret;

	switch (b->state) {
	case CHUNK_SIZE:
		n = read_size(b, bytes, len);
		if (n <= 0)
			return n;
		if (b->left == 0) {
			b->state = CHUNK_TRAILERS;
			flat_http1_begin(trailers, FLAT_HTTP1_TRAILERS);
			return n;
		}
		b->state = CHUNK_DATA;
		piece->kind = FLAT_PIECE_CHUNK;
		piece->size = b->left;
		return n;
	case CHUNK_DATA:
		n = read_data(b, len, piece);
		if (b->left == 0)
			b->state = CHUNK_TAIL;
		return n;
	case CHUNK_TAIL:
		if ((len > 0 && bytes[0] != '\r') || (len > 1 && bytes[1] != '\n'))
			return fail(b, FLAT_HTTP1_CHUNK);
		if (len < 2)
			return 0;
		b->state = CHUNK_SIZE;
		piece->kind = FLAT_PIECE_CHUNK_END;
		return 2;
	default:
		ret = flat_http1_read(trailers, bytes, len);
		if (ret < 0)
			return fail(b, (enum flat_http1_fault)trailers->fault);
		if (ret == 0)
			return 0;
		b->over = true;
		piece->kind = FLAT_PIECE_LAST;
		return ret;
	}
}

ssize_t flat_http1_body_read(struct flat_http1_body *b, const uint8_t *bytes, size_t len,
			     struct flat_http1 *trailers, struct flat_piece *piece)
{
	ssize_t n;

	*piece = (struct flat_piece){.kind = FLAT_PIECE_MORE};
	if (b->fault)
		return -EBADMSG;
	if (b->over) {
		piece->kind = FLAT_PIECE_END;
		return 0;
	}
	switch (b->kind) {
	case FLAT_BODY_CHUNKED:
		return read_chunked(b, bytes, len, trailers, piece);
	case FLAT_BODY_LENGTH:
		n = read_data(b, len, piece);
		b->over = b->left == 0;
		return n;
	default:
		if (len == 0)
			return 0;
		piece->kind = FLAT_PIECE_DATA;
		piece->size = len;
		return (ssize_t)len;
	}
}
