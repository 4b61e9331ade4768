/* The method match of a GRPCRoute: /SERVICE/METHOD is the path of a call. */
#include <string.h>

#include "control/http_route.h"

struct reading {
	const char *type, *service, *method;
};

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->type = cfg_string(cfg, node);
}

static void parse_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->service = cfg_string(cfg, node);
}

static void parse_method(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->method = cfg_string(cfg, node);
}

static void set_regex(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *m)
{
	const char *error = NULL;

	m->kind = FLAT_TEXT_REGEX;
	m->regex = m->text ? flat_regex_compile(cfg->pool, m->text, false, &error) : NULL;
	cfg->oom |= !m->regex && !error;
	if (error)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use the syntax of RE2",
			  "the regular expression \"%.200s\" is not taken: %s", m->text, error);
}

static bool is_plain(const char *text, bool dots)
{
	return !text || strspn(text, dots ? "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					    "0123456789_."
					  : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					    "0123456789_") == strlen(text);
}

const struct flat_text_match *cfg_grpc_method(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("service", parse_service),
	    CFG_FIELD("method", parse_method),
	};
	struct reading r = {NULL, NULL, NULL};
	struct flat_text_match *m = cfg_array(cfg, 1, sizeof(*m));
	bool regex;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (!m || (!r.service && !r.method))
		return NULL;
	regex = r.type && strcmp(r.type, "RegularExpression") == 0;
	if (r.type && !regex && strcmp(r.type, "Exact") != 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use Exact or RegularExpression",
			  "\"%.100s\" is no type of match", r.type);
		return NULL;
	}
	if (!regex && (!is_plain(r.service, true) || !is_plain(r.method, false))) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use letters, digits, underscores, and dots in a service's",
			  "a name that no gRPC service or method has");
		return NULL;
	}
	if (regex || !r.service) {
		m->text =
		    flat_pool_printf(cfg->pool, "/(?:%s)/(?:%s)", r.service ? r.service : "[^/]+",
				     r.method ? r.method : "[^/]+");
		set_regex(cfg, node, m);
		return m->regex ? m : NULL;
	}
	m->kind = r.method ? FLAT_TEXT_EXACT : FLAT_TEXT_PREFIX;
	m->text = flat_pool_printf(cfg->pool, "/%s/%s", r.service, r.method ? r.method : "");
	cfg->oom |= !m->text;
	m->len = m->text ? strlen(m->text) : 0;
	return m;
}
