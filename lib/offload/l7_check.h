/*
 * Asking an external authorizer about a request (AuthorizationPolicy CUSTOM), by Envoy's ext_authz protocol over HTTP: the
 * request's head without its body goes to the authorizer; 200 allows, 5xx is an error, anything else denies and is the
 * client's answer. Connections to authorizers are kept and used for any client: what they carry are questions of flatd's.
 */
#ifndef FLAT_OFFLOAD_L7_CHECK_H
#define FLAT_OFFLOAD_L7_CHECK_H

#include "mesh/ext_authz.h"
#include "offload/l7_mandatory.h"

struct flat_l7_check;

/**
 * Asks `ext` about the exchange's request, once: the answer holds for its further attempts, as long as it is the same
 * configuration and server's workload. Of several authorizers each is asked about the head as those before it left it.
 * LATER: not answered yet. GO: allowed; the head in node->head was changed by what the authorizer says. ANSWER: refused.
 */
enum flat_l7_verb flat_l7_check(struct flat_l7 *l7, enum flat_l7_asker asker,
				const struct flat_ext_authz *ext, struct flat_http_request *request,
				size_t *len, struct flat_l7_answer *a);

/** Writes what authorizers add to an answer with the head `h` in `text`, the last first, as in Envoy. NULL is nothing. */
void flat_l7_check_put(const struct flat_l7_check *check, const struct flat_http_head *h,
		       const void *text, struct flat_http1_out *out);
/** Whether one of the exchange's authorizers has taken the place of the answer's field of that name. */
bool flat_l7_check_takes(const struct flat_l7_exchange *x, struct flat_span name);

/** Whether one of the authorizers has a say in a field of the request of that name: it sets, adds or takes it away, or might have. */
bool flat_l7_check_drops(const struct flat_l7_check *check, struct flat_span name);

/** The exchange is over: frees all that were asked. NULL is nothing. */
void flat_l7_check_free(struct flat_l7_check *check);

FLAT_MUST_CHECK int flat_l7_check_init(struct flat_l7_node *node);
/** Ends connections that nobody uses. */
void flat_l7_check_fini(struct flat_l7_node *node);

#endif
