/*
 * Messages of DNS (RFC 1035) as an answerer for a few names needs them: a query is read, an answer to it is written. Strict, in
 * bounds, without allocation; records are stepped over, not read. Written here because what libresolv has (ns_initparse,
 * ns_parserr, dn_expand) reads records by following compression, which no query needs, takes what follows the message's end,
 * and writes no messages; both together would be as long as this.
 */
#ifndef FLAT_CODEC_DNS_H
#define FLAT_CODEC_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/* A name as text and its NUL: 255 bytes on the wire are 253 as text (RFC 1035, 2.3.4). */
#define FLAT_DNS_NAME_MAX 254
/* The section of one question: name, type, class. */
#define FLAT_DNS_QUESTION_MAX 259
/* What a datagram holds where nothing else is said (RFC 1035, 4.2.1); and what one that came by EDNS is told (RFC 9715). */
#define FLAT_DNS_UDP_BYTES 512U
#define FLAT_DNS_EDNS_BYTES 1232U
/* The longest answer that flat_dns_write() makes: head, question, an address of IPv6, OPT. */
#define FLAT_DNS_ANSWER_MAX (12 + FLAT_DNS_QUESTION_MAX + 28 + 11)

enum flat_dns_type {
	FLAT_DNS_A = 1,
	FLAT_DNS_AAAA = 28,
	FLAT_DNS_OPT = 41,
	FLAT_DNS_ANY = 255,
};

enum flat_dns_rcode {
	FLAT_DNS_NOERROR = 0,
	FLAT_DNS_FORMERR = 1,
	FLAT_DNS_SERVFAIL = 2,
	FLAT_DNS_REFUSED = 5,
	FLAT_DNS_BADVERS = 16,
};

enum flat_dns_kind {
	FLAT_DNS_SILENCE,   /* no query: not to be answered at all */
	FLAT_DNS_MALFORMED, /* FORMERR: only id and flags are read */
	FLAT_DNS_FOREIGN, /* a query of another kind (RFC 2136, say), of which only the head is read */
	FLAT_DNS_QUESTION, /* one question */
};

struct flat_dns_query {
	uint16_t id;
	uint16_t flags;
	uint16_t type;	       /* of the question */
	uint16_t class;	       /* likewise */
	uint16_t question_len; /* bytes of that section, after the head; 0: not FLAT_DNS_QUESTION */
	uint16_t edns_bytes;   /* what the client takes in a datagram, by its OPT; 0: it has none */
	uint8_t edns_version;
	bool dnssec; /* its DO bit */
	/* Lower case, without final dot; "": the root, or a name that has other bytes than letters, digits, - and _ */
	char name[FLAT_DNS_NAME_MAX];
};

/** Reads a message of up to 65,535 bytes. *q is filled as far as the kind says. */
enum flat_dns_kind flat_dns_read(const uint8_t *msg, size_t len, struct flat_dns_query *q);

/**
 * Writes an answer to `msg`, of which *q was read, into `out` of `size` bytes, 12 at least. ip: the address of the name, `ip_len` 4 or
 * 16 bytes of it; NULL: none. It is left out where the question is for another type. What does not fit is left out, and TC
 * says so. Returns its length.
 */
size_t flat_dns_write(uint8_t *out, size_t size, const uint8_t *msg, const struct flat_dns_query *q,
		      enum flat_dns_rcode rcode, const uint8_t *ip, size_t ip_len);

/**
 * Whether a message is an answer to the query with this id whose question section was `question` (question_len 0: without):
 * of another case perhaps, or without a question where it says an error.
 */
bool flat_dns_is_answer(const uint8_t *msg, size_t len, uint16_t id, const uint8_t *question,
			size_t question_len);

/** The id of a message of 2 bytes and more; and another one in its place. */
uint16_t flat_dns_id(const uint8_t *msg);
void flat_dns_set_id(uint8_t *msg, uint16_t id);

#endif
