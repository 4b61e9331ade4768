/*
 * One configuration of the mesh: services, workloads and policies, with the look-ups that admission
 * needs. Immutable once built, but for the endpoints of services (mesh/build.h, flat_mesh_patch()); shared by reference
 * count; every pointer that a query returns lives as long as a reference to the mesh is held, endpoints until the next patch.
 *
 * Files are turned into a mesh by lib/control (control/config.h); tests build one with
 * mesh/build.h. Policies are asked through mesh/authz.h and mesh/policy.h, endpoints chosen with
 * mesh/balance.h.
 */
#ifndef FLAT_MESH_MESH_H
#define FLAT_MESH_MESH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/diag.h"
#include "mesh/addr.h"
#include "mesh/labels.h"

/* The trust domain of every principal, as Istio's default. */
#define FLAT_TRUST_DOMAIN "cluster.local"
/* Namespace of a resource that names none, as kubectl's default. */
#define FLAT_NAMESPACE_DEFAULT "default"
/* Namespace whose policies hold for the whole mesh, unless MeshConfig.rootNamespace names another.
 */
#define FLAT_ROOT_NAMESPACE_DEFAULT "istio-system"
/* Domain of Kubernetes services. */
#define FLAT_CLUSTER_DOMAIN "svc.cluster.local"

/* --- workloads --- */

/* Which of the attributes a selector names; all named ones must hold. */
enum flat_selector_has {
	FLAT_SELECTOR_UID = 1 << 0,
	FLAT_SELECTOR_GID = 1 << 1,
	FLAT_SELECTOR_CGROUP = 1 << 2,
	FLAT_SELECTOR_EXECUTABLE = 1 << 3,
	FLAT_SELECTOR_EXECUTABLE_OWNER = 1 << 4,
};

struct flat_selector {
	unsigned has;		/* enum flat_selector_has, or-ed; never 0 */
	uid_t uid;		/* effective uid of the process */
	gid_t gid;		/* effective gid of the process */
	const char *cgroup;	/* absolute cgroup path; holds for it and everything below it */
	bool cgroup_glob;	/* cgroup has * ? or [ (each within one path component) */
	const char *executable; /* absolute path */
	uid_t executable_owner; /* owner of the executable file */
	struct flat_where where;
};

struct flat_workload {
	const char *name;
	const char *namespace;
	const char *service_account;
	const char *principal; /* "cluster.local/ns/NAMESPACE/sa/SERVICE_ACCOUNT" */
	struct flat_labels labels;
	const char *locality; /* "region/zone/subzone"; NULL: unknown */
	const struct flat_selector *selectors;
	uint32_t n_selectors;
	/* Bounds for one process (session) of the workload; 0: the default of base/limits.h. */
	uint32_t limit_connections;
	uint64_t limit_memory_bytes;
	uint32_t limit_weight; /* share of turns against other sessions; 1..1000, default 1 */
	bool
	    confined; /* each selector names a cgroup, no pattern, whose TCP connections all go through flatd */
	struct flat_where where;
	uint32_t index; /* position in the mesh's workloads */
};

/* What the kernel says about a process. */
struct flat_attest {
	uid_t uid;
	gid_t gid;
	pid_t pid;		  /* for messages only */
	const char *cgroup_paths; /* the text of /proc/PID/cgroup, all lines; NULL: unknown */
	const char *exe;	  /* target of /proc/PID/exe; NULL: unknown */
	bool exe_owner_known;	  /* exe_owner is valid */
	uid_t exe_owner;
};

/* --- services --- */

enum flat_protocol {
	FLAT_PROTOCOL_TCP,
	FLAT_PROTOCOL_HTTP,
	FLAT_PROTOCOL_HTTP2,
	FLAT_PROTOCOL_GRPC,
	FLAT_PROTOCOL_GRPC_WEB,
	FLAT_PROTOCOL_HTTPS,
	FLAT_PROTOCOL_TLS,
	FLAT_PROTOCOL_MONGO,
	FLAT_PROTOCOL_MYSQL,
	FLAT_PROTOCOL_REDIS,
};

/** Whether connections to a port of this protocol can be read request by request. */
static inline bool flat_protocol_is_http(enum flat_protocol protocol)
{
	return protocol >= FLAT_PROTOCOL_HTTP && protocol <= FLAT_PROTOCOL_GRPC_WEB;
}

/** Whether connections to a port of this protocol begin with TLS, which goes on to the server. */
static inline bool flat_protocol_is_tls(enum flat_protocol protocol)
{
	return protocol == FLAT_PROTOCOL_HTTPS || protocol == FLAT_PROTOCOL_TLS;
}

enum flat_resolution {
	FLAT_RESOLUTION_STATIC, /* connect to one of the endpoints */
	FLAT_RESOLUTION_NONE,	/* connect to the address the application asked for */
	FLAT_RESOLUTION_DNS, /* as STATIC; endpoints, or some of them, are the addresses of names */
};

/* How bytes are asked to travel, annotation mesh.libflat.io/path. */
enum flat_path {
	FLAT_PATH_AUTO,	     /* direct where both sides are local and no rule asks otherwise */
	FLAT_PATH_DIRECT,    /* as AUTO: a wish, never over a rule */
	FLAT_PATH_FORWARDED, /* through the offload half */
};

