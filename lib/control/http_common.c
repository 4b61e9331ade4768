#include "control/http_common.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "codec/http.h"
#include "codec/path.h"

/* Digits with a fraction of at most `places`, scaled to whole numbers; the end in *end. false: none, or too large. */
static bool read_decimal(const char *text, unsigned places, uint64_t *out, const char **end)
{
	uint64_t value = 0;
	bool point = false;
	bool any = false;
	const char *p;

	for (p = text; *p; p++) {
		if (*p == '.' && !point) {
			point = true;
			continue;
		}
		if (*p < '0' || *p > '9')
			break;
		any = true;
		if (point && places == 0)
			continue;
		if (value > UINT32_MAX)
			return false;
		value = value * 10 + (uint64_t)(*p - '0');
		places -= point;
	}
	while (places-- > 0)
		value *= 10;
	*out = value;
	*end = p;
	return any;
}

/* Microseconds, at most `max_h` hours; false: an error. */
static bool read_duration(struct cfg *cfg, const struct yaml_node *node, unsigned max_h,
			  uint64_t *out)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
	    {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000ULL}};
	uint64_t total = 0;
	const char *p;
	bool good;

	*out = 0;
	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return false;
	p = node->text;
	for (good = *p != 0; good && *p;) {
		uint64_t value;
		size_t i;

		good = read_decimal(p, 3, &value, &p);
		for (i = 0; good && i < FLAT_ARRAY_SIZE(units); i++) {
			size_t len = strlen(units[i].name);

			if (strncmp(p, units[i].name, len) == 0 && !islower((unsigned char)p[len]))
				break;
		}
		good = good && i < FLAT_ARRAY_SIZE(units) && value < (1ULL << 31);
		if (good) {
			total += value * units[i].us / 1000;
			p += strlen(units[i].name);
		}
	}
	if (!good || total > max_h * 3600000000ULL) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  max_h > 24
			      ? "write a number with a unit, such as 90s or 12h, up to 99999h"
			      : "write a number with a unit, such as 1.5s or 100ms, up to 24h",
			  "\"%.100s\" is no duration", node->text);
		return false;
	}
	*out = total;
	return true;
}

bool cfg_thousandths(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	uint64_t value;
	const char *end;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return false;
	if (!read_decimal(node->text, 3, &value, &end) || *end || value > UINT32_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write a number such as 1.5",
			  "\"%.100s\" is no number", node->text);
		return false;
	}
	*out = (uint32_t)value;
	return true;
}

bool cfg_duration_ms(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	uint64_t us = 0;
	bool good = read_duration(cfg, node, 24, &us);

	*out = (uint32_t)((us + 999) / 1000);
	return good;
}

bool cfg_duration_s(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	uint64_t us = 0;
	bool good = read_duration(cfg, node, 99999, &us);

	*out = (uint32_t)((us + 999999) / 1000000);
	return good;
}

uint32_t cfg_millionths(struct cfg *cfg, const struct yaml_node *node)
{
	uint64_t value;
	const char *end;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return 0;
	if (!read_decimal(node->text, 4, &value, &end) || *end || value > FLAT_MILLION) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "correct the number",
			  "\"%.100s\" is not a percentage from 0 to 100", node->text);
		return 0;
	}
	return (uint32_t)value;
}

static void parse_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint32_t *out = obj;

	*out = cfg_millionths(cfg, node);
}

uint32_t cfg_percentage(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {CFG_FIELD("value", parse_value)};
	uint32_t out = 0;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &out);
	return out;
}

/* --- texts --- */

static void set_text(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *match,
		     enum flat_text_kind kind)
{
	const char *text = cfg_string(cfg, node);

	if (!text)
		return;
	match->kind = kind;
	match->text = text;
	match->len = strlen(text);
}

/* "" is the value of `?a=`, and of a header that is there without one. */
static void parse_exact(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (node->kind == YAML_SCALAR && !*node->text)
		*(struct flat_text_match *)obj =
		    (struct flat_text_match){.kind = FLAT_TEXT_EXACT, .text = ""};
	else
		set_text(cfg, node, obj, FLAT_TEXT_EXACT);
}

static void parse_prefix(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	set_text(cfg, node, obj, FLAT_TEXT_PREFIX);
}

