/*
 * A growing string. Failure is sticky: once memory ran out every later call does nothing, and the
 * text can no longer be taken; so a writer makes many calls and checks once.
 */
#ifndef FLAT_BASE_STRBUF_H
#define FLAT_BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>

#include "base/base.h"

/* Digits of the longest number. */
#define FLAT_DECIMAL_MAX 20

/* Owner: whoever holds it; not thread-safe. All-zero is the empty string and needs no init. */
struct flat_strbuf {
	char *data;  /* NUL-terminated when cap > 0, else NULL */
	size_t len;  /* bytes, without the NUL */
	size_t cap;  /* bytes allocated */
	bool failed; /* memory ran out; content is cut short */
};

/** Frees the memory; `sb` is then the empty string again, no longer failed. */
void flat_strbuf_fini(struct flat_strbuf *sb);

/** Forgets the content and the failure, keeps the memory. */
void flat_strbuf_reset(struct flat_strbuf *sb);

/** Appends `len` bytes at `bytes` (NULs allowed). */
void flat_strbuf_add(struct flat_strbuf *sb, const void *bytes, size_t len);

/** Appends a NUL-terminated string. */
void flat_strbuf_puts(struct flat_strbuf *sb, const char *text);

/** Appends one byte. */
void flat_strbuf_putc(struct flat_strbuf *sb, char c);

/** Writes a number in decimal, without a NUL, FLAT_DECIMAL_MAX bytes at most. Returns where it ends. */
char *flat_put_decimal(char *to, uint64_t n);

/** Appends a number in decimal: lines that are written often want no printf. */
void flat_strbuf_put_u64(struct flat_strbuf *sb, uint64_t n);

/** Appends formatted text. */
void flat_strbuf_printf(struct flat_strbuf *sb, const char *fmt, ...) FLAT_PRINTF(2, 3);

/** Appends formatted text; `args` is used up. */
void flat_strbuf_vprintf(struct flat_strbuf *sb, const char *fmt, va_list args) FLAT_PRINTF(2, 0);

/** The text, valid until the next change; "" when empty; NULL if memory ran out. */
FLAT_MUST_CHECK const char *flat_strbuf_str(const struct flat_strbuf *sb);

#endif
