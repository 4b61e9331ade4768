/* Gateway API: what references mean, and the RequestMirror filter. */
#include <string.h>

#include "control/http_route.h"

const char *cfg_api_host(struct cfg *cfg, const struct api_reference *to)
{
	const char *host = NULL;

	if (!to->name || !to->group || !to->kind)
		return NULL;
	if (strcmp(to->group, "") == 0 && strcmp(to->kind, "Service") == 0) {
		host = flat_pool_printf(cfg->pool, "%s.%s.%s", to->name,
					to->namespace ? to->namespace : cfg->namespace,
					FLAT_CLUSTER_DOMAIN);
		cfg->oom |= !host;
	} else if (strcmp(to->group, "networking.istio.io") == 0 &&
		   strcmp(to->kind, "Hostname") == 0) {
		host = to->name;
	}
	return host;
}

struct reading {
	struct api_reference to;
	struct flat_http_mirror *mirror;
	bool percent, fraction, numerates; /* what is said */
	uint64_t numerator, denominator;
};

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->mirror->to.port = cfg_port(cfg, node);
}

static void parse_backend(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_API_REFERENCE,
	    CFG_FIELD("port", parse_port),
	};
	struct reading *r = obj;
	const struct api_reference *to = &r->to;
	struct flat_route_destination *d = &r->mirror->to;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	d->host = cfg_api_host(cfg, to);
	if (d->host && strcmp(to->kind, "Service") == 0 && to->namespace &&
	    strcmp(to->namespace, cfg->namespace) != 0)
		d->granted_by = to->namespace;
}

static void parse_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->percent = true;
	r->mirror->of_million = cfg_millionths(cfg, node);
}

static void parse_numerator(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->numerates = true;
	(void)cfg_uint(cfg, node, 0, INT32_MAX, &r->numerator);
}

static void parse_denominator(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (!cfg_uint(cfg, node, 1, INT32_MAX, &((struct reading *)obj)->denominator))
		((struct reading *)obj)->denominator = 100;
}

static void parse_fraction(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("numerator", parse_numerator),
	    CFG_FIELD("denominator", parse_denominator),
	};
	struct reading *r = obj;

	r->fraction = true;
	r->denominator = 100;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!r->numerates)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "write one",
			  "fraction needs a numerator");
	else if (r->numerator > r->denominator)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write 1 at most",
			  "a fraction of more than all");
	else
		r->mirror->of_million = (uint32_t)(r->numerator * FLAT_MILLION / r->denominator);
}

void cfg_api_mirror(struct cfg *cfg, const struct yaml_node *node, struct flat_http_mirror *m)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("backendRef", parse_backend),
	    CFG_FIELD("percent", parse_percent),
	    CFG_FIELD("fraction", parse_fraction),
	};
	struct reading r = {.mirror = m, .to = {.group = "", .kind = "Service"}};

	m->of_million = FLAT_MILLION;
	m->to.where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (r.percent && r.fraction)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a mirror has both percent and fraction");
	if (!m->to.host)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "name a Service",
			  "backend \"%.200s\" is none", r.to.name ? r.to.name : "");
}
