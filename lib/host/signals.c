/*
 * Handlers that run while a call of ours looks in user space. The kernel ends a wait by one; here it would run between two
 * looks and nobody would know of it. The shim tells of each (shim/signals.c). A program that is linked with the library
 * without the shim is not told of: its waits hold signals back instead (wait.c).
 */
#include <signal.h>
#include <stdatomic.h>

#include <flat/unstable/preload.h>

#include "host/host.h"

bool flat_signals_told;

/* Changed by handlers of this thread; a handler may interrupt another one. */
static __thread _Atomic uint32_t interrupts;
static __thread _Atomic uint32_t restarts;

void flat_handlers_told(void)
{
	flat_signals_told = true;
}

static uint32_t now(const _Atomic uint32_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

void flat_handler_ran(int restart)
{
	_Atomic uint32_t *count = restart ? &restarts : &interrupts;
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

struct flat_ran flat_signals_ran(void)
{
	return (struct flat_ran){now(&interrupts), now(&restarts)};
}

enum flat_signals flat_signals_since(const struct flat_ran *then)
{
	if (flat_unlikely(now(&interrupts) != then->interrupts))
		return FLAT_SIGNALS_INTERRUPT;
	return now(&restarts) != then->restarts ? FLAT_SIGNALS_RESTART : FLAT_SIGNALS_NONE;
}

enum flat_signals flat_signals_do(uint64_t which)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} sa;
	enum flat_signals result = FLAT_SIGNALS_NONE;
	for (; which; which &= which - 1) {
		int sig = __builtin_ctzll(which) + 1;
		if (FLAT_SYS4(SYS_rt_sigaction, sig, NULL, &sa, sizeof(sa.mask)) != 0 ||
		    sa.handler == SIG_DFL || sa.handler == SIG_IGN)
			continue;
		if (!(sa.flags & SA_RESTART))
			return FLAT_SIGNALS_INTERRUPT;
		result = FLAT_SIGNALS_RESTART;
	}
	return result;
}
