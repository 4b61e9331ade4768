#include "mesh/authz.h"

#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* A piece of the principal; not NUL-terminated. NULL: absent. */
struct span {
	const char *text;
	size_t len;
};

/* What the conditions are asked about. */
struct subject {
	const struct flat_mesh *mesh;
	const struct flat_authz_input *input;
	struct span principal; /* without "spiffe://" */
	struct span namespace;
	struct span account;
	const struct flat_ip *remote_ip;
	bool deny; /* the policy asked is one that denies */
};

/* The path segment after "/`key`/" in a principal "TD/ns/NS/sa/SA", up to the next slash. */
static struct span segment(struct span principal, const char *key)
{
	struct span out = {NULL, 0};
	const char *start, *end;

	if (!principal.text)
		return out;
	start = strstr(principal.text, key);
	if (!start)
		return out;
	start += strlen(key);
	end = strchrnul(start, '/');
	if (end == start)
		return out;
	out.text = start;
	out.len = (size_t)(end - start);
	return out;
}

static void subject_init(struct subject *subject, const struct flat_mesh *mesh,
			 const struct flat_authz_input *input)
{
	static const char scheme[] = "spiffe://";
	const char *principal = input->source_principal;

	memset(subject, 0, sizeof(*subject));
	subject->mesh = mesh;
	subject->input = input;
	subject->remote_ip = input->remote_ip.family ? &input->remote_ip : &input->source_ip;
	if (!principal)
		return;
	if (strncmp(principal, scheme, sizeof(scheme) - 1) == 0)
		principal += sizeof(scheme) - 1;
	if (!*principal)
		return;
	subject->principal = (struct span){principal, strlen(principal)};
	subject->namespace = segment(subject->principal, "/ns/");
	/* After the namespace, which may be called "sa" as well. */
	if (subject->namespace.text) {
		const char *rest = subject->namespace.text + subject->namespace.len;
		subject->account = segment((struct span){rest, strlen(rest)}, "/sa/");
	}
}

/* `pattern` with stars against the span; linear in the product of the lengths, without recursion.
 */
