/* Endpoints of one service change in a mesh that is in force: the arrays of its ports, and who is found by an endpoint. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/internal.h"

struct flat_mesh_patch *flat_mesh_patch_new(const struct flat_service *service)
{
	struct flat_mesh_patch *patch = calloc(1, sizeof(*patch));

	if (!patch)
		return NULL;
	patch->service = service;
	patch->endpoints =
	    flat_pool_array(&patch->pool, service->n_ports, sizeof(struct flat_endpoint *));
	patch->n_endpoints = flat_pool_array(&patch->pool, service->n_ports, sizeof(uint32_t));
	if (!patch->endpoints || !patch->n_endpoints) {
		flat_mesh_patch_free(patch);
		return NULL;
	}
	return patch;
}

void flat_mesh_patch_free(struct flat_mesh_patch *patch)
{
	if (!patch)
		return;
	flat_map_fini(&patch->touched);
	flat_pool_fini(&patch->pool);
	free(patch);
}

static struct mesh_addr_key key_of(const struct flat_endpoint *e)
{
	return mesh_addr_key(&e->ip, 0, e->port);
}

/* --- what came and went --- */

static bool same_labels(const struct flat_labels *a, const struct flat_labels *b)
{
	return a->n == b->n && flat_labels_match(a, b);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Whether what was decided of a connection to one holds for the other. */
static bool same_endpoint(const struct flat_endpoint *a, const struct flat_endpoint *b)
{
	return same_labels(a->labels, b->labels) &&
	       same_text(a->service_account, b->service_account);
}

static int touch(struct flat_mesh_patch *patch, const struct mesh_addr_key *key)
{
	int ret = flat_map_put(&patch->touched, key, sizeof(*key), patch);

	return ret == -EEXIST ? 0 : ret;
}

/* All endpoints of the patch, or those in force: keys in the pool, and in the map the first of each. */
static int note_all(struct flat_mesh_patch *patch, const struct flat_endpoint *v, uint32_t n,
		    struct flat_map *map)
{
	struct mesh_addr_key *keys = flat_pool_array(&patch->pool, n, sizeof(*keys));
	int ret = keys ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < n && !ret; i++) {
		keys[i] = key_of(&v[i]);
		ret = flat_map_put(map, &keys[i], sizeof(keys[i]), (void *)&v[i]);
		if (ret != -EEXIST)
			continue;
		ret = same_endpoint(flat_map_get(map, &keys[i], sizeof(keys[i])), &v[i])
			  ? 0
			  : touch(patch, &keys[i]);
	}
	return ret;
}

/* Of endpoints those that are not in a map, or are others there. */
static int note_others(struct flat_mesh_patch *patch, const struct flat_map *map,
		       const struct flat_map *than)
{
	int ret = 0;

	for (size_t i = 0; i < map->cap && !ret; i++) {
		const struct flat_map_entry *e = &map->slots[i];
		const struct flat_endpoint *other =
		    e->key ? flat_map_get(than, e->key, e->len) : NULL;

		if (e->key && (!other || !same_endpoint(e->value, other)))
			ret = touch(patch, e->key);
	}
	return ret;
}

static int note_touched(struct flat_mesh_patch *patch)
{
	const struct flat_service *s = patch->service;
	int ret = 0;

	for (uint32_t p = 0; p < s->n_ports && !ret; p++) {
		struct flat_map was = {0}, is = {0};

		ret = note_all(patch, s->ports[p].endpoints, s->ports[p].n_endpoints, &was);
		if (!ret)
			ret = note_all(patch, patch->endpoints[p], patch->n_endpoints[p], &is);
		if (!ret)
			ret = note_others(patch, &was, &is);
		if (!ret)
			ret = note_others(patch, &is, &was);
		flat_map_fini(&was);
		flat_map_fini(&is);
	}
	return ret;
}

bool flat_mesh_patch_touches(const struct flat_mesh_patch *patch, const struct flat_ip *ip,
			     uint16_t port)
{
	struct mesh_addr_key key = mesh_addr_key(ip, 0, port);

	return flat_map_get(&patch->touched, &key, sizeof(key)) != NULL;
}

void flat_mesh_patch_told(struct flat_mesh_patch *patch)
{
	flat_map_fini(&patch->touched);
}

/* --- who is found by an endpoint --- */

/* As a load would have met them. */
static bool is_before(const struct mesh_port_ref *a, const struct mesh_port_ref *b)
{
	if (a->service != b->service)
		return a->service->index < b->service->index;
	return a->port < b->port;
}

