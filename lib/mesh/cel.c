#include "mesh/cel.h"

#include <stdlib.h>
#include <string.h>

#include "mesh/regex.h"

enum op {
	OP_LITERAL,
	OP_ATTRIBUTE, /* a: the key, of headers */
	OP_NOT,
	OP_NEGATE,
	OP_AND,
	OP_OR,
	OP_CHOOSE, /* a ? b : c */
	OP_EQUAL,
	OP_UNEQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_MORE,
	OP_MORE_EQUAL,
	OP_IN, /* a in b: b is an attribute that has keys, or a list */
	OP_HAS,
	OP_STARTS,
	OP_ENDS,
	OP_CONTAINS,
	OP_MATCHES,
	OP_SIZE,
};

struct node {
	enum op op;
	struct flat_cel_value value; /* LITERAL */
	enum flat_cel_attribute attribute;
	const struct flat_regex *regex; /* MATCHES */
	const struct node *a, *b, *c;
	const struct node *next; /* in a list */
};

struct flat_cel {
	const char *text;
	const struct node *root;
};

/* --- reading --- */

struct parser {
	struct flat_pool *pool;
	const char *at;
	const char *why;
	bool oom;
	uint32_t n_nodes;
	uint32_t depth;
};

static const struct node *expression(struct parser *p);
static const struct node *unary(struct parser *p);

static struct node *fail(struct parser *p, const char *why)
{
	if (!p->why)
		p->why = why;
	return NULL;
}

static struct node *make(struct parser *p, enum op op, const struct node *a, const struct node *b)
{
	struct node *n;

	if (p->why || p->oom)
		return NULL;
	if (p->n_nodes++ >= FLAT_CEL_NODES_MAX)
		return fail(p, "it is too long");
	n = flat_pool_alloc(p->pool, sizeof(*n));
	p->oom |= !n;
	if (!n)
		return NULL;
	n->op = op;
	n->a = a;
	n->b = b;
	return n;
}

static void blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t\r\n");
}

static bool take(struct parser *p, const char *token)
{
	size_t len = strlen(token);

	blanks(p);
	if (strncmp(p->at, token, len) != 0)
		return false;
	p->at += len;
	return true;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static struct flat_span word(struct parser *p)
{
	struct flat_span s;

	blanks(p);
	s.text = p->at;
	while (is_letter(*p->at) || (p->at > s.text && is_digit(*p->at)))
		p->at++;
	s.len = (size_t)(p->at - s.text);
	return s;
}

static bool is(struct flat_span s, const char *text)
{
	return flat_span_equal(s, flat_span_of(text), false);
}

/* A keyword that is no part of a longer name. */
static bool keyword(struct parser *p, const char *text)
{
	const char *before = p->at;

	if (is(word(p), text))
		return true;
	p->at = before;
	return false;
}

static struct node *literal(struct parser *p, enum flat_cel_type type, int64_t number)
{
	struct node *n = make(p, OP_LITERAL, NULL, NULL);

	if (!n)
		return NULL;
	n->value.type = type;
	n->value.number = number;
	return n;
}

static struct node *text_literal(struct parser *p)
{
	char quote = *p->at++;
	const char *end = p->at;
	struct node *n = literal(p, FLAT_CEL_TEXT, 0);
	char *copy, *to;

	while (*end && *end != quote)
		end += *end == '\\' && end[1] ? 2 : 1;
	if (!*end)
		return fail(p, "a text has no end");
	copy = n ? flat_pool_strndup(p->pool, p->at, (size_t)(end - p->at)) : NULL;
	if (!copy) {
		p->oom |= n != NULL;
		return NULL;
	}
	to = copy;
	for (const char *from = p->at; from < end; from++) {
		if (*from == '\\' && is_letter(*++from))
			return fail(p, "an escape in a text is not understood");
		*to++ = *from;
	}
	n->value.text = (struct flat_span){copy, (size_t)(to - copy)};
	p->at = end + 1;
	return n;
}

static struct node *number(struct parser *p)
{
	char *end;
	long long value = strtoll(p->at, &end, 10);

	if (*end == '.' || *end == 'e' || *end == 'E' || *end == 'x')
		return fail(p, "numbers are whole");
	if (*end == 'u')
		end++;
	p->at = end;
	return literal(p, FLAT_CEL_INT, value);
}

/* duration("1.5s") and its like, nanoseconds. */
static bool parse_time(struct flat_span s, int64_t *ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 6e10}, {"h", 3.6e12}};
	double sum = 0;
	const char *at = s.text;
	const char *last = s.text + s.len;

	if (s.len == 0)
		return false;
	while (at < last) {
		double value = 0;
		double place = 1;
		bool dot = false;
		size_t i;

		if (!is_digit(*at))
			return false;
		for (; at < last && (is_digit(*at) || (*at == '.' && !dot)); at++) {
			if (*at == '.') {
				dot = true;
				continue;
			}
			value = value * 10 + (*at - '0');
			place *= dot ? 10 : 1;
		}
		for (i = 0; i < FLAT_ARRAY_SIZE(units); i++) {
			size_t len = strlen(units[i].unit);

			if ((size_t)(last - at) >= len && memcmp(at, units[i].unit, len) == 0 &&
			    (at + len == last || is_digit(at[len])))
				break;
		}
		if (i == FLAT_ARRAY_SIZE(units))
			return false;
		sum += value / place * units[i].ns;
		at += strlen(units[i].unit);
	}
	*ns = sum < 9e18 ? (int64_t)sum : INT64_MAX;
	return true;
}

