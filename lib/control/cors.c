/* Cross-origin rules: a VirtualService's corsPolicy, and the CORS filter of Gateway API's HTTPRoutes. */
#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"
#include "control/http_route.h"
#include "control/virtual_action.h"

/* What is read, in either form. */
struct cors {
	struct flat_http_cors *cors;
	struct flat_text_match *origins;
};

/* --- fields of both --- */

static void read_origins(struct cfg *cfg, const struct yaml_node *node, struct cors *c,
			 uint32_t max, cfg_parse_fn *one)
{
	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	c->origins = cfg_array(cfg, node->n, sizeof(*c->origins));
	c->cors->origins = c->origins;
	if (c->origins)
		(void)cfg_list(cfg, node, max, one, c);
}

static void set_age(struct cfg *cfg, struct cors *c, uint32_t seconds)
{
	c->cors->max_age = flat_pool_printf(cfg->pool, "%u", seconds);
	cfg->oom |= !c->cors->max_age;
}

static void parse_methods(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct cors *)obj)->cors->methods = cfg_joined(cfg, node);
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct cors *)obj)->cors->headers = cfg_joined(cfg, node);
}

static void parse_expose(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct cors *)obj)->cors->expose = cfg_joined(cfg, node);
}

static void parse_credentials(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct cors *)obj)->cors->credentials = cfg_bool(cfg, node);
}

/* --- VirtualService --- */

static void parse_origin(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cors *c = obj;

	cfg_text_match(cfg, node, false, &c->origins[c->cors->n_origins++]);
}

static void parse_origins(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_origins(cfg, node, obj, FLAT_CONFIG_LIST_MAX, parse_origin);
}

static void parse_age(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t ms;

	if (cfg_duration_ms(cfg, node, &ms))
		set_age(cfg, obj, ms / 1000);
}

static void parse_unmatched(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"UNSPECIFIED", "FORWARD", "IGNORE"};

	((struct cors *)obj)->cors->ignore =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 2;
}

static void parse_old_origin(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cors *c = obj;
	struct flat_text_match *m = &c->origins[c->cors->n_origins];

	m->text = cfg_string(cfg, node);
	if (!m->text)
		return;
	m->kind = FLAT_TEXT_EXACT;
	m->len = strlen(m->text);
	c->cors->n_origins++;
}

/* The older form: exact texts. */
static void parse_old_origins(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cors *c = obj;

	if (cfg_expect(cfg, node, YAML_LIST) && !c->origins)
		read_origins(cfg, node, c, FLAT_CONFIG_LIST_MAX, parse_old_origin);
}

void cfg_route_cors(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("allowOrigins", parse_origins),
	    CFG_FIELD("allowMethods", parse_methods),
	    CFG_FIELD("allowHeaders", parse_headers),
	    CFG_FIELD("exposeHeaders", parse_expose),
	    CFG_FIELD("maxAge", parse_age),
	    CFG_FIELD("allowCredentials", parse_credentials),
	    CFG_FIELD("allowOrigin", parse_old_origins),
	    CFG_FIELD("unmatchedPreflights", parse_unmatched),
	};
	struct flat_http_route *route = obj;
	struct cors c = {.cors = cfg_array(cfg, 1, sizeof(*c.cors))};

	if (!c.cors)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &c);
	route->cors = c.cors;
}

/* --- HTTPRoute --- */

/* A star in an origin's host is any number of labels; alone it is any origin. */
static void set_origin(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *m)
{
	struct flat_strbuf pattern = {0};
	const char *error = NULL;

	for (const char *p = m->text; *p; p++) {
		if (*p == '*') {
			flat_strbuf_puts(&pattern, "[^/:]+");
			continue;
		}
		if (strchr("\\.+?()[]|^${}", *p))
			flat_strbuf_putc(&pattern, '\\');
		flat_strbuf_putc(&pattern, *p);
	}
	m->kind = FLAT_TEXT_REGEX;
	if (flat_strbuf_str(&pattern))
		m->regex = flat_regex_compile(cfg->pool, pattern.data, false, &error);
	if (error)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "shorten it",
			  "\"%.200s\" is no origin", m->text);
	cfg->oom |= !m->regex && !error;
	flat_strbuf_fini(&pattern);
}

static void parse_api_origin(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cors *c = obj;
	struct flat_text_match *m = &c->origins[c->cors->n_origins];

	m->text = cfg_string(cfg, node);
	if (!m->text)
		return;
	c->cors->n_origins++;
	m->kind = FLAT_TEXT_EXACT;
	m->len = strlen(m->text);
	if (strcmp(m->text, "*") != 0 && strchr(m->text, '*'))
		set_origin(cfg, node, m);
}

static void parse_api_origins(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_origins(cfg, node, obj, FLAT_CONFIG_MATCHES_MAX, parse_api_origin);
}

static void parse_api_age(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t age;

	if (cfg_uint(cfg, node, 1, INT32_MAX, &age))
		set_age(cfg, obj, (uint32_t)age);
}

void cfg_api_cors(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("allowOrigins", parse_api_origins),
	    CFG_FIELD("allowMethods", parse_methods),
	    CFG_FIELD("allowHeaders", parse_headers),
	    CFG_FIELD("exposeHeaders", parse_expose),
	    CFG_FIELD("allowCredentials", parse_credentials),
	    CFG_FIELD("maxAge", parse_api_age),
	};
	struct cors c = {.cors = cfg_array(cfg, 1, sizeof(*c.cors))};

	if (!c.cors)
		return;
	/* The specification's default; who may not is answered here as well. */
	c.cors->max_age = "5";
	c.cors->ignore = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &c);
	/* A star means itself to browsers where credentials are sent. */
	c.cors->echo = c.cors->credentials;
	rule->route.cors = c.cors;
}
