/*
 * TLS that flatd begins towards servers outside the mesh (DestinationRule, tls.mode SIMPLE and MUTUAL): applications speak
 * in the clear, HTTP or anything else, the server sees TLS. Control thread.
 */
#ifndef FLAT_OFFLOAD_ORIGIN_H
#define FLAT_OFFLOAD_ORIGIN_H

#include "codec/http.h"
#include "offload/offload.h"
#include "wire/tls.h"

struct flat_origin;

/**
 * For a connection that begins TLS as `rule` says; `host` is what its server is called where the rule does not say.
 * NULL without memory. Refers to the mesh until flat_origin_prepare().
 */
struct flat_origin *flat_origin_new(const struct flat_tls_origin *rule, struct flat_span host,
				    enum flat_tls_inside inside);
/** NULL is allowed. */
void flat_origin_free(struct flat_origin *origin);

/** Reads what certificates are needed, in the turn in which it was made. 0, or a negative errno with a sentence in `why`. */
FLAT_MUST_CHECK int flat_origin_prepare(struct flat_offload *o, struct flat_origin *origin,
					char *why, size_t size);

/** Connected: shakes hands. Then the connection is opened, or has failed. */
void flat_origin_begin(struct flat_conn *c);

/** The session, once the connection is open; NULL of NULL. */
struct flat_tls *flat_origin_tls(const struct flat_origin *origin);

/** Whether a connection made with `origin` serves a request for `target` (NULL: in the clear). */
bool flat_origin_fits(const struct flat_offload *o, const struct flat_origin *origin,
		      const struct flat_target *target);

/** Forgets the contexts: the next connections read their files again. */
void flat_origins_forget(struct flat_offload *o);

#endif
