/* Gateway (networking.istio.io) -> struct flat_gateway. */
#include "mesh/gateway.h"

#include <ctype.h>
#include <string.h>

#include "control/http_common.h"
#include "control/service_common.h"

struct reading {
	struct flat_gateway *gateway;
	struct flat_gateway_server *servers;
	struct flat_gateway_server *server;	/* being read */
	struct flat_gateway_host *hosts;	/* of it */
	struct flat_gateway_certificate *certs; /* of it, from the list that names them */
	struct flat_gateway_certificate *cert;	/* being read */
	struct flat_gateway_certificate files;	/* where there is no list */
	int ways;				/* in which its certificates are named */
	struct flat_strbuf *ciphers;
	const char **names;
	const char *protocol;
	struct flat_where protocol_where;
	int mode; /* index into `modes`, -1: not said */
};

static const char *const modes[] = {"PASSTHROUGH",	"SIMPLE",	"MUTUAL",
				    "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"};
enum { MODE_PASSTHROUGH = 0, MODE_SIMPLE = 1, MODE_MUTUAL = 2, MODE_OPTIONAL_MUTUAL = 5 };

static void not_served(struct cfg *cfg, struct reading *r, const struct flat_where *where,
		       const char *what, const char *why)
{
	r->server->served = false;
	cfg_warn(cfg, where, FLAT_DIAG_NOT_HONOURED, NULL,
		 "%s is not honoured: %s; this server is not opened", what, why);
}

/* --- port --- */

static void parse_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->server->port = cfg_port(cfg, node);
}

static void parse_protocol(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->protocol = cfg_string(cfg, node);
	r->protocol_where = node->where;
}

static void parse_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	(void)cfg_string(cfg, node);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("number", parse_number),
	    CFG_FIELD("protocol", parse_protocol),
	    CFG_FIELD("name", parse_text),
	    CFG_UNHONOURED("targetPort", "the port is opened as it is written"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- hosts --- */

static void parse_host(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_gateway_host *h = &r->hosts[r->server->n_hosts];
	const char *text = cfg_string(cfg, node);
	const char *slash = text ? strchr(text, '/') : NULL;
	struct yaml_node host = *node;

	if (!text)
		return;
	host.text = slash ? slash + 1 : text;
	h->host = cfg_host(cfg, &host, true);
	if (!h->host)
		return;
	if (slash && strncmp(text, "./", 2) == 0) {
		h->namespace = cfg->namespace;
	} else if (slash && strncmp(text, "*/", 2) != 0) {
		h->namespace = flat_pool_strndup(cfg->pool, text, (size_t)(slash - text));
		if (!h->namespace)
			cfg->oom = true;
	}
	r->server->n_hosts++;
}

static void parse_hosts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->hosts = cfg_array(cfg, node->n, sizeof(*r->hosts));
	r->server->hosts = r->hosts;
	if (r->hosts)
		(void)cfg_list(cfg, node, FLAT_CONFIG_HOSTS_MAX, parse_host, r);
}

/* --- tls --- */

static void parse_mode(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->mode = cfg_enum(cfg, node, modes, FLAT_ARRAY_SIZE(modes));
	if (r->mode == MODE_SIMPLE)
		r->server->tls = FLAT_GATEWAY_SIMPLE;
	else if (r->mode == MODE_MUTUAL)
		r->server->tls = FLAT_GATEWAY_MUTUAL;
	else if (r->mode == MODE_OPTIONAL_MUTUAL)
		r->server->tls = FLAT_GATEWAY_OPTIONAL_MUTUAL;
	else if (r->mode == MODE_PASSTHROUGH)
		r->server->tls = FLAT_GATEWAY_PASSTHROUGH;
	else if (r->mode >= 0)
		not_served(cfg, r, &node->where, modes[r->mode], "TLS ends here or nowhere");
}

static void parse_redirect(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->server->redirect = cfg_bool(cfg, node);
}

static void parse_cert(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cert->cert = cfg_string(cfg, node);
}

static void parse_key(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->cert->key = cfg_string(cfg, node);
}

