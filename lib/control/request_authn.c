/* RequestAuthentication (security.istio.io) -> struct flat_request_authn. */
#include <errno.h>
#include <string.h>

#include "base/json_read.h"
#include "control/http_common.h"

/* What is being read: a policy, and within it one rule. */
struct reading {
	struct flat_request_authn *policy;
	struct flat_jwt_rule *rule;
	/* Of the rule: as many as its three lists have. */
	struct flat_jwt_location *locations;
	struct flat_jwt_location *location; /* being read */
	struct flat_claim_header *claims;
	struct flat_claim_header *claim; /* being read */
	const char **texts;		 /* of the list being read */
	uint32_t n_texts;
};

/* Where tokens are looked for if a rule does not say: RFC 6750, as Istio. */
static const struct flat_jwt_location usual_places[] = {
    {FLAT_JWT_HEADER, "Authorization", "Bearer "},
    {FLAT_JWT_PARAM, "access_token", ""},
};

static void parse_issuer(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rule->issuer = cfg_string(cfg, node);
}

/* --- lists of texts --- */

static void parse_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);

	if (text)
		r->texts[r->n_texts++] = text;
}

static const char *const *read_texts(struct cfg *cfg, const struct yaml_node *node,
				     struct reading *r, uint32_t *n)
{
	r->n_texts = 0;
	*n = 0;
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return NULL;
	r->texts = cfg_array(cfg, node->n, sizeof(*r->texts));
	if (r->texts)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_text, r);
	*n = r->n_texts;
	return r->texts;
}

static void parse_audiences(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->rule->audiences = read_texts(cfg, node, r, &r->rule->n_audiences);
}

static void parse_spaced(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->rule->spaced = read_texts(cfg, node, r, &r->rule->n_spaced);
}

/* --- keys --- */

/* What can be seen to be wrong without looking at the keys themselves. */
static void parse_jwks(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_jwt_rule *rule = ((struct reading *)obj)->rule;
	const struct flat_json_node *root, *keys;
	int err;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	err = flat_json_read(node->text, strlen(node->text), &cfg->tmp, &root);
	keys = err == 0 ? flat_json_member(root, "keys") : NULL;
	if (err == -ENOMEM)
		cfg->oom = true;
	else if (!keys || keys->kind != FLAT_JSON_LIST || !keys->first)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write a JSON Web Key Set: {\"keys\": [...]}",
			  err ? "the key set is no JSON" : "the key set has no list of \"keys\"");
	rule->jwks = flat_pool_strdup(cfg->pool, node->text);
	cfg->oom |= !rule->jwks;
}

static void parse_jwks_uri(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const schemes[] = {"https://", "http://", "file:///"};
	struct flat_jwt_rule *rule = ((struct reading *)obj)->rule;
	const char *text = cfg_string(cfg, node);

	for (size_t i = 0; text && i < FLAT_ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i]);

		if (strncmp(text, schemes[i], len) == 0 && text[len] && text[len] != '/') {
			rule->jwks_uri = text;
			return;
		}
	}
	if (text)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "begin with https://, http:// or file:///",
			  "\"%.200s\" is no place that a key set can be fetched from", text);
}

/* --- places --- */

static void parse_location_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->location->name = cfg_header_name(cfg, node, true);
}

static void parse_location_prefix(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (cfg_expect(cfg, node, YAML_SCALAR) && *node->text)
		r->location->prefix = cfg_string(cfg, node);
}

static struct flat_jwt_location *next_location(struct reading *r, enum flat_jwt_place place)
{
	r->location = &r->locations[r->rule->n_locations++];
	r->location->place = place;
	r->location->prefix = "";
	return r->location;
}

static void parse_from_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_location_name),
	    CFG_FIELD("prefix", parse_location_prefix),
	};
	struct flat_jwt_location *location = next_location(obj, FLAT_JWT_HEADER);

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && !yaml_get(node, "name"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
	if (!location->prefix)
		location->prefix = "";
}

static void parse_from_param(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	next_location(obj, FLAT_JWT_PARAM)->name = cfg_string(cfg, node);
}

static void parse_from_cookie(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	next_location(obj, FLAT_JWT_COOKIE)->name = cfg_string(cfg, node);
}

static void parse_from_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_from_header, obj);
}

static void parse_from_params(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_from_param, obj);
}

static void parse_from_cookies(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_from_cookie, obj);
}

/* --- what the server is told --- */

static void parse_payload_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rule->payload_header = cfg_header_name(cfg, node, true);
}

static void parse_claim_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->claim->header = cfg_header_name(cfg, node, true);
}

static void parse_claim_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->claim->claim = cfg_string(cfg, node);
}

