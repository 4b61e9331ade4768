/*
 * Certificate revocation lists (RFC 5280, 5): of a trust domain beside its bundle (svid.h). A trust domain that has one has
 * one of each authority of a chain, in time, or the chain is refused.
 */
#ifndef FLAT_WIRE_CRL_H
#define FLAT_WIRE_CRL_H

#include <openssl/x509.h>

#include "base/base.h"

/** NULL is allowed. */
void flat_crls_free(STACK_OF(X509_CRL) * lists);

/**
 * Reads a file: PEM, any number of them, or one in DER. An empty file has none, as Istio's ConfigMap without a list. 0, or a
 * negative errno with what is wrong in `why`: -EINVAL (something else), -EFBIG, -ENOMEM, those of open().
 */
FLAT_MUST_CHECK int flat_crls_read(const char *path, STACK_OF(X509_CRL) * *out, char *why,
				   size_t size);
/** Appends the lists in `bytes`, DER, one behind the other. 0, -EINVAL, -ENOMEM. */
FLAT_MUST_CHECK int flat_crls_add_der(STACK_OF(X509_CRL) * lists, const uint8_t *bytes, size_t len);

/** Whether a certificate of `bundle` has signed it: 1; 0: none of them bears its issuer's name; -1: one does, and has not. */
int flat_crl_is_of(X509_CRL *list, X509_STORE *bundle);

/** When the next one is due, seconds since 1970; INT64_MAX: it does not say so. */
int64_t flat_crl_end(const X509_CRL *list);
/** When so little of its time is left that the next one should be there: a quarter; INT64_MAX where it has no end. */
int64_t flat_crl_late(const X509_CRL *list);
/** Certificates that it revokes. */
size_t flat_crl_count(X509_CRL *list);

#endif
