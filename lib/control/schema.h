/*
 * Reading values by tables of fields. A table names every field of a kind's published schema: those we
 * honour have a function; those we know but do not honour have the reason; all others are errors.
 * Reading goes on after an error, so that one run shows all of them; lack of memory is noted once.
 */
#ifndef FLAT_CONTROL_SCHEMA_H
#define FLAT_CONTROL_SCHEMA_H

#include "base/map.h"
#include "control/limits.h"
#include "control/yaml.h"
#include "mesh/build.h"

struct k8s_service;
struct api_route;
struct api_grant;
struct api_gateway;
struct api_namespace;

/* One load in progress. */
struct cfg {
	struct flat_diags *diags;
	struct flat_mesh *mesh;
	struct flat_pool *pool;	   /* the mesh's: for what stays */
	struct flat_pool tmp;	   /* for what goes when the load ends */
	struct flat_map ids;	   /* "Kind/namespace/name" -> struct flat_where */
	struct flat_map selectors; /* a selector's text -> struct flat_workload */
	/* Kubernetes Services by "namespace/name", and those in order; EndpointSlices join at the end. */
	struct flat_map k8s_services;
	struct k8s_service *k8s_first, *k8s_last;
	struct k8s_slice *slice_first, *slice_last;
	bool kept; /* the document that is read lives in the cache */
	/* Without a mesh (control/patch.c): the services of the ServiceEntry that was read last. */
	struct flat_service **made;
	uint32_t n_made;
	/* Gateway API: routes in order, and where the next goes; grants. */
	struct api_route *api_routes, **api_last;
	struct api_grant *api_grants;
	struct api_gateway *api_gateways;
	struct api_namespace *api_namespaces;
	/* Endpoints by name: NULL where nobody resolves them; and how often, 0: not said. */
	struct flat_names *names;
	uint32_t dns_refresh_ms;
	bool has_mesh_config;
	struct flat_where mesh_config_where;
	bool oom;
	/* The resource being read. */
	char resource[FLAT_CONFIG_NAME_MAX * 2 + 64];
	const char *name, *namespace; /* from the mesh's pool */
	struct flat_labels labels;
	const struct yaml_node *annotations; /* MAP or NULL */
	const struct yaml_node *created;     /* as it is written; NULL: not said */
	struct flat_where where;
};

typedef void cfg_parse_fn(struct cfg *cfg, const struct yaml_node *value, void *obj);

enum cfg_status {
	CFG_HONOURED,	  /* `parse` is called */
	CFG_NOT_HONOURED, /* a warning with `why` */
	CFG_IGNORED,	  /* what the API server writes: no configuration */
};

struct cfg_field {
	const char *name;
	enum cfg_status status;
	cfg_parse_fn *parse;
	const char *why;
};

#define CFG_FIELD(n, fn)                                                                           \
	{                                                                                          \
		.name = (n), .status = CFG_HONOURED, .parse = (fn)                                 \
	}
#define CFG_UNHONOURED(n, reason)                                                                  \
	{                                                                                          \
		.name = (n), .status = CFG_NOT_HONOURED, .why = (reason)                           \
	}
#define CFG_SKIP(n)                                                                                \
	{                                                                                          \
		.name = (n), .status = CFG_IGNORED                                                 \
	}

/** Reports an error at `where` about the current resource. */
void cfg_error(struct cfg *cfg, const struct flat_where *where, enum flat_diag_code code,
	       const char *todo, const char *fmt, ...) FLAT_PRINTF(5, 6);

/** Reports a warning likewise. */
void cfg_warn(struct cfg *cfg, const struct flat_where *where, enum flat_diag_code code,
	      const char *todo, const char *fmt, ...) FLAT_PRINTF(5, 6);

/** Reads a mapping by a table; `obj` goes to the fields' functions. Null values count as absent. */
void cfg_map(struct cfg *cfg, const struct yaml_node *node, const struct cfg_field *fields,
	     size_t n_fields, void *obj);

/** Calls `parse` for each item of a list of at most `max`; returns the number, 0 if it is no list. */
uint32_t cfg_list(struct cfg *cfg, const struct yaml_node *node, uint32_t max, cfg_parse_fn *parse,
		  void *obj);

/** Whether `node` is of a kind; else an error is reported. */
bool cfg_expect(struct cfg *cfg, const struct yaml_node *node, enum yaml_kind kind);

/** A zeroed array from the mesh's pool; NULL (and cfg->oom) without memory or when n is 0. */
void *cfg_array(struct cfg *cfg, size_t n, size_t size);

/** The text of a scalar, copied to the mesh's pool; NULL with an error if it is none, empty, too long. */
const char *cfg_string(struct cfg *cfg, const struct yaml_node *node);

/** A whole number in [min, max]; false with an error otherwise. */
bool cfg_uint(struct cfg *cfg, const struct yaml_node *node, uint64_t min, uint64_t max,
	      uint64_t *out);

/** A port number, 1..65535, quoted or not; 0 with an error otherwise. */
uint16_t cfg_port(struct cfg *cfg, const struct yaml_node *node);

/** One of `n` names; its index, or -1 with an error that hints at the nearest. */
int cfg_enum(struct cfg *cfg, const struct yaml_node *node, const char *const *names, size_t n);

