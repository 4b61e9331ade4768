/*
 * External authorizers (MeshConfig extensionProviders) that AuthorizationPolicies of action CUSTOM name. What is said
 * here is data; they are asked in lib/offload/l7_check.c. Source: istio.io reference "Global Mesh Options".
 */
#ifndef FLAT_MESH_EXT_AUTHZ_H
#define FLAT_MESH_EXT_AUTHZ_H

#include "mesh/route.h"

/* Names of providers that the policies of a mesh may ask: as many as a word has bits, so that a request's are one. */
#define FLAT_EXT_AUTHZ_MAX 32U

/* Names of headers: "abc", "abc*", "*abc", in any case. */
struct flat_name_list {
	const char *const *v;
	uint32_t n;
};

struct flat_ext_authz {
	const char *name;
	const char *
	    why_not; /* it cannot be asked, for this reason: whoever names it denies what it matches; NULL: it can */
	const char *host;      /* of its service */
	const char *namespace; /* of its service; NULL: any */
	uint16_t port;
	bool grpc;			    /* asked by gRPC; else by HTTP */
	uint32_t body_max;		    /* bytes of the request's body that it sees; 0: none */
	bool body_partial;		    /* of a longer one the beginning; else 413 */
	bool body_as_bytes;		    /* in raw_body; gRPC */
	const struct flat_service *service; /* after flat_mesh_finish() */
	uint32_t timeout_ms;
	bool fail_open;
	uint16_t status_on_error;
	const char *path_prefix; /* "": none */
	struct flat_name_list to_check;
	const struct flat_name_value *add_to_check;
	uint32_t n_add_to_check;
	struct flat_name_list to_upstream;
	struct flat_name_list to_client_on_deny; /* none: all */
	struct flat_name_list to_client_on_allow;
	uint32_t index; /* among the mesh's */
	struct flat_where where;
};

/** The provider of an index, or NULL. */
const struct flat_ext_authz *flat_mesh_ext_authz_at(const struct flat_mesh *mesh, uint32_t i);
/** Whether some AuthorizationPolicy has one. */
bool flat_mesh_has_custom(const struct flat_mesh *mesh);
/** The provider that is asked at a place of the order (flat_authz_verdict.order); NULL: it is not there. */
const struct flat_ext_authz *flat_mesh_ext_authz_in_order(const struct flat_mesh *mesh,
							  uint32_t order);
/** The provider of a name, or NULL. */
const struct flat_ext_authz *flat_mesh_ext_authz(const struct flat_mesh *mesh, const char *name);

/** Whether the list holds a header's name. */
bool flat_name_list_has(const struct flat_name_list *list, struct flat_span name);

#endif
