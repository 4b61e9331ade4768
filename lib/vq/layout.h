/*
 * Every byte that two processes share in a lane, and nothing else.
 *
 * A lane is one sealed memfd that joins two parties: the client side (0) and the server side (1). It has
 * up to 64 slots, one connection each. A slot has two directions; direction d is produced by side d and
 * consumed by the other. A direction has a small ring, prefaulted, and a bulk ring whose pages
 * come into being when they are first written (the arena): see ring.h.
 *
 *   [header 4096][side 0, 4096][side 1, 4096][slot control x slots][small rings][bulk rings]
 *
 * The header is for people with a debugger: no program reads geometry from it. Each party keeps the
 * geometry that the offload half told it in private memory (../docs/design/core.md, invariants).
 *
 * Little-endian, fixed width. A word's comment names its writer; everybody else only loads it.
 */
#ifndef FLAT_VQ_LAYOUT_H
#define FLAT_VQ_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "vq/versions.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the shared layout is little-endian"
#endif

#define FLAT_LANE_MAGIC 0x656e616c74616c66ULL /* "flatlane" */
#define FLAT_LANE_PAGE 4096
#define FLAT_LANE_SLOTS_MAX 64 /* one bit each in flat_lane_side.ready */
#define FLAT_SMALL_BYTES_MIN 1024
#define FLAT_RING_BYTES_MAX (1U << 24)
#define FLAT_MID_SHARE 8 /* a mid ring is this part of a bulk ring */
#define FLAT_RINGS 3

/** The rings of a direction, by size. */
enum flat_ring_size {
	FLAT_RING_SMALL = 0,
	FLAT_RING_MID = 1,
	FLAT_RING_BULK = 2,
};

enum flat_side {
	FLAT_SIDE_CLIENT = 0,
	FLAT_SIDE_SERVER = 1,
};

/* Values of flat_ring_arm.data and flat_ring_arm.space: what a party asks its peer for. */
enum flat_arm {
	FLAT_ARM_NONE = 0,  /* I am looking by myself */
	FLAT_ARM_READY = 1, /* set my ready bit; ring my bell if flat_lane_side.sleepers says so */
	FLAT_ARM_BELL = 2,  /* set my ready bit and ring my bell */
};

/*
 * With FLAT_ARM_READY, in the bits above: the number of the nap in flat_lane_side.nap that says whether to ring; 0: sleepers
 * says it. Who does not know of naps rings.
 */
#define FLAT_ARM_NAP(how) ((uint32_t)(how) >> 8)
#define FLAT_ARM_READY_NAP(nap) (FLAT_ARM_READY | (uint32_t)(nap) << 8)
#define FLAT_NAPS_MAX 15U
/* In a nap: several sleep; it is not taken. */
#define FLAT_NAP_MANY 0x80000000U

/* flat_ring_prod.flags: only ever set, with an atomic OR, until the slot is given back. */
#define FLAT_PROD_FIN 1U   /* no byte follows those up to `tail` */
#define FLAT_PROD_RST 2U   /* the stream is cut: what is unread is void */
#define FLAT_PROD_ERROR 4U /* with RST: the offload half cut it */

/* flat_ring_arm.flags: likewise. */
#define FLAT_CONS_SHUT 1U   /* shutdown(SHUT_RD) */
#define FLAT_CONS_CLOSED 2U /* the consumer is gone; what is sent goes nowhere */

/* flat_ring_cons.carried: processes that carry this end for programs without the library (docs/design/processes.md, 5). */
#define FLAT_CARRY_LENT                                                                            \
	1U /* bytes from `head` on lie in such a program's socket, and may have been read there */
#define FLAT_CARRIER 2U /* one of them */
/* And no carrier's: a holder of this end was told of its reset. Set once, by holders that are no relatives. */
#define FLAT_CARRY_TOLD 0x80000000U
/* Nor this: SO_LINGER with no time. Where the offload half ends this side in its holders' place, it does so by a reset. */
#define FLAT_CARRY_RESET 0x40000000U

/* flat_slot.phase: how a connection comes about whose client was answered before its server was there. */
#define FLAT_PHASE_CONNECTING 0U
#define FLAT_PHASE_OPEN 1U
#define FLAT_PHASE_FAILED(err) (2U | (uint32_t)(err) << 8) /* errno, positive */
#define FLAT_PHASE_ERRNO(phase) ((int)((phase) >> 8 & 0xfffU))

