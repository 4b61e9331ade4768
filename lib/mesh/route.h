/*
 * Routes of HTTP requests: Istio's VirtualService (spec.http) and DestinationRule (subsets), with their meaning for
 * clients in the mesh. Of a VirtualService the first route with a match that holds is taken; a route without matches
 * holds always; where none holds the request has no route (404). A host without VirtualService is its service.
 */
#ifndef FLAT_MESH_ROUTE_H
#define FLAT_MESH_ROUTE_H

#include "base/json_read.h"
#include "mesh/match.h"
#include "mesh/mesh.h"
#include "mesh/traffic.h"

struct flat_named_match {
	const char *name; /* of a header or query parameter */
	/* "@request.auth.claims": names, each within the one before, of a claim of the token; 0: a header */
	const char *const *claim;
	uint32_t n_claim;
	struct flat_text_match match;
};

struct flat_gateway;
struct flat_l4_route;

/* Holds when everything it names does. */
struct flat_http_match {
	const struct flat_text_match *uri, *scheme, *method, *authority; /* NULL: any */
	const struct flat_named_match *headers;
	uint32_t n_headers;
	const struct flat_named_match *without; /* none of these may hold */
	uint32_t n_without;
	const struct flat_named_match *query;
	uint32_t n_query;
	uint16_t port;	  /* of the service, as the client asked for it; 0: any */
	bool ignore_case; /* of `uri` */
	struct flat_labels source_labels;
	const char *source_namespace;	    /* NULL: any */
	const struct flat_http_match *also; /* must hold too, and has none itself; NULL: none */
	bool never;			    /* for gateways only */
	bool for_gateways;		    /* it names gateways: it holds at those alone */
	const char *const *gateways;	    /* "NAMESPACE/NAME" */
	uint32_t n_gateways;
	struct flat_where where;
};

struct flat_name_value {
	const char *name, *value;
	bool variables; /* the value has variables between percent signs */
};

/* A variable of a header's value, Envoy's name. */
enum flat_variable {
	FLAT_VARIABLE_NONE,
	FLAT_VARIABLE_REQ,	 /* REQ(NAME) */
	FLAT_VARIABLE_CLIENT,	 /* DOWNSTREAM_REMOTE_ADDRESS */
	FLAT_VARIABLE_CLIENT_IP, /* DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT */
	FLAT_VARIABLE_LOCAL,	 /* DOWNSTREAM_LOCAL_ADDRESS */
	FLAT_VARIABLE_LOCAL_IP,	 /* DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT */
	FLAT_VARIABLE_SERVER,	 /* UPSTREAM_REMOTE_ADDRESS, UPSTREAM_HOST */
	FLAT_VARIABLE_PROTOCOL,	 /* PROTOCOL */
	FLAT_VARIABLE_STATUS,	 /* RESPONSE_CODE */
	FLAT_VARIABLE_ROUTE,	 /* ROUTE_NAME */
};

/** The variable of a name (`len` bytes, without the percent signs). */
enum flat_variable flat_header_variable(const char *name, size_t len);

/* What is removed first, then set, then added. */
struct flat_header_ops {
	const char *authority; /* of a request: the host it is sent with; NULL: as it is */
	const struct flat_name_value *set; /* replaces all of the name */
	uint32_t n_set;
	const struct flat_name_value *add;
	uint32_t n_add;
	const char *const *remove;
	uint32_t n_remove;
};

struct flat_subset {
	const char *name;
	struct flat_labels labels; /* an endpoint's must hold them */
	struct flat_traffic_policy policy;
	struct flat_where where;
};

struct flat_destination_rule {
	const char *name, *namespace;
	const char *host; /* as written; "*.x" holds for services that no other rule names */
	const struct flat_service *service; /* found when the mesh is finished; NULL: none */
	struct flat_export export;
	struct flat_labels
	    selector; /* of clients' workloads of its namespace; empty: all clients */
	struct flat_destination_rule *next; /* of the same host, further on in the files */
	const struct flat_subset *subsets;
	uint32_t n_subsets;
	struct flat_traffic_policy policy;
	struct flat_where where;
};

