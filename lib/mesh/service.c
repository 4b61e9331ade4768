#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* A DNS name has at most 253 characters (RFC 1035, 2.3.4, less the dots of the wire format). */
#define HOST_MAX ((size_t)256)

/* The first of a key that is seen. */
static const struct mesh_port_ref *first_seen(const struct flat_scope *scope,
					      const struct mesh_port_ref *ref,
					      const struct flat_service **hidden)
{
	struct flat_scope at = *scope;

	for (; ref; ref = ref->next) {
		if (scope->port && ref->port)
			at.port = ref->port->number;
		if (flat_scope_sees(&at, ref->service))
			return ref;
		if (hidden && !*hidden)
			*hidden = ref->service;
	}
	return NULL;
}

static const struct mesh_port_ref *find_addr(const struct flat_scope *scope,
					     const struct flat_ip *ip, uint16_t port,
					     const struct flat_service **hidden)
{
	const struct flat_mesh *mesh = scope->mesh;
	bool v4 = ip->family == AF_INET;
	const uint8_t *prefixes = v4 ? mesh->prefixes4 : mesh->prefixes6;
	uint8_t n = v4 ? mesh->n_prefixes4 : mesh->n_prefixes6, i;

	if (!ip->family)
		return NULL;
	for (i = 0; i < n; i++) {
		struct flat_ip masked = flat_ip_mask(ip, prefixes[i]);
		struct mesh_addr_key key = mesh_addr_key(&masked, prefixes[i], port);
		const struct mesh_port_ref *ref =
		    first_seen(scope, flat_map_get(&mesh->addrs, &key, sizeof(key)), hidden);

		if (ref)
			return ref;
	}
	return NULL;
}

const struct flat_service *flat_scope_by_addr(const struct flat_scope *scope,
					      const struct flat_ip *ip,
					      const struct flat_service_port **port_out,
					      const struct flat_service **hidden)
{
	const struct mesh_port_ref *ref = NULL;

	*hidden = NULL;
	*port_out = NULL;
	if (scope->port == 0 || !ip->family)
		return NULL;
	ref = find_addr(scope, ip, scope->port, hidden);
	if (!ref && !flat_scope_owning(scope, ip)) {
		static const struct flat_ip anywhere;
		struct mesh_addr_key key = mesh_addr_key(&anywhere, 0, scope->port);

		ref =
		    first_seen(scope, flat_map_get(&scope->mesh->addrs, &key, sizeof(key)), hidden);
	}
	if (!ref)
		return NULL;
	*hidden = NULL;
	*port_out = ref->port;
	return ref->service;
}

const struct flat_service *flat_scope_owning(const struct flat_scope *scope,
					     const struct flat_ip *ip)
{
	struct flat_scope any = *scope;
	const struct mesh_port_ref *ref;

	any.port = 0;
	ref = find_addr(&any, ip, 0, NULL);
	return ref ? ref->service : NULL;
}

const struct flat_service *flat_mesh_service_by_addr(const struct flat_mesh *mesh,
						     const struct flat_ip *ip, uint16_t port,
						     const struct flat_service_port **port_out)
{
	const struct flat_scope all = {.mesh = mesh, .port = port, .unbounded = true};
	const struct flat_service_port *found;
	const struct flat_service *hidden;
	const struct flat_service *service = flat_scope_by_addr(&all, ip, &found, &hidden);

	if (port_out)
		*port_out = found;
	return service;
}

const struct flat_service *flat_mesh_service_owning(const struct flat_mesh *mesh,
						    const struct flat_ip *ip)
{
	const struct flat_scope all = {.mesh = mesh, .unbounded = true};

	return flat_scope_owning(&all, ip);
}

bool flat_scope_hides_endpoint(const struct flat_scope *scope, const struct flat_ip *ip,
			       const struct flat_service **hidden)
{
	struct mesh_addr_key key = mesh_addr_key(ip, 0, scope->port);
	const struct mesh_port_ref *ref = flat_map_get(&scope->mesh->endpoints, &key, sizeof(key));

	*hidden = NULL;
	return scope->mesh->scoped && ref && !first_seen(scope, ref, hidden);
}

