#include "offload/account.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "offload/admit.h"
#include "offload/telling.h"

/* Descriptors of flatd's own: files, rings, sockets that are kept ready. */
#define OWN 256U
/* Of a session: its control socket, what pins its process, its listeners' lanes. */
#define SESSION 4U
/* Of a listener, and of a connection: an end of each party's. */
#define ENDS 2U

static struct flat_account *find(const struct flat_offload *o, const char *key)
{
	struct flat_indexed *at = flat_index_find(&o->accounts, flat_hash_quick(key, strlen(key)));
	for (; at; at = flat_indexed_next(at)) {
		struct flat_account *a = FLAT_CONTAINER_OF(at, struct flat_account, by_key);
		if (strcmp(a->key, key) == 0)
			return a;
	}
	return NULL;
}

static struct flat_account *make(const struct flat_session *s, const char *key)
{
	struct flat_account *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	snprintf(a->key, sizeof(a->key), "%s", key);
	flat_index_put(&s->offload->accounts, &a->by_key, flat_hash_quick(key, strlen(key)));
	return a;
}

static void enter(struct flat_session *s, const char *key)
{
	if (s->account && strcmp(s->account->key, key) == 0)
		return;
	uint32_t has[FLAT_ACCOUNT_KINDS];
	memcpy(has, s->counted, sizeof(has));
	flat_account_leave(s);
	s->account = find(s->offload, key);
	if (!s->account)
		s->account = make(s, key);
	if (!s->account)
		return;
	s->account->sessions++;
	s->account->n_open += !s->closed;
	for (size_t i = 0; i < FLAT_ACCOUNT_KINDS; i++)
		s->account->n[i] += has[i];
	memcpy(s->counted, has, sizeof(has));
}

static const char *strangers_of(uid_t uid, char buf[96])
{
	snprintf(buf, 96, "uid %u before HELLO", (unsigned int)uid);
	return buf;
}

void flat_account_meet(struct flat_session *s)
{
	char buf[96];
	enter(s, strangers_of(s->uid, buf));
}

void flat_account_join(struct flat_session *s)
{
	char buf[96];
	enter(s, flat_session_account(s, buf));
}

void flat_account_hang_up(struct flat_session *s)
{
	if (s->account && !s->closed)
		s->account->n_open--;
}

void flat_account_leave(struct flat_session *s)
{
	struct flat_account *a = s->account;
	if (!a)
		return;
	flat_account_hang_up(s);
	for (size_t i = 0; i < FLAT_ACCOUNT_KINDS; i++)
		a->n[i] -= s->counted[i];
	memset(s->counted, 0, sizeof(s->counted));
	s->account = NULL;
	if (--a->sessions > 0)
		return;
	flat_index_remove(&s->offload->accounts, &a->by_key);
	free(a);
}

void flat_account_add(struct flat_session *s, enum flat_account_kind kind)
{
	if (!s->account)
		return;
	s->account->n[kind]++;
	s->counted[kind]++;
}

void flat_account_remove(struct flat_session *s, enum flat_account_kind kind)
{
	/* Made while it was nobody's. */
	if (!s->account || s->counted[kind] == 0)
		return;
	s->account->n[kind]--;
	s->counted[kind]--;
}

/* Descriptors that flatd has left. */
static uint64_t left(const struct flat_offload *o)
{
	uint64_t used = OWN + o->n_lanes + (uint64_t)SESSION * o->n_sessions +
			(uint64_t)ENDS * o->n_listeners +
			(uint64_t)ENDS * (o->n_conns + o->n_tickets);
	return used < o->fds_max ? o->fds_max - used : 0;
}

/* Connections that there are descriptors for. */
static uint64_t room(const struct flat_offload *o)
{
	return left(o) / ENDS;
}

/* Sessions that there are places and descriptors for. */
static uint64_t places(const struct flat_offload *o)
{
	uint64_t n = o->n_sessions < FLAT_SESSIONS_MAX ? FLAT_SESSIONS_MAX - o->n_sessions : 0;
	return o->fds_max > 0 && left(o) / SESSION < n ? left(o) / SESSION : n;
}

