/* What changes of EndpointSlices and ServiceEntries make of a mesh in force is what a load of everything makes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/config.h"
#include "mesh/build.h"
#include "offload/publish.h"
#include "support_folder.h"

#define SERVICES 4

static const char *paths[] = {folder};
static struct flat_config_cache *cache;
static struct flat_mesh *mesh;

static int load(bool anew, struct flat_diags *diags)
{
	const struct flat_config_sources from = {
	    .paths = paths, .n_paths = 1, .previous = mesh, .cache = cache, .anew = anew};
	struct flat_mesh *made = NULL;
	int ret = flat_config_reload(&from, &made, diags);
	if (ret == 0) {
		flat_mesh_put(mesh);
		mesh = made;
	}
	return ret;
}

static void load_all(void)
{
	struct flat_diags diags = {0};
	int ret = load(true, &diags);
	cr_assert_eq(ret, 0, "%d: %s", ret, diags.n ? diags.v[0].what : "");
	flat_diags_fini(&diags);
}

static void setup(void)
{
	folder_make();
	cr_assert_eq(flat_config_cache_open(0, &cache), 0);
}

static void teardown(void)
{
	flat_mesh_put(mesh);
	mesh = NULL;
	flat_config_cache_close(cache);
	folder_remove();
}

TestSuite(config_patch, .init = setup, .fini = teardown, .timeout = 120);

/* A Service with two ports, and its slice with endpoints 10.0.0.N for each set bit N. */
static void text_of(char *text, size_t size, unsigned i, unsigned bits)
{
	size_t n = (size_t)snprintf(text, size,
				    "apiVersion: v1\nkind: Service\nmetadata: {name: s%u}\n"
				    "spec: {clusterIP: 240.1.0.%u, ports: [{port: 80, name: a}, "
				    "{port: 81, name: b}]}\n---\n"
				    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
				    "metadata: {name: s%u-x, labels: "
				    "{kubernetes.io/service-name: s%u}, resourceVersion: \"%u\"}\n"
				    "addressType: IPv4\n"
				    "ports: [{name: a, port: 8080}, {name: b, port: 8081}]\n"
				    "endpoints:\n- {addresses: [10.9.0.%u]}\n",
				    i, i + 1, i, i, bits, i + 1);
	for (unsigned k = 0; k < 16; k++)
		if (bits >> k & 1)
			n += (size_t)snprintf(text + n, size - n, "- {addresses: [10.0.0.%u]}\n",
					      k + 1);
}

static void put_service(unsigned i, unsigned bits)
{
	char text[4096], name[32];
	text_of(text, sizeof(text), i, bits);
	snprintf(name, sizeof(name), "s%u.yaml", i);
	folder_put(name, text);
}

/* What a file, or a folder, makes of the mesh in force; the number of services, or the error. */
static int patch_path(const char *path)
{
	const char *names[] = {path};
	struct flat_config_patches patches;
	struct flat_diags diags = {0};
	int ret = flat_config_patch(cache, mesh, names, 1, &patches, &diags);
	for (size_t i = 0; i < patches.n; i++) {
		cr_assert_eq(flat_mesh_patch(mesh, patches.v[i]), 0);
		flat_mesh_patch_told(patches.v[i]);
	}
	free(patches.v);
	flat_diags_fini(&diags);
	return ret ? ret : (int)patches.n;
}

