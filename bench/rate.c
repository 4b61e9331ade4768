/* SPDX-License-Identifier: Apache-2.0 */
/* Message rate: eight bytes in each send(), a counter; the server checks each and says how many there were. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "clock.h"
#include "msg.h"

/* Sends between two looks at the clock. */
#define STRETCH 256

static int send_counters(struct perf_worker *w, uint64_t end)
{
	int rc = 0;
	while (perf_ticks() < end && rc == 0) {
		for (uint32_t i = 0; i < STRETCH && rc == 0; i++) {
			uint8_t counter[PERF_COUNTER_BYTES];
			perf_counter_put(counter, w->seq++);
			rc = perf_conn_send(&w->conn, counter, sizeof(counter));
		}
	}
	return rc;
}

/* What has been sent has arrived, in order and whole, if the server counted as many. */
static int finish(struct perf_worker *w)
{
	uint8_t counter[PERF_COUNTER_BYTES];
	perf_counter_put(counter, PERF_COUNTER_END);
	int rc = perf_conn_send(&w->conn, counter, sizeof(counter));
	if (rc == 0)
		rc = perf_conn_recv_all(&w->conn, counter, sizeof(counter));
	if (rc == 0 && perf_counter_get(counter) != w->seq)
		rc = -EILSEQ;
	return rc;
}

int perf_rate(struct perf_worker *w)
{
	struct perf_tally *t = &w->tally;
	uint8_t kind = PERF_KIND_COUNTERS;
	int rc = perf_conn_send(&w->conn, &kind, 1);
	if (rc == 0 && w->o->warmup)
		rc = send_counters(w, perf_ticks() + perf_ns_to_ticks(PERF_WARMUP_NS));
	uint64_t first = w->seq;
	t->start_ns = perf_monotonic_ns();
	if (rc == 0)
		rc = send_counters(w, perf_ticks() + perf_ns_to_ticks(w->o->time_s * 1e9));
	if (rc == 0)
		rc = finish(w);
	t->end_ns = perf_monotonic_ns();
	if (rc < 0)
		return rc;
	t->messages = w->seq - first;
	t->replies = 1;
	t->bytes = t->messages * PERF_COUNTER_BYTES;
	return 0;
}
