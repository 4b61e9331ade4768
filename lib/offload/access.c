#include "offload/access.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "codec/record.h"

/* Bytes of one header that are told. */
#define HEADER_MAX_TOLD 4096U
#define VALUE_MAX 512

/* A value: text or a number; absent: text NULL and not a number. */
struct value {
	struct flat_span text;
	bool is_number;
	uint64_t number;
	bool foreign; /* somebody else's text: a quote in it would forge a field */
	char made[VALUE_MAX];
};

/* --- values --- */

static void set_text(struct value *v, const char *text)
{
	v->text = flat_span_of(text && *text ? text : NULL);
}

static void set_number(struct value *v, uint64_t number)
{
	v->is_number = true;
	v->number = number;
	snprintf(v->made, sizeof(v->made), "%" PRIu64, number);
	v->text = flat_span_of(v->made);
}

static void set_ms(struct value *v, int64_t us)
{
	if (us >= 0)
		set_number(v, (uint64_t)us / 1000);
}

static void set_addr(struct value *v, const struct flat_addr *a, bool ip, bool port)
{
	char text[FLAT_ADDR_STRLEN];
	char *colon;
	size_t len;

	if (!a->family)
		return;
	if (!ip) {
		set_number(v, a->port);
		return;
	}
	flat_addr_str(a, text);
	colon = strrchr(text, ':');
	if (!port && colon)
		*colon = 0;
	len = strlen(text);
	/* Without its port an IPv6 address has no brackets. */
	if (!port && text[0] == '[' && len > 2) {
		text[len - 1] = 0;
		memmove(text, text + 1, len - 1);
	}
	snprintf(v->made, sizeof(v->made), "%s", text);
	v->text = flat_span_of(v->made);
}

