/* What changes of EndpointSlices make of a mesh in force is what a load of everything makes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config.h"
#include "mesh/build.h"
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

/* What a file makes of the mesh in force; the number of services, or the error. */
static int patch(const char *name)
{
	const char *names[] = {path_of(name)};
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

static void expect_same(const struct flat_mesh *a, const struct flat_mesh *b)
{
	cr_assert_eq(flat_mesh_n_services(a), flat_mesh_n_services(b));
	for (uint32_t i = 0; i < flat_mesh_n_services(a); i++) {
		const struct flat_service *x = flat_mesh_service(a, i),
					  *y = flat_mesh_service(b, i);
		for (uint32_t p = 0; p < x->n_ports; p++) {
			cr_assert_eq(x->ports[p].n_endpoints, y->ports[p].n_endpoints);
			for (uint32_t e = 0; e < x->ports[p].n_endpoints; e++) {
				const struct flat_endpoint *u = &x->ports[p].endpoints[e],
							   *v = &y->ports[p].endpoints[e];
				cr_expect(flat_ip_equal(&u->ip, &v->ip));
				cr_expect_eq(u->port, v->port);
				cr_expect_eq(u->where.line, v->where.line);
				cr_expect_str_eq(u->where.file, v->where.file);
			}
		}
	}
	for (uint32_t k = 0; k < 20; k++) {
		struct flat_ip ip = flat_ip_from_v4(0x0a000000U + k);
		const struct flat_service_port *p, *q;
		const struct flat_service *x = flat_mesh_service_by_endpoint(a, &ip, 8081, &p);
		const struct flat_service *y = flat_mesh_service_by_endpoint(b, &ip, 8081, &q);
		cr_assert_eq(!x, !y, "10.0.0.%u", k);
		if (!x)
			continue;
		cr_expect_str_eq(x->host, y->host, "10.0.0.%u", k);
		cr_expect_eq(p->number, q->number);
	}
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
