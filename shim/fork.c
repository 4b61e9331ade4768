/*
 * libc's names that make a process without telling those who asked for it by pthread_atfork(): clone() and _Fork(); by
 * number they are in syscall.c. And chroot(), after which flatd may be out of reach.
 */
#include <dlfcn.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/types.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

/* On the caller's stack, which the child has a copy of. */
struct start {
	int (*fn)(void *arg);
	void *arg;
};

static int in_child(void *arg)
{
	const struct start *s = arg;
	flat_clone_child();
	return s->fn(s->arg);
}

/* A child in our memory is vfork()'s or a thread: the library knows of it by its process id. */
EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static int (*real)(int (*)(void *), void *, int, void *, ...);
	struct start start = {fn, arg};
	va_list ap;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "clone");
	va_start(ap, arg);
	pid_t *parent_tid = va_arg(ap, pid_t *);
	void *tls = va_arg(ap, void *);
	pid_t *child_tid = va_arg(ap, pid_t *);
	va_end(ap);
	if (!fn || (flags & CLONE_VM))
		return real(fn, stack, flags, arg, parent_tid, tls, child_tid);
	flat_clone_begins();
	int pid = real(in_child, stack, flags, &start, parent_tid, tls, child_tid);
	flat_clone_parent();
	return pid;
}

EXPORT pid_t _Fork(void)
{
	static pid_t (*real)(void);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "_Fork");
	flat_clone_begins();
	pid_t pid = real();
	if (pid == 0)
		flat_clone_child();
	else
		flat_clone_parent();
	return pid;
}

EXPORT int chroot(const char *path)
{
	static int (*real)(const char *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "chroot");
	flat_chroot_prepare();
	return real(path);
}
