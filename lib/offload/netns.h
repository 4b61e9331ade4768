/*
 * Network namespaces: in which one a socket is, whose that is, and which addresses are its own. Asked of the kernel by the socket,
 * never by the process that holds it. docs/design/core.md, section 3. Control thread.
 */
#ifndef FLAT_OFFLOAD_NETNS_H
#define FLAT_OFFLOAD_NETNS_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/base.h"
#include "vq/attach.h"

/* How long the kernel's answers are good: addresses come and go by hand. */
#define FLAT_NETNS_GOOD_US 1000000

struct flat_netns_answer;

/**
 * Another one than flatd's, which a listener or a process is in. It is kept by a descriptor as long as it is referenced: so its
 * number, which the kernel gives out again, is no other one's meanwhile, and two are one if they are the same struct.
 */
struct flat_netns {
	LIST_ENTRY(flat_netns) link;
	uint64_t id; /* the inode of /proc/PID/ns/net */
	int fd;
	uint32_t refs;
	bool looked; /* the following is known: a listener is in it */
	int routes;  /* a netlink socket in it; negative: flatd may not enter it */
	bool ours;   /* an administrator of this host made it, or flatd's own user */
	struct flat_netns_answer *known; /* owned; NULL: nothing was asked yet */
};

/**
 * The namespace of a socket: *ns NULL where it is flatd's own; else referenced. 0, or a negative errno: -EPERM where flatd may not
 * look (it is not root).
 */
FLAT_MUST_CHECK int flat_netns_of_socket(int fd, struct flat_netns **ns);
struct flat_netns *flat_netns_get(struct flat_netns *ns);
/** NULL is nothing. */
void flat_netns_put(struct flat_netns *ns);

/**
 * That of a process, referenced; NULL: flatd's own. The caller knows that `pid` is that process still. Where flatd may not look (it is
 * not root, and the process another user's) it is that in which the other end of `peer` was made, a connected UNIX socket of
 * flatd's: flatd's own, or one that is no other's.
 */
struct flat_netns *flat_netns_of_process(pid_t pid, int peer);

/**
 * Whether packets to this address are taken in there, by its routing table; NULL: flatd's own. Ports do not matter. sock: a TCP
 * socket in it, whose interfaces are looked at (IPv4) where flatd may not enter; -1: none. An answer of the kernel's is good for
 * FLAT_NETNS_GOOD_US.
 */
bool flat_netns_has(struct flat_netns *ns, int sock, const struct flat_addr *addr);

/** How many questions flat_netns_has() has asked of the kernel so far. */
uint64_t flat_netns_asked(void);

/** The cookie of flatd's own network namespace. 0, or a negative errno: the kernel does not tell. */
FLAT_MUST_CHECK int flat_netns_own(uint64_t *cookie);

#endif
