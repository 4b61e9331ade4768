#include "mesh/route.h"

#include <errno.h>
#include <stdio.h>

#include "codec/grpc.h"
#include "mesh/gateway.h"
#include "mesh/internal.h"
#include "mesh/l4_route.h"

/* --- asking --- */

struct flat_span flat_route_query(struct flat_span query, const char *name)
{
	size_t want = strlen(name);
	size_t i = 0;

	while (query.text && i < query.len) {
		const char *begin = query.text + i;
		const char *end = memchr(begin, '&', query.len - i);
		size_t len = end ? (size_t)(end - begin) : query.len - i;
		const char *equals = memchr(begin, '=', len);
		size_t name_len = equals ? (size_t)(equals - begin) : len;

		if (name_len == want && memcmp(begin, name, want) == 0)
			return (struct flat_span){begin + name_len + (equals != NULL),
						  len - name_len - (equals != NULL)};
		i += len + 1;
	}
	return (struct flat_span){NULL, 0};
}

/* What HTTP/2 has among the fields. `room` is for a path with its query; one that is too long is there for nobody. */
static struct flat_span pseudo_get(const struct flat_route_question *question, const char *name,
				   char *room, size_t size)
{
	const struct flat_http_request *r = question->request;

	if (strcmp(name, ":method") == 0)
		return r->method;
	if (strcmp(name, ":authority") == 0)
		return r->authority;
	if (strcmp(name, ":scheme") == 0)
		return flat_span_of(question->tls ? "https" : "http");
	return strcmp(name, ":path") == 0 ? flat_http_target(r, room, size)
					  : (struct flat_span){NULL, 0};
}

/*
 * Where a name stands several times one of its values is enough, as in today's Envoy: a second one hides no first. `absent`: one that
 * is not there is empty, as in withoutHeaders.
 */
static bool header_holds(const struct flat_named_match *named,
			 const struct flat_route_question *question, bool absent)
{
	const struct flat_http_request *request = question->request;
	struct flat_span name = flat_span_of(named->name);
	char room[8192];
	struct flat_span value = name.text[0] == ':'
				     ? pseudo_get(question, name.text, room, sizeof(room))
				     : flat_http_field_get(request, name, 0);

	if (!value.text && absent && named->match.kind != FLAT_TEXT_PRESENT)
		return flat_text_matches(&named->match, flat_span_of(""));
	for (uint32_t n = 1; value.text; n++) {
		if (flat_text_matches(&named->match, value))
			return true;
		value = flat_http_field_get(request, name, n);
	}
	return false;
}

/* A claim is a text, or a list of them: one is enough, as in Istio. */
static bool claim_holds(const struct flat_named_match *named, const struct flat_json_node *claims)
{
	for (uint32_t i = 0; i < named->n_claim && claims; i++)
		claims = flat_json_member(claims, named->claim[i]);
	if (!claims)
		return false;
	if (claims->kind != FLAT_JSON_LIST)
		return claims->kind == FLAT_JSON_TEXT &&
		       flat_text_matches(&named->match,
					 (struct flat_span){claims->text, claims->len});
	for (claims = claims->first; claims; claims = claims->next) {
		if (claims->kind == FLAT_JSON_TEXT &&
		    flat_text_matches(&named->match, (struct flat_span){claims->text, claims->len}))
			return true;
	}
	return false;
}

static bool text_holds(const struct flat_text_match *match, struct flat_span value)
{
	return !match || flat_text_matches(match, value);
}

bool mesh_source_holds(const char *namespace, const struct flat_labels *labels,
		       const struct flat_workload *source)
{
	if (namespace && (!source || strcmp(source->namespace, namespace) != 0))
		return false;
	return labels->n == 0 || (source && flat_labels_match(labels, &source->labels));
}

/* A match that names no gateways holds wherever its VirtualService does. */
static bool bound(const struct flat_http_match *match, const struct flat_gateway *gateway)
{
	if (!gateway)
		return !match->never;
	return !match->for_gateways ||
	       flat_gateway_named(gateway, match->gateways, match->n_gateways);
}

