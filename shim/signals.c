/*
 * Handlers of signals are called by way of run(), which tells the library that one ran in this thread: a call of ours that
 * looks in user space before it sleeps ends by it, as the kernel's does. What the program sees of its handlers is what it set.
 *
 * Who sets handlers by number (rt_sigaction) has them called by the kernel itself, as before. So are those of faults, which
 * are the thread's own doing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

/* glibc's other names of these; no header of a program declares them. */
int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);
sighandler_t __sysv_signal(int sig, sighandler_t handler);
sighandler_t sysv_signal(int sig, sighandler_t handler);
sighandler_t bsd_signal(int sig, sighandler_t handler);
sighandler_t ssignal(int sig, sighandler_t handler);
sighandler_t sigset(int sig, sighandler_t handler);

typedef void (*action)(int sig, siginfo_t *info, void *context);

static struct {
	_Atomic(sighandler_t) handler;
	_Atomic int restarts; /* its SA_RESTART */
} table[NSIG];

/* The kernel passes all three to handlers of one argument as well, or what they do not look at. */
static void run(int sig, siginfo_t *info, void *context)
{
	sighandler_t handler = atomic_load_explicit(&table[sig].handler, memory_order_relaxed);
	flat_handler_ran(atomic_load_explicit(&table[sig].restarts, memory_order_relaxed));
	((action)(void (*)(void))handler)(sig, info, context);
}
#define RUN ((sighandler_t)(void (*)(void))run)

/* A child of vfork() has handlers of its own, and its parent's memory. */
static int is_taken(int sig, sighandler_t handler)
{
	return sig > 0 && sig < NSIG && handler != SIG_DFL && handler != SIG_IGN &&
	       handler != SIG_ERR && handler != SIG_HOLD && handler != RUN &&
	       !(FLAT_FAULTS & FLAT_SIGNAL(sig)) && !flat_process_foreign();
}

/* What the program knows the kernel's by. */
static sighandler_t shown(sighandler_t kernel, sighandler_t handler)
{
	return kernel == RUN ? handler : kernel;
}

static sighandler_t put(int sig, sighandler_t handler, int restarts)
{
	atomic_store_explicit(&table[sig].restarts, restarts, memory_order_relaxed);
	return atomic_exchange(&table[sig].handler, handler);
}

static sighandler_t known(int sig)
{
	return sig > 0 && sig < NSIG ? atomic_load(&table[sig].handler) : NULL;
}

static int real_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	static int (*real)(int, const struct sigaction *, struct sigaction *);
	if (__builtin_expect(!real, 0))
		*(void **)&real = dlsym(RTLD_NEXT, "sigaction");
	return real(sig, act, old);
}

/* In the table before it is the kernel's: a signal may come as soon as it is. */
EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	sighandler_t before = known(sig);
	int ret;
	if (act && is_taken(sig, act->sa_handler)) {
		struct sigaction ours = *act;
		int restarts = atomic_load(&table[sig].restarts);
		ours.sa_handler = RUN;
		before = put(sig, act->sa_handler, (act->sa_flags & SA_RESTART) != 0);
		ret = real_sigaction(sig, &ours, old);
		if (ret != 0)
			(void)put(sig, before, restarts);
	} else {
		ret = real_sigaction(sig, act, old);
	}
	if (ret == 0 && old)
		old->sa_handler = shown(old->sa_handler, before);
	return ret;
}

EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old);
}

/* libc decides on the flags. */
static void note_flags(int sig)
{
	struct sigaction now;
	if (known(sig) && real_sigaction(sig, NULL, &now) == 0)
		atomic_store(&table[sig].restarts, (now.sa_flags & SA_RESTART) != 0);
}

/* One of the calls that know a handler alone. */
static sighandler_t set(sighandler_t (*real)(int, sighandler_t), int sig, sighandler_t handler)
{
	sighandler_t before = known(sig);
	int taken = is_taken(sig, handler);
	if (taken)
		before = put(sig, handler, 0);
	sighandler_t ret = real(sig, taken ? RUN : handler);
	if (taken && ret == SIG_ERR)
		(void)put(sig, before, 0);
	if (taken)
		note_flags(sig);
	return shown(ret, before);
}

#define SET(name)                                                                                  \
	EXPORT sighandler_t name(int sig, sighandler_t handler)                                    \
	{                                                                                          \
		static sighandler_t (*real)(int, sighandler_t);                                    \
		if (__builtin_expect(!real, 0))                                                    \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		return set(real, sig, handler);                                                    \
	}

SET(signal)
SET(bsd_signal)
SET(ssignal)
SET(sysv_signal)
SET(__sysv_signal)
SET(sigset)

EXPORT int siginterrupt(int sig, int interrupts)
{
	static int (*real)(int, int);
	if (__builtin_expect(!real, 0))
		*(void **)&real = dlsym(RTLD_NEXT, "siginterrupt");
	int ret = real(sig, interrupts);
	if (ret == 0)
		note_flags(sig);
	return ret;
}

__attribute__((constructor)) static void begin(void)
{
	flat_handlers_told();
}
