/* SPDX-License-Identifier: Apache-2.0 */
#include "msg.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A prime: a message moved by any smaller number of places shows, and seq shows the rest. */
#define PATTERN_SHIFTS 4093U

static uint8_t *pattern_table;

void perf_msg_put(uint8_t *at, const struct perf_msg *m)
{
	uint32_t length = htobe32(m->length);
	uint64_t seq = htobe64(m->seq);
	at[0] = PERF_KIND_MSG;
	at[1] = m->flags;
	memcpy(at + 2, &length, sizeof(length));
	memcpy(at + 6, &seq, sizeof(seq));
}

int perf_msg_get(const uint8_t *at, struct perf_msg *m)
{
	uint32_t length;
	uint64_t seq;
	memcpy(&length, at + 2, sizeof(length));
	memcpy(&seq, at + 6, sizeof(seq));
	m->flags = at[1];
	m->length = be32toh(length);
	m->seq = be64toh(seq);
	if (at[0] != PERF_KIND_MSG || m->length < PERF_MSG_MIN || m->length > PERF_MSG_MAX)
		return -EPROTO;
	return 0;
}

int perf_pattern_init(uint32_t max_size)
{
	size_t size = (size_t)max_size + PATTERN_SHIFTS;
	uint8_t *table = malloc(size);
	if (!table)
		return -ENOMEM;
	/* xorshift64 (Marsaglia 2003): no two stretches of the table are alike. */
	uint64_t x = 0x9e3779b97f4a7c15U;
	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		table[i] = (uint8_t)(x >> 32);
	}
	free(pattern_table);
	pattern_table = table;
	return 0;
}

const uint8_t *perf_pattern(uint64_t seq, size_t offset)
{
	return pattern_table + seq % PATTERN_SHIFTS + offset;
}
