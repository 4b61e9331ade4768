#include "mesh/balance.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

int flat_balance_reset(struct flat_balance_state *state, uint32_t n)
{
	flat_balance_fini(state);
	if (n == 0)
		return 0;
	if (n > INT_MAX)
		return -ENOMEM;
	state->current = calloc(n, sizeof(*state->current));
	if (!state->current)
		return -ENOMEM;
	state->n = n;
	return 0;
}

void flat_balance_fini(struct flat_balance_state *state)
{
	free(state->current);
	state->current = NULL;
	state->n = 0;
}

int flat_balance_pick(struct flat_balance_state *state, const struct flat_endpoint *endpoints,
		      uint32_t n, flat_balance_usable_fn *usable, void *arg)
{
	int64_t total = 0;
	int best = -1, ret;
	uint32_t i;

	if (state->n != n) {
		ret = flat_balance_reset(state, n);
		if (ret)
			return ret;
	}
	for (i = 0; i < n; i++) {
		if (usable && !usable(arg, i, &endpoints[i]))
			continue;
		/* |current| stays below the sum of the weights: 2^32 endpoints of 2^31 fit in 64
		 * bits. */
		state->current[i] += endpoints[i].weight;
		total += endpoints[i].weight;
		if (best < 0 || state->current[i] > state->current[best])
			best = (int)i;
	}
	if (best < 0)
		return -EHOSTUNREACH;
	state->current[best] -= total;
	return best;
}
