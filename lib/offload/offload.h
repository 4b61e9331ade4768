/*
 * The offload half: who is who (sessions, listeners, connections) and what was decided about them.
 * docs/design/core.md says how they live and die. The control thread owns all of it; bytes are moved by workers
 * (worker.h).
 */
#ifndef FLAT_OFFLOAD_OFFLOAD_H
#define FLAT_OFFLOAD_OFFLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/siphash.h"
#include "control/config.h"
#include "control/watch.h"
#include "mesh/authz.h"
#include "mesh/directory.h"
#include "mesh/mesh.h"
#include "mesh/persist.h"
#include "mesh/policy.h"
#include "mesh/route.h"
#include "offload/bucket.h"
#include "offload/cluster.h"
#include "offload/index.h"
#include "offload/loop.h"
#include "offload/pairs.h"
#include "offload/reload.h"
#include "offload/rest.h"
#include "offload/series.h"
#include "offload/worker.h"
#include "vq/attach.h"
#include "vq/vq.h"

struct flat_offload;
struct flat_session;
struct flat_l7;
struct flat_l7_node;
struct flat_l7_upstream;
struct flat_bridge;
struct flat_decision;
struct flat_question;
struct flat_peers;
struct flat_audit_log;
struct flat_health;
struct flat_gate;
struct flat_sniff;
struct flat_asking;
struct flat_askings;
struct flat_in_server;
struct flat_in_way;
struct flat_account;
struct flat_netns;

/** What is counted of an account: its listeners cost as much as its connections, and lanes of its clients half of it. */
enum flat_account_kind {
	FLAT_ACCOUNT_CONN,
	FLAT_ACCOUNT_LISTENER,
	FLAT_ACCOUNT_LANE,
	FLAT_ACCOUNT_KINDS,
};

/**
 * One process that said HELLO. What the kernel says of it, not what it says. After its end it stays, closed, for
 * as long as a connection or a listener of its is held by somebody (a forked child, say): what they may do goes by its
 * identity.
 */
struct flat_session {
	TAILQ_ENTRY(flat_session) link;
	TAILQ_ENTRY(flat_session) ready_link;
	TAILQ_ENTRY(flat_session) settle_link;
	TAILQ_ENTRY(flat_session) stranger_link;
	TAILQ_ENTRY(flat_session) doom_link;
	struct flat_indexed by_pid; /* in flat_offload.processes, or closed in .ended */
	struct flat_offload *offload;
	struct flat_source control;
	uint64_t id;
	pid_t pid; /* of who connected; the kernel's word */
	int pidfd; /* pins the pid; -1 if the kernel has none */
	uid_t uid;
	gid_t gid;
	struct flat_netns *netns; /* when it said HELLO; referenced. NULL: flatd's, or unknown */
	uid_t exe_owner;
	bool exe_owner_known;
	bool greeted;
	bool closed;	  /* its control socket is no more, or never was; in flat_offload.ghosts */
	bool captured;	  /* a process that is confined: capture.h. Has no control socket */
	bool ready;	  /* has messages to be read; in flat_offload.ready */
	uint8_t settling; /* turns until it is answered; in flat_offload.settling while not 0 */
	uint32_t settle_seq;
	const char *doom; /* why it is to be ended after this turn; NULL: it goes on */
	int64_t joined_ms;
	struct flat_bucket bucket;	      /* of control messages */
	char *exe;			      /* owned; NULL: unknown */
	char *cgroup;			      /* owned; text of /proc/PID/cgroup */
	const struct flat_workload *workload; /* of the current mesh; NULL: none */
	char name[96];			      /* by its workload, for people */
	struct flat_account *account;	      /* whose it is: account.h. NULL: nobody's yet */
	uint32_t counted[FLAT_ACCOUNT_KINDS]; /* of its own, there */
	uint32_t n_conns;
	uint32_t n_half_open;
	uint32_t n_listeners;
	uint32_t n_served; /* connections that outlive the listener they came by */
	uint32_t n_tickets;
	uint32_t n_let_go;		   /* of these, whose anchor hung up */
	TAILQ_HEAD(, flat_conn) tickets;   /* made ahead for it, not begun: ticket.c */
	LIST_HEAD(, flat_lane_link) lanes; /* whose client it is; last one first */
};

/** Memory joining a client session (NULL: the offload half) and a listener (NULL: the offload half). */
struct flat_lane_link {
	TAILQ_ENTRY(flat_lane_link) link;
	LIST_ENTRY(flat_lane_link) client_link;	  /* of client->lanes */
	LIST_ENTRY(flat_lane_link) listener_link; /* of listener->lanes */
	uint64_t id;
	int fd;
	struct flat_lane lane;
	uint64_t used;	  /* a bit per slot given out */
	uint64_t tainted; /* slots of connections that were cut: never given out again */
	struct flat_session *client;
	struct flat_listener *listener;
	bool client_maps; /* seen: its words were written by the client */
	bool shared;	  /* several processes may map it: it is never sealed against them */
	bool sealed;	  /* FUTURE_WRITE: no process maps it any more */
	bool orphan;	  /* a party is gone: free with the last slot */
	struct flat_rest
	    *rest; /* owned: ends in it that the control thread moves; NULL: there never was one */
};

