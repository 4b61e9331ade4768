/*
 * A byte stream from one producer to one consumer who do not trust each other, in shared memory.
 *
 * Positions are 32 bits, run freely and are masked on use. A direction has three rings: small (in cache, all that an idle
 * connection has memory for), mid (for messages of a few KiB) and bulk (the lane's arena, for large writes: one copy in, one
 * copy out, or none with the reserve/view calls). The producer turns from one to another by a mark at a position (layout.h).
 * Whatever it uses, a bulk ring's bytes can be had: it takes the mid ring with nothing unread, and leaves it when it is full.
 *
 * Each party's own position and ring choice are private (these structs); shared memory holds published
 * copies. Each shared word is loaded once into a local, checked, then used: a word out of range means a
 * broken peer, the call returns -EPROTO, and the connection is over. Nothing is clamped.
 *
 * One thread at a time on each end (the owner of a connection serialises). Neither call blocks, allocates, or
 * enters the kernel.
 */
#ifndef FLAT_VQ_RING_H
#define FLAT_VQ_RING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/uio.h>

#include "base/base.h"
#include "vq/lane.h"

/** Producer's end. Private to the producing party. */
struct flat_ring_tx {
	struct flat_ring_ctl *ctl; /* shared */
	uint8_t *ring[FLAT_RINGS]; /* shared: small, mid, bulk */
	uint32_t mask[FLAT_RINGS]; /* size - 1 of each */
	uint64_t total;		   /* bytes published since it was bound, a count */
	uint32_t tail;		   /* bytes published, as a position */
	uint32_t head;		   /* consumer's position as last looked at, checked */
	uint32_t turn_pos;	   /* where the ring in use began */
	uint32_t turns;		   /* count of turns */
	uint8_t which;		   /* ring in use, enum flat_ring_size */
	uint8_t left;		   /* the one used before it */
	uint8_t turning;	   /* the consumer has not passed turn_pos yet */
	uint8_t small_run; /* writes in a row that a smaller ring had been right for, drained */
};

/** Consumer's end. Private to the consuming party. */
struct flat_ring_rx {
	struct flat_ring_ctl *ctl;	 /* shared */
	const uint8_t *ring[FLAT_RINGS]; /* shared: small, mid, bulk */
	uint32_t mask[FLAT_RINGS];
	uint32_t head; /* bytes consumed */
	uint32_t tail; /* producer's position as last looked at, checked */
	uint32_t
	    fenced; /* `head`, when it was last asked who waits for room; see flat_ring_may_owe() */
	uint32_t turn_pos;  /* where the coming turn is, if `turning` */
	uint32_t bells_off; /* bells of the producer already taken off the anchor */
	uint64_t turn;	    /* producer's turn word as last looked at, checked */
	uint8_t which;	    /* ring that holds the byte at `head` */
	uint8_t next;	    /* the ring that bytes from turn_pos on are in, if `turning` */
	uint8_t turning;
	uint8_t halts;	      /* reads end before an urgent byte; the host half's do */
	uint32_t urgent_seen; /* serial numbers, FLAT_URGED() */
	uint32_t urgent_taken;
	uint32_t urgent_passed;
	uint64_t urgent; /* producer's word as last looked at */
};

/** Binds a producer's or consumer's end to direction `direction` of a slot. The caller checked both. */
void flat_ring_tx_init(struct flat_ring_tx *tx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction);
void flat_ring_rx_init(struct flat_ring_rx *rx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction);

/**
 * Room for the next `want` bytes, of which fewer may be available. Chooses the ring. Sets iov[0..1] to the
 * writable pieces, oldest first, and *n_iov to 0..2. Returns the bytes available (0: full), or -EPROTO.
 * What was reserved and not committed is forgotten.
 */
FLAT_MUST_CHECK ssize_t flat_ring_reserve(struct flat_ring_tx *tx, size_t want, struct iovec iov[2],
					  int *n_iov);

/**
 * Fetches the line behind what was published, to write to it: its consumer has it since the last time round, and what comes next
 * could not be seen before it was back.
 */
