/*
 * Choosing an endpoint: smooth weighted round robin, the algorithm of nginx's upstream module. Each
 * pick adds every usable endpoint's weight to its current value, takes the largest, and subtracts
 * the sum of the weights from it: exact shares over a full turn, and no bursts to one endpoint.
 */
#ifndef FLAT_MESH_BALANCE_H
#define FLAT_MESH_BALANCE_H

#include "mesh/mesh.h"

/* Owner: the caller; one thread. All-zero is a valid start; grows on its first pick. */
struct flat_balance_state {
	int64_t *current; /* per endpoint, in the order of the port's endpoints */
	uint32_t n;
};

/** Says whether endpoint `index` may be picked now; called once per endpoint and pick. */
typedef bool flat_balance_usable_fn(void *arg, uint32_t index,
				    const struct flat_endpoint *endpoint);

/**
 * Prepares state for `n` endpoints, all at rest; frees what it held. 0 or -ENOMEM (the state is
 * then empty). Call it when a port's endpoints change; a pick calls it where the number differs.
 */
FLAT_MUST_CHECK int flat_balance_reset(struct flat_balance_state *state, uint32_t n);

/** Frees the state's memory. */
void flat_balance_fini(struct flat_balance_state *state);

/**
 * Picks one of `n` endpoints. `usable` NULL: all are. Returns its index, -EHOSTUNREACH if none is
 * usable (or n is 0), -ENOMEM. O(n); allocates only when `n` differs from the state's.
 */
FLAT_MUST_CHECK int flat_balance_pick(struct flat_balance_state *state,
				      const struct flat_endpoint *endpoints, uint32_t n,
				      flat_balance_usable_fn *usable, void *arg);

#endif
