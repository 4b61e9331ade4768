#include "control/virtual_action.h"

#include <stdio.h>
#include <string.h>

#include "codec/grpc.h"

/* --- redirect --- */

static void parse_redirect_uri(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_redirect *)obj)->uri = cfg_url_text(cfg, node);
}

static void parse_redirect_prefix(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_redirect *)obj)->prefix = cfg_url_text(cfg, node);
}

static void parse_redirect_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_redirect *)obj)->authority = cfg_url_text(cfg, node);
}

static void parse_redirect_scheme(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"http", "https"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct flat_http_redirect *)obj)->scheme = names[i];
}

static void parse_redirect_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_redirect *)obj)->port = cfg_port(cfg, node);
}

static void parse_redirect_code(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"301", "302", "303", "307", "308"};
	static const uint16_t codes[] = {301, 302, 303, 307, 308};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	if (i >= 0)
		((struct flat_http_redirect *)obj)->status = codes[i];
}

static void parse_derive_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"};

	((struct flat_http_redirect *)obj)->derive_port =
	    cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

void cfg_route_redirect(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("uri", parse_redirect_uri),
	    CFG_FIELD("prefixRewrite", parse_redirect_prefix),
	    CFG_FIELD("authority", parse_redirect_authority),
	    CFG_FIELD("scheme", parse_redirect_scheme),
	    CFG_FIELD("port", parse_redirect_port),
	    CFG_FIELD("redirectCode", parse_redirect_code),
	    CFG_FIELD("derivePort", parse_derive_port),
	};
	struct flat_http_route *route = obj;
	struct flat_http_redirect *redirect = cfg_array(cfg, 1, sizeof(*redirect));

	if (!redirect)
		return;
	redirect->status = 301;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), redirect);
	if (node->kind == YAML_MAP && !yaml_get(node, "uri") && !yaml_get(node, "prefixRewrite") &&
	    !yaml_get(node, "authority") && !yaml_get(node, "scheme") && !yaml_get(node, "port") &&
	    !yaml_get(node, "derivePort"))
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE, "add uri, authority, scheme or port",
			 "a redirect to where the request came");
	if (redirect->uri && redirect->prefix)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a redirect has both uri and prefixRewrite");
	if (redirect->port && redirect->derive_port)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a redirect has both port and derivePort");
	route->redirect = redirect;
}

/* --- direct response --- */

static void parse_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t status;

	if (cfg_uint(cfg, node, 200, 599, &status))
		((struct flat_http_direct *)obj)->status = (uint16_t)status;
}

static void parse_body_text(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_direct *direct = obj;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	direct->len = strlen(node->text);
	if (direct->len > FLAT_CONFIG_BODY_MAX) {
		cfg_error(cfg, &node->where, FLAT_DIAG_LIMIT, "serve it from a server",
			  "a body of more than %u bytes", FLAT_CONFIG_BODY_MAX);
		return;
	}
	direct->body = flat_pool_strndup(cfg->pool, node->text, direct->len);
	cfg->oom |= !direct->body;
}

static void parse_body(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("string", parse_body_text),
	    CFG_UNHONOURED("bytes", "write it as string"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

void cfg_route_direct(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("status", parse_status),
	    CFG_FIELD("body", parse_body),
	};
	struct flat_http_route *route = obj;
	struct flat_http_direct *direct = cfg_array(cfg, 1, sizeof(*direct));

	if (!direct)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), direct);
	if (!direct->status && node->kind == YAML_MAP && !yaml_get(node, "status"))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"status\" is missing");
	route->direct = direct;
}

/* --- rewrite --- */

static void parse_rewrite_uri(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_rewrite *rewrite = obj;

	rewrite->uri = cfg_url_text(cfg, node);
	if (rewrite->uri && (rewrite->uri[0] != '/' || strchr(rewrite->uri, '?'))) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin it with a slash",
			  "\"%.200s\" is no path", rewrite->uri);
		rewrite->uri = NULL;
	}
}

static void parse_rewrite_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_rewrite *)obj)->authority = cfg_host_port(cfg, node);
}

static void parse_regex_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_rewrite *rewrite = obj;
	const char *text = cfg_string(cfg, node);
	const char *error = NULL;

	if (!text)
		return;
	rewrite->regex = flat_regex_compile(cfg->pool, text, false, &error);
	if (!rewrite->regex && error)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write it as RE2 has it",
			  "\"%.200s\": %s", text, error);
	cfg->oom |= !rewrite->regex && !error;
}

static void parse_substitution(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_rewrite *rewrite = obj;

	if (cfg_expect(cfg, node, YAML_SCALAR))
		rewrite->substitution = *node->text ? cfg_url_text(cfg, node) : "";
	for (const char *p = rewrite->substitution; p && *p; p++) {
		if (*p != '\\')
			continue;
		p++;
		if (*p != '\\' && (*p < '0' || *p > '9')) {
			cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
				  "write \\0 to \\9, or two backslashes",
				  "\"%.200s\" has a backslash before something else", node->text);
			return;
		}
	}
}

