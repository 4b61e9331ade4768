/* AuthorizationPolicy: the values that an attribute is compared with. */
#ifndef FLAT_CONTROL_AUTHZ_VALUE_H
#define FLAT_CONTROL_AUTHZ_VALUE_H

#include "control/schema.h"

/**
 * The values of a list, each as its attribute has them (text, address block, port, path, ...), in the pool. An empty list is an error:
 * it could mean nobody or everybody. NULL and *n 0 on error.
 */
const struct flat_match *cfg_authz_values(struct cfg *cfg, const struct yaml_node *node,
					  enum flat_attribute attribute, uint32_t *n);

#endif
