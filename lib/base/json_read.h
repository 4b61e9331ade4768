/*
 * A JSON reader (RFC 8259), strict: what two readers could take in two ways is refused. So no name may stand twice in
 * an object, text is valid UTF-8, there is no NUL in it and no lone surrogate, numbers have JSON's grammar, and nothing
 * follows the document but blanks.
 */
#ifndef FLAT_BASE_JSON_READ_H
#define FLAT_BASE_JSON_READ_H

#include <stdbool.h>

#include "base/base.h"
#include "base/pool.h"

/* Objects and lists within each other. Tokens and key sets have four. */
#define FLAT_JSON_READ_DEPTH_MAX 32U
/* Members of one object: they are compared with each other. */
#define FLAT_JSON_READ_MEMBERS_MAX 256U

enum flat_json_kind {
	FLAT_JSON_NULL,
	FLAT_JSON_FALSE,
	FLAT_JSON_TRUE,
	FLAT_JSON_NUMBER,
	FLAT_JSON_TEXT,
	FLAT_JSON_LIST,
	FLAT_JSON_OBJECT,
};

struct flat_json_node {
	enum flat_json_kind kind;
	/* TEXT: decoded; NUMBER: as it was written. NUL-terminated. */
	const char *text;
	size_t len;
	/* Of a member: its name, NUL-terminated. NULL: no member. */
	const char *name;
	size_t name_len;
	/* Of LIST and OBJECT, in order. */
	const struct flat_json_node *first;
	const struct flat_json_node *next; /* of the same list or object */
};

/**
 * Reads one document of `len` bytes. Nodes and texts come from `pool` (whose limit bounds them) and refer to nothing
 * else. 0 with *out; -EBADMSG: it is no JSON, or refused as above; -ENOMEM: no memory, or the pool's limit.
 */
FLAT_MUST_CHECK int flat_json_read(const char *text, size_t len, struct flat_pool *pool,
				   const struct flat_json_node **out);

/** The member of an object, or NULL: none, or `object` is none (or NULL). */
const struct flat_json_node *flat_json_member(const struct flat_json_node *object,
					      const char *name);

/** The text of a TEXT member, or NULL. */
const char *flat_json_member_text(const struct flat_json_node *object, const char *name);

/** A NUMBER as a double. False: `node` is NULL or no number, or it is out of range. */
bool flat_json_number(const struct flat_json_node *node, double *out);

#endif
