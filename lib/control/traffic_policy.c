#include "control/traffic_policy.h"

#include <string.h>

#include "control/http_common.h"
#include "mesh/hashing.h"

struct reading {
	struct flat_traffic *traffic;	    /* being read */
	struct flat_traffic_policy *policy; /* it belongs to */
	struct flat_traffic_port *ports;
	struct flat_traffic_port *port; /* being read; NULL: all */
	struct flat_lb *lb;
	uint32_t n_keys; /* of consistentHash */
	bool simple;	 /* `simple` was there, and `hash` */
	bool hash;
	const char *cookie_name;
	struct flat_tls_origin *origin; /* being read */
	const char **names;		/* of it */
};

/* --- loadBalancer --- */

static void parse_simple(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct {
		const char *name;
		enum flat_lb_kind kind;
	} kinds[] = {{"UNSPECIFIED", FLAT_LB_DEFAULT},
		     {"ROUND_ROBIN", FLAT_LB_ROUND_ROBIN},
		     {"LEAST_REQUEST", FLAT_LB_LEAST_REQUEST},
		     {"LEAST_CONN", FLAT_LB_LEAST_REQUEST},
		     {"RANDOM", FLAT_LB_RANDOM},
		     {"PASSTHROUGH", FLAT_LB_DEFAULT}};
	const char *names[FLAT_ARRAY_SIZE(kinds)];
	struct reading *r = obj;
	int i;

	for (size_t k = 0; k < FLAT_ARRAY_SIZE(kinds); k++)
		names[k] = kinds[k].name;
	i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));
	if (i < 0)
		return;
	r->simple = true;
	/* Beside consistentHash it is an error; the kind stays what the sizes are for. */
	if (!r->hash)
		r->lb->kind = kinds[i].kind;
	if (strcmp(names[i], "PASSTHROUGH") == 0)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "declare the service with resolution NONE",
			 "load balancing by PASSTHROUGH is not honoured: LEAST_REQUEST holds");
}

static void set_key(struct reading *r, enum flat_hash_key key, const char *name)
{
	r->lb->key = key;
	r->lb->name = name;
	r->n_keys++;
	if (r->lb->kind != FLAT_LB_MAGLEV)
		r->lb->kind = FLAT_LB_RING_HASH;
}

static void parse_hash_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	set_key(obj, FLAT_HASH_HEADER, cfg_string(cfg, node));
}

static void parse_hash_query(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	set_key(obj, FLAT_HASH_QUERY, cfg_string(cfg, node));
}

static void parse_hash_source(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (cfg_bool(cfg, node))
		set_key(obj, FLAT_HASH_SOURCE_IP, NULL);
}

/* RFC 6265, 4.1.1: a token; of a path, no control character and no semicolon. */
static const char *cookie_text(struct cfg *cfg, const struct yaml_node *node, const char *refused)
{
	const char *text = cfg_string(cfg, node);

	for (const char *p = text; p && *p; p++) {
		if (*p > ' ' && *p < 0x7f && !strchr(refused, *p))
			continue;
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "take the character out",
			  "\"%.100s\" cannot stand in a cookie", text);
		return NULL;
	}
	return text;
}

static void parse_cookie_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->cookie_name = cookie_text(cfg, node, "()<>@,;:\\\"/[]?={}");
}

static void parse_cookie_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->lb->path = cookie_text(cfg, node, ";");
}

static void parse_cookie_ttl(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint32_t ms;

	if (!cfg_duration_ms(cfg, node, &ms))
		return;
	r->lb->makes_cookie = true;
	r->lb->ttl_s = (ms + 999) / 1000;
}

static void parse_hash_cookie(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_cookie_name),
	    CFG_FIELD("path", parse_cookie_path),
	    CFG_FIELD("ttl", parse_cookie_ttl),
	    CFG_UNHONOURED("attributes", "a cookie that is made has a path and an age only"),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (!r->cookie_name && cfg->diags->n_errors == errors)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
	set_key(r, FLAT_HASH_COOKIE, r->cookie_name);
}

static void parse_ring_size(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t size;

	if (cfg_uint(cfg, node, 1, FLAT_RING_SIZE_MAX, &size))
		r->lb->size = (uint32_t)size;
}

