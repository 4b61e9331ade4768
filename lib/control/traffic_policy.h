/* trafficPolicy of a DestinationRule and of its subsets. */
#ifndef FLAT_CONTROL_TRAFFIC_POLICY_H
#define FLAT_CONTROL_TRAFFIC_POLICY_H

#include "control/schema.h"

/** Reads a trafficPolicy into `out`, all zero before; what is not honoured is warned of. */
void cfg_traffic_policy(struct cfg *cfg, const struct yaml_node *node,
			struct flat_traffic_policy *out);

#endif