static const struct {
	const char *name;
	enum flat_cel_attribute attribute;
} attributes[] = {
    {"request.path", FLAT_CEL_REQUEST_PATH},
    {"request.url_path", FLAT_CEL_REQUEST_URL_PATH},
    {"request.host", FLAT_CEL_REQUEST_HOST},
    {"request.scheme", FLAT_CEL_REQUEST_SCHEME},
    {"request.method", FLAT_CEL_REQUEST_METHOD},
    {"request.headers", FLAT_CEL_REQUEST_HEADERS},
    {"request.referer", FLAT_CEL_REQUEST_REFERER},
    {"request.useragent", FLAT_CEL_REQUEST_USERAGENT},
    {"request.id", FLAT_CEL_REQUEST_ID},
    {"request.protocol", FLAT_CEL_REQUEST_PROTOCOL},
    {"request.query", FLAT_CEL_REQUEST_QUERY},
    {"request.duration", FLAT_CEL_REQUEST_DURATION},
    {"request.size", FLAT_CEL_REQUEST_SIZE},
    {"response.code", FLAT_CEL_RESPONSE_CODE},
    {"response.code_details", FLAT_CEL_RESPONSE_CODE_DETAILS},
    {"response.grpc_status", FLAT_CEL_RESPONSE_GRPC_STATUS},
    {"response.headers", FLAT_CEL_RESPONSE_HEADERS},
    {"response.size", FLAT_CEL_RESPONSE_SIZE},
    {"source.address", FLAT_CEL_SOURCE_ADDRESS},
    {"source.port", FLAT_CEL_SOURCE_PORT},
    {"destination.address", FLAT_CEL_DESTINATION_ADDRESS},
    {"destination.port", FLAT_CEL_DESTINATION_PORT},
    {"connection.mtls", FLAT_CEL_CONNECTION_MTLS},
    {"connection.requested_server_name", FLAT_CEL_CONNECTION_SNI},
    {"upstream.address", FLAT_CEL_UPSTREAM_ADDRESS},
    {"upstream.port", FLAT_CEL_UPSTREAM_PORT},
    {"xds.route_name", FLAT_CEL_ROUTE_NAME},
    {"xds.cluster_name", FLAT_CEL_CLUSTER_NAME},
};

static bool has_keys(const struct node *n)
{
	return n->op == OP_ATTRIBUTE && !n->a &&
	       (n->attribute == FLAT_CEL_REQUEST_HEADERS ||
		n->attribute == FLAT_CEL_RESPONSE_HEADERS);
}