const struct flat_service *flat_mesh_service_by_endpoint(const struct flat_mesh *mesh,
							 const struct flat_ip *ip, uint16_t port,
							 const struct flat_service_port **port_out)
{
	struct mesh_addr_key key = mesh_addr_key(ip, 0, port);
	const struct mesh_port_ref *ref = flat_map_get(&mesh->endpoints, &key, sizeof(key));

	if (port_out)
		*port_out = ref ? ref->port : NULL;
	return ref ? ref->service : NULL;
}

static const struct flat_service *by_alias(const struct flat_mesh *mesh, const char *host)
{
	const struct flat_alias *alias =
	    mesh->aliases.n > 0 ? flat_map_get_str(&mesh->alias_hosts, host) : NULL;

	return alias ? alias->service : NULL;
}

/* The Kubernetes short forms of a host of `dots` dots. */
static const struct flat_service *by_short_name(const struct flat_mesh *mesh, const char *host,
						const char *namespace)
{
	const char *dot = strchr(host, '.');
	const char *rest = dot ? strchr(dot + 1, '.') : NULL;
	char full[HOST_MAX * 2 + sizeof(FLAT_CLUSTER_DOMAIN)];
	const struct flat_service *service;

	if (!dot)
		(void)snprintf(full, sizeof(full), "%s.%s.%s", host,
			       namespace ? namespace : FLAT_NAMESPACE_DEFAULT, FLAT_CLUSTER_DOMAIN);
	else if (!rest)
		(void)snprintf(full, sizeof(full), "%s.%s", host, FLAT_CLUSTER_DOMAIN);
	else if (strcmp(rest, ".svc") == 0)
		(void)snprintf(full, sizeof(full), "%s.%s", host, "cluster.local");
	else
		return NULL;
	service = flat_map_get_str(&mesh->hosts, full);
	return service && service->kind == FLAT_SERVICE_KUBERNETES ? service : by_alias(mesh, full);
}

/* A service that was found, if it is seen. */
static const struct flat_service *seen(const struct flat_scope *scope,
				       const struct flat_service *service,
				       const struct flat_service **hidden)
{
	if (!service || flat_scope_sees(scope, service))
		return service;
	if (!*hidden)
		*hidden = service;
	return NULL;
}

const struct flat_service *flat_scope_by_host(const struct flat_scope *scope, const char *host,
					      const struct flat_service **hidden)
{
	const struct flat_mesh *mesh = scope->mesh;
	const char *namespace = scope->namespace;
	const struct flat_service *service;
	char name[HOST_MAX + 1], *dot;
	size_t len = strlen(host), i;

	*hidden = NULL;
	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= HOST_MAX || host[0] == '*')
		return NULL;
	if (namespace && strlen(namespace) >= HOST_MAX)
		return NULL;
	for (i = 0; i < len; i++)
		name[i] = (char)tolower((unsigned char)host[i]);
	name[len] = '\0';
	service = flat_map_get_str(&mesh->hosts, name);
	if (!service)
		service = by_alias(mesh, name);
	if (!service)
		service = by_short_name(mesh, name, namespace);
	service = seen(scope, service, hidden);
	if (service || mesh->n_wildcards == 0)
		return service;
	/* "a.b.c": look for "*.b.c", then "*.c"; the star goes where the character before the dot
	 * is. */
	for (dot = strchr(name, '.'); dot && dot > name; dot = strchr(dot + 1, '.')) {
		char before = dot[-1];

		dot[-1] = '*';
		service = seen(scope, flat_map_get_str(&mesh->hosts, dot - 1), hidden);
		dot[-1] = before;
		if (service)
			return service;
	}
	return NULL;
}

const struct flat_service *flat_mesh_service_by_host(const struct flat_mesh *mesh, const char *host,
						     const char *namespace)
{
	const struct flat_scope all = {.mesh = mesh, .namespace = namespace, .unbounded = true};
	const struct flat_service *hidden;

	return flat_scope_by_host(&all, host, &hidden);
}

const struct flat_service *flat_mesh_service_named(const struct flat_mesh *mesh, const char *host)
{
	return flat_map_get_str(&mesh->hosts, host);
}