static void parse_regex(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_text_match *match = obj;
	const char *error = NULL;

	set_text(cfg, node, match, FLAT_TEXT_REGEX);
	if (!match->text)
		return;
	match->regex = flat_regex_compile(cfg->pool, match->text, false, &error);
	if (match->regex)
		return;
	match->kind = FLAT_TEXT_EXACT;
	if (!error)
		cfg->oom = true;
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use the syntax of RE2",
			  "the regular expression \"%.200s\" is not taken: %s", match->text, error);
}

static bool is_star(const struct yaml_node *node)
{
	return node && node->kind == YAML_SCALAR && strcmp(node->text, "*") == 0;
}

void cfg_text_match(struct cfg *cfg, const struct yaml_node *node, bool presence,
		    struct flat_text_match *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("exact", parse_exact),
	    CFG_FIELD("prefix", parse_prefix),
	    CFG_FIELD("regex", parse_regex),
	};

	out->kind = FLAT_TEXT_PRESENT;
	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	if (node->n > 1 || (node->n == 0 && !presence)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "name one of exact, prefix and regex", "%s",
			  node->n ? "more than one way to match" : "an empty match");
		return;
	}
	/* No regular expression, but Istio's word for presence. */
	if (presence && is_star(yaml_get(node, "regex")))
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), out);
}

static bool is_token(const char *text)
{
	if (!*text)
		return false;
	for (; *text; text++) {
		if (!isalnum((unsigned char)*text) && !strchr("!#$%&'*+-.^_`|~", *text))
			return false;
	}
	return true;
}

const char *cfg_header_name(struct cfg *cfg, const struct yaml_node *node, bool change)
{
	const char *name = cfg_string(cfg, node);

	if (!name)
		return NULL;
	if (!is_token(name)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  name[0] == ':' ? "match uri, method, scheme or authority instead"
					 : "use letters, digits and dashes",
			  "\"%.100s\" is no name of a header", name);
		return NULL;
	}
	switch (flat_http_name_of(name, strlen(name))) {
	case FLAT_HTTP_HOST:
	case FLAT_HTTP_CONTENT_LENGTH:
	case FLAT_HTTP_TRANSFER_ENCODING:
	case FLAT_HTTP_CONNECTION:
	case FLAT_HTTP_KEEP_ALIVE:
	case FLAT_HTTP_PROXY_CONNECTION:
	case FLAT_HTTP_TE:
	case FLAT_HTTP_TRAILER:
	case FLAT_HTTP_UPGRADE:
		if (change) {
			cfg_error(
			    cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			    "remove it; a request's host can be set",
			    "header \"%s\" says how a message is carried: it cannot be changed",
			    name);
			return NULL;
		}
		return name;
	default:
		return name;
	}
}

#define CLAIMS "@request.auth.claims"

/* "@request.auth.claims[a][b]" and "@request.auth.claims.a.b", which is the same. */
static void read_claim(struct cfg *cfg, const struct yaml_node *key, struct flat_named_match *out)
{
	const char *at = key->text + strlen(CLAIMS);
	const char **path = cfg_array(cfg, strlen(at) + 1, sizeof(*path));
	bool good = path && *at;

	out->name = cfg_string(cfg, key);
	out->claim = path;
	while (good && *at) {
		bool bracket = *at == '[';
		size_t len = strcspn(at + 1, bracket ? "]" : ".[");

		good = len > 0 && (bracket ? at[1 + len] == ']' : *at == '.');
		if (!good)
			break;
		path[out->n_claim] = flat_pool_strndup(cfg->pool, at + 1, len);
		cfg->oom |= !path[out->n_claim++];
		at += 1 + len + bracket;
	}
	if (path && !good)
		cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE,
			  "write " CLAIMS "[NAME], or [NAME][NAME] for one within another",
			  "\"%.200s\" names no claim", key->text);
}

