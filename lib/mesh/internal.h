/* What the files of lib/mesh share about struct flat_mesh. Nobody else includes this. */
#ifndef FLAT_MESH_INTERNAL_H
#define FLAT_MESH_INTERNAL_H

#include <stdatomic.h>

#include "base/map.h"
#include "mesh/build.h"
#include "mesh/ext_authz.h"
#include "mesh/persist.h"
#include "mesh/scope.h"

/* A growing array of pointers. */
struct mesh_vec {
	void **v;
	uint32_t n;
	uint32_t cap;
};

/* Key of the address look-ups; no padding, so that it can be hashed as bytes. */
struct mesh_addr_key {
	uint8_t family;
	uint8_t prefix;
	uint16_t port; /* 0: any port of the service */
	uint8_t bytes[16];
};
_Static_assert(sizeof(struct mesh_addr_key) == 20, "hashed as bytes");

struct mesh_port_ref {
	struct mesh_addr_key key;
	const struct flat_service *service;
	const struct flat_service_port *port; /* NULL: the service as a whole */
	struct mesh_port_ref *next;	      /* another of the same key; who comes first, holds */
};

/* Authorization policies of one namespace, in load order. */
struct mesh_policies {
	const struct flat_authz_policy **v;
	uint32_t n;
};

/* Peer and egress policies of one namespace, in load order. */
struct mesh_scope {
	struct mesh_policies authz;
	const struct flat_request_authn **authn;
	uint32_t n_authn;
	uint32_t n_jwt_rules; /* of all of those */
	const struct flat_peer_policy **peer;
	uint32_t n_peer;
	const struct flat_egress_policy **egress;
	uint32_t n_egress;
	/* Counted first, then filled. */
	uint32_t want_authz, want_authn, want_peer, want_egress;
};

/* What a mesh keeps beside its pool. */
struct mesh_kept {
	void (*put)(void *what);
	void *what;
	struct mesh_kept *next;
};

/* Immutable after flat_mesh_finish() except for `refs`. */
struct flat_mesh {
	atomic_uint refs;
	struct flat_pool pool;
	struct mesh_kept *kept;
	const char *root_namespace;
	struct mesh_vec services;	       /* struct flat_service */
	struct mesh_vec aliases;	       /* struct flat_alias */
	struct mesh_vec workloads;	       /* struct flat_workload */
	struct mesh_vec authz;		       /* struct flat_authz_policy */
	struct mesh_vec ext_authz;	       /* struct flat_ext_authz */
	const char *asked[FLAT_EXT_AUTHZ_MAX]; /* names that CUSTOM policies say, sorted */
	uint32_t n_asked;
	uint32_t n_notes;	       /* policies that decide nothing: AUDIT, and under dry run */
	struct mesh_vec authn;	       /* struct flat_request_authn */
	struct mesh_vec jwt_rules;     /* struct flat_jwt_rule, of all of them */
	struct mesh_vec peer;	       /* struct flat_peer_policy */
	struct mesh_vec egress;	       /* struct flat_egress_policy */
	struct mesh_vec virtual;       /* struct flat_virtual_service */
	struct mesh_vec rules;	       /* struct flat_destination_rule */
	struct mesh_vec gateways;      /* struct flat_gateway */
	struct mesh_vec secrets;       /* struct flat_secret */
	struct mesh_vec config_maps;   /* struct flat_config_map */
	struct mesh_vec backend_tls;   /* struct flat_backend_tls */
	struct mesh_vec limits;	       /* struct flat_local_limit */
	struct mesh_vec rates;	       /* struct flat_rate_limit */
	struct mesh_vec limit_patches; /* struct flat_limit_patch */
	struct mesh_vec admissions;    /* struct flat_admission */
	struct mesh_vec compressors;   /* struct flat_compressor */
	struct mesh_vec times;	       /* struct flat_times_patch */
	struct mesh_vec hedges;	       /* struct flat_hedge_patch */
	struct mesh_vec health;	       /* struct flat_health_check */
	struct mesh_vec telemetry;     /* struct flat_telemetry */
	struct mesh_vec telemetry_providers;
	struct flat_telemetry_defaults telemetry_defaults;
	struct flat_observation *observations; /* two of each workload, and of none */
	bool observes, tells;
	bool scoped;	      /* some client sees less than all services */
	uint32_t n_listeners; /* of all Sidecars */

