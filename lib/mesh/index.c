/* The look-ups of a mesh, built once when it is finished; conflicts between resources come out
 * here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/internal.h"

static const char *service_kind(const struct flat_service *service)
{
	return service->kind == FLAT_SERVICE_ENTRY ? "ServiceEntry" : "Service";
}

static bool same_resource(const struct flat_service *a, const struct flat_service *b)
{
	return a->kind == b->kind && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->namespace, b->namespace) == 0;
}

/* Reports that `what` of `service` is `other`'s already. */
static void report_taken(struct flat_diags *diags, const struct flat_service *service,
			 const struct flat_service *other, const char *what, const char *todo)
{
	flat_diags_add(diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_CONFLICT, &service->where, NULL, todo,
		       "%s of %s %s/%s belongs to %s %s/%s already (%s:%u)", what,
		       service_kind(service), service->namespace, service->name,
		       service_kind(other), other->namespace, other->name,
		       other->where.file ? other->where.file : "", other->where.line);
}

static int index_host(struct flat_mesh *mesh, struct flat_service *service,
		      struct flat_diags *diags)
{
	int ret = flat_map_put_str(&mesh->hosts, service->host, service);
	char what[320];

	if (ret == -EEXIST) {
		(void)snprintf(what, sizeof(what), "host %s", service->host);
		report_taken(diags, service, flat_map_get_str(&mesh->hosts, service->host), what,
			     "declare each host once, with all its ports and endpoints");
		return 0;
	}
	if (!ret && service->host[0] == '*')
		mesh->n_wildcards++;
	return ret;
}

static int index_put(struct flat_mesh *mesh, struct flat_map *map, const struct mesh_addr_key *key,
		     const struct flat_service *service, const struct flat_service_port *port)
{
	struct mesh_port_ref *first = flat_map_get(map, key, sizeof(*key));
	struct mesh_port_ref *ref;

	/* Where everybody sees everything nobody gets beyond the first; of endpoints it may go. */
	if (first && !mesh->scoped && map != &mesh->endpoints)
		return 0;
	ref = flat_pool_alloc(&mesh->pool, sizeof(*ref));
	if (!ref)
		return -ENOMEM;
	ref->key = *key;
	ref->service = service;
	ref->port = port;
	ref->next = NULL;
	if (!first)
		return flat_map_put(map, &ref->key, sizeof(ref->key), ref);
	/* The first holds where all are seen; the order of the others is nobody's concern. */
	ref->next = first->next;
	first->next = ref;
	return 0;
}

static void note_prefix(uint8_t *list, uint8_t *n, uint8_t prefix)
{
	uint8_t i;

	for (i = 0; i < *n && list[i] > prefix; i++)
		;
	if (i < *n && list[i] == prefix)
		return;
	memmove(list + i + 1, list + i, (size_t)(*n - i));
	list[i] = prefix;
	(*n)++;
}

/* One address block of a service at `number`, which is `port` (0 and NULL: the service as a whole). */
static int index_addr(struct flat_mesh *mesh, const struct flat_service *service,
		      const struct flat_cidr *cidr, uint16_t number,
		      const struct flat_service_port *port, struct flat_diags *diags)
{
	struct mesh_addr_key key = mesh_addr_key(&cidr->ip, cidr->prefix, number);
	const struct mesh_port_ref *other;
	char what[FLAT_CIDR_TEXT_MAX + 32], text[FLAT_CIDR_TEXT_MAX];
	int ret;

	other = flat_map_get(&mesh->addrs, &key, sizeof(key));
	/* Hosts of one ServiceEntry share its addresses, and services without ports in common may
	 * share one; endpoints of headless services may be shared by several. */
	if (!other || !port || same_resource(other->service, service) || service->headless ||
	    other->service->headless) {
		ret = index_put(mesh, &mesh->addrs, &key, service, port);
		if (ret || other)
			return ret;
		if (cidr->ip.family == AF_INET)
			note_prefix(mesh->prefixes4, &mesh->n_prefixes4, cidr->prefix);
		else
			note_prefix(mesh->prefixes6, &mesh->n_prefixes6, cidr->prefix);
		return 0;
	}
	(void)snprintf(what, sizeof(what), "address %s port %u", flat_cidr_text(cidr, text),
		       (unsigned)number);
	report_taken(diags, service, other->service, what,
		     "give each service its own address or port");
	return 0;
}

