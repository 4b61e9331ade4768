#include "mesh/authn.h"

#include <string.h>

#include "mesh/internal.h"

static bool selects(const struct flat_request_authn *policy, const struct flat_workload *workload)
{
	return mesh_policy_selects(policy->namespace, &policy->targets, &policy->selector,
				   workload);
}

static uint32_t add_rules(const struct mesh_scope *scope, const struct flat_workload *workload,
			  const struct flat_jwt_rule **v, uint32_t n)
{
	for (uint32_t i = 0; scope && i < scope->n_authn; i++) {
		const struct flat_request_authn *policy = scope->authn[i];

		if (!selects(policy, workload))
			continue;
		for (uint32_t k = 0; k < policy->n_rules; k++)
			v[n++] = &policy->rules[k];
	}
	return n;
}

uint32_t flat_mesh_jwt_rules(const struct flat_mesh *mesh, const struct flat_workload *workload,
			     const struct flat_jwt_rule *v[2 * FLAT_JWT_RULES_MAX])
{
	const struct mesh_scope *root = mesh_scope(mesh, mesh->root_namespace);
	const struct mesh_scope *own = workload ? mesh_scope(mesh, workload->namespace) : NULL;
	uint32_t n = add_rules(root, workload, v, 0);

	/* A scope has at most FLAT_JWT_RULES_MAX: index.c refuses more. */
	return own != root ? add_rules(own, workload, v, n) : n;
}

bool flat_mesh_wants_jwt(const struct flat_mesh *mesh, const struct flat_workload *workload)
{
	const struct flat_jwt_rule *v[2 * FLAT_JWT_RULES_MAX];

	return flat_mesh_jwt_rules(mesh, workload, v) > 0;
}

uint32_t flat_mesh_n_jwt_rules(const struct flat_mesh *mesh)
{
	return mesh->jwt_rules.n;
}

const struct flat_jwt_rule *flat_mesh_jwt_rule(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->jwt_rules.n ? mesh->jwt_rules.v[i] : NULL;
}
