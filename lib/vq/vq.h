/*
 * A virtual queue: one end of a full-duplex connection. A transmit ring, a receive ring, and the protocol by
 * which each end tells the other that something happened (docs/design/core.md; model: tests/spin/wake.pml).
 *
 *   waiter                                  notifier
 *     look: nothing there                     change (publish bytes, room, FIN, ...)
 *     arm (store)                             fence
 *     fence                                   armed? (load)
 *     look again: nothing there               take the arm (exchange NONE)
 *     sleep on the anchor                     set ready bit; ring the bell if asked
 *
 * Of the waiter's second look and the notifier's load at least one sees the other's store, so no wake-up
 * is lost. Rings are in place for every transport; what a transport adds stands in its ops.
 */
#ifndef FLAT_VQ_VQ_H
#define FLAT_VQ_VQ_H

#include <stdbool.h>

#include "base/base.h"
#include "vq/ring.h"

struct flat_vq;

/**
 * A transport. shm is in place: memory is shared, so publishing is what the ring did already. verbs writes the
 * published range to the peer's registered ring; uring sends frames.
 */
struct flat_vq_ops {
	const char *name;
	/** Bytes [from, to) of tx were committed: makes them visible to the peer. NULL: they are. */
	int (*publish)(struct flat_vq *vq, uint32_t from, uint32_t to);
	/** rx.head moved: gives the room back to the peer. NULL: it sees rx.head. */
	int (*credit)(struct flat_vq *vq);
	/** Makes the peer's anchor readable; whether it did. Never blocks. */
	bool (*ring_bell)(struct flat_vq *vq);
	/** Moves a remote peer's bytes and credits into the rings; NULL: nothing to move. */
	int (*progress)(struct flat_vq *vq);
	/** Lets the transport's own resources go (not the lane, not the fds). NULL: none. */
	void (*close)(struct flat_vq *vq);
};

extern const struct flat_vq_ops flat_vq_shm;

/** One end. Owned by one connection, whose lock serialises each direction. */
struct flat_vq {
	const struct flat_vq_ops *ops;
	struct flat_ring_tx tx;
	struct flat_ring_rx rx;
	struct flat_lane_side *mine; /* shared: my ready bits and sleepers */
	struct flat_lane_side *peer; /* shared: the peer's */
	uint64_t bit;		     /* of this slot in both ready words */
	int anchor_fd;		     /* my socket: readable after a bell; borrowed */
	int bell_fd;		     /* where I ring: peer's anchor is its other end; borrowed */
};

/**
 * Binds one end of slot `slot` of a mapped lane. side: who I am. Fds are borrowed. The words of the slot must be
 * new (flat_lane_slot_reset).
 */
void flat_vq_init(struct flat_vq *vq, const struct flat_vq_ops *ops, const struct flat_lane *lane,
		  uint32_t slot, enum flat_side side, int anchor_fd, int bell_fd);

/** The notifier's cold half: takes the arm and does what it asks. `rx_side`: for bytes (1) or room (0). */
void flat_vq_notify_slow(struct flat_vq *vq, _Atomic uint32_t *arm);

/** Tells the peer that bytes, FIN or RST of mine are there to see. After flat_ring_commit(). */
static inline void flat_vq_notify_data(struct flat_vq *vq)
{
	/* seq_cst fence: pairs with the one in flat_vq_arm_rx(); store tail before load arm */
	atomic_thread_fence(memory_order_seq_cst);
	_Atomic uint32_t *arm = &vq->tx.ctl->arm.data;
	if (flat_unlikely(atomic_load_explicit(arm, memory_order_relaxed) != FLAT_ARM_NONE))
		flat_vq_notify_slow(vq, arm);
}

/**
 * Tells the peer that there is room. After flat_ring_consume(). Who waits for it is told when it is a third of a bulk ring,
 * as by TCP, and then writes much at once: told of each bit, the two would change places for each. A producer that found no
 * room sleeps with more than that unread, so that whoever reads on comes by here with it. It is not looked for as long as
 * nothing can be owed to it (core.md, 2, R1 to R3).
 */
