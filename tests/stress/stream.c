#include "stream.h"

#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/limits.h"

/* Prime, so that no two places of a ring ever hold the same byte for long. */
#define TABLE_BYTES 65521U

static uint8_t table[2 * TABLE_BYTES];

uint64_t stress_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

int64_t stress_now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void stress_fill_table(uint64_t seed)
{
	uint64_t state = seed | 1;
	for (size_t i = 0; i < TABLE_BYTES; i++)
		table[i] = table[i + TABLE_BYTES] = (uint8_t)(stress_random(&state) >> 32);
}

/* At least `len` <= TABLE_BYTES bytes of the stream of direction `side` from byte `at` on. */
static const uint8_t *stream_at(unsigned int side, uint64_t at)
{
	return table + (at + side * 30011U) % TABLE_BYTES;
}

int stress_fail(struct stress_party *p, const char *fmt, ...)
{
	va_list ap;
	if (p->result->failed)
		return -1;
	p->result->failed = 1;
	va_start(ap, fmt);
	vsnprintf(p->result->why, sizeof(p->result->why), fmt, ap);
	va_end(ap);
	return -1;
}

void stress_place(const struct flat_lane *lane, uint32_t slot, uint32_t start)
{
	flat_lane_slot_reset(lane, slot);
	for (unsigned int d = 0; d < 2; d++) {
		struct flat_ring_ctl *ctl = &flat_lane_slot(lane, slot)->ring[d];
		atomic_store(&ctl->prod.tail, start);
		atomic_store(&ctl->cons.head, start);
	}
}

void stress_party_init(struct stress_party *p, const struct flat_lane *lane, uint32_t slot,
		       enum flat_side side, int anchor_fd, int bell_fd)
{
	uint32_t start = p->how->start;
	p->side = (unsigned int)side;
	flat_vq_init(&p->vq, &flat_vq_shm, lane, slot, side, anchor_fd, bell_fd);
	p->vq.tx.tail = p->vq.tx.head = p->vq.tx.turn_pos = start;
	p->vq.rx.head = p->vq.rx.tail = start;
}

/* 1 to max, small and large equally likely. */
static size_t some(struct stress_party *p, uint32_t max)
{
	unsigned int bits = 32 - (unsigned int)__builtin_clz(max);
	uint64_t r = stress_random(&p->random);
	uint64_t below = 1ULL << (r % bits + 1);
	return 1 + (size_t)((r >> 8) % flat_min_size(below, max));
}

static void copy_in(struct stress_party *p, const struct iovec *iov, int n, size_t len)
{
	size_t done = 0;
	for (int i = 0; i < n && done < len; i++) {
		size_t part = flat_min_size(iov[i].iov_len, len - done);
		memcpy(iov[i].iov_base, stream_at(p->side, p->result->sent + done), part);
		done += part;
	}
}

int stress_write(struct stress_party *p)
{
	struct iovec iov[2];
	size_t want = some(p, p->how->write_max);
	ssize_t got;
	if (p->calm > 0) {
		got = flat_ring_unsent(&p->vq.tx);
		if (got > 0)
			return 0;
		want = 1 + want % 100;
		p->calm--;
	} else if (p->how->calm_one_in && stress_random(&p->random) % p->how->calm_one_in == 0) {
		p->calm = 3 * FLAT_RING_SMALL_RUN;
	}
	if (stress_random(&p->random) % 2) {
		got = flat_ring_write(&p->vq.tx, stream_at(p->side, p->result->sent), want);
	} else {
		int n = 0;
		got = flat_ring_reserve(&p->vq.tx, want, iov, &n);
		/* A reservation may be given up, or kept in part. */
		if (got > 0 && stress_random(&p->random) % 8 == 0)
			got = flat_ring_reserve(&p->vq.tx, want, iov, &n);
		if (got > 0) {
			got = 1 + (ssize_t)(stress_random(&p->random) % (uint64_t)got);
			copy_in(p, iov, n, (size_t)got);
			flat_ring_commit(&p->vq.tx, (size_t)got);
		}
	}
	if (got < 0)
		return stress_fail(p, "write after %llu bytes: %zd",
				   (unsigned long long)p->result->sent, got);
	if (got > 0) {
		p->result->sent += (uint64_t)got;
		flat_vq_notify_data(&p->vq);
	}
	return (int)got;
}

static int check(struct stress_party *p, const void *bytes, uint64_t at, size_t len)
{
	const uint8_t *got = bytes;
	const uint8_t *want = stream_at(p->side ^ 1U, at);
	if (memcmp(got, want, len) == 0)
		return 0;
	size_t i = 0;
	while (got[i] == want[i])
		i++;
	return stress_fail(p, "byte %llu is %02x, not %02x (position %u, ring %u)",
			   (unsigned long long)(at + i), got[i], want[i], p->vq.rx.head,
			   p->vq.rx.which);
}

