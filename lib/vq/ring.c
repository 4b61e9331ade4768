#include "vq/ring.h"

#include <stdbool.h>

#include "base/limits.h"
#include "vq/deep.h"

void flat_ring_tx_init(struct flat_ring_tx *tx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction)
{
	memset(tx, 0, sizeof(*tx));
	tx->ctl = &flat_lane_slot(lane, slot)->ring[direction];
	tx->ring[0] = flat_lane_small(lane, slot, direction);
	tx->ring[1] = flat_lane_bulk(lane, slot, direction);
	tx->mask[0] = lane->geo.small_bytes - 1;
	tx->mask[1] = lane->geo.bulk_bytes - 1;
}

/* How far behind its bulk ring a direction's deep one is, in bulk rings: 2 to 2033; 0 where it is not mapped. */
static uint16_t deep_at(const struct flat_lane *lane, uint32_t slot, unsigned int direction)
{
	if (lane->shallow)
		return 0;
	return (uint16_t)((size_t)(flat_lane_deep(lane, slot, direction) -
				   flat_lane_bulk(lane, slot, direction)) /
			  lane->geo.bulk_bytes);
}

static uint32_t deep_bytes(const uint32_t mask[2])
{
	return (mask[1] + 1) << FLAT_DEEP_SHIFT;
}

void flat_ring_rx_init(struct flat_ring_rx *rx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction)
{
	memset(rx, 0, sizeof(*rx));
	rx->ctl = &flat_lane_slot(lane, slot)->ring[direction];
	rx->ring[0] = flat_lane_small(lane, slot, direction);
	rx->ring[1] = flat_lane_bulk(lane, slot, direction);
	rx->mask[0] = lane->geo.small_bytes - 1;
	rx->mask[1] = lane->geo.bulk_bytes - 1;
	rx->deep_at = deep_at(lane, slot, direction);
	rx->deep_lent = lane->deep_lent ? lane->deep_lent + direction : NULL;
	rx->slot = (uint8_t)slot;
}

void flat_ring_tx_allow_deep(struct flat_ring_tx *tx, const struct flat_lane *lane, uint32_t slot,
			     unsigned int direction)
{
	tx->deep_at = deep_at(lane, slot, direction);
	/* Nor shall its peer write where this process cannot read. */
	for (unsigned int d = 0; lane->shallow && d < 2; d++)
		flat_deep_never(&flat_lane_slot(lane, slot)->ring[d]);
}

/* Looks at the consumer's position once. Returns 0, or -EPROTO if it lies outside what was sent. */
static int look_at_head(struct flat_ring_tx *tx)
{
	/* acquire: pairs with the release in flat_ring_consume(); the bytes may be overwritten after it */
	uint32_t head = atomic_load_explicit(&tx->ctl->cons.head, memory_order_acquire);
	if (tx->tail - head > tx->tail - tx->head)
		return -EPROTO;
	tx->head = head;
	if (tx->turning && tx->tail - head <= tx->tail - tx->turn_pos)
		tx->turning = 0;
	return 0;
}

/* Whether the consumer, as last looked at, has come to `pos`, which lies no further back than what it may be at. */
static bool has_come_to(const struct flat_ring_tx *tx, uint32_t pos)
{
	return tx->tail - tx->head <= tx->tail - pos;
}

/* --- the deep ring of a producer --- */

static void tell_deep(struct flat_ring_tx *tx, uint32_t len, uint8_t state)
{
	tx->deep = state;
	/* release: after it those bytes are in the bulk ring, or here, that the next store of tail speaks of */
	atomic_store_explicit(&tx->ctl->prod.deep,
			      state == FLAT_DEEP_NONE ? 0 : FLAT_DEEP(tx->deep_pos, len, state),
			      memory_order_release);
}

/* In use, or left and not passed yet: is it time to leave it, or is it over? After a look at the consumer. */
FLAT_COLD static void settle_deep(struct flat_ring_tx *tx)
{
	uint32_t taken = FLAT_LEASE_TAKEN;
	if (tx->deep == FLAT_DEEP_OPEN && has_come_to(tx, tx->deep_pos)) {
		tx->deep_end = tx->tail;
		tell_deep(tx, tx->tail - tx->deep_pos, FLAT_DEEP_SHUT);
	}
	if (tx->deep != FLAT_DEEP_SHUT || !has_come_to(tx, tx->deep_end))
		return;
	tell_deep(tx, 0, FLAT_DEEP_NONE);
	/* release: who lends it anew sees that nothing is in it */
	(void)atomic_compare_exchange_strong_explicit(&tx->ctl->arm.lease, &taken, FLAT_LEASE_NONE,
						      memory_order_release, memory_order_relaxed);
}

