/* Gateway API's HTTPRoute for Services: matches in the order of the specification, filters, grants. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "mesh/gateway.h"
#include "mesh/l4_route.h"
#include "mesh/route.h"
#include "mesh/scope.h"
#include "support_mesh.h"

#define BASE                                                                                       \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: foo}\n"                   \
	"spec: {ports: [{port: 80, name: http}, {port: 81, name: http-b}]}\n"                      \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: bar}\n"              \
	"spec: {ports: [{port: 80, name: http}]}\n"
#define ROUTE(name, namespace, spec)                                                               \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " name   \
	", namespace: " namespace "}\nspec: " spec "\n"
#define WEB "parentRefs: [{group: '', kind: Service, name: web}]"

static const struct flat_http_route *route_of(const struct loaded *l, const char *path,
					      const char *method, uint16_t port,
					      const char *namespace)
{
	static struct flat_http_head head;
	static struct flat_http_request request;
	struct flat_route_question q = {.request = &request, .port = port};
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "web.foo", NULL);
	const struct flat_virtual_service *vs =
	    virtual_for(l->mesh, namespace, flat_span_of(s->host), s);
	const struct flat_http_match *match;

	request = (struct flat_http_request){.head = &head, .text = ""};
	request.path = flat_span_of(path);
	request.method = flat_span_of(method);
	return vs ? flat_route_find(vs, &q, &match) : NULL;
}

static const char *name_of(const struct loaded *l, const char *path, const char *method)
{
	const struct flat_http_route *r = route_of(l, path, method, 80, "foo");

	return r ? r->name : "-";
}

Test(http_route, the_more_specific_match_wins)
{
	struct loaded l = load_good(BASE ROUTE(
	    "r", "foo",
	    "{" WEB ", rules: [{name: all, backendRefs: [{name: web, port: 80}]}, "
	    "{name: regex, matches: [{path: {type: RegularExpression, value: '/a/.*'}}], "
	    "backendRefs: [{name: web}]}, "
	    "{name: short, matches: [{path: {value: /a}}], backendRefs: [{name: web}]}, "
	    "{name: long, matches: [{path: {value: /a/b/}}], backendRefs: [{name: web}]}, "
	    "{name: method, matches: [{path: {value: /a}, method: PUT}], backendRefs: [{name: "
	    "web}]}, "
	    "{name: exact, matches: [{path: {type: Exact, value: /a/b}}], backendRefs: [{name: "
	    "web}]}]}"));

	cr_expect_str_eq(name_of(&l, "/a/b", "GET"), "exact");
	cr_expect_str_eq(name_of(&l, "/a/b/c", "GET"), "long");
	cr_expect_str_eq(name_of(&l, "/a/b/", "GET"), "long");
	cr_expect_str_eq(name_of(&l, "/a/x", "GET"), "short");
	cr_expect_str_eq(name_of(&l, "/a", "GET"), "short");
	cr_expect_str_eq(name_of(&l, "/a/x", "PUT"), "method");
	/* Whole segments: "/ab" is not below "/a". */
	cr_expect_str_eq(name_of(&l, "/ab", "GET"), "all");
	loaded_fini(&l);
}

Test(http_route, several_routes_of_a_service_are_one)
{
	struct loaded l = load_good(
	    BASE ROUTE("one", "foo",
		       "{" WEB ", rules: [{name: a, matches: [{path: {value: /}}], backendRefs: "
		       "[{name: web}]}]}") ROUTE("two", "foo",
						 "{parentRefs: [{group: '', kind: Service, name: "
						 "web, port: 81}], rules: [{name: b, matches: "
						 "[{path: {value: /b}}], backendRefs: [{name: "
						 "web}]}]}"));

	cr_expect_str_eq(name_of(&l, "/b", "GET"), "a");
	cr_expect_str_eq(route_of(&l, "/b", "GET", 81, "foo")->name, "b");
	loaded_fini(&l);
}

