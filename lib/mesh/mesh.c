#include "mesh/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mesh/filter.h"
#include "mesh/internal.h"

void mesh_resource(char *out, const char *kind, const char *namespace, const char *name)
{
	(void)snprintf(out, MESH_RESOURCE_MAX, "%s %s/%s", kind, namespace, name);
}

struct flat_mesh *flat_mesh_new(void)
{
	struct flat_mesh *mesh = calloc(1, sizeof(*mesh));

	if (!mesh)
		return NULL;
	atomic_init(&mesh->refs, 1);
	mesh->root_namespace = FLAT_ROOT_NAMESPACE_DEFAULT;
	return mesh;
}

struct flat_mesh *flat_mesh_get(struct flat_mesh *mesh)
{
	/* Relaxed: whoever takes a reference has one already, or was handed the mesh by somebody
	 * who has. */
	atomic_fetch_add_explicit(&mesh->refs, 1, memory_order_relaxed);
	return mesh;
}

void flat_mesh_put(struct flat_mesh *mesh)
{
	if (!mesh)
		return;
	/* Release pairs with the acquire of the last putter: no use of the mesh may sink below its
	 * free. */
	if (atomic_fetch_sub_explicit(&mesh->refs, 1, memory_order_release) != 1)
		return;
	atomic_thread_fence(memory_order_acquire);
	for (uint32_t i = 0; i < mesh->services.n; i++)
		flat_mesh_patch_free(((struct flat_service *)mesh->services.v[i])->patch);
	free(mesh->services.v);
	free(mesh->workloads.v);
	free(mesh->authz.v);
	free(mesh->authn.v);
	free(mesh->ext_authz.v);
	free(mesh->jwt_rules.v);
	free(mesh->peer.v);
	free(mesh->egress.v);
	free(mesh->virtual.v);
	free(mesh->rules.v);
	for (uint32_t i = 0; i < mesh->gateways.n; i++)
		flat_map_fini(&((struct flat_gateway *)mesh->gateways.v[i])->hosts);
	free(mesh->gateways.v);
	free(mesh->secrets.v);
	free(mesh->config_maps.v);
	free(mesh->backend_tls.v);
	free(mesh->limits.v);
	free(mesh->rates.v);
	free(mesh->limit_patches.v);
	free(mesh->admissions.v);
	free(mesh->compressors.v);
	free(mesh->times.v);
	free(mesh->hedges.v);
	free(mesh->health.v);
	free(mesh->telemetry.v);
	free(mesh->telemetry_providers.v);
	free(mesh->aliases.v);
	flat_map_fini(&mesh->hosts);
	flat_map_fini(&mesh->alias_hosts);
	flat_map_fini(&mesh->addrs);
	flat_map_fini(&mesh->endpoints);
	flat_map_fini(&mesh->workload_ids);
	flat_map_fini(&mesh->scopes);
	flat_map_fini(&mesh->virtual_hosts);
	flat_map_fini(&mesh->l4_hosts);
	flat_map_fini(&mesh->names_at);
	flat_map_fini(&mesh->rules_by_host);
	flat_map_fini(&mesh->imports);
	for (const struct mesh_kept *kept = mesh->kept; kept; kept = kept->next)
		kept->put(kept->what);
	flat_pool_fini(&mesh->pool);
	free(mesh);
}

struct flat_pool *flat_mesh_pool(struct flat_mesh *mesh)
{
	return &mesh->pool;
}

int flat_mesh_keep(struct flat_mesh *mesh, void (*put)(void *what), void *what)
{
	struct mesh_kept *kept = flat_pool_alloc(&mesh->pool, sizeof(*kept));

	if (!kept)
		return -ENOMEM;
	*kept = (struct mesh_kept){put, what, mesh->kept};
	mesh->kept = kept;
	return 0;
}

