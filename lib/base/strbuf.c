#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void flat_strbuf_fini(struct flat_strbuf *sb)
{
	free(sb->data);
	memset(sb, 0, sizeof(*sb));
}

void flat_strbuf_reset(struct flat_strbuf *sb)
{
	sb->len = 0;
	sb->failed = false;
	if (sb->data)
		sb->data[0] = '\0';
}

/* Makes room for `more` bytes and the NUL. */
static bool strbuf_room(struct flat_strbuf *sb, size_t more)
{
	size_t need, cap;
	char *data;

	if (sb->failed)
		return false;
	if (more >= SIZE_MAX / 2 - sb->len) {
		sb->failed = true;
		return false;
	}
	need = sb->len + more + 1;
	if (need <= sb->cap)
		return true;
	cap = flat_max_size(flat_max_size(64, need), sb->cap * 2);
	data = realloc(sb->data, cap);
	if (!data) {
		sb->failed = true;
		return false;
	}
	sb->data = data;
	sb->cap = cap;
	return true;
}

void flat_strbuf_add(struct flat_strbuf *sb, const void *bytes, size_t len)
{
	if (!strbuf_room(sb, len))
		return;
	if (len)
		memcpy(sb->data + sb->len, bytes, len);
	sb->len += len;
	sb->data[sb->len] = '\0';
}

void flat_strbuf_puts(struct flat_strbuf *sb, const char *text)
{
	flat_strbuf_add(sb, text, strlen(text));
}

void flat_strbuf_putc(struct flat_strbuf *sb, char c)
{
	flat_strbuf_add(sb, &c, 1);
}

char *flat_put_decimal(char *to, uint64_t n)
{
	char digits[FLAT_DECIMAL_MAX];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	memcpy(to, digits + at, sizeof(digits) - at);
	return to + (sizeof(digits) - at);
}

void flat_strbuf_put_u64(struct flat_strbuf *sb, uint64_t n)
{
	char digits[FLAT_DECIMAL_MAX];

	flat_strbuf_add(sb, digits, (size_t)(flat_put_decimal(digits, n) - digits));
}

void flat_strbuf_printf(struct flat_strbuf *sb, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	flat_strbuf_vprintf(sb, fmt, args);
	va_end(args);
}

void flat_strbuf_vprintf(struct flat_strbuf *sb, const char *fmt, va_list args)
{
	va_list again;
	int n;

	if (!strbuf_room(sb, 0))
		return;
	va_copy(again, args);
	n = vsnprintf(sb->data + sb->len, sb->cap - sb->len, fmt, args);
	if (n < 0) {
		sb->failed = true;
	} else if ((size_t)n < sb->cap - sb->len) {
		sb->len += (size_t)n;
	} else if (strbuf_room(sb, (size_t)n)) {
		(void)vsnprintf(sb->data + sb->len, sb->cap - sb->len, fmt, again);
		sb->len += (size_t)n;
	}
	va_end(again);
	if (sb->data)
		sb->data[sb->len] = '\0';
}

const char *flat_strbuf_str(const struct flat_strbuf *sb)
{
	if (sb->failed)
		return NULL;
	return sb->data ? sb->data : "";
}
