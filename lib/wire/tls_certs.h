/*
 * Certificates of a TLS context: read from files or text, and of a server's several the one that a session shows, by the name that
 * the client asks for and by the signatures that it understands.
 */
#ifndef FLAT_WIRE_TLS_CERTS_H
#define FLAT_WIRE_TLS_CERTS_H

#include "wire/tls.h"

/** Opens it for reading; NULL with a sentence in `why`. The caller frees it. */
BIO *flat_pem_open(const struct flat_pem *pem, char *why, size_t size);

/** A callback for PEM that is encrypted: nobody is asked, it is not read. */
int flat_pem_no_passphrase(char *buf, int size, int rw, void *arg);

/** Says that `what` of it is not good, with OpenSSL's last error, which is taken away. -EINVAL. */
int flat_pem_bad(const struct flat_pem *pem, const char *what, char *why, size_t size);

/**
 * Gives the context its certificates, `n` >= 1. Of several a session shows one that bears the name which the client asks for, else
 * one with a wildcard for it, else any; of these the first whose key and signature the client understands, ECDSA before RSA
 * (OpenSSL's order, or that of the cipher suites in TLS 1.2). Once, by the control thread. 0; -EINVAL with what is wrong; -ENOMEM.
 */
FLAT_MUST_CHECK int flat_tls_certs_use(SSL_CTX *ctx, const struct flat_tls_pair *pairs, uint32_t n,
				       char *why, size_t size);

#endif