struct flat_listener {
	TAILQ_ENTRY(flat_listener) link;
	TAILQ_ENTRY(flat_listener) port_link; /* with others of its port; in the order of `link` */
	struct flat_indexed by_inode;	      /* in flat_offload.listener_anchors */
	struct flat_offload *offload;
	struct flat_session *session; /* who registered it; never NULL */
	struct flat_source anchor;    /* our end of the listener anchor */
	struct flat_source tcp;	      /* the kernel's listening socket, passed by the application */
	uint64_t id;
	uint64_t inode;	 /* of the application's end of the anchor */
	uint64_t cookie; /* likewise its SO_COOKIE, which no other socket ever has; 0: unknown */
	struct flat_addr addr;
	uint32_t backlog;
	bool v6only;		  /* of a v6 socket: IPV6_V6ONLY */
	struct flat_netns *netns; /* referenced; NULL: flatd's own */
	bool stray; /* its address was none of this host's (IP_FREEBIND): counts while it is one */
	bool nowhere;	  /* in a namespace of which flatd knows nothing: no address is its own */
	bool handed_over; /* by a predecessor: who accepts there may know no other */
	bool
	    gone; /* its application takes nothing more: nobody is sent there. Its end is yet to be told */
	struct flat_in_server *server; /* of a confined workload, that listens without the library:
					  capture_in.h. NULL: a mesh server */
	uint32_t n_pending;
	TAILQ_HEAD(, flat_conn) pending;
	LIST_HEAD(, flat_conn) conns;	   /* whose `listener` it is, those made ahead too */
	LIST_HEAD(, flat_lane_link) lanes; /* likewise; last one first */
};

/** One side of a connection as the offload half holds it. */
struct flat_end {
	struct flat_source
	    anchor; /* our end of the application's anchor; or the TCP socket. Owns the fd */
	struct flat_conn *conn;
	struct flat_lane_link *lane; /* NULL: TCP */
	uint32_t slot;
	uint64_t inode;	 /* of the application's end of the anchor: what /proc/PID/fd shows */
	uint64_t cookie; /* likewise its SO_COOKIE, which no other socket ever has; 0: unknown */
	struct flat_indexed by_inode; /* in flat_offload.anchors */
	bool gone;		      /* direct: hung up, words completed */
	bool is_tcp;		      /* or a tube */
	struct flat_tube *tube;	      /* to c->bridge; its near side is ours; NULL: none */
};

/* How an endpoint on another host is reached. */
struct flat_wire_way {
	uint16_t port; /* of its flatd's wire, or its HBONE; 0: not over the wire */
	bool hbone;    /* by HBONE, not flat/1 */
	/* Who must answer; NULL: any workload. Of the mesh: good for the turn in which it was decided. */
	const char *namespace;
	const char *account;
};

