/* TCP sockets of this network namespace that listen, as the kernel lists them (sock_diag). */
#ifndef FLAT_OFFLOAD_CAPTURE_DIAG_H
#define FLAT_OFFLOAD_CAPTURE_DIAG_H

#include <stdbool.h>

#include "vq/attach.h"

struct flat_diag_socket {
	struct flat_addr addr; /* as bound: IPv4 in an IPv6 socket is unmapped */
	uint64_t cookie;
	uint64_t cgroup; /* its id; 0: not known */
	uint32_t uid;
	uint32_t device; /* it is bound to; 0: none */
	bool v6only;
};

/** Calls `fn` for each. 0 or a negative errno: then not all were told. */
FLAT_MUST_CHECK int flat_diag_listeners(void (*fn)(void *ctx, const struct flat_diag_socket *s),
					void *ctx);

#endif
