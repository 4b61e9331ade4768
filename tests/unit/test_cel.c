/* Filters of access logs: what CEL says they mean (cel-spec, langdef), for the part of it that is understood. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "mesh/cel.h"

static struct flat_cel_value text(const char *s)
{
	return (struct flat_cel_value){.type = s ? FLAT_CEL_TEXT : FLAT_CEL_ABSENT,
				       .text = flat_span_of(s)};
}

/* One request: GET /a/b?c=d of a.example, answered 404, one header. */
static struct flat_cel_value value_of(enum flat_cel_attribute attribute, struct flat_span key)
{
	switch (attribute) {
	case FLAT_CEL_REQUEST_URL_PATH:
		return text("/a/b");
	case FLAT_CEL_REQUEST_METHOD:
		return text("GET");
	case FLAT_CEL_REQUEST_HEADERS:
		return text(flat_span_equal(key, flat_span_of("x-a"), true) ? "1" : NULL);
	case FLAT_CEL_RESPONSE_CODE:
		return (struct flat_cel_value){.type = FLAT_CEL_INT, .number = 404};
	case FLAT_CEL_REQUEST_DURATION:
		return (struct flat_cel_value){.type = FLAT_CEL_TIME, .number = 1500000000};
	case FLAT_CEL_CONNECTION_MTLS:
		return (struct flat_cel_value){.type = FLAT_CEL_BOOL, .number = 1};
	default:
		return text(NULL);
	}
}

static void look_up(void *arg, enum flat_cel_attribute attribute, struct flat_span key,
		    struct flat_cel_value *out)
{
	(void)arg;
	*out = value_of(attribute, key);
}

struct cel_case {
	const char *text;
	int holds; /* -1: it is not understood */
};

static const struct cel_case cases[] = {
    {"true", 1},
    {"false", 0},
    {"response.code >= 400", 1},
    {"response.code>=500", 0},
    {"response.code == 404 && request.method == 'GET'", 1},
    {"response.code == 404 && request.method == \"PUT\"", 0},
    {"response.code != 404 || request.method != 'PUT'", 1},
    {"!(response.code < 400)", 1},
    {"!connection.mtls", 0},
    {"-1 < 0", 1},
    {"response.code > -1", 1},
    {"request.url_path.startsWith('/a/')", 1},
    {"request.url_path.endsWith('/b')", 1},
    {"request.url_path.endsWith('/a/b/longer')", 0},
    {"request.url_path.contains('a/')", 1},
    {"request.url_path.matches('^/a/.$')", 1},
    {"request.url_path.matches('/[bc]$')", 1},
    {"request.url_path.matches('^/b')", 0},
    {"request.url_path.matches('^/a\\\\W')", 1},
    {"request.url_path.size() == 4", 1},
    {"size(request.url_path) == 5", 0},
    {"request.headers['x-a'] == '1'", 1},
    {"request.headers['x-a'] == \"2\"", 0},
    {"'x-a' in request.headers", 1},
    {"'x-b' in request.headers", 0},
    {"response.code in [403, 404]", 1},
    {"response.code in [1, 2]", 0},
    {"request.method in ['PUT', 'GET']", 1},
    {"has(request.headers['x-b'])", 0},
    {"has(response.code)", 1},
    {"request.duration > duration('1s')", 1},
    {"request.duration > duration('1500ms')", 0},
    {"request.duration >= duration('0.5s') && request.duration < duration('1m')", 1},
    {"connection.mtls ? response.code == 404 : false", 1},
    {"'abc' < 'abd'", 1},
    /* What is not there makes an error, which decides nothing, but beside what does. */
    {"request.headers['x-b'] == '1'", 0},
    {"!(request.headers['x-b'] == '1')", 0},
    {"request.headers['x-b'] == '1' || response.code == 404", 1},
    {"response.code == 404 || request.headers['x-b'] == '1'", 1},
    {"request.headers['x-b'] == '1' && true", 0},
    {"response.grpc_status == 0", 0},
    {"response.code == '404'", 0},
    {"response.code < '404'", 0},
    {"'text'", 0},
    {"response.code", 0},
    /* Not understood. */
    {"", -1},
    {"response.code >=", -1},
    {"response.code > 400 extra", -1},
    {"response.codes > 400", -1},
    {"foo", -1},
    {"foo(1)", -1},
    {"request.method.foo()", -1},
    {"1.5 < 2", -1},
    {"(true", -1},
    {"'open", -1},
    {"'a' in 'b'", -1},
    {"[1", -1},
    {"request.url_path.matches(request.method)", -1},
    {"request.url_path.matches('(')", -1},
    {"duration('1 parsec') > duration('1s')", -1},
    {"true ? false", -1},
    {"'\\n' == 'a'", -1},
};

