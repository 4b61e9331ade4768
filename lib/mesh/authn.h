/*
 * RequestAuthentication: which tokens (JWT) a workload's requests may carry. What is said here is data; tokens are read
 * and checked in lib/authn. Source: istio.io reference "RequestAuthentication".
 */
#ifndef FLAT_MESH_AUTHN_H
#define FLAT_MESH_AUTHN_H

#include "mesh/mesh.h"

/* Rules of one namespace, and again of the root namespace: each request is asked by each of them. */
#define FLAT_JWT_RULES_MAX 64U

enum flat_jwt_place {
	FLAT_JWT_HEADER,
	FLAT_JWT_PARAM,
	FLAT_JWT_COOKIE,
};

/* Where a token may stand. */
struct flat_jwt_location {
	enum flat_jwt_place place;
	const char *name;
	const char *prefix; /* HEADER: what stands before the token; "": nothing */
};

struct flat_claim_header {
	const char *header;
	const char *claim; /* names within each other are joined by dots */
};

struct flat_jwt_rule {
	const char *issuer;	      /* "": any */
	const char *const *audiences; /* none: any */
	uint32_t n_audiences;
	/* One of both: the text of a key set, or where it is: file://, http:// or https://. */
	const char *jwks;
	const char *jwks_uri;
	const struct flat_jwt_location *locations; /* at least one */
	uint32_t n_locations;
	const char *payload_header; /* gets the token's payload; NULL: none */
	const struct flat_claim_header *claim_headers;
	uint32_t n_claim_headers;
	const char *const *spaced; /* further claims that are lists with blanks between */
	uint32_t n_spaced;
	bool forward;	     /* the server gets the token */
	bool required;	     /* a request without token is refused */
	uint32_t timeout_ms; /* of fetching the key set */
	uint32_t index;	     /* among the mesh's */
	struct flat_where where;
};

struct flat_request_authn;

/**
 * The rules for a workload (NULL: a server that is none), those of the root namespace first. At most
 * 2 * FLAT_JWT_RULES_MAX into `v`; returns how many.
 */
uint32_t flat_mesh_jwt_rules(const struct flat_mesh *mesh, const struct flat_workload *workload,
			     const struct flat_jwt_rule *v[2 * FLAT_JWT_RULES_MAX]);

/** Whether there are any for it. */
bool flat_mesh_wants_jwt(const struct flat_mesh *mesh, const struct flat_workload *workload);

/** All rules of the mesh, by their index. */
uint32_t flat_mesh_n_jwt_rules(const struct flat_mesh *mesh);
const struct flat_jwt_rule *flat_mesh_jwt_rule(const struct flat_mesh *mesh, uint32_t i);

#endif
