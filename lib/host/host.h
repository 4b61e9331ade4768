/*
 * The host half's own objects: descriptors, sockets, the session with the offload half.
 * docs/design/core.md, section 6, says what is shared with forked processes and what is not.
 */
#ifndef FLAT_HOST_HOST_H
#define FLAT_HOST_HOST_H

#include <fcntl.h>
#include <stdbool.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "base/base.h"
#include "base/sys.h"
#include "host/holders.h"
#include "host/option.h"
#include "mesh/directory.h"
#include "vq/attach.h"
#include "vq/vq.h"

struct flat_lane_use;
struct flat_ticket;

/** Sockets of one process and its forked children: more than a process's descriptors usually are. */
#define FLAT_SOCKS_MAX 65536U

/** Whether a stream of small pieces is taken several at a time: flat_gather(). Nothing hangs on it but time. */
struct flat_gather {
	_Atomic uint16_t run;  /* small receives, one after the other, without a send of ours */
	_Atomic uint8_t after; /* FLAT_GATHER_RUN of them, doubled so often, before it is tried */
};

/* connect() was answered EINPROGRESS and not asked again; it ended, and was shut down then: AF_UNSPEC alone begins anew. */
#define FLAT_CONNECT_TO_TELL 1
#define FLAT_CONNECT_GIVEN_UP 2

/* Shut for writing, with a FIN; before connect(), which sends none: a later shutdown() or the end does. */
#define FLAT_WR_FIN 1
#define FLAT_WR_MUTE 2

/** A connection or a listener. In memory shared with forked processes. */
struct flat_sock {
	_Atomic uint32_t turn; /* of this place, free-running; odd: it is in use */
	uint32_t next_free;
	uint8_t kind; /* enum flat_fd_kind: STREAM or LISTENER */
	uint8_t side; /* STREAM: enum flat_side */
	_Atomic uint8_t rd_shut;
	_Atomic uint8_t wr_shut;    /* FLAT_WR_*; 0: it may send */
	uint16_t shut_early;	    /* LISTENER: FLAT_MARK_SHUT_*, of what it accepts */
	_Atomic uint8_t dead;	    /* the anchor hung up, or the offload half is gone */
	_Atomic uint8_t voided;	    /* and nobody said how it ended: what is unread stays so */
	_Atomic uint8_t exported;   /* held by processes that are no relatives: share.h */
	_Atomic uint8_t lost;	    /* sent to a peer that had closed: its reset came back */
	_Atomic uint8_t nonblock;   /* O_NONBLOCK of the file description */
	_Atomic uint8_t watched;    /* LISTENER: an instance or poll() told of it, or may */
	_Atomic uint8_t async;	    /* its O_ASYNC: the kernel signals each bell on the anchor */
	_Atomic uint8_t tx_blocked; /* a send found no room; cleared when EPOLLOUT is reported */
	uint8_t nodelay;
	uint8_t inq; /* TCP_INQ: recvmsg() tells what is left */
	uint8_t keepalive;
	uint8_t zerocopy;	  /* SO_ZEROCOPY */
	_Atomic uint32_t zc_sent; /* sends with MSG_ZEROCOPY, free-running: all complete */
	_Atomic uint32_t zc_told; /* of these, told by the error queue */
	_Atomic int error;	  /* SO_ERROR */
	_Atomic int rst_told;	  /* ECONNRESET was reported once */
	_Atomic uint64_t rx_lock; /* flat_lock() */
	_Atomic uint64_t tx_lock;
	_Atomic uint64_t bell_lock;  /* of waiters, and of taking bells off the anchor: bell.h */
	_Atomic uint32_t waiters;    /* threads asleep or about to be, and epoll memberships */
	_Atomic uint8_t bell_left;   /* armed by a call that found nothing: flat_bell_left() */
	_Atomic uint64_t seen_reign; /* the word of its reign as it was looked at */
	uint32_t reign;		     /* whose connection it is: flat_session_reign() */
	int rcvlowat;		     /* SO_RCVLOWAT; 0: 1 */
	_Atomic uint8_t connecting;  /* FLAT_CONNECT_* */
	_Atomic uint8_t pending; /* its server is not there yet, as far as was looked: opening.c */
	_Atomic uint8_t failed;	 /* and never came: connect() may begin anew */
	struct flat_options options;
	struct linger linger;
	struct timeval sndtimeo;
	struct flat_vq vq;
	struct flat_lane_use
	    *lane; /* of this process, and those forked from it that hold the socket */
	uint64_t conn_id;
	uint32_t lane_bytes;
	struct flat_gather gather;
	uint32_t reserved; /* bytes reserved by flat_send_reserve() */
	uint32_t viewed;   /* bytes shown by flat_recv_view() */
	bool sealed;	   /* no other process can map its lane */
	bool direct;	   /* its bell is at its peer's anchor, not at its own */
	bool urgent;	   /* urgent bytes reach its peer as such */
	bool for_spawn;	   /* posix_spawn()'s file actions named it */
	int bell_fd;	   /* private fd; -1: ring on the anchor */
	/* Private duplicate of the kernel's socket: a LISTENER's; a STREAM's that was bound to a port, which so stays taken. */
	int tcp_fd;
	int backlog;
	struct flat_addr local;
	struct flat_addr peer;
	int domain;
};

