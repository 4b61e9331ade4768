#include "control/yaml.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "base/map.h"
#include "control/limits.h"

/* An open list or mapping, and the key that waits for its value. */
struct level {
	struct yaml_node *node;
	const struct yaml_node *key;
};

struct reader {
	yaml_parser_t parser;
	const struct yaml_source *source;
	struct flat_pool *pool;
	struct flat_diags *diags;
	struct flat_map anchors; /* name -> struct yaml_node, of this document */
	struct level levels[FLAT_CONFIG_DEPTH_MAX];
	uint32_t depth;
	uint32_t documents;
	uint64_t values; /* of this document */
	struct yaml_node *root;
};

static struct flat_where where_of(const struct reader *reader, const yaml_mark_t *mark)
{
	struct flat_where where = {.file = reader->source->file};

	where.line = (uint32_t)mark->line + 1 + reader->source->line_offset;
	where.col = reader->source->no_columns ? 0 : (uint32_t)mark->column + 1;
	return where;
}

static int fail(struct reader *reader, const struct flat_where *where, enum flat_diag_code code,
		const char *todo, const char *what)
{
	flat_diags_add(reader->diags, FLAT_SEVERITY_ERROR, code, where, NULL, todo, "%s", what);
	return -EINVAL;
}

/* Where a byte of the file stands: libyaml tells no more of what it cannot read. */
static struct flat_where where_of_byte(const struct reader *reader, size_t offset)
{
	const struct yaml_source *source = reader->source;
	yaml_mark_t mark = {0};

	for (size_t i = 0; i < offset && i < source->len; i++) {
		if (source->text[i] == '\n') {
			mark.line++;
			mark.column = 0;
		} else if (((unsigned char)source->text[i] & 0xc0) != 0x80) {
			mark.column++;
		}
	}
	return where_of(reader, &mark);
}

static int parser_error(struct reader *reader)
{
	const yaml_parser_t *p = &reader->parser;
	struct flat_where where = where_of(reader, &p->problem_mark);

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR) {
		where = where_of_byte(reader, p->problem_offset);
		flat_diags_add(reader->diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_SYNTAX, &where, NULL,
			       "save the file as UTF-8 text", "not readable at byte %zu: %s",
			       p->problem_offset, p->problem ? p->problem : "bad encoding");
		return -EINVAL;
	}
	flat_diags_add(reader->diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_SYNTAX, &where, NULL,
		       "correct the YAML there or just before", "not YAML: %s%s%s",
		       p->problem ? p->problem : "syntax error", p->context ? " " : "",
		       p->context ? p->context : "");
	return -EINVAL;
}

