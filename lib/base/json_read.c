#include "base/json_read.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Where the reader is. */
struct cursor {
	const unsigned char *at;
	const unsigned char *end;
	struct flat_pool *pool;
	int err; /* 0, or why it ended */
};

static bool fail(struct cursor *c, int err)
{
	if (c->err == 0)
		c->err = err;
	return false;
}

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end &&
	       (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool take(struct cursor *c, char want)
{
	if (c->at == c->end || *c->at != (unsigned char)want)
		return false;
	c->at++;
	return true;
}

static bool literal(struct cursor *c, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
		return fail(c, -EBADMSG);
	c->at += len;
	return true;
}

/* --- texts --- */

static int hex(unsigned char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

/* The four digits after \u. */
static bool unit(struct cursor *c, uint32_t *out)
{
	*out = 0;
	if (c->end - c->at < 4)
		return fail(c, -EBADMSG);
	for (int i = 0; i < 4; i++) {
		int digit = hex(*c->at++);

		if (digit < 0)
			return fail(c, -EBADMSG);
		*out = *out << 4 | (uint32_t)digit;
	}
	return true;
}

static char *put_utf8(char *to, uint32_t code)
{
	if (code < 0x80) {
		*to++ = (char)code;
		return to;
	}
	if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
	} else if (code < 0x10000) {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
	} else {
		*to++ = (char)(0xf0 | code >> 18);
		*to++ = (char)(0x80 | (code >> 12 & 0x3f));
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
	}
	*to++ = (char)(0x80 | (code & 0x3f));
	return to;
}

/* What follows a backslash. No escape is shorter than its text. */
static bool escape(struct cursor *c, char **to)
{
	static const char from[] = "\"\\/bfnrt";
	static const char into[] = "\"\\/\b\f\n\r\t";
	const char *found;
	uint32_t code, low;

	if (c->at == c->end)
		return fail(c, -EBADMSG);
	if (*c->at != 'u') {
		found = *c->at ? strchr(from, *c->at) : NULL;
		if (!found)
			return fail(c, -EBADMSG);
		c->at++;
		*(*to)++ = into[found - from];
		return true;
	}
	c->at++;
	if (!unit(c, &code))
		return false;
	if (code >= 0xd800 && code < 0xdc00) {
		if (!take(c, '\\') || !take(c, 'u') || !unit(c, &low))
			return fail(c, -EBADMSG);
		if (low < 0xdc00 || low > 0xdfff)
			return fail(c, -EBADMSG);
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	} else if (code == 0 || (code >= 0xdc00 && code <= 0xdfff)) {
		return fail(c, -EBADMSG);
	}
	*to = put_utf8(*to, code);
	return true;
}

/* One character of more than a byte. */
static bool utf8(struct cursor *c, char **to)
{
	size_t n = flat_utf8_len(c->at, (size_t)(c->end - c->at));

	if (n == 0)
		return fail(c, -EBADMSG);
	for (; n > 0; n--)
		*(*to)++ = (char)*c->at++;
	return true;
}

/* After the opening quote. */
static bool text(struct cursor *c, const char **out, size_t *len)
{
	const unsigned char *p = c->at;
	char *start, *to;

	/* The text is never longer than what stands between the quotes. */
	while (p < c->end && *p != '"')
		p += *p == '\\' && p + 1 < c->end ? 2 : 1;
	start = to = flat_pool_alloc(c->pool, (size_t)(p - c->at) + 1);
	if (!start)
		return fail(c, -ENOMEM);
	for (;;) {
		if (c->at == c->end || *c->at < 0x20)
			return fail(c, -EBADMSG);
		if (*c->at == '"')
			break;
		if (*c->at == '\\') {
			c->at++;
			if (!escape(c, &to))
				return false;
		} else if (*c->at < 0x80) {
			*to++ = (char)*c->at++;
		} else if (!utf8(c, &to)) {
			return false;
		}
	}
	c->at++;
	*to = 0;
	*out = start;
	*len = (size_t)(to - start);
	return true;
}

/* --- numbers --- */

static bool digits(struct cursor *c)
{
	const unsigned char *start = c->at;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
		c->at++;
	return c->at > start || fail(c, -EBADMSG);
}

static bool number(struct cursor *c, struct flat_json_node *node)
{
	const unsigned char *start = c->at;

	(void)take(c, '-');
	if (!take(c, '0') && !digits(c))
		return false;
	if (take(c, '.') && !digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			(void)take(c, '-');
		if (!digits(c))
			return false;
	}
	node->kind = FLAT_JSON_NUMBER;
	node->len = (size_t)(c->at - start);
	node->text = flat_pool_strndup(c->pool, (const char *)start, node->len);
	return node->text || fail(c, -ENOMEM);
}

/* --- values --- */

static bool scalar(struct cursor *c, struct flat_json_node *node)
{
	switch (*c->at) {
	case '"':
		c->at++;
		node->kind = FLAT_JSON_TEXT;
		return text(c, &node->text, &node->len);
	case 'n':
		node->kind = FLAT_JSON_NULL;
		return literal(c, "null");
	case 't':
		node->kind = FLAT_JSON_TRUE;
		return literal(c, "true");
	case 'f':
		node->kind = FLAT_JSON_FALSE;
		return literal(c, "false");
	default:
		return number(c, node);
	}
}

/* An object or list that is open. */
struct level {
	struct flat_json_node *node;
	struct flat_json_node *last;
	uint32_t n;
};

static bool member_name(struct cursor *c, const struct level *level, struct flat_json_node *node)
{
	skip_blanks(c);
	if (!take(c, '"'))
		return fail(c, -EBADMSG);
	if (!text(c, &node->name, &node->name_len))
		return false;
	if (level->n >= FLAT_JSON_READ_MEMBERS_MAX || flat_json_member(level->node, node->name))
		return fail(c, -EBADMSG);
	skip_blanks(c);
	if (!take(c, ':'))
		return fail(c, -EBADMSG);
	return true;
}

/* The next value of the innermost level, put at its end. NULL: it failed. */
static struct flat_json_node *value(struct cursor *c, struct level *level)
{
	struct flat_json_node *node = flat_pool_array(c->pool, 1, sizeof(*node));

	if (!node) {
		(void)fail(c, -ENOMEM);
		return NULL;
	}
	if (level && level->node->kind == FLAT_JSON_OBJECT && !member_name(c, level, node))
		return NULL;
	if (level) {
		if (level->last)
			level->last->next = node;
		else
			level->node->first = node;
		level->last = node;
		level->n++;
	}
	skip_blanks(c);
	if (c->at == c->end) {
		(void)fail(c, -EBADMSG);
		return NULL;
	}
	if (*c->at == '{' || *c->at == '[') {
		node->kind = *c->at++ == '{' ? FLAT_JSON_OBJECT : FLAT_JSON_LIST;
		return node;
	}
	return scalar(c, node) ? node : NULL;
}

static bool opens(const struct flat_json_node *node)
{
	return node->kind == FLAT_JSON_OBJECT || node->kind == FLAT_JSON_LIST;
}

/* Closes the levels that end here. False: a value must follow, or it failed. */
static bool close_levels(struct cursor *c, const struct level *levels, uint32_t *depth, bool fresh)
{
	while (*depth > 0) {
		const struct level *level = &levels[*depth - 1];

		skip_blanks(c);
		if (take(c, level->node->kind == FLAT_JSON_OBJECT ? '}' : ']')) {
			(*depth)--;
			fresh = false;
			continue;
		}
		/* The first value needs no comma before it. */
		if (!fresh && !take(c, ','))
			(void)fail(c, -EBADMSG);
		return false;
	}
	return true;
}

int flat_json_read(const char *bytes, size_t len, struct flat_pool *pool,
		   const struct flat_json_node **out)
{
	struct cursor c = {(const unsigned char *)bytes, (const unsigned char *)bytes + len, pool,
			   0};
	struct level levels[FLAT_JSON_READ_DEPTH_MAX];
	uint32_t depth = 0;
	struct flat_json_node *root = value(&c, NULL);
	struct flat_json_node *node = root;

	while (node) {
		bool fresh = opens(node);

		if (fresh && depth == FLAT_JSON_READ_DEPTH_MAX)
			return -EBADMSG;
		if (fresh)
			levels[depth++] = (struct level){node, NULL, 0};
		if (close_levels(&c, levels, &depth, fresh))
			break;
		node = c.err == 0 ? value(&c, &levels[depth - 1]) : NULL;
	}
	skip_blanks(&c);
	if (c.err == 0 && c.at != c.end)
		c.err = -EBADMSG;
	*out = root;
	return c.err;
}

const struct flat_json_node *flat_json_member(const struct flat_json_node *object, const char *name)
{
	const struct flat_json_node *node =
	    object && object->kind == FLAT_JSON_OBJECT ? object->first : NULL;

	while (node && strcmp(node->name, name) != 0)
		node = node->next;
	return node;
}

const char *flat_json_member_text(const struct flat_json_node *object, const char *name)
{
	const struct flat_json_node *node = flat_json_member(object, name);

	return node && node->kind == FLAT_JSON_TEXT ? node->text : NULL;
}

bool flat_json_number(const struct flat_json_node *node, double *out)
{
	if (!node || node->kind != FLAT_JSON_NUMBER)
		return false;
	/* JSON's grammar is part of strtod's, whose decimal point is that of the C locale here. */
	*out = strtod(node->text, NULL);
	return isfinite(*out);
}
