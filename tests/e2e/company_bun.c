/*
 * A program that waits as Bun does: by a system call of its own, which no hook sees, or by libc's epoll_pwait() where its feature
 * flag is set. Bun before 1.4 has no such flag. Linked with the behaviours of tests/parity.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#pragma GCC diagnostic ignored "-Wpedantic"

#define EXPORTED(name)                                                                             \
	void name(void);                                                                           \
	void name(void)                                                                            \
	{                                                                                          \
	}
EXPORTED(napi_create_object)
#ifdef BEFORE_1_4
#define DISABLE_PWAIT2 "none"
#else
EXPORTED(node_api_set_prototype)
#define DISABLE_PWAIT2 "BUN_FEATURE_FLAG_DISABLE_EPOLL_PWAIT2"
#endif

static long own_call(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
#if defined(__x86_64__)
	long ret;
	register long timeout __asm__("r10") = timeout_ms;
	register long mask __asm__("r8") = 0;
	register long size __asm__("r9") = sizeof(unsigned long);
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"((long)SYS_epoll_pwait), "D"((long)epfd), "S"(events), "d"((long)max),
			   "r"(timeout), "r"(mask), "r"(size)
			 : "rcx", "r11", "memory");
	return ret;
#else
	register long ret __asm__("x0") = epfd;
	register struct epoll_event *to __asm__("x1") = events;
	register long room __asm__("x2") = max;
	register long timeout __asm__("x3") = timeout_ms;
	register long mask __asm__("x4") = 0;
	register long size __asm__("x5") = sizeof(unsigned long);
	register long number __asm__("x8") = SYS_epoll_pwait;
	__asm__ volatile("svc 0"
			 : "+r"(ret)
			 : "r"(to), "r"(room), "r"(timeout), "r"(mask), "r"(size), "r"(number)
			 : "memory");
	return ret;
#endif
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	static int (*next)(int, struct epoll_event *, int, int, const sigset_t *);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "epoll_pwait");
	if (getenv(DISABLE_PWAIT2))
		return next(epfd, events, max, timeout_ms, NULL);
	long ret = own_call(epfd, events, max, timeout_ms);
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}
