/*
 * The control socket's language: how a process joins its offload half, connects, listens and accepts.
 *
 * SOCK_SEQPACKET, one message of exactly sizeof(struct flat_msg) bytes each way, descriptors beside it
 * (security.md, rule 15). The offload half answers each request once, with the same `seq`. The listener
 * anchor carries FLAT_MSG_ACCEPT messages, one per connection, so that the kernel's own queue is the
 * accept queue, whoever inherits it.
 *
 * Descriptors of a message, in this order, each present if its flag is set:
 *   FLAT_FD_ANCHOR     SOCK_STREAM: the application's socket (HELLO: none; LISTEN: the listener anchor, SEQPACKET)
 *   FLAT_FD_BELL       where to ring the peer; absent: ring on the anchor itself (the offload half is the peer)
 *   FLAT_FD_LANE       memfd of the lane; always there in ACCEPT, in CONNECT only when the lane is new
 *   FLAT_FD_DIRECTORY  memfd, read-only: lib/mesh/directory.h. In ACCEPT where a predecessor may be all that its server knows; what
 *                      finds no number is left out then, and the flag is not set
 *   FLAT_FD_TCP        host -> offload in LISTEN: the bound and listening kernel socket
 *   FLAT_FD_TICKETS    in the answer to TICKETS: anchor and bell of each, `n` times
 *
 * TICKETS asks for connections made ahead to one address; USE says that one of them begins, and has no answer
 * (docs/design/core.md, section 3). A ticket is memory and descriptors, and allows nothing: that is decided at USE.
 *
 * IDENTIFY carries an anchor that a process holds without knowing of it (after exec, by SCM_RIGHTS). The answer is as
 * CONNECT's (`conn`, with bell and lane, but no anchor), or for a listener `listen` with FLAT_FD_TCP; -ENOENT: no anchor,
 * -EPERM: no further process can map its lane.
 */
#ifndef FLAT_VQ_ATTACH_H
#define FLAT_VQ_ATTACH_H

#include <netinet/in.h>
#include <stdint.h>

#include "base/base.h"
#include "vq/lane.h"

#define FLAT_MSG_MAGIC 0x466c4174U
/* Tickets of one message: with fewer the asking shows, with more they lie about. */
#define FLAT_MSG_TICKETS_MAX 8U
/* Those of the tickets, and a lane. */
#define FLAT_MSG_FDS_MAX (2 * FLAT_MSG_TICKETS_MAX + 1)
#define FLAT_CONTROL_PATH "/run/flat/control.sock"

enum flat_msg_type {
	FLAT_MSG_HELLO = 1,
	FLAT_MSG_CONNECT = 2,
	FLAT_MSG_LISTEN = 3,
	FLAT_MSG_ACCEPT = 4,
	FLAT_MSG_WHY = 5,
	FLAT_MSG_DROP = 6,
	FLAT_MSG_RING = 7,
	FLAT_MSG_IDENTIFY = 8,
	FLAT_MSG_TICKETS = 9,
	FLAT_MSG_USE = 10,
	FLAT_MSG_RESOLVE = 11,
};

#define FLAT_FD_ANCHOR 1U
#define FLAT_FD_BELL 2U
#define FLAT_FD_LANE 4U
#define FLAT_FD_DIRECTORY 8U
#define FLAT_FD_TCP 16U
#define FLAT_FD_TICKETS 32U

/* flat_msg_connect_reply.path: how the bytes go. */
enum flat_conn_path {
	FLAT_CONN_KERNEL = 0,	 /* not ours: connect with the kernel, to `peer` */
	FLAT_CONN_DIRECT = 1,	 /* the other application's memory */
	FLAT_CONN_FORWARDED = 2, /* through the offload half's private memory */
};

/** An address as both halves write it: v4 in the first four bytes. Network byte order inside. */
struct flat_addr {
	uint16_t family; /* AF_INET, AF_INET6; 0: none */
	uint16_t port;	 /* host byte order */
	uint32_t scope_id;
	uint8_t ip[16];
};

