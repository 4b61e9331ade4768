/*
 * What a workload accepts from plain clients (PeerAuthentication), and what it may connect to
 * outside the mesh (Sidecar and MeshConfig outboundTrafficPolicy).
 */
#ifndef FLAT_MESH_POLICY_H
#define FLAT_MESH_POLICY_H

#include "mesh/mesh.h"

enum flat_mtls_mode {
	FLAT_MTLS_UNSET,      /* inherited; never the result of a query */
	FLAT_MTLS_DISABLE,    /* plain clients accepted */
	FLAT_MTLS_PERMISSIVE, /* plain clients accepted */
	FLAT_MTLS_STRICT,     /* mesh clients only */
};

enum flat_egress_mode {
	FLAT_EGRESS_UNSET, /* inherited; never the result of a query */
	FLAT_EGRESS_ALLOW_ANY,
	FLAT_EGRESS_REGISTRY_ONLY, /* only hosts and addresses of services */
};

/* Which resource decided; kind, name and namespace are NULL when it is the default. */
struct flat_decided_by {
	const char *kind;
	const char *namespace;
	const char *name;
	struct flat_where where;
};

/**
 * The mode in which `workload` accepts connections on `port` (the port it listens on, host order):
 * the port's of the workload's policy, else the workload's, its namespace's, the mesh's, else
 * PERMISSIVE. NULL workload: the mesh's. `by` may be NULL.
 */
enum flat_mtls_mode flat_mesh_mtls(const struct flat_mesh *mesh,
				   const struct flat_workload *workload, uint16_t port,
				   struct flat_decided_by *by);

/**
 * What `workload` may connect to: by the Sidecar that selects it, else the Sidecar of its
 * namespace, else of the root namespace, else MeshConfig, else ALLOW_ANY. NULL workload: from the
 * root namespace on. `by` may be NULL.
 */
enum flat_egress_mode flat_mesh_egress(const struct flat_mesh *mesh,
				       const struct flat_workload *workload,
				       struct flat_decided_by *by);

/** "UNSET", "DISABLE", "PERMISSIVE", "STRICT". */
const char *flat_mtls_mode_name(enum flat_mtls_mode mode);

/** "UNSET", "ALLOW_ANY", "REGISTRY_ONLY". */
const char *flat_egress_mode_name(enum flat_egress_mode mode);

#endif
