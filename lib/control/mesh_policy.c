/* PeerAuthentication, Sidecar, MeshConfig and the ConfigMap `istio` that carries a MeshConfig. */
#include <errno.h>
#include <string.h>

#include "control/http_common.h"
#include "control/schema.h"
#include "control/telemetry.h"
#include "control/traffic_policy.h"

/* --- PeerAuthentication --- */

static void parse_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"UNSET", "DISABLE", "PERMISSIVE", "STRICT"};
	enum flat_mtls_mode *mode = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i < 0)
		return;
	*mode = (enum flat_mtls_mode)i;
	if (*mode == FLAT_MTLS_DISABLE)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use PERMISSIVE",
			 "mode DISABLE accepts plain clients as PERMISSIVE does; mesh clients keep "
			 "the identity that the kernel attests");
}

static void parse_mtls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("mode", parse_mode)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_peer_mtls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_peer_policy *policy = obj;

	parse_mtls(cfg, node, &policy->mode);
}

static void parse_peer_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_peer_policy *policy = obj;

	policy->selector = cfg_match_labels(cfg, node);
}

static void parse_port_mtls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_peer_policy *policy = obj;
	const struct yaml_item *item;
	struct flat_port_mtls *v;
	uint32_t n = 0;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	if (node->n > FLAT_CONFIG_PORTS_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u ports",
			  FLAT_CONFIG_PORTS_MAX);
		return;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next, n++) {
		v[n].port = cfg_port(cfg, item->key);
		parse_mtls(cfg, item->value, &v[n].mode);
	}
	policy->ports = v;
	policy->n_ports = n;
}

static void parse_peer_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("selector", parse_peer_selector),
	    CFG_FIELD("mtls", parse_peer_mtls),
	    CFG_FIELD("portLevelMtls", parse_port_mtls),
	};
	const struct flat_peer_policy *policy = obj;
	const struct yaml_node *ports = yaml_get(node, "portLevelMtls");

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (ports && policy->n_ports && policy->selector.n == 0)
		cfg_error(cfg, &ports->where, FLAT_DIAG_BAD_VALUE,
			  "add a selector, or use \"mtls\" for all ports",
			  "portLevelMtls is for policies that select workloads");
}

void cfg_peer_authentication(struct cfg *cfg, const struct yaml_node *root)
{
	struct flat_peer_policy *policy = cfg_array(cfg, 1, sizeof(*policy));

	if (!policy)
		return;
	policy->name = cfg->name;
	policy->namespace = cfg->namespace;
	policy->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_peer_spec, policy);
	if (flat_mesh_add_peer(cfg->mesh, policy))
		cfg->oom = true;
}

/* --- outboundTrafficPolicy --- */

static void parse_egress_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	/* UNSET is no value of Istio's; leaving the field out says it. */
	static const char *const names[] = {"ALLOW_ANY", "REGISTRY_ONLY"};
	struct flat_egress_policy *policy = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		policy->mode = i == 0 ? FLAT_EGRESS_ALLOW_ANY : FLAT_EGRESS_REGISTRY_ONLY;
}

static void parse_outbound(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mode", parse_egress_mode),
	    CFG_UNHONOURED("egressProxy", "there is no egress proxy"),
	};
	struct flat_egress_policy *policy = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), policy);
	/* In Istio the mode's zero value is REGISTRY_ONLY: a policy without mode means that. */
	if (node->kind == YAML_MAP && policy->mode == FLAT_EGRESS_UNSET)
		policy->mode = FLAT_EGRESS_REGISTRY_ONLY;
}

static void parse_workload_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_egress_policy *policy = obj;

	policy->selector = cfg_labels(cfg, node);
}

static void parse_workload_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("labels", parse_workload_labels)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_sidecar_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("workloadSelector", parse_workload_selector),
	    CFG_FIELD("outboundTrafficPolicy", parse_outbound),
	    CFG_UNHONOURED("ingress", "servers are endpoints where they listen"),
	    CFG_FIELD("egress", cfg_egress),
	    CFG_UNHONOURED("inboundConnectionPool", "bounds come from Workload spec.limits"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_sidecar(struct cfg *cfg, const struct yaml_node *root)
{
	struct flat_egress_policy *policy = cfg_array(cfg, 1, sizeof(*policy));

	if (!policy)
		return;
	policy->kind = "Sidecar";
	policy->name = cfg->name;
	policy->namespace = cfg->namespace;
	policy->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_sidecar_spec, policy);
	if (flat_mesh_add_egress(cfg->mesh, policy))
		cfg->oom = true;
}

/* --- MeshConfig --- */

static void parse_root_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	(void)obj;
	if (!name)
		return;
	if (cfg_is_dns(name, false))
		flat_mesh_set_root_namespace(cfg->mesh, name);
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use lower-case letters, digits and dashes",
			  "\"%.100s\" is no name of a namespace", name);
}

