/*
 * What Istio's and Gateway API's references say beside what test_route.c, test_mesh_authz.c, test_gateway.c and test_http_route.c
 * ask: names below wildcards, namespaces of short names and of gateways, endpoints of several slices, grants, filters.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/build.h"
#include "mesh/gateway.h"
#include "mesh/l4_route.h"
#include "support_mesh.h"

#define RESOURCE(api, kind, name, namespace, spec)                                                 \
	"---\napiVersion: " api "\nkind: " kind "\nmetadata: {name: " name                         \
	", namespace: " namespace "}\nspec: " spec "\n"
#define ENTRY(name, namespace, spec)                                                               \
	RESOURCE("networking.istio.io/v1", "ServiceEntry", name, namespace, spec)
#define VIRTUAL(name, namespace, spec)                                                             \
	RESOURCE("networking.istio.io/v1", "VirtualService", name, namespace, spec)
#define RULE(name, namespace, spec)                                                                \
	RESOURCE("networking.istio.io/v1", "DestinationRule", name, namespace, spec)
#define SERVICE(name, namespace, spec) RESOURCE("v1", "Service", name, namespace, spec)
#define ANSWER(status) "http: [{directResponse: {status: " status "}}]"

#define WILD                                                                                       \
	ENTRY("wild", "foo",                                                                       \
	      "{hosts: ['*.wild.example'], addresses: [10.9.0.0/16], resolution: STATIC, ports: "  \
	      "[{number: 80, name: http}], endpoints: [{address: 10.0.0.1}]}")

/* The VirtualService of a host, as a request to the service that has it meets it. */
static const char *routed(const struct loaded *l, const char *host)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, host, "foo");
	const struct flat_virtual_service *vs = virtual_for(l->mesh, "foo", flat_span_of(host), s);

	return vs ? vs->name : "-";
}

Test(istio, a_name_below_a_wildcard_service_has_routes_of_its_own)
{
	struct loaded l = load_good(
	    WILD VIRTUAL("all", "foo", "{hosts: ['*.wild.example'], " ANSWER("201") "}")
		VIRTUAL("own", "foo", "{hosts: [a.wild.example], " ANSWER("202") "}")
		    VIRTUAL("deep", "foo", "{hosts: ['*.b.wild.example'], " ANSWER("203") "}"));

	cr_expect_str_eq(routed(&l, "a.wild.example"), "own");
	cr_expect_str_eq(routed(&l, "c.wild.example"), "all");
	cr_expect_str_eq(routed(&l, "x.b.wild.example"), "deep");
	cr_expect_str_eq(routed(&l, "x.a.wild.example"), "all");
	loaded_fini(&l);
}

/* Only where there are such routes have the requests to be read. */
Test(istio, routes_of_names_below_a_wildcard_service_are_known)
{
	static const struct {
		const char *yaml;
		bool want;
	} cases[] = {
	    {WILD, false},
	    {WILD VIRTUAL("own", "foo", "{hosts: [a.wild.example], " ANSWER("202") "}"), true},
	    {WILD VIRTUAL("deep", "foo", "{hosts: ['*.b.wild.example'], " ANSWER("202") "}"), true},
	    {WILD VIRTUAL("other", "foo", "{hosts: [a.tame.example], " ANSWER("202") "}"), false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);

		cr_expect_eq(flat_mesh_service(l.mesh, 0)->routes_below, cases[i].want, "%zu", i);
		loaded_fini(&l);
	}
}

/* Istio: a rule holds for a service whose host its own one holds, not for one that holds its own. */
Test(istio, a_rule_of_a_name_below_a_wildcard_service_is_none_of_the_service)
{
	struct loaded l = load_good(WILD RULE(
	    "one", "foo", "{host: a.wild.example, trafficPolicy: {tls: {mode: DISABLE}}}"));
	const struct flat_service *s = flat_mesh_service(l.mesh, 0);

	cr_expect_null(flat_mesh_rule_for(l.mesh, s, "foo"));
	cr_expect(strstr(loaded_text(&l), "no service has the host \"a.wild.example\""), "%s",
		  loaded_text(&l));
	loaded_fini(&l);
	l = load_good(WILD RULE("all", "foo", "{host: '*.wild.example'}"));
	cr_expect_not_null(flat_mesh_rule_for(l.mesh, flat_mesh_service(l.mesh, 0), "foo"));
	loaded_fini(&l);
}

#define REVIEWS(namespace) SERVICE("reviews", namespace, "{ports: [{port: 80, name: http}]}")

