/* HTTPRoute, GRPCRoute, TCPRoute and TLSRoute (gateway.networking.k8s.io) for Services: what is written. What it means: gateway_api.c. */
#include "control/http_route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct reading {
	struct api_reference to;
	struct api_route *route;
	struct api_rule *rule;
	const struct yaml_node *rule_name; /* NULL: it has none */
	struct flat_http_match *match;
	struct flat_named_match *first, *named; /* of a list, and the one being read */
	struct flat_text_match *text;		/* likewise */
	struct flat_header_ops *ops;
	struct flat_name_value *pairs, *pair; /* likewise */
	struct flat_route_destination *destination;
	struct flat_http_redirect *redirect;
	struct flat_http_rewrite *rewrite;
	const char *type, *value;
	const char *full, *prefix; /* of a path modifier */
	const struct yaml_node *value_node;
	unsigned filters; /* bits of those that were read, of a list */
	bool backend;	  /* a backendRef's filters are being read */
};

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->type = cfg_string(cfg, node);
}

static void parse_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->value_node = node;
	if (cfg_expect(cfg, node, YAML_SCALAR))
		r->value = *node->text ? cfg_string(cfg, node) : "";
}

/* --- matches --- */

static void set_regex(struct cfg *cfg, struct flat_text_match *m, const struct yaml_node *node)
{
	const char *error = NULL;

	m->kind = FLAT_TEXT_REGEX;
	m->regex = flat_regex_compile(cfg->pool, m->text, false, &error);
	if (m->regex)
		return;
	m->kind = FLAT_TEXT_EXACT;
	cfg->oom |= !error;
	if (error)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use the syntax of RE2",
			  "the regular expression \"%.200s\" is not taken: %s", m->text, error);
}

/* What `type` and `value` say; the first of `types` is the default. */
static void set_text(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
		     const char *const *types, size_t n, struct flat_text_match *m)
{
	size_t i = 0;

	while (r->type && i < n && strcmp(types[i], r->type) != 0)
		i++;
	if (i == n) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use one that is known",
			  "\"%.100s\" is no type of match", r->type);
		return;
	}
	m->text = r->value ? r->value : "";
	m->len = strlen(m->text);
	m->kind = FLAT_TEXT_EXACT;
	if (strcmp(types[i], "RegularExpression") == 0)
		set_regex(cfg, m, r->value_node ? r->value_node : node);
	if (strcmp(types[i], "PathPrefix") != 0)
		return;
	m->kind = FLAT_TEXT_PATH;
}

/* As paths of requests are spelled. A prefix "/a/" means "/a". */
static void spell(struct cfg *cfg, const struct yaml_node *node, struct flat_text_match *m)
{
	cfg_path_match(cfg, node, m);
	while (m->kind == FLAT_TEXT_PATH && m->len > 0 && m->text[m->len - 1] == '/')
		m->len--;
}

static void parse_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const types[] = {"PathPrefix", "Exact", "RegularExpression"};
	static const struct cfg_field fields[] = {
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("value", parse_value),
	};
	struct reading *r = obj;
	struct flat_text_match *m = cfg_array(cfg, 1, sizeof(*m));

	r->type = NULL;
	r->value = "/";
	r->value_node = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!m)
		return;
	set_text(cfg, node, r, types, FLAT_ARRAY_SIZE(types), m);
	r->match->uri = m;
	if (m->kind != FLAT_TEXT_REGEX && m->text && m->text[0] != '/')
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin it with a slash",
			  "\"%.200s\" is no path", m->text);
	else
		spell(cfg, node, m);
}

static void parse_method(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_text_match *m = cfg_array(cfg, 1, sizeof(*m));
	const char *text = cfg_string(cfg, node);

	if (!m || !text)
		return;
	cfg_method_case(cfg, node, text);
	*m = (struct flat_text_match){.kind = FLAT_TEXT_EXACT, .text = text, .len = strlen(text)};
	((struct reading *)obj)->match->method = m;
}

static void parse_header_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->to.name = cfg_header_name(cfg, node, false);
}

static void read_named(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
		       cfg_parse_fn *name)
{
	static const char *const types[] = {"Exact", "RegularExpression"};
	const struct cfg_field fields[] = {
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("name", name),
	    CFG_FIELD("value", parse_value),
	};

	r->type = r->to.name = NULL;
	r->value = "";
	r->value_node = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	r->named->name = r->to.name ? r->to.name : "";
	set_text(cfg, node, r, types, FLAT_ARRAY_SIZE(types), &r->named->match);
}

