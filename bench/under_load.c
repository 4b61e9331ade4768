/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sender at a given rate and a receiver of the answers that some messages ask for.
 *
 * A message's time begins when the schedule says it should go, not when the sender came to it: a
 * stall then counts for all messages it delayed, not for one (Gil Tene calls the other way
 * "coordinated omission"). With --mps=max there is no schedule, and it begins at the send.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "client.h"
#include "clock.h"
#include "msg.h"
#include "pin.h"

/* Answers under way at once; a sender that is further ahead waits. */
#define SLOTS 65536U

struct slot {
	uint64_t seq;
	uint64_t due; /* ticks */
};

/* Slots below asked are the receiver's to read until it has counted them in taken. */
struct load {
	struct perf_worker *w;
	struct slot *slots;
	_Atomic uint64_t asked;	 /* release by the sender, acquire by the receiver */
	_Atomic uint64_t taken;	 /* release by the receiver, acquire by the sender */
	_Atomic uint64_t last;	 /* how many answers there will be; release/acquire as asked */
	uint64_t record_from;	 /* ticks; written before the threads part */
	_Atomic int receive_err; /* release by the receiver; tells the sender to stop */
};

static void *receiver(void *arg)
{
	struct load *l = arg;
	struct perf_worker *w = l->w;
	for (uint64_t k = 0;; k++) {
		if (atomic_load_explicit(&l->last, memory_order_acquire) == k)
			break;
		/* Which message this answers is not known before it is asked: peek at the slot only
		 * after the bytes came. */
		int rc = perf_conn_recv_all(&w->conn, w->in, w->o->msg_size);
		if (rc == 0 && k >= atomic_load_explicit(&l->asked, memory_order_acquire))
			rc = -EILSEQ; /* an answer nobody asked for */
		struct slot slot = l->slots[k % SLOTS];
		if (rc == 0)
			rc = perf_reply_check(w, slot.seq);
		if (rc < 0) {
			atomic_store_explicit(&l->receive_err, rc, memory_order_release);
			break;
		}
		uint64_t now = perf_ticks();
		if (slot.due >= l->record_from)
			perf_hist_add(&w->tally.hist,
				      now > slot.due ? perf_ticks_to_ns(now - slot.due) : 0);
		w->tally.replies++;
		atomic_store_explicit(&l->taken, k + 1, memory_order_release);
	}
	return NULL;
}

/* Waits for a free slot. False when the receiver has given up. */
static bool ask(struct load *l, uint64_t due, bool last)
{
	uint64_t asked = atomic_load_explicit(&l->asked, memory_order_relaxed);
	while (asked - atomic_load_explicit(&l->taken, memory_order_acquire) >= SLOTS) {
		if (atomic_load_explicit(&l->receive_err, memory_order_acquire))
			return false;
		perf_pace(perf_ticks() + perf_ns_to_ticks(1e6));
	}
	l->slots[asked % SLOTS] = (struct slot){.seq = l->w->seq, .due = due};
	if (last)
		atomic_store_explicit(&l->last, asked + 1, memory_order_release);
	atomic_store_explicit(&l->asked, asked + 1, memory_order_release);
	return true;
}

static int send_load(struct load *l, uint64_t start, uint64_t end)
{
	struct perf_worker *w = l->w;
	const struct perf_opts *o = w->o;
	uint64_t gap = o->mps > 0.0 ? perf_ns_to_ticks(1e9 / o->mps) : 0;
	uint64_t due = start;
	uint64_t sent_before = 0;
	bool last = false;
	while (!last) {
		if (gap)
			perf_pace(due);
		else
			due = perf_ticks();
		last = due >= end;
		bool answer = last || w->seq % o->reply_every == 0;
		if (answer && !ask(l, due, last))
			break;
		if (due < l->record_from)
			sent_before++;
		perf_message_make(w, w->buf, answer ? PERF_MSG_REPLY : 0);
		int rc = perf_conn_send(&w->conn, w->buf, o->msg_size);
		if (rc < 0)
			return rc;
		due += gap;
	}
	w->tally.messages = w->seq - sent_before;
	return 0;
}

int perf_under_load(struct perf_worker *w)
{
	struct load l = {.w = w};
	atomic_init(&l.last, UINT64_MAX);
	l.slots = calloc(SLOTS, sizeof(*l.slots));
	if (!l.slots)
		return -ENOMEM;
	uint64_t start = perf_ticks();
	double warmup_ns = w->o->warmup ? PERF_WARMUP_NS : 0.0;
	l.record_from = start + perf_ns_to_ticks(warmup_ns);
	uint64_t end = l.record_from + perf_ns_to_ticks(w->o->time_s * 1e9);
	pthread_t thread;
	int rc = -pthread_create(&thread, NULL, receiver, &l);
	if (rc < 0)
		goto out;
	perf_pin(thread, w->o, w->index + w->o->clients);
	w->tally.start_ns = perf_monotonic_ns() + (uint64_t)warmup_ns;
	rc = send_load(&l, start, end);
	if (rc < 0) /* the receiver must not wait for answers that were never asked */
		w->net->shutdown(w->conn.fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	w->tally.end_ns = perf_monotonic_ns();
	w->tally.bytes = w->tally.messages * w->o->msg_size;
	int receive_err = atomic_load_explicit(&l.receive_err, memory_order_acquire);
	rc = receive_err < 0 ? receive_err : rc;
out:
	free(l.slots);
	return rc;
}
