/* Routes of connections (VirtualService spec.tcp), case by case. Expectations come from Istio's reference "Virtual Service". */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/l4_route.h"
#include "support_mesh.h"

#define VS(spec)                                                                                   \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: shop, namespace: foo, labels: {app: shop}}\n"                            \
	"spec: {selectors: [{uid: 1}]}\n"                                                          \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {hosts: [web.example], resolution: STATIC, ports: [{number: 80, name: http}],\n"    \
	"  endpoints: [{address: 10.0.0.1}]}\n"                                                    \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: v, namespace: foo}\nspec: " spec "\n"

/* The first destination of a connection to `ip`:`port` of web.example, "-": the service itself. */
static const char *connection_to(const char *tcp, const char *ip, uint16_t port, bool shop)
{
	static char host[64];
	char yaml[4096];
	struct loaded l;
	struct flat_l4_question q = {.port = port};
	const struct flat_l4_route *r;

	snprintf(yaml, sizeof(yaml), VS("{hosts: [web.example], tcp: %s}"), tcp);
	l = load_good(yaml);
	cr_assert_eq(flat_ip_parse(ip, &q.to), 0);
	q.source = shop ? flat_mesh_workload_by_name(l.mesh, "foo", "shop") : NULL;
	(void)flat_l4_route_find(l.mesh, flat_mesh_service_by_host(l.mesh, "web.example", NULL), &q,
				 &r);
	snprintf(host, sizeof(host), "%s", r ? r->destinations[0].host : "-");
	loaded_fini(&l);
	return host;
}

Test(l4_route, connections_take_the_first_tcp_route_that_holds)
{
	static const char to[] =
	    "[{match: [{port: 81}, {destinationSubnets: [10.1.0.0/16, 10.9.9.9]}], route: "
	    "[{destination: {host: one.example}}]}, {match: [{sourceLabels: {app: shop}, "
	    "sourceNamespace: foo}], route: [{destination: {host: two.example}}]}, {match: "
	    "[{gateways: [gw]}], route: [{destination: {host: three.example}}]}]";

	cr_expect_str_eq(connection_to(to, "10.0.0.1", 81, false), "one.example");
	cr_expect_str_eq(connection_to(to, "10.1.2.3", 80, true), "one.example");
	cr_expect_str_eq(connection_to(to, "10.9.9.9", 80, true), "one.example");
	cr_expect_str_eq(connection_to(to, "10.9.9.8", 80, true), "two.example");
	cr_expect_str_eq(connection_to(to, "10.9.9.8", 80, false), "-");
	cr_expect_str_eq(
	    connection_to("[{route: [{destination: {host: all.example}}]}]", "10.9.9.8", 80, false),
	    "all.example");
}

