/* ServiceEntry (networking.istio.io) -> one struct flat_service per host. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "control/http_common.h"
#include "control/names.h"
#include "control/service_common.h"
#include "control/traffic_policy.h"

/* `ports` of an endpoint: the port it listens on for a port of the service, by name. */
struct port_override {
	const char *name;
	uint16_t port;
	struct flat_where where;
};

struct entry_endpoint {
	struct flat_endpoint base; /* without port */
	struct port_override *overrides;
	uint32_t n_overrides;
	bool usable;	  /* has an IP address */
	const char *name; /* to be resolved; NULL: none */
	struct flat_where name_where;
};

struct reading {
	struct flat_service base; /* what all hosts share */
	const char **hosts;
	struct flat_where *host_where;
	uint32_t n_hosts;
	struct flat_cidr *addresses;
	struct flat_service_port *ports;
	struct entry_endpoint *endpoints;
	uint32_t n_endpoints;
	struct entry_endpoint *endpoint; /* being read */
	const char *address;		 /* of it */
	struct flat_where address_where;
	struct flat_labels *endpoint_labels;
	bool has_resolution;
	const char *protocol; /* of the port being read */
	struct flat_where protocol_where;
	bool dynamic; /* resolution, which is not honoured */
};

/* --- hosts and addresses --- */

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);
	char *host;
	size_t i;

	if (!text)
		return;
	host = flat_pool_strdup(cfg->pool, text);
	if (!host) {
		cfg->oom = true;
		return;
	}
	for (i = 0; host[i]; i++)
		host[i] = (char)tolower((unsigned char)host[i]);
	if (!cfg_is_dns(strncmp(host, "*.", 2) == 0 ? host + 2 : host, true)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write a name such as db.example.com, or *.example.com",
			  "\"%.200s\" is no host name", text);
		return;
	}
	r->hosts[r->n_hosts] = host;
	r->host_where[r->n_hosts++] = node->where;
}

static void parse_hosts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->hosts = cfg_array(cfg, node->n, sizeof(*r->hosts));
	r->host_where = cfg_array(cfg, node->n, sizeof(*r->host_where));
	if (r->hosts && r->host_where)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_host, r);
}

static void parse_address(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_cidr *cidr = &r->addresses[r->base.n_addresses];

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	if (flat_cidr_parse(node->text, cidr)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write an address such as 10.1.2.3 or a block such as 10.1.0.0/16",
			  "\"%.100s\" is no IP address or block", node->text);
		return;
	}
	r->base.n_addresses++;
}

static void parse_addresses(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->addresses = cfg_array(cfg, node->n, sizeof(*r->addresses));
	if (!r->addresses)
		return;
	r->base.addresses = r->addresses;
	(void)cfg_list(cfg, node, FLAT_CONFIG_ADDRESSES_MAX, parse_address, r);
}

/* --- ports --- */

static struct flat_service_port *port_now(struct reading *r)
{
	return &r->ports[r->base.n_ports - 1];
}

static void parse_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	port_now(obj)->number = cfg_port(cfg, node);
}

static void parse_target_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	port_now(obj)->target_port = cfg_port(cfg, node);
}

static void parse_port_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	port_now(obj)->name = cfg_port_name(cfg, node);
}

static void parse_protocol(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->protocol = cfg_string(cfg, node);
	r->protocol_where = node->where;
}