/* --- fdtable.c --- */

/** The socket behind a descriptor, or NULL. */
struct flat_sock *flat_fd_sock(int fd);
/** Its number among the sockets of this process and its relatives, below FLAT_SOCKS_MAX. */
uint32_t flat_sock_index(const struct flat_sock *s);
/** Whether other processes hold descriptors of it too; some of them may have ended. */
bool flat_sock_shared(const struct flat_sock *s);
/** A new socket object with one reference, or NULL when all are in use, by processes that live. */
struct flat_sock *flat_sock_new(enum flat_fd_kind kind);
/**
 * A call of this process sleeps on it: it does not end before the call does, though its descriptors be closed. False: it has
 * ended already, closed by another thread.
 */
FLAT_MUST_CHECK bool flat_sock_hold(struct flat_sock *s);
void flat_sock_release(struct flat_sock *s);
/** The end of a connection that this process holds (it may hold both), with one reference more; NULL: none. */
struct flat_sock *flat_sock_find(uint64_t conn_id, enum flat_side side);
/** One past the highest descriptor number that has been ours. */
int flat_fd_top(void);
/**
 * Whether the caller is not the process that the tables speak of: a child by vfork() or clone(), which may have our memory
 * and has descriptors of its own.
 */
bool flat_fd_foreign(void);
/** Binds a descriptor number to a socket: takes over the caller's reference. */
void flat_fd_bind(int fd, struct flat_sock *s);
/** The same with a reference of its own, whatever the number was before. */
void flat_fd_bind_more(int fd, struct flat_sock *s);
/** The socket behind a descriptor that a child of vfork() made, in that child. NULL: it is none. */
struct flat_sock *flat_fd_abroad(int fd);
/** Forgets what a descriptor was; its socket ends with its last reference. Does not close the fd. */
void flat_fd_unbind(int fd);
/** The numbers that mean it are the kernel's: it is not there. */
void flat_fd_forget(const struct flat_sock *s);
void flat_fd_set_kind(int fd, enum flat_fd_kind kind);
/** Moves a descriptor out of the application's way: a private one, CLOEXEC. -1 stays -1. */
int flat_fd_private(int fd);
/**
 * The same of `n` that came with one message, in place. What they leave, and `done` (-1: none), which came with them and is
 * of no more use, is closed in as few calls as their numbers allow, which mostly follow one another.
 */