/* What Istio takes among a match's headers, as HTTP/2 has it. */
static bool is_pseudo(const char *name)
{
	static const char *const names[] = {":method", ":scheme", ":authority", ":path", ":status"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

const struct flat_named_match *cfg_named_matches(struct cfg *cfg, const struct yaml_node *node,
						 bool headers, uint32_t *n)
{
	const struct yaml_item *item;
	struct flat_named_match *v;

	*n = 0;
	if (!cfg_expect(cfg, node, YAML_MAP))
		return NULL;
	if (node->n > FLAT_CONFIG_MATCHES_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "use several matches",
			  "more than %u names in one match", FLAT_CONFIG_MATCHES_MAX);
		return NULL;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next) {
		struct flat_named_match *named = &v[(*n)++];

		if (headers && strncmp(item->key->text, CLAIMS, strlen(CLAIMS)) == 0)
			read_claim(cfg, item->key, named);
		else
			named->name = headers && !is_pseudo(item->key->text)
					  ? cfg_header_name(cfg, item->key, false)
					  : cfg_string(cfg, item->key);
		/* `{}` and nothing at all: it must be there. */
		if (!yaml_is_null(item->value))
			cfg_text_match(cfg, item->value, true, &named->match);
	}
	return v;
}

/* --- headers --- */

const char *cfg_header_value(struct cfg *cfg, const struct yaml_node *node)
{
	const char *p, *value;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return NULL;
	value = *node->text ? cfg_string(cfg, node) : "";
	for (p = value; p && *p; p++) {
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f) {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "remove it",
				  "a control character in the value of a header");
			return NULL;
		}
	}
	return value;
}

/* Names between percent signs; two of them are one. */
static bool find_variables(struct cfg *cfg, const struct yaml_node *node, const char *value)
{
	bool any = false;

	for (const char *p = strchr(value, '%'); p; p = strchr(p, '%')) {
		const char *end = strchr(p + 1, '%');
		size_t len = end ? (size_t)(end - p - 1) : 0;

		if (!end)
			break;
		if (len > 0 && flat_header_variable(p + 1, len) == FLAT_VARIABLE_NONE)
			cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "variable \"%.*s\" is not honoured: \"-\" is sent in its place",
				 (int)flat_min_size(len, 100), p + 1);
		any = true;
		p = end + 1;
	}
	return any;
}

/* The host that requests are sent with: as in Istio, a field of that name sets it. */
static bool is_host(const struct yaml_node *node)
{
	return node->kind == YAML_SCALAR &&
	       (strcasecmp(node->text, "host") == 0 || strcasecmp(node->text, ":authority") == 0);
}

static const struct flat_name_value *read_pairs(struct cfg *cfg, const struct yaml_node *node,
						uint32_t *n, const char **authority)
{
	const struct yaml_item *item;
	struct flat_name_value *v;

	*n = 0;
	if (!cfg_expect(cfg, node, YAML_MAP))
		return NULL;
	if (node->n > FLAT_CONFIG_MATCHES_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u headers",
			  FLAT_CONFIG_MATCHES_MAX);
		return NULL;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next) {
		if (authority && is_host(item->key)) {
			*authority = cfg_host_port(cfg, item->value);
			continue;
		}
		v[*n].name = cfg_header_name(cfg, item->key, true);
		v[*n].value = cfg_header_value(cfg, item->value);
		v[*n].variables = v[*n].value && find_variables(cfg, item->value, v[*n].value);
		if (v[*n].name && v[*n].value)
			(*n)++;
	}
	return v;
}

struct ops {
	struct flat_header_ops *ops;
	bool request;
	const char *set, *add; /* hosts */
};

static void parse_set(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct ops *o = obj;

	o->ops->set = read_pairs(cfg, node, &o->ops->n_set, o->request ? &o->set : NULL);
}

static void parse_add(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct ops *o = obj;

	o->ops->add = read_pairs(cfg, node, &o->ops->n_add, o->request ? &o->add : NULL);
}

void cfg_header_names(struct cfg *cfg, const struct yaml_node *node, struct flat_header_ops *ops)
{
	const struct yaml_item *item;
	const char **v;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	if (node->n > FLAT_CONFIG_MATCHES_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "more than %u headers",
			  FLAT_CONFIG_MATCHES_MAX);
		return;
	}
	ops->n_remove = 0;
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next) {
		v[ops->n_remove] = cfg_header_name(cfg, item->value, true);
		ops->n_remove += v[ops->n_remove] != NULL;
	}
	ops->remove = v;
}

static void parse_remove(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_header_names(cfg, node, ((struct ops *)obj)->ops);
}

