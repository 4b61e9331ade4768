/*
 * The offload half: who is who (sessions, listeners, connections) and what was decided about them.
 * docs/design/core.md says how they live and die. One thread owns all of it.
 */
#ifndef FLAT_OFFLOAD_OFFLOAD_H
#define FLAT_OFFLOAD_OFFLOAD_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/base.h"
#include "control/config.h"
#include "control/watch.h"
#include "mesh/authz.h"
#include "mesh/balance.h"
#include "mesh/directory.h"
#include "mesh/mesh.h"
#include "mesh/policy.h"
#include "offload/loop.h"
#include "vq/attach.h"
#include "vq/vq.h"

struct flat_offload;
struct flat_session;

/** One process that said HELLO. What the kernel says of it, not what it says. */
struct flat_session {
	TAILQ_ENTRY(flat_session) link;
	struct flat_offload *offload;
	struct flat_source control;
	uint64_t id;
	pid_t pid;
	int pidfd; /* pins the pid; -1 if the kernel has none */
	uid_t uid;
	gid_t gid;
	uid_t exe_owner;
	bool exe_owner_known;
	bool greeted;
	const char *doom; /* why it is to be ended after this turn; NULL: it goes on */
	int64_t joined_ms;
	char *exe;			      /* owned; NULL: unknown */
	char *cgroup;			      /* owned; text of /proc/PID/cgroup */
	const struct flat_workload *workload; /* of the current mesh; NULL: none */
	uint32_t n_conns;
	uint32_t n_listeners;
};

/** Memory joining a client session (NULL: the offload half) and a listener (NULL: the offload half). */
struct flat_lane_link {
	TAILQ_ENTRY(flat_lane_link) link;
	uint64_t id;
	int fd;
	struct flat_lane lane;
	uint64_t used; /* a bit per slot given out */
	struct flat_session *client;
	struct flat_listener *listener;
	bool client_maps; /* seen: its words were written by the client */
	bool sealed;	  /* FUTURE_WRITE: no process maps it any more */
	bool orphan;	  /* a party is gone: free with the last slot */
};

struct flat_listener {
	TAILQ_ENTRY(flat_listener) link;
	struct flat_offload *offload;
	struct flat_session *session;
	struct flat_source anchor; /* our end of the listener anchor */
	struct flat_source tcp;	   /* the kernel's listening socket, passed by the application */
	uint64_t id;
	struct flat_addr addr;
	uint32_t backlog;
	bool v6only; /* of a v6 socket: IPV6_V6ONLY */
	uint32_t n_pending;
	TAILQ_HEAD(, flat_conn) pending;
};

/** One side of a connection as the offload half holds it. */
struct flat_end {
	struct flat_source anchor; /* our end of the application's anchor; or the TCP socket */
	struct flat_conn *conn;
	struct flat_lane_link *lane; /* NULL: TCP */
	uint32_t slot;
	uint64_t inode; /* of the application's end of the anchor: what /proc/PID/fd shows */
	bool gone;	/* hung up, words completed */
	bool is_tcp;
	/* forwarded only: we are the application's peer */
	struct flat_vq vq;
	uint8_t *buf; /* private bytes read from this end, not yet given to the other */
	uint32_t at;
	uint32_t len;
	bool eof;	/* the application's FIN was read */
	bool reset;	/* its RST */
	bool fin_sent;	/* we told it FIN */
	uint64_t bytes; /* read from it */
};

struct flat_conn {
	TAILQ_ENTRY(flat_conn) link;
	TAILQ_ENTRY(flat_conn) pending_link;
	TAILQ_ENTRY(flat_conn) hot_link;
	struct flat_offload *offload;
	uint64_t id;
	enum flat_conn_path path;
	struct flat_session *client;	/* NULL: plain, or gone */
	struct flat_listener *listener; /* NULL: gone, or TCP server */
	struct flat_end end[2];		/* by enum flat_side */
	struct flat_addr from;
	struct flat_addr to;	 /* what the client asked for */
	struct flat_addr target; /* where the server listens */
	char service[64];
	char client_name[96];
	char server_name[96];
	struct flat_total *total;
	bool pending;	/* its ACCEPT waits for room in the listener's queue */
	bool reply_due; /* the client waits for its answer until then */
	uint32_t reply_seq;
	bool hot;
	int client_near; /* the client's end of its anchor until it was sent; else -1 */
	int64_t last_us; /* hot: when it last moved bytes */
	int cut_errno;	 /* after a cut: what FLAT_MSG_WHY answers */
	char cut_reason[512];
};

