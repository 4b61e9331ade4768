/* What the reader of HTTP/1 makes of a stream, as text: two readings are equal when their texts are. */
#ifndef FLAT_TESTS_TRANSCRIPT_H
#define FLAT_TESTS_TRANSCRIPT_H

#include <stdbool.h>

#include "base/strbuf.h"
#include "codec/http1.h"

/**
 * Reads `bytes` (`len` of them) as messages one after the other, given out in pieces: `cuts` are offsets in rising
 * order, `n_cuts` of them. Appends a line per start line, field, body and trailer, and the end: "more", or
 * "fault ...". Bodies are written as a count and a hash, wherever they were cut.
 */
void transcript(const uint8_t *bytes, size_t len, bool response, const size_t *cuts, size_t n_cuts,
		struct flat_strbuf *out);

/** The messages of a stream in normal form, as they would be sent on; only what was read without a fault. */
void normal_form(const uint8_t *bytes, size_t len, bool response, struct flat_strbuf *out);

#endif