static void parse_locality(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	flat_mesh_set_locality(cfg->mesh, cfg_locality_lb(cfg, node));
}

static void parse_trust_domain(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	(void)obj;
	if (name && strcmp(name, FLAT_TRUST_DOMAIN) != 0)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "write policies with " FLAT_TRUST_DOMAIN,
			 "trustDomain \"%.100s\" is not honoured: principals begin "
			 "with " FLAT_TRUST_DOMAIN,
			 name);
}

struct aliases {
	const char **v;
	uint32_t n;
};

static void parse_trust_alias(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct aliases *a = obj;
	const char *name = cfg_string(cfg, node);

	if (name)
		a->v[a->n++] = name;
}

static void parse_trust_aliases(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct aliases a = {.n = 0};

	(void)obj;
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	a.v = cfg_array(cfg, node->n, sizeof(*a.v));
	if (a.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_trust_alias, &a);
	flat_mesh_set_trust_aliases(cfg->mesh, a.v, a.n);
}

/* The canonical form is at least as strict as any of these; the last one takes more paths. */
static void parse_normalization(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"DEFAULT", "NONE", "BASE", "MERGE_SLASHES",
					    "DECODE_AND_MERGE_SLASHES"};

	(void)obj;
	if (cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 4)
		flat_mesh_set_decode_slashes(cfg->mesh);
}

static void parse_path_normalization(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field field = CFG_FIELD("normalization", parse_normalization);

	cfg_map(cfg, node, &field, 1, obj);
}

#define NO_ENVOY "there is no Envoy here"

static void parse_dns_refresh(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (cfg_duration_ms(cfg, node, &cfg->dns_refresh_ms) && cfg->dns_refresh_ms < 1000)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write 1s or more",
			  "names cannot be asked for so often");
}

static void set_exports(struct cfg *cfg, const struct yaml_node *node, enum flat_export_kind kind)
{
	struct flat_export e = {.said = false};

	cfg_export_to(cfg, node, &e);
	flat_mesh_set_export(cfg->mesh, kind, &e);
}

static void parse_service_exports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	set_exports(cfg, node, FLAT_EXPORT_SERVICES);
}

static void parse_route_exports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	set_exports(cfg, node, FLAT_EXPORT_ROUTES);
}

static void parse_rule_exports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	set_exports(cfg, node, FLAT_EXPORT_RULES);
}

static const struct cfg_field mesh_config_fields[] = {
    CFG_FIELD("outboundTrafficPolicy", parse_outbound),
    CFG_FIELD("rootNamespace", parse_root_namespace),
    CFG_FIELD("trustDomain", parse_trust_domain),
    CFG_FIELD("trustDomainAliases", parse_trust_aliases),
    CFG_UNHONOURED("inboundTrafficPolicy", "servers are reached where they listen"),
    CFG_UNHONOURED("proxyListenPort", NO_ENVOY),
    CFG_UNHONOURED("proxyHttpPort", NO_ENVOY),
    CFG_UNHONOURED("proxyInboundListenPort", NO_ENVOY),
    CFG_UNHONOURED("connectTimeout", "the application's own time-out holds"),
    CFG_UNHONOURED("tcpKeepalive", "the socket's own options hold"),
    CFG_UNHONOURED("protocolDetectionTimeout", "protocols are not detected"),
    CFG_UNHONOURED("ingressClass", "there is no ingress controller"),
    CFG_UNHONOURED("ingressService", "there is no ingress controller"),
    CFG_UNHONOURED("ingressControllerMode", "there is no ingress controller"),
    CFG_UNHONOURED("ingressSelector", "there is no ingress controller"),
    CFG_UNHONOURED("enableTracing", "a provider of traces has it on"),
    CFG_FIELD("accessLogFile", cfg_access_log_file),
    CFG_FIELD("accessLogFormat", cfg_access_log_format),
    CFG_FIELD("accessLogEncoding", cfg_access_log_encoding),
    CFG_UNHONOURED("enableEnvoyAccessLogService", NO_ENVOY),
    CFG_UNHONOURED("disableEnvoyListenerLog", NO_ENVOY),
    CFG_FIELD("defaultConfig", cfg_default_config),
    CFG_UNHONOURED("configSources", "configuration comes from these files"),
    CFG_UNHONOURED("enableAutoMtls", "identity is attested by the kernel"),
    CFG_UNHONOURED("caCertificates", "identity is attested by the kernel"),
    CFG_UNHONOURED("ca", "identity is attested by the kernel"),
    CFG_UNHONOURED("certificates", "identity is attested by the kernel"),
    CFG_UNHONOURED("verifyCertificateAtClient", "identity is attested by the kernel"),
    CFG_UNHONOURED("meshMTLS", "identity is attested by the kernel"),
    CFG_UNHONOURED("tlsDefaults", "identity is attested by the kernel"),
    CFG_FIELD("defaultServiceExportTo", parse_service_exports),
    CFG_FIELD("defaultVirtualServiceExportTo", parse_route_exports),
    CFG_FIELD("defaultDestinationRuleExportTo", parse_rule_exports),
    CFG_FIELD("localityLbSetting", parse_locality),
    CFG_FIELD("dnsRefreshRate", parse_dns_refresh),
    CFG_UNHONOURED("h2UpgradePolicy", "HTTP is carried as it is"),
    CFG_UNHONOURED("inboundClusterStatName", NO_ENVOY),
    CFG_UNHONOURED("outboundClusterStatName", NO_ENVOY),
    CFG_UNHONOURED("thriftConfig", NO_ENVOY),
    CFG_UNHONOURED("serviceSettings", "services have no such settings"),
    CFG_UNHONOURED("serviceScopeConfigs", "there is one cluster"),
    CFG_UNHONOURED("enablePrometheusMerge", "flatd serves its own metrics"),
    CFG_FIELD("extensionProviders", cfg_extension_providers),
    CFG_FIELD("defaultProviders", cfg_default_providers),
    CFG_UNHONOURED("discoverySelectors", "all files are read"),
    CFG_FIELD("pathNormalization", parse_path_normalization),
    CFG_UNHONOURED("defaultHttpRetryPolicy", "HTTP is carried as it is"),
    CFG_UNHONOURED("hboneIdleTimeout", NO_ENVOY),
};

