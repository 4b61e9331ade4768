/* localityLbSetting (of a DestinationRule, and of MeshConfig), warmup, and the localities of endpoints and workloads. */
#include <stdlib.h>
#include <string.h>

#include "control/http_common.h"
#include "control/traffic_policy.h"

struct reading {
	struct flat_locality_lb *lb;
	struct flat_locality_spread *spreads;
	struct flat_locality_failover *failovers;
	struct flat_locality_failover *failover; /* being read */
	struct flat_locality_spread *spread;	 /* likewise */
	const char **labels;
};

const char *cfg_locality(struct cfg *cfg, const struct yaml_node *node, bool pattern)
{
	const char *text = cfg_string(cfg, node);
	int slashes = 0;

	for (const char *p = text; p && *p; p++) {
		bool empty = (*p == '/') && (p == text || p[1] == '/' || !p[1]);

		slashes += *p == '/';
		if (!empty && slashes <= 2 && (*p != '*' || (pattern && !p[1])))
			continue;
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  pattern ? "write REGION, REGION/ZONE or REGION/ZONE/SUBZONE, or * in the "
				    "place of the last of them"
				  : "write REGION, REGION/ZONE or REGION/ZONE/SUBZONE",
			  "\"%.200s\" is no locality", text);
		return NULL;
	}
	return text;
}

const char *cfg_locality_of(struct cfg *cfg, const struct flat_labels *labels)
{
	char buf[512];
	const char *text = flat_locality_of(labels, buf, sizeof(buf));
	const char *copy = text ? flat_pool_strdup(cfg->pool, text) : NULL;

	cfg->oom |= text && !copy;
	return copy;
}

/* --- distribute --- */

/* Whether the first is said again by the second, or has it within: part by part, as Istio looks (validateLocalities()). */
static bool overlaps(const char *first, const char *second)
{
	for (;;) {
		size_t a = strcspn(first, "/");
		size_t b = strcspn(second, "/");

		if (strcmp(first, "*") == 0)
			return true;
		if (a != b || memcmp(first, second, a) != 0)
			return false;
		if (!first[a] || !second[b])
			return true;
		first += a + 1;
		second += b + 1;
	}
}

static void refuse_overlap(struct cfg *cfg, const struct flat_where *where, const char *locality,
			   const char *other)
{
	cfg_error(cfg, where, FLAT_DIAG_BAD_VALUE,
		  "name localities of which none has another within",
		  "locality \"%.200s\" overlaps with \"%.200s\"", locality, other);
}

static void parse_spread_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->spread->from = cfg_locality(cfg, node, true);
	/* The first that holds for a client counts: one behind it that has it within is no overlap. */
	for (const struct flat_locality_spread *s = r->spreads; r->spread->from && s < r->spread;
	     s++) {
		if (!s->from || !overlaps(s->from, r->spread->from))
			continue;
		refuse_overlap(cfg, &node->where, r->spread->from, s->from);
		return;
	}
}

static void parse_spread_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_locality_spread *s = ((struct reading *)obj)->spread;
	struct flat_locality_share *v;
	const struct yaml_item *item;
	uint64_t sum = 0;

	if (!cfg_expect(cfg, node, YAML_MAP) || node->n > FLAT_CONFIG_LIST_MAX)
		return;
	v = cfg_array(cfg, node->n, sizeof(*v));
	s->to = v;
	for (item = v ? node->first : NULL; item; item = item->next) {
		uint64_t weight = 0;

		v[s->n_to].to = cfg_locality(cfg, item->key, true);
		if (!cfg_uint(cfg, item->value, 1, 100, &weight) || !v[s->n_to].to)
			return;
		/* In either order: the places of a map are none. */
		for (uint32_t i = 0; i < s->n_to; i++) {
			if (!overlaps(v[i].to, v[s->n_to].to) && !overlaps(v[s->n_to].to, v[i].to))
				continue;
			refuse_overlap(cfg, &item->key->where, v[s->n_to].to, v[i].to);
			return;
		}
		v[s->n_to++].weight = (uint32_t)weight;
		sum += weight;
	}
	if (sum != 100)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "make the weights add up to 100",
			  "the weights of a locality add up to %llu", (unsigned long long)sum);
}

static void parse_spread(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("from", parse_spread_from),
	    CFG_FIELD("to", parse_spread_to),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->spread = &r->spreads[r->lb->n_distribute++];
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors == errors && (!r->spread->from || r->spread->n_to == 0))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give both",
			  "distribute needs from and to");
}

static void parse_distribute(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->spreads = cfg_array(cfg, node->n, sizeof(*r->spreads));
	r->lb->distribute = r->spreads;
	if (r->spreads)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_spread, r);
}

/* --- failover --- */

static void parse_failover_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->failover->from = cfg_string(cfg, node);
}

static void parse_failover_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->failover->to = cfg_string(cfg, node);
}

static void parse_one_failover(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("from", parse_failover_from),
	    CFG_FIELD("to", parse_failover_to),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->failover = &r->failovers[r->lb->n_failover++];
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors)
		return;
	if (!r->failover->from || !r->failover->to)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give both",
			  "failover needs from and to");
	else if (strpbrk(r->failover->from, "/*") || strpbrk(r->failover->to, "/*") ||
		 strcmp(r->failover->from, r->failover->to) == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "name two regions",
			  "a failover is from one region to another");
}

static void parse_failover(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->failovers = cfg_array(cfg, node->n, sizeof(*r->failovers));
	r->lb->failover = r->failovers;
	if (r->failovers)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_one_failover, r);
}

static void parse_label(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *label = cfg_string(cfg, node);

	if (label)
		r->labels[r->lb->n_priority++] = label;
}

static void parse_priority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->labels = cfg_array(cfg, node->n, sizeof(*r->labels));
	r->lb->priority = r->labels;
	if (r->labels)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_label, r);
}

/* --- the whole --- */

static void parse_enabled(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->lb->off = !cfg_bool(cfg, node);
}

const struct flat_locality_lb *cfg_locality_lb(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("enabled", parse_enabled),
	    CFG_FIELD("distribute", parse_distribute),
	    CFG_FIELD("failover", parse_failover),
	    CFG_FIELD("failoverPriority", parse_priority),
	};
	struct reading r = {.lb = cfg_array(cfg, 1, sizeof(*r.lb))};

	if (!r.lb)
		return NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (r.lb->n_distribute && (r.lb->n_failover || r.lb->n_priority))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "distribute excludes failover and failoverPriority");
	return r.lb;
}

/* --- warmup --- */

static void parse_warmup_duration(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_warmup *)obj)->ms);
}

static void parse_min_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_warmup *)obj)->min_percent = cfg_millionths(cfg, node) / (FLAT_MILLION / 100);
}

static void parse_aggression(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	char *end;
	double value;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	value = strtod(node->text, &end);
	if (end == node->text || *end || !(value >= 1 && value <= 100))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write a number from 1 to 100",
			  "\"%.100s\" is no aggression", node->text);
	else
		((struct flat_warmup *)obj)->aggression = value;
}

void cfg_warmup(struct cfg *cfg, const struct yaml_node *node, struct flat_warmup *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("duration", parse_warmup_duration),
	    CFG_FIELD("minimumPercent", parse_min_percent),
	    CFG_FIELD("aggression", parse_aggression),
	};

	*out = (struct flat_warmup){.min_percent = 10, .aggression = 1};
	if (node->kind == YAML_SCALAR)
		parse_warmup_duration(cfg, node, out);
	else
		cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), out);
}