static bool glob_match(const char *pattern, struct span value)
{
	const char *star = NULL, *p = pattern;
	size_t i = 0, mark = 0;

	while (i < value.len) {
		if (*p == '*') {
			star = p++;
			mark = i;
		} else if (*p && *p == value.text[i]) {
			p++;
			i++;
		} else if (star) {
			p = star + 1;
			i = ++mark;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return !*p;
}

/* A text value that is absent matches nothing, not even "*". */
static bool text_match(const struct flat_match *match, struct span value)
{
	size_t len;

	if (!value.text)
		return false;
	if (match->kind == FLAT_MATCH_REGEX)
		return flat_regex_match(match->regex, value.text, value.len);
	if (match->kind == FLAT_MATCH_PRESENT)
		return value.len > 0;
	if (match->kind == FLAT_MATCH_GLOB)
		return glob_match(match->text, value);
	len = strlen(match->text);
	if (len > value.len)
		return false;
	switch (match->kind) {
	case FLAT_MATCH_PREFIX:
		return memcmp(value.text, match->text, len) == 0;
	case FLAT_MATCH_SUFFIX:
		return memcmp(value.text + value.len - len, match->text, len) == 0;
	default:
		return len == value.len && memcmp(value.text, match->text, len) == 0;
	}
}

/* Trust domain `i` of this mesh: its own, then its aliases. */
static const char *trust_domain(const struct flat_mesh *mesh, uint32_t i)
{
	return i == 0 ? FLAT_TRUST_DOMAIN : mesh->trust_aliases[i - 1];
}

static bool is_trust_domain(const struct flat_mesh *mesh, struct span name)
{
	for (uint32_t i = 0; i < mesh->n_trust_aliases + 1; i++) {
		const char *own = trust_domain(mesh, i);

		if (strlen(own) == name.len && memcmp(own, name.text, name.len) == 0)
			return true;
	}
	return false;
}

/* A pattern without star that is one of the mesh's trust domains stands for each of them, as in Istio. */
static bool trust_domain_match(const struct flat_match *match, const struct subject *subject)
{
	struct span own = subject->principal;

	if (!own.text)
		return false;
	own.len = (size_t)(strchrnul(own.text, '/') - own.text);
	return text_match(match, own) ||
	       (match->kind == FLAT_MATCH_EXACT && is_trust_domain(subject->mesh, own) &&
		is_trust_domain(subject->mesh, (struct span){match->text, strlen(match->text)}));
}

/* An identity of one of the mesh's trust domains is one of each of them, as in Istio. */
static bool principal_match(const struct flat_match *match, const struct subject *subject)
{
	const struct flat_mesh *mesh = subject->mesh;
	struct span own = subject->principal;
	uint32_t n = mesh->n_trust_aliases + 1;
	const char *rest;
	char other[FLAT_AUTHZ_TEXT_MAX];
	bool known;

	if (text_match(match, own))
		return true;
	rest = n > 1 && own.text ? strchr(own.text, '/') : NULL;
	known = rest && is_trust_domain(mesh, (struct span){own.text, (size_t)(rest - own.text)});
	for (uint32_t i = 0; known && i < n; i++) {
		int len = snprintf(other, sizeof(other), "%s%s", trust_domain(mesh, i), rest);

		if (len > 0 && (size_t)len < sizeof(other) &&
		    text_match(match, (struct span){other, (size_t)len}))
			return true;
	}
	return false;
}

static bool account_match(const struct flat_match *match, const struct subject *subject)
{
	struct flat_match ns = {.kind = FLAT_MATCH_EXACT, .text = match->namespace};

	return text_match(&ns, subject->namespace) && text_match(match, subject->account);
}

static struct span span_of(struct flat_span s)
{
	return (struct span){s.text, s.len};
}

/* As text_match(), with letters of either case equal: hosts. */
static bool host_match(const struct flat_match *match, struct flat_span value)
{
	struct flat_span want = flat_span_of(match->text);

	if (!value.text || match->kind == FLAT_MATCH_PRESENT)
		return value.text && value.len > 0;
	if (want.len > value.len)
		return false;
	if (match->kind == FLAT_MATCH_SUFFIX)
		value.text += value.len - want.len;
	if (match->kind != FLAT_MATCH_EXACT)
		value.len = want.len;
	return flat_span_equal(value, want, true);
}

/*
 * As it was written by the client, with its port, as in Istio. Where a match denies, a pattern without port speaks of the host on whatever
 * port, and with a dot at its end: neither leads past it.
 */
static bool authority_match(const struct flat_match *match, const struct flat_http_request *http,
			    bool denies)
{
	struct flat_span host = http->host;

	if (host_match(match, http->authority))
		return true;
	if (!denies || (match->text && strchr(match->text, ':')))
		return false;
	if (host.len > 0 && host.text[host.len - 1] == '.')
		host.len--;
	return host_match(match, host);
}

/* What a template stands for in Envoy is pchar. One that is to allow knows no other characters; one that denies takes any. */
static bool path_match(const struct flat_match *match, struct flat_span path, bool denies)
{
	for (size_t i = 0; match->kind == FLAT_MATCH_REGEX && !denies && i < path.len; i++) {
		if (!strchr("/*" FLAT_TEMPLATE_CHARS, path.text[i]) || !path.text[i])
			return false;
	}
	return text_match(match, span_of(path));
}

static bool header_value(const struct flat_match *match, struct flat_span value)
{
	return match->kind == FLAT_MATCH_PRESENT ? value.text != NULL
						 : text_match(match, span_of(value));
}

/* What Envoy calls ":path": with the query. */
static bool target_match(const struct flat_match *match, const struct flat_http_request *http,
			 bool denies)
{
	char room[8192];
	struct flat_span target = flat_http_target(http, room, sizeof(room));

	return target.text ? text_match(match, span_of(target)) : denies;
}

/*
 * A header that stands several times: where a match denies, one of its values is enough, or all of them joined by commas: none hides
 * another. Else each of them has to match: nobody knows which one the server takes. (Envoy takes one for enough here, too.)
 */
static bool header_match(const struct flat_condition *c, const struct flat_match *match,
			 const struct flat_http_request *http, bool denies)
{
	struct flat_span name = flat_span_of(c->name);
	struct flat_span value = flat_http_field_get(http, name, 0);
	char joined[8192];
	bool overflow = false;

	if (strcmp(c->name, ":path") == 0)
		return target_match(match, http, denies);
	if (strcmp(c->name, ":method") == 0)
		return text_match(match, span_of(http->method));
	if (strcmp(c->name, ":authority") == 0)
		return text_match(match, span_of(http->authority));
	if (!value.text || !flat_http_field_get(http, name, 1).text)
		return header_value(match, value);
	for (uint32_t n = 0; value.text; value = flat_http_field_get(http, name, ++n)) {
		if (header_value(match, value) == denies)
			return denies;
	}
	if (!denies)
		return true;
	value = flat_http_field_joined(http, name, joined, sizeof(joined), &overflow);
	return overflow || header_value(match, value);
}

/* --- tokens --- */

static struct span claim_text(const struct subject *subject, const char *name)
{
	const struct flat_json_node *node = flat_json_member(subject->input->claims, name);

	if (!node || node->kind != FLAT_JSON_TEXT)
		return (struct span){NULL, 0};
	return (struct span){node->text, node->len};
}

/* Istio: a request principal is a token's issuer and subject, and so there is none without both. */
static bool pair_match(const struct flat_match *match, const struct subject *subject)
{
	return text_match(&match->pair[0], claim_text(subject, "iss")) &&
	       text_match(&match->pair[1], claim_text(subject, "sub"));
}

static bool is_spaced(const struct flat_condition *c, const struct flat_authz_input *input)
{
	if (c->n_path != 1)
		return false;
	for (uint32_t i = 0; i < input->n_spaced; i++) {
		if (strcmp(c->path[0], input->spaced[i]) == 0)
			return true;
	}
	return strcmp(c->path[0], "scope") == 0 || strcmp(c->path[0], "permission") == 0;
}

static bool word_match(const struct flat_match *match, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, " ");

		if (len > 0 && text_match(match, (struct span){text, len}))
			return true;
		text += len + (text[len] == ' ');
	}
	return false;
}

