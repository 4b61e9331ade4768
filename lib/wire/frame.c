#include "wire/frame.h"

#include <errno.h>
#include <string.h>

#define ADDR_BYTES ((size_t)19)
#define PING_BYTES ((size_t)8)
_Static_assert(2 * ADDR_BYTES == FLAT_FRAME_FIXED_MAX, "OPEN");

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
	return p + 4;
}

/* 4 or 6, port, 16 bytes of which IPv4 uses the first 4 and leaves the others 0. */
static int get_addr(const uint8_t *p, struct flat_addr *a)
{
	static const uint8_t zero[12];
	memset(a, 0, sizeof(*a));
	if (p[0] != 4 && p[0] != 6)
		return -EPROTO;
	if (p[0] == 4 && memcmp(p + 7, zero, sizeof(zero)) != 0)
		return -EPROTO;
	a->family = p[0] == 4 ? AF_INET : AF_INET6;
	a->port = (uint16_t)(p[1] << 8 | p[2]);
	memcpy(a->ip, p + 3, 16);
	return 0;
}

static uint8_t *put_addr(uint8_t *p, const struct flat_addr *a)
{
	size_t n = a->family == AF_INET ? 4 : 16;
	memset(p, 0, ADDR_BYTES);
	p[0] = a->family == AF_INET ? 4 : 6;
	p[1] = (uint8_t)(a->port >> 8);
	p[2] = (uint8_t)a->port;
	memcpy(p + 3, a->ip, n);
	return p + ADDR_BYTES;
}

static bool is_text(const uint8_t *p, size_t n)
{
	if (n > FLAT_FRAME_TEXT_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < 0x20 || p[i] > 0x7e)
			return false;
	}
	return true;
}

static int read_verbs(const uint8_t *p, size_t n, struct flat_frame *f)
{
	if (n < 1)
		return -EPROTO;
	f->number = p[0];
	f->data = p + 1;
	f->len = n - 1;
	switch (f->number) {
	case FLAT_VERBS_OFFER:
	case FLAT_VERBS_ANSWER:
		return f->len == FLAT_FRAME_VERBS_END ? 0 : -EPROTO;
	case FLAT_VERBS_REFUSE:
		return is_text(f->data, f->len) ? 0 : -EPROTO;
	case FLAT_VERBS_GO:
		return f->len == 0 ? 0 : -EPROTO;
	default:
		return -EPROTO;
	}
}

static int read_body(const uint8_t *p, size_t n, struct flat_frame *f)
{
	f->data = p;
	f->len = n;
	switch (f->type) {
	case FLAT_FRAME_HELLO:
		if (n != 5 || p[0] != FLAT_FRAME_VERSION)
			return -EPROTO;
		f->number = get32(p + 1);
		return 0;
	case FLAT_FRAME_OPEN:
		if (n < 2 * ADDR_BYTES || get_addr(p, &f->to) != 0 ||
		    get_addr(p + ADDR_BYTES, &f->from) != 0)
			return -EPROTO;
		f->data = p + 2 * ADDR_BYTES;
		f->len = n - 2 * ADDR_BYTES;
		return is_text(f->data, f->len) ? 0 : -EPROTO;
	case FLAT_FRAME_ACCEPT:
		return is_text(p, n) ? 0 : -EPROTO;
	case FLAT_FRAME_REFUSE:
		if (n < 4)
			return -EPROTO;
		f->number = get32(p);
		f->data = p + 4;
		f->len = n - 4;
		return is_text(f->data, f->len) ? 0 : -EPROTO;
	case FLAT_FRAME_RESET:
	case FLAT_FRAME_CREDIT:
		if (n != 4)
			return -EPROTO;
		f->number = get32(p);
		return 0;
	case FLAT_FRAME_DATA:
		return n > 0 ? 0 : -EPROTO;
	case FLAT_FRAME_PING:
	case FLAT_FRAME_PONG:
		return n == PING_BYTES ? 0 : -EPROTO;
	case FLAT_FRAME_FIN:
	case FLAT_FRAME_GOAWAY:
		return n == 0 ? 0 : -EPROTO;
	case FLAT_FRAME_VERBS:
		return read_verbs(p, n, f);
	}
	return -EPROTO;
}

static bool of_the_link(enum flat_frame_type type)
{
	return type == FLAT_FRAME_HELLO || type == FLAT_FRAME_PING || type == FLAT_FRAME_PONG ||
	       type == FLAT_FRAME_GOAWAY || type == FLAT_FRAME_VERBS;
}

ssize_t flat_frame_read(const uint8_t *buf, size_t len, struct flat_frame *f)
{
	memset(f, 0, sizeof(*f));
	if (len < FLAT_FRAME_HEADER)
		return 0;
	size_t n = (size_t)buf[6] << 8 | buf[7];
	f->stream = get32(buf);
	if (buf[4] < FLAT_FRAME_HELLO || buf[4] > FLAT_FRAME_VERBS || buf[5] != 0 ||
	    n > FLAT_FRAME_BODY_MAX)
		return -EPROTO;
	f->type = (enum flat_frame_type)buf[4];
	if (of_the_link(f->type) != (f->stream == 0))
		return -EPROTO;
	if (len - FLAT_FRAME_HEADER < n)
		return 0;
	int err = read_body(buf + FLAT_FRAME_HEADER, n, f);
	return err ? err : (ssize_t)(FLAT_FRAME_HEADER + n);
}

size_t flat_frame_write(const struct flat_frame *f, uint8_t *buf)
{
	uint8_t *p = buf + FLAT_FRAME_HEADER;
	if (f->type == FLAT_FRAME_HELLO)
		*p++ = FLAT_FRAME_VERSION;
	if (f->type == FLAT_FRAME_HELLO || f->type == FLAT_FRAME_REFUSE ||
	    f->type == FLAT_FRAME_RESET || f->type == FLAT_FRAME_CREDIT)
		p = put32(p, f->number);
	if (f->type == FLAT_FRAME_VERBS)
		*p++ = (uint8_t)f->number;
	if (f->type == FLAT_FRAME_OPEN)
		p = put_addr(put_addr(p, &f->to), &f->from);
	if (f->len > 0 && f->data != p)
		memmove(p, f->data, f->len);
	size_t n = (size_t)(p - buf) - FLAT_FRAME_HEADER + f->len;
	put32(buf, f->stream);
	buf[4] = (uint8_t)f->type;
	buf[5] = 0;
	buf[6] = (uint8_t)(n >> 8);
	buf[7] = (uint8_t)n;
	return FLAT_FRAME_HEADER + n;
}

int flat_frame_errno(uint32_t number)
{
	static const int known[] = {ECONNREFUSED, ECONNRESET, EACCES, ETIMEDOUT,    EHOSTUNREACH,
				    ENETUNREACH,  EAGAIN,     EPIPE,  ECONNABORTED, ENOBUFS};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(known); i++) {
		if ((uint32_t)known[i] == number)
			return known[i];
	}
	return ECONNRESET;
}