/* One bundle for the server, wherever it is written. */
static void parse_ca(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *name = cfg_string(cfg, node);

	if (name && r->server->ca && strcmp(name, r->server->ca) != 0)
		not_served(cfg, r, &node->where, "a second bundle of authorities",
			   "clients' certificates are verified by one file");
	r->server->ca = name;
}

static void parse_ca_secret(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->server->ca_secret = cfg_string(cfg, node);
}

static void parse_credential(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_gateway_certificate *c = cfg_array(cfg, 1, sizeof(*c));

	r->ways++;
	if (!c)
		return;
	c->secret = cfg_string(cfg, node);
	r->server->certs = c;
	r->server->n_certs = 1;
}

static void parse_one_credential(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	r->certs[r->server->n_certs++].secret = cfg_string(cfg, node);
}

static void parse_pair(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("serverCertificate", parse_cert),
	    CFG_FIELD("privateKey", parse_key),
	    CFG_FIELD("caCertificates", parse_ca),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->cert = &r->certs[r->server->n_certs++];
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors == errors && (!r->cert->cert || !r->cert->key))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "add serverCertificate and privateKey",
			  "TLS needs a certificate and its key");
	r->cert = &r->files;
}

static void read_certs(struct cfg *cfg, const struct yaml_node *node, struct reading *r,
		       cfg_parse_fn *parse)
{
	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	r->ways++;
	r->certs = cfg_array(cfg, node->n, sizeof(*r->certs));
	r->server->certs = r->certs;
	r->server->n_certs = 0;
	if (r->certs)
		(void)cfg_list(cfg, node, FLAT_CONFIG_CERTIFICATES_MAX, parse, r);
}

static void parse_credentials(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_certs(cfg, node, obj, parse_one_credential);
}

static void parse_pairs(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_certs(cfg, node, obj, parse_pair);
}

static uint8_t version(struct cfg *cfg, const struct yaml_node *node)
{
	static const char *const names[] = {"TLS_AUTO", "TLSV1_2", "TLSV1_3", "TLSV1_1", "TLSV1_0"};
	static const uint8_t values[] = {0, 12, 13};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i < (int)FLAT_ARRAY_SIZE(values))
		return i < 0 ? 0 : values[i];
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write TLSV1_2 or TLSV1_3",
		  "%s is broken: it is not spoken", names[i]);
	return 0;
}

static void parse_min(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->server->min_version = version(cfg, node);
}

static void parse_max(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->server->max_version = version(cfg, node);
}

static void parse_cipher(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);

	for (const char *p = text; p && *p; p++) {
		if (isalnum((unsigned char)*p) || *p == '-' || *p == '_')
			continue;
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write a name such as ECDHE-RSA-AES128-GCM-SHA256",
			  "\"%.100s\" is no name of a cipher suite", text);
		return;
	}
	if (text)
		flat_strbuf_printf(r->ciphers, "%s%s", r->ciphers->len ? ":" : "", text);
}

static void parse_ciphers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	struct flat_strbuf all = {0};

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->ciphers = &all;
	(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_cipher, r);
	if (all.len > 0) {
		r->server->ciphers = flat_pool_strndup(cfg->pool, all.data, all.len);
		cfg->oom |= !r->server->ciphers;
	}
	flat_strbuf_fini(&all);
}

static void parse_san(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *name = cfg_string(cfg, node);

	if (name)
		r->names[r->server->n_names++] = name;
}

static void parse_sans(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->names = cfg_array(cfg, node->n, sizeof(*r->names));
	r->server->names = r->names;
	if (r->names)
		(void)cfg_list(cfg, node, FLAT_CONFIG_LIST_MAX, parse_san, r);
}

/* What narrows who may come in is never left out in silence, nor with a warning. */
static void parse_narrower(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	if (node->kind == YAML_LIST && node->n == 0)
		return;
	not_served(cfg, obj, &node->where, "this field",
		   "clients' certificates are verified by authorities and subjectAltNames");
}

