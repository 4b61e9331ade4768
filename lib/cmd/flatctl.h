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

/** why 'METHOD URL' --from SRC: what would be done with a request. */
FLAT_MUST_CHECK int ctl_why_http(const struct ctl *ctl, const char *request);

/** why PID FD: asks flatd, and where it does not know the socket, the kernel. */
FLAT_MUST_CHECK int ctl_why_socket(const struct ctl *ctl, long pid, const char *fd);

/** ca init, ca issue: the words after "ca". */
FLAT_MUST_CHECK int ctl_ca(char **words, size_t n);

#endif