static ssize_t read_in_place(struct stress_party *p, size_t want)
{
	struct iovec iov[2];
	int n = 0;
	size_t done = 0;
	ssize_t got = flat_ring_peek(&p->vq.rx, iov, &n);
	for (int i = 0; i < n && got > 0 && done < want; i++) {
		size_t part = flat_min_size(iov[i].iov_len, want - done);
		if (check(p, iov[i].iov_base, p->result->received + done, part) != 0)
			return -1;
		done += part;
	}
	if (got > 0)
		flat_ring_consume(&p->vq.rx, done);
	return got > 0 ? (ssize_t)done : got;
}

int stress_read(struct stress_party *p)
{
	static _Thread_local uint8_t buf[TABLE_BYTES];
	size_t want = some(p, p->how->read_max);
	ssize_t got;
	if (stress_random(&p->random) % 4 == 0) {
		/* A look that takes nothing sees the same bytes as the read after it. */
		got = flat_ring_read(&p->vq.rx, buf, want, 0);
		if (got > 0 && check(p, buf, p->result->received, (size_t)got) != 0)
			return -1;
	}
	if (stress_random(&p->random) % 2) {
		got = flat_ring_read(&p->vq.rx, buf, want, 1);
		if (got > 0 && check(p, buf, p->result->received, (size_t)got) != 0)
			return -1;
	} else {
		got = read_in_place(p, want);
	}
	if (got < 0)
		return stress_fail(p, "read after %llu bytes: %zd",
				   (unsigned long long)p->result->received, got);
	if (got > 0) {
		p->result->received += (uint64_t)got;
		flat_vq_notify_room(&p->vq);
	}
	return (int)got;
}

static bool peer_ended(const struct stress_party *p)
{
	return (flat_vq_peer_prod_flags(&p->vq) & FLAT_PROD_FIN) != 0;
}

/* Nothing to do: arms, looks again, sleeps. -1 after a lost wake-up. */
static int sleep_once(struct stress_party *p, bool ended, bool wants_room)
{
	struct pollfd pfd = {.fd = p->vq.anchor_fd, .events = POLLIN};
	flat_vq_arm_rx(&p->vq, FLAT_ARM_BELL);
	if (wants_room)
		flat_vq_arm_tx(&p->vq, FLAT_ARM_BELL);
	if (flat_ring_moved(&p->vq.rx) || peer_ended(p) != ended ||
	    (wants_room && flat_ring_drained(&p->vq.tx)))
		return 0;
	p->result->sleeps++;
	/* A calm party waits with room left, of which nobody tells it (flat_vq_notify_room()). */
	bool owed = !wants_room || p->calm == 0;
	int n = poll(&pfd, 1, owed ? STRESS_LOST_MS : 1);
	if (n == 0 && !owed)
		return 0;
	if (n != 1)
		return stress_fail(p, "lost wake-up after %llu sleeps",
				   (unsigned long long)p->result->sleeps);
	/* An honest party keeps its end until the case is over. */
	if (flat_vq_drain_anchor(&p->vq) != 0)
		return stress_fail(p, "the peer is gone");
	return 0;
}

static void pause_sometimes(struct stress_party *p)
{
	struct timespec ts = {.tv_nsec = 20000};
	if (p->how->pause_one_in == 0 || stress_random(&p->random) % p->how->pause_one_in != 0)
		return;
	if (stress_random(&p->random) % 2)
		nanosleep(&ts, NULL);
	else
		sched_yield();
}

/* Whether what the case is about has happened: a slow machine gets more time for it, within bounds. */
static bool has_happened(const struct stress_party *p, int64_t now_ns)
{
	uint64_t least = p->how->wraps_each ? UINT32_MAX - p->how->start + 8192ULL : 1;
	if (now_ns > p->end_ns + (int64_t)STRESS_LOST_MS * 1000000)
		return true;
	return p->result->sent >= least && p->vq.tx.turns >= p->how->turns_min &&
	       (p->result->sleeps > 0 || peer_ended(p));
}

/*
 * Two that write as fast as they read have always something to do. Where nobody has slept by the end of
 * the time, side 0 keeps still until it has; its peer writes until it sees that end, or has slept itself.
 */
static bool keeps_still(const struct stress_party *p, int64_t now_ns, bool ended)
{
	return p->side == 0 && p->result->sleeps == 0 && !ended && now_ns >= p->end_ns;
}

void stress_party_run(struct stress_party *p)
{
	for (;;) {
		int64_t now_ns = p->sent_all ? 0 : stress_now_ns();
		if (!p->sent_all && now_ns >= p->end_ns && has_happened(p, now_ns)) {
			p->sent_all = true;
			flat_vq_end_tx(&p->vq, FLAT_PROD_FIN);
		}
		/* FIN before bytes: after a FIN seen here no byte follows those that are there. */
		bool ended = peer_ended(p);
		bool still = p->sent_all || keeps_still(p, now_ns, ended);
		int wrote = still ? 0 : stress_write(p);
		int took = wrote < 0 ? -1 : stress_read(p);
		if (wrote < 0 || took < 0)
			break;
		if (took == 0 && ended && p->sent_all)
			break;
		if (took == 0 && wrote == 0 && sleep_once(p, ended, !still) != 0)
			break;
		pause_sometimes(p);
	}
	p->result->turns = p->vq.tx.turns;
	if (p->result->failed)
		flat_vq_end_tx(&p->vq, FLAT_PROD_FIN);
}