static void parse_tls(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("mode", parse_mode),
	    CFG_FIELD("httpsRedirect", parse_redirect),
	    CFG_FIELD("serverCertificate", parse_cert),
	    CFG_FIELD("privateKey", parse_key),
	    CFG_FIELD("caCertificates", parse_ca),
	    CFG_FIELD("credentialName", parse_credential),
	    CFG_FIELD("minProtocolVersion", parse_min),
	    CFG_FIELD("maxProtocolVersion", parse_max),
	    CFG_FIELD("cipherSuites", parse_ciphers),
	    CFG_FIELD("subjectAltNames", parse_sans),
	    CFG_FIELD("verifyCertificateSpki", parse_narrower),
	    CFG_FIELD("verifyCertificateHash", parse_narrower),
	    CFG_FIELD("caCrl", parse_narrower),
	    CFG_FIELD("caCertCredentialName", parse_ca_secret),
	    CFG_FIELD("credentialNames", parse_credentials),
	    CFG_FIELD("tlsCertificates", parse_pairs),
	    CFG_UNHONOURED("ecdhCurves", "OpenSSL's own curves hold"),
	    CFG_UNHONOURED("insecureSkipVerify", "clients' certificates are verified"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- servers --- */

static void parse_bind(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;
	const char *text = cfg_string(cfg, node);

	if (!text)
		return;
	if (flat_ip_parse(text, &r->server->bind) == 0)
		r->server->has_bind = true;
	else
		not_served(cfg, r, &node->where, "a bind that is no IP address",
			   "ports are opened on addresses");
}

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);

	if (name)
		((struct reading *)obj)->server->name = name;
}

static bool complete(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	const struct flat_gateway_server *s = r->server;
	const char *todo = "add it";

	if (s->port == 0 || !r->protocol)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, todo,
			  "a server needs port.number and port.protocol");
	else if (s->n_hosts == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "\"*\" is every host",
			  "a server needs hosts");
	else
		return true;
	return false;
}

static bool has_secrets(const struct flat_gateway_server *s)
{
	return s->n_certs > 0 && s->certs[0].secret;
}

/* What serverCertificate and privateKey name is a list of one. */
static void take_files(struct cfg *cfg, struct reading *r)
{
	struct flat_gateway_certificate *c;

	if (!r->files.cert && !r->files.key)
		return;
	r->ways++;
	c = cfg_array(cfg, 1, sizeof(*c));
	if (!c)
		return;
	*c = r->files;
	r->server->certs = c;
	r->server->n_certs = 1;
}

/* Certificates are named in one way. */
static void check_credentials(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	const struct flat_gateway_server *s = r->server;
	bool client = s->tls == FLAT_GATEWAY_MUTUAL || s->tls == FLAT_GATEWAY_OPTIONAL_MUTUAL;

	if (s->tls == FLAT_GATEWAY_PLAIN)
		return;
	take_files(cfg, r);
	if (s->tls == FLAT_GATEWAY_PASSTHROUGH) {
		if (s->n_certs > 0 || s->ca || s->ca_secret)
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "remove them",
				  "with PASSTHROUGH the server behind has the certificate");
		return;
	}
	if (r->ways > 1 || (has_secrets(s) && s->ca))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "credentialName, credentialNames, tlsCertificates and files exclude each "
			  "other");
	else if (s->ca && s->ca_secret)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "caCertificates and caCertCredentialName exclude each other");
	else if (s->n_certs == 0 || (!has_secrets(s) && (!s->certs[0].cert || !s->certs[0].key)))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "add credentialName, or serverCertificate and privateKey",
			  "TLS needs a certificate and its key");
	else if (client && !has_secrets(s) && !s->ca && !s->ca_secret)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add caCertificates",
			  "clients' certificates need something to be verified by");
}

