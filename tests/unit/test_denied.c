/* Why a socket of flatd's cannot be reached: which folder or file keeps the user out, and what to do. As a user who is not root. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/denied.h"

#define NOBODY 65534U

static char folder[64];
static char inner[80];
static char file[96];

static void setup(void)
{
	FILE *f;

	snprintf(folder, sizeof(folder), "/tmp/flat-unit-denied.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(inner, sizeof(inner), "%s/in", folder);
	snprintf(file, sizeof(file), "%s/socket", inner);
	cr_assert_eq(mkdir(inner, 0755), 0);
	f = fopen(file, "we");
	cr_assert_not_null(f);
	fclose(f);
}

static void teardown(void)
{
	(void)unlink(file);
	(void)rmdir(inner);
	(void)rmdir(folder);
}

TestSuite(denied, .init = setup, .fini = teardown);

/* What NOBODY is told with these modes; "": nothing keeps it out. `root`: the path is seen from that folder. */
static void check(mode_t outer_mode, mode_t inner_mode, mode_t file_mode, const char *root,
		  const char *want)
{
	const char *path = root ? file + strlen(root) : file;
	int from = AT_FDCWD;
	int status;
	pid_t child;

	cr_assert_eq(chmod(file, file_mode), 0);
	cr_assert_eq(chmod(inner, inner_mode), 0);
	cr_assert_eq(chmod(folder, outer_mode), 0);
	if (root)
		from = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	child = fork();
	cr_assert_geq(child, 0);
	if (child == 0) {
		char text[FLAT_DENIED_MAX] = "";
		bool denied;

		if (seteuid(NOBODY) != 0)
			_exit(2);
		denied = flat_denied(from, path, text);
		if (denied != (*want != 0) || strncmp(text, want, strlen(want)) != 0)
			fprintf(stderr, "%d '%s', not '%s'\n", denied, text, want);
		_exit(denied != (*want != 0) || strncmp(text, want, strlen(want)) != 0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0, "%o %o %o", outer_mode, inner_mode, file_mode);
	if (root)
		close(from);
}

Test(denied, the_first_folder_that_keeps_a_user_out_is_named)
{
	char outer_want[160], inner_want[160], seen_want[160];

	if (geteuid() != 0)
		cr_skip_test("not root");
	snprintf(outer_want, sizeof(outer_want), "user %u may not enter the folder %s; let it",
		 NOBODY, folder);
	snprintf(inner_want, sizeof(inner_want), "user %u may not enter the folder %s; let it",
		 NOBODY, inner);
	snprintf(seen_want, sizeof(seen_want), "user %u may not enter the folder /in; let it",
		 NOBODY);
	check(0700, 0700, 0600, NULL, outer_want);
	check(0755, 0700, 0600, NULL, inner_want);
	check(0755, 0744, 0666, NULL, inner_want);
	check(0711, 0711, 0666, NULL, "");
	/* From a root of its own, as processes in containers have one. */
	check(0755, 0700, 0666, folder, seen_want);
	check(0711, 0711, 0666, folder, "");
}

Test(denied, a_socket_that_may_not_be_written_to_is_named)
{
	char want[80];

	if (geteuid() != 0)
		cr_skip_test("not root");
	snprintf(want, sizeof(want), "user %u may not write to the socket; let it (chmod o+w)",
		 NOBODY);
	check(0755, 0755, 0644, NULL, want);
	check(0755, 0755, 0644, folder, want);
	check(0755, 0755, 0622, NULL, "");
}

Test(denied, what_is_not_there_is_no_refusal)
{
	char text[FLAT_DENIED_MAX] = "";

	cr_expect_not(flat_denied(AT_FDCWD, "/nowhere/at/all", text));
	cr_expect_str_eq(text, "");
}