/* Of equal matches the older route's wins, then the first by NAMESPACE/NAME, within a route the first; not the first of the files. */
static const struct {
	const char *first, *second; /* metadata of two routes, in the order of the files */
	const char *want;
} ages[] = {
    {"name: b", "name: a", "a"},
    {"name: a", "name: b", "a"},
    {"name: a, creationTimestamp: '2026-01-02T00:00:00Z'",
     "name: b, creationTimestamp: '2026-01-01T23:59:59Z'", "b"},
    {"name: b, creationTimestamp: 2026-01-02T00:00:00Z",
     "name: a, creationTimestamp: 2026-01-02T00:00:00Z", "a"},
    {"name: a", "name: b, creationTimestamp: '2026-01-02T00:00:00Z'", "b"},
    {"name: a, creationTimestamp: yesterday", "name: b, creationTimestamp: '2026-01-02T00:00:00Z'",
     "b"},
    {"name: b, creationTimestamp: null", "name: a", "a"},
};

Test(http_route, of_equal_matches_the_older_route_wins_then_its_name)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ages); i++) {
		char yaml[2000];
		struct loaded l;

		snprintf(yaml, sizeof(yaml),
			 BASE "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
			      "metadata: {%s, namespace: foo}\nspec: {" WEB
			      ", rules: [{backendRefs: [{name: web}]}]}\n"
			      "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
			      "metadata: {%s, namespace: foo}\nspec: {" WEB
			      ", rules: [{backendRefs: [{name: web}]}]}\n",
			 ages[i].first, ages[i].second);
		l = load_good(yaml);
		cr_expect_str_eq(name_of(&l, "/", "GET"), ages[i].want, "%s, %s", ages[i].first,
				 ages[i].second);
		loaded_fini(&l);
	}
}

/* A route for another namespace's Service is for its own clients. */
Test(http_route, a_consumer_has_its_own)
{
	struct loaded l = load_good(
	    BASE ROUTE("mine", "bar",
		       "{parentRefs: [{group: '', kind: Service, name: web, namespace: foo}], "
		       "rules: [{name: mine, backendRefs: [{name: far}]}]}")
		ROUTE("all", "foo", "{" WEB ", rules: [{name: all, backendRefs: [{name: web}]}]}"));

	cr_expect_str_eq(route_of(&l, "/", "GET", 80, "bar")->name, "mine");
	cr_expect_str_eq(route_of(&l, "/", "GET", 80, "foo")->name, "all");
	loaded_fini(&l);
}

Test(http_route, filters_are_read)
{
	struct loaded l = load_good(BASE ROUTE(
	    "r", "foo",
	    "{" WEB ", rules: [{timeouts: {request: 5s, backendRequest: 1s}, filters: "
	    "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], "
	    "remove: [c]}}, {type: URLRewrite, urlRewrite: {hostname: x.example, path: {type: "
	    "ReplacePrefixMatch, replacePrefixMatch: /y}}}], backendRefs: [{name: web, weight: 3}, "
	    "{name: web, port: 81}]}, {matches: [{path: {value: /old}}], filters: [{type: "
	    "RequestRedirect, requestRedirect: {scheme: https}}]}]}"));
	const struct flat_http_route *r = route_of(&l, "/", "GET", 80, "foo");

	cr_assert(r);
	cr_expect_eq(r->timeout_ms, 5000);
	cr_expect_eq(r->retries->per_try_ms, 1000);
	cr_expect_eq(r->request.n_set, 1);
	cr_expect_str_eq(r->request.remove[0], "c");
	cr_expect_str_eq(r->rewrite->authority, "x.example");
	cr_expect_str_eq(r->rewrite->uri, "/y");
	cr_expect_eq(r->weight, 4);
	r = route_of(&l, "/old/x", "GET", 80, "foo");
	cr_assert(r && r->redirect);
	cr_expect_eq(r->redirect->status, 302);
	cr_expect_eq(r->redirect->port, 443);
	loaded_fini(&l);
}