static void settle(struct cfg *cfg, const struct yaml_node *node, struct reading *r)
{
	enum flat_protocol protocol;
	struct flat_gateway_server *s = r->server;

	if (!complete(cfg, node, r))
		return;
	if (!cfg_protocol(r->protocol, NULL, &protocol, NULL)) {
		cfg_error(cfg, &r->protocol_where, FLAT_DIAG_BAD_VALUE,
			  "write HTTP, HTTPS, HTTP2, GRPC, TLS or TCP",
			  "unknown protocol \"%.100s\"", r->protocol);
	} else if (protocol == FLAT_PROTOCOL_HTTPS) {
		if (r->mode < 0 && !s->redirect)
			cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add tls.mode, e.g. SIMPLE",
				  "a server of protocol HTTPS needs tls.mode");
		s->opaque = s->tls == FLAT_GATEWAY_PASSTHROUGH;
	} else if (protocol == FLAT_PROTOCOL_TLS) {
		s->opaque = true;
		if (r->mode < 0)
			cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
				  "add tls.mode, e.g. PASSTHROUGH",
				  "a server of protocol TLS needs tls.mode");
	} else if (protocol >= FLAT_PROTOCOL_MONGO || protocol == FLAT_PROTOCOL_TCP) {
		s->opaque = true;
		if (s->tls != FLAT_GATEWAY_PLAIN)
			cfg_error(cfg, &r->protocol_where, FLAT_DIAG_BAD_VALUE, "write TLS",
				  "a server with TLS has the protocol HTTPS or TLS");
	} else if (protocol != FLAT_PROTOCOL_HTTP && protocol != FLAT_PROTOCOL_HTTP2 &&
		   protocol != FLAT_PROTOCOL_GRPC) {
		not_served(cfg, r, &r->protocol_where, flat_protocol_name(protocol),
			   "gateways speak HTTP, HTTPS, TLS and TCP");
	} else if (s->tls != FLAT_GATEWAY_PLAIN) {
		cfg_error(cfg, &r->protocol_where, FLAT_DIAG_BAD_VALUE, "write HTTPS",
			  "a server with TLS has the protocol HTTPS or TLS");
	}
	check_credentials(cfg, node, r);
}

static void parse_server(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("port", parse_port),
	    CFG_FIELD("hosts", parse_hosts),
	    CFG_FIELD("tls", parse_tls),
	    CFG_FIELD("bind", parse_bind),
	    CFG_FIELD("name", parse_name),
	    CFG_UNHONOURED("defaultEndpoint", "routes say where requests go"),
	};
	struct reading *r = obj;
	uint32_t errors = cfg->diags->n_errors;

	r->server = &r->servers[r->gateway->n_servers++];
	r->server->name = "";
	r->server->served = true;
	r->server->where = node->where;
	r->protocol = NULL;
	r->mode = -1;
	r->ways = 0;
	r->files = (struct flat_gateway_certificate){0};
	r->cert = &r->files;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), r);
	if (cfg->diags->n_errors == errors)
		settle(cfg, node, r);
}

static void parse_servers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct reading *r = obj;

	if (!cfg_expect(cfg, node, YAML_LIST))
		return;
	r->servers = cfg_array(cfg, node->n, sizeof(*r->servers));
	r->gateway->servers = r->servers;
	if (r->servers)
		(void)cfg_list(cfg, node, FLAT_CONFIG_PORTS_MAX, parse_server, r);
}

static void parse_selector(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct reading *)obj)->gateway->selector = cfg_labels(cfg, node);
}

static void parse_spec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("servers", parse_servers),
	    CFG_FIELD("selector", parse_selector),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_gateway(struct cfg *cfg, const struct yaml_node *root)
{
	struct reading r = {.gateway = cfg_array(cfg, 1, sizeof(*r.gateway))};
	uint32_t errors = cfg->diags->n_errors;

	if (!r.gateway)
		return;
	r.gateway->name = cfg->name;
	r.gateway->namespace = cfg->namespace;
	r.gateway->where = cfg->where;
	cfg_check_annotations(cfg, NULL, 0);
	cfg_spec(cfg, root, parse_spec, &r);
	if (cfg->oom || cfg->diags->n_errors != errors)
		return;
	if (r.gateway->n_servers == 0)
		cfg_error(cfg, &cfg->where, FLAT_DIAG_MISSING, "add spec.servers",
			  "a Gateway needs a server");
	else if (flat_mesh_add_gateway(cfg->mesh, r.gateway))
		cfg->oom = true;
}
