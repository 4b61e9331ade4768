/*
 * A workload's cgroup: flat/NAMESPACE/NAME in a mounted hierarchy, cgroup v2 or v1, made on demand. Only
 * the tree of names matters, no controller is used; so hierarchies without controllers come first. A
 * command replaces this process and nobody is left to remove the cgroup at its end: each run removes
 * empty ones that runs before it made.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cmd/flat_run.h"
#include "control/cgroup.h"

/* Another run may remove the new, still empty cgroup before this one is in it. */
#define TRIES 16
/* Cgroups looked at when cleaning up. */
#define CLEAN_MAX 4096

static bool is_name(const char *text, size_t len, bool dots)
{
	if (len == 0 || len > RUN_NAME_MAX || text[0] == '-' || text[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';

		/* A dot stands between two other characters, so ".." is no name. */
		if (c == '.' && dots && i > 0 && i + 1 < len && text[i + 1] != '.')
			ok = true;
		if (!ok)
			return false;
	}
	return true;
}

int run_workload_parse(const char *text, struct run_workload *w)
{
	const char *dot = strrchr(text, '.');
	size_t len = dot ? (size_t)(dot - text) : strlen(text);
	const char *namespace = dot ? dot + 1 : "default";

	if (!is_name(text, len, true) || !is_name(namespace, strlen(namespace), false))
		return -EINVAL;
	snprintf(w->name, sizeof(w->name), "%.*s", (int)len, text);
	snprintf(w->namespace, sizeof(w->namespace), "%s", namespace);
	return 0;
}

/*
 * Whether this process has a place of its own in cgroup v2. Then flatd goes by that one alone
 * (lib/mesh/workload.c), and a v1 hierarchy would attest nothing.
 */
static bool placed_in_v2(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char *line = NULL;
	size_t cap = 0;
	bool placed = false;

	if (!f)
		return false;
	while (getline(&line, &cap, f) > 0) {
		if (strncmp(line, "0::/", 4) == 0 && line[4] != '\n')
			placed = true;
	}
	free(line);
	fclose(f);
	return placed;
}

/* Opens mount/flat/NAMESPACE/NAME. */
static int open_workload(const struct flat_cgroup_mount *h, const struct run_workload *w)
{
	char path[sizeof("/flat//") + sizeof(w->namespace) + sizeof(w->name)];

	snprintf(path, sizeof(path), "/flat/%s/%s", w->namespace, w->name);
	return flat_cgroup_open(h->mount, path, true);
}

static int enter_once(const struct flat_cgroup_mount *h, const struct run_workload *w)
{
	int dir = open_workload(h, w);
	int err = 0;
	int fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0\n", 2) != 2)
		err = -errno;
	if (fd >= 0)
		close(fd);
	close(dir);
	return err;
}

static int enter(const struct flat_cgroup_mount *h, const struct run_workload *w)
{
	int err = -ENOENT;

	for (int i = 0; i < TRIES && (err == -ENOENT || err == -ENODEV); i++)
		err = enter_once(h, w);
	return err;
}

/* Removes the empty cgroups of ours below `dir`, two levels deep, and `dir` itself never. */
static void clean(int dir, int depth, unsigned *left)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;

	if (!d) {
		close(dir);
		return;
	}
	while (*left > 0 && (e = readdir(d)) != NULL) {
		char mark;
		int fd;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		(*left)--;
		fd = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		bool ours = fgetxattr(fd, FLAT_CGROUP_MARK, &mark, 1) == 1;
		if (depth > 0)
			clean(fd, depth - 1, left);
		else
			close(fd);
		/* Refused by the kernel while a process or another cgroup is in it. */
		if (ours)
			(void)unlinkat(dir, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static void clean_hierarchy(const struct flat_cgroup_mount *h)
{
	char path[PATH_MAX + 8];
	unsigned left = CLEAN_MAX;
	int fd;

	snprintf(path, sizeof(path), "%s/flat", h->mount);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		clean(fd, 1, &left);
}

static void say_why_not(const struct run_workload *w, const struct flat_cgroup_mount *h, int err)
{
	if (!h) {
		run_say("workload %s.%s: no cgroup hierarchy is mounted that could name it",
			w->name, w->namespace);
	} else {
		run_say("workload %s.%s: cannot enter the cgroup %s/flat/%s/%s: %s", w->name,
			w->namespace, h->mount, w->namespace, w->name, strerror(-err));
	}
	run_say(
	    "the command runs all the same, as what else the kernel says of it: give the Workload "
	    "a selector such as `uid: %u`%s",
	    (unsigned)geteuid(),
	    geteuid() == 0 ? "" : ", or start flat-run as root and let it run `setpriv` or `su`");
}

int run_cgroup_enter(const struct run_workload *w)
{
	struct flat_cgroup_mount *v = calloc(FLAT_CGROUP_MOUNTS_MAX, sizeof(*v));
	const struct flat_cgroup_mount *first = NULL; /* the one whose error is told */
	size_t n = v ? flat_cgroup_mounts(v) : 0;
	bool v2_only = placed_in_v2();
	int first_err = -ENOENT;
	int err = -ENOENT;

	for (size_t i = 0; i < n && err != 0; i++) {
		if (v2_only && !v[i].v2)
			continue;
		err = enter(&v[i], w);
		if (!first) {
			first = &v[i];
			first_err = err;
		}
		if (err != 0)
			continue;
		clean_hierarchy(&v[i]);
		if (v[i].root[0])
			run_say(
			    "the kernel calls the workload's cgroup %s/flat/%s/%s: its Workload's "
			    "selector must say so",
			    v[i].root, w->namespace, w->name);
	}
	if (err != 0)
		say_why_not(w, first, first_err);
	free(v);
	return err;
}
