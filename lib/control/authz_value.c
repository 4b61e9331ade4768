#include "control/authz_value.h"

#include <stdio.h>
#include <string.h>

#include "control/http_common.h"

enum value_form {
	VALUE_TEXT,
	VALUE_PRINCIPAL,
	VALUE_GLOB,
	VALUE_TRUST_DOMAIN,
	VALUE_ACCOUNT,
	VALUE_CIDR,
	VALUE_PORT,
	VALUE_PATH,
	VALUE_PAIR,
	VALUE_ANY, /* compared with nothing */
};

static enum value_form form_of(enum flat_attribute attribute)
{
	switch (attribute) {
	case FLAT_ATTR_SOURCE_PRINCIPAL:
		return VALUE_PRINCIPAL;
	case FLAT_ATTR_SOURCE_NAMESPACE:
		return VALUE_GLOB;
	case FLAT_ATTR_SOURCE_TRUST_DOMAIN:
		return VALUE_TRUST_DOMAIN;
	case FLAT_ATTR_SOURCE_SERVICE_ACCOUNT:
		return VALUE_ACCOUNT;
	case FLAT_ATTR_DESTINATION_PORT:
		return VALUE_PORT;
	case FLAT_ATTR_HTTP_PATH:
		return VALUE_PATH;
	case FLAT_ATTR_HTTP_HOST:
	case FLAT_ATTR_HTTP_METHOD:
	case FLAT_ATTR_HTTP_HEADER:
	case FLAT_ATTR_CLAIM:
	case FLAT_ATTR_SNI:
		return VALUE_TEXT;
	case FLAT_ATTR_REQUEST_PRINCIPAL:
		return VALUE_PAIR;
	case FLAT_ATTR_UNKNOWN:
		return VALUE_ANY;
	default:
		return VALUE_CIDR;
	}
}

/* "abc", "abc*", "*abc", "*"; the star first, as in Istio, so that "*a*" is the suffix "a*". */
static void set_stars(struct cfg *cfg, const struct yaml_node *node, const char *text,
		      struct flat_match *match)
{
	size_t len = strlen(text);

	match->kind = FLAT_MATCH_EXACT;
	match->text = text;
	if (strcmp(text, "*") == 0) {
		match->kind = FLAT_MATCH_PRESENT;
	} else if (text[0] == '*') {
		match->kind = FLAT_MATCH_SUFFIX;
		match->text = text + 1;
	} else if (text[len - 1] == '*') {
		match->kind = FLAT_MATCH_PREFIX;
		match->text = flat_pool_strndup(cfg->pool, text, len - 1);
		if (!match->text)
			cfg->oom = true;
	}
	if (match->kind != FLAT_MATCH_PRESENT && match->text && strchr(match->text, '*'))
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE,
			 "put the star at one end only, or list the values",
			 "only one star, at the start or the end, stands for any text");
}

static void set_text(struct cfg *cfg, const struct yaml_node *node, struct flat_match *match)
{
	const char *text = cfg_string(cfg, node);

	if (text)
		set_stars(cfg, node, text, match);
}

static void set_principal(struct cfg *cfg, const struct yaml_node *node, struct flat_match *match)
{
	if (node->kind == YAML_SCALAR && strncmp(node->text, "spiffe://", 9) == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "remove \"spiffe://\"",
			  "principals are written without scheme, so \"%.200s\" matches nobody",
			  node->text);
	set_text(cfg, node, match);
}

static void set_trust_domain(struct cfg *cfg, const struct yaml_node *node,
			     struct flat_match *match)
{
	const char *star = node->kind == YAML_SCALAR ? strchr(node->text, '*') : NULL;

	if (node->kind == YAML_SCALAR && strchr(node->text, '/'))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write what stands before the first slash of a principal",
			  "\"%.200s\" is no trust domain", node->text);
	/* As Istio refuses it: a DENY rule with it would match nobody. */
	if (star && ((star != node->text && star[1]) || strchr(star + 1, '*'))) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "put one star at the start or the end, or list the trust domains",
			  "\"%.200s\" has a star where it would stand for itself", node->text);
		return;
	}
	set_text(cfg, node, match);
}

