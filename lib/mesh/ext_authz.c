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
	for (uint32_t i = 0; i < mesh->authz.n; i++) {
		const struct flat_authz_policy *policy = mesh->authz.v[i];

		if (policy->action == FLAT_AUTHZ_CUSTOM)
			return true;
	}
	return false;
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
	for (uint32_t i = 0; i < mesh->authz.n; i++) {
		struct flat_authz_policy *policy = mesh->authz.v[i];

		if (policy->action != FLAT_AUTHZ_CUSTOM)
			continue;
		policy->ext = flat_mesh_ext_authz(mesh, policy->provider);
		if (!policy->ext)
			flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				       &policy->where, NULL,
				       "declare it in MeshConfig extensionProviders",
				       "AuthorizationPolicy %s/%s: there is no extension provider "
				       "\"%s\", so everything is denied where the policy selects",
				       policy->namespace, policy->name,
				       policy->provider ? policy->provider : "");
	}
	return 0;
}