static int patch(const char *name)
{
	return patch_path(path_of(name));
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_where(const struct flat_where *a, const struct flat_where *b)
{
	return same_text(a->file, b->file) && a->line == b->line && a->col == b->col;
}

static bool same_endpoint(const struct flat_endpoint *a, const struct flat_endpoint *b)
{
	if (a->labels->n != b->labels->n)
		return false;
	for (uint32_t i = 0; i < a->labels->n; i++)
		if (!same_text(a->labels->v[i].key, b->labels->v[i].key) ||
		    !same_text(a->labels->v[i].value, b->labels->v[i].value))
			return false;
	return flat_ip_equal(&a->ip, &b->ip) && a->port == b->port && a->weight == b->weight &&
	       same_text(a->service_account, b->service_account) &&
	       same_text(a->locality, b->locality) && a->draining == b->draining &&
	       same_where(&a->where, &b->where);
}

static void expect_same_service(const struct flat_service *x, const struct flat_service *y)
{
	cr_assert_str_eq(x->host, y->host);
	cr_assert_eq(x->n_ports, y->n_ports);
	cr_expect(same_where(&x->where, &y->where), "%s: %u:%u, %u:%u", x->host, x->where.line,
		  x->where.col, y->where.line, y->where.col);
	cr_expect(same_where(&x->export.where, &y->export.where), "%s", x->host);
	for (uint32_t p = 0; p < x->n_ports; p++) {
		const struct flat_service_port *u = &x->ports[p], *v = &y->ports[p];
		cr_expect(same_where(&u->where, &v->where), "%s", x->host);
		cr_expect_eq(u->number, v->number);
		cr_expect_eq(u->target_port, v->target_port);
		cr_assert_eq(u->n_endpoints, v->n_endpoints, "%s", x->host);
		for (uint32_t e = 0; e < u->n_endpoints; e++)
			cr_expect(same_endpoint(&u->endpoints[e], &v->endpoints[e]), "%s %u",
				  x->host, e);
	}
}

/* Who is found by an endpoint. */
static void expect_same_look_up(const struct flat_mesh *a, const struct flat_mesh *b, uint32_t k,
				uint16_t port)
{
	struct flat_ip ip = flat_ip_from_v4(0x0a000000U + k);
	const struct flat_service_port *p, *q;
	const struct flat_service *x = flat_mesh_service_by_endpoint(a, &ip, port, &p);
	const struct flat_service *y = flat_mesh_service_by_endpoint(b, &ip, port, &q);
	cr_assert_eq(!x, !y, "10.0.0.%u:%u", k, port);
	if (!x)
		return;
	cr_expect_str_eq(x->host, y->host, "10.0.0.%u:%u", k, port);
	cr_expect_eq(p->number, q->number);
}

/* What applications are told is the same too. */
static void expect_same(const struct flat_mesh *a, const struct flat_mesh *b)
{
	struct flat_listing x, y;
	cr_assert_eq(flat_mesh_n_services(a), flat_mesh_n_services(b));
	for (uint32_t i = 0; i < flat_mesh_n_services(a); i++)
		expect_same_service(flat_mesh_service(a, i), flat_mesh_service(b, i));
	for (uint32_t k = 0; k < 20; k++)
		for (uint16_t port = 8080; port < 8084; port++)
			expect_same_look_up(a, b, k, port);
	cr_assert_eq(flat_listing_make(&x, a), 0);
	cr_assert_eq(flat_listing_make(&y, b), 0);
	cr_expect(flat_listing_same(&x, &y));
	flat_listing_fini(&x);
	flat_listing_fini(&y);
}

static struct flat_mesh *fresh(void)
{
	struct flat_mesh *out = NULL;
	struct flat_diags diags = {0};
	cr_assert_eq(flat_config_load(paths, 1, &out, &diags), 0);
	flat_diags_fini(&diags);
	return out;
}

Test(config_patch, many_changes_come_to_what_a_load_makes)
{
	unsigned seed = 7;
	for (unsigned i = 0; i < SERVICES; i++)
		put_service(i, i);
	load_all();
	for (unsigned round = 0; round < 300; round++) {
		char name[32];
		unsigned i;
		seed = seed * 1103515245U + 12345U;
		i = seed >> 16 & (SERVICES - 1);
		put_service(i, round << 20 | (seed >> 12 & 0xffff));
		snprintf(name, sizeof(name), "s%u.yaml", i);
		cr_assert_eq(patch(name), 1);
		cr_expect_eq(flat_config_cache_read(cache), 1);
		struct flat_mesh *other = fresh();
		expect_same(mesh, other);
		flat_mesh_put(other);
		/* Loads between patches find what these left. */
		if (round % 50 == 49)
			load_all();
	}
}

Test(config_patch, what_came_and_went_is_known_until_it_is_told)
{
	struct flat_config_patches patches;
	struct flat_diags diags = {0};
	put_service(0, 1U << 1 | 1U << 2);
	load_all();
	put_service(0, 1U << 2 | 1U << 3);
	const char *names[] = {path_of("s0.yaml")};
	cr_assert_eq(flat_config_patch(cache, mesh, names, 1, &patches, &diags), 0);
	cr_assert_eq(patches.n, 1);
	cr_assert_eq(flat_mesh_patch(mesh, patches.v[0]), 0);
	for (unsigned k = 1; k <= 5; k++) {
		struct flat_ip ip = flat_ip_from_v4(0x0a000000U + k);
		cr_expect_eq(flat_mesh_patch_touches(patches.v[0], &ip, 8080), k == 2 || k == 4,
			     "10.0.0.%u", k);
	}
	flat_mesh_patch_told(patches.v[0]);
	free(patches.v);
	flat_diags_fini(&diags);
}

Test(config_patch, a_file_that_was_written_as_it_was_changes_nothing)
{
	struct flat_diags diags = {0};
	put_service(0, 6);
	put_service(1, 6);
	load_all();
	put_service(0, 6);
	cr_expect_eq(patch("s0.yaml"), 0);
	put_service(0, 6);
	cr_expect_eq(load(false, &diags), FLAT_CONFIG_SAME);
	cr_expect_eq(load(false, &diags), FLAT_CONFIG_SAME);
	cr_expect_eq(flat_config_cache_read(cache), 0);
	put_service(1, 12);
	cr_expect_eq(load(false, &diags), 0);
	cr_expect_eq(flat_mesh_service(mesh, 1)->ports[0].n_endpoints, 3);
	flat_diags_fini(&diags);
}

Test(config_patch, a_load_after_a_patch_finds_nothing_new)
{
	struct flat_diags diags = {0};
	put_service(0, 6);
	put_service(1, 6);
	load_all();
	put_service(1, 48);
	cr_expect_eq(patch("s1.yaml"), 1);
	cr_expect_eq(load(false, &diags), FLAT_CONFIG_SAME);
	put_service(1, 6);
	cr_expect_eq(patch("s1.yaml"), 1);
	flat_diags_fini(&diags);
}

Test(config_patch, a_file_that_came_or_went_is_a_change)
{
	struct flat_diags diags = {0};
	put_service(0, 6);
	put_service(1, 6);
	load_all();
	unlink(path_of("s1.yaml"));
	cr_expect_eq(load(false, &diags), 0);
	cr_expect_eq(load(false, &diags), FLAT_CONFIG_SAME);
	put_service(2, 6);
	cr_expect_eq(patch("s2.yaml"), -EAGAIN);
	cr_expect_eq(load(false, &diags), 0);
	unlink(path_of("s0.yaml"));
	unlink(path_of("s2.yaml"));
	cr_expect_eq(load(false, &diags), 0);
	cr_expect_eq(flat_mesh_n_services(mesh), 0);
	flat_diags_fini(&diags);
}

/* After each of these a load of everything is due, and makes a mesh or says what is wrong. */
Test(config_patch, whatever_else_changes_takes_a_load)
{
	struct flat_diags diags = {0};
	char text[4096];
	put_service(0, 6);
	put_service(1, 6);
	load_all();
	/* Another port of the Service. */
	text_of(text, sizeof(text), 0, 6);
	memcpy(strstr(text, "port: 81"), "port: 82", 8);
	folder_put("s0.yaml", text);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN, "until it is loaded");
	cr_expect_eq(load(false, &diags), 0);
	cr_expect_eq(flat_mesh_service(mesh, 0)->ports[1].number, 82);
	/* Of another Service. */
	text_of(text, sizeof(text), 0, 6);
	memcpy(strstr(text, "service-name: s0"), "service-name: s1", 16);
	folder_put("s0.yaml", text);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
	cr_expect_eq(load(false, &diags), 0);
	/* No YAML; no address. */
	folder_put("s0.yaml", "kind: [\n");
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
	cr_expect_eq(load(false, &diags), -EINVAL);
	put_service(0, 6);
	load_all();
	text_of(text, sizeof(text), 0, 2);
	memcpy(strstr(text, "10.0.0.2"), "10.0.0.x", 8);
	folder_put("s0.yaml", text);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
	cr_expect_eq(load(false, &diags), -EINVAL);
	cr_expect_eq(flat_mesh_service(mesh, 0)->ports[0].n_endpoints, 3, "as before");
	flat_diags_fini(&diags);
}