/** true or false; anything else is an error and gives false. */
bool cfg_bool(struct cfg *cfg, const struct yaml_node *node);

/** A mapping of texts. */
struct flat_labels cfg_labels(struct cfg *cfg, const struct yaml_node *node);

/** A selector `{matchLabels: {...}}` (spec.selector of Istio's policies). */
struct flat_labels cfg_match_labels(struct cfg *cfg, const struct yaml_node *node);

/** Whether `text` is a DNS label (`dots` false) or a DNS name of labels (true), RFC 1123, lower case. */
bool cfg_is_dns(const char *text, bool dots);

/** The one of `names` nearest to `text`, if near enough to be meant; else NULL. */
const char *cfg_nearest(const char *text, const char *const *names, size_t n);

/** A warning per annotation of our own and of Istio's that is not in `known`; others are free text. */
void cfg_check_annotations(struct cfg *cfg, const char *const *known, size_t n);

/* The kinds; `spec` is the document's root. */
void cfg_service_entry(struct cfg *cfg, const struct yaml_node *root);
void cfg_virtual_service(struct cfg *cfg, const struct yaml_node *root);
void cfg_http_route(struct cfg *cfg, const struct yaml_node *root);
void cfg_grpc_route(struct cfg *cfg, const struct yaml_node *root);
void cfg_tcp_route(struct cfg *cfg, const struct yaml_node *root);
void cfg_tls_route(struct cfg *cfg, const struct yaml_node *root);
void cfg_reference_grant(struct cfg *cfg, const struct yaml_node *root);
void cfg_gateway(struct cfg *cfg, const struct yaml_node *root);
void cfg_api_gateway(struct cfg *cfg, const struct yaml_node *root);
void cfg_listener_set(struct cfg *cfg, const struct yaml_node *root);
void cfg_namespace(struct cfg *cfg, const struct yaml_node *root);
void cfg_secret(struct cfg *cfg, const struct yaml_node *root);
void cfg_backend_tls(struct cfg *cfg, const struct yaml_node *root);
/** A ConfigMap with `ca.crt`. */
void cfg_authorities(struct cfg *cfg, const struct yaml_node *root);
void cfg_destination_rule(struct cfg *cfg, const struct yaml_node *root);
void cfg_authorization_policy(struct cfg *cfg, const struct yaml_node *root);
void cfg_request_authentication(struct cfg *cfg, const struct yaml_node *root);
/** targetRef (one) or targetRefs (a list) of a policy, added to *out. */
void cfg_policy_targets(struct cfg *cfg, const struct yaml_node *node,
			struct flat_policy_targets *out);
/** extensionProviders of a MeshConfig: the external authorizers among them. */
void cfg_extension_providers(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_envoy_filter(struct cfg *cfg, const struct yaml_node *root);
void cfg_telemetry(struct cfg *cfg, const struct yaml_node *root);
void cfg_peer_authentication(struct cfg *cfg, const struct yaml_node *root);
void cfg_sidecar(struct cfg *cfg, const struct yaml_node *root);
/** A Sidecar's spec.egress; `obj` is its struct flat_egress_policy. */
void cfg_egress(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_mesh_config(struct cfg *cfg, const struct yaml_node *root);
void cfg_config_map(struct cfg *cfg, const struct yaml_node *root);
void cfg_k8s_service(struct cfg *cfg, const struct yaml_node *root);
void cfg_endpoint_slice(struct cfg *cfg, const struct yaml_node *root);
void cfg_workload(struct cfg *cfg, const struct yaml_node *root);

/** Makes VirtualServices of HTTPRoutes, once everything is read. */
void cfg_gateway_api_finish(struct cfg *cfg);

/** Joins EndpointSlices to their Services, once everything is read. */
void cfg_k8s_finish(struct cfg *cfg);

struct flat_config_cache;
/** Tells the cache of all EndpointSlices that were read, by Service. 0 or -ENOMEM. */
FLAT_MUST_CHECK int cfg_k8s_remember(const struct cfg *cfg, struct flat_config_cache *cache);
/** Joins the EndpointSlices that were read, all of one Service, into a patch of it. */
void cfg_k8s_patch(struct cfg *cfg, struct flat_mesh_patch *patch);

/** Reads one document: a resource, or a List of them. 0 or -ENOMEM. */
FLAT_MUST_CHECK int cfg_read_document(struct cfg *cfg, const struct yaml_node *root);

/** The fields every resource has at its top: apiVersion, kind, metadata, status. */
#define CFG_TOP_FIELDS                                                                             \
	CFG_SKIP("apiVersion"), CFG_SKIP("kind"), CFG_SKIP("metadata"), CFG_SKIP("status")

/** Reads a document's top level by CFG_TOP_FIELDS and `spec`, whose value goes to `parse` with `obj`. */
void cfg_spec(struct cfg *cfg, const struct yaml_node *root, cfg_parse_fn *parse, void *obj);

/** The path asked for by the annotation mesh.libflat.io/path; AUTO without it. `exports`: networking.istio.io/exportTo has a meaning too. */
enum flat_path cfg_path(struct cfg *cfg, bool exports);

#endif
