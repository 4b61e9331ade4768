/*
 * VirtualService and DestinationRule, case by case: which route a request takes. Expectations come from Istio's
 * reference "Virtual Service".
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/http1.h"
#include "codec/path.h"
#include "mesh/build.h"
#include "support_mesh.h"

#define SERVICES                                                                                   \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: shop, namespace: foo, labels: {app: shop, tier: gold}}\n"                \
	"spec: {selectors: [{uid: 1}]}\n"                                                          \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {hosts: [web.example], resolution: STATIC, ports: [{number: 80, name: http}],\n"    \
	"  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]}\n"                             \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: foo}\n"          \
	"spec: {ports: [{port: 80, name: http}]}\n"                                                \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                         \
	"metadata: {name: web, namespace: foo}\n"                                                  \
	"spec: {host: web.example, subsets: [{name: v1, labels: {version: v1}}]}\n"
#define VS(spec)                                                                                   \
	SERVICES "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                 \
		 "metadata: {name: v, namespace: foo}\nspec: " spec "\n"
/* A service with three ports, and its rule with this trafficPolicy (and what follows it). */
#define TRAFFIC(policy)                                                                            \
	SERVICES                                                                                   \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: api, namespace: foo}\nspec: {hosts: [api.example], resolution: "         \
	"STATIC, ports: [{number: 80, name: http}, {number: 81, name: http-b}, {number: 82, "      \
	"name: http-c}], endpoints: [{address: 10.0.0.1}]}\n"                                      \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                         \
	"metadata: {name: api, namespace: foo}\nspec: {host: api.example, trafficPolicy: " policy  \
	"}\n"
/* One route with a match, and one that takes all. */
#define MATCH(match)                                                                               \
	VS("{hosts: [web.example], http: [{name: hit, match: [" match                              \
	   "], route: [{destination: {host: web.example}}]}, "                                     \
	   "{name: miss, route: [{destination: {host: web.example}}]}]}")

struct route_case {
	const char *what;
	const char *match;
	const char *request; /* start line's method and target, then fields, separated by '|' */
	bool hit;
};

