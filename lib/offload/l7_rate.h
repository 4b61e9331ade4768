/*
 * Limits that a rate limit service decides (mesh/limit.h): envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit, over a
 * connection for each service that its questions share. Control thread.
 */
#ifndef FLAT_OFFLOAD_L7_RATE_H
#define FLAT_OFFLOAD_L7_RATE_H

#include "mesh/limit.h"
#include "offload/l7_mandatory.h"

struct flat_l7_rate;

/**
 * Asks the services of the limits that hold at the request's gateway, or at its server (x.target's listener), one after the
 * other: once at a gateway, at servers once for each attempt. LATER: not answered yet. GO: it may pass, and the head in
 * node->head was changed by what they say. ANSWER: refused.
 */
enum flat_l7_verb flat_l7_rate(struct flat_l7 *l7, bool gateway, struct flat_http_request *request,
			       size_t *len, struct flat_l7_answer *a);
/** Writes what the client is told of a request that passed. */
void flat_l7_rate_put(const struct flat_l7_rate *rates, struct flat_http1_out *out);
/** The exchange is over. */
void flat_l7_rate_free(struct flat_l7_rate *rates);

/** A new configuration is in force. */
void flat_l7_rates_reloaded(struct flat_l7_node *node);
void flat_l7_rates_fini(struct flat_l7_node *node);
/** Counters, in Prometheus's text form. */
void flat_l7_rates_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);

/* --- l7_rate_message.c --- */

/* Bytes of a question: more are not asked, as if there were no answer. */
#define FLAT_L7_RATE_BYTES_MAX ((size_t)128 * 1024)

struct flat_l7_descriptor;

/* What a service said. Texts are freed by who reads it. */
struct flat_l7_rate_answer {
	bool over;
	struct flat_strbuf client;   /* field lines of the client's answer */
	struct flat_strbuf upstream; /* and of the request, where it passes */
	struct flat_strbuf body;     /* of a refusal */
	struct flat_strbuf told;     /* x-ratelimit-*: field lines; "" where it says no limit */
};

/** Puts one descriptor of a RateLimitRequest. */
void flat_l7_rate_put_descriptor(struct flat_strbuf *out, const struct flat_l7_descriptor *d);
/** Puts its domain. */
void flat_l7_rate_put_domain(struct flat_strbuf *out, const char *domain);
/** Reads a RateLimitResponse. 0 or -EBADMSG. */
FLAT_MUST_CHECK int flat_l7_rate_read(const uint8_t *message, size_t len,
				      struct flat_l7_rate_answer *answer);

#endif
