/* Kubernetes Service (v1) and EndpointSlice (discovery.k8s.io/v1) -> struct flat_service. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/cache.h"
#include "control/http_common.h"
#include "control/service_common.h"

struct k8s_service {
	struct k8s_service *next;
	struct flat_service *service;
	struct flat_service_port *ports;
	const char **target_names;	  /* per port: the targetPort's name, or NULL */
	struct flat_endpoint **endpoints; /* per port: what ports[].endpoints points to */
	bool external_name;
	const char *external; /* externalName */
	uint32_t n_addresses_max;
	uint32_t n_slices;
	struct flat_map *seen; /* per port: endpoints of several slices */
};

struct slice_port {
	const char *name;
	uint16_t number;
};

struct slice_endpoint {
	struct flat_ip *ips;
	uint32_t n_ips;
	bool not_ready, serving, terminating;
	struct flat_where where;
};

struct k8s_slice {
	struct k8s_slice *next;
	const char *service;	      /* "namespace/name" */
	const struct yaml_node *root; /* in the cache; NULL: it is not */
	struct flat_where where;
	char resource[FLAT_CONFIG_NAME_MAX * 2 + 64];
	struct slice_port *ports;
	uint32_t n_ports;
	struct slice_endpoint *endpoints;
	uint32_t n_endpoints;
	int family; /* AF_INET, AF_INET6, 0: FQDN */
	struct k8s_service *owner;
};

static void *tmp_array(struct cfg *cfg, size_t n, size_t size)
{
	void *mem = n ? flat_pool_array(&cfg->tmp, n, size) : NULL;

	if (n && !mem)
		cfg->oom = true;
	return mem;
}

/* --- Service --- */

struct service_reading {
	struct k8s_service *k8s;
	struct flat_service *s;
	struct flat_cidr *addresses;
	bool skip; /* the port being read is not TCP */
	const char *app_protocol;
	struct flat_where app_where;
};

static struct flat_service_port *port_now(struct service_reading *r)
{
	return &r->k8s->ports[r->s->n_ports];
}

static void parse_port_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	port_now(obj)->number = cfg_port(cfg, node);
}

static void parse_port_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	port_now(obj)->name = cfg_port_name(cfg, node);
}

static void parse_port_protocol(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"TCP", "UDP", "SCTP"};
	struct service_reading *r = obj;

	if (cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) <= 0)
		return;
	r->skip = true;
	cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "%s is not honoured: this port is left to the kernel", node->text);
}

static void parse_port_app(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct service_reading *r = obj;

	r->app_protocol = cfg_string(cfg, node);
	r->app_where = node->where;
}

static void parse_port_target(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct service_reading *r = obj;
	const char *text;

	if (node->kind == YAML_SCALAR && node->text[0] >= '0' && node->text[0] <= '9') {
		port_now(r)->target_port = cfg_port(cfg, node);
		return;
	}
	text = cfg_string(cfg, node);
	r->k8s->target_names[r->s->n_ports] = text;
	if (text && r->s->has_selector)
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "write the number",
		    "targetPort by name (\"%.50s\") is not honoured for local workloads: their "
		    "ports have no names; EndpointSlices are",
		    text);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("port", parse_port_number),
	    CFG_FIELD("name", parse_port_name),
	    CFG_FIELD("protocol", parse_port_protocol),
	    CFG_FIELD("appProtocol", parse_port_app),
	    CFG_FIELD("targetPort", parse_port_target),
	    CFG_UNHONOURED("nodePort", "ports of the node are left to the kernel"),
	};
	struct service_reading *r = obj;
	struct flat_service_port *port = port_now(r);
	uint32_t errors = cfg->diags->n_errors, i;

	memset(port, 0, sizeof(*port));
	port->where = node->where;
	r->k8s->target_names[r->s->n_ports] = NULL;
	r->skip = false;
	r->app_protocol = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors != errors || r->skip)
		return;
	if (!port->number) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"port\" is missing");
		return;
	}
	if (!port->name)
		port->name = "";
	if (!port->target_port && !r->k8s->target_names[r->s->n_ports])
		port->target_port = port->number;
	if (!cfg_protocol(r->app_protocol, port->name, &port->protocol, &port->declared))
		cfg_warn(cfg, &r->app_where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "appProtocol \"%.50s\" is not honoured: its bytes are carried as TCP",
			 r->app_protocol);
	cfg_warn_opaque(cfg, r->app_protocol ? &r->app_where : &port->where, port->protocol);
	for (i = 0; i < r->s->n_ports; i++)
		if (r->k8s->ports[i].number == port->number ||
		    strcmp(r->k8s->ports[i].name, port->name) == 0)
			cfg_error(cfg, &node->where, FLAT_DIAG_DUPLICATE,
				  "give each port its own number and name",
				  "port %u \"%s\" is there twice", (unsigned)port->number,
				  port->name);
	r->s->n_ports++;
}

