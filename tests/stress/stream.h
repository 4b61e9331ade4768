/*
 * A party of the stress tests: sends a known stream over one end of a connection, checks every byte of the
 * peer's, and sleeps and wakes by the real protocol.
 */
#ifndef TESTS_STRESS_STREAM_H
#define TESTS_STRESS_STREAM_H

#include <stdbool.h>

#include "vq/vq.h"

/* A sleeper that nobody wakes for so long has lost its wake-up, ms: its peer has bytes or room for it. */
#define STRESS_LOST_MS 30000

/** What one case does. Set up before its parties begin; both only read it. */
struct stress_case {
	const char *name;
	struct flat_lane_geometry geo;
	uint32_t write_max; /* bytes of one write: 1 to this, evenly by magnitude */
	uint32_t read_max;
	uint32_t start;	       /* where positions begin, to have them wrap */
	uint32_t wraps_each;   /* 1: each direction must pass 2^32 */
	uint32_t turns_min;    /* switches of ring that each direction must have seen */
	uint32_t pause_one_in; /* a short pause after so many turns of the loop; 0: none */
	uint32_t
	    calm_one_in; /* so often, a run of short writes into a drained ring: it turns back */
};

/** What a party tells the other test half at its end. In memory both have. */
struct stress_result {
	uint64_t sent;
	uint64_t received;
	uint64_t sleeps;
	uint64_t turns;
	int failed;
	char why[200];
};

/** One party; private to it. */
struct stress_party {
	const struct stress_case *how;
	struct stress_result *result;
	struct flat_vq vq;
	unsigned int side;
	uint64_t random;
	int64_t end_ns;
	uint32_t calm; /* short writes still to come */
	bool sent_all;
};

/** xorshift64*: the next of a sequence whose begin is the printed seed. */
uint64_t stress_random(uint64_t *state);

/** Monotonic time, ns. */
int64_t stress_now_ns(void);

/** Makes the table both streams are cut from. Once, before parties begin. */
void stress_fill_table(uint64_t seed);

/** Puts both directions of slot `slot` at position how->start, in shared memory. */
void stress_place(const struct flat_lane *lane, uint32_t slot, uint32_t start);

/** Binds a party to `side` of slot `slot`; vq.anchor_fd and vq.bell_fd as in flat_vq_init(). */
void stress_party_init(struct stress_party *p, const struct flat_lane *lane, uint32_t slot,
		       enum flat_side side, int anchor_fd, int bell_fd);

/** Runs until the party has sent for its time and taken all that its peer sent. Fills p->result. */
void stress_party_run(struct stress_party *p);

/** Writes a random piece of the stream. Bytes written, 0 for no room, -1 after filling in the failure. */
int stress_write(struct stress_party *p);

/** Takes a random piece and checks it. Likewise. */
int stress_read(struct stress_party *p);

/** Notes the first failure. Returns -1. */
int stress_fail(struct stress_party *p, const char *fmt, ...) FLAT_PRINTF(2, 3);

#endif
