/*
 * Gateway API's Gateways, and the ListenerSets that add listeners to them: each listener becomes a gateway of the mesh, with one
 * server, that routes are attached to.
 */
#ifndef FLAT_CONTROL_API_GATEWAY_H
#define FLAT_CONTROL_API_GATEWAY_H

#include "control/api_selector.h"
#include "control/http_route.h"
#include "mesh/gateway.h"

/* Which namespaces' routes a listener takes (allowedRoutes.namespaces), or whose ListenerSets a Gateway (allowedListeners). */
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

/* What is asked of clients' certificates where TLS ends. */
struct api_frontend {
	uint16_t port;
	bool asks;
	bool optional;
	const struct flat_tls_authority *authorities;
	uint32_t n_authorities;
};

/* A Gateway or a ListenerSet. */
struct api_gateway {
	struct api_gateway *next;
	const char *name, *namespace;
	struct api_listener *listeners;
	uint32_t n_listeners;
	/* Of a Gateway, for all listeners that join it. */
	struct api_frontend otherwise; /* of ports that have none of their own */
	struct api_frontend *ports;
	uint32_t n_ports;
	enum api_from allows; /* whose ListenerSets */
	struct api_selector allowed;
	/* Of a ListenerSet. */
	bool is_set;
	const char *of, *of_namespace;	   /* its Gateway */
	const struct api_gateway *gateway; /* the same, once it has joined it */
	const char *created;		   /* as of a route */
	struct flat_where where;
};

/* A Namespace, for its labels. */
struct api_namespace {
	struct api_namespace *next;
	const char *name;
	struct flat_labels labels;
};

/** The Gateway, or ListenerSet, of that name; NULL: none. */
const struct api_gateway *cfg_api_find(const struct cfg *cfg, bool set, const char *name,
				       const char *namespace);

/** Whether what namespace `own` has takes what is of namespace `other`. */
bool cfg_api_admits(const struct cfg *cfg, enum api_from from, const struct api_selector *selector,
		    const char *own, const char *other);

/** `listeners`, of a struct api_gateway. */
void cfg_api_listeners(struct cfg *cfg, const struct yaml_node *node, void *obj);

/** Makes a listener, its own or of a set (NULL: its own), a gateway of the mesh: one of the workloads of Gateway `g`. */
void cfg_api_open(struct cfg *cfg, const struct api_gateway *g, const struct api_gateway *set,
		  struct api_listener *l);

/** The listeners of ListenerSets join their Gateways, in the order that the specification gives; which ones do not is told. */
void cfg_api_join(struct cfg *cfg);

/** The listeners that a route's references to Gateways mean become its parents, and what finds none is said. */
void cfg_api_attach(struct cfg *cfg, struct api_route *route);

/** Certificates whose Secret is another namespace's, which does not permit it, are left out; a listener without any is not opened. */
void cfg_api_check_secrets(struct cfg *cfg);

#endif
