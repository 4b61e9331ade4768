/* What /proc says of the descriptors that a process has open. */
#ifndef FLAT_HOST_OPENFDS_H
#define FLAT_HOST_OPENFDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

/**
 * Called for each of them, in the order of their numbers; `dir` is the listing's descriptor, in which `name` stands for it. It may
 * open and close some. True: that was the last one.
 */
typedef bool flat_open_fn(int fd, int dir, const char *name, void *arg);

/**
 * Those of process `pid` from number `from` on; 0: of this one, without the listing's. Allocates nothing. 0, or a negative errno
 * where nobody may look: nothing was called then.
 */
FLAT_MUST_CHECK int flat_open_each(int pid, int from, flat_open_fn *each, void *arg);

/**
 * The events that the kernel's epoll instance `epfd` watches this process's `fd` for, from its fdinfo (fs/eventpoll.c,
 * ep_show_fdinfo()). Allocates nothing. 0, -ENOENT: it is no member, or a negative errno where nobody may look.
 */
FLAT_MUST_CHECK int flat_open_watched(int epfd, int fd, uint32_t *events);

#endif
