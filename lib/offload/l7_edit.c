/* Changing a request's head once more, after its route: what authentication and authorization take away and add. */
#include <errno.h>
#include <string.h>

#include "offload/l7_mandatory.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t flat_l7_url_decode(struct flat_span text, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		int high = text.text[i] == '%' && i + 2 < text.len ? hex(text.text[i + 1]) : -1;
		int low = high >= 0 ? hex(text.text[i + 2]) : -1;

		if (low >= 0) {
			out[n++] = (char)(high << 4 | low);
			i += 2;
		} else {
			out[n++] = text.text[i];
		}
	}
	return n;
}

/* The next `name=value` of a query; *at moves on behind it. */
static bool next_param(struct flat_span query, size_t *at, struct flat_span *name,
		       struct flat_span *value)
{
	const char *start = query.text + *at;
	const char *end, *equals;

	if (*at >= query.len)
		return false;
	end = memchr(start, '&', query.len - *at);
	if (!end)
		end = query.text + query.len;
	equals = memchr(start, '=', (size_t)(end - start));
	*name = (struct flat_span){start, (size_t)((equals ? equals : end) - start)};
	*value =
	    (struct flat_span){equals ? equals + 1 : end, equals ? (size_t)(end - equals) - 1 : 0};
	*at = (size_t)(end - query.text) + 1;
	return true;
}

/* Whether an encoded name is `want`. None that matters is long. */
static bool is_param(struct flat_span name, const char *want)
{
	char text[FLAT_L7_PARAM_MAX];

	if (name.len > sizeof(text))
		return false;
	return flat_span_equal((struct flat_span){text, flat_l7_url_decode(name, text)},
			       flat_span_of(want), false);
}

struct flat_span flat_l7_param(struct flat_span query, const char *name, uint32_t nth)
{
	struct flat_span n, value;
	size_t at = 0;

	while (next_param(query, &at, &n, &value)) {
		if (is_param(n, name) && nth-- == 0)
			return value;
	}
	return (struct flat_span){NULL, 0};
}

/* Each name of a list, with its NUL. */
static const char *next_name(const struct flat_strbuf *names, const char *name)
{
	const char *next = name ? name + strlen(name) + 1 : names->data;

	return names->len > 0 && next < names->data + names->len ? next : NULL;
}

static bool is_name(const char *want, struct flat_span name)
{
	return want && flat_http_name_alike(flat_span_of(want), name);
}

/* Whether one of the lines added is of this name. */
static bool replaced(const struct flat_l7_edit *edit, struct flat_span name)
{
	const char *at = edit->lines.data;
	const char *end = at + edit->lines.len;

	while (at < end) {
		const char *line = memchr(at, '\n', (size_t)(end - at));
		size_t len = strcspn(at, ":\r");

		if (flat_http_name_alike((struct flat_span){at, len}, name))
			return true;
		at = line ? line + 1 : end;
	}
	return false;
}

bool flat_l7_edit_drops(const struct flat_l7_edit *edit, struct flat_span name)
{
	if (edit->replace && replaced(edit, name))
		return true;
	for (const char *n = NULL; (n = next_name(&edit->remove, n));) {
		if (is_name(n, name))
			return true;
	}
	for (uint32_t i = 0; i < edit->n_rules; i++) {
		const struct flat_jwt_rule *rule = edit->rules[i];

		if (is_name(rule->payload_header, name))
			return true;
		for (uint32_t k = 0; k < rule->n_claim_headers; k++) {
			if (is_name(rule->claim_headers[k].header, name))
				return true;
		}
	}
	return false;
}

static bool param_dropped(const struct flat_l7_edit *edit, struct flat_span name)
{
	for (const char *n = NULL; (n = next_name(&edit->params, n));) {
		if (is_param(name, n))
			return true;
	}
	return false;
}

static void put_query(const struct flat_l7_edit *edit, struct flat_span query,
		      struct flat_http1_out *out)
{
	struct flat_span name, value;
	const char *before = "?";
	size_t at = 0;

	if (edit->params.len == 0 && query.text) {
		flat_http1_puts(out, before);
		flat_http1_put(out, query.text, query.len);
		before = "&";
	}
	while (edit->params.len > 0 && query.text && next_param(query, &at, &name, &value)) {
		if (param_dropped(edit, name))
			continue;
		flat_http1_puts(out, before);
		flat_http1_put(out, name.text, (size_t)(value.text + value.len - name.text));
		before = "&";
	}
	if (edit->query.len == 0)
		return;
	flat_http1_puts(out, before);
	flat_http1_put(out, edit->query.text, edit->query.len);
}

void flat_l7_edit_add(struct flat_l7_edit *edit, struct flat_span name, struct flat_span value)
{
	/* Claims are somebody else's text: what would end the line is not carried. */
	for (size_t i = 0; i < value.len; i++) {
		if ((unsigned char)value.text[i] < 0x20 || value.text[i] == 0x7f)
			return;
	}
	flat_strbuf_add(&edit->lines, name.text, name.len);
	flat_strbuf_puts(&edit->lines, ": ");
	flat_strbuf_add(&edit->lines, value.text, value.len);
	flat_strbuf_puts(&edit->lines, "\r\n");
}

static bool has_failed(const struct flat_l7_edit *edit)
{
	return edit->failed || edit->remove.failed || edit->params.failed;
}

bool flat_l7_edit_any(const struct flat_l7_edit *edit, const struct flat_http_request *request)
{
	if (edit->lines.len > 0 || edit->params.len > 0 || has_failed(edit))
		return true;
	for (uint32_t i = 0; i < request->head->n_fields; i++) {
		const struct flat_http_field *f = &request->head->fields[i];

		if (!f->hidden &&
		    flat_l7_edit_drops(edit, flat_head_span(request->text, f->name, f->name_len)))
			return true;
	}
	return false;
}

int flat_l7_edit_head(struct flat_l7 *l7, const struct flat_l7_edit *edit,
		      struct flat_http_request *request, size_t *len)
{
	struct flat_l7_node *node = l7->node;
	struct flat_http1_out out = {.bytes = (uint8_t *)node->fields,
				     .size = sizeof(node->fields)};
	const char *lines = flat_strbuf_str(&edit->lines);
	const struct flat_http_head *h;

	if (has_failed(edit) || !lines)
		return -ENOMEM;
	/* The head as it is to be sent, not as it came. */
	if (request->text != node->head &&
	    (flat_l7_head_text(l7, len) != 0 || flat_l7_read_again(l7, *len, request) != 0))
		return -EBADMSG;
	h = request->head;
	flat_http1_put(&out, request->method.text, request->method.len);
	flat_http1_put(&out, " ", 1);
	flat_http1_put(&out, request->path.text, request->path.len);
	put_query(edit, request->query, &out);
	flat_http1_puts(&out, h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(node->head, f->name, f->name_len);

		if (!flat_l7_edit_drops(edit, name))
			flat_http1_put_field(&out, name,
					     flat_head_span(node->head, f->value, f->value_len));
	}
	flat_http1_put(&out, lines, edit->lines.len);
	flat_http1_put(&out, "\r\n", 2);
	if (out.full)
		return -EMSGSIZE;
	memcpy(node->head, node->fields, out.len);
	*len = out.len;
	return flat_l7_read_again(l7, out.len, request);
}