static const struct route_case cases[] = {
    {"exact path", "{uri: {exact: /a}}", "GET /a", true},
    {"exact path, longer", "{uri: {exact: /a}}", "GET /a/b", false},
    {"exact path, query left out", "{uri: {exact: /a}}", "GET /a?b=c", true},
    {"exact path, other case", "{uri: {exact: /a}}", "GET /A", false},
    {"case ignored", "{uri: {exact: /a}, ignoreUriCase: true}", "GET /A", true},
    {"prefix", "{uri: {prefix: /a}}", "GET /abc", true},
    {"prefix, canonical", "{uri: {prefix: /a}}", "GET /x/..//a/b", true},
    {"prefix, other", "{uri: {prefix: /a}}", "GET /b", false},
    {"prefix, case ignored", "{uri: {prefix: /a}, ignoreUriCase: true}", "GET /ABC", true},
    {"regex", "{uri: {regex: '/v[0-9]+/.*'}}", "GET /v12/x", true},
    {"regex matches the whole", "{uri: {regex: '/v[0-9]'}}", "GET /v1/x", false},
    {"exact path, digits in small", "{uri: {exact: '/%c3%a9'}}", "GET /%C3%A9", true},
    {"prefix, encoded", "{uri: {prefix: '/%7ea'}}", "GET /~ab", true},
    {"method", "{method: {exact: POST}}", "POST /", true},
    {"method, other", "{method: {exact: POST}}", "GET /", false},
    {"scheme", "{scheme: {exact: http}}", "GET /", true},
    {"scheme https", "{scheme: {exact: https}}", "GET /", false},
    {"authority", "{authority: {exact: web.example}}", "GET /", true},
    {"authority with port", "{authority: {prefix: 'web.example:'}}", "GET /|Host: web.example:8080",
     true},
    {"header", "{headers: {x-a: {exact: b}}}", "GET /|X-A: b", true},
    {"header, other value", "{headers: {x-a: {exact: b}}}", "GET /|X-A: c", false},
    {"header, absent", "{headers: {x-a: {exact: b}}}", "GET /", false},
    {"header, one of several", "{headers: {x-a: {exact: b}}}", "GET /|X-A: c|X-A: b", true},
    {"header, not all together", "{headers: {x-a: {exact: 'c,b'}}}", "GET /|X-A: c|X-A: b", false},
    {"without a header, one of several", "{withoutHeaders: {x-a: {exact: b}}}",
     "GET /|X-A: c|X-A: b", false},
    {"authority, literally", "{authority: {exact: web.example}}", "GET /|Host: web.example:8080",
     false},
    {"header, hop by hop", "{headers: {x-a: {exact: b}}}", "GET /|X-A: b|Connection: x-a", false},
    {"without, absent counts as empty", "{withoutHeaders: {x-a: {regex: '.*'}}}", "GET /", false},
    {"without, absent is not the value", "{withoutHeaders: {x-a: {exact: b}}}", "GET /", true},
    {"without, presence", "{withoutHeaders: {x-a: {}}}", "GET /", true},
    {"header present", "{headers: {x-a: {}}}", "GET /|X-A:", true},
    {"header not present", "{headers: {x-a: {}}}", "GET /", false},
    {"headers, both", "{headers: {a: {exact: '1'}, b: {prefix: x}}}", "GET /|A: 1|B: xy", true},
    {"headers, one of two", "{headers: {a: {exact: '1'}, b: {prefix: x}}}", "GET /|A: 1", false},
    {"without header", "{withoutHeaders: {x-a: {}}}", "GET /", true},
    {"without header that is there", "{withoutHeaders: {x-a: {}}}", "GET /|X-A: 1", false},
    {"without a value", "{withoutHeaders: {x-a: {exact: b}}}", "GET /|X-A: c", true},
    {"query", "{queryParams: {q: {exact: '1'}}}", "GET /?p=2&q=1", true},
    {"query, other", "{queryParams: {q: {exact: '1'}}}", "GET /?q=12", false},
    {"query, absent", "{queryParams: {q: {exact: '1'}}}", "GET /", false},
    {"query present", "{queryParams: {q: {}}}", "GET /?q", true},
    {"query regex", "{queryParams: {q: {regex: '[0-9]+'}}}", "GET /?q=12", true},
    {"header empty", "{headers: {x-a: {exact: ''}}}", "GET /|X-A:", true},
    {"header empty, with a value", "{headers: {x-a: {exact: ''}}}", "GET /|X-A: b", false},
    {"header empty, absent", "{headers: {x-a: {exact: ''}}}", "GET /", false},
    {"without an empty value, absent", "{withoutHeaders: {x-a: {exact: ''}}}", "GET /", false},
    {"without an empty value", "{withoutHeaders: {x-a: {exact: ''}}}", "GET /|X-A: b", true},
    {"header of any value", "{headers: {x-a: {regex: '*'}}}", "GET /|X-A: b", true},
    {"header of any value, empty", "{headers: {x-a: {regex: '*'}}}", "GET /|X-A:", true},
    {"header of any value, absent", "{headers: {x-a: {regex: '*'}}}", "GET /", false},
    {"without any value, absent", "{withoutHeaders: {x-a: {regex: '*'}}}", "GET /", true},
    {"without any value", "{withoutHeaders: {x-a: {regex: '*'}}}", "GET /|X-A: b", false},
    {"header regex matches the whole", "{headers: {x-a: {regex: 'b'}}}", "GET /|X-A: bc", false},
    {"header names in any case", "{headers: {X-Upper: {exact: b}}}", "GET /|x-upper: b", true},
    {"header values in their case", "{headers: {x-a: {exact: b}}}", "GET /|X-A: B", false},
    {"query empty", "{queryParams: {q: {exact: ''}}}", "GET /?q=", true},
    {"query empty, without equals", "{queryParams: {q: {exact: ''}}}", "GET /?q", true},
    {"query empty, with a value", "{queryParams: {q: {exact: ''}}}", "GET /?q=1", false},
    {"query of any value", "{queryParams: {q: {regex: '*'}}}", "GET /?q=1", true},
    {"query of any value, absent", "{queryParams: {q: {regex: '*'}}}", "GET /?p", false},
    {"query, the first of several", "{queryParams: {q: {exact: '1'}}}", "GET /?q=1&q=2", true},
    {"query, not the second", "{queryParams: {q: {exact: '2'}}}", "GET /?q=1&q=2", false},
    {"query names in their case", "{queryParams: {q: {exact: '1'}}}", "GET /?Q=1", false},
    {"a regex heeds case, whatever is said", "{uri: {regex: '/a'}, ignoreUriCase: true}", "GET /A",
     false},
    {"authority regex", "{authority: {regex: 'web[.].*'}}", "GET /|Host: web.example:8080", true},
    {"authority, other", "{authority: {exact: web}}", "GET /", false},
    {"method regex", "{method: {regex: 'GET|HEAD'}}", "HEAD /", true},
    {"an empty match", "{}", "GET /", true},
    {"port", "{port: 80}", "GET /", true},
    {"port, other", "{port: 81}", "GET /", false},
    {"source labels", "{sourceLabels: {app: shop}}", "GET /", true},
    {"source labels, other", "{sourceLabels: {app: shop, tier: iron}}", "GET /", false},
    {"source namespace", "{sourceNamespace: foo}", "GET /", true},
    {"source namespace, other", "{sourceNamespace: bar}", "GET /", false},
    {"mesh, whatever the source", "{gateways: [mesh], sourceNamespace: bar}", "GET /", true},
    {"another gateway", "{gateways: [istio-system/g], uri: {prefix: /}}", "GET /", false},
    {"all of one match", "{uri: {prefix: /a}, method: {exact: GET}}", "POST /a", false},
    {"one of several", "{uri: {exact: /a}}, {uri: {exact: /b}}", "GET /b", true},
};

struct asked {
	struct flat_http1 parser;
	struct flat_http_request request;
	char text[1024];
	char path[1024];
};

/* "GET /a|X: y" as a request. */
static void ask(struct asked *a, const char *text)
{
	const char *bar = strchrnul(text, '|');
	bool host = strstr(text, "Host:") != NULL;
	int n = snprintf(a->text, sizeof(a->text), "%.*s HTTP/1.1\r\n%s", (int)(bar - text), text,
			 host ? "" : "Host: web.example\r\n");
	const struct flat_http_head *h = &a->parser.head;
	struct flat_http_request *r = &a->request;

	while (*bar) {
		const char *field = bar + 1;
		bar = strchrnul(field, '|');
		n += snprintf(a->text + n, sizeof(a->text) - (size_t)n, "%.*s\r\n",
			      (int)(bar - field), field);
	}
	n += snprintf(a->text + n, sizeof(a->text) - (size_t)n, "\r\n");
	flat_http1_begin(&a->parser, FLAT_HTTP1_REQUEST);
	cr_assert_eq(flat_http1_read(&a->parser, (uint8_t *)a->text, (size_t)n), n, "%s", text);
	*r = (struct flat_http_request){.head = h, .text = a->text};
	r->method = flat_head_span(a->text, h->start, h->method_len);
	r->authority = flat_head_span(a->text, h->authority, h->authority_len);
	r->host = flat_http_host(r->authority);
	if (h->has_query)
		r->query = flat_head_span(a->text, h->query, h->query_len);
	cr_assert_eq(flat_path_canonical(flat_head_span(a->text, h->path, h->path_len), a->path,
					 sizeof(a->path), &r->path),
		     0);
}

