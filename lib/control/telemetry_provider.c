/* Who is told: access logs and collectors of MeshConfig -> struct flat_telemetry_provider. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "control/http_common.h"
#include "control/telemetry.h"

void cfg_provider_service(struct cfg *cfg, const struct yaml_node *node, const char **host,
			  const char **namespace)
{
	const char *text = cfg_string(cfg, node);
	const char *slash = text ? strchr(text, '/') : NULL;

	*host = slash ? slash + 1 : text;
	if (!slash)
		return;
	*namespace = flat_pool_strndup(cfg->pool, text, (size_t)(slash - text));
	cfg->oom |= !*namespace;
}

/* --- formats --- */

/* A text with operators, at `where`. */
static void read_text(struct cfg *cfg, const struct flat_where *where, const char *text,
		      struct flat_log_node *out)
{
	const char *why;
	uint64_t missing;
	size_t at;
	int err = flat_log_format_text(cfg->pool, text, out, &why, &at, &missing);

	if (err == -ENOMEM)
		cfg->oom = true;
	else if (err != 0)
		cfg_error(cfg, where, FLAT_DIAG_BAD_VALUE,
			  "see docs/configuration.md for the operators there are",
			  "format of an access log, at \"%.40s\": %s", text + at, why);
	for (uint32_t i = 0; err == 0 && i < out->n_ops && i < 64; i++) {
		if (missing >> i & 1)
			cfg_warn(cfg, where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "format of an access log: an operator has no value here (number "
				 "%u in \"%.100s\")",
				 i + 1, text);
	}
}

static void read_labels(struct cfg *cfg, const struct yaml_node *node, struct flat_log_node *out,
			unsigned depth)
{
	struct flat_log_node *fields;
	const struct yaml_item *item;
	uint32_t n = 0;

	if (node->kind == YAML_SCALAR && depth > 0) {
		const char *text = flat_pool_strdup(cfg->pool, node->text);

		cfg->oom |= !text;
		if (text)
			read_text(cfg, &node->where, text, out);
		return;
	}
	if (!cfg_expect(cfg, node, YAML_MAP) || node->n == 0)
		return;
	if (depth == FLAT_LOG_DEPTH_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "flatten it",
			  "labels of an access log are nested more than %u deep",
			  FLAT_LOG_DEPTH_MAX);
		return;
	}
	fields = cfg_array(cfg, node->n, sizeof(*fields));
	for (item = fields ? node->first : NULL; item; item = item->next, n++) {
		fields[n].key = flat_pool_strdup(cfg->pool, item->key->text);
		cfg->oom |= !fields[n].key;
		read_labels(cfg, item->value, &fields[n], depth + 1);
	}
	out->fields = fields;
	out->n_fields = n;
}

static void parse_format_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_log_format *format = obj;
	const char *text = cfg_string(cfg, node);

	if (text)
		read_text(cfg, &node->where, text, &format->root);
}

static void parse_format_labels(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_log_format *format = obj;

	format->json = true;
	read_labels(cfg, node, &format->root, 0);
}

static void parse_format(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("text", parse_format_text),
	    CFG_FIELD("labels", parse_format_labels),
	};
	struct flat_telemetry_provider *p = obj;
	struct flat_log_format *format = cfg_array(cfg, 1, sizeof(*format));

	if (!format)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), format);
	if (yaml_get(node, "text") && yaml_get(node, "labels"))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "text and labels exclude each other");
	if (format->root.n_ops || format->root.n_fields)
		p->format = format;
}

static void parse_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_provider *p = obj;
	const char *path = cfg_string(cfg, node);

	if (!path)
		return;
	if (path[0] == '/')
		p->path = path;
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin with a slash",
			  "\"%.200s\" is no path of a file", path);
}

struct log_reading {
	struct flat_telemetry_provider *p;
	bool omit;
};

static void parse_log_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_path(cfg, node, ((struct log_reading *)obj)->p);
}

static void parse_log_format(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_format(cfg, node, ((struct log_reading *)obj)->p);
}

