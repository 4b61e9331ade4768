/*
 * Building a mesh: make an empty one, add resources (allocated from its pool), finish. Only
 * lib/control and tests do this; everybody else sees finished, immutable meshes.
 */
#ifndef FLAT_MESH_BUILD_H
#define FLAT_MESH_BUILD_H

#include <string.h>

#include "base/map.h"
#include "base/pool.h"
#include "mesh/authn.h"
#include "mesh/authz.h"
#include "mesh/ext_authz.h"
#include "mesh/gateway.h"
#include "mesh/health.h"
#include "mesh/limit.h"
#include "mesh/mesh.h"
#include "mesh/policy.h"
#include "mesh/route.h"
#include "mesh/telemetry.h"

/* --- authorization policies --- */

enum flat_attribute {
	FLAT_ATTR_SOURCE_PRINCIPAL,
	FLAT_ATTR_SOURCE_NAMESPACE,
	FLAT_ATTR_SOURCE_TRUST_DOMAIN,
	FLAT_ATTR_SOURCE_SERVICE_ACCOUNT,
	FLAT_ATTR_SOURCE_IP,
	FLAT_ATTR_REMOTE_IP,
	FLAT_ATTR_DESTINATION_IP,
	FLAT_ATTR_DESTINATION_PORT,
	FLAT_ATTR_SNI, /* the name that is asked for in TLS; not always read */
	/* From here on: what requests have and connections do not. */
	FLAT_ATTR_HTTP_HOST,
	FLAT_ATTR_HTTP_METHOD,
	FLAT_ATTR_HTTP_PATH,
	FLAT_ATTR_HTTP_HEADER,
	FLAT_ATTR_REQUEST_PRINCIPAL, /* issuer and subject of the token */
	FLAT_ATTR_CLAIM,	     /* of the token */
	FLAT_ATTR_UNKNOWN,	     /* what we can't tell: the rule is on the safe side */
	FLAT_ATTRIBUTES,
};

enum flat_match_kind {
	FLAT_MATCH_EXACT,
	FLAT_MATCH_PREFIX,  /* "abc*" */
	FLAT_MATCH_SUFFIX,  /* "*abc" */
	FLAT_MATCH_PRESENT, /* "*": any value that is not empty */
	FLAT_MATCH_GLOB,    /* '*' anywhere stands for any text: namespaces only, as Istio does */
	FLAT_MATCH_CIDR,
	FLAT_MATCH_PORT,
	FLAT_MATCH_REGEX, /* whole text */
	FLAT_MATCH_PAIR,  /* an issuer and a subject */
};

/* What templates of paths have beside slashes and operators: RFC 3986's pchar without the star, as in Istio. */
#define FLAT_TEMPLATE_CHARS                                                                        \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()+,;:@="

struct flat_match {
	enum flat_match_kind kind;
	const char *text;      /* without the star for PREFIX and SUFFIX; GLOB: with */
	const char *namespace; /* SOURCE_SERVICE_ACCOUNT: namespace of the account */
	struct flat_cidr cidr;
	uint16_t port;
	const struct flat_regex *regex;
	const struct flat_match *pair; /* PAIR: two of them */
};

/* Holds when one of `values` matches (or there are none) and none of `not_values` does. */
struct flat_condition {
	enum flat_attribute attribute;
	const char *name;	 /* HTTP_HEADER: the header's */
	const char *const *path; /* CLAIM: names, each within the one before */
	uint32_t n_path;
	const struct flat_match *values;
	uint32_t n_values;
	const struct flat_match *not_values;
	uint32_t n_not_values;
};

/* Holds when each condition does; the empty one always. */
struct flat_clause {
	const struct flat_condition *v;
	uint32_t n;
};

/* Matches when one of `from` (or there are none), one of `to` (likewise) and `when` hold. */
struct flat_authz_rule {
	const struct flat_clause *from;
	uint32_t n_from;
	const struct flat_clause *to;
	uint32_t n_to;
	struct flat_clause when;
	bool http; /* asks for what a connection does not have */
	struct flat_where where;
};

/* What a policy is attached to, in place of a selector (targetRefs), in its own namespace. */
enum flat_target_kind {
	FLAT_TARGET_SERVICE,	   /* the workloads that a Kubernetes Service selects */
	FLAT_TARGET_SERVICE_ENTRY, /* likewise a ServiceEntry's workloadSelector */
	FLAT_TARGET_GATEWAY,	   /* the workloads of a Gateway */
};

struct flat_policy_target {
	enum flat_target_kind kind;
	const char *name;
	struct flat_labels selector; /* found when the mesh is finished; without labels: nobody */
	struct flat_where where;
};

struct flat_policy_targets {
	struct flat_policy_target *v;
	uint32_t n;
};

