#include "host/quiet.h"

#include <stdbool.h>

#include <flat/unstable/preload.h>

#include "base/sys.h"

/* Of this thread: how often it has begun, and its own signal mask meanwhile. */
static __thread uint32_t depth;
static __thread uint64_t mask;
static __thread bool blocked;

void flat_quiet_begin(void)
{
	uint64_t block = ~(uint64_t)FLAT_FAULTS;
	/* Not where a filter watches the calls: it may not know this one. */
	if (depth == 0)
		blocked =
		    flat_likely(!flat_confined) &&
		    FLAT_SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &block, &mask, sizeof(mask)) == 0;
	depth++;
}

void flat_quiet_end(void)
{
	depth--;
	if (depth == 0 && blocked)
		(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

void flat_quiet_lock(pthread_mutex_t *lock)
{
	flat_quiet_begin();
	pthread_mutex_lock(lock);
}

void flat_quiet_unlock(pthread_mutex_t *lock)
{
	pthread_mutex_unlock(lock);
	flat_quiet_end();
}
