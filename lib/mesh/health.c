#include "mesh/health.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

uint32_t flat_mesh_n_health(const struct flat_mesh *mesh)
{
	return mesh->health.n;
}

const char *flat_health_kind_name(enum flat_health_kind kind)
{
	static const char *const names[] = {"TCP", "HTTP", "gRPC"};

	return names[kind];
}

/* --- results --- */

static bool within(const struct flat_status_ranges *ranges, unsigned status)
{
	for (uint32_t i = 0; i < ranges->n; i++) {
		if (status >= ranges->v[i].from && status < ranges->v[i].to)
			return true;
	}
	return false;
}

enum flat_health_result flat_health_of_status(const struct flat_health_check *check,
					      unsigned status)
{
	bool good = check->expected.n ? within(&check->expected, status) : status == 200;

	if (good)
		return FLAT_HEALTH_PASSED;
	return within(&check->retriable, status) ? FLAT_HEALTH_SILENT : FLAT_HEALTH_REFUSED;
}

static uint32_t passed(const struct flat_health_check *check, struct flat_health_state *s)
{
	s->bad = 0;
	if (s->failed && s->checked && ++s->good < check->healthy_threshold)
		return check->healthy_edge_ms;
	s->failed = false;
	s->good = 0;
	return check->interval_ms;
}

static uint32_t failed(const struct flat_health_check *check, struct flat_health_state *s,
		       bool at_once)
{
	s->good = 0;
	if (!s->failed && s->checked && !at_once && ++s->bad < check->unhealthy_threshold)
		return check->unhealthy_edge_ms;
	s->failed = true;
	s->bad = 0;
	return check->unhealthy_ms;
}

uint32_t flat_health_note(const struct flat_health_check *check, struct flat_health_state *state,
			  enum flat_health_result result)
{
	uint32_t ms = result == FLAT_HEALTH_PASSED
			  ? passed(check, state)
			  : failed(check, state, result == FLAT_HEALTH_REFUSED);

	state->checked = true;
	return ms;
}

/* --- whose --- */

static bool means(const struct flat_health_check *check, const struct flat_service *service,
		  uint16_t port)
{
	return (!check->host || strcmp(check->host, service->host) == 0) &&
	       (check->port == 0 || check->port == port);
}

/* Names of services as people write them. False: nobody has it. */
static bool find_host(const struct flat_mesh *mesh, struct flat_health_check *check)
{
	const struct flat_service *s =
	    flat_mesh_service_by_host(mesh, check->host, check->namespace);

	if (s)
		check->host = s->host;
	return s != NULL;
}

static int index_service(struct flat_mesh *mesh, struct flat_service *s)
{
	for (uint32_t k = 0; k < s->n_ports; k++) {
		for (uint32_t i = 0; i < mesh->health.n; i++) {
			if (!means(mesh->health.v[i], s, s->ports[k].number))
				continue;
			if (!s->health)
				s->health =
				    flat_pool_array(&mesh->pool, s->n_ports, sizeof(*s->health));
			if (!s->health)
				return -ENOMEM;
			s->health[k] = mesh->health.v[i];
			break;
		}
	}
	return 0;
}

int mesh_index_health(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = 0;

	for (uint32_t i = 0; i < mesh->health.n; i++) {
		struct flat_health_check *c = mesh->health.v[i];
		char resource[MESH_RESOURCE_MAX];

		if (!c->host || c->host[0] == '*' || find_host(mesh, c))
			continue;
		mesh_resource(resource, "EnvoyFilter", c->namespace, c->name);
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &c->where, resource,
			       NULL, "no service has the host \"%.253s\"", c->host);
	}
	for (uint32_t i = 0; mesh->health.n && i < mesh->services.n && ret == 0; i++) {
		if (flat_service_has_endpoints(mesh->services.v[i]))
			ret = index_service(mesh, mesh->services.v[i]);
	}
	return ret;
}

const struct flat_health_check *flat_service_health(const struct flat_service *service,
						    const struct flat_service_port *port)
{
	return service->health ? service->health[port - service->ports] : NULL;
}