void flat_fds_private(int *fds, size_t n, int done);
/** A private descriptor, closed. */
void flat_fd_close_private(int fd);
/** What happened to a candidate: FLAT_MARK_*; ends with the descriptor. */
#define FLAT_MARK_OPTIONS 1U /* options were set */
#define FLAT_MARK_TRIED 2U   /* the kernel was asked to connect it */
#define FLAT_MARK_NEW 4U     /* made by socket(), and nothing was done to it since */
#define FLAT_MARK_V4 8U	     /* of a new one: its domain */
#define FLAT_MARK_V6 16U
#define FLAT_MARK_OPENING 32U /* a thread asks the offload half for its connection */
#define FLAT_MARK_TWINS 64U   /* other numbers mean the same socket, or did */
/* shutdown() said so: what connects next, or is accepted there, begins with it */
#define FLAT_MARK_SHUT_RD 128U
#define FLAT_MARK_SHUT_WR 256U
/** Any other mark ends FLAT_MARK_NEW. */
void flat_fd_mark(int fd, uint16_t marks);
/** Marks a candidate under each of its numbers, or takes the marks off. */
void flat_fd_mark_each(int fd, uint16_t marks, bool on);
uint16_t flat_fd_marks(int fd);
/** The other numbers of one candidate: dup(). More than one is rare. */
#define FLAT_TWINS_MAX 8
struct flat_twins {
	uint32_t n;
	int fd[FLAT_TWINS_MAX];
};
void flat_fd_twins(int fd, struct flat_twins *t);
/**
 * Around the question that makes a candidate a connection. Until it is answered other threads' calls on the number wait, in
 * flat_fd_sock(): with the kernel a server that has accepted sees the client's socket connected.
 */
void flat_fd_opening(int fd, bool begins);
/** Whether this process has a listener of ours at that address; of one at all addresses a loopback address is. */
bool flat_fd_listens(const struct flat_addr *to);
/** Before a fork: another process may do to candidates from here on what this one does not see. */
void flat_fd_marks_forking(void);
/** This thread's id, cached. */
int flat_tid(void);
/** Locks of nanoseconds, in memory that processes may share: see core.md, 6. 0: free; else who holds it. */
void flat_lock_slow(_Atomic uint64_t *lock);
/** What flat_tid() has cached; not above 0: nothing. */
extern __thread int flat_my_tid;

/* Inlined, as with each send() and recv() it is done twice. */
static inline void flat_lock(_Atomic uint64_t *lock)
{
	uint64_t free = 0;
	int tid = flat_my_tid;
	/* acquire: pairs with flat_unlock() */
	if (flat_unlikely(tid <= 0 || !atomic_compare_exchange_strong_explicit(
					  lock, &free, flat_holders_word((uint32_t)tid),
					  memory_order_acquire, memory_order_relaxed)))
		flat_lock_slow(lock);
}

static inline void flat_unlock(_Atomic uint64_t *lock)
{
	atomic_store_explicit(lock, 0, memory_order_release);
}

/** -1 with errno for a negative result of ours; the one place where errno is set. */
long flat_result(long value);

/* --- session.c --- */

/** The directory, if an offload half is or was there; NULL: there is none, or one of another build: all is the kernel's. */
const struct flat_directory *flat_session_directory(void);
/** Whether the offload half that was met last is of another build: nothing new is asked of it (core.md, 10). */
bool flat_session_parted(void);
/** The same without joining anew: no system call. */
const struct flat_directory *flat_session_known(void);
/** Which of the offload halves that this process has known made a connection; 0: none of them. */
uint32_t flat_session_reign(uint64_t conn_id);
/**
 * A server is told of a connection, with the directory of who made it (borrowed; -1: it need not be). Where what this process knows has a
 * successor, that one is joined, or, if it cannot be reached (after chroot()), known at least.
 */
void flat_session_told(int directory_fd);
/** flat_directory_reign_word() of that one; 0, which is over, of none and of one that is forgotten. No system call. */
uint64_t flat_session_reign_word(uint32_t reign);
/** The offload half's process as the kernel knows it; 0: there is none. */
int flat_session_peer(void);
/** In a forked child: the session is its parent's. */
void flat_session_forked(void);
/** Asks the offload half. fds of the answer are the caller's. 0, or a negative errno (-ECONNREFUSED: gone). */
FLAT_MUST_CHECK int flat_session_ask(struct flat_msg *msg, int send_fd, int fds[FLAT_MSG_FDS_MAX],
				     size_t *n);

