/*
 * The form of one table of the directory, for its writer (directory.c) and its readers (directory_read.c).
 *
 *   [head][addresses x addr_buckets][names x name_buckets][hosts x name_buckets][text]
 *
 * Addresses and names are hash tables with open addressing, at most three quarters and half full; a host is the index + 1 of a
 * name, found by the name's address. Text is NUL-terminated names.
 *
 * A reader may look at a table while the writer fills it again, and finds out only afterwards. So both sides
 * touch tables by relaxed atomic words (no undefined behaviour, no value read twice), and the reader follows
 * no offset that it has not checked against the table's length.
 *
 * Addresses come and go in the current table too. An entry's `state` alone says what the entry is:
 *
 *   empty   nothing here, nothing further on
 *   gone    USED alone: nobody's address; a look-up goes on behind it
 *   a claim SERVICE, or listeners counted: the address is there
 *
 * An address stays in its bucket as long as somebody claims it, and a bucket before it does not become empty. Another
 * address comes only into an empty or gone entry: first the state with the next turn and no claim, then the address,
 * then the claim (release). A reader loads state, address, and state again: another turn, another entry.
 */
#ifndef FLAT_MESH_DIRECTORY_TABLE_H
#define FLAT_MESH_DIRECTORY_TABLE_H

#include <string.h>

#include "mesh/directory.h"

/* Longest name with its NUL: a DNS name has 253 characters. */
#define FLAT_DIRECTORY_HOST_MAX 256

struct flat_directory_head {
	uint32_t addr_buckets; /* power of two */
	uint32_t name_buckets; /* power of two; of names and of hosts */
	uint32_t name_offset;  /* from the table's first byte, multiple of 8 */
	uint32_t host_offset;  /* likewise */
	uint32_t text_offset;
	uint32_t text_len;
};

struct flat_directory_addr_entry {
	struct flat_addr addr; /* v4-mapped turned to v4, scope 0; family 0: any address */
	uint64_t state;	       /* FLAT_DIRECTORY_STATE_*; 0 but for the turn: empty */
};

/* flat_directory_addr_entry.state. Low half: who claims the address, listeners being counted. High half: turns. */
#define FLAT_DIRECTORY_STATE_LISTENERS 0x3fffffffULL
#define FLAT_DIRECTORY_STATE_USED 0x40000000ULL
#define FLAT_DIRECTORY_STATE_SERVICE 0x80000000ULL
#define FLAT_DIRECTORY_STATE_TURN 0x100000000ULL

struct flat_directory_name_entry {
	struct flat_addr addr; /* port 0 */
	uint32_t text;	       /* offset in text + 1; 0: empty */
	uint32_t text_len;     /* without the NUL; FLAT_DIRECTORY_VEIL */
};

/* A bit of text_len: not everybody sees the name. Readers that do not know it do not find the name. */
#define FLAT_DIRECTORY_VEIL 0x80000000U

_Static_assert(sizeof(struct flat_directory_head) % 8 == 0, "copied by words");
_Static_assert(sizeof(struct flat_directory_addr_entry) == 32, "copied by words");
_Static_assert(offsetof(struct flat_directory_addr_entry, state) == 24, "the last word");
_Static_assert(sizeof(struct flat_directory_name_entry) == 32, "copied by words");

/** Copies out of a table. `offset`: multiple of 8, in bytes; `len`: multiple of 8, at most 32. */
static inline void flat_directory_load(void *to, const uint8_t *table, size_t offset, size_t len)
{
	const _Atomic uint64_t *from = (const _Atomic uint64_t *)(const void *)(table + offset);
	uint64_t words[4];
	for (size_t i = 0; i < len / 8; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
	memcpy(to, words, len);
}

/** Copies into a table; likewise. */
static inline void flat_directory_store(uint8_t *table, size_t offset, const void *from, size_t len)
{
	_Atomic uint64_t *to = (_Atomic uint64_t *)(void *)(table + offset);
	uint64_t words[4];
	memcpy(words, from, len);
	for (size_t i = 0; i < len / 8; i++)
		atomic_store_explicit(&to[i], words[i], memory_order_relaxed);
}

/** The state of an address's entry, `i` within the table. */
static inline _Atomic uint64_t *flat_directory_state(const uint8_t *table, size_t i)
{
	const struct flat_directory_addr_entry *v =
	    (const void *)(table + sizeof(struct flat_directory_head));
	return (_Atomic uint64_t *)(uintptr_t)&v[i].state;
}

static inline bool flat_directory_is_claimed(uint64_t state)
{
	return state & (FLAT_DIRECTORY_STATE_SERVICE | FLAT_DIRECTORY_STATE_LISTENERS);
}

static inline bool flat_directory_is_empty(uint64_t state)
{
	return (uint32_t)state == 0;
}

/** One word of the table of hosts. */
static inline _Atomic uint32_t *flat_directory_host(uint8_t *table, size_t offset, uint32_t i)
{
	return (_Atomic uint32_t *)(void *)(table + offset) + i;
}

/** One byte of the text. */
static inline _Atomic uint8_t *flat_directory_text(uint8_t *table, size_t offset)
{
	return (_Atomic uint8_t *)(table + offset);
}

/** FNV-1a, 32 bits (Fowler, Noll, Vo). */
static inline uint32_t flat_directory_hash(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t h = 2166136261U;
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 16777619U;
	return h;
}

static inline uint32_t flat_directory_hash_addr(const struct flat_addr *key)
{
	uint8_t bytes[20];
	memcpy(bytes, &key->family, 2);
	memcpy(bytes + 2, &key->port, 2);
	memcpy(bytes + 4, key->ip, 16);
	return flat_directory_hash(bytes, sizeof(bytes));
}

/** The form in which addresses are kept and looked for. */
static inline struct flat_addr flat_directory_key(const struct flat_addr *addr)
{
	struct flat_addr key = *addr;
	flat_addr_unmap(&key);
	key.scope_id = 0;
	return key;
}

#endif
