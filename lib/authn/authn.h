/*
 * The tokens of requests, checked: key sets of all rules, kept fresh, and tokens found good before. Owner: the control
 * thread. What is decided about a request by several rules: lib/offload/l7_authn.c.
 */
#ifndef FLAT_AUTHN_AUTHN_H
#define FLAT_AUTHN_AUTHN_H

#include <sys/socket.h>

#include "authn/jwt.h"
#include "mesh/authn.h"

struct flat_authn;

/* Where a host and port of the mesh is. The size of *addr, or 0: it is none, the system's resolver is asked. */
typedef socklen_t flat_authn_resolve_fn(void *arg, const char *host, uint16_t port,
					struct sockaddr_storage *addr);

/** Without rules yet; NULL without memory. */
FLAT_MUST_CHECK struct flat_authn *flat_authn_new(flat_authn_resolve_fn *resolve, void *arg);
void flat_authn_free(struct flat_authn *a);

/**
 * The rules are those of `mesh` from now on (only looked at during the call and flat_authn_check()). Key sets that
 * several or earlier rules name are had once; new ones begin to be fetched. 0 or -ENOMEM: no token is good then.
 */
FLAT_MUST_CHECK int flat_authn_reload(struct flat_authn *a, const struct flat_mesh *mesh);

/** Readable when flat_authn_turn() has something to do. */
int flat_authn_fd(const struct flat_authn *a);
/** Takes key sets that were fetched. */
void flat_authn_turn(struct flat_authn *a);

/**
 * Checks a token by one rule: form, issuer, time, audience, signature. FLAT_JWT_OK with *out (a reference), WAIT: its
 * keys are being fetched, or what is wrong. `now_s`: Unix time. Blocks for nothing.
 */
FLAT_MUST_CHECK enum flat_jwt_status flat_authn_check(struct flat_authn *a,
						      const struct flat_jwt_rule *rule,
						      struct flat_span token, int64_t now_s,
						      struct flat_jwt **out);

/** A few words on a rule's keys, for people: "3 keys of FILE", "cannot be fetched: ...". */
void flat_authn_describe(const struct flat_authn *a, const struct flat_jwt_rule *rule, char *text,
			 size_t size);

struct flat_authn_stats {
	uint64_t verified; /* signatures */
	uint64_t cached;   /* tokens that were known */
	uint64_t fetched, fetch_failed;
};
const struct flat_authn_stats *flat_authn_stats(const struct flat_authn *a);

#endif