/* Name and number are unique within a service. */
static void check_port(struct cfg *cfg, const struct reading *r,
		       const struct flat_service_port *port)
{
	uint32_t i;

	for (i = 0; i + 1 < r->base.n_ports; i++) {
		if (r->ports[i].number == port->number)
			cfg_error(cfg, &port->where, FLAT_DIAG_DUPLICATE, "keep one of them",
				  "port %u is there twice", (unsigned)port->number);
		else if (strcmp(r->ports[i].name, port->name) == 0)
			cfg_error(cfg, &port->where, FLAT_DIAG_DUPLICATE,
				  "give each port its own name", "two ports are named \"%s\"",
				  port->name);
	}
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("number", parse_number),
	    CFG_FIELD("name", parse_port_name),
	    CFG_FIELD("protocol", parse_protocol),
	    CFG_FIELD("targetPort", parse_target_port),
	};
	struct reading *r = obj;
	struct flat_service_port *port = &r->ports[r->base.n_ports++];
	uint32_t errors = cfg->diags->n_errors;

	port->where = node->where;
	r->protocol = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!port->name)
		port->name = "";
	if (cfg->diags->n_errors == errors && !port->number)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"number\" is missing");
	if (cfg->diags->n_errors == errors && !*port->name)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"name\" is missing");
	if (!port->target_port)
		port->target_port = port->number;
	if (!cfg_protocol(r->protocol, port->name, &port->protocol, &port->declared))
		cfg_error(cfg, &r->protocol_where, FLAT_DIAG_BAD_VALUE,
			  "use TCP, HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, MONGO, MYSQL or REDIS",
			  "unknown protocol \"%.50s\"", r->protocol);
	cfg_warn_opaque(cfg, r->protocol ? &r->protocol_where : &port->where, port->protocol);
	if (cfg->diags->n_errors == errors)
		check_port(cfg, r, port);
}

static void parse_ports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->ports = cfg_array(cfg, node->n, sizeof(*r->ports));
	if (!r->ports)
		return;
	r->base.ports = r->ports;
	(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_port, r);
}

/* --- endpoints --- */

static void parse_ep_address(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->address = cfg_string(cfg, node);
	r->address_where = node->where;
}

static void parse_ep_ports(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const struct yaml_item *item;
	struct port_override *v;
	uint32_t n = 0;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	if (node->n > FLAT_CONFIG_PORTS_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "remove some", "too many ports");
		return;
	}
	v = cfg_array(cfg, node->n, sizeof(*v));
	for (item = v ? node->first : NULL; item; item = item->next, n++) {
		v[n].name = cfg_port_name(cfg, item->key);
		v[n].port = cfg_port(cfg, item->value);
		v[n].where = item->key->where;
	}
	r->endpoint->overrides = v;
	r->endpoint->n_overrides = n;
}

static void parse_ep_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_labels *labels = cfg_array(cfg, 1, sizeof(*labels));

	if (!labels)
		return;
	*labels = cfg_labels(cfg, node);
	r->endpoint->base.labels = labels;
}

static void parse_ep_weight(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	uint64_t weight;

	if (!cfg_uint(cfg, node, 0, INT32_MAX, &weight))
		return;
	if (weight == 0) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE,
			 "remove the endpoint to send it nothing",
			 "weight 0 counts as 1, as in Istio");
		weight = 1;
	}
	r->endpoint->base.weight = (uint32_t)weight;
}

static void parse_ep_account(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->endpoint->base.service_account = cfg_string(cfg, node);
}

static void parse_ep_locality(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->endpoint->base.locality = cfg_locality(cfg, node, false);
}

static void parse_endpoint(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct flat_labels no_labels;
	static const struct cfg_field fields[] = {
	    CFG_FIELD("address", parse_ep_address),
	    CFG_FIELD("ports", parse_ep_ports),
	    CFG_FIELD("labels", parse_ep_labels),
	    CFG_FIELD("weight", parse_ep_weight),
	    CFG_FIELD("serviceAccount", parse_ep_account),
	    CFG_UNHONOURED("network", "there is one network"),
	    CFG_FIELD("locality", parse_ep_locality),
	};
	struct reading *r = obj;
	struct entry_endpoint *endpoint = &r->endpoints[r->n_endpoints++];

	endpoint->base.where = node->where;
	endpoint->base.weight = 1;
	endpoint->base.labels = &no_labels;
	r->endpoint = endpoint;
	r->address = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!endpoint->base.locality)
		endpoint->base.locality = cfg_locality_of(cfg, endpoint->base.labels);
	if (!r->address) {
		if (node->kind == YAML_MAP && !yaml_get(node, "address"))
			cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
				  "field \"address\" is missing");
		return;
	}
	if (flat_ip_parse(r->address, &endpoint->base.ip) == 0)
		endpoint->usable = true;
	else if (strncmp(r->address, "unix://", 7) == 0)
		cfg_warn(cfg, &r->address_where, FLAT_DIAG_NOT_HONOURED, "give it an IP address",
			 "unix socket endpoints are not honoured: this one is left out");
	else if (cfg_is_dns(r->address, true)) {
		endpoint->name = r->address;
		endpoint->name_where = r->address_where;
	} else
		cfg_error(cfg, &r->address_where, FLAT_DIAG_BAD_VALUE,
			  "write an address such as 10.1.2.3", "\"%.200s\" is no IP address",
			  r->address);
}

