/*
 * Who sent a request, by its token. The meaning is Istio's of several rules: one rule whose tokens are all good is
 * enough; else each rule must have found none; and the first thing wrong is told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "authn/authn.h"
#include "authn/base64url.h"
#include "base/json.h"
#include "offload/gateway.h"
#include "offload/l7_mandatory.h"

/* The longest number that is written with six digits behind its point. */
#define FLAT_CLAIM_NUMBER_MAX 336U

struct token {
	struct flat_span text;
	const struct flat_jwt_location *from;
};

struct tokens {
	struct token v[FLAT_L7_TOKENS_MAX];
	uint32_t n;
	bool many;   /* more than those */
	size_t used; /* bytes of node->fields */
};

static void add_token(struct tokens *t, struct flat_span text, const struct flat_jwt_location *from)
{
	if (t->n == FLAT_L7_TOKENS_MAX)
		t->many = true;
	else
		t->v[t->n++] = (struct token){text, from};
}

/* --- where tokens are --- */

/* After the prefix, wherever it stands; then from the first character on that a token may have. As Envoy. */
static bool after_prefix(struct flat_span value, const char *prefix, struct flat_span *token)
{
	static const char legal[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	size_t len = strlen(prefix);
	const char *at = len ? memmem(value.text, value.len, prefix, len) : value.text;
	const char *end = value.text + value.len;

	*token = value;
	if (!at)
		return false;
	if (len == 0)
		return true;
	for (at += len; at < end && !(*at && strchr(legal, *at)); at++)
		;
	if (at < end)
		*token = (struct flat_span){at, (size_t)(end - at)};
	return true;
}

static void from_header(const struct flat_http_request *request,
			const struct flat_jwt_location *from, struct tokens *t)
{
	struct flat_span name = flat_span_of(from->name), value, token;
	uint32_t n = 0;

	for (uint32_t i = 0; (value = flat_http_field_get(request, name, i)).text; i++) {
		if (!after_prefix(value, from->prefix, &token))
			continue;
		add_token(t, token, from);
		n++;
	}
	/* Several fields of a name are one list (RFC 9110, 5.3), and a list is no token. As Envoy. */
	t->many |= n > 1;
}

/* Each of the name: which one a server reads is its own affair. */
static void from_param(struct flat_l7_node *node, const struct flat_http_request *request,
		       const struct flat_jwt_location *from, struct tokens *t)
{
	struct flat_span value;

	for (uint32_t i = 0;
	     !t->many && (value = flat_l7_param(request->query, from->name, i)).text; i++) {
		char *to = node->fields + t->used;

		/* A query is shorter than a head, and a head than the buffer; several rules may decode the same. */
		if (value.len > sizeof(node->fields) - t->used) {
			t->many = true;
			return;
		}
		value = (struct flat_span){to, flat_l7_url_decode(value, to)};
		t->used += value.len;
		add_token(t, value, from);
	}
}

/* One `name=value` of a Cookie field, maybe in quotes. */
static bool cookie_value(struct flat_span pair, struct flat_span name, struct flat_span *value)
{
	const char *equals;

	pair = flat_span_trim(pair);
	equals = memchr(pair.text, '=', pair.len);
	if (!equals || !flat_span_equal((struct flat_span){pair.text, (size_t)(equals - pair.text)},
					name, false))
		return false;
	*value = (struct flat_span){equals + 1, pair.len - (size_t)(equals - pair.text) - 1};
	if (value->len >= 2 && value->text[0] == '"' && value->text[value->len - 1] == '"') {
		value->text++;
		value->len -= 2;
	}
	return true;
}

static void from_cookie(const struct flat_http_request *request,
			const struct flat_jwt_location *from, struct tokens *t)
{
	struct flat_span name = flat_span_of(from->name), field, value;

	for (uint32_t i = 0; (field = flat_http_field_get(request, flat_span_of("cookie"), i)).text;
	     i++) {
		while (field.len > 0) {
			const char *end = memchr(field.text, ';', field.len);
			size_t len = end ? (size_t)(end - field.text) : field.len;

			if (cookie_value((struct flat_span){field.text, len}, name, &value))
				add_token(t, value, from);
			field.text += len + (end != NULL);
			field.len -= len + (end != NULL);
		}
	}
}

static void find_tokens(struct flat_l7_node *node, const struct flat_http_request *request,
			const struct flat_jwt_rule *rule, struct tokens *t)
{
	t->n = 0;
	t->many = false;
	t->used = 0;
	for (uint32_t i = 0; i < rule->n_locations; i++) {
		const struct flat_jwt_location *from = &rule->locations[i];

		if (from->place == FLAT_JWT_HEADER)
			from_header(request, from, t);
		else if (from->place == FLAT_JWT_PARAM)
			from_param(node, request, from, t);
		else
			from_cookie(request, from, t);
	}
}

/* --- what they are worth --- */

/* All tokens of a rule must be good: the server may look at another than we. The last one counts. */
static enum flat_jwt_status ask_rule(struct flat_l7_node *node,
				     const struct flat_http_request *request,
				     const struct flat_jwt_rule *rule, struct tokens *t,
				     struct flat_jwt **jwt)
{
	enum flat_jwt_status status = FLAT_JWT_MISSED;
	int64_t now_s = (int64_t)time(NULL);

	*jwt = NULL;
	find_tokens(node, request, rule, t);
	if (t->many)
		return FLAT_JWT_FORMAT;
	for (uint32_t i = t->n; i > 0; i--) {
		flat_jwt_put(*jwt);
		status = flat_authn_check(node->authn, rule, t->v[i - 1].text, now_s, jwt);
		if (status != FLAT_JWT_OK)
			break;
	}
	return status;
}

static void put_json(struct flat_json *j, const char *key, const struct flat_json_node *node)
{
	switch (node->kind) {
	case FLAT_JSON_TEXT:
		flat_json_string_n(j, key, node->text, node->len);
		return;
	case FLAT_JSON_TRUE:
	case FLAT_JSON_FALSE:
		flat_json_bool(j, key, node->kind == FLAT_JSON_TRUE);
		return;
	case FLAT_JSON_LIST:
		flat_json_array(j, key);
		break;
	case FLAT_JSON_OBJECT:
		flat_json_object(j, key);
		break;
	case FLAT_JSON_NUMBER:
		flat_json_number_text(j, key, node->text, node->len);
		return;
	default:
		flat_json_null(j, key);
		return;
	}
	/* As deep as the reader lets a token be. */
	for (const struct flat_json_node *i = node->first; i; i = i->next)
		put_json(j, i->name, i);
	if (node->kind == FLAT_JSON_LIST)
		flat_json_array_end(j);
	else
		flat_json_object_end(j);
}

/* A list or object: its JSON in base64, as in Envoy. */
static void add_structure(const struct flat_claim_header *want, const struct flat_json_node *node,
			  struct flat_l7_edit *edit)
{
	struct flat_strbuf text = {0};
	struct flat_json j;
	char *out;

	flat_json_init(&j, &text, false);
	put_json(&j, NULL, node);
	out = text.failed ? NULL : malloc(text.len / 3 * 4 + 5);
	if (out) {
		size_t n = flat_base64_encode((const uint8_t *)text.data, text.len, out);

		flat_l7_edit_add(edit, flat_span_of(want->header), (struct flat_span){out, n});
	} else {
		edit->failed = true;
	}
	free(out);
	flat_strbuf_fini(&text);
}

/* A claim as a header has it. Dots lead into objects, unless a name has them. */
static void add_claim(const struct flat_jwt *jwt, const struct flat_claim_header *want,
		      struct flat_l7_edit *edit)
{
	const struct flat_json_node *node = flat_json_member(jwt->claims, want->claim);
	const struct flat_json_node *in = jwt->claims;
	const char *at = want->claim;
	char name[FLAT_L7_PARAM_MAX];
	char text[FLAT_CLAIM_NUMBER_MAX];
	double number;

	while (!node && in) {
		size_t len = strcspn(at, ".");

		if (len >= sizeof(name))
			return;
		memcpy(name, at, len);
		name[len] = 0;
		in = flat_json_member(in, name);
		at += len;
		if (!*at)
			break;
		at++;
	}
	node = node ? node : in;
	if (!node)
		return;
	if (node->kind == FLAT_JSON_TRUE || node->kind == FLAT_JSON_FALSE) {
		snprintf(text, sizeof(text), node->kind == FLAT_JSON_TRUE ? "true" : "false");
	} else if (flat_json_number(node, &number)) {
		bool whole = number >= 0 && number < 1.8e19 && number == (double)(uint64_t)number;

		if (whole)
			snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
		else
			snprintf(text, sizeof(text), "%f", number);
	} else if (node->kind == FLAT_JSON_TEXT && node->len > 0) {
		flat_l7_edit_add(edit, flat_span_of(want->header),
				 (struct flat_span){node->text, node->len});
		return;
	} else {
		if (node->kind == FLAT_JSON_LIST || node->kind == FLAT_JSON_OBJECT)
			add_structure(want, node, edit);
		return;
	}
	flat_l7_edit_add(edit, flat_span_of(want->header), flat_span_of(text));
}

/* What the token changes in the request that its server gets. */
static void make_edit(const struct flat_jwt_rule *rule, const struct flat_jwt *jwt,
		      const struct tokens *t, struct flat_l7_edit *edit)
{
	if (rule->payload_header)
		flat_l7_edit_add(edit, flat_span_of(rule->payload_header), jwt->payload);
	for (uint32_t i = 0; i < rule->n_claim_headers; i++)
		add_claim(jwt, &rule->claim_headers[i], edit);
	for (uint32_t i = 0; i < t->n && !rule->forward; i++) {
		const struct flat_jwt_location *from = t->v[i].from;

		if (from->place == FLAT_JWT_HEADER)
			flat_strbuf_add(&edit->remove, from->name, strlen(from->name) + 1);
		else if (from->place == FLAT_JWT_PARAM)
			flat_strbuf_add(&edit->params, from->name, strlen(from->name) + 1);
	}
}

/* --- the answer --- */

/* RFC 6750, 3, in Envoy's words. The URL is cut where a quote would end it. */
static enum flat_l7_verb refuse(const struct flat_l7 *l7, const struct flat_http_request *request,
				enum flat_jwt_status status, struct flat_l7_answer *a)
{
	const char *text = flat_jwt_status_text(status);
	struct flat_span path = request->path, query = request->query;
	size_t left = FLAT_L7_REALM_MAX;

	flat_l7_text(a, status == FLAT_JWT_AUDIENCE ? 403 : 401, FLAT_VERDICT_DENIED, text);
	path.len = flat_min_size(path.len, left);
	left -= path.len;
	if (!query.text || left < 2)
		query = (struct flat_span){"", 0};
	query.len = flat_min_size(query.len, left > 0 ? left - 1 : 0);
	snprintf(a->fields, sizeof(a->fields),
		 "www-authenticate: Bearer realm=\"%s://%.*s%.*s%s%.*s\"%s\r\n",
		 l7->conn->gate && l7->conn->gate->tls ? "https" : "http",
		 (int)request->authority.len, request->authority.text, (int)path.len, path.text,
		 query.len ? "?" : "", (int)query.len, query.text,
		 status == FLAT_JWT_MISSED ? "" : ", error=\"invalid_token\"");
	return FLAT_L7_ANSWER;
}

static void tell(struct flat_l7 *l7, const struct flat_jwt_rule *rule, enum flat_jwt_status status,
		 const struct flat_jwt *jwt)
{
	struct flat_l7_node *node = l7->node;
	const char *sub = jwt ? flat_json_member_text(jwt->claims, "sub") : NULL;
	char keys[256];

	if (!l7->dry)
		return;
	flat_authn_describe(node->authn, rule, keys, sizeof(keys));
	flat_l7_note(node, "  token by rule %s:%u (issuer %s, %s): %s%s%s%s%s\n",
		     rule->where.file ? rule->where.file : "-", rule->where.line,
		     *rule->issuer ? rule->issuer : "any", keys,
		     status == FLAT_JWT_OK ? "good" : flat_jwt_status_text(status),
		     jwt ? ", request principal " : "", jwt ? jwt->iss : "", sub ? "/" : "",
		     sub ? sub : "");
}

/* Browsers send no token with it (Fetch, 4.8), so that none is required of it, as in Envoy. */
static bool is_preflight(const struct flat_http_request *request)
{
	return request->head->method_id == FLAT_METHOD_OPTIONS &&
	       flat_http_field_get(request, flat_span_of("origin"), 0).len > 0 &&
	       flat_http_field_get(request, flat_span_of("access-control-request-method"), 0).len >
		   0;
}

/* Asks each rule; *tokens are of the one that was content. */
static enum flat_l7_verb ask_rules(struct flat_l7 *l7, const struct flat_jwt_rule *const *rules,
				   uint32_t n, const struct flat_http_request *request,
				   struct flat_l7_claims *claims, struct tokens *tokens,
				   struct flat_l7_answer *a)
{
	enum flat_jwt_status worst = FLAT_JWT_MISSED;
	bool required = false;

	for (uint32_t i = 0; i < n; i++) {
		enum flat_jwt_status status =
		    ask_rule(l7->node, request, rules[i], tokens, &claims->jwt);

		tell(l7, rules[i], status, claims->jwt);
		if (status == FLAT_JWT_OK) {
			claims->rule = rules[i];
			return FLAT_L7_GO;
		}
		flat_jwt_put(claims->jwt);
		claims->jwt = NULL;
		required |= rules[i]->required;
		if (worst == FLAT_JWT_MISSED ||
		    (worst == FLAT_JWT_UNKNOWN_ISSUER && status != FLAT_JWT_MISSED))
			worst = status;
	}
	if (worst == FLAT_JWT_WAIT && !l7->dry)
		return FLAT_L7_LATER;
	if (worst == FLAT_JWT_MISSED && (!required || is_preflight(request)))
		return FLAT_L7_GO;
	return refuse(l7, request, worst, a);
}

enum flat_l7_verb flat_l7_authenticate(struct flat_l7 *l7, const struct flat_workload *workload,
				       struct flat_http_request *request, size_t *len,
				       struct flat_l7_claims *claims, struct flat_l7_answer *a)
{
	const struct flat_jwt_rule *rules[2 * FLAT_JWT_RULES_MAX];
	uint32_t n = flat_mesh_jwt_rules(l7->node->offload->mesh, workload, rules);
	struct flat_l7_edit edit = {.rules = rules, .n_rules = n};
	struct tokens tokens;
	enum flat_l7_verb verb;
	int err = 0;

	if (n == 0)
		return FLAT_L7_GO;
	verb = ask_rules(l7, rules, n, request, claims, &tokens, a);
	if (verb != FLAT_L7_GO)
		return verb;
	if (claims->rule && claims->jwt)
		make_edit(claims->rule, claims->jwt, &tokens, &edit);
	if (flat_l7_edit_any(&edit, request))
		err = flat_l7_edit_head(l7, &edit, request, len);
	flat_strbuf_fini(&edit.remove);
	flat_strbuf_fini(&edit.params);
	flat_strbuf_fini(&edit.lines);
	if (err == 0)
		return FLAT_L7_GO;
	flat_l7_text(a, 431, FLAT_VERDICT_MALFORMED, NULL);
	return FLAT_L7_ANSWER;
}

bool flat_l7_verify(struct flat_l7 *l7, const struct flat_workload *workload,
		    struct flat_http_request *request, struct flat_l7_claims *claims,
		    struct flat_l7_answer *a)
{
	enum flat_l7_verb verb;
	size_t len = 0;

	/* Its text is not made yet, and is made only if it changes. */
	l7->x.unwritten = true;
	verb = flat_l7_authenticate(l7, workload, request, &len, claims, a);
	l7->x.unwritten = false;
	if (verb == FLAT_L7_LATER)
		(void)refuse(l7, request, FLAT_JWT_WAIT, a);
	return verb == FLAT_L7_GO;
}