static bool is_lent(const struct flat_ring_tx *tx)
{
	return tx->deep_at && tx->deep == FLAT_DEEP_NONE &&
	       atomic_load_explicit(&tx->ctl->arm.lease, memory_order_relaxed) ==
		   FLAT_LEASE_GRANTED;
}

/* The bulk ring is full. Returns the room that there is instead. */
FLAT_COLD static uint32_t open_deep(struct flat_ring_tx *tx)
{
	uint32_t granted = FLAT_LEASE_GRANTED;
	if (!is_lent(tx))
		return 0;
	/* acquire: pairs with the offload half's; what it freed there, it has freed */
	if (!atomic_compare_exchange_strong_explicit(&tx->ctl->arm.lease, &granted,
						     FLAT_LEASE_TAKEN, memory_order_acquire,
						     memory_order_relaxed))
		return 0;
	tx->deep_pos = tx->tail;
	tell_deep(tx, 0, FLAT_DEEP_OPEN);
	return deep_bytes(tx->mask);
}

bool flat_ring_tx_asks(struct flat_ring_tx *tx)
{
	uint32_t none = FLAT_LEASE_NONE;
	/* EPOLLOUT is told of a third of a bulk ring. */
	if (tx->tail - tx->head <= tx->mask[1] / 2)
		return false;
	/* seq_cst, after the fence of flat_vq_arm_tx(): who ends a watch looks at the arm after it */
	return tx->deep_at &&
	       atomic_load_explicit(&tx->ctl->arm.lease, memory_order_seq_cst) == FLAT_LEASE_NONE &&
	       atomic_compare_exchange_strong_explicit(&tx->ctl->arm.lease, &none, FLAT_LEASE_ASKED,
						       memory_order_seq_cst, memory_order_relaxed);
}

void flat_ring_tx_asks_not(struct flat_ring_tx *tx)
{
	uint32_t asked = FLAT_LEASE_ASKED;
	(void)atomic_compare_exchange_strong_explicit(&tx->ctl->arm.lease, &asked, FLAT_LEASE_NONE,
						      memory_order_relaxed, memory_order_relaxed);
}

/* Room with the deep ring in use, or before its end is passed. Writes nothing. */
FLAT_COLD static uint32_t deep_room(const struct flat_ring_tx *tx)
{
	bool open = tx->deep == FLAT_DEEP_OPEN;
	if (open && !has_come_to(tx, tx->deep_pos))
		return deep_bytes(tx->mask) - (tx->tail - tx->deep_pos);
	uint32_t since = open ? 0 : tx->tail - tx->deep_end;
	return tx->mask[1] + 1 - (uint32_t)flat_min_size(since, tx->tail - tx->head);
}

/* --- writing --- */

/* Free bytes of the ring in use, small or bulk, of a producer with nothing in the deep one. */
static uint32_t shallow_room(const struct flat_ring_tx *tx)
{
	uint32_t since_turn = tx->tail - tx->turn_pos;
	uint32_t used = tx->tail - tx->head;
	if (tx->turning && since_turn < used)
		used = since_turn;
	return tx->mask[tx->which] + 1 - used;
}

/* Free bytes where the next ones go. */
static uint32_t room(const struct flat_ring_tx *tx)
{
	return flat_unlikely(tx->deep != FLAT_DEEP_NONE) ? deep_room(tx) : shallow_room(tx);
}

static void turn_to(struct flat_ring_tx *tx, uint8_t which)
{
	tx->which = which;
	tx->turns++;
	tx->turn_pos = tx->tail;
	tx->turning = tx->head != tx->tail;
	tx->small_run = 0;
	atomic_store_explicit(&tx->ctl->prod.turned, tx->total, memory_order_relaxed);
	/* release: `turned` before it (look_anew()); that of tail orders it before the bytes it speaks of */
	atomic_store_explicit(&tx->ctl->prod.turn, FLAT_TURN(tx->tail, tx->turns, which),
			      memory_order_release);
}