static void parse_log_omit(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct log_reading *)obj)->omit = cfg_bool(cfg, node);
}

void cfg_file_access_log(struct cfg *cfg, const struct yaml_node *node,
			 struct flat_telemetry_provider *p)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("path", parse_log_path),
	    CFG_FIELD("logFormat", parse_log_format),
	    CFG_FIELD("omitEmptyValues", parse_log_omit),
	};
	struct log_reading r = {.p = p};
	struct flat_log_format *format;

	p->kind = FLAT_PROVIDER_FILE_LOG;
	p->path = "/dev/stdout"; /* Istio's default */
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &r);
	if (!p->format)
		p->format = flat_log_format_default(cfg->pool, false);
	format = p->format ? cfg_array(cfg, 1, sizeof(*format)) : NULL;
	if (!format) {
		cfg->oom = true;
		return;
	}
	*format = *p->format;
	format->omit_empty = r.omit;
	p->format = format;
}

/* --- collectors --- */

static void parse_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_provider *p = obj;

	cfg_provider_service(cfg, node, &p->host, &p->namespace);
}

static void parse_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_telemetry_provider *)obj)->port = cfg_port(cfg, node);
}

static void parse_tag_length(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 1, 65536, &n))
		((struct flat_telemetry_provider *)obj)->max_tag_bytes = (uint32_t)n;
}

static void parse_http_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_provider *p = obj;
	const char *text = cfg_url_text(cfg, node);

	if (text && text[0] != '/')
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin with a slash",
			  "\"%.200s\" is no path", text);
	else if (text)
		p->http_path = text;
}

static void parse_http_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_telemetry_provider *)obj)->timeout_ms);
}

static void parse_header_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_name_value *)obj)->name = cfg_header_name(cfg, node, true);
}

static void parse_header_value(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_name_value *)obj)->value = cfg_header_value(cfg, node);
}

static void parse_header_env(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *name = cfg_string(cfg, node);
	/* Nobody changes the environment while a configuration is read. */
	const char *value = name ? getenv(name) : NULL; /* NOLINT(concurrency-mt-unsafe) */

	if (name && (!value || strpbrk(value, "\r\n")))
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "set it",
			 "the environment has no variable %.100s, or one of several lines", name);
	else if (name)
		((struct flat_name_value *)obj)->value = flat_pool_strdup(cfg->pool, value);
}

static void parse_header(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_header_name),
	    CFG_FIELD("value", parse_header_value),
	    CFG_FIELD("envName", parse_header_env),
	};
	struct flat_telemetry_provider *p = obj;
	struct flat_name_value *v = &p->headers[p->n_headers];

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), v);
	if (v->name && v->value)
		p->n_headers++;
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_provider *p = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	p->headers = cfg_array(cfg, node->n, sizeof(*p->headers));
	if (p->headers)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_header, p);
}

static void parse_http(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("path", parse_http_path),
	    CFG_FIELD("timeout", parse_http_timeout),
	    CFG_FIELD("headers", parse_headers),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (node->kind == YAML_MAP && !yaml_get(node, "path"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it: /v1/traces is usual",
			  "field \"path\" is missing");
}

void cfg_opentelemetry(struct cfg *cfg, const struct yaml_node *node,
		       struct flat_telemetry_provider *p)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("service", parse_service),
	    CFG_FIELD("port", parse_port),
	    CFG_FIELD("maxTagLength", parse_tag_length),
	    CFG_FIELD("http", parse_http),
	    CFG_UNHONOURED("grpc", "its time-out is 10 s"),
	    CFG_UNHONOURED("resourceDetectors", "spans say service.name alone of their resource"),
	    CFG_UNHONOURED("dynatraceSampler", "randomSamplingPercentage holds"),
	};

	p->kind = FLAT_PROVIDER_TRACES;
	p->timeout_ms = 10000;	/* OTLP exporters' default */
	p->max_tag_bytes = 256; /* Envoy's */
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), p);
	if (node->kind == YAML_MAP && (!yaml_get(node, "service") || !yaml_get(node, "port")))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "name both",
			  "a collector needs a service and a port");
	if (!p->host)
		p->kind = FLAT_PROVIDER_UNUSED;
}

