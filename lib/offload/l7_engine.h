/* What the files of the HTTP engine share (l7_*.c). Nobody else includes this. */
#ifndef FLAT_OFFLOAD_L7_ENGINE_H
#define FLAT_OFFLOAD_L7_ENGINE_H

#include "codec/grpc.h"
#include "codec/http1.h"
#include "codec/http2.h"
#include "codec/path.h"
#include "mesh/filter.h"
#include "offload/l7.h"
#include "offload/l7_end.h"
#include "offload/persist.h"
#include "offload/rest.h"

/* Servers that one client's connection holds connections to: as many as a route has destinations, and then some. */
#define FLAT_L7_UPSTREAMS_MAX 16U
/* Bytes that a client may still send after its last answer, so that it reads the answer and no reset. */
#define FLAT_L7_DRAIN_BYTES ((uint64_t)256 * 1024)
/* How long a client may take for that, and, where nothing else is said, for the head of a request that it began, us. */
#define FLAT_L7_DRAIN_US ((int64_t)5 * 1000000)
#define FLAT_L7_HEAD_US ((int64_t)60 * 1000000)
/* How long one from outside may take to begin its first request, its handshake included. */
#define FLAT_L7_FIRST_US ((int64_t)15 * 1000000)
/* Retries where a route says nothing, as in Istio; the first pause, doubled each time up to ten times it. */
#define FLAT_L7_RETRIES 2U
#define FLAT_L7_BACKOFF_US 25000U
/* Copies of requests on their way at once: each holds the buffers of a request. And how long one may take. */
#define FLAT_L7_SHADOWS_MAX 128U
#define FLAT_L7_SHADOW_US ((int64_t)60 * 1000000)
/* Attempts of one request beside its latest: each has buffers of its own. */
#define FLAT_L7_ASIDES_MAX 4U
/* Servers of a request that are remembered, so that a retry goes elsewhere. */
#define FLAT_L7_TRIED_MAX 8U

/* After how long something that was not there yet is looked for again, us. */
#define FLAT_L7_AGAIN_US ((int64_t)10000)

/* Streams of either kind that a node keeps for the next ones: of one client with all that it may have at once. */
#define FLAT_L7_SPARE_MAX FLAT_HTTP2_STREAMS_MAX

/* Room in a buffer for what must not be cut: a head of ours, trailers, a chunk's line. */
#define FLAT_L7_ROOM_BYTES ((size_t)24 * 1024)

/* Who asks an external authorizer. */
enum flat_l7_asker {
	FLAT_L7_ASKED_BY_GATE,
	FLAT_L7_ASKED_BY_SERVER,
	FLAT_L7_CHECKS,
};

/* How requests that met admission control ended. */
enum flat_l7_admitted {
	FLAT_L7_SUCCESS,
	FLAT_L7_FAILURE,
	FLAT_L7_REJECTED,
};

/* What became of hedges. */
enum flat_l7_hedging {
	FLAT_L7_HEDGE_MADE,    /* an attempt was made beside another one */
	FLAT_L7_HEDGE_REFUSED, /* not: too many were, or the cluster has no room for retries */
	FLAT_L7_HEDGE_EARLIER, /* an attempt answered beside which another one had been made */
	FLAT_L7_HEDGE_LATEST,  /* the latest one did */
	FLAT_L7_HEDGES,
};

enum flat_l7_phase {
	FLAT_L7_HEAD,	 /* a request's head is awaited */
	FLAT_L7_DELAY,	 /* a fault's delay */
	FLAT_L7_BACKOFF, /* the pause before the next attempt */
	FLAT_L7_PENDING, /* its servers have as much to do as they may */
	FLAT_L7_SERVE,	 /* the request goes, the response comes */
	FLAT_L7_CLOSING, /* the last answer is out: the client may hang up */
	FLAT_L7_STREAMS, /* of an HTTP/2 connection: its streams have phases of their own */
};

/*
 * A connection of ours to a server. Owner: its client's connection; an orphan waits for its server to hang up. One that
 * speaks HTTP/2 is a carrier: each request has an upstream of its own, which is a stream on it.
 */
struct flat_l7_upstream {
	TAILQ_ENTRY(flat_l7_upstream) link; /* of the owner's, or of the carrier's streams */
	struct flat_l7_upstream
	    *carrier;	       /* of a stream; NULL: a connection, or its carrier is gone */
	struct flat_http2 *h2; /* of a carrier */
	bool heard;	       /* of a carrier: its server said something */
	bool http1;	       /* and that was no HTTP/2 */
	TAILQ_HEAD(, flat_l7_upstream) streams; /* of a carrier */
	uint64_t carried; /* of a stream: bytes that the carrier had been sent before it */
	bool is_stream;
	bool unsent;	      /* of a stream: its server took nothing of it */
	struct flat_l7 *l7;   /* of the client's connection; NULL: orphan */
	struct flat_l7 *user; /* whose request is on it; NULL: idle */
	struct flat_conn *conn;
	struct flat_l7_end end;
	struct flat_addr target;
	bool mesh; /* a mesh listener */
	bool open; /* connected */
	bool used; /* a response came on it before this request */
	/* Who counts it (l7_bounds.c). */
	struct flat_cluster *cluster; /* NULL: nobody */
	struct flat_cluster_host *host;
	TAILQ_ENTRY(flat_l7_upstream) idle_link;
	bool idle;			/* it is in the cluster's list */
	uint32_t n_requests;		/* that went over it */
	int64_t idle_until_us;		/* it is closed then; 0: never */
	struct flat_http1_known *known; /* of a connection's second answer and later; owned */
	struct flat_http1 in;
};

