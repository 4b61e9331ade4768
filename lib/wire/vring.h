/*
 * A ring each way between two hosts, moved by RDMA writes: bytes in order, positions and credits in the writes'
 * immediates. Here are positions and bounds alone; what posts the writes is behind flat_vring_ops (verbs.h). The peer is
 * not trusted: it writes anything into `in` at any time, and says any position. docs/design/verbs.md. One thread.
 */
#ifndef FLAT_WIRE_VRING_H
#define FLAT_WIRE_VRING_H

#include <stdbool.h>

#include "base/base.h"
#include "base/limits.h"

/* An immediate: this bit, and the low 31 bits of a position. Clear: bytes up to there are written; set: taken. */
#define FLAT_VRING_CREDIT (1U << 31)

struct flat_vring_ops {
	/**
	 * Writes `len` bytes at offset `at` of `out`, going on at its beginning after its end, to the same offsets of the
	 * peer's `in`, then tells the peer `imm`. len 0: tells alone. 0; -EAGAIN: no room to post, nothing was done; other
	 * negative errnos: the connection is broken.
	 */
	int (*write)(void *ctx, uint32_t at, uint32_t len, uint32_t imm);
};

struct flat_vring {
	const struct flat_vring_ops *ops;
	void *ctx;
	uint8_t *out;	   /* our bytes: read by the device; kept until they are credited */
	const uint8_t *in; /* the peer's: written by it */
	uint32_t size;	   /* of each, bytes, a power of two to 2^30 */
	/* Positions run freely; credited <= posted <= put <= credited + size. */
	uint64_t put;
	uint64_t posted;
	uint64_t credited;
	/* Where messages end that are not credited, oldest first: a FIFO. */
	uint64_t ends[FLAT_VERBS_MSGS];
	uint32_t first_end;
	uint32_t n_ends;
	/* told <= taken <= come <= told + size. */
	uint64_t come;
	uint64_t taken;
	uint64_t told;
	uint32_t untold; /* messages that came since `told` */
};

/** `out` and `in` are the caller's, `size` bytes each. */
void flat_vring_init(struct flat_vring *r, const struct flat_vring_ops *ops, void *ctx,
		     uint8_t *out, const uint8_t *in, uint32_t size);

/** Takes up to `len` bytes to be written; how many, 0 where `out` is full of bytes without credit. */
size_t flat_vring_put(struct flat_vring *r, const uint8_t *bytes, size_t len);
/** Posts what was put and what credit is due, as far as there is room. 0, or a negative errno: broken. */
FLAT_MUST_CHECK int flat_vring_push(struct flat_vring *r);
/** An immediate that came. 0, or -EPROTO: no honest peer says this. */
FLAT_MUST_CHECK int flat_vring_told(struct flat_vring *r, uint32_t imm);
/**
 * Bytes that came, as far as they lie in one piece: their count, in `bytes` where. The peer may write them again at any
 * time: they are copied before anything depends on them.
 */
size_t flat_vring_peek(const struct flat_vring *r, const uint8_t **bytes);
/** The first `len` of them are done with. Credit for them goes with a later flat_vring_push(). */
void flat_vring_take(struct flat_vring *r, size_t len);

/** Bytes from position `at` (credited <= at <= put) on, as far as they lie in one piece; to be sent another way. */
size_t flat_vring_kept(const struct flat_vring *r, uint64_t at, const uint8_t **bytes);

#endif
