/*
 * What the kernel does for servers of confined workloads (eBPF; docs/design/core.md, section 13). Who listens in such a cgroup is
 * written down when it binds and when it listens; connections that come there are brought to flatd's own listening sockets; and what
 * comes to such a socket in another way is dropped, unless flatd said that it is its own.
 *
 * The programs at a cgroup stay when flatd ends, in whatever way. The one that brings connections to flatd is the network namespace's:
 * it stays where a bpffs is mounted to hold it.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_IN_BPF_H
#define FLAT_OFFLOAD_CAPTURE_IN_BPF_H

#include "offload/capture_bpf.h"

/* Confined cgroups one below another, for which one connection is let through. */
#define FLAT_CAPTURE_NESTED 4

/** Of all confined cgroups; 0: not open. */
struct flat_in_gate {
	int ports; /* address and port (struct flat_capture_key) -> how many listen there, uint64_t */
	int passes; /* struct flat_in_way -> struct flat_in_pass: flatd's connections on their way to such a server */
	int doors; /* 0, 1 -> flatd's listening socket for IPv4, IPv6 */
	int news;  /* a ring: something listens, or does not any more */
	int link;  /* the program of the network namespace */
};

/** Of one cgroup. */
struct flat_in_bpf {
	int binds;  /* cookie of a TCP socket that was bound -> struct flat_in_bind */
	int guests; /* cookie of an accepted socket -> struct flat_in_guest */
};

/** A socket that was bound in the cgroup, in flatd's network namespace. */
struct flat_in_bind {
	struct flat_capture_key at;	/* where it listens */
	uint32_t listens;		/* 1: it does */
	struct flat_capture_record who; /* bound it; no address. gid ~0: not known */
};

/** A connection, as the packets of its client have it. IPv4 as ::ffff:a.b.c.d. */
struct flat_in_way {
	uint32_t from[4];
	uint32_t to[4];
	uint16_t from_port; /* network order, like to_port */
	uint16_t to_port;
};

/** The client that a server is told of. */
struct flat_in_guest {
	uint32_t ip[4]; /* as in the record */
	uint32_t port;	/* network order, in the low half */
	uint32_t unused;
};

/** For whom flatd has decided it: ids of the confined cgroups that the server is in, 0: none. */
struct flat_in_pass {
	uint64_t cgroups[FLAT_CAPTURE_NESTED];
	struct flat_in_guest guest;
};

/**
 * Opens what all share: the maps of an earlier flatd's programs at the cgroup `dir` (-1: none) if there are any, else new ones;
 * sockets[0], sockets[1] (-1: none) are flatd's, which listen. 0 or a negative errno, with `why`.
 */
FLAT_MUST_CHECK int flat_in_gate_open(struct flat_in_gate *g, int dir, const int sockets[2],
				      uint16_t port, char *why, size_t size);
/** Closes it: without a bpffs nothing is brought to flatd any more. */
void flat_in_gate_close(struct flat_in_gate *g);
/** Has the namespace's program go with flatd, where it was to stay. */
void flat_in_gate_unpin(uint16_t port);

/** Attaches the programs to the cgroup `dir`, whose id is `id`. 0 or a negative errno, with `why`. */
FLAT_MUST_CHECK int flat_in_bpf_attach(struct flat_in_bpf *b, const struct flat_in_gate *g, int dir,
				       uint64_t id, char *why, size_t size);
/** Takes away what any flatd has attached to the cgroup `dir`. How many programs, or a negative errno. */
FLAT_MUST_CHECK int flat_in_bpf_detach(int dir);
/** Whether a flatd has attached them there. */
bool flat_in_bpf_there(int dir);
void flat_in_bpf_close(struct flat_in_bpf *b);

/** Calls `fn` for each socket that listens. */
void flat_in_bpf_each(const struct flat_in_bpf *b,
		      void (*fn)(void *ctx, const struct flat_in_bind *bind), void *ctx);
/** A socket that listened before the programs were there. */
void flat_in_bpf_add(const struct flat_in_bpf *b, uint64_t cookie, const struct flat_in_bind *bind);
/** Connections to `at` are brought to flatd: where the kernel has not heard of it, or lost it. */
void flat_in_gate_hold(const struct flat_in_gate *g, const struct flat_capture_key *at);
/** Whether those to a port of all IPv6 addresses are too when they come by IPv4. */
void flat_in_gate_dual(const struct flat_in_gate *g, uint16_t port, bool dual);
/** 0 or a negative errno. */
FLAT_MUST_CHECK int flat_in_gate_pass(const struct flat_in_gate *g, const struct flat_in_way *way,
				      const struct flat_in_pass *pass);
/** Whether such a connection is flatd's own, on its way. */
bool flat_in_gate_passes(const struct flat_in_gate *g, const struct flat_in_way *way);
void flat_in_gate_unpass(const struct flat_in_gate *g, const struct flat_in_way *way);

#endif