/* What a connection's last request was told of admission control, and what for. */
struct flat_l7_gate_known {
	struct flat_l7_admission *admission; /* NULL: there is none */
	uint64_t epoch;
	const struct flat_workload *workload;
	const struct flat_service *service;
	uint16_t port;
};

/* What holds a request to an endpoint (l7_persist.c). */
struct flat_l7_persist {
	const struct flat_persistence *by; /* NULL: nothing */
	struct flat_persist_token token;   /* that the client showed, while `kept` */
	bool kept;			   /* it goes there */
};

/*
 * One attempt of a request. Where a request is hedged several go on at once: the latest is the exchange's own, the others stand
 * aside (l7_hedge.c). The fields are written once, and are the exchange's as well.
 */
#define FLAT_L7_TRY_FIELDS                                                                         \
	const struct flat_service *service; /* where it goes, NULL: pinned without service */      \
	const struct flat_service_port *port;                                                      \
	const struct flat_route_destination *destination;                                          \
	struct flat_series *joined; /* whom it joins, for the metrics; NULL: unknown yet */        \
	struct flat_target target;                                                                 \
	struct flat_l7_upstream *upstream;                                                         \
	struct flat_traffic traffic;	 /* what the DestinationRule says of its server */         \
	struct flat_cluster *cluster;	 /* that counts it; NULL: none */                          \
	struct flat_cluster_host *host;	 /* of it */                                               \
	struct flat_cluster *retrying;	 /* that counts it as a retry; NULL: it is none */         \
	struct flat_l7_admission *admit; /* its server's, which is told how it ends; NULL: none */ \
	bool connecting;		 /* counted as pending: its connection is being made */    \
	bool up_done;			 /* the request is sent */                                 \
	bool late;			 /* its time was over, which is noted, and it goes on */   \
	bool hedged;		   /* another one was made beside it: it is not tried again */     \
	int16_t grpc_status;	   /* of the response; -1: none was seen */                        \
	uint16_t try_status;	   /* that it came to, 503 where it failed; 0: nothing */          \
	uint32_t interim;	   /* responses that were none yet */                              \
	struct flat_http1_body up; /* how far the request's body is sent */                        \
	uint64_t up_bytes;	   /* of it */                                                     \
	int64_t try_us;		   /* when its time is over, or a pause; 0: never */               \
	uint64_t out_before	   /* bytes that went to the upstream before it */

struct flat_l7_try {
	FLAT_L7_TRY_FIELDS;
};

/* One that stands aside: all of the request is sent, and its answer awaited. */
struct flat_l7_aside {
	SLIST_ENTRY(flat_l7_aside) link;
	struct flat_l7_try t;
	size_t at; /* where the request ends in the client's buffer */
	/* Of the exchange's `observed`, if there is one. */
	const struct flat_observation *server;
	const struct flat_workload *server_workload;
	int64_t attempt_us;
};

/*
 * A request as a gateway's limits see it: before its route changes it, but with what its tokens say in the place of what the client
 * wrote there.
 */
struct flat_l7_seen {
	struct flat_http_request request; /* all but the fields as in the exchange's */
	struct flat_http_head head;
	char text[];
};

