/*
 * How a connection begins and ends (docs/design/core.md, sections 1, 3, 4): CONNECT and ACCEPT, anchors, hang-ups, giving
 * slots out again, a change of policy, and every party dying at any moment. One client, one server, one slot per lane; the
 * client connects CONNS times. A lane is known by the offload half that made it, since a successor makes new ones.
 *
 * The kernel's part: a side's anchor hangs up when nobody holds its far end. The offload half holds it, and so does the peer,
 * whose bell it is; the peer's anchor and bell end together (close, kill, or with the message that carries them).
 *
 * Claims: a slot is given out only when nobody holds an end of what it was used for before, and words are written by holders
 * only (assertions); whoever waits for its peer's end learns of it, whatever dies (no invalid end state). Found wrong with
 *   -DREUSE_EARLY    the slot is given out after the first hang-up
 *   -DNO_COMPLETION  the offload half does not complete the words of a side that is gone
 *   -DCUT_BY_WORDS   a cut sets flags and does not shut the anchors; the peer is hostile and clears them
 *   -DSAME_LANE      a successor gives its lanes the ids of its predecessor's
 */
#define CONNS 3
#define CLIENT 0
#define SERVER 1
#define END(c, s) (2 * (c) + (s))

/* by connection */
bool far_held[CONNS]; /* the offload half holds both far ends */
bool shut[CONNS];     /* and has shut them down */
byte lane[CONNS];     /* where it lives */
/* by connection and side */
bool app[2 * CONNS];  /* somebody holds the application's end; a message in flight does */
bool gone[2 * CONNS]; /* its hang-up was handled */
bool fin[2 * CONNS];  /* words: no more comes from this side */
bool rung[2 * CONNS]; /* bytes on this side's anchor */

bool up = true;
byte age;		  /* which offload half */
byte owner[2];		  /* slot of each lane: connection + 1, 0 free */
byte mapped = 9;	  /* whose lane the client has mapped under the id it knows */
bool client_alive = true, server_alive = true;
byte cut; /* connection + 1 that a change of policy ended */
chan connects = [1] of { byte };
chan answers = [1] of { byte }; /* connection + 1; 0: refused */
chan accepts = [CONNS] of { byte };

#define HUNG_UP(c, s) (shut[c] || !(far_held[c] || app[END(c, 1 - s)]))

/* A byte stored in the slot that side s of connection c believes to have. */
inline use(c, s)
{
	/* Of a dead offload half's lane nobody gives slots out. */
	assert(lane[c] != age || owner[lane[c]] == c + 1)
}

inline leave(c, s)
{
	atomic { fin[END(c, s)] = true; rung[END(c, 1 - s)] = true };
	app[END(c, s)] = false
}

/* Has a connection: uses it, then closes, is killed, or waits for its peer's end. */
inline live(c, s, alive)
{
	do
	:: use(c, s)
	:: leave(c, s); break
	:: atomic { alive = false; app[END(c, s)] = false; break }
	:: atomic { rung[END(c, s)] || HUNG_UP(c, s) -> rung[END(c, s)] = false };
		if
		:: fin[END(c, 1 - s)] || HUNG_UP(c, s) -> leave(c, s); break
		:: else
		fi
	:: rung[END(c, s)] || HUNG_UP(c, s) || fin[END(c, 1 - s)] ->
		/* It waits for nothing else any more. */
		leave(c, s);
		break
	:: s == CLIENT && cut == c + 1 ->
		/* Hostile: it takes the flags back and stays for ever. */
		atomic { fin[END(c, CLIENT)] = false; fin[END(c, SERVER)] = false };
end_hostile:
		false
	od
}

inline wait_for_end(c, s)
{
	do
	:: atomic { rung[END(c, s)] || HUNG_UP(c, s) -> rung[END(c, s)] = false };
		if
		:: fin[END(c, 1 - s)] || HUNG_UP(c, s) -> leave(c, s); break
		:: else
		fi
	od
}

