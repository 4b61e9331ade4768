/* The one form of a path in which rules look at it and servers get it. */
#ifndef FLAT_CODEC_PATH_H
#define FLAT_CODEC_PATH_H

#include "codec/http.h"

/**
 * Brings the path of a URL (no query) into its canonical form: %XX of unreserved characters decoded, other %XX in
 * capitals, `"<>^`{|}` as %XX, `/./` and `/../` resolved, several slashes one. Refused is what servers read in different ways: %2F,
 * %5C and \, encoded control characters, `;` (parameters), `#`, a % without two digits, overlong UTF-8, and `..`
 * above the root. An empty path is "/"; `*` alone stays. The form of a canonical path is itself.
 *
 * Returns 0 with *out the result: `path` itself where nothing had to be changed, else text in `buf` (of `size`
 * bytes; 3 * path.len + 1 is always enough). -EBADMSG: refused. -ENOBUFS: `buf` is too small.
 */
FLAT_MUST_CHECK int flat_path_canonical(struct flat_span path, char *buf, size_t size,
					struct flat_span *out);

/**
 * Makes slashes of %2F and %5C (Istio's DECODE_AND_MERGE_SLASHES), before the canonical form: `path` itself where it has
 * none, else text in `buf`, of path.len bytes at least.
 */
struct flat_span flat_path_decode_slashes(struct flat_span path, char *buf);

/**
 * Spells a piece of a path that a rule names as canonical paths do: %XX of unreserved characters decoded, other %XX in capitals,
 * `"<>^`|` as %XX; braces stay. `buf` takes 3 * strlen(piece) + 1 bytes. `ends`: a path ends with it.
 *
 * False: no canonical path has such a piece (two slashes, `.` or `..` as a segment, a query, what is refused above), so that
 * it matches nothing; `buf` then has it as far as it could be spelled.
 */
bool flat_path_spell(const char *piece, bool ends, char *buf);

#endif