struct flat_route_destination {
	const char *host;	 /* as written */
	const char *namespace;	 /* in which short names are looked for; NULL: the route's */
	const char *subset_name; /* NULL: none */
	const struct flat_service
	    *service;			  /* found when the mesh is finished; NULL: there is none */
	const struct flat_subset *subset; /* likewise; NULL with a name: there is none */
	uint16_t port;			  /* 0: the one asked for, or the only one */
	uint32_t weight;
	const char *granted_by; /* namespace that has to permit it (Gateway API); NULL: none */
	bool fails;   /* Gateway API: without a service, or that port of it, it answers 500 */
	bool settled; /* found already: routes of one rule share it */
	struct flat_header_ops request, response;
	uint32_t index; /* among all destinations of the mesh */
	struct flat_where where;
};

struct flat_http_redirect {
	const char *uri, *authority, *scheme; /* NULL: as it was */
	const char *prefix; /* in place of the prefix that matched; NULL: not so */
	uint16_t port;	    /* 0: none; the scheme's own is not written */
	bool derive_port;   /* the port that the request came to */
	uint16_t status;    /* 301, 302, 303, 307, 308 */
};

struct flat_http_direct {
	uint16_t status;
	const char *body; /* NULL: none */
	size_t len;
};

struct flat_http_rewrite {
	const char *uri;       /* replaces the prefix that matched, else the path; NULL: as it is */
	const char *path;      /* replaces the path; NULL: not so */
	const char *authority; /* NULL: as it is */
	const struct flat_regex *regex; /* what it matches in the path is replaced; NULL: not so */
	const char *substitution;	/* by this, \0 to \9 are what groups matched */
};

/* When an attempt that failed is made again. */
enum flat_retry_on {
	FLAT_RETRY_CONNECT = 1 << 0, /* no connection to the endpoint */
	FLAT_RETRY_REFUSED = 1 << 1, /* refused-stream: it took none of it */
	FLAT_RETRY_RESET = 1 << 2,   /* the connection ended before an answer */
	FLAT_RETRY_GATEWAY = 1 << 3, /* 502, 503, 504 */
	FLAT_RETRY_5XX = 1 << 4,     /* any 5xx, or no answer at all */
	FLAT_RETRY_4XX = 1 << 5,     /* retriable-4xx: 409 */
	FLAT_RETRY_STATUS = 1 << 6,  /* one of `statuses` */
	FLAT_RETRY_UNSENT = 1 << 7,  /* reset-before-request */
	/* grpc-status of an answer that is its status alone. */
	FLAT_RETRY_CANCELLED = 1 << 8,
	FLAT_RETRY_DEADLINE_EXCEEDED = 1 << 9,
	FLAT_RETRY_INTERNAL = 1 << 10,
	FLAT_RETRY_RESOURCE_EXHAUSTED = 1 << 11,
	FLAT_RETRY_UNAVAILABLE = 1 << 12,
};

/* Where nothing is said of conditions: Istio's, and what no server has seen. */
#define FLAT_RETRY_DEFAULT                                                                         \
	(FLAT_RETRY_CONNECT | FLAT_RETRY_REFUSED | FLAT_RETRY_UNSENT | FLAT_RETRY_UNAVAILABLE |    \
	 FLAT_RETRY_CANCELLED)

#define FLAT_RETRY_STATUSES_MAX 16U

struct flat_http_retries {
	uint32_t attempts; /* beside the first */
	uint32_t per_try_ms;
	uint32_t backoff_ms; /* the first pause; 0: the default */
	bool repeats;	     /* servers that were tried may be tried again at once */
	bool far;    /* servers of other localities too, once those of the nearest were tried */
	unsigned on; /* enum flat_retry_on */
	uint16_t statuses[FLAT_RETRY_STATUSES_MAX];
	uint32_t n_statuses;
};

/* Of a million requests. */
#define FLAT_MILLION 1000000U

struct flat_http_fault {
	uint32_t delay_ms;
	uint32_t delay_of_million;
	uint16_t abort_status; /* 0: none */
	int16_t abort_grpc;    /* grpc-status, of gRPC calls; -1: by abort_status */
	uint32_t abort_of_million;
};

struct flat_http_cors {
	const struct flat_text_match *origins;
	uint32_t n_origins;
	const char *methods, *headers, *expose; /* joined by commas; NULL: none */
	const char *max_age;			/* seconds, as text; NULL: none */
	bool credentials;
	bool echo;   /* where methods or headers are "*" a preflight is told what it asked for */
	bool ignore; /* preflights of other origins are answered without permission */
};

/* Some of the requests are sent there too; nobody waits for the answers. */
struct flat_http_mirror {
	struct flat_route_destination to;
	uint32_t of_million;
};

