#include <string.h>

#include "mesh/regex_program.h"

/* --- text to tree --- */

enum kind {
	NODE_EMPTY,
	NODE_CLASS,
	NODE_BEGIN,
	NODE_END,
	NODE_CAT,
	NODE_ALT,
	NODE_REPEAT,
	NODE_GROUP, /* a, the min-th group */
};

struct node {
	enum kind kind;
	struct node *a, *b;
	unsigned min, max; /* REPEAT; UNLIMITED: no end */
	bool lazy;	   /* REPEAT: rather fewer */
	uint32_t *class;
};

#define UNLIMITED 1000000U

struct compiler {
	struct flat_pool *pool;
	const char *at;
	bool fold;
	unsigned depth;
	unsigned groups; /* so far */
	const char *error;
	bool oom;
	struct regex_state *v;
	uint32_t n;
};

static struct node *fail(struct compiler *c, const char *error)
{
	if (!c->error)
		c->error = error;
	return NULL;
}

static struct node *node_new(struct compiler *c, enum kind kind, struct node *a, struct node *b)
{
	struct node *node = flat_pool_alloc(c->pool, sizeof(*node));

	if (!node) {
		c->oom = true;
		return NULL;
	}
	node->kind = kind;
	node->a = a;
	node->b = b;
	return node;
}

