/* Gateways: what the loader takes, which server a host falls to, and whose VirtualService it meets. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "mesh/build.h"
#include "support_mesh.h"

#define GW                                                                                         \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "       \
	"edge}\n"
#define HTTP "port: {number: 80, name: http, protocol: HTTP}"
#define HTTPS "port: {number: 443, name: https, protocol: HTTPS}"

#define MANY GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {"

struct config_case {
	const char *yaml;
	int ret;
	const char *said;
};

#define SECURE "{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}"
#define API "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: c}\n"
#define SET "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: s}\n"

static const struct config_case cases[] = {
    {GW "spec: {servers: [{" HTTP ", hosts: ['*']}]}", 0, ""},
    {GW "spec: {servers: []}", -EINVAL, "a Gateway needs a server, add spec.servers"},
    {GW "spec: {servers: [{" HTTP "}]}", -EINVAL, "a server needs hosts"},
    {GW "spec: {servers: [{hosts: ['*']}]}", -EINVAL,
     "a server needs port.number and port.protocol"},
    {GW "spec: {servers: [{port: {number: 80, protocol: HTTQ}, hosts: ['*']}]}", -EINVAL,
     "t.yaml:4:48: Gateway edge/g: unknown protocol \"HTTQ\", write HTTP, HTTPS, HTTP2, GRPC, TLS "
     "or "
     "TCP"},
    {GW "spec: {servers: [{port: {number: 80, protocol: TCP}, hosts: ['*']}]}", 0, ""},
    {GW "spec: {servers: [{port: {number: 80, protocol: TCP}, hosts: ['*'], tls: {mode: "
	"PASSTHROUGH}}]}",
     -EINVAL, "a server with TLS has the protocol HTTPS or TLS, write TLS"},
    {GW "spec: {servers: [{port: {number: 80, protocol: TLS}, hosts: ['*']}]}", -EINVAL,
     "a server of protocol TLS needs tls.mode"},
    {GW "spec: {servers: [{port: {number: 80, protocol: TLS}, hosts: ['*'], tls: {mode: SIMPLE, "
	"credentialName: c}}]}",
     0, ""},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {mode: PASSTHROUGH, credentialName: c}}]}",
     -EINVAL, "with PASSTHROUGH the server behind has the certificate"},
    {GW "spec: {servers: [{port: {number: 80, protocol: GRPC-WEB}, hosts: ['*']}]}", 0,
     "this server is not opened"},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*']}]}", -EINVAL, "needs tls.mode"},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {mode: SIMPLE}}]}", -EINVAL,
     "TLS needs a certificate and its key"},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {mode: SIMPEL}}]}", -EINVAL,
     "did you mean \"SIMPLE\"?"},
    {GW "spec: {servers: [{" HTTPS
	", hosts: ['*'], tls: {mode: SIMPLE, credentialName: c, serverCertificate: /c}}]}",
     -EINVAL, "credentialName, credentialNames, tlsCertificates and files exclude each other"},
    {GW "spec: {servers: [{" HTTPS
	", hosts: ['*'], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k}}]}",
     -EINVAL, "clients' certificates need something to be verified by"},
    {MANY "mode: SIMPLE, credentialNames: [a, b]}}]}", 0, ""},
    {MANY "mode: SIMPLE, credentialName: c, credentialNames: [a]}}]}", -EINVAL,
     "exclude each other"},
    {MANY "mode: SIMPLE, credentialNames: []}}]}", -EINVAL, "TLS needs a certificate and its key"},
    {MANY "mode: SIMPLE, tlsCertificates: [{serverCertificate: /a, privateKey: /a}]}}]}", 0, ""},
    {MANY "mode: SIMPLE, tlsCertificates: [{serverCertificate: /a}]}}]}", -EINVAL,
     "TLS needs a certificate and its key, add serverCertificate and privateKey"},
    {MANY "mode: SIMPLE, privateKey: /a, tlsCertificates: [{serverCertificate: /a, privateKey: "
	  "/a}]}}]}",
     -EINVAL, "exclude each other"},
    {MANY "mode: PASSTHROUGH, credentialNames: [a]}}]}", -EINVAL,
     "with PASSTHROUGH the server behind has the certificate"},
    {MANY "mode: MUTUAL, tlsCertificates: [{serverCertificate: /a, privateKey: /a}]}}]}", -EINVAL,
     "clients' certificates need something to be verified by"},
    {MANY "mode: MUTUAL, tlsCertificates: [{serverCertificate: /a, privateKey: /a, caCertificates: "
	  "/c}, {serverCertificate: /b, privateKey: /b, caCertificates: /c}]}}]}",
     0, ""},
    {MANY "mode: MUTUAL, tlsCertificates: [{serverCertificate: /a, privateKey: /a, caCertificates: "
	  "/c}, {serverCertificate: /b, privateKey: /b, caCertificates: /d}]}}]}",
     0, "a second bundle of authorities is not honoured"},
    {MANY "mode: MUTUAL, serverCertificate: /a, privateKey: /a, caCertCredentialName: c}}]}", 0,
     ""},
    {MANY "mode: MUTUAL, serverCertificate: /a, privateKey: /a, caCertificates: /c, "
	  "caCertCredentialName: c}}]}",
     -EINVAL, "caCertificates and caCertCredentialName exclude each other"},
    {GW "spec: {servers: [{" HTTP ", hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]}",
     -EINVAL, "a server with TLS has the protocol HTTPS"},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {mode: PASSTHROUGH}}]}", 0, ""},
    {GW "spec: {servers: [{" HTTPS ", hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}]}", 0,
     "AUTO_PASSTHROUGH is not honoured"},
    {GW "spec: {servers: [{" HTTPS
	", hosts: ['*'], tls: {mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_0}}]}",
     -EINVAL, "TLSV1_0 is broken"},
    {GW "spec: {servers: [{" HTTPS
	", hosts: ['*'], tls: {mode: MUTUAL, credentialName: c, verifyCertificateHash: [a]}}]}",
     0, "this server is not opened"},
    {GW "spec: {servers: [{" HTTPS
	", hosts: ['*'], tls: {mode: SIMPLE, credentialName: c, cipherSuites: ['a:b']}}]}",
     -EINVAL, "is no name of a cipher suite"},
    {GW "spec: {servers: [{" HTTP ", hosts: ['*'], defaultEndpoint: a}]}", 0,
     "\"defaultEndpoint\" is not honoured"},
    {"apiVersion: v1\nkind: Secret\nmetadata: {name: c}\ndata: {tls.crt: '%%'}", -EINVAL,
     "this is no text in base64"},
    {"apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {tls.crt: abc, other: x}", 0,
     ""},
    {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: c}", -EINVAL,
     "a Gateway needs a listener"},
    {API "spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}", 0, ""},
    {SET "spec: {listeners: [{name: a, port: 80, protocol: HTTP}]}", -EINVAL,
     "a ListenerSet needs parentRef and listeners"},
    {SET "spec: {parentRef: {name: c}, listeners: []}", -EINVAL,
     "a ListenerSet needs parentRef and listeners"},
    {SET "spec: {parentRef: {kind: Service, group: '', name: x}, listeners: [{name: a, port: 80, "
	 "protocol: HTTP}]}",
     -EINVAL, "parent is a Gateway of gateway.networking.k8s.io"},
    {SET "spec: {parentRef: {name: c}, listeners: [{name: a, port: 80, protocol: HTTP}]}", 0,
     "there is no Gateway \"c\" for these listeners"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: HTTP}]}\n---\n" SET
	 "spec: {parentRef: {name: c}, listeners: [{name: a, port: 81, protocol: HTTP}]}",
     0, "Gateway \"c\" takes no listeners of this namespace"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: HTTP}], allowedListeners: {namespaces: "
	 "{from: Same}}}\n---\n" SET
	 "spec: {parentRef: {name: c}, listeners: [{name: a, port: 81, protocol: HTTP}]}",
     0, ""},
    {API "spec: {listeners: [{name: a, port: 80}]}", -EINVAL,
     "a listener needs name, port and protocol"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: UDP}]}", 0,
     "this protocol is not honoured: this listener is not opened"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: HTTPS}]}", 0,
     "TLS without certificateRefs is not honoured"},
    {API
     "spec: {listeners: [{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c}], "
     "frontendValidation: {}}}]}",
     0, "this listener is not opened"},
    {API
     "spec: {listeners: [{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c, "
     "namespace: far}]}}]}",
     0, "Secret far/c is of another namespace, which does not permit it"},
    {API
     "spec: {listeners: [{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c}, "
     "{name: d, namespace: far}]}}]}",
     0, "Secret far/d is of another namespace, which does not permit it: it is not shown"},
    {API
     "spec: {listeners: [{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c, "
     "kind: ConfigMap}]}}]}",
     0, "a certificate that is no Secret is not honoured"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: HTTP}], tls: {frontend: {}}}", 0, ""},
    {API "spec: {listeners: [" SECURE "], tls: {frontend: {default: {validation: {}}}}}", -EINVAL,
     "who vouches for the clients is not said"},
    {API "spec: {listeners: [" SECURE "], tls: {frontend: {perPort: [{tls: {}}]}}}", -EINVAL,
     "it needs a port"},
    {API "spec: {listeners: [" SECURE "], tls: {frontend: {default: {validation: {mode: Maybe, "
	 "caCertificateRefs: [{name: ca}]}}}}}",
     -EINVAL, "Maybe"},
    {API "spec: {listeners: [" SECURE "], tls: {frontend: {default: {validation: "
	 "{caCertificateRefs: [{name: ca}]}}}}}",
     0, "there are no authorities of ConfigMap default/ca"},
    {API "spec: {listeners: [" SECURE "], tls: {frontend: {default: {validation: "
	 "{caCertificateRefs: [{name: ca, namespace: far}]}}}}}",
     0, "authorities of ConfigMap \"ca\" of another namespace are not honoured"},
    {API "spec: {listeners: [{name: a, port: 80, protocol: HTTP, hostname: 'a b'}]}", -EINVAL,
     "a b"},
    {"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
     "spec: {hosts: [a.example], gateways: [none], http: [{directResponse: {status: 200}}]}",
     0, "there is no Gateway \"default/none\""},
};

Test(gateway, what_is_said_of_configurations)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);
		cr_expect_eq(l.ret, cases[i].ret, "case %zu: %d, said %s", i, l.ret,
			     loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), cases[i].said), "case %zu said: %s", i,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

static const char clients[] =
    API "spec:\n  listeners:\n"
	"  - {name: own, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}\n"
	"  - {name: default, port: 2, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}\n"
	"  - {name: none, port: 3, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}\n"
	"  - {name: bytes, port: 4, protocol: TLS, tls: {certificateRefs: [{name: c}]}}\n"
	"  - {name: through, port: 5, protocol: TLS, tls: {mode: Passthrough}}\n"
	"  - {name: clear, port: 6, protocol: HTTP}\n"
	"  - {name: missing, port: 7, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}\n"
	"  tls:\n    frontend:\n"
	"      default: {validation: {caCertificateRefs: [{name: ca}]}}\n"
	"      perPort:\n"
	"      - {port: 1, tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: "
	"[{name: more, kind: Secret}, {name: ca}]}}}\n"
	"      - {port: 3, tls: {}}\n"
	"      - {port: 7, tls: {validation: {caCertificateRefs: [{name: none}]}}}\n"
	"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata: {ca.crt: A}\n"
	"---\napiVersion: v1\nkind: Secret\nmetadata: {name: more}\nstringData: {ca.crt: B}\n";

Test(gateway, clients_are_asked_for_certificates_where_tls_ends)
{
	static const struct {
		enum flat_gateway_tls tls;
		const char *ca;
		bool served;
	} expected[] = {
	    [1] = {FLAT_GATEWAY_OPTIONAL_MUTUAL, "B\nA", true},
	    [2] = {FLAT_GATEWAY_MUTUAL, "A", true},
	    [3] = {FLAT_GATEWAY_SIMPLE, NULL, true},
	    [4] = {FLAT_GATEWAY_MUTUAL, "A", true},
	    [5] = {FLAT_GATEWAY_PASSTHROUGH, NULL, true},
	    [6] = {FLAT_GATEWAY_PLAIN, NULL, true},
	    [7] = {FLAT_GATEWAY_MUTUAL, NULL, false},
	};
	struct loaded l = load_yaml(clients);

	cr_assert_eq(l.ret, 0, "%s", loaded_text(&l));
	cr_assert_eq(flat_mesh_n_gateways(l.mesh), 7);
	for (uint32_t i = 0; i < 7; i++) {
		const struct flat_gateway_server *s = flat_mesh_gateway(l.mesh, i)->servers;

		cr_expect_eq(s->tls, expected[s->port].tls, "port %u", s->port);
		cr_expect_eq(s->served, expected[s->port].served, "port %u", s->port);
		cr_expect((!s->ca_text && !expected[s->port].ca) ||
			      strcmp(s->ca_text, expected[s->port].ca) == 0,
			  "port %u: %s", s->port, s->ca_text ? s->ca_text : "none");
	}
	loaded_fini(&l);
}

static const char several[] = API
    "spec:\n  listeners:\n"
    "  - {name: all, port: 1, protocol: HTTPS, tls: {certificateRefs: [{name: a}, {name: m, kind: "
    "ConfigMap}, {name: b, namespace: far}, {name: c, namespace: near}]}}\n"
    "  - {name: none, port: 2, protocol: HTTPS, tls: {certificateRefs: [{name: b, namespace: "
    "far}, {name: d, namespace: near}]}}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
    "metadata: {name: g, namespace: near}\n"
    "spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], "
    "to: [{group: '', kind: Secret, name: c}]}\n"
    "---\n" GW "spec: {servers: [{" HTTPS
    ", hosts: ['*'], tls: {mode: SIMPLE, credentialNames: [x, y]}}]}\n";

Test(gateway, a_server_has_the_certificates_that_it_may)
{
	struct loaded l = load_yaml(several);

	cr_assert_eq(l.ret, 0, "%s", loaded_text(&l));
	cr_assert_eq(flat_mesh_n_gateways(l.mesh), 3);
	for (uint32_t i = 0; i < 3; i++) {
		const struct flat_gateway_server *s = flat_mesh_gateway(l.mesh, i)->servers;

		if (s->port == 2) {
			cr_expect(!s->served && s->n_certs == 0);
			continue;
		}
		cr_assert(s->served && s->n_certs == 2, "port %u: %u", s->port, s->n_certs);
		cr_expect_str_eq(s->certs[0].secret, s->port == 1 ? "a" : "x");
		cr_expect_str_eq(s->certs[1].secret, s->port == 1 ? "c" : "y");
		if (s->port == 1)
			cr_expect_str_eq(s->certs[1].namespace, "near");
		else
			cr_expect_null(s->certs[1].namespace);
	}
	loaded_fini(&l);
}

#define VS(name, ns, hosts, gateways)                                                              \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: " ns "}\nspec: {hosts: [" hosts "], gateways: [" gateways                    \
	"], http: [{directResponse: {status: 200}}]}\n"

static const char edge[] =
    GW "spec:\n  servers:\n"
       "  - {" HTTP ", name: zero, hosts: ['*.example', 'a/exact.example', 'b/only-b.example']}\n"
       "  - {" HTTP
       ", name: one, hosts: ['./own.test', '*']}\n" VS("exact", "a", "exact.example", "edge/g")
	   VS("wild", "a", "'*.example'", "edge/g") VS("thief", "a", "only-b.example", "edge/g")
	       VS("own", "edge", "own.test", "g") VS("foreign", "a", "own.test", "edge/g")
		   VS("mesh", "a", "mesh.example", "mesh")
		       VS("both", "a", "both.example", "mesh, edge/g")
			   VS("second", "a", "exact.example", "edge/g");

static uint32_t fit_of(const struct flat_gateway *g, uint32_t server, const char *host)
{
	return flat_gateway_server_fit(&g->servers[server], flat_span_of(host));
}

Test(gateway, the_best_pattern_of_a_server_says_how_well_a_host_fits)
{
	struct loaded l = load_good(edge);
	const struct flat_gateway *g = flat_mesh_gateway(l.mesh, 0);
	cr_assert_eq(g->n_servers, 2);
	cr_expect_eq(fit_of(g, 0, "exact.example"), UINT32_MAX);
	cr_expect_eq(fit_of(g, 0, "EXACT.Example."), UINT32_MAX);
	cr_expect_gt(fit_of(g, 0, "x.example"), fit_of(g, 1, "x.example"));
	cr_expect_gt(fit_of(g, 0, "a.b.example"), 1);
	cr_expect_eq(fit_of(g, 0, "example"), 0, "a wildcard stands for a label at least");
	cr_expect_eq(fit_of(g, 0, ".example"), 0);
	cr_expect_eq(fit_of(g, 0, "notexample"), 0);
	cr_expect_eq(fit_of(g, 0, ""), 0);
	cr_expect_eq(fit_of(g, 1, ""), 1);
	cr_expect_eq(fit_of(g, 1, "anything"), 1);
	loaded_fini(&l);
}

static const char *vs_of(const struct flat_gateway *g, uint32_t server, const char *host)
{
	const struct flat_virtual_service *vs =
	    flat_gateway_virtual(g, &g->servers[server], flat_span_of(host));
	return vs ? vs->name : "none";
}

Test(gateway, a_host_meets_the_virtual_service_that_the_server_shows)
{
	struct loaded l = load_good(edge);
	const struct flat_gateway *g = flat_mesh_gateway(l.mesh, 0);
	cr_expect_str_eq(vs_of(g, 0, "exact.example"), "exact");
	cr_expect_str_eq(vs_of(g, 0, "Other.EXAMPLE"), "wild");
	/* By the wildcard it may be shown to all, by the exact pattern to b alone: one that holds is enough. */
	cr_expect_str_eq(vs_of(g, 0, "only-b.example"), "thief");
	cr_expect_str_eq(vs_of(g, 1, "own.test"), "own");
	cr_expect_str_eq(vs_of(g, 0, "mesh.example"), "wild", "bound to the mesh alone");
	cr_expect_str_eq(vs_of(g, 0, "both.example"), "both");
	cr_expect_str_eq(vs_of(g, 1, "nobody.test"), "none");
	cr_expect(strstr(loaded_text(&l),
			 "VirtualService a/foreign: host \"own.test\" has a VirtualService at "
			 "that gateway already"));
	cr_expect(!strstr(loaded_text(&l), "a/second"), "two of one namespace are one");
	loaded_fini(&l);
}