/* Chooses the ring for a write of `want` bytes. */
static void choose_ring(struct flat_ring_tx *tx, size_t want)
{
	if (tx->turning || tx->deep != FLAT_DEEP_NONE)
		return;
	if (tx->which == 0) {
		if (want > room(tx))
			turn_to(tx, 1);
		return;
	}
	if (tx->head != tx->tail || want > (tx->mask[0] + 1) / 2) {
		tx->small_run = 0;
		return;
	}
	if (++tx->small_run >= FLAT_RING_SMALL_RUN)
		turn_to(tx, 0);
}

ssize_t flat_ring_reserve(struct flat_ring_tx *tx, size_t want, struct iovec iov[2], int *n_iov)
{
	size_t free = shallow_room(tx);
	/* Who uses the deep ring has turned to the bulk one: a message that the small one takes does not ask. */
	if (tx->turning || tx->which == 1 || free < want) {
		if (look_at_head(tx) != 0)
			return -EPROTO;
		if (flat_unlikely(tx->deep != FLAT_DEEP_NONE))
			settle_deep(tx);
		choose_ring(tx, want);
		free = room(tx);
		if (flat_unlikely(free == 0 && tx->which == 1))
			free = open_deep(tx);
		if (flat_unlikely(tx->deep == FLAT_DEEP_OPEN)) {
			iov[0].iov_base = tx->ring[1] + (size_t)tx->deep_at * (tx->mask[1] + 1) +
					  (tx->tail - tx->deep_pos);
			iov[0].iov_len = flat_min_size(free, want);
			*n_iov = iov[0].iov_len > 0;
			return (ssize_t)iov[0].iov_len;
		}
	}
	uint32_t size = tx->mask[tx->which] + 1;
	size_t len = flat_min_size(free, want);
	uint32_t at = tx->tail & tx->mask[tx->which];
	size_t first = flat_min_size(len, size - at);
	iov[0].iov_base = tx->ring[tx->which] + at;
	iov[0].iov_len = first;
	iov[1].iov_base = tx->ring[tx->which];
	iov[1].iov_len = len - first;
	*n_iov = len == 0 ? 0 : len == first ? 1 : 2;
	return (ssize_t)len;
}

ssize_t flat_ring_write(struct flat_ring_tx *tx, const void *buf, size_t len)
{
	struct iovec iov[2];
	int n;
	ssize_t got = flat_ring_reserve(tx, len, iov, &n);
	if (got <= 0)
		return got;
	memcpy(iov[0].iov_base, buf, iov[0].iov_len);
	if (n == 2)
		memcpy(iov[1].iov_base, (const uint8_t *)buf + iov[0].iov_len, iov[1].iov_len);
	flat_ring_commit(tx, (size_t)got);
	return got;
}

ssize_t flat_ring_space(struct flat_ring_tx *tx)
{
	if (look_at_head(tx) != 0)
		return -EPROTO;
	if (tx->which == 0 && !tx->turning)
		return (ssize_t)(tx->mask[1] + 1); /* a large write turns to the empty bulk ring */
	return (ssize_t)room(tx) + (is_lent(tx) ? deep_bytes(tx->mask) : 0);
}

ssize_t flat_ring_unsent(struct flat_ring_tx *tx)
{
	if (look_at_head(tx) != 0)
		return -EPROTO;
	return (ssize_t)(tx->tail - tx->head);
}

/* Takes notice of a turn word not seen before. Returns 0, or -EPROTO if no honest producer made it. */
static int look_at_turn(struct flat_ring_rx *rx)
{
	uint64_t turn = atomic_load_explicit(&rx->ctl->prod.turn, memory_order_relaxed);
	if (turn == rx->turn)
		return 0;
	uint32_t ahead = FLAT_TURN_POS(turn) - rx->head;
	if (ahead > rx->mask[0] + 1 + rx->mask[1] + 1)
		return -EPROTO;
	rx->turn = turn;
	rx->turn_pos = FLAT_TURN_POS(turn);
	rx->which = (uint8_t)(FLAT_TURN_RING(turn) ^ 1U);
	rx->turning = 1;
	/* Who turns has left the deep ring. */
	rx->deep = 0;
	rx->inside = 0;
	return 0;
}