/* All but where the request comes from. */
static bool asked_for(const struct flat_http_match *match,
		      const struct flat_route_question *question)
{
	const struct flat_http_request *r = question->request;

	if (!bound(match, question->gateway) || (match->port && match->port != question->port) ||
	    !text_holds(match->uri, r->path) || !text_holds(match->method, r->method) ||
	    !text_holds(match->scheme, flat_span_of(question->tls ? "https" : "http")) ||
	    !text_holds(match->authority, r->authority))
		return false;
	for (uint32_t i = 0; i < match->n_headers; i++) {
		const struct flat_named_match *h = &match->headers[i];

		if (!(h->n_claim ? claim_holds(h, question->claims)
				 : header_holds(h, question, false)))
			return false;
	}
	for (uint32_t i = 0; i < match->n_without; i++) {
		const struct flat_named_match *h = &match->without[i];

		if (h->n_claim ? claim_holds(h, question->claims) : header_holds(h, question, true))
			return false;
	}
	for (uint32_t i = 0; i < match->n_query; i++) {
		if (!flat_text_matches(&match->query[i].match,
				       flat_route_query(r->query, match->query[i].name)))
			return false;
	}
	return true;
}

/* As in Istio: where gateways are named ("mesh" is one), they alone say whose requests these are. */
bool flat_route_match(const struct flat_http_match *match,
		      const struct flat_route_question *question)
{
	const struct flat_http_match *m;
	bool named = false;

	for (m = match; m; m = m->also)
		named |= m->for_gateways;
	for (m = match; m; m = m->also) {
		if (!asked_for(m, question) ||
		    (!named &&
		     !mesh_source_holds(m->source_namespace, &m->source_labels, question->source)))
			return false;
	}
	return true;
}

const struct flat_http_route *flat_route_find(const struct flat_virtual_service *vs,
					      const struct flat_route_question *question,
					      const struct flat_http_match **match)
{
	*match = NULL;
	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *route = &vs->routes[i];

		if (route->n_matches == 0)
			return route;
		for (uint32_t k = 0; k < route->n_matches; k++) {
			if (flat_route_match(&route->matches[k], question)) {
				*match = &route->matches[k];
				return route;
			}
		}
	}
	return NULL;
}

static bool is_for_port(const struct flat_virtual_service *vs, uint16_t port)
{
	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *route = &vs->routes[i];

		for (uint32_t k = 0; k < route->n_matches; k++) {
			if (route->matches[k].port == 0 || route->matches[k].port == port)
				return true;
		}
	}
	return false;
}

/* How closely a VirtualService is meant for a client; 0: not at all. */
static int closeness(const struct mesh_virtual *v, const struct flat_scope *scope)
{
	const struct flat_virtual_service *vs = v->vs;

	if (vs->of_ports && scope->port && !is_for_port(vs, scope->port))
		return 0;
	if (!mesh_exported(&vs->export, vs->namespace, scope->namespace) ||
	    !mesh_route_imported(scope, vs, v->host))
		return 0;
	if (!vs->export.limited)
		return 1;
	return strcmp(vs->namespace, scope->namespace) == 0 ? 3 : 2;
}

const struct flat_virtual_service *mesh_virtual_closest(const void *value,
							const struct flat_scope *scope)
{
	const struct flat_virtual_service *best = NULL;
	int how = 0;

	for (const struct mesh_virtual *v = value; v; v = v->next) {
		int here = closeness(v, scope);

		if (here > how) {
			best = v->vs;
			how = here;
		}
	}
	return best;
}

