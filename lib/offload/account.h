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
	struct flat_indexed by_key; /* in flat_offload.accounts */
	uint32_t sessions;	    /* it goes with the last one */
	uint32_t n_open;	    /* of these, whose control socket is open */
	uint32_t n_conns;
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
/** It has one connection more, or one less. */
void flat_account_add(struct flat_session *s);
void flat_account_remove(struct flat_session *s);
/**
 * Refuses (in `d`) where its account holds so much that too little is left for others. The session may be one that stands for a
 * workload, without connections of its own.
 */
void flat_account_check(const struct flat_session *s, struct flat_decision *d);
/** Whether n more would be allowed. */
bool flat_account_has_room(const struct flat_session *s, uint32_t n);

#endif