/* Of `all` bytes unread, none of which is in the deep ring: how many are in rx->which. Returns 0, or -EPROTO. */
static int before_turn(struct flat_ring_rx *rx, uint32_t all, uint32_t *len)
{
	uint32_t before = all;
	if (rx->turning) {
		uint32_t ahead = rx->turn_pos - rx->head;
		if (ahead == 0) {
			rx->turning = 0;
			rx->which ^= 1;
		} else if (ahead < all) {
			before = ahead;
		}
	}
	if (before > rx->mask[rx->which] + 1 || all - before > rx->mask[rx->which ^ 1] + 1)
		return -EPROTO;
	*len = before;
	return 0;
}

/* Where the deep part ends that began at its position: as far as it can reach, while it is open. */
static uint32_t deep_limit(const struct flat_ring_rx *rx)
{
	return FLAT_DEEP_STATE(rx->deep) == FLAT_DEEP_OPEN ? deep_bytes(rx->mask)
							   : FLAT_DEEP_LEN(rx->deep);
}

/* Pages that nobody wrote would be made by who reads them: whoever lends them takes none that it did not lend. */
static bool may_read_deep(const struct flat_ring_rx *rx)
{
	/* relaxed: set before the lease, which the producer has seen before it wrote; read after its position */
	return rx->deep_at &&
	       (!rx->deep_lent ||
		(atomic_load_explicit(rx->deep_lent, memory_order_relaxed) >> rx->slot & 1) != 0);
}

/* The same as before_turn() where some bytes are, or were, in the deep ring. */
FLAT_COLD static int around_deep(struct flat_ring_rx *rx, uint64_t deep, uint32_t all,
				 uint32_t *len)
{
	uint32_t state = FLAT_DEEP_STATE(deep);
	bool open = state == FLAT_DEEP_OPEN;
	rx->deep = deep;
	rx->inside = 0;
	if (state == FLAT_DEEP_NONE)
		return before_turn(rx, all, len);
	if (deep_limit(rx) > deep_bytes(rx->mask) || (!open && state != FLAT_DEEP_SHUT))
		return -EPROTO;
	uint32_t in = rx->head - FLAT_DEEP_POS(deep);
	uint32_t ahead = FLAT_DEEP_POS(deep) - rx->head;
	if (in < deep_limit(rx)) {
		uint32_t here = (uint32_t)flat_min_size(all, deep_limit(rx) - in);
		if (all - here > (open ? 0 : rx->mask[1] + 1) || !may_read_deep(rx))
			return -EPROTO;
		rx->inside = 1;
		*len = here;
		return 0;
	}
	/* Passed; it is shut before bytes come that follow it, and no sooner than it is read. */
	if (ahead == 0 || ahead > rx->mask[0] + 1 + rx->mask[1] + 1)
		return open ? -EPROTO : before_turn(rx, all, len);
	uint32_t shallow = (uint32_t)flat_min_size(all, ahead);
	if (!open || all - shallow > deep_bytes(rx->mask))
		return -EPROTO;
	return before_turn(rx, shallow, len);
}

/*
 * Looks at the producer's position and turn once each. Sets *len to the bytes readable in rx->which, or in the deep ring if
 * rx->inside, which end at a turn. Returns 0, or -EPROTO.
 */
static int look_at_tail(struct flat_ring_rx *rx, uint32_t *len)
{
	/* acquire: pairs with the release in flat_ring_commit() */
	uint32_t tail = atomic_load_explicit(&rx->ctl->prod.tail, memory_order_acquire);
	uint32_t all = tail - rx->head;
	*len = 0;
	if (all == 0) {
		rx->tail = tail;
		return 0;
	}
	if (look_at_turn(rx) != 0 || all < rx->tail - rx->head)
		return -EPROTO;
	/* All in the small ring: whoever uses the deep one has turned to the bulk one. */
	if (!rx->turning && rx->which == 0) {
		if (all > rx->mask[0] + 1)
			return -EPROTO;
		rx->tail = tail;
		*len = all;
		return 0;
	}
	/* The same line, and 0 but for writers whom nobody read. */
	uint64_t deep = atomic_load_explicit(&rx->ctl->prod.deep, memory_order_relaxed);
	int err = flat_unlikely(deep != 0 || rx->deep != 0) ? around_deep(rx, deep, all, len)
							    : before_turn(rx, all, len);
	if (err == 0)
		rx->tail = tail;
	else
		*len = 0;
	return err;
}

