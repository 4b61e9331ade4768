#include "base/limits.h"
#include "host/host.h"

/*
 * Learned per thread: how many yields are worth it. A waiter that found something while yielding doubles it, one
 * that had to sleep all the same halves it; an idle server ends at sleeping at once.
 */
#define YIELDS_MAX 256
static __thread uint32_t budget = YIELDS_MAX / 4;

void flat_wait_begin(struct flat_wait *w)
{
	w->looks = 0;
	w->yields = 0;
	w->limit = budget;
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
	if (w->yields >= w->limit)
		return false;
	/* Looks between yields: a yield costs half a microsecond, an answer may take less. */
	if (++w->looks % 16 == 0) {
		w->yields++;
		flat_sys_yield();
	}
	return true;
}

void flat_wait_end(const struct flat_wait *w, bool paid)
{
	if (w->looks < FLAT_SPIN_LOOKS)
		return;
	if (paid)
		budget = budget * 2 > YIELDS_MAX ? YIELDS_MAX : budget * 2 + 1;
	else
		budget = budget > 8 ? budget - budget / 8 : 8;
}
