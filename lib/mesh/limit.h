/*
 * Rate limits of HTTP requests, from EnvoyFilters: local ones (envoy.filters.http.local_ratelimit) at a workload's server side;
 * those that a rate limit service decides (envoy.filters.http.ratelimit), there and at a gateway; and the rate_limits of virtual
 * hosts and routes, which say what of a request both look at.
 * Source: istio.io task "Enabling Rate Limits using Envoy", Envoy's LocalRateLimit, RateLimit and route RateLimit (v3).
 */
#ifndef FLAT_MESH_LIMIT_H
#define FLAT_MESH_LIMIT_H

#include "mesh/route.h"

/* Limits of a mesh: each is asked for each request that a server gets. */
#define FLAT_LIMITS_MAX 64U
/* Likewise of those that a service decides: each is a question more. And EnvoyFilter patches with rate_limits. */
#define FLAT_RATES_MAX 16U
#define FLAT_LIMIT_PATCHES_MAX 256U
/* Of one request: more are not looked at. */
#define FLAT_LIMIT_RULES_MAX 32U
/* Envoy's bounds of a stage, and of what one request counts. */
#define FLAT_LIMIT_STAGE_MAX 10U
#define FLAT_LIMIT_HITS_MAX 1000000000U

/* Actions of one item of rate_limits, and entries of one descriptor: Envoy's examples have two or three. */
#define FLAT_LIMIT_ENTRIES_MAX 16U
/* Buckets that a descriptor without a value makes, where nothing is said (Envoy), and at most. */
#define FLAT_LIMIT_DYNAMIC_DEFAULT 20U
#define FLAT_LIMIT_DYNAMIC_MAX 1024U

struct flat_token_rate {
	uint32_t max_tokens, per_fill;
	uint32_t interval_ms;
};

enum flat_limit_action_kind {
	FLAT_LIMIT_HEADER,	 /* request_headers */
	FLAT_LIMIT_QUERY,	 /* query_parameters */
	FLAT_LIMIT_REMOTE,	 /* remote_address */
	FLAT_LIMIT_GENERIC,	 /* generic_key */
	FLAT_LIMIT_HEADER_MATCH, /* header_value_match */
	FLAT_LIMIT_QUERY_MATCH,	 /* query_parameter_value_match */
	FLAT_LIMIT_MASKED,	 /* masked_remote_address */
	FLAT_LIMIT_SOURCE,	 /* source_cluster */
	FLAT_LIMIT_DESTINATION,	 /* destination_cluster */
	FLAT_LIMIT_LEFT_OUT,	 /* not honoured: only while it is read */
};

struct flat_limit_header {
	const char
	    *name; /* in lower case; ":path" and the like too; of a query's parameter as it is */
	struct flat_text_match match;
	bool invert;
};

/* What of a request makes an entry of a descriptor. */
struct flat_limit_action {
	enum flat_limit_action_kind kind;
	const char *key;
	const char *name;  /* HEADER, QUERY */
	const char *value; /* GENERIC, HEADER_MATCH, QUERY_MATCH */
	bool skips;  /* HEADER, QUERY: without it the others count; else there is no descriptor */
	bool unless; /* HEADER_MATCH, QUERY_MATCH: where they do not match */
	const struct flat_limit_header *headers; /* or parameters */
	uint32_t n_headers;
	uint8_t prefix4, prefix6; /* MASKED: bits that count */
};

struct flat_limit_rule {
	struct flat_limit_action *actions;
	uint32_t n;
	uint8_t stage;
	bool has_hits;
	uint32_t hits;		 /* how many this request counts as; with has_hits */
	const char *hits_header; /* or it says so itself, in this header; NULL: not so */
};

/* Whom an EnvoyFilter is for. */
struct flat_limit_for {
	const char *name, *namespace; /* of the EnvoyFilter */
	struct flat_labels selector;  /* empty: the namespace, or of the root namespace the mesh */
	uint16_t port;		      /* of filters that limit: at that one alone; 0: at any */
	struct flat_where where;
};

/* What a filter makes of a virtual host's rate_limits where the route has some (Envoy: VhRateLimitsOptions). */
enum flat_limit_virtual {
	FLAT_LIMIT_OVERRIDE, /* nothing */
	FLAT_LIMIT_INCLUDE,  /* both count */
	FLAT_LIMIT_IGNORE,   /* nothing, whatever the route has */
};

/* rate_limits that are merged into virtual hosts or routes. */
struct flat_limit_patch {
	struct flat_limit_for by;
	bool gateway, server; /* where */
	bool of_route;	      /* of a route; else of the virtual host */
	bool includes;	      /* of a route: the virtual host's count too */
	uint16_t port;	      /* 0: any */
	const char *host; /* of a gateway's virtual host, as the VirtualService has it; NULL: any */
	const char *route; /* its name; NULL: any */
	struct flat_limit_rule *rules;
	uint32_t n_rules;
};

