/*
 * Deep rings (lib/vq/ring.c, lib/offload/deep.c): a writer whom nobody reads is lent a second place for its bytes. A producer
 * writes N numbers through a bulk ring of BULK places, and through the deep one of DEEP places while it is lent; a consumer
 * takes them, at any time or not at all for long; the offload half looks whether the writer stands still, lends, and frees
 * what was read. What it frees it overwrites, so that whoever relied on it reads a wrong number. The consumer loads the
 * producer's position first and its word of the deep ring after it, each by itself.
 *
 * Claims: the numbers come in order, none is lost, no place is freed that is still to be read or was just written, nothing
 * is written without being lent, and both end: a writer that waits for room is woken (no invalid end state). A consumer may
 * not begin before BULK + DEEP are written (WAITS): so many are taken of a writer whom nobody reads.
 *
 * Variants that must be found wrong: -DTAIL_FIRST publishes the position before the word; -DEARLY_NONE says NONE before the
 * consumer has passed the end; -DFREE_TAKEN frees all of it as long as it is in use; -DWAITS -DLATE_ASK asks before it arms,
 * and the offload half ends its watch without a second look.
 */
#define N 5
#define BULK 2
#define DEEP 2
#define FREED 99

#define NONE 0
#define OPEN 1
#define SHUT 2
#define ASKED 1
#define GRANTED 2
#define TAKEN 3

byte bulk[BULK];
byte deep[DEEP];
byte tail, head;
/* one word: position, length, state */
byte word_pos, word_len, word_state;
byte lease;
bool arm;    /* the producer asks for room */
byte bells;  /* at the producer */
byte mail;   /* DEEP messages */
bool over;

inline set_word(p, l, s) {
	atomic { word_pos = p; word_len = l; word_state = s }
}

active proctype producer() {
	byte pos = 0, state = NONE, h = 0, end = 0;
	bool no_room;
	do
	:: tail == N -> break
	:: tail < N ->
		h = head;
#ifdef EARLY_NONE
		if
		:: state == SHUT -> state = NONE; set_word(0, 0, NONE); lease = 0
		:: else
		fi;
#endif
		if
		:: state == OPEN && h >= pos -> end = tail; state = SHUT; set_word(pos, tail - pos, SHUT)
		:: else
		fi;
		if
		:: state == SHUT && h >= end ->
			state = NONE;
			set_word(0, 0, NONE);
			atomic { if :: lease == TAKEN -> lease = 0 :: else fi }
		:: else
		fi;
		if
		:: state == NONE && tail - h == BULK ->
			atomic { no_room = (lease != GRANTED); if :: lease == GRANTED -> lease = TAKEN :: else fi };
			if
			:: !no_room ->
				pos = tail;
				state = OPEN;
#ifndef TAIL_FIRST
				set_word(pos, 0, OPEN)
#endif
			:: else
			fi
		:: state == NONE && tail - h < BULK -> no_room = false
		:: state == OPEN -> no_room = (tail - pos == DEEP)
		:: state == SHUT -> no_room = (tail - (h > end -> (h) : (end)) == BULK)
		fi;
		if
		:: !no_room ->
			if
			:: state == OPEN -> deep[(tail - pos) % DEEP] = tail
			:: else -> bulk[tail % BULK] = tail
			fi;
			tail = tail + 1;
#ifdef TAIL_FIRST
			if
			:: state == OPEN -> set_word(pos, 0, OPEN)
			:: else
			fi
#endif
		:: no_room ->
#ifdef LATE_ASK
			if
			:: lease == 0 -> lease = ASKED; mail++
			:: else
			fi;
#endif
			arm = true;
#ifndef LATE_ASK
			atomic { if :: lease == 0 -> lease = ASKED; mail++ :: else fi };
#endif
			/* looks again, and sleeps */
			if
			:: head != h || (state == NONE && lease == GRANTED) -> skip
			:: else -> atomic { bells > 0 -> bells-- }
			fi
		fi
	od
}

active proctype consumer() {
	byte h = 0, t, p, l, s, v;
#ifdef WAITS
	tail == BULK + DEEP;
#endif
	do
	:: h == N -> break
	:: h < N ->
		t = tail;
		atomic { p = word_pos; l = word_len; s = word_state };
		if
		:: t == h -> (tail > h)
		:: t > h ->
			if
			:: s == OPEN && h >= p -> v = deep[(h - p) % DEEP]
			:: s == SHUT && h >= p && h < p + l -> v = deep[(h - p) % DEEP]
			:: else -> v = bulk[h % BULK]
			fi;
			assert(v == h);
			h++;
			head = h;
			/* armed? takes it, and rings */
			atomic { if :: arm -> arm = false; bells++ :: else fi }
		fi
	od;
	over = true
}

/* Looks when there is something to look at; what it finds still may be still for any reason. */
active proctype offload() {
	bool watched = false;
	byte h0 = 0, t0 = 0, h, p, l, s, i, done;
end:
	do
	:: over -> break
	:: mail > 0 -> atomic { mail--; watched = true; h0 = head; t0 = tail }
	:: watched && lease == ASKED ->
		if
		:: arm && head == h0 && tail == t0 ->
			atomic { if :: lease == ASKED -> lease = GRANTED; bells++ :: else fi }
		:: head != h0 || tail != t0 -> h0 = head; t0 = tail
		:: !arm ->
			atomic { if :: lease == ASKED -> lease = 0 :: else fi };
#ifdef LATE_ASK
			watched = false
#else
			if
			:: arm -> atomic { if :: lease == 0 -> lease = ASKED :: else -> watched = false fi }
			:: else -> watched = false
			fi
#endif
		fi
	:: watched && lease == TAKEN ->
		atomic { p = word_pos; l = word_len; s = word_state };
		h = head;
		done = 0;
		if
		:: s == OPEN && h > p -> done = (h - p > DEEP -> (DEEP) : (h - p))
		:: s == SHUT && h > p -> done = (h - p > l -> (l) : (h - p))
		:: else
		fi;
#ifdef FREE_TAKEN
		done = (s == NONE -> (0) : (DEEP));
#endif
		i = 0;
		do
		:: i < done -> deep[i] = FREED; i++
		:: else -> break
		od;
		/* Until something has moved there is nothing to do for it. */
		(head != h || lease != TAKEN || over)
	:: watched && lease == 0 -> watched = false
	od
}
