#include "mesh/limit.h"

#include <string.h>

#include "mesh/internal.h"

uint32_t flat_mesh_n_limits(const struct flat_mesh *mesh)
{
	return mesh->limits.n;
}

const struct flat_local_limit *flat_mesh_limit(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->limits.n ? mesh->limits.v[i] : NULL;
}

uint32_t flat_mesh_n_rates(const struct flat_mesh *mesh)
{
	return mesh->rates.n;
}

const struct flat_rate_limit *flat_mesh_rate(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->rates.n ? mesh->rates.v[i] : NULL;
}

uint32_t flat_mesh_n_limit_patches(const struct flat_mesh *mesh)
{
	return mesh->limit_patches.n;
}

bool flat_limit_selects(const struct flat_mesh *mesh, const struct flat_limit_for *by,
			const struct flat_workload *workload)
{
	static const struct flat_labels none;
	bool root = strcmp(by->namespace, mesh->root_namespace) == 0;

	/* As in Istio: in the root namespace it is for workloads of any. */
	if (!root && (!workload || strcmp(by->namespace, workload->namespace) != 0))
		return false;
	return flat_labels_match(&by->selector, workload ? &workload->labels : &none);
}

bool flat_mesh_limited(const struct flat_mesh *mesh, const struct flat_workload *workload)
{
	for (uint32_t i = 0; i < mesh->limits.n; i++) {
		const struct flat_local_limit *limit = mesh->limits.v[i];

		if (flat_limit_selects(mesh, &limit->by, workload))
			return true;
	}
	for (uint32_t i = 0; i < mesh->rates.n; i++) {
		const struct flat_rate_limit *rate = mesh->rates.v[i];

		if (rate->server && flat_limit_selects(mesh, &rate->by, workload))
			return true;
	}
	return false;
}

/* --- rate_limits of virtual hosts and routes --- */

static bool ends_with(struct flat_span text, struct flat_span end)
{
	return text.len > end.len &&
	       flat_span_equal((struct flat_span){text.text + text.len - end.len, end.len}, end,
			       true);
}

const char *flat_virtual_host(const struct flat_virtual_service *vs, struct flat_span host)
{
	const char *best = NULL;
	size_t len = 0;

	for (uint32_t i = 0; i < vs->n_hosts; i++) {
		struct flat_span own = flat_span_of(vs->hosts[i]);

		if (flat_span_equal(own, host, true))
			return vs->hosts[i];
		if (own.len > len && own.text[0] == '*' &&
		    ends_with(host, (struct flat_span){own.text + 1, own.len - 1})) {
			best = vs->hosts[i];
			len = own.len;
		}
	}
	return best;
}

static bool patch_holds(const struct flat_mesh *mesh, const struct flat_limit_patch *p,
			const struct flat_limit_place *place)
{
	const char *host;

	if (!(place->gateway ? p->gateway : p->server) ||
	    (p->port && p->port != place->port && p->port != place->other_port) ||
	    (p->route && (!place->route || strcmp(p->route, place->route) != 0)))
		return false;
	if (p->host) {
		host = place->virtual ? flat_virtual_host(place->virtual, place->host) : NULL;
		if (!host || strcmp(p->host, host) != 0)
			return false;
	}
	return flat_limit_selects(mesh, &p->by, place->workload);
}

uint32_t flat_limit_rules(const struct flat_mesh *mesh, const struct flat_limit_place *place,
			  uint8_t stage, enum flat_limit_virtual virtual,
			  const struct flat_limit_rule *out[FLAT_LIMIT_RULES_MAX])
{
	bool with = virtual == FLAT_LIMIT_INCLUDE;
	uint32_t n = 0;

	/* The route's first: without any the virtual host's count. */
	for (int of_route = 1; of_route >= 0; of_route--) {
		bool any = false;

		for (uint32_t i = 0; i < mesh->limit_patches.n; i++) {
			const struct flat_limit_patch *p = mesh->limit_patches.v[i];

			if (p->of_route != (of_route == 1) || !patch_holds(mesh, p, place))
				continue;
			any |= p->n_rules > 0;
			with |= p->includes;
			for (uint32_t k = 0; k < p->n_rules && n < FLAT_LIMIT_RULES_MAX; k++) {
				if (p->rules[k].stage == stage)
					out[n++] = &p->rules[k];
			}
		}
		if (virtual == FLAT_LIMIT_IGNORE || (any && !with))
			break;
	}
	return n;
}

int mesh_index_rates(struct flat_mesh *mesh, struct flat_diags *diags)
{
	for (uint32_t i = 0; i < mesh->limits.n && mesh->limit_patches.n == 0; i++) {
		const struct flat_local_limit *limit = mesh->limits.v[i];

		if (limit->n_rules == 0 && limit->n_descriptors > 0)
			flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				       &limit->by.where, NULL, "give rate_limits",
				       "no request has any of the descriptors: rate_limits, which "
				       "say what they are made of, are not there");
	}
	for (uint32_t i = 0; i < mesh->rates.n; i++) {
		struct flat_rate_limit *r = mesh->rates.v[i];
		const struct flat_service *s =
		    r->host ? flat_mesh_service_by_host(mesh, r->host, NULL) : NULL;

		if (s && flat_service_port(s, r->port))
			r->service = s;
		if (r->service || r->why_not)
			continue;
		r->why_not = "there is no such service and port";
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &r->by.where,
			       NULL, "declare the service and its port",
			       "the rate limit's service %s with port %u is not there, so requests "
			       "that it should be asked about are %s",
			       r->host ? r->host : "", r->port,
			       r->denies ? "refused" : "let through");
	}
	return 0;
}
