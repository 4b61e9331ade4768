/*
 * Routes of connections that are not read as HTTP: VirtualService spec.tcp, and TCPRoute of the Gateway API. Of a host's
 * VirtualService the first route with a match that holds is taken; where none holds, the connection goes to the service
 * itself, as in Istio.
 */
#ifndef FLAT_MESH_L4_ROUTE_H
#define FLAT_MESH_L4_ROUTE_H

#include "mesh/route.h"

/* Holds when everything it names does. */
struct flat_l4_match {
	const struct flat_cidr *subnets; /* any of them holds the address that was asked for */
	uint32_t n_subnets;		 /* 0: any address */
	uint16_t port;			 /* of the service; 0: any */
	struct flat_labels source_labels;
	const char *source_namespace; /* NULL: any */
	bool never;		      /* for gateways only */
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
};

/**
 * The route of a connection to a service (its VirtualService is found as flat_mesh_virtual_by_host() does), NULL: there
 * is none, or none holds. *vs is whose it is.
 */
const struct flat_l4_route *flat_l4_route_find(const struct flat_mesh *mesh,
					       const struct flat_service *service,
					       const struct flat_l4_question *question,
					       const struct flat_virtual_service **vs);

/** Whether one match holds. */
bool flat_l4_match(const struct flat_l4_match *match, const struct flat_l4_question *question);

#endif
