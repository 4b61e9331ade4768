/* Admission as flatd does it, with listeners and sessions made by hand: no process, no socket. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/ext_authz.h"
#include "offload/admit.h"
#include "offload/offload.h"
#include "support_mesh.h"

static const char mesh_yaml[] =
    "apiVersion: mesh.libflat.io/v1\n"
    "kind: Workload\n"
    "metadata: { name: shop, namespace: demo, labels: { app: shop } }\n"
    "spec: { serviceAccount: shop, selectors: [{ uid: 1000 }] }\n"
    "---\n"
    "apiVersion: mesh.libflat.io/v1\n"
    "kind: Workload\n"
    "metadata: { name: redis, namespace: demo, labels: { app: redis } }\n"
    "spec: { serviceAccount: redis, selectors: [{ uid: 1001 }] }\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata: { name: selected, namespace: demo }\n"
    "spec:\n"
    "  clusterIP: 10.96.0.1\n"
    "  selector: { app: redis }\n"
    "  ports: [{ name: tcp, port: 6379, targetPort: 7000, protocol: TCP }]\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: ServiceEntry\n"
    "metadata: { name: split, namespace: demo }\n"
    "spec:\n"
    "  hosts: [split.demo.example]\n"
    "  addresses: [240.9.0.1]\n"
    "  resolution: STATIC\n"
    "  ports: [{ number: 80, name: tcp, protocol: TCP }]\n"
    "  endpoints:\n"
    "  - { address: 10.0.0.1, ports: { tcp: 81 }, weight: 3 }\n"
    "  - { address: 10.0.0.2, ports: { tcp: 82 }, weight: 1 }\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: ServiceEntry\n"
    "metadata: { name: through, namespace: demo, annotations: { mesh.libflat.io/path: forwarded } "
    "}\n"
    "spec:\n"
    "  hosts: [through.demo.example]\n"
    "  addresses: [240.9.0.2]\n"
    "  resolution: STATIC\n"
    "  ports: [{ number: 80, name: tcp, protocol: TCP }]\n"
    "  endpoints: [{ address: 10.0.0.9, ports: { tcp: 90 } }]\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: DestinationRule\n"
    "metadata: { name: all, namespace: demo }\n"
    "spec: { host: '*', trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }\n"
    "---\n"
    "apiVersion: security.istio.io/v1\n"
    "kind: AuthorizationPolicy\n"
    "metadata: { name: only-shop, namespace: demo }\n"
    "spec:\n"
    "  selector: { matchLabels: { app: redis } }\n"
    "  rules:\n"
    "  - from: [{ source: { principals: [cluster.local/ns/demo/sa/shop] } }]\n";

static struct flat_offload o;
static struct loaded loaded;
static struct flat_session shop;
static struct flat_session redis;
static struct flat_session stranger;

static void use(const char *yaml)
{
	if (loaded.mesh)
		loaded_fini(&loaded);
	loaded = load_good(yaml);
	o.mesh = loaded.mesh;
	o.epoch++;
	shop.workload = flat_mesh_workload_by_name(o.mesh, "demo", "shop");
	redis.workload = flat_mesh_workload_by_name(o.mesh, "demo", "redis");
	flat_balance_keep(&o);
}

static void setup(void)
{
	TAILQ_INIT(&o.listeners);
	shop.offload = redis.offload = stranger.offload = &o;
	use(mesh_yaml);
}

static void teardown(void)
{
	flat_balance_free(&o);
	loaded_fini(&loaded);
}

TestSuite(admit, .init = setup, .fini = teardown);

static struct flat_addr address(const char *ip, uint16_t port)
{
	struct flat_ip parsed;
	cr_assert_eq(flat_ip_parse(ip, &parsed), 0);
	return flat_ip_addr(&parsed, port);
}

static void listens(struct flat_listener *l, struct flat_session *s, const char *ip, uint16_t port)
{
	memset(l, 0, sizeof(*l));
	l->offload = &o;
	l->session = s;
	l->addr = address(ip, port);
	flat_listener_enlist(&o, l);
	o.n_listeners++;
	o.listening++;
	o.twins = true;
}

static struct flat_decision ask(const struct flat_session *s, const char *ip, uint16_t port,
				bool dry)
{
	struct flat_question q = {
	    .session = s, .from = address("127.0.0.1", 0), .to = address(ip, port), .dry = dry};
	struct flat_decision d;
	flat_admit(&o, &q, &d);
	return d;
}

Test(admit, a_selector_finds_the_listener)
{
	struct flat_listener l;
	cr_assert_eq(ask(&shop, "10.96.0.1", 6379, false).status, -ECONNREFUSED);
	listens(&l, &redis, "0.0.0.0", 7000);
	struct flat_decision d = ask(&shop, "10.96.0.1", 6379, false);
	cr_assert_eq(d.status, 0, "%s", d.reason);
	cr_assert_eq(d.path, FLAT_CONN_DIRECT);
	cr_assert_eq(d.listener, &l);
	cr_assert_eq(d.target.port, 7000);
}

Test(admit, a_selector_finds_no_other_workload_and_no_other_port)
{
	struct flat_listener a;
	struct flat_listener b;
	struct flat_listener c;
	listens(&a, &shop, "127.0.0.1", 7000);
	listens(&b, &redis, "127.0.0.1", 7001);
	listens(&c, &stranger, "127.0.0.2", 7000);
	struct flat_decision d = ask(&shop, "10.96.0.1", 6379, false);
	cr_assert_eq(d.status, -ECONNREFUSED);
	cr_assert_eq(d.kind, FLAT_REFUSED_NO_ENDPOINT);
}

Test(admit, selected_listeners_take_turns)
{
	struct flat_listener v[2];
	int n[2] = {0};
	listens(&v[0], &redis, "127.0.0.1", 7000);
	listens(&v[1], &redis, "127.0.0.2", 7000);
	for (int i = 0; i < 100; i++)
		n[ask(&shop, "10.96.0.1", 6379, false).listener == &v[1]]++;
	cr_assert_geq(n[0], 45);
	cr_assert_geq(n[1], 45);
}

Test(admit, policies_hold_on_the_way_through_a_service_and_directly)
{
	struct flat_listener l;
	listens(&l, &redis, "127.0.0.1", 7000);
	cr_assert_eq(ask(&shop, "127.0.0.1", 7000, false).status, 0);
	cr_assert_eq(ask(&stranger, "127.0.0.1", 7000, false).status, -EACCES);
	struct flat_decision d = ask(&stranger, "10.96.0.1", 6379, false);
	cr_assert_eq(d.status, -EACCES);
	cr_assert_eq(d.kind, FLAT_REFUSED_POLICY);
	cr_assert_not_null(strstr(d.reason, "only-shop"));
}

Test(admit, a_port_that_the_service_has_not_got_is_refused)
{
	struct flat_decision d = ask(&shop, "240.9.0.1", 81, false);
	cr_assert_eq(d.status, -ECONNREFUSED);
	cr_assert_eq(d.kind, FLAT_REFUSED_NO_PORT);
}

Test(admit, plain_endpoints_by_the_kernel_or_where_asked_for_through_us)
{
	struct flat_decision d = ask(&shop, "240.9.0.1", 80, false);
	cr_assert_eq(d.status, 0);
	cr_assert_eq(d.path, FLAT_CONN_KERNEL);
	d = ask(&shop, "240.9.0.2", 80, false);
	cr_assert_eq(d.status, 0);
	cr_assert_eq(d.path, FLAT_CONN_FORWARDED);
	cr_assert_null(d.listener);
	cr_assert_eq(d.target.port, 90);
}

/* The next ten targets' ports, as text. */
static void ports(char text[64], bool dry)
{
	for (int i = 0; i < 10; i++)
		text[i] = ask(&shop, "240.9.0.1", 80, dry).target.port == 81 ? '1' : '2';
	text[10] = 0;
}

