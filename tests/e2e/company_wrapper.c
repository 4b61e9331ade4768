/*
 * A library that wraps socket calls as torsocks, proxychains and tracers do: it is preloaded beside libflat, looks at what
 * passes, and hands on. At the end it writes how many calls it saw to the file $WRAPPER_LOG.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wpedantic"

static _Atomic unsigned long calls;

#define WRAP(ret, name, params, args)                                                              \
	ret name params                                                                            \
	{                                                                                          \
		static ret(*next) params;                                                          \
		if (!next)                                                                         \
			*(void **)&next = dlsym(RTLD_NEXT, #name);                                 \
		calls++;                                                                           \
		return next args;                                                                  \
	}

WRAP(int, socket, (int d, int t, int p), (d, t, p))
WRAP(int, listen, (int fd, int n), (fd, n))
WRAP(int, accept, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))
WRAP(ssize_t, send, (int fd, const void *b, size_t n, int f), (fd, b, n, f))
WRAP(ssize_t, recv, (int fd, void *b, size_t n, int f), (fd, b, n, f))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f))
WRAP(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))
WRAP(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))
WRAP(int, close, (int fd), (fd))
WRAP(int, dup2, (int fd, int to), (fd, to))
WRAP(int, shutdown, (int fd, int how), (fd, how))
WRAP(int, poll, (struct pollfd * p, nfds_t n, int t), (p, n, t))
WRAP(int, epoll_ctl, (int e, int op, int fd, struct epoll_event *ev), (e, op, fd, ev))
WRAP(int, epoll_wait, (int e, struct epoll_event *ev, int n, int t), (e, ev, n, t))
WRAP(int, getsockopt, (int fd, int l, int n, void *v, socklen_t *s), (fd, l, n, v, s))
WRAP(int, setsockopt, (int fd, int l, int n, const void *v, socklen_t s), (fd, l, n, v, s))
WRAP(int, getpeername, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))

/* As torsocks: is it TCP, and connected already? */
int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	static int (*next)(int, const struct sockaddr *, socklen_t);
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	int type = 0;
	socklen_t type_len = sizeof(type);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "connect");
	calls++;
	int saved = errno;
	(void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len);
	if (type == SOCK_STREAM)
		(void)getpeername(fd, (struct sockaddr *)&ss, &ss_len);
	errno = saved;
	return next(fd, addr, len);
}

__attribute__((destructor)) static void tell(void)
{
	const char *path = getenv("WRAPPER_LOG");
	FILE *f = path ? fopen(path, "a") : NULL;
	if (!f)
		return;
	(void)fprintf(f, "%lu\n", calls);
	(void)fclose(f);
}
