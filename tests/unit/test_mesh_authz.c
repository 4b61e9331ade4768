/*
 * Istio's meaning of AuthorizationPolicy for connections, case by case. Expectations come from Istio's
 * documentation ("Authorization Policy", "Authorization Policy Conditions", task "TCP Traffic").
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "mesh/authz.h"
#include "mesh/ext_authz.h"
#include "support_mesh.h"

#define SLEEP "cluster.local/ns/foo/sa/sleep"
#define OTHER "cluster.local/ns/bar/sa/other"

/* The destination: workload httpbin of namespace foo, labels app=httpbin, version=v1. */
#define WORKLOAD                                                                                   \
	"apiVersion: mesh.libflat.io/v1\n"                                                         \
	"kind: Workload\n"                                                                         \
	"metadata: {name: httpbin, namespace: foo, labels: {app: httpbin, version: v1}}\n"         \
	"spec: {selectors: [{uid: 1}]}\n"

/* A policy of namespace NS with a spec in flow style. */
#define POLICY(ns, name, spec)                                                                     \
	"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"                       \
	"metadata: {name: " name ", namespace: " ns "}\nspec: " spec "\n"
#define ALLOW(rules) POLICY("foo", "p", "{rules: " rules "}")
#define DENY(rules) POLICY("foo", "d", "{action: DENY, rules: " rules "}")
#define FROM(source) "[{from: [{source: {" source "}}]}]"
#define TO(operation) "[{to: [{operation: {" operation "}}]}]"
#define WHEN(key, rest) "[{when: [{key: " key ", " rest "}]}]"

struct authz_case {
	const char *what;
	const char *policies;
	const char *principal; /* NULL: plain client */
	const char *source_ip; /* NULL: 10.1.2.3 */
	const char *remote_ip; /* NULL: none */
	uint16_t port;	       /* 0: 9000 */
	enum flat_authz_reason want;
};

#define ALLOWED FLAT_AUTHZ_ALLOWED_BY_RULE
#define DENIED FLAT_AUTHZ_DENIED_BY_RULE
#define NOT_ALLOWED FLAT_AUTHZ_NOT_ALLOWED
#define NO_POLICY FLAT_AUTHZ_NO_POLICY
#define CUSTOM FLAT_AUTHZ_DENIED_BY_CUSTOM

#define ALIASES "---\nkind: MeshConfig\ntrustDomainAliases: [old-td, other.td]\n"

#define SERVICE(ns, name, app)                                                                     \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns "}\n"      \
	"spec: {selector: {app: " app "}, ports: [{port: 80}]}\n"
#define GATEWAY(name, app)                                                                         \
	"---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " name           \
	", namespace: foo}\nspec: {selector: {app: " app "}, servers: [{port: {number: 80, name: " \
	"http, protocol: HTTP}, hosts: ['*']}]}\n"
#define TARGET(ns, refs) POLICY(ns, "p", "{targetRefs: [" refs "], rules: []}")