	struct flat_map hosts;	     /* host -> struct flat_service */
	struct flat_map alias_hosts; /* host -> struct flat_alias */
	struct flat_map addrs;	     /* mesh_addr_key -> struct mesh_port_ref */
	struct flat_map endpoints; /* mesh_addr_key -> struct mesh_port_ref, of all that have it */
	struct mesh_port_ref *spare;  /* that patches left */
	struct flat_map workload_ids; /* "namespace/name" -> struct flat_workload */
	struct flat_map scopes;	      /* namespace -> struct mesh_scope */
	struct flat_map
	    virtual_hosts;	  /* service's or literal host -> struct mesh_virtual, a chain */
	struct flat_map l4_hosts; /* likewise, of those with routes of connections */
	/* Service's host, or "*.x" -> struct flat_destination_rule, a chain in load order. */
	struct flat_map rules_by_host;
	bool wild_rules;			 /* some are of wildcards */
	const struct flat_locality_lb *locality; /* MeshConfig.localityLbSetting; NULL: not said */
	uint32_t n_routes;
	uint32_t n_destinations;
	const char *const *trust_aliases; /* MeshConfig.trustDomainAliases */
	uint32_t n_trust_aliases;
	uint32_t trusted_proxies;   /* MeshConfig.defaultConfig.gatewayTopology.numTrustedProxies */
	bool decode_slashes;	    /* MeshConfig.pathNormalization: DECODE_AND_MERGE_SLASHES */
	bool persists;		    /* a route or a service has sessions */
	const uint8_t *persist_key; /* mesh/persist.h */
	const struct flat_egress_policy *mesh_egress;
	struct flat_export exports[FLAT_EXPORT_KINDS]; /* of resources that say nothing */
	/* Of each workload, and of none, the Sidecar whose hosts it imports; NULL: there is none of any. */
	const struct flat_egress_policy **sidecars;
	struct flat_map imports; /* scope.c */

	/* Prefix lengths in use, longest first. */
	uint8_t prefixes4[33];
	uint8_t prefixes6[129];
	uint8_t n_prefixes4;
	uint8_t n_prefixes6;
	uint32_t n_wildcards; /* wildcard hosts */
	struct flat_map
	    names_at; /* port, for TLS, of services without addresses -> struct mesh_port_ref */
};

/** Key of (block, port); `port` in host order, 0: any. */
static inline struct mesh_addr_key mesh_addr_key(const struct flat_ip *ip, uint8_t prefix,
						 uint16_t port)
{
	struct mesh_addr_key key = {.family = ip->family, .prefix = prefix, .port = port};

	__builtin_memcpy(key.bytes, ip->bytes, sizeof(key.bytes));
	return key;
}

/** Gives each service without an address, that can have one, its own of 240.240.0.0/16 (vip.c). */
FLAT_MUST_CHECK int mesh_allocate_addresses(struct flat_mesh *mesh,
					    const struct flat_mesh *previous,
					    struct flat_diags *diags);

/** Builds the look-ups of services (index.c). */
FLAT_MUST_CHECK int mesh_index_services(struct flat_mesh *mesh, struct flat_diags *diags);

/** Builds the look-ups of policies and workloads (index.c). */
FLAT_MUST_CHECK int mesh_index_policies(struct flat_mesh *mesh, struct flat_diags *diags);

/** Whether clients of a namespace (NULL: of none) see a resource of namespace `own` (scope.c). */
bool mesh_exported(const struct flat_export *e, const char *own, const char *namespace);

/** Settles to whom resources are exported, and whether anything is hidden from anybody: `scoped` (scope.c). */
void mesh_settle_exports(struct flat_mesh *mesh);

/** Builds the look-ups of what Sidecars import, and finds that of each workload (scope.c). */
FLAT_MUST_CHECK int mesh_index_scopes(struct flat_mesh *mesh, struct flat_diags *diags);

/** Whether a client's Sidecar imports a VirtualService for one of its hosts (scope.c). */
bool mesh_route_imported(const struct flat_scope *scope, const struct flat_virtual_service *vs,
			 const char *host);

/** The Sidecar that holds for a workload (NULL: for a client without); NULL: none (policy.c). */
const struct flat_egress_policy *mesh_sidecar_of(const struct flat_mesh *mesh,
						 const struct flat_workload *workload);

/* Room for what mesh_resource() writes: a kind, a namespace of 63 characters and a name of 253 fit. */
#define MESH_RESOURCE_MAX 600