#define SPLIT(name, routes)                                                                        \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: a}\nspec: {hosts: [x.example], gateways: [edge/g], http: [" routes "]}\n"
#define ANSWER(name) "directResponse: {status: 200}, name: " name "}"

/* As Istio's "Split large virtual services": what takes all comes last, whatever the order of the resources. */
Test(gateway, virtual_services_of_a_host_are_one_at_a_gateway)
{
	struct loaded l = load_good(
	    GW "spec:\n  servers:\n  - {" HTTP ", name: s, hosts: ['*']}\n" SPLIT(
		"one",
		"{match: [{uri: {exact: /a}}, {uri: {prefix: /}}, {uri: {exact: /never}}], " ANSWER(
		    "all") ", {" ANSWER("never"))
		SPLIT("two", "{match: [{uri: {prefix: /b}}], " ANSWER(
				 "b") ", {match: [{uri: {prefix: "
				      "/}, port: 81}], " ANSWER("port") ", {" ANSWER("rest"))
		    SPLIT("three",
			  "{match: [{uri: {regex: '.*'}, method: {exact: PUT}}], " ANSWER("put")));
	const struct flat_gateway *g = flat_mesh_gateway(l.mesh, 0);
	const struct flat_virtual_service *vs =
	    flat_gateway_virtual(g, &g->servers[0], flat_span_of("x.example"));
	static const char *const order[] = {"all", "b", "port", "put", "all"};
	static const uint32_t matches[] = {1, 1, 1, 1, 1};

	cr_assert_not_null(vs);
	cr_assert_geq(vs->n_routes, FLAT_ARRAY_SIZE(order));
	for (uint32_t i = 0; i < FLAT_ARRAY_SIZE(order); i++) {
		cr_expect_str_eq(vs->routes[i].name, order[i], "%u", i);
		cr_expect_eq(vs->routes[i].n_matches, matches[i], "%u", i);
	}
	cr_expect_str_eq(vs->routes[0].matches[0].uri->text, "/a");
	cr_expect_str_eq(vs->routes[4].matches[0].uri->text, "/");
	loaded_fini(&l);
}

