#include "mesh/l4_route.h"

#include "mesh/internal.h"

bool flat_l4_match(const struct flat_l4_match *match, const struct flat_l4_question *question)
{
	bool inside = match->n_subnets == 0;

	if (match->never || (match->port && match->port != question->port))
		return false;
	for (uint32_t i = 0; i < match->n_subnets && !inside; i++)
		inside = flat_cidr_contains(&match->subnets[i], &question->to);
	return inside &&
	       mesh_source_holds(match->source_namespace, &match->source_labels, question->source);
}

const struct flat_l4_route *flat_l4_route_find(const struct flat_mesh *mesh,
					       const struct flat_service *service,
					       const struct flat_l4_question *question,
					       const struct flat_virtual_service **vs)
{
	const char *namespace = question->source ? question->source->namespace : NULL;

	*vs = NULL;
	if (mesh->l4_hosts.n == 0)
		return NULL;
	*vs = mesh_virtual_walk(&mesh->l4_hosts, flat_span_of(service->host), mesh_virtual_closest,
				namespace);
	for (uint32_t i = 0; *vs && i < (*vs)->n_tcp; i++) {
		const struct flat_l4_route *route = &(*vs)->tcp[i];

		if (route->n_matches == 0)
			return route;
		for (uint32_t k = 0; k < route->n_matches; k++) {
			if (flat_l4_match(&route->matches[k], question))
				return route;
		}
	}
	return NULL;
}