static void parse_ports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct service_reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->k8s->ports = cfg_array(cfg, node->n, sizeof(*r->k8s->ports));
	r->k8s->target_names = cfg_array(cfg, node->n, sizeof(*r->k8s->target_names));
	if (!r->k8s->ports || !r->k8s->target_names)
		return;
	r->s->ports = r->k8s->ports;
	(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_port, r);
}

static void add_address(struct cfg *cfg, const struct yaml_node *node, struct service_reading *r)
{
	struct flat_cidr cidr = {.prefix = 0};
	uint32_t i;

	if (!cfg_expect(cfg, node, YAML_SCALAR) || !*node->text)
		return;
	if (strcmp(node->text, "None") == 0) {
		r->s->headless = true;
		return;
	}
	if (flat_ip_parse(node->text, &cidr.ip)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write an address, None, or leave it out", "\"%.100s\" is no IP address",
			  node->text);
		return;
	}
	cidr.prefix = cidr.ip.family == AF_INET ? 32 : 128;
	for (i = 0; i < r->s->n_addresses; i++)
		if (flat_ip_equal(&r->addresses[i].ip, &cidr.ip))
			return;
	r->addresses[r->s->n_addresses++] = cidr;
}

static void parse_cluster_ip(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	add_address(cfg, node, obj);
}

static void parse_cluster_ips(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	/* One of each family (Kubernetes API, ServiceSpec.clusterIPs). */
	(void)cfg_list(cfg, node, 2, parse_cluster_ip, obj);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct service_reading *r = obj;

	r->s->selector = cfg_labels(cfg, node);
	r->s->has_selector = r->s->selector.n > 0;
}

static void parse_type(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"ClusterIP", "NodePort", "LoadBalancer",
					    "ExternalName"};
	struct service_reading *r = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	r->k8s->external_name = i == 3;
	if (i > 0 && i < 3)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "type %s is honoured as ClusterIP only", names[i]);
}

static void parse_external(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct yaml_node bare = *node;
	size_t len = node->kind == YAML_SCALAR ? strlen(node->text) : 0;

	/* A dot at the end is Kubernetes's to write. */
	if (len > 1 && node->text[len - 1] == '.')
		bare.text = flat_pool_printf(&cfg->tmp, "%.*s", (int)len - 1, node->text);
	if (bare.kind == YAML_SCALAR && !bare.text)
		cfg->oom = true;
	else
		((struct service_reading *)obj)->k8s->external = cfg_host(cfg, &bare, false);
}

static void parse_affinity(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	if (node->kind != YAML_SCALAR || strcmp(node->text, "None") != 0)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "sessionAffinity is not honoured: endpoints are chosen by weight only");
}

static void parse_not_ready(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct service_reading *)obj)->s->not_ready = cfg_bool(cfg, node);
}