static const struct authz_case cases[] = {
    /* What policies are attached to (targetRefs). */
    {"a Service's policy holds for its workloads",
     SERVICE("foo", "web", "httpbin") TARGET("foo", "{kind: Service, group: '', name: web}"), SLEEP,
     0, 0, 0, NOT_ALLOWED},
    {"and for no others",
     SERVICE("foo", "web", "other") TARGET("foo", "{kind: Service, name: web}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"one of several is enough",
     SERVICE("foo", "a", "other") SERVICE("foo", "web", "httpbin")
	 TARGET("foo", "{kind: Service, name: a}, {kind: Service, name: web}"),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"of the policy's own namespace alone",
     SERVICE("istio-system", "web", "httpbin") TARGET("istio-system", "{kind: Service, name: web}"),
     SLEEP, 0, 0, 0, NO_POLICY},
    {"a Gateway's policy holds for its workloads",
     GATEWAY("gw", "httpbin")
	 TARGET("foo", "{kind: Gateway, group: gateway.networking.k8s.io, name: gw}"),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"and not for those of another",
     GATEWAY("gw", "other")
	 TARGET("foo", "{kind: Gateway, group: gateway.networking.k8s.io, name: gw}"),
     SLEEP, 0, 0, 0, NO_POLICY},
    /* Trust domains that count as one (MeshConfig trustDomainAliases). */
    {"another trust domain is another identity",
     ALLOW(FROM("principals: [old-td/ns/foo/sa/sleep]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"a policy may name an alias", ALIASES ALLOW(FROM("principals: [old-td/ns/foo/sa/sleep]")),
     SLEEP, 0, 0, 0, ALLOWED},
    {"an identity may be of an alias",
     ALIASES ALLOW(FROM("principals: [cluster.local/ns/foo/sa/sleep]")), "old-td/ns/foo/sa/sleep",
     0, 0, 0, ALLOWED},
    {"and of one where the policy names another",
     ALIASES ALLOW(FROM("principals: ['other.td/ns/foo/*']")), "old-td/ns/foo/sa/sleep", 0, 0, 0,
     ALLOWED},
    {"but not of a stranger", ALIASES ALLOW(FROM("principals: [old-td/ns/foo/sa/sleep]")),
     "strange/ns/foo/sa/sleep", 0, 0, 0, NOT_ALLOWED},
    {"an alias is excluded too", ALIASES ALLOW(FROM("notPrincipals: [other.td/ns/foo/sa/sleep]")),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"an alias is denied too", ALIASES DENY(FROM("principals: [old-td/ns/foo/sa/sleep]")), SLEEP, 0,
     0, 0, DENIED},
    /* Trust domains by themselves. */
    {"its trust domain", ALLOW(FROM("trustDomains: [cluster.local]")), SLEEP, 0, 0, 0, ALLOWED},
    {"one of several", ALLOW(FROM("trustDomains: [a, strange]")), "strange/ns/foo/sa/sleep", 0, 0,
     0, ALLOWED},
    {"another trust domain", ALLOW(FROM("trustDomains: [cluster.local]")),
     "strange/ns/foo/sa/sleep", 0, 0, 0, NOT_ALLOWED},
    {"not a part of one", ALLOW(FROM("trustDomains: [cluster]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"a dot is a dot", ALLOW(FROM("trustDomains: [cluster.local]")), "cluster-local/ns/foo/sa/s", 0,
     0, 0, NOT_ALLOWED},
    {"how it begins", ALLOW(FROM("trustDomains: ['clu*']")), SLEEP, 0, 0, 0, ALLOWED},
    {"how it ends", ALLOW(FROM("trustDomains: ['*.local']")), SLEEP, 0, 0, 0, ALLOWED},
    {"and not how the principal ends", ALLOW(FROM("trustDomains: ['*sleep']")), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"any trust domain", ALLOW(FROM("trustDomains: ['*']")), "strange/ns/foo/sa/sleep", 0, 0, 0,
     ALLOWED},
    {"but of somebody", ALLOW(FROM("trustDomains: ['*']")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"none of these", ALLOW(FROM("notTrustDomains: ['bad*', untrusted]")), "badly/ns/foo/sa/sleep",
     0, 0, 0, NOT_ALLOWED},
    {"who is in none is not in these", ALLOW(FROM("notTrustDomains: ['bad*']")), NULL, 0, 0, 0,
     ALLOWED},
    {"a trust domain is denied", DENY(FROM("trustDomains: [strange]")), "strange/ns/foo/sa/sleep",
     0, 0, 0, DENIED},
    {"a trust domain as a condition", ALLOW(WHEN("source.trustDomain", "values: [strange]")),
     "strange/ns/foo/sa/sleep", 0, 0, 0, ALLOWED},
    {"a trust domain excluded by a condition",
     ALLOW(WHEN("source.trustDomain", "notValues: [cluster.local]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"trust domains that count as one", ALIASES ALLOW(FROM("trustDomains: [cluster.local]")),
     "old-td/ns/foo/sa/sleep", 0, 0, 0, ALLOWED},
    {"in whichever way", ALIASES ALLOW(FROM("trustDomains: [other.td]")), SLEEP, 0, 0, 0, ALLOWED},
    {"an excluded one too", ALIASES ALLOW(FROM("notTrustDomains: [old-td]")), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"but patterns are what they are", ALIASES ALLOW(FROM("trustDomains: ['old*']")), SLEEP, 0, 0,
     0, NOT_ALLOWED},
    {"and strangers strange", ALIASES ALLOW(FROM("trustDomains: [strange]")), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    /* Which policies count at all. */
    {"no policy allows", "", SLEEP, 0, 0, 0, NO_POLICY},
    {"no policy allows plain clients", "", NULL, 0, 0, 0, NO_POLICY},
    {"empty spec allows nothing", POLICY("foo", "p", "{}"), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"empty rules allow nothing", ALLOW("[]"), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"an empty rule allows everything", ALLOW("[{}]"), NULL, 0, 0, 0, ALLOWED},
    {"a policy of another namespace does not count", POLICY("bar", "p", "{}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"a policy of the root namespace counts everywhere", POLICY("istio-system", "p", "{}"), SLEEP,
     0, 0, 0, NOT_ALLOWED},
    {"a selector that holds", POLICY("foo", "p", "{selector: {matchLabels: {app: httpbin}}}"),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"a selector with another value", POLICY("foo", "p", "{selector: {matchLabels: {app: x}}}"),
     SLEEP, 0, 0, 0, NO_POLICY},
    {"a selector must hold whole",
     POLICY("foo", "p", "{selector: {matchLabels: {app: httpbin, tier: a}}}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"a selector of two labels",
     POLICY("foo", "p", "{selector: {matchLabels: {app: httpbin, version: v1}}}"), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"root namespace with selector that holds",
     POLICY("istio-system", "p", "{selector: {matchLabels: {version: v1}}}"), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"root namespace with selector that does not",
     POLICY("istio-system", "p", "{selector: {matchLabels: {version: v2}}}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"DENY without rules denies nothing", DENY("[]"), SLEEP, 0, 0, 0, NO_POLICY},
    {"DENY with an empty rule denies everything", DENY("[{}]"), SLEEP, 0, 0, 0, DENIED},
    {"DENY that does not match leaves all allowed", DENY(TO("ports: ['1']")), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"DENY wins over ALLOW", ALLOW("[{}]") DENY("[{}]"), SLEEP, 0, 0, 0, DENIED},
    {"ALLOW counts where DENY does not match", ALLOW("[{}]") DENY(TO("ports: ['1']")), SLEEP, 0, 0,
     0, ALLOWED},
    {"one ALLOW policy of two is enough", ALLOW("[]") POLICY("foo", "q", "{rules: [{}]}"), SLEEP, 0,
     0, 0, ALLOWED},
    {"root ALLOW with namespace allow-nothing",
     POLICY("foo", "p", "{}") POLICY("istio-system", "q", "{rules: [{}]}"), SLEEP, 0, 0, 0,
     ALLOWED},
    {"root DENY over namespace ALLOW",
     ALLOW("[{}]") POLICY("istio-system", "q", "{action: DENY, rules: [{}]}"), SLEEP, 0, 0, 0,
     DENIED},
    {"AUDIT decides nothing", POLICY("foo", "p", "{action: AUDIT, rules: [{}]}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    {"CUSTOM that matches fails closed",
     POLICY("foo", "c", "{action: CUSTOM, provider: {name: x}, rules: [{}]}") ALLOW("[{}]"), SLEEP,
     0, 0, 0, CUSTOM},
    {"CUSTOM that does not match decides nothing",
     POLICY("foo", "c", "{action: CUSTOM, provider: {name: x}, rules: " TO("ports: ['1']") "}"),
     SLEEP, 0, 0, 0, NO_POLICY},
    {"CUSTOM comes before DENY",
     POLICY("foo", "c", "{action: CUSTOM, provider: {name: x}, rules: [{}]}") DENY("[{}]"), SLEEP,
     0, 0, 0, CUSTOM},
    {"CUSTOM drops HTTP fields and matches on the rest",
     POLICY("foo", "c", "{action: CUSTOM, provider: {name: x}, rules: " TO("paths: [/admin]") "}"),
     SLEEP, 0, 0, 0, CUSTOM},
    {"targetRefs attach to no workload",
     POLICY("foo", "p", "{targetRefs: [{kind: Gateway, name: g}], rules: []}"), SLEEP, 0, 0, 0,
     NO_POLICY},
    /* Principals. */
    {"principal, exact", ALLOW(FROM("principals: [" SLEEP "]")), SLEEP, 0, 0, 0, ALLOWED},
    {"principal, other", ALLOW(FROM("principals: [" SLEEP "]")), OTHER, 0, 0, 0, NOT_ALLOWED},
    {"principal, plain client", ALLOW(FROM("principals: [" SLEEP "]")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"principal, empty is none", ALLOW(FROM("principals: ['*']")), "", 0, 0, 0, NOT_ALLOWED},
    {"principal, with scheme in the identity", ALLOW(FROM("principals: [" SLEEP "]")),
     "spiffe://" SLEEP, 0, 0, 0, ALLOWED},
    {"principal, exact is no prefix", ALLOW(FROM("principals: [" SLEEP "]")), SLEEP "y", 0, 0, 0,
     NOT_ALLOWED},
    {"principal, prefix", ALLOW(FROM("principals: [cluster.local/ns/foo/*]")), SLEEP, 0, 0, 0,
     ALLOWED},
    {"principal, prefix of another", ALLOW(FROM("principals: [cluster.local/ns/foo/*]")), OTHER, 0,
     0, 0, NOT_ALLOWED},
    {"principal, suffix", ALLOW(FROM("principals: ['*/sa/sleep']")), SLEEP, 0, 0, 0, ALLOWED},
    {"principal, suffix of another", ALLOW(FROM("principals: ['*/sa/sleep']")), OTHER, 0, 0, 0,
     NOT_ALLOWED},
    {"principal, presence", ALLOW(FROM("principals: ['*']")), OTHER, 0, 0, 0, ALLOWED},
    {"principal, presence with none", ALLOW(FROM("principals: ['*']")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"one of several principals", ALLOW(FROM("principals: [x, " OTHER "]")), OTHER, 0, 0, 0,
     ALLOWED},
    {"notPrincipals, the one", ALLOW(FROM("notPrincipals: [" SLEEP "]")), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"notPrincipals, another", ALLOW(FROM("notPrincipals: [" SLEEP "]")), OTHER, 0, 0, 0, ALLOWED},
    {"notPrincipals holds for a plain client", ALLOW(FROM("notPrincipals: [" SLEEP "]")), NULL, 0,
     0, 0, ALLOWED},
    {"DENY all but those with identity", DENY(FROM("notPrincipals: ['*']")), NULL, 0, 0, 0, DENIED},
    {"DENY all but those with identity, with one", DENY(FROM("notPrincipals: ['*']")), SLEEP, 0, 0,
     0, NO_POLICY},
    /* Namespaces. */
    {"namespace", ALLOW(FROM("namespaces: [foo]")), SLEEP, 0, 0, 0, ALLOWED},
    {"namespace, other", ALLOW(FROM("namespaces: [foo]")), OTHER, 0, 0, 0, NOT_ALLOWED},
    {"namespace, plain client", ALLOW(FROM("namespaces: ['*']")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"namespace, prefix", ALLOW(FROM("namespaces: ['fo*']")), SLEEP, 0, 0, 0, ALLOWED},
    {"namespace, suffix", ALLOW(FROM("namespaces: ['*oo']")), SLEEP, 0, 0, 0, ALLOWED},
    {"namespace, star in the middle", ALLOW(FROM("namespaces: ['f*o']")), SLEEP, 0, 0, 0, ALLOWED},
    {"namespace, exact is no prefix", ALLOW(FROM("namespaces: [fo]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"notNamespaces, the one", ALLOW(FROM("notNamespaces: [foo]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"notNamespaces, plain client", DENY(FROM("notNamespaces: [foo]")), NULL, 0, 0, 0, DENIED},
    /* Service accounts. */
    {"service account in the policy's namespace", ALLOW(FROM("serviceAccounts: [sleep]")), SLEEP, 0,
     0, 0, ALLOWED},
    {"service account of another namespace", ALLOW(FROM("serviceAccounts: [other]")), OTHER, 0, 0,
     0, NOT_ALLOWED},
    {"service account with namespace", ALLOW(FROM("serviceAccounts: [bar/other]")), OTHER, 0, 0, 0,
     ALLOWED},
    {"service account of a namespace that is called sa", DENY(FROM("serviceAccounts: [sa/evil]")),
     "cluster.local/ns/sa/sa/evil", 0, 0, 0, DENIED},
    {"notServiceAccounts", DENY(FROM("notServiceAccounts: [sleep]")), OTHER, 0, 0, 0, DENIED},
    {"notServiceAccounts, the one", DENY(FROM("notServiceAccounts: [sleep]")), SLEEP, 0, 0, 0,
     NO_POLICY},
    /* Addresses. */
    {"ipBlocks, in", ALLOW(FROM("ipBlocks: [10.1.0.0/16]")), NULL, 0, 0, 0, ALLOWED},
    {"ipBlocks, out", ALLOW(FROM("ipBlocks: [10.2.0.0/16]")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"ipBlocks, one address", ALLOW(FROM("ipBlocks: [10.1.2.3]")), NULL, 0, 0, 0, ALLOWED},
    {"ipBlocks, last address of the block", ALLOW(FROM("ipBlocks: [10.1.2.0/30]")), NULL, 0, 0, 0,
     ALLOWED},
    {"ipBlocks, first address beyond", ALLOW(FROM("ipBlocks: [10.1.2.0/30]")), NULL, "10.1.2.4", 0,
     0, NOT_ALLOWED},
    {"ipBlocks, whole family", ALLOW(FROM("ipBlocks: [0.0.0.0/0]")), NULL, "::2", 0, 0,
     NOT_ALLOWED},
    {"ipBlocks, IPv6", ALLOW(FROM("ipBlocks: ['fd00::/8']")), NULL, "fd12::1", 0, 0, ALLOWED},
    {"ipBlocks, IPv4 in IPv6", ALLOW(FROM("ipBlocks: [10.1.2.3]")), NULL, "::ffff:10.1.2.3", 0, 0,
     ALLOWED},
    {"notIpBlocks", ALLOW(FROM("notIpBlocks: [10.1.0.0/16]")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"remoteIpBlocks is the source without a proxy", ALLOW(FROM("remoteIpBlocks: [10.1.2.3]")),
     NULL, 0, 0, 0, ALLOWED},
    {"remoteIpBlocks with a proxy", ALLOW(FROM("remoteIpBlocks: [1.1.1.1]")), NULL, 0, "1.1.1.1", 0,
     ALLOWED},
    {"ipBlocks is not the remote address", ALLOW(FROM("ipBlocks: [1.1.1.1]")), NULL, 0, "1.1.1.1",
     0, NOT_ALLOWED},
    {"notRemoteIpBlocks", DENY(FROM("notRemoteIpBlocks: [10.1.2.3]")), NULL, 0, "1.1.1.1", 0,
     DENIED},
    /* Ports. */
    {"port", ALLOW(TO("ports: ['9000']")), NULL, 0, 0, 0, ALLOWED},
    {"port, other", ALLOW(TO("ports: ['9000']")), NULL, 0, 0, 9001, NOT_ALLOWED},
    {"port, not quoted", ALLOW(TO("ports: [9000]")), NULL, 0, 0, 0, ALLOWED},
    {"notPorts", ALLOW(TO("notPorts: ['9000']")), NULL, 0, 0, 0, NOT_ALLOWED},
    {"notPorts, other", ALLOW(TO("notPorts: ['9000']")), NULL, 0, 0, 9001, ALLOWED},
    {"ports and notPorts", ALLOW(TO("ports: [9000, 9001], notPorts: [9001]")), NULL, 0, 0, 9001,
     NOT_ALLOWED},
    /* How parts combine. */
    {"fields of a source: all", ALLOW(FROM("principals: [" SLEEP "], ipBlocks: [10.2.0.0/16]")),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"sources of a rule: any",
     ALLOW("[{from: [{source: {namespaces: [bar]}}, {source: {namespaces: [foo]}}]}]"), SLEEP, 0, 0,
     0, ALLOWED},
    {"from and to: both",
     ALLOW("[{from: [{source: {namespaces: [foo]}}], to: [{operation: {ports: [1]}}]}]"), SLEEP, 0,
     0, 0, NOT_ALLOWED},
    {"rules: any",
     ALLOW("[{to: [{operation: {ports: [1]}}]}, {to: [{operation: {ports: [9000]}}]}]"), SLEEP, 0,
     0, 0, ALLOWED},
    {"values and notValues", ALLOW(FROM("namespaces: [foo], notPrincipals: [" SLEEP "]")), SLEEP, 0,
     0, 0, NOT_ALLOWED},
    /* Conditions. */
    {"when source.ip", ALLOW(WHEN("source.ip", "values: [10.1.0.0/16]")), NULL, 0, 0, 0, ALLOWED},
    {"when remote.ip", ALLOW(WHEN("remote.ip", "values: [1.1.1.1]")), NULL, 0, "1.1.1.1", 0,
     ALLOWED},
    {"when source.namespace", ALLOW(WHEN("source.namespace", "values: [foo]")), SLEEP, 0, 0, 0,
     ALLOWED},
    {"when source.principal", ALLOW(WHEN("source.principal", "values: [" SLEEP "]")), OTHER, 0, 0,
     0, NOT_ALLOWED},
    {"when destination.ip", ALLOW(WHEN("destination.ip", "values: [10.9.9.9]")), NULL, 0, 0, 0,
     ALLOWED},
    {"when destination.ip, other", ALLOW(WHEN("destination.ip", "values: [10.9.9.8]")), NULL, 0, 0,
     0, NOT_ALLOWED},
    {"when destination.port", ALLOW(WHEN("destination.port", "values: ['9000']")), NULL, 0, 0, 0,
     ALLOWED},
    {"when notValues", ALLOW(WHEN("destination.port", "notValues: ['9000']")), NULL, 0, 0, 0,
     NOT_ALLOWED},
    {"conditions: all",
     ALLOW("[{when: [{key: destination.port, values: [9000]}, {key: source.ip, values: [1.1.1.1]}]"
	   "}]"),
     NULL, 0, 0, 0, NOT_ALLOWED},
    /* What a connection does not have: an ALLOW rule never matches, a DENY rule does without it. */
    {"ALLOW methods", ALLOW(TO("methods: [GET], ports: [9000]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"ALLOW notPaths", ALLOW(TO("notPaths: [/a]")), SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"ALLOW hosts in one of two operations spoils the rule",
     ALLOW("[{to: [{operation: {hosts: [a]}}, {operation: {ports: [9000]}}]}]"), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"ALLOW with HTTP leaves other rules",
     ALLOW("[{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: [9000]}}]}]"), SLEEP,
     0, 0, 0, ALLOWED},
    {"ALLOW requestPrincipals", ALLOW(FROM("requestPrincipals: ['*']")), SLEEP, 0, 0, 0,
     NOT_ALLOWED},
    {"ALLOW when request.headers", ALLOW(WHEN("'request.headers[x]'", "values: [a]")), SLEEP, 0, 0,
     0, NOT_ALLOWED},
    {"ALLOW when request.auth.claims", ALLOW(WHEN("'request.auth.claims[iss]'", "values: [a]")),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"ALLOW when connection.sni, which was not read", ALLOW(WHEN("connection.sni", "values: [a]")),
     SLEEP, 0, 0, 0, NOT_ALLOWED},
    {"DENY when connection.sni, which was not read", DENY(WHEN("connection.sni", "values: [a]")),
     SLEEP, 0, 0, 0, DENIED},
    {"DENY methods with ports, that port", DENY(TO("methods: [POST], ports: [9000]")), SLEEP, 0, 0,
     0, DENIED},
    {"DENY methods with ports, another port", DENY(TO("methods: [POST], ports: [9000]")), SLEEP, 0,
     0, 9001, NO_POLICY},
    {"DENY methods alone denies all", DENY(TO("methods: [POST]")), SLEEP, 0, 0, 0, DENIED},
    {"DENY requestPrincipals with namespaces",
     DENY(FROM("notRequestPrincipals: ['*'], namespaces: [foo]")), OTHER, 0, 0, 0, NO_POLICY},
    {"DENY when request.headers denies all", DENY(WHEN("'request.headers[x]'", "values: [a]")),
     SLEEP, 0, 0, 0, DENIED},
};

static struct flat_ip ip_of(const char *text, const char *otherwise)
{
	struct flat_ip ip = {0};

	if (!text)
		text = otherwise;
	if (text)
		cr_assert_eq(flat_ip_parse(text, &ip), 0, "%s", text);
	return ip;
}

static void run_case(const struct authz_case *c)
{
	struct flat_strbuf yaml = {0};
	struct flat_authz_verdict verdict;
	struct flat_authz_input input = {.source_principal = c->principal};
	struct loaded l;

	flat_strbuf_puts(&yaml, WORKLOAD);
	flat_strbuf_puts(&yaml, c->policies);
	l = load_good(flat_strbuf_str(&yaml));
	input.source_ip = ip_of(c->source_ip, "10.1.2.3");
	input.remote_ip = ip_of(c->remote_ip, NULL);
	input.destination_ip = ip_of("10.9.9.9", NULL);
	input.destination_port = c->port ? c->port : 9000;
	input.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	cr_assert_not_null(input.destination);
	flat_authz_check(l.mesh, &input, &verdict);
	cr_expect_eq(verdict.reason, c->want, "%s: %s, not %s; %s", c->what,
		     flat_authz_reason_name(verdict.reason), flat_authz_reason_name(c->want),
		     verdict.text);
	cr_expect_eq(verdict.allowed,
		     c->want == FLAT_AUTHZ_NO_POLICY || c->want == FLAT_AUTHZ_ALLOWED_BY_RULE, "%s",
		     c->what);
	cr_expect_eq(verdict.policy_name == NULL, c->want == FLAT_AUTHZ_NO_POLICY, "%s", c->what);
	loaded_fini(&l);
	flat_strbuf_fini(&yaml);
}

Test(mesh_authz, decides_as_istio)
{
	size_t i;

	cr_assert_geq(FLAT_ARRAY_SIZE(cases), 60);
	for (i = 0; i < FLAT_ARRAY_SIZE(cases); i++)
		run_case(&cases[i]);
}

Test(mesh_authz, names_policy_rule_and_place)
{
	struct loaded l = load_good(
	    WORKLOAD "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
		     "metadata: {name: d, namespace: foo}\nspec:\n  action: DENY\n  rules:\n"
		     "  - to: [{operation: {ports: [1]}}]\n"
		     "  - from: [{source: {namespaces: [foo]}}]\n");
	struct flat_authz_input input = {.source_principal = SLEEP, .destination_port = 9000};
	struct flat_authz_verdict v;

	input.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	flat_authz_check(l.mesh, &input, &v);
	cr_assert_eq(v.reason, FLAT_AUTHZ_DENIED_BY_RULE);
	cr_expect_eq(v.rule, 1);
	cr_expect_str_eq(v.policy_name, "d");
	cr_expect_str_eq(v.policy_namespace, "foo");
	cr_expect_str_eq(v.where.file, "t.yaml");
	cr_expect_eq(v.where.line, 13);
	cr_expect_eq(v.where.col, 5);
	cr_expect(strstr(v.text, SLEEP " to port 9000 of foo/httpbin is denied: rule 1 of DENY "
				       "policy foo/d (t.yaml:13)"),
		  "%s", v.text);
	loaded_fini(&l);
}

Test(mesh_authz, server_that_is_no_workload_is_under_the_root_namespace_only)
{
	struct loaded l = load_good(POLICY("foo", "p", "{}") POLICY(
	    "istio-system", "q", "{selector: {matchLabels: {a: b}}}"));
	struct flat_authz_input input = {.destination_port = 1};
	struct flat_authz_verdict v;

	flat_authz_check(l.mesh, &input, &v);
	cr_expect_eq(v.reason, FLAT_AUTHZ_NO_POLICY);
	loaded_fini(&l);
	l = load_good(POLICY("istio-system", "q", "{}"));
	flat_authz_check(l.mesh, &input, &v);
	cr_expect_eq(v.reason, FLAT_AUTHZ_NOT_ALLOWED);
	loaded_fini(&l);
}

Test(mesh_authz, root_namespace_comes_from_mesh_config)
{
	struct loaded l = load_good(WORKLOAD POLICY("top", "q", "{}") "---\nkind: MeshConfig\n"
								      "rootNamespace: top\n");
	struct flat_authz_input input = {.destination_port = 1};
	struct flat_authz_verdict v;

	input.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	flat_authz_check(l.mesh, &input, &v);
	cr_expect_eq(v.reason, FLAT_AUTHZ_NOT_ALLOWED);
	loaded_fini(&l);
}

Test(mesh_authz, dry_run_decides_nothing)
{
	struct loaded l = load_good(
	    WORKLOAD
	    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
	    "metadata: {name: p, namespace: foo, annotations: {istio.io/dry-run: 'true'}}\n"
	    "spec: {action: DENY, rules: [{}]}\n");
	struct flat_authz_input input = {.destination_port = 1};
	struct flat_authz_verdict v;

	input.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	flat_authz_check(l.mesh, &input, &v);
	cr_expect_eq(v.reason, FLAT_AUTHZ_NO_POLICY);
	loaded_fini(&l);
}

Test(mesh_authz, what_decides_nothing_is_told)
{
	struct loaded l = load_good(
	    WORKLOAD
	    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
	    "metadata: {name: d, namespace: foo, annotations: {istio.io/dry-run: 'true'}}\n"
	    "spec: {action: DENY, rules: [{to: [{operation: {ports: ['2']}}]}]}\n"
	    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
	    "metadata: {name: a, namespace: foo, annotations: {istio.io/dry-run: 'true'}}\n"
	    "spec: {rules: [{to: [{operation: {ports: ['1']}}]}]}\n" POLICY(
		"foo", "u", "{action: AUDIT, rules: [{}, {to: [{operation: {ports: ['1']}}]}]}"));
	struct flat_authz_input input = {.destination_port = 1};
	struct flat_authz_notes n;

	input.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	cr_assert(flat_authz_notes(l.mesh, &input, &n));
	cr_expect(n.audit.policy && n.audit.rule == 0);
	cr_expect(n.has_allow && n.allow.policy && n.has_deny && !n.deny.policy);
	input.destination_port = 2;
	cr_assert(flat_authz_notes(l.mesh, &input, &n));
	cr_expect(n.has_allow && !n.allow.policy && n.has_deny && n.deny.policy);
	input.destination = NULL;
	cr_expect_not(flat_authz_notes(l.mesh, &input, &n));
	loaded_fini(&l);
	l = load_good(WORKLOAD ALLOW("[{}]"));
	cr_expect_not(flat_authz_notes(l.mesh, &input, &n));
	loaded_fini(&l);
}

/* MeshConfig with two authorizers, and the service that they are of. */
#define PROVIDERS                                                                                  \
	WORKLOAD "---\nkind: MeshConfig\nextensionProviders:\n"                                    \
		 "- {name: x, envoyExtAuthzHttp: {service: foo/ext.example, port: 80, "            \
		 "pathPrefix: /p, timeout: 1s, statusOnError: '503', failOpen: true, "             \
		 "includeRequestHeadersInCheck: [a, 'b*'], headersToUpstreamOnAllow: ['*c']}}\n"   \
		 "- {name: y, envoyExtAuthzHttp: {service: ext.example, port: 80}}\n"              \
		 "- {name: g, envoyExtAuthzGrpc: {service: ext.example, port: 80}}\n"              \
		 "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                   \
		 "metadata: {name: ext, namespace: foo}\n"                                         \
		 "spec: {hosts: [ext.example], resolution: STATIC, ports: [{number: 80, name: "    \
		 "http}], endpoints: [{address: 10.0.0.1}]}\n"
#define ASKS(name, provider, rules)                                                                \
	POLICY("foo", name, "{action: CUSTOM, provider: {name: " provider "}, rules: " rules "}")

/* `allow`: authorizers that are asked say yes. `asked`, of `size` bytes, is who was, in order. */
static enum flat_authz_reason asked_of(const char *yaml, bool allow, char *asked, size_t size)
{
	static const char text[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
	struct loaded l = load_good(yaml);
	struct flat_http1 parser;
	struct flat_http_request request = {.head = &parser.head, .text = text};
	struct flat_authz_input in = {.http = &request};
	struct flat_authz_verdict v;
	size_t len = 0;

	flat_http1_begin(&parser, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(&parser, (const uint8_t *)text, sizeof(text) - 1), 0);
	request.path = flat_span_of("/a");
	in.destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin");
	asked[0] = '\0';
	for (;;) {
		flat_authz_check(l.mesh, &in, &v);
		cr_assert_eq(v.reason == FLAT_AUTHZ_ASK, v.ext != NULL);
		if (v.reason != FLAT_AUTHZ_ASK)
			break;
		cr_assert_eq(flat_mesh_ext_authz_in_order(l.mesh, v.order), v.ext);
		len +=
		    (size_t)snprintf(asked + len, size - len, "%s%s", len ? " " : "", v.ext->name);
		cr_assert_lt(len, size);
		if (!allow)
			break;
		in.custom_from = v.order + 1;
	}
	loaded_fini(&l);
	return v.reason;
}

static enum flat_authz_reason reason_of(const char *yaml, bool allow)
{
	char asked[64];

	return asked_of(yaml, allow, asked, sizeof(asked));
}

#define ALL "[{}]"
#define ONLY(path) "[{to: [{operation: {paths: [" path "]}}]}]"

Test(mesh_authz, authorizers_are_asked_as_istio_asks_them)
{
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ALL), false), FLAT_AUTHZ_ASK);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ONLY("/a")), false), FLAT_AUTHZ_ASK);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ONLY("/b")), false), NO_POLICY);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ALL) DENY("[{}]"), false), FLAT_AUTHZ_ASK);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ALL) DENY("[{}]"), true), DENIED);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ALL) ALLOW("[]"), true), NOT_ALLOWED);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "x", ALL), true), NO_POLICY);
	/* One that is not there: what its own rules match is denied. */
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "z", ONLY("/a")), false), CUSTOM);
	cr_expect_eq(reason_of(PROVIDERS ASKS("c", "z", ONLY("/b")), false), NO_POLICY);
	cr_expect_eq(reason_of(WORKLOAD ASKS("c", "x", ALL), false), CUSTOM);
}