/* --- MeshConfig --- */

void cfg_access_log_file(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_provider p = {.path = NULL};

	(void)obj;
	/* As in Istio the empty text says: none. */
	if (node->kind == YAML_SCALAR && !*node->text)
		return;
	parse_path(cfg, node, &p);
	flat_mesh_telemetry_defaults(cfg->mesh)->log_path = p.path;
}

void cfg_access_log_format(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);

	(void)obj;
	if (node->kind == YAML_SCALAR && !*node->text)
		return;
	d->log_format = cfg_string(cfg, node);
	d->format_where = node->where;
}

void cfg_access_log_encoding(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"TEXT", "JSON"};

	(void)obj;
	flat_mesh_telemetry_defaults(cfg->mesh)->log_json =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

struct name_list {
	const char **v;
	uint32_t n;
};

static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct name_list *list = obj;
	const char *name = cfg_string(cfg, node);

	if (name)
		list->v[list->n++] = name;
}

static struct name_list read_names(struct cfg *cfg, const struct yaml_node *node)
{
	struct name_list list = {NULL, 0};

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return list;
	list.v = cfg_array(cfg, node->n, sizeof(*list.v));
	if (list.v)
		(void)cfg_list(cfg, node, FLAT_TELEMETRY_PROVIDERS_MAX, parse_name, &list);
	return list;
}

static void parse_default_tracing(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);
	struct name_list list = read_names(cfg, node);

	(void)obj;
	d->tracing = list.v;
	d->n_tracing = list.n;
}

static void parse_default_logging(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);
	struct name_list list = read_names(cfg, node);

	(void)obj;
	d->logging = list.v;
	d->n_logging = list.n;
}

static void parse_default_metrics(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);
	struct name_list list = read_names(cfg, node);

	(void)obj;
	d->metrics = list.v;
	d->n_metrics = list.n;
	for (uint32_t i = 0; i < list.n; i++) {
		if (strcmp(list.v[i], "prometheus") != 0)
			cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, "scrape flatd's port",
				 "metrics are told to prometheus only, not to \"%.100s\"",
				 list.v[i]);
	}
}

void cfg_default_providers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("tracing", parse_default_tracing),
	    CFG_FIELD("metrics", parse_default_metrics),
	    CFG_FIELD("accessLogging", parse_default_logging),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_sampling(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);

	(void)obj;
	d->says_sampling = true;
	d->of_million = cfg_millionths(cfg, node);
}

