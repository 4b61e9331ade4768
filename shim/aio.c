/*
 * POSIX's asynchronous reads and writes. libc's threads for them make system calls that no hook sees, and would use the
 * anchor: so a stream of the mesh is refused, as a file of a kind that cannot do it.
 */
#include <aio.h>
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

#include <flat/unstable/preload.h>

#define EXPORT __attribute__((visibility("default")))

static int refused(int fd)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	if (kind != FLAT_FD_STREAM && kind != FLAT_FD_LISTENER)
		return 0;
	errno = EOPNOTSUPP;
	return 1;
}

#define ONE(name, block)                                                                           \
	EXPORT int name(struct block *cb)                                                          \
	{                                                                                          \
		static int (*real)(struct block *);                                                \
		if (!real)                                                                         \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		return refused(cb->aio_fildes) ? -1 : real(cb);                                    \
	}

ONE(aio_read, aiocb)
ONE(aio_read64, aiocb64)
ONE(aio_write, aiocb)
ONE(aio_write64, aiocb64)

/* All of the list or nothing. */
#define LIST(name, block)                                                                          \
	EXPORT int name(int mode, struct block *const list[], int n, struct sigevent *event)       \
	{                                                                                          \
		static int (*real)(int, struct block *const[], int, struct sigevent *);            \
		if (!real)                                                                         \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		for (int i = 0; flat_fd_count && i < n; i++) {                                     \
			if (list[i] && list[i]->aio_lio_opcode != LIO_NOP &&                       \
			    refused(list[i]->aio_fildes))                                          \
				return -1;                                                         \
		}                                                                                  \
		return real(mode, list, n, event);                                                 \
	}

LIST(lio_listio, aiocb)
LIST(lio_listio64, aiocb64)
