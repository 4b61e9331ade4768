/* Whose filters of EnvoyFilters (mesh/filter.h) a request meets. Control thread. */
#ifndef FLAT_OFFLOAD_L7_FILTER_H
#define FLAT_OFFLOAD_L7_FILTER_H

#include "mesh/filter.h"
#include "offload/l7_engine.h"

/** Before it goes to its service: the gateway's, or those of `client` (NULL: of no workload). False: nobody's. */
bool flat_l7_filter_client(const struct flat_l7 *l7, const struct flat_workload *client,
			   struct flat_filter_whose *whose);
/** At the attempt's mesh server. False: it is none. */
bool flat_l7_filter_server(const struct flat_l7 *l7, struct flat_filter_whose *whose);

#endif