/** A connection to `to` that was made ahead: it has begun, without an answer. False: ask for one. See ticket.h. */
FLAT_MUST_CHECK bool flat_session_ticket(const struct flat_addr *to, struct flat_ticket *ticket);

/* --- numbers.c --- */

/** Descriptors that a message about a connection brings at most. */
#define FLAT_NUMBERS_NEED 3U
/** Keeps as many numbers as one needs, where there are any. False: there were too few for a connection. */
FLAT_MUST_CHECK bool flat_numbers_reserve(void);
/** Gives them up. */
void flat_numbers_give_up(void);
/** A descriptor got this number: whether numbers come near their limit. */
void flat_numbers_seen(int fd);
bool flat_numbers_tight(void);
/** Descriptors found no number: they are looked after from now on. */
void flat_numbers_lost(void);
/** Whether there are any, asked of the kernel: files and what else no hook sees may have taken them. */
void flat_numbers_look(void);
/**
 * Before a message with descriptors is read: there is room for them, the kept ones given up where it takes them. `own`: the
 * program itself must have one free, as for accept(). 0, -EMFILE, -ENFILE. Afterwards flat_numbers_settle(), in any case.
 */
FLAT_MUST_CHECK int flat_numbers_prepare(bool own);
void flat_numbers_settle(void);
/** A private epoll instance, on a kept number where there is no other. Or a negative errno. */
int flat_numbers_epoll(void);
/** A TCP socket of the kernel's for a moment, on a kept number where there is no other. Or a negative errno. */
FLAT_MUST_CHECK int flat_numbers_socket(int domain);
/** Closes it; its number is kept again. */
void flat_numbers_back(int fd);

/* --- socket.c --- */

/** AF_INET or AF_INET6 of a candidate. */
int flat_fd_domain(int fd);
/** The anchor takes the place of the kernel's socket under its number, with what was set on that. Takes the anchor. */
FLAT_MUST_CHECK int flat_sock_replace(int fd, int anchor, struct flat_sock *s);
/** Whom signals tell of the file under a number, and by which: F_GETOWN_EX, F_GETSIG. */
struct flat_file_owner {
	struct f_owner_ex who; /* pid 0: nobody */
	int sig;	       /* 0: SIGIO */
};
void flat_file_owner(int fd, struct flat_file_owner *o);
/**
 * What fcntl() says of the file under one number is said of that under another: F_SETFL's part of `flags`, which F_GETFL gave, and,
 * if it is `owned`, its owner.
 */
void flat_file_keep(int from, int to, int flags, bool owned);
/** Writes an address as accept() and getsockname() do; v4 as mapped v6 for AF_INET6 sockets. 0, -EFAULT, -EINVAL. */
FLAT_MUST_CHECK int flat_sock_name(const struct flat_addr *a, int domain, struct sockaddr *addr,
				   socklen_t *len);

/** Waits until the offload half has heard of what ended before: listeners that are no more. Whether it is there. */
bool flat_offload_caught_up(void);

/** Whether a listener ended within the last second here that has this address, or its port on all: the offload half may hold it. */
bool flat_listener_just_closed(const struct flat_addr *addr);
/** A socket got this address without sharing its port: nobody holds a listener there that ended. */
void flat_listener_let_go(const struct flat_addr *addr);

/* --- connect.c --- */

/** Whether connect() of this descriptor would ask the offload half for that address. */
bool flat_connect_meshed(int fd, const struct sockaddr *addr, socklen_t len);

/* --- listener.c --- */

/** accept() may be called since it was told of: it does not wait then for the offload half's successor. */
static inline void flat_listener_watched(struct flat_sock *l)
{
	if (!atomic_load_explicit(&l->watched, memory_order_relaxed))
		atomic_store_explicit(&l->watched, 1, memory_order_relaxed);
}

/** The listener ends as shutdown(SHUT_RD) ends it: the kernel's socket takes its number back, sleepers wake. */
FLAT_MUST_CHECK int flat_listener_shut(int fd, struct flat_sock *s);

/** The kernel's listening socket takes its number back and goes on listening: sleepers in accept() wait there. */
FLAT_MUST_CHECK int flat_listener_to_kernel(int fd, struct flat_sock *s);

