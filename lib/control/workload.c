/* Workload (mesh.libflat.io/v1): which processes have which identity. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "control/schema.h"
#include "control/traffic_policy.h"

struct reading {
	struct flat_workload *workload;
	struct flat_selector *selectors;
	struct flat_labels labels; /* spec.labels */
	struct flat_selector *selector;
};

static void parse_id(struct cfg *cfg, const struct yaml_node *node, struct reading *r, unsigned has,
		     uint32_t *out)
{
	uint64_t value;

	/* (uid_t)-1 means "no change" to the kernel and is nobody's. */
	if (!cfg_uint(cfg, node, 0, UINT32_MAX - 1, &value))
		return;
	*out = (uint32_t)value;
	r->selector->has |= has;
}

static void parse_uid(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	parse_id(cfg, node, r, FLAT_SELECTOR_UID, &r->selector->uid);
}

static void parse_gid(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	parse_id(cfg, node, r, FLAT_SELECTOR_GID, &r->selector->gid);
}

static void parse_owner(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	parse_id(cfg, node, r, FLAT_SELECTOR_EXECUTABLE_OWNER, &r->selector->executable_owner);
}

/* An absolute path without empty, "." and ".." components; one final slash is taken off. */
static const char *parse_path(struct cfg *cfg, const struct yaml_node *node, bool root_allowed)
{
	const char *text = cfg_string(cfg, node), *p;
	size_t len;

	if (!text)
		return NULL;
	len = strlen(text);
	if (len > 1 && text[len - 1] == '/') {
		text = flat_pool_strndup(cfg->pool, text, --len);
		if (!text) {
			cfg->oom = true;
			return NULL;
		}
	}
	if (text[0] != '/' || (len == 1 && !root_allowed))
		goto bad;
	for (p = text; len > 1 && *p; p = strchrnul(p + 1, '/')) {
		size_t part = strcspn(p + 1, "/");

		if (part == 0 || (part == 1 && p[1] == '.') ||
		    (part == 2 && p[1] == '.' && p[2] == '.'))
			goto bad;
	}
	return text;
bad:
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
		  "write it from / on, without //, . and ..", "\"%.200s\" is no absolute path",
		  text);
	return NULL;
}

static void parse_cgroup(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->selector->cgroup = parse_path(cfg, node, true);
	if (!r->selector->cgroup)
		return;
	r->selector->cgroup_glob = strpbrk(r->selector->cgroup, "*?[") != NULL;
	r->selector->has |= FLAT_SELECTOR_CGROUP;
}

static void parse_executable(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->selector->executable = parse_path(cfg, node, false);
	if (!r->selector->executable)
		return;
	r->selector->has |= FLAT_SELECTOR_EXECUTABLE;
}

/* Two selectors that name the same attributes with the same values: the second can never win. */
static void check_twin(struct cfg *cfg, const struct reading *r)
{
	const struct flat_selector *s = r->selector;
	const struct flat_workload *other;
	char *text = flat_pool_printf(&cfg->tmp, "%u %u %u %u %s\n%s", s->has, s->uid, s->gid,
				      s->executable_owner, s->cgroup ? s->cgroup : "",
				      s->executable ? s->executable : "");
	int ret;

	if (!text) {
		cfg->oom = true;
		return;
	}
	ret = flat_map_put_str(&cfg->selectors, text, r->workload);
	if (ret == -ENOMEM)
		cfg->oom = true;
	if (ret != -EEXIST)
		return;
	other = flat_map_get_str(&cfg->selectors, text);
	cfg_error(cfg, &s->where, FLAT_DIAG_CONFLICT, "make them differ, or remove one",
		  "the same selector as Workload %s/%s (%s:%u) has", other->namespace, other->name,
		  other->where.file, other->where.line);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("uid", parse_uid),
	    CFG_FIELD("gid", parse_gid),
	    CFG_FIELD("cgroup", parse_cgroup),
	    CFG_FIELD("executable", parse_executable),
	    CFG_FIELD("executableOwner", parse_owner),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->selector = &r->selectors[r->workload->n_selectors++];
	r->selector->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors)
		return;
	if (r->selector->has == 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "name uid, gid, cgroup, executable or executableOwner",
			  "an empty selector, which would select every process");
		return;
	}
	if (r->selector->has == FLAT_SELECTOR_EXECUTABLE)
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_ADVICE, "add executableOwner, uid or cgroup",
		    "a path alone is weak: who may make a mount namespace can put any file there");
	check_twin(cfg, r);
}

