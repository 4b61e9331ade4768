/* The sockets of a process and those forked from it, in memory that they share; who holds which is holders.h. */
#ifndef FLAT_HOST_POOL_H
#define FLAT_HOST_POOL_H

#include "host/host.h"

/** Memory of zeros, in pages that come into being as they are used. flags: MAP_SHARED or MAP_PRIVATE. NULL: there is none. */
void *flat_map_zero(size_t len, int flags);

/** Before the first socket. False: no memory; to be tried again. */
FLAT_MUST_CHECK bool flat_pool_make(void);

/** The socket of this number, in use or not. */
struct flat_sock *flat_pool_sock(uint32_t i);

/** One more descriptor of this process for the socket, which it holds or others do. */
void flat_sock_get(struct flat_sock *s);
/** One less, or one hold: the last one of all processes ends the connection. */
void flat_sock_put(struct flat_sock *s);
/** Descriptors of this process for it. */
FLAT_MUST_CHECK uint32_t flat_sock_numbers(const struct flat_sock *s);

/**
 * Before a number that means `s` is closed, or another file put under it: where calls of this process sleep on the socket, its anchor
 * stays open under a private number until they are over, as the kernel's file does. It is this thread's own call no more.
 */
void flat_sock_keep(struct flat_sock *s, int fd);
/** By which number a call that holds `s` uses its anchor: `fd` while it means it, else the private one; -EBADF: there is none. */
FLAT_MUST_CHECK int flat_sock_anchor(const struct flat_sock *s, int fd);
/** flat_fd_sock(), or the socket that is kept under this private number. */
struct flat_sock *flat_sock_behind(int fd);

/** Before a fork; in the parent afterwards, also if it failed; in the child. */
void flat_pool_forking(void);
void flat_pool_fork_over(void);
void flat_pool_forked(void);

#endif