/* There is room, and it is not there. */
static void put_first(struct flat_mesh *mesh, struct mesh_port_ref *ref)
{
	int ret = flat_map_put(&mesh->endpoints, &ref->key, sizeof(ref->key), ref);

	assert(ret == 0);
	(void)ret;
}

static void add_ref(struct flat_mesh *mesh, const struct flat_endpoint *e,
		    const struct flat_service *service, const struct flat_service_port *port)
{
	struct mesh_port_ref *ref = mesh->spare, *first;

	mesh->spare = ref->next;
	*ref = (struct mesh_port_ref){.key = key_of(e), .service = service, .port = port};
	first = flat_map_get(&mesh->endpoints, &ref->key, sizeof(ref->key));
	if (first && !is_before(ref, first)) {
		ref->next = first->next;
		first->next = ref;
		return;
	}
	if (first)
		(void)flat_map_remove(&mesh->endpoints, &ref->key, sizeof(ref->key));
	ref->next = first;
	put_first(mesh, ref);
}

/* The one that a load would have met first becomes the first. */
static struct mesh_port_ref *take_best(struct mesh_port_ref *list)
{
	struct mesh_port_ref **best = &list, **at, *ref;

	for (at = &list; *at; at = &(*at)->next)
		if (is_before(*at, *best))
			best = at;
	ref = *best;
	*best = ref->next;
	ref->next = list;
	return ref;
}

static void drop_ref(struct flat_mesh *mesh, const struct flat_endpoint *e,
		     const struct flat_service *service, const struct flat_service_port *port)
{
	struct mesh_addr_key key = key_of(e);
	struct mesh_port_ref *first = flat_map_get(&mesh->endpoints, &key, sizeof(key));
	struct mesh_port_ref **at = &first, *ref;

	while (*at && ((*at)->service != service || (*at)->port != port))
		at = &(*at)->next;
	ref = *at;
	if (!ref)
		return;
	if (ref == first) {
		(void)flat_map_remove(&mesh->endpoints, &key, sizeof(key));
		if (ref->next)
			put_first(mesh, take_best(ref->next));
	} else {
		*at = ref->next;
	}
	ref->next = mesh->spare;
	mesh->spare = ref;
}

/* So many more than there are now. */
static int make_room(struct flat_mesh *mesh, const struct flat_mesh_patch *patch)
{
	const struct flat_service *s = patch->service;
	size_t is = 0;

	for (uint32_t p = 0; p < s->n_ports; p++)
		is += patch->n_endpoints[p];
	for (const struct mesh_port_ref *ref = mesh->spare; ref && is > 0; ref = ref->next)
		is--;
	for (uint32_t p = 0; p < s->n_ports; p++)
		is -= s->ports[p].n_endpoints < is ? s->ports[p].n_endpoints : is;
	for (size_t i = 0; i < is; i++) {
		struct mesh_port_ref *ref = flat_pool_alloc(&mesh->pool, sizeof(*ref));

		if (!ref)
			return -ENOMEM;
		ref->next = mesh->spare;
		mesh->spare = ref;
	}
	return flat_map_reserve(&mesh->endpoints, mesh->endpoints.n + is);
}

int flat_mesh_patch(struct flat_mesh *mesh, struct flat_mesh_patch *patch)
{
	struct flat_service *s = mesh->services.v[patch->service->index];
	int ret = note_touched(patch);

	if (!ret)
		ret = make_room(mesh, patch);
	if (ret)
		return ret;
	for (uint32_t p = 0; p < s->n_ports; p++)
		for (uint32_t i = 0; i < s->ports[p].n_endpoints; i++)
			drop_ref(mesh, &s->ports[p].endpoints[i], s, &s->ports[p]);
	if (patch->port_where) {
		s->where = patch->where;
		s->export.where = patch->export_where;
	}
	for (uint32_t p = 0; p < s->n_ports; p++) {
		struct flat_service_port *port = &s->ports[p];

		if (patch->port_where)
			port->where = patch->port_where[p];
		port->endpoints = patch->endpoints[p];
		port->n_endpoints = patch->n_endpoints[p];
		port->turn++;
		for (uint32_t i = 0; i < port->n_endpoints; i++)
			add_ref(mesh, &port->endpoints[i], s, port);
	}
	flat_mesh_patch_free(s->patch);
	s->patch = patch;
	return 0;
}