Test(l4_route, tcp_and_http_routes_of_a_host_may_stand_apart)
{
	struct loaded l = load_good(VS("{hosts: [web.example], tcp: [{route: [{destination: {host: "
				       "web.example}}]}]}") "---\n"
							    "apiVersion: networking.istio.io/v1\n"
							    "kind: VirtualService\nmetadata: "
							    "{name: h, namespace: foo}\nspec: "
							    "{hosts: [web.example], http: "
							    "[{directResponse: {status: 200}}]}\n");
	const struct flat_service *s = flat_mesh_service_by_host(l.mesh, "web.example", NULL);
	const struct flat_virtual_service *vs =
	    virtual_for(l.mesh, "foo", flat_span_of("web.example"), s);

	cr_assert_not_null(vs);
	cr_expect_str_eq(vs->name, "h");
	cr_expect(!strstr(loaded_text(&l), "already"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

/* The same of a TLS port, with the name that is asked for; "?": it has to be known first. */
static const char *asked_for(const char *spec, const char *sni, bool tls)
{
	static char host[64];
	char yaml[4096];
	struct loaded l;
	struct flat_l4_question q = {.port = 443, .tls = tls, .sni = sni};
	const struct flat_l4_route *r;
	enum flat_l4_answer answer;

	snprintf(yaml, sizeof(yaml), VS("{hosts: [web.example], %s}"), spec);
	l = load_good(yaml);
	cr_assert_eq(flat_ip_parse("10.0.0.1", &q.to), 0);
	answer = flat_l4_route_find(l.mesh, flat_mesh_service_by_host(l.mesh, "web.example", NULL),
				    &q, &r);
	cr_expect_eq(r == NULL, answer == FLAT_L4_SERVICE);
	snprintf(host, sizeof(host), "%s",
		 answer == FLAT_L4_NAME ? "?"
		 : r			? r->destinations[0].host
					: "-");
	loaded_fini(&l);
	return host;
}

#define TO(host) "route: [{destination: {host: " host "}}]"

Test(l4_route, tls_routes_are_by_name)
{
	static const char spec[] = "tls: [{match: [{sniHosts: [a.example, '*.b.example']}], " TO(
	    "one.example") "}, {match: [{port: 444, sniHosts: ['*']}, {sniHosts: "
			   "[c.example]}], " TO("two.example") "}], tcp: "
							       "[{" TO("tcp.example") "}]";

	cr_expect_str_eq(asked_for(spec, NULL, true), "?");
	cr_expect_str_eq(asked_for(spec, "a.example", true), "one.example");
	cr_expect_str_eq(asked_for(spec, "x.b.example", true), "one.example");
	cr_expect_str_eq(asked_for(spec, "x.y.b.example", true), "one.example");
	cr_expect_str_eq(asked_for(spec, "b.example", true), "tcp.example");
	cr_expect_str_eq(asked_for(spec, ".b.example", true), "tcp.example");
	cr_expect_str_eq(asked_for(spec, "xb.example", true), "tcp.example");
	cr_expect_str_eq(asked_for(spec, "c.example", true), "two.example");
	cr_expect_str_eq(asked_for(spec, "d.example", true), "tcp.example");
	cr_expect_str_eq(asked_for(spec, "", true), "tcp.example");
	cr_expect_str_eq(asked_for(spec, NULL, false), "tcp.example");
	/* Where no name can matter, none is waited for. */
	cr_expect_str_eq(
	    asked_for("tls: [{match: [{port: 444, sniHosts: ['*']}], " TO("one.example") "}]", NULL,
		      true),
	    "-");
	/* "*" is every name, and no name is none. */
	cr_expect_str_eq(
	    asked_for("tls: [{match: [{sniHosts: ['*']}], " TO("one.example") "}]", "any", true),
	    "one.example");
	cr_expect_str_eq(
	    asked_for("tls: [{match: [{sniHosts: ['*']}], " TO("one.example") "}]", "", true), "-");
}

/* Routes of names below a wildcard service are followed, and those of names that it has not are none of it. */
Test(l4_route, tls_routes_below_a_wildcard_service)
{
#define BELOW(name, host, sni)                                                                     \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: foo}\nspec: {hosts: ['" host "'], tls: [{match: [{sniHosts: ['" sni "']}], " \
	"route: [{destination: {host: " name ".example}}]"                                         \
	"}]}\n"
#define WILD                                                                                       \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: wild, namespace: foo}\nspec: {hosts: ['*.wild.example'], addresses: "    \
	"[10.9.0.0/16], resolution: NONE, ports: [{number: 443, name: tls}]}\n"
	static const struct {
		const char *yaml, *sni, *want;
	} cases[] = {
	    {WILD BELOW("own", "a.wild.example", "a.wild.example"), NULL, "?"},
	    {WILD BELOW("own", "a.wild.example", "a.wild.example"), "a.wild.example",
	     "own.example"},
	    {WILD BELOW("own", "a.wild.example", "a.wild.example"), "b.wild.example", "-"},
	    {WILD BELOW("own", "a.wild.example", "a.wild.example"), "", "-"},
	    {WILD BELOW("deep", "*.b.wild.example", "x.b.wild.example"), "x.b.wild.example",
	     "deep.example"},
	    {WILD BELOW("all", "*.wild.example", "*.wild.example"), "x.wild.example",
	     "all.example"},
	    {WILD BELOW("all", "*.wild.example", "*.wild.example")
		 BELOW("own", "a.wild.example", "a.wild.example"),
	     "a.wild.example", "own.example"},
	    {WILD BELOW("all", "*.wild.example", "*.wild.example")
		 BELOW("own", "a.wild.example", "z.wild.example"),
	     "a.wild.example", "all.example"},
	    {WILD BELOW("other", "a.other.example", "a.other.example"), NULL, "-"},
	    {WILD BELOW("own", "a.wild.example", "a.wild.example")
		 BELOW("other", "a.other.example", "a.other.example"),
	     "a.other.example", "-"},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_good(cases[i].yaml);
		struct flat_l4_question q = {.port = 443, .tls = true, .sni = cases[i].sni};
		const struct flat_l4_route *r;
		enum flat_l4_answer answer;

		cr_assert_eq(flat_ip_parse("10.9.0.1", &q.to), 0);
		answer = flat_l4_route_find(
		    l.mesh, flat_mesh_service_by_host(l.mesh, "q.wild.example", NULL), &q, &r);
		cr_expect_str_eq(answer == FLAT_L4_NAME ? "?"
				 : r			? r->destinations[0].host
							: "-",
				 cases[i].want, "case %zu", i);
		loaded_fini(&l);
	}
}

Test(l4_route, what_is_wrong_with_tcp_routes_is_said)
{
	static const char *const wrong[][2] = {
	    {VS("{hosts: [a.b], tcp: [{match: [{port: 1}]}]}"), "a tcp route needs a destination"},
	    {VS("{hosts: [a.b], tcp: [{match: [{destinationSubnets: [x]}], route: [{destination: "
		"{host: a}}]}]}"),
	     "\"x\" is no IP address or block"},
	    {VS("{hosts: [a.b], tcp: [{route: [{destination: {host: a}}, {destination: {host: "
		"b}}]}]}"),
	     "add up to 0"},
	    {VS("{hosts: [a.b], tcp: [{route: [{weight: 1}]}]}"), "\"destination\" is missing"},
	    {VS("{tcp: [{route: [{destination: {host: a}}]}]}"), "needs a host"},
	    {VS("{hosts: [a.b], tls: [{match: [{port: 1}], route: [{destination: {host: a}}]}]}"),
	     "a match of a tls route needs sniHosts"},
	    {VS("{hosts: [a.b], tls: [{route: [{destination: {host: a}}]}]}"),
	     "a tls route needs match"},
	    {VS("{hosts: [a.b], tls: [{match: [{sniHosts: [a.b]}]}]}"),
	     "a tls route needs a destination"},
	    {VS("{hosts: [a.b], tls: [{match: [{sniHosts: ['a b']}], route: [{destination: {host: "
		"a}}]}]}"),
	     "a b"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(wrong); i++) {
		struct loaded l = load_yaml(wrong[i][0]);

		cr_expect_neq(l.ret, 0, "%s", wrong[i][0]);
		cr_expect(strstr(loaded_text(&l), wrong[i][1]), "%s\nsaid: %s", wrong[i][0],
			  loaded_text(&l));
		loaded_fini(&l);
	}
}