/* The pieces that hold the `len` bytes found by the last look. Returns their count. */
static inline int pieces(const struct flat_ring_rx *rx, size_t len, struct iovec iov[2])
{
	uint8_t which = rx->which;
	uint32_t at = rx->head & rx->mask[which];
	/* The const is ours: iovec has none, and readers of a peek must not write. */
	if (flat_unlikely(rx->inside)) {
		uint32_t in = rx->head - FLAT_DEEP_POS(rx->deep);
		iov[0].iov_base =
		    (void *)(uintptr_t)(rx->ring[1] + (size_t)rx->deep_at * (rx->mask[1] + 1) + in);
		iov[0].iov_len = len;
		return len > 0;
	}
	size_t first = flat_min_size(len, rx->mask[which] + 1 - at);
	iov[0].iov_base = (void *)(uintptr_t)(rx->ring[which] + at);
	iov[0].iov_len = first;
	iov[1].iov_base = (void *)(uintptr_t)rx->ring[which];
	iov[1].iov_len = len - first;
	return len == 0 ? 0 : len == first ? 1 : 2;
}

ssize_t flat_ring_peek(struct flat_ring_rx *rx, struct iovec iov[2], int *n_iov)
{
	uint32_t len;
	if (look_at_tail(rx, &len) != 0)
		return -EPROTO;
	*n_iov = pieces(rx, len, iov);
	return (ssize_t)len;
}

static size_t copy_out(const struct iovec iov[2], int n, uint8_t *to, size_t max)
{
	size_t done = 0;
	for (int i = 0; i < n && done < max; i++) {
		size_t part = flat_min_size(iov[i].iov_len, max - done);
		memcpy(to + done, iov[i].iov_base, part);
		done += part;
	}
	return done;
}

/* Three at the most: bytes before a turn, after it, and in the deep ring; or in that one, and after it. */
#define PARTS_MAX 3

/* What a peek finds beyond the first `skip` bytes: it goes on in a copy. Returns the count, or -EPROTO. */
FLAT_COLD static ssize_t peek_beyond(const struct flat_ring_rx *rx, size_t skip, uint8_t *to,
				     size_t max)
{
	struct flat_ring_rx copy = *rx;
	struct iovec iov[2];
	size_t done = 0;
	copy.head += (uint32_t)skip;
	for (int part = 1; part < PARTS_MAX && done < max; part++) {
		uint32_t there;
		if (look_at_tail(&copy, &there) != 0)
			return -EPROTO;
		if (there == 0)
			break;
		size_t got = copy_out(iov, pieces(&copy, there, iov), to + done, max - done);
		copy.head += (uint32_t)got;
		done += got;
	}
	return (ssize_t)done;
}

ssize_t flat_ring_read(struct flat_ring_rx *rx, void *buf, size_t len, int consume)
{
	struct iovec iov[2];
	size_t done = 0;
	for (int part = 0; part < PARTS_MAX && done < len; part++) {
		uint32_t there;
		if (look_at_tail(rx, &there) != 0)
			return done > 0 ? (ssize_t)done : -EPROTO;
		if (there == 0)
			break;
		int n = pieces(rx, there, iov);
		size_t got = copy_out(iov, n, (uint8_t *)buf + done, len - done);
		done += got;
		if (consume) {
			flat_ring_consume(rx, got);
			continue;
		}
		if (got == there && rx->tail - rx->head > there && done < len) {
			ssize_t more = peek_beyond(rx, got, (uint8_t *)buf + done, len - done);
			done += more > 0 ? (size_t)more : 0;
		}
		break;
	}
	return (ssize_t)done;
}

ssize_t flat_ring_pending(struct flat_ring_rx *rx)
{
	uint32_t len;
	if (look_at_tail(rx, &len) != 0)
		return -EPROTO;
	return (ssize_t)(rx->tail - rx->head);
}

/* --- one end in several processes --- */

/* The words of a direction, that fit each other. */
struct anew {
	uint64_t turn;
	uint64_t total;
	uint64_t since; /* bytes published since that turn */
	uint64_t deep;
	uint32_t tail;
	uint32_t head;
};

/* How often words that are being changed are read: a producer can turn once while its consumer stands still. */
#define ANEW_TRIES 8

