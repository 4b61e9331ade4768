/*
 * Naps (lib/vq/vq.h, ring_napping(); docs/design/core.md, section 5, N1 to N3): one bell wakes a waiter of many slots. A
 * notifier publishes, remembers the nap, takes the arm, sets the ready bit, and rings its own slot's anchor if the nap is up; if it is
 * still the one remembered, it clears it, and the others ring no more. The waiter writes a number that it never used into the
 * nap, looks at the bits, and sleeps on the anchors of its slots. It closes slot 0 before that one's notifier has said all:
 * what is rung there then wakes nobody. Stores of `tail` and of `arm` wait in a buffer (x86-TSO); locked operations drain it.
 *
 * Claim: the waiter takes everything that slot 1 publishes and never sleeps for ever. Found wrong with
 *   -DLOOK_FIRST   the waiter looks at the bits before its nap is up
 *   -DNAP_FIRST    the notifier looks at the nap before it sets the bit
 *   -DTAKE_ANY     the nap is cleared whatever it was when the arm was taken
 *   -DSAME_NUMBER  each sleep has the same number
 *   -DTAKE_LATE    the nap is remembered after the arm was taken
 *   -DLEAVE_ARMED  a slot is closed and its arm left
 */
#define SLOTS 2
#define N 2
#define CLOSED 1 /* of slot 0: so much is taken before it is closed */

byte tail[SLOTS]; /* as memory has it */
byte head[SLOTS]; /* taken; the waiter's own */
bool armed[SLOTS];
bool tail_waits[SLOTS]; /* a store of tail that is in the notifier's buffer */
bool arm_waits;		/* the waiter's store of armed[arm_slot] */
byte arm_slot;
bool ready[SLOTS];
bool watched[SLOTS];
bool rung[SLOTS];
byte nap;

active proctype buffers()
{
end:
	do
	:: atomic { tail_waits[0] -> tail[0]++; tail_waits[0] = false }
	:: atomic { tail_waits[1] -> tail[1]++; tail_waits[1] = false }
	:: atomic { arm_waits -> armed[arm_slot] = true; arm_waits = false }
	od
}

inline drain_tail(k)
{
	if
	:: tail_waits[k] -> tail[k]++; tail_waits[k] = false
	:: else
	fi
}

/* A bell at an anchor that nobody watches any more wakes nobody. */
inline ring(k)
{
	atomic { rung[k] = watched[k] }
}

proctype notifier(byte k)
{
	byte i = 0;
	byte before;
	byte now;
	bool taken;
	do
	:: i == N -> break
	:: i < N ->
		atomic { !tail_waits[k] -> tail_waits[k] = true };
		/* the fence */
		atomic { drain_tail(k) };
		if
		:: armed[k] ->
			before = nap;
			atomic { taken = armed[k]; armed[k] = false };
#ifdef TAKE_LATE
			before = nap;
#endif
			if
			:: taken ->
#ifdef NAP_FIRST
				now = nap;
				ready[k] = true;
#else
				ready[k] = true;
				now = nap;
#endif
				if
				:: now != 0 ->
					ring(k);
#ifdef TAKE_ANY
					nap = 0
#else
					atomic {
						if
						:: now == before && nap == now -> nap = 0
						:: else
						fi
					}
#endif
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		i++
	od
}

/* Takes what slot k has, asks to be told of more, looks again. */
inline serve(k)
{
	do
	:: tail[k] != head[k] -> head[k] = tail[k]
	:: else ->
		atomic { !arm_waits -> arm_slot = k; arm_waits = true };
		/* the fence */
		atomic {
			if
			:: arm_waits -> armed[arm_slot] = true; arm_waits = false
			:: else
			fi
		};
		if
		:: tail[k] == head[k] -> break
		:: else
		fi
	od
}

active proctype waiter()
{
	byte k;
	byte sleeps = 0;
	bool mine[SLOTS];
	bool quiet;
	watched[0] = true;
	watched[1] = true;
	mine[0] = true;
	mine[1] = true;
	do
	:: head[1] == N -> break
	:: else ->
		for (k : 0 .. SLOTS - 1) {
			if
			:: mine[k] && watched[k] -> serve(k)
			:: else
			fi;
			mine[k] = false
		}
		/* Closed: the anchor is watched no more, its ready bit is nobody's. */
		if
		:: watched[0] && head[0] >= CLOSED ->
			atomic { watched[0] = false; rung[0] = false };
#ifndef LEAVE_ARMED
			armed[0] = false
#endif
		:: else
		fi;
		atomic {
			mine[0] = ready[0] && watched[0];
			mine[1] = ready[1];
			ready[0] = ready[0] && !mine[0];
			ready[1] = false
		};
		if
		:: mine[0] || mine[1] || head[1] == N
		:: else ->
#ifdef SAME_NUMBER
			sleeps = 1;
#else
			sleeps++;
#endif
#ifdef LOOK_FIRST
			quiet = !(ready[0] && watched[0]) && !ready[1];
			nap = sleeps;
#else
			nap = sleeps;
			quiet = !(ready[0] && watched[0]) && !ready[1];
#endif
			if
			:: quiet -> atomic { rung[0] || rung[1] -> rung[0] = false; rung[1] = false }
			:: else
			fi;
			nap = 0
		fi
	od
}

init
{
	run notifier(0);
	run notifier(1)
}