/** Made ahead perhaps. Half open: its server's end is not there yet. Then open, until both ends are gone. */
struct flat_conn {
	TAILQ_ENTRY(flat_conn) link;
	TAILQ_ENTRY(flat_conn) pending_link;
	TAILQ_ENTRY(flat_conn) half_link;
	LIST_ENTRY(flat_conn) listener_link; /* of listener->conns */
	struct flat_indexed by_id;	     /* in flat_offload.conn_ids, while in `conns` */
	struct flat_offload *offload;
	uint64_t id;
	enum flat_conn_path path;
	struct flat_session *client;	/* NULL: a plain client */
	struct flat_listener *listener; /* NULL: gone, or a server outside the mesh */
	struct flat_session *served_by; /* who closed that listener, of whose n_served it is one */
	uint16_t served_port;		/* where that was */
	struct flat_pipe *pipe;		/* forwarded: moves the bytes; owned */
	struct flat_l7 *l7;		/* forwarded as HTTP: a client's; see l7.h */
	struct flat_l7_upstream
	    *l7_upstream;	      /* of ours, to a server, for an HTTP client's requests */
	struct flat_bridge *bridge;   /* its client or its server is on another host; see peers.h */
	struct flat_wire_way wire;    /* to its server */
	struct flat_cluster *cluster; /* that counts it, not read as HTTP; NULL: none */
	struct flat_cluster_host *host; /* of it */
	char *principal; /* of a client on another host, by its certificate; owned; NULL: no such */
	char *speaker; /* of a mirror's: as whom its copies go to other hosts, where its client may
			  * have gone; a principal, owned; NULL: as its client */
	struct flat_end end[2]; /* by enum flat_side */
	struct flat_addr from;
	struct flat_addr to;	 /* what the client asked for */
	struct flat_addr target; /* where the server listens */
	/* For people; set by flat_conn_text(), never NULL. */
	const char *service; /* its host */
	const char *client_name;
	const char *server_name;
	struct flat_series *series;
	struct flat_conn_measures *measures; /* of Telemetry's labels; NULL: none. Owned */
	uint64_t live[2];      /* direct: bytes as last added up; never less than before */
	bool own;	       /* a health check of ours */
	bool ticket;	       /* was made ahead; its client had its answer then */
	bool shelved;	       /* and has not begun: in flat_session.tickets, by `link` */
	bool half_open, timed; /* timed: in flat_offload.half_open, where its time runs */
	bool pending;	       /* its ACCEPT waits for room in the listener's queue */
	bool reply_due;	       /* the client waits for its answer until then */
	bool early;	       /* it wants it before the server is there */
	bool connecting;       /* and has got it so */
	bool cut;
	bool remind; /* one side closed, the other may not know: in flat_offload.reminders */
	uint32_t reply_seq;
	struct flat_sniff *sniff;   /* found by its first bytes; owned: sniff.h. NULL: not so */
	struct flat_asking *asking; /* authorizers asked about it; owned: asking.h. NULL: none */
	bool told;		    /* the client has its answer: it is open, whatever comes */
	struct flat_origin *origin; /* TLS towards its server; NULL: none. Owned */
	struct flat_gate *gate;	    /* how it came in, by a gateway; NULL: not so. Owned */
	bool gated;	 /* of ours, for requests that came in by a gateway, or copies of them */
	int client_near; /* the client's end of its anchor until it was sent; else -1 */
	int server_near; /* likewise the server's */
	int64_t since_ms;
	uint32_t connect_ms; /* how long its server may take to be there; 0: as long as all */
	struct sockaddr_storage upstream; /* of a server outside the mesh, while connecting */
	struct flat_in_way *way;	  /* to listener->server, let through; owned; NULL: none */
};

/** Why a connection was refused, in kinds that are counted. */
enum flat_refusal_kind {
	FLAT_REFUSED_POLICY,
	FLAT_REFUSED_STRICT,
	FLAT_REFUSED_EGRESS,
	FLAT_REFUSED_NO_PORT,
	FLAT_REFUSED_NO_ENDPOINT,
	FLAT_REFUSED_LIMIT,
	FLAT_REFUSED_UNREACHABLE,
	FLAT_REFUSED_RESOURCES,
	FLAT_REFUSED_KINDS,
};

/** A refused attempt, for `flatctl why`. */
struct flat_refusal {
	int64_t at_ms;
	pid_t pid;
	struct flat_addr to;
	char client_name[96];
	char reason[512];
};

/** A connection that was cut: what FLAT_MSG_WHY answers. */
struct flat_cut {
	uint64_t conn_id;
	int err;
	char reason[168];
};

/** A process whose libflat is of another build, for `flatctl why`. */
struct flat_misfit {
	pid_t pid;
	uint32_t shared; /* FLAT_SHARED; 0: none */
};

#define FLAT_REFUSALS_KEPT 64
#define FLAT_MISFITS_KEPT 64

#define FLAT_CUTS_KEPT 256

/* Lists of listeners by port: of a node's servers few share one. */
#define FLAT_PORTS 256

struct flat_stats {
	uint64_t opened[3]; /* by enum flat_conn_path */
	uint64_t closed;
	uint64_t refused[FLAT_REFUSED_KINDS];
	uint64_t revoked;
	uint64_t sessions;
	uint64_t sessions_ended; /* for breaking a rule */
	uint64_t throttled;
	uint64_t config_errors;
	uint64_t endpoint_changes; /* of services, without a configuration of its own */
};

/** The series of the connection that was counted last: the next one is often of the same. */
struct flat_last_series {
	struct flat_series *series;
	struct flat_series_key key; /* its address is not used */
	struct flat_addr to;
	uint64_t generation;
};

TAILQ_HEAD(flat_sessions, flat_session);
TAILQ_HEAD(flat_listeners, flat_listener);
TAILQ_HEAD(flat_conns, flat_conn);
TAILQ_HEAD(flat_lanes, flat_lane_link);

