/*
 * The endpoints of one port of a service, or of a subset of it, as balancing sees them: whose turn it is, who is how
 * busy, which endpoint a hash falls on. Kept per host, port and subset, so that a reload which changes something else
 * does not begin anew with the first endpoint. Control thread.
 */
#ifndef FLAT_OFFLOAD_CLUSTER_H
#define FLAT_OFFLOAD_CLUSTER_H

#include "base/map.h"
#include "mesh/balance.h"
#include "mesh/hashing.h"
#include "vq/attach.h"

/* Requests that are on their way to an endpoint. */
struct flat_cluster_host {
	struct flat_addr addr;
	uint32_t active;
};

struct flat_cluster {
	struct flat_balance_state turns; /* ROUND_ROBIN */
	struct flat_hash_table table;	 /* RING_HASH, MAGLEV; made of what `sum` is the sum of */
	uint64_t sum;
	struct flat_cluster_host *hosts; /* in the order of the endpoints of the last pick */
	uint32_t n_hosts;
	uint32_t busy; /* requests that hold it */
	uint64_t random;
	bool dropped; /* out of the map: goes with the last request */
	uint16_t port;
	char host[]; /* the key is the host, a NUL, the port, and the subset's name */
};

/* What is asked of a pick. */
struct flat_choice {
	const struct flat_lb *lb; /* NULL: round robin */
	bool hashed;		  /* `hash` is there; without it, chance */
	uint64_t hash;
	bool dry; /* asks only: nobody's turn is used up */
	const struct flat_endpoint *v;
	uint32_t n;
	flat_balance_usable_fn *usable; /* NULL: all */
	void *arg;
};

/** The cluster of a key, made if there is none; NULL without memory. Borrowed from the map. */
struct flat_cluster *flat_cluster_get(struct flat_map *clusters, const char *host, uint16_t port,
				      const char *subset);

/** Drops those for whose host and port `keep` says no. */
void flat_clusters_keep(struct flat_map *clusters,
			bool (*keep)(const void *arg, const char *host, uint16_t port),
			const void *arg);
/** Frees all; no request holds one. */
void flat_clusters_free(struct flat_map *clusters);

/** Picks an endpoint: its index, -EHOSTUNREACH (none is usable), -ENOMEM. O(n). */
FLAT_MUST_CHECK int flat_cluster_pick(struct flat_cluster *c, const struct flat_choice *choice);

/** A request goes to an endpoint; it holds the cluster until flat_cluster_leave(). */
void flat_cluster_enter(struct flat_cluster *c, const struct flat_addr *addr);
void flat_cluster_leave(struct flat_cluster *c, const struct flat_addr *addr);

#endif
