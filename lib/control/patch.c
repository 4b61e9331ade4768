/*
 * One EndpointSlice or ServiceEntry of many changes: its file is read, the slices of its Service are joined again, or the
 * ServiceEntry is read again, and the mesh in force gets the endpoints. Whatever else a file says must stay as it is, place
 * included, for the mesh names places: else all is loaded. Of a ServiceEntry the places are the patch's too.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/cache.h"
#include "control/files.h"
#include "control/schema.h"

/* A Service of which a slice changed. */
struct touched {
	const char *id; /* "namespace/name" */
	struct touched *next;
};

/* A ServiceEntry whose endpoints changed. */
struct entry {
	const struct yaml_node *root;
	struct entry *next;
};

struct patching {
	struct flat_config_cache *cache;
	const struct flat_mesh *mesh;
	struct flat_diags *diags;
	struct flat_pool tmp;
	struct config_document *first, **last; /* of the file that is read */
	struct touched *touched;
	struct entry *entries;
	size_t n_files;	  /* of what is read now */
	size_t n_patches; /* what these come to */
	struct flat_config_patches *out;
};

/* --- documents --- */

static const char *text_of(const struct yaml_node *node)
{
	return node && node->kind == YAML_SCALAR ? node->text : "";
}

static bool same_text(const struct yaml_node *a, const struct yaml_node *b, const char *key)
{
	return strcmp(text_of(yaml_get(a, key)), text_of(yaml_get(b, key))) == 0;
}

static bool is_kind(const struct yaml_node *root, const char *kind)
{
	return strcmp(text_of(yaml_get(root, "kind")), kind) == 0;
}

static bool is_slice(const struct yaml_node *root)
{
	return is_kind(root, "EndpointSlice");
}

static const char *service_of(struct patching *p, const struct yaml_node *root)
{
	const struct yaml_node *metadata = yaml_get(root, "metadata");
	const char *ns = text_of(yaml_get(metadata, "namespace"));

	return flat_pool_printf(
	    &p->tmp, "%s/%s", *ns ? ns : FLAT_NAMESPACE_DEFAULT,
	    text_of(yaml_get(yaml_get(metadata, "labels"), CONFIG_SLICE_LABEL)));
}

/* One slice before and after, of the same Service. */
static bool same_slice(const struct yaml_node *a, const struct yaml_node *b)
{
	const struct yaml_node *x = yaml_get(a, "metadata"), *y = yaml_get(b, "metadata");

	return is_slice(a) && is_slice(b) && same_text(a, b, "apiVersion") &&
	       same_text(x, y, "name") && same_text(x, y, "namespace") &&
	       same_text(yaml_get(x, "labels"), yaml_get(y, "labels"), CONFIG_SLICE_LABEL);
}

/* Whether all that one mapping says but for a key, the other says too. */
static bool holds_all(const struct yaml_node *a, const struct yaml_node *b, const char *but)
{
	for (const struct yaml_item *i = a->first; i; i = i->next)
		if (strcmp(i->key->text, but) != 0 &&
		    !yaml_says_same(i->value, yaml_get(b, i->key->text)))
			return false;
	return true;
}

static bool says_same(const struct yaml_node *a, const struct yaml_node *b, const char *key)
{
	return yaml_says_same(yaml_get(a, key), yaml_get(b, key));
}

/*
 * One ServiceEntry before and after, at the same place, with other endpoints. What the API server writes of it (resourceVersion,
 * status) may be other; a field that is none is found when it is read.
 */
static bool same_entry(const struct yaml_node *a, const struct yaml_node *b)
{
	const struct yaml_node *x = yaml_get(a, "metadata"), *y = yaml_get(b, "metadata");
	const struct yaml_node *s = yaml_get(a, "spec"), *t = yaml_get(b, "spec");

	return is_kind(a, "ServiceEntry") && is_kind(b, "ServiceEntry") &&
	       a->where.line == b->where.line && a->where.col == b->where.col &&
	       same_text(a, b, "apiVersion") && says_same(x, y, "name") &&
	       says_same(x, y, "namespace") && says_same(x, y, "labels") &&
	       says_same(x, y, "annotations") && s && s->kind == YAML_MAP && t &&
	       t->kind == YAML_MAP && holds_all(s, t, "endpoints") && holds_all(t, s, "endpoints");
}

