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
	bool dynamic;	     /* `hash` is that of its values; else 0 */
	uint64_t hash;
};

/** The limit's descriptors that a request has; how many. `seed`: so that nobody aims at another's bucket. */
uint32_t flat_l7_limit_keys(const struct flat_l7 *l7, const struct flat_http_request *request,
			    const struct flat_local_limit *limit, uint64_t seed,
			    struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX]);

#endif