enum flat_service_kind {
	FLAT_SERVICE_ENTRY,	 /* Istio ServiceEntry */
	FLAT_SERVICE_KUBERNETES, /* Kubernetes Service */
};

struct flat_endpoint {
	struct flat_ip ip;
	uint16_t port;			  /* host order */
	uint32_t weight;		  /* >= 1 */
	const char *service_account;	  /* of the endpoint, or NULL */
	const struct flat_labels *labels; /* never NULL */
	const char *locality;		  /* "region/zone/subzone"; NULL: unknown */
	bool draining; /* it is about to go: sessions come back to it, and nobody else comes */
	struct flat_where where;
};

struct flat_service_port {
	uint16_t number;      /* what clients connect to */
	uint16_t target_port; /* what endpoints listen on, where an endpoint names no other */
	enum flat_protocol protocol;
	bool declared;	  /* else it is TCP for want of a word */
	const char *name; /* never NULL */
	const struct flat_endpoint *endpoints;
	uint32_t n_endpoints;
	uint32_t turn; /* another one with each flat_mesh_patch() of them */
	struct flat_where where;
};

/* exportTo: the namespaces whose clients see a resource. All zero: nothing is said, and they all do. */
struct flat_export {
	bool said;    /* else what MeshConfig says of all resources of its kind holds */
	bool limited; /* not "*": only clients of those that are named */
	bool own;     /* ".": its own */
	const char *const *namespaces; /* sorted by name, without doubles */
	uint32_t n;
	struct flat_where where;
};

struct flat_health_check;
struct flat_tls_origin;
struct flat_persistence;
struct flat_mesh_patch;

/* Another name of a service: a Kubernetes Service of type ExternalName whose `externalName` is a host of the mesh. */
struct flat_alias {
	const char *name, *namespace, *host;
	const char *target; /* as written, in small letters, without a dot at its end */
	const struct flat_service *service; /* NULL: nobody in the mesh has that host */
	struct flat_where where;
};

/* One host name of one ServiceEntry, or one Kubernetes Service. */
struct flat_service {
	enum flat_service_kind kind;
	const char *name; /* of the resource */
	const char *namespace;
	const char
	    *host; /* lower case; "*.x" for a wildcard; Kubernetes: NAME.NS.svc.cluster.local */
	const struct flat_cidr *addresses;
	uint32_t n_addresses; /* 0: reached by endpoint address or not at all */
	bool auto_address;    /* the one address was allocated from 240.240.0.0/16 */
	bool any_address;  /* NONE without addresses: any address on its TCP ports, and on its TLS
				 ports where it is asked for by name */
	bool headless;	   /* Kubernetes, clusterIP None: addresses are those of the endpoints */
	bool external;	   /* ServiceEntry location MESH_EXTERNAL: endpoints are outside the mesh */
	bool has_selector; /* local workloads are endpoints too, by flat_service_selects() */
	bool not_ready; /* Kubernetes, publishNotReadyAddresses: endpoints that are not ready too */
	bool routes_below; /* a wildcard's: there are routes of names that it holds */
	bool tls_below;	   /* likewise `tls` routes */
	struct flat_labels selector;
	struct flat_export export;
	enum flat_resolution resolution;
	enum flat_path path;
	struct flat_service_port *ports; /* flat_mesh_patch() changes their endpoints */
	uint32_t n_ports;
	struct flat_mesh_patch *patch; /* whose endpoints these are; NULL: those of the load */
	/* Of each port, found when the mesh is finished (mesh/health.h); NULL: none of any. */
	const struct flat_health_check **health;
	/* Of each port, how it is spoken to where no DestinationRule says it (BackendTLSPolicy); NULL: none of any. */
	const struct flat_tls_origin **tls;
	/* Of requests that no route's says it of (mesh/persist.h); NULL: none. */
	const struct flat_persistence *persistence;
	struct flat_where where;
	uint32_t index; /* position in the mesh's services */
};

struct flat_mesh;

/** Takes one more reference; returns `mesh`. Any thread. */
struct flat_mesh *flat_mesh_get(struct flat_mesh *mesh);

/** Gives a reference back; the last one frees the mesh. NULL is allowed. Any thread. */
void flat_mesh_put(struct flat_mesh *mesh);

/** The namespace whose policies hold everywhere. */
const char *flat_mesh_root_namespace(const struct flat_mesh *mesh);

/** How many proxies before a gateway are trusted (MeshConfig gatewayTopology.numTrustedProxies). */
uint32_t flat_mesh_trusted_proxies(const struct flat_mesh *mesh);

/** Whether %2F and %5C in paths of requests are slashes (MeshConfig pathNormalization); else they are refused. */
bool flat_mesh_decodes_slashes(const struct flat_mesh *mesh);

/** Number of services. */
uint32_t flat_mesh_n_services(const struct flat_mesh *mesh);

/** Service `i` of flat_mesh_n_services(); in the order of the files. */
const struct flat_service *flat_mesh_service(const struct flat_mesh *mesh, uint32_t i);

