/* flat-run: what its files share. */
#ifndef FLAT_CMD_FLAT_RUN_H
#define FLAT_CMD_FLAT_RUN_H

#include <stdbool.h>

#include "base/base.h"

/* Kubernetes' bound on a name (a DNS subdomain). */
#define RUN_NAME_MAX 253

/* Exit codes as env(1) and nohup(1) have them. */
#define RUN_EXIT_FAILED 125    /* flat-run itself failed */
#define RUN_EXIT_CANNOT 126    /* the command was found and cannot be run */
#define RUN_EXIT_NOT_FOUND 127 /* the command was not found */

/** A workload as named on the command line. */
struct run_workload {
	char name[RUN_NAME_MAX + 1];
	char namespace[RUN_NAME_MAX + 1];
};

/** Writes "flat-run: " and the message to stderr, as one line. */
void run_say(const char *fmt, ...) FLAT_PRINTF(1, 2);

/**
 * Parses NAME or NAME.NAMESPACE (the namespace is what follows the last dot, "default" without one).
 * 0, or -EINVAL: not names that Kubernetes would take, so no path component that means something else.
 */
FLAT_MUST_CHECK int run_workload_parse(const char *text, struct run_workload *w);

/**
 * Puts this process into the cgroup flat/NAMESPACE/NAME of a hierarchy that is looked at when processes
 * are attested, and removes empty ones that earlier runs left. Says on stderr where it could not, and
 * what that means. 0, or a negative errno: the process is where it was.
 */
int run_cgroup_enter(const struct run_workload *w);

/**
 * The preload library's path in `buf` (`size` bytes): beside the program, in the lib folder beside its
 * folder, or where it was installed. 0, -ENOENT, or -EINVAL: a path that LD_PRELOAD cannot carry.
 */
FLAT_MUST_CHECK int run_preload_find(char *buf, size_t size);

/** Sets LD_PRELOAD to `path`, followed by what was there. NULL: only takes libflat out. 0 or -ENOMEM. */
FLAT_MUST_CHECK int run_preload_set(const char *path);

/** Warns of a command that cannot be preloaded: static, set-uid, or of another machine. */
void run_preload_check(const char *command);

#endif
