/* Gateway API's BackendTLSPolicy: which policy is a port's, what is no policy, authorities that are not there. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/traffic.h"
#include "support_mesh.h"

#define SERVICE                                                                                    \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"                  \
	"spec: {ports: [{port: 80, name: http}, {port: 81, name: tcp}]}\n"                         \
	"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\n"            \
	"data: {ca.crt: one}\n"                                                                    \
	"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca2, namespace: shop}\n"           \
	"data: {ca.crt: two}\n"
#define POLICY(meta, target, validation)                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {"       \
	"namespace: shop, " meta "}\nspec: {targetRefs: [{group: '', kind: Service, name: web"     \
	"" target "}], validation: {" validation "}}\n"
#define CA "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]"

/* How a port is spoken to: the name that is asked for, or "-" for in the clear. */
static const struct flat_tls_origin *origin_of(const struct loaded *l, uint16_t port)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "web.shop", NULL);
	struct flat_traffic t;

	cr_assert(s);
	t = flat_rule_traffic(flat_mesh_rule_for(l->mesh, s, "shop"), NULL, s,
			      flat_service_port(s, port));
	cr_expect_eq(t.tls == FLAT_TLS_SIMPLE, t.origin != NULL);
	return t.origin;
}

static const char *sni_of(const struct loaded *l, uint16_t port)
{
	const struct flat_tls_origin *o = origin_of(l, port);

	return o ? o->sni : "-";
}

Test(backend_tls, a_port_has_one_policy)
{
	static const struct {
		const char *policies, *http, *tcp;
	} rows[] = {
	    {"", "-", "-"},
	    {POLICY("name: a", "", CA ", hostname: a"), "a", "a"},
	    {POLICY("name: a", ", sectionName: tcp", CA ", hostname: a"), "-", "a"},
	    {POLICY("name: a", ", sectionName: none", CA ", hostname: a"), "-", "-"},
	    /* Whatever stands first in the file. */
	    {POLICY("name: a", "", CA ", hostname: a")
		 POLICY("name: b", ", sectionName: tcp", CA ", hostname: b"),
	     "a", "b"},
	    {POLICY("name: b", "", CA ", hostname: b") POLICY("name: a", "", CA ", hostname: a"),
	     "a", "a"},
	    {POLICY("name: a, creationTimestamp: 2026-02-01T00:00:00Z", "", CA ", hostname: a")
		 POLICY("name: b, creationTimestamp: 2026-01-01T00:00:00Z", "", CA ", hostname: b"),
	     "b", "b"},
	    {POLICY("name: a", "", CA ", hostname: a")
		 POLICY("name: b, creationTimestamp: 2026-01-01T00:00:00Z", "", CA ", hostname: b"),
	     "b", "b"},
	};
	char yaml[4096];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		snprintf(yaml, sizeof(yaml), "%s%s", SERVICE, rows[i].policies);
		struct loaded l = load_good(yaml);

		cr_expect_str_eq(sni_of(&l, 80), rows[i].http, "row %zu", i);
		cr_expect_str_eq(sni_of(&l, 81), rows[i].tcp, "row %zu", i);
		loaded_fini(&l);
	}
}

Test(backend_tls, a_rule_that_speaks_of_tls_holds)
{
#define RULE(tls)                                                                                  \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, "     \
	"namespace: shop}\nspec: {host: web.shop.svc.cluster.local, trafficPolicy: {" tls "}}\n"
	struct loaded l = load_good(SERVICE POLICY("name: a", "", CA ", hostname: a")
					RULE("tls: {mode: DISABLE}"));

	cr_expect_null(origin_of(&l, 80));
	loaded_fini(&l);
	l = load_good(SERVICE POLICY("name: a", "", CA ", hostname: a")
			  RULE("loadBalancer: {simple: RANDOM}"));
	cr_expect_str_eq(sni_of(&l, 80), "a");
	loaded_fini(&l);
}

Test(backend_tls, authorities_are_those_that_are_there)
{
	struct loaded l = load_good(
	    SERVICE POLICY("name: a", "",
			   "hostname: a, caCertificateRefs: [{group: '', kind: ConfigMap, name: "
			   "ca}, {group: '', kind: "
			   "ConfigMap, name: no}, {group: '', kind: ConfigMap, name: ca2}]"));

	cr_expect_str_eq(origin_of(&l, 80)->authorities, "one\ntwo");
	cr_expect_null(origin_of(&l, 80)->broken);
	loaded_fini(&l);

	/* None: broken, not "those of the system", not in the clear. */
	l = load_good(SERVICE POLICY(
	    "name: a", "", "hostname: a, caCertificateRefs: [{group: x, kind: Other, name: ca}]"));
	cr_expect_not_null(origin_of(&l, 80)->broken);
	loaded_fini(&l);

	l = load_good(
	    SERVICE POLICY("name: a", "", "hostname: a, wellKnownCACertificates: System"));
	cr_expect_null(origin_of(&l, 80)->authorities);
	cr_expect_null(origin_of(&l, 80)->broken);
	loaded_fini(&l);
}

Test(backend_tls, names_by_their_type)
{
	struct loaded l =
	    load_good(SERVICE POLICY("name: a", "",
				     CA ", hostname: a, subjectAltNames: [{type: Hostname, "
					"hostname: '*.b.example'}, {type: URI, "
					"uri: 'spiffe://x/y', hostname: c}]"));
	const struct flat_tls_origin *o = origin_of(&l, 80);

	cr_assert_eq(o->n_names, 2);
	cr_expect_str_eq(o->names[0], "*.b.example");
	cr_expect_str_eq(o->names[1], "spiffe://x/y");
	loaded_fini(&l);
}

Test(backend_tls, what_is_no_policy)
{
	static const struct {
		const char *yaml, *says;
	} rows[] = {
	    {POLICY("name: a", "", CA), "field \"hostname\" is missing"},
	    {POLICY("name: a", "", "hostname: a"), "no authorities are named"},
	    {POLICY("name: a", "", CA ", hostname: a, wellKnownCACertificates: System"),
	     "authorities of its own, and those of the system"},
	    {POLICY("name: a", "", "hostname: a, wellKnownCACertificates: Mine"), "\"Mine\""},
	    {POLICY("name: a", "", CA ", hostname: 'a b'"), "a b"},
	    {POLICY("name: a", "", CA ", hostname: a, subjectAltNames: [{type: URI, hostname: b}]"),
	     "needs its type"},
	    {POLICY("name: a", "", CA ", hostname: a, subjectAltNames: [{hostname: b}]"),
	     "needs its type"},
	    {"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n"
	     "metadata: {name: a}\nspec: {validation: {" CA ", hostname: a}}\n",
	     "needs targetRefs and validation"},
	};
	char yaml[4096];

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		snprintf(yaml, sizeof(yaml), "%s%s", SERVICE, rows[i].yaml);
		struct loaded l = load_yaml(yaml);

		cr_expect_null(l.mesh, "row %zu", i);
		cr_expect(strstr(loaded_text(&l), rows[i].says), "row %zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
	}
}
