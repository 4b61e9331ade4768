/*
 * A connection whose server is found by the name that a TLS client asks for (SNI). The client is told that it is open, its
 * first bytes are read into private memory, and then it is decided where it goes, with what was read first. Clients of a
 * gateway's port that is not HTTP begin so too: where TLS ends there, its handshake says the name. Control thread.
 */
#ifndef FLAT_OFFLOAD_SNIFF_H
#define FLAT_OFFLOAD_SNIFF_H

#include "offload/offload.h"

struct flat_sniff;

/** Makes c->sniff. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_sniff_attach(struct flat_conn *c);
/** Begins to read; the client's end and c->pipe are there. The connection may be gone with it. */
void flat_sniff_begin(struct flat_conn *c);
/** Whether the name is still waited for. NULL: it is not. */
bool flat_sniff_waits(const struct flat_sniff *s);
/** The name; "": there is none. */
const char *flat_sniff_name(const struct flat_sniff *s);
/** NULL is allowed. */
void flat_sniff_free(struct flat_sniff *s);

#endif