/* Two names with a dot between. */
static struct node *attribute(struct parser *p, struct flat_span first)
{
	struct flat_span second;
	struct flat_span whole;
	struct node *n;

	if (!take(p, "."))
		return fail(p, "a name is not understood");
	second = word(p);
	whole = (struct flat_span){first.text, (size_t)(second.text + second.len - first.text)};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(attributes); i++) {
		if (!is(whole, attributes[i].name))
			continue;
		n = make(p, OP_ATTRIBUTE, NULL, NULL);
		if (n)
			n->attribute = attributes[i].attribute;
		return n;
	}
	return fail(p, "there is no such attribute here");
}

static const struct node *close_list(struct parser *p, const struct node *n)
{
	return take(p, ")") ? n : fail(p, "a closing parenthesis is missing");
}

static const struct node *list(struct parser *p)
{
	struct node *head = make(p, OP_LITERAL, NULL, NULL);
	const struct node **last = head ? &head->next : NULL;

	while (last && !take(p, "]")) {
		const struct node *item = unary(p);
		struct node *link = item ? make(p, OP_LITERAL, item, NULL) : NULL;

		if (!link)
			return NULL;
		*last = link;
		last = &link->next;
		if (!take(p, ",") && *p->at != ']')
			return fail(p, "a list has no end");
	}
	return head;
}

static const struct node *primary(struct parser *p)
{
	const struct node *n;
	struct flat_span name;
	int64_t ns;

	blanks(p);
	if (*p->at == '\'' || *p->at == '"')
		return text_literal(p);
	if (is_digit(*p->at))
		return number(p);
	if (take(p, "("))
		return close_list(p, expression(p));
	if (take(p, "["))
		return list(p);
	name = word(p);
	if (is(name, "true") || is(name, "false"))
		return literal(p, FLAT_CEL_BOOL, name.len == 4);
	if (!take(p, "("))
		return name.len ? attribute(p, name) : fail(p, "something is missing");
	n = expression(p);
	if (!n)
		return NULL;
	if (is(name, "has"))
		return close_list(p, make(p, OP_HAS, n, NULL));
	if (is(name, "size"))
		return close_list(p, make(p, OP_SIZE, n, NULL));
	if (is(name, "string") || is(name, "int"))
		return close_list(p, n);
	if (!is(name, "duration") || n->op != OP_LITERAL || n->value.type != FLAT_CEL_TEXT)
		return fail(p, "there is no such function here");
	if (!parse_time(n->value.text, &ns))
		return fail(p, "a duration is not understood");
	return close_list(p, literal(p, FLAT_CEL_TIME, ns));
}

/* CEL's is found anywhere in a text, ours is of the whole. */
static const struct flat_regex *compile_regex(struct parser *p, const struct node *n)
{
	struct flat_span s = n ? n->value.text : (struct flat_span){NULL, 0};
	const struct flat_regex *regex = NULL;
	bool from_start, to_end;
	const char *why = NULL;
	char *text;

	if (!n || n->op != OP_LITERAL || n->value.type != FLAT_CEL_TEXT) {
		fail(p, "matches() wants a text");
		return NULL;
	}
	from_start = s.len > 0 && s.text[0] == '^';
	to_end = s.len > (size_t)from_start && s.text[s.len - 1] == '$' &&
		 (s.len < 2 || s.text[s.len - 2] != '\\');
	s.text += from_start;
	s.len -= (size_t)from_start + (size_t)to_end;
	text = flat_pool_printf(p->pool, "%s(%.*s)%s", from_start ? "" : ".*", (int)s.len, s.text,
				to_end ? "" : ".*");
	if (text)
		regex = flat_regex_compile(p->pool, text, false, &why);
	if (!regex && why)
		fail(p, "a regular expression is not understood");
	p->oom |= !regex && !why;
	return regex;
}

