#include "mesh/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mesh/internal.h"
#include "mesh/l4_route.h"

uint32_t flat_mesh_n_gateways(const struct flat_mesh *mesh)
{
	return mesh->gateways.n;
}

const struct flat_gateway *flat_mesh_gateway(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->gateways.n ? mesh->gateways.v[i] : NULL;
}

const struct flat_secret *flat_mesh_secret(const struct flat_mesh *mesh, const char *namespace,
					   const char *name)
{
	for (uint32_t i = 0; i < mesh->secrets.n; i++) {
		const struct flat_secret *s = mesh->secrets.v[i];

		if (strcmp(s->name, name) == 0 && strcmp(s->namespace, namespace) == 0)
			return s;
	}
	return NULL;
}

/* --- hosts --- */

static bool ends_with(struct flat_span host, const char *tail, size_t len)
{
	return host.len > len && strncasecmp(host.text + host.len - len, tail, len) == 0;
}

static uint32_t fit(const char *pattern, struct flat_span host)
{
	size_t len = strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return 1;
	if (pattern[0] == '*')
		return ends_with(host, pattern + 1, len - 1) ? (uint32_t)len : 0;
	if (host.len > 0 && host.text[host.len - 1] == '.')
		host.len--;
	return host.len == len && strncasecmp(host.text, pattern, len) == 0 ? UINT32_MAX : 0;
}

uint32_t flat_gateway_server_fit(const struct flat_gateway_server *server, struct flat_span host)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < server->n_hosts; i++) {
		uint32_t f = fit(server->hosts[i].host, host);

		best = f > best ? f : best;
	}
	return best;
}

/* A VirtualService's namespace may use the server for this host. */
static bool shown(const struct flat_gateway_server *server, const struct flat_virtual_service *vs,
		  struct flat_span host)
{
	for (uint32_t i = 0; i < server->n_hosts; i++) {
		const struct flat_gateway_host *h = &server->hosts[i];

		if (fit(h->host, host) &&
		    (!h->namespace || strcmp(h->namespace, vs->namespace) == 0))
			return true;
	}
	return false;
}

/* One VirtualService a host. */
static const struct flat_virtual_service *itself(const void *value, const struct flat_scope *scope)
{
	(void)scope;
	return value;
}

const struct flat_virtual_service *flat_gateway_virtual(const struct flat_gateway *gateway,
							const struct flat_gateway_server *server,
							struct flat_span host)
{
	const struct flat_virtual_service *vs =
	    mesh_virtual_walk(&gateway->hosts, host, itself, NULL);

	return vs && shown(server, vs, host) ? vs : NULL;
}

const char *flat_gateway_host_common(const char *a, const char *b)
{
	if (fit(a, (struct flat_span){b, strlen(b)}))
		return b;
	return fit(b, (struct flat_span){a, strlen(a)}) ? a : NULL;
}

/* A VirtualService's namespace may use the server for one of its hosts. */
static bool shows_any(const struct flat_gateway_server *server,
		      const struct flat_virtual_service *vs)
{
	for (uint32_t i = 0; i < server->n_hosts; i++) {
		const struct flat_gateway_host *h = &server->hosts[i];

		for (uint32_t k = 0; k < vs->n_hosts; k++) {
			if (flat_gateway_host_common(h->host, vs->at_gateways[k]) &&
			    (!h->namespace || strcmp(h->namespace, vs->namespace) == 0))
				return true;
		}
	}
	return false;
}

/*
 * Whether gateways see a VirtualService that is bound to them: as in Istio it must be exported to the namespace of a workload that the
 * Gateway selects (of one that is not in the files, to the Gateway's).
 */
static bool seen_at(const struct flat_mesh *mesh, const struct flat_gateway *gateway,
		    const struct flat_virtual_service *vs)
{
	bool any = false;

	if (gateway->of_api || !vs->export.limited)
		return true;
	for (uint32_t i = 0; i < mesh->workloads.n; i++) {
		const struct flat_workload *w = mesh->workloads.v[i];

		if (!flat_labels_match(&gateway->selector, &w->labels))
			continue;
		if (mesh_exported(&vs->export, vs->namespace, w->namespace))
			return true;
		any = true;
	}
	return !any && mesh_exported(&vs->export, vs->namespace, gateway->namespace);
}