static void class_add(const struct compiler *c, uint32_t *class, unsigned byte)
{
	class[byte >> 5] |= 1U << (byte & 31);
	if (c->fold && (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z')
		class[(byte ^ 0x20) >> 5] |= 1U << ((byte ^ 0x20) & 31);
}

static void class_range(const struct compiler *c, uint32_t *class, unsigned from, unsigned to)
{
	for (unsigned b = from; b <= to; b++)
		class_add(c, class, b);
}

static void class_invert(uint32_t *class)
{
	for (int i = 0; i < 8; i++)
		class[i] = ~class[i];
}

static struct node *class_new(struct compiler *c)
{
	struct node *node = node_new(c, NODE_CLASS, NULL, NULL);

	if (!node)
		return NULL;
	node->class = flat_pool_array(c->pool, 8, sizeof(*node->class));
	c->oom |= !node->class;
	return node->class ? node : NULL;
}

/* \d \w \s and their opposites; false: it is none of them. */
static bool class_escape(const struct compiler *c, uint32_t *class, char letter)
{
	uint32_t set[8] = {0};

	switch (letter | 0x20) {
	case 'd':
		class_range(c, set, '0', '9');
		break;
	case 'w':
		class_range(c, set, '0', '9');
		class_range(c, set, 'a', 'z');
		class_range(c, set, 'A', 'Z');
		class_add(c, set, '_');
		break;
	case 's':
		class_add(c, set, ' ');
		class_range(c, set, '\t', '\n');
		class_range(c, set, '\f', '\r');
		break;
	default:
		return false;
	}
	if (letter < 'a')
		class_invert(set);
	for (int i = 0; i < 8; i++)
		class[i] |= set[i];
	return true;
}

/* The byte that a backslash and `letter` stand for; -1: not known. */
static int literal_escape(char letter)
{
	switch (letter) {
	case 't':
		return '\t';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 'f':
		return '\f';
	default:
		return (letter >= '0' && letter <= '9') ||
			       ((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z') || letter == 0
			   ? -1
			   : (unsigned char)letter;
	}
}

/* One byte within brackets, or -1 when a class was added for it. -2: wrong. */
static int bracket_byte(struct compiler *c, uint32_t *class)
{
	int byte = (unsigned char)*c->at++;

	if (byte == 0 || byte >= 0x80) {
		(void)fail(c, byte ? "only ASCII may stand within brackets"
				   : "a bracket is not closed");
		return -2;
	}
	if (byte == '[' && (*c->at == ':' || *c->at == '=' || *c->at == '.')) {
		(void)fail(c, "[:names:] are not supported: write the range");
		return -2;
	}
	if (byte != '\\')
		return byte;
	if (class_escape(c, class, *c->at)) {
		c->at++;
		return -1;
	}
	byte = literal_escape(*c->at);
	if (byte < 0) {
		(void)fail(c, "this escape is not supported");
		return -2;
	}
	c->at++;
	return byte;
}

static struct node *parse_bracket(struct compiler *c)
{
	struct node *node = class_new(c);
	bool negated = *c->at == '^';
	bool first = true;

	if (!node)
		return NULL;
	c->at += negated;
	for (; first || *c->at != ']'; first = false) {
		int from = bracket_byte(c, node->class);
		int to = from;

		if (from == -2)
			return NULL;
		if (from >= 0 && c->at[0] == '-' && c->at[1] != ']') {
			c->at++;
			to = bracket_byte(c, node->class);
			if (to < from)
				return fail(c, "a range that ends before it begins");
		}
		if (from >= 0)
			class_range(c, node->class, (unsigned)from, (unsigned)to);
	}
	c->at++;
	if (negated)
		class_invert(node->class);
	return node;
}

static struct node *parse_alternatives(struct compiler *c);

static struct node *parse_group(struct compiler *c)
{
	unsigned number = c->at[0] == '?' ? 0 : ++c->groups;
	struct node *node;

	if (c->at[0] == '?') {
		if (c->at[1] != ':')
			return fail(c, "of (?...) only (?:...) is supported, and (?i) in front");
		c->at += 2;
	}
	if (++c->depth > FLAT_REGEX_DEPTH_MAX)
		return fail(c, "too many groups within groups");
	node = parse_alternatives(c);
	c->depth--;
	if (!node)
		return NULL;
	if (*c->at != ')')
		return fail(c, "a parenthesis is not closed");
	c->at++;
	if (number == 0 || number > FLAT_REGEX_GROUPS_MAX)
		return node;
	node = node_new(c, NODE_GROUP, node, NULL);
	if (node)
		node->min = number;
	return node;
}

static struct node *parse_atom(struct compiler *c)
{
	int byte = (unsigned char)*c->at++;
	struct node *node;

	switch (byte) {
	case '(':
		return parse_group(c);
	case '[':
		return parse_bracket(c);
	case '^':
		return node_new(c, NODE_BEGIN, NULL, NULL);
	case '$':
		return node_new(c, NODE_END, NULL, NULL);
	case '*':
	case '+':
	case '?':
		return fail(c, "nothing before * + or ?");
	default:
		break;
	}
	node = class_new(c);
	if (!node)
		return NULL;
	if (byte == '.') {
		class_add(c, node->class, '\n');
		class_invert(node->class);
		return node;
	}
	if (byte == '\\') {
		if (class_escape(c, node->class, *c->at)) {
			c->at++;
			return node;
		}
		byte = literal_escape(*c->at);
		if (byte < 0)
			return fail(c, "this escape is not supported");
		c->at++;
	}
	class_add(c, node->class, (unsigned)byte);
	return node;
}

/* "{2}", "{2,}", "{2,5}" behind the brace; false: it is no count, and the brace a letter. */
static bool parse_count(struct compiler *c, unsigned *min, unsigned *max)
{
	const char *p = c->at;
	unsigned v[2] = {0, 0};
	int i = 0;
	bool digits = false;

	for (;; p++) {
		if (*p >= '0' && *p <= '9' && v[i] < 10000) {
			v[i] = v[i] * 10 + (unsigned)(*p - '0');
			digits = true;
		} else if (*p == ',' && i == 0 && digits) {
			i = 1;
			digits = false;
		} else {
			break;
		}
	}
	if (*p != '}' || (i == 0 && !digits))
		return false;
	*min = v[0];
	*max = i == 0 ? v[0] : digits ? v[1] : UNLIMITED;
	c->at = p + 1;
	return true;
}

static struct node *parse_repeat(struct compiler *c)
{
	struct node *node = parse_atom(c);

	for (unsigned levels = 0; node; levels++) {
		unsigned min = 0;
		unsigned max = UNLIMITED;
		char what = *c->at;
		bool lazy;

		if (what == '{') {
			c->at++;
			if (!parse_count(c, &min, &max))
				return fail(c, "write \\{ for a brace that is no count");
		} else if (what == '*' || what == '+' || what == '?') {
			c->at++;
			min = what == '+';
			max = what == '?' ? 1 : UNLIMITED;
		} else {
			return node;
		}
		lazy = *c->at == '?';
		c->at += lazy;
		if (min > max || (max != UNLIMITED && max > FLAT_REGEX_STATES_MAX) ||
		    levels == FLAT_REGEX_DEPTH_MAX)
			return fail(c, "a repetition that is empty or too large");
		node = node_new(c, NODE_REPEAT, node, NULL);
		if (node) {
			node->min = min;
			node->max = max;
			node->lazy = lazy;
		}
	}
	return NULL;
}

static struct node *parse_sequence(struct compiler *c)
{
	struct node *all = node_new(c, NODE_EMPTY, NULL, NULL);

	while (all && *c->at && *c->at != '|' && *c->at != ')') {
		struct node *one = parse_repeat(c);

		all = one ? node_new(c, NODE_CAT, all, one) : NULL;
	}
	return all;
}

static struct node *parse_alternatives(struct compiler *c)
{
	struct node *all = parse_sequence(c);

	while (all && *c->at == '|') {
		struct node *one;

		c->at++;
		one = parse_sequence(c);
		all = one ? node_new(c, NODE_ALT, all, one) : NULL;
	}
	return all;
}

/* --- tree to states --- */

static uint32_t emit(struct compiler *c, enum regex_op op, const uint32_t *class)
{
	if (c->n == FLAT_REGEX_STATES_MAX) {
		(void)fail(c, "too large");
		return 0;
	}
	c->v[c->n] = (struct regex_state){.op = (uint8_t)op, .class = class};
	return c->n++;
}

static void generate(struct compiler *c, const struct node *node);

/* A split in front of what may be taken once more, which ends here: greed takes it, laziness goes on. */
static void prefer(const struct compiler *c, uint32_t split, bool lazy)
{
	c->v[split].x = (uint16_t)(lazy ? c->n : split + 1);
	c->v[split].y = (uint16_t)(lazy ? split + 1 : c->n);
}

static void generate_repeat(struct compiler *c, const struct node *node)
{
	uint32_t split, before = c->n;
	unsigned i;

	for (i = 0; i < node->min && !c->error; i++) {
		generate(c, node->a);
		/* Nothing, however often. */
		if (c->n == before) {
			i = node->min;
			break;
		}
	}
	if (node->max == UNLIMITED) {
		split = emit(c, OP_SPLIT, NULL);
		generate(c, node->a);
		c->v[emit(c, OP_JUMP, NULL)].x = (uint16_t)split;
		prefer(c, split, node->lazy);
		return;
	}
	for (; i < node->max && !c->error; i++) {
		split = emit(c, OP_SPLIT, NULL);
		generate(c, node->a);
		prefer(c, split, node->lazy);
	}
}

/* Sequences and alternatives lean to the left: a loop follows them, so that depth is that of groups. */
static void generate(struct compiler *c, const struct node *node)
{
	const struct node *chain[FLAT_REGEX_STATES_MAX];
	uint32_t split, jump;
	size_t n = 0;

	if (c->error)
		return;
	switch (node->kind) {
	case NODE_EMPTY:
		return;
	case NODE_CLASS:
		(void)emit(c, OP_CLASS, node->class);
		return;
	case NODE_BEGIN:
		(void)emit(c, OP_BEGIN, NULL);
		return;
	case NODE_END:
		(void)emit(c, OP_END, NULL);
		return;
	case NODE_REPEAT:
		generate_repeat(c, node);
		return;
	case NODE_GROUP:
		c->v[emit(c, OP_SAVE, NULL)].x = (uint16_t)(node->min * 2);
		generate(c, node->a);
		c->v[emit(c, OP_SAVE, NULL)].x = (uint16_t)(node->min * 2 + 1);
		return;
	case NODE_CAT:
		for (; node->kind == NODE_CAT; node = node->a) {
			if (n == FLAT_ARRAY_SIZE(chain)) {
				(void)fail(c, "too large");
				return;
			}
			chain[n++] = node->b;
		}
		while (n > 0)
			generate(c, chain[--n]);
		return;
	case NODE_ALT:
		split = emit(c, OP_SPLIT, NULL);
		c->v[split].x = (uint16_t)c->n;
		generate(c, node->a);
		jump = emit(c, OP_JUMP, NULL);
		c->v[split].y = (uint16_t)c->n;
		generate(c, node->b);
		c->v[jump].x = (uint16_t)c->n;
		return;
	}
}

const struct flat_regex *flat_regex_compile(struct flat_pool *pool, const char *pattern, bool fold,
					    const char **error)
{
	struct compiler c = {.pool = pool, .at = pattern, .fold = fold};
	struct flat_regex *regex = flat_pool_alloc(pool, sizeof(*regex));
	struct node *tree;

	*error = NULL;
	if (strncmp(pattern, "(?i)", 4) == 0) {
		c.fold = true;
		c.at += 4;
	}
	c.v = flat_pool_array(pool, FLAT_REGEX_STATES_MAX, sizeof(*c.v));
	if (!regex || !c.v)
		return NULL;
	tree = parse_alternatives(&c);
	if (tree && *c.at == ')')
		(void)fail(&c, "a parenthesis that was not opened");
	if (tree && !c.error) {
		generate(&c, tree);
		(void)emit(&c, OP_MATCH, NULL);
	}
	*error = c.oom ? NULL : c.error;
	if (c.oom || c.error)
		return NULL;
	regex->v = c.v;
	regex->n = c.n;
	return regex;
}

/* --- matching --- */

struct set {
	uint16_t v[FLAT_REGEX_STATES_MAX];
	uint32_t n;
};

struct match {
	const struct flat_regex *regex;
	uint64_t in[FLAT_REGEX_STATES_MAX / 64];
	uint16_t stack[FLAT_REGEX_STATES_MAX * 2];
	bool matched; /* of the last set made */
};

/* Adds a state and all that it leads to without a byte. */
static void follow(struct match *m, struct set *set, uint32_t from, bool begin, bool end)
{
	uint32_t n = 0;

	m->stack[n++] = (uint16_t)from;
	while (n > 0) {
		uint32_t i = m->stack[--n];
		const struct regex_state *s = &m->regex->v[i];

		if (m->in[i >> 6] >> (i & 63) & 1)
			continue;
		m->in[i >> 6] |= 1ULL << (i & 63);
		switch (s->op) {
		case OP_SPLIT:
			m->stack[n++] = s->y;
			m->stack[n++] = s->x;
			break;
		case OP_JUMP:
			m->stack[n++] = s->x;
			break;
		case OP_BEGIN:
		case OP_END:
			if (s->op == OP_BEGIN ? begin : end)
				m->stack[n++] = (uint16_t)(i + 1);
			break;
		case OP_SAVE:
			m->stack[n++] = (uint16_t)(i + 1);
			break;
		case OP_MATCH:
			m->matched = true;
			break;
		default:
			set->v[set->n++] = (uint16_t)i;
			break;
		}
	}
}

bool flat_regex_match(const struct flat_regex *regex, const char *text, size_t len)
{
	struct set sets[2] = {{.n = 0}, {.n = 0}};
	struct match m = {.regex = regex};
	struct set *now = &sets[0];
	struct set *next = &sets[1];

	follow(&m, now, 0, true, len == 0);
	for (size_t i = 0; i < len; i++) {
		unsigned byte = (unsigned char)text[i];
		struct set *used = now;

		if (now->n == 0)
			return false;
		memset(m.in, 0, sizeof(m.in));
		m.matched = false;
		next->n = 0;
		for (uint32_t k = 0; k < now->n; k++) {
			const struct regex_state *s = &regex->v[now->v[k]];

			if (s->class[byte >> 5] >> (byte & 31) & 1)
				follow(&m, next, now->v[k] + 1U, false, i + 1 == len);
		}
		now = next;
		next = used;
	}
	return m.matched;
}
