/*
 * Istio's certificate service (istio.v1.auth.IstioCertificateService, security/v1alpha1/ca.proto): a key made here, a request for
 * a certificate, gRPC over TLS with a token. Blocking: for a thread of its own (svid_source.h).
 */
#ifndef FLAT_WIRE_ISTIO_CA_H
#define FLAT_WIRE_ISTIO_CA_H

#include <stdbool.h>

#include "wire/svid.h"

struct flat_istio_ca;

/** Whether `text` names one: "istio://HOST:PORT", with options as in a query. */
bool flat_istio_ca_is(const char *text);

/**
 * Reads the name, with its options: root=FILE and token=FILE (defaults: where istio-agent has them), name=NAME (of the server's
 * certificate; the host), cluster=NAME ("Kubernetes"), domain=DOMAIN ("cluster.local"), for=NAMESPACE/ACCOUNT (again for each: an
 * identity that the token may impersonate; none: the token's own). 0, -EINVAL with a sentence in `why`, -ENOMEM.
 */
FLAT_MUST_CHECK int flat_istio_ca_open(const char *uri, struct flat_istio_ca **out, char *why,
				       size_t size);
/** NULL is allowed. */
void flat_istio_ca_close(struct flat_istio_ca *ca);

/**
 * Asks for what is due: identities without certificate, and those in the second half of its time. *out: a set of all that there
 * are, where one is new; else NULL. 0, -ECANCELED (stop_fd is readable), or another negative errno: something could not be had,
 * `why` says what; *out may be there all the same. Names may take longer than its times: the system's resolver has its own.
 */
FLAT_MUST_CHECK int flat_istio_ca_ask(struct flat_istio_ca *ca, int stop_fd,
				      struct flat_svids **out, char *why, size_t size);
/** When the next one is due, ms from now. */
int flat_istio_ca_wait_ms(const struct flat_istio_ca *ca);

#endif
