/* flatctl: what its parts share. */
#ifndef FLAT_CMD_FLATCTL_H
#define FLAT_CMD_FLATCTL_H

#include <stdbool.h>

#include "base/base.h"
#include "base/strbuf.h"

/* Exit codes: done; it could not be done; wrong use. */
#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2

struct ctl {
	const char *control; /* flatd's control socket */
	bool json;
	bool once;
	bool http;		/* top: of requests */
	const char *svids;	/* check: --svids; NULL: not asked */
	const char *from;	/* --from: whose request; NULL: not asked */
	const char *headers[8]; /* --header */
	size_t n_headers;
};

/**
 * Asks flatd one question and appends its answer to `out`. quiet: nothing is printed when nobody answers. CTL_OK,
 * CTL_FAILED (no flatd), CTL_USAGE (too long).
 */
FLAT_MUST_CHECK int ctl_ask(const struct ctl *ctl, const char *question, struct flat_strbuf *out,
			    bool quiet);

/** top: a table that is drawn anew each second on a terminal, else once. */
FLAT_MUST_CHECK int ctl_top(const struct ctl *ctl);

/** top --http: likewise, of HTTP requests. */
FLAT_MUST_CHECK int ctl_top_http(const struct ctl *ctl);

/* A table that is looked at again and again. */
struct ctl_view {
	int (*look)(void *arg); /* asks flatd again. CTL_OK, or what it failed with */
	/* Draws what was seen, in so many lines and columns; `screen`: over what was there before. */
	void (*draw)(void *arg, int lines, int columns, bool screen);
	void *arg;
};

/**
 * Looks twice, a moment apart, and draws; on a terminal, without --once, again every second until q, a signal, or the end of
 * standard input.
 */
FLAT_MUST_CHECK int ctl_view(const struct ctl *ctl, const struct ctl_view *view);

/** A number in three digits and a letter: "1.2k". */
const char *ctl_human(double value, char buf[24]);
/** Members of flatd's answers. */
struct yaml_node;
const char *ctl_text_of(const struct yaml_node *map, const char *key);
uint64_t ctl_number_of(const struct yaml_node *map, const char *key);
double ctl_now_s(void);

/** why 'METHOD URL' --from SRC: what would be done with a request. */
FLAT_MUST_CHECK int ctl_why_http(const struct ctl *ctl, const char *request);

/** why PID FD: asks flatd, and where it does not know the socket, the kernel. */
FLAT_MUST_CHECK int ctl_why_socket(const struct ctl *ctl, long pid, const char *fd);

/** ca init, ca issue, ca revoke: the words after "ca". */
FLAT_MUST_CHECK int ctl_ca(char **words, size_t n);

/** check --svids: what is in a folder of identities, or what is wrong with it. */
FLAT_MUST_CHECK int ctl_check_svids(const char *folder);

/** release: the paths of cgroups, as in /proc/PID/cgroup. */
FLAT_MUST_CHECK int ctl_release(char **paths, size_t n);

#endif
