/* Gateway (gateway.networking.k8s.io) and Namespace: what is written. Which routes come to a listener: api_attach.c. */
#include "control/api_gateway.h"

#include <string.h>

/* Istio's and everybody's: the workload that is deployed for a Gateway bears its name in this label. */
#define LABEL_GATEWAY "gateway.networking.k8s.io/gateway-name"
#define KIND_BIT(kind) (1U << (kind))

struct reading {
	struct api_reference to;
	struct api_gateway *gateway;
	struct api_listener *listener; /* being read */
	int protocol, mode;
	struct flat_gateway_certificate *certs; /* of it */
	bool has_kinds;
	struct api_frontend *frontend; /* being read */
};

enum { PROTOCOL_HTTP, PROTOCOL_HTTPS, PROTOCOL_TLS, PROTOCOL_TCP };
enum { MODE_TERMINATE, MODE_PASSTHROUGH };

static void not_served(struct cfg *cfg, struct reading *r, const struct flat_where *where,
		       const char *what)
{
	r->listener->server->served = false;
	cfg_warn(cfg, where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "%s is not honoured: this listener is not opened", what);
}

/* --- TLS --- */

static void parse_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"Terminate", "Passthrough"};

	((struct reading *)obj)->mode = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));
}

/* One that is not understood leaves the others. */
static void parse_certificate(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_API_REFERENCE,
	};
	struct reading *r = obj;
	const struct api_reference *to = &r->to;
	struct flat_gateway_certificate *c;

	r->to = (struct api_reference){.group = "", .kind = "Secret"};
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (!to->name || !to->group || *to->group || !to->kind || strcmp(to->kind, "Secret") != 0) {
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "name a Secret",
			 "a certificate that is no Secret is not honoured");
		return;
	}
	c = &r->certs[r->listener->server->n_certs++];
	c->secret = to->name;
	c->namespace = to->namespace ? to->namespace : cfg->namespace;
}

static void parse_certificates(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->certs = cfg_array(cfg, node->n, sizeof(*r->certs));
	r->listener->server->certs = r->certs;
	r->listener->server->n_certs = 0;
	if (r->certs)
		(void)cfg_list(cfg, node, FLAT_CONFIG_CERTIFICATES_MAX, parse_certificate, r);
}

/* What says which clients may come in is never left out with a warning alone. */
static void parse_narrower(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	not_served(cfg, obj, &node->where, "this field");
}

static void parse_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mode", parse_mode),
	    CFG_FIELD("certificateRefs", parse_certificates),
	    CFG_FIELD("frontendValidation", parse_narrower),
	    CFG_FIELD("options", parse_narrower),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- allowedRoutes --- */

static enum api_from read_from(struct cfg *cfg, const struct yaml_node *node,
			       enum api_from otherwise)
{
	static const char *const names[] = {"Same", "All", "Selector", "None"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	return i >= 0 ? (enum api_from)i : otherwise;
}

static void parse_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->listener->from = read_from(cfg, node, API_FROM_SAME);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_selector(cfg, node, &((struct reading *)obj)->listener->selector);
}

static void parse_namespaces(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("from", parse_from),
	    CFG_FIELD("selector", parse_selector),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_route_kind(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("group", cfg_api_group),
	    CFG_FIELD("kind", cfg_api_kind),
	};
	struct reading *r = obj;
	int kind;

	r->to.kind = NULL;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	kind = cfg_api_kind_of(r->to.kind);
	/* What a listener of its protocol cannot take is left out afterwards. */
	if (kind >= 0)
		r->listener->kinds |= KIND_BIT(kind);
}

static void parse_kinds(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->has_kinds = true;
	(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_route_kind, r);
}

static void parse_allowed(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("namespaces", parse_namespaces),
	    CFG_FIELD("kinds", parse_kinds),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- listeners --- */

static void parse_listener_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	if (name)
		((struct reading *)obj)->listener->name = name;
}

static void parse_hostname(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *host =
	    cfg_expect(cfg, node, YAML_SCALAR) && *node->text ? cfg_host(cfg, node, true) : NULL;

	if (host)
		((struct reading *)obj)->listener->host = host;
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->listener->server->port = cfg_port(cfg, node);
}

static void parse_protocol(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {
	    [PROTOCOL_HTTP] = "HTTP",
	    [PROTOCOL_HTTPS] = "HTTPS",
	    [PROTOCOL_TLS] = "TLS",
	    [PROTOCOL_TCP] = "TCP",
	};
	struct reading *r = obj;
	const char *name = cfg_string(cfg, node);

	for (size_t i = 0; name && i < FLAT_ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			r->protocol = (int)i;
	}
	if (name && r->protocol < 0)
		not_served(cfg, r, &node->where, "this protocol");
}