struct flat_offload {
	struct flat_loop loop;
	struct flat_source control;
	struct flat_source watch_source;
	struct flat_source wake; /* eventfd for signal handlers */
	struct flat_directory_writer *directory;
	struct flat_mesh *mesh;
	struct flat_map clusters; /* of struct flat_cluster, see cluster.h */
	struct flat_reload reloading;
	SLIST_HEAD(, flat_origin_context) origins; /* see origin.h */
	struct flat_watch *watch;
	const char *const *paths;
	size_t n_paths;
	struct flat_workers workers;
	struct flat_rests rests; /* ends that none of it looks at */
	struct flat_pairs pairs;
	const char *metrics_addr; /* "ADDR:PORT"; NULL: none */
	const char *verbs;	  /* RDMA device for links to other hosts; NULL: none */
	const char *wire_addr;	  /* "ADDR:PORT" for other hosts; NULL: none */
	const char *hbone_addr;	  /* likewise by HBONE */
	const char *svids;	  /* folder of this host's identities; NULL: no wire */
	struct flat_peers *peers; /* NULL: no wire */
	const char *
	    gateway_name; /* "NAMESPACE/NAME" of the Workload that it is to others; NULL: no gateway */
	struct flat_gateways *gateways; /* NULL: none */
	uint16_t
	    confine_port; /* where connections of confined workloads, and their DNS, are sent */
	struct flat_captures *captures;	      /* NULL: no workload is confined */
	struct flat_captures_in *captures_in; /* likewise: their servers */
	const char *audit_path;		      /* where refusals are logged; NULL: nowhere */
	struct flat_audit_log *audit;	      /* that file */
	const char *access_log;		      /* where HTTP requests are logged; NULL: nowhere */
	struct flat_metrics *metrics;
	struct flat_health *health; /* active health checks */
	struct flat_l7_node *l7;
	struct flat_askings *askings; /* NULL: none yet; asking.h */
	struct flat_sessions sessions;
	struct flat_sessions ghosts; /* closed, still referred to */
	struct flat_sessions ready;  /* with messages to be read */
	struct flat_listeners listeners;
	struct flat_conns conns;
	struct flat_conns half_open; /* oldest first */
	struct flat_conns reminders; /* likewise */
	struct flat_lanes lanes;
	struct flat_sessions settling;	/* who wait for flat_sessions_settle() */
	struct flat_sessions strangers; /* who have not said HELLO; oldest first */
	struct flat_sessions doomed;	/* who have `doom` set */
	struct flat_listeners
	    ports[FLAT_PORTS];		    /* listeners by port_link, of the ports that have this
						    remainder */
	struct flat_index conn_ids;	    /* of struct flat_conn */
	struct flat_index anchors;	    /* of struct flat_end, by inode */
	struct flat_index listener_anchors; /* of struct flat_listener, by inode */
	struct flat_index processes;	    /* of struct flat_session, by pid */
	struct flat_index ended;	    /* likewise of `ghosts` */
	struct flat_index accounts;	    /* of struct flat_account, by a hash of their keys */
	struct flat_series_table series;
	struct flat_last_series last_series;
	struct flat_measures measures;
	struct flat_stats stats;
	uint64_t lane_bytes;
	uint64_t fds_max; /* RLIMIT_NOFILE; 0: not known, and no bound */
	uint64_t next_id;
	uint64_t turn;	/* of flat_sessions_turn() */
	uint64_t epoch; /* of the configuration */
	/* By what tokens of sessions are made (persist.h), and what that is without a Secret. */
	uint8_t persist_key[FLAT_SIPHASH_KEY_BYTES], own_persist_key[FLAT_SIPHASH_KEY_BYTES];
	uint64_t listening;  /* another number whenever a listener comes or goes */
	uint64_t generation; /* likewise for whatever may decide another way: policies too */
	bool unpublished;    /* the directory lacks a change: there was no memory, or no room */
	int64_t started_s;   /* of the epoch */
	int64_t tick_ms;     /* when timers were last looked at */
	struct flat_refusal refusals[FLAT_REFUSALS_KEPT];
	struct flat_misfit misfits[FLAT_MISFITS_KEPT]; /* the n_misfits last; each process once */
	struct flat_cut cuts[FLAT_CUTS_KEPT];
	uint32_t n_workers; /* wanted; 0: 1 */
	uint32_t n_sessions;
	uint32_t n_listeners;
	uint32_t n_conns;
	uint32_t n_lanes;
	uint32_t n_tickets;
	uint32_t n_refusals;
	uint32_t n_misfits;
	uint32_t n_cuts;
	uint16_t next_port;
	bool twins; /* two listeners had, at some time, one address: they take turns */
	struct flat_handover *handover; /* what a predecessor gave, until all is open; else NULL */
	int32_t makers
	    [FLAT_DIRECTORY_MAKERS]; /* predecessors, whose anchors are here; last one first */
	uint32_t n_makers;
	bool take_over; /* from who serves already */
	bool
	    giving; /* a successor has been told everything: nothing new is decided until it answers */
	bool retired;	    /* a successor serves: what there is goes on until it ends */
	bool leaving;	    /* and nobody can ask for anything any more */
	bool metrics_asked; /* it is an error if that address is taken */
	atomic_bool stop;   /* set by a signal */
	atomic_bool reload; /* likewise */
	atomic_bool reopen; /* likewise: files of logs */
};

