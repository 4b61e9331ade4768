/*
 * Waiting in the kernel for a bell on a stream's anchor (docs/design/core.md, section 5).
 *
 * Several threads, epoll instances and processes may wait on one anchor, and the kernel looks again at its level before it
 * lets a waiter go: whoever takes the last bell off the anchor may take it from somebody else. Hence:
 *
 *   - every waiter joins, under the socket's bell_lock, before it arms, and leaves after it woke;
 *   - the anchor is emptied only by a waiter that is alone, under the same lock: it may then sleep until the anchor is
 *     readable (poll, recv);
 *   - with others there at least one bell stays, and a waiter sleeps edge-triggered, in an epoll instance of its
 *     thread: each further bell wakes everybody.
 *
 * A waiter that is killed, or left by longjmp, leaves the count too high: the others then sleep edge-triggered, which
 * is slower and as right. Model: tests/spin/waiters.pml.
 */
#ifndef FLAT_HOST_BELL_H
#define FLAT_HOST_BELL_H

#include "host/host.h"

/** Bells that may lie on an anchor before they are taken off: far fewer than a socket's buffer holds. */
#define FLAT_BELLS_MAX 64

/** Counts the caller among those who wait on `s`. True: it is alone, and the anchor is empty. */
bool flat_bell_join(struct flat_sock *s, int fd);
void flat_bell_leave(struct flat_sock *s);

/**
 * Whether a waiter of a process that a filter forbids instances (base/confine.h) may take every bell: no relative by fork waits.
 * Processes that hold the socket by exec or a message are not known; one that waits at the same time may sleep too long.
 */
bool flat_bell_level(const struct flat_sock *s);

/** After a wake-up, before leaving: whoever is alone empties the anchor, so that no stale bell wakes it again. */
void flat_bell_clear_alone(struct flat_sock *s, int fd);
/** Nobody waits, nothing is there to read: empties the anchor for pollers that no hook sees. */
void flat_bell_clear(struct flat_sock *s, int fd);

/**
 * A non-blocking call found nothing, and leaves a bell armed for waiters that no hook sees. Until the program waits by a call
 * that one does see, and looks itself for a while: it puts the bell off, which nobody would hear but who has to take it off
 * again, and back if it ends without having found anything there. Not where others may wait.
 */
void flat_bell_left(struct flat_sock *s);
FLAT_MUST_CHECK bool flat_bell_put_off(struct flat_sock *s);

/** For a waiter that is not alone, between its wake-ups: keeps the anchor from filling up. */
void flat_bell_trim(struct flat_sock *s, int fd);

/** One call, which may sleep more than once. Begins as {.then = flat_signals_ran()}. */
struct flat_sleeper {
	struct flat_ran then; /* handlers that ran before it waited */
	int64_t begun_ns;     /* its first sleep; 0: there was none yet */
	int limit_ms;	      /* of all its sleeps together, once it was asked for */
	bool asked;
};

/**
 * Sleeps until a bell, unless ready(s) holds once it is armed. `tx`: for room, else for bytes. Timeouts and signals, also
 * those that came after c->then, end it as the kernel ends send() and recv(): -EAGAIN, -EINTR. 0: look again. SO_RCVTIMEO and
 * SO_SNDTIMEO bound the sleeps of one call together.
 */
FLAT_MUST_CHECK int flat_bell_sleep(struct flat_sock *s, int fd, bool tx,
				    bool (*ready)(struct flat_sock *s), struct flat_sleeper *c);

/** SO_RCVTIMEO, or with `tx` SO_SNDTIMEO, in ms; -1: no limit. */
FLAT_MUST_CHECK int flat_bell_limit_ms(const struct flat_sock *s, int fd, bool tx);
/** Whether a call ends with EINTR after the signals that came: one with a time limit is not restarted. */
FLAT_MUST_CHECK bool flat_bell_interrupted(enum flat_signals came, const struct flat_sock *s,
					   int fd, bool tx);

/**
 * For calls that may sleep: until flat_bell_let_go() the socket does not end, though another thread closes its
 * descriptors, as a system call holds its file. One that was left by longjmp is let go by its thread's next hold, or end.
 * False: it has ended already.
 */
FLAT_MUST_CHECK bool flat_bell_hold(struct flat_sock *s);
void flat_bell_let_go(struct flat_sock *s);

/**
 * This thread's edge-triggered instance watches the anchor from now on: a bell makes the instance's descriptor, which
 * is returned, readable. Negative errno: it could not. flat_bell_unwatch() ends it.
 */
FLAT_MUST_CHECK int flat_bell_watch(int fd);
void flat_bell_unwatch(int fd);
/** Takes note of what the kernel said of an anchor: whether it hung up (EPOLLHUP ...). */
void flat_bell_seen(int fd, uint32_t events);
/** Takes what the instance has to tell, without waiting. */
void flat_bell_swallow(void);
/** In a forked child: the instance is the parent's. */
void flat_bell_forked(void);

#endif