/** A refused or ended attempt, for `flatctl why` and the metrics. */
struct flat_refusal {
	int64_t at_ms;
	pid_t pid;
	struct flat_addr to;
	char client_name[96];
	char reason[512];
};

#define FLAT_REFUSALS_KEPT 64

/** Connections of one service (or address) over one path since the start. */
struct flat_total {
	char name[64];
	enum flat_conn_path path;
	uint64_t opened;
	uint64_t bytes[2]; /* of closed connections, by the side that sent them */
};

/* Rows of `flatctl top`; what comes later is not told apart from the last one. */
#define FLAT_TOTALS_MAX 1024

struct flat_stats {
	uint64_t opened[3]; /* by enum flat_conn_path */
	uint64_t closed;
	uint64_t refused;
	uint64_t revoked;
	uint64_t bytes_forwarded;
	uint64_t config_errors;
};

TAILQ_HEAD(flat_sessions, flat_session);
TAILQ_HEAD(flat_listeners, flat_listener);
TAILQ_HEAD(flat_conns, flat_conn);
TAILQ_HEAD(flat_lanes, flat_lane_link);

struct flat_offload {
	struct flat_loop loop;
	struct flat_source control;
	struct flat_source watch_source;
	struct flat_directory_writer *directory;
	struct flat_mesh *mesh;
	struct flat_balance_state *balance; /* per service and port, see admit.c */
	uint32_t n_balance;
	struct flat_watch *watch;
	const char *const *paths;
	size_t n_paths;
	struct flat_sessions sessions;
	struct flat_listeners listeners;
	struct flat_conns conns;
	struct flat_conns hot;
	struct flat_lanes lanes;
	uint32_t n_lanes;
	uint64_t lane_bytes;
	uint64_t next_id;
	uint16_t next_port;
	uint64_t epoch; /* of the configuration */
	struct flat_stats stats;
	struct flat_refusal refusals[FLAT_REFUSALS_KEPT];
	uint32_t n_refusals;
	struct flat_total totals[FLAT_TOTALS_MAX];
	uint32_t n_totals;
	bool doomed; /* some session has `doom` set */
	bool stop;   /* set by a signal */
	bool reload; /* likewise */
};

/* --- offload.c --- */

/** Opens everything at `control_path` and loads the configuration. 0 or a negative errno, explained in the log. */
FLAT_MUST_CHECK int flat_offload_open(struct flat_offload *o, const char *control_path,
				      const char *const *paths, size_t n_paths);
/** Serves until o->stop. */
void flat_offload_run(struct flat_offload *o);
void flat_offload_close(struct flat_offload *o);
/** Loads the configuration again: whole, or the old one stays. Cuts what is no longer allowed. */
void flat_offload_reload(struct flat_offload *o);
/** Publishes services and listeners to the applications. */
void flat_offload_publish(struct flat_offload *o);
int64_t flat_now_us(void);

/* --- session.c --- */

/** Takes a new control connection (owned from here). */
void flat_session_open(struct flat_offload *o, int fd);
/** Ends it, with its listeners; connections end with their anchors. `why` is logged. */
void flat_session_close(struct flat_session *s, const char *why);
/** Sends an answer; a session that takes none is ended after this turn. */
void flat_session_reply(struct flat_session *s, const struct flat_msg *reply, const int *fds,
			size_t n);
/** Ends the sessions that broke a rule, and those that never said who they are. */
void flat_sessions_reap(struct flat_offload *o);
/** Its identity under the present configuration. */
void flat_session_identify(struct flat_session *s);
/** "workload.namespace (pid 7)" */
const char *flat_session_name(const struct flat_session *s, char buf[96]);

/* --- listen.c --- */

