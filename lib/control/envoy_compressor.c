/* EnvoyFilter: compression of responses (envoy.filters.http.compressor) -> struct flat_compressor. */
#include <string.h>

#include "control/envoy_filter.h"

#define FILTER "envoy.filters.http.compressor"
#define TYPE "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor"
#define GZIP "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"

/* What is being read. */
struct reading {
	struct flat_compressor *c;
	bool gzip; /* the library is there */
};

static struct flat_compressor *compressor_of(void *obj)
{
	return ((struct reading *)obj)->c;
}

/* --- gzip --- */

static void parse_memory(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, 9, &n))
		compressor_of(obj)->memory = (uint8_t)n;
}

static void parse_window(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 9, 15, &n))
		compressor_of(obj)->window_bits = (uint8_t)n;
}

static void parse_level(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {
	    "DEFAULT_COMPRESSION", "COMPRESSION_LEVEL_1", "COMPRESSION_LEVEL_2",
	    "COMPRESSION_LEVEL_3", "COMPRESSION_LEVEL_4", "COMPRESSION_LEVEL_5",
	    "COMPRESSION_LEVEL_6", "COMPRESSION_LEVEL_7", "COMPRESSION_LEVEL_8",
	    "COMPRESSION_LEVEL_9", "BEST_SPEED",	  "BEST_COMPRESSION",
	};
	static const int8_t levels[] = {-1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 9};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		compressor_of(obj)->level = levels[i];
}

static void parse_strategy(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	/* In the order of zlib's numbers. */
	static const char *const names[] = {"DEFAULT_STRATEGY", "FILTERED", "HUFFMAN_ONLY", "RLE",
					    "FIXED"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		compressor_of(obj)->strategy = (uint8_t)i;
}

static void parse_gzip(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("@type"),
	    CFG_FIELD("memory_level", parse_memory),
	    CFG_FIELD("window_bits", parse_window),
	    CFG_FIELD("compression_level", parse_level),
	    CFG_FIELD("compression_strategy", parse_strategy),
	    CFG_SKIP("chunk_size"),
	};

	if (node->kind == YAML_MAP && !cfg_is_text(yaml_get(node, "@type"), GZIP)) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "use gzip, a typed_config of the type " GZIP,
			 "the compressor is not honoured: of the libraries gzip alone is");
		return;
	}
	((struct reading *)obj)->gzip = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_library(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("name"),
	    CFG_FIELD("typed_config", parse_gzip),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- which responses --- */

static void parse_enabled_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	compressor_of(obj)->disabled = !cfg_bool(cfg, node);
}

/* There is no runtime: its key is a name only. */
static void parse_enabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("default_value", parse_enabled_value),
	    CFG_SKIP("runtime_key"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_min_length(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	/* As Envoy: 0 says nothing. */
	if (cfg_uint(cfg, node, 0, UINT32_MAX, &n) && n > 0)
		compressor_of(obj)->min_length = (uint32_t)n;
}

struct types {
	const char **v;
	uint32_t n;
};

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct types *t = obj;
	const char *text = cfg_string(cfg, node);

	if (text)
		t->v[t->n++] = text;
}

static void parse_types(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_compressor *c = compressor_of(obj);
	struct types t = {.n = 0};

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	t.v = cfg_array(cfg, node->n, sizeof(*t.v));
	if (t.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_type, &t);
	c->types = t.v;
	c->n_types = t.n;
}

static void parse_common(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("enabled", parse_enabled),
	    CFG_FIELD("min_content_length", parse_min_length),
	    CFG_FIELD("content_type", parse_types),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_on_etag(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	compressor_of(obj)->not_with_etag = cfg_bool(cfg, node);
}

static void parse_weaken(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	compressor_of(obj)->weakens_etag = cfg_bool(cfg, node);
}

static void parse_removes(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	compressor_of(obj)->removes_accept = cfg_bool(cfg, node);
}

static void parse_response(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("common_config", parse_common),
	    CFG_FIELD("disable_on_etag_header", parse_on_etag),
	    CFG_FIELD("weaken_etag_on_compress", parse_weaken),
	    CFG_FIELD("remove_accept_encoding_header", parse_removes),
	    CFG_UNHONOURED("uncompressible_response_codes", "it is 204, 206 and 304"),
	    CFG_UNHONOURED("status_header_enabled", "clients are not told"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- the filter --- */

bool cfg_compressor_filter(struct cfg *cfg, const struct yaml_node *patch,
			   const struct flat_limit_for *by)
{
	static const char old[] = "use response_direction_config";
	static const struct cfg_field fields[] = {
	    CFG_SKIP("@type"),
	    CFG_FIELD("compressor_library", parse_library),
	    CFG_FIELD("response_direction_config", parse_response),
	    CFG_UNHONOURED("request_direction_config", "requests go as they came"),
	    CFG_UNHONOURED("choose_first", "there is one coding"),
	    CFG_UNHONOURED("content_length", old),
	    CFG_UNHONOURED("content_type", old),
	    CFG_UNHONOURED("disable_on_etag_header", old),
	    CFG_UNHONOURED("remove_accept_encoding_header", old),
	    CFG_UNHONOURED("runtime_enabled", old),
	};
	const struct yaml_node *node = cfg_filter_of(patch, FILTER, TYPE, NULL);
	struct reading r = {.gzip = false};

	if (!node)
		return false;
	r.c = cfg_array(cfg, 1, sizeof(*r.c));
	if (!r.c)
		return true;
	/* Where nothing is said, as in Envoy. */
	*r.c =
	    (struct flat_compressor){.min_length = 30, .level = -1, .memory = 5, .window_bits = 12};
	if (!cfg_filter_where(cfg, patch, node, by, &r.c->filter))
		return true;
	if (!yaml_get(node, "compressor_library"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "give compressor_library with a typed_config of the type " GZIP,
			  "a compressor that does not say how");
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (flat_mesh_n_compressors(cfg->mesh) == FLAT_FILTERS_MAX)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u compressors", FLAT_FILTERS_MAX);
	else if (r.gzip && !r.c->disabled && flat_mesh_add_compressor(cfg->mesh, r.c) != 0)
		cfg->oom = true;
	return true;
}
