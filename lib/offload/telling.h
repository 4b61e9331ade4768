/*
 * Lines of the log that clients bring about, as often as they like: so many of each account and kind, then one from time to
 * time, and how many were left out. Nobody fills a disk, or hides another account's lines among his own.
 */
#ifndef FLAT_OFFLOAD_TELLING_H
#define FLAT_OFFLOAD_TELLING_H

#include "base/base.h"
#include "base/log.h"

struct flat_session;

/* Lines of one account and kind at a stretch: what a person reads of it. Then one in so many seconds. */
#define FLAT_TELLING_BURST 50
#define FLAT_TELLING_EVERY_S 10
/* Accounts and kinds with a bucket: workloads of a node, times the few kinds that each brings about. Those whose hash is the same
 * share one. */
#define FLAT_TELLING_SLOTS 512U
/* Bytes of "KIND of ACCOUNT". */
#define FLAT_TELLING_KEY_MAX 160U

/**
 * Logs a line of `kind` ("refusals, policy") that `account` brought about, or leaves it out: there is one log, and one state for
 * it. Any thread; takes a lock for as long as a line is written.
 */
void flat_tell(enum flat_log_level level, const char *kind, const char *account, const char *fmt,
	       ...) FLAT_PRINTF(4, 5);

/** Tells how many were left out, where it is time. ms until it is again; -1: nothing was left out. */
int flat_telling_wait_ms(void);

/** Tells what was left out, and forgets who told what. */
void flat_telling_fini(void);

/** Whose lines a session's are: its workload's, or its user's where it is none. A process cannot have another by being another. */
const char *flat_session_account(const struct flat_session *s, char buf[96]);

#endif
