/* Telemetry and its providers: what of them is read in more than one place. */
#ifndef FLAT_CONTROL_TELEMETRY_H
#define FLAT_CONTROL_TELEMETRY_H

#include "control/schema.h"

/* Kinds of extensionProviders. Each is called with a zeroed provider, whose name is set by the caller. */
void cfg_file_access_log(struct cfg *cfg, const struct yaml_node *node,
			 struct flat_telemetry_provider *p);
void cfg_opentelemetry(struct cfg *cfg, const struct yaml_node *node,
		       struct flat_telemetry_provider *p);

/** MeshConfig: accessLogFile, accessLogFormat, accessLogEncoding, defaultProviders, defaultConfig. */
void cfg_access_log_file(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_access_log_format(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_access_log_encoding(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_default_providers(struct cfg *cfg, const struct yaml_node *node, void *obj);
void cfg_default_config(struct cfg *cfg, const struct yaml_node *node, void *obj);

/** Adds the providers that Istio has of itself, once everything is read. */
void cfg_telemetry_finish(struct cfg *cfg);

/** HOST or NAMESPACE/HOST of a provider. */
void cfg_provider_service(struct cfg *cfg, const struct yaml_node *node, const char **host,
			  const char **namespace);

#endif
