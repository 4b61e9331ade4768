/*
 * Delegation (VirtualService http.delegate): the routes of another VirtualService stand in the place of one that names it;
 * both conditions must hold, and what the other leaves open is taken from the one that names it. As in Istio.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* Whether a text may hold for `leaf` and not for `root`. Of presence and regular expressions nobody says what lies within them. */
static bool text_differs(const struct flat_text_match *root, const struct flat_text_match *leaf)
{
	bool whole;

	if (!root || !leaf)
		return false;
	whole = root->kind == FLAT_TEXT_EXACT && leaf->kind == FLAT_TEXT_EXACT;
	if (!whole && (root->kind != FLAT_TEXT_PREFIX ||
		       (leaf->kind != FLAT_TEXT_EXACT && leaf->kind != FLAT_TEXT_PREFIX)))
		return true;
	return root->len == 0 || leaf->len < root->len || (whole && leaf->len != root->len) ||
	       memcmp(root->text, leaf->text, root->len) != 0;
}

static bool named_differ(const struct flat_named_match *root, uint32_t n_root,
			 const struct flat_named_match *leaf, uint32_t n_leaf)
{
	for (uint32_t i = 0; i < n_leaf; i++) {
		for (uint32_t k = 0; k < n_root; k++) {
			if (strcmp(root[k].name, leaf[i].name) == 0 &&
			    text_differs(&root[k].match, &leaf[i].match))
				return true;
		}
	}
	return false;
}

static bool sources_differ(const struct flat_http_match *root, const struct flat_http_match *leaf)
{
	if (root->source_namespace && (!leaf->source_namespace ||
				       strcmp(root->source_namespace, leaf->source_namespace) != 0))
		return true;
	for (uint32_t i = 0; i < leaf->source_labels.n; i++) {
		const struct flat_label *l = &leaf->source_labels.v[i];

		for (uint32_t k = 0; k < root->source_labels.n; k++) {
			const struct flat_label *r = &root->source_labels.v[k];

			if (strcmp(l->key, r->key) == 0 && strcmp(l->value, r->value) != 0)
				return true;
		}
	}
	return false;
}

static bool gateways_differ(const struct flat_http_match *root, const struct flat_http_match *leaf)
{
	if (!root->for_gateways || !leaf->for_gateways)
		return false;
	if (root->never && !leaf->never)
		return true;
	for (uint32_t i = 0; i < leaf->n_gateways; i++) {
		uint32_t k = 0;

		while (k < root->n_gateways && strcmp(root->gateways[k], leaf->gateways[i]) != 0)
			k++;
		if (k == root->n_gateways)
			return true;
	}
	return false;
}

/* As in Istio: what a delegate asks for must lie within what is asked of it, by what both name. */
static bool differ(const struct flat_http_match *root, const struct flat_http_match *leaf)
{
	return text_differs(root->uri, leaf->uri) || text_differs(root->scheme, leaf->scheme) ||
	       text_differs(root->method, leaf->method) ||
	       text_differs(root->authority, leaf->authority) ||
	       named_differ(root->headers, root->n_headers, leaf->headers, leaf->n_headers) ||
	       named_differ(root->without, root->n_without, leaf->without, leaf->n_without) ||
	       named_differ(root->query, root->n_query, leaf->query, leaf->n_query) ||
	       root->ignore_case != leaf->ignore_case ||
	       (root->port && leaf->port && root->port != leaf->port) ||
	       sources_differ(root, leaf) || gateways_differ(root, leaf);
}

/* What both matches ask for. */
static struct flat_http_match join(const struct flat_http_match *root,
				   const struct flat_http_match *leaf)
{
	struct flat_http_match out = *leaf;

	if (!out.uri)
		out.uri = root->uri;
	out.also = root;
	return out;
}

/* -ENOENT: a match of the other's route lies within none here. */
static int join_matches(struct flat_mesh *mesh, const struct flat_http_route *root,
			struct flat_http_route *leaf)
{
	struct flat_http_match *v;
	size_t max = (size_t)root->n_matches * leaf->n_matches;
	uint32_t n = 0;

	if (root->n_matches == 0)
		return 0;
	if (leaf->n_matches == 0) {
		leaf->matches = root->matches;
		leaf->n_matches = root->n_matches;
		return 0;
	}
	if (max > UINT16_MAX)
		return -EINVAL;
	v = flat_pool_array(&mesh->pool, max, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (uint32_t k = 0; k < leaf->n_matches; k++) {
		uint32_t before = n;

		for (uint32_t i = 0; i < root->n_matches; i++) {
			if (!differ(&root->matches[i], &leaf->matches[k]))
				v[n++] = join(&root->matches[i], &leaf->matches[k]);
		}
		if (n == before)
			return -ENOENT;
	}
	leaf->matches = v;
	leaf->n_matches = n;
	return 0;
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
	else if (*root->name)
		out->name = flat_pool_printf(&mesh->pool, "%s-%s", root->name, out->name);
	if (!out->name)
		return -ENOMEM;
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
			if (err)
				complain(diags, vs, r, "narrow its matches, or widen the ones here",
					 "has a route whose match is not within the one here");
			n += err == 0 && !to->routes[k].delegate;
		}
	}
	vs->routes = v;
	vs->n_routes = n;
	return 0;
}