/* One request and its response. */
struct flat_l7_exchange {
	union {
		struct flat_l7_try latest;
		struct {
			FLAT_L7_TRY_FIELDS;
		};
	};
	SLIST_HEAD(, flat_l7_aside) asides;   /* the latest of them first */
	const struct flat_hedge_patch *hedge; /* that has it hedged; of `mesh`; NULL: it is not */
	struct flat_record record;
	struct flat_mesh *mesh; /* a reference, while the request is decided by it */
	const struct flat_http_route *route;
	const struct flat_http_match *match;
	const struct flat_workload *client; /* a gateway's, which asks for its clients; else NULL */
	struct flat_ip
	    remote; /* its client's, as trusted proxies say; none: as the connection has it */
	struct flat_waiter waiter; /* for PENDING */
	/* Of external authorizers, the gateway's and the server's: the last that was asked first; owned; NULL: none. */
	struct flat_l7_check *check[FLAT_L7_CHECKS];
	struct flat_jwt *jwt;	    /* that the gateway was shown; a reference; NULL: none */
	struct flat_l7_rate *rates; /* what rate limit services were asked; owned; NULL: nothing */
	const struct flat_virtual_service
	    *virtual; /* that the gateway found; of `mesh`; NULL: none, or no gateway */
	struct flat_l7_observed *observed; /* what Telemetry asks for; owned; NULL: nothing */
	bool probing;			   /* the attempt is only to see whether one is asked */
	bool settled;			   /* that is over */
	uint64_t
	    stay;   /* the tag (persist.h) of the endpoint that was asked about; 0: any will do */
	bool noted; /* what decides nothing was told */
	char cookie[17]; /* the client is given, for `lb`; "": none */
	struct flat_addr tried[FLAT_L7_TRIED_MAX];
	uint32_t n_tried;
	uint32_t n_asides;
	struct flat_l7_persist persist;
	struct flat_http_request request; /* as it came, path canonical; in the client's buffer */
	char *path;		   /* owned: the canonical path, where it is not as it came */
	struct flat_l7_seen *seen; /* owned; NULL: `request` */
	char *
	    passed; /* owned: the head as a gateway let it pass, where copies are to be made of it; else NULL */
	size_t passed_len;
	/* The head as it is sent, read, of an attempt that is just being made; NULL: it has to be read from its text. */
	const struct flat_http_head *sent;
	const void *sent_text;
	bool unwritten;	 /* its text is not made: flat_l7_head_text() */
	size_t head_len; /* bytes of the head at the front of the client's buffer */
	struct flat_http1_body down;
	struct flat_http1 trailers;
	bool continued;	    /* its client was told 100 by us */
	bool mirrored;	    /* its copies were made */
	bool websocket;	    /* the client asks for it */
	bool tunnel;	    /* and the server has agreed: bytes both ways, no HTTP any more */
	bool replayable;    /* all of it so far is in the client's buffer */
	bool whole;	    /* all of it is there, as it was sent before, and stays */
	bool head_out;	    /* a final response head went to the client */
	bool down_done;	    /* the response is over */
	bool close;	    /* the client's connection ends with it */
	bool grpc;	    /* by its content-type */
	bool http1;	    /* a server was asked in HTTP/2 and does not speak it */
	bool vary;	    /* the response is another for who takes other codings */
	bool grpc_deadline; /* deadline_us is the client's own, by grpc-timeout */
	/* What a rate limit tells the client; max 0: nothing. */
	struct {
		uint32_t max, left, reset_s;
	} limit;
	/* External authorizers that the gateway's policies ask: bits, by their order in `mesh`. */
	uint32_t gate_asks;
	/* That of the client or gateway, which is told how it ends; NULL: none. */
	struct flat_l7_admission *admission;
	struct flat_l7_gzip *gzip; /* the response is compressed; owned; NULL: not so */
	uint32_t limited_attempt;  /* the last that limits were asked about, + 1 */
	uint32_t down_head;	   /* bytes of the response's head as it was sent */
	int64_t start_us;
	int64_t deadline_us; /* 0: none */
	uint64_t down_bytes; /* of the body */
	/* Of a gRPC call: what goes by of each direction (of the request, of the response), and of it what was seen, and counted. */
	struct flat_grpc_frames frames[2];
	uint64_t messages[2], counted[2];
};

TAILQ_HEAD(flat_l7_list, flat_l7);

/* The streams of a client's HTTP/2 connection. */
struct flat_l7_mux {
	struct flat_http2 *h2;
	struct flat_l7_list children;
	struct flat_l7_list hot; /* those that are looked at */
	bool retiring;		 /* its client was told to go to our successor */
	uint32_t n_children;
	int64_t head_us; /* since when a head is not whole; 0: none */
};

/* The client's side: of a connection, or of one stream of it. */
struct flat_l7 {
	TAILQ_ENTRY(flat_l7) hot_link; /* of the node's, or of the root's mux */
	TAILQ_ENTRY(flat_l7) timer_link;
	TAILQ_ENTRY(flat_l7) child_link; /* of a stream */
	struct flat_l7_node *node;
	struct flat_conn *conn;
	struct flat_l7
	    *root; /* of the connection: it owns the upstreams. Itself, but for a stream */
	struct flat_l7_mux *mux; /* of a root that speaks HTTP/2 */
	struct flat_l7_shadow
	    *shadow; /* of a root: it is the copy of a request; owned. NULL: not so */
	struct flat_l7_end end;
	enum flat_l7_phase phase;
	struct flat_addr pinned;  /* family 0: routed */
	struct flat_addr http1;	  /* of a root: the last server that did; family 0: none */
	uint16_t port;		  /* of the service */
	uint8_t protocol;	  /* enum flat_protocol of that port */
	char principal[320];	  /* of the client; "": none */
	uint64_t principal_epoch; /* when that was */
	bool hot, timed;
	bool dry; /* nobody's: asks only, uses up no turn */
	int64_t last_us;
	int64_t wake_us; /* timed: when */
	uint64_t drained;
	uint32_t n_requests;
	struct flat_series *joined; /* of the last request, in the epoch and for the key below */
	uint64_t joined_epoch;
	const void *joined_key[3];
	struct flat_http1_known *known;		/* of a root's second request and later; owned */
	struct flat_l7_gate_known admission[2]; /* as a client, and at the server; of a root */
	int64_t moved_us;			/* when something moved last */
	/* Of a root (l7_idle.c). */
	struct flat_http_times times;
	bool watched;		  /* some of them are of requests */
	int64_t look_us;	  /* nothing is late before; 0: nothing is on its way */
	int64_t rest_us;	  /* since when it has no request */
	uint32_t rest_requests;	  /* that it had made then */
	struct flat_tally *tally; /* of the last request's service and route; NULL: look */
	const struct flat_http_route *tally_route;
	struct flat_http1 in;
	struct flat_l7_exchange x;
	TAILQ_HEAD(, flat_l7_upstream) upstreams; /* of a root */
	uint32_t n_upstreams;
};