/** The same of other names of services. */
uint32_t flat_mesh_n_aliases(const struct flat_mesh *mesh);
const struct flat_alias *flat_mesh_alias(const struct flat_mesh *mesh, uint32_t i);

/**
 * The service that owns `ip` on `port` (host order), and its port; NULL if none. One address wins
 * over a block, the longer block over the shorter, any of them over a service without addresses.
 * O(number of different prefix lengths). `port_out` may be NULL.
 */
const struct flat_service *flat_mesh_service_by_addr(const struct flat_mesh *mesh,
						     const struct flat_ip *ip, uint16_t port,
						     const struct flat_service_port **port_out);

/**
 * Whether services without addresses have `port` for TLS: which of them a connection is for, the name says that is asked for.
 */
bool flat_mesh_names_at(const struct flat_mesh *mesh, uint16_t port);

/** The one of them that has this host name, exact ones before wildcards, and its port; NULL: none. */
const struct flat_service *flat_mesh_service_by_sni(const struct flat_mesh *mesh, const char *sni,
						    uint16_t port,
						    const struct flat_service_port **port_out);

/**
 * The service that owns `ip` on any port at all; NULL if none. With flat_mesh_service_by_addr()
 * NULL it tells "no such port on this service" (refuse) from "not in the mesh" (egress policy).
 */
const struct flat_service *flat_mesh_service_owning(const struct flat_mesh *mesh,
						    const struct flat_ip *ip);

/**
 * The first service with an endpoint at `ip` and `port`, and the port it is under; NULL if none.
 * `port_out` may be NULL.
 */
const struct flat_service *flat_mesh_service_by_endpoint(const struct flat_mesh *mesh,
							 const struct flat_ip *ip, uint16_t port,
							 const struct flat_service_port **port_out);

/**
 * The service of a host name: any case, a final dot allowed. Exact hosts first; then the Kubernetes
 * short forms NAME (in `namespace`, NULL: "default"), NAME.NS, NAME.NS.svc; then wildcard hosts,
 * longest first. NULL if none.
 */
const struct flat_service *flat_mesh_service_by_host(const struct flat_mesh *mesh, const char *host,
						     const char *namespace);

/** Whether connections to it go to one of its endpoints; else to the address that was asked for. */
static inline bool flat_service_has_endpoints(const struct flat_service *service)
{
	return service->resolution != FLAT_RESOLUTION_NONE;
}

/** The service that has exactly this host, in small letters; "*.x": the wildcard itself. NULL if none. */
const struct flat_service *flat_mesh_service_named(const struct flat_mesh *mesh, const char *host);

/** The port of a service by number (host order), or NULL. */
const struct flat_service_port *flat_service_port(const struct flat_service *service,
						  uint16_t number);

/**
 * The address that the service's host name resolves to: its first address, for a block its first
 * usable one. 0, or -ENOENT if it has none.
 */
FLAT_MUST_CHECK int flat_service_resolve(const struct flat_service *service, struct flat_ip *ip);

/**
 * Whether a local workload that listens on `target_port` is an endpoint of the service by the
 * service's selector (Kubernetes spec.selector, Istio spec.workloadSelector: same namespace, all
 * labels). The port is given in `port_out` (may be NULL).
 */
bool flat_service_selects(const struct flat_service *service, const struct flat_workload *workload,
			  uint16_t target_port, const struct flat_service_port **port_out);

/**
 * Whether no service that selects a local workload says of its port that it may be HTTP: authorizers over HTTP do not hold for
 * it, as in Istio, if one says so. Those are added to `n`. O(services).
 */
bool flat_mesh_says_opaque(const struct flat_mesh *mesh, const struct flat_workload *workload,
			   uint16_t target_port, uint32_t *n);

/** "TCP", "HTTP", ... */
const char *flat_protocol_name(enum flat_protocol protocol);

/** "STATIC", "NONE", "DNS". */
const char *flat_resolution_name(enum flat_resolution resolution);

/** "auto", "direct", "forwarded". */
const char *flat_path_name(enum flat_path path);

/** Number of workloads. */
uint32_t flat_mesh_n_workloads(const struct flat_mesh *mesh);

/** Workload `i` of flat_mesh_n_workloads(); in the order of the files. */
const struct flat_workload *flat_mesh_workload_at(const struct flat_mesh *mesh, uint32_t i);

/** A workload by namespace (NULL: "default") and name, or NULL. */
const struct flat_workload *flat_mesh_workload_by_name(const struct flat_mesh *mesh,
						       const char *namespace, const char *name);

/**
 * The workload a process belongs to, or NULL: then it has no principal, and is treated as a plain
 * client. Where several have a matching selector, the one with the most specific wins: the selector
 * that names more attributes; then the longer cgroup; then the one that comes first in the files.
 * An attribute the kernel did not tell (NULL, unknown) matches no selector that names it.
 */
const struct flat_workload *flat_mesh_workload(const struct flat_mesh *mesh,
					       const struct flat_attest *attest);

/** Whether one selector holds for a process; for explanations. */
bool flat_selector_match(const struct flat_selector *selector, const struct flat_attest *attest);

#endif
