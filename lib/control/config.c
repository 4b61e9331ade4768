/* From documents to a mesh: which kind each is, what all have in common, and the whole. */
#include "control/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/cache.h"
#include "control/files.h"
#include "control/names.h"
#include "control/schema.h"
#include "control/telemetry.h"

#define NETWORKING "networking.istio.io"
#define GATEWAY_API "gateway.networking.k8s.io"
#define SECURITY "security.istio.io"
#define TELEMETRY "telemetry.istio.io"
#define LIST_DEPTH_MAX 4U

struct kind {
	const char *name;
	const char *group; /* "": the core group, whose apiVersion is the version alone */
	const char *versions[4];
	void (*read)(struct cfg *cfg, const struct yaml_node *root);
	bool nameless; /* metadata may be missing */
};

static const struct kind kinds[] = {
    {"ServiceEntry", NETWORKING, {"v1", "v1beta1", "v1alpha3"}, cfg_service_entry, false},
    {"Sidecar", NETWORKING, {"v1", "v1beta1", "v1alpha3"}, cfg_sidecar, false},
    {"VirtualService", NETWORKING, {"v1", "v1beta1", "v1alpha3"}, cfg_virtual_service, false},
    {"Gateway", NETWORKING, {"v1", "v1beta1", "v1alpha3"}, cfg_gateway, false},
    {"Gateway", GATEWAY_API, {"v1", "v1beta1"}, cfg_api_gateway, false},
    {"ListenerSet", GATEWAY_API, {"v1"}, cfg_listener_set, false},
    {"HTTPRoute", GATEWAY_API, {"v1", "v1beta1"}, cfg_http_route, false},
    {"GRPCRoute", GATEWAY_API, {"v1", "v1alpha2"}, cfg_grpc_route, false},
    {"TCPRoute", GATEWAY_API, {"v1", "v1alpha2"}, cfg_tcp_route, false},
    {"TLSRoute", GATEWAY_API, {"v1", "v1alpha3", "v1alpha2"}, cfg_tls_route, false},
    {"BackendTLSPolicy", GATEWAY_API, {"v1", "v1alpha3"}, cfg_backend_tls, false},
    {"ReferenceGrant", GATEWAY_API, {"v1beta1", "v1"}, cfg_reference_grant, false},
    {"EnvoyFilter", NETWORKING, {"v1alpha3"}, cfg_envoy_filter, false},
    {"DestinationRule", NETWORKING, {"v1", "v1beta1", "v1alpha3"}, cfg_destination_rule, false},
    {"AuthorizationPolicy", SECURITY, {"v1", "v1beta1"}, cfg_authorization_policy, false},
    {"PeerAuthentication", SECURITY, {"v1", "v1beta1"}, cfg_peer_authentication, false},
    {"RequestAuthentication", SECURITY, {"v1", "v1beta1"}, cfg_request_authentication, false},
    {"Telemetry", TELEMETRY, {"v1", "v1alpha1"}, cfg_telemetry, false},
    {"Service", "", {"v1"}, cfg_k8s_service, false},
    {"EndpointSlice", "discovery.k8s.io", {"v1"}, cfg_endpoint_slice, false},
    {"Secret", "", {"v1"}, cfg_secret, false},
    {"Namespace", "", {"v1"}, cfg_namespace, false},
    {"ConfigMap", "", {"v1"}, cfg_config_map, false},
    {"Workload", "mesh.libflat.io", {"v1"}, cfg_workload, false},
    {"MeshConfig", NULL, {NULL}, cfg_mesh_config, true},
};

/* Kinds that often stand in the same files and mean nothing to us. */
static const char *const foreign_kinds[] = {
    "WorkloadEntry",
    "WorkloadGroup",
    "ProxyConfig",
    "WasmPlugin",
    "TrafficExtension",
    "IstioOperator",
    "GatewayClass",
    "XListenerSet",
    "UDPRoute",
    "XMesh",
    "XBackendTrafficPolicy",
    "XBackend",
    "ServiceAccount",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "Endpoints",
    "Ingress",
    "NetworkPolicy",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "ReplicationController",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "IngressClass",
    "PriorityClass",
    "LimitRange",
    "ResourceQuota",
};

