/* Who takes a coding, and the configuration of compressors. What becomes of responses: tests/e2e/compress.sh. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http.h"
#include "mesh/filter.h"
#include "support_mesh.h"

static bool takes(const char *accept)
{
	return flat_http_accepts_coding(flat_span_of(accept), "gzip", "x-gzip");
}

Test(compress, who_names_the_coding_takes_it)
{
	cr_expect(takes("gzip"));
	cr_expect(takes("x-gzip"));
	cr_expect(takes("GZip"));
	cr_expect(takes(" br ,\tgzip\t, deflate"));
	cr_expect(takes("gzip;q=1.000"));
	cr_expect(takes("gzip ; q=0.001"));
	cr_expect(takes("gzip;Q=0.5"));
	cr_expect(takes("*"));
	cr_expect(takes("br, *;q=0.1"));
	cr_expect(takes("gzip;q=0, x-gzip"));
	cr_expect_not(takes(NULL));
	cr_expect_not(takes(""));
	cr_expect_not(takes(","));
	cr_expect_not(takes("br, deflate"));
	cr_expect_not(takes("gzipped"));
	cr_expect_not(takes("gzip x"));
}

Test(compress, a_weight_of_none_refuses_it)
{
	cr_expect_not(takes("gzip;q=0"));
	cr_expect_not(takes("gzip;q=0.000"));
	cr_expect_not(takes("gzip;q=0, *"));
	cr_expect_not(takes("*;q=0"));
	cr_expect(takes("gzip, *;q=0"));
	cr_expect(takes("gzip, identity;q=0"));
}

Test(compress, who_would_rather_have_it_as_it_is_gets_that)
{
	cr_expect_not(takes("identity, gzip;q=0.5"));
	cr_expect_not(takes("gzip;q=0.5, identity;q=0.501"));
	cr_expect(takes("gzip;q=0.5, identity;q=0.5"));
	cr_expect(takes("identity;q=0.1, *;q=0.2"));
}

Test(compress, what_is_not_well_formed_is_passed_over)
{
	static const char *const bad[] = {"gzip;q=",	   "gzip;q=2",	    "gzip;q=1.001",
					  "gzip;q=0.1234", "gzip;q=.5",	    "gzip;q=-1",
					  "gzip;q=1x",	   "gzip;level=1",  "gzip;",
					  "gzip;q",	   "gzip;q=0,5;q=x"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++)
		cr_expect_not(takes(bad[i]), "%s", bad[i]);
	cr_expect(takes("gzip;q=x, *"));
}

/* --- configuration --- */

#define GZIP(fields)                                                                               \
	"compressor_library: {name: g, typed_config: {'@type': type.googleapis.com/"               \
	"envoy.extensions.compression.gzip.compressor.v3.Gzip" fields "}}"
#define FILTER(fields)                                                                             \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                            \
	"metadata: {name: f, namespace: istio-system}\nspec: {configPatches: [{applyTo: "          \
	"HTTP_FILTER, match: {context: GATEWAY}, patch: {operation: INSERT_BEFORE, value: "        \
	"{name: envoy.filters.http.compressor, typed_config: {'@type': type.googleapis.com/"       \
	"envoy.extensions.filters.http.compressor.v3.Compressor" fields "}}}}]}\n"

static const struct flat_compressor *only(const struct loaded *l)
{
	struct flat_filter_whose whose = {.at = FLAT_FILTER_GATEWAY};

	return flat_mesh_compressor(l->mesh, &whose);
}

Test(compress, what_is_not_said_is_envoys)
{
	struct loaded l = load_good(FILTER(", " GZIP("")));
	const struct flat_compressor *c = only(&l);

	cr_assert(c);
	cr_expect_eq(c->min_length, 30);
	cr_expect_eq(c->n_types, 0);
	cr_expect_eq(c->level, -1);
	cr_expect_eq(c->memory, 5);
	cr_expect_eq(c->window_bits, 12);
	cr_expect_not(c->not_with_etag || c->weakens_etag || c->removes_accept);
	loaded_fini(&l);
}

Test(compress, what_is_said_is_read)
{
	struct loaded l = load_good(FILTER(
	    ", response_direction_config: {common_config: {enabled: {default_value: true, "
	    "runtime_key: k}, min_content_length: 100, content_type: [text/html, a/b]}, "
	    "disable_on_etag_header: true, weaken_etag_on_compress: true, "
	    "remove_accept_encoding_header: true}, " GZIP(
		", memory_level: 9, window_bits: 15, compression_level: COMPRESSION_LEVEL_7, "
		"compression_strategy: FILTERED, chunk_size: 4096")));
	const struct flat_compressor *c = only(&l);

	cr_assert(c);
	cr_expect_eq(c->min_length, 100);
	cr_assert_eq(c->n_types, 2);
	cr_expect_str_eq(c->types[1], "a/b");
	cr_expect_eq(c->level, 7);
	cr_expect_eq(c->memory, 9);
	cr_expect_eq(c->window_bits, 15);
	cr_expect_eq(c->strategy, 1);
	cr_expect(c->not_with_etag && c->weakens_etag && c->removes_accept);
	loaded_fini(&l);
}

static void says(const char *text, bool refused, const char *why)
{
	struct loaded l = load_yaml(text);

	cr_expect_eq(l.mesh == NULL, refused, "%s", why);
	if (l.mesh)
		cr_expect_null(only(&l), "%s", why);
	cr_expect(strstr(loaded_text(&l), why), "%s: %s", why, loaded_text(&l));
	loaded_fini(&l);
}

Test(compress, what_cannot_be_is_refused_and_what_is_not_honoured_is_told)
{
	says(FILTER(""), true, "does not say how");
	says(FILTER(", " GZIP(", window_bits: 16")), true, "16");
	says(FILTER(", " GZIP(", memory_level: 0")), true, "0");
	says(FILTER(", " GZIP(", compression_level: FAST")), true, "FAST");
	says(FILTER(", compressor_library: {name: b, typed_config: {'@type': type.googleapis.com/"
		    "envoy.extensions.compression.brotli.compressor.v3.Brotli}}"),
	     false, "of the libraries gzip alone is");
}