/* Of several of one name the first alone counts (Gateway API, HTTPHeaderMatch and HTTPQueryParamMatch). */
static void keep_first(struct reading *r, int (*compare)(const char *, const char *))
{
	for (const struct flat_named_match *m = r->first; m < r->named; m++) {
		if (compare(m->name, r->named->name) == 0)
			return;
	}
	r->named++;
}

static void parse_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_named(cfg, node, obj, parse_header_name);
	keep_first(obj, strcasecmp);
}

static void parse_query(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_named(cfg, node, obj, cfg_api_name);
	keep_first(obj, strcmp);
}

static const struct flat_named_match *read_list(struct cfg *cfg, const struct yaml_node *node,
						struct reading *r, cfg_parse_fn *one, uint32_t *n)
{
	struct flat_named_match *v;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return NULL;
	v = r->first = r->named = cfg_array(cfg, node->n, sizeof(*v));
	if (v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, one, r);
	*n = (uint32_t)(r->named - r->first);
	return v;
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->match->headers = read_list(cfg, node, r, parse_header, &r->match->n_headers);
}

static void parse_params(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->match->query = read_list(cfg, node, r, parse_query, &r->match->n_query);
}

static void parse_grpc_method(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->match->uri = cfg_grpc_method(cfg, node);
}

static void parse_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("path", parse_path),
	    CFG_FIELD("headers", parse_headers),
	    CFG_FIELD("queryParams", parse_params),
	    CFG_FIELD("method", parse_method),
	};
	static const struct cfg_field of_grpc[] = {
	    CFG_FIELD("headers", parse_headers),
	    CFG_FIELD("method", parse_grpc_method),
	};
	struct reading *r = obj;

	r->match = &r->rule->matches[r->rule->n_matches++];
	r->match->where = node->where;
	if (r->route->kind == API_GRPC)
		cfg_map(cfg, node, of_grpc, FLAT_ARRAY_SIZE(of_grpc), r);
	else
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

static void parse_matches(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->rule->matches = cfg_array(cfg, node->n, sizeof(*r->rule->matches));
	if (r->rule->matches)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_match, r);
}

/* --- filters --- */

static void parse_pair_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->pair->name = cfg_header_name(cfg, node, true);
}

static void parse_pair_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->pair->value = cfg_header_value(cfg, node);
}

static void parse_pair(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_pair_name),
	    CFG_FIELD("value", parse_pair_value),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;
	const struct flat_name_value *p;

	*r->pair = (struct flat_name_value){.name = NULL};
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors == errors && (!r->pair->name || !r->pair->value))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give both",
			  "a header needs name and value");
	/* Of several of one name the first alone counts (Gateway API, HTTPHeaderFilter). */
	for (p = r->pairs; p < r->pair; p++) {
		if (p->name && r->pair->name && strcasecmp(p->name, r->pair->name) == 0)
			return;
	}
	r->pair++;
}

static const struct flat_name_value *read_pairs(struct cfg *cfg, const struct yaml_node *node,
						struct reading *r, uint32_t *n)
{
	struct flat_name_value *v;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return NULL;
	v = r->pairs = r->pair = cfg_array(cfg, node->n, sizeof(*v));
	if (v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_pair, r);
	*n = (uint32_t)(r->pair - r->pairs);
	return v;
}

static void parse_set(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->ops->set = read_pairs(cfg, node, r, &r->ops->n_set);
}

static void parse_add(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->ops->add = read_pairs(cfg, node, r, &r->ops->n_add);
}

static void parse_remove(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	cfg_header_names(cfg, node, r->ops);
}

static void read_modifier(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
			  struct flat_header_ops *ops)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("set", parse_set),
	    CFG_FIELD("add", parse_add),
	    CFG_FIELD("remove", parse_remove),
	};

	r->ops = ops;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
}

static void parse_request_modifier(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	read_modifier(cfg, node, r,
		      r->backend ? &r->destination->request : &r->rule->route.request);
}

static void parse_response_modifier(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	read_modifier(cfg, node, r,
		      r->backend ? &r->destination->response : &r->rule->route.response);
}

static void parse_full(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->full = cfg_url_text(cfg, node);
}

