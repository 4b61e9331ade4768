/* Regular expressions: what matches, what is refused, and that hostile texts cost linear time. */
#include <criterion/criterion.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/regex.h"

struct regex_case {
	const char *pattern;
	const char *text;
	int want;
};

static const struct regex_case cases[] = {
    {"", "", 1},
    {"", "a", 0},
    {"a", "a", 1},
    {"a", "ab", 0},
    {"a", "ba", 0},
    {"abc", "abc", 1},
    {".*", "", 1},
    {".*", "anything/at all", 1},
    {".+", "", 0},
    {"a|bc", "bc", 1},
    {"a|bc", "abc", 0},
    {"(a|b)c", "bc", 1},
    {"(a|b)*c", "ababc", 1},
    {"(?:ab)+", "abab", 1},
    {"(?:ab)+", "aba", 0},
    {"a?b?", "", 1},
    {"a??b", "ab", 1},
    {"a{2}", "aa", 1},
    {"a{2}", "aaa", 0},
    {"a{2,}", "aaaa", 1},
    {"a{2,}", "a", 0},
    {"a{1,3}", "aaa", 1},
    {"a{1,3}", "aaaa", 0},
    {"a{0}", "", 1},
    {"(a{2}){2}", "aaaa", 1},
    {"[abc]+", "cab", 1},
    {"[a-c]+", "abd", 0},
    {"[^/]+", "abc", 1},
    {"[^/]+", "a/c", 0},
    {"[]a]+", "]a", 1},
    {"[a\\]]+", "]a", 1},
    {"[a-]+", "a-", 1},
    {"[\\d.]+", "1.2", 1},
    {"\\d+\\.\\d", "12.3", 1},
    {"\\d+\\.\\d", "12x3", 0},
    {"\\w+\\s\\W", "ab_1 /", 1},
    {"\\D\\S", "a/", 1},
    {"^/v[12]/.*$", "/v2/x", 1},
    {"^/v[12]/.*$", "/v3/x", 0},
    {"a$b", "ab", 0},
    {"(^a|b)c", "ac", 1},
    {"x*^a", "a", 1},
    {"(?i)AbC", "aBc", 1},
    {"(?i)[a-c]+", "ABC", 1},
    {"/api/(users|items)/[0-9]+(/.*)?", "/api/items/42/x", 1},
    {"/api/(users|items)/[0-9]+(/.*)?", "/api/items/x", 0},
    {"((a*)*)*", "aaaa", 1},
    {"(|a)+", "aa", 1},
    {"\xc3\xa9+", "\xc3\xa9", 1},
};

Test(regex, whole_texts_match)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_pool pool = {0};
		const char *error;
		const struct flat_regex *r =
		    flat_regex_compile(&pool, cases[i].pattern, false, &error);

		cr_expect(r, "%s: %s", cases[i].pattern, error);
		if (r)
			cr_expect_eq(flat_regex_match(r, cases[i].text, strlen(cases[i].text)),
				     cases[i].want, "%s on %s", cases[i].pattern, cases[i].text);
		flat_pool_fini(&pool);
	}
}

Test(regex, what_is_wrong_is_said)
{
	static const char *const bad[] = {"(",
					  "(a",
					  ")",
					  "a)",
					  "[",
					  "[a",
					  "[]",
					  "*a",
					  "a|*",
					  "[b-a]",
					  "a{3,2}",
					  "a{",
					  "\\",
					  "\\b",
					  "\\pL",
					  "\\1",
					  "(?=a)",
					  "(?P<x>a)",
					  "[[:alpha:]]",
					  "a{513}",
					  "(a{100}){100}",
					  "a{99999999999}",
					  "[\xc3\xa9]"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		struct flat_pool pool = {0};
		const char *error = NULL;

		cr_expect_null(flat_regex_compile(&pool, bad[i], false, &error), "%s", bad[i]);
		cr_expect(error, "%s", bad[i]);
		flat_pool_fini(&pool);
	}
}

Test(regex, depth_and_memory_are_bounded)
{
	struct flat_pool pool = {0};
	struct flat_pool small = {.limit_bytes = 100};
	const char *error = NULL;
	char deep[2001];

	memset(deep, '(', 1000);
	memset(deep + 1000, ')', 1000);
	deep[2000] = 0;
	cr_expect_null(flat_regex_compile(&pool, deep, false, &error));
	cr_expect(error);
	cr_expect_null(flat_regex_compile(&small, "abc", false, &error));
	cr_expect_null(error);
	flat_pool_fini(&pool);
	flat_pool_fini(&small);
}

/* What takes exponential time by backtracking: 2^30 steps and more. */
Test(regex, hostile_texts_cost_no_more, .timeout = 20)
{
	struct flat_pool pool = {0};
	const char *error;
	const struct flat_regex *r =
	    flat_regex_compile(&pool, "(a*)*(a|aa)+(a?){30}b", false, &error);
	char *text = malloc(61440);

	cr_assert(r);
	memset(text, 'a', 61440);
	cr_expect(!flat_regex_match(r, text, 61440));
	text[61439] = 'b';
	cr_expect(flat_regex_match(r, text, 61440));
	free(text);
	flat_pool_fini(&pool);
}

/* POSIX's own matcher as the oracle, over the syntax that both have. */
Test(regex, agrees_with_posix)
{
	static const char *const atoms[] = {"a", "b", ".", "[ab]", "[^a]", "(a|b)", "(ab)", "(b)"};
	static const char *const after[] = {"", "", "*", "+", "?", "{2}", "{1,2}"};
	unsigned seed = 1;
	int checked = 0;

	for (int round = 0; round < 3000; round++) {
		struct flat_pool pool = {0};
		char pattern[128] = "";
		char anchored[160];
		char text[12];
		regex_t posix;
		const char *error;
		size_t n = 0;

		for (int i = 0; i < 4; i++) {
			seed = seed * 1103515245U + 12345U;
			n += (size_t)snprintf(pattern + n, sizeof(pattern) - n, "%s%s%s",
					      atoms[(seed >> 16) % FLAT_ARRAY_SIZE(atoms)],
					      after[(seed >> 20) % FLAT_ARRAY_SIZE(after)],
					      (seed >> 24) % 5 == 0 && i < 3 ? "|" : "");
		}
		snprintf(anchored, sizeof(anchored), "^(%s)$", pattern);
		const struct flat_regex *r = flat_regex_compile(&pool, pattern, false, &error);
		cr_assert(r, "%s: %s", pattern, error);
		cr_assert_eq(regcomp(&posix, anchored, REG_EXTENDED | REG_NOSUB), 0);
		for (int t = 0; t < 20; t++) {
			size_t len = 0;
			seed = seed * 1103515245U + 12345U;
			for (unsigned bits = seed >> 12; len < (seed >> 28) % 9; len++, bits >>= 1)
				text[len] = bits & 1 ? 'a' : 'b';
			text[len] = 0;
			cr_expect_eq(flat_regex_match(r, text, len),
				     regexec(&posix, text, 0, NULL, 0) == 0, "%s on %s", pattern,
				     text);
			checked++;
		}
		regfree(&posix);
		flat_pool_fini(&pool);
	}
	cr_expect_eq(checked, 60000);
}