struct flat_l7_series;
struct flat_jwt;
struct flat_ext_authz;
struct flat_l7_shadow;
struct flat_authn;
struct flat_l7_check;
struct flat_l7_checks;
struct flat_l7_observed;
struct flat_l7_observer;
struct flat_l7_traces;
struct flat_l7_limits;
struct flat_l7_admission;
struct flat_l7_admissions;
struct flat_l7_gzip;
struct flat_l7_rate;
struct flat_call_channel;
struct flat_tally;
struct flat_tallies;
struct flat_log_file;

struct flat_l7_node {
	struct flat_offload *offload;
	struct flat_l7_list hot;
	int64_t now_us;	  /* when this turn began */
	int64_t moved_us; /* when something moved last */
	struct flat_l7_list timers;
	int64_t next_us; /* no timer is due before; 0: there is none */
	uint64_t random;
	/* Streams of clients and of carriers that are over, for the next ones: linked by child_link and link. */
	struct flat_l7_list spare;
	TAILQ_HEAD(, flat_l7_upstream) spare_up;
	uint32_t n_spare, n_spare_up;
	bool rules; /* the mesh has a VirtualService, or a policy with HTTP fields, or Telemetry */
	bool observes;			   /* it has Telemetry that speaks of somebody */
	bool limited;			   /* it has rate limits, of either kind */
	bool admits;			   /* it has admission control */
	bool compresses;		   /* it has compressors */
	bool hedges;			   /* it has hedge policies */
	struct flat_authz_verdict verdict; /* of the last request asked about */
	struct flat_strbuf notes;	   /* steps of it, for `flatctl why` */
	struct flat_authn *authn;
	struct flat_source keys;       /* key sets that were fetched */
	struct flat_l7_checks *checks; /* connections to external authorizers */
	bool asks;		       /* some policy has one, or a limit a service */
	uint64_t dry_run[2][2];	       /* by action (ALLOW, DENY) and result (allowed, denied) */
	uint32_t n_shadows;	       /* copies on their way */
	uint64_t mirrored, unmirrored; /* copies made, and not made for want of room */
	uint64_t audited;	       /* marked by AUDIT policies */
	int64_t *shares; /* per destination of the mesh: its turns among its route's */
	uint32_t n_shares;
	struct flat_log_file *log;  /* of all requests; NULL: none */
	int64_t stamp_s;	    /* when the next holds, seconds */
	char stamp[24];		    /* the beginning of a line; "": none yet */
	struct flat_addr line_addr; /* of the last line's server, and its text */
	char line_host[FLAT_ADDR_STRLEN];
	struct flat_l7_observer *observer;
	struct flat_l7_traces *traces;
	int64_t
	    told_s; /* when something was said of a client's request, and how often in that second */
	uint32_t told;
	struct flat_map series_map;
	struct flat_l7_series **series;
	struct flat_l7_limits *limits; /* buckets; made with the first request that has one */
	struct flat_l7_admissions *admissions;	    /* made with the first request that meets one */
	uint64_t admission_n[FLAT_L7_REJECTED + 1]; /* by enum flat_l7_admitted */
	struct flat_l7_gzip *gzip_spare;	    /* compressors that are kept */
	uint32_t n_gzip_spare, n_gzips;		    /* of these, and in use */
	uint64_t compressed[2]; /* responses that could be, by whether they were */
	uint64_t gzip_bytes[2]; /* before and after */
	struct flat_call_channel **rate_channels; /* to the services of limits, by their index */
	uint64_t rated[4];			  /* answers, by what they were (l7_rate.c) */
	uint64_t hedges_n[FLAT_L7_HEDGES];	  /* by enum flat_l7_hedging */
	struct flat_tallies *tallies;		  /* made with the first request */
	uint32_t n_series, n_rate_channels;
	struct flat_http1 trailers;	 /* of a body that an authorizer is to see */
	struct flat_http1 scratch;	 /* for a head that was changed: read again */
	uint8_t head[FLAT_L7_OUT_BYTES]; /* a head being made */
	char path[FLAT_L7_OUT_BYTES];	 /* its path */
	char fields[FLAT_L7_OUT_BYTES];	 /* pieces of it */
};

/* --- l7.c --- */

/** Reads on in a request's head, or in that of an answer of `up`, which may be asked for again. As flat_http1_read(). */
FLAT_MUST_CHECK int flat_l7_read_request(struct flat_l7 *l7);
FLAT_MUST_CHECK int flat_l7_read_answer(struct flat_l7_upstream *up);
/** It is looked at from now on. */
void flat_l7_heat(struct flat_l7 *l7);
/** What its attempt waited for is there, whatever it is: it is looked at, and does not wait any longer. */
void flat_l7_resume(struct flat_l7 *l7);
/** It is looked at, at the latest, at that time. */
void flat_l7_wake_at(struct flat_l7 *l7, int64_t us);
/** Whether the attempt's server is spoken to in HTTP/2. */
bool flat_l7_wants_h2(const struct flat_l7 *l7);
/**
 * Whether the request's content waits: its connection of HTTP/2 is gone, or is spoken for its being a call of gRPC alone, and the
 * server has not said yet that it speaks it. A server of HTTP/1 that has bytes left to read ends the connection by a reset, and
 * its answer is lost; and what was sent may be needed again. There is an upstream.
 */
