/*
 * A process that attaches as any client does and then lies: attacks, each in a process of its own, against a flatd, an
 * honest server that serves attacker and neighbours alike, and honest neighbours whose bytes must remain right.
 */
#ifndef TESTS_HOSTILE_HOSTILE_H
#define TESTS_HOSTILE_HOSTILE_H

#include "flatd.h"
#include "vq/attach.h"
#include "vq/vq.h"

/* How long an attacker waits to be thrown out, ms: the rule is 10 ms, the limit is for a busy machine. */
#define OUSTED_MS 20000
/* Addresses of the services. */
#define DIRECT_IP 0xf0090001U
#define FORWARDED_IP 0xf0090002U
#define SERVICE_PORT 7
/* Connections that the configuration allows a process. */
#define CONNECTIONS_MAX 200

/** What an attack knows. */
struct attack_env {
	const char *control; /* path of flatd's control socket */
	pid_t neighbour;     /* an honest client */
	uint64_t seed;
	int sock;  /* session of the connection begun last */
	char *why; /* filled in by an attack that fails; shared, WHY_BYTES */
};
#define WHY_BYTES 200

/** 0: the attack was made and ended as it must. Runs in a process of its own, which ends with it. */
typedef int attack_fn(struct attack_env *env);

struct attack {
	const char *name; /* begins with the rule of security it attacks */
	attack_fn *fn;
	const char *logged; /* text that flatd must have logged; NULL: nothing has to be */
};

extern const struct attack control_attacks[];
extern const struct attack ring_attacks[];
extern const struct attack memory_attacks[];
extern const struct attack ticket_attacks[];

/** Fills env->why. Returns 1. */
int wrong(struct attack_env *env, const char *fmt, ...) FLAT_PRINTF(2, 3);

/* --- raw.c: the control socket and a connection, spoken by hand --- */

/** A connection of the attacker's: the client's end. */
struct raw_conn {
	uint64_t conn_id;
	uint64_t lane_id;
	int anchor;
	int bell; /* direct: the peer's; forwarded: the anchor itself */
	int lane_fd;
	struct flat_lane lane;
	uint32_t slot;
	struct flat_vq vq;
};

/** Connects to the control socket. The fd, or -1. */
int raw_join(const char *control);
/** raw_join() and HELLO. The fd, or -1. */
int raw_hello(const char *control);
/** One request, one answer; descriptors in fds. 0, or a negative errno. */
int raw_ask(int sock, struct flat_msg *msg, const int *send_fds, size_t n_send,
	    int fds[FLAT_MSG_FDS_MAX], size_t *n);
/** CONNECT to ip:SERVICE_PORT. 0: c is filled in; else the status of the answer or a negative errno. */
int raw_connect(int sock, uint32_t ip, struct raw_conn *c);
/** Closes what a connection holds. */
void raw_close(struct raw_conn *c);
/** Sends `len` bytes of a pattern and takes them back from the echo server. 0, or -1. */
int raw_echo(struct raw_conn *c, size_t len);
/** Whether the session ends (end of the control socket) in time; messages until then are thrown away. */
bool raw_session_ends(int sock);
/** Whether the connection ends in time: its anchor hangs up, or its words say so. */
bool raw_conn_ends(struct raw_conn *c);

/* --- neighbour.c --- */

/** What a neighbour tells. Shared memory, one writer. */
struct neighbour {
	_Atomic uint64_t rounds;
	_Atomic uint64_t errors;
	_Atomic int64_t worst_ms; /* longest round */
	char why[WHY_BYTES];
};

/** An honest echo server on 127.0.0.1:port; never returns. */
void serve_honestly(uint16_t port) FLAT_NORETURN;
/** An honest client that goes round for ever; never returns. */
void go_round(uint32_t ip, struct neighbour *me, uint64_t seed) FLAT_NORETURN;

#endif
