/*
 * Other hosts: links (wire/link.h) with sockets, and the bridges between their streams and connections. A stream's end
 * on this host is one side of a tube, whose other side is a connection's like a kernel TCP socket: so pipes and
 * HTTP need not know of the wire. docs/design/wire.md. Control thread.
 */
#ifndef FLAT_OFFLOAD_PEERS_H
#define FLAT_OFFLOAD_PEERS_H

#include "offload/offload.h"
#include "wire/carrier.h"
#include "wire/svid_source.h"
#include "wire/verbs.h"

struct flat_peer;
struct flat_guest;

/* A stream and its connection. Lives until the stream is over, and may outlive the connection for its last bytes. */
struct flat_bridge {
	TAILQ_ENTRY(flat_bridge) link; /* of its peer's */
	TAILQ_ENTRY(flat_bridge) asked_link;
	struct flat_source source; /* what is told of the far side of: */
	struct flat_tube *tube;	   /* NULL: it is asked for, and not begun */
	struct flat_peer *peer;
	struct flat_wire_stream *stream; /* NULL: the link is not ready yet, or it is over */
	struct flat_conn *conn;		 /* NULL: gone */
	struct flat_addr from;
	struct flat_addr to; /* inbound */
	bool inbound;
	bool asked;	   /* in its guest's */
	bool moved;	   /* outbound: its first link was over before anybody answered */
	int64_t orphan_ms; /* since when without connection; 0: has one */
	/* Inbound: who asks. Outbound: who must answer, "NAMESPACE/ACCOUNT", "": anybody of the mesh. */
	char who[FLAT_SPIFFE_ID_MAX];
};

TAILQ_HEAD(flat_bridges, flat_bridge);

/* A link and its socket. */
struct flat_peer {
	TAILQ_ENTRY(flat_peer) link_;
	TAILQ_ENTRY(flat_peer) hot_link;
	TAILQ_ENTRY(flat_peer) stranger_link;
	struct flat_peers *all;
	struct flat_guest *guest; /* whose it is, of those who came and have greeted; else NULL */
	struct flat_source tcp;
	struct flat_wire_link *link; /* NULL: over, its last words are on their way */
	struct flat_wire_link *past; /* it, while streams of it have not ended yet; NULL: none */
	int past_err;		     /* what their applications see */
	char past_why[200];
	uint32_t frames;	     /* flat_wire_link.quota, of a link that has no guest */
	struct flat_carrier carrier; /* of `link` */
	struct flat_verbs *verbs;    /* NULL: none is made */
	struct flat_source verbs_source;
	int64_t verbs_warm_us;	/* when it was busy last */
	int64_t verbs_since_ms; /* when it was gone over to */
	int64_t verbs_retry_ms; /* not offered again before */
	int64_t verbs_wait_ms;	/* the next pause; 0: the first */
	int64_t verbs_asked_ms; /* server: when it was offered last; 0: never */
	char verbs_why[200];	/* why not now */
	bool verbs_live;	/* not stopped */
	bool verbs_armed;
	bool verbs_offered; /* the answer is on its way */
	bool verbs_used;    /* gone over to */
	struct flat_bridges bridges;
	struct flat_addr addr;
	struct sockaddr_storage ss;
	int64_t since_ms;
	int64_t heard_ms;
	int64_t asked_ms;	/* 0: no question is open */
	int64_t quiet_ms;	/* since when without streams */
	struct flat_addr local; /* HBONE: where they came to */
	uint32_t n_bridges;
	bool server;   /* they came to us */
	bool stranger; /* and have not greeted: in flat_peers.strangers */
	bool hbone;    /* HBONE is spoken, not flat/1 */
	bool connected;
	bool hot;
	bool readable;
	bool writable;
	bool ending; /* an end was told of */
	bool ended;  /* the socket is at its end */
};

TAILQ_HEAD(flat_peer_list, flat_peer);
TAILQ_HEAD(flat_guest_list, flat_guest);

struct flat_peers {
	struct flat_offload *offload;
	struct flat_source listening;
	struct flat_source hbone; /* likewise, for peers that speak HBONE */
	struct flat_source watch_source;
	struct flat_watch *watch;      /* of a folder; NULL: there is `from` */
	struct flat_svid_source *from; /* where identities come from; NULL: a folder */
	struct flat_svids *svids;      /* those in force; may be none at first, with a source */
	int64_t lists_end_s;	       /* when a revocation list of those in force ends next */
	int64_t due_s;		       /* when something of those in force is to be told of next */
	const char *folder;	       /* or the source's name */
	struct flat_peer_list list;
	struct flat_peer_list hot;
	struct flat_peer_list strangers; /* oldest first */
	struct flat_guest_list guests;
	struct flat_guest_list asking; /* those that have asked for streams; the next one first */
	int64_t guests_ms;	       /* up to when resets were forgiven */
	struct flat_hold *hold;	       /* of all guests; NULL: there was none yet */
	uint64_t turn;
	uint32_t to_begin; /* streams in this turn */
	uint32_t n;
	uint32_t n_strangers;
	int64_t tick_ms;
	const char *verbs_name;		  /* NULL: no verbs */
	struct flat_verbs_device *device; /* open while a link uses it */
	struct flat_source device_source;
	uint32_t verbs_offers; /* taken since the last tick */
	uint64_t verbs_made;
	uint64_t verbs_lost;
	uint64_t carried[2][2]; /* by links that are gone: by TCP, by verbs: sent, received */
	uint64_t links_made;
	uint64_t links_failed;
	uint64_t rotations;
	struct flat_wire_stats past; /* of links that are gone */
	char last_failure[400];
	uint8_t scratch[256 * 1024];
};