bool flat_l7_holds_content(const struct flat_l7 *l7);
/** The exchange's upstream, open or on its way, for x.target. NULL: x failed, *err says how (negative errno). */
struct flat_l7_upstream *flat_l7_upstream_get(struct flat_l7 *l7, int *err);
/** Its request has nothing to do with it any more. */
void flat_l7_upstream_leave(struct flat_l7_upstream *up);
/** Its request is answered: it waits for the next one of its client. */
void flat_l7_upstream_idle(struct flat_l7_upstream *up);
/** Whether one that is idle is there for x.target. */
bool flat_l7_upstream_ready(const struct flat_l7 *l7);
/** Closes an upstream: at once (reset), or as an idle one. */
void flat_l7_upstream_close(struct flat_l7_upstream *up, bool reset);
/** Idle servers may hang up; what they say unasked ends them. */
void flat_l7_look_at_idle(struct flat_l7 *l7);
/** A random number below n. */
uint32_t flat_l7_random(struct flat_l7_node *node, uint32_t n);

/** Whether it moved nothing for long: its ends are armed, and it is looked at no more until it is rung. */
void flat_l7_cool(struct flat_l7 *l7);
/** It is about to be freed: off all lists. */
void flat_l7_forget(struct flat_l7 *l7);
/** How long one that moves nothing is still looked at, microseconds. */
int64_t flat_l7_hot_us(const struct flat_l7_node *node);

/* --- l7_mux.c: clients that speak HTTP/2 --- */

/** Whether a connection begins as HTTP/2 does, as far as it has begun. */
bool flat_l7_is_preface(const struct flat_l7 *l7);
/**
 * Whether what a connection begins with has to be HTTP/2's preface and is not (RFC 9113, 3.4: an answer in HTTP/1 would
 * be read as a frame). `n`: what HTTP/1's reader made of it.
 */
bool flat_l7_is_no_preface(const struct flat_l7 *l7, int n);
/** The connection's first bytes are HTTP/2's: they are in root->end. False: no memory. */
bool flat_l7_mux_begin(struct flat_l7 *root);
/** Moves what can be moved, of all streams. True if anything was. */
bool flat_l7_mux_pump(struct flat_l7 *root);
/** Ends the connection, and its streams without answers. */
void flat_l7_mux_break_off(struct flat_l7 *root);
/** Ends all streams without answers. */
void flat_l7_mux_fini(struct flat_l7 *root);
/** Frees the streams that were kept for the next. */
void flat_l7_mux_spare_fini(struct flat_l7_node *node);

/* --- l7_carrier.c: servers that speak HTTP/2 --- */

/** Makes a connection that is being made a carrier. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_carrier_init(struct flat_l7_upstream *up);
/** A stream on it for the request of l7. NULL: no memory. */
struct flat_l7_upstream *flat_l7_carrier_stream(struct flat_l7_upstream *carrier,
						struct flat_l7 *l7);
/** Ends a stream: at once, or as one that is over. */
void flat_l7_carrier_stream_close(struct flat_l7_upstream *up, bool reset);
/** Frees the streams that were kept for the next. */
void flat_l7_carrier_spare_fini(struct flat_l7_node *node);
/** The connection is gone. Its streams are reset; where it never was, they have no upstream. */
void flat_l7_carrier_gone(struct flat_l7_upstream *carrier);
/** Takes new streams. */
bool flat_l7_carrier_usable(const struct flat_l7_upstream *carrier);
/** Reads, then writes, what there is on all carriers of a client's connection. True if anything was. */
bool flat_l7_carriers_read(struct flat_l7 *root);
bool flat_l7_carriers_write(struct flat_l7 *root);
/** What flat_http2 calls: the user is a struct flat_l7. */
void flat_l7_wake(void *user);
/** Sends what HTTP/2 has to say, as far as there is room. True if anything was; *err: -ENOMEM. */
bool flat_l7_drain_h2(struct flat_http2 *h2, struct flat_l7_end *e, int *err);

/* --- l7_body.c --- */

/**
 * Moves one piece of a body from an end of the exchange to the other, in normal form. 1: done, 0: no more now, or -EBADMSG. `*bytes`
 * counts content, `frames` (NULL: nothing) the messages of a gRPC call; x.trailers is filled with the last piece.
 */
FLAT_MUST_CHECK int flat_l7_move_piece(struct flat_l7 *l7, struct flat_l7_end *from,
				       struct flat_l7_end *to, struct flat_http1_body *b,
				       uint64_t *bytes, struct flat_grpc_frames *frames);
/** Writes a piece whose bytes begin at `bytes`; there is room for it. `trailers` (NULL: none), but those hidden, are for the last one. */
void flat_l7_put_piece(struct flat_l7_end *to, const struct flat_piece *piece, const uint8_t *bytes,
		       const struct flat_http1 *trailers);

