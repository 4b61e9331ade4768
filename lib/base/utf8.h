/* Characters of UTF-8. */
#ifndef FLAT_BASE_UTF8_H
#define FLAT_BASE_UTF8_H

#include <stddef.h>

/**
 * Bytes of the well-formed character at `text`, of which there are `len` bytes, 1 at least: RFC 3629, section 4, so no surrogate, no
 * longer form than is needed, nothing above U+10FFFF. 0: there is none, or not all of it.
 */
size_t flat_utf8_len(const void *text, size_t len);

#endif