const struct flat_virtual_service *mesh_virtual_walk(const struct flat_map *hosts,
						     struct flat_span host, mesh_virtual_fn *of,
						     const struct flat_scope *scope)
{
	const struct flat_virtual_service *vs;
	char key[FLAT_HTTP_HOST_MAX + 2] = "";
	size_t len = 0;

	if (host.len > FLAT_HTTP_HOST_MAX)
		return NULL;
	for (; len < host.len; len++) {
		char c = host.text[len];
		key[len + 1] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	if (len > 0 && key[len] == '.')
		len--;
	vs = of(flat_map_get(hosts, key + 1, len), scope);
	/* "a.b.c": "*.b.c", "*.c", "*". The star takes the place of what is before the dot. */
	for (size_t i = 1; !vs && i <= len; i++) {
		if (key[i] != '.')
			continue;
		key[i - 1] = '*';
		vs = of(flat_map_get(hosts, key + i - 1, len + 2 - i), scope);
	}
	return vs ? vs : of(flat_map_get(hosts, "*", 1), scope);
}

const struct flat_virtual_service *flat_mesh_virtual_by_host(const struct flat_scope *scope,
							     struct flat_span host,
							     const struct flat_service *service)
{
	const struct flat_mesh *mesh = scope->mesh;
	const struct flat_virtual_service *vs;

	if (mesh->virtual.n == 0)
		return NULL;
	/* A name below a wildcard service may have one of its own, before the wildcard's. */
	if (service && service->host[0] != '*') {
		vs = mesh_virtual_closest(flat_map_get_str(&mesh->virtual_hosts, service->host),
					  scope);
		if (vs)
			return vs;
		host = flat_span_of(service->host);
	}
	return mesh_virtual_walk(&mesh->virtual_hosts, host, mesh_virtual_closest, scope);
}

uint32_t flat_mesh_n_virtual(const struct flat_mesh *mesh)
{
	return mesh->virtual.n;
}

const struct flat_virtual_service *flat_mesh_virtual(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->virtual.n ? mesh->virtual.v[i] : NULL;
}

uint32_t flat_mesh_n_rules(const struct flat_mesh *mesh)
{
	return mesh->rules.n;
}

const struct flat_destination_rule *flat_mesh_rule(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->rules.n ? mesh->rules.v[i] : NULL;
}

uint32_t flat_mesh_n_routes(const struct flat_mesh *mesh)
{
	return mesh->n_routes;
}

uint32_t flat_mesh_n_destinations(const struct flat_mesh *mesh)
{
	return mesh->n_destinations;
}

const struct flat_service_port *flat_route_port(const struct flat_service *service, uint16_t wanted,
						uint16_t asked)
{
	const struct flat_service_port *p = flat_service_port(service, wanted ? wanted : asked);

	/* Without a number in the route: a service of one port has no other. */
	return p || wanted || service->n_ports != 1 ? p : &service->ports[0];
}

enum flat_variable flat_header_variable(const char *name, size_t len)
{
	static const struct {
		const char *name;
		enum flat_variable variable;
	} names[] = {
	    {"DOWNSTREAM_REMOTE_ADDRESS", FLAT_VARIABLE_CLIENT},
	    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", FLAT_VARIABLE_CLIENT},
	    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FLAT_VARIABLE_CLIENT_IP},
	    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", FLAT_VARIABLE_CLIENT_IP},
	    {"DOWNSTREAM_LOCAL_ADDRESS", FLAT_VARIABLE_LOCAL},
	    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FLAT_VARIABLE_LOCAL_IP},
	    {"UPSTREAM_REMOTE_ADDRESS", FLAT_VARIABLE_SERVER},
	    {"UPSTREAM_HOST", FLAT_VARIABLE_SERVER},
	    {"PROTOCOL", FLAT_VARIABLE_PROTOCOL},
	    {"RESPONSE_CODE", FLAT_VARIABLE_STATUS},
	    {"ROUTE_NAME", FLAT_VARIABLE_ROUTE},
	};

	if (len > 5 && memcmp(name, "REQ(", 4) == 0 && name[len - 1] == ')')
		return FLAT_VARIABLE_REQ;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(names); i++) {
		if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
			return names[i].variable;
	}
	return FLAT_VARIABLE_NONE;
}

/* --- building --- */