/** Producer's words of one direction. */
struct flat_ring_prod {
	_Atomic uint32_t tail;	/* producer: bytes published, free-running */
	_Atomic uint32_t flags; /* producer (offload half after its death): FLAT_PROD_* */
	_Atomic uint64_t turn;	/* producer: last switch of ring, see FLAT_TURN_* */
	_Atomic uint32_t bells; /* producer: bells rung at the consumer, free-running, a hint */
	uint32_t pad0;
	_Atomic uint64_t total;	 /* producer: bytes published since the slot was new */
	_Atomic uint64_t turned; /* producer: what `total` was at the last turn, before `turn` */
	_Atomic uint64_t
	    woken; /* producer: when it last took an arm, ns: the order of ready bits */
	_Atomic uint64_t dropped; /* producer: before `urgent`, see FLAT_DROPPED */
	_Atomic uint64_t
	    urgent; /* producer: the last urgent byte, before the `tail` that shows it */
};

/** The consumer's position. The producer looks at it when it has no room left, so that the line stays with the consumer. */
struct flat_ring_cons {
	_Atomic uint32_t head; /* consumer: bytes consumed, free-running */
	_Atomic uint32_t
	    carried;		/* consumer: its carriers, FLAT_CARRIER each, and FLAT_CARRY_LENT */
	_Atomic uint64_t urged; /* consumer: urgent bytes dealt with, see FLAT_URGED */
	uint8_t pad[48];
};

/**
 * What both look at for each message, and write when something ends or somebody is about to sleep: on a line of its own,
 * which stays in both caches while bytes flow.
 */
struct flat_ring_arm {
	_Atomic uint32_t data;	/* consumer sets, producer clears: enum flat_arm, wants bytes */
	_Atomic uint32_t space; /* producer sets, consumer clears: enum flat_arm, wants room */
	_Atomic uint32_t flags; /* consumer: FLAT_CONS_* */
	uint8_t pad[52];
};

struct flat_ring_ctl {
	struct flat_ring_prod prod;
	struct flat_ring_arm arm;
	struct flat_ring_cons cons;
};

/** One connection. ring[d] is produced by side d. */
struct flat_slot {
	struct flat_ring_ctl ring[2];
	_Atomic uint32_t phase; /* offload half: FLAT_PHASE_*, of a connect() answered early */
	_Atomic uint32_t taken; /* server: 1, it was accepted */
	uint8_t pad[120];
};

/** What the peer of side s tells it. One page per side. */
struct flat_lane_side {
	_Atomic uint64_t ready; /* peer sets bits, this side clears its own: bit i = slot i */
	uint8_t pad0[56];
	_Atomic uint32_t sleepers; /* this side: waiters asleep that no arm flag knows of */
	_Atomic uint32_t naps;	   /* this side: naps given out; never given back */
	uint8_t pad1[56];
	_Atomic uint32_t
	    nap[FLAT_NAPS_MAX + 1]; /* waiter n: its n-th sleep, another number each time; 0:
						    awake, or the peer rang (and cleared it) */
	uint8_t pad2[FLAT_LANE_PAGE - 192];
};

struct flat_lane_header {
	uint64_t magic;
	uint32_t version;
	uint32_t slots;
	uint32_t small_bytes;
	uint32_t bulk_bytes;
	uint64_t lane_id;
	uint8_t pad[FLAT_LANE_PAGE - 32];
};

