/* Loads that take over the documents of files that did not change. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config.h"
#include "mesh/mesh.h"
#include "support_folder.h"

static const char *paths[] = {folder};

static void put_service(const char *name, const char *endpoint)
{
	char text[512];
	snprintf(
	    text, sizeof(text),
	    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\n"
	    "spec: {hosts: [%s.example], ports: [{number: 80, name: tcp}], resolution: STATIC, "
	    "endpoints: [{address: %s}]}\n---\n",
	    name, name, endpoint);
	char file[64];
	snprintf(file, sizeof(file), "%s.yaml", name);
	folder_put(file, text);
}

static struct flat_config_cache *cache_of(int64_t settle_s)
{
	struct flat_config_cache *cache = NULL;
	cr_assert_eq(flat_config_cache_open(settle_s, &cache), 0);
	return cache;
}

/* Loads, and wants so many files read. NULL: refused. */
static struct flat_mesh *load(struct flat_config_cache *cache, uint32_t read)
{
	const struct flat_config_sources from = {.paths = paths, .n_paths = 1, .cache = cache};
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	int ret = flat_config_reload(&from, &mesh, &diags);
	cr_assert(ret == 0 || ret == -EINVAL, "%d", ret);
	cr_expect_eq(flat_config_cache_read(cache), read, "%u files read, not %u",
		     flat_config_cache_read(cache), read);
	if (diags.n > 0)
		cr_expect(diags.v[0].where.file && diags.v[0].where.file[0] == '/');
	flat_diags_fini(&diags);
	return mesh;
}

/* The last number of the only endpoint of a service; 0: there is no such service. */
static unsigned endpoint_of(const struct flat_mesh *mesh, const char *host)
{
	const struct flat_service *s = flat_mesh_service_by_host(mesh, host, NULL);
	return s && s->ports[0].n_endpoints == 1 ? s->ports[0].endpoints[0].ip.bytes[3] : 0;
}

Test(config_cache, only_what_changed_is_read)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	put_service("b", "10.0.0.2");
	put_service("c", "10.0.0.3");
	struct flat_mesh *first = load(cache, 3);
	put_service("b", "10.0.0.9");
	struct flat_mesh *second = load(cache, 1);
	struct flat_mesh *third = load(cache, 0);
	cr_assert(first && second && third);
	cr_expect_eq(endpoint_of(first, "b.example"), 2);
	cr_expect_eq(endpoint_of(second, "b.example"), 9);
	cr_expect_eq(endpoint_of(third, "a.example"), 1);
	cr_expect_eq(endpoint_of(third, "b.example"), 9);
	cr_expect_eq(endpoint_of(third, "c.example"), 3);
	flat_mesh_put(first);
	flat_mesh_put(second);
	flat_mesh_put(third);
	flat_config_cache_close(cache);
	folder_remove();
}

Test(config_cache, what_is_gone_is_gone_and_what_comes_is_read)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	put_service("b", "10.0.0.2");
	flat_mesh_put(load(cache, 2));
	unlink(path_of("a.yaml"));
	struct flat_mesh *mesh = load(cache, 0);
	cr_expect_eq(endpoint_of(mesh, "a.example"), 0);
	cr_expect_eq(endpoint_of(mesh, "b.example"), 2);
	flat_mesh_put(mesh);
	put_service("c", "10.0.0.3");
	mesh = load(cache, 1);
	cr_expect_eq(endpoint_of(mesh, "c.example"), 3);
	flat_mesh_put(mesh);
	/* The same inode under another name. */
	char was[512];
	snprintf(was, sizeof(was), "%s", path_of("c.yaml"));
	cr_assert_eq(rename(was, path_of("d.yaml")), 0);
	mesh = load(cache, 1);
	const struct flat_service *s = flat_mesh_service_by_host(mesh, "c.example", NULL);
	cr_expect_str_eq(s->where.file, path_of("d.yaml"));
	flat_mesh_put(mesh);
	flat_config_cache_close(cache);
	folder_remove();
}