static void parse_replace_prefix(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (cfg_expect(cfg, node, YAML_SCALAR))
		r->prefix = *node->text ? cfg_url_text(cfg, node) : "/";
}

static void read_path(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("replaceFullPath", parse_full),
	    CFG_FIELD("replacePrefixMatch", parse_replace_prefix),
	};

	r->full = r->prefix = r->type = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if ((r->full != NULL) == (r->prefix != NULL) ||
	    (r->type && strcmp(r->type, r->full ? "ReplaceFullPath" : "ReplacePrefixMatch") != 0))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "give one of replaceFullPath and replacePrefixMatch, as type says",
			  "a path is replaced in one way");
}

static void parse_redirect_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	read_path(cfg, node, r);
	r->redirect->uri = r->full;
	r->redirect->prefix = r->prefix;
}

static void parse_redirect_scheme(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"http", "https"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct reading *)obj)->redirect->scheme = names[i];
}

static void parse_redirect_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->redirect->authority = cfg_host(cfg, node, false);
}

static void parse_redirect_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->redirect->port = cfg_port(cfg, node);
}

static void parse_redirect_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"301", "302", "303", "307", "308"};
	static const uint16_t codes[] = {301, 302, 303, 307, 308};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct reading *)obj)->redirect->status = codes[i];
}

static void parse_redirect(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("scheme", parse_redirect_scheme),
	    CFG_FIELD("hostname", parse_redirect_host),
	    CFG_FIELD("path", parse_redirect_path),
	    CFG_FIELD("port", parse_redirect_port),
	    CFG_FIELD("statusCode", parse_redirect_status),
	};
	struct reading *r = obj;
	struct flat_http_redirect *d = cfg_array(cfg, 1, sizeof(*d));

	if (!d)
		return;
	r->redirect = d;
	d->status = 302;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	/* Without a port: the scheme's own, else the one that the request came to. */
	if (!d->port && d->scheme)
		d->port = strcmp(d->scheme, "https") == 0 ? 443 : 80;
	d->derive_port = !d->port;
	r->rule->route.redirect = d;
}

static void parse_rewrite_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	read_path(cfg, node, r);
	r->rewrite->path = r->full;
	r->rewrite->uri = r->prefix;
}

static void parse_rewrite_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rewrite->authority = cfg_host(cfg, node, false);
}

static void parse_rewrite(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("hostname", parse_rewrite_host),
	    CFG_FIELD("path", parse_rewrite_path),
	};
	struct reading *r = obj;

	r->rewrite = cfg_array(cfg, 1, sizeof(*r->rewrite));
	if (!r->rewrite)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	r->rule->route.rewrite = r->rewrite;
}

/* A filter that nobody follows must not be left out in silence: the rule answers 500. */
static void parse_unknown_filter(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->rule->fails = true;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "take the filter out",
		 "extensions are not honoured: the rule answers 500");
}

/* --- mirrors --- */

static void parse_backend_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->destination->port = cfg_port(cfg, node);
}

static void parse_mirror(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_http_route *route = &r->rule->route;

	if (r->backend || route->n_mirrors == FLAT_CONFIG_MIRRORS_MAX) {
		parse_unknown_filter(cfg, node, obj);
		return;
	}
	if (!route->mirrors)
		route->mirrors = cfg_array(cfg, FLAT_CONFIG_MIRRORS_MAX, sizeof(*route->mirrors));
	if (route->mirrors)
		cfg_api_mirror(cfg, node, &route->mirrors[route->n_mirrors++]);
}

static void parse_cors(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_cors(cfg, node, ((struct reading *)obj)->rule);
}

/* What a filter may be, its type and the field that says what it does. */
static const struct {
	const char *type, *field;
	cfg_parse_fn *parse;
	bool of_backend, of_grpc;
} filters[] = {
    {"RequestHeaderModifier", "requestHeaderModifier", parse_request_modifier, true, true},
    {"ResponseHeaderModifier", "responseHeaderModifier", parse_response_modifier, true, true},
    {"RequestMirror", "requestMirror", parse_mirror, true, true},
    {"RequestRedirect", "requestRedirect", parse_redirect, false, false},
    {"URLRewrite", "urlRewrite", parse_rewrite, false, false},
    {"CORS", "cors", parse_cors, false, false},
    {"ExtensionRef", "extensionRef", parse_unknown_filter, true, true},
    {"ExternalAuth", "externalAuth", parse_unknown_filter, true, false},
};

