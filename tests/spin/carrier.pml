/*
 * Going over from TCP to a ring over verbs and back (docs/design/verbs.md, section 4; lib/wire/carrier.c). Each side says
 * N numbered bytes; the ring may break at any moment, and each side notices when it likes. Claim: each takes all bytes of the
 * other, in order, once, and nobody waits for ever.
 *
 * -DNO_STOP      who has said how far it took goes on taking from the ring
 * -DNO_RESEND    what was posted counts as received
 * -DNO_WAIT      who notices says the rest on TCP without waiting for the peer's word
 * Each of them must be found wrong.
 */
#define N 3

mtype = { DATA, GO, RESUME };

chan tcp[2] = [10] of { mtype, byte }; /* by receiver */
byte posted[2];	/* by sender: bytes given to the device, */
byte come[2];	/* of which so many are in the peer's memory */
bool broken;
byte expected[2]; /* by receiver */

/* The device: in order, until it breaks. */
active proctype device() {
end:
	do
	:: atomic { !broken && come[0] < posted[0] -> come[0]++ }
	:: atomic { !broken && come[1] < posted[1] -> come[1]++ }
	:: broken = true
	:: broken -> break
	od
}

inline say_resume() {
	if
	:: failed && in_ring && out_ring && !said -> said = true; tcp[peer]!RESUME, taken
	:: else
	fi
}

proctype side(byte me) {
	byte peer = 1 - me;
	byte next = 0;	/* byte to be said */
	byte start = 0; /* the first that went by the ring */
	byte taken = 0;
	byte n;
	bool out_ring = false;
	bool in_ring = false;
	bool failed = false;
	bool said = false;
	bool offered = (me == 1);
end:
	do
	:: atomic { next < N && !out_ring -> tcp[peer]!DATA, next; next++ }
	:: atomic { next < N && out_ring && !failed -> posted[me]++; next++ }
	:: atomic { !offered -> offered = true; tcp[peer]!GO, 0; out_ring = true; start = next }
#ifdef NO_STOP
	:: atomic { in_ring && taken < come[peer] ->
#else
	:: atomic { in_ring && !failed && taken < come[peer] ->
#endif
		taken++; expected[me]++ }
	:: atomic { broken && !failed && (out_ring || in_ring) ->
		failed = true; say_resume()
#ifdef NO_WAIT
		; if
		:: said -> out_ring = false
		:: else
		fi
#endif
		}
	:: atomic { tcp[me]?DATA, n ->
		assert(!in_ring && n == expected[me]); expected[me]++ }
	:: atomic { tcp[me]?GO, n ->
		in_ring = true;
		if
		:: !out_ring -> tcp[peer]!GO, 0; out_ring = true; start = next
		:: else
		fi;
		say_resume() }
	:: atomic { tcp[me]?RESUME, n ->
		failed = true; say_resume();
		assert(n <= posted[me]);
		in_ring = false; out_ring = false;
#ifndef NO_RESEND
		next = start + n
#endif
		}
	:: atomic { expected[me] == N && expected[peer] == N && next == N && len(tcp[0]) == 0 && len(tcp[1]) == 0 -> break }
	od
}

init {
	atomic { run side(0); run side(1) }
	/* Not an end state: whoever waits for ever is found here. */
	(expected[0] == N && expected[1] == N)
}
