/* Local rate limits of requests (mesh/limit.h). Control thread. */
#ifndef FLAT_OFFLOAD_L7_LIMIT_H
#define FLAT_OFFLOAD_L7_LIMIT_H

#include "mesh/limit.h"
#include "offload/l7_mandatory.h"

/**
 * Asks the limits of the attempt's mesh server, once for each attempt. True: `a` is the refusal. What the client is to be
 * told is in x.limit.
 */
bool flat_l7_limit(struct flat_l7 *l7, struct flat_l7_answer *a);
/** Writes what the client is told; x.limit.max is not 0. */
void flat_l7_limit_put(const struct flat_l7_exchange *x, struct flat_http1_out *out);
/** Counters, in Prometheus's text form. */
void flat_l7_limits_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);
void flat_l7_limits_fini(struct flat_l7_node *node);

#endif
