/* Gateway API: what an HTTPRoute's rule says of retries, what of it goes together, and what holds where a route has no rules. */
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

	if (cfg_uint(cfg, node, 0, 100, &n))
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

/* --- the whole --- */

void cfg_api_check_rule(struct cfg *cfg, const struct yaml_node *node, const struct api_rule *rule)
{
	const struct flat_http_redirect *redirect = rule->route.redirect;
	const struct flat_http_rewrite *rewrite = rule->route.rewrite;
	bool prefix = (redirect && redirect->prefix) || (rewrite && rewrite->uri);

	if (redirect && rewrite)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "requestRedirect and urlRewrite exclude each other");
	for (uint32_t i = 0; prefix && i < rule->n_matches; i++) {
		const struct flat_http_match *m = &rule->matches[i];

		if (!m->uri || m->uri->kind == FLAT_TEXT_PATH)
			continue;
		cfg_error(cfg, &m->where, FLAT_DIAG_BAD_VALUE,
			  "match by PathPrefix, or write replaceFullPath",
			  "replacePrefixMatch where no prefix is matched");
	}
}

void cfg_api_default_rule(struct cfg *cfg, struct api_route *route)
{
	route->rules = cfg_array(cfg, 1, sizeof(*route->rules));
	if (!route->rules)
		return;
	route->n_rules = 1;
	route->rules->route.name = route->name;
	route->rules->route.where = route->where;
}
