#include "vq/deep.h"

#include <fcntl.h>

#include "base/sys.h"

static struct flat_ring_ctl *ctl_of(const struct flat_lane *lane, uint32_t slot,
				    unsigned int direction)
{
	return &flat_lane_slot(lane, slot)->ring[direction];
}

void flat_deep_look(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
		    struct flat_deep_look *look)
{
	struct flat_ring_ctl *ctl = ctl_of(lane, slot, direction);
	uint32_t size = flat_lane_deep_bytes(&lane->geo);
	/* acquire: pairs with settle_deep() of ring.c, which says NONE when nothing is in it */
	look->lease = atomic_load_explicit(&ctl->arm.lease, memory_order_acquire);
	uint64_t deep = atomic_load_explicit(&ctl->prod.deep, memory_order_acquire);
	/* acquire: pairs with flat_ring_consume(): what is freed below it was read */
	look->head = atomic_load_explicit(&ctl->cons.head, memory_order_acquire);
	look->tail = atomic_load_explicit(&ctl->prod.tail, memory_order_relaxed);
	look->waits =
	    atomic_load_explicit(&ctl->prod.space, memory_order_relaxed) != FLAT_ARM_NONE &&
	    look->head != look->tail;
	look->state = FLAT_DEEP_STATE(deep);
	look->done = 0;
	look->passed = false;
	if (look->state == FLAT_DEEP_NONE)
		return;
	uint32_t in = look->head - FLAT_DEEP_POS(deep);
	uint32_t end = look->state == FLAT_DEEP_SHUT ? FLAT_DEEP_LEN(deep) : size;
	/* Before it a difference is negative, and thus larger than any ring. */
	bool before = FLAT_DEEP_POS(deep) - look->head <= size;
	if (end > size || (before && in != 0))
		return;
	look->done = in < end ? in : end;
	look->passed = look->state == FLAT_DEEP_SHUT && in >= end;
}

bool flat_deep_lease(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
		     enum flat_lease from, enum flat_lease to)
{
	uint32_t was = from;
	/* seq_cst: before a look at the arm, which pairs with flat_ring_tx_asks() */
	return atomic_compare_exchange_strong_explicit(&ctl_of(lane, slot, direction)->arm.lease,
						       &was, to, memory_order_seq_cst,
						       memory_order_relaxed);
}

void flat_deep_never(struct flat_ring_ctl *ctl)
{
	uint32_t was = atomic_load_explicit(&ctl->arm.lease, memory_order_relaxed);
	/* A few times: a word that keeps changing is no honest peer's. */
	for (int i = 0; i < 4 && was != FLAT_LEASE_TAKEN && was != FLAT_LEASE_NEVER; i++)
		(void)atomic_compare_exchange_strong_explicit(
		    &ctl->arm.lease, &was, FLAT_LEASE_NEVER, memory_order_relaxed,
		    memory_order_relaxed);
}

int flat_deep_free(const struct flat_lane *lane, int fd, uint32_t slot, unsigned int direction,
		   uint32_t from, uint32_t to)
{
	long at = flat_lane_deep(lane, slot, direction) - lane->base;
	long first = (long)(from - from % FLAT_LANE_PAGE);
	long last = (long)(to - to % FLAT_LANE_PAGE);
	if (first >= last)
		return 0;
	return (int)FLAT_SYS4(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      at + first, last - first);
}