struct flat_msg_hello {
	uint32_t shared; /* flat_shared_version() of who sends it; 0: it tells none */
	uint32_t reserved;
	uint64_t session_id;	/* answer */
	uint64_t directory_len; /* answer: bytes of the directory's memfd */
};

struct flat_msg_connect {
	struct flat_addr to;
	struct flat_addr from; /* family 0: not bound */
	uint32_t flags;	       /* FLAT_CONNECT_* */
	uint32_t reserved;
};

/* flat_msg_connect.flags */
#define FLAT_CONNECT_EARLY 1U /* answer as soon as it is decided: the server may be there later */

/* flat_msg_conn.flags */
#define FLAT_CONN_URGENT 2U	/* forwarded: urgent bytes reach the other end as such */
#define FLAT_CONN_CONNECTING 1U /* answered early: flat_slot.phase and a bell tell how it goes on */

/** Where one end of a connection lives: in a CONNECT answer and in an ACCEPT. */
struct flat_msg_conn {
	uint64_t conn_id;
	uint64_t lane_id;
	struct flat_lane_geometry geo;
	uint32_t slot;
	uint32_t side; /* enum flat_side of the receiver */
	uint32_t path; /* enum flat_conn_path */
	struct flat_addr local;
	struct flat_addr peer;
	char service[64]; /* cut, NUL-terminated; for flatctl and logs */
	uint32_t flags;	  /* FLAT_CONN_* */
	uint32_t reserved;
};

struct flat_msg_listen {
	uint32_t backlog;
	uint32_t flags;	      /* FLAT_LISTEN_* */
	uint64_t listener_id; /* answer; in a request: 0 new, else change its backlog (no fd) */
};

/** One connection made ahead. */
struct flat_msg_ticket {
	uint64_t conn_id;
	uint32_t slot;
	uint16_t port; /* of its client's end; host byte order */
	uint16_t reserved;
};

/** Those of one client, for one address (a direct path), in one lane. The client is side 0. */
struct flat_msg_tickets {
	struct flat_addr local; /* of each, but for the port */
	uint64_t lane_id;
	struct flat_lane_geometry geo;
	uint32_t n; /* 0: none are made for this address now */
	struct flat_msg_ticket v[FLAT_MSG_TICKETS_MAX];
};

/** The client's connect() has taken this ticket. */
struct flat_msg_use {
	uint64_t conn_id;
};

/**
 * Why did this connection end? The answer's status is an errno the application shall see. conn_id 0, no connection: the
 * answer comes when what had ended before the question is let go, listening sockets above all.
 */
struct flat_msg_why {
	uint64_t conn_id;
};

/** The client has unmapped a lane that was made for it: no further connection may come in it. Answer: status 0. */
struct flat_msg_drop {
	uint64_t lane_id;
};

/** Wakes whoever sleeps on either end of a connection of the sender's. Answer: status 0, or -ENOENT. */
struct flat_msg_ring {
	uint64_t conn_id;
};

/**
 * Does the client see this name? Asked for names that not everybody sees. Answer: status 0 and its address, or -ENOENT: to this
 * client it is no name of the mesh.
 */
struct flat_msg_resolve {
	struct flat_addr addr; /* answer; port 0 */
	char host[168];	       /* NUL-terminated; longer ones are not asked for */
};

struct flat_msg {
	uint32_t magic;
	uint16_t version;
	uint16_t type;	/* enum flat_msg_type */
	uint32_t seq;	/* of the request; 0 in ACCEPT */
	int32_t status; /* answer: 0, or a negative errno for the application */
	uint32_t fds;	/* FLAT_FD_*: what comes with it */
	uint32_t reserved;
	char reason[168]; /* answer: one sentence for people, NUL-terminated */
	union {
		struct flat_msg_hello hello;
		struct flat_msg_connect connect;
		struct flat_msg_conn conn;
		struct flat_msg_listen listen;
		struct flat_msg_why why;
		struct flat_msg_drop drop;
		struct flat_msg_ring ring;
		struct flat_msg_tickets tickets;
		struct flat_msg_use use;
		struct flat_msg_resolve resolve;
		uint8_t raw[192];
	} body;
};

