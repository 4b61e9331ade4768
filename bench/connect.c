/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "msg.h"

/* One byte there and back. */
static int echo(struct perf_conn *c)
{
	uint8_t out = PERF_KIND_ECHO;
	uint8_t in;
	int rc = perf_conn_send(c, &out, 1);
	if (rc < 0)
		return rc;
	rc = perf_conn_recv_all(c, &in, 1);
	if (rc < 0)
		return rc;
	return in == out ? 0 : -EILSEQ;
}

int perf_connect_rate(struct perf_worker *w)
{
	struct perf_tally *t = &w->tally;
	uint64_t gap = w->o->mps > 0.0 ? perf_ns_to_ticks(1e9 / w->o->mps) : 0;
	t->start_ns = perf_monotonic_ns();
	uint64_t now = perf_ticks();
	uint64_t due = now;
	uint64_t end = now + perf_ns_to_ticks(w->o->time_s * 1e9);
	int rc = 0;
	for (; now < end && rc == 0; due += gap) {
		if (gap)
			perf_pace(due);
		uint64_t start = perf_ticks();
		rc = perf_conn_open(&w->conn, w->net, w->o);
		if (rc == 0)
			rc = echo(&w->conn);
		perf_conn_close(&w->conn);
		now = perf_ticks();
		if (rc == 0) {
			perf_hist_add(&t->hist, perf_ticks_to_ns(now - start));
			t->connections++;
		}
	}
	t->end_ns = perf_monotonic_ns();
	t->messages = t->connections;
	t->replies = t->connections;
	t->bytes = t->connections;
	return rc;
}

static int hold_open(struct perf_worker *w, struct perf_conn *conns, uint32_t *opened)
{
	for (*opened = 0; *opened < w->o->hold; (*opened)++) {
		uint64_t start = perf_ticks();
		int rc = perf_conn_open(&conns[*opened], w->net, w->o);
		if (rc < 0)
			return rc;
		rc = echo(&conns[*opened]);
		if (rc < 0) {
			perf_conn_close(&conns[*opened]);
			return rc;
		}
		perf_hist_add(&w->tally.hist, perf_ticks_to_ns(perf_ticks() - start));
	}
	return 0;
}

int perf_connect_hold(struct perf_worker *w)
{
	struct perf_tally *t = &w->tally;
	struct perf_conn *conns = calloc(w->o->hold, sizeof(*conns));
	if (!conns)
		return -ENOMEM;
	uint32_t opened = 0;
	t->start_ns = perf_monotonic_ns();
	int rc = hold_open(w, conns, &opened);
	t->end_ns = perf_monotonic_ns();
	if (rc < 0)
		goto out;
	if (w->o->ready_fd >= 0 && write(w->o->ready_fd, "\n", 1) != 1)
		fprintf(stderr, "flatperf: cannot write to --ready-fd %d\n", w->o->ready_fd);
	perf_pace(perf_ticks() + perf_ns_to_ticks(w->o->time_s * 1e9));
	/* Each must still work after its silence. */
	for (uint32_t i = 0; i < opened && rc == 0; i++)
		rc = echo(&conns[i]);
	t->connections = opened;
	t->messages = t->replies = t->bytes = 2 * (uint64_t)opened;
out:
	for (uint32_t i = 0; i < opened; i++)
		perf_conn_close(&conns[i]);
	free(conns);
	return rc;
}
