/*
 * Ready bits and sleepers (lib/vq/vq.h, flat_vq_notify_slow; docs/design/core.md, invariants I4 to I6): one waiter for
 * all slots of a lane, as an epoll instance is, and a notifier per slot. A notifier publishes, takes the arm, sets the ready bit, and rings
 * only if somebody sleeps. The waiter raises `sleepers`, looks at the bits, and sleeps. Stores of `tail` and of `arm`
 * wait in a buffer (x86-TSO); the locked operations on arm, ready and sleepers drain it.
 *
 * Claim: the waiter takes everything that is published and never sleeps for ever. Found wrong with
 *   -DLOOK_FIRST  the waiter looks at the bits before it raises `sleepers`
 *   -DRING_FIRST  the notifier looks at `sleepers` before it sets the bit
 *   -DNO_LOOK     the waiter arms a slot and does not look at it again
 */
#define SLOTS 2
#define N 2

byte tail[SLOTS]; /* as memory has it */
byte head[SLOTS]; /* taken; the waiter's own */
bool armed[SLOTS];
bool tail_waits[SLOTS]; /* a store of tail that is in the notifier's buffer */
bool arm_waits;		/* the waiter's store of armed[arm_slot] */
byte arm_slot;
bool ready[SLOTS];
byte sleepers;
byte bells;

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

inline ring_if_asleep()
{
	if
	:: sleepers > 0 -> bells++
	:: else
	fi
}

proctype notifier(byte k)
{
	byte i = 0;
	bool taken;
	do
	:: i == N -> break
	:: i < N ->
		atomic { !tail_waits[k] -> tail_waits[k] = true };
		/* the fence */
		atomic { drain_tail(k) };
		if
		:: armed[k] ->
			atomic { taken = armed[k]; armed[k] = false };
			if
			:: taken ->
#ifdef RING_FIRST
				ring_if_asleep();
				ready[k] = true
#else
				ready[k] = true;
				ring_if_asleep()
#endif
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
#ifdef NO_LOOK
		break
#else
		if
		:: tail[k] == head[k] -> break
		:: else
		fi
#endif
	od
}

active proctype waiter()
{
	byte k;
	bool mine[SLOTS];
	bool quiet;
	/* Slots are born armed: the first round serves all. */
	mine[0] = true;
	mine[1] = true;
	do
	:: head[0] == N && head[1] == N -> break
	:: else ->
		for (k : 0 .. SLOTS - 1) {
			if
			:: mine[k] -> mine[k] = false; serve(k)
			:: else
			fi
		}
		/* flat_lane_take_ready(): one word, one locked operation */
		atomic {
			mine[0] = ready[0];
			mine[1] = ready[1];
			ready[0] = false;
			ready[1] = false
		};
		if
		:: mine[0] || mine[1] || (head[0] == N && head[1] == N)
		:: else ->
#ifdef LOOK_FIRST
			quiet = !ready[0] && !ready[1];
			sleepers++;
#else
			sleepers++;
			atomic { quiet = !ready[0] && !ready[1] };
#endif
			if
			:: quiet -> atomic { bells > 0 -> bells = 0 }
			:: else
			fi;
			sleepers--
		fi
	od
}

init
{
	run notifier(0);
	run notifier(1)
}
