/*
 * What one client may see of the mesh: the services that are exported to its namespace (exportTo) and that its Sidecar
 * imports (egress.hosts). To everybody else they are not there. No boundary: who may be a server's client is said by
 * AuthorizationPolicies (mesh/authz.h).
 */
#ifndef FLAT_MESH_SCOPE_H
#define FLAT_MESH_SCOPE_H

#include "mesh/mesh.h"

struct flat_egress_policy;

/* Of one client, for one port. Small, made when it is needed; valid as long as the mesh. */
struct flat_scope {
	const struct flat_mesh *mesh;
	const char *namespace; /* of the client; NULL: it has none */
	const struct flat_egress_policy
	    *sidecar;	/* whose hosts it imports; NULL: all that are exported */
	uint16_t port;	/* of services that it asks for; 0: any */
	bool unbounded; /* no client's: it sees everything */
};

/**
 * The scope of a workload's client (NULL: of a client without workload) for services' port `port`, 0: any. Its Sidecar is that
 * of flat_mesh_egress(). `workload` is one of this mesh.
 */
struct flat_scope flat_mesh_scope(const struct flat_mesh *mesh,
				  const struct flat_workload *workload, uint16_t port);

/** Whether any client sees less than everything. */
bool flat_mesh_is_scoped(const struct flat_mesh *mesh);

/** Whether some client may not see a service; true also where it cannot be told without asking for each. */
bool flat_mesh_is_veiled(const struct flat_mesh *mesh, const struct flat_service *service);

/** Whether clients of a namespace (NULL: of none) get a service by exportTo, whatever their Sidecars import. */
bool flat_service_exported(const struct flat_service *service, const char *namespace);

/** Whether the client sees a service on the scope's port. A few look-ups in hash maps where a Sidecar holds, else none. */
bool flat_scope_sees(const struct flat_scope *scope, const struct flat_service *service);

/** As flat_mesh_service_by_host(), of what the client sees. *hidden: one that it does not see, if no other was found. */
const struct flat_service *flat_scope_by_host(const struct flat_scope *scope, const char *host,
					      const struct flat_service **hidden);

/** As flat_mesh_service_by_addr() with the scope's port, of what the client sees. *hidden: likewise. */
const struct flat_service *flat_scope_by_addr(const struct flat_scope *scope,
					      const struct flat_ip *ip,
					      const struct flat_service_port **port_out,
					      const struct flat_service **hidden);

/** As flat_mesh_service_owning(), of what the client sees on some port. */
const struct flat_service *flat_scope_owning(const struct flat_scope *scope,
					     const struct flat_ip *ip);

/**
 * Whether there are services with an endpoint at `ip` and the scope's port, and the client sees none of them: then *hidden is
 * the first of those.
 */
bool flat_scope_hides_endpoint(const struct flat_scope *scope, const struct flat_ip *ip,
			       const struct flat_service **hidden);

/** Why the client does not see a service: a sentence with file and line, cut to `size`. Returns `text`. */
const char *flat_scope_why(const struct flat_scope *scope, const struct flat_service *service,
			   char *text, size_t size);

#endif
