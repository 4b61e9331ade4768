/* Just enough of HTTP/1 for a scraper: one GET without a body, one answer, and the connection ends. */
#ifndef FLAT_OFFLOAD_HTTP_H
#define FLAT_OFFLOAD_HTTP_H

#include "base/base.h"

#define FLAT_HTTP_PATH_MAX 256

/**
 * Reads a request's head from `len` bytes. 0: incomplete, so far without fault. A status otherwise: 200, with the path
 * (query left out, NUL-terminated) in `path`; 400 (not a request as RFC 9112 wants it, or one with a body), 405 (not
 * GET or HEAD), 414, 431 (more than len_max bytes), 505. *head becomes 1 for HEAD.
 */
FLAT_MUST_CHECK int flat_http_request(const char *text, size_t len, size_t len_max,
				      char path[FLAT_HTTP_PATH_MAX], int *head);

/** "OK", "Bad Request", ... of the statuses above and 404, 503. */
const char *flat_http_reason(int status);

#endif
