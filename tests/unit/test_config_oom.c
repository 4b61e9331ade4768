/*
 * Every allocation of a load fails in turn: the load must say -ENOMEM (or succeed, where the allocation
 * did not matter), hand out no mesh, and leak nothing. malloc and its kin are replaced in this program,
 * so libyaml's allocations fail as well.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config.h"
#include "control/watch.h"
#include "oom.h"

#if OWN_MALLOC

static const char everything[] =
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: w, labels: {a: b}}\n"
    "spec: {serviceAccount: s, labels: {c: d}, selectors: [{cgroup: /a/, uid: 1}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\n"
    "spec: {hosts: [a.x, b.x], ports: [{number: 1, name: t}], resolution: STATIC, endpoints: "
    "[{address: 127.0.0.1, ports: {t: 2}, labels: {v: w}}]}\n"
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n"
    "spec: {selector: {matchLabels: {a: b}}, rules: [{from: [{source: {principals: ['a*'], "
    "serviceAccounts: []}}], to: [{operation: {ports: [1], methods: [GET]}}], when: [{key: "
    "source.ip, values: [1.1.1.1]}]}]}\n"
    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: q}\n"
    "spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {1: {mode: STRICT}}}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n"
    "spec: {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n"
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: r}\n"
    "spec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: ANY}, patch: {value: {name: "
    "envoy.filters.http.local_ratelimit, typed_config: {'@type': "
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, "
    "token_bucket: {max_tokens: 1, fill_interval: 1s}, rate_limits: [{actions: [{remote_address: "
    "{}}, {request_headers: {header_name: A, descriptor_key: b}}, {header_value_match: "
    "{descriptor_value: c, headers: [{name: D, string_match: {safe_regex: {regex: e}}}]}}]}], "
    "descriptors: [{entries: [{key: f, value: g}], token_bucket: {max_tokens: 1, fill_interval: "
    "1s}}], response_headers_to_add: [{header: {key: a, "
    "value: b}}]}}}}]}\n"
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: g}\n"
    "spec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: ANY}, patch: {value: {name: "
    "envoy.filters.http.ratelimit, typed_config: {'@type': "
    "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: d, "
    "rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: 'outbound|1||a.x'}}}, "
    "response_headers_to_add: [{header: {key: a, value: b}}]}}}}, {applyTo: HTTP_ROUTE, match: "
    "{context: GATEWAY, routeConfiguration: {vhost: {name: 'a.x:80', route: {name: r}}}}, patch: "
    "{operation: MERGE, value: {route: {rate_limits: [{actions: [{query_parameter_value_match: "
    "{descriptor_value: a, query_parameters: [{name: b}]}}], hits_addend: {format: "
    "'%REQ(c)%'}}]}}}}]}\n"
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: h}\n"
    "spec: {configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {health_checks: "
    "[{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: "
    "{send: {text: 00}, receive: [{text: 01}]}}]}}}]}\n"
    "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t}\n"
    "spec: {accessLogging: [{providers: [{name: l}], filter: {expression: 'response.code > 1'}}], "
    "tracing: [{customTags: {a: {literal: {value: b}}}}], targetRefs: [{kind: Service, name: h}], "
    "metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {a.b: {value: "
    "request.host}, path: {operation: REMOVE}}}, {disabled: true}]}]}\n"
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {mesh: "
    "'{rootNamespace: r, extensionProviders: [{name: l, envoyFileAccessLog: {logFormat: {labels: "
    "{a: \"%PROTOCOL%\"}}}}]}'}\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: h}\n"
    "spec: {clusterIP: None, ports: [{port: 80}]}\n"
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
    "metadata: {name: h1, labels: {kubernetes.io/service-name: h}}\naddressType: IPv4\n"
    "ports: [{port: 8080}]\nendpoints: [{addresses: [10.3.0.1]}]\n";

static const char listener_sets[] =
    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
    "metadata: {name: g}\n"
    "spec: {gatewayClassName: x, listeners: [{name: a, port: 80, protocol: HTTP}], "
    "allowedListeners: {namespaces: {from: Selector, selector: {}}}}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n"
    "metadata: {name: s}\n"
    "spec: {parentRef: {name: g}, listeners: [{name: a, port: 81, protocol: HTTP}]}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n"
    "metadata: {name: t, namespace: u}\n"
    "spec: {parentRef: {name: g, namespace: default}, "
    "listeners: [{name: a, port: 82, protocol: HTTP}]}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n"
    "metadata: {name: v}\n"
    "spec: {parentRef: {name: none}, listeners: [{name: a, port: 83, protocol: HTTP}]}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n"
    "metadata: {name: w}\n"
    "spec: {parentRef: {name: g}, listeners: [{name: a, port: 81, protocol: HTTP}]}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
    "metadata: {name: r}\n"
    "spec: {parentRefs: [{kind: ListenerSet, name: s}, {kind: ListenerSet, name: t, "
    "namespace: u}], rules: [{backendRefs: [{name: h, port: 80}]}]}\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {ports: [{port: 80}]}\n";

/* One load under the current until_fail; what is alive afterwards is a leak. */
static int load_once(const char *text, long *leaked)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	int ret;

	n_calls = 0;
	n_live = 0;
	armed = true;
	ret = flat_config_load_text("t.yaml", text, strlen(text), &mesh, &diags);
	flat_mesh_put(mesh);
	flat_diags_fini(&diags);
	armed = false;
	*leaked = n_live;
	if (ret != 0 && mesh)
		return -EBADF;
	return ret;
}