/* --- stream.c, ending.c --- */

/** Events as poll() reports them for a stream (EPOLLIN ...), no system call. */
uint32_t flat_stream_events(struct flat_sock *s);
/** Whether recv() would not wait: bytes, or an end. One shared cache line. */
bool flat_stream_readable(struct flat_sock *s);
/** FIONREAD: bytes to read before an urgent one, or a negative errno. */
FLAT_MUST_CHECK ssize_t flat_stream_unread(struct flat_sock *s);
/** Whether no byte follows those that are there. */
bool flat_stream_ended(struct flat_sock *s);
/** Makes a stream of a CONNECT answer or ACCEPT message; takes the bell and the use of the lane. NULL: neither. */
struct flat_sock *flat_stream_new(const struct flat_msg_conn *m, struct flat_lane_use *lane,
				  int bell);
/** Whether a send would not wait. */
bool flat_stream_writable(struct flat_sock *s);
/** Whether what is sent now may reach its peer; `fd` is one of its descriptors. */
bool flat_stream_may_send(struct flat_sock *s, int fd);
/** The state that TCP would be in: TCP_ESTABLISHED ... of netinet/tcp.h; FIN's way is taken as no time. */
int flat_stream_state(const struct flat_sock *s);
/** SO_ERROR: as it stands, and taken. */
int flat_stream_error(const struct flat_sock *s);
int flat_stream_take_error(struct flat_sock *s);
/** Cut by the offload half: what is unread may not be read any more. */
static inline bool flat_stream_void(const struct flat_sock *s)
{
	return flat_prod_is_cut(flat_vq_peer_prod_flags(&s->vq)) ||
	       atomic_load_explicit(&s->voided, memory_order_relaxed);
}
/** shutdown(): 0 or -ENOTCONN. */
FLAT_MUST_CHECK int flat_stream_shutdown(struct flat_sock *s, int how);
/** Of a new connection: it was shut (FLAT_MARK_SHUT_*) before connect(), or its listener was before listen(). */
void flat_stream_shut_early(struct flat_sock *s, uint16_t marks);
/** Last reference gone: FIN or RST to the peer. */
void flat_stream_end(struct flat_sock *s);
/** The anchor hung up: the offload half cut the connection or ended, or every other holder is gone. */
void flat_stream_died(struct flat_sock *s);
/** The peer's end, as far as it is seen: it changes when there is an edge to report. */
uint32_t flat_stream_edges(const struct flat_sock *s);
/** Looks whether connections were cut since, or the offload half ended. */
void flat_stream_check_reign(struct flat_sock *s, int fd);

/** Threads of ours that sleep on it look again. Costs a question to the offload half if there are any. */
void flat_stream_wake_own(struct flat_sock *s);

/* --- errqueue.c --- */

/** A send with MSG_ZEROCOPY was made. */
void flat_errqueue_sent(struct flat_sock *s);
/** recvmsg(MSG_ERRQUEUE): the completions that were not told, as one range. msg: NULL, nothing is written. 0 or -EAGAIN. */
FLAT_MUST_CHECK int flat_errqueue_take(struct flat_sock *s, struct msghdr *msg);
/** Whether there is something to tell. */
static inline bool flat_errqueue_waits(const struct flat_sock *s)
{
	return flat_unlikely(s->zerocopy) &&
	       atomic_load_explicit(&s->zc_sent, memory_order_relaxed) !=
		   atomic_load_explicit(&s->zc_told, memory_order_relaxed);
}

/* --- opening.c --- */

