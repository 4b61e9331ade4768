/*
 * Accounts: whose connections are counted together. All processes of a workload are one, and all of a user that are no
 * workload's (flat_session_account()). None of them may use up flatd's descriptors, which are what the others need too.
 * docs/design/core.md, section 3. Control thread.
 */
#ifndef FLAT_OFFLOAD_ACCOUNT_H
#define FLAT_OFFLOAD_ACCOUNT_H

#include "offload/offload.h"

struct flat_account {
	struct flat_indexed by_key; /* in flat_offload.accounts */
	uint32_t sessions;	    /* it goes with the last one */
	uint32_t n_conns;
	char key[96];
};

/** The session was identified: it is its account's, with the connections that it has. Without memory it is nobody's. */
void flat_account_join(struct flat_session *s);
/** It is gone; nothing where it is nobody's. */
void flat_account_leave(struct flat_session *s);
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
