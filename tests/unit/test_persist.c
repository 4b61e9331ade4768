/* Session persistence: what is configured, tokens and who may read and make them, the endpoint of a tag. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/persist.h"
#include "mesh/route.h"
#include "offload/persist.h"
#include "support_mesh.h"

static const uint8_t key[FLAT_SIPHASH_KEY_BYTES] = {0, 1, 2,  3,  4,  5,  6,  7,
						    8, 9, 10, 11, 12, 13, 14, 15};

Test(persist, siphash_is_the_papers)
{
	/* Appendix A of the paper, and the first of the vectors that its authors publish. */
	uint8_t input[15];

	for (uint8_t i = 0; i < sizeof(input); i++)
		input[i] = i;
	cr_expect_eq(flat_siphash(key, input, sizeof(input)), 0xa129ca6149be45e5ULL);
	cr_expect_eq(flat_siphash(key, input, 0), 0x726fdb47dd0e0e31ULL);
	cr_expect_eq(flat_siphash(key, input, 8), 0x93f5f5799a932462ULL);
}

/* --- tokens --- */

static struct flat_persistence sessions = {.name = "s", .id = 7};
static const struct flat_persist_token token = {
    .endpoint = 0x0123456789abcdefULL, .destination = 0xfedcba98U, .made_s = 1000, .seen_s = 2000};

static bool reads(const struct flat_persistence *p, const char *text, uint32_t now_s)
{
	struct flat_persist_token got;

	return flat_persist_read(key, p, flat_span_of(text), now_s, &got);
}

Test(persist, what_is_written_is_read)
{
	struct flat_persist_token got = {0};
	char text[FLAT_PERSIST_TOKEN_CHARS + 1];

	flat_persist_write(key, &sessions, &token, text);
	cr_expect_eq(strlen(text), FLAT_PERSIST_TOKEN_CHARS);
	cr_assert(flat_persist_read(key, &sessions, flat_span_of(text), 3000, &got));
	cr_expect_eq(got.endpoint, token.endpoint);
	cr_expect_eq(got.destination, token.destination);
	cr_expect_eq(got.made_s, token.made_s);
	cr_expect_eq(got.seen_s, token.seen_s);
}

Test(persist, every_other_character_is_a_forgery)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/\" ";
	char text[FLAT_PERSIST_TOKEN_CHARS + 1];

	flat_persist_write(key, &sessions, &token, text);
	for (size_t i = 0; i < FLAT_PERSIST_TOKEN_CHARS; i++) {
		char was = text[i];

		for (const char *c = alphabet; *c; c++) {
			text[i] = *c;
			cr_expect_eq(reads(&sessions, text, 3000), *c == was);
		}
		text[i] = was;
	}
}

Test(persist, of_another_key_length_or_session_is_none)
{
	const struct flat_persistence others = {.name = "s", .id = 8};
	uint8_t other[FLAT_SIPHASH_KEY_BYTES] = {1};
	struct flat_persist_token got;
	char text[FLAT_PERSIST_TOKEN_CHARS + 2];

	flat_persist_write(key, &sessions, &token, text);
	cr_expect(reads(&sessions, text, 3000));
	cr_expect_not(reads(&others, text, 3000));
	cr_expect_not(flat_persist_read(other, &sessions, flat_span_of(text), 3000, &got));
	for (size_t n = 0; n < FLAT_PERSIST_TOKEN_CHARS; n++)
		cr_expect_not(
		    flat_persist_read(key, &sessions, (struct flat_span){text, n}, 3000, &got));
	memcpy(text + FLAT_PERSIST_TOKEN_CHARS, "A", 2);
	cr_expect_not(reads(&sessions, text, 3000));
}

Test(persist, time_ends_it)
{
	struct flat_persistence p = {.name = "s", .id = 7, .absolute_s = 100, .idle_s = 10};
	struct flat_persist_token t = {.endpoint = 1, .made_s = 1000, .seen_s = 1050};
	char text[FLAT_PERSIST_TOKEN_CHARS + 1];

	flat_persist_write(key, &p, &t, text);
	cr_expect(reads(&p, text, 1050));
	cr_expect(reads(&p, text, 1060));
	cr_expect_not(reads(&p, text, 1061), "idle");
	/* Another host's clock goes before. */
	cr_expect(reads(&p, text, 900));
	p.idle_s = 0;
	cr_expect(reads(&p, text, 1100));
	cr_expect_not(reads(&p, text, 1101), "absolute");
	p.absolute_s = 0;
	cr_expect(reads(&p, text, UINT32_MAX));
}

