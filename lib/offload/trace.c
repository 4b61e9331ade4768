#include "offload/trace.h"

#include <stdio.h>
#include <string.h>

void flat_trace_hex(const uint8_t *bytes, size_t n, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * n] = 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly 2 n lower-case digits, not all zero. */
static bool read_hex(struct flat_span s, uint8_t *bytes, size_t n)
{
	uint8_t any = 0;

	if (!s.text || s.len != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = digit(s.text[2 * i]);
		int low = digit(s.text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
		any |= bytes[i];
	}
	return any != 0;
}

static struct flat_span part(struct flat_span s, size_t at, size_t len)
{
	return (struct flat_span){s.text + at, len};
}

/* W3C Trace Context, 3.2: 00-TRACE-PARENT-FLAGS; a later version may have more behind. */
static bool read_w3c(struct flat_span s, struct flat_trace *t)
{
	uint8_t version, flags;

	if (!s.text || s.len < 55 || s.text[2] != '-' || s.text[35] != '-' || s.text[52] != '-')
		return false;
	if (!read_hex(part(s, 0, 2), &version, 1) && memcmp(s.text, "00", 2) != 0)
		return false;
	if (memcmp(s.text, "ff", 2) == 0 || (memcmp(s.text, "00", 2) == 0 && s.len != 55) ||
	    (s.len > 55 && s.text[55] != '-'))
		return false;
	if (!read_hex(part(s, 3, 32), t->id, 16) || !read_hex(part(s, 36, 16), t->parent, 8))
		return false;
	if (!read_hex(part(s, 53, 2), &flags, 1)) {
		if (memcmp(s.text + 53, "00", 2) != 0)
			return false;
		flags = 0;
	}
	t->form = FLAT_TRACE_W3C;
	t->decided = true;
	t->sampled = flags & 1;
	return true;
}

static bool read_b3_id(struct flat_span s, struct flat_trace *t)
{
	/* Of 64 bits: the lower half. */
	if (s.len != 16)
		return read_hex(s, t->id, 16);
	memset(t->id, 0, 8);
	return read_hex(s, t->id + 8, 8);
}

/* The sampling state of B3: 0, 1, d (debug). */
static void read_state(struct flat_span s, struct flat_trace *t)
{
	if (!s.text || s.len == 0)
		return;
	t->decided = true;
	t->sampled = s.text[0] == '1' || s.text[0] == 'd' || s.text[0] == 't';
}

/* TRACE-SPAN, TRACE-SPAN-STATE, TRACE-SPAN-STATE-PARENT. */
static bool read_b3(struct flat_span s, struct flat_trace *t)
{
	const char *first = s.text ? memchr(s.text, '-', s.len) : NULL;
	size_t len = first ? (size_t)(first - s.text) : 0;

	if (!first || s.len < len + 17 || !read_b3_id(part(s, 0, len), t) ||
	    !read_hex(part(s, len + 1, 16), t->parent, 8))
		return false;
	if (s.len > len + 18 && s.text[len + 17] == '-')
		read_state(part(s, len + 18, 1), t);
	t->form = FLAT_TRACE_B3;
	return true;
}

static struct flat_span field(const struct flat_http_request *r, const char *name)
{
	return flat_http_field_get(r, flat_span_of(name), 0);
}

static bool read_b3s(const struct flat_http_request *r, struct flat_trace *t)
{
	struct flat_span flags = field(r, "x-b3-flags");

	if (!read_b3_id(field(r, "x-b3-traceid"), t) ||
	    !read_hex(field(r, "x-b3-spanid"), t->parent, 8))
		return false;
	read_state(field(r, "x-b3-sampled"), t);
	if (flags.text && flags.len == 1 && flags.text[0] == '1')
		t->decided = t->sampled = true;
	t->form = FLAT_TRACE_B3S;
	return true;
}

bool flat_trace_read(const struct flat_http_request *r, struct flat_trace *t)
{
	memset(t, 0, sizeof(*t));
	if (read_w3c(field(r, "traceparent"), t))
		return true;
	memset(t, 0, sizeof(*t));
	if (read_b3(field(r, "b3"), t))
		return true;
	memset(t, 0, sizeof(*t));
	if (read_b3s(r, t))
		return true;
	memset(t, 0, sizeof(*t));
	return false;
}

static void add(struct flat_trace_fields *f, const char *name, const char *value)
{
	f->v[f->n++] = (struct flat_name_value){.name = name, .value = value};
}

void flat_trace_write(const struct flat_trace *t, const uint8_t span[8],
		      struct flat_trace_fields *f)
{
	static const uint8_t none[8];

	f->n = 0;
	flat_trace_hex(t->id, 16, f->trace_id);
	flat_trace_hex(span, 8, f->span);
	flat_trace_hex(t->parent, 8, f->parent);
	snprintf(f->traceparent, sizeof(f->traceparent), "00-%s-%s-%02x", f->trace_id, f->span,
		 t->sampled ? 1U : 0U);
	add(f, "traceparent", f->traceparent);
	/* In the form in which it came too: its server may know no other. */
	if (t->form == FLAT_TRACE_B3) {
		snprintf(f->b3, sizeof(f->b3), "%s-%s-%d", f->trace_id, f->span, t->sampled);
		add(f, "b3", f->b3);
	} else if (t->form == FLAT_TRACE_B3S) {
		add(f, "x-b3-traceid", f->trace_id);
		add(f, "x-b3-spanid", f->span);
		add(f, "x-b3-sampled", t->sampled ? "1" : "0");
		if (memcmp(t->parent, none, 8) != 0)
			add(f, "x-b3-parentspanid", f->parent);
	}
}