/* Fractions of a second of n digits for %f, %1f to %9f; all else is strftime's. */
static void set_time(struct value *v, const struct flat_log_op *op, int64_t us)
{
	char format[256];
	size_t n = 0;
	time_t seconds = (time_t)(us / 1000000);
	unsigned micros = (unsigned)(us % 1000000);
	struct tm tm;
	const char *p = op->argument.text;
	const char *end = p ? p + op->argument.len : NULL;

	if (!gmtime_r(&seconds, &tm))
		return;
	if (!p || p == end) {
		snprintf(v->made, sizeof(v->made), "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			 tm.tm_sec, micros / 1000);
		v->text = flat_span_of(v->made);
		return;
	}
	while (p < end && n + 24 < sizeof(format)) {
		unsigned digits = 9;
		char fraction[16];
		size_t skip = 2;

		if (p[0] == '%' && end - p > 2 && p[1] >= '1' && p[1] <= '9' && p[2] == 'f') {
			digits = (unsigned)(p[1] - '0');
			skip = 3;
		}
		if (p[0] == '%' && end - p >= (ptrdiff_t)skip && p[skip - 1] == 'f') {
			snprintf(fraction, sizeof(fraction), "%06u000", micros);
			memcpy(format + n, fraction, digits);
			n += digits;
			p += skip;
		} else if (p[0] == '%' && end - p >= 2 && p[1] == 's') {
			n += (size_t)snprintf(format + n, sizeof(format) - n, "%lld",
					      (long long)seconds);
			p += 2;
		} else {
			format[n++] = *p++;
			/* A percent sign and what belongs to it stay together. */
			if (p[-1] == '%' && p < end)
				format[n++] = *p++;
		}
	}
	format[n] = 0;
	v->text.len = strftime(v->made, sizeof(v->made), format, &tm);
	v->text.text = v->made;
}

static struct flat_span request_header(const struct flat_access *a, struct flat_span name,
				       struct value *v)
{
	const struct flat_http_request *r = a->request;
	struct flat_span s;

	if (!r || !name.len)
		return (struct flat_span){NULL, 0};
	if (name.text[0] != ':') {
		s = flat_http_field_get(r, name, 0);
		if (!s.text && flat_span_equal(name, flat_span_of("x-request-id"), true))
			return a->request_id;
		return s;
	}
	if (flat_span_equal(name, flat_span_of(":method"), true))
		return r->method;
	if (flat_span_equal(name, flat_span_of(":authority"), true))
		return r->authority;
	if (flat_span_equal(name, flat_span_of(":scheme"), true))
		return flat_span_of("http");
	if (!flat_span_equal(name, flat_span_of(":path"), true))
		return (struct flat_span){NULL, 0};
	if (!r->query.text || r->path.len + r->query.len + 1 > sizeof(v->made)) {
		/* Where the head says both in one piece, no copy is needed. */
		if (r->query.text && r->path.text + r->path.len + 1 == r->query.text)
			return (struct flat_span){r->path.text, r->path.len + 1 + r->query.len};
		return r->path;
	}
	memcpy(v->made, r->path.text, r->path.len);
	v->made[r->path.len] = '?';
	memcpy(v->made + r->path.len + 1, r->query.text, r->query.len);
	return (struct flat_span){v->made, r->path.len + 1 + r->query.len};
}

static struct flat_span response_header(const struct flat_access *a, struct flat_span name,
					struct value *v)
{
	for (uint32_t i = 0; a->wanted && i < a->wanted->n && a->response; i++) {
		if (flat_span_equal(flat_span_of(a->wanted->name[i]), name, true) &&
		    a->response[i].text)
			return a->response[i];
	}
	if (a->service_us < 0 ||
	    !flat_span_equal(name, flat_span_of("x-envoy-upstream-service-time"), true))
		return (struct flat_span){NULL, 0};
	/* Envoy's router makes it. */
	snprintf(v->made, sizeof(v->made), "%" PRId64, a->service_us / 1000);
	return flat_span_of(v->made);
}

static void set_header(struct value *v, const struct flat_access *a, const struct flat_log_op *op)
{
	bool request = op->command == FLAT_LOG_REQ;

	v->text =
	    request ? request_header(a, op->argument, v) : response_header(a, op->argument, v);
	if (!v->text.text)
		v->text =
		    request ? request_header(a, op->other, v) : response_header(a, op->other, v);
	v->foreign = true;
	v->text.len = flat_min_size(v->text.len, HEADER_MAX_TOLD);
}

static void set_cluster(struct value *v, const struct flat_access *a)
{
	if (a->inbound && a->server.family)
		snprintf(v->made, sizeof(v->made), "inbound|%u||", a->server.port);
	else if (a->service && a->server.family)
		snprintf(v->made, sizeof(v->made), "outbound|%u|%s|%s", a->service_port,
			 a->subset ? a->subset : "", a->service);
	else if (a->server.family)
		snprintf(v->made, sizeof(v->made), "PassthroughCluster");
	else
		return;
	v->text = flat_span_of(v->made);
}

static void set_principal(struct value *v, const char *principal)
{
	if (!principal || !*principal)
		return;
	snprintf(v->made, sizeof(v->made), "spiffe://%s", principal);
	v->text = flat_span_of(v->made);
}

/* Values of what happened. */
static bool set_event(struct value *v, const struct flat_access *a, const struct flat_log_op *op)
{
	switch (op->command) {
	case FLAT_LOG_START_TIME:
		set_time(v, op, a->start_us);
		return true;
	case FLAT_LOG_REQ:
	case FLAT_LOG_RESP:
		set_header(v, a, op);
		return true;
	case FLAT_LOG_ENVIRONMENT:
		v->text = op->argument;
		return true;
	case FLAT_LOG_PROTOCOL:
		set_text(v, a->protocol);
		return true;
	case FLAT_LOG_RESPONSE_CODE:
		set_number(v, a->status);
		return true;
	case FLAT_LOG_RESPONSE_FLAGS:
		set_text(v, a->flags);
		return true;
	case FLAT_LOG_RESPONSE_CODE_DETAILS:
		set_text(v, a->details);
		return true;
	case FLAT_LOG_BYTES_RECEIVED:
		set_number(v, a->received);
		return true;
	case FLAT_LOG_BYTES_SENT:
		set_number(v, a->sent);
		return true;
	case FLAT_LOG_DURATION:
		set_ms(v, a->duration_us);
		return true;
	case FLAT_LOG_REQUEST_DURATION:
		set_ms(v, a->response_us >= 0 && a->service_us >= 0 ? a->response_us - a->service_us
								    : -1);
		return true;
	case FLAT_LOG_RESPONSE_DURATION:
		set_ms(v, a->response_us);
		return true;
	case FLAT_LOG_RESPONSE_TX_DURATION:
		set_ms(v, a->response_us >= 0 ? a->duration_us - a->response_us : -1);
		return true;
	case FLAT_LOG_GRPC_STATUS:
		set_text(v, flat_access_grpc_name(a->grpc));
		return true;
	case FLAT_LOG_GRPC_STATUS_NUMBER:
		if (a->grpc >= 0)
			set_number(v, (uint64_t)a->grpc);
		return true;
	default:
		return false;
	}
}

/* Values of who and where. */
static void set_place(struct value *v, const struct flat_access *a, const struct flat_log_op *op)
{
	switch (op->command) {
	case FLAT_LOG_UPSTREAM_HOST:
		set_addr(v, &a->server, true, true);
		break;
	case FLAT_LOG_UPSTREAM_HOST_IP:
		set_addr(v, &a->server, true, false);
		break;
	case FLAT_LOG_UPSTREAM_HOST_PORT:
		set_addr(v, &a->server, false, true);
		break;
	case FLAT_LOG_UPSTREAM_CLUSTER:
		set_cluster(v, a);
		break;
	case FLAT_LOG_DOWNSTREAM_LOCAL:
		set_addr(v, &a->local, true, true);
		break;
	case FLAT_LOG_DOWNSTREAM_LOCAL_IP:
		set_addr(v, &a->local, true, false);
		break;
	case FLAT_LOG_DOWNSTREAM_LOCAL_PORT:
		set_addr(v, &a->local, false, true);
		break;
	case FLAT_LOG_DOWNSTREAM_REMOTE:
		set_addr(v, &a->client, true, true);
		break;
	case FLAT_LOG_DOWNSTREAM_REMOTE_IP:
		set_addr(v, &a->client, true, false);
		break;
	case FLAT_LOG_DOWNSTREAM_REMOTE_PORT:
		set_addr(v, &a->client, false, true);
		break;
	case FLAT_LOG_REQUESTED_SERVER_NAME:
		set_text(v, a->sni);
		break;
	case FLAT_LOG_ROUTE_NAME:
		set_text(v, a->route);
		break;
	case FLAT_LOG_TRACE_ID:
		set_text(v, a->trace_id);
		break;
	case FLAT_LOG_HOSTNAME:
		set_text(v, a->hostname);
		break;
	case FLAT_LOG_CONNECTION_ID:
		set_number(v, a->connection);
		break;
	case FLAT_LOG_ATTEMPTS:
		set_number(v, a->attempts);
		break;
	case FLAT_LOG_CLIENT_PRINCIPAL:
		set_principal(v, a->client_principal);
		break;
	case FLAT_LOG_SERVER_PRINCIPAL:
		set_principal(v, a->server_principal);
		break;
	default:
		break;
	}
}

static void find_value(struct value *v, const struct flat_access *a, const struct flat_log_op *op)
{
	v->text = (struct flat_span){NULL, 0};
	v->is_number = false;
	v->foreign = false;
	if (op->command == FLAT_LOG_TEXT)
		v->text = op->argument;
	else if (!set_event(v, a, op))
		set_place(v, a, op);
	if (op->max && v->text.len > op->max) {
		v->text.len = op->max;
		v->is_number = false;
	}
}

/* --- lines --- */

static void put_escaped(struct flat_strbuf *out, struct flat_span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.text[i] == '"' || s.text[i] == '\\')
			flat_strbuf_putc(out, '\\');
		flat_strbuf_putc(out, s.text[i]);
	}
}