active proctype client()
{
	byte c;
	byte answer;
	byte was;
	for (c : 0 .. CONNS - 1) {
		if
		:: !client_alive -> break
		:: else
		fi;
		atomic { up && empty(connects) -> was = age; connects!c };
		answer = 0;
		do
		:: answers?answer -> break
		:: atomic { empty(answers) && (!up || age != was) -> break } /* end of the control socket */
		:: atomic { client_alive = false; break }
		od;
		if
		:: client_alive && answer == c + 1 ->
			/* The lane came along, or is mapped already under its id. */
#ifdef SAME_LANE
			if
			:: mapped == 9 -> mapped = lane[c]
			:: else
			fi;
#else
			mapped = lane[c];
#endif
			assert(mapped == lane[c]);
			live(c, CLIENT, client_alive)
		:: else
		fi
	}
	/* Killed, or done: what it still held, queues included, the kernel closes. */
	atomic {
		client_alive = false;
		for (c : 0 .. CONNS - 1) {
			app[END(c, CLIENT)] = false
		}
		do
		:: answers?answer
		:: empty(answers) -> break
		od
	}
}

active proctype server()
{
	byte c;
end:
	do
	:: !server_alive -> break
	:: accepts?c ->
		if
		:: true -> live(c, SERVER, server_alive)
		:: true -> wait_for_end(c, SERVER)
		fi
	:: atomic { server_alive = false; break }
	od;
	atomic {
		do
		:: accepts?c -> app[END(c, SERVER)] = false
		:: empty(accepts) -> break
		od
	}
}

/* CONNECT: admitted if somebody listens and the slot is free. */
inline admit(c)
{
	if
	:: server_alive && owner[age] == 0 ->
		/* reset of the slot: nobody may hold an end of its last connection */
		assert(last[age] == 0 ||
		       (!app[END(last[age] - 1, CLIENT)] && !app[END(last[age] - 1, SERVER)]));
		owner[age] = c + 1;
		last[age] = c + 1;
		lane[c] = age;
		far_held[c] = true;
		app[END(c, CLIENT)] = client_alive;
		app[END(c, SERVER)] = true;
		accepts!c;
		if
		:: client_alive -> answers!c + 1
		:: else
		fi
	:: else ->
		if
		:: client_alive -> answers!0
		:: else
		fi
	fi
}

inline hang_up(c, s)
{
	gone[END(c, s)] = true;
#ifndef NO_COMPLETION
	fin[END(c, s)] = true;
	rung[END(c, 1 - s)] = true;
#endif
	if
#ifdef REUSE_EARLY
	:: owner[lane[c]] == c + 1 -> owner[lane[c]] = 0
#endif
	:: gone[END(c, 0)] && gone[END(c, 1)] -> far_held[c] = false; owner[lane[c]] = 0
	:: else
	fi
}

#define SEES_HUP(c, s) atomic { far_held[c] && !gone[END(c, s)] && !app[END(c, s)] -> hang_up(c, s) }

active proctype offload()
{
	byte c;
	byte last[2]; /* what each slot was used for last: connection + 1 */
	bool dies;    /* decided first: what is only possible must not be what saves a sleeper */
	bool cuts;
	if
	:: dies = true
	:: dies = false
	fi;
	if
	:: cuts = true
	:: cuts = false
	fi;
end:
	do
	:: atomic { connects?c -> admit(c) }
	:: SEES_HUP(0, 0) :: SEES_HUP(0, 1)
	:: SEES_HUP(1, 0) :: SEES_HUP(1, 1)
	:: SEES_HUP(2, 0) :: SEES_HUP(2, 1)
	:: atomic {
		cuts && cut == 0 && (far_held[0] || far_held[1]) ->
		c = (far_held[0] -> 0 : 1);
		cut = c + 1;
		fin[END(c, 0)] = true;
		fin[END(c, 1)] = true;
#ifdef CUT_BY_WORDS
		rung[END(c, 0)] = true;
		rung[END(c, 1)] = true
#else
		shut[c] = true
#endif
	   }
	:: atomic { dies && age == 0 ->
		/* Killed: the kernel closes all it held; unread requests are lost. */
		up = false;
		far_held[0] = false;
		far_held[1] = false;
		far_held[2] = false;
		do
		:: connects?c
		:: empty(connects) -> break
		od
	   };
		atomic { age = 1; up = true }
	od
}