static const struct flat_http_route *route_of(const struct loaded *l, const char *text)
{
	static struct asked a;
	const struct flat_http_match *match;
	struct flat_route_question q = {.request = &a.request, .port = 80};
	const struct flat_service *s;
	const struct flat_virtual_service *vs;

	ask(&a, text);
	q.source = flat_mesh_workload_by_name(l->mesh, "foo", "shop");
	s = flat_mesh_service_by_host(l->mesh, "web.example", NULL);
	vs = virtual_for(l->mesh, NULL, a.request.host, s);
	cr_assert(vs);
	return flat_route_find(vs, &q, &match);
}

Test(route, requests_take_the_route_whose_match_holds)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		char yaml[8192];
		char *split;
		struct loaded l;
		const struct flat_http_route *route;

		snprintf(yaml, sizeof(yaml), "%s", MATCH("%"));
		split = strchr(yaml, '%');
		cr_assert(split);
		memmove(split + strlen(cases[i].match), split + 1, strlen(split + 1) + 1);
		memcpy(split, cases[i].match, strlen(cases[i].match));
		l = load_good(yaml);
		route = route_of(&l, cases[i].request);
		cr_expect(route && strcmp(route->name, cases[i].hit ? "hit" : "miss") == 0, "%s",
			  cases[i].what);
		loaded_fini(&l);
	}
}

Test(route, the_first_that_holds_is_taken_and_there_may_be_none)
{
	struct loaded l =
	    load_good(VS("{hosts: [web.example], http: ["
			 "{name: one, match: [{uri: {prefix: /a}}], route: [{destination: {host: "
			 "web.example}}]},"
			 "{name: two, match: [{uri: {prefix: /}}, {method: {exact: PUT}}], "
			 "directResponse: {status: 503}},"
			 "{name: three, redirect: {uri: /x}}]}"));
	cr_expect_str_eq(route_of(&l, "GET /ab")->name, "one");
	cr_expect_str_eq(route_of(&l, "GET /b")->name, "two");
	loaded_fini(&l);
	l = load_good(VS("{hosts: [web.example], http: [{match: [{uri: {exact: /a}}], "
			 "route: [{destination: {host: web.example}}]}]}"));
	cr_expect_null(route_of(&l, "GET /b"));
	loaded_fini(&l);
}

static bool found(const struct loaded *l, const char *host)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, host, "foo");
	return virtual_for(l->mesh, NULL, flat_span_of(host), s) != NULL;
}

Test(route, hosts_are_found_by_each_of_their_names)
{
#define ONE(hosts) VS("{hosts: " hosts ", http: [{directResponse: {status: 200}}]}")
	struct loaded l = load_good(ONE("[reviews]"));
	cr_expect(found(&l, "reviews"));
	cr_expect(found(&l, "reviews.foo"));
	cr_expect(found(&l, "reviews.foo.svc.cluster.local"));
	cr_expect(!found(&l, "web.example"));
	loaded_fini(&l);
	l = load_good(ONE("['*.example']"));
	cr_expect(found(&l, "web.example"));
	cr_expect(found(&l, "a.b.example"));
	cr_expect(!found(&l, "example"));
	cr_expect(!found(&l, "reviews"));
	loaded_fini(&l);
	l = load_good(ONE("['*', other.host]"));
	cr_expect(found(&l, "web.example"));
	cr_expect(found(&l, "OTHER.host."));
	loaded_fini(&l);
	/* The mesh's routes are those that do not name a gateway alone. */
	l = load_good(
	    VS("{hosts: [web.example], gateways: [g], http: [{directResponse: {status: 200}}]}"));
	cr_expect(!found(&l, "web.example"));
	cr_expect(strstr(loaded_text(&l), "there is no Gateway"));
	loaded_fini(&l);
}

Test(route, an_exact_host_wins_over_wildcards_and_the_longer_of_those)
{
	static const char yaml[] = SERVICES
	    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
	    "metadata: {name: all}\nspec: {hosts: ['*'], http: [{directResponse: {status: 201}}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
	    "metadata: {name: b}\nspec: {hosts: ['*.b.c'], http: [{directResponse: {status: "
	    "202}}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
	    "metadata: {name: c}\nspec: {hosts: ['*.c', a.b.c], http: [{directResponse: {status: "
	    "203}}]}\n";
	struct loaded l = load_good(yaml);
	static const struct {
		const char *host;
		unsigned status;
	} want[] = {{"a.b.c", 203}, {"x.b.c", 202}, {"x.y.b.c", 202},
		    {"b.c", 203},   {"c", 201},	    {"z", 201}};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(want); i++) {
		const struct flat_virtual_service *vs =
		    virtual_for(l.mesh, NULL, flat_span_of(want[i].host), NULL);
		cr_expect(vs && vs->routes[0].direct->status == want[i].status, "%s", want[i].host);
	}
	loaded_fini(&l);
}

static unsigned status_for(const struct loaded *l, const char *namespace)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "web.example", NULL);
	const struct flat_virtual_service *vs =
	    virtual_for(l->mesh, namespace, flat_span_of("web.example"), s);

	return vs ? vs->routes[0].direct->status : 0;
}