/* A text, or one text of a list; other values match nothing, as in Istio. */
static bool claim_match(const struct flat_condition *c, const struct flat_match *match,
			const struct subject *subject)
{
	const struct flat_json_node *node = subject->input->claims;

	for (uint32_t i = 0; i < c->n_path && node; i++)
		node = flat_json_member(node, c->path[i]);
	if (!node)
		return false;
	if (node->kind == FLAT_JSON_TEXT && is_spaced(c, subject->input))
		return word_match(match, node->text);
	if (node->kind == FLAT_JSON_TEXT)
		return text_match(match, (struct span){node->text, node->len});
	node = node->kind == FLAT_JSON_LIST ? node->first : NULL;
	for (; node; node = node->next) {
		if (node->kind == FLAT_JSON_TEXT &&
		    text_match(match, (struct span){node->text, node->len}))
			return true;
	}
	return false;
}

/* `denies`: it is towards a refusal that this value matches. */
static bool value_match(const struct flat_condition *c, const struct flat_match *match,
			const struct subject *subject, bool denies)
{
	const struct flat_http_request *http = subject->input->http;

	switch (c->attribute) {
	case FLAT_ATTR_HTTP_HOST:
		return authority_match(match, http, denies);
	case FLAT_ATTR_HTTP_METHOD:
		return text_match(match, span_of(http->method));
	case FLAT_ATTR_HTTP_PATH:
		return path_match(match, http->path, denies);
	case FLAT_ATTR_HTTP_HEADER:
		return header_match(c, match, http, denies);
	case FLAT_ATTR_REQUEST_PRINCIPAL:
		return pair_match(match, subject);
	case FLAT_ATTR_CLAIM:
		return claim_match(c, match, subject);
	case FLAT_ATTR_SNI:
		return subject->input->sni &&
		       text_match(match, span_of(flat_span_of(subject->input->sni)));
	case FLAT_ATTR_UNKNOWN:
	case FLAT_ATTRIBUTES:
		return false;
	case FLAT_ATTR_SOURCE_PRINCIPAL:
		return principal_match(match, subject);
	case FLAT_ATTR_SOURCE_NAMESPACE:
		return text_match(match, subject->namespace);
	case FLAT_ATTR_SOURCE_TRUST_DOMAIN:
		return trust_domain_match(match, subject);
	case FLAT_ATTR_SOURCE_SERVICE_ACCOUNT:
		return account_match(match, subject);
	case FLAT_ATTR_SOURCE_IP:
		return flat_cidr_contains(&match->cidr, &subject->input->source_ip);
	case FLAT_ATTR_REMOTE_IP:
		return flat_cidr_contains(&match->cidr, subject->remote_ip);
	case FLAT_ATTR_DESTINATION_IP:
		return flat_cidr_contains(&match->cidr, &subject->input->destination_ip);
	case FLAT_ATTR_DESTINATION_PORT:
		return match->port == subject->input->destination_port;
	}
	return false;
}

