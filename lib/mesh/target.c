/* What a policy holds for: the workloads that its selector names, or those behind what it is attached to (targetRefs). */
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* What Istio writes on the workloads of a Gateway that it deploys. */
#define LABEL_GATEWAY "gateway.networking.k8s.io/gateway-name"

bool mesh_policy_selects(const char *namespace, const struct flat_policy_targets *targets,
			 const struct flat_labels *selector, const struct flat_workload *workload)
{
	static const struct flat_labels none;
	const struct flat_labels *labels = workload ? &workload->labels : &none;

	if (targets->n == 0)
		return flat_labels_match(selector, labels);
	/* What is attached to holds in its own namespace, the root namespace's too. */
	if (!workload || strcmp(workload->namespace, namespace) != 0)
		return false;
	for (uint32_t i = 0; i < targets->n; i++) {
		const struct flat_labels *of = &targets->v[i].selector;

		if (of->n > 0 && flat_labels_match(of, labels))
			return true;
	}
	return false;
}

static const struct flat_labels *of_service(const struct flat_mesh *mesh, const char *namespace,
					    const struct flat_policy_target *t)
{
	enum flat_service_kind kind =
	    t->kind == FLAT_TARGET_SERVICE ? FLAT_SERVICE_KUBERNETES : FLAT_SERVICE_ENTRY;

	for (uint32_t i = 0; i < mesh->services.n; i++) {
		const struct flat_service *s = mesh->services.v[i];

		if (s->kind == kind && s->has_selector && strcmp(s->name, t->name) == 0 &&
		    strcmp(s->namespace, namespace) == 0)
			return &s->selector;
	}
	return NULL;
}

static const struct flat_labels *of_gateway(const struct flat_mesh *mesh, const char *namespace,
					    const struct flat_policy_target *t)
{
	for (uint32_t i = 0; i < mesh->gateways.n; i++) {
		const struct flat_gateway *g = mesh->gateways.v[i];

		if (strcmp(g->name, t->name) == 0 && strcmp(g->namespace, namespace) == 0)
			return &g->selector;
	}
	return NULL;
}

/* A Gateway that is not in the files is one that something else deploys, with its label. */
static bool has_gateway_label(const struct flat_mesh *mesh, const char *namespace,
			      struct flat_policy_target *t)
{
	for (uint32_t i = 0; i < mesh->workloads.n; i++) {
		const struct flat_workload *w = mesh->workloads.v[i];
		const char *name = flat_labels_get(&w->labels, LABEL_GATEWAY);

		if (!name || strcmp(name, t->name) != 0 || strcmp(w->namespace, namespace) != 0)
			continue;
		for (uint32_t k = 0; k < w->labels.n; k++) {
			if (strcmp(w->labels.v[k].key, LABEL_GATEWAY) == 0)
				t->selector = (struct flat_labels){&w->labels.v[k], 1};
		}
		return true;
	}
	return false;
}

static void find(struct flat_mesh *mesh, const char *kind, const char *namespace, const char *name,
		 struct flat_policy_targets *targets, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < targets->n; i++) {
		struct flat_policy_target *t = &targets->v[i];
		const struct flat_labels *selector = t->kind == FLAT_TARGET_GATEWAY
							 ? of_gateway(mesh, namespace, t)
							 : of_service(mesh, namespace, t);
		char resource[MESH_RESOURCE_MAX];

		/* It was said already that it is none. */
		if (!*t->name)
			continue;
		if (selector)
			t->selector = *selector;
		if ((selector && selector->n > 0) ||
		    (t->kind == FLAT_TARGET_GATEWAY && has_gateway_label(mesh, namespace, t)))
			continue;
		mesh_resource(resource, kind, namespace, name);
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &t->where, resource,
			       "declare it with a selector, or select workloads",
			       "its target \"%.200s\" selects no workloads in namespace %s: the "
			       "policy holds for nobody there",
			       t->name, namespace);
	}
}

void mesh_index_targets(struct flat_mesh *mesh, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < mesh->authz.n; i++) {
		struct flat_authz_policy *p = mesh->authz.v[i];

		find(mesh, "AuthorizationPolicy", p->namespace, p->name, &p->targets, diags);
	}
	for (uint32_t i = 0; i < mesh->authn.n; i++) {
		struct flat_request_authn *p = mesh->authn.v[i];

		find(mesh, "RequestAuthentication", p->namespace, p->name, &p->targets, diags);
	}
	for (uint32_t i = 0; i < mesh->telemetry.n; i++) {
		struct flat_telemetry *t = mesh->telemetry.v[i];

		if (t->targets)
			find(mesh, "Telemetry", t->namespace, t->name, t->targets, diags);
	}
}
