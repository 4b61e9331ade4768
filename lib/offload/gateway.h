/*
 * The ingress gateway: ports that flatd opens for clients from outside, as Gateways say that select its own Workload
 * (`flatd --gateway`). Requests go the way of all HTTP here, l7.h; this is where they come in. Control thread.
 */
#ifndef FLAT_OFFLOAD_GATEWAY_H
#define FLAT_OFFLOAD_GATEWAY_H

#include "mesh/gateway.h"
#include "offload/offload.h"
#include "wire/tls.h"

struct flat_gateway_port;

/* What is spoken at a port. */
enum flat_gate_kind {
	FLAT_GATE_HTTP,
	FLAT_GATE_HTTPS,
	FLAT_GATE_TCP,
	FLAT_GATE_TLS,	       /* it ends here; inside are bytes */
	FLAT_GATE_PASSTHROUGH, /* TLS that ends at the server */
};

/** "HTTP", "TLS passed through", ... */
const char *flat_gate_kind_name(enum flat_gate_kind kind);

/** Whether connections go on as they are; else their requests are read. */
static inline bool flat_gate_is_opaque(enum flat_gate_kind kind)
{
	return kind >= FLAT_GATE_TCP;
}

/* How one client came in. Owner: its connection. */
struct flat_gate {
	struct flat_gateway_port *port; /* a reference; it may be closed since */
	struct flat_tls *tls;		/* NULL: in the clear */
};

/* What a request that came in means. */
struct flat_way {
	const struct flat_gateway *gateway;
	const struct flat_gateway_server *server;
	const struct flat_workload
	    *workload; /* of the gateway: whose policies hold, who speaks to servers */
};

/** Opens the ports of the present configuration; o->gateway_name is "NAMESPACE/NAME". 0 or a negative errno, logged. */
FLAT_MUST_CHECK int flat_gateways_open(struct flat_offload *o);
/** A new configuration is in force: opens and closes ports, takes certificates. What fails is logged, the rest serves. */
void flat_gateways_reload(struct flat_offload *o);
/** Opens no more ports and closes those that are open; clients that are here go on. */
void flat_gateways_retire(struct flat_offload *o);
/** The listening socket of port `i` (borrowed), -1: there are no more. */
int flat_gateway_socket(const struct flat_offload *o, uint32_t i);
void flat_gateways_close(struct flat_offload *o);

/** Whose gateway this flatd is, by the configuration in force; NULL: nobody's. */
const struct flat_workload *flat_gateway_workload(const struct flat_offload *o);

/** The server that a request for `host` came by; false: none shows that host. */
bool flat_gate_find(const struct flat_offload *o, const struct flat_mesh *mesh,
		    const struct flat_gate *gate, struct flat_span host, struct flat_way *way);
/** What is spoken at its port. */
enum flat_gate_kind flat_gate_kind(const struct flat_gate *gate);
/** The address of its port. */
const struct flat_addr *flat_gate_addr(const struct flat_gate *gate);
/** NULL is allowed. */
void flat_gate_free(struct flat_gate *gate);

/** The open port `i`, and what is spoken there; NULL: there are no more. */
const struct flat_addr *flat_gateway_port(const struct flat_offload *o, uint32_t i,
					  enum flat_gate_kind *kind);

#endif