_Static_assert(sizeof(struct flat_ring_prod) == 64, "one line");
_Static_assert(offsetof(struct flat_ring_prod, turn) == 8, "turn");
_Static_assert(offsetof(struct flat_ring_prod, bells) == 16, "bells");
_Static_assert(offsetof(struct flat_ring_prod, total) == 24, "total");
_Static_assert(offsetof(struct flat_ring_prod, turned) == 32, "turned");
_Static_assert(offsetof(struct flat_ring_prod, woken) == 40, "woken");
_Static_assert(offsetof(struct flat_ring_prod, dropped) == 48, "dropped");
_Static_assert(offsetof(struct flat_ring_prod, urgent) == 56, "urgent");
_Static_assert(sizeof(struct flat_ring_cons) == 64, "one line");
_Static_assert(offsetof(struct flat_ring_cons, carried) == 4, "carried");
_Static_assert(offsetof(struct flat_ring_cons, urged) == 8, "urged");
_Static_assert(sizeof(struct flat_ring_arm) == 64, "one line");
_Static_assert(sizeof(struct flat_ring_ctl) == 192, "three lines");
_Static_assert(offsetof(struct flat_ring_ctl, arm) == 64, "arm");
_Static_assert(sizeof(struct flat_slot) == 512, "eight lines");
_Static_assert(sizeof(struct flat_lane_side) == FLAT_LANE_PAGE, "one page");
_Static_assert(offsetof(struct flat_lane_side, sleepers) == 64, "sleepers");
_Static_assert(offsetof(struct flat_lane_side, nap) == 128, "nap");
_Static_assert(sizeof(struct flat_lane_header) == FLAT_LANE_PAGE, "one page");

/*
 * flat_ring_prod.turn: position (high 32 bits), count of turns so far (28 bits), the ring left (2 bits) and the one taken
 * (2 bits), enum flat_ring_size. Bytes from `position` on are in the ring taken, unread ones before it in the ring left: a
 * consumer that saw no earlier turn knows both. A producer turns only after the consumer has passed the last turn, so two
 * parts are in flight at the most.
 */
#define FLAT_TURN_COUNT_MASK 0xfffffffU
#define FLAT_TURN(pos, count, left, taken)                                                         \
	(((uint64_t)(pos) << 32) | ((uint64_t)((count)&FLAT_TURN_COUNT_MASK) << 4) |               \
	 ((left)&3U) << 2 | ((taken)&3U))
#define FLAT_TURN_POS(turn) ((uint32_t)((turn) >> 32))
#define FLAT_TURN_COUNT(turn) ((uint32_t)(turn) >> 4)
#define FLAT_TURN_LEFT(turn) ((uint8_t)((turn) >> 2 & 3U))
#define FLAT_TURN_TAKEN(turn) ((uint8_t)((turn)&3U))

/*
 * flat_ring_prod.urgent: position of the last urgent byte (high 32 bits) and its serial number (21 bits), which begins with 1.
 * Only the last one is urgent; those before it are bytes like others.
 */
#define FLAT_SERIAL_MASK 0x1fffffU
#define FLAT_URGENT(pos, serial) ((uint64_t)(pos) << 32 | ((serial)&FLAT_SERIAL_MASK))
#define FLAT_URGENT_POS(urgent) ((uint32_t)((urgent) >> 32))
#define FLAT_URGENT_SERIAL(urgent) ((uint32_t)(urgent)&FLAT_SERIAL_MASK)

/*
 * flat_ring_prod.dropped: an urgent byte that is next to be read when another one comes is lost, as with TCP (tcp_check_urg()).
 * A consumer that is at position `from` (high 32 bits) when it first sees the urgent byte with this serial number (16 bits of it)
 * leaves out `n` bytes (16 bits) there.
 */
#define FLAT_DROPPED(from, n, serial)                                                              \
	((uint64_t)(from) << 32 | (uint64_t)((n)&0xffffU) << 16 | ((serial)&0xffffU))
#define FLAT_DROPPED_FROM(dropped) ((uint32_t)((dropped) >> 32))
#define FLAT_DROPPED_N(dropped) ((uint32_t)(dropped) >> 16)
#define FLAT_DROPPED_IS_OF(dropped, serial) ((((uint32_t)(dropped) ^ (serial)) & 0xffffU) == 0)

/* flat_ring_cons.urged: serial numbers of the last urgent bytes that were seen, taken by MSG_OOB, and passed. */
#define FLAT_URGED(seen, taken, passed)                                                            \
	((uint64_t)(seen) << 42 | (uint64_t)(taken) << 21 | (passed))
#define FLAT_URGED_SEEN(urged) ((uint32_t)((urged) >> 42) & FLAT_SERIAL_MASK)
#define FLAT_URGED_TAKEN(urged) ((uint32_t)((urged) >> 21) & FLAT_SERIAL_MASK)
#define FLAT_URGED_PASSED(urged) ((uint32_t)(urged)&FLAT_SERIAL_MASK)

#endif