static inline void flat_ring_own_next(const struct flat_ring_tx *tx)
{
	const uint8_t *next =
	    tx->ring[tx->which] + ((tx->tail + FLAT_CACHELINE - 1) & tx->mask[tx->which]);
#if defined(__x86_64__)
	/* The builtin fetches for reading, unless it is built for processors that all know the other; those that do not pass it. */
	__asm__ __volatile__("prefetchw %0" : : "m"(*next));
#else
	__builtin_prefetch(next, 1);
#endif
}

/** Makes the first `len` reserved bytes visible to the consumer. No wake-up: see wake.h. */
static inline void flat_ring_commit(struct flat_ring_tx *tx, size_t len)
{
	tx->tail += (uint32_t)len;
	tx->total += len;
	/* relaxed: a count for whoever looks on; the same line as tail, so it costs no transfer */
	atomic_store_explicit(&tx->ctl->prod.total, tx->total, memory_order_relaxed);
	/* release: pairs with the acquire of tail in flat_ring_peek() */
	atomic_store_explicit(&tx->ctl->prod.tail, tx->tail, memory_order_release);
	flat_ring_own_next(tx);
}

/** Copies up to `len` bytes in. Returns the count (0: full), or -EPROTO. No wake-up. */
FLAT_MUST_CHECK ssize_t flat_ring_write(struct flat_ring_tx *tx, const void *buf, size_t len);

/** Bytes that a write would take now, without choosing a ring, or -EPROTO. */
FLAT_MUST_CHECK ssize_t flat_ring_space(struct flat_ring_tx *tx);

/** Bytes written that the consumer has not taken, or -EPROTO. */
FLAT_MUST_CHECK ssize_t flat_ring_unsent(struct flat_ring_tx *tx);

/**
 * Readable pieces, oldest first, in iov[0..1], *n_iov 0..2; they may be fewer bytes than are there (up to a turn, or to an urgent
 * byte where the end halts).
 * Returns their bytes (0: empty), or -EPROTO. The memory belongs to the producer, who may change it at
 * any time: a hostile one between two looks.
 */
FLAT_MUST_CHECK ssize_t flat_ring_peek(struct flat_ring_rx *rx, struct iovec iov[2], int *n_iov);

/** Gives `len` bytes of what was peeked at back to the producer. No wake-up: see wake.h. */
static inline void flat_ring_consume(struct flat_ring_rx *rx, size_t len)
{
	rx->head += (uint32_t)len;
	/* release: pairs with the acquire of head in flat_ring_reserve() */
	atomic_store_explicit(&rx->ctl->cons.head, rx->head, memory_order_release);
}

/**
 * Copies up to `len` bytes out and, with `consume`, gives them back. Without it, it is a peek across
 * turns too. An end that halts gets none from an urgent byte on, see flat_ring_urgent(). Returns the count (0: empty), or -EPROTO.
 */
FLAT_MUST_CHECK ssize_t flat_ring_read(struct flat_ring_rx *rx, void *buf, size_t len, int consume);

/**
 * Readable pieces beyond the first `skip` bytes, which stay unread like these: in iov[0..3], *n_iov 0..4. Returns their bytes
 * (0: none), or -EPROTO, also where there are not as many as `skip`. The memory is the producer's, as with flat_ring_peek().
 */
FLAT_MUST_CHECK ssize_t flat_ring_look(struct flat_ring_rx *rx, size_t skip, struct iovec iov[4],
				       int *n_iov);

/** All bytes published and not consumed, or -EPROTO. */
FLAT_MUST_CHECK ssize_t flat_ring_pending(struct flat_ring_rx *rx);

/**
 * Takes up positions where another process that holds the same end left them: before each use of an end that several
 * processes hold, one at a time. From the words in shared memory: this party's own, and thus no more private than its
 * peer is honest; what could not be is -EPROTO, and the masks keep every access inside the rings. 0.
 */
FLAT_MUST_CHECK int flat_ring_tx_resume(struct flat_ring_tx *tx);
FLAT_MUST_CHECK int flat_ring_rx_resume(struct flat_ring_rx *rx);

/** flat_ring_moved() for such an end, without taking positions up. */
static inline int flat_ring_moved_any(const struct flat_ring_rx *rx)
{
	return atomic_load_explicit(&rx->ctl->prod.tail, memory_order_relaxed) !=
	       atomic_load_explicit(&rx->ctl->cons.head, memory_order_relaxed);
}

