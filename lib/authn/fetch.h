/*
 * Fetching key sets: in a thread of its own each, since names are looked up and servers may be slow. What was fetched
 * is given back through an inbox, whose descriptor tells when to look.
 */
#ifndef FLAT_AUTHN_FETCH_H
#define FLAT_AUTHN_FETCH_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/base.h"

/* Fetches at once: one slow server keeps none of the others waiting, and a thousand do not make a thousand threads. */
#define FLAT_FETCHES_MAX 8U

/* One fetch. Owner: its thread while it runs, then whoever took it out of the inbox. */
struct flat_fetch {
	STAILQ_ENTRY(flat_fetch) link;
	struct flat_fetch_inbox *inbox;
	char *uri;     /* owned: http://, https:// or file:// */
	bool discover; /* it is of an OpenID configuration, whose jwks_uri is fetched then */
	uint32_t timeout_ms;
	struct sockaddr_storage addr; /* where, if addr_len is not 0; else by the host's name */
	socklen_t addr_len;
	char *body;	 /* owned; NULL: it failed */
	size_t len;	 /* bytes of it */
	char error[160]; /* why */
};

/** An inbox with one reference, or NULL. */
FLAT_MUST_CHECK struct flat_fetch_inbox *flat_fetch_inbox_new(void);
/** Its owner has no more use for it; fetches that run are forgotten. */
void flat_fetch_inbox_leave(struct flat_fetch_inbox *inbox);
/** Readable while something is in it. */
int flat_fetch_inbox_fd(const struct flat_fetch_inbox *inbox);

/** A fetch of a copy of `uri`, or NULL without memory. */
FLAT_MUST_CHECK struct flat_fetch *flat_fetch_new(const char *uri, uint32_t timeout_ms);
void flat_fetch_free(struct flat_fetch *f);

/** Starts it; it is the thread's from here. 0 or a negative errno, and it is still the caller's. */
FLAT_MUST_CHECK int flat_fetch_start(struct flat_fetch_inbox *inbox, struct flat_fetch *f);

/** Takes one that is over out of the inbox; NULL: there is none. */
struct flat_fetch *flat_fetch_take(struct flat_fetch_inbox *inbox);

/** Fetches here and now, blocking. f->body or f->error. */
void flat_fetch_run(struct flat_fetch *f);

/** Host and port of an http or https URI, for a look-up. False: it is none. */
bool flat_fetch_host(const char *uri, char host[256], uint16_t *port);

#endif
