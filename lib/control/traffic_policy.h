/* trafficPolicy of a DestinationRule and of its subsets. */
#ifndef FLAT_CONTROL_TRAFFIC_POLICY_H
#define FLAT_CONTROL_TRAFFIC_POLICY_H

#include "control/schema.h"

/** Reads a trafficPolicy into `out`, all zero before; what is not honoured is warned of. */
void cfg_traffic_policy(struct cfg *cfg, const struct yaml_node *node,
			struct flat_traffic_policy *out);

/** Each of these reads one field's value; NULL without memory. */
const struct flat_breaker *cfg_connection_pool(struct cfg *cfg, const struct yaml_node *node);
const struct flat_outlier *cfg_outlier(struct cfg *cfg, const struct yaml_node *node);
const struct flat_retry_budget *cfg_retry_budget(struct cfg *cfg, const struct yaml_node *node);
const struct flat_locality_lb *cfg_locality_lb(struct cfg *cfg, const struct yaml_node *node);

/** warmup, or warmupDurationSecs: a duration alone. */
void cfg_warmup(struct cfg *cfg, const struct yaml_node *node, struct flat_warmup *out);

/** A locality such as region/zone/subzone, with stars where `pattern` allows them; NULL with an error. */
const char *cfg_locality(struct cfg *cfg, const struct yaml_node *node, bool pattern);
/** The locality that labels tell, from the mesh's pool; NULL: none. */
const char *cfg_locality_of(struct cfg *cfg, const struct flat_labels *labels);

#endif