static inline void flat_vq_notify_room(struct flat_vq *vq)
{
	if (flat_likely(!flat_ring_may_owe(&vq->rx)))
		return;
	vq->rx.fenced = vq->rx.head;
	/* seq_cst fence: pairs with the one in flat_vq_arm_tx(); store head before load arm */
	atomic_thread_fence(memory_order_seq_cst);
	_Atomic uint32_t *arm = &vq->rx.ctl->arm.space;
	if (flat_unlikely(atomic_load_explicit(arm, memory_order_relaxed) != FLAT_ARM_NONE) &&
	    flat_ring_third_free(&vq->rx))
		flat_vq_notify_slow(vq, arm);
}

/**
 * Several may wait: whoever wants a bell gets it, whoever does with the ready bit does not take it back. A wish for a ready
 * bit that somebody else left, of another nap, is replaced (N2).
 */
static inline void flat_vq_arm(_Atomic uint32_t *arm, uint32_t how)
{
	uint32_t now = atomic_load_explicit(arm, memory_order_relaxed);
	/* Once more where the peer took it meanwhile; a word that keeps changing is no honest peer's. */
	for (int i = 0; i < 2 && how != FLAT_ARM_BELL; i++) {
		if (now == how || now == FLAT_ARM_BELL ||
		    atomic_compare_exchange_strong_explicit(arm, &now, how, memory_order_relaxed,
							    memory_order_relaxed))
			return;
	}
	if (now != FLAT_ARM_BELL)
		atomic_store_explicit(arm, FLAT_ARM_BELL, memory_order_relaxed);
}

/** Waiter: asks to be told of bytes, FIN, RST. The caller looks again after it, before it sleeps. `how`: enum flat_arm, or FLAT_ARM_READY_NAP. */
static inline void flat_vq_arm_rx(struct flat_vq *vq, uint32_t how)
{
	flat_vq_arm(&vq->rx.ctl->arm.data, how);
	/* seq_cst fence: pairs with the one in flat_vq_notify_data() */
	atomic_thread_fence(memory_order_seq_cst);
}

/** Waiter: asks to be told of room, and of the peer's end. Likewise. */
static inline void flat_vq_arm_tx(struct flat_vq *vq, uint32_t how)
{
	flat_vq_arm(&vq->tx.ctl->arm.space, how);
	/* seq_cst fence: pairs with the one in flat_vq_notify_room() */
	atomic_thread_fence(memory_order_seq_cst);
}

/** Waiter: looks by itself again. The peer makes no more effort. */
static inline void flat_vq_disarm_rx(struct flat_vq *vq)
{
	_Atomic uint32_t *arm = &vq->rx.ctl->arm.data;
	if (atomic_load_explicit(arm, memory_order_relaxed) != FLAT_ARM_NONE)
		atomic_store_explicit(arm, FLAT_ARM_NONE, memory_order_relaxed);
}

/**
 * After flat_vq_notify_data() of an urgent byte: whoever owns the peer's anchor (F_SETOWN) gets SIGURG, which the kernel sends
 * (Linux 5.15 with AF_UNIX_OOB; else it is a bell and no more). Only where the peer's anchor is what my bell is at.
 */
void flat_vq_urge(struct flat_vq *vq);

/** Sets FLAT_PROD_* on my direction and tells the peer. */
void flat_vq_end_tx(struct flat_vq *vq, uint32_t prod_flags);

/** Sets FLAT_CONS_* on the peer's direction and tells the peer. */
void flat_vq_end_rx(struct flat_vq *vq, uint32_t cons_flags);

/** The peer's flags, each one load: FLAT_PROD_* of the direction I read, FLAT_CONS_* of the one I write. */
static inline uint32_t flat_vq_peer_prod_flags(const struct flat_vq *vq)
{
	/* acquire: tail loaded after a FIN seen here is the last one */
	return atomic_load_explicit(&vq->rx.ctl->prod.flags, memory_order_acquire);
}