/* Two loads of a file that did not change between them: the second takes over what the first read. */
static int load_twice(const char *path, long *leaked)
{
	const char *const paths[] = {path};
	struct flat_config_sources from = {.paths = paths, .n_paths = 1};
	struct flat_diags diags = {0};
	struct flat_mesh *first = NULL, *second = NULL;
	int ret;

	n_calls = 0;
	n_live = 0;
	armed = true;
	ret = flat_config_cache_open(0, &from.cache);
	if (!ret)
		ret = flat_config_reload(&from, &first, &diags);
	if (!ret)
		ret = flat_config_reload(&from, &second, &diags);
	flat_config_cache_close(from.cache);
	flat_mesh_put(first);
	flat_mesh_put(second);
	flat_diags_fini(&diags);
	armed = false;
	*leaked = n_live;
	return ret;
}

static void fail_each(int (*load)(const char *, long *), const char *text, int want)
{
	long leaked, total, i, refused = 0;

	until_fail = -1;
	cr_assert_eq(load(text, &leaked), want);
	cr_assert_eq(leaked, 0);
	total = n_calls;
	/* Below this libyaml's are not counted: the replacement is not in force for it. */
	cr_assert_gt(total, 500);
	for (i = 0; i < total; i++) {
		int ret;

		until_fail = i;
		ret = load(text, &leaked);
		cr_assert(ret == -ENOMEM || ret == want, "allocation %ld of %ld: %d", i, total,
			  ret);
		cr_assert_eq(leaked, 0, "allocation %ld of %ld leaks %ld", i, total, leaked);
		refused += ret == -ENOMEM;
	}
	/* Almost all matter; a program that never says -ENOMEM would not be tested by this. */
	cr_expect_gt(refused, total / 2);
}

#endif

#if OWN_MALLOC
/* `everything` without what is wrong with it. */
static const char *good(void)
{
	static char text[sizeof(everything)];

	memcpy(text, everything, sizeof(text));
	memcpy(strstr(text, "serviceAccounts: []"), "ipBlocks: [1.2.3.4]", 19);
	return text;
}
#endif

Test(config_oom, each_allocation_of_a_good_load)
{
#if OWN_MALLOC
	fail_each(load_once, good(), 0);
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}

Test(config_oom, each_allocation_of_listener_sets)
{
#if OWN_MALLOC
	fail_each(load_once, listener_sets, 0);
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}

Test(config_oom, each_allocation_of_a_load_with_errors)
{
#if OWN_MALLOC
	fail_each(load_once, everything, -EINVAL);
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}

Test(config_oom, each_allocation_of_loads_with_a_cache)
{
#if OWN_MALLOC
	char path[] = "/tmp/flat-test-oom-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	const char *text = good();
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	fail_each(load_twice, path, 0);
	unlink(path);
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}

Test(config_oom, each_allocation_of_a_watch)
{
#if OWN_MALLOC
	const char *paths[] = {"/tmp/a", "/tmp/b/"};
	struct flat_watch *watch = NULL;
	long i, total;
	int ret;

	until_fail = -1;
	n_calls = 0;
	armed = true;
	ret = flat_watch_open(paths, 2, &watch);
	armed = false;
	cr_assert_eq(ret, 0);
	flat_watch_close(watch);
	total = n_calls;
	for (i = 0; i < total; i++) {
		until_fail = i;
		n_live = 0;
		armed = true;
		ret = flat_watch_open(paths, 2, &watch);
		armed = false;
		cr_assert_eq(ret, -ENOMEM);
		cr_assert_eq(n_live, 0);
	}
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}