/* --- l7_trailers.c --- */

/** Hides those of x.trailers, whose bytes begin at `text`, that the head was kept from saying: of the request, on its way to x.upstream. */
void flat_l7_trailers_request(struct flat_l7 *l7, const void *text);
/** The same of the response. */
void flat_l7_trailers_response(struct flat_l7 *l7, const void *text);

/* --- l7_exchange.c --- */

/** Moves what can be moved. True if anything was. */
bool flat_l7_pump(struct flat_l7 *l7);
/** Ends the exchange without an answer: its client is gone. */
void flat_l7_abandon(struct flat_l7 *l7);

/** The last answer is queued: the client may hang up, and has a little time for that. */
void flat_l7_close_client(struct flat_l7 *l7);
/** Drops what a client still sends after that. */
bool flat_l7_drain(struct flat_l7 *l7);

/** The exchange is over, one way or another: counts it, and makes ready for the next. */
void flat_l7_finish(struct flat_l7 *l7);

struct flat_l7_answer;

/** Makes an attempt now. */
void flat_l7_try(struct flat_l7 *l7);
/** The client can be told only by the end of its connection, or stream. */
void flat_l7_cut_client(struct flat_l7 *l7, enum flat_record_verdict verdict);

/* --- l7_retry.c: each makes another attempt, or answers --- */

/** No connection to the attempt's server came about. */
void flat_l7_connect_failed(struct flat_l7 *l7);
/** The server's connection ended before its answer. */
void flat_l7_upstream_reset(struct flat_l7 *l7);
/** Its time is over: the attempt's, or the whole request's, of which no other attempt is made. */
void flat_l7_timed_out(struct flat_l7 *l7, bool whole);
/** An answer came, `grpc` its status, -1: none. Whether another attempt is made in its place. */
bool flat_l7_status_retried(struct flat_l7 *l7, unsigned status, int grpc);

/** Whether an answer is one in whose place the route makes another attempt. */
bool flat_l7_is_retriable(const struct flat_l7 *l7, unsigned status, int grpc);
/** Makes the request ready to be sent once more: at once, or after a pause. */
void flat_l7_again(struct flat_l7 *l7, bool at_once);
/** Whether the route has one more attempt for a reason: it was made less often than it may. */
bool flat_l7_has_tries(const struct flat_l7 *l7);

/* --- l7_hedge.c: attempts beside each other --- */

/** What has a request hedged that goes by x.route: `virtual` is a gateway's; NULL: nothing. */
const struct flat_hedge_patch *flat_l7_hedge_of(const struct flat_l7 *l7,
						const struct flat_workload *client,
						const struct flat_virtual_service *virtual);
/** The time of the latest attempt is over: it stands aside for another one. Where it may not, it goes on. */
void flat_l7_hedge(struct flat_l7 *l7);
/** Looks at those aside. The first one with an answer that stays is the latest from now on, and the others end. True if anything moved. */
bool flat_l7_asides_look(struct flat_l7 *l7);
/** The latest one came to nothing: one of those aside takes its place. False: there is none. */
bool flat_l7_aside_next(struct flat_l7 *l7);
/** The latest one answers: those aside end. */
void flat_l7_latest_answers(struct flat_l7 *l7);
/** Those aside end: the request is over. */
void flat_l7_asides_end(struct flat_l7 *l7);
/** Their buffers that hold nothing are given back. */
void flat_l7_asides_rest(struct flat_l7 *l7);
/** Whether all attempts go over streams. */
bool flat_l7_on_streams(const struct flat_l7 *l7);
void flat_l7_hedge_note(struct flat_l7 *l7);
void flat_l7_hedge_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);

/* --- l7_idle.c: what does not move --- */

/** A connection is made: its times are those of the configuration in force. */
void flat_l7_idle_begin(struct flat_l7 *l7);
/** Whether a client has asked for nothing for too long; else asks to be woken. Not while a request is on its way. */
bool flat_l7_is_idle(struct flat_l7 *l7);
/** How long its next request's head may take, us. */
int64_t flat_l7_head_us(const struct flat_l7 *l7);
/** Ends what of a watched connection, and of its streams, did not move for too long, and asks to be woken for the rest. True if anything was. */
bool flat_l7_idle_look(struct flat_l7 *l7);
/** Says in the node's notes which times the connections of such a client have. */
void flat_l7_idle_note(struct flat_l7 *l7, const struct flat_workload *client);

/* --- l7_reply.c --- */

/** Answers in the server's place; the exchange is over. */
void flat_l7_reply(struct flat_l7 *l7, const struct flat_l7_answer *answer);
/** Likewise, of a few words. */
void flat_l7_reply_status(struct flat_l7 *l7, unsigned status, enum flat_record_verdict verdict,
			  const char *text);

/* --- l7_shadow.c: mirrors --- */

/** The request is sent, and all of it is in the client's buffer (whole), or was: it goes to the route's mirrors too. */
void flat_l7_mirror(struct flat_l7 *l7, bool whole);
/** What a copy's exchange is decided by. */
void flat_l7_shadow_decide(struct flat_l7 *l7);
/** The host that a copy is sent with. */
const char *flat_l7_shadow_host(const struct flat_l7_shadow *s);
/** Whether its head is as a gateway let it pass: rewritten, and with the fields that it is to have. */
bool flat_l7_shadow_is_passed(const struct flat_l7_shadow *shadow);
/** Its connection starts. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_l7_shadow_start(struct flat_l7 *l7);
void flat_l7_shadow_free(struct flat_l7 *l7);

/* --- l7_decide.c --- */

