#include "host/openfds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/* What one getdents64() wrote. True: `each` has seen enough. */
static bool each_of(const char *buf, long len, int skip, int dir, flat_open_fn *each, void *arg)
{
	for (long at = 0; at < len;) {
		const struct dirent64 *d = (const void *)(buf + at);
		at += d->d_reclen;
		if (d->d_name[0] == '.')
			continue;
		int fd = (int)strtoul(d->d_name, NULL, 10);
		if (fd != skip && each(fd, dir, d->d_name, arg))
			return true;
	}
	return false;
}

int flat_open_each(int pid, int from, flat_open_fn *each, void *arg)
{
	_Alignas(struct dirent64) char buf[2048];
	char path[32] = "/proc/self/fd";
	bool enough = false;
	if (pid != 0)
		(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	int dir = (int)FLAT_SYS4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return dir;
	/* fs/proc/fd.c: the position behind "." and ".." is the number. */
	if (from > 0)
		(void)FLAT_SYS3(SYS_lseek, dir, from + 2L, SEEK_SET);
	while (!enough) {
		long len = FLAT_SYS3(SYS_getdents64, dir, buf, sizeof(buf));
		if (len <= 0)
			break;
		enough = each_of(buf, len, pid == 0 ? dir : -1, dir, each, arg);
	}
	flat_sys_close(dir);
	return 0;
}

/* "tfd:       5 events:       19 data: ...". Whether the line is this number's. */
static bool watched_line(const char *line, int fd, uint32_t *events)
{
	char *end;
	if (strncmp(line, "tfd:", 4) != 0 || strtol(line + 4, &end, 10) != fd ||
	    strncmp(end, " events:", 8) != 0)
		return false;
	*events = (uint32_t)strtoul(end + 8, NULL, 16);
	return true;
}

int flat_open_watched(int epfd, int fd, uint32_t *events)
{
	char path[40];
	char buf[1024];
	size_t have = 0;
	bool found = false;
	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfd);
	int info = (int)FLAT_SYS4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (info < 0)
		return info;
	while (!found) {
		ssize_t n = flat_sys_read(info, buf + have, sizeof(buf) - have);
		if (n <= 0)
			break;
		have += (size_t)n;
		char *line = buf;
		char *end;
		while (!found && (end = memchr(line, '\n', have - (size_t)(line - buf)))) {
			*end = '\0';
			found = watched_line(line, fd, events);
			line = end + 1;
		}
		/* Of a line that is longer than any the rest is none. */
		have = line == buf && have == sizeof(buf) ? 0 : have - (size_t)(line - buf);
		memmove(buf, line, have);
	}
	flat_sys_close(info);
	return found ? 0 : -ENOENT;
}
