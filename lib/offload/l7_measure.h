/*
 * Metrics of workloads whose Telemetry overrides them: labels of one's own, or none at all. What happened is told as an access log
 * tells it (access.h), labels are computed of that, and counted in offload/measures.h. Control thread.
 */
#ifndef FLAT_OFFLOAD_L7_MEASURE_H
#define FLAT_OFFLOAD_L7_MEASURE_H

#include "offload/l7_engine.h"

/* How a request ended, as far as labels tell it. */
struct flat_l7_outcome {
	uint16_t status;
	uint16_t verdict;
	int16_t grpc; /* status of a gRPC call, -1: none was seen; else 0 */
	uint16_t is_grpc;
};

/* The labels of Istio's metrics of requests, and the texts that they refer to. */
struct flat_l7_labels {
	struct flat_metric_labels labels;
	char code[8], grpc[8];
};

void flat_l7_labels(const struct flat_series *base, bool source,
		    const struct flat_l7_outcome *outcome, struct flat_l7_labels *out);

/**
 * Counts a request that is over, whose x.joined is known, by the rules of its two sides: duration (ms), bytes of the request and of
 * the response. false: neither has any, and nothing was counted. node->observes.
 */
bool flat_l7_measure(struct flat_l7 *l7, const struct flat_l7_outcome *outcome,
		     const double values[3]);

#endif