/* exportTo: the namespace's own before those it is named in, these before what everybody sees. */
Test(route, who_sees_a_virtual_service)
{
#define SHOWN(name, namespace, to, status)                                                         \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name    \
	", namespace: " namespace "}\nspec: {hosts: [web.example], exportTo: " to                  \
				  ", http: [{directResponse: {status: " status "}}]}\n"
	struct loaded l = load_good(SERVICES SHOWN("all", "foo", "['*']", "201") SHOWN(
	    "own", "bar", "[.]", "202") SHOWN("named", "foo", "[baz, bar]", "203"));

	cr_expect_eq(status_for(&l, "foo"), 201);
	cr_expect_eq(status_for(&l, NULL), 201);
	cr_expect_eq(status_for(&l, "bar"), 202);
	cr_expect_eq(status_for(&l, "baz"), 203);
	loaded_fini(&l);
	/* What is not shown leaves the host to a wildcard. */
	l = load_good(
	    SERVICES SHOWN("own", "bar", "[.]",
			   "202") "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
				  "metadata: {name: w}\nspec: {hosts: ['*.example'], http: "
				  "[{directResponse: {status: 204}}]}\n");
	cr_expect_eq(status_for(&l, "foo"), 204);
	cr_expect_eq(status_for(&l, "bar"), 202);
	loaded_fini(&l);
}

static const char *chosen(const struct loaded *l, const char *namespace)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "web.example", NULL);
	const struct flat_destination_rule *r = flat_mesh_rule_for(l->mesh, s, namespace);

	return r ? r->name : "-";
}

/* As in Istio: the client's namespace, the service's, the root's; a host before wildcards. */
Test(route, which_destination_rule_holds)
{
#define RULE(name, namespace, spec)                                                                \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name   \
	", namespace: " namespace "}\nspec: " spec "\n"
	struct loaded l = load_good(
	    SERVICES RULE("mine", "bar", "{host: '*.example'}")
		RULE("root", "istio-system", "{host: web.example}")
		    RULE("other", "third", "{host: web.example}")
			RULE("second", "foo", "{host: web.example, subsets: [{name: v2}]}"));

	cr_expect_str_eq(chosen(&l, "foo"), "web");
	cr_expect_str_eq(chosen(&l, "bar"), "mine");
	cr_expect_str_eq(chosen(&l, "baz"), "web");
	cr_expect_str_eq(chosen(&l, NULL), "web");
	cr_expect_str_eq(chosen(&l, "third"), "other");
	/* Two of one namespace are one. */
	cr_expect_not_null(flat_rule_subset(flat_mesh_rule(l.mesh, 0), "v1"));
	cr_expect_not_null(flat_rule_subset(flat_mesh_rule(l.mesh, 0), "v2"));
	loaded_fini(&l);
}

/* Both conditions hold; what the delegate leaves open is the root's. */
Test(route, a_delegate_stands_in_its_place)
{
	struct loaded l = load_good(
	    VS("{hosts: [web.example], http: [{match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}], "
	       "timeout: 5s, delegate: {name: d, namespace: bar}}, {name: rest, directResponse: "
	       "{status: 200}}]}") "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
				   "metadata: {name: d, namespace: bar}\n"
				   "spec: {http: [{name: one, match: [{uri: {prefix: /a/x}, "
				   "headers: {x: {exact: '1'}}}], "
				   "timeout: 1s, directResponse: {status: 201}}, {name: two, "
				   "directResponse: {status: "
				   "202}}]}\n");

	cr_expect_str_eq(route_of(&l, "GET /a/x|x: 1")->name, "one");
	cr_expect_eq(route_of(&l, "GET /a/x|x: 1")->timeout_ms, 1000);
	cr_expect_str_eq(route_of(&l, "GET /a/x")->name, "two");
	cr_expect_eq(route_of(&l, "GET /a/x")->timeout_ms, 5000);
	cr_expect_str_eq(route_of(&l, "GET /b")->name, "two");
	cr_expect_str_eq(route_of(&l, "GET /c|x: 1")->name, "rest");
	loaded_fini(&l);
}

Test(route, everything_a_route_does_is_read)
{
	struct loaded l = load_good(VS(
	    "{hosts: [web.example], http: [{timeout: 1.5s, retries: {attempts: 3, perTryTimeout: "
	    "200ms, "
	    "retryOn: 'gateway-error,connect-failure,418'}, "
	    "fault: {delay: {fixedDelay: 5s, percentage: {value: 12.5}}, abort: {httpStatus: 500, "
	    "percentage: {value: 0.01}}}, "
	    "rewrite: {uri: /new, authority: other}, "
	    "headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}, response: {add: {f: g}}}, "
	    "corsPolicy: {allowOrigins: [{exact: 'http://a'}], allowMethods: [GET, PUT], maxAge: "
	    "24h, "
	    "allowCredentials: true}, "
	    "route: [{weight: 75, destination: {host: web.example, subset: v1, port: {number: "
	    "80}}}, "
	    "{weight: 25, destination: {host: reviews}, headers: {request: {remove: [x]}}}]}]}"));
	const struct flat_http_route *r = &flat_mesh_virtual(l.mesh, 0)->routes[0];

	cr_expect_eq(r->timeout_ms, 1500);
	cr_expect_eq(r->retries->attempts, 3);
	cr_expect_eq(r->retries->per_try_ms, 200);
	cr_expect_eq(r->retries->on, FLAT_RETRY_GATEWAY | FLAT_RETRY_CONNECT | FLAT_RETRY_STATUS);
	cr_expect_eq(r->retries->statuses[0], 418);
	cr_expect_eq(r->fault->delay_ms, 5000);
	cr_expect_eq(r->fault->delay_of_million, 125000);
	cr_expect_eq(r->fault->abort_status, 500);
	cr_expect_eq(r->fault->abort_of_million, 100);
	cr_expect_str_eq(r->rewrite->uri, "/new");
	cr_expect_str_eq(r->rewrite->authority, "other");
	cr_expect_eq(r->request.n_set + r->request.n_add + r->request.n_remove, 3);
	cr_expect_str_eq(r->response.add[0].value, "g");
	cr_expect_str_eq(r->cors->methods, "GET,PUT");
	cr_expect_str_eq(r->cors->max_age, "86400");
	cr_expect(r->cors->credentials);
	cr_expect_eq(r->weight, 100);
	cr_expect_str_eq(r->destinations[0].subset->name, "v1");
	cr_expect_str_eq(r->destinations[1].service->name, "reviews");
	cr_expect_eq(r->destinations[1].request.n_remove, 1);
	cr_expect_eq(flat_mesh_n_destinations(l.mesh), 2);
	loaded_fini(&l);
}

