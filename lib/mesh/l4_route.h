/*
 * Routes of connections that are not read as HTTP: VirtualService spec.tcp and spec.tls, TCPRoute and TLSRoute of the
 * Gateway API. Of a host's VirtualService the first route with a match that holds is taken, those by the name that a TLS
 * client asks for (SNI) first; where none holds, the connection goes to the service itself, as in Istio.
 */
#ifndef FLAT_MESH_L4_ROUTE_H
#define FLAT_MESH_L4_ROUTE_H

#include "mesh/route.h"

/* Holds when everything it names does. */
struct flat_l4_match {
	const struct flat_cidr *subnets; /* any of them holds the address that was asked for */
	uint32_t n_subnets;		 /* 0: any address */
	/* Lower case; one of them is the name that is asked for in TLS: "a.b", "*.b", "*". */
	const char *const *sni;
	uint32_t n_sni; /* 0: any, also none */
	uint16_t port;	/* of the service; 0: any */
	struct flat_labels source_labels;
	const char *source_namespace; /* NULL: any */
	bool never;		      /* for gateways only */
	bool for_gateways;	      /* it names gateways: it holds at those alone */
	const char *const *gateways;  /* "NAMESPACE/NAME" */
	uint32_t n_gateways;
	struct flat_where where;
};

struct flat_l4_route {
	const struct flat_l4_match *matches;
	uint32_t n_matches; /* 0: always */
	struct flat_route_destination *destinations;
	uint32_t n_destinations;
	uint64_t weight; /* of all destinations together */
	struct flat_where where;
};

/* What a route is looked for with. */
struct flat_l4_question {
	struct flat_ip to;		    /* as the client asked for it */
	uint16_t port;			    /* of the service */
	const struct flat_workload *source; /* NULL: none */
	bool tls;	 /* tls routes count: the port's protocol is TLS or HTTPS */
	const char *sni; /* that was asked for, lower case; "": none; NULL: not known yet */
	const struct flat_gateway *gateway; /* by which it came; NULL: the mesh */
};

/* What a look at the routes comes to. */
enum flat_l4_answer {
	FLAT_L4_SERVICE, /* no route holds: the service itself */
	FLAT_L4_ROUTE,
	FLAT_L4_NAME, /* that depends on the name, which is not known yet */
};

/**
 * The route of a connection to a service (its VirtualService is found as flat_mesh_virtual_by_host() does), in *route; where
 * the name decides, the first that asks for it. Else *route is NULL.
 */
enum flat_l4_answer flat_l4_route_find(const struct flat_mesh *mesh,
				       const struct flat_service *service,
				       const struct flat_l4_question *question,
				       const struct flat_l4_route **route);

/** The first of `n` routes that holds, NULL: none. */
const struct flat_l4_route *flat_l4_first(const struct flat_l4_route *v, uint32_t n,
					  const struct flat_l4_question *question);

/** Whether one match holds; of a name that is not known yet: whether it may. */
bool flat_l4_match(const struct flat_l4_match *match, const struct flat_l4_question *question);

#endif