/* The server of the mesh that a listener is. */
static void settle(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	static const unsigned kinds[] = {
	    [PROTOCOL_HTTP] = KIND_BIT(API_HTTP) | KIND_BIT(API_GRPC),
	    [PROTOCOL_HTTPS] = KIND_BIT(API_HTTP) | KIND_BIT(API_GRPC),
	    [PROTOCOL_TLS] = KIND_BIT(API_TCP) | KIND_BIT(API_TLS),
	    [PROTOCOL_TCP] = KIND_BIT(API_TCP),
	};
	struct flat_gateway_server *s = r->listener->server;
	bool passes = r->protocol == PROTOCOL_TLS && r->mode == MODE_PASSTHROUGH;
	bool ends = !passes && (r->protocol == PROTOCOL_HTTPS || r->protocol == PROTOCOL_TLS);
	unsigned can;

	if (!r->listener->name || s->port == 0 || (r->protocol < 0 && s->served)) {
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "a listener needs name, port and protocol");
		return;
	}
	if (r->protocol < 0)
		return;
	s->opaque = r->protocol == PROTOCOL_TLS || r->protocol == PROTOCOL_TCP;
	s->tls = passes ? FLAT_GATEWAY_PASSTHROUGH
		 : ends ? FLAT_GATEWAY_SIMPLE
			: FLAT_GATEWAY_PLAIN;
	can = passes ? KIND_BIT(API_TLS) : kinds[r->protocol];
	r->listener->kinds = r->has_kinds ? r->listener->kinds & can : can;
	if (r->protocol == PROTOCOL_HTTPS && r->mode == MODE_PASSTHROUGH)
		not_served(cfg, r, &node->where, "HTTPS with Passthrough");
	else if (ends && s->served && s->n_certs == 0)
		not_served(cfg, r, &node->where, "TLS without certificateRefs");
	if (!ends)
		s->n_certs = 0;
}

/* A port's own word counts alone, also where it asks for nothing. */
static void ask_clients(const struct api_gateway *g, struct flat_gateway_server *s)
{
	const struct api_frontend *f = &g->otherwise;

	if (s->tls != FLAT_GATEWAY_SIMPLE)
		return;
	for (uint32_t i = 0; i < g->n_ports; i++) {
		if (g->ports[i].port == s->port)
			f = &g->ports[i];
	}
	if (!f->asks)
		return;
	s->tls = f->optional ? FLAT_GATEWAY_OPTIONAL_MUTUAL : FLAT_GATEWAY_MUTUAL;
	s->authorities = f->authorities;
	s->n_authorities = f->n_authorities;
}

void cfg_api_open(struct cfg *cfg, const struct api_gateway *g, const struct api_gateway *set,
		  struct api_listener *l)
{
	struct flat_gateway *out = l->gateway;
	struct flat_gateway_host *host = cfg_array(cfg, 1, sizeof(*host));
	struct flat_label *label = cfg_array(cfg, 1, sizeof(*label));

	if (!host || !label)
		return;
	ask_clients(g, l->server);
	host->host = l->host;
	l->server->hosts = host;
	l->server->n_hosts = 1;
	*label = (struct flat_label){LABEL_GATEWAY, g->name};
	out->name = set ? flat_pool_printf(cfg->pool, "%s/%s/%s/%s", g->name, set->namespace,
					   set->name, l->name)
			: flat_pool_printf(cfg->pool, "%s/%s", g->name, l->name);
	out->namespace = g->namespace;
	out->of_api = true;
	out->selector = (struct flat_labels){label, 1};
	out->servers = l->server;
	out->n_servers = 1;
	out->where = l->server->where;
	if (!out->name || flat_mesh_add_gateway(cfg->mesh, out))
		cfg->oom = true;
}

static void parse_listener(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_listener_name),
	    CFG_FIELD("hostname", parse_hostname),
	    CFG_FIELD("port", parse_port),
	    CFG_FIELD("protocol", parse_protocol),
	    CFG_FIELD("tls", parse_tls),
	    CFG_FIELD("allowedRoutes", parse_allowed),
	};
	struct reading *r = obj;
	struct api_listener *l = r->listener = &r->gateway->listeners[r->gateway->n_listeners];
	uint32_t errors = cfg->diags->n_errors;

	l->gateway = cfg_array(cfg, 1, sizeof(*l->gateway));
	l->server = cfg_array(cfg, 1, sizeof(*l->server));
	if (!l->gateway || !l->server)
		return;
	l->host = "*";
	l->server->name = "";
	l->server->served = true;
	l->server->where = node->where;
	r->protocol = -1;
	r->mode = MODE_TERMINATE;
	r->has_kinds = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors == errors)
		settle(cfg, node, r);
	if (cfg->diags->n_errors == errors)
		r->gateway->n_listeners++;
}

