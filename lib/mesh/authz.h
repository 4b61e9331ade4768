/*
 * Authorization of connections and of HTTP requests, with the meaning Istio gives AuthorizationPolicy:
 *
 * 1. A CUSTOM policy that matches: its external authorizer is asked (the caller does that), and then those of other
 *    policies that match, in the order of their names. Where one cannot be asked it is denied; about a connection those
 *    over gRPC are asked.
 * 2. A DENY policy that matches denies.
 * 3. No ALLOW policy selects the destination: allowed.
 * 4. An ALLOW policy that matches allows.
 * 5. Otherwise denied.
 *
 * A policy selects a workload when it is in the workload's namespace, or in the root namespace, and its selector holds
 * for the workload's labels. Asked about a connection, what only a request has (HTTP fields) makes an ALLOW rule match
 * nothing, and is left out of a DENY or CUSTOM rule, which then matches more: never less safe. AUDIT policies, and
 * those under dry run, decide nothing: flat_authz_notes() tells of them. Source: istio.io reference "Authorization Policy", tasks "TCP Traffic" and
 * "HTTP Traffic".
 */
#ifndef FLAT_MESH_AUTHZ_H
#define FLAT_MESH_AUTHZ_H

#include "base/json_read.h"
#include "codec/http.h"
#include "mesh/mesh.h"

struct flat_authz_policy;
struct flat_ext_authz;

/* Room for the sentence: principal and names of 253 characters would be cut, nothing shorter. */
#define FLAT_AUTHZ_TEXT_MAX 768

#define FLAT_AUTHZ_ALL_ASKED UINT32_MAX

enum flat_authz_action {
	FLAT_AUTHZ_ALLOW,
	FLAT_AUTHZ_DENY,
	FLAT_AUTHZ_CUSTOM,
	FLAT_AUTHZ_AUDIT,
};

struct flat_authz_input {
	/* "cluster.local/ns/NS/sa/SA" ("spiffe://" before it is ignored). NULL or "": no identity,
	 * as of a plain client. Namespace and service account are taken from it. */
	const char *source_principal;
	struct flat_ip source_ip;      /* the peer's address; none: no IP rule matches it */
	struct flat_ip remote_ip;      /* the original client's; none: source_ip */
	struct flat_ip destination_ip; /* where the server listens; none: unknown */
	uint16_t destination_port;     /* port the server listens on (target port), host order */
	const char *sni; /* asked for in TLS, lower case; "": no name; NULL: not read */
	/* NULL: the server is no workload; then only root namespace policies without selector
	 * apply. */
	const struct flat_workload *destination;
	/* NULL: a connection as such is asked about. Its path is canonical (codec/path.h). */
	const struct flat_http_request *http;
	/* Of the request's token, which was verified; NULL: it has none. Those of `spaced`, beside "scope" and
	 * "permission", are lists with blanks between. */
	const struct flat_json_node *claims;
	const char *const *spaced;
	uint32_t n_spaced;
	/* External authorizers of places below have allowed it, or are not to be asked; FLAT_AUTHZ_ALL_ASKED: all. */
	uint32_t custom_from;
	bool brief; /* no sentence is wanted: text stays empty */
};

enum flat_authz_reason {
	FLAT_AUTHZ_NO_POLICY,	    /* allowed: no ALLOW policy selects the destination */
	FLAT_AUTHZ_ALLOWED_BY_RULE, /* allowed: a rule of an ALLOW policy matches */
	FLAT_AUTHZ_DENIED_BY_RULE,  /* denied: a rule of a DENY policy matches */
	FLAT_AUTHZ_DENIED_BY_CUSTOM, /* denied: of a CUSTOM policy whose authorizer cannot be asked */
	FLAT_AUTHZ_ASK,		     /* not decided: a CUSTOM policy matches, ask its authorizer */
	FLAT_AUTHZ_NOT_ALLOWED, /* denied: ALLOW policies select the destination, none matches */
};

struct flat_authz_verdict {
	bool allowed;
	enum flat_authz_reason reason;
	/* The policy that decided; for NOT_ALLOWED the first ALLOW policy that selects the
	 * destination; NULL for NO_POLICY. Borrowed from the mesh. */
	const char *policy_namespace;
	const char *policy_name;
	/* ASK: whom; DENIED_BY_CUSTOM: one over HTTP, which is not asked about connections; else NULL. */
	const struct flat_ext_authz *ext;
	uint32_t order;			/* its place, below FLAT_EXT_AUTHZ_MAX */
	int rule;			/* index in spec.rules from 0; -1: no single rule decided */
	struct flat_where where;	/* of the rule, or of the policy when rule is -1 */
	char text[FLAT_AUTHZ_TEXT_MAX]; /* one sentence for people */
};

/**
 * Decides on one connection or request. Never fails: what cannot be told is denied. Does not allocate or
 * block; any thread. O(policies of the destination's and the root namespace).
 */
void flat_authz_check(const struct flat_mesh *mesh, const struct flat_authz_input *input,
		      struct flat_authz_verdict *verdict);

/**
 * Whether a policy for `destination` (NULL: as above), or a RequestAuthentication, speaks of HTTP, so that its requests
 * must be seen.
 */
bool flat_authz_needs_http(const struct flat_mesh *mesh, const struct flat_workload *destination);

/* One policy that matched without deciding. */
struct flat_authz_note {
	const struct flat_authz_policy *policy; /* NULL: none */
	int rule;
};

/* What policies say that decide nothing. */
struct flat_authz_notes {
	struct flat_authz_note audit; /* the first AUDIT policy that matches */
	/* What policies under dry run would do, each action by itself as in Istio. */
	bool has_deny, has_allow;
	struct flat_authz_note deny;  /* matched: it would be denied */
	struct flat_authz_note allow; /* none matched: it would be denied */
};

/** Fills `notes`. False: there is nothing to be told, which is quick. Context as flat_authz_check(). */
bool flat_authz_notes(const struct flat_mesh *mesh, const struct flat_authz_input *input,
		      struct flat_authz_notes *notes);

/** "no-policy", "allowed-by-rule", "denied-by-rule", "denied-by-custom", "ask", "not-allowed". */
const char *flat_authz_reason_name(enum flat_authz_reason reason);

/** "ALLOW", "DENY", "CUSTOM", "AUDIT". */
const char *flat_authz_action_name(enum flat_authz_action action);

/* For listings. */
struct flat_authz_policy;

/** Number of authorization policies. */
uint32_t flat_mesh_n_authz(const struct flat_mesh *mesh);

/** Policy `i` of flat_mesh_n_authz(). Its fields are in mesh/build.h. */
const struct flat_authz_policy *flat_mesh_authz(const struct flat_mesh *mesh, uint32_t i);

#endif