/* A headless service is reached where its endpoints listen, not at the numbers of its ports. */
static int index_headless(struct flat_mesh *mesh, const struct flat_service *service,
			  struct flat_diags *diags)
{
	uint32_t i, j;
	int ret = 0;

	for (i = 0; i < service->n_ports; i++) {
		const struct flat_service_port *port = &service->ports[i];

		for (j = 0; j < port->n_endpoints && !ret; j++) {
			struct flat_cidr cidr = {.ip = port->endpoints[j].ip};

			cidr.prefix = cidr.ip.family == AF_INET ? 32 : 128;
			ret =
			    index_addr(mesh, service, &cidr, port->endpoints[j].port, port, diags);
		}
	}
	return ret;
}

/* A port that many services may have. */
static int index_name(struct flat_mesh *mesh, const struct flat_service *service,
		      const struct flat_service_port *port)
{
	static const struct flat_ip nowhere;
	struct mesh_addr_key key = mesh_addr_key(&nowhere, 0, port->number);

	if (flat_map_get(&mesh->names_at, &key, sizeof(key)))
		return 0;
	return index_put(mesh, &mesh->names_at, &key, service, port);
}

static int index_addrs(struct flat_mesh *mesh, const struct flat_service *service,
		       struct flat_diags *diags)
{
	uint32_t i, j;
	int ret;

	for (i = 0; i < service->n_addresses; i++) {
		ret = index_addr(mesh, service, &service->addresses[i], 0, NULL, diags);
		for (j = 0; j < service->n_ports && !ret && !service->headless; j++)
			ret = index_addr(mesh, service, &service->addresses[i],
					 service->ports[j].number, &service->ports[j], diags);
		if (ret)
			return ret;
	}
	if (service->headless)
		return index_headless(mesh, service, diags);
	for (j = 0; service->any_address && j < service->n_ports; j++) {
		static const struct flat_ip nowhere;
		struct mesh_addr_key key = mesh_addr_key(&nowhere, 0, service->ports[j].number);

		if (flat_protocol_is_tls(service->ports[j].protocol)) {
			ret = index_name(mesh, service, &service->ports[j]);
			if (ret)
				return ret;
			continue;
		}
		if (service->ports[j].protocol != FLAT_PROTOCOL_TCP)
			continue;
		ret = index_put(mesh, &mesh->addrs, &key, service, &service->ports[j]);
		if (ret)
			return ret;
	}
	return 0;
}

