/* Changes of configuration files are noticed, once each, whatever way they are made. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/watch.h"
#include "support_folder.h"

/* Longest wait for a change that must come; a loaded machine may be slow. */
#define COMES_MS 5000
/* Time in which a change that must not come would have come. */
#define NOTHING_MS (FLAT_WATCH_QUIET_MS * 4)

static struct flat_watch *watch;

static void setup(void)
{
	folder_make();
	cr_assert_eq(chdir(folder), 0);
}

static void teardown(void)
{

	flat_watch_close(watch);
	watch = NULL;
	folder_remove();
}

/* Waits as an event loop does. True when a change is reported within `ms`. */
static bool changed_within(int ms)
{
	struct pollfd fd = {.fd = flat_watch_fd(watch), .events = POLLIN};
	int waited;

	/* Each poll ends by an event or by the end of the time; events that do not matter may come. */
	for (waited = 0; waited < ms; waited += 10) {
		int n = poll(&fd, 1, 10);

		cr_assert_geq(n, 0);
		if (n > 0 && flat_watch_changed(watch))
			return true;
	}
	return false;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void watch_one(const char *path)
{
	const char *paths[] = {path};

	cr_assert_eq(flat_watch_open(paths, 1, &watch), 0);
}

TestSuite(watch, .init = setup, .fini = teardown, .timeout = 120);

Test(watch, nothing_happens_nothing_is_said)
{
	put("a.yaml", "x");
	watch_one("a.yaml");
	cr_expect_not(changed_within(NOTHING_MS));
}

Test(watch, file_is_written_in_place)
{
	put("a.yaml", "x");
	watch_one("a.yaml");
	put("a.yaml", "y");
	cr_expect(changed_within(COMES_MS));
	cr_expect_not(changed_within(NOTHING_MS));
	put("a.yaml", "z");
	cr_expect(changed_within(COMES_MS));
}

Test(watch, file_is_replaced_by_a_rename_again_and_again)
{
	int i;

	put("a.yaml", "x");
	watch_one("a.yaml");
	for (i = 0; i < 3; i++) {
		put(".a.yaml.swp", "y");
		cr_assert_eq(rename(".a.yaml.swp", "a.yaml"), 0);
		cr_expect(changed_within(COMES_MS), "turn %d", i);
		cr_expect_not(changed_within(NOTHING_MS));
	}
}

Test(watch, file_goes_and_comes_back)
{
	put("a.yaml", "x");
	watch_one("a.yaml");
	cr_assert_eq(unlink("a.yaml"), 0);
	cr_expect(changed_within(COMES_MS));
	put("a.yaml", "y");
	cr_expect(changed_within(COMES_MS));
	put("a.yaml", "z");
	cr_expect(changed_within(COMES_MS));
}

Test(watch, file_does_not_exist_at_first)
{
	watch_one("a.yaml");
	put("a.yaml", "x");
	cr_expect(changed_within(COMES_MS));
}

Test(watch, neighbours_of_a_file_do_not_matter)
{
	put("a.yaml", "x");
	watch_one("a.yaml");
	put("b.yaml", "x");
	cr_expect_not(changed_within(NOTHING_MS));
}

Test(watch, folder_with_files_that_come_and_go)
{
	cr_assert_eq(mkdir("d", 0700), 0);
	watch_one("d/");
	put("d/a.yaml", "x");
	cr_expect(changed_within(COMES_MS));
	put("d/a.yaml", "y");
	cr_expect(changed_within(COMES_MS));
	cr_assert_eq(unlink("d/a.yaml"), 0);
	cr_expect(changed_within(COMES_MS));
	put("d/.a.yaml.swp", "x");
	put("d/notes.txt", "x");
	cr_expect_not(changed_within(NOTHING_MS));
}

Test(watch, folder_is_replaced_as_a_whole)
{
	cr_assert_eq(mkdir("d", 0700), 0);
	watch_one("d");
	cr_assert_eq(mkdir("new", 0700), 0);
	put("new/a.yaml", "x");
	cr_assert_eq(rename("d", "old"), 0);
	cr_assert_eq(rename("new", "d"), 0);
	cr_expect(changed_within(COMES_MS));
	put("d/a.yaml", "y");
	cr_expect(changed_within(COMES_MS));
}

Test(watch, kubernetes_swaps_the_data_link)
{
	cr_assert_eq(mkdir("d", 0700), 0);
	cr_assert_eq(mkdir("d/..1", 0700), 0);
	cr_assert_eq(mkdir("d/..2", 0700), 0);
	put("d/..1/a.yaml", "x");
	put("d/..2/a.yaml", "y");
	cr_assert_eq(symlink("..1", "d/..data"), 0);
	cr_assert_eq(symlink("..data/a.yaml", "d/a.yaml"), 0);
	watch_one("d");
	cr_assert_eq(symlink("..2", "d/..data_tmp"), 0);
	cr_assert_eq(rename("d/..data_tmp", "d/..data"), 0);
	cr_expect(changed_within(COMES_MS));
	flat_watch_close(watch);
	watch_one("d/a.yaml");
	cr_assert_eq(symlink("..1", "d/..data_tmp"), 0);
	cr_assert_eq(rename("d/..data_tmp", "d/..data"), 0);
	cr_expect(changed_within(COMES_MS));
}

/* Whether this is told by name within COMES_MS, and nothing else is. */
static bool names(const char *path)
{
	struct pollfd fd = {.fd = flat_watch_fd(watch), .events = POLLIN};
	char *v[FLAT_WATCH_NAMES_MAX];
	size_t n = 0;
	bool same;

	for (int waited = 0; waited < COMES_MS && n == 0; waited += 10) {
		cr_assert_geq(poll(&fd, 1, 10), 0);
		cr_expect_not(flat_watch_changed(watch));
		n = flat_watch_take(watch, v);
	}
	same = n == 1 && strcmp(v[0], path) == 0;
	while (n > 0)
		free(v[--n]);
	return same;
}

static void swap(const char *to)
{
	cr_assert_eq(symlink(to, "d/..data_tmp"), 0);
	cr_assert_eq(rename("d/..data_tmp", "d/..data"), 0);
}

Test(watch, the_swapped_volume_is_named)
{
	cr_assert_eq(mkdir("d", 0700), 0);
	cr_assert_eq(mkdir("d/..1", 0700), 0);
	cr_assert_eq(mkdir("d/..2", 0700), 0);
	put("d/..1/a.yaml", "x");
	put("d/..2/a.yaml", "y");
	cr_assert_eq(symlink("..1", "d/..data"), 0);
	cr_assert_eq(symlink("..data/a.yaml", "d/a.yaml"), 0);
	watch_one("d");
	flat_watch_name_files(watch);
	swap("..2");
	cr_expect(names("d"));
	swap("..1");
	cr_expect(names("d"));
	/* What comes with it may be anything. */
	cr_assert_eq(symlink("..data/b.yaml", "d/b.yaml"), 0);
	swap("..2");
	cr_expect(changed_within(COMES_MS));
	flat_watch_close(watch);
	watch_one("d/a.yaml");
	flat_watch_name_files(watch);
	swap("..1");
	cr_expect(names("d/a.yaml"));
	/* It is the file behind the link that is watched now. */
	put("d/..1/a.yaml", "z");
	cr_expect(changed_within(COMES_MS));
	swap("..2");
	cr_expect(names("d/a.yaml"));
}

Test(watch, a_folder_in_a_swapped_volume_is_another_one)
{
	cr_assert_eq(mkdir("d", 0700), 0);
	cr_assert_eq(mkdir("d/..1", 0700), 0);
	cr_assert_eq(mkdir("d/..1/in", 0700), 0);
	cr_assert_eq(mkdir("d/..2", 0700), 0);
	cr_assert_eq(mkdir("d/..2/in", 0700), 0);
	cr_assert_eq(symlink("..1", "d/..data"), 0);
	cr_assert_eq(symlink("..data/in", "d/in"), 0);
	watch_one("d/in");
	flat_watch_name_files(watch);
	swap("..2");
	cr_expect(changed_within(COMES_MS));
	put("d/..2/in/a.yaml", "x");
	/* It comes, which is no name. */
	cr_expect(changed_within(COMES_MS));
}

Test(watch, a_burst_is_one_change)
{
	int i;

	cr_assert_eq(mkdir("d", 0700), 0);
	watch_one("d");
	for (i = 0; i < 50; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "d/%d.yaml", i);
		put(name, "x");
	}
	cr_expect(changed_within(COMES_MS));
	cr_expect_not(changed_within(NOTHING_MS));
}