Test(config_patch, a_service_that_loses_all_endpoints_takes_a_load)
{
	char text[4096];
	put_service(0, 6);
	load_all();
	text_of(text, sizeof(text), 0, 0);
	memcpy(strstr(text, "endpoints:"), "endpoints: []\n", sizeof("endpoints: []\n"));
	folder_put("s0.yaml", text);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
	load_all();
	cr_expect_eq(flat_mesh_service(mesh, 0)->ports[0].n_endpoints, 0);
	put_service(0, 6);
	cr_expect_eq(patch("s0.yaml"), 1, "the first ones come at once");
}

Test(config_patch, a_headless_service_takes_a_load)
{
	char text[4096];
	text_of(text, sizeof(text), 0, 6);
	memcpy(strstr(text, "240.1.0.1"), "None     ", 9);
	folder_put("s0.yaml", text);
	load_all();
	text_of(text, sizeof(text), 0, 14);
	memcpy(strstr(text, "240.1.0.1"), "None     ", 9);
	folder_put("s0.yaml", text);
	cr_expect_eq(patch("s0.yaml"), -EAGAIN);
}

Test(config_patch, slices_of_one_service_in_many_files_are_joined)
{
	static const char more[] = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
				   "metadata: {name: s0-%u, labels: {kubernetes.io/service-name: "
				   "s0}}\naddressType: IPv4\nports: [{name: b, port: 8081}]\n"
				   "endpoints: [{addresses: [10.0.0.%u]}]\n";
	char text[1024];
	put_service(0, 6);
	for (unsigned i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof(name), "z%u.yaml", i);
		snprintf(text, sizeof(text), more, i, i + 10);
		folder_put(name, text);
	}
	load_all();
	snprintf(text, sizeof(text), more, 1U, 15U);
	folder_put("z1.yaml", text);
	cr_expect_eq(patch("z1.yaml"), 1);
	put_service(0, 12);
	cr_expect_eq(patch("s0.yaml"), 1);
	struct flat_mesh *other = fresh();
	cr_expect_eq(flat_mesh_service(mesh, 0)->ports[1].n_endpoints, 6);
	expect_same(mesh, other);
	flat_mesh_put(other);
}