static void parse_selectors(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->selectors = cfg_array(cfg, node->n, sizeof(*r->selectors));
	if (!r->selectors)
		return;
	r->workload->selectors = r->selectors;
	(void)cfg_list(cfg, node, FLAT_CONFIG_SELECTORS_MAX, parse_selector, r);
}

static void parse_account(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *name = cfg_string(cfg, node);

	if (name && !cfg_is_dns(name, true))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use lower-case letters, digits, dashes and dots",
			  "\"%.200s\" is no name of a service account", name);
	r->workload->service_account = name;
}

static void parse_locality(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->workload->locality = cfg_locality(cfg, node, false);
}

static void parse_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->labels = cfg_labels(cfg, node);
}

static void parse_connections(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t value;

	if (cfg_uint(cfg, node, 1, UINT32_MAX, &value))
		r->workload->limit_connections = (uint32_t)value;
}

static void parse_memory(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	(void)cfg_uint(cfg, node, 65536, INT64_MAX, &r->workload->limit_memory_bytes);
}

static void parse_weight(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t value;

	if (cfg_uint(cfg, node, 1, 1000, &value))
		r->workload->limit_weight = (uint32_t)value;
}

static void parse_limits(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("connections", parse_connections),
	    CFG_FIELD("memoryBytes", parse_memory),
	    CFG_FIELD("weight", parse_weight),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_confined(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->workload->confined = cfg_bool(cfg, node);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("serviceAccount", parse_account), CFG_FIELD("labels", parse_labels),
	    CFG_FIELD("locality", parse_locality),	CFG_FIELD("selectors", parse_selectors),
	    CFG_FIELD("limits", parse_limits),		CFG_FIELD("confined", parse_confined),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* The kernel confines cgroups: a selector without one would select processes that are not. */
static void check_confined(struct cfg *cfg, const struct flat_workload *w)
{
	for (uint32_t i = 0; w->confined && i < w->n_selectors; i++) {
		const struct flat_selector *s = &w->selectors[i];
		bool named = (s->has & FLAT_SELECTOR_CGROUP) && !s->cgroup_glob;

		if (!named || s->cgroup[1] == '\0')
			cfg_error(
			    cfg, &s->where, FLAT_DIAG_BAD_VALUE,
			    "name a cgroup below /, without pattern, in each selector",
			    "spec.confined holds for whole cgroups, and this selector names %s",
			    !named ? "none" : "the first one, in which everything runs");
	}
}

/* metadata.labels and spec.labels together; spec's win where both have a key. */
static void join_labels(struct cfg *cfg, struct reading *r)
{
	const struct flat_labels *a = &cfg->labels, *b = &r->labels;
	struct flat_label *v = cfg_array(cfg, (size_t)a->n + b->n, sizeof(*v));
	uint32_t i, n = 0;

	if (!v)
		return;
	for (i = 0; i < b->n; i++)
		v[n++] = b->v[i];
	for (i = 0; i < a->n; i++)
		if (!flat_labels_get(b, a->v[i].key))
			v[n++] = a->v[i];
	flat_labels_sort(v, n);
	r->workload->labels.v = v;
	r->workload->labels.n = n;
}

void cfg_workload(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.workload = cfg_array(cfg, 1, sizeof(*r.workload))};
	struct flat_workload *workload = r.workload;

	if (!workload)
		return;
	workload->name = cfg->name;
	workload->namespace = cfg->namespace;
	workload->limit_weight = 1;
	workload->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	/* As a Kubernetes pod that names no service account. */
	if (!workload->service_account)
		workload->service_account = "default";
	join_labels(cfg, &r);
	check_confined(cfg, workload);
	if (!workload->locality)
		workload->locality = cfg_locality_of(cfg, &workload->labels);
	workload->principal = flat_pool_printf(cfg->pool, FLAT_TRUST_DOMAIN "/ns/%s/sa/%s",
					       workload->namespace, workload->service_account);
	if (workload->n_selectors == 0)
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_ADVICE, "add spec.selectors",
			 "no selectors: no process belongs to it");
	if (!workload->principal || flat_mesh_add_workload(cfg->mesh, workload))
		cfg->oom = true;
}