/* --- offload.c --- */

/**
 * Opens everything at `control_path` and loads the configuration; n_workers and metrics_addr are set before.
 * 0 or a negative errno, explained in the log.
 */
FLAT_MUST_CHECK int flat_offload_open(struct flat_offload *o, const char *control_path,
				      const char *const *paths, size_t n_paths);
/** After o->stop or o->reload was set by a signal handler: the loop looks. Async-signal-safe. */
void flat_offload_wake(struct flat_offload *o);
/** Serves until o->stop. */
void flat_offload_run(struct flat_offload *o);
void flat_offload_close(struct flat_offload *o);

/* --- session.c --- */

/** Takes a new control connection (owned from here). */
void flat_session_open(struct flat_offload *o, int fd);
/** Ends it, with its half-open connections; others and listeners end with their anchors. `why` is logged. */
void flat_session_close(struct flat_session *s, const char *why);
/** Sends an answer; a session that takes none is ended after this turn. */
void flat_session_reply(struct flat_session *s, const struct flat_msg *reply, const int *fds,
			size_t n);
/** Ends the sessions that broke a rule, and those that never said who they are. */
void flat_sessions_reap(struct flat_offload *o);
/** Its identity under the present configuration. */
void flat_session_identify(struct flat_session *s);
/** Reads on where messages were left, each session in its turn. True: there are more. */
bool flat_sessions_turn(struct flat_offload *o);
/** What it has sent is read in the next of these, though nothing tells of it. */
void flat_session_look(struct flat_session *s);
/** Takes no more messages; what was sent before is done. True: that was all, and no connection came of it. */
bool flat_sessions_leave(struct flat_offload *o);
/** After a turn of the loop: answers those who asked that whatever had ended be let go. */
void flat_sessions_settle(struct flat_offload *o);
/** A connection or listener of its is gone. Frees a closed session with its last one. */
void flat_session_put(struct flat_session *s);
/**
 * The address of a name of the mesh that not everybody sees (flat_directory_find_name()), as the session's client sees it. 0, or
 * -ENOENT: to it there is none.
 */
FLAT_MUST_CHECK int flat_session_resolve(const struct flat_session *s, const char *host,
					 struct flat_addr *addr);
/**
 * The record of a process whose session is another flatd's, or nobody's: closed from the beginning. Takes pidfd, exe and cgroup of
 * `like` over. NULL: no memory, nothing is taken.
 */
struct flat_session *flat_session_ghost(struct flat_offload *o, const struct flat_session *like);
/**
 * Likewise of a confined process that connected: the one that there is, or a new one. pid 0: unknown; `cgroup`: its path in cgroup
 * v2. NULL: no memory. It goes with its last connection; flat_session_put() where none came of it.
 */
struct flat_session *flat_session_captured(struct flat_offload *o, pid_t pid, uid_t uid, gid_t gid,
					   const char *cgroup);
/**
 * One of o->ghosts of which all that is known is as of `like`, `captured` included; the one before `after` of these, the last one
 * where it is NULL. NULL: there is none.
 */
struct flat_session *flat_session_find_ghost(const struct flat_offload *o,
					     const struct flat_session *like,
					     const struct flat_session *after);
/** How long the loop may sleep for the sake of throttled or silent sessions, ms; -1: for ever. */
int flat_sessions_wait_ms(const struct flat_offload *o);
/** The process's entry among o->misfits; NULL: it has none. */
const struct flat_misfit *flat_session_misfit(const struct flat_offload *o, pid_t pid);
/** "workload.namespace (pid 7)" */
const char *flat_session_name(const struct flat_session *s, char buf[96]);

/* --- identify.c --- */

/** IDENTIFY: what belongs to the anchor `fd` (borrowed; -1: none came). Answers on the control socket. */
void flat_identify(struct flat_session *s, const struct flat_msg *msg, int fd);

/* --- listen.c --- */

/** LISTEN: fd is the application's kernel socket (owned from here). Answers on the control socket. */
void flat_listener_open(struct flat_session *s, const struct flat_msg *msg, int tcp_fd);
/**
 * A listener like `like` (session, id, inode, addr, backlog, v6only, server), with our end of its anchor and the kernel's socket,
 * which are taken (-1: it has a `server`). The last one of o->listeners. 0, or a negative errno: nothing is taken.
 */
FLAT_MUST_CHECK int flat_listener_add(struct flat_offload *o, const struct flat_listener *like,
				      int anchor, int tcp);
