/* Replacing by regular expressions: what RE2's GlobalReplace makes of the same, case by case. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "mesh/regex.h"

static const char *replaced(const char *pattern, const char *by, const char *text)
{
	static char out[256];
	struct flat_pool pool = {0};
	const char *error;
	const struct flat_regex *r = flat_regex_compile(&pool, pattern, false, &error);
	ssize_t n;

	cr_assert(r, "%s: %s", pattern, error ? error : "no memory");
	n = flat_regex_replace(r, by, text, strlen(text), out, sizeof(out) - 1);
	cr_assert_geq(n, 0);
	out[n] = 0;
	flat_pool_fini(&pool);
	return out;
}

Test(regex_replace, as_re2_does_it)
{
	static const struct {
		const char *pattern, *by, *text, *want;
	} table[] = {
	    {"^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api",
	     "/v1/api/instance/foo"},
	    {"one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
	    {"^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
	    {"(.*)one(.*)", "\\1two\\2", "/xxx/one/yyy/one/zzz", "/xxx/one/yyy/two/zzz"},
	    {"(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
	    {"^/api(/|$)(.*)", "/\\2", "/api/x", "/x"},
	    {"^/api(/|$)(.*)", "/\\2", "/api", "/"},
	    {"^/api(/|$)(.*)", "/\\2", "/apis", "/apis"},
	    {"a|ab", "[\\0]", "abab", "[a]b[a]b"},
	    {"ab|a", "[\\0]", "abab", "[ab][ab]"},
	    {"a*", "-", "baac", "-b-c-"},
	    {"a*?", "-", "aa", "-a-a-"},
	    {"^a", "x", "aaa", "xaa"},
	    {"a$", "x", "aaa", "aax"},
	    {"(a)|(b)", "<\\1,\\2>", "ab", "<a,><,b>"},
	    {"(a+)(b{2,3})", "\\2\\1", "xaabbbbx", "xbbbaabx"},
	    {"(?:x)(y)", "\\1\\\\", "xy", "y\\"},
	    {"((a)(b))", "\\3\\2\\1", "ab", "baab"},
	    {"(a(b)?)+", "\\1\\2", "aba", "ab"},
	    {"", "-", "ab", "-a-b-"},
	    {"x", "y", "", ""},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(table); i++)
		cr_expect_str_eq(replaced(table[i].pattern, table[i].by, table[i].text),
				 table[i].want, "%s by %s in %s: %s", table[i].pattern, table[i].by,
				 table[i].text,
				 replaced(table[i].pattern, table[i].by, table[i].text));
}

Test(regex_replace, what_does_not_fit_is_said)
{
	struct flat_pool pool = {0};
	const char *error;
	const struct flat_regex *r = flat_regex_compile(&pool, "a", false, &error);
	char out[4];

	cr_assert(r);
	cr_expect_eq(flat_regex_replace(r, "bb", "aa", 2, out, 4), 4);
	cr_expect_eq(flat_regex_replace(r, "bb", "aac", 3, out, 4), -EMSGSIZE);
	flat_pool_fini(&pool);
}

/* What is looked for to the end from each of many places is not looked for for ever. */
Test(regex_replace, steps_are_bounded)
{
	static char text[32 * 1024];
	static char out[2 * sizeof(text)];
	struct flat_pool pool = {0};
	const char *error;
	const struct flat_regex *r = flat_regex_compile(&pool, "a.*b|a", false, &error);

	cr_assert(r);
	memset(text, 'a', sizeof(text));
	cr_expect_eq(flat_regex_replace(r, "cc", text, sizeof(text), out, sizeof(out)), -EMSGSIZE);
	/* As many places, each of which is settled at once, and one that is far from its end. */
	r = flat_regex_compile(&pool, "a|b.*c", false, &error);
	cr_assert(r);
	cr_expect_eq(flat_regex_replace(r, "cc", text, sizeof(text), out, sizeof(out)),
		     (ssize_t)sizeof(out));
	text[0] = 'b';
	text[sizeof(text) - 1] = 'c';
	cr_expect_eq(flat_regex_replace(r, "cc", text, sizeof(text), out, sizeof(out)), 2);
	flat_pool_fini(&pool);
}

/* Groups change nothing of whether a whole text matches. */
Test(regex_replace, matching_is_as_before)
{
	struct flat_pool pool = {0};
	const char *error;
	const struct flat_regex *r = flat_regex_compile(&pool, "/(a|b)+(/(c))?", false, &error);

	cr_assert(r);
	cr_expect(flat_regex_match(r, "/ab/c", 5));
	cr_expect(flat_regex_match(r, "/b", 2));
	cr_expect_not(flat_regex_match(r, "/ab/d", 5));
	flat_pool_fini(&pool);
}