/** What stands in shared memory of a connection that was pending: open, failed (then it has an error), or not yet. */
void flat_stream_settle_slow(struct flat_sock *s);
static inline void flat_stream_settle(struct flat_sock *s)
{
	if (flat_unlikely(atomic_load_explicit(&s->pending, memory_order_relaxed)))
		flat_stream_settle_slow(s);
}
/** TCP_SYN_SENT: its server is not there yet. */
static inline bool flat_stream_connecting(struct flat_sock *s)
{
	flat_stream_settle(s);
	return flat_unlikely(atomic_load_explicit(&s->pending, memory_order_relaxed));
}
/** The state of one that is pending without taking note of it: TCP_SYN_SENT, TCP_ESTABLISHED, TCP_CLOSE. */
int flat_stream_opening_state(const struct flat_sock *s);
/** Waits until it came about, as a blocking connect() does. 0, or as connect() ends. */
FLAT_MUST_CHECK int flat_stream_await(struct flat_sock *s, int fd);

/* --- signals.c --- */

/** What handlers mean for a call that waits: poll() and epoll_wait() end with EINTR after any, recv() unless all have SA_RESTART. */
enum flat_signals { FLAT_SIGNALS_NONE, FLAT_SIGNALS_RESTART, FLAT_SIGNALS_INTERRUPT };
/** Handlers that have run in a thread, those with SA_RESTART and the others. */
struct flat_ran {
	uint32_t interrupts;
	uint32_t restarts;
};
/** Whether the handlers that run are told of: else flat_signals_since() knows of none. */
extern bool flat_signals_told;
/** The calling thread's so far: where a call begins. */
FLAT_MUST_CHECK struct flat_ran flat_signals_ran(void);
/** What those mean that ran since; asked last before the kernel sleeps. */
FLAT_MUST_CHECK enum flat_signals flat_signals_since(const struct flat_ran *then);
/** The same of those handlers that there are for the signals `which`, bit n-1 for signal n. */
FLAT_MUST_CHECK enum flat_signals flat_signals_do(uint64_t which);

/* --- wait.c --- */

/** A waiter's budget. Begin, then ask after every look; false: arm and sleep. */
struct flat_wait {
	uint32_t looks;
	bool late;		/* a yield came back late */
	bool holds;		/* signals back */
	uint32_t yielded_waits; /* of all threads that were over at the last yield */
	int64_t limit_ns;	/* of yielding */
	int64_t begun_ns;	/* the first yield; 0: there was none yet */
	int64_t yielded_ns;	/* the last one */
	uint64_t mask;		/* the thread's own, while it holds signals back */
};
void flat_wait_begin(struct flat_wait *w);
bool flat_wait_again(struct flat_wait *w);
/** How it ended: `paid` if the look found something before sleep. Which signals it held back; their handlers have run. */
enum flat_signals flat_wait_end(const struct flat_wait *w, bool paid);

/**
 * Before up to `len` bytes are taken: where they come in small pieces one way, lets FLAT_GATHER_NS pass for more. Whether it
 * did, and more came.
 */
bool flat_gather(struct flat_sock *s, size_t len);
/** After `n` bytes were taken, and after bytes were sent. */
void flat_gather_took(struct flat_sock *s, size_t n, bool gathered);
static inline void flat_gather_sent(struct flat_sock *s)
{
	if (atomic_load_explicit(&s->gather.run, memory_order_relaxed) != 0)
		atomic_store_explicit(&s->gather.run, 0, memory_order_relaxed);
}

/* --- epoll.c --- */

/** Before and after a descriptor changes from the kernel's to ours under its number. */
void flat_epoll_converting(int fd);
void flat_epoll_converted(int fd);
/** Instances that one descriptor is a member of, at the most: programs have one, rarely two. */
#define FLAT_EPOLL_OF_ONE 32
/** What instances ask of a number, while the kernel's socket takes it back. */
struct flat_epoll_kept {
	uint32_t n;
	int epfd[FLAT_EPOLL_OF_ONE];
	struct epoll_event event[FLAT_EPOLL_OF_ONE];
};
/** Before a flat socket is unbound, and when its number is a candidate's. The second leaves errno alone. */
void flat_epoll_keep(int fd, struct flat_epoll_kept *kept);
void flat_epoll_give_back(int fd, struct flat_epoll_kept *kept);
/** A descriptor is closed; `last`: no other number of this process means the same socket. */
void flat_epoll_closed(int fd, bool last);
/** A descriptor of an epoll instance was duplicated. */
void flat_epoll_duplicated(int from, int to);

#endif
