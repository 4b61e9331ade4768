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
void cfg_route_mirror(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_route_mirrors(struct cfg *cfg, const struct yaml_node *node, void *obj);

/* `destination: {host, subset, port}`; obj is a struct flat_route_destination. */
void cfg_route_destination(struct cfg *cfg, const struct yaml_node *node, void *obj);
/* Its host must have been named; else an error. */
void cfg_route_check_host(struct cfg *cfg, const struct yaml_node *node,
			  const struct flat_route_destination *d);

/* A list of gateways: whether it holds "mesh" (an empty list does too), and the others as "NAMESPACE/NAME". */
struct cfg_gateways {
	bool mesh;
	const char **v;
	uint32_t n;
};
void cfg_route_gateways(struct cfg *cfg, const struct yaml_node *node, struct cfg_gateways *out);

/* `tcp` of a VirtualService; obj is it. */
void cfg_virtual_tcp(struct cfg *cfg, const struct yaml_node *node, void *obj);
/** `tls`, likewise. */
void cfg_virtual_tls(struct cfg *cfg, const struct yaml_node *node, void *obj);
/* Weights of several destinations add up to more than 0; one alone has all. Returns the sum. */
uint64_t cfg_route_weights(struct cfg *cfg, const struct yaml_node *node,
			   struct flat_route_destination *v, uint32_t n);

#endif
