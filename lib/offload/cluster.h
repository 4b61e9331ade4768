/*
 * The endpoints of one port of a service, or of a subset of it, as balancing sees them: whose turn it is, who is how
 * busy, who failed and is put aside, which endpoint a hash falls on; and how much is asked of them all. Kept per host,
 * port and subset, so that a reload which changes something else does not begin anew. Control thread.
 */
#ifndef FLAT_OFFLOAD_CLUSTER_H
#define FLAT_OFFLOAD_CLUSTER_H

#include <sys/queue.h>

#include "base/map.h"
#include "mesh/balance.h"
#include "mesh/hashing.h"
#include "vq/attach.h"

struct flat_candidates;
struct flat_health_group;
struct flat_l7;
struct flat_l7_upstream;
struct flat_cluster;
struct flat_persist_table;

/* One endpoint, by its address. Held by its cluster while it is one of its endpoints, and by what goes to it. */
struct flat_cluster_host {
	struct flat_addr addr;
	uint32_t refs;
	uint32_t active;  /* requests, or connections that are not read as HTTP, on their way */
	uint32_t conns;	  /* connections to it that requests go over */
	int64_t since_us; /* it came; 0: it was there from the beginning */
	bool failed;	  /* its health checks (health.h) */
	/* Outlier detection (outlier.c). */
	bool ejected;
	int64_t ejected_us;
	uint32_t ejections;			  /* by how much the time aside is multiplied */
	uint32_t run_5xx, run_gateway, run_local; /* errors in a row */
	uint64_t n_requests, n_errors, n_ejected; /* since it came */
};

/* A request that waits until one of the endpoints can be asked. */
struct flat_waiter {
	TAILQ_ENTRY(flat_waiter) link;
	struct flat_cluster *cluster; /* NULL: it does not wait */
	struct flat_cluster *woken;   /* that has room for it since; NULL: none, or it is used */
	struct flat_l7 *l7;
};

struct flat_view;

struct flat_cluster {
	struct flat_cluster_host **hosts; /* in the order of the endpoints of the last pick */
	uint32_t n_hosts;
	uint32_t n_ejected;
	uint64_t stamp;		     /* of the endpoints it was settled for */
	struct flat_outlier outlier; /* a copy of what holds for them; all zero: nothing */
	struct flat_breaker breaker; /* likewise; without bounds where nothing is said */
	int64_t sweep_us;	     /* when it was last looked whose time aside is over */
	uint64_t health;	 /* another number whenever somebody is put aside or comes back */
	struct flat_view *views; /* of the clients that have asked (cluster_view.c) */
	uint32_t n_views;
	uint64_t random;
	/* What is on its way, and what that is bounded by (breaker). */
	uint32_t n_requests;
	uint32_t n_conns;
	uint32_t n_pending; /* requests that wait, or whose connection is being made */
	uint32_t n_retries;
	uint64_t overflows[4]; /* by enum flat_overflow */
	TAILQ_HEAD(, flat_waiter) waiters;
	TAILQ_HEAD(, flat_l7_upstream)
	idle; /* connections without a request, the one idle longest first */
	LIST_ENTRY(flat_cluster) group_link;
	struct flat_health_group *group;    /* health.h; NULL: no health check */
	uint32_t panic;			    /* percent; with fewer healthy ones all are used */
	struct flat_candidates *candidates; /* resolve.c: what the endpoints are */
	uint64_t candidates_stamp;
	struct flat_persist_table *tags; /* persist.c: of the endpoints, for sessions; NULL: none */
	uint32_t refs;			 /* requests and connections that hold it */
	bool dropped;			 /* out of the map: goes with the last of them */
	uint16_t port;
	char host[]; /* the key is the host, a NUL, the port, and the subset's name */
};

/* Without bounds. */
extern const struct flat_breaker flat_unbroken;

enum flat_overflow {
	FLAT_OVERFLOW_CONNECTIONS,
	FLAT_OVERFLOW_PENDING,
	FLAT_OVERFLOW_REQUESTS,
	FLAT_OVERFLOW_RETRIES,
};