struct flat_authz_policy {
	const char *name;
	const char *namespace;
	enum flat_authz_action action;
	const char *provider;		  /* CUSTOM: who is asked */
	const struct flat_ext_authz *ext; /* that provider, after flat_mesh_finish(); NULL: none */
	uint32_t order;			  /* and its place among those that are asked, from 0 */
	bool dry_run; /* annotation istio.io/dry-run: decides nothing, and is told */
	struct flat_policy_targets targets; /* none: by the selector */
	struct flat_labels selector;
	const struct flat_authz_rule *rules;
	uint32_t n_rules;
	struct flat_where where;
};

/* --- request authentication: its rules are in mesh/authn.h --- */

struct flat_request_authn {
	const char *name;
	const char *namespace;
	struct flat_policy_targets targets; /* none: by the selector */
	struct flat_labels selector;
	struct flat_jwt_rule *rules;
	uint32_t n_rules;
	struct flat_where where;
};

/* --- mTLS and egress --- */

struct flat_port_mtls {
	uint16_t port;
	enum flat_mtls_mode mode;
};

struct flat_peer_policy {
	const char *name;
	const char *namespace;
	struct flat_labels selector; /* empty: the whole namespace, or mesh in the root namespace */
	enum flat_mtls_mode mode;
	const struct flat_port_mtls *ports;
	uint32_t n_ports;
	struct flat_where where;
};

/* An item of a Sidecar's egress.hosts, "NAMESPACE/HOST". */
struct flat_egress_host {
	const char *namespace; /* "*": any; ".": that of the client */
	const char *host;      /* lower case; "*.x", "*" */
	bool excluded;	       /* "~NAMESPACE/HOST": not this one */
	struct flat_where where;
};

/* An item of a Sidecar's egress: what is imported for one port. */
struct flat_egress_listener {
	uint16_t port; /* 0: for all ports that no other is for */
	const struct flat_egress_host *hosts;
	uint32_t n_hosts;
	/* Found when the mesh is finished. */
	bool everything; /* nothing is left out */
	bool wild;	 /* there are hosts "*.x" */
	uint32_t index;	 /* among all listeners */
};

struct flat_egress_policy {
	const char *kind; /* "Sidecar" or "MeshConfig" */
	const char *name;
	const char *namespace; /* NULL: MeshConfig, the whole mesh */
	struct flat_labels selector;
	enum flat_egress_mode mode;		/* UNSET: the mesh's */
	struct flat_egress_listener *listeners; /* by port, without doubles */
	uint32_t n_listeners;			/* 0: everything is imported */
	struct flat_where where;
};

/* A ConfigMap's `ca.crt`: authorities, PEM. */
struct flat_config_map {
	const char *name, *namespace, *pem;
};

/**
 * Of two times as the API server writes them, which sort as text, the older first (negative); what does not say when it was made
 * (NULL) is not known to be older.
 */
static inline int flat_created_order(const char *a, const char *b)
{
	int d = (b != NULL) - (a != NULL);

	return d == 0 && a ? strcmp(a, b) : d;
}

/* What a BackendTLSPolicy is for. */
struct flat_backend_target {
	const char *host;    /* of the Service */
	const char *section; /* the name of one port; NULL: all */
	struct flat_where where;
};

/* Whose certificates are believed: one of both, of the resource's namespace; none: what is named is not known. */
struct flat_tls_authority {
	const char *config_map, *secret;
	struct flat_where where;
};

/* BackendTLSPolicy: how the ports of its targets are spoken to, where no DestinationRule says it. */
struct flat_backend_tls {
	const char *name, *namespace;
	const char
	    *created; /* as the API server writes times, which sort as text; NULL: not said */
	const struct flat_backend_target *targets;
	uint32_t n_targets;
	const struct flat_tls_authority *authorities;
	uint32_t n_authorities; /* 0: those of the system */
	struct flat_tls_origin origin;
};

/* --- endpoints that change --- */

/*
 * New endpoints of all ports of one service, in a mesh that is in force. All that reads endpoints of a mesh or the places of its
 * services, and what patches it, is one thread's, the control thread's of flatd; others that hold the mesh look at anything else of it.
 */
struct flat_mesh_patch {
	const struct flat_service *service; /* of that mesh; not headless */
	struct flat_endpoint **endpoints;   /* of each port */
	uint32_t *n_endpoints;
	/* Where the service stands now, its exportTo, and each port; files' names are the mesh's. NULL: where they stood. */
	struct flat_where *port_where;
	struct flat_where where, export_where;
	struct flat_pool pool; /* these, and what they point to that no mesh holds */
	struct flat_map
	    touched; /* keys of endpoints that came, went or are others; filled when it is put in force */
};

/** One for a service, without endpoints; NULL: no memory. */
FLAT_MUST_CHECK struct flat_mesh_patch *flat_mesh_patch_new(const struct flat_service *service);
/** NULL is allowed. */
void flat_mesh_patch_free(struct flat_mesh_patch *patch);

