/*
 * A JSON writer (RFC 8259) into a strbuf: commas, quoting and nesting are its business. Strings
 * that are not valid UTF-8 come out with U+FFFD in place of the bad bytes, so the output is always
 * JSON. Memory failure is the strbuf's sticky one. Not thread-safe.
 */
#ifndef FLAT_BASE_JSON_H
#define FLAT_BASE_JSON_H

#include <stdbool.h>

#include "base/base.h"
#include "base/strbuf.h"

/* Deeper than any output of ours; opening more fails the strbuf. */
#define FLAT_JSON_DEPTH_MAX 32U

struct flat_json {
	struct flat_strbuf *out; /* borrowed */
	unsigned depth;		 /* open objects and arrays */
	uint32_t has_member;	 /* bit d: the level d has a member already */
	bool pretty;		 /* a line per member, two spaces a level */
};

/** Starts a document that is written to `out` (borrowed until the last call). */
void flat_json_init(struct flat_json *json, struct flat_strbuf *out, bool pretty);

/** Whether every object and array is closed and no memory failed: the text is a whole document. */
FLAT_MUST_CHECK bool flat_json_done(const struct flat_json *json);

/*
 * Each of the calls below writes one value. `key` is the member's name inside an object, and NULL
 * inside an array or at the top. Values are copied.
 */

/** Opens an object; close it with flat_json_object_end(). */
void flat_json_object(struct flat_json *json, const char *key);
void flat_json_object_end(struct flat_json *json);

/** Opens an array; close it with flat_json_array_end(). */
void flat_json_array(struct flat_json *json, const char *key);
void flat_json_array_end(struct flat_json *json);

/** A string, or null when `value` is NULL. */
void flat_json_string(struct flat_json *json, const char *key, const char *value);

/** A string of `len` bytes, which may hold NULs. */
void flat_json_string_n(struct flat_json *json, const char *key, const char *value, size_t len);

void flat_json_int(struct flat_json *json, const char *key, int64_t value);
void flat_json_uint(struct flat_json *json, const char *key, uint64_t value);
void flat_json_bool(struct flat_json *json, const char *key, bool value);

/** A number with up to 17 digits; infinities and NaN, which JSON lacks, are written as null. */
void flat_json_double(struct flat_json *json, const char *key, double value);

/** A number as somebody wrote it: `text` has JSON's grammar of numbers. */
void flat_json_number_text(struct flat_json *json, const char *key, const char *text, size_t len);

void flat_json_null(struct flat_json *json, const char *key);

#endif
