/*
 * libc's names that start other programs: the descriptors that stay open through them may be used there from then on.
 * The variadic ones are written out, since what they call inside libc passes no hook.
 */
#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#pragma GCC diagnostic ignored "-Wpedantic"

#define EXPORT __attribute__((visibility("default")))

/* The real function of this name. */
#define REAL(ret, name, ...)                                                                       \
	static ret (*real)(__VA_ARGS__);                                                           \
	if (__builtin_expect(!real, 0))                                                            \
	*(void **)&real = dlsym(RTLD_NEXT, #name)

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	REAL(int, execve, const char *, char *const *, char *const *);
	flat_exec_prepare();
	return real(path, argv, envp);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	REAL(int, execvpe, const char *, char *const *, char *const *);
	flat_exec_prepare();
	return real(file, argv, envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	REAL(int, fexecve, int, char *const *, char *const *);
	flat_exec_prepare();
	return real(fd, argv, envp);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	REAL(int, execveat, int, const char *, char *const *, char *const *, int);
	flat_exec_prepare();
	return real(dir, path, argv, envp, flags);
}

/* The arguments up to NULL as an array on the stack (a child of vfork() may not allocate), counted before. */
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
	flat_exec_prepare();
	return real(pid, path, actions, attr, argv, envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	REAL(int, posix_spawnp, pid_t *, const char *, const posix_spawn_file_actions_t *,
	     const posix_spawnattr_t *, char *const *, char *const *);
	flat_exec_prepare();
	return real(pid, file, actions, attr, argv, envp);
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
	flat_exec_prepare();
	return real(command);
}

EXPORT FILE *(popen)(const char *command, const char *mode)
{
	REAL(FILE *, popen, const char *, const char *);
	flat_exec_prepare();
	return real(command, mode);
}
