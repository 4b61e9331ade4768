/*
 * Accounts: whose connections are counted together. All processes of a workload are one, and all of a user that are no
 * workload's (flat_session_account()). None of them may use up flatd's descriptors, or its places for sessions, which are what
 * the others need too.
 * docs/design/core.md, section 3. Control thread.
 */
#ifndef FLAT_OFFLOAD_ACCOUNT_H
#define FLAT_OFFLOAD_ACCOUNT_H

#include "offload/offload.h"

struct flat_account {
	struct flat_indexed by_key;	/* in flat_offload.accounts */
	uint32_t sessions;		/* it goes with the last one */
	uint32_t n_open;		/* of these, whose control socket is open */
	uint32_t n[FLAT_ACCOUNT_KINDS]; /* of all sessions' `counted` */
	uint64_t turn;	/* of flatd (flat_offload.turn) in which its sessions had: */
	uint64_t spent; /* messages */
	uint64_t late;	/* turn that had none left for some of them */
	char key[96];
};

/** The session has come: until it is identified it is one of its user's strangers, whose account is another one than the user's. */
void flat_account_meet(struct flat_session *s);
/** The session was identified: it is its account's, with the connections that it has. Without memory it is nobody's. */
void flat_account_join(struct flat_session *s);
/** It is gone; nothing where it is nobody's. */
void flat_account_leave(struct flat_session *s);
/** Its control socket is about to be closed; it may go on without (flat_session.closed). */
void flat_account_hang_up(struct flat_session *s);
/**
 * Whether there is a place for one session more: for a stranger of a user, who is not there yet; for one that was identified, and
 * is there. `why` says the numbers where there is none.
 */
bool flat_account_takes_stranger(const struct flat_offload *o, uid_t uid, char *why, size_t size);
bool flat_account_takes(const struct flat_session *s, char *why, size_t size);
/** It has one more of these, or one less. */
void flat_account_add(struct flat_session *s, enum flat_account_kind kind);
void flat_account_remove(struct flat_session *s, enum flat_account_kind kind);
/**
 * Refuses (in `d`) where its account holds so much that too little is left for others. The session may be one that stands for a
 * workload, without connections of its own.
 */
void flat_account_check(const struct flat_session *s, struct flat_decision *d);
/** Whether n more would be allowed. */
bool flat_account_has_room(const struct flat_session *s, uint32_t n);
/** Whether one listener more is allowed, likewise. */
bool flat_account_takes_listener(const struct flat_session *s);

/*
 * Of flatd's time: messages of all sessions of one account in a turn, so that those of others, of whatever number theirs are,
 * wait for no more than that. One that is nobody's always has a turn.
 */
/** Whether there are messages left in this turn. */
bool flat_account_has_turn(const struct flat_session *s);
/** So many are used. */
void flat_account_spend(struct flat_session *s, uint64_t n);
/** Some session of it was left for the next turn; whether that was in the last one. */
void flat_account_is_late_from_now(struct flat_session *s);
bool flat_account_is_late(const struct flat_session *s);

#endif
