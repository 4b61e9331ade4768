/* Rate limits by key: what of a request makes a descriptor, and which descriptors have buckets. */
#include <ctype.h>
#include <string.h>

#include "control/envoy_filter.h"

/* One item of rate_limits. */
struct rule {
	struct flat_limit_rule *rule;
	bool left_out; /* something of it is not honoured: it would count too much */
};

struct headers {
	struct flat_limit_header *v;
	uint32_t n;
	bool params; /* of the query */
	bool left_out;
};

struct rules {
	struct flat_limit_rule *v;
	uint32_t n;
};

static struct flat_limit_action *action_of(void *obj)
{
	return obj;
}

static const char *lower_name(struct cfg *cfg, const struct yaml_node *node)
{
	const char *text = cfg_string(cfg, node);
	char *name = text ? flat_pool_strdup(cfg->pool, text) : NULL;

	if (text && !name)
		cfg->oom = true;
	for (char *p = name; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return name;
}

static void parse_header_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->name = lower_name(cfg, node);
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->name = cfg_string(cfg, node);
}

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->key = cfg_string(cfg, node);
}

static void parse_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->value = cfg_string(cfg, node);
}

static void parse_skips(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->skips = cfg_bool(cfg, node);
}

static void parse_expect(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	action_of(obj)->unless = !cfg_bool(cfg, node);
}

/* --- header matchers --- */

static void parse_matcher_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_limit_header *)obj)->name = lower_name(cfg, node);
}

static void parse_string_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct yaml_node *regex = yaml_get(node, "safe_regex");

	cfg_text_match(cfg, regex ? regex : node, false, &((struct flat_limit_header *)obj)->match);
}

static void parse_present(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_limit_header *h = obj;

	h->match.kind = FLAT_TEXT_PRESENT;
	h->invert ^= !cfg_bool(cfg, node);
}

static void parse_invert(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_limit_header *)obj)->invert ^= cfg_bool(cfg, node);
}

bool cfg_has_only(const struct yaml_node *node, const char *const *names, size_t n)
{
	const struct yaml_item *item;

	for (item = node->kind == YAML_MAP ? node->first : NULL; item; item = item->next) {
		size_t i = 0;

		while (i < n && strcmp(names[i], item->key->text) != 0)
			i++;
		if (i == n)
			return false;
	}
	return node->kind == YAML_MAP;
}

/* What a matcher may say: one that is narrower than we understand would count too much. */
static bool is_understood(const struct yaml_node *node)
{
	static const char *const fields[] = {"name", "string_match", "present_match",
					     "invert_match"};
	static const char *const ways[] = {"exact", "prefix", "safe_regex"};
	const struct yaml_node *match =
	    node->kind == YAML_MAP ? yaml_get(node, "string_match") : NULL;

	return cfg_has_only(node, fields, FLAT_ARRAY_SIZE(fields)) &&
	       (!match || cfg_has_only(match, ways, FLAT_ARRAY_SIZE(ways)));
}

static void parse_param_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_limit_header *)obj)->name = cfg_string(cfg, node);
}

static void parse_matcher(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_matcher_name),
	    CFG_FIELD("string_match", parse_string_match),
	    CFG_FIELD("present_match", parse_present),
	    CFG_FIELD("invert_match", parse_invert),
	};
	static const struct cfg_field params[] = {
	    CFG_FIELD("name", parse_param_name),
	    CFG_FIELD("string_match", parse_string_match),
	    CFG_FIELD("present_match", parse_present),
	};
	struct headers *h = obj;
	struct flat_limit_header *one = &h->v[h->n];

	one->match.kind = FLAT_TEXT_PRESENT;
	if (!is_understood(node)) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "use name, string_match (exact, prefix, safe_regex), present_match, "
			 "invert_match",
			 "the header matcher is not honoured, and so not these rate_limits");
		h->left_out = true;
		return;
	}
	if (h->params)
		cfg_map(cfg, node, params, FLAT_ARRAY_SIZE(params), one);
	else
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), one);
	h->n += one->name != NULL;
}

static void parse_matchers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_limit_action *a = obj;
	struct headers h = {.params = a->kind == FLAT_LIMIT_QUERY_MATCH};

	if (cfg_expect(cfg, node, YAML_LIST) && node->n)
		h.v = cfg_array(cfg, node->n, sizeof(*h.v));
	if (h.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_matcher, &h);
	a->headers = h.v;
	a->n_headers = h.n;
	if (h.left_out)
		a->kind = FLAT_LIMIT_LEFT_OUT;
}

/* --- actions --- */