static struct yaml_node *node_new(struct reader *reader, enum yaml_kind kind,
				  const yaml_event_t *event)
{
	struct yaml_node *node = flat_pool_alloc(reader->pool, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->where = where_of(reader, &event->start_mark);
	node->total = 1;
	return node;
}

static int count_values(struct reader *reader, const struct yaml_node *node)
{
	reader->values += node->total;
	if (reader->values > FLAT_CONFIG_VALUES_MAX)
		return fail(reader, &node->where, FLAT_DIAG_LIMIT,
			    "split the document, or write out the aliases",
			    "the document has too many values, aliases counted as often as used");
	return 0;
}

/* Puts a finished (or just opened) value where it belongs: key, value, list item or root. */
static int attach(struct reader *reader, struct yaml_node *node)
{
	struct level *level;
	struct yaml_item *item;

	if (reader->depth == 0) {
		reader->root = node;
		return 0;
	}
	level = &reader->levels[reader->depth - 1];
	if (level->node->kind == YAML_MAP && !level->key) {
		if (node->kind != YAML_SCALAR)
			return fail(reader, &node->where, FLAT_DIAG_SYNTAX, "use a plain name",
				    "a field's name cannot be a list or a mapping");
		if (node->plain && strcmp(node->text, "<<") == 0)
			return fail(reader, &node->where, FLAT_DIAG_SYNTAX, "write the fields out",
				    "merge keys are not supported");
		level->key = node;
		return 0;
	}
	item = flat_pool_alloc(reader->pool, sizeof(*item));
	if (!item)
		return -ENOMEM;
	item->key = level->key;
	item->value = node;
	level->key = NULL;
	if (level->node->last)
		level->node->last->next = item;
	else
		level->node->first = item;
	level->node->last = item;
	level->node->n++;
	return 0;
}

static int anchor(struct reader *reader, const yaml_char_t *name, struct yaml_node *node)
{
	char *copy;
	int ret;

	if (!name)
		return 0;
	copy = flat_pool_strdup(reader->pool, (const char *)name);
	if (!copy)
		return -ENOMEM;
	ret = flat_map_put_str(&reader->anchors, copy, node);
	if (ret == -EEXIST)
		return fail(reader, &node->where, FLAT_DIAG_SYNTAX, "give each anchor its own name",
			    "an anchor of this name exists already in the document");
	return ret;
}

static int on_scalar(struct reader *reader, const yaml_event_t *event)
{
	struct yaml_node *node = node_new(reader, YAML_SCALAR, event);
	const char *text = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	int ret;

	if (!node)
		return -ENOMEM;
	if (memchr(text, '\0', len))
		return fail(reader, &node->where, FLAT_DIAG_BAD_VALUE, "remove it",
			    "a text cannot hold a NUL character");
	if (len > FLAT_CONFIG_SCALAR_MAX)
		return fail(reader, &node->where, FLAT_DIAG_LIMIT, "shorten it",
			    "a text of more than 1 MiB");
	node->text = flat_pool_strndup(reader->pool, text, len);
	if (!node->text)
		return -ENOMEM;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	node->literal = event->data.scalar.style == YAML_LITERAL_SCALAR_STYLE;
	ret = count_values(reader, node);
	if (!ret)
		ret = anchor(reader, event->data.scalar.anchor, node);
	return ret ? ret : attach(reader, node);
}

static int on_open(struct reader *reader, enum yaml_kind kind, const yaml_char_t *name,
		   const yaml_event_t *event)
{
	struct yaml_node *node = node_new(reader, kind, event);
	int ret;

	if (!node)
		return -ENOMEM;
	if (reader->depth == FLAT_CONFIG_DEPTH_MAX)
		return fail(reader, &node->where, FLAT_DIAG_LIMIT, "flatten it",
			    "lists and mappings are nested too deeply");
	node->open = true;
	ret = count_values(reader, node);
	if (!ret)
		ret = anchor(reader, name, node);
	if (!ret)
		ret = attach(reader, node);
	if (ret)
		return ret;
	reader->levels[reader->depth++] = (struct level){.node = node};
	return 0;
}

/* The name of a field. An item of a mapping always has a key: attach() makes none without. */
static const char *key_text(const struct yaml_item *item)
{
	return item->key ? item->key->text : "";
}

/* A field that is there twice. Short mappings are compared pairwise, long ones through a map. */
static int check_keys(struct reader *reader, const struct yaml_node *node)
{
	const struct yaml_item *a, *b, *twice = NULL;
	struct flat_map seen = {0};
	int ret = 0;

	for (a = node->first; a && !twice && !ret; a = a->next) {
		if (node->n > 16) {
			ret = flat_map_put_str(&seen, key_text(a), reader);
			if (ret == -EEXIST) {
				twice = a;
				ret = 0;
			}
			continue;
		}
		for (b = node->first; b != a && !twice; b = b->next)
			if (strcmp(key_text(a), key_text(b)) == 0)
				twice = a;
	}
	flat_map_fini(&seen);
	if (!twice)
		return ret;
	flat_diags_add(reader->diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_DUPLICATE, &twice->key->where,
		       NULL, "keep one of them", "field \"%s\" is there twice", key_text(twice));
	return -EINVAL;
}

static int on_close(struct reader *reader)
{
	struct yaml_node *node = reader->levels[--reader->depth].node;
	const struct yaml_item *item;
	int ret = 0;

	node->open = false;
	for (item = node->first; item; item = item->next)
		node->total += item->value->total + (item->key ? 1 : 0);
	if (node->kind == YAML_MAP)
		ret = check_keys(reader, node);
	return ret;
}

static int on_alias(struct reader *reader, const yaml_event_t *event)
{
	struct flat_where where = where_of(reader, &event->start_mark);
	struct yaml_node *node =
	    flat_map_get_str(&reader->anchors, (const char *)event->data.alias.anchor);
	int ret;

	if (!node)
		return fail(reader, &where, FLAT_DIAG_SYNTAX, "define the anchor before it is used",
			    "no such anchor in this document");
	if (node->open)
		return fail(reader, &where, FLAT_DIAG_SYNTAX, "write the value out",
			    "an alias to a value that holds it");
	ret = count_values(reader, node);
	return ret ? ret : attach(reader, node);
}

static void document_reset(struct reader *reader)
{
	flat_map_fini(&reader->anchors);
	reader->depth = 0;
	reader->values = 0;
	reader->root = NULL;
}

static int on_event(struct reader *reader, const yaml_event_t *event, yaml_document_fn *fn,
		    void *arg)
{
	int ret;

	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		document_reset(reader);
		if (++reader->documents > FLAT_CONFIG_DOCUMENTS_MAX) {
			struct flat_where where = where_of(reader, &event->start_mark);

			return fail(reader, &where, FLAT_DIAG_LIMIT, "split the file",
				    "the file has too many documents");
		}
		return 0;
	case YAML_DOCUMENT_END_EVENT:
		if (!reader->root || yaml_is_null(reader->root))
			return 0;
		ret = fn(arg, reader->root);
		document_reset(reader);
		return ret;
	case YAML_SCALAR_EVENT:
		return on_scalar(reader, event);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(reader, YAML_LIST, event->data.sequence_start.anchor, event);
	case YAML_MAPPING_START_EVENT:
		return on_open(reader, YAML_MAP, event->data.mapping_start.anchor, event);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_close(reader);
	case YAML_ALIAS_EVENT:
		return on_alias(reader, event);
	default:
		return 0;
	}
}

