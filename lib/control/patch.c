/*
 * One EndpointSlice of many changes: its file is read, the slices of its Service are joined again, and the mesh in force gets
 * the endpoints. Whatever else a file says must stay as it is, place included, for the mesh names places: else all is loaded.
 */
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

struct patching {
	struct flat_config_cache *cache;
	const struct flat_mesh *mesh;
	struct flat_diags *diags;
	struct flat_pool tmp;
	struct config_document *first, **last; /* of the file that is read */
	struct touched *touched;
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

static bool is_slice(const struct yaml_node *root)
{
	return strcmp(text_of(yaml_get(root, "kind")), "EndpointSlice") == 0;
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

/* Whether its documents differ in slices alone; and in any. */
static bool only_slices(const struct config_document *a, const struct config_document *b, bool *any)
{
	*any = false;
	for (; a && b; a = a->next, b = b->next) {
		bool same = yaml_same(a->root, b->root);

		if (!same && !same_slice(a->root, b->root))
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
	struct yaml_source source = {.text = text, .len = len};
	const struct config_document *was, *is;
	bool any;
	int ret;

	if (!file)
		return -EAGAIN;
	p->first = NULL;
	p->last = &p->first;
	/* The mesh has this name already, and keeps it. */
	source.file = config_file_name(file);
	ret = yaml_read(&source, config_cache_pool(p->cache), p->diags, add_document, p);
	if (ret)
		return ret == -ENOMEM ? ret : -EAGAIN;
	was = config_file_documents(file);
	if (!only_slices(was, p->first, &any))
		return -EAGAIN;
	if (!any)
		return 0;
	for (is = p->first; is && !ret; is = is->next, was = was->next)
		if (is_slice(is->root))
			ret = move_slice(p, was->root, is->root, !yaml_same(was->root, is->root));
	config_cache_replace(p->cache, file, st, p->first);
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

static int join(struct patching *p, struct config_slice *slices, struct flat_mesh_patch *patch)
{
	struct cfg cfg = {.diags = p->diags, .pool = &patch->pool};
	uint32_t errors = p->diags->n_errors;
	int ret;

	cfg.tmp.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	patch->pool.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	ret = read_slices(p, &cfg, slices);
	if (!ret)
		cfg_k8s_patch(&cfg, patch);
	if (!ret && cfg.oom)
		ret = -ENOMEM;
	if (!ret && p->diags->n_errors != errors)
		ret = -EAGAIN;
	flat_map_fini(&cfg.ids);
	flat_map_fini(&cfg.k8s_services);
	flat_pool_fini(&cfg.tmp);
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

static int make_patch(struct patching *p, const char *id)
{
	struct config_slice *slices = config_cache_slices(p->cache, id);
	const char *slash = strchr(id, '/');
	char *host = flat_pool_printf(&p->tmp, "%s.%.*s.%s", slash + 1, (int)(slash - id), id,
				      FLAT_CLUSTER_DOMAIN);
	const struct flat_service *s = host ? flat_mesh_service_by_host(p->mesh, host, NULL) : NULL;
	struct flat_mesh_patch *patch;
	int ret;

	if (!host)
		return -ENOMEM;
	if (!s || s->kind != FLAT_SERVICE_KUBERNETES || s->headless || strcmp(s->host, host) != 0)
		return -EAGAIN;
	patch = flat_mesh_patch_new(s);
	if (!patch)
		return -ENOMEM;
	ret = join(p, slices, patch);
	if (!ret && empties(patch))
		ret = -EAGAIN;
	if (ret) {
		flat_mesh_patch_free(patch);
		return ret;
	}
	p->out->v[p->out->n++] = patch;
	return 0;
}

static int make_patches(struct patching *p)
{
	size_t n = 0;
	int ret = 0;

	for (const struct touched *t = p->touched; t; t = t->next)
		n++;
	if (n == 0)
		return 0;
	p->out->v = calloc(n, sizeof(*p->out->v));
	if (!p->out->v)
		return -ENOMEM;
	for (const struct touched *t = p->touched; t && !ret; t = t->next)
		ret = make_patch(p, t->id);
	return ret;
}

int flat_config_patch(struct flat_config_cache *cache, const struct flat_mesh *mesh,
		      const char *const *names, size_t n, struct flat_config_patches *out,
		      struct flat_diags *diags)
{
	struct patching p = {.cache = cache, .mesh = mesh, .diags = diags, .out = out};
	const struct config_file_reader reader = {.read = read_file, .arg = &p};
	uint32_t errors = diags->n_errors;
	int ret;

	*out = (struct flat_config_patches){.n = 0};
	if (!config_cache_can_patch(cache, mesh))
		return -EAGAIN;
	ret = config_cache_patch_begin(cache);
	for (size_t i = 0; i < n && !ret; i++)
		ret = config_file_read(names[i], diags, &reader);
	if (!ret && diags->n_errors != errors)
		ret = -EAGAIN;
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