Test(config_cache, a_refused_configuration_keeps_what_was_good)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	put_service("b", "10.0.0.2");
	flat_mesh_put(load(cache, 2));
	folder_put("b.yaml", "kind: [\n");
	cr_expect_null(load(cache, 1), "no YAML");
	cr_expect_null(load(cache, 1), "it is said again");
	folder_put("b.yaml", "kind: Nothing\n");
	cr_expect_null(load(cache, 1), "no kind");
	cr_expect_null(load(cache, 0), "it is said again");
	put_service("b", "10.0.0.4");
	struct flat_mesh *mesh = load(cache, 1);
	cr_assert(mesh);
	cr_expect_eq(endpoint_of(mesh, "b.example"), 4);
	flat_mesh_put(mesh);
	flat_config_cache_close(cache);
	folder_remove();
}

Test(config_cache, a_mesh_names_its_files_when_the_cache_is_closed)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	flat_mesh_put(load(cache, 1));
	struct flat_mesh *mesh = load(cache, 0);
	flat_config_cache_close(cache);
	const struct flat_service *s = flat_mesh_service_by_host(mesh, "a.example", NULL);
	cr_assert(s);
	cr_expect_str_eq(s->where.file, path_of("a.yaml"));
	cr_expect_geq(s->where.line, 1);
	flat_mesh_put(mesh);
	folder_remove();
}

/* Of two changes within one tick of the clock the times tell but one. */
Test(config_cache, what_changed_lately_is_read_again)
{
	struct flat_config_cache *cache = cache_of(3600);
	folder_make();
	put_service("a", "10.0.0.1");
	flat_mesh_put(load(cache, 1));
	flat_mesh_put(load(cache, 1));
	flat_config_cache_close(cache);
	folder_remove();
}

Test(config_cache, what_is_forgotten_is_read_again)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	flat_mesh_put(load(cache, 1));
	flat_config_cache_forget(cache);
	flat_mesh_put(load(cache, 1));
	flat_mesh_put(load(cache, 0));
	flat_config_cache_close(cache);
	folder_remove();
}

/* Many loads of one change each: what the files were is given back. Under ASan a leak is an error too. */
Test(config_cache, changes_without_end_are_right)
{
	struct flat_config_cache *cache = cache_of(0);
	struct flat_mesh *mesh = NULL;
	char address[32];
	folder_make();
	put_service("a", "10.0.0.1");
	for (unsigned i = 0; i < 200; i++) {
		snprintf(address, sizeof(address), "10.0.0.%u", 1 + i);
		put_service("b", address);
		flat_mesh_put(mesh);
		mesh = load(cache, i == 0 ? 2 : 1);
		cr_assert_eq(endpoint_of(mesh, "a.example"), 1);
		cr_assert_eq(endpoint_of(mesh, "b.example"), 1 + i);
	}
	flat_mesh_put(mesh);
	flat_config_cache_close(cache);
	folder_remove();
}

Test(config_cache, what_is_written_again_as_it_was_is_not_parsed)
{
	struct flat_config_cache *cache = cache_of(0);
	folder_make();
	put_service("a", "10.0.0.1");
	put_service("b", "10.0.0.2");
	flat_mesh_put(load(cache, 2));
	put_service("a", "10.0.0.1");
	put_service("b", "10.0.0.3");
	struct flat_mesh *mesh = load(cache, 2);
	cr_expect_eq(flat_config_cache_parsed(cache), 1);
	cr_expect_eq(endpoint_of(mesh, "a.example"), 1);
	cr_expect_eq(endpoint_of(mesh, "b.example"), 3);
	flat_mesh_put(mesh);
	flat_config_cache_forget(cache);
	flat_mesh_put(load(cache, 2));
	cr_expect_eq(flat_config_cache_parsed(cache), 2);
	flat_config_cache_close(cache);
	folder_remove();
}