int yaml_read(const struct yaml_source *source, struct flat_pool *pool, struct flat_diags *diags,
	      yaml_document_fn *fn, void *arg)
{
	struct reader reader = {.source = source, .pool = pool, .diags = diags};
	bool end = false;
	int ret = 0;

	if (!yaml_parser_initialize(&reader.parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)source->text,
				     source->len);
	while (!end && !ret) {
		yaml_event_t event;

		if (!yaml_parser_parse(&reader.parser, &event)) {
			ret = parser_error(&reader);
			break;
		}
		end = event.type == YAML_STREAM_END_EVENT || event.type == YAML_NO_EVENT;
		ret = on_event(&reader, &event, fn, arg);
		yaml_event_delete(&event);
	}
	flat_map_fini(&reader.anchors);
	yaml_parser_delete(&reader.parser);
	return ret;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
	const struct yaml_item *item;

	if (!map || map->kind != YAML_MAP)
		return NULL;
	for (item = map->first; item; item = item->next)
		if (strcmp(item->key->text, key) == 0)
			return item->value;
	return NULL;
}

bool yaml_is_null(const struct yaml_node *node)
{
	return node->kind == YAML_SCALAR && node->plain &&
	       (!*node->text || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
		strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}

/* Depth is bounded where they were read. */
static bool same(const struct yaml_node *a, const struct yaml_node *b, bool placed)
{
	const struct yaml_item *x, *y;

	if (a == b)
		return true;
	if (a->kind != b->kind || a->n != b->n || a->plain != b->plain || a->literal != b->literal)
		return false;
	if (placed && (a->where.line != b->where.line || a->where.col != b->where.col))
		return false;
	if (a->kind == YAML_SCALAR)
		return strcmp(a->text, b->text) == 0;
	for (x = a->first, y = b->first; x && y; x = x->next, y = y->next)
		if ((x->key && !same(x->key, y->key, placed)) || !same(x->value, y->value, placed))
			return false;
	return true;
}

bool yaml_same(const struct yaml_node *a, const struct yaml_node *b)
{
	return same(a, b, true);
}

bool yaml_says_same(const struct yaml_node *a, const struct yaml_node *b)
{
	return a && b ? same(a, b, false) : a == b;
}
