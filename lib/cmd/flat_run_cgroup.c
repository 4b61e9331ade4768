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

/* Marks a cgroup that flat-run made, and may remove: an administrator's own may be empty and configured. */
#define MARK "trusted.flat-run"
/* Another run may remove the new, still empty cgroup before this one is in it. */
#define TRIES 16
/* Hierarchies looked at: Linux has 14 controllers, each may have one of its own. */
#define HIERARCHIES_MAX 32
/* Cgroups looked at when cleaning up. */
#define CLEAN_MAX 4096

struct hierarchy {
	char mount[PATH_MAX];
	char root[PATH_MAX]; /* the cgroup that is mounted there, "/" in general */
	int rank;	     /* lower is tried first */
	bool v2;
};

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

/* mountinfo writes blank, tab, newline and backslash as \ooo (proc(5)). */
static void unescape(char *text)
{
	char *to = text;

	for (const char *p = text; *p; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*to++ = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
}

static bool has_option(const char *options, const char *want)
{
	size_t len = strlen(want);

	for (const char *p = options; *p; p += strcspn(p, ","), p += *p == ',') {
		if (strncmp(p, want, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return false;
}

/* Order of choice among v1 hierarchies; -1: unusable. */
static int rank_v1(const char *options)
{
	if (has_option(options, "name=systemd"))
		return 1;
	if (strstr(options, "name="))
		return 2;
	/* A new cpuset takes no process before it was given CPUs. */
	if (has_option(options, "cpuset"))
		return -1;
	if (has_option(options, "pids"))
		return 3;
	return has_option(options, "freezer") ? 4 : 5;
}

/* One line of /proc/self/mountinfo. False: no hierarchy of cgroups. */
static bool parse_mount(char *line, struct hierarchy *h)
{
	char *save = NULL;
	char *field[6] = {0};
	char *rest = strstr(line, " - ");
	char *type, *options;

	if (!rest)
		return false;
	*rest = '\0';
	for (int i = 0; i < 6; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return false;
	}
	type = strtok_r(rest + 3, " ", &save);
	(void)strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " \n", &save);
	if (!type || !options)
		return false;
	h->v2 = strcmp(type, "cgroup2") == 0;
	h->rank = h->v2 ? 0 : strcmp(type, "cgroup") == 0 ? rank_v1(options) : -1;
	if (h->rank < 0)
		return false;
	unescape(field[3]);
	unescape(field[4]);
	snprintf(h->root, sizeof(h->root), "%s", strcmp(field[3], "/") == 0 ? "" : field[3]);
	snprintf(h->mount, sizeof(h->mount), "%s", field[4]);
	return true;
}

static int by_rank(const void *a, const void *b)
{
	const struct hierarchy *ha = a;
	const struct hierarchy *hb = b;

	return ha->rank - hb->rank;
}

static size_t find_hierarchies(struct hierarchy *v)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	size_t n = 0;

	if (!f)
		return 0;
	while (n < HIERARCHIES_MAX && getline(&line, &cap, f) > 0) {
		if (parse_mount(line, &v[n]))
			n++;
	}
	free(line);
	fclose(f);
	qsort(v, n, sizeof(*v), by_rank);
	return n;
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

/* Opens the cgroup `name` below `parent`, made if it is not there. A negative errno on failure. */
static int open_below(int parent, const char *name)
{
	bool made = mkdirat(parent, name, 0755) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Without the privilege the mark is missing, and the cgroup stays: harmless. */
	if (made)
		(void)fsetxattr(fd, MARK, "1", 1, 0);
	return fd;
}

/* Opens mount/flat/NAMESPACE/NAME. */
static int open_workload(const struct hierarchy *h, const struct run_workload *w)
{
	const char *const part[] = {"flat", w->namespace, w->name};
	int fd = open(h->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(part); i++) {
		int next = open_below(fd, part[i]);

		close(fd);
		if (next < 0)
			return next;
		fd = next;
	}
	return fd;
}

static int enter_once(const struct hierarchy *h, const struct run_workload *w)
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

static int enter(const struct hierarchy *h, const struct run_workload *w)
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
		bool ours = fgetxattr(fd, MARK, &mark, 1) == 1;
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

static void clean_hierarchy(const struct hierarchy *h)
{
	char path[PATH_MAX + 8];
	unsigned left = CLEAN_MAX;
	int fd;

	snprintf(path, sizeof(path), "%s/flat", h->mount);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		clean(fd, 1, &left);
}

static void say_why_not(const struct run_workload *w, const struct hierarchy *h, int err)
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
	struct hierarchy *v = calloc(HIERARCHIES_MAX, sizeof(*v));
	const struct hierarchy *first = NULL; /* the one whose error is told */
	size_t n = v ? find_hierarchies(v) : 0;
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