static void put_text(const struct flat_log_format *format, const struct flat_log_node *node,
		     const struct flat_access *a, struct flat_strbuf *out)
{
	for (uint32_t i = 0; i < node->n_ops; i++) {
		struct value v;

		find_value(&v, a, &node->ops[i]);
		if (!v.text.text)
			flat_strbuf_puts(out, format->omit_empty ? "" : "-");
		else if (v.foreign && !format->json)
			put_escaped(out, v.text);
		else
			flat_strbuf_add(out, v.text.text, v.text.len);
	}
}

static void put_field(const struct flat_log_format *format, const struct flat_log_node *node,
		      const struct flat_access *a, struct flat_json *j)
{
	struct flat_strbuf text = {0};
	struct value v;

	if (node->fields) {
		flat_json_object(j, node->key);
		for (uint32_t i = 0; i < node->n_fields; i++)
			put_field(format, &node->fields[i], a, j);
		flat_json_object_end(j);
		return;
	}
	if (node->n_ops != 1) {
		put_text(format, node, a, &text);
		flat_json_string_n(j, node->key, text.data ? text.data : "", text.len);
		flat_strbuf_fini(&text);
		return;
	}
	/* Alone, an operator keeps its type, as in Envoy. */
	find_value(&v, a, &node->ops[0]);
	if (v.is_number)
		flat_json_uint(j, node->key, v.number);
	else if (v.text.text)
		flat_json_string_n(j, node->key, v.text.text, v.text.len);
	else if (!format->omit_empty)
		flat_json_null(j, node->key);
}

