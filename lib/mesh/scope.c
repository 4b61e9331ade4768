#include "mesh/scope.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/internal.h"

/* What stands in `imports` for a namespace and a host. */
#define IMPORTED 1U
#define EXCLUDED 2U
#define BELOW 4U /* some host that this wildcard holds is imported */

/* Of an egress listener, "NAMESPACE/HOST". Hosts and namespaces have at most 253 characters. */
struct import_key {
	uint32_t listener;
	char text[2 * 256];
};

struct import {
	unsigned flags;
	struct import_key key;
};

static int by_name(const void *key, const void *item)
{
	return strcmp(key, *(const char *const *)item);
}

bool mesh_exported(const struct flat_export *e, const char *own, const char *namespace)
{
	if (!e->limited)
		return true;
	return namespace && ((e->own && strcmp(own, namespace) == 0) ||
			     (e->n > 0 && bsearch(namespace, e->namespaces, e->n,
						  sizeof(*e->namespaces), by_name)));
}

bool flat_service_exported(const struct flat_service *service, const char *namespace)
{
	return mesh_exported(&service->export, service->namespace, namespace);
}

/* --- what a Sidecar imports --- */

/* Length of the key, 0: there is none so long. */
static size_t make_key(struct import_key *key, uint32_t listener, const char *namespace,
		       const char *host, size_t len)
{
	size_t ns = strlen(namespace);

	if (ns + 1 + len > sizeof(key->text))
		return 0;
	key->listener = listener;
	memcpy(key->text, namespace, ns);
	key->text[ns] = '/';
	memcpy(key->text + ns + 1, host, len);
	return offsetof(struct import_key, text) + ns + 1 + len;
}

static unsigned flags_of(const struct flat_mesh *mesh, uint32_t listener, const char *namespace,
			 const char *host, size_t len)
{
	struct import_key key;
	size_t n = make_key(&key, listener, namespace, host, len);
	const struct import *import = n ? flat_map_get(&mesh->imports, &key, n) : NULL;

	return import ? import->flags : 0;
}

/* What is said of a host under one namespace: by name, and by each wildcard that holds all of it. */
static unsigned said_of(const struct flat_mesh *mesh, const struct flat_egress_listener *l,
			const char *namespace, const char *host)
{
	unsigned flags = flags_of(mesh, l->index, namespace, host, strlen(host));
	const unsigned held = IMPORTED | EXCLUDED;
	char wild[256] = "*";
	size_t len;

	flags |= flags_of(mesh, l->index, namespace, "*", 1) & held;
	for (const char *dot = strchr(host + (host[0] == '*'), '.'); l->wild && dot;
	     dot = strchr(dot + 1, '.')) {
		len = strlen(dot);
		/* A wildcard itself was looked for above. */
		if (len + 2 > sizeof(wild) || (host[0] == '*' && dot == host + 1))
			continue;
		memcpy(wild + 1, dot, len + 1);
		flags |= flags_of(mesh, l->index, namespace, wild, len + 1) & held;
	}
	return flags;
}

/* Whether a listener imports a resource of namespace `own` for a host. `route`: a VirtualService, of which a part is enough. */
static bool imports(const struct flat_scope *scope, const struct flat_egress_listener *l,
		    const char *own, const char *host, bool route)
{
	unsigned flags;

	if (l->everything)
		return true;
	flags = said_of(scope->mesh, l, own, host) | said_of(scope->mesh, l, "*", host);
	if (scope->namespace && strcmp(scope->namespace, own) == 0)
		flags |= said_of(scope->mesh, l, ".", host);
	if (flags & EXCLUDED)
		return false;
	return flags & (route && host[0] == '*' ? IMPORTED | BELOW : IMPORTED);
}

static int by_port(const void *key, const void *item)
{
	const struct flat_egress_listener *l = item;

	return (int)*(const uint16_t *)key - (int)l->port;
}

/* The listener for a port: its own, else that for all others. NULL: there is none. */
static const struct flat_egress_listener *listener_at(const struct flat_egress_policy *sidecar,
						      uint16_t port)
{
	const struct flat_egress_listener *l = bsearch(
	    &port, sidecar->listeners, sidecar->n_listeners, sizeof(*sidecar->listeners), by_port);

	return l || sidecar->listeners[0].port ? l : &sidecar->listeners[0];
}

