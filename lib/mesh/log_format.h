/*
 * Formats of access logs: Envoy's command operators, in a line of text or in an object of JSON. What is said here is data;
 * lib/offload/access_format.c writes lines by it. Source: Envoy, "Access logging", command operators.
 */
#ifndef FLAT_MESH_LOG_FORMAT_H
#define FLAT_MESH_LOG_FORMAT_H

#include <stdbool.h>

#include "base/pool.h"
#include "codec/http.h"

/* Pieces of one text: Istio's default has 47. */
#define FLAT_LOG_OPS_MAX 256U
/* Objects within objects. */
#define FLAT_LOG_DEPTH_MAX 8U

enum flat_log_command {
	FLAT_LOG_TEXT,	     /* argument: as it is */
	FLAT_LOG_START_TIME, /* argument: as strftime(), and %f, %1f to %9f; NULL: ISO 8601, ms */
	FLAT_LOG_REQ,	     /* argument, other: names of headers */
	FLAT_LOG_RESP,
	FLAT_LOG_ENVIRONMENT, /* argument: its value, when the format was read */
	FLAT_LOG_PROTOCOL,
	FLAT_LOG_RESPONSE_CODE,
	FLAT_LOG_RESPONSE_FLAGS,
	FLAT_LOG_RESPONSE_CODE_DETAILS,
	FLAT_LOG_BYTES_RECEIVED,
	FLAT_LOG_BYTES_SENT,
	FLAT_LOG_DURATION,
	FLAT_LOG_REQUEST_DURATION,
	FLAT_LOG_RESPONSE_DURATION,
	FLAT_LOG_RESPONSE_TX_DURATION,
	FLAT_LOG_UPSTREAM_HOST,
	FLAT_LOG_UPSTREAM_HOST_IP,
	FLAT_LOG_UPSTREAM_HOST_PORT,
	FLAT_LOG_UPSTREAM_CLUSTER,
	FLAT_LOG_DOWNSTREAM_LOCAL,
	FLAT_LOG_DOWNSTREAM_LOCAL_IP,
	FLAT_LOG_DOWNSTREAM_LOCAL_PORT,
	FLAT_LOG_DOWNSTREAM_REMOTE,
	FLAT_LOG_DOWNSTREAM_REMOTE_IP,
	FLAT_LOG_DOWNSTREAM_REMOTE_PORT,
	FLAT_LOG_REQUESTED_SERVER_NAME,
	FLAT_LOG_ROUTE_NAME,
	FLAT_LOG_TRACE_ID,
	FLAT_LOG_GRPC_STATUS,
	FLAT_LOG_GRPC_STATUS_NUMBER,
	FLAT_LOG_HOSTNAME,
	FLAT_LOG_CONNECTION_ID,
	FLAT_LOG_ATTEMPTS,
	FLAT_LOG_CLIENT_PRINCIPAL,
	FLAT_LOG_SERVER_PRINCIPAL,
	FLAT_LOG_NOTHING, /* what Envoy knows and is never there here */
};

struct flat_log_op {
	enum flat_log_command command;
	uint32_t max; /* bytes of the value; 0: no bound */
	struct flat_span argument;
	struct flat_span other;
};

/* A text, or (of JSON) an object. */
struct flat_log_node {
	const char *key; /* in its object; NULL: at the top */
	const struct flat_log_op *ops;
	uint32_t n_ops;
	const struct flat_log_node *fields;
	uint32_t n_fields;
};

struct flat_log_format {
	bool json;
	bool omit_empty; /* what is not there is left out, instead of "-" or null */
	struct flat_log_node root;
};

/**
 * Reads one text with operators. 0; -EINVAL with what is wrong in *why (static) and where in *at (bytes); -ENOMEM. Bit i of
 * *missing is set for the i-th operator (up to 64) that is never there here.
 */
FLAT_MUST_CHECK int flat_log_format_text(struct flat_pool *pool, const char *text,
					 struct flat_log_node *node, const char **why, size_t *at,
					 uint64_t *missing);

/** Istio's formats, where nothing else is said. Immutable; NULL without memory. */
const struct flat_log_format *flat_log_format_default(struct flat_pool *pool, bool json);

/** Whether some operator of the format is this one. */
bool flat_log_format_has(const struct flat_log_format *format, enum flat_log_command command);

#endif