void cfg_api_listeners(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading r = {.gateway = obj};

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r.gateway->listeners = cfg_array(cfg, node->n, sizeof(*r.gateway->listeners));
	if (r.gateway->listeners)
		(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_listener, &r);
}

static void parse_listeners(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_listeners(cfg, node, ((struct reading *)obj)->gateway);
}

static void parse_class(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	(void)cfg_string(cfg, node);
}

/* --- clients' certificates --- */

static void parse_authorities(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct api_frontend *f = ((struct reading *)obj)->frontend;

	cfg_api_authorities(cfg, node, false, &f->authorities, &f->n_authorities);
}

static void parse_validation_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"AllowValidOnly", "AllowInsecureFallback"};

	((struct reading *)obj)->frontend->optional =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

static void parse_validation(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("caCertificateRefs", parse_authorities),
	    CFG_FIELD("mode", parse_validation_mode),
	};
	struct api_frontend *f = ((struct reading *)obj)->frontend;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	f->asks = true;
	if (f->n_authorities == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add caCertificateRefs",
			  "who vouches for the clients is not said");
}

static void parse_frontend_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("validation", parse_validation),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_default(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->frontend = &r->gateway->otherwise;
	parse_frontend_tls(cfg, node, r);
}

static void parse_frontend_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->frontend->port = cfg_port(cfg, node);
}

static void parse_of_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("port", parse_frontend_port),
	    CFG_FIELD("tls", parse_frontend_tls),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->frontend = &r->gateway->ports[r->gateway->n_ports++];
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (r->frontend->port == 0 && cfg->diags->n_errors == errors)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it", "it needs a port");
}

static void parse_per_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->gateway->ports = cfg_array(cfg, node->n, sizeof(*r->gateway->ports));
	if (r->gateway->ports)
		(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_of_port, r);
}

static void parse_frontend(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("default", parse_default),
	    CFG_FIELD("perPort", parse_per_port),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_gateway_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("frontend", parse_frontend),
	    CFG_UNHONOURED("backend", "use a DestinationRule"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- allowedListeners --- */

static void parse_sets_from(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->gateway->allows = read_from(cfg, node, API_FROM_NONE);
}

static void parse_sets_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_api_selector(cfg, node, &((struct reading *)obj)->gateway->allowed);
}

static void parse_sets_namespaces(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("from", parse_sets_from),
	    CFG_FIELD("selector", parse_sets_selector),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_allowed_listeners(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field field = CFG_FIELD("namespaces", parse_sets_namespaces);

	cfg_map(cfg, node, &field, 1, obj);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("gatewayClassName", parse_class),
	    CFG_FIELD("listeners", parse_listeners),
	    CFG_FIELD("tls", parse_gateway_tls),
	    CFG_UNHONOURED("addresses", "ports are opened on all addresses"),
	    CFG_UNHONOURED("infrastructure", "nothing is deployed"),
	    CFG_FIELD("allowedListeners", parse_allowed_listeners),
	    CFG_UNHONOURED("defaultScope", "routes name their Gateways"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_api_gateway(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.gateway = cfg_array(cfg, 1, sizeof(*r.gateway))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.gateway)
		return;
	r.gateway->name = cfg->name;
	r.gateway->namespace = cfg->namespace;
	r.gateway->allows = API_FROM_NONE;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	for (uint32_t i = 0; i < r.gateway->n_listeners; i++)
		cfg_api_open(cfg, r.gateway, NULL, &r.gateway->listeners[i]);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	if (r.gateway->n_listeners == 0)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.listeners",
			  "a Gateway needs a listener");
	r.gateway->next = cfg->api_gateways;
	cfg->api_gateways = r.gateway;
}

void cfg_namespace(struct cfg *cfg, const struct yaml_node *root)
{
	static const struct cfg_field fields[] = {CFG_TOP_FIELDS, CFG_SKIP("spec")};
	struct api_namespace *ns = cfg_array(cfg, 1, sizeof(*ns));

	cfg_map(cfg, root, fields, FLAT_ARRAY_SIZE(fields), NULL);
	if (!ns)
		return;
	*ns = (struct api_namespace){cfg->api_namespaces, cfg->name, cfg->labels};
	cfg->api_namespaces = ns;
}