/** What is done with a request. */
enum flat_l7_verb {
	FLAT_L7_GO,	/* x.target is its server */
	FLAT_L7_ANSWER, /* `answer` is the response */
	FLAT_L7_LATER,	/* a delay first, of delay_ms */
};

/** Whether a field of a request is not a client's to say that comes from outside: what proxies tell each other. */
bool flat_l7_from_outside(const struct flat_l7 *l7, struct flat_span name);

/* A response of our own. */
struct flat_l7_answer {
	uint16_t status;
	uint8_t grpc; /* its status for a gRPC call, + 1; 0: what follows from `status` */
	enum flat_record_verdict verdict;
	const char *body; /* NULL: none */
	size_t len;
	const char *type;  /* content-type; NULL: none */
	bool of_route;	   /* the route's word: what it changes of responses holds for this one */
	char fields[2048]; /* further field lines, each with CRLF */
};

/** A request's head is whole: its path, service and route. */
enum flat_l7_verb flat_l7_decide(struct flat_l7 *l7, struct flat_l7_answer *answer,
				 uint32_t *delay_ms);
/** One attempt: destination, head (in node->head, *len bytes), authorization. GO, ANSWER, or LATER: in a moment. */
enum flat_l7_verb flat_l7_attempt(struct flat_l7 *l7, struct flat_l7_answer *answer, size_t *len);
/** Reads the head in node->head again, so that policies see what the server will. 0 or -EBADMSG. */
FLAT_MUST_CHECK int flat_l7_read_again(struct flat_l7 *l7, size_t len, struct flat_http_request *r);
/**
 * The text of the head of the attempt being made is in node->head from here on: made now where that was put off, since a stream takes
 * what was read. `*len` bytes. 0, or -EMSGSIZE, -EBADMSG.
 */
FLAT_MUST_CHECK int flat_l7_head_text(struct flat_l7 *l7, size_t *len);
/** Whether a head asks for, or agrees to, WebSocket and nothing else (RFC 6455, 4). */
bool flat_l7_is_websocket(const struct flat_http_head *head, const void *text);
/** Puts a response's head of `n` bytes, read by `up`, for the client: route's changes, our Connection. false: it does not fit. */
bool flat_l7_response_put(struct flat_l7 *l7, struct flat_l7_upstream *up, size_t n);

/* --- l7_gate.c: of a client's connection with a gate --- */

enum flat_l7_gate {
	FLAT_L7_GATE_OPEN,
	FLAT_L7_GATE_NOWHERE, /* no server, or no route, shows that host there: 404 */
	FLAT_L7_GATE_ELSEWHERE, /* another listener's of Gateway API than the one whose name was asked for in TLS: 421 */
	FLAT_L7_GATE_SECURE, /* by https alone: 301 */
	FLAT_L7_GATE_ANSWER, /* refused by a token or a policy of the gateway's own: `a` is the answer */
};
/**
 * Whether a request may come in, and whose routes it meets. Fills in question and *vs where it may; *seen is the request of the question, as
 * the gateway's tokens leave it, good until another head is written.
 */
enum flat_l7_gate flat_l7_enter(struct flat_l7 *l7, struct flat_route_question *question,
				struct flat_http_request *seen,
				const struct flat_virtual_service **vs, struct flat_l7_answer *a);

/** One attempt's head, as it is to be sent: what the gateway's tokens change, and its authorizer, if there is one. */
enum flat_l7_verb flat_l7_gate_pass(struct flat_l7 *l7, struct flat_http_request *request,
				    size_t *len, struct flat_l7_answer *a);

/* What a request from outside tells servers of its client. Refers to itself: never moves. */
struct flat_l7_gate_fields {
	struct flat_header_ops ops;
	struct flat_name_value set[2];
	char forwarded[2048];
};
/** False: what the client says of its way is too long. */
FLAT_MUST_CHECK bool flat_l7_gate_fields(const struct flat_l7 *l7, struct flat_l7_gate_fields *f);

/* --- l7_headers.c --- */

struct flat_l7_ops {
	/* The destination's, the route's, then what a gateway adds, what traces and logs do, what a compressor takes away. */
	const struct flat_header_ops *v[5];
	bool
	    one_list; /* the first two are the route's and then the destination's: what either takes away goes first */
};

struct flat_l7_ops flat_l7_ops_of(const struct flat_l7_exchange *x, bool response);
bool flat_l7_ops_any(const struct flat_l7_ops *ops);
/** The host that the request is sent with; NULL: as it came. */
const char *flat_l7_authority(const struct flat_l7 *l7);
/** Whether a field of the message is not sent on. */
bool flat_l7_ops_drop(const struct flat_l7_ops *ops, struct flat_span name);
/** Writes what is set and added; `status` of a response. */
void flat_l7_ops_put(const struct flat_l7 *l7, const struct flat_l7_ops *ops, unsigned status,
		     struct flat_http1_out *out);

