/* Hedge policies, as EnvoyFilters say them. What becomes of requests: tests/e2e/hedge.sh. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/filter.h"
#include "support_mesh.h"

#define FILTER                                                                                     \
	"---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                       \
	"metadata: {name: hedges, namespace: istio-system}\nspec: {configPatches: [\n"
#define VIRTUAL(match, policy)                                                                     \
	"{applyTo: VIRTUAL_HOST, match: {" match "}, "                                             \
	"patch: {operation: MERGE, value: {hedge_policy: {" policy "}}}},\n"
#define ROUTE(match, policy)                                                                       \
	"{applyTo: HTTP_ROUTE, match: {" match "}, "                                               \
	"patch: {operation: MERGE, value: {route: {hedge_policy: {" policy "}}}}},\n"
#define ON "hedge_on_per_try_timeout: true"
#define OFF "hedge_on_per_try_timeout: false"
#define OUT "context: SIDECAR_OUTBOUND"
#define GATE "context: GATEWAY"
#define VHOST(name) ", routeConfiguration: {vhost: {name: '" name "'}}"
#define NAMED(name) ", routeConfiguration: {vhost: {route: {name: " name "}}}"
#define MESH                                                                                       \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: w, namespace: n}\nspec: {serviceAccount: w, selectors: [{uid: 33}]}\n"   \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: web, namespace: n}\n"                                                    \
	"spec: {hosts: [web.example], addresses: [240.0.0.1], resolution: STATIC, "                \
	"ports: [{number: 80, name: http, protocol: HTTP}], "                                      \
	"endpoints: [{address: 127.0.0.1}]}\n"                                                     \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: web, namespace: n}\n"                                                    \
	"spec: {hosts: ['*.example'], http: [{route: [{destination: {host: web.example}}]}]}\n"

/* What holds for a route of web.example on a port; "": none. */
static const char *hedged(const struct loaded *l, enum flat_filter_place at, uint16_t port,
			  const char *route)
{
	struct flat_hedge_place place = {
	    .whose = {.at = at,
		      .workload = flat_mesh_workload_by_name(l->mesh, "n", "w"),
		      .port = port,
		      .other_port = port},
	    .host = {"web.example", 11},
	    .virtual = at == FLAT_FILTER_GATEWAY ? flat_mesh_virtual(l->mesh, 0) : NULL,
	    .service = flat_mesh_service_by_host(l->mesh, "web.example", NULL),
	    .route = route,
	};
	const struct flat_hedge_patch *p = flat_mesh_hedge(l->mesh, &place);

	return !p ? "" : p->of_route ? "route" : "virtual";
}

Test(hedge, a_virtual_hosts_policy_holds_where_no_patch_speaks_of_the_route)
{
	struct loaded l = load_good(MESH FILTER VIRTUAL(OUT, ON) ROUTE(OUT NAMED("slow"), OFF)
					ROUTE(OUT NAMED("fast"), ON) VIRTUAL(OUT, ON) "]}");

	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, ""), "virtual");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, NULL), "virtual");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, "slow"), "", "the route says no");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, "fast"), "route");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_GATEWAY, 80, "fast"), "");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_SERVER, 80, "fast"), "");
	cr_expect(flat_mesh_filtered(l.mesh, flat_mesh_workload_by_name(l.mesh, "n", "w"),
				     FLAT_FILTER_CLIENT));
	loaded_fini(&l);
}

Test(hedge, the_last_patch_of_a_kind_holds)
{
	struct loaded l = load_good(MESH FILTER VIRTUAL(OUT, ON) VIRTUAL(OUT, OFF) "]}");

	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, ""), "");
	loaded_fini(&l);
}

Test(hedge, a_virtual_host_is_the_services_for_a_client_and_the_virtual_services_at_a_gateway)
{
	struct loaded l = load_good(MESH FILTER VIRTUAL(OUT VHOST("web.example:80"), ON)
					VIRTUAL(GATE VHOST("*.example:8080"), ON) "]}");

	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, ""), "virtual");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 81, ""), "", "another port");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_GATEWAY, 8080, ""), "virtual");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_GATEWAY, 80, ""), "");
	loaded_fini(&l);
	l = load_good(MESH FILTER VIRTUAL(OUT VHOST("other.example:80"), ON) "]}");
	cr_expect_str_eq(hedged(&l, FLAT_FILTER_CLIENT, 80, ""), "", "another host");
	loaded_fini(&l);
}

Test(hedge, what_is_said_of_configurations)
{
	static const struct {
		const char *yaml;
		const char *said;
		int ret;
		uint32_t n;
	} cases[] = {
	    {FILTER VIRTUAL(OUT, ON) "]}", "", 0, 1},
	    {FILTER ROUTE("", ON) "]}", "", 0, 1},
	    {FILTER ROUTE(OUT, ON ", initial_requests: 1") "]}", "", 0, 1},
	    {FILTER ROUTE(OUT, "hedge_on_per_try_timeout: perhaps") "]}", "t.yaml:6:142: ", -EINVAL,
	     0},
	    {FILTER ROUTE(OUT, "initial_requests: 0") "]}", "t.yaml:6:134: ", -EINVAL, 0},
	    {FILTER ROUTE(OUT, "initial_requests: 2") "]}", "\"initial_requests\" is not honoured",
	     0, 1},
	    {FILTER ROUTE(OUT, "additional_request_chance: {numerator: 5}") "]}",
	     "additional_request_chance", 0, 1},
	    {FILTER ROUTE(OUT, "hedge_on: true") "]}", "hedge_on", -EINVAL, 0},
	    {FILTER "{applyTo: HTTP_ROUTE, patch: {operation: MERGE, value: {route: {"
		    "hedge_policy: {}, retry_policy: {num_retries: 1}, timeout: 1s}}}}]}",
	     "\"retry_policy\" is not honoured", 0, 1},
	    {FILTER "{applyTo: HTTP_ROUTE, patch: {operation: MERGE, value: {route: {"
		    "hedge_policy: {}, timeout: 1s}}}}]}",
	     "\"timeout\" is not honoured beside a hedge_policy", 0, 1},
	    {FILTER ROUTE("context: SIDECAR_INBOUND", ON) "]}",
	     "where the hedge_policy holds is not understood", 0, 0},
	    {FILTER ROUTE("proxy: {}", ON) "]}", "where the hedge_policy holds is not understood",
	     0, 0},
	    {FILTER "{applyTo: HTTP_ROUTE, patch: {operation: REMOVE, value: {route: {"
		    "hedge_policy: {}}}}}]}",
	     "the patch is not honoured", 0, 0},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);

		cr_expect_eq(l.ret, cases[i].ret, "case %zu: %d, said %s", i, l.ret,
			     loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), cases[i].said), "case %zu said: %s", i,
			  loaded_text(&l));
		cr_expect(cases[i].ret != 0 || flat_mesh_n_hedges(l.mesh) == cases[i].n, "case %zu",
			  i);
		loaded_fini(&l);
	}
}

Test(hedge, there_are_only_so_many)
{
	static char yaml[32768];
	size_t n = (size_t)snprintf(yaml, sizeof(yaml), "%s", FILTER);
	struct loaded l;

	for (uint32_t i = 0; i <= FLAT_FILTERS_MAX; i++)
		n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "%s", VIRTUAL(OUT, ON));
	snprintf(yaml + n, sizeof(yaml) - n, "]}");
	l = load_yaml(yaml);
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect(strstr(loaded_text(&l), "more than 64 patches with a hedge_policy"), "%s",
		  loaded_text(&l));
	loaded_fini(&l);
}
