/*
 * HTTP in the offload half: what the rest of it calls. A client's connection to an HTTP port with rules is read into
 * requests; each is routed, authorized and sent to a server of its own choice, over connections of ours (upstreams)
 * that belong to that client's connection alone. docs/design/http.md. Control thread.
 */
#ifndef FLAT_OFFLOAD_L7_H
#define FLAT_OFFLOAD_L7_H

#include "mesh/filter.h"
#include "mesh/health.h"
#include "mesh/limit.h"
#include "mesh/telemetry.h"
#include "offload/offload.h"

struct flat_l7;
struct flat_l7_upstream;
struct flat_l7_node;
struct flat_route_destination;

/** Makes o->l7. access_log: where requests are logged, NULL: nowhere. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_l7_init(struct flat_offload *o, const char *access_log);
void flat_l7_fini(struct flat_offload *o);
/** A successor serves: clients are told to go there, with their next response or, where they speak HTTP/2, now. */
void flat_l7_retire(struct flat_offload *o);
/** Files of access logs were moved away: they are opened anew. */
void flat_l7_reopen(struct flat_offload *o);
/** A new configuration is in force. */
void flat_l7_reloaded(struct flat_offload *o);
/** Likewise, before clusters are forgotten: requests that wait for a connection look again at what bounds them. */
void flat_l7_bounds_reloaded(struct flat_offload *o);

/**
 * Whether connections to this port of a service are read as HTTP: its protocol says HTTP/1, and a VirtualService or a
 * policy with HTTP fields has something to say about it. pinned: the one server that is meant, by its own address;
 * client: whose connection it is, NULL: of no workload.
 */
bool flat_l7_wanted(struct flat_offload *o, const struct flat_service *service,
		    const struct flat_service_port *port, const struct flat_listener *pinned,
		    const struct flat_workload *client);

/** Whether a filter or a rate limit holds for a workload's requests, as a client's (not NULL) or a server's. */
static inline bool flat_l7_bound(const struct flat_mesh *mesh, const struct flat_workload *workload,
				 enum flat_side_mode mode)
{
	return (mode == FLAT_MODE_SERVER && flat_mesh_limited(mesh, workload)) ||
	       flat_mesh_filtered(mesh, workload,
				  mode == FLAT_MODE_SERVER ? FLAT_FILTER_SERVER
							   : FLAT_FILTER_CLIENT);
}

/** Whether Telemetry, a filter or a rate limit wants a workload's requests read, as a client's (not NULL) or a server's. */
static inline bool flat_l7_observed_http(const struct flat_mesh *mesh,
					 const struct flat_workload *workload,
					 enum flat_side_mode mode)
{
	const struct flat_observation *o = flat_mesh_observation(mesh, workload, mode);

	return o->n_logs > 0 || o->trace || (o->metrics && o->metrics->labels_http) ||
	       flat_l7_bound(mesh, workload, mode);
}

/**
 * The same for a port whose protocol is not declared, if a connection speaks HTTP: only where something is decided by its
 * requests (Telemetry alone reads none), as that costs all of the port's clients the direct way. Never of ports whose servers
 * may speak first.
 */
bool flat_l7_wanted_if_http(struct flat_offload *o, const struct flat_service *service,
			    const struct flat_service_port *port,
			    const struct flat_listener *pinned, const struct flat_workload *client);

/** Makes c->l7 for a client's connection. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_attach(struct flat_conn *c, const struct flat_decision *d);
/** The ends of a client's connection, or of an upstream, are open. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_start(struct flat_conn *c);
/** A client's connection, or an upstream, is about to be freed. */
void flat_l7_gone(struct flat_conn *c);
/** Whether the application of a client's connection, or an upstream, broke the rules: its slot is burnt. */
bool flat_l7_broken(const struct flat_conn *c);
/** Bytes that side i sent so far. */
uint64_t flat_l7_bytes(const struct flat_conn *c, int i);

/** A connection ends: Telemetry may have a line written of it, where it was not read as HTTP. */
void flat_observe_conn(struct flat_conn *c);

/* l7_measure.c: connections that Telemetry gives labels of its own. */
/** A connection with a series is open: makes c->measures where a side of it has overrides. */
void flat_measure_opened(struct flat_conn *c);
/** Adds up its live bytes; c->measures is there. */
void flat_measure_live(struct flat_conn *c);
/** It is over; c->measures is there. */
void flat_measure_closed(struct flat_conn *c);

/** Counts what went by of gRPC calls that are not over: each scrape has it. */
void flat_l7_messages_live(struct flat_offload *o);

/** One look at what moves; `news`: of what rested somebody had something. True while anything does: the caller yields and comes back. */
bool flat_l7_turn(struct flat_offload *o, bool news);
/** How long the loop may sleep for the sake of time-outs and delays, ms; -1: for ever. */
int flat_l7_wait_ms(struct flat_offload *o);

/** istio_requests_total and istio_request_duration_milliseconds in Prometheus's text form. */
void flat_l7_metrics(struct flat_offload *o, struct flat_strbuf *out);

/**
 * The turn of one of several destinations, by their weights (`total` together): exact shares over a full turn. `dry` uses
 * up none. NULL: there is none with a weight.
 */
const struct flat_route_destination *flat_l7_pick(struct flat_offload *o,
						  const struct flat_route_destination *v,
						  uint32_t n, uint64_t total, bool dry);

/* --- admin --- */

/** `routes`: VirtualServices with their routes and destinations. */
void flat_admin_routes(struct flat_offload *o, bool json, struct flat_strbuf *out);
/** `whyhttp SRC METHOD URL [NAME:VALUE]...`: each step of the decision on a request. Changes nothing. */
void flat_admin_why_http(struct flat_offload *o, const char *src, char **words, size_t n, bool json,
			 struct flat_strbuf *out);

#endif