static void read_headers(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("header_name", parse_header_name),
	    CFG_FIELD("descriptor_key", parse_key),
	    CFG_FIELD("skip_if_absent", parse_skips),
	};

	a->kind = FLAT_LIMIT_HEADER;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void read_query(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("query_parameter_name", parse_name),
	    CFG_FIELD("descriptor_key", parse_key),
	    CFG_FIELD("skip_if_absent", parse_skips),
	};

	a->kind = FLAT_LIMIT_QUERY;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void read_remote(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	a->kind = FLAT_LIMIT_REMOTE;
	a->key = "remote_address";
	cfg_map(cfg, node, NULL, 0, a);
}

static void read_generic(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("descriptor_key", parse_key),
	    CFG_FIELD("descriptor_value", parse_value),
	};

	a->kind = FLAT_LIMIT_GENERIC;
	a->key = "generic_key";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void read_match(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("descriptor_key", parse_key),
	    CFG_FIELD("descriptor_value", parse_value),
	    CFG_FIELD("expect_match", parse_expect),
	    CFG_FIELD("headers", parse_matchers),
	};

	a->kind = FLAT_LIMIT_HEADER_MATCH;
	a->key = "header_match";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void read_query_match(struct cfg *cfg, const struct yaml_node *node,
			     struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("descriptor_key", parse_key),
	    CFG_FIELD("descriptor_value", parse_value),
	    CFG_FIELD("expect_match", parse_expect),
	    CFG_FIELD("query_parameters", parse_matchers),
	};

	a->kind = FLAT_LIMIT_QUERY_MATCH;
	a->key = "query_match";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void parse_prefix4(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, 32, &n))
		action_of(obj)->prefix4 = (uint8_t)n;
}

static void parse_prefix6(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, 128, &n))
		action_of(obj)->prefix6 = (uint8_t)n;
}

static void read_masked(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("v4_prefix_mask_len", parse_prefix4),
	    CFG_FIELD("v6_prefix_mask_len", parse_prefix6),
	};

	a->kind = FLAT_LIMIT_MASKED;
	a->key = "masked_remote_address";
	a->prefix4 = 32; /* Envoy's defaults */
	a->prefix6 = 128;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), a);
}

static void read_source(struct cfg *cfg, const struct yaml_node *node, struct flat_limit_action *a)
{
	a->kind = FLAT_LIMIT_SOURCE;
	a->key = "source_cluster";
	cfg_map(cfg, node, NULL, 0, a);
}

static void read_destination(struct cfg *cfg, const struct yaml_node *node,
			     struct flat_limit_action *a)
{
	a->kind = FLAT_LIMIT_DESTINATION;
	a->key = "destination_cluster";
	cfg_map(cfg, node, NULL, 0, a);
}

static bool is_whole(const struct flat_limit_action *a)
{
	bool named = a->kind == FLAT_LIMIT_HEADER || a->kind == FLAT_LIMIT_QUERY;
	bool valued = a->kind == FLAT_LIMIT_GENERIC || a->kind == FLAT_LIMIT_HEADER_MATCH ||
		      a->kind == FLAT_LIMIT_QUERY_MATCH;

	return a->key && (!named || a->name) && (!valued || a->value);
}

static void parse_action(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct {
		const char *name;
		void (*read)(struct cfg *cfg, const struct yaml_node *node,
			     struct flat_limit_action *a);
	} kinds[] = {
	    {"request_headers", read_headers},
	    {"query_parameters", read_query},
	    {"remote_address", read_remote},
	    {"generic_key", read_generic},
	    {"header_value_match", read_match},
	    {"query_parameter_value_match", read_query_match},
	    {"masked_remote_address", read_masked},
	    {"source_cluster", read_source},
	    {"destination_cluster", read_destination},
	};
	struct rule *r = obj;
	struct flat_limit_action *a = &r->rule->actions[r->rule->n];
	uint32_t errors = cfg->diags->n_errors;
	const char *name;
	size_t i = 0;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	name = node->n == 1 ? node->first->key->text : "";
	while (i < FLAT_ARRAY_SIZE(kinds) && strcmp(kinds[i].name, name) != 0)
		i++;
	if (i == FLAT_ARRAY_SIZE(kinds)) {
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
		    "the action \"%.100s\" is not honoured, and so not these rate_limits: use "
		    "request_headers, query_parameters, remote_address, masked_remote_address, "
		    "generic_key, header_value_match, query_parameter_value_match, "
		    "source_cluster, destination_cluster",
		    name);
		r->left_out = true;
		return;
	}
	kinds[i].read(cfg, node->first->value, a);
	if (cfg->diags->n_errors == errors && !is_whole(a))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "give its name, descriptor_key or descriptor_value",
			  "the action %s does not say all", name);
	r->left_out |= a->kind == FLAT_LIMIT_LEFT_OUT;
	r->rule->n++;
}

