#include "base/limits.h"
#include "host/host.h"

/*
 * Learned per thread: for how long yielding is worth it, ns. A waiter that found something while yielding doubles it,
 * one that had to sleep all the same takes an eighth off; an idle server ends at a few yields before it sleeps.
 *
 * Where other threads want the processor too, a yield gives it away for as long as one of those runs: milliseconds, in
 * which what is waited for comes and nobody looks. A sleeper is woken for it at once. So a yield that comes back late
 * ends the yielding, and soon all of it; one wait in RETRY tries again.
 */
#define MOST_NS (FLAT_SPIN_MAX_US * INT64_C(1000))
#define LEAST_NS INT64_C(4000)
#define LATE_NS (FLAT_YIELD_LATE_US * INT64_C(1000))
#define RETRY 64

static __thread int64_t budget_ns = MOST_NS / 2;
static __thread uint32_t without; /* waits since yielding was given up */

static int64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void flat_wait_begin(struct flat_wait *w)
{
	w->looks = 0;
	w->begun_ns = 0;
	w->late = false;
	w->limit_ns = budget_ns;
	if (budget_ns == 0 && ++without % RETRY == 0)
		w->limit_ns = LEAST_NS;
}

static bool yield(struct flat_wait *w)
{
	int64_t now = now_ns();
	if (w->begun_ns == 0)
		w->begun_ns = now;
	else if (now - w->yielded_ns > LATE_NS)
		w->late = true;
	if (w->late || now - w->begun_ns >= w->limit_ns)
		return false;
	w->yielded_ns = now;
	flat_sys_yield();
	return true;
}

bool flat_wait_again(struct flat_wait *w)
{
	if (w->looks < FLAT_SPIN_LOOKS) {
		w->looks++;
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
		return true;
	}
	/* Looks between yields: a yield costs half a microsecond, an answer may take less. */
	return w->limit_ns != 0 && (++w->looks % 16 != 0 || yield(w));
}

void flat_wait_end(const struct flat_wait *w, bool paid)
{
	if (w->begun_ns == 0)
		return;
	if (w->late || (paid && now_ns() - w->yielded_ns > LATE_NS))
		budget_ns = budget_ns / 4 >= LEAST_NS ? budget_ns / 4 : 0;
	else if (paid)
		budget_ns = budget_ns * 2 + LEAST_NS < MOST_NS ? budget_ns * 2 + LEAST_NS : MOST_NS;
	else
		budget_ns =
		    budget_ns - budget_ns / 8 > LEAST_NS ? budget_ns - budget_ns / 8 : LEAST_NS;
}