static int index_endpoints(struct flat_mesh *mesh, const struct flat_service *service)
{
	uint32_t i, j;
	int ret;

	for (i = 0; i < service->n_ports; i++) {
		const struct flat_service_port *port = &service->ports[i];

		for (j = 0; j < port->n_endpoints; j++) {
			const struct flat_endpoint *endpoint = &port->endpoints[j];
			struct mesh_addr_key key = mesh_addr_key(&endpoint->ip, 0, endpoint->port);

			ret = index_put(mesh, &mesh->endpoints, &key, service, port);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* Aliases of aliases that are followed. */
#define ALIASES_MAX 8

static const struct flat_service *alias_target(const struct flat_mesh *mesh,
					       const struct flat_alias *alias)
{
	const struct flat_service *service = NULL;

	for (int i = 0; alias && !service && i < ALIASES_MAX; i++) {
		service = flat_map_get_str(&mesh->hosts, alias->target);
		alias = flat_map_get_str(&mesh->alias_hosts, alias->target);
	}
	return service;
}

/* After the hosts of services, which go before. */
static int index_aliases(struct flat_mesh *mesh, struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];

	for (uint32_t i = 0; i < mesh->aliases.n; i++) {
		struct flat_alias *alias = mesh->aliases.v[i];
		int ret = flat_map_put_str(&mesh->alias_hosts, alias->host, alias);

		/* A second one of a name was refused where it was read. */
		if (ret && ret != -EEXIST)
			return ret;
	}
	for (uint32_t i = 0; i < mesh->aliases.n; i++) {
		struct flat_alias *alias = mesh->aliases.v[i];

		alias->service = alias_target(mesh, alias);
		if (alias->service)
			continue;
		mesh_resource(resource, "Service", alias->namespace, alias->name);
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &alias->where,
			       resource,
			       "declare it by a ServiceEntry, or use a service's whole host",
			       "externalName \"%.253s\" is the host of no service: the name "
			       "%.253s is left to DNS",
			       alias->target, alias->host);
	}
	return 0;
}

/* Endpoints of all ports: without a map that has room for them from the start it is made anew again and again. */
static size_t count_endpoints(const struct flat_mesh *mesh)
{
	size_t n = 0;
	uint32_t i, j;

	for (i = 0; i < mesh->services.n; i++) {
		const struct flat_service *service = mesh->services.v[i];

		for (j = 0; j < service->n_ports; j++)
			n += service->ports[j].n_endpoints;
	}
	return n;
}

int mesh_index_services(struct flat_mesh *mesh, struct flat_diags *diags)
{
	uint32_t i;
	int ret = flat_map_reserve(&mesh->hosts, mesh->services.n);

	if (!ret)
		ret = flat_map_reserve(&mesh->endpoints, count_endpoints(mesh));
	for (i = 0; i < mesh->services.n && !ret; i++) {
		struct flat_service *service = mesh->services.v[i];

		ret = index_host(mesh, service, diags);
		if (!ret)
			ret = index_addrs(mesh, service, diags);
		if (!ret)
			ret = index_endpoints(mesh, service);
	}
	return ret ? ret : index_aliases(mesh, diags);
}

/* The scope of a namespace, made if need be; NULL without memory. */
static struct mesh_scope *scope_make(struct flat_mesh *mesh, const char *namespace)
{
	struct mesh_scope *scope = flat_map_get_str(&mesh->scopes, namespace);

	if (scope)
		return scope;
	scope = flat_pool_alloc(&mesh->pool, sizeof(*scope));
	if (!scope || flat_map_put_str(&mesh->scopes, namespace, scope))
		return NULL;
	return scope;
}

/* First pass: how many policies each namespace has. */
static int count_policies(struct flat_mesh *mesh)
{
	struct mesh_scope *scope;
	uint32_t i;

	for (i = 0; i < mesh->authz.n; i++) {
		const struct flat_authz_policy *policy = mesh->authz.v[i];

		scope = scope_make(mesh, policy->namespace);
		if (!scope)
			return -ENOMEM;
		scope->want_authz++;
	}
	for (i = 0; i < mesh->authn.n; i++) {
		const struct flat_request_authn *policy = mesh->authn.v[i];

		scope = scope_make(mesh, policy->namespace);
		if (!scope)
			return -ENOMEM;
		scope->want_authn++;
	}
	for (i = 0; i < mesh->peer.n; i++) {
		const struct flat_peer_policy *policy = mesh->peer.v[i];

		scope = scope_make(mesh, policy->namespace);
		if (!scope)
			return -ENOMEM;
		scope->want_peer++;
	}
	for (i = 0; i < mesh->egress.n; i++) {
		const struct flat_egress_policy *policy = mesh->egress.v[i];

		if (!policy->namespace)
			continue;
		scope = scope_make(mesh, policy->namespace);
		if (!scope)
			return -ENOMEM;
		scope->want_egress++;
	}
	return 0;
}

static int fill_authz(struct flat_mesh *mesh)
{
	uint32_t i;

	for (i = 0; i < mesh->authz.n; i++) {
		const struct flat_authz_policy *policy = mesh->authz.v[i];
		struct mesh_scope *scope = flat_map_get_str(&mesh->scopes, policy->namespace);

		if (!scope->authz.v)
			scope->authz.v = flat_pool_array(&mesh->pool, scope->want_authz,
							 sizeof(*scope->authz.v));
		if (!scope->authz.v)
			return -ENOMEM;
		scope->authz.v[scope->authz.n++] = policy;
	}
	return 0;
}

static int fill_authn(struct flat_mesh *mesh, struct flat_diags *diags)
{
	uint32_t i;

	for (i = 0; i < mesh->authn.n; i++) {
		const struct flat_request_authn *policy = mesh->authn.v[i];
		struct mesh_scope *scope = flat_map_get_str(&mesh->scopes, policy->namespace);

		if (!scope->authn)
			scope->authn =
			    flat_pool_array(&mesh->pool, scope->want_authn, sizeof(*scope->authn));
		if (!scope->authn)
			return -ENOMEM;
		scope->authn[scope->n_authn++] = policy;
		scope->n_jwt_rules += policy->n_rules;
		if (scope->n_jwt_rules > FLAT_JWT_RULES_MAX &&
		    scope->n_jwt_rules - policy->n_rules <= FLAT_JWT_RULES_MAX)
			flat_diags_add(diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_LIMIT, &policy->where,
				       NULL, "join or remove some",
				       "more than %u jwtRules in namespace %s", FLAT_JWT_RULES_MAX,
				       policy->namespace);
	}
	return 0;
}

/* Two policies of the same scope without a selector: the first holds, as the oldest does in Istio.
 */
static void report_shadowed(struct flat_diags *diags, const struct flat_where *where,
			    const char *kind, const char *namespace, const char *name,
			    const char *winner)
{
	flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, where, NULL,
		       "remove one of them",
		       "%s %s/%s is not honoured: %s/%s comes first and is for the same workloads",
		       kind, namespace, name, namespace, winner);
}

