#include "control/schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void report(struct cfg *cfg, enum flat_severity severity, const struct flat_where *where,
		   enum flat_diag_code code, const char *todo, const char *what)
{
	flat_diags_add(cfg->diags, severity, code, where, cfg->resource[0] ? cfg->resource : NULL,
		       todo, "%s", what);
}

void cfg_error(struct cfg *cfg, const struct flat_where *where, enum flat_diag_code code,
	       const char *todo, const char *fmt, ...)
{
	char what[1024];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	report(cfg, FLAT_SEVERITY_ERROR, where, code, todo, what);
}

void cfg_warn(struct cfg *cfg, const struct flat_where *where, enum flat_diag_code code,
	      const char *todo, const char *fmt, ...)
{
	char what[1024];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	report(cfg, FLAT_SEVERITY_WARNING, where, code, todo, what);
}

#define DISTANCE_FAR 64U

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* One row of the table of edit distances: `a` is the letter of this row, `b` the other text. */
static void distance_row(unsigned *row, char a, const char *b)
{
	unsigned diagonal = row[0]++;
	size_t j;

	for (j = 1; b[j - 1]; j++) {
		bool same = tolower((unsigned char)a) == tolower((unsigned char)b[j - 1]);
		unsigned above = row[j];

		row[j] = min3(diagonal + (same ? 0 : 1), above + 1, row[j - 1] + 1);
		diagonal = above;
	}
}

/* Edit distance (Levenshtein) with case ignored, of texts below 64 characters; larger ones: far. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[DISTANCE_FAR];
	size_t len = strlen(b), i;

	if (strlen(a) >= DISTANCE_FAR || len >= DISTANCE_FAR)
		return DISTANCE_FAR;
	for (i = 0; i <= len; i++)
		row[i] = (unsigned)i;
	for (i = 0; a[i]; i++)
		distance_row(row, a[i], b);
	return row[len];
}

const char *cfg_nearest(const char *text, const char *const *names, size_t n)
{
	unsigned best = DISTANCE_FAR;
	const char *found = NULL;
	size_t i;

	for (i = 0; i < n; i++) {
		unsigned d = distance(text, names[i]);

		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	/* Further than a third of its letters is not a slip of the keyboard. */
	return found && best <= strlen(found) / 3 + 1 && best < strlen(found) ? found : NULL;
}

static void unknown_field(struct cfg *cfg, const struct yaml_node *key,
			  const struct cfg_field *fields, size_t n)
{
	const char *names[64], *near;
	char todo[FLAT_CONFIG_NAME_MAX];
	size_t i;

	for (i = 0; i < n && i < FLAT_ARRAY_SIZE(names); i++)
		names[i] = fields[i].name;
	near = cfg_nearest(key->text, names, i);
	if (near)
		(void)snprintf(todo, sizeof(todo), "did you mean \"%s\"?", near);
	else
		(void)snprintf(todo, sizeof(todo), "remove it, or move it to where it belongs");
	cfg_error(cfg, &key->where, FLAT_DIAG_UNKNOWN_FIELD, todo, "unknown field \"%.100s\"",
		  key->text);
}

bool cfg_expect(struct cfg *cfg, const struct yaml_node *node, enum yaml_kind kind)
{
	static const char *const names[] = {
	    [YAML_SCALAR] = "one value",
	    [YAML_LIST] = "a list",
	    [YAML_MAP] = "a mapping of fields",
	};

	if (node->kind == kind)
		return true;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "see docs/configuration.md",
		  "%s is expected here, not %s", names[kind], names[node->kind]);
	return false;
}

void cfg_map(struct cfg *cfg, const struct yaml_node *node, const struct cfg_field *fields,
	     size_t n_fields, void *obj)
{
	const struct yaml_item *item;
	size_t i;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	for (item = node->first; item; item = item->next) {
		for (i = 0; i < n_fields; i++)
			if (strcmp(fields[i].name, item->key->text) == 0)
				break;
		if (i == n_fields) {
			unknown_field(cfg, item->key, fields, n_fields);
			continue;
		}
		if (yaml_is_null(item->value))
			continue;
		if (fields[i].status == CFG_NOT_HONOURED)
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "field \"%s\" is not honoured: %s", fields[i].name, fields[i].why);
		else if (fields[i].status == CFG_HONOURED)
			fields[i].parse(cfg, item->value, obj);
	}
}

uint32_t cfg_list(struct cfg *cfg, const struct yaml_node *node, uint32_t max, cfg_parse_fn *parse,
		  void *obj)
{
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return 0;
	if (node->n > max) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "split it",
			  "a list of %u items, where at most %u are taken", node->n, max);
		return 0;
	}
	for (item = node->first; item; item = item->next)
		parse(cfg, item->value, obj);
	return node->n;
}

void *cfg_array(struct cfg *cfg, size_t n, size_t size)
{
	void *mem;

	if (n == 0)
		return NULL;
	mem = flat_pool_array(cfg->pool, n, size);
	if (!mem)
		cfg->oom = true;
	return mem;
}

const char *cfg_string(struct cfg *cfg, const struct yaml_node *node)
{
	const char *copy;
	size_t len;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return NULL;
	len = strlen(node->text);
	if (len == 0 || yaml_is_null(node)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "give it a value or remove it",
			  "an empty value");
		return NULL;
	}
	if (len > FLAT_CONFIG_NAME_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "shorten it",
			  "a value of %zu bytes, where at most %u are taken", len,
			  FLAT_CONFIG_NAME_MAX);
		return NULL;
	}
	copy = flat_pool_strndup(cfg->pool, node->text, len);
	if (!copy)
		cfg->oom = true;
	return copy;
}

