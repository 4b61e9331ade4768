/*
 * Overrides of metrics: which of a workload's metrics are told, and with which labels. As they are written in Telemetry, and what
 * follows of them for a workload as a client and as a server. Sources: istio.io reference "Telemetry"; for what a narrower
 * resource inherits, Istio's own merging.
 */
#ifndef FLAT_MESH_MEASURE_H
#define FLAT_MESH_MEASURE_H

#include "mesh/cel.h"

/* Labels that one override sets or takes away, and all those that hold for a workload and metric. */
#define FLAT_METRIC_TAGS_MAX 32U
/* Bytes of a label's name: Istio's longest has 30. */
#define FLAT_METRIC_NAME_MAX 64U

enum flat_metric {
	FLAT_METRIC_REQUESTS,
	FLAT_METRIC_DURATION,
	FLAT_METRIC_REQUEST_BYTES,
	FLAT_METRIC_RESPONSE_BYTES,
	FLAT_METRIC_TCP_OPENED,
	FLAT_METRIC_TCP_CLOSED,
	FLAT_METRIC_TCP_SENT,
	FLAT_METRIC_TCP_RECEIVED,
	FLAT_METRIC_REQUEST_MESSAGES, /* of gRPC calls: counted as they go by */
	FLAT_METRIC_RESPONSE_MESSAGES,
	FLAT_METRICS,
	FLAT_METRICS_HTTP = FLAT_METRIC_TCP_OPENED, /* those before are of requests that are over */
	FLAT_METRICS_CONN = FLAT_METRIC_REQUEST_MESSAGES, /* those between are of connections */
};

/* A label. */
struct flat_metric_tag {
	const char *name;
	const struct flat_cel *value; /* NULL: the label is taken away */
};

/* As it is written. */
struct flat_metric_override {
	unsigned metrics; /* bits by enum flat_metric */
	bool all;	  /* ALL_METRICS */
	unsigned modes;	  /* enum flat_side_mode */
	bool says_disabled, disabled;
	const struct flat_metric_tag *tags;
	uint32_t n_tags;
};

struct flat_metric_rule {
	bool disabled;
	/* In the order of their names; those of two metrics are the same array where they are the same. */
	const struct flat_metric_tag *tags;
	uint32_t n_tags;
};

/* What holds for a workload on one side. */
struct flat_metric_rules {
	struct flat_metric_rule of[FLAT_METRICS];
	bool labels_http;   /* some metric of requests has labels of its own */
	bool computes_http; /* and some of their values are not the same for all */
	const char *owner;  /* "NAMESPACE/NAME as a client", for people and for bounds */
	const struct flat_telemetry *by; /* the last that said something; NULL: MeshConfig */
};

#endif
