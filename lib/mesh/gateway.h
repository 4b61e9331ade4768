/*
 * Ports through which clients from outside come into the mesh: Istio's Gateway. VirtualServices are bound to it by name;
 * which of them holds for a request is the host's to say, among those whose hosts the server shows.
 */
#ifndef FLAT_MESH_GATEWAY_H
#define FLAT_MESH_GATEWAY_H

#include "base/map.h"
#include "mesh/route.h"

enum flat_gateway_tls {
	FLAT_GATEWAY_PLAIN,
	FLAT_GATEWAY_SIMPLE,	      /* the server's certificate */
	FLAT_GATEWAY_MUTUAL,	      /* and the client's, required */
	FLAT_GATEWAY_OPTIONAL_MUTUAL, /* and the client's, if it has one */
	FLAT_GATEWAY_PASSTHROUGH,     /* TLS goes on to the server; only the name is read */
};

/* "NAMESPACE/HOST" of spec.servers.hosts. */
struct flat_gateway_host {
	const char *namespace; /* of the VirtualServices that may use it; NULL: any */
	const char *host;      /* lower case; "*.x", "*" */
};

struct flat_l4_question;
struct flat_l4_route;

struct flat_tls_authority;

/* One of a server's certificates: a Secret, or files. */
struct flat_gateway_certificate {
	const char *cert, *key;
	const char *secret;    /* NULL: files */
	const char *namespace; /* of the Secret; NULL: the workload's */
};

struct flat_gateway_server {
	const char *name; /* "" without */
	uint16_t port;
	bool has_bind; /* else all addresses */
	struct flat_ip bind;
	enum flat_gateway_tls tls;
	bool opaque;   /* TCP, TLS: bytes go on as they are, by routes of connections */
	bool redirect; /* httpsRedirect: each request is answered 301 */
	bool served;   /* false: something of it is not honoured, and it is not opened */
	const struct flat_gateway_host *hosts;
	uint32_t n_hosts;
	const struct flat_gateway_certificate *certs; /* where TLS ends, one at least */
	uint32_t n_certs;
	const char *ca;	       /* file; NULL: none */
	const char *ca_secret; /* in its place a Secret or ConfigMap of the workload's namespace */
	uint8_t min_version, max_version; /* 12, 13; 0: the default */
	const char *ciphers;		  /* joined by colons; NULL: the default */
	/* Who vouches for clients, where the certificate's Secret does not say it (Gateway API), and what is found of them. */
	const struct flat_tls_authority *authorities;
	uint32_t n_authorities;
	const char *ca_text;	  /* PEM */
	const char *const *names; /* one of these the client's certificate must bear */
	uint32_t n_names;	  /* 0: any */
	struct flat_where where;
};

struct flat_gateway {
	const char *name, *namespace;
	struct flat_labels selector; /* empty: every gateway's */
	bool of_api; /* Gateway API's listener: of workloads of its namespace alone */
	const struct flat_gateway_server *servers;
	uint32_t n_servers;
	struct flat_map
	    hosts; /* host of a VirtualService -> struct flat_virtual_service; the mesh's to free */
	struct flat_where where;
};

/* A certificate with its key, as Kubernetes keeps them. Texts are PEM; NULL: not there. */
struct flat_secret {
	const char *name, *namespace;
	const char *cert, *key, *ca;
	const uint8_t *digest; /* SHA-256 of `key`, where it is one for sessions (mesh/persist.h) */
	struct flat_where where;
};

/** Number of Gateways, and one of them. */
uint32_t flat_mesh_n_gateways(const struct flat_mesh *mesh);
const struct flat_gateway *flat_mesh_gateway(const struct flat_mesh *mesh, uint32_t i);

/** A Secret by namespace and name, or NULL. */
const struct flat_secret *flat_mesh_secret(const struct flat_mesh *mesh, const char *namespace,
					   const char *name);

/** `ca.crt` of a ConfigMap by namespace and name, PEM, or NULL. */
const char *flat_mesh_config_map(const struct flat_mesh *mesh, const char *namespace,
				 const char *name);

/** How well a host fits what the server shows: 0 not at all; longer names better, whole ones best. Any case, no port. */
uint32_t flat_gateway_server_fit(const struct flat_gateway_server *server, struct flat_span host);

/**
 * The VirtualService that holds for a host that comes by one server of a gateway, exact hosts before wildcards; NULL: none.
 */
const struct flat_virtual_service *flat_gateway_virtual(const struct flat_gateway *gateway,
							const struct flat_gateway_server *server,
							struct flat_span host);

/**
 * Where a connection that comes by an opaque server of a gateway goes: the first route that holds, of the VirtualServices that
 * are bound to it and that the server shows: `tls` routes where TLS passes through, else `tcp` routes; where TLS ends at a listener of
 * Gateway API its `tls` routes before them. NULL: none.
 */
const struct flat_l4_route *flat_gateway_l4(const struct flat_mesh *mesh,
					    const struct flat_gateway *gateway,
					    const struct flat_gateway_server *server,
					    const struct flat_l4_question *question);

/** What two hosts, of which either may be a wildcard or "*", have in common: the narrower of them; NULL: nothing. */
const char *flat_gateway_host_common(const char *a, const char *b);

/** Whether a VirtualService, or one match of it, is bound to a gateway: `names` as written there. */
bool flat_gateway_named(const struct flat_gateway *gateway, const char *const *names, uint32_t n);

#endif