/* As Istio (ResolveShortnameToFQDN): no dot is a Service of the VirtualService's namespace; of a Gateway API route it is a name as any. */
Test(gateway, a_host_without_dots_is_a_services)
{
	struct loaded l = load_good(
	    GW "spec:\n  servers:\n  - {" HTTP ", name: s, hosts: ['*']}\n"
	       "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: "
	       "{name: short, namespace: a}\nspec: {hosts: [web, '::1'], gateways: "
	       "[edge/g, mesh], http: [{directResponse: {status: 200}}]}\n"
	       "---\n" API "spec: {listeners: [{name: l, port: 80, protocol: HTTP}]}\n"
	       "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: "
	       "{name: api}\nspec: {parentRefs: [{name: c}], hostnames: [web]}\n");

	cr_expect_str_eq(vs_of(flat_mesh_gateway(l.mesh, 0), 0, "web.a.svc.cluster.local"),
			 "short");
	cr_expect_str_eq(vs_of(flat_mesh_gateway(l.mesh, 0), 0, "::1"), "short");
	cr_expect_str_eq(vs_of(flat_mesh_gateway(l.mesh, 0), 0, "web"), "none");
	cr_expect_not_null(virtual_for(l.mesh, NULL, flat_span_of("web"), NULL));
	cr_expect_str_eq(vs_of(flat_mesh_gateway(l.mesh, 1), 0, "web"), "api");
	cr_expect(strstr(loaded_text(&l), "VirtualService a/short: host \"web\" means "
					  "\"web.a.svc.cluster.local\" at gateways, and no service "
					  "has it"));
	cr_expect(!strstr(loaded_text(&l), "\"::1\" means"));
	loaded_fini(&l);
}

Test(gateway, a_virtual_service_for_gateways_means_nothing_in_the_mesh)
{
	struct loaded l = load_good(edge);
	cr_expect_null(virtual_for(l.mesh, NULL, flat_span_of("exact.example"), NULL));
	cr_expect_not_null(virtual_for(l.mesh, NULL, flat_span_of("both.example"), NULL));
	loaded_fini(&l);
}

Test(gateway, secrets_are_found_by_namespace_and_decoded)
{
	struct loaded l =
	    load_good("apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: n}\n"
		      "data: {tls.crt: aGVs\n      bG8=, tls.key: eA==}\n");
	const struct flat_secret *s = flat_mesh_secret(l.mesh, "n", "c");
	cr_assert_not_null(s);
	cr_expect_str_eq(s->cert, "hello");
	cr_expect_str_eq(s->key, "x");
	cr_expect_null(s->ca);
	cr_expect_null(flat_mesh_secret(l.mesh, "m", "c"));
	loaded_fini(&l);
}
