/* SPIFFE's Workload API (SPIFFE_Workload_API.md): what FetchX509SVID answers. */
#ifndef FLAT_WIRE_WORKLOAD_API_H
#define FLAT_WIRE_WORKLOAD_API_H

#include "wire/svid.h"

/**
 * Reads an X509SVIDResponse into a new set with one reference; `origin` is for messages. 0, or a negative errno with a
 * sentence in `why`: -EINVAL, -ENOMEM.
 */
FLAT_MUST_CHECK int flat_workload_api_read(const char *origin, const uint8_t *bytes, size_t len,
					   struct flat_svids **out, char *why, size_t size);

#endif