/* --- peers.c --- */

/** Listens at o->wire_addr and o->hbone_addr with the identities of o->svids; nothing where there are none. 0 or a negative errno. */
FLAT_MUST_CHECK int flat_peers_open(struct flat_offload *o);
/** The sockets that other hosts come to (borrowed), by flat/1 and by HBONE, -1: there is none. */
int flat_peers_socket(const struct flat_offload *o);
int flat_peers_hbone_socket(const struct flat_offload *o);
/** Takes no more links; those that there are go on, and their clients are asked for others. */
void flat_peers_retire(struct flat_offload *o);
void flat_peers_close(struct flat_offload *o);
/** Reads the folder's identities again: all, or the ones before stay. Links that they no longer vouch for end. */
void flat_peers_reload(struct flat_offload *o);
/**
 * A link that has just greeted, and may have begun with identities of before: whether those in force vouch for the peer; else it has
 * failed.
 */
FLAT_MUST_CHECK bool flat_peers_vouch(struct flat_peer *p);
/** What was made ready by events. True: there is more. */
bool flat_peers_turn(struct flat_offload *o);
/** What happens by time. How long the loop may sleep, ms; -1: for ever. */
int flat_peers_wait_ms(struct flat_offload *o);

/* --- peer.c --- */

/**
 * The link to `addr` for streams of `svid`; made if there is none with room. expect: whose identity an HBONE server must
 * have; NULL: it is a flatd. NULL: why in errno's negative, *err.
 */
FLAT_MUST_CHECK struct flat_peer *flat_peer_to(struct flat_peers *all, const struct flat_addr *addr,
					       const struct flat_svid *svid, const char *expect,
					       int *err);
/** Whether both are addresses of one host: of IPv6 all of a /64 are. */
bool flat_peer_is_same_host(const struct flat_addr *a, const struct flat_addr *b);
/** A link to `addr` that is open, for whom ever; NULL: there is none. */
const struct flat_peer *flat_peer_find(const struct flat_peers *all, const struct flat_addr *addr);
/** A socket that came (owned from here). */
void flat_peer_accept(struct flat_peers *all, int fd, bool hbone);
/** Has it looked at in this turn. */
void flat_peer_heat(struct flat_peer *p);
/** Its link is: a client's starts what waits for it, a server's has a guest. */
void flat_peer_ready(struct flat_peer *p);
/** One look. */
void flat_peer_turn(struct flat_peer *p);
/** Ends it and all its streams: `err` is what their applications see. Freed when its last words are gone. */
void flat_peer_end(struct flat_peer *p, int err, const char *why);
void flat_peer_free(struct flat_peer *p);
/** By time. False: it is gone. */
bool flat_peer_tick(struct flat_peer *p, int64_t now_ms, int64_t now_s);

/* --- peer_verbs.c --- */

/** Says whether the device can be used. */
void flat_peers_verbs_open(struct flat_peers *all);
/** All links are gone before. */
void flat_peers_verbs_close(struct flat_peers *all);
/** By time: a device that is being removed is let go. */
void flat_peers_verbs_tick(struct flat_peers *all);
/** Client: offers verbs to the peer, if it is time. */
void flat_peer_verbs_offer(struct flat_peer *p);
/** flat_wire_ops.verbs. */
FLAT_MUST_CHECK int flat_peer_verbs_frame(struct flat_wire_link *link, const struct flat_frame *f);
/** Moves bytes between link and ring. *more: has to be looked at again at once. Negative errno: the link is over. */
FLAT_MUST_CHECK int flat_peer_verbs_turn(struct flat_peer *p, bool *more);
/** What the link says goes to the ring. Whether anything went. */
bool flat_peer_verbs_put(struct flat_peer *p);
/** Bytes went by TCP: a ring that was given up, and whose bytes are all sent, is forgotten. Another can be offered. */
void flat_peer_verbs_sent(struct flat_peer *p);
/** Back to TCP. Nothing where verbs are not in use. */
void flat_peer_verbs_lose(struct flat_peer *p, const char *why);
/** The link is over. */
void flat_peer_verbs_end(struct flat_peer *p);
/** "verbs" or "tcp"; the device, or why not verbs. */
const char *flat_peer_path(const struct flat_peer *p);
const char *flat_peer_path_why(const struct flat_peer *p);

/* --- bridge.c --- */

extern const struct flat_wire_ops flat_bridge_ops;

/** Outbound: c's server is behind the wire. 0: on its way; a negative errno with the reason. */
FLAT_MUST_CHECK int flat_bridge_dial(struct flat_conn *c, char *reason, size_t size);
/** The connection is open. */
void flat_bridge_opened(struct flat_bridge *b);
/** It comes to nothing: err positive. */
void flat_bridge_failed(struct flat_bridge *b, int err, const char *reason);
/** It is gone; `hard`: by a reset. */
void flat_bridge_gone(struct flat_bridge *b, bool hard);
/** The link of a bridge that waits for it is ready. */
void flat_bridge_start(struct flat_bridge *b);
/** Inbound, it was asked for: finds its server and answers. It may be gone with that. */
void flat_bridge_begin(struct flat_bridge *b);
/** Its link is over before the stream began. */
void flat_bridge_fail(struct flat_bridge *b, int err, const char *why);

/* --- peers_show.c --- */

void flat_admin_peers(struct flat_offload *o, bool json, struct flat_strbuf *out);
/** Families of the wire in Prometheus's text form; nothing without one. */
void flat_peers_metrics(const struct flat_offload *o, struct flat_strbuf *out);

#endif