Test(mesh_authz, about_a_connection_those_over_grpc_are_asked)
{
	static const struct {
		const char *yaml, *who; /* "": nobody */
		enum flat_authz_reason reason;
	} some[] = {
	    {PROVIDERS ASKS("c", "g", ALL), "g", FLAT_AUTHZ_ASK},
	    /* What only a request has is left out: it matches more. */
	    {PROVIDERS ASKS("c", "g", ONLY("/a")), "g", FLAT_AUTHZ_ASK},
	    {PROVIDERS ASKS("c", "g", "[{to: [{operation: {ports: ['1']}}]}]"), "", NO_POLICY},
	    {PROVIDERS ASKS("c", "x", ALL), "x", CUSTOM},
	    {PROVIDERS ASKS("c", "z", ALL), "", CUSTOM},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct loaded l = load_good(some[i].yaml);
		struct flat_authz_input in = {
		    .destination = flat_mesh_workload_by_name(l.mesh, "foo", "httpbin"),
		    .destination_port = 80,
		};
		struct flat_authz_verdict v;

		flat_authz_check(l.mesh, &in, &v);
		cr_expect_eq(v.reason, some[i].reason, "%zu: %s", i, v.text);
		cr_expect_str_eq(v.ext ? v.ext->name : "", some[i].who, "%zu", i);
		in.custom_from = v.order + 1;
		if (v.ext)
			flat_authz_check(l.mesh, &in, &v);
		cr_expect(!some[i].who[0] || v.reason == NO_POLICY, "%zu: %s", i, v.text);
		loaded_fini(&l);
	}
}

