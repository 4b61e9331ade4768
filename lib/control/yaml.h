/*
 * YAML (and so JSON) text -> a tree of values that know their line and column. Built from libyaml's
 * events rather than its documents: depth, number of values and what aliases expand to are bounded while
 * reading, and an alias to a value that holds it is refused.
 */
#ifndef FLAT_CONTROL_YAML_H
#define FLAT_CONTROL_YAML_H

#include <stdbool.h>

#include "base/diag.h"
#include "base/pool.h"

enum yaml_kind {
	YAML_SCALAR,
	YAML_LIST,
	YAML_MAP,
};

struct yaml_item;

struct yaml_node {
	enum yaml_kind kind;
	struct flat_where where;
	const char *text;	 /* SCALAR: its value, NUL-terminated, no NUL inside */
	bool plain;		 /* SCALAR: not quoted and not a block: may mean null or a number */
	bool literal;		 /* SCALAR: a block scalar, its text starts on the next line */
	struct yaml_item *first; /* LIST, MAP */
	struct yaml_item *last;
	uint32_t n;	/* items */
	uint64_t total; /* values in it, itself included, aliases expanded */
	bool open;	/* being read: an alias to it would be a loop */
};

struct yaml_item {
	const struct yaml_node *key; /* MAP: a scalar; LIST: NULL */
	const struct yaml_node *value;
	struct yaml_item *next;
};

/** Called per document; `root` lives as long as the pool. Returning other than 0 ends the reading. */
typedef int yaml_document_fn(void *arg, const struct yaml_node *root);

struct yaml_source {
	const char *file; /* name for messages, borrowed as long as the nodes */
	const char *text; /* `len` bytes */
	size_t len;
	uint32_t line_offset; /* added to every line */
	bool no_columns;      /* columns would be wrong: an embedded text */
};

/**
 * Reads all documents of a text. What is wrong with it goes to `diags`. The tree is allocated from `pool`.
 * 0; -EINVAL with an error in `diags`; -ENOMEM; or what `fn` returned. Empty documents are skipped.
 */
FLAT_MUST_CHECK int yaml_read(const struct yaml_source *source, struct flat_pool *pool,
			      struct flat_diags *diags, yaml_document_fn *fn, void *arg);

/** The value of a key in a MAP, or NULL; NULL also when `map` is no MAP. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);

/** Whether two values are the same, where they stand included. */
bool yaml_same(const struct yaml_node *a, const struct yaml_node *b);

/** Whether they are the same but for where they stand. NULL is the same as NULL. */
bool yaml_says_same(const struct yaml_node *a, const struct yaml_node *b);

/** Whether the value is null: `null`, `~`, or nothing at all. */
bool yaml_is_null(const struct yaml_node *node);

#endif