static int fill_peer(struct flat_mesh *mesh, struct flat_diags *diags)
{
	uint32_t i, j;

	for (i = 0; i < mesh->peer.n; i++) {
		const struct flat_peer_policy *policy = mesh->peer.v[i];
		struct mesh_scope *scope = flat_map_get_str(&mesh->scopes, policy->namespace);

		if (!scope->peer)
			scope->peer =
			    flat_pool_array(&mesh->pool, scope->want_peer, sizeof(*scope->peer));
		if (!scope->peer)
			return -ENOMEM;
		for (j = 0; j < scope->n_peer && policy->selector.n == 0; j++) {
			if (scope->peer[j]->selector.n > 0)
				continue;
			report_shadowed(diags, &policy->where, "PeerAuthentication",
					policy->namespace, policy->name, scope->peer[j]->name);
			break;
		}
		if (policy->selector.n > 0 && strcmp(policy->namespace, mesh->root_namespace) == 0)
			flat_diags_add(
			    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &policy->where,
			    NULL, "move it to the workload's namespace, or remove the selector",
			    "PeerAuthentication %s/%s has a selector in the root "
			    "namespace, where it selects nothing (as in Istio)",
			    policy->namespace, policy->name);
		scope->peer[scope->n_peer++] = policy;
	}
	return 0;
}

static int fill_egress(struct flat_mesh *mesh, struct flat_diags *diags)
{
	uint32_t i, j;

	for (i = 0; i < mesh->egress.n; i++) {
		const struct flat_egress_policy *policy = mesh->egress.v[i];
		struct mesh_scope *scope;

		if (!policy->namespace) {
			mesh->mesh_egress = policy;
			continue;
		}
		scope = flat_map_get_str(&mesh->scopes, policy->namespace);
		if (!scope->egress)
			scope->egress = flat_pool_array(&mesh->pool, scope->want_egress,
							sizeof(*scope->egress));
		if (!scope->egress)
			return -ENOMEM;
		for (j = 0; j < scope->n_egress && policy->selector.n == 0; j++) {
			if (scope->egress[j]->selector.n > 0)
				continue;
			report_shadowed(diags, &policy->where, "Sidecar", policy->namespace,
					policy->name, scope->egress[j]->name);
			break;
		}
		scope->egress[scope->n_egress++] = policy;
	}
	return 0;
}

/* Workloads by name. Duplicates are found when they are read; here the first simply stays. */
static int index_workloads(struct flat_mesh *mesh)
{
	uint32_t i;
	int ret = 0;

	for (i = 0; i < mesh->workloads.n && !ret; i++) {
		struct flat_workload *workload = mesh->workloads.v[i];
		char *id =
		    flat_pool_printf(&mesh->pool, "%s/%s", workload->namespace, workload->name);

		if (!id)
			return -ENOMEM;
		ret = flat_map_put_str(&mesh->workload_ids, id, workload);
		if (ret == -EEXIST)
			ret = 0;
	}
	return ret;
}

int mesh_index_policies(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = index_workloads(mesh);

	if (!ret)
		ret = count_policies(mesh);
	if (!ret)
		ret = fill_authz(mesh);
	if (!ret)
		ret = fill_authn(mesh, diags);
	if (!ret)
		ret = fill_peer(mesh, diags);
	if (!ret)
		ret = fill_egress(mesh, diags);
	return ret;
}
