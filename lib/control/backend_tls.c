/* BackendTLSPolicy (gateway.networking.k8s.io) -> struct flat_backend_tls; ConfigMaps with authorities. */
#include <string.h>

#include "control/http_route.h"

struct reading {
	struct api_reference to;
	struct flat_backend_tls *policy;
	struct flat_backend_target *targets;
	const char **names;
	const char *section;
	const char *type, *host, *uri; /* of the name being read */
	bool system;
};

/* --- targetRefs --- */

static void parse_section(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->section = cfg_string(cfg, node);
}

static void parse_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("group", cfg_api_group),
	    CFG_FIELD("kind", cfg_api_kind),
	    CFG_FIELD("name", cfg_api_name),
	    CFG_FIELD("sectionName", parse_section),
	};
	struct reading *r = obj;
	const char *host;

	r->to = (struct api_reference){.group = "", .kind = "Service"};
	r->section = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	host = cfg_api_host(cfg, &r->to);
	if (host)
		r->targets[r->policy->n_targets++] =
		    (struct flat_backend_target){host, r->section, node->where};
	else
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "name a Service",
			 "target %s \"%.200s\" is not honoured", r->to.kind ? r->to.kind : "",
			 r->to.name ? r->to.name : "");
}

static void parse_targets(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->targets = cfg_array(cfg, node->n, sizeof(*r->targets));
	r->policy->targets = r->targets;
	if (r->targets)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_target, r);
}

/* --- validation --- */

/* A list that is being read. */
struct authorities {
	struct api_reference to;
	struct flat_tls_authority *v;
	uint32_t n;
	bool local; /* references have no namespace */
};

static void parse_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field of_local[] = {
	    CFG_FIELD("group", cfg_api_group),
	    CFG_FIELD("kind", cfg_api_kind),
	    CFG_FIELD("name", cfg_api_name),
	};
	static const struct cfg_field of_any[] = {
	    CFG_API_REFERENCE,
	};
	struct authorities *all = obj;
	struct api_reference *to = &all->to;
	struct flat_tls_authority *a = &all->v[all->n++];
	bool own;
	bool core;

	*to = (struct api_reference){.group = "", .kind = "ConfigMap"};
	if (all->local)
		cfg_map(cfg, node, of_local, FLAT_ARRAY_SIZE(of_local), all);
	else
		cfg_map(cfg, node, of_any, FLAT_ARRAY_SIZE(of_any), all);
	own = !to->namespace || strcmp(to->namespace, cfg->namespace) == 0;
	core = own && to->name && to->kind && to->group && !*to->group;
	/* One of another kind is nobody's: it counts as one that is not there. */
	*a = (struct flat_tls_authority){.where = node->where};
	if (core && strcmp(to->kind, "ConfigMap") == 0)
		a->config_map = to->name;
	else if (core && strcmp(to->kind, "Secret") == 0)
		a->secret = to->name;
	else
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "name a ConfigMap or a Secret of this namespace",
			 "authorities of %s \"%.200s\"%s are not honoured",
			 to->kind ? to->kind : "", to->name ? to->name : "",
			 own ? "" : " of another namespace");
}

void cfg_api_authorities(struct cfg *cfg, const struct yaml_node *node, bool local,
			 const struct flat_tls_authority **v, uint32_t *n)
{
	struct authorities all = {.local = local};

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	all.v = cfg_array(cfg, node->n, sizeof(*all.v));
	if (all.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_authority, &all);
	*v = all.v;
	*n = all.n;
}

static void parse_authorities(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_backend_tls *policy = ((struct reading *)obj)->policy;

	cfg_api_authorities(cfg, node, true, &policy->authorities, &policy->n_authorities);
}

static void parse_system(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"System"};

	((struct reading *)obj)->system = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) >= 0;
}

static void parse_hostname(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->policy->origin.sni = cfg_host(cfg, node, false);
}

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"Hostname", "URI"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	((struct reading *)obj)->type = i >= 0 ? names[i] : NULL;
}

static void parse_name_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->host = cfg_host(cfg, node, true);
}

static void parse_name_uri(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->uri = cfg_string(cfg, node);
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("hostname", parse_name_host),
	    CFG_FIELD("uri", parse_name_uri),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;
	const char *name;

	r->type = r->host = r->uri = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	name = !r->type ? NULL : *r->type == 'U' ? r->uri : r->host;
	if (name)
		r->names[r->policy->origin.n_names++] = name;
	else if (cfg->diags->n_errors == errors)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "write type Hostname with hostname, or type URI with uri",
			  "a name of a certificate needs its type and what the type says");
}

static void parse_names(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->names = cfg_array(cfg, node->n, sizeof(*r->names));
	r->policy->origin.names = r->names;
	if (r->names)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_name, r);
}

static void parse_validation(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("caCertificateRefs", parse_authorities),
	    CFG_FIELD("wellKnownCACertificates", parse_system),
	    CFG_FIELD("hostname", parse_hostname),
	    CFG_FIELD("subjectAltNames", parse_names),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors)
		return;
	if ((r->policy->n_authorities > 0) == r->system)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write caCertificateRefs, or wellKnownCACertificates: System",
			  r->system ? "authorities of its own, and those of the system"
				    : "no authorities are named");
	if (!r->policy->origin.sni)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"hostname\" is missing");
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("targetRefs", parse_targets),
	    CFG_FIELD("validation", parse_validation),
	    CFG_UNHONOURED("options", "none of them is known"),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors || (r->targets && r->policy->origin.sni))
		return;
	cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add both",
		  "a BackendTLSPolicy needs targetRefs and validation");
}

void cfg_backend_tls(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.policy = cfg_array(cfg, 1, sizeof(*r.policy))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.policy)
		return;
	*r.policy = (struct flat_backend_tls){
	    .name = cfg->name,
	    .namespace = cfg->namespace,
	    .created = cfg_api_created(cfg),
	    .origin = {.of_service = true, .namespace = cfg->namespace, .where = cfg->where},
	};
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (!cfg->oom && cfg->diags->n_errors == errors &&
	    flat_mesh_add_backend_tls(cfg->mesh, r.policy))
		cfg->oom = true;
}

void cfg_authorities(struct cfg *cfg, const struct yaml_node *root)
{
	const struct yaml_node *pem = yaml_get(yaml_get(root, "data"), "ca.crt");
	struct flat_config_map *map;

	if (!pem || pem->kind != YAML_SCALAR) {
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "a ConfigMap of this name is not honoured: read are \"istio\", and those "
			 "with ca.crt");
		return;
	}
	map = cfg_array(cfg, 1, sizeof(*map));
	if (!map)
		return;
	*map = (struct flat_config_map){cfg->name, cfg->namespace,
					flat_pool_strdup(cfg->pool, pem->text)};
	if (!map->pem || flat_mesh_add_config_map(cfg->mesh, map))
		cfg->oom = true;
}
