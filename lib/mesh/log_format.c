#include "mesh/log_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What may follow a command's name. */
enum form {
	PLAIN,
	HEADERS, /* (A?B):N */
	FORMAT,	 /* (text) or nothing */
	NAME,	 /* (NAME) */
	ANY,	 /* something or nothing: it has no value here */
};

static const struct {
	const char *name;
	enum flat_log_command command;
	enum form form;
} commands[] = {
    {"START_TIME", FLAT_LOG_START_TIME, FORMAT},
    {"REQ", FLAT_LOG_REQ, HEADERS},
    {"RESP", FLAT_LOG_RESP, HEADERS},
    {"ENVIRONMENT", FLAT_LOG_ENVIRONMENT, NAME},
    {"PROTOCOL", FLAT_LOG_PROTOCOL, PLAIN},
    {"RESPONSE_CODE", FLAT_LOG_RESPONSE_CODE, PLAIN},
    {"RESPONSE_FLAGS", FLAT_LOG_RESPONSE_FLAGS, PLAIN},
    {"RESPONSE_CODE_DETAILS", FLAT_LOG_RESPONSE_CODE_DETAILS, PLAIN},
    {"BYTES_RECEIVED", FLAT_LOG_BYTES_RECEIVED, PLAIN},
    {"BYTES_SENT", FLAT_LOG_BYTES_SENT, PLAIN},
    {"DURATION", FLAT_LOG_DURATION, PLAIN},
    {"REQUEST_DURATION", FLAT_LOG_REQUEST_DURATION, PLAIN},
    {"RESPONSE_DURATION", FLAT_LOG_RESPONSE_DURATION, PLAIN},
    {"RESPONSE_TX_DURATION", FLAT_LOG_RESPONSE_TX_DURATION, PLAIN},
    {"UPSTREAM_HOST", FLAT_LOG_UPSTREAM_HOST, PLAIN},
    {"UPSTREAM_REMOTE_ADDRESS", FLAT_LOG_UPSTREAM_HOST, PLAIN},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FLAT_LOG_UPSTREAM_HOST_IP, PLAIN},
    {"UPSTREAM_REMOTE_PORT", FLAT_LOG_UPSTREAM_HOST_PORT, PLAIN},
    {"UPSTREAM_CLUSTER", FLAT_LOG_UPSTREAM_CLUSTER, PLAIN},
    {"UPSTREAM_CLUSTER_RAW", FLAT_LOG_UPSTREAM_CLUSTER, PLAIN},
    {"DOWNSTREAM_LOCAL_ADDRESS", FLAT_LOG_DOWNSTREAM_LOCAL, PLAIN},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FLAT_LOG_DOWNSTREAM_LOCAL_IP, PLAIN},
    {"DOWNSTREAM_LOCAL_PORT", FLAT_LOG_DOWNSTREAM_LOCAL_PORT, PLAIN},
    {"DOWNSTREAM_REMOTE_ADDRESS", FLAT_LOG_DOWNSTREAM_REMOTE, PLAIN},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FLAT_LOG_DOWNSTREAM_REMOTE_IP, PLAIN},
    {"DOWNSTREAM_REMOTE_PORT", FLAT_LOG_DOWNSTREAM_REMOTE_PORT, PLAIN},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", FLAT_LOG_DOWNSTREAM_REMOTE, PLAIN},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", FLAT_LOG_DOWNSTREAM_REMOTE_IP, PLAIN},
    {"DOWNSTREAM_DIRECT_REMOTE_PORT", FLAT_LOG_DOWNSTREAM_REMOTE_PORT, PLAIN},
    {"REQUESTED_SERVER_NAME", FLAT_LOG_REQUESTED_SERVER_NAME, PLAIN},
    {"ROUTE_NAME", FLAT_LOG_ROUTE_NAME, PLAIN},
    {"TRACE_ID", FLAT_LOG_TRACE_ID, PLAIN},
    {"GRPC_STATUS", FLAT_LOG_GRPC_STATUS, ANY},
    {"GRPC_STATUS_NUMBER", FLAT_LOG_GRPC_STATUS_NUMBER, PLAIN},
    {"HOSTNAME", FLAT_LOG_HOSTNAME, PLAIN},
    {"CONNECTION_ID", FLAT_LOG_CONNECTION_ID, PLAIN},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", FLAT_LOG_ATTEMPTS, PLAIN},
    {"DOWNSTREAM_PEER_URI_SAN", FLAT_LOG_CLIENT_PRINCIPAL, PLAIN},
    {"UPSTREAM_PEER_URI_SAN", FLAT_LOG_SERVER_PRINCIPAL, PLAIN},
    {"TRAILER", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_LOCAL_ADDRESS", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_LOCAL_PORT", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_TRANSPORT_FAILURE_REASON", FLAT_LOG_NOTHING, ANY},
    {"CONNECTION_TERMINATION_DETAILS", FLAT_LOG_NOTHING, ANY},
    {"VIRTUAL_CLUSTER_NAME", FLAT_LOG_NOTHING, ANY},
    {"DYNAMIC_METADATA", FLAT_LOG_NOTHING, ANY},
    {"CLUSTER_METADATA", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_METADATA", FLAT_LOG_NOTHING, ANY},
    {"METADATA", FLAT_LOG_NOTHING, ANY},
    {"FILTER_STATE", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_FILTER_STATE", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_TLS_VERSION", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_TLS_CIPHER", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_TLS_SESSION_ID", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_LOCAL_URI_SAN", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_PEER_SUBJECT", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_PEER_ISSUER", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_PEER_CERT", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_LOCAL_SUBJECT", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_WIRE_BYTES_SENT", FLAT_LOG_NOTHING, ANY},
    {"DOWNSTREAM_WIRE_BYTES_RECEIVED", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_WIRE_BYTES_SENT", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_WIRE_BYTES_RECEIVED", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_LOCAL_URI_SAN", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_TLS_VERSION", FLAT_LOG_NOTHING, ANY},
    {"UPSTREAM_TLS_CIPHER", FLAT_LOG_NOTHING, ANY},
    {"REQUEST_TX_DURATION", FLAT_LOG_NOTHING, ANY},
    {"REQUEST_HEADERS_BYTES", FLAT_LOG_NOTHING, ANY},
    {"RESPONSE_HEADERS_BYTES", FLAT_LOG_NOTHING, ANY},
    {"RESPONSE_TRAILERS_BYTES", FLAT_LOG_NOTHING, ANY},
    {"FILTER_CHAIN_NAME", FLAT_LOG_NOTHING, ANY},
    {"ACCESS_LOG_TYPE", FLAT_LOG_NOTHING, ANY},
    {"STREAM_ID", FLAT_LOG_NOTHING, ANY},
    {"UNIQUE_ID", FLAT_LOG_NOTHING, ANY},
    {"CEL", FLAT_LOG_NOTHING, ANY},
};

struct reading {
	struct flat_pool *pool;
	struct flat_log_op ops[FLAT_LOG_OPS_MAX];
	uint32_t n;
	uint64_t missing;
	const char *why;
};

static int fail(struct reading *r, const char *why)
{
	r->why = why;
	return -EINVAL;
}

static struct flat_log_op *add(struct reading *r, enum flat_log_command command,
			       struct flat_span argument)
{
	struct flat_log_op *op;

	if (r->n == FLAT_LOG_OPS_MAX) {
		r->why = "it is too long";
		return NULL;
	}
	op = &r->ops[r->n++];
	memset(op, 0, sizeof(*op));
	op->command = command;
	op->argument = argument;
	return op;
}

/* What a command of this form has between its parentheses. */
static int take_argument(struct reading *r, enum form form, struct flat_span inner, bool given,
			 struct flat_log_op *op)
{
	const char *mark;

	if (form == PLAIN)
		return given ? fail(r, "this operator takes no argument") : 0;
	if (form == ANY || (form == FORMAT && !given))
		return 0;
	if (!given || (inner.len == 0 && form != FORMAT))
		return fail(r, "this operator wants a name");
	op->argument = inner;
	if (form == NAME) {
		char *name = flat_pool_strndup(r->pool, inner.text, inner.len);

		if (!name)
			return -ENOMEM;
		/* Nobody changes flatd's environment. */
		op->argument = flat_span_of(getenv(name)); /* NOLINT(concurrency-mt-unsafe) */
		if (!op->argument.text)
			return 0;
		op->argument.text = flat_pool_strdup(r->pool, op->argument.text);
		return op->argument.text ? 0 : -ENOMEM;
	}
	mark = form == HEADERS ? memchr(inner.text, '?', inner.len) : NULL;
	if (!mark)
		return 0;
	op->argument.len = (size_t)(mark - inner.text);
	op->other = (struct flat_span){mark + 1, inner.len - op->argument.len - 1};
	return 0;
}

/* An operator; *at is behind its first percent sign, and afterwards behind its last. */
static int take_operator(struct reading *r, const char **at)
{
	struct flat_span name = {*at, strcspn(*at, "(:%")};
	struct flat_span inner = {NULL, 0};
	const char *p = *at + name.len;
	struct flat_log_op *op;
	unsigned long max = 0;
	char *end;
	size_t i = 0;
	int err;

	while (i < FLAT_ARRAY_SIZE(commands) &&
	       !flat_span_equal(name, flat_span_of(commands[i].name), false))
		i++;
	if (i == FLAT_ARRAY_SIZE(commands))
		return fail(r, "there is no such operator");
	if (*p == '(') {
		const char *close = strchr(p, ')');

		if (!close)
			return fail(r, "a closing parenthesis is missing");
		inner = (struct flat_span){p + 1, (size_t)(close - p) - 1};
		p = close + 1;
	}
	if (*p == ':') {
		max = strtoul(p + 1, &end, 10);
		if (end == p + 1 || max == 0 || max > UINT32_MAX)
			return fail(r, "a length is a number of 1 and more");
		p = end;
	}
	if (*p != '%')
		return fail(r, "an operator ends with a percent sign");
	if (commands[i].command == FLAT_LOG_NOTHING && r->n < 64)
		r->missing |= 1ULL << r->n;
	op = add(r, commands[i].command, (struct flat_span){NULL, 0});
	if (!op)
		return -EINVAL;
	op->max = (uint32_t)max;
	err = take_argument(r, commands[i].form, inner, inner.text != NULL, op);
	*at = p + 1;
	return err;
}

static int read_text(struct reading *r, const char *text, size_t *at)
{
	const char *p = text;

	while (*p) {
		size_t len = strcspn(p, "%");
		int err;

		*at = (size_t)(p - text);
		if (p[0] == '%' && p[1] == '%') {
			if (!add(r, FLAT_LOG_TEXT, (struct flat_span){p, 1}))
				return -EINVAL;
			p += 2;
			continue;
		}
		if (len > 0 && !add(r, FLAT_LOG_TEXT, (struct flat_span){p, len}))
			return -EINVAL;
		p += len;
		if (len > 0 || !*p)
			continue;
		p++;
		err = take_operator(r, &p);
		if (err != 0)
			return err;
	}
	return 0;
}

int flat_log_format_text(struct flat_pool *pool, const char *text, struct flat_log_node *node,
			 const char **why, size_t *at, uint64_t *missing)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct flat_log_op *ops;
	int err;

	*why = NULL;
	*at = 0;
	if (!r)
		return -ENOMEM;
	r->pool = pool;
	err = read_text(r, text, at);
	*why = r->why;
	*missing = r->missing;
	ops = err == 0 ? flat_pool_array(pool, r->n, sizeof(*ops)) : NULL;
	if (err == 0 && !ops)
		err = -ENOMEM;
	if (err == 0) {
		memcpy(ops, r->ops, r->n * sizeof(*ops));
		node->ops = ops;
		node->n_ops = r->n;
	}
	free(r);
	return err;
}