/* One that a rule has which others than the VirtualService's namespace see, or some clients' workloads alone. */
static const struct flat_subset *some_subset(const struct flat_mesh *mesh,
					     const struct flat_service *service, const char *name)
{
	const struct flat_subset *subset = NULL;

	for (uint32_t i = 0; !subset && i < mesh->rules.n; i++) {
		const struct flat_destination_rule *r = mesh->rules.v[i];

		if (r->service == service)
			subset = flat_rule_subset(r, name);
	}
	return subset;
}

static void settle_destination(struct flat_mesh *mesh, const struct flat_virtual_service *vs,
			       struct flat_route_destination *d, struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];
	const struct flat_destination_rule *rule;

	mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
	if (d->settled)
		return;
	d->settled = true;
	d->index = mesh->n_destinations++;
	d->service =
	    flat_mesh_service_by_host(mesh, d->host, d->namespace ? d->namespace : vs->namespace);
	if (!d->service) {
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &d->where, resource,
			       "declare it with a ServiceEntry or Service",
			       "no service has the host \"%.253s\": its requests are answered %d",
			       d->host, d->fails ? 500 : 503);
		return;
	}
	if (d->port && !flat_service_port(d->service, d->port))
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &d->where, resource,
			       "use one of its ports",
			       "service %s has no port %u: its requests are answered %d",
			       d->service->host, d->port, d->fails ? 500 : 503);
	if (!d->subset_name)
		return;
	rule = flat_mesh_rule_for(mesh, d->service, vs->namespace);
	d->subset = flat_rule_subset(rule, d->subset_name);
	if (!d->subset)
		d->subset = some_subset(mesh, d->service, d->subset_name);
	if (!d->subset)
		flat_diags_add(
		    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &d->where, resource,
		    "declare it in a DestinationRule of that host",
		    "host \"%.253s\" has no subset \"%.100s\": its requests are answered 503",
		    d->host, d->subset_name);
}

static void settle_l4(struct flat_mesh *mesh, const struct flat_virtual_service *vs,
		      const struct flat_l4_route *v, uint32_t n, struct flat_diags *diags)
{
	for (uint32_t r = 0; r < n; r++) {
		for (uint32_t d = 0; d < v[r].n_destinations; d++)
			settle_destination(mesh, vs, &v[r].destinations[d], diags);
	}
}

static int add_host(struct flat_mesh *mesh, struct flat_map *map, struct flat_virtual_service *vs,
		    const char *key, const char *written, struct flat_diags *diags)
{
	struct mesh_virtual *node = flat_pool_alloc(&mesh->pool, sizeof(*node));
	struct mesh_virtual *v = flat_map_get_str(map, key);
	char resource[MESH_RESOURCE_MAX];

	if (!node)
		return -ENOMEM;
	node->vs = vs;
	node->host = key;
	node->next = NULL;
	if (!v)
		return flat_map_put_str(map, key, node);
	for (;; v = v->next) {
		if (!v->vs->export.limited && !vs->export.limited) {
			mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
			flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				       &vs->where, resource, "put the routes into one of them",
				       "host \"%.253s\" has a VirtualService already: this one has "
				       "no effect on it",
				       written);
			return 0;
		}
		if (!v->next)
			break;
	}
	v->next = node;
	return 0;
}

/* The wildcard service that has a name, or all names below one, of a VirtualService: what goes there has to be looked at. */
static void note_below(struct flat_mesh *mesh, const char *host,
		       const struct flat_virtual_service *vs)
{
	const struct flat_service *service;
	struct flat_service *of;
	char below[256];

	/* Any name will do that such a wildcard holds. */
	if (snprintf(below, sizeof(below), "%s%s", host[0] == '*' ? "x" : "",
		     host + (host[0] == '*')) >= (int)sizeof(below))
		return;
	service = flat_mesh_service_by_host(mesh, below, vs->namespace);
	if (!service || service->host[0] != '*')
		return;
	of = (struct flat_service *)mesh->services.v[service->index];
	of->routes_below |= vs->n_routes > 0;
	of->tls_below |= vs->n_tls > 0;
}