struct flat_http_route {
	const char *name; /* "" without */
	const struct flat_http_match *matches;
	uint32_t n_matches; /* 0: always */
	struct flat_route_destination *destinations;
	uint32_t n_destinations;
	uint64_t weight; /* of all destinations together */
	const char *delegate,
	    *delegate_namespace; /* whose routes stand here, until the mesh is finished */
	const struct flat_http_redirect *redirect;
	const struct flat_http_direct *direct;
	const struct flat_http_rewrite *rewrite;
	const struct flat_http_retries *retries;
	const struct flat_http_fault *fault;
	const struct flat_http_cors *cors;
	const struct flat_persistence *persistence; /* mesh/persist.h; NULL: the service's */
	struct flat_http_mirror *mirrors;
	uint32_t n_mirrors;
	uint32_t timeout_ms; /* 0: none */
	struct flat_header_ops request, response;
	uint32_t index; /* among all routes of the mesh */
	struct flat_where where;
};

struct flat_virtual_service {
	const char *name, *namespace;
	const char *const *hosts; /* lower case, as written */
	/* As gateways have them: a name without dots is a Service's of its namespace; those of `hosts` else. */
	const char *const *at_gateways;
	uint32_t n_hosts;
	struct flat_http_route *routes;
	uint32_t n_routes;
	struct flat_l4_route *tcp; /* mesh/l4_route.h */
	uint32_t n_tcp;
	struct flat_l4_route *tls; /* likewise, by the name that is asked for */
	uint32_t n_tls;
	bool detached; /* for gateways only */
	bool
	    of_ports; /* of Gateway API: a port that no route is for has none, and is the service's own */
	const char *const *gateways; /* "NAMESPACE/NAME" */
	uint32_t n_gateways;
	struct flat_export export;
	struct flat_where where;
};

/** The condition that a grpc-status fulfils, 0: none. */
unsigned flat_retry_of_grpc(int status);

/** Number of VirtualServices, and one of them. */
uint32_t flat_mesh_n_virtual(const struct flat_mesh *mesh);
const struct flat_virtual_service *flat_mesh_virtual(const struct flat_mesh *mesh, uint32_t i);

/** Number of DestinationRules, and one of them. */
uint32_t flat_mesh_n_rules(const struct flat_mesh *mesh);
const struct flat_destination_rule *flat_mesh_rule(const struct flat_mesh *mesh, uint32_t i);

/** Number of routes and of destinations of all VirtualServices: bounds of their indexes. */
uint32_t flat_mesh_n_routes(const struct flat_mesh *mesh);
uint32_t flat_mesh_n_destinations(const struct flat_mesh *mesh);

struct flat_scope;

/**
 * The VirtualService that holds for a client's host, exact ones before wildcards, longer wildcards first; NULL: none.
 * `service` (or NULL) is the service that the host means; its VirtualService holds for each of its names. Of several those win
 * that are exported to the client's namespace more closely: to its own namespace, by name, to all; then the first in the
 * files. What its Sidecar does not import is left out.
 */
const struct flat_virtual_service *flat_mesh_virtual_by_host(const struct flat_scope *scope,
							     struct flat_span host,
							     const struct flat_service *service);

/* What a route is looked for with. */
struct flat_route_question {
	const struct flat_http_request *request;
	uint16_t port;			     /* of the service, as the client asked for it */
	const struct flat_workload *source;  /* NULL: none */
	const struct flat_gateway *gateway;  /* by which it came; NULL: the mesh */
	bool tls;			     /* to that gateway */
	const struct flat_json_node *claims; /* of the token that it was shown; NULL: none */
};

/** The first route that holds, with the match that did (NULL: it has none); NULL: no route. */
const struct flat_http_route *flat_route_find(const struct flat_virtual_service *vs,
					      const struct flat_route_question *question,
					      const struct flat_http_match **match);

/** The port that a destination means: `wanted`, else the one asked for, else the only one; NULL: none. */
const struct flat_service_port *flat_route_port(const struct flat_service *service, uint16_t wanted,
						uint16_t asked);

/** The value of the first query parameter of a name, as it is written; absent: none. */
struct flat_span flat_route_query(struct flat_span query, const char *name);

/** Whether one match holds. */
bool flat_route_match(const struct flat_http_match *match,
		      const struct flat_route_question *question);

#endif
