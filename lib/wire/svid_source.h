/*
 * Identities from SPIFFE's Workload API (SPIFFE_Workload_API.md): gRPC over a unix socket, as SPIRE's agent serves it. A
 * thread of its own holds the call open, reads what comes, and asks again after a pause when it ends. Or from Istio's
 * certificate service (istio_ca.h), which it asks for new ones in time. docs/design/wire.md.
 */
#ifndef FLAT_WIRE_SVID_SOURCE_H
#define FLAT_WIRE_SVID_SOURCE_H

#include <stdbool.h>

#include "wire/svid.h"

struct flat_svid_source;

/** Whether `text` names such a source ("unix:PATH", "unix:///PATH", "istio://HOST:PORT"), not a folder. */
bool flat_svid_source_is(const char *text);

/** Starts asking. 0, -EINVAL, -ENOMEM, or what threads and descriptors fail with; `why` says what. */
FLAT_MUST_CHECK int flat_svid_source_open(const char *uri, struct flat_svid_source **out, char *why,
					  size_t size);
/** Readable when flat_svid_source_take() has something. Owned by the source. */
int flat_svid_source_fd(const struct flat_svid_source *s);
/**
 * The newest set, which is the caller's; NULL: there is none, and `why` says what went wrong since it was asked last, or
 * is "".
 */
struct flat_svids *flat_svid_source_take(struct flat_svid_source *s, char *why, size_t size);
/** Ends it. Its thread is waited for, but not for long where it asks a resolver: then it frees the rest by itself. NULL is allowed. */
void flat_svid_source_close(struct flat_svid_source *s);

#endif
