#include "base/siphash.h"

#include <endian.h>
#include <string.h>

static uint64_t rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

static uint64_t word(const uint8_t *bytes)
{
	uint64_t w;

	memcpy(&w, bytes, sizeof(w));
	return le64toh(w);
}

static void rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[0] = rotate(v[0], 32);
		v[2] += v[3];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[2] = rotate(v[2], 32);
	}
}

uint64_t flat_siphash(const uint8_t key[FLAT_SIPHASH_KEY_BYTES], const void *bytes, size_t len)
{
	const uint64_t k0 = word(key);
	const uint64_t k1 = word(key + 8);
	/* The paper's initial state: "somepseudorandomlygeneratedbytes". */
	uint64_t v[4] = {k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL,
			 k0 ^ 0x6c7967656e657261ULL, k1 ^ 0x7465646279746573ULL};
	const uint8_t *p = bytes;
	uint8_t last[8] = {0};

	for (size_t i = 0; i + 8 <= len; i += 8, p += 8) {
		uint64_t m = word(p);

		v[3] ^= m;
		rounds(v, 2);
		v[0] ^= m;
	}
	if (len % 8)
		memcpy(last, p, len % 8);
	last[7] = (uint8_t)len;
	v[3] ^= word(last);
	rounds(v, 2);
	v[0] ^= word(last);
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
