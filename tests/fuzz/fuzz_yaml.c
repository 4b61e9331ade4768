/*
 * Any bytes as a configuration file: the loader must refuse or load them, within its bounds, and what it
 * loads must answer every query. Run with -max_len=65536 and the seeds of corpus/yaml.
 */
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "mesh/authz.h"
#include "mesh/balance.h"
#include "mesh/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* A service is found by its own host, address and endpoints, or by another that shares them. */
static void ask_services(const struct flat_mesh *mesh)
{
	uint32_t i, p;

	for (i = 0; i < flat_mesh_n_services(mesh); i++) {
		const struct flat_service *s = flat_mesh_service(mesh, i);
		struct flat_balance_state state = {0};
		struct flat_ip ip;

		if (s->host[0] != '*')
			require(flat_mesh_service_by_host(mesh, s->host, NULL) == s);
		if (flat_service_resolve(s, &ip) == 0)
			require(flat_mesh_service_owning(mesh, &ip) != NULL);
		for (p = 0; p < s->n_ports; p++) {
			const struct flat_service_port *port = &s->ports[p];
			int pick = flat_balance_pick(&state, port->endpoints, port->n_endpoints,
						     NULL, NULL);

			require(pick < 0 ? port->n_endpoints == 0
					 : (uint32_t)pick < port->n_endpoints);
			if (pick >= 0)
				require(flat_mesh_service_by_endpoint(
					    mesh, &port->endpoints[pick].ip,
					    port->endpoints[pick].port, NULL) != NULL);
		}
		flat_balance_fini(&state);
	}
}

static void ask_policies(const struct flat_mesh *mesh)
{
	static const char cgroups[] = "0::/flat/redis\n1:name=systemd:/user.slice\n";
	struct flat_attest attest = {.uid = 1000, .gid = 1000, .cgroup_paths = cgroups};
	uint32_t i;

	attest.exe = "/usr/bin/redis-server";
	(void)flat_mesh_workload(mesh, &attest);
	for (i = 0; i <= flat_mesh_n_workloads(mesh) && i < 64; i++) {
		const struct flat_workload *w = flat_mesh_workload_at(mesh, i);
		struct flat_authz_input input = {.destination = w, .destination_port = 6379};
		struct flat_authz_verdict verdict;

		if (w)
			require(flat_mesh_workload_by_name(mesh, w->namespace, w->name) != NULL ||
				strlen(w->namespace) + strlen(w->name) > 500);
		input.source_principal = w && i % 2 ? w->principal : NULL;
		input.source_ip = flat_ip_from_v4(0x7f000001);
		flat_authz_check(mesh, &input, &verdict);
		require(verdict.text[0] != '\0');
		require(flat_mesh_mtls(mesh, w, 6379, NULL) != FLAT_MTLS_UNSET);
		require(flat_mesh_egress(mesh, w, NULL) != FLAT_EGRESS_UNSET);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	struct flat_strbuf out = {0};
	struct flat_json json;
	int ret = flat_config_load_text("fuzz.yaml", (const char *)data, size, &mesh, &diags);

	require(ret == 0 ? mesh != NULL : mesh == NULL);
	require((ret == 0) == (diags.n_errors == 0));
	flat_diags_text(&diags, &out);
	require(diags.n == 0 || out.len > 0);
	flat_strbuf_reset(&out);
	flat_json_init(&json, &out, false);
	flat_diags_json(&diags, &json, NULL);
	require(flat_json_done(&json));
	if (mesh) {
		ask_services(mesh);
		ask_policies(mesh);
	}
	flat_mesh_put(mesh);
	flat_strbuf_fini(&out);
	flat_diags_fini(&diags);
	return 0;
}