static void parse_claim(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("header", parse_claim_header),
	    CFG_FIELD("claim", parse_claim_name),
	};
	struct reading *r = obj;

	r->claim = &r->claims[r->rule->n_claim_headers++];
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (node->kind == YAML_MAP && (!yaml_get(node, "header") || !yaml_get(node, "claim")))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "name both",
			  "a header and a claim are needed");
}

static void parse_claims(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->claims = cfg_array(cfg, node->n, sizeof(*r->claims));
	if (r->claims)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_claim, r);
	r->rule->claim_headers = r->claims;
}

static void parse_forward(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rule->forward = cfg_bool(cfg, node);
}

static void parse_presence(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"OPTIONAL", "REQUIRED"};

	((struct reading *)obj)->rule->required =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

static void parse_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_jwt_rule *rule = ((struct reading *)obj)->rule;

	if (cfg_duration_ms(cfg, node, &rule->timeout_ms) && rule->timeout_ms == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "give it some time",
			  "no time to fetch a key set in");
}

/* --- the whole --- */

static uint32_t length_of(const struct yaml_node *rule, const char *field)
{
	const struct yaml_node *list = yaml_get(rule, field);

	return list && list->kind == YAML_LIST ? list->n : 0;
}

static void settle_rule(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	struct flat_jwt_rule *rule = r->rule;
	bool camel = yaml_get(node, "jwksUri"), snake = yaml_get(node, "jwks_uri");
	bool uri = camel || snake;

	if (!yaml_get(node, "issuer") && !uri)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it, or jwksUri",
			  "field \"issuer\" is missing");
	if (!rule->issuer)
		rule->issuer = "";
	if (camel && snake)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep jwksUri",
			  "jwksUri and jwks_uri are the same field");
	if (rule->jwks && rule->jwks_uri)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "jwks and jwksUri exclude each other");
	if (!yaml_get(node, "jwks") && !uri && *rule->issuer &&
	    strncmp(rule->issuer, "https://", 8) != 0 && strncmp(rule->issuer, "http://", 7) != 0) {
		/* As in Istio, the rule holds, and no key is good. */
		rule->jwks = "{\"keys\":[]}";
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_ADVICE, "add jwks or jwksUri",
		    "the issuer is no URL at which its keys could be found: tokens are refused");
	}
	rule->locations = r->locations;
	if (rule->n_locations == 0) {
		rule->locations = usual_places;
		rule->n_locations = FLAT_ARRAY_SIZE(usual_places);
	}
}

static void parse_rule(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("issuer", parse_issuer),
	    CFG_FIELD("audiences", parse_audiences),
	    CFG_FIELD("jwks", parse_jwks),
	    CFG_FIELD("jwksUri", parse_jwks_uri),
	    CFG_FIELD("jwks_uri", parse_jwks_uri),
	    CFG_FIELD("fromHeaders", parse_from_headers),
	    CFG_FIELD("fromParams", parse_from_params),
	    CFG_FIELD("fromCookies", parse_from_cookies),
	    CFG_FIELD("outputPayloadToHeader", parse_payload_header),
	    CFG_FIELD("outputClaimToHeaders", parse_claims),
	    CFG_FIELD("forwardOriginalToken", parse_forward),
	    CFG_FIELD("spaceDelimitedClaims", parse_spaced),
	    CFG_FIELD("timeout", parse_timeout),
	    CFG_FIELD("presence", parse_presence),
	};
	struct reading *r = obj;
	uint32_t n = length_of(node, "fromHeaders") + length_of(node, "fromParams") +
		     length_of(node, "fromCookies");

	r->rule = &r->policy->rules[r->policy->n_rules++];
	r->rule->where = node->where;
	r->rule->timeout_ms = 5000; /* Istio's default */
	r->locations = n ? cfg_array(cfg, n, sizeof(*r->locations)) : NULL;
	if (n && !r->locations)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (node->kind == YAML_MAP)
		settle_rule(cfg, node, r);
}

static void parse_rules(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->policy->rules = cfg_array(cfg, node->n, sizeof(*r->policy->rules));
	if (r->policy->rules)
		(void)cfg_list(cfg, node, FLAT_JWT_RULES_MAX, parse_rule, r);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->policy->selector = cfg_match_labels(cfg, node);
}

static void parse_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_policy_targets(cfg, node, &((struct reading *)obj)->policy->targets);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("selector", parse_selector),
	    CFG_FIELD("targetRef", parse_target),
	    CFG_FIELD("targetRefs", parse_target),
	    CFG_FIELD("jwtRules", parse_rules),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_request_authentication(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.policy = cfg_array(cfg, 1, sizeof(*r.policy))};

	if (!r.policy)
		return;
	r.policy->name = cfg->name;
	r.policy->namespace = cfg->namespace;
	r.policy->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (r.policy->targets.n && r.policy->selector.n)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "selector and targetRef exclude each other");
	if (flat_mesh_add_authn(cfg->mesh, r.policy))
		cfg->oom = true;
}