/* "ServiceList" of "Service": as Kubernetes' API answers. */
static bool is_list_of(const char *list, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(list, kind, len) == 0 && strcmp(list + len, "List") == 0;
}

/* Gateway API's Gateway is another kind than Istio's. */
static const struct kind *find_kind(const char *name, bool gateway_api)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(kinds); i++) {
		const char *group = kinds[i].group;

		if (strcmp(kinds[i].name, name) == 0 &&
		    (group && strcmp(group, GATEWAY_API) == 0) == gateway_api)
			return &kinds[i];
	}
	return NULL;
}

static void unknown_kind(struct cfg *cfg, const struct yaml_node *node)
{
	const char *names[FLAT_ARRAY_SIZE(kinds)], *near;
	char todo[128];
	size_t i;

	for (i = 0; i < FLAT_ARRAY_SIZE(foreign_kinds); i++) {
		if (strcmp(foreign_kinds[i], node->text) != 0 &&
		    !is_list_of(node->text, foreign_kinds[i]))
			continue;
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "kind %s is not honoured: the resource has no effect", node->text);
		return;
	}
	for (i = 0; i < FLAT_ARRAY_SIZE(kinds); i++)
		names[i] = kinds[i].name;
	near = cfg_nearest(node->text, names, FLAT_ARRAY_SIZE(kinds));
	if (near)
		(void)snprintf(todo, sizeof(todo), "did you mean \"%s\"?", near);
	cfg_error(cfg, &node->where, FLAT_DIAG_UNKNOWN_KIND,
		  near ? todo : "see docs/configuration.md for the kinds there are",
		  "unknown kind \"%.100s\"", node->text);
}

/* Whether apiVersion (NULL: it is missing) is one of the kind's; an error otherwise. */
static bool check_version(struct cfg *cfg, const struct kind *kind, const struct yaml_node *root,
			  const struct yaml_node *node)
{
	char want[128], all[256] = "";
	size_t i, len = 0;

	if (!kind->group)
		return true;
	for (i = 0; i < FLAT_ARRAY_SIZE(kind->versions) && kind->versions[i]; i++) {
		(void)snprintf(want, sizeof(want), "%s%s%s", kind->group, *kind->group ? "/" : "",
			       kind->versions[i]);
		if (node && node->kind == YAML_SCALAR && strcmp(node->text, want) == 0)
			return true;
		len +=
		    (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? " or " : "", want);
	}
	if (!node)
		cfg_error(cfg, &root->where, FLAT_DIAG_MISSING, "add it",
			  "field \"apiVersion\" is missing: %s for kind %s", all, kind->name);
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "correct it",
			  "apiVersion of kind %s is %s, not \"%.100s\"", kind->name, all,
			  node->kind == YAML_SCALAR ? node->text : "");
	return false;
}

/* --- metadata --- */

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	cfg->name = cfg_string(cfg, node);
	if (!cfg->name || cfg_is_dns(cfg->name, true))
		return;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
		  "use lower-case letters, digits, dashes and dots", "\"%.100s\" is no name",
		  cfg->name);
}

static void parse_namespace(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	(void)obj;
	if (!name)
		return;
	if (cfg_is_dns(name, false))
		cfg->namespace = name;
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use lower-case letters, digits and dashes",
			  "\"%.100s\" is no name of a namespace", name);
}

static void parse_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	cfg->labels = cfg_labels(cfg, node);
}

static void parse_annotations(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (cfg_expect(cfg, node, YAML_MAP))
		cfg->annotations = node;
}

static void parse_created(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (node->kind == YAML_SCALAR)
		cfg->created = node;
}

