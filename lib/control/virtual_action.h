/* What a route does: between the files that read VirtualService. */
#ifndef FLAT_CONTROL_VIRTUAL_ACTION_H
#define FLAT_CONTROL_VIRTUAL_ACTION_H

#include "control/http_common.h"

/* Each is the parser of one field of an HTTPRoute; obj is a struct flat_http_route. */
void cfg_route_redirect(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_direct(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_rewrite(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_retries(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_fault(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_cors(struct cfg *cfg, const struct yaml_node *node, void *obj);

#endif