static void read_ops(struct cfg *cfg, const struct yaml_node *node, struct flat_header_ops *ops,
		     bool request)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("set", parse_set),
	    CFG_FIELD("add", parse_add),
	    CFG_FIELD("remove", parse_remove),
	};

	struct ops o = {.ops = ops, .request = request};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &o);
	ops->authority = o.set ? o.set : o.add;
}

struct both {
	struct flat_header_ops *request, *response;
};

static void parse_request(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct both *both = obj;

	read_ops(cfg, node, both->request, true);
}

static void parse_response(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct both *both = obj;

	read_ops(cfg, node, both->response, false);
}

void cfg_header_ops(struct cfg *cfg, const struct yaml_node *node, struct flat_header_ops *request,
		    struct flat_header_ops *response)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("request", parse_request),
	    CFG_FIELD("response", parse_response),
	};
	struct both both = {request, response};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &both);
}

/* --- the rest --- */

const char *cfg_url_text(struct cfg *cfg, const struct yaml_node *node)
{
	const char *text = cfg_string(cfg, node);

	for (const char *p = text; p && *p; p++) {
		if (*p <= ' ' || *p >= 0x7f || *p == '#') {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
				  "write other characters with a percent sign",
				  "\"%.200s\" is no piece of a URL", text);
			return NULL;
		}
	}
	return text;
}

const char *cfg_path_spelled(struct cfg *cfg, const struct yaml_node *node, const char *text,
			     bool ends)
{
	char *spelled = text ? flat_pool_alloc(cfg->pool, 3 * strlen(text) + 1) : NULL;
	bool good;

	if (!spelled) {
		cfg->oom |= text != NULL;
		return NULL;
	}
	good = flat_path_spell(text, ends, spelled);
	if (!good || (spelled[0] != '/' && spelled[0] != '*'))
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_ADVICE,
		    "write the path without its query, from its first slash on, with one slash "
		    "between segments",
		    "no request's path is like \"%.200s\": it matches nothing", text);
	return spelled;
}

void cfg_path_match(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *match)
{
	const char *spelled;

	if (!match->text || match->kind == FLAT_TEXT_REGEX || match->kind == FLAT_TEXT_PRESENT)
		return;
	spelled = cfg_path_spelled(cfg, node, match->text, match->kind == FLAT_TEXT_EXACT);
	if (!spelled)
		return;
	match->text = spelled;
	match->len = strlen(spelled);
}

void cfg_method_case(struct cfg *cfg, const struct yaml_node *node, const char *name)
{
	if (name && strpbrk(name, "abcdefghijklmnopqrstuvwxyz"))
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE, "write it in capitals",
			 "no request's method is like \"%.50s\": it matches nothing", name);
}

const char *cfg_host(struct cfg *cfg, const struct yaml_node *node, bool wildcard)
{
	const char *text = cfg_string(cfg, node);
	const char *name;
	struct flat_ip ip;
	char *host;

	if (!text)
		return NULL;
	host = flat_pool_strdup(cfg->pool, text);
	if (!host) {
		cfg->oom = true;
		return NULL;
	}
	for (size_t i = 0; host[i]; i++)
		host[i] = (char)tolower((unsigned char)host[i]);
	name = wildcard && strncmp(host, "*.", 2) == 0 ? host + 2 : host;
	if ((wildcard && strcmp(host, "*") == 0) || cfg_is_dns(name, true) ||
	    flat_ip_parse(host, &ip) == 0)
		return host;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
		  wildcard ? "write a name such as web.example.com, or *.example.com"
			   : "write the name of a service",
		  "\"%.200s\" is no host name", text);
	return NULL;
}

static bool is_port(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	/* strtoul() takes blanks and signs. */
	return *text >= '0' && *text <= '9' && !*end && port > 0 && port <= UINT16_MAX;
}

const char *cfg_host_port(struct cfg *cfg, const struct yaml_node *node)
{
	const char *text = cfg_string(cfg, node);
	struct flat_span host = flat_http_host(flat_span_of(text));
	struct flat_ip ip;
	bool good;
	char *out;

	if (!text || !text[host.len] || flat_ip_parse(text, &ip) == 0)
		return text ? cfg_host(cfg, node, false) : NULL;
	out = flat_pool_strdup(cfg->pool, text);
	if (!out) {
		cfg->oom = true;
		return NULL;
	}
	for (size_t i = 0; out[i]; i++)
		out[i] = (char)tolower((unsigned char)out[i]);
	out[host.len] = 0;
	good = cfg_is_dns(out, true) || flat_ip_parse(out, &ip) == 0;
	out[host.len] = ':';
	if (good && is_port(out + host.len + 1))
		return out;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write HOST or HOST:PORT",
		  "\"%.200s\" is no host with a port", text);
	return NULL;
}