static void parse_ring(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("minimumRingSize", parse_ring_size)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_table_size(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t size;

	if (!cfg_uint(cfg, node, 2, FLAT_MAGLEV_SIZE_MAX, &size))
		return;
	r->lb->size = (uint32_t)size;
	if (!flat_is_prime((uint32_t)size))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use a prime, such as 65537",
			  "a Maglev table of %u entries cannot be filled evenly", (uint32_t)size);
}

static void parse_maglev(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("tableSize", parse_table_size)};
	struct reading *r = obj;

	r->lb->kind = FLAT_LB_MAGLEV;
	r->lb->size = FLAT_MAGLEV_SIZE_DEFAULT;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_hash(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("httpHeaderName", parse_hash_header),
	    CFG_FIELD("httpCookie", parse_hash_cookie),
	    CFG_FIELD("useSourceIp", parse_hash_source),
	    CFG_FIELD("httpQueryParameterName", parse_hash_query),
	    CFG_FIELD("minimumRingSize", parse_ring_size),
	    CFG_FIELD("ringHash", parse_ring),
	    CFG_FIELD("maglev", parse_maglev),
	};
	struct reading *r = obj;

	r->hash = true;
	r->lb->size = FLAT_RING_SIZE_DEFAULT;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (r->n_keys != 1)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "give one of httpHeaderName, httpCookie, useSourceIp, "
			  "httpQueryParameterName",
			  "consistentHash needs one key, this has %u", r->n_keys);
}

static void parse_locality(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->lb->locality = cfg_locality_lb(cfg, node);
}

static void parse_warmup(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_warmup(cfg, node, &((struct reading *)obj)->lb->warmup);
}

static void parse_balancer(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("simple", parse_simple),
	    CFG_FIELD("consistentHash", parse_hash),
	    CFG_FIELD("localityLbSetting", parse_locality),
	    CFG_UNHONOURED("zoneAwareLbSetting", "use localityLbSetting"),
	    CFG_UNHONOURED("backendUtilization", "servers' reports of their load are not read"),
	    CFG_FIELD("warmupDurationSecs", parse_warmup),
	    CFG_FIELD("warmup", parse_warmup),
	};
	struct reading *r = obj;

	r->lb = cfg_array(cfg, 1, sizeof(*r->lb));
	if (!r->lb)
		return;
	r->lb->kind = FLAT_LB_DEFAULT;
	r->lb->where = node->where;
	r->n_keys = 0;
	r->cookie_name = NULL;
	r->simple = r->hash = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (r->simple && r->hash)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "leave one of them",
			  "loadBalancer has both simple and consistentHash");
	r->traffic->lb = r->lb;
}

/* --- tls --- */

static void parse_tls_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"DISABLE", "ISTIO_MUTUAL", "SIMPLE", "MUTUAL"};
	static const enum flat_tls_mode modes[] = {FLAT_TLS_DISABLE, FLAT_TLS_ISTIO_MUTUAL,
						   FLAT_TLS_SIMPLE, FLAT_TLS_MUTUAL};
	struct reading *r = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		r->traffic->tls = modes[i];
}

static void parse_cert(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->cert = cfg_string(cfg, node);
}

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->key = cfg_string(cfg, node);
}

static void parse_ca(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->ca = cfg_string(cfg, node);
}

static void parse_credential(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->credential = cfg_string(cfg, node);
}

static void parse_sni(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->sni = cfg_string(cfg, node);
}

static void parse_unverified(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->origin->unverified = cfg_bool(cfg, node);
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->names[r->origin->n_names] = cfg_string(cfg, node);
	if (r->names[r->origin->n_names])
		r->origin->n_names++;
}

static void parse_names(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->names = cfg_array(cfg, node->n, sizeof(*r->names));
	r->origin->names = r->names;
	if (r->names)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_name, r);
}