/* `selector` is read first: parse_port_target asks for it. */
static void parse_service_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field first[] = {CFG_FIELD("selector", parse_selector)};
	static const struct cfg_field fields[] = {
	    CFG_SKIP("selector"),
	    CFG_FIELD("ports", parse_ports),
	    CFG_FIELD("clusterIP", parse_cluster_ip),
	    CFG_FIELD("clusterIPs", parse_cluster_ips),
	    CFG_FIELD("type", parse_type),
	    CFG_FIELD("sessionAffinity", parse_affinity),
	    CFG_UNHONOURED("sessionAffinityConfig", "endpoints are chosen by weight only"),
	    CFG_UNHONOURED("externalIPs", "only cluster addresses are taken"),
	    CFG_UNHONOURED("loadBalancerIP", "there is no load balancer"),
	    CFG_UNHONOURED("loadBalancerSourceRanges", "use an AuthorizationPolicy"),
	    CFG_UNHONOURED("loadBalancerClass", "there is no load balancer"),
	    CFG_UNHONOURED("allocateLoadBalancerNodePorts", "there is no load balancer"),
	    CFG_FIELD("externalName", parse_external),
	    CFG_UNHONOURED("externalTrafficPolicy", "there is no load balancer"),
	    CFG_UNHONOURED("internalTrafficPolicy", "endpoints are chosen by weight only"),
	    CFG_UNHONOURED("trafficDistribution", "endpoints are chosen by weight only"),
	    CFG_UNHONOURED("healthCheckNodePort", "there is no load balancer"),
	    CFG_FIELD("publishNotReadyAddresses", parse_not_ready),
	    CFG_SKIP("ipFamilies"),
	    CFG_SKIP("ipFamilyPolicy"),
	};
	const struct yaml_node *selector = yaml_get(node, "selector");
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	for (item = node->first; selector && item; item = item->next)
		if (item->value == selector && !yaml_is_null(selector))
			first[0].parse(cfg, selector, obj);
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void k8s_register(struct cfg *cfg, struct k8s_service *k8s)
{
	char *id = flat_pool_printf(&cfg->tmp, "%s/%s", cfg->namespace, cfg->name);
	int ret = id ? flat_map_put_str(&cfg->k8s_services, id, k8s) : -ENOMEM;

	if (ret == -ENOMEM)
		cfg->oom = true;
	if (cfg->k8s_last)
		cfg->k8s_last->next = k8s;
	else
		cfg->k8s_first = k8s;
	cfg->k8s_last = k8s;
}

void cfg_k8s_service(struct cfg *cfg, const struct yaml_node *root)
{
	struct k8s_service *k8s = tmp_array(cfg, 1, sizeof(*k8s));
	struct flat_service *s = cfg_array(cfg, 1, sizeof(*s));
	struct service_reading r = {.k8s = k8s, .s = s};
	const struct yaml_node *exported =
	    yaml_get(cfg->annotations, "networking.istio.io/exportTo");
	uint32_t errors = cfg->diags->n_errors;

	r.addresses = cfg_array(cfg, 3, sizeof(*r.addresses));
	if (!k8s || !s || !r.addresses)
		return;
	k8s->service = s;
	s->kind = FLAT_SERVICE_KUBERNETES;
	s->name = cfg->name;
	s->namespace = cfg->namespace;
	s->where = cfg->where;
	s->addresses = r.addresses;
	s->path = cfg_path(cfg, true);
	if (exported)
		cfg_export_annotation(cfg, exported, &s->export);
	s->host =
	    flat_pool_printf(cfg->pool, "%s.%s." FLAT_CLUSTER_DOMAIN, cfg->name, cfg->namespace);
	if (!s->host)
		cfg->oom = true;
	s->persistence = s->host ? cfg_service_persistence(cfg, s->host) : NULL;
	cfg_spec(cfg, root, parse_service_spec, &r);
	if (cfg->diags->n_errors == errors && !k8s->external_name &&
	    !yaml_get(yaml_get(root, "spec"), "ports") && !s->headless)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.ports",
			  "a Service needs a port");
	if (cfg->diags->n_errors == errors && k8s->external_name && !k8s->external)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.externalName",
			  "a Service of type ExternalName needs another's name");
	s->resolution = s->headless ? FLAT_RESOLUTION_NONE : FLAT_RESOLUTION_STATIC;
	s->auto_address = !s->headless && s->n_addresses == 0;
	k8s_register(cfg, k8s);
}

