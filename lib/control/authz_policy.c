/* AuthorizationPolicy (security.istio.io) -> struct flat_authz_policy. */
#include <stdio.h>
#include <string.h>

#include "control/authz_value.h"

/* What is being read: a policy, and within it one rule, and within that one clause. */
struct reading {
	struct flat_authz_policy *policy;
	struct flat_authz_rule *rules;
	struct flat_authz_rule *rule;
	struct flat_clause *clauses; /* of the `from` or `to` list being read */
	uint32_t n_clauses;
	struct flat_condition *conditions; /* of the clause being read */
	uint32_t n_conditions;
	bool http; /* the rule asks for what a connection does not have */
	/* One condition of `when`. */
	const struct yaml_node *when_key, *when_values, *when_not_values;
	bool has_accounts, has_identities;
	const struct yaml_node *provider;
};

/* The condition of an attribute in the clause being read, made if need be; room is for one of each. */
static struct flat_condition *condition_of(struct reading *r, enum flat_attribute attribute)
{
	uint32_t i;

	for (i = 0; i < r->n_conditions; i++)
		if (r->conditions[i].attribute == attribute)
			return &r->conditions[i];
	r->conditions[r->n_conditions].attribute = attribute;
	return &r->conditions[r->n_conditions++];
}

static void add_values(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
		       enum flat_attribute attribute, bool negative)
{
	struct flat_condition *c = condition_of(r, attribute);

	if (attribute == FLAT_ATTR_SOURCE_SERVICE_ACCOUNT)
		r->has_accounts = true;
	else if (attribute == FLAT_ATTR_SOURCE_PRINCIPAL || attribute == FLAT_ATTR_SOURCE_NAMESPACE)
		r->has_identities = true;
	r->http |= attribute >= FLAT_ATTR_HTTP_HOST;
	if (negative)
		c->not_values = cfg_authz_values(cfg, node, attribute, &c->n_not_values);
	else
		c->values = cfg_authz_values(cfg, node, attribute, &c->n_values);
}

/* The action may stand after the rules, so the warning tells of both. */
static void not_honoured(struct cfg *cfg, struct reading *r, const char *name,
			 const struct flat_where *where)
{
	(void)condition_of(r, FLAT_ATTR_UNKNOWN);
	r->http = true;
	cfg_warn(
	    cfg, where, FLAT_DIAG_NOT_HONOURED, "use another attribute",
	    "attribute \"%s\" is not honoured: an ALLOW rule with it matches nothing, a DENY or "
	    "CUSTOM rule matches without it",
	    name);
}

/*
 * A field without a value would count as absent, and so widen the rule to anybody: refused here, where
 * other kinds read it as Kubernetes does.
 */
static void refuse_nulls(struct cfg *cfg, const struct yaml_node *node)
{
	const struct yaml_item *item;

	for (item = node->kind == YAML_MAP ? node->first : NULL; item; item = item->next)
		if (yaml_is_null(item->value))
			cfg_error(cfg, &item->key->where, FLAT_DIAG_MISSING,
				  "give it a value or remove it", "field \"%.100s\" has no value",
				  item->key->text);
}

#define LIST_FIELD(fn, attribute, negative)                                                        \
	static void fn(struct cfg *cfg, const struct yaml_node *node, void *obj)                   \
	{                                                                                          \
		add_values(cfg, node, obj, attribute, negative);                                   \
	}
