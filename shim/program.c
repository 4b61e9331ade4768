#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

/* A script of a script of a script: the kernel allows five. */
#define SCRIPTS_MAX 5

static int elf_preloads(const unsigned char *head, size_t len)
{
	Elf64_Ehdr e;
	memcpy(&e, head, sizeof(e));
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != MACHINE ||
	    e.e_phentsize != sizeof(Elf64_Phdr))
		return 0;
	for (size_t i = 0; i < e.e_phnum; i++) {
		Elf64_Phdr p;
		if (e.e_phoff > len || (i + 1) * sizeof(p) > len - e.e_phoff)
			break;
		memcpy(&p, head + e.e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type == PT_INTERP)
			return 1;
	}
	return 0;
}

/* The interpreter of a script's first line, in place. NULL: there is none. */
static char *interpreter(char *head)
{
	char *name = head + 2 + strspn(head + 2, " \t");
	name[strcspn(name, " \t\n")] = '\0';
	return *name ? name : NULL;
}

/* How a file begins; -1: it may not be read. */
static ssize_t beginning(const char *path, const struct stat *st, unsigned char *head, size_t room)
{
	int fd = flat_exec_opened(st);
	if (fd != -ENOENT)
		return fd >= 0 ? pread(fd, head, room, 0) : -1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	ssize_t n = pread(fd, head, room, 0);
	close(fd);
	return n;
}

static int path_preloads(const char *path, int depth)
{
	_Alignas(Elf64_Ehdr) unsigned char head[4096];
	struct stat st;
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || access(path, X_OK) != 0)
		return -1;
	ssize_t n = beginning(path, &st, head, sizeof(head) - 1);
	/* It may be executed all the same. */
	if (n < 0 || (st.st_mode & (S_ISUID | S_ISGID)))
		return 0;
	head[n] = '\0';
	if ((size_t)n >= sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0)
		return elf_preloads(head, (size_t)n);
	if (n > 2 && head[0] == '#' && head[1] == '!') {
		char *name = interpreter((char *)head);
		return name && depth < SCRIPTS_MAX ? path_preloads(name, depth + 1) : -1;
	}
	/* execvp() gives it to the shell. */
	return 1;
}

int flat_program_preloads(const char *file, int search)
{
	char path[PATH_MAX];
	if (!search || strchr(file, '/'))
		return path_preloads(file, 0);
	const char *dir = getenv("PATH");
	for (dir = dir ? dir : "/bin:/usr/bin"; *dir;) {
		size_t len = strcspn(dir, ":");
		int n =
		    snprintf(path, sizeof(path), "%.*s%s%s", (int)len, dir, len ? "/" : "", file);
		int got = n > 0 && (size_t)n < sizeof(path) ? path_preloads(path, 0) : -1;
		if (got >= 0)
			return got;
		dir += len + (dir[len] == ':');
	}
	return -1;
}