/* Where a request is, for these. */
struct flat_limit_place {
	bool gateway;
	const struct flat_workload *workload; /* whose limits; NULL: of none */
	uint16_t port, other_port; /* of the service or gateway, and of the server itself */
	struct flat_span host;	   /* of the request */
	const struct flat_virtual_service *virtual; /* gateway */
	const char *route;			    /* its name; NULL: none */
};

/* A limit that a rate limit service decides. */
struct flat_rate_limit {
	struct flat_limit_for by;
	bool gateway, server; /* where */
	const char *domain;
	const char *why_not; /* the service cannot be asked, for this reason; NULL: it can */
	const char *host;    /* of the service; NULL: it was not understood */
	uint16_t port;
	const char *authority;		    /* that it is asked by */
	const struct flat_service *service; /* after flat_mesh_finish() */
	uint32_t timeout_ms;
	uint8_t stage;
	bool denies;		       /* without an answer requests are refused */
	bool tells;		       /* x-ratelimit-limit, -remaining, -reset */
	bool silent;		       /* without x-envoy-ratelimited */
	bool exhausted;		       /* a gRPC call sees RESOURCE_EXHAUSTED; else UNAVAILABLE */
	uint16_t status, error_status; /* of refusals, and of those without an answer */
	struct flat_limit_rule *rules; /* its own; without, those of the virtual host and route */
	uint32_t n_rules;
	uint32_t enabled_of_million, enforced_of_million;
	struct flat_name_value *headers; /* of refusals */
	uint32_t n_headers;
	uint32_t index; /* among the mesh's */
};

struct flat_limit_entry {
	const char *key;
	const char *value; /* NULL: any, each with a bucket of its own */
};

struct flat_limit_descriptor {
	struct flat_limit_entry *entries;
	uint32_t n;
	struct flat_token_rate rate;
};

struct flat_local_limit {
	struct flat_limit_for by;
	struct flat_token_rate rate;
	struct flat_limit_rule
	    *rules; /* which descriptors a request has; none: as its route says */
	uint32_t n_rules;
	uint8_t stage;				   /* of the route's that count */
	enum flat_limit_virtual virtual;	   /* host's, too? */
	struct flat_limit_descriptor *descriptors; /* which of them have buckets */
	uint32_t n_descriptors;
	uint32_t max_dynamic; /* buckets of descriptors without a value, the least used go */
	bool spares;	      /* what meets a descriptor's bucket does not use up `rate` */
	uint32_t enabled_of_million, enforced_of_million;
	uint16_t status;		 /* of refusals */
	bool tells;			 /* x-ratelimit-limit, -remaining, -reset */
	bool exhausted;			 /* a gRPC call sees RESOURCE_EXHAUSTED; else UNAVAILABLE */
	struct flat_name_value *headers; /* of refusals */
	uint32_t n_headers;
	uint32_t index; /* among the mesh's */
};

struct flat_mesh;

/** Number of limits, and one of them. */
uint32_t flat_mesh_n_limits(const struct flat_mesh *mesh);
const struct flat_local_limit *flat_mesh_limit(const struct flat_mesh *mesh, uint32_t i);
/** Likewise of those that a service decides. */
uint32_t flat_mesh_n_rates(const struct flat_mesh *mesh);
const struct flat_rate_limit *flat_mesh_rate(const struct flat_mesh *mesh, uint32_t i);
uint32_t flat_mesh_n_limit_patches(const struct flat_mesh *mesh);
/** Whether a limit is for a port: of the service or gateway, or the server's own. */
static inline bool flat_limit_at(const struct flat_limit_for *by, uint16_t port, uint16_t other)
{
	return by->port == 0 || by->port == port || by->port == other;
}
/** Whether a limit is for a workload (NULL: for a server that has none). */
bool flat_limit_selects(const struct flat_mesh *mesh, const struct flat_limit_for *by,
			const struct flat_workload *workload);
/** Which of a VirtualService's hosts a request's is: itself, else the longest wildcard. NULL: none. */
const char *flat_virtual_host(const struct flat_virtual_service *vs, struct flat_span host);
/** Whether some limit holds for requests to its servers. */
bool flat_mesh_limited(const struct flat_mesh *mesh, const struct flat_workload *workload);

/**
 * The rules of a stage that virtual host and route have for a request. `out` is filled, up to its size; returns how many.
 */
uint32_t flat_limit_rules(const struct flat_mesh *mesh, const struct flat_limit_place *place,
			  uint8_t stage, enum flat_limit_virtual virtual,
			  const struct flat_limit_rule *out[FLAT_LIMIT_RULES_MAX]);

/** Adds one, from the mesh's pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_limit(struct flat_mesh *mesh, struct flat_local_limit *limit);
FLAT_MUST_CHECK int flat_mesh_add_rate(struct flat_mesh *mesh, struct flat_rate_limit *limit);
FLAT_MUST_CHECK int flat_mesh_add_limit_patch(struct flat_mesh *mesh,
					      struct flat_limit_patch *patch);

#endif