static bool any_match(const struct flat_condition *c, bool negative, const struct subject *subject)
{
	const struct flat_match *values = negative ? c->not_values : c->values;
	uint32_t n = negative ? c->n_not_values : c->n_values;
	uint32_t i;

	for (i = 0; i < n; i++)
		if (value_match(c, &values[i], subject, subject->deny != negative))
			return true;
	return false;
}

/*
 * Whether the condition can be asked at all. Where not, it is left out of a rule that denies, which then matches more;
 * rules that allow are not asked (policy_match()), or do not hold.
 */
static bool askable(const struct flat_condition *c, const struct subject *subject)
{
	if (c->attribute == FLAT_ATTR_SNI)
		return subject->input->sni || subject->input->http;
	return c->attribute < FLAT_ATTR_HTTP_HOST ||
	       (subject->input->http && c->attribute != FLAT_ATTR_UNKNOWN);
}

static bool clause_holds(const struct flat_clause *clause, const struct subject *subject)
{
	uint32_t i;

	for (i = 0; i < clause->n; i++) {
		const struct flat_condition *c = &clause->v[i];

		if (!askable(c, subject)) {
			if (!subject->deny)
				return false;
			continue;
		}
		if (c->n_values && !any_match(c, false, subject))
			return false;
		if (any_match(c, true, subject))
			return false;
	}
	return true;
}

static bool one_holds(const struct flat_clause *clauses, uint32_t n, const struct subject *subject)
{
	uint32_t i;

	if (n == 0)
		return true;
	for (i = 0; i < n; i++)
		if (clause_holds(&clauses[i], subject))
			return true;
	return false;
}

/* The first rule that matches, or -1. */
static int policy_match(const struct flat_authz_policy *policy, const struct subject *subject)
{
	uint32_t i;

	for (i = 0; i < policy->n_rules; i++) {
		const struct flat_authz_rule *rule = &policy->rules[i];
		/* One of several clauses may be without HTTP: the rule as a whole is what counts. */
		bool asked = !rule->http || subject->input->http || subject->deny;

		if (asked && one_holds(rule->from, rule->n_from, subject) &&
		    one_holds(rule->to, rule->n_to, subject) && clause_holds(&rule->when, subject))
			return (int)i;
	}
	return -1;
}

static bool policy_selects(const struct flat_authz_policy *policy,
			   const struct flat_workload *workload)
{
	return mesh_policy_selects(policy->namespace, &policy->targets, &policy->selector,
				   workload);
}

/* The policies that may select the destination: its namespace's, then the root namespace's. */
struct candidates {
	const struct mesh_policies *lists[2];
};

static void candidates_init(struct candidates *candidates, const struct flat_mesh *mesh,
			    const struct flat_workload *workload)
{
	const struct mesh_scope *root = mesh_scope(mesh, mesh->root_namespace);
	const struct mesh_scope *own = NULL;

	if (workload)
		own = mesh_scope(mesh, workload->namespace);
	candidates->lists[0] = own && own != root ? &own->authz : NULL;
	candidates->lists[1] = root ? &root->authz : NULL;
}

/*
 * Looks for a policy of `action` with a matching rule. Returns it with *rule set, or NULL;
 * *selected is then the first policy of that action that selects the destination at all (NULL:
 * none).
 */
static const struct flat_authz_policy *find_policy(const struct candidates *candidates,
						   enum flat_authz_action action, bool dry_run,
						   struct subject *subject, int *rule,
						   const struct flat_authz_policy **selected)
{
	size_t l;
	uint32_t i;

	*selected = NULL;
	subject->deny = action != FLAT_AUTHZ_ALLOW;
	for (l = 0; l < FLAT_ARRAY_SIZE(candidates->lists); l++) {
		const struct mesh_policies *list = candidates->lists[l];

		for (i = 0; list && i < list->n; i++) {
			const struct flat_authz_policy *policy = list->v[i];

			if (policy->action != action || policy->dry_run != dry_run ||
			    !policy_selects(policy, subject->input->destination))
				continue;
			if (!*selected)
				*selected = policy;
			*rule = policy_match(policy, subject);
			if (*rule >= 0)
				return policy;
		}
	}
	return NULL;
}