void flat_access_write(const struct flat_log_format *format, const struct flat_access *a,
		       struct flat_strbuf *out)
{
	struct flat_json j;

	if (format->json) {
		flat_json_init(&j, out, false);
		flat_json_object(&j, NULL);
		for (uint32_t i = 0; i < format->root.n_fields; i++)
			put_field(format, &format->root.fields[i], a, &j);
		flat_json_object_end(&j);
	} else {
		put_text(format, &format->root, a, out);
	}
	if (out->len == 0 || out->data[out->len - 1] != '\n')
		flat_strbuf_putc(out, '\n');
}

static void want(void *arg, struct flat_span name)
{
	struct flat_access_headers *wanted = arg;
	uint32_t at = 0;

	while (at < wanted->n && !flat_span_equal(flat_span_of(wanted->name[at]), name, true))
		at++;
	if (!name.len || at < wanted->n || at == FLAT_ACCESS_HEADERS_MAX)
		return;
	wanted->name[wanted->n] = strndup(name.text, name.len);
	wanted->n += wanted->name[wanted->n] != NULL;
}

void flat_access_want_keys(struct flat_access_headers *wanted, const struct flat_cel *cel)
{
	flat_cel_keys(cel, FLAT_CEL_RESPONSE_HEADERS, want, wanted);
}

static void want_node(struct flat_access_headers *wanted, const struct flat_log_node *node)
{
	for (uint32_t i = 0; i < node->n_ops; i++) {
		if (node->ops[i].command != FLAT_LOG_RESP)
			continue;
		want(wanted, node->ops[i].argument);
		want(wanted, node->ops[i].other);
	}
	for (uint32_t i = 0; i < node->n_fields; i++)
		want_node(wanted, &node->fields[i]);
}

void flat_access_want(struct flat_access_headers *wanted, const struct flat_log_format *format)
{
	want_node(wanted, &format->root);
}

/* --- words --- */

const char *flat_access_details(unsigned verdict, unsigned status)
{
	static const char *const details[FLAT_VERDICTS] = {
	    [FLAT_VERDICT_NONE] = "via_upstream",
	    [FLAT_VERDICT_MALFORMED] = "downstream_protocol_error",
	    [FLAT_VERDICT_DENIED] = "rbac_access_denied",
	    [FLAT_VERDICT_NO_ROUTE] = "route_not_found",
	    [FLAT_VERDICT_NO_HOST] = "no_healthy_upstream",
	    [FLAT_VERDICT_CONNECT] = "upstream_reset_before_response_started{connection_failure}",
	    [FLAT_VERDICT_RESET] = "upstream_reset_before_response_started{connection_termination}",
	    [FLAT_VERDICT_PROTOCOL] = "upstream_reset_before_response_started{protocol_error}",
	    [FLAT_VERDICT_TIMEOUT] = "upstream_response_timeout",
	    [FLAT_VERDICT_RETRIES] = "via_upstream",
	    [FLAT_VERDICT_FAULT] = "fault_filter_abort",
	    [FLAT_VERDICT_DELAYED] = "via_upstream",
	    [FLAT_VERDICT_GONE] = "downstream_remote_disconnect",
	    [FLAT_VERDICT_ANSWERED] = "direct_response",
	    [FLAT_VERDICT_EXTERNAL] = "ext_authz_denied",
	    [FLAT_VERDICT_LIMITED] = "local_rate_limited",
	    [FLAT_VERDICT_RATED] = "request_rate_limited",
	    [FLAT_VERDICT_LIMITER] = "rate_limiter_error",
	    [FLAT_VERDICT_ADMISSION] = "denied_by_admission_control",
	    [FLAT_VERDICT_OVERFLOW] = "upstream_reset_before_response_started{overflow}",
	};

	if (verdict == FLAT_VERDICT_DENIED && status == 401)
		return "jwt_authn_access_denied";
	return verdict < FLAT_VERDICTS ? details[verdict] : NULL;
}

