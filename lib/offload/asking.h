/*
 * Asking external authorizers about a connection that is not read as HTTP (AuthorizationPolicy CUSTOM with a provider over
 * gRPC), by Envoy's ext_authz: who comes, from where, and to whom. Nothing reaches the server before all have allowed it: what
 * the client sends waits in its ring or its socket. Each is asked once about a connection. Control thread.
 *
 * A1. A decision that says whom to ask (flat_decision.asks) makes a connection that cannot go on without their answers.
 * A2. An answer that is late, malformed or none is the provider's failOpen, and only that.
 * A3. A policy of later asks about connections as they are: one that some authorizer of its was not asked about ends.
 * A4. Connections that wait are bounded, of each client and of all together.
 */
#ifndef FLAT_OFFLOAD_ASKING_H
#define FLAT_OFFLOAD_ASKING_H

#include "offload/offload.h"

/* Connections that wait for authorizers: of all clients, and of one (all plain clients are one). */
#define FLAT_ASKINGS_MAX 4096U
#define FLAT_ASKINGS_CLIENT_MAX 1024U

struct flat_asking;

/** Makes c->asking of what the decision says is to be asked. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_asking_attach(struct flat_conn *c, const struct flat_decision *d);
/** Whether it has to be asked about, or is. NULL: it has not. */
bool flat_asking_waits(const struct flat_asking *a);
/**
 * Asks, and goes on with flat_conn_reach() or fails the connection, now or later; it may be gone when this returns. Its end
 * towards the client is there.
 */
void flat_asking_begin(struct flat_conn *c);
/** Whether those that are to be asked about it, as flat_decision.asks in the newest mesh, have been or are. `who`: one of which not. */
bool flat_asking_covers(const struct flat_conn *c, const struct flat_decision *d, const char **who);
/** Takes back the question. NULL is allowed. */
void flat_asking_free(struct flat_asking *a);

/** What is over by time. How long until the next one, ms; -1: there is none. */
int flat_askings_wait_ms(struct flat_offload *o);
void flat_askings_metrics(const struct flat_offload *o, struct flat_strbuf *out);
/** No connection is left. */
void flat_askings_close(struct flat_offload *o);

#endif
