/*
 * Which endpoints are nearer: levels (priorities) by locality or by labels, and shares between localities, as Istio
 * computes them from localityLbSetting; how much each level gets when some of its endpoints are put aside, as Envoy does.
 * A locality is "region/zone/subzone", shorter where the end is not known; "" or NULL: unknown.
 */
#ifndef FLAT_MESH_LOCALITY_H
#define FLAT_MESH_LOCALITY_H

#include "mesh/mesh.h"

struct flat_locality_share {
	const char *to; /* a locality, or with "*" for what may be anything */
	uint32_t weight;
};

struct flat_locality_spread {
	const char *from; /* clients of this locality, likewise */
	const struct flat_locality_share *to;
	uint32_t n_to;
};

struct flat_locality_failover {
	const char *from, *to; /* regions */
};

/* localityLbSetting. */
struct flat_locality_lb {
	bool off; /* enabled: false */
	const struct flat_locality_spread *distribute;
	uint32_t n_distribute;
	const struct flat_locality_failover *failover;
	uint32_t n_failover;
	const char *const *priority; /* failoverPriority: "LABEL" or "LABEL=VALUE" */
	uint32_t n_priority;
};

/* Where an endpoint stands for one client. */
struct flat_place {
	uint32_t level; /* 0: the nearest; without gaps */
	double
	    share; /* of its weight: 0 where it gets nothing; 1 where localities have no shares */
};

/** The locality that labels tell (topology.kubernetes.io/..., istio-locality), in `buf`; NULL: none. */
const char *flat_locality_of(const struct flat_labels *labels, char *buf, size_t size);

/** Whether a locality is one that a pattern means; an unknown one is meant by "*" alone. */
bool flat_locality_match(const char *pattern, const char *locality);

/** How far apart: 0 the same subzone, 1 the same zone, 2 the same region, 3 none of them. */
uint32_t flat_locality_distance(const char *a, const char *b);

/**
 * Places `n` endpoints for a client. `failover`: endpoints that fail are put aside, so that levels make sense. Returns
 * the number of levels, 1 at least.
 */
uint32_t flat_locality_places(const struct flat_locality_lb *lb, bool failover,
			      const char *locality, const struct flat_labels *labels,
			      const struct flat_endpoint *v, uint32_t n, struct flat_place *places);

/* One level. */
struct flat_level_load {
	uint32_t total, healthy; /* endpoints */
	uint32_t load;		 /* out: percent of the requests; all together 100 */
	bool panic;		 /* out: so few are healthy that all are used */
};

/**
 * Shares the requests out among levels: each gets what its healthy ones can bear, as if 100 of them could bear 140, and
 * what is missing goes to the next. `panic`: percent of healthy ones below which all are used; 0: never.
 */
void flat_level_loads(struct flat_level_load *levels, uint32_t n, uint32_t panic);

#endif
