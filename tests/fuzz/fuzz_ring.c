/*
 * Hostile words at both ends of a ring. Input: operations of four bytes each. Whatever the shared words say, each call
 * returns a count within its bounds or -EPROTO, and touches nothing outside the rings (address sanitizer, and guards).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vq/vq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct flat_lane_geometry geo = {2, 1024, 16384};
static struct flat_lane lane;
/* What two rings hold, the largest. */
#define UNREAD_MAX (geo.bulk_bytes / FLAT_MID_SHARE + geo.bulk_bytes)

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* Pieces lie in one ring of slot 0, which both directions of slot 1 guard. */
static void in_bounds(const struct iovec *iov, int n, ssize_t len)
{
	size_t sum = 0;
	require(n >= 0 && n <= 2);
	for (int i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;
		bool inside = false;
		for (unsigned int size = 0; size < FLAT_RINGS && !inside; size++) {
			const uint8_t *ring = flat_lane_ring(&lane, 0, 0, size);
			inside = at >= ring &&
				 at + iov[i].iov_len <= ring + flat_lane_ring_bytes(&geo, size);
		}
		require(inside);
		sum += iov[i].iov_len;
	}
	require(len <= 0 || sum == (size_t)len);
}

static void lie(struct flat_ring_ctl *ctl, uint8_t what, uint32_t value)
{
	switch (what % 8) {
	case 0:
		atomic_store(&ctl->prod.tail, value);
		break;
	case 1:
		atomic_fetch_add(&ctl->prod.tail, value & 0x1fff);
		break;
	case 2:
		atomic_store(&ctl->prod.turn, FLAT_TURN(value << 4, value >> 4, value >> 2, value));
		break;
	case 3:
		atomic_store(&ctl->prod.turn,
			     FLAT_TURN(atomic_load(&ctl->prod.tail) + (value & 255), value,
				       value >> 8, value >> 10));
		break;
	case 4:
		atomic_store(&ctl->cons.head, value);
		break;
	case 5:
		atomic_fetch_add(&ctl->cons.head, value & 0x1fff);
		break;
	case 6:
		atomic_store(&ctl->prod.flags, value);
		break;
	default:
		atomic_store(&ctl->arm.data, value);
	}
}

static void call(struct flat_vq *tx, struct flat_vq *rx, uint8_t what, uint32_t value)
{
	static uint8_t buf[8192];
	struct iovec iov[2];
	int n = 0;
	size_t len = value % sizeof(buf);
	ssize_t got;
	switch (what % 8) {
	case 0:
		got = flat_ring_write(&tx->tx, buf, len);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= len));
		break;
	case 1:
		got = flat_ring_reserve(&tx->tx, len, iov, &n);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= len));
		if (got > 0) {
			in_bounds(iov, n, got);
			flat_ring_commit(&tx->tx, (size_t)got / 2);
		}
		break;
	case 2:
	case 3:
		got = flat_ring_read(&rx->rx, buf, len, what % 8 == 2);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= len));
		break;
	case 4:
		got = flat_ring_peek(&rx->rx, iov, &n);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= UNREAD_MAX));
		if (got > 0) {
			in_bounds(iov, n, got);
			flat_ring_consume(&rx->rx, (size_t)got / 2);
		}
		break;
	case 5:
		got = flat_ring_space(&tx->tx);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= geo.bulk_bytes));
		break;
	case 6:
		got = flat_ring_pending(&rx->rx);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= UNREAD_MAX));
		break;
	default:
		got = flat_ring_unsent(&tx->tx);
		require(got == -EPROTO || (got >= 0 && (size_t)got <= UNREAD_MAX));
		flat_vq_notify_data(tx);
		flat_vq_notify_room(rx);
	}
}

static bool ring_no_bell(struct flat_vq *vq)
{
	(void)vq;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct flat_vq_ops ops = {.name = "fuzz", .ring_bell = ring_no_bell};
	struct flat_vq tx;
	struct flat_vq rx;
	if (!lane.base) {
		int fd = flat_lane_create(&geo, 1);
		require(fd >= 0 && flat_lane_map(&lane, fd, &geo, 1) == 0);
		close(fd);
	}
	flat_lane_slot_reset(&lane, 0);
	flat_vq_init(&tx, &ops, &lane, 0, FLAT_SIDE_CLIENT, -1, -1);
	flat_vq_init(&rx, &ops, &lane, 0, FLAT_SIDE_SERVER, -1, -1);
	for (; size >= 4; data += 4, size -= 4) {
		uint32_t value;
		memcpy(&value, data, sizeof(value));
		uint8_t what = (uint8_t)(value >> 24);
		/* As ends do that several processes hold; what is refused is over. */
		if ((what & 0xc0) == 0x40 &&
		    (flat_ring_tx_resume(&tx.tx) != 0 || flat_ring_rx_resume(&rx.rx) != 0))
			return 0;
		if (what & 0x80)
			lie(tx.tx.ctl, what, (value & 0xffffff) | (uint32_t)(what & 0x70) << 25);
		else
			call(&tx, &rx, what, value & 0xffffff);
	}
	return 0;
}
