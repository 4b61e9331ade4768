/* Session persistence: Gateway API's sessionPersistence of a route's rule, and Istio's labels of a service. */
#include <stdio.h>
#include <string.h>

#include "control/http_common.h"
#include "control/service_common.h"
#include "mesh/hashing.h"
#include "mesh/persist.h"

/* sessionName has at most as many characters in Gateway API's schema. */
#define NAME_MAX_CHARS 128U

#define LABEL_COOKIE "istio.io/persistent-session"
#define LABEL_HEADER "istio.io/persistent-session-header"

static uint64_t id_of(const char *id)
{
	return flat_xxh64(id, strlen(id), 0);
}

/* --- sessionPersistence --- */

struct reading {
	struct flat_persistence *p;
	/* cookieConfig; and the later form, in which `cookie` or `header` says the type by being there. */
	const struct yaml_node *name, *config, *cookie, *header;
};

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	/* A cookie's name is a token too (RFC 6265, 4.1.1). */
	r->p->name = cfg_header_name(cfg, node, true);
	r->name = node;
	if (r->p->name && strlen(r->p->name) > NAME_MAX_CHARS)
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "give it a shorter one",
			  "a session's name has at most %u characters", NAME_MAX_CHARS);
}

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"Cookie", "Header"};

	((struct reading *)obj)->p->header = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) > 0;
}

static void parse_absolute(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_s(cfg, node, &((struct reading *)obj)->p->absolute_s);
}

static void parse_idle(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_s(cfg, node, &((struct reading *)obj)->p->idle_s);
}

static void parse_lifetime(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"Session", "Permanent"};

	((struct reading *)obj)->p->permanent =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) > 0;
}

static void parse_config(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("lifetimeType", parse_lifetime)};

	((struct reading *)obj)->config = node;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static bool is_path(const char *text)
{
	if (*text != '/')
		return false;
	for (; *text; text++) {
		if ((unsigned char)*text <= ' ' || *text == ';' || *text == 0x7f)
			return false;
	}
	return true;
}

static void parse_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *text = cfg_string(cfg, node);

	if (text && !is_path(text))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin it with a slash",
			  "\"%.100s\" is no path of a cookie", text);
	((struct reading *)obj)->p->path = text;
}

static void parse_cookie(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("lifetimeType", parse_lifetime),
	    CFG_FIELD("path", parse_path),
	};
	struct reading *r = obj;

	r->cookie = node;
	r->p->path = "/";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("name", parse_name)};
	struct reading *r = obj;

	r->header = node;
	r->p->header = true;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* What stands beside what. */
static bool forms_agree(struct cfg *cfg, const struct yaml_node *node, const struct reading *r)
{
	bool later = r->cookie || r->header;
	bool earlier = r->config || yaml_get(node, "sessionName") || yaml_get(node, "type");

	if (r->cookie && r->header)
		cfg_error(cfg, &r->header->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a session has both cookie and header");
	else if (later && earlier)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "say it in cookie or header",
			  "sessionName, type and cookieConfig stand beside cookie or header");
	else if (r->config && r->p->header)
		cfg_error(cfg, &r->config->where, FLAT_DIAG_BAD_VALUE, "take it out, or use Cookie",
			  "a session of type Header has no cookie");
	else
		return true;
	return false;
}

const struct flat_persistence *cfg_api_persistence(struct cfg *cfg, const struct yaml_node *node,
						   const char *id)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("sessionName", parse_name),
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("absoluteTimeout", parse_absolute),
	    CFG_FIELD("idleTimeout", parse_idle),
	    CFG_FIELD("cookieConfig", parse_config),
	    CFG_FIELD("cookie", parse_cookie),
	    CFG_FIELD("header", parse_header),
	};
	struct reading r = {.p = cfg_array(cfg, 1, sizeof(*r.p))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.p)
		return NULL;
	r.p->where = node->where;
	r.p->id = id_of(id);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (cfg->diags->n_errors != errors)
		return NULL;
	if (forms_agree(cfg, node, &r) && r.p->permanent && !r.p->absolute_s)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "a Permanent cookie needs an \"absoluteTimeout\"");
	if (!r.name)
		r.p->name = flat_pool_printf(cfg->pool, "flat-session-%08x",
					     (unsigned)(r.p->id & UINT32_MAX));
	cfg->oom |= !r.p->name;
	return r.p;
}

/* --- labels --- */

/* The name before `len`, as a node of its own: what is wrong with it is said as of any name. */
static const char *name_in(struct cfg *cfg, const char *text, size_t len)
{
	struct yaml_node node = {.kind = YAML_SCALAR, .where = cfg->where};

	node.text = flat_pool_printf(cfg->pool, "%.*s", (int)len, text);
	cfg->oom |= !node.text;
	return node.text ? cfg_header_name(cfg, &node, true) : NULL;
}

const struct flat_persistence *cfg_service_persistence(struct cfg *cfg, const char *host)
{
	const char *cookie = flat_labels_get(&cfg->labels, LABEL_COOKIE);
	const char *header = flat_labels_get(&cfg->labels, LABEL_HEADER);
	const char *text = cookie && *cookie ? cookie : header;
	const char *colon = text == cookie && text ? strchr(text, ':') : NULL;
	struct flat_persistence *p;

	if (!text || !*text)
		return NULL;
	p = cfg_array(cfg, 1, sizeof(*p));
	if (!p)
		return NULL;
	p->header = text != cookie;
	p->path = colon ? colon + 1 : "/";
	p->id = id_of(host);
	p->where = cfg->where;
	p->name = name_in(cfg, text, colon ? (size_t)(colon - text) : strlen(text));
	if (p->name && !is_path(p->path))
		cfg_error(cfg, &cfg->where, FLAT_DIAG_BAD_VALUE, "write NAME, or NAME:/PATH",
			  "\"%.100s\" of label " LABEL_COOKIE " is no path of a cookie", p->path);
	return p->name ? p : NULL;
}