/* --- ServiceEntries --- */

static unsigned seed = 11;

static unsigned chance(unsigned n)
{
	seed = seed * 1103515245U + 12345U;
	return (seed >> 16) % n;
}

/* An endpoint as it may be written; its number says nothing of the one before. */
static size_t endpoint_text(char *text, size_t size)
{
	static const char *const more[] = {
	    "",
	    ", weight: 3",
	    ", labels: {version: v1}",
	    ", labels: {version: v2, topology.kubernetes.io/zone: z}",
	    ", locality: eu/a",
	    ", serviceAccount: reader",
	    ", ports: {b: 8083}",
	    ", ports: {a: 8082}, weight: 1, locality: eu/b/c",
	};
	return (size_t)snprintf(text, size, "  - {address: 10.0.0.%u%s}\n", 1 + chance(16),
				more[chance(8)]);
}

/* The spec in the order of the API server's answers, endpoints before hosts and ports, or with the endpoints last. */
static size_t spec_text(char *text, size_t size, unsigned i, unsigned hosts, bool last)
{
	char list[1024] = "";
	size_t n = 0, at = 0;
	for (unsigned k = 0; k <= chance(6); k++)
		at += endpoint_text(list + at, sizeof(list) - at);
	n += (size_t)snprintf(text, size, "spec:\n");
	if (!last)
		n += (size_t)snprintf(text + n, size - n, "  endpoints:\n%s", list);
	n += (size_t)snprintf(text + n, size - n, "  exportTo: [\"*\"]\n  hosts:\n");
	for (unsigned h = 0; h < hosts; h++)
		n += (size_t)snprintf(text + n, size - n, "  - \"%s%u-%u.example\"\n",
				      h == 1 ? "*.X" : "x", i, h);
	n += (size_t)snprintf(text + n, size - n,
			      "  ports:\n  - {number: 80, name: a, targetPort: 8080}\n"
			      "  - {number: 81, name: b, protocol: HTTP, targetPort: 8081}\n"
			      "  resolution: STATIC\n");
	if (last)
		n += (size_t)snprintf(text + n, size - n, "  endpoints:\n%s", list);
	return n;
}

