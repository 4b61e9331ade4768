/*
 * Delegation (VirtualService http.delegate): the routes of another VirtualService stand in the place of one that names it;
 * both conditions must hold, and what the other leaves open is taken from the one that names it. As in Istio.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* What both matches ask for. false: nothing can hold both, or Istio has no answer. */
static bool join(const struct flat_http_match *root, const struct flat_http_match *leaf,
		 struct flat_http_match *out)
{
	*out = *leaf;
	if (root->uri && leaf->uri &&
	    (root->uri->kind == FLAT_TEXT_REGEX || leaf->uri->kind == FLAT_TEXT_REGEX))
		return false;
	if (!out->uri)
		out->uri = root->uri;
	out->also = root;
	return true;
}

static int join_matches(struct flat_mesh *mesh, const struct flat_http_route *root,
			struct flat_http_route *leaf)
{
	struct flat_http_match *v;
	size_t n = (size_t)root->n_matches * leaf->n_matches;

	if (root->n_matches == 0)
		return 0;
	if (leaf->n_matches == 0) {
		leaf->matches = root->matches;
		leaf->n_matches = root->n_matches;
		return 0;
	}
	if (n > UINT16_MAX)
		return -EINVAL;
	v = flat_pool_array(&mesh->pool, n, sizeof(*v));
	if (!v)
		return -ENOMEM;
	n = 0;
	for (uint32_t i = 0; i < root->n_matches; i++) {
		for (uint32_t k = 0; k < leaf->n_matches; k++)
			n += join(&root->matches[i], &leaf->matches[k], &v[n]);
	}
	leaf->matches = v;
	leaf->n_matches = (uint32_t)n;
	return n > 0 ? 0 : -ENOENT;
}

static bool says(const struct flat_header_ops *ops)
{
	return ops->n_set || ops->n_add || ops->n_remove || ops->authority;
}

/* Short names are those of the namespace in which they are written, as in Istio. */
static bool copy_mirrors(struct flat_mesh *mesh, const struct flat_http_route *from,
			 const char *namespace, struct flat_http_route *out)
{
	struct flat_http_mirror *v = flat_pool_array(&mesh->pool, from->n_mirrors + 1, sizeof(*v));

	for (uint32_t i = 0; v && i < from->n_mirrors; i++) {
		v[i] = from->mirrors[i];
		v[i].to.namespace = namespace;
	}
	out->mirrors = v;
	out->n_mirrors = v ? from->n_mirrors : 0;
	return v != NULL;
}

/* One route of the other VirtualService, as it holds here. 0, -ENOENT: it never does, -ENOMEM. */
static int join_route(struct flat_mesh *mesh, const struct flat_http_route *root,
		      const struct flat_virtual_service *to, const struct flat_http_route *from,
		      struct flat_http_route *out)
{
	size_t n = from->n_destinations;
	struct flat_route_destination *d = flat_pool_array(&mesh->pool, n + 1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	*out = *from;
	for (size_t i = 0; i < n; i++) {
		d[i] = from->destinations[i];
		d[i].namespace = to->namespace;
	}
	out->destinations = d;
	if (!copy_mirrors(mesh, from->n_mirrors ? from : root,
			  from->n_mirrors ? to->namespace : NULL, out))
		return -ENOMEM;
	err = join_matches(mesh, root, out);
	if (!*out->name)
		out->name = root->name;
	out->rewrite = out->rewrite ? out->rewrite : root->rewrite;
	out->retries = out->retries ? out->retries : root->retries;
	out->fault = out->fault ? out->fault : root->fault;
	out->cors = out->cors ? out->cors : root->cors;
	out->timeout_ms = out->timeout_ms ? out->timeout_ms : root->timeout_ms;
	if (!says(&out->request) && !says(&out->response)) {
		out->request = root->request;
		out->response = root->response;
	}
	return err;
}

static const struct flat_virtual_service *find(const struct flat_mesh *mesh, const char *name,
					       const char *namespace)
{
	for (uint32_t i = 0; i < mesh->virtual.n; i++) {
		const struct flat_virtual_service *vs = mesh->virtual.v[i];

		if (strcmp(vs->name, name) == 0 && strcmp(vs->namespace, namespace) == 0)
			return vs;
	}
	return NULL;
}

static void complain(struct flat_diags *diags, const struct flat_virtual_service *vs,
		     const struct flat_http_route *r, const char *todo, const char *what)
{
	char resource[MESH_RESOURCE_MAX];

	mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
	flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &r->where, resource, todo,
		       "delegate %s/%s %s: the route is left out", r->delegate_namespace,
		       r->delegate, what);
}

/* The VirtualService that a route delegates to, if it can; else NULL. */
static const struct flat_virtual_service *delegate_of(const struct flat_mesh *mesh,
						      const struct flat_virtual_service *vs,
						      const struct flat_http_route *r,
						      struct flat_diags *diags)
{
	const struct flat_virtual_service *to = find(mesh, r->delegate, r->delegate_namespace);

	if (!to)
		complain(diags, vs, r, "write it", "does not exist");
	else if (to->n_hosts > 0)
		complain(diags, vs, r, "take its hosts away", "has hosts");
	else if (!mesh_exported(&to->export, to->namespace, vs->namespace))
		complain(diags, vs, r, "name the namespace in its exportTo",
			 "is not exported here");
	else
		return to;
	return NULL;
}

int mesh_delegate(struct flat_mesh *mesh, struct flat_virtual_service *vs, struct flat_diags *diags)
{
	struct flat_http_route *v;
	uint32_t n = 0;
	size_t max = 0;

	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *r = &vs->routes[i];
		const struct flat_virtual_service *to =
		    r->delegate ? find(mesh, r->delegate, r->delegate_namespace) : NULL;

		max += to ? to->n_routes : 1;
	}
	v = flat_pool_array(&mesh->pool, max + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *r = &vs->routes[i];
		const struct flat_virtual_service *to =
		    r->delegate ? delegate_of(mesh, vs, r, diags) : NULL;

		if (!r->delegate)
			v[n++] = *r;
		for (uint32_t k = 0; to && k < to->n_routes; k++) {
			int err = 0;

			/* One delegates, and no further. */
			if (!to->routes[k].delegate)
				err = join_route(mesh, r, to, &to->routes[k], &v[n]);
			if (err == -ENOMEM)
				return err;
			n += err == 0 && !to->routes[k].delegate;
		}
	}
	vs->routes = v;
	vs->n_routes = n;
	return 0;
}
