#include "offload/index.h"

#include <stdlib.h>
#include <string.h>

/* Numbers are given out in a row: Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4) spreads them. */
#define SPREAD 0x9e3779b97f4a7c15ULL
#define CHAINS_FIRST 64U
#define CHAINS_MAX (1U << 24)

static struct flat_indexed **chain_in(struct flat_indexed **chains, uint32_t n, uint64_t key)
{
	return &chains[(key * SPREAD >> 32) & (n - 1)];
}

static void link_in(struct flat_indexed **chain, struct flat_indexed *thing)
{
	thing->next = *chain;
	thing->prev = chain;
	if (thing->next)
		thing->next->prev = &thing->next;
	*chain = thing;
}

/* The order of a chain is kept: last ones first. */
static void move_chain(struct flat_indexed *thing, struct flat_indexed **chains, uint32_t n)
{
	struct flat_indexed *last = NULL;
	while (thing) {
		struct flat_indexed *next = thing->next;
		thing->next = last;
		last = thing;
		thing = next;
	}
	while (last) {
		struct flat_indexed *next = last->next;
		link_in(chain_in(chains, n, last->key), last);
		last = next;
	}
}

static void grow(struct flat_index *x)
{
	uint32_t n = x->n_chains ? x->n_chains * 2 : CHAINS_FIRST;
	struct flat_indexed **chains = n <= CHAINS_MAX ? calloc(n, sizeof(*chains)) : NULL;
	if (!chains)
		return;
	if (x->n_chains == 0)
		move_chain(x->one, chains, n);
	for (uint32_t i = 0; i < x->n_chains; i++)
		move_chain(x->chains[i], chains, n);
	free(x->chains);
	x->one = NULL;
	x->chains = chains;
	x->n_chains = n;
}

void flat_index_put(struct flat_index *x, struct flat_indexed *thing, uint64_t key)
{
	if (x->n >= x->n_chains)
		grow(x);
	thing->key = key;
	link_in(x->n_chains ? chain_in(x->chains, x->n_chains, key) : &x->one, thing);
	x->n++;
}

void flat_index_remove(struct flat_index *x, struct flat_indexed *thing)
{
	if (!thing->prev)
		return;
	*thing->prev = thing->next;
	if (thing->next)
		thing->next->prev = thing->prev;
	thing->next = NULL;
	thing->prev = NULL;
	x->n--;
}

static struct flat_indexed *with(struct flat_indexed *thing, uint64_t key)
{
	while (thing && thing->key != key)
		thing = thing->next;
	return thing;
}

struct flat_indexed *flat_index_find(const struct flat_index *x, uint64_t key)
{
	return with(x->n_chains ? *chain_in(x->chains, x->n_chains, key) : x->one, key);
}

struct flat_indexed *flat_indexed_next(const struct flat_indexed *thing)
{
	return with(thing->next, thing->key);
}

void flat_index_fini(struct flat_index *x)
{
	free(x->chains);
	memset(x, 0, sizeof(*x));
}
