/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What flatperf says on a connection.
 *
 * A message is a 14-byte header and a body; the header's length counts both. A connection whose
 * first byte is PERF_KIND_ECHO carries no messages: each byte is sent back as it is. One whose first
 * byte is PERF_KIND_COUNTERS carries counters after it, 8 bytes each, little endian, from 0, one more
 * each; PERF_COUNTER_END ends them and is answered with their count.
 *
 *   offset 0  kind    1 byte, PERF_KIND_MSG
 *          1  flags   1 byte, PERF_MSG_*
 *          2  length  4 bytes, big endian
 *          6  seq     8 bytes, big endian, from 0, one more each message
 */
#ifndef PERF_MSG_H
#define PERF_MSG_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "opts.h"

#define PERF_KIND_MSG 0x4d
#define PERF_KIND_ECHO 0x45
#define PERF_KIND_COUNTERS 0x43

#define PERF_COUNTER_BYTES 8U
#define PERF_COUNTER_END UINT64_MAX

#define PERF_MSG_REPLY 0x01U  /* the server sends this message back */
#define PERF_MSG_VERIFY 0x02U /* the body is the pattern of its seq; the server checks it */

struct perf_msg {
	uint8_t flags;
	uint32_t length;
	uint64_t seq;
};

/** perf_counter_put() - write a counter; perf_counter_get() - read it. */
static inline void perf_counter_put(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static inline uint64_t perf_counter_get(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/** perf_msg_put() - write @m's header to @at (PERF_MSG_MIN bytes). */
void perf_msg_put(uint8_t *at, const struct perf_msg *m);

/** perf_msg_get() - read a header; -EPROTO when the kind or the length is impossible. */
int perf_msg_get(const uint8_t *at, struct perf_msg *m);

/**
 * perf_pattern_init() - make the table that bodies are cut from, for messages up to @max_size bytes.
 * Returns 0 or -ENOMEM. Call once before threads start.
 */
int perf_pattern_init(uint32_t max_size);

/** perf_pattern() - the bytes of message @seq's body from its @offset on; at least as many as the
 *  largest message has after @offset. */
const uint8_t *perf_pattern(uint64_t seq, size_t offset);

#endif
