/*
 * Requests by service and route, for `flatctl top --http`: how many, how many failed, and how long they took, in buckets of a
 * quarter of a power of two, so that a quantile is at most an eighth off. Control thread.
 */
#ifndef FLAT_OFFLOAD_TALLY_H
#define FLAT_OFFLOAD_TALLY_H

#include "offload/l7_engine.h"

/* From 1 us to more than an hour. */
#define FLAT_TALLY_BUCKETS 128U
/* Pairs of service and route; what comes later is counted together. */
#define FLAT_TALLIES_MAX 1024U

/** The bucket of a duration. */
unsigned flat_tally_bucket(int64_t us);
/** The shortest duration of a bucket, us. */
double flat_tally_least_us(unsigned bucket);

/** A request is over: x.record says how. */
void flat_tally_count(struct flat_l7 *l7, int64_t us);
void flat_tally_fini(struct flat_l7_node *node);

#endif
