/*
 * Servers of confined workloads that listen without the library: what comes to them comes to flatd first, which decides as for
 * clients of a mesh server, and connects to them itself. docs/design/core.md, section 13.
 *
 * Each address at which such a server listens is a struct flat_listener with `server` set: it has no anchor, and is connected to.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_IN_H
#define FLAT_OFFLOAD_CAPTURE_IN_H

#include "offload/offload.h"

struct flat_in_cgroup;
struct flat_in_server;

/**
 * Opens o->captures_in: with what an earlier flatd has at the cgroup `dir` (-1: nothing); sockets[0], sockets[1] are flatd's for IPv4
 * and IPv6 (-1: none). 0 or a negative errno, with `why`.
 */
FLAT_MUST_CHECK int flat_captures_in_open(struct flat_offload *o, int dir, const int sockets[2],
					  char *why, size_t size);
/**
 * Confines the servers of the cgroup `dir`, its id, and its path as in /proc/PID/cgroup (borrowed for as long as it is). 0 or a negative
 * errno, with `why`.
 */
FLAT_MUST_CHECK int flat_captures_in_add(struct flat_offload *o, struct flat_in_cgroup **out,
					 int dir, uint64_t id, const char *path, char *why,
					 size_t size);
/** Knows it no more; what is attached stays. NULL is allowed. */
void flat_captures_in_drop(struct flat_offload *o, struct flat_in_cgroup *c);
/** Looks who listens. */
void flat_captures_in_look(struct flat_offload *o);
/** Looks, if there are news that waited long enough. How long until they have, ms; -1: there are none. */
int flat_captures_in_expire(struct flat_offload *o);
/** A connection at flatd's port: takes it and returns true if it is one to a server. */
bool flat_captures_in_came(struct flat_offload *o, int fd);
/** A mesh server listens at this address, with the library: it is no other. */
void flat_captures_in_yield(struct flat_offload *o, const struct flat_addr *addr);
/** A successor looks from now on. */
void flat_captures_in_retire(struct flat_offload *o);
void flat_captures_in_close(struct flat_offload *o);

/** Whether flatd connects to the listener. NULL is allowed: to a server outside the mesh it does. */
static inline bool flat_listener_is_dialled(const struct flat_listener *l)
{
	return !l || l->server;
}
/**
 * Before `fd` is connected to c->target, where c->listener->server listens: binds it, and has the kernel let this one connection
 * through. Until it is open it counts as one that waits for the listener. 0 or a negative errno.
 */
FLAT_MUST_CHECK int flat_captures_in_dial(struct flat_conn *c, int fd);
/** c->way, while the socket is still open: nobody else gets through in its place. */
void flat_captures_in_hung_up(struct flat_conn *c);
/** The listener is gone, and its server with it. */
void flat_captures_in_forget(struct flat_listener *l);

#endif