/* --- l7_rewrite.c --- */

/** The path that is sent, in canonical form; in node->path where it is another. 0, -EMSGSIZE, or as flat_path_canonical(). */
FLAT_MUST_CHECK int flat_l7_rewrite_path(struct flat_l7 *l7, struct flat_span *path);
/** The field line of a redirect's target. false: it does not fit. */
FLAT_MUST_CHECK bool flat_l7_location(struct flat_l7 *l7, const struct flat_http_redirect *r,
				      char *out, size_t size);

/* --- l7_target.c --- */

/** Finds x.target for an attempt. 0, or a negative errno: there is none. */
FLAT_MUST_CHECK int flat_l7_target(struct flat_l7 *l7);
/** Somebody is asked whether the request may go to x.target: it goes there and nowhere else, as long as that is there, until flat_l7_again(). */
void flat_l7_target_stay(struct flat_l7 *l7);
/** Puts Set-Cookie, if the client is given one. */
void flat_l7_put_cookie(const struct flat_l7_exchange *x, struct flat_http1_out *out);
/** The value of the nth cookie of a name, from 0; absent: there are not so many. */
struct flat_span flat_l7_cookie(const struct flat_http_request *r, const char *name, uint32_t nth);

/* --- l7_persist.c --- */

/** What the client shows of a session of `p` is read, once. Not of who only asks (dry). */
void flat_l7_persist_begin(struct flat_l7 *l7, const struct flat_persistence *p);
/** The destination of x.route that its session is at, else the one whose turn it is; NULL: it has none. */
const struct flat_route_destination *flat_l7_persist_destination(struct flat_l7 *l7);
/** It cannot go where its session is: it goes anywhere now, by weight. False: it had none, nothing changes. */
bool flat_l7_persist_lost(struct flat_l7 *l7);
/** Puts what the client is to show from now on, if that is new. x.persist.by is there. */
void flat_l7_persist_put(const struct flat_l7 *l7, struct flat_http1_out *out);
/** Whether a field of the server's answer is not sent on: it has the name of a session's header. */
bool flat_l7_persist_drops(const struct flat_l7_exchange *x, struct flat_span name);

/* --- l7_bounds.c --- */

enum flat_l7_pass {
	FLAT_L7_PASS,
	FLAT_L7_WAIT, /* it is looked at when there is room (phase PENDING) */
	FLAT_L7_OVERFLOW,
};

/** Whether an attempt may go to x.target now. */
enum flat_l7_pass flat_l7_may_pass(struct flat_l7 *l7);
/** It waits no more for its turn. */
void flat_l7_unwait(struct flat_waiter *w);
/** The attempt is on its way to its server, or over: whoever balances counts it. */
void flat_l7_target_enter(struct flat_l7 *l7);
void flat_l7_target_leave(struct flat_l7 *l7);
/** Its connection is being made, or is there. */
void flat_l7_connecting(struct flat_l7_try *t, bool connecting);
/** How the attempt ended. */
void flat_l7_outcome(struct flat_l7 *l7, enum flat_outcome outcome, unsigned status);
/** Whether one more retry may be on its way; then it is counted until flat_l7_retry_end(). */
bool flat_l7_retry_begin(struct flat_l7 *l7);
void flat_l7_retry_end(struct flat_l7 *l7);

/** The life of a connection to a server: made, with a request, without one, and gone. */
void flat_l7_guard_new(struct flat_l7_upstream *up, const struct flat_target *target);
void flat_l7_guard_busy(struct flat_l7_upstream *up);
void flat_l7_guard_idle(struct flat_l7_upstream *up);
void flat_l7_guard_gone(struct flat_l7_upstream *up);
/** Whether it may have one more request. */
bool flat_l7_guard_keep(const struct flat_l7_upstream *up);
/** Whether it has rested long enough to be closed; else its client's connection is looked at in time. */
bool flat_l7_guard_rested(const struct flat_l7_upstream *up, int64_t now_us);

/* --- show_traffic.c --- */

/** " by RING_HASH of header x"; nothing for NULL. */
void flat_put_lb(struct flat_strbuf *out, const struct flat_lb *lb);
/** ", health check by HTTP each 5000 ms (FILE:LINE): 1 of 2 fail"; nothing for NULL. */
void flat_put_health(struct flat_strbuf *out, const struct flat_health_group *group);
/** Likewise, all of a policy. */
void flat_put_policy(struct flat_strbuf *out, const struct flat_traffic_policy *p);

/* --- l7_log.c --- */

/** Counts an exchange that is over, and logs it. */
void flat_l7_count(struct flat_l7 *l7);
/** Counts messages of a gRPC call that went by since the last time. */
void flat_l7_count_messages(struct flat_l7 *l7);
/** The request of a gRPC call is sent once more. */
void flat_l7_messages_again(struct flat_l7_exchange *x);
/** Whether one more line about a request may go to flatd's log: a client cannot fill it. */
bool flat_l7_may_tell(struct flat_l7_node *node);
/** Notes whom the attempt joins. */
void flat_l7_join(struct flat_l7 *l7);
void flat_l7_log_fini(struct flat_l7_node *node);

#endif