static void parse_metadata(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("namespace", parse_namespace),
	    CFG_FIELD("labels", parse_labels),
	    CFG_FIELD("annotations", parse_annotations),
	    CFG_SKIP("generateName"),
	    CFG_SKIP("uid"),
	    CFG_SKIP("resourceVersion"),
	    CFG_SKIP("generation"),
	    CFG_FIELD("creationTimestamp", parse_created),
	    CFG_SKIP("deletionTimestamp"),
	    CFG_SKIP("deletionGracePeriodSeconds"),
	    CFG_SKIP("ownerReferences"),
	    CFG_SKIP("finalizers"),
	    CFG_SKIP("managedFields"),
	    CFG_SKIP("selfLink"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), NULL);
}

/* The same kind, namespace and name twice: one of them would be lost. */
static bool check_unique(struct cfg *cfg, const struct kind *kind)
{
	struct flat_where *where = flat_pool_alloc(&cfg->tmp, sizeof(*where)), *other;
	char *id = flat_pool_printf(&cfg->tmp, "%s/%s/%s/%s", kind->group ? kind->group : "",
				    kind->name, cfg->namespace, cfg->name);
	int ret;

	if (!where || !id) {
		cfg->oom = true;
		return false;
	}
	*where = cfg->where;
	ret = flat_map_put_str(&cfg->ids, id, where);
	if (ret == -ENOMEM)
		cfg->oom = true;
	if (ret == -EEXIST) {
		other = flat_map_get_str(&cfg->ids, id);
		cfg_error(cfg, &cfg->where, FLAT_DIAG_DUPLICATE, "rename or remove one of them",
			  "there is a resource of this kind and name already at %s:%u:%u",
			  other->file, other->line, other->col);
	}
	return ret == 0;
}

static void resource_reset(struct cfg *cfg, const struct yaml_node *root)
{
	cfg->resource[0] = '\0';
	cfg->name = NULL;
	cfg->namespace = FLAT_NAMESPACE_DEFAULT;
	cfg->labels = (struct flat_labels){NULL, 0};
	cfg->annotations = NULL;
	cfg->created = NULL;
	cfg->where = root->where;
}

/* What a list of a kind says of its items: Kubernetes' API leaves it out of them. */
struct list {
	const struct kind *kind; /* NULL: no list, or one of several kinds */
	const struct yaml_node *version;
	unsigned depth; /* lists that it stands in */
};

static void read_resource(struct cfg *cfg, const struct yaml_node *root, const struct list *in);

static bool of_gateway_api(const struct yaml_node *version)
{
	return version && version->kind == YAML_SCALAR &&
	       strncmp(version->text, "gateway.networking.k8s.io/", 26) == 0;
}

/* The kind of a list's items; NULL: that is no list of a kind that is known. */
static const struct kind *listed_kind(const char *list, bool gateway_api)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(kinds); i++) {
		if (is_list_of(list, kinds[i].name))
			return find_kind(kinds[i].name, gateway_api);
	}
	return NULL;
}

static void read_list(struct cfg *cfg, const struct yaml_node *root, const struct list *of)
{
	const struct yaml_node *items = yaml_get(root, "items");
	const struct yaml_item *item;

	if (!items || items->kind != YAML_LIST || of->depth > LIST_DEPTH_MAX) {
		cfg_error(cfg, &root->where, FLAT_DIAG_BAD_VALUE, "list the resources in \"items\"",
			  of->depth <= LIST_DEPTH_MAX ? "a List without a list of \"items\""
						      : "Lists within Lists within Lists");
		return;
	}
	for (item = root->first; item; item = item->next) {
		static const char *const known[] = {"apiVersion", "kind", "metadata", "items"};
		size_t i;

		for (i = 0; i < FLAT_ARRAY_SIZE(known); i++)
			if (strcmp(known[i], item->key->text) == 0)
				break;
		if (i == FLAT_ARRAY_SIZE(known))
			cfg_error(cfg, &item->key->where, FLAT_DIAG_UNKNOWN_FIELD, "remove it",
				  "unknown field \"%.100s\"", item->key->text);
	}
	for (item = items->first; item && !cfg->oom; item = item->next)
		read_resource(cfg, item->value, of);
}