/* What goes together. */
static void check_tls(struct cfg *cfg, const struct yaml_node *node, const struct reading *r)
{
	struct flat_tls_origin *o = r->origin;
	bool files = o->cert || o->key || o->ca;

	if (r->traffic->tls != FLAT_TLS_SIMPLE && r->traffic->tls != FLAT_TLS_MUTUAL) {
		/* Istio's examples for egress gateways have `sni` beside ISTIO_MUTUAL. */
		if (files || o->credential || o->sni || o->n_names || o->unverified)
			cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
				 "remove them, or write mode SIMPLE or MUTUAL",
				 "certificates and names are for the modes SIMPLE and MUTUAL, and "
				 "have no effect with %s",
				 r->traffic->tls == FLAT_TLS_ISTIO_MUTUAL ? "ISTIO_MUTUAL"
									  : "DISABLE");
		return;
	}
	if (files && o->credential)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "leave one of them",
			  "credentialName stands in the place of the files");
	if (o->mutual && !o->credential && (!o->cert || !o->key))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "add clientCertificate and privateKey, or credentialName",
			  "mode MUTUAL without a certificate of ours");
	if (!o->mutual && (o->cert || o->key)) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "remove it, or write mode MUTUAL",
			 "mode SIMPLE shows no certificate of ours");
		o->cert = o->key = NULL;
	}
	if (o->unverified && (o->ca || o->n_names))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "leave one of them",
			  "insecureSkipVerify looks at no authorities and no names");
}

static void parse_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mode", parse_tls_mode),
	    CFG_FIELD("clientCertificate", parse_cert),
	    CFG_FIELD("privateKey", parse_key),
	    CFG_FIELD("caCertificates", parse_ca),
	    CFG_FIELD("credentialName", parse_credential),
	    CFG_FIELD("subjectAltNames", parse_names),
	    CFG_FIELD("sni", parse_sni),
	    CFG_FIELD("insecureSkipVerify", parse_unverified),
	    CFG_UNHONOURED("caCrl", "revocation lists are not read"),
	};
	struct reading *r = obj;

	r->origin = cfg_array(cfg, 1, sizeof(*r->origin));
	if (!r->origin)
		return;
	r->origin->namespace = cfg->namespace;
	r->origin->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	r->origin->mutual = r->traffic->tls == FLAT_TLS_MUTUAL;
	check_tls(cfg, node, r);
	if (r->traffic->tls >= FLAT_TLS_SIMPLE)
		r->traffic->origin = r->origin;
}

/* --- the whole --- */

static void parse_pool(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->traffic->breaker = cfg_connection_pool(cfg, node);
}

static void parse_outlier(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->traffic->outlier = cfg_outlier(cfg, node);
}

static void parse_budget(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->traffic->budget = cfg_retry_budget(cfg, node);
}

static void parse_port_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->port->number = cfg_port(cfg, node);
}

static void parse_port_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("number", parse_port_number)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("port", parse_port_port),
	    CFG_FIELD("loadBalancer", parse_balancer),
	    CFG_FIELD("tls", parse_tls),
	    CFG_FIELD("connectionPool", parse_pool),
	    CFG_FIELD("outlierDetection", parse_outlier),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->port = &r->ports[r->policy->n_ports++];
	r->traffic = &r->port->traffic;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (!r->port->number && cfg->diags->n_errors == errors)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add port.number",
			  "field \"port\" is missing");
	r->traffic = &r->policy->all;
}

static void parse_ports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->ports = cfg_array(cfg, node->n, sizeof(*r->ports));
	r->policy->ports = r->ports;
	if (r->ports)
		(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_port, r);
}

void cfg_traffic_policy(struct cfg *cfg, const struct yaml_node *node,
			struct flat_traffic_policy *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("loadBalancer", parse_balancer),
	    CFG_FIELD("tls", parse_tls),
	    CFG_FIELD("portLevelSettings", parse_ports),
	    CFG_FIELD("connectionPool", parse_pool),
	    CFG_FIELD("outlierDetection", parse_outlier),
	    CFG_FIELD("retryBudget", parse_budget),
	    CFG_UNHONOURED("tunnel", "there are no tunnels"),
	    CFG_UNHONOURED("proxyProtocol", "no header is put before a connection's bytes"),
	};
	struct reading r = {.policy = out, .traffic = &out->all};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
}