/* --- Istio's --- */

static const char text_default[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static const struct {
	const char *key, *text;
} json_default[] = {
    {"start_time", "%START_TIME%"},
    {"route_name", "%ROUTE_NAME%"},
    {"method", "%REQ(:METHOD)%"},
    {"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
    {"protocol", "%PROTOCOL%"},
    {"response_code", "%RESPONSE_CODE%"},
    {"response_flags", "%RESPONSE_FLAGS%"},
    {"response_code_details", "%RESPONSE_CODE_DETAILS%"},
    {"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
    {"bytes_received", "%BYTES_RECEIVED%"},
    {"bytes_sent", "%BYTES_SENT%"},
    {"duration", "%DURATION%"},
    {"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
    {"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
    {"user_agent", "%REQ(USER-AGENT)%"},
    {"request_id", "%REQ(X-REQUEST-ID)%"},
    {"authority", "%REQ(:AUTHORITY)%"},
    {"upstream_host", "%UPSTREAM_HOST%"},
    {"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
    {"upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"},
    {"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
    {"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
    {"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
    {"requested_server_name", "%REQUESTED_SERVER_NAME%"},
};

const struct flat_log_format *flat_log_format_default(struct flat_pool *pool, bool json)
{
	struct flat_log_format *format = flat_pool_alloc(pool, sizeof(*format));
	struct flat_log_node *fields = NULL;
	const char *why;
	uint64_t missing;
	size_t at;

	if (!format)
		return NULL;
	format->json = json;
	if (!json)
		return flat_log_format_text(pool, text_default, &format->root, &why, &at,
					    &missing) == 0
			   ? format
			   : NULL;
	fields = flat_pool_array(pool, FLAT_ARRAY_SIZE(json_default), sizeof(*fields));
	for (size_t i = 0; fields && i < FLAT_ARRAY_SIZE(json_default); i++) {
		fields[i].key = json_default[i].key;
		if (flat_log_format_text(pool, json_default[i].text, &fields[i], &why, &at,
					 &missing) != 0)
			return NULL;
	}
	format->root.fields = fields;
	format->root.n_fields = FLAT_ARRAY_SIZE(json_default);
	return fields ? format : NULL;
}

static bool node_has(const struct flat_log_node *node, enum flat_log_command command,
		     unsigned depth)
{
	for (uint32_t i = 0; i < node->n_ops; i++) {
		if (node->ops[i].command == command)
			return true;
	}
	for (uint32_t i = 0; i < node->n_fields && depth < FLAT_LOG_DEPTH_MAX; i++) {
		if (node_has(&node->fields[i], command, depth + 1))
			return true;
	}
	return false;
}

bool flat_log_format_has(const struct flat_log_format *format, enum flat_log_command command)
{
	return node_has(&format->root, command, 0);
}
