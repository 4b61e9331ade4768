/*
 * What a DestinationRule says of the traffic to a service (trafficPolicy): how its endpoints are chosen, how much may be
 * asked of them, when one is put aside. Immutable, as the mesh is.
 */
#ifndef FLAT_MESH_TRAFFIC_H
#define FLAT_MESH_TRAFFIC_H

#include "mesh/locality.h"
#include "mesh/mesh.h"

enum flat_lb_kind {
	FLAT_LB_ROUND_ROBIN, /* smooth, by weight: mesh/balance.h */
	FLAT_LB_LEAST_REQUEST,
	FLAT_LB_RANDOM,
	FLAT_LB_RING_HASH, /* mesh/hashing.h */
	FLAT_LB_MAGLEV,
};

/* Where nothing is said, as in Istio. */
#define FLAT_LB_DEFAULT FLAT_LB_LEAST_REQUEST

/* What of a request is hashed. */
enum flat_hash_key {
	FLAT_HASH_HEADER,
	FLAT_HASH_COOKIE,
	FLAT_HASH_QUERY,
	FLAT_HASH_SOURCE_IP,
};

/* An endpoint that is new gets its share little by little: of its weight, max(min_percent, (age / ms) ^ (1 / aggression)). */
struct flat_warmup {
	uint32_t ms; /* 0: none */
	uint32_t min_percent;
	double aggression;
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
	struct flat_warmup warmup;
	const struct flat_locality_lb *locality; /* NULL: the mesh's */
	struct flat_where where;
};

/* No bound. */
#define FLAT_UNBOUNDED UINT32_MAX

/* connectionPool: how much may be asked of all endpoints together, and how connections to them are kept. */
struct flat_breaker {
	uint32_t max_connections;
	uint32_t max_pending;
	uint32_t max_requests;
	uint32_t max_retries;
	uint32_t max_per_connection; /* requests; 0: no bound */
	uint32_t connect_ms;	     /* 0: as the system has it */
	uint32_t idle_ms;	     /* of a connection without requests; 0: none */
	struct flat_where where;
};

/* outlierDetection, with Envoy's meaning. Counts of 0 are off. */
struct flat_outlier {
	uint32_t consecutive_5xx;
	uint32_t consecutive_gateway;
	uint32_t consecutive_local;
	bool split; /* errors of ours are counted apart from the server's */
	uint32_t interval_ms;
	uint32_t base_ms;
	uint32_t max_percent; /* of the endpoints that may be put aside at once */
	uint32_t min_health;  /* percent; with fewer healthy ones all are used */
	struct flat_where where;
};

struct flat_retry_budget {
	uint32_t percent; /* in millionths: of the requests on their way */
	uint32_t min;	  /* retries at once that are allowed always */
};

/* TLS towards endpoints: ISTIO_MUTUAL through the flatds of other hosts; SIMPLE and MUTUAL begun by ours. */
enum flat_tls_mode {
	FLAT_TLS_UNSET, /* as the endpoint's label says */
	FLAT_TLS_DISABLE,
	FLAT_TLS_ISTIO_MUTUAL,
	FLAT_TLS_SIMPLE,
	FLAT_TLS_MUTUAL,
};

/* TLS that flatd begins, and how it knows the server. NULL: not said. */
struct flat_tls_origin {
	bool mutual;
	bool unverified; /* whoever answers is believed */
	bool of_service; /* a BackendTLSPolicy's: not for clients that begin TLS themselves */
	const char *cert, *key;	 /* files */
	const char *ca;		 /* file of authorities; else those of the system */
	const char *authorities; /* in the place of the file: PEM */
	const char *broken;	 /* why it cannot be begun at all; NULL: it can */
	const char *credential;	 /* a Secret, in the place of the files; of `namespace` */
	const char *namespace;	 /* the rule's */
	const char *sni;	 /* else the host that is asked for */
	const char *const
	    *names; /* one of them the certificate bears; none: the host that is asked for */
	uint32_t n_names;
	struct flat_where where;
};

/* NULL, UNSET: not said, the default holds. */
struct flat_traffic {
	const struct flat_lb *lb;
	const struct flat_breaker *breaker;
	const struct flat_outlier *outlier;
	const struct flat_retry_budget *budget;
	const struct flat_tls_origin *origin; /* with SIMPLE and MUTUAL; else NULL */
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
struct flat_destination_rule;
struct flat_backend_tls;

/** Number of BackendTLSPolicies, and one of them (mesh/build.h). */
uint32_t flat_mesh_n_backend_tls(const struct flat_mesh *mesh);
const struct flat_backend_tls *flat_mesh_backend_tls(const struct flat_mesh *mesh, uint32_t i);

/**
 * The DestinationRule that holds for clients of a namespace (NULL: of none): of the client's namespace, else of the
 * service's, else of the root namespace, the last two if they are exported to it. Those for some workloads alone are left out. NULL: none.
 */
const struct flat_destination_rule *flat_mesh_rule_for(const struct flat_mesh *mesh,
						       const struct flat_service *service,
						       const char *namespace);

/**
 * Likewise for a client's workload (NULL: it has none): of its namespace's rules of a host one that selects it goes before those for
 * all, as in Istio.
 */
const struct flat_destination_rule *flat_mesh_rule_of(const struct flat_mesh *mesh,
						      const struct flat_service *service,
						      const struct flat_workload *client);

/**
 * What holds for a port of a service, or of a subset of it (NULL: the whole), by a rule (NULL: none); of TLS, where the rule
 * says nothing of it, what the service's BackendTLSPolicy says.
 */
struct flat_traffic flat_rule_traffic(const struct flat_destination_rule *rule,
				      const struct flat_subset *subset,
				      const struct flat_service *service,
				      const struct flat_service_port *port);

/** A subset by name, or NULL. A rule of NULL has none. */
const struct flat_subset *flat_rule_subset(const struct flat_destination_rule *rule,
					   const char *name);

/** How localities count where a rule says nothing (MeshConfig); NULL: Istio's default. */
const struct flat_locality_lb *flat_mesh_locality(const struct flat_mesh *mesh);

/** Whether anything is said of the traffic to a service, for a client's workload (NULL: it has none). */
bool flat_mesh_has_traffic(const struct flat_mesh *mesh, const struct flat_service *service,
			   const struct flat_workload *client);

/** How its endpoints are chosen: of `lb`, NULL included. */
enum flat_lb_kind flat_lb_kind_of(const struct flat_lb *lb);
/** "ROUND_ROBIN", "RING_HASH", ... */
const char *flat_lb_name(enum flat_lb_kind kind);
/** "header", "cookie", "query parameter", "source address". */
const char *flat_hash_key_name(enum flat_hash_key key);

#endif
