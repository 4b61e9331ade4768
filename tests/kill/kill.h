/*
 * Parties that are killed, or survive a kill and tell what they saw: linked clients and a linked server, an unmodified
 * redis-server under flat-run. Each is a process of its own.
 */
#ifndef TESTS_KILL_KILL_H
#define TESTS_KILL_KILL_H

#include <stdatomic.h>

#include "flatd.h"

#define SERVICE_PORT 7

/** How a client speaks. */
enum party_kind {
	PARTY_ECHO,  /* the linked server echoes */
	PARTY_REDIS, /* ECHO of redis-server */
};

/** What a client tells; in shared memory, one writer, the parent reads. */
struct party {
	_Atomic uint64_t rounds; /* echoes that came back right */
	_Atomic uint64_t conns;	 /* connections made */
	_Atomic uint64_t ends; /* connections that ended under it, by a reset or an end of stream */
	_Atomic int64_t end_at_ms; /* when the last one did */
	_Atomic int64_t conn_at_ms;
	_Atomic int connected;
	_Atomic int by_kernel; /* its connection is: no kill of flatd ends that */
	_Atomic int reconnect; /* parent: give up the connection and make a new one */
	_Atomic int wrong;     /* something that must not be: see why */
	char why[200];
};

/** The echo server on 127.0.0.1:port. Never returns. */
void run_server(uint16_t port) FLAT_NORETURN;

/** A client of the service at `ip`, until it is killed. Never returns. */
void run_client(uint32_t ip, enum party_kind kind, struct party *me, uint64_t seed) FLAT_NORETURN;

#endif