/* A file of a Service with its slice, where i is odd, and a ServiceEntry of i % 3 + 1 hosts after them. */
static void entry_text(char *text, size_t size, unsigned i, unsigned round)
{
	size_t n = 0;
	if (i & 1) {
		text_of(text, size, i, 6U << chance(8));
		n = strlen(text);
		n += (size_t)snprintf(text + n, size - n, "---\n");
	}
	n += (size_t)snprintf(text + n, size - n,
			      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
			      "metadata: {name: e%u, namespace: shop, resourceVersion: \"%u\"}\n",
			      i, round);
	(void)spec_text(text + n, size - n, i, i % 3 + 1, i % 4 < 2);
}

static void put_entry(unsigned i, unsigned round)
{
	char text[8192], name[32];
	entry_text(text, sizeof(text), i, round);
	snprintf(name, sizeof(name), "e%u.yaml", i);
	folder_put(name, text);
}

Test(config_patch, many_changes_of_service_entries_come_to_what_a_load_makes)
{
	char name[32];
	/* The others' slices change by two endpoints at a time. */
	for (unsigned i = 0; i < 6; i++)
		put_entry(i, 0);
	load_all();
	for (unsigned round = 1; round < 400; round++) {
		unsigned i = chance(6);
		put_entry(i, round);
		snprintf(name, sizeof(name), "e%u.yaml", i);
		int n = patch(name);
		cr_assert(n == (int)(i % 3 + 1) || n == (int)(i % 3 + 1 + (i & 1)), "%u: %d", i, n);
		cr_expect_eq(flat_config_cache_read(cache), 1);
		struct flat_mesh *other = fresh();
		expect_same(mesh, other);
		flat_mesh_put(other);
		if (round % 50 == 49)
			load_all();
	}
}

static const char entry[] = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
			    "metadata: {name: db, labels: {team: a}}\n"
			    "spec:\n  hosts: [db.example]\n  resolution: STATIC\n"
			    "  ports: [{number: 80, name: tcp}]\n  endpoints:\n"
			    "  - {address: 10.0.0.1, weight: 2}\n  - {address: 10.0.0.2}\n";

/* The entry with one text in place of another. */
static void put_with(const char *what, const char *by)
{
	char text[1024];
	const char *at = strstr(entry, what);
	cr_assert_not_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - entry), entry, by, at + strlen(what));
	folder_put("db.yaml", text);
}

Test(config_patch, whatever_else_of_a_service_entry_changes_takes_a_load)
{
	static const struct {
		const char *what, *by;
	} v[] = {
	    {"db.example", "db2.example"},
	    {"number: 80", "number: 81"},
	    {"name: tcp", "name: http"},
	    {"STATIC", "DNS"},
	    {"STATIC\n", "STATIC\n  location: MESH_INTERNAL\n"},
	    {"STATIC\n", "STATIC\n  addresses: [240.9.9.9]\n"},
	    {"team: a", "team: b"},
	    {"name: db,", "name: db3,"},
	    {"labels: {team: a}", "annotations: {mesh.libflat.io/path: forwarded}"},
	    {"metadata: {", "metadata: {namespace: shop, "},
	    /* None left; no address; nothing that there is. */
	    {"  - {address: 10.0.0.1, weight: 2}\n  - {address: 10.0.0.2}\n", ""},
	    {"10.0.0.2", "10.0.0.x/y"},
	    {"10.0.0.2}", "10.0.0.2, wight: 2}"},
	    {"kind:", "# a line more\nkind:"},
	    {"apiVersion: networking.istio.io/v1\n", "\napiVersion: networking.istio.io/v1\n"},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		folder_put("db.yaml", entry);
		load_all();
		put_with(v[i].what, v[i].by);
		/* A comment within the document moves what follows, and is no change of anything. */
		if (strncmp(v[i].by, "# a line", 8) == 0)
			cr_expect_eq(patch("db.yaml"), 1);
		else
			cr_expect_eq(patch("db.yaml"), -EAGAIN, "%s", v[i].by);
	}
}

