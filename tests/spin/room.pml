/*
 * Room (lib/vq/vq.h, flat_vq_notify_room()) on a machine whose stores wait in a buffer, for as long as they like: x86-TSO. A
 * consumer fences and looks at who waits for room only where what it has seen since it last did is more than S. The
 * producer sleeps only where it finds M or more unread, after its fence; it is told where less than Q are.
 *
 * Claims: who has stopped reading leaves no producer asleep that is owed a bell (less than Q unread); and one that reads on reads
 * all (no invalid end state). Both ask for M - S >= Q.
 *
 * Variants that must fail: -DVIEW_ALONE (of the last view alone, not of all since the fence), -DWIDE (M - S < Q), -DNO_FENCE.
 */
#define B 6 /* the ring */
#define M 5
#define Q 4
#ifdef WIDE
#define S 2
#else
#define S 1
#endif
#define N 10

byte tail, head; /* as memory has them */
bool arm;
byte t, h;	/* as their writers have them: what lies between is in their buffers */
bool arm_buffered; /* behind all of tail's */
byte bells;
bool asleep, stopped, at_rest;

/* The buffers drain by themselves, at any time, in order. */
active proctype drain() {
end:
	do
	:: atomic { tail < t -> tail++ }
	:: atomic { head < h -> head++ }
	:: atomic { arm_buffered && tail == t -> arm = true; arm_buffered = false }
	od
}

active proctype producer() {
	byte seen = 0;
	do
	:: t == N -> break
	:: t < N && t - seen < B -> t++
	:: t < N -> seen = head
	:: t < N && t - seen >= M ->
		/* full for send(), or not writable for poll() */
		atomic { !arm_buffered -> arm_buffered = true };
		atomic { tail = t; arm = true; arm_buffered = false };
		seen = head;
		if
		:: t - seen >= M ->
			asleep = true;
end_asleep:		atomic { bells > 0 -> bells--; asleep = false };
			seen = head
		:: else
		fi
	od
}

active proctype consumer() {
	byte view = 0, fenced = 0, before;
	bool asked;
	do
	:: h == N -> break
	:: stopped = true; break
	:: h < N && tail > h ->
		atomic { view = tail; before = h };
		/* some, or all */
		if
		:: h++
		:: h = view
		fi;
#ifdef VIEW_ALONE
		fenced = before;
#endif
		if
		:: view - fenced > S ->
#ifndef NO_FENCE
			atomic { head = h };
#endif
			fenced = h;
			asked = arm;
			if
			:: asked && view - h < Q ->
				/* the exchange drains the buffer */
				atomic { head = h; asked = arm; arm = false };
				if
				:: asked -> bells++
				:: else
				fi
			:: else
			fi
		:: else
		fi
	od;
	at_rest = true
}

/* Who reads all has to be sent all: nobody sleeps then. */
active proctype watch() {
end:
	atomic { at_rest && asleep && bells == 0 && head == h && tail == t -> assert(t - h >= Q && stopped) }
}