static int touch(struct patching *p, const char *id)
{
	struct touched *t;

	for (t = p->touched; t; t = t->next)
		if (strcmp(t->id, id) == 0)
			return 0;
	t = flat_pool_alloc(&p->tmp, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct touched){.id = id, .next = p->touched};
	p->touched = t;
	p->n_patches++;
	return 0;
}

static int touch_entry(struct patching *p, const struct yaml_node *root)
{
	const struct yaml_node *hosts = yaml_get(yaml_get(root, "spec"), "hosts");
	struct entry *e = flat_pool_alloc(&p->tmp, sizeof(*e));

	if (!e)
		return -ENOMEM;
	*e = (struct entry){.root = root, .next = p->entries};
	p->entries = e;
	p->n_patches += hosts ? hosts->n : 0;
	return 0;
}

/* The tree of a slice is another one, and with `changed` what it says. */
static int move_slice(struct patching *p, const struct yaml_node *from, const struct yaml_node *to,
		      bool changed)
{
	const char *id = service_of(p, to);
	struct config_slice *slice = id ? config_cache_slices(p->cache, id) : NULL;

	if (!id)
		return -ENOMEM;
	while (slice && slice->root != from)
		slice = slice->next;
	if (!slice)
		return -EAGAIN;
	slice->root = to;
	slice->changed |= changed;
	return changed ? touch(p, id) : 0;
}

static int add_document(void *arg, const struct yaml_node *root)
{
	struct patching *p = arg;
	struct config_document *document =
	    flat_pool_alloc(config_cache_pool(p->cache), sizeof(*document));

	if (!document)
		return -ENOMEM;
	document->root = root;
	*p->last = document;
	p->last = &document->next;
	return 0;
}

/* --- files --- */

/* Whether its documents differ in endpoints alone; and in any. */
static bool only_endpoints(const struct config_document *a, const struct config_document *b,
			   bool *any)
{
	*any = false;
	for (; a && b; a = a->next, b = b->next) {
		bool same = yaml_same(a->root, b->root);

		if (!same && !same_slice(a->root, b->root) && !same_entry(a->root, b->root))
			return false;
		*any |= !same;
	}
	return !a && !b;
}

static int read_file(void *arg, const char *name, const struct stat *st, const char *text,
		     size_t len)
{
	struct patching *p = arg;
	struct config_file *file = config_cache_find(p->cache, name, len);
	const struct config_text now = {.name = name, .st = st, .bytes = text, .len = len};
	struct yaml_source source = {.text = text, .len = len};
	const struct config_document *was, *is;
	bool any;
	int ret;

	p->n_files++;
	if (!file)
		return -EAGAIN;
	if (config_cache_has_text(p->cache, &now))
		return 0;
	p->first = NULL;
	p->last = &p->first;
	/* The mesh has this name already, and keeps it. */
	source.file = config_file_name(file);
	ret = yaml_read(&source, config_cache_pool(p->cache), p->diags, add_document, p);
	if (ret)
		return ret == -ENOMEM ? ret : -EAGAIN;
	was = config_file_documents(file);
	if (!only_endpoints(was, p->first, &any))
		return -EAGAIN;
	if (!any) {
		config_cache_retell(p->cache, file, &now);
		return 0;
	}
	for (is = p->first; is && !ret; is = is->next, was = was->next) {
		bool changed = !yaml_same(was->root, is->root);

		if (is_slice(is->root))
			ret = move_slice(p, was->root, is->root, changed);
		else if (changed)
			ret = touch_entry(p, is->root);
	}
	config_cache_replace(p->cache, file, &now, p->first);
	return ret;
}

/* --- services --- */

/* Warnings of slices that did not change were said when these were read. */
static int read_slices(struct patching *p, struct cfg *cfg, struct config_slice *slice)
{
	struct flat_diags said = {0};
	uint32_t errors = p->diags->n_errors;
	int ret = 0;

	for (; slice && !ret; slice = slice->next) {
		cfg->diags = slice->changed ? p->diags : &said;
		ret = slice->root ? cfg_read_document(cfg, slice->root) : -EAGAIN;
		slice->changed = false;
	}
	if (!ret && (said.n_errors > 0 || p->diags->n_errors != errors))
		ret = -EAGAIN;
	flat_diags_fini(&said);
	cfg->diags = p->diags;
	return ret;
}

