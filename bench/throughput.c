/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "clock.h"
#include "msg.h"

/* Writes the message into the connection's own memory, piece by piece where it does not fit whole. */
static int send_in_place(struct perf_worker *w, const uint8_t *from, size_t len)
{
	const struct perf_net *net = w->net;
	while (len) {
		struct iovec iov[2];
		int pieces = net->send_reserve(w->conn.fd, len, iov, MSG_NOSIGNAL);
		if (pieces < 0 && errno == EINTR)
			continue;
		if (pieces < 0)
			return -errno;
		size_t used = 0;
		for (int i = 0; i < pieces; i++) {
			size_t n = len - used < iov[i].iov_len ? len - used : iov[i].iov_len;
			memcpy(iov[i].iov_base, from + used, n);
			used += n;
		}
		if (net->send_commit(w->conn.fd, used) < 0)
			return -errno;
		from += used;
		len -= used;
	}
	return 0;
}

static int send_message(struct perf_worker *w, uint8_t flags)
{
	perf_message_make(w, w->buf, flags);
	if (w->o->zerocopy)
		return send_in_place(w, w->buf, w->o->msg_size);
	return perf_conn_send(&w->conn, w->buf, w->o->msg_size);
}

/* The reply to the last message proves that all before it arrived, in order. */
static int flush(struct perf_worker *w)
{
	uint64_t seq = w->seq;
	int rc = send_message(w, PERF_MSG_REPLY);
	return rc < 0 ? rc : perf_reply_take(w, seq);
}

static int send_until(struct perf_worker *w, uint64_t end)
{
	const struct perf_opts *o = w->o;
	uint64_t gap = o->mps > 0.0 ? perf_ns_to_ticks(1e9 * o->burst / o->mps) : 0;
	uint64_t due = perf_ticks();
	int rc = 0;
	for (; perf_ticks() < end && rc == 0; due += gap) {
		if (gap)
			perf_pace(due);
		for (uint32_t i = 0; i < o->burst && rc == 0; i++)
			rc = send_message(w, 0);
	}
	return rc < 0 ? rc : flush(w);
}

int perf_throughput(struct perf_worker *w)
{
	struct perf_tally *t = &w->tally;
	int rc = 0;
	if (w->o->warmup)
		rc = send_until(w, perf_ticks() + perf_ns_to_ticks(PERF_WARMUP_NS));
	uint64_t first = w->seq;
	t->start_ns = perf_monotonic_ns();
	if (rc == 0)
		rc = send_until(w, perf_ticks() + perf_ns_to_ticks(w->o->time_s * 1e9));
	t->end_ns = perf_monotonic_ns();
	if (rc == 0) {
		t->messages = w->seq - first;
		t->replies = 1;
		t->bytes = t->messages * w->o->msg_size;
	}
	return rc;
}