Test(config_patch, endpoints_of_names_take_a_load)
{
	char text[1024];
	put_with("STATIC", "DNS");
	load_all();
	snprintf(text, sizeof(text), "%s  - {address: 10.0.0.9}\n", entry);
	memcpy(strstr(text, "STATIC"), "DNS   ", 6);
	folder_put("db.yaml", text);
	cr_expect_eq(patch("db.yaml"), -EAGAIN);
}

Test(config_patch, endpoints_with_other_labels_or_identities_are_others)
{
	struct flat_config_patches patches;
	struct flat_diags diags = {0};
	const char *names[] = {path_of("db.yaml")};
	static const struct {
		const char *by;
		bool touched;
	} v[] = {
	    {"10.0.0.1, weight: 7", false},
	    {"10.0.0.1, locality: eu/a", false},
	    {"10.0.0.1, labels: {a: b}", true},
	    {"10.0.0.1, serviceAccount: x", true},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		folder_put("db.yaml", entry);
		load_all();
		put_with("10.0.0.1, weight: 2", v[i].by);
		cr_assert_eq(flat_config_patch(cache, mesh, names, 1, &patches, &diags), 0);
		cr_assert_eq(patches.n, 1);
		cr_assert_eq(flat_mesh_patch(mesh, patches.v[0]), 0);
		for (unsigned k = 1; k <= 2; k++) {
			struct flat_ip ip = flat_ip_from_v4(0x0a000000U + k);
			cr_expect_eq(flat_mesh_patch_touches(patches.v[0], &ip, 80),
				     k == 1 && v[i].touched, "%s: 10.0.0.%u", v[i].by, k);
		}
		flat_mesh_patch_told(patches.v[0]);
		free(patches.v);
	}
	flat_diags_fini(&diags);
}

/* --- volumes that Kubernetes swaps --- */

/* All files anew in a folder of their own, and the link to it: some have what they had. */
static void swap_volume(unsigned round, char text[][8192], unsigned n)
{
	char name[64], to[32];
	snprintf(to, sizeof(to), "..%u", round);
	cr_assert_eq(mkdir(path_of(to), 0700), 0);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/e%u.yaml", to, i);
		folder_put(name, text[i]);
	}
	cr_assert_eq(symlink(to, path_of("..data_tmp")), 0);
	char from[512];
	snprintf(from, sizeof(from), "%s", path_of("..data_tmp"));
	cr_assert_eq(rename(from, path_of("..data")), 0);
}

Test(config_patch, of_a_swapped_volume_only_what_changed_is_parsed)
{
	static char text[6][8192];
	char name[32], to[64];
	for (unsigned i = 0; i < 6; i++) {
		entry_text(text[i], sizeof(text[i]), i, 0);
		snprintf(name, sizeof(name), "e%u.yaml", i);
		snprintf(to, sizeof(to), "..data/%s", name);
		cr_assert_eq(symlink(to, path_of(name)), 0);
	}
	swap_volume(0, text, 6);
	load_all();
	for (unsigned round = 1; round < 60; round++) {
		unsigned changed = chance(3);
		for (unsigned k = 0; k < changed; k++) {
			/* Two of six, by their numbers others. */
			unsigned i = k * 3 + chance(3);
			entry_text(text[i], sizeof(text[i]), i, round);
		}
		swap_volume(round, text, 6);
		cr_expect_geq(patch_path(folder), (int)changed);
		cr_expect_eq(flat_config_cache_read(cache), 6);
		cr_expect_eq(flat_config_cache_parsed(cache), changed);
		struct flat_mesh *other = fresh();
		expect_same(mesh, other);
		flat_mesh_put(other);
	}
	/* One that goes, and one that comes. */
	cr_assert_eq(unlink(path_of("e5.yaml")), 0);
	cr_expect_eq(patch_path(folder), -EAGAIN);
	load_all();
	swap_volume(100, text, 6);
	cr_expect_eq(patch_path(folder), 0);
	cr_assert_eq(symlink("..data/e5.yaml", path_of("e5.yaml")), 0);
	cr_expect_eq(patch_path(folder), -EAGAIN);
	load_all();
	cr_expect_eq(patch_path(folder), 0);
	swap_volume(101, text, 4);
	cr_expect_eq(patch_path(folder), -EAGAIN, "a link that leads nowhere");
}