/* --- endpoints --- */

Test(persist, a_tag_finds_its_endpoint)
{
	struct flat_map clusters = {0};
	struct flat_cluster *c = flat_cluster_get(&clusters, "a.example", 80, "v1");
	struct flat_endpoint v[3] = {{.port = 80}, {.port = 80}, {.port = 81}};
	uint64_t destination = flat_persist_destination(key, "a.example", 80, "v1");
	uint64_t tags[3];

	for (uint32_t i = 0; i < 3; i++) {
		struct flat_addr a = {
		    .family = AF_INET, .port = v[i].port, .ip = {10, 0, 0, (uint8_t)i}};

		v[i].ip = flat_ip_from_v4(0x0a000000U + i);
		tags[i] = flat_persist_endpoint(key, destination, &a);
	}
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_eq(flat_persist_find(c, key, v, 3, tags[i]), (int)i);
	cr_expect_eq(flat_persist_find(c, key, v, 3, tags[0] + 1), -ENOENT);
	/* One is gone, and the others have moved. */
	c->candidates_stamp++;
	cr_expect_eq(flat_persist_find(c, key, v + 1, 2, tags[0]), -ENOENT);
	cr_expect_eq(flat_persist_find(c, key, v + 1, 2, tags[2]), 1);
	flat_clusters_free(&clusters);
}

Test(persist, tags_are_of_one_destination)
{
	uint64_t it = flat_persist_destination(key, "a.example", 80, "");
	struct flat_addr a = {.family = AF_INET, .port = 80, .ip = {10}};

	cr_expect_neq(it, flat_persist_destination(key, "b.example", 80, ""));
	cr_expect_neq(it, flat_persist_destination(key, "a.example", 81, ""));
	cr_expect_neq(it, flat_persist_destination(key, "a.example", 80, "v1"));
	cr_expect_neq(flat_persist_endpoint(key, it, &a), flat_persist_endpoint(key, it + 1, &a));
}

Test(persist, a_session_keeps_its_endpoint_while_that_can_be_used)
{
	struct flat_map clusters = {0};
	struct flat_cluster *c = flat_cluster_get(&clusters, "a.example", 80, "");
	struct flat_endpoint v[2] = {{.port = 80, .weight = 1}, {.port = 80, .weight = 1}};
	struct flat_addr tried = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 1}};
	struct flat_choice choice = {.v = v, .n = 2, .stamp = 1, .now_us = 1};

	v[0].ip = flat_ip_from_v4(0x0a000001U);
	v[1].ip = flat_ip_from_v4(0x0a000002U);
	for (uint32_t i = 0; i < 8; i++) {
		choice.kept = i % 2 + 1;
		cr_expect_eq(flat_cluster_pick(c, &choice), (int)(i % 2));
	}
	/* It goes away: nobody else comes there. */
	v[0].draining = true;
	choice.stamp = 2;
	choice.kept = 1;
	cr_expect_eq(flat_cluster_pick(c, &choice), 0);
	choice.kept = 0;
	for (int i = 0; i < 20; i++)
		cr_expect_eq(flat_cluster_pick(c, &choice), 1);
	choice.kept = 1;
	choice.avoid = &tried;
	choice.n_avoid = 1;
	cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
	choice.n_avoid = 0;
	flat_cluster_checked(c, &tried, true);
	cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH);
	v[1].draining = true;
	choice.stamp = 3;
	choice.kept = 0;
	cr_expect_eq(flat_cluster_pick(c, &choice), -EHOSTUNREACH, "they all go away");
	flat_clusters_free(&clusters);
}

/* --- configuration --- */

#define SERVICE(labels)                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: foo, labels: {" labels    \
	"}}\nspec: {ports: [{port: 80, name: http}]}\n"
#define ROUTE(kind, session)                                                                       \
	SERVICE("")                                                                                \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: " kind                               \
	"\nmetadata: {name: r, namespace: foo}\n"                                                  \
	"spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{"                    \
	"sessionPersistence: " session ", backendRefs: [{name: web, port: 80}]}]}\n"
