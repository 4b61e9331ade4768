/* Gateway API's Gateways: each listener becomes a gateway of the mesh, with one server, that routes are attached to. */
#ifndef FLAT_CONTROL_API_GATEWAY_H
#define FLAT_CONTROL_API_GATEWAY_H

#include "control/api_selector.h"
#include "control/http_route.h"
#include "mesh/gateway.h"

/* Which namespaces' routes a listener takes (allowedRoutes.namespaces). */
enum api_from {
	API_FROM_SAME,
	API_FROM_ALL,
	API_FROM_SELECTOR,
	API_FROM_NONE,
};

struct api_listener {
	const char *name;
	struct flat_gateway *gateway; /* "GATEWAY/LISTENER"; its one server is below */
	struct flat_gateway_server *server;
	const char *host; /* "*": any */
	enum api_from from;
	struct api_selector selector; /* of namespaces */
	unsigned kinds;		      /* bits of enum api_kind */
};

struct api_gateway {
	struct api_gateway *next;
	const char *name, *namespace;
	struct api_listener *listeners;
	uint32_t n_listeners;
};

/* A Namespace, for its labels. */
struct api_namespace {
	struct api_namespace *next;
	const char *name;
	struct flat_labels labels;
};

/** The listeners that a route's references to Gateways mean become its parents, and what finds none is said. */
void cfg_api_attach(struct cfg *cfg, struct api_route *route);

/** Certificates whose Secret is another namespace's, which does not permit it, are left out; a listener without any is not opened. */
void cfg_api_check_secrets(struct cfg *cfg);

#endif