void flat_listener_close(struct flat_listener *l);
/** Puts it behind the others, and takes it out: where flat_listener_find() looks. */
void flat_listener_enlist(struct flat_offload *o, struct flat_listener *l);
void flat_listener_delist(struct flat_offload *o, struct flat_listener *l);
/** Listeners of a port come by port_link, those of some other ports between them. NULL: no more. */
struct flat_listener *flat_listener_at(const struct flat_offload *o, uint16_t port);
/**
 * The live listener that serves `addr`, or NULL. Changes nothing. asker: whose address it is, which matters for loopback addresses;
 * NULL: flatd's own network namespace, as for endpoints and plain clients.
 */
struct flat_listener *flat_listener_find(const struct flat_offload *o, const struct flat_addr *addr,
					 const struct flat_session *asker);
/** Whether the address, whatever its port, is one of this host, in flatd's own network namespace. */
bool flat_addr_is_here(const struct flat_addr *addr);
/** 0.0.0.0, ::, ::ffff:0.0.0.0. */
bool flat_addr_is_any(const struct flat_addr *addr);
/** 127.0.0.0/8, ::1. */
bool flat_addr_is_loopback(const struct flat_addr *addr);
/** Whether it serves this address, whatever its port, of flatd's own network namespace. */
bool flat_listener_serves(const struct flat_listener *l, const struct flat_addr *addr);
/** Puts a listener that was chosen behind the others: several on one address (SO_REUSEPORT) take turns. */
void flat_listener_rotate(struct flat_listener *l);
/**
 * Hands the server's end of a connection to the listener, now or when its queue has room (then c->pending). 0 or a
 * negative errno.
 */
FLAT_MUST_CHECK int flat_listener_offer(struct flat_listener *l, struct flat_conn *c);

/* --- resolve.c --- */

/** Where a connection to a service goes. */
struct flat_target {
	struct flat_addr addr;
	struct flat_listener *listener; /* NULL: a server outside the mesh */
	struct flat_cluster *cluster; /* that it was picked from; NULL: none. Good for this turn */
	struct flat_cluster_host *host; /* likewise: of it */
	struct flat_wire_way wire;
	const struct flat_tls_origin *origin; /* TLS is begun with it; NULL: not so. Likewise */
	struct flat_span origin_name; /* what it is called, where `origin` does not say. Likewise */
};

struct flat_resolve_how {
	const struct flat_subset *subset;   /* NULL: of all endpoints */
	struct flat_traffic traffic;	    /* how */
	const struct flat_workload *client; /* NULL: none */
	const struct flat_addr *source;	    /* the client's address; NULL: unknown */
	bool hashed;			    /* `hash` is there: of what the rule names */
	uint64_t hash;
	bool dry;		       /* asks only, nobody's turn is used up */
	const struct flat_addr *avoid; /* those that were tried before */
	uint32_t n_avoid;
	bool far;      /* as in struct flat_choice */
	uint64_t kept; /* the tag of the only endpoint that will do (persist.h); 0: any */
};

/** What a cluster has of its endpoints. NULL is allowed. */
void flat_candidates_free(struct flat_candidates *c);

/**
 * Picks an endpoint of the port: of those that the service declares, and mesh listeners
 * that its selector holds for; with a live mesh listener if any has one. 0, or -ECONNREFUSED (there is none), -ENOMEM.
 */
FLAT_MUST_CHECK int flat_resolve(struct flat_offload *o, const struct flat_service *service,
				 const struct flat_service_port *port,
				 const struct flat_resolve_how *how, struct flat_target *target);
/* An endpoint of a port, and how it is reached. */
struct flat_reach {
	struct flat_addr addr;
	bool mesh;  /* a mesh server of this host */
	bool wired; /* by the wire, or HBONE */
	bool tls;   /* flatd begins TLS */
};

/**
 * The endpoints that can be picked now, as clients of the service's own namespace have them; *v is the caller's to free. 0
 * or -ENOMEM.
 */
FLAT_MUST_CHECK int flat_resolve_all(struct flat_offload *o, const struct flat_service *service,
				     const struct flat_service_port *port, struct flat_reach **v,
				     uint32_t *n);
/** Whether each pick of a cluster comes to the same, and no rule bounds or judges it. */
bool flat_resolve_certain(const struct flat_cluster *cluster);
/** Whether a mesh server of the port has policies that speak of HTTP. */
bool flat_resolve_needs_http(const struct flat_offload *o, const struct flat_service *service,
			     const struct flat_service_port *port);
/** The service that a mesh listener serves, by its selector; NULL: none. */
const struct flat_service *flat_service_of(const struct flat_offload *o,
					   const struct flat_listener *l);
/** Drops the state of services that the present configuration has not got. */
void flat_balance_keep(struct flat_offload *o);
void flat_balance_free(struct flat_offload *o);