/* Type and field belong together; a type that is not known must not be left out in silence. */
static void check_filter(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	/* Not r->type: what is within a filter may have a type too. */
	const struct yaml_node *type = yaml_get(node, "type");
	unsigned seen = 0;
	size_t i = 0;

	while (type && i < FLAT_ARRAY_SIZE(filters) && strcmp(filters[i].type, type->text) != 0)
		i++;
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(filters); k++)
		seen |= yaml_get(node, filters[k].field) ? 1U << k : 0;
	if (i == FLAT_ARRAY_SIZE(filters))
		parse_unknown_filter(cfg, node, r);
	else if (!type || seen != 1U << i)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write its type, and the one field that belongs to it",
			  "a filter whose type and field differ");
	/* Copies may go to several. */
	else if ((r->filters & seen) && filters[i].parse != parse_mirror)
		cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "join them",
			  "a second filter of type %s", type->text);
	r->filters |= seen;
}

static void parse_filter(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct cfg_field fields[FLAT_ARRAY_SIZE(filters) + 1] = {CFG_FIELD("type", parse_type)};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;
	size_t n = 1;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(filters); i++) {
		bool may = !r->backend || filters[i].of_backend;

		if (r->route->kind == API_GRPC && !filters[i].of_grpc)
			continue;
		fields[n++] = (struct cfg_field)CFG_FIELD(
		    filters[i].field, may ? filters[i].parse : parse_unknown_filter);
	}
	cfg_map(cfg, node, fields, n, r);
	if (cfg->diags->n_errors == errors)
		check_filter(cfg, node, r);
}

static void parse_filters(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->filters = 0;
	if (cfg_expect(cfg, node, YAML_LIST))
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_filter, obj);
}

/* --- backends --- */

static void parse_weight(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t weight;

	if (cfg_uint(cfg, node, 0, 1000000, &weight))
		((struct reading *)obj)->destination->weight = (uint32_t)weight;
}

/* The route holds; what is for this backend fails. */
static void no_service(struct cfg *cfg, const struct yaml_node *node,
		       const struct api_reference *to, struct flat_route_destination *d)
{
	if (!to->name) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "name a Service",
			  "a backend needs a \"name\"");
		return;
	}
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "name a Service",
		 "a backend of kind \"%.100s\" is not honoured: what is for \"%.200s\" fails",
		 to->kind ? to->kind : "", to->name);
	d->host = to->name;
	/* Nobody looks for its service. */
	d->settled = true;
}

static void parse_backend(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_API_REFERENCE,
	    CFG_FIELD("port", parse_backend_port),
	    CFG_FIELD("weight", parse_weight),
	    CFG_FIELD("filters", parse_filters),
	};
	struct reading *r = obj;
	const struct api_reference *to = &r->to;
	struct flat_route_destination *d;

	d = r->destination = &r->rule->route.destinations[r->rule->route.n_destinations++];
	d->where = node->where;
	d->weight = 1;
	d->fails = r->route->kind == API_HTTP;
	r->to = (struct api_reference){.group = "", .kind = "Service"};
	r->backend = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	r->backend = false;
	d->host = cfg_api_host(cfg, to);
	if (d->host && strcmp(to->kind, "Service") == 0 && to->namespace &&
	    strcmp(to->namespace, cfg->namespace) != 0)
		d->granted_by = to->namespace;
	if (!d->host)
		no_service(cfg, node, to, d);
	r->rule->route.weight += d->weight;
}

static void parse_backends(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_http_route *route = &r->rule->route;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	route->destinations = cfg_array(cfg, node->n, sizeof(*route->destinations));
	if (route->destinations)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_backend, r);
}

/* --- rules --- */

static void parse_request_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct reading *)obj)->rule->route.timeout_ms);
}

static void parse_backend_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_backend_timeout(cfg, node, ((struct reading *)obj)->rule);
}

static void parse_retry(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_retry(cfg, node, ((struct reading *)obj)->rule);
}

static void parse_timeouts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("request", parse_request_timeout),
	    CFG_FIELD("backendRequest", parse_backend_timeout),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* Sessions are a rule's own: named by its name, or else by its place. */