Test(http_route, retries_and_CORS_are_read)
{
	struct loaded l = load_good(BASE ROUTE(
	    "r", "foo",
	    "{" WEB ", rules: [{retry: {attempts: 4, backoff: 100ms, codes: [500, 503]}, timeouts: "
	    "{backendRequest: 1s}, filters: [{type: CORS, cors: {allowOrigins: "
	    "['https://*.a.example', "
	    "'http://b.example'], allowMethods: [GET, PUT], allowHeaders: ['*'], exposeHeaders: "
	    "[x], "
	    "allowCredentials: true}}], backendRefs: [{name: web}]}]}"));
	const struct flat_http_route *r = route_of(&l, "/", "GET", 80, "foo");

	cr_assert(r && r->retries && r->cors);
	cr_expect_eq(r->retries->attempts, 4);
	cr_expect_eq(r->retries->backoff_ms, 100);
	cr_expect_eq(r->retries->per_try_ms, 1000);
	cr_expect_eq(r->retries->on, FLAT_RETRY_DEFAULT | FLAT_RETRY_STATUS);
	cr_expect_eq(r->retries->n_statuses, 2);
	cr_expect(flat_text_matches(&r->cors->origins[0], flat_span_of("https://x.y.a.example")));
	cr_expect_not(flat_text_matches(&r->cors->origins[0], flat_span_of("https://a.example")));
	cr_expect_not(flat_text_matches(&r->cors->origins[0], flat_span_of("https://x.aaexample")));
	cr_expect_not(
	    flat_text_matches(&r->cors->origins[0], flat_span_of("https://b/.a.example")));
	cr_expect(flat_text_matches(&r->cors->origins[1], flat_span_of("http://b.example")));
	cr_expect_str_eq(r->cors->methods, "GET,PUT");
	cr_expect_str_eq(r->cors->headers, "*");
	cr_expect(r->cors->credentials && r->cors->echo);
	cr_expect_str_eq(r->cors->max_age, "5");
	loaded_fini(&l);
}

/* A route to another namespace, of a Service and of a Gateway: what it answers there; in the mesh it always leads there (GEP-1294). */
static unsigned far_status(const char *grant)
{
	char yaml[2000];
	struct loaded l;
	const struct flat_http_route *r;
	const struct flat_gateway *g;
	unsigned status;

	snprintf(
	    yaml, sizeof(yaml), "%s%s",
	    BASE
	    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw, "
	    "namespace: foo}\nspec: {listeners: [{name: l, port: 80, protocol: HTTP}]}\n" ROUTE(
		"r", "foo",
		"{parentRefs: [{name: gw}, {group: '', kind: Service, name: web}], "
		"rules: [{backendRefs: [{name: far, namespace: bar, port: 80}]}]}"),
	    grant);
	l = load_good(yaml);
	r = route_of(&l, "/", "GET", 80, "foo");
	cr_assert(r);
	cr_expect(!r->direct);
	cr_assert_eq(r->n_destinations, 1);
	cr_expect_str_eq(r->destinations[0].host, "far.bar.svc.cluster.local");
	g = flat_mesh_gateway(l.mesh, 0);
	r = flat_gateway_virtual(g, &g->servers[0], flat_span_of("any.example"))->routes;
	status = r->direct ? r->direct->status : 200;
	loaded_fini(&l);
	return status;
}

#define GRANT(namespace, from, to)                                                                 \
	"---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: "     \
	"{name: g, namespace: " namespace "}\nspec: {to: [{group: '', kind: Service" to            \
					  "}], from: [{group: gateway.networking.k8s.io, kind: "   \
					  "HTTPRoute, namespace: " from "}]}\n"

Test(http_route, other_namespaces_permit_it)
{
	cr_expect_eq(far_status(""), 500);
	cr_expect_eq(far_status(GRANT("bar", "foo", "")), 200);
	cr_expect_eq(far_status(GRANT("bar", "foo", ", name: far")), 200);
	cr_expect_eq(far_status(GRANT("bar", "foo", ", name: other")), 500);
	cr_expect_eq(far_status(GRANT("bar", "baz", "")), 500);
	cr_expect_eq(far_status(GRANT("foo", "foo", "")), 500);
}

static unsigned status_of(const char *rule)
{
	char yaml[2000];
	struct loaded l;
	const struct flat_http_route *r;
	unsigned status;

	snprintf(yaml, sizeof(yaml), "%s[%s]}\n", BASE ROUTE("r", "foo", "{" WEB ", rules: "),
		 rule);
	l = load_good(yaml);
	r = route_of(&l, "/", "GET", 80, "foo");
	cr_assert(r);
	status = r->direct ? r->direct->status : 200;
	loaded_fini(&l);
	return status;
}

