/* What `flatctl routes` is told: as text, and as JSON that says the same. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/json_read.h"
#include "offload/admin.h"
#include "offload/l7.h"
#include "support_mesh.h"

#define SERVICES                                                                                   \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {hosts: [web.example], addresses: [240.1.0.1], resolution: STATIC, ports: "         \
	"[{number: 80, name: http}, {number: 90, name: tcp}],\n"                                   \
	"  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]}\n"
#define VS(spec)                                                                                   \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: v, namespace: foo}\nspec: {hosts: [web.example], " spec "}\n"
#define RULE(spec)                                                                                 \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                         \
	"metadata: {name: r, namespace: foo}\nspec: {host: web.example, " spec "}\n"
#define ROUTE(rest) VS("http: [{" rest "}]")
#define TO "route: [{destination: {host: web.example}}]"

static struct flat_offload half;

/* The whole answer. The caller ends it. */
static struct flat_strbuf answer(const char *yaml, bool json)
{
	struct loaded l = load_yaml(yaml);
	struct flat_strbuf out = {0};

	cr_assert_eq(l.ret, 0, "%s", loaded_text(&l));
	half.mesh = l.mesh;
	flat_admin_routes(&half, json, &out);
	half.mesh = NULL;
	loaded_fini(&l);
	cr_assert_not_null(flat_strbuf_str(&out));
	return out;
}

Test(admin_routes, without_routes_it_says_so)
{
	struct flat_strbuf out = answer(SERVICES, false);

	cr_expect_str_eq(flat_strbuf_str(&out), "no VirtualService: each host is its service\n");
	flat_strbuf_fini(&out);
	out = answer(SERVICES, true);
	cr_expect_str_eq(
	    flat_strbuf_str(&out),
	    "{\"virtual_services\":[],\"destination_rules\":[],\"backend_tls_policies\":[]}\n");
	flat_strbuf_fini(&out);
}

/* A line of the answer has to end like this. */
static const struct {
	const char *yaml, *want;
} lines[] = {
    {ROUTE(TO), ": always -> web.example\n"},
    {ROUTE("name: n, match: [{uri: {prefix: /a}}], " TO),
     "  0 n (line 10): uri prefix /a -> web.example\n"},
    {ROUTE("match: [{uri: {exact: /a}, method: {exact: PUT}}, {headers: {x-a: {regex: "
	   "'b.*'}}}], " TO),
     ": uri exact /a method exact PUT, or header x-a regex b.* -> web.example\n"},
    /* A condition that says nothing is always met, wherever it stands. */
    {ROUTE("match: [{uri: {prefix: /a}}, {name: all}], " TO),
     ": uri prefix /a, or always -> web.example\n"},
    {ROUTE("match: [{withoutHeaders: {x: {}}, queryParams: {q: {exact: '1'}}, port: 80, "
	   "sourceNamespace: bar, sourceLabels: {app: shop}}], " TO),
     ": without x present query q exact 1 port 80 source namespace bar source app=shop -> "
     "web.example\n"},
    {ROUTE(
	 "route: [{destination: {host: web.example, port: {number: 80}}, weight: 3}, {destination: "
	 "{host: nobody.example}, weight: 1}]"),
     " -> web.example port 80 weight 3, nobody.example weight 1 (there is none: 503)\n"},
    {ROUTE("redirect: {authority: a.example, uri: /b, redirectCode: 308}"),
     " -> redirect 308 to a.example/b\n"},
    {ROUTE("directResponse: {status: 418}"), " -> answer 418\n"},
    {ROUTE(TO ", mirror: {host: nobody.example}, mirrorPercentage: {value: 2.5}"),
     " -> web.example; mirror 2.5 % to nobody.example (there is none)\n"},
    {ROUTE(TO ", rewrite: {authority: a.example, uri: /b}"), "; rewrite //a.example/b\n"},
    {ROUTE(TO ", timeout: 1500ms, retries: {attempts: 4}"), "; timeout 1500 ms; 4 retries\n"},
    {ROUTE(TO
	   ", fault: {delay: {fixedDelay: 2s, percentage: {value: 0.5}}, abort: {httpStatus: 503, "
	   "percentage: {value: 100}}}"),
     "; delay 2000 ms of 0.5 %; abort 503 of 100 %\n"},
    {ROUTE(TO ", corsPolicy: {allowOrigins: [{exact: 'http://a'}]}"), "; CORS\n"},
    {VS("tls: [{match: [{sniHosts: [a.example, b.example], port: 90}], route: [{destination: "
	"{host: "
	"web.example}}]}]"),
     "  tls 0 (line 10): SNI a.example, b.example port 90 -> web.example\n"},
    {VS("tcp: [{match: [{destinationSubnets: [10.0.0.0/8], sourceLabels: {app: shop}}, {}], route: "
	"[{destination: {host: nobody.example}}]}]"),
     "  tcp 0 (line 10): to 10.0.0.0/8 source app=shop, or always -> nobody.example (there is "
     "none: "
     "refused)\n"},
    {RULE("trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: "
	  "{consecutive5xxErrors: 3, baseEjectionTime: 5s}, retryBudget: {percent: 10}}, subsets: "
	  "[{name: "
	  "v1, labels: {version: v1}}]"),
     ": web.example, connections 7, aside after 3 5xx for 5000 ms (of 10 %), retries 10 % or 3\n  "
     "subset v1 (line 10)\n"},
    {RULE("workloadSelector: {matchLabels: {app: shop}}"),
     ": web.example for clients with app=shop\n"},
};

