/* Deciding about a connection: who may, where it goes and how. Control thread. */
#ifndef FLAT_OFFLOAD_ADMIT_H
#define FLAT_OFFLOAD_ADMIT_H

#include "offload/offload.h"

/* What the first bytes say: nothing, the name that is asked for in TLS, whether they are HTTP. */
enum flat_sniff_what { FLAT_SNIFF_NONE, FLAT_SNIFF_NAME, FLAT_SNIFF_PROTOCOL };

/** What was decided about a connection attempt. */
struct flat_decision {
	int status; /* 0: allowed; negative errno: refused */
	enum flat_refusal_kind kind;
	enum flat_conn_path path;
	struct flat_listener *listener; /* NULL: a server outside the mesh */
	struct flat_addr to;		/* what was asked for */
	struct flat_addr target;	/* where it goes */
	struct flat_wire_way wire;	/* and how, where that is another host */
	struct flat_cluster *cluster;	/* that `target` was picked from; NULL: none */
	struct flat_cluster_host *host; /* of it */
	const struct flat_service *service;
	const struct flat_service
	    *hidden; /* has the address, and the client does not see it; NULL: none */
	const struct flat_service_port *port; /* of it, as it was asked for; NULL: unknown */
	const struct flat_l4_route *route;    /* that led to `service`; NULL: none */
	const struct flat_route_destination *destination; /* of it */
	const struct flat_tls_origin *origin; /* TLS is begun with the server; NULL: it is not */
	enum flat_sniff_what sniff;	      /* its first bytes are read, and then it is decided */
	bool l7;	  /* forwarded as HTTP: its requests are decided one by one */
	bool l7_pinned;	  /* and all go to `target` */
	uint32_t asks[2]; /* authorizers, by flat_authz_verdict.order; of the gate, of the server */
	char reason[512];
};

struct flat_question {
	const struct flat_session *session; /* NULL: a plain client from `from` */
	struct flat_addr from;
	struct flat_addr to;
	struct flat_listener *pinned; /* a plain client's: no balancing */
	const char *principal; /* of a client on another host, by its certificate; NULL: none */
	bool own;	       /* a health check of ours: policies are not asked */
	const char *sni;       /* asked for in TLS, lower case; "": no name; NULL: not read yet */
	const struct flat_gate *gate; /* a client of a gateway's opaque port; NULL: not so */
	bool heard, http;	      /* its first bytes were read; and are HTTP */
	bool dry;		      /* asks only */
};

/** Resolves and authorizes. */
void flat_admit(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d);
/** Whether a live connection is still allowed. */
bool flat_still_allowed(struct flat_offload *o, const struct flat_conn *c, char *reason,
			size_t size);
/** Remembers a refusal for `flatctl why`, counts and logs it (telling.h). `s`: who was refused, as `who`; NULL: no session. */
void flat_refuse(struct flat_offload *o, const struct flat_session *s, const char *who,
		 const struct flat_addr *to, enum flat_refusal_kind kind, const char *reason);
/** "policy", "strict", ...: stable, for metrics. */
const char *flat_refusal_name(enum flat_refusal_kind kind);

enum { FLAT_ASKED_BY_GATE, FLAT_ASKED_BY_SERVER }; /* flat_decision.asks */

#endif