/* --- EndpointSlice --- */

static void parse_slice_family(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"IPv4", "IPv6", "FQDN"};
	struct k8s_slice *slice = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	slice->family = i == 0 ? AF_INET : i == 1 ? AF_INET6 : 0;
	if (i == 2)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use IPv4 or IPv6",
			 "addressType FQDN is not honoured: the slice is left out");
}

static void parse_slice_port_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct slice_port *port = obj;

	if (node->kind == YAML_SCALAR && !*node->text)
		return; /* "" is the name of a service's only port */
	port->name = cfg_port_name(cfg, node);
}

static void parse_slice_port_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct slice_port *port = obj;

	port->number = cfg_port(cfg, node);
}

static void parse_slice_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_slice_port_name),
	    CFG_FIELD("port", parse_slice_port_number),
	    CFG_SKIP("protocol"),
	    CFG_SKIP("appProtocol"),
	};
	struct k8s_slice *slice = obj;
	const struct yaml_node *protocol = yaml_get(node, "protocol");
	struct slice_port *port = &slice->ports[slice->n_ports];

	port->name = "";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), port);
	/* Other protocols belong to ports of the Service that were reported there. */
	if (!protocol || protocol->kind != YAML_SCALAR || strcmp(protocol->text, "TCP") == 0)
		slice->n_ports++;
}

static void parse_slice_ports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct k8s_slice *slice = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	slice->ports = tmp_array(cfg, node->n, sizeof(*slice->ports));
	if (slice->ports)
		(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_slice_port, slice);
}

/* What the functions of one endpoint get. */
struct slice_now {
	struct k8s_slice *slice;
	struct slice_endpoint *endpoint;
};

static void parse_slice_address(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct slice_now *now = obj;
	struct flat_ip ip;

	if (!cfg_expect(cfg, node, YAML_SCALAR) || now->slice->family == 0)
		return;
	if (flat_ip_parse(node->text, &ip) || ip.family != now->slice->family) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "correct it, or addressType",
			  "\"%.100s\" is no %s address", node->text,
			  now->slice->family == AF_INET ? "IPv4" : "IPv6");
		return;
	}
	now->endpoint->ips[now->endpoint->n_ips++] = ip;
}

static void parse_slice_addresses(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct slice_now *now = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	now->endpoint->ips = tmp_array(cfg, node->n, sizeof(*now->endpoint->ips));
	if (now->endpoint->ips)
		(void)cfg_list(cfg, node, 100, parse_slice_address, now);
}

static void parse_ready(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct slice_now *now = obj;

	now->endpoint->not_ready = !cfg_bool(cfg, node);
}

static void parse_serving(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct slice_now *)obj)->endpoint->serving = cfg_bool(cfg, node);
}

static void parse_terminating(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct slice_now *)obj)->endpoint->terminating = cfg_bool(cfg, node);
}

static void parse_conditions(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("ready", parse_ready),
	    CFG_FIELD("serving", parse_serving),
	    CFG_FIELD("terminating", parse_terminating),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_slice_endpoint(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("addresses", parse_slice_addresses),
	    CFG_FIELD("conditions", parse_conditions),
	    CFG_UNHONOURED("hostname", "names of single endpoints are left to DNS"),
	    CFG_SKIP("targetRef"),
	    CFG_SKIP("nodeName"),
	    CFG_UNHONOURED("zone", "without its region it is no locality"),
	    CFG_UNHONOURED("hints", "endpoints are chosen by weight only"),
	    CFG_UNHONOURED("deprecatedTopology", "endpoints are chosen by weight only"),
	};
	struct k8s_slice *slice = obj;
	struct slice_now now = {slice, &slice->endpoints[slice->n_endpoints++]};

	now.endpoint->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &now);
	if (node->kind == YAML_MAP && !yaml_get(node, "addresses"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"addresses\" is missing");
}