Test(admin_routes, conditions_and_actions_are_told)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lines); i++) {
		char yaml[2048];

		snprintf(yaml, sizeof(yaml), SERVICES "%s", lines[i].yaml);
		struct flat_strbuf out = answer(yaml, false);

		cr_expect(strstr(flat_strbuf_str(&out), lines[i].want), "%s\nsaid: %s\nwant: %s",
			  lines[i].yaml, flat_strbuf_str(&out), lines[i].want);
		flat_strbuf_fini(&out);
	}
}

/* Each "match" and "action" of a list stands in the text as "match -> action". */
static void expect_said(const struct flat_json_node *list, const char *text)
{
	for (const struct flat_json_node *r = list ? list->first : NULL; r; r = r->next) {
		char want[1024];

		snprintf(want, sizeof(want), ": %s -> %s\n", flat_json_member_text(r, "match"),
			 flat_json_member_text(r, "action"));
		cr_expect(strstr(text, want), "%s\nwant: %s", text, want);
	}
}

Test(admin_routes, json_is_whole_and_says_the_same)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lines); i++) {
		struct flat_pool pool = {.limit_bytes = 1 << 20};
		const struct flat_json_node *doc = NULL;
		char yaml[2048];

		snprintf(yaml, sizeof(yaml), SERVICES "%s", lines[i].yaml);
		struct flat_strbuf text = answer(yaml, false);
		struct flat_strbuf out = answer(yaml, true);

		cr_assert_eq(flat_json_read(out.data, out.len, &pool, &doc), 0, "%s",
			     flat_strbuf_str(&out));
		const struct flat_json_node *services = flat_json_member(doc, "virtual_services");
		const struct flat_json_node *rules = flat_json_member(doc, "destination_rules");

		cr_assert(services && rules && flat_json_member(doc, "backend_tls_policies"));
		cr_expect(services->first || rules->first);
		if (services->first) {
			cr_expect_str_eq(flat_json_member_text(services->first, "name"), "v");
			expect_said(flat_json_member(services->first, "routes"),
				    flat_strbuf_str(&text));
			expect_said(flat_json_member(services->first, "tls"),
				    flat_strbuf_str(&text));
			expect_said(flat_json_member(services->first, "tcp"),
				    flat_strbuf_str(&text));
		}
		flat_pool_fini(&pool);
		flat_strbuf_fini(&text);
		flat_strbuf_fini(&out);
	}
}