Test(mesh_authz, several_authorizers_are_asked_in_the_order_of_their_names)
{
	static const struct {
		const char *yaml, *asked;
		enum flat_authz_reason reason;
	} some[] = {
#define TWO(first, second) PROVIDERS ASKS("c", "y", ONLY(first)) ASKS("e", "x", ONLY(second))
	    {TWO("/a", "/a"), "x y", NO_POLICY},
	    {TWO("/a", "/b"), "y", NO_POLICY},
	    {TWO("/b", "/a"), "x", NO_POLICY},
	    {TWO("/b", "/c"), "", NO_POLICY},
	    {TWO("/a", "/a") DENY("[{}]"), "x y", DENIED},
	    /* Several policies of one are one question. */
	    {TWO("/a", "/a") ASKS("f", "x", ALL) ASKS("g", "y", ALL), "x y", NO_POLICY},
	    /* One that is not there denies what its own match, behind those before it. */
	    {PROVIDERS ASKS("c", "x", ONLY("/a")) ASKS("d", "z", ONLY("/b")), "x", NO_POLICY},
	    {PROVIDERS ASKS("c", "x", ONLY("/a")) ASKS("d", "z", ONLY("/a")), "x", CUSTOM},
	    {PROVIDERS ASKS("c", "x", ONLY("/a")) ASKS("d", "a", ONLY("/a")), "", CUSTOM},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		char asked[64];

		cr_expect_eq(asked_of(some[i].yaml, true, asked, sizeof(asked)), some[i].reason,
			     "%zu", i);
		cr_expect_str_eq(asked, some[i].asked, "%zu", i);
	}
}