Test(watch, errors)
{
	const char *missing[] = {"no/such/folder.yaml"}, *empty[] = {""};

	cr_expect_eq(flat_watch_open(missing, 1, &watch), -ENOENT);
	cr_expect_eq(flat_watch_open(empty, 1, &watch), -ENOENT);
	cr_expect_null(watch);
	flat_watch_close(NULL);
}

/* Waits for names; how many, or -1 where a change is reported instead. */
static int names_within(int ms, char **names)
{
	struct pollfd fd = {.fd = flat_watch_fd(watch), .events = POLLIN};

	for (int waited = 0; waited < ms; waited += 10) {
		size_t n;

		if (poll(&fd, 1, 10) > 0 && flat_watch_changed(watch))
			return -1;
		n = flat_watch_take(watch, names);
		if (n > 0)
			return (int)n;
	}
	return 0;
}

Test(watch, a_file_of_a_folder_is_named_at_once)
{
	char *names[FLAT_WATCH_NAMES_MAX];

	cr_assert_eq(mkdir("d", 0700), 0);
	put("d/a.yaml", "a");
	watch_one("d");
	flat_watch_name_files(watch);
	put("d/new", "b");
	cr_assert_eq(rename("d/new", "d/a.yaml"), 0);
	cr_assert_eq(names_within(COMES_MS, names), 1);
	cr_expect_str_eq(names[0], "d/a.yaml");
	free(names[0]);
	cr_expect_not(changed_within(NOTHING_MS));
	put("d/a.yaml", "in place");
	cr_assert_eq(names_within(COMES_MS, names), 1);
	free(names[0]);
	cr_expect_not(changed_within(NOTHING_MS));
	flat_watch_touch(watch);
	cr_expect(changed_within(COMES_MS));
}

