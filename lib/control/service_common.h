/* What ServiceEntry and Kubernetes Service share. */
#ifndef FLAT_CONTROL_SERVICE_COMMON_H
#define FLAT_CONTROL_SERVICE_COMMON_H

#include "control/schema.h"

/**
 * The protocol of a port: from `text` (Istio's `protocol`, Kubernetes' `appProtocol`; NULL: none), else
 * from the port's name up to the first dash as Istio does; TCP if neither says. An unknown `text` is
 * TCP and false is returned. declared: whether one of them says it; NULL is allowed.
 */
bool cfg_protocol(const char *text, const char *port_name, enum flat_protocol *out, bool *declared);

/** Parses a port's name; "" with an error. */
const char *cfg_port_name(struct cfg *cfg, const struct yaml_node *node);

/** Reports a warning, if the protocol is more than TCP: it is carried without being understood. */
void cfg_warn_opaque(struct cfg *cfg, const struct flat_where *where, enum flat_protocol protocol);

/**
 * What the labels of the resource (Istio's) say of sessions of a service (mesh/persist.h); NULL: nothing, or an error.
 */
const struct flat_persistence *cfg_service_persistence(struct cfg *cfg, const char *host);

#endif