static void begin_reading(struct cfg *cfg, struct flat_mesh_patch *patch)
{
	cfg->pool = &patch->pool;
	cfg->tmp.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	patch->pool.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
}

static void end_reading(struct cfg *cfg)
{
	flat_map_fini(&cfg->ids);
	flat_map_fini(&cfg->k8s_services);
	flat_pool_fini(&cfg->tmp);
}

static int join(struct patching *p, struct config_slice *slices, struct flat_mesh_patch *patch)
{
	struct cfg cfg = {.diags = p->diags};
	uint32_t errors = p->diags->n_errors;
	int ret;

	begin_reading(&cfg, patch);
	ret = read_slices(p, &cfg, slices);
	if (!ret)
		cfg_k8s_patch(&cfg, patch);
	if (!ret && cfg.oom)
		ret = -ENOMEM;
	if (!ret && p->diags->n_errors != errors)
		ret = -EAGAIN;
	end_reading(&cfg);
	return ret;
}

/* Who has lost all endpoints may get others by a change of the Service that comes with it: the load waits for that. */
static bool empties(const struct flat_mesh_patch *patch)
{
	const struct flat_service *s = patch->service;

	for (uint32_t i = 0; i < s->n_ports; i++)
		if (s->ports[i].n_endpoints > 0 && patch->n_endpoints[i] == 0)
			return true;
	return false;
}

/* A patch that was made with `ret`: it is taken over, or freed. */
static int keep(struct patching *p, struct flat_mesh_patch *patch, int ret)
{
	if (!ret && empties(patch))
		ret = -EAGAIN;
	if (ret) {
		flat_mesh_patch_free(patch);
		return ret;
	}
	p->out->v[p->out->n++] = patch;
	return 0;
}

static int make_patch(struct patching *p, const char *id)
{
	struct config_slice *slices = config_cache_slices(p->cache, id);
	const char *slash = strchr(id, '/');
	char *host = flat_pool_printf(&p->tmp, "%s.%.*s.%s", slash + 1, (int)(slash - id), id,
				      FLAT_CLUSTER_DOMAIN);
	const struct flat_service *s = host ? flat_mesh_service_by_host(p->mesh, host, NULL) : NULL;
	struct flat_mesh_patch *patch;

	if (!host)
		return -ENOMEM;
	if (!s || s->kind != FLAT_SERVICE_KUBERNETES || s->headless || strcmp(s->host, host) != 0)
		return -EAGAIN;
	patch = flat_mesh_patch_new(s);
	if (!patch)
		return -ENOMEM;
	return keep(p, patch, join(p, slices, patch));
}

/* --- ServiceEntries --- */

/* What was read of a host, in the patch of its service. */
static int put_endpoints(struct flat_mesh_patch *patch, const struct flat_service *made)
{
	struct flat_where *where = flat_pool_array(&patch->pool, made->n_ports, sizeof(*where));

	if (!where)
		return -ENOMEM;
	for (uint32_t i = 0; i < made->n_ports; i++) {
		/* The pool's, and nobody else's. */
		patch->endpoints[i] = (struct flat_endpoint *)made->ports[i].endpoints;
		patch->n_endpoints[i] = made->ports[i].n_endpoints;
		where[i] = made->ports[i].where;
	}
	patch->where = made->where;
	patch->export_where = made->export.where;
	patch->port_where = where;
	return 0;
}

/* Whether it is the service in force, with the same ports. */
static bool fits(const struct flat_service *s, const struct flat_service *made)
{
	return strcmp(s->host, made->host) == 0 && strcmp(s->name, made->name) == 0 &&
	       strcmp(s->namespace, made->namespace) == 0 && s->n_ports == made->n_ports;
}

/* The i-th host of an entry is read into the pool of its own patch; what there is to be said of it is said with the first. */
static int read_entry(struct patching *p, const struct yaml_node *root, uint32_t i,
		      struct flat_mesh_patch *patch)
{
	struct flat_diags said = {0};
	struct cfg cfg = {.diags = i == 0 ? p->diags : &said};
	uint32_t errors = cfg.diags->n_errors;
	int ret;

