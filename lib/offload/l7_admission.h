/* Admission control of requests (mesh/filter.h). Control thread. */
#ifndef FLAT_OFFLOAD_L7_ADMISSION_H
#define FLAT_OFFLOAD_L7_ADMISSION_H

#include "mesh/filter.h"
#include "offload/l7_mandatory.h"

/**
 * Asks the admission control of the client, or of the gateway, about a request whose route is known; once for all its
 * attempts. False: `a` is the refusal.
 */
bool flat_l7_admit_client(struct flat_l7 *l7, struct flat_l7_answer *a);
/** Likewise that of the attempt's mesh server, once for each attempt. */
bool flat_l7_admit_server(struct flat_l7 *l7, struct flat_l7_answer *a);
/** The request is over, or the attempt; what they came to is remembered. */
void flat_l7_admitted_request(struct flat_l7 *l7);
void flat_l7_admitted_attempt(struct flat_l7 *l7);
/** Tells `flatctl why` of both, for a client's workload (NULL: of none). */
void flat_l7_admission_note(struct flat_l7 *l7, const struct flat_workload *client);
/** Counters, in Prometheus's text form. */
void flat_l7_admission_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);
void flat_l7_admissions_fini(struct flat_l7_node *node);

#endif
