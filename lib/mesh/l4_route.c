#include "mesh/l4_route.h"

#include <string.h>

#include "mesh/gateway.h"
#include "mesh/internal.h"

/* "*.b" stands for any number of labels before, and not for none. */
static bool sni_fits(const char *pattern, const char *sni)
{
	size_t len = strlen(pattern);
	size_t have = strlen(sni);

	if (pattern[0] != '*')
		return strcmp(pattern, sni) == 0;
	return have >= len && strcmp(sni + have - (len - 1), pattern + 1) == 0;
}

/* Nobody who asks for no name has one of these. */
static bool named(const struct flat_l4_match *match, const char *sni)
{
	if (match->n_sni == 0 || !sni)
		return true;
	for (uint32_t i = 0; *sni && i < match->n_sni; i++) {
		if (sni_fits(match->sni[i], sni))
			return true;
	}
	return false;
}

static bool bound(const struct flat_l4_match *match, const struct flat_gateway *gateway)
{
	if (!gateway)
		return !match->never;
	return !match->for_gateways ||
	       flat_gateway_named(gateway, match->gateways, match->n_gateways);
}

/* As in Istio: at a gateway neither the address nor the source is asked for. */
bool flat_l4_match(const struct flat_l4_match *match, const struct flat_l4_question *question)
{
	bool inside = match->n_subnets == 0 || question->gateway;

	if (!bound(match, question->gateway) || (match->port && match->port != question->port))
		return false;
	for (uint32_t i = 0; i < match->n_subnets && !inside; i++)
		inside = flat_cidr_contains(&match->subnets[i], &question->to);
	return inside && named(match, question->sni) &&
	       (question->gateway || mesh_source_holds(match->source_namespace,
						       &match->source_labels, question->source));
}

const struct flat_l4_route *flat_l4_first(const struct flat_l4_route *v, uint32_t n,
					  const struct flat_l4_question *question)
{
	for (uint32_t i = 0; i < n; i++) {
		if (v[i].n_matches == 0)
			return &v[i];
		for (uint32_t k = 0; k < v[i].n_matches; k++) {
			if (flat_l4_match(&v[i].matches[k], question))
				return &v[i];
		}
	}
	return NULL;
}

/* Of a name below a wildcard service the VirtualService that is the name's own, or a closer wildcard's. */
static const struct flat_l4_route *route_below(const struct flat_mesh *mesh,
					       const struct flat_service *service,
					       const struct flat_l4_question *question,
					       const struct flat_scope *scope)
{
	const struct flat_virtual_service *vs;

	if (!*question->sni || !sni_fits(service->host, question->sni))
		return NULL;
	vs = mesh_virtual_walk(&mesh->l4_hosts, flat_span_of(question->sni), mesh_virtual_closest,
			       scope);
	return vs ? flat_l4_first(vs->tls, vs->n_tls, question) : NULL;
}

enum flat_l4_answer flat_l4_route_find(const struct flat_mesh *mesh,
				       const struct flat_service *service,
				       const struct flat_l4_question *question,
				       const struct flat_l4_route **route)
{
	const struct flat_scope scope = flat_mesh_scope(mesh, question->source, question->port);
	const struct flat_virtual_service *vs;

	*route = NULL;
	if (mesh->l4_hosts.n == 0)
		return FLAT_L4_SERVICE;
	vs = mesh_virtual_walk(&mesh->l4_hosts, flat_span_of(service->host), mesh_virtual_closest,
			       &scope);
	if (question->tls && service->tls_below) {
		if (!question->sni)
			return FLAT_L4_NAME;
		*route = route_below(mesh, service, question, &scope);
	}
	if (vs && question->tls && !*route)
		*route = flat_l4_first(vs->tls, vs->n_tls, question);
	if (*route && !question->sni)
		return FLAT_L4_NAME;
	if (vs && !*route)
		*route = flat_l4_first(vs->tcp, vs->n_tcp, question);
	return *route ? FLAT_L4_ROUTE : FLAT_L4_SERVICE;
}
