/* Which share of a route's requests is mirrored, and where to. */
#include <criterion/criterion.h>
#include <string.h>

#include "mesh/route.h"
#include "support_mesh.h"

#define VS(spec)                                                                                   \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {hosts: [web.example], resolution: STATIC, ports: [{number: 80, name: http}],\n"    \
	"  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]}\n"                             \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: foo}\n"          \
	"spec: {ports: [{port: 80, name: http}]}\n"                                                \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                         \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {host: web.example, subsets: [{name: v1, labels: {version: v1}}]}\n"                \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: v, namespace: foo}\nspec: " spec "\n"

Test(route_mirror, mirrors_have_shares)
{
	struct loaded l = load_good(VS(
	    "{hosts: [web.example], http: [{route: [{destination: {host: web.example}}], mirror: "
	    "{host: reviews, subset: v9}, mirrorPercentage: {value: 2.5}}, {route: [{destination: "
	    "{host: web.example}}], mirrors: [{destination: {host: web.example, subset: v1}}, "
	    "{destination: {host: web.example}, percentage: {value: 0}}]}]}"));
	const struct flat_virtual_service *vs = flat_mesh_virtual(l.mesh, 0);

	cr_assert_eq(vs->routes[0].n_mirrors, 1);
	cr_expect_eq(vs->routes[0].mirrors[0].of_million, 25000);
	cr_expect_not_null(vs->routes[0].mirrors[0].to.service);
	cr_expect_null(vs->routes[0].mirrors[0].to.subset);
	cr_assert_eq(vs->routes[1].n_mirrors, 2);
	cr_expect_eq(vs->routes[1].mirrors[0].of_million, FLAT_MILLION);
	cr_expect_not_null(vs->routes[1].mirrors[0].to.subset);
	cr_expect_eq(vs->routes[1].mirrors[1].of_million, 0);
	loaded_fini(&l);
	l = load_yaml(
	    VS("{hosts: [web.example], http: [{route: [{destination: {host: web.example}}], "
	       "mirror: {host: a.b}, mirrors: [{destination: {host: a.b}}]}]}"));
	cr_expect_neq(l.ret, 0);
	cr_expect(strstr(loaded_text(&l), "both mirror and mirrors"), "%s", loaded_text(&l));
	loaded_fini(&l);
}