const char *flat_access_grpc_name(int status)
{
	static const char *const names[] = {"OK",
					    "Canceled",
					    "Unknown",
					    "InvalidArgument",
					    "DeadlineExceeded",
					    "NotFound",
					    "AlreadyExists",
					    "PermissionDenied",
					    "ResourceExhausted",
					    "FailedPrecondition",
					    "Aborted",
					    "OutOfRange",
					    "Unimplemented",
					    "Internal",
					    "Unavailable",
					    "DataLoss",
					    "Unauthenticated"};

	return status >= 0 && (size_t)status < FLAT_ARRAY_SIZE(names) ? names[status] : NULL;
}

/* --- filters --- */

struct question {
	const struct flat_access *access;
	struct value value[8]; /* texts that were made; the oldest goes */
	uint32_t n;
};

/* Room for texts is left as it is: it is written before it is read. */
static void question_begin(struct question *q, const struct flat_access *a)
{
	q->access = a;
	q->n = 0;
}

static struct flat_cel_value text_value(struct flat_span s)
{
	struct flat_cel_value v = {.type = s.text ? FLAT_CEL_TEXT : FLAT_CEL_ABSENT, .text = s};

	return v;
}

static struct flat_cel_value number_value(enum flat_cel_type type, int64_t number)
{
	return (struct flat_cel_value){.type = type, .number = number};
}

static struct flat_cel_value by_command(struct question *q, enum flat_log_command command,
					struct flat_span argument)
{
	struct flat_log_op op = {.command = command, .argument = argument};
	struct value *v = &q->value[q->n++ % FLAT_ARRAY_SIZE(q->value)];

	find_value(v, q->access, &op);
	return v->is_number ? number_value(FLAT_CEL_INT, (int64_t)v->number) : text_value(v->text);
}

static struct flat_cel_value header(struct question *q, const char *name)
{
	return by_command(q, FLAT_LOG_REQ, flat_span_of(name));
}

static struct flat_cel_value of_request(struct question *q, enum flat_cel_attribute attribute,
					struct flat_span key)
{
	const struct flat_access *a = q->access;
	const struct flat_http_request *r = a->request;

	switch (attribute) {
	case FLAT_CEL_REQUEST_PATH:
		return header(q, ":path");
	case FLAT_CEL_REQUEST_URL_PATH:
		return text_value(r ? r->path : (struct flat_span){NULL, 0});
	case FLAT_CEL_REQUEST_HOST:
		return header(q, ":authority");
	case FLAT_CEL_REQUEST_SCHEME:
		return header(q, ":scheme");
	case FLAT_CEL_REQUEST_METHOD:
		return header(q, ":method");
	case FLAT_CEL_REQUEST_HEADERS:
		return by_command(q, FLAT_LOG_REQ, key);
	case FLAT_CEL_REQUEST_REFERER:
		return header(q, "referer");
	case FLAT_CEL_REQUEST_USERAGENT:
		return header(q, "user-agent");
	case FLAT_CEL_REQUEST_ID:
		return header(q, "x-request-id");
	case FLAT_CEL_REQUEST_PROTOCOL:
		return text_value(flat_span_of(a->protocol));
	case FLAT_CEL_REQUEST_QUERY:
		return text_value(r ? r->query : (struct flat_span){NULL, 0});
	case FLAT_CEL_REQUEST_DURATION:
		return number_value(FLAT_CEL_TIME, a->duration_us * 1000);
	default:
		return number_value(FLAT_CEL_INT, (int64_t)a->received);
	}
}

static struct flat_cel_value value_of(struct question *q, enum flat_cel_attribute attribute,
				      struct flat_span key)
{
	const struct flat_access *a = q->access;
	struct flat_span none = {NULL, 0};