struct flat_ip flat_addr_ip(const struct flat_addr *a);
struct flat_addr flat_ip_addr(const struct flat_ip *ip, uint16_t port);

/* --- connect.c --- */

/** CONNECT of a session. */
void flat_conn_request(struct flat_session *s, const struct flat_msg *msg);
/** Goes for the server's end; `err`: what there is of memory for it. The connection may be open when it returns, or gone. */
void flat_conn_reach(struct flat_conn *c, int err);
/** A plain client's accepted socket (owned from here). */
void flat_conn_plain(struct flat_listener *l, int fd);
/** A confined process's accepted socket (owned from here). q->session is `s`, of flat_session_captured(). */
void flat_conn_captured(struct flat_session *s, const struct flat_question *q, int fd);
/** A client on another host: `tube`'s near side (owned from here) is its bridge's. Refusing frees the bridge. */
void flat_conn_wire(struct flat_listener *l, const struct flat_question *q, struct flat_bridge *b,
		    struct flat_tube *tube);

/** A client of a gateway's port: `gate` and `fd` are owned from here. principal: the gateway's own. */
void flat_conn_gate(struct flat_offload *o, struct flat_gate *gate, const char *principal, int fd);

/** A connection of ours to a server, for an HTTP client's requests. NULL without memory. c->l7_upstream is the caller's. */
FLAT_MUST_CHECK struct flat_conn *flat_conn_upstream(struct flat_conn *client,
						     const struct flat_target *target, bool h2);
/**
 * Its listener's application takes nothing more, and has not taken this one, which is pending: goes to another one at the address,
 * as with the kernel, or comes to nothing; the connection may be gone. False: its client was told already in which memory it is, and
 * nothing is changed.
 */
bool flat_conn_again(struct flat_conn *c);
/** What the client asks for is known, and was decided on: goes for the server. The connection may be gone with it. */
void flat_conn_onward(struct flat_conn *c);
/** Goes for its server. 0: open, or on its way; a negative errno: it is gone. */
FLAT_MUST_CHECK int flat_conn_upstream_open(struct flat_conn *c);

/* --- conn.c --- */

/** Another server's listener, or none. */
void flat_conn_serve(struct flat_conn *c, struct flat_listener *l);
/** Its listener closes: policies go on to hold for whose server it is. */
void flat_conn_outlive(struct flat_conn *c);
/** The application's end of its anchor is this one. */
void flat_end_name(struct flat_end *e, const struct flat_pair *pair);
/** A half-open connection as decided, counted nowhere but in its session. NULL without memory. */
FLAT_MUST_CHECK struct flat_conn *flat_conn_new(struct flat_offload *o, struct flat_session *s,
						const struct flat_decision *d);
/** The server's end is there: bytes may flow, and the client has its answer. */
void flat_conn_open(struct flat_conn *c);
/** A half-open connection comes to nothing: the client is told err (positive) and why; `c` is gone. */
void flat_conn_fail(struct flat_conn *c, int err, enum flat_refusal_kind kind, const char *reason);
/** Its client, told that it is open, may be silent for as long as it likes: no time runs, until flat_conn_lead(). */
void flat_conn_idle(struct flat_conn *c);
/** Has it looked at while it is half open: its client may go away, and it may not wait for ever. */
void flat_conn_wait(struct flat_conn *c);
/** Whether urgent bytes of a side reach the other as such: FLAT_CONN_URGENT. Once both are known. */
bool flat_conn_carries_urgent(const struct flat_conn *c, enum flat_side from);
/** Tells the client that it is open, while its server is yet to be found. */
void flat_conn_tell(struct flat_conn *c);
/** Where it goes was decided anew: who serves it, and who counts it. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_conn_lead(struct flat_conn *c, const struct flat_decision *d);
/** Without being half open yet, and in no list: for flat_conn_begin(). */
struct flat_conn *flat_conn_make(struct flat_offload *o, struct flat_session *s,
				 const struct flat_decision *d);