struct bad_case {
	const char *yaml;
	const char *want;
};

static const struct bad_case bad[] = {
    {VS("{http: []}"), "a VirtualService needs a host"},
    {VS("{hosts: [web.example], http: [{}]}"), "a route that does nothing"},
    {VS("{hosts: [web.example], http: [{redirect: {uri: /}, directResponse: {status: 200}}]}"),
     "a route that does several things"},
    {VS("{hosts: [web.example], http: [{directResponse: {status: 99}}]}"),
     "not a whole number from 200"},
    {VS("{hosts: [web.example], http: [{directResponse: {}}]}"), "\"status\" is missing"},
    {VS("{hosts: [web.example], http: [{route: [{destination: {}}]}]}"),
     "\"destination.host\" is missing"},
    {VS("{hosts: [web.example], http: [{route: [{destination: {host: web.example}, weight: 0}, "
	"{destination: {host: "
	"web.example}}]}]}"),
     "add up to 0"},
    {VS("{hosts: [web.example], http: [{rewrite: {uriRegexRewrite: {match: '('}}, route: "
	"[{destination: {host: web.example}}]}]}"),
     "a parenthesis is not closed"},
    {VS("{hosts: [web.example], http: [{rewrite: {uriRegexRewrite: {match: a, rewrite: '\\x'}}, "
	"route: [{destination: {host: web.example}}]}]}"),
     "has a backslash before something else"},
    {VS("{hosts: [web.example], http: [{redirect: {uri: /a, prefixRewrite: /b}}]}"),
     "both uri and prefixRewrite"},
    {VS("{hosts: [web.example], http: [{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: "
	"/b}}]}"),
     "where no prefix is matched"},
    {VS("{hosts: [web.example], http: [{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}]}"),
     "both port and derivePort"},
    {VS("{hosts: [web.example], http: [{match: [{uri: {regex: '('}}], directResponse: {status: "
	"200}}]}"),
     "is not taken: a parenthesis is not closed"},
    {VS("{hosts: [web.example], http: [{match: [{uri: {exact: a, prefix: b}}], directResponse: "
	"{status: 200}}]}"),
     "more than one way to match"},
    {VS("{hosts: [web.example], http: [{match: [{urii: {exact: a}}], directResponse: {status: "
	"200}}]}"),
     "did you mean \"uri\"?"},
    {VS("{hosts: [web.example], http: [{timeout: 5, directResponse: {status: 200}}]}"),
     "\"5\" is no duration"},
    {VS("{hosts: [web.example], http: [{fault: {abort: {httpStatus: 500, percentage: {value: "
	"101}}}, "
	"directResponse: {status: 200}}]}"),
     "not a percentage"},
    {VS("{hosts: [web.example], http: [{headers: {request: {set: {Content-Length: '1'}}}, "
	"directResponse: {status: 200}}]}"),
     "says how a message is carried"},
    {VS("{hosts: [web.example], http: [{headers: {request: {set: {'a b': '1'}}}, "
	"directResponse: {status: 200}}]}"),
     "is no name of a header"},
    {VS("{hosts: [web.example], http: [{headers: {request: {set: {a: \"b\\r\\nc: d\"}}}, "
	"directResponse: {status: 200}}]}"),
     "a control character in the value"},
    {VS("{hosts: [web.example], http: [{redirect: {uri: \"/a\\r\\nb\"}}]}"),
     "is no piece of a URL"},
    {VS("{hosts: [web.example], http: [{rewrite: {uri: a}, route: [{destination: {host: "
	"web.example}}]}]}"),
     "is no path"},
    {VS("{hosts: [web.example], http: [{retries: {attempts: 1, retryOn: never}, directResponse: "
	"{status: 200}}]}"),
     "\"never\" is no condition"},
    {SERVICES "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: "
	      "w}\nspec: {}\n",
     "a DestinationRule needs a host"},
    {SERVICES
     "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: w}\n"
     "spec: {host: web.example, subsets: [{name: a}, {name: a}]}\n",
     "two subsets are named \"a\""},
    {TRAFFIC("{loadBalancer: {simple: ROUND}}"), "ROUND_ROBIN"},
    {TRAFFIC("{loadBalancer: {consistentHash: {}}}"), "needs one key, this has 0"},
    {TRAFFIC("{loadBalancer: {consistentHash: {httpHeaderName: a, useSourceIp: true}}}"),
     "needs one key, this has 2"},
    {TRAFFIC("{loadBalancer: {consistentHash: {useSourceIp: false}}}"),
     "needs one key, this has 0"},
    {TRAFFIC("{loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}}"),
     "field \"name\" is missing"},
    {TRAFFIC("{loadBalancer: {consistentHash: {httpCookie: {name: 'a=b', ttl: 1s}}}}"),
     "cannot stand in a cookie"},
    {TRAFFIC("{loadBalancer: {consistentHash: {httpCookie: {name: a, path: '/;b', ttl: 1s}}}}"),
     "cannot stand in a cookie"},
    {TRAFFIC("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}}"),
     "cannot be filled evenly"},
    {TRAFFIC("{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}"),
     "both simple and consistentHash"},
    {TRAFFIC("{portLevelSettings: [{loadBalancer: {simple: RANDOM}}]}"),
     "field \"port\" is missing"},
};