static const struct node *method(struct parser *p, const struct node *n)
{
	static const struct {
		const char *name;
		enum op op;
	} methods[] = {{"startsWith", OP_STARTS},
		       {"endsWith", OP_ENDS},
		       {"contains", OP_CONTAINS},
		       {"matches", OP_MATCHES},
		       {"size", OP_SIZE}};
	struct flat_span name = word(p);
	const struct node *argument = NULL;
	struct node *made;
	size_t i = 0;

	while (i < FLAT_ARRAY_SIZE(methods) && !is(name, methods[i].name))
		i++;
	if (i == FLAT_ARRAY_SIZE(methods) || !take(p, "("))
		return fail(p, "there is no such function here");
	if (methods[i].op != OP_SIZE) {
		argument = expression(p);
		if (!argument)
			return NULL;
	}
	made = make(p, methods[i].op, n, argument);
	if (made && made->op == OP_MATCHES)
		made->regex = compile_regex(p, argument);
	return close_list(p, made);
}

static const struct node *member(struct parser *p)
{
	const struct node *n = primary(p);

	while (n) {
		if (take(p, ".")) {
			n = method(p, n);
		} else if (has_keys(n) && take(p, "[")) {
			struct node *with = make(p, OP_ATTRIBUTE, expression(p), NULL);

			if (!with || !with->a)
				return NULL;
			with->attribute = n->attribute;
			n = take(p, "]") ? with : fail(p, "a closing bracket is missing");
		} else {
			break;
		}
	}
	return n;
}

static const struct node *unary(struct parser *p)
{
	const struct node *n;

	if (++p->depth > FLAT_CEL_DEPTH_MAX)
		return fail(p, "it is nested too deep");
	blanks(p);
	if (*p->at == '!' && p->at[1] != '=') {
		p->at++;
		n = make(p, OP_NOT, unary(p), NULL);
	} else if (take(p, "-")) {
		n = make(p, OP_NEGATE, unary(p), NULL);
	} else {
		n = member(p);
	}
	p->depth--;
	return n;
}

static const struct node *relation(struct parser *p)
{
	static const struct {
		const char *token;
		enum op op;
	} ops[] = {{"==", OP_EQUAL},	  {"!=", OP_UNEQUAL}, {"<=", OP_LESS_EQUAL},
		   {">=", OP_MORE_EQUAL}, {"<", OP_LESS},     {">", OP_MORE}};
	const struct node *n = unary(p);
	const struct node *b;

	if (!n)
		return NULL;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ops); i++) {
		if (take(p, ops[i].token))
			return make(p, ops[i].op, n, unary(p));
	}
	if (!keyword(p, "in"))
		return n;
	b = unary(p);
	if (b && !has_keys(b) && !(b->op == OP_LITERAL && b->value.type == FLAT_CEL_ABSENT))
		return fail(p, "\"in\" wants headers or a list");
	return make(p, OP_IN, n, b);
}

static const struct node *conjunction(struct parser *p)
{
	const struct node *n = relation(p);

	while (n && take(p, "&&"))
		n = make(p, OP_AND, n, relation(p));
	return n;
}

static const struct node *disjunction(struct parser *p)
{
	const struct node *n = conjunction(p);

	while (n && take(p, "||"))
		n = make(p, OP_OR, n, conjunction(p));
	return n;
}

static const struct node *expression(struct parser *p)
{
	const struct node *n;
	struct node *choice;

	if (++p->depth > FLAT_CEL_DEPTH_MAX)
		return fail(p, "it is nested too deep");
	n = disjunction(p);
	if (n && take(p, "?")) {
		choice = make(p, OP_CHOOSE, n, expression(p));
		if (choice && !take(p, ":"))
			return fail(p, "a choice has one way only");
		if (choice)
			choice->c = expression(p);
		n = choice && choice->c ? choice : NULL;
	}
	p->depth--;
	return n;
}

struct flat_cel *flat_cel_compile(struct flat_pool *pool, const char *text, const char **why)
{
	struct parser p = {.pool = pool, .at = text};
	struct flat_cel *cel = flat_pool_alloc(pool, sizeof(*cel));

