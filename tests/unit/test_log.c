/* The log: levels, lines, what it leaves alone. */
#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "base/log.h"

static int ends[2];

static void setup(void)
{
	cr_assert_eq(pipe(ends), 0);
}

static void teardown(void)
{
	flat_log_init(-1, FLAT_LOG_NONE, "test");
	close(ends[0]);
	close(ends[1]);
}

TestSuite(log, .init = setup, .fini = teardown);

static const char *taken(void)
{
	static char text[4096];
	ssize_t n;
	close(ends[1]);
	n = read(ends[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	return text;
}

Test(log, writes_what_its_level_lets_through)
{
	flat_log_init(ends[1], FLAT_LOG_WARN, "prog");
	cr_expect(flat_log_wants(FLAT_LOG_ERROR));
	cr_expect_not(flat_log_wants(FLAT_LOG_INFO));
	flat_info("not this");
	flat_debug("nor this");
	flat_warn("but %d of these", 7);
	const char *text = taken();
	cr_expect_null(strstr(text, "this"), "%s", text);
	cr_expect_not_null(strstr(text, "Z prog warn: but 7 of these\n"), "%s", text);
}

Test(log, is_silent_without_a_descriptor)
{
	flat_log_init(-1, FLAT_LOG_DEBUG, "prog");
	cr_expect_not(flat_log_wants(FLAT_LOG_ERROR));
	flat_error("nowhere");
	cr_expect_str_eq(taken(), "");
}

Test(log, cuts_long_lines_and_ends_each_with_a_newline)
{
	char long_text[3000];
	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = 0;
	flat_log_init(ends[1], FLAT_LOG_INFO, "prog");
	flat_info("%s", long_text);
	flat_info("next");
	const char *text = taken();
	const char *end = strchr(text, '\n');
	cr_assert_not_null(end);
	cr_expect_leq(end - text, 1000);
	cr_expect_not_null(strstr(end, "info: next\n"));
}

Test(log, keeps_errno)
{
	flat_log_init(ends[0], FLAT_LOG_INFO, "prog");
	errno = EXDEV;
	flat_info("to an end that cannot be written");
	cr_expect_eq(errno, EXDEV);
}

Test(log, knows_the_names_of_levels)
{
	cr_expect_eq(flat_log_level_parse("none"), FLAT_LOG_NONE);
	cr_expect_eq(flat_log_level_parse("error"), FLAT_LOG_ERROR);
	cr_expect_eq(flat_log_level_parse("debug"), FLAT_LOG_DEBUG);
	cr_expect_eq(flat_log_level_parse("loud"), -EINVAL);
	cr_expect_eq(flat_log_level_parse(""), -EINVAL);
}
