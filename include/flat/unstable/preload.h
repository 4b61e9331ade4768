/*
 * What the shim needs beside the public calls: whether a descriptor concerns libflat, at the cost of one load.
 * Not a promised interface.
 */
#ifndef FLAT_UNSTABLE_PRELOAD_H
#define FLAT_UNSTABLE_PRELOAD_H

#include <signal.h>
#include <stdint.h>

#include <flat/flat.h>

FLAT_BEGIN_DECLS

enum flat_fd_kind {
	FLAT_FD_KERNEL = 0,    /* nothing of ours: the kernel's alone */
	FLAT_FD_CANDIDATE = 1, /* kernel TCP socket that may become flat at connect or listen */
	FLAT_FD_STREAM = 2,    /* flat connection */
	FLAT_FD_LISTENER = 3,  /* flat listener */
	FLAT_FD_EPOLL = 4,     /* epoll instance */
	FLAT_FD_PRIVATE = 5,   /* the library's own: applications get EBADF */
};

/** One byte (enum flat_fd_kind) per descriptor number below FLAT_FD_KINDS. Never unmapped. */
#define FLAT_FD_KINDS (1U << 20)
FLAT_API extern const uint8_t *flat_fd_kinds;

/** What `fd` is to libflat. */
static inline enum flat_fd_kind flat_fd_kind(int fd)
{
	if (!flat_fd_kinds || (unsigned int)fd >= FLAT_FD_KINDS)
		return FLAT_FD_KERNEL;
	return (enum flat_fd_kind)__atomic_load_n(&flat_fd_kinds[fd], __ATOMIC_RELAXED);
}

/** How many descriptors are sockets of ours, candidates or private: 0 lets poll and select go straight to the kernel. */
FLAT_API extern uint32_t flat_fd_count;

/** Makes the tables; before the first call that creates a descriptor. */
FLAT_API void flat_host_init(void);

/** The address of a mesh name as text (room for 64 bytes). 0, or -1: not a name of the mesh. */
FLAT_API int flat_mesh_address(const char *host, char text[64]);

/** Flat descriptors that stay open through exec as things are; with `actions` (of posix_spawn) also those that some named. */
FLAT_API int flat_exec_inherits(int actions);
/** Whether a program that is started now may be sent flat descriptors: a listening UNIX socket stays open for it. */
FLAT_API int flat_exec_may_receive(void);

/** What exec took from the program's descriptors, to be given back if it fails. Room for more than programs inherit. */
#define FLAT_HANDOVER_MAX 32
struct flat_handover {
	int n;
	int fd[FLAT_HANDOVER_MAX];
	int saved[FLAT_HANDOVER_MAX];
};

/**
 * Before exec, posix_spawn and the like: what stays open may be used by another program from now on. library: whether
 * that one will have the library; 0: what it inherits becomes the kernel's. flat_exec_failed() undoes it.
 * h NULL: descriptor numbers must stay what they are, as other threads use them.
 */
FLAT_API void flat_exec_prepare(int library, struct flat_handover *h);
FLAT_API void flat_exec_failed(struct flat_handover *h);
/** One descriptor will be handed to another program by posix_spawn()'s file actions, whatever its CLOEXEC says. */
FLAT_API void flat_exec_keeps(int fd);
struct stat;
/**
 * A descriptor by which this process has a file open, and may read it; -EACCES: none of those that it has may; -ENOENT: it has
 * none. To close another one of the same file would end the locks that it holds there (fcntl(2), F_SETLK). Allocates nothing.
 */
FLAT_API int flat_exec_opened(const struct stat *file);

struct msghdr;
/** Before a message with descriptors is sent over a socket of the kernel's, and after one came. */
FLAT_API void flat_rights_sending(const struct msghdr *msg);
FLAT_API void flat_rights_received(const struct msghdr *msg);

/**
 * Around a call that makes a process with memory of its own and passes pthread_atfork() by (clone, _Fork): before it; after
 * it in the parent, whether it failed or not; and in the child, before anything else.
 */
FLAT_API void flat_clone_begins(void);
FLAT_API void flat_clone_parent(void);
FLAT_API void flat_clone_child(void);

/** Before chroot(): this process joins the mesh while flatd's socket is in sight. */
FLAT_API void flat_chroot_prepare(void);

struct sock_fprog;
/** Process `pid`, this one, has forbidden itself system calls by this filter: the library makes do without them. */
FLAT_API void flat_filtered(const struct sock_fprog *prog, int pid);

/** Whether the caller is a child by vfork() or clone() in its parent's memory, whose descriptors and handlers are its own. */
FLAT_API int flat_process_foreign(void);

/** Signals that are a thread's own doing, bit n-1 for signal n: their handlers run when it is done, whatever the thread waits for. */
#define FLAT_FAULTS                                                                                \
	(FLAT_SIGNAL(SIGSEGV) | FLAT_SIGNAL(SIGBUS) | FLAT_SIGNAL(SIGFPE) | FLAT_SIGNAL(SIGILL) |  \
	 FLAT_SIGNAL(SIGTRAP) | FLAT_SIGNAL(SIGSYS) | FLAT_SIGNAL(SIGABRT))
#define FLAT_SIGNAL(n) (UINT64_C(1) << ((n)-1))

/** Each handler that runs from now on is told of by flat_handler_ran(), in its thread, before it: with SA_RESTART or not. */
FLAT_API void flat_handlers_told(void);
FLAT_API void flat_handler_ran(int restart);

FLAT_END_DECLS

#endif
