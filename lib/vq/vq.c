#include "vq/vq.h"

#include <time.h>

#include "base/clock.h"
#include "base/sys.h"

void flat_vq_init(struct flat_vq *vq, const struct flat_vq_ops *ops, const struct flat_lane *lane,
		  uint32_t slot, enum flat_side side, int anchor_fd, int bell_fd)
{
	unsigned int me = (unsigned int)side;
	memset(vq, 0, sizeof(*vq));
	vq->ops = ops;
	flat_ring_tx_init(&vq->tx, lane, slot, me);
	flat_ring_rx_init(&vq->rx, lane, slot, me ^ 1U);
	vq->mine = flat_lane_side(lane, me);
	vq->peer = flat_lane_side(lane, me ^ 1U);
	vq->bit = 1ULL << slot;
	vq->anchor_fd = anchor_fd;
	vq->bell_fd = bell_fd;
}

/* Of a waiter with a nap: rings if it sleeps, and sees to it that the next one need not. */
static void ring_napping(struct flat_vq *vq, _Atomic uint32_t *nap, uint32_t before)
{
	/* seq_cst: pairs with flat_lane_nap_begin(); the ready bit before this look */
	uint32_t now = atomic_load_explicit(nap, memory_order_seq_cst);
	if (now == 0)
		return;
	bool rung = vq->ops->ring_bell(vq);
	/*
	 * Rung first: who is killed in between has left it up. In another sleep than that in which the arm was there, the
	 * waiter may watch this slot no more.
	 */
	if (rung && now == before && !(now & FLAT_NAP_MANY))
		(void)atomic_compare_exchange_strong_explicit(nap, &now, 0, memory_order_acq_rel,
							      memory_order_relaxed);
}

/* Of slots whose bits are seen together the kernel's epoll would tell in the order in which they became ready. */
static void stamp(struct flat_vq *vq)
{
	atomic_store_explicit(&vq->tx.ctl->prod.woken, (uint64_t)flat_now_ns(),
			      memory_order_relaxed);
}

void flat_vq_notify_slow(struct flat_vq *vq, _Atomic uint32_t *arm)
{
	uint32_t nap = FLAT_ARM_NAP(atomic_load_explicit(arm, memory_order_relaxed));
	/* acquire: before the arm is taken (N3) */
	uint32_t before = nap - 1 < FLAT_NAPS_MAX
			      ? atomic_load_explicit(&vq->peer->nap[nap], memory_order_acquire)
			      : 0;
	uint32_t how = atomic_exchange_explicit(arm, FLAT_ARM_NONE, memory_order_acq_rel);
	if (how == FLAT_ARM_NONE)
		return;
	stamp(vq);
	/* seq_cst: pairs with the waiter's sleepers increment; the bit before the load of sleepers */
	atomic_fetch_or_explicit(&vq->peer->ready, vq->bit, memory_order_seq_cst);
	if (how == FLAT_ARM_READY_NAP(nap) && nap - 1 < FLAT_NAPS_MAX)
		ring_napping(vq, &vq->peer->nap[nap], before);
	else if (how != FLAT_ARM_READY ||
		 atomic_load_explicit(&vq->peer->sleepers, memory_order_seq_cst) != 0)
		(void)vq->ops->ring_bell(vq);
}