/** FLAT_PROD_* of a connection that the offload half cut; the peer alone may have set any of them. */
static inline bool flat_prod_is_cut(uint32_t flags)
{
	return (flags & (FLAT_PROD_RST | FLAT_PROD_ERROR)) == (FLAT_PROD_RST | FLAT_PROD_ERROR);
}

static inline uint32_t flat_vq_peer_cons_flags(const struct flat_vq *vq)
{
	return atomic_load_explicit(&vq->tx.ctl->arm.flags, memory_order_acquire);
}

/** Whether what I send is answered by a reset: the peer is gone, or has shut both its directions. */
enum flat_deaf {
	FLAT_DEAF_NOT = 0,
	FLAT_DEAF_SHUT =
	    1, /* and is held: what has no room waits until some of what is there is taken */
	FLAT_DEAF_GONE = 2,
};

/** Who shuts both sets SHUT before FIN, so that whoever has seen the FIN sends nothing that would be kept. */
static inline enum flat_deaf flat_vq_peer_deaf(const struct flat_vq *vq)
{
	uint32_t cons = flat_vq_peer_cons_flags(vq);
	if (flat_likely((cons & (FLAT_CONS_SHUT | FLAT_CONS_CLOSED)) == 0))
		return FLAT_DEAF_NOT;
	if (cons & FLAT_CONS_CLOSED)
		return FLAT_DEAF_GONE;
	return flat_vq_peer_prod_flags(vq) & FLAT_PROD_FIN ? FLAT_DEAF_SHUT : FLAT_DEAF_NOT;
}

/** My own flags of the direction I write, and of the one I read: another process that holds my end may have set them. */
static inline uint32_t flat_vq_own_prod_flags(const struct flat_vq *vq)
{
	return atomic_load_explicit(&vq->tx.ctl->prod.flags, memory_order_relaxed);
}

static inline uint32_t flat_vq_own_cons_flags(const struct flat_vq *vq)
{
	return atomic_load_explicit(&vq->rx.ctl->arm.flags, memory_order_relaxed);
}

/**
 * Takes the bells that were rung off the anchor, so that the kernel shows it as not readable. Called when
 * there is nothing (more) to read. Costs a system call only if the peer says that it rang. Returns 0, or
 * -ECONNRESET when the anchor's other end is gone.
 */
FLAT_MUST_CHECK int flat_vq_take_bells(struct flat_vq *vq);

/** The same without asking whether any was rung: after a poll said that the anchor is readable. */
FLAT_MUST_CHECK int flat_vq_drain_anchor(struct flat_vq *vq);

/** Bells that the peer says it rang at me, free-running: a hint, which costs no system call. */
static inline uint32_t flat_vq_bells_rung(const struct flat_vq *vq)
{
	return atomic_load_explicit(&vq->rx.ctl->prod.bells, memory_order_relaxed);
}

/** Whether `side` says that it has ended both directions: FIN or RST, and CLOSED, as the last close() does. */
bool flat_vq_ended(const struct flat_lane *lane, uint32_t slot, enum flat_side side);

/**
 * Offload half: every holder of the application's end at `side` is gone. Completes its words: FIN, or RST if it left bytes
 * unread or asked for it (flat_ring_resets(); both also beside the FIN of a shutdown()) or was a server's that nobody accepted, and
 * CLOSED; tells the other side. `bell`: where to ring that one, or -1 when it is the offload half itself.
 */
void flat_vq_complete(const struct flat_lane *lane, uint32_t slot, enum flat_side side, int bell);

/** Offload half: a connect() that was answered early came to something (FLAT_PHASE_*). Rings the client at `bell`. */
void flat_vq_phase(const struct flat_lane *lane, uint32_t slot, uint32_t phase, int bell);

/** Whether a ready bit in `mask` is up: the last look of a waiter that has raised its sleepers. */
static inline int flat_lane_any_ready(struct flat_lane_side *mine, uint64_t mask)
{
	/* seq_cst: pairs with flat_vq_notify_slow(), which sets the bit before it looks at sleepers */
	return (atomic_load_explicit(&mine->ready, memory_order_seq_cst) & mask) != 0;
}

