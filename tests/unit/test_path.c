/* The canonical path: every spelling that servers read as one path becomes one, or is refused. */
#include <criterion/criterion.h>
#include <errno.h>

#include "codec/path.h"

struct path_case {
	const char *in;
	const char *want; /* NULL: refused */
};

static const struct path_case cases[] = {
    {"/", "/"},
    {"", "/"},
    {"*", "*"},
    {"/a/b", "/a/b"},
    {"/a/b/", "/a/b/"},
    {"/a.b/.c/..d/e..", "/a.b/.c/..d/e.."},
    {"/a[]@:!$&'()*+,=~", "/a[]@:!$&'()*+,=~"},
    /* What stands in a URL as %XX alone. */
    {"/a|b\"{}^`<>", "/a%7Cb%22%7B%7D%5E%60%3C%3E"},
    {"/a%7cb%7B", "/a%7Cb%7B"},
    {"/{a}/../b", "/b"},
    /* Slashes. */
    {"//a", "/a"},
    {"/a//b", "/a/b"},
    {"/a///", "/a/"},
    {"//", "/"},
    /* Dots. */
    {"/.", "/"},
    {"/./a", "/a"},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/../b", "/b"},
    {"/a/b/../../c", "/c"},
    {"/a/..", "/"},
    {"/a//../b", "/b"},
    {"/..", NULL},
    {"/../a", NULL},
    {"/a/../../b", NULL},
    {"/...", "/..."},
    /* Percent signs. */
    {"/%61dmin", "/admin"},
    {"/%41%5a%2D%2e%5F%7e", "/AZ-._~"},
    {"/a%20b", "/a%20b"},
    {"/%c3%a9", "/%C3%A9"},
    {"/%3f%23%3b", "/%3F%23%3B"},
    {"/%25%32%66", "/%252f"},
    {"/%2e/a", "/a"},
    {"/a/%2e%2E/b", "/b"},
    {"/a/.%2e/b", "/b"},
    {"/%2e%2e", NULL},
    {"/a%2fb", NULL},
    {"/a%2Fb", NULL},
    {"/a%5cb", NULL},
    {"/a\\b", NULL},
    {"/a%00", NULL},
    {"/a%0a", NULL},
    {"/a%1f", NULL},
    {"/a%7f", NULL},
    {"/a%", NULL},
    {"/a%4", NULL},
    {"/a%zz", NULL},
    {"/a%4g", NULL},
    {"/a;b", NULL},
    {"/a#b", NULL},
    {"/a b", NULL},
    {"/a\x7f", NULL},
    {"/\xc3\xa9", NULL},
    {"a", NULL},
    /* Overlong UTF-8 of / and . */
    {"/%c0%af", NULL},
    {"/%c0%ae%c0%ae/", NULL},
    {"/%c1%9c", NULL},
    {"/%e0%80%af", NULL},
    {"/%f0%80%80%af", NULL},
    {"/%e9", "/%E9"},
    {"/%e2%82%ac", "/%E2%82%AC"},
};

Test(path, is_brought_into_one_form)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_span out = {NULL, 0};
		struct flat_span again;
		char buf[64];
		char buf2[64];
		int ret = flat_path_canonical(flat_span_of(cases[i].in), buf, sizeof(buf), &out);

		if (!cases[i].want) {
			cr_expect_eq(ret, -EBADMSG, "%s", cases[i].in);
			continue;
		}
		cr_expect_eq(ret, 0, "%s", cases[i].in);
		cr_expect(flat_span_equal(out, flat_span_of(cases[i].want), false), "%s: %.*s",
			  cases[i].in, (int)out.len, out.text);
		cr_expect_eq(flat_path_canonical(out, buf2, sizeof(buf2), &again), 0);
		cr_expect(flat_span_equal(again, out, false), "%s twice", cases[i].in);
	}
}

Test(path, a_small_buffer_is_said)
{
	struct flat_span out;
	char buf[4];
	cr_expect_eq(flat_path_canonical(flat_span_of("/%61bcd"), buf, sizeof(buf), &out),
		     -ENOBUFS);
	cr_expect_eq(flat_path_canonical(flat_span_of("/abcdef"), buf, sizeof(buf), &out), 0);
	cr_expect_eq(flat_path_canonical(flat_span_of("/{"), buf, sizeof(buf), &out), -ENOBUFS);
}

Test(path, slashes_are_decoded_on_request)
{
	static const char *const pairs[][2] = {
	    {"/a%2fb", "/a/b"}, {"/a%2Fb%5c%5C", "/a/b//"},
	    {"/a%2", "/a%2"},	{"/a%252f", "/a%252f"},
	    {"%2f", "/"},	{"/a%2e%2f%20", "/a%2e/%20"},
	};
	char buf[64];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++) {
		struct flat_span out = flat_path_decode_slashes(flat_span_of(pairs[i][0]), buf);

		cr_expect(flat_span_equal(out, flat_span_of(pairs[i][1]), false), "%s: %.*s",
			  pairs[i][0], (int)out.len, out.text);
	}
}

/* What rules name is spelled as what they are compared with. */
Test(path, pieces_of_rules_are_spelled_likewise)
{
	static const struct {
		const char *in, *want;
		bool ends, good;
	} pieces[] = {
	    {"/%61dmin/*", "/admin/*", true, true},
	    {"/%c3%a9", "/%C3%A9", true, true},
	    {"/a|b", "/a%7Cb", true, true},
	    {"/a/{*}/%7e", "/a/{*}/~", true, true},
	    {"*.txt", "*.txt", true, true},
	    {"/.", "/.", false, true},
	    {"/.", "/.", true, false},
	    {"/..", "/..", true, false},
	    {"/...", "/...", true, true},
	    {"/.git", "/.git", true, true},
	    {"/a/%2e%2e/b", "/a/../b", true, false},
	    {"/./a", "/./a", true, false},
	    {"//a", "//a", true, false},
	    {"/a/", "/a/", true, true},
	    {"/a%2fb", "/a%2fb", true, false},
	    {"/a%", "/a%", true, false},
	    {"/a%4", "/a%4", true, false},
	    {"/a;b/%41", "/a;b/A", true, false},
	    {"/a?b", "/a?b", true, false},
	    {"/\xc3\xa9", "/\xc3\xa9", true, false},
	    {"/%c0%af", "/%C0%AF", true, false},
	    {"/%C1%9C", "/%C1%9C", true, false},
	    {"/%e0%80%af", "/%E0%80%AF", true, false},
	    {"/%f0%8f%bf%bf", "/%F0%8F%BF%BF", true, false},
	    {"/%e0%a0%80", "/%E0%A0%80", true, true},
	    {"/%f0%90%80%80", "/%F0%90%80%80", true, true},
	    {"/%e9", "/%E9", true, true},
	    {"", "", true, true},
	};
	char buf[128];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pieces); i++) {
		cr_expect_eq(flat_path_spell(pieces[i].in, pieces[i].ends, buf), pieces[i].good,
			     "%s", pieces[i].in);
		cr_expect_str_eq(buf, pieces[i].want);
	}
	/* A canonical path is spelled as it is. */
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		if (!cases[i].want)
			continue;
		cr_expect(flat_path_spell(cases[i].want, true, buf), "%s", cases[i].want);
		cr_expect_str_eq(buf, cases[i].want);
	}
}