static void parse_endpoints(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	/* Thrown away after the load: `base` of each is copied, once per port. */
	r->endpoints = node->n ? flat_pool_array(&cfg->tmp, node->n, sizeof(*r->endpoints)) : NULL;
	if (!r->endpoints) {
		cfg->oom |= node->n > 0;
		return;
	}
	(void)cfg_list(cfg, node, FLAT_CONFIG_ENDPOINTS_MAX, parse_endpoint, r);
}

/* --- the rest --- */

static void parse_location(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"MESH_EXTERNAL", "MESH_INTERNAL"};
	struct reading *r = obj;

	r->base.external = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 0;
}

static void parse_resolution(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN",
					    "DYNAMIC_DNS"};
	static const enum flat_resolution values[] = {FLAT_RESOLUTION_NONE, FLAT_RESOLUTION_STATIC,
						      FLAT_RESOLUTION_DNS, FLAT_RESOLUTION_DNS,
						      FLAT_RESOLUTION_NONE};
	struct reading *r = obj;
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i == 4)
		cfg_warn(
		    cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "use DNS and names without stars",
		    "DYNAMIC_DNS is not honoured: the hosts are left to the system's resolver");
	r->dynamic = i == 4;
	if (i >= 0)
		r->base.resolution = values[i];
}

static void parse_selector_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->base.selector = cfg_labels(cfg, node);
	r->base.has_selector = r->base.selector.n > 0;
}

static void parse_workload_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {CFG_FIELD("labels", parse_selector_labels)};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_export_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_export_to(cfg, node, &((struct reading *)obj)->base.export);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("hosts", parse_hosts),
	    CFG_FIELD("addresses", parse_addresses),
	    CFG_FIELD("ports", parse_ports),
	    CFG_FIELD("endpoints", parse_endpoints),
	    CFG_FIELD("location", parse_location),
	    CFG_FIELD("resolution", parse_resolution),
	    CFG_FIELD("workloadSelector", parse_workload_selector),
	    CFG_FIELD("exportTo", parse_export_to),
	    CFG_UNHONOURED("subjectAltNames", "there are no server certificates"),
	};
	struct reading *r = obj;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (node->kind != YAML_MAP)
		return;
	if (!yaml_get(node, "hosts") || (r->n_hosts == 0 && yaml_get(node, "hosts")->n == 0))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add spec.hosts",
			  "a ServiceEntry needs a host");
	if (!yaml_get(node, "ports") || (r->base.n_ports == 0 && yaml_get(node, "ports")->n == 0))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add spec.ports",
			  "a ServiceEntry needs a port");
	if (r->n_endpoints && r->base.has_selector)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "endpoints and workloadSelector exclude each other");
}

/* --- putting it together --- */

/* The port an endpoint listens on for a port of the service. */
static uint16_t endpoint_port(const struct entry_endpoint *endpoint,
			      const struct flat_service_port *port)
{
	uint32_t i;

	for (i = 0; i < endpoint->n_overrides; i++)
		if (strcmp(endpoint->overrides[i].name, port->name) == 0)
			return endpoint->overrides[i].port;
	return port->target_port;
}

/* Names of ports in endpoints that the service does not have. */
static void check_overrides(struct cfg *cfg, const struct reading *r)
{
	uint32_t i, j, k;

	for (i = 0; i < r->n_endpoints; i++) {
		const struct entry_endpoint *endpoint = &r->endpoints[i];

		for (j = 0; j < endpoint->n_overrides; j++) {
			for (k = 0; k < r->base.n_ports; k++)
				if (strcmp(endpoint->overrides[j].name, r->ports[k].name) == 0)
					break;
			if (k == r->base.n_ports)
				cfg_error(cfg, &endpoint->overrides[j].where, FLAT_DIAG_BAD_VALUE,
					  "use the name of one of spec.ports",
					  "the service has no port named \"%.100s\"",
					  endpoint->overrides[j].name);
		}
	}
}