#define SECRET(key)                                                                                \
	"---\napiVersion: v1\nkind: Secret\nmetadata: {name: flat-sessions, namespace: "           \
	"istio-system}\nstringData: {key: '" key "'}\n"
#define KEY "0123456789abcdef0123456789abcdef"

static const struct flat_persistence *of_route(const struct loaded *l)
{
	return flat_mesh_virtual(l->mesh, 0)->routes[0].persistence;
}

Test(persist, a_rules_sessions)
{
	struct loaded l = load_good(
	    ROUTE("HTTPRoute", "{sessionName: sid, absoluteTimeout: 2h, idleTimeout: "
			       "1500ms, cookieConfig: {lifetimeType: Permanent}}") SECRET(KEY));
	const struct flat_persistence *p = of_route(&l);

	cr_assert_not_null(p);
	cr_expect_str_eq(p->name, "sid");
	cr_expect_not(p->header);
	cr_expect(p->permanent);
	cr_expect_eq(p->absolute_s, 7200);
	cr_expect_eq(p->idle_s, 2);
	cr_expect_null(p->path);
	cr_expect(flat_mesh_persists(l.mesh));
	cr_expect_not_null(flat_mesh_persist_key(l.mesh));
	cr_expect_str_eq(loaded_text(&l), "");
	loaded_fini(&l);
	l = load_good(ROUTE("GRPCRoute", "{type: Header, absoluteTimeout: 99999h}"));
	p = of_route(&l);
	cr_assert_not_null(p);
	cr_expect(p->header);
	cr_expect_eq(strncmp(p->name, "flat-session-", 13), 0);
	cr_expect_eq(p->absolute_s, 99999U * 3600);
	cr_expect_null(flat_mesh_persist_key(l.mesh));
	cr_expect_not_null(strstr(loaded_text(&l), "without a Secret flat-sessions in namespace "
						   "istio-system sessions hold at the flatd"));
	loaded_fini(&l);
}

/* Later schemas of Gateway API: cookie or header in the place of sessionName, type and cookieConfig. */
Test(persist, a_rules_sessions_in_their_later_form)
{
	struct loaded l = load_good(
	    ROUTE("HTTPRoute", "{absoluteTimeout: 2h, cookie: {name: sid, lifetimeType: Permanent, "
			       "path: /a}}") SECRET(KEY));
	const struct flat_persistence *p = of_route(&l);

	cr_assert_not_null(p);
	cr_expect_str_eq(p->name, "sid");
	cr_expect_str_eq(p->path, "/a");
	cr_expect(p->permanent);
	cr_expect_not(p->header);
	loaded_fini(&l);
	l = load_good(ROUTE("HTTPRoute", "{cookie: {}}") SECRET(KEY));
	cr_expect_str_eq(of_route(&l)->path, "/");
	cr_expect_eq(strncmp(of_route(&l)->name, "flat-session-", 13), 0);
	loaded_fini(&l);
	l = load_good(ROUTE("HTTPRoute", "{header: {name: x-sid}}") SECRET(KEY));
	cr_expect_str_eq(of_route(&l)->name, "x-sid");
	cr_expect(of_route(&l)->header);
	loaded_fini(&l);
}

static void refused(const char *yaml, const char *what)
{
	struct loaded l = load_yaml(yaml);

	cr_expect_eq(l.ret, -EINVAL, "%s", what);
	cr_expect_not_null(strstr(loaded_text(&l), what), "%s: %s", what, loaded_text(&l));
	loaded_fini(&l);
}