bool mesh_route_imported(const struct flat_scope *scope, const struct flat_virtual_service *vs,
			 const char *host)
{
	const struct flat_egress_policy *sidecar = scope->sidecar;
	const struct flat_egress_listener *l;

	if (!sidecar)
		return true;
	if (scope->port) {
		l = listener_at(sidecar, scope->port);
		return l && imports(scope, l, vs->namespace, host, true);
	}
	for (uint32_t i = 0; i < sidecar->n_listeners; i++) {
		if (imports(scope, &sidecar->listeners[i], vs->namespace, host, true))
			return true;
	}
	return false;
}

static bool imported(const struct flat_scope *scope, const struct flat_service *service)
{
	const struct flat_egress_policy *sidecar = scope->sidecar;
	const struct flat_egress_listener *l;

	if (scope->port) {
		l = listener_at(sidecar, scope->port);
		return l && imports(scope, l, service->namespace, service->host, false);
	}
	for (uint32_t i = 0; i < sidecar->n_listeners; i++) {
		l = &sidecar->listeners[i];
		if ((!l->port || flat_service_port(service, l->port)) &&
		    imports(scope, l, service->namespace, service->host, false))
			return true;
	}
	return false;
}

/* --- asking --- */

struct flat_scope flat_mesh_scope(const struct flat_mesh *mesh,
				  const struct flat_workload *workload, uint16_t port)
{
	struct flat_scope scope = {
	    .mesh = mesh, .namespace = workload ? workload->namespace : NULL, .port = port};

	if (mesh->sidecars)
		scope.sidecar = mesh->sidecars[workload ? workload->index : mesh->workloads.n];
	return scope;
}

bool flat_mesh_is_scoped(const struct flat_mesh *mesh)
{
	return mesh->scoped;
}

bool flat_mesh_is_veiled(const struct flat_mesh *mesh, const struct flat_service *service)
{
	return service->export.limited || mesh->sidecars;
}

bool flat_scope_sees(const struct flat_scope *scope, const struct flat_service *service)
{
	if (!scope->mesh->scoped || scope->unbounded)
		return true;
	return flat_service_exported(service, scope->namespace) &&
	       (!scope->sidecar || imported(scope, service));
}

const char *flat_scope_why(const struct flat_scope *scope, const struct flat_service *service,
			   char *text, size_t size)
{
	const char *kind = service->kind == FLAT_SERVICE_ENTRY ? "ServiceEntry" : "Service";
	const struct flat_where *e = &service->export.where;
	const struct flat_egress_policy *sidecar = scope->sidecar;

	if (!flat_service_exported(service, scope->namespace))
		(void)snprintf(text, size,
			       "%s %s/%s (%s:%u) has host %s, and is not exported to %s%s "
			       "(exportTo, %s:%u)",
			       kind, service->namespace, service->name, service->where.file,
			       service->where.line, service->host,
			       scope->namespace ? "namespace " : "clients without workload",
			       scope->namespace ? scope->namespace : "", e->file, e->line);
	else if (sidecar)
		(void)snprintf(text, size,
			       "%s %s/%s (%s:%u) has host %s, and Sidecar %s/%s (%s:%u) does not "
			       "import it",
			       kind, service->namespace, service->name, service->where.file,
			       service->where.line, service->host, sidecar->namespace,
			       sidecar->name, sidecar->where.file, sidecar->where.line);
	else
		text[0] = 0;
	return text;
}

/* --- building --- */

static int put(struct flat_mesh *mesh, uint32_t listener, const char *namespace, const char *host,
	       size_t len, unsigned flag)
{
	struct import_key key;
	size_t n = make_key(&key, listener, namespace, host, len);
	struct import *import = n ? flat_map_get(&mesh->imports, &key, n) : NULL;

	if (!n)
		return 0;
	if (import) {
		import->flags |= flag;
		return 0;
	}
	import = flat_pool_alloc(&mesh->pool, offsetof(struct import, key) + n);
	if (!import)
		return -ENOMEM;
	import->flags = flag;
	memcpy(&import->key, &key, n);
	return flat_map_put(&mesh->imports, &import->key, n, import);
}