Test(watch, where_files_come_and_go_nothing_is_named)
{
	char *names[FLAT_WATCH_NAMES_MAX];

	cr_assert_eq(mkdir("d", 0700), 0);
	put("d/a.yaml", "a");
	watch_one("d");
	flat_watch_name_files(watch);
	put("d/b.yaml", "it is made, then written");
	cr_expect_eq(names_within(COMES_MS, names), -1);
	put("d/a.yaml", "c");
	cr_assert_eq(unlink("d/b.yaml"), 0);
	put("d/a.yaml", "d");
	cr_expect_eq(names_within(COMES_MS, names), -1);
	cr_expect_eq(names_within(NOTHING_MS, names), 0, "they were told with it");
}

Test(watch, too_many_names_are_a_change)
{
	char *names[FLAT_WATCH_NAMES_MAX], name[32];

	cr_assert_eq(mkdir("d", 0700), 0);
	for (unsigned i = 0; i <= FLAT_WATCH_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "d/%u.yaml", i);
		put(name, "a");
	}
	watch_one("d");
	flat_watch_name_files(watch);
	for (unsigned i = 0; i <= FLAT_WATCH_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "d/%u.yaml", i);
		put(name, "b");
	}
	cr_expect_eq(names_within(COMES_MS, names), -1);
}
