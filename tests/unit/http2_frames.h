/* Frames of HTTP/2 as a peer that is not nghttp2 may write them: fields are literals, no table, no Huffman. */
#ifndef FLAT_TESTS_UNIT_HTTP2_FRAMES_H
#define FLAT_TESTS_UNIT_HTTP2_FRAMES_H

#include <stdint.h>
#include <string.h>

#include "codec/http2.h"

#define END_STREAM 1
#define END_HEADERS 4
#define ALL (END_STREAM | END_HEADERS)
#define GET ":method=GET|:scheme=http|:authority=h|:path=/"
#define POST ":method=POST|:scheme=http|:authority=h|:path=/"
#define REQUEST "GET / HTTP/1.1\r\nhost: h\r\n"

struct frames {
	uint8_t v[300000];
	size_t len;
};

static inline void frames_add(struct frames *f, const void *bytes, size_t len)
{
	memcpy(f->v + f->len, bytes, len);
	f->len += len;
}

static inline void frames_head(struct frames *f, size_t len, uint8_t type, uint8_t flags,
			       uint32_t stream)
{
	uint8_t v[9] = {(uint8_t)(len >> 16),
			(uint8_t)(len >> 8),
			(uint8_t)len,
			type,
			flags,
			(uint8_t)(stream >> 24),
			(uint8_t)(stream >> 16),
			(uint8_t)(stream >> 8),
			(uint8_t)stream};
	frames_add(f, v, sizeof(v));
}

static inline void frames_frame(struct frames *f, uint8_t type, uint8_t flags, uint32_t stream,
				const void *bytes, size_t len)
{
	frames_head(f, len, type, flags, stream);
	frames_add(f, bytes, len);
}

/* Where the frame after the one at `at` begins. */
static inline size_t frames_next(const uint8_t *v, size_t at)
{
	return at + 9 + ((size_t)v[at] << 16 | (size_t)v[at + 1] << 8 | v[at + 2]);
}

/* RFC 7541, 5.1, with a prefix of 7 bits. */
static inline size_t frames_int(uint8_t *to, size_t n)
{
	size_t i = 1;

	if (n < 127) {
		to[0] = (uint8_t)n;
		return 1;
	}
	to[0] = 127;
	for (n -= 127; n >= 128; n /= 128)
		to[i++] = (uint8_t)(n % 128 + 128);
	to[i++] = (uint8_t)n;
	return i;
}

/* One field; RFC 7541, 6.2.2: literal without indexing, new name. */
static inline size_t frames_field(uint8_t *to, const char *name, const char *value, size_t len)
{
	size_t at = 0;

	to[at++] = 0;
	at += frames_int(to + at, strlen(name));
	memcpy(to + at, name, strlen(name));
	at += strlen(name);
	at += frames_int(to + at, len);
	memcpy(to + at, value, len);
	return at + len;
}

/* HEADERS with fields written as "name=value|name=value"; a value may hold anything but |. */
static inline void frames_headers(struct frames *f, uint8_t flags, uint32_t stream,
				  const char *fields)
{
	uint8_t block[16384];
	size_t len = 0;
	char name[128];

	while (*fields) {
		size_t all = strcspn(fields, "|");
		const char *eq = memchr(fields, '=', all);
		size_t n = (size_t)(eq - fields);

		memcpy(name, fields, n);
		name[n] = 0;
		len += frames_field(block + len, name, eq + 1, all - n - 1);
		fields += all + (fields[all] == '|');
	}
	frames_frame(f, 1, flags, stream, block, len);
}

static inline void frames_begin(struct frames *f)
{
	f->len = 0;
	frames_add(f, FLAT_HTTP2_PREFACE, FLAT_HTTP2_PREFACE_BYTES);
	frames_frame(f, 4, 0, 0, "", 0);
}

/* What there is to read of a stream, in one of eight buffers. */
static inline char *text_of(struct flat_http2_stream *s)
{
	static char text[8][4096];
	static unsigned turn;
	char *to = text[turn++ % 8];
	size_t len = 0;
	size_t n;

	while ((n = flat_http2_read(s, (uint8_t *)to + len, sizeof(text[0]) - 1 - len)) > 0)
		len += n;
	to[len] = 0;
	return to;
}

#endif
