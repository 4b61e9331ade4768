/*
 * Telemetry: what is told of whose requests and connections, and to whom. Providers come from MeshConfig, Telemetry
 * resources say who uses them; what holds for a workload is found when the mesh is finished. Sources: istio.io references
 * "Telemetry" and "Global Mesh Options"; for what a narrower resource inherits, Istio's own merging.
 */
#ifndef FLAT_MESH_TELEMETRY_H
#define FLAT_MESH_TELEMETRY_H

#include "mesh/cel.h"
#include "mesh/log_format.h"
#include "mesh/measure.h"
#include "mesh/route.h"

/* Providers that one resource names: a file and a collector are usual. */
#define FLAT_TELEMETRY_PROVIDERS_MAX 16U
/* Tags of a span that are configured. */
#define FLAT_TELEMETRY_TAGS_MAX 64U
/* Istio's, where nothing is said: one request of a hundred. */
#define FLAT_TRACE_SAMPLING_DEFAULT 10000U
/* Istio's name of the provider that MeshConfig's own accessLog fields describe. */
#define FLAT_PROVIDER_ENVOY "envoy"

enum flat_telemetry_kind {
	FLAT_PROVIDER_FILE_LOG,
	FLAT_PROVIDER_TRACES,
	FLAT_PROVIDER_PROMETHEUS, /* flatd's own port */
	FLAT_PROVIDER_UNUSED,	  /* what Istio knows and is not honoured here */
};

struct flat_telemetry_provider {
	const char *name;
	enum flat_telemetry_kind kind;
	/* FILE_LOG */
	const char *path;
	const struct flat_log_format *format;
	/* TRACES: OTLP to a service */
	const char *host, *namespace; /* namespace NULL: any */
	uint16_t port;
	const struct flat_service *service; /* after flat_mesh_finish(); NULL: there is none */
	const char *http_path;		    /* NULL: over gRPC */
	uint32_t timeout_ms;
	struct flat_name_value *headers; /* of HTTP */
	uint32_t n_headers;
	uint32_t max_tag_bytes;
	uint32_t index; /* among the mesh's */
	struct flat_where where;
};

/* Whose sidecar would tell it. */
enum flat_side_mode {
	FLAT_MODE_CLIENT = 1 << 0,
	FLAT_MODE_SERVER = 1 << 1,
	FLAT_MODE_BOTH = FLAT_MODE_CLIENT | FLAT_MODE_SERVER,
};

/* --- as it is written --- */

enum flat_tag_from {
	FLAT_TAG_LITERAL, /* of the environment too: it was read with the configuration */
	FLAT_TAG_HEADER,  /* of the request */
};

struct flat_trace_tag {
	const char *name;
	enum flat_tag_from from;
	const char *value;  /* LITERAL; HEADER: the header's name */
	const char *absent; /* HEADER: without it; NULL: no tag */
};

/* One item of accessLogging, tracing or metrics. */
struct flat_telemetry_item {
	unsigned modes; /* enum flat_side_mode; of metrics each override has its own */
	const char *const *providers;
	uint32_t n_providers; /* 0: those of the wider resource */
	bool says_disabled, disabled;
	const struct flat_cel *filter; /* of a log; NULL: all */
	bool says_sampling;
	uint32_t of_million;
	const struct flat_trace_tag *tags; /* NULL: those of the wider resource */
	uint32_t n_tags;
	const struct flat_metric_override *overrides;
	uint32_t n_overrides;
	struct flat_where where;
};

struct flat_policy_targets;

struct flat_telemetry {
	const char *name, *namespace;
	struct flat_policy_targets *targets; /* NULL: by the selector */
	struct flat_labels selector;
	const struct flat_telemetry_item *logging;
	uint32_t n_logging;
	const struct flat_telemetry_item *tracing;
	uint32_t n_tracing;
	const struct flat_telemetry_item *metrics;
	uint32_t n_metrics;
	struct flat_where where;
};

/* What MeshConfig says for all. */
struct flat_telemetry_defaults {
	const char *log_path; /* accessLogFile; NULL or "": none */
	const char *log_format;
	bool log_json;
	struct flat_where format_where;
	const char *const *logging; /* defaultProviders */
	uint32_t n_logging;
	const char *const *tracing;
	uint32_t n_tracing;
	const char *const *metrics; /* none: prometheus */
	uint32_t n_metrics;
	bool says_sampling; /* defaultConfig.tracing.sampling */
	uint32_t of_million;
};

/* --- what follows of it --- */

struct flat_log_rule {
	const struct flat_telemetry_provider *provider;
	const struct flat_cel *filter;	 /* NULL: all */
	const struct flat_telemetry *by; /* NULL: MeshConfig */
};

struct flat_trace_rule {
	const struct flat_telemetry_provider *provider;
	uint32_t of_million;
	bool report;
	const struct flat_trace_tag *tags;
	uint32_t n_tags;
	const struct flat_telemetry *by; /* NULL: MeshConfig */
};

/* Of a workload, as a client or as a server. */
struct flat_observation {
	const struct flat_log_rule *logs;
	uint32_t n_logs;
	const struct flat_trace_rule *trace;	 /* NULL: none */
	const struct flat_metric_rules *metrics; /* NULL: all, with Istio's labels */
};

struct flat_mesh;

/** Whether anything is told of anybody: else nothing has to be remembered of requests. */
bool flat_mesh_observes(const struct flat_mesh *mesh);

/** Whether some request is logged or traced, so that requests want an id. */
bool flat_mesh_tells(const struct flat_mesh *mesh);

/** Calls `each` for every expression that Telemetry resources have. */
void flat_mesh_each_expression(const struct flat_mesh *mesh,
			       void each(void *arg, const struct flat_cel *cel), void *arg);

/**
 * What is told of a workload's requests and connections (NULL: of one that has none) in this mode. Never NULL: what is told
 * of nobody is all-zero.
 */
const struct flat_observation *flat_mesh_observation(const struct flat_mesh *mesh,
						     const struct flat_workload *workload,
						     enum flat_side_mode mode);

/** Number of providers, and one of them. */
uint32_t flat_mesh_n_telemetry_providers(const struct flat_mesh *mesh);
const struct flat_telemetry_provider *flat_mesh_telemetry_provider(const struct flat_mesh *mesh,
								   uint32_t i);

/* --- building --- */

/** The provider of a name, or NULL. */
struct flat_telemetry_provider *flat_mesh_telemetry_provider_by_name(const struct flat_mesh *mesh,
								     const char *name);

FLAT_MUST_CHECK int flat_mesh_add_telemetry_provider(struct flat_mesh *mesh,
						     struct flat_telemetry_provider *provider);
FLAT_MUST_CHECK int flat_mesh_add_telemetry(struct flat_mesh *mesh,
					    struct flat_telemetry *telemetry);
/** What MeshConfig says, to be filled in; zeroed at first. */
struct flat_telemetry_defaults *flat_mesh_telemetry_defaults(struct flat_mesh *mesh);

#endif