Test(http_route, what_cannot_be_done_is_no_silence)
{
	cr_expect_eq(status_of("{}"), 500);
	cr_expect_eq(status_of("{backendRefs: [{name: web, weight: 0}]}"), 500);
	cr_expect_eq(status_of("{filters: [{type: ExtensionRef, extensionRef: {name: x}}], "
			       "backendRefs: [{name: web}]}"),
		     500);
	cr_expect_eq(status_of("{backendRefs: [{name: web}]}"), 200);
	cr_expect_eq(status_of("{backendRefs: [{kind: Pod, name: web}]}"), 500);
	cr_expect_eq(status_of("{backendRefs: [{kind: Pod, name: web}, {name: web}]}"), 200);
}

static const struct flat_virtual_service *virtual_at(const struct loaded *l, const char *namespace,
						     uint16_t port)
{
	const struct flat_scope scope = {.mesh = l->mesh, .namespace = namespace, .port = port};
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "web.foo", NULL);

	return flat_mesh_virtual_by_host(&scope, flat_span_of(s->host), s);
}

/* As MeshPorts of the conformance tests: a port that no route names stays the service's own, not one without routes. */
Test(http_route, a_port_that_none_is_for_is_the_services)
{
	struct loaded l = load_good(
	    BASE ROUTE("one", "foo",
		       "{parentRefs: [{group: '', kind: Service, name: web, port: 80}], "
		       "rules: [{backendRefs: [{name: web, port: 80}]}]}")
		ROUTE("two", "bar",
		      "{parentRefs: [{group: '', kind: Service, name: web, namespace: foo, port: "
		      "81}], rules: [{backendRefs: [{name: web, namespace: foo, port: 81}]}]}"));

	cr_assert(virtual_at(&l, "foo", 80));
	cr_expect_str_eq(virtual_at(&l, "foo", 80)->name, "one");
	cr_expect_null(virtual_at(&l, "foo", 81));
	/* A consumer's own, for the ports that it names. */
	cr_assert(virtual_at(&l, "bar", 81));
	cr_expect_str_eq(virtual_at(&l, "bar", 81)->name, "two");
	cr_assert(virtual_at(&l, "bar", 80));
	cr_expect_str_eq(virtual_at(&l, "bar", 80)->name, "one");
	loaded_fini(&l);
}

/* As the API server writes it: it takes what a VirtualService behind it would. */
Test(http_route, without_rules_it_is_one_for_every_path)
{
	struct loaded l = load_good(BASE ROUTE("r", "foo", "{" WEB "}"));
	const struct flat_http_route *route = route_of(&l, "/a", "GET", 80, "foo");

	cr_assert(route);
	cr_assert(route->direct);
	cr_expect_eq(route->direct->status, 500);
	loaded_fini(&l);
	l = load_good(BASE "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\n"
			   "metadata: {name: g, namespace: foo}\nspec: {" WEB "}\n");
	cr_expect_null(route_of(&l, "/a", "GET", 80, "foo"));
	loaded_fini(&l);
}

static const struct {
	const char *yaml, *want;
	bool error;
} said[] = {
    {BASE ROUTE("r", "foo", "{parentRefs: [{name: gw}], rules: [{}]}"),
     "there is no Gateway \"gw\" for this route", false},
    {BASE ROUTE("r", "foo", "{" WEB ", hostnames: [a.b], rules: [{}]}"),
     "field \"hostnames\" is not honoured", false},
    {BASE ROUTE("r", "foo", "{" WEB ", rules: [{matches: [{path: {type: Prefix, value: /}}]}]}"),
     "\"Prefix\" is no type of match", true},
    {BASE ROUTE("r", "foo", "{" WEB ", rules: [{matches: [{path: {value: a}}]}]}"),
     "\"a\" is no path", true},
    {BASE ROUTE("r", "foo", "{" WEB ", rules: [{backendRefs: [{kind: Pod, name: a}]}]}"),
     "a backend of kind \"Pod\" is not honoured: what is for \"a\" fails", false},
    {BASE ROUTE("r", "foo", "{" WEB ", rules: [{backendRefs: [{port: 80}]}]}"),
     "a backend needs a \"name\"", true},
};