Test(mesh_authz, what_names_more_authorizers_than_can_be_asked_denies)
{
	static char yaml[64 * 1024];
	size_t len = (size_t)snprintf(yaml, sizeof(yaml), "%s", PROVIDERS);
	char asked[64];

	for (uint32_t i = 0; i < FLAT_EXT_AUTHZ_MAX; i++)
		len += (size_t)snprintf(yaml + len, sizeof(yaml) - len,
					ASKS("p%u", "n%u", ONLY("/b")), i, i);
	snprintf(yaml + len, sizeof(yaml) - len, ASKS("p", "x", ONLY("/b")));
	cr_expect_eq(asked_of(yaml, true, asked, sizeof(asked)), NO_POLICY);
	snprintf(yaml + len, sizeof(yaml) - len, ASKS("p", "x", ONLY("/a")));
	cr_expect_eq(asked_of(yaml, true, asked, sizeof(asked)), CUSTOM);
	cr_expect_str_eq(asked, "");
}

Test(mesh_authz, authorizers_are_read_from_mesh_config)
{
	struct loaded l = load_good(PROVIDERS);
	const struct flat_ext_authz *x = flat_mesh_ext_authz(l.mesh, "x");

	cr_assert(x && x->service && !x->why_not);
	cr_expect_str_eq(x->path_prefix, "/p");
	cr_expect(x->fail_open && x->status_on_error == 503 && x->timeout_ms == 1000);
	cr_expect(flat_name_list_has(&x->to_check, flat_span_of("A")));
	cr_expect(flat_name_list_has(&x->to_check, flat_span_of("bcd")));
	cr_expect_not(flat_name_list_has(&x->to_check, flat_span_of("c")));
	cr_expect(flat_name_list_has(&x->to_upstream, flat_span_of("x-C")));
	x = flat_mesh_ext_authz(l.mesh, "y");
	cr_assert(x && x->service && x->status_on_error == 403 && !x->fail_open);
	cr_expect_null(flat_mesh_ext_authz(l.mesh, "z"));
	loaded_fini(&l);
	l = load_good(WORKLOAD
		      "---\nkind: MeshConfig\nextensionProviders:\n"
		      "- {name: x, envoyExtAuthzHttp: {service: none.example, port: 80}}\n");
	cr_expect(flat_mesh_ext_authz(l.mesh, "x")->why_not);
	cr_expect(strstr(loaded_text(&l), "no service none.example"));
	loaded_fini(&l);
}