/* Decimal digits only; false also when it does not fit. */
static bool parse_uint(const char *text, uint64_t *out)
{
	uint64_t value = 0;
	const char *p;

	/* A nought before others: YAML 1.1 reads octal, others do not. */
	if (!*text || (text[0] == '0' && text[1]))
		return false;
	for (p = text; *p; p++) {
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(value, 10U, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return false;
	}
	*out = value;
	return true;
}

bool cfg_uint(struct cfg *cfg, const struct yaml_node *node, uint64_t min, uint64_t max,
	      uint64_t *out)
{
	uint64_t value;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return false;
	if (!parse_uint(node->text, &value) || value < min || value > max) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "correct the number",
			  "\"%.100s\" is not a whole number from %llu to %llu", node->text,
			  (unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*out = value;
	return true;
}

uint16_t cfg_port(struct cfg *cfg, const struct yaml_node *node)
{
	uint64_t port;

	return cfg_uint(cfg, node, 1, 65535, &port) ? (uint16_t)port : 0;
}

int cfg_enum(struct cfg *cfg, const struct yaml_node *node, const char *const *names, size_t n)
{
	char all[400] = "", todo[512];
	const char *near;
	size_t i, len = 0;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return -1;
	for (i = 0; i < n; i++)
		if (strcmp(names[i], node->text) == 0)
			return (int)i;
	for (i = 0; i < n && len < sizeof(all); i++)
		len +=
		    (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", names[i]);
	near = cfg_nearest(node->text, names, n);
	if (near)
		(void)snprintf(todo, sizeof(todo), "did you mean \"%s\"?", near);
	else
		(void)snprintf(todo, sizeof(todo), "use one of %s", all);
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, todo, "\"%.100s\" is not one of %s",
		  node->text, all);
	return -1;
}

bool cfg_bool(struct cfg *cfg, const struct yaml_node *node)
{
	static const char *const names[] = {"false", "true"};

	return cfg_enum(cfg, node, names, 2) == 1;
}

struct flat_labels cfg_labels(struct cfg *cfg, const struct yaml_node *node)
{
	struct flat_labels out = {NULL, 0};
	const struct yaml_item *item;
	struct flat_label *v;
	uint32_t n = 0;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return out;
	if (node->n > FLAT_CONFIG_LIST_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "too many labels");
		return out;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next) {
		v[n].key = cfg_string(cfg, item->key);
		if (item->value->kind == YAML_SCALAR && !*item->value->text)
			v[n].value = ""; /* Kubernetes allows labels without a value */
		else
			v[n].value = cfg_string(cfg, item->value);
		if (v[n].key && v[n].value)
			n++;
	}
	flat_labels_sort(v, n);
	out.v = v;
	out.n = n;
	return out;
}

static void parse_match_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_labels *labels = obj;
	uint32_t i;

	*labels = cfg_labels(cfg, node);
	for (i = 0; i < labels->n; i++)
		if (strchr(labels->v[i].key, '*') || strchr(labels->v[i].value, '*'))
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "name the label in full",
				  "label selectors take no wildcards (label \"%s\")",
				  labels->v[i].key);
}

struct flat_labels cfg_match_labels(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {CFG_FIELD("matchLabels", parse_match_labels)};
	struct flat_labels labels = {NULL, 0};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &labels);
	return labels;
}

bool cfg_is_dns(const char *text, bool dots)
{
	size_t len = strlen(text), label = 0, i;

	if (len == 0 || len > 253)
		return false;
	for (i = 0; i < len; i++) {
		char c = text[i];

		if (c == '.') {
			if (!dots || label == 0 || text[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && label > 0)))
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0 && text[len - 1] != '-';
}

void cfg_spec(struct cfg *cfg, const struct yaml_node *root, cfg_parse_fn *parse, void *obj)
{
	const struct cfg_field fields[] = {CFG_TOP_FIELDS, CFG_FIELD("spec", parse)};

	cfg_map(cfg, root, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_check_annotations(struct cfg *cfg, const char *const *known, size_t n)
{
	const struct yaml_item *item;
	size_t i;

	for (item = cfg->annotations ? cfg->annotations->first : NULL; item; item = item->next) {
		const char *key = item->key->text;
		const char *slash = strchr(key, '/');
		const char *near;
		char todo[FLAT_CONFIG_NAME_MAX];
		bool ours;

		for (i = 0; i < n; i++)
			if (strcmp(known[i], key) == 0)
				break;
		if (i < n || !slash)
			continue;
		ours = strncmp(key, "mesh.libflat.io/", 16) == 0;
		if (!ours && (slash - key < 8 || strncmp(slash - 8, "istio.io", 8) != 0))
			continue;
		near = cfg_nearest(key, known, n);
		if (near)
			(void)snprintf(todo, sizeof(todo), "did you mean \"%s\"?", near);
		if (ours)
			cfg_error(cfg, &item->key->where, FLAT_DIAG_UNKNOWN_FIELD,
				  near ? todo : "remove it", "unknown annotation \"%.200s\"", key);
		else
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED, near ? todo : NULL,
				 "annotation \"%.200s\" is not honoured", key);
	}
}

enum flat_path cfg_path(struct cfg *cfg, bool exports)
{
	static const char *const annotations[] = {"mesh.libflat.io/path",
						  "networking.istio.io/exportTo"};
	static const char *const names[] = {"auto", "direct", "forwarded"};
	const struct yaml_node *node = yaml_get(cfg->annotations, annotations[0]);
	int i;

	cfg_check_annotations(cfg, annotations, exports ? 2 : 1);
	if (!node)
		return FLAT_PATH_AUTO;
	i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));
	return i < 0 ? FLAT_PATH_AUTO : (enum flat_path)i;
}
