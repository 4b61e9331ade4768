/* TLS towards the ports of a service, as its own namespace says: Gateway API's BackendTLSPolicy. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/gateway.h"
#include "mesh/internal.h"

uint32_t flat_mesh_n_backend_tls(const struct flat_mesh *mesh)
{
	return mesh->backend_tls.n;
}

const struct flat_backend_tls *flat_mesh_backend_tls(const struct flat_mesh *mesh, uint32_t i)
{
	return mesh->backend_tls.v[i];
}

/* --- authorities --- */

const char *flat_mesh_config_map(const struct flat_mesh *mesh, const char *namespace,
				 const char *name)
{
	for (uint32_t i = 0; i < mesh->config_maps.n; i++) {
		const struct flat_config_map *c = mesh->config_maps.v[i];

		if (strcmp(c->namespace, namespace) == 0 && strcmp(c->name, name) == 0)
			return c->pem;
	}
	return NULL;
}

static const char *text_of(const struct flat_mesh *mesh, const char *namespace,
			   const struct flat_tls_authority *a)
{
	const struct flat_secret *secret =
	    a->secret ? flat_mesh_secret(mesh, namespace, a->secret) : NULL;

	if (a->config_map)
		return flat_mesh_config_map(mesh, namespace, a->config_map);
	return secret ? secret->ca : NULL;
}

int mesh_find_authorities(struct flat_mesh *mesh, const struct flat_tls_authority *v, uint32_t n,
			  const char *namespace, const char *resource, struct flat_diags *diags,
			  const char **pem)
{
	const char *all = NULL;

	for (uint32_t i = 0; i < n; i++) {
		const char *text = text_of(mesh, namespace, &v[i]);
		const char *name = v[i].config_map ? v[i].config_map : v[i].secret;

		if (!text) {
			flat_diags_add(
			    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &v[i].where, resource,
			    "declare it, with ca.crt", "there are no authorities of %s %s/%s",
			    v[i].secret ? "Secret" : "ConfigMap", namespace, name ? name : "?");
			continue;
		}
		all = all ? flat_pool_printf(&mesh->pool, "%s\n%s", all, text) : text;
		if (!all)
			return -ENOMEM;
	}
	*pem = all;
	return 0;
}

/* Without any the policy's connections fail: they are never made in the clear. */
static int find_authorities(struct flat_mesh *mesh, struct flat_backend_tls *p,
			    const char *resource, struct flat_diags *diags)
{
	int ret = mesh_find_authorities(mesh, p->authorities, p->n_authorities, p->namespace,
					resource, diags, &p->origin.authorities);

	if (ret == 0 && p->n_authorities > 0 && !p->origin.authorities)
		p->origin.broken = "none of its authorities is there";
	return ret;
}

/* --- which ports --- */

/* Who came first, or what stands first in the alphabet, goes before. */
static int by_age(const void *x, const void *y)
{
	const struct flat_backend_tls *a = *(void *const *)x;
	const struct flat_backend_tls *b = *(void *const *)y;
	int d = flat_created_order(a->created, b->created);

	if (d == 0)
		d = strcmp(a->namespace, b->namespace);
	return d != 0 ? d : strcmp(a->name, b->name);
}

/* A port's policy is that which names the port, else that of the whole service; of several the first. */
static int settle_target(struct flat_mesh *mesh, const struct flat_backend_tls *p,
			 const struct flat_backend_target *t, const char *resource,
			 struct flat_diags *diags)
{
	struct flat_service *s =
	    (struct flat_service *)flat_mesh_service_by_host(mesh, t->host, p->namespace);
	bool found = false;
	bool used = false;

	if (s && strcmp(s->host, t->host) != 0)
		s = NULL;
	for (uint32_t i = 0; s && i < s->n_ports; i++) {
		const struct flat_tls_origin *other;

		if (t->section && strcmp(s->ports[i].name, t->section) != 0)
			continue;
		found = true;
		if (!s->tls)
			s->tls = flat_pool_array(&mesh->pool, s->n_ports, sizeof(*s->tls));
		if (!s->tls)
			return -ENOMEM;
		other = s->tls[i];
		if (!other)
			s->tls[i] = &p->origin;
		else if (t->section)
			flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				       &t->where, resource, "leave one of them",
				       "port \"%s\" of %s has a policy already (%s:%u): this one "
				       "has no effect",
				       t->section, s->host, other->where.file, other->where.line);
		used |= !other;
	}
	if (!found)
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &t->where, resource,
			       "correct its name", "there is no %s%s%s%s",
			       t->section ? "port \"" : "", t->section ? t->section : "",
			       t->section ? "\" of " : "service ", t->host);
	else if (!used && !t->section)
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &t->where,
			       resource, "leave one of them",
			       "each port of %s has a policy already: this one has no effect",
			       s->host);
	return 0;
}

int mesh_index_backend_tls(struct flat_mesh *mesh, struct flat_diags *diags)
{
	struct mesh_vec *all = &mesh->backend_tls;
	int ret = 0;

	if (all->n > 1)
		qsort(all->v, all->n, sizeof(*all->v), by_age);
	/* First those that name a port. */
	for (int whole = 0; whole < 2; whole++) {
		for (uint32_t i = 0; i < all->n; i++) {
			struct flat_backend_tls *p = all->v[i];
			char resource[MESH_RESOURCE_MAX];

			mesh_resource(resource, "BackendTLSPolicy", p->namespace, p->name);
			if (!whole)
				ret = find_authorities(mesh, p, resource, diags);
			for (uint32_t k = 0; ret == 0 && k < p->n_targets; k++) {
				if ((p->targets[k].section == NULL) == (whole != 0))
					ret =
					    settle_target(mesh, p, &p->targets[k], resource, diags);
			}
			if (ret != 0)
				return ret;
		}
	}
	return 0;
}