static void describe(const struct subject *subject, struct flat_authz_verdict *verdict)
{
	const struct flat_workload *to = subject->input->destination;
	char ip[FLAT_IP_TEXT_MAX];
	int n;

	flat_ip_text(&subject->input->source_ip, ip);
	n = snprintf(
	    verdict->text, sizeof(verdict->text), "%s%s%s%s to port %u of %s%s%s is %s: ",
	    subject->principal.text ? subject->principal.text : "a client without identity",
	    ip[0] ? " (" : "", ip, ip[0] ? ")" : "", (unsigned)subject->input->destination_port,
	    to ? to->namespace : "", to ? "/" : "", to ? to->name : "a server that is no workload",
	    verdict->allowed			? "allowed"
	    : verdict->reason == FLAT_AUTHZ_ASK ? "not decided"
						: "denied");
	if (n < 0 || (size_t)n >= sizeof(verdict->text))
		return;
	switch (verdict->reason) {
	case FLAT_AUTHZ_NO_POLICY:
		(void)snprintf(verdict->text + n, sizeof(verdict->text) - (size_t)n,
			       "no ALLOW policy selects it");
		break;
	case FLAT_AUTHZ_NOT_ALLOWED:
		(void)snprintf(verdict->text + n, sizeof(verdict->text) - (size_t)n,
			       "no rule allows it (policy %s/%s, %s:%u, selects the destination)",
			       verdict->policy_namespace, verdict->policy_name,
			       verdict->where.file ? verdict->where.file : "", verdict->where.line);
		break;
	case FLAT_AUTHZ_DENIED_BY_CUSTOM:
	default:
		(void)snprintf(
		    verdict->text + n, sizeof(verdict->text) - (size_t)n,
		    "rule %d of %s policy %s/%s (%s:%u)%s", verdict->rule,
		    verdict->allowed ? "ALLOW"
		    : verdict->reason == FLAT_AUTHZ_ASK ||
			    verdict->reason == FLAT_AUTHZ_DENIED_BY_CUSTOM
			? "CUSTOM"
			: "DENY",
		    verdict->policy_namespace, verdict->policy_name,
		    verdict->where.file ? verdict->where.file : "", verdict->where.line,
		    verdict->reason == FLAT_AUTHZ_ASK ? " asks its external authorizer"
		    : verdict->reason == FLAT_AUTHZ_DENIED_BY_CUSTOM && verdict->ext
			? " asks an external authorizer over HTTP, and nothing says that the "
			  "port is not HTTP"
		    : verdict->reason == FLAT_AUTHZ_DENIED_BY_CUSTOM
			? " asks for an external authorizer that cannot be asked"
			: "");
		break;
	}
}

static void decide(struct flat_authz_verdict *verdict, const struct subject *subject,
		   enum flat_authz_reason reason, const struct flat_authz_policy *policy, int rule)
{
	verdict->reason = reason;
	verdict->allowed = reason == FLAT_AUTHZ_NO_POLICY || reason == FLAT_AUTHZ_ALLOWED_BY_RULE;
	verdict->rule = rule;
	if (policy) {
		verdict->policy_namespace = policy->namespace;
		verdict->policy_name = policy->name;
		verdict->where = rule >= 0 ? policy->rules[rule].where : policy->where;
	}
	if (!subject->input->brief)
		describe(subject, verdict);
}

/*
 * The CUSTOM policy that decides, or NULL: of those with a rule that matches the first in the order of their authorizers.
 * Each authorizer's policies are asked by themselves: one that cannot be asked denies what its own match, as in Istio.
 */
static const struct flat_authz_policy *find_custom(const struct candidates *candidates,
						   struct subject *subject, int *rule)
{
	const struct flat_authz_input *in = subject->input;
	const struct flat_authz_policy *first = NULL;

	subject->deny = true;
	for (size_t l = 0; l < FLAT_ARRAY_SIZE(candidates->lists); l++) {
		const struct mesh_policies *list = candidates->lists[l];

		for (uint32_t i = 0; list && i < list->n; i++) {
			const struct flat_authz_policy *policy = list->v[i];
			int matched;

			if (policy->action != FLAT_AUTHZ_CUSTOM || policy->dry_run ||
			    policy->order < in->custom_from ||
			    (first && policy->order >= first->order) ||
			    !policy_selects(policy, in->destination))
				continue;
			matched = policy_match(policy, subject);
			if (matched < 0)
				continue;
			first = policy;
			*rule = matched;
		}
	}
	return first;
}

void flat_authz_check(const struct flat_mesh *mesh, const struct flat_authz_input *input,
		      struct flat_authz_verdict *verdict)
{
	const struct flat_authz_policy *policy, *selected;
	struct candidates candidates;
	struct subject subject;
	int rule = -1;