/* One host, and the wildcards above it. */
static int index_import(struct flat_mesh *mesh, struct flat_egress_listener *l,
			const struct flat_egress_host *h)
{
	char wild[256] = "*";
	int ret = put(mesh, l->index, h->namespace, h->host, strlen(h->host),
		      h->excluded ? EXCLUDED : IMPORTED);

	l->wild |= h->host[0] == '*' && h->host[1];
	for (const char *dot = strchr(h->host, '.'); !h->excluded && ret == 0 && dot;
	     dot = strchr(dot + 1, '.')) {
		size_t len = strlen(dot);

		if (len + 2 > sizeof(wild))
			continue;
		memcpy(wild + 1, dot, len + 1);
		ret = put(mesh, l->index, h->namespace, wild, len + 1, BELOW);
	}
	return ret || h->excluded ? ret : put(mesh, l->index, h->namespace, "*", 1, BELOW);
}

/* A name without star that nobody has imports nothing; short names are a common slip. */
static void check_host(const struct flat_mesh *mesh, const struct flat_egress_policy *policy,
		       const struct flat_egress_host *h, struct flat_diags *diags)
{
	const struct flat_service *service;
	char resource[MESH_RESOURCE_MAX], todo[300];

	if (h->excluded || h->host[0] == '*' || flat_map_get_str(&mesh->hosts, h->host))
		return;
	service = flat_mesh_service_by_host(mesh, h->host, policy->namespace);
	(void)snprintf(todo, sizeof(todo), "write %.253s", service ? service->host : "");
	mesh_resource(resource, "Sidecar", policy->namespace, policy->name);
	flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &h->where, resource,
		       service && service->host[0] != '*' ? todo : "use a service's whole host",
		       "\"%.253s\" is the host of no service: nothing is imported by it", h->host);
}

static int index_listener(struct flat_mesh *mesh, const struct flat_egress_policy *policy,
			  struct flat_egress_listener *l, struct flat_diags *diags)
{
	int ret = 0;

	l->index = mesh->n_listeners++;
	l->everything = false;
	for (uint32_t i = 0; i < l->n_hosts && ret == 0; i++) {
		const struct flat_egress_host *h = &l->hosts[i];

		l->everything |=
		    !h->excluded && strcmp(h->namespace, "*") == 0 && strcmp(h->host, "*") == 0;
		check_host(mesh, policy, h, diags);
		ret = index_import(mesh, l, h);
	}
	for (uint32_t i = 0; i < l->n_hosts; i++)
		l->everything &= !l->hosts[i].excluded;
	return ret;
}

static void settle_export(struct flat_export *e, const struct flat_export *otherwise, bool *limited)
{
	if (!e->said)
		*e = *otherwise;
	*limited |= e->limited;
}

void mesh_settle_exports(struct flat_mesh *mesh)
{
	bool others = false;

	for (uint32_t i = 0; i < mesh->services.n; i++)
		settle_export(&((struct flat_service *)mesh->services.v[i])->export,
			      &mesh->exports[FLAT_EXPORT_SERVICES], &mesh->scoped);
	for (uint32_t i = 0; i < mesh->virtual.n; i++)
		settle_export(&((struct flat_virtual_service *)mesh->virtual.v[i])->export,
			      &mesh->exports[FLAT_EXPORT_ROUTES], &others);
	for (uint32_t i = 0; i < mesh->rules.n; i++)
		settle_export(&((struct flat_destination_rule *)mesh->rules.v[i])->export,
			      &mesh->exports[FLAT_EXPORT_RULES], &others);
	for (uint32_t i = 0; i < mesh->egress.n; i++)
		mesh->scoped |= ((struct flat_egress_policy *)mesh->egress.v[i])->n_listeners > 0;
}

int mesh_index_scopes(struct flat_mesh *mesh, struct flat_diags *diags)
{
	bool any = false;
	int ret = 0;

	for (uint32_t i = 0; i < mesh->egress.n && ret == 0; i++) {
		struct flat_egress_policy *policy = mesh->egress.v[i];

		for (uint32_t k = 0; k < policy->n_listeners && ret == 0; k++)
			ret = index_listener(mesh, policy, &policy->listeners[k], diags);
		any |= policy->n_listeners > 0;
	}
	if (!any || ret)
		return ret;
	mesh->sidecars =
	    flat_pool_array(&mesh->pool, (size_t)mesh->workloads.n + 1, sizeof(*mesh->sidecars));
	if (!mesh->sidecars)
		return -ENOMEM;
	for (uint32_t i = 0; i <= mesh->workloads.n; i++) {
		const struct flat_egress_policy *policy =
		    mesh_sidecar_of(mesh, i < mesh->workloads.n ? mesh->workloads.v[i] : NULL);

		mesh->sidecars[i] = policy && policy->n_listeners > 0 ? policy : NULL;
	}
	return 0;
}