_Static_assert(sizeof(struct flat_addr) == 24, "flat_addr");
_Static_assert(sizeof(struct flat_msg_conn) <= 192, "flat_msg_conn fits");
_Static_assert(sizeof(struct flat_msg_tickets) == 176, "flat_msg_tickets");
_Static_assert(sizeof(struct flat_msg_resolve) == 192, "flat_msg_resolve");
_Static_assert(sizeof(struct flat_msg) == 384, "flat_msg");

/** Starts a message: magic, version, type, seq, and what HELLO shares; the rest zero. */
void flat_msg_init(struct flat_msg *msg, enum flat_msg_type type, uint32_t seq);

/**
 * Sends one message with `n` descriptors (borrowed, in the order of msg->fds). flags: MSG_DONTWAIT or 0. Returns
 * 0, or a negative errno (-EAGAIN, -EPIPE, ...).
 */
FLAT_MUST_CHECK int flat_msg_send(int sock, const struct flat_msg *msg, const int *fds, size_t n,
				  int flags);

/**
 * Receives one message. *n becomes the count of descriptors in fds[0..FLAT_MSG_FDS_MAX-1], all CLOEXEC, now the
 * caller's. What breaks the rules (length, magic, version, MSG_CTRUNC, more or fewer descriptors than
 * msg->fds says, a string without end) is -EPROTO, with every descriptor closed. 0: a message; -ENOTCONN: end of
 * the socket; -EAGAIN, -EINTR: as recvmsg; -EMFILE: descriptors are lost, since this process had no numbers for them; *msg is
 * what was sent, unchecked.
 */
FLAT_MUST_CHECK int flat_msg_recv(int sock, struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX],
				  size_t *n, int flags);

/**
 * Whether a HELLO (err 0), or what flat_msg_recv() refused with `err`, is of a half that shares other versions: those, as
 * FLAT_SHARED; 0: it is not, or nobody can tell. Magic and version are at the beginning of a message for good.
 */
uint32_t flat_msg_other_build(const struct flat_msg *msg, int err);

/** Checks the fixed part and the descriptor count of a message received by other means (fuzzing, io_uring). */
FLAT_MUST_CHECK int flat_msg_check(const struct flat_msg *msg, size_t len_bytes, size_t n_fds);

/** Takes the descriptor of `flag` out of fds (in message order); -1 if the message has none. */
int flat_msg_fd(const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], uint32_t flag);

/** Takes anchor and bell of ticket i (< body.tickets.n) of an answer that was received. */
void flat_msg_ticket_fds(const struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX], uint32_t i,
			 int *anchor, int *bell);

/** Closes what was not taken. */
void flat_msg_close_fds(int fds[FLAT_MSG_FDS_MAX], size_t n);

/** To and from the kernel's form. from: 0 or -EAFNOSUPPORT / -EINVAL. to: the length written. */
FLAT_MUST_CHECK int flat_addr_from_sockaddr(struct flat_addr *addr, const struct sockaddr *sa,
					    socklen_t len);
socklen_t flat_addr_to_sockaddr(const struct flat_addr *addr, struct sockaddr_storage *ss);

/** Equal family, address and port. v4-mapped v6 equals v4. */
int flat_addr_equal(const struct flat_addr *a, const struct flat_addr *b);

/** v4-mapped v6 turned into v4; others unchanged. */
void flat_addr_unmap(struct flat_addr *addr);

/** "10.0.0.1:80", "[::1]:80". Returns buf. */
#define FLAT_ADDR_STRLEN 64
const char *flat_addr_str(const struct flat_addr *addr, char buf[FLAT_ADDR_STRLEN]);

#endif
