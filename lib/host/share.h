/*
 * Connections that processes hold which are no relatives by fork: after exec, or by SCM_RIGHTS (docs/design/processes.md).
 * Such a connection is *shared*, in each of them and for good: positions are taken up anew from shared memory for each
 * use, between processes under a POSIX lock on the anchor, which the kernel lets go when its holder dies.
 */
#ifndef FLAT_HOST_SHARE_H
#define FLAT_HOST_SHARE_H

#include "host/host.h"

/**
 * From now on processes may hold it that know nothing of our memory: the anchor `fd` has the options of it that an anchor can have
 * (flat_option_adopt()). Any thread; waits for a use that is on its way.
 */
void flat_share_export(struct flat_sock *s, int fd);

/** Takes note of what other processes did to a shared connection: O_NONBLOCK, shutdown. */
void flat_share_refresh(struct flat_sock *s, int fd);

/** The same but O_NONBLOCK, of the words in memory: no system call. */
void flat_share_note(struct flat_sock *s);

/** flat_ring_moved(), flat_ring_pending(), flat_ring_space() of a connection that may be shared: looks, no more. */
bool flat_share_moved(struct flat_sock *s);
FLAT_MUST_CHECK ssize_t flat_share_pending(struct flat_sock *s);
FLAT_MUST_CHECK ssize_t flat_share_space(struct flat_sock *s);

static inline bool flat_shared(const struct flat_sock *s)
{
	/* relaxed: flat_share_export() takes both locks, so that no use before it lasts beyond it */
	return atomic_load_explicit(&s->exported, memory_order_relaxed) != 0;
}

/** The rest of flat_share_begin() and flat_share_end() for a shared one. */
FLAT_MUST_CHECK int flat_share_begin_shared(struct flat_sock *s, int fd, bool tx);
void flat_share_end_shared(int fd, bool tx);

/** Before and after bytes are sent (tx) or taken. 0, or -EPROTO: positions that cannot be; locked in both cases. */
FLAT_MUST_CHECK static inline int flat_share_begin(struct flat_sock *s, int fd, bool tx)
{
	flat_lock(tx ? &s->tx_lock : &s->rx_lock);
	return flat_likely(!flat_shared(s)) ? 0 : flat_share_begin_shared(s, fd, tx);
}

static inline void flat_share_end(struct flat_sock *s, int fd, bool tx)
{
	if (flat_unlikely(flat_shared(s)))
		flat_share_end_shared(fd, tx);
	flat_unlock(tx ? &s->tx_lock : &s->rx_lock);
}

/**
 * Carriers of this end have sent on what their programs wrote so far, and have back what these did not read. For calls that
 * look or end; flat_share_begin() does it by itself.
 */
void flat_share_settle(struct flat_sock *s);

/*
 * Bytes of the anchor's inode under POSIX locks. Of carriers: each has a number, under whose LIFE it is for as long as it
 * lives, and under whose WORK except while it gives way to who holds WANT; LEND is held by the one whose program has bytes.
 */
enum flat_share_lock {
	FLAT_LOCK_RX = 0,
	FLAT_LOCK_TX = 1,
	FLAT_LOCK_WANT = 2,
	FLAT_LOCK_LEND = 3,
	FLAT_LOCK_WORK = 64,
	FLAT_LOCK_LIFE = 128,
};
#define FLAT_CARRIERS_MAX 64

/** Takes or lets go (F_WRLCK, F_RDLCK, F_UNLCK) `len` of these bytes; `wait`: until they are free. Whether it did. */
bool flat_share_lock(int fd, int at, int len, short type, bool wait);
/** Has all carriers give way, but the caller's own number `self` (-1: it is none). Then WANT and WORK are held. */
void flat_share_want(int fd, int self);
void flat_share_unwant(int fd, int self);

/** This process is a carrier: it asks nobody to give way, and what it has lent is nothing that moved. */
extern struct flat_carrying {
	bool on;
	uint32_t lent; /* bytes */
} flat_carrying;

/* --- adopt.c --- */

/** Makes a descriptor that came by exec or SCM_RIGHTS what it was in the process it came from. 0, or why it is none of ours. */
FLAT_MUST_CHECK int flat_adopt(int fd);

/** Whether the descriptor is half of a pair that the offload half made. May join it. */
bool flat_is_anchor(int fd);

/* --- carry.c --- */

/**
 * For a program that has not got the library: a plain socket of the kernel's over which another process carries the
 * connection behind `anchor`. The descriptor (CLOEXEC), or a negative errno. Makes processes; a child by vfork() may call it.
 * `reads`: the socket is not its standard output or error alone, which programs do not read.
 */
FLAT_MUST_CHECK int flat_carry(struct flat_sock *s, int anchor, bool reads);

/** Before that descriptor is closed since no program came to use it: the connection goes on for those who have it. */
void flat_carry_give_back(int plain);

/* --- carrier.c --- */

/** What a carrier works with. */
struct flat_carrier {
	struct flat_sock *s;
	int anchor;   /* a descriptor of `s` */
	int plain;    /* our side of the pair */
	int program;  /* the program's side; -1: let go, what it is given counts as read */
	int pid;      /* the program */
	int pidfd;    /* -1 with `program` */
	int number;   /* among the end's carriers */
	int told;     /* readable: somebody wants us to give way */
	int edges;    /* readable: the program took something out of its side */
	bool reads;   /* as flat_carry() was told */
	bool lends;   /* holds FLAT_LOCK_LEND */
	bool full;    /* the program's side takes no more */
	bool starved; /* bytes are there that another carrier has lent */
	bool up_over; /* nothing more will be read of the program, and of the connection */
	bool down_over;
	bool idle;	       /* the program took nothing of what it was lent last */
	uint32_t pause_ms;     /* doubles while that stays so */
	int64_t not_before_ns; /* does not lend */
	uint32_t look_ms;      /* until it is looked again whether the program holds its side */
	int64_t look_ns;
	size_t at; /* of the program's bytes that are on their way */
	size_t len;
	uint8_t buf[64 * 1024];
};

/** Takes a number and the locks that go with it; others wait for it from here on. False: there is none. */
FLAT_MUST_CHECK bool flat_carrier_join(struct flat_carrier *c);

/** Until both ways are over, or the program that is served is gone with nothing left that it wrote. */
void flat_carrier_run(struct flat_carrier *c);

#endif
