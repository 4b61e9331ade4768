/* What the loader says, word by word and place by place, and what it takes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/limits.h"
#include "mesh/build.h"
#include "support_folder.h"
#include "support_mesh.h"

#define META "metadata: {name: x}\n"
#define SE "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n" META
#define AP "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n" META
#define PA "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n" META
#define WL "apiVersion: mesh.libflat.io/v1\nkind: Workload\n" META
#define EF(patch)                                                                                  \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n" META                       \
	"spec: {configPatches: [" patch "]}\n"
#define LIMIT(context, config)                                                                     \
	"{applyTo: HTTP_FILTER, match: {context: " context "}, patch: {operation: INSERT_BEFORE, " \
	"value: {name: envoy.filters.http.local_ratelimit, typed_config: {'@type': "               \
	"type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, "    \
	"stat_prefix: a, " config "}}}}"
#define BUCKET "token_bucket: {max_tokens: 1, fill_interval: 1s}"
#define ALL                                                                                        \
	"filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: "     \
	"{numerator: 5, denominator: TEN_THOUSAND}}"
#define RATE(context, config)                                                                      \
	"{applyTo: HTTP_FILTER, match: {context: " context "}, patch: {operation: INSERT_BEFORE, " \
	"value: {name: envoy.filters.http.ratelimit, typed_config: {'@type': "                     \
	"type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: "       \
	"a, " config "}}}}"
#define CLUSTER(name)                                                                              \
	"rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: '" name                    \
	"'}}, transport_api_version: V3}"
#define SERVICE CLUSTER("outbound|1||l.b")
#define LIMITER                                                                                    \
	SE "spec: {hosts: [l.b], ports: [{number: 1, name: grpc}], resolution: STATIC, "           \
	   "endpoints: [{address: 10.1.1.1}]}\n---\n"
#define RULES(kind, match, rules)                                                                  \
	"{applyTo: " kind ", match: {context: ANY, routeConfiguration: {" match "}}, patch: "      \
	"{operation: MERGE, value: {rate_limits: [" rules "]}}}"
#define HEALTH(context, check)                                                                     \
	"{applyTo: CLUSTER, match: {context: " context "}, patch: {operation: MERGE, value: "      \
	"{health_checks: [{" check "}]}}}"
#define OFTEN "timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1"
#define SVC "apiVersion: v1\nkind: Service\n" META
#define TLS(text)                                                                                  \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\n"         \
	"spec: {host: a.b, trafficPolicy: {tls: {" text "}}}\n"
#define GOOD_SE "spec: {hosts: [a.b], ports: [{number: 1, name: t}], resolution: STATIC"

/* `said` is contained in what is said about `yaml`; `ret` is the result. */
struct config_case {
	const char *yaml;
	int ret;
	const char *said;
};

