/* What a flat listener is made of; part of struct flat_file. Handled by acceptor.c. */
#ifndef FLAT_HOST_ACCEPTOR_STATE_H
#define FLAT_HOST_ACCEPTOR_STATE_H

#include <stdatomic.h>

#include "vq/attach.h"

struct flat_acceptor {
	uint64_t listener_id;
	int32_t tcp_fd; /* private: duplicate of the bound kernel socket; same number in forked children */
	_Atomic uint32_t backlog;
	_Atomic uint32_t shut; /* shutdown() was called: accept fails with EINVAL */
	struct flat_addr local;
};

#endif
