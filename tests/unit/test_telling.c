/* Lines that clients bring about: bounded for each account and kind, and what was left out is told. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "offload/admit.h"
#include "offload/offload.h"
#include "offload/telling.h"

#define FLOOD 10000

static FILE *file;
static char text[1 << 20];

static void setup(void)
{
	file = tmpfile();
	cr_assert_not_null(file);
	flat_log_init(fileno(file), FLAT_LOG_INFO, "t");
}

static void teardown(void)
{
	flat_telling_fini();
	flat_log_init(-1, FLAT_LOG_NONE, "t");
	fclose(file);
}

TestSuite(telling, .init = setup, .fini = teardown);

/* How many lines of the log have `part`. */
static unsigned int lines(const char *part)
{
	unsigned int n = 0;
	ssize_t len = pread(fileno(file), text, sizeof(text) - 1, 0);
	text[len > 0 ? len : 0] = 0;
	for (char *line = text; (line = strstr(line, part)) != NULL; line++)
		n++;
	return n;
}

Test(telling, a_flood_of_refusals_has_a_bounded_log)
{
	static struct flat_offload o;
	struct flat_session s = {.uid = 1234, .pid = 7};
	struct flat_addr to = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 1}};
	for (int i = 0; i < FLOOD; i++) {
		/* Another process each time, and another port: it is one user's all the same. */
		s.pid++;
		to.port++;
		flat_refuse(&o, &s, "pid 7 (no workload)", &to, FLAT_REFUSED_POLICY, "no");
	}
	cr_expect_eq(o.stats.refused[FLAT_REFUSED_POLICY], FLOOD);
	cr_expect_leq(lines("refused pid 7"), FLAT_TELLING_BURST + 10);
	cr_expect_geq(lines("refused pid 7"), FLAT_TELLING_BURST);
	/* Another kind, and another account, have lines of their own. */
	flat_refuse(&o, &s, "other kind", &to, FLAT_REFUSED_NO_PORT, "no");
	s.uid++;
	flat_refuse(&o, &s, "other user", &to, FLAT_REFUSED_POLICY, "no");
	flat_refuse(&o, NULL, "plain client", &to, FLAT_REFUSED_POLICY, "no");
	cr_expect_eq(lines("other kind"), 1);
	cr_expect_eq(lines("other user"), 1);
	cr_expect_eq(lines("refused plain client"), 1);
}

Test(telling, what_was_left_out_is_counted)
{
	char want[100];
	cr_expect_eq(flat_telling_wait_ms(), -1);
	for (int i = 0; i < FLOOD; i++)
		flat_tell(FLAT_LOG_WARN, "things", "me", "a thing");
	int wait = flat_telling_wait_ms();
	cr_expect_gt(wait, 0);
	cr_expect_leq(wait, FLAT_TELLING_EVERY_S * 1000 + 1);
	unsigned int told = lines("a thing");
	flat_telling_fini();
	/* Told on the way by lines that had a token, or at the end. */
	snprintf(want, sizeof(want), "%u lines were left out: things of me", FLOOD - told);
	if (told == FLAT_TELLING_BURST)
		cr_expect_eq(lines(want), 1, "%s", strstr(text, "left out"));
	cr_expect_eq(flat_telling_wait_ms(), -1);
	flat_tell(FLAT_LOG_WARN, "things", "me", "a thing");
	cr_expect_eq(lines("a thing"), told + 1);
}

Test(telling, long_names_and_levels)
{
	char name[400];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	flat_tell(FLAT_LOG_DEBUG, name, name, "not this");
	flat_tell(FLAT_LOG_INFO, name, name, "this %s", name);
	cr_expect_eq(lines("not this"), 0);
	cr_expect_eq(lines("this nnn"), 1);
}