static void parse_slice_endpoints(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct k8s_slice *slice = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	slice->endpoints = tmp_array(cfg, node->n, sizeof(*slice->endpoints));
	if (slice->endpoints)
		(void)cfg_list(cfg, node, FLAT_CONFIG_ENDPOINTS_MAX, parse_slice_endpoint, slice);
}

void cfg_endpoint_slice(struct cfg *cfg, const struct yaml_node *root)
{
	static const struct cfg_field family[] = {CFG_FIELD("addressType", parse_slice_family)};
	static const struct cfg_field fields[] = {
	    CFG_TOP_FIELDS,
	    CFG_SKIP("addressType"),
	    CFG_FIELD("endpoints", parse_slice_endpoints),
	    CFG_FIELD("ports", parse_slice_ports),
	};
	const char *service = flat_labels_get(&cfg->labels, CONFIG_SLICE_LABEL);
	const struct yaml_node *type = yaml_get(root, "addressType");
	struct k8s_slice *slice = tmp_array(cfg, 1, sizeof(*slice));

	if (!slice)
		return;
	slice->where = cfg->where;
	slice->root = cfg->kept ? root : NULL;
	memcpy(slice->resource, cfg->resource, sizeof(slice->resource));
	cfg_check_annotations(cfg, NULL, 0);
	/* The family is needed while the addresses are read, which may come before it. */
	if (!type)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add \"addressType: IPv4\"",
			  "field \"addressType\" is missing");
	else
		family[0].parse(cfg, type, slice);
	cfg_map(cfg, root, fields, FLAT_ARRAY_SIZE(fields), slice);
	if (!service) {
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_ADVICE, "add the label " CONFIG_SLICE_LABEL,
			 "the slice belongs to no Service");
		return;
	}
	slice->service = flat_pool_printf(&cfg->tmp, "%s/%s", cfg->namespace, service);
	if (!slice->service)
		cfg->oom = true;
	if (cfg->slice_last)
		cfg->slice_last->next = slice;
	else
		cfg->slice_first = slice;
	cfg->slice_last = slice;
}

/* --- joining --- */

/* The port of a slice that belongs to a Service's port: the one of the same name. */
static uint16_t slice_port(const struct k8s_slice *slice, const struct flat_service_port *port)
{
	uint32_t i;

	for (i = 0; i < slice->n_ports; i++)
		if (strcmp(slice->ports[i].name, port->name) == 0)
			return slice->ports[i].number;
	return 0;
}

/* As in Istio, what ends but still answers is kept for the sessions of a service that has them by its label. */
static bool is_draining(const struct k8s_service *k8s, const struct slice_endpoint *endpoint)
{
	return endpoint->not_ready && endpoint->serving && endpoint->terminating &&
	       !k8s->service->not_ready && k8s->service->persistence;
}

static bool is_used(const struct k8s_service *k8s, const struct slice_endpoint *endpoint)
{
	return !endpoint->not_ready || k8s->service->not_ready || is_draining(k8s, endpoint);
}

/* What an endpoint is found again by, hashed as bytes: there is no padding. */
struct endpoint_key {
	struct flat_ip ip;
	uint8_t port[2];
};

/*
 * One that stands in several slices, as while it moves from one to another, is one; what says of it that it is good holds
 * (Kubernetes: "EndpointSlices", Duplicate endpoints).
 */
static void add_endpoint(struct cfg *cfg, struct k8s_service *k8s, uint32_t p,
			 const struct flat_endpoint *endpoint)
{
	struct flat_service_port *port = &k8s->ports[p];
	struct flat_endpoint *v = k8s->endpoints[p];
	struct flat_endpoint *first = NULL;
	struct endpoint_key *key = k8s->n_slices > 1 ? tmp_array(cfg, 1, sizeof(*key)) : NULL;

	if (key) {
		*key = (struct endpoint_key){
		    endpoint->ip, {(uint8_t)(endpoint->port >> 8), (uint8_t)endpoint->port}};
		first = flat_map_get(&k8s->seen[p], key, sizeof(*key));
	}
	if (first) {
		first->draining &= endpoint->draining;
		return;
	}
	if (key && flat_map_put(&k8s->seen[p], key, sizeof(*key), &v[port->n_endpoints]))
		cfg->oom = true;
	v[port->n_endpoints++] = *endpoint;
}