/* The fields of a MeshConfig; `node` is a mapping. One per mesh. */
static void read_mesh_config(struct cfg *cfg, const struct yaml_node *node, const char *kind,
			     const struct cfg_field *fields, size_t n)
{
	struct flat_egress_policy *policy = cfg_array(cfg, 1, sizeof(*policy));

	if (!policy)
		return;
	if (cfg->has_mesh_config) {
		cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "keep one of them",
			  "a second MeshConfig; the first is at %s:%u", cfg->mesh_config_where.file,
			  cfg->mesh_config_where.line);
		return;
	}
	cfg->has_mesh_config = true;
	cfg->mesh_config_where = node->where;
	policy->kind = kind;
	policy->name = cfg->name;
	policy->where = node->where;
	cfg_map(cfg, node, fields, n, policy);
	if (flat_mesh_add_egress(cfg->mesh, policy))
		cfg->oom = true;
}

static void parse_mesh_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	read_mesh_config(cfg, node, "MeshConfig", mesh_config_fields,
			 FLAT_ARRAY_SIZE(mesh_config_fields));
}

void cfg_mesh_config(struct cfg *cfg, const struct yaml_node *root)
{
	struct cfg_field fields[FLAT_ARRAY_SIZE(mesh_config_fields) + 4] = {CFG_TOP_FIELDS};

	/* With `spec` like other resources, or with its fields at the top as in Istio's own files. */
	if (yaml_get(root, "spec")) {
		cfg_spec(cfg, root, parse_mesh_spec, NULL);
		return;
	}
	memcpy(fields + 4, mesh_config_fields, sizeof(mesh_config_fields));
	read_mesh_config(cfg, root, "MeshConfig", fields, FLAT_ARRAY_SIZE(fields));
}

/* --- ConfigMap --- */

static int embedded_document(void *arg, const struct yaml_node *root)
{
	struct cfg *cfg = arg;

	read_mesh_config(cfg, root, "MeshConfig", mesh_config_fields,
			 FLAT_ARRAY_SIZE(mesh_config_fields));
	return 0;
}

static void parse_mesh_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct yaml_source source = {.file = node->where.file, .no_columns = true};
	int ret;

	(void)obj;
	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	source.text = node->text;
	source.len = strlen(node->text);
	/* The text of a literal block starts on the line after its `|`. */
	source.line_offset = node->literal ? node->where.line : node->where.line - 1;
	ret = yaml_read(&source, &cfg->tmp, cfg->diags, embedded_document, cfg);
	if (ret == -ENOMEM)
		cfg->oom = true;
}

static void parse_config_data(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mesh", parse_mesh_text),
	    CFG_UNHONOURED("meshNetworks", "there is one network"),
	    CFG_UNHONOURED("values", "it is for Istio's installer"),
	    CFG_UNHONOURED("config", "it is for Istio's injector"),
	    CFG_UNHONOURED("original-values", "it is for Istio's installer"),
	    CFG_UNHONOURED("merged-values", "it is for Istio's installer"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_config_map(struct cfg *cfg, const struct yaml_node *root)
{
	static const struct cfg_field fields[] = {
	    CFG_TOP_FIELDS,
	    CFG_FIELD("data", parse_config_data),
	    CFG_UNHONOURED("binaryData", "the mesh's configuration is text"),
	    CFG_UNHONOURED("immutable", "files change as they change"),
	};

	if (strcmp(cfg->name, "istio") != 0) {
		cfg_authorities(cfg, root);
		return;
	}
	cfg_map(cfg, root, fields, FLAT_ARRAY_SIZE(fields), NULL);
}
