/*
 * Tickets (docs/design/core.md, section 3): connections made ahead, one slot. A client is given a ticket, uses it once, and
 * lets go; policies change at any moment; the listener may end, and the client may be killed, at any moment. The offload half
 * decides at USE. A client asks for more while it uses what it has, and takes the answer when it likes. It is hostile: it
 * writes the slot's words whenever it holds the anchor, names tickets it has used or given back, and keeps a used one's
 * anchor as long as it likes.
 *
 * Claims (assertions): no server gets a connection that the policies in force when the offload half sent it forbid; a slot
 * is given out only when nobody holds an end of what it was used for before; who uses a ticket and lets go of it at once has
 * had a connection. Found wrong with
 *   -DDECIDED_AHEAD  what was decided when the ticket was made holds at USE
 *   -DKEEP_ID        a ticket that was used stays on the shelf
 *   -DGIVE_REFUSED   the slot of a connection that was refused at USE is given out again at once
 *   -DDROP_WAITING   a connection that waits for its server's queue ends with its client
 *   -DGIVE_UNREAD    a ticket is given back when its anchor hangs up, with its USE unread
 */
#define TICKETS 3

mtype = { none, shelved, waiting, open, over };
mtype state[TICKETS]; /* as the offload half keeps it */
bool client_holds[TICKETS];
bool server_holds[TICKETS];
bool allowed[TICKETS]; /* decided at TICKETS */
bool meant[TICKETS];   /* its client sent USE while it held it */
byte served[TICKETS];  /* times that a server got it */
byte owner;	       /* of the slot: ticket + 1; 0: free */
bool tainted;	       /* it is never given out again */
bool policy = true;    /* whether the client may connect */
bool listening = true;
bool client_alive = true;
chan asks = [1] of { bool };	/* TICKETS */
chan answers = [1] of { byte }; /* ticket + 1; 0: none */
chan uses = [2] of { byte };	/* USE, no answer */

#define LOST(t) (!client_holds[t])

inline give(t)
{
	/* Nobody may hold an end when the slot is another's. */
	owner = 0;
	state[t] = over
}

/* The offload half refuses a connection that its client believes to have. */
inline refuse(t)
{
#ifdef GIVE_REFUSED
	give(t)
#else
	tainted = true;
	state[t] = over
#endif
}

inline serve(t)
{
	state[t] = open;
	served[t]++;
	assert(policy && served[t] == 1);
	server_holds[t] = true
}

inline grant()
{
	if
	:: owner == 0 && !tainted && next < TICKETS && policy && listening ->
		/* reset of the slot */
		t = 0;
		do
		:: t < TICKETS -> assert(!client_holds[t] && !server_holds[t]); t++
		:: else -> break
		od;
		state[next] = shelved;
		allowed[next] = policy;
		owner = next + 1;
		client_holds[next] = client_alive;
		if
		:: client_alive -> answers!next + 1
		:: else
		fi;
		next++
	:: else ->
		if
		:: client_alive -> answers!0
		:: else
		fi
	fi
}

inline use(t)
{
	if
#ifdef KEEP_ID
	:: state[t] == shelved || state[t] == open ->
#else
	:: state[t] == shelved ->
#endif
		if
#ifdef DECIDED_AHEAD
		:: allowed[t] && listening ->
#else
		:: policy && listening ->
#endif
			if
			:: serve(t)
			/* For room in its server's queue. */
			:: state[t] = waiting
			fi
		:: else -> refuse(t)
		fi
	:: else
	fi
}

active proctype offload()
{
	byte next;
	byte t;
end:
	do
	:: atomic { asks?_ -> grant() }
	:: atomic { uses?t -> use(t); t = 0 }
	/* The client let go of a ticket: its server's end was never given away. What the client sent before was read. */
#ifdef GIVE_UNREAD
	:: atomic { owner != 0 && state[owner - 1] == shelved && LOST(owner - 1) ->
#else
	:: atomic { owner != 0 && state[owner - 1] == shelved && LOST(owner - 1) && empty(uses) ->
#endif
		t = owner - 1; assert(!meant[t]); give(t); t = 0 }
	:: atomic { owner != 0 && state[owner - 1] == open && LOST(owner - 1) && !server_holds[owner - 1] ->
		t = owner - 1; give(t); t = 0 }
	:: atomic { owner != 0 && state[owner - 1] == waiting && policy && listening ->
		t = owner - 1; serve(t); t = 0 }
#ifdef DROP_WAITING
	:: atomic { owner != 0 && state[owner - 1] == waiting && LOST(owner - 1) ->
		t = owner - 1; assert(!meant[t]); give(t); t = 0 }
#endif
	/* A new epoch: live connections that it forbids are cut, tickets wait for their USE. */
	:: atomic { policy ->
		policy = false;
		if
		:: owner != 0 && (state[owner - 1] == open || state[owner - 1] == waiting) ->
			tainted = true; state[owner - 1] = over
		:: else
		fi }
	:: atomic { !policy -> policy = true }
	/* The listener ends: its tickets go, and the lane is given up. */
	:: atomic { listening ->
		listening = false;
		if
		:: owner != 0 && (state[owner - 1] == shelved || state[owner - 1] == waiting) ->
			tainted = true; state[owner - 1] = over
		:: else
		fi }
	od
}

active proctype client()
{
	byte answer;
	byte t;
	bool asked;
end:
	do
	:: !client_alive -> break
	:: atomic { client_alive && !asked -> asks!true; asked = true }
	:: atomic { client_alive && asked && nempty(answers) ->
		answers?answer;
		asked = false;
		if
		:: answer != 0 -> t = answer - 1
		:: else
		fi }
	/* Any ticket's number, held or not. */
	:: atomic { client_alive && nfull(uses) ->
		meant[t] = meant[t] || (client_holds[t] && state[t] == shelved);
		uses!t }
	:: atomic { client_alive && client_holds[t] -> client_holds[t] = false }
	:: atomic { client_alive ->
		client_alive = false;
		t = 0;
		do
		:: t < TICKETS -> client_holds[t] = false; t++
		:: else -> break
		od;
		if
		:: answers?answer
		:: empty(answers)
		fi }
	od
}

active proctype server()
{
	byte t;
end:
	do
	:: atomic { server_holds[0] -> server_holds[0] = false }
	:: atomic { server_holds[1] -> server_holds[1] = false }
	:: atomic { server_holds[2] -> server_holds[2] = false }
	od
}