/* --- balancing --- */

static const char *balanced(const struct loaded *l, const char *subset, uint16_t port)
{
	const struct flat_service *s = flat_mesh_service_by_host(l->mesh, "api.example", NULL);
	const struct flat_destination_rule *rule = flat_mesh_rule(l->mesh, 1);
	struct flat_traffic t;
	uint32_t i = 0;

	cr_assert(s && rule);
	while (subset && strcmp(rule->subsets[i].name, subset) != 0)
		i++;
	t = flat_rule_traffic(flat_mesh_rule_for(l->mesh, s, NULL),
			      subset ? &rule->subsets[i] : NULL, s, flat_service_port(s, port));
	return t.lb ? flat_lb_name(t.lb->kind) : "-";
}

Test(route, traffic_policies_hold_for_ports_and_subsets)
{
	struct loaded l = load_good(TRAFFIC(
	    "{loadBalancer: {simple: RANDOM}, portLevelSettings: "
	    "[{port: {number: 81}, loadBalancer: {simple: LEAST_CONN}}, {port: {number: 82}}]}, "
	    "subsets: [{name: a}, {name: b, trafficPolicy: {loadBalancer: {consistentHash: "
	    "{httpQueryParameterName: q}}}}, {name: c, trafficPolicy: {portLevelSettings: "
	    "[{port: {number: 81}, loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
	    "{}}}}]}}]"));

	cr_expect_str_eq(balanced(&l, NULL, 80), "RANDOM");
	cr_expect_str_eq(balanced(&l, NULL, 81), "LEAST_REQUEST");
	/* A port's settings stand alone: what they leave out is the default. */
	cr_expect_str_eq(balanced(&l, NULL, 82), "-");
	cr_expect_str_eq(balanced(&l, "a", 80), "RANDOM");
	cr_expect_str_eq(balanced(&l, "b", 80), "RING_HASH");
	cr_expect_str_eq(balanced(&l, "c", 80), "RANDOM");
	cr_expect_str_eq(balanced(&l, "c", 81), "MAGLEV");
	cr_expect(flat_mesh_has_traffic(
	    l.mesh, flat_mesh_service_by_host(l.mesh, "api.example", NULL), NULL));
	cr_expect_not(flat_mesh_has_traffic(
	    l.mesh, flat_mesh_service_by_host(l.mesh, "web.example", NULL), NULL));
	loaded_fini(&l);
}

Test(route, what_is_wrong_is_said)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		struct loaded l = load_yaml(bad[i].yaml);
		cr_expect_neq(l.ret, 0, "%s", bad[i].yaml);
		cr_expect(strstr(loaded_text(&l), bad[i].want), "%s\nsaid: %s", bad[i].yaml,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

static const struct bad_case warned[] = {
    {VS("{hosts: [web.example], http: [{fault: {abort: {httpStatus: 500}}, directResponse: "
	"{status: 200}}]}"),
     "a fault without a percentage is for no request"},
    {VS("{hosts: [web.example], http: [{delegate: {name: nobody}}]}"),
     "delegate foo/nobody does not exist"},
    {VS("{hosts: [web.example], http: [{delegate: {name: v}}]}"), "delegate foo/v has hosts"},
    {VS("{hosts: [web.example], http: [{headers: {request: {set: {x: '%NONE%'}}}, route: "
	"[{destination: {host: web.example}}]}]}"),
     "variable \"NONE\" is not honoured"},
    {VS("{hosts: [web.example], http: [{route: [{destination: {host: nobody}}]}]}"),
     "no service has the host \"nobody\""},
    {VS("{hosts: [web.example], http: [{route: [{destination: {host: web.example, subset: "
	"v9}}]}]}"),
     "has no subset \"v9\""},
    {VS("{hosts: [web.example], http: [{route: [{destination: {host: web.example, port: {number: "
	"9}}}]}]}"),
     "has no port 9"},
    {VS("{hosts: [web.example], tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: "
	"nobody}}]}]}"),
     "no service has the host \"nobody\""},
    {VS("{hosts: [web.example, web.example], http: [{directResponse: {status: 200}}]}"),
     "has a VirtualService already"},
    {TRAFFIC("{loadBalancer: {simple: PASSTHROUGH}}"),
     "load balancing by PASSTHROUGH is not honoured"},
    {TRAFFIC("{outlierDetection: {consecutiveErrors: 1}}"),
     "field \"consecutiveErrors\" is not honoured"},
    {TRAFFIC("{connectionPool: {tcp: {maxConnectionDuration: 1s}}}"),
     "field \"maxConnectionDuration\" is not honoured"},
};

Test(route, what_is_not_honoured_is_said)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(warned); i++) {
		struct loaded l = load_yaml(warned[i].yaml);
		cr_expect_eq(l.ret, 0, "%s\nsaid: %s", warned[i].yaml, loaded_text(&l));
		cr_expect(strstr(loaded_text(&l), warned[i].want), "%s\nsaid: %s", warned[i].yaml,
			  loaded_text(&l));
		loaded_fini(&l);
	}
}

/* --- authorization of requests --- */

#define POLICY(action, rules)                                                                      \
	SERVICES "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"              \
		 "metadata: {name: p, namespace: foo}\nspec: {action: " action ", rules: " rules   \
		 "}\n"
#define TO(operation) "[{to: [{operation: {" operation "}}]}]"
#define WHEN(key, rest) "[{when: [{key: '" key "', " rest "}]}]"

struct authz_case {
	const char *what;
	const char *action;
	const char *rules;
	const char *request;
	bool allowed;
};