Test(admit, a_question_uses_up_nobodys_turn)
{
	char with[64];
	char without[64];
	char dry[64];
	ports(without, false);
	flat_balance_free(&o);
	cr_assert_eq(ask(&shop, "240.9.0.1", 80, false).target.port, without[0] == '1' ? 81 : 82);
	ports(dry, true);
	cr_assert(strspn(dry, dry[0] == '1' ? "1" : "2") == 10);
	ports(with, false);
	cr_assert_eq(memcmp(with, without + 1, 9), 0, "%s, then %s", without, with);
}

Test(admit, turns_go_on_after_a_reload)
{
	char once[64];
	char again[64];
	ports(once, false);
	flat_balance_free(&o);
	for (int i = 0; i < 3; i++) {
		uint16_t port = ask(&shop, "240.9.0.1", 80, false).target.port;
		cr_assert_eq(port, once[i] == '1' ? 81 : 82);
	}
	use(mesh_yaml);
	ports(again, false);
	cr_assert_eq(memcmp(again, once + 3, 7), 0, "%s, after three and a reload %s", once, again);
}

Test(admit, state_of_services_that_are_gone_goes)
{
	static const char less[] = "apiVersion: mesh.libflat.io/v1\n"
				   "kind: Workload\n"
				   "metadata: { name: shop, namespace: demo }\n"
				   "spec: { selectors: [{ uid: 1000 }] }\n";
	(void)ask(&shop, "240.9.0.1", 80, false);
	cr_assert_eq(o.clusters.n, 1);
	use(less);
	cr_assert_eq(o.clusters.n, 0);
}

