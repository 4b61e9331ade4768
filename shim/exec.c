/*
 * libc's names that start other programs: the descriptors that stay open through them may be used there from then on.
 * The variadic ones are written out, since what they call inside libc passes no hook.
 *
 * A program that gets flat sockets gets the library too, where the environment made for it forgot it (nginx's new binary):
 * without, its sockets would be strangers to it. So does one that may be sent them (dovecot's and postfix's services). One
 * that cannot have it gets sockets of the kernel's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#include "program.h"

#pragma GCC diagnostic ignored "-Wpedantic"

#define EXPORT __attribute__((visibility("default")))

/* The real function of this name. */
#define REAL(ret, name, ...)                                                                       \
	static ret (*real)(__VA_ARGS__);                                                           \
	if (__builtin_expect(!real, 0))                                                            \
	*(void **)&real = dlsym(RTLD_NEXT, #name)

#define PRELOAD "LD_PRELOAD="
#define CONTROL "FLAT_CONTROL="

/* As they were when we were loaded: programs write over their environment. */
static char own_path[1024];
static char control[256];

__attribute__((constructor)) static void remember(void)
{
	Dl_info info;
	const char *where = getenv("FLAT_CONTROL");
	if (dladdr(own_path, &info) && info.dli_fname && strlen(info.dli_fname) < sizeof(own_path))
		memcpy(own_path, info.dli_fname, strlen(info.dli_fname) + 1);
	if (where && strlen(where) < sizeof(control) - sizeof(CONTROL))
		(void)snprintf(control, sizeof(control), CONTROL "%s", where);
}

/* By exec; by posix_spawn(): the descriptors' numbers are the parent's still, whose other threads use them; with actions on them. */
enum how { EXEC, SPAWN, SPAWN_ACTIONS };

/* What a starting program needs; on its caller's stack, since a child of vfork() may not allocate. */
struct start {
	enum how how;
	struct flat_handover handover;
	char preload[2048];
};

static const char *value_of(char *const envp[], const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; envp && envp[i]; i++) {
		if (strncmp(envp[i], name, len) == 0)
			return envp[i] + len;
	}
	return NULL;
}

static size_t count(char *const envp[])
{
	size_t n = 0;
	while (envp && envp[n])
		n++;
	return n;
}

static int has_us(char *const envp[])
{
	const char *preload = value_of(envp, PRELOAD);
	return !own_path[0] || (preload && strstr(preload, own_path));
}

/* The environment with us in it; `room` holds three entries more than it. */
static char *const *environment(struct start *s, char *const envp[], char **room)
{
	const char *preload = value_of(envp, PRELOAD);
	size_t n = 0;
	if (has_us(envp))
		return envp;
	int len = snprintf(s->preload, sizeof(s->preload), PRELOAD "%s%s%s", own_path,
			   preload && *preload ? ":" : "", preload ? preload : "");
	if (len < 0 || (size_t)len >= sizeof(s->preload))
		return envp;
	for (size_t i = 0; envp && envp[i]; i++) {
		if (strncmp(envp[i], PRELOAD, strlen(PRELOAD)) != 0)
			room[n++] = envp[i];
	}
	room[n++] = s->preload;
	if (control[0] && !value_of(envp, CONTROL))
		room[n++] = control;
	room[n] = NULL;
	return room;
}

/* Returns the environment to start the program with. */
static char *const *begin(struct start *s, const char *file, int search, char *const envp[],
			  char **room)
{
	if (flat_exec_inherits(s->how == SPAWN_ACTIONS) == 0 &&
	    (has_us(envp) || !flat_exec_may_receive()))
		return envp;
	int library = flat_program_preloads(file, search);
	flat_exec_prepare(library != 0, s->how == EXEC ? &s->handover : NULL);
	return library == 1 ? environment(s, envp, room) : envp;
}

static int failed(struct start *s)
{
	int saved = errno;
	flat_exec_failed(&s->handover);
	errno = saved;
	return -1;
}

#define START(in_way, file, search)                                                                \
	struct start s;                                                                            \
	char **room = __builtin_alloca((count(envp) + 3) * sizeof(*room));                         \
	s.how = (in_way);                                                                          \
	s.handover.n = 0;                                                                          \
	char *const *env = begin(&s, file, search, envp, room)

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	REAL(int, execve, const char *, char *const *, char *const *);
	START(EXEC, path, 0);
	(void)real(path, argv, env);
	return failed(&s);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	REAL(int, execvpe, const char *, char *const *, char *const *);
	START(EXEC, file, 1);
	(void)real(file, argv, env);
	return failed(&s);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	REAL(int, fexecve, int, char *const *, char *const *);
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	START(EXEC, path, 0);
	(void)real(fd, argv, env);
	return failed(&s);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	REAL(int, execveat, int, const char *, char *const *, char *const *, int);
	char full[4096];
	/* Relative to a directory, or the descriptor itself. */
	(void)snprintf(full, sizeof(full), "/proc/self/fd/%d%s%s", dir, *path ? "/" : "", path);
	START(EXEC, dir < 0 || *path == '/' ? path : full, 0);
	(void)real(dir, path, argv, env, flags);
	return failed(&s);
}

/* The arguments up to NULL as an array on the stack, counted before. */
#define ARGUMENTS(first)                                                                           \
	va_list ap;                                                                                \
	size_t n = 1;                                                                              \
	va_start(ap, first);                                                                       \
	while (va_arg(ap, char *))                                                                 \
		n++;                                                                               \
	va_end(ap);                                                                                \
	char **argv = __builtin_alloca((n + 1) * sizeof(*argv));                                   \
	argv[0] = (char *)(uintptr_t)(first);                                                      \
	va_start(ap, first);                                                                       \
	for (size_t i = 1; i <= n; i++)                                                            \
	argv[i] = va_arg(ap, char *)

EXPORT int execl(const char *path, const char *arg, ...)
{
	ARGUMENTS(arg);
	va_end(ap);
	return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	ARGUMENTS(arg);
	va_end(ap);
	return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	ARGUMENTS(arg);
	char **envp = va_arg(ap, char **);
	va_end(ap);
	return execve(path, argv, envp);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	REAL(int, posix_spawn, pid_t *, const char *, const posix_spawn_file_actions_t *,
	     const posix_spawnattr_t *, char *const *, char *const *);
	START(actions ? SPAWN_ACTIONS : SPAWN, path, 0);
	return real(pid, path, actions, attr, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	REAL(int, posix_spawnp, pid_t *, const char *, const posix_spawn_file_actions_t *,
	     const posix_spawnattr_t *, char *const *, char *const *);
	START(actions ? SPAWN_ACTIONS : SPAWN, file, 1);
	return real(pid, file, actions, attr, argv, env);
}

EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int to)
{
	REAL(int, posix_spawn_file_actions_adddup2, posix_spawn_file_actions_t *, int, int);
	flat_exec_keeps(fd);
	return real(actions, fd, to);
}

/* In parentheses: definitions, not uses. */
EXPORT int(system)(const char *command)
{
	REAL(int, system, const char *);
	flat_exec_prepare(1, NULL);
	return real(command);
}

EXPORT FILE *(popen)(const char *command, const char *mode)
{
	REAL(FILE *, popen, const char *, const char *);
	flat_exec_prepare(1, NULL);
	return real(command, mode);
}
