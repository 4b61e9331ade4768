#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/json_read.h"

static int read_text(const char *text, size_t len)
{
	struct flat_pool pool = {.limit_bytes = 1 << 20};
	const struct flat_json_node *root;
	int ret = flat_json_read(text, len, &pool, &root);
	flat_pool_fini(&pool);
	return ret;
}

Test(json_read, takes_what_the_grammar_takes)
{
	static const char *const good[] = {
	    "null",
	    " true ",
	    "false",
	    "0",
	    "-0",
	    "10",
	    "-1.5e+10",
	    "1E3",
	    "0.25",
	    "\"\"",
	    "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	    "\"\\u00e9\\ud83d\\ude00\"",
	    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
	    "[]",
	    "{}",
	    "[1,[2,[3]],{}]",
	    "{\"a\":{\"b\":[1,2]},\"c\":null}",
	    "\r\n\t{ \"a\" : 1 , \"b\" : 2 }\n",
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(good); i++)
		cr_assert_eq(read_text(good[i], strlen(good[i])), 0, "%s", good[i]);
}

Test(json_read, refuses_everything_else)
{
	static const char *const bad[] = {
	    "",
	    " ",
	    "nul",
	    "nullx",
	    "True",
	    "01",
	    "+1",
	    "1.",
	    ".5",
	    "1e",
	    "0x10",
	    "NaN",
	    "Infinity",
	    "'a'",
	    "\"a",
	    "\"a\nb\"",
	    "\"\\x41\"",
	    "\"\\u12g4\"",
	    "\"\\u0000\"",
	    "\"\\ud800\"",
	    "\"\\udc00\"",
	    "\"\\ud800\\u0041\"",
	    "\"\\",
	    "\"\\u00",
	    "\"\xc0\xaf\"",
	    "\"\xe0\x80\x80\"",
	    "\"\xed\xa0\x80\"",
	    "\"\xf4\x90\x80\x80\"",
	    "\"\xff\"",
	    "\"\xc3\"",
	    "[1,]",
	    "[,1]",
	    "[1 2]",
	    "[1",
	    "[1}",
	    "{\"a\":1,}",
	    "{\"a\"}",
	    "{a:1}",
	    "{\"a\":1 \"b\":2}",
	    "{\"a\":1}}",
	    "1 2",
	    "{} x",
	    "// c\n1",
	    /* The same name twice, plain or escaped. */
	    "{\"a\":1,\"a\":2}",
	    "{\"a\":1,\"\\u0061\":2}",
	    "{\"x\":{\"a\":1,\"b\":2,\"a\":3}}",
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++)
		cr_assert_eq(read_text(bad[i], strlen(bad[i])), -EBADMSG, "%s", bad[i]);
	cr_assert_eq(read_text("\"a\0b\"", 5), -EBADMSG);
	cr_assert_eq(read_text("1\0", 2), -EBADMSG);
}

Test(json_read, is_cut_at_every_byte_without_reading_on)
{
	static const char text[] = "{\"a\":[1,\"\\u00e9\xc3\xa9\",true],\"b\":{\"c\":-1.5e3}}";
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		char *copy = malloc(len + 1);
		memcpy(copy, text, len);
		cr_assert_eq(read_text(copy, len), -EBADMSG, "at %zu", len);
		free(copy);
	}
}

Test(json_read, is_bounded)
{
	char deep[200];
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	cr_assert_eq(read_text(deep, 200), -EBADMSG);
	cr_assert_eq(read_text(deep + 68, 64), 0, "32 levels are taken");

	struct flat_pool pool = {.limit_bytes = 4096};
	const struct flat_json_node *root;
	char many[4096];
	memset(many, '1', sizeof(many));
	for (size_t i = 1; i < sizeof(many); i += 2)
		many[i] = ',';
	many[0] = '[';
	many[sizeof(many) - 1] = ']';
	many[1] = '1';
	cr_assert_eq(flat_json_read(many, sizeof(many), &pool, &root), -ENOMEM);
	flat_pool_fini(&pool);
}

Test(json_read, gives_what_was_written)
{
	static const char text[] = "{\"t\":\"a\\u00e9\\ud83d\\ude00\",\"n\":12.5,\"l\":[true,null],"
				   "\"o\":{\"in\":\"x\"}}";
	struct flat_pool pool = {0};
	const struct flat_json_node *root;
	double n = 0;
	cr_assert_eq(flat_json_read(text, sizeof(text) - 1, &pool, &root), 0);
	cr_assert_str_eq(flat_json_member_text(root, "t"), "a\xc3\xa9\xf0\x9f\x98\x80");
	cr_assert(flat_json_number(flat_json_member(root, "n"), &n) && n == 12.5);
	cr_assert_null(flat_json_member_text(root, "n"));
	cr_assert_null(flat_json_member(root, "none"));
	cr_assert_null(flat_json_member(flat_json_member(root, "t"), "x"));
	cr_assert_str_eq(flat_json_member_text(flat_json_member(root, "o"), "in"), "x");
	const struct flat_json_node *l = flat_json_member(root, "l");
	cr_assert_eq(l->kind, FLAT_JSON_LIST);
	cr_assert_eq(l->first->kind, FLAT_JSON_TRUE);
	cr_assert_eq(l->first->next->kind, FLAT_JSON_NULL);
	cr_assert_null(l->first->next->next);
	flat_pool_fini(&pool);
}
