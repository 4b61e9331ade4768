/* Local rate limits of requests (mesh/limit.h). Control thread. */
#ifndef FLAT_OFFLOAD_L7_LIMIT_H
#define FLAT_OFFLOAD_L7_LIMIT_H

#include "mesh/limit.h"
#include "offload/l7_mandatory.h"

/**
 * Asks the limits of the attempt's mesh server, once for each attempt. True: `a` is the refusal. What the client is to be
 * told is in x.limit.
 */
bool flat_l7_limit(struct flat_l7 *l7, const struct flat_http_request *request,
		   struct flat_l7_answer *a);
/* What a gRPC call sees of a refusal that says so. */
#define FLAT_L7_GRPC_EXHAUSTED 8U

/** Adds fields to a refusal, as many as fit. */
void flat_l7_limit_headers(struct flat_l7_answer *a, const struct flat_name_value *v, uint32_t n);
/** Writes what the client is told; x.limit.max is not 0. */
void flat_l7_limit_put(const struct flat_l7_exchange *x, struct flat_http1_out *out);
/** Counters, in Prometheus's text form. */
void flat_l7_limits_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);
void flat_l7_limits_fini(struct flat_l7_node *node);

/* --- l7_limit_keys.c --- */

/* Descriptors of one request that have buckets: more are not looked at. */
#define FLAT_L7_LIMIT_KEYS_MAX 32U

struct flat_l7_limit_key {
	uint32_t descriptor; /* which of the limit's */
	uint32_t hits;	     /* tokens that the request takes */
	bool dynamic;	     /* `hash` is that of its values; else 0 */
	uint64_t hash;
};

/** The limit's descriptors that a request has; how many. `seed`: so that nobody aims at another's bucket. */
uint32_t flat_l7_limit_keys(const struct flat_l7 *l7, const struct flat_http_request *request,
			    const struct flat_local_limit *limit, uint64_t seed,
			    struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX]);

/* Bytes of values that are not in the request as they are: of several as long as a head may be. One more is "". */
#define FLAT_L7_LIMIT_SCRATCH ((size_t)256 * 1024)

/* What descriptors are made of. */
struct flat_l7_limit_making {
	const struct flat_l7 *l7;
	const struct flat_http_request *request;
	const struct flat_limit_place *place;
	size_t
	    used; /* 0 before each descriptor, or as the one before left it: then its texts stay */
	char scratch[FLAT_L7_LIMIT_SCRATCH];
};

/* A request's descriptor. Its texts are the request's, the configuration's, or in `scratch`. */
struct flat_l7_descriptor {
	const char *key[FLAT_LIMIT_ENTRIES_MAX];
	struct flat_span value[FLAT_LIMIT_ENTRIES_MAX];
	uint32_t n;
	bool has_hits;
	uint32_t hits;
};

/** Where a request is: of the gateway that it came by, or of x.target's listener. */
void flat_l7_limit_place(const struct flat_l7 *l7, bool gateway, struct flat_limit_place *out);
/** False: by this rule the request has none. */
bool flat_l7_descriptor_make(struct flat_l7_limit_making *m, const struct flat_limit_rule *rule,
			     struct flat_l7_descriptor *out);

#endif
