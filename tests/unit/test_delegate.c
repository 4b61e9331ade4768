/*
 * Delegation: which routes of the other VirtualService stand in the place of one, and when they hold. Expectations come from Istio's
 * pilot/pkg/model/virtualservice.go.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/build.h"
#include "support_mesh.h"

#define VIRTUAL(name, spec)                                                                        \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: foo}\nspec: " spec "\n"
#define YAML                                                                                       \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: shop, namespace: foo, "  \
	"labels: {app: shop, tier: gold}}\nspec: {selectors: [{uid: 1}]}\n"                        \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, "      \
	"namespace: foo}\nspec: {hosts: [web.example], resolution: STATIC, ports: [{number: 80, "  \
	"name: http}], endpoints: [{address: 10.0.0.1}]}\n" VIRTUAL(                               \
	    "root",                                                                                \
	    "{hosts: [web.example], http: [{name: r, match: [%s], delegate: {name: leaf}}, "       \
	    "{name: rest, directResponse: {status: 200}}]}")                                       \
	    VIRTUAL("leaf", "{http: [{name: l, match: [%s], directResponse: {status: 201}}]}")

struct row {
	const char *root, *leaf; /* matches */
	const char *path;	 /* of GET, with the field "x: ab" and the query "q=1" */
	bool hit;
};

static const struct row rows[] = {
    {"{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", "/a/b/c", true},
    {"{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", "/a/c", false},
    {"{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", "/a/b", true},
    {"{uri: {exact: /a}}", "{uri: {exact: /a}}", "/a", true},
    /* Not within. */
    {"{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}", "/a/b", false},
    {"{uri: {exact: /a}}", "{uri: {prefix: /a}}", "/a", false},
    {"{uri: {prefix: /a}}", "{uri: {regex: '/a.*'}}", "/a", false},
    {"{uri: {regex: '/a.*'}}", "{uri: {regex: '/a.*'}}", "/a", false},
    {"{uri: {prefix: /a}}", "{uri: {prefix: /a/x}}, {uri: {prefix: /b}}", "/a/x", false},
    /* Within one of several. */
    {"{uri: {prefix: /a}}, {uri: {prefix: /b}}", "{uri: {prefix: /b/x}}", "/b/x", true},
    {"{uri: {prefix: /a}}, {method: {exact: PUT}}", "{uri: {prefix: /a/x}}", "/a/x", true},
    /* What one of both leaves open is the other's. */
    {"{uri: {prefix: /a}}", "{method: {exact: GET}}", "/a", true},
    {"{uri: {prefix: /a}}", "{method: {exact: GET}}", "/b", false},
    {"{method: {exact: PUT}}", "{uri: {prefix: /a}}", "/a", false},
    {"{headers: {x: {prefix: a}}}", "{headers: {x: {exact: ab}}}", "/", true},
    {"{headers: {x: {}}}", "{headers: {x: {exact: ab}}}", "/", false},
    {"{headers: {x: {exact: ab}}}", "{headers: {x: {}}}", "/", false},
    {"{headers: {x: {regex: 'a.'}}}", "{headers: {y: {}}}", "/", false},
    {"{headers: {x: {regex: 'a.'}}}", "{headers: {x: {prefix: a}}}", "/", false},
    {"{withoutHeaders: {x: {exact: a}}}", "{withoutHeaders: {x: {exact: b}}}", "/", false},
    {"{withoutHeaders: {x: {exact: a}}}", "{withoutHeaders: {x: {exact: a}}}", "/", true},
    {"{queryParams: {q: {exact: '1'}}}", "{queryParams: {q: {prefix: '1'}}}", "/", false},
    {"{queryParams: {q: {exact: '1'}}}", "{headers: {x: {exact: ab}}}", "/", true},
    {"{uri: {prefix: /a}, ignoreUriCase: true}", "{headers: {x: {exact: ab}}}", "/a", false},
    {"{uri: {prefix: /a}, ignoreUriCase: true}", "{headers: {x: {exact: ab}}, ignoreUriCase: true}",
     "/A", true},
    {"{port: 80}", "{uri: {prefix: /a}}", "/a", true},
    {"{port: 80}", "{port: 81}, {uri: {prefix: /a}}", "/a", false},
    {"{sourceNamespace: foo}", "{sourceNamespace: foo}", "/", true},
    {"{sourceNamespace: foo}", "{uri: {prefix: /}}", "/", false},
    {"{uri: {prefix: /}}", "{sourceNamespace: bar}", "/", false},
    {"{sourceLabels: {app: shop}}", "{sourceLabels: {tier: gold}}", "/", true},
    {"{sourceLabels: {app: shop}}", "{sourceLabels: {tier: iron}}", "/", false},
    {"{sourceLabels: {app: shop}}", "{sourceLabels: {app: other}}, {sourceLabels: {tier: gold}}",
     "/", false},
    {"{gateways: [mesh, g]}", "{gateways: [mesh]}", "/", true},
    {"{gateways: [mesh]}", "{gateways: [mesh, g]}", "/", false},
    {"{gateways: [g]}", "{gateways: [mesh]}", "/", false},
    {"{gateways: [g]}", "{uri: {prefix: /}}", "/", false},
    /* Where one of both names gateways, neither's source is looked at. */
    {"{gateways: [mesh]}", "{sourceLabels: {app: other}}", "/", true},
    {"{sourceLabels: {app: other}}", "{gateways: [mesh]}", "/", true},
};

static const char *taken(const struct loaded *l, const char *path)
{
	static struct flat_http_head head = {
	    .n_fields = 1, .fields = {{.name = 0, .name_len = 1, .value = 1, .value_len = 2}}};
	struct flat_http_request request = {.head = &head, .text = "xab"};
	struct flat_route_question q = {.request = &request, .port = 80};
	const struct flat_virtual_service *vs =
	    virtual_for(l->mesh, "foo", flat_span_of("web.example"), NULL);
	const struct flat_http_route *route;
	const struct flat_http_match *match;

	request.path = flat_span_of(path);
	request.method = flat_span_of("GET");
	request.query = flat_span_of("q=1");
	q.source = flat_mesh_workload_by_name(l->mesh, "foo", "shop");
	route = flat_route_find(vs, &q, &match);
	return route ? route->name : "-";
}

Test(delegate, routes_hold_where_they_lie_within_what_is_delegated)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		char yaml[4096];
		struct loaded l;

		snprintf(yaml, sizeof(yaml), YAML, rows[i].root, rows[i].leaf);
		l = load_good(yaml);
		cr_expect_str_eq(taken(&l, rows[i].path), rows[i].hit ? "r-l" : "rest",
				 "%s with %s, %s: %s", rows[i].root, rows[i].leaf, rows[i].path,
				 taken(&l, rows[i].path));
		loaded_fini(&l);
	}
}

Test(delegate, one_that_never_holds_is_told_of)
{
	char yaml[4096];
	struct loaded l;

	snprintf(yaml, sizeof(yaml), YAML, "{uri: {prefix: /a}}", "{uri: {prefix: /b}}");
	l = load_good(yaml);
	cr_expect(
	    strstr(loaded_text(&l), "delegate foo/leaf has a route whose match is not within"),
	    "%s", loaded_text(&l));
	cr_expect_eq(flat_mesh_virtual(l.mesh, 0)->n_routes, 1);
	loaded_fini(&l);
}