/* What is asked of a pick. */
struct flat_choice {
	struct flat_traffic traffic;		 /* all NULL: the defaults */
	const struct flat_locality_lb *locality; /* where traffic.lb says nothing of it */
	const struct flat_workload *source;	 /* NULL: none */
	bool hashed;				 /* `hash` is there; without it, chance */
	uint64_t hash;
	bool dry;			  /* asks only: nobody's turn is used up */
	struct flat_health_group *health; /* NULL: no health check */
	const struct flat_endpoint *v;
	uint32_t n;
	uint64_t stamp; /* another one whenever v, n or traffic are others; not 0 */
	int64_t now_us;
	const struct flat_addr
	    *avoid; /* endpoints that were tried: others are, if they are picked soon */
	uint32_t n_avoid;
	bool far;      /* levels that were tried are left after two attempts */
	uint32_t kept; /* 1 + the index of the only endpoint that will do; 0: any */
};

/** The cluster of a key, made if there is none; NULL without memory. Borrowed from the map. */
struct flat_cluster *flat_cluster_get(struct flat_map *clusters, const char *host, uint16_t port,
				      const char *subset);
/** The name of its subset; "": none. */
const char *flat_cluster_subset(const struct flat_cluster *c);

/** Drops those for whose host and port `keep` says no. */
void flat_clusters_keep(struct flat_map *clusters,
			bool (*keep)(const void *arg, const char *host, uint16_t port),
			const void *arg);
/** Frees all; nothing holds one. */
void flat_clusters_free(struct flat_map *clusters);
/** Holds a cluster, and gives it back. */
void flat_cluster_hold(struct flat_cluster *c);
void flat_cluster_drop(struct flat_cluster *c);

/** Picks an endpoint: its index, -EHOSTUNREACH (none is usable), -ENOMEM. */
FLAT_MUST_CHECK int flat_cluster_pick(struct flat_cluster *c, const struct flat_choice *choice);

/** An endpoint passed its health check, or failed it. One that passes is put aside no more. */
void flat_cluster_checked(struct flat_cluster *c, const struct flat_addr *addr, bool failed);

/** Whether nothing goes there while there are others. */
static inline bool flat_cluster_host_down(const struct flat_cluster_host *host)
{
	return host->ejected || host->failed;
}

/** Something goes to an endpoint of it; holds both until flat_cluster_leave(). */
void flat_cluster_enter(struct flat_cluster *c, struct flat_cluster_host *host);
void flat_cluster_leave(struct flat_cluster *c, struct flat_cluster_host *host);
void flat_cluster_host_put(struct flat_cluster_host *host);

/* --- cluster_view.c --- */

/** Picks within the hosts as they are settled; as flat_cluster_pick(). */
FLAT_MUST_CHECK int flat_view_pick(struct flat_cluster *c, const struct flat_choice *choice);
/** Forgets all views; `turns` are kept where the endpoints are the same many. */
void flat_views_free(struct flat_cluster *c);

/* --- outlier.c --- */

/* How an attempt ended. */
enum flat_outcome {
	FLAT_OUTCOME_STATUS,  /* a response of that status */
	FLAT_OUTCOME_CONNECT, /* a connection was made, for a request */
	FLAT_OUTCOME_OPENED,  /* a connection was made that is not read as HTTP */
	FLAT_OUTCOME_FAILED,  /* none was made, or it ended before the response */
	FLAT_OUTCOME_TIMEOUT, /* no response came in time */
};

/** Counts an outcome of a host, and puts it aside if that is due. */
void flat_outlier_note(struct flat_cluster *c, struct flat_cluster_host *host,
		       enum flat_outcome outcome, unsigned status, int64_t now_us);
/** Takes back those whose time aside is over. */
void flat_outlier_sweep(struct flat_cluster *c, int64_t now_us);
/** One is taken back before its time. */
void flat_outlier_take_back(struct flat_cluster *c, struct flat_cluster_host *host);
/** All are taken back. */
void flat_outlier_clear(struct flat_cluster *c);

#endif
