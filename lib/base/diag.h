/*
 * What was found wrong, or is not honoured, in what a user wrote: one entry with file, line and
 * column, what is wrong, and what to do. Printed as `file:line:col: severity: what; todo` or as
 * JSON.
 */
#ifndef FLAT_BASE_DIAG_H
#define FLAT_BASE_DIAG_H

#include <stdbool.h>

#include "base/base.h"
#include "base/json.h"
#include "base/pool.h"
#include "base/strbuf.h"

/* Most entries kept of one load; the rest are counted. More than anybody reads. */
#define FLAT_DIAGS_MAX 1000U

/* A place in a file. `line` and `col` count from 1; 0: the whole file, or no column. */
struct flat_where {
	const char *file; /* borrowed; NULL: nowhere */
	uint32_t line;
	uint32_t col; /* characters, not bytes */
};

enum flat_severity {
	FLAT_SEVERITY_ERROR,   /* the configuration is refused */
	FLAT_SEVERITY_WARNING, /* it is applied; this is not, or not as one may think */
};

/* What kind of finding, for programs that read the JSON; names are stable. */
enum flat_diag_code {
	FLAT_DIAG_SYNTAX,	 /* "syntax": not YAML, or not readable */
	FLAT_DIAG_LIMIT,	 /* "limit": larger than we take */
	FLAT_DIAG_UNKNOWN_FIELD, /* "unknown-field" */
	FLAT_DIAG_UNKNOWN_KIND,	 /* "unknown-kind" */
	FLAT_DIAG_BAD_VALUE,	 /* "bad-value" */
	FLAT_DIAG_MISSING,	 /* "missing" */
	FLAT_DIAG_DUPLICATE,	 /* "duplicate" */
	FLAT_DIAG_CONFLICT,	 /* "conflict": two resources cannot both hold */
	FLAT_DIAG_NOT_HONOURED,	 /* "not-honoured": known, valid, without effect here */
	FLAT_DIAG_ADVICE,	 /* "advice": works, probably not as meant */
};

struct flat_diag {
	enum flat_severity severity;
	enum flat_diag_code code;
	struct flat_where where;
	const char *resource; /* "Kind namespace/name", or NULL */
	const char *what;
	const char *todo; /* or NULL */
};

/* Owner: whoever holds it; not thread-safe. All-zero is empty. Strings are copies of its own. */
struct flat_diags {
	struct flat_diag *v;
	uint32_t n;
	uint32_t cap;
	uint32_t n_errors;   /* those beyond FLAT_DIAGS_MAX included */
	uint32_t n_warnings; /* likewise */
	bool failed;	     /* memory ran out: entries are missing */
	struct flat_pool pool;
};

/** Frees all; `diags` is then empty. */
void flat_diags_fini(struct flat_diags *diags);

/**
 * Adds an entry. `where` may be NULL; `resource` and `todo` may be NULL; everything is copied.
 * Without memory `failed` is set and the entry is only counted.
 */
void flat_diags_add(struct flat_diags *diags, enum flat_severity severity, enum flat_diag_code code,
		    const struct flat_where *where, const char *resource, const char *todo,
		    const char *fmt, ...) FLAT_PRINTF(7, 8);

/** Sorts by file, line and column, as a reader wants them; order among equals is kept. */
void flat_diags_sort(struct flat_diags *diags);

/** The stable name of a code, such as "not-honoured". */
const char *flat_diag_code_name(enum flat_diag_code code);

/** One line per entry: `file:line:col: error: what; todo`, and a last line if entries were left
 * out. */
void flat_diags_text(const struct flat_diags *diags, struct flat_strbuf *out);

/**
 * Writes an array of objects (severity, code, file, line, column, resource, what, todo) as member
 * `key` (NULL: no key).
 */
void flat_diags_json(const struct flat_diags *diags, struct flat_json *json, const char *key);

#endif