/* As Istio takes them: each operator is a segment by itself, and none follows {**}. */
static bool check_template(struct cfg *cfg, const struct yaml_node *node, const char *text)
{
	bool last = false;

	for (const char *p = strchr(text, '{'); p; p = strchr(p + 1, '{')) {
		size_t len = strncmp(p, "{**}", 4) == 0 ? 4 : 3;
		bool whole = p > text && p[-1] == '/' && strlen(p) >= len &&
			     (p[len] == '/' || p[len] == '\0');

		if (last || !whole) {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
				  "write {*} and {**} as segments of their own, {**} as the last",
				  "\"%.200s\" is no path template", text);
			return false;
		}
		last = len == 4;
	}
	return true;
}

/*
 * A path with {*} (one segment) or {**} (any number, last or before one fixed suffix), as Istio's URI templates; else a
 * text. Requests are compared in canonical form, so that values are brought into it.
 */
static void set_path(struct cfg *cfg, const struct yaml_node *node, struct flat_match *match)
{
	const char *text = cfg_path_spelled(cfg, node, cfg_string(cfg, node), true), *error, *p;
	struct flat_strbuf pattern = {0};

	if (!text)
		return;
	if (!strchr(text, '{') && !strchr(text, '}')) {
		set_stars(cfg, node, text, match);
		return;
	}
	if (!check_template(cfg, node, text))
		return;
	for (p = text; *p; p++) {
		if (strncmp(p, "{**}", 4) == 0) {
			flat_strbuf_puts(&pattern, ".*");
			p += 3;
		} else if (strncmp(p, "{*}", 3) == 0) {
			flat_strbuf_puts(&pattern, "[^/]+");
			p += 2;
		} else if (*p == '{' || *p == '}' || *p == '*') {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
				  "use {*} for one segment, {**} for any number, and no other star",
				  "\"%.200s\" is no path template", text);
			break;
		} else if (!strchr("/" FLAT_TEMPLATE_CHARS, *p)) {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
				  "write it as %XX, or a text with a star at its end",
				  "\"%.200s\": templates have no such character as at \"%.20s\"",
				  text, p);
			break;
		} else {
			if (strchr("\\.+?()[]|^$", *p))
				flat_strbuf_putc(&pattern, '\\');
			flat_strbuf_putc(&pattern, *p);
		}
	}
	match->kind = FLAT_MATCH_REGEX;
	match->text = text;
	if (!*p && flat_strbuf_str(&pattern)) {
		match->regex = flat_regex_compile(cfg->pool, pattern.data, false, &error);
		if (!match->regex && error)
			cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "shorten it",
				  "a path template that is too large");
		cfg->oom |= !match->regex && !error;
	}
	cfg->oom |= pattern.failed;
	flat_strbuf_fini(&pattern);
}

/* As Envoy compares them: one that is written in small letters is another. */
static void check_method(struct cfg *cfg, const struct yaml_node *node)
{
	cfg_method_case(cfg, node, node->kind == YAML_SCALAR ? node->text : NULL);
}

static void set_account(struct cfg *cfg, const struct yaml_node *node, struct flat_match *match)
{
	const char *text = cfg_string(cfg, node), *slash;

	if (!text)
		return;
	slash = strchr(text, '/');
	match->kind = FLAT_MATCH_EXACT;
	match->text = slash ? slash + 1 : text;
	match->namespace = cfg->namespace;
	if (slash) {
		match->namespace = flat_pool_strndup(cfg->pool, text, (size_t)(slash - text));
		if (!match->namespace)
			cfg->oom = true;
	}
	if (match->namespace &&
	    (!cfg_is_dns(match->namespace, false) || !cfg_is_dns(match->text, true)))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write NAME or NAMESPACE/NAME, without wildcards",
			  "\"%.200s\" is no service account", text);
}

static struct flat_match bare(enum flat_match_kind kind, const char *text)
{
	return (struct flat_match){.kind = kind, .text = text};
}

/*
 * ISSUER/SUBJECT, cut at the last slash, since issuers are URLs. A star at one end of the whole stands for any text at
 * that end, and alone for both: as Istio makes two matches of it.
 */
