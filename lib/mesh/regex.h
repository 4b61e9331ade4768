/*
 * Regular expressions in time linear in the text: a Thompson automaton, all of whose states are followed at once
 * (R. Cox, "Regular Expression Matching Can Be Simple And Fast"). The syntax is RE2's for bytes; a whole text is
 * matched, as in Istio. What an administrator writes cannot make a request expensive: steps are at most
 * FLAT_REGEX_STATES_MAX for each byte.
 */
#ifndef FLAT_MESH_REGEX_H
#define FLAT_MESH_REGEX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/pool.h"

/* Routes of real meshes have tens; a path of 60 KiB then costs at most 31 million small steps. */
#define FLAT_REGEX_STATES_MAX 512U
/*
 * Small steps of one replacement. One search is linear, but each match begins a new one, and of "a.*b|a" each runs to the
 * end. It is 8 KiB of a path, whatever the expression; those of real meshes take some ten steps for a byte.
 */
#define FLAT_REGEX_REPLACE_STEPS_MAX (4U * 1024 * 1024)
/* Groups within groups: the compiler calls itself. */
#define FLAT_REGEX_DEPTH_MAX 32U

/* Groups that are told apart; others group only. */
#define FLAT_REGEX_GROUPS_MAX 9U

struct flat_regex;

/**
 * Compiles `pattern` from `pool`. fold: letters of either case are equal. NULL without memory (*error NULL), or with
 * *error what is wrong, a constant text: bad syntax, what RE2 knows and we do not (\b, \p, names, look-around), or too
 * large.
 */
FLAT_MUST_CHECK const struct flat_regex *
flat_regex_compile(struct flat_pool *pool, const char *pattern, bool fold, const char **error);

/** Whether the whole of `text` (`len` bytes) matches. Does not allocate; any thread. */
bool flat_regex_match(const struct flat_regex *regex, const char *text, size_t len);

/**
 * Writes `text` to `out` with each match of the expression in it replaced by `by`, in which \0 to \9 are the match and its
 * groups, and \\ a backslash: RE2's GlobalReplace. The bytes written, or -EMSGSIZE: there was no room, or it took more than
 * FLAT_REGEX_REPLACE_STEPS_MAX. Does not allocate; any thread; 120 KiB of stack.
 */
FLAT_MUST_CHECK ssize_t flat_regex_replace(const struct flat_regex *regex, const char *by,
					   const char *text, size_t len, char *out, size_t size);

#endif