	if (attribute <= FLAT_CEL_REQUEST_SIZE)
		return a->request || attribute == FLAT_CEL_REQUEST_SIZE ||
			       attribute == FLAT_CEL_REQUEST_DURATION
			   ? of_request(q, attribute, key)
			   : text_value(none);
	switch (attribute) {
	case FLAT_CEL_RESPONSE_CODE:
		return a->status ? number_value(FLAT_CEL_INT, a->status) : text_value(none);
	case FLAT_CEL_RESPONSE_CODE_DETAILS:
		return text_value(flat_span_of(a->details));
	case FLAT_CEL_RESPONSE_GRPC_STATUS:
		return a->grpc >= 0 ? number_value(FLAT_CEL_INT, a->grpc) : text_value(none);
	case FLAT_CEL_RESPONSE_HEADERS:
		return by_command(q, FLAT_LOG_RESP, key);
	case FLAT_CEL_RESPONSE_SIZE:
		return number_value(FLAT_CEL_INT, (int64_t)a->sent);
	case FLAT_CEL_SOURCE_ADDRESS:
		return by_command(q, FLAT_LOG_DOWNSTREAM_REMOTE, none);
	case FLAT_CEL_SOURCE_PORT:
		return by_command(q, FLAT_LOG_DOWNSTREAM_REMOTE_PORT, none);
	case FLAT_CEL_DESTINATION_ADDRESS:
		return by_command(q, FLAT_LOG_DOWNSTREAM_LOCAL, none);
	case FLAT_CEL_DESTINATION_PORT:
		return by_command(q, FLAT_LOG_DOWNSTREAM_LOCAL_PORT, none);
	case FLAT_CEL_CONNECTION_MTLS:
		return number_value(FLAT_CEL_BOOL, a->mtls);
	case FLAT_CEL_CONNECTION_SNI:
		return by_command(q, FLAT_LOG_REQUESTED_SERVER_NAME, none);
	case FLAT_CEL_UPSTREAM_ADDRESS:
		return by_command(q, FLAT_LOG_UPSTREAM_HOST, none);
	case FLAT_CEL_UPSTREAM_PORT:
		return by_command(q, FLAT_LOG_UPSTREAM_HOST_PORT, none);
	case FLAT_CEL_ROUTE_NAME:
		return by_command(q, FLAT_LOG_ROUTE_NAME, none);
	default:
		return by_command(q, FLAT_LOG_UPSTREAM_CLUSTER, none);
	}
}

static void look_up(void *arg, enum flat_cel_attribute attribute, struct flat_span key,
		    struct flat_cel_value *out)
{
	*out = value_of(arg, attribute, key);
}

bool flat_access_passes(const struct flat_cel *filter, const struct flat_access *a)
{
	struct question q;

	question_begin(&q, a);
	return !filter || flat_cel_holds(filter, look_up, &q);
}

/* A duration as Envoy prints it: of the units h, m and s those that are not 0. */
static struct flat_span print_time(char made[64], int64_t ns)
{
	uint64_t rest = ns < 0 ? 0U - (uint64_t)ns : (uint64_t)ns;
	uint64_t seconds = rest / 1000000000U;
	unsigned fraction = (unsigned)(rest % 1000000000U);
	int len;

	if (seconds == 0 && fraction < 1000000)
		len = snprintf(made, 64, "%s%gus", ns < 0 ? "-" : "", fraction / 1e3);
	else if (seconds == 0)
		len = snprintf(made, 64, "%s%gms", ns < 0 ? "-" : "", fraction / 1e6);
	else
		len = snprintf(made, 64, "%s%" PRIu64 ".%06us", ns < 0 ? "-" : "", seconds,
			       fraction / 1000);
	return (struct flat_span){made, (size_t)len};
}

size_t flat_access_value(const struct flat_cel *cel, const struct flat_access *a, char *to,
			 size_t size, bool *cut)
{
	struct question q;
	struct flat_cel_value v;
	char made[64];

	question_begin(&q, a);
	v = flat_cel_eval(cel, look_up, &q);
	switch (v.type) {
	case FLAT_CEL_BOOL:
		v.text = flat_span_of(v.number ? "true" : "false");
		break;
	case FLAT_CEL_INT:
		v.text = (struct flat_span){
		    made, (size_t)snprintf(made, sizeof(made), "%" PRId64, v.number)};
		break;
	case FLAT_CEL_TIME:
		v.text = print_time(made, v.number);
		break;
	case FLAT_CEL_TEXT:
		break;
	default:
		return 0;
	}
	*cut = v.text.len > size;
	v.text.len = flat_min_size(v.text.len, size);
	memcpy(to, v.text.text, v.text.len);
	return v.text.len;
}
