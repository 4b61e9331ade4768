#include "base/diag.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void flat_diags_fini(struct flat_diags *diags)
{
	free(diags->v);
	flat_pool_fini(&diags->pool);
	memset(diags, 0, sizeof(*diags));
}

/* Room for one more entry, or false. */
static bool diags_room(struct flat_diags *diags)
{
	struct flat_diag *v;
	uint32_t cap;

	if (diags->n < diags->cap)
		return true;
	cap = diags->cap ? diags->cap * 2 : 16;
	v = realloc(diags->v, cap * sizeof(*v));
	if (!v)
		return false;
	diags->v = v;
	diags->cap = cap;
	return true;
}

/* File names repeat: the last entry's copy serves again where it is the same. */
static const char *copy_file(struct flat_diags *diags, const char *file)
{
	if (diags->n > 0) {
		const char *last = diags->v[diags->n - 1].where.file;

		if (last && strcmp(last, file) == 0)
			return last;
	}
	return flat_pool_strdup(&diags->pool, file);
}

void flat_diags_add(struct flat_diags *diags, enum flat_severity severity, enum flat_diag_code code,
		    const struct flat_where *where, const char *resource, const char *todo,
		    const char *fmt, ...)
{
	struct flat_diag diag = {.severity = severity, .code = code};
	struct flat_strbuf text = {0};
	const char *what;
	va_list args;

	if (severity == FLAT_SEVERITY_ERROR)
		diags->n_errors++;
	else
		diags->n_warnings++;
	if (diags->n >= FLAT_DIAGS_MAX)
		return;
	va_start(args, fmt);
	flat_strbuf_vprintf(&text, fmt, args);
	va_end(args);
	what = flat_strbuf_str(&text);
	if (!what || !diags_room(diags))
		goto out_failed;
	diag.what = flat_pool_strdup(&diags->pool, what);
	if (!diag.what)
		goto out_failed;
	if (where) {
		diag.where = *where;
		if (where->file && !(diag.where.file = copy_file(diags, where->file)))
			goto out_failed;
	}
	if (resource && !(diag.resource = flat_pool_strdup(&diags->pool, resource)))
		goto out_failed;
	if (todo && !(diag.todo = flat_pool_strdup(&diags->pool, todo)))
		goto out_failed;
	diags->v[diags->n++] = diag;
	flat_strbuf_fini(&text);
	return;
out_failed:
	diags->failed = true;
	flat_strbuf_fini(&text);
}

static int diag_cmp(const struct flat_diag *a, const struct flat_diag *b)
{
	int cmp = strcmp(a->where.file ? a->where.file : "", b->where.file ? b->where.file : "");

	if (cmp)
		return cmp;
	if (a->where.line != b->where.line)
		return a->where.line < b->where.line ? -1 : 1;
	if (a->where.col != b->where.col)
		return a->where.col < b->where.col ? -1 : 1;
	return 0;
}

/* Insertion sort: stable, needs no memory; entries are at most FLAT_DIAGS_MAX and mostly in order.
 */
void flat_diags_sort(struct flat_diags *diags)
{
	uint32_t i, j;

	for (i = 1; i < diags->n; i++) {
		struct flat_diag diag = diags->v[i];

		for (j = i; j > 0 && diag_cmp(&diag, &diags->v[j - 1]) < 0; j--)
			diags->v[j] = diags->v[j - 1];
		diags->v[j] = diag;
	}
}

const char *flat_diag_code_name(enum flat_diag_code code)
{
	static const char *const names[] = {
	    [FLAT_DIAG_SYNTAX] = "syntax",
	    [FLAT_DIAG_LIMIT] = "limit",
	    [FLAT_DIAG_UNKNOWN_FIELD] = "unknown-field",
	    [FLAT_DIAG_UNKNOWN_KIND] = "unknown-kind",
	    [FLAT_DIAG_BAD_VALUE] = "bad-value",
	    [FLAT_DIAG_MISSING] = "missing",
	    [FLAT_DIAG_DUPLICATE] = "duplicate",
	    [FLAT_DIAG_CONFLICT] = "conflict",
	    [FLAT_DIAG_NOT_HONOURED] = "not-honoured",
	    [FLAT_DIAG_ADVICE] = "advice",
	};

	return names[code];
}

static const char *severity_name(enum flat_severity severity)
{
	return severity == FLAT_SEVERITY_ERROR ? "error" : "warning";
}

/*
 * Texts hold what files hold. What a terminal would obey, or what would end the line, is written as an escape: control
 * characters of ASCII, and those of U+0080 to U+009F (in UTF-8 C2 80 to C2 9F).
 */
static void put_visible(struct flat_strbuf *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '\n')
			flat_strbuf_puts(out, "\\n");
		else if (*p < ' ' || *p == 0x7f)
			flat_strbuf_printf(out, "\\x%02x", *p);
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
			flat_strbuf_printf(out, "\\u%04x", *++p);
		else
			flat_strbuf_putc(out, (char)*p);
	}
}

void flat_diags_text(const struct flat_diags *diags, struct flat_strbuf *out)
{
	uint32_t all = diags->n_errors + diags->n_warnings, i;

	for (i = 0; i < diags->n; i++) {
		const struct flat_diag *diag = &diags->v[i];

		if (diag->where.file) {
			put_visible(out, diag->where.file);
			flat_strbuf_putc(out, ':');
		}
		if (diag->where.line)
			flat_strbuf_printf(out, "%u:", diag->where.line);
		if (diag->where.line && diag->where.col)
			flat_strbuf_printf(out, "%u:", diag->where.col);
		if (diag->where.file)
			flat_strbuf_putc(out, ' ');
		if (diag->severity == FLAT_SEVERITY_WARNING)
			flat_strbuf_puts(out, "warning: ");
		if (diag->resource) {
			put_visible(out, diag->resource);
			flat_strbuf_puts(out, ": ");
		}
		put_visible(out, diag->what);
		if (diag->todo) {
			flat_strbuf_puts(out, ", ");
			put_visible(out, diag->todo);
		}
		flat_strbuf_putc(out, '\n');
	}
	if (all > diags->n)
		flat_strbuf_printf(out, "and %u more%s\n", all - diags->n,
				   diags->failed ? " (memory ran out)" : "");
}

void flat_diags_json(const struct flat_diags *diags, struct flat_json *json, const char *key)
{
	uint32_t i;

	flat_json_array(json, key);
	for (i = 0; i < diags->n; i++) {
		const struct flat_diag *diag = &diags->v[i];

		flat_json_object(json, NULL);
		flat_json_string(json, "severity", severity_name(diag->severity));
		flat_json_string(json, "code", flat_diag_code_name(diag->code));
		flat_json_string(json, "file", diag->where.file);
		flat_json_uint(json, "line", diag->where.line);
		flat_json_uint(json, "column", diag->where.col);
		flat_json_string(json, "resource", diag->resource);
		flat_json_string(json, "what", diag->what);
		flat_json_string(json, "todo", diag->todo);
		flat_json_object_end(json);
	}
	flat_json_array_end(json);
}
