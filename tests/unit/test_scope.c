/*
 * Who sees what: exportTo and Sidecars' egress. Expectations come from Istio's references "Sidecar" and "Service Entry",
 * and, where they are silent, from istiod's sidecar.go and push_context.go.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "mesh/scope.h"
#include "support_mesh.h"

#define WORKLOAD(name, namespace, uid)                                                             \
	"---\napiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: " name              \
	", namespace: " namespace ", labels: {app: " name "}}\nspec: {selectors: [{uid: " uid      \
				  "}]}\n"
/* Clients: shop/web, shop/job, bank/web. */
#define CLIENTS                                                                                    \
	WORKLOAD("web", "shop", "1") WORKLOAD("job", "shop", "2") WORKLOAD("web", "bank", "3")
#define ENTRY(name, namespace, host, address, more)                                                \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name      \
	", namespace: " namespace "}\nspec: {hosts: ['" host "'], addresses: [" address            \
				  "], resolution: STATIC, ports: [{number: 80, name: http}, "      \
				  "{number: 81, name: tcp}], "                                     \
				  "endpoints: [{address: 10.9.0.1}]" more "}\n"
#define SIDECAR(name, namespace, spec)                                                             \
	"---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name           \
	", namespace: " namespace "}\nspec: " spec "\n"
#define SERVICES                                                                                   \
	ENTRY("a", "shop", "a.example", "10.0.0.1", "")                                            \
	ENTRY("b", "bank", "b.example", "10.0.0.2", "")                                            \
	ENTRY("c", "bank", "c.other.test", "10.0.0.3", "")                                         \
	ENTRY("w", "bank", "*.wild.test", "10.0.0.4", "")

static bool sees(const struct loaded *l, const char *who, const char *host, uint16_t port)
{
	char namespace[32];
	const char *slash = strchr(who, '/');
	const struct flat_workload *w = NULL;
	const struct flat_service *hidden;
	struct flat_scope scope;

	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - who), who);
	if (*namespace) {
		w = flat_mesh_workload_by_name(l->mesh, namespace, slash + 1);
		cr_assert_not_null(w, "%s", who);
	}
	scope = flat_mesh_scope(l->mesh, w, port);
	return flat_scope_by_host(&scope, host, &hidden) != NULL;
}

/* "x" for each of the hosts that is seen at the port, "-" for each that is not. */
static const char *seen_at(const struct loaded *l, const char *who, uint16_t port)
{
	static const char *const hosts[] = {"a.example", "b.example", "c.other.test",
					    "any.wild.test"};
	static char text[FLAT_ARRAY_SIZE(hosts) + 1];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(hosts); i++)
		text[i] = sees(l, who, hosts[i], port) ? 'x' : '-';
	return text;
}

