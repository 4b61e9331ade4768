/* Where hierarchies of cgroups are mounted. */
#ifndef FLAT_CONTROL_CGROUP_H
#define FLAT_CONTROL_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

/* Hierarchies looked at: Linux has 14 controllers, each may have one of its own. */
#define FLAT_CGROUP_MOUNTS_MAX 32

/* Marks a cgroup that flat-run made, and may remove: an administrator's own may be empty and configured. */
#define FLAT_CGROUP_MARK "trusted.flat-run"

struct flat_cgroup_mount {
	char mount[PATH_MAX];
	char root[PATH_MAX]; /* the cgroup that is mounted there; "": the first */
	int rank; /* lower is tried first where any would do: v2, then those without controllers */
	bool v2;
};

/** Fills v (FLAT_CGROUP_MOUNTS_MAX), by rank. How many; 0 also where /proc cannot be read. */
size_t flat_cgroup_mounts(struct flat_cgroup_mount *v);

/** Where cgroup v2 is mounted. 0, -ENOENT (nowhere), -ENOMEM. */
FLAT_MUST_CHECK int flat_cgroup_v2(struct flat_cgroup_mount *mount);

/** What is left of a cgroup's path, as in /proc/PID/cgroup, below the mount; NULL: it is not in there. */
const char *flat_cgroup_below(const struct flat_cgroup_mount *mount, const char *path);

/**
 * Opens the directory of the cgroup `path` ("/a/b", below what is mounted at `mount`); what is missing of it is made, with `mark`
 * marked as flat-run's. The descriptor, or a negative errno.
 */
FLAT_MUST_CHECK int flat_cgroup_open(const char *mount, const char *path, bool mark);

#endif