/** Writes "KIND NAMESPACE/NAME", as messages name a resource, into MESH_RESOURCE_MAX bytes; what is longer is cut (mesh.c). */
void mesh_resource(char *out, const char *kind, const char *namespace, const char *name);

/** Finds what policies are attached to (target.c). */
void mesh_index_targets(struct flat_mesh *mesh, struct flat_diags *diags);

/** Whether a policy of a namespace, with these targets or this selector, holds for a workload (NULL: of none) (target.c). */
bool mesh_policy_selects(const char *namespace, const struct flat_policy_targets *targets,
			 const struct flat_labels *selector, const struct flat_workload *workload);

/** Builds the look-ups of DestinationRules (traffic.c). */
FLAT_MUST_CHECK int mesh_index_rules(struct flat_mesh *mesh, struct flat_diags *diags);

/** Finds the active health check of each port of a service (health.c). */
FLAT_MUST_CHECK int mesh_index_health(struct flat_mesh *mesh, struct flat_diags *diags);

/** Finds the key of sessions (persist.c). */
void mesh_index_persistence(struct flat_mesh *mesh, struct flat_diags *diags);

/** The certificates of all authorities that are there, one after the other; *pem NULL: of none. Each that is not is told. */
FLAT_MUST_CHECK int mesh_find_authorities(struct flat_mesh *mesh,
					  const struct flat_tls_authority *v, uint32_t n,
					  const char *namespace, const char *resource,
					  struct flat_diags *diags, const char **pem);

/** Finds the BackendTLSPolicy of each port of a service (backend_tls.c). */
FLAT_MUST_CHECK int mesh_index_backend_tls(struct flat_mesh *mesh, struct flat_diags *diags);

/** Finds what is told of each workload (telemetry.c). */
FLAT_MUST_CHECK int mesh_index_telemetry(struct flat_mesh *mesh, struct flat_diags *diags);

/** Finds what resources (the widest first, NULL: none) say of a workload's metrics; *out stays where they say nothing (measure.c). */
FLAT_MUST_CHECK int mesh_find_measures(struct flat_mesh *mesh,
				       const struct flat_telemetry *const chain[3], unsigned mode,
				       const struct flat_workload *w,
				       const struct flat_metric_rules **out);

/** Finds the services of external authorizers, and the authorizers of policies (ext_authz.c). */
FLAT_MUST_CHECK int mesh_index_ext_authz(struct flat_mesh *mesh, struct flat_diags *diags);

/** Finds the services that rate limits ask (limit.c). */
FLAT_MUST_CHECK int mesh_index_rates(struct flat_mesh *mesh, struct flat_diags *diags);

/* One VirtualService of a host. */
struct mesh_virtual {
	struct flat_virtual_service *vs;
	const char *host;	   /* as it is looked for */
	struct mesh_virtual *next; /* in load order */
};

/** Whether a client's workload (NULL: it has none) is of a namespace (NULL: any), with these labels (route.c). */
bool mesh_source_holds(const char *namespace, const struct flat_labels *labels,
		       const struct flat_workload *source);

/** Puts the routes of others in the place of those that delegate (delegate.c). */
FLAT_MUST_CHECK int mesh_delegate(struct flat_mesh *mesh, struct flat_virtual_service *vs,
				  struct flat_diags *diags);

/** Finds what routes refer to, and builds their look-ups (route.c). */
FLAT_MUST_CHECK int mesh_index_routes(struct flat_mesh *mesh, struct flat_diags *diags);

/** Binds VirtualServices to gateways (gateway.c). */
FLAT_MUST_CHECK int mesh_index_gateways(struct flat_mesh *mesh, struct flat_diags *diags);

/* The VirtualService that a value of a map of hosts (or NULL) gives a client; NULL: none. */
typedef const struct flat_virtual_service *mesh_virtual_fn(const void *value,
							   const struct flat_scope *scope);
/** Of a chain of struct mesh_virtual. */
const struct flat_virtual_service *mesh_virtual_closest(const void *value,
							const struct flat_scope *scope);

/** The VirtualService of a host: its own, else of the longest wildcard, else of "*" (route.c). NULL: none. */
const struct flat_virtual_service *mesh_virtual_walk(const struct flat_map *hosts,
						     struct flat_span host, mesh_virtual_fn *of,
						     const struct flat_scope *scope);

/** The scope of a namespace, or NULL when it has no policy. */
static inline const struct mesh_scope *mesh_scope(const struct flat_mesh *mesh,
						  const char *namespace)
{
	return flat_map_get_str(&mesh->scopes, namespace);
}

#endif