static void parse_regex_rewrite(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("match", parse_regex_match),
	    CFG_FIELD("rewrite", parse_substitution),
	};
	struct flat_http_rewrite *rewrite = obj;
	uint32_t errors = cfg->diags->n_errors;

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (cfg->diags->n_errors == errors && (!rewrite->regex || !rewrite->substitution))
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "give both",
			  "uriRegexRewrite needs match and rewrite");
}

void cfg_route_rewrite(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("uri", parse_rewrite_uri),
	    CFG_FIELD("authority", parse_rewrite_authority),
	    CFG_FIELD("uriRegexRewrite", parse_regex_rewrite),
	};
	struct flat_http_route *route = obj;
	struct flat_http_rewrite *rewrite = cfg_array(cfg, 1, sizeof(*rewrite));

	if (!rewrite)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), rewrite);
	if (node->kind == YAML_MAP && node->n == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "add uri, uriRegexRewrite or authority", "a rewrite of nothing");
	if (rewrite->uri && rewrite->regex)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "keep one of them",
			  "a rewrite has both uri and uriRegexRewrite");
	route->rewrite = rewrite;
}

/* --- retries --- */

static void parse_attempts(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, FLAT_CONFIG_RETRIES_MAX, &n))
		((struct flat_http_retries *)obj)->attempts = (uint32_t)n;
}

static void parse_per_try(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_http_retries *)obj)->per_try_ms);
}

static bool add_status(struct flat_http_retries *retries, const char *word, size_t len)
{
	unsigned status = 0;

	if (len != 3)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		status = status * 10 + (unsigned)(word[i] - '0');
	}
	if (status < 100 || retries->n_statuses == FLAT_RETRY_STATUSES_MAX)
		return false;
	retries->on |= FLAT_RETRY_STATUS;
	retries->statuses[retries->n_statuses++] = (uint16_t)status;
	return true;
}

static void add_condition(struct cfg *cfg, const struct yaml_node *node,
			  struct flat_http_retries *retries, const char *word, size_t len)
{
	static const struct {
		const char *name;
		unsigned on; /* 0: without meaning here */
	} words[] = {
	    {"connect-failure", FLAT_RETRY_CONNECT},
	    {"refused-stream", FLAT_RETRY_REFUSED},
	    {"reset", FLAT_RETRY_RESET},
	    {"reset-before-request", FLAT_RETRY_UNSENT},
	    {"gateway-error", FLAT_RETRY_GATEWAY},
	    {"5xx", FLAT_RETRY_5XX},
	    {"retriable-4xx", FLAT_RETRY_4XX},
	    {"retriable-status-codes", 0},
	    {"unavailable", FLAT_RETRY_UNAVAILABLE},
	    {"cancelled", FLAT_RETRY_CANCELLED},
	    {"deadline-exceeded", FLAT_RETRY_DEADLINE_EXCEEDED},
	    {"resource-exhausted", FLAT_RETRY_RESOURCE_EXHAUSTED},
	    {"internal", FLAT_RETRY_INTERNAL},
	    {"retriable-headers", 0},
	    {"envoy-ratelimited", 0},
	    {"http3-post-connect-failure", 0},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(words); i++) {
		if (strlen(words[i].name) != len || memcmp(words[i].name, word, len) != 0)
			continue;
		retries->on |= words[i].on;
		if (!words[i].on && i != 7)
			cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "retry condition \"%s\" is not honoured", words[i].name);
		return;
	}
	if (!add_status(retries, word, len))
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use conditions of Envoy's retry-on, or status codes",
			  "\"%.*s\" is no condition", (int)len, word);
}

static void parse_retry_on(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *p = cfg_string(cfg, node);

	while (p && *p) {
		size_t skip = strspn(p, " ,");
		size_t len;

		p += skip;
		len = strcspn(p, " ,");
		if (len)
			add_condition(cfg, node, obj, p, len);
		p += len;
	}
}

static void parse_backoff(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_http_retries *)obj)->backoff_ms);
}

static void parse_ignore_previous(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_retries *)obj)->repeats = !cfg_bool(cfg, node);
}

static void parse_remote(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_retries *)obj)->far = cfg_bool(cfg, node);
}

void cfg_route_retries(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("attempts", parse_attempts),
	    CFG_FIELD("perTryTimeout", parse_per_try),
	    CFG_FIELD("retryOn", parse_retry_on),
	    CFG_FIELD("retryRemoteLocalities", parse_remote),
	    CFG_FIELD("retryIgnorePreviousHosts", parse_ignore_previous),
	    CFG_FIELD("backoff", parse_backoff),
	};
	struct flat_http_route *route = obj;
	struct flat_http_retries *retries = cfg_array(cfg, 1, sizeof(*retries));

	if (!retries)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), retries);
	if (!retries->on)
		retries->on = FLAT_RETRY_DEFAULT;
	route->retries = retries;
}

/* --- fault --- */