LIST_FIELD(parse_principals, FLAT_ATTR_SOURCE_PRINCIPAL, false)
LIST_FIELD(parse_not_principals, FLAT_ATTR_SOURCE_PRINCIPAL, true)
LIST_FIELD(parse_namespaces, FLAT_ATTR_SOURCE_NAMESPACE, false)
LIST_FIELD(parse_not_namespaces, FLAT_ATTR_SOURCE_NAMESPACE, true)
LIST_FIELD(parse_trust_domains, FLAT_ATTR_SOURCE_TRUST_DOMAIN, false)
LIST_FIELD(parse_not_trust_domains, FLAT_ATTR_SOURCE_TRUST_DOMAIN, true)
LIST_FIELD(parse_accounts, FLAT_ATTR_SOURCE_SERVICE_ACCOUNT, false)
LIST_FIELD(parse_not_accounts, FLAT_ATTR_SOURCE_SERVICE_ACCOUNT, true)
LIST_FIELD(parse_ip_blocks, FLAT_ATTR_SOURCE_IP, false)
LIST_FIELD(parse_not_ip_blocks, FLAT_ATTR_SOURCE_IP, true)
LIST_FIELD(parse_remote_blocks, FLAT_ATTR_REMOTE_IP, false)
LIST_FIELD(parse_not_remote_blocks, FLAT_ATTR_REMOTE_IP, true)
LIST_FIELD(parse_ports, FLAT_ATTR_DESTINATION_PORT, false)
LIST_FIELD(parse_not_ports, FLAT_ATTR_DESTINATION_PORT, true)

LIST_FIELD(parse_hosts, FLAT_ATTR_HTTP_HOST, false)
LIST_FIELD(parse_not_hosts, FLAT_ATTR_HTTP_HOST, true)
LIST_FIELD(parse_methods, FLAT_ATTR_HTTP_METHOD, false)
LIST_FIELD(parse_not_methods, FLAT_ATTR_HTTP_METHOD, true)
LIST_FIELD(parse_paths, FLAT_ATTR_HTTP_PATH, false)
LIST_FIELD(parse_not_paths, FLAT_ATTR_HTTP_PATH, true)

LIST_FIELD(parse_request_principals, FLAT_ATTR_REQUEST_PRINCIPAL, false)
LIST_FIELD(parse_not_request_principals, FLAT_ATTR_REQUEST_PRINCIPAL, true)

static void parse_source(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("principals", parse_principals),
	    CFG_FIELD("notPrincipals", parse_not_principals),
	    CFG_FIELD("namespaces", parse_namespaces),
	    CFG_FIELD("notNamespaces", parse_not_namespaces),
	    CFG_FIELD("trustDomains", parse_trust_domains),
	    CFG_FIELD("notTrustDomains", parse_not_trust_domains),
	    CFG_FIELD("serviceAccounts", parse_accounts),
	    CFG_FIELD("notServiceAccounts", parse_not_accounts),
	    CFG_FIELD("ipBlocks", parse_ip_blocks),
	    CFG_FIELD("notIpBlocks", parse_not_ip_blocks),
	    CFG_FIELD("remoteIpBlocks", parse_remote_blocks),
	    CFG_FIELD("notRemoteIpBlocks", parse_not_remote_blocks),
	    CFG_FIELD("requestPrincipals", parse_request_principals),
	    CFG_FIELD("notRequestPrincipals", parse_not_request_principals),
	};
	struct reading *r = obj;

	refuse_nulls(cfg, node);
	r->has_accounts = false;
	r->has_identities = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (r->has_accounts && r->has_identities)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use one of them, or two sources",
			  "serviceAccounts cannot stand beside principals or namespaces");
	if (node->kind == YAML_MAP && node->n == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "name who it is, or remove \"from\" for anybody", "an empty source");
}

static void parse_operation(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("ports", parse_ports),	 CFG_FIELD("notPorts", parse_not_ports),
	    CFG_FIELD("hosts", parse_hosts),	 CFG_FIELD("notHosts", parse_not_hosts),
	    CFG_FIELD("methods", parse_methods), CFG_FIELD("notMethods", parse_not_methods),
	    CFG_FIELD("paths", parse_paths),	 CFG_FIELD("notPaths", parse_not_paths),
	};

	refuse_nulls(cfg, node);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && node->n == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "name the ports, or remove \"to\" for any", "an empty operation");
}

/* One item of `from` or `to`: its conditions become one clause. */
static void parse_clause(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
			 const struct cfg_field *field)
{
	struct flat_clause *clause = &r->clauses[r->n_clauses++];

	/* At most one condition for each attribute. */
	r->conditions = cfg_array(cfg, FLAT_ATTRIBUTES, sizeof(*r->conditions));
	r->n_conditions = 0;
	if (!r->conditions)
		return;
	refuse_nulls(cfg, node);
	cfg_map(cfg, node, field, 1, r);
	if (node->kind == YAML_MAP && !yaml_get(node, field->name))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it, or remove the item",
			  "field \"%s\" is missing", field->name);
	clause->v = r->conditions;
	clause->n = r->n_conditions;
}

