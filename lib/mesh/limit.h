/*
 * Local rate limits of HTTP requests: EnvoyFilters that insert envoy.filters.http.local_ratelimit at a workload's server side.
 * Source: istio.io task "Enabling Rate Limits using Envoy", Envoy's LocalRateLimit (v3).
 */
#ifndef FLAT_MESH_LIMIT_H
#define FLAT_MESH_LIMIT_H

#include "mesh/route.h"

/* Limits of a mesh: each is asked for each request that a server gets. */
#define FLAT_LIMITS_MAX 64U

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
	FLAT_LIMIT_LEFT_OUT,	 /* not honoured: only while it is read */
};

struct flat_limit_header {
	const char *name; /* in lower case; ":path" and the like too */
	struct flat_text_match match;
	bool invert;
};

/* What of a request makes an entry of a descriptor. */
struct flat_limit_action {
	enum flat_limit_action_kind kind;
	const char *key;
	const char *name;  /* HEADER, QUERY */
	const char *value; /* GENERIC, HEADER_MATCH */
	bool skips;  /* HEADER, QUERY: without it the others count; else there is no descriptor */
	bool unless; /* HEADER_MATCH: where the headers do not match */
	const struct flat_limit_header *headers;
	uint32_t n_headers;
};

struct flat_limit_rule {
	struct flat_limit_action *actions;
	uint32_t n;
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
	const char *name, *namespace; /* of the EnvoyFilter */
	struct flat_labels selector;  /* empty: the namespace, or of the root namespace the mesh */
	struct flat_token_rate rate;
	struct flat_limit_rule *rules; /* which descriptors a request has */
	uint32_t n_rules;
	struct flat_limit_descriptor *descriptors; /* which of them have buckets */
	uint32_t n_descriptors;
	uint32_t max_dynamic; /* buckets of descriptors without a value, the least used go */
	bool spares;	      /* what meets a descriptor's bucket does not use up `rate` */
	uint32_t enabled_of_million, enforced_of_million;
	uint16_t status;		 /* of refusals */
	bool tells;			 /* x-ratelimit-limit, -remaining, -reset */
	struct flat_name_value *headers; /* of refusals */
	uint32_t n_headers;
	uint32_t index; /* among the mesh's */
	struct flat_where where;
};

struct flat_mesh;

/** Number of limits, and one of them. */
uint32_t flat_mesh_n_limits(const struct flat_mesh *mesh);
const struct flat_local_limit *flat_mesh_limit(const struct flat_mesh *mesh, uint32_t i);
/** Whether a limit is for a workload (NULL: for a server that has none). */
bool flat_limit_selects(const struct flat_mesh *mesh, const struct flat_local_limit *limit,
			const struct flat_workload *workload);
/** Whether some limit is. */
bool flat_mesh_limited(const struct flat_mesh *mesh, const struct flat_workload *workload);

/** Adds one, from the mesh's pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_limit(struct flat_mesh *mesh, struct flat_local_limit *limit);

#endif