bool flat_mesh_names_at(const struct flat_mesh *mesh, uint16_t port)
{
	static const struct flat_ip nowhere;
	struct mesh_addr_key key = mesh_addr_key(&nowhere, 0, port);

	return mesh->names_at.n > 0 && flat_map_get(&mesh->names_at, &key, sizeof(key));
}

const struct flat_service *flat_mesh_service_by_sni(const struct flat_mesh *mesh, const char *sni,
						    uint16_t port,
						    const struct flat_service_port **port_out)
{
	const struct flat_service *service = flat_mesh_service_by_host(mesh, sni, NULL);
	const struct flat_service_port *p = service ? flat_service_port(service, port) : NULL;

	if (!p || !service->any_address || !flat_protocol_is_tls(p->protocol))
		return NULL;
	*port_out = p;
	return service;
}

const struct flat_service_port *flat_service_port(const struct flat_service *service,
						  uint16_t number)
{
	uint32_t i;

	for (i = 0; i < service->n_ports; i++)
		if (service->ports[i].number == number)
			return &service->ports[i];
	return NULL;
}

int flat_service_resolve(const struct flat_service *service, struct flat_ip *ip)
{
	const struct flat_cidr *cidr;

	if (service->n_addresses == 0)
		return -ENOENT;
	cidr = &service->addresses[0];
	*ip = cidr->ip;
	/* The first address of a block names the network itself, except in blocks of one and two.
	 */
	if (cidr->ip.family == AF_INET && cidr->prefix < 31)
		ip->bytes[3] |= 1;
	else if (cidr->ip.family == AF_INET6 && cidr->prefix < 127)
		ip->bytes[15] |= 1;
	return 0;
}

bool flat_service_selects(const struct flat_service *service, const struct flat_workload *workload,
			  uint16_t target_port, const struct flat_service_port **port_out)
{
	uint32_t i;

	if (port_out)
		*port_out = NULL;
	if (!service->has_selector || strcmp(service->namespace, workload->namespace) != 0 ||
	    !flat_labels_match(&service->selector, &workload->labels))
		return false;
	for (i = 0; i < service->n_ports; i++) {
		if (service->ports[i].target_port != target_port)
			continue;
		if (port_out)
			*port_out = &service->ports[i];
		return true;
	}
	return false;
}

bool flat_mesh_says_opaque(const struct flat_mesh *mesh, const struct flat_workload *workload,
			   uint16_t target_port, uint32_t *n)
{
	const struct flat_service_port *port;

	for (uint32_t i = 0; i < mesh->services.n; i++) {
		if (!flat_service_selects(mesh->services.v[i], workload, target_port, &port))
			continue;
		if (!port->declared || flat_protocol_is_http(port->protocol))
			return false;
		(*n)++;
	}
	return true;
}

const char *flat_protocol_name(enum flat_protocol protocol)
{
	static const char *const names[] = {
	    [FLAT_PROTOCOL_TCP] = "TCP",	   [FLAT_PROTOCOL_HTTP] = "HTTP",
	    [FLAT_PROTOCOL_HTTP2] = "HTTP2",	   [FLAT_PROTOCOL_GRPC] = "GRPC",
	    [FLAT_PROTOCOL_GRPC_WEB] = "GRPC-WEB", [FLAT_PROTOCOL_HTTPS] = "HTTPS",
	    [FLAT_PROTOCOL_TLS] = "TLS",	   [FLAT_PROTOCOL_MONGO] = "MONGO",
	    [FLAT_PROTOCOL_MYSQL] = "MYSQL",	   [FLAT_PROTOCOL_REDIS] = "REDIS",
	};

	return names[protocol];
}

const char *flat_resolution_name(enum flat_resolution resolution)
{
	static const char *const names[] = {
	    [FLAT_RESOLUTION_STATIC] = "STATIC",
	    [FLAT_RESOLUTION_NONE] = "NONE",
	    [FLAT_RESOLUTION_DNS] = "DNS",
	};

	return names[resolution];
}

const char *flat_path_name(enum flat_path path)
{
	static const char *const names[] = {
	    [FLAT_PATH_AUTO] = "auto",
	    [FLAT_PATH_DIRECT] = "direct",
	    [FLAT_PATH_FORWARDED] = "forwarded",
	};

	return names[path];
}
