/*
 * The identities of one host: SVIDs with their keys, and the bundles of trust domains, read from a folder or come from a
 * source (svid_source.h). A set is immutable; a rotation loads another one beside it. Links hold the set they began with.
 *
 *   NAME.crt      an SVID: the leaf first, then intermediate certificates (PEM)
 *   NAME.key      its private key (PEM, no passphrase)
 *   DOMAIN.bundle the certificates that sign for trust domain DOMAIN (PEM)
 *   DOMAIN.crl    revocation lists of its authorities (PEM or DER; may be absent, or empty)
 */
#ifndef FLAT_WIRE_SVID_H
#define FLAT_WIRE_SVID_H

#include <openssl/ssl.h>

#include "base/base.h"
#include "base/strbuf.h"
#include "wire/crl.h"
#include "wire/record.h"
#include "wire/spiffe.h"

/* Whose certificate a flatd shows to those that connect: spiffe://DOMAIN and this. */
#define FLAT_WIRE_NODE_PATH "/ns/flat-system/sa/flatd"

struct flat_svid {
	char id[FLAT_SPIFFE_ID_MAX];
	int64_t expires_s; /* since 1970 */
	int64_t late_s;	   /* when a newer one should be there */
	SSL_CTX *ctx;	   /* for both roles; its sessions verify peers by the set */
	char *file;	   /* or another name of where it comes from */
	char unfit[200];   /* what a list of this set says against it; "": nothing */
};

struct flat_bundle {
	char *domain;
	X509_STORE *store;
	STACK_OF(X509_CRL) * lists; /* NULL: no certificate is looked up in one */
	char *lists_file;	    /* or where they come from */
};

/** Reference counted; owner of the count: one thread. */
struct flat_svids {
	uint32_t refs;
	char *origin; /* for messages */
	struct flat_svid *v;
	uint32_t n;
	struct flat_bundle *bundles;
	uint32_t n_bundles;
	const struct flat_svid *node; /* this flatd's own; NULL: it cannot serve others */
};

/** What the handshake learned of the peer; the session's app data (SSL_set_app_data) points to one. */
struct flat_wire_peer {
	struct flat_svids *svids;	 /* borrowed */
	bool server;			 /* the peer is the TLS server */
	bool hbone;			 /* what is spoken inside is h2, not flat/1 */
	char expect[FLAT_SPIFFE_ID_MAX]; /* HBONE, of a server: nobody else is taken */
	char id[FLAT_SPIFFE_ID_MAX];
	char why[256];		     /* why it was refused */
	int64_t expires_s;	     /* of its chain, the first */
	X509 *leaf;		     /* for a later look with other bundles; owned */
	STACK_OF(X509) * chain;	     /* owned */
	struct flat_secrets secrets; /* for what follows the handshake, which forgets them */
};

/**
 * Reads a folder into a new set with one reference. 0, or a negative errno with a sentence in `why` that names the file:
 * -EINVAL (no SVID, key and certificate differ, no bundle for its domain, it does not verify, no revocation list), -ENOMEM,
 * those of open(). An SVID that has expired or is revoked is no error here.
 */
FLAT_MUST_CHECK int flat_svids_load(const char *folder, struct flat_svids **out, char *why,
				    size_t size);
/** An empty set with one reference, which the next three fill; NULL without memory. origin: for messages. */
struct flat_svids *flat_svids_new(const char *origin);
/** Adds an SVID: the leaf first, then intermediates; all borrowed. Errors as of flat_svids_load(). */
FLAT_MUST_CHECK int flat_svids_add(struct flat_svids *set, const char *name, STACK_OF(X509) * certs,
				   EVP_PKEY *key, char *why, size_t size);
/** Adds a trust domain's bundle; the first one of a domain counts. */
FLAT_MUST_CHECK int flat_svids_add_bundle(struct flat_svids *set, const char *domain,
					  STACK_OF(X509) * certs, char *why, size_t size);
/**
 * Adds revocation lists (borrowed) to the domain's bundle, which is there; none: nothing changes. name: where they come from.
 * -EINVAL: there is no bundle, or a list is not signed by the authority of the bundle that it names.
 */
FLAT_MUST_CHECK int flat_svids_add_lists(struct flat_svids *set, const char *domain,
					 STACK_OF(X509_CRL) * lists, const char *name, char *why,
					 size_t size);
/** When the next of its lists that are in time now ends, seconds since 1970; INT64_MAX: none does. */
int64_t flat_svids_lists_end(const struct flat_svids *s, int64_t now_s);
/** Certificates that its lists revoke. */
size_t flat_svids_revoked(const struct flat_svids *s);

/** After the last: whether each SVID verifies; what its lists say of each is kept there. */
FLAT_MUST_CHECK int flat_svids_finish(struct flat_svids *set, char *why, size_t size);
struct flat_svids *flat_svids_get(struct flat_svids *s);
/** NULL is allowed. */
void flat_svids_put(struct flat_svids *s);

/** The SVID of a principal (an ID without its scheme), or NULL. */
const struct flat_svid *flat_svids_find(const struct flat_svids *s, const char *principal);

/** Whether a peer's chain still leads to a bundle of this set, and no list of it revokes any of it; until when, in peer->expires_s. */
FLAT_MUST_CHECK int flat_svids_check(const struct flat_svids *s, struct flat_wire_peer *peer,
				     char *why, size_t size);

/**
 * Appends what should be told at now_s, each thing with its newline: an SVID or a revocation list that has ended, or will before long and has no
 * successor. When to ask next: each is told of again after half of the time that it has left; INT64_MAX: never.
 */
int64_t flat_svids_due(const struct flat_svids *s, int64_t now_s, struct flat_strbuf *out);
/** Appends SVIDs and revocation lists, one a line. */
void flat_svids_show(const struct flat_svids *s, struct flat_strbuf *out);
/** The time until then in hours and minutes, or "expired". */
const char *flat_svid_until(int64_t at_s, char buf[32]);

void flat_wire_peer_fini(struct flat_wire_peer *peer);

#endif