Test(persist, what_makes_no_sense_is_refused)
{
	refused(ROUTE("HTTPRoute", "{sessionName: 'a b'}"), "\"a b\" is no name of a header");
	refused(ROUTE("HTTPRoute", "{sessionName: Host, type: Header}"), "says how a message is");
	refused(ROUTE("HTTPRoute", "{type: Query}"), "Query");
	refused(ROUTE("HTTPRoute", "{cookieConfig: {lifetimeType: Permanent}}"),
		"a Permanent cookie needs an \"absoluteTimeout\"");
	refused(ROUTE("HTTPRoute", "{type: Header, cookieConfig: {lifetimeType: Session}}"),
		"a session of type Header has no cookie");
	refused(ROUTE("HTTPRoute", "{cookie: {}, header: {}}"), "both cookie and header");
	refused(ROUTE("HTTPRoute", "{cookie: {}, sessionName: a}"),
		"stand beside cookie or header");
	refused(ROUTE("HTTPRoute", "{header: {}, type: Cookie}"), "stand beside cookie or header");
	refused(ROUTE("HTTPRoute", "{cookie: {path: a}}"), "is no path of a cookie");
	refused(ROUTE("HTTPRoute", "{idleTimeout: 100000h}"), "is no duration");
	refused(ROUTE("HTTPRoute", "{idle: 1h}"), "unknown field \"idle\"");
	refused(ROUTE("HTTPRoute", "{}") SECRET("short"), "a key of at least 32 characters");
	refused(SERVICE("istio.io/persistent-session: 'a b'"), "is no name of a header");
	refused(SERVICE("istio.io/persistent-session: 'a:b'"), "is no path of a cookie");
	refused(SERVICE("istio.io/persistent-session: 'a:/b;c'"), "is no path of a cookie");
}

Test(persist, a_services_labels)
{
	struct loaded l =
	    load_good(SERVICE("istio.io/persistent-session: 'sid:/a', "
			      "istio.io/persistent-session-header: x-sid") SECRET(KEY));
	const struct flat_persistence *p = flat_mesh_service(l.mesh, 0)->persistence;

	cr_assert_not_null(p);
	cr_expect_str_eq(p->name, "sid");
	cr_expect_str_eq(p->path, "/a");
	cr_expect_not(p->header);
	loaded_fini(&l);
	l = load_good(SERVICE("istio.io/persistent-session-header: x-sid") SECRET(KEY));
	p = flat_mesh_service(l.mesh, 0)->persistence;
	cr_assert_not_null(p);
	cr_expect_str_eq(p->name, "x-sid");
	cr_expect(p->header);
	loaded_fini(&l);
	l = load_good(SERVICE("app: web"));
	cr_expect_null(flat_mesh_service(l.mesh, 0)->persistence);
	cr_expect_not(flat_mesh_persists(l.mesh));
	loaded_fini(&l);
}

Test(persist, sessions_of_two_rules_differ)
{
	struct loaded l = load_good(
	    SERVICE("") "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
			"metadata: {name: r, namespace: foo}\n"
			"spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: ["
			"{matches: [{path: {value: /a}}], sessionPersistence: {sessionName: s}, "
			"backendRefs: [{name: web}]}, "
			"{matches: [{path: {value: /b}}], sessionPersistence: {sessionName: s}, "
			"backendRefs: [{name: web}]}, "
			"{name: c, matches: [{path: {value: /c}}], sessionPersistence: "
			"{sessionName: s}, backendRefs: [{name: web}]}]}\n");
	const struct flat_virtual_service *vs = flat_mesh_virtual(l.mesh, 0);

	cr_assert_eq(vs->n_routes, 3);
	cr_expect_neq(vs->routes[0].persistence->id, vs->routes[1].persistence->id);
	cr_expect_neq(vs->routes[1].persistence->id, vs->routes[2].persistence->id);
	loaded_fini(&l);
}

Test(persist, an_endpoint_that_ends_is_there_for_sessions)
{
	static const char slice[] =
	    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
	    "metadata: {name: web, namespace: foo, labels: {kubernetes.io/service-name: web}}\n"
	    "addressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n"
	    "- {addresses: [10.0.0.1]}\n"
	    "- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: "
	    "true}}\n"
	    "- {addresses: [10.0.0.3], conditions: {ready: false, serving: false, terminating: "
	    "true}}\n";
	char yaml[2048];
	struct loaded l;
	const struct flat_service_port *port;

	snprintf(yaml, sizeof(yaml), "%s%s%s", SERVICE("istio.io/persistent-session: sid"),
		 SECRET(KEY), slice);
	l = load_good(yaml);
	port = flat_mesh_service(l.mesh, 0)->ports;
	cr_assert_eq(port->n_endpoints, 2);
	cr_expect_not(port->endpoints[0].draining);
	cr_expect(port->endpoints[1].draining);
	loaded_fini(&l);
	snprintf(yaml, sizeof(yaml), "%s%s", SERVICE("app: web"), slice);
	l = load_good(yaml);
	cr_expect_eq(flat_mesh_service(l.mesh, 0)->ports->n_endpoints, 1);
	loaded_fini(&l);
}
