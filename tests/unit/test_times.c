/* Times of clients' connections, as EnvoyFilters say them. What becomes of connections: tests/e2e/idle.sh. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/filter.h"
#include "support_mesh.h"

#define FILTER                                                                                     \
	"---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                       \
	"metadata: {name: times, namespace: istio-system}\nspec: {configPatches: [\n"
#define HCM "filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}"
#define MERGE(match, fields)                                                                       \
	"{applyTo: NETWORK_FILTER, match: {" match HCM                                             \
	"}}, patch: {operation: MERGE, value: {typed_config: {'@type': "                           \
	"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."         \
	"HttpConnectionManager, " fields "}}}},\n"
#define OUT "context: SIDECAR_OUTBOUND, listener: {"
#define OUT_80 OUT "portNumber: 80, "
#define GATE "context: GATEWAY, listener: {"
#define WORKLOAD                                                                                   \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: w, namespace: n}\nspec: {serviceAccount: w, selectors: [{uid: 33}]}\n"

static struct flat_http_times times_at(struct flat_mesh *mesh, enum flat_filter_place at,
				       uint16_t port)
{
	struct flat_filter_whose whose = {
	    .at = at, .workload = flat_mesh_workload_by_name(mesh, "n", "w"), .port = port};
	struct flat_http_times times = {.idle_ms = 1, .head_ms = 2, .client_stall_ms = 3};

	flat_mesh_times(mesh, &whose, &times);
	return times;
}

Test(times, each_field_is_that_of_the_last_patch_that_says_it)
{
	struct loaded l = load_good(
	    WORKLOAD FILTER MERGE(OUT, "stream_idle_timeout: 30s, request_timeout: 10s, "
				       "common_http_protocol_options: {idle_timeout: 1.5s}")
		MERGE(OUT_80, "stream_idle_timeout: 0s, "
			      "request_headers_timeout: 5s") "]}");
	struct flat_http_times t = times_at(l.mesh, FLAT_FILTER_CLIENT, 8080);

	cr_expect_eq(t.idle_ms, 1500);
	cr_expect_eq(t.head_ms, 2, "what nobody says stays");
	cr_expect_eq(t.request_ms, 10000);
	cr_expect_eq(t.stream_idle_ms, 30000);
	cr_expect_eq(t.client_stall_ms, 30000);
	t = times_at(l.mesh, FLAT_FILTER_CLIENT, 80);
	cr_expect_eq(t.stream_idle_ms, 0);
	cr_expect_eq(t.client_stall_ms, 0, "none is none");
	cr_expect_eq(t.head_ms, 5000);
	cr_expect_eq(t.request_ms, 10000);
	t = times_at(l.mesh, FLAT_FILTER_GATEWAY, 80);
	cr_expect_eq(t.client_stall_ms, 3);
	cr_expect(flat_mesh_filtered(l.mesh, flat_mesh_workload_by_name(l.mesh, "n", "w"),
				     FLAT_FILTER_CLIENT));
	cr_expect_not(flat_mesh_filtered(l.mesh, flat_mesh_workload_by_name(l.mesh, "n", "w"),
					 FLAT_FILTER_SERVER));
	loaded_fini(&l);
}

Test(times, what_is_said_of_configurations)
{
	static const struct {
		const char *yaml;
		const char *said;
		int ret;
		uint32_t n;
	} cases[] = {
	    {FILTER MERGE(GATE, "stream_idle_timeout: 30s") "]}", "", 0, 1},
	    {FILTER MERGE("listener: {", "request_timeout: 30s") "]}", "", 0, 1},
	    {FILTER MERGE(GATE, "stream_idle_timeout: soon") "]}", "soon", -EINVAL, 0},
	    {FILTER MERGE(GATE, "stream_idle_timeout: 1s, server_name: x") "]}",
	     "\"server_name\" is not honoured: of connections it is times", 0, 1},
	    {FILTER MERGE(GATE, "common_http_protocol_options: {max_stream_duration: 1s}") "]}",
	     "\"max_stream_duration\" is not honoured", 0, 1},
	    {FILTER MERGE("context: SIDECAR_INBOUND, listener: {", "request_timeout: 30s") "]}",
	     "in the context SIDECAR_INBOUND they are not honoured", 0, 0},
	    {FILTER "{applyTo: NETWORK_FILTER, match: {listener: {" HCM
		    "}}, patch: {operation: REMOVE}}]}",
	     "the patch is not honoured", 0, 0},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);

		cr_expect_eq(l.ret, cases[i].ret, "case %zu: %d, said %s", i, l.ret,
			     loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), cases[i].said), "case %zu said: %s", i,
			  loaded_text(&l));
		cr_expect(cases[i].ret != 0 || flat_mesh_n_times(l.mesh) == cases[i].n, "case %zu",
			  i);
		loaded_fini(&l);
	}
}