/* Adds a slice's ready addresses to each port of its Service; the arrays have the room. */
static void join_slice(struct cfg *cfg, const struct k8s_slice *slice)
{
	static const struct flat_labels no_labels;
	struct k8s_service *k8s = slice->owner;
	uint32_t p, e, a;

	for (p = 0; p < k8s->service->n_ports; p++) {
		uint16_t number = slice_port(slice, &k8s->ports[p]);

		for (e = 0; number && e < slice->n_endpoints; e++) {
			const struct slice_endpoint *endpoint = &slice->endpoints[e];

			for (a = 0; is_used(k8s, endpoint) && a < endpoint->n_ips; a++)
				add_endpoint(cfg, k8s, p,
					     &(struct flat_endpoint){
						 .ip = endpoint->ips[a],
						 .port = number,
						 .weight = 1,
						 .labels = &no_labels,
						 .draining = is_draining(k8s, endpoint),
						 .where = endpoint->where,
					     });
		}
	}
}

static void forget_seen(struct k8s_service *k8s)
{
	for (uint32_t p = 0; k8s->seen && p < k8s->service->n_ports; p++)
		flat_map_fini(&k8s->seen[p]);
	k8s->seen = NULL;
}

/* Counts what a slice will add, so that one allocation per port is enough. */
static void count_slice(struct cfg *cfg, struct k8s_slice *slice)
{
	uint32_t e;

	slice->owner = flat_map_get_str(&cfg->k8s_services, slice->service);
	if (!slice->owner) {
		memcpy(cfg->resource, slice->resource, sizeof(cfg->resource));
		cfg_warn(cfg, &slice->where, FLAT_DIAG_ADVICE,
			 "add the Service, or remove the slice",
			 "there is no Service %s: the slice is not used", slice->service);
		return;
	}
	slice->owner->n_slices++;
	for (e = 0; e < slice->n_endpoints; e++)
		if (is_used(slice->owner, &slice->endpoints[e]))
			slice->owner->n_addresses_max += slice->endpoints[e].n_ips;
}

/* A headless service is reached at its endpoints' own addresses and ports. */
static void settle_headless(struct cfg *cfg, struct k8s_service *k8s)
{
	struct flat_service *s = k8s->service;
	struct flat_cidr *v;
	struct flat_map seen = {0};
	uint32_t p, e, n = 0;
	int ret = 0;

	if (!s->headless || k8s->n_addresses_max == 0)
		return;
	v = cfg_array(cfg, k8s->n_addresses_max, sizeof(*v));
	for (p = 0; v && p < s->n_ports && !ret; p++) {
		for (e = 0; e < s->ports[p].n_endpoints && ret != -ENOMEM; e++) {
			const struct flat_endpoint *endpoint = &s->ports[p].endpoints[e];

			ret = flat_map_put(&seen, &endpoint->ip, sizeof(endpoint->ip), v);
			if (ret)
				continue;
			v[n].ip = endpoint->ip;
			v[n++].prefix = endpoint->ip.family == AF_INET ? 32 : 128;
		}
		ret = ret == -ENOMEM ? ret : 0;
	}
	flat_map_fini(&seen);
	if (ret)
		cfg->oom = true;
	s->addresses = v;
	s->n_addresses = n;
}

