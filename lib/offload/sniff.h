/*
 * A connection whose first bytes say where it goes: the name that a TLS client asks for (SNI), or, at a port whose protocol is not
 * declared, whether they are HTTP. The client is told that it is open, its first bytes are read into private memory, and then it is
 * decided, with what was read first: it goes on as bytes, or its requests are read (l7.h). Clients of a gateway's port that is not
 * HTTP begin so too: where TLS ends there, its handshake says the name. Control thread.
 */
#ifndef FLAT_OFFLOAD_SNIFF_H
#define FLAT_OFFLOAD_SNIFF_H

#include "offload/admit.h"

struct flat_sniff;

/** Makes c->sniff. c->listener is the one server that is meant; NULL: it is found. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_sniff_attach(struct flat_conn *c, enum flat_sniff_what what);
/** Begins to read; the client's end and c->pipe are there. The connection may be gone with it. */
void flat_sniff_begin(struct flat_conn *c);
/** Whether it is not decided yet. NULL: it is. */
bool flat_sniff_waits(const struct flat_sniff *s);
/** The name; "": there is none. */
const char *flat_sniff_name(const struct flat_sniff *s);
/** Moves what was read to `to`, of `size` bytes, which is enough for what is read as HTTP. Returns the count. */
size_t flat_sniff_take(struct flat_sniff *s, void *to, size_t size);
/** NULL is allowed. */
void flat_sniff_free(struct flat_sniff *s);

#endif