/* Istio looks at the bytes of a port that says no protocol; here it is TCP, and requests to it have no routes. */
static void check_protocol(const struct flat_virtual_service *vs,
			   const struct flat_service *service, struct flat_diags *diags)
{
	char resource[MESH_RESOURCE_MAX];

	if (vs->n_routes == 0 || vs->detached || !service || service->n_ports == 0)
		return;
	for (uint32_t i = 0; i < service->n_ports; i++) {
		if (flat_protocol_is_http(service->ports[i].protocol) ||
		    !service->ports[i].declared)
			return;
	}
	mesh_resource(resource, "VirtualService", vs->namespace, vs->name);
	flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &vs->where, resource,
		       "name its port http, or say the protocol (appProtocol of a Service)",
		       "no port of %.253s is HTTP: http routes of it hold for nobody in the mesh",
		       service->host);
}

static int index_hosts(struct flat_mesh *mesh, struct flat_virtual_service *vs,
		       struct flat_diags *diags)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < vs->n_hosts; i++) {
		const struct flat_service *service = NULL;
		const char *key = vs->hosts[i];

		if (key[0] != '*')
			service = flat_mesh_service_by_host(mesh, key, vs->namespace);
		/* A wildcard service of that name is another host. */
		if (service && service->host[0] != '*')
			key = service->host;
		if (!service || service->host[0] == '*')
			note_below(mesh, key, vs);
		check_protocol(vs, service, diags);
		if (vs->n_routes > 0)
			ret = add_host(mesh, &mesh->virtual_hosts, vs, key, vs->hosts[i], diags);
		if (ret == 0 && (vs->n_tcp > 0 || vs->n_tls > 0))
			ret = add_host(mesh, &mesh->l4_hosts, vs, key, vs->hosts[i], diags);
	}
	return ret;
}

/* Routes of others are copied before anything of them is settled. */
static int delegate_all(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < mesh->virtual.n; i++) {
		struct flat_virtual_service *vs = mesh->virtual.v[i];
		bool any = false;

		for (uint32_t r = 0; vs->n_hosts > 0 && r < vs->n_routes; r++)
			any |= vs->routes[r].delegate != NULL;
		if (any)
			ret = mesh_delegate(mesh, vs, diags);
	}
	return ret;
}

int mesh_index_routes(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = mesh_index_rules(mesh, diags);

	if (!ret)
		ret = delegate_all(mesh, diags);

	for (uint32_t i = 0; !ret && i < mesh->virtual.n; i++) {
		struct flat_virtual_service *vs = mesh->virtual.v[i];

		for (uint32_t r = 0; vs->n_hosts > 0 && r < vs->n_routes; r++) {
			struct flat_http_route *route = &vs->routes[r];

			route->index = mesh->n_routes++;
			for (uint32_t d = 0; d < route->n_destinations; d++)
				settle_destination(mesh, vs, &route->destinations[d], diags);
			for (uint32_t m = 0; m < route->n_mirrors; m++)
				settle_destination(mesh, vs, &route->mirrors[m].to, diags);
		}
		settle_l4(mesh, vs, vs->tls, vs->n_tls, diags);
		settle_l4(mesh, vs, vs->tcp, vs->n_tcp, diags);
		if (!vs->detached)
			ret = index_hosts(mesh, vs, diags);
	}
	return ret;
}

unsigned flat_retry_of_grpc(int status)
{
	switch (status) {
	case FLAT_GRPC_CANCELLED:
		return FLAT_RETRY_CANCELLED;
	case FLAT_GRPC_DEADLINE_EXCEEDED:
		return FLAT_RETRY_DEADLINE_EXCEEDED;
	case FLAT_GRPC_INTERNAL:
		return FLAT_RETRY_INTERNAL;
	case FLAT_GRPC_RESOURCE_EXHAUSTED:
		return FLAT_RETRY_RESOURCE_EXHAUSTED;
	case FLAT_GRPC_UNAVAILABLE:
		return FLAT_RETRY_UNAVAILABLE;
	default:
		return 0;
	}
}
