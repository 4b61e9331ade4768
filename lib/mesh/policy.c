#include "mesh/policy.h"

#include <string.h>

#include "mesh/internal.h"

static void decided_by_peer(struct flat_decided_by *by, const struct flat_peer_policy *policy)
{
	if (!by)
		return;
	by->kind = "PeerAuthentication";
	by->namespace = policy->namespace;
	by->name = policy->name;
	by->where = policy->where;
}

/* The first policy without selector: the one of the namespace as a whole. */
static const struct flat_peer_policy *peer_default(const struct mesh_scope *scope)
{
	uint32_t i;

	for (i = 0; scope && i < scope->n_peer; i++)
		if (scope->peer[i]->selector.n == 0)
			return scope->peer[i];
	return NULL;
}

/* The first policy whose selector holds for the workload. */
static const struct flat_peer_policy *peer_selected(const struct mesh_scope *scope,
						    const struct flat_workload *workload)
{
	uint32_t i;

	for (i = 0; scope && i < scope->n_peer; i++)
		if (scope->peer[i]->selector.n > 0 &&
		    flat_labels_match(&scope->peer[i]->selector, &workload->labels))
			return scope->peer[i];
	return NULL;
}

static enum flat_mtls_mode mtls_of(const struct flat_peer_policy *policy, uint16_t port)
{
	uint32_t i;

	for (i = 0; i < policy->n_ports; i++)
		if (policy->ports[i].port == port && policy->ports[i].mode != FLAT_MTLS_UNSET)
			return policy->ports[i].mode;
	return policy->mode;
}

enum flat_mtls_mode flat_mesh_mtls(const struct flat_mesh *mesh,
				   const struct flat_workload *workload, uint16_t port,
				   struct flat_decided_by *by)
{
	const struct flat_peer_policy *chain[3] = {NULL, NULL, NULL};
	const struct mesh_scope *scope;
	size_t i;

	if (by)
		memset(by, 0, sizeof(*by));
	if (workload) {
		scope = mesh_scope(mesh, workload->namespace);
		/* As in Istio, a policy with a selector in the root namespace selects nothing. */
		if (strcmp(workload->namespace, mesh->root_namespace) != 0)
			chain[0] = peer_selected(scope, workload);
		chain[1] = peer_default(scope);
	}
	chain[2] = peer_default(mesh_scope(mesh, mesh->root_namespace));
	for (i = 0; i < FLAT_ARRAY_SIZE(chain); i++) {
		enum flat_mtls_mode mode;

		if (!chain[i])
			continue;
		mode = mtls_of(chain[i], port);
		if (mode != FLAT_MTLS_UNSET) {
			decided_by_peer(by, chain[i]);
			return mode;
		}
	}
	return FLAT_MTLS_PERMISSIVE;
}

/* The Sidecar for a workload: the first that selects it, else the first without selector. */
static const struct flat_egress_policy *egress_in(const struct mesh_scope *scope,
						  const struct flat_labels *labels)
{
	uint32_t i;

	for (i = 0; scope && labels && i < scope->n_egress; i++)
		if (scope->egress[i]->selector.n > 0 &&
		    flat_labels_match(&scope->egress[i]->selector, labels))
			return scope->egress[i];
	for (i = 0; scope && i < scope->n_egress; i++)
		if (scope->egress[i]->selector.n == 0)
			return scope->egress[i];
	return NULL;
}

const struct flat_egress_policy *mesh_sidecar_of(const struct flat_mesh *mesh,
						 const struct flat_workload *workload)
{
	const struct flat_egress_policy *policy = NULL;

	if (workload)
		policy = egress_in(mesh_scope(mesh, workload->namespace), &workload->labels);
	return policy ? policy : egress_in(mesh_scope(mesh, mesh->root_namespace), NULL);
}

enum flat_egress_mode flat_mesh_egress(const struct flat_mesh *mesh,
				       const struct flat_workload *workload,
				       struct flat_decided_by *by)
{
	const struct flat_egress_policy *policy = mesh_sidecar_of(mesh, workload);

	if (by)
		memset(by, 0, sizeof(*by));
	/* A Sidecar that says nothing on the matter leaves it to the mesh. */
	if (!policy || policy->mode == FLAT_EGRESS_UNSET)
		policy = mesh->mesh_egress;
	if (!policy || policy->mode == FLAT_EGRESS_UNSET)
		return FLAT_EGRESS_ALLOW_ANY;
	if (by) {
		by->kind = policy->kind;
		by->namespace = policy->namespace;
		by->name = policy->name;
		by->where = policy->where;
	}
	return policy->mode;
}

const char *flat_mtls_mode_name(enum flat_mtls_mode mode)
{
	static const char *const names[] = {
	    [FLAT_MTLS_UNSET] = "UNSET",
	    [FLAT_MTLS_DISABLE] = "DISABLE",
	    [FLAT_MTLS_PERMISSIVE] = "PERMISSIVE",
	    [FLAT_MTLS_STRICT] = "STRICT",
	};

	return names[mode];
}

const char *flat_egress_mode_name(enum flat_egress_mode mode)
{
	static const char *const names[] = {
	    [FLAT_EGRESS_UNSET] = "UNSET",
	    [FLAT_EGRESS_ALLOW_ANY] = "ALLOW_ANY",
	    [FLAT_EGRESS_REGISTRY_ONLY] = "REGISTRY_ONLY",
	};

	return names[mode];
}
