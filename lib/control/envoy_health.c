/* EnvoyFilter, applyTo CLUSTER with health_checks -> struct flat_health_check. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "control/envoy_filter.h"

/* Bytes that a TCP check sends, or waits for, in one piece. */
#define PAYLOAD_MAX 1024U

static struct flat_health_check *check_of(void *obj)
{
	return obj;
}

/* --- durations and counts --- */

static void parse_positive(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	if (cfg_duration_ms(cfg, node, out) && *out == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use 1ms or more",
			  "no time at all");
}

static void parse_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_positive(cfg, node, &check_of(obj)->timeout_ms);
}

static void parse_interval(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_positive(cfg, node, &check_of(obj)->interval_ms);
}

static void parse_unhealthy_interval(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_positive(cfg, node, &check_of(obj)->unhealthy_ms);
}

static void parse_unhealthy_edge(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_positive(cfg, node, &check_of(obj)->unhealthy_edge_ms);
}

static void parse_healthy_edge(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_positive(cfg, node, &check_of(obj)->healthy_edge_ms);
}

static void parse_initial_jitter(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &check_of(obj)->initial_jitter_ms);
}

static void parse_jitter(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &check_of(obj)->jitter_ms);
}

static void parse_count(struct cfg *cfg, const struct yaml_node *node, uint64_t min, uint64_t max,
			uint32_t *out)
{
	uint64_t n;

	if (cfg_uint(cfg, node, min, max, &n))
		*out = (uint32_t)n;
}

static void parse_jitter_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_count(cfg, node, 0, 1000, &check_of(obj)->jitter_percent);
}

static void parse_unhealthy_threshold(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_count(cfg, node, 1, UINT32_MAX, &check_of(obj)->unhealthy_threshold);
}

static void parse_healthy_threshold(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	parse_count(cfg, node, 1, UINT32_MAX, &check_of(obj)->healthy_threshold);
}

static void parse_alt_port(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->alt_port = cfg_port(cfg, node);
}

/* --- HTTP --- */

static void parse_authority(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->authority = cfg_url_text(cfg, node);
}

static void parse_path(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	const char *path = cfg_url_text(cfg, node);

	if (path && *path != '/')
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "begin it with /",
			  "\"%.200s\" is no path", path);
	check_of(obj)->path = path;
}

static void parse_method(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	/* CONNECT, and methods with a body, are not taken by Envoy either, or make no sense here. */
	static const char *const names[] = {"METHOD_UNSPECIFIED", "GET", "HEAD", "OPTIONS"};
	int i = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names));

	check_of(obj)->method = i > 0 ? names[i] : "GET";
}

static void parse_codec(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char *const names[] = {"HTTP1", "HTTP2"};

	check_of(obj)->http2 = cfg_enum(cfg, node, names, FLAT_ARRAY_SIZE(names)) == 1;
}

static void parse_start(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_uint(cfg, node, 100, 600, &((struct flat_status_range *)obj)->from);
}

static void parse_end(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_uint(cfg, node, 100, 600, &((struct flat_status_range *)obj)->to);
}

struct ranges {
	struct flat_status_range *v;
	uint32_t n;
};

static void parse_range(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("start", parse_start),
	    CFG_FIELD("end", parse_end),
	};
	struct ranges *r = obj;
	struct flat_status_range range = {0};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), &range);
	if (range.from < range.to)
		r->v[r->n++] = range;
	else
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "end is the first status that is not in it: {start: 200, end: 300}",
			  "a range of statuses without any");
}

struct flat_status_ranges cfg_status_ranges(struct cfg *cfg, const struct yaml_node *node)
{
	struct ranges r = {.n = 0};

	if (cfg_expect(cfg, node, YAML_LIST) && node->n)
		r.v = cfg_array(cfg, node->n, sizeof(*r.v));
	if (r.v)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_range, &r);
	return (struct flat_status_ranges){r.v, r.n};
}

static void parse_expected(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->expected = cfg_status_ranges(cfg, node);
}

static void parse_retriable(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->retriable = cfg_status_ranges(cfg, node);
}

