#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"

void flat_json_init(struct flat_json *json, struct flat_strbuf *out, bool pretty)
{
	memset(json, 0, sizeof(*json));
	json->out = out;
	json->pretty = pretty;
}

bool flat_json_done(const struct flat_json *json)
{
	return json->depth == 0 && !json->out->failed;
}

static void json_newline(struct flat_json *json)
{
	unsigned i;

	if (!json->pretty)
		return;
	flat_strbuf_putc(json->out, '\n');
	for (i = 0; i < json->depth; i++)
		flat_strbuf_puts(json->out, "  ");
}

static void json_escape(struct flat_strbuf *out, unsigned char c)
{
	switch (c) {
	case '"':
		flat_strbuf_puts(out, "\\\"");
		break;
	case '\\':
		flat_strbuf_puts(out, "\\\\");
		break;
	case '\n':
		flat_strbuf_puts(out, "\\n");
		break;
	case '\r':
		flat_strbuf_puts(out, "\\r");
		break;
	case '\t':
		flat_strbuf_puts(out, "\\t");
		break;
	default:
		flat_strbuf_printf(out, "\\u%04x", (unsigned)c);
		break;
	}
}

static void json_quote(struct flat_strbuf *out, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t i = 0, n;

	flat_strbuf_putc(out, '"');
	while (i < len) {
		if (s[i] < 0x20 || s[i] == '"' || s[i] == '\\' || s[i] == 0x7f) {
			json_escape(out, s[i++]);
			continue;
		}
		n = flat_utf8_len(s + i, len - i);
		if (n == 0) {
			flat_strbuf_puts(out, "\xef\xbf\xbd");
			i++;
		} else {
			flat_strbuf_add(out, s + i, n);
			i += n;
		}
	}
	flat_strbuf_putc(out, '"');
}

static void json_begin_value(struct flat_json *json, const char *key)
{
	if (json->depth > 0) {
		uint32_t bit = UINT32_C(1) << (json->depth - 1);

		if (json->has_member & bit)
			flat_strbuf_putc(json->out, ',');
		json->has_member |= bit;
		json_newline(json);
	}
	if (key) {
		json_quote(json->out, key, strlen(key));
		flat_strbuf_puts(json->out, json->pretty ? ": " : ":");
	}
}

static void json_open(struct flat_json *json, const char *key, char c)
{
	json_begin_value(json, key);
	flat_strbuf_putc(json->out, c);
	if (json->depth >= FLAT_JSON_DEPTH_MAX) {
		json->out->failed = true;
		return;
	}
	json->has_member &= ~(UINT32_C(1) << json->depth);
	json->depth++;
}

static void json_close(struct flat_json *json, char c)
{
	bool had;

	if (json->depth == 0) {
		json->out->failed = true;
		return;
	}
	json->depth--;
	had = (json->has_member >> json->depth) & 1;
	if (had)
		json_newline(json);
	flat_strbuf_putc(json->out, c);
	if (json->depth == 0 && json->pretty)
		flat_strbuf_putc(json->out, '\n');
}

void flat_json_object(struct flat_json *json, const char *key)
{
	json_open(json, key, '{');
}

void flat_json_object_end(struct flat_json *json)
{
	json_close(json, '}');
}

void flat_json_array(struct flat_json *json, const char *key)
{
	json_open(json, key, '[');
}

void flat_json_array_end(struct flat_json *json)
{
	json_close(json, ']');
}

void flat_json_string(struct flat_json *json, const char *key, const char *value)
{
	if (!value)
		flat_json_null(json, key);
	else
		flat_json_string_n(json, key, value, strlen(value));
}

void flat_json_string_n(struct flat_json *json, const char *key, const char *value, size_t len)
{
	json_begin_value(json, key);
	json_quote(json->out, value, len);
}

void flat_json_int(struct flat_json *json, const char *key, int64_t value)
{
	json_begin_value(json, key);
	flat_strbuf_printf(json->out, "%" PRId64, value);
}

void flat_json_uint(struct flat_json *json, const char *key, uint64_t value)
{
	json_begin_value(json, key);
	flat_strbuf_printf(json->out, "%" PRIu64, value);
}

void flat_json_bool(struct flat_json *json, const char *key, bool value)
{
	json_begin_value(json, key);
	flat_strbuf_puts(json->out, value ? "true" : "false");
}

void flat_json_double(struct flat_json *json, const char *key, double value)
{
	if (!isfinite(value)) {
		flat_json_null(json, key);
		return;
	}
	json_begin_value(json, key);
	flat_strbuf_printf(json->out, "%.17g", value);
}

void flat_json_number_text(struct flat_json *json, const char *key, const char *text, size_t len)
{
	json_begin_value(json, key);
	flat_strbuf_add(json->out, text, len);
}

void flat_json_null(struct flat_json *json, const char *key)
{
	json_begin_value(json, key);
	flat_strbuf_puts(json->out, "null");
}