Test(scope, services_are_there_for_the_namespaces_that_they_are_exported_to)
{
	static const struct {
		const char *to;
		bool shop, bank, nobody;
	} cases[] = {
	    {"", true, true, true},
	    {", exportTo: []", true, true, true},
	    {", exportTo: ['*']", true, true, true},
	    {", exportTo: [shop, '*']", true, true, true},
	    {", exportTo: [.]", true, false, false},
	    {", exportTo: [bank]", false, true, false},
	    {", exportTo: [x, bank, x, .]", true, true, false},
	    {", exportTo: ['~']", false, false, false},
	    {", exportTo: [., '~']", false, false, false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[2048];
		struct loaded l;

		snprintf(yaml, sizeof(yaml),
			 CLIENTS ENTRY("a", "shop", "a.example", "10.0.0.1", "%s"), cases[i].to);
		l = load_good(yaml);
		cr_expect_eq(sees(&l, "shop/web", "a.example", 80), cases[i].shop, "%s",
			     cases[i].to);
		cr_expect_eq(sees(&l, "bank/web", "a.example", 0), cases[i].bank, "%s",
			     cases[i].to);
		cr_expect_eq(sees(&l, "/", "a.example", 80), cases[i].nobody, "%s", cases[i].to);
		loaded_fini(&l);
	}
}

Test(scope, a_kubernetes_service_says_it_in_an_annotation)
{
	struct loaded l =
	    load_good(CLIENTS "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: "
			      "shop, annotations: {networking.istio.io/exportTo: '., ops'}}\n"
			      "spec: {ports: [{port: 80, name: http}]}\n");

	cr_expect(sees(&l, "shop/job", "db", 80));
	cr_expect(sees(&l, "shop/job", "db.shop", 0));
	cr_expect_not(sees(&l, "bank/web", "db.shop.svc.cluster.local", 80));
	cr_expect_not(sees(&l, "bank/web", "db.shop", 80));
	loaded_fini(&l);
}

Test(scope, meshconfig_says_it_for_all_that_say_nothing)
{
#define DEFAULT "---\nkind: MeshConfig\ndefaultServiceExportTo: [.]\n"
	struct loaded l =
	    load_good(CLIENTS DEFAULT ENTRY("a", "shop", "a.example", "10.0.0.1", "")
			  ENTRY("b", "shop", "b.example", "10.0.0.2", ", exportTo: ['*']"));

	cr_expect(sees(&l, "shop/web", "a.example", 80));
	cr_expect_not(sees(&l, "bank/web", "a.example", 80));
	cr_expect(sees(&l, "bank/web", "b.example", 80));
	loaded_fini(&l);
}

/* Rules and routes by default for their own namespace. */
Test(scope, meshconfig_says_it_of_routes_and_rules)
{
	struct loaded l = load_good(
	    CLIENTS
	    "---\nkind: MeshConfig\ndefaultVirtualServiceExportTo: [.]\n"
	    "defaultDestinationRuleExportTo: [.]\n" ENTRY(
		"a", "shop", "a.example", "10.0.0.1",
		"") "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: "
		    "{name: v, namespace: shop}\nspec: {hosts: [a.example], http: "
		    "[{directResponse: {status: 201}}]}\n"
		    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: "
		    "{name: r, namespace: shop}\nspec: {host: a.example, trafficPolicy: "
		    "{loadBalancer: {simple: RANDOM}}}\n");
	const struct flat_service *s = flat_mesh_service_by_host(l.mesh, "a.example", NULL);

	cr_expect_not_null(virtual_for(l.mesh, "shop", flat_span_of("a.example"), s));
	cr_expect_null(virtual_for(l.mesh, "bank", flat_span_of("a.example"), s));
	cr_expect_not_null(flat_mesh_rule_for(l.mesh, s, "shop"));
	cr_expect_null(flat_mesh_rule_for(l.mesh, s, "bank"));
	loaded_fini(&l);
}

Test(scope, a_sidecar_imports_hosts)
{
	static const struct {
		const char *egress;
		const char *at80, *at81;
	} cases[] = {
	    {"[{hosts: ['*/*']}]", "xxxx", "xxxx"},
	    {"[{hosts: ['./*']}]", "x---", "x---"},
	    {"[{hosts: ['shop/*']}]", "x---", "x---"},
	    {"[{hosts: ['bank/*']}]", "-xxx", "-xxx"},
	    {"[{hosts: ['bank/b.example']}]", "-x--", "-x--"},
	    {"[{hosts: ['shop/b.example']}]", "----", "----"},
	    {"[{hosts: ['*/*.example']}]", "xx--", "xx--"},
	    {"[{hosts: ['*/B.Example', './*']}]", "xx--", "xx--"},
	    {"[{hosts: ['*/*.test']}]", "--xx", "--xx"},
	    /* What it imports is a part of the service's names. */
	    {"[{hosts: ['*/any.wild.test']}]", "----", "----"},
	    {"[{hosts: ['*/*.wild.test']}]", "---x", "---x"},
	    {"[{hosts: ['~/*']}]", "----", "----"},
	    {"[{hosts: ['*/*', '~bank/*.test']}]", "xx--", "xx--"},
	    {"[{hosts: ['*/*', '~./*']}]", "-xxx", "-xxx"},
	    {"[{hosts: ['*/*', '~/b.example']}]", "x-xx", "x-xx"},
	    /* The listener of a port is all there is for it. */
	    {"[{port: {number: 81, protocol: TCP}, hosts: ['bank/*']}, {hosts: ['./*']}]", "x---",
	     "-xxx"},
	    {"[{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*/a.example']}]", "x---",
	     "----"},
	    /* What has no effect imports nothing. */
	    {"[{port: {number: 0, protocol: HTTP}, bind: 'unix:///x', hosts: ['*/*']}]", "----",
	     "----"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[4096];
		struct loaded l;

		snprintf(yaml, sizeof(yaml), CLIENTS SERVICES SIDECAR("s", "shop", "{egress: %s}"),
			 cases[i].egress);
		l = load_good(yaml);
		cr_expect_str_eq(seen_at(&l, "shop/web", 80), cases[i].at80, "%s", cases[i].egress);
		cr_expect_str_eq(seen_at(&l, "shop/job", 81), cases[i].at81, "%s", cases[i].egress);
		cr_expect_str_eq(seen_at(&l, "bank/web", 80), "xxxx", "%s", cases[i].egress);
		loaded_fini(&l);
	}
}

/* A name resolves if some listener imports it at a port that it has. */
Test(scope, a_name_is_there_if_some_port_is)
{
	struct loaded l = load_good(CLIENTS SERVICES SIDECAR(
	    "s", "shop",
	    "{egress: [{port: {number: 81, protocol: TCP}, hosts: ['bank/b.example']}, "
	    "{port: {number: 99, protocol: TCP}, hosts: ['*/*']}]}"));

	cr_expect_str_eq(seen_at(&l, "shop/web", 0), "-x--");
	cr_expect_str_eq(seen_at(&l, "shop/web", 80), "----");
	loaded_fini(&l);
}

Test(scope, the_sidecar_of_a_workload_before_its_namespaces_before_the_meshs)
{
	struct loaded l = load_good(
	    CLIENTS SERVICES SIDECAR("root", "istio-system", "{egress: [{hosts: ['./*']}]}")
		SIDECAR("all", "shop", "{egress: [{hosts: ['bank/*']}]}")
		    SIDECAR("job", "shop",
			    "{workloadSelector: {labels: {app: job}}, outboundTrafficPolicy: "
			    "{mode: REGISTRY_ONLY}}"));

	cr_expect_str_eq(seen_at(&l, "shop/web", 80), "-xxx");
	cr_expect_str_eq(seen_at(&l, "shop/job", 80), "xxxx", "without egress all is imported");
	cr_expect_str_eq(seen_at(&l, "bank/web", 80), "-xxx", "\".\" is the client's namespace");
	cr_expect_str_eq(seen_at(&l, "/", 80), "----", "who has none has no \".\"");
	loaded_fini(&l);
}

Test(scope, routes_are_imported_by_their_own_namespace_and_hosts)
{
#define ROUTE(name, namespace, host)                                                               \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: " namespace "}\nspec: {hosts: ['" host                                       \
				  "'], http: [{directResponse: {status: 201}}]}\n"
	static const struct {
		const char *route, *egress;
		bool holds;
	} cases[] = {
	    {ROUTE("v", "shop", "b.example"), "['./*', 'bank/*']", true},
	    {ROUTE("v", "shop", "b.example"), "['bank/*']", false},
	    {ROUTE("v", "bank", "b.example"), "['bank/b.example']", true},
	    {ROUTE("v", "ops", "b.example"), "['bank/*']", false},
	    {ROUTE("v", "ops", "b.example"), "['*/b.example']", true},
	    /* Of a route a part of its hosts is enough. */
	    {ROUTE("v", "bank", "*.example"), "['bank/b.example']", true},
	    {ROUTE("v", "bank", "*.example"), "['bank/b.example', '~/*.example']", false},
	    {ROUTE("v", "bank", "*"), "['bank/b.example']", true},
	    {ROUTE("v", "ops", "*"), "['bank/b.example']", false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[4096];
		struct flat_scope scope;
		struct loaded l;

		snprintf(yaml, sizeof(yaml),
			 CLIENTS SERVICES "%s" SIDECAR("s", "shop", "{egress: [{hosts: %s}]}"),
			 cases[i].route, cases[i].egress);
		l = load_good(yaml);
		scope =
		    flat_mesh_scope(l.mesh, flat_mesh_workload_by_name(l.mesh, "shop", "web"), 80);
		cr_expect_eq(flat_mesh_virtual_by_host(
				 &scope, flat_span_of("b.example"),
				 flat_mesh_service_by_host(l.mesh, "b.example", NULL)) != NULL,
			     cases[i].holds, "%s %s", cases[i].route, cases[i].egress);
		loaded_fini(&l);
	}
}

Test(scope, an_address_belongs_to_who_is_seen)
{
	struct loaded l =
	    load_good(CLIENTS ENTRY("own", "shop", "own.example", "10.0.0.1", ", exportTo: [.]")
			  ENTRY("net", "bank", "net.example", "10.0.0.0/8", ", exportTo: [bank]")
			      ENTRY("any", "bank", "any.example", "0.0.0.0/0", ""));
	const struct flat_workload *shop = flat_mesh_workload_by_name(l.mesh, "shop", "web");
	const struct flat_workload *bank = flat_mesh_workload_by_name(l.mesh, "bank", "web");
	struct flat_scope scope = flat_mesh_scope(l.mesh, shop, 80);
	const struct flat_service_port *port;
	const struct flat_service *hidden;
	struct flat_ip ip;

	cr_assert_eq(flat_ip_parse("10.0.0.1", &ip), 0);
	cr_expect_str_eq(flat_scope_by_addr(&scope, &ip, &port, &hidden)->host, "own.example");
	cr_expect_null(hidden);
	scope = flat_mesh_scope(l.mesh, bank, 80);
	cr_expect_str_eq(flat_scope_by_addr(&scope, &ip, &port, &hidden)->host, "net.example");
	cr_expect_str_eq(flat_scope_owning(&scope, &ip)->host, "net.example");
	scope = flat_mesh_scope(l.mesh, NULL, 80);
	cr_expect_str_eq(flat_scope_by_addr(&scope, &ip, &port, &hidden)->host, "any.example");
	cr_expect_str_eq(flat_mesh_service_by_addr(l.mesh, &ip, 80, NULL)->host, "own.example");
	loaded_fini(&l);
}

Test(scope, what_hides_a_service_is_told_with_file_and_line)
{
	struct loaded l =
	    load_good(CLIENTS ENTRY("a", "shop", "a.example", "10.0.0.1", ",\n exportTo: [.]")
			  ENTRY("b", "bank", "b.example", "10.0.0.2", "")
			      SIDECAR("s", "shop", "{egress: [{hosts: ['./*']}]}"));
	const struct flat_scope web =
	    flat_mesh_scope(l.mesh, flat_mesh_workload_by_name(l.mesh, "shop", "web"), 80);
	const struct flat_scope bank =
	    flat_mesh_scope(l.mesh, flat_mesh_workload_by_name(l.mesh, "bank", "web"), 80);
	char text[700];

	cr_expect_str_eq(
	    flat_scope_why(&bank, flat_mesh_service_by_host(l.mesh, "a.example", NULL), text,
			   sizeof(text)),
	    "ServiceEntry shop/a (t.yaml:20) has host a.example, and is not exported to namespace "
	    "bank (exportTo, t.yaml:21)");
	cr_expect_str_eq(
	    flat_scope_why(&web, flat_mesh_service_by_host(l.mesh, "b.example", NULL), text,
			   sizeof(text)),
	    "ServiceEntry bank/b (t.yaml:26) has host b.example, and Sidecar shop/s (t.yaml:28) "
	    "does not import it");
	loaded_fini(&l);
}

Test(scope, sidecars_are_checked)
{
	static const struct {
		const char *egress;
		const char *said;
	} cases[] = {
	    {"[{}]", "field \"hosts\" is missing: a listener imports at least one host, add hosts"},
	    {"[{hosts: [a.example]}]",
	     "\"a.example\" is no host of services, write NAMESPACE/HOST"},
	    {"[{hosts: ['x/a/b']}]", "\"x/a/b\" is no host"},
	    {"[{hosts: ['X_/a']}]", "\"X_/a\" is no host"},
	    {"[{hosts: ['./*']}, {hosts: ['*/*']}]", "a second listener without port, join their"},
	    {"[{hosts: ['./*']}, {port: {number: 1, protocol: TCP}, hosts: ['*/*']}]",
	     "a listener without port is for all ports that no other is for, make it the last"},
	    {"[{port: {number: 1}, hosts: ['./*']}, {port: {number: 1}, hosts: ['*/*']}]",
	     "a second listener for this port"},
	    {"[{port: {}, hosts: ['./*']}]", "field \"number\" is missing"},
	    {"[{port: {number: 1, protocol: X}, hosts: ['./*']}]", "\"X\" is no protocol"},
	    {"[{hosts: ['./*'], captureMode: NONE}]", "captureMode NONE is not honoured"},
	    {"[{hosts: ['./*'], bind: 127.0.0.1}]", "field \"bind\" is not honoured"},
	    {"[{port: {number: 1, protocol: HTTP_PROXY}, hosts: ['./*']}]",
	     "this listener is not honoured: there is no proxy"},
	    {"[{hosts: ['shop/nobody.example']}]",
	     "\"nobody.example\" is the host of no service: nothing is imported by it, use a "
	     "service's whole host"},
	    {"[{hosts: [./db]}]",
	     "\"db\" is the host of no service: nothing is imported by it, write "
	     "db.shop.svc.cluster.local"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[4096];
		struct loaded l;

		snprintf(yaml, sizeof(yaml),
			 SERVICES
			 "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, "
			 "namespace: shop}\nspec: {ports: [{port: 80, name: http}]}\n" SIDECAR(
			     "s", "shop", "{egress: %s}"),
			 cases[i].egress);
		l = load_yaml(yaml);
		cr_expect(strstr(loaded_text(&l), cases[i].said), "%s: %s", cases[i].egress,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}