static void parse_headers(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_health_check *c = obj;

	c->headers = cfg_header_options(cfg, node, &c->n_headers);
}

static void parse_http(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char no_body[] = "an answer's status is looked at alone";
	static const struct cfg_field fields[] = {
	    CFG_FIELD("host", parse_authority),
	    CFG_FIELD("path", parse_path),
	    CFG_FIELD("method", parse_method),
	    CFG_FIELD("codec_client_type", parse_codec),
	    CFG_FIELD("expected_statuses", parse_expected),
	    CFG_FIELD("retriable_statuses", parse_retriable),
	    CFG_FIELD("request_headers_to_add", parse_headers),
	    CFG_UNHONOURED("request_headers_to_remove", "there are none but host and user-agent"),
	    CFG_UNHONOURED("send", "requests have no body"),
	    CFG_UNHONOURED("receive", no_body),
	    CFG_UNHONOURED("response_buffer_size", no_body),
	    CFG_UNHONOURED("service_name_matcher", no_body),
	};

	check_of(obj)->kind = FLAT_HEALTH_HTTP;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
	if (!check_of(obj)->path)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING, "add path",
			  "an http_health_check without path");
}

/* --- gRPC --- */

static void parse_service_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->grpc_service = cfg_string(cfg, node);
}

static void parse_grpc(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("service_name", parse_service_name),
	    CFG_FIELD("authority", parse_authority),
	    CFG_FIELD("initial_metadata", parse_headers),
	};

	check_of(obj)->kind = FLAT_HEALTH_GRPC;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- TCP --- */

static int digit_of(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Envoy's `text` of a payload is bytes in hex. */
static void parse_hex(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_payload *p = obj;
	uint8_t *bytes;
	size_t len;

	if (!cfg_expect(cfg, node, YAML_SCALAR))
		return;
	len = strlen(node->text);
	if (len == 0 || len % 2 || len / 2 > PAYLOAD_MAX ||
	    strspn(node->text, "0123456789abcdefABCDEF") != len) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write bytes in hex, as 50494e47 for PING",
			  "\"%.100s\" is not 1 to %u bytes in hex", node->text, PAYLOAD_MAX);
		return;
	}
	bytes = cfg_array(cfg, len / 2, 1);
	for (size_t i = 0; bytes && i < len / 2; i++)
		bytes[i] =
		    (uint8_t)(digit_of(node->text[2 * i]) << 4 | digit_of(node->text[2 * i + 1]));
	p->bytes = bytes;
	p->len = bytes ? (uint32_t)(len / 2) : 0;
}

static void parse_binary(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)obj;
	cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "use text, with bytes in hex",
		  "payloads in base64 are not taken");
}

static void read_payload(struct cfg *cfg, const struct yaml_node *node, struct flat_payload *out)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("text", parse_hex),
	    CFG_FIELD("binary", parse_binary),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), out);
}

static void parse_send(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_payload(cfg, node, &check_of(obj)->send);
}

static void parse_piece(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_health_check *c = obj;

	read_payload(cfg, node, &c->receive[c->n_receive]);
	c->n_receive += c->receive[c->n_receive].len != 0;
}

static void parse_receive(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_health_check *c = obj;

	if (cfg_expect(cfg, node, YAML_LIST) && node->n)
		c->receive = cfg_array(cfg, node->n, sizeof(*c->receive));
	if (c->receive)
		(void)cfg_list(cfg, node, FLAT_CONFIG_MATCHES_MAX, parse_piece, c);
}

static void parse_tcp(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("send", parse_send),
	    CFG_FIELD("receive", parse_receive),
	    CFG_UNHONOURED("proxy_protocol_config", "it is not sent"),
	};

	check_of(obj)->kind = FLAT_HEALTH_TCP;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

/* --- a check --- */

static void set_default(uint32_t *what, uint32_t value)
{
	if (!*what)
		*what = value;
}

