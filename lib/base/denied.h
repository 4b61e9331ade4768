/* What of a socket's path a process may not use, in words that tell what to do. */
#ifndef FLAT_BASE_DENIED_H
#define FLAT_BASE_DENIED_H

#include <stdbool.h>
#include <stddef.h>

/** Enough for all of it. */
#define FLAT_DENIED_MAX 400

/**
 * Whether connect() to the socket `path` is EACCES for this process (its effective user), and why: a folder of it that may not be
 * entered, or the socket, which may not be written to. `root`: an absolute path begins here (a folder's descriptor, or AT_FDCWD:
 * at the process's own root). `text`: FLAT_DENIED_MAX bytes, written where it is true. Does not allocate; errno is kept.
 */
bool flat_denied(int root, const char *path, char text[FLAT_DENIED_MAX]);

#endif
