/* Where hierarchies of cgroups are mounted, and directories of cgroups: proc(5), cgroups(7). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/cgroup.h"
#include "support_folder.h"

TestSuite(cgroup, .init = folder_make, .fini = folder_remove);

Test(cgroup, a_path_below_the_mount_is_what_is_left_of_it)
{
	static const struct {
		const char *root, *path, *want;
	} v[] = {
	    {"", "/a/b", "/a/b"},  {"", "/", "/"},	 {"/a", "/a/b", "/b"}, {"/a", "/a/", "/"},
	    {"/a", "/ab/c", NULL}, {"/a/b", "/a", NULL}, {"/a", "/a", NULL},   {"/a", "/b/a", NULL},
	};
	static struct flat_cgroup_mount m;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		snprintf(m.root, sizeof(m.root), "%s", v[i].root);
		const char *below = flat_cgroup_below(&m, v[i].path);

		cr_expect_eq(below != NULL, v[i].want != NULL, "%s in %s", v[i].path, v[i].root);
		if (below && v[i].want)
			cr_expect_str_eq(below, v[i].want);
	}
}

Test(cgroup, what_is_missing_is_made_and_what_is_there_is_opened)
{
	struct stat made, again;
	int fd = flat_cgroup_open(folder, "/a/b", false);

	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &made), 0);
	close(fd);
	cr_assert_eq(stat(path_of("a/b"), &again), 0);
	cr_expect_eq(made.st_ino, again.st_ino);
	cr_expect_eq(made.st_mode & 07777, 0755);
	/* Marking needs a privilege; without it there is a cgroup all the same. */
	fd = flat_cgroup_open(folder, "/a/b/c", true);
	cr_expect_geq(fd, 0);
	close(fd);
	fd = flat_cgroup_open(folder, "/a/b", true);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &again), 0);
	cr_expect_eq(made.st_ino, again.st_ino);
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

Test(cgroup, links_and_files_are_no_cgroups)
{
	cr_assert_eq(symlink("/tmp", path_of("link")), 0);
	folder_put("file", "");
	cr_expect_lt(flat_cgroup_open(folder, "/link", false), 0);
	cr_expect_lt(flat_cgroup_open(folder, "/link/a", false), 0);
	cr_expect_eq(flat_cgroup_open(folder, "/file", false), -ENOTDIR);
	cr_expect_eq(flat_cgroup_open(path_of("nothing"), "/a", false), -ENOENT);
}

Test(cgroup, mounts_are_found_whatever_their_names_and_v2_is_first)
{
	struct flat_cgroup_mount *v = calloc(FLAT_CGROUP_MOUNTS_MAX, sizeof(*v));
	struct flat_cgroup_mount first;
	char place[600];
	bool found = false;

	cr_assert_not_null(v);
	snprintf(place, sizeof(place), "%s", path_of("a b\\040\tc"));
	cr_assert_eq(mkdir(place, 0755), 0);
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", place, "cgroup2", 0, NULL) != 0) {
		free(v);
		cr_skip_test("no mounts of one's own");
	}
	size_t n = flat_cgroup_mounts(v);

	for (size_t i = 0; i < n; i++) {
		found |= v[i].v2 && strcmp(v[i].mount, place) == 0 && v[i].root[0] == 0;
		cr_expect(i == 0 || v[i].rank >= v[i - 1].rank);
	}
	cr_expect(found);
	cr_assert_eq(flat_cgroup_v2(&first), 0);
	cr_expect(first.v2);
	cr_assert_eq(umount(place), 0);
	free(v);
}
