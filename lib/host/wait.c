#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#include "base/clock.h"
#include "base/limits.h"
#include "host/host.h"
#include "host/share.h"

/*
 * Learned per thread: for how long yielding is worth it, ns. A waiter that found something while yielding doubles it,
 * one that had to sleep all the same takes an eighth off; an idle server ends at a few yields before it sleeps.
 *
 * Where other threads want the processor too, a yield gives it away for as long as one of those runs: milliseconds, in
 * which what is waited for comes and nobody looks. A sleeper is woken for it at once. So a yield that comes back late
 * ends the yielding, for a time in proportion to what it cost.
 *
 * Where those others are this process's own threads, and what they do is answer one another, the time was not lost: each
 * would sleep and wake another one for every message otherwise. A yielder cannot see who ran, but what came of it.
 */
#define MOST_NS (FLAT_SPIN_MAX_US * INT64_C(1000))
#define LEAST_NS INT64_C(4000)
#define TAKEN_NS (FLAT_YIELD_TAKEN_US * INT64_C(1000))
#define LATE_NS (FLAT_YIELD_LATE_US * INT64_C(1000))
#define WORTH_NS (FLAT_YIELD_WORTH_US * INT64_C(1000))

/*
 * Where nobody tells of handlers (signals.c), a waiter that has yielded for as long as HOLD_NS holds signals back until it
 * ends: those that came are known then. Faults are for this thread, now.
 */
#define HOLD_NS INT64_C(8000)

static __thread int64_t budget_ns = MOST_NS / 2;
static __thread int64_t sleeps_until_ns; /* 0: yielding is tried */
static __thread bool taken;		 /* the last yield went to somebody (FLAT_YIELD_TAKEN_US) */

/* Waits of all threads that are over, or sleep; those of one thread come in by BATCH, so that the line stays where it is. */
#define BATCH 16
static _Alignas(FLAT_CACHELINE) _Atomic uint32_t all_waits;
static __thread uint32_t own_waits;

void flat_wait_begin(struct flat_wait *w)
{
	w->looks = taken ? FLAT_SPIN_LOOKS - FLAT_YIELD_TAKEN_LOOKS : 0;
	w->begun_ns = 0;
	w->late = false;
	w->holds = false;
	w->limit_ns = budget_ns;
	if (sleeps_until_ns == 0)
		return;
	if (flat_now_ns() < sleeps_until_ns)
		w->limit_ns = 0;
	else
		sleeps_until_ns = 0;
}

/* Not where a filter watches the calls: it may know none of these. */
static void hold_signals(struct flat_wait *w)
{
	uint64_t all = ~FLAT_FAULTS;
	w->holds = flat_likely(!flat_confined) &&
		   FLAT_SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &all, &w->mask, sizeof(all)) == 0;
}

/* Lets the signals that came in. */
static enum flat_signals let_signals(const struct flat_wait *w, bool paid)
{
	uint64_t pending = 0;
	if (!paid)
		(void)FLAT_SYS2(SYS_rt_sigpending, &pending, sizeof(pending));
	enum flat_signals result = flat_signals_do(pending & ~w->mask);
	(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &w->mask, NULL, sizeof(w->mask));
	return result;
}

static void count(bool paid)
{
	if (++own_waits < BATCH && paid)
		return;
	atomic_fetch_add_explicit(&all_waits, own_waits, memory_order_relaxed);
	own_waits = 0;
}

/* Those that the process may use. A main thread that is tied to one says nothing of the others. */
static int64_t processors(void)
{
	uint64_t set[128];
	int64_t n = 0;
	long len = FLAT_SYS3(SYS_sched_getaffinity, flat_sys_getpid(), sizeof(set), set);
	for (long i = 0; i < len / (long)sizeof(set[0]); i++)
		n += __builtin_popcountll(set[i]);
	return n > 1 ? n : sysconf(_SC_NPROCESSORS_ONLN);
}

/* Whether the process's other threads made use of all its processors in the time of the last yield. */
static bool was_worth(const struct flat_wait *w, int64_t lost_ns)
{
	uint32_t others = atomic_load_explicit(&all_waits, memory_order_relaxed) - w->yielded_waits;
	return others * WORTH_NS > lost_ns && others * WORTH_NS > lost_ns * processors();
}

