/* What the files that read EnvoyFilters share. */
#ifndef FLAT_CONTROL_ENVOY_FILTER_H
#define FLAT_CONTROL_ENVOY_FILTER_H

#include "control/http_common.h"
#include "mesh/filter.h"

/** A list of Envoy's HeaderValueOption; `n` of them. What is wrong is reported and left out. */
struct flat_name_value *cfg_header_options(struct cfg *cfg, const struct yaml_node *node,
					   uint32_t *n);

/** `token_bucket`. */
void cfg_token_rate(struct cfg *cfg, const struct yaml_node *node, struct flat_token_rate *out);
/** `rate_limits`; `n` of them. Those with something that is not honoured are left out, with a warning. */
struct flat_limit_rule *cfg_limit_rules(struct cfg *cfg, const struct yaml_node *node, uint32_t *n);
/** RuntimeFractionalPercent, in millionths. */
uint32_t cfg_runtime_fraction(struct cfg *cfg, const struct yaml_node *node);
/** A list of ranges of statuses, `{start: 200, end: 300}`; what is wrong is reported and left out. */
struct flat_status_ranges cfg_status_ranges(struct cfg *cfg, const struct yaml_node *node);
/** `{code: 503}` of a refusal; 0 with an error. */
uint16_t cfg_limit_status(struct cfg *cfg, const struct yaml_node *node);
/** `stage`; 0 with an error. */
uint8_t cfg_limit_stage(struct cfg *cfg, const struct yaml_node *node);
/** Whether a patch inserts Envoy's filter of a name and type; then its configuration, or NULL. `has`: a field it needs; NULL: none. */
const struct yaml_node *cfg_filter_of(const struct yaml_node *patch, const char *name,
				      const char *type, const char *has);
/** Where a patch's match.context is, as bits of enum flat_filter_place; 0: nowhere that is known. */
uint8_t cfg_filter_places(const struct yaml_node *patch);
/** The port that its match.listener names, 0: any; of what else the match names and is not honoured, a warning. */
uint16_t cfg_filter_port(struct cfg *cfg, const struct yaml_node *patch);
/** Fills in where a filter stands; `node`: its configuration. False: it cannot be said, which was warned of. */
bool cfg_filter_where(struct cfg *cfg, const struct yaml_node *patch, const struct yaml_node *node,
		      const struct flat_limit_for *by, struct flat_filter *out);
/** Whether `node` is a map that has no other keys than these. */
bool cfg_has_only(const struct yaml_node *node, const char *const *names, size_t n);
/** `descriptors` of a LocalRateLimit, into `limit`. */
void cfg_limit_descriptors(struct cfg *cfg, const struct yaml_node *node,
			   struct flat_local_limit *limit);

/** Whether a patch inserts the filter of limits that a service decides; if so reads it into the mesh. `by`: for whom. */
bool cfg_rate_filter(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by);
/** Whether a patch gives virtual hosts or routes rate_limits; likewise. */
bool cfg_rate_patch(struct cfg *cfg, const struct yaml_node *patch,
		    const struct flat_limit_for *by);

/** Whether a patch inserts admission control; if so reads it into the mesh. `by`: for whom. */
bool cfg_admission_filter(struct cfg *cfg, const struct yaml_node *patch,
			  const struct flat_limit_for *by);

/** Likewise a compressor. */
bool cfg_compressor_filter(struct cfg *cfg, const struct yaml_node *patch,
			   const struct flat_limit_for *by);

/** Whether a patch merges into HttpConnectionManagers; if so its times are read into the mesh. */
bool cfg_times_patch(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by);

/** Where the routes are that a patch of HTTP_ROUTE or VIRTUAL_HOST is for. */
struct cfg_route_place {
	uint8_t at;	   /* enum flat_filter_place */
	uint16_t port;	   /* 0: any */
	const char *host;  /* of the virtual host; NULL: any */
	const char *route; /* its name; NULL: any */
};
/** Reads it. False: it cannot be said, as its match names something that is not understood. */
bool cfg_route_place(struct cfg *cfg, const struct yaml_node *patch, struct cfg_route_place *p);
/** A port's number, and what follows it; NULL: none is there. */
const char *cfg_port_of(const char *text, uint16_t *port);

/** Whether a patch merges a hedge_policy into virtual hosts or routes; if so reads it into the mesh. `by`: for whom. */
bool cfg_hedge_patch(struct cfg *cfg, const struct yaml_node *patch,
		     const struct flat_limit_for *by);

/** Whether a patch (`applyTo: CLUSTER`) merges active health checks into clusters. */
bool cfg_is_health_patch(const struct yaml_node *patch);
/** Reads it into the mesh. `selected`: the EnvoyFilter has a workloadSelector. */
void cfg_health_patch(struct cfg *cfg, const struct yaml_node *patch, bool selected);

/** The node at a path of names, NULL at the end; NULL: none. */
const struct yaml_node *cfg_at(const struct yaml_node *node, const char *const *path);
/** Whether a node is this text; NULL is none. */
bool cfg_is_text(const struct yaml_node *node, const char *text);

#endif