static int vec_add(struct mesh_vec *vec, void *item)
{
	if (vec->n == vec->cap) {
		uint32_t cap = vec->cap ? vec->cap * 2 : 16;
		void **v;

		if (cap < vec->cap)
			return -ENOMEM;
		v = realloc(vec->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		vec->v = v;
		vec->cap = cap;
	}
	vec->v[vec->n++] = item;
	return 0;
}

int flat_mesh_add_service(struct flat_mesh *mesh, struct flat_service *service)
{
	service->index = mesh->services.n;
	return vec_add(&mesh->services, service);
}

int flat_mesh_add_alias(struct flat_mesh *mesh, struct flat_alias *alias)
{
	return vec_add(&mesh->aliases, alias);
}

int flat_mesh_add_workload(struct flat_mesh *mesh, struct flat_workload *workload)
{
	workload->index = mesh->workloads.n;
	return vec_add(&mesh->workloads, workload);
}

int flat_mesh_add_authz(struct flat_mesh *mesh, struct flat_authz_policy *policy)
{
	mesh->n_notes += policy->dry_run || policy->action == FLAT_AUTHZ_AUDIT;
	return vec_add(&mesh->authz, policy);
}

int flat_mesh_add_ext_authz(struct flat_mesh *mesh, struct flat_ext_authz *provider)
{
	provider->index = mesh->ext_authz.n;
	return vec_add(&mesh->ext_authz, provider);
}

int flat_mesh_add_authn(struct flat_mesh *mesh, struct flat_request_authn *policy)
{
	int ret = vec_add(&mesh->authn, policy);

	for (uint32_t i = 0; i < policy->n_rules && !ret; i++) {
		policy->rules[i].index = mesh->jwt_rules.n;
		ret = vec_add(&mesh->jwt_rules, &policy->rules[i]);
	}
	return ret;
}

int flat_mesh_add_peer(struct flat_mesh *mesh, struct flat_peer_policy *policy)
{
	return vec_add(&mesh->peer, policy);
}

int flat_mesh_add_egress(struct flat_mesh *mesh, struct flat_egress_policy *policy)
{
	return vec_add(&mesh->egress, policy);
}

int flat_mesh_add_virtual(struct flat_mesh *mesh, struct flat_virtual_service *virtual)
{
	return vec_add(&mesh->virtual, virtual);
}

int flat_mesh_add_gateway(struct flat_mesh *mesh, struct flat_gateway *gateway)
{
	return vec_add(&mesh->gateways, gateway);
}

int flat_mesh_add_secret(struct flat_mesh *mesh, struct flat_secret *secret)
{
	return vec_add(&mesh->secrets, secret);
}

int flat_mesh_add_config_map(struct flat_mesh *mesh, struct flat_config_map *map)
{
	return vec_add(&mesh->config_maps, map);
}

int flat_mesh_add_backend_tls(struct flat_mesh *mesh, struct flat_backend_tls *policy)
{
	return vec_add(&mesh->backend_tls, policy);
}

int flat_mesh_add_rule(struct flat_mesh *mesh, struct flat_destination_rule *rule)
{
	return vec_add(&mesh->rules, rule);
}

int flat_mesh_add_limit(struct flat_mesh *mesh, struct flat_local_limit *limit)
{
	limit->index = mesh->limits.n;
	return vec_add(&mesh->limits, limit);
}

int flat_mesh_add_rate(struct flat_mesh *mesh, struct flat_rate_limit *limit)
{
	limit->index = mesh->rates.n;
	return vec_add(&mesh->rates, limit);
}

int flat_mesh_add_limit_patch(struct flat_mesh *mesh, struct flat_limit_patch *patch)
{
	return vec_add(&mesh->limit_patches, patch);
}

int flat_mesh_add_admission(struct flat_mesh *mesh, struct flat_admission *admission)
{
	return vec_add(&mesh->admissions, admission);
}

int flat_mesh_add_times(struct flat_mesh *mesh, struct flat_times_patch *patch)
{
	return vec_add(&mesh->times, patch);
}

int flat_mesh_add_hedge(struct flat_mesh *mesh, struct flat_hedge_patch *patch)
{
	return vec_add(&mesh->hedges, patch);
}

int flat_mesh_add_compressor(struct flat_mesh *mesh, struct flat_compressor *compressor)
{
	return vec_add(&mesh->compressors, compressor);
}

int flat_mesh_add_health(struct flat_mesh *mesh, struct flat_health_check *check)
{
	return vec_add(&mesh->health, check);
}

int flat_mesh_add_telemetry(struct flat_mesh *mesh, struct flat_telemetry *telemetry)
{
	return vec_add(&mesh->telemetry, telemetry);
}

int flat_mesh_add_telemetry_provider(struct flat_mesh *mesh,
				     struct flat_telemetry_provider *provider)
{
	provider->index = mesh->telemetry_providers.n;
	return vec_add(&mesh->telemetry_providers, provider);
}

void flat_mesh_set_export(struct flat_mesh *mesh, enum flat_export_kind kind,
			  const struct flat_export *e)
{
	mesh->exports[kind] = *e;
}

void flat_mesh_set_locality(struct flat_mesh *mesh, const struct flat_locality_lb *locality)
{
	mesh->locality = locality;
}

void flat_mesh_set_root_namespace(struct flat_mesh *mesh, const char *name)
{
	mesh->root_namespace = name;
}

int flat_mesh_finish(struct flat_mesh *mesh, const struct flat_mesh *previous,
		     struct flat_diags *diags)
{
	uint32_t errors = diags->n_errors;
	int ret;

	mesh_settle_exports(mesh);
	ret = mesh_allocate_addresses(mesh, previous, diags);
	if (ret)
		return ret;
	ret = mesh_index_services(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_health(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_backend_tls(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_policies(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_scopes(mesh, diags);
	if (ret)
		return ret;
	mesh_index_targets(mesh, diags);
	ret = mesh_index_ext_authz(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_rates(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_telemetry(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_routes(mesh, diags);
	if (ret)
		return ret;
	ret = mesh_index_gateways(mesh, diags);
	if (ret)
		return ret;
	mesh_index_persistence(mesh, diags);
	return diags->n_errors == errors ? 0 : -EINVAL;
}

void flat_mesh_set_trust_aliases(struct flat_mesh *mesh, const char *const *names, uint32_t n)
{
	mesh->trust_aliases = names;
	mesh->n_trust_aliases = n;
}

uint32_t flat_mesh_trusted_proxies(const struct flat_mesh *mesh)
{
	return mesh->trusted_proxies;
}

void flat_mesh_set_trusted_proxies(struct flat_mesh *mesh, uint32_t n)
{
	mesh->trusted_proxies = n;
}

bool flat_mesh_decodes_slashes(const struct flat_mesh *mesh)
{
	return mesh->decode_slashes;
}

void flat_mesh_set_decode_slashes(struct flat_mesh *mesh)
{
	mesh->decode_slashes = true;
}

const char *flat_mesh_root_namespace(const struct flat_mesh *mesh)
{
	return mesh->root_namespace;
}

uint32_t flat_mesh_n_services(const struct flat_mesh *mesh)
{
	return mesh->services.n;
}

const struct flat_service *flat_mesh_service(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->services.n ? mesh->services.v[i] : NULL;
}

uint32_t flat_mesh_n_aliases(const struct flat_mesh *mesh)
{
	return mesh->aliases.n;
}

const struct flat_alias *flat_mesh_alias(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->aliases.n ? mesh->aliases.v[i] : NULL;
}

uint32_t flat_mesh_n_workloads(const struct flat_mesh *mesh)
{
	return mesh->workloads.n;
}

const struct flat_workload *flat_mesh_workload_at(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->workloads.n ? mesh->workloads.v[i] : NULL;
}

uint32_t flat_mesh_n_authz(const struct flat_mesh *mesh)
{
	return mesh->authz.n;
}

const struct flat_authz_policy *flat_mesh_authz(const struct flat_mesh *mesh, uint32_t i)
{
	return i < mesh->authz.n ? mesh->authz.v[i] : NULL;
}
