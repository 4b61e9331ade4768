/*
 * Session persistence: a client that shows what it was given with an answer goes to the same endpoint again, past balancing and
 * weights. Gateway API's sessionPersistence of a route's rule (GEP-1619), Istio's labels of a service. Immutable, as the mesh is.
 */
#ifndef FLAT_MESH_PERSIST_H
#define FLAT_MESH_PERSIST_H

#include "mesh/mesh.h"

/* The Secret of the root namespace by whose field `key` tokens are made, and its least length: 128 bits in hexadecimal digits. */
#define FLAT_PERSIST_SECRET "flat-sessions"
#define FLAT_PERSIST_SECRET_MIN 32U

struct flat_persistence {
	const char *name; /* of the cookie, or of the header */
	const char *path; /* of a cookie; NULL: that of the match which held */
	bool header;
	bool permanent;	     /* the cookie outlives the browser: it says how long */
	uint32_t absolute_s; /* since the session began; 0: no bound */
	uint32_t idle_s;     /* since its last answer; 0: no bound */
	uint64_t id;	     /* whose sessions they are: a token of others holds for nothing */
	struct flat_where where;
};

/** Whether some route or service has sessions. */
bool flat_mesh_persists(const struct flat_mesh *mesh);

/** By what tokens are made, SHA-256 of the Secret's key: 32 bytes; NULL: there is none. */
const uint8_t *flat_mesh_persist_key(const struct flat_mesh *mesh);

#endif
