/*
 * libibverbs' devices, played by the test: its functions are defined here, in front of the library's, and know the devices that
 * the test makes and no other. Queue pairs write into each other's registered memory, under the rules that a device
 * holds its user to: transitions with their attributes, room in queues, keys, bounds, receives for immediates, objects destroyed
 * before what they refer to. One thread.
 */
#ifndef FLAT_TESTS_SUPPORT_VERBS_H
#define FLAT_TESTS_SUPPORT_VERBS_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#include "base/base.h"
#include "vq/attach.h"

#define VERBS_GIDS 4

struct verbs_fake {
	struct ibv_device device; /* first: libibverbs' users hold it */
	struct ibv_context ctx;
	struct ibv_port_attr port;
	union ibv_gid gids[VERBS_GIDS];
	enum ibv_gid_type gid_types[VERBS_GIDS];
	int events[2]; /* a pipe of enum ibv_event_type */
	uint32_t max_inline;
	unsigned int opened;
	unsigned int objects;	    /* that are not destroyed */
	unsigned int calls;	    /* that make or change objects, since fail_at was set */
	unsigned int fail_at;	    /* the so many-th of them fails with ENOMEM; 0: none */
	unsigned int fail_posts;    /* the next posts are refused */
	unsigned int fail_receives; /* the next postings of receives are refused */
	enum ibv_wc_status
	    next_ends; /* how the next write ends, and its queue pair with it; 0: well */
	unsigned int receives_missing; /* receives that a peer's writes do not find */
	bool held;		       /* writes stay on their way until verbs_fake_deliver() */
	unsigned int writes;	       /* carried out */
	unsigned int inlined;	       /* of them, their bytes taken when they were posted */
};

/** A device on Ethernet, its port active. verbs_fake_removed() ends it. `path`: a file that stands while it is there. */
void verbs_fake_add(struct verbs_fake *d, const char *name, const char *path);
/** What the device still has of its user's is an error of the test. */
void verbs_fake_removed(struct verbs_fake *d);
/** An address in its table. */
void verbs_fake_gid(struct verbs_fake *d, unsigned int index, const char *ip,
		    enum ibv_gid_type type);
/** The device says this. */
void verbs_fake_event(struct verbs_fake *d, enum ibv_event_type type);
/** Carries out what is on its way from `d`. */
void verbs_fake_deliver(struct verbs_fake *d);

#endif
