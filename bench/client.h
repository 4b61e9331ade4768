/* SPDX-License-Identifier: Apache-2.0 */
/* The client side: one worker thread for each of -c connections, started together. */
#ifndef PERF_CLIENT_H
#define PERF_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "hist.h"
#include "net.h"

/* Not measured: caches, the processor's clock and adaptive waits settle. sockperf's is 400 ms for
 * UDP; the effect here is gone after a few ms. */
#define PERF_WARMUP_NS 100e6

/* What one worker saw in its measured time. */
struct perf_tally {
	struct perf_hist hist; /* round trips, or whole connections for connect; ns */
	uint64_t messages;     /* sent, and known to have arrived */
	uint64_t replies;
	uint64_t bytes; /* of messages, headers included, one way */
	uint64_t connections;
	uint64_t start_ns; /* CLOCK_MONOTONIC; of the measured time */
	uint64_t end_ns;
};

/* Owner: its thread; the main thread before it starts and after it is joined. */
struct perf_worker {
	const struct perf_net *net;
	const struct perf_opts *o;
	uint32_t index;
	struct perf_conn conn; /* open before the thread starts, except for connect */
	uint8_t *buf;	       /* one burst of messages to send */
	uint8_t *in;	       /* one message received */
	uint64_t seq;	       /* of the next message */
	struct perf_tally tally;
	int err; /* 0, or the negative errno the measurement failed with */
};

/*
 * The measurements. Each runs on its worker's thread, fills the tally and returns 0 or a negative
 * errno: what the connection failed with, -EILSEQ for a reply out of order or with wrong bytes.
 */
int perf_ping_pong(struct perf_worker *w);
int perf_under_load(struct perf_worker *w);
int perf_throughput(struct perf_worker *w);
int perf_rate(struct perf_worker *w);
int perf_connect_rate(struct perf_worker *w);
int perf_connect_hold(struct perf_worker *w);

/** perf_message_make() - write the message w->seq with @flags to @at (msg_size bytes), take that
 *  number. The body is written only where it is verified. */
void perf_message_make(struct perf_worker *w, uint8_t *at, uint8_t flags);

/** perf_reply_take() - receive the next reply to w->in and check that it is message @seq, with its
 *  bytes where verified. 0, -EILSEQ or what the receive failed with. */
int perf_reply_take(struct perf_worker *w, uint64_t seq);

/** perf_reply_check() - check that w->in is the reply to message @seq. 0 or -EILSEQ. */
int perf_reply_check(const struct perf_worker *w, uint64_t seq);

/** perf_pace() - wait until @due_ticks: sleeps while that is far, then spins. */
void perf_pace(uint64_t due_ticks);

/**
 * perf_client_run() - do what @o asks and print the report on stdout.
 * Returns 0, or the negative errno of the first worker that failed (told on stderr).
 */
int perf_client_run(const struct perf_net *net, const struct perf_opts *o);

/** perf_report() - print @sum, all workers' results added up, as text or JSON. */
void perf_report(const struct perf_net *net, const struct perf_opts *o,
		 const struct perf_tally *sum);

#endif