static const struct config_case cases[] = {
    /* Syntax. */
    {"a: [", -EINVAL, "t.yaml:2:1: not YAML: "},
    {"a: b: c", -EINVAL, "t.yaml:1:5: not YAML: mapping values are not allowed"},
    {"a: \xff", -EINVAL, "t.yaml:1:4: not readable at byte "},
    {"# \xc3\xa9\na: [\xc3\xa9, \xff]", -EINVAL, "t.yaml:2:8: not readable at byte "},
    /* What a terminal would obey is told as an escape, in one line. */
    {SE "spec: {hosts: [\"a\\n\\e[1m\\x9b\"], ports: [{number: 1, name: t}]}", -EINVAL,
     "\"a\\n\\x1b[1m\\u009b\" is no host name"},
    {SE "spec: {hosts: [a.b], ports: [{number: 010, name: t}]}", -EINVAL,
     "\"010\" is not a whole number"},
    {"apiVersion: v1\nkind: ServiceList\nmetadata: {resourceVersion: ''}\nitems: [{apiVersion: v1, "
     "kind: Service, metadata: {name: x}, spec: {ports: [{port: 80}]}}]\n",
     0, ""},
    /* The API's answers leave kind and apiVersion out of a list's items. */
    {"apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: x}, spec: {ports: [{port: "
     "80}]}}]\n",
     0, ""},
    {"apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: x}, spec: {ports: [{port: "
     "x}]}}]\n",
     -EINVAL, "Service default/x: \"x\" is not a whole number"},
    {"apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayList\nitems: [{metadata: {name: x}, "
     "spec: {servers: []}}]\n",
     -EINVAL, "unknown field \"servers\""},
    {"apiVersion: networking.istio.io/v1\nkind: GatewayList\nitems: [{metadata: {name: x}, "
     "spec: {listeners: []}}]\n",
     -EINVAL, "unknown field \"listeners\""},
    {"kind: ServiceList\nitems: [{metadata: {name: x}}]\n", -EINVAL,
     "field \"apiVersion\" is missing"},
    {"apiVersion: v2\nkind: ServiceList\nitems: [{metadata: {name: x}}]\n", -EINVAL,
     "apiVersion of kind Service is v1, not \"v2\""},
    {"apiVersion: v1\nkind: List\nitems: [{metadata: {name: x}}]\n", -EINVAL,
     "field \"kind\" is missing"},
    {"apiVersion: apps/v1\nkind: DeploymentList\nitems: [{metadata: {name: x}}]\n", 0,
     "kind DeploymentList is not honoured"},
    {"apiVersion: v1\nkind: FooList\nitems: []\n", -EINVAL, "unknown kind \"FooList\""},
    {"a: \"x\\0y\"", -EINVAL, "t.yaml:1:4: a text cannot hold a NUL character, remove it"},
    {"? [a]\n: b", -EINVAL, "t.yaml:1:3: a field's name cannot be a list or a mapping"},
    {"a: 1\nb: 2\na: 3", -EINVAL, "t.yaml:3:1: field \"a\" is there twice, keep one of them"},
    {"a: &x 1\nb: &x 2", -EINVAL, "t.yaml:2:4: an anchor of this name exists already"},
    {"a: *x", -EINVAL, "t.yaml:1:4: no such anchor in this document"},
    {"a: &x [*x]", -EINVAL, "t.yaml:1:8: an alias to a value that holds it"},
    {"a: &x {b: 1}\n<<: *x", -EINVAL, "t.yaml:2:1: merge keys are not supported"},
    {"[a]", -EINVAL, "t.yaml:1:1: a mapping of fields is expected here, not a list"},
    {"--- \n---\n# nothing\n", 0, ""},
    {"", 0, ""},
    /* The head of a document. */
    {"a: 1", -EINVAL, "t.yaml:1:1: field \"kind\" is missing, begin each document with"},
    {"kind: Workloda", -EINVAL,
     "t.yaml:1:7: unknown kind \"Workloda\", did you mean \"Workload\"?"},
    {"kind: Frobnicate", -EINVAL, "t.yaml:1:7: unknown kind \"Frobnicate\", see "},
    /* Local rate limits. */
    {EF("{applyTo: CLUSTER}"), 0,
     "the patch is not honoured: of EnvoyFilters only the HTTP_FILTER"},
    {EF(LIMIT("GATEWAY", BUCKET)), 0, "the patch is not honoured"},
    {EF(LIMIT("SIDECAR_INBOUND", BUCKET ", " ALL)), 0, ""},
    {EF(LIMIT("ANY", BUCKET ", " ALL)), 0, ""},
    {EF(LIMIT("SIDECAR_INBOUND", BUCKET)), 0, "the limit refuses nothing"},
    {EF(LIMIT("SIDECAR_INBOUND", "token_bucket: {max_tokens: 1}")), -EINVAL,
     "a token_bucket that does not say how many, or how often"},
    {EF(LIMIT("SIDECAR_INBOUND", "token_bucket: {max_tokens: 0, fill_interval: 1s}")), -EINVAL,
     "max_tokens"},
    {EF(LIMIT("SIDECAR_INBOUND", "token_bucket: {max_tokens: 1, fill_interval: 49ms}")), -EINVAL,
     "a fill_interval of less than 50 ms"},
    {EF(LIMIT("SIDECAR_INBOUND", BUCKET ", filter_enabledd: 1")), -EINVAL,
     "did you mean \"filter_enabled\"?"},
    {EF(LIMIT("SIDECAR_INBOUND", BUCKET ", " ALL ", descriptors: []")), 0, ""},
    {EF(LIMIT("ANY", BUCKET ", " ALL ", descriptors: [{entries: [{key: a}], " BUCKET "}]")), 0,
     "no request has any of the descriptors"},
    {EF(LIMIT("ANY", BUCKET ", " ALL ", descriptors: [{entries: [{key: a}]}]")), -EINVAL,
     "a descriptor that does not say all"},
    {EF(LIMIT("ANY",
	      BUCKET ", " ALL ", rate_limits: [{actions: [{request_headers: {header_name: x}}]}]")),
     -EINVAL, "the action request_headers does not say all"},
    {EF(LIMIT("ANY", BUCKET ", " ALL ", rate_limits: [{actions: [{metadata: {}}]}]")), 0,
     "the action \"metadata\" is not honoured, and so not these rate_limits"},
    {EF(LIMIT("ANY", BUCKET
	      ", " ALL
	      ", rate_limits: [{actions: [{header_value_match: {descriptor_value: a, headers: "
	      "[{name: b, range_match: {}}]}}]}]")),
     0, "the header matcher is not honoured"},
    {EF(LIMIT("ANY", BUCKET ", " ALL ", stage: 11")), -EINVAL, "from 0 to 10"},
    /* Limits by a service. */
    {LIMITER EF(RATE("SIDECAR_INBOUND", SERVICE)), 0, ""},
    {EF(RATE("ANY", SERVICE)), 0, "the rate limit's service l.b with port 1 is not there"},
    {LIMITER EF(RATE("GATEWAY", "timeout: 1s")), 0, "the filter names no service"},
    {EF(RATE("SIDECAR_OUTBOUND", SERVICE)), 0, "the patch is not honoured"},
    {EF(RATE("ANY", SERVICE ", rate_limited_status: {code: 1}")), -EINVAL, "from 100 to 599"},
    {EF(RATE("ANY", "rate_limit_service: {grpc_service: {google_grpc: {target_uri: a}}}")), 0,
     "google_grpc is not honoured: the service cannot be asked"},
    {EF(RATE("ANY", CLUSTER("outbound|1|v1|l.b"))), 0, "a cluster of a subset, or malformed"},
    {EF(RATE("ANY", CLUSTER("outbound|0||l.b"))), 0, "a cluster of a subset, or malformed"},
    {EF(RATE("ANY", CLUSTER("outbound| 1||l.b"))), 0, "a cluster of a subset, or malformed"},
    {EF(RATE("ANY", CLUSTER("outbound|+1||l.b"))), 0, "a cluster of a subset, or malformed"},
    {EF(RATE("ANY", "rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: "
		    "outbound|1||l.b, authority: \"a\\x01b\"}}}")),
     -EINVAL, "is no piece of a URL"},
    {EF(RATE("ANY", CLUSTER("outbound|1||"))), 0, "a cluster of a subset, or malformed"},
    {EF(RATE("ANY", SERVICE ", filter_enforced: {default_value: {numerator: 0}}")), 0,
     "the limit refuses nothing"},
    {EF(RULES("VIRTUAL_HOST", "",
	      "{actions: [{source_cluster: {}}, {destination_cluster: {}}, "
	      "{masked_remote_address: {v4_prefix_mask_len: 24}}]}")),
     0, ""},
    {EF(RULES("VIRTUAL_HOST", "",
	      "{actions: [{masked_remote_address: {v4_prefix_mask_len: 33}}]}")),
     -EINVAL, "from 0 to 32"},
    {EF(RULES("VIRTUAL_HOST", "",
	      "{actions: [{remote_address: {}}], hits_addend: {number: 1000000001}}")),
     -EINVAL, "from 0 to 1000000000"},
    {EF(RULES("VIRTUAL_HOST", "",
	      "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(a?b)%'}}")),
     0, "the format is not honoured"},
    {EF(RULES("VIRTUAL_HOST", "",
	      "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ()%'}}")),
     0, "the format is not honoured"},
    {EF(RULES("VIRTUAL_HOST", "", "{actions: [{remote_address: {}}], stage: 11}")), -EINVAL,
     "from 0 to 10"},
    {EF(RULES("VIRTUAL_HOST", "vhost: {name: 'a.b:80'}", "{actions: [{remote_address: {}}]}")), 0,
     ""},
    {EF(RULES("VIRTUAL_HOST", "vhost: {name: a.b}", "{actions: [{remote_address: {}}]}")), 0,
     "where the rate_limits hold is not understood"},
    {EF(RULES("VIRTUAL_HOST", "gateway: a/b", "{actions: [{remote_address: {}}]}")), 0,
     "where the rate_limits hold is not understood"},
    {EF(RULES("VIRTUAL_HOST", "portNumber: 0", "{actions: [{remote_address: {}}]}")), 0,
     "where the rate_limits hold is not understood"},
    /* What is before a gateway. */
    {"kind: MeshConfig\ndefaultConfig: {gatewayTopology: {numTrustedProxies: 2}}", 0, ""},
    {"kind: MeshConfig\ndefaultConfig: {gatewayTopology: {numTrustedProxies: -1}}", -EINVAL,
     "is not a whole number"},
    {"kind: MeshConfig\ndefaultConfig: {gatewayTopology: {proxyProtocol: {}}}", 0,
     "field \"proxyProtocol\" is not honoured"},
    /* Active health checks. */
    {EF(HEALTH("SIDECAR_OUTBOUND", OFTEN ", tcp_health_check: {}")), 0, ""},
    {EF(HEALTH("SIDECAR_INBOUND", OFTEN ", tcp_health_check: {}")), 0,
     "health checks are merged into clusters of clients"},
    {EF(HEALTH("ANY", OFTEN)), -EINVAL, "a health check of no kind"},
    {EF(HEALTH("ANY", OFTEN ", tcp_health_check: {}, grpc_health_check: {}")), -EINVAL,
     "a health check of several kinds"},
    {EF(HEALTH("ANY", "timeout: 1s, interval: 1s, tcp_health_check: {}")), -EINVAL,
     "does not say how often, or how many"},
    {EF(HEALTH("ANY", OFTEN ", unhealthy_interval: 0s, tcp_health_check: {}")), -EINVAL,
     "no time at all"},
    {EF(HEALTH("ANY", OFTEN ", http_health_check: {}")), -EINVAL,
     "an http_health_check without path"},
    {EF(HEALTH("ANY", OFTEN ", http_health_check: {path: health}")), -EINVAL,
     "\"health\" is no path, begin it with /"},
    {EF(HEALTH("ANY", OFTEN
	       ", http_health_check: {path: /, expected_statuses: [{start: 200, end: 200}]}")),
     -EINVAL, "a range of statuses without any"},
    {EF(HEALTH("ANY", OFTEN ", tcp_health_check: {send: {text: 123}}")), -EINVAL,
     "\"123\" is not 1 to 1024 bytes in hex"},
    {EF(HEALTH("ANY", OFTEN ", tcp_health_check: {receive: [{binary: YQ==}]}")), -EINVAL,
     "payloads in base64 are not taken"},
    {EF(HEALTH("ANY, cluster: {name: 'outbound|80|v1|a.example'}",
	       OFTEN ", grpc_health_check: {service_name: a}")),
     0, "the subset is not honoured"},
    {EF(HEALTH("ANY, cluster: {name: 'inbound|80||'}", OFTEN ", tcp_health_check: {}")), -EINVAL,
     "is the name of no cluster to a service"},
    {"kind: WasmPlugin", 0,
     "t.yaml:1:7: warning: kind WasmPlugin is not honoured: the resource has no effect"},
    {"kind: Workload\nmetadata: {name: x}", -EINVAL,
     "t.yaml:1:1: field \"apiVersion\" is missing: mesh.libflat.io/v1 for kind Workload, add it"},
    {"apiVersion: v1\nkind: Workload", -EINVAL,
     "t.yaml:1:13: apiVersion of kind Workload is mesh.libflat.io/v1, not \"v1\", correct it"},
    {"apiVersion: networking.istio.io/v1alpha1\nkind: Sidecar", -EINVAL,
     "t.yaml:1:13: apiVersion of kind Sidecar is networking.istio.io/v1 or "
     "networking.istio.io/v1beta1 or networking.istio.io/v1alpha3, not "},
    {"apiVersion: mesh.libflat.io/v1\nkind: Workload", -EINVAL,
     "t.yaml:1:1: Workload: field \"metadata\" is missing, add it"},
    {"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {}", -EINVAL,
     "t.yaml:3:11: Workload default/?: field \"metadata.name\" is missing, add it"},
    {"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {nmae: x}", -EINVAL,
     "t.yaml:3:12: Workload default/?: unknown field \"nmae\", did you mean \"name\"?"},
    {"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: X}", -EINVAL,
     "t.yaml:3:18: Workload default/X: \"X\" is no name, use lower-case letters"},
    {"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: x, namespace: a.b}", -EINVAL,
     "t.yaml:3:32: Workload a.b/x: \"a.b\" is no name of a namespace"},
    {WL "spce: {}", -EINVAL,
     "t.yaml:4:1: Workload default/x: unknown field \"spce\", did you mean \"spec\"?"},
    {WL "spec: []", -EINVAL, "t.yaml:4:7: Workload default/x: a mapping of fields is expected"},
    {WL "---\n" WL, -EINVAL,
     "t.yaml:5:1: Workload default/x: there is a resource of this kind and name already at "
     "t.yaml:1:1, rename or remove one of them"},
    {"kind: List\nitems: {}", -EINVAL, "t.yaml:1:1: a List without a list of \"items\""},
    {"kind: List\nitem: []\nitems: []", -EINVAL, "t.yaml:2:1: unknown field \"item\""},
    {"kind: List\nitems:\n- kind: Foo", -EINVAL, "t.yaml:3:9: unknown kind \"Foo\""},
    /* Workload. */
    {WL "spec: {selectors: [{uid: 1}]}", 0, ""},
    {WL, 0, "t.yaml:1:1: warning: Workload default/x: no selectors: no process belongs to it"},
    {WL "spec: {selectors: [{}]}", -EINVAL,
     "t.yaml:4:20: Workload default/x: an empty selector, which would select every process"},
    {WL "spec: {selectors: [{uid: -1}]}", -EINVAL,
     "t.yaml:4:26: Workload default/x: \"-1\" is not a whole number from 0 to 4294967294"},
    {WL "spec: {selectors: [{uid: 4294967295}]}", -EINVAL, "t.yaml:4:26: "},
    {WL "spec: {selectors: [{uid: 4294967294}]}", 0, ""},
    {WL "spec: {selectors: [{uid: 99999999999999999999}]}", -EINVAL, "t.yaml:4:26: "},
    {WL "spec: {selectors: [{uid: 0x10}]}", -EINVAL, "t.yaml:4:26: "},
    {WL "spec: {selectors: [{usr: 1}]}", -EINVAL,
     "t.yaml:4:21: Workload default/x: unknown field \"usr\", did you mean \"uid\"?"},
    {WL "spec: {selectors: [{executable: bin/a}]}", -EINVAL,
     "t.yaml:4:33: Workload default/x: \"bin/a\" is no absolute path"},
    {WL "spec: {selectors: [{executable: /bin/../a}]}", -EINVAL, "is no absolute path"},
    {WL "spec: {selectors: [{executable: /bin//a}]}", -EINVAL, "is no absolute path"},
    {WL "spec: {selectors: [{executable: /bin/a}]}", 0,
     "t.yaml:4:20: warning: Workload default/x: a path alone is weak"},
    {WL "spec: {selectors: [{uid: 1}, {uid: 1}]}", -EINVAL,
     "t.yaml:4:30: Workload default/x: the same selector as Workload default/x (t.yaml:1) has"},
    {WL "spec: {serviceAccount: a/b, selectors: [{uid: 1}]}", -EINVAL,
     "t.yaml:4:24: Workload default/x: \"a/b\" is no name of a service account"},
    {WL "spec: {confined: true, selectors: [{cgroup: /flat/a}, {cgroup: /flat/b, uid: 1}]}", 0, ""},
    {WL "spec: {confined: true, selectors: [{cgroup: /flat/a}, {uid: 1}]}", -EINVAL,
     "t.yaml:4:55: Workload default/x: spec.confined holds for whole cgroups, and this selector "
     "names none"},
    {WL "spec: {confined: true, selectors: [{cgroup: /flat/*}]}", -EINVAL, "names none"},
    {WL "spec: {confined: true, selectors: [{cgroup: /}]}", -EINVAL, "names the first one"},
    {WL "spec: {confined: 1, selectors: [{cgroup: /flat/a}]}", -EINVAL, "t.yaml:4:18: "},
    {WL "spec: {selectors: [{uid: 1}], limits: {weight: 1001}}", -EINVAL, "from 1 to 1000"},
    {WL "spec: {selectors: [{uid: 1}], limits: {conections: 1}}", -EINVAL,
     "did you mean \"connections\"?"},
    /* ServiceEntry. */
    {SE GOOD_SE "}", 0, ""},
    {SE, -EINVAL, "t.yaml:1:1: ServiceEntry default/x: field \"spec\" is missing, add it"},
    {SE "spec: {}", -EINVAL, "t.yaml:4:7: ServiceEntry default/x: a ServiceEntry needs a host"},
    {SE "spec: {hosts: [], ports: []}", -EINVAL, "needs a port, add spec.ports"},
    {SE "spec: {hosts: [a_b], ports: [{number: 1, name: t}]}", -EINVAL,
     "t.yaml:4:16: ServiceEntry default/x: \"a_b\" is no host name"},
    {SE "spec: {hosts: [a.b], ports: [{number: 0, name: t}]}", -EINVAL,
     "t.yaml:4:39: ServiceEntry default/x: \"0\" is not a whole number from 1 to 65535"},
    {SE "spec: {hosts: [a.b], ports: [{number: 65536, name: t}]}", -EINVAL, "t.yaml:4:39: "},
    {SE "spec: {hosts: [a.b], ports: [{name: t}]}", -EINVAL, "field \"number\" is missing"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1}]}", -EINVAL, "field \"name\" is missing"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t}, {number: 1, name: u}]}", -EINVAL,
     "t.yaml:4:52: ServiceEntry default/x: port 1 is there twice"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t}, {number: 2, name: t}]}", -EINVAL,
     "two ports are named \"t\""},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t, protocol: TPC}]}", -EINVAL,
     "unknown protocol \"TPC\""},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t, protocol: MONGO}]}", 0,
     "t.yaml:4:61: warning: ServiceEntry default/x: protocol MONGO is not honoured: its bytes are "
     "carried as TCP"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: http}]}", 0, "names in HTTP are not read"},
    {SE GOOD_SE ", addresses: [10.0.0.256]}", -EINVAL, "is no IP address or block"},
    {SE GOOD_SE ", addresses: [10.0.0.0/33]}", -EINVAL, "is no IP address or block"},
    {SE GOOD_SE ", endpoints: [{}]}", -EINVAL, "field \"address\" is missing"},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, weight: -1}]}", -EINVAL, "\"-1\" is not a whole"},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, weight: 0}]}", 0,
     "warning: ServiceEntry default/x: weight 0 counts as 1"},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, ports: {u: 5}}]}", -EINVAL,
     "the service has no port named \"u\""},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, locality: us/a/1}]}", 0, ""},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, locality: us//1}]}", -EINVAL,
     "\"us//1\" is no locality"},
    {SE GOOD_SE ", endpoints: [{address: 1.2.3.4, locality: us/*}]}", -EINVAL,
     "\"us/*\" is no locality"},
    {SE GOOD_SE ", endpoints: [{address: a b}]}", -EINVAL, "\"a b\" is no IP address"},
    {SE GOOD_SE ", subjectAltNames: [a]}", 0, "field \"subjectAltNames\" is not honoured"},
    {SE GOOD_SE ", exportTo: ['*']}", 0, ""},
    {SE GOOD_SE ", exportTo: [., shop, '~']}", 0, ""},
    {SE GOOD_SE ", exportTo: [A_b]}", -EINVAL,
     "\"A_b\" is no namespace, name a namespace, \".\" (its own), \"*\" (all) or \"~\" (none)"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t}], resolution: DNS}", 0, ""},
    {SE "spec: {hosts: ['*.b'], ports: [{number: 1, name: t}], resolution: DNS}", -EINVAL,
     "\"*.b\" stands for many names"},
    {SE "spec: {hosts: ['*.b'], ports: [{number: 1, name: t}], resolution: DYNAMIC_DNS}", 0,
     "DYNAMIC_DNS is not honoured"},
    {SE GOOD_SE ", endpoints: [{address: a.b}]}", 0,
     "without DNS the endpoint \"a.b\" is left out"},
    {TLS("mode: SIMPLE, sni: a, subjectAltNames: [b], caCertificates: /c"), 0,
     "no service has the host"},
    {TLS("mode: MUTUAL, clientCertificate: /c, privateKey: /k"), 0, "no service has the host"},
    {TLS("mode: MUTUAL, credentialName: c"), 0, "no service has the host"},
    {TLS("mode: MUTUAL, clientCertificate: /c"), -EINVAL,
     "mode MUTUAL without a certificate of ours"},
    {TLS("mode: SIMPLE, clientCertificate: /c"), 0, "mode SIMPLE shows no certificate"},
    {TLS("mode: MUTUAL, credentialName: c, caCertificates: /c"), -EINVAL,
     "in the place of the files"},
    {TLS("mode: ISTIO_MUTUAL, sni: a"), 0, "have no effect with ISTIO_MUTUAL"},
    {TLS("mode: SIMPLE, insecureSkipVerify: true, caCertificates: /c"), -EINVAL,
     "insecureSkipVerify looks at no authorities"},
    {TLS("mode: SIMPLE, caCrl: /c"), 0, "field \"caCrl\" is not honoured"},
    {"kind: MeshConfig\nspec: {dnsRefreshRate: 10ms}\n", -EINVAL,
     "names cannot be asked for so often"},
    {SE "spec: {hosts: [a.b], ports: [{number: 1, name: t}], resolution: STTIC}", -EINVAL,
     "\"STTIC\" is not one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS, did you mean "
     "\"STATIC\"?"},
    {SE GOOD_SE ", workloadSelector: {labels: {a: b}}, endpoints: [{address: 1.2.3.4}]}", -EINVAL,
     "endpoints and workloadSelector exclude each other"},
    {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
     "metadata: {name: x, annotations: {mesh.libflat.io/pth: direct}}\n" GOOD_SE "}",
     -EINVAL,
     "t.yaml:3:35: ServiceEntry default/x: unknown annotation \"mesh.libflat.io/pth\", did you "
     "mean "
     "\"mesh.libflat.io/path\"?"},
    {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
     "metadata: {name: x, annotations: {mesh.libflat.io/path: fast}}\n" GOOD_SE "}",
     -EINVAL, "\"fast\" is not one of auto, direct, forwarded"},
    {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
     "metadata: {name: x, annotations: {sidecar.istio.io/inject: 'true', other.org/a: b}}\n" GOOD_SE
     "}",
     0, "annotation \"sidecar.istio.io/inject\" is not honoured\n"},
    {SE GOOD_SE "}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: "
		"y}\n" GOOD_SE "}",
     -EINVAL,
     "t.yaml:9:16: host a.b of ServiceEntry default/y belongs to ServiceEntry default/x already "
     "(t.yaml:4), declare each host once"},
    {SE "spec: {hosts: [a.b], addresses: [1.2.3.4], ports: [{number: 1, name: t}]}\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: y}\n"
	"spec: {hosts: [c.d], addresses: [1.2.3.4], ports: [{number: 1, name: t}]}",
     -EINVAL, "t.yaml:9:16: address 1.2.3.4 port 1 of ServiceEntry default/y belongs to "},
    /* AuthorizationPolicy. */
    {AP "spec: {action: ALOW}", -EINVAL,
     "t.yaml:4:16: AuthorizationPolicy default/x: \"ALOW\" is not one of ALLOW, DENY, CUSTOM, "
     "AUDIT, did you mean \"ALLOW\"?"},
    {AP "spec: {rules: [{form: []}]}", -EINVAL, "unknown field \"form\", did you mean \"from\"?"},
    {AP "spec: {rules: [{from: []}]}", -EINVAL,
     "t.yaml:4:23: AuthorizationPolicy default/x: an "
     "empty list, which could mean nobody or everybody"},
    {AP "spec: {rules: [{from: [{}]}]}", -EINVAL, "field \"source\" is missing"},
    {AP "spec: {rules: [{from: [{source: {}}]}]}", -EINVAL, "an empty source"},
    {AP "spec: {rules: [{from: [{source: }]}]}", -EINVAL, "field \"source\" has no value"},
    {AP "spec: {rules: [{from: [{source: {principals: }}]}]}", -EINVAL,
     "t.yaml:4:34: AuthorizationPolicy default/x: field \"principals\" has no value"},
    {AP "spec: {rules: [{from: }]}", -EINVAL, "field \"from\" has no value"},
    {AP "spec: {rules: [{to: [{operation: {}}]}]}", -EINVAL, "an empty operation"},
    {AP "spec: {rules: [{to: [{operation: {ports: }}]}]}", -EINVAL, "field \"ports\" has no value"},
    {AP "spec: {rules: [~]}", -EINVAL, "a mapping of fields is expected here"},
    {AP "spec: {rules: [{from: [{source: {principals: ['spiffe://a']}}]}]}", -EINVAL,
     "principals are written without scheme"},
    {AP "spec: {rules: [{from: [{source: {principals: [a*b]}}]}]}", 0,
     "warning: AuthorizationPolicy default/x: only one star, at the start or the end"},
    {AP "spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/x]}}]}]}", -EINVAL,
     "\"10.0.0.0/x\" is no IP address or block"},
    {AP "spec: {rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", -EINVAL,
     "serviceAccounts cannot stand beside principals or namespaces"},
    {AP "spec: {rules: [{from: [{source: {serviceAccounts: ['a/b/c']}}]}]}", -EINVAL,
     "is no service account"},
    {AP "spec: {rules: [{to: [{operation: {ports: ['*']}}]}]}", -EINVAL,
     "\"*\" is not a whole number from 1 to 65535"},
    {AP "spec: {rules: [{when: [{key: source.pi, values: [1.1.1.1]}]}]}", -EINVAL,
     "unknown attribute \"source.pi\", did you mean \"source.ip\"?"},
    {AP "spec: {rules: [{when: [{key: source.ip}]}]}", -EINVAL,
     "needs \"values\" or \"notValues\""},
    {AP "spec: {rules: [{when: [{values: [a]}]}]}", -EINVAL, "field \"key\" is missing"},
    {AP "spec: {rules: [{to: [{operation: {methods: [GET], paths: []}}]}]}", -EINVAL,
     "t.yaml:4:58: AuthorizationPolicy default/x: an empty list"},
    {AP "spec: {rules: [{to: [{operation: {paths: ['/{a}']}}]}]}", -EINVAL,
     "\"/{a}\" is no path template"},
    {AP "spec: {rules: [{to: [{operation: {paths: ['/[a]/{*}']}}]}]}", -EINVAL,
     "\"/[a]/{*}\": templates have no such character as at \"[a]/{*}\""},
    {AP "spec: {rules: [{to: [{operation: {paths: ['/%5Ba%5D/{*}', '/[a]*']}}]}]}", 0, ""},
    {AP "spec: {rules: [{from: [{source: {trustDomains: ['a*b']}}]}]}", -EINVAL,
     "\"a*b\" has a star where it would stand for itself"},
    {AP "spec: {rules: [{when: [{key: source.trustDomain, notValues: ['*b*']}]}]}", -EINVAL,
     "\"*b*\" has a star where it would stand for itself"},
    {AP "spec: {rules: [{when: [{key: 'request.headers[]', values: [a]}]}]}", -EINVAL,
     "names no header"},
    {AP "spec: {rules: [{when: [{key: experimental.envoy.filters.x, values: [a]}]}]}", 0,
     "is not honoured: an ALLOW rule with it matches nothing"},
    {AP "spec: {action: CUSTOM, rules: [{}]}", -EINVAL, "action CUSTOM needs a \"provider\""},
    {AP "spec: {provider: {name: a}}", -EINVAL, "\"provider\" belongs to action CUSTOM only"},
    {AP "spec: {selector: {matchLabels: {a: 'b*'}}}", -EINVAL, "label selectors take no wildcards"},
    {AP "spec: {selector: {labels: {a: b}}}", -EINVAL, "unknown field \"labels\""},
    {AP "spec: {targetRefs: [{kind: Gateway, name: g}]}", 0,
     "target Gateway \"g\" is not honoured"},
    {AP "spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: ListenerSet, name: s}]}", 0,
     "name its Gateway, and the hosts of its listeners in the rules"},
    /* PeerAuthentication, Sidecar, MeshConfig. */
    {PA "spec: {mtls: {mode: STRIKT}}", -EINVAL, "did you mean \"STRICT\"?"},
    {PA "spec: {mtls: {mode: DISABLE}}", 0, "mode DISABLE accepts plain clients"},
    {PA "spec: {portLevelMtls: {80: {mode: STRICT}}}", -EINVAL,
     "t.yaml:4:23: PeerAuthentication default/x: portLevelMtls is for policies that select"},
    {PA "spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}", -EINVAL,
     "\"http\" is not a whole number from 1 to 65535"},
    {PA "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: y}", 0,
     "PeerAuthentication default/y is not honoured: default/x comes first"},
    {"kind: MeshConfig\nspec: {outboundTrafficPolicy: {mode: REGISTRY}}", -EINVAL,
     "\"REGISTRY\" is not one of ALLOW_ANY, REGISTRY_ONLY"},
    {"kind: MeshConfig\ningressClass: a\n", 0, "field \"ingressClass\" is not honoured"},
    {"kind: MeshConfig\noutboundTrafficPolicy: {}\n---\nkind: MeshConfig\nmetadata: {name: b}\n",
     -EINVAL, "t.yaml:4:1: MeshConfig default/b: a second MeshConfig; the first is at t.yaml:1"},
    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |\n    a: 1\n",
     -EINVAL, "t.yaml:6: ConfigMap default/istio: unknown field \"a\""},
    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {a: b}", 0,
     "read are \"istio\", and those with ca.crt"},
    /* Kubernetes. */
    {SVC "spec: {ports: [{port: 80, targetPort: 8080}]}", 0, ""},
    {SVC "spec: {}", -EINVAL, "a Service needs a port"},
    {SVC "spec: {ports: [{prot: 80}]}", -EINVAL, "unknown field \"prot\", did you mean \"port\"?"},
    {SVC "spec: {ports: [{port: 80}], clusterIP: x}", -EINVAL, "\"x\" is no IP address"},
    {SVC "spec: {ports: [{port: 53, protocol: UDP}]}", 0, "UDP is not honoured"},
    {SVC "spec: {ports: [{port: 80}], sessionAffinity: ClientIP}", 0,
     "sessionAffinity is not honoured"},
    {SVC "spec: {type: ExternalName}", -EINVAL, "needs another's name"},
    {SVC "spec: {type: ExternalName, externalName: 'a b'}", -EINVAL, "a b"},
    {SVC "spec: {type: ExternalName, externalName: a.b}", 0,
     "externalName \"a.b\" is the host of no service: the name"},
    {SVC "spec: {ports: [{port: 80, name: a}, {port: 80, name: b}]}", -EINVAL,
     "port 80 \"b\" is there twice"},
    {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: "
     "IPv4\nendpoints: []",
     0, "the slice belongs to no Service"},
    {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, labels: "
     "{kubernetes.io/service-name: no}}\naddressType: IPv4\nendpoints: []",
     0, "there is no Service default/no: the slice is not used"},
    {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\nendpoints: []",
     -EINVAL, "field \"addressType\" is missing"},
    {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: "
     "IPv4\nendpoints: [{addresses: ['::1']}]",
     -EINVAL, "t.yaml:5:26: EndpointSlice default/x: \"::1\" is no IPv4 address"},
};