static void parse_from_item(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field field = CFG_FIELD("source", parse_source);

	parse_clause(cfg, node, obj, &field);
}

static void parse_to_item(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field field = CFG_FIELD("operation", parse_operation);

	parse_clause(cfg, node, obj, &field);
}

/* A list of clauses; an empty one is refused, as Istio does: it could mean none or all. */
static bool begin_clauses(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	r->n_clauses = 0;
	r->clauses = NULL;
	if (!cfg_expect(cfg, node, YAML_LIST))
		return false;
	if (node->n == 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "remove the field or fill the list",
			  "an empty list, which could mean nobody or everybody");
		return false;
	}
	r->clauses = cfg_array(cfg, node->n, sizeof(*r->clauses));
	return r->clauses != NULL;
}

static void parse_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!begin_clauses(cfg, node, r))
		return;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_from_item, r);
	r->rule->from = r->clauses;
	r->rule->n_from = r->n_clauses;
}

static void parse_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!begin_clauses(cfg, node, r))
		return;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_to_item, r);
	r->rule->to = r->clauses;
	r->rule->n_to = r->n_clauses;
}

static void parse_when_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (cfg_string(cfg, node))
		r->when_key = node;
}

static void parse_when_values(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (cfg_expect(cfg, node, YAML_LIST))
		r->when_values = node;
}

static void parse_when_not_values(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (cfg_expect(cfg, node, YAML_LIST))
		r->when_not_values = node;
}

/* What `when` may ask for; those with a name in brackets are compared up to it. */
static const struct {
	const char *key;
	enum flat_attribute attribute;
	bool named;
} when_keys[] = {
    {"source.ip", FLAT_ATTR_SOURCE_IP, false},
    {"remote.ip", FLAT_ATTR_REMOTE_IP, false},
    {"source.namespace", FLAT_ATTR_SOURCE_NAMESPACE, false},
    {"source.principal", FLAT_ATTR_SOURCE_PRINCIPAL, false},
    {"source.trustDomain", FLAT_ATTR_SOURCE_TRUST_DOMAIN, false},
    {"destination.ip", FLAT_ATTR_DESTINATION_IP, false},
    {"destination.port", FLAT_ATTR_DESTINATION_PORT, false},
    {"source.serviceAccount", FLAT_ATTR_SOURCE_SERVICE_ACCOUNT, false},
    /* HTTP/2's fields in the place of a start line: of these a request of HTTP/1 has three as well. */
    {"request.headers[:method]", FLAT_ATTR_HTTP_HEADER, false},
    {"request.headers[:path]", FLAT_ATTR_HTTP_HEADER, false},
    {"request.headers[:authority]", FLAT_ATTR_HTTP_HEADER, false},
    {"request.headers[:", FLAT_ATTR_UNKNOWN, true},
    {"request.headers", FLAT_ATTR_HTTP_HEADER, true},
    {"connection.sni", FLAT_ATTR_SNI, false},
    {"request.auth.principal", FLAT_ATTR_REQUEST_PRINCIPAL, false},
    {"request.auth.audiences", FLAT_ATTR_CLAIM, false},
    {"request.auth.presenter", FLAT_ATTR_CLAIM, false},
    {"request.auth.claims", FLAT_ATTR_CLAIM, true},
    {"experimental.envoy.filters.", FLAT_ATTR_UNKNOWN, true},
};

/* Index in when_keys, -1: unknown. */
static int when_index(const char *key)
{
	size_t i;

	for (i = 0; i < FLAT_ARRAY_SIZE(when_keys); i++) {
		size_t len = strlen(when_keys[i].key);

		if (!when_keys[i].named && strcmp(key, when_keys[i].key) == 0)
			return (int)i;
		if (when_keys[i].named && strncmp(key, when_keys[i].key, len) == 0 &&
		    (key[len] == '[' || key[len - 1] == '.' || key[len - 1] == ':'))
			return (int)i;
	}
	return -1;
}

