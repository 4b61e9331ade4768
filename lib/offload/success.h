/*
 * How requests fared in the last seconds, and how many of the next ones admission control refuses for it.
 * Source: Envoy's documentation of the admission control filter. Owner: whoever holds it; no lock.
 */
#ifndef FLAT_OFFLOAD_SUCCESS_H
#define FLAT_OFFLOAD_SUCCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "mesh/filter.h"

struct flat_success_second {
	uint32_t requests, successes;
};

struct flat_success {
	struct flat_success_second *v; /* of n seconds: second S is at S % n */
	uint32_t n;
	int64_t newest;		      /* the last second that was looked at */
	int64_t oldest;		      /* the first that has requests; newest where none has */
	uint64_t requests, successes; /* of all of them */
};

/** Remembers `seconds` (at least 1). 0 or -ENOMEM; then it is as zeroed. */
FLAT_MUST_CHECK int flat_success_init(struct flat_success *s, uint32_t seconds);
void flat_success_fini(struct flat_success *s);
/** Forgets what is too old at `now_us`, a monotonic time. */
void flat_success_look(struct flat_success *s, int64_t now_us);
/** A request ended. */
void flat_success_note(struct flat_success *s, int64_t now_us, bool good);
/** Requests per second, on average since the oldest that is remembered. After flat_success_look(). */
uint32_t flat_success_rate(const struct flat_success *s);
/** How many of 10000 requests are refused after flat_success_look(); Envoy's measure of chance is as fine. */
uint32_t flat_success_refused(const struct flat_success *s, const struct flat_admission *filter);

#endif
