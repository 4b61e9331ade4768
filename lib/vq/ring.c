#include "vq/ring.h"

#include <stdbool.h>

#include "base/limits.h"

void flat_ring_tx_init(struct flat_ring_tx *tx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction)
{
	memset(tx, 0, sizeof(*tx));
	tx->ctl = &flat_lane_slot(lane, slot)->ring[direction];
	for (unsigned int i = 0; i < FLAT_RINGS; i++) {
		tx->ring[i] = flat_lane_ring(lane, slot, direction, i);
		tx->mask[i] = flat_lane_ring_bytes(&lane->geo, i) - 1;
	}
}

void flat_ring_rx_init(struct flat_ring_rx *rx, const struct flat_lane *lane, uint32_t slot,
		       unsigned int direction)
{
	memset(rx, 0, sizeof(*rx));
	rx->ctl = &flat_lane_slot(lane, slot)->ring[direction];
	for (unsigned int i = 0; i < FLAT_RINGS; i++) {
		rx->ring[i] = flat_lane_ring(lane, slot, direction, i);
		rx->mask[i] = flat_lane_ring_bytes(&lane->geo, i) - 1;
	}
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

/* Free bytes of the ring in use. */
static uint32_t room(const struct flat_ring_tx *tx)
{
	uint32_t since_turn = tx->tail - tx->turn_pos;
	uint32_t used = tx->tail - tx->head;
	if (tx->turning && since_turn < used)
		used = since_turn;
	return tx->mask[tx->which] + 1 - used;
}

static void turn_to(struct flat_ring_tx *tx, uint8_t taken)
{
	tx->left = tx->which;
	tx->which = taken;
	tx->turns = (tx->turns + 1) & FLAT_TURN_COUNT_MASK;
	tx->turn_pos = tx->tail;
	tx->turning = tx->head != tx->tail;
	tx->small_run = 0;
	atomic_store_explicit(&tx->ctl->prod.turned, tx->total, memory_order_relaxed);
	/* release: `turned` before it (look_anew()); that of tail orders it before the bytes it speaks of */
	atomic_store_explicit(&tx->ctl->prod.turn, FLAT_TURN(tx->tail, tx->turns, tx->left, taken),
			      memory_order_release);
}

/*
 * Chooses the ring for a write of `want` bytes. With bytes unread it is the bulk ring that follows: a turn has to be passed
 * before there can be another, and a mid ring that had to wait for that could not hold what a bulk ring does.
 */
static void choose_ring(struct flat_ring_tx *tx, size_t want)
{
	bool drained = tx->head == tx->tail;
	if (tx->turning)
		return;
	if (tx->which != FLAT_RING_BULK && want > room(tx)) {
		bool mid =
		    tx->which == FLAT_RING_SMALL && drained && want <= tx->mask[FLAT_RING_MID] + 1;
		turn_to(tx, mid ? FLAT_RING_MID : FLAT_RING_BULK);
		return;
	}
	if (tx->which == FLAT_RING_SMALL)
		return;
	if (!drained)
		tx->small_run = 0;
	else if (tx->small_run >= FLAT_RING_SMALL_RUN)
		turn_to(tx, tx->which - 1);
}

/* The consumer's line is the consumer's: without need it is looked at now and then, for whether the ring was drained. */
static bool must_look(struct flat_ring_tx *tx, size_t want)
{
	if (tx->turning || room(tx) < want)
		return true;
	if (tx->which == FLAT_RING_SMALL)
		return false;
	tx->small_run = want > (tx->mask[tx->which - 1] + 1) / 2 ? 0 : (uint8_t)(tx->small_run + 1);
	return tx->small_run != 0 && tx->small_run % FLAT_RING_SMALL_LOOK == 0;
}

ssize_t flat_ring_reserve(struct flat_ring_tx *tx, size_t want, struct iovec iov[2], int *n_iov)
{
	if (must_look(tx, want)) {
		if (look_at_head(tx) != 0)
			return -EPROTO;
		choose_ring(tx, want);
	}
	uint32_t size = tx->mask[tx->which] + 1;
	size_t len = flat_min_size(room(tx), want);
	uint32_t at = tx->tail & tx->mask[tx->which];
	size_t first = flat_min_size(len, size - at);
	iov[0].iov_base = tx->ring[tx->which] + at;
	iov[0].iov_len = first;
	iov[1].iov_base = tx->ring[tx->which];
	iov[1].iov_len = len - first;
	*n_iov = len == 0 ? 0 : len == first ? 1 : 2;
	return (ssize_t)len;
}

/* Bytes that are there to be committed; inlined, as this is what send() does. */
__attribute__((always_inline)) static inline ssize_t copy_in(struct flat_ring_tx *tx,
							     const void *buf, size_t len)
{
	struct iovec iov[2];
	int n;
	ssize_t got = flat_ring_reserve(tx, len, iov, &n);
	if (got <= 0)
		return got;
	memcpy(iov[0].iov_base, buf, iov[0].iov_len);
	if (n == 2)
		memcpy(iov[1].iov_base, (const uint8_t *)buf + iov[0].iov_len, iov[1].iov_len);
	return got;
}

ssize_t flat_ring_write(struct flat_ring_tx *tx, const void *buf, size_t len)
{
	ssize_t got = copy_in(tx, buf, len);
	if (got > 0)
		flat_ring_commit(tx, (size_t)got);
	return got;
}

ssize_t flat_ring_write_urgent(struct flat_ring_tx *tx, const void *buf, size_t len)
{
	ssize_t got = copy_in(tx, buf, len);
	if (got <= 0)
		return got;
	flat_ring_mark(tx, (uint32_t)got - 1);
	flat_ring_commit(tx, (size_t)got);
	return got;
}

ssize_t flat_ring_space(struct flat_ring_tx *tx)
{
	if (look_at_head(tx) != 0)
		return -EPROTO;
	if (tx->which != FLAT_RING_BULK && !tx->turning)
		return (ssize_t)(tx->mask[FLAT_RING_BULK] +
				 1); /* a large write turns to the empty bulk ring */
	return (ssize_t)room(tx);
}

ssize_t flat_ring_unsent(struct flat_ring_tx *tx)
{
	if (look_at_head(tx) != 0)
		return -EPROTO;
	return (ssize_t)(tx->tail - tx->head);
}

/* Whether a turn word names rings that there are, and not one twice. */
static bool names_rings(uint64_t turn)
{
	return FLAT_TURN_TAKEN(turn) < FLAT_RINGS && FLAT_TURN_LEFT(turn) < FLAT_RINGS &&
	       (turn == 0 || FLAT_TURN_TAKEN(turn) != FLAT_TURN_LEFT(turn));
}

/* Takes notice of a turn word not seen before. Returns 0, or -EPROTO if no honest producer made it. */
static int look_at_turn(struct flat_ring_rx *rx)
{
	uint64_t turn = atomic_load_explicit(&rx->ctl->prod.turn, memory_order_relaxed);
	if (turn == rx->turn)
		return 0;
	uint32_t ahead = FLAT_TURN_POS(turn) - rx->head;
	if (!names_rings(turn) || ahead > rx->mask[FLAT_TURN_LEFT(turn)] + 1)
		return -EPROTO;
	rx->turn = turn;
	rx->turn_pos = FLAT_TURN_POS(turn);
	rx->which = FLAT_TURN_LEFT(turn);
	rx->next = FLAT_TURN_TAKEN(turn);
	rx->turning = 1;
	return 0;
}

/*
 * Looks at the producer's position and turn once each. Sets *len to the bytes readable in rx->which, which
 * end at a turn. Returns 0, or -EPROTO.
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
	uint32_t before = all;
	if (rx->turning) {
		uint32_t ahead = rx->turn_pos - rx->head;
		if (ahead == 0) {
			rx->turning = 0;
			rx->which = rx->next;
		} else if (ahead < all) {
			before = ahead;
		}
	}
	if (before > rx->mask[rx->which] + 1 || all - before > rx->mask[rx->next] + 1)
		return -EPROTO;
	rx->tail = tail;
	*len = before;
	return 0;
}

/* --- urgent bytes --- */

static void publish_urged(const struct flat_ring_rx *rx)
{
	/* relaxed: a copy, for who takes this end up under its lock */
	atomic_store_explicit(&rx->ctl->cons.urged,
			      FLAT_URGED(rx->urgent_seen, rx->urgent_taken, rx->urgent_passed),
			      memory_order_relaxed);
}

static void see_urgent(struct flat_ring_rx *rx)
{
	rx->urgent_seen = FLAT_URGENT_SERIAL(rx->urgent);
	publish_urged(rx);
}

void flat_ring_urgent_take(struct flat_ring_rx *rx)
{
	rx->urgent_taken = FLAT_URGENT_SERIAL(rx->urgent);
	publish_urged(rx);
}

void flat_ring_urgent_pass(struct flat_ring_rx *rx)
{
	rx->urgent_passed = FLAT_URGENT_SERIAL(rx->urgent);
	publish_urged(rx);
}

/* More than any producer can have sent: a position so far ahead is behind. */
static bool is_behind(const struct flat_ring_rx *rx, uint32_t ahead)
{
	return ahead > rx->mask[FLAT_RING_MID] + 1 + rx->mask[FLAT_RING_BULK] + 1;
}

/* After look_at_tail(), which comes before it: whether the last urgent byte is among the bytes that are there. Changes nothing shared. */
static enum flat_urgent find_urgent(struct flat_ring_rx *rx, uint32_t *ahead)
{
	uint64_t urgent = atomic_load_explicit(&rx->ctl->prod.urgent, memory_order_acquire);
	uint32_t serial = FLAT_URGENT_SERIAL(urgent);
	uint32_t before = FLAT_URGENT_POS(urgent) - rx->head;
	rx->urgent = urgent;
	/* Passed; on its way, or read over. */
	if (serial == rx->urgent_passed || before >= rx->tail - rx->head)
		return FLAT_URGENT_NONE;
	*ahead = before;
	return serial == rx->urgent_taken ? FLAT_URGENT_TAKEN : FLAT_URGENT_THERE;
}

/* Bytes from `head` on that are lost with the one that find_urgent() found. */
static uint32_t dropped(const struct flat_ring_rx *rx, uint32_t ahead)
{
	/* The acquire of `urgent` comes before: this one, or one that belongs to a later one. */
	uint64_t word = atomic_load_explicit(&rx->ctl->prod.dropped, memory_order_relaxed);
	if (!FLAT_DROPPED_IS_OF(word, FLAT_URGENT_SERIAL(rx->urgent)) ||
	    FLAT_DROPPED_FROM(word) != rx->head || FLAT_DROPPED_N(word) > ahead)
		return 0;
	return FLAT_DROPPED_N(word);
}

int flat_ring_urgent_look(struct flat_ring_rx *rx, bool in_line, uint32_t *ahead, uint32_t *lost)
{
	uint32_t here;
	*lost = 0;
	if (look_at_tail(rx, &here) != 0)
		return -EPROTO;
	int how = (int)find_urgent(rx, ahead);
	if (how != (int)FLAT_URGENT_NONE && !in_line &&
	    rx->urgent_seen != FLAT_URGENT_SERIAL(rx->urgent))
		*lost = dropped(rx, *ahead);
	*ahead -= *lost;
	return how;
}

int flat_ring_urgent(struct flat_ring_rx *rx, bool in_line, uint32_t *ahead)
{
	uint32_t here;
	uint32_t n;
	int how = flat_ring_urgent_look(rx, in_line, ahead, &n);
	if (how <= (int)FLAT_URGENT_NONE)
		return how;
	if (rx->urgent_seen != FLAT_URGENT_SERIAL(rx->urgent))
		see_urgent(rx);
	if (n > 0 && (look_at_tail(rx, &here) != 0 || here == 0))
		return -EPROTO;
	while (n > 0) {
		uint32_t part = here < n ? here : n;
		flat_ring_consume(rx, part);
		n -= part;
		/* A turn may have been passed. None left where there were some is a lie. */
		if (n > 0 && (look_at_tail(rx, &here) != 0 || here == 0))
			return -EPROTO;
	}
	return how;
}

bool flat_ring_urgent_in(struct flat_ring_rx *rx, uint32_t len, struct flat_urgent_passed *u)
{
	uint64_t urgent = atomic_load_explicit(&rx->ctl->prod.urgent, memory_order_acquire);
	uint32_t first = rx->head - len;
	uint32_t serial = FLAT_URGENT_SERIAL(urgent);
	if (serial == rx->urgent_passed)
		return false;
	u->at = FLAT_URGENT_POS(urgent) - first;
	if (u->at >= len && !is_behind(rx, u->at))
		return false;
	rx->urgent = urgent;
	flat_ring_urgent_pass(rx);
	uint64_t word = atomic_load_explicit(&rx->ctl->prod.dropped, memory_order_relaxed);
	u->from = FLAT_DROPPED_FROM(word) - first;
	u->n = FLAT_DROPPED_IS_OF(word, serial) && u->from < u->at ? FLAT_DROPPED_N(word) : 0;
	return u->at < len;
}

/* Position that the consumer goes on at, once it has left out what is to be left out. */
static uint32_t goes_on_at(uint32_t head, uint64_t urgent, uint64_t word)
{
	bool to_drop =
	    FLAT_DROPPED_IS_OF(word, FLAT_URGENT_SERIAL(urgent)) && FLAT_DROPPED_FROM(word) == head;
	return head + (to_drop ? FLAT_DROPPED_N(word) : 0);
}

static void mark(struct flat_ring_tx *tx, uint32_t pos, uint32_t from, uint32_t n)
{
	uint64_t last = atomic_load_explicit(&tx->ctl->prod.urgent, memory_order_relaxed);
	uint64_t word = atomic_load_explicit(&tx->ctl->prod.dropped, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&tx->ctl->cons.head, memory_order_relaxed);
	uint32_t serial = FLAT_URGENT_SERIAL(last) + 1;
	uint32_t at = goes_on_at(head, last, word);
	uint32_t lost = at - head;
	/* The last one is next to be read. */
	if (last != 0 && FLAT_URGENT_POS(last) == at && at != tx->tail)
		lost += lost < 0xffffU;
	if (lost > 0) {
		from = head;
		n = lost;
	}
	atomic_store_explicit(&tx->ctl->prod.dropped, FLAT_DROPPED(from, n, serial),
			      memory_order_relaxed);
	/* release: pairs with find_urgent(); that of tail orders it before the byte it speaks of */
	atomic_store_explicit(&tx->ctl->prod.urgent, FLAT_URGENT(pos, serial),
			      memory_order_release);
}

void flat_ring_mark(struct flat_ring_tx *tx, uint32_t at)
{
	mark(tx, tx->tail + at, 0, 0);
}

void flat_ring_mark_passed(struct flat_ring_tx *tx, const struct flat_urgent_passed *u)
{
	mark(tx, tx->tail + u->at, tx->tail + u->from, u->n);
}

/* The pieces of ring `which` that hold `len` bytes from position `pos`. Returns their count. */
static int pieces(const struct flat_ring_rx *rx, uint8_t which, uint32_t pos, size_t len,
		  struct iovec iov[2])
{
	uint32_t at = pos & rx->mask[which];
	size_t first = flat_min_size(len, rx->mask[which] + 1 - at);
	/* The const is ours: iovec has none, and readers of a peek must not write. */
	iov[0].iov_base = (void *)(uintptr_t)(rx->ring[which] + at);
	iov[0].iov_len = first;
	iov[1].iov_base = (void *)(uintptr_t)rx->ring[which];
	iov[1].iov_len = len - first;
	return len == 0 ? 0 : len == first ? 1 : 2;
}

/* Of all bytes that are there, those before the urgent byte; none, too, where flat_ring_urgent() has bytes to leave out. */
static uint32_t until_urgent(struct flat_ring_rx *rx)
{
	uint32_t all = rx->tail - rx->head;
	uint32_t ahead = all;
	uint32_t n;
	if (find_urgent(rx, &ahead) == FLAT_URGENT_NONE) {
		if (is_behind(rx, FLAT_URGENT_POS(rx->urgent) - rx->head))
			flat_ring_urgent_pass(rx);
		return all;
	}
	if (rx->urgent_seen == FLAT_URGENT_SERIAL(rx->urgent))
		return ahead;
	n = dropped(rx, ahead);
	if (n == 0)
		see_urgent(rx);
	return n == 0 ? ahead : 0;
}

/* What may be read now of `here` bytes before a turn and those beyond it: of all. */
static inline uint32_t readable(struct flat_ring_rx *rx, uint32_t *here)
{
	uint32_t all = rx->tail - rx->head;
	if (flat_unlikely(flat_ring_marked(rx)) && rx->halts)
		all = until_urgent(rx);
	if (all < *here)
		*here = all;
	return all;
}

ssize_t flat_ring_peek(struct flat_ring_rx *rx, struct iovec iov[2], int *n_iov)
{
	uint32_t len;
	if (look_at_tail(rx, &len) != 0)
		return -EPROTO;
	(void)readable(rx, &len);
	*n_iov = pieces(rx, rx->which, rx->head, len, iov);
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

ssize_t flat_ring_read(struct flat_ring_rx *rx, void *buf, size_t len, int consume)
{
	struct iovec iov[2];
	int n;
	size_t done = 0;
	/* At most twice: bytes before a turn, and bytes after it. */
	for (int part = 0; part < 2 && done < len; part++) {
		uint32_t there;
		if (look_at_tail(rx, &there) != 0)
			return done > 0 ? (ssize_t)done : -EPROTO;
		uint32_t all = readable(rx, &there);
		if (there == 0)
			break;
		n = pieces(rx, rx->which, rx->head, there, iov);
		size_t got = copy_out(iov, n, (uint8_t *)buf + done, len - done);
		done += got;
		if (consume) {
			flat_ring_consume(rx, got);
			continue;
		}
		uint32_t beyond = all - there;
		if (beyond > 0 && done < len) {
			n = pieces(rx, rx->next, rx->head + there, beyond, iov);
			done += copy_out(iov, n, (uint8_t *)buf + done, len - done);
		}
		break;
	}
	return (ssize_t)done;
}

ssize_t flat_ring_look(struct flat_ring_rx *rx, size_t skip, struct iovec iov[4], int *n_iov)
{
	uint32_t here;
	*n_iov = 0;
	if (look_at_tail(rx, &here) != 0)
		return -EPROTO;
	size_t all = rx->tail - rx->head;
	if (skip > all)
		return -EPROTO;
	if (skip < here)
		*n_iov = pieces(rx, rx->which, rx->head + (uint32_t)skip, here - skip, iov);
	size_t at = skip > here ? skip : here;
	if (all > at)
		*n_iov += pieces(rx, rx->next, rx->head + (uint32_t)at, all - at, iov + *n_iov);
	return (ssize_t)(all - skip);
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
	uint32_t tail;
	uint32_t head;
};

/* How often words that are being changed are read: a producer can turn once while its consumer stands still. */
#define ANEW_TRIES 8

static int look_anew(struct flat_ring_ctl *ctl, const uint32_t mask[FLAT_RINGS], struct anew *a)
{
	for (int i = 0; i < ANEW_TRIES; i++) {
		/* acquire: pairs with turn_to() */
		a->turn = atomic_load_explicit(&ctl->prod.turn, memory_order_acquire);
		uint64_t turned = atomic_load_explicit(&ctl->prod.turned, memory_order_relaxed);
		/* acquire: pairs with flat_ring_commit(), which stores `total` first */
		a->tail = atomic_load_explicit(&ctl->prod.tail, memory_order_acquire);
		a->total = atomic_load_explicit(&ctl->prod.total, memory_order_relaxed);
		a->head = atomic_load_explicit(&ctl->cons.head, memory_order_acquire);
		if ((uint32_t)turned != FLAT_TURN_POS(a->turn))
			continue;
		/* A producer that is at it, or was killed there, has counted what it did not publish. */
		a->total -= (uint32_t)a->total - a->tail;
		a->since = a->total - turned;
		if (!names_rings(a->turn))
			return -EPROTO;
		/* The most two of them hold. */
		return a->tail - a->head > mask[FLAT_RING_MID] + 1 + mask[FLAT_RING_BULK] + 1
			   ? -EPROTO
			   : 0;
	}
	return -EPROTO;
}

/* Whether the rings can hold what is unread. Where they cannot, room() would wrap, and a write run past the lane. */
static bool fits(const struct flat_ring_tx *tx)
{
	uint32_t used = tx->tail - tx->head;
	uint32_t since_turn = tx->tail - tx->turn_pos;
	uint32_t here = tx->turning && since_turn < used ? since_turn : used;
	return here <= tx->mask[tx->which] + 1 && used - here <= tx->mask[tx->left] + 1;
}

int flat_ring_tx_resume(struct flat_ring_tx *tx)
{
	struct anew a;
	if (look_anew(tx->ctl, tx->mask, &a) != 0)
		return -EPROTO;
	if (tx->turns != FLAT_TURN_COUNT(a.turn) || tx->turn_pos != FLAT_TURN_POS(a.turn))
		tx->small_run = 0;
	tx->total = a.total;
	tx->tail = a.tail;
	tx->head = a.head;
	tx->turn_pos = FLAT_TURN_POS(a.turn);
	tx->turns = FLAT_TURN_COUNT(a.turn);
	tx->which = FLAT_TURN_TAKEN(a.turn);
	tx->left = FLAT_TURN_LEFT(a.turn);
	tx->turning = a.since < a.tail - a.head;
	return fits(tx) ? 0 : -EPROTO;
}

int flat_ring_rx_resume(struct flat_ring_rx *rx)
{
	struct anew a;
	if (look_anew(rx->ctl, rx->mask, &a) != 0)
		return -EPROTO;
	rx->head = a.head;
	rx->tail = a.head;
	/* Who took bytes before may have asked for nobody: it is asked with the next ones. */
	rx->fenced = a.head - rx->mask[FLAT_RING_BULK] - 1;
	rx->turn = a.turn;
	rx->turn_pos = FLAT_TURN_POS(a.turn);
	rx->turning = a.since < a.tail - a.head;
	rx->next = FLAT_TURN_TAKEN(a.turn);
	rx->which = rx->turning ? FLAT_TURN_LEFT(a.turn) : rx->next;
	uint64_t urged = atomic_load_explicit(&rx->ctl->cons.urged, memory_order_relaxed);
	rx->urgent_seen = FLAT_URGED_SEEN(urged);
	rx->urgent_taken = FLAT_URGED_TAKEN(urged);
	rx->urgent_passed = FLAT_URGED_PASSED(urged);
	return 0;
}