Test(cel, means_what_it_says)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct flat_pool pool = {0};
		const char *why = NULL;
		const struct flat_cel *cel = flat_cel_compile(&pool, cases[i].text, &why);

		cr_assert_eq(!cel, cases[i].holds < 0, "%s: %s", cases[i].text, why ? why : "");
		cr_assert_eq(!cel, why != NULL, "%s", cases[i].text);
		if (cel)
			cr_assert_eq(flat_cel_holds(cel, look_up, NULL), cases[i].holds == 1, "%s",
				     cases[i].text);
		flat_pool_fini(&pool);
	}
}

/* However deep or long, it ends. */
Test(cel, is_bounded)
{
	char text_of[4096];
	const char *why;
	struct flat_pool pool = {0};

	memset(text_of, '(', sizeof(text_of));
	text_of[sizeof(text_of) - 1] = 0;
	cr_assert_null(flat_cel_compile(&pool, text_of, &why));
	memset(text_of, '!', sizeof(text_of));
	text_of[sizeof(text_of) - 1] = 0;
	cr_assert_null(flat_cel_compile(&pool, text_of, &why));
	memcpy(text_of, "true", 5);
	for (size_t i = 4; i + 7 < sizeof(text_of); i += 6)
		memcpy(text_of + i, "||true", 7);
	cr_assert_null(flat_cel_compile(&pool, text_of, &why));
	cr_assert_str_eq(why, "it is too long");
	flat_pool_fini(&pool);
}

static struct flat_cel_value said_by(const char *source)
{
	struct flat_pool pool = {0};
	const char *why;
	const struct flat_cel *cel = flat_cel_compile(&pool, source, &why);
	struct flat_cel_value v;

	cr_assert_not_null(cel, "%s: %s", source, why);
	v = flat_cel_eval(cel, look_up, NULL);
	/* A text of the expression itself goes with it. */
	if (v.type == FLAT_CEL_TEXT)
		v.text.text = strndup(v.text.text, v.text.len);
	flat_pool_fini(&pool);
	return v;
}

Test(cel, values_are_told_with_their_type)
{
	struct flat_cel_value v =
	    said_by("has(request.headers['x-b']) ? request.headers['x-b'] : 'unknown'");

	cr_assert_eq(v.type, FLAT_CEL_TEXT);
	cr_assert(flat_span_equal(v.text, flat_span_of("unknown"), false));
	v = said_by("request.headers['x-a']");
	cr_assert(flat_span_equal(v.text, flat_span_of("1"), false));
	cr_assert_eq(said_by("request.headers['x-b']").type, FLAT_CEL_ABSENT);
	cr_assert_eq(said_by("response.code").number, 404);
	cr_assert_eq(said_by("string(response.code)").type, FLAT_CEL_INT);
	cr_assert_eq(said_by("response.code >= 400").type, FLAT_CEL_BOOL);
	cr_assert_eq(said_by("request.duration").type, FLAT_CEL_TIME);
}

static void note_key(void *arg, struct flat_span key)
{
	char *keys = arg;
	size_t len = strlen(keys);

	snprintf(keys + len, 128 - len, "%.*s ", (int)key.len, key.text);
}

Test(cel, keys_that_are_asked_for_are_found)
{
	struct flat_pool pool = {0};
	char keys[128] = "";
	const char *why;
	const struct flat_cel *cel = flat_cel_compile(
	    &pool,
	    "response.headers['a'] == 'x' || 'b' in response.headers || response.code in [1, "
	    "size(response.headers['c'])] ? response.headers['d'] : request.headers['e']",
	    &why);

	cr_assert_not_null(cel, "%s", why);
	flat_cel_keys(cel, FLAT_CEL_RESPONSE_HEADERS, note_key, keys);
	cr_assert_str_eq(keys, "a b c d ", "%s", keys);
	cr_assert_not(flat_cel_is_literal(cel));
	cel = flat_cel_compile(&pool, "'a'", &why);
	cr_assert(flat_cel_is_literal(cel));
	flat_pool_fini(&pool);
}