static void make_room(struct cfg *cfg, struct k8s_service *k8s)
{
	uint32_t p;

	if ((uint64_t)k8s->n_addresses_max * k8s->service->n_ports > FLAT_CONFIG_ENDPOINTS_MAX) {
		cfg->resource[0] = '\0';
		cfg_error(cfg, &k8s->service->where, FLAT_DIAG_LIMIT, "split the service",
			  "Service %s/%s has more than %u endpoints times ports",
			  k8s->service->namespace, k8s->service->name, FLAT_CONFIG_ENDPOINTS_MAX);
		k8s->service->n_ports = 0;
		return;
	}
	k8s->endpoints = tmp_array(cfg, k8s->service->n_ports, sizeof(struct flat_endpoint *));
	if (k8s->n_slices > 1)
		k8s->seen = tmp_array(cfg, k8s->service->n_ports, sizeof(*k8s->seen));
	for (p = 0; k8s->endpoints && p < k8s->service->n_ports; p++) {
		k8s->endpoints[p] =
		    cfg_array(cfg, k8s->n_addresses_max, sizeof(*k8s->endpoints[p]));
		k8s->ports[p].endpoints = k8s->endpoints[p];
	}
}

static void add_alias(struct cfg *cfg, const struct k8s_service *k8s)
{
	struct flat_alias *alias = cfg_array(cfg, 1, sizeof(*alias));

	if (!alias || !k8s->external)
		return;
	*alias = (struct flat_alias){.name = k8s->service->name,
				     .namespace = k8s->service->namespace,
				     .host = k8s->service->host,
				     .target = k8s->external,
				     .where = k8s->service->where};
	if (flat_mesh_add_alias(cfg->mesh, alias))
		cfg->oom = true;
}

void cfg_k8s_finish(struct cfg *cfg)
{
	struct k8s_service *k8s;
	struct k8s_slice *slice;

	for (slice = cfg->slice_first; slice; slice = slice->next)
		count_slice(cfg, slice);
	for (k8s = cfg->k8s_first; k8s; k8s = k8s->next)
		make_room(cfg, k8s);
	if (cfg->oom)
		return;
	for (slice = cfg->slice_first; slice; slice = slice->next)
		if (slice->owner)
			join_slice(cfg, slice);
	for (k8s = cfg->k8s_first; k8s; k8s = k8s->next) {
		forget_seen(k8s);
		settle_headless(cfg, k8s);
		if (k8s->external_name)
			add_alias(cfg, k8s);
		else if (flat_mesh_add_service(cfg->mesh, k8s->service))
			cfg->oom = true;
	}
}

int cfg_k8s_remember(const struct cfg *cfg, struct flat_config_cache *cache)
{
	int ret = 0;

	config_cache_forget_slices(cache);
	for (const struct k8s_slice *slice = cfg->slice_first; slice && !ret; slice = slice->next)
		ret = config_cache_add_slice(cache, slice->service, slice->root);
	return ret;
}

void cfg_k8s_patch(struct cfg *cfg, struct flat_mesh_patch *patch)
{
	struct flat_service s = *patch->service;
	struct k8s_service k8s = {.service = &s};
	struct k8s_slice *slice;
	char *id = flat_pool_printf(&cfg->tmp, "%s/%s", s.namespace, s.name);

	k8s.ports = tmp_array(cfg, s.n_ports, sizeof(*k8s.ports));
	if (!id || (s.n_ports && !k8s.ports) || flat_map_put_str(&cfg->k8s_services, id, &k8s)) {
		cfg->oom = true;
		return;
	}
	for (uint32_t p = 0; p < s.n_ports; p++) {
		k8s.ports[p] = patch->service->ports[p];
		k8s.ports[p].n_endpoints = 0;
	}
	s.ports = k8s.ports;
	for (slice = cfg->slice_first; slice; slice = slice->next)
		count_slice(cfg, slice);
	make_room(cfg, &k8s);
	for (slice = cfg->slice_first; slice && !cfg->oom; slice = slice->next)
		if (slice->owner)
			join_slice(cfg, slice);
	forget_seen(&k8s);
	for (uint32_t p = 0; p < s.n_ports && !cfg->oom; p++) {
		patch->endpoints[p] = k8s.endpoints[p];
		patch->n_endpoints[p] = k8s.ports[p].n_endpoints;
	}
}
