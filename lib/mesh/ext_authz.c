#include "mesh/ext_authz.h"

#include "mesh/internal.h"

const struct flat_ext_authz *flat_mesh_ext_authz(const struct flat_mesh *mesh, const char *name)
{
	for (uint32_t i = 0; name && i < mesh->ext_authz.n; i++) {
		const struct flat_ext_authz *p = mesh->ext_authz.v[i];

		if (strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

const struct flat_ext_authz *flat_mesh_ext_authz_at(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->ext_authz.n ? mesh->ext_authz.v[i] : NULL;
}

bool flat_mesh_has_custom(const struct flat_mesh *mesh)
{
	return mesh->n_asked > 0;
}

const struct flat_ext_authz *flat_mesh_ext_authz_in_order(const struct flat_mesh *mesh,
							  uint32_t order)
{
	return order < mesh->n_asked ? flat_mesh_ext_authz(mesh, mesh->asked[order]) : NULL;
}

static bool has_name(const char *pattern, struct flat_span name)
{
	struct flat_span want = flat_span_of(pattern);

	if (want.len > 0 && want.text[0] == '*') {
		want.text++;
		want.len--;
		if (want.len > name.len)
			return false;
		name.text += name.len - want.len;
		name.len = want.len;
	} else if (want.len > 0 && want.text[want.len - 1] == '*') {
		want.len--;
		if (want.len > name.len)
			return false;
		name.len = want.len;
	}
	return flat_span_equal(want, name, true);
}

bool flat_name_list_has(const struct flat_name_list *list, struct flat_span name)
{
	for (uint32_t i = 0; i < list->n; i++) {
		if (has_name(list->v[i], name))
			return true;
	}
	return false;
}

static const char *provider_name(const struct flat_authz_policy *policy)
{
	return policy->provider ? policy->provider : "";
}

/* The place of a name among those that are asked, or where it would be. */
static uint32_t place_of(const struct flat_mesh *mesh, const char *name)
{
	uint32_t at = 0;

	while (at < mesh->n_asked && strcmp(mesh->asked[at], name) < 0)
		at++;
	return at;
}

static bool is_asked(const struct flat_mesh *mesh, uint32_t at, const char *name)
{
	return at < mesh->n_asked && strcmp(mesh->asked[at], name) == 0;
}

/* As Istio, providers are asked in the order of their names. */
static void order_asked(struct flat_mesh *mesh)
{
	for (uint32_t i = 0; i < mesh->authz.n; i++) {
		const struct flat_authz_policy *policy = mesh->authz.v[i];
		const char *name = provider_name(policy);
		uint32_t at = place_of(mesh, name);

		if (policy->action != FLAT_AUTHZ_CUSTOM || is_asked(mesh, at, name) ||
		    mesh->n_asked == FLAT_EXT_AUTHZ_MAX)
			continue;
		memmove(&mesh->asked[at + 1], &mesh->asked[at],
			(mesh->n_asked - at) * sizeof(mesh->asked[0]));
		mesh->asked[at] = name;
		mesh->n_asked++;
	}
}

/* --- what an authorizer over HTTP is not asked about --- */

/* Whether what the clause says of the server's port, if anything, holds. */
static bool holds_at(const struct flat_clause *clause, uint16_t port)
{
	for (uint32_t i = 0; i < clause->n; i++) {
		const struct flat_condition *c = &clause->v[i];
		bool one = c->n_values == 0;

		if (c->attribute != FLAT_ATTR_DESTINATION_PORT)
			continue;
		for (uint32_t k = 0; k < c->n_values; k++)
			one |= c->values[k].port == port;
		for (uint32_t k = 0; k < c->n_not_values; k++)
			one &= c->not_values[k].port != port;
		if (!one)
			return false;
	}
	return true;
}

/* Whether one of its rules may match at the port. */
static bool speaks_of(const struct flat_authz_policy *policy, uint16_t port)
{
	for (uint32_t i = 0; i < policy->n_rules; i++) {
		const struct flat_authz_rule *rule = &policy->rules[i];
		bool one = rule->n_to == 0;

		for (uint32_t k = 0; k < rule->n_to; k++)
			one |= holds_at(&rule->to[k], port);
		if (one && holds_at(&rule->when, port))
			return true;
	}
	return false;
}

/* A workload that is behind the port and that the policy selects; NULL: there is none. */
static const struct flat_workload *held_by(const struct flat_mesh *mesh,
					   const struct flat_authz_policy *policy,
					   const struct flat_service *service, uint16_t target_port)
{
	for (uint32_t i = 0; i < mesh->workloads.n; i++) {
		const struct flat_workload *w = mesh->workloads.v[i];

		if (flat_service_selects(service, w, target_port, NULL) &&
		    mesh_policy_selects(policy->namespace, &policy->targets, &policy->selector, w))
			return w;
	}
	return NULL;
}

static void say_not_asked(struct flat_diags *diags, const struct flat_authz_policy *policy,
			  const struct flat_service *service, const struct flat_service_port *port,
			  bool opaque)
{
	flat_diags_add(
	    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &policy->where, NULL,
	    opaque ? "name a provider over gRPC"
		   : "name the port's protocol, or a provider over gRPC",
	    "AuthorizationPolicy %s/%s: provider \"%s\" is asked over HTTP, and port %u of "
	    "%s is not declared HTTP: connections there %s",
	    policy->namespace, policy->name, policy->provider, port->number, service->host,
	    opaque ? "are let through unasked, as in Istio"
		   : "that do not speak HTTP are denied where its rules match");
}

/* Tells of the first port at which it is not asked, of those whose server is known from the files alone. */
static void check_ports(const struct flat_mesh *mesh, const struct flat_authz_policy *policy,
			struct flat_diags *diags)
{
	bool everywhere = strcmp(policy->namespace, mesh->root_namespace) == 0;

	for (uint32_t i = 0; i < mesh->services.n; i++) {
		const struct flat_service *s = mesh->services.v[i];

		if (!s->has_selector ||
		    (!everywhere && strcmp(s->namespace, policy->namespace) != 0))
			continue;
		for (uint32_t k = 0; k < s->n_ports; k++) {
			const struct flat_service_port *port = &s->ports[k];
			const struct flat_workload *w;
			uint32_t n = 0;

			if (flat_protocol_is_http(port->protocol) ||
			    !speaks_of(policy, port->target_port))
				continue;
			w = held_by(mesh, policy, s, port->target_port);
			if (!w)
				continue;
			say_not_asked(diags, policy, s, port,
				      flat_mesh_says_opaque(mesh, w, port->target_port, &n));
			return;
		}
	}
}

/* --- the whole --- */

static void index_policy(struct flat_mesh *mesh, struct flat_authz_policy *policy,
			 struct flat_diags *diags)
{
	const char *name = provider_name(policy);

	policy->order = place_of(mesh, name);
	if (!is_asked(mesh, policy->order, name)) {
		/* Behind all that can be asked. */
		policy->order = FLAT_EXT_AUTHZ_MAX;
		flat_diags_add(
		    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_LIMIT, &policy->where, NULL,
		    "name fewer of them",
		    "AuthorizationPolicy %s/%s: policies name more than %u providers, so "
		    "what it matches is denied",
		    policy->namespace, policy->name, FLAT_EXT_AUTHZ_MAX);
		return;
	}
	policy->ext = flat_mesh_ext_authz(mesh, name);
	if (policy->ext && !policy->ext->why_not && !policy->ext->grpc)
		check_ports(mesh, policy, diags);
	if (policy->ext)
		return;
	flat_diags_add(
	    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &policy->where, NULL,
	    "declare it in MeshConfig extensionProviders",
	    "AuthorizationPolicy %s/%s: there is no extension provider \"%s\", so what it "
	    "matches is denied",
	    policy->namespace, policy->name, name);
}

int mesh_index_ext_authz(struct flat_mesh *mesh, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < mesh->ext_authz.n; i++) {
		struct flat_ext_authz *p = mesh->ext_authz.v[i];
		const struct flat_service *s =
		    p->host ? flat_mesh_service_by_host(mesh, p->host, p->namespace) : NULL;

		if (s && flat_service_port(s, p->port))
			p->service = s;
		if (p->service || p->why_not)
			continue;
		p->why_not = "there is no such service and port";
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &p->where,
			       NULL, "declare the service and its port",
			       "extension provider \"%s\": there is no service %s with port %u, so "
			       "policies that name the provider deny what they match",
			       p->name, p->host ? p->host : "", p->port);
	}
	order_asked(mesh);
	for (uint32_t i = 0; i < mesh->authz.n; i++) {
		struct flat_authz_policy *policy = mesh->authz.v[i];

		if (policy->action == FLAT_AUTHZ_CUSTOM)
			index_policy(mesh, policy, diags);
	}
	return 0;
}