static void parse_check(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const char always[] = "checks are as often with requests as without";
	static const char in_log[] = "flatd's log tells of changes";
	static const struct cfg_field fields[] = {
	    CFG_FIELD("timeout", parse_timeout),
	    CFG_FIELD("interval", parse_interval),
	    CFG_FIELD("unhealthy_interval", parse_unhealthy_interval),
	    CFG_FIELD("unhealthy_edge_interval", parse_unhealthy_edge),
	    CFG_FIELD("healthy_edge_interval", parse_healthy_edge),
	    CFG_FIELD("initial_jitter", parse_initial_jitter),
	    CFG_FIELD("interval_jitter", parse_jitter),
	    CFG_FIELD("interval_jitter_percent", parse_jitter_percent),
	    CFG_FIELD("unhealthy_threshold", parse_unhealthy_threshold),
	    CFG_FIELD("healthy_threshold", parse_healthy_threshold),
	    CFG_FIELD("alt_port", parse_alt_port),
	    CFG_FIELD("http_health_check", parse_http),
	    CFG_FIELD("grpc_health_check", parse_grpc),
	    CFG_FIELD("tcp_health_check", parse_tcp),
	    /* Each check has a connection of its own. */
	    CFG_SKIP("reuse_connection"),
	    CFG_UNHONOURED("custom_health_check", "checks are TCP, HTTP or gRPC"),
	    CFG_UNHONOURED("no_traffic_interval", always),
	    CFG_UNHONOURED("no_traffic_healthy_interval", always),
	    CFG_UNHONOURED("tls_options", "checks are in the clear"),
	    CFG_UNHONOURED("transport_socket_match_criteria", "checks are in the clear"),
	    CFG_UNHONOURED("event_log_path", in_log),
	    CFG_UNHONOURED("event_logger", in_log),
	    CFG_UNHONOURED("event_service", in_log),
	    CFG_UNHONOURED("always_log_health_check_failures", in_log),
	    CFG_UNHONOURED("always_log_health_check_success", in_log),
	};
	static const char *const kinds[] = {"tcp_health_check", "http_health_check",
					    "grpc_health_check"};
	struct flat_health_check *c = obj;
	uint32_t errors = cfg->diags->n_errors;
	uint32_t n = 0;

	c->where = node->where;
	c->method = "GET";
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), c);
	if (cfg->diags->n_errors != errors)
		return;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(kinds); i++)
		n += yaml_get(node, kinds[i]) != NULL;
	if (n != 1)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "give one of tcp_health_check, http_health_check, grpc_health_check",
			  "a health check of %s", n ? "several kinds" : "no kind");
	if (!c->timeout_ms || !c->interval_ms || !c->unhealthy_threshold || !c->healthy_threshold)
		cfg_error(cfg, &node->where, FLAT_DIAG_MISSING,
			  "give timeout, interval, unhealthy_threshold and healthy_threshold",
			  "a health check that does not say how often, or how many");
	set_default(&c->unhealthy_ms, c->interval_ms);
	set_default(&c->unhealthy_edge_ms, c->unhealthy_ms);
	set_default(&c->healthy_edge_ms, c->interval_ms);
}

/* --- the patch around it --- */

static void parse_service(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->host = cfg_host(cfg, node, true);
}

static void parse_number(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	check_of(obj)->port = cfg_port(cfg, node);
}

/* "outbound|80|SUBSET|HOST" */
static void parse_name(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_health_check *c = obj;
	const char *text = cfg_string(cfg, node);
	const char *host = text ? strrchr(text, '|') : NULL;
	char *end = NULL;
	unsigned long port = 0;

	if (!text)
		return;
	if (host && strncmp(text, "outbound|", 9) == 0)
		port = strtoul(text + 9, &end, 10);
	if (port < 1 || port > 65535 || *end != '|' || end == host || host[1] == 0) {
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE,
			  "write outbound|PORT||HOST, or use service and portNumber",
			  "\"%.200s\" is the name of no cluster to a service", text);
		return;
	}
	if (end + 1 != host)
		cfg_warn(cfg, &node->where, FLAT_DIAG_NOT_HONOURED, NULL,
			 "the subset is not honoured: checks are for all endpoints of a port");
	c->port = (uint16_t)port;
	c->host = host + 1;
}