/* Whether the yield that is over cost more than it gave, which is remembered. */
static bool was_late(const struct flat_wait *w, int64_t now)
{
	int64_t lost_ns = now - w->yielded_ns;
	taken = lost_ns > TAKEN_NS;
	if (lost_ns <= LATE_NS || was_worth(w, lost_ns))
		return false;
	sleeps_until_ns = now + lost_ns * FLAT_YIELD_LATE_COST;
	return true;
}

static bool yield(struct flat_wait *w)
{
	int64_t now = flat_now_ns();
	if (w->begun_ns == 0)
		w->begun_ns = now;
	else
		w->late = was_late(w, now);
	if (w->late || now - w->begun_ns >= w->limit_ns)
		return false;
	if (!flat_signals_told && !w->holds && now - w->begun_ns >= HOLD_NS)
		hold_signals(w);
	w->yielded_ns = now;
	w->yielded_waits = atomic_load_explicit(&all_waits, memory_order_relaxed);
	flat_sys_yield();
	return true;
}

bool flat_wait_again(struct flat_wait *w)
{
	if (w->looks < FLAT_SPIN_LOOKS) {
		w->looks++;
		flat_pause();
		return true;
	}
	/* Callers count on some of the numbers: those in between are left out. */
	w->looks += taken && w->looks % FLAT_YIELD_LOOKS == 0
			? FLAT_YIELD_LOOKS - FLAT_YIELD_TAKEN_LOOKS + 1
			: 1;
	return w->limit_ns != 0 && (w->looks % FLAT_YIELD_LOOKS != 0 || yield(w));
}

static void learn(const struct flat_wait *w, bool paid)
{
	if (w->late || (paid && was_late(w, flat_now_ns())))
		return;
	if (paid)
		budget_ns = budget_ns * 2 + LEAST_NS < MOST_NS ? budget_ns * 2 + LEAST_NS : MOST_NS;
	else
		budget_ns =
		    budget_ns - budget_ns / 8 > LEAST_NS ? budget_ns - budget_ns / 8 : LEAST_NS;
}

enum flat_signals flat_wait_end(const struct flat_wait *w, bool paid)
{
	count(paid);
	if (w->begun_ns == 0)
		return FLAT_SIGNALS_NONE;
	learn(w, paid);
	return w->holds ? let_signals(w, paid) : FLAT_SIGNALS_NONE;
}

/*
 * A receiver that is quicker than its sender takes piece by piece, and for each of them the line of positions and that of the
 * bytes go over and back. Left alone for a moment the sender keeps them, and writes a batch in the time of one piece.
 */
bool flat_gather(struct flat_sock *s, size_t len)
{
	struct flat_gather *g = &s->gather;
	uint32_t run = atomic_load_explicit(&g->run, memory_order_relaxed);
	uint8_t after = atomic_load_explicit(&g->after, memory_order_relaxed);
	if (flat_likely(run < (uint32_t)FLAT_GATHER_RUN << after))
		return false;
	ssize_t there = flat_share_pending(s);
	if (there <= 0 || (size_t)there >= flat_min_size(len, FLAT_GATHER_SMALL))
		return false;
	int64_t until = flat_now_ns() + FLAT_GATHER_NS;
	do {
		for (int i = 0; i < 4; i++)
			flat_pause();
	} while (flat_now_ns() < until);
	bool more = flat_share_pending(s) > there;
	if (!more)
		atomic_store_explicit(&g->run, 0, memory_order_relaxed);
	after = more ? 0 : (uint8_t)(after + (after < FLAT_GATHER_DOUBLED));
	atomic_store_explicit(&g->after, after, memory_order_relaxed);
	return more;
}

void flat_gather_took(struct flat_sock *s, size_t n, bool gathered)
{
	uint16_t run = atomic_load_explicit(&s->gather.run, memory_order_relaxed);
	if (n >= FLAT_GATHER_SMALL && !gathered)
		run = 0;
	else if (run < UINT16_MAX)
		run++;
	atomic_store_explicit(&s->gather.run, run, memory_order_relaxed);
}
