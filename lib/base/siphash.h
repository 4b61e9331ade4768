/*
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): a keyed hash of 64 bits that nobody without the
 * key can foretell, for short inputs.
 */
#ifndef FLAT_BASE_SIPHASH_H
#define FLAT_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define FLAT_SIPHASH_KEY_BYTES 16U

/** Of `len` bytes; their order of bytes does not depend on the machine. */
uint64_t flat_siphash(const uint8_t key[FLAT_SIPHASH_KEY_BYTES], const void *bytes, size_t len);

#endif
