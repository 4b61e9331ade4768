/*
 * What a DestinationRule says of the traffic to a service (trafficPolicy): how its endpoints are chosen. Immutable, as
 * the mesh is.
 */
#ifndef FLAT_MESH_TRAFFIC_H
#define FLAT_MESH_TRAFFIC_H

#include "mesh/mesh.h"

enum flat_lb_kind {
	FLAT_LB_ROUND_ROBIN, /* smooth, by weight: mesh/balance.h */
	FLAT_LB_LEAST_REQUEST,
	FLAT_LB_RANDOM,
	FLAT_LB_RING_HASH, /* mesh/hashing.h */
	FLAT_LB_MAGLEV,
};

/* What of a request is hashed. */
enum flat_hash_key {
	FLAT_HASH_HEADER,
	FLAT_HASH_COOKIE,
	FLAT_HASH_QUERY,
	FLAT_HASH_SOURCE_IP,
};

struct flat_lb {
	enum flat_lb_kind kind;
	/* RING_HASH, MAGLEV. */
	enum flat_hash_key key;
	const char *name;  /* of the header, cookie or parameter; NULL: SOURCE_IP */
	const char *path;  /* of a cookie that is made, or NULL */
	uint32_t ttl_s;	   /* of a cookie that is made; 0: until the browser ends */
	bool makes_cookie; /* a request without it is given one */
	uint32_t size;	   /* least points of the ring, entries of the table */
	struct flat_where where;
};

/* Whether endpoints on other hosts are spoken to with mutual TLS, through their flatd. */
enum flat_tls_mode {
	FLAT_TLS_UNSET, /* as the endpoint's label says */
	FLAT_TLS_DISABLE,
	FLAT_TLS_ISTIO_MUTUAL,
};

/* NULL, UNSET: not said, the default holds. */
struct flat_traffic {
	const struct flat_lb *lb;
	enum flat_tls_mode tls;
};

struct flat_traffic_port {
	uint16_t number;
	struct flat_traffic traffic;
};

struct flat_traffic_policy {
	struct flat_traffic all;
	const struct flat_traffic_port *ports; /* each stands alone: it takes nothing from `all` */
	uint32_t n_ports;
};

struct flat_subset;

/** What holds for a port of a service, or of a subset of it (NULL: the whole); all NULL without a rule. */
struct flat_traffic flat_mesh_traffic(const struct flat_mesh *mesh,
				      const struct flat_service *service,
				      const struct flat_subset *subset, uint16_t port);

/** Whether a DestinationRule says anything of the traffic to a service. */
bool flat_mesh_has_traffic(const struct flat_mesh *mesh, const struct flat_service *service);

/** "ROUND_ROBIN", "RING_HASH", ... */
const char *flat_lb_name(enum flat_lb_kind kind);
/** "header", "cookie", "query parameter", "source address". */
const char *flat_hash_key_name(enum flat_hash_key key);

#endif
