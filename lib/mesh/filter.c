#include "mesh/filter.h"

#include <string.h>

#include "mesh/internal.h"

static bool stands(const struct flat_mesh *mesh, const struct flat_filter *f,
		   const struct flat_filter_whose *whose)
{
	if (!(f->at & whose->at) ||
	    (f->port && f->port != whose->port && f->port != whose->other_port))
		return false;
	return flat_limit_selects(mesh, &f->by, whose->workload);
}

/* The vectors' items begin with their filter. */
static const struct flat_filter *find(const struct flat_mesh *mesh, const struct mesh_vec *vec,
				      const struct flat_filter_whose *whose)
{
	for (uint32_t i = 0; i < vec->n; i++) {
		const struct flat_filter *f = vec->v[i];

		if (stands(mesh, f, whose))
			return f;
	}
	return NULL;
}
_Static_assert(offsetof(struct flat_admission, filter) == 0, "find()");
_Static_assert(offsetof(struct flat_compressor, filter) == 0, "find()");
_Static_assert(offsetof(struct flat_times_patch, filter) == 0, "any()");
_Static_assert(offsetof(struct flat_hedge_patch, filter) == 0, "any()");

const struct flat_admission *flat_mesh_admission(const struct flat_mesh *mesh,
						 const struct flat_filter_whose *whose)
{
	return (const struct flat_admission *)find(mesh, &mesh->admissions, whose);
}

uint32_t flat_mesh_n_admissions(const struct flat_mesh *mesh)
{
	return mesh->admissions.n;
}

const struct flat_compressor *flat_mesh_compressor(const struct flat_mesh *mesh,
						   const struct flat_filter_whose *whose)
{
	return (const struct flat_compressor *)find(mesh, &mesh->compressors, whose);
}

uint32_t flat_mesh_n_compressors(const struct flat_mesh *mesh)
{
	return mesh->compressors.n;
}

uint32_t flat_mesh_n_times(const struct flat_mesh *mesh)
{
	return mesh->times.n;
}

const struct flat_times_patch *flat_mesh_next_times(const struct flat_mesh *mesh,
						    const struct flat_filter_whose *whose,
						    uint32_t *i)
{
	while (*i < mesh->times.n) {
		const struct flat_times_patch *p = mesh->times.v[(*i)++];

		if (stands(mesh, &p->filter, whose))
			return p;
	}
	return NULL;
}

void flat_mesh_times(const struct flat_mesh *mesh, const struct flat_filter_whose *whose,
		     struct flat_http_times *times)
{
	const struct flat_times_patch *p;
	uint32_t i = 0;

	while ((p = flat_mesh_next_times(mesh, whose, &i)) != NULL) {
		if (p->has_idle)
			times->idle_ms = p->times.idle_ms;
		if (p->has_head)
			times->head_ms = p->times.head_ms;
		if (p->has_request)
			times->request_ms = p->times.request_ms;
		/* Who says it says all of it. */
		if (p->has_stream_idle)
			times->stream_idle_ms = times->client_stall_ms = p->times.stream_idle_ms;
	}
}

uint32_t flat_mesh_n_hedges(const struct flat_mesh *mesh)
{
	return mesh->hedges.n;
}

/* Whether a virtual host of that name is the request's: a gateway has its VirtualService's, a client its service's. */
static bool is_at(const struct flat_hedge_patch *p, const struct flat_hedge_place *place)
{
	const char *host = place->service ? place->service->host : NULL;

	if (!p->host)
		return true;
	if (place->virtual)
		host = flat_virtual_host(place->virtual, place->host);
	return host && flat_span_equal(flat_span_of(p->host), flat_span_of(host), true);
}

const struct flat_hedge_patch *flat_mesh_hedge(const struct flat_mesh *mesh,
					       const struct flat_hedge_place *place)
{
	const struct flat_hedge_patch *best = NULL;

	for (uint32_t i = 0; i < mesh->hedges.n; i++) {
		const struct flat_hedge_patch *p = mesh->hedges.v[i];

		if ((best && best->of_route && !p->of_route) ||
		    (p->route && (!place->route || strcmp(p->route, place->route) != 0)) ||
		    !stands(mesh, &p->filter, &place->whose) || !is_at(p, place))
			continue;
		best = p;
	}
	return best && best->on ? best : NULL;
}

static bool any(const struct flat_mesh *mesh, const struct mesh_vec *vec,
		const struct flat_workload *workload, enum flat_filter_place at)
{
	for (uint32_t i = 0; i < vec->n; i++) {
		const struct flat_filter *f = vec->v[i];

		if ((f->at & at) && flat_limit_selects(mesh, &f->by, workload))
			return true;
	}
	return false;
}

bool flat_mesh_filtered(const struct flat_mesh *mesh, const struct flat_workload *workload,
			enum flat_filter_place at)
{
	if (at == FLAT_FILTER_CLIENT && !workload)
		return false;
	return any(mesh, &mesh->admissions, workload, at) ||
	       any(mesh, &mesh->compressors, workload, at) ||
	       any(mesh, &mesh->times, workload, at) || any(mesh, &mesh->hedges, workload, at);
}