/** The same beyond the first `skip` bytes. */
static inline int flat_ring_moved_beyond(const struct flat_ring_rx *rx, uint32_t skip)
{
	return atomic_load_explicit(&rx->ctl->prod.tail, memory_order_relaxed) -
		   atomic_load_explicit(&rx->ctl->cons.head, memory_order_relaxed) !=
	       skip;
}

/** What carriers of this end say of themselves (FLAT_CARRIER, FLAT_CARRY_LENT): a hint, or read under their locks. */
static inline uint32_t flat_ring_carried(const struct flat_ring_rx *rx)
{
	/* acquire: pairs with flat_ring_carry(); what a carrier did before it said so */
	return atomic_load_explicit(&rx->ctl->cons.carried, memory_order_acquire) &
	       ~(FLAT_CARRY_TOLD | FLAT_CARRY_RESET);
}

/** Whether a holder of this end was told of its reset; and that one was. Of an end that processes hold which are no relatives. */
static inline bool flat_ring_told(const struct flat_ring_rx *rx)
{
	return (atomic_load_explicit(&rx->ctl->cons.carried, memory_order_relaxed) &
		FLAT_CARRY_TOLD) != 0;
}
static inline void flat_ring_tell(struct flat_ring_rx *rx)
{
	atomic_fetch_or_explicit(&rx->ctl->cons.carried, FLAT_CARRY_TOLD, memory_order_relaxed);
}

/** Whether a close() of this end is a reset, for who may have to end it in its holders' place. */
static inline int flat_ring_resets(const struct flat_ring_rx *rx)
{
	return (atomic_load_explicit(&rx->ctl->cons.carried, memory_order_relaxed) &
		FLAT_CARRY_RESET) != 0;
}
static inline void flat_ring_set_resets(struct flat_ring_rx *rx, int on)
{
	if (on)
		atomic_fetch_or_explicit(&rx->ctl->cons.carried, FLAT_CARRY_RESET,
					 memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&rx->ctl->cons.carried, ~FLAT_CARRY_RESET,
					  memory_order_relaxed);
}

/** A carrier begins (FLAT_CARRIER), ends (-FLAT_CARRIER), has bytes lent (FLAT_CARRY_LENT), has none (-FLAT_CARRY_LENT). */
static inline void flat_ring_carry(struct flat_ring_rx *rx, uint32_t what)
{
	atomic_fetch_add_explicit(&rx->ctl->cons.carried, what, memory_order_release);
}

/*
 * Urgent bytes (MSG_OOB). They are part of the stream; a word beside `tail` says where the last one is. It is stored before that
 * tail, so whoever has seen the byte finds its mark. A mark is taken for what it says while its byte lies between the consumer's
 * position and the end; any other means nothing, whoever wrote it.
 *
 *   seen    the consumer has taken note of it, and has left out what is lost with it (FLAT_DROPPED)
 *   taken   its byte was read by MSG_OOB; it lies in the stream still
 *   passed  the stream was read beyond it: it is no more
 */

/** Before the flat_ring_commit() that shows it: the byte `at` places behind what is committed is urgent. */
void flat_ring_mark(struct flat_ring_tx *tx, uint32_t at);

/** flat_ring_write() whose last byte is urgent. */
FLAT_MUST_CHECK ssize_t flat_ring_write_urgent(struct flat_ring_tx *tx, const void *buf,
					       size_t len);

/** Whether there may be one that was not passed. After a look at the ring; one load. */
static inline int flat_ring_marked(const struct flat_ring_rx *rx)
{
	/* relaxed: ordered by the acquire of tail before it */
	return FLAT_URGENT_SERIAL(atomic_load_explicit(&rx->ctl->prod.urgent,
						       memory_order_relaxed)) != rx->urgent_passed;
}

/** The same by what stands in shared memory, for an end that several processes hold. */
static inline int flat_ring_marked_any(const struct flat_ring_rx *rx)
{
	return FLAT_URGENT_SERIAL(
		   atomic_load_explicit(&rx->ctl->prod.urgent, memory_order_relaxed)) !=
	       FLAT_URGED_PASSED(atomic_load_explicit(&rx->ctl->cons.urged, memory_order_relaxed));
}

/** An urgent byte that is there to be read. */
enum flat_urgent {
	FLAT_URGENT_NONE = 0,
	FLAT_URGENT_THERE = 1,
	FLAT_URGENT_TAKEN = 2,
};