Test(config, says_what_is_wrong_and_where)
{
	size_t i;

	for (i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct loaded l = load_yaml(cases[i].yaml);

		cr_expect_eq(l.ret, cases[i].ret, "%s\ngave %d: %s", cases[i].yaml, l.ret,
			     loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), cases[i].said), "%s\nsaid: %s\nnot: %s",
			  cases[i].yaml, loaded_text(&l), cases[i].said);
		cr_expect(*cases[i].said || !*loaded_text(&l), "%s\nsaid: %s", cases[i].yaml,
			  loaded_text(&l));
		cr_expect_eq(l.mesh == NULL, l.ret != 0);
		loaded_fini(&l);
	}
}

Test(config, one_run_shows_all_errors_in_order)
{
	struct loaded l = load_yaml(WL "spec: {selectors: [{usr: 1}], limts: {}}\n---\n" SE
				       "spec: {hosts: [A_], ports: [{number: x, name: t}]}");

	cr_expect_eq(l.ret, -EINVAL);
	cr_assert_eq(l.diags.n_errors, 4, "%s", loaded_text(&l));
	cr_expect_eq(l.diags.v[0].where.line, 4);
	cr_expect_eq(l.diags.v[1].where.line, 4);
	cr_expect_lt(l.diags.v[0].where.col, l.diags.v[1].where.col);
	cr_expect_eq(l.diags.v[2].where.line, 9);
	loaded_fini(&l);
}