static void parse_cluster(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("name", parse_name),
	    CFG_FIELD("service", parse_service),
	    CFG_FIELD("portNumber", parse_number),
	    CFG_UNHONOURED("subset", "checks are for all endpoints of a port"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_match(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("context"),
	    CFG_UNHONOURED("proxy", "there are no proxies"),
	    CFG_FIELD("cluster", parse_cluster),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_panic(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_health_check *c = obj;

	c->panics = true;
	c->panic_percent = cfg_percentage(cfg, node) / 10000;
}

/* Of a cluster whatever else is in the patch stays as it is. */
static void read_cluster(struct cfg *cfg, const struct yaml_node *value,
			 struct flat_health_check *c)
{
	static const struct cfg_field common[] = {
	    CFG_FIELD("healthy_panic_threshold", parse_panic)};
	const struct yaml_item *item;

	for (item = value->first; item; item = item->next) {
		const char *key = item->key->text;

		if (strcmp(key, "health_checks") == 0)
			continue;
		if (strcmp(key, "common_lb_config") == 0)
			cfg_map(cfg, item->value, common, FLAT_ARRAY_SIZE(common), c);
		else
			cfg_warn(cfg, &item->key->where, FLAT_DIAG_NOT_HONOURED, NULL,
				 "field \"%.100s\" of a cluster is not honoured: of EnvoyFilters "
				 "for clusters only health_checks are",
				 key);
	}
}

bool cfg_is_health_patch(const struct yaml_node *patch)
{
	const struct yaml_node *value =
	    cfg_at(patch, (const char *const[]){"patch", "value", NULL});

	return cfg_is_text(yaml_get(patch, "applyTo"), "CLUSTER") && value &&
	       value->kind == YAML_MAP && yaml_get(value, "health_checks");
}

void cfg_health_patch(struct cfg *cfg, const struct yaml_node *patch, bool selected)
{
	static const struct cfg_field fields[] = {
	    CFG_SKIP("applyTo"),
	    CFG_FIELD("match", parse_match),
	    CFG_SKIP("patch"),
	};
	static const char *const names[] = {"ANY", "SIDECAR_OUTBOUND", "GATEWAY"};
	const struct yaml_node *value =
	    cfg_at(patch, (const char *const[]){"patch", "value", NULL});
	const struct yaml_node *checks = yaml_get(value, "health_checks");
	const struct yaml_node *context =
	    cfg_at(patch, (const char *const[]){"match", "context", NULL});
	const struct yaml_node *operation =
	    cfg_at(patch, (const char *const[]){"patch", "operation", NULL});
	uint32_t errors = cfg->diags->n_errors;
	struct flat_health_check *c;
	bool outbound = !context;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(names); i++)
		outbound |= cfg_is_text(context, names[i]);
	if (!outbound || !cfg_is_text(operation, "MERGE")) {
		cfg_warn(cfg, &patch->where, FLAT_DIAG_NOT_HONOURED,
			 "use context SIDECAR_OUTBOUND, and operation MERGE",
			 "the patch is not honoured: health checks are merged into clusters of "
			 "clients");
		return;
	}
	if (!cfg_expect(cfg, checks, YAML_LIST) || checks->n == 0)
		return;
	if (checks->n > 1)
		cfg_warn(cfg, &checks->first->next->value->where, FLAT_DIAG_NOT_HONOURED,
			 "remove it", "of several health checks the first alone holds");
	if (selected)
		cfg_warn(cfg, &patch->where, FLAT_DIAG_NOT_HONOURED, "remove workloadSelector",
			 "health checks hold for all clients of this host, whichever are selected");
	c = cfg_array(cfg, 1, sizeof(*c));
	if (!c)
		return;
	c->name = cfg->name;
	c->namespace = cfg->namespace;
	parse_check(cfg, checks->first->value, c);
	cfg_map(cfg, patch, fields, FLAT_ARRAY_SIZE(fields), c);
	read_cluster(cfg, value, c);
	if (cfg->diags->n_errors == errors && flat_mesh_add_health(cfg->mesh, c) != 0)
		cfg->oom = true;
}
