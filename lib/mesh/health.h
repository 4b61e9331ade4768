/*
 * Active health checks: EnvoyFilters that merge `health_checks` into clusters. What is asked of endpoints, and what follows
 * from what they answer. Source: Envoy's "Health checking" and core.v3.HealthCheck; HealthCheckerImplBase for the details.
 */
#ifndef FLAT_MESH_HEALTH_H
#define FLAT_MESH_HEALTH_H

#include "mesh/route.h"

/* Headers of one check: as many as configuration takes. */
#define FLAT_HEALTH_HEADERS_MAX 100U

enum flat_health_kind {
	FLAT_HEALTH_TCP,
	FLAT_HEALTH_HTTP,
	FLAT_HEALTH_GRPC,
};

struct flat_status_range {
	uint64_t from, to; /* to: the first that is not in it */
};

struct flat_status_ranges {
	const struct flat_status_range *v;
	uint32_t n;
};

struct flat_payload {
	const uint8_t *bytes;
	uint32_t len;
};

struct flat_health_check {
	const char *name, *namespace; /* of the EnvoyFilter */
	/* Whose endpoints: NULL and 0 are any. */
	const char *host;
	uint16_t port;
	enum flat_health_kind kind;
	uint32_t timeout_ms;
	uint32_t interval_ms;
	uint32_t unhealthy_ms;	    /* between checks of one that failed */
	uint32_t unhealthy_edge_ms; /* of a good one with failures, fewer than the threshold */
	uint32_t healthy_edge_ms;   /* of a failed one with successes, likewise */
	uint32_t initial_jitter_ms, jitter_ms, jitter_percent; /* by chance, up to that */
	uint32_t unhealthy_threshold, healthy_threshold;
	uint16_t alt_port; /* 0: the endpoint's own */
	bool panics;	   /* panic_percent is said */
	uint32_t panic_percent;
	/* HTTP */
	const char *authority; /* also of gRPC; NULL: the service's host */
	const char *path, *method;
	bool http2;
	struct flat_status_ranges expected; /* none: 200 */
	struct flat_status_ranges retriable;
	struct flat_name_value *headers; /* also of gRPC */
	uint32_t n_headers;
	/* gRPC */
	const char *grpc_service; /* NULL: the server as a whole */
	/* TCP */
	struct flat_payload send;
	struct flat_payload *receive; /* all of them, in this order; none: a connection is enough */
	uint32_t n_receive;
	struct flat_where where;
};

struct flat_mesh;

uint32_t flat_mesh_n_health(const struct flat_mesh *mesh);

/** Adds one, from the mesh's pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_health(struct flat_mesh *mesh, struct flat_health_check *check);

/** The check of a port of a service; NULL: none. */
const struct flat_health_check *flat_service_health(const struct flat_service *service,
						    const struct flat_service_port *port);

/** "TCP", "HTTP", "gRPC". */
const char *flat_health_kind_name(enum flat_health_kind kind);

/* --- what follows from checks --- */

enum flat_health_result {
	FLAT_HEALTH_PASSED,
	FLAT_HEALTH_REFUSED, /* it says itself that it is not well: at once */
	FLAT_HEALTH_SILENT,  /* no connection, no answer, or one that may pass: by the threshold */
};

/* What is known of one endpoint. All zero: nothing, it is taken for well until its first check. */
struct flat_health_state {
	bool checked;
	bool failed;
	uint32_t good, bad; /* in a row, towards a change */
};

/** What an HTTP check's status means. */
enum flat_health_result flat_health_of_status(const struct flat_health_check *check,
					      unsigned status);

/**
 * Counts a result; how long until the next check, ms, without jitter. The first result ever decides alone; afterwards
 * changes are as `failed` says.
 */
uint32_t flat_health_note(const struct flat_health_check *check, struct flat_health_state *state,
			  enum flat_health_result result);

#endif