static void read_known(struct cfg *cfg, const struct yaml_node *root, const struct kind *kind,
		       const struct yaml_node *version)
{
	const struct yaml_node *metadata = yaml_get(root, "metadata");
	const struct yaml_node *name = yaml_get(metadata, "name");
	const struct yaml_node *ns = yaml_get(metadata, "namespace");
	uint32_t errors = cfg->diags->n_errors;

	if (!check_version(cfg, kind, root, version))
		return;
	if (!metadata && !kind->nameless) {
		cfg_error(cfg, &root->where, FLAT_DIAG_MISSING, "add it",
			  "%s: field \"metadata\" is missing", kind->name);
		return;
	}
	/* Messages about the metadata itself carry the name already, where there is one. */
	(void)snprintf(cfg->resource, sizeof(cfg->resource), "%s %.253s/%.253s", kind->name,
		       ns && ns->kind == YAML_SCALAR ? ns->text : FLAT_NAMESPACE_DEFAULT,
		       name && name->kind == YAML_SCALAR ? name->text
		       : kind->nameless			 ? "mesh"
							 : "?");
	if (metadata)
		parse_metadata(cfg, metadata);
	if (cfg->diags->n_errors != errors || cfg->oom)
		return;
	if (!cfg->name && kind->nameless)
		cfg->name = "mesh";
	if (!cfg->name) {
		cfg_error(cfg, &metadata->where, FLAT_DIAG_MISSING, "add it",
			  "field \"metadata.name\" is missing");
		return;
	}
	if (check_unique(cfg, kind))
		kind->read(cfg, root);
}

static void read_resource(struct cfg *cfg, const struct yaml_node *root, const struct list *in)
{
	const struct yaml_node *node = yaml_get(root, "kind");
	const struct yaml_node *version = yaml_get(root, "apiVersion");
	struct list list = {.depth = in->depth + 1};
	const struct kind *kind;

	resource_reset(cfg, root);
	if (!cfg_expect(cfg, root, YAML_MAP))
		return;
	if (!node && in->kind) {
		read_known(cfg, root, in->kind, version ? version : in->version);
		return;
	}
	if (!node || node->kind != YAML_SCALAR || !*node->text) {
		cfg_error(cfg, &root->where, FLAT_DIAG_MISSING,
			  "begin each document with apiVersion and kind",
			  "field \"kind\" is missing");
		return;
	}
	list.kind = listed_kind(node->text, of_gateway_api(version));
	list.version = version;
	if (list.kind || strcmp(node->text, "List") == 0) {
		read_list(cfg, root, &list);
		return;
	}
	kind = find_kind(node->text, of_gateway_api(version));
	if (kind)
		read_known(cfg, root, kind, version);
	else
		unknown_kind(cfg, node);
}

int cfg_read_document(struct cfg *cfg, const struct yaml_node *root)
{
	read_resource(cfg, root, &(struct list){.depth = 0});
	return cfg->oom || cfg->diags->failed ? -ENOMEM : 0;
}

static int read_document(void *arg, const struct yaml_node *root)
{
	return cfg_read_document(arg, root);
}

/* --- the whole --- */

static int cfg_open(struct cfg *cfg, struct flat_diags *diags)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->diags = diags;
	cfg->tmp.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	cfg->api_last = &cfg->api_routes;
	cfg->mesh = flat_mesh_new();
	if (!cfg->mesh)
		return -ENOMEM;
	cfg->pool = flat_mesh_pool(cfg->mesh);
	cfg->pool->limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	return 0;
}

