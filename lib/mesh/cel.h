/*
 * Expressions over a request or connection, for filters of access logs: the part of CEL that such filters are written in.
 * Attributes have Envoy's names. Sources: cel-spec, langdef; Envoy, "Attributes". Compiled once into a pool, then evaluated
 * without allocation; every loop is bounded by the expression's size, and regular expressions are linear (mesh/regex.h).
 */
#ifndef FLAT_MESH_CEL_H
#define FLAT_MESH_CEL_H

#include <stdbool.h>

#include "base/pool.h"
#include "codec/http.h"

/* Nodes of an expression, and how deep they are nested: what people write has a dozen. */
#define FLAT_CEL_NODES_MAX 256U
#define FLAT_CEL_DEPTH_MAX 32U

enum flat_cel_type {
	FLAT_CEL_ABSENT, /* no such value, or an error: CEL's own rules for errors hold */
	FLAT_CEL_BOOL,
	FLAT_CEL_INT,
	FLAT_CEL_TIME, /* a duration, nanoseconds */
	FLAT_CEL_TEXT,
};

struct flat_cel_value {
	enum flat_cel_type type;
	int64_t number; /* BOOL, INT, TIME */
	struct flat_span text;
};

enum flat_cel_attribute {
	FLAT_CEL_REQUEST_PATH, /* with the query */
	FLAT_CEL_REQUEST_URL_PATH,
	FLAT_CEL_REQUEST_HOST,
	FLAT_CEL_REQUEST_SCHEME,
	FLAT_CEL_REQUEST_METHOD,
	FLAT_CEL_REQUEST_HEADERS, /* with a key */
	FLAT_CEL_REQUEST_REFERER,
	FLAT_CEL_REQUEST_USERAGENT,
	FLAT_CEL_REQUEST_ID,
	FLAT_CEL_REQUEST_PROTOCOL,
	FLAT_CEL_REQUEST_QUERY,
	FLAT_CEL_REQUEST_DURATION,
	FLAT_CEL_REQUEST_SIZE,
	FLAT_CEL_RESPONSE_CODE,
	FLAT_CEL_RESPONSE_CODE_DETAILS,
	FLAT_CEL_RESPONSE_GRPC_STATUS,
	FLAT_CEL_RESPONSE_HEADERS, /* with a key */
	FLAT_CEL_RESPONSE_SIZE,
	FLAT_CEL_SOURCE_ADDRESS,
	FLAT_CEL_SOURCE_PORT,
	FLAT_CEL_DESTINATION_ADDRESS,
	FLAT_CEL_DESTINATION_PORT,
	FLAT_CEL_CONNECTION_MTLS,
	FLAT_CEL_CONNECTION_SNI,
	FLAT_CEL_UPSTREAM_ADDRESS,
	FLAT_CEL_UPSTREAM_PORT,
	FLAT_CEL_ROUTE_NAME,
	FLAT_CEL_CLUSTER_NAME,
	FLAT_CEL_ATTRIBUTES,
};

/** Writes the value of an attribute to *out, which is ABSENT; `key` of a header. Texts live until the evaluation is over. */
typedef void flat_cel_lookup_fn(void *arg, enum flat_cel_attribute attribute, struct flat_span key,
				struct flat_cel_value *out);

struct flat_cel;

/**
 * Compiles `text`; memory comes from `pool`. NULL: *why says what is not understood (static text), or is NULL for want of
 * memory.
 */
struct flat_cel *flat_cel_compile(struct flat_pool *pool, const char *text, const char **why);

/** Whether the expression is true. One that is an error, or no truth value, is not. */
bool flat_cel_holds(const struct flat_cel *cel, flat_cel_lookup_fn *lookup, void *arg);

/** What the expression says. Texts live as long as what `lookup` gave, or the expression. */
struct flat_cel_value flat_cel_eval(const struct flat_cel *cel, flat_cel_lookup_fn *lookup,
				    void *arg);

/** Whether it says the same of everything: nobody's request has a say in it. */
bool flat_cel_is_literal(const struct flat_cel *cel);

/** Calls `each` for every key of an attribute that has keys, where it is written as a text. */
void flat_cel_keys(const struct flat_cel *cel, enum flat_cel_attribute attribute,
		   void each(void *arg, struct flat_span key), void *arg);

/** The expression as it was written. */
const char *flat_cel_text(const struct flat_cel *cel);

#endif
