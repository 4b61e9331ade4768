/* Gateway API: what an HTTPRoute's rule says of retries, and its CORS filter. */
#include <string.h>

#include "control/http_route.h"

/* --- retry, timeouts.backendRequest --- */

/* As where nothing is said of retries. */
static struct flat_http_retries *retries_of(struct cfg *cfg, struct api_rule *rule)
{
	struct flat_http_retries *retries = rule->retries;

	if (retries)
		return retries;
	retries = cfg_array(cfg, 1, sizeof(*retries));
	if (retries) {
		retries->attempts = 2;
		retries->on = FLAT_RETRY_DEFAULT;
	}
	rule->retries = retries;
	rule->route.retries = retries;
	return retries;
}

void cfg_api_backend_timeout(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule)
{
	struct flat_http_retries *retries = retries_of(cfg, rule);

	if (retries)
		(void)cfg_duration_ms(cfg, node, &retries->per_try_ms);
}

static void parse_attempts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, 100, &n))
		((struct flat_http_retries *)obj)->attempts = (uint32_t)n;
}

static void parse_backoff(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_http_retries *)obj)->backoff_ms);
}

static void parse_code(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_retries *retries = obj;
	uint64_t status;

	if (!cfg_uint(cfg, node, 400, 599, &status))
		return;
	retries->on |= FLAT_RETRY_STATUS;
	retries->statuses[retries->n_statuses++] = (uint16_t)status;
}

static void parse_codes(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_expect(cfg, node, YAML_LIST))
		(void)cfg_list(cfg, node, FLAT_RETRY_STATUSES_MAX, parse_code, obj);
}

void cfg_api_retry(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("attempts", parse_attempts),
	    CFG_FIELD("backoff", parse_backoff),
	    CFG_FIELD("codes", parse_codes),
	};
	struct flat_http_retries *retries = retries_of(cfg, rule);

	if (retries)
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), retries);
}

/* --- CORS --- */

struct reading {
	struct flat_http_cors *cors;
	struct flat_text_match *origins;
};

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

static void parse_origin(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_text_match *m = &r->origins[r->cors->n_origins];

	m->text = cfg_string(cfg, node);
	if (!m->text)
		return;
	r->cors->n_origins++;
	m->kind = FLAT_TEXT_EXACT;
	m->len = strlen(m->text);
	if (strcmp(m->text, "*") != 0 && strchr(m->text, '*'))
		set_origin(cfg, node, m);
}

static void parse_origins(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->cors->origins = r->origins = cfg_array(cfg, node->n, sizeof(*r->origins));
	if (r->origins)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_origin, r);
}

static void parse_methods(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cors->methods = cfg_joined(cfg, node);
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cors->headers = cfg_joined(cfg, node);
}

static void parse_expose(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cors->expose = cfg_joined(cfg, node);
}

static void parse_credentials(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cors->credentials = cfg_bool(cfg, node);
}

static void parse_age(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t age;

	if (!cfg_uint(cfg, node, 1, INT32_MAX, &age))
		return;
	r->cors->max_age = flat_pool_printf(cfg->pool, "%u", (unsigned)age);
	cfg->oom |= !r->cors->max_age;
}

void cfg_api_cors(struct cfg *cfg, const struct yaml_node *node, struct api_rule *rule)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("allowOrigins", parse_origins),
	    CFG_FIELD("allowMethods", parse_methods),
	    CFG_FIELD("allowHeaders", parse_headers),
	    CFG_FIELD("exposeHeaders", parse_expose),
	    CFG_FIELD("allowCredentials", parse_credentials),
	    CFG_FIELD("maxAge", parse_age),
	};
	struct reading r = {.cors = cfg_array(cfg, 1, sizeof(*r.cors))};

	if (!r.cors)
		return;
	/* The specification's default; who may not is answered here as well. */
	r.cors->max_age = "5";
	r.cors->ignore = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	/* A star means itself to browsers where credentials are sent. */
	r.cors->echo = r.cors->credentials;
	rule->route.cors = r.cors;
}
