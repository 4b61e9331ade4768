/* Hierarchies of cgroups, as /proc/self/mountinfo has them (proc(5), cgroups(7)). */
#include "control/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

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
static bool parse_mount(char *line, struct flat_cgroup_mount *h)
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
	const struct flat_cgroup_mount *ha = a;
	const struct flat_cgroup_mount *hb = b;

	return ha->rank - hb->rank;
}

size_t flat_cgroup_mounts(struct flat_cgroup_mount *v)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	size_t n = 0;

	if (!f)
		return 0;
	while (n < FLAT_CGROUP_MOUNTS_MAX && getline(&line, &cap, f) > 0) {
		if (parse_mount(line, &v[n]))
			n++;
	}
	free(line);
	fclose(f);
	qsort(v, n, sizeof(*v), by_rank);
	return n;
}

int flat_cgroup_v2(struct flat_cgroup_mount *mount)
{
	struct flat_cgroup_mount *v = calloc(FLAT_CGROUP_MOUNTS_MAX, sizeof(*v));
	size_t n = v ? flat_cgroup_mounts(v) : 0;
	int err = !v ? -ENOMEM : n > 0 && v[0].v2 ? 0 : -ENOENT;

	if (err == 0)
		*mount = v[0];
	free(v);
	return err;
}

const char *flat_cgroup_below(const struct flat_cgroup_mount *mount, const char *path)
{
	size_t len = strlen(mount->root);

	return strncmp(path, mount->root, len) == 0 && path[len] == '/' ? path + len : NULL;
}

/* Opens the cgroup `name` below `parent`, made if it is not there. A negative errno on failure. */
static int open_below(int parent, const char *name, bool mark)
{
	bool made = mkdirat(parent, name, 0755) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Without the privilege the mark is missing, and the cgroup stays: harmless. */
	if (made && mark)
		(void)fsetxattr(fd, FLAT_CGROUP_MARK, "1", 1, 0);
	return fd;
}

int flat_cgroup_open(const char *mount, const char *path, bool mark)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *copy = strdup(path);
	char *save = NULL;

	if (fd < 0 || !copy) {
		int err = fd < 0 ? -errno : -ENOMEM;

		if (fd >= 0)
			close(fd);
		free(copy);
		return err;
	}
	for (char *name = strtok_r(copy, "/", &save); name && fd >= 0;
	     name = strtok_r(NULL, "/", &save)) {
		int next = open_below(fd, name, mark);

		close(fd);
		fd = next;
	}
	free(copy);
	return fd;
}