static void cfg_close(struct cfg *cfg)
{
	flat_mesh_put(cfg->mesh);
	flat_map_fini(&cfg->ids);
	flat_map_fini(&cfg->selectors);
	flat_map_fini(&cfg->k8s_services);
	flat_pool_fini(&cfg->tmp);
}

static int read_text(struct cfg *cfg, const char *name, const char *text, size_t len)
{
	struct yaml_source source = {.text = text, .len = len};
	int ret;

	/* Places in the mesh name the file for as long as the mesh lives. */
	source.file = flat_pool_strdup(cfg->pool, name);
	if (!source.file)
		return -ENOMEM;
	ret = yaml_read(&source, &cfg->tmp, cfg->diags, read_document, cfg);
	/* What is wrong with one file is in the diags; the others are read nevertheless. */
	return ret == -EINVAL ? 0 : ret;
}

static int cfg_finish(struct cfg *cfg, const struct flat_mesh *previous, uint32_t errors,
		      struct flat_mesh **out)
{
	int ret;

	if (cfg->oom || cfg->diags->failed)
		return -ENOMEM;
	cfg->resource[0] = '\0';
	cfg_k8s_finish(cfg);
	cfg_gateway_api_finish(cfg);
	cfg_telemetry_finish(cfg);
	if (cfg->oom || cfg->diags->failed)
		return -ENOMEM;
	if (cfg->diags->n_errors != errors)
		return -EINVAL;
	ret = flat_mesh_finish(cfg->mesh, previous, cfg->diags);
	if (!ret && cfg->diags->failed)
		ret = -ENOMEM;
	if (ret)
		return ret;
	*out = cfg->mesh;
	cfg->mesh = NULL;
	return 0;
}

/* --- files --- */

/* A document that was read, or that the cache has. */
struct found {
	const struct yaml_node *root;
	bool kept; /* in the cache */
	struct found *next;
};

/* All files are read first, then what they say: where nothing of it is new there is nothing to be made. */
struct loading {
	struct cfg cfg;
	struct flat_config_cache *cache; /* NULL: none */
	struct config_file *file;	 /* that is read and kept, or NULL */
	struct found *first, **last;
};

static bool is_known(void *arg, const char *name, const struct stat *st)
{
	const struct loading *l = arg;

	return config_cache_has(l->cache, name, st);
}

static int find(struct loading *l, const struct yaml_node *root, bool kept)
{
	struct found *found = flat_pool_alloc(&l->cfg.tmp, sizeof(*found));

	if (!found)
		return -ENOMEM;
	*found = (struct found){.root = root, .kept = kept};
	*l->last = found;
	l->last = &found->next;
	return 0;
}

static int find_new(void *arg, const struct yaml_node *root)
{
	struct loading *l = arg;
	int ret = l->file ? config_file_add(l->file, root) : 0;

	return ret ? ret : find(l, root, false);
}

static int find_kept(struct loading *l, const char *name)
{
	const struct config_document *document;
	int ret = config_cache_take(l->cache, name, &document);

	for (; document && !ret; document = document->next)
		ret = find(l, document->root, true);
	return ret;
}

/* Its documents are the cache's now: those that were there, where it is as it was. */
static int keep_file(struct loading *l, struct found **from)
{
	const struct config_document *document;
	int ret = config_cache_put(l->cache, l->file, &document);

	for (struct found *f = *from; f && !ret; f = f->next) {
		f->kept = document != NULL;
		if (!document)
			continue;
		f->root = document->root;
		document = document->next;
	}
	return ret;
}