static bool takes(const struct flat_offload *o, uint64_t n, uint64_t free_then, const char *key,
		  char *why, size_t size)
{
	if (n <= FLAT_ACCOUNT_SHARE * free_then)
		return true;
	snprintf(why, size,
		 "rule 15: %.60s has %llu sessions, and flatd room for %llu more of all: end some, "
		 "or raise LimitNOFILE of flatd (%llu; 65536 sessions at most)",
		 key, (unsigned long long)n - 1, (unsigned long long)free_then,
		 (unsigned long long)o->fds_max);
	return false;
}

bool flat_account_takes_stranger(const struct flat_offload *o, uid_t uid, char *why, size_t size)
{
	char buf[96];
	const char *key = strangers_of(uid, buf);
	const struct flat_account *a = find(o, key);
	uint64_t n = places(o);
	return takes(o, (a ? a->n_open : 0) + UINT64_C(1), n > 0 ? n - 1 : 0, key, why, size);
}

bool flat_account_takes(const struct flat_session *s, char *why, size_t size)
{
	const struct flat_account *a = s->account;
	return !a || takes(s->offload, a->n_open, places(s->offload), a->key, why, size);
}

static bool may_have(const struct flat_offload *o, const struct flat_account *a, uint32_t more)
{
	return !a || o->fds_max == 0 ||
	       (uint64_t)a->n[FLAT_ACCOUNT_CONN] + a->n[FLAT_ACCOUNT_LISTENER] +
		       a->n[FLAT_ACCOUNT_LANE] / ENDS + more <=
		   FLAT_ACCOUNT_SHARE * room(o);
}

bool flat_account_has_room(const struct flat_session *s, uint32_t n)
{
	return may_have(s->offload, s->account, n);
}

bool flat_account_takes_listener(const struct flat_session *s)
{
	const struct flat_account *a = s->account;
	return !a || (a->n[FLAT_ACCOUNT_LISTENER] < FLAT_ACCOUNT_LISTENERS_MAX &&
		      flat_account_has_room(s, 1));
}

bool flat_account_has_turn(const struct flat_session *s)
{
	const struct flat_account *a = s->account;
	return !a || a->turn != s->offload->turn || a->spent < FLAT_ACCOUNT_MSGS_TURN;
}

void flat_account_spend(struct flat_session *s, uint64_t n)
{
	struct flat_account *a = s->account;
	if (!a)
		return;
	a->spent = (a->turn == s->offload->turn ? a->spent : 0) + n;
	a->turn = s->offload->turn;
}

void flat_account_is_late_from_now(struct flat_session *s)
{
	if (s->account)
		s->account->late = s->offload->turn;
}

bool flat_account_is_late(const struct flat_session *s)
{
	return s->account && s->account->late != 0 && s->account->late == s->offload->turn;
}

void flat_account_check(const struct flat_session *s, struct flat_decision *d)
{
	const struct flat_offload *o = s->offload;
	char buf[96];
	const struct flat_account *a = s->account;
	if (d->status != 0 || d->path == FLAT_CONN_KERNEL)
		return;
	if (!a)
		a = find(o, flat_session_account(s, buf));
	if (may_have(o, a, 1))
		return;
	d->status = -EAGAIN;
	d->kind = FLAT_REFUSED_LIMIT;
	snprintf(
	    d->reason, sizeof(d->reason),
	    "rule 15: %.60s has %u connections, %u listeners and %u lanes, and flatd descriptors "
	    "(%llu) for %llu more: raise LimitNOFILE of flatd",
	    a->key, a->n[FLAT_ACCOUNT_CONN], a->n[FLAT_ACCOUNT_LISTENER], a->n[FLAT_ACCOUNT_LANE],
	    (unsigned long long)o->fds_max, (unsigned long long)room(o));
}
