#include "mesh/limit.h"

#include <string.h>

#include "mesh/internal.h"

uint32_t flat_mesh_n_limits(const struct flat_mesh *mesh)
{
	return mesh->limits.n;
}

const struct flat_local_limit *flat_mesh_limit(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->limits.n ? mesh->limits.v[i] : NULL;
}

bool flat_limit_selects(const struct flat_mesh *mesh, const struct flat_local_limit *limit,
			const struct flat_workload *workload)
{
	static const struct flat_labels none;
	bool root = strcmp(limit->namespace, mesh->root_namespace) == 0;

	/* As in Istio: in the root namespace it is for workloads of any. */
	if (!root && (!workload || strcmp(limit->namespace, workload->namespace) != 0))
		return false;
	return flat_labels_match(&limit->selector, workload ? &workload->labels : &none);
}

bool flat_mesh_limited(const struct flat_mesh *mesh, const struct flat_workload *workload)
{
	for (uint32_t i = 0; i < mesh->limits.n; i++) {
		if (flat_limit_selects(mesh, mesh->limits.v[i], workload))
			return true;
	}
	return false;
}