static int read_file(void *arg, const char *name, const struct stat *st, const char *text,
		     size_t len)
{
	struct loading *l = arg;
	struct found **from = l->last;
	const struct config_text is = {.name = name, .st = st, .bytes = text, .len = len};
	struct yaml_source source = {.text = text, .len = len};
	struct flat_pool *pool = &l->cfg.tmp;
	int ret;

	if (!text || (l->cache && config_cache_has_text(l->cache, &is)))
		return find_kept(l, name);
	l->file = NULL;
	ret = l->cache ? config_cache_new(l->cache, &is, &l->file) : 0;
	if (ret)
		return ret;
	if (l->file)
		pool = config_cache_pool(l->cache);
	/* Places in the mesh name the file for as long as the mesh lives. */
	source.file = l->file ? config_file_name(l->file) : flat_pool_strdup(l->cfg.pool, name);
	if (!source.file)
		return -ENOMEM;
	ret = yaml_read(&source, pool, l->cfg.diags, find_new, l);
	if (!ret && l->file)
		ret = keep_file(l, from);
	/* What is wrong with one file is in the diags; the others are read nevertheless. */
	return ret == -EINVAL ? 0 : ret;
}

/* What all documents say. Names of kept files are in the mesh. */
static int make(struct loading *l, const struct flat_config_sources *from, uint32_t errors,
		struct flat_mesh **out)
{
	struct flat_mesh *mesh = l->cfg.mesh;
	int ret = 0;

	for (const struct found *f = l->first; f && !ret; f = f->next) {
		l->cfg.kept = f->kept;
		ret = cfg_read_document(&l->cfg, f->root);
	}
	if (!ret && l->cache)
		ret = config_cache_keep(l->cache, mesh);
	if (!ret)
		ret = cfg_finish(&l->cfg, from->previous, errors, out);
	if (!ret && l->cache && cfg_k8s_remember(&l->cfg, l->cache) == 0)
		config_cache_made(l->cache, mesh);
	else if (l->cache)
		config_cache_made(l->cache, NULL);
	return ret;
}

static int load(struct loading *l, const struct flat_config_sources *from, struct flat_mesh **out,
		struct flat_diags *diags)
{
	const struct config_file_reader reader = {
	    .known = l->cache ? is_known : NULL, .read = read_file, .arg = l};
	uint32_t errors = diags->n_errors;
	int ret = config_files_read(from->paths, from->n_paths, diags, &reader);

	if (ret == 0 && l->cache && !from->anew && diags->n_errors == errors &&
	    config_cache_same(l->cache))
		return FLAT_CONFIG_SAME;
	if (ret == 0)
		return make(l, from, errors, out);
	if (l->cache)
		config_cache_made(l->cache, NULL);
	return ret;
}

int flat_config_reload(const struct flat_config_sources *from, struct flat_mesh **out,
		       struct flat_diags *diags)
{
	struct loading l = {.cache = from->cache};
	int ret = cfg_open(&l.cfg, diags);

	l.last = &l.first;
	l.cfg.names = from->names;
	if (from->names)
		flat_names_begin(from->names);
	if (l.cache)
		config_cache_begin(l.cache, from->previous);
	if (!ret)
		ret = load(&l, from, out, diags);
	if (!ret && from->names)
		flat_names_settle(from->names, l.cfg.dns_refresh_ms);
	cfg_close(&l.cfg);
	if (l.cache)
		config_cache_end(l.cache);
	flat_diags_sort(diags);
	return ret;
}

int flat_config_load(const char *const *paths, size_t n_paths, struct flat_mesh **out,
		     struct flat_diags *diags)
{
	const struct flat_config_sources from = {.paths = paths, .n_paths = n_paths};

	return flat_config_reload(&from, out, diags);
}

int flat_config_load_text(const char *name, const char *text, size_t len, struct flat_mesh **out,
			  struct flat_diags *diags)
{
	uint32_t errors = diags->n_errors;
	struct cfg cfg;
	int ret = cfg_open(&cfg, diags);

	if (!ret)
		ret = read_text(&cfg, name, text, len);
	if (!ret)
		ret = cfg_finish(&cfg, NULL, errors, out);
	cfg_close(&cfg);
	flat_diags_sort(diags);
	return ret;
}
