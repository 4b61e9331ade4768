/* connectionPool, outlierDetection, retryBudget of a trafficPolicy. */
#include "control/http_common.h"
#include "control/traffic_policy.h"

/* --- connectionPool --- */

/* As in Istio, 0 says nothing. */
static void read_bound(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, INT32_MAX, &n) && n > 0)
		*out = (uint32_t)n;
}

#define BOUND(fn, member)                                                                          \
	static void fn(struct cfg *cfg, const struct yaml_node *node, void *obj)                   \
	{                                                                                          \
		read_bound(cfg, node, &((struct flat_breaker *)obj)->member);                      \
	}
BOUND(parse_max_connections, max_connections)
BOUND(parse_max_pending, max_pending)
BOUND(parse_max_requests, max_requests)
BOUND(parse_max_retries, max_retries)
BOUND(parse_per_connection, max_per_connection)

static void parse_connect_timeout(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_breaker *)obj)->connect_ms);
}

static void parse_http_idle(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	(void)cfg_duration_ms(cfg, node, &((struct flat_breaker *)obj)->idle_ms);
}

static void parse_pool_tcp(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("maxConnections", parse_max_connections),
	    CFG_FIELD("connectTimeout", parse_connect_timeout),
	    CFG_UNHONOURED("tcpKeepalive", "the kernel's settings hold (net.ipv4.tcp_keepalive_*)"),
	    CFG_UNHONOURED("maxConnectionDuration", "a connection may last"),
	    CFG_UNHONOURED("idleTimeout", "a connection may rest"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

static void parse_pool_http(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("http1MaxPendingRequests", parse_max_pending),
	    CFG_FIELD("http2MaxRequests", parse_max_requests),
	    CFG_FIELD("maxRequestsPerConnection", parse_per_connection),
	    CFG_FIELD("maxRetries", parse_max_retries),
	    CFG_FIELD("idleTimeout", parse_http_idle),
	    CFG_UNHONOURED("h2UpgradePolicy", "servers are spoken to as their port says"),
	    CFG_UNHONOURED("useClientProtocol", "servers are spoken to as their port says"),
	    CFG_UNHONOURED("maxConcurrentStreams", "http2MaxRequests bounds the requests"),
	    CFG_UNHONOURED("http2KeepAlive", "connections to servers are not pinged"),
	};

	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), obj);
}

const struct flat_breaker *cfg_connection_pool(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("tcp", parse_pool_tcp),
	    CFG_FIELD("http", parse_pool_http),
	};
	struct flat_breaker *b = cfg_array(cfg, 1, sizeof(*b));

	if (!b)
		return NULL;
	b->max_connections = b->max_pending = b->max_requests = b->max_retries = FLAT_UNBOUNDED;
	b->where = node->where;
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), b);
	return b;
}

/* --- outlierDetection --- */

static void read_count(struct cfg *cfg, const struct yaml_node *node, uint64_t max, uint32_t *out)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, max, &n))
		*out = (uint32_t)n;
}

#define COUNT(fn, member, max)                                                                     \
	static void fn(struct cfg *cfg, const struct yaml_node *node, void *obj)                   \
	{                                                                                          \
		read_count(cfg, node, max, &((struct flat_outlier *)obj)->member);                 \
	}
COUNT(parse_5xx, consecutive_5xx, UINT32_MAX)
COUNT(parse_gateway, consecutive_gateway, UINT32_MAX)
COUNT(parse_local, consecutive_local, UINT32_MAX)
COUNT(parse_min_health, min_health, 100)

/* As in Istio, 0 says nothing. */
static void parse_max_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	uint64_t n;

	if (cfg_uint(cfg, node, 0, 100, &n) && n > 0)
		((struct flat_outlier *)obj)->max_percent = (uint32_t)n;
}

static void parse_split(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	((struct flat_outlier *)obj)->split = cfg_bool(cfg, node);
}

static void read_time(struct cfg *cfg, const struct yaml_node *node, uint32_t *out)
{
	uint32_t ms;

	if (!cfg_duration_ms(cfg, node, &ms))
		return;
	if (ms == 0)
		cfg_error(cfg, &node->where, FLAT_DIAG_BAD_VALUE, "write 1ms or more",
			  "a duration of nothing");
	else
		*out = ms;
}

static void parse_interval(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_time(cfg, node, &((struct flat_outlier *)obj)->interval_ms);
}

static void parse_base(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_time(cfg, node, &((struct flat_outlier *)obj)->base_ms);
}

const struct flat_outlier *cfg_outlier(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("consecutive5xxErrors", parse_5xx),
	    CFG_FIELD("consecutiveGatewayErrors", parse_gateway),
	    CFG_FIELD("consecutiveLocalOriginFailures", parse_local),
	    CFG_FIELD("splitExternalLocalOriginErrors", parse_split),
	    CFG_FIELD("interval", parse_interval),
	    CFG_FIELD("baseEjectionTime", parse_base),
	    CFG_FIELD("maxEjectionPercent", parse_max_percent),
	    CFG_FIELD("minHealthPercent", parse_min_health),
	    CFG_UNHONOURED("consecutiveErrors", "use consecutive5xxErrors"),
	    CFG_UNHONOURED("outlierDetectionHttpErrorCodes", "answers of 500 and more are errors"),
	};
	struct flat_outlier *o = cfg_array(cfg, 1, sizeof(*o));

	if (!o)
		return NULL;
	/* Istio's defaults. */
	*o = (struct flat_outlier){
	    .consecutive_5xx = 5,
	    .consecutive_local = 5,
	    .interval_ms = 10000,
	    .base_ms = 30000,
	    .max_percent = 10,
	    .where = node->where,
	};
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), o);
	return o;
}

/* --- retryBudget --- */

static void parse_budget_percent(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	struct flat_retry_budget *b = obj;

	/* A number; wrapped, as percentages of other fields are, it is understood as well. */
	b->percent = node->kind == YAML_MAP ? cfg_percentage(cfg, node) : cfg_millionths(cfg, node);
}

static void parse_budget_min(struct cfg *cfg, const struct yaml_node *node, void *obj)
{
	read_count(cfg, node, UINT32_MAX, &((struct flat_retry_budget *)obj)->min);
}

const struct flat_retry_budget *cfg_retry_budget(struct cfg *cfg, const struct yaml_node *node)
{
	static const struct cfg_field fields[] = {
	    CFG_FIELD("percent", parse_budget_percent),
	    CFG_FIELD("minRetryConcurrency", parse_budget_min),
	    CFG_UNHONOURED("budgetInterval", "the requests that are on their way count"),
	};
	struct flat_retry_budget *b = cfg_array(cfg, 1, sizeof(*b));

	if (!b)
		return NULL;
	/* Istio's and Envoy's defaults: 20 %, three. */
	*b = (struct flat_retry_budget){.percent = FLAT_MILLION / 5, .min = 3};
	cfg_map(cfg, node, fields, FLAT_ARRAY_SIZE(fields), b);
	return b;
}
