/*
 * What is mandatory for a request: tokens, policies, external authorizers. Between l7_authn.c, l7_edit.c and
 * l7_mandatory.c, which are asked by l7_decide.c once a request's server and head are known.
 */
#ifndef FLAT_OFFLOAD_L7_MANDATORY_H
#define FLAT_OFFLOAD_L7_MANDATORY_H

#include "authn/authn.h"
#include "offload/l7_engine.h"

/* Names of query parameters that mean something, decoded or not; a part of a claim's name. */
#define FLAT_L7_PARAM_MAX 256U
/* Bytes of a path with query that are told in `realm`: Envoy's. */
#define FLAT_L7_REALM_MAX ((size_t)256)
/* Tokens at the places of one rule: one at each is usual. */
#define FLAT_L7_TOKENS_MAX 16U

/* Changes to a head that is to be sent. Zeroed; its texts are freed by who made them. */
struct flat_l7_edit {
	struct flat_strbuf remove; /* names of fields, each with its NUL */
	/* Fields that these write are removed too: only we say what is in a token. */
	const struct flat_jwt_rule *const *rules;
	uint32_t n_rules;
	struct flat_strbuf params; /* names of the query's parameters, likewise */
	struct flat_span query;	   /* parameters put behind the query; borrowed */
	struct flat_strbuf lines;  /* field lines added */
	bool replace;		   /* in place of those of the same names */
	bool failed;		   /* there was no memory */
};

/* The verified token of a request. */
struct flat_l7_claims {
	struct flat_jwt *jwt; /* a reference; NULL: none */
	const struct flat_jwt_rule *rule;
};

/* --- l7_edit.c --- */

/** %XX decoded into `out`, of text.len bytes. Returns how many. */
size_t flat_l7_url_decode(struct flat_span text, char *out);
/** The nth value (from 0) of a query's parameter, still encoded; absent: there is none. */
struct flat_span flat_l7_param(struct flat_span query, const char *name, uint32_t nth);
/** Adds a field; one whose value no header can carry is left out. */
void flat_l7_edit_add(struct flat_l7_edit *edit, struct flat_span name, struct flat_span value);
/** Whether a field of that name is taken away. An underscore is a dash here. */
bool flat_l7_edit_drops(const struct flat_l7_edit *edit, struct flat_span name);
/** Whether the edit would change this request. */
bool flat_l7_edit_any(const struct flat_l7_edit *edit, const struct flat_http_request *request);
/**
 * Changes the head in node->head, *len bytes long, and reads it again: `request` is then that. 0 or a negative errno:
 * the request cannot be sent.
 */
FLAT_MUST_CHECK int flat_l7_edit_head(struct flat_l7 *l7, const struct flat_l7_edit *edit,
				      struct flat_http_request *request, size_t *len);

/* --- l7_authn.c --- */

/**
 * For policies that are asked before a route is chosen: as flat_l7_authenticate(), but it does not wait for keys, and the
 * change is in `request` alone (whose text is then node->head until something is written there), not in what is sent. True:
 * good, with `claims` (to be put by the caller), or there is no token. False: `a` says what is wrong.
 */
bool flat_l7_verify(struct flat_l7 *l7, const struct flat_workload *workload,
		    struct flat_http_request *request, struct flat_l7_claims *claims,
		    struct flat_l7_answer *a);
/**
 * Tokens by the rules for `workload`. GO: with `claims` (to be put by the caller) or without a token, and the head
 * changed by what the rules say. LATER: keys are on their way. ANSWER: refused.
 */
enum flat_l7_verb flat_l7_authenticate(struct flat_l7 *l7, const struct flat_workload *workload,
				       struct flat_http_request *request, size_t *len,
				       struct flat_l7_claims *claims, struct flat_l7_answer *a);

/* --- l7_mandatory.c --- */

/** Whether the attempt may go to its mesh server. GO, LATER (ask again in FLAT_L7_AGAIN_US), or ANSWER. */
enum flat_l7_verb flat_l7_mandatory(struct flat_l7 *l7, struct flat_http_request *request,
				    size_t *len, struct flat_l7_answer *a);
/** Address of an endpoint of a service's port, for flatd's own connections to it. Its size; 0: there is none. */
socklen_t flat_l7_address_of(struct flat_l7_node *node, const struct flat_service *s, uint16_t port,
			     struct sockaddr_storage *out);
/** An answer of ours without further fields; `text` is borrowed, NULL: none. */
void flat_l7_text(struct flat_l7_answer *a, unsigned status, enum flat_record_verdict verdict,
		  const char *text);
/** Writes to the audit log who was refused what. `workload` NULL: a server that is none. */
void flat_l7_refused(struct flat_l7 *l7, const struct flat_workload *workload,
		     const struct flat_http_request *request, const struct flat_l7_answer *a,
		     const struct flat_authz_verdict *v);
/** A step told to `flatctl why`. */
void flat_l7_note(struct flat_l7_node *node, const char *fmt, ...) FLAT_PRINTF(2, 3);

/** Counters of what is mandatory, in Prometheus's text form. */
void flat_l7_mandatory_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);

int flat_l7_mandatory_init(struct flat_l7_node *node);
void flat_l7_mandatory_fini(struct flat_l7_node *node);
void flat_l7_mandatory_reloaded(struct flat_l7_node *node);

#endif