/* A Service for httpbin, and a policy of `provider` with such a rule. */
#define SERVES(ports) BEHIND("bin", "httpbin", ports)
#define BEHIND(name, app, ports)                                                                   \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: foo}\n"         \
	"spec: {clusterIP: 10.96.0.2, selector: {app: " app "}, ports: [" ports "]}\n"
#define TCP "{name: tcp, port: 81, targetPort: 8081}"
#define HTTP "{name: http, port: 80, targetPort: 8080}"

Test(mesh_authz, ports_of_which_an_authorizer_over_http_is_not_asked_are_said)
{
	static const char through[] = "port 81 of bin.foo.svc.cluster.local is not declared HTTP: "
				      "connections there are let through unasked";
	static const char denied[] =
	    "port 81 of bin.foo.svc.cluster.local is not declared HTTP: "
	    "connections there that do not speak HTTP are denied where its rules match";
	static const struct {
		const char *yaml, *said; /* NULL: nothing */
	} some[] = {
	    {PROVIDERS SERVES(HTTP "," TCP) ASKS("p", "y", "[{}]"), through},
	    {PROVIDERS SERVES("{port: 81}") ASKS("p", "y", "[{}]"), denied},
	    {PROVIDERS SERVES(TCP) BEHIND("two", "httpbin", "{port: 8081}") ASKS("p", "y", "[{}]"),
	     denied},
	    {PROVIDERS SERVES(TCP) ASKS("p", "y", TO("ports: ['8081']")), through},
	    {PROVIDERS SERVES(TCP) ASKS("p", "y", TO("notPorts: ['8080']")), through},
	    {PROVIDERS SERVES(HTTP) ASKS("p", "y", "[{}]"), NULL},
	    {PROVIDERS SERVES(HTTP "," TCP) ASKS("p", "g", "[{}]"), NULL},
	    {PROVIDERS SERVES(HTTP "," TCP) ASKS("p", "y", TO("ports: ['8080']")), NULL},
	    {PROVIDERS SERVES(TCP) ASKS("p", "y", TO("notPorts: ['8081']")), NULL},
	    {PROVIDERS SERVES(TCP)
		 ASKS("p", "y", "[{when: [{key: destination.port, values: ['8080']}]}]"),
	     NULL},
	    {PROVIDERS BEHIND("bin", "other", TCP) ASKS("p", "y", "[{}]"), NULL},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct loaded l = load_good(some[i].yaml);
		const char *text = loaded_text(&l);

		cr_expect(some[i].said ? strstr(text, some[i].said) != NULL
				       : !strstr(text, "is asked over HTTP"),
			  "%s: %s", some[i].yaml, text);
		loaded_fini(&l);
	}
}