/* Room for the endpoints of a host, once for each port; 0: there are none, or too many. */
static uint32_t room_for(struct cfg *cfg, const struct reading *r, uint32_t names)
{
	uint64_t n = (uint64_t)names * FLAT_NAME_ADDRS_MAX;
	uint32_t i;

	for (i = 0; i < r->n_endpoints; i++)
		n += r->endpoints[i].usable;
	if (n * r->base.n_ports > FLAT_CONFIG_ENDPOINTS_MAX) {
		cfg_error(cfg, &cfg->where, FLAT_DIAG_LIMIT, "split the service",
			  "more than %u endpoints times ports", FLAT_CONFIG_ENDPOINTS_MAX);
		return 0;
	}
	return (uint32_t)n;
}

static void fill_endpoints(struct cfg *cfg, struct reading *r)
{
	uint32_t i, j, usable = room_for(cfg, r, 0), n;

	for (j = 0; j < r->base.n_ports && usable > 0; j++) {
		struct flat_endpoint *v = cfg_array(cfg, usable, sizeof(*v));

		for (i = 0, n = 0; v && i < r->n_endpoints; i++) {
			if (!r->endpoints[i].usable)
				continue;
			v[n] = r->endpoints[i].base;
			v[n++].port = endpoint_port(&r->endpoints[i], &r->ports[j]);
		}
		r->ports[j].endpoints = v;
		r->ports[j].n_endpoints = v ? n : 0;
	}
}

/* --- endpoints by name --- */

/* One address each of what a name stands for; the weight is that of all together, as in Envoy's clusters of names. */
static uint32_t put_name(struct cfg *cfg, const char *name, const struct flat_endpoint *base,
			 struct flat_endpoint *out)
{
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];
	int n = cfg->names ? flat_names_get(cfg->names, name, v) : 0;

	if (n < 0)
		cfg->oom = true;
	for (int i = 0; i < n; i++) {
		out[i] = *base;
		out[i].ip = v[i];
	}
	return n > 0 ? (uint32_t)n : 0;
}

/* The host's own ports, with the addresses that its endpoints' names, or its own, have now. */
static void resolve(struct cfg *cfg, const struct reading *r, struct flat_service *service)
{
	static const struct flat_labels no_labels;
	struct entry_endpoint self = {
	    .base = {.weight = 1, .labels = &no_labels, .where = service->where},
	    .name = service->host,
	};
	const struct entry_endpoint *from = r->n_endpoints ? r->endpoints : &self;
	uint32_t n_from = r->n_endpoints ? r->n_endpoints : 1;
	uint32_t names = 0, i, j, room;
	struct flat_service_port *ports = cfg_array(cfg, service->n_ports, sizeof(*ports));

	for (i = 0; i < n_from; i++)
		names += from[i].name != NULL;
	room = room_for(cfg, r, names);
	for (j = 0; ports && room > 0 && j < service->n_ports; j++) {
		struct flat_endpoint *all = flat_pool_array(&cfg->tmp, room, sizeof(*all)), *kept;
		uint32_t n = 0;

		cfg->oom |= !all;
		for (i = 0; all && i < n_from; i++) {
			struct flat_endpoint base = from[i].base;

			base.port = endpoint_port(&from[i], &r->ports[j]);
			if (from[i].usable)
				all[n++] = base;
			else if (from[i].name)
				n += put_name(cfg, from[i].name, &base, all + n);
		}
		ports[j] = r->ports[j];
		kept = n ? cfg_array(cfg, n, sizeof(*kept)) : NULL;
		if (kept)
			memcpy(kept, all, n * sizeof(*kept));
		ports[j].endpoints = kept;
		ports[j].n_endpoints = kept ? n : 0;
	}
	service->ports = ports;
	if (!ports)
		service->n_ports = 0;
}

static void check_names(struct cfg *cfg, const struct reading *r)
{
	uint32_t i;

	for (i = 0; i < r->n_endpoints; i++) {
		const struct entry_endpoint *e = &r->endpoints[i];

		if (e->name && r->base.resolution != FLAT_RESOLUTION_DNS)
			cfg_warn(cfg, &e->name_where, FLAT_DIAG_NOT_HONOURED,
				 "give it an IP address, or use \"resolution: DNS\"",
				 "without DNS the endpoint \"%.200s\" is left out", e->name);
	}
	for (i = 0; i < r->n_hosts; i++)
		if (r->base.resolution == FLAT_RESOLUTION_DNS && r->n_endpoints == 0 &&
		    r->hosts[i][0] == '*')
			cfg_error(cfg, &r->host_where[i], FLAT_DIAG_BAD_VALUE,
				  "name endpoints, or hosts without a star",
				  "\"%.200s\" stands for many names, of which none can be resolved",
				  r->hosts[i]);
}

