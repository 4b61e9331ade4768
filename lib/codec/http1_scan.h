/* Classes of bytes, and a fast search for the first that may not stand within a line. */
#ifndef FLAT_CODEC_HTTP1_SCAN_H
#define FLAT_CODEC_HTTP1_SCAN_H

#include <stdbool.h>
#include <string.h>

#include "base/base.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/** tchar of RFC 9110, 5.6.2: what names and methods are made of. */
static inline bool flat_is_token(uint8_t c)
{
	/* 32..63: ! # $ % & ' * + - . 0-9; 64..95: A-Z ^ _; 96..127: ` a-z | ~ */
	static const uint32_t bits[4] = {0, 0x03ff6cfaU, 0xc7fffffeU, 0x57ffffffU};
	return c < 128 && ((bits[c >> 5] >> (c & 31)) & 1);
}

/* A byte that ends a line or has no place in one: controls but for the tab, and DEL. */
static inline bool flat_is_control(uint8_t c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

/** The offset of the first control byte of `bytes[from..len)`, or len. */
static inline size_t flat_find_control(const uint8_t *bytes, size_t from, size_t len)
{
	size_t i = from;
#if defined(__SSE2__)
	const __m128i last = _mm_set1_epi8(0x1f);
	const __m128i tab = _mm_set1_epi8('\t');
	const __m128i del = _mm_set1_epi8(0x7f);
	for (; len - i >= 16; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(bytes + i));
		__m128i low = _mm_cmpeq_epi8(_mm_max_epu8(v, last), last);
		__m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), low),
					   _mm_cmpeq_epi8(v, del));
		unsigned mask = (unsigned)_mm_movemask_epi8(bad);
		if (mask)
			return i + (size_t)__builtin_ctz(mask);
	}
#elif defined(__aarch64__)
	const uint8x16_t first = vdupq_n_u8(0x20);
	const uint8x16_t tab = vdupq_n_u8('\t');
	const uint8x16_t del = vdupq_n_u8(0x7f);
	for (; len - i >= 16; i += 16) {
		uint8x16_t v = vld1q_u8(bytes + i);
		uint8x16_t bad =
		    vorrq_u8(vbicq_u8(vcltq_u8(v, first), vceqq_u8(v, tab)), vceqq_u8(v, del));
		if (vmaxvq_u8(bad))
			break;
	}
#endif
	while (i < len && !flat_is_control(bytes[i]))
		i++;
	return i;
}

#endif