static const struct authz_case authz[] = {
    {"method", "ALLOW", TO("methods: [GET]"), "GET /", true},
    {"method, other", "ALLOW", TO("methods: [GET]"), "POST /", false},
    {"method, case", "ALLOW", TO("methods: [get]"), "GET /", false},
    {"method, not", "ALLOW", TO("notMethods: [GET]"), "POST /", true},
    {"path", "ALLOW", TO("paths: [/a]"), "GET /a", true},
    {"path, longer", "ALLOW", TO("paths: [/a]"), "GET /a/b", false},
    {"path, query left out", "ALLOW", TO("paths: [/a]"), "GET /a?b", true},
    {"path, prefix", "ALLOW", TO("paths: ['/a/*']"), "GET /a/b/c", true},
    {"path, suffix", "ALLOW", TO("paths: ['*.txt']"), "GET /a.txt", true},
    {"path, any", "ALLOW", TO("paths: ['*']"), "GET /", true},
    {"path, not", "ALLOW", TO("notPaths: ['/admin*']"), "GET /admin/x", false},
    {"path, template", "ALLOW", TO("paths: ['/a/{*}/b']"), "GET /a/x/b", true},
    {"path, template of one segment", "ALLOW", TO("paths: ['/a/{*}/b']"), "GET /a/x/y/b", false},
    {"path, template of many", "ALLOW", TO("paths: ['/a/{**}']"), "GET /a/x/y", true},
    {"path, template with dots", "ALLOW", TO("paths: ['/a.b/{*}']"), "GET /axb/c", false},
    /* Envoy's templates know pchar: to allow, none of ours knows more; to deny, any character counts. */
    {"path, template, a bracket", "ALLOW", TO("paths: ['/a/{*}']"), "GET /a/[x]", false},
    {"path, template, pchar", "ALLOW", TO("paths: ['/a/{*}']"), "GET /a/-._~!$&'()*+,:@=%20", true},
    {"path, not, template, a bracket", "ALLOW", TO("notPaths: ['/a/{*}']"), "GET /a/[x]", false},
    {"denied template, a bracket", "DENY", TO("paths: ['/a/{*}']"), "GET /a/[x]", false},
    {"denied template, not, a bracket", "DENY", TO("notPaths: ['/a/{*}']"), "GET /a/[x]", false},
    {"denied path", "DENY", TO("paths: ['/admin*']"), "GET /admin", false},
    {"denied path, encoded", "DENY", TO("paths: ['/admin*']"), "GET /%61dmin", false},
    {"denied path, slashes", "DENY", TO("paths: ['/admin*']"), "GET //admin", false},
    {"denied path, dots", "DENY", TO("paths: ['/admin*']"), "GET /x/../admin", false},
    {"path, digits in small", "ALLOW", TO("paths: ['/%c3%a9']"), "GET /%C3%A9", true},
    {"denied path, encoded there", "DENY", TO("paths: ['/%7ea*']"), "GET /~a", false},
    {"denied template, encoded there", "DENY", TO("paths: ['/%7ea/{*}']"), "GET /~a/b", false},
    {"denied path, other", "DENY", TO("paths: ['/admin*']"), "GET /x", true},
    {"host", "ALLOW", TO("hosts: [web.example]"), "GET /", true},
    {"host, case", "ALLOW", TO("hosts: [web.example]"), "GET /|Host: WEB.example", true},
    {"host, with a port", "ALLOW", TO("hosts: [web.example]"), "GET /|Host: web.example:80", false},
    {"host, any port", "ALLOW", TO("hosts: ['web.example:*']"), "GET /|Host: web.example:80", true},
    {"host, not, with a port", "ALLOW", TO("notHosts: [web.example]"), "GET /|Host: web.example:80",
     false},
    {"denied host, not, with a port", "DENY", TO("notHosts: [web.example]"),
     "GET /|Host: web.example:80", false},
    {"denied host, with a dot", "DENY", TO("hosts: [web.example]"), "GET /|Host: web.example.",
     false},
    {"host, suffix", "ALLOW", TO("hosts: ['*.example']"), "GET /", true},
    {"host, other", "ALLOW", TO("hosts: [other]"), "GET /", false},
    {"denied host behind a port", "DENY", TO("hosts: [web.example]"), "GET /|Host: web.example:81",
     false},
    {"host, not", "DENY", TO("notHosts: [web.example]"), "GET /", true},
    {"all of an operation", "ALLOW", TO("methods: [GET], paths: [/a]"), "POST /a", false},
    {"ports beside paths", "ALLOW", TO("ports: ['80'], paths: [/a]"), "GET /a", true},
    {"header", "ALLOW", WHEN("request.headers[x-a]", "values: [b]"), "GET /|X-A: b", true},
    {"header, absent", "ALLOW", WHEN("request.headers[x-a]", "values: [b]"), "GET /", false},
    {"header, prefix", "ALLOW", WHEN("request.headers[x-a]", "values: ['b*']"), "GET /|X-A: bc",
     true},
    {"header, present", "ALLOW", WHEN("request.headers[x-a]", "values: ['*']"), "GET /|X-A: b",
     true},
    {"header, not", "ALLOW", WHEN("request.headers[x-a]", "notValues: [b]"), "GET /|X-A: b", false},
    {"header, not, absent", "ALLOW", WHEN("request.headers[x-a]", "notValues: [b]"), "GET /", true},
    {"path as a header", "ALLOW", WHEN("request.headers[:path]", "values: ['/a?b=1']"),
     "GET /x/../a?b=1", true},
    {"path as a header, without query", "ALLOW", WHEN("request.headers[:path]", "values: ['/a']"),
     "GET /a", true},
    {"path as a header, with its query", "ALLOW", WHEN("request.headers[:path]", "values: ['/a']"),
     "GET /a?b=1", false},
    {"denied path as a header", "DENY", WHEN("request.headers[:path]", "values: ['/a*']"),
     "GET /a?b", false},
    {"method as a header", "ALLOW", WHEN("request.headers[:method]", "notValues: [POST]"), "GET /",
     true},
    {"denied method as a header", "DENY", WHEN("request.headers[:method]", "values: [GET]"),
     "GET /", false},
    {"host as a header", "ALLOW", WHEN("request.headers[:authority]", "values: ['*.example']"),
     "GET /", true},
    {"denied host as a header", "DENY", WHEN("request.headers[:authority]", "values: ['web*']"),
     "GET /", false},
    {"a pseudo-field that is not known", "ALLOW",
     WHEN("request.headers[:scheme]", "values: [http]"), "GET /", false},
    {"a pseudo-field that is not known denies", "DENY",
     WHEN("request.headers[:scheme]", "values: [https]"), "GET /", false},
    {"a second value does not allow", "ALLOW", WHEN("request.headers[x-a]", "values: [b]"),
     "GET /|X-A: b|X-A: c", false},
    {"a second value does not hide", "DENY", WHEN("request.headers[x-a]", "values: [b]"),
     "GET /|X-A: c|X-A: b", false},
    {"a hop's header is none", "ALLOW", WHEN("request.headers[x-a]", "values: [b]"),
     "GET /|X-A: b|Connection: X-A", false},
    {"no token, no principal", "ALLOW", "[{from: [{source: {requestPrincipals: ['*']}}]}]", "GET /",
     false},
    {"who has none is denied", "DENY", "[{from: [{source: {notRequestPrincipals: ['*']}}]}]",
     "GET /", false},
    {"claims are never there", "ALLOW", WHEN("request.auth.claims[iss]", "values: ['*']"), "GET /",
     false},
};

