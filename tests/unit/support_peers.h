/* An offload half that has links alone, and clients on other hosts, played by the test. */
#ifndef FLAT_TESTS_SUPPORT_PEERS_H
#define FLAT_TESTS_SUPPORT_PEERS_H

#include <netinet/in.h>

#include "offload/guest.h"
#include "support_wire_pair.h"

struct peers_client {
	int fd;
	struct flat_wire_link *link;
	bool over;
};

extern struct flat_offload peers_half;
/** Its identities. */
extern struct wire_folder peers_folder;
/** Those of the clients. */
extern struct flat_svids *peers_svids;

/** Where its clients connect to, and what takes them. */
extern int peers_listening;
extern struct sockaddr_in peers_at;

/** For a suite's `init` and `fini`. */
void peers_setup(void);
void peers_teardown(void);

/** Comes from 127.0.0.HOST. The client's socket. */
int peers_come_from(uint32_t host);
/** One turn of the offload half. */
void peers_turn(void);
/** A turn, and what the client has to send and to read. */
void peers_pump(struct peers_client *c);
/** A client under this principal; peers_leave() ends it. */
struct peers_client peers_greet(const char *who, uint32_t host);
void peers_leave(struct peers_client *c);
/** All that it has said, before the server's side looks. */
void peers_say(struct peers_client *c);
/** How many of the sockets have something to read. */
size_t peers_answered(const int *fds, size_t n);
/** Streams that have no server here. What the last of them heard, in `e`. */
void peers_ask_many(struct peers_client *c, size_t n, struct wire_end *e);
/** Takes d/ns/a/sa/client's certificate back, with a list that is in force for so long. */
void peers_revoke_client(int64_t list_lives_s);
/** The other end of its link; NULL: it is over. */
const struct flat_wire_link *peers_server_side(const struct peers_client *c);

#endif