	memset(verdict, 0, sizeof(*verdict));
	subject_init(&subject, mesh, input);
	candidates_init(&candidates, mesh, input->destination);
	policy = input->custom_from == FLAT_AUTHZ_ALL_ASKED
		     ? NULL
		     : find_custom(&candidates, &subject, &rule);
	if (policy) {
		bool able = policy->ext && !policy->ext->why_not;
		bool ask = able && (input->http || policy->ext->grpc);

		verdict->ext = able ? policy->ext : NULL;
		verdict->order = policy->order;
		decide(verdict, &subject, ask ? FLAT_AUTHZ_ASK : FLAT_AUTHZ_DENIED_BY_CUSTOM,
		       policy, rule);
		return;
	}
	policy = find_policy(&candidates, FLAT_AUTHZ_DENY, false, &subject, &rule, &selected);
	if (policy) {
		decide(verdict, &subject, FLAT_AUTHZ_DENIED_BY_RULE, policy, rule);
		return;
	}
	policy = find_policy(&candidates, FLAT_AUTHZ_ALLOW, false, &subject, &rule, &selected);
	if (policy)
		decide(verdict, &subject, FLAT_AUTHZ_ALLOWED_BY_RULE, policy, rule);
	else if (selected)
		decide(verdict, &subject, FLAT_AUTHZ_NOT_ALLOWED, selected, -1);
	else
		decide(verdict, &subject, FLAT_AUTHZ_NO_POLICY, NULL, -1);
}

bool flat_authz_notes(const struct flat_mesh *mesh, const struct flat_authz_input *input,
		      struct flat_authz_notes *notes)
{
	const struct flat_authz_policy *selected;
	struct candidates candidates;
	struct subject subject;

	if (mesh->n_notes == 0)
		return false;
	memset(notes, 0, sizeof(*notes));
	subject_init(&subject, mesh, input);
	candidates_init(&candidates, mesh, input->destination);
	notes->audit.policy = find_policy(&candidates, FLAT_AUTHZ_AUDIT, false, &subject,
					  &notes->audit.rule, &selected);
	notes->deny.policy =
	    find_policy(&candidates, FLAT_AUTHZ_DENY, true, &subject, &notes->deny.rule, &selected);
	notes->has_deny = selected != NULL;
	notes->allow.policy = find_policy(&candidates, FLAT_AUTHZ_ALLOW, true, &subject,
					  &notes->allow.rule, &selected);
	notes->has_allow = selected != NULL;
	return notes->audit.policy || notes->has_deny || notes->has_allow;
}

bool flat_authz_needs_http(const struct flat_mesh *mesh, const struct flat_workload *destination)
{
	struct candidates candidates;

	if (flat_mesh_wants_jwt(mesh, destination))
		return true;
	candidates_init(&candidates, mesh, destination);
	for (size_t l = 0; l < FLAT_ARRAY_SIZE(candidates.lists); l++) {
		const struct mesh_policies *list = candidates.lists[l];

		for (uint32_t i = 0; list && i < list->n; i++) {
			if (!policy_selects(list->v[i], destination))
				continue;
			/* An authorizer is asked about each request. */
			if (list->v[i]->action == FLAT_AUTHZ_CUSTOM)
				return true;
			for (uint32_t r = 0; r < list->v[i]->n_rules; r++) {
				if (list->v[i]->rules[r].http)
					return true;
			}
		}
	}
	return false;
}

const char *flat_authz_reason_name(enum flat_authz_reason reason)
{
	static const char *const names[] = {
	    [FLAT_AUTHZ_NO_POLICY] = "no-policy",
	    [FLAT_AUTHZ_ALLOWED_BY_RULE] = "allowed-by-rule",
	    [FLAT_AUTHZ_DENIED_BY_RULE] = "denied-by-rule",
	    [FLAT_AUTHZ_DENIED_BY_CUSTOM] = "denied-by-custom",
	    [FLAT_AUTHZ_ASK] = "ask",
	    [FLAT_AUTHZ_NOT_ALLOWED] = "not-allowed",
	};

	return names[reason];
}

const char *flat_authz_action_name(enum flat_authz_action action)
{
	static const char *const names[] = {
	    [FLAT_AUTHZ_ALLOW] = "ALLOW",
	    [FLAT_AUTHZ_DENY] = "DENY",
	    [FLAT_AUTHZ_CUSTOM] = "CUSTOM",
	    [FLAT_AUTHZ_AUDIT] = "AUDIT",
	};

	return names[action];
}