	*why = NULL;
	if (!cel)
		return NULL;
	cel->text = text;
	cel->root = expression(&p);
	blanks(&p);
	if (cel->root && *p.at)
		fail(&p, "what follows is not understood");
	*why = p.oom ? NULL : p.why;
	return p.oom || p.why || !cel->root ? NULL : cel;
}

const char *flat_cel_text(const struct flat_cel *cel)
{
	return cel->text;
}

/* --- evaluating --- */

struct question {
	flat_cel_lookup_fn *lookup;
	void *arg;
};

static struct flat_cel_value value_of(const struct question *q, const struct node *n);

static struct flat_cel_value look_up(const struct question *q, enum flat_cel_attribute attribute,
				     struct flat_span key)
{
	struct flat_cel_value v = {.type = FLAT_CEL_ABSENT};

	q->lookup(q->arg, attribute, key, &v);
	return v;
}

static struct flat_cel_value truth(bool is_true)
{
	return (struct flat_cel_value){.type = FLAT_CEL_BOOL, .number = is_true};
}

static const struct flat_cel_value absent = {.type = FLAT_CEL_ABSENT};

static bool is_bool(const struct flat_cel_value *v, bool wanted)
{
	return v->type == FLAT_CEL_BOOL && (v->number != 0) == wanted;
}

static struct flat_cel_value logic(const struct question *q, const struct node *n)
{
	/* What decides alone does so even beside an error. */
	bool decides = n->op == OP_OR;
	struct flat_cel_value a = value_of(q, n->a);
	struct flat_cel_value b;

	if (is_bool(&a, decides))
		return a;
	b = value_of(q, n->b);
	if (is_bool(&b, decides))
		return b;
	return a.type == FLAT_CEL_BOOL && b.type == FLAT_CEL_BOOL ? truth(!decides) : absent;
}

/* Texts and numbers have an order; values of two types are not equal, and have none. */
static struct flat_cel_value compare(const struct question *q, const struct node *n)
{
	struct flat_cel_value a = value_of(q, n->a);
	struct flat_cel_value b = value_of(q, n->b);
	int order;

	if (a.type == FLAT_CEL_ABSENT || b.type == FLAT_CEL_ABSENT)
		return absent;
	if (a.type != b.type)
		return n->op == OP_EQUAL     ? truth(false)
		       : n->op == OP_UNEQUAL ? truth(true)
					     : absent;
	if (a.type == FLAT_CEL_TEXT) {
		order = memcmp(a.text.text, b.text.text, flat_min_size(a.text.len, b.text.len));
		if (order == 0)
			order = (a.text.len > b.text.len) - (a.text.len < b.text.len);
	} else {
		order = (a.number > b.number) - (a.number < b.number);
	}
	switch (n->op) {
	case OP_EQUAL:
		return truth(order == 0);
	case OP_UNEQUAL:
		return truth(order != 0);
	case OP_LESS:
		return truth(order < 0);
	case OP_LESS_EQUAL:
		return truth(order <= 0);
	case OP_MORE:
		return truth(order > 0);
	default:
		return truth(order >= 0);
	}
}

static struct flat_cel_value in_list(const struct question *q, const struct node *n)
{
	struct flat_cel_value a = value_of(q, n->a);

	if (n->b->op == OP_ATTRIBUTE)
		return a.type == FLAT_CEL_TEXT
			   ? truth(look_up(q, n->b->attribute, a.text).type != FLAT_CEL_ABSENT)
			   : absent;
	for (const struct node *i = n->b->next; i; i = i->next) {
		struct flat_cel_value b = value_of(q, i->a);

		if (a.type == b.type && a.type != FLAT_CEL_ABSENT &&
		    (a.type == FLAT_CEL_TEXT ? flat_span_equal(a.text, b.text, false)
					     : a.number == b.number))
			return truth(true);
	}
	return a.type == FLAT_CEL_ABSENT ? absent : truth(false);
}

