/*
 * Waking (lib/vq/vq.h) on a machine whose stores wait in a buffer: x86-TSO. One notifier publishes N times, one
 * waiter takes all and sleeps in between. A bell that was rung is counted. Claim: the waiter never sleeps for ever
 * while bytes are there (no invalid end state).
 *
 * Compiled with -DNO_FENCE the notifier's fence is left out: Spin must then find the lost wake-up.
 */
#define N 3

byte tail;	/* as memory has it */
byte arm;	/* 1: asks for a bell */
byte bells;
bool tail_buffered; /* the notifier's store that is not in memory yet */
byte tail_next;
bool arm_buffered; /* the waiter's */

inline flush_tail() {
	if
	:: tail_buffered -> tail = tail_next; tail_buffered = false
	:: else
	fi
}

/* The buffers drain by themselves, at any time. */
active proctype drain() {
end:
	do
	:: atomic { tail_buffered -> tail = tail_next; tail_buffered = false }
	:: atomic { arm_buffered -> arm = 1; arm_buffered = false }
	od
}

active proctype notifier() {
	byte i = 0;
	bool asked;
	do
	:: i < N ->
		atomic { !tail_buffered -> tail_next = i + 1; tail_buffered = true };
#ifndef NO_FENCE
		atomic { flush_tail() };
#endif
		asked = (arm == 1);
		if
		:: asked ->
			/* the exchange drains the buffer, as every locked operation does */
			atomic { flush_tail(); asked = (arm == 1); arm = 0 };
			if
			:: asked -> bells++
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od
}

active proctype waiter() {
	byte head = 0;
	do
	:: head == N -> break
	:: head < N && tail > head -> head = tail
	:: head < N && tail <= head ->
		atomic { !arm_buffered -> arm_buffered = true };
		/* the waiter's fence */
		atomic {
			if
			:: arm_buffered -> arm = 1; arm_buffered = false
			:: else
			fi
		};
		if
		:: tail > head -> skip
		:: else ->
			/* asleep until a bell */
			atomic { bells > 0 -> bells-- }
		fi
	od
}
