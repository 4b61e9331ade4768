/*
 * Local rate limits of HTTP requests: EnvoyFilters that insert envoy.filters.http.local_ratelimit at a workload's server side.
 * Source: istio.io task "Enabling Rate Limits using Envoy", Envoy's LocalRateLimit (v3).
 */
#ifndef FLAT_MESH_LIMIT_H
#define FLAT_MESH_LIMIT_H

#include "mesh/route.h"

/* Limits of a mesh: each is asked for each request that a server gets. */
#define FLAT_LIMITS_MAX 64U

struct flat_local_limit {
	const char *name, *namespace; /* of the EnvoyFilter */
	struct flat_labels selector;  /* empty: the namespace, or of the root namespace the mesh */
	uint32_t max_tokens, per_fill;
	uint32_t interval_ms;
	uint32_t enabled_of_million, enforced_of_million;
	uint16_t status;		 /* of refusals */
	bool tells;			 /* x-ratelimit-limit, -remaining, -reset */
	struct flat_name_value *headers; /* of refusals */
	uint32_t n_headers;
	uint32_t index; /* among the mesh's */
	struct flat_where where;
};

struct flat_mesh;

/** Number of limits, and one of them. */
uint32_t flat_mesh_n_limits(const struct flat_mesh *mesh);
const struct flat_local_limit *flat_mesh_limit(const struct flat_mesh *mesh, uint32_t i);
/** Whether a limit is for a workload (NULL: for a server that has none). */
bool flat_limit_selects(const struct flat_mesh *mesh, const struct flat_local_limit *limit,
			const struct flat_workload *workload);
/** Whether some limit is. */
bool flat_mesh_limited(const struct flat_mesh *mesh, const struct flat_workload *workload);

/** Adds one, from the mesh's pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_limit(struct flat_mesh *mesh, struct flat_local_limit *limit);

#endif
