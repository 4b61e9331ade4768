/*
 * libc's calls that put a terminal under the numbers 0 to 2 by a dup2() of their own. What was ours there is told of
 * afterwards: they change nothing where they fail.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

/* The number has another file by now. */
static void overtaken(int fd)
{
	static int (*real)(int, int, ...);
	if (flat_fd_kind(fd) == FLAT_FD_KERNEL)
		return;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "fcntl64");
	int copy = real(fd, F_DUPFD_CLOEXEC, 3L);
	if (copy < 0)
		return;
	(void)flat_dup3(copy, fd, 0);
	(void)flat_close(copy);
}

static void all_overtaken(void)
{
	int saved = errno;
	for (int fd = 0; fd <= 2; fd++)
		overtaken(fd);
	errno = saved;
}

EXPORT int login_tty(int fd)
{
	static int (*real)(int);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "login_tty");
	int err = real(fd);
	if (err == 0)
		all_overtaken();
	return err;
}

EXPORT int forkpty(int *master, char *name, const struct termios *modes, const struct winsize *size)
{
	static int (*real)(int *, char *, const struct termios *, const struct winsize *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "forkpty");
	int pid = real(master, name, modes, size);
	if (pid == 0)
		all_overtaken();
	return pid;
}
