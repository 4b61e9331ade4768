/* What a Sidecar imports: spec.egress. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/service_common.h"

struct reading {
	struct flat_egress_policy *policy;
	/* Of the item that is read. */
	struct flat_egress_listener *listener;
	struct flat_egress_host *hosts;
	const char *unused; /* why it has no effect; NULL: it has */
};

/* --- hosts --- */

static bool good_namespace(const char *name)
{
	return strcmp(name, "*") == 0 || strcmp(name, ".") == 0 || cfg_is_dns(name, false);
}

static bool good_host(const char *host)
{
	return strcmp(host, "*") == 0 ||
	       cfg_is_dns(strncmp(host, "*.", 2) == 0 ? host + 2 : host, true);
}

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_egress_host *h = &r->hosts[r->listener->n_hosts];
	const char *text = cfg_string(cfg, node);
	char *copy = text ? flat_pool_strdup(cfg->pool, text) : NULL;
	char *slash = copy ? strchr(copy, '/') : NULL;

	cfg->oom |= text && !copy;
	if (!copy)
		return;
	if (slash) {
		*slash = 0;
		h->excluded = copy[0] == '~';
		h->namespace = h->excluded ? copy + 1 : copy;
		/* "~/HOST": of any namespace. */
		if (h->excluded && !*h->namespace)
			h->namespace = "*";
		h->host = slash + 1;
		for (char *c = slash + 1; *c; c++)
			*c = (char)tolower((unsigned char)*c);
	}
	if (!slash || !good_namespace(h->namespace) || !good_host(h->host)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write NAMESPACE/HOST, such as \"./*\", \"*/a.example.com\" or "
			  "\"shop/*.example.com\"",
			  "\"%.200s\" is no host of services", text);
		return;
	}
	h->where = node->where;
	r->listener->n_hosts++;
}

static void parse_hosts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->hosts = cfg_array(cfg, node->n, sizeof(*r->hosts));
	r->listener->hosts = r->hosts;
	if (r->hosts)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_host, r);
}

/* --- one listener --- */

static void parse_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (node->kind == YAML_SCALAR && strcmp(node->text, "0") == 0)
		r->unused = "sockets of the file system are not listened on";
	else
		r->listener->port = cfg_port(cfg, node);
}

static void parse_protocol(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	enum flat_protocol protocol;
	const char *text = cfg_string(cfg, node);

	if (!text)
		return;
	if (strcmp(text, "HTTP_PROXY") == 0)
		r->unused = "there is no proxy that clients could ask";
	else if (!cfg_protocol(text, NULL, &protocol, NULL))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS",
			  "\"%.50s\" is no protocol", text);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("number", parse_number),
	    CFG_FIELD("protocol", parse_protocol),
	    CFG_SKIP("name"),
	    CFG_UNHONOURED("targetPort", "it has no effect on Sidecars (as in Istio)"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && !yaml_get(node, "number"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it, or leave out port",
			  "field \"number\" is missing");
}

static void parse_capture(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"DEFAULT", "IPTABLES", "NONE"};

	(void)obj;
	if (cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 2)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED,
			 "connect to services by their own addresses",
			 "captureMode NONE is not honoured: nobody listens in a client's place");
}

static void parse_listener(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("port", parse_port),
	    CFG_FIELD("hosts", parse_hosts),
	    CFG_UNHONOURED("bind", "services are reached at their own addresses"),
	    CFG_FIELD("captureMode", parse_capture),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors, i;

	r->listener = &r->policy->listeners[r->policy->n_listeners];
	memset(r->listener, 0, sizeof(*r->listener));
	r->hosts = NULL;
	r->unused = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors)
		return;
	if (r->listener->n_hosts == 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add hosts, such as \"./*\"",
			  "field \"hosts\" is missing: a listener imports at least one host");
		return;
	}
	if (r->unused) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "this listener is not honoured: %s", r->unused);
		return;
	}
	for (i = 0; i < r->policy->n_listeners; i++)
		if (r->policy->listeners[i].port == r->listener->port)
			cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE, "join their hosts",
				  r->listener->port ? "a second listener for this port"
						    : "a second listener without port");
	r->policy->n_listeners++;
}

static int by_port(const void *a, const void *b)
{
	const struct flat_egress_listener *x = a, *y = b;

	return (int)x->port - (int)y->port;
}

void cfg_egress(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_egress_policy *policy = obj;
	struct reading r = {.policy = policy};
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	policy->listeners = cfg_array(cfg, node->n, sizeof(*policy->listeners));
	if (!policy->listeners || !cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_listener, &r))
		return;
	for (item = node->first; item; item = item->next)
		if (item->next && item->value->kind == YAML_MAP && !yaml_get(item->value, "port"))
			cfg_error(cfg, &item->value->where, FLAT_DIAG_BAD_VALUE, "make it the last",
				  "a listener without port is for all ports that no other is for");
	qsort(policy->listeners, policy->n_listeners, sizeof(*policy->listeners), by_port);
	if (policy->n_listeners > 0)
		return;
	/* All that is written is unused: still nothing else is imported. */
	memset(policy->listeners, 0, sizeof(*policy->listeners));
	policy->n_listeners = 1;
}