static void parse_actions(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct rule *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->rule->actions = cfg_array(cfg, node->n, sizeof(*r->rule->actions));
	if (r->rule->actions)
		(void)cfg_list(cfg, node, FLAT_LIMIT_ENTRIES_MAX, parse_action, r);
}

static void parse_stage(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct rule *)obj)->rule->stage = cfg_limit_stage(cfg, node);
}

static void parse_hits_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_limit_rule *rule = ((struct rule *)obj)->rule;
	uint64_t n;

	if (!cfg_uint(cfg, node, 0, FLAT_LIMIT_HITS_MAX, &n))
		return;
	rule->has_hits = true;
	rule->hits = (uint32_t)n;
}

/* "%REQ(NAME)%": of Envoy's formats the one that a limit needs. */
static void parse_hits_format(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct rule *r = obj;
	const char *text = cfg_string(cfg, node);
	size_t len = text ? strlen(text) : 0;
	char *name;

	if (!text)
		return;
	if (len < 8 || strncmp(text, "%REQ(", 5) != 0 || strcmp(text + len - 2, ")%") != 0 ||
	    strcspn(text + 5, "?:)%") != len - 7) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use number, or %REQ(NAME)%",
			 "the format is not honoured, and so not these rate_limits");
		r->left_out = true;
		return;
	}
	name = flat_pool_strdup(cfg->pool, text + 5);
	if (!name) {
		cfg->oom = true;
		return;
	}
	name[len - 7] = 0;
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	r->rule->hits_header = name;
}

static void parse_hits(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("number", parse_hits_number),
	    CFG_FIELD("format", parse_hits_format),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* It would count requests that it does not mean: when they come, instead of by what they were. */
static void parse_on_done(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (!cfg_bool(cfg, node))
		return;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "apply_on_stream_done is not honoured, and so not these rate_limits: requests are "
		 "counted when they come");
	((struct rule *)obj)->left_out = true;
}

static void parse_rule(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("actions", parse_actions),
	    CFG_FIELD("stage", parse_stage),
	    CFG_UNHONOURED("disable_key", "there is no runtime"),
	    CFG_UNHONOURED("limit", "how many is what the bucket or the service says"),
	    CFG_FIELD("hits_addend", parse_hits),
	    CFG_FIELD("apply_on_stream_done", parse_on_done),
	};
	struct rules *rules = obj;
	struct rule r = {.rule = &rules->v[rules->n]};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (r.left_out)
		*r.rule = (struct flat_limit_rule){.n = 0};
	rules->n += r.rule->n > 0;
}

struct flat_limit_rule *cfg_limit_rules(struct cfg *cfg, const struct yaml_node *node, uint32_t *n)
{
	struct rules rules = {.n = 0};

	*n = 0;
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return NULL;
	rules.v = cfg_array(cfg, node->n, sizeof(*rules.v));
	if (rules.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_rule, &rules);
	*n = rules.n;
	return rules.v;
}

/* --- descriptors --- */

static void parse_entry_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_limit_entry *)obj)->key = cfg_string(cfg, node);
}

/* "" is any value, as without. */
static void parse_entry_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (node->kind != YAML_SCALAR || *node->text)
		((struct flat_limit_entry *)obj)->value = cfg_string(cfg, node);
}

static void parse_entry(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("key", parse_entry_key),
	    CFG_FIELD("value", parse_entry_value),
	};
	struct flat_limit_descriptor *d = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &d->entries[d->n]);
	d->n += d->entries[d->n].key != NULL;
}

static void parse_entries(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_limit_descriptor *d = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	d->entries = cfg_array(cfg, node->n, sizeof(*d->entries));
	if (d->entries)
		(void)cfg_list(cfg, node, FLAT_LIMIT_ENTRIES_MAX, parse_entry, d);
}

static void parse_descriptor_rate(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_token_rate(cfg, node, &((struct flat_limit_descriptor *)obj)->rate);
}

static void parse_descriptor(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("entries", parse_entries),
	    CFG_FIELD("token_bucket", parse_descriptor_rate),
	};
	struct flat_local_limit *limit = obj;
	struct flat_limit_descriptor *d = &limit->descriptors[limit->n_descriptors];
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), d);
	if (cfg->diags->n_errors == errors && (d->n == 0 || !d->rate.max_tokens))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give entries and token_bucket",
			  "a descriptor that does not say all");
	limit->n_descriptors++;
}

void cfg_limit_descriptors(struct cfg *cfg, const struct yaml_node *node,
			   struct flat_local_limit *limit)
{
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	limit->descriptors = cfg_array(cfg, node->n, sizeof(*limit->descriptors));
	if (limit->descriptors)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_descriptor, limit);
}