static bool allowed(const struct authz_case *c, bool http)
{
	static struct asked a;
	char yaml[4096];
	struct loaded l;
	struct flat_authz_verdict v;
	struct flat_authz_input in = {.destination_port = 80};

	snprintf(yaml, sizeof(yaml),
		 SERVICES "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			  "metadata: {name: p, namespace: foo}\nspec: {action: %s, rules: %s}\n",
		 c->action, c->rules);
	l = load_good(yaml);
	ask(&a, c->request);
	in.destination = flat_mesh_workload_by_name(l.mesh, "foo", "shop");
	in.http = http ? &a.request : NULL;
	flat_authz_check(l.mesh, &in, &v);
	cr_expect(flat_authz_needs_http(l.mesh, in.destination), "%s", c->what);
	loaded_fini(&l);
	return v.allowed;
}

Test(authz_http, requests_are_allowed_as_in_istio)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(authz); i++)
		cr_expect_eq(allowed(&authz[i], true), authz[i].allowed, "%s", authz[i].what);
}

/* As a connection that is no HTTP: never more allowed than by its requests. */
Test(authz_http, connections_are_on_the_safe_side)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(authz); i++)
		cr_expect(!allowed(&authz[i], false), "%s", authz[i].what);
}

Test(authz_http, policies_without_http_need_none)
{
	struct loaded l = load_good(POLICY("DENY", TO("ports: ['1']")));
	cr_expect(
	    !flat_authz_needs_http(l.mesh, flat_mesh_workload_by_name(l.mesh, "foo", "shop")));
	loaded_fini(&l);
	/* What is audited is read too. */
	l = load_good(POLICY("AUDIT", TO("paths: [/]")));
	cr_expect(flat_authz_needs_http(l.mesh, flat_mesh_workload_by_name(l.mesh, "foo", "shop")));
	loaded_fini(&l);
}

Test(route, claims_are_asked_of_tokens_alone)
{
	static const struct {
		const char *headers, *claims;
		bool want;
	} rows[] = {
	    {"{'@request.auth.claims.sub': {exact: me}}", "{\"sub\": \"me\"}", true},
	    {"{'@request.auth.claims.sub': {exact: me}}", "{\"sub\": \"you\"}", false},
	    {"{'@request.auth.claims.sub': {exact: me}}", NULL, false},
	    {"{'@request.auth.claims.sub': {}}", "{\"sub\": \"you\"}", true},
	    {"{'@request.auth.claims[a][b.c]': {prefix: x}}", "{\"a\": {\"b.c\": [1, \"xy\"]}}",
	     true},
	    {"{'@request.auth.claims.a.b': {regex: 'x+'}}", "{\"a\": {\"b\": \"xxy\"}}", false},
	    {"{'@request.auth.claims.a.b': {regex: 'x+'}}", "{\"a\": {\"b\": \"xx\"}}", true},
	    {"{'@request.auth.claims.a': {exact: x}}", "{\"a\": {\"b\": \"x\"}}", false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		static struct flat_http_head head;
		struct flat_http_request request = {.head = &head, .text = ""};
		struct flat_route_question q = {.request = &request, .port = 80};
		const struct flat_http_match *match;
		struct flat_pool pool = {0};
		char yaml[4096];
		struct loaded l;

		snprintf(yaml, sizeof(yaml),
			 VS("{hosts: [web.example], http: [{match: [{headers: %s}], "
			    "directResponse: {status: 299}}]}"),
			 rows[i].headers);
		l = load_good(yaml);
		if (rows[i].claims)
			cr_assert_eq(flat_json_read(rows[i].claims, strlen(rows[i].claims), &pool,
						    &q.claims),
				     0);
		cr_expect_eq(flat_route_find(flat_mesh_virtual(l.mesh, 0), &q, &match) != NULL,
			     rows[i].want, "%zu", i);
		flat_pool_fini(&pool);
		loaded_fini(&l);
	}
}