/**
 * Looks for one, and changes nothing that others who hold the end see. *ahead: bytes before it, without *lost ones, which whoever
 * reads next leaves out, unless urgent bytes are `in_line`. enum flat_urgent, or -EPROTO.
 */
FLAT_MUST_CHECK int flat_ring_urgent_look(struct flat_ring_rx *rx, bool in_line, uint32_t *ahead,
					  uint32_t *lost);
/**
 * The same for who reads. Bytes that are lost with it (FLAT_DROPPED) are consumed, unless urgent bytes are `in_line`. *ahead: bytes
 * before it. enum flat_urgent, or -EPROTO.
 */
FLAT_MUST_CHECK int flat_ring_urgent(struct flat_ring_rx *rx, bool in_line, uint32_t *ahead);
/** Of the one that flat_ring_urgent() found: it was taken; it is to be passed, and is a byte like others. */
void flat_ring_urgent_take(struct flat_ring_rx *rx);
void flat_ring_urgent_pass(struct flat_ring_rx *rx);

/** An urgent byte among bytes that go on to another ring: offsets in these. */
struct flat_urgent_passed {
	uint32_t at;
	uint32_t from; /* n bytes from here on are lost with it where its reader is there */
	uint32_t n;    /* 0: none */
};
/** Whether there is one among the last `len` bytes that were consumed. It is passed. */
FLAT_MUST_CHECK bool flat_ring_urgent_in(struct flat_ring_rx *rx, uint32_t len,
					 struct flat_urgent_passed *u);
/** flat_ring_mark() for these bytes, in this ring. */
void flat_ring_mark_passed(struct flat_ring_tx *tx, const struct flat_urgent_passed *u);

/** Cheapest possible "is there anything": a single load, unchecked, for a spinning waiter. */
static inline int flat_ring_moved(const struct flat_ring_rx *rx)
{
	return atomic_load_explicit(&rx->ctl->prod.tail, memory_order_relaxed) != rx->head;
}

/*
 * Who waits for room is owed a bell when a third of a bulk ring is free. It waits only where it has found no more than a quarter
 * free (flat_ring_writable(); a send() finds none). So nobody is owed one who has not seen the consumer take more than a twelfth:
 * up to a sixteenth the consumer need not ask.
 */
#define FLAT_RING_WRITABLE_SHARE 4
#define FLAT_RING_UNASKED_SHARE 16

/** Producer: whether so much room (flat_ring_space()) is what poll() calls writable. Who waits for room has less, or none. */
static inline bool flat_ring_writable(const struct flat_ring_tx *tx, ssize_t space)
{
	return space > (ssize_t)((tx->mask[FLAT_RING_BULK] + 1) / FLAT_RING_WRITABLE_SHARE);
}

/**
 * Consumer: whether it may owe a bell to who waits for room. Not as long as all that it has seen since it last asked is little: what
 * was seen bounds what was taken, also what others cannot see yet.
 */
static inline bool flat_ring_may_owe(const struct flat_ring_rx *rx)
{
	return rx->tail - rx->fenced > (rx->mask[FLAT_RING_BULK] + 1) / FLAT_RING_UNASKED_SHARE;
}

/** Whether a third of a bulk ring is free, by what was seen of the producer: as much as TCP wakes a writer for. */
static inline int flat_ring_third_free(const struct flat_ring_rx *rx)
{
	uint32_t size = rx->mask[FLAT_RING_BULK] + 1;
	return rx->tail - rx->head < size - size / 3;
}

/** The producer's position as it says, unchecked: to tell whether it moved since an earlier look. */
static inline uint32_t flat_ring_tail_hint(const struct flat_ring_rx *rx)
{
	return atomic_load_explicit(&rx->ctl->prod.tail, memory_order_relaxed);
}

/** When the producer last took an arm, as it says: to put those in order whose ready bits are taken together. */
static inline uint64_t flat_ring_woken(const struct flat_ring_rx *rx)
{
	return atomic_load_explicit(&rx->ctl->prod.woken, memory_order_relaxed);
}

/** Likewise: the consumer has taken something since the producer last looked. */
static inline int flat_ring_drained(const struct flat_ring_tx *tx)
{
	return atomic_load_explicit(&tx->ctl->cons.head, memory_order_relaxed) != tx->head;
}

#endif