/** Puts it in force and takes ownership; the endpoints before are freed. 0; -ENOMEM: nothing is changed, and it is still the caller's. */
FLAT_MUST_CHECK int flat_mesh_patch(struct flat_mesh *mesh, struct flat_mesh_patch *patch);

/** Whether an endpoint came, went or has other labels or another identity with it; until flat_mesh_patch_told(). */
bool flat_mesh_patch_touches(const struct flat_mesh_patch *patch, const struct flat_ip *ip,
			     uint16_t port);
/** Nobody asks that any more. */
void flat_mesh_patch_told(struct flat_mesh_patch *patch);

/* --- building --- */

/** A new empty mesh with one reference, or NULL without memory. */
FLAT_MUST_CHECK struct flat_mesh *flat_mesh_new(void);

/** The pool that everything added must come from, strings included. */
struct flat_pool *flat_mesh_pool(struct flat_mesh *mesh);

/** Keeps something for as long as the mesh lives, then calls put(what), in any thread. 0 or -ENOMEM: put is not called. */
FLAT_MUST_CHECK int flat_mesh_keep(struct flat_mesh *mesh, void (*put)(void *what), void *what);

/* Each adds one resource, borrowed from the pool, in load order. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_service(struct flat_mesh *mesh, struct flat_service *service);
FLAT_MUST_CHECK int flat_mesh_add_alias(struct flat_mesh *mesh, struct flat_alias *alias);
FLAT_MUST_CHECK int flat_mesh_add_workload(struct flat_mesh *mesh, struct flat_workload *workload);
FLAT_MUST_CHECK int flat_mesh_add_authz(struct flat_mesh *mesh, struct flat_authz_policy *policy);
FLAT_MUST_CHECK int flat_mesh_add_peer(struct flat_mesh *mesh, struct flat_peer_policy *policy);
FLAT_MUST_CHECK int flat_mesh_add_egress(struct flat_mesh *mesh, struct flat_egress_policy *policy);
FLAT_MUST_CHECK int flat_mesh_add_virtual(struct flat_mesh *mesh,
					  struct flat_virtual_service *virtual);
FLAT_MUST_CHECK int flat_mesh_add_gateway(struct flat_mesh *mesh, struct flat_gateway *gateway);
FLAT_MUST_CHECK int flat_mesh_add_secret(struct flat_mesh *mesh, struct flat_secret *secret);
FLAT_MUST_CHECK int flat_mesh_add_config_map(struct flat_mesh *mesh, struct flat_config_map *map);
FLAT_MUST_CHECK int flat_mesh_add_backend_tls(struct flat_mesh *mesh,
					      struct flat_backend_tls *policy);
FLAT_MUST_CHECK int flat_mesh_add_ext_authz(struct flat_mesh *mesh,
					    struct flat_ext_authz *provider);
FLAT_MUST_CHECK int flat_mesh_add_authn(struct flat_mesh *mesh, struct flat_request_authn *policy);
FLAT_MUST_CHECK int flat_mesh_add_rule(struct flat_mesh *mesh, struct flat_destination_rule *rule);

/* The kinds of resources that MeshConfig has a word on, on whose clients see them. */
enum flat_export_kind {
	FLAT_EXPORT_SERVICES,
	FLAT_EXPORT_ROUTES,
	FLAT_EXPORT_RULES,
	FLAT_EXPORT_KINDS,
};

/** Sets who sees resources of a kind that do not say it themselves; copied. */
void flat_mesh_set_export(struct flat_mesh *mesh, enum flat_export_kind kind,
			  const struct flat_export *e);

/** Sets how localities count where a DestinationRule says nothing; from the pool. */
void flat_mesh_set_locality(struct flat_mesh *mesh, const struct flat_locality_lb *locality);
/** Sets the root namespace; `name` comes from the pool. */
void flat_mesh_set_root_namespace(struct flat_mesh *mesh, const char *name);
/** How many proxies stand before a gateway, whose X-Forwarded-For is believed. */
void flat_mesh_set_trusted_proxies(struct flat_mesh *mesh, uint32_t n);
/** %2F and %5C in paths of requests are slashes. */
void flat_mesh_set_decode_slashes(struct flat_mesh *mesh);
/** Trust domains whose identities count as those of this mesh, and its as theirs; from the pool. */
void flat_mesh_set_trust_aliases(struct flat_mesh *mesh, const char *const *names, uint32_t n);

/**
 * Checks the whole, allocates addresses, builds the look-ups; afterwards the mesh is immutable.
 * `previous` (or NULL) is the mesh whose allocated addresses are kept. 0; -EINVAL with errors in
 * `diags` (the same host or address twice, no address left); -ENOMEM. After a failure only
 * flat_mesh_put() is allowed.
 */
FLAT_MUST_CHECK int flat_mesh_finish(struct flat_mesh *mesh, const struct flat_mesh *previous,
				     struct flat_diags *diags);

#endif