Test(istio, short_names_of_a_delegate_are_of_its_own_namespace)
{
	struct loaded l = load_good(
	    REVIEWS("foo") REVIEWS("bar") VIRTUAL(
		"root", "foo",
		"{hosts: [web.example], http: [{match: [{uri: {prefix: /a}}], delegate: {name: "
		"leaf, namespace: bar}}, {route: [{destination: {host: reviews}}]}]}")
		VIRTUAL("leaf", "bar",
			"{http: [{route: [{destination: {host: reviews}}], mirror: {host: "
			"reviews}}]}"));
	const struct flat_virtual_service *vs = flat_mesh_virtual(l.mesh, 0);

	cr_assert_eq(vs->n_routes, 2);
	cr_expect_str_eq(vs->routes[0].destinations[0].service->namespace, "bar");
	cr_expect_str_eq(vs->routes[0].mirrors[0].to.service->namespace, "bar");
	cr_expect_str_eq(vs->routes[1].destinations[0].service->namespace, "foo");
	loaded_fini(&l);
}

/* exportTo is for gateways too; it is their workloads' namespace that counts. */
Test(istio, a_gateway_sees_what_is_exported_to_its_workload)
{
#define EDGE                                                                                       \
	"---\napiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: ingress, "          \
	"namespace: edge, labels: {gw: i}}\nspec: {selectors: [{uid: 1}]}\n" RESOURCE(             \
	    "networking.istio.io/v1", "Gateway", "g", "shop",                                      \
	    "{selector: {gw: i}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: "  \
	    "['*']}, {port: {number: 81, name: t, protocol: TCP}, hosts: ['*']}]}")
	static const struct {
		const char *before, *to;
		bool want;
	} cases[] = {
	    {"", "", true},
	    {"", "exportTo: ['*'], ", true},
	    {"", "exportTo: [edge], ", true},
	    {"", "exportTo: [., edge], ", true},
	    {"", "exportTo: [.], ", false},
	    {"", "exportTo: [other], ", false},
	    {"---\nkind: MeshConfig\ndefaultVirtualServiceExportTo: [.]\n", "", false},
	    {"---\nkind: MeshConfig\ndefaultVirtualServiceExportTo: [.]\n", "exportTo: ['*'], ",
	     true},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_l4_question q = {.port = 81};
		struct flat_strbuf yaml = {0};
		const struct flat_gateway *g;
		struct loaded l;

		flat_strbuf_printf(
		    &yaml,
		    "%s" EDGE REVIEWS("shop")
			VIRTUAL("v", "shop",
				"{hosts: [a.example], gateways: [g], %s" ANSWER(
				    "200") ", tcp: [{route: [{destination: {host: reviews}}]}]}"),
		    cases[i].before, cases[i].to);
		l = load_good(flat_strbuf_str(&yaml));
		g = flat_mesh_gateway(l.mesh, 0);
		q.gateway = g;
		cr_expect_eq(flat_gateway_virtual(g, &g->servers[0], flat_span_of("a.example")) !=
				 NULL,
			     cases[i].want, "%zu", i);
		cr_expect_eq(flat_gateway_l4(l.mesh, g, &g->servers[1], &q) != NULL, cases[i].want,
			     "%zu", i);
		cr_expect_eq(strstr(loaded_text(&l), "is not exported to Gateway \"shop/g\"") ==
				 NULL,
			     cases[i].want, "%zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
		flat_strbuf_fini(&yaml);
	}
}

#define SLICE(name, endpoints)                                                                     \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name        \
	", namespace: foo, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n"        \
	"ports: [{name: http, port: 8080}]\nendpoints: [" endpoints "]\n"
#define WEB(more) SERVICE("web", "foo", "{ports: [{port: 80, name: http}]" more "}")

/* Kubernetes, "EndpointSlices": one endpoint may stand in several slices, and is one. */
Test(istio, endpoints_of_several_slices_count_once)
{
	static const struct {
		const char *yaml;
		uint32_t want;
	} cases[] = {
	    {WEB("") SLICE("a", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}"), 2},
	    {WEB("") SLICE("a", "{addresses: [10.1.0.1]}") SLICE("b", "{addresses: [10.1.0.2]}"),
	     2},
	    {WEB("") SLICE("a", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}")
		 SLICE("b", "{addresses: [10.1.0.2]}, {addresses: [10.1.0.3]}"),
	     3},
	    {WEB("") SLICE("a", "{addresses: [10.1.0.1], conditions: {ready: false}}")
		 SLICE("b", "{addresses: [10.1.0.1]}"),
	     1},
	    {WEB("") SLICE("a", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2], conditions: "
				"{ready: false}}"),
	     1},
	    {WEB(", publishNotReadyAddresses: false")
		 SLICE("a", "{addresses: [10.1.0.1], conditions: {ready: false}}"),
	     0},
	    /* As in Istio. */
	    {WEB(", publishNotReadyAddresses: true")
		 SLICE("a", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2], conditions: "
			    "{ready: false}}"),
	     2},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);

		cr_expect_eq(flat_mesh_service(l.mesh, 0)->ports[0].n_endpoints, cases[i].want,
			     "%zu", i);
		cr_expect_str_eq(loaded_text(&l), "", "%zu", i);
		loaded_fini(&l);
	}
}