	begin_reading(&cfg, patch);
	ret = cfg_read_document(&cfg, root);
	if (!ret && (cfg.diags->n_errors != errors || i >= cfg.n_made ||
		     !fits(patch->service, cfg.made[i])))
		ret = -EAGAIN;
	if (!ret)
		ret = put_endpoints(patch, cfg.made[i]);
	end_reading(&cfg);
	flat_diags_fini(&said);
	return ret;
}

/* Endpoints of names are asked for by loads. */
static const struct flat_service *entry_in_force(struct patching *p, const char *text)
{
	char *host = flat_pool_strdup(&p->tmp, text);
	const struct flat_service *s;

	for (char *c = host; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	s = host ? flat_mesh_service_named(p->mesh, host) : NULL;
	return s && s->kind == FLAT_SERVICE_ENTRY && s->resolution != FLAT_RESOLUTION_DNS ? s
											  : NULL;
}

static int patch_host(struct patching *p, const struct yaml_node *root, uint32_t i,
		      const struct yaml_node *host)
{
	const struct flat_service *s =
	    host->kind == YAML_SCALAR ? entry_in_force(p, host->text) : NULL;
	struct flat_mesh_patch *patch;

	if (!s)
		return -EAGAIN;
	patch = flat_mesh_patch_new(s);
	if (!patch)
		return -ENOMEM;
	return keep(p, patch, read_entry(p, root, i, patch));
}

/* Each host has endpoints of its own, so that what is held of all of them has the bound of one service. */
static bool is_small(const struct yaml_node *spec)
{
	const struct yaml_node *endpoints = yaml_get(spec, "endpoints");

	return !endpoints ||
	       (uint64_t)endpoints->n * yaml_get(spec, "hosts")->n * yaml_get(spec, "ports")->n <=
		   FLAT_CONFIG_ENDPOINTS_MAX;
}

static int patch_entry(struct patching *p, const struct yaml_node *root)
{
	const struct yaml_node *spec = yaml_get(root, "spec");
	const struct yaml_node *hosts = yaml_get(spec, "hosts");
	uint32_t i = 0;
	int ret = 0;

	if (!hosts || hosts->kind != YAML_LIST || !yaml_get(spec, "ports") || !is_small(spec))
		return -EAGAIN;
	for (const struct yaml_item *h = hosts->first; h && !ret; h = h->next)
		ret = patch_host(p, root, i++, h->value);
	return ret;
}

static int make_patches(struct patching *p)
{
	int ret = 0;

	if (p->n_patches == 0)
		return 0;
	p->out->v = calloc(p->n_patches, sizeof(*p->out->v));
	if (!p->out->v)
		return -ENOMEM;
	for (const struct touched *t = p->touched; t && !ret; t = t->next)
		ret = make_patch(p, t->id);
	for (const struct entry *e = p->entries; e && !ret; e = e->next)
		ret = patch_entry(p, e->root);
	return ret;
}

/* A file, or a folder whose files may all be others: these must be the ones that are known. */
static int read_named(struct patching *p, const char *name)
{
	const struct config_file_reader reader = {.read = read_file, .arg = p};
	uint32_t errors = p->diags->n_errors;
	size_t known = config_cache_below(p->cache, name);
	int ret;

	p->n_files = 0;
	ret = config_files_read(&name, 1, p->diags, &reader);
	if (ret)
		return ret;
	return p->diags->n_errors != errors || p->n_files != (known ? known : 1) ? -EAGAIN : 0;
}

int flat_config_patch(struct flat_config_cache *cache, const struct flat_mesh *mesh,
		      const char *const *names, size_t n, struct flat_config_patches *out,
		      struct flat_diags *diags)
{
	struct patching p = {.cache = cache, .mesh = mesh, .diags = diags, .out = out};
	int ret;

	*out = (struct flat_config_patches){.n = 0};
	if (!config_cache_can_patch(cache, mesh))
		return -EAGAIN;
	ret = config_cache_patch_begin(cache);
	for (size_t i = 0; i < n && !ret; i++)
		ret = read_named(&p, names[i]);
	if (!ret)
		ret = make_patches(&p);
	config_cache_patch_end(cache);
	flat_pool_fini(&p.tmp);
	if (!ret)
		return 0;
	for (size_t i = 0; i < out->n; i++)
		flat_mesh_patch_free(out->v[i]);
	free(out->v);
	*out = (struct flat_config_patches){.n = 0};
	/* What is known may be more than what is in force. */
	config_cache_made(cache, NULL);
	return ret;
}
