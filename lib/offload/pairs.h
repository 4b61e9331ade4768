/*
 * Anchors made ahead: pairs of sockets, so that a connect or an accept waits for none to be made. Filled when the
 * control thread has nothing better to do.
 */
#ifndef FLAT_OFFLOAD_PAIRS_H
#define FLAT_OFFLOAD_PAIRS_H

#include <stdbool.h>

#include "base/base.h"

/* Two per connection: a burst of sixteen finds its pairs ready, and an idle flatd holds few descriptors. */
#define FLAT_PAIRS_MAX 32

/** A connected pair of AF_UNIX stream sockets. */
struct flat_pair {
	int near;	 /* goes to the application */
	int far;	 /* stays here */
	uint64_t inode;	 /* of `near`: what /proc/PID/fd shows */
	uint64_t cookie; /* of `near`: SO_COOKIE; 0: the kernel does not tell */
};

/** Owner: the control thread. All-zero is empty. */
struct flat_pairs {
	struct flat_pair v[FLAT_PAIRS_MAX];
	uint32_t n;
};

/** A pair, the caller's from here: a ready one, else a new one. 0, or -EMFILE, -ENFILE, -ENOMEM. */
FLAT_MUST_CHECK int flat_pairs_take(struct flat_pairs *p, struct flat_pair *out);
/** Makes one more where one is missing. False: there is none missing, or none to be had. */
bool flat_pairs_fill(struct flat_pairs *p);
/** Closes those that nobody took. */
void flat_pairs_fini(struct flat_pairs *p);

#endif
