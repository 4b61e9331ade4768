/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"
#include "clock.h"
#include "msg.h"

/* One burst out, its replies in. @start: set to when the burst went out; @hist may be NULL. */
static int exchange(struct perf_worker *w, uint64_t *start, struct perf_hist *hist)
{
	const struct perf_opts *o = w->o;
	uint64_t first = w->seq;
	for (uint32_t i = 0; i < o->burst; i++)
		perf_message_make(w, w->buf + (size_t)i * o->msg_size, PERF_MSG_REPLY);
	*start = perf_ticks();
	int rc = perf_conn_send(&w->conn, w->buf, (size_t)o->burst * o->msg_size);
	for (uint32_t i = 0; i < o->burst && rc == 0; i++) {
		rc = perf_reply_take(w, first + i);
		if (rc == 0 && hist)
			perf_hist_add(hist, perf_ticks_to_ns(perf_ticks() - *start));
	}
	return rc;
}

int perf_ping_pong(struct perf_worker *w)
{
	const struct perf_opts *o = w->o;
	struct perf_tally *t = &w->tally;
	uint64_t now = perf_ticks();
	uint64_t gap = o->mps > 0.0 ? perf_ns_to_ticks(1e9 * o->burst / o->mps) : 0;
	uint64_t end = now + perf_ns_to_ticks(PERF_WARMUP_NS);
	uint64_t due = now;
	int rc = 0;
	for (; o->warmup && now < end && rc == 0; due += gap) {
		if (gap)
			perf_pace(due);
		rc = exchange(w, &now, NULL);
	}
	t->start_ns = perf_monotonic_ns();
	now = perf_ticks();
	end = now + perf_ns_to_ticks(o->time_s * 1e9);
	for (due = now; now < end && rc == 0; due += gap) {
		if (gap)
			perf_pace(due);
		rc = exchange(w, &now, &t->hist);
		if (rc == 0) {
			t->messages += o->burst;
			t->replies += o->burst;
		}
	}
	t->end_ns = perf_monotonic_ns();
	t->bytes = t->messages * o->msg_size;
	return rc;
}
