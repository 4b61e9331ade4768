/* Finding libflat-preload.so, LD_PRELOAD, and commands that it cannot reach. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "cmd/flat_run.h"

#define PRELOAD "libflat-preload.so"

/* Where it may lie, seen from the folder of flat-run: the build tree, an installation that was moved. */
static const char *const places[] = {"", "/../lib", "/../lib64",
#ifdef __x86_64__
				     "/../lib/x86_64-linux-gnu"
#elif defined(__aarch64__)
				     "/../lib/aarch64-linux-gnu"
#endif
};

/* The folder of this program, without final slash. */
static int own_folder(char *buf, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", buf, size - 1);
	char *slash;

	if (n <= 0)
		return n < 0 ? -errno : -ENOENT;
	buf[n] = '\0';
	slash = strrchr(buf, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

/* ld.so takes blanks and colons for separators, and has no quoting. */
static int usable(const char *path)
{
	return path[strcspn(path, ": \t\n")] == '\0' ? 0 : -EINVAL;
}

int run_preload_find(char *buf, size_t size)
{
	char folder[PATH_MAX];
	char path[PATH_MAX + 64];

	if (own_folder(folder, sizeof(folder)) == 0) {
		for (size_t i = 0; i < FLAT_ARRAY_SIZE(places); i++) {
			snprintf(path, sizeof(path), "%s%s/" PRELOAD, folder, places[i]);
			if (access(path, R_OK) == 0 && strlen(path) < size) {
				memcpy(buf, path, strlen(path) + 1);
				return usable(buf);
			}
		}
	}
	snprintf(buf, size, FLAT_INSTALL_LIBDIR "/" PRELOAD);
	return access(buf, R_OK) == 0 ? usable(buf) : -ENOENT;
}

/* Whether an entry of LD_PRELOAD is libflat's, of this installation or another. */
static bool is_ours(const char *entry, size_t len)
{
	size_t want = strlen(PRELOAD);

	return len >= want && memcmp(entry + len - want, PRELOAD, want) == 0 &&
	       (len == want || entry[len - want - 1] == '/');
}

int run_preload_set(const char *path)
{
	const char *old = getenv("LD_PRELOAD");
	struct flat_strbuf list = {0};
	int err = 0;

	if (path)
		flat_strbuf_puts(&list, path);
	while (old && *old) {
		size_t len = strcspn(old, ": ");

		if (len > 0 && !is_ours(old, len)) {
			if (list.len > 0)
				flat_strbuf_putc(&list, ':');
			flat_strbuf_add(&list, old, len);
		}
		old += len + (old[len] != '\0');
	}
	if (list.failed)
		err = -ENOMEM;
	else if (list.len == 0)
		(void)unsetenv("LD_PRELOAD");
	else if (setenv("LD_PRELOAD", list.data, 1) != 0)
		err = -errno;
	flat_strbuf_fini(&list);
	return err;
}

/* The file that execvp() would run. */
static int find_command(const char *command, char *buf, size_t size)
{
	const char *path = getenv("PATH");

	if (strchr(command, '/')) {
		snprintf(buf, size, "%s", command);
		return access(buf, X_OK) == 0 ? 0 : -errno;
	}
	for (const char *p = path ? path : "/usr/bin:/bin";; p++) {
		size_t len = strcspn(p, ":");

		snprintf(buf, size, "%.*s%s%s", (int)len, p, len ? "/" : "", command);
		if (access(buf, X_OK) == 0)
			return 0;
		p += len;
		if (*p == '\0')
			return -ENOENT;
	}
}

/* Whether an ELF file of this machine's kind has no dynamic loader. False for anything else. */
static bool is_static(int fd)
{
	Elf64_Ehdr head;
	Elf64_Phdr program;

	if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_phentsize != sizeof(program))
		return false;
	for (unsigned i = 0; i < head.e_phnum; i++) {
		off_t at = (off_t)(head.e_phoff + (uint64_t)i * sizeof(program));

		if (pread(fd, &program, sizeof(program), at) != (ssize_t)sizeof(program))
			return false;
		if (program.p_type == PT_INTERP)
			return false;
	}
	return head.e_phnum > 0;
}

void run_preload_check(const char *command)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (find_command(command, path, sizeof(path)) != 0)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if ((st.st_mode & S_ISUID && st.st_uid != geteuid()) ||
		    (st.st_mode & S_ISGID && st.st_gid != getegid()))
			run_say(
			    "%s is set-uid or set-gid: the loader leaves libflat out of it; put "
			    "flat-run after it, as in `sudo -u USER flat-run COMMAND`",
			    path);
		else if (is_static(fd))
			run_say(
			    "%s is statically linked: libflat cannot be loaded into it, and its "
			    "connections stay with the kernel",
			    path);
	}
	close(fd);
}