Test(mesh_authz, policies_that_match_nothing_are_said)
{
	static const struct {
		const char *yaml;
		bool said;
	} some[] = {
	    {POLICY("foo", "p", "{action: DENY}"), true},
	    {POLICY("foo", "p", "{action: DENY, rules: []}"), true},
	    {POLICY("foo", "p", "{action: AUDIT}"), true},
	    {POLICY("foo", "p", "{action: CUSTOM, provider: {name: x}}"), true},
	    {POLICY("foo", "p", "{action: DENY, rules: [{}]}"), false},
	    {POLICY("foo", "p", "{}"), false},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct loaded l = load_good(some[i].yaml);
		bool said = strstr(loaded_text(&l), "without rules matches nothing");

		cr_expect_eq(said, some[i].said, "%s: %s", some[i].yaml, loaded_text(&l));
		loaded_fini(&l);
	}
}

Test(mesh_authz, a_sentence_that_does_not_fit_is_cut_not_overrun)
{
	struct loaded l = load_good(WORKLOAD);
	struct flat_authz_input input = {.destination_port = 1};
	struct flat_authz_verdict v;
	char principal[4096];

	memset(principal, 'a', sizeof(principal));
	principal[sizeof(principal) - 1] = '\0';
	input.source_principal = principal;
	flat_authz_check(l.mesh, &input, &v);
	cr_expect_eq(strlen(v.text), FLAT_AUTHZ_TEXT_MAX - 1);
	loaded_fini(&l);
}
