/*
 * A program with a sigaction() of its own that hands on to libc's other name of it, as Erlang's emulator has. Linked with the
 * behaviours of tests/parity.
 */
#include <dlfcn.h>
#include <signal.h>

#pragma GCC diagnostic ignored "-Wpedantic"

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	static int (*next)(int, const struct sigaction *, struct sigaction *);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "__sigaction");
	return next(sig, act, old);
}