/* By the name that is asked for. */
static const struct flat_l4_route *route_by_name(const struct flat_mesh *mesh,
						 const struct flat_gateway *gateway,
						 const struct flat_gateway_server *server,
						 const struct flat_l4_question *question)
{
	const struct flat_l4_route *route = NULL;
	const struct flat_span name = flat_span_of(question->sni ? question->sni : "");

	for (uint32_t i = 0; !route && i < mesh->virtual.n; i++) {
		const struct flat_virtual_service *vs = mesh->virtual.v[i];

		if (flat_gateway_named(gateway, vs->gateways, vs->n_gateways) &&
		    shown(server, vs, name) && seen_at(mesh, gateway, vs))
			route = flat_l4_first(vs->tls, vs->n_tls, question);
	}
	return route;
}

const struct flat_l4_route *flat_gateway_l4(const struct flat_mesh *mesh,
					    const struct flat_gateway *gateway,
					    const struct flat_gateway_server *server,
					    const struct flat_l4_question *question)
{
	const struct flat_l4_route *route = NULL;

	if (server->tls == FLAT_GATEWAY_PASSTHROUGH)
		return route_by_name(mesh, gateway, server, question);
	if (gateway->of_api && server->tls != FLAT_GATEWAY_PLAIN)
		route = route_by_name(mesh, gateway, server, question);
	for (uint32_t i = 0; !route && i < mesh->virtual.n; i++) {
		const struct flat_virtual_service *vs = mesh->virtual.v[i];

		if (flat_gateway_named(gateway, vs->gateways, vs->n_gateways) &&
		    shows_any(server, vs) && seen_at(mesh, gateway, vs))
			route = flat_l4_first(vs->tcp, vs->n_tcp, question);
	}
	return route;
}

bool flat_gateway_named(const struct flat_gateway *gateway, const char *const *names, uint32_t n)
{
	size_t len = strlen(gateway->namespace);

	for (uint32_t i = 0; i < n; i++) {
		if (strncmp(names[i], gateway->namespace, len) == 0 && names[i][len] == '/' &&
		    strcmp(names[i] + len + 1, gateway->name) == 0)
			return true;
	}
	return false;
}

/* --- building --- */

static void tell_taken(const struct flat_virtual_service *vs, const char *host,
		       struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];

	mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
	flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &vs->where, resource,
		       "put the routes into one of them",
		       "host \"%.253s\" has a VirtualService at that gateway already: this one has "
		       "no effect on it",
		       host);
}

/* Whether it takes every request that comes by this gateway. */
static bool takes_all(const struct flat_http_match *m)
{
	const struct flat_text_match *uri = m->uri;
	bool any = !uri || (uri->kind == FLAT_TEXT_PREFIX && strcmp(uri->text, "/") == 0) ||
		   (uri->kind == FLAT_TEXT_REGEX && strcmp(uri->text, ".*") == 0);

	return any && !m->scheme && !m->method && !m->authority && !m->n_headers && !m->n_without &&
	       !m->n_query && !m->port && !m->source_labels.n && !m->source_namespace && !m->also &&
	       !m->for_gateways;
}

/*
 * Puts the routes of a VirtualService in the order in which those of several stand (Istio: SortVHostRoutes): what takes all requests
 * goes to `last`, the rest to `out`; what follows it in its VirtualService is reached by nobody.
 */
static void sort_in(const struct flat_virtual_service *vs, struct flat_http_route *out, uint32_t *n,
		    struct flat_http_route last[2], uint32_t *n_last)
{
	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *route = &vs->routes[i];
		uint32_t k = 0;

		while (k < route->n_matches && !takes_all(&route->matches[k]))
			k++;
		if (k > 0) {
			out[*n] = *route;
			out[(*n)++].n_matches = k;
		}
		if (k < route->n_matches || route->n_matches == 0) {
			last[*n_last] = *route;
			last[*n_last].matches += k;
			last[(*n_last)++].n_matches = route->n_matches ? 1 : 0;
			return;
		}
	}
}

/* The routes of both, where a host of one namespace has two: Istio splits large ones so at gateways. NULL: no memory. */
static struct flat_virtual_service *merge(struct flat_mesh *mesh,
					  const struct flat_virtual_service *first,
					  const struct flat_virtual_service *second)
{
	/* Each of the two may have one route that becomes two. */
	size_t room = (size_t)first->n_routes + second->n_routes + 2;
	struct flat_virtual_service *both = flat_pool_alloc(&mesh->pool, sizeof(*both));
	struct flat_http_route *out = flat_pool_array(&mesh->pool, room, sizeof(*out));
	struct flat_http_route last[2]; /* of each the one that takes all */
	uint32_t n = 0;
	uint32_t n_last = 0;

	if (!both || !out)
		return NULL;
	*both = *first;
	sort_in(first, out, &n, last, &n_last);
	sort_in(second, out, &n, last, &n_last);
	memcpy(out + n, last, n_last * sizeof(*last));
	both->routes = out;
	both->n_routes = n + n_last;
	return both;
}