static bool shm_ring_bell(struct flat_vq *vq)
{
	if (vq->bell_fd < 0)
		return false;
	/* Counted first: a consumer that reads the count late still finds the byte by polling. */
	atomic_fetch_add_explicit(&vq->tx.ctl->prod.bells, 1, memory_order_relaxed);
	/* EAGAIN: so many bells are unanswered that one more tells nothing. Others: the peer is gone. */
	return flat_sys_send(vq->bell_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

void flat_vq_urge(struct flat_vq *vq)
{
	if (vq->bell_fd < 0)
		return;
	/* A bell, then the byte that brings the signal: who sleeps looks for the bell, and skips what is urgent. */
	atomic_fetch_add_explicit(&vq->tx.ctl->prod.bells, 1, memory_order_relaxed);
	if (flat_sys_send(vq->bell_fd, "\0", 2, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		(void)flat_sys_send(vq->bell_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

const struct flat_vq_ops flat_vq_shm = {
    .name = "shm",
    .ring_bell = shm_ring_bell,
};

void flat_vq_end_tx(struct flat_vq *vq, uint32_t prod_flags)
{
	/* release: pairs with flat_vq_peer_prod_flags(); the last tail is visible before FIN */
	atomic_fetch_or_explicit(&vq->tx.ctl->prod.flags, prod_flags, memory_order_release);
	flat_vq_notify_data(vq);
}

void flat_vq_end_rx(struct flat_vq *vq, uint32_t cons_flags)
{
	_Atomic uint32_t *arm = &vq->rx.ctl->arm.space;
	atomic_fetch_or_explicit(&vq->rx.ctl->arm.flags, cons_flags, memory_order_release);
	/* seq_cst fence: pairs with the one in flat_vq_arm_tx() */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(arm, memory_order_relaxed) != FLAT_ARM_NONE)
		flat_vq_notify_slow(vq, arm);
}

bool flat_vq_ended(const struct flat_lane *lane, uint32_t slot, enum flat_side side)
{
	unsigned int d = (unsigned int)side;
	const struct flat_slot *s = flat_lane_slot(lane, slot);
	return (atomic_load_explicit(&s->ring[d].prod.flags, memory_order_acquire) &
		(FLAT_PROD_FIN | FLAT_PROD_RST)) != 0 &&
	       (atomic_load_explicit(&s->ring[d ^ 1U].arm.flags, memory_order_acquire) &
		FLAT_CONS_CLOSED) != 0;
}

void flat_vq_complete(const struct flat_lane *lane, uint32_t slot, enum flat_side side, int bell)
{
	struct flat_vq vq;
	/* Its sleepers may have armed nothing yet: one bell always, and no other. */
	flat_vq_init(&vq, &flat_vq_shm, lane, slot, side, -1, -1);
	struct flat_ring_ctl *in = vq.rx.ctl;
	struct flat_ring_ctl *out = vq.tx.ctl;
	bool left = atomic_load_explicit(&in->prod.tail, memory_order_acquire) !=
		    atomic_load_explicit(&in->cons.head, memory_order_acquire);
	bool hard = left || flat_ring_resets(&vq.rx);
	/* It ended in its listener's queue: Linux resets those. */
	bool lost =
	    side == FLAT_SIDE_SERVER &&
	    atomic_load_explicit(&flat_lane_slot(lane, slot)->taken, memory_order_relaxed) == 0;
	uint32_t said = atomic_load_explicit(&out->prod.flags, memory_order_acquire);
	/* It had shut its way out before, and is reset all the same; over is what had both ends. */
	bool half =
	    said == FLAT_PROD_FIN && hard &&
	    !(atomic_load_explicit(&in->arm.flags, memory_order_acquire) & FLAT_CONS_CLOSED) &&
	    !(atomic_load_explicit(&in->prod.flags, memory_order_acquire) &
	      (FLAT_PROD_FIN | FLAT_PROD_RST));
	if (half || !(said & (FLAT_PROD_FIN | FLAT_PROD_RST)))
		flat_vq_end_tx(&vq, hard || lost ? FLAT_PROD_RST : FLAT_PROD_FIN);
	flat_vq_end_rx(&vq, FLAT_CONS_CLOSED);
	if (bell >= 0)
		(void)flat_sys_send(bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void flat_vq_phase(const struct flat_lane *lane, uint32_t slot, uint32_t phase, int bell)
{
	/* release: pairs with flat_lane_slot_phase(); the bell after it, whatever the client has armed */
	atomic_store_explicit(&flat_lane_slot(lane, slot)->phase, phase, memory_order_release);
	atomic_fetch_or_explicit(&flat_lane_side(lane, FLAT_SIDE_CLIENT)->ready, 1ULL << slot,
				 memory_order_seq_cst);
	(void)flat_sys_send(bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int flat_vq_drain_anchor(struct flat_vq *vq)
{
	char sink[256];
	for (;;) {
		ssize_t n = flat_sys_recv(vq->anchor_fd, sink, sizeof(sink), MSG_DONTWAIT);
		if (n > 0)
			vq->rx.bells_off += (uint32_t)n;
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
			return -ECONNRESET;
		/* It ends before the byte of flat_vq_urge(). */
		bool urged =
		    n > 0 && atomic_load_explicit(&vq->rx.ctl->prod.urgent, memory_order_relaxed);
		if (n != (ssize_t)sizeof(sink) && n != -EINTR && !urged)
			return 0;
	}
}

int flat_vq_take_bells(struct flat_vq *vq)
{
	uint32_t rung = atomic_load_explicit(&vq->rx.ctl->prod.bells, memory_order_relaxed);
	if (rung == vq->rx.bells_off)
		return 0;
	int err = flat_vq_drain_anchor(vq);
	/* The count is the peer's word, a hint: after a drain both start from here again. */
	vq->rx.bells_off = rung;
	return err;
}
