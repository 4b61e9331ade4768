/* Gateway API: what http_route.c and grpc_route.c read, and gateway_api.c makes VirtualServices of. */
#ifndef FLAT_CONTROL_HTTP_ROUTE_H
#define FLAT_CONTROL_HTTP_ROUTE_H

#include "control/http_common.h"

/* A Service, or a host, that routes are for. */
struct api_parent {
	const char *host;
	uint16_t port; /* 0: all */
	bool own;      /* of another namespace: for the route's own clients alone */
	const char
	    *gateway; /* the host at a listener, "NAMESPACE/GATEWAY/LISTENER"; NULL: in the mesh */
};

/* A Gateway or ListenerSet, or one of its listeners, that routes are for. */
struct api_gateway_parent {
	const char *name, *namespace;
	bool set;
	const char *section; /* a listener's name; NULL: any */
	uint16_t port;	     /* a listener's; 0: any */
	struct flat_where where;
};

/* Which kind of route: what of a resource is read, and what is made of it. */
enum api_kind {
	API_HTTP,
	API_GRPC,
	API_TCP, /* a VirtualService's tcp routes */
	API_TLS, /* its tls routes */
	/* No routes: of grants alone. */
	API_GATEWAY,
	API_LISTENER_SET,
};

/** Whether routes are of connections, else of requests. */
static inline bool api_is_l4(enum api_kind kind)
{
	return kind == API_TCP || kind == API_TLS;
}

/* One rule; each of its matches becomes a route. */
struct api_rule {
	struct flat_http_match *matches;
	uint32_t n_matches;
	struct flat_http_route route;
	struct flat_http_retries *retries; /* the route's */
	bool fails; /* it asks for what it may not have, or nobody knows: 500 */
};

/* One HTTPRoute, GRPCRoute, TCPRoute or TLSRoute. */
struct api_route {
	enum api_kind kind;
	struct api_route *next;
	const char *name, *namespace;
	const char *full_name; /* "NAMESPACE/NAME" */
	const char
	    *created; /* as the API server writes times, which sort as text; NULL: not said */
	struct flat_where where;
	struct api_parent *parents;
	uint32_t n_parents;
	struct api_gateway_parent *gateways; /* until listeners are found */
	uint32_t n_gateways;
	struct api_rule *rules;
	uint32_t n_rules;
	const char *
	    *hosts; /* hostnames: what a TLSRoute's clients ask for, and of which a Gateway's */
	uint32_t n_hosts; /* 0: any */
};

/*
 * One ReferenceGrant's permission: routes of a namespace may refer to a Service, Gateways to a Secret (name NULL: any), of its own.
 */
struct api_grant {
	struct api_grant *next;
	enum api_kind kind;
	const char *from, *namespace, *name;
};

/** The kind (enum api_kind) of that name; -1: none, or no name. */
int cfg_api_kind_of(const char *name);

/** Whether resources of a kind and of namespace `from` may refer to one of another namespace by its name. */
bool cfg_api_granted(const struct cfg *cfg, enum api_kind kind, const char *from,
		     const char *namespace, const char *name);

/* Of a parent, a backend or a Secret; NULL where it is not said. */
struct api_reference {
	const char *group, *kind, *name, *namespace;
};

/** Its fields. `obj` begins with a struct api_reference. */
void cfg_api_group(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_api_kind(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_api_name(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_api_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj);
#define CFG_API_REFERENCE                                                                          \
	CFG_FIELD("group", cfg_api_group), CFG_FIELD("kind", cfg_api_kind),                        \
	    CFG_FIELD("name", cfg_api_name), CFG_FIELD("namespace", cfg_api_namespace)

/** When the resource was made, as the API server writes times, which sort as text; NULL: not said so. */
const char *cfg_api_created(struct cfg *cfg);

/** The host of a reference to a Service, or to a host by its name; NULL: to something else. */
const char *cfg_api_host(struct cfg *cfg, const struct api_reference *to);

/**
 * `caCertificateRefs`: ConfigMaps and Secrets of the resource's namespace; what else is named is told, and is nobody's. `local`: the
 * references have no field for a namespace. *v and *n are written where it is a list.
 */
void cfg_api_authorities(struct cfg *cfg, const struct yaml_node *node, bool local,
			 const struct flat_tls_authority **v, uint32_t *n);

/** A route's `parentRefs` and `hostnames`. */
void cfg_api_parents(struct cfg *cfg, const struct yaml_node *node, struct api_route *route);
void cfg_api_hosts(struct cfg *cfg, const struct yaml_node *node, struct api_route *route);

/** A filter's `requestMirror`, into *m. */
void cfg_api_mirror(struct cfg *cfg, const struct yaml_node *node, struct flat_http_mirror *m);

/** A rule's `timeouts.backendRequest` and `retry`: both say how often and how long the route tries. */
void cfg_api_backend_timeout(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule);
void cfg_api_retry(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule);

/** What of a rule's filters and matches goes together. */
void cfg_api_check_rule(struct cfg *cfg, const struct yaml_node *node, const struct api_rule *rule);

/** What the API server writes into an HTTPRoute without `rules`: one for every path, and no backends. */
void cfg_api_default_rule(struct cfg *cfg, struct api_route *route);

/** A rule's filter `cors`. */
void cfg_api_cors(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule);

/**
 * `method` of a GRPCRoute's match, `{type, service, method}`, as a match of the path; NULL with an error, or where it
 * names nothing.
 */
const struct flat_text_match *cfg_grpc_method(struct cfg *cfg, const struct yaml_node *node);

#endif
