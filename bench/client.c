/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "msg.h"
#include "pin.h"

/* Shorter waits than this are spun: a sleep would oversleep them. */
#define PACE_SPIN_NS 100000U

void perf_message_make(struct perf_worker *w, uint8_t *at, uint8_t flags)
{
	struct perf_msg m = {.flags = flags, .length = w->o->msg_size, .seq = w->seq++};
	if (w->o->verify) {
		m.flags |= PERF_MSG_VERIFY;
		memcpy(at + PERF_MSG_MIN, perf_pattern(m.seq, 0), m.length - PERF_MSG_MIN);
	}
	perf_msg_put(at, &m);
}

int perf_reply_check(const struct perf_worker *w, uint64_t seq)
{
	struct perf_msg m;
	if (perf_msg_get(w->in, &m) < 0 || m.seq != seq || m.length != w->o->msg_size)
		return -EILSEQ;
	if (w->o->verify &&
	    memcmp(w->in + PERF_MSG_MIN, perf_pattern(seq, 0), m.length - PERF_MSG_MIN) != 0)
		return -EILSEQ;
	return 0;
}

int perf_reply_take(struct perf_worker *w, uint64_t seq)
{
	int rc = perf_conn_recv_all(&w->conn, w->in, w->o->msg_size);
	return rc < 0 ? rc : perf_reply_check(w, seq);
}

void perf_pace(uint64_t due_ticks)
{
	for (;;) {
		uint64_t now = perf_ticks();
		if (now >= due_ticks)
			return;
		uint64_t left_ns = perf_ticks_to_ns(due_ticks - now);
		if (left_ns <= PACE_SPIN_NS) {
			perf_relax();
			continue;
		}
		left_ns -= PACE_SPIN_NS;
		struct timespec ts = {.tv_sec = (time_t)(left_ns / 1000000000U),
				      .tv_nsec = (long)(left_ns % 1000000000U)};
		nanosleep(&ts, NULL);
	}
}

static pthread_barrier_t all_ready;

static void *worker_thread(void *arg)
{
	struct perf_worker *w = arg;
	perf_pin(pthread_self(), w->o, w->index);
	pthread_barrier_wait(&all_ready);
	switch (w->o->mode) {
	case PERF_PING_PONG:
		w->err = perf_ping_pong(w);
		break;
	case PERF_UNDER_LOAD:
		w->err = perf_under_load(w);
		break;
	case PERF_THROUGHPUT:
		w->err = perf_throughput(w);
		break;
	case PERF_RATE:
		w->err = perf_rate(w);
		break;
	default:
		w->err = w->o->hold ? perf_connect_hold(w) : perf_connect_rate(w);
		break;
	}
	return NULL;
}

static int worker_init(struct perf_worker *w, const struct perf_net *net, const struct perf_opts *o,
		       uint32_t index)
{
	w->net = net;
	w->o = o;
	w->index = index;
	w->conn = (struct perf_conn){.net = net, .fd = -1, .epfd = -1};
	perf_hist_init(&w->tally.hist);
	size_t batch = o->mode == PERF_PING_PONG ? o->burst : 1;
	w->buf = calloc(batch, o->msg_size);
	w->in = malloc(o->msg_size);
	if (!w->buf || !w->in)
		return -ENOMEM;
	return o->mode == PERF_CONNECT ? 0 : perf_conn_open(&w->conn, net, o);
}

static void worker_fini(struct perf_worker *w)
{
	if (w->net)
		perf_conn_close(&w->conn);
	free(w->buf);
	free(w->in);
}

static int run_threads(struct perf_worker *w, uint32_t count)
{
	pthread_t *threads = calloc(count, sizeof(*threads));
	if (!threads)
		return -ENOMEM;
	pthread_barrier_init(&all_ready, NULL, count);
	for (uint32_t i = 0; i < count; i++) {
		int rc = pthread_create(&threads[i], NULL, worker_thread, &w[i]);
		if (!rc)
			continue;
		/* Those already started wait at the barrier for ever: the process ends instead. */
		fprintf(stderr, "flatperf: thread %u: %s\n", i, strerror(rc));
		exit(1);
	}
	for (uint32_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&all_ready);
	free(threads);
	return 0;
}

static void tally_add(struct perf_tally *sum, const struct perf_tally *t)
{
	perf_hist_merge(&sum->hist, &t->hist);
	sum->messages += t->messages;
	sum->replies += t->replies;
	sum->bytes += t->bytes;
	sum->connections += t->connections;
	if (!sum->start_ns || t->start_ns < sum->start_ns)
		sum->start_ns = t->start_ns;
	if (t->end_ns > sum->end_ns)
		sum->end_ns = t->end_ns;
}

static int complain(const struct perf_opts *o, uint32_t index, int err)
{
	if (err == -EILSEQ)
		fprintf(stderr,
			"flatperf: connection %u: a reply out of order or with wrong bytes\n",
			index);
	else
		fprintf(stderr, "flatperf: connection %u to %s port %u: %s\n", index, o->host,
			o->port, strerror(-err));
	return err;
}

int perf_client_run(const struct perf_net *net, const struct perf_opts *o)
{
	int rc = 0;
	struct perf_worker *w = calloc(o->clients, sizeof(*w));
	struct perf_tally *sum = calloc(1, sizeof(*sum));
	if (!w || !sum) {
		fprintf(stderr, "flatperf: out of memory\n");
		rc = -ENOMEM;
		goto out;
	}
	for (uint32_t i = 0; i < o->clients; i++) {
		rc = worker_init(&w[i], net, o, i);
		if (rc < 0) {
			complain(o, i, rc);
			goto out;
		}
	}
	rc = run_threads(w, o->clients);
	if (rc < 0)
		goto out;
	perf_hist_init(&sum->hist);
	for (uint32_t i = 0; i < o->clients; i++) {
		tally_add(sum, &w[i].tally);
		if (w[i].err < 0 && rc == 0)
			rc = complain(o, i, w[i].err);
	}
	if (rc == 0)
		perf_report(net, o, sum);
out:
	for (uint32_t i = 0; w && i < o->clients; i++)
		worker_fini(&w[i]);
	free(sum);
	free(w);
	return rc;
}
