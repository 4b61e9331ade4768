/*
 * Flat listeners. The accept queue is the kernel's: messages on the listener anchor, so the anchor's readiness is the
 * listener's, in every kind of wait, and blocking, timeouts and signals are the kernel's own.
 */
#ifndef FLAT_HOST_ACCEPTOR_H
#define FLAT_HOST_ACCEPTOR_H

#include "host/file.h"

/**
 * A candidate on which the kernel's listen() succeeded becomes a flat listener. 0: it is one now; 1: it stays the kernel's
 * (no offload half, or refused); negative errno: listen fails.
 */
FLAT_MUST_CHECK int flat_acceptor_open(int fd, int backlog);

/** The listener's next connection as a new fd; flags: SOCK_NONBLOCK, SOCK_CLOEXEC. Blocks as the kernel's accept. */
FLAT_MUST_CHECK int flat_acceptor_accept(struct flat_file *file, uint32_t gen, int fd, int flags,
					 struct flat_addr *peer);

/**
 * The anchor hung up (the offload half ended): registers with its successor and puts the new anchor under every fd of this
 * process. 0: done, the listener works again; -EAGAIN: nobody answers yet (tried at most every 100 ms; call again);
 * -EINVAL: it was shut down.
 */
FLAT_MUST_CHECK int flat_acceptor_revive(struct flat_file *file);

/** Last close in this process: lets the private duplicate go. */
void flat_acceptor_leave(struct flat_file *file);

/** As flat_file_events(), of a listener. */
uint32_t flat_acceptor_events(struct flat_file *file);

#endif