Test(http_route, what_is_wrong_is_said)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(said); i++) {
		struct loaded l = load_yaml(said[i].yaml);

		cr_expect_eq(l.ret != 0, said[i].error, "%s", said[i].yaml);
		cr_expect(strstr(loaded_text(&l), said[i].want), "%s\nsaid: %s", said[i].yaml,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* --- GRPCRoute, TCPRoute --- */

#define GRPC_ROUTE(spec)                                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: g, "     \
	"namespace: foo}\nspec: {" WEB ", rules: " spec "}\n"

Test(http_route, grpc_methods_are_paths)
{
	struct loaded l = load_good(BASE GRPC_ROUTE(
	    "[{name: rest, backendRefs: [{name: web, port: 80}]}, "
	    "{name: any-list, matches: [{method: {method: List}}], backendRefs: [{name: web}]}, "
	    "{name: service, matches: [{method: {service: a.b.C}}], backendRefs: [{name: web}]}, "
	    "{name: both, matches: [{method: {service: a.b.C, method: Get}}], backendRefs: [{name: "
	    "web}]}, "
	    "{name: regex, matches: [{method: {type: RegularExpression, service: 'x[.].*', method: "
	    "'Get|Put'}}], backendRefs: [{name: web}]}]"));

	cr_expect_str_eq(name_of(&l, "/a.b.C/Get", "POST"), "both");
	cr_expect_str_eq(name_of(&l, "/a.b.C/Put", "POST"), "service");
	cr_expect_str_eq(name_of(&l, "/a.b.C", "POST"), "rest");
	cr_expect_str_eq(name_of(&l, "/a.b.CD/Put", "POST"), "rest");
	cr_expect_str_eq(name_of(&l, "/z/List", "POST"), "any-list");
	cr_expect_str_eq(name_of(&l, "/z/y/List", "POST"), "rest");
	cr_expect_str_eq(name_of(&l, "/x.y/Put", "POST"), "regex");
	cr_expect_str_eq(name_of(&l, "/x.y/PutAll", "POST"), "rest");
	loaded_fini(&l);
}

Test(http_route, what_is_wrong_with_grpc_is_said)
{
	static const char *const cases[][2] = {
	    {GRPC_ROUTE("[{matches: [{method: {service: a/b}}]}]"),
	     "no gRPC service or method has"},
	    {GRPC_ROUTE("[{matches: [{method: {type: Prefix, service: a}}]}]"),
	     "\"Prefix\" is no type of match"},
	    {GRPC_ROUTE("[{matches: [{path: {value: /a}}]}]"), "path"},
	    {GRPC_ROUTE("[{filters: [{urlRewrite: {}}]}]"), "urlRewrite"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_strbuf yaml = {0};
		struct loaded l;

		flat_strbuf_puts(&yaml, BASE);
		flat_strbuf_puts(&yaml, cases[i][0]);
		l = load_yaml(flat_strbuf_str(&yaml));
		cr_expect_neq(l.ret, 0, "%s", cases[i][0]);
		cr_expect(strstr(loaded_text(&l), cases[i][1]), "%s\nsaid: %s", cases[i][0],
			  loaded_text(&l));
		loaded_fini(&l);
		flat_strbuf_fini(&yaml);
	}
}

/* The host that a connection to a port of web is led to, "-": the service itself. */
static const char *led_to(const struct loaded *l, uint16_t port, const char *ip)
{
	struct flat_l4_question q = {.port = port};
	const struct flat_l4_route *r;

	cr_assert_eq(flat_ip_parse(ip, &q.to), 0);
	(void)flat_l4_route_find(l->mesh, flat_mesh_service_by_host(l->mesh, "web.foo", NULL), &q,
				 &r);
	return !r ? "-" : r->n_destinations ? r->destinations[0].host : "nobody";
}

Test(http_route, tls_routes_of_a_service_are_by_name_beside_its_tcp_routes)
{
	struct loaded l = load_good(
	    BASE "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: "
		 "{name: t, namespace: foo}\nspec: {parentRefs: [{group: '', kind: Service, name: "
		 "web, port: 80}], hostnames: [a.example, '*.b.example'], rules: [{backendRefs: "
		 "[{name: web, port: 80}]}]}\n"
		 "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: "
		 "{name: u, namespace: foo}\nspec: {parentRefs: [{group: '', kind: Service, name: "
		 "web, port: 80}], rules: [{backendRefs: [{name: far, namespace: bar, port: "
		 "80}]}]}\n");
	const struct flat_service *web = flat_mesh_service_by_host(l.mesh, "web.foo", NULL);
	struct flat_l4_question q = {.port = 80, .tls = true};
	const struct flat_l4_route *r;

	cr_assert_eq(flat_l4_route_find(l.mesh, web, &q, &r), FLAT_L4_NAME);
	q.sni = "x.b.example";
	cr_assert_eq(flat_l4_route_find(l.mesh, web, &q, &r), FLAT_L4_ROUTE);
	cr_expect_str_eq(r->destinations[0].host, "web.foo.svc.cluster.local");
	q.sni = "c.example";
	cr_assert_eq(flat_l4_route_find(l.mesh, web, &q, &r), FLAT_L4_ROUTE);
	cr_expect_str_eq(r->destinations[0].host, "far.bar.svc.cluster.local");
	cr_expect(!strstr(loaded_text(&l), "already"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

Test(http_route, tcp_routes_of_a_service_are_by_port)
{
	struct loaded l = load_good(
	    BASE "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: "
		 "{name: t, namespace: foo}\nspec: {parentRefs: [{group: '', kind: Service, name: "
		 "web, port: 81}], rules: [{backendRefs: [{name: web, port: 80}]}]}\n"
		 "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: "
		 "{name: u, namespace: foo}\nspec: {parentRefs: [{group: '', kind: Service, name: "
		 "web, port: 80}], rules: [{backendRefs: [{name: far, namespace: bar, port: "
		 "80}]}]}\n");

	cr_expect_str_eq(led_to(&l, 81, "10.0.0.1"), "web.foo.svc.cluster.local");
	/* Without a ReferenceGrant, as no Gateway is in play. */
	cr_expect_str_eq(led_to(&l, 80, "10.0.0.1"), "far.bar.svc.cluster.local");
	cr_expect_str_eq(led_to(&l, 82, "10.0.0.1"), "-");
	loaded_fini(&l);
}

/* --- mirrors --- */

#define MIRROR(rest)                                                                               \
	BASE ROUTE("r", "foo",                                                                     \
		   "{" WEB ", rules: [{filters: [{type: RequestMirror, requestMirror: {" rest      \
		   "}}], backendRefs: [{name: web, port: 80}]}]}")

Test(http_route, a_mirror_has_its_share_of_the_requests)
{
	static const struct {
		const char *yaml;
		uint32_t of_million;
	} v[] = {
	    {MIRROR("backendRef: {name: web, port: 81}"), FLAT_MILLION},
	    {MIRROR("backendRef: {name: web, port: 81}, percent: 42"), 420000},
	    {MIRROR("backendRef: {name: web, port: 81}, percent: 0"), 0},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {numerator: 5}"), 50000},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {numerator: 1, denominator: "
		    "1000}"),
	     1000},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {numerator: 2147483647, "
		    "denominator: 2147483647}"),
	     FLAT_MILLION},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct loaded l = load_good(v[i].yaml);
		const struct flat_http_route *r = route_of(&l, "/", "GET", 80, "foo");

		cr_assert_not_null(r);
		cr_assert_eq(r->n_mirrors, 1);
		cr_expect_eq(r->mirrors[0].of_million, v[i].of_million, "%s", v[i].yaml);
		cr_expect_eq(r->mirrors[0].to.port, 81);
		cr_expect_not_null(r->mirrors[0].to.service);
		loaded_fini(&l);
	}
}

Test(http_route, what_is_no_mirror_is_refused)
{
	static const struct {
		const char *yaml;
		const char *want;
	} v[] = {
	    {MIRROR("percent: 1"), "backend \"\" is none"},
	    {MIRROR("backendRef: {group: example.com, kind: Thing, name: web, port: 81}"),
	     "backend \"web\" is none"},
	    {MIRROR("backendRef: {name: web, port: 81}, percent: 101"), "not a percentage"},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {numerator: 101}"),
	     "a fraction of more than all"},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {numerator: 1, denominator: 0}"),
	     "whole number from 1"},
	    /* As the API's own rules have it. */
	    {MIRROR("backendRef: {name: web, port: 81}, percent: 1, fraction: {numerator: 1}"),
	     "both percent and fraction"},
	    {MIRROR("backendRef: {name: web, port: 81}, fraction: {denominator: 10}"),
	     "fraction needs a numerator"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct loaded l = load_yaml(v[i].yaml);

		cr_expect_neq(l.ret, 0, "taken: %s", v[i].yaml);
		cr_expect(strstr(loaded_text(&l), v[i].want), "%s\nsaid: %s", v[i].yaml,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}