static void set_pair(struct cfg *cfg, const struct yaml_node *node, struct flat_match *match)
{
	const char *text = cfg_string(cfg, node);
	struct flat_match *pair = cfg_array(cfg, 2, sizeof(*pair));
	const char *slash = text ? strrchr(text, '/') : NULL;
	const char *sub = slash ? slash + 1 : "";
	char *iss;

	if (!text || !pair)
		return;
	match->kind = FLAT_MATCH_PAIR;
	match->text = text;
	match->pair = pair;
	iss = flat_pool_strndup(cfg->pool, text, slash ? (size_t)(slash - text) : strlen(text));
	if (!iss) {
		cfg->oom = true;
		return;
	}
	pair[0] = bare(FLAT_MATCH_EXACT, iss);
	pair[1] = bare(FLAT_MATCH_EXACT, sub);
	if (strcmp(text, "*") == 0) {
		pair[0] = pair[1] = bare(FLAT_MATCH_PRESENT, NULL);
	} else if (text[0] == '*' && slash) {
		pair[0] =
		    iss[1] ? bare(FLAT_MATCH_SUFFIX, iss + 1) : bare(FLAT_MATCH_PRESENT, NULL);
	} else if (text[0] == '*') {
		pair[0] = bare(FLAT_MATCH_PRESENT, NULL);
		pair[1] = bare(FLAT_MATCH_SUFFIX, text + 1);
	} else if (text[strlen(text) - 1] == '*') {
		struct flat_match *cut = slash ? &pair[1] : &pair[0];
		size_t len = strlen(cut->text) - 1;

		if (!slash)
			pair[1] = bare(FLAT_MATCH_PRESENT, NULL);
		*cut = len ? bare(FLAT_MATCH_PREFIX, flat_pool_strndup(cfg->pool, cut->text, len))
			   : bare(FLAT_MATCH_PRESENT, NULL);
		cfg->oom |= len && !cut->text;
	}
}

static void set_value(struct cfg *cfg, const struct yaml_node *node, enum value_form form,
		      struct flat_match *match)
{
	switch (form) {
	case VALUE_TEXT:
		set_text(cfg, node, match);
		break;
	case VALUE_PRINCIPAL:
		set_principal(cfg, node, match);
		break;
	case VALUE_GLOB:
		match->kind = FLAT_MATCH_GLOB;
		match->text = cfg_string(cfg, node);
		break;
	case VALUE_TRUST_DOMAIN:
		set_trust_domain(cfg, node, match);
		break;
	case VALUE_ACCOUNT:
		set_account(cfg, node, match);
		break;
	case VALUE_CIDR:
		match->kind = FLAT_MATCH_CIDR;
		if (cfg_expect(cfg, node, YAML_SCALAR) && flat_cidr_parse(node->text, &match->cidr))
			cfg_error(
			    cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			    "write an address such as 10.1.2.3 or a block such as 10.1.0.0/16",
			    "\"%.100s\" is no IP address or block", node->text);
		break;
	case VALUE_PORT:
		match->kind = FLAT_MATCH_PORT;
		match->port = cfg_port(cfg, node);
		break;
	case VALUE_PATH:
		set_path(cfg, node, match);
		break;
	case VALUE_PAIR:
		set_pair(cfg, node, match);
		break;
	case VALUE_ANY:
		(void)cfg_string(cfg, node);
		break;
	}
}

const struct flat_match *cfg_authz_values(struct cfg *cfg, const struct yaml_node *node,
					  enum flat_attribute attribute, uint32_t *n)
{
	enum value_form form = form_of(attribute);
	const struct yaml_item *item;
	struct flat_match *v;

	*n = 0;
	if (!cfg_expect(cfg, node, YAML_LIST))
		return NULL;
	if (node->n == 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "remove the field or fill the list",
			  "an empty list, which could mean nobody or everybody");
		return NULL;
	}
	if (node->n > FLAT_CONFIG_LIST_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "use several rules",
			  "a list of more than %u values", FLAT_CONFIG_LIST_MAX);
		return NULL;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next) {
		if (attribute == FLAT_ATTR_HTTP_METHOD)
			check_method(cfg, item->value);
		set_value(cfg, item->value, form, &v[(*n)++]);
	}
	return v;
}