/** LISTEN: fd is the application's kernel socket (owned from here). Answers on the control socket. */
void flat_listener_open(struct flat_session *s, const struct flat_msg *msg, int tcp_fd);
void flat_listener_close(struct flat_listener *l);
/** The live listener that serves `addr`, or NULL; round robin among several. */
struct flat_listener *flat_listener_find(struct flat_offload *o, const struct flat_addr *addr);
/** Hands the server's end of a connection to the listener, now or when its queue has room. */
int flat_listener_offer(struct flat_listener *l, struct flat_conn *c);

/* --- admit.c --- */

/** What was decided about a connection attempt. */
struct flat_decision {
	int status; /* 0: allowed; negative errno: refused */
	enum flat_conn_path path;
	struct flat_listener *listener; /* NULL: a server outside the mesh */
	struct flat_addr target;
	const struct flat_service *service;
	char reason[512];
};

/** Resolves and authorizes. session NULL: a plain client from `from`. `pinned`: no balancing, this listener. */
void flat_admit(struct flat_offload *o, const struct flat_session *s, const struct flat_addr *from,
		const struct flat_addr *to, struct flat_listener *pinned, struct flat_decision *d);
/** Whether a live connection is still allowed. */
bool flat_still_allowed(struct flat_offload *o, const struct flat_conn *c, char *reason,
			size_t size);
/** Remembers a refusal for `flatctl why` and logs it. */
void flat_refuse(struct flat_offload *o, pid_t pid, const char *who, const struct flat_addr *to,
		 const char *reason);

/* --- conn.c --- */

/** CONNECT of a session. */
void flat_conn_request(struct flat_session *s, const struct flat_msg *msg);
/** A plain client's accepted socket (owned from here). */
void flat_conn_plain(struct flat_listener *l, int fd);
/** Cuts a connection on both sides, with the errno and reason that its applications shall see. */
void flat_conn_cut(struct flat_conn *c, int err, const char *reason);
/** The server's end was handed over: the client may have its answer. */
void flat_conn_answer(struct flat_conn *c);
void flat_conn_destroy(struct flat_conn *c);
/** The inode of an open descriptor, 0 if it has none. */
uint64_t flat_inode(int fd);
struct flat_conn *flat_conn_find(struct flat_offload *o, uint64_t id);
/** Poll events on either end. */
void flat_conn_event(struct flat_source *source, int events);

/* --- lane.c --- */

/**
 * A lane between the two parties (NULL: the offload half; not both) with a free slot; made if there is none.
 * 0, -ENOBUFS (the allowance of the party that pays is used up), -ENOMEM, -EMFILE.
 */
FLAT_MUST_CHECK int flat_lane_get(struct flat_offload *o, struct flat_session *s,
				  struct flat_listener *l, struct flat_lane_link **out);
/**
 * Whether the client session is known to have mapped the lane (by what it wrote there). Seals a lane that no other
 * process can need.
 */
bool flat_lane_client_maps(struct flat_lane_link *lane);
/** Takes a free slot of `lane` for `e`; there is one. */
void flat_slot_take(struct flat_end *e, struct flat_lane_link *lane);
/** Gives a slot back; the lane goes with its last one when a party is gone. */
void flat_slot_give(struct flat_offload *o, struct flat_lane_link *lane, uint32_t slot);
/** Marks lanes of a party that is gone; frees those without slots in use. */
void flat_lanes_orphan(struct flat_offload *o, const struct flat_session *s,
		       const struct flat_listener *l);

/* --- forward.c --- */

/** Binds our side of both ends and their buffers. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_forward_init(struct flat_conn *c);
/** Moves what can be moved; true if anything was. */
bool flat_forward_pump(struct flat_conn *c);
/** Puts a forwarded connection among those looked at without sleeping. */
void flat_forward_heat(struct flat_conn *c);
/** One look at all hot connections; cools those that are idle. True while any is hot. */
bool flat_forward_turn(struct flat_offload *o);

/* --- admin.c --- */

FLAT_MUST_CHECK int flat_admin_open(struct flat_offload *o, const char *control_path);
void flat_admin_close(struct flat_offload *o);

#endif
