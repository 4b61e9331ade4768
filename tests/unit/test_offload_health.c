/*
 * Active health checks through flatd: who is asked what, who gets requests by what is answered, and what is told of it. The servers are two of the
 * kernel's, which say what the test wants them to.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <flat/socket.h>

#include "support_calls.h"
#include "support_origin.h"
#include "support_whole.h"

enum { A, B, SERVERS };

static struct calls servers[SERVERS];
static atomic_uint words[SERVERS]; /* statuses of their health */
static atomic_uint wrong;	   /* checks that were not as configured */

static bool serve(unsigned i, const char *request, struct flat_strbuf *answer)
{
	unsigned status = 200;

	if (strncmp(request, "GET /health ", 12) == 0) {
		status = words[i];
		atomic_fetch_add(&wrong, !strcasestr(request, "\r\nhost: probe.example\r\n"));
	}
	flat_strbuf_printf(answer,
			   "HTTP/1.1 %u Word\r\nConnection: close\r\nContent-Length: 1\r\n\r\n%c",
			   status, "ab"[i]);
	return false;
}

static bool serve_a(const char *request, size_t len, struct flat_strbuf *answer)
{
	(void)len;
	return serve(A, request, answer);
}

static bool serve_b(const char *request, size_t len, struct flat_strbuf *answer)
{
	(void)len;
	return serve(B, request, answer);
}

#define CHECK                                                                                      \
	"timeout: 5s, interval: 0.05s, unhealthy_threshold: 3, healthy_threshold: 2, "             \
	"http_health_check: {path: /health, host: probe.example}"
#define PANIC ", common_lb_config: {healthy_panic_threshold: {value: 50}}"

/* `check` "": none. `tls`: its servers are reached over TLS. */
static const char *mesh(const char *check, const char *more, bool tls)
{
	static char yaml[4096];
	size_t n;

	n = (size_t)snprintf(
	    yaml, sizeof(yaml),
	    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
	    "metadata: {name: all, namespace: shop}\nspec: {selectors: [{uid: %%UID%%}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: web, namespace: shop}\n"
	    "spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_EXTERNAL, "
	    "resolution: STATIC, ports: [{number: 80, name: http}], endpoints: ["
	    "{address: 127.0.0.1, ports: {http: %u}}, {address: 127.0.0.1, ports: {http: %u}}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
	    "metadata: {name: web, namespace: shop}\nspec: {host: web.example, trafficPolicy: "
	    "{loadBalancer: {simple: ROUND_ROBIN}%s}}\n",
	    servers[A].port, servers[B].port,
	    tls ? ", tls: {mode: SIMPLE, insecureSkipVerify: true}" : "");
	if (*check)
		n += (size_t)snprintf(
		    yaml + n, sizeof(yaml) - n,
		    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"
		    "metadata: {name: health, namespace: istio-system}\nspec: {configPatches: "
		    "[{applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND, cluster: {service: "
		    "web.example, portNumber: 80}}, patch: {operation: MERGE, value: "
		    "{health_checks: [{%s}]%s}}}]}\n",
		    check, more);
	cr_assert_lt(n, sizeof(yaml));
	return yaml;
}

static void begin(unsigned a, unsigned b)
{
	words[A] = a;
	words[B] = b;
	calls_open(&servers[A], false, serve_a);
	calls_open(&servers[B], false, serve_b);
	origin_by(whole_addr(240, 9, 1, 1, 80));
	whole_begin(mesh(CHECK, "", false), NULL);
	calls_begin(&servers[A]);
	calls_begin(&servers[B]);
}

static void end(void)
{
	whole_end();
	calls_end(&servers[A]);
	calls_end(&servers[B]);
	cr_expect_eq(wrong, 0);
}

/* Waits until flatctl is told so, 10 s at most. */
static void becomes(const char *question, const char *want)
{
	const char *text = whole_ask(question);

	for (int i = 0; i < 1000 && !strstr(text, want); i++) {
		(void)flat_poll(NULL, 0, 10);
		text = whole_ask(question);
	}
	cr_assert_not_null(strstr(text, want), "%s: no '%s' in:\n%s", question, want, text);
}

static void is(int server, const char *word)
{
	char want[64];

	snprintf(want, sizeof(want), "\"127.0.0.1:%u\":\"%s\"", servers[server].port, word);
	becomes("clusters --json", want);
}

/* Who answers twelve requests: a bit each; 4: flatd itself, since nobody is well. */
static unsigned who(void)
{
	unsigned bits = 0;

	for (int i = 0; i < 12; i++) {
		const char *text = origin_ask("GET / HTTP/1.1\r\n" HOST "\r\n");
		const char *body = strstr(text, "\r\n\r\n");

		cr_assert_not_null(body, "%s", text);
		bits |= strcmp(body + 4, "a") == 0	      ? 1U
			: strcmp(body + 4, "b") == 0	      ? 2U
			: strstr(body, "no healthy upstream") ? 4U
							      : 8U;
	}
	return bits;
}

TestSuite(offload_health, .timeout = 60);

Test(offload_health, requests_go_to_who_is_well)
{
	begin(200, 200);
	is(A, "passing");
	is(B, "passing");
	cr_expect_eq(who(), 3);
	words[A] = 503;
	is(A, "failing");
	cr_expect_eq(who(), 2);
	becomes("whyhttp shop/all GET http://web.example/", ": 1 of 2 fail");
	words[B] = 503;
	is(B, "failing");
	cr_expect_eq(who(), 4);
	words[A] = 200;
	is(A, "passing");
	cr_expect_eq(who(), 1);
	end();
}

Test(offload_health, where_too_few_are_well_all_are_asked)
{
	begin(503, 503);
	is(A, "failing");
	is(B, "failing");
	cr_expect_eq(who(), 4);
	whole_apply(mesh(CHECK, PANIC, false));
	cr_expect_eq(who(), 3);
	/* What is known stays over reloads. */
	whole_apply(mesh(CHECK, "", false));
	cr_expect_eq(who(), 4);
	end();
}

Test(offload_health, a_check_that_is_taken_away_says_nothing_more)
{
	begin(503, 200);
	is(A, "failing");
	is(B, "passing");
	cr_expect_eq(who(), 2);
	whole_apply(mesh("", "", false));
	cr_expect_eq(who(), 3);
	end();
}

Test(offload_health, what_checks_do_not_reach_fails_none)
{
	begin(503, 200);
	is(A, "failing");
	becomes("clusters --json", "\"failing\":1");
	whole_apply(mesh(CHECK, "", true));
	is(A, "not checked");
	is(B, "not checked");
	becomes("clusters --json", "\"failing\":0");
	/* What was known of it holds until the next check. */
	whole_apply(mesh(CHECK, "", false));
	becomes("clusters --json", "\"failing\":1");
	is(A, "failing");
	words[A] = 200;
	is(A, "passing");
	becomes("clusters --json", "\"failing\":0");
	end();
}
