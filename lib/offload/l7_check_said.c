/*
 * What an authorizer said of a request that it allowed, done to the request and to its answer. As Envoy: headers are set (of a name that
 * is said twice the last), then values appended to headers that are there, then names taken away, then the query changed.
 */
#include <errno.h>
#include <string.h>

#include "offload/l7_check_grpc.h"

/* Of a header's values that one is appended to. */
#define JOINED_MAX ((size_t)8192)

/* The name of the line at `at`, and where the next line begins. */
static struct flat_span name_at(const struct flat_strbuf *lines, size_t at, size_t *next)
{
	const char *line = lines->data + at;
	const char *end = memchr(line, '\n', lines->len - at);

	*next = end ? (size_t)(end - lines->data) + 1 : lines->len;
	return (struct flat_span){line, strcspn(line, ":\r")};
}

/* The value of the line that has this name and ends before `next`. */
static struct flat_span value_of(const struct flat_strbuf *lines, struct flat_span name,
				 size_t next)
{
	const char *value = name.text + name.len + 2;

	return (struct flat_span){value, (size_t)(lines->data + next - 2 - value)};
}

bool flat_l7_lines_have(const struct flat_strbuf *lines, struct flat_span name)
{
	for (size_t at = 0, next; at < lines->len; at = next) {
		if (flat_span_equal(name_at(lines, at, &next), name, true))
			return true;
	}
	return false;
}

void flat_l7_lines_drop(struct flat_strbuf *lines, struct flat_span name)
{
	size_t next;

	for (size_t at = 0; at < lines->len;) {
		if (!flat_span_equal(name_at(lines, at, &next), name, true)) {
			at = next;
			continue;
		}
		memmove(lines->data + at, lines->data + next, lines->len - next);
		lines->len -= next - at;
		lines->data[lines->len] = '\0';
	}
}

/* Values are appended to what is there, and to nothing else. */
static int append(struct flat_l7 *l7, const struct flat_l7_check_answer *a,
		  struct flat_http_request *request, size_t *len)
{
	const struct flat_strbuf *lines = &a->append;
	char joined[JOINED_MAX];
	int ret = 0;

	for (size_t at = 0, next; at < lines->len && ret == 0; at = next) {
		struct flat_span name = name_at(lines, at, &next);
		struct flat_span value = value_of(lines, name, next);
		struct flat_l7_edit edit = {.replace = true};
		bool overflow = false;
		struct flat_span before =
		    flat_http_field_joined(request, name, joined, sizeof(joined), &overflow);

		if (overflow)
			return -EMSGSIZE;
		if (!before.text)
			continue;
		flat_strbuf_add(&edit.lines, name.text, name.len);
		flat_strbuf_puts(&edit.lines, ": ");
		flat_strbuf_add(&edit.lines, before.text, before.len);
		flat_strbuf_puts(&edit.lines, before.len ? "," : "");
		flat_strbuf_add(&edit.lines, value.text, value.len);
		flat_strbuf_puts(&edit.lines, "\r\n");
		ret = flat_l7_edit_head(l7, &edit, request, len);
		flat_strbuf_fini(&edit.lines);
	}
	return ret;
}

int flat_l7_said_apply(struct flat_l7 *l7, const struct flat_l7_check_answer *a,
		       struct flat_http_request *request, size_t *len)
{
	struct flat_l7_edit edit = {
	    .remove = a->remove,
	    .params = a->params,
	    .lines = a->upstream,
	    .replace = true,
	};
	int ret = 0;

	/* Each parameter ends with '&'. */
	edit.query = (struct flat_span){a->query.data, a->query.len ? a->query.len - 1 : 0};
	if (a->upstream.len > 0 || a->query.len > 0 || a->remove.len > 0 || a->params.len > 0)
		ret = flat_l7_edit_head(l7, &edit, request, len);
	return ret == 0 && a->append.len > 0 ? append(l7, a, request, len) : ret;
}

bool flat_l7_said_drops(const struct flat_l7_check_answer *a, struct flat_span name)
{
	struct flat_l7_edit edit = {.remove = a->remove, .lines = a->upstream, .replace = true};
	struct flat_l7_edit more = {.lines = a->append, .replace = true};

	return flat_l7_edit_drops(&edit, name) || flat_l7_edit_drops(&more, name);
}

bool flat_l7_said_takes(const struct flat_l7_check_answer *a, struct flat_span name)
{
	return flat_l7_lines_have(&a->client[FLAT_L7_SAY_SET], name) ||
	       flat_l7_lines_have(&a->client[FLAT_L7_SAY_SET_PRESENT], name);
}

void flat_l7_said_answer(const struct flat_l7_check_answer *a, const struct flat_http_head *h,
			 const void *text, struct flat_http1_out *out)
{
	for (size_t how = 0; how < FLAT_L7_SAYS; how++) {
		const struct flat_strbuf *lines = &a->client[how];
		bool asks = how == FLAT_L7_SAY_ADD_ABSENT || how == FLAT_L7_SAY_SET_PRESENT;

		for (size_t at = 0, next; at < lines->len; at = next) {
			struct flat_span name = name_at(lines, at, &next);

			if (asks && (flat_head_field(h, text, name).text != NULL) !=
					(how == FLAT_L7_SAY_SET_PRESENT))
				continue;
			flat_http1_put(out, lines->data + at, next - at);
		}
	}
}

bool flat_l7_check_answer_whole(const struct flat_l7_check_answer *a)
{
	bool failed = a->body.failed || a->upstream.failed || a->append.failed ||
		      a->remove.failed || a->params.failed || a->query.failed;

	for (size_t how = 0; how < FLAT_L7_SAYS; how++)
		failed |= a->client[how].failed;
	return !failed;
}

void flat_l7_check_answer_fini(struct flat_l7_check_answer *a)
{
	flat_strbuf_fini(&a->body);
	flat_strbuf_fini(&a->upstream);
	flat_strbuf_fini(&a->append);
	flat_strbuf_fini(&a->remove);
	flat_strbuf_fini(&a->params);
	flat_strbuf_fini(&a->query);
	for (size_t how = 0; how < FLAT_L7_SAYS; how++)
		flat_strbuf_fini(&a->client[how]);
}
