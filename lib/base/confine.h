/*
 * Programs that forbid themselves system calls (seccomp) with sockets of ours in their hands: sshd's child before the
 * user is known. A call that the filter does not allow would end the program, so it is not made: it is -EPERM, and who
 * can do with fewer does. What it keeps is enough for a connection: read, write, and poll or ppoll.
 */
#ifndef FLAT_BASE_CONFINE_H
#define FLAT_BASE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/base.h"

struct sock_fprog;
struct pollfd;
struct timespec;

/**
 * The filter holds from now on for process `pid`, the caller's: for all its threads as far as we are concerned, since new ones inherit
 * it. Adds what it forbids to what is forbidden already. Makes no system call. Each call is looked at with arguments of zero; one
 * that is allowed with others only counts as forbidden.
 */
void flat_confine(const struct sock_fprog *prog, int pid);

/** SECCOMP_RET_... of a filter for a call; SECCOMP_RET_KILL_PROCESS for a program that is none. args: 6. */
FLAT_MUST_CHECK unsigned int flat_confine_verdict(const struct sock_fprog *prog, long nr,
						  const unsigned long args[6]);

/** Whether a filter forbids system call `nr`. */
FLAT_MUST_CHECK bool flat_confine_forbids(long nr);

/*
 * Where sendto, recvfrom or ppoll are forbidden: the same by write, read and poll, as far as bells need it. Flags: MSG_DONTWAIT,
 * MSG_PEEK (one byte, and not which). A write to a peer that goes away in the same moment raises SIGPIPE, as on any socket.
 */
FLAT_MUST_CHECK ssize_t flat_confined_send(int fd, const void *buf, size_t len, int flags);
FLAT_MUST_CHECK ssize_t flat_confined_recv(int fd, void *buf, size_t len, int flags);
FLAT_MUST_CHECK int flat_confined_poll(struct pollfd *fds, unsigned long n,
				       struct timespec *timeout);

#endif
