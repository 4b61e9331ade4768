/*
 * Consistent hashing of requests to endpoints: a ring of points (Karger et al. 1997, in the form of libketama) and
 * Maglev's table (Eisenbud et al., NSDI 2016, 3.4). Hash function, names of points and order of filling are Envoy's, so
 * that both give a request to the same endpoint of the same list: xxHash64 of "ADDRESS:PORT_N" for the ring, of
 * "ADDRESS:PORT" with seeds 0 and 1 for the table.
 */
#ifndef FLAT_MESH_HASHING_H
#define FLAT_MESH_HASHING_H

#include "base/base.h"
#include "mesh/traffic.h"

/* Points of a ring where a rule says nothing (Istio's minimumRingSize), and the most: 16 MiB. Weights far apart ask for
 * more points than this; the smallest shares are then rounded up. */
#define FLAT_RING_SIZE_DEFAULT 1024U
#define FLAT_RING_SIZE_MAX (1U << 20)
/* Maglev's: a prime, and the paper's choice; the largest that Envoy takes. */
#define FLAT_MAGLEV_SIZE_DEFAULT 65537U
#define FLAT_MAGLEV_SIZE_MAX 5000011U

/* One endpoint. */
struct flat_hash_host {
	const char *name; /* "ADDRESS:PORT" */
	uint32_t weight;  /* >= 1 */
	uint32_t index;	  /* what a pick gives */
};

struct flat_hash_point {
	uint64_t hash;
	uint32_t index;
};

/* Owner: the caller; one thread. All-zero is the empty table. */
struct flat_hash_table {
	struct flat_hash_point *ring; /* RING_HASH: sorted */
	uint32_t *entries;	      /* MAGLEV */
	uint32_t n;		      /* points or entries */
};

/** xxHash64 with a seed. */
uint64_t flat_xxh64(const void *bytes, size_t len, uint64_t seed);

/**
 * Fills a table for `n` hosts; frees what it held. `size` as in struct flat_lb; kind RING_HASH or MAGLEV (then a
 * prime). `hosts` is sorted by name where Maglev wants it. 0, -ENOMEM (then empty).
 */
FLAT_MUST_CHECK int flat_hash_table_build(struct flat_hash_table *t, enum flat_lb_kind kind,
					  uint32_t size, struct flat_hash_host *hosts, uint32_t n);
void flat_hash_table_fini(struct flat_hash_table *t);

/**
 * The index that a hash falls on; -ENOENT of an empty table. O(log n) or O(1). `attempt` > 0: another place, where the one
 * before led nowhere: the ring's next points, as if it were not there; of Maglev's table another hash.
 */
FLAT_MUST_CHECK int flat_hash_table_pick(const struct flat_hash_table *t, uint64_t hash,
					 uint32_t attempt);

/** Whether `n` is prime. */
bool flat_is_prime(uint32_t n);

#endif
