/* Secret (v1) with a certificate -> struct flat_secret: type kubernetes.io/tls, or Opaque with its keys. */
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#include "control/schema.h"
#include "mesh/gateway.h"
#include "mesh/persist.h"

struct reading {
	struct flat_secret *secret;
	bool encoded; /* `data`, in base64; else `stringData` */
};

/* Base64 with line breaks, as files have it. NULL with an error. */
static const char *decoded(struct cfg *cfg, const struct yaml_node *node)
{
	size_t len = strlen(node->text);
	char *text = flat_pool_alloc(cfg->pool, len + 4);
	EVP_ENCODE_CTX *ctx = text ? EVP_ENCODE_CTX_new() : NULL;
	int n = 0;
	int rest = 0;
	bool good = false;

	if (!ctx) {
		cfg->oom = true;
		return NULL;
	}
	EVP_DecodeInit(ctx);
	good = EVP_DecodeUpdate(ctx, (unsigned char *)text, &n, (const unsigned char *)node->text,
				(int)len) >= 0 &&
	       EVP_DecodeFinal(ctx, (unsigned char *)text + n, &rest) == 1;
	EVP_ENCODE_CTX_free(ctx);
	n += rest;
	text[n] = 0;
	if (good && n > 0 && memchr(text, 0, (size_t)n) == NULL)
		return text;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "encode a PEM file with base64",
		  "this is no text in base64");
	return NULL;
}

static const char *value(struct cfg *cfg, const struct yaml_node *node, const struct reading *r)
{
	const char *text;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return NULL;
	if (r->encoded)
		return decoded(cfg, node);
	text = flat_pool_strdup(cfg->pool, node->text);
	cfg->oom |= !text;
	return text;
}

static void parse_cert(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->secret->cert = value(cfg, node, obj);
}

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->secret->key = value(cfg, node, obj);
}

static void parse_ca(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->secret->ca = value(cfg, node, obj);
}

static void read_data(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	static const struct {
		const char *key;
		cfg_parse_fn *parse;
	} keys[] = {
	    {"tls.crt", parse_cert}, {"tls.key", parse_key}, {"ca.crt", parse_ca},
	    {"cert", parse_cert},    {"key", parse_key},     {"cacert", parse_ca},
	};
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	/* Keys of other uses are nobody's business here. */
	for (item = node->first; item; item = item->next) {
		for (size_t i = 0; i < FLAT_ARRAY_SIZE(keys); i++) {
			if (strcmp(keys[i].key, item->key->text) == 0)
				keys[i].parse(cfg, item->value, r);
		}
	}
}

static void parse_data(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->encoded = true;
	read_data(cfg, node, obj);
}

static void parse_string_data(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->encoded = false;
	read_data(cfg, node, obj);
}

static void hash_key(struct cfg *cfg, struct flat_secret *secret)
{
	uint8_t *digest;

	if (!secret->key || strcmp(secret->name, FLAT_PERSIST_SECRET) != 0)
		return;
	digest = cfg_array(cfg, 1, SHA256_DIGEST_LENGTH);
	if (digest)
		SHA256((const uint8_t *)secret->key, strlen(secret->key), digest);
	secret->digest = digest;
}

void cfg_secret(struct cfg *cfg, const struct yaml_node *root)
{
	static const struct cfg_field fields[] = {
	    CFG_TOP_FIELDS,
	    CFG_FIELD("data", parse_data),
	    CFG_FIELD("stringData", parse_string_data),
	    CFG_SKIP("type"),
	    CFG_SKIP("immutable"),
	};
	struct reading r = {.secret = cfg_array(cfg, 1, sizeof(*r.secret))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.secret)
		return;
	r.secret->name = cfg->name;
	r.secret->namespace = cfg->namespace;
	r.secret->where = cfg->where;
	cfg_map(cfg, root, fields, FLAT_ARRAY_SIZE(fields), &r);
	hash_key(cfg, r.secret);
	if (!cfg->oom && cfg->diags->n_errors == errors &&
	    flat_mesh_add_secret(cfg->mesh, r.secret))
		cfg->oom = true;
}