const char *cfg_joined(struct cfg *cfg, const struct yaml_node *node)
{
	struct flat_strbuf all = {0};
	const struct yaml_item *item;
	const char *text = NULL;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return NULL;
	for (item = node->first; item; item = item->next) {
		const char *one = cfg_string(cfg, item->value);

		if (one && !is_token(one)) {
			cfg_error(cfg, &item->value->where, FLAT_DIAG_BAD_VALUE, "correct it",
				  "\"%.100s\" is no token of HTTP", one);
			continue;
		}
		flat_strbuf_puts(&all, item == node->first ? "" : ",");
		flat_strbuf_puts(&all, one ? one : "");
	}
	if (flat_strbuf_str(&all))
		text = flat_pool_strdup(cfg->pool, flat_strbuf_str(&all));
	cfg->oom |= !text;
	flat_strbuf_fini(&all);
	return text;
}

/* While one is read. */
struct exports {
	struct flat_export *out;
	const char **v; /* the namespaces */
	bool nobody;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, each once. Exported to nobody ("~") is exported to nobody, whoever else is named. */
static void settle_export(struct flat_export *out, const char **v, bool nobody)
{
	uint32_t n = 0;

	out->said = true;
	if (nobody || !out->limited)
		out->own = false;
	if (nobody || !out->limited || out->n == 0) {
		out->n = 0;
		return;
	}
	qsort(v, out->n, sizeof(*v), by_text);
	for (uint32_t i = 0; i < out->n; i++)
		if (n == 0 || strcmp(v[n - 1], v[i]) != 0)
			v[n++] = v[i];
	out->n = n;
}

static void export_one(struct cfg *cfg, const struct flat_where *where, const char *name,
		       struct exports *e)
{
	if (strcmp(name, "*") == 0)
		e->out->limited = false;
	else if (strcmp(name, ".") == 0)
		e->out->own = true;
	else if (strcmp(name, "~") == 0)
		e->nobody = true;
	else if (cfg_is_dns(name, false))
		e->v[e->out->n++] = name;
	else
		cfg_error(cfg, where, FLAT_DIAG_BAD_VALUE,
			  "name a namespace, \".\" (its own), \"*\" (all) or \"~\" (none)",
			  "\"%.100s\" is no namespace", name);
}

void cfg_export_to(struct cfg *cfg, const struct yaml_node *node, struct flat_export *out)
{
	struct exports e = {.out = out};
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	if (node->n > FLAT_CONFIG_LIST_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some",
			  "more than %u namespaces", FLAT_CONFIG_LIST_MAX);
		return;
	}
	e.v = cfg_array(cfg, node->n, sizeof(*e.v));
	*out = (struct flat_export){.limited = true, .namespaces = e.v, .where = node->where};
	for (item = e.v ? node->first : NULL; item; item = item->next) {
		const char *name = cfg_string(cfg, item->value);

		if (name)
			export_one(cfg, &item->value->where, name, &e);
	}
	settle_export(out, e.v, e.nobody);
}

void cfg_export_annotation(struct cfg *cfg, const struct yaml_node *node, struct flat_export *out)
{
	struct exports e = {.out = out};
	const char *text = cfg_string(cfg, node);
	size_t n = 1;
	char *item;
	char *rest;

	if (!text || !*text)
		return;
	for (const char *comma = strchr(text, ','); comma; comma = strchr(comma + 1, ','))
		n++;
	item = flat_pool_strdup(cfg->pool, text);
	e.v = cfg_array(cfg, n, sizeof(*e.v));
	cfg->oom |= !item;
	if (!item || !e.v)
		return;
	*out = (struct flat_export){.limited = true, .namespaces = e.v, .where = node->where};
	for (item = strtok_r(item, ", \t", &rest); item; item = strtok_r(NULL, ", \t", &rest))
		export_one(cfg, &node->where, item, &e);
	settle_export(out, e.v, e.nobody);
}
