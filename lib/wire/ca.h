/* A small certificate authority, for trying things out: its key lies in a file. */
#ifndef FLAT_WIRE_CA_H
#define FLAT_WIRE_CA_H

#include "base/base.h"

/**
 * Makes `folder` (if it is not there) with ca.key and ca.crt for a trust domain. 0, -EEXIST (there is one already),
 * -EINVAL (no name of a trust domain), or another negative errno; a sentence in `why`.
 */
FLAT_MUST_CHECK int flat_ca_init(const char *folder, const char *domain, char *why, size_t size);

/**
 * Issues an SVID for spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT, good from a minute ago for so many seconds, into folder
 * `out` as svid.h wants it: NAMESPACE.ACCOUNT.crt and .key, and DOMAIN.bundle. Each file is replaced as a whole. 0 or a
 * negative errno, with a sentence in `why`.
 */
FLAT_MUST_CHECK int flat_ca_issue(const char *folder, const char *out, const char *namespace,
				  const char *account, int64_t seconds, char *why, size_t size);

/**
 * Writes the authority's revocation list anew, good for so many seconds, into its folder (ca.crl) and into folder `out` as
 * DOMAIN.crl. cert: the file of a certificate that is added to it first; NULL: none is, and what it revoked it still does. 0 or a
 * negative errno (-EINVAL: the certificate is not the authority's), with a sentence in `why`.
 */
FLAT_MUST_CHECK int flat_ca_revoke(const char *folder, const char *out, const char *cert,
				   int64_t seconds, char *why, size_t size);

#endif
