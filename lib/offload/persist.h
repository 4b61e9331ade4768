/*
 * Tokens by which clients come back to an endpoint (mesh/persist.h). One says which endpoint it is by a keyed hash alone, is good
 * at one route or service, and bears a keyed hash of itself: who has not the key can neither read an address out of it nor make
 * one. What it names is looked for among the endpoints that the request may go to, and nowhere else. Control thread.
 */
#ifndef FLAT_OFFLOAD_PERSIST_H
#define FLAT_OFFLOAD_PERSIST_H

#include "base/siphash.h"
#include "codec/http.h"
#include "mesh/persist.h"
#include "offload/cluster.h"

struct flat_offload;

/* Characters of a token: 28 bytes in base64url. */
#define FLAT_PERSIST_TOKEN_CHARS 38U

struct flat_persist_token {
	uint64_t endpoint;    /* its tag; never 0 */
	uint32_t destination; /* the low half of that of the port, or subset, which it is of */
	uint32_t made_s; /* when the session began, seconds since 1970; 0 where nothing bounds it */
	uint32_t seen_s; /* likewise, its last answer */
};

/** The tag of a port of a service, or of a subset of it ("": the whole). */
uint64_t flat_persist_destination(const uint8_t *key, const char *host, uint16_t port,
				  const char *subset);
/** The tag of an endpoint of it; not 0. */
uint64_t flat_persist_endpoint(const uint8_t *key, uint64_t destination, const struct flat_addr *a);

/** Writes a token of the sessions of `p`. */
void flat_persist_write(const uint8_t *key, const struct flat_persistence *p,
			const struct flat_persist_token *token,
			char out[FLAT_PERSIST_TOKEN_CHARS + 1]);
/** Reads one. False: it is none, of other sessions, or its time is over at `now_s`. */
bool flat_persist_read(const uint8_t *key, const struct flat_persistence *p, struct flat_span text,
		       uint32_t now_s, struct flat_persist_token *token);

/**
 * The endpoint of a tag among the cluster's candidates, v[n]: its index, -ENOENT, or -ENOMEM. The cluster keeps a table of them while
 * its candidates and the key are the same.
 */
FLAT_MUST_CHECK int flat_persist_find(struct flat_cluster *c, const uint8_t *key,
				      const struct flat_endpoint *v, uint32_t n, uint64_t tag);
/** Tokens are made by the configuration's key from here on, or by our own. */
void flat_persist_settle(struct flat_offload *o);
/** NULL is nothing. */
void flat_persist_table_free(struct flat_persist_table *table);

#endif