static struct flat_cel_value of_text(const struct question *q, const struct node *n)
{
	struct flat_cel_value a = value_of(q, n->a);
	struct flat_cel_value b = n->b ? value_of(q, n->b) : absent;

	if (a.type != FLAT_CEL_TEXT)
		return absent;
	if (n->op == OP_SIZE)
		return (struct flat_cel_value){.type = FLAT_CEL_INT, .number = (int64_t)a.text.len};
	if (b.type != FLAT_CEL_TEXT)
		return absent;
	if (n->op == OP_MATCHES)
		return truth(flat_regex_match(n->regex, a.text.text, a.text.len));
	if (n->op == OP_CONTAINS)
		return truth(b.text.len == 0 ||
			     memmem(a.text.text, a.text.len, b.text.text, b.text.len));
	if (b.text.len > a.text.len)
		return truth(false);
	if (n->op == OP_ENDS)
		a.text.text += a.text.len - b.text.len;
	return truth(memcmp(a.text.text, b.text.text, b.text.len) == 0);
}

static struct flat_cel_value value_of(const struct question *q, const struct node *n)
{
	struct flat_cel_value v;

	switch (n->op) {
	case OP_LITERAL:
		return n->value;
	case OP_ATTRIBUTE:
		v = n->a ? value_of(q, n->a) : absent;
		return look_up(q, n->attribute, v.text);
	case OP_NOT:
		v = value_of(q, n->a);
		return v.type == FLAT_CEL_BOOL ? truth(!v.number) : absent;
	case OP_NEGATE:
		v = value_of(q, n->a);
		v.number = -v.number;
		return v.type == FLAT_CEL_INT ? v : absent;
	case OP_AND:
	case OP_OR:
		return logic(q, n);
	case OP_CHOOSE:
		v = value_of(q, n->a);
		return v.type == FLAT_CEL_BOOL ? value_of(q, v.number ? n->b : n->c) : absent;
	case OP_HAS:
		v = value_of(q, n->a);
		return truth(v.type != FLAT_CEL_ABSENT);
	case OP_IN:
		return in_list(q, n);
	case OP_STARTS:
	case OP_ENDS:
	case OP_CONTAINS:
	case OP_MATCHES:
	case OP_SIZE:
		return of_text(q, n);
	default:
		return compare(q, n);
	}
}

struct flat_cel_value flat_cel_eval(const struct flat_cel *cel, flat_cel_lookup_fn *lookup,
				    void *arg)
{
	struct question q = {lookup, arg};

	return value_of(&q, cel->root);
}

bool flat_cel_holds(const struct flat_cel *cel, flat_cel_lookup_fn *lookup, void *arg)
{
	struct flat_cel_value v = flat_cel_eval(cel, lookup, arg);

	return is_bool(&v, true);
}

/* --- what it asks for --- */

bool flat_cel_is_literal(const struct flat_cel *cel)
{
	return cel->root->op == OP_LITERAL;
}

struct keys {
	enum flat_cel_attribute attribute;
	void (*each)(void *arg, struct flat_span key);
	void *arg;
};

/* As deep as the tree, which is bounded when it is read. */
static void find_keys(const struct keys *keys, const struct node *n)
{
	bool of_it = n->op == OP_ATTRIBUTE && n->attribute == keys->attribute;
	bool in_it =
	    n->op == OP_IN && n->b->op == OP_ATTRIBUTE && n->b->attribute == keys->attribute;

	if ((of_it || in_it) && n->a && n->a->op == OP_LITERAL && n->a->value.text.text)
		keys->each(keys->arg, n->a->value.text);
	if (n->a)
		find_keys(keys, n->a);
	if (n->b)
		find_keys(keys, n->b);
	if (n->c)
		find_keys(keys, n->c);
	if (n->next)
		find_keys(keys, n->next);
}

void flat_cel_keys(const struct flat_cel *cel, enum flat_cel_attribute attribute,
		   void each(void *arg, struct flat_span key), void *arg)
{
	struct keys keys = {attribute, each, arg};

	find_keys(&keys, cel->root);
}
