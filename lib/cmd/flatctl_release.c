/* flatctl release: takes libflat's programs off cgroups that a flatd confined, and that none confines any more. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/flatctl.h"
#include "control/cgroup.h"
#include "offload/capture_bpf.h"
#include "offload/capture_in_bpf.h"

static int release(const struct flat_cgroup_mount *mount, const char *path)
{
	char folder[2 * PATH_MAX];
	const char *below = flat_cgroup_below(mount, path);
	int n = -ENOENT;
	snprintf(folder, sizeof(folder), "%s%s", mount->mount, below ? below : "");
	int dir = below ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dir >= 0) {
		n = flat_capture_bpf_detach(dir);
		int in = n < 0 ? n : flat_in_bpf_detach(dir);
		n = in < 0 ? in : n + in;
		close(dir);
	}
	if (n < 0) {
		fprintf(stderr, "flatctl: cgroup %s: %s%s\n", path, strerror(-n),
			n == -EPERM ? "; CAP_BPF and CAP_NET_ADMIN are needed" : "");
		return CTL_FAILED;
	}
	printf(n > 0 ? "%s is confined no more\n" : "%s was not confined\n", path);
	return CTL_OK;
}

int ctl_release(char **paths, size_t n)
{
	struct flat_cgroup_mount mount;
	int worst = CTL_OK;
	int err = flat_cgroup_v2(&mount);
	if (err != 0) {
		fprintf(stderr, "flatctl: cgroup v2 is not mounted: %s\n", strerror(-err));
		return CTL_FAILED;
	}
	for (size_t i = 0; i < n; i++) {
		int ret = release(&mount, paths[i]);
		worst = ret != CTL_OK ? ret : worst;
	}
	return worst;
}