Test(config, columns_count_characters)
{
	struct loaded l = load_yaml("{\"\xc3\xa4\xc3\xb6\": 1, kind: Nix}");

	cr_expect(strstr(loaded_text(&l), "t.yaml:1:17: unknown kind"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

Test(config, json_is_yaml)
{
	struct loaded l = load_good("{\n\t\"apiVersion\": \"mesh.libflat.io/v1\",\n\t\"kind\": "
				    "\"Workload\",\n\t\"metadata\": {\"name\": \"j\"},\n"
				    "\t\"spec\": {\"selectors\": [{\"uid\": 7}]}\n}\n");

	cr_expect_eq(flat_mesh_n_workloads(l.mesh), 1);
	loaded_fini(&l);
}

Test(config, billion_laughs_are_refused_quickly)
{
	struct flat_strbuf sb = {0};
	struct loaded l;
	int i;

	flat_strbuf_puts(&sb, "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n");
	for (i = 1; i < 20; i++)
		flat_strbuf_printf(&sb, "l%d: &l%d [*l%d, *l%d, *l%d, *l%d, *l%d, *l%d]\n", i, i,
				   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	l = load_yaml(flat_strbuf_str(&sb));
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect(strstr(loaded_text(&l), "too many values"), "%s", loaded_text(&l));
	loaded_fini(&l);
	flat_strbuf_fini(&sb);
}

Test(config, depth_is_bounded)
{
	char text[FLAT_CONFIG_DEPTH_MAX + 2];
	struct loaded l;

	memset(text, '[', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	l = load_yaml(text);
	cr_expect(strstr(loaded_text(&l), "t.yaml:1:33: lists and mappings are nested too deeply"),
		  "%s", loaded_text(&l));
	loaded_fini(&l);
}

Test(config, more_errors_than_are_kept_are_counted)
{
	struct flat_strbuf sb = {0};
	struct loaded l;
	unsigned i;

	for (i = 0; i < FLAT_DIAGS_MAX + 5; i++)
		flat_strbuf_puts(&sb, "---\nkind: Nix\n");
	l = load_yaml(flat_strbuf_str(&sb));
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect_eq(l.diags.n, FLAT_DIAGS_MAX);
	cr_expect_eq(l.diags.n_errors, FLAT_DIAGS_MAX + 5);
	cr_expect(strstr(loaded_text(&l), "\nand 5 more\n"));
	loaded_fini(&l);
	flat_strbuf_fini(&sb);
}

Test(config, diagnostics_are_json)
{
	struct loaded l = load_yaml("kind: \"N\\\"ix\"");
	struct flat_strbuf out = {0};
	struct flat_json json;

	flat_json_init(&json, &out, false);
	flat_diags_json(&l.diags, &json, NULL);
	cr_assert(flat_json_done(&json));
	cr_expect_str_eq(flat_strbuf_str(&out),
			 "[{\"severity\":\"error\",\"code\":\"unknown-kind\",\"file\":\"t.yaml\","
			 "\"line\":1,\"column\":7,\"resource\":null,\"what\":\"unknown kind "
			 "\\\"N\\\"ix\\\"\",\"todo\":\"see docs/configuration.md for the kinds "
			 "there are\"}]");
	flat_strbuf_fini(&out);
	loaded_fini(&l);
}

Test(config, list_and_kubernetes_join_whatever_the_order)
{
	struct loaded l = load_good(
	    "kind: List\nitems:\n"
	    "- apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n"
	    "  metadata: {name: w1, labels: {kubernetes.io/service-name: web}}\n"
	    "  endpoints: [{addresses: [10.3.0.1]}, {addresses: [10.3.0.2], conditions: {ready: "
	    "false}}]\n"
	    "  ports: [{name: http, port: 8080}, {name: admin, port: 9090}]\n  addressType: IPv4\n"
	    "- apiVersion: v1\n  kind: Service\n  metadata: {name: web}\n"
	    "  spec: {clusterIP: 10.2.0.1, ports: [{name: http, port: 80, targetPort: web}]}\n");
	const struct flat_service *s = flat_mesh_service_by_host(l.mesh, "web", NULL);

	cr_assert_not_null(s);
	cr_assert_eq(s->n_ports, 1);
	cr_assert_eq(s->ports[0].n_endpoints, 1);
	cr_expect_eq(s->ports[0].endpoints[0].port, 8080);
	loaded_fini(&l);
}

/* --- files --- */

static struct loaded load_folder(void)
{
	const char *paths[] = {folder};
	struct loaded l = {0};

	l.ret = flat_config_load(paths, 1, &l.mesh, &l.diags);
	flat_diags_text(&l.diags, &l.text);
	return l;
}

Test(config_files, folder_is_read_sorted_and_only_what_is_configuration, .init = folder_make,
     .fini = folder_remove)
{
	struct loaded l;

	folder_put("b.yml", "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: b}\n"
			    "spec: {selectors: [{uid: 1}]}");
	folder_put("a.yaml", "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: a}\n"
			     "spec: {selectors: [{uid: 2}]}");
	folder_put("c.json", "{\"kind\": \"MeshConfig\"}");
	folder_put("d.txt", "kind: Nix");
	folder_put(".e.yaml", "kind: Nix");
	folder_put("f.yaml~", "kind: Nix");
	l = load_folder();
	cr_assert_eq(l.ret, 0, "%s", loaded_text(&l));
	cr_assert_eq(flat_mesh_n_workloads(l.mesh), 2);
	cr_expect_str_eq(flat_mesh_workload_at(l.mesh, 0)->name, "a");
	loaded_fini(&l);
}

Test(config_files, one_bad_file_refuses_all_and_names_itself, .init = folder_make,
     .fini = folder_remove)
{
	struct loaded l;

	folder_put("a.yaml", "kind: MeshConfig");
	folder_put("b.yaml", "kind: [");
	folder_put("c.yaml", "kind: Nix");
	l = load_folder();
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect_null(l.mesh);
	cr_expect(strstr(loaded_text(&l), "/b.yaml:2:1: not YAML"), "%s", loaded_text(&l));
	cr_expect(strstr(loaded_text(&l), "/c.yaml:1:7: unknown kind"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

Test(config_files, what_cannot_be_read_is_an_error, .init = folder_make, .fini = folder_remove)
{
	const char *paths[] = {"/nonexistent/x.yaml", "/dev/null"};
	struct loaded l = {0};
	char path[256];

	l.ret = flat_config_load(paths, 2, &l.mesh, &l.diags);
	flat_diags_text(&l.diags, &l.text);
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect(strstr(loaded_text(&l), "/nonexistent/x.yaml: cannot be read: No such file"));
	cr_expect(strstr(loaded_text(&l), "/dev/null: not a regular file"));
	loaded_fini(&l);
	(void)snprintf(path, sizeof(path), "%s/fifo.yaml", folder);
	cr_assert_eq(mkfifo(path, 0600), 0);
	l = load_folder();
	cr_expect(strstr(loaded_text(&l), "fifo.yaml: not a regular file"), "%s", loaded_text(&l));
	loaded_fini(&l);
}

Test(config_files, a_file_too_large_is_refused, .init = folder_make, .fini = folder_remove)
{
	char path[256];
	struct loaded l;

	folder_put("big.yaml", "");
	(void)snprintf(path, sizeof(path), "%s/big.yaml", folder);
	cr_assert_eq(truncate(path, (off_t)FLAT_CONFIG_FILE_BYTES_MAX + 1), 0);
	l = load_folder();
	cr_expect_eq(l.ret, -EINVAL);
	cr_expect(strstr(loaded_text(&l), "big.yaml: the file is larger than 64 MiB"), "%s",
		  loaded_text(&l));
	loaded_fini(&l);
}

Test(config_files, empty_folder_is_an_empty_mesh, .init = folder_make, .fini = folder_remove)
{
	struct loaded l = load_folder();

	cr_assert_eq(l.ret, 0);
	cr_expect_eq(flat_mesh_n_services(l.mesh), 0);
	loaded_fini(&l);
}

/* When it was read last, s. */
static int64_t read_at(const char *path)
{
	struct stat st;
	cr_assert_eq(stat(path, &st), 0);
	return st.st_atim.tv_sec;
}

Test(config_files, ones_own_keep_the_time_of_reading_and_others_are_read_too, .init = folder_make,
     .fini = folder_remove)
{
	/* Read longer ago than it was written: then it would be noted (relatime, mount(8)). */
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_nsec = UTIME_NOW}};

	folder_put("a.yaml", WL "spec: {selectors: [{uid: 1}]}");
	folder_put("b.yaml", AP);
	cr_assert_eq(utimensat(AT_FDCWD, path_of("a.yaml"), times, 0), 0);
	/* One's own alone, without a privilege that would make all files so. */
	if (geteuid() == 0) {
		cr_assert_eq(chmod(folder, 0755), 0);
		cr_assert_eq(chown(path_of("a.yaml"), 65534, 65534), 0);
		cr_assert_eq(seteuid(65534), 0);
	}
	struct loaded l = load_folder();

	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(l.ret, 0, "%s", loaded_text(&l));
	cr_expect_eq(flat_mesh_n_workloads(l.mesh), 1);
	cr_expect_eq(read_at(path_of("a.yaml")), 1);
	loaded_fini(&l);
}
