#include "mesh/traffic.h"

#include "mesh/internal.h"

/* As in Istio: a port's settings take the place of all, a subset's of those that it names. */
static void settle(struct flat_traffic *t, const struct flat_traffic_policy *policy, uint16_t port)
{
	if (policy->all.lb)
		t->lb = policy->all.lb;
	if (policy->all.tls != FLAT_TLS_UNSET)
		t->tls = policy->all.tls;
	for (uint32_t i = 0; i < policy->n_ports; i++) {
		if (policy->ports[i].number == port) {
			*t = policy->ports[i].traffic;
			return;
		}
	}
}

struct flat_traffic flat_mesh_traffic(const struct flat_mesh *mesh,
				      const struct flat_service *service,
				      const struct flat_subset *subset, uint16_t port)
{
	const struct flat_destination_rule *rule =
	    mesh->rules.n ? flat_map_get_str(&mesh->rules_by_host, service->host) : NULL;
	struct flat_traffic t = {.lb = NULL};

	if (!rule)
		return t;
	settle(&t, &rule->policy, port);
	if (subset)
		settle(&t, &subset->policy, port);
	return t;
}

static bool says(const struct flat_traffic_policy *policy)
{
	bool any = policy->all.lb != NULL || policy->all.tls != FLAT_TLS_UNSET;

	for (uint32_t i = 0; i < policy->n_ports; i++)
		any |= policy->ports[i].traffic.lb != NULL ||
		       policy->ports[i].traffic.tls != FLAT_TLS_UNSET;
	return any;
}

bool flat_mesh_has_traffic(const struct flat_mesh *mesh, const struct flat_service *service)
{
	const struct flat_destination_rule *rule =
	    mesh->rules.n ? flat_map_get_str(&mesh->rules_by_host, service->host) : NULL;
	bool any = rule && says(&rule->policy);

	for (uint32_t i = 0; rule && i < rule->n_subsets; i++)
		any |= says(&rule->subsets[i].policy);
	return any;
}

const char *flat_lb_name(enum flat_lb_kind kind)
{
	static const char *const names[] = {"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH",
					    "MAGLEV"};

	return names[kind];
}

const char *flat_hash_key_name(enum flat_hash_key key)
{
	static const char *const names[] = {"header", "cookie", "query parameter",
					    "source address"};

	return names[key];
}
