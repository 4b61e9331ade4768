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

typedef int clone_call(int (*fn)(void *), void *stack, int flags, void *arg, ...);
clone_call __clone; /* libc's other name of it, which no header declares */

/* What clone() was given beyond `arg`. */
struct rest {
	pid_t *parent_tid;
	void *tls;
	pid_t *child_tid;
};

/* A child in our memory is vfork()'s or a thread: the library knows of it by its process id. */
static int clone_by(clone_call *real, struct start start, void *stack, int flags, struct rest r)
{
	if (!start.fn || (flags & CLONE_VM))
		return real(start.fn, stack, flags, start.arg, r.parent_tid, r.tls, r.child_tid);
	flat_clone_begins();
	int pid = real(in_child, stack, flags, &start, r.parent_tid, r.tls, r.child_tid);
	flat_clone_parent();
	return pid;
}

#define CLONE(name)                                                                                \
	EXPORT int name(int (*fn)(void *), void *stack, int flags, void *arg, ...)                 \
	{                                                                                          \
		static clone_call *real;                                                           \
		struct rest rest;                                                                  \
		va_list ap;                                                                        \
		if (!real)                                                                         \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		va_start(ap, arg);                                                                 \
		rest.parent_tid = va_arg(ap, pid_t *);                                             \
		rest.tls = va_arg(ap, void *);                                                     \
		rest.child_tid = va_arg(ap, pid_t *);                                              \
		va_end(ap);                                                                        \
		return clone_by(real, (struct start){fn, arg}, stack, flags, rest);                \
	}

CLONE(clone)
CLONE(__clone)

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