static int look_anew(struct flat_ring_ctl *ctl, const uint32_t mask[2], struct anew *a)
{
	for (int i = 0; i < ANEW_TRIES; i++) {
		/* acquire: pairs with turn_to() */
		a->turn = atomic_load_explicit(&ctl->prod.turn, memory_order_acquire);
		uint64_t turned = atomic_load_explicit(&ctl->prod.turned, memory_order_relaxed);
		/* acquire: pairs with flat_ring_commit(), which stores `total` first */
		a->tail = atomic_load_explicit(&ctl->prod.tail, memory_order_acquire);
		a->total = atomic_load_explicit(&ctl->prod.total, memory_order_relaxed);
		a->head = atomic_load_explicit(&ctl->cons.head, memory_order_acquire);
		a->deep = atomic_load_explicit(&ctl->prod.deep, memory_order_relaxed);
		if ((uint32_t)turned != FLAT_TURN_POS(a->turn))
			continue;
		/* A producer that is at it, or was killed there, has counted what it did not publish. */
		a->total -= (uint32_t)a->total - a->tail;
		a->since = a->total - turned;
		uint32_t deep = a->deep ? deep_bytes(mask) : 0;
		return a->tail - a->head > mask[0] + 1 + mask[1] + 1 + deep ? -EPROTO : 0;
	}
	return -EPROTO;
}

/* Whether the rings can hold what is unread. Where they cannot, room() would wrap, and a write run past the lane. */
static bool fits(const struct flat_ring_tx *tx)
{
	uint32_t used = tx->tail - tx->head;
	uint32_t since_turn = tx->tail - tx->turn_pos;
	uint32_t here = tx->turning && since_turn < used ? since_turn : used;
	return here <= tx->mask[tx->which] + 1 && used - here <= tx->mask[tx->which ^ 1] + 1;
}

/* The same with a deep ring in use, or left and not passed yet: who uses it has turned to the bulk one. */
static bool deep_fits(const struct flat_ring_tx *tx)
{
	bool open = tx->deep == FLAT_DEEP_OPEN;
	uint32_t from = open ? tx->deep_pos : tx->deep_end;
	uint32_t since = tx->tail - from;
	uint32_t before = has_come_to(tx, from) ? 0 : from - tx->head;
	if (tx->deep > FLAT_DEEP_SHUT || tx->which == 0 || tx->deep_at == 0)
		return false;
	/* Open: before it the other two, in it what it holds. Shut: that is what is before, and what follows is in bulk. */
	if (open)
		return before <= tx->mask[0] + 1 + tx->mask[1] + 1 && since <= deep_bytes(tx->mask);
	return before <= deep_bytes(tx->mask) && since <= tx->mask[1] + 1;
}

int flat_ring_tx_resume(struct flat_ring_tx *tx)
{
	struct anew a;
	if (look_anew(tx->ctl, tx->mask, &a) != 0)
		return -EPROTO;
	if (tx->turns != (uint32_t)a.turn >> 1 || tx->turn_pos != FLAT_TURN_POS(a.turn))
		tx->small_run = 0;
	tx->total = a.total;
	tx->tail = a.tail;
	tx->head = a.head;
	tx->turn_pos = FLAT_TURN_POS(a.turn);
	tx->turns = (uint32_t)a.turn >> 1;
	tx->which = (uint8_t)FLAT_TURN_RING(a.turn);
	tx->turning = a.since < a.tail - a.head;
	tx->deep = (uint8_t)FLAT_DEEP_STATE(a.deep);
	tx->deep_pos = FLAT_DEEP_POS(a.deep);
	tx->deep_end = tx->deep_pos + FLAT_DEEP_LEN(a.deep);
	return (tx->deep == FLAT_DEEP_NONE ? fits(tx) : deep_fits(tx)) ? 0 : -EPROTO;
}

int flat_ring_rx_resume(struct flat_ring_rx *rx)
{
	struct anew a;
	if (look_anew(rx->ctl, rx->mask, &a) != 0)
		return -EPROTO;
	rx->head = a.head;
	rx->tail = a.head;
	rx->deep = 0;
	rx->inside = 0;
	rx->turn = a.turn;
	rx->turn_pos = FLAT_TURN_POS(a.turn);
	rx->turning = a.since < a.tail - a.head;
	rx->which = (uint8_t)(FLAT_TURN_RING(a.turn) ^ rx->turning);
	return 0;
}