static void parse_persistence(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct reading *r = obj;
	const struct yaml_node *name = r->rule_name;
	char id[FLAT_CONFIG_NAME_MAX * 3 + 64];

	if (name && name->kind == YAML_SCALAR && *name->text)
		snprintf(id, sizeof(id), "%s/rule/%s", r->route->full_name, name->text);
	else
		snprintf(id, sizeof(id), "%s/%u", r->route->full_name, r->route->n_rules);
	r->rule->route.persistence = cfg_api_persistence(cfg, node, id);
}

static void parse_rule_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	if (name)
		((struct reading *)obj)->rule->route.name = name;
}

static void parse_rule(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_rule_name),
	    CFG_FIELD("matches", parse_matches),
	    CFG_FIELD("filters", parse_filters),
	    CFG_FIELD("backendRefs", parse_backends),
	    CFG_FIELD("timeouts", parse_timeouts),
	    CFG_FIELD("retry", parse_retry),
	    CFG_FIELD("sessionPersistence", parse_persistence),
	};
	static const struct cfg_field of_grpc[] = {
	    CFG_FIELD("name", parse_rule_name),
	    CFG_FIELD("matches", parse_matches),
	    CFG_FIELD("filters", parse_filters),
	    CFG_FIELD("backendRefs", parse_backends),
	    CFG_FIELD("sessionPersistence", parse_persistence),
	};
	static const struct cfg_field of_tcp[] = {
	    CFG_FIELD("name", parse_rule_name),
	    CFG_FIELD("backendRefs", parse_backends),
	};
	struct reading *r = obj;

	r->rule = &r->route->rules[r->route->n_rules++];
	r->rule->route.name = r->route->name;
	r->rule->route.where = node->where;
	r->rule_name = yaml_get(node, "name");
	if (r->route->kind == API_GRPC)
		cfg_map(cfg, node, of_grpc, FLAT_ARRAY_SIZE(of_grpc), r);
	else if (api_is_l4(r->route->kind))
		cfg_map(cfg, node, of_tcp, FLAT_ARRAY_SIZE(of_tcp), r);
	else
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	cfg_api_check_rule(cfg, node, r->rule);
}

static void parse_rules(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->route->rules = cfg_array(cfg, node->n, sizeof(*r->route->rules));
	if (r->route->rules)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_rule, r);
}

static void parse_parents(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_parents(cfg, node, ((struct reading *)obj)->route);
}

static void parse_hosts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_hosts(cfg, node, ((struct reading *)obj)->route);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("parentRefs", parse_parents),
	    CFG_FIELD("rules", parse_rules),
	    CFG_FIELD("hostnames", parse_hosts),
	    CFG_UNHONOURED("useDefaultGateways", "name Gateways"),
	};
	struct api_route *route = ((struct reading *)obj)->route;
	const struct yaml_node *hosts = yaml_get(node, "hostnames");
	const struct yaml_node *rules = yaml_get(node, "rules");

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (route->kind == API_HTTP && (!rules || yaml_is_null(rules)))
		cfg_api_default_rule(cfg, route);
	if (hosts && route->n_parents > 0 && route->n_hosts > 0 && route->kind != API_TLS)
		cfg_warn(cfg, &hosts->where, FLAT_DIAG_NOT_HONOURED,
			 "a route of a Service holds for all of its names",
			 "field \"hostnames\" is not honoured for Services");
}

static void read_route(struct cfg *cfg, const struct yaml_node *root, enum api_kind kind)
{
	struct reading r = {.route = cfg_array(cfg, 1, sizeof(*r.route))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.route)
		return;
	r.route->kind = kind;
	r.route->name = cfg->name;
	r.route->namespace = cfg->namespace;
	r.route->full_name = flat_pool_printf(cfg->pool, "%s/%s", cfg->namespace, cfg->name);
	cfg->oom |= !r.route->full_name;
	r.route->created = cfg_api_created(cfg);
	r.route->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	*cfg->api_last = r.route;
	cfg->api_last = &r.route->next;
}

void cfg_http_route(struct cfg *cfg, const struct yaml_node *root)
{
	read_route(cfg, root, API_HTTP);
}

void cfg_grpc_route(struct cfg *cfg, const struct yaml_node *root)
{
	read_route(cfg, root, API_GRPC);
}

void cfg_tcp_route(struct cfg *cfg, const struct yaml_node *root)
{
	read_route(cfg, root, API_TCP);
}

void cfg_tls_route(struct cfg *cfg, const struct yaml_node *root)
{
	read_route(cfg, root, API_TLS);
}