static int bind_virtual(struct flat_mesh *mesh, struct flat_gateway *gateway,
			const struct flat_virtual_service *vs, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < vs->n_hosts; i++) {
		const char *host = vs->at_gateways[i];
		const struct flat_virtual_service *first = flat_map_get_str(&gateway->hosts, host);
		const struct flat_virtual_service *value = vs;
		int ret;

		if (first && (gateway->of_api || strcmp(first->namespace, vs->namespace) != 0)) {
			tell_taken(vs, host, diags);
			continue;
		}
		if (first)
			value = merge(mesh, first, vs);
		ret = !value  ? -ENOMEM
		      : first ? flat_map_replace_str(&gateway->hosts, host, (void *)value)
			      : flat_map_put_str(&gateway->hosts, host, (void *)value);
		if (ret)
			return ret;
	}
	return 0;
}

/* The Gateway of that name that sees it; *found: there is one at all. */
static bool is_seen(const struct flat_mesh *mesh, const struct flat_virtual_service *vs,
		    const char *name, bool *found)
{
	for (uint32_t k = 0; k < mesh->gateways.n; k++) {
		if (!flat_gateway_named(mesh->gateways.v[k], &name, 1))
			continue;
		*found = true;
		if (seen_at(mesh, mesh->gateways.v[k], vs))
			return true;
	}
	return false;
}

static void check_names(const struct flat_mesh *mesh, const struct flat_virtual_service *vs,
			struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];

	for (uint32_t i = 0; i < vs->n_gateways; i++) {
		bool found = false;

		if (is_seen(mesh, vs, vs->gateways[i], &found))
			continue;
		mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &vs->where, resource,
			       found ? "name the namespace of its workloads in exportTo"
				     : "declare it, or correct its name",
			       found
				   ? "it is not exported to Gateway \"%.300s\", and has no effect "
				     "there"
				   : "there is no Gateway \"%.300s\"",
			       vs->gateways[i]);
	}
}

static void check_short(const struct flat_mesh *mesh, const struct flat_virtual_service *vs,
			struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];

	for (uint32_t i = 0; vs->n_gateways > 0 && i < vs->n_hosts; i++) {
		const char *host = vs->at_gateways[i];

		if (host == vs->hosts[i] || flat_mesh_service_by_host(mesh, host, NULL))
			continue;
		mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
		flat_diags_add(
		    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &vs->where, resource,
		    "write the whole host that clients send",
		    "host \"%.253s\" means \"%.300s\" at gateways, and no service has it",
		    vs->hosts[i], host);
	}
}

/* A listener that asks for certificates which nobody vouches for is not opened. */
static int index_authorities(struct flat_mesh *mesh, const struct flat_gateway *gateway,
			     struct flat_gateway_server *s, struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];
	int ret;

	if (s->n_authorities == 0)
		return 0;
	mesh_resource(resource, "Gateway", gateway->namespace, gateway->name);
	ret = mesh_find_authorities(mesh, s->authorities, s->n_authorities, gateway->namespace,
				    resource, diags, &s->ca_text);
	s->served &= s->ca_text != NULL;
	return ret;
}

int mesh_index_gateways(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < mesh->gateways.n; i++) {
		const struct flat_gateway *gateway = mesh->gateways.v[i];

		for (uint32_t k = 0; !ret && k < gateway->n_servers; k++)
			ret = index_authorities(mesh, gateway,
						(struct flat_gateway_server *)&gateway->servers[k],
						diags);
	}
	for (uint32_t k = 0; !ret && k < mesh->virtual.n; k++) {
		const struct flat_virtual_service *vs = mesh->virtual.v[k];

		check_names(mesh, vs, diags);
		check_short(mesh, vs, diags);
		for (uint32_t i = 0; !ret && vs->n_routes > 0 && i < mesh->gateways.n; i++) {
			struct flat_gateway *gateway = mesh->gateways.v[i];

			if (flat_gateway_named(gateway, vs->gateways, vs->n_gateways) &&
			    seen_at(mesh, gateway, vs))
				ret = bind_virtual(mesh, gateway, vs, diags);
		}
	}
	return ret;
}
