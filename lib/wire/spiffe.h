/*
 * SPIFFE identities in X.509 certificates (SPIFFE-ID and X509-SVID specifications): what an ID is, what a leaf must
 * look like, and whether a chain leads to its trust domain's bundle.
 */
#ifndef FLAT_WIRE_SPIFFE_H
#define FLAT_WIRE_SPIFFE_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "base/base.h"

#define FLAT_SPIFFE_SCHEME "spiffe://"
/* Bytes with the NUL: a whole ID fits every place that keeps a principal, so none is ever cut. */
#define FLAT_SPIFFE_ID_MAX 320

/** Whether `text` is a SPIFFE ID: trust domain of [a-z0-9.-_], a path with segments of [A-Za-z0-9.-_], not . or .. */
bool flat_spiffe_valid(const char *text);

/** The ID without its scheme, as policies write principals. */
const char *flat_spiffe_principal(const char *id);

/** Whether the ID is of this trust domain. */
bool flat_spiffe_in_domain(const char *id, const char *domain);

/**
 * The ID of a leaf certificate: exactly one URI, a SPIFFE ID; no CA; keyUsage with digitalSignature and without signing
 * of certificates. 0, or -EINVAL with what is wrong in `why`.
 */
FLAT_MUST_CHECK int flat_spiffe_of_leaf(X509 *leaf, char id[FLAT_SPIFFE_ID_MAX], char *why,
					size_t size);

/**
 * Checks a chain now: times, signatures, usage (server: the leaf serves, else it is a client's), up to a certificate of
 * `bundle`, and, where the bundle's flags say so, that none below that is revoked. `untrusted` may be NULL. *expires_s, if it is not NULL: when the first of them expires. 0, or -EACCES with what is wrong in
 * `why`; -ENOMEM.
 */
FLAT_MUST_CHECK int flat_spiffe_verify(X509_STORE *bundle, X509 *leaf, STACK_OF(X509) * untrusted,
				       bool server, int64_t *expires_s, char *why, size_t size);

/** A time of certificates and lists, seconds since 1970; 0 if that cannot be told. */
int64_t flat_spiffe_seconds(const ASN1_TIME *at);
/** When the certificate expires, seconds since 1970; 0 if that cannot be told. */
int64_t flat_spiffe_expiry(const X509 *cert);
/** When so little of its time is left that its successor should be there: an eighth, at least ten minutes. */
int64_t flat_spiffe_late(const X509 *cert);

#endif
