/*
 * The directory's addresses (docs/design/core.md, section 12): one writer, which is killed at any moment, lets listeners
 * begin and end in a table of five buckets while a reader looks one up. Keys: A and C begin their look-ups at bucket 0, B
 * and ANY, which is looked up where an exact one is not there, at bucket 1. Words of an entry are stored and loaded one by
 * one; an address is two words, in either order.
 *
 * Claims (assertions): what is there all the time is found; what never was is not, whatever two addresses it is made of;
 * a listener that goes from its address to all of them, beginning there before it ends here, is found. Found wrong with
 *   -DNO_TURN      another address comes into a bucket under the same turn
 *   -DLATE_TURN    the turn is told after the address is written
 *   -DNO_SECOND    the reader does not look at the state again
 *   -DEMPTY        a bucket is empty at once when its address goes
 *   -DNO_EPOCH     that nothing was found is an answer whatever changed meanwhile
 */
#define BUCKETS 5
#define A 1
#define B 2
#define C 3
#define ANY 4
#define TORN 5 /* first word of B, second of C: nobody's */
#define HOME(k) ((k) == A || (k) == C || (k) == TORN -> 0 : 1)
#define FIRST(k) ((k) == TORN -> B : (k))
#define SECOND(k) ((k) == TORN -> C : (k))

mtype = { unused, gone, there };
mtype state[BUCKETS] = unused;
byte turn[BUCKETS];
byte first[BUCKETS];
byte second[BUCKETS];
byte epoch;
#define UNUSED(i) (state[i] == unused -> 1 : 0)
#define ROOM (UNUSED(0) + UNUSED(1) + UNUSED(2) + UNUSED(3) + UNUSED(4) > 1)
bool listens[6]; /* from the end of its begin to the begin of its end */
bool begun[6];	 /* it may be found */

/* Where `k` is, or would be put. */
inline bucket_of(k)
{
	at = BUCKETS;
	i = HOME(k);
	do
	:: state[i] == there && first[i] == k -> at = i; break
	:: state[i] == gone && at == BUCKETS -> at = i; i = (i + 1) % BUCKETS
	:: state[i] == unused ->
		if
		:: at == BUCKETS -> at = i
		:: else -> skip
		fi;
		break
	:: else -> i = (i + 1) % BUCKETS
	od
}

inline write_words(k)
{
	if
	:: first[at] = k; second[at] = k
	:: second[at] = k; first[at] = k
	fi
}

inline begin(k)
{
	d_step { bucket_of(k) }
	begun[k] = true;
#ifdef LATE_TURN
	write_words(k);
	atomic { turn[at] = turn[at] + 1; state[at] = there }
#else
#ifdef NO_TURN
	state[at] = gone;
#else
	d_step { turn[at] = turn[at] + 1; state[at] = gone }
#endif
	write_words(k);
	state[at] = there;
#endif
	epoch = epoch + 1;
	listens[k] = true
}

inline end(k)
{
	d_step { bucket_of(k) }
	listens[k] = false;
#ifdef EMPTY
	state[at] = unused;
#else
	state[at] = gone;
	do
	:: state[at] == gone && state[(at + 1) % BUCKETS] == unused ->
		state[at] = unused; at = (at + BUCKETS - 1) % BUCKETS
	:: else -> break
	od;
#endif
	epoch = epoch + 1;
	begun[k] = false
}

/* A writer that stops anywhere is one that was killed: readers go on. */
active proctype writer()
{
	byte i, at;
	byte changes;
	do
	:: changes < 5 ->
		changes++;
		/* One bucket stays unused. */
		if
		:: ROOM && !begun[B] -> begin(B)
		:: begun[B] -> end(B)
		:: ROOM && !begun[C] -> begin(C)
		:: begun[C] -> end(C)
		:: ROOM && !begun[A] && !begun[ANY] -> begin(A)
		/* It moves: all of it is one listener. */
		:: ROOM && begun[A] && !begun[ANY] -> begin(ANY); end(A)
		:: ROOM && begun[ANY] && !begun[A] -> begin(A); end(ANY)
		:: else -> break
		fi
	:: break
	od
}

/* Sets found: 0 no, 1 yes, 2 again. */
inline walk(k)
{
	i = HOME(k);
	n = 0;
	found = 0;
	do
	:: n == BUCKETS -> break
	:: else ->
		atomic { s = state[i]; t = turn[i] }
		if
		:: s == unused -> break
		:: s == gone -> skip
		:: s == there ->
			w1 = first[i];
			w2 = second[i];
#ifndef NO_SECOND
			if
			:: turn[i] != t -> found = 2; break
			:: else -> skip
			fi;
#endif
			if
			:: w1 == FIRST(k) && w2 == SECOND(k) -> found = 1; break
			:: else -> skip
			fi
		fi;
		n++;
		i = (i + 1) % BUCKETS
	od
}

active proctype reader()
{
	byte i, n, found, t, w1, w2, e;
	mtype s;
	bool always;
	/* Something that never was. */
	if
	:: walk(TORN); assert(found != 1)
	:: /* A listener that is there from before the look-up to its end, moving or not. */
	   (listens[A] || listens[ANY]);
again:
	   e = epoch;
	   walk(A);
	   if
	   :: found == 0 -> walk(ANY)
	   :: else -> skip
	   fi;
	   if
	   :: found == 2 -> goto again
#ifndef NO_EPOCH
	   :: found == 0 && epoch != e -> goto again
#endif
	   :: else -> assert(found == 1)
	   fi
	fi
}
