/*
 * Several waiters on one anchor (lib/host/bell.h): threads that send and receive, epoll instances, processes. What the peer
 * rings for one of them is one more byte on the anchor that all of them sleep on. The kernel wakes everybody, and
 * looks at the anchor's level again before it lets a waiter go: poll() and recv() do, and so does epoll_wait() of an
 * edge-triggered member, whose event is void if nothing is readable when it is fetched.
 *
 * Rules: a waiter joins under a lock before it arms, and leaves after it looked. Who is alone when it joins empties the anchor
 * and sleeps on its level; others watch it edge-triggered. The last byte is taken only by who is alone, under the lock.
 *
 * Claim: each waiter sees every change of its kind; nobody sleeps for ever. Found wrong with
 *   -DTAKE_LAST  a waiter that wakes empties the anchor with others there
 *   -DNO_LOCK    joining and emptying are not one step for others
 *   -DLATE_JOIN  a waiter arms before it joins
 */
#define WAITERS 3
#define KINDS 2 /* 0: bytes, 1: room */
#define LAST(k) (2 - (k)) /* changes of each kind */

byte change[KINDS]; /* the peer's words: so much has happened */
bool armed[KINDS];
byte bells; /* bytes on the anchor */
byte joined;
bool lock;
bool watching[WAITERS];
bool edge[WAITERS]; /* a bell since the last fetch */

inline take_lock()
{
#ifndef NO_LOCK
	atomic { !lock -> lock = true }
#else
	skip
#endif
}

inline drop_lock()
{
#ifndef NO_LOCK
	lock = false
#else
	skip
#endif
}

proctype notifier(byte k)
{
	byte i;
	bool taken;
	for (i : 1 .. LAST(k)) {
		change[k]++;
		atomic { taken = armed[k]; armed[k] = false };
		atomic {
			if
			:: taken ->
				bells++;
				edge[0] = watching[0];
				edge[1] = watching[1];
				edge[2] = watching[2]
			:: else
			fi
		}
	}
}

proctype waiter(byte w; byte k)
{
	byte seen = 0;
	bool alone;
	bool quiet;
	do
	:: seen == LAST(k) -> break
	:: change[k] != seen -> seen = change[k]
	:: else ->
#ifdef LATE_JOIN
		armed[k] = true;
#endif
		atomic { take_lock(); joined++; alone = (joined == 1) };
		if
		:: alone -> atomic { bells = 0; drop_lock() }
		:: else ->
			/* EPOLL_CTL_ADD of a readable member tells it at once; that is swallowed. */
			atomic { drop_lock(); watching[w] = true; edge[w] = false }
		fi;
#ifndef LATE_JOIN
		armed[k] = true;
#endif
		if
		:: change[k] != seen
		:: else ->
#ifdef TAKE_LAST
			bells > 0;
			bells = 0
#else
			if
			:: alone ->
				bells > 0;
				atomic { take_lock(); quiet = (joined == 1) };
				atomic {
					if
					:: quiet -> bells = 0
					:: else
					fi;
					quiet = false;
					drop_lock()
				}
			:: else ->
				do
				:: atomic { edge[w] && bells > 0 -> edge[w] = false; break }
				:: atomic { edge[w] && bells == 0 -> edge[w] = false }
				od
			fi
#endif
		fi;
		atomic { watching[w] = false; edge[w] = false; alone = false; joined-- }
	od
}

init
{
	atomic {
		run notifier(0);
		run notifier(1);
		run waiter(0, 0);
		run waiter(1, 1);
		run waiter(2, 0)
	}
}