#define ROUTE(name, namespace, spec)                                                               \
	RESOURCE("gateway.networking.k8s.io/v1", "HTTPRoute", name, namespace, spec)
#define GATE                                                                                       \
	RESOURCE("gateway.networking.k8s.io/v1", "Gateway", "gw", "foo",                           \
		 "{listeners: [{name: l, port: 80, protocol: HTTP}]}")
#define GRANT(from, to)                                                                            \
	RESOURCE("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "g", "bar",                \
		 "{from: [{" from "}], to: [{" to "}]}")
#define FROM "group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: foo"
#define TO "group: '', kind: Service"

Test(istio, a_grant_is_of_groups_and_kinds)
{
	static const struct {
		const char *grant;
		bool want;
	} cases[] = {
	    {GRANT(FROM, TO), true},
	    {GRANT(FROM, "kind: Service"), true},
	    {GRANT(FROM, TO ", name: far"), true},
	    {GRANT(FROM, TO ", name: near"), false},
	    {GRANT("group: example.com, kind: HTTPRoute, namespace: foo", TO), false},
	    {GRANT("kind: HTTPRoute, namespace: foo", TO), false},
	    {GRANT("group: gateway.networking.k8s.io, kind: TCPRoute, namespace: foo", TO), false},
	    {GRANT("group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: baz", TO), false},
	    {GRANT(FROM, "group: example.com, kind: Service"), false},
	    {GRANT(FROM, "group: '', kind: Secret"), false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_strbuf yaml = {0};
		struct loaded l;

		flat_strbuf_puts(&yaml,
				 WEB("") SERVICE("far", "bar", "{ports: [{port: 80, name: http}]}")
				     GATE ROUTE("r", "foo",
						"{parentRefs: [{name: gw}], rules: [{backendRefs: "
						"[{name: far, namespace: bar, port: 80}]}]}"));
		flat_strbuf_puts(&yaml, cases[i].grant);
		l = load_good(flat_strbuf_str(&yaml));
		cr_expect_eq(flat_mesh_virtual(l.mesh, 0)->routes[0].n_destinations, cases[i].want,
			     "%zu", i);
		loaded_fini(&l);
		flat_strbuf_fini(&yaml);
	}
}

#define FILTERS(filters)                                                                           \
	WEB("")                                                                                    \
	ROUTE("r", "foo",                                                                          \
	      "{parentRefs: [{group: '', kind: Service, name: web}], rules: [{filters: [" filters  \
	      "], backendRefs: [{name: web, port: 80}]}]}")
#define SET(list) "{type: RequestHeaderModifier, requestHeaderModifier: {set: [" list "]}}"
#define REMOVE(list) "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [" list "]}}"

/* Nothing that a filter says is left out in silence. */
Test(istio, filters_are_what_their_types_say)
{
	static const struct {
		const char *yaml;
		int ret;
		const char *said; /* NULL: the rule answers 500 */
	} cases[] = {
	    {FILTERS(SET("{name: a, value: b}")), 0, ""},
	    {FILTERS("{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, "
		     "replaceFullPath: /a}}}"),
	     0, ""},
	    {FILTERS("{type: URLRewrite}"), -EINVAL, "a filter whose type and field differ"},
	    {FILTERS("{urlRewrite: {hostname: a.example}}"), -EINVAL,
	     "a filter whose type and field differ"},
	    {FILTERS("{type: URLRewrite, requestRedirect: {scheme: https}}"), -EINVAL,
	     "a filter whose type and field differ"},
	    {FILTERS("{type: CORS, cors: {}, urlRewrite: {hostname: a.example}}"), -EINVAL,
	     "a filter whose type and field differ"},
	    {FILTERS(REMOVE("a, b, c") ", " REMOVE("d")), -EINVAL,
	     "a second filter of type RequestHeaderModifier"},
	    {FILTERS("{type: Later}"), 0, NULL},
	    {FILTERS("{type: ExternalAuth, externalAuth: {protocol: HTTP}}"), 0, NULL},
	    {FILTERS("{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}"), 0, NULL},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);

		cr_expect_eq(l.ret, cases[i].ret, "%zu: %s", i, loaded_text(&l));
		if (l.mesh && cases[i].said)
			cr_expect_null(flat_mesh_virtual(l.mesh, 0)->routes[0].direct, "%zu", i);
		if (cases[i].said)
			cr_expect(strstr(loaded_text(&l), cases[i].said), "%zu: %s", i,
				  loaded_text(&l));
		else if (l.mesh)
			cr_expect_eq(flat_mesh_virtual(l.mesh, 0)->routes[0].direct->status, 500);
		loaded_fini(&l);
	}
}

/* Gateway API, HTTPHeaderFilter: of equal names the first, in whatever case. */
Test(istio, of_several_changes_of_one_header_the_first_counts)
{
	struct loaded l =
	    load_good(FILTERS(SET("{name: X-A, value: one}, {name: x-b, value: two}, {name: x-a, "
				  "value: three}")));
	const struct flat_header_ops *o = &flat_mesh_virtual(l.mesh, 0)->routes[0].request;

	cr_assert_eq(o->n_set, 2);
	cr_expect_str_eq(o->set[0].value, "one");
	cr_expect_str_eq(o->set[1].value, "two");
	loaded_fini(&l);
}

/* A list that is too long is an error, not a match of everything, or a header that stays. */
Test(istio, lists_that_are_too_long_are_refused)
{
	static const char *const forms[][2] = {
	    {"matches: [{headers: [", "]}]"},
	    {"filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [", "]}}]"},
	    {"filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [", "]}}]"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(forms); i++) {
		struct flat_strbuf yaml = {0};
		struct loaded l;

		flat_strbuf_printf(
		    &yaml,
		    WEB("") "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
			    "metadata: {name: r, namespace: foo}\nspec: {parentRefs: [{group: '', "
			    "kind: Service, name: web}], rules: [{%s",
		    forms[i][0]);
		for (unsigned k = 0; k < 101; k++) {
			if (i < 2)
				flat_strbuf_printf(&yaml, "{name: x%u, value: y}, ", k);
			else
				flat_strbuf_printf(&yaml, "x%u, ", k);
		}
		flat_strbuf_printf(&yaml, "%s, backendRefs: [{name: web, port: 80}]}]}\n",
				   forms[i][1]);
		l = load_yaml(flat_strbuf_str(&yaml));
		cr_expect_eq(l.ret, -EINVAL, "%zu", i);
		cr_expect(strstr(loaded_text(&l), "100"), "%zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
		flat_strbuf_fini(&yaml);
	}
}

#define POLICY(rules)                                                                              \
	RESOURCE("security.istio.io/v1", "AuthorizationPolicy", "p", "foo",                        \
		 "{action: DENY, rules: [" rules "]}")
#define PATHS(paths) POLICY("{to: [{operation: {paths: [" paths "]}}]}")
#define NOTHING "no request's path is like"

/* A path that no request has matches nothing: said, because a rule that denies is then none. */
Test(istio, paths_that_no_request_has_are_said)
{
	static const struct {
		const char *yaml, *said; /* "": nothing */
	} cases[] = {
	    {PATHS("/a, '/a/*', '*.txt', '*', '/a/{*}/b', '/.git*', '/a.', '/%41%2e'"), ""},
	    {PATHS("'/a?b=c'"), NOTHING},
	    {PATHS("'/a//b'"), NOTHING},
	    {PATHS("'/a/../b'"), NOTHING},
	    {PATHS("'/a/..'"), NOTHING},
	    {PATHS("'/a/./*'"), NOTHING},
	    {PATHS("'/a%2Fb'"), NOTHING},
	    {PATHS("'/a\\b'"), NOTHING},
	    {PATHS("admin"), NOTHING},
	    {PATHS("'/a//{*}'"), NOTHING},
	    {VIRTUAL("v", "foo",
		     "{hosts: [a.example], http: [{match: [{uri: {prefix: '/a?b'}}], "
		     "directResponse: {status: 200}}]}"),
	     NOTHING},
	    {VIRTUAL("v", "foo",
		     "{hosts: [a.example], http: [{match: [{uri: {prefix: '/a/.'}}], "
		     "directResponse: {status: 200}}]}"),
	     ""},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);

		if (*cases[i].said)
			cr_expect(strstr(loaded_text(&l), cases[i].said), "%zu: %s", i,
				  loaded_text(&l));
		else
			cr_expect_null(strstr(loaded_text(&l), NOTHING), "%zu: %s", i,
				       loaded_text(&l));
		loaded_fini(&l);
	}
}

/* SPIFFE's tokens name their subject so; principals of connections are written without scheme. */
Test(istio, only_principals_are_without_scheme)
{
	static const struct {
		const char *yaml;
		int ret;
	} cases[] = {
	    {POLICY("{when: [{key: 'request.auth.claims[sub]', values: ['spiffe://a/b']}]}"), 0},
	    {POLICY("{when: [{key: 'request.headers[x-id]', values: ['spiffe://a/b']}]}"), 0},
	    {POLICY("{when: [{key: source.principal, values: ['spiffe://a/b']}]}"), -EINVAL},
	    {POLICY("{from: [{source: {notPrincipals: ['spiffe://a/b']}}]}"), -EINVAL},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);

		cr_expect_eq(l.ret, cases[i].ret, "%zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
	}
}

#define CLIENT(name, namespace, labels)                                                            \
	"---\napiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: " name              \
	", namespace: " namespace ", labels: {" labels                                             \
				  "}}\nspec: {selectors: [{executable: /" name "}]}\n"

/* workloadSelector: of the client's namespace one that selects it, else the one for all; in other namespaces it selects nobody. */
Test(istio, a_rule_for_some_workloads_is_for_these)
{
#define FOR(name, namespace, labels)                                                               \
	RULE(name, namespace,                                                                      \
	     "{host: web.foo.svc.cluster.local, workloadSelector: {matchLabels: {" labels "}}}")
	static const struct {
		const char *namespace, *client, *want;
	} cases[] = {
	    {"shop", "a", "of-a"},   {"shop", "b", "of-all"}, {"bank", "c", "of-all-else"},
	    {"foo", "d", "of-tier"}, {"foo", "e", "of-foo"},  {"none", "f", "of-foo"},
	};
	struct loaded l = load_good(
	    WEB("") CLIENT("a", "shop", "app: a, x: y") CLIENT("b", "shop", "app: b")
		CLIENT("c", "bank", "app: a") CLIENT("d", "foo", "tier: t")
		    CLIENT("e", "foo", "app: a") CLIENT("f", "none", "tier: t")
			RULE("of-all", "shop", "{host: web.foo.svc.cluster.local}")
			    FOR("of-a", "shop", "app: a") FOR("of-b-z", "shop", "app: b, z: z") FOR(
				"of-tier", "foo", "tier: t") RULE("of-foo", "foo", "{host: web}")
				RULE("of-all-else", "bank",
				     "{host: web.foo.svc.cluster.local, workloadSelector: {}}"));
	const struct flat_service *s = flat_mesh_service_by_host(l.mesh, "web.foo", NULL);

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		const struct flat_workload *w =
		    flat_mesh_workload_by_name(l.mesh, cases[i].namespace, cases[i].client);
		const struct flat_destination_rule *r = flat_mesh_rule_of(l.mesh, s, w);

		cr_assert_not_null(w);
		cr_assert_not_null(r, "%s", cases[i].client);
		cr_expect_str_eq(r->name, cases[i].want, "%s", cases[i].client);
	}
	cr_expect_str_eq(flat_mesh_rule_of(l.mesh, s, NULL)->name, "of-foo");
	cr_expect_null(strstr(loaded_text(&l), "not honoured"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

/* A subset that only some clients have is none that nobody has; one of another service is. */
Test(istio, subsets_of_rules_for_some_workloads_are_known)
{
#define SOME(host, subset)                                                                         \
	WEB("")                                                                                    \
	ENTRY("other", "foo",                                                                      \
	      "{hosts: [other.example], resolution: STATIC, ports: [{number: 80, name: "           \
	      "http}], endpoints: [{address: 10.0.0.1}]}")                                         \
	RULE("some", "foo",                                                                        \
	     "{host: " host ", subsets: [{name: " subset                                           \
	     "}], workloadSelector: {matchLabels: {app: a}}}")                                     \
	VIRTUAL("v", "foo",                                                                        \
		"{hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}")
/* Of a namespace whose clients alone see it, as of the workloads of a Gateway there. */
#define PRIVATE(subset)                                                                            \
	WEB("")                                                                                    \
	RULE("some", "edge",                                                                       \
	     "{host: web.foo.svc.cluster.local, exportTo: [.], subsets: [{name: " subset "}]}")    \
	VIRTUAL("v", "foo",                                                                        \
		"{hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}")
	static const struct {
		const char *yaml;
		bool known;
	} cases[] = {
	    {SOME("web", "v1"), true},
	    {SOME("web", "v2"), false},
	    {SOME("other.example", "v1"), false},
	    {PRIVATE("v1"), true},
	    {PRIVATE("v2"), false},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);
		bool known = !strstr(loaded_text(&l), "has no subset \"v1\"");

		cr_expect_eq(known, cases[i].known, "%zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
	}
}

/* Two for the same workloads are one, two for others are two. */
Test(istio, rules_are_joined_for_the_same_workloads)
{
#define PART(name, subset, labels)                                                                 \
	RULE(name, "shop",                                                                         \
	     "{host: web.foo.svc.cluster.local, subsets: [{name: " subset                          \
	     "}], workloadSelector: {matchLabels: {" labels "}}}")
	struct loaded l =
	    load_good(WEB("") CLIENT("a", "shop", "app: a") CLIENT("b", "shop", "app: b") PART(
		"one", "v1", "app: a") PART("two", "v2", "app: b") PART("three", "v3", "app: a"));
	const struct flat_service *s = flat_mesh_service_by_host(l.mesh, "web.foo", NULL);
	const struct flat_destination_rule *a =
	    flat_mesh_rule_of(l.mesh, s, flat_mesh_workload_by_name(l.mesh, "shop", "a"));
	const struct flat_destination_rule *b =
	    flat_mesh_rule_of(l.mesh, s, flat_mesh_workload_by_name(l.mesh, "shop", "b"));

	cr_assert(a && b);
	cr_expect_not_null(flat_rule_subset(a, "v1"));
	cr_expect_not_null(flat_rule_subset(a, "v3"));
	cr_expect_null(flat_rule_subset(a, "v2"));
	cr_expect_not_null(flat_rule_subset(b, "v2"));
	cr_expect_null(flat_rule_subset(b, "v1"));
	loaded_fini(&l);
}

/* What the API has and we have not is said, and does not keep the rest from holding. */
Test(istio, fields_without_effect_are_warnings)
{
#define TRAFFIC(fields)                                                                            \
	RULE("r", "foo", "{host: web.foo.svc.cluster.local, trafficPolicy: " fields "}")
	static const struct {
		const char *yaml, *field;
	} cases[] = {
	    {TRAFFIC("{loadBalancer: {zoneAwareLbSetting: {enabled: true}}}"),
	     "zoneAwareLbSetting"},
	    {TRAFFIC("{loadBalancer: {simple: RANDOM, backendUtilization: {}}}"),
	     "backendUtilization"},
	    {TRAFFIC("{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}"),
	     "http2KeepAlive"},
	    {TRAFFIC("{outlierDetection: {outlierDetectionHttpErrorCodes: ['500']}}"),
	     "outlierDetectionHttpErrorCodes"},
	    {TRAFFIC("{retryBudget: {percent: 10, budgetInterval: 10s}}"), "budgetInterval"},
	    {TRAFFIC("{tls: {mode: ISTIO_MUTUAL, sni: a.example}}"), "ISTIO_MUTUAL"},
	    {TRAFFIC("{tls: {mode: DISABLE, sni: a.example}}"), "DISABLE"},
	    {TRAFFIC("{tls: {mode: SIMPLE, clientCertificate: /a, privateKey: /b}}"), "SIMPLE"},
	    {RESOURCE(
		 "networking.istio.io/v1", "Gateway", "g", "foo",
		 "{selector: {a: b}, servers: [{port: {number: 443, name: a, protocol: HTTPS}, "
		 "hosts: ['*'], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k, "
		 "ecdhCurves: [P-256]}}]}"),
	     "ecdhCurves"},
	    {RESOURCE("telemetry.istio.io/v1", "Telemetry", "t", "foo",
		      "{tracing: [{disableContextPropagation: true}]}"),
	     "disableContextPropagation"},
	    {RESOURCE("extensions.istio.io/v1alpha1", "TrafficExtension", "t", "foo", "{}"),
	     "TrafficExtension"},
	    {RESOURCE("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "t",
		      "foo", "{}"),
	     "ValidatingWebhookConfiguration"},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[2048];
		snprintf(yaml, sizeof(yaml), "%s%s",
			 SERVICE("web", "foo", "{ports: [{port: 80, name: http}]}"), cases[i].yaml);
		struct loaded l = load_good(yaml);
		cr_expect_eq(l.diags.n_warnings, 1, "%s: %s", cases[i].field, loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), cases[i].field), "%s: %s", cases[i].field,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* Kubernetes, "Labels and Selectors"; Gateway API, RouteNamespaces. */
Test(istio, listeners_choose_namespaces_by_any_selector)
{
	static const struct {
		const char *selector, *labels;
		bool taken;
	} cases[] = {
	    {"{matchLabels: {a: b}}", "{a: b, c: d}", true},
	    {"{matchLabels: {a: b, c: e}}", "{a: b, c: d}", false},
	    {"{matchLabels: {a: ''}}", "{a: ''}", true},
	    {"{}", "{}", true},
	    {"{matchLabels: {}}", "{}", true},
	    {"null", "{a: b}", false},
	    {"{matchExpressions: [{key: a, operator: In, values: [b, c]}]}", "{a: c}", true},
	    {"{matchExpressions: [{key: a, operator: In, values: [b, c]}]}", "{a: d}", false},
	    {"{matchExpressions: [{key: a, operator: In, values: [b, c]}]}", "{}", false},
	    {"{matchExpressions: [{key: a, operator: NotIn, values: [b]}]}", "{a: b}", false},
	    {"{matchExpressions: [{key: a, operator: NotIn, values: [b]}]}", "{a: c}", true},
	    {"{matchExpressions: [{key: a, operator: NotIn, values: [b]}]}", "{}", true},
	    {"{matchExpressions: [{key: a, operator: Exists}]}", "{a: ''}", true},
	    {"{matchExpressions: [{key: a, operator: Exists}]}", "{b: a}", false},
	    {"{matchExpressions: [{key: a, operator: DoesNotExist}]}", "{b: a}", true},
	    {"{matchExpressions: [{key: a, operator: DoesNotExist, values: []}]}", "{a: b}", false},
	    {"{matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}", "{a: b}",
	     false},
	    {"{matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}",
	     "{a: b, c: d}", true},
	    {"{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: "
	     "[foo]}]}",
	     "{}", true},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[2048];
		snprintf(
		    yaml, sizeof(yaml),
		    "apiVersion: v1\nkind: Namespace\nmetadata: {name: foo, labels: %s}\n"
		    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: "
		    "{name: g, namespace: edge}\nspec: {gatewayClassName: c, listeners: [{name: "
		    "l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, "
		    "selector: %s}}}]}\n%s%s",
		    cases[i].labels, cases[i].selector,
		    SERVICE("web", "foo", "{ports: [{port: 80, name: http}]}"),
		    ROUTE("r", "foo",
			  "{parentRefs: [{name: g, namespace: edge}], rules: [{backendRefs: "
			  "[{name: web, port: 80}]}]}"));
		struct loaded l = load_good(yaml);
		bool taken = !strstr(loaded_text(&l), "no listener of Gateway \"g\" takes this");
		cr_expect_eq(taken, cases[i].taken, "%s of %s: %s", cases[i].selector,
			     cases[i].labels, loaded_text(&l));
		loaded_fini(&l);
	}
}

Test(istio, selectors_that_ask_nothing_are_refused)
{
	static const char *const cases[][2] = {
	    {"{key: a, operator: In}", "operator In needs values"},
	    {"{key: a, operator: NotIn, values: []}", "operator NotIn needs values"},
	    {"{key: a, operator: Exists, values: [b]}", "operator Exists takes no values"},
	    {"{key: a, operator: Gt, values: [b]}", "\"Gt\" is not one of In, NotIn"},
	    {"{operator: Exists}", "needs a key and an operator"},
	    {"{key: a}", "needs a key and an operator"},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[1024];
		snprintf(
		    yaml, sizeof(yaml),
		    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: "
		    "{name: g, namespace: edge}\nspec: {gatewayClassName: c, listeners: [{name: "
		    "l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, "
		    "selector: {matchExpressions: [%s]}}}}]}\n",
		    cases[i][0]);
		struct loaded l = load_yaml(yaml);
		cr_expect_eq(l.ret, -EINVAL, "%s", cases[i][0]);
		cr_expect(strstr(loaded_text(&l), cases[i][1]), "%s: %s", cases[i][0],
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* A port that says no protocol is TCP: routes of requests to it are not left out in silence. */
Test(istio, http_routes_of_a_service_without_http_are_said)
{
#define PORTS(ports, more)                                                                         \
	SERVICE("web", "foo", "{ports: [" ports "]}")                                              \
	VIRTUAL("v", "foo", "{hosts: [web], " more ANSWER("204") "}")
	static const struct {
		const char *yaml;
		bool said;
	} cases[] = {
	    {PORTS("{port: 80, name: tcp}", ""), true},
	    {PORTS("{port: 443, name: https}", ""), true},
	    /* Its clients' first bytes say it. */
	    {PORTS("{port: 80}", ""), false},
	    {PORTS("{port: 80, name: http-web}", ""), false},
	    {PORTS("{port: 80, appProtocol: http}", ""), false},
	    {PORTS("{port: 81, name: tcp}, {port: 80, name: grpc}", ""), false},
	    {PORTS("{port: 80, name: tcp}", "gateways: [g], "), false},
	    {PORTS("{port: 80, name: tcp}", "gateways: [g, mesh], "), true},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);
		bool said = strstr(loaded_text(&l), "no port of web.foo.svc.cluster.local is HTTP");

		cr_expect_eq(said, cases[i].said, "%zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
	}
}

/* The longest form is Istio's older one. */
Test(istio, gateways_are_named_in_several_ways)
{
	static const struct {
		const char *name, *want;
	} cases[] = {{"g", "foo/g"},
		     {"bar/g", "bar/g"},
		     {"g.bar", "bar/g"},
		     {"g.bar.svc.cluster.local", "bar/g"}};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[1024];
		struct loaded l;

		snprintf(
		    yaml, sizeof(yaml),
		    VIRTUAL("v", "foo", "{hosts: [a.example], gateways: [%s], " ANSWER("201") "}"),
		    cases[i].name);
		l = load_good(yaml);
		cr_expect_str_eq(flat_mesh_virtual(l.mesh, 0)->gateways[0], cases[i].want);
		loaded_fini(&l);
	}
}

Test(istio, a_host_that_requests_are_sent_with_may_have_a_port)
{
	static const struct {
		const char *host, *want; /* NULL: refused */
	} cases[] = {
	    {"B.example", "b.example"},	    {"B.example:8080", "b.example:8080"},
	    {"10.0.0.1:80", "10.0.0.1:80"}, {"b.example:0", NULL},
	    {"b.example:65536", NULL},	    {"b.example:", NULL},
	    {"b.example:8x", NULL},	    {"b_x.example:80", NULL},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		const struct flat_http_route *r;
		char yaml[1024];
		struct loaded l;

		snprintf(
		    yaml, sizeof(yaml),
		    VIRTUAL("v", "foo",
			    "{hosts: [a.example], http: [{rewrite: {authority: '%s'}, headers: "
			    "{request: {set: {host: '%s'}}}, route: [{destination: {host: a}}]}]}"),
		    cases[i].host, cases[i].host);
		l = load_yaml(yaml);
		cr_assert_eq(l.ret == 0, cases[i].want != NULL, "%s: %s", cases[i].host,
			     loaded_text(&l));
		r = l.mesh ? flat_mesh_virtual(l.mesh, 0)->routes : NULL;
		if (r) {
			cr_expect_str_eq(r->rewrite->authority, cases[i].want);
			cr_expect_str_eq(r->request.authority, cases[i].want);
		}
		loaded_fini(&l);
	}
}

/* An empty list names none; of what a match names a gateway asks for the port alone. */
Test(istio, matches_of_connections_hold_at_the_gateways_of_their_virtual_service)
{
	struct loaded l = load_good(VIRTUAL(
	    "v", "foo",
	    "{hosts: [a.example], gateways: [g], tcp: [{match: [{gateways: []}, {sourceLabels: {a: "
	    "b}, sourceNamespace: c, destinationSubnets: [10.1.2.3]}, {port: 81}, {gateways: "
	    "[h]}], route: [{destination: {host: a}}]}]}"));
	const struct flat_l4_match *m = flat_mesh_virtual(l.mesh, 0)->tcp[0].matches;
	const struct flat_gateway g = {.name = "g", .namespace = "foo"};
	const struct flat_l4_question at = {.port = 80, .gateway = &g};
	const struct flat_l4_question in_mesh = {.port = 80};

	cr_expect(flat_l4_match(&m[0], &at));
	cr_expect(flat_l4_match(&m[1], &at));
	cr_expect_not(flat_l4_match(&m[1], &in_mesh));
	cr_expect_not(flat_l4_match(&m[2], &at));
	cr_expect_not(flat_l4_match(&m[3], &at));
	loaded_fini(&l);
}

/* A port's settings have no retry budget: the rule's stays where a subset has such. */
Test(istio, a_subset_keeps_the_retry_budget_of_its_rule)
{
	struct loaded l = load_good(WEB("") RULE(
	    "web", "foo",
	    "{host: web, trafficPolicy: {retryBudget: {percent: 30}, portLevelSettings: "
	    "[{port: {number: 81}}]}, subsets: [{name: a, trafficPolicy: {portLevelSettings: "
	    "[{port: "
	    "{number: 80}}]}}, {name: b, trafficPolicy: {retryBudget: {percent: 40}, "
	    "portLevelSettings: [{port: {number: 80}}]}}, {name: c, trafficPolicy: {retryBudget: "
	    "{percent: 40}}}]}"));
	const struct flat_destination_rule *r = flat_mesh_rule(l.mesh, 0);
	const struct flat_service s = {.ports = NULL};
	static const struct {
		int subset; /* -1: none */
		uint16_t port;
		uint32_t want; /* 0: none */
	} cases[] = {{-1, 80, 300000}, {-1, 81, 0},	{0, 80, 300000},
		     {0, 81, 0},       {1, 80, 300000}, {2, 80, 400000}};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		const struct flat_service_port port = {.number = cases[i].port};
		const struct flat_subset *subset =
		    cases[i].subset < 0 ? NULL : &r->subsets[cases[i].subset];
		const struct flat_retry_budget *b = flat_rule_traffic(r, subset, &s, &port).budget;

		cr_expect_eq(b ? b->percent : 0, cases[i].want, "%zu", i);
	}
	loaded_fini(&l);
}
