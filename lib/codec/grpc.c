#include "codec/grpc.h"

#include <stdio.h>

enum flat_grpc_status flat_grpc_of_http(unsigned status)
{
	switch (status) {
	case 200:
		return FLAT_GRPC_OK;
	case 400:
	case 431:
		return FLAT_GRPC_INTERNAL;
	case 401:
		return FLAT_GRPC_UNAUTHENTICATED;
	case 403:
		return FLAT_GRPC_PERMISSION_DENIED;
	case 404:
		return FLAT_GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return FLAT_GRPC_UNAVAILABLE;
	default:
		return FLAT_GRPC_UNKNOWN;
	}
}

int flat_grpc_status_read(struct flat_span value)
{
	int status = 0;

	if (!value.text || value.len < 1 || value.len > 2)
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.text[i] < '0' || value.text[i] > '9')
			return -1;
		status = status * 10 + (value.text[i] - '0');
	}
	return status < FLAT_GRPC_STATUSES ? status : -1;
}

int flat_grpc_status_parse(struct flat_span text)
{
	static const char *const names[FLAT_GRPC_STATUSES] = {
	    "OK",
	    "CANCELLED",
	    "UNKNOWN",
	    "INVALID_ARGUMENT",
	    "DEADLINE_EXCEEDED",
	    "NOT_FOUND",
	    "ALREADY_EXISTS",
	    "PERMISSION_DENIED",
	    "RESOURCE_EXHAUSTED",
	    "FAILED_PRECONDITION",
	    "ABORTED",
	    "OUT_OF_RANGE",
	    "UNIMPLEMENTED",
	    "INTERNAL",
	    "UNAVAILABLE",
	    "DATA_LOSS",
	    "UNAUTHENTICATED",
	};

	for (int i = 0; i < FLAT_GRPC_STATUSES; i++) {
		if (flat_span_equal(text, flat_span_of(names[i]), true))
			return i;
	}
	return flat_grpc_status_read(text);
}

int64_t flat_grpc_timeout_us(struct flat_span value)
{
	int64_t n = 0;

	if (!value.text || value.len < 2 || value.len > 9)
		return 0;
	for (size_t i = 0; i < value.len - 1; i++) {
		if (value.text[i] < '0' || value.text[i] > '9')
			return 0;
		n = n * 10 + (value.text[i] - '0');
	}
	switch (value.text[value.len - 1]) {
	case 'H':
		n *= (int64_t)3600 * 1000000;
		break;
	case 'M':
		n *= (int64_t)60 * 1000000;
		break;
	case 'S':
		n *= 1000000;
		break;
	case 'm':
		n *= 1000;
		break;
	case 'u':
		break;
	case 'n':
		n /= 1000;
		break;
	default:
		return 0;
	}
	return n ? n : 1;
}

void flat_grpc_message(struct flat_span text, char *buf, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; text.text && i < text.len && at + 4 <= size; i++) {
		unsigned char c = (unsigned char)text.text[i];

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			buf[at++] = (char)c;
		} else {
			snprintf(buf + at, 4, "%%%02X", c);
			at += 3;
		}
	}
	buf[at] = 0;
}

/* The flag says compressed or not, and nothing else so far. */
#define FLAG_MAX 1U
#define FRONT_BYTES 5

void flat_grpc_frames_feed(struct flat_grpc_frames *f, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	const uint8_t *end = p + len;

	while (p < end && !f->bad) {
		if (f->left > 0) {
			uint32_t n = (uint32_t)flat_min_size(f->left, (size_t)(end - p));

			f->left -= n;
			p += n;
			continue;
		}
		if (f->at == 0) {
			f->bad = *p > FLAG_MAX;
			f->n += !f->bad;
			f->size = 0;
		} else {
			f->size = f->size << 8 | *p;
		}
		p++;
		if (++f->at < FRONT_BYTES)
			continue;
		f->at = 0;
		f->left = f->size;
	}
}