/* "request.headers[NAME]" -> NAME. */
static const char *header_name(struct cfg *cfg, const struct yaml_node *key)
{
	const char *begin = strchr(key->text, '[') + 1;
	size_t len = strlen(begin);
	char *name;

	if (len < 2 || begin[len - 1] != ']') {
		cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE, "write request.headers[NAME]",
			  "\"%.200s\" names no header", key->text);
		return NULL;
	}
	name = flat_pool_strndup(cfg->pool, begin, len - 1);
	cfg->oom |= !name;
	return name;
}

/* "request.auth.claims[A][B]" -> A, B; audiences and presenter are claims with names of their own. */
static void claim_path(struct cfg *cfg, const struct yaml_node *key, struct flat_condition *c)
{
	static const char *const aud[] = {"aud"};
	static const char *const azp[] = {"azp"};
	const char *at = strchr(key->text, '[');
	const char **path;
	bool good = true;

	c->n_path = 1;
	c->path = strcmp(key->text, "request.auth.audiences") == 0 ? aud : azp;
	if (!at)
		return;
	c->n_path = 0;
	path = cfg_array(cfg, strlen(at), sizeof(*path));
	c->path = path;
	while (path && good && *at) {
		size_t len = at[0] == '[' ? strcspn(at + 1, "[]") : 0;

		good = len > 0 && at[1 + len] == ']';
		if (good) {
			path[c->n_path] = flat_pool_strndup(cfg->pool, at + 1, len);
			cfg->oom |= !path[c->n_path++];
			at += len + 2;
		}
	}
	if (!good)
		cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE,
			  "write request.auth.claims[NAME], or [NAME][NAME] for one within another",
			  "\"%.200s\" names no claim", key->text);
}

static void hint_at_key(struct cfg *cfg, const struct yaml_node *key)
{
	const char *names[FLAT_ARRAY_SIZE(when_keys)], *near;
	char todo[128];
	size_t i;

	for (i = 0; i < FLAT_ARRAY_SIZE(when_keys); i++)
		names[i] = when_keys[i].key;
	near = cfg_nearest(key->text, names, FLAT_ARRAY_SIZE(names));
	/* It is known, but needs a name. */
	if (near && strcmp(near, key->text) == 0) {
		cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE, "add it in brackets: [NAME]",
			  "attribute \"%.100s\" without a name", key->text);
		return;
	}
	(void)snprintf(todo, sizeof(todo), near ? "did you mean \"%s\"?" : "see %s",
		       near ? near : "docs/configuration.md");
	cfg_error(cfg, &key->where, FLAT_DIAG_BAD_VALUE, todo, "unknown attribute \"%.100s\"",
		  key->text);
}

static void add_when(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	int i = when_index(r->when_key->text);
	struct flat_condition *c;

	if (i < 0) {
		hint_at_key(cfg, r->when_key);
		return;
	}
	if (!r->when_values && !r->when_not_values) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add one of them",
			  "a condition needs \"values\" or \"notValues\"");
		return;
	}
	if (when_keys[i].attribute == FLAT_ATTR_UNKNOWN) {
		not_honoured(cfg, r, r->when_key->text, &r->when_key->where);
		return;
	}
	c = &r->conditions[r->n_conditions++];
	c->attribute = when_keys[i].attribute;
	r->http |= c->attribute >= FLAT_ATTR_HTTP_HOST;
	if (c->attribute == FLAT_ATTR_HTTP_HEADER)
		c->name = header_name(cfg, r->when_key);
	if (c->attribute == FLAT_ATTR_CLAIM)
		claim_path(cfg, r->when_key, c);
	if (r->when_values)
		c->values = cfg_authz_values(cfg, r->when_values, c->attribute, &c->n_values);
	if (r->when_not_values)
		c->not_values =
		    cfg_authz_values(cfg, r->when_not_values, c->attribute, &c->n_not_values);
}

static void parse_when_item(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("key", parse_when_key),
	    CFG_FIELD("values", parse_when_values),
	    CFG_FIELD("notValues", parse_when_not_values),
	};
	struct reading *r = obj;

	r->when_key = NULL;
	r->when_values = NULL;
	r->when_not_values = NULL;
	refuse_nulls(cfg, node);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (r->when_key)
		add_when(cfg, node, r);
	else if (node->kind == YAML_MAP)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"key\" is missing");
}

