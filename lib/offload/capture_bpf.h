/*
 * The programs that the kernel runs for a confined workload's sockets (eBPF, attached to its cgroup). connect() goes to
 * flatd's port whatever it asked for; what it asked for, and who, is written down where only flatd reads it.
 *
 * Each cgroup has programs and maps of its own: a workload that fills them has filled its own. They stay attached when
 * flatd ends, in whatever way: nobody listens at the port then, and connect() is refused. A flatd that comes later puts
 * its programs in their place, one for one, and goes on with their maps.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_BPF_H
#define FLAT_OFFLOAD_CAPTURE_BPF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/** What a connect() asked for, and of whom: as the kernel saw it, in the process that called. */
struct flat_capture_record {
	uint32_t ip[4]; /* network order; IPv4 as ::ffff:a.b.c.d */
	uint32_t port;	/* network order, in the low half */
	uint32_t pid;	/* in flatd's pid namespace; 0: none there */
	uint32_t uid;
	uint32_t gid;
	uint64_t cgroup; /* its id: the inode of its directory in the hierarchy of cgroup v2 */
};

/** Where a captured connection comes from, as flatd's socket sees it. */
struct flat_capture_key {
	uint32_t ip[4]; /* as in the record */
	uint32_t port;	/* host order */
};

/** What is attached to one cgroup. */
struct flat_capture_bpf {
	int origins;  /* cookie of a socket -> record, until the socket is no more */
	int arrivals; /* key -> record, until flatd takes it or the connection has failed */
	/* Of name servers, asked by datagrams; what was not used for long makes room (capture_dns.h). */
	int askers;  /* cookie of a socket -> record of what it asked last */
	int sources; /* key -> record of the last datagram from there */
	int servers; /* address of 127.128.0.0/9 -> the IPv4 address that it stands for, both in network order */
	uint32_t
	    mark; /* of each such datagram: the number that the kernel gave one of the maps. Never 0 */
};

/**
 * Attaches the programs to the cgroup `dir`, or puts them in the place of an earlier flatd's. They send connections to
 * 127.0.0.1 and ::1, port `port`. `b` is zeroed before. 0 or a negative errno (-EPERM: no CAP_BPF and CAP_NET_ADMIN;
 * -EINVAL: the kernel refuses the programs): then `why` says what failed. What was attached by then stays: its
 * connections are refused.
 */
FLAT_MUST_CHECK int flat_capture_bpf_attach(struct flat_capture_bpf *b, int dir, uint16_t port,
					    char *why, size_t size);
/** Takes away what any flatd has attached to the cgroup `dir`. How many programs, or a negative errno. */
int flat_capture_bpf_detach(int dir);
/** Closes the maps; what is attached stays. */
void flat_capture_bpf_close(struct flat_capture_bpf *b);
/** Takes the record of a connection that arrived. False: none of this cgroup. */
bool flat_capture_bpf_take(const struct flat_capture_bpf *b, const struct flat_capture_key *key,
			   struct flat_capture_record *record);

/** Port of name servers. */
#define FLAT_DNS_PORT 53

/**
 * Of a datagram to a name server that arrived with b->mark: what was asked for, and by whom. `to`: where it arrived, in
 * network order; 0: at ::1. False: nobody's, or it was forgotten.
 */
bool flat_capture_bpf_asked(const struct flat_capture_bpf *b, const struct flat_capture_key *from,
			    uint32_t to, struct flat_capture_record *record);

#endif
