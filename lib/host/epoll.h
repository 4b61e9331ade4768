/*
 * epoll with flat members (docs/design/core.md, section 5).
 *
 * The program's instance E keeps its kernel members. The anchors of its flat members are in a private shadow
 * instance S, edge-triggered, and S is a member of E under a cookie, so that E is readable in the kernel when a bell
 * rings. A flat member is active (looked at by each wait) or at rest: armed, and found again by its ready
 * bit, or by its bell where others wait for the same socket.
 */
#ifndef FLAT_HOST_EPOLL_H
#define FLAT_HOST_EPOLL_H

#include <sys/queue.h>

#include "host/bell.h"

/** Data of S in E: no pointer and no small number that a program would use. */
#define FLAT_EPOLL_COOKIE 0xf1a7e9011c00c1e5ULL
/** Data of an instance inside E, in its high half; the low half is the member's index. */
#define FLAT_EPOLL_INNER 0xf1a7e90200000000ULL
#define FLAT_EPOLL_INNER_MASK 0xffffffff00000000ULL
/** As the kernel's limit of instances inside each other. */
#define FLAT_EPOLL_NESTS_MAX 5

struct flat_epoll;

/** A lane side in which an instance has members. Kept until its instance ends, for another lane if need be. */
struct flat_ep_lane {
	struct flat_lane_side *mine; /* shared memory: ready bits, sleepers; NULL: no members */
	uint64_t mask;		     /* slots of this instance's members */
	bool up;		     /* counted among its sleepers */
	uint32_t nap;		     /* this instance's there (vq.h); 0: none */
	struct flat_member *by_slot[FLAT_LANE_SLOTS_MAX];
};

/** A descriptor in an instance. Belongs to it, under its lock. */
struct flat_member {
	struct flat_epoll *ep;
	struct flat_sock *sock;	   /* NULL: the kernel's (candidate, listener), or `inner` */
	struct flat_epoll *inner;  /* an epoll instance */
	struct flat_ep_lane *lane; /* where its ready bit is taken; NULL: woken by its bell alone */
	struct flat_member
	    *next; /* of the same descriptor number, in other instances; of free ones */
	TAILQ_ENTRY(flat_member) link;
	uint64_t data;
	uint64_t id;	    /* index in the instance, generation above: data of the anchor in S */
	int fd;		    /* -1: this number was closed, others of its socket were not */
	uint32_t events;    /* as asked for; EPOLLONESHOT spent: 0 */
	uint32_t last_tail; /* edges: what was reported */
	uint32_t last_flags;
	uint32_t idle; /* looks in a row that found nothing */
	bool fresh;    /* report whatever is there */
	bool gone; /* EPOLL_CTL_DEL: its anchor stays in S until it closes, as it may come back */
	bool active;
	bool counted;	/* among its socket's waiters, by this process */
	uint32_t taken; /* the ready bits, by flat_epoll.takes, that made it active */
	uint64_t woken; /* since when its bit was up */
	uint32_t told;	/* `inner`: the wait, by flat_epoll.waits, that reported it last */
};

TAILQ_HEAD(flat_member_list, flat_member);

struct flat_epoll {
	_Atomic uint64_t lock;
	int epfd;    /* one of its descriptor numbers */
	int shadow;  /* S; -1: no flat member yet */
	int kick_fd; /* eventfd in S: wakes sleepers for a member that another thread added; -1 */
	_Atomic uint32_t asleep; /* threads, see flat_epoll_begin_sleep(); changed under the lock */
	const void *sleeper;	 /* asleep: which thread */
	uint32_t sleeps;	 /* begun, free-running: numbers of naps */
	bool crowd;	/* a thread looked while another slept: naps tell of nobody in particular */
	bool inherited; /* by fork: its kernel's instances are the parent's as well */
	bool nests;	/* had an instance inside at some time */
	uint32_t refs;	/* descriptor numbers */
	uint32_t n;	/* members ever, all in v */
	uint32_t cap;
	uint32_t n_lanes;
	uint32_t cap_lanes;
	uint32_t n_active;
	uint32_t looks;
	bool kernel_first; /* the last wait was full before they were asked, or a listener waits */
	bool kernel_had;   /* they had something when they were asked last */
	uint32_t takes;	   /* of ready bits, free-running */
	uint32_t waits;	   /* looks at members and the kernel together, see flat_member.told */
	struct flat_member **v;
	struct flat_member *free;
	struct flat_ep_lane **lanes;
	struct flat_member_list active;
	struct flat_epoll *next; /* all instances of the process */
};

/** The instance behind a descriptor, if it has members that concern us; else NULL. */
struct flat_epoll *flat_epoll_find(int epfd);

/** The same, made if need be, for a descriptor that is an epoll instance. NULL: no memory. Allocates. */
struct flat_epoll *flat_epoll_make(int epfd);

/**
 * How many threads sleep on an instance as on one of the kernel's alone: it had no member that concerns us by then. They are not
 * among its sleepers, and are woken for its first ones. Raised and lowered around the sleep.
 */
_Atomic uint32_t *flat_epoll_plain(int epfd);

/** Under the lock: a member with a socket is among its waiters from here on: others leave the last bell there. */
void flat_epoll_count(struct flat_member *m);

/** Under the lock: a member will be looked at by the next wait. */
void flat_epoll_activate(struct flat_member *m);
void flat_epoll_deactivate(struct flat_member *m);

/** Something to report, without reporting it. Takes the lock. */
bool flat_epoll_look(struct flat_epoll *e, int depth);
/** Takes the bells of a kernel instance that its members' looks will find. Whether it is readable for another reason. */
bool flat_epoll_kernel_ready(struct flat_epoll *e);
/** Arms every member that has nothing to report. False: one has, do not sleep. Takes the lock. */
bool flat_epoll_settle(struct flat_epoll *e, int depth);

/** Under the lock: threads asleep on the instance look again; they have not armed what is new. */
void flat_epoll_kick(struct flat_epoll *e);
/**
 * Under the lock: this thread took bells, or an anchor, that another one may be asleep on. From then on each slot rings for
 * itself in this instance.
 */
void flat_epoll_beside(struct flat_epoll *e);

/**
 * This thread goes away from the instance, with what it was told or without, and looks no more. Others that sleep on it, or
 * on one inside, are woken for what is left for them, as the kernel does; the rest is armed again. Takes the lock.
 */
void flat_epoll_leave(struct flat_epoll *e, int depth);

/** Not counted among the sleepers of the lane any more. */
void flat_epoll_lane_lower(struct flat_ep_lane *l);

/** The instances that a sleeper told peers about: its own, and those inside. */
struct flat_ep_raised {
	struct flat_epoll *v[16];
	uint32_t n;
};

/**
 * Before a sleep in the kernel on the instance; adds to `raised`. False: something is ready, do not sleep, and nothing
 * is raised any more.
 */
bool flat_epoll_begin_sleep(struct flat_epoll *e, struct flat_ep_raised *raised);
/** Afterwards: lowers what was raised. */
void flat_epoll_end_sleep(struct flat_ep_raised *raised);

/** In a forked child: nobody sleeps, no lock is held. */
void flat_epoll_forked(void);

#endif