static void parse_tracing_config(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char why[] = "name a provider opentelemetry in a Telemetry";
	static const struct cfg_field fields[] = {
	    CFG_FIELD("sampling", parse_sampling),
	    CFG_UNHONOURED("zipkin", why),
	    CFG_UNHONOURED("lightstep", why),
	    CFG_UNHONOURED("datadog", why),
	    CFG_UNHONOURED("stackdriver", why),
	    CFG_UNHONOURED("openCensusAgent", why),
	    CFG_UNHONOURED("customTags", "say it in a Telemetry"),
	    CFG_UNHONOURED("maxPathTagLength", "say maxTagLength of the provider"),
	    CFG_UNHONOURED("tlsSettings", why),
	    CFG_UNHONOURED("enableIstioTags", "they are always there"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_trusted_proxies(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	(void)obj;
	/* X-Forwarded-For of more would be longer than any head. */
	if (cfg_uint(cfg, node, 0, FLAT_CONFIG_MATCHES_MAX, &n))
		flat_mesh_set_trusted_proxies(cfg->mesh, (uint32_t)n);
}

static void parse_gateway_topology(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("numTrustedProxies", parse_trusted_proxies),
	    CFG_UNHONOURED("forwardClientCertDetails", "X-Forwarded-Client-Cert never passes"),
	    CFG_UNHONOURED("proxyProtocol", "it is not read"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* Of a ProxyConfig sampling and the proxies before a gateway mean something here. */
void cfg_default_config(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const struct yaml_item *item;

	if (!cfg_expect(cfg, node, YAML_MAP))
		return;
	for (item = node->first; item; item = item->next) {
		if (strcmp(item->key->text, "tracing") == 0)
			parse_tracing_config(cfg, item->value, obj);
		else if (strcmp(item->key->text, "gatewayTopology") == 0)
			parse_gateway_topology(cfg, item->value, obj);
		else
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "defaultConfig.%.100s is not honoured: there is no Envoy here",
				 item->key->text);
	}
}

static struct flat_telemetry_provider *add_own(struct cfg *cfg, const char *name,
					       enum flat_telemetry_kind kind)
{
	struct flat_telemetry_provider *p = cfg_array(cfg, 1, sizeof(*p));

	if (!p)
		return NULL;
	p->name = name;
	p->kind = kind;
	cfg->oom |= flat_mesh_add_telemetry_provider(cfg->mesh, p) != 0;
	return p;
}

/* accessLogFormat: a text, or with JSON an object that is written as JSON. */
static const struct flat_log_format *format_of_mesh(struct cfg *cfg)
{
	const struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);
	struct flat_log_format *format;
	const struct flat_json_node *root = NULL;
	struct flat_log_node *fields;
	uint32_t n = 0;
	int err;

	if (!d->log_format)
		return flat_log_format_default(cfg->pool, d->log_json);
	format = cfg_array(cfg, 1, sizeof(*format));
	if (!format)
		return NULL;
	format->json = d->log_json;
	if (!d->log_json) {
		read_text(cfg, &d->format_where, d->log_format, &format->root);
		return format;
	}
	err = flat_json_read(d->log_format, strlen(d->log_format), &cfg->tmp, &root);
	cfg->oom |= err == -ENOMEM;
	if (err != 0 || root->kind != FLAT_JSON_OBJECT) {
		cfg_error(cfg, &d->format_where, FLAT_DIAG_BAD_VALUE,
			  "write {\"name\": \"%OPERATOR%\"}", "accessLogFormat is no JSON object");
		return NULL;
	}
	for (const struct flat_json_node *i = root->first; i; i = i->next)
		n++;
	fields = cfg_array(cfg, n, sizeof(*fields));
	n = 0;
	for (const struct flat_json_node *i = fields ? root->first : NULL; i; i = i->next, n++) {
		const char *text = flat_pool_strdup(cfg->pool, i->text ? i->text : "");

		fields[n].key = flat_pool_strdup(cfg->pool, i->name);
		cfg->oom |= !fields[n].key || !text;
		if (i->kind != FLAT_JSON_TEXT)
			cfg_error(cfg, &d->format_where, FLAT_DIAG_BAD_VALUE, "write a text",
				  "accessLogFormat: \"%.100s\" is no text", i->name);
		else if (text)
			read_text(cfg, &d->format_where, text, &fields[n]);
	}
	format->root.fields = fields;
	format->root.n_fields = n;
	return format;
}

void cfg_telemetry_finish(struct cfg *cfg)
{
	struct flat_telemetry_defaults *d = flat_mesh_telemetry_defaults(cfg->mesh);
	struct flat_telemetry_provider *p = NULL;
	static const char *const envoy[] = {FLAT_PROVIDER_ENVOY};

	if (!flat_mesh_telemetry_provider_by_name(cfg->mesh, FLAT_PROVIDER_ENVOY))
		p = add_own(cfg, FLAT_PROVIDER_ENVOY, FLAT_PROVIDER_FILE_LOG);
	if (p) {
		p->path = d->log_path ? d->log_path : "/dev/stdout";
		p->format = format_of_mesh(cfg);
		p->where = d->format_where;
		if (!p->format)
			p->kind = FLAT_PROVIDER_UNUSED;
	}
	if (!flat_mesh_telemetry_provider_by_name(cfg->mesh, "prometheus"))
		(void)add_own(cfg, "prometheus", FLAT_PROVIDER_PROMETHEUS);
	/* A file of all says the provider of all. */
	if (d->log_path && d->n_logging == 0) {
		d->logging = envoy;
		d->n_logging = 1;
	}
}