Test(admit, listeners_on_one_address_take_turns)
{
	struct flat_listener v[2];
	int n[2] = {0};
	listens(&v[0], &redis, "127.0.0.1", 7000);
	listens(&v[1], &redis, "127.0.0.1", 7000);
	for (int i = 0; i < 10; i++)
		n[ask(&shop, "127.0.0.1", 7000, false).listener == &v[1]]++;
	cr_assert_eq(n[0], 5);
	struct flat_listener *first = ask(&shop, "127.0.0.1", 7000, true).listener;
	cr_assert_eq(ask(&shop, "127.0.0.1", 7000, true).listener, first);
}

/* A DestinationRule for some clients balances the connections of these. */
Test(admit, a_rule_for_some_clients_is_followed_for_these)
{
	static char yaml[8192];
	bool both[2];

	snprintf(yaml, sizeof(yaml),
		 "%s---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
		 "metadata: { name: some, namespace: demo }\n"
		 "spec:\n  host: split.demo.example\n"
		 "  workloadSelector: { matchLabels: { app: shop } }\n"
		 "  trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true } } }\n",
		 mesh_yaml);
	use(yaml);
	for (int k = 0; k < 2; k++) {
		const struct flat_session *s = k == 0 ? &shop : &redis;
		uint16_t first = ask(s, "240.9.0.1", 80, false).target.port;

		both[k] = false;
		for (int i = 0; i < 10; i++)
			both[k] |= ask(s, "240.9.0.1", 80, false).target.port != first;
	}
	cr_expect_not(both[0], "the client's address chooses");
	cr_expect(both[1], "turns of the rule for all");
}

/* What of a mesh with a CUSTOM policy for redis comes to a connection there by its own address: `kind` is the provider's, `port` of
 * the service's. */
static struct flat_decision asked(struct flat_listener *l, const char *kind, const char *port,
				  const char *more)
{
	static char yaml[16384];

	snprintf(
	    yaml, sizeof(yaml),
	    "%s---\nkind: MeshConfig\n"
	    "extensionProviders: [{ name: ext, %s: { service: split.demo.example, port: 80 } }]\n"
	    "---\napiVersion: v1\nkind: Service\nmetadata: { name: other, namespace: demo }\n"
	    "spec: { clusterIP: 10.96.0.2, selector: { app: redis }, ports: [{ %s }] }\n"
	    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
	    "metadata: { name: ext, namespace: demo }\n"
	    "spec:\n  selector: { matchLabels: { app: redis } }\n  action: CUSTOM\n"
	    "  provider: { name: ext }\n  rules: [{ to: [{ operation: { paths: [/x] } }] }]\n%s",
	    mesh_yaml, kind, port, more);
	use(yaml);
	if (!l->session)
		listens(l, &redis, "127.0.0.1", 7000);
	return ask(&shop, "127.0.0.1", 7000, false);
}

Test(admit, whom_policies_ask_about_a_connection_is_said_and_it_is_not_direct)
{
	static const char tcp[] = "name: tcp-other, port: 6380, targetPort: 7000";
	struct flat_listener l = {.session = NULL};
	struct flat_decision d = asked(&l, "envoyExtAuthzGrpc", tcp, "");

	cr_assert_eq(d.status, 0, "%s", d.reason);
	cr_expect_eq(d.asks[FLAT_ASKED_BY_SERVER], 1U);
	cr_expect_eq(d.asks[FLAT_ASKED_BY_GATE], 0U);
	cr_expect_eq(d.path, FLAT_CONN_FORWARDED);
	d = ask(&stranger, "127.0.0.1", 7000, false);
	cr_expect_eq(d.status, -EACCES, "whom ALLOW policies refuse is not asked about");
	cr_expect_eq(d.asks[FLAT_ASKED_BY_SERVER], 0U);
}

Test(admit, authorizers_over_http_hold_where_the_port_may_be_http)
{
	static const char tcp[] = "name: tcp-other, port: 6380, targetPort: 7000";
	static const char unsaid[] = "name: other, port: 6380, targetPort: 7000";
	struct flat_listener l = {.session = NULL};
	struct flat_decision d = asked(&l, "envoyExtAuthzHttp", tcp, "");

	cr_assert_eq(d.status, 0, "%s", d.reason);
	cr_expect_eq(d.asks[FLAT_ASKED_BY_SERVER], 0U);
	cr_expect_eq(d.path, FLAT_CONN_DIRECT);
	/* By a service whose port is TCP as well: the server is the same. */
	d = asked(&l, "envoyExtAuthzHttp", unsaid, "");
	cr_expect_eq(d.status, -EACCES);
	d = ask(&shop, "10.96.0.1", 6379, false);
	cr_expect_eq(d.status, -EACCES);
	cr_expect(strstr(d.reason, "over HTTP"), "%s", d.reason);
}