/** Takes a copy of `value` as one of its texts: 0, or -ENOMEM, and it stays as it was. */
int flat_conn_text(const char **text, const char *value);
/** Gives the client's end its name: what it is bound to, or the loopback address and a port of its own. */
void flat_conn_name_client(struct flat_conn *c, const struct flat_addr *bound);
/** Connections that the session may have. */
uint32_t flat_conns_max(const struct flat_session *s);
/** Refuses (in `d`) where the session has as many connections as it may. */
void flat_check_limits(const struct flat_session *s, struct flat_decision *d);
/** Takes up a connection that was made ahead: it is half open from now on. */
void flat_conn_begin(struct flat_conn *c, const struct flat_decision *d);
/** Watches an end for its hang-up. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_conn_watch(struct flat_end *e);
/** Fails those that have waited too long. */
void flat_conns_expire(struct flat_offload *o);
/** Rings where one side closed a while ago and the other has not. */
void flat_conns_remind(struct flat_offload *o, int64_t now_ms);
/** Ends a connection on both sides, with the errno (positive) and reason that its applications shall see. */
void flat_conn_cut(struct flat_conn *c, int err, const char *reason);
void flat_conn_destroy(struct flat_conn *c);
/** The bytes that side i sent so far: of a direct connection as its application says, for counters only. */
uint64_t flat_conn_bytes(struct flat_conn *c, int i);
/** The inode of an open descriptor, 0 if it has none. */
uint64_t flat_inode(int fd);
/** A socket's number that no other one has as long as the system runs; 0: the kernel does not tell. */
uint64_t flat_cookie(int fd);
/** The cut connection of this id, or NULL. */
const struct flat_cut *flat_cut_find(const struct flat_offload *o, uint64_t conn_id);
/** Adds up the live bytes of every series. */
void flat_series_live(struct flat_offload *o);

/* --- lane.c --- */

/**
 * A lane between the two parties (NULL: the offload half; not both) with a free slot; made if there is none.
 * 0, -ENOBUFS (the allowance of the party that pays is used up), -ENOMEM, -EMFILE.
 */
FLAT_MUST_CHECK int flat_lane_get(struct flat_offload *o, struct flat_session *s,
				  struct flat_listener *l, struct flat_lane_link **out);
/** The client has unmapped a lane of its own: no further slot is given in it. */
void flat_lane_dropped(struct flat_offload *o, const struct flat_session *s, uint64_t id);
/**
 * Whether the client session is known to have mapped the lane (by what it wrote there). Seals a lane that no other
 * process can need.
 */
bool flat_lane_client_maps(struct flat_lane_link *lane);
/** Further processes may map it, now and later: nobody can seal it against them, and flat_lane_client_maps() does not. */
void flat_lane_share(struct flat_lane_link *lane);
/** Whether no slot of it is free. */
bool flat_lane_full(const struct flat_lane_link *lane);
/** What rests at `mine`, flatd's side of it; made where there is none yet. NULL: no memory. */
struct flat_rest *flat_lane_rest(struct flat_offload *o, struct flat_lane_link *lane,
				 struct flat_lane_side *mine);
/** Takes a free slot of `lane` for `e`; there is one. */
void flat_slot_take(struct flat_end *e, struct flat_lane_link *lane);
/**
 * Gives a slot back; the lane goes with its last one when a party is gone. taint: its applications may hold it
 * still (the connection was cut), so that nobody else may have it.
 */
void flat_slot_give(struct flat_offload *o, struct flat_lane_link *lane, uint32_t slot, bool taint);
/** Marks lanes of a party that is gone; frees those without slots in use. */
void flat_lanes_orphan(struct flat_offload *o, const struct flat_session *s,
		       const struct flat_listener *l);

/* --- port.c --- */

/**
 * Listens at an address, with the socket of o->handover if it has one. dual: an IPv6 one of all addresses takes IPv4 too,
 * whatever the host's default. The descriptor, or what bind() says.
 */
FLAT_MUST_CHECK int flat_port_listen(const struct flat_offload *o, const struct flat_addr *addr,
				     bool dual, int backlog);
/**
 * Listens at "ADDR:PORT" ("[ADDR]:PORT" for IPv6), with the socket of o->handover if it has one. The descriptor,
 * -EINVAL, or what bind() says.
 */
FLAT_MUST_CHECK int flat_port_open(const struct flat_offload *o, const char *text, int backlog);

/* --- metrics.c --- */

/** Serves /metrics and /healthz at "ADDR:PORT". 0 or a negative errno. */
FLAT_MUST_CHECK int flat_metrics_open(struct flat_offload *o, const char *addr);
void flat_metrics_close(struct flat_offload *o);
/** The listening socket (borrowed), -1: there is none. */
int flat_metrics_socket(const struct flat_offload *o);
/** Ends scrapers that are too slow. Returns how long the loop may sleep for their sake, ms; -1: for ever. */
int flat_metrics_expire(struct flat_offload *o);
/** All families of the node in Prometheus's text form. */
void flat_metrics_text(struct flat_offload *o, struct flat_strbuf *out);

/* --- admin.c --- */

/** Listens, under a name of its own. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_admin_open(struct flat_offload *o, const char *control_path);
/** Takes the name that a predecessor had. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_admin_serve(void);
void flat_admin_close(struct flat_offload *o);
/** Gives a successor up that does not answer. How long the loop may sleep for its sake, ms; -1: for ever. */
int flat_admin_expire(struct flat_offload *o);
/** Takes no more questions; the socket's name is a successor's. */
void flat_admin_retire(struct flat_offload *o);

#endif