static void parse_when(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->conditions = cfg_array(cfg, node->n, sizeof(*r->conditions));
	r->n_conditions = 0;
	if (!r->conditions)
		return;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_when_item, r);
	r->rule->when.v = r->conditions;
	r->rule->when.n = r->n_conditions;
}

static void parse_rule(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("from", parse_from),
	    CFG_FIELD("to", parse_to),
	    CFG_FIELD("when", parse_when),
	};
	struct reading *r = obj;

	r->rule = &r->rules[r->policy->n_rules++];
	r->rule->where = node->where;
	r->http = false;
	refuse_nulls(cfg, node);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	r->rule->http = r->http;
}

static void parse_rules(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->rules = cfg_array(cfg, node->n, sizeof(*r->rules));
	if (!r->rules)
		return;
	r->policy->rules = r->rules;
	(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_rule, r);
}

static void parse_action(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"ALLOW", "DENY", "CUSTOM", "AUDIT"};
	struct reading *r = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i < 0)
		return;
	r->policy->action = (enum flat_authz_action)i;
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->policy->selector = cfg_match_labels(cfg, node);
}

static void parse_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_policy_targets(cfg, node, &((struct reading *)obj)->policy->targets);
}

static void parse_provider_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->policy->provider = cfg_string(cfg, node);
}

static void parse_provider(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field field = CFG_FIELD("name", parse_provider_name);
	struct reading *r = obj;

	r->provider = node;
	cfg_map(cfg, node, &field, 1, r);
	if (node->kind == YAML_MAP && !yaml_get(node, "name"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("selector", parse_selector), CFG_FIELD("targetRef", parse_target),
	    CFG_FIELD("targetRefs", parse_target), CFG_FIELD("rules", parse_rules),
	    CFG_FIELD("action", parse_action),	   CFG_FIELD("provider", parse_provider),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void settle(struct cfg *cfg, struct reading *r)
{
	if (r->policy->targets.n && r->policy->selector.n)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "selector and targetRef exclude each other");
	if (r->provider && r->policy->action != FLAT_AUTHZ_CUSTOM)
		cfg_error(cfg, &r->provider->where, FLAT_DIAG_BAD_VALUE, "remove it",
			  "\"provider\" belongs to action CUSTOM only");
	if (!r->provider && r->policy->action == FLAT_AUTHZ_CUSTOM)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "name it",
			  "action CUSTOM needs a \"provider\"");
	/* Istio's webhook refuses them; who writes one mostly means everything. */
	if (r->policy->n_rules == 0 && r->policy->action != FLAT_AUTHZ_ALLOW)
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_ADVICE,
			 "add rules: an empty one ({}) matches everything",
			 "a policy of this action without rules matches nothing");
}

void cfg_authorization_policy(struct cfg *cfg, const struct yaml_node *root)
{
	static const char *const annotations[] = {"istio.io/dry-run"};
	struct reading r = {.policy = cfg_array(cfg, 1, sizeof(*r.policy))};
	const struct yaml_node *dry_run = yaml_get(cfg->annotations, annotations[0]);

	if (!r.policy)
		return;
	r.policy->name = cfg->name;
	r.policy->namespace = cfg->namespace;
	r.policy->where = cfg->where;
	cfg_check_annotations(cfg, annotations, 1);
	cfg_spec(cfg, root, parse_spec, &r);
	if (dry_run && cfg_bool(cfg, dry_run)) {
		r.policy->dry_run = true;
		if (r.policy->action != FLAT_AUTHZ_ALLOW && r.policy->action != FLAT_AUTHZ_DENY)
			cfg_warn(cfg, &dry_run->where, FLAT_DIAG_NOT_HONOURED,
				 "dry run is for ALLOW and DENY",
				 "under dry run a policy of this action has no effect at all");
	}
	settle(cfg, &r);
	if (flat_mesh_add_authz(cfg->mesh, r.policy))
		cfg->oom = true;
}
