/* One GET over HTTP or HTTPS, blocking, within a time: for key sets, never for a request's own path. */
#ifndef FLAT_AUTHN_HTTP_GET_H
#define FLAT_AUTHN_HTTP_GET_H

#include "authn/fetch.h"

/**
 * Gets f->uri: f->body with f->len bytes (at most FLAT_JWKS_BYTES_MAX), or f->error. Only status 200 counts; redirects
 * are not followed. Certificates are checked by the system's authorities (SSL_CERT_FILE, SSL_CERT_DIR). Names may take
 * longer than the time: the system's resolver has its own.
 */
void flat_http_get(struct flat_fetch *f);

#endif