static void settle_resolution(struct cfg *cfg, struct reading *r)
{
	struct flat_service *s = &r->base;
	bool any_http = false;
	uint32_t i;

	if (s->resolution != FLAT_RESOLUTION_NONE || r->dynamic)
		return;
	if (r->n_endpoints)
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_ADVICE, "add \"resolution: STATIC\"",
			 "without resolution (NONE) the endpoints are not used");
	if (s->n_addresses)
		return;
	for (i = 0; i < s->n_ports; i++)
		any_http |= r->ports[i].protocol != FLAT_PROTOCOL_TCP &&
			    !flat_protocol_is_tls(r->ports[i].protocol);
	s->any_address = true;
	if (any_http)
		cfg_warn(cfg, &cfg->where, FLAT_DIAG_NOT_HONOURED, "add addresses",
			 "without addresses and resolution, ports other than TCP and TLS are "
			 "matched by nothing here: names in HTTP are not read");
}

/* Hosts that get an address of 240.240.0.0/16: as Istio, not with NONE, and no wildcards. */
static bool wants_auto_address(const struct reading *r, const char *host)
{
	return r->base.n_addresses == 0 && r->base.resolution != FLAT_RESOLUTION_NONE &&
	       host[0] != '*';
}

/* Each host's ports are its own: their endpoints change by themselves (mesh/build.h, flat_mesh_patch()). */
static void own_ports(struct cfg *cfg, struct flat_service *service)
{
	struct flat_service_port *ports = cfg_array(cfg, service->n_ports, sizeof(*ports));

	if (ports)
		memcpy(ports, service->ports, service->n_ports * sizeof(*ports));
	service->ports = ports;
	if (!ports)
		service->n_ports = 0;
}

/* Adds what one host makes to the mesh, or to what a patch is made of. */
static void add_host(struct cfg *cfg, const struct reading *r, uint32_t i)
{
	struct flat_service *service = cfg_array(cfg, 1, sizeof(*service));

	if (!service)
		return;
	*service = r->base;
	service->host = r->hosts[i];
	service->where = r->host_where[i];
	service->persistence = cfg_service_persistence(cfg, service->host);
	service->auto_address = wants_auto_address(r, r->hosts[i]);
	if (r->base.resolution == FLAT_RESOLUTION_DNS)
		resolve(cfg, r, service);
	else if (i > 0)
		own_ports(cfg, service);
	if (!cfg->mesh)
		cfg->made[cfg->n_made++] = service;
	else if (flat_mesh_add_service(cfg->mesh, service))
		cfg->oom = true;
}

void cfg_service_entry(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.base = {.kind = FLAT_SERVICE_ENTRY}};
	uint32_t errors = cfg->diags->n_errors, i;

	r.base.name = cfg->name;
	r.base.namespace = cfg->namespace;
	r.base.resolution = FLAT_RESOLUTION_NONE; /* Istio's default */
	r.base.external = true;			  /* likewise */
	r.base.path = cfg_path(cfg, false);
	cfg_spec(cfg, root, parse_spec, &r);
	if (!yaml_get(root, "spec") || yaml_is_null(yaml_get(root, "spec")))
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add it",
			  "field \"spec\" is missing");
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	check_overrides(cfg, &r);
	check_names(cfg, &r);
	if (r.base.resolution != FLAT_RESOLUTION_DNS)
		fill_endpoints(cfg, &r);
	settle_resolution(cfg, &r);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	cfg->n_made = 0;
	if (!cfg->mesh)
		cfg->made =
		    flat_pool_array(&cfg->tmp, r.n_hosts + 1, sizeof(struct flat_service *));
	if (!cfg->mesh && !cfg->made)
		cfg->oom = true;
	for (i = 0; i < r.n_hosts && !cfg->oom; i++)
		add_host(cfg, &r, i);
}