struct fault {
	struct flat_http_fault *fault;
	uint32_t *percent; /* of the part being read */
	bool set;
};

static void parse_fault_percentage(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct fault *f = obj;

	*f->percent = cfg_percentage(cfg, node);
	f->set = true;
}

static void parse_fault_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct fault *f = obj;

	if (!f->set)
		*f->percent = cfg_millionths(cfg, node);
	f->set = true;
}

static void parse_fixed_delay(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct fault *)obj)->fault->delay_ms);
}

/* As in Istio. */
static void warn_never(struct cfg *cfg, const struct yaml_node *node, const struct fault *f)
{
	if (!f->set)
		cfg_warn(cfg, &node->where, FLAT_DIAG_ADVICE, "add percentage: {value: 100}",
			 "a fault without a percentage is for no request");
}

/* One that does nothing. */
static void check_fault(struct cfg *cfg, const struct yaml_node *node, const char *const names[3])
{
	for (size_t i = 0; i < 3; i++) {
		if (node->kind != YAML_MAP || yaml_get(node, names[i]))
			return;
	}
	cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it", "field \"%s\" is missing",
		  names[0]);
}

static void parse_delay(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("fixedDelay", parse_fixed_delay),
	    CFG_FIELD("percentage", parse_fault_percentage),
	    CFG_FIELD("percent", parse_fault_percent),
	    CFG_UNHONOURED("exponentialDelay", "use fixedDelay"),
	};
	static const char *const names[3] = {"fixedDelay", "exponentialDelay", "fixedDelay"};
	struct fault *f = obj;

	f->percent = &f->fault->delay_of_million;
	f->set = false;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), f);
	check_fault(cfg, node, names);
	warn_never(cfg, node, f);
}

static void parse_abort_status(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t status;

	if (cfg_uint(cfg, node, 200, 599, &status))
		((struct fault *)obj)->fault->abort_status = (uint16_t)status;
}

static void parse_abort_grpc(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_fault *f = ((struct fault *)obj)->fault;
	const char *text = cfg_string(cfg, node);
	int status = flat_grpc_status_parse(flat_span_of(text));

	if (text && status < 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "use a name like UNAVAILABLE, or a number to 16",
			  "\"%.50s\" is no status of gRPC", text);
	f->abort_grpc = (int16_t)status;
	/* What a caller is told that is no gRPC's. */
	if (!f->abort_status)
		f->abort_status = 200;
}

static void parse_abort(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("httpStatus", parse_abort_status),
	    CFG_FIELD("percentage", parse_fault_percentage),
	    CFG_FIELD("grpcStatus", parse_abort_grpc),
	    CFG_UNHONOURED("http2Error", "use httpStatus"),
	};
	static const char *const names[3] = {"httpStatus", "grpcStatus", "http2Error"};
	struct fault *f = obj;

	f->percent = &f->fault->abort_of_million;
	f->set = false;
	f->fault->abort_grpc = -1;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), f);
	check_fault(cfg, node, names);
	warn_never(cfg, node, f);
}

void cfg_route_fault(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("delay", parse_delay),
	    CFG_FIELD("abort", parse_abort),
	};
	struct flat_http_route *route = obj;
	struct fault f = {.fault = cfg_array(cfg, 1, sizeof(*f.fault))};

	if (!f.fault)
		return;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &f);
	route->fault = f.fault;
}

/* --- mirrors --- */

/* `mirror: {host, subset, port}`: all requests, where nothing is said of a percentage. */
void cfg_route_mirror(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_route *route = obj;
	struct flat_http_mirror *m = cfg_array(cfg, 1, sizeof(*m));

	if (!m)
		return;
	m->of_million = FLAT_MILLION;
	m->to.where = node->where;
	cfg_route_destination(cfg, node, &m->to);
	if (!m->to.host && node->kind == YAML_MAP)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add it",
			  "field \"host\" is missing or wrong");
	route->mirrors = m;
	route->n_mirrors = 1;
}

static void parse_mirror_to(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	cfg_route_destination(cfg, node, &((struct flat_http_mirror *)obj)->to);
}

static void parse_mirror_of(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_http_mirror *)obj)->of_million = cfg_percentage(cfg, node);
}

static void parse_one_mirror(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("destination", parse_mirror_to),
	    CFG_FIELD("percentage", parse_mirror_of),
	};
	struct flat_http_route *route = obj;
	struct flat_http_mirror *m = &route->mirrors[route->n_mirrors++];

	m->of_million = FLAT_MILLION;
	m->to.where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), m);
	cfg_route_check_host(cfg, node, &m->to);
}

void cfg_route_mirrors(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_http_route *route = obj;

	if (!cfg_expect(cfg, node, YAML_LIST) || node->n == 0)
		return;
	route->mirrors = cfg_array(cfg, node->n, sizeof(*route->mirrors));
	route->n_mirrors = 0;
	if (route->mirrors)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MIRRORS_MAX, parse_one_mirror, route);
}
