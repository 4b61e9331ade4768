/* Which workload a process belongs to, from what the kernel says about it. */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* Longest cgroup path we look at; the kernel's own limit is PATH_MAX. A longer one matches nothing.
 */
#define CGROUP_MAX 4096

/* Whether a path has a component "..": a process outside of our cgroup namespace's root, whose
 * place cannot be told. */
static bool has_dotdot(const char *path)
{
	const char *p = path;

	while ((p = strstr(p, ".."))) {
		if ((p == path || p[-1] == '/') && (p[2] == '\0' || p[2] == '/'))
			return true;
		p += 2;
	}
	return false;
}

/* Whether `path` is the selector's cgroup or lies below it. `path` is changed and restored. */
static bool cgroup_match_path(const struct flat_selector *selector, char *path)
{
	size_t want = strlen(selector->cgroup);
	char *end;

	if (!selector->cgroup_glob) {
		if (want == 1) /* "/" */
			return path[0] == '/';
		return strncmp(path, selector->cgroup, want) == 0 &&
		       (path[want] == '\0' || path[want] == '/');
	}
	if (fnmatch(selector->cgroup, path, FNM_PATHNAME | FNM_NOESCAPE) == 0)
		return true;
	for (end = strrchr(path, '/'); end && end > path; end = strrchr(path, '/')) {
		*end = '\0';
		if (fnmatch(selector->cgroup, path, FNM_PATHNAME | FNM_NOESCAPE) == 0)
			return true;
	}
	return false;
}

/*
 * The lines are "hierarchy:controllers:path" (proc_pid_cgroup(5), cgroups(7)). Hierarchy 0 is
 * cgroup v2; it alone is looked at where there is one with a place in it, for it is where programs
 * are put; on a host with v1 only, any hierarchy may match. Moving a process needs write access to
 * the target, so each is the kernel's word.
 */
static bool cgroup_match(const struct flat_selector *selector, const char *lines)
{
	const char *line, *end;
	bool v2 = false;

	for (line = lines; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		if (strncmp(line, "0::/", 4) == 0 && end > line + 4)
			v2 = true;
	}
	for (line = lines; *line; line = *end ? end + 1 : end) {
		const char *path;
		char buf[CGROUP_MAX];

		end = strchrnul(line, '\n');
		if (v2 && strncmp(line, "0::", 3) != 0)
			continue;
		path = memchr(line, ':', (size_t)(end - line));
		path = path ? memchr(path + 1, ':', (size_t)(end - path - 1)) : NULL;
		if (!path || (size_t)(end - path - 1) >= sizeof(buf))
			continue;
		memcpy(buf, path + 1, (size_t)(end - path - 1));
		buf[end - path - 1] = '\0';
		if (buf[0] == '/' && !has_dotdot(buf) && cgroup_match_path(selector, buf))
			return true;
	}
	return false;
}

bool flat_selector_match(const struct flat_selector *selector, const struct flat_attest *attest)
{
	unsigned has = selector->has;

	if (!has)
		return false;
	if ((has & FLAT_SELECTOR_UID) && selector->uid != attest->uid)
		return false;
	if ((has & FLAT_SELECTOR_GID) && selector->gid != attest->gid)
		return false;
	if ((has & FLAT_SELECTOR_EXECUTABLE) &&
	    (!attest->exe || strcmp(selector->executable, attest->exe) != 0))
		return false;
	if ((has & FLAT_SELECTOR_EXECUTABLE_OWNER) &&
	    (!attest->exe_owner_known || selector->executable_owner != attest->exe_owner))
		return false;
	if ((has & FLAT_SELECTOR_CGROUP) &&
	    (!attest->cgroup_paths || !cgroup_match(selector, attest->cgroup_paths)))
		return false;
	return true;
}

/* Whether `a` is more specific than `b`. */
static bool more_specific(const struct flat_selector *a, const struct flat_selector *b)
{
	int count_a = __builtin_popcount(a->has), count_b = __builtin_popcount(b->has);

	if (count_a != count_b)
		return count_a > count_b;
	if (!(a->has & b->has & FLAT_SELECTOR_CGROUP))
		return false;
	return strlen(a->cgroup) > strlen(b->cgroup);
}

const struct flat_workload *flat_mesh_workload(const struct flat_mesh *mesh,
					       const struct flat_attest *attest)
{
	const struct flat_workload *found = NULL;
	const struct flat_selector *best = NULL;
	uint32_t i, j;

	for (i = 0; i < mesh->workloads.n; i++) {
		const struct flat_workload *workload = mesh->workloads.v[i];

		for (j = 0; j < workload->n_selectors; j++) {
			const struct flat_selector *selector = &workload->selectors[j];

			if (best && !more_specific(selector, best))
				continue;
			if (!flat_selector_match(selector, attest))
				continue;
			best = selector;
			found = workload;
		}
	}
	return found;
}

const struct flat_workload *flat_mesh_workload_by_name(const struct flat_mesh *mesh,
						       const char *namespace, const char *name)
{
	char id[512];
	int n =
	    snprintf(id, sizeof(id), "%s/%s", namespace ? namespace : FLAT_NAMESPACE_DEFAULT, name);

	if (n < 0 || (size_t)n >= sizeof(id))
		return NULL;
	return flat_map_get_str(&mesh->workload_ids, id);
}