/** One more waiter that no arm flag knows of. Before its last look (I6). */
static inline void flat_lane_sleepers_raise(struct flat_lane_side *mine)
{
	/* seq_cst: pairs with flat_vq_notify_slow() */
	atomic_fetch_add_explicit(&mine->sleepers, 1, memory_order_seq_cst);
}

/** One less: it woke. */
static inline void flat_lane_sleepers_lower(struct flat_lane_side *mine)
{
	/* relaxed: a bell too many harms nobody */
	atomic_fetch_sub_explicit(&mine->sleepers, 1, memory_order_relaxed);
}

/** A wish for a ready bit becomes one for a bell. */
static inline void flat_vq_arm_bell(_Atomic uint32_t *arm)
{
	uint32_t now = atomic_load_explicit(arm, memory_order_relaxed);
	/* acq_rel, as whoever takes it: taken already, it is somebody's of before (N4) */
	if (now != FLAT_ARM_NONE && now != FLAT_ARM_BELL)
		(void)atomic_compare_exchange_strong_explicit(
		    arm, &now, FLAT_ARM_BELL, memory_order_acq_rel, memory_order_relaxed);
}

/** Waiter: it watches this slot no more (N4). Who else does gets a bell. */
static inline void flat_vq_leave(struct flat_vq *vq)
{
	flat_vq_arm_bell(&vq->rx.ctl->arm.data);
	flat_vq_arm_bell(&vq->tx.ctl->arm.space);
}

/*
 * Naps: one bell wakes a waiter of many slots, instead of one for each slot (docs/design/core.md, section 5; model:
 * tests/spin/naps.pml).
 *
 *   waiter                                   notifier
 *     arm its slots with its nap's number      set `before` to the nap, take the arm
 *     nap = a number it never used             set ready bit
 *     look at the ready bits, sleep            nap up? ring; if it is still `before`, clear it
 *     nap = 0
 *
 * The waiter sleeps on the anchors of all the slots that it armed so. Whoever clears the nap rang one of them in the very
 * sleep that the number stands for; what others set later is found when the waiter wakes.
 */

/** A nap of this side for one waiter, which keeps it. 0: all are given out, or its peer says so. */
static inline uint32_t flat_lane_nap_new(struct flat_lane_side *mine)
{
	uint32_t n = atomic_load_explicit(&mine->naps, memory_order_relaxed);
	while (n < FLAT_NAPS_MAX &&
	       !atomic_compare_exchange_weak_explicit(&mine->naps, &n, n + 1, memory_order_relaxed,
						      memory_order_relaxed))
		;
	return n < FLAT_NAPS_MAX ? n + 1 : 0;
}

/** The waiter is about to sleep, for the `count`th time (not 0; or FLAT_NAP_MANY: not alone). Before its last look. */
static inline void flat_lane_nap_begin(struct flat_lane_side *mine, uint32_t nap, uint32_t count)
{
	/* seq_cst: pairs with flat_vq_notify_slow(); the nap before the look at the ready bits */
	atomic_store_explicit(&mine->nap[nap], count, memory_order_seq_cst);
}

/** It woke. */
static inline void flat_lane_nap_end(struct flat_lane_side *mine, uint32_t nap)
{
	/* release: what it does to its slots comes after it */
	atomic_store_explicit(&mine->nap[nap], 0, memory_order_release);
}

/**
 * Takes the ready bits of this side that lie in `mask` (the slots that this process holds). Returns them. Bits of
 * other processes that share the lane stay.
 */
static inline uint64_t flat_lane_take_ready(struct flat_lane_side *mine, uint64_t mask)
{
	/* relaxed look, so that a waiter's loop writes nothing; acquire: pairs with the notifier's OR */
	uint64_t bits = atomic_load_explicit(&mine->ready, memory_order_relaxed) & mask;
	if (bits)
		bits &= atomic_fetch_and_explicit(&mine->ready, ~bits, memory_order_acq_rel);
	return bits;
}

#endif
